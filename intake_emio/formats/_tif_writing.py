"""Writing TIFF files: for ImageJ where it knows such images, in tifffile's own way where it does not, and OME-TIFF.

Rules: docs/formats/tif.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError
from ._tif_imagej import fits_imagej, imagej_tags
from ._tif_ome import OME_DTYPES, ome_tags
from ._tif_pages import PageAxes, expressed, is_coloured, measured
from ._tif_pixels import write_pages
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
    write_pages(path, image, axes, tags, compress=bool(compress), big=big)


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
    write_pages(path, image, axes, ome_tags(image, axes, note), compress=bool(compress), big=big)


def file_axes(axes: str) -> str:
    """Return the axes of an image that one TIFF holds: those that ImageJ knows, or all but `i` if there are patterns.

    Examples
    --------
    >>> file_axes("itzyx"), file_axes("iyxvu"), file_axes("iu")
    ('tzyx', 'yxvu', 'iu')
    """
    return axes.replace("i", "") if {*"vu"} <= {*axes} else ome_file_axes(axes)


def ome_file_axes(axes: str) -> str:
    """Return the axes of an image that one OME-TIFF holds; if it holds none of them, all, to be refused by name."""
    return "".join(a for a in axes if a in HYPERSTACK_AXES) or axes


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
