"""Frames as pixels: a layout seen through a navigation, read with a storage backend."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .chunking import frame_chunks
from .layout import FrameStack
from .navigation import Navigation
from .pixels import READ_BYTES, Box, Pixels, count_of, inside, whole
from .storage import REQUEST_BYTES, Range, Storage
from .tiles import TILE_BYTES, tiles

SMALL_BYTES = 4 << 20
"""Boxes below this size are copied out of the map: it costs nothing, and what the user holds is then independent
of the file."""

REMOTE_BYTES = 64 << 20
"""What one read of a remote file should be about: many requests at the same time."""

SPARSE = 4
"""A range is read through, rather than frame by frame, if at most this many bytes are fetched for one that is used."""

GAP_BYTES, REMOTE_GAP_BYTES = 64 << 10, 1 << 20
"""If only a little of each frame is wanted, and so much lies between, that is left out rather than read through."""

PAGE = 4096
"""Of frames that are small beside what lies between them (numbers in frame headers), so much is read through."""


Fetched = tuple[tuple[slice, ...], Navigation, Any, int, int]
"""Part of a box that lies in one file: where in the box, its points, a buffer with their bytes, the byte of the file at
which the buffer begins, and that at which the first point's pixels do."""


@dataclass(frozen=True)
class Frames(Pixels):
    """Equal frames, as an array of navigation axes and frame axes.

    Parameters
    ----------
    stack
        Where frames lie.
    navigation
        Which of them each point shows.
    storage
        How bytes are fetched.
    stamps
        State of the files when they were opened (for names of dask arrays).
    """

    stack: FrameStack
    navigation: Navigation
    storage: Storage = field(default_factory=Storage)
    stamps: tuple[object, ...] = ()
    shape: tuple[int, ...] = field(init=False)
    dtype: np.dtype = field(init=False)
    frame_ndim: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", self.navigation.shape + self.stack.shape)
        object.__setattr__(self, "dtype", self.stack.native)
        object.__setattr__(self, "frame_ndim", len(self.stack.shape))

    @property
    def is_view(self) -> bool:
        """Whether stored pixels can be handed out as they lie in a map of the file."""
        return self.storage.maps and self.is_plain and self.stack.pixel.base == self.dtype

    @property
    def is_plain(self) -> bool:
        """Whether stored pixels are plain numbers one behind the other, in either byte order."""
        return not self.stack.field_name and self.dtype != bool and self.stack.decoder is None

    def chunks(self) -> tuple[int, ...]:
        """Chunk size along each axis; of remote files few large ones, because a chunk is many requests at a time."""
        if self.storage.backend == "remote":
            return frame_chunks(self.shape, self.dtype.itemsize, self.frame_ndim, views=True, per_core=1)
        return super().chunks()

    @property
    def read_bytes(self) -> int:
        """More of remote files, because one read is many requests at the same time."""
        return REMOTE_BYTES if self.storage.backend == "remote" else READ_BYTES

    @property
    def walks(self) -> bool:
        """Not if each piece would be a request."""
        return self.storage.backend != "remote"

    def blank(self, points: Box) -> np.ndarray | None:
        """Which points of a box show no frame."""
        return self.navigation.part(points).blank(self.stack.count)

    def files(self) -> tuple[str, ...]:
        """Names of the files that hold the frames."""
        return tuple(piece.path for piece in self.stack.pieces)

    def token(self) -> object:
        """Layout, navigation and the state of the files."""
        return (type(self).__name__, self.stack, self.navigation, self.stamps)

    def layout(self) -> dict[str, Any]:
        """Say how frames lie in the files, for people."""
        stack = self.stack
        return {
            "kind": "frames at a constant stride",
            "frames": stack.count,
            "offset": stack.pieces[0].offset if stack.pieces else 0,
            "frame_header": stack.frame_header,
            "frame_bytes": stack.frame_bytes,
            "frame_footer": stack.frame_footer,
            "stored": type(stack.decoder).__name__ if stack.decoder else stack.dtype.str,
            "first_frame": self.navigation.first,
        }

    def along(self, navigation: Navigation) -> Frames:
        """Return the same frames seen through another navigation."""
        return replace(self, navigation=navigation)

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Pixels of a box; blank points are zero."""
        depth = len(self.navigation.shape)
        little = self._narrowed(box[depth:])
        if little is not None:
            return little[0]._read_little(box[:depth], little[1], out)
        fetched = self.stored(box[:depth])
        if (
            out is None
            and self.stack.decoder is None
            and len(fetched) == 1
            and fetched[0][1].shape == tuple(map(count_of, box[: len(fetched[0][0])]))
        ):
            return self._handed_out(self._view(fetched[0], box))
        if out is None:
            out = np.empty(tuple(map(count_of, box)), self.dtype)
        self._place(fetched, box, out)
        return out

    def _narrowed(self, cut: Box) -> tuple[Frames, Box] | None:
        """Frames of the part of each frame that holds a cut, and that cut in them; `None` if it is not worth it.

        What lies before and behind the part counts as header and footer of the frames. Of mapped files, a little is
        not taken from the map: touching that brings many pages around each place into memory.
        """
        stack, storage = self.stack, self.storage
        if stack.decoder is not None or stack.flip or not stack.frame_shape or not all(map(count_of, cut)):
            return None
        axis = 0
        while axis < len(stack.frame_shape) - 1 and count_of(cut[axis]) == 1:
            axis += 1
        lows = [c.start for c in cut[: axis + 1]]
        size = range(cut[axis].start, cut[axis].stop, cut[axis].step)[-1] + 1 - lows[-1]
        inner = math.prod(stack.frame_shape[axis + 1 :]) * stack.dtype.itemsize
        kept, most = size * inner, PAGE if storage.maps else stack.frame_bytes // SPARSE
        gap = REMOTE_GAP_BYTES if storage.backend == "remote" else GAP_BYTES
        if kept > most or kept == stack.frame_bytes or stack.stride - kept < gap:
            return None
        before = int(np.ravel_multi_index(lows, stack.frame_shape[: axis + 1])) * inner
        part = replace(
            stack,
            frame_shape=(*(1,) * axis, size, *stack.frame_shape[axis + 1 :]),
            frame_header=stack.frame_header + before,
            frame_footer=stack.frame_footer + stack.frame_bytes - before - kept,
        )
        within = (*(slice(0, 1, 1),) * axis, slice(0, size, cut[axis].step), *cut[axis + 1 :])
        return replace(self, stack=part), within

    def _read_little(self, points: Box, cut: Box, out: np.ndarray | None) -> np.ndarray:
        """Read narrowed frames: of a local file, if none is blank, one by one through one handle."""
        stack, shown = self.stack, self.navigation.part(points)
        if (
            len(stack.pieces) > 1
            or self.storage.backend not in ("mmap", "buffered")
            or shown.first < 0
            or shown.last >= stack.count
        ):
            return self.read((*points, *cut), out)
        begin = stack.pieces[0].offset + stack.frame_header
        places = (begin + shown.frames().reshape(-1) * stack.stride).tolist()
        buffer = self.storage.gather(stack.pieces[0].path, places, stack.frame_bytes)
        packed = replace(self, stack=replace(stack, frame_header=0, frame_footer=0))
        if out is None:
            out = np.empty(tuple(map(count_of, (*points, *cut))), self.dtype)
        place = tuple(slice(0, n) for n in shown.shape)
        packed._place([(place, Navigation.of(shown.shape), buffer, 0, 0)], (*points, *cut), out)
        return out

    def read_many(self, reads: Sequence[tuple[Box, np.ndarray]]) -> None:
        """Read several boxes, each into an array; from remote files with one request for all."""
        if self.storage.backend != "remote":
            super().read_many(reads)
            return
        depth = len(self.navigation.shape)
        parts = [self._located(box[:depth]) for box, _ in reads]
        buffers = iter(self.storage.fetch([where for located in parts for *_, where in located]))
        for (box, out), located in zip(reads, parts, strict=True):
            self._place([(place, points, *next(buffers), where[1]) for place, points, where in located], box, out)

    def stored(self, box: Box) -> list[Fetched]:
        """Fetch the bytes of a box of points; blank points are left out."""
        located = self._located(box)
        buffers = self.storage.fetch([where for *_, where in located])
        return [
            (place, points, buffer, base, where[1])
            for (place, points, where), (buffer, base) in zip(located, buffers, strict=True)
        ]

    def _located(self, box: Box) -> list[tuple[tuple[slice, ...], Navigation, Range]]:
        """Parts of a box of points that each lie in one file: where in the box, which points, which bytes."""
        points = self.navigation.part(box)
        return [
            (tuple(slice(c, c + n) for c, n in zip(corner, part.shape, strict=True)), part, self._range(piece, part))
            for corner, part, piece in self._parts(points, (0,) * len(points.shape))
        ]

    def _view(self, fetched: Fetched, box: Box) -> np.ndarray:
        _, points, buffer, base, start = fetched
        cut = inside(box[len(points.shape) :])
        return self.stack.view(buffer, start - base, points.shape, points.strides)[cut]

    def _place(self, parts: list[Fetched], box: Box, out: np.ndarray) -> None:
        """Convert fetched parts into their places; what is left is blank."""
        if sum(points.points for _, points, *_ in parts) < math.prod(map(count_of, box[: len(self.navigation.shape)])):
            out[...] = np.datetime64("NaT") if out.dtype.kind == "M" else 0
        for part in parts:
            place: tuple[Any, ...] = (*part[0], ...)  # a view, even of a single number
            if self.stack.decoder is None:
                convert(self._view(part, box), out[place])
            else:
                self._decode(part, box[len(part[0]) :], out[place])

    def _decode(self, fetched: Fetched, cut: Box, out: np.ndarray) -> None:
        """Decode packed frames into place; where only a part of each is wanted, tile by tile through whole frames."""
        _, points, buffer, base, start = fetched
        stack = self.stack
        stored = stack.view(buffer, start - base, points.shape, points.strides)
        if cut == whole(stack.frame_shape):
            decode_rows(stack, stored, out)
            return
        for tile in tiles(self, whole(points.shape), TILE_BYTES):
            frames = np.empty((*map(count_of, tile), *stack.frame_shape), self.dtype)
            decode_rows(stack, stored[tile], frames)
            out[tile] = frames[inside(cut)]

    def _handed_out(self, stored: np.ndarray) -> np.ndarray:
        if (
            stored.dtype == self.dtype
            and self.dtype != bool
            and not (self.storage.maps and stored.nbytes < SMALL_BYTES)
        ):
            return stored
        pixels = np.empty(stored.shape, self.dtype)
        convert(stored, pixels)
        return pixels

    def _parts(self, points: Navigation, corner: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Navigation, int]]:
        """Cut a grid of points so that each part lies in one file; points without a frame are left out.

        Yields
        ------
        corner
            Where the part begins in the whole.
        part
            Its points.
        piece
            Number of the file.
        """
        stack = self.stack
        if not points.points or points.last < 0 or points.first >= stack.count:
            return
        piece = stack.piece_of(max(points.first, 0))
        begin, end = stack.starts[piece], stack.starts[piece + 1]
        axis = points.slowest
        if points.first >= begin and points.last < end and (axis < 0 or self._worth_reading_through(points)):
            yield corner, points, piece
            return
        if axis < 0:
            return
        step, size = points.strides[axis], points.shape[axis]
        border = 0 if points.first < 0 else stack.border_near(points.first, points.last)
        if points.first >= begin and points.last < end:
            at = size // 2
        else:
            at = min(max(1, -(-(border - points.first) // step)), size - 1)
        before, behind = points.cut(axis, at)
        yield from self._parts(before, corner)
        yield from self._parts(behind, (*corner[:axis], corner[axis] + at, *corner[axis + 1 :]))

    def _worth_reading_through(self, points: Navigation) -> bool:
        """Whether one read should fetch all that lies between some points."""
        if self.storage.maps:
            return True
        stack = self.stack
        if self.storage.backend == "remote" and points.points > 1 and points.span * stack.stride > REQUEST_BYTES:
            return False  # several requests at the same time, each for whole frames
        dense = stack.stride <= SPARSE * stack.frame_bytes or points.span * stack.stride <= PAGE
        return dense and points.span <= SPARSE * points.points

    def _range(self, piece: int, points: Navigation) -> tuple[str, int, int]:
        """Bytes from the first point's header to the last point's pixels."""
        stack = self.stack
        where, start = stack.pieces[piece], stack.starts[piece]
        begin = where.offset + (points.first - start) * stack.stride + stack.frame_header
        end = where.offset + (points.last - start) * stack.stride + stack.frame_header + stack.frame_bytes
        return where.path, begin, end


def convert(stored: np.ndarray, out: np.ndarray) -> None:
    """Copy stored pixels into native ones of the same type; any byte but zero is true."""
    if out.dtype == bool:
        np.not_equal(stored.view("u1"), 0, out=out)
    else:
        np.copyto(out, stored)


def decode_rows(stack: FrameStack, stored: np.ndarray, out: np.ndarray) -> None:
    """Decode packed frames with any navigation axes, the last of which goes to the decoder at once."""
    assert stack.decoder is not None
    target = np.flip(out, -len(stack.frame_shape)) if stack.flip else out
    if stored.ndim == 1:
        stack.decoder.decode(stored[None], target[None])
        return
    depth = stored.ndim - 1
    if _is_even(stored, depth) and _is_even(target, depth):
        points = math.prod(stored.shape[:depth])
        stored, target = stored.reshape(points, -1), target.reshape(points, *stack.frame_shape)
    for row in np.ndindex(stored.shape[:-2]):
        stack.decoder.decode(stored[row], target[row])


def _is_even(array: np.ndarray, depth: int) -> bool:
    """Whether the members along all of the first `depth` axes follow each other at one distance."""
    shape, strides = array.shape, array.strides
    return all(strides[k] == strides[k + 1] * shape[k + 1] for k in range(depth - 1))
