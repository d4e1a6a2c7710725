"""Series of TIA (.ser): the header, where elements lie, and elements and tags as they are read.

Layout: docs/formats/ser.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..axes import Scale
from ..errors import HeaderError, TruncatedError
from ..frames.files import File
from ..frames.layout import FrameStack, Piece

MAGIC = b"\x49\x49\x97\x01"
HEAD = 65536  # holds any header with texts of reasonable length
FIXED = np.dtype(
    [
        ("ByteOrder", "<u2"),
        ("SeriesID", "<u2"),
        ("SeriesVersion", "<u2"),
        ("DataTypeID", "<u4"),
        ("TagTypeID", "<u4"),
        ("TotalNumberElements", "<u4"),
        ("ValidNumberElements", "<u4"),
    ]
)
OFFSET: dict[int, np.dtype] = {0x0210: np.dtype("<u4"), 0x0220: np.dtype("<u8")}  # TIA 4.7.3 and later write 0x0220
SPECTRA, IMAGES = 0x4120, 0x4122
TIME, TIME_AND_POSITION = 0x4152, 0x4142
TAG_BYTES = {TIME: 8, TIME_AND_POSITION: 24}
MOST_DIMENSIONS = 16
SCALE = [("CalibrationOffset", "<f8"), ("CalibrationDelta", "<f8"), ("CalibrationElement", "<u4")]
DIMENSION = np.dtype([("DimensionSize", "<u4"), *SCALE])
PIXEL_TYPES = dict(enumerate(("<u1", "<u2", "<u4", "<i1", "<i2", "<i4", "<f4", "<f8", "<c8", "<c16"), 1))
BYTE = np.dtype("u1")
NM = 1e9  # nm in a metre


# The header ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """Calibration of an axis as stored: `offset` is the coordinate of pixel `element`."""

    offset: float
    delta: float
    element: int

    def scale(self, factor: float, units: str) -> Scale | None:
        """Calibration in other units; `None` if it says nothing."""
        step, origin = self.delta * factor, (self.offset - self.element * self.delta) * factor
        return Scale(step, units, origin) if step and math.isfinite(step) and math.isfinite(origin) else None


@dataclass(frozen=True)
class Dimension:
    """Navigation dimension of the header."""

    size: int
    line: Line
    description: str
    units: str


@dataclass(frozen=True, eq=False)
class Series:
    """What a `.ser` says of itself.

    Parameters
    ----------
    file
        The file.
    fields
        Fixed part of the header.
    dimensions
        Navigation dimensions, the fastest first.
    end
        Byte behind the header.
    data_offsets, tag_offsets
        Of the valid elements, int64.
    first
        Head of the first element, as it stands in the file.
    """

    file: File
    fields: Mapping[str, int]
    dimensions: tuple[Dimension, ...]
    end: int
    data_offsets: np.ndarray = field(repr=False)
    tag_offsets: np.ndarray = field(repr=False)
    first: bytes = field(repr=False)

    @property
    def spectra(self) -> bool:
        """Whether elements are spectra; else they are images."""
        return self.fields["DataTypeID"] == SPECTRA

    @property
    def count(self) -> int:
        """Elements that were recorded."""
        return self.fields["ValidNumberElements"]

    @property
    def total(self) -> int:
        """Elements that were planned."""
        return self.fields["TotalNumberElements"]

    @property
    def tag_id(self) -> int:
        """Kind of the tags."""
        return self.fields["TagTypeID"]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Navigation shape: the first dimension of the header is the fastest, so the last axis."""
        return tuple(dimension.size for dimension in reversed(self.dimensions))

    @property
    def consistent(self) -> bool:
        """Whether the dimensions hold the planned elements."""
        return math.prod(self.sizes) == self.total

    @property
    def lines(self) -> tuple[Line, ...]:
        """Calibration of columns and rows, or of the channels."""
        scales = np.frombuffer(self.first, SCALE, 1 if self.spectra else 2)
        return tuple(Line(*scale.item()) for scale in scales)

    @property
    def kind(self) -> bytes:
        """Type and sizes of the first element: all others must have the same."""
        return self.first[20 if self.spectra else 40 :]

    @property
    def dtype(self) -> np.dtype:
        """Stored type of the pixels."""
        return np.dtype(PIXEL_TYPES[int.from_bytes(self.kind[:2], "little")])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an element: (rows, columns), or (channels,)."""
        return tuple(reversed(np.frombuffer(self.kind, "<u4", offset=2).tolist()))

    @property
    def element_bytes(self) -> int:
        """Head and pixels of an element."""
        return len(self.first) + math.prod(self.shape) * self.dtype.itemsize

    @property
    def header(self) -> dict[str, Any]:
        """Everything, under the names of the format."""
        names = [("X", "Y"), ("",)][self.spectra]
        element: dict[str, Any] = {"DataType": int.from_bytes(self.kind[:2], "little")}
        sizes = ("ArrayLength",) if self.spectra else ("ArraySizeX", "ArraySizeY")
        element |= zip(sizes, reversed(self.shape), strict=True)
        for axis, line in zip(names, self.lines, strict=True):
            element |= {
                f"CalibrationOffset{axis}": line.offset,
                f"CalibrationDelta{axis}": line.delta,
                f"CalibrationElement{axis}": line.element,
            }
        dimensions = [
            {
                "DimensionSize": dimension.size,
                "CalibrationOffset": dimension.line.offset,
                "CalibrationDelta": dimension.line.delta,
                "CalibrationElement": dimension.line.element,
                "Description": dimension.description,
                "Units": dimension.units,
            }
            for dimension in self.dimensions
        ]
        return {**self.fields, "Dimensions": dimensions, **element}

    def stack(self, frame: tuple[int, ...]) -> FrameStack:
        """Return the elements as frames of a shape.

        TIA writes equal elements at a constant stride, but only the offsets count. Where they lie otherwise, the head
        of each element is checked as it is read.
        """
        pieces, stride = runs(self.file.uri, self.data_offsets, self.element_bytes)
        footer = stride - self.element_bytes
        if len(pieces) == 1 and frame == self.shape:
            return FrameStack(pieces, self.dtype, frame, len(self.first), footer, flip=not self.spectra)
        decoder = Element(self.file.uri, self.dtype.str, self.shape, len(self.first), self.kind)
        return FrameStack(pieces, BYTE, frame, frame_footer=footer, decoder=decoder)


def runs(path: str, offsets: np.ndarray, size: int) -> tuple[tuple[Piece, ...], int]:
    """Cut records of `size` bytes into pieces of a constant stride, the most frequent one.

    Examples
    --------
    >>> pieces, stride = runs("a.ser", np.array([100, 120, 140, 500, 520]), 10)
    >>> [(piece.offset, piece.count) for piece in pieces], stride
    ([(100, 3), (500, 2)], 20)
    """
    if not len(offsets):
        return (), size
    steps = np.diff(offsets)
    found, times = np.unique(steps[steps >= size], return_counts=True)
    stride = int(found[times.argmax()]) if len(found) else size
    starts = np.concatenate([[0], np.flatnonzero(steps != stride) + 1])
    counts = np.diff(starts, append=len(offsets))
    return tuple(Piece(path, *place) for place in zip(offsets[starts].tolist(), counts.tolist(), strict=True)), stride


def scan_of(series: Series, only_valid_data: bool) -> tuple[int, ...]:
    """Navigation shape of a series; one of a single element has none."""
    if series.consistent and len(series.sizes) > 1:
        return series.sizes
    count = series.count if only_valid_data or not series.consistent else series.total
    return () if count == 1 else (count,)


def read_series(file: File) -> Series:
    """Read and check a header, and the head of the first element.

    Raises
    ------
    HeaderError, TruncatedError
        If the file is no TIA series, or contradicts itself.
    """
    head = file.read(0, HEAD)
    fields = _fixed(file, head)
    offset_type = OFFSET[fields["SeriesVersion"]]
    array, dimensions, end = _dimensions(file, head, offset_type)
    data, tags = _offsets(file, fields, array, offset_type, end)
    length = 26 if fields["DataTypeID"] == SPECTRA else 50
    first = file.read_exactly(int(data[0]), length, "head of element 0")
    fields = {**fields, "OffsetArrayOffset": array, "NumberDimensions": len(dimensions)}
    series = Series(file, fields, dimensions, end, data, tags, first)
    _check_elements(series)
    return series


def _fixed(file: File, head: bytes) -> dict[str, int]:
    if head.startswith(b"LUCAM-RECORDER"):
        raise HeaderError(f"{file}: a video of an astronomy camera (LUCAM-RECORDER), not a TIA series, and not read")
    if len(head) < FIXED.itemsize:
        raise TruncatedError(f"{file}: has {file.size} bytes, which is less than the header of a TIA series")
    record = np.frombuffer(head, FIXED, 1)[0]
    fields = {name: record[name].item() for name in FIXED.names or ()}
    expected = {
        "ByteOrder": (0x4949,),
        "SeriesID": (0x0197,),
        "SeriesVersion": tuple(OFFSET),
        "DataTypeID": (SPECTRA, IMAGES),
    }
    for name, values in expected.items():
        if fields[name] not in values:
            raise HeaderError(
                f"{file}: not a TIA series that can be read: {name} is 0x{fields[name]:04x}, expected "
                f"{' or '.join(f'0x{value:04x}' for value in values)}"
            )
    if not fields["ValidNumberElements"]:
        raise HeaderError(f"{file}: holds no data (ValidNumberElements is 0): the pixels may be inside the .emi")
    if fields["ValidNumberElements"] > fields["TotalNumberElements"]:
        raise HeaderError(
            f"{file}: ValidNumberElements is {fields['ValidNumberElements']}, more than the "
            f"{fields['TotalNumberElements']} of TotalNumberElements"
        )
    return fields


def _dimensions(file: File, head: bytes, offset_type: np.dtype) -> tuple[int, tuple[Dimension, ...], int]:
    """Offset of the offset array, dimensions, and the byte behind them."""
    at = FIXED.itemsize

    def taken(count: int, what: str) -> bytes:
        nonlocal at
        data = head[at : at + count]
        if len(data) < count:
            raise HeaderError(f"{file}: {what} of {count} bytes at byte {at} leaves the header: the file is broken")
        at += count
        return data

    def number(count: int, what: str) -> int:
        return int.from_bytes(taken(count, what), "little")

    array = number(offset_type.itemsize, "OffsetArrayOffset")
    count = number(4, "NumberDimensions")
    if count > MOST_DIMENSIONS:
        raise HeaderError(f"{file}: NumberDimensions is {count}, expected at most {MOST_DIMENSIONS}")
    dimensions = []
    for _ in range(count):
        size, *line = np.frombuffer(taken(DIMENSION.itemsize, "dimension"), DIMENSION)[0].item()
        description, units = (
            taken(number(4, f"length of {what}"), what).decode("latin-1") for what in ("Description", "Units")
        )
        dimensions.append(Dimension(size, Line(*line), description, units))
    return array, tuple(dimensions), at


def _offsets(
    file: File, fields: Mapping[str, int], array: int, offset_type: np.dtype, end: int
) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of the valid elements and of their tags, which stand behind the offsets of *all* planned elements."""
    total, count = fields["TotalNumberElements"], fields["ValidNumberElements"]
    size = total * offset_type.itemsize
    if array < end or array + 2 * size > file.size:
        raise HeaderError(
            f"{file}: offsets of TotalNumberElements = {total} elements at OffsetArrayOffset = {array} do not lie "
            f"between the header's end ({end}) and the file's ({file.size})"
        )
    places = []
    for start in (array, array + size):
        stored = np.frombuffer(file.read_exactly(start, count * offset_type.itemsize, "offset array"), offset_type)
        places.append(
            np.minimum(stored.astype("u8"), np.uint64(file.size)).astype("i8")
        )  # no file system seeks farther
    return places[0], places[1]


def _check_elements(series: Series) -> None:
    file, data_type = series.file, int.from_bytes(series.kind[:2], "little")
    if data_type not in PIXEL_TYPES:
        raise HeaderError(f"{file}: DataType of the first element is {data_type}, expected 1 to {len(PIXEL_TYPES)}")
    if 0 in series.shape:
        raise HeaderError(f"{file}: the first element has no pixels: its shape is {series.shape}")
    early = series.data_offsets < series.end
    late = series.data_offsets > file.size - series.element_bytes
    if early.any():
        number = int(early.argmax())
        raise HeaderError(f"{file}: data offset {number} is {series.data_offsets[number]}, within the header")
    if late.any():
        number = int(late.argmax())
        raise TruncatedError(
            f"{file}: element {number} of {series.element_bytes} bytes at byte {series.data_offsets[number]} ends "
            f"behind the end of the file ({file.size} bytes): is this copy complete?"
        )
    last, length = series.count - 1, len(series.first)
    check_kind(str(file), series.kind, file.read(int(series.data_offsets[last]), length)[-len(series.kind) :], last)


def check_kind(file: str, expected: bytes, found: bytes, number: int | None = None) -> None:
    """Raise a `HeaderError` if the head of an element says another type or other sizes than the first one's."""
    if found != expected:
        types = [int.from_bytes(kind[:2], "little") for kind in (found, expected)]
        sizes = [np.frombuffer(kind, "<u4", offset=2).tolist() for kind in (found, expected)]
        raise HeaderError(
            f"{file}: {'an element' if number is None else f'element {number}'} has DataType {types[0]} and sizes "
            f"{sizes[0]}, the first one {types[1]} and {sizes[1]}: elements that differ cannot be one array"
        )


# Elements and tags as they are read ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Element:
    """Elements with their heads, which are checked; in any shape of as many pixels.

    Parameters
    ----------
    file
        For messages.
    stored
        Type of the pixels.
    shape
        (rows, columns), stored bottom row first, or (channels,).
    head
        Bytes in front of the pixels.
    kind
        What the end of the head must be.
    """

    file: str
    stored: str
    shape: tuple[int, ...]
    head: int
    kind: bytes

    @property
    def dtype(self) -> np.dtype:
        """Type of the pixels."""
        return np.dtype(self.stored).newbyteorder("=")

    def stored_bytes(self, shape: tuple[int, ...]) -> int:
        """Head and pixels."""
        return self.head + math.prod(shape) * self.dtype.itemsize

    def decode(self, stored: np.ndarray, out: np.ndarray) -> None:
        """Check the heads and copy the pixels."""
        for element, pixels in zip(stored, out, strict=True):
            check_kind(self.file, self.kind, element[self.head - len(self.kind) : self.head].tobytes())
            frame = element[self.head :].view(self.stored).reshape(self.shape)
            upright = frame[::-1] if len(self.shape) == 2 else frame
            pixels[...] = upright.reshape(pixels.shape)


@dataclass(frozen=True)
class TagField:
    """Time or position in the tag of each element; NaT or NaN where the tag's id is wrong.

    Parameters
    ----------
    tag_id
        Id of the tags, by which good ones are known.
    start
        Byte of the tag at which the field begins.
    kind
        ``"time"`` (s) or ``"position"`` (m, decoded to nm).

    Examples
    --------
    >>> tags = np.frombuffer(bytes.fromhex("52410000 99 59 cb 56  ffff0000 99 59 cb 56"), "u1").reshape(2, 8)
    >>> out = np.empty(2, "M8[s]")
    >>> TagField(0x4152, 4, "time").decode(tags, out)
    >>> out.astype(str).tolist()
    ['2016-02-22T18:55:21', 'NaT']
    """

    tag_id: int
    start: int
    kind: str

    @property
    def dtype(self) -> np.dtype:
        """Type of the values."""
        return np.dtype("M8[s]" if self.kind == "time" else "f8")

    def stored_bytes(self, shape: tuple[int, ...]) -> int:
        """Those of the tag."""
        return TAG_BYTES[self.tag_id]

    def decode(self, stored: np.ndarray, out: np.ndarray) -> None:
        """Read the field of each tag."""
        tags = np.ascontiguousarray(stored)
        good = tags[:, :2].copy().view("<u2")[:, 0] == self.tag_id
        if self.kind == "time":
            seconds = tags[:, self.start : self.start + 4].copy().view("<u4")[:, 0]
            out[...] = np.where(good, seconds.astype("i8").astype("M8[s]"), np.datetime64("NaT"))
        else:
            metres = tags[:, self.start : self.start + 8].copy().view("<f8")[:, 0]
            out[...] = np.where(good, metres, np.nan) * NM


def copied(stored: np.ndarray, out: np.ndarray) -> None:
    out[...] = stored
