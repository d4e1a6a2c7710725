"""TIA series (.ser) and the acquisition files beside them (.emi).

Layout: docs/formats/ser.md.
"""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import ArrayLike, NDArray

DATA_TYPES = {"u1": 1, "u2": 2, "u4": 3, "i1": 4, "i2": 5, "i4": 6, "f4": 7, "f8": 8, "c8": 9, "c16": 10}
SPECTRA, IMAGES = 0x4120, 0x4122
TIME, TIME_AND_POSITION = 0x4152, 0x4142
Dimension = tuple[int, float, float, int, str, str]


def number(size: int) -> Dimension:
    """Return the dimension of a series: plain counting."""
    return size, 0.0, 1.0, 0, "Number", ""


def position(size: int, offset: float, delta: float, element: int = 0) -> Dimension:
    """Return a dimension of a scan, in metres."""
    return size, offset, delta, element, "Position", "meters"


def write_ser(
    path: str | Path,
    elements: NDArray,
    dimensions: Sequence[Dimension] | None = None,
    *,
    version: int = 0x0220,
    total: int | None = None,
    calibration: Sequence[tuple[float, float, int]] | None = None,
    times: ArrayLike = 0,
    positions: ArrayLike | None = None,
    gaps: Mapping[int, bytes] | None = None,
    order: Sequence[int] | None = None,
    rubbish: int = 0,
    fields: Mapping[str, int] | None = None,
    data_offsets: Mapping[int, int] | None = None,
    tag_offsets: Mapping[int, int] | None = None,
    tag_ids: Mapping[int, int] | None = None,
    element_types: Mapping[int, int] | None = None,
) -> Path:
    """Write images or spectra as TIA does: header, offsets, then each element with its tag behind.

    Parameters
    ----------
    path
        File to create.
    elements
        Images as people see them, (n, rows, columns), or spectra, (n, channels). They are stored in that order, images
        bottom row first.
    dimensions
        Navigation dimensions as they stand in the header: the fastest first. None: one that counts the elements.
    version
        0x0210: offsets of four bytes; 0x0220: of eight.
    total
        Elements that were planned; default: as many as the dimensions say.
    calibration
        (offset, delta, element) of columns and rows, or of channels.
    times
        Seconds since 1970, one or one per element.
    positions
        Beam positions (x, y) in metres, (n, 2). None: tags hold times only.
    gaps
        Bytes in front of an element, by its number.
    order
        Numbers of the elements in the order in which they lie in the file.
    rubbish
        What stands in the offset arrays behind the valid elements.
    fields
        Values that fields of the header get instead, by name; nothing else is moved.
    data_offsets, tag_offsets
        Values in the offset arrays by number of the element, instead of the true ones.
    tag_ids, element_types
        Ids of tags and types of pixels by number of the element, instead of the true ones.

    Returns
    -------
    Path
        The file.

    Examples
    --------
    >>> import tempfile
    >>> image = np.array([[[4, 5, 6], [1, 2, 3]]], "u1")
    >>> write_ser(tempfile.mkdtemp() + "/a_1.ser", image).read_bytes()[88 + 50 : 88 + 56].hex()
    '010203040506'
    """
    count = len(elements)
    dimensions = [number(count)] if dimensions is None else dimensions
    planned = int(np.prod([d[0] for d in dimensions], dtype=int)) if total is None else total
    wide = version == 0x0220
    records = b"".join(map(_dimension, dimensions))
    start = (30 if wide else 26) + 4 + len(records)
    header: dict[str, int] = {
        "ByteOrder": 0x4949,
        "SeriesID": 0x0197,
        "SeriesVersion": version,
        "DataTypeID": SPECTRA if elements.ndim == 2 else IMAGES,
        "TagTypeID": TIME if positions is None else TIME_AND_POSITION,
        "TotalNumberElements": planned,
        "ValidNumberElements": count,
        "OffsetArrayOffset": start,
        "NumberDimensions": len(dimensions),
    }
    tag_type = header["TagTypeID"]
    header |= fields or {}
    body = bytearray()
    first = start + 2 * planned * (8 if wide else 4)
    data, tags = [rubbish] * planned, [rubbish] * planned
    clock = np.broadcast_to(times, count)
    where = None if positions is None else np.broadcast_to(positions, (count, 2))
    for k in range(count) if order is None else order:
        body += (gaps or {}).get(k, b"")
        data[k] = first + len(body)
        body += _element(elements[k], calibration, (element_types or {}).get(k))
        tags[k] = first + len(body)
        body += struct.pack("<HHI", (tag_ids or {}).get(k, tag_type), 0, int(clock[k]))
        if where is not None:
            body += struct.pack("<dd", *where[k])
    for offsets, changes in ((data, data_offsets), (tags, tag_offsets)):
        for k, offset in (changes or {}).items():
            offsets[k] = offset
    packed = struct.pack("<HHHIIIIQI" if wide else "<HHHIIIIII", *header.values()) + records
    packed += struct.pack(f"<{2 * planned}{'Q' if wide else 'I'}", *data, *tags)
    path = Path(path)
    path.write_bytes(packed + body)
    return path


def _dimension(dimension: Dimension) -> bytes:
    size, offset, delta, element, description, units = dimension
    texts = b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in (description, units))
    return struct.pack("<IddI", size, offset, delta, element) + texts


def _element(pixels: NDArray, calibration: Sequence[tuple[float, float, int]] | None, data_type: int | None) -> bytes:
    """Calibration, type, sizes and pixels of an image or a spectrum."""
    scales = calibration or [(0.0, 1.0, 0)] * pixels.ndim
    head = b"".join(struct.pack("<ddI", *scale) for scale in scales)
    data_type = DATA_TYPES[pixels.dtype.str[1:]] if data_type is None else data_type
    head += struct.pack(f"<H{pixels.ndim}I", data_type, *reversed(pixels.shape))
    stored = pixels[::-1] if pixels.ndim == 2 else pixels
    return head + stored.astype(pixels.dtype.newbyteorder("<")).tobytes()


# The .emi ------------------------------------------------------------------------------------------------------------


def write_emi(
    path: str | Path, objects: Sequence[tuple[str | None, str | bytes]], *, filling: bytes = b"\0" * 40
) -> Path:
    """Write an acquisition file with nothing but objects: each the original path of its .ser (or None) and its XML."""
    data = b"JK\0\x02" + filling
    for original, xml in objects:
        if original is not None:
            name = original.encode("latin-1")
            data += bytes.fromhex("60004004") + struct.pack("<I", len(name)) + name
        text = (xml.encode() if isinstance(xml, str) else xml) + b"\r\n"
        data += (
            bytes.fromhex("320042040200") + bytes.fromhex("60001904") + struct.pack("<I", len(text)) + text + filling
        )
    path = Path(path)
    path.write_bytes(data)
    return path


def object_info(
    *,
    date: str | None = "Mon Feb 22 18:50:01 2016",
    described: Sequence[tuple[str, Any, str]] = (),
    acquire: Mapping[str, Any] | None = None,
    header_info: Mapping[str, Any] | None = None,
    manufacturer: str | None = "FEI",
    voltage: float | None = None,
) -> str:
    """Return the XML of an object; `described` are (label, value, unit)."""
    text = "<ObjectInfo><Uuid>548fb9b9-24f1-430d-8585-f16a6d6c62d5</Uuid>"
    if voltage is not None:
        conditions = f"<AcceleratingVoltage>{voltage}</AcceleratingVoltage><Tilt1>-0.000034</Tilt1>"
        conditions = f"<MicroscopeConditions>{conditions}</MicroscopeConditions>"
        text += f"<ExperimentalConditions>{conditions}</ExperimentalConditions>"
    if described:
        data = "".join(
            f"<Data><Label>{label}</Label><Value>{value}</Value><Unit>{unit}</Unit></Data>"
            for label, value, unit in described
        )
        text += f"<ExperimentalDescription><Root>{data}</Root>\n\t</ExperimentalDescription>"
    if header_info:
        data = "".join(f"<Data><Index>{k}</Index><Value>{v}</Value></Data>" for k, v in header_info.items())
        text += f"<TrueImageHeaderInfo>{escape(f'<Root>{data}</Root>')}\n</TrueImageHeaderInfo>"
    if date is not None:
        text += f"<AcquireDate>{date}</AcquireDate>"
    if acquire:
        text += "<AcquireInfo>" + "".join(f"<{k}>{v}</{k}>" for k, v in acquire.items()) + "</AcquireInfo>"
    if manufacturer is not None:
        text += f"<Manufacturer>{manufacturer}</Manufacturer>"
    return text + "</ObjectInfo>"
