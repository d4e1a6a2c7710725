"""The xarray engine `emio`: guessing, laziness with and without dask, the same Dataset as `imload`."""

import io
import os
import pickle
import warnings
from pathlib import Path

import dask
import fsspec
import numpy as np
import pytest
import tifffile
import xarray as xr
from xarray.backends.plugins import guess_engine

import intake_emio as emio
from intake_emio.engine import EmioBackend
from intake_emio.formats import Format
from intake_emio.indexed import pixels_behind

from .encoders.blo import write_blo
from .encoders.npy import write_npy
from .encoders.raw import write_raw

PIXELS = (np.arange(3 * 4 * 5 * 6) % 251).astype("u1").reshape(3, 4, 5, 6)
SQUARE = PIXELS[..., :5]
pytestmark = pytest.mark.filterwarnings("ignore:The specified chunks separate the stored chunks:UserWarning")
RAW = {"dtype": "uint8", "sig_shape": (5, 6), "nav_shape": (3, 4)}


@pytest.fixture
def scan(tmp_path):
    return write_blo(
        tmp_path / "scan.blo", SQUARE, steps=(2.5, 2), pixels_per_cm_x100=5000, navigator=np.arange(12, dtype="u1")
    )


@pytest.fixture
def raw(tmp_path):
    return write_raw(tmp_path / "scan.bin", PIXELS.reshape(12, 5, 6))


def reads_of(monkeypatch):
    """Collect the boxes that are read from frames."""
    from intake_emio.frames.frames import Frames

    boxes = []
    read = Frames.read

    def noted(self, box, out=None):
        boxes.append(box)
        return read(self, box, out)

    monkeypatch.setattr(Frames, "read", noted)
    return boxes


# Guessing ------------------------------------------------------------------------------------------------------------


def test_xarray_opens_a_detector_file_without_being_told_the_engine(scan):
    np.testing.assert_array_equal(xr.open_dataset(scan).image, SQUARE)


@pytest.mark.parametrize("kind", [str, Path])
def test_content_tells_what_is_ours_whatever_the_name(scan, kind):
    hidden = scan.rename(scan.with_suffix(".dat"))
    assert guess_engine(kind(hidden)) == "emio"


def test_what_other_engines_open_is_left_to_them(scan, tmp_path):
    dataset = emio.imload(scan).drop_attrs()
    dataset.to_netcdf(tmp_path / "scan.nc", engine="h5netcdf")
    dataset.to_netcdf(tmp_path / "old.nc", engine="scipy", encoding={"image": {"dtype": "i2"}})
    dataset.to_zarr(tmp_path / "scan.zarr", consolidated=False)
    tifffile.imwrite(tmp_path / "scan.tif", PIXELS[0, 0])
    for name in ("scan.nc", "old.nc", "scan.zarr", "scan.tif"):
        assert not EmioBackend().guess_can_open(str(tmp_path / name)), name
    assert guess_engine(str(tmp_path / "scan.zarr")) == "zarr"
    assert guess_engine(str(tmp_path / "scan.nc")) == "h5netcdf"


@pytest.mark.parametrize(
    ("url", "ours"),
    [
        ("s3://bucket/scan.blo", True),
        ("https://nowhere.invalid/series.SER", True),
        ("zip://scan.mib::/data/scans.zip", True),
        ("https://nowhere.invalid/scan.h5", False),
        ("s3://bucket/scan.zarr", False),
        ("s3://bucket/stack.tif", False),
        ("https://nowhere.invalid/frames.raw", False),
        ("https://nowhere.invalid/scan", False),
    ],
)
def test_a_url_is_guessed_by_its_extension_without_a_request(url, ours, monkeypatch):
    monkeypatch.setattr("intake_emio.frames.files.filesystem", None)
    assert EmioBackend().guess_can_open(url) is ours


def test_guessing_never_raises(tmp_path):
    os.mkfifo(tmp_path / "pipe.blo")  # reading it would wait for a writer
    (tmp_path / "empty.blo").write_bytes(b"")
    (tmp_path / "junk.seq").write_bytes(b"\xff" * 100)
    (tmp_path / "names.xml").write_text("<root><!ENTITY")
    names = ["pipe.blo", "empty.blo", "junk.seq", "names.xml", "none.blo", ".", "nul\0byte", "x" * 5000]
    others = [b"IMGBLO", memoryview(b"IMGBLO"), io.BytesIO(b"IMGBLO"), 3, None, {"a": 1}, xr.Dataset(), SQUARE]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for case in [str(tmp_path / name) for name in names] + others:
            assert EmioBackend().guess_can_open(case) is False


def test_a_broken_format_of_another_package_does_not_stop_guessing(scan, monkeypatch):
    broken = Format("broken", "Broken", "no.such.module", source="Source", recognise="is_broken")
    monkeypatch.setattr("intake_emio.detection.registry", lambda: {"broken": broken})
    assert EmioBackend().guess_can_open(scan) is False


def test_guessing_reads_no_more_than_a_head(scan, monkeypatch):
    from intake_emio.frames.files import File

    counts = []
    read = File.read
    monkeypatch.setattr(File, "read", lambda self, start, count: counts.append(count) or read(self, start, count))
    assert EmioBackend().guess_can_open(scan)
    assert sum(counts) <= 4096


# The same Dataset ----------------------------------------------------------------------------------------------------


def test_the_dataset_is_that_of_imload(scan):
    xr.testing.assert_identical(xr.open_dataset(scan).compute(), emio.imload(scan, chunks=None))


def test_the_dataset_of_every_kind_of_axis_order_is_that_of_imload(raw):
    settings = {**RAW, "metadata": {"axes": "tcyx", "spacing": {"t": 0.5}}, "output_axis_order": "xc", "sync_offset": 1}
    opened, loaded = xr.open_dataset(raw, engine="emio", **settings), emio.imload(raw, chunks=None, **settings)
    assert opened.image.dims == ("x", "c", "t", "y")
    xr.testing.assert_identical(opened.compute(), loaded)


@pytest.mark.parametrize("name", ["test_tvips_2345_000.tvips", "test_tvips_2233_000.tvips"])
def test_per_frame_facts_are_lazy_coordinates(real_files, name):
    path = real_files("tvips").path(name)
    opened, loaded = xr.open_dataset(path), emio.imload(path, chunks=None)
    facts = [c for c in opened.coords if c not in opened.dims]
    assert facts
    xr.testing.assert_identical(opened.compute(), loaded)


def test_arguments_of_the_reader_go_in_directly_or_as_backend_kwargs(raw):
    for given in (RAW, {"backend_kwargs": RAW}, {**RAW, "format": "raw", "partition": {"y": slice(0, 3)}}):
        np.testing.assert_array_equal(xr.open_dataset(raw, engine="emio", **given).image, PIXELS)


def test_dropped_variables_are_not_there(scan):
    assert set(xr.open_dataset(scan, drop_variables="navigator").variables) == {"image", "y", "x", "v", "u"}
    assert set(xr.open_dataset(scan, drop_variables=["image", "u", "none"]).variables) == {"navigator", "y", "x", "v"}


def test_urls_are_opened(scan):
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/scan.blo", scan.read_bytes())
    try:
        for uri in ("memory://bucket/scan.blo", f"file://{scan}"):
            np.testing.assert_array_equal(xr.open_dataset(uri, engine="emio").image, SQUARE)
    finally:
        memory.rm("/bucket", recursive=True)


@pytest.mark.parametrize(("wrong", "says"), [({"gamma": 2}, "'gamma'"), ({"mask_and_scale": False}, "nav_shape")])
def test_an_unknown_argument_is_a_type_error_that_names_the_known_ones(scan, wrong, says):
    with pytest.raises(TypeError, match=says):
        xr.open_dataset(scan, engine="emio", **wrong)


def test_open_files_and_missing_files_are_refused(scan):
    with open(scan, "rb") as file, pytest.raises(TypeError, match="takes a path or a URL"):
        xr.open_dataset(file, engine="emio")
    with pytest.raises(FileNotFoundError, match=r"none\.blo"):
        xr.open_dataset(scan.with_name("none.blo"), engine="emio")


# Lazy without dask ---------------------------------------------------------------------------------------------------


def test_without_chunks_nothing_is_read_and_no_dask_is_involved(scan, monkeypatch):
    boxes = reads_of(monkeypatch)
    opened = xr.open_dataset(scan)
    assert opened.image.chunks is None
    assert not dask.is_dask_collection(opened)
    part = opened.image.isel(y=1, x=slice(1, 3))
    assert boxes == []
    np.testing.assert_array_equal(part, SQUARE[1, 1:3])
    assert boxes == [(slice(1, 2, 1), slice(1, 3, 1), slice(0, 5, 1), slice(0, 5, 1))]


@pytest.mark.parametrize(
    "key",
    [
        (),
        (2,),
        (-1, -2),
        (slice(None), slice(1, None, 2), 3),
        (slice(None, None, -1), ..., slice(4, 1, -2)),
        (..., 0),
        ([2, 0, 0], slice(None), [1, 4]),
        (slice(1, 1),),
        (slice(None), [], 0),
        (np.array([True, False, True]),),
        (1, 2, 3, 4),
    ],
)
def test_indexing_gives_what_numpy_gives_along_each_axis(raw, key):
    opened = xr.open_dataset(raw, engine="emio", **RAW).image
    np.testing.assert_array_equal(opened[key], xr.DataArray(PIXELS)[key])


def test_indexing_point_by_point_gives_what_numpy_gives(raw):
    opened = xr.open_dataset(raw, engine="emio", **RAW).image
    y, x = xr.DataArray([2, 0, 1, 1], dims="point"), xr.DataArray([3, 3, 0, 0], dims="point")
    np.testing.assert_array_equal(opened.isel(y=y, x=x), PIXELS[y, x])


def test_of_scattered_frames_only_those_are_read(raw, monkeypatch):
    boxes = reads_of(monkeypatch)
    opened = xr.open_dataset(raw, engine="emio", **{**RAW, "nav_shape": (12,)}).image
    np.testing.assert_array_equal(opened.isel(i=[0, 11]), PIXELS.reshape(12, 5, 6)[[0, 11]])
    assert [(box[0].start, box[0].stop) for box in boxes] == [(0, 1), (11, 12)]


def test_what_was_read_can_be_changed_and_the_file_stays_as_it_is(raw):
    before = raw.read_bytes()
    opened = xr.open_dataset(raw, engine="emio", **RAW).load()
    opened.image.values[...] = 7
    assert raw.read_bytes() == before


def test_a_lazy_dataset_pickles_small_and_reads_afterwards(scan):
    opened = xr.open_dataset(scan)
    state = pickle.dumps(opened)
    assert len(state) < 10_000
    np.testing.assert_array_equal(pickle.loads(state).image, SQUARE)


# Dask ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ({}, (3, 4, 5, 6)),
        ({"y": 1}, (1, 4, 5, 6)),
        (-1, (3, 4, 5, 6)),
        ("auto", (3, 4, 5, 6)),
        ({"y": 2, "x": 2}, (2, 2, 5, 6)),
    ],
)
def test_chunks_make_dask_arrays(raw, chunks, expected):
    image = xr.open_dataset(raw, engine="emio", chunks=chunks, **RAW).image
    assert image.data.chunksize == expected
    np.testing.assert_array_equal(image, PIXELS)


def test_empty_chunks_are_those_of_imload(tmp_path):
    path = tmp_path / "long.raw"
    with open(path, "wb") as file:
        file.truncate(64 << 20)
    settings = {"dtype": "u2", "sig_shape": (64, 64), "nav_shape": (64, 128)}
    image = xr.open_dataset(path, engine="emio", chunks={}, **settings).image
    assert image.chunks == emio.imload(path, **settings).image.chunks
    assert len(image.chunks[0]) > 1


def test_several_sessions_are_opened_as_one(tmp_path):
    paths = [write_blo(tmp_path / f"session_{k}.blo", SQUARE + np.uint8(k), steps=(2.5, 2)) for k in range(3)]
    opened = xr.open_mfdataset(paths, combine="nested", concat_dim="i")
    assert opened.image.dims == ("i", "y", "x", "v", "u")
    assert opened.image.chunks[0] == (1, 1, 1)
    np.testing.assert_array_equal(opened.image, [SQUARE + np.uint8(k) for k in range(3)])
    np.testing.assert_array_equal(opened.y, [0, 2.5, 5])
    by_glob = xr.open_mfdataset(str(tmp_path / "session_*.blo"), engine="emio", combine="nested", concat_dim="i")
    xr.testing.assert_identical(by_glob.image.compute(), opened.image.compute())


def test_tasks_pickle_small(raw):
    image = xr.open_dataset(raw, engine="emio", chunks={"y": 1}, **RAW).image
    state = pickle.dumps(image.data)
    assert len(state) < 10_000
    np.testing.assert_array_equal(pickle.loads(state).compute(), PIXELS)


# Reductions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [None, {}, {"y": 1}])
def test_reductions_are_fused_with_reading_here_too(raw, chunks, monkeypatch):
    opened = xr.open_dataset(raw, engine="emio", chunks=chunks, **RAW)
    assert pixels_behind(opened.image.variable).shape == PIXELS.shape
    monkeypatch.setattr("xarray.DataArray.sum", None)
    np.testing.assert_array_equal(opened.image.emio.sum("yx"), PIXELS.sum((0, 1)))
    np.testing.assert_array_equal(opened.emio.virtual_image(np.ones((5, 6), "u1")), PIXELS.sum((2, 3)))
    np.testing.assert_array_equal(opened.emio.load().image, PIXELS)


def test_reductions_of_a_selection_read_only_that(raw):
    opened = xr.open_dataset(raw, engine="emio", **RAW).image.isel(y=[2, 0, 2], x=slice(None, None, -2), v=slice(1, 4))
    expected = PIXELS[[2, 0, 2]][:, ::-2, 1:4]
    assert pixels_behind(opened.variable).shape == expected.shape
    np.testing.assert_array_equal(opened.emio.sum("vu"), expected.sum((2, 3)))
    np.testing.assert_array_equal(opened.emio.mean("yx"), expected.mean((0, 1)))


def test_reductions_of_what_was_read_or_computed_are_plain(raw):
    opened = xr.open_dataset(raw, engine="emio", **RAW).image
    for image in (opened + 1, opened.transpose("u", "v", "x", "y"), opened.compute(), xr.DataArray(PIXELS)):
        assert pixels_behind(image.variable) is None
        np.testing.assert_array_equal(image.emio.sum(), image.values.sum())


def test_stacks_of_numpy_files_are_guessed(tmp_path):
    np.testing.assert_array_equal(xr.open_dataset(write_npy(tmp_path / "stack.npy", PIXELS[0])).image, PIXELS[0])
