"""Where frames lie: equal frames at a constant stride in one or more files.

Almost every detector file is ``files x (offset, frame header, frame, frame footer)`` and a stored pixel type.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .decoders import Decoder


@dataclass(frozen=True)
class Piece:
    """Frames that lie in one file.

    Parameters
    ----------
    path
        Absolute path or fsspec URL.
    offset
        Byte at which the first frame's header starts.
    count
        Number of frames.
    """

    path: str
    offset: int
    count: int


@dataclass(frozen=True)
class FrameStack:
    """Equal frames at a constant stride: where the bytes of every frame are, and what they mean.

    Parameters
    ----------
    pieces
        The files, in the order of the frames.
    dtype
        Stored pixel type, with its byte order. With a single named field (as `numpy.dtype` takes it: offset and item
        size), only that field of each record is read.
    frame_shape
        Shape of one frame as stored.
    frame_header, frame_footer
        Bytes in front of and behind each frame.
    flip
        Whether the first axis of a frame runs backwards in the file (bottom row first).
    decoder
        How packed pixels are decoded; `dtype` is then that of bytes, and `frame_shape` that of decoded frames.
    """

    pieces: tuple[Piece, ...]
    dtype: np.dtype
    frame_shape: tuple[int, ...]
    frame_header: int = 0
    frame_footer: int = 0
    flip: bool = False
    decoder: Decoder | None = None
    starts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        starts = [0]
        for piece in self.pieces:
            starts.append(starts[-1] + piece.count)
        object.__setattr__(self, "starts", tuple(starts))

    @classmethod
    def in_one_file(
        cls,
        path: str,
        dtype: np.typing.DTypeLike,
        frame_shape: Sequence[int],
        count: int,
        *,
        offset: int = 0,
        frame_header: int = 0,
        frame_footer: int = 0,
        flip: bool = False,
        decoder: Decoder | None = None,
    ) -> FrameStack:
        """Frames that all lie in one file, the first one's header at byte `offset`.

        Examples
        --------
        >>> frames = FrameStack.in_one_file("a.bin", "<u2", (2, 3), count=5, offset=100, frame_header=4)
        >>> frames.frame_bytes, frames.stride, frames.count
        (12, 16, 5)
        """
        piece = Piece(path, offset, count)
        return cls((piece,), np.dtype(dtype), tuple(frame_shape), frame_header, frame_footer, flip, decoder)

    @property
    def count(self) -> int:
        """Number of frames in all files."""
        return self.starts[-1]

    @functools.cached_property
    def frame_bytes(self) -> int:
        """Bytes of the pixels of one frame."""
        if self.decoder is not None:
            return self.decoder.stored_bytes(self.frame_shape)
        return math.prod(self.frame_shape) * self.dtype.itemsize

    @property
    def stride(self) -> int:
        """Bytes from one frame to the next."""
        return self.frame_header + self.frame_bytes + self.frame_footer

    @functools.cached_property
    def field_name(self) -> str | None:
        """Name of the record's field that holds the pixel, if pixels are records."""
        return self.dtype.names[0] if self.dtype.names else None

    @functools.cached_property
    def pixel(self) -> np.dtype:
        """Stored type of a pixel; with a shape, if a record holds several values."""
        return self.dtype[self.field_name] if self.field_name else self.dtype

    @functools.cached_property
    def native(self) -> np.dtype:
        """Type of the pixels as they are handed out: the stored one, in native byte order."""
        if self.decoder is not None:
            return self.decoder.dtype
        return self.pixel.base.newbyteorder("=")

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of one frame as it is handed out."""
        return self.frame_shape + self.pixel.shape

    def piece_of(self, frame: int) -> int:
        """Number of the piece in which a frame lies."""
        return bisect.bisect_right(self.starts, frame) - 1

    def border_near(self, first: int, last: int) -> int:
        """Frame with which a file begins between two frames, near the middle, because there may be many files."""
        middle = self.piece_of(min((first + last) // 2, self.count - 1))
        return self.starts[middle] if self.starts[middle] > first else self.starts[middle + 1]

    def view(self, buffer: object, start: int, points: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
        """Return stored pixels of some frames of one file, as a view of a buffer; nothing is copied.

        Packed frames are bytes, in one axis.

        Parameters
        ----------
        buffer
            Bytes.
        start
            Position of the first frame's pixels in the buffer.
        points, strides
            How many frames along each axis, and how many frames apart.
        """
        between = tuple(s * self.stride for s in strides)
        if self.decoder is not None:
            return np.ndarray((*points, self.frame_bytes), "u1", buffer, start, (*between, 1))  # type: ignore[arg-type]
        steps = between + _contiguous(self.frame_shape, self.dtype.itemsize)
        stored: np.ndarray = np.ndarray(points + self.frame_shape, self.dtype, buffer, start, steps)  # type: ignore[arg-type]
        if self.field_name:
            stored = stored[self.field_name]
        if self.flip:
            stored = stored[(slice(None),) * len(points) + (slice(None, None, -1),)]
        return stored


@functools.lru_cache(maxsize=64)
def _contiguous(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    strides = [itemsize]
    for size in reversed(shape[1:]):
        strides.append(strides[-1] * size)
    return tuple(reversed(strides))[: len(shape)] if shape else ()
