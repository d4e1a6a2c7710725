"""PNDetector pnCCD cameras (.frms6): a text header, a file of dark frames, and any number of signal files.

Layout and quirks: docs/formats/frms6.md.
"""

from __future__ import annotations

import configparser
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from .. import arguments
from ..axes import default_axes
from ..errors import ArgumentError, HeaderError, MissingFileError, TruncatedError
from ..frames.corrections import Corrections, Reference
from ..frames.decoders import Folded, Moments
from ..frames.files import File, normalise
from ..frames.frames import Frames
from ..frames.layout import FrameStack, Piece
from ..frames.navigation import Navigation, check_sync_offset, navigate
from ..frames.reduced import FrameMean
from ..image import Image, Variable
from ..source import ImageSource
from ._gain_map import GainMap

MAGIC = b"\x00\x04\x40\x00"  # sizes of the two headers, 1024 and 64
VERSION = 6
PIXEL = np.dtype("<u2")  # old C headers say signed; LiberTEM and stemtool agree on unsigned
FILE_HEADER = np.dtype(
    [
        ("header_size", "<u2"),
        ("frame_header_size", "<u2"),
        ("ccds", "u1"),
        ("old_width", "u1"),  # low bytes only
        ("old_height", "u1"),
        ("version", "u1"),
        ("id", "S80"),
        ("width", "<u2"),
        ("height", "<u2"),
        ("reserved", "V928"),
        ("frames", "<u4"),
    ]
)
FRAME_HEADER = np.dtype(
    [
        ("old_start", "u1"),
        ("info", "u1"),
        ("ccd", "u1"),
        ("old_height", "u1"),
        ("seconds", "<u4"),
        ("microseconds", "<u4"),
        ("number", "<u4"),
        ("temperature", "<f8"),
        ("start", "<u2"),
        ("lines", "<u2"),
        ("trigger", "<u4"),
        ("bunch", "<u8"),
        ("reserved", "V24"),
    ]
)
PACKED = 0x02  # bit of `info`: pixels of 12 bits
TIME = np.dtype([("s", "<u4"), ("us", "<u4")])
NUMBERED = re.compile(r"(?P<base>.+)_(?P<number>[0-9]+)\.frms6", re.IGNORECASE | re.DOTALL)
SECTION = "measurementInfo"
SCAN_SIZE = re.compile(r"([0-9]+)\s*x\s*([0-9]+)", re.IGNORECASE)
BINNING = re.compile(r"\bbin\s*:\s*([^,\s]+)", re.IGNORECASE)
LARGEST_HDR = 1 << 20
LARGEST_SCAN = 1 << 31
MOST_ROWS = 1 << 16
Settings = Mapping[str, Mapping[str, str]]  # keys by section


class Frms6Source(ImageSource):
    """Data set of a pnCCD camera as a scan `yx` of frames `vu`, opened by its .hdr or any of its .frms6 files.

    Parameters
    ----------
    uri
        Path or URL of one of the files.
    enable_offset_correction
        Whether the mean of the dark frames (file number 0) is subtracted; pixels are then float32.
    gain_map_path
        Map of factors for the pixels, in the shape of a frame: a MATLAB file (.mat) with the variable ``GainMap``, or
        semicolon-separated text (.csv) whose lines are columns. Pixels are then float32.
    dest_dtype
        Accepted for compatibility: makes no difference.
    **common
        See `ImageSource`. ``corrections=False`` overrides both corrections, a mapping replaces them.

    Raises
    ------
    HeaderError, TruncatedError, MissingFileError
        If the set is incomplete, or its files are broken or contradict each other.
    ArgumentError
        If an argument does not fit the frames, or a correction is asked for without its file.

    Notes
    -----
    No vendor document is public. Sources of the facts: LiberTEM, stemtool, and the reader of the same cameras at LCLS.

    Examples
    --------
    >>> Frms6Source("scan_001.frms6", enable_offset_correction="false").enable_offset_correction
    False
    """

    name = "emio_frms6"
    format_name = "frms6"

    def __init__(
        self,
        uri: Any,
        *,
        enable_offset_correction: Any = True,
        gain_map_path: Any = None,
        dest_dtype: Any = None,
        **common: Any,
    ):
        super().__init__(uri, **common)
        self.enable_offset_correction = arguments.flag("enable_offset_correction", enable_offset_correction)
        self.gain_map_path = None if gain_map_path is None else normalise(gain_map_path)
        self.dest_dtype = dest_dtype
        if dest_dtype is not None:
            warnings.warn("dest_dtype is deprecated and makes no difference: use .astype()", FutureWarning, 2)

    def parse(self, file: File) -> Image:
        """Describe a data set from its .hdr and the headers of its files."""
        files = FileSet.around(file)
        settings = read_hdr(files.hdr)
        signal = [FrameFile.read(f) for f in files.signal]
        stored, binning = _common_shape(signal), _binning(files.hdr, settings)
        folded = Folded(PIXEL, *stored, repeat=binning)
        if folded.shape[0] > MOST_ROWS:
            raise HeaderError(f"{files.hdr}: bin = {binning} makes frames of {folded.shape}, which no sensor has")
        frames = _stack(signal, folded, self._frame_shape(file, folded))
        navigation = self._navigation(files.hdr, settings, frames.count)
        axes = default_axes(len(navigation.shape), len(frames.frame_shape))
        return Image(
            self._seen(frames, navigation, signal),
            axes,
            header=_header(settings, signal),
            acquisition=_acquisition(settings, signal),
            facts=self._times(frames, navigation, signal, axes[: len(navigation.shape)]),
            corrections=self._shipped(files, folded) if self.own_corrections else None,
            stored_frame=folded.shape,
        )

    def _frame_shape(self, file: File, folded: Folded) -> tuple[int, ...]:
        if self.sig_shape is None:
            return folded.shape
        if math.prod(self.sig_shape) != math.prod(folded.shape):
            raise ArgumentError(
                f"{file}: sig_shape={self.sig_shape} does not hold the {math.prod(folded.shape)} pixels of a "
                f"{folded.shape} frame"
            )
        return self.sig_shape

    def _navigation(self, hdr: File, settings: Settings, count: int) -> Navigation:
        scan = _scan(hdr, settings)
        grid = self.nav_shape or scan
        if math.prod(grid) > LARGEST_SCAN:
            raise HeaderError(
                f"{hdr}: a scan of {grid} has {math.prod(grid)} points, but there are {count} frames: pass the right "
                "nav_shape="
            )
        if not count:
            raise HeaderError(f"{hdr}: the signal files hold no frames")
        check_sync_offset(hdr, self.sync_offset, count)
        return navigate(hdr, count, scan, nav_shape=self.nav_shape, sync_offset=self.sync_offset)

    def _seen(self, stack: FrameStack, navigation: Navigation, files: list[FrameFile]) -> Frames:
        return Frames(stack, navigation, self.storage(), tuple(f.file.stamp for f in files))

    def _times(
        self, frames: FrameStack, navigation: Navigation, signal: list[FrameFile], axes: str
    ) -> dict[str, Variable]:
        """Return when each frame was taken, from the frame headers."""
        if not axes:
            return {}
        before = _offset_of("seconds")
        stamps = FrameStack(
            frames.pieces,
            np.dtype("u1"),
            (),
            frame_header=before,
            frame_footer=frames.stride - before - TIME.itemsize,
            decoder=Moments(TIME),
        )
        return {"time": Variable(self._seen(stamps, navigation, signal), axes)}

    def _shipped(self, files: FileSet, folded: Folded) -> Corrections:
        """Return dark and gain as far as they are wanted; other files are not even opened."""
        dark = self._dark(files, folded) if self.enable_offset_correction else None
        gain = None
        if self.gain_map_path is not None:
            map_file = File(self.gain_map_path, self.storage_options)
            gain = Reference(GainMap.of(map_file, folded.shape), map_file.name)
        return Corrections(dark, gain)

    def _dark(self, files: FileSet, folded: Folded) -> Reference:
        """Mean of all dark frames, computed when the first pixel is read."""
        if files.dark is None:
            raise MissingFileError(
                f"{files.hdr}: there are no dark frames ({files.hdr.stem}_000.frms6) to correct with: pass "
                "enable_offset_correction=False"
            )
        dark = FrameFile.read(files.dark)
        if dark.shape != (folded.rows, folded.columns):
            raise HeaderError(
                f"{dark.file}: stores frames of {dark.shape}, the signal files of {(folded.rows, folded.columns)}: "
                "pass enable_offset_correction=False"
            )
        if not dark.count:
            raise HeaderError(f"{dark.file}: holds no frames: pass enable_offset_correction=False")
        frames = self._seen(_stack([dark], folded, folded.shape), Navigation.of((dark.count,)), [dark])
        return Reference(FrameMean(frames), dark.file.name)


def is_frms6(file: File) -> bool:
    """Whether a file is the text header of a data set; many formats have some .hdr, so look inside."""
    return file.extension == ".hdr" and f"[{SECTION}]".encode() in file.read(0, 1 << 16)


# The files -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileSet:
    """The files of one data set.

    Parameters
    ----------
    hdr
        Text header.
    dark
        File number 0, if there is one.
    signal
        Files 1, 2 …, in this order.
    """

    hdr: File
    dark: File | None
    signal: tuple[File, ...]

    @classmethod
    def around(cls, file: File) -> FileSet:
        """Find the others by the name of one: ``<base>.hdr`` or ``<base>_<number>.frms6``.

        Raises
        ------
        HeaderError
            If the name is no such name, or there is a gap in the numbers.
        MissingFileError
            If the file does not exist, or there is no .hdr or no signal file.
        """
        file.size  # noqa: B018  raises if it does not exist
        numbered = NUMBERED.fullmatch(file.name)
        if not numbered and file.extension != ".hdr":
            raise HeaderError(
                f"{file}: the name is neither <base>.hdr nor <base>_<number>.frms6, so the other files of the set "
                "cannot be found"
            )
        base = numbered["base"] if numbered else file.stem
        hdr = file if not numbered else _text_header(file, base)
        by_number = _numbered(file, base)
        signal = [number for number in sorted(by_number) if number]
        if not signal:
            raise MissingFileError(f"{file}: there is no signal file {base}_001.frms6 beside it")
        gap = next((n for n, found in enumerate(signal, 1) if n != found), None)
        if gap:
            raise HeaderError(
                f"{file}: signal file number {gap} is missing, but there is {by_number[signal[-1]].name}: frames "
                "behind the gap would move"
            )
        return cls(hdr, by_number.get(0), tuple(by_number[n] for n in signal))


def _text_header(file: File, base: str) -> File:
    names = (name for name in file.neighbours if name[: len(base)] == base and name[len(base) :].lower() == ".hdr")
    name = next(names, None)
    if name is None:
        raise MissingFileError(f"{file}: there is no {base}.hdr beside it, which says how the scan was made")
    return file.sibling(name)


def _numbered(file: File, base: str) -> dict[int, File]:
    """Return the .frms6 files of a base by their numbers; names of other sets may begin alike."""
    found: dict[int, File] = {}
    for name in file.neighbours:
        match = NUMBERED.fullmatch(name)
        if match and match["base"] == base:
            number = int(match["number"])
            if number in found:
                raise HeaderError(f"{file}: {found[number].name} and {name} beside it have the same number")
            found[number] = file.sibling(name)
    return found


# The text header -----------------------------------------------------------------------------------------------------


def read_hdr(file: File) -> Settings:
    """Every section of a .hdr with its keys, as they are written.

    Raises
    ------
    HeaderError
        If it is not such a text.
    """
    if file.size > LARGEST_HDR:
        raise HeaderError(f"{file}: {file.size} bytes are too many for a text header")
    raw = file.read(0, file.size)
    if b"\0" in raw:
        raise HeaderError(f"{file}: not a text header: it holds zero bytes")
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True, default_section="")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string("\n".join(line.strip() for line in _decoded(raw).splitlines()))
    except configparser.Error as error:
        raise HeaderError(f"{file}: not a text header with sections: {error}") from error
    if not parser.has_section(SECTION):
        raise HeaderError(f"{file}: has no section [{SECTION}], only {parser.sections()}")
    return {section: {key: value or "" for key, value in parser.items(section)} for section in parser.sections()}


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _setting(settings: Settings, key: str) -> str | None:
    """Value of a key of the section that counts, whatever its case, without quotation marks."""
    values = {name.lower(): value for name, value in settings[SECTION].items()}
    value = values.get(key.lower())
    return None if value is None else value.strip().strip('"').strip()


def _scan(hdr: File, settings: Settings) -> tuple[int, int]:
    """Return the scan shape. Only square scans are public, so that the order y, x is LiberTEM's word."""
    text = _setting(settings, "stemImageSize")
    match = SCAN_SIZE.fullmatch(text or "")
    if match is None or not all(int(n) for n in match.groups()):
        raise HeaderError(f"{hdr}: stemImageSize is {text!r}, expected two numbers such as 256x256")
    return int(match[1]), int(match[2])


def _binning(hdr: File, settings: Settings) -> int:
    """Return how many rows were added up by the camera; columns never are."""
    text = _setting(settings, "readoutMode")
    match = BINNING.search(text or "")
    if match is None or not match[1].isdecimal() or not int(match[1]):
        raise HeaderError(f'{hdr}: readoutMode is {text!r}, expected such as "bin: 4, windowing: 264 x 264"')
    return int(match[1])


# The binary headers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FrameFile:
    """A .frms6 file as its header describes it.

    Parameters
    ----------
    file
        Where it is.
    fields
        Its header, by name.
    first_frame
        Header of its first frame, by name; empty if there is none.
    count
        Number of frames.
    """

    file: File
    fields: dict[str, Any]
    first_frame: dict[str, Any]
    count: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns as stored."""
        return self.fields["height"], self.fields["width"]

    @classmethod
    def read(cls, file: File) -> FrameFile:
        """Read the header of a file and that of its first frame.

        Raises
        ------
        HeaderError, TruncatedError
            If it is no such file, or its sizes are impossible.
        """
        fields = _fields(file, 0, FILE_HEADER, "FRMS6 file header")
        expected = {
            "header_size": FILE_HEADER.itemsize,
            "frame_header_size": FRAME_HEADER.itemsize,
            "version": VERSION,
        }
        for name, value in expected.items():
            if fields[name] != value:
                raise HeaderError(f"{file}: not a FRMS6 file: {name} is {fields[name]}, expected {value}")
        if not fields["width"] or not fields["height"] or fields["width"] % 2:
            raise HeaderError(
                f"{file}: frames of {fields['height']} rows and {fields['width']} columns cannot be unfolded: expected "
                "at least one row and an even number of columns"
            )
        count = _frames_in(file, fields)
        first = _fields(file, FILE_HEADER.itemsize, FRAME_HEADER, "first frame's header") if count else {}
        if first and first["info"] & PACKED:
            raise HeaderError(
                f"{file}: pixels are packed to 12 bits (info flags {first['info']:#04x}), which is not read"
            )
        return cls(file, fields, first, count)


def _fields(file: File, start: int, dtype: np.dtype, what: str) -> dict[str, Any]:
    values = np.frombuffer(file.read_exactly(start, dtype.itemsize, what), dtype, 1)[0]
    names = [name for name in dtype.names or () if name != "reserved"]
    return {name: values[name].item() for name in names}


def _offset_of(name: str) -> int:
    assert FRAME_HEADER.fields is not None
    return FRAME_HEADER.fields[name][1]


def _frames_in(file: File, fields: Mapping[str, Any]) -> int:
    """Count the frames: as the header says, or in older files, where that is 0, what fits."""
    stride = FRAME_HEADER.itemsize + fields["height"] * fields["width"] * PIXEL.itemsize
    there, rest = divmod(file.size - FILE_HEADER.itemsize, stride)
    if fields["frames"] > there:
        raise TruncatedError(
            f"{file}: the header says {fields['frames']} frames of {stride} bytes, but only {there} are there in "
            f"{file.size} bytes: was it copied completely?"
        )
    if not fields["frames"] and rest:
        raise HeaderError(
            f"{file}: the header does not say how many frames there are, and {file.size - FILE_HEADER.itemsize} bytes "
            f"are not a whole number of frames of {stride} bytes ({rest} left over)"
        )
    return fields["frames"] or there


def _common_shape(signal: list[FrameFile]) -> tuple[int, int]:
    for other in signal:
        if other.shape != signal[0].shape:
            raise HeaderError(
                f"{other.file}: stores frames of {other.shape}, but {signal[0].file.name} of {signal[0].shape}"
            )
    return signal[0].shape


def _stack(files: list[FrameFile], folded: Folded, shape: tuple[int, ...]) -> FrameStack:
    pieces = tuple(Piece(f.file.uri, FILE_HEADER.itemsize, f.count) for f in files)
    return FrameStack(pieces, PIXEL, shape, frame_header=FRAME_HEADER.itemsize, decoder=folded)


# Facts ---------------------------------------------------------------------------------------------------------------


def _header(settings: Settings, signal: list[FrameFile]) -> dict[str, Any]:
    """Keys of the section that counts, the other sections, and the headers of the signal files by name."""
    others = {section: values for section, values in settings.items() if section != SECTION}
    files = {f.file.name: {**f.fields, "first_frame": f.first_frame} for f in signal}
    return {**others, **settings[SECTION], "files": files}


def _acquisition(settings: Settings, signal: list[FrameFile]) -> dict[str, Any]:
    dwell = _whole_number(_setting(settings, "dwellTimeMicroseconds"))
    gain = _whole_number(_setting(settings, "gain"))
    first = next((f.first_frame for f in signal if f.count), {})
    facts = {
        "dwell_time": dwell and dwell / 1e6,
        "camera_gain": gain,
        "start_time": _moment(first.get("seconds", 0), first.get("microseconds", 0)),
    }
    return {"detector": "pnCCD", **{name: fact for name, fact in facts.items() if fact is not None}}


def _whole_number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _moment(seconds: int, microseconds: int) -> str | None:
    """ISO time, UTC as Unix time is; `None` if the camera had no clock."""
    if not seconds:
        return None
    return (datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds, microseconds=microseconds)).isoformat()
