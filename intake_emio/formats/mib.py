"""Merlin acquisitions (.mib, .hdr): frames of Medipix3 detectors, each behind a header of text.

Layout and quirks: docs/formats/mib.md.
"""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import asdict
from typing import Any

import numpy as np

from .. import arguments
from ..axes import Labels, default_axes
from ..errors import ArgumentError, EmioWarning, HeaderError
from ..frames.decoders import FourQuarters, TextField
from ..frames.files import File
from ..frames.frames import Frames
from ..frames.layout import FrameStack, Piece
from ..frames.navigation import Navigation, navigate
from ..image import Image, Variable
from ..source import ImageSource
from ._merlin import (
    EXTENSION,
    LEGACY_HEADER_BYTES,
    LEGACY_MAGIC,
    MAGIC,
    STREAM_MAGIC,
    FrameHeader,
    Settings,
    is_hdr,
)
from ._merlin_files import Part, find_acquisition, find_channels

BYTE = np.dtype("u1")
AXIS_ORDER = "itczyx"
ABSURD_RATIO, ABSURD_POINTS = 1000, 1 << 20


def is_mib(file: File) -> bool:
    """Whether a file is of Merlin, by what it begins with: a `.mib`, old or new, or a `.hdr` file."""
    head = file.read(0, len(MAGIC))
    old = file.extension == ".mib" and head in (*LEGACY_MAGIC, STREAM_MAGIC)
    return head == MAGIC or old or is_hdr(file)


class MibSource(ImageSource):
    """Merlin acquisition: frames `iyx`, or a scan `yxvu` where the `.hdr` file or `nav_shape` says so.

    Parameters
    ----------
    uri
        Path or URL of a `.mib` file, which stands for all files of its acquisition, or of its `.hdr` file.
    disable_glob
        Read only the named `.mib` file, whatever is beside it.
    flip
        Rows run from top to bottom as Merlin shows them; `False`: as they are stored, which is bottom-up.
    line_skip
        So many exposures after each line of the scan are skipped, because they were taken while the beam flew back.
        `None`: as many as the numbers in the `.hdr` file tell.
    **common
        See `ImageSource`. `nav_shape` and `sync_offset` count exposures.

    Raises
    ------
    HeaderError
        If a file is not of Merlin, contradicts its header, or has pixels that nobody can decode; if files of the
        acquisition are missing.
    ArgumentError
        If `sig_shape` has another number of pixels than a frame, or `sync_offset` is out of range.

    Notes
    -----
    Sources of the facts: RosettaSciIO, LiberTEM, fpd, and files of Merlin software.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> header = b"MQ1,000001,00384,01,0002,0002,U08,   1x1,01,2021-04-15 14:43:47,0.001,0,0,0,".ljust(384)
    >>> with tempfile.NamedTemporaryFile(suffix=".mib") as file:
    ...     _ = file.write(header + bytes([1, 2, 3, 4]))
    ...     file.flush()
    ...     MibSource(file.name).read().image.values.tolist()
    [[3, 4], [1, 2]]
    """

    name = "emio_mib"
    format_name = "mib"

    def __init__(
        self,
        uri: Any,
        *,
        disable_glob: bool | str = False,
        flip: bool | str = True,
        line_skip: int | str | None = None,
        **common: Any,
    ):
        super().__init__(uri, **common)
        self.disable_glob = arguments.flag("disable_glob", disable_glob)
        self.flip = arguments.flag("flip", flip)
        self.line_skip = None if line_skip in (None, "None") else arguments.number("line_skip", line_skip, least=0)

    def parse(self, file: File) -> Image:
        """Describe an acquisition from the first header of each file, and the `.hdr` file."""
        parts, settings = find_acquisition(file, self.disable_glob)
        for part in parts:
            if part.rest:
                warnings.warn(
                    f"{part.file}: the last frame is incomplete ({part.rest} of {part.stride} bytes) and ignored",
                    EmioWarning,
                    2,
                )
        first = parts[0]
        channels = find_channels(parts, settings)
        navigation = self._navigation(file, sum(part.frames for part in parts), settings, len(channels))
        axes = default_axes(len(navigation.shape))
        if len(channels) > 1:  # the images of an exposure lie one behind the other
            navigation = _with_channels(navigation, len(channels))
            axes = axes[:-2] + "c" + axes[-2:]
        pieces = tuple(Piece(part.file.uri, 0, part.frames) for part in parts)
        stamps = tuple(part.file.stamp for part in parts)
        stack = FrameStack(
            pieces,
            first.dtype,
            self._frame_shape(first),
            frame_header=first.header.header_bytes,
            flip=self.flip,
            decoder=first.decoder,
        )
        facts = {}
        for name, (decoder, attrs) in _facts(first.header).items():
            lines = FrameStack(pieces, BYTE, (), frame_footer=first.stride - decoder.length, decoder=decoder)
            facts[name] = Variable(Frames(lines, navigation, self.storage(), stamps), axes[:-2], attrs)
        return Image(
            Frames(stack, navigation, self.storage(), stamps),
            axes,
            calibration={"c": Labels(channels)} if len(channels) > 1 else {},
            header={**settings.entries, "frame_header": _plain_fields(first.header)},
            acquisition=_acquisition(first.header),
            facts=facts,
            stored_frame=first.shape,
        ).arranged(AXIS_ORDER)

    def _navigation(self, file: File, frames: int, settings: Settings, channels: int) -> Navigation:
        """Which exposure each point of the scan shows."""
        exposures, rest = divmod(frames, channels)
        if not exposures:
            exposures, rest = 1, 0
        shape, line_skip = find_scan(settings, exposures)
        if self.nav_shape is None:
            _check_scan(file, shape, exposures)
            if rest and len(shape) < 2:
                warnings.warn(
                    f"{file}: the last exposure has only {rest} of {channels} images and is ignored", EmioWarning, 3
                )
        elif self.nav_shape[-1:] != shape[-1:]:
            line_skip = 0
        return navigate(
            file,
            exposures,
            shape,
            nav_shape=self.nav_shape,
            sync_offset=self.sync_offset,
            line_skip=line_skip if self.line_skip is None else self.line_skip,
        )

    def _frame_shape(self, part: Part) -> tuple[int, ...]:
        if self.sig_shape is None or self.sig_shape == part.shape:
            return part.shape
        if len(self.sig_shape) != 2 or math.prod(self.sig_shape) != math.prod(part.shape):
            raise ArgumentError(
                f"{part.file}: sig_shape={self.sig_shape} does not hold the {math.prod(part.shape)} pixels of a "
                f"{part.shape} frame"
            )
        if isinstance(part.decoder, FourQuarters):
            raise ArgumentError(
                f"{part.file}: raw frames of four chips are put together as {part.shape}: sig_shape={self.sig_shape} "
                "is not possible, leave it out and reshape the array"
            )
        return self.sig_shape


# Scan ----------------------------------------------------------------------------------------------------------------


def find_scan(settings: Settings, exposures: int) -> tuple[tuple[int, ...], int]:
    """Shape of the scan, and how many exposures are to be skipped after each line of it."""
    asked, line = settings.number("Frames in Acquisition"), settings.number("Frames per Trigger")
    rows, columns = settings.number("ScanY"), settings.number("ScanX")
    if rows and columns:
        taken, rest = divmod(asked or exposures, rows)
        return (rows, columns), 0 if rest else max(0, taken - columns)
    if 1 < line < asked:
        return (asked // line, line), 0
    return (exposures,) if exposures > 1 else (), 0


def _check_scan(file: File, shape: tuple[int, ...], exposures: int) -> None:
    points = math.prod(shape)
    if points > ABSURD_POINTS and points > ABSURD_RATIO * exposures:
        raise HeaderError(
            f"{file}: the .hdr file speaks of a scan of {' x '.join(map(str, shape))} points, but there are only "
            f"{exposures} exposures: pass nav_shape="
        )


def _with_channels(navigation: Navigation, channels: int) -> Navigation:
    strides = tuple(channels * stride for stride in navigation.strides)
    return Navigation((*navigation.shape, channels), (*strides, 1), navigation.first * channels)


# Metadata ------------------------------------------------------------------------------------------------------------


def _facts(header: FrameHeader) -> dict[str, tuple[TextField, dict[str, str]]]:
    """Fields of each frame's header that become coordinates."""
    front, whole = min(header.length, LEGACY_HEADER_BYTES), header.length
    if header.legacy:
        time = TextField(front, 3, "M8[ns]")
        exposure, threshold = TextField(front, 4, "f8", divisor=1000), TextField(front, 5, "f8")
    elif header.utc:
        time = TextField(whole, 1, "M8[ns]", after=EXTENSION)
        exposure, threshold = TextField(whole, 2, "f8", after=EXTENSION, divisor=1e9), TextField(front, 14, "f8")
    else:
        time = TextField(front, 9, "M8[ns]")
        exposure, threshold = TextField(front, 10, "f8"), TextField(front, 14, "f8")
    facts = {
        "time": (time, {"long_name": "UTC" if header.utc else "local time"}),
        "exposure": (exposure, {"units": "s"}),
        "frame_number": (TextField(front, 1, "i8"), {}),
    }
    if header.thresholds:
        facts["threshold"] = (threshold, {"units": "keV", "long_name": "threshold 0"})
    return facts


def _acquisition(header: FrameHeader) -> dict[str, Any]:
    facts = {
        "exposure_time": header.exposure,
        "dwell_time": header.exposure,
        "start_time": header.utc or _iso(header.time),
        "detector": " ".join(filter(None, ("Merlin", header.chip_type, header.layout.lower()))),
        "counter_depth": header.depth,
        "gain": header.gain,
        "thresholds": list(header.thresholds),
    }
    return {name: fact for name, fact in facts.items() if fact not in (None, "", [])}


def _iso(local: str) -> str:
    """Local time in ISO 8601; before 2018 it was written with the day first."""
    found = re.fullmatch(r"(\d\d)/(\d\d)/(\d{4}) (.*)", local)
    return f"{found[3]}-{found[2]}-{found[1]}T{found[4]}" if found else local.replace(" ", "T")


def _plain_fields(header: FrameHeader) -> dict[str, Any]:
    return {name: value for name, value in asdict(header).items() if name != "length" and value is not None}
