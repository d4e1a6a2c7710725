"""`emio convert`: from any format to any that is written, with a summary of what was written and what is lost."""

import json
import os

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from intake_emio import imload
from intake_emio.cli import app, main

from .encoders.blo import write_blo
from .encoders.raw import write_raw

PIXELS = (np.arange(3 * 4 * 5 * 5) % 251).astype("u1").reshape(3, 4, 5, 5)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, with a scan in it."""
    monkeypatch.chdir(tmp_path)
    write_blo(
        tmp_path / "scan.blo",
        PIXELS,
        steps=(2.5, 2),
        pixels_per_cm_x100=5000,
        beam_energy=200_000,
        navigator=np.arange(12),
    )
    return tmp_path


def convert(*arguments):
    """Run the command; return what it printed."""
    result = CliRunner().invoke(app, ["convert", *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_scan_becomes_a_store_with_everything_in_it():
    said = convert("scan.blo", "scan.zarr")
    assert "scan.zarr" in said
    assert "y 3, x 4, v 5, u 5" in said
    xr.testing.assert_equal(imload("scan.zarr").load(), imload("scan.blo").load())


def test_a_scan_is_split_into_frames_that_read_back_as_the_scan():
    said = convert("scan.blo", "frames.tif", "--partition", "vu")
    assert "13" in said
    assert os.path.exists("frames.var_image.y_2.5.x_4.0.tif")
    back, scan = imload("frames.*.tif"), imload("scan.blo")
    xr.testing.assert_equal(back.load(), scan.load())
    assert back.image.dims == scan.image.dims
    for name in scan.coords:
        assert back[name].attrs == scan[name].attrs


def test_a_set_becomes_one_file_again_however_it_is_named():
    convert("scan.blo", "frames.zarr", "-p", "vu", "--labels", "index")
    convert("frames.*.zarr", "a.h5")
    members = sorted(name for name in os.listdir() if name.startswith("frames.var_image"))
    convert(*members, "b.npy")
    xr.testing.assert_equal(imload("a.h5").load(), imload("scan.blo").load())
    np.testing.assert_array_equal(np.load("b.npy"), PIXELS)


def test_readers_and_writers_have_their_arguments(folder):
    write_raw(folder / "frames.bin", (PIXELS[0] * 100.0).astype("f4"))
    convert("frames.bin", "a.blo", "-s", "dtype=float32", "-s", "sig_shape=(5, 5)", "-o", "intensity_scaling=minmax")
    assert imload("a.blo").image.dtype == np.uint8


def test_chunks_of_the_store_are_chosen():
    convert("scan.blo", "a.zarr", "--chunks", "{'y': 1, 'x': 2}")
    assert imload("a.zarr").image.encoding is not None
    import zarr

    assert zarr.open_group("a.zarr")["image"].chunks[:2] == (1, 2)


def test_what_is_lost_is_told():
    said = convert("scan.blo", "scan.npy")
    assert "calibration" in said


def test_the_summary_is_json_for_machines():
    found = json.loads(convert("scan.blo", "scan.npy", "--json"))
    assert [os.path.basename(path) for path in found["written"]] == ["scan.var_image.npy", "scan.var_navigator.npy"]
    assert found["file_bytes"] == sum(os.path.getsize(path) for path in found["written"])
    assert found["notes"]


def test_an_existing_target_is_refused_until_overwrite_is_said(monkeypatch):
    convert("scan.blo", "scan.zarr")
    monkeypatch.setattr("sys.argv", ["emio", "convert", "scan.blo", "scan.zarr"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert "exists already: pass --overwrite" in str(caught.value)
    convert("scan.blo", "scan.zarr", "--overwrite")


@pytest.mark.parametrize("option", ["quality", "quality=x=y"])
def test_a_wrong_option_is_refused(option, monkeypatch):
    monkeypatch.setattr("sys.argv", ["emio", "convert", "scan.blo", "a.npy", "-o", option])
    with pytest.raises(SystemExit):
        main()
    assert not os.path.exists("a.npy")
