"""Arrays in memory, read like files."""

import pickle

import dask
import dask.array as da
import h5py
import intake
import numpy as np
import pytest
import xarray as xr
import zarr

import intake_emio as emio
from intake_emio.errors import ArgumentError, ArgumentTypeError, EmioWarning
from intake_emio.formats.memory import MemorySource

SMALL = np.arange(24, dtype="u2").reshape(2, 3, 4)


@pytest.fixture
def no_computing():
    def refuse(*_, **__):
        raise AssertionError("something was computed")

    with dask.config.set(scheduler=refuse):
        yield


# NumPy ---------------------------------------------------------------------------------------------------------------


def test_a_numpy_array_is_labelled_without_a_copy():
    ds = emio.imload(SMALL)
    assert ds.image.dims == ("i", "y", "x")
    assert np.shares_memory(ds.image.values, SMALL)
    assert (ds.attrs["uri"], ds.attrs["format"]) == ("<ndarray (2, 3, 4) uint16>", "memory")
    assert emio.imload(SMALL, chunks={"i": 1}).image.chunks == ((1, 1), (3,), (4,))


@pytest.mark.parametrize(("ndim", "axes"), [(1, "x"), (2, "yx"), (3, "iyx"), (4, "yxvu"), (5, "iyxvu"), (6, "ityxvu")])
def test_axes_go_by_number(ndim, axes):
    assert "".join(emio.imload(np.ones((2,) * ndim)).image.dims) == axes


def test_a_single_signal_axis_is_a_spectrum():
    assert emio.imload(SMALL, sig_dims=1).image.dims == ("y", "x", "c")


def test_frames_are_counted_anew_as_in_files():
    with pytest.warns(EmioWarning, match="1 of 3"):
        image = emio.imload(SMALL, nav_shape=(3, 1)).image
    assert image.dims == ("y", "x", "v", "u")
    np.testing.assert_array_equal(image[:2, 0], SMALL)
    assert not image[2].values.any()
    assert emio.imload(SMALL, sig_shape=(2, 2)).image.values.ravel().tolist() == list(range(8))
    cut = emio.imload(SMALL, sig_shape=(2, 2), nav_shape=(6,)).image
    np.testing.assert_array_equal(cut, SMALL.reshape(6, 2, 2))
    np.testing.assert_array_equal(emio.imload(SMALL, sync_offset=-1).image, [np.zeros((3, 4)), SMALL[0]])
    np.testing.assert_array_equal(emio.imload(SMALL, sync_offset=1).image, [SMALL[1], np.zeros((3, 4))])


def test_calibration_order_and_parts_are_given_as_for_files():
    metadata = {"axes": "tyx", "spacing": {"y": 0.5}, "spacing_units": {"y": "nm"}}
    image = emio.imload(SMALL, partition={"t": 1}, output_axis_order="xy", metadata=metadata).image
    np.testing.assert_array_equal(image, SMALL[1].T)
    assert (image.dims, emio.get_spacing(image, "y")) == (("x", "y"), 0.5)


def test_colours_become_an_axis():
    photo = np.zeros((5, 7), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    photo["G"] = 9
    image = emio.imload(photo).image
    assert (image.dims, image.c.values.tolist()) == (("y", "x", "c"), ["r", "g", "b"])
    assert (image.sel(c="g") == 9).all()


@pytest.mark.parametrize("array", [SMALL.astype(">u2"), np.asfortranarray(SMALL), SMALL[::-1, :, ::2], SMALL > 3])
@pytest.mark.parametrize("chunks", [1, "auto", None])
def test_any_layout_and_number_type_is_read(array, chunks):
    image = emio.imload(array, chunks=chunks).image
    assert image.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(image, array)


def test_a_memory_map_travels_by_its_name(tmp_path):
    np.arange(5 * 64 * 64, dtype="u2").tofile(tmp_path / "frames.bin")
    stored = np.memmap(tmp_path / "frames.bin", "u2", "r", offset=2 * 64 * 64, shape=(4, 64, 64))[1:]
    image = emio.imload(stored, chunks="frame").image
    assert len(pickle.dumps(image)) < 10_000
    np.testing.assert_array_equal(image, stored)


# Dask ----------------------------------------------------------------------------------------------------------------


def test_a_dask_array_is_left_alone(no_computing):
    scan = da.random.random((64, 64, 256, 256), chunks=(16, 16, 256, 256))
    image = emio.imload(scan).image
    assert image.dims == ("y", "x", "v", "u")
    assert image.data is scan
    assert emio.imload(scan, output_axis_order="uvxy", partition={"y": slice(3)}).image.shape == (256, 256, 64, 3)
    assert emio.imload(scan, chunks={"y": 8}).image.data.chunksize == (8, 64, 256, 256)


def test_frames_of_a_dask_array_are_counted_anew():
    lazy = da.from_array(SMALL, chunks=(1, 3, 4))
    with pytest.warns(EmioWarning, match="1 of 3"):
        image = emio.imload(lazy, nav_shape=(3, 1)).image
    np.testing.assert_array_equal(image[:2, 0], SMALL)
    np.testing.assert_array_equal(emio.imload(lazy, sync_offset=-1, chunks=None).image[1], SMALL[0])


@pytest.mark.parametrize(
    ("shape", "chunks", "min_size", "result"),
    [
        ((8, 8, 16, 16), (2, 8, 8, 8), 1, (2, 8, 16, 16)),
        ((4, 8, 16, 16), (1, 2, 16, 16), 1, (1, 2, 16, 16)),
        ((8, 8, 16, 16), (1, 8, 16, 16), 4096, (2, 8, 16, 16)),
        ((8, 8, 16, 16), (1, 8, 16, 16), 1 << 27, (8, 8, 16, 16)),
    ],
)
def test_chunks_are_merged_to_a_least_size(shape, chunks, min_size, result, no_computing):
    image = emio.imload(da.zeros(shape, chunks=chunks, dtype="u1"), min_size=min_size).image
    assert image.data.chunksize == result


def test_axes_are_never_transposed():
    with pytest.warns(EmioWarning, match="no effect"):
        image = emio.imload(da.zeros((4, 8, 16, 16), chunks=(4, 2, 16, 16)), preserve_dimensions=False).image
    assert image.shape == (4, 8, 16, 16)
    with pytest.raises(ArgumentError, match="min_size and chunks"):
        emio.imload(da.zeros((4, 4)), min_size=8, chunks=2)


def test_chunks_that_cut_frames_are_warned_of():
    with pytest.warns(da.PerformanceWarning, match="cut"):
        emio.imload(da.zeros((4, 16, 16), chunks=(1, 8, 8)))


# xarray, Zarr, HDF5 --------------------------------------------------------------------------------------------------


def test_a_data_array_keeps_its_coordinates():
    array = xr.DataArray(
        SMALL,
        dims=("time", "y", "x"),
        coords={
            "time": ("time", [1.0, 2.5], {"units": "s"}),
            "x": list("abcd"),
            "note": ("time", ["p", "q"]),
            "dose": 3.0,
        },
        attrs={"gain": 2},
    )
    ds = emio.imload(array)
    assert ds.image.dims == ("t", "y", "x")
    assert (ds.t.values.tolist(), ds.t.attrs) == ([1, 2.5], {"units": "s"})
    assert (ds.x.values.tolist(), ds.note.values.tolist(), float(ds.dose)) == (list("abcd"), ["p", "q"], 3)
    assert ds.image.attrs == {"gain": 2}
    assert np.shares_memory(ds.image.values, SMALL)


def test_a_dataset_needs_an_image_or_a_name():
    ds = xr.Dataset({"a": (("y", "x"), SMALL[0]), "b": (("y", "x"), SMALL[1])})
    with pytest.raises(ArgumentError, match="ds_path=, one of a, b"):
        emio.imload(ds)
    np.testing.assert_array_equal(emio.imload(ds, ds_path="b").image, SMALL[1])
    both = emio.imload(ds.rename(a="image"))
    np.testing.assert_array_equal(both.b, SMALL[1])


def test_a_stored_array_is_read_by_its_name(tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", data=SMALL, chunks=(1, 3, 4), dimension_names=["t", "y", "x"])
    image = emio.imload(array).image
    assert image.dims == ("t", "y", "x")
    assert len(pickle.dumps(image)) < 10_000
    np.testing.assert_array_equal(image, SMALL)
    np.testing.assert_array_equal(emio.imload(zarr.array(SMALL, chunks=(1, 3, 4))).image, SMALL)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["deep/data"] = SMALL
    with h5py.File(tmp_path / "a.h5") as file:
        image = emio.imload(file["deep/data"]).image
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(image)), SMALL)


# The source ----------------------------------------------------------------------------------------------------------


def test_sources_of_arrays_are_intake_sources():
    source = intake.open_emio_memory(SMALL, chunks={"i": 1})
    assert source.discover()["shape"] == (2, 3, 4)
    assert source.npartitions == 2
    np.testing.assert_array_equal(source.read_partition(1).image, SMALL[1:])
    assert source == source.configure_new()
    assert source != MemorySource(SMALL.copy(), chunks={"i": 1})
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read().image, SMALL)
    assert intake.open_emio_dask(da.zeros((2, 2))).to_dask().image.dims == ("y", "x")


# Refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thing", [[1, 2], b"abc", 3.0, np.float64(3), object()])
def test_what_is_no_array_is_refused_with_what_is(thing):
    with pytest.raises(ArgumentTypeError, match="array"):
        emio.imload(thing)


@pytest.mark.parametrize(
    "array",
    [
        np.array([["a"]]),
        np.array([[None]]),
        np.zeros((2, 2), "M8[s]"),
        np.ma.masked_array([[1, 2]]),
        np.zeros(()),
        np.zeros((0, 3)),
    ],
)
def test_arrays_without_pixels_are_refused(array):
    with pytest.raises(emio.EmioError, match="array"):
        emio.imload(array)


def test_unknown_chunks_are_refused():
    lazy = da.from_array(SMALL)
    with pytest.raises(ArgumentError, match="compute_chunk_sizes"):
        emio.imload(lazy[lazy[:, 0, 0] > 3])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"sig_shape": (5, 1)}, "whole number of frames"),
        ({"sync_offset": 2}, "sync_offset"),
        ({"io_backend": "mmap"}, "io_backend"),
        ({"format": "npy"}, "format"),
        ({"sig_dims": -1}, "sig_dims"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, says):
    with pytest.raises(emio.EmioError, match=says):
        emio.imload(SMALL, **arguments)


def test_arrays_cannot_stand_in_catalogs():
    with pytest.raises(ArgumentError, match="catalog"):
        MemorySource(SMALL).yaml()
