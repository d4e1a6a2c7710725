"""Coarser levels of OME-Zarr images: each is made of the one before, which is on the disk already."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..axes import Scale
from ..frames.chunked_target import grown
from ..frames.lazy import lazy
from ..frames.pixels import Pixels

SMALLEST = 256
"""Images whose planes are no larger have one level."""

ISOTROPIC = 1.5
"""Pixels that are longer than so many of the plane's are not joined."""

BLOCK_BYTES = 8 << 20
"""Of a coarser level, that is made at once; four or eight times that is read for it."""

Factors = tuple[int, ...]
"""How many pixels are joined along each axis: 1 or 2."""


def plan(axes: str, shape: Sequence[int], scales: Mapping[str, Scale], levels: int | None) -> list[Factors]:
    """Return by how much each level is coarser than the one before, along each axis.

    Parameters
    ----------
    axes, shape
        Of the image; the last two axes are the plane.
    scales
        Calibrations by axis, as far as they are known.
    levels
        How many there shall be, the finest counted; `None`: until planes have 256 pixels a side.

    Examples
    --------
    >>> plan("cyx", (2, 1000, 300), {}, None)
    [(1, 2, 2), (1, 2, 2)]
    """
    sizes, steps = dict(zip(axes, shape, strict=True)), {a: abs(s.step) for a, s in scales.items()}
    plane = axes[-2:]
    space = [a for a in axes if a in "zyx"]
    comparable = all(a in scales for a in space) and len({scales[a].units for a in space}) == 1
    found: list[Factors] = []
    while len(found) + 1 < levels if levels is not None else max(sizes[a] for a in plane) > SMALLEST:
        halved = [a for a in plane if sizes[a] > 1]
        if not halved:
            break
        if "z" in axes[:-2] and sizes["z"] > 1 and comparable:
            halved += ["z"] * (steps["z"] <= ISOTROPIC * max(steps[a] for a in plane))
        for a in halved:
            sizes[a] //= 2
            steps[a] = steps.get(a, 1.0) * 2
        found.append(tuple(2 if a in halved else 1 for a in axes))
    return found


def coarser_shape(shape: Sequence[int], factors: Factors) -> tuple[int, ...]:
    """Shape of the next level: a pixel at the end that has no partner is left out."""
    return tuple(n // f for n, f in zip(shape, factors, strict=True))


def coarser_scale(scale: Scale, factor: int) -> Scale:
    """Calibration of the next level: the centres of pixels that were joined stay where they are."""
    return Scale(scale.step * factor, scale.units, scale.origin + scale.step * (factor - 1) / 2)


def coarser(pixels: Pixels, factors: Factors, unit: Sequence[int], *, labels: bool) -> Any:
    """Return the next level as a dask array; nothing is read.

    Parameters
    ----------
    pixels
        The level before.
    factors
        Along each axis.
    unit
        Shape of the chunks of the next level: blocks are made of whole ones.
    labels
        Whether numbers are names, which have no mean: then one of the joined pixels is taken.
    """
    import dask.array as da
    from dask.array.core import normalize_chunks

    shape = coarser_shape(pixels.shape, factors)
    block = grown(unit, shape, pixels.dtype.itemsize, BLOCK_BYTES)
    cuts = normalize_chunks(tuple(min(b, n) for b, n in zip(block, shape, strict=True)), shape)
    sources = []
    for sizes, factor, n in zip(cuts, factors, pixels.shape, strict=True):
        *others, _ = (size * factor for size in sizes)
        sources.append((*others, n - sum(others)))  # with what is left out at the end
    return da.map_blocks(
        joined,
        lazy(pixels, tuple(sources)),
        factors,
        labels,
        dtype=pixels.dtype,
        chunks=cuts,
        meta=np.empty((0,) * pixels.ndim, pixels.dtype),
    )


def joined(block: np.ndarray, factors: Factors, labels: bool) -> np.ndarray:
    """Join pixels: their mean, rounded to the nearest of the type (halves to even); or the first of them, of labels.

    Examples
    --------
    >>> joined(np.array([[1, 2, 5], [4, 5, 5]], "u1"), (2, 2), False)
    array([[3]], dtype=uint8)
    """
    whole = block[tuple(slice(n // f * f) for n, f in zip(block.shape, factors, strict=True))]
    if labels:
        return np.ascontiguousarray(whole[tuple(slice(None, None, f) for f in factors)])
    out = np.empty(coarser_shape(block.shape, factors), block.dtype)
    for place in np.ndindex(out.shape[:-2]):  # plane by plane: numbers on their way stay in the cache
        members = tuple(slice(k * f, (k + 1) * f) for k, f in zip(place, factors, strict=False))
        out[place] = _mean(whole[members], factors)[(0,) * len(place)]
    return out


def _mean(pixels: np.ndarray, factors: Factors) -> np.ndarray:
    count, dtype = math.prod(factors), pixels.dtype
    if dtype.kind in "iu" and dtype.itemsize == 8:
        return _mean_of_long(pixels, factors)
    wide = np.dtype("f4" if dtype.itemsize <= 2 or dtype == "f4" else "f8")  # holds sums of integers exactly
    mean = _sums(pixels, factors, np.promote_types(wide, dtype) if dtype.kind == "f" else wide)
    mean *= mean.dtype.type(1 / count)
    return np.rint(mean, out=mean) if dtype.kind in "iu" else mean


def _mean_of_long(pixels: np.ndarray, factors: Factors) -> np.ndarray:
    """Rounded mean of integers of 64 bits, which no float holds, and whose sum would overflow."""
    count = math.prod(factors)
    rests = _sums(pixels % count, factors, np.dtype("f8")) / count
    floor = np.floor(rests)
    low = _sums(pixels // count, factors, pixels.dtype) + floor.astype(pixels.dtype)
    return low + ((rests - floor > 0.5) | ((rests - floor == 0.5) & (low % 2 == 1)))


def _sums(pixels: np.ndarray, factors: Factors, dtype: np.dtype) -> np.ndarray:
    """Sums of neighbours along the axes along which two are joined."""
    for axis, factor in enumerate(factors):
        if factor == 2:
            first, second = (pixels[(slice(None),) * axis + (slice(at, None, 2),)] for at in (0, 1))
            pixels = np.add(first, second, dtype=dtype)
    return pixels
