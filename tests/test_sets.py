"""Images split into sets of files, and sets of files read as one image."""

import os
import pickle
import warnings
from pathlib import Path

import dask
import dask.array as da
import fsspec
import intake
import numpy as np
import pytest
import xarray as xr

import intake_emio as emio
from intake_emio import imload, imsave
from intake_emio.errors import (
    ArgumentError,
    EmioError,
    EmioWarning,
    HeaderError,
    MissingFileError,
    TargetExistsError,
    UnknownArgumentError,
)
from intake_emio.formats import registry

RECORDING = sorted(
    extension for entry in registry().values() for writer in entry.writers if writer.records
    for extension in writer.extensions[:1] if extension != ".mrc"
)  # fmt: skip
"""Formats that keep our account of the image; the labels of MRC files have room for a small part of it only."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def scan(shape=(3, 2, 4, 5), dtype="u2"):
    """A calibrated scan whose every coordinate is of another kind."""
    y, x, v, _ = shape
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    return xr.Dataset(
        {"image": (tuple("yxvu"), pixels, {"note": "bright"})},
        {
            "y": ("y", np.arange(y) * 12.8, {"units": "nm"}),
            "x": ("x", np.arange(x) * 12.8 - 3, {"units": "nm"}),
            "v": ("v", np.arange(v) * 0.1, {"units": "1/nm"}),
        },
        {"acquisition": {"beam_energy": 200.0}, "who": "me"},
    )


def series(extension):
    """The same, with other names of the axes where a format knows but t, z, c, y and x; and the axes of a frame."""
    if not extension.startswith(".ome"):
        return scan(), "vu"
    return scan().rename(dict(zip("yxvu", "tzyx", strict=True))), "yx"


def names(folder="."):
    return sorted(name for name in os.listdir(folder))


def quietly(*args, **kwargs):
    """Save in a format that does not keep everything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmioWarning)
        return imsave(*args, **kwargs)


def frames(folder, names, shape=(4, 5)):
    """NumPy files of these names, filled with their number."""
    for number, name in enumerate(names):
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.full(shape, number, "u1"))


# Splitting -----------------------------------------------------------------------------------------------------------


def test_each_frame_becomes_a_file_named_after_its_coordinates(folder):
    ds = scan()
    written = quietly(ds, "frames.npy", partition="vu")
    expected = [f"frames.y_{y}.x_{x}.npy" for y in ("00.0", "12.8", "25.6") for x in ("-3.0", "9.8")]
    assert [os.path.basename(path) for path in written] == expected
    np.testing.assert_array_equal(np.load(expected[3]), ds.image.values[1, 1])


def test_axes_in_a_file_are_in_the_order_of_the_partition(folder):
    image = xr.DataArray(np.arange(24).reshape(2, 3, 4), dims=tuple("cyx"))
    quietly(image, "a.npy", partition="xy")
    assert names() == ["a.c_0.npy", "a.c_1.npy"]
    np.testing.assert_array_equal(np.load("a.c_1.npy"), image.values[1].T)


def test_axes_that_an_image_lacks_are_ignored(folder):
    image = xr.DataArray(np.zeros((2, 3, 4)), dims=tuple("iyx"))
    assert [os.path.basename(path) for path in quietly(image, "a.npy", partition="tzyx")] == ["a.i_0.npy", "a.i_1.npy"]


def test_outer_axes_are_named_in_the_order_of_the_image(folder):
    image = xr.DataArray(np.zeros((2, 3, 4, 5)), dims=tuple("cixy"), coords={"c": ["b", "a"]})
    quietly(image, "a.npy", partition="yx")
    assert "a.c_b.i_2.npy" in names()


def test_nothing_is_split_where_all_axes_fit(folder):
    quietly(scan(), "a.npy", partition="yxvu")
    assert names() == ["a.npy"]


def test_names_can_have_indices(folder):
    ds = scan()
    imsave(ds, "a.zarr", partition="vu", labels="index")
    assert "a.y_2.x_1.zarr" in names()
    xr.testing.assert_identical(imload("a.*.zarr").load().drop_attrs(), ds.drop_attrs())


def test_each_variable_is_split_on_its_own(folder):
    ds = scan().assign(navigator=(("y", "x"), np.arange(6, dtype="u1").reshape(3, 2)), map=(("y",), np.arange(3.0)))
    imsave(ds, "s.zarr", partition="xvu")
    assert names() == [
        *(f"s.var_image.y_{y}.zarr" for y in ("00.0", "12.8", "25.6")),
        "s.var_map.zarr",
        *(f"s.var_navigator.y_{y}.zarr" for y in ("00.0", "12.8", "25.6")),
    ]
    xr.testing.assert_equal(imload("s.*.zarr"), ds)


@pytest.mark.parametrize(
    ("partition", "says"),
    [("vv", "unique"), ("tz", "names none"), ("", "axes"), ("v,u", "letters")],
)
def test_a_partition_that_makes_no_sense_is_refused(folder, partition, says):
    with pytest.raises(ArgumentError, match=says):
        imsave(scan(), "a.npy", partition=partition)
    assert names() == []


def test_axes_that_a_format_cannot_hold_together_are_refused(folder):
    image = xr.DataArray(np.zeros((2, 3, 4, 5, 5), "u1"), dims=tuple("iyxvu"))
    with pytest.raises(ArgumentError, match=r"\.blo files cannot hold the axes 'ixyvu'|cannot hold"):
        imsave(image.transpose(*"xiyvu"), "a.blo", partition="ixyvu")
    assert names() == []


@pytest.mark.parametrize("partition", ["ityx", "tiyx"])
def test_that_holds_for_all_axes_of_an_image_too(folder, partition):
    image = xr.DataArray(np.zeros((2, 3, 4, 5), "u1"), dims=tuple("ityx"))
    with pytest.raises(ArgumentError, match=r"\.mrc files cannot hold"):
        imsave(image, "a.mrc", partition=partition)
    assert names() == []


def test_coordinates_that_are_not_written_are_not_read(folder):
    def read(block):
        raise AssertionError("a coordinate was computed")

    lazy = da.zeros(3, chunks=1).map_blocks(read, dtype="f8", meta=np.empty(0))
    image = xr.DataArray(np.zeros((3, 4, 5)), dims=tuple("iyx"), coords={"exposure": ("i", lazy)})
    quietly(image, "a.npy")
    assert names() == ["a.npy"]


def test_members_of_a_set_can_be_added(folder):
    quietly(xr.DataArray(np.zeros((1, 4, 5)), dims=tuple("iyx"), coords={"i": [1]}), "a.npy", partition="yx")
    quietly(xr.DataArray(np.zeros((1, 4, 5)), dims=tuple("iyx"), coords={"i": [2]}), "a.npy", partition="yx")
    assert imload("a.*.npy").i.values.tolist() == [1, 2]


def test_a_stem_that_reads_as_an_axis_is_refused(folder):
    with pytest.raises(ArgumentError, match=r"scan\.i_03"):
        imsave(scan(), "scan.i_03.zarr", partition="vu")
    assert names() == []


def test_names_that_are_too_long_are_refused(folder):
    image = xr.DataArray(np.zeros((2, 3, 4)), dims=tuple("cyx"), coords={"c": ["a" * 300, "b"]})
    with pytest.raises(ArgumentError, match="255"):
        quietly(image, "a.npy", partition="yx")
    assert names() == []


def test_equal_coordinates_are_refused_before_anything_is_written(folder):
    image = xr.DataArray(np.zeros((3, 3, 4)), dims=tuple("iyx"), coords={"i": [3, 3, 4]})
    with pytest.raises(ArgumentError, match="coordinate i has 3 twice"):
        quietly(image, "a.npy", partition="yx")
    assert names() == []


def test_one_existing_member_is_enough_to_refuse_all(folder):
    Path("frames.y_12.8.x_-3.0.zarr").touch()
    with pytest.raises(TargetExistsError, match=r"frames\.y_12\.8\.x_-3\.0\.zarr"):
        imsave(scan(), "frames.zarr", partition="vu")
    assert len(names()) == 1


def test_members_of_an_earlier_larger_set_are_named_when_they_stay(folder):
    imsave(scan((4, 2, 4, 5)), "a.zarr", partition="vu")
    with pytest.warns(EmioWarning, match=r"a\.y_38\.4\.x_-3\.0\.zarr.* of an earlier set"):
        imsave(scan(), "a.zarr", partition="vu", overwrite=True)
    assert len(names()) == 8


@pytest.mark.parametrize("chunks", [(1, 1, 4, 5), (3, 2, 4, 5), (2, 2, 2, 3), (1, 2, 4, 1)])
@pytest.mark.parametrize("block", [1, 100, 1 << 20])
def test_every_chunk_is_computed_once_and_no_more_than_a_block_is_held(folder, monkeypatch, chunks, block):
    monkeypatch.setattr("intake_emio.members.BLOCK_BYTES", block)
    counted = []
    ds = scan()
    pixels = da.from_array(ds.image.values, chunks=chunks).map_blocks(
        lambda part: (counted.append(1), part)[1], dtype="u2", meta=np.empty((0,) * 4, "u2")
    )
    imsave(ds.assign(image=(ds.image.dims, pixels)), "a.zarr", partition="vu")
    assert len(counted) == pixels.npartitions
    xr.testing.assert_equal(imload("a.*.zarr"), ds)
    assert len(names()) == 6


def test_many_members_are_written(folder):
    pixels = da.arange(500 * 12, chunks=12 * 64, dtype="u4").reshape(500, 3, 4)
    assert len(quietly(xr.DataArray(pixels, dims=tuple("iyx")), "a.npy", partition="yx")) == 500
    image = imload("a.*.npy").image
    assert image.shape == (500, 3, 4)
    np.testing.assert_array_equal(image.values, pixels.compute())


def test_a_failure_in_the_middle_of_a_set_leaves_nothing(folder):
    def fail(part, block_info=None):
        if block_info[0]["chunk-location"][0] == 2:
            raise RuntimeError("detector on fire")
        return part

    pixels = da.zeros((3, 2, 4, 5), chunks=(1, 2, 4, 5)).map_blocks(fail, dtype="f8", meta=np.empty((0,) * 4))
    with pytest.raises(RuntimeError, match="on fire"):
        quietly(xr.DataArray(pixels, dims=tuple("yxvu")), "a.npy", partition="vu")
    assert names() == []


def test_members_are_written_by_the_scheduler_that_the_user_has_chosen(folder):
    ds = scan().chunk({"y": 1})
    with dask.config.set(scheduler="synchronous"):
        imsave(ds, "a.zarr", partition="vu")
    xr.testing.assert_equal(imload("a.*.zarr"), scan())


# There and back ------------------------------------------------------------------------------------------------------

OUTER = {
    "even": (np.arange(3) * 0.3, {"units": "s"}),
    "uneven": (np.array([0.1, 5.0, 2.0]), {"units": "µm"}),
    "falling": (np.array([2.0, 1.0, 0.0]), {}),
    "whole": (np.array([10, 3, -4], "i2"), {}),
    "text": (np.array(["b/c", "a.d", "Z"]), {}),
    "dates": (np.array(["2024-01-31T23:59:59.25", "2023-01-01", "2024-02-01"], "M8[ns]"), {}),
    "truth": (np.array([True, False]), {}),
    "single precision": (np.array([0.1, 0.2, 0.35], "f4"), {"units": "nm"}),
    "tenth of nanometres": (np.arange(3) * 1e-10, {"units": "m"}),
}


@pytest.mark.parametrize("kind", OUTER)
@pytest.mark.parametrize("extension", RECORDING)
def test_the_coordinate_of_a_split_axis_returns_exactly(folder, extension, kind):
    values, attrs = OUTER[kind]
    image = xr.DataArray(
        np.arange(len(values) * 12, dtype="u1").reshape(-1, 3, 4), dims=tuple("tyx"), coords={"t": ("t", values, attrs)}
    )
    written = imsave(image, f"a{extension}", partition="yx")
    assert len(written) == len(values)
    back = imload(f"a.*{extension}").image
    np.testing.assert_array_equal(back.values, image.values)
    assert back.t.dtype == values.dtype
    np.testing.assert_array_equal(back.t.values, values)
    assert back.t.attrs == attrs


@pytest.mark.parametrize("extension", RECORDING)
def test_a_set_returns_with_everything_that_was_known(folder, extension):
    ds, frame = series(extension)
    outer = [axis for axis in ds.image.dims if axis not in frame]
    ds = ds.assign_coords(
        dose=(outer, np.arange(6.0).reshape(3, 2) / 7, {"units": "e"}), temperature=((), 77.5, {"units": "K"})
    )
    imsave(ds, f"a{extension}", partition=frame)
    back = imload(f"a.*{extension}")
    xr.testing.assert_equal(back, ds)
    for name in ds.coords:
        assert back[name].attrs == ds[name].attrs
    assert back.image.attrs == ds.image.attrs
    assert back.attrs["acquisition"] == ds.attrs["acquisition"]
    assert back.attrs["who"] == "me"


@pytest.mark.parametrize("extension", RECORDING)
def test_a_member_alone_knows_where_it_was(folder, extension):
    ds, inner = series(extension)
    written = imsave(ds, f"a{extension}", partition=inner)
    frame = imload(written[2])
    assert frame.image.shape == (4, 5)
    first, second = ds.image.dims[:2]
    assert (float(frame[first]), float(frame[second])) == (12.8, -3.0)
    assert frame[first].attrs == {"units": "nm"}


def test_part_of_a_set_has_its_part_of_the_coordinates(folder):
    image = xr.DataArray(np.arange(36).reshape(3, 3, 4), dims=tuple("cyx"), coords={"c": ["z", "b", "a"]})
    imsave(image, "a.zarr", partition="yx")
    back = imload(["a.c_a.zarr", "a.c_z.zarr"]).image
    xr.testing.assert_equal(back.drop_attrs(), image.isel(c=[0, 2]))


def test_coordinates_of_a_long_set_are_kept_once(folder, monkeypatch):
    monkeypatch.setattr("intake_emio.splitting.MOST_COORDS", 100)
    values = np.cumsum(np.random.default_rng(0).random(20))
    image = xr.DataArray(np.zeros((20, 2, 2), "u1"), dims=tuple("tyx"), coords={"t": ("t", values, {"units": "s"})})
    written = imsave(image, "a.zarr", partition="yx")
    assert str(values[3]) in Path(written[0], "zarr.json").read_text()
    assert str(values[3]) not in Path(written[7], "zarr.json").read_text()
    np.testing.assert_array_equal(imload("a.*.zarr").t.values, values)
    part = imload([written[7], written[8]])
    np.testing.assert_array_equal(part.t.values, values[7:9])
    assert part.t.attrs == {"units": "s"}


# Reading: globs, patterns, folders, lists ----------------------------------------------------------------------------


def test_a_glob_reads_the_axes_from_the_names(folder):
    frames(folder, ["a.y_0.5.x_10.npy", "a.y_0.5.x_9.npy", "a.y_-1.5.x_10.npy", "a.y_-1.5.x_9.npy"])
    image = imload("a.*.npy").image
    assert image.dims == tuple("yxvu")
    np.testing.assert_array_equal(image.y, [-1.5, 0.5])
    np.testing.assert_array_equal(image.x, [9, 10])
    np.testing.assert_array_equal(image.values[:, :, 0, 0], [[3, 2], [1, 0]])


def test_names_without_coordinates_follow_each_other_as_people_count(folder):
    frames(folder, ["Img_10.npy", "img_2.npy", "img_1.npy"])
    image = imload("*.npy").image
    assert image.dims == tuple("iyx")
    assert "i" not in image.coords
    assert image.values[:, 0, 0].tolist() == [2, 1, 0]


def test_a_list_keeps_its_order(folder):
    frames(folder, ["b.npy", "a.npy"])
    assert imload(["b.npy", "a.npy"]).image.values[:, 0, 0].tolist() == [0, 1]


def test_stacks_follow_each_other_end_to_end(folder):
    frames(folder, ["a1.npy", "a2.npy"], (3, 4, 5))
    image = imload("a*.npy").image
    assert image.sizes == {"i": 6, "y": 4, "x": 5}
    assert image.values[:, 0, 0].tolist() == [0, 0, 0, 1, 1, 1]


def test_scans_get_an_index_in_front(folder):
    frames(folder, ["a1.npy", "a2.npy"], (2, 3, 4, 5))
    assert imload("a*.npy").image.dims == tuple("iyxvu")


def test_frames_are_arranged_by_nav_shape(folder):
    frames(folder, [f"f{n}.npy" for n in range(5)])
    with pytest.warns(EmioWarning, match="1 of 6 frames are missing"):
        image = imload("f*.npy", nav_shape=(2, 3)).image
    assert image.dims == tuple("yxvu")
    assert image.values[:, :, 0, 0].tolist() == [[0, 1, 2], [3, 4, 0]]
    assert imload("f*.npy", nav_shape=(2, 2)).image.values[:, :, 0, 0].tolist() == [[0, 1], [2, 3]]
    assert imload("f*.npy", sync_offset=2).image.values[:, 0, 0].tolist() == [2, 3, 4, 0, 0]


def test_a_pattern_names_the_axes(folder):
    frames(folder, [f"img_ch{c}_z{z}.npy" for c in ("gfp", "dapi") for z in (10, 5)])
    image = imload("img_ch{c}_z{z}.npy").image
    assert image.dims == tuple("czyx")
    assert image.c.values.tolist() == ["dapi", "gfp"]
    assert image.z.values.tolist() == [5, 10]
    assert image.values[:, :, 0, 0].tolist() == [[3, 2], [1, 0]]


def test_a_pattern_may_lie_in_the_folders(folder):
    frames(folder, [f"{i}/frame.npy" for i in (1, 2, 10)])
    image = imload("{i}/frame.npy").image
    assert image.i.values.tolist() == [1, 2, 10]
    assert image.values[:, 0, 0].tolist() == [0, 1, 2]


def test_a_pattern_says_what_its_fields_are(folder):
    frames(folder, ["a03.npy", "a10.npy", "ab.npy"])
    assert imload("a{i:d}.npy").i.values.tolist() == [3, 10]
    assert imload("a{c:str}.npy").c.values.tolist() == ["03", "10", "b"]


def test_a_letter_twice_must_match_the_same(folder):
    frames(folder, ["1/f1.npy", "1/f2.npy", "2/f2.npy"])
    assert imload("{i}/f{i}.npy").i.values.tolist() == [1, 2]


def test_a_pattern_tells_variables(folder):
    frames(folder, ["a_bf.npy", "a_image.npy"])
    ds = imload("a_{var}.npy")
    assert set(ds.data_vars) == {"image", "bf"}
    assert ds.bf.values[0, 0] == 0


def test_a_folder_is_a_set(folder):
    frames(folder, ["set/f2.npy", "set/f10.npy", "set/below/f1.npy", "set/.hidden.npy"])
    Path("set/notes.txt").write_text("x")
    Path("set/notes.json").write_text("{}")
    assert imload("set").image.values[:, 0, 0].tolist() == [0, 1]


def test_a_folder_of_several_kinds_is_refused(folder):
    frames(folder, ["set/f2.npy"])
    Path("set/f.dat").touch()
    with pytest.raises(ArgumentError, match=r"set.*\.dat, \.npy.*glob"):
        imload("set")


def test_an_empty_folder_is_refused(folder):
    Path("set").mkdir()
    with pytest.raises(EmioError, match=r"set: is a folder with nothing"):
        imload("set")


def test_a_folder_that_is_an_image_is_one(folder):
    imsave(scan(), "a.zarr")
    assert imload("a.zarr").image.dims == tuple("yxvu")


def test_a_file_that_exists_is_only_itself(folder):
    frames(folder, ["a.y_0.npy", "a.y_1.npy", "odd[1].npy", "odd1.npy", "x{i}.npy", "star*.npy"])
    assert imload("a.y_0.npy").image.dims == tuple("yx")
    assert imload("odd[1].npy").image.values[0, 0] == 2
    assert imload("x{i}.npy").image.values[0, 0] == 4
    assert imload("star*.npy").image.dims == tuple("yx")


def test_sets_are_read_from_fsspec():
    memory = fsspec.filesystem("memory")
    try:
        for number in (0, 1):
            with memory.open(f"/sets/a.i_{number + 5}.npy", "wb") as file:
                np.save(file, np.full((2, 3), number))
        image = imload("memory://sets/a.*.npy").image
        assert image.i.values.tolist() == [5, 6]
        assert image.values[:, 0, 0].tolist() == [0, 1]
        assert imload("memory://sets/a.i_{t}.npy").image.dims == tuple("tyx")
        memory.copy("/sets/a.i_6.npy", "/sets/odd[1].npy")
        assert imload("memory://sets/odd[1].npy").image.dims == tuple("yx")
    finally:
        memory.rm("/sets", recursive=True)


# What does not go together -------------------------------------------------------------------------------------------


def test_missing_members_are_named(folder):
    frames(folder, [f"a.y_{y}.x_{x}.npy" for y in range(3) for x in range(4) if (y, x) != (1, 2)])
    with pytest.raises(
        MissingFileError, match=r"1 of 12 members are missing: .*a\.y_1\.x_2\.npy\. Pass missing='fill'"
    ):
        imload("a.*.npy")


def test_missing_members_can_be_blank(folder):
    frames(folder, ["a.y_0.x_0.npy", "a.y_1.x_1.npy"])
    image = imload("a.*.npy", missing="fill").image
    assert image.values[:, :, 0, 0].tolist() == [[0, 0], [0, 1]]
    np.save("f.y_0.x_0.npy", np.ones((2, 2), "f4"))
    np.save("f.y_1.x_1.npy", np.ones((2, 2), "f4"))
    assert np.isnan(imload("f.*.npy", missing="fill").image.values[0, 1]).all()


def test_missing_members_of_a_pattern_are_named_by_it(folder):
    frames(folder, ["p0_q0.npy", "p1_q1.npy"])
    with pytest.raises(MissingFileError, match=r"p0_q1\.npy, .*p1_q0\.npy"):
        imload("p{y}_q{x}.npy")


def test_two_names_for_one_place_are_refused_with_both(folder):
    frames(folder, ["a.i_3.npy", "a.i_03.npy", "a.i_4.npy"])
    with pytest.raises(ArgumentError, match=r"a\.i_0?3\.npy and .*a\.i_0?3\.npy"):
        imload("a.*.npy")


@pytest.mark.parametrize("pixels", [np.zeros((4, 6), "u1"), np.zeros((4, 5), "u2"), np.zeros((1, 4, 5), "u1")])
def test_a_member_unlike_the_others_is_named_with_the_difference(folder, pixels):
    frames(folder, ["a.i_0.npy", "a.i_1.npy"])
    np.save("a.i_2.npy", pixels)
    with pytest.raises(ArgumentError, match=rf"a\.i_2\.npy: has axes .*{pixels.dtype}.*a\.i_0\.npy"):
        imload("a.*.npy")


def test_members_of_a_large_set_are_compared_when_they_are_read(folder):
    frames(folder, [f"a.i_{n}.npy" for n in range(70)])
    np.save("a.i_69.npy", np.zeros((4, 6), "u1"))
    image = imload("a.*.npy").image
    with pytest.raises(ArgumentError, match=r"a\.i_69\.npy"):
        image.values  # noqa: B018


def test_files_of_two_sets_are_refused(folder):
    frames(folder, ["a.i_0.npy", "b.i_1.npy"])
    with pytest.raises(ArgumentError, match="different sets"):
        imload("*.npy")


def test_names_with_other_axes_are_refused(folder):
    frames(folder, ["a.i_0.npy", "a.t_1.npy"])
    with pytest.raises(ArgumentError, match="axes"):
        imload("a.*.npy")


def test_axes_of_names_and_files_that_collide_are_refused(folder):
    np.save("a.y_0.npy", np.zeros((2, 3, 4), "u1"))
    with pytest.raises(ArgumentError, match="metadata="):
        imload(["a.y_0.npy"])
    assert imload(["a.y_0.npy"], metadata={"axes": "tvu"}).image.dims == tuple("ytvu")


def test_variables_with_other_members_are_refused(folder):
    frames(folder, ["a.var_p.i_1.npy", "a.var_p.i_2.npy", "a.var_q.i_1.npy", "a.var_q.i_3.npy"])
    with pytest.raises(ArgumentError, match="axis 'i'"):
        imload("a.*.npy")


def test_nothing_that_matches_is_an_error(folder):
    with pytest.raises(MissingFileError, match=r"none\.\*\.npy: no file matches"):
        imload("none.*.npy")
    with pytest.raises(FileNotFoundError):
        imload("none{i}.npy")
    with pytest.raises(ArgumentError, match="empty"):
        imload([])


def test_a_broken_member_is_named(folder):
    frames(folder, ["a.i_0.npy", "a.i_1.npy"])
    Path("a.i_1.npy").write_bytes(b"junk" * 30)
    with pytest.raises(HeaderError, match=r"a\.i_1\.npy"):
        imload("a.*.npy")


def test_an_unknown_argument_is_refused(folder):
    frames(folder, ["a.i_0.npy"])
    with pytest.raises(UnknownArgumentError, match="colour"):
        imload("a.*.npy", colour=1)


# As a source ---------------------------------------------------------------------------------------------------------


def test_the_users_word_wins(folder):
    frames(folder, [f"f{n}.npy" for n in range(4)])
    ds = imload("f*.npy", metadata={"axes": "tyx", "spacing": {"t": 0.5}, "spacing_units": {"t": "s"}})
    assert ds.image.dims == tuple("tyx")
    assert ds.t.values.tolist() == [0.0, 0.5, 1.0, 1.5]
    assert imload("f*.npy", output_axis_order="xy").image.dims == tuple("xyi")
    assert imload("f*.npy", partition=slice(1, 3)).image.values[:, 0, 0].tolist() == [1, 2]


def test_arguments_of_the_format_reach_the_members(folder):
    for number in range(3):
        Path(f"f{number}.raw").write_bytes(bytes([number] * 20))
    image = imload("f*.raw", dtype="u1", sig_shape=(4, 5)).image
    assert image.shape == (3, 4, 5)


def test_a_set_is_small_in_a_graph_and_travels(folder):
    imsave(scan((8, 9, 4, 5)), "a.zarr", partition="vu")
    ds = imload("a.*.zarr")
    again = pickle.loads(pickle.dumps(ds))
    xr.testing.assert_equal(again, scan((8, 9, 4, 5)))
    assert len(pickle.dumps(ds)) < 100_000
    assert imload("a.*.zarr").image.data.name == ds.image.data.name


def test_another_content_is_another_name(folder):
    frames(folder, ["a.i_0.npy", "a.i_1.npy"])
    before = imload("a.*.npy").image.data.name
    np.save("a.i_1.npy", np.zeros((4, 5), "u1"))
    os.utime("a.i_1.npy", (1, 1))
    assert imload("a.*.npy").image.data.name != before


def test_catalogs_open_sets(folder):
    imsave(scan(), "a.zarr", partition="vu")
    Path("lab.yml").write_text(
        "sources:\n"
        "  one: {driver: emio, args: {uri: '{{ CATALOG_DIR }}/a.*.zarr'}}\n"
        "  two: {driver: emio_files, args: {uri: '{{ CATALOG_DIR }}/a.y_{y}.x_{x}.zarr'}}\n"
        "  three:\n    driver: emio\n    args:\n      uri:\n"
        "      - '{{ CATALOG_DIR }}/a.y_00.0.x_-3.0.zarr'\n      - '{{ CATALOG_DIR }}/a.y_00.0.x_9.8.zarr'\n"
    )
    cat = intake.open_catalog("lab.yml")
    for name in ("one", "two"):
        xr.testing.assert_equal(cat[name].read(), scan())
    assert cat.three.read().image.shape == (1, 2, 4, 5)


def test_a_source_of_a_set_can_be_written_down(folder):
    frames(folder, ["f0.npy", "f1.npy"])
    source = emio.sets.FilesSource(["f0.npy", "f1.npy"], sig_dims=2)
    Path("one.yml").write_text(source.yaml())
    again = next(iter(intake.open_catalog("one.yml").values()))
    assert again.read().image.shape == (2, 4, 5)
    assert again.discover()["shape"] == (2, 4, 5)
    assert pickle.loads(pickle.dumps(source)) == source


def test_metadata_of_a_set_are_those_of_the_whole(folder):
    imsave(scan(), "a.zarr", partition="vu")
    found = imload("a.*.zarr", metadata_only=True)
    assert found["shape"] == (3, 2, 4, 5)
    assert found["metadata"]["axes"] == "yxvu"
    assert imload("a.*.zarr").attrs["format"] == "zarr"
