"""Finding out what a file is: by content first, by extension second, by arguments where it says nothing."""

import importlib.metadata
import shutil
import sys
from types import ModuleType

import fsspec
import numpy as np
import pytest

import intake_emio as emio
from intake_emio import detect, imload
from intake_emio.formats import Format, registry
from intake_emio.frames.frames import Frames
from intake_emio.frames.layout import FrameStack
from intake_emio.frames.navigation import Navigation
from intake_emio.image import Image
from intake_emio.source import ImageSource

from .encoders.blo import write_blo
from .encoders.npy import write_npy
from .encoders.raw import write_raw

PIXELS = (np.arange(3 * 4 * 5 * 5) % 251).astype("u1").reshape(3, 4, 5, 5)

# By content, by extension, by arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["scan.blo", "scan.BLO", "scan.npy", "scan.raw", "scan.mib", "scan", "scan.blo.bak", ".blo"]
)
@pytest.mark.parametrize(("write", "format"), [(write_blo, "blo"), (write_npy, "npy")])
def test_content_tells_whatever_the_name_says(tmp_path, name, write, format):
    path = write(tmp_path / name, PIXELS)
    found = detect(path)
    assert (found.uri, found.format) == (str(path), format)
    assert "first bytes" in found.reason
    np.testing.assert_array_equal(imload(path).image, PIXELS)


@pytest.mark.parametrize(
    ("name", "starts_with"), [("scan.blo", "IMGBLO"), ("scan.npy", "NUMPY"), ("SCAN.NPY", "NUMPY")]
)
@pytest.mark.parametrize("content", [b"JUNKJUNKJUNKJUNK", b"", b"IMGBL"])
def test_a_known_extension_with_unknown_content_is_refused_by_its_reader(tmp_path, name, starts_with, content):
    path = tmp_path / name
    path.write_bytes(content)
    for open_it in (imload, detect):
        with pytest.raises(emio.EmioError, match=starts_with) as caught:
            open_it(path)
        assert name in str(caught.value)
        assert repr(content)[2:-1][:5] in str(caught.value)


def test_what_fits_no_format_is_refused_with_those_tried_and_what_it_could_be(tmp_path):
    path = tmp_path / "frames.bin"
    path.write_bytes(bytes(256 * 256 * 2 * 3))
    with pytest.raises(
        emio.EmioError, match=r"frames\.bin.*blo.*npy.*raw.*dtype.*sig_shape.*3 frames of 256 x 256 uint16"
    ):
        imload(path)
    with pytest.raises(ValueError, match="no format fits"):
        detect(path)


@pytest.mark.parametrize("name", ["empty", "empty.bin"])
def test_an_empty_file_is_refused(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(emio.EmioError, match=name):
        imload(tmp_path / name)


def test_a_dtype_and_a_shape_say_that_a_file_is_raw(tmp_path):
    path = write_raw(tmp_path / "frames.xyz", PIXELS[0])
    assert detect(path, dtype="u1", sig_shape=(5, 5)).format == "raw"
    np.testing.assert_array_equal(imload(path, dtype="u1", sig_shape=(5, 5)).image, PIXELS[0])


def test_a_raw_file_without_a_shape_asks_for_it(tmp_path):
    path = write_raw(tmp_path / "frames.xyz", PIXELS[0])
    with pytest.raises(TypeError, match="sig_shape"):
        imload(path, dtype="u1")


def test_a_recognised_file_is_raw_only_if_that_is_asked_for_by_name(tmp_path):
    path = write_npy(tmp_path / "stack.npy", PIXELS)
    with pytest.raises(TypeError, match="npy files have no argument 'dtype'"):
        imload(path, dtype="u1", sig_shape=(4,))
    assert detect(path, format="raw", dtype="u1", sig_shape=(4,)).format == "raw"
    image = imload(path, format="raw", dtype="u1", sig_shape=(4,)).image
    np.testing.assert_array_equal(image[0], np.frombuffer(b"\x93NUM", "u1"))


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path):
    path = write_npy(tmp_path / "stack.npy", PIXELS)
    with pytest.raises(emio.EmioError, match=r"'nyp'.*blo.*npy.*raw"):
        detect(path, format="nyp")


def test_a_missing_file_and_a_folder_are_told_apart_from_unknown_formats(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.blo"):
        detect(tmp_path / "none.blo")
    with pytest.raises(emio.EmioError, match="folder"):
        detect(tmp_path)


def test_remote_files_are_detected(tmp_path):
    memory = fsspec.filesystem("memory")
    memory.pipe("/detect/scan", write_blo(tmp_path / "scan", PIXELS).read_bytes())
    try:
        assert detect("memory://detect/scan").format == "blo"
    finally:
        memory.rm("/detect", recursive=True)


def test_only_the_head_of_a_file_is_read(tmp_path):
    path = write_blo(tmp_path / "scan.blo", PIXELS)
    with open(path, "r+b") as file:
        file.truncate(1 << 40)
    assert detect(path).format == "blo"


# The registry --------------------------------------------------------------------------------------------------------


def test_formats_are_known_by_name_and_described():
    known = registry()
    assert {"blo", "npy", "raw", "zarr"} <= set(known)
    for name, entry in known.items():
        assert entry.name == name
        assert entry.title
        assert entry.source or entry.writers
        assert all(extension == extension.lower() and extension.startswith(".") for extension in entry.extensions)


def test_every_format_has_what_its_entry_promises():
    for name, entry in registry().items():
        if entry.source:
            assert issubclass(entry.source_class(), ImageSource)
            assert (entry.source_class().name, entry.source_class().format_name) == (f"emio_{name}", name)
        writing = [name for writer in entry.writers for name in (writer.save, writer.losses, writer.file_axes)]
        for function in (entry.recognise, *writing):
            assert function is None or callable(entry.load(function))


# Formats of other packages -------------------------------------------------------------------------------------------


class ToySource(ImageSource):
    """Frames of 2 x 3 bytes behind the word TOY1."""

    name = "emio_toy"
    format_name = "toy"

    def parse(self, file):
        stack = FrameStack.in_one_file(self.uri, "u1", (2, 3), (file.size - 4) // 6, offset=4)
        return Image(Frames(stack, Navigation.of((stack.count,)), self.storage(), file.stamp), "iyx")


TOY = Format("toy", "Toy", "toy_emio", "ToySource", (".toy",), ((0, b"TOY1"),), detection="first bytes TOY1")
FRAMES = np.arange(24, dtype="u1").reshape(4, 2, 3)


class EntryPoint:
    def __init__(self, offered):
        self.offered = offered

    def load(self):
        return self.offered


@pytest.fixture
def offered(monkeypatch):
    """Let another package offer formats through the entry point group."""

    def offer(*formats):
        asked = []

        def entry_points(**selection):
            asked.append(selection)
            return [EntryPoint(one) for one in formats]

        module = ModuleType("toy_emio")
        module.ToySource = ToySource
        monkeypatch.setitem(sys.modules, "toy_emio", module)
        monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
        registry.cache_clear()
        registry()
        assert asked == [{"group": "intake_emio.formats"}]

    yield offer
    monkeypatch.undo()
    registry.cache_clear()


@pytest.mark.parametrize("form", [TOY, [TOY], (TOY,)], ids=["one", "list", "tuple"])
def test_a_format_of_another_package_is_detected_and_read(offered, tmp_path, form):
    offered(form)
    path = tmp_path / "frames.xyz"
    path.write_bytes(b"TOY1" + FRAMES.tobytes())
    assert detect(path).format == "toy"
    ds = imload(path, partition=slice(1, 3))
    assert (ds.attrs["format"], ds.image.dims) == ("toy", ("i", "y", "x"))
    np.testing.assert_array_equal(ds.image, FRAMES[1:3])
    with pytest.raises(emio.EmioError, match="toy"):
        detect(path, format="nothing")


def test_a_format_of_another_package_goes_by_its_extension_and_by_its_name(offered, tmp_path):
    offered(TOY)
    path = tmp_path / "frames.toy"
    path.write_bytes(b"oops" + FRAMES.tobytes())
    assert detect(path).format == "toy"
    shutil.copy(path, tmp_path / "frames.xyz")
    np.testing.assert_array_equal(imload(tmp_path / "frames.xyz", format="toy").image, FRAMES)


def test_another_package_takes_neither_our_names_nor_our_files(offered, tmp_path):
    offered(Format("blo", "Not ours", "toy_emio", "ToySource", (".blo", ".npy"), ((0, b"IMG"),)))
    assert registry()["blo"].title != "Not ours"
    path = write_blo(tmp_path / "scan.blo", PIXELS)
    np.testing.assert_array_equal(imload(path).image, PIXELS)


def test_without_other_packages_there_are_only_our_formats(offered):
    offered()
    assert "toy" not in registry()
