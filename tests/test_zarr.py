"""Zarr stores: groups of xarray, bare arrays, groups of arrays, OME-Zarr."""

import json
import pickle
import shutil

import dask
import fsspec
import intake
import numpy as np
import pytest
import xarray as xr
import zarr

import intake_emio as emio
from intake_emio.errors import ArgumentError, EmioError, EmioWarning, HeaderError, MissingFileError, StorageError
from intake_emio.formats.zarr import ZarrSource

from .encoders.zarr import write_array, write_group
from .servers import serving

SCAN = np.arange(3 * 4 * 6 * 8, dtype="u2").reshape(3, 4, 6, 8)
STACK = SCAN[0]
VERSIONS = pytest.mark.parametrize("version", [2, 3])
pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata", "ignore:.*Zarr V3 specification", "ignore:Port")


def saved(dataset, path, version=3, **options):
    dataset.to_zarr(path, zarr_format=version, **options)
    return path


@pytest.fixture
def scan():
    times = np.arange(12).reshape(3, 4).astype("M8[s]").astype("M8[ns]")
    return xr.Dataset(
        {
            "image": (("y", "x", "v", "u"), SCAN, {"gain": 2.5}),
            "navigator": (("y", "x"), SCAN[..., 0, 0]),
        },
        coords={
            "y": ("y", [0.0, 0.5, 1.0], {"units": "nm"}),
            "x": ("x", ["left", "a", "b", "right"]),
            "label": ("x", ["p", "q", "r", "ä"]),
            "time": (("y", "x"), times),
            "dwell": ("x", np.array([1, 2, 3, 4], "m8[ns]")),
            "exposure": 0.25,
        },
    )


# Groups of xarray ----------------------------------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("chunks", ["auto", "frame", None])
def test_what_xarray_wrote_comes_back_with_all_variables_and_coordinates(tmp_path, scan, version, chunks):
    ds = emio.imload(saved(scan, tmp_path / "scan.zarr", version), chunks=chunks)
    xr.testing.assert_equal(ds.compute(), scan)
    assert (ds.image.dims, ds.image.dtype) == (("y", "x", "v", "u"), np.uint16)
    assert ds.y.attrs == {"units": "nm"}
    assert ds.image.attrs == {"gain": 2.5}
    assert ds.attrs["metadata"]["spacing"] == {"y": 0.5}


@VERSIONS
def test_zeros_stay_zeros_though_they_are_the_fill_value(tmp_path, version):
    store = write_group(tmp_path / "a.zarr", version=version)
    write_array(store / "image", STACK, version=version, dims=["i", "y", "x"], chunks=(1, 6, 8), fill_value=0)
    image = emio.imload(store).image
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, STACK)


def test_scale_and_offset_are_not_applied_but_told(tmp_path):
    store = write_group(tmp_path / "a.zarr")
    write_array(store / "image", STACK, dims=["i", "y", "x"], attrs={"scale_factor": 0.5, "add_offset": 3})
    image = emio.imload(store).image
    np.testing.assert_array_equal(image, STACK)
    assert image.attrs == {"scale_factor": 0.5, "add_offset": 3}


@VERSIONS
def test_the_image_is_the_variable_of_most_dimensions_and_others_stay_beside_it(tmp_path, version):
    ds = xr.Dataset({"sum": (("a", "b"), STACK[0]), "frames": (("time", "row", "col"), STACK)})
    found = emio.imload(saved(ds, tmp_path / "a.zarr", version))
    assert found.image.dims == ("t", "y", "x")
    np.testing.assert_array_equal(found.image, STACK)
    assert found["sum"].dims == ("a", "b")
    assert found.attrs["metadata"]["fileheader"]["dims"] == ["time", "row", "col"]


@pytest.mark.parametrize(
    ("dims", "axes"),
    [
        (("scan_y", "scan_x", "qy", "qx"), "yxvu"),
        (("time", "band", "lat", "lon"), "tcyx"),
        (("frame", "depth", "height", "width"), "izyx"),
        (("y", "x", "energy", "u"), "yxcu"),
    ],
)
def test_well_known_names_of_dimensions_become_letters(tmp_path, dims, axes):
    ds = xr.Dataset({"image": (dims, SCAN)}, coords={dims[0]: (dims[0], [1.0, 2.0, 4.0], {"units": "s"})})
    image = emio.imload(saved(ds, tmp_path / "a.zarr")).image
    assert "".join(image.dims) == axes
    assert image.coords[axes[0]].values.tolist() == [1, 2, 4]


def test_unknown_names_get_the_usual_letters_with_a_warning(tmp_path):
    saved(xr.Dataset({"image": (("tilt", "y", "x"), STACK)}), tmp_path / "a.zarr")
    with pytest.warns(EmioWarning, match="tilt"):
        assert emio.imload(tmp_path / "a.zarr").image.dims == ("i", "y", "x")
    assert emio.imload(tmp_path / "a.zarr", metadata={"axes": "tyx"}).image.dims == ("t", "y", "x")


def test_a_variable_asked_for_by_name_brings_its_coordinates_only(tmp_path, scan):
    saved(scan, tmp_path / "a.zarr")
    for ds in (
        emio.imload(tmp_path / "a.zarr", ds_path="navigator"),
        emio.imload(tmp_path / "a.zarr" / "navigator"),
    ):
        np.testing.assert_array_equal(ds.image, scan.navigator)
        assert list(ds.data_vars) == ["image"]
        assert ds.y.values.tolist() == [0, 0.5, 1]


@VERSIONS
def test_groups_within_a_store_are_opened_by_path(tmp_path, scan, version):
    saved(scan, tmp_path / "a.zarr", version, group="deep/er")
    for ds in (emio.imload(tmp_path / "a.zarr", ds_path="deep/er"), emio.imload(tmp_path / "a.zarr/deep/er")):
        np.testing.assert_array_equal(ds.image, SCAN)


def test_what_we_save_comes_back_exactly(tmp_path, scan):
    scan.attrs = {"acquisition": {"beam_energy": 300.0}, "format": "blo", "metadata": {"fileheader": {"SW": 3}}}
    emio.imsave(scan, tmp_path / "a.zarr")
    ds = emio.imload(tmp_path / "a.zarr")
    xr.testing.assert_equal(ds.compute(), scan)
    assert ds.attrs["acquisition"] == {"beam_energy": 300.0}
    assert ds.attrs["metadata"]["fileheader"] == {"SW": 3}
    again = emio.imsave(ds, tmp_path / "b.zarr")[0]
    xr.testing.assert_equal(emio.imload(again).compute(), scan)


# Arrays --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "sig_dims", "axes"),
    [
        ((8,), 2, "x"),
        ((6, 8), 2, "yx"),
        ((4, 6, 8), 2, "iyx"),
        ((3, 4, 6, 8), 2, "yxvu"),
        ((2, 3, 4, 6, 8), 2, "iyxvu"),
        ((2, 2, 3, 4, 6, 8), 2, "ityxvu"),
        ((4, 6, 8), 1, "yxc"),
    ],
)
@VERSIONS
def test_bare_arrays_get_axes_by_number(tmp_path, shape, sig_dims, axes, version):
    array = np.arange(np.prod(shape), dtype="f4").reshape(shape)
    write_array(tmp_path / "a.zarr", array, version=version)
    image = emio.imload(tmp_path / "a.zarr", sig_dims=sig_dims).image
    assert "".join(image.dims) == axes
    np.testing.assert_array_equal(image, array)


@VERSIONS
@pytest.mark.parametrize("dtype", ["u1", ">u2", "<i4", ">f4", "<f8", "?"])
@pytest.mark.parametrize("fortran_order", [False, True])
def test_stored_types_and_orders_come_back_as_native_arrays(tmp_path, version, dtype, fortran_order):
    if version == 3 and fortran_order:
        pytest.skip("version 3 has a codec for that")
    array = (STACK % 256).astype(dtype)
    fill = False if dtype == "?" else 0
    write_array(
        tmp_path / "a.zarr", array, version=version, chunks=(3, 4, 5), fortran_order=fortran_order, fill_value=fill
    )
    image = emio.imload(tmp_path / "a.zarr").image
    assert image.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(image, array)
    np.testing.assert_array_equal(image[1::2, ::3, 5], array[1::2, ::3, 5])


@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize("deflate", [False, True])
def test_chunks_that_are_missing_show_the_fill_value(tmp_path, separator, deflate):
    write_array(
        tmp_path / "a.zarr",
        STACK,
        version=2,
        chunks=(1, 6, 8),
        separator=separator,
        deflate=deflate,
        fill_value=7,
        skip=((2, 0, 0),),
    )
    image = emio.imload(tmp_path / "a.zarr").image
    np.testing.assert_array_equal(image[[0, 1, 3]], STACK[[0, 1, 3]])
    assert (image[2] == 7).all()


def test_shards_are_read_whole(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=SCAN, chunks=(1, 1, 3, 4), shards=(3, 2, 6, 8))
    ds = emio.imload(tmp_path / "a.zarr")
    assert intake.open_emio_zarr(tmp_path / "a.zarr").image.pixels.natural == (3, 2, 6, 8)
    np.testing.assert_array_equal(ds.image, SCAN)


def test_automatic_chunks_are_multiples_of_the_stored_ones(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(100, 1000, 1000), chunks=(7, 512, 512), dtype="u2")
    chunks = emio.imload(tmp_path / "a.zarr").image.data.chunksize
    assert all(c % n == 0 or c == size for c, n, size in zip(chunks, (7, 512, 512), (100, 1000, 1000), strict=True))
    assert np.prod(chunks) * 2 <= 16 << 20


def test_calibration_of_a_bare_array_is_taken_from_its_attributes(tmp_path):
    attrs = {"axes": ["t", "y", "x"], "spacing": [1, 0.5, 0.5], "units": ["s", "nanometer", "nm"]}
    write_array(tmp_path / "a.zarr", STACK, attrs=attrs)
    image = emio.imload(tmp_path / "a.zarr").image
    assert image.dims == ("t", "y", "x")
    assert emio.get_spacing(image) == (1, 0.5, 0.5)
    assert emio.get_spacing_units(image) == ("s", "nm", "nm")


def test_frames_are_arranged_anew(tmp_path):
    write_array(tmp_path / "a.zarr", STACK, chunks=(3, 6, 8))
    np.testing.assert_array_equal(emio.imload(tmp_path / "a.zarr", nav_shape=(2, 2)).image, STACK.reshape(2, 2, 6, 8))
    with pytest.warns(EmioWarning, match="2 of 6"):
        more = emio.imload(tmp_path / "a.zarr", nav_shape=(2, 3)).image
    assert more.dims == ("y", "x", "v", "u")
    np.testing.assert_array_equal(more.values.reshape(6, 6, 8)[:4], STACK)
    assert not more.values[1, 1:].any()
    shifted = emio.imload(tmp_path / "a.zarr", sync_offset=1).image
    np.testing.assert_array_equal(shifted[:3], STACK[1:])
    assert not shifted[3].values.any()
    with pytest.raises(ArgumentError, match="sig_shape"):
        emio.imload(tmp_path / "a.zarr", sig_shape=(8, 6))


def test_of_several_arrays_the_one_that_outweighs_all_others_is_read_with_a_warning(tmp_path):
    store = write_group(tmp_path / "a.zarr")
    write_array(store / "deep" / "scan", SCAN)
    write_group(store / "deep")
    write_array(store / "sum", STACK[0])
    with pytest.warns(EmioWarning, match=r"deep/scan.*sum \(6, 8\) uint16"):
        ds = emio.imload(store)
    np.testing.assert_array_equal(ds.image, SCAN)
    assert [entry["name"] for entry in ds.attrs["metadata"]["datasets"]] == ["deep/scan", "sum"]
    np.testing.assert_array_equal(emio.imload(store, ds_path="/sum").image, STACK[0])


def test_arrays_of_equal_weight_have_to_be_chosen(tmp_path):
    store = write_group(tmp_path / "a.zarr")
    write_array(store / "one", STACK)
    write_array(store / "two", STACK)
    with pytest.raises(ArgumentError, match=r"ds_path=.*one \(4, 6, 8\) uint16; two"):
        emio.imload(store)


# OME-Zarr ------------------------------------------------------------------------------------------------------------


def ome_zarr(path, arrays, axes, steps, *, version=3, extra=None, translation=None, top=None, **more):
    """An OME-Zarr 0.4 (Zarr version 2) or 0.5 (3) image; `axes` are (name, type, unit)."""
    entry = {
        "name": "scan",
        "axes": [{k: v for k, v in zip(("name", "type", "unit"), axis, strict=False) if v} for axis in axes],
        "datasets": [],
        **({"coordinateTransformations": top} if top else {}),
    }
    for level, (array, step) in enumerate(zip(arrays, steps, strict=True)):
        transformations = [{"type": "scale", "scale": step}]
        if translation and level == 0:
            transformations.append({"type": "translation", "translation": translation})
        entry["datasets"].append({"path": f"s{level}", "coordinateTransformations": transformations})
        write_array(path / f"s{level}", array, version=version, **more)
    keys = {"multiscales": [entry], **(extra or {})}
    write_group(path, {"ome": {"version": "0.5", **keys}} if version == 3 else keys, version=version)
    return path


SPACE = [("z", "space", "nanometer"), ("y", "space", "nanometer"), ("x", "space", "nanometer")]


@VERSIONS
def test_an_ome_zarr_image_has_its_scale_units_and_levels(tmp_path, version):
    store = ome_zarr(
        tmp_path / "a.ome.zarr",
        [STACK, STACK[:, ::2, ::2]],
        SPACE,
        [[2.0, 0.5, 0.5], [2.0, 1.0, 1.0]],
        version=version,
        translation=[0, 10, 20],
    )
    image = emio.imload(store).image
    assert image.dims == ("z", "y", "x")
    assert image.y.values.tolist() == [10 + 0.5 * k for k in range(6)]
    assert (image.x.values[0], image.x.attrs["units"], emio.get_spacing(image)) == (20, "nm", (2, 0.5, 0.5))
    np.testing.assert_array_equal(image, STACK)
    for coarse in (emio.imload(store, level=1), emio.imload(store / "s1"), emio.imload(store, ds_path="s1")):
        np.testing.assert_array_equal(coarse.image, STACK[:, ::2, ::2])
        assert emio.get_spacing(coarse) == (2, 1, 1)
    with pytest.raises(ArgumentError, match=r"level=2.*0 to 1"):
        emio.imload(store, level=2)


def test_transformations_of_the_whole_come_on_top_of_those_of_a_level(tmp_path):
    top = [{"type": "scale", "scale": [1, 10, 10]}, {"type": "translation", "translation": [0, 1, 0]}]
    store = ome_zarr(tmp_path / "a.zarr", [STACK], SPACE, [[1, 2, 2]], translation=[0, 3, 0], top=top)
    image = emio.imload(store).image
    assert image.y.values[:2].tolist() == [31, 51]


def test_channels_have_their_names_and_axes_without_calibration_none(tmp_path):
    axes = [("t", "time", "second"), ("c", "channel"), ("y", "space"), ("x", "space", "1/nm")]
    extra = {"omero": {"channels": [{"label": "HAADF"}, {"label": "BF"}]}}
    store = ome_zarr(tmp_path / "a.zarr", [SCAN[:, :2]], axes, [[1, 1, 1, 0.5]], extra=extra)
    image = emio.imload(store).image
    assert image.dims == ("t", "c", "y", "x")
    assert image.c.values.tolist() == ["HAADF", "BF"]
    assert (image.t.attrs, image.x.attrs) == ({"units": "s"}, {"units": "1/nm"})
    assert "y" not in image.coords


def test_longer_names_of_axes_go_by_their_type(tmp_path):
    axes = [("frame time", "time"), ("rows", "space"), ("cols", "space")]
    image = emio.imload(ome_zarr(tmp_path / "a.zarr", [STACK], axes, [[1, 1, 1]])).image
    assert image.dims == ("t", "y", "x")


@pytest.mark.parametrize("axes", [None, ["t", "c", "z", "y", "x"]])
def test_older_versions_are_read(tmp_path, axes):
    entry = {"datasets": [{"path": "0"}], **({"axes": axes} if axes else {})}
    write_group(tmp_path / "a.zarr", {"multiscales": [entry]}, version=2)
    write_array(tmp_path / "a.zarr" / "0", STACK[None, None], version=2)
    assert emio.imload(tmp_path / "a.zarr").image.dims == ("t", "c", "z", "y", "x")


def test_labels_of_the_image_are_variables(tmp_path):
    store = ome_zarr(tmp_path / "a.zarr", [STACK], SPACE, [[1, 1, 1]])
    write_group(store / "labels", {"ome": {"labels": ["cells", "coarse"]}})
    ome_zarr(store / "labels" / "cells", [STACK // 9], SPACE, [[1, 1, 1]])
    ome_zarr(store / "labels" / "coarse", [STACK[:, ::2]], SPACE, [[1, 2, 1]])
    ds = emio.imload(store)
    assert list(ds.data_vars) == ["image", "label_cells"]
    np.testing.assert_array_equal(ds.label_cells, STACK // 9)


def test_collections_of_bioformats2raw_are_opened_by_series(tmp_path):
    write_group(tmp_path / "a.zarr", {"bioformats2raw.layout": 3}, version=2)
    ome_zarr(tmp_path / "a.zarr" / "0", [STACK], SPACE, [[1, 1, 1]], version=2)
    ome_zarr(tmp_path / "a.zarr" / "1", [STACK + 1], SPACE, [[1, 1, 1]], version=2)
    ds = emio.imload(tmp_path / "a.zarr", series=1)
    np.testing.assert_array_equal(ds.image, STACK + 1)
    assert [entry["name"] for entry in ds.attrs["metadata"]["datasets"]] == ["0", "1"]
    with pytest.raises(ArgumentError, match="series=2"):
        emio.imload(tmp_path / "a.zarr", series=2)


def test_plates_are_refused_with_the_paths_of_fields(tmp_path):
    write_group(tmp_path / "a.zarr", {"ome": {"plate": {"wells": [{"path": "A/1"}, {"path": "A/2"}]}}})
    with pytest.raises(ArgumentError, match=r"plate.*'A/1/0' or 'A/2/0'"):
        emio.imload(tmp_path / "a.zarr")


@pytest.mark.parametrize("step", [0, None])
def test_a_scale_of_zero_or_none_is_no_calibration(tmp_path, step):
    store = ome_zarr(tmp_path / "a.zarr", [STACK], SPACE, [[1, step, 1]])
    with pytest.warns(EmioWarning, match="axis 'y'"):
        assert "y" not in emio.imload(store).image.coords


@pytest.mark.parametrize(
    "broken",
    [
        {"datasets": [{"path": "gone"}]},
        {"datasets": [{"path": "s0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}]},
        {"datasets": []},
        {"datasets": "s0"},
        {"axes": [{"name": "y"}, {"name": "x"}]},
        {"axes": 3},
    ],
)
def test_broken_multiscales_are_refused(tmp_path, broken):
    store = ome_zarr(tmp_path / "a.zarr", [STACK], SPACE, [[1, 1, 1]])
    content = json.loads((store / "zarr.json").read_text())
    content["attributes"]["ome"]["multiscales"][0].update(broken)
    (store / "zarr.json").write_text(json.dumps(content))
    with pytest.raises(HeaderError, match=r"a\.zarr"):
        emio.imload(store)


# Where stores are ----------------------------------------------------------------------------------------------------


@VERSIONS
def test_a_store_is_recognised_whatever_it_is_called(tmp_path, scan, version):
    saved(scan, tmp_path / "scan.dir", version)
    assert emio.detect(tmp_path / "scan.dir").format == "zarr"


@VERSIONS
@pytest.mark.parametrize("inner", ["", "inside"])
def test_zipped_stores_are_read(tmp_path, scan, version, inner):
    saved(scan, tmp_path / "root" / inner, version)
    path = shutil.make_archive(str(tmp_path / "scan.zarr"), "zip", tmp_path / "root")
    assert emio.detect(path).format == "zarr"
    xr.testing.assert_equal(emio.imload(path).compute(), scan)


@VERSIONS
def test_stores_in_object_stores_are_read(tmp_path, scan, version):
    saved(scan, tmp_path / "scan.zarr", version)
    path = shutil.make_archive(str(tmp_path / "zipped"), "zip", tmp_path / "scan.zarr")
    memory = fsspec.filesystem("memory")
    try:
        memory.put(str(tmp_path / "scan.zarr"), "/stores/scan.zarr", recursive=True)
        memory.put(path, "/stores/scan.zip")
        for uri in ("memory://stores/scan.zarr", "memory://stores/scan.zip"):
            xr.testing.assert_equal(emio.imload(uri).compute(), scan)
        np.testing.assert_array_equal(emio.imload("memory://stores/scan.zarr/navigator").image, scan.navigator)
    finally:
        memory.rm("/stores", recursive=True)


def test_a_graph_holds_names_only_and_pickles_small(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(1000, 1000, 64, 64), chunks=(1, 10, 64, 64), dtype="u2")
    source = ZarrSource(tmp_path / "a.zarr")
    image = source.to_dask().image
    assert len(pickle.dumps(image)) < 20_000
    assert len(pickle.dumps(source.image.pixels)) < 2_000
    copy = pickle.loads(pickle.dumps(source))
    assert copy == source
    assert dask.base.tokenize(copy) == dask.base.tokenize(source)


def test_threads_processes_and_clusters_read_the_same(tmp_path):
    distributed = pytest.importorskip("distributed")
    zarr.create_array(tmp_path / "a.zarr", data=SCAN, chunks=(1, 2, 6, 8))
    image = emio.imload(tmp_path / "a.zarr", chunks="frame").image
    expected = SCAN.sum(axis=(0, 1))
    np.testing.assert_array_equal(image.sum(("y", "x")).compute(scheduler="threads"), expected)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        np.testing.assert_array_equal(image.sum(("y", "x")).compute(), expected)


def test_a_store_that_changes_gets_new_names_in_graphs(tmp_path):
    write_array(tmp_path / "a.zarr", STACK)
    before = emio.imload(tmp_path / "a.zarr").image
    assert before.data.name == emio.imload(tmp_path / "a.zarr").image.data.name
    shutil.rmtree(tmp_path / "a.zarr")
    write_array(tmp_path / "a.zarr", STACK[:2] + 1)
    after = emio.imload(tmp_path / "a.zarr").image
    assert before.data.name != after.data.name
    np.testing.assert_array_equal(after, STACK[:2] + 1)


# Refusals ------------------------------------------------------------------------------------------------------------


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.zarr"):
        emio.imload(tmp_path / "none.zarr")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(HeaderError, match=r"no Zarr metadata.*zarr\.json"):
        emio.imload(tmp_path / "empty.zarr")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text("a")
    with pytest.raises(EmioError, match="folder"):
        emio.imload(tmp_path / "other")
    (tmp_path / "plain.zarr").write_bytes(b"not a folder")
    with pytest.raises(EmioError, match=r"plain\.zarr"):
        emio.imload(tmp_path / "plain.zarr")
    with pytest.raises(HeaderError, match="expected a folder"):
        emio.imload(tmp_path / "plain.zarr", format="zarr")


def test_other_formats_refuse_stores_as_before(tmp_path):
    write_array(tmp_path / "a.zarr", STACK)
    with pytest.raises(StorageError, match="is a folder, and a file was expected"):
        emio.imload(tmp_path / "a.zarr", format="npy")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"zarr_format": 4}, "zarr_format|metadata"),
        ({"node_type": "tree"}, "metadata"),
        ({"codecs": [{"name": "emio.unheard"}]}, "emio.unheard.*install"),
        ({"shape": [4, 0, 8]}, "no pixels"),
        ({"data_type": "string", "codecs": [{"name": "vlen-utf8"}], "fill_value": ""}, "no pixels"),
    ],
)
def test_broken_metadata_are_refused_with_the_name_of_the_store(tmp_path, changed, says):
    write_array(tmp_path / "a.zarr", STACK, **changed)
    with pytest.raises(EmioError, match=rf"(?s)a\.zarr.*({says})"):
        emio.imload(tmp_path / "a.zarr")


@pytest.mark.parametrize("version", [2, 3])
def test_metadata_that_are_no_json_are_named(tmp_path, version):
    write_array(tmp_path / "a.zarr", STACK, version=version)
    name = {2: ".zarray", 3: "zarr.json"}[version]
    (tmp_path / "a.zarr" / name).write_text("{")
    with pytest.raises(HeaderError, match=rf"a\.zarr.*{name}"):
        emio.imload(tmp_path / "a.zarr")


def test_a_chunk_that_cannot_be_read_is_named(tmp_path):
    path = write_array(tmp_path / "a.zarr", STACK, chunks=(1, 6, 8))
    (path / "c" / "2" / "0" / "0").write_bytes(b"short")
    image = emio.imload(path).image
    with pytest.raises(StorageError, match=r"a\.zarr.*chunk c/2/0/0"):
        image.compute()
    path = write_array(tmp_path / "b.zarr", STACK, chunks=(1, 6, 8), version=2, deflate=True)
    (path / "3.0.0").write_bytes(b"garbage")
    with pytest.raises(StorageError, match=r"b\.zarr.*chunk 3\.0\.0"):
        emio.imload(path, chunks=None)


def test_more_than_the_memory_is_not_even_tried(tmp_path):
    write_array(tmp_path / "a.zarr", STACK, shape=[2**31, 2**31, 8])
    with pytest.raises(EmioError, match="do not fit into memory"):
        emio.imload(tmp_path / "a.zarr", chunks=None)


def test_wrong_paths_list_what_is_there(tmp_path):
    store = write_group(tmp_path / "a.zarr")
    write_array(store / "one", STACK)
    with pytest.raises(ArgumentError, match=r"'two'.*one \(4, 6, 8\) uint16"):
        emio.imload(store, ds_path="two")
    write_group(store / "empty")
    with pytest.raises(HeaderError, match="no arrays"):
        emio.imload(store, ds_path="empty")


def test_arguments_that_do_not_apply_are_refused(tmp_path):
    write_array(tmp_path / "a.zarr", STACK)
    with pytest.raises(ArgumentError, match="io_backend"):
        emio.imload(tmp_path / "a.zarr", io_backend="mmap")
    with pytest.raises(TypeError, match="key"):
        emio.imload(tmp_path / "a.zarr", key="x")


def test_stores_behind_web_servers_that_list_nothing_are_read(tmp_path, scan):
    saved(scan, tmp_path / "scan.zarr", consolidated=True)
    with serving(tmp_path) as server:
        xr.testing.assert_equal(emio.imload(f"{server.url}/scan.zarr").compute(), scan)
        np.testing.assert_array_equal(emio.imload(f"{server.url}/scan.zarr/navigator").image, scan.navigator)
