"""Reading NanoMegas blockfiles."""

import hashlib
import json
import os
import pickle
import struct
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import intake_emio as emio
from intake_emio.errors import ArgumentError, HeaderError, MissingFileError, TruncatedError
from intake_emio.formats.blo import BloSource

from .encoders.blo import HEADER_FIELDS, write_blo

# A 2 x 3 scan of 2 x 2 patterns, steps of 4 nm and 2.5 nm, 0.02 cm per pixel, worked by hand
WORKED = (
    bytes.fromhex(
        "49 4d 47 42 4c 4f 02 01 00 10 00 00 10 10 00 00 45 00 02 00 02 00 00 00 03 00 02 00 00 00 00 00"
        "00 00 00 00 04 40 00 00 00 00 00 00 10 40 00 00 00 00 88 13 00 00 00 00 00 00 00 00 80 f8 d8 40"
    ).ljust(4096, b"\0")
    + bytes.fromhex("01 05 09 0d 11 15").ljust(16, b"\0")
    + bytes.fromhex("aa 55 00 00 00 00 00 01 02 03 aa 55 01 00 00 00 04 05 06 07 aa 55 02 00 00 00 08 09 0a 0b")
    + bytes.fromhex("aa 55 03 00 00 00 0c 0d 0e 0f aa 55 04 00 00 00 10 11 12 13 aa 55 05 00 00 00 14 15 16 17")
)
NOTE = "Precession angle : \r\nPrecession Frequency : \r\nCamera gamma : on"


def patterns(ny=3, nx=4, size=6, dtype="u1"):
    """Every value of the type may occur, so that a swapped or shifted byte shows."""
    limit = np.iinfo(dtype).max
    return np.random.default_rng(5).integers(0, limit, (ny, nx, size, size), dtype, endpoint=True)


def numbered(ny, nx):
    """1 x 1 patterns whose pixel is the number of the frame, counted from 1."""
    return np.arange(1, ny * nx + 1, dtype="u1").reshape(ny, nx, 1, 1)


@pytest.fixture
def blo(tmp_path):
    return tmp_path / "scan.blo"


def test_the_file_worked_by_hand_is_read(blo):
    blo.write_bytes(WORKED)
    ds = emio.imload(blo)
    assert ds.image.dims == ("y", "x", "v", "u")
    assert ds.image.dtype == np.uint8
    assert ds.image.values.tolist() == np.arange(24).reshape(2, 3, 2, 2).tolist()
    assert ds.navigator.dims == ("y", "x")
    assert ds.navigator.values.tolist() == [[1, 5, 9], [13, 17, 21]]
    assert ds.y.values.tolist() == [0, 4]
    assert ds.x.values.tolist() == [0, 2.5, 5]
    assert ds.v.values.tolist() == ds.u.values.tolist() == [0, 0.02]
    assert ds.attrs["metadata"]["spacing_units"] == {"y": "nm", "x": "nm", "v": "cm", "u": "cm"}
    assert ds.attrs["acquisition"]["start_time"] == "1970-01-02T00:00:00.000"


def test_the_worked_file_is_what_the_encoder_writes(blo):
    means = [[1, 5, 9], [13, 17, 21]]
    pixels = np.arange(24, dtype="u1").reshape(2, 3, 2, 2)
    write_blo(blo, pixels, steps=(4, 2.5), pixels_per_cm_x100=5000, navigator=means, acquisition_time=25570)
    assert blo.read_bytes() == WORKED


# Recognising it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scan.blo", "SCAN.BLO", "scan.raw", "scan.npy", "scan"])
def test_a_blockfile_is_recognised_whatever_it_is_called(tmp_path, name):
    found = emio.detect(write_blo(tmp_path / name, patterns()))
    assert found.format == "blo"
    assert "IMGBLO" in found.reason
    assert emio.imload(tmp_path / name).attrs["format"] == "blo"


# Pixels and byte order -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [None, "auto", "frame"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize(("magic", "dtype"), [(258, "u1"), (259, "u1"), (259, "u2")])
def test_pixels_of_all_versions_are_read_in_native_order(blo, magic, dtype, byte_order, chunks):
    pixels = patterns(dtype=dtype)
    write_blo(blo, pixels, magic=magic, byte_order=byte_order)
    ds = emio.imload(blo, chunks=chunks, endianess=byte_order)
    assert ds.image.dtype == np.dtype(dtype)
    assert ds.image.dtype.isnative
    np.testing.assert_array_equal(ds.image, pixels)


@pytest.mark.parametrize("io_backend", ["mmap", "buffered", "direct"])
def test_all_ways_to_the_disk_read_the_same(blo, io_backend):
    pixels = patterns(dtype="u2")
    write_blo(blo, pixels, magic=259, data_offset_1=4101, data_offset_2=4203)
    try:
        image = emio.imload(blo, chunks=None, io_backend=io_backend).image
    except emio.EmioError as error:
        if "file system cannot do direct reads" not in str(error):
            raise
        pytest.skip(str(error))
    np.testing.assert_array_equal(image, pixels)


def test_a_remote_blockfile_reads_as_a_local_one(blo):
    fsspec = pytest.importorskip("fsspec")
    pixels = patterns()
    write_blo(blo, pixels, steps=(1, 2))
    with fsspec.open("memory://blo/scan.blo", "wb") as file:
        file.write(blo.read_bytes())
    np.testing.assert_array_equal(emio.imload("memory://blo/scan.blo").image, pixels)


@pytest.mark.parametrize("asked", ["<", ">"])
@pytest.mark.parametrize("stored", ["<", ">"])
def test_the_version_number_decides_the_byte_order_and_it_is_recorded(blo, stored, asked):
    pixels = patterns(dtype="u2")
    write_blo(blo, pixels, magic=259, byte_order=stored, steps=(3, 5))
    ds = emio.imload(blo, endianess=asked)
    np.testing.assert_array_equal(ds.image, pixels)
    assert ds.attrs["metadata"]["fileheader"]["endianess"] == stored
    assert ds.attrs["metadata"]["spacing"]["y"] == 3


def test_both_spellings_of_endianess_are_accepted(blo):
    write_blo(blo, patterns(), byte_order=">")
    assert BloSource(blo, endianness=">").endianess == BloSource(blo, endianess=">").endianess == ">"


@pytest.mark.parametrize("argument", ["endianess", "endianness"])
@pytest.mark.parametrize("value", ["big", "=", "|", "<>"])
def test_other_byte_orders_are_refused(blo, argument, value):
    write_blo(blo, patterns())
    with pytest.raises(ArgumentError, match="'<', '>'"):
        emio.imload(blo, **{argument: value})


@pytest.mark.parametrize(
    ("magic", "note", "bits"),
    [
        (259, "", 8),
        (259, "Blo Bit Depth: 8 bits", 8),
        (259, "Blo Bit Depth: 16 bits", 16),
        (259, "BLO BIT DEPTH: 16 BITS", 16),
        (259, f"{NOTE}\r\nblo bit depth:16 bits\r\nmore", 16),
        (259, "Bit Depth: 16 bits", 8),
        (259, "Blo Bit Depth: many bits", 8),
        (258, "Blo Bit Depth: 16 bits", 8),
    ],
)
def test_only_version_259_with_the_line_in_its_note_has_16_bits(blo, magic, note, bits):
    pixels = patterns(dtype=f"u{bits // 8}")
    write_blo(blo, pixels, magic=magic, note=note)
    np.testing.assert_array_equal(emio.imload(blo).image, pixels)


# Calibration ---------------------------------------------------------------------------------------------------------


def test_scan_steps_are_in_nm_and_each_axis_has_its_own(blo):
    write_blo(blo, patterns(), steps=(12.8, 0.5))
    ds = emio.imload(blo)
    np.testing.assert_allclose(ds.y, [0, 12.8, 25.6])
    np.testing.assert_allclose(ds.x, [0, 0.5, 1, 1.5])
    assert ds.y.attrs == ds.x.attrs == {"units": "nm"}


def test_detector_pixels_are_in_cm(blo):
    write_blo(blo, patterns(), pixels_per_cm_x100=6226)
    ds = emio.imload(blo)
    np.testing.assert_allclose(ds.v[1], 0.016061676839, rtol=1e-10)
    np.testing.assert_array_equal(ds.v, ds.u)
    assert ds.v.attrs == ds.u.attrs == {"units": "cm"}


@pytest.mark.parametrize("step", [0, np.nan, np.inf, -np.inf])
def test_steps_that_are_none_make_no_coordinate_on_that_axis(blo, step):
    write_blo(blo, patterns(), steps=(step, 2))
    assert set(emio.imload(blo).coords) == {"x"}
    write_blo(blo, patterns(), steps=(2, step))
    assert set(emio.imload(blo).coords) == {"y"}


def test_no_pixels_per_cm_makes_no_coordinates_on_the_detector(blo):
    write_blo(blo, patterns(), steps=(1, 1), pixels_per_cm_x100=0)
    assert set(emio.imload(blo).coords) == {"y", "x"}


# Facts ---------------------------------------------------------------------------------------------------------------


def test_acquisition_is_in_the_units_of_all_formats(blo):
    write_blo(blo, patterns(), beam_energy=200_000, camera_length=2000, header={"Scan_rotation": 2500})
    facts = emio.imload(blo).attrs["acquisition"]
    assert facts == {"beam_energy": 200.0, "camera_length": 200.0, "scan_rotation": 25.0}


@pytest.mark.parametrize(
    ("days", "start"),
    [
        (42339.653470046294, "2015-12-01T15:40:59.812"),
        (25570.0, "1970-01-02T00:00:00.000"),
        (1.5, "1899-12-31T12:00:00.000"),
        (0, None),
        (np.nan, None),
        (np.inf, None),
        (-np.inf, None),
        (1e9, None),
        (-1e9, None),
        (1e300, None),
    ],
)
def test_the_start_is_a_date_if_a_calendar_holds_it(blo, days, start):
    write_blo(blo, patterns(), acquisition_time=days)
    assert emio.imload(blo).attrs["acquisition"].get("start_time") == start


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="time zones cannot be changed here")
def test_the_start_does_not_depend_on_the_machine(blo, monkeypatch):
    write_blo(blo, patterns(), acquisition_time=42339.653470046294)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert emio.imload(blo).attrs["acquisition"]["start_time"] == "2015-12-01T15:40:59.812"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_every_field_of_the_header_is_kept_under_its_name(blo):
    given = {"UNKNOWN1": 131135, "DP_rotation": 17, "Distortion_N01": 0.98, "Distortion_N09": 0.945, "Centering_N7": -2}
    write_blo(blo, patterns(), note=NOTE, header=given)
    header = emio.imload(blo).attrs["metadata"]["fileheader"]
    assert {name for name, _ in HEADER_FIELDS} | {"Note"} <= set(header)
    assert {name: header[name] for name in given} == given
    assert header["ID"] == "IMGBLO"
    assert (header["NX"], header["NY"], header["DP_SZ"]) == (4, 3, 6)


def test_attributes_are_json_even_with_odd_numbers_in_the_header(blo):
    write_blo(blo, patterns(), steps=(np.nan, np.inf), acquisition_time=np.nan, note="\xff\r\n\t")
    assert json.loads(json.dumps(emio.imload(blo).attrs, allow_nan=False))["format"] == "blo"


@pytest.mark.parametrize(
    ("stored", "note"),
    [
        (NOTE.encode(), NOTE),
        (b"\0\0\0" + NOTE.encode() + b"\0", NOTE),
        (b"Camera \xb5m \xe9\r\n", "Camera µm é\r\n"),
        (b"a\0b", "a\0b"),
        (b" blanks stay ", " blanks stay "),
        (b"", ""),
    ],
)
def test_the_note_is_latin_1_without_the_zeros_around_it(blo, stored, note):
    write_blo(blo, patterns(), note=stored)
    assert emio.imload(blo).attrs["metadata"]["fileheader"]["Note"] == note


def test_the_note_ends_where_the_navigator_begins(blo):
    write_blo(blo, numbered(1, 2), note=b"abc" * 100, data_offset_1=250, navigator=[[65, 66]])
    assert emio.imload(blo).attrs["metadata"]["fileheader"]["Note"] == "abcabcabca"


# Virtual bright field ------------------------------------------------------------------------------------------------


def test_the_stored_bright_field_is_the_navigator(blo):
    bright = np.arange(12, dtype="u1").reshape(3, 4) + 100
    write_blo(blo, patterns(), navigator=bright, steps=(1, 2))
    ds = emio.imload(blo)
    assert ds.navigator.dtype == np.uint8
    np.testing.assert_array_equal(ds.navigator, bright)
    np.testing.assert_array_equal(ds.navigator.x, [0, 2, 4, 6])


@pytest.mark.parametrize(
    "offsets",
    [
        {"data_offset_1": 4096, "data_offset_2": 4096 + 11},  # one byte short
        {"data_offset_1": 4096, "data_offset_2": 4096},
        {"data_offset_1": 5000, "data_offset_2": 4096},
        {"header": {"Data_offset_1": 100}},
        {"header": {"Data_offset_1": 2**32 - 1}},
    ],
)
def test_without_room_for_it_there_is_no_navigator_but_the_image_is_right(blo, offsets):
    pixels = patterns()
    write_blo(blo, pixels, **offsets)
    ds = emio.imload(blo)
    assert set(ds.data_vars) == {"image"}
    np.testing.assert_array_equal(ds.image, pixels)


def test_16_bit_files_have_no_navigator(blo):
    write_blo(blo, patterns(dtype="u2"), magic=259, navigator=np.ones((3, 4)))
    assert set(emio.imload(blo).data_vars) == {"image"}


def test_the_navigator_follows_sync_offset_partition_and_order(blo):
    write_blo(blo, numbered(2, 3), navigator=[[1, 2, 3], [4, 5, 6]])
    assert emio.imload(blo, sync_offset=1).navigator.values.tolist() == [[2, 3, 4], [5, 6, 0]]
    assert emio.imload(blo, sync_offset=-1).navigator.values.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert emio.imload(blo, partition={"x": 1}).navigator.values.tolist() == [2, 5]
    assert emio.imload(blo, output_axis_order="xyvu").navigator.values.tolist() == [[1, 4], [2, 5], [3, 6]]


def test_another_scan_shape_leaves_the_navigator_out(blo):
    write_blo(blo, numbered(2, 3), navigator=[[1, 2, 3], [4, 5, 6]])
    assert "navigator" not in emio.imload(blo, nav_shape=(3, 2))
    assert "navigator" not in emio.imload(blo, nav_shape=6)


# Variants and quirks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("magic", [0, 257, 260, 65535])
def test_an_unknown_version_is_read_with_a_warning_if_the_sizes_fit(blo, magic, byte_order):
    pixels = patterns()
    write_blo(blo, pixels, magic=magic, byte_order=byte_order)
    with pytest.warns(emio.EmioWarning, match=rf"scan.blo.*version {magic}"):
        image = emio.imload(blo).image
    np.testing.assert_array_equal(image, pixels)


def test_an_unknown_version_whose_sizes_do_not_fit_is_refused(blo):
    write_blo(blo, patterns(), magic=260, frames_written=11)
    with pytest.raises(HeaderError, match=r"scan\.blo.*MAGIC is 260"):
        emio.imload(blo)


@pytest.mark.parametrize(
    ("written", "extra", "missing"),
    [(11, 0, 1), (5, 0, 7), (1, 0, 11), (5, 41, 7), (11, 6, 1), (1, 1, 11)],
)
@pytest.mark.parametrize("chunks", [None, {"y": 2}])
def test_frames_of_a_scan_that_was_stopped_are_blank_and_counted(blo, written, extra, missing, chunks):
    pixels = patterns()
    write_blo(blo, pixels, frames_written=written, trailing=b"\x55" * extra, navigator=np.full((3, 4), 9))
    with pytest.warns(emio.EmioWarning, match=rf"scan\.blo: {missing} of 12 frames are missing"):
        ds = emio.imload(blo, chunks=chunks)
    expected = pixels.reshape(12, 6, 6).copy()
    expected[written:] = 0
    np.testing.assert_array_equal(ds.image, expected.reshape(3, 4, 6, 6))
    assert (ds.navigator == 9).all()


@pytest.mark.parametrize("trailing", [b"\xff", b"\xff" * 42, b"\xff" * 1000])
def test_bytes_behind_the_last_frame_are_ignored(blo, trailing):
    pixels = patterns()
    write_blo(blo, pixels, trailing=trailing)
    np.testing.assert_array_equal(emio.imload(blo).image, pixels)


@pytest.mark.parametrize(
    "frame_headers",
    [{"markers": 0}, {"markers": 0xAA55}, {"numbers": 0}, {"numbers": np.arange(12)[::-1]}, {"numbers": 2**32 - 1}],
)
def test_markers_and_numbers_of_frames_do_not_matter(blo, frame_headers):
    pixels = patterns()
    write_blo(blo, pixels, **frame_headers)
    np.testing.assert_array_equal(emio.imload(blo).image, pixels)


@pytest.mark.parametrize(
    ("offset_1", "offset_2", "dtype"),
    [
        (240, 252, "u1"),
        (241, 253, "u1"),
        (1000, 1012, "u1"),
        (4096, 100_001, "u1"),
        (240, 240, "u1"),
        (270, 282, "u2"),
        (271, 283, "u2"),
        (4096, 4109, "u2"),
    ],
)
def test_the_offsets_are_followed_wherever_they_point(blo, offset_1, offset_2, dtype):
    pixels = patterns(dtype=dtype)
    write_blo(blo, pixels, magic=259, data_offset_1=offset_1, data_offset_2=offset_2)
    np.testing.assert_array_equal(emio.imload(blo).image, pixels)


@pytest.mark.parametrize(("ny", "nx", "size"), [(1, 5, 4), (5, 1, 4), (1, 1, 4), (1, 1, 1), (2, 2, 1)])
def test_axes_of_length_one_are_kept(blo, ny, nx, size):
    pixels = patterns(ny, nx, size)
    write_blo(blo, pixels)
    image = emio.imload(blo).image
    assert image.dims == ("y", "x", "v", "u")
    np.testing.assert_array_equal(image, pixels)


# Arguments -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nav_shape", "dims", "calibrated"),
    [
        ((12,), "iyx", "yx"),
        (12, "iyx", "yx"),
        ("(2, 6)", "yxvu", "vu"),
        ((3, 4), "yxvu", "yxvu"),
        ((1, 3, 4), "iyxvu", "yxvu"),
        ((2, 3, 2), "iyxvu", "vu"),
    ],
)
def test_nav_shape_names_the_axes_and_keeps_only_calibration_that_still_holds(blo, nav_shape, dims, calibrated):
    pixels = patterns()
    write_blo(blo, pixels, steps=(1, 2), pixels_per_cm_x100=100)
    image = emio.imload(blo, nav_shape=nav_shape).image
    assert "".join(image.dims) == dims
    assert set(image.coords) == set(calibrated)
    assert image.coords[dims[-1]].attrs["units"] == "cm"
    np.testing.assert_array_equal(image.values.reshape(12, 6, 6), pixels.reshape(12, 6, 6))


def test_a_smaller_nav_shape_takes_the_first_frames(blo):
    write_blo(blo, numbered(3, 4))
    assert emio.imload(blo, nav_shape=(2, 2)).image.values.ravel().tolist() == [1, 2, 3, 4]


def test_a_larger_nav_shape_is_blank_behind_and_says_so(blo):
    write_blo(blo, numbered(2, 2))
    with pytest.warns(emio.EmioWarning, match="2 of 6 frames"):
        image = emio.imload(blo, nav_shape=(2, 3)).image
    assert image.values.ravel().tolist() == [1, 2, 3, 4, 0, 0]


@pytest.mark.parametrize(
    ("offset", "expected"), [(0, [1, 2, 3, 4]), (1, [2, 3, 4, 0]), (-1, [0, 1, 2, 3]), (3, [4, 0, 0, 0])]
)
def test_sync_offset_skips_frames_or_inserts_blank_ones(blo, offset, expected):
    write_blo(blo, numbered(2, 2), steps=(1, 2))
    image = emio.imload(blo, sync_offset=offset).image
    assert image.values.ravel().tolist() == expected
    assert set(image.coords) == {"y", "x"}


@pytest.mark.parametrize("offset", [4, -4, 5, 100])
def test_a_sync_offset_over_all_frames_is_refused(blo, offset):
    write_blo(blo, numbered(2, 2))
    with pytest.raises(ArgumentError, match=rf"scan\.blo.*sync_offset={offset}"):
        emio.imload(blo, sync_offset=offset)


def test_the_limit_of_sync_offset_counts_the_frames_of_the_header(blo):
    write_blo(blo, numbered(2, 3), frames_written=2)
    with pytest.warns(emio.EmioWarning, match="missing"):
        image = emio.imload(blo, sync_offset=-5).image
    assert image.values.ravel().tolist() == [0, 0, 0, 0, 0, 1]


def test_sig_shape_cuts_the_same_pixels_otherwise(blo):
    pixels = patterns(2, 2, 6)
    write_blo(blo, pixels, steps=(1, 1), pixels_per_cm_x100=100)
    image = emio.imload(blo, sig_shape=(2, 18)).image
    np.testing.assert_array_equal(image, pixels.reshape(2, 2, 2, 18))
    assert set(image.coords) == {"y", "x"}


@pytest.mark.parametrize("sig_shape", [(6, 5), (3, 6), (12, 6), (1, 1), (35,)])
def test_a_sig_shape_of_other_pixels_is_refused(blo, sig_shape):
    write_blo(blo, patterns(2, 2, 6))
    with pytest.raises(ArgumentError, match=r"scan\.blo.*sig_shape"):
        emio.imload(blo, sig_shape=sig_shape)


@pytest.mark.parametrize("nav_shape", [(0, 4), (-1, 4), 0, (2, -2), (1.5, 2)])
def test_a_nav_shape_that_is_not_positive_is_refused(blo, nav_shape):
    write_blo(blo, patterns())
    with pytest.raises(ArgumentError, match="nav_shape"):
        emio.imload(blo, nav_shape=nav_shape)


@pytest.mark.parametrize("mode", [None, "r", "c"])
def test_mmap_modes_that_do_not_write_are_all_the_same(blo, mode):
    pixels = patterns()
    before = write_blo(blo, pixels).read_bytes()
    image = emio.imload(blo, mmap_mode=mode, chunks=None).image
    image.values[...] = 0
    assert blo.read_bytes() == before


@pytest.mark.parametrize(("mode", "says"), [("r+", "reading never"), ("w+", "reading never"), ("x", "mmap_mode")])
def test_other_mmap_modes_are_refused(blo, mode, says):
    write_blo(blo, patterns())
    with pytest.raises(ArgumentError, match=says):
        emio.imload(blo, mmap_mode=mode)


def test_an_unknown_argument_is_a_type_error_that_names_the_known_ones(blo):
    write_blo(blo, patterns())
    with pytest.raises(TypeError, match=r"'dtype'.*endianess.*mmap_mode.*nav_shape"):
        emio.imload(blo, dtype="u1", sig_shape=(6, 6))


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [6, 7, 20, 239])
def test_a_file_shorter_than_its_header_is_refused(blo, size):
    blo.write_bytes(WORKED[:size])
    with pytest.raises(TruncatedError, match=r"scan\.blo.*240"):
        emio.imload(blo)


@pytest.mark.parametrize("start", [b"", b"IMG", b"IMGBLX" + WORKED[6:], b"\0" * 300, b"imgblo" + WORKED[6:]])
def test_a_file_that_does_not_start_with_imgblo_is_refused(blo, start):
    blo.write_bytes(start)
    with pytest.raises(HeaderError) as error:
        emio.imload(blo)
    assert str(blo) in str(error.value)
    assert repr(start[:6]) in str(error.value)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({"DP_SZ": 0}, "DP_SZ is 0"),
        ({"NX": 0}, "NX is 0"),
        ({"NY": 0}, "NY is 0"),
        ({"Data_offset_2": 0}, r"Data_offset_2.* 0,"),
        ({"Data_offset_2": 239}, r"Data_offset_2.* 239,"),
        ({"Data_offset_2": 4112 + 12 * 42}, r"Data_offset_2.* 4616,"),
        ({"Data_offset_2": 4112 + 12 * 42 + 1}, r"Data_offset_2.* 4617,"),
        ({"Data_offset_2": 2**32 - 1}, r"Data_offset_2.* 4294967295,"),
        ({"Data_offset_2": 4112 + 12 * 42 - 41}, "not even one complete pattern.*DP_SZ = 6"),
        ({"DP_SZ": 65535}, "not even one complete pattern.*DP_SZ = 65535"),
        ({"NX": 65535, "NY": 65535}, r"NY x NX = 65535 x 65535.*nav_shape="),
    ],
)
def test_an_impossible_header_is_refused_by_file_field_and_value(blo, header, says):
    write_blo(blo, patterns(), header=header)
    with pytest.raises(HeaderError, match=says) as error:
        emio.imload(blo)
    assert str(blo) in str(error.value)


def test_nav_shape_opens_a_file_whose_scan_cannot_be_true(blo):
    pixels = patterns()
    write_blo(blo, pixels, header={"NX": 65535, "NY": 65535})
    np.testing.assert_array_equal(emio.imload(blo, nav_shape=(3, 4)).image, pixels)


def test_a_claim_of_less_than_a_gib_is_believed(blo):
    write_blo(blo, numbered(1, 1), header={"NX": 10_000, "NY": 1000})
    with pytest.warns(emio.EmioWarning, match="9999999 of 10000000 frames"):
        assert emio.imload(blo).image.shape == (1000, 10_000, 1, 1)


def test_a_claim_of_less_than_a_thousand_times_the_file_is_believed(blo):
    write_blo(blo, np.ones((1, 2, 1024, 1024), "u1"), header={"NX": 1100})
    with pytest.warns(emio.EmioWarning, match="1098 of 1100 frames"):
        assert emio.imload(blo).image.nbytes > 2**30


def test_a_missing_file_is_a_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.blo") as error:
        emio.imload(tmp_path / "gone.blo")
    assert isinstance(error.value, MissingFileError)


@settings(max_examples=300, deadline=None)
@given(changes=st.dictionaries(st.integers(6, 239), st.integers(0, 255), min_size=1, max_size=6))
@pytest.mark.filterwarnings("ignore::intake_emio.errors.EmioWarning")
def test_any_header_is_either_read_or_refused_by_name(tmp_path_factory, changes):
    content = bytearray(WORKED)
    for at, value in changes.items():
        content[at] = value
    path = tmp_path_factory.getbasetemp() / "changed.blo"
    path.write_bytes(content)
    try:
        ds = emio.imload(path)
    except emio.EmioError as error:
        refusal = str(error)
        ds = None
    if ds is None:
        assert "changed.blo" in refusal
    else:
        assert ds.image[-1, -1].compute().shape == ds.image.shape[-2:]


# Laziness ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="files are not sparse by default")
def test_fifty_gigabytes_open_at_once_and_any_pattern_can_be_looked_at(blo):
    ny, nx, size = 800, 1000, 256
    stride = 6 + size * size
    write_blo(
        blo,
        np.zeros((1, 1, size, size), "u1"),
        data_offset_2=1_000_000,
        steps=(1, 1),
        header={"NX": nx, "NY": ny},
    )
    os.truncate(blo, 1_000_000 + ny * nx * stride)
    with open(blo, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x2a")
    ds = emio.imload(blo)
    assert ds.image.nbytes > 50e9
    assert len(ds.image.__dask_graph__()) < 20_000
    assert int(ds.image[-1, -1, -1, -1]) == 42
    assert int(ds.image[400, 500].sum()) == 0


def test_the_dataset_travels_without_its_pixels(blo):
    write_blo(blo, np.zeros((8, 8, 64, 64), "u1"))
    ds = emio.imload(blo)
    assert len(pickle.dumps(ds)) < 20_000
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ds)).image, 0)


def test_what_is_known_without_pixels_is_told_without_pixels(blo):
    write_blo(blo, patterns(), steps=(1, 2))
    known = emio.imload(blo, metadata_only=True)
    assert tuple(known["shape"]) == (3, 4, 6, 6)
    assert known["metadata"]["axes"] == "yxvu"
    assert known["metadata"]["spacing"] == {"y": 1, "x": 2}


# The real file, and other readers ------------------------------------------------------------------------------------


def test_the_real_file_is_read_as_expected(real_files):
    files = real_files("blo")
    for name, expected in files.expected.items():
        if name.startswith("_"):
            continue
        ds = emio.imload(files.path(name))
        assert ds.image.dims == tuple(expected["axes"])
        assert list(ds.image.shape) == expected["shape"]
        assert str(ds.image.dtype) == expected["dtype"]
        assert hashlib.sha256(ds.image.values.tobytes()).hexdigest() == expected["sha256"]
        for axis, step in expected["spacing"].items():
            np.testing.assert_allclose(np.diff(ds[axis]), step)
            assert float(ds[axis][0]) == expected["origin"][axis]
            assert ds[axis].attrs["units"] == expected["units"][axis]
        assert ds.navigator.values.tolist() == expected["navigator"]
        facts = ds.attrs["acquisition"]
        assert {k: facts[k] for k in ("beam_energy", "camera_length", "start_time")} == {
            k: expected[k] for k in ("beam_energy", "camera_length", "start_time")
        }
        assert ds.attrs["metadata"]["fileheader"]["Note"] == expected["note"]


def test_the_real_file_is_laid_out_as_the_header_says(real_files):
    """Its frame headers, which nobody needs, lie where we think they do."""
    content = (real_files("blo").folder / "test1.blo").read_bytes()
    (at,) = struct.unpack_from("<I", content, 12)
    stride = 6 + 144 * 144
    assert [struct.unpack_from("<HI", content, at + k * stride) for k in range(6)] == [(0x55AA, k) for k in range(6)]
    assert len(content) == at + 6 * stride


@pytest.mark.peers
@pytest.mark.parametrize("lazy", [False, True])
def test_rosettasciio_reads_the_same(blo, lazy):
    reader = pytest.importorskip("rsciio.blockfile")
    write_blo(
        blo,
        patterns(),
        steps=(4, 2.5),
        pixels_per_cm_x100=6226,
        beam_energy=200_000,
        acquisition_time=42339.653470046294,
        note=NOTE,
    )
    (theirs,) = reader.file_reader(str(blo), lazy=lazy)
    ours = emio.imload(blo)
    np.testing.assert_array_equal(np.asarray(theirs["data"]), ours.image)
    for axis, their_axis in zip("yxvu", theirs["axes"], strict=True):
        assert float(ours[axis][1]) == pytest.approx(their_axis["scale"])
        assert ours[axis].attrs["units"] == their_axis["units"]
    their_header = theirs["original_metadata"]["blockfile_header"]
    our_header = ours.attrs["metadata"]["fileheader"]
    for name in ("MAGIC", "Beam_energy", "SDP", "Data_offset_2", "Acquisition_time", "Note"):
        assert our_header[name] == their_header[name]


@pytest.mark.peers
@pytest.mark.parametrize(("magic", "dtype"), [(258, "u1"), (259, "u1"), (259, "u2")])
def test_libertem_reads_the_same(blo, magic, dtype):
    api = pytest.importorskip("libertem.api")
    udf = pytest.importorskip("libertem.udf.raw")
    write_blo(blo, patterns(dtype=dtype), magic=magic)
    context = api.Context.make_with("inline")
    dataset = context.load("blo", path=str(blo))
    roi = np.ones(tuple(dataset.shape.nav), bool)
    theirs = context.run_udf(dataset, udf.PickUDF(), roi=roi)["intensity"].data
    ours = emio.imload(blo).image.values
    np.testing.assert_array_equal(ours, theirs.reshape(ours.shape))
