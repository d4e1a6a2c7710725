"""Who says what about a TIFF image: calibration and circumstances in the tags and texts of many programs.

Each function here reads one program's account of a page. `account_of` asks them in the order of their trust; the first
one that knows a pixel size has the last word on it, and circumstances of the recording are gathered from all.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from ..axes import Calibration, Labels, Scale
from ..errors import EmioWarning
from ..frames.files import File

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from tifffile import TiffFile, TiffPage

UNITS = {
    "micron": "µm", "microns": "µm", "micrometer": "µm", "um": "µm", "μm": "µm", "\\u00b5m": "µm",
    "angstrom": "Å", "a": "Å", "å": "Å", "\u212b": "Å", "sec": "s", "second": "s", "seconds": "s", "in": "inch",
    "inches": "inch",
}  # fmt: skip
UNCALIBRATED = ("", "pixel", "pixels", "pix", "px", "reference frame", "gray value")
SIDECAR_BYTES = 1 << 20
FINEST_PRINT = 1e4
"""Pixels per cm that no screen or printer has: where a resolution tag says more, it means the specimen."""

PER_CENTIMETRE = {2: 1 / 2.54, 3: 1.0, 4: 10.0, 5: 1e4}
"""How many pixels per cm one pixel per unit is, by ResolutionUnit (4 and 5: mm and µm, as tifffile writes them)."""

PLANCK, ELECTRON_MASS, CHARGE, LIGHT = 6.62607015e-34, 9.1093837015e-31, 1.602176634e-19, 299792458.0


@dataclass(frozen=True)
class Page:
    """A page and its surroundings, as vendors' accounts need them."""

    file: File
    tiff: TiffFile
    page: TiffPage
    axes: str
    shape: tuple[int, ...]
    kind: str
    number: int
    force_resolution: bool = False

    def value(self, code: int) -> Any:
        """Value of a tag, or `None`."""
        tag = self.page.tags.get(code)
        return None if tag is None else tag.value

    def text(self, code: int) -> str:
        """Value of a tag as text."""
        value = self.value(code)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        return value.strip("\0 \r\n") if isinstance(value, str) else ""

    @property
    def width(self) -> int:
        """Columns."""
        return self.page.imagewidth

    @property
    def height(self) -> int:
        """Rows."""
        return self.page.imagelength


@dataclass(frozen=True)
class Account:
    """What one program says.

    Parameters
    ----------
    calibration
        By axis.
    acquisition, header
        See `Image`.
    attrs
        Of the image variable.
    renamed
        Axes that this program gives a meaning.
    final
        Whether nobody else is to be asked about the calibration.
    """

    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    acquisition: Mapping[str, Any] = field(default_factory=dict)
    header: Mapping[str, Any] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    final: bool = False


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
            {**_known(found.acquisition), **gathered.acquisition},
            {**found.header, **gathered.header},
            {**found.attrs, **gathered.attrs},
            found.renamed if first and found.renamed else gathered.renamed,
            gathered.final or found.final,
        )
    return gathered


def _known(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: fact for name, fact in facts.items() if fact not in (None, "", {})}


# Programs ------------------------------------------------------------------------------------------------------------


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


def ome(page: Page) -> Account | None:
    """Read OME-XML: sizes and their units, channels, times of planes."""
    root = ome_root(page.tiff)
    if root is None or page.kind != "ome":
        return None
    images = _named(root, "Image")
    if page.number >= len(images):
        return None
    image = images[page.number]
    pixels = next(iter(_named(image, "Pixels")), None)
    if pixels is None:
        return None
    calibration: dict[str, Calibration] = {}
    for axis in "xyz":
        _scale(calibration, axis, pixels.get(f"PhysicalSize{axis.upper()}"),
               pixels.get(f"PhysicalSize{axis.upper()}Unit", "µm"))  # fmt: skip
    _scale(calibration, "t", pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"))
    sizes = dict(zip(page.axes, page.shape, strict=True))
    names = [channel.get("Name") for channel in _named(pixels, "Channel")]
    if all(names) and len(names) == sizes.get("c"):
        calibration["c"] = Labels(tuple(names))
    if "t" in sizes and "t" not in calibration:
        times = _plane_times(pixels)
        if len(times) == sizes["t"]:
            calibration["t"] = Labels(tuple(times), _plane_unit(pixels))
    return Account(
        {axis: scale for axis, scale in calibration.items() if axis in sizes},
        {
            "title": image.get("Name"),
            "start_time": _text_of(image, "AcquisitionDate"),
            "magnification": _positive(_attribute(root, "Objective", "NominalMagnification")),
            "instrument": _attribute(root, "Microscope", "Model"),
        },
        final=True,
    )


def ome_root(tiff: TiffFile) -> Element | None:
    """Parse the OME-XML of a file safely; `None` if there is none.

    Raises
    ------
    defusedxml.DefusedXmlException
        If it would harm whoever parses it.
    """
    from xml.etree.ElementTree import ParseError

    from defusedxml.ElementTree import fromstring

    text = tiff.pages.first.description
    if not text.rstrip("\0 \r\n").endswith("OME>"):
        return None
    try:
        return fromstring(text.rstrip("\0 \r\n").encode())
    except (ParseError, UnicodeError):
        return None


def _plane_times(pixels: Element) -> list[float]:
    """Times of the planes of the first channel and slice, in order; none if one of them is unknown."""
    times: dict[int, float] = {}
    for plane in _named(pixels, "Plane"):
        if plane.get("TheC", "0") == "0" == plane.get("TheZ", "0"):
            delta = _number(plane.get("DeltaT"))
            if delta is None:
                return []
            times[int(plane.get("TheT", "0"))] = delta
    return [times[k] for k in sorted(times)]


def _plane_unit(pixels: Element) -> str | None:
    plane = next(iter(_named(pixels, "Plane")), None)
    return unit("s" if plane is None else plane.get("DeltaTUnit", "s"))


def _named(element: Element, name: str) -> list[Element]:
    """Children of that name, whatever their namespace."""
    return [child for child in element if str(child.tag).rsplit("}", 1)[-1] == name]


def _anywhere(element: Element, name: str) -> Element | None:
    return next((child for child in element.iter() if str(child.tag).rsplit("}", 1)[-1] == name), None)


def _text_of(element: Element, name: str) -> str | None:
    found = _anywhere(element, name)
    return None if found is None or not found.text else found.text.strip()


def _attribute(element: Element, name: str, attribute: str) -> str | None:
    found = _anywhere(element, name)
    return None if found is None else found.get(attribute)


def imagej(page: Page) -> Account | None:
    """Read ImageJ's description: the resolution tags in its own unit, origins in pixels."""
    said = page.tiff.imagej_metadata
    if page.kind != "imagej" or said is None:
        return None
    units = unit(said.get("unit"))
    calibration: dict[str, Calibration] = {}
    for axis, code in (("x", 282), ("y", 283)):
        own = unit(said[f"{axis}unit"]) if f"{axis}unit" in said else units
        _scale(calibration, axis, _rational(page.value(code), inverse=True), own, said.get(f"{axis}origin"))
    own = unit(said["zunit"]) if "zunit" in said else units
    _scale(calibration, "z", said.get("spacing"), own, said.get("zorigin"))
    interval = _positive(said.get("finterval"))
    rate = _positive(said.get("fps"))
    _scale(calibration, "t", interval or (1 / rate if rate else None), said.get("tunit", "s"))
    labels = said.get("Labels") or []
    labels = [labels] if isinstance(labels, str) else [str(label) for label in labels]
    names = tuple(label.split("\n", 1)[0] for label in labels)
    if page.axes in ("cyx", "cyxs") and len(names) == page.shape[0] and len(set(names)) == len(names):
        calibration["c"] = Labels(names)
    header = {"labels": labels} if labels else {}
    known = {axis: scale for axis, scale in calibration.items() if axis in page.axes}
    return Account(known, {}, header, final=not page.force_resolution)


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
        step = _positive(get("Scan", pixel))
        if step is None:  # the navigation camera knows its field of view only
            field_of_view, pixels = _positive(get("IRBeam", view)), _positive(get("Image", size))
            step = field_of_view / pixels if field_of_view and pixels else None
        _scale(calibration, axis, step, "m")
    stage = {name[5:].lower(): _number(get("Stage", name)) for name in ("StageX", "StageY", "StageZ")}
    tilts = {name[5:].lower(): _number(get("Stage", name)) for name in ("StageR", "StageT")}
    volts = _positive(get("Beam", "HV"))
    rows = _positive(get("Image", "ResolutionY"))
    databar = {"databar_rows": page.height - int(rows)} if rows and rows < page.height else {}
    return Account(
        calibration,
        {
            "beam_energy": volts and volts / 1000,
            "dwell_time": _positive(get("Scan", "Dwelltime")),
            "beam_current": _positive(get("EBeam", "BeamCurrent")),
            "stage": {k: v for k, v in {**stage, **tilts}.items() if v is not None},
            "working_distance": _positive(get("Stage", "WorkingDistance")),
            "instrument": get("System", "SystemType"),
            "detector": get("Detectors", "Name"),
            "start_time": _date(f"{get('User', 'Date')} {get('User', 'Time')}", "%m/%d/%Y %I:%M:%S %p"),
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
    step = _positive(numbers[3]) if len(numbers) > 3 else None

    def get(key: str) -> Any:
        entry = said.get(key)
        return entry[1] if isinstance(entry, tuple) and len(entry) > 1 else None

    calibration: dict[str, Calibration] = {}
    for axis in "xy":
        _scale(calibration, axis, step and step * 1024 / page.width, "m")
    stage = {axis: _with_unit(said.get(f"ap_stage_at_{axis}")) for axis in "xyz"}
    stage |= {axis: _degrees(get(f"ap_stage_at_{axis}")) for axis in "rt"}
    return Account(
        calibration,
        {
            "beam_energy": _positive(get("ap_actualkv")),
            "magnification": _multiplied(get("ap_mag")),
            "working_distance": _with_unit(said.get("ap_wd")),
            "stage": {k: v for k, v in stage.items() if v is not None},
            "dwell_time": _with_unit(said.get("dp_dwell_time")),
            "beam_current": _with_unit(said.get("ap_iprobe")),
            "detector": get("dp_detector_type") or get("dp_detector_channel"),
            "instrument": get("sv_serial_number"),
            "start_time": _date(f"{get('ap_date')} {get('ap_time')}", "%d %b %Y %H:%M:%S"),
        },
        {"zeiss": {name or "numbers": list(entry) for name, entry in said.items()}},
        final=bool(calibration),
    )


def _multiplied(text: Any) -> float | None:
    """Number of a magnification such as ``50.00 K X``."""
    found = re.match(r"\s*([\d.]+)\s*(K?)", str(text), re.IGNORECASE)
    value = _positive(found[1]) if found else None
    return value and value * (1000 if found and found[2] else 1)


def _with_unit(entry: tuple[Any, ...] | None) -> float | None:
    """Value of an entry (label, value, unit) in metres, seconds or amperes."""
    if entry is None or len(entry) < 2:
        return None
    value, units = _number(entry[1]), str(entry[2]) if len(entry) > 2 else ""
    prefix = {"m": 1e-3, "µ": 1e-6, "u": 1e-6, "n": 1e-9, "p": 1e-12}
    return value and value * (prefix.get(units[0], 1.0) if len(units) > 1 else 1.0)


def _degrees(value: Any) -> float | None:
    """Angle in radians, as FEI stores it."""
    angle = _number(value)
    return None if angle is None else math.radians(angle)


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
            per_cm = _rational(page.value(code))
            _scale(calibration, axis, per_cm and 1e7 / per_cm, "nm")
    elif mode != TVIPS_DIFFRACTION:
        for axis, name in (("x", "PixelSizeX"), ("y", "PixelSizeY")):
            _scale(calibration, axis, said.get(name), "nm")
    volts, exposure = _positive(said.get("TemHighTension")), _positive(said.get("ExposureTime"))
    length = "camera_length" if mode == TVIPS_DIFFRACTION else "magnification"
    position = list(said.get("TemStagePosition") or ())
    return Account(
        calibration,
        {
            "beam_energy": volts and volts / 1000,
            length: _positive(said.get("TemMagnification")),
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
        _scale(calibration, axis, said.get(f"pixelsize{axis}"), "m")
    when = said.get("datetime")
    return Account(
        calibration,
        {
            "magnification": _positive(said.get("magnification")),
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
    imaging = _anywhere(root, "ImageFormingSystem")
    length = _positive(imaging is not None and _text_of(imaging, "SelectorValue"))
    units = "" if imaging is None else _text_of(imaging, "SelectorUnitString") or ""
    mode = "" if imaging is None else _text_of(imaging, "ModeString") or ""
    volts = _positive(_text_of(root, "AccelerationVoltage"))
    scanning = _text_of(root, "EosMode") != "eosTEM"
    camera_length = length and length * {"mm": 1.0, "cm": 10.0, "m": 1000.0}.get(units, math.nan)
    calibration: dict[str, Calibration] = {}
    for axis, code in (("x", 282), ("y", 283)):
        per_cm = _per_centimetre(page, code)
        if not per_cm or not length or scanning:
            continue
        if mode == "MAG":
            _scale(calibration, axis, 1e7 / per_cm / length, "nm")
        elif mode == "DIFF" and volts and camera_length:
            _scale(calibration, axis, 10 / per_cm / camera_length / wavelength(volts), "1/nm")
    exposure = _positive(_text_of(root, "ExposureTimeValue"))
    return Account(
        calibration,
        {
            "beam_energy": volts and volts / 1000,
            "magnification": length if mode == "MAG" and not scanning else None,
            "camera_length": camera_length if mode == "DIFF" and not scanning else None,
            "exposure_time": exposure and exposure / 1e6,
            "instrument": page.text(272),
            "start_time": _text_of(root, "DateTime"),
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
        step, start = _positive(page.value(65009 + number)), _number(page.value(65006 + number))
        if step and units:
            calibration[axis] = Scale(step, units, start or 0.0)
    intensity = {"units": page.text(65022), "offset": page.value(65024), "scale": page.value(65025)}
    return Account(calibration, {}, {"intensity": _known(intensity)}, renamed=renamed, final=bool(calibration))


LENGTHS = ("m", "cm", "mm", "µm", "nm", "Å", "pm")


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
    step = _positive(said.get("PixelSize"))
    columns = _positive(said.get("DataSize", "").lower().partition("x")[0])
    calibration: dict[str, Calibration] = {}
    for axis in "xy":
        _scale(calibration, axis, step and step * (columns / page.width if columns else 1), "nm")
    volts = _positive(_leading(said.get("AcceleratingVoltage")))
    distance = _positive(_leading(said.get("WorkingDistance")))
    nanometres = {axis: _number(_leading(said.get(f"StagePosition{axis.upper()}"))) for axis in "xyz"}
    return Account(
        calibration,
        {
            "beam_energy": volts and volts / 1000,
            "magnification": _positive(_leading(said.get("Magnification"))),
            "working_distance": distance and distance * 1e-6,
            "stage": {axis: value * 1e-9 for axis, value in nanometres.items() if value is not None},
            "instrument": said.get("InstructName"),
            "start_time": _date(f"{said.get('Date')} {said.get('Time')}", "%m/%d/%Y %H:%M:%S"),
        },
        {"hitachi": said},
        final=bool(calibration),
    )


def jeol_sem(page: Page) -> Account | None:
    """Read a JEOL SEM note of the same name: the scale bar in pixels, and what it stands for."""
    said = dict(re.findall(r"^(\$+[A-Z_0-9]+)[ \t]+(.*?)[ \t\r]*$", _sidecar(page.file), re.MULTILINE))
    bar = _positive(_leading(said.get("$$SM_MICRON_BAR")))
    marker = re.match(r"\s*([\d.]+)\s*(\S+)", said.get("$$SM_MICRON_MARKER", ""))
    if not said.get("$CM_FORMAT", bar):
        return None
    length, units = (_positive(marker[1]), unit(marker[2])) if marker else (None, None)
    calibration: dict[str, Calibration] = {}
    for axis in "xy":
        _scale(calibration, axis, length / bar if length and bar else None, units)
    distance = _positive(_leading(said.get("$$SM_WD")))
    return Account(
        calibration,
        {
            "beam_energy": _positive(_leading(said.get("$CM_ACCEL_VOLT"))),
            "magnification": _positive(_leading(said.get("$CM_MAG"))),
            "working_distance": distance and distance * 1e-3,
            "start_time": _date(f"{said.get('$CM_DATE')} {said.get('$CM_TIME')}", "%Y/%m/%d %H:%M:%S"),
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


# Tags of every program -----------------------------------------------------------------------------------------------


def resolution(page: Page) -> Account | None:
    """Read the resolution tags, in µm, if they are meant for a specimen rather than for a printer."""
    calibration: dict[str, Calibration] = {}
    for axis, code in (("x", 282), ("y", 283)):
        per_cm = _per_centimetre(page, code)
        if per_cm and (per_cm > FINEST_PRINT or page.force_resolution):
            _scale(calibration, axis, 1e4 / per_cm, "µm")
    return Account(calibration)


def general(page: Page) -> Account | None:
    """Read tags that many programs write."""
    return Account(acquisition={"start_time": _date(page.text(306), "%Y:%m:%d %H:%M:%S")})


READERS: tuple[Callable[[Page], Account | None], ...] = (
    emio, ome, imagej, fei, zeiss, tvips, olympus, jeol, gatan, hamamatsu, hitachi, jeol_sem, resolution, general,
)  # fmt: skip

CALIBRATING = (34680, 34682, 34118, 37706, 33560, 33471, 65009)
"""Tags by which a page that a vendor calibrated is known."""


# Values --------------------------------------------------------------------------------------------------------------


def unit(text: Any) -> str | None:
    r"""Unit as we spell it; `None` if it stands for pixels, or for nothing.

    Examples
    --------
    >>> unit("micron"), unit(r"\u00B5m"), unit("pixel"), unit("1/nm")
    ('µm', 'µm', None, '1/nm')
    """
    if not isinstance(text, str):
        return None
    name = text.strip("\0 \"'")
    lowered = name.lower()
    return None if lowered in UNCALIBRATED else UNITS.get(lowered, name)


def _scale(calibration: dict[str, Calibration], axis: str, step: Any, units: Any, origin: Any = None) -> None:
    """Note a scale if it is positive and has a unit; `origin` is the pixel at 0."""
    value, known = _positive(step), unit(units)
    if value is not None and known:
        zero = _number(origin) or 0.0
        calibration[axis] = Scale(value, known, -zero * value if zero else 0.0)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _positive(value: Any) -> float | None:
    number = None if isinstance(value, bool) else _number(value)
    return number if number is not None and number > 0 else None


def _rational(value: Any, *, inverse: bool = False) -> float | None:
    """Value of a rational tag; `None` if either number is 0."""
    if not isinstance(value, tuple) or len(value) != 2 or not all(value):
        return None
    return value[1] / value[0] if inverse else value[0] / value[1]


def _per_centimetre(page: Page, code: int) -> float | None:
    per_unit = _rational(page.value(code))
    given = page.value(296)
    factor = PER_CENTIMETRE.get(2 if given is None else int(given))
    return per_unit * factor if per_unit and factor else None


def _date(text: str, layout: str) -> str | None:
    try:
        return datetime.strptime(text.strip(), layout).isoformat()
    except ValueError:
        return None
