"""The pieces of a TVIPS recording, their headers, and the frames and numbers in them.

Layout: docs/formats/tvips.md.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import HeaderError, MissingFileError, TruncatedError
from ..frames.files import File
from ..frames.frames import Frames
from ..frames.layout import FrameStack, Piece
from ..frames.navigation import Navigation
from ..frames.storage import Storage

SERIES_HEADER = 256
VERSION_1_FRAME_HEADER = 12
SERIES_FIELDS = (
    "ISize",
    "IVersion",
    "IXDim",
    "IYDim",
    "IBPP",
    "IXOff",
    "IYOff",
    "IXBin",
    "IYBin",
    "IPixelSize",
    "IHT",
    "IMagTotal",
    "IImgHeaderBytes",
)
FRAME_FIELDS = {
    "counter": (0, "<u4", ""),
    "time": (4, "<u4", "s"),
    "milliseconds": (8, "<u4", "ms"),
    "lut": (12, "<u4", ""),
    "faraday": (16, "<f4", ""),
    "magnification": (20, "<u4", ""),
    "mode": (24, "<u4", ""),
    "stage_x": (28, "<f4", "nm"),
    "stage_y": (32, "<f4", "nm"),
    "stage_z": (36, "<f4", "nm"),
    "stage_alpha": (40, "<f4", "degree"),
    "stage_beta": (44, "<f4", "degree"),
    "rotator": (48, "<u4", ""),
    "heating_temperature": (52, "<f4", ""),
    "heating_setpoint": (56, "<f4", ""),
    "heating_power": (60, "<f4", ""),
    "objective": (64, "<f4", ""),
    "scan_x": (68, "<f4", ""),
    "scan_y": (72, "<f4", ""),
    "bias_u_setpoint": (76, "<f4", ""),
    "bias_u": (80, "<f4", ""),
    "bias_i_setpoint": (84, "<f4", ""),
    "bias_i": (88, "<f4", ""),
    "bias_e_setpoint": (92, "<f4", ""),
    "bias_r": (96, "<f4", ""),
    "bias_limit_u": (100, "<f4", ""),
    "bias_limit_i": (104, "<f4", ""),
}
"""Facts in front of each frame: offset, type and unit. A field is there if it lies wholly within the frame header."""

NUMBERED = re.compile(r"(.*)_([0-9]{3,})(\.tvips)", re.IGNORECASE | re.DOTALL)


# The pieces ----------------------------------------------------------------------------------------------------------


def pieces_of(file: File) -> list[File]:
    """All pieces of the recording to which a file belongs, in order.

    Raises
    ------
    MissingFileError
        If one is missing: its frames would be lost, and those behind it shifted.
    HeaderError
        If two have the same number, or another recording begins in the midst.
    """
    named = NUMBERED.fullmatch(file.name)
    if named is None or not file.size:  # asking for the size refuses what is not there
        return [file]
    found = _numbered(file, named[1]) or _probed(file, named)
    numbers = [number for number, _ in found]
    twice = [b for a, b in itertools.pairwise(found) if a[0] == b[0]]
    if twice:
        raise HeaderError(f"{file}: there are several pieces number {twice[0][0]}, such as {twice[0][1].name}")
    if numbers != list(range(len(numbers))):
        missing = next(k for k, number in enumerate([*numbers, -1]) if k != number)
        raise MissingFileError(
            f"{numbered_piece(file, named, missing)}: this piece of the recording is missing, and "
            f"{found[-1][1].name} is there: put it there, or read a single piece that has a header with "
            "disable_glob=True"
        )
    files = [piece for _, piece in found]
    for piece in files[1:]:
        if _impossible(_series_fields(piece)) is None:
            raise HeaderError(
                f"{piece}: begins with a header of its own, so it belongs to another recording than {files[0].name}: "
                "rename it, or read it alone with disable_glob=True"
            )
    return files


def numbered_piece(file: File, named: re.Match[str], number: int) -> File:
    """Piece of another number, spelt as the name of one piece is."""
    return file.sibling(f"{named[1]}_{number:0{len(named[2])}}{named[3]}")


def _numbered(file: File, stem: str) -> list[tuple[int, File]]:
    """Pieces in the folder, by number; names are compared whole, because stems may hold anything."""
    matches = [(NUMBERED.fullmatch(name), name) for name in file.neighbours]
    found = [(int(m[2]), file.sibling(name)) for m, name in matches if m and m[1] == stem]
    return sorted(found, key=lambda piece: (piece[0], piece[1].name))


def _probed(file: File, named: re.Match[str]) -> list[tuple[int, File]]:
    """Pieces where folders cannot be listed (web servers): asked for one by one."""
    found = {int(named[2]): file}
    pieces = (numbered_piece(file, named, n) for n in itertools.count())
    present = itertools.takewhile(lambda piece: piece.uri == file.uri or piece.exists(), pieces)
    return sorted((found | dict(enumerate(present))).items())


# The headers ---------------------------------------------------------------------------------------------------------


def _series_fields(file: File) -> dict[str, int]:
    raw = file.read(0, 4 * len(SERIES_FIELDS))
    values = np.frombuffer(raw[: len(raw) // 4 * 4], "<i4").tolist()
    return dict(zip(SERIES_FIELDS, values, strict=False))


def _impossible(header: dict[str, int]) -> str | None:
    """Say what is wrong with a series header; `None` if nothing is."""
    if header.get("ISize") != SERIES_HEADER:
        return f"it begins with {header.get('ISize')}, expected ISize = {SERIES_HEADER}"
    if header.get("IVersion") not in (1, 2):
        return f"IVersion is {header.get('IVersion')}, expected 1 or 2"
    if header.get("IBPP") not in (8, 16, 32, 64):
        return f"IBPP (bits per pixel) is {header.get('IBPP')}, expected 8, 16, 32 or 64"
    if header.get("IXDim", 0) <= 0 or header.get("IYDim", 0) <= 0:
        return f"frames of IXDim x IYDim = {header.get('IXDim')} x {header.get('IYDim')} pixels cannot be"
    if header["IVersion"] == 2 and header.get("IImgHeaderBytes", 0) < VERSION_1_FRAME_HEADER:
        return f"IImgHeaderBytes is {header.get('IImgHeaderBytes')}, expected at least {VERSION_1_FRAME_HEADER}"
    return None


def read_header(file: File) -> dict[str, Any]:
    """Every field of the series header under its name, the text that fills it up, and the size of frame headers.

    Raises
    ------
    HeaderError, TruncatedError
        If this is no TVIPS stream, or the header is impossible.
    """
    header: dict[str, Any] = dict(_series_fields(file))
    wrong = _impossible(header)
    if wrong is not None and len(header) == len(SERIES_FIELDS):
        raise HeaderError(f"{file}: not the beginning of a TVIPS stream: {wrong}")
    raw = file.read_exactly(0, SERIES_HEADER, "TVIPS series header")
    header["filler"] = raw[4 * len(SERIES_FIELDS) :].rstrip(b"\0 ").decode("latin-1")
    version_1 = header["IVersion"] == 1
    return {**header, "frame_header_bytes": VERSION_1_FRAME_HEADER if version_1 else header["IImgHeaderBytes"]}


# The frames ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recording:
    """The frames of all pieces, and the numbers in front of them.

    Parameters
    ----------
    pieces
        Where frames lie.
    header_bytes, frame_bytes
        Of each frame.
    storage
        How bytes are fetched.
    stamps
        State of the files.
    """

    pieces: tuple[Piece, ...]
    header_bytes: int
    frame_bytes: int
    storage: Storage
    stamps: tuple[object, ...]

    @classmethod
    def of(cls, files: list[File], header: dict[str, Any], storage: Storage) -> Recording:
        """Count the frames of each file.

        Raises
        ------
        TruncatedError
            If there are none, or the last one of a file is cut off.
        """
        frame_bytes = header["IXDim"] * header["IYDim"] * header["IBPP"] // 8
        header_bytes = header["frame_header_bytes"]
        stride = header_bytes + frame_bytes
        pieces = []
        for number, file in enumerate(files):
            start = 0 if number else SERIES_HEADER
            count, rest = divmod(file.size - start, stride)
            if rest and not count:
                raise TruncatedError(
                    f"{file}: a frame of IXDim x IYDim = {header['IXDim']} x {header['IYDim']} pixels behind a header "
                    f"of {header_bytes} bytes takes {stride} bytes, but only {rest} are there"
                )
            if rest:
                raise TruncatedError(
                    f"{file}: has {file.size - start} bytes of frames of {stride} bytes, so only {count} are whole: "
                    "the recording was cut off. What is there can be read with format='raw', "
                    f"dtype='uint{header['IBPP']}', sig_shape=({header['IYDim']}, {header['IXDim']}), "
                    f"file_header={start}, frame_header={header_bytes} and nav_shape=({count},)"
                )
            if count:
                pieces.append(Piece(file.uri, start, count))
        if not pieces:
            raise TruncatedError(f"{files[0]}: holds no frame behind its header of {SERIES_HEADER} bytes")
        return cls(tuple(pieces), header_bytes, frame_bytes, storage, tuple(f.stamp for f in files))

    @property
    def count(self) -> int:
        """Number of frames."""
        return sum(piece.count for piece in self.pieces)

    def has(self, *names: str) -> bool:
        """Whether frame headers are long enough for some fields; what is behind them are pixels."""
        return all(FRAME_FIELDS[n][0] + np.dtype(FRAME_FIELDS[n][1]).itemsize <= self.header_bytes for n in names)

    def pixels(self, dtype: np.dtype, shape: tuple[int, ...]) -> Frames:
        """Return the frames, one after the other."""
        return self._frames(FrameStack(self.pieces, dtype, shape, frame_header=self.header_bytes))

    def field(self, name: str) -> Frames:
        """Return a number of every frame."""
        offset, dtype, _ = FRAME_FIELDS[name]
        return self._numbers(offset, np.dtype(dtype))

    def clock(self) -> Frames:
        """Seconds and milliseconds of every frame, as one number: milliseconds are its upper half."""
        return self._numbers(FRAME_FIELDS["time"][0], np.dtype("<u8"))

    def _numbers(self, offset: int, dtype: np.dtype) -> Frames:
        footer = self.header_bytes + self.frame_bytes - offset - dtype.itemsize
        return self._frames(FrameStack(self.pieces, dtype, (), frame_header=offset, frame_footer=footer))

    def _frames(self, stack: FrameStack) -> Frames:
        return Frames(stack, Navigation.of((stack.count,)), self.storage, self.stamps)

    def first_frame(self) -> dict[str, Any]:
        """All numbers in front of the first frame."""
        return {name: self.field(name)[0].item() for name in FRAME_FIELDS if self.has(name)}
