"""What Direct Electron cameras put beside a Norpix sequence: dark frame, gain map, dead pixels, configuration.

Layout and quirks: docs/formats/seq.md.
"""

from __future__ import annotations

import math
import re
import struct
import warnings
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import numpy as np

from ..errors import EmioError, EmioWarning, HeaderError
from ..frames.corrections import Corrections, Reference
from ..frames.files import File
from ..frames.storage import Storage
from ._mrc_header import first_plane

LARGEST_SENSOR = 65536  # rows or columns
LARGEST_BINNING = 64
LARGEST_XML = 64 << 20
RANGE = re.compile(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?")
SEQ_SUFFIX = re.compile(r"(\.seq){1,2}$", re.IGNORECASE)


def base_name(name: str) -> str:
    """Return what the names of all sidecars begin with; StreamPix doubles the extension now and then.

    Examples
    --------
    >>> base_name("scan.seq"), base_name("scan.seq.seq")
    ('scan', 'scan')
    """
    return SEQ_SUFFIX.sub("", name)


def sidecar(file: File, base: str, suffix: str) -> File | None:
    """Return the sidecar with a suffix, if there is one: both ``B.seq.dark.mrc`` and ``B.dark.mrc`` occur."""
    candidates = (file.sibling(f"{base}{extension}{suffix}") for extension in (".seq", ""))
    return next((candidate for candidate in candidates if candidate.exists()), None)


# Configuration -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BadPixelMap:
    """Dead pixels of a sensor, or of a binned one: defects are attributes of their elements."""

    rows: int
    columns: int
    binning: int
    defects: tuple[dict[str, str], ...]


@dataclass(frozen=True)
class Config:
    """What ``.Config.Metadata.xml`` says; values are text."""

    info: dict[str, str] = field(default_factory=dict)
    tables: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    maps: tuple[Element, ...] = ()

    def number(self, name: str) -> float | None:
        """Return a value of ``FileInfo``; 0 means unknown."""
        try:
            value = float(self.info[name])
        except (KeyError, ValueError):
            return None
        return value if value and math.isfinite(value) else None


def read_config(file: File) -> Config:
    """Read the configuration.

    Raises
    ------
    HeaderError
        If it is not well-formed XML, or has entities.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        if file.size > LARGEST_XML:
            raise ValueError(f"{file.size} bytes are too many")
        root = fromstring(file.read(0, file.size))
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise HeaderError(
            f"{file}: no XML that can be read ({error}): repair it, take it away, or pass corrections=False"
        ) from error
    info = next(root.iter("FileInfo"), None)
    return Config(
        {child.tag: child.get("Value", "") for child in (info if info is not None else ())},
        {
            name: [dict(entry.attrib) for table in root.iter(name) for entry in table.iter("Property")]
            for name in ("PixelSize", "DiffPixelSize")
        },
        tuple(root.iter("BadPixelMap")),
    )


# Region of the sensor ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Roi:
    """Region of the sensor that was read out, in pixels before binning."""

    height: int
    width: int
    offset_y: int
    offset_x: int
    binning: int

    def fits(self, frame: tuple[int, int]) -> bool:
        """Whether the numbers can be meant: records may hold whatever was in memory."""
        return (
            all(0 < n <= LARGEST_SENSOR for n in (self.height, self.width))
            and min(self.offset_y, self.offset_x) >= 0
            and 1 <= self.binning <= LARGEST_BINNING
            and (self.height // self.binning, self.width // self.binning) == frame
        )


def read_roi(file: File, frame: tuple[int, int]) -> Roi | None:
    """Region from the first record of the binary metadata, in one of its two layouts; `None` if it makes no sense."""
    raw = file.read(0, 512).ljust(512, b"\0")
    kind, payload, size = struct.unpack_from("<3I", raw, 264)
    start = 280 if kind == 8 and payload == size else 290
    width, height, offset_x, offset_y, binning = struct.unpack_from("<5i", raw, start)
    roi = Roi(height, width, offset_y, offset_x, binning)
    return roi if roi.fits(frame) else None


def _configured_roi(config: Config, frame: tuple[int, int]) -> Roi | None:
    names = ("ImageSizeY", "ImageSizeX", "ImageOffsetY", "ImageOffsetX")
    height, width, offset_y, offset_x = (int(config.number(name) or 0) for name in names)
    roi = Roi(height, width, offset_y, offset_x, int(config.number("ImageBinning") or 1))
    return roi if roi.fits(frame) else None


# Dead pixels ---------------------------------------------------------------------------------------------------------


def dead_pixels(config: Config, roi: Roi | None, frame: tuple[int, int]) -> tuple[int, ...]:
    """Flat numbers of the dead pixels within a frame.

    Raises
    ------
    HeaderError
        If the map does not cover the frame, or a defect cannot be understood.
    """
    maps = [_map_of(element) for element in config.maps]
    if not any(bad.defects for bad in maps):
        return ()
    roi = roi or _configured_roi(config, frame)
    binning = roi.binning if roi else int(config.number("ImageBinning") or 1)
    bad, reduced = _best_map(maps, binning)
    sensor = (bad.rows // reduced, bad.columns // reduced)
    if roi is None and sensor != frame:
        raise HeaderError(
            f"the map of dead pixels has {sensor} pixels, frames have {frame}, and nothing says which region of the "
            "sensor they show"
        )
    corner = (roi.offset_y // binning, roi.offset_x // binning) if roi else (0, 0)
    if any(start + size > limit for start, size, limit in zip(corner, frame, sensor, strict=True)):
        raise HeaderError(f"frames of {frame} at {corner} reach beyond the map of dead pixels, which has {sensor}")
    mask = np.zeros(frame, bool)
    for defect in bad.defects:
        mask[np.ix_(*_place(defect, bad, reduced, corner, frame))] = True
    return tuple(np.flatnonzero(mask).tolist())


def _map_of(element: Element) -> BadPixelMap:
    numbers = [element.get("Rows", ""), element.get("Columns", ""), element.get("Binning", "1")]
    if not all(n.strip().isdecimal() and 0 < int(n) <= LARGEST_SENSOR for n in numbers):
        raise HeaderError(f"BadPixelMap has Rows, Columns and Binning {numbers}, expected 1 to {LARGEST_SENSOR}")
    rows, columns, binning = map(int, numbers)
    return BadPixelMap(rows, columns, binning, tuple(dict(child.attrib) for child in element.iter("Defect")))


def _best_map(maps: list[BadPixelMap], binning: int) -> tuple[BadPixelMap, int]:
    """Return the map to use, and how many of its pixels make one of the frame's along each axis."""
    wanted = max(1, binning)
    for kind, reduced in ((wanted, 1), (1, wanted)):
        fitting = [bad for bad in maps if bad.binning == kind]
        if fitting:
            return max(fitting, key=lambda bad: bad.columns), reduced
    raise HeaderError(f"no map of dead pixels is for binning {wanted} or 1, only for {[bad.binning for bad in maps]}")


def _place(
    defect: dict[str, str], bad: BadPixelMap, reduced: int, corner: tuple[int, int], frame: tuple[int, int]
) -> list[np.ndarray]:
    """Rows and columns of the frame that a defect crosses."""
    given = [defect.get("Row", defect.get("Rows")), defect.get("Column", defect.get("Columns"))]
    if given == [None, None]:
        raise HeaderError(f"Defect {defect} has neither a row nor a column")
    pattern = defect.get("pattern")
    if pattern is not None and not re.fullmatch("[01]+", pattern):
        raise HeaderError(f"Defect {defect}: a pattern consists of 0 and 1")
    patterned = _patterned_axis(given)
    places = []
    for axis, size in enumerate((bad.rows, bad.columns)):
        first, last = (0, size - 1) if given[axis] is None else _range(str(given[axis]))
        start, stop = corner[axis] * reduced, (corner[axis] + frame[axis]) * reduced
        pixels = np.arange(max(first, start), min(last + 1, size, stop))  # what lies beyond the sensor is dropped
        if pattern and axis == patterned:
            alive = np.frombuffer(pattern.encode(), "u1") == ord("0")
            pixels = pixels[~alive[(pixels - first) % len(alive)]]
        places.append(np.unique(pixels // reduced) - corner[axis])
    return places


def _patterned_axis(given: list[str | None]) -> int:
    """Axis along which a pattern runs: that of the range, or else along the row or column."""
    ranges = [axis for axis in (1, 0) if "-" in (given[axis] or "")]
    return ranges[0] if ranges else int(given[1] is None)


def _range(text: str) -> tuple[int, int]:
    """First and last index, both included."""
    match = RANGE.fullmatch(text)
    if match is None or int(match[2] or match[1]) < int(match[1]):
        raise HeaderError(f"{text!r} is no row, column or range of them")
    return int(match[1]), int(match[2] or match[1])


# All of it -----------------------------------------------------------------------------------------------------------


def own_corrections(
    file: File, base: str, frame: tuple[int, int], config: Config, storage: Storage, *, strict: bool
) -> Corrections:
    """Corrections that belong to a sequence. Headers are read, values are not.

    Parameters
    ----------
    file
        The sequence.
    base
        What the names of its sidecars begin with.
    frame
        Shape of a stored frame, which is that of all references.
    config
        Its configuration.
    storage
        How references are read.
    strict
        Whether faults that only concern dead pixels are errors, rather than warnings.
    """
    dark, gain = (_reference(sidecar(file, base, suffix), storage) for suffix in (".dark.mrc", ".gain.mrc"))
    try:
        dead = dead_pixels(config, _stored_roi(file, base, frame) if config.maps else None, frame)
    except EmioError as error:
        message = f"{file}: dead pixels cannot be repaired: {error}"
        if strict:
            raise HeaderError(
                f"{message}. Pass corrections='auto' to go without, or excluded_pixels of your own"
            ) from error
        warnings.warn(f"{message}; they stay as they are", EmioWarning, stacklevel=2)
        dead = ()
    return Corrections(dark, gain, dead)


def _reference(found: File | None, storage: Storage) -> Reference | None:
    return None if found is None else Reference(first_plane(found, storage), found.name)


def _stored_roi(file: File, base: str, frame: tuple[int, int]) -> Roi | None:
    found = sidecar(file, base, ".metadata")
    if found is None:
        return None
    roi = read_roi(found, frame)
    if roi is None:
        warnings.warn(f"{found}: does not describe frames of {frame}, so it is ignored", EmioWarning, stacklevel=2)
    return roi


def acquisition(config: Config) -> dict[str, Any]:
    """Return the vendor-neutral facts in a configuration."""
    rate = config.number("FrameRate")
    facts = {
        "frame_rate": rate,
        "exposure_time": rate and 1 / rate,
        "beam_energy": config.number("HT"),
        "magnification": config.number("Mag"),
        "detector": config.info.get("CameraType"),
    }
    return {name: fact for name, fact in facts.items() if fact}
