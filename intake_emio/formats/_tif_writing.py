"""Writing TIFF files: for ImageJ where it knows such images, in tifffile's own way where it does not, and OME-TIFF.

Rules: docs/formats/tif.md.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import tempfile
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError
from ..frames.store import store
from ._tif_imagej import fits_imagej, imagej_tags
from ._tif_ome import OME_DTYPES, ome_tags
from ._tif_pages import PageAxes, expressed, is_coloured, measured
from ._tif_record import noted

if TYPE_CHECKING:
    import xarray as xr

DTYPES = (*OME_DTYPES, "int64", "uint64", "float16")
HYPERSTACK_AXES = "tzcyx"
IFD_BYTES = 512
"""More than a directory of a page takes."""

CLASSIC_BYTES = (1 << 32) - (1 << 25)
PACKED_BYTES = 1 << 31
"""Pixels that are compressed into files with offsets of 32 bits: how much will become of them is not known before."""

BAND_BYTES = 128 << 20
"""Pixels that are computed together before their pages are compressed."""

FINEST_PER_CM = 4e9


def save(image: xr.DataArray, path: str, *, compress: bool | None = None, record: Mapping[str, Any]) -> None:
    """Write an image as TIFF.

    ImageJ's conventions are followed where it knows such pixels and axes, and the file stays below 4 GiB; else the axes
    are told in tifffile's JSON, in a BigTIFF if need be.

    Parameters
    ----------
    image
        With any axes. Channels `r`, `g`, `b` (and `a`) of 8 or 16 bits are colours.
    path
        File to create.
    compress
        `True`: deflate, with the differences of neighbours for integers; else not at all.
    record
        Our own account of the image, which is kept in the file.

    Raises
    ------
    ArgumentError
        If TIFF cannot hold the image.
    """
    _check(path, image, DTYPES, "pixels that TIFF can hold")
    lacking = 2 + is_coloured(image) - image.ndim
    image = image.expand_dims([a for a in "yx" if a not in image.dims][: max(0, lacking)])
    axes = PageAxes.of(image)
    note = noted(record, axes)
    big = _needs_big(image, axes, len(json.dumps(note)), compress)
    if fits_imagej(image, axes) and not big:
        tags = imagej_tags(image, axes, note)
    else:
        tags = _own_tags(image, axes, note)
    _write(path, image, axes, tags, compress=bool(compress), big=big)


def save_ome(image: xr.DataArray, path: str, *, compress: bool | None = None, record: Mapping[str, Any]) -> None:
    """Write an image as OME-TIFF.

    Parameters
    ----------
    image
        Its axes are some of `tzcyx`.
    path, compress, record
        See `save`.

    Raises
    ------
    ArgumentError
        If OME-TIFF cannot hold the image.
    """
    _check(path, image, OME_DTYPES, "pixels that OME-TIFF can hold: convert them, or save as .tif or .zarr")
    odd = [str(axis) for axis in image.dims if str(axis) not in HYPERSTACK_AXES]
    if odd:
        raise ArgumentError(
            f"{path}: OME-TIFF has the axes {HYPERSTACK_AXES!r}, and not {odd[0]!r}: choose another partition, or save "
            "as .tif or .zarr"
        )
    image = image.expand_dims([a for a in "yx" if a not in image.dims])
    axes = PageAxes.of(image)
    note = noted(record, axes)
    big = _needs_big(image, axes, len(json.dumps(note)), compress)
    _write(path, image, axes, ome_tags(image, axes, note), compress=bool(compress), big=big)


def file_axes(axes: str) -> str:
    """Return the axes of an image that one TIFF holds: those that ImageJ knows, or all but `i` if there are patterns.

    Examples
    --------
    >>> file_axes("itzyx"), file_axes("iyxvu"), file_axes("iu")
    ('tzyx', 'yxvu', 'iu')
    """
    return axes.replace("i", "") if {*"vu"} <= {*axes} else ome_file_axes(axes) or axes


def ome_file_axes(axes: str) -> str:
    """Return the axes of an image that one OME-TIFF holds."""
    return "".join(a for a in axes if a in HYPERSTACK_AXES)


def _check(path: str, image: xr.DataArray, dtypes: Sequence[str], wanted: str) -> None:
    if not image.ndim or not image.size:
        raise ArgumentError(f"{path}: an image of shape {image.shape} has no pixels that TIFF could hold")
    if image.dtype.newbyteorder("=").name not in dtypes:
        raise ArgumentError(f"{path}: the image holds {image.dtype}, which are no {wanted}")


def _needs_big(image: xr.DataArray, axes: PageAxes, account: int, compress: bool | None) -> bool:
    """Whether offsets of 32 bits might not reach through the file."""
    beside = axes.count * IFD_BYTES + 4 * account
    return image.nbytes + beside > (PACKED_BYTES if compress else CLASSIC_BYTES)


def _own_tags(image: xr.DataArray, axes: PageAxes, note: Mapping[str, Any]) -> dict[str, Any]:
    """Axes and our own account in tifffile's JSON, and the size of a pixel if it is a length."""
    per_cm: list[float] = []
    for axis in axes.columns, axes.rows:
        scale = measured(image, axis)
        length = scale and expressed(scale, "cm")
        per_cm.append(1 / length.step if length else 0.0)
    known = all(1 / FINEST_PER_CM < density < FINEST_PER_CM for density in per_cm)
    return {
        "description": json.dumps({"shape": axes.shape, "axes": axes.letters, **note}),
        **({"resolution": tuple(per_cm), "resolutionunit": "CENTIMETER"} if known else {}),
    }


# Pixels --------------------------------------------------------------------------------------------------------------


def _write(
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
        store(pixels, Target(path, place[0], dtype, axes.shape))


def _packing(dtype: np.dtype) -> dict[str, Any]:
    """Deflate; of integers the differences to the pixel before, which few programs know of 64 bits."""
    differences = dtype.kind in "iu" and dtype.itemsize < 8
    return {"compression": "zlib", "compressionargs": {"level": 6}, "predictor": differences}


@dataclass(frozen=True)
class Target:
    """Pixels of a file, which take blocks; they travel to other processes by the file's name."""

    path: str
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]

    def __setitem__(self, box: Any, block: np.ndarray) -> None:
        pixels = np.memmap(self.path, self.dtype, "r+", self.offset, self.shape)
        pixels[box] = block
        pixels.flush()


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
    >>> bands([(1, 1), (3, 2)], 2, 40 << 20)[1:3]
    [(slice(0, 1, None), slice(3, 5, None)), (slice(1, 2, None), slice(0, 3, None))]
    """
    sizes = [sum(along) for along in chunks[:depth]]
    for axis, along in enumerate(chunks[:depth]):
        room = BAND_BYTES // (page_bytes * math.prod(sizes[axis + 1 :]))
        if max(along) <= max(room, axis == depth - 1):
            single = [[slice(k, k + 1) for k in range(size)] for size in sizes[:axis]]
            return list(itertools.product(*single, _runs(along, room)))
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
        os.truncate(name, pixels.size * dtype.itemsize)
        store(pixels, Target(name, 0, dtype, axes.shape))
        for number in range(axes.count):
            yield np.fromfile(name, dtype, size, offset=number * size * dtype.itemsize).reshape(axes.page_shape)
    finally:
        os.remove(name)
