"""Who says what about a TIFF image: calibration and circumstances in the tags and texts of many programs.

Each reader takes one program's account of a page. `account_of` asks them in the order of their trust; the first one
that knows a pixel size has the last word on it, and circumstances of the recording are gathered from all.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from ..axes import Calibration, Labels, Scale
from ..errors import EmioWarning
from ._tif_account import Account, Page, known, moment, note_scale, per_centimetre
from ._tif_cameras import gatan, hamamatsu, jeol, olympus, tvips
from ._tif_imagej import imagej
from ._tif_ome import ome
from ._tif_sem import fei, hitachi, jeol_sem, zeiss

FINEST_PRINT = 1e4
"""Pixels per cm that no screen or printer has: where a resolution tag says more, it means the specimen."""


def account_of(page: Page) -> Account:
    """Gather what all programs say about a page; calibration from the first one that has any."""
    gathered = Account()
    for read in READERS:
        try:
            found = read(page)
        except Exception as error:  # strangers' texts fail in any way, and must not hide the pixels
            warnings.warn(f"{page.file}: metadata of {read.__name__} files cannot be read: {error!r}", EmioWarning, 4)
            continue
        if found is None:
            continue
        first = not gathered.final and not gathered.calibration
        gathered = Account(
            found.calibration if first else gathered.calibration,
            {**known(found.acquisition), **gathered.acquisition},
            {**found.header, **gathered.header},
            {**found.attrs, **gathered.attrs},
            found.renamed if first and found.renamed else gathered.renamed,
            gathered.final or found.final,
        )
    return gathered


def emio(page: Page) -> Account | None:
    """Read our own note, in the JSON of a description or ImageJ's `Info`."""
    note = _own_note(page)
    if note is None:
        return None
    axes = str(note.get("axes", ""))
    coords = note.get("coords", {})
    if len(axes) != len(page.axes):
        return None
    return Account(
        {axis: found for axis, given in coords.items() if axis in axes and (found := _own_coordinate(given))},
        note.get("attrs", {}).get("acquisition", {}),
        renamed=dict(zip(page.axes, axes, strict=True)),
        final=True,
    )


def _own_note(page: Page) -> dict[str, Any] | None:
    if page.kind == "shaped":
        described = page.tiff.shaped_metadata or ()
        note = described[page.number].get("emio") if page.number < len(described) else None
    elif page.kind == "imagej":
        info = (page.tiff.imagej_metadata or {}).get("Info", "")
        note = json.loads(info).get("emio") if isinstance(info, str) and info.startswith('{"emio"') else None
    else:
        note = None
    return note if isinstance(note, dict) else None


def _own_coordinate(given: Mapping[str, Any]) -> Calibration | None:
    units = given.get("units")
    if "values" in given:
        return Labels(tuple(given["values"]), units)
    step = given.get("step")
    return Scale(float(step), units, float(given.get("start", 0))) if step else None


def resolution(page: Page) -> Account | None:
    """Read the resolution tags, in µm, if they are meant for a specimen rather than for a printer."""
    calibration: dict[str, Calibration] = {}
    for axis, code in (("x", 282), ("y", 283)):
        per_cm = per_centimetre(page, code)
        if per_cm and (per_cm > FINEST_PRINT or page.force_resolution):
            note_scale(calibration, axis, 1e4 / per_cm, "µm")
    return Account(calibration)


def general(page: Page) -> Account | None:
    """Read tags that many programs write."""
    return Account(acquisition={"start_time": moment(page.text(306), "%Y:%m:%d %H:%M:%S")})


READERS: tuple[Callable[[Page], Account | None], ...] = (
    emio, ome, imagej, fei, zeiss, tvips, olympus, jeol, gatan, hamamatsu, hitachi, jeol_sem, resolution, general,
)  # fmt: skip

CALIBRATING = (34680, 34682, 34118, 37706, 33560, 33471, 65009)
"""Tags by which a page that a vendor calibrated is known."""
