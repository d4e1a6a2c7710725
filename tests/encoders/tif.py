"""TIFF files byte by byte: any tags, any order of directories, broken ones too.

Layout: docs/formats/tif.md and the TIFF 6.0 specification.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

ASCII, SHORT, LONG, RATIONAL, UNDEFINED, DOUBLE, LONG8 = 2, 3, 4, 5, 7, 12, 16
SIZES = {ASCII: 1, SHORT: 2, LONG: 4, RATIONAL: 8, UNDEFINED: 1, DOUBLE: 8, LONG8: 8}
CODES = {SHORT: "H", LONG: "I", DOUBLE: "d", LONG8: "Q"}

Tag = tuple[int, Any]


def encode_tif(
    pages: Sequence[np.ndarray],
    tags: Mapping[int, Tag] | None = None,
    *,
    order: str = "<",
    big: bool = False,
    strips: int = 1,
    gaps: Sequence[int] = (),
    page_tags: Sequence[Mapping[int, Tag]] = (),
    loop: bool = False,
) -> bytes:
    """Return a file of uncompressed pages of one sample.

    Parameters
    ----------
    pages
        Rows and columns each; the number's type tells BitsPerSample and SampleFormat.
    tags
        Of the first page, by code: type and value (text, bytes, or numbers; rationals as pairs). They win over what
        the pixels say.
    order
        ``"<"`` or ``">"``.
    big
        BigTIFF.
    strips
        Strips of a page, one behind the other.
    gaps
        Bytes of nothing in front of the pixels of each page.
    page_tags
        As `tags`, for each page.
    loop
        Whether the last directory points at the first one.
    """
    pointer, entry = ("Q", 20) if big else ("I", 12)
    head = 16 if big else 8
    data = bytearray(head)
    links = [8 if big else 4]
    first = 0
    for number, pixels in enumerate(pages):
        data += bytes(gaps[number] if number < len(gaps) else 0)
        stored = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
        rows = -(-pixels.shape[0] // strips)
        row_bytes = pixels.shape[1] * pixels.itemsize
        counts = [min(rows, pixels.shape[0] - k * rows) * row_bytes for k in range(strips)]
        starts = [len(data) + sum(counts[:k]) for k in range(strips)]
        data += stored
        described: dict[int, Tag] = {
            256: (LONG, [pixels.shape[1]]),
            257: (LONG, [pixels.shape[0]]),
            258: (SHORT, [8 * pixels.itemsize]),
            259: (SHORT, [1]),
            262: (SHORT, [1]),
            273: (LONG8 if big else LONG, starts),
            277: (SHORT, [1]),
            278: (LONG, [rows]),
            279: (LONG8 if big else LONG, counts),
            339: (SHORT, [{"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]]),
            **((tags or {}) if number == 0 else {}),
            **(page_tags[number] if number < len(page_tags) else {}),
        }
        values = {code: _value(order, *tag) for code, tag in described.items()}
        data += bytes(len(data) % 2)
        places = {}
        for code, (_, _, raw) in values.items():
            if len(raw) > (8 if big else 4):
                places[code] = len(data)
                data += raw + bytes(len(raw) % 2)
        here = len(data)
        first = first or here
        struct.pack_into(order + pointer, data, links[-1], here)
        data += struct.pack(order + ("Q" if big else "H"), len(values))
        for code in sorted(values):
            kind, count, raw = values[code]
            data += struct.pack(order + "HH" + pointer, code, kind, count)
            data += struct.pack(order + pointer, places[code]) if code in places else raw.ljust(8 if big else 4, b"\0")
        links.append(here + (8 if big else 2) + entry * len(values))
        data += bytes(8 if big else 4)
    if loop:
        struct.pack_into(order + pointer, data, links[-1], first)
    start = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    data[: len(start)] = start
    if big:
        data[4:8] = struct.pack(order + "HH", 8, 0)
    return bytes(data)


def _value(order: str, kind: int, value: Any) -> tuple[int, int, bytes]:
    """Type, count and bytes of a tag's value."""
    if kind == ASCII:
        raw = (value if isinstance(value, bytes) else value.encode()) + b"\0"
    elif kind == UNDEFINED:
        raw = bytes(value)
    elif kind == RATIONAL:
        raw = struct.pack(f"{order}{2 * len(value)}I", *(n for pair in value for n in pair))
    else:
        raw = struct.pack(f"{order}{len(value)}{CODES[kind]}", *value)
    return kind, len(raw) // SIZES[kind], raw
