"""Frames picked one by one: regions of interest, and formats whose frames stand in an index table."""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .chunking import contiguous_runs
from .navigation import Navigation
from .pixels import Box, Pixels, count_of, whole


@dataclass(frozen=True, eq=False)
class Picked(Pixels):
    """Some frames of other pixels, in any order and any arrangement.

    Parameters
    ----------
    inner
        Pixels with any navigation axes.
    points
        Numbers of the wanted points, counted in C order over the navigation axes; -1 is a blank frame. The axes of this
        array, at least one, become the navigation axes.
    """

    inner: Pixels
    points: np.ndarray
    shape: tuple[int, ...] = field(init=False)
    dtype: np.dtype = field(init=False)
    frame_ndim: int = field(init=False)

    def __post_init__(self) -> None:
        depth = self.inner.ndim - self.inner.frame_ndim
        object.__setattr__(self, "shape", (*self.points.shape, *self.inner.shape[depth:]))
        object.__setattr__(self, "dtype", self.inner.dtype)
        object.__setattr__(self, "frame_ndim", self.inner.frame_ndim)

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Pixels of some of the frames; neighbours in the file are read together."""
        depth = self.points.ndim
        wanted = self.points[box[:depth]]
        if out is None:
            out = np.empty(tuple(map(count_of, box)), self.dtype)
        reads: list[tuple[Box, np.ndarray]] = []
        for row in np.ndindex(wanted.shape[:-1]):
            reads += self._row(wanted[row], box[depth:], out[row])
        self.inner.read_many(reads)
        return out

    def _row(self, wanted: np.ndarray, frame: Box, out: np.ndarray) -> list[tuple[Box, np.ndarray]]:
        """Blank what is blank in a row of points, and say what is to be read for the rest."""
        navigation = self._navigation
        reads = []
        for start, stop, step in _runs(wanted, navigation[-1] if navigation else 1):
            if wanted[start] < 0:
                out[start:stop] = 0
                continue
            first = int(wanted[start] if step > 0 else wanted[stop - 1])
            *outer, column = (int(k) for k in np.unravel_index(first, navigation))
            row = (*(slice(k, k + 1, 1) for k in outer), slice(column, column + stop - start, 1), *frame)
            reads.append((row, out[start:stop][::step][(None,) * len(outer)]))
        return reads

    @property
    def _navigation(self) -> tuple[int, ...]:
        return self.inner.shape[: self.inner.ndim - self.inner.frame_ndim]

    def blank(self, points: Box) -> np.ndarray | None:
        """Which points of a box show no frame."""
        wanted = self.points[points]
        blank = wanted < 0
        inner = self.inner.blank(whole(self._navigation))
        if inner is not None:
            blank = blank | inner.reshape(-1)[wanted]
        return blank if blank.any() else None

    def chunks(self) -> tuple[int, ...]:
        """As many whole frames as the inner pixels have in a chunk."""
        inner = self.inner.chunks()
        depth = len(self._navigation)
        navigation = contiguous_runs(self.points.shape, math.prod(inner[:depth]))
        return (*(max(1, n) for n in navigation), *inner[depth:])

    def files(self) -> tuple[str, ...]:
        """As the inner pixels."""
        return self.inner.files()

    def layout(self) -> dict[str, Any]:
        """As the inner pixels."""
        return self.inner.layout()

    def token(self) -> object:
        """Inner token and points."""
        digest = hashlib.blake2b(np.ascontiguousarray(self.points).tobytes()).hexdigest()
        return ("picked", self.points.shape, digest, self.inner.token())


def along(pixels: Pixels, navigation: Navigation) -> Picked:
    """Show frames of other pixels at the points of a navigation; where it points at none of them, a blank one."""
    count = math.prod(pixels.shape[: pixels.ndim - pixels.frame_ndim])
    points = navigation.frames()
    return Picked(pixels, np.where((points < 0) | (points >= count), -1, points))


def _runs(wanted: np.ndarray, row: int) -> list[tuple[int, int, int]]:
    """Cut into runs (start, stop, step) of points that are all blank, or follow each other in one row of the scan.

    They may do so backwards, step -1, as every other line of a scan that winds.
    """
    if not len(wanted):
        return []
    steps, blank, rows = np.diff(wanted), wanted < 0, wanted // max(1, row)
    near = (np.abs(steps) == 1) & (rows[1:] == rows[:-1]) & ~blank[1:] & ~blank[:-1]
    kinds = np.where(blank[1:] & blank[:-1], 1, np.where(near, steps, 0))  # 0: two points that do not belong together
    borders = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(kinds)]
    runs: list[tuple[int, int, int]] = []
    free = 0
    for begin, end in itertools.pairwise(borders):
        kind = int(kinds[begin]) if begin < end else 0
        if kind and free <= end:
            runs.append((free, end + 1, kind))
            free = end + 1
        elif not kind:
            runs += [(k, k + 1, 1) for k in range(free, end)]
            free = max(free, end)
    return runs + [(k, k + 1, 1) for k in range(free, len(wanted))]
