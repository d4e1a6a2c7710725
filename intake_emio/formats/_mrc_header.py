"""The header of an MRC file: fields, byte order, pixel types. Shared by all that read such files, and by the writer.

Layout and quirks: docs/formats/mrc.md.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..axes import Scale
from ..errors import ArgumentError, HeaderError, TruncatedError
from ..frames.decoders import ComplexIntegers, Decoder, Nibbles
from ..frames.files import File
from ..frames.frames import Frames
from ..frames.layout import FrameStack
from ..frames.navigation import Navigation
from ..frames.storage import Storage
from ..frames.unpacked import Unpacked, is_packed
from ..record import KEY, Record

FIELDS: list[tuple[Any, ...]] = [
    *((name, "i4") for name in ("nx", "ny", "nz", "mode", "nxstart", "nystart", "nzstart", "mx", "my", "mz")),
    ("cella", "f4", (3,)),
    ("cellb", "f4", (3,)),
    *((name, "i4") for name in ("mapc", "mapr", "maps")),
    *((name, "f4") for name in ("dmin", "dmax", "dmean")),
    ("ispg", "i4"),
    ("nsymbt", "i4"),
    ("extra1", "V8"),
    ("exttyp", "S4"),
    ("nversion", "i4"),
    ("extra2", "V16"),
    ("nint", "i2"),
    ("nreal", "i2"),
    ("extra3", "V20"),
    ("imodStamp", "i4"),
    ("imodFlags", "i4"),
    *((name, "i2") for name in ("idtype", "lens", "nd1", "nd2", "vd1", "vd2")),
    ("tiltangles", "f4", (6,)),
    ("origin", "f4", (3,)),
    ("map", "S4"),
    ("machst", "V4"),
    ("rms", "f4"),
    ("nlabl", "i4"),
    ("label", "S80", (10,)),
]
HEADER = np.dtype(FIELDS)
LABELS_AT, LABEL_BYTES = 224, 80

MAP, MAP_AT = b"MAP", 208
STAMPS = {b"\x44\x44": "<", b"\x44\x41": "<", b"\x11\x11": ">"}
IMOD = 1146047817
SIGNED, INVERTED_ORIGIN, FOUR_BITS = 1, 4, 16  # imodFlags

MODES = {
    0: "i1",
    1: "i2",
    2: "f4",
    3: "i2",  # re, im
    4: "c8",
    6: "u2",
    12: "f2",
    16: "u1",  # r, g, b
    101: "u1",  # two in a byte
}
PACKED_COMPLEX, COLOURS, NIBBLES = 3, 16, 101
PLANES = (0, 1, 2, 6, 12)  # modes of dark frames and gain maps
NAV_SHAPE = re.compile(r"nav_shape=\((\d{1,10}(?:, *\d{1,10})*),?\)")
ANGSTROMS = 10  # in a nm


@dataclass(frozen=True)
class Header:
    """What stands in the first 1024 bytes.

    Parameters
    ----------
    fields
        By name, as stored.
    order
        Byte order, ``"<"`` or ``">"``.
    label_bytes
        The ten labels, undivided.
    """

    fields: Mapping[str, Any]
    order: str
    label_bytes: bytes = b""

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    @property
    def by_imod(self) -> bool:
        """Whether IMOD's flags mean something."""
        return self["imodStamp"] == IMOD

    @property
    def doubled(self) -> bool:
        """Whether bytes of mode 0 are pairs of pixels, which nx does not know (SerialEM)."""
        return self["mode"] == 0 and self.by_imod and bool(self["imodFlags"] & FOUR_BITS)

    @property
    def mode(self) -> int:
        """What pixels are, whoever wrote them."""
        return NIBBLES if self.doubled else self["mode"]

    @property
    def frame(self) -> tuple[int, int]:
        """Rows and columns."""
        return self["ny"], self["nx"] * (2 if self.doubled else 1)

    @property
    def start(self) -> int:
        """Byte at which pixels begin."""
        return HEADER.itemsize + self["nsymbt"]

    @property
    def is_stack(self) -> bool:
        """Whether the space group says that sections are images; those that nobody knows say nothing else."""
        return not 1 <= self["ispg"] <= 230 and not self.is_stack_of_volumes

    @property
    def is_stack_of_volumes(self) -> bool:
        """Whether the space group says that there are several volumes."""
        return 401 <= self["ispg"] <= 630

    @property
    def order_of_axes(self) -> tuple[int, int, int]:
        """Which of X, Y, Z (0, 1, 2) are columns, rows and sections; usual, if the header's word makes no sense."""
        stored = self["mapc"] - 1, self["mapr"] - 1, self["maps"] - 1
        return stored if sorted(stored) == [0, 1, 2] else (0, 1, 2)

    def intervals(self, axis: int) -> int:
        """How many pixels the cell has along X, Y or Z (0, 1, 2)."""
        size = self[("mx", "my", "mz")[axis]]
        return 2 * size if axis == 0 and self.doubled and size == self["nx"] else size

    def scale(self, axis: int) -> Scale | None:
        """Calibration of X, Y or Z (0, 1, 2); none where size or number of pixels is not positive."""
        size, origin = float(self["cella"][axis]), float(self["origin"][axis])
        if axis == 0 and self.intervals(0) != self["mx"]:
            size *= 2
        count = self.intervals(axis)
        if not (0 < size < math.inf) or count <= 0:
            return None
        if self.by_imod and self["imodFlags"] & INVERTED_ORIGIN:
            origin = -origin
        return Scale(size / count / ANGSTROMS, "nm", origin / ANGSTROMS if math.isfinite(origin) and origin else 0.0)

    @functools.cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels that say something."""
        stored = (self.label_bytes[k : k + LABEL_BYTES] for k in range(0, len(self.label_bytes), LABEL_BYTES))
        return tuple(text for text in (label.decode("latin-1").strip("\0 ") for label in stored) if text)

    @property
    def labelled_shape(self) -> tuple[int, ...] | None:
        """Navigation shape that stands in a label, if it fits the sections."""
        found = next(filter(None, map(NAV_SHAPE.fullmatch, self.labels)), None)
        shape = tuple(map(int, found[1].split(","))) if found else ()
        return shape if found and math.prod(shape) == self["nz"] else None

    @functools.cached_property
    def record(self) -> Record | None:
        """Our own account of the image, if it stands in the labels and fits the file."""
        _, mark, text = self.label_bytes.decode("latin-1").partition(f"{KEY}=")
        found = Record.parse(text.rstrip("\0 ")) if mark else None
        if found is None or found.shape[-2:] != self.frame or math.prod(found.shape[:-2]) != self["nz"]:
            return None
        return found

    def account(self) -> dict[str, Any]:
        """All that has a name, for people."""
        named = {name: value for name, value in self.fields.items() if not name.startswith("extra")}
        return {**named, "label": list(self.labels), "endianess": self.order}

    def is_signed(self, unsigned_maker: bool = False) -> bool:
        """Whether bytes of mode 0 are signed: by IMOD's flag, by the camera's maker, by the values in the header.

        Parameters
        ----------
        unsigned_maker
            Whether the file is of a maker that writes unsigned bytes only.
        """
        if self.by_imod:
            return bool(self["imodFlags"] & SIGNED)
        low, high = self["dmin"], self["dmax"]
        if unsigned_maker or not low <= high:
            return not unsigned_maker
        if low < 0:
            return high < 128 or -low > high - 128
        return high < 128

    def pixel(self, kind: str | None = None) -> tuple[np.dtype, Decoder | None]:
        """Type of a stored pixel, and how it is decoded.

        Parameters
        ----------
        kind
            ``"u1"`` or ``"i1"`` for mode 0.
        """
        stored = np.dtype(self.order + (kind or MODES[self.mode]))
        if self.mode == NIBBLES:
            return stored, Nibbles(*self.frame)
        if self.mode == PACKED_COMPLEX:
            return np.dtype("u1"), ComplexIntegers(stored)
        return stored, None

    def stack(self, path: str, count: int, frame: tuple[int, ...] | None = None, kind: str | None = None) -> FrameStack:
        """Where the frames lie.

        Parameters
        ----------
        path
            Of the file.
        count
            Number of frames.
        frame
            Shape that frames are to have, of as many pixels as they are stored with.
        kind
            ``"u1"`` or ``"i1"`` for mode 0.
        """
        dtype, decoder = self.pixel(kind)
        colours = (3,) * (self.mode == COLOURS)
        return FrameStack.in_one_file(
            path, dtype, (*(frame or self.frame), *colours), count, offset=self.start, decoder=decoder
        )


# Reading -------------------------------------------------------------------------------------------------------------


def content_of(file: File) -> File:
    """Return the file as it is, or what is packed in it."""
    if is_packed(file) and file.read(MAP_AT, len(MAP)) != MAP:  # a width may look like the beginning of a stream
        return Unpacked(file)
    return file


def bytes_up_to(file: File, stop: int) -> int:
    """How many bytes there are, as far as `stop`."""
    return file.reach(stop) if isinstance(file, Unpacked) else min(stop, file.size)


def fields_in(raw: bytes, order: str) -> Header:
    """Read a header in a byte order, whether it makes sense or not."""
    record = np.frombuffer(raw, HEADER.newbyteorder("<" if order == "<" else ">"), 1)[0]
    return Header({name: record[name].tolist() for name, *_ in FIELDS if name != "label"}, order, raw[LABELS_AT:])


def read_header(file: File, order: str | None = None) -> Header:
    """Read and check a header.

    Parameters
    ----------
    file
        Not packed; see `content_of`.
    order
        Byte order, if it is known.

    Raises
    ------
    HeaderError, TruncatedError
        If it is none, or contradicts the file.
    """
    raw = file.read(0, HEADER.itemsize)
    if len(raw) < HEADER.itemsize:
        raise TruncatedError(f"{file}: an MRC header needs {HEADER.itemsize} bytes, but only {len(raw)} are there")
    header = in_right_order(raw, order)
    if header is None:
        raise HeaderError(f"{file}: {_complaint(raw, order)}")
    if header["nsymbt"] < 0 or bytes_up_to(file, header.start) < header.start:
        raise HeaderError(
            f"{file}: the extended header of nsymbt = {header['nsymbt']} bytes does not fit between the header and the "
            "file's end"
        )
    return header


def in_right_order(raw: bytes, order: str | None = None) -> Header | None:
    """Header in the byte order of its stamp, or in the other one if only that makes sense; `None` if neither does.

    Files of before 2000 have no stamp, and wrong stamps exist.
    """
    first = order or STAMPS.get(raw[212:214], "<")
    headers = [fields_in(raw, o) for o in ([first] if order else [first, "<" if first == ">" else ">"])]
    for sensible in (_makes_sense, _is_possible) if raw[MAP_AT : MAP_AT + len(MAP)] == MAP else (_makes_sense,):
        for header in headers:
            if sensible(header):
                return header
    return None


def _is_possible(header: Header) -> bool:
    return header["mode"] in MODES and min(header["nx"], header["ny"], header["nz"]) > 0


def _makes_sense(header: Header) -> bool:
    """Programs write 0 for unknown axes, and negative ones for inverted ones."""
    axes = (header["mapc"], header["mapr"], header["maps"])
    return _is_possible(header) and max(map(abs, axes)) <= 4 and header["nsymbt"] >= 0


def _complaint(raw: bytes, order: str | None) -> str:
    """What is wrong with a header."""
    header = fields_in(raw, order or STAMPS.get(raw[212:214], "<"))
    known = ", ".join(map(str, MODES))
    if 1000 <= header["mode"] < 10000 and header["mode"] % 1000 in MODES:
        return f"mode {header['mode']} is that of compressed MRCZ, which is not read: unpack it with the package mrcz"
    if raw[MAP_AT : MAP_AT + len(MAP)] != MAP:
        return (
            f"not an MRC file: byte {MAP_AT} holds {raw[MAP_AT : MAP_AT + 4]!r}, not 'MAP', and the header makes no "
            f"sense: nx={header['nx']}, ny={header['ny']}, nz={header['nz']}, mode={header['mode']}"
        )
    if header["mode"] not in MODES:
        return f"mode {header['mode']} is unknown, expected one of {known}"
    return f"no pixels: nx={header['nx']}, ny={header['ny']}, nz={header['nz']}"


# Planes --------------------------------------------------------------------------------------------------------------


def first_plane(file: File, storage: Storage) -> Frames:
    """Describe the first plane of an MRC file, (ny, nx), in the order in which its rows are stored.

    Dark frames and gain maps claim thousands of planes and end in leftovers of earlier ones, so nothing but the first
    plane is believed.

    Raises
    ------
    HeaderError
        If the header makes no sense in either byte order, or pixels are of a type that references do not have.
    TruncatedError
        If the plane is not complete.
    """
    header = read_header(file)
    if header.mode not in PLANES:
        raise HeaderError(f"{file}: not an MRC plane of mode {', '.join(map(str, PLANES))}, but of {header['mode']}")
    stack = plane(file, header)
    needed = header.start + stack.frame_bytes
    if file.size < needed:
        raise TruncatedError(
            f"{file}: the first plane of {header.frame} needs {needed} bytes, the file has {file.size}: pass "
            "corrections=False to read stored pixels"
        )
    return Frames(stack, Navigation.of(()), storage, file.stamp)


def plane(file: File, header: Header) -> FrameStack:
    """Where the first frame of a file lies."""
    return header.stack(file.uri, 1, kind=kind_of(file, header, None, unsigned_maker=False))


def kind_of(file: File, header: Header, dtype: str | None, unsigned_maker: bool) -> str | None:
    """Return ``"u1"`` or ``"i1"`` for mode 0: what the user says, or else the header; `None` for other modes.

    Raises
    ------
    ArgumentError
        If the user's type is no reading of the stored mode.
    """
    stored, decoder = header.pixel()
    reading = (stored if decoder is None else decoder.dtype).newbyteorder("=").name
    readings = ("int8", "uint8") if header.mode == 0 else (reading,)
    if dtype not in (None, *readings):
        raise ArgumentError(
            f"{file}: dtype={dtype!r} is no reading of mode {header['mode']}, only {' or '.join(readings)}: leave it "
            "out, and convert with image.astype"
        )
    if header.mode:
        return None
    signed = header.is_signed(unsigned_maker) if dtype is None else dtype == "int8"
    return "i1" if signed else "u1"
