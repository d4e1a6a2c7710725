"""Reading HDF5 files in all their dialects."""

import hashlib
import os
import pickle
import zipfile

import dask
import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import intake_emio as emio
from intake_emio.errors import (
    ArgumentError,
    EmioError,
    EmioWarning,
    HeaderError,
    MissingFileError,
    StorageError,
    TruncatedError,
)
from intake_emio.formats.hdf5 import HDF5Source
from intake_emio.frames.frames import Frames

from .encoders.hdf5 import (
    add_velox_stream,
    write_dectris,
    write_emdfile,
    write_hspy,
    write_ncem,
    write_nexus,
    write_plain,
    write_velox,
)


def counts(*shape, dtype="u2"):
    """Every value differs, so that a swapped axis shows."""
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.fixture
def h5(tmp_path):
    return tmp_path / "scan.h5"


def pixels_of(path, **settings):
    return HDF5Source(path, **settings).image.pixels


# Recognising it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [0, 512, 1024, 2048, 8192])
def test_a_user_block_may_precede_the_signature(h5, block):
    stack = counts(4, 5, 6)
    write_plain(h5, userblock_size=block, scan=stack)
    assert emio.detect(h5).format == "hdf5"
    assert isinstance(pixels_of(h5), Frames)  # the offset counts the user block
    assert_array_equal(emio.imload(h5).image, stack)


@pytest.mark.parametrize("name", ["a.nxs", "a.emd", "a.hspy", "a.nc", "a.dat", "a"])
def test_the_extension_does_not_matter(tmp_path, name):
    assert emio.detect(write_plain(tmp_path / name, scan=counts(4, 5, 6))).format == "hdf5"


def test_what_is_no_hdf5_file_is_refused(h5):
    for content in (b"", b"notes of the day", b"\x89HDF\r\n"):
        h5.write_bytes(content)
        with pytest.raises(HeaderError, match="not HDF5"):
            emio.imload(h5)
    h5.write_bytes(b"CDF\x01" + bytes(100))
    with pytest.raises(HeaderError, match="netCDF-3"):
        emio.imload(h5)


def test_a_truncated_file_names_both_lengths(h5):
    write_plain(h5, scan=counts(40, 50, 60))
    os.truncate(h5, 20000)
    with pytest.raises(TruncatedError, match="eof = 20000"):
        emio.imload(h5)


# Which dataset -------------------------------------------------------------------------------------------------------


def test_the_largest_stack_is_chosen_and_the_others_are_listed(h5):
    write_plain(
        h5, map=counts(200, 200), a=counts(3, 4, 5), b__c=counts(3, 4, 6, 5), table=counts(9), text=np.bytes_("x")
    )
    ds = emio.imload(h5)
    assert dict(ds.image.sizes) == {"y": 3, "x": 4, "v": 6, "u": 5}
    listed = ds.attrs["metadata"]["datasets"]
    assert [(d["name"], d["shape"]) for d in listed] == [
        ("/b/c", [3, 4, 6, 5]),
        ("/a", [3, 4, 5]),
        ("/map", [200, 200]),
    ]
    assert ds.attrs["metadata"]["fileheader"]["ds_path"] == "/b/c"


@pytest.mark.parametrize("ds_path", ["a", "/a", "b/c", "b", "/b/", "table"])
def test_ds_path_chooses_a_dataset_or_a_group_with_one(h5, ds_path):
    arrays = {"a": counts(3, 4, 5), "b__c": counts(3, 4, 6, 5), "table": counts(9)}
    write_plain(h5, **arrays)
    wanted = {"a": "a", "/a": "a", "table": "table"}.get(ds_path, "b__c")
    assert_array_equal(emio.imload(h5, ds_path=ds_path).image, arrays[wanted])


def test_a_wrong_ds_path_lists_what_there_is(h5):
    write_plain(h5, a=counts(3, 4, 5), g__b=counts(3, 4), g__c=counts(3, 4), text=np.bytes_("x"))
    with pytest.raises(ArgumentError, match=r"no dataset 'nope'; it holds /a \(3, 4, 5\)"):
        emio.imload(h5, ds_path="nope")
    with pytest.raises(ArgumentError, match="several datasets"):
        emio.imload(h5, ds_path="g")
    with pytest.raises(ArgumentError, match="no image"):
        emio.imload(h5, ds_path="text")


def test_a_file_without_images_is_refused(h5):
    write_plain(h5, table=counts(9), text=np.array([b"a"]), empty=np.zeros((0, 3, 4)))
    with pytest.raises(HeaderError, match="no dataset that could be an image"):
        emio.imload(h5)


def test_groups_that_contain_themselves_are_walked_once(h5):
    write_plain(h5, g__a=counts(3, 4, 5))
    with h5py.File(h5, "a") as file:
        file["g/again"] = file["/"]
        file["g/soft"] = h5py.SoftLink("/g/soft")
        file["g/same"] = h5py.SoftLink("/g/a")
        file["g/nowhere"] = h5py.SoftLink("/nowhere")
    ds = emio.imload(h5)
    assert ds.attrs["metadata"].get("datasets") is None
    assert_array_equal(emio.imload(h5, ds_path="/g/again/g/same").image, counts(3, 4, 5))


# Pixels --------------------------------------------------------------------------------------------------------------

TYPES = ["u1", "<u2", ">u2", "<i4", ">i8", "<f2", ">f4", "<f8", "?", "<c8", ">c16"]
STORED = {
    "contiguous": {},
    "frames": {"chunks": (1, 2, 5, 6)},
    "cut": {"chunks": (2, 2, 3, 4)},
    "gzip": {"chunks": (2, 3, 5, 6), "compression": "gzip", "shuffle": True},
    "lzf": {"chunks": (1, 1, 5, 6), "compression": "lzf", "fletcher32": True},
}


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_in_every_storage_reads_as_h5py_reads_it(h5, dtype, stored):
    scan = (counts(3, 4, 5, 6) % 251).astype(dtype)
    write_plain(h5, scan=(scan, STORED[stored]))
    source = HDF5Source(h5)
    assert isinstance(source.image.pixels, Frames) == (stored == "contiguous")
    image = source.to_dask().image
    assert image.dims == ("y", "x", "v", "u")
    assert image.dtype == np.dtype(dtype).newbyteorder("=")
    assert_array_equal(image, scan)
    assert_array_equal(source.read().image, scan)
    assert_array_equal(image[1:, ::2, 3, 1:5:3], scan[1:, ::2, 3, 1:5:3])


def test_colours_become_an_axis_and_pairs_are_complex(h5):
    rgb = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["G"], rgb["B"] = counts(3, 4, 5), 7
    pair = np.zeros((2, 3), [("realFloat", "<f4"), ("imagFloat", "<f4")])
    pair["realFloat"], pair["imagFloat"] = 1, counts(2, 3)
    for settings in ({}, {"chunks": True}):
        write_plain(h5, rgb=(rgb, settings), pair=(pair, settings))
        image = emio.imload(h5, ds_path="rgb").image
        assert (image.dims, image.c.values.tolist()) == (("i", "y", "x", "c"), ["r", "g", "b"])
        assert_array_equal(image.sel(c="g"), counts(3, 4, 5))
        assert_array_equal(emio.imload(h5, ds_path="pair").image, 1 + 1j * counts(2, 3))


@pytest.mark.parametrize("ndim", range(1, 7))
def test_axes_are_named_by_position(h5, ndim):
    write_plain(h5, a=counts(*range(2, 2 + ndim)))
    wanted = {1: "x", 2: "yx", 3: "iyx", 4: "yxvu", 5: "iyxvu", 6: "ityxvu"}[ndim]
    assert "".join(emio.imload(h5, ds_path="a").image.dims) == wanted


def test_sig_dims_counts_the_axes_of_a_frame(h5):
    write_plain(h5, a=counts(2, 3, 4))
    assert HDF5Source(h5, sig_dims="1").image.pixels.frame_ndim == 1
    with pytest.raises(ArgumentError, match="sig_dims=4, but /a has 3 axes"):
        emio.imload(h5, sig_dims=4, ds_path="a")


@pytest.mark.parametrize("stored", ["contiguous", "gzip"])
def test_a_stack_is_arranged_as_a_scan_and_shifted(h5, stored):
    frames = counts(12, 5, 6)
    settings = {} if stored == "contiguous" else {"chunks": (5, 5, 6), "compression": "gzip"}
    write_plain(h5, a=(frames, settings))
    scan = emio.imload(h5, nav_shape="(3, 4)").image
    assert scan.dims == ("y", "x", "v", "u")
    assert_array_equal(scan, frames.reshape(3, 4, 5, 6))
    assert_array_equal(emio.imload(h5, nav_shape=5).image, frames[:5])
    shifted = emio.imload(h5, sync_offset=2).image
    assert_array_equal(shifted[:10], frames[2:])
    assert not shifted[10:].any()
    late = emio.imload(h5, nav_shape=(3, 4), sync_offset=-1).image.values.reshape(12, 5, 6)
    assert_array_equal(late[1:], frames[:-1])
    with pytest.warns(EmioWarning, match="3 of 15 frames are missing"):
        more = emio.imload(h5, nav_shape=(3, 5)).image.values.reshape(15, 5, 6)
    assert_array_equal(more[:12], frames)
    assert not more[12:].any()
    with pytest.raises(ArgumentError, match="sync_offset=12 is out of range"):
        emio.imload(h5, sync_offset=12)
    with pytest.raises(ArgumentError, match="cannot be reshaped"):
        emio.imload(h5, sig_shape=(6, 5))


def test_io_backend_is_for_contiguous_datasets(h5):
    write_plain(h5, a=counts(3, 4, 5), b=(counts(3, 4), {"chunks": True}))
    assert_array_equal(emio.imload(h5, io_backend="buffered").image, counts(3, 4, 5))
    with pytest.raises(ArgumentError, match="stored in chunks"):
        emio.imload(h5, ds_path="b", io_backend="buffered")


def test_dask_chunks_are_whole_chunks_of_the_file(h5):
    write_plain(h5, a=(counts(40, 30, 32, 32), {"chunks": (4, 3, 16, 16), "compression": "gzip"}))
    chunk = HDF5Source(h5, target_size=1 << 18).image.pixels.chunks()
    assert chunk[2:] == (32, 32)
    assert chunk[0] % 4 == chunk[1] % 3 == 0
    assert np.prod(chunk) * 2 <= 1 << 18
    assert HDF5Source(h5).to_dask().image.data.numblocks[2:] == (1, 1)


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_graphs_hold_no_handles(h5, scheduler):
    frames = counts(12, 5, 6)
    write_plain(h5, a=(frames, {"chunks": (1, 5, 6), "compression": "gzip"}))
    source = HDF5Source(h5, chunks={"i": 4})
    image = source.to_dask().image
    assert len(pickle.dumps(source.image.pixels)) < 3000
    with dask.config.set(scheduler=scheduler, num_workers=2):
        assert_array_equal(image.compute(), frames)
    with h5py.File(h5, "a"):  # nothing keeps it open
        pass
    assert_array_equal(pickle.loads(pickle.dumps(source)).to_dask().image, frames)


@pytest.mark.parametrize("stored", ["contiguous", "gzip"])
def test_remote_files_read_as_local_ones(h5, stored):
    import fsspec

    frames = counts(12, 5, 6)
    write_plain(h5, a=(frames, {} if stored == "contiguous" else {"compression": "gzip"}))
    with fsspec.open(f"memory://hdf5/{stored}.h5", "wb") as file:
        file.write(h5.read_bytes())
    assert_array_equal(emio.imload(f"memory://hdf5/{stored}.h5").image, frames)


def test_bitshuffle_is_read_with_hdf5plugin_and_an_unknown_filter_is_named(h5):
    hdf5plugin = pytest.importorskip("hdf5plugin")
    frames = counts(4, 16, 16)
    write_plain(h5, a=(frames, {"chunks": (1, 16, 16), **hdf5plugin.Bitshuffle(cname="lz4")}))
    assert_array_equal(emio.imload(h5).image, frames)
    # filter numbers from 32768 on are nobody's
    data = h5.read_bytes()
    number = (32008).to_bytes(2, "little")
    assert number in data
    h5.write_bytes(data.replace(number, (65000).to_bytes(2, "little")))
    with pytest.raises(StorageError, match=r"filter 65000 .*pip install hdf5plugin"):
        emio.imload(h5)


def test_a_corrupt_chunk_names_file_dataset_and_box(h5):
    frames = counts(4, 16, 16)
    write_plain(h5, a=(frames, {"chunks": (1, 16, 16), "compression": "gzip"}))
    with h5py.File(h5) as file:
        where = file["a"].id.get_chunk_info(2)
    data = bytearray(h5.read_bytes())
    data[where.byte_offset + 4 : where.byte_offset + 40] = bytes(36)
    h5.write_bytes(data)
    ds = emio.imload(h5)
    assert_array_equal(emio.imload(h5, partition=0).image, frames[0])
    with pytest.raises(StorageError, match=r"scan.h5: /a cannot be read"):
        ds.image.compute()


# Never written -------------------------------------------------------------------------------------------------------


def test_a_dataset_that_was_never_written_is_refused_if_it_claims_much(h5):
    with h5py.File(h5, "w") as file:
        file.create_dataset("a", (1 << 31, 512, 512), "u2", chunks=(1, 512, 512))
    with pytest.raises(StorageError, match="never written"):
        emio.imload(h5)
    with h5py.File(h5, "w") as file:
        file.create_dataset("a", (3, 4, 5), "u2", fillvalue=7)
    with pytest.warns(EmioWarning, match="never written"):
        assert (emio.imload(h5).image == 7).all()


def test_missing_chunks_are_filled_up_with_a_warning(h5):
    with h5py.File(h5, "w") as file:
        file.create_dataset("a", (4, 5, 6), "u2", chunks=(1, 5, 6))[1] = 3
    with pytest.warns(EmioWarning, match="only 1 of 4 chunks"):
        assert emio.imload(h5).image.sum(("y", "x")).values.tolist() == [0, 90, 0, 0]


# Other files ---------------------------------------------------------------------------------------------------------


def linked(tmp_path, target):
    inside = tmp_path / "inside"
    (inside / "sub").mkdir(parents=True)
    for folder in (tmp_path, inside, inside / "sub"):
        write_plain(folder / "other.h5", a=counts(3, 4, 5))
    path = inside / "main.h5"
    with h5py.File(path, "w") as file:
        file["link"] = h5py.ExternalLink(target, "/a")
    return path


@pytest.mark.parametrize("target", ["other.h5", "./other.h5", "sub/other.h5", "sub/../other.h5"])
def test_links_within_the_folder_are_followed(tmp_path, target):
    assert_array_equal(emio.imload(linked(tmp_path, target)).image, counts(3, 4, 5))


def test_links_out_of_the_folder_are_refused(tmp_path):
    path = linked(tmp_path, "../other.h5")
    for settings in ({}, {"ds_path": "link"}):
        with pytest.raises(StorageError, match=r"/link links to '../other.h5', which lies outside"):
            emio.imload(path, **settings)
    assert_array_equal(emio.imload(path, external_links="anywhere").image, counts(3, 4, 5))
    with pytest.raises(ArgumentError, match="external_links must be one of"):
        emio.imload(path, external_links="yes")


def test_symbolic_links_do_not_help_out_of_the_folder(tmp_path):
    path = linked(tmp_path, "sneaky.h5")
    (tmp_path / "inside" / "sneaky.h5").symlink_to(tmp_path / "other.h5")
    with pytest.raises(StorageError, match="outside"):
        emio.imload(path)


def test_a_missing_target_is_named_with_its_link(tmp_path):
    with pytest.raises(MissingFileError, match=r"/link links to 'gone.h5'"):
        emio.imload(linked(tmp_path, "gone.h5"))


def test_a_refused_link_beside_an_image_is_a_warning(tmp_path):
    path = linked(tmp_path, "../other.h5")
    with h5py.File(path, "a") as file:
        file["own"] = counts(2, 3, 4)
    with pytest.warns(EmioWarning, match="left out: .*outside"):
        assert_array_equal(emio.imload(path).image, counts(2, 3, 4))


def test_files_that_link_to_each_other_are_no_trap(tmp_path):
    for name, other in (("a.h5", "b.h5"), ("b.h5", "a.h5")):
        with h5py.File(tmp_path / name, "w") as file:
            file["link"] = h5py.ExternalLink(other, "/link")
    with pytest.raises(EmioError):
        emio.imload(tmp_path / "a.h5", ds_path="link")


def test_raw_storage_in_other_files_is_refused(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(600))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", (3, 4, 5), "u1", external=[(str(tmp_path / "secret"), 0, 60)])
    with pytest.raises(StorageError, match="has its values in another file"):
        emio.imload(tmp_path / "a.h5")


def virtual(tmp_path, names):
    layout = h5py.VirtualLayout((len(names), 4, 5), "u2")
    for k, name in enumerate(names):
        layout[k] = h5py.VirtualSource(name, "a", (4, 5))
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("all", layout)
    return tmp_path / "virtual.h5"


def test_virtual_datasets_stay_in_the_folder(tmp_path):
    for k in range(2):
        write_plain(tmp_path / f"{k}.h5", a=counts(4, 5) + k)
    assert_array_equal(emio.imload(virtual(tmp_path, ["0.h5", "1.h5"])).image, [counts(4, 5), counts(4, 5) + 1])
    with pytest.raises(StorageError, match="outside"):
        emio.imload(virtual(tmp_path, ["0.h5", "../1.h5"]))
    with pytest.warns(EmioWarning, match=r"lacks gone.h5"):
        assert not emio.imload(virtual(tmp_path, ["0.h5", "gone.h5"])).image[1].any()
    with pytest.raises(MissingFileError, match="not there"):
        emio.imload(virtual(tmp_path, ["gone.h5", "lost.h5"]))


def test_a_file_that_is_being_written_is_read_with_swmr(h5):
    with h5py.File(h5, "w", libver="latest") as file:
        dataset = file.create_dataset("a", (3, 4, 5), "u2", maxshape=(None, 4, 5), chunks=(1, 4, 5))
        dataset[...] = counts(3, 4, 5)
        file.swmr_mode = True
        file.flush()
        assert_array_equal(emio.imload(h5, swmr=True).image, counts(3, 4, 5))


# netCDF-4 ------------------------------------------------------------------------------------------------------------


def test_dimension_scales_name_and_calibrate_the_axes(tmp_path):
    path = tmp_path / "image.nc"
    with h5py.File(path, "w") as file:
        image = file.create_dataset("image", data=counts(2, 3, 4))
        for k, (name, values, units) in enumerate(
            (("t", [0, 1.5], "s"), ("y", [5, 4, 3], "nm"), ("x", [0, 1, 4, 9], "nm"))
        ):
            file[name] = np.asarray(values, "f8")
            file[name].make_scale(name)
            file[name].attrs["units"] = units
            image.dims[k].attach_scale(file[name])
    ds = emio.imload(path)
    assert ds.image.dims == ("t", "y", "x")
    assert ds.y.values.tolist() == [5, 4, 3]
    assert ds.x.values.tolist() == [0, 1, 4, 9]
    assert ds.t.attrs["units"] == "s"


def test_an_image_saved_by_xarray_comes_back(tmp_path):
    pytest.importorskip("h5netcdf")
    import xarray as xr

    image = xr.DataArray(
        counts(2, 3, 4), dims=("t", "y", "x"), coords={"x": ("x", [0.0, 0.5, 1.0, 1.5], {"units": "nm"})}
    )
    xr.Dataset({"image": image}).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    back = emio.imload(tmp_path / "a.nc").image
    assert back.dims == ("t", "y", "x")
    assert "y" not in back.coords
    assert_array_equal(back, image)
    assert_array_equal(back.x, image.x)


def test_scale_factors_are_noted_not_applied(h5):
    write_plain(h5, a=counts(2, 3, 4))
    with h5py.File(h5, "a") as file:
        file["a"].attrs["scale_factor"] = 0.5
    with pytest.warns(EmioWarning, match="scale_factor, which are not applied"):
        image = emio.imload(h5).image
    assert image.attrs["scale_factor"] == 0.5
    assert_array_equal(image, counts(2, 3, 4))


# HyperSpy ------------------------------------------------------------------------------------------------------------


def axis(name=None, units=None, scale=1.0, offset=0.0, navigate=False, **more):
    return {"name": name, "units": units, "scale": scale, "offset": offset, "navigate": navigate, **more}


@pytest.mark.parametrize(
    ("axes", "dims"),
    [
        ([axis()], "c"),
        ([axis(), axis()], "yx"),
        ([axis(navigate=True), axis(), axis()], "iyx"),
        ([axis("time", navigate=True), axis(), axis()], "tyx"),
        ([axis("height", navigate=True), axis(), axis()], "zyx"),
        ([axis("stack_element", navigate=True), axis(), axis()], "iyx"),
        ([axis("x", "nm", navigate=True), axis("Energy", "eV")], "xc"),
        ([axis(navigate=True), axis("Energy", "eV")], "ic"),
        ([axis(navigate=True), axis(navigate=True), axis("Energy", "eV")], "yxc"),
        ([axis(navigate=True), axis(navigate=True), axis("kx"), axis("ky")], "yxvu"),
        ([axis(navigate=True)] * 3 + [axis()] * 2, "iyxvu"),
        ([axis("z", navigate=True)] + [axis(navigate=True)] * 3 + [axis()] * 2, "ztyxvu"),
        ([axis(), axis(), axis()], "iyx"),
        ([axis(navigate=True)] * 4, "yxvu"),
    ],
)
def test_hyperspy_axes_become_ours(h5, axes, dims):
    shape = range(2, 2 + len(axes))
    write_hspy(h5, counts(*shape), axes)
    image = emio.imload(h5).image
    assert "".join(image.dims) == dims
    assert set(image.coords) == {d for d, a in zip(dims, axes, strict=True) if a["units"]}
    assert_array_equal(image, counts(*shape))


def test_hyperspy_signal_axes_in_front_move_behind(h5):
    write_hspy(h5, counts(5, 2, 3), [axis("Energy", "eV", 0.1, 3), axis(navigate=True), axis(navigate=True)])
    image = emio.imload(h5).image
    assert image.dims == ("y", "x", "c")
    assert_array_equal(image, counts(5, 2, 3).transpose(1, 2, 0))
    assert_allclose(image.c, 3 + 0.1 * np.arange(5))


def test_hyperspy_metadata_and_calibration(h5):
    metadata = {
        "Acquisition_instrument": {"TEM": {"beam_energy": 200.0, "camera_length": 80.0, "Stage": {"tilt_alpha": 3.0}}},
        "General": {"title": "gold", "date": "2024-05-06", "time": "07:08:09"},
        "many": [{"n": k} for k in range(12)],
        "pickle": b"\x80\x03cos\nsystem",
        "nothing": None,
        "empty": [],
    }
    axes = [axis("y", "$A^{-1}$", -0.5, 2), {"name": "x", "units": "um", "navigate": False, "axis": [0.0, 1, 4]}]
    write_hspy(h5, counts(4, 3), axes, "gold", metadata, compression="gzip")
    ds = emio.imload(h5)
    assert ds.y.attrs["units"] == "1/angstrom"
    assert ds.y.values.tolist() == [2, 1.5, 1, 0.5]
    assert ds.x.values.tolist() == [0, 1, 4]
    assert ds.x.attrs["units"] == "µm"
    facts = ds.attrs["acquisition"]
    assert (facts["beam_energy"], facts["camera_length"], facts["title"]) == (200, 80, "gold")
    assert facts["start_time"] == "2024-05-06T07:08:09"
    header = ds.attrs["metadata"]["fileheader"]["metadata"]
    assert [m["n"] for m in header["many"]] == list(range(12))
    assert header["pickle"] == "bytes that are not read"
    assert (header["nothing"], header["empty"]) == (None, [])


def test_several_experiments_are_listed_and_chosen(h5):
    write_hspy(h5, counts(3, 4), [axis(), axis()], "small")
    write_hspy(h5, counts(5, 6), [axis(), axis()], "large")
    ds = emio.imload(h5)
    assert [d["name"] for d in ds.attrs["metadata"]["datasets"]] == ["large", "small"]
    for ds_path in ("small", "Experiments/small", "/Experiments/small/data"):
        assert emio.imload(h5, ds_path=ds_path).image.shape == (3, 4)


# EMD -----------------------------------------------------------------------------------------------------------------


def test_emd_axes_go_by_their_names(h5):
    dims = [
        (np.arange(2) * 0.5, "R_x", "[n_m]"),
        (np.arange(3) * 0.25 + 1, "R_y", "[n_m]"),
        (np.array([0.0, 0.1]), "Q_x", "[n_m^-1]"),
        (np.arange(5), "Q_y", "[n_m^-1]"),
    ]
    write_ncem(h5, counts(2, 3, 4, 5), dims, "4DSTEM_simulation/data/datacubes/one", "datacube")
    image = emio.imload(h5).image
    assert image.dims == ("y", "x", "v", "u")
    assert_array_equal(image, counts(2, 3, 4, 5).transpose(1, 0, 3, 2))
    assert image.y.values.tolist() == [1, 1.25, 1.5]
    assert image.u.attrs["units"] == "1/nm"
    assert_allclose(image.u, 0.1 * np.arange(4))


@pytest.mark.parametrize(
    ("names", "folder", "dims", "order"),
    [
        (("y", "x"), "data/a", "yx", (0, 1)),
        (("x", "y"), "data/a", "yx", (1, 0)),
        (("time", "y", "x"), "data/a", "tyx", (0, 1, 2)),
        (("x", "y", "angle"), "data/a", "iyx", (2, 1, 0)),
        (("Position", "Position", "y", "x"), "data/a", "yxvu", (0, 1, 2, 3)),
        (("", "", ""), "data/a", "iyx", (0, 1, 2)),
        (("", "", ""), "signals/a", "iyx", (2, 1, 0)),
    ],
)
def test_emd_orientation(h5, names, folder, dims, order):
    data = counts(*range(2, 2 + len(names)))
    write_ncem(h5, data, [(np.arange(n) * 2.0, name, "[]") for n, name in zip(data.shape, names, strict=True)], folder)
    image = emio.imload(h5).image
    assert "".join(image.dims) == dims
    assert_array_equal(image, data.transpose(order))


def test_groups_of_a_simulation_are_stacked_unless_told_otherwise(h5):
    for k in range(3):
        dims = [(np.arange(n) * 0.5, name, "[n_m]") for n, name in ((2, "R_x"), (3, "R_y"))]
        write_ncem(h5, counts(2, 3) + k, dims, f"4DSTEM_simulation/data/realslices/depth{k:04d}", "realslice")
    image = emio.imload(h5).image
    assert image.dims == ("z", "y", "x")
    assert_array_equal(image, [counts(2, 3).T + k for k in range(3)])
    assert emio.imload(h5, stack_group=False).image.dims == ("y", "x")
    assert_array_equal(emio.imload(h5, ds_path="4DSTEM_simulation/data/realslices/depth0002").image, counts(2, 3).T + 2)


def test_py4dstem_counts_x_along_rows(h5):
    dims = [((0, 0.5), "Rx", "A"), ((0, 0.5), "Ry", "A"), ((0, 0.1), "Qx", "A^-1"), ((0, 1), "Qy", "pixels")]
    write_emdfile(h5, counts(50, 60), dims[:2], "VirtualImage", "bright")
    write_emdfile(h5, counts(2, 3, 4, 5), dims)
    ds = emio.imload(h5)  # a data cube before a larger picture
    assert ds.image.dims == ("y", "x", "v", "u")
    assert_array_equal(ds.image, counts(2, 3, 4, 5))
    assert ds.y.attrs["units"] == "angstrom"
    assert ds.v.attrs["units"] == "1/angstrom"
    assert "u" not in ds.coords
    assert emio.imload(h5, ds_path="bright").image.shape == (50, 60)


def test_labelled_slices_get_their_names(h5):
    write_emdfile(
        h5, counts(4, 5, 2), [((0, 1), "x", "A"), ((0, 2), "y", "A"), (["DPC x", "DPC y"], "", "")], "RealSlice"
    )
    image = emio.imload(h5).image
    assert image.dims == ("i", "y", "x")
    assert image.i.values.tolist() == ["DPC x", "DPC y"]
    assert_array_equal(image, np.moveaxis(counts(4, 5, 2), 2, 0))


# Velox ---------------------------------------------------------------------------------------------------------------

VELOX = {
    "BinaryResult": {
        "PixelSize": {"width": "2e-10", "height": "1e-10"},
        "PixelUnitX": "m",
        "PixelUnitY": "m",
        "Offset": {"x": "-1e-9", "y": "0"},
        "DetectorIndex": "0",
        "Detector": "Ceta",
    },
    "Detectors": {"Detector-0": {"DetectorName": "BM-Ceta", "ExposureTime": "0.25"}},
    "Optics": {"AccelerationVoltage": "200000", "CameraLength": "0.5"},
    "Acquisition": {"AcquisitionStartDatetime": {"DateTime": "86400"}},
}


def test_velox_stacks_have_time_in_front(h5):
    stack = counts(4, 5, 3, dtype="i2")
    write_velox(h5, [(counts(2, 2, 1), VELOX), (stack, VELOX)])
    ds = emio.imload(h5)
    assert ds.image.dims == ("t", "y", "x")
    assert ds.image.dtype == np.int16
    assert_array_equal(ds.image, np.moveaxis(stack, 2, 0))
    assert_array_equal(ds.image[1:, ::2], np.moveaxis(stack, 2, 0)[1:, ::2])
    assert ds.t.values.tolist() == [0, 0.25, 0.5]
    assert_allclose(ds.x, -1 + 0.2 * np.arange(5))
    assert_allclose(ds.y, 0.1 * np.arange(4))
    facts = ds.attrs["acquisition"]
    assert (facts["beam_energy"], facts["camera_length"], facts["detector"]) == (200, 500, "BM-Ceta")
    assert facts["start_time"] == "1970-01-02T00:00:00+00:00"
    single = emio.imload(h5, ds_path=f"Data/Image/{0:032x}").image
    assert single.dims == ("y", "x")


def test_velox_pixels_load_without_metadata(h5):
    write_velox(h5, [(counts(4, 5, 1), b"not json")])
    with pytest.warns(EmioWarning, match="no JSON"):
        image = emio.imload(h5).image
    assert not image.coords
    assert_array_equal(image, counts(4, 5))


def test_velox_spectra_and_what_is_not_there(h5):
    write_velox(h5, [(counts(4, 5, 1), VELOX)], [(counts(16, 1), VELOX), (counts(16, 2), VELOX)])
    spectra = emio.imload(h5, select_type="single_spectrum").image
    assert spectra.dims == ("i", "c")
    assert emio.imload(h5).image.dims == ("y", "x")
    with pytest.raises(HeaderError, match="no array of select_type='spectrum_image'"):
        emio.imload(h5, select_type="spectrum_image")
    write_plain(h5, a=counts(2, 3))
    with pytest.raises(ArgumentError, match="Velox files only"):
        emio.imload(h5, select_type="images")


EDS = {
    **VELOX,
    "BinaryResult": {**VELOX["BinaryResult"], "Detector": "SuperX1"},
    "Detectors": {"Detector-3": {"DetectorName": "SuperX1", "Dispersion": "10", "OffsetEnergy": "-250"}},
    "Scan": {"FrameTime": "0.5"},
}
NEXT = 65535


def write_eds(path, streams, width, height, metadata=EDS, frames=1):
    write_velox(path)
    for events in streams:
        add_velox_stream(path, events, width, height, 12, metadata, frames)
    return path


def test_eds_events_become_spectra(h5):
    ds = emio.imload(write_eds(h5, [[5, 5, NEXT, 7]], width=2, height=1))
    assert ds.image.dims == ("y", "x", "c")
    assert ds.image.dtype == np.uint16
    expected = np.zeros((1, 2, 12))
    expected[0, 0, 5], expected[0, 1, 7] = 2, 1
    assert_array_equal(ds.image, expected)
    assert ds.c.values.tolist() == [-250 + 10 * k for k in range(12)]
    assert ds.c.attrs["units"] == "eV"
    assert_allclose(ds.x, -1 + 0.2 * np.arange(2))
    assert ds.attrs["acquisition"]["detector"] == "SuperX1"


def random_events(rng, rows, columns, frames, final):
    """Events of a stream, and how often each channel counted in each pixel of each frame."""
    counts = rng.poisson(0.7, (frames, rows, columns, 12))
    events = [[*np.repeat(np.arange(12), pixel), NEXT] for pixel in counts.reshape(-1, 12)]
    stream = np.concatenate(events)
    return stream if final else stream[:-1], counts


@pytest.mark.parametrize("final", [True, False])
def test_frames_and_detectors_of_eds_are_added_up_or_not(h5, final):
    rng = np.random.default_rng(0)
    (one, first), (two, second) = (random_events(rng, 5, 4, 3, final) for _ in range(2))
    write_eds(h5, [one, two], width=4, height=5, frames=3)
    together = first + second
    assert_array_equal(emio.imload(h5).image, together.sum(0))
    image = emio.imload(h5, sum_frames=False, chunks={"y": 2}).image
    assert image.dims == ("t", "y", "x", "c")
    assert image.t.values.tolist() == [0, 0.5, 1]
    assert_array_equal(image, together)
    assert_array_equal(image[1, 1:5:2, ::3, 2:], together[1, 1:5:2, ::3, 2:])
    assert_array_equal(emio.imload(h5, first_frame=1, last_frame=2).image, together[1])
    assert_array_equal(emio.imload(h5, first_frame=1, sum_frames=False).t, [0.5, 1])
    ds = emio.imload(h5, sum_EDS_detectors=False)
    assert_array_equal(ds.image, first.sum(0))
    other = emio.imload(h5, sum_EDS_detectors=False, ds_path=ds.attrs["metadata"]["datasets"][1]["path"])
    assert_array_equal(other.image, second.sum(0))
    rebinned = emio.imload(h5, rebin_energy=4).image
    assert_array_equal(rebinned, together.sum(0).reshape(5, 4, 3, 4).sum(-1))
    assert rebinned.c.values.tolist() == [-235, -195, -155]  # centres
    with dask.config.set(scheduler="processes", num_workers=2):
        assert_array_equal(emio.imload(h5, chunks={"y": 3}).image.compute(), together.sum(0))


def test_eds_of_a_part_of_the_field_has_the_shape_of_the_part(h5):
    stream, counts = random_events(np.random.default_rng(0), 2, 4, 1, False)
    area = {"left": "0.25", "right": "0.5", "top": "0.5", "bottom": "0.625"}
    write_eds(h5, [stream], width=16, height=16, metadata={**EDS, "Scan": {"ScanArea": area}})
    assert_array_equal(emio.imload(h5).image, counts[0])


def test_eds_scans_that_were_aborted_are_blank_at_the_end(h5):
    write_eds(h5, [[3, NEXT, 4, NEXT, 5]], width=2, height=3)
    image = emio.imload(h5).image.values
    assert (image[0, 0, 3], image[0, 1, 4], image[1, 0, 5], image.sum()) == (1, 1, 1, 3)


def test_eds_arguments_that_do_not_fit_are_refused(h5):
    write_eds(h5, [[5] * 300 + [NEXT, 7]], width=2, height=1, frames=2)
    with pytest.raises(ArgumentError, match="rebin_energy=5 does not divide 12 channels"):
        emio.imload(h5, rebin_energy=5)
    with pytest.raises(ArgumentError, match=r"first_frame=2 and last_frame=2 do not fit 2 frames"):
        emio.imload(h5, first_frame=2)
    with pytest.raises(ArgumentError, match="SI_dtype must be a type of numbers"):
        emio.imload(h5, SI_dtype="text")
    with pytest.raises(StorageError, match='300 counts, more than uint8 can hold: pass SI_dtype="uint32"'):
        emio.imload(h5, SI_dtype="u1", chunks=None)
    assert emio.imload(h5, SI_dtype="f4").image.values[0, 0, 5] == 300


def test_damaged_eds_streams_are_errors(h5):
    write_eds(h5, [[5, 12, NEXT, 7]], width=2, height=1)
    with pytest.raises(StorageError, match="an event of channel 12, and there are 12"):
        emio.imload(h5, chunks=None)
    write_velox(h5, [(counts(4, 5, 1), VELOX)])
    add_velox_stream(h5, [1, 2], 0, 10**9, 12, EDS)
    with pytest.warns(EmioWarning, match="does not say how it was scanned"):
        assert emio.imload(h5).image.dims == ("y", "x")


# NeXus ---------------------------------------------------------------------------------------------------------------


def test_nexus_axes_are_taken_as_they_are(h5):
    axes = {"yaxis": (0, [5.0, 4, 3], "mm"), "xaxis": (1, [0.0, 1, 4, 9], "mm")}
    write_nexus(h5, [("scan", counts(3, 4, 5, 6), axes, "image")])
    ds = emio.imload(h5)
    assert ds.image.dims == ("y", "x", "v", "u")
    assert ds.y.values.tolist() == [5, 4, 3]  # decreasing, not turned round
    assert ds.x.values.tolist() == [0, 1, 4, 9]
    assert ds.x.attrs["units"] == "mm"


def test_nexus_spectra_and_default(h5):
    energy = {"energy": (2, np.arange(5) * 0.5 + 1, "keV")}
    signals = [("big", counts(9, 9, 9), {}, None), ("small", counts(3, 4, 5), energy, None)]
    assert emio.imload(write_nexus(h5, signals)).image.shape == (9, 9, 9)
    ds = emio.imload(write_nexus(h5, signals, default="small"))
    assert ds.image.dims == ("y", "x", "c")
    assert ds.c.attrs["units"] == "keV"
    assert [d["name"] for d in ds.attrs["metadata"]["datasets"]] == ["small", "big"]


# DECTRIS -------------------------------------------------------------------------------------------------------------


def test_dectris_data_files_are_one_scan(tmp_path):
    frames = counts(12, 5, 6, dtype="u4") + (1 << 20)
    master = write_dectris(tmp_path, [frames[:5], frames[5:10], frames[10:]], scan=(3, 4), pixel_size=0.5)
    ds = emio.imload(master)
    assert ds.image.dims == ("y", "x", "v", "u")
    assert ds.image.dtype == np.uint32
    assert_array_equal(ds.image, frames.reshape(3, 4, 5, 6))
    assert_array_equal(ds.image.isel(y=slice(1, None), x=[3, 0]), frames.reshape(3, 4, 5, 6)[1:, [3, 0]])
    assert ds.x.values.tolist() == [0, 0.5, 1, 1.5]
    assert set(ds.coords) == {"y", "x"}
    assert ds.attrs["acquisition"]["beam_energy"] == 200
    with dask.config.set(scheduler="processes", num_workers=2):
        assert_array_equal(ds.image.compute(), frames.reshape(3, 4, 5, 6))


def test_dectris_without_a_scan_is_a_stack(tmp_path):
    frames = counts(12, 5, 6)
    master = write_dectris(tmp_path, [frames[:7], frames[7:]])
    assert emio.imload(master).image.dims == ("i", "y", "x")
    assert_array_equal(emio.imload(master, nav_shape=(2, 6)).image, frames.reshape(2, 6, 5, 6))
    assert_array_equal(emio.imload(master, partition=slice(5, 9)).image, frames[5:9])


def test_an_aborted_series_is_blank_at_the_end(tmp_path):
    frames = counts(10, 5, 6)
    with pytest.warns(EmioWarning, match="2 of 12 frames are missing"):
        image = emio.imload(write_dectris(tmp_path, [frames], nimages=12, scan=(3, 4))).image.values
    assert_array_equal(image.reshape(12, 5, 6)[:10], frames)
    assert not image.reshape(12, 5, 6)[10:].any()


def test_masked_pixels_are_repaired_from_their_neighbours(tmp_path):
    frames = counts(12, 5, 6, dtype="u4")
    mask = np.zeros((5, 6), "u4")
    mask[2, 3], mask[0, 0], mask[4, 5] = 1 << 1, 1 << 8, 1 << 31  # dead, masked by the user, interpolated
    frames[:, 2, 3] = frames[:, 0, 0] = 2**32 - 1
    master = write_dectris(tmp_path, [frames[:5], frames[5:]], scan=(3, 4), pixel_mask=mask)
    ds = emio.imload(master)
    expected = counts(12, 5, 6).astype("f8")
    for frame in expected:
        around = frame[1:4, 2:5].copy()
        frame[2, 3] = (around.sum() - around[1, 1]) / 8
        frame[0, 0] = (frame[0, 1] + frame[1, 0] + frame[1, 1]) / 3
    assert_allclose(ds.image, expected.reshape(3, 4, 5, 6))
    assert ds.image.attrs["corrections"] == {"excluded_pixels": 2}
    assert_array_equal(emio.imload(master, corrections=False).image, frames.reshape(3, 4, 5, 6))


@pytest.mark.parametrize(("factors", "applied"), [(2.0, False), (2.0, True), (1.0, False)])
def test_a_flat_field_is_applied_unless_the_detector_has_done_so(tmp_path, factors, applied):
    frames = counts(4, 5, 6)
    flatfield = np.full((5, 6), factors) / (1 + (counts(5, 6) % 2 if factors > 1 else 0))
    ds = emio.imload(write_dectris(tmp_path, [frames], flatfield=(flatfield, applied)))
    if applied or factors == 1:
        assert ds.image.dtype == frames.dtype
        assert_array_equal(ds.image, frames)
    else:
        assert_allclose(ds.image, frames * flatfield)
        assert ds.image.attrs["corrections"] == {"gain": "flatfield"}


def test_a_missing_data_file_is_named(tmp_path):
    master = write_dectris(tmp_path, [counts(2, 5, 6), counts(2, 5, 6)])
    (tmp_path / "run_data_000002.h5").unlink()
    with pytest.raises(MissingFileError, match=r"data_000002.*run_data_000002.h5"):
        emio.imload(master)
    write_plain(tmp_path / "run_data_000002.h5", entry__data__data=counts(2, 6, 6))
    with pytest.raises(HeaderError, match="frames must be equal"):
        emio.imload(master)


# abTEM ---------------------------------------------------------------------------------------------------------------


def test_abtem_arrays(h5):
    units = np.array([b"\xc3\x85"] * 2 + [b"mrad"] * 2)
    write_plain(h5, array=counts(2, 3, 4, 5), sampling=[0.5, 0.25, 2.0, 3.0], units=units, offsets=[0.0, 0, -4, -6])
    ds = emio.imload(h5)
    assert ds.image.dims == ("y", "x", "v", "u")
    assert ds.y.attrs["units"] == "angstrom"
    assert ds.v.values.tolist() == [-4, -2, 0, 2]


# Real files ----------------------------------------------------------------------------------------------------------


def digest(pixels):
    stored = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("<")))
    return hashlib.sha256(stored.tobytes()).hexdigest()


AS_READ = [
    "FFTComplexOdd.emd",
    "Si100_1x1x3-zStart5.43.emd",
    "Si100_3D.emd",
    "example1_v1.0.hdf5",
    "example1_v1.2.hdf5",
    "example2_v3.1.hspy",
    "example_axis_len_1.emd",
    "example_image.emd",
    "example_metadata.emd",
    "example_signal.emd",
    "fei_example_complex_fft.emd",
    "fei_example_tem_stack.emd",
    "hspy_ext_missing.hspy",
    "nexus_dls_example.nxs",
    "none_metadata.hdf5",
    "py4DSTEM_size2x3x4x5.h5",
    "saved_multi_signal.nxs",
    "simple_signal.nxs",
    "test_00_master.h5",
    "test_marker_point_y2_data_deleted.hdf5",
    "with_lists_etc.hdf5",
]
FACTORS = {"1 / µm": ("1/nm", 1e-3), "µm": ("nm", 1e3), "pm": ("nm", 1e-3), "keV": ("eV", 1e3)}  # ours are fixed
SPELLED = {"Å": "angstrom", "1 / Å": "1/angstrom", "1 / nm": "1/nm", "[]": "", None: "", "": ""}


def as_ours(axis):
    unit, factor = FACTORS.get(axis.get("units"), (SPELLED.get(axis.get("units"), axis.get("units")), 1))
    return unit, axis["scale"] * factor, axis["offset"] * factor


@pytest.mark.parametrize("name", AS_READ)
def test_real_files_have_the_pixels_and_axes_that_other_software_reads(real_files, name):
    real = real_files("hdf5")
    signals = real.expected[name]["signals"]
    image = emio.imload(real.path(name)).image
    (signal,) = [s for s in signals if s["sha256"] == digest(image.values)][:1]
    assert str(image.dtype) == signal["dtype"]
    if name == "test_00_master.h5":  # its scan stands in another file
        assert dict(image.sizes) == {"y": 4, "x": 4, "v": 192, "u": 192}
        assert image.y[1] == pytest.approx(0.139152, rel=1e-5)
        return
    assert list(image.shape) == signal["shape"]
    for dim, axis in zip(image.dims, signal["axes"], strict=True):
        unit, step, offset = as_ours(axis)
        if dim not in image.coords:
            assert (unit, step, offset) == ("", 1, 0)
            continue
        assert image[dim].attrs.get("units", "") == unit
        assert float(image[dim][0]) == pytest.approx(offset, rel=1e-6)
        if image.sizes[dim] > 1:
            assert float(image[dim][1] - image[dim][0]) == pytest.approx(step, rel=1e-5)


def test_the_simulated_cube_is_turned_by_its_names(real_files):
    real = real_files("hdf5")
    image = emio.imload(real.path("Si100_4D.emd")).image
    assert image.dims == ("z", "y", "x", "v", "u")
    peer = image.values.transpose(0, 2, 1, 4, 3)
    assert digest(peer) == real.expected["Si100_4D.emd"]["signals"][0]["sha256"]
    assert image.z.attrs["units"] == "angstrom"


def test_real_text_is_refused(real_files):
    with pytest.raises(HeaderError, match="no dataset that could be an image"):
        emio.imload(real_files("hdf5").path("example_object_dtype_data.emd"))


@pytest.mark.parametrize("archive", ["velox_EELS_EDS.zip", "velox_emd_version11.zip"])
def test_every_array_of_real_velox_files(real_files, archive, tmp_path):
    real = real_files("hdf5")
    with zipfile.ZipFile(real.path(archive)) as file:
        file.extractall(tmp_path)
    for name, signals in real.expected[archive]["files"].items():
        known = {s["sha256"]: s for s in signals}
        listed = emio.imload(tmp_path / name).attrs["metadata"]["datasets"]
        found = set()
        for dataset in listed:
            image = emio.imload(tmp_path / name, ds_path=dataset["path"]).image
            if image.dims == ("t", "y", "x"):  # other software shows one frame of a stack
                found |= {digest(frame) for frame in image.values} & set(known)
                continue
            if image.shape == (16, 20, 4096):  # other software takes the whole field's shape, and fills it up
                field = np.zeros((128 * 128, 4096), image.dtype)
                field[: 16 * 20] = image.values.reshape(-1, 4096)
                found |= {digest(field)} & set(known)
                continue
            signal = known[digest(image.values)]
            found.add(signal["sha256"])
            assert list(image.shape) == signal["shape"]
            for dim, axis in zip(image.dims, signal["axes"], strict=True):
                unit, step, offset = as_ours(axis)
                if dim in image.coords:
                    assert image[dim].attrs.get("units", "") == unit
                    assert float(image[dim][0]) == pytest.approx(offset, rel=1e-6, abs=1e-9)
                    assert float(image[dim][1] - image[dim][0]) == pytest.approx(step, rel=1e-6)
        assert found == set(known)
