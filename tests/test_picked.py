"""Frames picked one by one, and values changed on the way."""

import pickle

import dask
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intake_emio.frames.frames import Frames
from intake_emio.frames.layout import FrameStack
from intake_emio.frames.lazy import lazy, load
from intake_emio.frames.navigation import Navigation
from intake_emio.frames.picked import Picked
from intake_emio.frames.pixels import Pixels
from intake_emio.frames.storage import Storage
from intake_emio.frames.views import Mapped

STORED = np.random.default_rng(3).integers(0, 255, (12, 2, 3), "u1")


class Counting(Pixels):
    """Pixels in memory that count how often they are asked."""

    def __init__(self, array, frame_ndim=2):
        self.array, self.shape, self.dtype, self.frame_ndim = array, array.shape, array.dtype, frame_ndim
        self.asked = 0

    def read(self, box, out=None):
        self.asked += 1
        if out is None:
            return self.array[box]
        out[...] = self.array[box]
        return out

    def token(self):
        return ("memory", self.array.tobytes())


def stored_frames(tmp_path, navigation, backend="mmap"):
    path = tmp_path / "frames.bin"
    path.write_bytes(STORED.tobytes())
    return Frames(FrameStack.in_one_file(str(path), "u1", (2, 3), 12), navigation, Storage(backend))


def expected(points):
    return np.where((points < 0)[..., None, None], 0, STORED[points])


# Picking -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("navigation", [(12,), (3, 4), (2, 2, 3)])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_arrangement_of_points_is_read(navigation, data):
    shape = data.draw(st.sampled_from([(7,), (2, 5), (3, 1, 4), (0,), (2, 0)]))
    points = np.array(
        data.draw(st.lists(st.integers(-1, 11), min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))), int
    ).reshape(shape)
    inner = Counting(STORED.reshape(*navigation, 2, 3))
    picked = Picked(inner, points)
    assert picked.shape == (*shape, 2, 3)
    np.testing.assert_array_equal(picked[...], expected(points))
    np.testing.assert_array_equal(picked[..., 1, ::2], expected(points)[..., 1, ::2])
    np.testing.assert_array_equal(picked[::-1], expected(points)[::-1])


@pytest.mark.parametrize(
    ("points", "asked"),
    [
        ([0, 1, 2, 3], 1),
        ([3, 2, 1, 0], 1),
        ([2, 3, 4, 5], 2),  # rows of the scan have 4 points
        ([5, 4, 3, 2], 2),
        ([0, 1, 2, 1, 0], 2),
        ([-1, -1, -1], 0),
        ([7, 7, 7], 3),
        ([0, 2, 4], 3),
        ([[0, 1, 2, 3], [7, 6, 5, 4]], 2),
    ],
)
def test_neighbours_are_read_together_backwards_too(points, asked):
    inner = Counting(STORED.reshape(3, 4, 2, 3))
    points = np.array(points)
    np.testing.assert_array_equal(Picked(inner, points)[...], expected(points))
    assert inner.asked == asked


@pytest.mark.parametrize("backend", ["mmap", "buffered"])
def test_frames_of_a_file_are_picked_lazily_and_at_once(tmp_path, backend):
    points = np.array([[3, 2, -1], [9, 10, 11]])
    picked = Picked(stored_frames(tmp_path, Navigation.of((12,)), backend), points)
    array = lazy(picked, (1, 2, 2, 3))
    assert array.shape == (2, 3, 2, 3)
    np.testing.assert_array_equal(array.compute(scheduler="threads"), expected(points))
    np.testing.assert_array_equal(load(pickle.loads(pickle.dumps(picked))), expected(points))


def test_blank_points_are_those_without_a_number_and_those_that_are_blank_already(tmp_path):
    inner = stored_frames(tmp_path, Navigation.of((4, 4)))  # points 12 to 15 show nothing
    points = np.array([[0, -1], [12, 11]])
    picked = Picked(inner, points)
    np.testing.assert_array_equal(picked.blank((slice(0, 2, 1), slice(0, 2, 1))), [[False, True], [True, False]])
    assert picked.blank((slice(0, 1, 1), slice(0, 1, 1))) is None
    np.testing.assert_array_equal(picked[...].any((2, 3)), [[True, False], [False, True]])


def test_the_arrangement_is_part_of_the_name(tmp_path):
    inner = stored_frames(tmp_path, Navigation.of((12,)))
    tokens = {repr(Picked(inner, np.arange(6).reshape(shape)).token()) for shape in [(6,), (2, 3), (3, 2)]}
    assert len(tokens) == 3


def test_chunks_hold_runs_of_points_and_whole_frames():
    inner = Counting(np.zeros((64, 512, 512), "u2"))  # natural chunks of several frames
    picked = Picked(inner, np.arange(64).reshape(8, 8))
    chunk = picked.chunks()
    assert chunk[2:] == (512, 512)
    assert chunk[0] == 1 or chunk[1] == 8
    assert 1 < chunk[0] * chunk[1] <= inner.chunks()[0]


# Changing values -----------------------------------------------------------------------------------------------------


def halved(values, out):
    np.divide(values, 2, out=out)


def test_values_are_changed_while_they_are_read(tmp_path):
    mapped = Mapped(stored_frames(tmp_path, Navigation.of((3, 4))), halved, np.dtype("f4"))
    assert (mapped.shape, mapped.dtype, mapped.frame_ndim) == ((3, 4, 2, 3), np.float32, 2)
    np.testing.assert_array_equal(mapped[1, ::2, ::-1], STORED.reshape(3, 4, 2, 3)[1, ::2, ::-1] / 2)
    with dask.config.set(scheduler="threads"):
        np.testing.assert_array_equal(lazy(mapped, (1, 2, 1, 3)).compute(), STORED.reshape(3, 4, 2, 3) / 2)


def test_blank_points_show_a_value_of_their_own(tmp_path):
    mapped = Mapped(stored_frames(tmp_path, Navigation.of((14,))), halved, np.dtype("f8"), blank_value=np.nan)
    np.testing.assert_array_equal(np.isnan(mapped[...]).all((1, 2)), [False] * 12 + [True] * 2)
    np.testing.assert_array_equal(mapped.blank((slice(11, 14, 1),)), [False, True, True])


def test_function_and_type_are_part_of_the_name(tmp_path):
    inner = stored_frames(tmp_path, Navigation.of((12,)))
    tokens = [
        Mapped(inner, halved, np.dtype("f4")).token(),
        Mapped(inner, halved, np.dtype("f8")).token(),
        Mapped(inner, np.copyto, np.dtype("f4")).token(),
    ]
    assert len(set(map(repr, tokens))) == 3
    assert Mapped(inner, halved, np.dtype("f4")).token() == tokens[0]


def test_numbers_far_apart_are_not_read_with_what_lies_between(tmp_path):
    path = tmp_path / "frames.bin"
    np.arange(50 * 3000, dtype="<u4").tofile(path)
    stack = FrameStack.in_one_file(str(path), "<u4", (), 50, frame_footer=2999 * 4)
    facts = Frames(stack, Navigation.of((50,)), Storage("buffered"))
    assert sum(len(buffer) for _, _, buffer, *_ in facts.stored((slice(0, 50, 1),))) == 50 * 4
    np.testing.assert_array_equal(facts[...], np.arange(50) * 3000)
