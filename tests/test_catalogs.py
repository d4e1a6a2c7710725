"""Catalogs made of folders: grouping, names, facts, bad input, updating, nesting, version 2, checking."""

import datetime
import json
import os
import shutil
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import fsspec
import h5py
import intake
import numpy as np
import pytest
import tifffile
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import intake_emio as emio
from intake_emio.catalogs import crawl, folders, numbering
from intake_emio.catalogs.building import Order
from intake_emio.catalogs.checking import check_catalog
from intake_emio.catalogs.entries import literal, unescaped
from intake_emio.catalogs.reading import read_catalog
from intake_emio.cli import app
from intake_emio.errors import ArgumentError, CatalogError, MissingFileError, StorageError, TargetExistsError
from intake_emio.frames.files import File

from .encoders.blo import write_blo
from .encoders.empad import write_empad
from .encoders.frms6 import write_frms6
from .encoders.k2is import write_k2is
from .encoders.mib import write_hdr, write_mib, write_mib_series
from .encoders.npy import write_npy
from .encoders.raw import write_raw
from .encoders.seq import write_seq, write_sidecar_mrc
from .encoders.ser import object_info, write_emi, write_ser
from .encoders.tvips import write_tvips
from .encoders.zarr import write_array

PIXELS = (np.arange(3 * 4 * 5 * 5) % 251).astype("u1").reshape(3, 4, 5, 5)


def emio_says(*arguments, code=0):
    """Run a command; return what it printed on stdout and on stderr."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def stored(path):
    """Content of a catalog, as plain data."""
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


def edit(path, change):
    """Change a catalog by hand."""
    content = stored(path)
    change(content["sources"])
    Path(path).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


@pytest.fixture
def opened(monkeypatch):
    """Names of the files that are opened from now on."""
    names, look = [], crawl.look

    def noted(folder, name, settings=None):
        names.append(name)
        return look(folder, name, settings)

    monkeypatch.setattr(crawl, "look", noted)
    monkeypatch.setattr("intake_emio.catalogs.surveying.look", noted)
    monkeypatch.setattr("intake_emio.catalogs.listing.look", noted)
    return names


# One entry for each data set -----------------------------------------------------------------------------------------


def write_seq_with_references(folder):
    write_seq(folder / "film.seq", np.ones((2, 6, 8), "u2"))
    write_sidecar_mrc(folder / "film.dark.mrc", np.zeros((6, 8)))
    write_sidecar_mrc(folder / "film.gain.mrc", np.ones((6, 8)))


def write_acquisition_of_two(folder):
    write_ser(folder / "scan_1.ser", np.ones((1, 4, 5), "u2"))
    write_ser(folder / "scan_2.ser", np.ones((1, 4, 5), "u2"))
    write_emi(folder / "scan.emi", [("C:\\scan_1.ser", object_info()), ("C:\\scan_2.ser", object_info())])


def write_numbered_mib(folder):
    write_mib_series(folder, "default", np.ones((12, 4, 6), "u2"), per_file=3)
    write_hdr(folder / "default.hdr", scan=(3, 4), frames=12, frames_per_trigger=4)


def write_linked_hdf5(folder):
    for number in (1, 2):
        with h5py.File(folder / f"run_data_{number:06}.h5", "w") as file:
            file["entry/data/data"] = np.ones((2, 4, 5), "u2")
    with h5py.File(folder / "run_master.h5", "w") as file:
        group = file.create_group("entry/data")
        for number in (1, 2):
            group[f"data_{number:06}"] = h5py.ExternalLink(f"run_data_{number:06}.h5", "entry/data/data")
        file["entry/instrument/detector/description"] = "Dectris Quadro"


DATASETS = {
    "a MIB sequence with its header": (write_numbered_mib, "default.hdr", (3, 4, 4, 6)),
    "a MIB sequence without": (
        lambda folder: write_mib_series(folder, "run", np.ones((6, 4, 6), "u2"), per_file=2),
        "run1.mib",
        (6, 4, 6),
    ),
    "the nine files of a K2 IS capture": (
        lambda folder: write_k2is(folder, "Capture1_", np.ones((2, 1860, 2048), "u2")),
        "Capture1_.gtg",
        (2, 1860, 2048),
    ),
    "EMPAD's XML and raw file": (
        lambda folder: write_empad(folder, np.ones((6, 128, 128), "f4"), scan=(2, 3)),
        "acquisition.xml",
        (2, 3, 128, 128),
    ),
    "an acquisition of two series": (write_acquisition_of_two, "scan.emi", (4, 5)),
    "a sequence with its dark and gain references": (write_seq_with_references, "film.seq", (2, 6, 8)),
    "the files of a pnCCD": (
        lambda folder: write_frms6(
            folder, "C16", np.ones((4, 8, 4), "u2"), dark=np.zeros((1, 8, 4), "u2"), scan=(2, 2), per_file=2
        ),
        "C16.hdr",
        (2, 2, 8, 4),
    ),
    "pieces of a TVIPS recording": (
        lambda folder: write_tvips(folder / "rec_000.tvips", np.ones((5, 4, 6), "u2"), per_file=2),
        "rec_000.tvips",
        (5, 4, 6),
    ),
    "a master file and the files that it links to": (write_linked_hdf5, "run_master.h5", (4, 4, 5)),
    "a Zarr store": (lambda folder: write_array(folder / "scan.zarr", PIXELS), "scan.zarr", (3, 4, 5, 5)),
}


@pytest.mark.parametrize("kind", DATASETS)
def test_a_data_set_of_several_files_is_one_entry(tmp_path, kind):
    write, opens, shape = DATASETS[kind]
    write(tmp_path)
    catalog = emio.build_catalog(tmp_path)
    names = list(catalog)
    assert len(names) == 1
    entry = catalog[names[0]]
    assert os.path.basename(entry.uri) == opens
    assert entry.to_dask().image.shape == shape
    report = catalog.report
    assert (report.datasets, report.other, report.unreadable, report.needs_parameters) == (1, 0, {}, {})
    assert report.in_datasets == report.files == sum(len(names) for _, _, names in os.walk(tmp_path))


def test_all_data_sets_in_one_folder_stay_apart(tmp_path):
    for kind in set(DATASETS) - {"a Zarr store"}:
        DATASETS[kind][0](tmp_path)
    catalog = emio.build_catalog(tmp_path)
    expected = sorted(opens for kind, (_, opens, _) in DATASETS.items() if kind != "a Zarr store")
    assert sorted(os.path.basename(catalog[name].uri) for name in catalog) == expected
    assert catalog.report.unreadable == {}


def test_acquisitions_that_only_have_similar_names_are_entries_of_their_own(tmp_path):
    for number in (1, 2, 3):  # frames are counted from 1 in each
        write_mib(tmp_path / f"scan{number}.mib", np.full((2, 4, 6), number, "u2"))
    catalog = emio.build_catalog(tmp_path)
    assert list(catalog) == ["scan1", "scan2", "scan3"]
    assert [int(catalog[name](disable_glob=True).read().image[0, 0, 0]) for name in catalog] == [1, 2, 3]
    assert [entry["files"] for entry in records(catalog).values()] == [[f"scan{k}.mib"] for k in (1, 2, 3)]


def records(catalog):
    """What we found out about the entries of an open catalog, by name."""
    return {name: catalog[name].metadata["emio"] for name in catalog}


def write_set(folder, stem="frames", extension="npy"):
    """Write the frames of a scan as files that are named after their places."""
    for y in range(3):
        for x in range(4):
            write_member(folder / f"{stem}.y_{2.5 * y}.x_{12.8 * x:04.1f}", extension, PIXELS[y, x])


def write_member(path, extension, pixels):
    write = {"npy": write_npy, "zarr": write_array, "tif": tifffile.imwrite}[extension]
    write(f"{path}.{extension}", pixels)


@pytest.mark.parametrize("extension", ["tif", "npy", "zarr"])
def test_files_that_are_named_after_their_places_are_one_entry(tmp_path, extension):
    write_set(tmp_path, extension=extension)
    write_npy(tmp_path / "frames.npy", PIXELS)
    catalog = emio.build_catalog(tmp_path, tmp_path / "c.yml", exclude="frames.npy")
    (name,) = catalog
    entry = catalog[name]
    assert (entry.describe()["driver"], entry.metadata["emio"]["format"]) == (["emio_files"], extension)
    assert entry.description.startswith("12 files, ")
    assert os.path.basename(entry.uri) == f"frames.y_*.x_*.{extension}"
    ds = entry.read()
    np.testing.assert_array_equal(ds.image, PIXELS)
    np.testing.assert_allclose(ds.x, [0, 12.8, 25.6, 38.4])
    assert entry.metadata["emio"]["spacing"] == {"y": 2.5, "x": 12.8}
    assert entry.metadata["emio"]["size"] > PIXELS.nbytes
    assert catalog.report.unreadable == {}


@pytest.mark.parametrize("extension", ["tif", "zarr"])
def test_what_imsave_splits_is_one_entry(tmp_path, extension):
    units = {"y": "nm", "x": "nm"}
    image = emio.to_xarray(
        PIXELS, axes="yxvu", spacing={"y": 2.5, "x": 2}, spacing_units=units, name="image"
    ).to_dataset()
    image["navigator"] = image.image.sum(("v", "u"))
    emio.imsave(image, tmp_path / f"scan.{extension}", partition="xvu")
    catalog = emio.build_catalog(tmp_path)
    assert len(list(tmp_path.iterdir())) == 6
    (name,) = catalog
    ds = catalog[name].read()
    np.testing.assert_array_equal(ds.image, PIXELS)
    np.testing.assert_array_equal(ds.navigator, PIXELS.sum((2, 3)))
    assert catalog[name].metadata["emio"]["spacing_units"]["y"] == "nm"


def test_members_of_a_set_that_is_not_complete_are_entries(tmp_path):
    write_set(tmp_path)
    next(iter(tmp_path.glob("*.y_2.5.x_12.8.npy"))).unlink()
    catalog = emio.build_catalog(tmp_path)
    assert len(catalog) == 11
    assert "missing" in catalog.report.notes[0]


def test_names_with_braces_and_brackets_are_no_sets(tmp_path):
    (tmp_path / "[a]").mkdir()
    write_set(tmp_path / "[a]")
    write_set(tmp_path, stem="{y}")
    assert len(emio.build_catalog(tmp_path)) == 24


def test_a_set_is_updated_as_a_whole(tmp_path, opened):
    for t in range(3):
        write_npy(tmp_path / f"film.t_{t}.npy", PIXELS[t, 0])
    emio.build_catalog(tmp_path, tmp_path / "catalog.yml")
    edit(tmp_path / "catalog.yml", lambda sources: sources.update(mine=sources.popitem()[1]))
    opened.clear()
    assert update(tmp_path).report.unchanged == 1
    assert set(opened) <= {"catalog.yml"}
    write_npy(tmp_path / "film.t_3.npy", PIXELS[0, 1])
    opened.clear()
    catalog = update(tmp_path)
    assert catalog.mine.metadata["emio"]["shape"] == [4, 5, 5]
    assert catalog.mine.metadata["emio"]["files"] == ["film.t_*.npy"]
    assert set(opened) == {"catalog.yml", "film.t_*.npy"}


def test_reference_files_without_their_sequence_are_entries(tmp_path):
    write_sidecar_mrc(tmp_path / "film.dark.mrc", np.zeros((6, 8)), nz=1)
    assert list(emio.build_catalog(tmp_path)) == ["film_dark"]


def test_folders_that_are_images_are_not_entered(tmp_path):
    write_array(tmp_path / "scan.zarr", PIXELS)
    write_npy(tmp_path / "scan.zarr" / "stray.npy", PIXELS)
    (tmp_path / "scan").mkdir()
    write_npy(tmp_path / "scan" / "a.npy", PIXELS)
    catalog = emio.build_catalog(tmp_path)
    assert list(catalog) == ["scan", "scan_a"]
    assert catalog["scan"].metadata["emio"]["size"] == sum(
        path.stat().st_size for path in (tmp_path / "scan.zarr").rglob("*") if path.is_file()
    )


def test_the_crawled_folder_may_be_an_image_itself(tmp_path):
    write_array(tmp_path / "scan.zarr", PIXELS)
    catalog = emio.build_catalog(tmp_path / "scan.zarr")
    assert list(catalog) == ["scan"]
    np.testing.assert_array_equal(catalog.scan.read().image, PIXELS)


# What entries say ----------------------------------------------------------------------------------------------------


def test_an_entry_says_what_is_known_without_opening_the_file(tmp_path):
    path = write_blo(
        tmp_path / "scan.blo", PIXELS, steps=(2.5, 2), pixels_per_cm_x100=5000, beam_energy=200_000, camera_length=2000
    )
    os.utime(path, ns=(0, 1_714_564_800_123_456_789))  # 2024-05-01, noon
    entry = emio.build_catalog(tmp_path, tmp_path / "c.yml").scan.describe()
    assert entry["driver"] == ["emio_blo"]
    assert entry["description"] == "NanoMegas blockfile; y 3, x 4, v 5, u 5 uint8; 200 keV"
    facts = entry["metadata"]["emio"]
    assert (facts["format"], facts["axes"], facts["shape"], facts["dtype"]) == ("blo", "yxvu", [3, 4, 5, 5], "uint8")
    assert facts["spacing"] == {"y": 2.5, "x": 2.0, "v": 0.02, "u": 0.02}
    assert facts["spacing_units"] == {"y": "nm", "x": "nm", "v": "cm", "u": "cm"}
    assert (facts["acquisition"]["beam_energy"], facts["acquisition"]["camera_length"]) == (200, 200)
    assert (facts["size"], facts["modified"]) == (path.stat().st_size, "2024-05-01T12:00:00Z")
    assert facts["files"] == ["scan.blo"]


def test_the_calibration_in_the_facts_does_not_replace_that_of_the_file(tmp_path):
    write_blo(tmp_path / "scan.blo", PIXELS, steps=(2.5, 2))
    catalog = emio.build_catalog(tmp_path, tmp_path / "c.yml")
    write_blo(tmp_path / "scan.blo", PIXELS[:2], steps=(5, 5))
    np.testing.assert_array_equal(catalog.scan.read().y, [0, 5])


def test_names_are_made_of_paths_and_unique(tmp_path):
    for place in ("a b/Scan-1.npy", "a_b/scan 1.npy", "x.npy", "x.1.npy", "µ/ß.npy", "x/1.npy", "-.npy"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        write_npy(tmp_path / place, PIXELS[0, 0])
    write_blo(tmp_path / "x.blo", PIXELS)
    (tmp_path / "a b" / "Scan_1.npy").write_bytes((tmp_path / "x.npy").read_bytes())
    catalog = emio.build_catalog(tmp_path)
    uris = {name: os.path.relpath(catalog[name].uri, tmp_path) for name in catalog}
    assert len(uris) == 9
    assert uris["x_blo"] == "x.blo"
    assert uris["x_npy"] == "x.npy"
    assert uris["µ_ß"] == "µ/ß.npy"
    assert {uris["x_1_npy"], uris["x_1_npy_2"]} == {"x.1.npy", "x/1.npy"}
    assert {uris["a_b_Scan_1_npy"], uris["a_b_Scan_1_npy_2"]} == {"a b/Scan-1.npy", "a b/Scan_1.npy"}
    assert uris["a_b_scan_1"] == "a_b/scan 1.npy"
    assert not any("." in name or " " in name for name in uris)


def test_names_of_numbered_files_are_short_in_the_record(tmp_path):
    write_numbered_mib(tmp_path)
    assert records(emio.build_catalog(tmp_path))["default"]["files"] == ["default{1..4}.mib", "default.hdr"]


@given(st.lists(st.from_regex(r"[a{.]{0,2}[0-9]{0,3}(\.\.[0-9]|[b}.])[0-9]{0,2}", fullmatch=True), unique=True))
def test_shortened_names_come_back(names):
    short = numbering.shortened(names)
    if not any(numbering.RANGE.search(name) for name in names):
        assert sorted(numbering.expanded(short)) == sorted(names)
    assert len(short) <= len(names)


def test_the_same_folder_gives_the_same_text(tmp_path, monkeypatch):
    (tmp_path / "lab").mkdir()
    for kind in DATASETS:
        DATASETS[kind][0](tmp_path / "lab")
    emio.build_catalog(tmp_path / "lab", tmp_path / "first.yml")
    monkeypatch.setattr(crawl, "THREADS", 1)
    emio.build_catalog(tmp_path / "lab", tmp_path / "second.yml")
    assert (tmp_path / "first.yml").read_text() == (tmp_path / "second.yml").read_text()


def test_paths_are_relative_to_the_catalog_so_that_both_can_be_moved(tmp_path):
    (tmp_path / "lab" / "data").mkdir(parents=True)
    write_blo(tmp_path / "lab" / "data" / "scan.blo", PIXELS)
    emio.build_catalog(tmp_path / "lab" / "data", tmp_path / "lab" / "catalogs" / "c.yml")
    entry = stored(tmp_path / "lab" / "catalogs" / "c.yml")["sources"]["scan"]
    assert entry["args"]["uri"] == "{{ CATALOG_DIR }}/../data/scan.blo"
    (tmp_path / "lab").rename(tmp_path / "moved")
    catalog = intake.open_catalog(str(tmp_path / "moved" / "catalogs" / "c.yml"))
    np.testing.assert_array_equal(catalog.scan.read().image, PIXELS)


def test_what_is_no_file_gets_the_catalog_as_text_with_absolute_paths(tmp_path, capsys):
    write_blo(tmp_path / "scan.blo", PIXELS)
    said, noted = emio_says("catalog", tmp_path, "-o", "/dev/stdout", "--include", "*")
    assert yaml.safe_load(said)["sources"]["scan"]["args"]["uri"] == str(tmp_path / "scan.blo")
    assert noted.startswith("1 data set in 1 file (1 in data sets, 0 other) in 1 folder")


@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_standard_output_may_be_redirected_to_a_file(tmp_path, mode):
    write_blo(tmp_path / "scan.blo", PIXELS)
    target = tmp_path / "out.yml"
    target.write_text("# before\n")
    script = "import sys; sys.argv[0] = 'emio'; from intake_emio.cli import main; main()"
    with open(target, mode) as stream:
        command = [sys.executable, "-c", script, "catalog", str(tmp_path), "-o", "/dev/stdout", "--include", "*.blo"]
        subprocess.run(command, stdout=stream, stderr=subprocess.PIPE, check=True)
    assert target.read_text().startswith("# before\n" if mode == "ab" else "metadata:")
    assert list(stored(target)["sources"]) == ["scan"]


def test_every_entry_of_real_files_opens_as_it_is_described(real_files, tmp_path):
    root = real_files("blo").folder.parent
    catalog = emio.build_catalog(root, tmp_path / "catalog.yml")
    assert len(catalog) > 20
    for name in catalog:
        facts, image = catalog[name].metadata["emio"], catalog[name].to_dask().image
        assert ("".join(image.dims), list(image.shape), str(image.dtype)) == (
            facts["axes"],
            facts["shape"],
            facts["dtype"],
        )
    report = catalog.report
    assert report.files == sum(len(names) for _, _, names in os.walk(root) if names)
    assert report.datasets == len(catalog)
    assert all((root / place).exists() for place in report.unreadable)


# What files and folders may be like ----------------------------------------------------------------------------------


def test_files_that_are_no_images_are_counted_and_not_complained_about(tmp_path):
    write_blo(tmp_path / "scan.blo", PIXELS)
    for name in ("notes.txt", "thesis.pdf", "list.yml", "settings.xml", "empty", "archive.zip"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".hidden.blo").write_bytes(b"")
    report = emio.build_catalog(tmp_path).report
    assert (report.files, report.datasets, report.in_datasets, report.other) == (7, 1, 1, 6)
    assert report.unreadable == {}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("cut.blo", b"IMGBLO" + bytes(20), "header"),
        ("empty.blo", b"", "IMGBLO"),
        ("a.dm3", b"no tags at all", "Digital Micrograph"),
        ("a.tif", b"II*\0" + bytes(3), ""),
        ("a.npy", b"\x93NUMPY\1\0", ""),
        ("a.mib", b"MQ1,000001,", ""),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(8), ""),
        ("lonely.emi", b"JK\0\x02" + bytes(40), ".ser"),
        ("x.tvips", b"????", "TVIPS"),
    ],
)
def test_files_that_look_like_images_and_are_broken_are_listed_with_the_reason(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    write_npy(tmp_path / "good.npy", PIXELS)
    catalog = emio.build_catalog(tmp_path, tmp_path / "c.yml")
    assert list(catalog) == ["good"]
    assert list(catalog.report.unreadable) == [name]
    reason = catalog.report.unreadable[name]
    assert says in reason
    assert str(tmp_path) not in reason
    assert name in str(catalog.report)
    assert stored(tmp_path / "c.yml")["metadata"]["emio"]["unreadable"][name]["reason"] == reason


def test_a_reader_that_fails_in_an_unexpected_way_costs_one_file(tmp_path, monkeypatch):
    write_blo(tmp_path / "a.blo", PIXELS)
    write_npy(tmp_path / "b.npy", PIXELS)

    def fail(*_):
        raise ZeroDivisionError("float division by zero")

    monkeypatch.setattr("intake_emio.formats.blo.BloSource.parse", fail)
    report = emio.build_catalog(tmp_path).report
    assert report.datasets == 1
    assert report.unreadable == {"a.blo": "ZeroDivisionError: float division by zero"}


def test_raw_frames_get_a_hint_because_nobody_knows_their_shape(tmp_path):
    write_raw(tmp_path / "frames.raw", np.ones((3, 256, 256), "u2"))
    report = emio.build_catalog(tmp_path).report
    assert (report.datasets, report.unreadable) == (0, {})
    assert "256 x 256 uint16" in report.needs_parameters["frames.raw"]
    assert "sig_shape" in str(report)


def test_folders_that_cannot_be_listed_are_reported(tmp_path, monkeypatch):
    (tmp_path / "private").mkdir()
    write_npy(tmp_path / "a.npy", PIXELS)
    scandir = os.scandir

    def guarded(path):
        if str(path).endswith("private"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    catalog = emio.build_catalog(tmp_path)
    assert list(catalog) == ["a"]
    assert catalog.report.unreadable == {"private": "Permission denied"}


def test_links_in_a_circle_are_followed_once(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    write_npy(tmp_path / "a" / "b" / "scan.npy", PIXELS)
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "a")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    catalog = emio.build_catalog(tmp_path)
    assert list(catalog) == ["a_b_scan"]
    assert sorted(note.split(":")[0] for note in catalog.report.notes) == ["a/b/up", "again"]
    assert sorted(catalog.report.unreadable) == ["gone", "self"]


def test_links_that_lead_out_are_followed(tmp_path):
    (tmp_path / "lab").mkdir()
    (tmp_path / "elsewhere").mkdir()
    write_npy(tmp_path / "elsewhere" / "scan.npy", PIXELS)
    (tmp_path / "lab" / "data").symlink_to(tmp_path / "elsewhere")
    assert list(emio.build_catalog(tmp_path / "lab")) == ["data_scan"]


def test_files_linked_by_a_folder_under_another_name_belong_to_their_data_set(tmp_path):
    (tmp_path / "real").mkdir()
    write_linked_hdf5(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert list(emio.build_catalog(tmp_path / "link")) == ["run_master"]


def test_pipes_and_sockets_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.blo")
    write_npy(tmp_path / "a.npy", PIXELS)
    report = emio.build_catalog(tmp_path).report
    assert (report.files, report.unreadable) == (1, {})


def test_files_that_vanish_while_crawling_are_reported(tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        write_npy(tmp_path / f"{name}.npy", PIXELS)
    look = crawl.look

    def late(folder, name, settings=None):
        if name == "b.npy":
            (tmp_path / name).unlink()
        return look(folder, name, settings)

    monkeypatch.setattr(crawl, "look", late)
    catalog = emio.build_catalog(tmp_path)
    assert list(catalog) == ["a", "c"]
    assert catalog.report.unreadable == {"b.npy": "no such file"}


def test_folders_that_vanish_while_crawling_are_reported(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_npy(tmp_path / name / "x.npy", PIXELS)
    by_folder = folders.by_folder

    def late(file):
        if file.name == "a":
            shutil.rmtree(tmp_path / "b", ignore_errors=True)
        return by_folder(file)

    monkeypatch.setattr(folders, "by_folder", late)
    catalog = emio.build_catalog(tmp_path)
    assert list(catalog) == ["a_x"]
    assert list(catalog.report.unreadable) == ["b"]


def test_names_that_are_no_text_are_reported(tmp_path):
    shutil.copy(write_npy(tmp_path / "good.npy", PIXELS), os.fsencode(tmp_path) + b"/bad\xff.npy")
    catalog = emio.build_catalog(tmp_path, tmp_path / "c.yml")
    assert list(intake.open_catalog(str(tmp_path / "c.yml"))) == ["good"]
    assert "Unicode" in "".join(catalog.report.unreadable.values())


def test_oddities_of_readable_files_are_noted(tmp_path):
    write_blo(tmp_path / "stopped.blo", PIXELS, frames_written=7)
    catalog = emio.build_catalog(tmp_path)
    assert list(catalog) == ["stopped"]
    assert [note.startswith("stopped.blo") for note in catalog.report.notes] == [True]


def test_a_server_that_cannot_be_reached_is_an_error_of_ours(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no credentials")

    monkeypatch.setattr(fsspec.filesystem("memory"), "isdir", refuse, raising=False)
    with pytest.raises(StorageError, match=r"memory://lab: RuntimeError: no credentials"):
        emio.build_catalog("memory://lab")


def test_a_missing_folder_and_a_file_are_refused(tmp_path):
    with pytest.raises(MissingFileError, match="nowhere"):
        emio.build_catalog(tmp_path / "nowhere")
    with pytest.raises(ArgumentError, match=r"scan\.npy is a file"):
        emio.build_catalog(write_npy(tmp_path / "scan.npy", PIXELS))


EVIL = "{{ ''.__class__.__mro__[1].__subclasses__() }}"


@pytest.mark.parametrize(
    "name", ["{{ 1 + 1 }}", "{% raw %}", "{# gone #}", "{{{", "{", "{CATALOG_DIR}", "' \" : - # [x]"]
)
@pytest.mark.parametrize("version", [1, 2])
def test_names_of_files_are_never_templates(tmp_path, name, version):
    path = write_blo(tmp_path / f"{name}.blo", PIXELS)
    catalog = emio.build_catalog(tmp_path, tmp_path / "c.yml", version=version)
    (entry,) = catalog if version == 1 else catalog.aliases
    read = (catalog[entry].read() if version == 1 else catalog[entry].read(chunks=None)).attrs["uri"]
    assert Path(read) == path
    assert check_catalog(tmp_path / "c.yml") == []


def save_with(path, facts):
    """Save an image with facts about its acquisition."""
    image = emio.to_xarray(PIXELS, axes="yxvu", name="image").to_dataset()
    emio.imsave(image.assign_attrs(acquisition=facts), path)


def test_what_headers_say_is_never_a_template(tmp_path):
    save_with(tmp_path / "a.zarr", {"title": EVIL, "instrument": "{% for"})
    catalog = emio.build_catalog(tmp_path, tmp_path / "c.yml")
    assert catalog.a.metadata["emio"]["acquisition"]["title"] == EVIL
    assert emio.search(tmp_path / "c.yml", title=EVIL.replace("[", "[[]"))
    assert check_catalog(tmp_path / "c.yml") == []


@given(st.text(alphabet="{}%# 'a\n"))
def test_literal_texts_come_out_of_templates_as_they_went_in(text):
    from jinja2 import Environment

    assert Environment(keep_trailing_newline=True).from_string(literal(text)).render() == text
    assert unescaped(literal(text)) == text


def test_long_texts_and_lists_of_headers_stay_out_of_the_catalog(tmp_path):
    facts = {"title": "x" * 10_000, "instrument": "Titan", "stage": {"x": 1.5}, "noise": list(range(1000))}
    save_with(tmp_path / "a.zarr", facts)
    assert emio.build_catalog(tmp_path).a.metadata["emio"]["acquisition"] == {
        "instrument": "Titan",
        "stage": {"x": 1.5},
    }


# Selecting, remote storage, many files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({}, ["a", "old_a", "old_b", "z"]),
        ({"include": "*.npy"}, ["a", "old_a", "old_b"]),
        ({"include": ["*.npy", "*.zarr"], "exclude": "old"}, ["a", "z"]),
        ({"exclude": ["a.*", "*.zarr"]}, ["old_b"]),
        ({"exclude": "old/a*"}, ["a", "old_b", "z"]),
        ({"include": "old"}, ["old_a", "old_b"]),
        ({"include": "*"}, ["a", "old_a", "old_b", "z"]),
    ],
)
def test_patterns_choose_files_and_folders(tmp_path, selection, expected):
    (tmp_path / "old").mkdir()
    for place in ("a.npy", "old/a.npy", "old/b.npy"):
        write_npy(tmp_path / place, PIXELS)
    write_array(tmp_path / "z.zarr", PIXELS)
    assert sorted(emio.build_catalog(tmp_path, **selection)) == expected


@pytest.fixture
def bucket(tmp_path):
    """URL of a folder in remote storage with a scan, a sequence and a Zarr store."""
    memory = fsspec.filesystem("memory")
    write_blo(tmp_path / "scan.blo", PIXELS)
    write_numbered_mib(tmp_path)
    write_array(tmp_path / "stored.zarr", PIXELS)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            place = path.relative_to(tmp_path).as_posix()
            memory.pipe(f"/lab/{'' if place.startswith('s') else '2024/'}{place}", path.read_bytes())
    yield "memory://lab"
    memory.rm("/lab", recursive=True)


def test_remote_folders_are_crawled_like_local_ones(bucket, opened):
    catalog = emio.build_catalog(bucket, f"{bucket}/catalog.yml")
    assert list(catalog) == ["2024_default", "scan", "stored"]
    for name in ("scan", "stored"):
        np.testing.assert_array_equal(catalog[name].read().image, PIXELS)
    assert catalog["2024_default"].discover()["shape"] == (3, 4, 4, 6)
    facts = records(catalog)
    assert facts["scan"]["size"] == len(fsspec.filesystem("memory").cat("/lab/scan.blo"))
    assert facts["scan"]["modified"].startswith(str(datetime.datetime.now(datetime.UTC).year))
    assert catalog.scan.describe()["args"]["uri"] == "{{ CATALOG_DIR }}/scan.blo"
    opened.clear()
    again = emio.build_catalog(bucket, f"{bucket}/catalog.yml", update=True)
    assert set(opened) == {"catalog.yml"}
    assert again.report.unchanged == 3


def test_catalogs_of_remote_folders_may_be_local(bucket, tmp_path):
    catalog = emio.build_catalog(bucket, tmp_path / "c.yml", include="*.blo")
    assert catalog.scan.describe()["args"]["uri"] == "memory://lab/scan.blo"
    np.testing.assert_array_equal(catalog.scan.read().image, PIXELS)


def test_storage_options_are_kept_and_secrets_are_not(bucket, tmp_path):
    options = {"simplecache": {"cache_storage": str(tmp_path / "cache")}, "memory": {"skip_instance_cache": False}}
    catalog = emio.build_catalog("memory://lab", tmp_path / "c.yml", include="*.blo", storage_options=options["memory"])
    assert catalog.scan.describe()["args"]["storage_options"] == {"skip_instance_cache": False}
    secret = {"client_token": "hunter2", "listings_expiry_time": 5}
    catalog = emio.build_catalog(bucket, tmp_path / "d.yml", include="*.blo", storage_options=secret)
    assert "hunter2" not in (tmp_path / "d.yml").read_text()
    assert "client_token" in str(catalog.report)


def many(folder, folders_, files):
    """Fill folders with links to one small file."""
    for k in range(folders_):
        (folder / f"{k:02}").mkdir()
        first = write_npy(folder / f"{k:02}" / "0.npy", PIXELS[0, 0])
        for n in range(1, files):
            os.link(first, folder / f"{k:02}" / f"{n}.npy")
    return folder


def test_two_thousand_files_are_crawled_by_a_few_threads(tmp_path):
    _, noted = emio_says("catalog", many(tmp_path, 20, 100), "-o", tmp_path / "c.yml")
    assert noted.startswith("2000 data sets in 2000 files (2000 in data sets, 0 other) in 21 folders")
    assert threading.active_count() < 20
    _, noted = emio_says("catalog", tmp_path, "-o", tmp_path / "c.yml", "--update")
    assert "2000 of them unchanged" in noted


def test_memory_grows_by_little_with_each_file(tmp_path):
    folder = File(str(many(tmp_path, 3, 100)))
    Order(folder, None).made()  # whatever is kept for good
    tracemalloc.start()
    try:
        contents, _ = Order(folder, None).made()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(list(contents[""]["sources"])) == 300
    assert held / 300 < 4000  # bytes


def test_a_sequence_of_many_files_is_opened_once(tmp_path, opened):
    write_mib_series(tmp_path, "run", np.ones((60, 4, 6), "u2"), per_file=1, digits=3)
    emio.build_catalog(tmp_path)
    assert opened == ["run001.mib"]


# Updating ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def lab(tmp_path):
    """Folder with a catalog of three data sets."""
    folder = tmp_path / "lab"
    (folder / "2024").mkdir(parents=True)
    write_blo(folder / "gold.blo", PIXELS, beam_energy=200_000)
    write_npy(folder / "2024" / "stack.npy", PIXELS[0])
    write_mib_series(folder / "2024", "run", np.ones((4, 4, 6), "u2"), per_file=2)
    emio.build_catalog(folder, folder / "catalog.yml")
    return folder


def update(folder, **settings):
    return emio.build_catalog(folder, folder / "catalog.yml", update=True, **settings)


def test_an_existing_catalog_is_not_replaced_by_accident(lab, opened):
    before = (lab / "catalog.yml").read_text()
    with pytest.raises(TargetExistsError, match=r"catalog\.yml.*update"):
        emio.build_catalog(lab, lab / "catalog.yml")
    assert (lab / "catalog.yml").read_text() == before
    assert opened == []
    emio.build_catalog(lab, lab / "catalog.yml", overwrite=True)


def test_an_update_opens_nothing_and_changes_nothing_if_nothing_has_changed(lab, opened):
    (lab / "broken.blo").write_bytes(b"IMGBLO")
    (lab / "notes.txt").write_text("not about images")
    update(lab)
    before = (lab / "catalog.yml").read_text()
    opened.clear()
    report = update(lab).report
    assert set(opened) <= {"notes.txt", "catalog.yml"}  # what is no image is looked at again
    assert (lab / "catalog.yml").read_text() == before
    assert (report.datasets, report.unchanged, list(report.unreadable)) == (3, 3, ["broken.blo"])


def test_an_update_opens_what_is_new_or_has_changed(lab, opened):
    write_npy(lab / "new.npy", PIXELS)
    write_blo(lab / "gold.blo", PIXELS[:2])
    catalog = update(lab)
    assert set(opened) - {"catalog.yml"} == {"new.npy", "gold.blo"}
    assert sorted(catalog) == ["2024_run1", "2024_stack", "gold", "new"]
    assert catalog.gold.metadata["emio"]["shape"] == [2, 4, 5, 5]


def test_an_update_forgets_files_that_are_gone(lab):
    (lab / "gold.blo").unlink()
    catalog = update(lab)
    assert sorted(catalog) == ["2024_run1", "2024_stack"]
    assert catalog.report.kept == []


def test_a_sequence_that_grows_keeps_its_entry(lab):
    edit(lab / "catalog.yml", lambda sources: sources.update(long_run=sources.pop("2024_run1")))
    write_mib(lab / "2024" / "run3.mib", np.ones((2, 4, 6), "u2"), first_number=5)
    catalog = update(lab)
    assert sorted(catalog) == ["2024_stack", "gold", "long_run"]
    assert catalog.long_run.metadata["emio"]["shape"] == [6, 4, 6]
    assert catalog.long_run.metadata["emio"]["files"] == ["run{1..3}.mib"]


def test_a_header_that_is_added_becomes_part_of_its_data_set(lab):
    write_hdr(lab / "2024" / "run.hdr", scan=(2, 2), frames=4, frames_per_trigger=2)
    catalog = update(lab)
    assert sorted(catalog) == ["2024_run1", "2024_stack", "gold"]
    assert catalog["2024_run1"].to_dask().image.shape == (2, 2, 4, 6)


def test_references_that_are_added_become_part_of_their_sequence(tmp_path):
    write_seq(tmp_path / "film.seq", np.ones((2, 6, 8), "u2"))
    assert emio.build_catalog(tmp_path, tmp_path / "catalog.yml").film.metadata["emio"]["dtype"] == "uint16"
    write_seq_with_references(tmp_path)
    catalog = update(tmp_path)
    assert list(catalog) == ["film"]
    assert catalog.film.metadata["emio"]["dtype"] == "float32"
    assert catalog.film.metadata["emio"]["files"] == ["film.dark.mrc", "film.gain.mrc", "film.seq"]


def test_what_people_wrote_is_kept(lab):
    def change(sources):
        sources["gold_on_carbon"] = sources.pop("gold")
        sources["gold_on_carbon"]["metadata"]["sample"] = "gold"
        sources["2024_stack"]["description"] = "My best stack"
        sources["2024_run1"]["args"]["nav_shape"] = [2, 2]
        sources["2024_run1"]["parameters"] = {"unused": {"description": "a number", "type": "int", "default": 3}}
        sources["mine"] = {"driver": "emio_raw", "args": {"uri": "{{ CATALOG_DIR }}/x.raw", "dtype": "u1"}}

    edit(lab / "catalog.yml", change)
    content = stored(lab / "catalog.yml")
    content["metadata"]["contact"] = "ada@lab"
    (lab / "catalog.yml").write_text(yaml.safe_dump({**content, "description": "All of it"}))
    write_raw(lab / "x.raw", PIXELS[0])
    for path in (lab / "gold.blo", lab / "2024" / "stack.npy"):
        os.utime(path, ns=(1, 1))  # all are opened again
    catalog = update(lab)
    after = stored(lab / "catalog.yml")
    sources = after["sources"]
    assert sorted(sources) == ["2024_run1", "2024_stack", "gold_on_carbon", "mine"]
    assert sources["gold_on_carbon"]["metadata"]["sample"] == "gold"
    assert sources["gold_on_carbon"]["metadata"]["emio"]["modified"] == "1970-01-01T00:00:00Z"
    assert sources["2024_stack"]["description"] == "My best stack"
    assert sources["2024_run1"]["args"]["nav_shape"] == [2, 2]
    assert sources["2024_run1"]["parameters"] == {"unused": {"description": "a number", "type": "int", "default": 3}}
    assert sources["2024_run1"]["metadata"]["emio"]["shape"] == [2, 2, 4, 6]
    assert sources["mine"] == {"driver": "emio_raw", "args": {"uri": "{{ CATALOG_DIR }}/x.raw", "dtype": "u1"}}
    assert (after["metadata"]["contact"], after["description"]) == ("ada@lab", "All of it")
    assert catalog.report.needs_parameters == {}
    assert update(lab).report.unchanged == 3
    assert stored(lab / "catalog.yml") == after


def test_a_description_that_nobody_edited_follows_the_file(lab):
    edit(lab / "catalog.yml", lambda sources: sources["gold"]["metadata"].update(sample="gold"))
    write_blo(lab / "gold.blo", PIXELS[:2], beam_energy=80_000)
    entry = update(lab).gold.describe()
    assert "y 2" in entry["description"]
    assert "80 keV" in entry["description"]
    assert entry["metadata"]["sample"] == "gold"


def test_an_edited_entry_survives_its_file_and_is_reported(lab):
    edit(lab / "catalog.yml", lambda sources: sources["gold"]["metadata"].update(sample="gold"))
    (lab / "gold.blo").unlink()
    catalog = update(lab)
    assert "gold" in catalog
    assert catalog.report.kept == ["gold"]
    assert "gold" in str(catalog.report)


def test_entries_of_other_folders_are_left_alone(lab):
    edit(lab / "catalog.yml", lambda sources: sources.update(mine=sources.pop("2024_stack")))
    write_npy(lab / "2024" / "new.npy", PIXELS)
    (lab / "2024" / "run2.mib").unlink()
    catalog = emio.build_catalog(lab / "2024", lab / "catalog.yml", update=True)
    assert sorted(catalog) == ["2024_run1", "gold", "mine", "new"]
    assert catalog["2024_run1"].metadata["emio"]["shape"] == [2, 4, 6]
    assert catalog.report.kept == []


def test_files_of_an_entry_by_hand_are_not_listed_again(lab):
    for k in (1, 2, 10):
        write_npy(lab / f"tilt_{k}.npy", PIXELS[0, 0])
        write_npy(lab / f"other_{k}.npy", PIXELS[0, 0])
    entries = {
        "tilts": {"driver": "emio_files", "args": {"uri": "{{ CATALOG_DIR }}/tilt_*.npy"}},
        "others": {"driver": "emio", "args": {"uri": "{{ CATALOG_DIR }}/other_{z}.npy"}},
    }
    edit(lab / "catalog.yml", lambda sources: sources.update(entries))
    assert sorted(update(lab)) == ["2024_run1", "2024_stack", "gold", "others", "tilts"]


def test_arguments_that_do_not_fit_any_more_are_noted_and_kept(lab):
    edit(lab / "catalog.yml", lambda sources: sources["gold"]["args"].update(sig_shape=[7, 7]))
    catalog = update(lab)
    assert catalog.gold.describe()["args"]["sig_shape"] == [7, 7]
    assert any("gold" in note and "sig_shape" in note for note in catalog.report.notes)
    assert catalog.gold.metadata["emio"]["shape"] == [3, 4, 5, 5]


def test_a_catalog_that_moved_with_its_data_is_updated_without_opening_anything(lab, tmp_path, opened):
    moved = lab.rename(tmp_path / "moved")
    report = update(moved).report
    assert set(opened) <= {"catalog.yml"}
    assert report.unchanged == 3


def test_an_update_without_a_catalog_makes_one(tmp_path):
    write_npy(tmp_path / "a.npy", PIXELS)
    assert list(update(tmp_path)) == ["a"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "just text",
        "- a\n- list",
        "sources: [a, b]",
        "sources: {a: text}",
        "sources: {1: {driver: emio}}",
        "sources: {a: [unclosed",
        "sources: !!python/object/apply:os.system [touch executed]",
        "sources: {a: {driver: emio, args: !!python/name:os.system {}}}",
        "a: &a [*a]",
        "a: &a [x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n"
        + "\n".join(f"{y}: &{y} [{','.join([f'*{x}'] * 8)}]" for x, y in zip("cdefghij", "defghijk", strict=True)),
        "[" * 100_000,
        "{a: " * 100_000,
        "- " * 100_000,
        "\0",
        "\x80\x81",
    ],
    ids=range(16),
)
def test_a_broken_catalog_is_refused_and_left_as_it_is(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    write_npy(tmp_path / "a.npy", PIXELS)
    path = tmp_path / "catalog.yml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(CatalogError, match=r"catalog\.yml"):
        update(tmp_path)
    assert path.read_bytes() == text.encode("latin-1")
    assert not (tmp_path / "executed").exists()
    assert check_catalog(path)


def test_records_of_strangers_do_no_harm(lab):
    def change(sources):
        sources["gold"]["metadata"]["emio"]["files"] = ["{0..9999999999}", "../../../etc/passwd", {"a": 1}, None]
        sources["2024_stack"]["metadata"]["emio"] = ["not", "a", "mapping"]
        sources["2024_run1"]["args"] = "no mapping"
        sources["odd"] = {"driver": None, "args": None, "metadata": None}
        sources["odder"] = {}

    edit(lab / "catalog.yml", change)
    emio_says("catalog", lab, "-o", lab / "catalog.yml", "--update")
    assert {"gold", "odd", "odder"} <= set(stored(lab / "catalog.yml")["sources"])


def test_a_failed_write_leaves_the_old_catalog(lab, monkeypatch):
    before = (lab / "catalog.yml").read_text()
    write_npy(lab / "new.npy", PIXELS)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("intake_emio.catalogs.writing.sync", full)
    with pytest.raises(StorageError, match="No space left"):
        update(lab)
    assert (lab / "catalog.yml").read_text() == before
    assert sorted(path.name for path in lab.iterdir()) == ["2024", "catalog.yml", "gold.blo", "new.npy"]


# Nested catalogs and version 2 ---------------------------------------------------------------------------------------


def test_nested_catalogs_are_one_for_each_folder(tmp_path):
    for place in ("a/deep/x.npy", "a/y.npy", "b/x.npy", "top.npy"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        write_npy(tmp_path / place, PIXELS[0])
    (tmp_path / "empty").mkdir()
    catalog = emio.build_catalog(tmp_path, tmp_path / "catalog.yml", nested=True)
    assert sorted(catalog) == ["a", "b", "top"]
    assert (sorted(catalog.a), list(catalog.a.deep), list(catalog.b)) == (["deep", "y"], ["x"], ["x"])
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.yml")) == [
        "a/catalog.yml",
        "a/deep/catalog.yml",
        "b/catalog.yml",
        "catalog.yml",
    ]
    entry = stored(tmp_path / "catalog.yml")["sources"]["a"]
    assert (entry["driver"], entry["args"]) == ("yaml_file_cat", {"path": "{{ CATALOG_DIR }}/a/catalog.yml"})
    assert entry["description"] == "2 data sets: 2 npy"
    assert stored(tmp_path / "a" / "catalog.yml")["sources"]["y"]["args"]["uri"] == "{{ CATALOG_DIR }}/y.npy"
    for name in ("top", "a.y", "a.deep.x", "b.x"):
        np.testing.assert_array_equal(catalog[name].read().image, PIXELS[0])
    assert list(emio.search(tmp_path / "catalog.yml", format="npy")) == ["a.deep.x", "a.y", "b.x", "top"]
    assert check_catalog(tmp_path / "catalog.yml") == []


def test_nested_catalogs_may_lie_apart_from_their_data(tmp_path):
    (tmp_path / "data" / "a").mkdir(parents=True)
    write_npy(tmp_path / "data" / "a" / "x.npy", PIXELS)
    catalog = emio.build_catalog(tmp_path / "data", tmp_path / "catalogs" / "lab.yml", nested=True)
    assert (tmp_path / "catalogs" / "a" / "lab.yml").exists()
    np.testing.assert_array_equal(catalog.a.x.read().image, PIXELS)


def test_nested_catalogs_are_updated_in_place(lab, opened):
    emio.build_catalog(lab, lab / "catalog.yml", nested=True, overwrite=True)
    edit(lab / "catalog.yml", lambda sources: sources.update(last_year=sources.pop("2024")))
    edit(lab / "2024" / "catalog.yml", lambda sources: sources["stack"].update(description="mine"))
    opened.clear()
    report = update(lab, nested=True).report
    assert set(opened) <= {"catalog.yml"}
    assert (report.datasets, report.unchanged) == (3, 3)
    (lab / "2024" / "new").mkdir()
    write_npy(lab / "2024" / "new" / "scan.npy", PIXELS)
    catalog = update(lab, nested=True)
    assert sorted(catalog) == ["gold", "last_year"]
    assert catalog.last_year.stack.description == "mine"
    assert sorted(catalog.last_year) == ["new", "run1", "stack"]
    assert stored(lab / "catalog.yml")["sources"]["last_year"]["description"] == "3 data sets: 1 mib, 2 npy"


def test_entries_by_hand_lead_to_the_same_place_wherever_they_are_moved(lab):
    entry = {"driver": "yaml_file_cat", "args": {"path": "{{ CATALOG_DIR }}/../other.yml"}}
    emio.build_catalog(lab, lab / "catalog.yml", nested=True, overwrite=True)
    edit(lab / "2024" / "catalog.yml", lambda sources: sources.update(other=entry))
    update(lab)
    assert stored(lab / "catalog.yml")["sources"]["other"]["args"] == {"path": "{{ CATALOG_DIR }}/other.yml"}


def test_a_flat_catalog_becomes_nested_and_flat_again_without_opening_anything(lab, opened):
    edit(lab / "catalog.yml", lambda sources: sources["2024_stack"].update(description="mine"))
    update(lab, nested=True)
    assert stored(lab / "2024" / "catalog.yml")["sources"]["2024_stack"]["args"]["uri"] == "{{ CATALOG_DIR }}/stack.npy"
    catalog = update(lab)
    assert sorted(catalog) == ["2024_run1", "2024_stack", "gold"]
    assert catalog["2024_stack"].description == "mine"
    assert set(opened) <= {"catalog.yml"}
    np.testing.assert_array_equal(catalog["2024_stack"].read().image, PIXELS[0])


def test_a_catalog_of_version_2_holds_readers(tmp_path):
    for kind in ("a MIB sequence with its header", "a Zarr store"):
        DATASETS[kind][0](tmp_path)
    write_set(tmp_path)
    write_blo(tmp_path / "scan 1.blo", PIXELS, beam_energy=200_000)
    emio_says("catalog", tmp_path, "-o", tmp_path / "v2.yaml", "--v2")
    catalog = intake.open_catalog(str(tmp_path / "v2.yaml"))
    assert isinstance(catalog, intake.Catalog)
    assert sorted(catalog.aliases) == ["default", "frames_y_x", "scan", "scan_1"]
    np.testing.assert_array_equal(catalog.frames_y_x.read().image, PIXELS)
    np.testing.assert_array_equal(catalog.scan_1.read().image, PIXELS)
    np.testing.assert_array_equal(catalog.scan.read().image, PIXELS)
    assert catalog.default.read().image.shape == (3, 4, 4, 6)
    assert catalog.scan_1.metadata["emio"]["acquisition"]["beam_energy"] == 200
    assert "200 keV" in catalog.scan_1.metadata["description"]
    assert "{CATALOG_DIR}/scan 1.blo" in (tmp_path / "v2.yaml").read_text()
    assert check_catalog(tmp_path / "v2.yaml") == []
    moved = tmp_path.rename(tmp_path.with_name("elsewhere"))
    assert intake.open_catalog(str(moved / "v2.yaml")).scan_1.read().image.shape == PIXELS.shape


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"version": 3}, "version"),
        ({"version": 2, "nested": True}, "nested"),
        ({"version": 2, "update": True}, "update"),
        ({"target": None, "nested": True}, "nested"),
        ({"target": None, "update": True}, "update"),
        ({"target": "catalog.json"}, r"\.yml"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(tmp_path, arguments, says):
    with pytest.raises(ArgumentError, match=says):
        emio.build_catalog(tmp_path, **{"target": tmp_path / "c.yml", **arguments})


# Checking ------------------------------------------------------------------------------------------------------------

FINE = """
metadata: {version: 1, parameters: {year: {type: str, default: '2024'}}}
sources:
  gold:
    driver: emio
    description: "{{ not a template, only shown }}"
    args: {uri: "{{ CATALOG_DIR }}/{{year}}/{{ which }}.blo", chunks: "{{ chunks }}", storage_options: {anon: true}}
    parameters: {which: {type: str, default: gold}, home: {type: str, default: "env(HOME)"}}
    metadata: {owner: "{{ env(USER) }}", brace: "{{ '{' }}{ x }}"}
  more: {driver: [emio_blo, emio_mib], args: {uri: a.blo}}
  ours: {driver: intake_emio.formats.blo.BloSource, args: {uri: a.blo}}
"""


def test_a_catalog_of_the_usual_kind_passes(tmp_path):
    (tmp_path / "c.yml").write_text(FINE)
    assert check_catalog(tmp_path / "c.yml") == []
    said, _ = emio_says("catalog", "check", tmp_path / "c.yml")
    assert "c.yml" in said


def test_the_example_catalogs_pass():
    examples = sorted((Path(__file__).parents[1] / "catalogs").glob("*.yml"))
    if not examples:
        pytest.skip("the example catalogs are not part of an installation")
    assert [finding for path in examples for finding in check_catalog(path)] == []


@pytest.mark.parametrize(
    ("entry", "place"),
    [
        ("{driver: subprocess.Popen, args: {args: [touch, executed]}}", "a"),
        ("{driver: emio_evil.module.Class}", "a"),
        ("{driver: 'emio_evil.module:Class'}", "a"),
        ("{driver: [emio, csv]}", "a"),
        ("{driver: {emio: {class: os.system}}}", "a"),
        ("{driver: null}", "a"),
        ("{}", "a"),
        ("{driver: emio, cls: os.system}", "a.cls"),
        ("{driver: emio, args: {uri: \"{{ shell('touch executed') }}\"}}", "a.args.uri"),
        ("{driver: emio, args: {uri: \"{{ ''.__class__ }}\"}}", "a.args.uri"),
        ("{driver: emio, args: {uri: '{{ CATALOG_DIR.__class__ }}'}}", "a.args.uri"),
        ("{driver: emio, args: {uri: '{{ CATALOG_DIR | upper }}'}}", "a.args.uri"),
        ("{driver: emio, args: {uri: '{{ unknown }}'}}", "a.args.uri"),
        ("{driver: emio, args: {uri: '{{ env(x.y) }}'}}", "a.args.uri"),
        ("{driver: emio, args: {uri: '{{ env(HOME, **a) }}'}}", "a.args.uri"),
        ("{driver: emio, args: {uri: '{% for x in y %}{% endfor %}'}}", "a.args.uri"),
        ("{driver: emio, args: {uri: '{{ never closed'}}", "a.args.uri"),
        ("{driver: emio, args: {x: [{y: \"{{ ''.join }}\"}]}}", "a.args.x.0.y"),
        ("{driver: emio, metadata: {title: \"{{ ''.__class__ }}\"}}", "a.metadata.title"),
        ("{driver: emio, parameters: {p: {type: str, default: 'shell(touch executed)'}}}", "a.parameters.p.default"),
        ("{driver: emio, parameters: {p: {default: 'client_shell(id)'}}}", "a.parameters.p.default"),
        ("{driver: emio, parameters: {p: {default: 'shell(id) and more'}}}", "a.parameters.p.default"),
        ("{driver: emio, parameters: {p: {default: 'x::reference://'}}}", "a.parameters.p.default"),
        ("{driver: emio, parameters: [1]}", "a.parameters"),
        ("{driver: emio, args: {uri: \"{!template { ''.__class__ }}\"}}", ""),
        ("{driver: [yaml_file_cat], args: {path: nowhere.yml}}", ""),
        ("{driver: yaml_file_cat, args: {path: [], getshell: true}}", "a.args.getshell"),
        ("{driver: emio, args: {uri: 'reference://', storage_options: {fo: 'http://x/refs.json'}}}", "a.args.uri"),
        ("{driver: emio, args: {uri: 'simplecache::reference://a'}}", "a.args.uri"),
        ("{driver: emio, args: {uri: '{{ p }}', p: 1}}", "a.args.uri"),
        ("{driver: yaml_file_cat, args: {path: 'http://stranger/c.yml'}}", "a"),
        ("{driver: yaml_file_cat, args: {path: '/*/*/*/*/*.yml'}}", "a"),
        ("{driver: yaml_file_cat, args: {path: nowhere.yml}}", ""),
        ("text", "sources.a"),
    ],
)
def test_what_could_run_code_is_found_and_not_run(tmp_path, monkeypatch, entry, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yml").write_text(f"sources: {{a: {entry}}}")
    findings = check_catalog(tmp_path / "c.yml")
    assert [finding.place for finding in findings] == [place]
    said, _ = emio_says("catalog", "check", "c.yml", code=1)
    assert said.startswith(str(tmp_path))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "text",
    [
        "plugins: {source: [{module: antigravity}]}\nsources: {}",
        "metadata: {parameters: {p: {type: str, default: 'shell(id)'}}}\nsources: {}",
        "sources: !!python/object/apply:os.system [id]",
        "version: 2\nentries: {a: {reader: 'os:system', kwargs: {}}}",
        "version: 2\ndata: {a: {datatype: 'os:system', kwargs: {}}}\nentries: {}",
        "version: 2\nentries: {a: {reader: 'intake_emio.readers:BloReader', cls: 'antigravity:x'}}",
        "version: 2\nentries: {a: {reader: 'intake_emio.readers:BloReader', kwargs: {args: ['{func(os:system)}']}}}",
        "version: 2\nentries: {a: {reader: 'intake_emio.readers:BloReader', kwargs: {args: ['{import(os)}}']}}}",
        "version: 2\nentries: {a: {reader: 'intake_emio.readers:BloReader', kwargs: {url: '{x.__class__}'}}}",
        "version: 2\nentries: {a: {reader: 'intake_emio.readers:BloReader', kwargs: {url: '{x:{y.__class__}}'}}}",
        "version: 2\nuser_parameters: {p: '{pickle64(gASVCg==)}'}",
        "version: 2\nuser_parameters: {p: {default: 'import(os)'}}",
        "version: 2\nuser_parameters: {p: {cls: 'os:system', default: 1}}",
        "version: 2\nentries: [a]\nplugins: 3",
        "{}",
    ],
)
def test_other_ways_to_run_code_are_found(tmp_path, text):
    (tmp_path / "c.yml").write_text(text)
    assert len(check_catalog(tmp_path / "c.yml")) == 1


def test_a_catalog_of_version_2_with_plain_parameters_passes(tmp_path):
    (tmp_path / "c.yml").write_text(
        """
version: 2
user_parameters: {n: {cls: 'intake.readers.user_parameters:SimpleUserParameter', default: 3}, home: '{env(HOME)}'}
entries:
  a: {reader: 'intake_emio.readers:BloReader', kwargs: {args: ['{data(x)}'], nav_shape: '{n}', odd: 'a } b { c'}}
data: {x: {datatype: 'intake_emio.readers:Blo', kwargs: {url: '{CATALOG_DIR}/a {{b}}.blo'}, metadata: {t: '{x.y}'}}}
aliases: {}
metadata: {}
"""
    )
    assert check_catalog(tmp_path / "c.yml") == []


def test_catalogs_that_a_catalog_leads_to_are_checked_too(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "c.yml").write_text(
        "sources:\n"
        "  one: {driver: yaml_file_cat, args: {path: '{{ CATALOG_DIR }}/sub/evil.yml'}}\n"
        "  many: {driver: yaml_files_cat, args: {path: ['{{ CATALOG_DIR }}/sub/*.yml']}}\n"
        "  itself: {driver: yaml_file_cat, args: {path: '{{ CATALOG_DIR }}/c.yml'}}\n"
    )
    (tmp_path / "sub" / "evil.yml").write_text("sources: {a: {driver: os.system}}")
    (tmp_path / "sub" / "good.yml").write_text("sources: {a: {driver: emio}}")
    assert [finding.catalog for finding in check_catalog(tmp_path / "c.yml")] == [str(tmp_path / "sub" / "evil.yml")]


def test_a_catalog_that_is_not_there_cannot_be_checked(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.yml"):
        check_catalog(tmp_path / "none.yml")


# The command ---------------------------------------------------------------------------------------------------------


def test_the_command_writes_a_catalog_and_reports_on_stderr(tmp_path):
    write_blo(tmp_path / "scan.blo", PIXELS)
    (tmp_path / "cut.blo").write_bytes(b"IMGBLO")
    said, noted = emio_says("catalog", tmp_path, "-o", tmp_path / "c.yml")
    assert said == ""
    assert noted.startswith(
        "1 data set in 2 files (1 in data sets, 0 other, 1 unreadable) in 1 folder\nunreadable:\n  cut.blo: "
    )
    assert list(intake.open_catalog(str(tmp_path / "c.yml"))) == ["scan"]
    emio_says("catalog", tmp_path, "-o", tmp_path / "c.yml", "--update", "--exclude", "cut*")
    assert "emio" not in stored(tmp_path / "c.yml")["metadata"]


def test_the_command_takes_storage_options(bucket):
    options = json.dumps({"skip_instance_cache": False})
    said, _ = emio_says("catalog", bucket, "-o", "-", "--include", "*.blo", "--storage-options", options)
    assert yaml.safe_load(said)["sources"]["scan"]["args"] == {
        "uri": "memory://lab/scan.blo",
        "storage_options": {"skip_instance_cache": False},
    }


@pytest.mark.parametrize(
    "arguments",
    [["catalog", "a", "b"], ["catalog", ".", "--storage-options", "x"], ["catalog", ".", "--storage-options", "[]"]],
)
def test_a_wrong_command_line_is_exit_code_2(arguments):
    emio_says("catalog", *arguments, code=2)


def test_read_catalog_gives_plain_data(tmp_path):
    (tmp_path / "c.yml").write_text(FINE)
    catalog = read_catalog(tmp_path / "c.yml")
    assert {**catalog.content, "sources": dict(catalog.entries())} == yaml.safe_load(FINE)


# The examples --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Folder with the example catalogs, and the demo's data beside them."""
    folder = Path(__file__).parents[1] / "catalogs"
    if not folder.exists():
        pytest.skip("the example catalogs are not part of an installation")
    copied = tmp_path_factory.mktemp("examples") / "catalogs"
    shutil.copytree(folder, copied)
    emio_says("demo", copied / "emio-demo")
    return copied


def test_the_example_of_a_crawled_catalog_is_what_is_written(examples, tmp_path):
    emio_says("catalog", examples / "emio-demo", "-o", examples / "again.yml")
    made, example = stored(examples / "again.yml"), stored(examples / "crawled.yml")
    for content in (made, example):
        for entry in content["sources"].values():
            for fact in ("modified", "state"):
                assert entry["metadata"]["emio"].pop(fact)
    assert made == example


def test_the_examples_open_what_the_demo_makes(examples):
    rows = examples / "emio-demo" / "rows.tif"
    emio_says("convert", examples / "emio-demo" / "gold_on_carbon.blo", rows, "--partition", "xvu")
    catalog = intake.open_catalog(str(examples / "lab.yml"))
    names = ["demo.gold_on_carbon", "demo.upper_half", "crawled.gold_on_carbon", "rows"]
    assert sorted(emio.search(catalog)) == sorted(names)
    shapes = [catalog[name].to_dask().image.shape for name in names]
    assert shapes == [(64, 64, 96, 96), (32, 64, 96, 96), (64, 64, 96, 96), (64, 64, 96, 96)]
