"""Scanning microscopes: what FEI, Zeiss, Hitachi and JEOL write into TIFF files, or into texts beside them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ..axes import Calibration
from ..frames.files import File
from ._tif_account import Account, Page, finite, moment, note_scale, positive, unit

SIDECAR_BYTES = 1 << 20


def fei(page: Page) -> Account | None:
    """Read FEI and Thermo Fisher SEM metadata: sections of keys, every value of which may be empty text."""
    if page.value(34680) is None and page.value(34682) is None:
        return None
    said = page.tiff.fei_metadata or {}

    def get(section: str, key: str) -> Any:
        entries = said.get(section)
        return entries.get(key) if isinstance(entries, Mapping) else None

    calibration: dict[str, Calibration] = {}
    for axis, pixel, view, size in (
        ("x", "PixelWidth", "HFW", "ResolutionX"),
        ("y", "PixelHeight", "VFW", "ResolutionY"),
    ):
        step = positive(get("Scan", pixel))
        if step is None:  # the navigation camera knows its field of view only
            field_of_view, pixels = positive(get("IRBeam", view)), positive(get("Image", size))
            step = field_of_view / pixels if field_of_view and pixels else None
        note_scale(calibration, axis, step, "m")
    stage = {name[5:].lower(): finite(get("Stage", name)) for name in ("StageX", "StageY", "StageZ")}
    tilts = {name[5:].lower(): finite(get("Stage", name)) for name in ("StageR", "StageT")}
    volts = positive(get("Beam", "HV"))
    rows = positive(get("Image", "ResolutionY"))
    databar = {"databar_rows": page.height - int(rows)} if rows and rows < page.height else {}
    return Account(
        calibration,
        {
            "beam_energy": volts and volts / 1000,
            "dwell_time": positive(get("Scan", "Dwelltime")),
            "beam_current": positive(get("EBeam", "BeamCurrent")),
            "stage": {k: v for k, v in {**stage, **tilts}.items() if v is not None},
            "working_distance": positive(get("Stage", "WorkingDistance")),
            "instrument": get("System", "SystemType"),
            "detector": get("Detectors", "Name"),
            "start_time": moment(f"{get('User', 'Date')} {get('User', 'Time')}", "%m/%d/%Y %I:%M:%S %p"),
        },
        {"fei": said, **databar},
        databar,
        final=True,
    )


def zeiss(page: Page) -> Account | None:
    """Read Zeiss SEM metadata, whose first pixel size is that of a display 1024 pixels wide."""
    if page.value(34118) is None:
        return None
    said = page.tiff.sem_metadata or {}
    numbers: tuple[Any, ...] = said.get("") or ()
    step = positive(numbers[3]) if len(numbers) > 3 else None

    def get(key: str) -> Any:
        entry = said.get(key)
        return entry[1] if isinstance(entry, tuple) and len(entry) > 1 else None

    calibration: dict[str, Calibration] = {}
    for axis in "xy":
        note_scale(calibration, axis, step and step * 1024 / page.width, "m")
    stage = {axis: _with_unit(said.get(f"ap_stage_at_{axis}")) for axis in "xyz"}
    stage |= {axis: _degrees(get(f"ap_stage_at_{axis}")) for axis in "rt"}
    return Account(
        calibration,
        {
            "beam_energy": positive(get("ap_actualkv")),
            "magnification": _multiplied(get("ap_mag")),
            "working_distance": _with_unit(said.get("ap_wd")),
            "stage": {k: v for k, v in stage.items() if v is not None},
            "dwell_time": _with_unit(said.get("dp_dwell_time")),
            "beam_current": _with_unit(said.get("ap_iprobe")),
            "detector": get("dp_detector_type") or get("dp_detector_channel"),
            "instrument": get("sv_serial_number"),
            "start_time": moment(f"{get('ap_date')} {get('ap_time')}", "%d %b %Y %H:%M:%S"),
        },
        {"zeiss": {name or "numbers": list(entry) for name, entry in said.items()}},
        final=bool(calibration),
    )


def _multiplied(text: Any) -> float | None:
    """Number of a magnification such as ``50.00 K X``."""
    found = re.match(r"\s*([\d.]+)\s*(K?)", str(text), re.IGNORECASE)
    value = positive(found[1]) if found else None
    return value and value * (1000 if found and found[2] else 1)


def _with_unit(entry: tuple[Any, ...] | None) -> float | None:
    """Value of an entry (label, value, unit) in metres, seconds or amperes."""
    if entry is None or len(entry) < 2:
        return None
    value, units = finite(entry[1]), str(entry[2]) if len(entry) > 2 else ""
    prefix = {"m": 1e-3, "µ": 1e-6, "u": 1e-6, "n": 1e-9, "p": 1e-12}
    return value and value * (prefix.get(units[0], 1.0) if len(units) > 1 else 1.0)


def _degrees(value: Any) -> float | None:
    """Angle in radians, as FEI stores it."""
    angle = finite(value)
    return None if angle is None else math.radians(angle)


# Texts beside the file -----------------------------------------------------------------------------------------------


def hitachi(page: Page) -> Account | None:
    """Read a Hitachi note of the same name: pixel size in nm for the width it names."""
    text = _sidecar(page.file)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith((";", "#"))]
    if not lines or lines[0] not in ("[SemImageFile]", "[TemImageFile]"):
        return None
    said = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines[1:])}
    if said.get("ImageName", page.file.name).lower() != page.file.name.lower():
        return None
    step = positive(said.get("PixelSize"))
    columns = positive(said.get("DataSize", "").lower().partition("x")[0])
    calibration: dict[str, Calibration] = {}
    for axis in "xy":
        note_scale(calibration, axis, step and step * (columns / page.width if columns else 1), "nm")
    volts = positive(_leading(said.get("AcceleratingVoltage")))
    distance = positive(_leading(said.get("WorkingDistance")))
    nanometres = {axis: finite(_leading(said.get(f"StagePosition{axis.upper()}"))) for axis in "xyz"}
    return Account(
        calibration,
        {
            "beam_energy": volts and volts / 1000,
            "magnification": positive(_leading(said.get("Magnification"))),
            "working_distance": distance and distance * 1e-6,
            "stage": {axis: value * 1e-9 for axis, value in nanometres.items() if value is not None},
            "instrument": said.get("InstructName"),
            "start_time": moment(f"{said.get('Date')} {said.get('Time')}", "%m/%d/%Y %H:%M:%S"),
        },
        {"hitachi": said},
        final=bool(calibration),
    )


def jeol_sem(page: Page) -> Account | None:
    """Read a JEOL SEM note of the same name: the scale bar in pixels, and what it stands for."""
    said = dict(re.findall(r"^(\$+[A-Z_0-9]+)[ \t]+(.*?)[ \t\r]*$", _sidecar(page.file), re.MULTILINE))
    bar = positive(_leading(said.get("$$SM_MICRON_BAR")))
    marker = re.match(r"\s*([\d.]+)\s*(\S+)", said.get("$$SM_MICRON_MARKER", ""))
    if not said.get("$CM_FORMAT", bar):
        return None
    length, units = (positive(marker[1]), unit(marker[2])) if marker else (None, None)
    calibration: dict[str, Calibration] = {}
    for axis in "xy":
        note_scale(calibration, axis, length / bar if length and bar else None, units)
    distance = positive(_leading(said.get("$$SM_WD")))
    return Account(
        calibration,
        {
            "beam_energy": positive(_leading(said.get("$CM_ACCEL_VOLT"))),
            "magnification": positive(_leading(said.get("$CM_MAG"))),
            "working_distance": distance and distance * 1e-3,
            "start_time": moment(f"{said.get('$CM_DATE')} {said.get('$CM_TIME')}", "%Y/%m/%d %H:%M:%S"),
        },
        {"jeol_sem": said},
        final=bool(calibration),
    )


def _sidecar(file: File) -> str:
    """Text of the note of the same name, whatever the case of its letters; empty if there is none, or it is large."""
    wanted = file.stem.lower() + ".txt"
    name = next((name for name in file.neighbours if name.lower() == wanted), None)
    if name is None or file.sibling(name).size > SIDECAR_BYTES:
        return ""
    raw = file.sibling(name).read(0, SIDECAR_BYTES)
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", "replace")
    return raw.decode("latin-1").removeprefix("ï»¿")


def _leading(text: str | None) -> str | None:
    """First word of a text such as ``15000 Volt``."""
    return text.split()[0] if text and text.split() else None
