"""The frames engine: any layout, through any navigation, with any backend and scheduler, gives the same pixels."""

import math
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import dask
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import intake_emio as emio
from intake_emio.errors import ArgumentError, EmioWarning, MissingFileError, PartitionError, TruncatedError
from intake_emio.frames.chunking import frame_chunks
from intake_emio.frames.frames import Frames
from intake_emio.frames.layout import FrameStack, Piece
from intake_emio.frames.lazy import lazy, load, pieces, pixels_of
from intake_emio.frames.navigation import Navigation
from intake_emio.frames.pixels import whole
from intake_emio.frames.storage import Storage
from intake_emio.frames.views import Permuted, Selected
from tests.encoders.raw import write_raw

quick = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
DTYPES = ["u1", "<u2", ">u2", "<i2", ">i4", "<f4", ">f8", "<c8", "?", "<u8", ">f2"]


@st.composite
def layouts(draw):
    """Some frames, how they are spread over files, and through which navigation they are seen."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    frame = draw(st.tuples(st.integers(1, 5), st.integers(1, 6)))
    counts = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    raw = random.integers(0, 256, (sum(counts), math.prod(frame) * dtype.itemsize), dtype="u1")
    if dtype.kind in "fc":
        stored = random.integers(-99, 99, (sum(counts), *frame)).astype(dtype)
    elif dtype.kind == "b":
        stored = random.integers(0, 2, (sum(counts), *frame)).astype(bool)
    else:
        stored = raw.view(dtype).reshape(sum(counts), *frame)
    return {
        "frames": stored,
        "counts": counts,
        "offset": draw(st.integers(0, 9)),
        "header": draw(st.integers(0, 7)),
        "footer": draw(st.integers(0, 5)),
        "flip": draw(st.booleans()),
        "scan": draw(st.tuples(st.integers(1, 4), st.integers(1, 5))),
        "first": draw(st.integers(-6, 6)),
    }


def written(layout, folder: Path) -> tuple[Frames, np.ndarray]:
    """Write a layout's files; return the engine's view of them and what it should show, worked out with NumPy alone."""
    stored, start, made = layout["frames"], 0, []
    for number, count in enumerate(layout["counts"]):
        path = folder / f"{number}.bin"
        write_raw(
            path,
            stored[start : start + count],
            file_header=b"\xaa" * layout["offset"],
            frame_header=layout["header"],
            frame_footer=layout["footer"],
        )
        made.append(Piece(str(path), layout["offset"], count))
        start += count
    stack = FrameStack(tuple(made), stored.dtype, stored.shape[1:], layout["header"], layout["footer"], layout["flip"])
    ny, nx = layout["scan"]
    expected = np.zeros((ny * nx, *stored.shape[1:]), stored.dtype.newbyteorder("="))
    for point in range(ny * nx):
        if 0 <= point + layout["first"] < len(stored):
            frame = stored[point + layout["first"]]
            expected[point] = frame[::-1] if layout["flip"] else frame
    frames = Frames(stack, Navigation.of((ny, nx), layout["first"]), Storage())
    return frames, expected.reshape(ny, nx, *stored.shape[1:])


def with_storage(frames: Frames, backend: str) -> Frames:
    return Frames(frames.stack, frames.navigation, Storage(backend), frames.stamps)


@quick
@given(layout=layouts())
@pytest.mark.parametrize("backend", ["mmap", "buffered", "direct"])
def test_every_layout_reads_as_written(layout, backend, tmp_path_factory):
    frames, expected = written(layout, tmp_path_factory.mktemp("layout"))
    frames = with_storage(frames, backend)
    np.testing.assert_array_equal(frames.read(whole(frames.shape)), expected)
    np.testing.assert_array_equal(load(frames), expected)
    assert frames.dtype.isnative


@quick
@given(layout=layouts(), data=st.data())
def test_any_index_gives_what_numpy_gives(layout, data, tmp_path_factory):
    frames, expected = written(layout, tmp_path_factory.mktemp("index"))
    index = tuple(
        data.draw(st.one_of(st.integers(-n, n - 1), st.slices(n))) for n in frames.shape[: data.draw(st.integers(0, 4))]
    )
    np.testing.assert_array_equal(frames[index], expected[index])


@quick
@given(layout=layouts(), data=st.data())
def test_lists_index_each_axis_on_its_own(layout, data, tmp_path_factory):
    frames, expected = written(layout, tmp_path_factory.mktemp("lists"))
    rows = data.draw(st.lists(st.integers(-frames.shape[0], frames.shape[0] - 1), min_size=1, max_size=4))
    columns = data.draw(st.lists(st.integers(0, frames.shape[3] - 1), min_size=1, max_size=4))
    np.testing.assert_array_equal(frames[rows, :, 0, columns], expected[rows][:, :, 0][..., columns])


@quick
@given(layout=layouts(), data=st.data())
def test_views_of_views_read_what_numpy_reads(layout, data, tmp_path_factory):
    frames, expected = written(layout, tmp_path_factory.mktemp("views"))
    order = tuple(data.draw(st.permutations(range(4))))
    turned, turned_expected = Permuted(frames, order), expected.transpose(order)
    picks, index = [], []
    for n in turned.shape:
        kind = data.draw(st.sampled_from(["slice", "list", "int"]))
        if kind == "slice":
            start = data.draw(st.integers(0, n - 1))
            picks.append(slice(start, data.draw(st.integers(start + 1, n)), data.draw(st.integers(1, 3))))
        elif kind == "list":
            picks.append(tuple(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=3))))
        else:
            picks.append(data.draw(st.integers(0, n - 1)))
        index.append(list(picks[-1]) if isinstance(picks[-1], tuple) else picks[-1])
    part = Selected(turned, tuple(picks))
    wanted = turned_expected
    for axis in reversed(range(4)):
        wanted = wanted[(slice(None),) * axis + (index[axis],)]
    assert part.shape == wanted.shape
    np.testing.assert_array_equal(part.read(whole(part.shape)), wanted)
    out = np.empty(wanted.shape, wanted.dtype)
    part.read(whole(part.shape), out)
    np.testing.assert_array_equal(out, wanted)


@quick
@given(layout=layouts(), chunks=st.tuples(*[st.integers(1, 4)] * 4))
def test_lazy_arrays_are_the_same_whatever_the_chunks(layout, chunks, tmp_path_factory):
    frames, expected = written(layout, tmp_path_factory.mktemp("lazy"))
    for storage in ("mmap", "buffered"):
        array = lazy(with_storage(frames, storage), chunks)
        np.testing.assert_array_equal(array.compute(scheduler="threads"), expected)


@quick
@given(
    navigation=st.lists(st.integers(1, 300), min_size=0, max_size=3),
    frame=st.lists(st.integers(1, 512), min_size=1, max_size=2),
    itemsize=st.sampled_from([1, 2, 4, 8]),
    views=st.booleans(),
)
def test_chunks_hold_whole_frames_that_follow_each_other(navigation, frame, itemsize, views):
    shape = (*navigation, *frame)
    chunk = frame_chunks(shape, itemsize, len(frame), views=views)
    assert chunk[len(navigation) :] == tuple(frame)
    cut = [k for k, (c, n) in enumerate(zip(chunk, shape, strict=True)) if 1 < c < n]
    assert len(cut) <= 1
    if cut:  # single outer indices, whole inner axes
        assert set(chunk[: cut[0]]) <= {1}
        assert chunk[cut[0] + 1 :] == shape[cut[0] + 1 :]


def test_a_lazy_scan_has_64_mib_chunks_of_whole_rows():
    assert frame_chunks((256, 256, 256, 256), 2, 2, views=True) == (2, 256, 256, 256)
    assert frame_chunks((256, 256, 256, 256), 2, 2, views=False)[:2] == (1, 128)


def test_a_cut_of_small_data_still_feeds_every_core():
    chunk = frame_chunks((64, 64, 128, 128), 2, 2, views=True)
    assert math.prod(chunk) * 2 >= 4 << 20
    assert 64 * 64 / (chunk[0] * chunk[1]) >= 8


# Laziness ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def scan(tmp_path):
    """A raw scan of 8 x 10 frames of 16 x 12 pixels behind headers."""
    frames = np.random.default_rng(1).integers(0, 60000, (80, 16, 12), dtype="u2")
    path = write_raw(tmp_path / "scan.bin", frames, file_header=b"h" * 10, frame_header=6, frame_footer=3)
    options = {
        "dtype": "<u2",
        "sig_shape": (16, 12),
        "nav_shape": (8, 10),
        "file_header": 10,
        "frame_header": 6,
        "frame_footer": 3,
    }
    return str(path), options, frames.reshape(8, 10, 16, 12)


def test_one_frame_reads_one_frame(scan, monkeypatch):
    path, options, expected = scan
    image = emio.imload(path, **options).image
    boxes = []
    read = Frames.read
    monkeypatch.setattr(Frames, "read", lambda self, box, out=None: boxes.append(box) or read(self, box, out))
    np.testing.assert_array_equal(image[3, 4].values, expected[3, 4])
    assert boxes[-1][:2] == (slice(3, 4, 1), slice(4, 5, 1))
    np.testing.assert_array_equal(image[..., 2:5, 3:7].sum(("v", "u")).values, expected[..., 2:5, 3:7].sum((2, 3)))
    assert all(box[2:] == (slice(2, 5, 1), slice(3, 7, 1)) for box in boxes[1:])


def test_one_frame_reads_one_frame_in_any_order_of_axes(scan, monkeypatch):
    path, options, expected = scan
    image = emio.imload(path, output_axis_order="uvxy", **options).image
    boxes = []
    read = Frames.read
    monkeypatch.setattr(Frames, "read", lambda self, box, out=None: boxes.append(box) or read(self, box, out))
    np.testing.assert_array_equal(image.isel(y=3, x=4).values, expected[3, 4].T)
    assert [box[:2] for box in boxes] == [(slice(3, 4, 1), slice(4, 5, 1))]


def test_a_graph_holds_names_and_numbers_only(scan):
    path, options, _ = scan
    image = emio.imload(path, chunks="frame", **options).image
    assert len(pickle.dumps(image.data)) < 10_000


def test_a_million_frames_make_a_small_graph_without_reading_a_pixel(tmp_path, monkeypatch):
    path = tmp_path / "many.bin"
    with open(path, "wb") as file:
        file.truncate(1_000_000 * 64 * 64 * 2)
    monkeypatch.setattr(Storage, "fetch", lambda *_: pytest.fail("pixels were read"))
    image = emio.imload(path, dtype="u2", sig_shape=(64, 64), nav_shape=(1000, 1000)).image
    mean = image.mean(("y", "x"))
    fused = image.emio.mean(("y", "x"))
    assert len(pickle.dumps(image.data)) < 10_000
    assert len(pickle.dumps(pixels_of(image.data))) < 1_000
    assert mean.shape == fused.shape == (64, 64)


def test_different_chunks_have_different_names_and_equal_files_equal_ones(scan):
    path, options, _ = scan
    first, second = (emio.imload(path, **options).image.data for _ in range(2))
    assert first.name == second.name
    assert emio.imload(path, chunks="frame", **options).image.data.name != first.name
    assert emio.imload(path, **{**options, "sync_offset": 1}).image.data.name != first.name
    os.utime(path, (1, 1))
    assert emio.imload(path, **options).image.data.name != first.name


def test_small_results_are_independent_of_the_file(scan):
    path, options, expected = scan
    frame = emio.imload(path, **options).image[0, 0].values
    frame[0, 0] += 1  # writeable: a copy, not a view of the file
    np.testing.assert_array_equal(emio.imload(path, **options).image[0, 0].values, expected[0, 0])


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_the_same_graph_runs_on_every_scheduler(scan, scheduler):
    path, options, expected = scan
    image = emio.imload(path, chunks={"y": 3}, **options).image
    with dask.config.set(scheduler=scheduler):
        np.testing.assert_array_equal(image.sum(("y", "x")).values, expected.sum((0, 1)))
        np.testing.assert_array_equal(image.emio.sum(("v", "u")).values, expected.sum((2, 3)))


def test_a_cluster_of_processes_computes_on_a_source(scan):
    from distributed import Client, LocalCluster

    path, options, expected = scan
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        image = emio.imload(path, chunks={"y": 2}, **options).image
        np.testing.assert_array_equal(image.mean(("y", "x")).values, expected.mean((0, 1)))
        np.testing.assert_array_equal(image.emio.sum(("y", "x")).values, expected.sum((0, 1)))
        source = __import__("intake").open_emio_raw(path, **options)
        total = client.submit(lambda s: int(s.read().image.sum()), source).result()
        assert total == int(expected.sum())


MEMORY = textwrap.dedent(
    """
    import resource, sys
    import numpy as np, dask
    import intake_emio as emio
    path, road = sys.argv[1:]
    image = emio.imload(path, dtype=">u2", sig_shape=(256, 256), io_backend="buffered").image
    image[:16].emio.mean("i").values  # what is imported and compiled does not count
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with dask.config.set(scheduler="threads", num_workers=2):
        mean = (image.emio if road == "fused" else image).mean("i").values
    assert mean.shape == (256, 256)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    """
)


@pytest.mark.parametrize("road", ["plain", "fused"])
def test_memory_stays_flat_when_a_large_file_is_averaged(tmp_path, road):
    path = tmp_path / "large.bin"
    with open(path, "wb") as file:
        file.truncate(1 << 30)  # sparse: takes no disk
    done = subprocess.run([sys.executable, "-c", MEMORY, str(path), road], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 256  # MiB, for 1 GiB of pixels


# Files that change ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["mmap", "buffered", "direct"])
@pytest.mark.parametrize("road", ["plain", "fused", "load"])
def test_a_file_that_shrinks_after_opening_is_named(scan, backend, road):
    path, options, _ = scan
    dataset = emio.imload(path, io_backend=backend, **options)
    assert dataset.image[0, 0].values.shape == (16, 12)  # the file is mapped now, where it is mapped
    os.truncate(path, os.path.getsize(path) // 2)
    with pytest.raises(TruncatedError, match=r"scan\.bin.*shorter"):
        {"plain": dataset.compute, "fused": dataset.image.emio.sum("yx").compute, "load": dataset.emio.load}[road]()


@pytest.mark.parametrize("backend", ["mmap", "buffered", "direct"])
def test_a_file_that_vanishes_after_opening_is_named(scan, backend):
    path, options, _ = scan
    dataset = emio.imload(path, io_backend=backend, **options)
    os.remove(path)
    with pytest.raises(MissingFileError, match=r"scan\.bin.*vanished"):
        dataset.compute()


def test_a_file_that_is_replaced_is_mapped_anew(scan):
    path, options, expected = scan
    dataset = emio.imload(path, **options)
    np.testing.assert_array_equal(dataset.image[0, 0].values, expected[0, 0])
    other = Path(path).with_suffix(".new")
    other.write_bytes(bytes(os.path.getsize(path)))
    os.replace(other, path)
    assert not dataset.image[0, 0].values.any()


def test_backend_names_are_checked(scan):
    path, options, _ = scan
    with pytest.raises(ArgumentError, match="io_backend must be one of mmap, buffered, direct"):
        emio.imload(path, io_backend="turbo", **options)


# Tiles, regions, diagnostics ------------------------------------------------------------------------------------------


def test_tiles_make_up_the_whole(scan):
    import intake

    path, options, expected = scan
    source = intake.open_emio_raw(path, **options)
    got = np.zeros_like(expected)
    for place, pixels in source.iter_tiles(nbytes=2000, dtype="u2"):
        got[place["y"], place["x"]] += pixels
        assert pixels.nbytes <= 2000
    np.testing.assert_array_equal(got, expected)


def test_tiles_of_a_region_hold_its_frames_in_order(scan):
    import intake

    path, options, expected = scan
    roi = np.random.default_rng(3).random((8, 10)) < 0.3
    tiles = [pixels for _, pixels in intake.open_emio_raw(path, **options).iter_tiles(roi=roi)]
    np.testing.assert_array_equal(np.concatenate(tiles), expected[roi])


def test_a_region_of_interest_reads_only_its_frames(scan, monkeypatch):
    path, options, expected = scan
    roi = np.zeros((8, 10), bool)
    roi[2, 3:6] = roi[5, 0] = roi[7, 9] = True
    dataset = emio.imload(path, metadata={"spacing": {"y": 2.0}}, **options)
    picked = dataset.emio.frames(roi)
    boxes = []
    read = Frames.read
    monkeypatch.setattr(Frames, "read", lambda self, box, out=None: boxes.append(box) or read(self, box, out))
    np.testing.assert_array_equal(picked.values, expected[roi])
    assert sum((b[0].stop - b[0].start) * (b[1].stop - b[1].start) for b in boxes) == roi.sum()
    np.testing.assert_array_equal(picked.coords["y"].values, 2.0 * np.nonzero(roi)[0])


def test_a_region_of_another_shape_is_refused(scan):
    path, options, _ = scan
    with pytest.raises(ArgumentError, match=r"roi of shape \(3, 3\)"):
        emio.imload(path, **options).emio.frames(np.ones((3, 3), bool))


def test_diagnostics_say_how_pixels_are_read(scan):
    import intake

    path, options, _ = scan
    facts = intake.open_emio_raw(path, **options).diagnostics()
    assert facts["layout"]["frame_header"] == 6
    assert facts["layout"]["frame_bytes"] == 16 * 12 * 2
    assert facts["files"] == [path]
    assert facts["backend"] == "mmap"
    assert facts["bytes in memory"] == 80 * 16 * 12 * 2


def test_detect_returns_the_parameters_found(scan):
    path, options, _ = scan
    found = emio.detect(path, **options)
    assert found.format == "raw"
    assert found.parameters == {
        "axes": "yxvu",
        "nav_shape": (8, 10),
        "sig_shape": (16, 12),
        "dtype": "uint16",
        "sync_offset": 0,
    }


def test_blank_scan_points_cost_no_memory(tmp_path):
    path = write_raw(tmp_path / "one.bin", np.ones((1, 4, 4), "u1"))
    with pytest.warns(EmioWarning, match="missing"):
        image = emio.imload(path, dtype="u1", sig_shape=(4, 4), nav_shape=(100_000, 100_000)).image
    assert image[0, 0].values.all()
    assert not image[99_999, 5].values.any()


def test_loading_in_pieces_covers_everything_once():
    stack = FrameStack.in_one_file("x", "u2", (64, 64), 5000)
    frames = Frames(stack, Navigation.of((50, 100)))
    seen = np.zeros(frames.shape[:2], int)
    for box in pieces(frames, 1 << 20):
        seen[box[0], box[1]] += 1
    assert (seen == 1).all()


def test_an_index_out_of_range_names_axis_and_length(scan):
    path, options, _ = scan
    with pytest.raises(PartitionError, match="8"):
        pixels_of(emio.imload(path, **options).image.data)[8]
