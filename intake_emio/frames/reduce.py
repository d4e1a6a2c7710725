"""Reductions fused with reading: sums over frames, over detectors, and products with masks.

Frames are read, converted and reduced in one pass, through compiled loops over frames as they lie in the file, or over
tiles that stay in the cache. `reduced` makes lazy arrays of the results.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from .decoders import rearrangement
from .frames import Frames
from .pixels import MOST_SUMMED, Box, Pixels, count_of, partial_type, sum_type
from .tiles import frame_box, placed, tiles

DECODED_BYTES = 4 << 20
"""Pixels that are decoded before they are reduced: less is lost to overhead, more to memory."""

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
    total = np.zeros(shape, partial_type(pixels.dtype, math.prod(map(count_of, box))))
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
