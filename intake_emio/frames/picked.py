"""Frames picked one by one: regions of interest, and formats whose frames stand in an index table."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np

from .pixels import Box, Pixels, count_of


@dataclass(frozen=True, eq=False)
class Picked(Pixels):
    """Some frames of other pixels, in any order, along one axis.

    Parameters
    ----------
    inner
        Pixels with any navigation axes.
    points
        Numbers of the wanted points, counted in C order over the navigation axes; -1 is a blank frame.
    """

    inner: Pixels
    points: np.ndarray
    shape: tuple[int, ...] = field(init=False)
    dtype: np.dtype = field(init=False)
    frame_ndim: int = field(init=False)

    def __post_init__(self) -> None:
        depth = self.inner.ndim - self.inner.frame_ndim
        object.__setattr__(self, "shape", (len(self.points), *self.inner.shape[depth:]))
        object.__setattr__(self, "dtype", self.inner.dtype)
        object.__setattr__(self, "frame_ndim", self.inner.frame_ndim)

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Pixels of some of the frames; neighbours in the file are read together."""
        wanted = self.points[box[0]]
        if out is None:
            out = np.empty(tuple(map(count_of, box)), self.dtype)
        navigation = self.inner.shape[: self.inner.ndim - self.inner.frame_ndim]
        reads = []
        for start, stop in _runs(wanted, navigation[-1] if navigation else 1):
            if wanted[start] < 0:
                out[start:stop] = 0
                continue
            *outer, column = (int(k) for k in np.unravel_index(int(wanted[start]), navigation))
            row = (*(slice(k, k + 1, 1) for k in outer), slice(column, column + stop - start, 1), *box[1:])
            reads.append((row, out[start:stop][(None,) * len(outer)]))
        self.inner.read_many(reads)
        return out

    def chunks(self) -> tuple[int, ...]:
        """As many whole frames as the inner pixels have in a chunk."""
        inner = self.inner.chunks()
        depth = self.inner.ndim - self.inner.frame_ndim
        return (max(1, min(len(self.points), int(np.prod(inner[:depth], dtype=int)))), *inner[depth:])

    def files(self) -> tuple[str, ...]:
        """As the inner pixels."""
        return self.inner.files()

    def token(self) -> object:
        """Inner token and points."""
        import hashlib

        return ("picked", hashlib.blake2b(np.ascontiguousarray(self.points).tobytes()).hexdigest(), self.inner.token())


def _runs(wanted: np.ndarray, row: int) -> list[tuple[int, int]]:
    """Cut into runs of points that follow each other in one row of the scan, or are all blank."""
    if not len(wanted):
        return []
    steps = np.diff(wanted)
    follows = ((steps == 1) & (wanted[1:] % row != 0)) | ((wanted[1:] < 0) & (wanted[:-1] < 0))
    borders = [0, *(np.flatnonzero(~follows) + 1).tolist(), len(wanted)]
    return list(itertools.pairwise(borders))
