"""Toy detector files (.toy): a stack of frames, each behind the time at which it was taken.

====== ======= =========================================
offset type    meaning
====== ======= =========================================
0      4 bytes ``TOY1``
4      u4      number of frames
8      u4, u4  rows and columns of a frame
16     f8      size of a pixel in nm; 0: unknown
24     frames  each an f8 (time in s), then its u2 pixels
====== ======= =========================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_emio import arguments
from intake_emio.axes import Scale, default_axes, spacing_of
from intake_emio.errors import ArgumentError, HeaderError
from intake_emio.frames.files import File
from intake_emio.frames.frames import Frames
from intake_emio.frames.layout import FrameStack
from intake_emio.frames.navigation import navigate
from intake_emio.frames.store import store
from intake_emio.image import Image, Variable
from intake_emio.source import ImageSource

HEADER = np.dtype([("magic", "S4"), ("frames", "u4"), ("rows", "u4"), ("columns", "u4"), ("pixel_size", "f8")])


class ToySource(ImageSource):
    """Stack of frames with a time for each.

    Parameters
    ----------
    uri
        Path or URL of the file.
    byte_order
        ``"<"`` or ``">"``, of every number in the file.
    **common
        See `intake_emio.source.ImageSource`.
    """

    name = "emio_toy"
    format_name = "toy"

    def __init__(self, uri: Any, *, byte_order: str = "<", **common: Any):
        super().__init__(uri, **common)
        self.byte_order = arguments.choice("byte_order", byte_order, ("<", ">"))

    def parse(self, file: File) -> Image:
        """Describe a toy file from its header."""
        header = read_header(file, self.byte_order)
        frame = (header["rows"], header["columns"])
        if self.sig_shape not in (None, frame):
            raise ArgumentError(f"{file}: has frames of {frame} pixels, not of sig_shape={self.sig_shape}")
        pixels, times = np.dtype(self.byte_order + "u2"), np.dtype(self.byte_order + "f8")
        frame_bytes = math.prod(frame) * pixels.itemsize
        count = _frames_in(file, header, times.itemsize + frame_bytes)
        common = {"count": count, "offset": HEADER.itemsize}
        images = FrameStack.in_one_file(self.uri, pixels, frame, frame_header=times.itemsize, **common)
        clock = FrameStack.in_one_file(self.uri, times, (), frame_footer=frame_bytes, **common)
        stored = (header["frames"],)
        navigation = navigate(file, count, stored, nav_shape=self.nav_shape, sync_offset=self.sync_offset)
        axes = default_axes(len(navigation.shape))
        size = header["pixel_size"]
        return Image(
            Frames(images, navigation, self.storage(), file.stamp),
            axes,
            calibration={axis: Scale(size, "nm") for axis in axes[-2:]} if size else {},
            header=header,
            acquisition={"detector": "Toy"},
            facts={"time": Variable(Frames(clock, navigation, self.storage(), file.stamp), axes[:-2], {"units": "s"})},
        )


def read_header(file: File, byte_order: str) -> dict[str, Any]:
    """Fields of the header by name."""
    raw = file.read_exactly(0, HEADER.itemsize, "toy header")
    values = np.frombuffer(raw, HEADER.newbyteorder(byte_order), 1)[0]
    header = {name: values[name].item() for name in HEADER.names}
    if header["magic"] != b"TOY1":
        raise HeaderError(f"{file}: not a toy file: it starts with {header['magic']!r}, expected b'TOY1'")
    if 0 in (header["frames"], header["rows"], header["columns"]):
        raise HeaderError(f"{file}: a toy file of {header['frames']} frames without pixels: {header}")
    return header


def _frames_in(file: File, header: dict[str, Any], stride: int) -> int:
    """Count the frames that are really there; a stopped acquisition has fewer than its header says."""
    count = min(header["frames"], (file.size - HEADER.itemsize) // stride)
    if count < 1:
        raise HeaderError(f"{file}: not even one frame of {stride} bytes lies behind the header, in {file.size} bytes")
    return count


def save(image: Any, path: str, *, compress: bool | None = None) -> None:
    """Write a stack of uint16 frames; `compress` makes no difference."""
    if image.ndim != 3 or image.dtype != np.uint16:
        raise ArgumentError(f"toy files hold uint16 stacks of three axes, not {image.dtype} {dict(image.sizes)}")
    header = np.array((b"TOY1", *image.shape, spacing_of(image, image.dims[-1]) or 0), HEADER)
    target = Target(path, image.shape[1:], len(image))
    with open(path, "wb") as file:
        file.write(header.tobytes())
        file.truncate(HEADER.itemsize + len(image) * target.frame.itemsize)
    if "time" in image.coords:
        target.frames()["time"] = image.coords["time"]
    store(image.data, target)


@dataclass(frozen=True)
class Target:
    """A toy file that takes blocks of frames; it travels to other processes by its name."""

    path: str
    shape: tuple[int, ...]
    count: int

    @property
    def frame(self) -> np.dtype:
        """One frame as it lies in the file."""
        return np.dtype([("time", "<f8"), ("pixels", "<u2", self.shape)])

    def frames(self) -> np.ndarray:
        """All frames, as a map of the file."""
        return np.memmap(self.path, self.frame, "r+", HEADER.itemsize, (self.count,))

    def __setitem__(self, box: Any, block: np.ndarray) -> None:
        self.frames()["pixels"][box] = block
