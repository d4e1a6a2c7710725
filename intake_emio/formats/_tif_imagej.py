r"""ImageJ's conventions in TIFF files, read and written: resolution tags in a unit of its own, steps in a description.

Texts of the description are those of Java's properties: anything but plain characters may be written as ``\u00B5``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..axes import Calibration, Labels, Scale
from ._tif_account import Account, Page, note_scale, positive, rational, unit
from ._tif_pages import PageAxes, expressed, measured

if TYPE_CHECKING:
    import xarray as xr

NOT_PLAIN = re.compile(r"[^\w /.*^%()+-]", re.ASCII)
DTYPES = ("uint8", "uint16", "int16", "float32")
MOST_COMPOSED = 7
"""Channels that ImageJ can show in one picture."""

FINEST, COARSEST = 1e-6, 1e6
"""Limits of pixel sizes: the tags have their inverse, as a ratio of two numbers of 32 bits."""

FITTING_UNITS = ("nm", "µm", "mm", "m", "1/nm", "1/m")
SECONDS = {
    "s": 1.0,
    "ms": 1e-3,
    "µs": 1e-6,
    "us": 1e-6,
    "ns": 1e-9,
    "ps": 1e-12,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}


def imagej(page: Page) -> Account | None:
    """Read ImageJ's description: the resolution tags in its own unit, origins in pixels."""
    said = page.tiff.imagej_metadata
    if page.kind != "imagej" or said is None:
        return None
    units = unit(said.get("unit"))
    calibration: dict[str, Calibration] = {}
    for axis, code in (("x", 282), ("y", 283)):
        own = unit(said[f"{axis}unit"]) if f"{axis}unit" in said else units
        note_scale(calibration, axis, rational(page.value(code), inverse=True), own, said.get(f"{axis}origin"))
    own = unit(said["zunit"]) if "zunit" in said else units
    note_scale(calibration, "z", said.get("spacing"), own, said.get("zorigin"))
    interval = positive(said.get("finterval"))
    rate = positive(said.get("fps"))
    note_scale(calibration, "t", interval or (1 / rate if rate else None), said.get("tunit", "s"))
    labels = said.get("Labels") or []
    labels = [labels] if isinstance(labels, str) else [str(label) for label in labels]
    names = tuple(label.split("\n", 1)[0] for label in labels)
    if page.axes in ("cyx", "cyxs") and len(names) == page.shape[0] and len(set(names)) == len(names):
        calibration["c"] = Labels(names)
    header = {"labels": labels} if labels else {}
    known = {axis: scale for axis, scale in calibration.items() if axis in page.axes}
    return Account(known, {}, header, final=not page.force_resolution)


# Writing -------------------------------------------------------------------------------------------------------------


def fits_imagej(image: xr.DataArray, axes: PageAxes) -> bool:
    """Whether ImageJ knows such pixels and axes: hyperstacks, and stacks of patterns or of virtual images."""
    if image.dtype.name not in (("uint8",) if axes.samples else DTYPES):
        return False
    return "i" not in axes.stored and ({*axes.stored} <= {*"tzcyx"} or {*"vu"} <= {*axes.stored})


def imagej_tags(image: xr.DataArray, axes: PageAxes, note: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ImageJ is to know of an image, as arguments of tifffile's `TiffWriter.write`.

    Parameters
    ----------
    image
        What is written.
    axes
        How it is spread over pages.
    note
        Our own account of it, which ImageJ shows as the image's info.
    """
    import tifffile

    letters, shape = axes.told_imagej()
    channels = axes.sizes["c"] if "C" in letters else 1
    mode = "composite" if 1 < channels <= MOST_COMPOSED else "grayscale"
    per_unit, entries = _calibration(image, axes)
    account = {"Info": json.dumps(note), "Labels": _labels(image, axes)}
    return {
        "description": tifffile.imagej_description(
            shape, letters, rgb=bool(axes.samples), hyperstack=True, mode=None if axes.samples else mode, **entries
        ),
        "extratags": tifffile.imagej_metadata_tag(
            {name: text for name, text in account.items() if text}, "<" if sys.byteorder == "little" else ">"
        ),
        "resolution": (per_unit["x"], per_unit["y"]),
        "resolutionunit": "NONE",
    }


def _calibration(image: xr.DataArray, axes: PageAxes) -> tuple[dict[str, float], dict[str, Any]]:
    """Pixels per unit along x and y, and the entries that tell the units, and what is along z and t."""
    lengths = {"x": axes.columns, "y": axes.rows} | ({"z": "z"} if axes.is_hyperstack and "z" in axes.counted else {})
    per_unit, entries = {"x": 1.0, "y": 1.0}, {"unit": "pixel"}
    common = ""
    for name, axis in lengths.items():
        scale = _fitting(measured(image, axis), common)
        if scale is None:
            continue
        if name == "x":
            common = str(scale.units)
        if name == "x" or scale.units != common:
            entries["unit" if name == "x" else f"{name}unit"] = _property(str(scale.units))
        if name == "z":
            entries["spacing"] = repr(scale.step)
        else:
            per_unit[name] = 1 / scale.step
        if scale.origin:
            entries[f"{name}origin"] = repr(-scale.origin / scale.step)
    time = measured(image, "t") if axes.is_hyperstack and "t" in axes.counted else None
    if time is not None and time.units in SECONDS:
        entries["finterval"] = repr(float(f"{time.step * SECONDS[time.units]:.12g}"))
    elif time is not None:
        entries |= {"finterval": repr(time.step), "tunit": _property(str(time.units))}
    return per_unit, entries


def _fitting(scale: Scale | None, common: str) -> Scale | None:
    """Return a scale in the common unit, in its own, or in another one, so that the tags can hold it."""
    if scale is None:
        return None
    choices = (expressed(scale, units) for units in (common, str(scale.units), *FITTING_UNITS))
    return next((one for one in choices if one is not None and FINEST < one.step < COARSEST), None)


def _labels(image: xr.DataArray, axes: PageAxes) -> list[str]:
    """Names of the channels, one for each image, if they have names."""
    if "c" not in axes.counted or "c" not in image.coords or image["c"].dtype.kind not in "UO":
        return []
    grid = tuple(axes.sizes[a] for a in axes.counted)
    channels = np.unravel_index(np.arange(axes.count), grid)[axes.counted.index("c")]
    names = list(map(str, image["c"].values))
    return [names[k] for k in channels]


def _property(text: str) -> str:
    r"""Text as a value of Java's properties.

    Examples
    --------
    >>> print(_property("µm"), _property("1/nm"))
    \u00B5m 1/nm
    """

    def escaped(found: re.Match[str]) -> str:
        units = found[0].encode("utf-16-be", "surrogatepass")
        return "".join(f"\\u{units[k : k + 2].hex().upper()}" for k in range(0, len(units), 2))

    return re.sub(NOT_PLAIN, escaped, text)
