"""Cutting boxes of frames into runs that stay in the cache while something is done to them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from .pixels import Box, Pixels, count_of, whole

TILE_BYTES = 1 << 20
"""Decoded pixels treated at a time: what is read is still in the cache when it is used."""


def frame_box(pixels: Pixels) -> Box:
    """Return the box of a whole frame."""
    return whole(pixels.shape[pixels.ndim - pixels.frame_ndim :])


def tiles(pixels: Pixels, points: Box, nbytes: int) -> Iterator[Box]:
    """Cut a box of points into runs of about `nbytes` of pixels, in C order."""
    frame = max(1, math.prod(pixels.shape[pixels.ndim - pixels.frame_ndim :]) * pixels.dtype.itemsize)
    wanted = max(1, nbytes // frame)
    steps: list[int] = []
    for cut in reversed(points):
        size = count_of(cut)
        steps.insert(0, max(1, min(size, wanted)))
        wanted = wanted // size if size and wanted >= size else 1
    cuts = [
        [
            slice(cut.start + at * cut.step, min(cut.start + (at + step) * cut.step, cut.stop), cut.step)
            for at in range(0, count_of(cut), step)
        ]
        for cut, step in zip(points, steps, strict=True)
    ]
    yield from itertools.product(*cuts)


def placed(tile: Box, points: Box) -> Box:
    """Return where a tile lies in the box that it was cut from."""
    firsts = [(t.start - p.start) // p.step for t, p in zip(tile, points, strict=True)]
    return tuple(slice(first, first + count_of(t), 1) for first, t in zip(firsts, tile, strict=True))
