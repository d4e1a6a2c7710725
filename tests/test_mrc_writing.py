"""Writing MRC files."""

import itertools
import os
import struct

import dask
import dask.array as da
import numpy as np
import pytest

import intake_emio as emio
from intake_emio.errors import ArgumentError, EmioWarning, TargetExistsError

from .encoders.mrc import AT, IMOD_STAMP

MODES = {"i1": 0, "i2": 1, "f4": 2, "c8": 4, "u2": 6, "f2": 12, "u1": 6}


def labelled(pixels, axes, **calibration):
    """Image whose axes have (step, unit)."""
    return emio.to_xarray(
        pixels,
        axes=axes,
        spacing={axis: step for axis, (step, _) in calibration.items()},
        spacing_units={axis: unit for axis, (_, unit) in calibration.items()},
    )


def numbered(*shape, dtype="i2"):
    return (np.arange(np.prod(shape)) % 251).reshape(shape).astype(dtype)


def field(path, name):
    """Field of a written header, read with nothing but the layout."""
    at, form = AT[name]
    return struct.unpack_from("<" + form, path.read_bytes(), at)[0]


def labels_of(path):
    header = path.read_bytes()[:1024]
    return [
        header[k : k + 80].rstrip(b"\0 ").decode() for k in range(224, 1024, 80) if header[k : k + 80].strip(b"\0 ")
    ]


@pytest.fixture
def mrc(tmp_path):
    return tmp_path / "saved.mrc"


@pytest.fixture
def valid(mrc):
    """Let mrcfile check what was written."""
    mrcfile = pytest.importorskip("mrcfile")

    def check(path=mrc):
        with open(os.devnull, "w") as nowhere:
            return mrcfile.validate(str(path), print_file=nowhere)

    return check


# Layout --------------------------------------------------------------------------------------------------------------


def test_the_header_is_that_of_mrc2014(mrc):
    image = labelled(np.array([[1, 2, 3], [4, 5, 9]], "i2"), "yx", y=(0.25, "nm"), x=(2.0, "Å"))
    assert emio.imsave(image, mrc) == [str(mrc)]
    content = mrc.read_bytes()
    assert content[1024:] == bytes.fromhex("0100 0200 0300 0400 0500 0900")
    expected = dict.fromkeys(AT, 0) | {"exttyp": bytes(4), "map": b"MAP ", "machst": b"DD\0\0", "nversion": 20141}
    expected |= {"nx": 3, "ny": 2, "nz": 1, "mode": 1, "mx": 3, "my": 2, "mz": 1, "xlen": 6, "ylen": 5}
    expected |= {"alpha": 90, "beta": 90, "gamma": 90, "mapc": 1, "mapr": 2, "maps": 3}
    expected |= {
        "dmin": 1,
        "dmax": 9,
        "dmean": 4,
        "rms": struct.unpack("<f", struct.pack("<f", np.std([1, 2, 3, 4, 5, 9])))[0],
    }
    expected |= {"nlabl": 1}
    assert {name: field(mrc, name) for name in expected} == expected
    assert labels_of(mrc) == ["Saved by intake-emio"]


@pytest.mark.peers
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("dtype", "mode"), MODES.items())
def test_all_pixel_types_are_written_so_that_mrcfile_is_content(mrc, valid, dtype, mode, order, lazy):
    pixels = numbered(4, 5, 6, dtype=order + dtype) - (dtype not in ("u1", "u2")) * np.array(7, dtype)
    emio.imsave(labelled(da.from_array(pixels, chunks=(3, 2, 6)) if lazy else pixels, "iyx"), mrc)
    assert field(mrc, "mode") == mode
    assert valid()
    ds = emio.imload(mrc)
    assert ds.image.dtype == np.dtype("u2" if dtype == "u1" else dtype)
    np.testing.assert_array_equal(ds.image, pixels)


def test_signed_bytes_say_so_to_imod(mrc):
    emio.imsave(np.array([[-1, 100]], "i1"), mrc)
    assert (field(mrc, "imodStamp"), field(mrc, "imodFlags")) == (IMOD_STAMP, 1)
    emio.imsave(np.array([[-1, 100]], "i2"), mrc, overwrite=True)
    assert field(mrc, "imodStamp") == 0


@pytest.mark.parametrize(
    ("dtype", "hint"),
    [
        ("bool", "uint16"),
        ("i4", "float32"),
        ("u4", "float32"),
        ("i8", "float32"),
        ("f8", "float32"),
        ("c16", "complex64"),
    ],
)
def test_other_pixel_types_are_refused_with_a_hint(mrc, dtype, hint):
    with pytest.raises(ArgumentError, match=hint):
        emio.imsave(np.ones((2, 3), dtype), mrc)
    assert os.listdir(mrc.parent) == []


@pytest.mark.parametrize("shape", [(5,), (0, 4), (3, 0, 4)])
def test_images_that_the_format_has_no_room_for_are_refused(mrc, shape):
    with pytest.raises(ArgumentError, match="MRC"):
        emio.imsave(np.ones(shape, "i2"), mrc)


# Statistics ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [None, (1, 20, 30), (2, 7, 9), (8, 20, 30)])
def test_statistics_are_those_of_all_pixels(mrc, chunks):
    pixels = np.random.default_rng(4).normal(1000, 3, (8, 20, 30)).astype("f4")
    emio.imsave(pixels if chunks is None else da.from_array(pixels, chunks=chunks), mrc)
    assert (field(mrc, "dmin"), field(mrc, "dmax")) == (pixels.min(), pixels.max())
    assert field(mrc, "dmean") == pytest.approx(pixels.mean(dtype="f8"), rel=1e-7)
    assert field(mrc, "rms") == pytest.approx(pixels.std(dtype="f8"), rel=1e-6)


@pytest.mark.peers
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1j])
def test_statistics_of_pixels_that_have_none_are_not_determined(mrc, valid, value):
    pixels = np.ones((2, 3), "c8" if value == 1j else "f4")
    pixels[0, 0] = value
    emio.imsave(pixels, mrc)
    assert [field(mrc, name) for name in ("dmin", "dmax", "dmean", "rms")] == [0, -1, -2, -1]
    assert valid()
    np.testing.assert_array_equal(emio.imload(mrc).image, pixels)


@pytest.mark.peers
def test_half_floats_whose_sum_they_cannot_hold_are_valid(mrc, valid):
    emio.imsave(np.full((100, 100), 60000, "f2") - numbered(100, 100, dtype="f2"), mrc)
    assert valid()


def test_each_chunk_is_computed_once(mrc):
    computed = []

    def chunk(block, block_id=None):
        computed.append(block_id)
        return np.full(block.shape, 7, "u2")

    pixels = da.zeros((6, 8, 10), chunks=(2, 8, 5), dtype="u2").map_blocks(
        chunk, dtype="u2", meta=np.empty((0, 0, 0), "u2")
    )
    emio.imsave(labelled(pixels, "iyx"), mrc)
    assert sorted(computed) == list(itertools.product(range(3), range(1), range(2)))
    assert (emio.imload(mrc).image == 7).all()


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_any_scheduler_writes_the_same_bytes(tmp_path, scheduler):
    pixels = numbered(6, 8, 10)
    emio.imsave(labelled(pixels, "zyx", z=(1.0, "nm")), tmp_path / "eager.mrc")
    with dask.config.set(scheduler=scheduler, num_workers=2):
        emio.imsave(labelled(da.from_array(pixels, chunks=4), "zyx", z=(1.0, "nm")), tmp_path / "lazy.mrc")
    assert (tmp_path / "lazy.mrc").read_bytes() == (tmp_path / "eager.mrc").read_bytes()


# Axes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.peers
@pytest.mark.parametrize(
    ("axes", "shape", "group", "depth"),
    [
        ("yx", (5, 6), 0, 1),
        ("vu", (5, 6), 0, 1),
        ("iyx", (4, 5, 6), 0, 1),
        ("tyx", (4, 5, 6), 0, 1),
        ("tvu", (4, 5, 6), 0, 1),
        ("zyx", (4, 5, 6), 1, 4),
        ("zyx", (1, 5, 6), 1, 1),
        ("iyx", (1, 5, 6), 0, 1),
        ("izyx", (2, 4, 5, 6), 401, 4),
        ("izyx", (1, 1, 5, 6), 401, 1),
        ("yxvu", (2, 4, 5, 6), 0, 1),
        ("yxvu", (1, 1, 5, 6), 0, 1),
    ],
)
def test_axes_come_back(mrc, valid, axes, shape, group, depth):
    pixels = numbered(*shape)
    assert emio.imsave(labelled(pixels, axes), mrc) == [str(mrc)]
    assert (field(mrc, "ispg"), field(mrc, "mz")) == (group, depth)
    assert (field(mrc, "nx"), field(mrc, "ny"), field(mrc, "nz")) == (6, 5, np.prod(shape[:-2]))
    assert valid()
    image = emio.imload(mrc).image
    assert "".join(image.dims) == axes
    np.testing.assert_array_equal(image, pixels)


def test_the_shape_of_a_scan_stands_in_a_label_that_people_can_read(mrc):
    emio.imsave(labelled(numbered(2, 4, 5, 6), "yxvu"), mrc)
    assert labels_of(mrc) == ["Saved by intake-emio", "nav_shape=(2, 4)"]


def test_labels_of_a_file_that_was_cut_by_another_program_are_not_believed(mrc):
    emio.imsave(labelled(numbered(2, 4, 5, 6), "yxvu"), mrc)
    content = bytearray(mrc.read_bytes())
    struct.pack_into("<i", content, 8, 3)
    mrc.write_bytes(content[: 1024 + 3 * 60])
    assert emio.imload(mrc).image.dims == ("i", "y", "x")
    emio.imsave(labelled(numbered(4, 5, 6), "tyx"), mrc, overwrite=True)
    content = bytearray(mrc.read_bytes())
    struct.pack_into("<i", content, 8, 3)
    mrc.write_bytes(content[: 1024 + 3 * 60])
    assert emio.imload(mrc).image.dims == ("i", "y", "x")


def test_users_may_read_a_scan_as_they_like(mrc):
    emio.imsave(labelled(numbered(2, 4, 5, 6), "yxvu"), mrc)
    assert emio.imload(mrc, nav_shape=(4, 2)).image.shape == (4, 2, 5, 6)
    assert emio.imload(mrc, nav_shape=8).image.dims == ("i", "y", "x")
    assert emio.imload(mrc, sig_shape=(6, 5)).image.shape == (2, 4, 6, 5)


@pytest.mark.parametrize(
    ("axes", "outer", "inner"),
    [
        ("cyx", "c", "yx"),
        ("tzyx", "t", "zyx"),
        ("ityx", "i", "tyx"),
        ("itczyx", "tc", "izyx"),
        ("iyxvu", "i", "yxvu"),
        ("xvu", "", "xvu"),
    ],
)
def test_axes_that_do_not_fit_become_several_files(tmp_path, axes, outer, inner):
    shape = (2, 3, 2, 2, 3, 4)[-len(axes) :]
    pixels = numbered(*shape)
    paths = emio.imsave(labelled(pixels, axes), tmp_path / "set.mrc")
    assert len(paths) == np.prod([n for a, n in zip(axes, shape, strict=True) if a in outer], dtype=int)
    assert "".join(emio.imload(paths[0]).image.dims) == inner
    image = emio.imload(paths).image if outer else emio.imload(paths[0]).image
    np.testing.assert_array_equal(image.transpose(*axes), pixels)


def test_frames_of_a_scan_are_written_one_by_one(tmp_path):
    image = labelled(numbered(2, 2, 3, 4), "yxvu", y=(10.0, "nm"), x=(12.5, "nm"), v=(2.0, "nm"), u=(1.0, "nm"))
    paths = emio.imsave(image, tmp_path / "frames.mrc", partition="vu")
    assert [os.path.basename(path) for path in paths][1] == "frames.y_00.0.x_12.5.mrc"
    back = emio.imload(str(tmp_path / "frames.*.mrc")).image
    np.testing.assert_array_equal(back.transpose("y", "x", "v", "u"), image)
    np.testing.assert_array_equal(back.x, [0, 12.5])


# Calibration ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "step", "angstroms", "nm"),
    [("nm", 0.5, 5, 0.5), ("µm", 2.0, 20000, 2000), ("pm", 50.0, 0.5, 0.05), ("m", 1e-9, 10, 1), ("Å", 3.0, 3, 0.3)],
)
def test_lengths_are_stored_in_angstroms_and_read_in_nm(mrc, unit, step, angstroms, nm):
    image = labelled(numbered(4, 5, 6), "zyx", z=(step, unit), y=(step, unit), x=(step, unit))
    emio.imsave(image, mrc)
    assert [field(mrc, name) for name in ("xlen", "ylen", "zlen")] == pytest.approx(
        [6 * angstroms, 5 * angstroms, 4 * angstroms]
    )
    ds = emio.imload(mrc)
    assert ds.metadata["spacing"] == pytest.approx(dict.fromkeys("zyx", nm))
    assert set(ds.metadata["spacing_units"].values()) == {"nm"}


def test_origins_come_back(mrc):
    image = labelled(numbered(5, 6), "yx", y=(0.5, "nm"), x=(0.5, "nm")).assign_coords(x=2.5 + 0.5 * np.arange(6))
    image.x.attrs["units"] = "nm"
    emio.imsave(image, mrc)
    assert field(mrc, "xorg") == 25
    np.testing.assert_array_equal(emio.imload(mrc).x, image.x)


@pytest.mark.peers
@pytest.mark.parametrize(
    ("coords", "lost"),
    [
        ({"x": ("x", 0.1 * np.arange(4), {"units": "1/nm"})}, "coordinate x in 1/nm"),
        ({"x": ("x", [0, 1, 3, 4.0], {"units": "nm"})}, "coordinate x in nm"),
        ({"x": ("x", list("abcd"))}, "coordinate x"),
        ({"x": ("x", [3.0, 2, 1, 0], {"units": "nm"})}, "coordinate x in nm"),
        ({"x": ("x", [0.0, 1, 2, 3])}, "coordinate x"),
        ({"t": ("t", [0.0, 1], {"units": "s"})}, "coordinate t in s"),
        ({"tilt_angle": ("t", [0.0, 1])}, "coordinate tilt_angle"),
    ],
)
def test_calibration_that_the_header_cannot_say_is_lost_with_a_warning(mrc, valid, coords, lost):
    image = labelled(numbered(2, 3, 4), "tyx", y=(1.0, "nm")).assign_coords(coords)
    with pytest.warns(EmioWarning, match=lost) as warned:
        emio.imsave(image, mrc)
    assert len(warned) == 1
    assert "coordinate y" not in str(warned[0].message)
    assert valid()
    assert set(emio.imload(mrc).coords) == {"y"}


def test_nothing_is_said_where_nothing_is_lost(mrc):
    emio.imsave(labelled(numbered(2, 3, 4), "zyx", y=(1.0, "nm"), x=(1.0, "nm")), mrc)
    assert emio.imload(mrc).metadata["spacing"] == {"y": 1, "x": 1}


# Saving as such ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [None, True, False])
def test_compress_makes_no_difference(mrc, compress):
    emio.imsave(numbered(5, 6), mrc, compress=compress)
    assert mrc.stat().st_size == 1024 + 60


def test_existing_files_are_kept_unless_they_are_to_go(mrc):
    emio.imsave(numbered(5, 6), mrc)
    with pytest.raises(TargetExistsError):
        emio.imsave(numbered(5, 6), mrc)
    image = emio.imload(mrc).image
    emio.imsave(image + 1, mrc, overwrite=True)  # read lazily from the very file
    np.testing.assert_array_equal(emio.imload(mrc).image, numbered(5, 6) + 1)


def test_a_save_that_fails_leaves_nothing(mrc):
    def broken(block):
        raise RuntimeError("no pixels today")

    pixels = da.zeros((4, 5, 6), chunks=(1, 5, 6), dtype="u2").map_blocks(
        broken, dtype="u2", meta=np.empty((0, 0, 0), "u2")
    )
    with pytest.raises(RuntimeError, match="no pixels"):
        emio.imsave(labelled(pixels, "iyx"), mrc)
    assert os.listdir(mrc.parent) == []


def test_a_demo_scan_survives_with_its_axes_and_the_detectors_calibration(mrc):
    from intake_emio.cli.demo import small_scan

    ds = emio.imload(small_scan())
    with pytest.warns(EmioWarning, match="coordinate y in nm"):
        emio.imsave(ds.image, mrc)
    back = emio.imload(mrc)
    np.testing.assert_array_equal(back.image, ds.image)
    np.testing.assert_allclose(back.v, ds.v * 1e7, rtol=1e-6)  # cm as nm


# Other programs ------------------------------------------------------------------------------------------------------


@pytest.mark.peers
@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f4", "c8", "f2"])
def test_mrcfile_reads_what_was_saved(mrc, dtype):
    mrcfile = pytest.importorskip("mrcfile")
    pixels = numbered(4, 5, 6, dtype=dtype)
    emio.imsave(labelled(pixels, "zyx", z=(1.0, "nm"), y=(2.0, "nm"), x=(3.0, "nm")), mrc)
    with mrcfile.open(mrc) as peer:
        np.testing.assert_array_equal(peer.data, pixels)
        assert peer.data.dtype == np.dtype(dtype)
        assert peer.is_volume()
        assert peer.voxel_size.tolist() == (30, 20, 10)


@pytest.mark.peers
def test_ncempy_rosettasciio_and_libertem_read_what_was_saved(mrc):
    ncempy, rsciio = pytest.importorskip("ncempy.io.mrc"), pytest.importorskip("rsciio.mrc")
    libertem = pytest.importorskip("libertem.api")
    pixels = numbered(4, 5, 6, dtype="f4")
    emio.imsave(labelled(pixels, "iyx", y=(2.0, "nm"), x=(3.0, "nm")), mrc)
    np.testing.assert_array_equal(ncempy.mrcReader(str(mrc))["data"], pixels)
    theirs = rsciio.file_reader(str(mrc))[0]
    np.testing.assert_array_equal(theirs["data"], pixels)
    assert [axis["scale"] for axis in theirs["axes"][1:]] == pytest.approx([2, 3])
    with libertem.Context.make_with("inline") as context:
        dataset = context.load("mrc", path=str(mrc))
        total = context.run(context.create_sum_analysis(dataset=dataset)).intensity.raw_data
    np.testing.assert_allclose(total, pixels.sum(0))
