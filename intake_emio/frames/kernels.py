"""Compiled loops over frames as they lie in a buffer. Importing this module imports numba, which takes a second.

Frames are given as bytes: the position of the first one and the distance to the next. That serves frames behind
headers, at odd offsets and in foreign byte order without a copy. Loops run over short slices from zero on, because only
those are vectorised. `like` is an empty array of the pixel type.
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
def swap_bytes(stored: np.ndarray, out: np.ndarray, itemsize: int) -> None:
    """Copy bytes with those of each item reversed."""
    if itemsize == 2:
        words, swapped = stored.view(np.uint16), out.view(np.uint16)
        for j in range(len(words)):
            swapped[j] = np.uint16(np.uint16(words[j] << np.uint16(8)) | np.uint16(words[j] >> np.uint16(8)))
    else:
        for j in range(0, len(stored), itemsize):
            for k in range(itemsize):
                out[j + k] = stored[j + itemsize - 1 - k]


@compiled
def _block(data: np.ndarray, at: int, nbytes: int, swapped: bool, scratch: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Pixels from a position on, native: where they lie, or swapped into scratch."""
    if swapped:
        swap_bytes(data[at : at + nbytes], scratch[:nbytes], like.itemsize)
        return scratch[:nbytes].view(like.dtype)
    return data[at : at + nbytes].view(like.dtype)


@compiled(fastmath=_ASSOCIATIVE)
def sum_frames(
    data: np.ndarray, first: int, stride: int, count: int, swapped: bool, like: np.ndarray, out: np.ndarray
) -> None:
    """Add frames to a frame of sums, four at a time."""
    size, pixels = like.itemsize, len(out)
    scratch = np.empty((4, BLOCK * size), np.uint8)
    for i in range(0, count, 4):
        for p in range(0, pixels, BLOCK):
            part = out[p : min(p + BLOCK, pixels)]
            n = len(part)
            at = first + i * stride + p * size
            if i + 4 <= count:
                a = _block(data, at, n * size, swapped, scratch[0], like)
                b = _block(data, at + stride, n * size, swapped, scratch[1], like)
                c = _block(data, at + 2 * stride, n * size, swapped, scratch[2], like)
                d = _block(data, at + 3 * stride, n * size, swapped, scratch[3], like)
                for j in range(n):
                    part[j] += (part.dtype.type(a[j]) + part.dtype.type(b[j])) + (
                        part.dtype.type(c[j]) + part.dtype.type(d[j])
                    )
            else:
                for k in range(count - i):
                    a = _block(data, at + k * stride, n * size, swapped, scratch[0], like)
                    for j in range(n):
                        part[j] += part.dtype.type(a[j])


@compiled
def _swapped(word: np.uint16) -> np.uint16:
    """Return a 16 bit word with its bytes exchanged; the casts keep the compiler from widening."""
    return np.uint16(np.uint16(word << np.uint16(8)) | np.uint16(word >> np.uint16(8)))


@compiled
def sum_swapped_words(data: np.ndarray, first: int, stride: int, count: int, like: np.ndarray, out: np.ndarray) -> None:
    """Add frames of 16 bit integers in foreign byte order; as `sum_frames`, but swapped in registers."""
    pixels = len(out)
    for i in range(0, count, 4):
        for p in range(0, pixels, BLOCK):
            part = out[p : min(p + BLOCK, pixels)]
            n = len(part)
            at = first + i * stride + p * 2
            if i + 4 <= count:
                a = data[at : at + 2 * n].view(np.uint16)
                b = data[at + stride : at + stride + 2 * n].view(np.uint16)
                c = data[at + 2 * stride : at + 2 * stride + 2 * n].view(np.uint16)
                d = data[at + 3 * stride : at + 3 * stride + 2 * n].view(np.uint16)
                for j in range(n):
                    part[j] += (
                        part.dtype.type(like.dtype.type(_swapped(a[j])))
                        + part.dtype.type(like.dtype.type(_swapped(b[j])))
                        + part.dtype.type(like.dtype.type(_swapped(c[j])))
                        + part.dtype.type(like.dtype.type(_swapped(d[j])))
                    )
            else:
                for k in range(count - i):
                    a = data[at + k * stride : at + k * stride + 2 * n].view(np.uint16)
                    for j in range(n):
                        part[j] += part.dtype.type(like.dtype.type(_swapped(a[j])))


@compiled
def correct_rows(stored: np.ndarray, dark: np.ndarray, gain: np.ndarray, out: np.ndarray) -> None:
    """Subtract dark and multiply by gain, row by row; converted before subtracting, so that nothing wraps."""
    for i in range(len(stored)):
        row, target = stored[i], out[i]
        for j in range(len(target)):
            target[j] = (target.dtype.type(row[j]) - dark[j]) * gain[j]


@compiled(fastmath=_ASSOCIATIVE)
def total_frames(
    data: np.ndarray,
    first: int,
    stride: int,
    count: int,
    swapped: bool,
    like: np.ndarray,
    pixels: int,
    zero: np.ndarray,
    out: np.ndarray,
) -> None:
    """Sum each frame; `zero` is an empty array of the type in which a block is summed."""
    size = like.itemsize
    scratch = np.empty(BLOCK * size, np.uint8)
    for i in range(count):
        total = out.dtype.type(0)
        for p in range(0, pixels, BLOCK):
            n = min(BLOCK, pixels - p)
            block = _block(data, first + i * stride + p * size, n * size, swapped, scratch, like)
            part = zero.dtype.type(0)
            for j in range(n):
                part = zero.dtype.type(part + zero.dtype.type(block[j]))
            total = out.dtype.type(total + out.dtype.type(part))
        out[i] = total


@compiled(fastmath=_ASSOCIATIVE)
def dot_frames(
    data: np.ndarray,
    first: int,
    stride: int,
    count: int,
    swapped: bool,
    like: np.ndarray,
    masks: np.ndarray,
    narrow: np.ndarray,
    out: np.ndarray,
) -> None:
    """Multiply each frame with each mask and sum, in the masks' type within a block, in float64 over blocks.

    `narrow` is an empty array of a type that holds the pixels and converts to float fast (int32 for small integers).
    """
    size, pixels = like.itemsize, masks.shape[1]
    scratch = np.empty((4, BLOCK * size), np.uint8)
    for i in range(0, count, 4):
        for p in range(0, pixels, BLOCK):
            n = min(BLOCK, pixels - p)
            at = first + i * stride + p * size
            if i + 4 <= count:  # a mask is loaded once for four frames
                a = _block(data, at, n * size, swapped, scratch[0], like)
                b = _block(data, at + stride, n * size, swapped, scratch[1], like)
                c = _block(data, at + 2 * stride, n * size, swapped, scratch[2], like)
                d = _block(data, at + 3 * stride, n * size, swapped, scratch[3], like)
                for k in range(len(masks)):
                    mask = masks[k, p : p + n]
                    sa = sb = sc = sd = masks.dtype.type(0)
                    for j in range(n):
                        m = mask[j]
                        sa += masks.dtype.type(narrow.dtype.type(a[j])) * m
                        sb += masks.dtype.type(narrow.dtype.type(b[j])) * m
                        sc += masks.dtype.type(narrow.dtype.type(c[j])) * m
                        sd += masks.dtype.type(narrow.dtype.type(d[j])) * m
                    out[i, k] += sa
                    out[i + 1, k] += sb
                    out[i + 2, k] += sc
                    out[i + 3, k] += sd
            else:
                for f in range(count - i):
                    a = _block(data, at + f * stride, n * size, swapped, scratch[0], like)
                    for k in range(len(masks)):
                        mask = masks[k, p : p + n]
                        sa = masks.dtype.type(0)
                        for j in range(n):
                            sa += masks.dtype.type(narrow.dtype.type(a[j])) * mask[j]
                        out[i + f, k] += sa
