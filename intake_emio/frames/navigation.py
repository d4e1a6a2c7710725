"""Which stored frame each point of a scan shows.

Points and frames are related by counting: the frame of a point is ``first + sum(index * stride)``. That is enough for
plain scans, sync offsets, subsets, fly-back frames that are skipped, and channels that are stored in turn. A point
whose frame does not exist is blank.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ArgumentError, EmioWarning


@dataclass(frozen=True)
class Navigation:
    """A grid of points over a sequence of frames.

    Parameters
    ----------
    shape
        Points along each axis.
    strides
        How many frames later the next point along each axis comes.
    first
        Frame of the first point; negative: the grid starts with blank points.

    Examples
    --------
    >>> scan = Navigation.of((3, 4), first=2)
    >>> scan.strides, scan.last
    ((4, 1), 13)
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    first: int = 0

    @classmethod
    def of(cls, shape: Sequence[int], first: int = 0, line_skip: int = 0) -> Navigation:
        """Points in C order, one frame each; `line_skip` frames after each line show no point."""
        strides: list[int] = []
        step = 1
        for size in reversed(shape):
            strides.insert(0, step)
            step = step * size + (line_skip if len(strides) == 1 else 0)
        return cls(tuple(shape), tuple(strides), first)

    @functools.cached_property
    def points(self) -> int:
        """Number of points."""
        return math.prod(self.shape)

    @functools.cached_property
    def last(self) -> int:
        """Frame of the last point; no point shows a later one."""
        return self.first + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))

    @property
    def span(self) -> int:
        """How many frames lie between the first and the last point's, both included."""
        return self.last - self.first + 1

    def part(self, box: tuple[slice, ...]) -> Navigation:
        """Return the points within a box of slices (start, stop and positive step given)."""
        shape, strides, first = [], [], self.first
        for cut, stride in zip(box, self.strides, strict=True):
            shape.append(max(0, -(-(cut.stop - cut.start) // cut.step)))
            strides.append(stride * cut.step)
            first += cut.start * stride
        return Navigation(tuple(shape), tuple(strides), first)

    def cut(self, axis: int, at: int) -> tuple[Navigation, Navigation]:
        """Return the points before and from index `at` on along an axis."""
        before = (*self.shape[:axis], at, *self.shape[axis + 1 :])
        behind = (*self.shape[:axis], self.shape[axis] - at, *self.shape[axis + 1 :])
        return (
            Navigation(before, self.strides, self.first),
            Navigation(behind, self.strides, self.first + at * self.strides[axis]),
        )

    def runs(self) -> Iterator[tuple[tuple[slice, ...], Navigation]]:
        """Yield evenly spaced runs of points, in C order, and where they lie: the whole if it is one, else its rows."""
        even = [k for k, n in enumerate(self.shape) if n > 1]
        steps = [self.strides[k] for k in even]
        sizes = [self.shape[k] for k in even]
        if all(steps[k] == steps[k + 1] * sizes[k + 1] for k in range(len(steps) - 1)):
            step = steps[-1] if steps else 1
            yield tuple(slice(0, n) for n in self.shape), Navigation((self.points,), (step,), self.first)
            return
        for row in np.ndindex(self.shape[:-1]):
            first = self.first + sum(k * s for k, s in zip(row, self.strides[:-1], strict=True))
            place = (*(slice(k, k + 1) for k in row), slice(0, self.shape[-1]))
            yield place, Navigation(self.shape[-1:], self.strides[-1:], first)

    @functools.cached_property
    def slowest(self) -> int:
        """Axis along which points are farthest apart in the file, of those that have more than one."""
        return max((k for k, n in enumerate(self.shape) if n > 1), key=lambda k: self.strides[k], default=-1)

    def blank(self, count: int) -> np.ndarray | None:
        """Which points show no frame when there are `count` frames; `None` if all show one."""
        if self.first >= 0 and self.last < count:
            return None
        frames = self.frames()
        return (frames < 0) | (frames >= count)

    def frames(self) -> np.ndarray:
        """Frame of every point, whether it exists or not."""
        steps = np.ogrid[tuple(slice(n) for n in self.shape)]
        return self.first + sum((k * s for k, s in zip(steps, self.strides, strict=True)), np.zeros(self.shape, "i8"))


def navigate(
    name: object,
    count: int,
    shape: Sequence[int],
    *,
    nav_shape: Sequence[int] | None = None,
    sync_offset: int = 0,
    line_skip: int = 0,
) -> Navigation:
    """Navigation over a file's frames, with the user's overrides.

    Parameters
    ----------
    name
        Of the file, for messages.
    count
        Number of frames that are really there.
    shape
        Navigation shape that the file says.
    nav_shape
        What the user says instead: fewer points show the first frames, more are blank at the end.
    sync_offset
        Positive: so many frames are skipped at the start; negative: so many blank ones are inserted there.
    line_skip
        So many frames after each line (last axis) show no point: they were taken while the beam flew back.

    Returns
    -------
    Navigation

    Raises
    ------
    ArgumentError
        If `sync_offset` reaches over all frames, or a number in `nav_shape` is not positive.

    Warns
    -----
    EmioWarning
        If frames are missing at the end; `sync_offset` on its own is no reason.
    """
    grid = tuple(shape) if nav_shape is None else tuple(nav_shape)
    if any(n < 1 for n in grid):
        raise ArgumentError(f"{name}: nav_shape must hold positive numbers, not {grid}")
    check_sync_offset(name, sync_offset, max(count, math.prod(shape)))
    line = grid[-1] if grid else 1
    whole, rest = divmod(count, line + line_skip)
    missing = math.prod(grid) - whole * line - min(rest, line)
    if missing > 0:
        warnings.warn(
            f"{name}: {missing} of {math.prod(grid)} frames are missing at the end and stay blank",
            EmioWarning,
            3,
        )
    return Navigation.of(grid, sync_offset, line_skip)


def check_sync_offset(name: object, sync_offset: int, frames: int) -> None:
    """Raise an `ArgumentError` if an offset reaches over all frames."""
    if sync_offset and abs(sync_offset) >= frames:
        raise ArgumentError(
            f"{name}: sync_offset={sync_offset} is out of range: there are {frames} frames, "
            f"so it must lie between {1 - frames} and {frames - 1}"
        )
