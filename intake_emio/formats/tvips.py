"""TVIPS streams (.tvips): movies and scans of TVIPS cameras, in one piece or several.

Layout and quirks: docs/formats/tvips.md.
"""

from __future__ import annotations

import itertools
import math
import re
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from .. import arguments
from ..axes import Calibration, Scale, default_axes
from ..errors import ArgumentError, EmioWarning, HeaderError, MissingFileError, TruncatedError
from ..frames.files import File
from ..frames.frames import Frames
from ..frames.layout import FrameStack, Piece
from ..frames.navigation import Navigation, navigate
from ..frames.picked import Picked
from ..frames.pixels import Pixels
from ..frames.storage import Storage
from ..frames.views import Mapped
from ..image import Image, Variable
from ..source import ImageSource

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

IMAGING, DIFFRACTION = 1, 2
START_WITHIN = 4096  # frames in which a scan must have begun, as in LiberTEM
LONGEST_LINE = 65536
MOST_DROPPED = 16  # so many times fewer frames than the rotator counts are not a scan
NUMBERED = re.compile(r"(.*)_([0-9]{3,})(\.tvips)", re.IGNORECASE | re.DOTALL)


class TvipsSource(ImageSource):
    """TVIPS stream: a series `i` of images `yx`, or a scan `yx` of patterns `vu`, with the `time` of each frame.

    Parameters
    ----------
    uri
        Path or URL of any piece of a recording.
    sync_offset
        As everywhere; default: where the scan begins, if frames have scan positions, else 0.
    scan_shape
        The same as `nav_shape`; or ``"auto"``: a square scan is put together by the rotator index of the frames.
    scan_start_frame
        Frames to skip: the same as a positive `sync_offset`.
    winding_scan_axis
        ``"x"`` or ``"y"``: rows (columns) 0, 2, 4 ... of the scan run backwards.
    hysteresis
        Points by which those rows (columns) are rolled.
    disable_glob
        Read only the given file, even if its name is numbered.
    frame_facts
        Names of numbers in the frame headers that become coordinates beside `time`, such as ``["stage_alpha"]``.
    **common
        See `ImageSource`.

    Raises
    ------
    HeaderError
        If this is no TVIPS stream, its header is impossible, or pieces do not belong together.
    MissingFileError
        If a piece is missing.
    TruncatedError
        If a piece does not hold whole frames.
    ArgumentError
        If arguments contradict each other, or do not fit the recording.

    Notes
    -----
    Sources of the facts: LiberTEM, RosettaSciIO, TVIPSconverter.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "movie_000.tvips"
    >>> header = np.zeros(64, "<i4")
    >>> header[:5] = 256, 1, 3, 2, 8
    >>> _ = path.write_bytes(header.tobytes() + bytes(5 * (12 + 2 * 3)))
    >>> TvipsSource(path).to_dask().image.sizes
    Frozen({'i': 5, 'y': 2, 'x': 3})
    """

    name = "emio_tvips"
    format_name = "tvips"

    def __init__(
        self,
        uri: Any,
        *,
        nav_shape: Any = None,
        sync_offset: Any = None,
        scan_shape: Any = None,
        scan_start_frame: Any = 0,
        winding_scan_axis: str | None = None,
        hysteresis: Any = 0,
        disable_glob: Any = False,
        frame_facts: Any = (),
        **common: Any,
    ):
        super().__init__(uri, nav_shape=nav_shape, sync_offset=sync_offset, **common)
        if sync_offset is None:
            self.sync_offset = None  # type: ignore[assignment]  # to be found
        automatic = isinstance(scan_shape, str) and scan_shape.strip().lower() == "auto"
        self.scan_shape: Any = "auto" if automatic else arguments.shape("scan_shape", scan_shape)
        self.scan_start_frame = arguments.number("scan_start_frame", scan_start_frame, least=0)
        self.winding_scan_axis = arguments.choice("winding_scan_axis", winding_scan_axis, (None, "x", "y"))
        self.hysteresis = arguments.number("hysteresis", hysteresis)
        self.disable_glob = arguments.flag("disable_glob", disable_glob)
        self.frame_facts = tuple(arguments.choice("frame_facts", n, tuple(FRAME_FIELDS)) for n in _names(frame_facts))
        if self.nav_shape and self.scan_shape and self.nav_shape != self.scan_shape:
            raise ArgumentError(
                f"scan_shape={scan_shape!r} and nav_shape={nav_shape!r} contradict each other: pass one"
            )
        if self.sync_offset is not None and self.scan_start_frame not in (0, self.sync_offset):
            raise ArgumentError(
                f"scan_start_frame={scan_start_frame} and sync_offset={sync_offset} contradict each other: pass one"
            )

    def parse(self, file: File) -> Image:
        """Describe a recording from the headers of its pieces and frames."""
        pieces = [file] if self.disable_glob else pieces_of(file)
        header = read_header(pieces[0])
        frames = Recording.of(pieces, header, self.storage())
        navigation, points = self._arranged(pieces[0], frames)

        def shown(pixels: Frames) -> Pixels:
            return pixels.along(navigation) if points is None else Picked(pixels, points)

        frame = self._frame_shape(pieces[0], header)
        nav = navigation.shape if points is None else points.shape
        axes = self._given_metadata.get("axes") or default_axes(len(nav), len(frame))
        first = frames.first_frame()
        return Image(
            shown(frames.pixels(_pixel_type(header), frame)),
            axes,
            calibration=_detector(header, first, axes) if frame == (header["IYDim"], header["IXDim"]) else {},
            header={**header, "frame_header": first, "pieces": len(pieces)},
            acquisition=_acquisition(header, first),
            facts={
                name: Variable(shown(field) if name != "time" else _time(shown(field), first), axes[: len(nav)], attrs)
                for name, field, attrs in self._facts(pieces[0], frames)
            },
        )

    def _frame_shape(self, file: File, header: dict[str, Any]) -> tuple[int, ...]:
        shape = (header["IYDim"], header["IXDim"])
        if self.sig_shape is not None and math.prod(self.sig_shape) != math.prod(shape):
            raise ArgumentError(
                f"{file}: sig_shape={self.sig_shape} does not hold the {math.prod(shape)} pixels of a {shape} frame"
            )
        return self.sig_shape or shape

    def _facts(self, file: File, frames: Recording) -> list[tuple[str, Frames, dict[str, str]]]:
        """Per-frame numbers that become coordinates: name, where they lie, attributes."""
        facts = [("time", frames.clock(), {"units": "s"})]
        for name in self.frame_facts:
            if not frames.has(name):
                raise ArgumentError(
                    f"{file}: frame_facts names {name!r}, but frame headers of {frames.header_bytes} bytes hold only "
                    f"{', '.join(n for n in FRAME_FIELDS if frames.has(n))}"
                )
            units = FRAME_FIELDS[name][2]
            if name != "time":
                facts.append((name, frames.field(name), {"units": units} if units else {}))
        return facts

    # Which frame each point shows -------------------------------------------------------------------------------------

    def _arranged(self, file: File, frames: Recording) -> tuple[Navigation, np.ndarray | None]:
        """Navigation over the frames; and a table of their numbers, where counting does not do."""
        if self.scan_shape == "auto":
            if self.sync_offset is not None:
                raise ArgumentError(f"{file}: scan_shape='auto' finds the start of the scan: leave out sync_offset")
            navigation, points = Navigation.of((frames.count,)), by_rotator(file, frames)
            return navigation, self._unwound(file, points)
        navigation = self._counted(file, frames)
        if self.winding_scan_axis is None:
            return navigation, None
        points = navigation.first + np.arange(navigation.points).reshape(navigation.shape)
        points[points >= frames.count] = -1
        return Navigation.of((frames.count,)), self._unwound(file, np.maximum(points, -1))

    def _counted(self, file: File, frames: Recording) -> Navigation:
        given = self.nav_shape or self.scan_shape
        sync_offset = self.scan_start_frame or None if self.sync_offset is None else self.sync_offset
        scan = None if given and sync_offset is not None else find_scan(frames)
        shape = scan.shape if scan and scan.shape else (frames.count,)
        if sync_offset is None:
            sync_offset = scan.start if scan and (given or scan.shape) else 0
        return navigate(file, frames.count, shape, nav_shape=given, sync_offset=sync_offset)

    def _unwound(self, file: File, points: np.ndarray) -> np.ndarray:
        """Put a scan without fly-back in order: every other line backwards, and rolled."""
        if self.winding_scan_axis is None:
            return points
        if points.ndim < 2:
            raise ArgumentError(
                f"{file}: winding_scan_axis needs a scan of two axes, but this is a series of {points.size} frames: "
                "pass nav_shape="
            )
        lines = points if self.winding_scan_axis == "x" else points.swapaxes(-1, -2)
        lines[..., ::2, :] = np.roll(lines[..., ::2, ::-1], self.hysteresis, axis=-1)
        return points


def is_tvips(file: File) -> bool:
    """Whether a file has the extension, and a series header; later pieces have none, so their first one is asked."""
    if file.extension != ".tvips":
        return False
    named = NUMBERED.fullmatch(file.name)
    first = file.sibling(f"{named[1]}_{0:0{len(named[2])}}{named[3]}") if named else file
    return _begins(file) or _begins(first)


def _begins(file: File) -> bool:
    try:
        return file.exists() and file.read(0, 4) == SERIES_HEADER.to_bytes(4, "little")
    except OSError:  # a folder of that name
        return False


# The files -----------------------------------------------------------------------------------------------------------


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
        name = f"{named[1]}_{missing:0{len(named[2])}}{named[3]}"
        raise MissingFileError(
            f"{file.sibling(name)}: this piece of the recording is missing, and {found[-1][1].name} is there: put it "
            "there, or read a single piece that has a header with disable_glob=True"
        )
    files = [piece for _, piece in found]
    for piece in files[1:]:
        if _impossible(_series_fields(piece)) is None:
            raise HeaderError(
                f"{piece}: begins with a header of its own, so it belongs to another recording than {files[0].name}: "
                "rename it, or read it alone with disable_glob=True"
            )
    return files


def _numbered(file: File, stem: str) -> list[tuple[int, File]]:
    """Pieces in the folder, by number; names are compared whole, because stems may hold anything."""
    matches = [(NUMBERED.fullmatch(name), name) for name in file.neighbours]
    found = [(int(m[2]), file.sibling(name)) for m, name in matches if m and m[1] == stem]
    return sorted(found, key=lambda piece: (piece[0], piece[1].name))


def _probed(file: File, named: re.Match[str]) -> list[tuple[int, File]]:
    """Pieces where folders cannot be listed (web servers): asked for one by one."""
    found = {int(named[2]): file}
    pieces = (file.sibling(f"{named[1]}_{n:0{len(named[2])}}{named[3]}") for n in itertools.count())
    present = itertools.takewhile(lambda piece: piece.uri == file.uri or piece.exists(), pieces)
    return sorted((found | dict(enumerate(present))).items())


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


def _pixel_type(header: dict[str, Any]) -> np.dtype:
    return np.dtype(f"<u{header['IBPP'] // 8}")


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


# Scans by their positions --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scan:
    """A scan in a recording: its first frame, and its shape if that is known."""

    start: int
    shape: tuple[int, int] | None


def find_scan(frames: Recording) -> Scan | None:
    """Find a scan by the positions in front of the frames, reading as few as possible.

    The recorder runs before the scan begins, while the beam waits at (0, 0); the scan starts with the last frame there.
    """
    if not frames.has("scan_x", "scan_y"):
        return None
    start = _start_of_scan(frames)
    if start is None:
        return None
    line = _first_line(frames, start)
    if line is None:
        return Scan(start, None)
    end, nx = line
    rows = min((frames.count - start) // nx, _rows_reached(frames, end))
    return Scan(start, (max(1, rows), nx))


def _positions(frames: Recording, start: int, stop: int) -> np.ndarray:
    """Whole parts of the scan positions (y, x) of some frames, shape (2, n); NaN stays."""
    return np.floor(np.stack([frames.field(name)[start:stop] for name in ("scan_y", "scan_x")]))


def _start_of_scan(frames: Recording) -> int | None:
    """Frame at (0, 0) in front of the first one at (0, 1)."""
    for begin, end in _blocks(0, min(frames.count, START_WITHIN)):
        y, x = _positions(frames, max(0, begin - 1), end)
        found = np.flatnonzero((y[:-1] == 0) & (x[:-1] == 0) & (y[1:] == 0) & (x[1:] == 1))
        if len(found):
            return max(0, begin - 1) + int(found[0])
    return None


def _first_line(frames: Recording, start: int) -> tuple[int, int] | None:
    """First frame behind the first line, where x falls, and the length of that line."""
    longest = 0.0
    for begin, end in _blocks(start + 1, min(frames.count, start + 1 + LONGEST_LINE)):
        _, x = _positions(frames, begin - 1, end)
        falls = np.flatnonzero(x[1:] < x[:-1])
        longest = float(np.fmax.reduce(x[: falls[0] + 1] if len(falls) else x, initial=longest))
        if len(falls):
            return (begin + int(falls[0]), int(longest) + 1) if longest < frames.count else None
    return None


def _rows_reached(frames: Recording, second_line: int) -> int:
    """Number of rows that the scan reached: by its end, the beam may be back at (0, 0)."""

    def y_of(frame: int) -> float:
        return float(_positions(frames, frame, frame + 1)[0, 0])

    low, high = second_line, frames.count - 1
    if y_of(high) > 0:
        return _whole_rows(y_of(high))
    if not y_of(low) > 0:
        return 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if y_of(middle) > 0 else (low, middle)
    return _whole_rows(y_of(low))


def _whole_rows(y: float) -> int:
    return int(y) + 1 if math.isfinite(y) else 2**63


def _blocks(start: int, stop: int) -> list[tuple[int, int]]:
    """Cut a range of frames into blocks that double in size: what is sought is mostly near the beginning."""
    borders, size = [start], 64
    while borders[-1] < stop:
        borders.append(min(stop, borders[-1] + size))
        size *= 2
    return list(itertools.pairwise(borders))


# Scans by the rotator index ------------------------------------------------------------------------------------------


def by_rotator(file: File, frames: Recording) -> np.ndarray:
    """Frame of each point of a square scan, by the index that counts its points in the frame headers.

    Raises
    ------
    HeaderError
        If there is no such index, it never rises, or the scan is not square.
    """
    if not frames.has("rotator"):
        raise HeaderError(
            f"{file}: frame headers of {frames.header_bytes} bytes hold no rotator index, so scan_shape='auto' finds "
            "nothing: pass nav_shape="
        )
    index = frames.field("rotator")[...].astype("i8")  # signed: what falls must not seem to rise
    rises = np.flatnonzero(np.diff(index) > 0)
    if not len(rises):
        raise HeaderError(f"{file}: the rotator index never rises, so scan_shape='auto' finds no scan: pass nav_shape=")
    start, end = int(rises[0]), int(rises[-1]) + 1
    start += int(index[start] == 0)
    points = int(index[end])
    side = math.isqrt(points)
    if side * side != points or points > MOST_DROPPED * frames.count:
        raise HeaderError(
            f"{file}: the rotator index ends at {points} after {frames.count} frames, and scan_shape='auto' needs the "
            "points of a square scan: pass nav_shape="
        )
    table = _fill_positions(index[start : end + 1], points)
    missing = int((table < 0).sum())
    if missing:
        warnings.warn(f"{file}: {missing} of {points} points of the scan have no frame and stay blank", EmioWarning, 3)
    return np.where(table < 0, -1, table + start).reshape(side, side)


def _fill_positions(index: np.ndarray, points: int) -> np.ndarray:
    """Number of the frame for each of the positions 1 to `points`; -1 where there is none.

    Frames of one index serve the positions up to the next index in turn, the last of them again and again if there are
    too few (frames were dropped). What is left over is ignored.
    """
    table = np.full(points, -1)
    borders = [0, *(np.flatnonzero(np.diff(index)) + 1).tolist(), len(index)]
    for first, behind in itertools.pairwise(borders):
        low = int(index[first])
        high = int(index[behind]) if behind < len(index) else low + 1
        positions = np.arange(max(low, 1), min(high, points + 1))
        table[positions - 1] = np.minimum(first + positions - low, behind - 1)
    return table


# Calibration and facts -----------------------------------------------------------------------------------------------


def _detector(header: dict[str, Any], first: dict[str, Any], axes: str) -> dict[str, Calibration]:
    """Step of the image, rounded, 0 if unknown: HyperSpy stores it where cameras have the pitch of their sensor."""
    units = {IMAGING: "nm", DIFFRACTION: "1/nm"}.get(first.get("mode", 0))
    step = header["IPixelSize"]
    if "HYPERSPY" not in header["filler"] or step <= 0 or units is None:
        return {}
    origins = (header["IYOff"], header["IXOff"])
    return {a: Scale(float(step), units, float(o)) for a, o in zip(axes[-2:], origins, strict=True)}


def _acquisition(header: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    mode, total = first.get("mode"), header["IMagTotal"]
    stage = {n: first.get(f"stage_{n}") for n in ("x", "y", "z", "alpha", "beta")}
    camera = "HYPERSPY" not in header["filler"]
    facts = {
        "start_time": _start_time(first),
        "beam_energy": max(0, header["IHT"]),
        "magnification": total if mode == IMAGING and total > 0 else None,
        "camera_length": total if mode == DIFFRACTION and total > 0 else None,
        "binning": [header["IYBin"], header["IXBin"]] if min(header["IYBin"], header["IXBin"]) > 0 else None,
        "stage": stage if None not in stage.values() else None,
        "detector_pixel_size": max(0, header["IPixelSize"]) if camera else None,  # nm
    }
    return {name: fact for name, fact in facts.items() if fact}


def _start_time(first: dict[str, Any]) -> str | None:
    if not first["time"]:
        return None
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=first["time"], milliseconds=first["milliseconds"])
    return moment.isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Elapsed:
    """Seconds since a moment, from seconds and milliseconds in one number."""

    seconds: int
    milliseconds: int

    def __call__(self, clock: np.ndarray, out: np.ndarray) -> None:
        """Convert."""
        seconds = (clock & np.uint64(0xFFFFFFFF)).astype("i8") - self.seconds
        milliseconds = (clock >> np.uint64(32)).astype("i8") - self.milliseconds
        np.divide(seconds * 1000 + milliseconds, 1000, out=out)


def _time(clock: Pixels, first: dict[str, Any]) -> Pixels:
    """Time of each frame since the first one of the recording, in s."""
    return Mapped(clock, Elapsed(first["time"], first["milliseconds"]), np.dtype("f8"), blank_value=math.nan)


def _names(given: Any) -> list[str]:
    return [] if given is None else [str(name) for name in arguments.members(given)]
