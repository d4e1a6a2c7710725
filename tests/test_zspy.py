"""ZSpy: HyperSpy's signals in Zarr stores, read."""

import hashlib
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import dask
import fsspec
import intake
import numpy as np
import pytest
import zarr
from numpy.testing import assert_array_equal

import intake_emio as emio
from intake_emio.errors import ArgumentError, ArgumentTypeError, EmioError, EmioWarning, HeaderError, StorageError
from intake_emio.formats.zspy import ZspySource

from .encoders.zarr import write_array, write_group
from .encoders.zspy import axis, navigation, write_ragged, write_tree, write_zspy, zipped
from .servers import serving

VERSIONS = pytest.mark.parametrize("version", [2, 3])
SCAN_AXES = [
    navigation("y", "nm", 0.5, -1),
    navigation("x", "nm", 0.25),
    axis("ky", "$A^{-1}$", 0.1),
    axis("kx", "$A^{-1}$", 0.2),
]


def counts(*shape, dtype="<u2"):
    return (np.arange(np.prod(shape)) % 60000).reshape(shape).astype(dtype)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scan.zspy"


def header(ds):
    return ds.attrs["metadata"]["fileheader"]


# Stores --------------------------------------------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("chunks", ["auto", "frame", None])
def test_a_scan_has_pixels_dims_and_calibration(path, version, chunks):
    scan = counts(3, 4, 5, 6)
    ds = emio.imload(
        write_zspy(path, scan, SCAN_AXES, title="gold", version=version, chunks=(2, 2, 5, 4)), chunks=chunks
    )
    assert (ds.image.dims, ds.image.dtype, ds.attrs["format"]) == (("y", "x", "v", "u"), np.uint16, "zspy")
    assert_array_equal(ds.image, scan)
    assert ds.y.values.tolist() == [-1, -0.5, 0]
    assert ds.u.values.tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert (ds.x.attrs["units"], ds.u.attrs["units"]) == ("nm", "1/angstrom")
    assert ds.attrs["acquisition"] == {"title": "gold"}
    assert header(ds)["axis_names"] == ["y", "x", "ky", "kx"]
    assert header(ds)["zarr_format"] == version


@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize("packed", ["folder", "zip", "folder in a zip"])
def test_stores_are_folders_or_zip_files_with_chunks_in_folders_or_not(path, tmp_path, separator, packed):
    write_zspy(path, counts(2, 3, 4), [navigation(), axis(), axis()], separator=separator, chunks=(1, 3, 4))
    if packed != "folder":
        path = zipped(path, tmp_path / "packed.zspy", "inner" if "folder" in packed else "")
    image = emio.imload(path).image
    assert image.dims == ("i", "y", "x")
    assert_array_equal(image, counts(2, 3, 4))


@VERSIONS
def test_remote_stores_are_read(path, version):
    write_zspy(path, counts(2, 3, 4), [navigation(), axis(), axis()], metadata={"a": {"b": 1}}, version=version)
    fs = fsspec.filesystem("memory")
    fs.put(str(path), f"/zspy{version}/scan.zspy", recursive=True)
    zip_file = zipped(path, path.with_suffix(".zip"))
    fs.put_file(str(zip_file), f"/zspy{version}/packed.zspy")
    for url in (f"memory://zspy{version}/scan.zspy", f"memory://zspy{version}/packed.zspy"):
        ds = emio.imload(url)
        assert_array_equal(ds.image, counts(2, 3, 4))
        assert header(ds)["metadata"]["a"] == {"b": 1}


@VERSIONS
def test_a_web_server_that_lists_nothing_needs_the_name_of_the_signal(path, version):
    write_zspy(path, counts(2, 3), [axis("y", "nm", 2), axis()], title="gold", version=version)
    with serving(path.parent) as server:
        with pytest.raises(HeaderError, match="pass ds_path="):
            emio.imload(f"{server.url}/scan.zspy")
        for arguments in ({"uri": "scan.zspy", "ds_path": "gold"}, {"uri": "scan.zspy/Experiments/gold"}):
            with pytest.warns(EmioWarning, match="cannot be listed"):
                ds = emio.imload(f"{server.url}/{arguments.pop('uri')}", **arguments)
            assert_array_equal(ds.image, counts(2, 3))
            assert ds.y.values.tolist() == [0, 2]


class OwnStore(zarr.storage.MemoryStore):
    """As others may make one: it does not know how to become read-only."""

    def with_read_only(self, read_only=False):
        raise NotImplementedError


def test_stores_are_read_as_objects_too(path, tmp_path):
    write_zspy(path, counts(2, 3, 4), [navigation(), axis(), axis()], chunks=(1, 3, 4))
    contents = {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    buffers = {key: zarr.core.buffer.cpu.Buffer.from_bytes(value) for key, value in contents.items()}
    memory = zarr.storage.MemoryStore(buffers)
    stores = [
        contents,
        memory,
        OwnStore(buffers),
        zarr.storage.LocalStore(path),
        zarr.storage.ZipStore(zipped(path, tmp_path / "packed.zip"), mode="r"),
        zarr.storage.FsspecStore.from_url(f"file://{path}"),
        fsspec.get_mapper(f"file://{path}"),
    ]
    for store in stores:
        assert_array_equal(emio.imload(store, format="zspy").image, emio.imload(store).image)
        source = ZspySource(store, chunks={"i": 1})
        assert_array_equal(source.to_dask().image, counts(2, 3, 4))
        assert_array_equal(pickle.loads(pickle.dumps(source)).read().image, counts(2, 3, 4))
        assert source == source.configure_new()
    with pytest.raises(ArgumentError, match="catalog"):
        ZspySource(memory).yaml()
    for thing in (3, {"a": 1}, zarr.open_group(memory, mode="r"), None):
        with pytest.raises(ArgumentTypeError, match="neither a path nor a Zarr store"):
            ZspySource(thing)


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_graphs_carry_names_only(path, scheduler):
    scan = counts(8, 8, 16, 16)
    write_zspy(path, scan, SCAN_AXES, chunks=(2, 2, 16, 16))
    source = intake.open_emio_zspy(path, chunks={"y": 4})
    assert len(pickle.dumps(source.image.pixels)) < 3000
    with dask.config.set(scheduler=scheduler, num_workers=2):
        assert_array_equal(source.to_dask().image.sum(("v", "u")), scan.sum((2, 3)))


def test_dask_chunks_are_whole_stored_chunks_or_shards(path):
    write_zspy(path, counts(64, 64, 16, 16), SCAN_AXES, chunks=(3, 5, 16, 16))
    pixels = ZspySource(path).image.pixels
    assert all(
        n % m == 0 or n == size for n, m, size in zip(pixels.chunks(), (3, 5, 16, 16), pixels.shape, strict=True)
    )
    group = zarr.open_group(path.with_name("sharded.zspy"), mode="w", zarr_format=3)
    shutil.copytree(
        write_zspy(path.with_name("v3.zspy"), counts(8, 8), [axis(), axis()], version=3),
        group.store.root,
        dirs_exist_ok=True,
    )
    shutil.rmtree(group.store.root / "Experiments" / "__unnamed__" / "data")
    array = group.create_array("Experiments/__unnamed__/data", shape=(8, 8), dtype="u2", chunks=(2, 2), shards=(4, 8))
    array[...] = counts(8, 8)
    pixels = ZspySource(group.store.root).image.pixels
    assert pixels.natural == (4, 8)
    assert_array_equal(emio.imload(group.store.root).image, counts(8, 8))


def test_consolidated_metadata_are_not_believed(path):
    write_zspy(path, counts(2, 3), [axis(), axis()])
    (path / ".zmetadata").write_text(
        json.dumps({"zarr_consolidated_format": 1, "metadata": {".zgroup": {"zarr_format": 2}}})
    )
    assert_array_equal(emio.imload(path).image, counts(2, 3))


def test_a_read_only_folder_is_read(path):
    write_zspy(path, counts(2, 3), [axis(), axis()])
    for folder, _, _ in os.walk(path):
        os.chmod(folder, 0o555)
    try:
        assert_array_equal(emio.imload(path).image, counts(2, 3))
    finally:
        for folder, _, _ in os.walk(path):
            os.chmod(folder, 0o755)


# Recognition ---------------------------------------------------------------------------------------------------------


@VERSIONS
def test_content_decides_and_not_the_name(path, tmp_path, version):
    write_zspy(path, counts(2, 3), [axis(), axis()], version=version)
    for name in ("renamed.zarr", "renamed"):
        shutil.copytree(path, tmp_path / name)
        assert emio.detect(tmp_path / name).format == "zspy"
    assert emio.detect(zipped(path, tmp_path / "packed.zip")).format == "zspy"
    plain = write_array(tmp_path / "plain.zspy", counts(2, 3), version=version)
    assert emio.detect(plain).format == "zarr"


def test_a_group_of_experiments_is_enough(path):
    write_zspy(path, counts(2, 3), [axis(), axis()])
    (path / ".zattrs").unlink()
    assert emio.detect(path).format == "zspy"


def test_a_name_may_point_to_a_signal_in_the_store(path):
    write_zspy(path, counts(2, 3), [axis("y", "nm", 2), axis()], title="one")
    for name in ("Experiments/one", "Experiments/one/data", "Experiments"):
        assert emio.imload(path / name).y.values.tolist() == [0, 2]
    write_tree(path / "Experiments/one/learning_results", {"factors": counts(4, 4)})
    assert emio.detect(path / "Experiments/one/learning_results/factors").format == "zarr"


# Which signal --------------------------------------------------------------------------------------------------------


def test_the_largest_of_several_signals_is_opened_and_the_others_are_listed(path):
    for title, shape in (("small", (2, 3)), ("large", (5, 6)), ("also large", (6, 5))):
        write_zspy(path, counts(*shape), [axis(), axis()], title=title)
    ds = emio.imload(path)
    assert ds.image.shape == (6, 5)
    assert header(ds)["experiments"] == ["large", "small"]
    assert [d["name"] for d in ds.attrs["metadata"]["datasets"]] == ["also large", "large", "small"]
    for ds_path in ("small", "Experiments/small", "/Experiments/small/", "Experiments/small/data"):
        assert emio.imload(path, ds_path=ds_path).image.shape == (2, 3)
    with pytest.raises(ArgumentError, match=r"no signal 'tiny'; there are also large \(6, 5\), large"):
        emio.imload(path, ds_path="tiny")


def test_a_signal_without_data_does_not_count(path):
    write_zspy(path, counts(2, 3), [axis(), axis()], title="one")
    write_group(path / "Experiments" / "two", version=2)
    assert "datasets" not in emio.imload(path).attrs["metadata"]


# Axes ----------------------------------------------------------------------------------------------------------------

N, S = navigation, axis


@pytest.mark.parametrize(
    ("axes", "dims"),
    [
        ([S(), S()], "yx"),
        ([N(), S(), S()], "iyx"),
        ([N("time"), S(), S()], "tyx"),
        ([N("Frame time"), S(), S()], "tyx"),
        ([N(None, "s"), S(), S()], "tyx"),
        ([N("Depth"), S(), S()], "zyx"),
        ([N("thickness"), S(), S()], "zyx"),
        ([N(), N(), S(), S()], "yxvu"),
        ([N("x"), N("y"), S("width"), S("height")], "yxvu"),  # position decides
        ([N("Breite"), N("Höhe"), S("dx"), S("dy")], "yxvu"),
        ([N(), N(), N(), S(), S()], "iyxvu"),
        ([N("time"), N(), N(), S(), S()], "tyxvu"),
        ([N("z"), N("y"), N("x"), S("ky"), S("kx")], "zyxvu"),
        ([N(), N(), N(), N(), S(), S()], "ityxvu"),
        ([S("Energy", "eV")], "c"),
        ([N(), S()], "ic"),
        ([N("t"), S()], "tc"),
        ([N("z"), S()], "zc"),
        ([N("x"), S()], "xc"),
        ([N("position", "nm"), S()], "xc"),
        ([N(), N(), S()], "yxc"),
        ([N("z"), N(), N(), S()], "zyxc"),
        ([N("time"), N(), N(), S()], "tyxc"),
        ([N(), N(), N(), S()], "iyxc"),
        ([N(), N()], "yx"),  # transposed: no signal axis at all
        ([N(), N(), N(), N()], "yxvu"),
        ([S(), S(), S()], "iyx"),  # HyperSpy's BaseSignal
        ([S(), S(), S(), S()], "yxvu"),
        ([N("i"), N("t"), S("Y"), S("X")], "ityx"),  # letters of ours, each in its role
        ([N("c"), N("y"), S("v"), S("u")], "cyvu"),
        ([N("y"), N("x"), S("c")], "yxc"),
        ([N("v"), N("u"), S("y"), S("x")], "yxvu"),  # letters of ours, but not in their roles
        ([N("y"), N("y"), S("x"), S("x")], "yxvu"),
        ([N("stack_element"), N(), S(), S()], "ixvu"),
    ],
)
def test_axes_of_hyperspy_become_ours(path, axes, dims):
    shape = range(2, 2 + len(axes))
    ds = emio.imload(write_zspy(path, counts(*shape), axes))
    assert "".join(ds.image.dims) == dims
    assert ds.image.shape == tuple(shape)


def test_navigation_axes_behind_signal_axes_move_to_the_front(path):
    write_zspy(
        path, counts(5, 2, 3), [axis("Energy", "eV", 0.1, 3), navigation("y"), navigation("x")], chunks=(2, 2, 2)
    )
    image = emio.imload(path).image
    assert image.dims == ("y", "x", "c")
    assert_array_equal(image, counts(5, 2, 3).transpose(1, 2, 0))
    assert image.c.values == pytest.approx([3, 3.1, 3.2, 3.3, 3.4])


@pytest.mark.parametrize("units", [None, "", "px", "pixels", "<undefined>", "Undefined"])
def test_an_axis_that_counts_pixels_has_no_coordinate(path, units):
    ds = emio.imload(write_zspy(path, counts(2, 3), [axis("y", units), axis("x", units, 1, 0.5)]))
    assert list(ds.coords) == ["x"]
    assert ds.x.attrs == {}


def test_uneven_axes_have_their_values(path):
    axes = [
        axis("y"),
        {"_type": "DataAxis", "name": "x", "units": "eV", "navigate": False, "axis": np.array([1.0, 2, 4])},
    ]
    ds = emio.imload(write_zspy(path, counts(2, 3), axes))
    assert ds.x.values.tolist() == [1, 2, 4]
    assert ds.x.attrs == {"units": "eV"}


def function(expression, **more):
    return {
        "_type": "FunctionalDataAxis",
        "name": "x",
        "units": "nm",
        "navigate": False,
        "expression": expression,
        **more,
    }


def test_an_axis_may_be_a_function_of_another(path):
    axes = [axis("y"), function("a * x**2 - sqrt(b)", a=0.5, b=4.0, x=axis("x", None, 2.0, 1.0, size=3))]
    assert emio.imload(write_zspy(path, counts(2, 3), axes)).x.values.tolist() == [-1.5, 2.5, 10.5]


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('false')",
        "x.shape",
        "x if x else 1",
        "1 / 0 * x",
        "q * x",
        "x" + "+x" * 1000,
        "9**9**9**9*x",
    ],
)
def test_a_function_that_is_more_than_arithmetic_is_not_evaluated(path, expression):
    write_zspy(path, counts(2, 3), [axis("y"), function(expression, x=axis(size=3))])
    with pytest.warns(EmioWarning, match="axis 1 is the function .* it has no coordinate"):
        ds = emio.imload(path)
    assert "x" not in ds.coords
    assert header(ds)["axes"][1]["expression"] == expression


def test_axes_may_stand_in_one_group(path):
    ds = emio.imload(write_zspy(path, counts(2, 3), [axis("y", "nm", 2), axis()], listed_axes=True))
    assert ds.y.values.tolist() == [0, 2]


@pytest.mark.parametrize(("kind", "dims"), [("image", "iyx"), ("spectrum", "yxc"), (None, "iyx")])
def test_old_axes_do_not_say_which_of_them_navigate(path, kind, dims):
    axes = [{"name": None, "scale": 1.0, "offset": 0.0, "units": None} for _ in range(3)]
    metadata = {"Signal": {"record_by": kind}} if kind else {}
    assert "".join(emio.imload(write_zspy(path, counts(2, 3, 4), axes, metadata=metadata)).image.dims) == dims


def test_a_length_that_contradicts_the_array_is_a_warning(path):
    write_zspy(path, counts(2, 3), [axis(size=7), axis()])
    with pytest.warns(EmioWarning, match="2 pixels along axis 0, and its description says 7"):
        assert emio.imload(path).image.shape == (2, 3)


# Pixels --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["|u1", "<u2", ">u2", ">i4", "<i8", "<f4", ">f8", "|b1", "<c8", "<f2"])
@pytest.mark.parametrize("fortran", [False, True])
def test_every_type_in_either_order(path, dtype, fortran):
    data = (counts(3, 4) % 5).astype(dtype)
    fill = False if dtype == "|b1" else 0 if "c" not in dtype else [0.0, 0.0]
    write_zspy(path, data, [axis(), axis()], chunks=(2, 3), fortran_order=fortran, deflate=True, fill_value=fill)
    image = emio.imload(path).image
    assert image.dtype == data.dtype.newbyteorder("=")
    assert_array_equal(image, data)


@pytest.mark.parametrize("names", ["RGB", "RGBA"])
@pytest.mark.parametrize("dtype", ["|u1", "<u2"])
def test_colours_become_an_axis(path, names, dtype):
    data = np.zeros((2, 3, 4), [(name, dtype) for name in names])
    for k, name in enumerate(names):
        data[name] = counts(2, 3, 4) + 60 * k
    image = emio.imload(write_zspy(path, data, [navigation(), axis(), axis("x", "nm", 2)], chunks=(1, 2, 4))).image
    assert (image.dims, image.dtype) == (("i", "c", "y", "x"), np.dtype(dtype))
    assert image.c.values.tolist() == list(names.lower())
    for k, name in enumerate(names.lower()):
        assert_array_equal(image.sel(c=name), counts(2, 3, 4) + 60 * k)
    assert_array_equal(image[1, 1, 1:, ::2], data["G"][1, 1:, ::2])


def test_missing_chunks_show_the_fill_value(path):
    data = counts(4, 4) + 1
    write_zspy(path, data, [axis(), axis()], chunks=(2, 2), skip=((0, 1),), fill_value=7)
    wanted = data.copy()
    wanted[:2, 2:] = 7
    assert_array_equal(emio.imload(path).image, wanted)
    write_zspy(path.with_name("null.zspy"), data, [axis(), axis()], chunks=(2, 2), skip=((0, 1),), fill_value=None)
    assert emio.imload(path.with_name("null.zspy")).image[:2, 2:].values.tolist() == [[0, 0], [0, 0]]


@VERSIONS
def test_a_large_array_without_any_chunk_is_refused(path, version):
    skip = tuple((k,) for k in range(1))
    write_zspy(path, counts(1), [axis()], version=version, skip=skip)
    assert emio.imload(path).image.values.tolist() == [0]
    meta = path / "Experiments/__unnamed__/data" / (".zarray" if version == 2 else "zarr.json")
    meta.write_text(meta.read_text().replace('"shape": [1]', '"shape": [1099511627776]'))
    with pytest.raises(StorageError, match=r"no pixel of the .* array was ever written"):
        emio.imload(path)


# Metadata ------------------------------------------------------------------------------------------------------------


def test_metadata_keep_their_types(path):
    metadata = {
        "tree": {
            "none": None,
            "text": "µm",
            "flag": True,
            "number": 2.5,
            "_list_empty_a": "_None_",
            "_tuple_empty_b": "_None_",
            "_list_numbers": np.array([1.0, 2.5]),
            "_tuple_pair": np.array([1, 2]),
            "_list_words": ["p", "äöü", ""],
            "_list_12_items": {str(k): {"n": k} for k in range(12)},
            "_tuple_3_mixed": {"0": 1, "_tuple_1": np.array([2, 3]), "_list_2": ["a"]},
            "vector": np.array([1.5, 2.5]),
            "_datetime_date": "datetime.date(2014, 7, 9)",
            "_datetime_time_begin": "datetime.time(7, 8, 9, 123)",
            "_bs_pickle": "not looked at",
        }
    }
    ds = emio.imload(write_zspy(path, counts(2, 3), [axis(), axis()], metadata=metadata))
    assert header(ds)["metadata"]["tree"] == {
        "none": None,
        "text": "µm",
        "flag": True,
        "number": 2.5,
        "a": [],
        "b": [],
        "numbers": [1.0, 2.5],
        "pair": [1, 2],
        "words": ["p", "äöü", ""],
        "items": [{"n": k} for k in range(12)],
        "mixed": [1, [2, 3], ["a"]],
        "vector": [1.5, 2.5],
        "date": "2014-07-09",
        "begin": "07:08:09",
        "pickle": "bytes that are not read",
    }
    types = header(ds)["types"]
    assert {k.removeprefix("metadata/tree/"): v for k, v in types.items()} == {
        "b": "tuple",
        "pair": "tuple",
        "mixed": "tuple",
        "mixed/1": "tuple",
        "vector": "array <f8",
        "pickle": "note",
    }


def test_facts_of_the_microscope_have_our_names(path):
    metadata = {
        "General": {"title": "gold", "date": "2024-05-06", "time": "07:08:09", "time_zone": "+01:00"},
        "Acquisition_instrument": {
            "TEM": {
                "beam_energy": 200.0,
                "camera_length": 80.0,
                "magnification": 1e5,
                "convergence_angle": 1.5,
                "microscope": "Titan",
                "Stage": {"tilt_alpha": 3.0},
                "Detector": {"Camera": {"exposure": 0.5}, "EELS": {"dwell_time": 0.001}},
            }
        },
    }
    ds = emio.imload(write_zspy(path, counts(2, 3), [axis(), axis()], metadata=metadata))
    assert ds.attrs["acquisition"] == {
        "beam_energy": 200.0,
        "camera_length": 80.0,
        "magnification": 1e5,
        "convergence_angle": 1.5,
        "instrument": "Titan",
        "exposure_time": 0.5,
        "dwell_time": 0.001,
        "stage": {"tilt_alpha": 3.0},
        "title": "gold",
        "start_time": "2024-05-06T07:08:09+01:00",
    }


def test_what_cannot_be_read_in_the_metadata_is_a_note(path):
    write_zspy(path, counts(2, 3, 4), [navigation(), axis(), axis()], metadata={"big": np.zeros(2000)})
    signal = path / "Experiments" / "__unnamed__"
    write_tree(signal / "metadata" / "Markers", {"Points": {"kwargs": {"_tuple_sizes": np.array([1])}}})
    kwargs = signal / "metadata" / "Markers" / "Points" / "kwargs"
    write_ragged(kwargs / "offsets", 2)
    write_ragged(kwargs / "_ragged_shapes_offsets", 2)
    write_ragged(kwargs / "segments", 2)  # as one of the future, whose shapes stand elsewhere
    write_tree(signal / "metadata" / "Noise_properties", {"_sig_variance": {"data": counts(2, 2)}})
    write_tree(signal / "learning_results", {"factors": counts(3, 3), "algorithm": "SVD"})
    models = {"a": {"_signal": "/Experiments/__unnamed__"}, "b": {"_signal": "/Experiments/other"}}
    write_tree(path / "Analysis", {"models": models})
    (signal / "metadata" / "Thumbs.db").write_bytes(b"x")
    ds = emio.imload(path)
    assert_array_equal(ds.image, counts(2, 3, 4))
    found = header(ds)["metadata"]
    assert found["big"] == "array (2000,) float64 that is not read"
    assert found["Markers"]["Points"]["kwargs"] == {
        "offsets": "ragged array that is not read",
        "segments": "array that is not read",
        "sizes": [1],
    }
    assert found["Noise_properties"]["variance"].startswith("signal (")
    assert "Thumbs.db" not in found
    assert header(ds)["learning_results"] == ["algorithm", "factors"]
    assert header(ds)["models"] == ["a"]


def test_a_newer_version_is_read_with_a_warning(path):
    write_zspy(path, counts(2, 3), [axis(), axis()], tree_version="4.0")
    with pytest.warns(EmioWarning, match=r"version 4.0 .* known is 3.3"):
        assert emio.imload(path).image.shape == (2, 3)


# Refused -------------------------------------------------------------------------------------------------------------


def broken(path, name, old, new):
    file = path / "Experiments" / "__unnamed__" / name
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"shape": [2, 3]', '"shape": [2, 3'),
        ('"shape": [2, 3], ', ""),
        ('"chunks": [2, 3]', '"chunks": [0, 3]'),
        ('"shape": [2, 3]', '"shape": [-2, 3]'),
        ('"shape": [2, 3]', '"shape": [0, 3]'),
        ('"shape": [2, 3], "chunks": [2, 3]', '"shape": [], "chunks": []'),
        ('"<u2"', '"<q9"'),
        ('"<u2"', '"|O"'),
        ('"<u2"', '"|S2"'),
        ('"<u2"', '"<M8[s]"'),
        ('"compressor": null', '"compressor": {"id": "pickle"}'),
        ('"compressor": null', '"compressor": {"id": "of nobody"}'),
        ('"filters": null', '"filters": [{"id": "pickle"}]'),
        ('"filters": null', '"filters": [{"id": "of nobody"}]'),
        ('"zarr_format": 2', '"zarr_format": 4'),
    ],
)
def test_broken_metadata_of_the_array_are_refused(path, old, new):
    write_zspy(path, counts(2, 3), [axis(), axis()])
    broken(path, "data/.zarray", old, new)
    with pytest.raises(EmioError, match=r"scan.zspy: Experiments/__unnamed__/data"):
        emio.imload(path, chunks=None)


def test_codecs_are_never_pickles(path, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    write_zspy(path, counts(2, 3), [axis(), axis()])
    broken(path, "data/.zarray", '"filters": null', '"filters": [{"id": "pickle", "protocol": 5}]')
    (path / "Experiments/__unnamed__/data/0/0").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(EmioError):
        emio.imload(path, chunks=None)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("how", ["markers", "attribute"])
def test_a_ragged_signal_is_refused_by_name(path, how):
    write_zspy(path, counts(4), [navigation()])
    signal = path / "Experiments" / "__unnamed__"
    if how == "markers":
        shutil.rmtree(signal / "data")
        write_ragged(signal / "data", 4)
        write_ragged(signal / "_ragged_shapes_data", 4)
    else:
        write_tree(signal / "attributes", {"ragged": True})
    with pytest.raises(HeaderError, match=r"ragged signal .* load it with HyperSpy"):
        emio.imload(path)
    write_zspy(path, counts(2, 3), [axis(), axis()], title="image")
    assert emio.imload(path).image.shape == (2, 3)


def test_axes_that_are_not_described_are_refused(path):
    write_zspy(path, counts(2, 3), [axis(), axis()])
    shutil.rmtree(path / "Experiments" / "__unnamed__" / "axis-1")
    with pytest.raises(HeaderError, match="has 2 axes, and the description of axis-1 is not there"):
        emio.imload(path)


def test_stores_without_a_signal_are_refused(path, tmp_path):
    write_group(path, {"file_format": "ZSpy"}, version=2)
    with pytest.raises(HeaderError, match="holds no signal of HyperSpy"):
        emio.imload(path)
    write_group(path / "Experiments" / "empty", version=2)
    with pytest.raises(HeaderError, match="no group below Experiments has data"):
        emio.imload(path)
    (tmp_path / "empty.zspy").mkdir()
    with pytest.raises(HeaderError, match="no Zarr metadata"):
        emio.imload(tmp_path / "empty.zspy")
    with pytest.raises(HeaderError, match="is an array"):
        emio.imload(write_array(tmp_path / "array.zarr", counts(2, 3), version=2), format="zspy")


def test_an_lmdb_store_is_refused_with_a_way_out(path):
    path.mkdir()
    (path / "data.mdb").write_bytes(bytes(64))
    with pytest.raises(HeaderError, match=r"LMDB store of Zarr 2: open it with zarr<3 and copy it"):
        emio.imload(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"PK\x03\x04" + bytes(100), b"something else"])
def test_a_file_that_is_no_zip_with_a_store_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(EmioError, match=r"scan\.zspy"):
        emio.imload(path)


def test_a_zip_that_was_cut_or_holds_something_else_is_refused(path, tmp_path):
    file = zipped(write_zspy(path, counts(2, 3), [axis(), axis()]), tmp_path / "cut.zspy")
    file.write_bytes(file.read_bytes()[:-40])
    with zipfile.ZipFile(tmp_path / "other.zspy", "w") as archive:
        archive.writestr("a.txt", "a")
    for name in ("cut.zspy", "other.zspy"):
        with pytest.raises(EmioError, match=name):
            emio.imload(tmp_path / name)


def test_a_damaged_chunk_is_named_when_it_is_read(path):
    write_zspy(path, counts(4, 3), [axis(), axis()], chunks=(2, 3), deflate=True)
    (path / "Experiments/__unnamed__/data/1/0").write_bytes(b"garbage")
    ds = emio.imload(path)
    assert_array_equal(ds.image[:2], counts(2, 3))
    with pytest.raises(StorageError, match=r"scan.zspy: Experiments/__unnamed__/data: chunk 1/0 cannot be read"):
        ds.image.compute()


@pytest.mark.parametrize(
    "given", [{"nav_shape": (2,)}, {"sig_shape": (2, 3)}, {"sync_offset": 1}, {"io_backend": "mmap"}]
)
def test_arguments_of_frame_stacks_do_not_apply(path, given):
    with pytest.raises(ArgumentError, match=f"{next(iter(given))} does not apply"):
        emio.imload(write_zspy(path, counts(2, 3), [axis(), axis()]), **given)


def test_groups_of_great_depth_or_number_end(path):
    write_zspy(path, counts(2, 3), [axis(), axis()])
    deep = path / "Experiments" / "__unnamed__" / "metadata"
    for _ in range(30):
        deep = deep / "g"
        write_group(deep, {"a": 1}, version=2)
    found, depth = header(emio.imload(path))["metadata"], 0
    while "g" in found:
        found, depth = found["g"], depth + 1
    assert 10 < depth < 20


# Real files ----------------------------------------------------------------------------------------------------------

REAL = [
    ("signal1d_10x10-NestedDirectoryStore.zspy", "ic"),
    ("signal1d_10x10-ZipStore.zspy", "ic"),
    ("signal1d_10x100-model.zspy", "ic"),
    ("signal2d_20x10x10-ragged_markers.zspy", "iyx"),
]


@pytest.mark.parametrize(("name", "dims"), REAL)
def test_real_files_have_the_pixels_that_other_software_reads(real_files, name, dims):
    real = real_files("zspy")
    (signal,) = real.expected[name]["signals"]
    ds = emio.imload(real.path(name))
    assert ("".join(ds.image.dims), str(ds.image.dtype), list(ds.image.shape)) == (
        dims,
        signal["dtype"],
        signal["shape"],
    )
    assert hashlib.sha256(ds.image.values.astype("<i8").tobytes()).hexdigest() == signal["sha256"]
    assert not ds.coords
    assert json.dumps(ds.attrs)


def test_markers_and_models_of_real_files_are_noted(real_files):
    real = real_files("zspy")
    markers = header(emio.imload(real.path("signal2d_20x10x10-ragged_markers.zspy")))["metadata"]["Markers"]
    assert markers["Points"]["class"] == "Points"
    assert markers["Points"]["kwargs"]["offsets"] == "ragged array that is not read"
    assert header(emio.imload(real.path("signal1d_10x100-model.zspy")))["models"] == ["a"]
