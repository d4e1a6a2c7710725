"""Pixels as xarray's own lazy arrays, which need no dask: read where they are indexed, when they are needed."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
from xarray.backends import BackendArray
from xarray.core import indexing

from .frames.lazy import load, origins
from .frames.pixels import Pixels
from .frames.views import Pick, selected

if TYPE_CHECKING:
    import xarray as xr


class PixelArray(BackendArray):
    """Pixels behind xarray's lazy indexing; file names and numbers only, so it pickles small.

    Parameters
    ----------
    pixels
        What to read.
    """

    __slots__ = ("dtype", "pixels", "shape")

    def __init__(self, pixels: Pixels):
        self.pixels = pixels
        self.shape = pixels.shape
        self.dtype = pixels.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        wanted = _part(self.pixels, key)
        return load(wanted) if wanted.size else np.empty(wanted.shape, wanted.dtype)


def indexed(pixels: Pixels) -> indexing.LazilyIndexedArray:
    """Return an array for a `xarray.Variable` that reads when it is indexed and used."""
    return indexing.LazilyIndexedArray(PixelArray(pixels))


def pixels_behind(variable: xr.Variable) -> Pixels | None:
    """Pixels behind a variable that `imload` or the xarray engine made; `None` if they have been read or computed with.

    What has only been selected of them is selected of the pixels.
    """
    data = variable._data  # the public `data` would read what is not dask
    for found in itertools.chain([data], origins(data)):  # one by one: the later ones unroll the graph
        if isinstance(found, Pixels):
            return found
        while found is not None:
            if isinstance(found, indexing.LazilyIndexedArray) and isinstance(found.array, PixelArray):
                return _part(found.array.pixels, found.key.tuple)
            found = getattr(found, "array", None)
    return None


def _part(pixels: Pixels, key: tuple[Any, ...]) -> Pixels:
    """Part of some pixels by xarray's keys: numbers, slices, and arrays of indices, each for its axis."""
    return selected(pixels, [_pick(k, size) for k, size in zip(key, pixels.shape, strict=True)])


def _pick(key: Any, size: int) -> Pick:
    if isinstance(key, slice):
        start, stop, step = key.indices(size)
        return tuple(range(start, stop, step)) if step < 0 else slice(start, max(start, stop), step)
    if isinstance(key, np.ndarray):
        return tuple(np.where(key < 0, key + size, key).tolist())
    return int(key) % size
