"""Reading TVIPS streams."""

import hashlib
import json
import os
import pickle
import struct

import dask
import fsspec
import numpy as np
import pytest

import intake_emio as emio
from intake_emio import imload
from intake_emio.errors import ArgumentError, HeaderError, MissingFileError, TruncatedError
from intake_emio.formats.tvips import TvipsSource

from .encoders.tvips import FRAME_HEADER, SERIES_HEADER, raster, write_tvips

# Version 1, 3 x 2 pixels of 8 bits, binned by 2, 200 kV; frames at 1600000000.25 and 1600000001.5 s; worked by hand
WORKED = (
    struct.pack("<13i", 256, 1, 3, 2, 8, 0, 0, 2, 2, 15600, 200, 40000, 123456)
    + b"TVIPS " * 34
    + bytes.fromhex("00 00 00 00 00 10 5e 5f fa 00 00 00 01 02 03 04 05 06")
    + bytes.fromhex("01 00 00 00 01 10 5e 5f f4 01 00 00 0b 0c 0d 0e 0f 10")
)


def numbered(n, height=3, width=2, dtype="u2"):
    """Frames of which every pixel differs, and the first one is the number of the frame."""
    return (np.arange(n)[:, None, None] + 100 * np.arange(height * width).reshape(height, width)).astype(dtype)


def shown(path, **arguments):
    """Numbers of the frames that are shown; blank ones are 0, so that frame 0 should not be among those compared."""
    return imload(path, chunks=None, **arguments).image[..., 0, 0].values.tolist()


@pytest.fixture
def stream(tmp_path):
    def write(frames, name="movie", **fields):
        return write_tvips(tmp_path / name, frames, **fields)

    return write


def test_the_file_worked_by_hand_is_read(tmp_path):
    path = tmp_path / "movie_000.tvips"
    path.write_bytes(WORKED)
    ds = imload(path)
    assert ds.image.dims == ("i", "y", "x")
    assert ds.image.dtype == np.uint8
    assert ds.image.values.tolist() == [[[1, 2, 3], [4, 5, 6]], [[11, 12, 13], [14, 15, 16]]]
    assert ds.time.dims == ("i",)
    assert ds.time.values.tolist() == [0, 1.25]
    assert ds.time.attrs["units"] == "s"
    assert set(ds.coords) == {"time"}
    assert ds.attrs["acquisition"] == {
        "start_time": "2020-09-13T12:26:40.250+00:00",
        "beam_energy": 200,
        "binning": [2, 2],
        "detector_pixel_size": 15600,
    }


def test_frames_begin_where_the_layout_says(stream):
    """3 x 3 uint16 behind 60 bytes: frame 1 at byte 394 of the first piece, at 138 of a later one."""
    first, second = stream(numbered(4, 3, 3), header_bytes=60, per_file=2)
    assert first.read_bytes()[394:396] == b"\x01\x00"
    assert second.read_bytes()[138:140] == b"\x03\x00"
    assert shown(first) == [0, 1, 2, 3]


# Recognising it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["movie.tvips", "MOVIE_000.TVIPS", "movie_0000.Tvips", "renamed.tvips"])
def test_streams_are_recognised_by_extension_and_header(stream, name):
    (path,) = stream(numbered(2), name)
    assert emio.detect(path).format == "tvips"
    assert imload(path).attrs["format"] == "tvips"


def test_later_pieces_have_no_header_and_are_recognised_by_the_first_one(stream):
    pieces = stream(numbered(6), per_file=2)
    assert emio.detect(pieces[2]).format == "tvips"


def test_other_files_are_not_taken_for_streams(tmp_path):
    (tmp_path / "notes.tvips").write_text("notes of the day")
    (tmp_path / "other.dat").write_bytes(WORKED)
    for name in ("notes.tvips", "other.dat"):
        with pytest.raises(emio.EmioError, match="no format fits"):
            emio.detect(tmp_path / name)


# Pixels --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("per_file", "chunks"), [(None, "auto"), (2, "frame"), (2, None)])
@pytest.mark.parametrize(("version", "header_bytes"), [(1, None), (2, 60), (2, 200)])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8"])
def test_pixels_of_all_versions_and_types_are_read(stream, dtype, version, header_bytes, per_file, chunks):
    limit = np.iinfo(dtype).max
    pixels = np.random.default_rng(5).integers(0, limit, (5, 3, 4), dtype, endpoint=True)
    pieces = stream(pixels, version=version, header_bytes=header_bytes, per_file=per_file)
    image = imload(pieces[0], chunks=chunks).image
    assert image.dims == ("i", "y", "x")
    assert image.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image, pixels)


@pytest.mark.parametrize("io_backend", ["mmap", "buffered", "direct"])
def test_all_ways_to_the_disk_read_the_same(stream, io_backend):
    pieces = stream(numbered(12), per_file=5, positions=raster((3, 4)), times=np.arange(12) * 0.25 + 1e9)
    try:
        ds = imload(pieces[0], chunks=None, io_backend=io_backend)
    except emio.EmioError as error:
        if "file system cannot do direct reads" not in str(error):
            raise
        pytest.skip(str(error))
    np.testing.assert_array_equal(ds.image, numbered(12).reshape(3, 4, 3, 2))
    np.testing.assert_array_equal(ds.time, np.arange(12).reshape(3, 4) * 0.25)


def test_sources_and_arrays_pickle_and_compute_on_threads(stream):
    pieces = stream(numbered(12), per_file=5)
    ds = pickle.loads(pickle.dumps(TvipsSource(pieces[0], nav_shape=(3, 4), winding_scan_axis="x"))).to_dask()
    with dask.config.set(scheduler="threads"):
        assert int(pickle.loads(pickle.dumps(ds.image.data.sum())).compute()) == int(numbered(12).sum())


def test_remote_recordings_are_read_whole(stream):
    memory = fsspec.filesystem("memory")
    for piece in stream(numbered(12), per_file=5, positions=raster((3, 4))):
        memory.pipe(f"/tvips/{piece.name}", piece.read_bytes())
    try:
        ds = imload("memory://tvips/movie_002.tvips")
        np.testing.assert_array_equal(ds.image, numbered(12).reshape(3, 4, 3, 2))
    finally:
        memory.rm("/tvips", recursive=True)


def test_a_catalog_entry_holds_only_what_was_given(stream):
    (path,) = stream(numbered(4), rotator=[1, 2, 3, 4])
    assert set(TvipsSource(path)._yaml()["sources"]["emio_tvips"]["args"]) == {"uri"}
    given = TvipsSource(path, scan_shape="auto", frame_facts=["rotator"])
    args = given._yaml()["sources"]["emio_tvips"]["args"]
    assert args == {"uri": str(path), "scan_shape": "auto", "frame_facts": ["rotator"]}
    assert TvipsSource(**args) == given


# Pieces --------------------------------------------------------------------------------------------------------------


def test_any_piece_opens_the_whole_recording(stream):
    pieces = stream(numbered(7), per_file=3)
    assert len(pieces) == 3
    for piece in pieces:
        assert shown(piece) == list(range(7))


def test_only_pieces_of_the_same_stem_belong_together(stream):
    pieces = stream(numbered(4), "scan", per_file=2)
    stream(numbered(6), "scan_other", per_file=2)
    stream(numbered(6), "my_scan", per_file=2)
    assert shown(pieces[0]) == [0, 1, 2, 3]


@pytest.mark.parametrize("stem", ["a[1]", "a*", "a?b", "a.b", "a_000", "ä b"])
def test_stems_may_hold_anything(stream, stem):
    assert shown(stream(numbered(5), stem, per_file=2)[1]) == list(range(5))


def test_pieces_are_sorted_by_number_whatever_their_digits(stream, tmp_path):
    pieces = stream(numbered(12), per_file=1)
    for number, piece in enumerate(pieces):
        piece.rename(tmp_path / f"movie_{number:0{3 if number < 10 else 4}}.tvips")
    assert shown(tmp_path / "movie_000.tvips") == list(range(12))


@pytest.mark.parametrize("gone", [0, 1])
def test_a_missing_piece_is_named(stream, gone):
    pieces = stream(numbered(6), per_file=2)
    pieces[gone].unlink()
    with pytest.raises(MissingFileError, match=rf"movie_00{gone}\.tvips: this piece.*missing"):
        imload(pieces[2], format="tvips")


def test_two_pieces_of_one_number_are_refused(stream, tmp_path):
    pieces = stream(numbered(6), per_file=2)
    (tmp_path / "movie_0001.tvips").write_bytes(pieces[1].read_bytes())
    with pytest.raises(HeaderError, match="several pieces number 1"):
        imload(pieces[0])


def test_a_piece_that_begins_another_recording_is_refused(stream, tmp_path):
    pieces = stream(numbered(4), per_file=2)
    (other,) = stream(numbered(2), "other")
    pieces[1].write_bytes(other.read_bytes())
    with pytest.raises(HeaderError, match=r"movie_001\.tvips.*another recording than movie_000"):
        imload(pieces[0])


def test_a_single_piece_can_be_read_alone(stream):
    pieces = stream(numbered(6), per_file=2)
    pieces[1].unlink()
    assert shown(pieces[0], disable_glob=True) == [0, 1]
    assert shown(pieces[0], disable_glob="True") == [0, 1]
    with pytest.raises(HeaderError, match=r"movie_002\.tvips: not the beginning of a TVIPS stream"):
        imload(pieces[2], format="tvips", disable_glob=True)


def test_an_empty_last_piece_holds_no_frames(stream, tmp_path):
    (path,) = stream(numbered(3))
    assert path.name == "movie_000.tvips"
    (tmp_path / "movie_001.tvips").touch()
    assert shown(path) == [0, 1, 2]


# Scans by position ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "before", "after", "expected", "first"),
    [
        ((3, 4), 0, 0, (3, 4), 0),
        ((3, 4), 5, 0, (3, 4), 5),
        ((3, 4), 5, 2, (3, 4), 5),
        ((3, 4), 1, 9, (3, 4), 1),  # as many frames behind the scan as two more rows have
        ((20, 7), 100, 300, (20, 7), 100),
        ((2, 2), 70, 0, (2, 2), 70),
    ],
)
@pytest.mark.parametrize("per_file", [None, 3])
def test_scans_are_found_by_their_positions(stream, shape, before, after, expected, first, per_file):
    n = shape[0] * shape[1] + before + after
    pieces = stream(numbered(n, 1, 1), positions=raster(shape, before=before, after=after), per_file=per_file)
    found = emio.detect(pieces[0])
    assert found.parameters["nav_shape"] == expected
    assert found.parameters["sync_offset"] == first
    ds = imload(pieces[-1])
    assert ds.image.dims == ("y", "x", "v", "u")
    np.testing.assert_array_equal(ds.image[..., 0, 0], first + np.arange(shape[0] * shape[1]).reshape(shape))


def test_a_scan_may_begin_in_any_block_that_is_searched(stream):
    pieces = stream(numbered(4000 + 12, 1, 1), positions=raster((3, 4), before=4000))
    assert emio.detect(pieces[0]).parameters["sync_offset"] == 4000


def test_a_scan_that_stays_at_its_end_is_found(stream):
    positions = np.concatenate([raster((3, 4)), [[2, 3]] * 9])
    (path,) = stream(numbered(21, 1, 1), positions=positions)
    assert emio.detect(path).parameters["nav_shape"] == (3, 4)


def test_a_scan_that_was_stopped_has_its_whole_rows(stream):
    (path,) = stream(numbered(14, 1, 1), positions=raster((9, 4))[:14])
    assert emio.detect(path).parameters["nav_shape"] == (3, 4)


def test_one_line_with_frames_behind_is_a_scan_of_one_row(stream):
    (path,) = stream(numbered(12, 1, 1), positions=raster((1, 4), after=8))
    assert emio.detect(path).parameters["nav_shape"] == (1, 4)


def test_a_line_that_never_ends_is_a_series(stream):
    (path,) = stream(numbered(9, 1, 1), positions=raster((1, 6), before=3))
    assert shown(path) == list(range(9))
    assert shown(path, nav_shape=(2, 3)) == [[3, 4, 5], [6, 7, 8]]


@pytest.mark.parametrize("positions", [(0, 0), (1, 1), (np.nan, np.nan), (np.inf, np.inf), (-1, 5)])
def test_without_a_scan_frames_are_a_series(stream, positions):
    (path,) = stream(numbered(6), positions=positions)
    assert shown(path) == list(range(6))


def test_impossible_positions_are_no_scan(stream):
    positions = np.array([[0, 0], [0, 1], [0, np.inf], [0, 2], [1, 0]])
    (path,) = stream(numbered(5), positions=positions)
    assert shown(path) == list(range(5))


def test_pixels_behind_short_frame_headers_are_not_taken_for_positions(stream):
    """Headers of 68 bytes are followed by pixels, which look like whole positions."""
    pixels = raster((3, 4)).astype("<f4")[:, ::-1].copy().view("<u4").reshape(12, 1, 2)
    (path,) = stream(pixels, header_bytes=68)
    assert emio.detect(path).parameters["nav_shape"] == (12,)


def test_the_shape_can_be_overridden_and_the_found_start_stays(stream):
    (path,) = stream(numbered(16), positions=raster((3, 4), before=4))
    assert shown(path, nav_shape=(4, 3)) == [[4, 5, 6], [7, 8, 9], [10, 11, 12], [13, 14, 15]]
    assert shown(path, scan_shape=(2, 2)) == [[4, 5], [6, 7]]
    assert shown(path, scan_shape="(2, 2)", sync_offset=1) == [[1, 2], [3, 4]]
    assert shown(path, sync_offset=5)[0] == [5, 6, 7, 8]
    assert shown(path, scan_start_frame=5)[0] == [5, 6, 7, 8]
    assert shown(path, sync_offset=-1, nav_shape=6) == [0, 0, 1, 2, 3, 4]
    assert shown(path, sync_offset=0, nav_shape=3) == [0, 1, 2]
    assert imload(path, nav_shape=(2, 2, 2)).image.dims == ("i", "y", "x", "v", "u")


def test_missing_frames_are_blank_and_counted(stream):
    (path,) = stream(numbered(6) + 1)
    with pytest.warns(emio.EmioWarning, match="2 of 8 frames are missing"):
        assert shown(path, nav_shape=(2, 4)) == [[1, 2, 3, 4], [5, 6, 0, 0]]


def test_blank_frames_have_no_time(stream):
    (path,) = stream(numbered(4), times=1e9 + np.arange(4))
    time = imload(path, nav_shape=4, sync_offset=-1).time
    np.testing.assert_array_equal(time, [np.nan, 0, 1, 2])


# Scans by rotator ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "frames"),
    [
        ([0, 0, 1, 3, 3, 4, 5, 5, 9, 0, 0], [2, 2, 3, 5, 6, 7, 7, 7, 8]),
        ([1, 2, 3, 4], [0, 1, 2, 3]),
        ([0, 1, 2, 3, 4, 0], [1, 2, 3, 4]),
        ([0, 1, 1, 1, 2, 3, 4], [1, 4, 5, 6]),
        ([1, 4], [0, 0, 0, 1]),
        ([1, 2, 3, 4, 4, 4], [0, 1, 2, 3]),
    ],
)
def test_scans_are_put_together_by_the_rotator(stream, index, frames):
    pieces = stream(numbered(len(index)), rotator=index, per_file=4)
    found = np.array(shown(pieces[0], scan_shape="auto"))
    assert found.shape == (int(len(frames) ** 0.5),) * 2
    assert found.reshape(-1).tolist() == frames
    ds = imload(pieces[0], scan_shape="AUTO", chunks={"y": 1})
    assert ds.image.dims == ("y", "x", "v", "u")
    np.testing.assert_array_equal(ds.image, numbered(len(index))[frames].reshape(ds.image.shape))


def test_points_in_front_of_the_first_index_are_blank(stream):
    (path,) = stream(numbered(4) + 1, rotator=[0, 2, 3, 4])
    with pytest.warns(emio.EmioWarning, match="1 of 4 points of the scan have no frame"):
        assert shown(path, scan_shape="auto") == [[0, 2], [3, 4]]


@pytest.mark.parametrize(
    ("index", "match"),
    [
        (0, "never rises"),
        ([5, 4, 3, 2, 1], "never rises"),
        ([0, 1, 2, 3, 5], "ends at 5"),
        ([0, 1, 2, 3, 65535**2], "ends at 4294836225 after 5 frames"),
    ],
)
def test_rotators_that_count_no_square_are_refused(stream, index, match):
    (path,) = stream(numbered(5), rotator=index)
    with pytest.raises(HeaderError, match=rf"{match}.*nav_shape="):
        imload(path, scan_shape="auto")


def test_short_frame_headers_have_no_rotator(stream):
    (path,) = stream(numbered(4), header_bytes=48)
    with pytest.raises(HeaderError, match="no rotator index"):
        imload(path, scan_shape="auto")


def test_by_default_the_rotator_does_not_matter(stream):
    (path,) = stream(numbered(4), rotator=[1, 2, 3, 4])
    assert shown(path) == [0, 1, 2, 3]


# Scans that wind -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "hysteresis", "expected"),
    [
        ("x", 0, [[3, 2, 1, 0], [4, 5, 6, 7], [11, 10, 9, 8]]),
        ("x", 1, [[0, 3, 2, 1], [4, 5, 6, 7], [8, 11, 10, 9]]),
        ("x", "-1", [[2, 1, 0, 3], [4, 5, 6, 7], [10, 9, 8, 11]]),
        ("y", 0, [[8, 1, 10, 3], [4, 5, 6, 7], [0, 9, 2, 11]]),
        ("y", 1, [[0, 1, 2, 3], [8, 5, 10, 7], [4, 9, 6, 11]]),
        (None, 3, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]),
    ],
)
def test_every_other_line_of_a_winding_scan_is_turned_round(stream, axis, hysteresis, expected):
    (path,) = stream(numbered(12), times=1e9 + np.arange(12))
    ds = imload(path, nav_shape=(3, 4), winding_scan_axis=axis, hysteresis=hysteresis)
    assert ds.image.dims == ("y", "x", "v", "u")
    assert ds.image[..., 0, 0].values.tolist() == expected
    np.testing.assert_array_equal(ds.time, expected)
    np.testing.assert_array_equal(ds.image[:, 1:, 1], numbered(12)[np.array(expected)][:, 1:, 1])


def test_winding_works_with_the_found_scan_more_axes_blanks_and_the_rotator(stream):
    (path,) = stream(numbered(14), positions=raster((3, 4), before=2), rotator=[0, 0, 1, 2, 3, 4, *[0] * 8])
    assert shown(path, winding_scan_axis="x")[0] == [5, 4, 3, 2]
    assert shown(path, nav_shape=(2, 2, 3), winding_scan_axis="x", sync_offset=0) == [
        [[2, 1, 0], [3, 4, 5]],
        [[8, 7, 6], [9, 10, 11]],
    ]
    with pytest.warns(emio.EmioWarning, match="missing"):
        assert shown(path, nav_shape=(5, 3), winding_scan_axis="x", sync_offset=-1)[0] == [1, 0, 0]
    assert shown(path, scan_shape="auto", winding_scan_axis="x") == [[3, 2], [4, 5]]


def test_blank_frames_of_a_winding_scan_stay_blank_when_corrected(stream):
    (path,) = stream(np.full((3, 2, 2), 7, "u2"))
    with pytest.warns(emio.EmioWarning, match="missing"):
        ds = imload(path, nav_shape=(2, 2), winding_scan_axis="x", corrections={"dark": np.full((2, 2), 5.0)})
    assert ds.image[..., 0, 0].values.tolist() == [[2, 2], [2, 0]]


def test_a_series_cannot_wind(stream):
    (path,) = stream(numbered(4))
    with pytest.raises(ArgumentError, match=r"winding_scan_axis needs a scan.*nav_shape="):
        imload(path, winding_scan_axis="x")


# Calibration and facts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "units"), [(1, "nm"), (2, "1/nm")])
def test_hyperspy_stores_the_step_of_the_image(stream, mode, units):
    (path,) = stream(numbered(4), filler="HYPERSPY", mode=mode, pixel_size=3, header={"IXOff": 10, "IYOff": -4})
    ds = imload(path, nav_shape=(2, 2))
    np.testing.assert_array_equal(ds.v, [-4, -1, 2])
    np.testing.assert_array_equal(ds.u, [10, 13])
    assert ds.v.attrs == ds.u.attrs == {"units": units}
    assert set(ds.coords) == {"v", "u", "time"}
    assert "detector_pixel_size" not in ds.attrs["acquisition"]
    np.testing.assert_array_equal(imload(path).y, [-4, -1, 2])


@pytest.mark.parametrize(
    "fields",
    [
        {"filler": "TVIPS"},
        {"filler": "HYPERSPY", "pixel_size": 0},
        {"filler": "HYPERSPY", "pixel_size": -5},
        {"filler": "HYPERSPY", "mode": 0},
        {"filler": "HYPERSPY", "mode": 7},
        {"filler": "HYPERSPY", "header_bytes": 24},
        {"filler": "HYPERSPY", "version": 1},
    ],
)
def test_otherwise_nothing_is_calibrated(stream, fields):
    (path,) = stream(numbered(2), **{"pixel_size": 15600, **fields})
    assert set(imload(path).coords) == {"time"}


def test_another_frame_shape_is_not_calibrated(stream):
    (path,) = stream(numbered(2), filler="HYPERSPY", pixel_size=3)
    ds = imload(path, sig_shape=(2, 3))
    assert set(ds.coords) == {"time"}
    np.testing.assert_array_equal(ds.image, numbered(2).reshape(2, 2, 3))


@pytest.mark.parametrize(("mode", "name"), [(1, "magnification"), (2, "camera_length")])
def test_acquisition_depends_on_the_mode(stream, mode, name):
    stage = {"stage_x": 1.5, "stage_y": -2, "stage_z": 3, "stage_alpha": 10, "stage_beta": -0.5}
    (path,) = stream(
        numbered(2),
        mode=mode,
        times=1600000000.25,
        header={"IHT": 300, "IMagTotal": 250, "IXBin": 4, "IYBin": 2},
        frame_header=stage,
    )
    assert imload(path).attrs["acquisition"] == {
        "start_time": "2020-09-13T12:26:40.250+00:00",
        "beam_energy": 300,
        name: 250,
        "binning": [2, 4],
        "stage": {"x": 1.5, "y": -2, "z": 3, "alpha": 10, "beta": -0.5},
        "detector_pixel_size": 15600,
    }


def test_times_are_relative_to_the_first_frame_of_the_recording(stream):
    times = 1.6e9 + np.array([0.75, 1.0, 2.125, 0.25])
    pieces = stream(numbered(4), times=times, per_file=3)
    time = TvipsSource(pieces[0]).to_dask().time
    assert time.chunks is not None  # lazy
    np.testing.assert_array_equal(time, [0, 0.25, 1.375, -0.5])
    np.testing.assert_array_equal(imload(pieces[0], sync_offset=1, nav_shape=2).time, [0.25, 1.375])


def test_other_facts_come_when_asked_for(stream):
    facts = {"stage_alpha": [1, 2, np.inf, np.nan], "heating_temperature": [20, 30, 40, 50]}
    (path,) = stream(numbered(4), frame_header=facts, rotator=[1, 2, 3, 4])
    ds = imload(path, nav_shape=(2, 2), frame_facts=["stage_alpha", "rotator", "heating_temperature", "time"])
    np.testing.assert_array_equal(ds.stage_alpha, np.reshape(facts["stage_alpha"], (2, 2)))
    assert ds.stage_alpha.attrs == {"units": "degree"}
    assert ds.rotator.values.tolist() == [[1, 2], [3, 4]]
    assert ds.rotator.dtype == np.uint32
    assert imload(path, frame_facts="rotator").rotator.values.tolist() == [1, 2, 3, 4]
    with pytest.raises(ArgumentError, match="'stage_alpha'"):
        imload(path, frame_facts="tilt")
    (short,) = stream(numbered(4), "short", header_bytes=43)
    assert "stage_z" in imload(short, frame_facts="stage_z").coords
    with pytest.raises(ArgumentError, match=r"short.*43 bytes hold only counter.*stage_z$"):
        imload(short, frame_facts="stage_alpha")


def test_the_whole_header_is_kept_and_attributes_are_json(stream):
    fields = dict.fromkeys(["stage_x", "faraday"], np.inf) | {"objective": np.nan}
    (path,) = stream(numbered(2), frame_header=fields, header={"IHT": -1})
    attrs = imload(path).attrs
    header = attrs["metadata"]["fileheader"]
    assert set(SERIES_HEADER.names) <= set(header)
    assert set(FRAME_HEADER.names) == set(header["frame_header"])
    assert header["filler"].startswith("TVIPS TVIPS")
    assert json.loads(json.dumps(attrs, allow_nan=False))["format"] == "tvips"


# Refused -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "match"),
    [
        ({"ISize": 255}, "begins with 255"),
        ({"IVersion": 3}, "IVersion is 3"),
        ({"IVersion": 0}, "IVersion is 0"),
        ({"IBPP": 12}, "IBPP.* is 12"),
        ({"IBPP": -8}, "IBPP.* is -8"),
        ({"IXDim": 0}, "0 x 3 pixels"),
        ({"IYDim": -3}, "2 x -3 pixels"),
        ({"IImgHeaderBytes": 11}, "IImgHeaderBytes is 11"),
        ({"IImgHeaderBytes": -60}, "IImgHeaderBytes is -60"),
    ],
)
def test_impossible_headers_are_refused(stream, header, match):
    (path,) = stream(numbered(2), header=header)
    with pytest.raises(HeaderError, match=rf"movie.*not the beginning of a TVIPS stream: .*{match}"):
        imload(path, format="tvips")


@pytest.mark.parametrize(
    "header",
    [
        {"IXDim": 2**31 - 1, "IYDim": 2**31 - 1, "IBPP": 64},
        {"IXDim": 2**16, "IYDim": 2**16},
        {"IXDim": 1000},
        {"IImgHeaderBytes": 2**31 - 1},
    ],
)
def test_frames_larger_than_the_file_are_refused_before_anything_is_allocated(stream, header):
    (path,) = stream(numbered(2), header=header)
    with pytest.raises(TruncatedError, match=r"a frame of .* takes \d+ bytes, but only \d+ are there"):
        imload(path)


@pytest.mark.parametrize("size", [0, 3, 4, 20, 51, 52, 255])
def test_files_shorter_than_their_header_are_refused(stream, size):
    (path,) = stream(numbered(2))
    os.truncate(path, size)
    with pytest.raises(TruncatedError, match="series header"):
        imload(path, format="tvips")


def test_a_file_without_frames_is_refused(stream):
    (path,) = stream(numbered(2))
    os.truncate(path, 256)
    with pytest.raises(TruncatedError, match="no frame"):
        imload(path)


@pytest.mark.parametrize("piece", [0, 1])
def test_a_recording_that_was_cut_off_is_refused_and_its_whole_frames_are_counted(stream, piece):
    pieces = stream(numbered(6), per_file=3, header_bytes=60)
    os.truncate(pieces[piece], pieces[piece].stat().st_size - 1)
    with pytest.raises(TruncatedError, match=rf"movie_00{piece}\.tvips.*only 2 are whole.*cut off") as caught:
        imload(pieces[0])
    assert f"file_header={0 if piece else 256}, frame_header=60 and nav_shape=(2,)" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"sig_shape": (3, 3)}, "sig_shape"),
        ({"sync_offset": 6}, "sync_offset=6 is out of range"),
        ({"sync_offset": -6}, "sync_offset=-6 is out of range"),
        ({"scan_start_frame": 6}, "out of range"),
        ({"scan_start_frame": -1}, "scan_start_frame"),
        ({"scan_shape": "square"}, "scan_shape"),
        ({"scan_shape": (2, 3), "nav_shape": (3, 2)}, "contradict"),
        ({"scan_shape": "auto", "nav_shape": (3, 2)}, "contradict"),
        ({"scan_shape": "auto", "sync_offset": 1}, "leave out sync_offset"),
        ({"scan_start_frame": 1, "sync_offset": 2}, "contradict"),
        ({"winding_scan_axis": "z"}, "winding_scan_axis"),
        ({"hysteresis": 0.5}, "hysteresis"),
        ({"disable_glob": "perhaps"}, "disable_glob"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(stream, arguments, match):
    (path,) = stream(numbered(6), rotator=[0, 1, 2, 3, 4, 0])
    with pytest.raises(ArgumentError, match=match):
        imload(path, **arguments)


def test_a_missing_file_is_told(tmp_path, stream):
    stream(numbered(4), per_file=2)
    with pytest.raises(MissingFileError, match=r"movie_002\.tvips"):
        imload(tmp_path / "movie_002.tvips", format="tvips")


# Real files, and other readers ---------------------------------------------------------------------------------------

REAL = [
    "test_tvips_2233_000.tvips",
    "test_tvips_2345_000.tvips",
    "test_tvips_2233_000.tvips#scan",
    "test_tvips_2233_000.tvips#auto",
    "test_tvips_2233_000.tvips#winding_x",
    "test_tvips_2345_000.tvips#scan",
    "test_tvips_2345_000.tvips#winding_y",
]


@pytest.mark.parametrize("case", REAL)
def test_real_files_are_read_as_expected(real_files, case):
    files = real_files("tvips")
    expected = files.expected[case]
    ds = imload(files.path(case.partition("#")[0]), chunks=None, **expected.get("kwargs", {}))
    assert list(ds.image.shape) == expected["shape"]
    assert str(ds.image.dtype) == expected["dtype"]
    assert hashlib.sha256(np.ascontiguousarray(ds.image.values, "<u2")).hexdigest() == expected["sha256"]
    if expected["axes"] is None:
        return
    assert "".join(ds.image.dims) == expected["axes"]
    assert ds.attrs["metadata"]["spacing"] == expected["spacing"]
    assert ds.attrs["metadata"]["spacing_units"] == expected["units"]
    assert {a: ds[a].values[0] for a in expected["origin"]} == expected["origin"]


@pytest.mark.peers
@pytest.mark.parametrize(
    "arguments",
    [
        {"scan_shape": (3, 4)},
        {"scan_shape": (2, 4), "scan_start_frame": 3},
        {"scan_shape": (3, 4), "winding_scan_axis": "x", "hysteresis": 2},
        {"scan_shape": (3, 4), "winding_scan_axis": "y", "hysteresis": -1},
        {"scan_shape": "auto"},
    ],
)
def test_rosettasciio_arranges_frames_alike(stream, arguments):
    tvips = pytest.importorskip("rsciio.tvips")
    pieces = stream(numbered(12), per_file=5, rotator=[0, 1, 3, 3, 4, 5, 5, 6, 7, 8, 9, 9])
    theirs = tvips.file_reader(str(pieces[0]), **arguments)[0]["data"]
    np.testing.assert_array_equal(imload(pieces[0], **arguments).image, theirs)


@pytest.mark.peers
@pytest.mark.parametrize("before", [0, 5])
def test_libertem_finds_the_same_scan(stream, before):
    libertem = pytest.importorskip("libertem.api")
    pieces = stream(numbered(12 + before, 16, 16), positions=raster((3, 4), before=before))
    with libertem.Context.make_with("inline") as context:
        theirs = context.load("tvips", path=str(pieces[0]))
        assert tuple(theirs.shape) == (3, 4, 16, 16)
        total = context.run(context.create_sum_analysis(dataset=theirs)).intensity.raw_data
    ours = imload(pieces[0])
    np.testing.assert_array_equal(ours.image.sum(("y", "x")), total)
