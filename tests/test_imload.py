"""`imload`: what it opens, and what each of its arguments does."""

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import intake
import numpy as np
import pytest
import xarray as xr

import intake_emio as emio
from intake_emio import imload

from .encoders.blo import write_blo
from .encoders.npy import write_npy
from .encoders.raw import write_raw

PIXELS = (np.arange(3 * 4 * 5 * 5) % 251).astype("u1").reshape(3, 4, 5, 5)
BRIGHT_FIELD = np.arange(12, dtype="u1").reshape(3, 4)
Y, X = np.array([0, 2.5, 5]), np.array([0, 2.0, 4, 6])
CM = np.arange(5) * 0.02


@pytest.fixture
def scan(tmp_path):
    """Scan of 3 x 4 patterns of 5 x 5 pixels, calibrated, with a bright field."""
    return write_blo(
        tmp_path / "scan.blo",
        PIXELS,
        steps=(2.5, 2),
        pixels_per_cm_x100=5000,
        beam_energy=200_000,
        navigator=BRIGHT_FIELD,
    )


@pytest.fixture
def stack(tmp_path):
    """Three frames of 4 x 5 pixels of which nothing is known."""
    return write_npy(tmp_path / "stack.npy", np.arange(60, dtype="u2").reshape(3, 4, 5))


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()


# What it opens -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelled",
    [
        str,
        Path,
        os.path.relpath,
        lambda path: Path(os.path.relpath(path)),
        lambda path: path.as_uri(),
        lambda path: f"file://{path}",
        lambda path: f"local://{path}",
        lambda path: f"{path.parent}//./{path.name}",
    ],
    ids=["str", "Path", "relative", "relative Path", "file URI", "file URL", "local URL", "untidy"],
)
def test_paths_and_file_urls_are_the_same_file(scan, spelled):
    ds = imload(spelled(scan))
    assert ds.attrs["uri"] == str(scan)
    np.testing.assert_array_equal(ds.image, PIXELS)


def test_the_home_folder_is_expanded(scan, monkeypatch):
    monkeypatch.setenv("HOME", str(scan.parent))
    assert imload("~/scan.blo").attrs["uri"] == str(scan)


def test_a_file_uri_may_have_escaped_characters(tmp_path):
    path = write_npy(tmp_path / "a b ü#1.npy", PIXELS)
    np.testing.assert_array_equal(imload(path.as_uri()).image, PIXELS)
    np.testing.assert_array_equal(imload(path).image, PIXELS)


def test_a_url_of_any_file_system_is_opened_lazily(scan, memory):
    memory.pipe("/lab/scan.blo", scan.read_bytes())
    ds = imload("memory://lab/scan.blo")
    assert (ds.attrs["uri"], ds.attrs["format"]) == ("memory://lab/scan.blo", "blo")
    assert ds.image.chunks is not None
    xr.testing.assert_equal(ds.compute(), imload(scan).compute())
    np.testing.assert_array_equal(
        imload("memory://lab/scan.blo", chunks=None, partition={"x": [3, 0]}).image, PIXELS[:, [3, 0]]
    )


def test_a_chain_of_file_systems_is_opened(scan, tmp_path):
    with zipfile.ZipFile(tmp_path / "lab.zip", "w") as archive:
        archive.write(scan, "2024/scan.blo")
    np.testing.assert_array_equal(imload(f"zip://2024/scan.blo::{tmp_path / 'lab.zip'}").image, PIXELS)


def test_storage_options_reach_the_file_system(scan, tmp_path):
    with zipfile.ZipFile(tmp_path / "lab.zip", "w") as archive:
        archive.write(scan, "scan.blo")
    ds = imload("zip://scan.blo", storage_options={"fo": str(tmp_path / "lab.zip")})
    np.testing.assert_array_equal(ds.image, PIXELS)


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    path = write_npy(tmp_path / "frame_{i}[1]*.npy", PIXELS)
    np.testing.assert_array_equal(imload(path).image, PIXELS)


def test_a_source_is_used_as_it_is(scan):
    source = intake.open_emio_blo(scan, chunks={"t": 1}, metadata={"axes": "tcyx"})
    ds = imload(source)
    assert "".join(ds.image.dims) == "tcyx"
    assert ds.image.data.chunksize == (1, 4, 5, 5)


def test_chunks_and_partition_count_for_a_source(scan):
    source = intake.open_emio_blo(scan, chunks={"y": 1})
    assert imload(source, chunks="frame").image.data.chunksize == (1, 1, 5, 5)
    np.testing.assert_array_equal(imload(source, partition={"x": 2}).image, PIXELS[:, 2])
    assert imload(source, chunks=None).image.chunks is None
    assert imload(source).image.data.chunksize == (1, 4, 5, 5)


def test_other_arguments_are_too_late_for_a_source(scan):
    with pytest.raises(TypeError, match="nav_shape"):
        imload(intake.open_emio_blo(scan), nav_shape=(2, 6))


@pytest.fixture
def catalog(scan):
    (scan.parent / "catalog.yml").write_text(
        """
sources:
  rows:
    driver: emio
    parameters:
      last: {description: number of rows, type: int, default: 3}
    args: {uri: "{{ CATALOG_DIR }}/scan.blo", nav_shape: ["{{ last }}", 4], chunks: frame}
    metadata: {sample: gold}
"""
    )
    return intake.open_catalog(str(scan.parent / "catalog.yml"))


def test_an_entry_of_a_catalog_is_opened_with_its_parameters(catalog):
    entry = dict(catalog._entries)["rows"]
    np.testing.assert_array_equal(imload(entry).image, PIXELS)
    ds = imload(entry, last=2, partition={"x": 0})
    np.testing.assert_array_equal(ds.image, PIXELS[:2, 0])
    assert ds.attrs["metadata"]["sample"] == "gold"
    assert imload(entry, chunks={"y": 2}).image.data.chunksize == (2, 4, 5, 5)


def test_a_source_from_a_catalog_is_used_as_it_is(catalog):
    assert imload(catalog.rows).image.data.chunksize == (1, 1, 5, 5)
    np.testing.assert_array_equal(imload(catalog.rows, partition=-1).image, PIXELS[-1])
    np.testing.assert_array_equal(imload(catalog.rows(last=1)).image, PIXELS[:1])


@pytest.mark.parametrize("own", [{"partition": {"x": 2}}, {"chunks": {"x": 1}}])
def test_a_source_from_a_catalog_keeps_its_parameters(catalog, own):
    assert imload(catalog.rows(last=2), **own).sizes["y"] == 2


@pytest.mark.parametrize("uri", [None, 3, b"scan.blo", [1.0, 2.0], {}])
def test_what_is_no_uri_is_refused(uri):
    with pytest.raises((ValueError, TypeError)):
        imload(uri)


@pytest.mark.parametrize("url", ["memory://lab/none.blo", "none.blo", "/none/none.blo", "file:///none.npy"])
def test_a_missing_file_is_named(url, memory):
    with pytest.raises(FileNotFoundError, match=r"none\.") as caught:
        imload(url)
    assert isinstance(caught.value, emio.EmioError)


def test_an_unknown_protocol_is_refused_by_name():
    with pytest.raises(emio.EmioError, match="none"):
        imload("none://lab/scan.blo")


# What comes back -----------------------------------------------------------------------------------------------------


def test_the_dataset_is_lazy_and_labelled(scan):
    ds = imload(scan)
    assert isinstance(ds, xr.Dataset)
    assert set(ds.data_vars) == {"image", "navigator"}
    assert all(variable.chunks is not None for variable in ds.data_vars.values())
    assert (ds.image.dims, ds.image.dtype) == (("y", "x", "v", "u"), np.uint8)
    for axis, values, units in (("y", Y, "nm"), ("x", X, "nm"), ("v", CM, "cm"), ("u", CM, "cm")):
        np.testing.assert_allclose(ds.coords[axis], values)
        assert ds.coords[axis].attrs == {"units": units}


def test_without_calibration_there_are_no_coordinates(stack):
    ds = imload(stack)
    assert (ds.image.dims, dict(ds.coords)) == (("i", "y", "x"), {})


def test_the_attributes_say_what_is_known_in_json(scan):
    attrs = imload(scan).attrs
    assert set(attrs) == {"uri", "format", "metadata", "acquisition"}
    assert json.loads(json.dumps(attrs)) == attrs
    metadata = attrs["metadata"]
    assert (metadata["axes"], metadata["shape"], metadata["dtype"]) == ("yxvu", [3, 4, 5, 5], "uint8")
    assert metadata["fileheader"]["Beam_energy"] == 200_000
    assert attrs["acquisition"]["beam_energy"] == 200.0


def test_a_loaded_dataset_travels_by_its_file_name(scan):
    ds = imload(scan)
    state = pickle.dumps(ds)
    assert str(scan).encode() in state
    assert len(state) < 20_000
    xr.testing.assert_identical(pickle.loads(state).compute(), ds.compute())


def test_a_real_blockfile_has_nm_in_the_scan_and_cm_on_the_camera(real_files):
    files = real_files("blo")
    ds = imload(files.path("test1.blo"))
    assert ds.image.dims == ("y", "x", "v", "u")
    assert [ds.coords[axis].attrs["units"] for axis in "yxvu"] == ["nm", "nm", "cm", "cm"]


def test_metadata_only_is_what_discover_says_and_touches_no_pixel(scan, monkeypatch):
    def touched(*_: Any) -> None:
        raise AssertionError("pixels were read")

    monkeypatch.setattr("intake_emio.frames.frames.Frames.read", touched)
    found = imload(scan, metadata_only=True, chunks="frame", partition={"y": slice(2)})
    assert found == intake.open_emio(scan, chunks="frame", partition={"y": slice(2)}).discover()
    assert set(found) == {"dtype", "shape", "npartitions", "metadata"}
    assert (tuple(found["shape"]), found["npartitions"], found["metadata"]["axes"]) == ((2, 4, 5, 5), 8, "yxvu")


def test_metadata_only_of_a_source(scan):
    assert imload(intake.open_emio_blo(scan), metadata_only=True)["metadata"]["spacing"]["y"] == 2.5


# partition -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", ["auto", "frame", None])
@pytest.mark.parametrize(
    ("partition", "index", "dims"),
    [
        (1, 1, "xvu"),
        (-1, -1, "xvu"),
        (np.int64(2), 2, "xvu"),
        (slice(1, 3), slice(1, 3), "yxvu"),
        (slice(None, None, 2), slice(None, None, 2), "yxvu"),
        (slice(-2, None), slice(-2, None), "yxvu"),
        (slice(None, None, -1), slice(None, None, -1), "yxvu"),
        (slice(1, 100), slice(1, 100), "yxvu"),
        ([2, 0], [2, 0], "yxvu"),
        ((0, 2), [0, 2], "yxvu"),
        ([-1, 0, -1], [-1, 0, -1], "yxvu"),
        (np.array([1]), [1], "yxvu"),
        ({"x": 2}, (slice(None), 2), "yvu"),
        ({"y": [2, 0], "x": slice(1, 3)}, ([2, 0], slice(1, 3)), "yxvu"),
        ({"y": 1, "v": slice(0, 5, 2)}, (1, slice(None), slice(0, 5, 2)), "xvu"),
        ({"u": 4}, (..., 4), "yxv"),
        ({"y": 0, "v": 3}, (0, slice(None), 3), "xu"),
        ({}, ..., "yxvu"),
        (None, ..., "yxvu"),
    ],
)
def test_a_partition_is_a_part_of_the_image(scan, partition, index, dims, chunks):
    ds = imload(scan, partition, chunks=chunks)
    assert "".join(ds.image.dims) == dims
    np.testing.assert_array_equal(ds.image, PIXELS[index])


@pytest.mark.parametrize("partition", [{"y": 1, "x": 2}, {"y": 1, "x": 2, "v": 3, "u": 4}])
@pytest.mark.parametrize("chunks", ["auto", None])
def test_one_pattern_of_a_scan_and_one_pixel_of_a_pattern_can_be_picked(scan, partition, chunks):
    ds = imload(scan, partition, chunks=chunks)
    np.testing.assert_array_equal(ds.image, PIXELS[tuple(partition.values())])
    assert ds.navigator.values == BRIGHT_FIELD[1, 2]


def test_lists_along_several_axes_are_taken_each_on_its_own(scan):
    ds = imload(scan, {"y": [2, 0], "u": [4, 1, 0]})
    np.testing.assert_array_equal(ds.image, PIXELS[[2, 0]][..., [4, 1, 0]])


def test_a_number_leaves_a_scalar_coordinate_with_its_units(scan):
    ds = imload(scan, {"y": 1})
    assert ds.coords["y"].shape == ()
    assert (float(ds.y), ds.y.attrs["units"]) == (2.5, "nm")


def test_a_number_leaves_nothing_of_an_axis_without_coordinates(stack):
    assert dict(imload(stack, 1).coords) == {}


@pytest.mark.parametrize(
    ("partition", "expected"),
    [
        ([3, 1], [6, 2]),
        (slice(1, None, 2), [2, 6]),
        (slice(None, None, -1), [6, 4, 2, 0]),
        ([2], [4]),
        ([1, 1], [2, 2]),
    ],
)
def test_a_partition_keeps_the_coordinates_of_what_it_picks(scan, partition, expected):
    ds = imload(scan, {"x": partition})
    np.testing.assert_allclose(ds.x, expected)
    assert ds.x.attrs["units"] == "nm"


def test_a_partition_goes_for_all_variables(scan):
    np.testing.assert_array_equal(imload(scan, {"y": [2, 0], "x": 1}).navigator, BRIGHT_FIELD[[2, 0], 1])


def test_a_partition_is_along_the_first_axis_of_the_output(scan):
    ds = imload(scan, 2, output_axis_order="uyxv")
    assert ds.image.dims == ("y", "x", "v")
    np.testing.assert_array_equal(ds.image, PIXELS[..., 2])


def test_the_metadata_are_those_of_the_part(scan):
    metadata = imload(scan, {"y": 0, "x": slice(1, 3)}).attrs["metadata"]
    assert (metadata["axes"], metadata["shape"]) == ("xvu", [2, 5, 5])


def test_only_the_wanted_frames_are_read(tmp_path):
    path = tmp_path / "larger_than_memory.raw"
    frame = np.arange(12, dtype="u2").reshape(3, 4)
    with open(path, "wb") as file:
        file.truncate(24 << 36)
        file.seek(24 << 35)
        file.write(frame.tobytes())
    ds = imload(path, 1 << 35, chunks=None, dtype="u2", sig_shape=(3, 4))
    np.testing.assert_array_equal(ds.image, frame)


@pytest.mark.parametrize(
    ("partition", "named"),
    [(3, "3"), (-4, "-4"), ([0, 3], "3"), ({"x": 4}, "4"), ({"y": 0, "u": [5]}, "5"), (10**20, "1000")],
)
def test_a_partition_out_of_range_is_an_index_error_that_names_axis_and_length(scan, partition, named):
    axis = "y" if not isinstance(partition, dict) else list(partition)[-1]
    size = {"y": 3, "x": 4, "u": 5}[axis]
    with pytest.raises(IndexError, match=rf"{named}.*'{axis}'.*{size}"):
        imload(scan, partition)


@pytest.mark.parametrize("partition", [{"t": 0}, "first", 1.5, [0.5], True, "1:2:3:4", {"y": "all"}])
def test_a_partition_that_makes_no_sense_is_refused(scan, partition):
    with pytest.raises(emio.EmioError, match="partition"):
        imload(scan, partition)


@pytest.mark.parametrize("partition", [slice(3, 3), slice(2, 1), [], {"x": slice(4, None)}])
def test_a_partition_with_nothing_in_it_is_refused(scan, partition):
    with pytest.raises(IndexError, match="empty"):
        imload(scan, partition)


# metadata ------------------------------------------------------------------------------------------------------------


def test_axes_are_renamed_position_by_position_with_their_calibration(scan):
    ds = imload(scan, metadata={"axes": "tcxy"})
    assert ds.image.dims == ("t", "c", "x", "y")
    assert ds.navigator.dims == ("t", "c")
    np.testing.assert_array_equal(ds.image, PIXELS)
    np.testing.assert_allclose(ds.t, Y)
    np.testing.assert_allclose(ds.x, CM)
    assert (ds.c.attrs["units"], ds.x.attrs["units"]) == ("nm", "cm")
    assert ds.attrs["metadata"]["axes"] == "tcxy"


def test_axes_may_change_places(scan):
    ds = imload(scan, metadata={"axes": "xyuv"})
    assert (ds.image.dims, ds.image.shape, ds.navigator.dims) == (("x", "y", "u", "v"), (3, 4, 5, 5), ("x", "y"))
    np.testing.assert_allclose(ds.x, Y)


def test_axes_are_renamed_before_they_are_ordered_and_calibrated(stack):
    ds = imload(
        stack, metadata={"axes": "tyx", "spacing": {"t": 0.5}, "spacing_units": {"t": "s"}}, output_axis_order="xt"
    )
    assert ds.image.dims == ("x", "t", "y")
    np.testing.assert_allclose(ds.t, [0, 0.5, 1])
    assert ds.t.attrs["units"] == "s"


@pytest.mark.parametrize("axes", ["yx", "yxvuc", "yxvv", "yx1u", "", "y xv", ["y", "x", "v", "u"], 4])
def test_axes_must_be_as_many_unique_letters(scan, axes):
    with pytest.raises(ValueError, match="axes"):
        imload(scan, metadata={"axes": axes})


def test_spacing_wins_over_the_file_and_keeps_its_units(scan):
    ds = imload(scan, metadata={"spacing": {"y": 10, "u": "0.5"}})
    np.testing.assert_allclose(ds.y, [0, 10, 20])
    np.testing.assert_allclose(ds.u, [0, 0.5, 1, 1.5, 2])
    np.testing.assert_allclose(ds.x, X)
    assert (ds.y.attrs["units"], ds.u.attrs["units"]) == ("nm", "cm")


def test_units_win_over_the_file_and_keep_its_spacing(scan):
    ds = imload(scan, metadata={"spacing_units": {"y": "µm", "x": None}})
    np.testing.assert_allclose(ds.y, Y)
    assert (ds.y.attrs["units"], "units" in ds.x.attrs) == ("µm", False)


def test_coordinates_win_over_spacing(scan):
    ds = imload(scan, metadata={"spacing": {"y": 10}, "coords": {"y": [1, 5, 25], "x": list("abcd")}})
    np.testing.assert_array_equal(ds.y, [1, 5, 25])
    assert ds.x.values.tolist() == ["a", "b", "c", "d"]
    assert ds.y.attrs["units"] == "nm"


@pytest.mark.parametrize("what", ["spacing", "coords"])
def test_none_removes_the_calibration_of_an_axis(scan, what):
    ds = imload(scan, metadata={what: {"y": None, "u": None}})
    assert set(ds.coords) == {"x", "v"}


def test_coordinates_are_listed_in_the_attributes(scan):
    metadata = imload(scan, metadata={"coords": {"y": [1, 5, 25]}}).attrs["metadata"]
    assert metadata["coords"] == {"y": [1, 5, 25]}
    assert "y" not in metadata["spacing"]


@pytest.mark.parametrize(
    "metadata",
    [
        {"spacing": {"t": 1}},
        {"spacing_units": {"t": "s"}},
        {"coords": {"t": [1]}},
        {"axes": "tyvu", "spacing": {"x": 1}},
        {"spacing": {"y": 0}},
        {"spacing": {"y": "wide"}},
        {"spacing": 2.5},
        {"spacing": [2.5, 2.5]},
        {"spacing_units": "nm"},
        {"coords": {"y": [1, 2]}},
        {"coords": {"y": 5}},
        {"coords": {"y": [[1], [2], [3]]}},
    ],
)
def test_metadata_that_do_not_fit_are_refused(scan, metadata):
    with pytest.raises(ValueError, match=list(metadata)[-1]):
        imload(scan, metadata=metadata)


def test_metadata_that_are_no_mapping_are_refused_by_name(scan):
    with pytest.raises(emio.EmioError, match="metadata"):
        imload(scan, metadata="yxvu")


def test_units_for_an_axis_without_spacing_are_refused_rather_than_lost(stack):
    with pytest.raises(ValueError, match=r"spacing.*'y'"):
        imload(stack, metadata={"spacing_units": {"y": "nm"}})


# output_axis_order ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", ["auto", "frame", None])
@pytest.mark.parametrize(
    ("order", "dims"),
    [
        (None, "yxvu"),
        ("yxvu", "yxvu"),
        ("uvxy", "uvxy"),
        ("u", "uyxv"),
        ("vu", "vuyx"),
        ("itczyx", "yxvu"),
        ("xiy", "xyvu"),
        ("t", "yxvu"),
    ],
)
def test_axes_are_ordered_and_the_others_follow(scan, order, dims, chunks):
    ds = imload(scan, output_axis_order=order, chunks=chunks)
    assert "".join(ds.image.dims) == dims
    np.testing.assert_array_equal(ds.image, PIXELS.transpose(["yxvu".index(axis) for axis in dims]))
    np.testing.assert_allclose(ds.y, Y)


def test_the_order_goes_for_all_variables(scan):
    ds = imload(scan, output_axis_order="xvuy")
    assert ds.navigator.dims == ("x", "y")
    np.testing.assert_array_equal(ds.navigator, BRIGHT_FIELD.T)
    assert ds.attrs["metadata"]["axes"] == "xvuy"


@pytest.mark.parametrize("order", ["yy", "y-x", "12"])
def test_an_order_must_be_unique_letters(scan, order):
    with pytest.raises(ValueError, match="letters"):
        imload(scan, output_axis_order=order)


# chunks --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ("frame", ((1, 1, 1), (1, 1, 1, 1), (5,), (5,))),
        (2, ((2, 1), (2, 2), (2, 2, 1), (2, 2, 1))),
        (100, ((3,), (4,), (5,), (5,))),
        ({"y": 2}, ((2, 1), (4,), (5,), (5,))),
        ({"y": 1, "x": 3, "v": -1, "u": None}, ((1, 1, 1), (3, 1), (5,), (5,))),
        ({"x": (1, 3)}, ((3,), (1, 3), (5,), (5,))),
        ({}, ((3,), (4,), (5,), (5,))),
        ((1, 2, -1, -1), ((1, 1, 1), (2, 2), (5,), (5,))),
        ([3, 2, 5, 5], ((3,), (2, 2), (5,), (5,))),
        (((1, 2), 2, None, (4, 1)), ((1, 2), (2, 2), (5,), (4, 1))),
    ],
)
def test_chunks_are_as_asked_for_and_change_no_value(scan, chunks, expected):
    ds = imload(scan, chunks=chunks)
    assert ds.image.chunks == expected
    assert ds.navigator.chunks is not None
    np.testing.assert_array_equal(ds.image, PIXELS)
    np.testing.assert_array_equal(ds.navigator, BRIGHT_FIELD)


def test_no_chunks_load(scan):
    ds = imload(scan, chunks=None)
    assert ds.image.chunks is None
    assert ds.navigator.chunks is None
    np.testing.assert_array_equal(ds.image, PIXELS)


def test_automatic_chunks_are_whole_frames(tmp_path):
    path = tmp_path / "scan.raw"
    with open(path, "wb") as file:
        file.truncate(256 * 256 * 128 * 128)
    image = imload(path, dtype="u1", sig_shape=(128, 128), nav_shape=(256, 256)).image
    assert image.data.chunksize[2:] == (128, 128)
    assert 1 << 22 <= np.prod(image.data.chunksize) <= 1 << 28


def test_a_frame_is_a_frame_whatever_the_order_of_the_axes(scan):
    assert imload(scan, chunks="frame", output_axis_order="vyux").image.data.chunksize == (5, 1, 5, 1)


def test_chunks_by_axis_follow_the_order_of_the_output(scan):
    assert imload(scan, chunks=(5, 1, 2, 5), output_axis_order="uyxv").image.data.chunksize == (5, 1, 2, 5)
    assert imload(scan, chunks={"t": 2}, metadata={"axes": "tcyx"}).image.data.chunksize == (2, 4, 5, 5)


@pytest.mark.parametrize(
    "chunks", [0, -3, 1.5, "large", True, (1, 2), {"z": 1}, {"y": 0}, {"y": "many"}, {"y": (1, 1)}, {"x": (4, 0)}]
)
def test_chunks_that_do_not_fit_are_refused(scan, chunks):
    with pytest.raises(ValueError, match="chunks"):
        imload(scan, chunks=chunks)


# Arguments of the readers --------------------------------------------------------------------------------------------

FRAMES = np.repeat(np.array([1, 2, 3, 4], "u1"), 4).reshape(4, 2, 2)  # A B C D


@pytest.mark.parametrize(
    ("arguments", "points"),
    [
        ({"nav_shape": (2, 2)}, [[1, 2], [3, 4]]),
        ({"nav_shape": (3,)}, [1, 2, 3]),
        ({"nav_shape": (2, 2), "sync_offset": 1}, [[2, 3], [4, 0]]),
        ({"nav_shape": (2, 2), "sync_offset": -1}, [[0, 1], [2, 3]]),
        ({"sync_offset": 1}, [2, 3, 4]),
        ({"sync_offset": -2}, [0, 0, 1, 2, 3, 4]),
    ],
)
def test_frames_are_arranged_skipped_and_inserted(tmp_path, arguments, points):
    path = write_raw(tmp_path / "abcd.raw", FRAMES)
    image = imload(path, dtype="u1", sig_shape=(2, 2), **arguments).image
    np.testing.assert_array_equal(image[..., 0, 0], points)
    np.testing.assert_array_equal(image[..., 1, 1], points)


def test_points_behind_the_last_frame_are_blank_and_counted_in_a_warning(tmp_path):
    path = write_raw(tmp_path / "abcd.raw", FRAMES)
    with pytest.warns(emio.EmioWarning, match=r"abcd\.raw: 2 of 6"):
        image = imload(path, dtype="u1", sig_shape=(2, 2), nav_shape=(2, 3)).image
    np.testing.assert_array_equal(image[..., 0, 0], [[1, 2, 3], [4, 0, 0]])


@pytest.mark.parametrize("backend", ["mmap", "buffered", "direct", None])
@pytest.mark.parametrize("chunks", ["auto", "frame", None])
def test_all_backends_read_the_same(scan, backend, chunks):
    np.testing.assert_array_equal(imload(scan, io_backend=backend, chunks=chunks).image, PIXELS)


def test_an_unknown_backend_is_refused(scan):
    with pytest.raises(ValueError, match=r"mmap.*buffered.*direct.*'fast'"):
        imload(scan, io_backend="fast")


def test_a_format_can_be_named(scan):
    assert imload(scan, format="raw", dtype="u1", sig_shape=(4,)).attrs["format"] == "raw"
    with pytest.raises(ValueError, match=r"'tif5'.*blo.*npy"):
        imload(scan, format="tif5")


def test_an_unknown_argument_is_a_type_error_that_names_the_allowed_ones(scan):
    with pytest.raises(TypeError, match=r"scan\.blo.*'gamma'.*nav_shape.*partition"):
        imload(scan, gamma=2)
