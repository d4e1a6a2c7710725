"""Reading MRC files, and Direct Electron movies with what lies beside them."""

import bz2
import gzip
import hashlib
import json
import pickle
import struct

import dask
import numpy as np
import pytest

import intake_emio as emio
from intake_emio.errors import (
    ArgumentError,
    EmioError,
    EmioWarning,
    HeaderError,
    StorageError,
    TruncatedError,
    UnknownFormatError,
)
from intake_emio.formats._mrc_header import read_header
from intake_emio.formats.mrc import MrcSource
from intake_emio.frames import unpacked
from intake_emio.frames.files import File

from .encoders.mrc import IMOD_STAMP, fei_record, write_mrc

REAL = [
    "20241021_00405_movie.mrc",
    "20241021_00405_final.mrc",
    "20241021_00405_0_Virt 0_sum.mrc",
    "20241021_00405_ext1_Ext 1.mrc",
    "20241021_00405_movie.mrc#metadata_file=3DTEM_scan_info.txt",
    "HAADFscan.mrc",
    "ROI_Random_Scan_movie.mrc",
    "ROI_Random_Scan_Sum.mrc",
]
KINDS = {0: "i1", 1: "i2", 2: "f4", 3: "c8", 4: "c8", 6: "u2", 12: "f2", 16: "u1", 101: "u1"}


def numbered(*shape, dtype="i2"):
    """Pixels that all differ, or nearly so."""
    return (np.arange(np.prod(shape)) % 117).reshape(shape).astype(dtype)


def of_mode(mode, shape=(3, 4, 5)):
    """Pixels that only this mode can hold."""
    rng = np.random.default_rng(mode)
    if mode == 101:
        return rng.integers(0, 16, shape, "u1")
    if mode == 16:
        return rng.integers(0, 256, (*shape, 3), "u1")
    if KINDS[mode] == "c8":
        parts = rng.integers(-32768, 32768, (2, *shape))
        return (parts[0] + 1j * parts[1]).astype("c8")
    if KINDS[mode][0] == "f":
        return rng.normal(size=shape).astype(KINDS[mode])
    info = np.iinfo(KINDS[mode])
    return rng.integers(info.min, info.max + 1, shape).astype(KINDS[mode])


def axes_of(image):
    return "".join(image.dims)


@pytest.fixture
def mrc(tmp_path):
    return tmp_path / "a.mrc"


# Real files ----------------------------------------------------------------------------------------------------------


def digest(image):
    return hashlib.sha256(np.ascontiguousarray(image.values).tobytes()).hexdigest()


@pytest.mark.parametrize("name", REAL)
def test_real_files_are_what_other_programs_and_the_info_files_say(real_files, name):
    files = real_files("mrc")
    expected = files.expected[name]
    ds = emio.imload(files.path(name.partition("#")[0]), **expected.get("kwargs", {}))
    assert axes_of(ds.image) == expected["axes"]
    assert list(ds.image.shape) == expected["shape"]
    assert str(ds.image.dtype) == expected["dtype"]
    assert digest(ds.image) == expected["sha256"]
    assert ds.metadata["spacing"] == pytest.approx(expected["spacing"])
    assert ds.metadata["spacing_units"] == expected["units"]
    assert all(float(ds[axis][0]) == 0 for axis in expected["spacing"])
    json.dumps(ds.attrs)


def test_every_real_file_is_tested(real_files):
    assert {name for name in real_files("mrc").expected if name != "_about"} == set(REAL)


def test_virtual_and_external_images_of_a_real_scan_become_variables(real_files):
    files = real_files("mrc")
    ds = emio.imload(files.path("20241021_00405_movie.mrc"))
    assert list(ds.data_vars) == ["image", "navigator", "Virt 1", "Ext 1"]
    beside = {"navigator": "0_Virt 0_sum", "Ext 1": "ext1_Ext 1"}
    for name, file in beside.items():
        assert ds[name].dims == ("y", "x")
        assert ds[name].chunks is not None
        assert digest(ds[name]) == files.expected[f"20241021_00405_{file}.mrc"]["sha256"]
    assert ds.navigator.attrs["long_name"] == "Virt 0"


def test_the_navigator_of_a_real_scan_is_made_from_its_frames(real_files):
    ds = emio.imload(real_files("mrc").path("20241021_00405_movie.mrc"))
    scan = ds.image.sum(("v", "u")).values
    assert np.corrcoef(scan.ravel(), ds.navigator.values.ravel())[0, 1] > 0.99


def test_facts_of_a_real_velox_image(real_files):
    ds = emio.imload(real_files("mrc").path("HAADFscan.mrc"))
    facts = ds.acquisition
    assert (facts["beam_energy"], facts["detector"], facts["instrument"]) == (300, "HAADF", "Spectra 3814")
    assert facts["start_time"] == "2022-12-05T12:13:07.000"
    assert facts["convergence_angle"] == pytest.approx(14.327324)
    assert (facts["camera_length"], facts["dwell_time"]) == (pytest.approx(91.1), 0.01)
    assert facts["stage"]["x"] == pytest.approx(23.8563)
    assert ds.metadata["fileheader"]["extended"]["application"] == "Velox"


# Recognition ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.mrc", "A.MRCS", "a.rec", "a.dat", "a"])
def test_files_are_recognised_by_their_content(tmp_path, name):
    assert emio.detect(write_mrc(tmp_path / name, numbered(2, 3, 4))).format == "mrc"


@pytest.mark.parametrize("extension", [".mrc", ".mrcs", ".map", ".st", ".ali", ".preali", ".rec"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_old_files_are_recognised_by_extension_and_a_header_that_makes_sense(tmp_path, extension, order):
    pixels = numbered(2, 3, 4)
    path = write_mrc(tmp_path / f"a{extension}", pixels, order=order, map=b"", machst=b"")
    assert emio.detect(path).format == "mrc"
    np.testing.assert_array_equal(emio.imload(path).image, pixels)


def test_old_files_of_other_extensions_are_not(tmp_path):
    with pytest.raises(UnknownFormatError):
        emio.imload(write_mrc(tmp_path / "a.dat", numbered(2, 3, 4), map=b"", machst=b""))


@pytest.mark.parametrize("fields", [{"mode": 7}, {"nx": 0}, {"maps": 9}, {"nsymbt": -4}, {"nx": 10**6}])
def test_old_files_whose_header_makes_no_sense_are_refused(mrc, fields):
    with pytest.raises(EmioError, match=r"a\.mrc"):
        emio.imload(write_mrc(mrc, numbered(2, 3, 4), map=b"", machst=b"", **fields))


@pytest.mark.parametrize("columns", [0x8B1F, 0x5A42])  # 1F 8B and BZ in the file
def test_a_width_that_looks_like_a_packed_stream_is_none(mrc, columns):
    pixels = numbered(1, 1, columns)
    np.testing.assert_array_equal(emio.imload(write_mrc(mrc, pixels)).image, pixels[0])


# Byte order ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "stamp"),
    [
        ("<", b"DD\0\0"),
        ("<", b"DA\0\0"),
        (">", b"\x11\x11\0\0"),
        ("<", b""),
        (">", b""),
        (">", b"DD"),
        ("<", b"\x11\x11"),
    ],
)
def test_byte_order_is_that_of_the_stamp_unless_only_the_other_makes_sense(mrc, order, stamp):
    pixels = numbered(2, 3, 4)
    ds = emio.imload(write_mrc(mrc, pixels, order=order, machst=stamp))
    np.testing.assert_array_equal(ds.image, pixels)
    assert ds.image.dtype == np.dtype("i2")
    assert ds.metadata["fileheader"]["endianess"] == order


def test_files_that_make_sense_both_ways_are_read_by_their_stamp_else_as_little_endian(mrc):
    both = {"nx": 0x01000001, "ny": 0x00010100, "nz": 0x00010100, "mode": 0, "mapc": 0, "mapr": 0, "maps": 0}
    for stamp, order in ((b"DD", "<"), (b"\x11\x11", ">"), (b"", "<")):
        path = write_mrc(mrc, numbered(1, 3, 4), **both, machst=stamp)
        with pytest.raises(TruncatedError):
            emio.imload(path)
        assert read_header(File(str(path))).order == order


def test_the_byte_order_can_be_forced(mrc):
    write_mrc(mrc, numbered(2, 3, 4), order=">", machst=b"DD")
    assert emio.imload(mrc, endianess=">").image.shape == (2, 3, 4)
    with pytest.raises(HeaderError, match="mode"):
        emio.imload(mrc, endianess="<")
    with pytest.raises(ArgumentError, match="endianess"):
        emio.imload(mrc, endianess="big")


# Pixels --------------------------------------------------------------------------------------------------------------


def test_a_file_worked_by_hand_is_read(mrc):
    header = struct.pack("<4i", 3, 2, 1, 6).ljust(208, b"\0") + b"MAP DA\0\0"
    mrc.write_bytes(header.ljust(1024, b"\0") + bytes.fromhex("0100 0200 0300 0400 0500 ffff"))
    ds = emio.imload(mrc)
    assert ds.image.values.tolist() == [[1, 2, 3], [4, 5, 65535]]
    assert not ds.coords
    assert ds.image.dims == ("y", "x")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("mode", KINDS)
def test_all_modes_are_read_in_both_byte_orders(mrc, mode, order):
    pixels = of_mode(mode)
    ds = emio.imload(write_mrc(mrc, pixels, mode=mode, order=order), output_axis_order=None)
    assert ds.image.dtype == np.dtype(KINDS[mode])
    assert ds.image.dtype.isnative
    np.testing.assert_array_equal(ds.image, pixels)
    np.testing.assert_array_equal(ds.image[1:, 1:3, ::2], pixels[1:, 1:3, ::2])


@pytest.mark.parametrize("mode", KINDS)
@pytest.mark.parametrize(
    "how", [{"io_backend": "buffered"}, {"chunks": "frame"}, {"chunks": {"y": 3}}, {"chunks": None}]
)
def test_all_modes_are_read_in_any_way(mrc, mode, how):
    pixels = of_mode(mode)
    write_mrc(mrc, pixels, mode=mode, extended=bytes(160))
    np.testing.assert_array_equal(emio.imload(mrc, output_axis_order=None, **how).image, pixels)


def test_pixels_of_four_bits_have_the_left_one_in_the_lower_half(mrc):
    header = struct.pack("<4i", 3, 1, 2, 101).ljust(208, b"\0") + b"MAP DD\0\0"
    mrc.write_bytes(header.ljust(1024, b"\0") + bytes.fromhex("21f3 4576"))
    assert emio.imload(mrc).image.values.tolist() == [[[1, 2, 3]], [[5, 4, 6]]]


def test_complex_integers_are_real_part_first(mrc):
    header = struct.pack(">4i", 2, 1, 1, 3).ljust(208, b"\0") + b"MAP \x11\x11\0\0"
    mrc.write_bytes(header.ljust(1024, b"\0") + struct.pack(">4h", 1, -2, 32767, -32768))
    assert emio.imload(mrc).image.values.tolist() == [[1 - 2j, 32767 - 32768j]]


def test_colours_are_an_axis_of_their_own(mrc):
    pixels = of_mode(16)
    ds = emio.imload(write_mrc(mrc, pixels, mode=16, step=(10, 10, 10)))
    assert ds.image.dims == ("i", "c", "y", "x")
    assert ds.c.values.tolist() == ["r", "g", "b"]
    assert float(ds.x[1]) == 1
    np.testing.assert_array_equal(ds.image.transpose("i", "y", "x", "c"), pixels)


def test_serial_em_packs_two_pixels_into_a_byte_that_the_header_does_not_know(mrc):
    pixels = of_mode(101, (2, 3, 8))
    packed = (pixels[..., ::2] + 16 * pixels[..., 1::2]).astype("u1")
    ds = emio.imload(write_mrc(mrc, packed, mode=0, step=(5, 5, 5), imodStamp=IMOD_STAMP, imodFlags=16, xorg=20))
    assert ds.image.dtype == np.dtype("u1")
    np.testing.assert_array_equal(ds.image, pixels)
    np.testing.assert_allclose(ds.x, 2 + 0.5 * np.arange(8))
    np.testing.assert_allclose(ds.y, 0.5 * np.arange(3))
    assert emio.imload(write_mrc(mrc, packed, mode=0, imodFlags=16)).image.shape == (2, 3, 4)  # no stamp, no flags


SIGNS = [
    ({}, "i1"),
    ({"imodStamp": IMOD_STAMP, "imodFlags": 0}, "u1"),
    ({"imodStamp": IMOD_STAMP, "imodFlags": 1}, "i1"),
    ({"imodStamp": IMOD_STAMP, "imodFlags": 0, "dmin": -5, "dmax": 5}, "u1"),
    ({"imodStamp": 5, "imodFlags": 0}, "i1"),
    ({"dmin": -5, "dmax": 5}, "i1"),
    ({"dmin": -100, "dmax": 200}, "i1"),
    ({"dmin": -5, "dmax": 200}, "u1"),
    ({"dmin": -72, "dmax": 200}, "u1"),
    ({"dmin": 0, "dmax": 128}, "u1"),
    ({"dmin": 0, "dmax": 127}, "i1"),
    ({"dmin": 200, "dmax": 100}, "i1"),
    ({"dmin": float("nan"), "dmax": 200}, "i1"),
]


@pytest.mark.parametrize(("fields", "kind"), SIGNS)
def test_bytes_are_signed_if_the_header_means_so(mrc, fields, kind):
    pixels = np.array([[[1, 200], [100, 255]]], "u1")
    ds = emio.imload(write_mrc(mrc, pixels, mode=0, **fields))
    assert ds.image.dtype == np.dtype(kind)
    np.testing.assert_array_equal(ds.image, pixels[0].view(kind))


@pytest.mark.parametrize("kind", ["u1", "i1", "uint8", np.int8])
def test_the_user_decides_whether_bytes_are_signed(mrc, kind):
    write_mrc(mrc, of_mode(0), imodStamp=IMOD_STAMP, imodFlags=1)
    assert emio.imload(mrc, dtype=kind).image.dtype == np.dtype(kind)


@pytest.mark.parametrize(("mode", "dtype"), [(0, "u2"), (1, "u2"), (6, "i2"), (2, "f8"), (4, "f4"), (101, "i1")])
def test_a_type_that_is_no_reading_of_the_mode_is_refused(mrc, mode, dtype):
    with pytest.raises(ArgumentError, match=f"mode {mode}"):
        emio.imload(write_mrc(mrc, of_mode(mode), mode=mode), dtype=dtype)
    with pytest.raises(ArgumentError, match="dtype"):
        MrcSource(mrc, dtype="nonsense")


@pytest.mark.parametrize("mode", KINDS)
def test_the_type_of_the_mode_itself_may_be_given(mrc, mode):
    write_mrc(mrc, of_mode(mode), mode=mode)
    assert emio.imload(mrc, dtype=KINDS[mode]).image.dtype == np.dtype(KINDS[mode])


# Axes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "nz", "fields", "axes"),
    [
        ("a.mrc", 1, {"ispg": 0}, "yx"),
        ("a.mrc", 1, {"ispg": 1}, "yx"),
        ("a.mrcs", 1, {"ispg": 1}, "yx"),
        ("a.mrc", 4, {"ispg": 0}, "iyx"),
        ("a.mrc", 4, {"ispg": 1}, "zyx"),
        ("a.mrc", 4, {"ispg": 230}, "zyx"),
        ("a.map", 4, {"ispg": 19}, "zyx"),
        ("a.rec", 4, {"ispg": 1}, "zyx"),
        *(("a" + extension, 4, {"ispg": 1}, "iyx") for extension in (".mrcs", ".st", ".ALI", ".preali")),
        ("a.mrc", 4, {"ispg": 231}, "iyx"),
        ("a.mrc", 4, {"ispg": -1}, "iyx"),
        ("a.mrc", 4, {"ispg": 400}, "iyx"),
        ("a.mrc", 4, {"ispg": 401, "mz": 2}, "izyx"),
        ("a.mrc", 4, {"ispg": 630, "mz": 4}, "izyx"),
        ("a.mrc", 4, {"ispg": 631}, "iyx"),
    ],
)
def test_axes_follow_space_group_and_extension(tmp_path, name, nz, fields, axes):
    pixels = numbered(nz, 2, 3)
    image = emio.imload(write_mrc(tmp_path / name, pixels, **fields)).image
    assert axes_of(image) == axes
    np.testing.assert_array_equal(image.values.reshape(nz, 2, 3), pixels)
    if axes == "izyx":
        assert image.sizes["z"] == fields["mz"]


@pytest.mark.parametrize("mz", [3, 0, -1, 5])
def test_volumes_that_do_not_divide_the_sections_are_refused(mrc, mz):
    write_mrc(mrc, numbered(4, 2, 3), ispg=401, mz=mz)
    with pytest.raises(HeaderError, match="multiple"):
        emio.imload(mrc)
    assert emio.imload(mrc, nav_shape=4).image.shape == (4, 2, 3)


@pytest.mark.parametrize(
    ("nav_shape", "axes"), [((2, 3), "yxvu"), ((6,), "iyx"), (6, "iyx"), ((1, 2, 3), "iyxvu"), ("(3, 2)", "yxvu")]
)
@pytest.mark.parametrize("ispg", [0, 1])
def test_nav_shape_arranges_the_sections(mrc, nav_shape, axes, ispg):
    pixels = numbered(6, 2, 3)
    image = emio.imload(write_mrc(mrc, pixels, ispg=ispg), nav_shape=nav_shape).image
    assert axes_of(image) == axes
    np.testing.assert_array_equal(image.values.reshape(6, 2, 3), pixels)


def test_many_navigation_axes_need_names(mrc):
    write_mrc(mrc, numbered(32, 1, 2))
    with pytest.raises(ArgumentError, match="metadata"):
        emio.imload(mrc, nav_shape=(2,) * 5)
    ds = emio.imload(mrc, nav_shape=(2,) * 5, metadata={"axes": "abcdeyx"}, output_axis_order=None)
    assert axes_of(ds.image) == "abcdeyx"


def test_axes_get_the_users_names_and_keep_their_calibration(mrc):
    write_mrc(mrc, numbered(6, 2, 3), step=(10, 20, 30))
    ds = emio.imload(mrc, nav_shape=(2, 3), metadata={"axes": "abkl"})
    assert axes_of(ds.image) == "abkl"
    assert ds.metadata["spacing"] == {"k": 2, "l": 1}
    write_mrc(mrc, numbered(6, 2, 3), ispg=1, step=(10, 20, 30))
    assert emio.imload(mrc, metadata={"axes": "tab"}).metadata["spacing"] == {"t": 3, "a": 2, "b": 1}


def test_sections_are_skipped_and_inserted(mrc):
    pixels = numbered(4, 2, 3)
    write_mrc(mrc, pixels)
    np.testing.assert_array_equal(emio.imload(mrc, sync_offset=1).image[:3], pixels[1:])
    np.testing.assert_array_equal(emio.imload(mrc, sync_offset=-1).image, [np.zeros((2, 3)), *pixels[:3]])
    for offset in (4, -4, 9):
        with pytest.raises(ArgumentError, match="sync_offset"):
            emio.imload(mrc, sync_offset=offset)


@pytest.mark.parametrize("mode", [1, 16, 101, 3])
def test_frames_get_another_shape(mrc, mode):
    pixels = of_mode(mode, (3, 4, 5))
    write_mrc(mrc, pixels, mode=mode, step=(1, 1, 1))
    image = emio.imload(mrc, sig_shape=(2, 10), output_axis_order=None).image
    np.testing.assert_array_equal(image, pixels.reshape(3, 2, 10, *pixels.shape[3:]))
    assert "x" not in image.coords
    for shape in ((4, 4), (20, 2)):
        with pytest.raises(ArgumentError, match="20 pixels"):
            emio.imload(mrc, sig_shape=shape)


@pytest.mark.parametrize(
    ("order", "stored"),
    [((1, 2, 3), "zyx"), ((3, 2, 1), "xyz"), ((2, 1, 3), "zxy"), ((1, 3, 2), "yzx"), ((2, 3, 1), "xzy")],
)
@pytest.mark.parametrize("ispg", [1, 401])
def test_volumes_are_turned_as_the_header_says(mrc, order, stored, ispg):
    pixels = numbered(2, 3, 4)
    sizes = dict(zip(stored, pixels.shape, strict=True))
    cell = {"m" + a: n for a, n in sizes.items()}
    path = write_mrc(
        mrc, pixels, ispg=ispg, step=(10, 20, 30), **cell, **dict(zip(("mapc", "mapr", "maps"), order, strict=True))
    )
    ds = emio.imload(path)
    assert axes_of(ds.image) == ("zyx" if ispg == 1 else "izyx")
    np.testing.assert_array_equal(ds.image.squeeze().transpose(*stored), pixels)
    assert ds.metadata["spacing"] == {"x": 1, "y": 2, "z": 3}
    assert axes_of(emio.imload(path, output_axis_order=None).image) == ("" if ispg == 1 else "i") + stored


@pytest.mark.parametrize("order", [(0, 0, 0), (1, -2, 3), (1, 1, 2), (1, 2, 4), (17, 18, 19)])
def test_axes_that_are_no_permutation_are_as_usual(mrc, order):
    pixels = numbered(2, 3, 4)
    write_mrc(mrc, pixels, ispg=1, **dict(zip(("mapc", "mapr", "maps"), order, strict=True)))
    np.testing.assert_array_equal(emio.imload(mrc).image.transpose("z", "y", "x"), pixels)


def test_stacks_are_never_turned(mrc):
    image = emio.imload(write_mrc(mrc, numbered(2, 3, 4), mapc=3, mapr=2, maps=1)).image
    assert axes_of(image) == "iyx"
    assert image.shape == (2, 3, 4)


# Calibration ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ispg", "calibrated"), [(0, "yx"), (1, "zyx")])
def test_voxels_are_in_nm_and_sections_of_stacks_have_none(mrc, ispg, calibrated):
    write_mrc(mrc, numbered(2, 3, 4), ispg=ispg, step=(12.5, 25, 50), xorg=-100, yorg=50, zorg=10)
    ds = emio.imload(mrc)
    known = {"x": (1.25, -10), "y": (2.5, 5), "z": (5, 1)}
    assert ds.metadata["spacing"] == {a: known[a][0] for a in calibrated}
    assert {a: float(ds[a][0]) for a in calibrated} == {a: known[a][1] for a in calibrated}
    assert {ds[a].attrs["units"] for a in calibrated} == {"nm"}


def test_cells_may_have_other_sizes_than_the_box(mrc):
    write_mrc(mrc, numbered(2, 3, 4), ispg=1, step=(10, 10, 10), mx=100, my=50, mz=20, nxstart=7)
    assert emio.imload(mrc).metadata["spacing"] == pytest.approx({"x": 1, "y": 1, "z": 1})


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"xlen": -80}, "zy"),
        ({"my": 0}, "zx"),
        ({"zlen": float("nan")}, "yx"),
        ({"xlen": 0, "ylen": float("inf")}, "z"),
    ],
)
def test_sizes_that_make_no_sense_are_no_calibration(mrc, fields, left):
    write_mrc(mrc, numbered(2, 3, 4), ispg=1, step=(10, 10, 10), **fields)
    assert set(emio.imload(mrc).metadata["spacing"]) == set(left)


def test_imod_may_turn_the_sign_of_the_origin(mrc):
    write_mrc(mrc, numbered(2, 3, 4), step=(10, 10, 10), xorg=30, imodStamp=IMOD_STAMP, imodFlags=4)
    assert float(emio.imload(mrc).x[0]) == -3
    write_mrc(mrc, numbered(2, 3, 4), step=(10, 10, 10), xorg=30, imodFlags=4)
    assert float(emio.imload(mrc).x[0]) == 3


def test_the_calibration_of_patterns_is_that_of_the_detector(mrc):
    write_mrc(mrc, numbered(6, 2, 3), step=(10, 20, 30))
    assert emio.imload(mrc, nav_shape=(2, 3)).metadata["spacing"] == {"v": 2, "u": 1}


# Extended headers ----------------------------------------------------------------------------------------------------

STEM_PATTERN = {"at_156_d": 2e8, "at_164_d": 3e8, "at_244_i": 2, "at_595_i": 3, "at_599_i": 2}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("kind", "size"), [(b"FEI1", 768), (b"FEI2", 888)])
def test_tilt_series_of_feis_programs_have_their_angles(mrc, kind, size, order):
    records = b"".join(
        fei_record(
            size, order, at_12_d=44900.5 + k / 24, at_100_d=-60.0 + k, at_116_d=1e-6 * k, at_220_d=-2e-6, at_419_d=0.5
        )
        for k in range(3)
    )
    ds = emio.imload(write_mrc(mrc, numbered(3, 2, 4), order=order, extended=records, exttyp=kind))
    assert ds.tilt_angle.values.tolist() == [-60, -59, -58]
    assert ds.tilt_angle.dims == ("i",)
    assert ds.tilt_angle.attrs["units"] == "degree"
    np.testing.assert_allclose(ds.stage_x, [0, 1, 2])
    np.testing.assert_allclose(ds.defocus, [-2, -2, -2])
    assert ds.exposure_time.values.tolist() == [0.5] * 3
    assert ds.time.values.astype("M8[s]").astype(str).tolist() == [f"2022-12-05T{12 + k}:00:00" for k in range(3)]
    assert "stage_y" not in ds.coords  # 0: not set
    assert ds.acquisition["exposure_time"] == 0.5


def test_angles_stay_with_their_images(mrc):
    records = b"".join(fei_record(768, at_100_d=float(k + 1), at_12_d=44900.0) for k in range(4))
    write_mrc(mrc, numbered(4, 2, 4), extended=records, exttyp=b"FEI1")
    assert emio.imload(mrc, nav_shape=(2, 2)).tilt_angle.values.tolist() == [[1, 2], [3, 4]]
    assert emio.imload(mrc, partition=[3, 0]).tilt_angle.values.tolist() == [4, 1]
    shifted = emio.imload(mrc, sync_offset=3)
    np.testing.assert_array_equal(shifted.tilt_angle, [4, np.nan, np.nan, np.nan])
    assert np.isnat(shifted.time.values).tolist() == [False, True, True, True]


def test_bitmasks_are_little_endian_in_big_endian_files(mrc):
    record = bytearray(fei_record(768, ">"))
    struct.pack_into("<I", record, 8, 0x12345678)
    write_mrc(mrc, numbered(1, 2, 4), order=">", extended=bytes(record), exttyp=b"FEI1")
    assert emio.imload(mrc).metadata["fileheader"]["extended"]["bitmask 1"] == 0x12345678


@pytest.mark.parametrize(
    ("size", "step", "units"), [(2e-9, 2.0, "nm"), (0.5e-10, 0.05, "nm"), (2e8, 0.2, "1/nm"), (0.0, 7.0, "nm")]
)
def test_pixel_sizes_of_feis_records_are_metres_or_reciprocal_metres(mrc, size, step, units):
    record = fei_record(768, at_156_d=size, at_164_d=size)
    ds = emio.imload(write_mrc(mrc, numbered(1, 2, 4), step=(70, 70, 70), xorg=20, extended=record, exttyp=b"FEI1"))
    assert float(ds.x[1] - ds.x[0]) == pytest.approx(step)
    assert float(ds.x[0]) == (2 if units == "nm" else 0)
    assert ds.x.attrs["units"] == ds.y.attrs["units"] == units


def test_velox_scans_have_their_shape_and_the_calibration_of_the_detector(mrc):
    pixels = numbered(6, 4, 5, dtype="u2")
    extended = fei_record(**STEM_PATTERN) + fei_record() * 1023
    ds = emio.imload(write_mrc(mrc, pixels, ispg=1, extended=extended, exttyp=b"FEI2"))
    assert dict(ds.image.sizes) == {"y": 2, "x": 3, "v": 4, "u": 5}
    np.testing.assert_array_equal(ds.image.values.reshape(6, 4, 5), pixels)
    assert ds.metadata["spacing"] == pytest.approx({"v": 0.3, "u": 0.2})
    assert set(ds.metadata["spacing_units"].values()) == {"1/nm"}
    assert set(ds.coords) == {"v", "u"}  # records that nobody filled are no facts


def test_scans_of_more_points_than_records_are_read(mrc):
    extended = fei_record(**{**STEM_PATTERN, "at_595_i": 40, "at_599_i": 30}) + fei_record() * 1023
    ds = emio.imload(write_mrc(mrc, numbered(1200, 1, 2), extended=extended, exttyp=b"FEI2"))
    assert dict(ds.image.sizes) == {"y": 30, "x": 40, "v": 1, "u": 2}


def test_a_scan_area_of_another_size_is_that_of_a_single_image(mrc):
    record = fei_record(**{**STEM_PATTERN, "at_595_i": 256, "at_599_i": 256})
    assert emio.imload(write_mrc(mrc, numbered(1, 2, 3), extended=record, exttyp=b"FEI2")).image.dims == ("y", "x")
    write_mrc(mrc, numbered(6, 2, 3), extended=record, exttyp=b"FEI2")
    assert emio.imload(mrc).image.dims == ("i", "y", "x")


def test_circumstances_have_neutral_names(mrc):
    record = fei_record(
        at_20_16s=b"Titan",
        at_84_d=200000.0,
        at_108_d=2.0,
        at_124_d=-3e-6,
        at_289_d=5000.0,
        at_329_d=21.0,
        at_435_16s=b"BM-Ceta",
        at_519_16s=b"HAADF",
        at_244_i=1,
        at_571_d=2e-6,
    )
    facts = emio.imload(write_mrc(mrc, numbered(1, 2, 3), extended=record, exttyp=b"FEI2")).acquisition
    assert facts == {
        "beam_energy": 200,
        "magnification": 5000,
        "convergence_angle": 21,
        "instrument": "Titan",
        "detector": "BM-Ceta",
        "dwell_time": 2e-6,
        "stage": {"y": -3, "beta": 2},
    }


def test_feis_old_records_are_floats_in_metres_or_micrometres(mrc):
    def record(k, stage, defocus):
        values = (k, 0, stage, 0, 0, 0, 0, defocus, 2, 0, 0, 2e-9, 3000, 120000)
        return struct.pack("<14f", *values).ljust(128, b"\0")

    for stage, defocus in ((1e-6, -2e-6), (1.0, -2.0)):
        records = b"".join(record(k - 1, stage * (3 - k), defocus) for k in range(3)).ljust(131072, b"\0")
        ds = emio.imload(write_mrc(mrc, numbered(3, 2, 4), extended=records, step=(1, 1, 1)))
        assert ds.tilt_angle.values.tolist() == [-1, 0, 1]
        np.testing.assert_allclose(ds.stage_x, [3, 2, 1], rtol=1e-6)
        np.testing.assert_allclose(ds.defocus, -2, rtol=1e-6)
        assert ds.exposure_time.values.tolist() == [2, 2, 2]
        assert ds.metadata["spacing"] == pytest.approx({"y": 2, "x": 2})
        assert ds.acquisition["beam_energy"] == 120
        assert ds.acquisition["magnification"] == 3000


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [b"SERI", b""])
def test_serial_ems_records_have_the_items_that_their_flags_announce(mrc, order, kind):
    items = struct.Struct(order + "h3h2hhh2h")  # tilt, piece, stage, magnification, intensity, dose
    records = b"".join(items.pack(-100 * k, k, 2, 3, 50, -25, 36, 25000, 513, -515) for k in range(3))
    ds = emio.imload(write_mrc(mrc, numbered(3, 2, 4), order=order, extended=records, exttyp=kind, nint=20, nreal=63))
    assert ds.tilt_angle.values.tolist() == [0, -1, -2]
    assert ds.piece_x.values.tolist() == [0, 1, 2]
    assert ds.piece_z.values.tolist() == [3, 3, 3]
    assert (float(ds.stage_x[0]), float(ds.stage_y[0])) == (2, -1)
    assert ds.stage_x.attrs["units"] == "µm"
    assert ds.magnification.values.tolist() == [3600] * 3
    assert ds.intensity.values.tolist() == [1] * 3
    # (256 * 513 + 515 mod 256) * 2 ** -(515 // 256)
    assert ds.dose.values.tolist() == [(256 * 513 + 3) / 4] * 3


def test_some_items_of_serial_em_are_enough(mrc):
    records = struct.pack("<6h", 4500, 10, -4500, 20, 0, 30)
    ds = emio.imload(write_mrc(mrc, numbered(3, 2, 4), extended=records, exttyp=b"SERI", nint=4, nreal=9))
    assert ds.tilt_angle.values.tolist() == [45, -45, 0]
    padded = records.ljust(131072, b"\0")  # as many bytes as FEI's old records have
    ds = emio.imload(write_mrc(mrc, numbered(3, 2, 4), extended=padded, nint=4, nreal=9))
    assert ds.tilt_angle.values.tolist() == [45, -45, 0]
    assert ds.magnification.values.tolist() == [1000, 2000, 3000]


def test_records_after_agard_have_integers_first(mrc):
    records = b"".join(struct.pack("<i3f", 7, 10.0 * k, 0, 5) for k in range(3))
    ds = emio.imload(write_mrc(mrc, numbered(3, 2, 4), extended=records, exttyp=b"AGAR", nint=1, nreal=3))
    assert ds.tilt_angle.values.tolist() == [0, 10, 20]
    assert ds.stage_x.values.tolist() == [5, 5, 5]
    # sizes that do not add up to nint are those of Agard, too
    ds = emio.imload(write_mrc(mrc, numbered(3, 2, 4), extended=records, exttyp=b"SERI", nint=1, nreal=3))
    assert ds.tilt_angle.values.tolist() == [0, 10, 20]


@pytest.mark.parametrize(
    ("extended", "fields"),
    [
        (bytes(100), {"exttyp": b"FEI1"}),
        (bytes(40), {"exttyp": b"SERI", "nint": 30, "nreal": 63}),
        (bytes(400), {"exttyp": b"SERI", "nint": 200, "nreal": 63}),
        (bytes(40), {"exttyp": b"SERI", "nint": 20, "nreal": 63}),
        (bytes(40), {"exttyp": b"AGAR", "nint": 1, "nreal": 3}),
        (bytes(40), {"exttyp": b"AGAR", "nint": -1, "nreal": 7}),
        (bytes(8), {"exttyp": b"AGAR", "nint": 1, "nreal": 7}),
        (bytes(8), {"nint": 2, "nreal": 77}),
    ],
)
def test_extended_headers_that_do_not_hold_what_they_promise_are_ignored_with_a_warning(mrc, extended, fields):
    pixels = numbered(3, 2, 4)
    with pytest.warns(EmioWarning, match="extended header"):
        ds = emio.imload(write_mrc(mrc, pixels, extended=extended, **fields))
    np.testing.assert_array_equal(ds.image, pixels)
    assert not ds.coords


@pytest.mark.parametrize("kind", [b"CCP4", b"MRCO", b"HDF5", b"XXXX", b""])
def test_extended_headers_without_records_are_skipped(mrc, kind):
    pixels = numbered(3, 2, 4)
    ds = emio.imload(write_mrc(mrc, pixels, extended=b"X,  Y,  Z".ljust(160), exttyp=kind))
    np.testing.assert_array_equal(ds.image, pixels)


def test_volumes_have_no_facts_of_images(mrc):
    records = b"".join(fei_record(768, at_100_d=1.0) for _ in range(3))
    assert (
        "tilt_angle"
        not in emio.imload(write_mrc(mrc, numbered(3, 2, 4), ispg=1, extended=records, exttyp=b"FEI1")).coords
    )


# Packed files --------------------------------------------------------------------------------------------------------

PACKINGS = {".gz": gzip.compress, ".bz2": bz2.compress}


@pytest.fixture(params=PACKINGS)
def pack(request, tmp_path):
    """Pack a file; returns its new name."""

    def packed(path, name=None, content=None):
        content = PACKINGS[request.param](path.read_bytes()) if content is None else content
        result = tmp_path / (name or path.name + request.param)
        result.write_bytes(content)
        return result

    packed.compress = PACKINGS[request.param]
    return packed


@pytest.mark.parametrize("mode", KINDS)
def test_packed_files_are_read_as_what_is_in_them(mrc, pack, mode):
    pixels = of_mode(mode)
    path = pack(write_mrc(mrc, pixels, mode=mode, extended=bytes(80), trailing=b"more"))
    ds = emio.imload(path, output_axis_order=None)
    np.testing.assert_array_equal(ds.image, pixels)
    np.testing.assert_array_equal(ds.image[1:, ::2], pixels[1:, ::2])


@pytest.mark.parametrize("name", ["a.mrc.GZ", "a.packed", "a.mrc"])
def test_packed_files_are_recognised_by_their_content(mrc, pack, name):
    path = pack(write_mrc(mrc, numbered(2, 3, 4)), name)
    assert emio.detect(path).format == "mrc"
    assert emio.imload(path).image.shape == (2, 3, 4)


def test_names_of_packed_files_are_those_from_before(tmp_path, pack):
    old = write_mrc(tmp_path / "a.mrcs", numbered(4, 3, 4), ispg=1, map=b"")
    assert axes_of(emio.imload(pack(old)).image) == "iyx"


def test_other_packed_files_are_not_recognised(tmp_path, pack):
    (tmp_path / "a.mrc").write_bytes(b"text " * 1000)
    with pytest.raises(EmioError):
        emio.imload(pack(tmp_path / "a.mrc"))
    with pytest.raises(UnknownFormatError):
        emio.imload(pack(tmp_path / "a.mrc", "a.txt.gz"))


def test_opening_unpacks_no_more_than_the_beginning_and_reading_everything_once(mrc, monkeypatch):
    content = write_mrc(mrc, numbered(64, 256, 256)).read_bytes()  # 8 MB
    path = mrc.with_suffix(".gz")
    path.write_bytes(gzip.compress(content))
    lengths = []
    taken = unpacked.Stream._next

    def counting(stream):
        piece = taken(stream)
        lengths.append(len(piece))
        return piece

    monkeypatch.setattr(unpacked.Stream, "_next", counting)
    ds = emio.imload(path)
    assert sum(lengths) < 3e6
    np.testing.assert_array_equal(ds.image[63], numbered(64, 256, 256)[63])
    np.testing.assert_array_equal(ds.image, numbered(64, 256, 256))
    assert sum(lengths) == len(content)


def test_large_content_goes_through_a_temporary_file(mrc, pack, monkeypatch):
    monkeypatch.setattr(unpacked, "MEMORY_BYTES", 1000)
    pixels = numbered(20, 30, 40)
    path = pack(write_mrc(mrc, pixels))
    np.testing.assert_array_equal(emio.imload(path).image, pixels)


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_packed_pixels_travel_by_name(mrc, pack, scheduler):
    pixels = numbered(6, 30, 40)
    image = emio.imload(pack(write_mrc(mrc, pixels)), chunks="frame").image
    assert len(pickle.dumps(image.data)) < 20_000
    with dask.config.set(scheduler=scheduler, num_workers=2):
        np.testing.assert_array_equal(image.compute(), pixels)


def test_a_packed_file_that_changes_is_unpacked_anew(mrc, pack):
    first, second = numbered(2, 3, 4), numbered(2, 3, 4) + 5
    path = pack(write_mrc(mrc, first))
    np.testing.assert_array_equal(emio.imload(path).image, first)
    pack(write_mrc(mrc, np.concatenate([second, second])))
    np.testing.assert_array_equal(emio.imload(path).image[:2], second)


def test_remote_packed_files_are_read(mrc, pack):
    import fsspec

    pixels = numbered(2, 3, 4)
    packed = pack(write_mrc(mrc, pixels))
    with fsspec.open(f"memory://mrc/{packed.name}", "wb") as remote:
        remote.write(packed.read_bytes())
    np.testing.assert_array_equal(emio.imload(f"memory://mrc/{packed.name}").image, pixels)


@pytest.mark.parametrize("left", [200, 2000])
def test_a_packed_file_that_ends_early_is_refused(mrc, pack, left):
    pixels = np.random.default_rng(1).integers(0, 30000, (10, 20, 30)).astype("i2")
    content = pack.compress(write_mrc(mrc, pixels).read_bytes())
    path = pack(mrc, content=content[:left] if left == 200 else content[:-left])
    with pytest.raises(EmioError, match=r"a\.mrc"):
        emio.imload(path)


def test_complete_frames_of_a_packed_file_that_ends_early_can_be_opened(mrc):
    pixels = np.random.default_rng(1).integers(0, 30000, (10, 20, 30)).astype("i2")
    path = mrc.with_suffix(".mrc.gz")
    path.write_bytes(gzip.compress(write_mrc(mrc, pixels).read_bytes())[:-5000])
    with pytest.raises(TruncatedError, match=r"nav_shape=\((\d+),\)") as refusal:
        emio.imload(path)
    count = int(str(refusal.value).rpartition("nav_shape=(")[2].split(",")[0])
    assert 0 < count < 10
    np.testing.assert_array_equal(emio.imload(path, nav_shape=count).image, pixels[:count])


def test_a_packed_file_that_is_cut_behind_the_length_is_refused_when_it_is_read(mrc):
    content = write_mrc(mrc, numbered(10, 20, 30)).read_bytes()
    path = mrc.with_suffix(".mrc.gz")
    stream = gzip.compress(content)
    path.write_bytes(stream[: len(stream) // 2] + stream[-4:])  # only the length at the end is as it should be
    with pytest.raises(StorageError, match=r"a\.mrc"):
        emio.imload(path, chunks=None)


@pytest.mark.parametrize("at", [-6, 2000])
def test_a_broken_packed_file_is_refused(mrc, pack, at):
    pixels = np.random.default_rng(1).integers(0, 30000, (10, 20, 30)).astype("i2")
    content = bytearray(pack.compress(write_mrc(mrc, pixels).read_bytes()))
    content[at] ^= 0xFF
    with pytest.raises(StorageError, match="broken"):
        emio.imload(pack(mrc, content=bytes(content)), chunks=None)


def test_packed_headers_that_claim_more_than_there_is_are_refused(mrc, pack):
    write_mrc(mrc, numbered(2, 3, 4), nz=2**31 - 1)
    with pytest.raises(TruncatedError, match="2 complete"):
        emio.imload(pack(mrc))


def test_backends_are_for_files_that_are_not_packed(mrc, pack):
    with pytest.raises(ArgumentError, match="packed"):
        emio.imload(pack(write_mrc(mrc, numbered(2, 3, 4))), io_backend="direct")


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": 5}, "mode 5 is unknown.*101"),
        ({"mode": 1002}, "MRCZ"),
        ({"mode": 3006}, "MRCZ"),
        ({"nx": 0}, "nx=0"),
        ({"ny": -4}, "ny=-4"),
        ({"nz": 0}, "nz=0"),
        ({"nsymbt": -1}, "nsymbt = -1"),
        ({"nsymbt": 10**6}, "nsymbt = 1000000"),
    ],
)
def test_impossible_headers_are_refused(mrc, fields, message):
    with pytest.raises(HeaderError, match=message):
        emio.imload(write_mrc(mrc, numbered(2, 3, 4), **fields))


@pytest.mark.parametrize("content", [b"", b"short", bytes(1023), bytes(2000), b"text " * 500])
def test_what_is_no_mrc_file_is_refused(mrc, content):
    mrc.write_bytes(content)
    with pytest.raises(EmioError, match=r"a\.mrc"):
        emio.imload(mrc)


def test_a_file_that_ends_early_says_what_is_there_and_how_to_open_it(mrc):
    pixels = numbered(5, 3, 4)
    write_mrc(mrc, pixels, cut=30)
    with pytest.raises(TruncatedError, match=r"3 complete.*says 5.*nav_shape=\(3,\)"):
        emio.imload(mrc)
    np.testing.assert_array_equal(emio.imload(mrc, nav_shape=3).image, pixels[:3])
    with pytest.warns(EmioWarning, match="1 of 4"):
        ds = emio.imload(mrc, nav_shape=(2, 2))
    np.testing.assert_array_equal(ds.image[1], [pixels[2], np.zeros((3, 4))])


@pytest.mark.parametrize("fields", [{"nz": 2**31 - 1}, {"nx": 2**31 - 1, "ny": 2**31 - 1, "nz": 2**31 - 1}])
def test_headers_that_claim_the_world_are_refused(mrc, fields):
    with pytest.raises(TruncatedError):
        emio.imload(write_mrc(mrc, numbered(2, 3, 4), **fields))


def test_not_one_frame_is_not_enough(mrc):
    write_mrc(mrc, numbered(1, 3, 4), cut=1)
    for nav_shape in (None, 1):
        with pytest.raises(TruncatedError, match="0 complete"):
            emio.imload(mrc, nav_shape=nav_shape)


def test_unknown_arguments_are_refused(mrc):
    with pytest.raises(TypeError, match="endianess"):
        emio.imload(write_mrc(mrc, numbered(2, 3, 4)), endianness=">")


# Laziness ------------------------------------------------------------------------------------------------------------


def test_bytes_behind_the_pixels_are_ignored(mrc):
    pixels = numbered(2, 3, 4)
    np.testing.assert_array_equal(emio.imload(write_mrc(mrc, pixels, trailing=bytes(77))).image, pixels)


def test_remote_files_are_read_with_their_facts(mrc):
    import fsspec

    records = b"".join(fei_record(768, at_100_d=float(k + 1)) for k in range(3))
    pixels = numbered(3, 20, 30)
    write_mrc(mrc, pixels, extended=records, exttyp=b"FEI1")
    with fsspec.open("memory://mrc/plain.mrc", "wb") as remote:
        remote.write(mrc.read_bytes())
    ds = emio.imload("memory://mrc/plain.mrc")
    np.testing.assert_array_equal(ds.image, pixels)
    assert ds.tilt_angle.values.tolist() == [1, 2, 3]


@pytest.mark.parametrize("mode", [2, 3, 12, 101])
def test_sums_of_all_modes_are_those_of_the_pixels(mrc, mode):
    pixels = of_mode(mode, (6, 8, 10))
    image = emio.imload(write_mrc(mrc, pixels, mode=mode), nav_shape=(2, 3)).image
    np.testing.assert_allclose(image.sum(("v", "u"), dtype="c16"), pixels.reshape(2, 3, 80).sum(-1, dtype="c16"))
    if mode != 3:
        total = image.emio.sum(("y", "x")).values
        np.testing.assert_allclose(total, pixels.sum(0, dtype="f8"), rtol=1e-3)


def test_sources_can_be_written_down_and_read_back(mrc):
    import intake

    write_mrc(mrc, of_mode(0))
    source = intake.open_emio_mrc(str(mrc), dtype=np.uint8, virtual_images=[])
    again = pickle.loads(pickle.dumps(source))
    assert again == source
    assert again.read().image.dtype == np.uint8
    mrc.with_suffix(".yml").write_text(source.yaml())
    catalog = intake.open_catalog(str(mrc.with_suffix(".yml")))
    np.testing.assert_array_equal(catalog["emio_mrc"].read().image, source.read().image)


# Other programs ------------------------------------------------------------------------------------------------------


@pytest.mark.peers
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("mode", [0, 1, 2, 4, 6, 12])
def test_mrcfile_reads_the_same(mrc, mode, order):
    mrcfile = pytest.importorskip("mrcfile")
    write_mrc(mrc, of_mode(mode), mode=mode, order=order)
    with mrcfile.open(mrc) as peer:
        ours = emio.imload(mrc).image
        assert ours.dtype == peer.data.dtype.newbyteorder("=")
        np.testing.assert_array_equal(ours, peer.data)


@pytest.mark.peers
@pytest.mark.parametrize("compression", ["gzip", "bzip2", None])
@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f4", "c8", "f2"])
def test_what_mrcfile_writes_is_read(mrc, dtype, compression):
    mrcfile = pytest.importorskip("mrcfile")
    pixels = numbered(4, 5, 6, dtype=dtype)
    with mrcfile.new(mrc, compression=compression) as peer:
        peer.set_data(pixels)
        peer.set_volume()
        peer.voxel_size = (10, 20, 30)
    ds = emio.imload(mrc)
    assert axes_of(ds.image) == "zyx"
    assert ds.image.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(ds.image, pixels)
    assert ds.metadata["spacing"] == pytest.approx({"x": 1, "y": 2, "z": 3})


@pytest.mark.peers
@pytest.mark.parametrize("mode", [1, 2, 6])
def test_ncempy_reads_the_same(mrc, mode):
    peer = pytest.importorskip("ncempy.io.mrc")
    path = write_mrc(mrc, of_mode(mode), mode=mode, step=(20, 20, 20), ispg=1)
    read = peer.mrcReader(str(path))
    ds = emio.imload(path)
    np.testing.assert_array_equal(ds.image, read["data"])
    np.testing.assert_allclose([ds.metadata["spacing"][a] * 10 for a in "zyx"], read["pixelSize"], rtol=1e-6)


@pytest.mark.peers
@pytest.mark.parametrize("name", [name for name in REAL if "#" not in name])
def test_rosettasciio_reads_the_same(real_files, name):
    peer = pytest.importorskip("rsciio.mrc")
    files = real_files("mrc")
    arguments = {}
    if name.startswith("ROI_Random_Scan_movie"):  # whose name it does not take for that of a movie
        stem = files.path("ROI_Random_Scan")
        arguments = {"metadata_file": f"{stem}_info.txt", "scan_file": f"{stem}_scan_coordinates.csv"}
    theirs = peer.file_reader(files.path(name), **arguments)[0]["data"]
    np.testing.assert_array_equal(emio.imload(files.path(name)).image, theirs)


@pytest.mark.peers
@pytest.mark.parametrize("mode", [1, 2, 6])
def test_libertem_reads_the_same_stacks(mrc, mode):
    api = pytest.importorskip("libertem.api")
    path = write_mrc(mrc, of_mode(mode, (6, 8, 10)), mode=mode, mz=1)
    with api.Context.make_with("inline") as context:
        dataset = context.load("mrc", path=str(path))
        total = context.run(context.create_sum_analysis(dataset=dataset)).intensity.raw_data
    np.testing.assert_allclose(emio.imload(path).image.sum("i", dtype="f8"), total, rtol=1e-5)
