"""Reading raw captures of the Gatan K2 IS."""

import pickle
import shutil
import struct

import numpy as np
import pytest

import intake_emio as emio
from intake_emio.errors import ArgumentError, EmioError, EmioWarning, HeaderError, MissingFileError, TruncatedError
from intake_emio.formats.k2is import BLOCK_BYTES, K2ISSource
from intake_emio.frames.storage import Storage

from .encoders.k2is import pack_12_bit, write_gtg, write_k2is

FRAMES = np.random.default_rng(7).integers(0, 4096, (3, 1860, 2048), dtype="u2")
SMALL = FRAMES[:1, :, :1] * np.ones((1, 1, 2048), "u2")  # one frame, for tests that look at headers


def first_pixels(image):
    """Make frames recognisable: which of FRAMES each is, -1 for blank."""
    corner = image.isel(v=0, u=0) if "v" in image.dims else image.isel(y=0, x=0)
    known = {int(frame[0, 0]): k for k, frame in enumerate(FRAMES)} | {0: -1}
    return [known[int(value)] for value in corner.values.ravel()]


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A scan of 2 x 3, one frame in front of it (of which one the flag says)."""
    folder = tmp_path_factory.mktemp("scan")
    write_k2is(folder, "Capture_", FRAMES, count=8, shutter_from=2, scan=(2, 3))
    return folder / "Capture_1.bin"


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    folder = tmp_path_factory.mktemp("film")
    write_k2is(folder, "Capture_", FRAMES, count=5)
    return folder / "Capture_.gtg"


# A frame -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pixels", "stored"),
    [((0xABC, 0xDEF), "bc fa de"), ((1, 2), "01 20 00"), ((4095, 0), "ff 0f 00"), ((0, 4095), "00 f0 ff")],
)
def test_bytes_worked_by_hand_are_unpacked(tmp_path, pixels, stored):
    frame = np.zeros((1, 1860, 2048), "u2")
    paths = write_k2is(tmp_path, "a", frame)
    with paths[2].open("r+b") as sector:  # sector 3, second block: columns 224 ... 239 of the upper half
        sector.seek(BLOCK_BYTES + 40 + 24 * 5)
        sector.write(bytes.fromhex(stored))
    image = emio.imload(paths[0], chunks=None).image
    assert image[0, 5, 512 + 224 : 512 + 226].values.tolist() == list(pixels)
    assert int(image.sum()) == sum(pixels)


@pytest.mark.parametrize("number", [*range(1, 9), 9])
def test_any_of_the_nine_files_opens_the_capture(film, number):
    path = film.with_name(f"Capture_{number}.bin") if number < 9 else film
    found = emio.detect(path)
    assert found.format == "k2is"
    assert found.parameters["sig_shape"] == (1860, 2048)
    assert emio.imload(path).image.shape == (5, 1860, 2048)


def test_a_film_has_all_pixels_in_their_places(film):
    ds = emio.imload(film)
    assert ds.image.dims == ("t", "y", "x")
    assert ds.image.dtype == np.uint16
    np.testing.assert_array_equal(ds.image, FRAMES[[0, 1, 2, 0, 1]])
    assert ds.frame_id.values.tolist() == [1000, 1001, 1002, 1003, 1004]
    assert ds.shutter.values.all()
    assert ds.attrs["acquisition"]["detector"] == "Gatan K2 IS"


def test_a_scan_begins_one_frame_before_the_flag(scan):
    ds = emio.imload(scan)
    assert ds.image.dims == ("y", "x", "v", "u")
    np.testing.assert_array_equal(ds.image[0, 0], FRAMES[1])
    assert first_pixels(ds.image) == [1, 2, 0, 1, 2, 0]
    assert ds.frame_id.values.tolist() == [[1001, 1002, 1003], [1004, 1005, 1006]]
    assert ds.shutter.values.tolist() == [[False, True, True], [True, True, True]]
    header = ds.attrs["metadata"]["fileheader"]
    assert (header["image_count"], header["sync_offset"]) == (8, 2)
    assert header["first_block_offsets"] == [0] * 8
    assert header["last_block_offsets"] == [(8 * 32 - 1) * BLOCK_BYTES] * 8
    assert header["tags"]["SI Dimensions"] == {"Size X": 3, "Size Y": 2}


@pytest.mark.parametrize("io_backend", ["mmap", "buffered", "direct"])
def test_all_ways_to_the_disk_read_the_same(film, io_backend):
    try:
        image = emio.imload(film, chunks=None, io_backend=io_backend, nav_shape=3).image
    except EmioError as error:
        if "direct" not in str(error):
            raise
        pytest.skip(str(error))
    np.testing.assert_array_equal(image, FRAMES)


def test_a_remote_capture_reads_as_a_local_one(film):
    fsspec = pytest.importorskip("fsspec")
    for path in film.parent.iterdir():
        with fsspec.open(f"memory://k2/{path.name}", "wb") as file:
            file.write(path.read_bytes())
    ds = emio.imload("memory://k2/Capture_4.bin")
    np.testing.assert_array_equal(ds.image[1:3], FRAMES[[1, 2]])
    assert (ds.image[:3].emio.sum("t").values == FRAMES.sum(0, dtype="u8")).all()
    fsspec.filesystem("memory").rm("/k2", recursive=True)


@pytest.mark.parametrize(
    "cut",
    [
        (slice(0, 1792), slice(0, 1920)),
        (slice(925, 935), slice(250, 262)),
        (slice(3, 1860, 700), slice(5, 2048, 333)),
        (slice(929, 930), slice(255, 256)),
        (slice(5, 5), slice(0, 3)),
    ],
)
def test_parts_of_frames_are_cut_out(film, cut):
    image = emio.imload(film).image
    np.testing.assert_array_equal(image[(slice(0, 3), *cut)], FRAMES[(slice(0, 3), *cut)])


def test_single_frames_steps_and_lists_are_read(scan):
    image = emio.imload(scan).image
    np.testing.assert_array_equal(image[1, ::2], FRAMES[[1, 0]])
    pixels = K2ISSource(scan).image.pixels
    np.testing.assert_array_equal(pixels[[1, 0], [0, 2]][:, :, 7, 9], [[FRAMES[1][7, 9], FRAMES[0][7, 9]]] * 2)


def test_a_source_and_its_pixels_pickle_small(scan):
    source = pickle.loads(pickle.dumps(K2ISSource(scan)))
    assert len(pickle.dumps(source.image.pixels)) < 10_000
    np.testing.assert_array_equal(source.to_dask().image[0, 0], FRAMES[1])


def test_chunks_are_at_least_sixteen_whole_frames(scan):
    with pytest.warns(EmioWarning, match="missing"):
        image = emio.imload(scan, nav_shape=(40, 50)).image
    assert image.data.chunksize == (1, 17, 1860, 2048)


def test_one_frame_is_fetched_with_one_request(scan, monkeypatch):
    requests = []
    fetch = Storage.fetch
    source = K2ISSource(scan, io_backend="buffered")
    pixels = source.image.pixels
    monkeypatch.setattr(Storage, "fetch", lambda self, ranges: requests.append(list(ranges)) or fetch(self, ranges))
    pixels[1, 1]
    assert [len(ranges) for ranges in requests] == [8]
    assert sum(stop - start for _, start, stop in requests[0]) == 8 * (32 * BLOCK_BYTES - 40)
    pixels[1, 1, :900, 100:110]  # one tile
    assert [stop - start for _, start, stop in requests[1]] == [BLOCK_BYTES - 40]


# Reductions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("io_backend", ["mmap", "buffered"])
def test_fused_reductions_are_those_of_the_pixels(scan, io_backend):
    image = emio.imload(scan, io_backend=io_backend, sync_offset=-1, chunks={"y": 1}).image
    pixels = np.concatenate([np.zeros_like(FRAMES[:2]), FRAMES, FRAMES[:1]]).astype("f8")
    np.testing.assert_array_equal(image, pixels.reshape(image.shape))
    np.testing.assert_array_equal(image.emio.sum(("y", "x")), pixels.sum(0))
    np.testing.assert_allclose(image.emio.mean(("y", "x")), pixels.mean(0))
    np.testing.assert_array_equal(image.emio.sum(("v", "u")).values.ravel(), pixels.sum((1, 2)))
    masks = np.random.default_rng(3).random((2, 1860, 2048))
    expected = np.einsum("ivu,kvu->ik", pixels, masks)
    np.testing.assert_allclose(image.emio.dot(masks).values.reshape(-1, 2), expected, rtol=1e-12)
    narrow = image.emio.dot(masks.astype("f4"))
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow.values.reshape(-1, 2), expected, rtol=1e-5)


def test_sums_of_the_brightest_pixels_do_not_wrap(tmp_path):
    write_k2is(tmp_path, "a", np.full((1, 1860, 2048), 4095, "u2"), count=18)
    image = emio.imload(tmp_path / "a1.bin").image
    total = image.emio.sum("t").values
    assert (total.min(), total.max()) == (18 * 4095, 18 * 4095)
    assert image.emio.sum(("y", "x")).values.tolist() == [4095 * 1860 * 2048] * 18


# sync_offset and nav_shape -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sync_offset", "frames"),
    [
        (None, [1, 2, 0, 1, 2, 0]),
        (2, [1, 2, 0, 1, 2, 0]),
        (1, [0, 1, 2, 0, 1, 2]),
        (0, [-1, 0, 1, 2, 0, 1]),
        (-2, [-1, -1, -1, 0, 1, 2]),
        (3, [2, 0, 1, 2, 0, 1]),
        (5, [1, 2, 0, 1, -1, -1]),
        ("4", [0, 1, 2, 0, 1, -1]),
    ],
)
def test_sync_offset_counts_frames_as_libertem_does(scan, sync_offset, frames):
    assert first_pixels(emio.imload(scan, sync_offset=sync_offset).image) == frames


@pytest.mark.parametrize(("sync_offset", "frames"), [(0, [0, 1, 2, 0, 1]), (2, [2, 0, 1]), (-1, [-1, 0, 1, 2, 0, 1])])
def test_sync_offset_of_a_film_is_the_first_frame(film, sync_offset, frames):
    assert first_pixels(emio.imload(film, sync_offset=sync_offset).image) == frames


@pytest.mark.parametrize("sync_offset", [8, -8, 100])
def test_a_sync_offset_beyond_the_frames_is_refused(scan, sync_offset):
    with pytest.raises(ArgumentError, match="between -7 and 7"):
        emio.imload(scan, sync_offset=sync_offset)


@pytest.mark.parametrize(("nav_shape", "dims"), [(4, "iyx"), ((2, 2), "yxvu"), ((2, 1, 2), "iyxvu")])
def test_nav_shape_reads_a_part(scan, nav_shape, dims):
    image = emio.imload(scan, nav_shape=nav_shape).image
    assert "".join(image.dims) == dims
    assert first_pixels(image) == [1, 2, 0, 1]


def test_more_points_than_frames_are_blank(scan):
    with pytest.warns(EmioWarning, match="1 of 8 frames are missing"):
        image = emio.imload(scan, nav_shape=(2, 4)).image
    assert first_pixels(image) == [1, 2, 0, 1, 2, 0, 1, -1]


def test_a_film_may_be_given_a_scan_shape(film):
    assert emio.imload(film, nav_shape=(2, 2)).image.dims == ("y", "x", "v", "u")


@pytest.mark.parametrize("sig_shape", [(2048, 1860), (1792, 1920), 5])
def test_other_frame_shapes_are_refused(film, sig_shape):
    with pytest.raises(ArgumentError, match="isel"):
        emio.imload(film, sig_shape=sig_shape)


def test_the_stored_frame_shape_may_be_said(film):
    assert emio.imload(film, sig_shape="(1860, 2048)").image.shape[1:] == (1860, 2048)


@pytest.mark.parametrize("nav_shape", [0, (2, 0), (-1, 3)])
def test_empty_navigation_shapes_are_refused(film, nav_shape):
    with pytest.raises(ArgumentError, match="nav_shape"):
        emio.imload(film, nav_shape=nav_shape)


# The shutter ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", range(6))
def test_a_film_begins_where_the_shutter_opens(tmp_path, first):
    write_k2is(tmp_path, "a", SMALL, count=6, shutter_from=first, other_flags=0x5A)
    ds = emio.imload(tmp_path / "a1.bin")
    assert ds.sizes["t"] == 6 - first
    assert ds.frame_id.values.tolist() == list(range(1000 + first, 1006))
    assert ds.shutter.values.all()


def test_a_shutter_that_never_opens_is_warned_of(tmp_path):
    write_k2is(tmp_path, "a", SMALL, count=2, shutter_from=None, other_flags=0x02)
    with pytest.warns(EmioWarning, match="open in no frame"):
        ds = emio.imload(tmp_path / "a1.bin")
    assert ds.sizes["t"] == 2
    assert not ds.shutter.values.any()


def test_a_scan_that_is_open_from_the_start_has_a_blank_point(tmp_path):
    write_k2is(tmp_path, "a", FRAMES, count=4, scan=(1, 4))
    with pytest.warns(EmioWarning, match="first point stays blank"):
        image = emio.imload(tmp_path / "a1.bin").image
    assert first_pixels(image) == [-1, 0, 1, 2]


# Files that do not begin or end together -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"sector_starts": [3, 0, 7, 12, 0, 1, 2, 31]},
        {"sector_starts": [33, 70, 40, 33, 90, 64, 35, 64]},
        {"sector_ends": [3, 0, 7, 12, 0, 1, 2, 31]},
        {"sector_starts": [-3, 0, 7, -12, 0, 1, 2, 0]},
        {"sector_ends": [-3, 0, 7, -12, 0, 1, 2, 0]},
        {"partial_tails": [0, 5, 100, 22359, 3, 40, 39, 1]},
        {"partial_heads": [0, 5, 100, 22359, 3, 40, 39, 1]},
        {"first_block_count": 2**32 - 40},
        {"tile_order": [31 - k for k in range(32)]},
        {"tile_order": [5, *range(5), *range(6, 32)]},
    ],
)
def test_sectors_are_brought_together(tmp_path, settings):
    write_k2is(tmp_path, "a", FRAMES, count=4, **settings)
    image = emio.imload(tmp_path / "a1.bin").image
    frames = first_pixels(image)
    assert len(frames) >= 3
    np.testing.assert_array_equal(image[1], FRAMES[frames[1]])
    assert frames == [(frames[0] + k) % 3 for k in range(len(frames))]


def test_numbers_of_frames_may_jump(tmp_path):
    write_k2is(tmp_path, "a", FRAMES, count=5, frame_ids=[284799, 284800, 2, 3, 4], shutter_from=1)
    ds = emio.imload(tmp_path / "a1.bin")
    assert ds.frame_id.values.tolist() == [284800, 2, 3, 4]
    assert first_pixels(ds.image) == [1, 2, 0, 1]


def test_the_sync_mark_among_pixels_is_no_block(tmp_path):
    mark = np.zeros((2, 1860, 2048), "u2")
    mark[:, 100, 240:244] = 0xFFF, 0x00F, 0x055, 0
    assert pack_12_bit(mark[0, 100, 240:243:1][None, :2])[0].tobytes()[:2] == b"\xff\xff"
    write_k2is(tmp_path, "a", mark, partial_heads=21000)
    np.testing.assert_array_equal(emio.imload(tmp_path / "a3.bin").image, mark)


# Lost blocks ---------------------------------------------------------------------------------------------------------


def holes(count, lost):
    """Frames with lost blocks blanked."""
    expected = np.stack([FRAMES[k % 3] for k in range(count)])
    for sector, blocks in lost.items():
        for block in blocks:
            frame, tile = divmod(block, 32)
            left, top = 256 * (sector - 1) + 16 * (15 - tile % 16), 930 * (tile // 16)
            expected[frame, top : top + 930, left : left + 16] = 0
    return expected


@pytest.mark.parametrize(
    "lost",
    [
        {3: [50]},
        {1: [40], 8: [75]},
        {2: range(60, 110)},
        {5: range(64, 96)},
        {4: [40, 41, 70, 100, 101]},
        {k: [33 + k] for k in range(1, 9)},
        {k: [50, 51] for k in range(1, 9)},
        {k: range(50, 70) for k in range(1, 9)},
        {k: range(50 - k, 60) for k in range(1, 9)},
        {7: range(100, 128)},
    ],
)
def test_lost_blocks_are_blank_and_all_others_in_place(tmp_path, lost):
    write_k2is(tmp_path, "a", FRAMES, count=5, lost=lost)
    with pytest.warns(EmioWarning, match=f"{sum(len(b) for b in lost.values())} blocks were lost") as caught:
        ds = emio.imload(tmp_path / "a1.bin")
    assert all(f"a{k}.bin" in str(caught[0].message) for k in lost)
    expected = holes(5, lost)
    np.testing.assert_array_equal(ds.image, expected)
    np.testing.assert_array_equal(ds.image.emio.sum("t"), expected.sum(0, dtype="u8"))
    np.testing.assert_array_equal(ds.image.emio.sum(("y", "x")), expected.sum((1, 2), dtype="u8"))


@pytest.mark.parametrize("lost", [{3: [5]}, {2: [0], 7: [31]}, {4: range(10, 32)}, {k: [9] for k in range(1, 9)}])
def test_frames_with_losses_at_the_very_beginning_are_left_out(tmp_path, lost):
    write_k2is(tmp_path, "a", FRAMES, count=5, lost=lost)
    ds = emio.imload(tmp_path / "a1.bin")
    assert ds.frame_id.values.tolist() == [1001, 1002, 1003, 1004]
    np.testing.assert_array_equal(ds.image, FRAMES[[1, 2, 0, 1]])


def test_frames_that_no_sector_has_are_not_inserted(tmp_path):
    write_k2is(tmp_path, "a", FRAMES, count=5, lost={k: range(64, 96) for k in range(1, 9)})
    image = emio.imload(tmp_path / "a1.bin").image
    assert first_pixels(image) == [0, 1, 0, 1]


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a4.bin", "a.gtg"])
def test_a_missing_file_is_named(tmp_path, name):
    write_k2is(tmp_path, "a", SMALL)
    (tmp_path / name).unlink()
    with pytest.raises(MissingFileError, match=name):
        emio.imload(tmp_path / "a1.bin")


def test_names_may_be_odd_and_neighbours_are_not_mixed_up(tmp_path):
    write_k2is(tmp_path, "in[1]situ (a)_", SMALL)
    for k in range(1, 10):
        (tmp_path / f"in[1]situ (a)_dark_{k}.bin").write_bytes(b"x")
    (tmp_path / "in[1]situ (a)_9.bin").write_bytes(b"x")
    (tmp_path / "in[1]situ (a)_2.bin").rename(tmp_path / "in[1]situ (a)_2.BIN")
    (tmp_path / "in[1]situ (a)_.gtg").rename(tmp_path / "in[1]situ (a)_.GTG")
    assert emio.imload(tmp_path / "in[1]situ (a)_2.BIN").image.shape == (1, 1860, 2048)
    assert emio.imload(tmp_path / "in[1]situ (a)_.GTG").image.shape == (1, 1860, 2048)


def test_other_bin_files_are_not_recognised(tmp_path):
    (tmp_path / "a1.bin").write_bytes(bytes(100_000))
    (tmp_path / "a.gtg").write_bytes(b"")
    with pytest.raises(EmioError, match="no format fits"):
        emio.imload(tmp_path / "a1.bin")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"width": 255}, "width"),
        ({"height": 1792}, "height"),
        ({"block_size": 0x5759}, "block_size"),
        ({"block_size": 0xC028}, "Summit"),
        ({"sync": 0xFFFF0054}, "no blocks"),
        ({"pixel_x_start": 256, "pixel_x_end": 271}, "tile"),
        ({"pixel_x_start": 8, "pixel_x_end": 23}, "tile"),
        ({"pixel_y_end": 1000}, "tile"),
        ({"pixel_x_start": 0, "pixel_x_end": 15}, "different tiles"),
        ({"frame_id": [1, 1, 1, 1, 1, 1, 1, 2]}, "disagree"),
    ],
)
def test_broken_blocks_are_refused(tmp_path, header, message):
    write_k2is(tmp_path, "a", SMALL, header=header)
    with pytest.raises(HeaderError, match=message):
        K2ISSource(tmp_path / "a1.bin").image  # noqa: B018


def test_sectors_of_other_captures_are_refused_quickly(tmp_path):
    write_k2is(tmp_path, "a", SMALL, count=3, first_block_count=[100] * 5 + [9_000_000] + [100] * 2)
    with pytest.raises(HeaderError, match="cannot be synchronised"):
        emio.imload(tmp_path / "a1.bin")


def test_no_complete_frame_is_refused(tmp_path):
    write_k2is(tmp_path, "a", SMALL, sector_ends=[0, 0, -1, 0, 0, 0, 0, 0])
    with pytest.raises(HeaderError, match="complete frame"):
        emio.imload(tmp_path / "a1.bin")


@pytest.mark.parametrize("size", [0, 39, 22359])
def test_sectors_that_are_too_short_are_refused(tmp_path, size):
    paths = write_k2is(tmp_path, "a", SMALL)
    paths[5].write_bytes(paths[5].read_bytes()[:size])
    with pytest.raises(TruncatedError, match=r"a6\.bin"):
        emio.imload(tmp_path / "a1.bin")


# The tag file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("kind", [int, float, np.uint16, np.int64, np.float32])
def test_the_scan_size_may_be_any_number(tmp_path, scan, version, byte_order, kind):
    for path in scan.parent.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "Capture_.gtg").unlink()
    tree = {"SI Dimensions": {"Size X": kind(2), "Size Y": kind(3)}}
    write_gtg(tmp_path / "Capture_.gtg", tree, version=version, byte_order=byte_order)
    assert emio.imload(tmp_path / "Capture_.gtg").image.shape[:2] == (3, 2)


@pytest.mark.parametrize("size", [(0, 3), (-2, 3), (2**31, 2**31), (100, 100), (float("nan"), 2)])
def test_an_impossible_scan_size_is_refused_but_for_nav_shape(tmp_path, size):
    write_k2is(tmp_path, "a", SMALL, count=3, shutter_from=1, scan=tuple(map(float, size)))
    with pytest.raises(HeaderError, match="nav_shape"):
        emio.imload(tmp_path / "a1.bin")
    assert emio.imload(tmp_path / "a1.bin", nav_shape=2).image.shape[0] == 2


@pytest.mark.parametrize("content", [b"", b"\0\0\0\3", b"\0\0\0\7" + bytes(40), bytes(3)])
def test_broken_tag_files_are_refused(tmp_path, content):
    write_k2is(tmp_path, "a", SMALL)
    (tmp_path / "a.gtg").write_bytes(content)
    with pytest.raises(EmioError, match=r"a\.gtg"):
        emio.imload(tmp_path / "a.gtg")


def test_every_truncation_of_a_tag_file_is_refused(tmp_path):
    write_k2is(tmp_path, "a", SMALL)
    whole = (tmp_path / "a.gtg").read_bytes()
    shutil.copy(tmp_path / "a.gtg", tmp_path / "whole.gtg")
    for size in range(0, len(whole) - 8, 7):
        (tmp_path / "a.gtg").write_bytes(whole[:size])
        with pytest.raises(EmioError, match=r"a\.gtg"):
            K2ISSource(tmp_path / "a1.bin").image  # noqa: B018


def test_a_tag_file_that_promises_endless_tags_is_refused(tmp_path):
    write_k2is(tmp_path, "a", SMALL)
    (tmp_path / "a.gtg").write_bytes(struct.pack(">IIIBBI", 3, 0, 1, 0, 0, 2**32 - 1) + bytes(8))
    with pytest.raises(HeaderError, match="do not fit"):
        emio.imload(tmp_path / "a1.bin")


# Other readers -------------------------------------------------------------------------------------------------------


@pytest.mark.peers
def test_libertem_reads_the_same_film(tmp_path):
    lt = pytest.importorskip("libertem.api")
    from libertem.udf.sum import SumUDF

    starts = [3, 0, 7, 12, 0, 1, 2, 31]
    write_k2is(tmp_path, "a_", FRAMES, count=4, sector_starts=starts, frame_ids=[9, 10, 2, 3])
    ours = emio.imload(tmp_path / "a_.gtg")
    with lt.Context.make_with("inline") as context:
        theirs = context.load("k2is", path=str(tmp_path / "a_.gtg"))
        total = context.run_udf(dataset=theirs, udf=SumUDF())["intensity"].data
    assert tuple(theirs.shape) == ours.image.shape
    np.testing.assert_array_equal(ours.image.emio.sum("t"), total)
