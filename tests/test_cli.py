"""The command line: what all commands share, `emio info`, `emio formats`, `emio demo`."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import intake
import numpy as np
import pytest
import yaml
from PIL import Image as Picture
from typer.testing import CliRunner

import intake_emio as emio
from intake_emio.cli import app, main

from .encoders.blo import write_blo
from .encoders.npy import write_npy
from .encoders.raw import write_raw

PIXELS = (np.arange(3 * 4 * 5 * 5) % 251).astype("u1").reshape(3, 4, 5, 5)


@pytest.fixture
def scan(tmp_path):
    return write_blo(
        tmp_path / "scan.blo",
        PIXELS,
        steps=(2.5, 2),
        pixels_per_cm_x100=5000,
        beam_energy=200_000,
        camera_length=2000,
        navigator=np.arange(12),
    )


def emio_says(*arguments):
    """Run a command that succeeds; return what it printed."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def emio_refuses(monkeypatch, capsys):
    """Run a command that fails; return exit code and what it said on stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["emio", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        code, said = caught.value.code, capsys.readouterr()
        assert said.out == ""
        return (code, said.err) if isinstance(code, int) else (1, f"{code}\n")  # as the interpreter does

    return run


# info ----------------------------------------------------------------------------------------------------------------


def test_info_tells_format_axes_sizes_calibration_and_acquisition(scan):
    said = emio_says("info", scan)
    for fact in (
        "scan.blo",
        "blo",
        "y 3, x 4, v 5, u 5",
        "uint8",
        "300 bytes",
        "2.5 nm",
        "0.02 cm",
        "200",
        "keV",
        "navigator",
    ):
        assert fact in said
    assert f"{scan.stat().st_size / 1000:.1f} kB" in said


def test_info_is_json_for_machines(scan):
    facts = json.loads(emio_says("info", scan, "--json"))
    assert (facts["uri"], facts["format"]) == (str(scan), "blo")
    assert (facts["axes"], facts["shape"], facts["dtype"]) == ("yxvu", [3, 4, 5, 5], "uint8")
    assert (facts["nbytes"], facts["file_bytes"]) == (300, scan.stat().st_size)
    assert facts["calibration"]["y"] == {"spacing": 2.5, "origin": 0.0, "units": "nm"}
    assert facts["calibration"]["u"] == {"spacing": 0.02, "origin": 0.0, "units": "cm"}
    assert facts["variables"] == {"navigator": {"y": 3, "x": 4}}
    assert facts["acquisition"]["beam_energy"] == 200
    assert facts["acquisition"]["camera_length"] == 200


def test_info_of_several_files_is_a_list(scan, tmp_path):
    stack = write_npy(tmp_path / "stack.npy", PIXELS)
    facts = json.loads(emio_says("info", scan, stack, "--json"))
    assert [one["format"] for one in facts] == ["blo", "npy"]
    said = emio_says("info", scan, stack)
    assert said.index("scan.blo") < said.index("stack.npy")


def test_brief_info_is_a_line_for_each_file_errors_included(scan, tmp_path):
    junk = tmp_path / "junk.blo"
    junk.write_bytes(b"junk")
    result = CliRunner().invoke(app, ["info", "--brief", str(scan), str(junk)])
    lines = result.stdout.splitlines()
    assert lines[0].startswith("scan.blo  blo  y=")
    assert "IMGBLO" in lines[1]
    assert (len(lines), result.exit_code) == (2, 1)


def test_info_takes_arguments_of_the_reader(tmp_path):
    path = write_raw(tmp_path / "frames.bin", PIXELS[0], file_header=b"head")
    settings = ["-s", "dtype=uint8", "--set", "sig_shape=(5, 5)", "-s", "file_header=4", "-s", "nav_shape=2,2"]
    facts = json.loads(emio_says("info", path, *settings, "--json"))
    assert (facts["format"], facts["axes"], facts["shape"]) == ("raw", "yxvu", [2, 2, 5, 5])


def test_info_takes_the_format_for_a_file_that_does_not_tell_it(tmp_path):
    path = write_raw(tmp_path / "frames.blo", PIXELS[0])
    settings = ["-s", "dtype=uint8", "-s", "sig_shape=5,5"]
    facts = json.loads(emio_says("info", path, "--format", "raw", *settings, "--json"))
    assert (facts["format"], facts["shape"]) == ("raw", [4, 5, 5])


def test_info_takes_metadata_and_other_mappings(scan):
    setting = "metadata={'axes': 'tcyx', 'spacing': {'t': 0.5}, 'coords': {'c': ['a', 'b', 'c', 'd']}}"
    arguments = ["info", scan, "-s", setting, "-s", "partition={'t': '1:'}"]
    facts = json.loads(emio_says(*arguments, "--json"))
    assert (facts["axes"], facts["shape"]) == ("tcyx", [2, 4, 5, 5])
    assert facts["calibration"]["t"] == {"spacing": 0.5, "origin": 0.5, "units": "nm"}
    assert facts["calibration"]["c"]["coords"] == ["a", "b", "c", "d"]
    assert "a, b, c, d" in emio_says(*arguments)


def test_info_tells_how_pixels_would_be_read(scan):
    facts = json.loads(emio_says("info", scan, "-s", "chunks=frame", "--diagnostics", "--json"))["diagnostics"]
    assert str(scan) in json.dumps(facts)
    assert "mmap" in json.dumps(facts)
    said = emio_says("info", scan, "--diagnostics")
    assert str(scan) in said
    assert "mmap" in said


def test_info_reads_no_pixel(scan, monkeypatch):
    monkeypatch.setattr("intake_emio.frames.frames.Frames.read", None)
    assert "scan.blo" in emio_says("info", scan, "--diagnostics")


def test_info_notes_what_is_odd_on_stderr(tmp_path, monkeypatch, capsys):
    path = write_blo(tmp_path / "stopped.blo", PIXELS, frames_written=7)
    monkeypatch.setattr(sys, "argv", ["emio", "info", str(path), "--json"])
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        with pytest.raises(SystemExit) as caught:
            main()
    said = capsys.readouterr()
    assert not caught.value.code
    assert json.loads(said.out)["shape"] == [3, 4, 5, 5]
    assert said.err.startswith("note: ")
    assert "5" in said.err
    assert "Warning" not in said.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["info", "none.blo"], "none.blo"),
        (["info", "."], "folder"),
        (["info", "junk.blo"], "IMGBLO"),
        (["info", "junk.xyz"], "no format fits"),
        (["info", "scan.blo", "-s", "gamma=2"], "'gamma'"),
        (["info", "scan.blo", "-s", "nav_shape=many"], "nav_shape"),
        (["info", "scan.blo", "-s", "format=tif5"], "'tif5'"),
        (["info", "scan.blo", "none.blo", "--json"], "none.blo"),
        (["demo", "junk.blo"], "junk.blo"),
        (["demo", "junk.blo/below"], "junk.blo"),
    ],
)
def test_a_refusal_is_one_line_and_exit_code_1(scan, monkeypatch, emio_refuses, arguments, says):
    monkeypatch.chdir(scan.parent)
    for name in ("junk.blo", "junk.xyz"):
        Path(name).write_bytes(b"JUNKJUNKJUNK")
    code, said = emio_refuses(*arguments)
    assert code == 1
    assert said.startswith("emio: ")
    assert says in said
    assert said.count("\n") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "arguments", [["info"], ["inform"], ["info", "x.blo", "-s", "gamma"], ["info", "x.blo", "-s", "metadata={axes}"]]
)
def test_a_wrong_command_line_is_exit_code_2_and_points_to_help(emio_refuses, arguments):
    code, said = emio_refuses(*arguments)
    assert code == 2
    assert "--help" in said


def test_the_installed_command_does_the_same(scan):
    command = shutil.which("emio", path=str(Path(sys.executable).parent)) or shutil.which("emio")
    if command is None:
        pytest.skip("the package is not installed")
    ended = subprocess.run([command, "info", scan.parent / "none.blo"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("emio: ")
    assert "none.blo" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


COMMANDS = sorted(command.name for command in app.registered_commands)


def test_help_lists_the_commands_and_the_exit_codes():
    said = emio_says("--help")
    assert all(command in said for command in COMMANDS)
    assert "Exit codes" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_teaches_by_examples(command):
    said = emio_says(command, "--help")
    assert "Usage" in said
    assert len([line for line in said.splitlines() if line.strip().startswith(f"emio {command}")]) >= 2


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_a_section_in_the_documentation(command):
    page = Path(__file__).parents[1] / "docs" / "command-line.md"
    if not page.exists():
        pytest.skip("the documentation is not part of an installation")
    assert f"## `emio {command}`" in page.read_text(encoding="utf-8")


def completed(words):
    """What bash is offered for the last of some words."""
    environment = {
        **os.environ,
        "_EMIO_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    script = "import sys; sys.argv = ['emio']; from intake_emio.cli import main; main()"
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    return ended.stdout.split()


def test_shells_complete_commands_and_formats():
    assert set(completed("emio ")) >= {"info", "formats", "demo", "preview"}
    assert completed("emio preview scan --format bl") == ["blo"]


# formats -------------------------------------------------------------------------------------------------------------


def test_formats_are_listed_with_what_can_be_done():
    rows = {row["name"]: row for row in json.loads(emio_says("formats", "--json"))}
    assert {"blo", "npy", "raw", "zarr"} <= set(rows)
    assert (rows["blo"]["reads"], rows["blo"]["writes"], rows["blo"]["extensions"]) == (True, True, [".blo"])
    assert (rows["raw"]["reads"], rows["raw"]["writes"]) == (True, False)
    assert "IMGBLO" in rows["blo"]["detection"]
    said = emio_says("formats")
    assert all(row["name"] in said and row["title"].split()[0] in said for row in rows.values())


# demo ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Folder that the demo has filled, and what it said."""
    folder = tmp_path_factory.mktemp("demo") / "emio-demo"
    return folder, emio_says("demo", folder)


def test_the_demo_ends_with_the_path_of_a_picture_that_shows_something(demo):
    path = Path(demo[1].splitlines()[-1])
    assert path.is_absolute()
    with Picture.open(path) as picture:
        assert picture.format == "PNG"
        assert 600 <= picture.width <= 4000
        assert 200 <= picture.height <= 2000
        grey = np.asarray(picture.convert("L"))
    assert path.stat().st_size < 1_000_000
    for panel in np.array_split(grey[20:-60], 3, axis=1):
        assert panel.std() > 10


def test_the_demo_makes_a_scan_and_a_catalog_that_lists_it(demo):
    folder, _ = demo
    ds = intake.open_catalog(str(folder / "catalog.yml")).gold_on_carbon.to_dask()
    assert (ds.image.dims, ds.image.shape) == (("y", "x", "v", "u"), (64, 64, 96, 96))
    assert [ds.coords[axis].attrs["units"] for axis in "yxvu"] == ["nm", "nm", "cm", "cm"]
    assert emio.detect(folder / "gold_on_carbon.blo").format == "blo"
    entry = yaml.safe_load((folder / "catalog.yml").read_text())["sources"]["gold_on_carbon"]
    assert entry["args"]["uri"].startswith("{{ CATALOG_DIR }}")


def test_the_demos_scan_is_crystalline(demo):
    mean = emio.imload(demo[0] / "gold_on_carbon.blo").image.mean(("y", "x")).values
    centre = mean[44:52, 44:52].mean()
    background = np.median(mean)
    assert centre > 5 * background
    away = mean.copy()
    away[36:60, 36:60] = 0
    assert away.max() > 2 * background


def test_the_demo_can_be_repeated(demo):
    folder, before = demo
    assert emio_says("demo", folder).splitlines()[-1] == before.splitlines()[-1]
    assert sorted(path.name for path in folder.iterdir()) == ["catalog.yml", "gold_on_carbon.blo", "gold_on_carbon.png"]
