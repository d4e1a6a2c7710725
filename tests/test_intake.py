"""Our drivers as intake knows them: sources, V1 catalogs, and everything that catalogs and schedulers do with them."""

import copy
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import dask
import fsspec
import intake
import numpy as np
import pytest
import xarray as xr
import yaml
from dask.base import tokenize
from intake.source.base import DataSource

import intake_emio as emio

from .encoders.blo import write_blo
from .encoders.npy import write_npy
from .encoders.raw import write_raw

PIXELS = (np.arange(3 * 4 * 5 * 5) % 251).astype("u1").reshape(3, 4, 5, 5)
BRIGHT_FIELD = np.arange(12, dtype="u1").reshape(3, 4)
BLO_COORDS = {"y": [0, 2.5, 5], "x": [0, 2, 4, 6], "v": [0, 0.02, 0.04, 0.06, 0.08], "u": [0, 0.02, 0.04, 0.06, 0.08]}


class Case(NamedTuple):
    """The same scan of 3 x 4 patterns of 5 x 5 pixels, for one driver."""

    driver: str
    uri: Path
    arguments: dict[str, Any]

    def open(self, **more: Any) -> Any:
        return getattr(intake, f"open_{self.driver}")(self.uri, **{**self.arguments, **more})


def scan_as_blo(folder: Path, name: str = "scan.blo", pixels: np.ndarray = PIXELS) -> Path:
    return write_blo(
        folder / name, pixels, steps=(2.5, 2), pixels_per_cm_x100=5000, beam_energy=200_000, navigator=BRIGHT_FIELD
    )


def scan_as_raw(folder: Path, name: str = "scan.raw") -> Path:
    return write_raw(folder / name, PIXELS.reshape(12, 5, 5), file_header=b"head", frame_header=2)


RAW = {"dtype": "uint8", "sig_shape": (5, 5), "nav_shape": (3, 4), "file_header": 4, "frame_header": 2}
MAKERS = {
    "emio": lambda folder: (scan_as_blo(folder), {}),
    "emio_blo": lambda folder: (scan_as_blo(folder), {}),
    "emio_raw": lambda folder: (scan_as_raw(folder), RAW),
    "emio_npy": lambda folder: (write_npy(folder / "scan.npy", PIXELS), {}),
}


@pytest.fixture(params=MAKERS)
def case(request, tmp_path):
    return Case(request.param, *MAKERS[request.param](tmp_path))


# A source ------------------------------------------------------------------------------------------------------------


def test_every_driver_is_an_intake_source_under_its_name(case):
    source = case.open()
    assert isinstance(source, DataSource)
    assert isinstance(source, intake.registry[case.driver])
    assert (source.name, source.container, source.partition_access) == (case.driver, "xarray", True)


def test_a_driver_of_ours_displaces_none_of_intakes():
    ours = [name for name in intake.registry if intake.registry[name].__module__.startswith("intake_emio.")]
    assert all(name == "emio" or name.startswith("emio_") for name in ours)


def test_discover_tells_dtype_shape_partitions_and_metadata(case):
    found = case.open(chunks="frame").discover()
    assert set(found) == {"dtype", "shape", "npartitions", "metadata"}
    assert (np.dtype(found["dtype"]), tuple(found["shape"]), found["npartitions"]) == (np.uint8, (3, 4, 5, 5), 12)
    names = {"axes", "shape", "dtype", "spacing", "spacing_units", "coords", "fileheader"}
    assert names <= set(found["metadata"])
    assert (found["metadata"]["axes"], found["metadata"]["shape"]) == ("yxvu", [3, 4, 5, 5])
    assert json.loads(json.dumps(found["metadata"])) == found["metadata"]


def test_discover_tells_the_calibration_of_a_blockfile(tmp_path):
    metadata = intake.open_emio_blo(scan_as_blo(tmp_path)).discover()["metadata"]
    assert metadata["spacing"] == {"y": 2.5, "x": 2.0, "v": 0.02, "u": 0.02}
    assert metadata["spacing_units"] == {"y": "nm", "x": "nm", "v": "cm", "u": "cm"}


def test_nothing_is_known_and_nothing_opened_before_it_is_asked_for(case):
    case.uri.unlink()
    source = case.open()
    assert (source.shape, source.dtype, source.npartitions) == (None, None, 0)
    with pytest.raises(FileNotFoundError, match=case.uri.name):
        source.discover()


def test_read_is_in_memory_and_to_dask_is_lazy_and_both_are_equal(case):
    loaded, lazy = case.open().read(), case.open().to_dask()
    assert isinstance(loaded, xr.Dataset)
    assert loaded.image.chunks is None
    assert isinstance(lazy, xr.Dataset)
    assert lazy.image.chunks is not None
    assert loaded.image.dims == ("y", "x", "v", "u")
    np.testing.assert_array_equal(loaded.image, PIXELS)
    xr.testing.assert_identical(lazy.compute(), loaded)


def test_to_dask_is_lazy_even_where_the_source_was_told_to_load(case):
    source = case.open(chunks=None)
    assert source.to_dask().image.chunks is not None
    assert source.discover()["npartitions"] == 1


def test_a_blockfile_comes_with_coordinates_and_its_bright_field(tmp_path):
    ds = intake.open_emio(scan_as_blo(tmp_path)).read()
    for axis, values in BLO_COORDS.items():
        np.testing.assert_allclose(ds.coords[axis], values)
    assert {axis: ds.coords[axis].attrs["units"] for axis in "yxvu"} == {"y": "nm", "x": "nm", "v": "cm", "u": "cm"}
    assert ds.navigator.dims == ("y", "x")
    np.testing.assert_array_equal(ds.navigator, BRIGHT_FIELD)
    assert ds.attrs["acquisition"]["beam_energy"] == 200


def test_partitions_are_chunks_in_c_order(case):
    source = case.open(chunks={"y": 2, "x": 3})
    assert source.discover()["npartitions"] == 4
    corners = [(slice(0, 2), slice(0, 3)), (slice(0, 2), slice(3, 4)), (slice(2, 3), slice(0, 3)), (2, 3)]
    for number, (rows, columns) in enumerate(corners[:3]):
        np.testing.assert_array_equal(source.read_partition(number).image, PIXELS[rows, columns])
    last = source.read_partition(3)
    assert last.image.shape == (1, 1, 5, 5)
    np.testing.assert_array_equal(last.image[0, 0], PIXELS[2, 3])


def test_a_partition_is_also_found_by_its_place_along_each_axis(case):
    source = case.open(chunks={"y": 2, "x": 3})
    xr.testing.assert_identical(source.read_partition((1, 0, 0, 0)), source.read_partition(2))


def test_a_partition_has_its_coordinates_and_its_part_of_the_other_variables(tmp_path):
    part = intake.open_emio_blo(scan_as_blo(tmp_path), chunks={"y": 2, "x": 3}).read_partition(1)
    assert part.image.chunks is None
    np.testing.assert_allclose(part.x, [6])
    np.testing.assert_allclose(part.y, [0, 2.5])
    assert part.y.attrs["units"] == "nm"
    np.testing.assert_array_equal(part.navigator, BRIGHT_FIELD[:2, 3:])


@pytest.mark.parametrize("number", [-1, 4, (2, 0, 0, 0), (0, -1, 0, 0), (0, 0)])
def test_a_partition_that_does_not_exist_is_an_index_error(case, number):
    source = case.open(chunks={"y": 2, "x": 3})
    with pytest.raises(IndexError, match="out of range"):
        source.read_partition(number)


def test_read_chunked_yields_all_partitions_in_memory(case):
    source = case.open(chunks={"y": 1})
    rows = list(source.read_chunked())
    assert [row.image.shape for row in rows] == [(1, 4, 5, 5)] * 3
    np.testing.assert_array_equal(np.concatenate([row.image for row in rows]), PIXELS)


def test_delayed_partitions_are_computed_in_other_processes(tmp_path):
    source = intake.open_emio_blo(scan_as_blo(tmp_path), chunks={"y": 1})
    source.discover()
    tasks = [dask.delayed(source.read_partition)(number) for number in range(source.npartitions)]
    rows = dask.compute(*tasks, scheduler="processes", num_workers=1)
    np.testing.assert_array_equal(np.concatenate([row.image for row in rows]), PIXELS)


def test_a_context_knows_the_metadata_and_the_shape_survives_it(case):
    with case.open() as source:
        assert source.shape == (3, 4, 5, 5)
    assert source.shape == (3, 4, 5, 5)


def test_a_closed_source_opens_again_and_sees_what_has_changed(tmp_path):
    path = scan_as_blo(tmp_path)
    for driver in (intake.open_emio, intake.open_emio_blo):
        write_blo(path, PIXELS)
        source = driver(path)
        assert source.read().image.shape == (3, 4, 5, 5)
        write_blo(path, PIXELS[:2])
        source.close()
        np.testing.assert_array_equal(source.read().image, PIXELS[:2])
        assert source.discover()["shape"] == (2, 4, 5, 5)


def test_configure_new_changes_arguments_and_leaves_the_original_alone(case):
    source = case.open(chunks="frame")
    other = source.configure_new(partition={"y": 1}, chunks={"x": 2})
    assert (other.read().image.shape, other.discover()["npartitions"]) == ((4, 5, 5), 2)
    assert (source.read().image.shape, source.discover()["npartitions"]) == ((3, 4, 5, 5), 12)
    assert source(chunks={"x": 2}) == source.get(chunks={"x": 2}) != source


def test_a_source_without_a_catalog_has_no_entry(case):
    with pytest.raises(AttributeError, match="catalog"):
        case.open().describe()


@pytest.mark.parametrize("driver", ["emio_blo", "emio_raw", "emio_npy"])
def test_an_unknown_argument_is_a_type_error_that_names_the_allowed_ones(driver, tmp_path):
    uri, arguments = MAKERS[driver](tmp_path)
    with pytest.raises(TypeError, match=r"gamma.*nav_shape.*sync_offset"):
        Case(driver, uri, arguments).open(gamma=2)


def test_the_detecting_driver_refuses_arguments_that_the_format_lacks_once_it_knows_it(tmp_path):
    source = intake.open_emio(scan_as_blo(tmp_path), sig_dims=2)
    with pytest.raises(TypeError, match=r"blo files have no argument 'sig_dims'.*endianess"):
        source.discover()


def test_the_detecting_driver_hands_the_formats_own_arguments_on(tmp_path):
    ds = intake.open_emio(scan_as_raw(tmp_path), **RAW).read()
    assert ds.attrs["format"] == "raw"
    np.testing.assert_array_equal(ds.image, PIXELS)


def test_the_detecting_driver_takes_a_formats_name(tmp_path):
    path = scan_as_blo(tmp_path)
    size = path.stat().st_size
    ds = intake.open_emio(path, format="raw", dtype="u1", sig_shape=(size,)).read()
    np.testing.assert_array_equal(ds.image, np.frombuffer(path.read_bytes(), "u1"))


# Metadata ------------------------------------------------------------------------------------------------------------


def test_the_users_metadata_win_over_the_files(tmp_path):
    given = {"spacing": {"y": 7.5}, "spacing_units": {"y": "µm"}, "sample": "gold"}
    source = intake.open_emio_blo(scan_as_blo(tmp_path), metadata=given)
    found = source.discover()["metadata"]
    assert found["spacing"] == {"y": 7.5, "x": 2.0, "v": 0.02, "u": 0.02}
    assert (found["spacing_units"]["y"], found["spacing_units"]["x"]) == ("µm", "nm")
    assert found["sample"] == "gold"
    ds = source.to_dask()
    np.testing.assert_allclose(ds.y, [0, 7.5, 15])
    assert (ds.y.attrs["units"], ds.attrs["metadata"]["sample"]) == ("µm", "gold")


def test_discover_changes_neither_the_callers_metadata_nor_the_arguments(case):
    given = {"sample": "gold", "spacing": {"y": 7.5}}
    source = case.open(metadata=given)
    before = source.yaml()
    source.discover()
    assert given == {"sample": "gold", "spacing": {"y": 7.5}}
    assert source.yaml() == before
    assert source.configure_new() == source


def test_arguments_are_copied_so_that_callers_may_go_on_using_theirs(case):
    metadata, chunks = {"spacing": {"y": 7.5}}, {"y": 1}
    source = case.open(metadata=metadata, chunks=chunks)
    metadata["spacing"]["y"], chunks["y"] = 1.0, 3
    assert source.discover()["metadata"]["spacing"]["y"] == 7.5
    assert source.configure_new().discover()["npartitions"] == 3


# YAML ----------------------------------------------------------------------------------------------------------------


def through_a_catalog(source: Any, folder: Path) -> Any:
    """Open the source again from what `yaml` says, in a folder of its own."""
    folder.mkdir()
    (folder / "catalog.yml").write_text(source.yaml(), encoding="utf-8")
    catalog = intake.open_catalog(str(folder / "catalog.yml"))
    (name,) = list(catalog)
    return catalog[name]


def test_yaml_is_a_catalog_that_intake_loads_again(case, tmp_path):
    source = case.open(chunks={"y": 1}, metadata={"sample": "gold", "spacing": {"y": 7.5}})
    again = through_a_catalog(source, tmp_path / "lab")
    assert again.name == case.driver
    assert again.discover()["npartitions"] == 3
    assert again.discover()["metadata"]["sample"] == "gold"
    xr.testing.assert_equal(again.read(), source.read())
    np.testing.assert_allclose(again.read().y, [0, 7.5, 15])


def test_yaml_is_loaded_again_whatever_python_types_the_arguments_had(tmp_path):
    source = intake.open_emio_raw(
        scan_as_raw(tmp_path),
        dtype=np.dtype(np.uint8),
        sig_shape=np.array([5, 5]),
        nav_shape=(np.int64(3), np.int32(4)),
        file_header=np.uint16(4),
        frame_header=2.0,
        chunks=(1, np.int64(2), -1, -1),
        partition={"y": slice(1, None), "x": (0, np.int64(3))},
        metadata={
            "spacing": {"y": np.float32(7.5)},
            "coords": {"x": np.arange(4)},
            "when": np.datetime64("2024-02-29"),
            "where": Path("lab"),
        },
    )
    ds = through_a_catalog(source, tmp_path / "lab").read()
    np.testing.assert_array_equal(ds.image, PIXELS[1:][:, [0, 3]])
    np.testing.assert_allclose(ds.y, [7.5, 15])
    np.testing.assert_allclose(ds.x, [0, 3])
    assert (ds.attrs["metadata"]["when"], ds.attrs["metadata"]["where"]) == ("2024-02-29", "lab")


@pytest.mark.parametrize("dtype", [np.uint8, np.dtype("uint8"), "uint8"])
def test_yaml_of_the_detecting_driver_holds_the_formats_own_arguments(tmp_path, dtype):
    source = intake.open_emio(scan_as_raw(tmp_path), **{**RAW, "dtype": dtype})
    np.testing.assert_array_equal(through_a_catalog(source, tmp_path / "lab").read().image, PIXELS)


def test_yaml_holds_what_was_given_and_nothing_else(case):
    source = case.open(chunks="auto", sync_offset=0, metadata={})
    entry = yaml.safe_load(source.yaml())["sources"][case.driver]
    assert entry["args"] == json.loads(json.dumps({"uri": str(case.uri), **case.arguments, **entry["args"]}))
    assert not {"chunks", "sync_offset", "metadata", "storage_options"} & set(entry["args"])


def test_repr_is_short_however_long_the_files_header_is(tmp_path):
    source = intake.open_emio_blo(scan_as_blo(tmp_path))
    source.discover()
    assert repr(source) == source.yaml()
    assert "Acquisition_time" not in repr(source)
    assert len(repr(source).splitlines()) < 10


def test_unicode_survives_yaml(tmp_path):
    path = write_npy(tmp_path / "Größe µ.npy", PIXELS)
    source = intake.open_emio_npy(
        path, metadata={"sample": "Kobalt–Öl", "spacing": {"y": 1}, "spacing_units": {"y": "µm"}}
    )
    again = through_a_catalog(source, tmp_path / "lab")
    assert again.read().y.attrs["units"] == "µm"
    assert again.metadata["sample"] == "Kobalt–Öl"


# Pickling, equality, tokens ------------------------------------------------------------------------------------------


def copies(source: Any) -> list[Any]:
    return [pickle.loads(pickle.dumps(source)), copy.copy(source), copy.deepcopy(source)]


def test_copies_of_a_source_are_equal_to_it_and_read_the_same(case):
    source = case.open(chunks={"y": 1}, metadata={"sample": "gold"})
    source.discover()
    for again in copies(source):
        assert again == source
        assert hash(again) == hash(source)
        assert tokenize(again) == tokenize(source)
        assert again.discover()["npartitions"] == 3
        xr.testing.assert_identical(again.read(), source.read())


def test_a_pickle_carries_name_and_description(case):
    source = case.open()
    source.name, source.description = "gold", "Gold on carbon"
    for again in copies(source):
        assert (again.name, again.description) == ("gold", "Gold on carbon")


def test_a_pickle_is_small_and_opens_nothing(case):
    source = case.open()
    source.read()
    state = pickle.dumps(source)
    case.uri.unlink()
    assert len(state) < 2000
    assert pickle.loads(state).uri == source.uri


def test_sources_are_equal_however_their_arguments_were_spelled(tmp_path, monkeypatch):
    path = scan_as_raw(tmp_path)
    monkeypatch.chdir(tmp_path)
    required = {"dtype": "uint8", "sig_shape": (5, 5)}
    source = intake.open_emio_raw(path, **required, nav_shape=(3, 4))
    spellings = [
        intake.open_emio_raw(uri=str(path), **required, nav_shape=[3, 4]),
        intake.open_emio_raw("scan.raw", **required, nav_shape="(3, 4)"),
        intake.open_emio_raw(f"file://{path}", dtype=np.uint8, sig_shape="5, 5", nav_shape=["3", "4"]),
        intake.open_emio_raw(path, **required, nav_shape=(3, 4), sync_offset="0", chunks="auto", metadata=None),
    ]
    assert all(other == source for other in spellings)
    assert len({source, *spellings}) == 1
    assert len({tokenize(one) for one in (source, *spellings)}) == 1


@pytest.mark.parametrize(
    "change",
    [{"chunks": 1}, {"sync_offset": 1}, {"partition": 0}, {"metadata": {"sample": "gold"}}, {"nav_shape": (2, 6)}],
)
def test_sources_that_differ_in_an_argument_are_not_equal(case, change):
    source, other = case.open(), case.open(**change)
    assert source != other
    assert tokenize(source) != tokenize(other)


def test_sources_of_different_files_or_drivers_are_not_equal(tmp_path):
    path, copied = scan_as_blo(tmp_path), scan_as_blo(tmp_path, "other.blo")
    assert intake.open_emio_blo(path) != intake.open_emio_blo(copied)
    assert intake.open_emio_blo(path) != intake.open_emio(path)
    assert intake.open_emio_blo(path) != str(path)


def test_a_token_is_the_same_before_and_after_discover_and_in_another_process(case):
    source = case.open()
    before = tokenize(source)
    source.discover()
    assert tokenize(source) == before
    script = "import pickle, sys; from dask.base import tokenize; print(tokenize(pickle.load(sys.stdin.buffer)))"
    if case.driver == "emio_raw":  # one process is enough
        found = subprocess.run(
            [sys.executable, "-c", script], input=pickle.dumps(source), capture_output=True, check=True
        )
        assert found.stdout.decode().strip() == before


def test_a_token_changes_when_the_file_does(case):
    source = case.open()
    before, name_before = tokenize(source), source.to_dask().image.data.name
    os.utime(case.uri, ns=(1, 1))
    assert tokenize(case.open()) != before
    assert case.open().to_dask().image.data.name != name_before


def test_a_missing_file_has_a_token(case):
    source = case.open()
    case.uri.unlink()
    assert tokenize(source) == tokenize(case.open())


def test_the_graph_of_a_million_frames_is_small_and_made_without_reading(tmp_path):
    path = tmp_path / "long.raw"
    with open(path, "wb") as file:
        file.truncate(10**6 * 8 * 8 * 2)
    image = (
        intake.open_emio_raw(path, dtype="u2", sig_shape=(8, 8), nav_shape=(1000, 1000), chunks="frame").to_dask().image
    )
    assert image.data.npartitions == 10**6
    assert len(pickle.dumps(image.data.dask.layers)) < 200_000
    assert not image[999, 999].values.any()


# V1 catalogs ---------------------------------------------------------------------------------------------------------

CATALOG = """
metadata: {version: 1, name: lab}
sources:
  gold:
    description: Gold on carbon, 200 kV
    driver: emio
    args: {uri: "{{ CATALOG_DIR }}/scan.blo"}
    metadata: {sample: gold, spacing: {y: 7.5}, spacing_units: {y: µm}}
  series:
    description: Frames of a detector nobody knows
    driver: emio_raw
    parameters:
      which: {description: which file, type: str, default: scan, allowed: [scan, other]}
      rows: {description: scan rows, type: int, default: 3, min: 1, max: 100}
      sync_offset: {description: late start, type: int, default: 0}
    args:
      uri: "{{ CATALOG_DIR }}/{{ which }}.raw"
      dtype: uint8
      sig_shape: "(5, 5)"
      nav_shape: ["{{ rows }}", 4]
      sync_offset: "{{ sync_offset }}"
      file_header: "4"
      frame_header: "{{ 1 + 1 }}"
  older:
    driver: yaml_file_cat
    args: {path: "{{ CATALOG_DIR }}/2024/catalog.yml"}
  typo:
    driver: emio_blo
    args: {uri: "{{ CATALOG_DIR }}/scan.blo", chuncks: auto}
"""

NESTED = """
sources:
  stack:
    driver: emio_npy
    args: {uri: "{{ CATALOG_DIR }}/stack.npy", sig_dims: "2"}
"""


@pytest.fixture
def lab(tmp_path):
    folder = tmp_path / "lab"
    (folder / "2024").mkdir(parents=True)
    scan_as_blo(folder)
    scan_as_raw(folder)
    shutil.copy(scan_as_raw(folder), folder / "other.raw")
    write_npy(folder / "2024" / "stack.npy", PIXELS[0])
    (folder / "catalog.yml").write_text(CATALOG, encoding="utf-8")
    (folder / "2024" / "catalog.yml").write_text(NESTED, encoding="utf-8")
    return intake.open_catalog(str(folder / "catalog.yml"))


def open_entry(folder: Path, driver: str, **args: Any) -> Any:
    """Open the only entry of a catalog written for it."""
    (folder / "one.yml").write_text(yaml.safe_dump({"sources": {"one": {"driver": driver, "args": args}}}))
    return intake.open_catalog(str(folder / "one.yml")).one


def test_a_catalog_entry_is_opened_from_the_catalogs_folder(lab, tmp_path):
    source = lab.gold
    assert (source.name, source.description) == ("gold", "Gold on carbon, 200 kV")
    assert source.uri == str(tmp_path / "lab" / "scan.blo")
    np.testing.assert_array_equal(source.to_dask().image, PIXELS)
    assert source.to_dask().attrs["uri"] == str(tmp_path / "lab" / "scan.blo")


def test_an_entrys_metadata_win_over_the_files_header(lab):
    ds = lab.gold.to_dask()
    np.testing.assert_allclose(ds.y, [0, 7.5, 15])
    assert (ds.y.attrs["units"], ds.x.attrs["units"]) == ("µm", "nm")
    assert ds.attrs["metadata"]["sample"] == "gold"


@pytest.mark.parametrize(
    ("metadata", "dims", "coords"),
    [
        ({"axes": "tcyx"}, "tcyx", {"t": [0, 2.5, 5], "c": [0, 2, 4, 6]}),
        ({"coords": {"y": [1, 5, 6]}}, "yxvu", {"y": [1, 5, 6], "x": [0, 2, 4, 6]}),
        ({"spacing": {"y": None, "v": "0.5"}}, "yxvu", {"y": None, "v": [0, 0.5, 1, 1.5, 2]}),
    ],
)
def test_an_entrys_metadata_rename_and_recalibrate(tmp_path, metadata, dims, coords):
    scan_as_blo(tmp_path)
    entry = {"driver": "emio", "args": {"uri": "{{ CATALOG_DIR }}/scan.blo"}, "metadata": metadata}
    (tmp_path / "catalog.yml").write_text(yaml.safe_dump({"sources": {"gold": entry}}))
    ds = intake.open_catalog(str(tmp_path / "catalog.yml")).gold.read()
    assert "".join(ds.image.dims) == dims
    for axis, values in coords.items():
        if values is None:
            assert axis not in ds.coords
        else:
            np.testing.assert_allclose(ds.coords[axis], values)


def test_parameters_fill_in_paths_shapes_and_numbers(lab, tmp_path):
    np.testing.assert_array_equal(lab.series.read().image, PIXELS)
    other = lab.series(which="other", rows=2, sync_offset=1).read()
    assert other.attrs["uri"] == str(tmp_path / "lab" / "other.raw")
    np.testing.assert_array_equal(other.image, PIXELS.reshape(12, 5, 5)[1:9].reshape(2, 4, 5, 5))


def test_a_new_configuration_keeps_the_parameters_that_the_old_one_was_opened_with(lab, tmp_path):
    source = lab.series(which="other", rows=2)
    for again in (source.configure_new(chunks="frame"), source(chunks="frame"), source.get()):
        assert again.uri == str(tmp_path / "lab" / "other.raw")
        assert again.discover()["shape"] == (2, 4, 5, 5)


def test_a_new_configuration_may_change_a_parameter(lab, tmp_path):
    assert lab.series.configure_new(which="other").uri == str(tmp_path / "lab" / "other.raw")


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"which": "none"}])
def test_parameters_out_of_bounds_are_refused(lab, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        lab.series(**wrong)


def test_arguments_that_are_no_parameters_can_be_given_to_an_entry(lab):
    assert lab.gold(chunks="frame").discover()["npartitions"] == 12
    assert lab.gold.configure_new(partition={"y": 0}).read().image.dims == ("x", "v", "u")
    assert lab.gold.discover()["npartitions"] == 1


def test_an_unknown_argument_in_a_catalog_is_a_type_error_when_the_entry_is_opened(lab):
    with pytest.raises(TypeError, match=r"'chuncks'.*chunks"):
        lab.typo.discover()


@pytest.mark.parametrize(
    ("driver", "argument", "text", "expected"),
    [
        ("emio_raw", "nav_shape", "(2, 6)", PIXELS.reshape(2, 6, 5, 5)),
        ("emio_raw", "nav_shape", "2, 6", PIXELS.reshape(2, 6, 5, 5)),
        ("emio_raw", "nav_shape", "[2, 6]", PIXELS.reshape(2, 6, 5, 5)),
        ("emio_raw", "nav_shape", ["{{ 1 + 1 }}", "6"], PIXELS.reshape(2, 6, 5, 5)),
        ("emio_raw", "nav_shape", "7", PIXELS.reshape(12, 5, 5)[:7]),
        ("emio_raw", "nav_shape", "None", PIXELS.reshape(12, 5, 5)),
        ("emio_raw", "sync_offset", "4", PIXELS.reshape(12, 5, 5)[4:]),
        ("emio_raw", "sig_shape", "5, 5", PIXELS.reshape(12, 5, 5)),
        ("emio_raw", "dtype", "int8", PIXELS.view("i1").reshape(12, 5, 5)),
        ("emio_blo", "nav_shape", "(2, 6)", PIXELS.reshape(2, 6, 5, 5)),
        ("emio_blo", "partition", "1", PIXELS[1]),
        ("emio_blo", "partition", "-1", PIXELS[-1]),
        ("emio_blo", "partition", "1:", PIXELS[1:]),
        ("emio_blo", "partition", "::2", PIXELS[::2]),
        ("emio_blo", "partition", "[0, 2]", PIXELS[[0, 2]]),
        ("emio_blo", "partition", "{'y': '1', 'x': ':2'}", PIXELS[1, :2]),
        ("emio_blo", "partition", {"y": "{{ 1 }}", "x": "1:3"}, PIXELS[1, 1:3]),
        ("emio_blo", "output_axis_order", "vu", PIXELS.transpose(2, 3, 0, 1)),
        ("emio_blo", "endianess", "<", PIXELS),
        ("emio_npy", "sig_dims", "1", PIXELS),
        ("emio_npy", "navigation_axes", "[2, 3]", PIXELS.transpose(2, 3, 0, 1)),
        ("emio", "nav_shape", "{{ '(2, 6)' }}", PIXELS.reshape(2, 6, 5, 5)),
    ],
)
def test_catalogs_hand_over_text_for_numbers_and_shapes(tmp_path, driver, argument, text, expected):
    uri, arguments = MAKERS[driver](tmp_path)
    if driver == "emio_raw":
        arguments = {"dtype": "uint8", "sig_shape": "(5, 5)", "file_header": "4", "frame_header": "2"}
    ds = open_entry(tmp_path, driver, uri="{{ CATALOG_DIR }}/" + uri.name, **{**arguments, argument: text}).read()
    np.testing.assert_array_equal(ds.image, expected)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ("2", (2, 2, 2, 2)),
        ("frame", (1, 1, 5, 5)),
        ("{'y': '1'}", (1, 4, 5, 5)),
        ({"y": "{{ 2 }}"}, (2, 4, 5, 5)),
        ("(1, 2, -1, -1)", (1, 2, 5, 5)),
        (["1", "2", "-1", "-1"], (1, 2, 5, 5)),
    ],
)
def test_catalogs_hand_over_text_for_chunks(tmp_path, chunks, expected):
    scan_as_blo(tmp_path)
    source = open_entry(tmp_path, "emio", uri="{{ CATALOG_DIR }}/scan.blo", chunks=chunks)
    assert source.to_dask().image.data.chunksize == expected


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("nav_shape", "many"),
        ("nav_shape", "(2, x)"),
        ("sync_offset", "late"),
        ("partition", "1:2:3:4"),
        ("chunks", "big"),
    ],
)
def test_text_that_is_no_number_is_refused_by_the_name_of_the_argument(tmp_path, argument, text):
    scan_as_blo(tmp_path)
    with pytest.raises(emio.EmioError, match=argument):
        open_entry(tmp_path, "emio_blo", uri="{{ CATALOG_DIR }}/scan.blo", **{argument: text}).to_dask()


def test_a_nested_catalog_has_its_own_folder(lab, tmp_path):
    assert lab.older.stack.uri == str(tmp_path / "lab" / "2024" / "stack.npy")
    np.testing.assert_array_equal(lab.older.stack.read().image, PIXELS[0])
    np.testing.assert_array_equal(lab["older.stack"].read().image, PIXELS[0])


def test_a_catalog_of_many_files_finds_each_entry_in_its_own_folder(lab, tmp_path):
    everything = intake.open_catalog(str(tmp_path / "lab" / "20*" / "*.yml"))
    np.testing.assert_array_equal(everything.stack.read().image, PIXELS[0])


@pytest.mark.parametrize("driver", ["intake_emio.formats.blo.BloSource", "intake_emio.formats.blo:BloSource"])
def test_a_driver_can_be_given_as_a_class(tmp_path, driver):
    scan_as_blo(tmp_path)
    np.testing.assert_array_equal(open_entry(tmp_path, driver, uri="{{ CATALOG_DIR }}/scan.blo").read().image, PIXELS)


def test_a_catalog_may_lie_in_remote_storage(lab, tmp_path):
    memory = fsspec.filesystem("memory")
    for name in ("catalog.yml", "scan.blo", "scan.raw"):
        memory.pipe(f"/lab/{name}", (tmp_path / "lab" / name).read_bytes())
    try:
        catalog = intake.open_catalog("memory://lab/catalog.yml")
        np.testing.assert_array_equal(catalog.gold.read().image, PIXELS)
        np.testing.assert_array_equal(catalog.series.read().image, PIXELS)
    finally:
        memory.rm("/lab", recursive=True)


def test_a_source_from_a_catalog_keeps_name_and_description_through_pickles(lab):
    for again in copies(lab.gold):
        assert (again.name, again.description) == ("gold", "Gold on carbon, 200 kV")
        assert again == lab.gold
        assert again.metadata["sample"] == "gold"
        np.testing.assert_array_equal(again.read().image, PIXELS)


def test_yaml_of_a_source_from_a_catalog_works_in_any_folder(lab, tmp_path):
    for name in ("gold", "series"):
        again = through_a_catalog(lab[name], tmp_path / f"elsewhere {name}")
        assert (again.name, again.description) == (name, lab[name].description)
        xr.testing.assert_equal(again.read(), lab[name].read())
    assert "catalog_dir" not in lab.gold.yaml()


def test_an_entry_describes_itself_untemplated(lab):
    found = lab.gold.describe()
    assert (found["name"], found["args"]["uri"]) == ("gold", "{{ CATALOG_DIR }}/scan.blo")


def test_a_search_finds_entries_by_what_their_metadata_say(lab):
    assert list(lab.search("gold")) == ["gold"]


def test_the_example_catalog_works_on_what_the_demo_makes(tmp_path):
    example = Path(__file__).parents[1] / "catalogs" / "demo.yml"
    if not example.exists():
        pytest.skip("the example catalogs are not part of an installation")
    shutil.copy(example, tmp_path)
    for folder in ("emio-demo", "elsewhere"):
        (tmp_path / folder).mkdir()
        write_blo(
            tmp_path / folder / "gold_on_carbon.blo", np.broadcast_to(np.uint8(3), (64, 64, 4, 4)), steps=(2.5, 2.5)
        )
    catalog = intake.open_catalog(str(tmp_path / "demo.yml"))
    assert catalog.gold_on_carbon.to_dask().image.shape == (64, 64, 4, 4)
    half = catalog.upper_half(folder="elsewhere", rows=16).to_dask()
    assert half.attrs["uri"] == str(tmp_path / "elsewhere" / "gold_on_carbon.blo")
    assert half.image.shape == (16, 64, 4, 4)
    np.testing.assert_allclose(half.y[1], 2.4)
