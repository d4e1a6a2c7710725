"""Frames that are put together: several to a record of the file, or halves that lie in different files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .pixels import Box, Pixels, count_of


@dataclass(frozen=True)
class Unfolded(Pixels):
    """Frames of which several make a record: (records, frames of a record, ...) as (frames, ...)."""

    inner: Pixels
    shape: tuple[int, ...] = field(init=False)
    dtype: np.dtype = field(init=False)
    frame_ndim: int = field(init=False)

    def __post_init__(self) -> None:
        records, per, *frame = self.inner.shape
        object.__setattr__(self, "shape", (records * per, *frame))
        object.__setattr__(self, "dtype", self.inner.dtype)
        object.__setattr__(self, "frame_ndim", len(frame))

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Pixels of some of the frames; whole records are read together."""
        if out is None:
            out = np.empty(tuple(map(count_of, box)), self.dtype)
        self.inner.read_many(list(self._reads(box, out)))
        return out

    def _reads(self, box: Box, out: np.ndarray) -> Iterator[tuple[Box, np.ndarray]]:
        frames, per = range(box[0].start, box[0].stop, box[0].step), self.inner.shape[1]
        done = 0
        while done < len(frames):
            record, frame = divmod(frames[done], per)
            records, count = 1, 1
            if frames.step == 1:
                records = max(1, (len(frames) - done) // per) if frame == 0 else 1
                count = min(per - frame, len(frames) - done)
            target = out[done : done + records * count]
            inner = (slice(record, record + records, 1), slice(frame, frame + count, 1), *box[1:])
            yield inner, target.reshape(records, count, *target.shape[1:])
            done += records * count

    def files(self) -> tuple[str, ...]:
        """As the inner pixels."""
        return self.inner.files()

    def layout(self) -> dict[str, Any]:
        """As the inner pixels, and how many frames a record has."""
        return {**self.inner.layout(), "frames_per_record": self.inner.shape[1]}

    def token(self) -> object:
        """Inner token."""
        return ("unfolded", self.inner.token())


@dataclass(frozen=True)
class Joined(Pixels):
    """Frames whose upper and lower halves lie apart.

    Parameters
    ----------
    upper, lower
        Halves of the same shape, (frames, rows, columns).
    flip_upper
        Whether the rows of the upper half are stored from the bottom up.
    """

    upper: Pixels
    lower: Pixels
    flip_upper: bool = False
    shape: tuple[int, ...] = field(init=False)
    dtype: np.dtype = field(init=False)
    frame_ndim: int = field(init=False, default=2)

    def __post_init__(self) -> None:
        frames, rows, columns = self.upper.shape
        object.__setattr__(self, "shape", (frames, 2 * rows, columns))
        object.__setattr__(self, "dtype", self.upper.dtype)

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Pixels of a box, each half into its place."""
        if out is None:
            out = np.empty(tuple(map(count_of, box)), self.dtype)
        frames, cut, columns = box
        rows, half = range(cut.start, cut.stop, cut.step), self.upper.shape[1]
        above = len(range(cut.start, min(cut.stop, half), cut.step))
        if above:
            first, last = rows[0], rows[above - 1]
            if self.flip_upper:
                stored, target = slice(half - 1 - last, half - first, cut.step), out[:, :above][:, ::-1]
            else:
                stored, target = slice(first, last + 1, cut.step), out[:, :above]
            self.upper.read((frames, stored, columns), target)
        if above < len(rows):
            stored = slice(rows[above] - half, rows[-1] - half + 1, cut.step)
            self.lower.read((frames, stored, columns), out[:, above:])
        return out

    def files(self) -> tuple[str, ...]:
        """Those of both halves."""
        return self.upper.files() + self.lower.files()

    def layout(self) -> dict[str, Any]:
        """As the upper half."""
        return {**self.upper.layout(), "kind": "halves of frames in two files"}

    def token(self) -> object:
        """Tokens of both halves."""
        return ("joined", self.flip_upper, self.upper.token(), self.lower.token())
