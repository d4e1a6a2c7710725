"""Norpix sequences (.seq): frames of StreamPix, in electron microscopy from Direct Electron's cameras.

Layout and quirks: docs/formats/seq.md.
"""

from __future__ import annotations

import functools
import math
import re
import warnings
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from .. import arguments
from ..axes import default_axes
from ..errors import ArgumentError, EmioError, EmioWarning, HeaderError, MissingFileError, TruncatedError
from ..frames.files import File
from ..frames.frames import Frames
from ..frames.joined import Joined, Unfolded
from ..frames.layout import FrameStack
from ..frames.navigation import Navigation, navigate
from ..frames.picked import Picked
from ..frames.pixels import Pixels
from ..frames.views import Mapped
from ..image import Image, Variable
from ..source import ImageSource
from ._seq_sidecars import Config, acquisition, base_name, own_corrections, read_config, sidecar

MAGIC = 0xFEED
NAME_BYTES, DESCRIPTION_BYTES = 24, 512
HEADER = np.dtype(
    [
        ("magic", "<u4"),
        ("name", f"V{NAME_BYTES}"),
        ("version", "<i4"),
        ("header_size", "<i4"),  # 1024 in all versions, and wrong
        ("description", f"V{DESCRIPTION_BYTES}"),
        ("width", "<u4"),
        ("height", "<u4"),
        ("bit_depth", "<u4"),
        ("bit_depth_real", "<u4"),
        ("image_size_bytes", "<u4"),
        ("image_format", "<u4"),
        ("allocated_frames", "<u4"),
        ("origin", "<u4"),
        ("true_image_size", "<u4"),
        ("suggested_frame_rate", "<f8"),
        ("description_format", "<i4"),
        ("reference_frame", "<u4"),
        ("fixed_size", "<u4"),
        ("flags", "<u4"),
        ("bayer_pattern", "<i4"),
        ("time_offset_us", "<i4"),
        ("extended_header_size", "<i4"),
        ("compression_format", "<u4"),
        ("reference_time_s", "<i4"),
        ("reference_time_ms", "<u2"),
        ("reference_time_us", "<u2"),
    ]
)
MONOCHROME = 100
HALF = re.compile(r"(?P<base>.+)_(?P<half>Top|Bottom)_(?P<time>.+?)(\.seq){1,2}", re.IGNORECASE)
OTHER_HALF = {"top": "Bottom", "bottom": "Top"}


class SeqSource(ImageSource):
    """Norpix sequence as a stack `iyx`, corrected with the references that lie beside it.

    Parameters
    ----------
    uri
        Path or URL of the file; of Celeritas recordings, of either half.
    celeritas
        Whether the file is half of a recording by a Celeritas camera, whose frames are joined from two files. `None`:
        if it is called ``…_Top_….seq`` or ``…_Bottom_….seq``.
    segment_prebuffer
        How many images a record of a Celeritas file holds. `None`: what the configuration beside it says.
    **common
        See `ImageSource`. `corrections` are on by default.

    Raises
    ------
    HeaderError
        If the file is no sequence that we can read, or a file beside it is broken.
    TruncatedError
        If it does not hold a single frame.
    ArgumentError
        If `sig_shape` has another number of pixels, or references have another shape than frames.

    Notes
    -----
    Sources of the facts: LiberTEM, PIMS, RosettaSciIO's reader for Direct Electron, and files of these cameras.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> header = np.zeros((), HEADER)
    >>> for name, value in {"magic": MAGIC, "version": 5, "width": 4, "height": 3, "bit_depth": 16, "image_format": 100,
    ...                     "allocated_frames": 2, "true_image_size": 32}.items():
    ...     header[name] = value
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "movie.seq"
    >>> _ = path.write_bytes(header.tobytes() + bytes(8192 - HEADER.itemsize + 64))
    >>> SeqSource(path).to_dask().image.sizes
    Frozen({'i': 2, 'y': 3, 'x': 4})
    """

    name = "emio_seq"
    format_name = "seq"

    def __init__(self, uri: Any, *, celeritas: Any = None, segment_prebuffer: Any = None, **common: Any):
        super().__init__(uri, **common)
        self.celeritas = None if celeritas is None else arguments.flag("celeritas", celeritas)
        self.segment_prebuffer = (
            None if segment_prebuffer is None else arguments.number("segment_prebuffer", segment_prebuffer, least=1)
        )

    def parse(self, file: File) -> Image:
        """Describe a sequence from its header and the files beside it."""
        match = HALF.fullmatch(file.name)
        if self.celeritas and match is None:
            raise ArgumentError(f"{file}: halves of Celeritas recordings are called …_Top_….seq and …_Bottom_….seq")
        joined = match is not None and self.celeritas is not False
        base = match["base"] if match is not None and joined else base_name(file.name)
        config = self._config(file, base, needed=joined and self.segment_prebuffer is None)
        if joined:
            return self._described(file, base, config, self._joined(file, base, config))
        return self._described(file, base, config, self._plain(file))

    def _config(self, file: File, base: str, *, needed: bool) -> Config:
        """Read the configuration, unless everything beside the file is to be left alone."""
        if not self.corrections and not needed:
            return Config()
        found = sidecar(file, base, ".Config.Metadata.xml")
        if found is None:
            return Config()
        try:
            return read_config(found)
        except EmioError as error:
            if self.own_corrections or needed:
                raise
            warnings.warn(f"{error}; it is ignored", EmioWarning, stacklevel=2)
            return Config()

    def _described(self, file: File, base: str, config: Config, recording: Recording) -> Image:
        header, frame, navigation = recording.header, recording.frame, recording.navigation
        corrections = None
        if self.own_corrections:
            corrections = own_corrections(file, base, frame, config, self.storage(), strict=self.corrections is True)
        axes = default_axes(len(navigation.shape), recording.pixels.frame_ndim)
        times = recording.times
        facts = {
            "frame_rate": header["suggested_frame_rate"],
            "bit_depth_real": header["bit_depth_real"],
            "start_time": recording.start,
        }
        return Image(
            recording.pixels,
            axes,
            header={**header, "FileInfo": config.info, **config.tables} if config.info else header,
            acquisition={**{k: v for k, v in facts.items() if v}, **acquisition(config)},
            facts={} if times is None else {"time": Variable(times, axes[: len(navigation.shape)], {"units": "s"})},
            corrections=corrections,
            stored_frame=frame,
        )

    def _plain(self, file: File) -> Recording:
        """Frames of an ordinary sequence."""
        header = read_header(file)
        stack = _stack(file, header, _frame(header))
        shape = stack.frame_shape if self.sig_shape is None else self.sig_shape
        if math.prod(shape) != math.prod(stack.frame_shape):
            raise ArgumentError(f"{file}: sig_shape={shape} does not hold the pixels of a frame of {stack.frame_shape}")
        navigation = navigate(file, stack.count, (stack.count,), nav_shape=self.nav_shape, sync_offset=self.sync_offset)
        pixels = Frames(replace(stack, frame_shape=shape), navigation, self.storage(), file.stamp)
        clock = Clock.of(file, stack, header)
        recording = Recording(header, _frame(header), navigation, pixels)
        if clock is None:
            return recording
        return recording.timed(clock, Frames(clock.stamps, navigation, self.storage(), file.stamp))

    def _joined(self, file: File, base: str, config: Config) -> Recording:
        """Frames of a Celeritas recording: image ``r * per + j`` is number ``j`` of record ``r`` in both files."""
        files = halves(file)
        headers = [read_header(half) for half in files]
        per = self.segment_prebuffer or int(config.number("SegmentPreBuffer") or 0)
        height, width = _frame(headers[0])
        if per < 1 or height % per:
            raise HeaderError(
                f"{files[0]}: {per or 'an unknown number of'} images per record of {height} rows: pass "
                f"segment_prebuffer= (SegmentPreBuffer in {base}.seq.Config.Metadata.xml), or celeritas=False to read "
                "this half alone"
            )
        if (_frame(headers[1]), headers[1]["bit_depth"]) != ((height, width), headers[0]["bit_depth"]):
            raise HeaderError(f"{files[1]}: has records of {_frame(headers[1])}, {files[0]} of {(height, width)}")
        stacks = [
            _stack(half, header, (per, height // per, width)) for half, header in zip(files, headers, strict=True)
        ]
        records = min(stack.count for stack in stacks)
        if stacks[0].count != stacks[1].count:
            warnings.warn(
                f"{file}: the top half has {stacks[0].count} records, the bottom half {stacks[1].count}: the first "
                f"{records} are read",
                EmioWarning,
                stacklevel=2,
            )
        frame = (2 * height // per, width)
        if self.sig_shape not in (None, frame):
            raise ArgumentError(f"{file}: sig_shape={self.sig_shape}, but joined frames have {frame}")
        each = Navigation.of((records,))
        top, bottom = (
            Unfolded(Frames(stack, each, self.storage(), half.stamp)) for stack, half in zip(stacks, files, strict=True)
        )
        images = Joined(top, bottom, flip_upper=True)
        count = records * per
        navigation = navigate(file, count, (count,), nav_shape=self.nav_shape, sync_offset=self.sync_offset)
        table = np.arange(navigation.points).reshape(navigation.shape) + navigation.first
        table[(table < 0) | (table >= count)] = -1
        plain = navigation == Navigation.of((count,))
        clock = Clock.of(files[0], stacks[0], headers[0])
        pixels = images if plain else Picked(images, table)
        recording = Recording(headers[0], frame, navigation, pixels)
        if clock is None:
            return recording
        stamps = Frames(clock.stamps, each, self.storage(), files[0].stamp)
        return recording.timed(clock, Picked(stamps, table // per))


@dataclass(frozen=True)
class Recording:
    """Frames of one or two files: header, shape as stored, navigation, pixels, times and start where known."""

    header: dict[str, Any]
    frame: tuple[int, int]
    navigation: Navigation
    pixels: Pixels
    times: Pixels | None = None
    start: str | None = None

    def timed(self, clock: Clock, words: Pixels) -> Recording:
        """Return the same, with the time stamps of its frames."""
        return replace(self, times=clock.since_first(words), start=clock.start)


def halves(file: File) -> tuple[File, File]:
    """Top and bottom half of the Celeritas recording that a file belongs to.

    Their names differ in some milliseconds, so halves of several recordings with the same name are paired in order.

    Raises
    ------
    MissingFileError
        If the other half is not there.
    HeaderError
        If there are several, and it is not clear which one.
    """
    match = HALF.fullmatch(file.name)
    assert match is not None
    half = match["half"].lower()
    found: dict[str, list[str]] = {"top": [], "bottom": []}
    for name in file.neighbours:
        other = HALF.fullmatch(name)
        if other is not None and other["base"] == match["base"]:
            found[other["half"].lower()].append(name)
    mine, others = found[half], found[OTHER_HALF[half].lower()]
    if not others:
        raise MissingFileError(
            f"{file}: the other half, {match['base']}_{OTHER_HALF[half]}_….seq, is not beside it: pass celeritas=False "
            "to read this half alone"
        )
    if len(mine) != len(others):
        raise HeaderError(
            f"{file}: which of {', '.join(others)} is its other half? Move what does not belong to it, or pass "
            "celeritas=False to read this half alone"
        )
    other_file = file.sibling(others[mine.index(file.name)])
    return (file, other_file) if half == "top" else (other_file, file)


def read_header(file: File) -> dict[str, Any]:
    """Every field of the header under its name.

    Raises
    ------
    HeaderError, TruncatedError
        If the file is no sequence, or of a kind that we cannot read.
    """
    raw = file.read_exactly(0, HEADER.itemsize, "SEQ header")
    fields = np.frombuffer(raw, HEADER, 1)[0]
    header = {name: fields[name].item() for name in HEADER.names or ()}
    if header["magic"] != MAGIC:
        raise HeaderError(f"{file}: not a Norpix sequence: it starts with {raw[:4]!r}, expected {raw_magic()!r}")
    if not header["width"] or not header["height"]:
        raise HeaderError(f"{file}: frames have {header['height']} x {header['width']} pixels, so there are none")
    if header["bit_depth"] not in (8, 16, 32):
        raise HeaderError(f"{file}: bit depth {header['bit_depth']}, expected 8, 16 or 32")
    if header["image_format"] != MONOCHROME:
        raise HeaderError(
            f"{file}: image format {header['image_format']}, and only monochrome ({MONOCHROME}) can be read"
        )
    if header["compression_format"]:
        raise HeaderError(
            f"{file}: compressed (format {header['compression_format']}): export it uncompressed from StreamPix"
        )
    header["name"] = _text(fields["name"].tobytes())
    description = fields["description"].tobytes()
    header["description"] = _text(description) if header["description_format"] != 1 else _ascii(description)
    return header


def raw_magic() -> bytes:
    """Return the first four bytes of a sequence."""
    return MAGIC.to_bytes(4, "little")


def _text(raw: bytes) -> str:
    """UTF-16 up to the first zero; what stands behind it need not be text at all."""
    units = np.frombuffer(raw, "<u2")
    end = int(np.argmin(units != 0)) if (units == 0).any() else len(units)
    return units[:end].tobytes().decode("utf-16-le", "replace")


def _ascii(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("latin-1")


def _frame(header: dict[str, Any]) -> tuple[int, int]:
    return header["height"], header["width"]


def _stack(file: File, header: dict[str, Any], shape: tuple[int, ...]) -> FrameStack:
    """All whole records of a file; the header's own count is often stale."""
    stride, offset = header["true_image_size"], 8192 if header["version"] >= 5 else 1024
    dtype = np.dtype(f"<u{header['bit_depth'] // 8}")
    nbytes = math.prod(shape) * dtype.itemsize
    if stride < nbytes:
        raise HeaderError(
            f"{file}: {stride} bytes from frame to frame are too few for {header['height']} x {header['width']} "
            f"pixels of {header['bit_depth']} bits, which take {nbytes}"
        )
    count, rest = divmod(max(0, file.size - offset), stride)
    if not count:
        raise TruncatedError(
            f"{file}: no whole frame: one takes {stride} bytes behind byte {offset}, the file has {file.size}"
        )
    if rest:
        warnings.warn(
            f"{file}: the last frame is incomplete ({rest} of {stride} bytes) and left out", EmioWarning, stacklevel=2
        )
    if count != header["allocated_frames"]:
        warnings.warn(
            f"{file}: the header counts {header['allocated_frames']} frames, the file has {count}, which are read",
            EmioWarning,
            stacklevel=2,
        )
    return FrameStack.in_one_file(file.uri, dtype, shape, count, offset=offset, frame_footer=stride - nbytes)


# Time stamps ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clock:
    """Time stamps behind the pixels, read as 64 bit words: s, ms and µs from the lowest bits on.

    Before version 5 there are no µs; the words of such files begin two bytes earlier and have their time further up.
    """

    stamps: FrameStack
    early: int
    first: int  # µs since 1970

    @classmethod
    def of(cls, file: File, stack: FrameStack, header: dict[str, Any]) -> Clock | None:
        """Return the clock of a file; `None` if there is no room for stamps, or the first one is blank."""
        early = 0 if header["version"] >= 5 else 2
        start = stack.frame_bytes - early
        if stack.frame_footer < 8 - early:
            return None
        stamps = replace(
            stack, dtype=np.dtype("<u8"), frame_shape=(), frame_header=start, frame_footer=stack.stride - start - 8
        )
        word = np.frombuffer(file.read_exactly(stack.pieces[0].offset + start, 8, "first time stamp"), "<u8")
        first = int(_microseconds(word, early)[0])
        return cls(stamps, early, first) if first >= 1_000_000 else None

    def since_first(self, words: Pixels) -> Pixels:
        """Seconds since the first frame, from stored words; not a number where frames are blank."""
        return Mapped(words, functools.partial(_elapsed, early=self.early, first=self.first), np.dtype("f8"), math.nan)

    @property
    def start(self) -> str:
        """Time of the first frame in ISO 8601; no file says in which time zone."""
        return (datetime(1970, 1, 1) + timedelta(microseconds=self.first)).isoformat(timespec="microseconds")


def _elapsed(words: np.ndarray, out: np.ndarray, *, early: int, first: int) -> None:
    np.divide(_microseconds(words, early) - first, 1e6, out=out)


def _microseconds(words: np.ndarray, early: int) -> np.ndarray:
    stamps = words.astype("u8") >> np.uint64(8 * early)
    seconds, milliseconds = stamps & np.uint64(0xFFFFFFFF), stamps >> np.uint64(32) & np.uint64(0xFFFF)
    parts = seconds * np.uint64(1_000_000) + milliseconds * np.uint64(1000) + (stamps >> np.uint64(48))
    return parts.astype("i8")
