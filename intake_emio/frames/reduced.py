"""Results of reductions as arrays: computed when they are asked for, as pixels are, so lazy in the same way."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .chunking import cores
from .lazy import lazy
from .pixels import Box, Pixels, count_of, partial_type, sum_type, whole
from .reduce import dots_of_frames, sum_of_frames, totals_of_frames

if TYPE_CHECKING:
    import dask.array as da

PARTITION_BYTES = 512 << 20
"""Decoded pixels that one task reduces at most."""

PARTITIONS_PER_CORE = 4
LARGE_FRAME = 1 << 20


@dataclass(frozen=True)
class Reduction(Pixels):
    """Results of a reduction, computed when they are read."""

    inner: Pixels
    counted: bool = field(default=False, kw_only=True)
    shape: tuple[int, ...] = field(init=False)
    dtype: np.dtype = field(init=False)
    frame_ndim: int = field(init=False, default=0)

    def files(self) -> tuple[str, ...]:
        """As the inner pixels."""
        return self.inner.files()

    @property
    def _navigation(self) -> tuple[int, ...]:
        return self.inner.shape[: self.inner.ndim - self.inner.frame_ndim]

    @property
    def _frame(self) -> tuple[int, ...]:
        return self.inner.shape[self.inner.ndim - self.inner.frame_ndim :]


@dataclass(frozen=True)
class FrameTotals(Reduction):
    """Sum of each frame: one number per point."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", self._navigation + (2,) * self.counted)
        object.__setattr__(self, "dtype", sum_type(self.inner.dtype))

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Totals of the frames of a box."""
        return totals_of_frames(self.inner, box[: len(self._navigation)], self.counted)

    def token(self) -> object:
        """Inner token."""
        return ("totals", self.counted, self.inner.token())


@dataclass(frozen=True, eq=False)
class FrameDots(Reduction):
    """Product of each frame with each mask: the last axis counts masks."""

    masks: np.ndarray = field(kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", (*self._navigation, len(self.masks)))
        object.__setattr__(self, "dtype", np.dtype("f8"))

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Products of the frames of a box with some of the masks."""
        return dots_of_frames(self.inner, box[:-1], self.masks[box[-1]])

    def token(self) -> object:
        """Inner token and the masks' content."""
        import hashlib

        return ("dots", hashlib.blake2b(self.masks.tobytes()).hexdigest(), self.masks.dtype.str, self.inner.token())


@dataclass(frozen=True)
class ChunkSums(Reduction):
    """Sum over all frames of each chunk: navigation axes count chunks, then come the axes of the frame.

    Sums that fit into 32 bits have 32 bits: of large frames, they are most of the memory that a mean moves.

    Parameters
    ----------
    chunks_along
        Sizes of the chunks along each navigation axis.
    """

    chunks_along: tuple[tuple[int, ...], ...] = field(kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", (*map(len, self.chunks_along), *self._frame, *(2,) * self.counted))
        most = math.prod(max(sizes, default=0) for sizes in self.chunks_along)
        object.__setattr__(self, "dtype", partial_type(self.inner.dtype, most))

    @property
    def chunk_shape(self) -> tuple[tuple[int, ...], ...]:
        """Chunks of the sums: each is a task."""
        frame: list[tuple[int, ...]] = [(n,) for n in self.shape[len(self.chunks_along) :]]
        if self.inner.column_parts and not self.counted:
            frame[-1] = self.inner.column_parts
        return (*((1,) * len(sizes) for sizes in self.chunks_along), *frame)

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Sums of some chunks."""
        depth = len(self.chunks_along)
        columns, within = None, box[depth:]
        if not self.counted and (within[-1].start, count_of(within[-1])) in _spans(self.inner.column_parts):
            columns, within = within[-1], (*within[:-1], slice(None))
        counts = tuple(map(count_of, box[:depth]))
        sums = np.empty((*counts, *map(count_of, box[depth:])), self.dtype) if math.prod(counts) > 1 else None
        for place in np.ndindex(counts):
            chunk = [cut.start + k * cut.step for cut, k in zip(box[:depth], place, strict=True)]
            points = tuple(
                slice(sum(sizes[:k]), sum(sizes[: k + 1]), 1) for sizes, k in zip(self.chunks_along, chunk, strict=True)
            )
            total = sum_of_frames(self.inner, points, self.counted, columns)[within].astype(self.dtype, copy=False)
            if sums is None:  # the usual case: nothing is copied
                return total[(None,) * depth]
            sums[place] = total
        assert sums is not None
        return sums

    def token(self) -> object:
        """Inner token and chunks."""
        return ("sums", self.counted, self.chunks_along, self.inner.token())


@dataclass(frozen=True)
class FrameMean(Reduction):
    """Mean over all frames, float32: one frame, computed when it is read."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", self._frame)
        object.__setattr__(self, "dtype", np.dtype("f4"))
        object.__setattr__(self, "frame_ndim", len(self._frame))

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Means of a part of the frame."""
        total = sum_of_frames(self.inner, whole(self._navigation))
        mean = (total / math.prod(self._navigation)).astype(self.dtype)[box]
        if out is None:
            return mean
        out[...] = mean
        return out

    def token(self) -> object:
        """Inner token."""
        return ("mean", self.inner.token())


def partitions(pixels: Pixels, chunks: Sequence[tuple[int, ...]], apart: bool = False) -> tuple[tuple[int, ...], ...]:
    """Cut anew along the first axis: a reduction walks through chunks anyway, and every task costs a scheduler.

    There are as many parts for each core, so that none waits for the others. What cannot be walked through, because a
    chunk is fetched at once, keeps its chunks. Where parts of the frames are summed `apart`, these are tasks already.
    """
    cuts = tuple(tuple(sizes) for sizes in chunks)
    tasks = math.prod(map(len, cuts))
    if not cuts or not pixels.walks or tasks < 2:
        return cuts
    frame = math.prod(pixels.shape[len(cuts) :]) * pixels.dtype.itemsize
    rows, across = sum(cuts[0]), math.prod(map(len, cuts[1:]))
    row = frame * math.prod(map(max, cuts[1:]))
    per_core = PARTITIONS_PER_CORE if frame < LARGE_FRAME else 1  # a sum of large frames is itself large
    wanted = max(min(per_core * cores(), -(-tasks // cores()) * cores()), -(-rows * row // PARTITION_BYTES))
    together = len(pixels.column_parts) if apart and pixels.column_parts else 1
    parts = max(1, min(rows, wanted // (across * together)))
    return tuple(rows // parts + (k < rows % parts) for k in range(parts)), *cuts[1:]


def _spans(widths: Sequence[int]) -> list[tuple[int, int]]:
    """First column and width of each part."""
    return [(sum(widths[:k]), width) for k, width in enumerate(widths)]


def lazy_totals(pixels: Pixels, chunks: Sequence[tuple[int, ...]], counted: bool = False) -> da.Array:
    """Return a dask array of the sum of each frame; with `counted`, its last axis is sum and count."""
    return lazy(FrameTotals(pixels, counted=counted), (*partitions(pixels, chunks), *((2,),) * counted))


def lazy_dots(pixels: Pixels, chunks: Sequence[tuple[int, ...]], masks: np.ndarray) -> da.Array:
    """Return a dask array of the products of each frame with each mask (first axis), float64."""
    flat = np.ascontiguousarray(masks.reshape(len(masks), -1))
    return lazy(FrameDots(pixels, masks=flat), (*partitions(pixels, chunks), (len(masks),)))


def lazy_sum(
    pixels: Pixels, chunks: Sequence[tuple[int, ...]], counted: bool = False, divide: int | None = None
) -> da.Array:
    """Return a dask array of the sum over all frames: sums of chunks, then a tree of sums; or of that divided."""
    import dask.array as da

    sums = ChunkSums(pixels, chunks_along=partitions(pixels, chunks, apart=not counted), counted=counted)
    depth, dtype = len(chunks), sum_type(pixels.dtype)
    result = dtype if divide is None or dtype.kind == "c" else np.dtype("f8")
    partial = lazy(sums, sums.chunk_shape)
    return da.reduction(
        partial,
        chunk=_as_it_is,
        aggregate=functools.partial(_added, dtype=dtype, divide=divide),
        combine=functools.partial(_added, dtype=dtype),
        axis=tuple(range(depth)),
        dtype=result,
        concatenate=False,
        meta=np.empty((0,) * (sums.ndim - depth), result),
    )


def _as_it_is(sums: np.ndarray, axis: object, keepdims: bool) -> np.ndarray:
    return sums


def _added(
    parts: object, axis: tuple[int, ...], keepdims: bool, dtype: np.dtype, divide: int | None = None
) -> np.ndarray:
    """Add arrays, nested in lists as dask hands them over, one into the other: no stack of them is ever made."""
    first, *others = _flat(parts)
    total = first.astype(dtype) if others or divide is None else first
    for other in others:
        total += other
    if divide is not None:
        total = total / divide
    return total if keepdims else total.reshape(total.shape[len(axis) :])


def _flat(parts: object) -> Iterator[np.ndarray]:
    if isinstance(parts, list):
        for part in parts:
            yield from _flat(part)
    else:
        assert isinstance(parts, np.ndarray)
        yield parts
