"""NanoMegas blockfiles (.blo): a scan of square diffraction patterns behind a fixed header.

Layout and quirks: docs/formats/blo.md.
"""

from __future__ import annotations

import math
import re
import warnings
from datetime import timedelta
from typing import Any

import numpy as np

from .. import arguments
from ..axes import Calibration, Scale, default_axes
from ..errors import ArgumentError, EmioWarning, HeaderError
from ..frames.files import File
from ..frames.frames import Frames
from ..frames.layout import FrameStack
from ..frames.navigation import Navigation, navigate
from ..image import Image, Variable
from ..source import ImageSource
from ._blo_header import FIELDS, FRAME_HEADER, HEADER, MAGIC, OLE_EPOCH, VERSIONS, in_order
from ._blo_writing import file_axes, losses, save

__all__ = ["BloSource", "file_axes", "losses", "read_header", "save"]

LARGEST_CLAIM = 1 << 30
BIT_DEPTH = re.compile(r"blo bit depth:\s*(\d+)\s*bits", re.IGNORECASE)


class BloSource(ImageSource):
    """Blockfile as a scan `yx` of patterns `vu`, with its virtual bright field as `navigator`.

    Parameters
    ----------
    uri
        Path or URL of the file.
    endianess
        ``"<"`` or ``">"``: byte order of every number in the file. A file whose version number only makes sense in
        the other order is read in that one.
    endianness
        The same, as newer RosettaSciIO spells it.
    mmap_mode
        Accepted for compatibility: `None`, ``"r"`` and ``"c"`` are the same, because reading never writes.
    **common
        See `ImageSource`.

    Raises
    ------
    HeaderError
        If the file is no blockfile, or its header contradicts it.
    ArgumentError
        If `sig_shape` has another number of pixels than a pattern, or `sync_offset` is out of range.

    Notes
    -----
    Dimensions are always ``y x v u``. Scan steps are in nm, detector pixels in cm. Sources of the facts:
    RosettaSciIO, LiberTEM and files of NanoMegas software.

    Examples
    --------
    >>> from intake_emio.cli.demo import small_scan
    >>> BloSource(small_scan()).to_dask().image.dims
    ('y', 'x', 'v', 'u')
    """

    name = "emio_blo"
    format_name = "blo"

    def __init__(
        self,
        uri: Any,
        *,
        endianess: str = "<",
        endianness: str | None = None,
        mmap_mode: str | None = None,
        **common: Any,
    ):
        super().__init__(uri, **common)
        self.endianess = arguments.choice("endianess", endianness or endianess, ("<", ">"))
        self.endianness = endianness
        if mmap_mode in ("r+", "w+"):
            raise ArgumentError(
                f"mmap_mode={mmap_mode!r} would write into the file: reading never does, use 'r' or 'c'"
            )
        self.mmap_mode = arguments.choice("mmap_mode", mmap_mode, (None, "r", "c"))

    def parse(self, file: File) -> Image:
        """Describe a blockfile from its header and note."""
        header = read_header(file, self.endianess)
        pattern = (header["DP_SZ"], header["DP_SZ"])
        scan = (header["NY"], header["NX"])
        dtype = np.dtype(header["endianess"] + ("u2" if header["bits"] == 16 else "u1"))
        stack = FrameStack.in_one_file(
            self.uri,
            dtype,
            self._pattern_shape(file, pattern),
            min(_frames_in(file, header, dtype), math.prod(scan)),
            offset=header["Data_offset_2"],
            frame_header=FRAME_HEADER,
        )
        self._check_claim(file, scan, stack)
        navigation = navigate(file, stack.count, scan, nav_shape=self.nav_shape, sync_offset=self.sync_offset)
        axes = default_axes(len(navigation.shape))
        calibration = _detector(axes[-2:], header) if stack.frame_shape == pattern else {}
        if navigation.shape[-2:] == scan:
            calibration |= _scan(header)
        return Image(
            Frames(stack, navigation, self.storage(), file.stamp),
            axes,
            calibration=calibration,
            header=header,
            acquisition=_acquisition(header),
            variables=self._navigator(file, header, navigation, scan),
            stored_frame=pattern,
        )

    def _pattern_shape(self, file: File, pattern: tuple[int, int]) -> tuple[int, ...]:
        if self.sig_shape is None:
            return pattern
        if len(self.sig_shape) != 2 or math.prod(self.sig_shape) != math.prod(pattern):
            raise ArgumentError(
                f"{file}: sig_shape={self.sig_shape} does not hold the {math.prod(pattern)} pixels of a {pattern} "
                "pattern"
            )
        return self.sig_shape

    def _check_claim(self, file: File, scan: tuple[int, int], stack: FrameStack) -> None:
        claim = math.prod(scan) * stack.stride
        if self.nav_shape is None and claim > LARGEST_CLAIM and claim > 1000 * file.size:
            raise HeaderError(
                f"{file}: the header's scan NY x NX = {scan[0]} x {scan[1]} would need {claim} bytes, the file has "
                f"{file.size}: if it is right about the patterns, pass nav_shape="
            )

    def _navigator(
        self, file: File, header: dict[str, Any], navigation: Navigation, scan: tuple[int, int]
    ) -> dict[str, Variable]:
        """Return the stored virtual bright field, which follows the order of the frames, where it is whole."""
        start, points = header["Data_offset_1"], math.prod(scan)
        whole = HEADER.itemsize <= start and start + points <= header["Data_offset_2"]
        if not whole or header["bits"] == 16 or navigation.shape != scan:
            return {}
        stack = FrameStack.in_one_file(self.uri, "u1", (), points, offset=start)
        return {"navigator": Variable(Frames(stack, navigation, self.storage(), file.stamp), "yx")}


def read_header(file: File, endianess: str = "<") -> dict[str, Any]:
    """Every field of the header under its name, the note, the bit depth and the byte order that was used.

    Raises
    ------
    HeaderError, TruncatedError
        If the file is no blockfile, or the header is impossible.
    """
    start = file.read(0, len(MAGIC))
    if start != MAGIC:
        raise HeaderError(f"{file}: not a blockfile: it starts with {start!r}, expected {MAGIC!r}")
    header = _in_right_order(file, endianess)
    for name in ("DP_SZ", "NX", "NY"):
        if header[name] == 0:
            raise HeaderError(f"{file}: {name} is 0, so there are no patterns")
    first = header["Data_offset_2"]
    if first < HEADER.itemsize or first >= file.size:
        raise HeaderError(
            f"{file}: Data_offset_2 (start of the patterns) is {first}, which is not between the header's end "
            f"({HEADER.itemsize}) and the file's ({file.size})"
        )
    header["Note"] = _note(file, header)
    depth = BIT_DEPTH.search(header["Note"]) if header["MAGIC"] == 259 else None
    header["bits"] = 16 if depth and int(depth[1]) == 16 else 8
    return header


def _in_right_order(file: File, endianess: str) -> dict[str, Any]:
    """Fields in the given byte order, or in the other one if only then the version, or the sizes, make sense."""
    raw = file.read_exactly(0, HEADER.itemsize, "blockfile header")
    headers = [_fields(raw, order) for order in (endianess, "<" if endianess == ">" else ">")]
    known = next((h for h in headers if h["MAGIC"] in VERSIONS), None)
    if known is not None:
        return known
    fitting = next((h for h in headers if _fits(file, h)), None)
    if fitting is None:
        raise HeaderError(
            f"{file}: MAGIC is {headers[0]['MAGIC']}, expected {VERSIONS[0]} or {VERSIONS[1]}, and the sizes in "
            "the header do not fit the file"
        )
    warnings.warn(
        f"{file}: unknown version {fitting['MAGIC']} of the blockfile format, read as {VERSIONS[0]}", EmioWarning, 3
    )
    return fitting


def _fields(raw: bytes, order: str) -> dict[str, Any]:
    values = np.frombuffer(raw, in_order(order), 1)[0]
    return {**{name: values[name].item() for name, _ in FIELDS}, "endianess": order}


def _fits(file: File, header: dict[str, Any]) -> bool:
    frames = header["NX"] * header["NY"] * (header["DP_SZ"] ** 2 + FRAME_HEADER)
    return bool(frames) and HEADER.itemsize <= header["Data_offset_2"] <= file.size - frames


def _note(file: File, header: dict[str, Any]) -> str:
    end = min(header["Data_offset_1"], header["Data_offset_2"])
    return file.read(HEADER.itemsize, end - HEADER.itemsize).strip(b"\0").decode("latin-1")


def _frames_in(file: File, header: dict[str, Any], dtype: np.dtype) -> int:
    """Count the complete frames that are there; an interrupted scan has fewer than the header says."""
    stride = FRAME_HEADER + header["DP_SZ"] ** 2 * dtype.itemsize
    count = (file.size - header["Data_offset_2"]) // stride
    if count < 1:
        raise HeaderError(
            f"{file}: not even one complete pattern of DP_SZ = {header['DP_SZ']} ({stride} bytes) lies behind "
            f"Data_offset_2 = {header['Data_offset_2']} in {file.size} bytes"
        )
    return count


def _scan(header: dict[str, Any]) -> dict[str, Calibration]:
    steps = {"y": header["SY"], "x": header["SX"]}
    return {axis: Scale(step, "nm") for axis, step in steps.items() if step and math.isfinite(step)}


def _detector(axes: str, header: dict[str, Any]) -> dict[str, Calibration]:
    """Detector pixels in cm; SDP holds pixels per cm times 100."""
    return {axis: Scale(100 / header["SDP"], "cm") for axis in axes} if header["SDP"] else {}


def _acquisition(header: dict[str, Any]) -> dict[str, Any]:
    facts = {
        "beam_energy": header["Beam_energy"] / 1000,
        "camera_length": header["Camera_length"] / 10,  # stored in 0.1 mm
        "start_time": _start_time(header["Acquisition_time"]),
    }
    return {name: fact for name, fact in facts.items() if fact} | {"scan_rotation": header["Scan_rotation"] / 100}


def _start_time(days: float) -> str | None:
    """Days since 1899-12-30 as naive ISO time, to the millisecond; `None` where no calendar holds the date."""
    try:
        moment = OLE_EPOCH + timedelta(milliseconds=round(days * 86_400_000))
    except (ValueError, OverflowError):
        return None
    return moment.isoformat(timespec="milliseconds") if days else None
