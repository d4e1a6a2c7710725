"""Our own account of an image in a TIFF file: where it is kept, and whether the pages are still those it is about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..axes import check_axes
from ..errors import ArgumentError
from ..record import KEY, Record
from ._tif_ome import annotation
from ._tif_pages import PageAxes

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

STORED = "stored"
"""Key of the account under which files keep the order of the axes in them."""


def noted(record: Mapping[str, Any], axes: PageAxes) -> dict[str, Any]:
    """Return our own account of an image as it is kept in a file."""
    return {KEY: {**record, STORED: axes.stored}}


def record_of(tiff: TiffFile, kind: str, number: int) -> Record | None:
    """Our own account of a series: in the JSON of its description, in ImageJ's `Info`, or in an annotation of OME."""
    if kind == "shaped":
        described = tiff.shaped_metadata or ()
        return Record.parse(described[number].get(KEY)) if number < len(described) else None
    if kind == "imagej":
        return Record.parse(_parsed((tiff.imagej_metadata or {}).get("Info")).get(KEY))
    return Record.parse(annotation(tiff)) if kind == "ome" and not number else None


def _parsed(text: Any) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def saved_axes(record: Record, series: TiffPageSeries) -> PageAxes | None:
    """How the axes of a series were spread when it was saved; `None` if it is not what was saved any more."""
    stored = record.account.get(STORED, record.axes)
    sizes = dict(zip(record.axes, record.shape, strict=True))
    page = tuple(series.keyframe.shape)
    try:
        depth = len(check_axes(stored)) - len(page)
    except ArgumentError:
        return None
    if depth < 0 or not {*sizes} <= {*stored}:
        return None
    sizes = {axis: sizes.get(axis, 1) for axis in stored}
    axes = PageAxes(stored[:depth], stored[depth : depth + 2], stored[depth + 2 :], sizes)
    letters, shape = axes.told_imagej() if series.kind == "imagej" else (axes.letters, axes.shape)
    frame = letters[len(letters) - len(page) :]
    expected = [(a, n) for a, n in zip(letters, shape, strict=True) if n > 1 and a not in frame]
    found = [(a, n) for a, n in zip(series.axes, series.shape, strict=True) if n > 1 and a not in frame]
    return axes if axes.page_shape == page and expected == found else None
