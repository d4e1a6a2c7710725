"""OME-Zarr: stores that keep the rules of the specification, coarser levels, labels, and what comes back."""

import json
import re
from pathlib import Path

import dask.array as da
import fsspec
import numpy as np
import pytest
import xarray as xr
import zarr

import intake_emio as emio
from intake_emio.errors import ArgumentError, EmioError, EmioWarning

VERSIONS = pytest.mark.parametrize("version", ["0.4", "0.5"])
SPACE_UNITS = {"angstrom", "centimeter", "meter", "micrometer", "millimeter", "nanometer", "picometer"}
TIME_UNITS = {"second", "millisecond", "microsecond", "nanosecond", "minute", "hour"}


def image(shape, dims, dtype="u2", **coords):
    """Pixels that tell their place."""
    pixels = (np.arange(np.prod(shape), dtype="u8") % 60013).astype(dtype).reshape(shape)
    return xr.DataArray(pixels, dims=tuple(dims), name="image", coords=coords)


def even(axis, size, step, units=None, start=0.0):
    return (axis, start + step * np.arange(size), {"units": units} if units else {})


def metadata(path):
    """What a group says, by the letter of its version."""
    path = Path(path)
    if (path / "zarr.json").exists():
        return json.loads((path / "zarr.json").read_text())["attributes"]["ome"]
    return json.loads((path / ".zattrs").read_text())


def transformations(path, level=0):
    first, second = metadata(path)["multiscales"][0]["datasets"][level]["coordinateTransformations"]
    return first["scale"], second["translation"]


# The rules of the specification --------------------------------------------------------------------------------------


def check_image(path, version, *, labels=False):
    """Check the rules of OME-NGFF 0.4 and 0.5 for multiscale images, as the specification has them."""
    path, ome = Path(path), metadata(path)
    if version == "0.5":
        content = json.loads((path / "zarr.json").read_text())
        assert (content["zarr_format"], content["node_type"], ome["version"]) == (3, "group", "0.5")
    else:
        assert json.loads((path / ".zgroup").read_text()) == {"zarr_format": 2}
        assert [entry["version"] for entry in ome["multiscales"]] == ["0.4"]
    (entry,) = ome["multiscales"]
    axes = entry["axes"]
    check_axes(axes)
    sizes = []
    for dataset in entry["datasets"]:
        check_transformations(dataset["coordinateTransformations"], len(axes))
        array = zarr.open_array(path / dataset["path"], mode="r")
        assert array.ndim == len(axes)
        assert not labels or array.dtype.kind in "iu"
        if version == "0.5":
            assert list(array.metadata.dimension_names) == [axis["name"] for axis in axes]
        else:
            assert json.loads((path / dataset["path"] / ".zarray").read_text())["dimension_separator"] == "/"
        sizes.append(array.size)
    assert sizes == sorted(sizes, reverse=True)  # from the highest to the lowest resolution
    for channel in ome.get("omero", {}).get("channels", ()):
        assert re.fullmatch("[0-9A-F]{6}", channel["color"])
        assert channel["window"].keys() == {"min", "max", "start", "end"}
        assert all(isinstance(number, int | float) for number in channel["window"].values())
    return entry


def check_axes(axes):
    names, types = [axis["name"] for axis in axes], [axis["type"] for axis in axes]
    assert 2 <= len(axes) <= 5
    assert len(set(names)) == len(names)
    assert types.count("space") in (2, 3)
    assert types.count("time") <= 1
    others = [kind for kind in types if kind not in ("space", "time")]
    assert len(others) <= 1
    assert types == ["time"] * types.count("time") + others + ["space"] * types.count("space")
    assert names[-types.count("space") :] in (["z", "y", "x"], ["y", "x"], ["z", "x"], ["z", "y"])


def check_transformations(listed, ndim):
    assert [one["type"] for one in listed] == ["scale", "translation"]
    assert [len(one[one["type"]]) for one in listed] == [ndim, ndim]
    assert all(isinstance(number, float) for one in listed for number in one[one["type"]])


CALIBRATED = {"y": even("y", 300, 0.5, "nm"), "x": even("x", 280, 0.5, "nm", 10.0)}
IMAGES = {
    "yx": image((40, 50), "yx", "f4"),
    "zyx": image((6, 300, 280), "zyx", z=even("z", 6, 0.5, "nm"), **CALIBRATED),
    "iyx": image((5, 300, 280), "iyx", "i4", i=even("i", 5, 3.0, "deg", -6.0), **CALIBRATED),
    "izyx": image((2, 3, 300, 280), "izyx", "u1", **CALIBRATED),
    "cyx": image((3, 300, 280), "cyx", "i2", c=["r", "g", "b"], **CALIBRATED),
    "tczyx": image((2, 2, 3, 300, 280), "tczyx", t=even("t", 2, 2.5, "s"), c=["BF", "HAADF"], **CALIBRATED),
    "xcyt": image((280, 2, 300, 3), "xcyt", "u4", **CALIBRATED),
    "zx": image((40, 600), "zx", "f8"),
}


@VERSIONS
@pytest.mark.parametrize("axes", IMAGES)
def test_stores_keep_the_rules_of_the_specification(tmp_path, axes, version):
    (path,) = emio.imsave(IMAGES[axes], tmp_path / "a.ome.zarr", version=version)
    entry = check_image(path, version)
    names = [axis["name"] for axis in entry["axes"]]
    assert names == [axis for axis in "tcizyx" if axis in axes]
    np.testing.assert_array_equal(zarr.open_array(f"{path}/0", mode="r"), IMAGES[axes].transpose(*names))


@VERSIONS
def test_labels_keep_them_too(tmp_path, version):
    ds = xr.Dataset({"image": IMAGES["zyx"], "cells": IMAGES["zyx"].astype("u1"), "label_old": IMAGES["zyx"]})
    (path,) = emio.imsave(ds, tmp_path / "a.ome.zarr", version=version)
    assert metadata(f"{path}/labels")["labels"] == ["cells", "old"]
    levels = len(check_image(path, version)["datasets"])
    for name in ("cells", "old"):
        entry = check_image(f"{path}/labels/{name}", version, labels=True)
        assert len(entry["datasets"]) == levels
        assert metadata(f"{path}/labels/{name}")["image-label"] == {"version": version, "source": {"image": "../../"}}


@pytest.mark.peers
@pytest.mark.parametrize("axes", IMAGES)
def test_models_of_the_specification_accept_them(tmp_path, axes):
    models = pytest.importorskip("ome_zarr_models.v05")
    ds = xr.Dataset({"image": IMAGES[axes], "cells": IMAGES[axes].astype("u1")})
    (path,) = emio.imsave(ds, tmp_path / "a.ome.zarr")
    models.Image.from_zarr(zarr.open_group(path, mode="r"))
    models.Labels.from_zarr(zarr.open_group(f"{path}/labels", mode="r"))


@VERSIONS
@pytest.mark.peers
def test_another_reader_finds_levels_and_labels(tmp_path, version):
    io = pytest.importorskip("ome_zarr.io")
    reader = pytest.importorskip("ome_zarr.reader")
    ds = xr.Dataset({"image": IMAGES["cyx"], "cells": IMAGES["cyx"].astype("u1")})
    (path,) = emio.imsave(ds, tmp_path / "a.ome.zarr", version=version)
    nodes = {node.zarr.basename(): node for node in reader.Reader(io.parse_url(path))()}
    assert [level.shape for level in nodes["a.ome.zarr"].data] == [(3, 300, 280), (3, 150, 140)]
    np.testing.assert_array_equal(nodes["a.ome.zarr"].data[0], IMAGES["cyx"])
    np.testing.assert_array_equal(nodes["cells"].data[0], ds.cells)
    assert nodes["a.ome.zarr"].metadata["channel_names"] == ["r", "g", "b"]


# What the metadata say -----------------------------------------------------------------------------------------------


def test_units_are_spelled_in_words_and_others_as_they_are(tmp_path):
    stack = image((2, 2, 4, 5), "tzyx")
    units = {"t": "ms", "z": "Å", "y": "µm", "x": "1/nm"}
    stack = stack.assign_coords({a: even(a, n, 2.0, units[a]) for a, n in stack.sizes.items()})
    emio.imsave(stack, tmp_path / "a.ome.zarr")
    axes = metadata(tmp_path / "a.ome.zarr")["multiscales"][0]["axes"]
    assert [axis["unit"] for axis in axes] == ["millisecond", "angstrom", "micrometer", "1/nm"]
    assert set(units) == {axis["name"] for axis in axes}
    emio.imsave(image((4, 5), "yx"), tmp_path / "b.ome.zarr")
    assert all("unit" not in axis for axis in metadata(tmp_path / "b.ome.zarr")["multiscales"][0]["axes"])


def test_scale_and_translation_are_step_and_first_coordinate(tmp_path):
    emio.imsave(IMAGES["iyx"], tmp_path / "a.ome.zarr", levels=3)
    assert transformations(tmp_path / "a.ome.zarr") == ([3.0, 0.5, 0.5], [-6.0, 0.0, 10.0])
    # two pixels at 10.0 and 10.5 become one at 10.25; two of those, at 10.25 and 11.25, one at 10.75
    assert transformations(tmp_path / "a.ome.zarr", 1) == ([3.0, 1.0, 1.0], [-6.0, 0.25, 10.25])
    assert transformations(tmp_path / "a.ome.zarr", 2) == ([3.0, 2.0, 2.0], [-6.0, 0.75, 10.75])


def test_pixels_without_calibration_are_counted(tmp_path):
    emio.imsave(image((400, 400), "yx"), tmp_path / "a.ome.zarr")
    assert transformations(tmp_path / "a.ome.zarr") == ([1.0, 1.0], [0.0, 0.0])
    assert transformations(tmp_path / "a.ome.zarr", 1) == ([2.0, 2.0], [0.5, 0.5])


def test_a_single_member_keeps_its_place(tmp_path):
    emio.imsave(image((1, 4, 5), "zyx", z=even("z", 1, 1.0, "nm", 7.5)), tmp_path / "a.ome.zarr")
    assert transformations(tmp_path / "a.ome.zarr") == ([1.0, 1.0, 1.0], [7.5, 0.0, 0.0])


def test_channels_have_names_colours_and_a_window(tmp_path):
    emio.imsave(IMAGES["cyx"], tmp_path / "a.ome.zarr")
    channels = metadata(tmp_path / "a.ome.zarr")["omero"]["channels"]
    assert [(c["label"], c["color"]) for c in channels] == [("r", "FF0000"), ("g", "00FF00"), ("b", "0000FF")]
    coarsest = zarr.open_array(tmp_path / "a.ome.zarr/1", mode="r")[...]
    for number, channel in enumerate(channels):
        window = channel["window"]
        assert (window["min"], window["max"]) == (-(2**15), 2**15 - 1)
        assert (window["start"], window["end"]) == (coarsest[number].min(), coarsest[number].max())


def test_windows_of_floats_are_their_range(tmp_path):
    emio.imsave(image((2, 2, 3), "cyx", "f4", c=["a", "b"]), tmp_path / "a.ome.zarr")
    channels = metadata(tmp_path / "a.ome.zarr")["omero"]["channels"]
    assert channels[1]["window"] == {"min": 6.0, "max": 11.0, "start": 6.0, "end": 11.0}
    blank = image((1, 2, 3), "cyx", "f4", c=["a"]) * np.nan
    emio.imsave(blank, tmp_path / "b.ome.zarr")
    assert metadata(tmp_path / "b.ome.zarr")["omero"]["channels"][0]["window"]["end"] == 1


def test_a_spectrum_is_calibrated_not_named(tmp_path):
    spectra = image((100, 4, 5), "cyx", c=even("c", 100, 0.5, "eV", 200.0))
    emio.imsave(spectra, tmp_path / "a.ome.zarr")
    assert "omero" not in metadata(tmp_path / "a.ome.zarr")
    assert transformations(tmp_path / "a.ome.zarr") == ([0.5, 1.0, 1.0], [200.0, 0.0, 0.0])


def test_a_store_is_called_like_the_title_or_the_variable(tmp_path):
    emio.imsave(image((4, 5), "yx").rename("haadf"), tmp_path / "a.ome.zarr")
    assert metadata(tmp_path / "a.ome.zarr")["multiscales"][0]["name"] == "haadf"
    titled = image((4, 5), "yx").to_dataset().assign_attrs(acquisition={"title": "gold on carbon"})
    emio.imsave(titled, tmp_path / "b.ome.zarr")
    assert metadata(tmp_path / "b.ome.zarr")["multiscales"][0]["name"] == "gold on carbon"


# Levels --------------------------------------------------------------------------------------------------------------


def levels_of(path):
    datasets = metadata(path)["multiscales"][0]["datasets"]
    return [zarr.open_array(Path(path) / dataset["path"], mode="r")[...] for dataset in datasets]


@pytest.mark.parametrize(
    ("shape", "shapes"),
    [
        ((256, 256), [(256, 256)]),
        ((257, 20), [(257, 20), (128, 10)]),
        ((1030, 1), [(1030, 1), (515, 1), (257, 1), (128, 1)]),
        ((3, 600, 300), [(3, 600, 300), (3, 300, 150), (3, 150, 75)]),
    ],
)
def test_planes_are_halved_until_they_have_256_pixels_a_side(tmp_path, shape, shapes):
    emio.imsave(image(shape, "zyx"[-len(shape) :]), tmp_path / "a.ome.zarr")
    assert [level.shape for level in levels_of(tmp_path / "a.ome.zarr")] == shapes


def test_the_user_may_say_how_many_levels(tmp_path):
    for number, count in ((1, 1), (3, 3), (9, 4)):  # after three halvings there is one pixel left
        emio.imsave(image((8, 5), "yx"), tmp_path / f"{number}.ome.zarr", levels=number)
        assert len(levels_of(tmp_path / f"{number}.ome.zarr")) == count
    emio.imsave(image((600, 600), "yx"), tmp_path / "a.ome.zarr", levels="1")
    assert len(levels_of(tmp_path / "a.ome.zarr")) == 1


@pytest.mark.parametrize(
    ("step", "units", "shapes"),
    [
        (0.5, "nm", [(9, 8, 8), (4, 4, 4), (2, 2, 2)]),
        (0.75, "nm", [(9, 8, 8), (4, 4, 4), (2, 2, 2)]),
        (1.0, "nm", [(9, 8, 8), (9, 4, 4), (4, 2, 2)]),
        (4.0, "nm", [(9, 8, 8), (9, 4, 4), (9, 2, 2)]),
        (0.5, "µm", [(9, 8, 8), (9, 4, 4), (9, 2, 2)]),
    ],
)
def test_z_is_halved_once_its_pixels_are_no_longer_than_one_and_a_half_of_the_others(tmp_path, step, units, shapes):
    stack = image((9, 8, 8), "zyx", z=even("z", 9, step, units), y=even("y", 8, 0.5, "nm"), x=even("x", 8, 0.5, "nm"))
    emio.imsave(stack, tmp_path / "a.ome.zarr", levels=3)
    assert [level.shape for level in levels_of(tmp_path / "a.ome.zarr")] == shapes


def test_intensities_are_joined_by_their_mean_halves_to_even(tmp_path):
    pixels = np.array([[0, 1, 8, 8, 9], [0, 1, 9, 9, 9], [3, 0, 255, 255, 9], [0, 0, 255, 254, 9]], "u1")
    emio.imsave(xr.DataArray(pixels, dims=("y", "x")), tmp_path / "a.ome.zarr", levels=2)
    assert levels_of(tmp_path / "a.ome.zarr")[1].tolist() == [[0, 8], [1, 255]]  # 0.5, 8.5, 0.75, 254.75


@pytest.mark.parametrize("dtype", ["i1", "u2", "i2", "u4", "i4", "u8", "i8"])
def test_means_are_exact_at_the_ends_of_every_type(tmp_path, dtype):
    limits = np.iinfo(dtype)
    ends = np.array([[limits.max] * 4 + [limits.min] * 4 + [limits.max, limits.max - 1]] * 2, dtype)
    emio.imsave(xr.DataArray(ends, dims=("y", "x")), tmp_path / "a.ome.zarr", levels=2)
    odd = limits.max  # the mean lies half way between it and the even number below
    expected = [limits.max, limits.max, limits.min, limits.min, odd - 1]
    assert levels_of(tmp_path / "a.ome.zarr")[1].tolist() == [expected]


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("chunks", [(2, 3, 7), (1, 16, 18), (5, 4, 4)])
def test_levels_are_the_means_of_blocks_however_they_are_cut(tmp_path, dtype, chunks):
    stack = image((5, 16, 18), "iyx") % 2048
    stack = stack.astype(dtype).copy(data=da.from_array(stack.values.astype(dtype), chunks=chunks))
    emio.imsave(stack, tmp_path / "a.ome.zarr", levels=3)
    first, second, third = levels_of(tmp_path / "a.ome.zarr")
    means = first.astype("f8").reshape(5, 8, 2, 9, 2).mean((2, 4))
    expected = means if dtype[0] == "f" else np.rint(means)
    np.testing.assert_allclose(second.astype("f8"), expected, rtol=1e-3 if dtype == "f2" else 1e-6)
    again = (
        second.astype("f8")[:, :, :8].reshape(5, 4, 2, 4, 2).mean((2, 4))
    )  # from the level before, an odd end left out
    np.testing.assert_allclose(third.astype("f8"), again if dtype[0] == "f" else np.rint(again), rtol=1e-3)


def test_labels_keep_their_numbers(tmp_path):
    cells = np.array([[1, 1, 7, 7], [1, 9, 7, 7], [200, 3, 4, 5], [3, 3, 4, 5]], "u1")
    ds = xr.Dataset({"image": (("y", "x"), cells), "cells": (("y", "x"), cells)})
    emio.imsave(ds, tmp_path / "a.ome.zarr", levels=3)
    assert [level.tolist() for level in levels_of(tmp_path / "a.ome.zarr/labels/cells")[1:]] == [
        [[1, 7], [200, 4]],
        [[1]],
    ]


def test_pixels_are_computed_once_though_there_are_levels(tmp_path):
    computed = []

    def block(pixels, block_info=None):
        computed.append(block_info[0]["chunk-location"])
        return pixels

    pixels = da.zeros((2, 600, 600), dtype="u1", chunks=(1, 300, 600)).map_blocks(
        block, dtype="u1", meta=np.empty((0, 0, 0), "u1")
    )
    emio.imsave(xr.DataArray(pixels, dims=("c", "y", "x")), tmp_path / "a.ome.zarr")
    assert sorted(computed) == [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0)]
    assert len(levels_of(tmp_path / "a.ome.zarr")) == 3


def test_coarser_levels_have_chunks_and_shards_like_the_finest(tmp_path):
    emio.imsave(
        image((2, 600, 500), "cyx"),
        tmp_path / "a.ome.zarr",
        chunks={"c": 1, "y": 100, "x": 200},
        shards={"c": 2, "y": 300, "x": 400},
    )
    arrays = [zarr.open_array(tmp_path / f"a.ome.zarr/{k}", mode="r") for k in range(3)]
    assert [array.chunks for array in arrays] == [(1, 100, 200), (1, 100, 200), (1, 100, 125)]
    assert [array.shards for array in arrays] == [(2, 300, 400), (2, 300, 400), (2, 200, 125)]
    np.testing.assert_array_equal(arrays[1], np.rint(arrays[0][...].reshape(2, 300, 2, 250, 2).mean((2, 4))))


def test_a_cluster_makes_levels_too(tmp_path):
    distributed = pytest.importorskip("distributed")
    stack = image((4, 300, 300), "zyx").chunk(z=1)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        emio.imsave(stack, tmp_path / "a.ome.zarr")
    first, second = levels_of(tmp_path / "a.ome.zarr")
    np.testing.assert_array_equal(first, stack)
    np.testing.assert_array_equal(second, np.rint(first.reshape(4, 150, 2, 150, 2).mean((2, 4))))


# What comes back -----------------------------------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("lazy", [True, False])
def test_everything_comes_back_exactly(tmp_path, lazy, version):
    ds = xr.Dataset(
        {
            "image": image((2, 3, 300, 280), "tcyx").assign_attrs(gain=2.5),
            "cells": image((2, 3, 300, 280), "tcyx", "u1").assign_attrs(made_by="hand"),
        },
        coords={
            "t": ("t", np.array(["2024-02-29T12:00", "2024-03-01T00:00:01"], "M8[s]")),
            "c": ["BF", "a/b", "ß"],
            "x": ("x", np.arange(280) ** 1.5, {"units": "nm", "long_name": "position"}),
            "temperature": ("t", [77.0, 78.5], {"units": "K"}),
            "exposure": ((), 0.25, {"units": "s"}),
        },
        attrs={"acquisition": {"beam_energy": 300.0}, "sample": "gold", "metadata": {"fileheader": {"SW": 3}}},
    )
    with pytest.warns(EmioWarning, match=r"coordinates of t, x for other programs") as caught:
        emio.imsave(ds.chunk(t=1, y=100) if lazy else ds, tmp_path / "a.ome.zarr", version=version)
    assert len(caught) == 1
    found = emio.imload(tmp_path / "a.ome.zarr").compute()
    xr.testing.assert_identical(found.drop_attrs(deep=False), ds.drop_attrs(deep=False))
    assert {n: v.dtype for n, v in found.variables.items()} == {n: v.dtype for n, v in ds.variables.items()}
    assert found.attrs["acquisition"] == {"beam_energy": 300.0}
    assert found.attrs["metadata"]["fileheader"] == {"SW": 3}
    assert found.attrs["sample"] == "gold"
    again = emio.imsave(found.drop_vars(["t", "x"]), tmp_path / "b.ome.zarr")
    xr.testing.assert_equal(emio.imload(*again).compute(), found.drop_vars(["t", "x"]))


@pytest.mark.parametrize("axes", IMAGES)
def test_axes_come_back_in_their_own_order(tmp_path, axes):
    emio.imsave(IMAGES[axes], tmp_path / "a.ome.zarr")
    found = emio.imload(tmp_path / "a.ome.zarr").image.compute()
    assert "".join(found.dims) == axes
    xr.testing.assert_identical(found, IMAGES[axes])


def test_without_our_record_the_rest_says_the_same(tmp_path):
    emio.imsave(IMAGES["tczyx"], tmp_path / "a.ome.zarr")
    root = tmp_path / "a.ome.zarr" / "zarr.json"
    content = json.loads(root.read_text())
    del content["attributes"]["emio"]
    root.write_text(json.dumps(content))
    xr.testing.assert_equal(emio.imload(tmp_path / "a.ome.zarr").image.compute(), IMAGES["tczyx"])


def test_a_coarser_level_has_its_own_coordinates(tmp_path):
    ds = xr.Dataset({"image": IMAGES["cyx"], "cells": IMAGES["cyx"]})
    emio.imsave(ds, tmp_path / "a.ome.zarr")
    coarse = emio.imload(tmp_path / "a.ome.zarr", level=1)
    assert (coarse.image.shape, coarse.cells.shape) == ((3, 150, 140), (3, 150, 140))
    assert coarse.x.values[:2].tolist() == [10.25, 11.25]
    assert coarse.x.attrs == {"units": "nm"}
    assert coarse.c.values.tolist() == ["r", "g", "b"]


def test_an_index_before_times_or_channels_makes_a_set_of_stores(tmp_path):
    stack = image((2, 3, 4, 5), "icyx", i=[3, 10])
    paths = emio.imsave(stack, tmp_path / "a.ome.zarr")
    assert [Path(path).name for path in paths] == ["a.i_03.ome.zarr", "a.i_10.ome.zarr"]
    for path in paths:
        check_image(path, "0.5")
    xr.testing.assert_identical(emio.imload(tmp_path / "a.*.ome.zarr").image.compute(), stack)


# Refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (image((2, 2, 4, 5), "yxvu"), r"no place for v, u.*\.zarr"),
        (image((4, 5), "tx"), r"at least two of z, y, x.*\.zarr"),
        (image((4, 5), "yx", "?"), r"bool.*astype\(\"u1\"\).*\.zarr"),
        (image((4, 5), "yx", "c8"), r"complex64.*modulus.*\.zarr"),
        (image((0, 5), "yx"), r"no pixels.*\.zarr"),
        (
            xr.Dataset({"image": image((2, 4, 5), "zyx"), "sum": image((4, 5), "yx")}),
            r"'sum'.*not integer labels.*\.zarr",
        ),
        (
            xr.Dataset({"image": image((4, 5), "yx"), "phase": image((4, 5), "yx", "f4")}),
            r"'phase', float32.*not integer labels.*\.zarr",
        ),
        (
            xr.Dataset({"one": image((4, 5), "yx"), "two": image((4, 5), "yx")}),
            "which of one, two is the image",
        ),
        (
            xr.Dataset({k: image((4, 5), "yx") for k in ("image", "a", "label_a")}),
            "'label_a' and 'a' would have one name",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_way_out(tmp_path, content, says):
    with pytest.raises(EmioError, match=says):
        emio.imsave(content, tmp_path / "a.ome.zarr")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"levels": 0}, "at least 1"),
        ({"levels": 1.5}, "whole number"),
        ({"version": "0.3"}, "one of '0.5', '0.4'"),
        ({"version": "0.4", "shards": {"y": 2}}, "version 2 of Zarr has no shards"),
        ({"chunks": {"t": 2}}, "axis 't'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(tmp_path, options, says):
    with pytest.raises(ArgumentError, match=says):
        emio.imsave(image((4, 5), "yx"), tmp_path / "a.ome.zarr", **options)
    assert list(tmp_path.iterdir()) == []


# Remote stores -------------------------------------------------------------------------------------------------------


@pytest.fixture
def memory():
    fs = fsspec.filesystem("memory")
    yield fs
    if fs.exists("/lab"):
        fs.rm("/lab", recursive=True)


@VERSIONS
def test_stores_are_written_to_any_file_system_the_root_last(memory, version):
    ds = xr.Dataset({"image": IMAGES["cyx"].chunk(c=1), "cells": IMAGES["cyx"].chunk(c=1)})
    emio.imsave(ds, "memory://lab/a.ome.zarr", version=version)
    xr.testing.assert_equal(emio.imload("memory://lab/a.ome.zarr").compute(), ds.compute())
    np.testing.assert_array_equal(
        emio.imload("memory://lab/a.ome.zarr", level=1).image,
        np.rint(IMAGES["cyx"].values.reshape(3, 150, 2, 140, 2).mean((2, 4))),
    )
    created = {name: memory.info(name)["created"] for name in memory.find("/lab/a.ome.zarr")}
    root = {"0.5": "zarr.json", "0.4": ".zgroup"}[version]
    assert max(created, key=created.__getitem__) == f"/lab/a.ome.zarr/{root}"


def test_a_remote_store_that_fails_leaves_nothing(memory):
    def fails(block):
        raise RuntimeError("detector on fire")

    pixels = da.zeros((4, 4), chunks=2).map_blocks(fails, dtype="f8", meta=np.empty((0, 0)))
    with pytest.raises(RuntimeError, match="on fire"):
        emio.imsave(xr.DataArray(pixels, dims=("y", "x")), "memory://lab/a.ome.zarr")
    assert not memory.exists("/lab/a.ome.zarr")
