"""Reading data sets of pnCCD cameras."""

import gc
import json
import pickle
import struct
import tracemalloc

import dask
import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

import intake_emio as emio
from intake_emio.errors import ArgumentError, HeaderError, MissingFileError, TruncatedError, UnknownFormatError
from intake_emio.formats.frms6 import Frms6Source

from .encoders.frms6 import write_frms6, write_gain_csv

HDR = '[measurementInfo]\nstemImageSize = 1x1\nreadoutMode = "bin: 1, windowing: 4 x 2"\n'


def worked(rows=2, columns=4, frames=1, pixels=(1, 2, 3, 4, 5, 6, 7, 8)):
    """One file with one frame, worked by hand: two stored rows of four, 2016-09-25T12:00:00.000250 UTC."""
    header = struct.pack("<HHBBBB80sHH928xI", 1024, 64, 1, 4, 2, 6, b"gold", columns, rows, frames)
    frame = struct.pack("<BBBBIIIdHHIQ24x", 0, 0, 0, 2, 1474804800, 250, 7, 0.5, 3, 2, 0, 0)
    return header + frame + struct.pack(f"<{len(pixels)}H", *pixels)


def frames(count=12, rows=8, columns=6, seed=3):
    """Every value may occur, so that a swapped byte or a row in the wrong place shows."""
    return np.random.default_rng(seed).integers(0, 65535, (count, rows, columns), "u2", endpoint=True)


def load(path, **arguments):
    """Load without the dark correction, unless it is asked for."""
    return emio.imload(path, **{"enable_offset_correction": False, **arguments})


@pytest.fixture
def signal():
    return frames()


@pytest.fixture
def dark():
    return np.random.default_rng(4).integers(0, 500, (5, 8, 6), "u2")


@pytest.fixture
def write(tmp_path, signal):
    """Write a data set of a 3 x 4 scan in three signal files, and return the name of its .hdr."""

    def write(base="C16_15_24_151203_019", frames=signal, **arguments):
        settings = {"scan": (3, 4), "per_file": 5, **arguments}
        return str(write_frms6(tmp_path, base, frames, **settings)[0])

    return write


# Unfolding -----------------------------------------------------------------------------------------------------------


def test_the_data_set_worked_by_hand_is_read(tmp_path):
    (tmp_path / "a.hdr").write_text(HDR)
    (tmp_path / "a_001.frms6").write_bytes(worked())
    ds = load(tmp_path / "a.hdr")
    assert ds.image.dims == ("y", "x", "v", "u")
    assert ds.image.dtype == np.uint16
    assert ds.image.values.tolist() == [[[[1, 2], [5, 6], [8, 7], [4, 3]]]]
    assert ds.time.values.tolist() == np.array([["2016-09-25T12:00:00.000250"]], "M8[ns]").tolist()
    assert set(ds.coords) == {"time"}
    assert ds.attrs["acquisition"] == {"detector": "pnCCD", "start_time": "2016-09-25T12:00:00.000250+00:00"}


def test_binned_rows_of_it_are_repeated_after_unfolding_and_not_divided(tmp_path):
    (tmp_path / "a.hdr").write_text(HDR.replace("bin: 1", "bin: 2"))
    (tmp_path / "a_001.frms6").write_bytes(worked())
    rows = [[1, 2], [1, 2], [5, 6], [5, 6], [8, 7], [8, 7], [4, 3], [4, 3]]
    assert load(tmp_path / "a.hdr").image.values[0, 0].tolist() == rows


@pytest.mark.parametrize("chunks", [None, "auto", "frame", {"x": 3, "u": 2}])
@pytest.mark.parametrize("binning", [1, 2, 3, 4, 8])
def test_every_binning_is_unfolded(write, signal, binning, chunks):
    image = load(write(binning=binning), chunks=chunks).image
    assert image.sizes == {"y": 3, "x": 4, "v": 8 * binning, "u": 6}
    np.testing.assert_array_equal(image, signal.repeat(binning, 1).reshape(3, 4, -1, 6))


@pytest.mark.parametrize(("rows", "binning", "seen"), [(264, 1, 264), (66, 4, 264), (32, 1, 32), (132, 2, 264)])
def test_frames_of_the_real_sensor_have_the_right_aspect_ratio(write, rows, binning, seen):
    pixels = frames(2, rows, 264)
    image = load(write(frames=pixels, scan=(1, 2), binning=binning)).image
    assert image.shape == (1, 2, seen, 264)
    np.testing.assert_array_equal(image[0], pixels.repeat(binning, 1))


def test_a_cut_out_of_frames_is_that_of_whole_frames(write, signal):
    image = load(write(binning=2)).image
    whole = signal.repeat(2, 1).reshape(3, 4, 16, 6)
    np.testing.assert_array_equal(image[1:, ::2, 5:11, 2:5], whole[1:, ::2, 5:11, 2:5])
    np.testing.assert_array_equal(load(write(), partition={"y": 1, "v": slice(3, 7)}).image, signal[4:8, 3:7])


@pytest.mark.parametrize("io_backend", ["mmap", "buffered", "direct"])
def test_all_ways_to_the_disk_read_the_same(write, signal, io_backend):
    times = np.arange(12) * 1000
    try:
        ds = load(write(times=times), chunks=None, io_backend=io_backend)
    except emio.EmioError as error:
        if "file system cannot do direct reads" not in str(error):
            raise
        pytest.skip(str(error))
    np.testing.assert_array_equal(ds.image, signal.reshape(3, 4, 8, 6))
    np.testing.assert_array_equal(ds.time.values.astype("M8[us]").astype(int), times.reshape(3, 4))


def test_a_remote_data_set_reads_as_a_local_one(write, signal, dark, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    write("s", dark=dark)
    write_gain_csv(tmp_path / "gain.csv", np.full((8, 6), 2.0))
    for path in tmp_path.iterdir():
        with fsspec.open(f"memory://frms6/{path.name}", "wb") as file:
            file.write(path.read_bytes())
    ds = emio.imload("memory://frms6/s_002.frms6", gain_map_path="memory://frms6/gain.csv")
    np.testing.assert_allclose(ds.image, ((signal - dark.mean(0)) * 2).reshape(3, 4, 8, 6), rtol=1e-5)


# The set of files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", [".hdr", "_000.frms6", "_001.frms6", "_003.frms6"])
def test_any_file_of_the_set_opens_it(write, signal, dark, tmp_path, member):
    write("scan[1]*_019", dark=dark)
    path = tmp_path / f"scan[1]*_019{member}"
    assert emio.detect(path, enable_offset_correction=False).format == "frms6"
    np.testing.assert_array_equal(load(path).image, signal.reshape(3, 4, 8, 6))


def test_only_files_of_the_same_base_belong_to_the_set(write, signal):
    for other in ("scan_19_b", "scan_1", "scan_19_002", "scan_19_0"):
        write(other, frames(12, seed=9))
    hdr = write("scan_19")
    np.testing.assert_array_equal(load(hdr).image, signal.reshape(3, 4, 8, 6))
    assert list(load(hdr).attrs["metadata"]["fileheader"]["files"]) == [f"scan_19_00{k}.frms6" for k in (1, 2, 3)]


@pytest.mark.parametrize("digits", [1, 2, 3, 5])
def test_files_are_in_the_order_of_their_numbers_not_of_their_names(write, digits):
    pixels = frames(12, 2, 2)
    np.testing.assert_array_equal(
        load(write(frames=pixels, per_file=1, digits=digits)).image, pixels.reshape(3, 4, 2, 2)
    )


def test_extensions_in_capitals_are_the_same(write, signal, tmp_path):
    write("s")
    for path in list(tmp_path.iterdir()):
        path.rename(path.with_suffix(path.suffix.upper()))
    for name in ("s.HDR", "s_001.FRMS6"):
        np.testing.assert_array_equal(load(tmp_path / name).image, signal.reshape(3, 4, 8, 6))


def test_uneven_and_empty_files_are_put_together(write, signal):
    np.testing.assert_array_equal(load(write(per_file=[1, 0, 7, 4])).image, signal.reshape(3, 4, 8, 6))


def test_a_gap_in_the_numbers_is_refused(write, tmp_path):
    hdr = write("s")
    (tmp_path / "s_002.frms6").unlink()
    with pytest.raises(HeaderError, match=r"signal file number 2 is missing.*s_003"):
        load(hdr)


def test_a_set_that_does_not_begin_with_1_is_refused(write):
    with pytest.raises(HeaderError, match="number 1 is missing"):
        load(write(first_number=2))


def test_two_files_with_the_same_number_are_refused(write, tmp_path):
    hdr = write("s")
    (tmp_path / "s_1.frms6").write_bytes(worked())
    with pytest.raises(HeaderError, match=r"s_001\.frms6 and s_1\.frms6"):
        load(hdr)


def test_sets_without_signal_or_text_header_are_refused(write, dark, tmp_path):
    hdr = write("s", dark=dark)
    for number in (1, 2, 3):
        (tmp_path / f"s_00{number}.frms6").unlink()
    for path in (hdr, tmp_path / "s_000.frms6"):
        with pytest.raises(MissingFileError, match="no signal file"):
            load(path)
    write("t")
    (tmp_path / "t.hdr").unlink()
    with pytest.raises(MissingFileError, match=r"no t\.hdr"):
        load(tmp_path / "t_001.frms6")


def test_a_name_without_a_number_is_refused(tmp_path):
    (tmp_path / "scan.frms6").write_bytes(worked())
    with pytest.raises(HeaderError, match="<base>_<number>"):
        load(tmp_path / "scan.frms6")


def test_a_file_that_does_not_exist_is_missing(tmp_path):
    for name in ("a.hdr", "a_001.frms6"):
        with pytest.raises(MissingFileError):
            load(tmp_path / name, format="frms6")


# Recognising it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["ENVI\nsamples = 4\n", "[other]\na = 1\n", ""])
def test_text_headers_of_other_formats_are_left_alone(tmp_path, text):
    (tmp_path / "a.hdr").write_text(text)
    with pytest.raises(UnknownFormatError):
        emio.detect(tmp_path / "a.hdr")


def test_frms6_files_are_recognised_by_content(write, tmp_path):
    write("s")
    assert emio.detect(tmp_path / "s_001.frms6", enable_offset_correction=False).parameters == {
        "axes": "yxvu",
        "nav_shape": (3, 4),
        "sig_shape": (8, 6),
        "dtype": "uint16",
        "sync_offset": 0,
    }
    (tmp_path / "s_002.frms6").write_bytes(b"something else, long enough for a header" * 100)
    with pytest.raises(HeaderError, match="header_size is 28531, expected 1024"):
        load(tmp_path / "s_002.frms6")


# Text header ---------------------------------------------------------------------------------------------------------


def hdr_text(**keys):
    known = {"stemImageSize": "3x4", "readoutMode": '"bin: 1, windowing: 8 x 6"', **keys}
    return "[measurementInfo]\n" + "".join(f"{k} = {v}\n" for k, v in known.items() if v is not None)


@pytest.mark.parametrize(
    "text",
    [
        "; made by hand\n# 100 %\n[other]\nstemImageSize = 9x9\na = 100 %(b)s\n" + hdr_text() + "comment = 50 % gold\n",
        hdr_text().replace(" = ", ":"),
        hdr_text().replace(" = ", "="),
        hdr_text().replace("\n", "\r\n"),
        hdr_text().replace("stemImageSize", "STEMIMAGESIZE").replace("readoutMode", "readoutmode"),
        hdr_text().replace("stem", "  \tstem").replace("readout", "   readout").replace("\n", "  \n"),
        hdr_text(stemImageSize=" 3 x 4 "),
        hdr_text(stemImageSize="3X4"),
        hdr_text(readoutMode="bin: 1, windowing: 8 x 6"),
        hdr_text(readoutMode='"windowing: 8 x 6, bin:1"'),
        "\ufeff" + hdr_text(),
        hdr_text() + "gain = 1\ngain = 2\nword\n[other]\n[other]\n",
    ],
)
def test_text_headers_of_all_styles_are_read(write, signal, text):
    np.testing.assert_array_equal(load(write(hdr_text=text)).image, signal.reshape(3, 4, 8, 6))


def test_everything_in_the_text_header_is_kept(write):
    text = hdr_text(gain=16, dwellTimeMicroseconds=250, comment="50 % gold, Å") + "[operator]\nName = A. Ruska\n"
    ds = load(write(hdr_text=text, times=10**15 + 5))
    header = ds.attrs["metadata"]["fileheader"]
    assert header["stemImageSize"] == "3x4"
    assert header["comment"] == "50 % gold, Å"
    assert header["operator"] == {"Name": "A. Ruska"}
    assert ds.attrs["acquisition"] == {
        "detector": "pnCCD",
        "dwell_time": 0.00025,
        "camera_gain": 16,
        "start_time": "2001-09-09T01:46:40.000005+00:00",
    }
    json.dumps(ds.attrs)


def test_latin_1_text_headers_are_read(write):
    ds = load(write(hdr_text=hdr_text(comment="50 Å").encode("latin-1")))
    assert ds.attrs["metadata"]["fileheader"]["comment"] == "50 Å"


def test_numbers_that_are_none_leave_facts_out(write):
    ds = load(write(hdr={"gain": "high", "dwellTimeMicroseconds": None}))
    assert ds.attrs["acquisition"] == {"detector": "pnCCD"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stemImageSize = 3x4\n", "not a text header with sections"),
        ("[measurementinfo]\nstemImageSize = 3x4\n", r"no section \[measurementInfo\]"),
        ("", r"no section \[measurementInfo\]"),
        (b"[measurementInfo]\n\0\0\0", "zero bytes"),
        (hdr_text(stemImageSize=None), "stemImageSize is None"),
        (hdr_text(stemImageSize="3"), "stemImageSize is '3'"),
        (hdr_text(stemImageSize="3x4x5"), "stemImageSize"),
        (hdr_text(stemImageSize="-3x4"), "stemImageSize"),
        (hdr_text(stemImageSize="0x4"), "stemImageSize"),
        (hdr_text(stemImageSize="axb"), "stemImageSize"),
        (hdr_text(stemImageSize="100000x100000"), "10000000000 points"),
        (hdr_text(readoutMode=None), "readoutMode is None"),
        (hdr_text(readoutMode='"windowing: 8 x 6"'), "readoutMode"),
        (hdr_text(readoutMode='"bin: 0, windowing: 8 x 6"'), "readoutMode"),
        (hdr_text(readoutMode='"bin: -1, windowing: 8 x 6"'), "readoutMode"),
        (hdr_text(readoutMode='"bin: two, windowing: 8 x 6"'), "readoutMode"),
        (hdr_text(readoutMode='"bin: 1.5, windowing: 8 x 6"'), "readoutMode"),
        (hdr_text(readoutMode='"bin: 100000000, windowing: 8 x 6"'), "no sensor"),
        ("x" * 2_000_000, "too many for a text header"),
    ],
)
def test_broken_text_headers_are_refused(write, text, message):
    with pytest.raises(HeaderError, match=message):
        load(write(hdr_text=text), format="frms6")


# Binary headers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"header_size": 1000}, "header_size is 1000, expected 1024"),
        ({"frame_header_size": 32}, "frame_header_size is 32, expected 64"),
        ({"version": 5}, "version is 5, expected 6"),
        ({"width": 0}, "4 rows and 0 columns"),
        ({"height": 0}, "0 rows"),
        ({"width": 11}, "even number of columns"),
        ({"width": 6, "height": 8}, r"stores frames of \(8, 6\), but s_001\.frms6 of \(4, 12\)"),
    ],
)
def test_impossible_file_headers_are_refused(write, fields, message):
    with pytest.raises(HeaderError, match=message):
        load(write("s", file_headers={2: fields}))


def test_more_frames_than_there_are_bytes_for_are_refused(write, tmp_path):
    with pytest.raises(TruncatedError, match=r"s_002\.frms6.*says 6 frames of 160 bytes, but only 5"):
        load(write("s", file_headers={2: {"frames": 6}}))
    with pytest.raises(TruncatedError, match="says 4294967295 frames"):
        load(write("s", file_headers={1: {"frames": 2**32 - 1}}))
    hdr = write("s")
    (tmp_path / "s_003.frms6").write_bytes((tmp_path / "s_003.frms6").read_bytes()[:-1])
    with pytest.raises(TruncatedError, match=r"s_003\.frms6"):
        load(hdr)


@pytest.mark.parametrize("length", [0, 7, 1023])
def test_files_shorter_than_their_header_are_refused(write, tmp_path, length):
    hdr = write("s")
    (tmp_path / "s_002.frms6").write_bytes((tmp_path / "s_002.frms6").read_bytes()[:length])
    with pytest.raises(TruncatedError, match=r"s_002\.frms6.*1024 bytes"):
        load(hdr)


def test_frames_are_counted_where_an_old_header_does_not(write, signal):
    np.testing.assert_array_equal(load(write(header_counts=False)).image, signal.reshape(3, 4, 8, 6))
    with pytest.raises(HeaderError, match=r"160 bytes \(3 left over\)"):
        load(write(header_counts=False, trailing=b"abc"))


def test_bytes_behind_the_frames_are_ignored(write, signal):
    np.testing.assert_array_equal(load(write(trailing=b"abc" * 100)).image, signal.reshape(3, 4, 8, 6))


def test_the_old_bytes_for_width_and_height_are_not_used(write, signal):
    hdr = write(file_headers={n: {"old_width": 200, "old_height": 200} for n in (1, 2, 3)})
    np.testing.assert_array_equal(load(hdr).image, signal.reshape(3, 4, 8, 6))


def test_signal_files_without_frames_are_refused(write):
    with pytest.raises(HeaderError, match="no frames"):
        load(write(frames=np.zeros((0, 8, 6), "u2"), per_file=[0]))


def test_packed_pixels_are_refused_and_other_flags_are_not(write):
    with pytest.raises(HeaderError, match="packed"):
        load(write(frame_headers={"info": 0x02}))
    assert load(write(frame_headers={"info": 0x1D})).image.shape == (3, 4, 8, 6)


def test_headers_of_the_files_are_metadata(write):
    ds = load(write("s", frame_headers={"start": 17}, file_headers={1: {"id": b"gold"}}))
    files = ds.attrs["metadata"]["fileheader"]["files"]
    assert {name: f["frames"] for name, f in files.items()} == {
        f"s_00{n}.frms6": k for n, k in ((1, 5), (2, 5), (3, 2))
    }
    assert files["s_001.frms6"]["id"] == "gold"
    assert (files["s_002.frms6"]["first_frame"]["start"], files["s_002.frms6"]["first_frame"]["number"]) == (17, 5)


# Times ---------------------------------------------------------------------------------------------------------------


def test_every_frame_has_its_time_and_only_asking_reads_it(write):
    times = 1_474_804_800_000_000 + np.arange(12) * 1_000_003
    ds = load(write(times=times), sync_offset=2)
    assert dask.is_dask_collection(ds.time.data)
    assert ds.time.dtype == "M8[ns]"
    stamps = ds.time.values.astype("M8[us]").reshape(-1)
    assert stamps[:10].astype(int).tolist() == times[2:].tolist()
    assert np.isnat(stamps[10:]).all()  # blank frames have none


# Navigation ----------------------------------------------------------------------------------------------------------


def test_frames_that_are_missing_are_blank_with_a_warning(write, signal):
    with pytest.warns(emio.EmioWarning, match="3 of 15 frames are missing"):
        image = load(write(scan=(3, 5))).image
    np.testing.assert_array_equal(image.values.reshape(15, 8, 6)[:12], signal)
    assert not image.values.reshape(15, 8, 6)[12:].any()


def test_frames_beyond_the_scan_are_ignored(write, signal):
    np.testing.assert_array_equal(load(write(scan=(2, 2))).image, signal[:4].reshape(2, 2, 8, 6))


@pytest.mark.parametrize("offset", [-11, -6, -1, 0, 1, 6, 11])
def test_sync_offset_shifts_over_the_borders_of_files(write, signal, offset):
    image = load(write(), sync_offset=offset, chunks={"y": 1, "x": 3}).image.values.reshape(12, 8, 6)
    expected = np.zeros_like(signal)
    kept = signal[max(offset, 0) : 12 + min(offset, 0)]
    expected[max(-offset, 0) : max(-offset, 0) + len(kept)] = kept
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("offset", [12, -12, 1000])
def test_sync_offset_over_all_frames_is_refused(write, offset):
    with pytest.raises(ArgumentError, match="out of range"):
        load(write(), sync_offset=offset)


@pytest.mark.parametrize(
    ("nav_shape", "axes"), [(12, "iyx"), ((3, 4), "yxvu"), ((4, 3), "yxvu"), ((2, 3, 2), "iyxvu"), ((2, 2), "yxvu")]
)
def test_another_scan_shape_gives_its_axes(write, signal, nav_shape, axes):
    image = load(write(), nav_shape=nav_shape).image
    assert "".join(image.dims) == axes
    assert image.shape[:-2] == (nav_shape if isinstance(nav_shape, tuple) else (nav_shape,))
    np.testing.assert_array_equal(image.values.reshape(-1, 8, 6), signal[: np.prod(nav_shape)])


def test_a_scan_of_absurd_size_can_be_overridden(write, signal):
    hdr = write(hdr={"stemImageSize": "100000x100000"})
    np.testing.assert_array_equal(load(hdr, nav_shape=12).image, signal)
    with pytest.raises(HeaderError, match="points"):
        load(hdr, nav_shape=(2**16, 2**16))
    with pytest.raises(ArgumentError):
        load(hdr, nav_shape=(0, 4))


@pytest.mark.parametrize("sig_shape", [(4, 12), (48,), (2, 4, 6)])
def test_sig_shape_reshapes_unfolded_frames(write, signal, sig_shape):
    image = load(write(), sig_shape=sig_shape).image
    np.testing.assert_array_equal(image, signal.reshape(3, 4, *sig_shape))


def test_sig_shape_of_other_size_is_refused(write):
    with pytest.raises(ArgumentError, match="48 pixels"):
        load(write(), sig_shape=(8, 8))


# Dark frames ---------------------------------------------------------------------------------------------------------


def seen(pixels, scan=(3, 4)):
    return pixels.reshape(*scan, *pixels.shape[1:])


@pytest.mark.parametrize("binning", [1, 4])
@pytest.mark.parametrize("arguments", [{}, {"enable_offset_correction": True}, {"corrections": True}])
def test_the_mean_of_the_dark_frames_is_subtracted_by_default(write, signal, dark, binning, arguments):
    image = emio.imload(write("s", dark=dark, binning=binning), **arguments).image
    assert image.dtype == np.float32
    expected = (signal - dark.mean(0)).repeat(binning, 1)
    assert (expected < 0).any()
    np.testing.assert_allclose(image, seen(expected), rtol=1e-6, atol=1e-2)
    assert image.attrs["corrections"] == {"dark": "s_000.frms6"}


@pytest.mark.parametrize(
    "arguments",
    [
        {"enable_offset_correction": False},
        {"enable_offset_correction": "false"},
        {"corrections": False},
        {"corrections": False, "enable_offset_correction": True, "gain_map_path": "/nowhere.mat"},
        {"corrections": None, "gain_map_path": "/nowhere.txt"},
        {"corrections": {}},
    ],
)
def test_without_corrections_pixels_are_as_stored_and_other_files_are_not_opened(write, signal, arguments):
    hdr = write("s", dark=np.zeros((1, 8, 6), "u2"), file_headers={0: {"version": 9}})
    image = emio.imload(hdr, **arguments).image
    assert image.dtype == np.uint16
    assert "corrections" not in image.attrs
    np.testing.assert_array_equal(image, seen(signal))


def test_a_mapping_replaces_the_corrections_of_the_data(write, signal, dark):
    own = np.full((8, 6), 10.0)
    image = emio.imload(write(dark=dark), corrections={"dark": own}, gain_map_path="/nowhere.mat").image
    np.testing.assert_allclose(image, seen(signal - own), rtol=1e-6)


def test_blank_frames_stay_zero_in_corrected_data(write, signal, dark):
    image = emio.imload(write(dark=dark), sync_offset=-2).image.values.reshape(12, 8, 6)
    assert not image[:2].any()
    np.testing.assert_allclose(image[2:], (signal - dark.mean(0))[:10], rtol=1e-6, atol=1e-2)


def test_a_cut_out_of_corrected_frames_is_that_of_whole_ones(write, dark):
    image = emio.imload(write(dark=dark, binning=2)).image
    np.testing.assert_array_equal(image[1:, 1, 3:9, 2:], image.values[1:, 1, 3:9, 2:])


def test_sig_shape_reshapes_corrected_frames(write, signal, dark):
    image = emio.imload(write(dark=dark), sig_shape=(4, 12)).image
    np.testing.assert_allclose(image, (signal - dark.mean(0)).reshape(3, 4, 4, 12), rtol=1e-6, atol=1e-2)


def test_dark_frames_are_averaged_without_overflow(write, signal):
    dark = np.full((300, 8, 6), 65535, "u2")
    np.testing.assert_array_equal(emio.imload(write(dark=dark)).image, seen(signal.astype("f4") - 65535))


def test_correction_without_dark_frames_is_refused(write):
    with pytest.raises(MissingFileError, match=r"no dark frames.*enable_offset_correction=False"):
        emio.imload(write())
    with pytest.raises(MissingFileError, match="no dark frames"):
        emio.imload(write(), enable_offset_correction=True)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"version": 7}, HeaderError),
        ({"width": 6, "height": 8}, HeaderError),
        ({"frames": 6}, TruncatedError),
    ],
)
def test_broken_dark_files_are_refused_only_when_they_are_used(write, dark, fields, error):
    hdr = write("s", dark=dark, file_headers={0: fields})
    with pytest.raises(error, match=r"s_000\.frms6"):
        emio.imload(hdr)
    assert load(hdr).image.dtype == np.uint16


def test_a_dark_file_without_frames_is_refused(write):
    with pytest.raises(HeaderError, match=r"s_000\.frms6.*no frames"):
        emio.imload(write("s", dark=np.zeros((0, 8, 6), "u2")))


def test_the_graph_carries_names_instead_of_the_dark_frame(write, signal, tmp_path):
    pixels = np.broadcast_to(np.uint16(7), (64, 128, 128))
    hdr = write("s", pixels, dark=pixels[:2], scan=(8, 8))
    gain = write_gain_csv(tmp_path / "gain.csv", np.ones((128, 128)))
    image = emio.imload(hdr, gain_map_path=gain, chunks="frame").image
    assert len(pickle.dumps(image.data)) < 64 * 1024


# Gain maps -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def gain():
    return np.random.default_rng(6).uniform(0.5, 2, (8, 6))


def gain_csv(path, gain):
    return write_gain_csv(path.with_suffix(".csv"), gain)


def gain_csv_without_last_semicolons(path, gain):
    path = path.with_suffix(".CSV")
    path.write_text("\r\n".join(";".join(map(repr, column)) for column in gain.T.tolist()) + "\r\n\r\n")
    return path


def gain_mat(level, compressed=False):
    def write(path, gain):
        path = path.with_suffix(".mat")
        scipy.io.savemat(path, {"other": np.zeros((2, 2)), "GainMap": gain}, format=level, do_compression=compressed)
        return path

    return write


def gain_mat_73(path, gain):
    path = path.with_suffix(".mat")
    with h5py.File(path, "w", userblock_size=512) as file:
        file["GainMap"] = gain.T
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    return path


def matlab_5(gain, stored=9, order="<"):
    """A file of level 5 made by hand, with the numbers in a stored type of one's choice."""

    def element(kind, content):
        return struct.pack(f"{order}2I", kind, len(content)) + content + bytes(-len(content) % 8)

    types = {9: "f8", 2: "u1", 77: "f8"}
    parts = (
        element(6, struct.pack(f"{order}2I", 6, 0)),
        element(5, struct.pack(f"{order}2i", *gain.shape)),
        element(1, b"GainMap"),
        element(stored, gain.astype(order + types[stored]).tobytes("F")),
    )
    marks = struct.pack(f"{order}H", 0x0100) + (b"IM" if order == "<" else b"MI")
    return b"made by hand".ljust(124) + marks + element(14, b"".join(parts))


WRITERS = {
    "csv": gain_csv,
    "csv without last semicolons": gain_csv_without_last_semicolons,
    "MATLAB 4": gain_mat("4"),
    "MATLAB 5": gain_mat("5"),
    "MATLAB 7": gain_mat("5", compressed=True),
    "MATLAB 7.3": gain_mat_73,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_gain_maps_of_every_kind_are_multiplied_after_the_subtraction(write, signal, dark, gain, tmp_path, kind):
    path = WRITERS[kind](tmp_path / "map", gain)
    hdr = write("s", dark=dark)
    image = emio.imload(hdr, gain_map_path=path).image
    np.testing.assert_allclose(image, seen((signal - dark.mean(0)) * gain), rtol=1e-5, atol=1e-2)
    assert image.attrs["corrections"] == {"dark": "s_000.frms6", "gain": path.name}
    assert emio.imload(hdr, gain_map_path=path).attrs["acquisition"]["corrections"]["gain"] == path.name


def test_a_gain_map_alone_gives_float32_and_has_repeated_rows(write, signal, tmp_path):
    gain = np.random.default_rng(6).uniform(0.5, 2, (32, 6))
    image = load(write(binning=4), gain_map_path=str(gain_csv(tmp_path / "map", gain))).image
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, seen(signal.repeat(4, 1) * gain), rtol=1e-6)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("stored", [9, 2])
def test_matlab_files_of_both_byte_orders_are_read_even_with_numbers_in_a_smaller_type(write, tmp_path, stored, order):
    gain = np.arange(48.0).reshape(8, 6)
    path = tmp_path / "map.mat"
    path.write_bytes(matlab_5(gain, stored, order))
    np.testing.assert_array_equal(scipy.io.loadmat(path)["GainMap"], gain)
    ones = np.ones((12, 8, 6), "u2")
    np.testing.assert_array_equal(load(write(frames=ones), gain_map_path=path).image, seen(ones * gain))


def test_whole_numbers_make_a_gain_map_too(write, signal, tmp_path):
    path = gain_mat("5")(tmp_path / "map", np.full((8, 6), 3, "u1"))
    np.testing.assert_array_equal(load(write(), gain_map_path=path).image, seen(signal * np.float32(3)))


def broken(tmp_path, kind):
    """A file that is no gain map for frames of 8 x 6, and what the message says of it."""
    path, right = tmp_path / "map", np.ones((8, 6))
    if kind == "missing":
        return tmp_path / "nowhere.mat", "no such file"
    if kind == "other extension":
        (tmp_path / "map.txt").write_text("1;1")
        return tmp_path / "map.txt", r"must be a \.mat or \.csv"
    if kind == "transposed":
        return gain_csv(path, right.T), r"shape \(6, 8\)"
    if kind == "binned":
        return gain_mat("5")(path, right[:4]), r"shape \(4, 6\)"
    if kind == "transposed 7.3":
        return gain_mat_73(path, right.T), r"shape \(6, 8\)"
    if kind == "ragged":
        (tmp_path / "map.csv").write_text("1;1;1;1;1;1;1;1;\n" * 5 + "1;1;\n")
        return tmp_path / "map.csv", "6 lines of 2 or 8 numbers"
    if kind == "empty":
        (tmp_path / "map.csv").write_text("\n")
        return tmp_path / "map.csv", "no numbers"
    if kind == "decimal comma":
        (tmp_path / "map.csv").write_text("1,5;1;1;1;1;1;1;1;\n" * 6)
        return tmp_path / "map.csv", "decimal point"
    if kind == "other variable":
        scipy.io.savemat(tmp_path / "map.mat", {"Gain": right})
        return tmp_path / "map.mat", "no variable GainMap, only.* Gain"
    if kind == "other variable 7.3":
        with h5py.File(tmp_path / "map.mat", "w") as file:
            file["Gain"] = right
        return tmp_path / "map.mat", "no variable GainMap, only Gain"
    if kind == "text":
        scipy.io.savemat(tmp_path / "map.mat", {"GainMap": np.full((8, 6), "a")})
        return tmp_path / "map.mat", "real numbers: it is text"
    if kind == "complex":
        return gain_mat("5")(path, right * 1j), "real numbers: it is complex"
    if kind == "complex 4":
        return gain_mat("4")(path, right * 1j), "real numbers: it is complex"
    if kind == "text 4":
        scipy.io.savemat(tmp_path / "map.mat", {"GainMap": np.full((8,), "abcdef")}, format="4")
        return tmp_path / "map.mat", "real numbers: it is text"
    if kind == "cut 7":
        cut = gain_mat("5", compressed=True)(path, right * np.arange(6))
        cut.write_bytes(cut.read_bytes()[:-10])
        return cut, "needs 384 bytes"
    if kind == "cut 4":
        cut = gain_mat("4")(path, right)
        cut.write_bytes(cut.read_bytes()[:-1])
        return cut, "needs 384 bytes, but 383"
    if kind == "unknown type":  # which kills the process in SciPy 1.17
        (tmp_path / "map.mat").write_bytes(matlab_5(right, stored=77))
        return tmp_path / "map.mat", "real numbers: it is stored in type 77"
    if kind == "zeros":
        (tmp_path / "map.mat").write_bytes(bytes(128 + 64))
        return tmp_path / "map.mat", "not a readable MATLAB file"
    if kind == "sparse":
        scipy.io.savemat(tmp_path / "map.mat", {"GainMap": scipy.sparse.csc_array(right)})
        return tmp_path / "map.mat", "full matrix of real numbers: it is sparse"
    if kind == "cut":
        cut = gain_mat("5")(path, right)
        cut.write_bytes(cut.read_bytes()[:-100])
        return cut, "needs 384 bytes, but 284 are there"
    if kind == "cut 7.3":
        cut = gain_mat_73(path, right)
        cut.write_bytes(cut.read_bytes()[:900])
        return cut, r"not a readable MATLAB 7\.3 file"
    if kind == "noise":
        (tmp_path / "map.mat").write_bytes(np.random.default_rng(8).bytes(5000))
        return tmp_path / "map.mat", "not a readable MATLAB file"
    if kind == "link out of the file":
        gain_mat_73(tmp_path / "other", right)
        with h5py.File(tmp_path / "map.mat", "w") as file:
            file["GainMap"] = h5py.ExternalLink(str(tmp_path / "other.mat"), "GainMap")
        return tmp_path / "map.mat", "no matrix within the file"
    if kind == "group":
        with h5py.File(tmp_path / "map.mat", "w") as file:
            file.create_group("GainMap")
        return tmp_path / "map.mat", "no matrix within the file"
    raise KeyError(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "missing", "other extension", "transposed", "transposed 7.3", "binned", "ragged", "empty", "decimal comma",
        "other variable", "other variable 7.3", "text", "text 4", "complex", "complex 4", "sparse", "cut", "cut 4",
        "cut 7", "cut 7.3", "unknown type", "noise", "zeros", "link out of the file", "group",
    ],
)  # fmt: skip
def test_files_that_are_no_gain_map_for_these_frames_are_refused(write, tmp_path, kind):
    path, message = broken(tmp_path, kind)
    with pytest.raises(emio.EmioError, match=rf"{path.name}: .*{message}"):
        load(write(), gain_map_path=path)


def test_a_matrix_that_claims_to_be_huge_is_refused_before_it_is_allocated(write, tmp_path):
    path = gain_mat("4")(tmp_path / "map", np.ones((8, 6)))
    claim = bytearray(path.read_bytes())
    at = claim.index(b"GainMap") - 16
    claim[at : at + 8] = struct.pack("<2i", 2**15, 2**15)
    path.write_bytes(claim)
    hdr = write()
    tracemalloc.start()
    with pytest.raises(emio.EmioError):
        load(hdr, gain_map_path=path)
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


# What all formats can ------------------------------------------------------------------------------------------------


def test_dest_dtype_makes_no_difference(write, signal):
    with pytest.warns(FutureWarning, match="astype"):
        image = load(write(), dest_dtype="float64").image
    np.testing.assert_array_equal(image, seen(signal))


@pytest.mark.parametrize("enabled", ["maybe", 2, None])
def test_a_switch_that_is_none_is_refused(write, enabled):
    with pytest.raises(ArgumentError, match="enable_offset_correction"):
        load(write(), enable_offset_correction=enabled)


def test_sources_and_lazy_images_travel_to_other_processes(write, signal, dark, gain, tmp_path):
    path = gain_csv(tmp_path / "map", gain)
    source = pickle.loads(pickle.dumps(Frms6Source(write(dark=dark), gain_map_path=path)))
    expected = seen((signal - dark.mean(0)) * gain)
    lazy = pickle.loads(pickle.dumps(source.to_dask().image))
    with dask.config.set(scheduler="threads"):
        np.testing.assert_allclose(lazy.compute(), expected, rtol=1e-5, atol=1e-2)
        np.testing.assert_allclose(lazy.sum(("y", "x")).compute(), expected.sum((0, 1)), rtol=1e-5)


def test_sums_fused_with_reading_see_unfolded_pixels(write, signal, dark):
    for arguments, pixels in (({"enable_offset_correction": False}, signal), ({}, signal - dark.mean(0))):
        source = Frms6Source(write(dark=dark), **arguments)
        total = sum(tile.astype("f8").sum((0, 1)) for _, tile in source.iter_tiles(1000))
        np.testing.assert_allclose(total, pixels.astype("f8").sum(0), rtol=1e-5)


def test_opening_reads_headers_only_and_no_handle_stays_open(write, tmp_path):
    pixels = np.broadcast_to(np.uint16(1), (400, 128, 128))
    hdr = write(frames=pixels, scan=(20, 20), per_file=100, dark=pixels[:10])
    load(hdr)  # imports
    gc.collect()
    tracemalloc.start()
    emio.imload(hdr)
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()


@pytest.mark.peers
@pytest.mark.parametrize("binning", [1, 2, 4])
def test_libertem_reads_the_same_pixels(write, dark, gain, tmp_path, binning):
    lt = pytest.importorskip("libertem.api")
    hdr = write(dark=dark, binning=binning)
    path = gain_csv(tmp_path / "map", gain.repeat(binning, 0))
    with lt.Context.make_with("inline") as context:
        for arguments in ({"enable_offset_correction": False}, {"gain_map_path": str(path)}):
            dataset = context.load("frms6", path=hdr, **{"enable_offset_correction": True, **arguments})
            theirs = context.run_udf(dataset, _sum_udf())["intensity"].data
            ours = emio.imload(hdr, **arguments).image.astype("f8").sum(("y", "x"))
            np.testing.assert_allclose(ours, theirs, rtol=1e-4)
            picked = context.run_udf(dataset, _pick_udf(), roi=np.eye(3, 4, dtype=bool))["intensity"].data
            np.testing.assert_allclose(
                emio.imload(hdr, **arguments).image.values[[0, 1, 2], [0, 1, 2]], picked, rtol=1e-5
            )


def _sum_udf():
    from libertem.udf.sum import SumUDF

    return SumUDF()


def _pick_udf():
    from libertem.udf.raw import PickUDF

    return PickUDF()
