"""Compiled loops over frames as they lie in a buffer. Importing this module imports numba, which takes a second.

Frames are given as bytes: the position of the first one and the distance to the next. That serves frames behind
headers, at odd offsets and in foreign byte order without a copy. Loops run over short slices from zero on, because only
those are vectorised. `like` is an empty array of the pixel type; `swap` is None, or anything else for 16 bit pixels in
foreign byte order: numba leaves out the branch that does not apply.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

BLOCK = 4096
"""Pixels treated at a time: they stay in the first-level cache, and their sums fit into 32 bits."""

_ASSOCIATIVE = {"reassoc", "contract", "nsz", "arcp"}  # not "nnan": NaN must survive


def compiled(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile with numba, without the interpreter's lock, and keep the result on disk where that is possible."""
    if function is None:
        return lambda f: compiled(f, **options)
    try:
        return numba.njit(function, nogil=True, cache=True, **options)
    except RuntimeError:  # no writable place for the cache: a read-only installation without a home
        return numba.njit(function, nogil=True, **options)


@compiled
def _block(data: np.ndarray, at: int, pixels: int, like: np.ndarray) -> np.ndarray:
    """Stored pixels from a byte on."""
    return data[at : at + pixels * like.itemsize].view(like.dtype)


@compiled
def _value(stored: Any, swap: int | None, like: np.ndarray) -> Any:
    """Return a stored pixel as a native one; the casts keep the compiler from widening words."""
    if swap is None:
        return stored
    word = np.uint16(stored)
    return like.dtype.type(np.uint16(np.uint16(word << np.uint16(8)) | np.uint16(word >> np.uint16(8))))


@compiled(fastmath=_ASSOCIATIVE)
def sum_frames(
    data: np.ndarray, first: int, stride: int, count: int, swap: int | None, like: np.ndarray, out: np.ndarray
) -> None:
    """Add frames to a frame of sums, four at a time."""
    kind = out.dtype.type
    for i in range(0, count, 4):
        for p in range(0, len(out), BLOCK):
            part = out[p : min(p + BLOCK, len(out))]
            n = len(part)
            at = first + i * stride + p * like.itemsize
            a = _block(data, at, n, like)
            if i + 4 <= count:
                b = _block(data, at + stride, n, like)
                c = _block(data, at + 2 * stride, n, like)
                d = _block(data, at + 3 * stride, n, like)
                for j in range(n):
                    part[j] += (kind(_value(a[j], swap, like)) + kind(_value(b[j], swap, like))) + (
                        kind(_value(c[j], swap, like)) + kind(_value(d[j], swap, like))
                    )
            else:
                for k in range(count - i):
                    a = _block(data, at + k * stride, n, like)
                    for j in range(n):
                        part[j] += kind(_value(a[j], swap, like))


@compiled(fastmath=_ASSOCIATIVE)
def total_frames(
    data: np.ndarray,
    first: int,
    stride: int,
    count: int,
    swap: int | None,
    like: np.ndarray,
    pixels: int,
    zero: np.ndarray,
    out: np.ndarray,
) -> None:
    """Sum each frame; `zero` is an empty array of the type in which a block is summed."""
    kind, wide = zero.dtype.type, out.dtype.type
    for i in range(count):
        total = wide(0)
        for p in range(0, pixels, BLOCK):
            n = min(BLOCK, pixels - p)
            block = _block(data, first + i * stride + p * like.itemsize, n, like)
            part = kind(0)
            for j in range(n):
                part = kind(part + kind(_value(block[j], swap, like)))
            total = wide(total + wide(part))
        out[i] = total


@compiled(fastmath=_ASSOCIATIVE)
def dot_frames(
    data: np.ndarray,
    first: int,
    stride: int,
    count: int,
    swap: int | None,
    like: np.ndarray,
    masks: np.ndarray,
    narrow: np.ndarray,
    out: np.ndarray,
) -> None:
    """Multiply each frame with each mask and sum, in the masks' type within a block, in float64 over blocks.

    `narrow` is an empty array of a type that holds the pixels and converts to float fast (int32 for small integers).
    """
    pixels, kind, small = masks.shape[1], masks.dtype.type, narrow.dtype.type
    for i in range(0, count, 4):
        for p in range(0, pixels, BLOCK):
            n = min(BLOCK, pixels - p)
            at = first + i * stride + p * like.itemsize
            a = _block(data, at, n, like)
            if i + 4 <= count:  # a mask is loaded once for four frames
                b = _block(data, at + stride, n, like)
                c = _block(data, at + 2 * stride, n, like)
                d = _block(data, at + 3 * stride, n, like)
                for k in range(len(masks)):
                    mask = masks[k, p : p + n]
                    sa = sb = sc = sd = kind(0)
                    for j in range(n):
                        m = mask[j]
                        sa += kind(small(_value(a[j], swap, like))) * m
                        sb += kind(small(_value(b[j], swap, like))) * m
                        sc += kind(small(_value(c[j], swap, like))) * m
                        sd += kind(small(_value(d[j], swap, like))) * m
                    out[i, k] += sa
                    out[i + 1, k] += sb
                    out[i + 2, k] += sc
                    out[i + 3, k] += sd
            else:
                for f in range(count - i):
                    a = _block(data, at + f * stride, n, like)
                    for k in range(len(masks)):
                        mask = masks[k, p : p + n]
                        sa = kind(0)
                        for j in range(n):
                            sa += kind(small(_value(a[j], swap, like))) * mask[j]
                        out[i + f, k] += sa


@compiled
def correct_frames(
    data: np.ndarray,
    first: int,
    stride: int,
    swap: int | None,
    like: np.ndarray,
    narrow: np.ndarray,
    dark: np.ndarray,
    gain: np.ndarray,
    dead: np.ndarray,
    lists: np.ndarray,
    counts: np.ndarray,
    out: np.ndarray,
) -> None:
    """Subtract dark, multiply by gain, and repair dead pixels from their good neighbours, frame by frame.

    Pixels are converted before subtracting, so that nothing wraps. `narrow` is as in `dot_frames`. Of the neighbours in
    `lists`, so many count as `counts` says; they are summed in float64.
    """
    pixels, wide, kind = len(dark), narrow.dtype.type, out.dtype.type
    for i in range(len(out)):
        row = out[i]
        for p in range(0, pixels, BLOCK):
            n = min(BLOCK, pixels - p)
            block = _block(data, first + i * stride + p * like.itemsize, n, like)
            target, offset, factor = row[p : p + n], dark[p : p + n], gain[p : p + n]
            for j in range(n):
                target[j] = (kind(wide(_value(block[j], swap, like))) - offset[j]) * factor[j]
        for k in range(len(dead)):
            total = 0.0
            for m in range(counts[k]):
                total += row[lists[k, m]]
            row[dead[k]] = total / counts[k]


@compiled
def spread_bits(stored: np.ndarray, out: np.ndarray, table: np.ndarray) -> None:
    """Make a pixel of each bit, where eight bytes are in reverse order.

    Arguments are bytes (frames, rows, bytes of a row), words of eight pixels of the same shape, and the word for each
    byte.
    """
    for frame in range(stored.shape[0]):
        for row in range(stored.shape[1]):
            for j in range(stored.shape[2]):
                out[frame, row, j ^ 7] = table[stored[frame, row, j]]
