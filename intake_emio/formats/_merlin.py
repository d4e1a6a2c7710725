"""Text that Merlin software writes: the header in front of each frame, and the `.hdr` file of an acquisition.

Fields, keys and their quirks: docs/formats/mib.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import HeaderError
from ..frames.files import File

MAGIC = b"MQ1,"
LEGACY_MAGIC = (b"12B,", b"24B,")
STREAM_MAGIC = b"MPX,"
HDR_MAGIC = b"HDR"

EXTENSION = "MQ1A"
"""Marks the fields behind the settings of the chips: UTC, exposure in ns, depth of the counter."""

LEGACY_HEADER_BYTES = 256
LONGEST_TEXT = 65536
LONGEST_HDR = 1 << 20
GAINS = ("SLGM", "LGM", "HGM", "SHGM")
THRESHOLDS = slice(14, 22)


@dataclass(frozen=True)
class FrameHeader:
    """What stands in front of a frame.

    Parameters
    ----------
    number
        Of the frame; goes on across the files of an acquisition.
    header_bytes
        From the start of the header to the first pixel.
    chips
        How many were read.
    width, height
        As the header says: of some raw files it is not the frame's.
    kind
        Type of the pixels, such as ``U16`` or ``R64``.
    layout
        Of the chips, such as ``2x2G``.
    depth
        Of the counter in bits, if known.
    counter
        Counter, or index of the threshold in colour mode.
    colour
        Whether it is colour mode.
    time, utc
        Local time, and UTC if known.
    exposure
        In s.
    gain
        Name of the mode.
    thresholds
        In keV.
    chip_type
        Such as ``3RX``.
    length
        Bytes of text that may hold fields.
    legacy
        Whether it is a header as of 2015.
    """

    number: int
    header_bytes: int
    chips: int
    width: int
    height: int
    kind: str
    layout: str
    depth: int | None
    counter: int = 0
    colour: bool = False
    time: str = ""
    utc: str | None = None
    exposure: float | None = None
    gain: str | None = None
    thresholds: tuple[float, ...] = ()
    chip_type: str = ""
    length: int = field(default=LEGACY_HEADER_BYTES, repr=False)
    legacy: bool = False

    @property
    def geometry(self) -> tuple[Any, ...]:
        """What frames of one acquisition have in common."""
        return (self.header_bytes, self.width, self.height, self.kind, self.depth, self.layout, self.chips)


def read_frame_header(file: File, start: int = 0) -> FrameHeader:
    """Read the header that starts at a byte.

    Raises
    ------
    HeaderError
        If there is none, or it makes no sense.
    """
    head = file.read(start, 4096)
    if file.extension == ".mib" and head.startswith(LEGACY_MAGIC):
        return _legacy(file, head)
    if head.startswith(STREAM_MAGIC):
        raise HeaderError(
            f"{file}: this is a dump of what Merlin sends over the network (every frame has a prefix 'MPX,'), no MIB "
            "file: take the prefixes off, or save as .mib with the Merlin software"
        )
    if not head.startswith(MAGIC):
        raise HeaderError(f"{file}: not a Merlin file: byte {start} has {head[:8]!r}, expected {MAGIC!r}")
    fields = _split(head)
    if len(fields) < 8:
        raise HeaderError(f"{file}: the frame header has {len(fields)} fields, expected 8 or more: {head[:64]!r}")
    header_bytes = _whole(file, fields, 2, "bytes of the header")
    length = min(header_bytes, LONGEST_TEXT)
    if length > len(head):
        head = file.read(start, length)
    fields = _split(head[:length])  # not farther: pixels may look like text
    if len(fields) < 8:
        raise HeaderError(f"{file}: field 2 (bytes of the header) is {header_bytes}, too few for its fields")
    at = fields.index(EXTENSION) if EXTENSION in fields else None
    utc, nanoseconds, depth = [*fields[at + 1 :], "", "", ""][:3] if at is not None else ("", "", "")
    lasted = _number(nanoseconds.rstrip("nNsS"))
    return FrameHeader(
        number=_whole(file, fields, 1, "number of the frame", least=0),
        header_bytes=header_bytes,
        chips=_whole(file, fields, 3, "number of chips"),
        width=_whole(file, fields, 4, "width"),
        height=_whole(file, fields, 5, "height"),
        kind=fields[6],
        layout=fields[7].upper(),
        depth=int(depth) if depth.isdecimal() and len(depth) < 4 else None,
        counter=int(_number(_at(fields, 11)) or 0),
        colour=_at(fields, 12) == "1",
        time=_at(fields, 9),
        utc=utc or None,
        exposure=_number(_at(fields, 10)) if lasted is None else lasted / 1e9,
        gain=dict(enumerate(GAINS)).get(int(_number(_at(fields, 13)) or 0)),
        thresholds=_numbers(fields[THRESHOLDS]),
        chip_type=_at(fields, 22) if at is None or at > 22 else "",
        length=length,
    )


def _legacy(file: File, head: bytes) -> FrameHeader:
    """Header of the readout "Merlin vs 1", software 0.76 of 2015; known from the notes of fpd."""
    fields = _split(head[:LEGACY_HEADER_BYTES])
    depth = int(fields[0][:2])
    exposure = _number(_at(fields, 4))
    return FrameHeader(
        number=_whole(file, fields, 1, "number of the frame", least=0),
        header_bytes=LEGACY_HEADER_BYTES,
        chips=1,
        width=256,
        height=256,
        kind="U16" if depth == 12 else "U32",
        layout="1X1",
        depth=depth,
        counter=int(_number(_at(fields, 2)) or 0),
        time=_at(fields, 3),
        exposure=None if exposure is None else exposure / 1000,
        thresholds=_numbers(fields[5:7]),
        legacy=True,
    )


def _split(data: bytes) -> list[str]:
    return [text.strip(" \0\r\n") for text in data.decode("latin-1").split(",")]


def _at(fields: Sequence[str], place: int) -> str:
    return fields[place] if place < len(fields) else ""


def _whole(file: File, fields: Sequence[str], place: int, what: str, least: int = 1) -> int:
    text = _at(fields, place)
    if not text.isdecimal() or len(text) > 18 or int(text) < least:
        raise HeaderError(f"{file}: field {place} of the frame header ({what}) is {text!r}, expected a positive number")
    return int(text)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _numbers(texts: Sequence[str]) -> tuple[float, ...]:
    """Numbers up to the first text that is none: raw files of old firmware have no thresholds."""
    found: list[float] = []
    for text in texts:
        value = _number(text)
        if value is None:
            break
        found.append(value)
    return tuple(found)


# The .hdr file -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """Entries of a `.hdr` file, under the keys as they are written there.

    Examples
    --------
    >>> settings = Settings({"Frames in Acquisition (Number)": "8", "Sensor Bias (V, µA)": "20 V"})
    >>> settings.number("frames in acquisition"), settings.text("Sensor Bias")
    (8, '20 V')
    """

    entries: Mapping[str, str] = field(default_factory=dict)

    def text(self, key: str) -> str:
        """Value by its key without what stands in parentheses there, in any case; empty if missing."""
        return next((value for name, value in self.entries.items() if _plain(name) == _plain(key)), "")

    def number(self, key: str) -> int:
        """Whole number at the start of a value; 0 if there is none."""
        found = re.match(r"\d{1,18}(?![\d])", self.text(key))
        return int(found[0]) if found else 0


def _plain(key: str) -> str:
    return " ".join(re.sub(r"\(.*?\)", " ", key).lower().split())


def is_hdr(file: File) -> bool:
    """Whether a file is a `.hdr` of Merlin; ENVI, Analyze and others use this extension as well."""
    return file.extension == ".hdr" and file.read(0, len(HDR_MAGIC)) == HDR_MAGIC


def read_hdr(file: File) -> Settings:
    """Entries of a `.hdr` file; lines that make no sense are ignored."""
    return parse_hdr(file.read(0, LONGEST_HDR).decode("latin-1"))


def parse_hdr(text: str) -> Settings:
    r"""Entries of a `.hdr` file's text: the first of each key counts.

    Examples
    --------
    >>> dict(parse_hdr("HDR,\t\r\nScanX:\t 4\r\nGain: SLGM\r\nnonsense\r\nEnd\t   ").entries)
    {'ScanX': '4', 'Gain': 'SLGM'}
    """
    entries: dict[str, str] = {}
    for line in re.split(r"\r\n|\r|\n", text)[1:]:
        key, separator, value = line.partition("\t" if "\t" in line else ":")
        key = key.strip().removesuffix(":").strip()
        if separator and key and key != "End":
            entries.setdefault(key, value.strip(" \t\0"))
    return Settings(entries)
