"""TIA acquisitions (.emi): the microscope's state as XML, in a container of binary records.

Of the container only this is understood: every object (image, spectrum, series) has an XML text, and an object whose
pixels went into a `.ser` has the original path of that file right before it. Sizes and quirks: docs/formats/ser.md.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..errors import EmioWarning
from ..frames.files import File

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAGIC = b"JK\x00\x02"
LARGEST_FILE = 64 << 20
LARGEST_XML = 1 << 20
LONGEST_PATH = 4096
DEEPEST = 10
BEGIN, END = b"<ObjectInfo>", b"</ObjectInfo>"
PATH_RECORD = bytes.fromhex("60 00 40 04")  # then u4 length and the path
BEFORE_XML = re.compile(b"\x32\x00\x42\x04\x02\x00\x60\x00\x19\x04....", re.DOTALL)  # the last four: length of the XML
BETWEEN = 14
SERIES_NUMBER = re.compile(r"_(\d{1,9})\.ser$", re.IGNORECASE)
NUMBER = re.compile(r"[+-]?(\d{1,300}\.?\d{0,300}|\.\d{1,300})([eE][+-]?\d{1,3})?", re.ASCII)
LARGEST_NUMBER = 1e300
DATE = re.compile(r"\w{3}\s+(\w{3})\s+(\d{1,2})\s+(\d{1,2}):(\d\d):(\d\d)\s+(\d{4})")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # never the locale's


@dataclass(frozen=True)
class Stored:
    """An object as it stands in the file.

    Parameters
    ----------
    path
        Where the microscope's computer put the `.ser`; `None` if the pixels are elsewhere.
    xml
        From ``<ObjectInfo>`` to ``</ObjectInfo>``.
    """

    path: str | None
    xml: bytes

    @property
    def number(self) -> int | None:
        """Number of the `.ser`; files are renamed, but their numbers stay."""
        found = SERIES_NUMBER.search(self.path or "")
        return int(found[1]) if found else None


def stored_objects(data: bytes) -> Iterator[Stored]:
    """Find the objects in the bytes of an acquisition."""
    start, end = data.find(BEGIN), -1
    while start >= 0:
        if end < start:
            end = data.find(END, start)
        if end < 0:
            return
        if end - start <= LARGEST_XML:
            yield Stored(_path_before(data, start), data[start : end + len(END)])
            start = data.find(BEGIN, end)
        else:
            start = data.find(BEGIN, start + 1)


def _path_before(data: bytes, start: int) -> str | None:
    """Return the path in the record before an XML text, if there is one."""
    stop = start - BETWEEN
    if stop < 0 or not BEFORE_XML.fullmatch(data, stop, start):
        return None
    record = data.rfind(PATH_RECORD, max(0, stop - LONGEST_PATH), stop)
    if record < 0 or int.from_bytes(data[record + 4 : record + 8], "little") != stop - record - 8:
        return None
    return _decoded(data[record + 8 : stop])


def object_of(objects: Sequence[Stored], numbers: Sequence[int], number: int) -> Stored | None:
    """Return the object that describes a `.ser`.

    The order of objects says little: survey images, line profiles and fits stand between and before those that have a
    `.ser`, so the path decides wherever there is one.

    Parameters
    ----------
    objects
        All of the acquisition.
    numbers
        Of all `.ser` files beside it, sorted.
    number
        Of the wanted one.
    """
    named = {stored.number: stored for stored in reversed(objects) if stored.number is not None}
    if number in named:
        return named[number]
    unnamed = [n for n in numbers if n not in named]
    anonymous = [stored for stored in objects if stored.path is not None and stored.number is None]
    if anonymous:
        return dict(zip(unnamed, anonymous, strict=False)).get(number)
    if not named and len(objects) == len(numbers):
        return dict(zip(numbers, objects, strict=True))[number]
    dated = [stored for stored in objects if b"<AcquireDate>" in stored.xml]
    return dated[0] if len(numbers) == len(dated) == 1 else None


# What an object says -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ObjectInfo:
    """What the XML of an object says, in plain Python types: elements by name, descriptions by label and unit."""

    fields: Mapping[str, Any] = field(default_factory=dict)

    def _group(self, name: str) -> Mapping[str, Any]:
        group = self.fields.get(name)
        return group if isinstance(group, Mapping) else {}

    @property
    def described(self) -> Mapping[str, Any]:
        """The microscope's state, by ``Label_Unit``, or ``Label`` where there is no unit."""
        return self._group("ExperimentalDescription")

    @property
    def acquired(self) -> Mapping[str, Any]:
        """How it was recorded."""
        return self._group("AcquireInfo")

    @property
    def scanned(self) -> bool:
        """Whether the microscope scanned."""
        return "STEM" in str(self.described.get("Mode", ""))

    @property
    def camera(self) -> bool:
        """Whether a camera recorded it."""
        return bool(self.acquired.get("CameraNamePath"))

    @property
    def diffraction(self) -> bool | None:
        """Whether images are diffraction patterns; `None`: nothing is said.

        All STEM modes are called diffraction, also where a detector made an image while the beam scanned.
        """
        mode = self.described.get("Mode")
        if not mode:
            return None
        return self.camera if self.scanned else "Diffraction" in str(mode)

    def acquisition(self, *, spectra: bool) -> dict[str, Any]:
        """Vendor-neutral facts."""
        volts = _number(self._group("ExperimentalConditions"), "AcceleratingVoltage")
        length = _number(self.described, "Camera length_m")
        exposure = _number(self.acquired, "IntegrationTime" if spectra else "DwellTimePath")
        exposed = spectra or self.camera
        facts = {
            "beam_energy": _number(self.described, "High tension_kV") or (volts and volts / 1000),
            "camera_length": length and round(length * 1000, 9),
            "magnification": _number(self.described, "Magnification_x"),
            "exposure_time": exposure if exposed else None,
            "dwell_time": exposure if self.scanned or not exposed else None,
            "stage": self._stage(),
            "instrument": str(self.described.get("Microscope") or "").removeprefix("Microscope ").strip(),
            "detector": self.acquired.get("CameraNamePath") or self.fields.get("Manufacturer"),
            "start_time": start_time(str(self.fields.get("AcquireDate", ""))),
        }
        return {name: fact for name, fact in facts.items() if fact}

    def _stage(self) -> dict[str, float]:
        """Stage in µm and degrees."""
        labels = {
            "x": "Stage X_um",
            "y": "Stage Y_um",
            "z": "Stage Z_um",
            "alpha": "Stage A_deg",
            "beta": "Stage B_deg",
        }
        places = {name: _number(self.described, label) for name, label in labels.items()}
        return {name: place for name, place in places.items() if place is not None}


def read_object(emi: File, stored: Stored) -> ObjectInfo:
    """Parse an object's XML; if it cannot be parsed, its text is kept, with a warning."""
    text = _decoded(stored.xml)
    try:
        root = _parsed(text)
    except ValueError as error:
        warnings.warn(f"{emi}: broken XML ({error}): only its text is kept", EmioWarning, stacklevel=4)
        return ObjectInfo({"xml": text})
    fields: dict[str, Any] = {child.tag: _as_plain(child) for child in root}
    conditions = root.find("ExperimentalConditions/MicroscopeConditions")
    if conditions is not None:
        fields["ExperimentalConditions"] = _as_plain(conditions)
    described = root.find("ExperimentalDescription/Root")
    if described is not None:
        fields["ExperimentalDescription"] = dict(map(_described, described.iterfind("Data")))
    if root.find("TrueImageHeaderInfo") is not None:
        fields["TrueImageHeaderInfo"] = _header_info(root.findtext("TrueImageHeaderInfo", ""))
    return ObjectInfo(fields)


def _parsed(text: str) -> Element:
    """Parse XML, or raise a `ValueError`."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        return fromstring(text)
    except (ParseError, DefusedXmlException) as error:
        raise ValueError(str(error)) from None


def _as_plain(element: Element, depth: int = 0) -> Any:
    """Members by name, or the value of an element that has none."""
    if len(element) and depth < DEEPEST:
        return {child.tag: _as_plain(child, depth + 1) for child in element}
    return as_number((element.text or "").strip())


def _described(data: Element) -> tuple[str, Any]:
    label, value, unit = ((data.findtext(name) or "").strip() for name in ("Label", "Value", "Unit"))
    return (f"{label}_{unit}", as_number(value)) if unit else (label, value)


def _header_info(text: str) -> Any:
    """Return the numbers of XML that stands as text within the XML; what cannot be parsed stays text."""
    try:
        members = _parsed(text.strip()).iterfind("Data")
    except ValueError:
        return text.strip()
    return {member.findtext("Index", "").strip(): as_number(member.findtext("Value", "").strip()) for member in members}


def as_number(text: str) -> int | float | str:
    """Return text as a number, if it is one: an aperture in µm may also be ``V`` or ``retracted``."""
    if not NUMBER.fullmatch(text):
        return text
    value = int(text) if text.lstrip("+-").isdecimal() else float(text)
    return value if abs(value) <= LARGEST_NUMBER else text


def start_time(date: str) -> str | None:
    """ISO time of a date such as ``Mon Feb 22 18:50:01 2016``, which has no time zone.

    Examples
    --------
    >>> start_time("Mon Feb 22 18:50:01 2016")
    '2016-02-22T18:50:01'
    """
    found = DATE.fullmatch(date.strip())
    if not found or found[1] not in MONTHS:
        return None
    day, hour, minute, second, year = map(int, found.groups()[1:])
    try:
        return datetime(year, MONTHS.index(found[1]) + 1, day, hour, minute, second).isoformat()
    except ValueError:
        return None


def _number(group: Mapping[str, Any], name: str) -> float | None:
    value = group.get(name)
    return value if isinstance(value, int | float) else None


def _decoded(data: bytes) -> str:
    """Text without a declared encoding."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
