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


# Sums need no unpacking. Of three 64 bit words, which hold 16 pixels, every other field of 12 bits is masked out and
# added where it stands: there is room for the sum of 16 of them. The fields between are shifted into such places first.
# A pixel that lies across two words is added up as two parts, which is the same thing.

GROUP = 3
_FIELD, _LANE = 0xFFF, 0xFFFFFF
_EVEN = (_FIELD | _FIELD << 24 | _FIELD << 48, 0xFF | _FIELD << 20 | _FIELD << 44, 0xF | _FIELD << 16 | _FIELD << 40)
_ODD = (_FIELD | _FIELD << 24 | 0xF << 48, _FIELD | _FIELD << 24 | 0xFF << 48, _FIELD | _FIELD << 24 | _FIELD << 48)
_SHIFT = (12, 8, 4)


@compiled
def _masks(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Masks and shifts for so many words."""
    even, odd, shift = np.empty(count, np.uint64), np.empty(count, np.uint64), np.empty(count, np.uint64)
    for k in range(count):
        even[k], odd[k], shift[k] = np.uint64(_EVEN[k % 3]), np.uint64(_ODD[k % 3]), np.uint64(_SHIFT[k % 3])
    return even, odd, shift


@compiled
def _pile(
    data: np.ndarray,
    starts: np.ndarray,
    even: np.ndarray,
    odd: np.ndarray,
    shift: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
) -> None:
    """Add up to 16 runs of words, field by field: even fields into `a`, odd ones into `b`."""
    nbytes = len(a) * 8
    a[:] = 0
    b[:] = 0
    i = 0
    while i + 4 <= len(starts):
        w = data[starts[i] : starts[i] + nbytes].view(np.uint64)
        x = data[starts[i + 1] : starts[i + 1] + nbytes].view(np.uint64)
        y = data[starts[i + 2] : starts[i + 2] + nbytes].view(np.uint64)
        z = data[starts[i + 3] : starts[i + 3] + nbytes].view(np.uint64)
        for k in range(len(a)):
            m, n, s = even[k], odd[k], shift[k]
            a[k] += ((w[k] & m) + (x[k] & m)) + ((y[k] & m) + (z[k] & m))
            b[k] += ((w[k] >> s & n) + (x[k] >> s & n)) + ((y[k] >> s & n) + (z[k] >> s & n))
        i += 4
    for t in range(i, len(starts)):
        w = data[starts[t] : starts[t] + nbytes].view(np.uint64)
        for k in range(len(a)):
            a[k] += w[k] & even[k]
            b[k] += w[k] >> shift[k] & odd[k]


@compiled
def _add_fields(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """Take sums apart into pixels, and add them."""
    kind, lane = out.dtype.type, np.uint64(_LANE)
    for g in range(len(a) // 3):
        a0, a1, a2 = a[3 * g], a[3 * g + 1], a[3 * g + 2]
        b0, b1, b2 = b[3 * g], b[3 * g + 1], b[3 * g + 2]
        j = 16 * g
        out[j] += kind(a0 & lane)
        out[j + 1] += kind(b0 & lane)
        out[j + 2] += kind(a0 >> np.uint64(24) & lane)
        out[j + 3] += kind(b0 >> np.uint64(24) & lane)
        out[j + 4] += kind(a0 >> np.uint64(48))
        out[j + 5] += kind((b0 >> np.uint64(48)) + ((a1 & np.uint64(0xFFFFF)) << np.uint64(4)))
        out[j + 6] += kind(b1 & lane)
        out[j + 7] += kind(a1 >> np.uint64(20) & lane)
        out[j + 8] += kind(b1 >> np.uint64(24) & lane)
        out[j + 9] += kind(a1 >> np.uint64(44))
        out[j + 10] += kind((b1 >> np.uint64(48)) + ((a2 & np.uint64(0xFFFF)) << np.uint64(8)))
        out[j + 11] += kind(b2 & lane)
        out[j + 12] += kind(a2 >> np.uint64(16) & lane)
        out[j + 13] += kind(b2 >> np.uint64(24) & lane)
        out[j + 14] += kind(a2 >> np.uint64(40))
        out[j + 15] += kind(b2 >> np.uint64(48))


@compiled
def sum_tiles(data: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
    """Add tiles to a tile of sums; their pixels come in groups of 16."""
    words = len(out) // 16 * GROUP
    even, odd, shift = _masks(words)
    a, b = np.empty(words, np.uint64), np.empty(words, np.uint64)
    for i in range(0, len(starts), MOST_SUMMED):
        _pile(data, starts[i : i + MOST_SUMMED], even, odd, shift, a, b)
        _add_fields(a, b, out)


@compiled
def total_tiles(data: np.ndarray, starts: np.ndarray, pixels: int, out: np.ndarray) -> None:
    """Add the sum of each tile to a number of its own; unpacking is the faster way here."""
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
