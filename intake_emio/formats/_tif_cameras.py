"""Camera programs: what TVIPS, Olympus, JEOL, Gatan and Hamamatsu write into TIFF files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from ..axes import LENGTHS, Calibration, Labels, Scale
from ._tif_account import (
    Account,
    Page,
    anywhere,
    finite,
    known,
    note_scale,
    per_centimetre,
    positive,
    rational,
    text_of,
    unit,
)

PLANCK, ELECTRON_MASS, CHARGE, LIGHT = 6.62607015e-34, 9.1093837015e-31, 1.602176634e-19, 299792458.0
TVIPS_DIFFRACTION = 3


def tvips(page: Page) -> Account | None:
    """Read TVIPS EM-MENU metadata; in diffraction, its pixel size is in no unit that can be trusted."""
    said = page.value(37706)
    if not isinstance(said, Mapping):
        return None
    calibration: dict[str, Calibration] = {}
    mode = said.get("TemMode")
    if said.get("Version") == 1:
        for axis, code in (("x", 282), ("y", 283)):
            per_cm = rational(page.value(code))
            note_scale(calibration, axis, per_cm and 1e7 / per_cm, "nm")
    elif mode != TVIPS_DIFFRACTION:
        for axis, name in (("x", "PixelSizeX"), ("y", "PixelSizeY")):
            note_scale(calibration, axis, said.get(name), "nm")
    volts, exposure = positive(said.get("TemHighTension")), positive(said.get("ExposureTime"))
    length = "camera_length" if mode == TVIPS_DIFFRACTION else "magnification"
    position = list(said.get("TemStagePosition") or ())
    return Account(
        calibration,
        {
            "beam_energy": volts and volts / 1000,
            length: positive(said.get("TemMagnification")),
            "exposure_time": exposure and exposure / 1000,
            "detector": said.get("CameraType"),
            "stage": dict(zip(("x", "y", "z", "tilt_a", "tilt_b"), position, strict=False)) if any(position) else {},
            "start_time": _tvips_time(said.get("Date"), said.get("Time")),
            "title": said.get("ImageName"),
            "comment": said.get("Comment"),
        },
        final=True,
    )


def _tvips_time(date: Any, seconds: Any) -> str | None:
    """Date as bytes year (two), month and day; time as seconds of the day."""
    try:
        day = datetime(int(date) >> 16, int(date) >> 8 & 255, int(date) & 255)
        minutes, second = divmod(int(seconds), 60)
        return day.replace(hour=minutes // 60, minute=minutes % 60, second=second).isoformat()
    except (TypeError, ValueError):
        return None


def olympus(page: Page) -> Account | None:
    """Read Olympus SIS metadata of this very page: pixel sizes in metres."""
    said = page.value(33560)
    if not isinstance(said, Mapping):
        return None
    calibration: dict[str, Calibration] = {}
    for axis in "xy":
        note_scale(calibration, axis, said.get(f"pixelsize{axis}"), "m")
    when = said.get("datetime")
    return Account(
        calibration,
        {
            "magnification": positive(said.get("magnification")),
            "detector": said.get("cameraname"),
            "start_time": when.isoformat() if isinstance(when, datetime) else None,
        },
        final=bool(calibration),
    )


def jeol(page: Page) -> Account | None:
    """Read JEOL SightX reports: resolution tags are those of the detector, behind the microscope's magnification."""
    if page.text(271) != "JEOL Ltd." or "<TemReporter" not in page.page.description[:1000]:
        return None
    from defusedxml.ElementTree import fromstring

    root = fromstring(page.page.description.strip("\0 \r\n").encode())
    imaging = anywhere(root, "ImageFormingSystem")
    length = positive(imaging is not None and text_of(imaging, "SelectorValue"))
    units = "" if imaging is None else text_of(imaging, "SelectorUnitString") or ""
    mode = "" if imaging is None else text_of(imaging, "ModeString") or ""
    volts = positive(text_of(root, "AccelerationVoltage"))
    scanning = text_of(root, "EosMode") != "eosTEM"
    camera_length = length and length * {"mm": 1.0, "cm": 10.0, "m": 1000.0}.get(units, math.nan)
    calibration: dict[str, Calibration] = {}
    for axis, code in (("x", 282), ("y", 283)):
        per_cm = per_centimetre(page, code)
        if not per_cm or not length or scanning:
            continue
        if mode == "MAG":
            note_scale(calibration, axis, 1e7 / per_cm / length, "nm")
        elif mode == "DIFF" and volts and camera_length:
            note_scale(calibration, axis, 10 / per_cm / camera_length / wavelength(volts), "1/nm")
    exposure = positive(text_of(root, "ExposureTimeValue"))
    return Account(
        calibration,
        {
            "beam_energy": volts and volts / 1000,
            "magnification": length if mode == "MAG" and not scanning else None,
            "camera_length": camera_length if mode == "DIFF" and not scanning else None,
            "exposure_time": exposure and exposure / 1e6,
            "instrument": page.text(272),
            "start_time": text_of(root, "DateTime"),
        },
        final=True,
    )


def wavelength(volts: float) -> float:
    """Relativistic wavelength of electrons, in nm.

    Examples
    --------
    >>> round(wavelength(200e3), 6)
    0.002508
    """
    energy = CHARGE * volts
    momentum = math.sqrt(2 * ELECTRON_MASS * energy * (1 + energy / (2 * ELECTRON_MASS * LIGHT**2)))
    return PLANCK / momentum * 1e9


def gatan(page: Page) -> Account | None:
    """Read private tags of DigitalMicrograph exports: first coordinates are physical, not pixels."""
    if not any(page.value(code) is not None for code in (65009, 65010)):
        return None
    calibration: dict[str, Calibration] = {}
    renamed: dict[str, str] = {}
    third = page.axes[0] if len(page.axes) == 3 and page.axes[1:] == "yx" else ""
    for number, axis in enumerate("xyz"):
        units = unit(page.text(65003 + number))
        if axis == "z":
            if not third:
                continue
            axis = "t" if units in ("s", "ms", "min") else "z" if units in LENGTHS else "i"
            renamed[third] = axis
        step, start = positive(page.value(65009 + number)), finite(page.value(65006 + number))
        if step and units:
            calibration[axis] = Scale(step, units, start or 0.0)
    intensity = {"units": page.text(65022), "offset": page.value(65024), "scale": page.value(65025)}
    return Account(calibration, {}, {"intensity": known(intensity)}, renamed=renamed, final=bool(calibration))


def hamamatsu(page: Page) -> Account | None:
    """Read Hamamatsu streak images: tables of wavelengths and times, uneven as they are."""
    if not page.text(315).startswith("Copyright Hamamatsu") or not page.text(305).startswith("HPD-TA"):
        return None
    said = page.tiff.streak_metadata or {}
    scaling = said.get("Scaling", {})
    calibration: dict[str, Calibration] = {}
    for axis, size in (("x", page.width), ("y", page.height)):
        values = scaling.get(f"Scaling{axis.upper()}Scaling")
        units = unit(scaling.get(f"Scaling{axis.upper()}Unit"))
        if isinstance(values, np.ndarray) and values.shape == (size,) and np.isfinite(values).all() and units:
            calibration[axis] = Labels(tuple(values.astype(float).tolist()), units)
    camera, streak = said.get("Camera", {}), said.get("Streak camera", {})
    return Account(
        calibration,
        {"detector": camera.get("CameraName"), "instrument": streak.get("DeviceName")},
        {"hamamatsu": said},
        final=True,
    )
