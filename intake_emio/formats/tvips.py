"""TVIPS streams (.tvips): movies and scans of TVIPS cameras, in one piece or several.

Layout and quirks: docs/formats/tvips.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from .. import arguments
from ..axes import Calibration, Scale, default_axes
from ..errors import ArgumentError
from ..frames.files import File
from ..frames.frames import Frames
from ..frames.navigation import Navigation, navigate
from ..frames.picked import Picked
from ..frames.pixels import Pixels
from ..frames.views import Mapped
from ..image import Image, Variable
from ..source import ImageSource
from ._tvips_recording import (
    FRAME_FIELDS,
    NUMBERED,
    SERIES_HEADER,
    Recording,
    numbered_piece,
    pieces_of,
    read_header,
)
from ._tvips_scan import by_rotator, find_scan, unwound

IMAGING, DIFFRACTION = 1, 2


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
            shown(frames.pixels(np.dtype(f"<u{header['IBPP'] // 8}"), frame)),
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
            points = by_rotator(file, frames)
        else:
            navigation = self._counted(file, frames)
            if self.winding_scan_axis is None:
                return navigation, None
            points = navigation.first + np.arange(navigation.points).reshape(navigation.shape)
            points[(points < 0) | (points >= frames.count)] = -1
        if self.winding_scan_axis is not None:
            points = unwound(file, points, self.winding_scan_axis, self.hysteresis)
        return Navigation.of((frames.count,)), points

    def _counted(self, file: File, frames: Recording) -> Navigation:
        given = self.nav_shape or self.scan_shape
        sync_offset = self.scan_start_frame or None if self.sync_offset is None else self.sync_offset
        scan = None if given and sync_offset is not None else find_scan(frames)
        shape = scan.shape if scan and scan.shape else (frames.count,)
        if sync_offset is None:
            sync_offset = scan.start if scan and (given or scan.shape) else 0
        return navigate(file, frames.count, shape, nav_shape=given, sync_offset=sync_offset)


def is_tvips(file: File) -> bool:
    """Whether a file has the extension, and a series header; later pieces have none, so their first one is asked."""
    if file.extension != ".tvips":
        return False
    named = NUMBERED.fullmatch(file.name)
    first = numbered_piece(file, named, 0) if named else file
    return _begins(file) or _begins(first)


def _begins(file: File) -> bool:
    try:
        return file.exists() and file.read(0, 4) == SERIES_HEADER.to_bytes(4, "little")
    except OSError:  # a folder of that name
        return False


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
