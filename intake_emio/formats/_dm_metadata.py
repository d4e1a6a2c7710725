"""What Digital Micrograph files say about microscope, detector and time, in vendor-neutral terms.

Any tag may be missing, empty, or of another type than usual; then the fact is left out. Tags and quirks:
docs/formats/dm.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ._gatan import tag

Path = tuple[str, ...]

MICROSCOPE = "Microscope Info"
HIGH_LEVEL = ("Acquisition", "Parameters", "High Level")

EXPOSURES: tuple[Path, ...] = (
    ("EELS", "Acquisition", "Integration time (s)"),  # of all frames that were summed
    ("CL", "Acquisition", "Integration time (s)"),
    (*HIGH_LEVEL, "Exposure (s)"),
    ("Acquisition", "Parameters", "Detector", "exposure (s)"),
    ("DataBar", "Exposure Time (s)"),
)
INSTRUMENTS: tuple[Path, ...] = (
    ("Session Info", "Microscope"),
    (MICROSCOPE, "Name"),
    (MICROSCOPE, "Microscope"),
)
DETECTORS: tuple[Path, ...] = (
    ("Acquisition", "Device", "Name"),
    ("DataBar", "Device Name"),
    ("DataBar", "Signal Name"),
)
DATES: tuple[tuple[Path, Path], ...] = (
    (("DataBar", "Acquisition Date"), ("DataBar", "Acquisition Time")),
    *(((kind, "Acquisition", "Date"), (kind, "Acquisition", "Start time")) for kind in ("SI", "EELS", "EDS", "CL")),
    (("SI", "Acquisition", "Date"), ("SI", "Acquisition", "Start Time")),
)
DATE = re.compile(r"(\d{1,4})([./-])(\d{1,2})\2(\d{1,4})")
CLOCK = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})(?:\s*([ap])\.?\s?m\.?)?", re.IGNORECASE)
FILETIME = datetime(1601, 1, 1, tzinfo=UTC)
UNIX = datetime(1970, 1, 1, tzinfo=UTC)


def acquisition(tags: Mapping[str, Any], title: str) -> dict[str, Any]:
    """Return the facts that are there.

    Parameters
    ----------
    tags
        ``ImageTags`` of the image.
    title
        Its name.
    """
    volts = _positive(tags, MICROSCOPE, "Voltage")
    microseconds = _positive(tags, "DigiScan", "Sample Time")
    pixel_time = _positive(tags, "SI", "Acquisition", "Pixel time (s)")
    facts = {
        "title": title,
        "beam_energy": _scaled(volts, 1e-3),
        **_magnification(tags),
        "mode": _first_text(tags, ((MICROSCOPE, "Illumination Mode"),)),
        "instrument": _first_text(tags, INSTRUMENTS),
        "detector": _first_text(tags, DETECTORS),
        "operator": _first_text(tags, (("Session Info", "Operator"), (MICROSCOPE, "Operator"))),
        "specimen": _first_text(tags, (("Session Info", "Specimen"), (MICROSCOPE, "Specimen"))),
        "stage": _stage(tags),
        "exposure_time": _exposure(tags),
        "dwell_time": pixel_time or _scaled(microseconds, 1e-6),
        "convergence_angle": _positive(tags, "EELS", "Experimental Conditions", "Convergence semi-angle (mrad)"),
        "collection_angle": _positive(tags, "EELS", "Experimental Conditions", "Collection semi-angle (mrad)"),
        "binning": _pair(tag(tags, *HIGH_LEVEL, "Binning")),
        "start_time": start_time(tags),
    }
    return {name: value for name, value in facts.items() if value not in (None, "", {})}


def _magnification(tags: Mapping[str, Any]) -> dict[str, float | None]:
    """Magnification or camera length: in diffraction the first tag holds the second fact."""
    indicated = _positive(tags, MICROSCOPE, "Indicated Magnification")
    mode = _text(tags, MICROSCOPE, "Illumination Mode").upper()
    if "STEM" in mode:  # "SEM" is a part of other names: never test for that first
        length = _positive(tags, MICROSCOPE, "STEM Camera Length")
    elif _text(tags, MICROSCOPE, "Imaging Mode").upper() == "DIFFRACTION":
        return {"camera_length": indicated}
    else:
        length = None
    return {
        "camera_length": length,
        "magnification": indicated or _positive(tags, MICROSCOPE, "Actual Magnification"),
    }


def _stage(tags: Mapping[str, Any]) -> dict[str, float]:
    """Place in µm and tilts in degrees, as far as they are there."""
    places = {name: _number(tags, MICROSCOPE, "Stage Position", f"Stage {name}") for name in ("X", "Y", "Z")}
    tilts = {name: _number(tags, MICROSCOPE, "Stage Position", f"Stage {name}") for name in ("Alpha", "Beta")}
    return {name.lower(): value for name, value in {**places, **tilts}.items() if value is not None}


def _exposure(tags: Mapping[str, Any]) -> float | None:
    """Exposure of a frame, or of a spectrum that was summed of several."""
    for path in EXPOSURES:
        seconds = _positive(tags, *path)
        if seconds:
            return seconds
    for kind in ("EELS", "CL"):
        seconds = _positive(tags, kind, "Acquisition", "Exposure (s)")
        if seconds:
            return seconds * (_positive(tags, kind, "Acquisition", "Number of frames") or 1)
    return None


# Time ----------------------------------------------------------------------------------------------------------------


def start_time(tags: Mapping[str, Any]) -> str | None:
    """When it was recorded, as far as that is certain.

    Numbers are UTC. Texts are in the language of the computer; day and month of ``03/04/2016`` cannot be told apart.

    Examples
    --------
    >>> start_time({"DataBar": {"Acquisition Time (OS)": 1.3115143597000824e17}})
    '2016-08-08T15:26:37.000+00:00'
    >>> start_time({"EELS": {"Acquisition": {"Date": "8/27/2016", "Start time": "8:55:59 p.m."}}})
    '2016-08-27T20:55:59'
    """
    ticks = _positive(tags, "DataBar", "Acquisition Time (OS)")  # 100 ns
    epoch = _positive(tags, "Acquisition", "Frame", "Sequence", "Acquisition Start Time (epoch)")
    for begin, seconds in ((FILETIME, _scaled(ticks, 1e-7)), (UNIX, _scaled(epoch, 1e-3))):
        if seconds:
            try:
                return (begin + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
            except OverflowError:
                continue
    for date, clock in DATES:
        written = local_time(_text(tags, *date), _text(tags, *clock))
        if written:
            return written
    return None


def local_time(date: str, clock: str) -> str | None:
    """Join a date and a time of the day if there is only one way to understand them.

    Examples
    --------
    >>> local_time("27.08.2016", "20:54:33"), local_time("27/08/2016", "08:54:33 PM"), local_time("3/4/2016", "1:02:03")
    ('2016-08-27T20:54:33', '2016-08-27T20:54:33', None)
    """
    found, time = DATE.fullmatch(date), CLOCK.fullmatch(clock)
    if not found or not time:
        return None
    a, b, c = int(found[1]), int(found[3]), int(found[4])
    if len(found[1]) == 4:
        year, month, day = a, b, c
    elif len(found[4]) != 4:
        return None
    elif a > 12 or a == b:
        year, month, day = c, b, a
    elif b > 12:
        year, month, day = c, a, b
    else:
        return None
    hour = int(time[1])
    if time[4]:
        hour = hour % 12 + 12 * (time[4].lower() == "p")
    try:
        return datetime(year, month, day, hour, int(time[2]), int(time[3])).isoformat()
    except ValueError:
        return None


# Tags of any type ----------------------------------------------------------------------------------------------------


def _number(tags: Mapping[str, Any], *path: str) -> float | None:
    found = tag(tags, *path)
    fits = isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found)
    return float(found) if fits else None


def _positive(tags: Mapping[str, Any], *path: str) -> float | None:
    """Return a number; zero and less mean that it is not known."""
    found = _number(tags, *path)
    return found if found is not None and found > 0 else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _text(tags: Mapping[str, Any], *path: str) -> str:
    found = tag(tags, *path)
    return found.strip().strip("\0") if isinstance(found, str) else ""


def _first_text(tags: Mapping[str, Any], paths: tuple[Path, ...]) -> str | None:
    found = (_text(tags, *path) for path in paths)
    return next((text for text in found if text not in ("", "[]")), None)


def _pair(value: Any) -> list[Any] | None:
    return list(value) if isinstance(value, tuple | list) and len(value) == 2 else None
