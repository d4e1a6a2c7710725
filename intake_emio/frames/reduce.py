"""Reductions fused with reading: sums over frames, over detectors, and products with masks.

A reduction is an array of results that are computed when they are asked for, as pixels are; so it becomes a lazy dask
array in the same way. Each task reads, converts and reduces its part in one pass, through compiled loops over frames
as they lie in the file, or over tiles that stay in the cache.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from .chunking import cores
from .decoders import rearrangement
from .frames import Frames
from .lazy import lazy
from .pixels import Box, Pixels, count_of, whole
from .tiles import frame_box, placed, tiles

if TYPE_CHECKING:
    import dask.array as da

DECODED_BYTES = 4 << 20
"""Pixels that are decoded before they are reduced: less is lost to overhead, more to memory."""

PARTITION_BYTES = 512 << 20
"""Decoded pixels that one task reduces at most."""

PARTITIONS_PER_CORE = 4
LARGE_FRAME = 1 << 20

MOST_SUMMED = 32_768
"""Frames of 16 bit pixels whose sum fits into 32 bits, signed or not."""

COMPILED = tuple(np.dtype(t) for t in ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"))


@dataclass(frozen=True)
class Stream:
    """Frames at a constant stride in a buffer.

    Parameters
    ----------
    place
        Where their points lie in the box that was asked for.
    shape
        Shape of these points.
    data
        Bytes.
    first, stride
        Byte of the first frame, bytes to the next one.
    swap
        1 for 16 bit pixels in foreign byte order, else None.
    flipped
        Whether the first axis of each frame runs backwards.
    """

    place: tuple[slice, ...]
    shape: tuple[int, ...]
    data: np.ndarray
    first: int
    stride: int
    swap: int | None = None
    flipped: bool = False

    @property
    def count(self) -> int:
        """Number of frames."""
        return math.prod(self.shape)

    def part(self, box: Box) -> Stream:
        """Return those points that a box holds of `shape`; they must follow each other."""
        corner = tuple(cut.start for cut in box)
        at = int(np.ravel_multi_index(corner, self.shape)) if corner else 0
        place = tuple(slice(p.start + c.start, p.start + c.stop, 1) for p, c in zip(self.place, box, strict=True))
        shape = tuple(map(count_of, box))
        return replace(self, place=place, shape=shape, first=self.first + at * self.stride)

    def rows(self, dtype: np.dtype, size: int) -> np.ndarray:
        """Frames as rows of `size` pixels of a native type: a view, for what is not compiled."""
        stored = dtype.newbyteorder("S") if self.swap else dtype
        strides = (self.stride, dtype.itemsize)
        return np.ndarray((self.count, size), stored, self.data, self.first, strides)


def streams(pixels: Pixels, box: Box) -> Iterator[Stream]:
    """Frames of a box of points: as they lie in a map or in what one request fetches, else read in tiles."""
    own = pixels.streams(box)
    if own is not None:
        yield from own
    elif isinstance(pixels, Frames) and pixels.is_plain and _compiled_order(pixels) and pixels.storage.whole_chunks:
        yield from _in_place(pixels, box)
    else:
        yield from tiled(pixels, box)


def tiled(pixels: Pixels, box: Box) -> Iterator[Stream]:
    """Frames of a box of points, read in tiles that stay in the cache, native and upright."""
    # what is stored in compressed chunks would be decoded anew for each tile
    for tile in tiles(pixels, box, DECODED_BYTES if pixels.walks else max(DECODED_BYTES, pixels.read_bytes)):
        block = np.ascontiguousarray(pixels.read((*tile, *frame_box(pixels))))
        place = placed(tile, box)
        shape = tuple(map(count_of, tile))
        yield Stream(place, shape, block.reshape(-1).view("u1"), 0, block.nbytes // max(1, math.prod(shape)))


def _compiled_order(frames: Frames) -> bool:
    """Whether the compiled loops know the byte order of the stored pixels."""
    return frames.stack.pixel.isnative or frames.dtype.itemsize == 2


def _in_place(frames: Frames, box: Box) -> Iterator[Stream]:
    stack = frames.stack
    swap = None if stack.pixel.isnative else 1
    for place, points, buffer, base, start in frames.stored(box):
        data = np.frombuffer(buffer, "u1")
        for row, run in points.runs():
            inside = tuple(slice(p.start + r.start, p.start + r.stop, 1) for p, r in zip(place, row, strict=True))
            first = start + (run.first - points.first) * stack.stride - base
            stride = stack.stride * (run.strides[-1] if run.strides else 1)
            shape = tuple(map(count_of, inside))
            yield Stream(inside, shape, data, first, stride, swap, stack.flip)


def as_stored(pixels: Pixels) -> tuple[Frames, np.ndarray] | None:
    """Return frames of plain pixels in the order of the file, and which of them each pixel is; `None` if none are.

    Sums do not care about the order of what is summed: it is put right in the result, or in the masks.
    """
    decoder = pixels.stack.decoder if isinstance(pixels, Frames) else None
    if decoder is None or not isinstance(pixels, Frames):
        return None
    stack = pixels.stack
    moved = rearrangement(decoder, stack.frame_shape)
    if moved is None:
        return None
    stored, order = moved
    if stack.flip:
        order = order.reshape(stack.frame_shape)[::-1].reshape(-1)
    return replace(pixels, stack=replace(stack, dtype=stored, decoder=None, flip=False)), order


# What is computed ----------------------------------------------------------------------------------------------------


def sum_type(dtype: np.dtype) -> np.dtype:
    """Type of a sum over many pixels: 64 bits."""
    kinds = {"u": "u8", "b": "i8", "i": "i8", "f": "f8", "c": "c16"}
    return np.dtype(kinds[dtype.kind]) if dtype.itemsize <= 16 else dtype


def _partial_type(dtype: np.dtype, count: int) -> np.dtype:
    """Type of a sum over at most so many pixels."""
    fits = dtype.kind in "bui" and dtype.itemsize <= 2 and count <= MOST_SUMMED
    return np.dtype("i4" if dtype.kind == "i" else "u4") if fits else sum_type(dtype)


def sum_of_frames(pixels: Pixels, box: Box, counted: bool = False, columns: slice | None = None) -> np.ndarray:
    """Sum over all points of a box: one frame, 64 bits, or 32 if that is enough.

    Parameters
    ----------
    pixels, box
        What to sum.
    counted
        Skip what is not a number, and count the rest: the result has a last axis of sum and count.
    columns
        One of the pixels' `column_parts`, if only that is wanted.
    """
    total = pixels.sum_frames(box, columns)
    if total is None and (moved := as_stored(pixels)) is not None:
        plain, order = moved
        total = _sum_of_streams(plain, box)
        total = total.reshape(-1)[order].reshape(total.shape)
    if total is None:
        total = _sum_of_streams(pixels, box)
    if not counted:
        return total
    if np.isnan(total).any():
        return _sum_of_numbers(pixels, box)
    return np.stack([total, np.full_like(total, math.prod(map(count_of, box)))], -1)


def _sum_of_streams(pixels: Pixels, box: Box) -> np.ndarray:
    shape = pixels.shape[pixels.ndim - pixels.frame_ndim :]
    total = np.zeros(shape, _partial_type(pixels.dtype, math.prod(map(count_of, box))))
    for stream in streams(pixels, box):
        if stream.flipped:
            part = _sum_stream(stream, pixels.dtype, np.zeros(total.size, total.dtype))
            total += part.reshape(shape)[::-1]
        else:
            _sum_stream(stream, pixels.dtype, total.reshape(-1))
    return total


def _sum_of_numbers(pixels: Pixels, box: Box) -> np.ndarray:
    """Sums over what is a number, and counts of that; blank frames are zero, which is a number."""
    shape = pixels.shape[pixels.ndim - pixels.frame_ndim :]
    points = math.prod(map(count_of, box))
    total = np.zeros((*shape, 2), sum_type(pixels.dtype))
    for stream in streams(pixels, box):
        rows = stream.rows(pixels.dtype, math.prod(shape))
        sums = np.nansum(rows, 0, dtype=total.dtype), np.sum(~np.isnan(rows), 0)
        part = np.stack(sums, -1).reshape(total.shape)
        total += part[::-1] if stream.flipped else part
        points -= stream.count
    total[..., 1] += points
    return total


def totals_of_frames(pixels: Pixels, box: Box, counted: bool = False) -> np.ndarray:
    """Sum of each frame of a box of points, 64 bits; `counted` as in `sum_of_frames`."""
    if (moved := as_stored(pixels)) is not None:
        pixels = moved[0]
    own = pixels.total_frames(box)
    size = math.prod(pixels.shape[pixels.ndim - pixels.frame_ndim :])
    shape = tuple(map(count_of, box))
    if own is not None and not counted:
        return own
    if own is not None and not np.isnan(own).any():
        return np.stack([own, np.full_like(own, size)], -1)
    out = np.zeros((*shape, 2) if counted else shape, sum_type(pixels.dtype))
    if counted:
        out[..., 1] = size
    for stream in streams(pixels, box):
        part = _total_stream(stream, pixels.dtype, size)
        if counted:
            part = _counted(part, stream.rows(pixels.dtype, size))
        out[stream.place] = part.reshape(*stream.shape, *part.shape[1:])
    return out


def _counted(sums: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Sums beside counts; where a sum is not a number, the frames are gone through again and such pixels skipped."""
    counts = np.full(sums.shape, rows.shape[1], sums.dtype)
    if np.isnan(sums).any():
        sums, counts = np.nansum(rows, 1, dtype=sums.dtype), np.sum(~np.isnan(rows), 1).astype(sums.dtype)
    return np.stack([sums, counts], -1)


def dots_of_frames(pixels: Pixels, box: Box, masks: np.ndarray) -> np.ndarray:
    """Product of each frame of a box of points with each mask, float64; masks are rows of pixels."""
    if masks.dtype.kind == "f" and (own := pixels.dot_frames(box, masks)) is not None:
        return own
    if (moved := as_stored(pixels)) is not None:
        pixels, order = moved
        masks = masks[:, np.argsort(order)]
    out = np.zeros((*map(count_of, box), len(masks)))
    shape = pixels.shape[pixels.ndim - pixels.frame_ndim :]
    flipped = np.ascontiguousarray(masks.reshape(len(masks), *shape)[:, ::-1].reshape(masks.shape))
    for stream in streams(pixels, box):
        part = _dot_stream(stream, pixels.dtype, flipped if stream.flipped else masks)
        out[stream.place] = part.reshape(*stream.shape, len(masks))
    return out


def _sum_stream(stream: Stream, dtype: np.dtype, total: np.ndarray) -> np.ndarray:
    """Add frames to a flat frame of sums."""
    if dtype not in COMPILED:
        total += stream.rows(dtype, len(total)).sum(0, dtype=total.dtype)
        return total
    from . import kernels

    like = np.empty(0, dtype)
    small = dtype.kind in "ui" and dtype.itemsize <= 2
    for at in range(0, stream.count, MOST_SUMMED):
        count = min(MOST_SUMMED, stream.count - at)
        first = stream.first + at * stream.stride
        narrow = small and total.dtype.itemsize > 4
        part = np.zeros(len(total), dtype.kind + "4") if narrow else total
        kernels.sum_frames(stream.data, first, stream.stride, count, stream.swap, like, part)
        if narrow:
            total += part
    return total


def _total_stream(stream: Stream, dtype: np.dtype, size: int) -> np.ndarray:
    if dtype not in COMPILED:
        return stream.rows(dtype, size).sum(1, dtype=sum_type(dtype))
    from . import kernels

    like, out = np.empty(0, dtype), np.zeros(stream.count, sum_type(dtype))
    block = np.empty(0, dtype.kind + "4" if dtype.itemsize <= 2 else dtype if dtype.kind == "f" else out.dtype)
    kernels.total_frames(stream.data, stream.first, stream.stride, stream.count, stream.swap, like, size, block, out)
    return out


def _dot_stream(stream: Stream, dtype: np.dtype, masks: np.ndarray) -> np.ndarray:
    if dtype not in COMPILED:
        return stream.rows(dtype, masks.shape[1]).astype("f8") @ masks.T.astype("f8")
    from . import kernels

    like, out = np.empty(0, dtype), np.zeros((stream.count, len(masks)))
    narrow = np.empty(0, "i4" if dtype.kind in "ui" and dtype.itemsize <= 2 else dtype)
    kernels.dot_frames(stream.data, stream.first, stream.stride, stream.count, stream.swap, like, masks, narrow, out)
    return out


# Results as arrays ---------------------------------------------------------------------------------------------------


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
        object.__setattr__(self, "dtype", _partial_type(self.inner.dtype, most))

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
