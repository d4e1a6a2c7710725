"""Headerless raw binary: equal frames of one pixel type, described entirely by arguments.

Layout and rules: docs/formats/raw.md.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from .. import arguments
from ..axes import default_axes
from ..errors import ArgumentError, HeaderError, TruncatedError, UnknownArgumentError
from ..frames.files import File
from ..frames.frames import Frames
from ..frames.layout import FrameStack
from ..frames.navigation import Navigation, check_sync_offset, navigate
from ..image import Image
from ..source import ImageSource

COMMON_FRAMES = (64, 128, 256, 512, 1024, 2048, 4096)
COMMON_TYPES = ("uint8", "uint16", "uint32", "float32")


class RawSource(ImageSource):
    """Raw frames: ``file_header | frame_header | frame | frame_footer | frame_header | frame | …``.

    Parameters
    ----------
    uri
        Path or URL of the file.
    dtype
        Pixel type on disk, as `numpy.dtype` takes it: ``"uint16"``, ``">f4"``.
    sig_shape
        Shape of a frame: (height, width), or of any length.
    nav_shape
        Shape of the scan or stack. Fewer points than frames: the first ones; more: the rest is blank. Default: all
        frames on one axis, and then the size of the file must fit.
    file_header
        Bytes in front of the first frame (and its header).
    frame_header, frame_footer
        Bytes in front of and behind each frame.
    endianess
        Byte order ``"<"`` or ``">"``, where `dtype` has none.
    scan_size, detector_size, detector_size_raw, crop_detector_to, enable_direct, tileshape
        Older LiberTEM names, accepted with a `FutureWarning`.
    **common
        See `ImageSource`.

    Raises
    ------
    UnknownArgumentError
        If `dtype` or `sig_shape` is missing (a `TypeError`).
    ArgumentError
        If an argument cannot be used.
    HeaderError
        If the size of the file does not fit.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "frames.bin"
    >>> np.arange(24, dtype=">u2").tofile(path)
    >>> RawSource(path, dtype=">u2", sig_shape=(2, 3)).to_dask().image.sizes
    Frozen({'i': 4, 'y': 2, 'x': 3})
    """

    name = "emio_raw"
    format_name = "raw"

    def __init__(
        self,
        uri: Any,
        *,
        dtype: Any = None,
        sig_shape: Any = None,
        nav_shape: Any = None,
        io_backend: str | None = None,
        file_header: Any = 0,
        frame_header: Any = 0,
        frame_footer: Any = 0,
        endianess: str | None = None,
        scan_size: Any = None,
        detector_size: Any = None,
        detector_size_raw: Any = None,
        crop_detector_to: Any = None,
        enable_direct: Any = None,
        tileshape: Any = None,
        **common: Any,
    ):
        if enable_direct is not None:
            _deprecated("enable_direct", "io_backend='direct'")
            io_backend = "direct" if arguments.flag("enable_direct", enable_direct) else io_backend
        if tileshape is not None:
            _deprecated("tileshape", "nothing: it has no effect")
        super().__init__(
            uri,
            nav_shape=_renamed("scan_size", scan_size, "nav_shape", nav_shape),
            sig_shape=_renamed("detector_size", detector_size, "sig_shape", sig_shape),
            io_backend=io_backend,
            **common,
        )
        self.file_header = arguments.number("file_header", file_header, least=0)
        self.frame_header = arguments.number("frame_header", frame_header, least=0)
        self.frame_footer = arguments.number("frame_footer", frame_footer, least=0)
        self.endianess = arguments.choice("endianess", endianess, (None, "<", ">"))
        self.scan_size = self.detector_size = self.detector_size_raw = self.crop_detector_to = None
        self.enable_direct = self.tileshape = None
        if detector_size_raw is not None or crop_detector_to is not None:
            self._crop(detector_size_raw, crop_detector_to, dtype)
        missing = [name for name, given in (("dtype", dtype), ("sig_shape", self.sig_shape)) if given is None]
        if missing:
            raise UnknownArgumentError(
                f"{self.uri}: raw files say nothing about themselves: pass {' and '.join(missing)}"
            )
        self.dtype_on_disk = _pixel_type(self.uri, dtype, self.endianess)

    def _crop(self, raw: Any, wanted: Any, dtype: Any) -> None:
        """Translate LiberTEM's old way to leave out rows at the end of each frame."""
        _deprecated("detector_size_raw and crop_detector_to", "sig_shape and frame_footer")
        stored, cropped = (
            arguments.shape("detector_size_raw", raw),
            arguments.shape("crop_detector_to", wanted),
        )
        if self.sig_shape is not None or stored is None or cropped is None:
            raise ArgumentError("pass both detector_size_raw and crop_detector_to, and then no sig_shape")
        if stored[1:] != cropped[1:] or stored[0] < cropped[0]:
            raise ArgumentError(
                f"detector_size_raw={stored} can only be cropped to fewer rows, not to {cropped}: "
                "pass sig_shape= and cut out with .isel(...)"
            )
        self.sig_shape = cropped
        row_bytes = math.prod(stored[1:]) * _pixel_type(self.uri, dtype, self.endianess).itemsize
        self.frame_footer += (stored[0] - cropped[0]) * row_bytes

    @property
    def settings(self) -> dict[str, Any]:
        """All arguments, normalised, by name."""
        return {**super().settings, "dtype": self.dtype_on_disk.str}

    def parse(self, file: File) -> Image:
        """Describe a raw file from the arguments and its size."""
        shape = self.sig_shape or ()
        stride = self.frame_header + math.prod(shape) * self.dtype_on_disk.itemsize + self.frame_footer
        count = self._frames_in(file, stride)
        stack = FrameStack.in_one_file(
            self.uri,
            self.dtype_on_disk,
            shape,
            count,
            offset=self.file_header,
            frame_header=self.frame_header,
            frame_footer=self.frame_footer,
        )
        navigation = self._navigation(file, count)
        return Image(
            Frames(stack, navigation, self.storage(), file.stamp),
            self._given_metadata.get("axes") or default_axes(len(navigation.shape), len(shape)),
        )

    def _navigation(self, file: File, count: int) -> Navigation:
        if self.nav_shape is None and self.sync_offset:  # skipped frames shorten the axis, blank ones lengthen it
            check_sync_offset(file, self.sync_offset, count)
            return Navigation.of((count - self.sync_offset,), self.sync_offset)
        stored = () if count == 1 else (count,)
        return navigate(file, count, stored, nav_shape=self.nav_shape, sync_offset=self.sync_offset)

    def _frames_in(self, file: File, stride: int) -> int:
        """Count the frames in the file; the last one may lack its footer."""
        data = file.size - self.file_header
        if data <= 0:
            raise TruncatedError(
                f"{file}: has {file.size} bytes, so nothing lies behind file_header={self.file_header}"
            )
        count, rest = divmod(data + self.frame_footer, stride)
        if not count:
            raise TruncatedError(
                f"{file}: one frame of {self.sig_shape} {self.dtype_on_disk} takes {stride} bytes, but only {data} are "
                f"there. {frame_hints(data)}"
            )
        if self.nav_shape is None and rest not in (0, self.frame_footer):
            raise HeaderError(
                f"{file}: {data} bytes are not a whole number of frames of {stride} bytes ({count} frames, {rest} "
                f"bytes left over): dtype, sig_shape or a header is wrong, or pass nav_shape= to read what fits. "
                f"{frame_hints(data)}"
            )
        return count


def frame_hints(nbytes: int) -> str:
    """Say which common frame sizes would divide so many bytes.

    Examples
    --------
    >>> frame_hints(33_554_432)
    '33554432 bytes could be 512 frames of 256 x 256 uint8, 256 frames of 256 x 256 uint16, ...'
    """
    fits = [
        f"{nbytes // (size * size * np.dtype(dtype).itemsize)} frames of {size} x {size} {dtype}"
        for size in (256, *(s for s in COMMON_FRAMES if s != 256))
        for dtype in COMMON_TYPES
        if nbytes and nbytes % (size * size * np.dtype(dtype).itemsize) == 0
    ]
    return f"{nbytes} bytes could be {', '.join(fits[:4])}" if fits else ""


def _pixel_type(uri: str, dtype: Any, endianess: str | None) -> np.dtype:
    try:
        parsed = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError):
        raise ArgumentError(
            f"{uri}: dtype={dtype!r} is no pixel type: use one such as 'uint16', '<u2' or '>f4'"
        ) from None
    if parsed.kind not in "biufc" or not parsed.itemsize or parsed.names or parsed.shape:
        raise ArgumentError(f"{uri}: dtype={dtype!r} does not hold numbers: use one such as 'uint16', '<u2' or '>f4'")
    if endianess is None:
        return parsed
    if parsed.itemsize > 1 and _states_order(dtype) and parsed.newbyteorder(endianess) != parsed:
        raise ArgumentError(f"{uri}: dtype={dtype!r} and endianess={endianess!r} contradict each other")
    return parsed.newbyteorder(endianess)


def _states_order(dtype: Any) -> bool:
    """Whether a byte order was written, rather than left to the machine."""
    return dtype[:1] in "<>" if isinstance(dtype, str) else isinstance(dtype, np.dtype) and not dtype.isnative


def _renamed(old_name: str, old: Any, name: str, value: Any) -> Any:
    if old is None:
        return value
    _deprecated(old_name, name)
    if value is not None:
        raise ArgumentError(f"{old_name} is the old name of {name}: pass only one of them")
    return old


def _deprecated(name: str, instead: str) -> None:
    warnings.warn(f"{name} is deprecated: use {instead}", FutureWarning, stacklevel=4)
