"""Pixels on their way into TIFF files: in blocks where their place is known, else page by page, as they are packed."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..frames.store import make_room, store
from ._tif_pages import PageAxes

if TYPE_CHECKING:
    import xarray as xr

BAND_BYTES, LARGEST_BAND_BYTES = 64 << 20, 256 << 20
"""Pixels that are computed together before their pages are compressed: usually, and where chunks are that large."""

WINDOW_BYTES = 32 << 20
"""Of a file, that are mapped at a time, and of pixels that wait for being compressed."""


def write_pages(
    path: str, image: xr.DataArray, axes: PageAxes, tags: Mapping[str, Any], *, compress: bool, big: bool
) -> None:
    """Write pages: where they are as large as pixels are, blocks in any order, else one page behind the other."""
    import tifffile

    pixels = image.transpose(*axes.stored).data
    dtype = image.dtype.newbyteorder("=")
    plain = not compress and dtype.kind != "b"  # which takes one bit
    folder = os.path.dirname(path)
    with (
        contextlib.closing(_pages(pixels, axes, dtype, folder)) as pages,
        tifffile.TiffWriter(path, bigtiff=big) as tiff,
    ):
        place = tiff.write(
            None if plain else pages,
            shape=axes.shape,
            dtype=dtype,
            photometric="rgb" if axes.samples else "minisblack",
            planarconfig="contig" if axes.samples else None,
            software="intake-emio",
            metadata=None,
            returnoffset=True,
            **(_packing(dtype) if compress else {}),
            **tags,
        )
    if place is not None:
        make_room(path, os.path.getsize(path))
        store(pixels, Target(path, place[0], dtype, axes.shape))


def _packing(dtype: np.dtype) -> dict[str, Any]:
    """Deflate; of integers the differences to the pixel before, which few programs know of 64 bits."""
    differences = dtype.kind in "iu" and dtype.itemsize < 8
    how = {"compression": "zlib", "compressionargs": {"level": 6}, "predictor": differences}
    return {**how, "buffersize": WINDOW_BYTES}


@dataclass(frozen=True)
class Target:
    """Pixels of a file, which take blocks; they travel to other processes by the file's name."""

    path: str
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]

    def __setitem__(self, box: tuple[slice, ...], block: np.ndarray) -> None:
        for start, shape, within, part in _windows(self.shape, box, WINDOW_BYTES // self.dtype.itemsize):
            window = np.memmap(self.path, self.dtype, "r+", self.offset + start * self.dtype.itemsize, shape)
            window[within] = block[part]
            window.flush()


def _windows(shape: tuple[int, ...], box: tuple[slice, ...], most: int) -> Iterator[tuple[int, Any, Any, Any]]:
    """Cut a box of an array into windows of the file that are no larger than they have to be.

    Parameters
    ----------
    shape
        Of the array.
    box
        Part of it; slices with start and stop.
    most
        Pixels of a window that has more than one member along its first axis.

    Yields
    ------
    first pixel and shape of a window, the box within it, and the part of the box that it is

    Examples
    --------
    >>> list(_windows((4, 6), (slice(1, 4), slice(0, 2)), 12))
    [(6, (2, 6), (slice(0, 2, None), slice(0, 2, None)), (slice(0, 2, None),)),
     (18, (1, 6), (slice(0, 1, None), slice(0, 2, None)), (slice(2, 3, None),))]
    """
    behind = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    axis = next(k for k, pixels in enumerate(behind) if pixels <= most or k == len(shape) - 1)
    step, along = max(1, most // behind[axis]), box[axis]
    for point in itertools.product(*(range(s.start, s.stop) for s in box[:axis])):
        place = tuple(k - s.start for k, s in zip(point, box, strict=False))
        start = sum(k * pixels for k, pixels in zip(point, behind, strict=False))
        for first in range(along.start, along.stop, step):
            size = min(step, along.stop - first)
            part = (*place, slice(first - along.start, first - along.start + size))
            yield start + first * behind[axis], (size, *shape[axis + 1 :]), (slice(0, size), *box[axis + 1 :]), part


def _pages(pixels: Any, axes: PageAxes, dtype: np.dtype, folder: str) -> Generator[np.ndarray]:
    """Yield pages in the order of the file, of dask arrays a few at a time, each chunk computed once."""
    depth = len(axes.counted)
    page_bytes = math.prod(axes.page_shape) * dtype.itemsize
    boxes = bands(pixels.chunks, depth, page_bytes) if hasattr(pixels, "dask") else [()]
    if boxes is None:
        yield from _pages_from_a_file(pixels, axes, dtype, folder)
        return
    for box in boxes:
        band = np.asarray(pixels[box])
        for point in np.ndindex(band.shape[:depth]):
            yield np.ascontiguousarray(band[point], dtype)
        del band  # before the next one is computed


def bands(chunks: Sequence[Sequence[int]], depth: int, page_bytes: int) -> list[tuple[slice, ...]] | None:
    """Cut an array into runs of pages that follow each other, and end where chunks do.

    Parameters
    ----------
    chunks
        Sizes of the chunks along each axis.
    depth
        Number of the axes in front of those of a page.
    page_bytes
        Size of a page.

    Returns
    -------
    list of tuple of slice or None
        `None` if chunks lie so that runs are too large for memory.

    Examples
    --------
    >>> bands([(1, 1), (3, 2)], 2, 60 << 20)[1:3]
    [(slice(0, 1, None), slice(3, 5, None)), (slice(1, 2, None), slice(0, 3, None))]
    """
    sizes = [sum(along) for along in chunks[:depth]]
    for axis, along in enumerate(chunks[:depth]):
        behind = page_bytes * math.prod(sizes[axis + 1 :])
        if max(along) * behind <= LARGEST_BAND_BYTES or (max(along) == 1 and axis == depth - 1):
            single = [[slice(k, k + 1) for k in range(size)] for size in sizes[:axis]]
            return list(itertools.product(*single, _runs(along, BAND_BYTES // behind)))
        if max(along) > 1:
            return None
    return [()]


def _runs(sizes: Sequence[int], room: int) -> list[slice]:
    """Join neighbouring chunks as long as they have room together."""
    runs: list[slice] = []
    for end, size in zip(itertools.accumulate(sizes), sizes, strict=True):
        if runs and end - runs[-1].start <= room:
            runs[-1] = slice(runs[-1].start, end)
        else:
            runs.append(slice(end - size, end))
    return runs


def _pages_from_a_file(pixels: Any, axes: PageAxes, dtype: np.dtype, folder: str) -> Generator[np.ndarray]:
    """Compute everything into a file in between, which can take chunks in any order, and yield pages from there."""
    handle, name = tempfile.mkstemp(".tmp", ".pages.", folder)
    os.close(handle)
    size = math.prod(axes.page_shape)
    try:
        make_room(name, pixels.size * dtype.itemsize)
        store(pixels, Target(name, 0, dtype, axes.shape))
        for number in range(axes.count):
            yield np.fromfile(name, dtype, size, offset=number * size * dtype.itemsize).reshape(axes.page_shape)
    finally:
        os.remove(name)
