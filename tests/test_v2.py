"""What intake 2 knows of us: datatypes, readers, pipelines, catalogs of version 2."""

import json
import pickle
import subprocess
import sys

import fsspec
import intake
import numpy as np
import pytest
import xarray as xr
import yaml
from intake.readers.datatypes import FileData
from intake.readers.readers import BaseReader

import intake_emio as emio
from intake_emio import readers
from intake_emio.formats import registry

from .encoders.blo import write_blo
from .encoders.npy import write_npy
from .encoders.raw import write_raw

PIXELS = (np.arange(3 * 4 * 5 * 5) % 251).astype("u1").reshape(3, 4, 5, 5)


@pytest.fixture
def scan(tmp_path):
    return write_blo(tmp_path / "scan.blo", PIXELS, steps=(2.5, 2))


def names(classes):
    return {made.__name__ for made in classes if made.__module__ == "intake_emio.readers"}


# Registration --------------------------------------------------------------------------------------------------------


def test_importing_intake_registers_us_without_importing_anything_heavy():
    script = """
import json, sys
import intake
from intake.readers.utils import subclasses
known = [made.qname() for made in subclasses(intake.BaseData) | subclasses(intake.BaseReader)]
print(json.dumps([known, sorted(sys.modules)]))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    known, loaded = json.loads(ended.stdout)
    assert ended.stderr == ""
    assert {"intake_emio.readers:Blo", "intake_emio.readers:BloReader", "intake_emio.readers:HDF5"} <= set(known)
    heavy = {"dask", "xarray", "numba", "numpy", "pandas", "zarr", "h5py", "tifffile", "scipy", "PIL", "rich", "typer"}
    assert not heavy & set(loaded)


def test_every_format_that_reads_files_has_a_pair_under_its_qualified_name():
    files = [entry for entry in registry().values() if entry.source and not entry.arrays]
    assert files
    for entry in files:
        name = entry.source_class().__name__.removesuffix("Source")
        datatype, reader = getattr(readers, name), getattr(readers, f"{name}Reader")
        assert issubclass(datatype, FileData)
        assert issubclass(reader, BaseReader)
        assert (datatype.qname(), reader.qname()) == (
            f"intake_emio.readers:{name}",
            f"intake_emio.readers:{name}Reader",
        )
        assert reader.implements == {datatype}
        assert reader.output_instance == "xarray:Dataset"
        assert entry.title in datatype.__doc__
        assert entry.title in reader.doc()


def test_arrays_in_memory_have_none():
    assert not hasattr(readers, "Memory")
    assert not hasattr(readers, "Dask")


# Recommendations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("scan.blo", b"", "Blo"),
        ("SCAN.BLO", b"", "Blo"),
        ("anything", b"IMGBLO" + bytes(100), "Blo"),
        ("anything.dat", b"MQ1,000001,00384", "Mib"),
        ("image.dm4", b"", "DM"),
        ("series.ser", b"II\x97\x01", "Ser"),
        ("film.seq", b"\xed\xfe\0\0", "Seq"),
        ("stack.npy", b"\x93NUMPY\1\0", "Npy"),
        ("scan.raw", b"", "Empad"),
        ("scan.raw", b"", "Raw"),
        ("scan.h5", b"", "HDF5"),
        ("userblock", bytes(1024) + b"\x89HDF\r\n\x1a\n", "HDF5"),
    ],
)
def test_files_are_recommended_by_content_or_extension(tmp_path, name, head, expected):
    (tmp_path / name).write_bytes(head)
    assert expected in names(intake.recommend(str(tmp_path / name)))


def test_stores_are_recommended_by_their_name():
    assert "Zarr" in names(intake.recommend("s3://bucket/scan.zarr/", head=False))


def test_other_files_are_not_recommended_as_ours(tmp_path):
    for name in ("table.csv", "notes.txt", "scan.blo.txt", "xblo"):
        (tmp_path / name).write_bytes(b"a,b\n1,2\n")
        assert not names(intake.recommend(str(tmp_path / name)))


def test_the_datatype_offers_its_reader_first(scan):
    data = readers.Blo(str(scan))
    assert next(iter(data.possible_outputs.items())) == (readers.BloReader, "xarray:Dataset")
    assert type(data.to_reader()) is readers.BloReader
    assert type(data.to_reader("xarray:Dataset")) is readers.BloReader


# Reading -------------------------------------------------------------------------------------------------------------


def test_a_pipeline_from_a_file_to_a_dataset_is_found_and_gives_what_imload_gives(scan):
    reader = intake.auto_pipeline(str(scan), "xarray:Dataset")
    read = reader.read()
    assert read.image.chunks is not None
    xr.testing.assert_identical(read.compute(), emio.imload(scan, chunks=None))


def test_arguments_are_taken_when_a_reader_is_made_and_when_it_reads(tmp_path):
    path = write_raw(tmp_path / "frames.bin", PIXELS.reshape(12, 5, 5))
    reader = readers.RawReader(str(path), dtype="uint8", sig_shape=(5, 5))
    assert reader.read().image.shape == (12, 5, 5)
    np.testing.assert_array_equal(reader.read(nav_shape=(3, 4), chunks=None).image, PIXELS)
    with pytest.raises(emio.EmioError, match="gamma"):
        reader.read(gamma=2)


def test_the_format_is_that_of_the_reader_and_not_guessed_again(scan):
    with pytest.raises(emio.EmioError, match=r"scan\.blo"):
        readers.NpyReader(str(scan)).read()


def test_metadata_correct_the_file(scan):
    read = readers.BloReader(str(scan), metadata={"spacing": {"y": 4}, "sample": "gold"}).read()
    np.testing.assert_array_equal(read.y, [0, 4, 8])
    assert read.attrs["metadata"]["sample"] == "gold"
    data = readers.Blo(str(scan), metadata={"axes": "tcyx"})
    assert data.to_reader().read().image.dims == ("t", "c", "y", "x")


def test_storage_options_and_urls_are_passed_on(scan):
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/scan.blo", scan.read_bytes())
    try:
        data = readers.Blo("simplecache::memory://bucket/scan.blo", storage_options={"memory": {}})
        np.testing.assert_array_equal(data.to_reader().read().image, PIXELS)
    finally:
        memory.rm("/bucket", recursive=True)
    np.testing.assert_array_equal(readers.BloReader(f"file://{scan}").read().image, PIXELS)


def test_discover_reads_no_pixel(scan, monkeypatch):
    monkeypatch.setattr("intake_emio.frames.frames.Frames.read", None)
    assert readers.BloReader(str(scan)).discover().image.shape == PIXELS.shape


def test_steps_on_the_dataset_are_recorded(scan):
    pipeline = readers.BloReader(str(scan)).image.isel(y=0).mean(("v", "u"))
    np.testing.assert_array_equal(pipeline.read(), PIXELS[0].mean((1, 2)))


def test_readers_pickle(scan):
    again = pickle.loads(pickle.dumps(readers.BloReader(str(scan), chunks="frame")))
    assert again.read().image.data.chunksize == (1, 1, 5, 5)


# Catalogs ------------------------------------------------------------------------------------------------------------


def test_a_catalog_of_version_2_keeps_readers_pipelines_and_arguments(scan, tmp_path):
    catalog = intake.Catalog()
    reader = readers.BloReader(str(scan), chunks="frame", metadata={"spacing": {"y": 4}})
    catalog["gold"] = reader
    catalog["first_row"] = reader.image.isel(y=0)
    catalog.to_yaml_file(str(tmp_path / "catalog.yaml"))
    again = intake.open_catalog(str(tmp_path / "catalog.yaml"))
    assert set(again.entries) >= {"gold", "first_row"}
    xr.testing.assert_identical(again.gold.read().compute(), reader.read().compute())
    assert again.gold.read().image.data.chunksize == (1, 1, 5, 5)
    np.testing.assert_array_equal(again.first_row.read(), PIXELS[0])


def test_a_catalog_of_version_2_can_be_moved_with_its_data(scan, tmp_path):
    write_npy(tmp_path / "stack.npy", PIXELS[0])
    catalog = intake.Catalog()
    for name, reader in {
        "gold": readers.BloReader("{CATALOG_DIR}/scan.blo"),
        "stack": readers.NpyReader("{CATALOG_DIR}/stack.npy"),
    }.items():
        catalog[name] = reader
    catalog.to_yaml_file(str(tmp_path / "catalog.yaml"))
    stored = yaml.safe_load((tmp_path / "catalog.yaml").read_text())
    assert {data["datatype"] for data in stored["data"].values()} == {
        "intake_emio.readers:Blo",
        "intake_emio.readers:Npy",
    }
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    again = intake.open_catalog(str(moved / "catalog.yaml"))
    np.testing.assert_array_equal(again.gold.read().image, PIXELS)
    np.testing.assert_array_equal(again.stack.read().image, PIXELS[0])
