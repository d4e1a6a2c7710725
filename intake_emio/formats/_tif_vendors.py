"""Who says what about a TIFF image: calibration and circumstances in the tags and texts of many programs.

Each reader takes one program's account of a page. `account_of` asks them in the order of their trust; the first one
that knows a pixel size has the last word on it, and circumstances of the recording are gathered from all.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

from ..axes import Calibration
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
    ome, imagej, fei, zeiss, tvips, olympus, jeol, gatan, hamamatsu, hitachi, jeol_sem, resolution, general,
)  # fmt: skip

CALIBRATING = (34680, 34682, 34118, 37706, 33560, 33471, 65009)
"""Tags by which a page that a vendor calibrated is known."""
