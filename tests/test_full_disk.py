"""A disk that runs full while an image is saved: an error that names the file, and nothing left behind.

The saves run in a process of their own, because a memory map that finds no room ends the process that wrote to it.
"""

import json
import subprocess
import sys

import pytest

FORMATS = [".npy", ".blo", ".mrc", ".tif", ".ome.tif", ".h5", ".nc", ".hspy", ".zspy", ".zarr", ".ome.zarr"]
FOLDERS = (".zarr", ".zspy")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="disks are made, and limits set, in the way of Linux")

SAVE = """
import json, os, pathlib, resource, shutil, signal, sys, warnings
import dask.array as da, xarray as xr
import intake_emio as emio

limited, extensions, folders = sys.argv[1] == "limited", json.loads(sys.argv[2]), tuple(json.loads(sys.argv[3]))
warnings.simplefilter("ignore")
if limited:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


def old(extension):
    target = pathlib.Path("full" + extension)
    if extension.endswith(folders):
        target.mkdir(exist_ok=True)
        return target / "mine"
    return target


for extension in extensions:
    pixels = da.random.default_rng(0).integers(0, 100, (16, 512, 512), chunks=(2, 512, 512))
    image = xr.DataArray(pixels.astype("u1" if extension == ".blo" else "i2"), dims=tuple("tyx"), name="image")
    old(extension).write_bytes(b"old")
    try:
        emio.imsave(image, "full" + extension, compress=False, overwrite=True)
        said, kinds = "nothing", []
    except Exception as error:
        said, kinds = str(error), [kind.__name__ for kind in type(error).__mro__]
    kept = old(extension).read_bytes() == b"old"
    print(json.dumps([extension, said, kinds, os.listdir(), kept]), flush=True)
    for name in os.listdir():
        shutil.rmtree(name) if os.path.isdir(name) else os.remove(name)
"""


def outcomes(folder, kind, extensions):
    """Save in another process; return by format what was said, its kind, what is left, and if the old file is."""
    command = [sys.executable, "-c", SAVE, kind, json.dumps(extensions), json.dumps(FOLDERS)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(extensions), f"{extensions[len(lines)]} ended the process: {done.stderr[-2000:]}"
    return {extension: rest for extension, *rest in lines}


@pytest.fixture(scope="module")
def on_a_small_disk(tmp_path_factory):
    """What happens on a disk of 2 MB, if we are allowed to make one."""
    folder = tmp_path_factory.mktemp("disk")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("a small disk can be made by the superuser only")
    try:
        return outcomes(folder, "full", FORMATS)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture(scope="module")
def with_small_files(tmp_path_factory):
    """What happens where a file may not be larger than 1 MB."""
    return outcomes(tmp_path_factory.mktemp("files"), "limited", [e for e in FORMATS if not e.endswith(FOLDERS)])


@pytest.mark.parametrize("extension", FORMATS)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(on_a_small_disk, extension):
    said, kinds, left, kept = on_a_small_disk[extension]
    assert f"full{extension}" in said
    assert "No space left" in said
    assert {"EmioError", "OSError"} <= set(kinds)
    assert left == [f"full{extension}"]
    assert kept


@pytest.mark.parametrize("extension", [e for e in FORMATS if not e.endswith(FOLDERS)])
def test_a_file_that_may_not_grow_is_named_and_removed(with_small_files, extension):
    said, kinds, left, kept = with_small_files[extension]
    assert f"full{extension}" in said
    assert {"EmioError", "OSError"} <= set(kinds)
    assert left == [f"full{extension}"]
    assert kept
