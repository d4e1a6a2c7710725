"""`imsave`: what is written under which name, what is refused, and that nothing is ever half written."""

import copy
import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import dask
import dask.array as da
import fsspec
import intake
import numpy as np
import pytest
import xarray as xr

import intake_emio as emio
from intake_emio import imload, imsave

from .encoders.blo import write_blo
from .encoders.npy import write_npy

PIXELS = (np.arange(3 * 4 * 5 * 5) % 251).astype("u1").reshape(3, 4, 5, 5)
BRIGHT_FIELD = np.arange(12, dtype="u1").reshape(3, 4)
FORMATS = [".npy", ".zarr", ".blo", ".tif", ".h5", ".nc", ".hspy", ".zspy", ".mrc"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def scan(pixels=PIXELS):
    """A calibrated scan with a second variable."""
    return xr.Dataset(
        {"image": (("y", "x", "v", "u"), pixels), "navigator": (("y", "x"), BRIGHT_FIELD)},
        {
            "y": ("y", np.arange(3) * 2.5, {"units": "nm"}),
            "x": ("x", np.arange(4) * 2.0, {"units": "nm"}),
            "v": ("v", np.arange(5) * 0.02, {"units": "cm"}),
            "u": ("u", np.arange(5) * 0.02, {"units": "cm"}),
        },
        {"acquisition": {"beam_energy": 200.0}, "metadata": {"sample": "gold", "tilts": (1, 2)}},
    )


def bare(pixels=PIXELS):
    """The same pixels, of which nothing can be lost."""
    return xr.DataArray(pixels, dims=("y", "x", "v", "u"), name="image")


def pixels_in(path):
    """Pixels of a file, read by something else where there is something else."""
    if str(path).lower().endswith(".npy"):
        return np.load(path)
    if str(path).endswith(".zarr"):
        return xr.open_zarr(path)["image"].values
    return imload(path).image.values


def contents(folder):
    """Every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def names(folder):
    return sorted(os.listdir(folder))


# What is written -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize(
    "image",
    [
        bare(),
        bare().to_dataset(),
        bare(da.from_array(PIXELS, chunks=(2, 3, 5, 5))),
        bare(da.from_array(PIXELS, chunks=(2, 3, 2, 4))),
        bare(da.from_array(PIXELS, chunks=((1, 2), (2, 1, 1), (5,), (1, 4)))),
        bare(PIXELS[:, ::-1, :, ::2].repeat(2, 3)[..., :5]),
    ],
    ids=["DataArray", "Dataset", "dask", "dask within frames", "uneven dask", "strided"],
)
def test_pixels_are_written_as_they_are(folder, image, extension):
    (path,) = imsave(image, f"scan{extension}")
    assert path == str(folder / f"scan{extension}")
    assert names(folder) == [f"scan{extension}"]
    expected = np.asarray(image.image if isinstance(image, xr.Dataset) else image)
    if extension == ".mrc":  # which has no unsigned bytes that all programs agree upon
        expected = expected.astype("u2")
    found = pixels_in(path)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("extension", [".npy", ".zarr"])
@pytest.mark.parametrize("dtype", ["bool", "i1", "u2", "i8", "u8", "f2", "f4", "f8", "c8", "c16", ">u2", ">f4"])
def test_every_pixel_type_comes_back_in_native_byte_order(folder, extension, dtype):
    pixels = np.arange(6).reshape(2, 3).astype(dtype)
    (path,) = imsave(pixels, f"image{extension}")
    found = pixels_in(path)
    assert found.dtype == pixels.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("pixels", [np.arange(6).reshape(2, 3), da.arange(6, chunks=2).reshape(2, 3)])
def test_a_bare_array_becomes_the_image(folder, pixels):
    imsave(pixels, "image.zarr")
    ds = xr.open_zarr("image.zarr")
    assert (list(ds.data_vars), ds.image.dims) == (["image"], ("y", "x"))
    np.testing.assert_array_equal(ds.image, np.arange(6).reshape(2, 3))


def test_a_name_that_dask_has_given_is_none(folder):
    imsave(xr.DataArray(da.zeros((4, 4), chunks=2), dims=("y", "x")), "image.zarr")
    assert list(xr.open_zarr("image.zarr").data_vars) == ["image"]


@pytest.mark.filterwarnings("ignore:The data type .* does not have a Zarr V3 specification")
def test_a_store_keeps_all_variables_coordinates_and_attributes(folder):
    ds = scan().assign(mask=(("v", "u"), np.eye(5, dtype=bool)))
    ds = ds.assign_coords(c=("x", ["a", "bb", "c", "d"]), when=("y", np.arange(3).astype("M8[ns]")))
    assert imsave(ds, "scan.zarr") == [str(folder / "scan.zarr")]
    found = xr.open_zarr("scan.zarr").load()
    xr.testing.assert_equal(found, ds)
    assert found.y.attrs == {"units": "nm"}
    assert found.attrs == {"acquisition": {"beam_energy": 200.0}, "metadata": {"sample": "gold", "tilts": [1, 2]}}


@pytest.mark.parametrize("compress", [None, True, False])
@pytest.mark.parametrize("extension", FORMATS)
def test_compression_changes_no_value(folder, extension, compress):
    (path,) = imsave(bare(), f"scan{extension}", compress=compress)
    np.testing.assert_array_equal(pixels_in(path), PIXELS)


def test_compression_of_a_store_is_less_or_more(folder):
    pixels = np.zeros((16, 256, 256), "u2")
    pixels[:, ::7, ::5] = 3
    sizes = []
    for compress in (False, True):
        (path,) = imsave(xr.DataArray(pixels, dims=("i", "y", "x")), f"{compress}.zarr", compress=compress)
        sizes.append(sum(len(data) for data in contents(path).values()))
    assert sizes[0] > pixels.nbytes > 5 * sizes[1]


def test_a_file_is_saved_from_its_source(folder):
    write_npy(folder / "stack.npy", PIXELS)
    (path,) = imsave(intake.open_emio("stack.npy", partition=[2, 0]), "part.npy")
    np.testing.assert_array_equal(np.load(path), PIXELS[[2, 0]])


@pytest.mark.parametrize("extension", FORMATS)
def test_a_blockfile_survives_the_way_through_other_formats(folder, extension):
    write_blo(folder / "scan.blo", PIXELS, steps=(2.5, 2), pixels_per_cm_x100=5000, navigator=BRIGHT_FIELD)
    ds = imload("scan.blo")
    lossy = extension in (".npy", ".mrc")
    (path, *_) = imsave(ds.image.drop_vars(list(ds.coords)) if lossy else ds, f"copy{extension}")
    np.testing.assert_array_equal(pixels_in(path), PIXELS)
    if extension == ".zarr":
        xr.testing.assert_identical(xr.open_zarr(path).compute().drop_attrs(), ds.compute().drop_attrs())
    if extension == ".blo":
        xr.testing.assert_equal(imload(path).compute(), ds.compute())


def test_what_a_format_does_not_keep_is_said_once(folder):
    with pytest.warns(emio.EmioWarning, match=r"calibration.*zarr") as caught:
        imsave(scan(), "scan.npy")
    assert len(caught) == 1
    assert Path(caught[0].filename) == Path(__file__)


def test_nothing_is_written_where_the_warning_is_an_error(folder):
    with pytest.raises(emio.EmioWarning):
        imsave(scan(), "scan.npy")
    assert names(folder) == []


# Names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        ("scan", "scan.zarr"),
        ("scan.npy", "scan.npy"),
        ("scan.NPY", "scan.NPY"),
        ("scan.Zarr", "scan.Zarr"),
        ("scan.zarr/", "scan.zarr"),
        ("scan.2024.npy", "scan.2024.npy"),
        ("größe µ.npy", "größe µ.npy"),
        (".hidden", ".hidden.zarr"),
        ("n" * 251 + ".npy", "n" * 251 + ".npy"),
    ],
)
def test_the_extension_names_the_format(folder, asked, written):
    assert imsave(np.eye(3), asked) == [str(folder / written)]
    assert names(folder) == [written]
    if written.lower().endswith("npy"):
        np.testing.assert_array_equal(np.load(written), np.eye(3))
    else:
        assert xr.open_zarr(written).image.shape == (3, 3)


def test_paths_may_be_path_objects_urls_or_start_at_home(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    for number, uri in enumerate((folder / "0.npy", f"file://{folder}/1.npy", "~/2.npy")):
        assert imsave(np.eye(3), uri) == [str(folder / f"{number}.npy")]


@pytest.mark.parametrize(("uri", "extension"), [("name.v2", r"'\.v2'"), ("scan.jpeg", r"'\.jpeg'"), ("scan.", "")])
def test_an_unknown_extension_is_refused_with_the_known_ones(folder, uri, extension):
    with pytest.raises(emio.EmioError, match=rf"{extension}.*\.blo.*\.npy.*\.zarr"):
        imsave(np.eye(3), uri)
    assert names(folder) == []


@pytest.mark.parametrize("extension", [".npy", ".NPY"])
def test_several_variables_make_several_files(folder, extension):
    ds = scan().drop_vars(list("yxvu"))
    paths = imsave(ds, f"scan{extension}")
    assert paths == [str(folder / f"scan.var_{name}{extension}") for name in ("image", "navigator")]
    np.testing.assert_array_equal(np.load(paths[0]), PIXELS)
    np.testing.assert_array_equal(np.load(paths[1]), BRIGHT_FIELD)


def test_variables_that_a_format_holds_share_a_file(folder):
    assert imsave(scan(), "scan.blo") == [str(folder / "scan.blo")]
    np.testing.assert_array_equal(imload("scan.blo").navigator, BRIGHT_FIELD)
    assert imsave(scan(), "scan.zarr") == [str(folder / "scan.zarr")]


def test_a_single_variable_needs_no_name(folder):
    assert imsave(xr.Dataset({"haadf": (("y", "x"), np.eye(3))}), "scan.npy") == [str(folder / "scan.npy")]
    assert imsave(bare().rename("patterns"), "scan.blo") == [str(folder / "scan.blo")]
    np.testing.assert_array_equal(imload("scan.blo").image, PIXELS)


@pytest.mark.parametrize(
    ("variable", "written"),
    [
        ("dark field", "dark%20field"),
        ("a/b", "a%2Fb"),
        ("c.d", "c%2Ed"),
        ("µ_1+2-3", "µ_1+2-3"),
        ("100%", "100%25"),
        ("1/Å", "1%2FÅ"),
        ("→", "%E2%86%92"),
    ],
)
def test_names_of_variables_are_escaped_in_names_of_files(folder, variable, written):
    ds = xr.Dataset({"image": (("y", "x"), np.eye(2)), variable: (("y", "x"), 2 * np.eye(2))})
    assert imsave(ds, "scan.npy")[1] == str(folder / f"scan.var_{written}.npy")
    np.testing.assert_array_equal(np.load(f"scan.var_{written}.npy"), 2 * np.eye(2))


def test_variables_whose_names_differ_in_case_only_are_refused(folder):
    with pytest.raises(emio.EmioError, match="case"):
        imsave(xr.Dataset({"A": (("y", "x"), np.eye(2)), "a": (("y", "x"), np.eye(2))}), "scan.npy")
    assert names(folder) == []


def test_a_variable_named_like_its_own_axis_is_saved_as_the_image(folder):
    profile = xr.DataArray(np.eye(3), {"x": [1, 2, 4]}, ("y", "x"), name="x")
    imsave(profile, "scan.zarr")
    np.testing.assert_array_equal(xr.open_zarr("scan.zarr").image, np.eye(3))


# Refusals ------------------------------------------------------------------------------------------------------------


class Sparse:
    shape, dtype, ndim = (2, 2), np.dtype("f8"), 2

    def todense(self):
        raise AssertionError


@pytest.mark.parametrize(
    ("image", "error", "says"),
    [
        ([np.eye(2), np.eye(2)], TypeError, "list"),
        ((np.eye(2),), TypeError, "tuple"),
        ("scan.blo", TypeError, "str"),
        ({"image": np.eye(2)}, TypeError, "dict"),
        (None, ValueError, "axes"),
        (np.ma.masked_equal(np.eye(2), 0), TypeError, r"image\.filled"),
        (da.ma.masked_equal(da.eye(2), 0), TypeError, r"image\.filled"),
        (Sparse(), TypeError, r"image\.todense"),
        (np.float64(3), ValueError, "axes"),
        (xr.DataArray(3.0), ValueError, "axes"),
        (xr.Dataset({"image": 3.0}), ValueError, "no axes"),
        (xr.Dataset(), ValueError, "no variables"),
        (xr.DataArray(np.eye(2), dims=("row", "column")), ValueError, "single letters"),
        (np.zeros((1,) * 7), ValueError, "axes"),
        (np.array([["a", None]], object), ValueError, "object|pixels"),
    ],
)
@pytest.mark.parametrize("extension", [".npy", ".zarr"])
def test_what_is_no_image_is_refused(folder, image, error, says, extension):
    with pytest.raises(error, match=says) as caught:
        imsave(image, f"image{extension}")
    assert isinstance(caught.value, emio.EmioError)
    assert names(folder) == []


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 0)])
def test_axes_of_no_length_are_kept_by_arrays_and_stores(folder, shape):
    imsave(np.zeros(shape), "none.npy")
    assert np.load("none.npy").shape == shape
    imsave(np.zeros(shape), "none.zarr")
    assert xr.open_zarr("none.zarr").image.shape == shape


@pytest.mark.parametrize("shape", [(3, 0, 4), (3, 4, 0)])
def test_axes_of_no_length_are_kept_by_stores_of_stacks(folder, shape):
    imsave(xr.DataArray(np.zeros(shape), dims=("i", "y", "x")), "none.zarr")
    assert xr.open_zarr("none.zarr")["image"].shape == shape


def test_axes_of_no_length_are_refused_by_blockfiles(folder):
    with pytest.raises(emio.EmioError):
        imsave(bare(PIXELS[:0]), "none.blo")
    assert names(folder) == []


@pytest.mark.parametrize("compress", ["zip", 1, 0, "true", 9])
def test_compress_is_true_false_or_none(folder, compress):
    with pytest.raises(TypeError, match="compress"):
        imsave(np.eye(3), "image.npy", compress=compress)
    assert names(folder) == []


@pytest.mark.parametrize("extension", FORMATS)
def test_an_unknown_argument_is_a_type_error_that_names_the_allowed_ones(folder, extension):
    known = "" if extension == ".zspy" else ".*overwrite"  # whose arguments may also be those of Zarr
    with pytest.raises(TypeError, match=f"'quality'{known}") as caught:
        imsave(bare(), f"scan{extension}", quality=95)
    assert isinstance(caught.value, emio.EmioError)
    assert ("intensity_scaling" in str(caught.value)) == (extension == ".blo")
    assert names(folder) == []


def test_the_folder_must_exist(folder):
    with pytest.raises(FileNotFoundError, match="none") as caught:
        imsave(np.eye(3), "none/image.npy")
    assert isinstance(caught.value, emio.EmioError)
    assert names(folder) == []


def test_a_name_that_no_disk_takes_is_refused(folder):
    with pytest.raises(emio.EmioError, match="255 bytes"):
        imsave(np.eye(3), "µ" * 130 + ".npy")
    assert names(folder) == []


def test_a_refusal_of_the_writer_names_the_target_and_leaves_nothing(folder):
    with pytest.raises(emio.EmioError, match=rf"^{folder}/scan\.blo: "):
        imsave(bare(PIXELS[..., :3]), "scan.blo")
    assert names(folder) == []


# Existing targets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize("kind", ["file", "folder", "broken link"])
def test_an_existing_target_is_refused_and_left_alone(folder, extension, kind):
    path = folder / f"scan{extension}"
    if kind == "file":
        path.write_bytes(b"precious")
    elif kind == "folder":
        path.mkdir()
        (path / "precious").write_bytes(b"precious")
    else:
        path.symlink_to("nowhere")
    before = contents(folder)
    with pytest.raises(FileExistsError, match=rf"scan\{extension}.*overwrite=True") as caught:
        imsave(bare(), path)
    assert isinstance(caught.value, emio.EmioError)
    assert contents(folder) == before
    assert names(folder) == [path.name]


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize("kind", ["nothing", "file", "folder", "link to a file", "link to a folder"])
def test_overwriting_replaces_whatever_is_there(folder, extension, kind):
    path, other = folder / f"scan{extension}", folder / "other"
    if kind == "file":
        path.write_bytes(b"old")
    elif kind == "folder":
        (path / "old").mkdir(parents=True)
    elif kind == "link to a file":
        other.write_bytes(b"old")
        path.symlink_to(other)
    elif kind == "link to a folder":
        other.mkdir()
        (other / "old").write_bytes(b"old")
        path.symlink_to(other)
    imsave(bare(), path, overwrite=True)
    np.testing.assert_array_equal(pixels_in(path), PIXELS)
    assert names(folder) == sorted({path.name} | ({"other"} if other.exists() else set()))
    if other.is_dir():
        assert contents(other) == {"old": b"old"}
    elif other.exists():
        assert other.read_bytes() == b"old"


def test_of_several_targets_one_is_enough_to_refuse_all(folder):
    (folder / "scan.var_navigator.npy").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="var_navigator"):
        imsave(scan().drop_vars(list("yxvu")), "scan.npy")
    assert contents(folder) == {"scan.var_navigator.npy": b"precious"}


def test_overwriting_leaves_files_of_other_names_alone(folder):
    for name in ("scan.npy", "scan.var_old.npy", "scan.var_image.npy"):
        (folder / name).write_bytes(b"old")
    imsave(scan().drop_vars(list("yxvu")), "scan.npy", overwrite=True)
    assert {name for name, data in contents(folder).items() if data == b"old"} == {"scan.npy", "scan.var_old.npy"}


@pytest.mark.parametrize("extension", [".npy", ".blo"])
def test_a_file_can_be_replaced_by_what_is_lazily_read_from_it(folder, extension):
    (path,) = imsave(bare(), f"scan{extension}")
    ds = imload(path, chunks="frame")[["image"]].drop_vars(list("yxvu"), errors="ignore")
    imsave(ds.image + np.uint8(1), path, overwrite=True)
    np.testing.assert_array_equal(pixels_in(path), PIXELS + np.uint8(1))


def test_a_store_can_be_replaced_by_what_is_lazily_read_from_it(folder):
    imsave(scan(), "scan.zarr")
    imsave(xr.open_zarr("scan.zarr").isel(y=[2, 0]), "scan.zarr", overwrite=True)
    np.testing.assert_array_equal(xr.open_zarr("scan.zarr").image, PIXELS[[2, 0]])


# All or nothing ------------------------------------------------------------------------------------------------------


def breaking(error):
    """Pixels whose last chunk cannot be computed."""

    def block(number, block_info=None):
        if block_info[0]["chunk-location"][0] == 2:
            raise error
        return np.zeros((1, 4, 5, 5), "u1")

    return da.map_blocks(block, da.arange(3, chunks=1), dtype="u1", new_axis=(1, 2, 3), chunks=((1,) * 3, 4, 5, 5))


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize("error", [RuntimeError("detector on fire"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_failing_computation_leaves_everything_as_it_was(folder, extension, error, old):
    path = folder / f"scan{extension}"
    if old is not None:
        path.write_bytes(old)
    with dask.config.set(scheduler="synchronous"), pytest.raises(type(error)):
        imsave(bare(breaking(error)), path, overwrite=True)
    assert contents(folder) == ({} if old is None else {path.name: old})
    assert names(folder) == ([] if old is None else [path.name])


@pytest.mark.parametrize("extension", FORMATS)
def test_blocks_that_are_still_computed_when_another_fails_leave_nothing_either(folder, extension):
    def block(number):
        time.sleep(0.02 if number[0] == 0 else 0.1)
        if number[0] == 0:
            raise RuntimeError("detector on fire")
        return np.zeros((1, 4, 5, 5), "u1")

    pixels = da.arange(8, chunks=1).map_blocks(
        block, dtype="u1", new_axis=(1, 2, 3), chunks=((1,) * 8, 4, 5, 5), meta=np.empty((0, 0, 0, 0), "u1")
    )
    with dask.config.set(num_workers=4), pytest.raises(RuntimeError):
        imsave(bare(pixels), f"scan{extension}")
    time.sleep(0.2)
    assert names(folder) == []


def test_a_failing_variable_leaves_none_of_the_others(folder):
    ds = xr.Dataset({"a": (("y", "x"), BRIGHT_FIELD), "b": (("y", "x", "v", "u"), breaking(RuntimeError("no")))})
    with pytest.raises(RuntimeError):
        imsave(ds, "scan.npy")
    assert names(folder) == []


def test_a_source_file_that_shrinks_while_it_is_saved_is_named_and_nothing_is_left(folder):
    write_npy(folder / "stack.npy", PIXELS)
    ds = imload("stack.npy", chunks="frame", io_backend="buffered")
    os.truncate("stack.npy", 300)
    with pytest.raises(emio.EmioError, match=r"stack\.npy"):
        imsave(ds.image, "copy.npy")
    assert names(folder) == ["stack.npy"]


@pytest.mark.parametrize("extension", FORMATS)
def test_a_target_that_cannot_be_renamed_stays_and_no_temporary_does(folder, extension, monkeypatch):
    imsave(bare(), f"scan{extension}")
    before = contents(folder)

    def denied(source, target):
        if Path(target).name == f"scan{extension}":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        rename(source, target)

    rename = os.replace
    monkeypatch.setattr(os, "replace", denied)
    with pytest.raises(PermissionError):
        imsave(bare(PIXELS + np.uint8(1)), f"scan{extension}", overwrite=True)
    assert contents(folder) == before


KILLED = """
import pathlib, sys, threading, time
import dask, dask.array as da, h5py, numpy as np, tifffile, xarray as xr, zarr
import intake_emio as emio

dask.config.set(scheduler="synchronous")


def block(number, extension=None, block_info=None):
    if block_info[0]["chunk-location"][0] == 1:
        pathlib.Path("started" + extension).touch()
        time.sleep(600)
    return np.full((1, 4, 5, 5), 7, "u1")


def save(extension):
    pixels = da.map_blocks(
        block, da.arange(3, chunks=1), extension, dtype="u1", new_axis=(1, 2, 3), chunks=((1,) * 3, 4, 5, 5)
    )
    emio.imsave(xr.DataArray(pixels, dims=tuple("yxvu")), "scan" + extension, overwrite=True)


threads = [threading.Thread(target=save, args=(extension,)) for extension in sys.argv[1:]]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_a_process_killed_in_the_middle_leaves_the_old_files_and_nothing_in_the_way(folder):
    for extension in FORMATS:
        imsave(bare(), f"scan{extension}")
    before = contents(folder)
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(KILLED), *FORMATS])
    try:
        patience = time.monotonic() + 60
        while not all(Path(f"started{extension}").exists() for extension in FORMATS):
            assert process.poll() is None, "the process ended before it was killed"
            assert time.monotonic() < patience
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    visible = [name for name in names(folder) if not name.startswith((".", "started"))]
    assert visible == sorted(f"scan{extension}" for extension in FORMATS)
    after = contents(folder)
    assert {name: after[name] for name in before} == before
    for extension in FORMATS:
        imsave(bare(PIXELS + np.uint8(1)), f"scan{extension}", overwrite=True)
        np.testing.assert_array_equal(pixels_in(f"scan{extension}"), PIXELS + np.uint8(1))


# The argument is left alone ------------------------------------------------------------------------------------------


def everything_about(ds):
    return {
        name: (variable.dims, variable.dtype, variable.chunks, dict(variable.attrs), dict(variable.encoding))
        for name, variable in ds.variables.items()
    }


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize("lazy", [True, False])
def test_the_argument_is_not_modified(folder, extension, lazy):
    ds = scan(da.from_array(PIXELS, chunks=((1, 2), (2, 1, 1), (5,), (5,))) if lazy else PIXELS.copy())
    ds.image.attrs = {"nested": {"a": [1, 2]}, "when": np.datetime64("2024-02-29"), "n": np.int64(3)}
    ds.image.encoding = {"chunks": (1, 1, 5, 5), "_FillValue": 3}
    ds.y.encoding = {"dtype": "f4"}
    ds.encoding = {"source": "somewhere"}
    before, facts = copy.deepcopy(ds), everything_about(ds)
    if extension in (".npy", ".mrc"):
        with pytest.warns(emio.EmioWarning):
            imsave(ds, f"scan{extension}")
    else:
        imsave(ds, f"scan{extension}")
    xr.testing.assert_identical(ds, before)
    assert everything_about(ds) == facts
    assert ds.encoding == {"source": "somewhere"}


def test_a_labelled_array_is_not_modified(folder):
    image = bare().assign_attrs(sample="gold")
    before = copy.deepcopy(image)
    for extension in FORMATS:
        imsave(image, f"scan{extension}")
    xr.testing.assert_identical(image, before)


def test_an_inherited_encoding_does_not_rescale_pixels(folder):
    image = bare(PIXELS.astype("f4") / 3)
    image.encoding = {"scale_factor": 0.1, "dtype": "i2", "_FillValue": 0}
    imsave(image, "scan.zarr")
    np.testing.assert_array_equal(xr.open_zarr("scan.zarr").image, image)


# Lazy pixels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", FORMATS)
def test_every_chunk_is_computed_once(folder, extension):
    computed = []

    def block(number):
        computed.append(int(number[0]))
        return np.full((1, 4, 5, 5), number[0], "u1")

    numbers = da.arange(6, chunks=1)
    pixels = numbers.map_blocks(
        block, dtype="u1", new_axis=(1, 2, 3), chunks=((1,) * 6, 4, 5, 5), meta=np.empty((0, 0, 0, 0), "u1")
    )
    imsave(bare(pixels), f"scan{extension}")
    assert sorted(computed) == list(range(6))


def test_blocks_may_compute_something_themselves(folder):
    def block(number):
        return number + da.ones(4, chunks=1).sum().compute().astype(int)

    with dask.config.set(num_workers=2):
        imsave(da.arange(16, chunks=1).map_blocks(block, dtype=int).reshape(4, 4), "image.npy")
    np.testing.assert_array_equal(np.load("image.npy").ravel(), np.arange(16) + 4)


def test_pixels_are_computed_by_the_scheduler_that_the_user_has_chosen(folder):
    used = []

    def scheduler(graph, keys, **options):
        used.append(keys)
        return dask.get(graph, keys, **options)

    with dask.config.set(scheduler=scheduler):
        imsave(da.ones((4, 4), chunks=2), "image.npy")
    assert used


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as workers,
        distributed.Client(workers),
    ):
        yield


@pytest.mark.parametrize("extension", FORMATS)
def test_worker_processes_write_the_right_file(folder, cluster, extension):
    pixels = np.arange(6 * 8 * 16 * 16, dtype="u4").reshape(6, 8, 16, 16) % 251
    lazy = bare((da.arange(pixels.size, chunks=500).reshape(pixels.shape) % 251).astype("u1").rechunk((2, 3, 16, 16)))
    (path,) = imsave(lazy, f"scan{extension}")
    np.testing.assert_array_equal(pixels_in(path), pixels)
    assert names(folder) == [f"scan{extension}"]


def test_worker_processes_read_the_file_by_its_name(folder, cluster):
    write_blo(folder / "scan.blo", PIXELS)
    ds = intake.open_emio("scan.blo", chunks="frame").to_dask()
    np.testing.assert_array_equal(ds.image.sum(("v", "u")), PIXELS.sum((2, 3)))


def test_worker_processes_copy_from_file_to_file(folder, cluster):
    write_npy(folder / "stack.npy", PIXELS)
    imsave(imload("stack.npy", chunks="frame"), "copy.npy")
    np.testing.assert_array_equal(np.load("copy.npy"), PIXELS)


def test_a_rename_that_fails_leaves_all_targets_as_they_were(folder, monkeypatch):
    dataset = xr.Dataset({"image": (("y", "x"), np.ones((2, 2))), "other": (("y", "x"), np.ones((2, 2)))})
    imsave(dataset, "all.npy")
    before = {path: path.read_bytes() for path in sorted(Path().glob("*"))}
    renames, replace = [], os.replace

    def second_fails(source, target):
        renames.append(target)
        if len(renames) == 2:
            raise OSError("disk on fire")
        replace(source, target)

    monkeypatch.setattr(os, "replace", second_fails)
    with pytest.raises(OSError, match="disk on fire"):
        imsave(dataset * 2, "all.npy", overwrite=True)
    assert {path: path.read_bytes() for path in sorted(Path().glob("*"))} == before


def test_saving_can_be_put_off(folder):
    later = imsave(bare(da.from_array(PIXELS, chunks=(1, 4, 5, 5))), "scan.zarr", compute=False)
    assert names(folder) == []
    assert dask.compute(later, scheduler="threads") == ([str(folder / "scan.zarr")],)
    np.testing.assert_array_equal(pixels_in("scan.zarr"), PIXELS)


# Remote targets ------------------------------------------------------------------------------------------------------

REMOTE = [".npy", ".blo", ".tif", ".h5", ".hspy", ".zspy", ".zarr"]


@pytest.fixture
def memory():
    """A remote file system, which worker processes do not see."""
    files = fsspec.filesystem("memory")
    with dask.config.set(scheduler="threads"):
        yield files
    if files.exists("/saved"):
        files.rm("/saved", recursive=True)


@pytest.mark.parametrize("extension", REMOTE)
def test_a_url_takes_every_format(memory, extension):
    url = f"memory://saved/scan{extension}"
    assert imsave(bare(), url) == [url]
    np.testing.assert_array_equal(imload(url).image.values, PIXELS)


@pytest.mark.parametrize("extension", REMOTE)
def test_what_is_at_a_url_is_replaced_only_when_asked(memory, extension):
    url = f"memory://saved/scan{extension}"
    imsave(bare(), url)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        imsave(bare(PIXELS + np.uint8(1)), url)
    np.testing.assert_array_equal(imload(url).image.values, PIXELS)
    imsave(bare(PIXELS + np.uint8(1)), url, overwrite=True)
    np.testing.assert_array_equal(imload(url).image.values, PIXELS + np.uint8(1))


@pytest.mark.parametrize("extension", REMOTE)
def test_a_failure_leaves_nothing_at_a_url(memory, extension):
    def fail(block, block_info=None):
        if block_info[0]["chunk-location"][0] == 2:
            raise RuntimeError("detector on fire")
        return block

    pixels = da.from_array(PIXELS, chunks=(1, 4, 5, 5)).map_blocks(fail, dtype="u1", meta=np.empty((0,) * 4, "u1"))
    with pytest.raises(RuntimeError, match="on fire"):
        imsave(xr.DataArray(pixels, dims=tuple("yxvu")), f"memory://saved/scan{extension}")
    assert not memory.exists("/saved") or not memory.find("/saved")


def test_a_set_of_files_is_sent_too(memory):
    imsave(bare(), "memory://saved/a.tif", partition="vu")
    np.testing.assert_array_equal(imload("memory://saved/a.*.tif").image.values, PIXELS)
