"""Compiled loops over tiles of 12 bit pixels, three bytes for two, low bits first. Importing this imports numba.

Three 16 bit words hold four pixels; going through them rather than through bytes is half as fast again (measured), and
lets the compiler vectorise. That needs a little-endian machine, and pixels in groups of four.
"""

from __future__ import annotations

import numpy as np

from .kernels import compiled

MOST_SUMMED = 16
"""Pixels of 12 bits whose sum fits into 16 bits."""


@compiled
def unpack(words: np.ndarray, out: np.ndarray) -> None:
    """Unpack 16 bit words into pixels."""
    for j in range(len(out) // 4):
        a, b, c = words[3 * j], words[3 * j + 1], words[3 * j + 2]
        out[4 * j] = np.uint16(a & np.uint16(0xFFF))
        out[4 * j + 1] = np.uint16(
            np.uint16(a >> np.uint16(12)) | np.uint16(np.uint16(b & np.uint16(0xFF)) << np.uint16(4))
        )
        out[4 * j + 2] = np.uint16(
            np.uint16(b >> np.uint16(8)) | np.uint16(np.uint16(c & np.uint16(0xF)) << np.uint16(8))
        )
        out[4 * j + 3] = np.uint16(c >> np.uint16(4))


@compiled
def _add(words: np.ndarray, out: np.ndarray) -> None:
    """Unpack 16 bit words and add the pixels."""
    for j in range(len(out) // 4):
        a, b, c = words[3 * j], words[3 * j + 1], words[3 * j + 2]
        out[4 * j] = np.uint16(out[4 * j] + np.uint16(a & np.uint16(0xFFF)))
        out[4 * j + 1] = np.uint16(
            out[4 * j + 1]
            + np.uint16(np.uint16(a >> np.uint16(12)) | np.uint16(np.uint16(b & np.uint16(0xFF)) << np.uint16(4)))
        )
        out[4 * j + 2] = np.uint16(
            out[4 * j + 2]
            + np.uint16(np.uint16(b >> np.uint16(8)) | np.uint16(np.uint16(c & np.uint16(0xF)) << np.uint16(8)))
        )
        out[4 * j + 3] = np.uint16(out[4 * j + 3] + np.uint16(c >> np.uint16(4)))


@compiled
def place_tiles(
    data: np.ndarray,
    starts: np.ndarray,
    corners: np.ndarray,
    columns: int,
    cuts: np.ndarray,
    width: int,
    out: np.ndarray,
) -> None:
    """Unpack tiles and put a part of each into its place.

    A whole tile goes through scratch: measured, that is twice as fast as walking the rows of the target.

    Parameters
    ----------
    data, starts
        Bytes, and where in them each tile begins.
    corners
        Row and column of each tile's part in `out`.
    columns
        Columns of a tile.
    cuts
        Of each tile, the first and last row (excluded), and the first and last column (excluded) that are wanted.
    width, out
        Columns of the target, and its pixels in one axis.
    """
    most = 0
    for t in range(len(starts)):
        most = max(most, (cuts[t, 1] - cuts[t, 0]) * columns)
    scratch = np.empty(most, np.uint16)
    for t in range(len(starts)):
        top, bottom, left, right = cuts[t, 0], cuts[t, 1], cuts[t, 2], cuts[t, 3]
        pixels = (bottom - top) * columns
        first = starts[t] + top * columns * 3 // 2
        unpack(data[first : first + pixels * 3 // 2].view(np.uint16), scratch[:pixels])
        place = corners[t, 0] * width + corners[t, 1]
        for row in range(bottom - top):
            source = scratch[row * columns + left : row * columns + right]
            target = out[place : place + right - left]
            for j in range(len(target)):
                target[j] = source[j]
            place += width


@compiled
def sum_tiles(data: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
    """Add tiles to a tile of sums: 16 bit sums of a few tiles stay in the first-level cache."""
    nbytes = len(out) * 3 // 2
    part = np.empty(len(out), np.uint16)
    for i in range(0, len(starts), MOST_SUMMED):
        part[:] = 0
        for t in range(i, min(i + MOST_SUMMED, len(starts))):
            _add(data[starts[t] : starts[t] + nbytes].view(np.uint16), part)
        for j in range(len(out)):
            out[j] += out.dtype.type(part[j])


@compiled
def total_tiles(data: np.ndarray, starts: np.ndarray, pixels: int, out: np.ndarray) -> None:
    """Add the sum of each tile to a number of its own."""
    scratch = np.empty(pixels, np.uint16)
    for t in range(len(starts)):
        unpack(data[starts[t] : starts[t] + pixels * 3 // 2].view(np.uint16), scratch)
        total = np.uint32(0)
        for j in range(pixels):
            total = np.uint32(total + np.uint32(scratch[j]))
        out[t] += np.uint64(total)


@compiled(fastmath={"reassoc", "contract", "nsz", "arcp"})
def dot_tiles(data: np.ndarray, starts: np.ndarray, masks: np.ndarray, block: int, out: np.ndarray) -> None:
    """Add the products of each tile with each mask, summed in the masks' type within a block of pixels."""
    pixels = masks.shape[1]
    scratch = np.empty(pixels, np.uint16)
    for t in range(len(starts)):
        unpack(data[starts[t] : starts[t] + pixels * 3 // 2].view(np.uint16), scratch)
        for k in range(len(masks)):
            for p in range(0, pixels, block):
                values, mask = scratch[p : p + block], masks[k, p : p + block]
                total = masks.dtype.type(0)
                for j in range(len(values)):
                    total += masks.dtype.type(np.int32(values[j])) * mask[j]
                out[t, k] += total
