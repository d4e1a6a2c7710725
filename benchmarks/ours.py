"""Our own subjects: the plain road, the fused road, and single frames without dask."""

from __future__ import annotations

import importlib
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cases import Arguments, Call

SKIPNA = False
"""xarray looks for NaN in floats unless it is told not to; the others do not, and it is several times the work."""


class Plain:
    """Plain xarray and dask on what `imload` returns.

    Parameters
    ----------
    path
        File or URL.
    arguments
        Of `imload`.
    scheduler
        What dask computes with: "threads", or a client of a cluster.
    """

    name = "plain"
    variant = ""
    upside_down = False

    def __init__(self, path: str, arguments: Arguments, scheduler: Any = "threads"):
        self.opener = Call("intake_emio", "imload", (path,), arguments)
        self.scheduler = scheduler
        self.image = self.open().image

    def open(self) -> Any:
        """Open the file; no pixel is read."""
        return self.opener()

    def load(self) -> NDArray:
        """Everything in memory, without dask."""
        call = self.opener
        image = Call(call.module, call.function, call.arguments, {**call.keywords, "chunks": None})().image
        return in_memory(image.values)

    def mean(self) -> NDArray:
        """Mean frame."""
        return self._computed(self.image.mean(("y", "x"), skipna=SKIPNA))

    def sum(self) -> NDArray:
        """Sum over the detector."""
        return self._computed(self.image.sum(("v", "u"), skipna=SKIPNA))

    def virtual(self, mask: NDArray) -> NDArray:
        """Virtual detector."""
        return self._computed(_xarray().dot(self.image, _labelled(mask), dim=("v", "u")))

    def dot(self, masks: NDArray) -> NDArray:
        """Several virtual detectors, (mask, y, x)."""
        product = _xarray().dot(self.image, _labelled(masks), dim=("v", "u"))
        return self._computed(product.transpose("mask", "y", "x"))

    def rows(self, band: slice) -> NDArray:
        """Band of scan rows."""
        return self._computed(self.image.isel(y=band))

    def frames(self, points: Sequence[tuple[int, int]]) -> NDArray:
        """Single frames, one after the other."""
        return np.stack([self._computed(self.image[y, x]) for y, x in points])

    def _computed(self, array: Any) -> NDArray:
        """Pixels only, as peers return them: per-frame coordinates such as times would be computed as well."""
        return in_memory(array.data.compute(scheduler=self.scheduler))

    def code(self) -> str:
        """Source text that opens the file in a new process."""
        return self.opener.code()

    def graph_code(self) -> str:
        """Source text that opens the file and makes two graphs."""
        return self.code() + 'mean = result.image.mean(("y", "x"))\nsum = result.image.sum(("v", "u"))\n'


class Fused(Plain):
    """Reductions of the accessor: read, decode and reduce in one go."""

    name = "fused"

    def __init__(self, path: str, arguments: Arguments, scheduler: Any = "threads"):
        importlib.import_module("intake_emio.accessor")
        super().__init__(path, arguments, scheduler)

    load = rows = frames = None  # type: ignore[assignment]  # not what this road is for

    def mean(self) -> NDArray:
        """Mean frame."""
        return self._computed(self.image.emio.mean(("y", "x"), skipna=SKIPNA))

    def sum(self) -> NDArray:
        """Sum over the detector."""
        return self._computed(self.image.emio.sum(("v", "u"), skipna=SKIPNA))

    def virtual(self, mask: NDArray) -> NDArray:
        """Virtual detector."""
        return self._computed(self.image.emio.dot(_labelled(mask)))

    def dot(self, masks: NDArray) -> NDArray:
        """Several virtual detectors, (mask, y, x)."""
        return self._computed(self.image.emio.dot(_labelled(masks)).transpose("mask", "y", "x"))

    def graph_code(self) -> str:
        """Source text that opens the file and makes two graphs."""
        return (
            self.code()
            + "import intake_emio.accessor\n"
            + 'mean = result.image.emio.mean(("y", "x"))\nsum = result.image.emio.sum(("v", "u"))\n'
        )


class Direct:
    """The pixels themselves, without dask and labels."""

    name = "no dask"
    variant = ""
    upside_down = False

    def __init__(self, path: str, arguments: Arguments):
        self.pixels = pixels(path, arguments)
        self.rows_of = Call("intake_emio", "imload", (path,), {**arguments, "chunks": None})

    def frames(self, points: Sequence[tuple[int, int]]) -> NDArray:
        """Single frames, one after the other."""
        return np.stack([self.pixels[y, x] for y, x in points])

    def rows(self, band: slice) -> NDArray:
        """Band of scan rows, as `imload(partition=..., chunks=None)` gives it."""
        call = self.rows_of
        part = Call(call.module, call.function, call.arguments, {**call.keywords, "partition": band})
        return in_memory(part().image.values)


def pixels(path: str, arguments: Arguments) -> Any:
    """Return what a dask graph carries: the object that reads boxes of pixels."""
    return opened(path, arguments).image.image.pixels


def opened(path: str, arguments: Arguments) -> Any:
    """Return the intake source of a file, whose header has been read."""
    from intake_emio.detection import open_source

    source = open_source(path, **arguments)
    source.discover()
    return source


def in_memory(array: NDArray) -> NDArray:
    """Copy what is only a view of a mapped file: everybody has to read the pixels."""
    base: Any = array
    while base is not None:
        if isinstance(base, mmap.mmap | np.memmap):
            return np.array(array)
        if isinstance(base, memoryview):
            base = base.obj
        else:
            base = getattr(base, "base", None)
    return array


def _labelled(masks: NDArray) -> Any:
    return _xarray().DataArray(masks, dims=("mask", "v", "u")[-masks.ndim :])


def _xarray() -> Any:
    import xarray

    return xarray
