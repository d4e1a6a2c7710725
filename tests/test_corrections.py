"""Dark, gain and dead pixels, applied while frames are read."""

import itertools
import pickle

import dask
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import intake_emio as emio
from intake_emio.errors import ArgumentError, TruncatedError
from intake_emio.formats.raw import RawSource
from intake_emio.frames import corrections as engine
from intake_emio.frames.corrections import Corrected, Corrections, Reference
from intake_emio.frames.frames import Frames
from intake_emio.frames.layout import FrameStack, Piece
from intake_emio.frames.lazy import pixels_of
from intake_emio.frames.navigation import Navigation
from intake_emio.frames.reduce import sum_of_frames

from .encoders.blo import write_blo
from .encoders.seq import write_seq, write_sidecar_mrc

NINE = np.array([[1, 2, 3], [4, 100, 6], [7, 8, 9]], "u1")


def opened(tmp_path, frames, corrections, **arguments):
    """Image of raw frames with any navigation axes."""
    frames = np.asarray(frames)
    path = tmp_path / "frames.bin"
    frames.tofile(path)
    options = {"dtype": frames.dtype.str, "sig_shape": frames.shape[-2:], "nav_shape": frames.shape[:-2] or (1,)}
    return emio.imload(path, corrections=corrections, **{**options, **arguments}).image


def slow(frames, dark=None, gain=None, dead=(), dtype="f4"):
    """The rules, pixel by pixel."""
    shape = frames.shape[-2:]
    dark = np.zeros(shape) if dark is None else dark
    gain = np.ones(shape) if gain is None else gain
    linear = (frames.astype(dtype) - dark.astype(dtype)) * gain.astype(dtype)
    result, wide = linear.copy(), np.result_type("f8", dtype)
    for row, column in dead:
        good = [
            (row + down, column + right)
            for down, right in itertools.product((-1, 0, 1), repeat=2)
            if (down or right)
            and 0 <= row + down < shape[0]
            and 0 <= column + right < shape[1]
            and (row + down, column + right) not in set(dead)
        ]
        if good:
            result[..., row, column] = sum(linear[..., r, c].astype(wide) for r, c in good) / len(good)
    return result


# Arithmetic ----------------------------------------------------------------------------------------------------------


def test_the_example_worked_by_hand(tmp_path):
    ones = np.ones((3, 3))
    image = opened(tmp_path, NINE, {"dark": ones, "gain": 2 * ones, "excluded_pixels": [(1, 1)]})
    assert image[0].values.tolist() == [[0, 2, 4], [6, 8, 10], [12, 14, 16]]
    assert image.dtype == np.float32


def test_gain_is_a_factor_and_negative_results_stay(tmp_path):
    image = opened(tmp_path, NINE, {"dark": np.full((3, 3), 50), "gain": np.full((3, 3), 0.5)})
    assert image[0].values.tolist() == [[-24.5, -24, -23.5], [-23, 25, -22], [-21.5, -21, -20.5]]


@pytest.mark.parametrize(
    ("dead", "repaired"),
    [
        ([(0, 0)], {(0, 0): (2 + 4 + 100) / 3}),
        ([(2, 2)], {(2, 2): (100 + 6 + 8) / 3}),
        ([(0, 1)], {(0, 1): (1 + 3 + 4 + 100 + 6) / 5}),
        ([(1, 0), (1, 1), (1, 2)], {(1, 0): (1 + 2 + 7 + 8) / 4, (1, 1): 5, (1, 2): (2 + 3 + 8 + 9) / 4}),
        ([(0, 0), (1, 1)], {(0, 0): 3, (1, 1): (2 + 3 + 4 + 6 + 7 + 8 + 9) / 7}),
        ([(1, c) for c in range(3)] + [(2, c) for c in range(3)], {(1, 0): 1.5, (1, 1): 2, (1, 2): 2.5}),
    ],
)
def test_dead_pixels_become_the_mean_of_good_neighbours(tmp_path, dead, repaired):
    image = opened(tmp_path, NINE, {"excluded_pixels": dead, "allow_empty": True})[0].values
    for place, value in repaired.items():
        assert image[place] == np.float32(value)


@pytest.mark.parametrize(
    ("stored", "corrected"),
    [
        ("u1", "f4"),
        ("i1", "f4"),
        ("u2", "f4"),
        (">u2", "f4"),
        (">i2", "f4"),
        ("<f4", "f4"),
        (">f4", "f4"),
        ("f2", "f4"),
        ("u4", "f8"),
        (">i4", "f8"),
        ("u8", "f8"),
        ("i8", "f8"),
        ("f8", "f8"),
        ("c8", "c8"),
        ("c16", "c16"),
        ("?", "f4"),
    ],
)
@pytest.mark.parametrize("chunks", [None, {"i": 3}])
def test_types_hold_what_was_stored(tmp_path, stored, corrected, chunks):
    rng = np.random.default_rng(2)
    frames = rng.random((7, 6, 5)) * 100
    frames = (frames + 1j * frames[::-1] if "c" in stored else frames).astype(stored)
    dark, gain = rng.random((2, 6, 5))
    dead = [(0, 0), (3, 4), (3, 3)]
    image = opened(tmp_path, frames, {"dark": dark, "gain": gain, "excluded_pixels": dead}, chunks=chunks)
    assert image.dtype == np.dtype(corrected)
    np.testing.assert_allclose(image, slow(frames, dark, gain, dead, corrected), rtol=1e-5, atol=1e-4)


def test_unsigned_pixels_do_not_wrap(tmp_path):
    image = opened(tmp_path, np.zeros((1, 2, 2), "u2"), {"dark": np.full((2, 2), 7, "u2")})
    assert (image == -7).all()


def test_neighbours_are_summed_in_double_precision(tmp_path):
    frame = np.full((3, 3), 2.0**24, "f4")
    frame[0, :2] = 1  # lost when added to 2 ** 24 in single precision
    image = opened(tmp_path, frame, {"excluded_pixels": [(1, 1)]})
    assert image[0, 1, 1] == np.float32((6 * 2.0**24 + 2) / 8)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_cut_out_equals_the_same_part_of_whole_frames_by_the_slow_rules(tmp_path_factory, data):
    height, width = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 7))
    count = data.draw(st.integers(1, 5))
    dtype = data.draw(st.sampled_from(["u1", "<u2", ">u2", "f4"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    frames = (rng.random((count, height, width)) * 200).astype(dtype)
    dark, gain = rng.random((2, height, width)).astype("f4")
    pixel = st.tuples(st.integers(0, height - 1), st.integers(0, width - 1))
    dead = data.draw(st.lists(pixel, unique=True, max_size=8))
    kept = {"dark": dark, "gain": gain, "excluded_pixels": dead, "allow_empty": True}
    kept = {k: v for k, v in kept.items() if data.draw(st.booleans()) or k == "allow_empty"}
    image = opened(tmp_path_factory.mktemp("cut"), frames, kept)
    expected = slow(frames, kept.get("dark"), kept.get("gain"), kept.get("excluded_pixels", ()))
    part = tuple(
        slice(data.draw(st.integers(0, n)), data.draw(st.integers(0, n)), data.draw(st.integers(1, 3)))
        for n in frames.shape
    )
    np.testing.assert_allclose(image[part].compute(), expected[part], rtol=1e-5, atol=1e-4)


# Parts, orders, blank frames ------------------------------------------------------------------------------------------


@pytest.fixture
def scan(tmp_path):
    """Frames of a scan, their corrections, and what the slow rules make of them."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 4096, (4, 5, 12, 10), "u2")
    dark, gain = rng.random((2, 12, 10)).astype("f4")
    dead = [(3, c) for c in range(10)] + [(8, 8), (0, 0), (11, 9)]
    given_ = {"dark": dark, "gain": gain, "excluded_pixels": dead}
    return tmp_path, frames, given_, slow(frames, dark, gain, dead)


@pytest.mark.parametrize(
    "part",
    [
        (slice(None), slice(None), slice(2, 4), slice(3, 7)),
        (1, 2, 3, slice(None)),
        (1, 2, 3, 4),
        (slice(None), slice(None), slice(None, None, -2), slice(1, 9, 3)),
        (slice(1, 3), [4, 0], slice(4, 8), slice(None)),
        (slice(None), slice(None), slice(8, 9), slice(8, 9)),
    ],
)
def test_cut_outs_have_the_same_numbers_as_whole_frames(scan, part):
    folder, frames, given_, expected = scan
    np.testing.assert_allclose(opened(folder, frames, given_)[part].compute(), expected[part], rtol=1e-5)


@pytest.mark.parametrize("chunks", ["auto", "frame", {"v": 5, "u": 3}, {"y": 1, "v": 4}, None])
@pytest.mark.parametrize("io_backend", ["mmap", "buffered"])
def test_chunks_and_backends_make_no_difference(scan, chunks, io_backend):
    folder, frames, given_, expected = scan
    image = opened(folder, frames, given_, chunks=chunks, io_backend=io_backend)
    np.testing.assert_allclose(image, expected, rtol=1e-5)


def test_other_orders_and_partitions_are_corrected_before(scan):
    folder, frames, given_, expected = scan
    image = opened(folder, frames, given_, output_axis_order="uvxy")
    np.testing.assert_allclose(image, expected.transpose(3, 2, 1, 0), rtol=1e-5)
    image = opened(folder, frames, given_, partition={"y": [3, 0], "u": slice(2, 9, 2)})
    np.testing.assert_allclose(image, expected[[3, 0]][..., 2:9:2], rtol=1e-5)


@pytest.mark.parametrize("io_backend", ["mmap", "buffered"])
def test_blank_frames_stay_zero(scan, io_backend):
    folder, frames, given_, expected = scan
    with pytest.warns(emio.EmioWarning, match="missing"):
        image = opened(folder, frames, given_, nav_shape=(5, 5), sync_offset=-3, io_backend=io_backend)
    flat = np.zeros((25, 12, 10))
    flat[3:23] = expected.reshape(20, 12, 10)
    np.testing.assert_allclose(image, flat.reshape(5, 5, 12, 10), rtol=1e-5)
    np.testing.assert_allclose(image.emio.mean("yx"), flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(image.emio.sum("vu").values.ravel(), flat.sum((1, 2)), rtol=1e-5)


def test_fused_reductions_give_what_plain_ones_do(scan):
    folder, frames, given_, expected = scan
    image = opened(folder, frames, given_, chunks={"y": 3})
    np.testing.assert_allclose(image.emio.sum("yx"), expected.sum((0, 1), dtype="f8"), rtol=1e-5)
    np.testing.assert_allclose(image.emio.mean("vu"), expected.mean((2, 3), dtype="f8"), rtol=1e-5)
    mask = np.random.default_rng(1).random((12, 10))
    np.testing.assert_allclose(image.emio.dot(mask), np.einsum("yxvu,vu->yx", expected.astype("f8"), mask), rtol=1e-5)


@pytest.mark.parametrize("part", [np.s_[:], np.s_[1:4, 2:9, 3:]])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", ">u4"])
def test_frames_stored_upside_down_in_several_files_are_corrected_as_they_are_shown(tmp_path, dtype, part):
    rng = np.random.default_rng(6)
    frames = rng.integers(0, 4096, (7, 12, 10)).astype(dtype)
    for name, some in {"a": frames[:3], "b": frames[3:]}.items():
        some[:, ::-1].tofile(tmp_path / name)
    pieces = (Piece(str(tmp_path / "a"), 0, 3), Piece(str(tmp_path / "b"), 0, 4))
    stack = FrameStack(pieces, np.dtype(dtype), (12, 10), flip=True)
    dark, gain = rng.random((2, 12, 10)).astype("f4")
    references = Reference(dark, "dark"), Reference(gain, "gain")
    pixels = Corrected(Frames(stack, Navigation.of((7,))), Corrections(*references, (13, 70)))
    expected = slow(frames, dark, gain, [(1, 3), (7, 0)], pixels.dtype)
    np.testing.assert_allclose(pixels[part], expected[part], rtol=1e-5)
    np.testing.assert_allclose(sum_of_frames(pixels, (slice(0, 7, 1),)), expected.sum(0, dtype="f8"), rtol=1e-5)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_numbers_that_are_none_are_left_out_of_fused_means_as_of_plain_ones(tmp_path):
    frames = np.ones((4, 3, 3), "f4")
    frames[1, 2, 2] = np.nan
    gain = np.ones((3, 3))
    gain[0, 0] = np.nan
    image = opened(tmp_path, frames, {"gain": gain})
    for dims in ("i", "yx"):
        np.testing.assert_allclose(image.emio.mean(dims), image.mean(list(dims)))


# Arguments -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("corrections", ["auto", True, False, None, "True", "false", {}])
def test_without_references_nothing_changes(tmp_path, corrections):
    image = opened(tmp_path, NINE, corrections)
    assert image.dtype == np.uint8
    assert "corrections" not in image.attrs


def test_no_dead_pixels_are_no_correction(tmp_path):
    assert opened(tmp_path, NINE, {"excluded_pixels": []}).dtype == np.uint8
    assert opened(tmp_path, NINE, {"excluded_pixels": np.zeros((3, 3), bool)}).dtype == np.uint8


@pytest.mark.parametrize("corrections", ["yes", 3, [1], "none"])
def test_other_values_are_refused(tmp_path, corrections):
    with pytest.raises(ArgumentError, match="'auto', True, False or a mapping"):
        opened(tmp_path, NINE, corrections)


def test_what_was_applied_is_told(tmp_path):
    np.save(tmp_path / "gain.npy", np.ones((3, 3)))
    path = str(tmp_path / "gain.npy")
    image = opened(tmp_path, NINE, {"gain": path, "dark": np.zeros((3, 3)), "excluded_pixels": [(0, 0), (1, 1)]})
    assert image.attrs["corrections"] == {"dark": "array (3, 3)", "gain": path, "excluded_pixels": 2}


@pytest.mark.parametrize("dead", [[(1, 1)], np.array([[1, 1], [1, 1]]), NINE == 100, (NINE == 100).tolist()])
def test_dead_pixels_are_a_mask_or_a_list(tmp_path, dead):
    assert opened(tmp_path, NINE, {"excluded_pixels": dead})[0, 1, 1] == 5


def test_references_may_be_files(tmp_path):
    dark = np.arange(9).reshape(3, 3)
    np.save(tmp_path / "dark.npy", dark)
    np.save(tmp_path / "stack.npy", dark[None])
    np.save(tmp_path / "mask.npy", NINE == 100)
    np.save(tmp_path / "list.npy", np.array([[1, 1]]))
    write_sidecar_mrc(tmp_path / "dark.mrc", dark, extended=bytes(128), stale_tail=bytes(500))
    write_sidecar_mrc(tmp_path / "mask.mrc", NINE == 100)
    expected = slow(NINE[None], dark, dead=[(1, 1)])
    for name, dead in itertools.product(["dark.npy", "stack.npy", "dark.mrc"], ["mask.npy", "list.npy", "mask.mrc"]):
        given_ = {"dark": str(tmp_path / name), "excluded_pixels": tmp_path / dead}
        np.testing.assert_array_equal(opened(tmp_path, NINE, given_), expected)


@pytest.mark.parametrize(
    ("given_", "match"),
    [
        ({"dark": np.ones((3, 4))}, r"\(3, 4\).*\(3, 3\)"),
        ({"gain": np.ones((4, 4))}, r"\(4, 4\).*corrections=False"),
        ({"gain": np.ones(9)}, r"\(9,\)"),
        ({"gain": 2}, r"\(\)"),
        ({"dark": np.ones((3, 3), complex)}, "real numbers"),
        ({"dark": [["a"] * 3] * 3}, "real numbers"),
        ({"dark": None, "gian": 1}, "no key 'gian'"),
        ({"excluded_pixels": np.ones((2, 3), bool)}, "mask of shape"),
        ({"excluded_pixels": [(3, 0)]}, "outside"),
        ({"excluded_pixels": [(0, -1)]}, "outside"),
        ({"excluded_pixels": [(1,)]}, "mask or a list"),
        ({"excluded_pixels": [(1, 2), 3]}, "mask or a list"),
        ({"excluded_pixels": [(0.5, 1.0)]}, "mask or a list"),
        ({"excluded_pixels": np.ones((3, 3), bool)}, r"9 dead pixels have no good neighbour.*\(0, 0\).*allow_empty"),
        ({"excluded_pixels": [(0, 0)], "allow_empty": "maybe"}, "allow_empty"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, given_, match):
    with pytest.raises(ArgumentError, match=match):
        opened(tmp_path, NINE, given_)


def test_files_that_do_not_fit_are_refused(tmp_path):
    np.save(tmp_path / "gain.npy", np.ones((2, 3, 3)))
    with pytest.raises(ArgumentError, match=r"gain\.npy has shape \(2, 3, 3\)"):
        opened(tmp_path, NINE, {"gain": tmp_path / "gain.npy"})
    np.save(tmp_path / "complex.npy", np.ones((3, 3), complex))
    with pytest.raises(ArgumentError, match="real numbers"):
        opened(tmp_path, NINE, {"gain": tmp_path / "complex.npy"})
    short = write_sidecar_mrc(tmp_path / "dark.mrc", np.ones((3, 3)))
    short.write_bytes(short.read_bytes()[:-1])
    with pytest.raises(TruncatedError, match=r"dark\.mrc"):
        opened(tmp_path, NINE, {"dark": short})


def test_holes_may_be_left_as_they_are(tmp_path):
    image = opened(
        tmp_path, NINE, {"dark": np.ones((3, 3)), "excluded_pixels": np.ones((3, 3), bool), "allow_empty": "True"}
    )
    np.testing.assert_array_equal(image[0], NINE.astype("f4") - 1)


def test_references_are_the_users_own_and_do_not_change_later(tmp_path):
    dark = np.ones((3, 3))
    image = opened(tmp_path, NINE, {"dark": dark})
    dark[...] = 100
    np.testing.assert_array_equal(image[0], NINE.astype("f4") - 1)


def test_references_have_the_shape_of_a_stored_frame_whatever_sig_shape_makes_of_it(tmp_path):
    patterns = np.random.default_rng(0).integers(0, 99, (2, 3, 4, 4), "u1")
    write_blo(tmp_path / "scan.blo", patterns)
    dark, dead = np.arange(16.0).reshape(4, 4), [(1, 2)]
    image = emio.imload(
        tmp_path / "scan.blo", sig_shape=(2, 8), corrections={"dark": dark, "excluded_pixels": dead}
    ).image
    np.testing.assert_allclose(image, slow(patterns, dark, dead=dead).reshape(2, 3, 2, 8), rtol=1e-6)
    np.testing.assert_allclose(image.emio.sum("yx"), image.sum(("y", "x")), rtol=1e-6)


# Lazily --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sequence(tmp_path):
    path = tmp_path / "scan.seq"
    write_seq(path, np.random.default_rng(0).integers(0, 99, (40, 128, 128), "u2"))
    write_sidecar_mrc(f"{path}.dark.mrc", np.ones((128, 128)))
    write_sidecar_mrc(f"{path}.gain.mrc", np.full((128, 128), 2))
    return path


def test_the_graph_names_files_and_holds_no_arrays(sequence):
    image = emio.imload(sequence).image
    assert len(pickle.dumps(image.data)) < 8000
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(image.data)).compute(), (emio.imload(sequence, corrections=False).image - 1.0) * 2
    )


def test_values_are_read_when_pixels_are_and_once_per_process(sequence, monkeypatch):
    reads = []
    load = engine.Reference.load
    monkeypatch.setattr(engine.Reference, "load", lambda self: reads.append(self.name) or load(self))
    engine.region_of.cache_clear()
    image = emio.imload(sequence, chunks={"i": 5}).image
    assert reads == []
    with dask.config.set(scheduler="sync"):
        image.compute()
        image.emio.mean("i").compute()
    assert sorted(reads) == ["scan.seq.dark.mrc", "scan.seq.gain.mrc"]


def test_other_references_make_other_names(sequence):
    names = {emio.imload(sequence, corrections=c).image.data.name for c in ("auto", True, False)}
    assert len(names) == 2
    write_sidecar_mrc(f"{sequence}.dark.mrc", np.zeros((128, 128)), stale_tail=b"x")
    changed = emio.imload(sequence).image
    assert changed.data.name not in names
    np.testing.assert_array_equal(changed, emio.imload(sequence, corrections=False).image * 2.0)
    arrays = [np.ones((128, 128)), np.zeros((128, 128)), np.ones((128, 128), "f4")]
    assert len({emio.imload(sequence, corrections={"dark": a}).image.data.name for a in arrays}) == 3


def test_only_what_is_needed_is_read(sequence):
    pixels = pixels_of(emio.imload(sequence, corrections={"excluded_pixels": [(60, 60)]}).image.data)
    everything = slice(0, 128, 1)
    assert pixels._part((slice(0, 5, 1), everything)) == (slice(0, 5, 1), everything)
    assert pixels._part((slice(60, 61, 1), slice(50, 70, 1))) == (slice(59, 62, 1), slice(49, 71, 1))


def test_sources_with_arrays_compare_and_pickle(tmp_path):
    NINE.tofile(tmp_path / "a.bin")
    options = {"dtype": "u1", "sig_shape": (3, 3)}
    one, same, other = (
        RawSource(tmp_path / "a.bin", corrections={"dark": np.full((3, 3), k)}, **options) for k in (1, 1, 2)
    )
    assert one == same
    assert one != other
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one)).read().image, NINE.astype("f4") - 1)


# Other software ------------------------------------------------------------------------------------------------------


@pytest.mark.peers
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4", "u4"])
def test_libertem_corrects_the_same(tmp_path, dtype):
    libertem = pytest.importorskip("libertem.api")
    sparse = pytest.importorskip("sparse")
    from libertem.io.corrections import CorrectionSet
    from libertem.udf.raw import PickUDF

    rng = np.random.default_rng(4)
    frames = (rng.random((2, 3, 16, 12)) * 250).astype(dtype)
    dark, gain = rng.random((2, 16, 12)).astype("f4")
    mask = np.zeros((16, 12), bool)
    mask[5] = mask[0, 0] = mask[9:11, 7] = mask[15, 11] = True
    ours = opened(tmp_path, frames, {"dark": dark, "gain": gain, "excluded_pixels": mask})
    context = libertem.Context.make_with("inline")
    dataset = context.load("memory", data=frames, sig_dims=2)
    theirs = CorrectionSet(dark=dark, gain=gain, excluded_pixels=sparse.COO(mask))
    roi = np.ones((2, 3), bool)
    picked = context.run_udf(dataset=dataset, udf=PickUDF(), roi=roi, corrections=theirs)["intensity"].data
    assert ours.dtype == picked.dtype
    np.testing.assert_allclose(ours.values.reshape(picked.shape), picked, rtol=1e-5, atol=1e-4)
