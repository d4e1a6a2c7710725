"""Pixels as arrays: lazily, as one dask array whose tasks carry names and numbers; or at once, in parallel."""

from __future__ import annotations

import functools
import itertools
import math
import os
import pickle
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import EmioError
from .chunking import cores
from .held import Held
from .pixels import Box, Pixels, inside

if TYPE_CHECKING:
    import dask.array as da

INLINE_BYTES = 16 << 10
"""Pixels that pickle larger than this (many file names) are put into a graph once, not into each task."""


@functools.cache
def installed_memory() -> int:
    """Bytes of memory that this machine has."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return sys.maxsize


def lazy(pixels: Pixels, chunks: Any = None) -> da.Array:
    """Return a dask array of the pixels; nothing is read.

    Parameters
    ----------
    pixels
        What to read.
    chunks
        Sizes along each axis; default: what the pixels like best.
    """
    import dask.array as da
    from dask.array.core import normalize_chunks

    cuts = normalize_chunks(pixels.chunks() if chunks is None else chunks, pixels.shape, dtype=pixels.dtype)
    if isinstance(pixels, Held):
        if pixels.is_lazy:
            return pixels.native if pixels.native.chunks == cuts else pixels.native.rechunk(cuts)
        return da.from_array(pixels.native, chunks=cuts, name=pixels.name(cuts), asarray=False)
    return da.from_array(
        pixels,
        chunks=cuts,
        name=pixels.name(cuts),
        asarray=False,
        inline_array=len(pickle.dumps(pixels, protocol=5)) <= INLINE_BYTES,
        # fancy=True (the default) is what lets dask push slices down into our read
        meta=np.empty((0,) * pixels.ndim, pixels.dtype),
    )


def pixels_of(array: Any) -> Pixels | None:
    """Return the pixels behind a dask array that `lazy` made; `None` if anything has been done to it since."""
    return next((origin for origin in origins(array) if isinstance(origin, Pixels)), None)


def origins(array: Any) -> Iterator[Any]:
    """Yield what a dask array made by `dask.array.from_array` reads from; nothing for any other array."""
    layer = getattr(array, "dask", None) and array.dask.layers.get(array.name)
    for value, _ in getattr(layer, "indices", None) or ():
        yield value
        stored = array.dask.get(getattr(value, "key", None)) if not isinstance(value, str | tuple) else None
        yield getattr(stored, "value", stored)


def load(pixels: Pixels) -> np.ndarray:
    """Read all pixels into a new array, a thread per core.

    Raises
    ------
    EmioError
        If they do not fit into memory.
    """
    if isinstance(pixels, Held):
        return pixels.native.compute() if pixels.is_lazy else pixels.native
    try:
        if pixels.nbytes > installed_memory():
            raise MemoryError
        out = np.empty(pixels.shape, pixels.dtype)
    except MemoryError:
        raise EmioError(
            f"{', '.join(pixels.files()[:1])}: {pixels.nbytes / 1e9:.1f} GB do not fit into memory: open it lazily "
            "(chunks='auto') or load a part of it (partition=)"
        ) from None
    boxes = list(pieces(pixels))
    if len(boxes) < 2:
        for box in boxes:
            pixels.read(box, out[inside(box)])
        return out
    with ThreadPoolExecutor(cores()) as threads:
        for done in [threads.submit(pixels.read, box, out[box]) for box in boxes]:
            done.result()
    return out


def pieces(pixels: Pixels, nbytes: int | None = None) -> list[Box]:
    """Boxes that make up the whole, each a part of a natural chunk of about `nbytes` (default: what reads well)."""
    nbytes = nbytes or pixels.read_bytes
    chunk = list(pixels.chunks())
    navigation = pixels.ndim - pixels.frame_ndim
    for axis in range(max(navigation, min(1, pixels.ndim))):
        size = math.prod(chunk) * pixels.dtype.itemsize
        if size <= nbytes:
            break
        chunk[axis] = max(1, chunk[axis] * nbytes // size)
    cuts = [
        [slice(at, min(at + step, size), 1) for at in range(0, size, step)]
        for size, step in zip(pixels.shape, chunk, strict=True)
    ]
    return list(itertools.product(*cuts))
