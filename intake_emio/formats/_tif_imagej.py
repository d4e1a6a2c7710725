"""ImageJ's conventions in TIFF files: resolution tags in a unit of its own, steps and origins in the description."""

from __future__ import annotations

from ..axes import Calibration, Labels
from ._tif_account import Account, Page, note_scale, positive, rational, unit


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
