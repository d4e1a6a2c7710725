"""Frames assembled from tiles, which lie at a constant stride in several files at once."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from .navigation import Navigation
from .pixels import Box, Pixels, count_of, partial_type
from .storage import Range, Storage

FETCH_BYTES = 32 << 20
"""Stored bytes that are fetched at a time: one request for all files, and memory stays flat."""

MAPPED_BYTES = 1 << 30
"""The same of maps, which fetch nothing."""

MERGE_BYTES = 128 << 10
"""Tiles that lie closer than this in a file are fetched in one piece."""


class TileDecoder(Protocol):
    """How the bytes of tiles become pixels. Decoders are frozen, pickle small, and do not hold the interpreter's lock.

    Rows of a tile follow each other, so that a band of them is a tile, too.

    Everywhere, `data` are bytes (uint8), and `starts` (int64) say where in them each tile begins.
    """

    @property
    def dtype(self) -> np.dtype:
        """Type of the pixels, native byte order."""

    def stored_bytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of a tile of so many rows and columns."""

    def place(
        self,
        data: np.ndarray,
        starts: np.ndarray,
        corners: np.ndarray,
        columns: int,
        cuts: np.ndarray,
        out: np.ndarray,
    ) -> None:
        """Decode parts of tiles into their places.

        Parameters
        ----------
        data, starts
            The tiles.
        corners
            (tiles, 2): row and column of `out` where the part goes.
        columns
            Of a tile.
        cuts
            (tiles, 4): of each tile the first row, the last one (excluded), and the same for columns.
        out
            Pixels of a frame, or of a part of it; C-contiguous.
        """

    def sum(self, data: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
        """Add tiles, pixel by pixel, to `out` (one axis, 32 or 64 bits: as many as the sums need)."""

    def totals(self, data: np.ndarray, starts: np.ndarray, pixels: int, out: np.ndarray) -> None:
        """Add the sum of each tile to its number in `out` (64 bits)."""

    def dots(self, data: np.ndarray, starts: np.ndarray, masks: np.ndarray, out: np.ndarray) -> None:
        """Add the products of each tile with each mask (masks, pixels) to `out` (tiles, masks), float64."""


@dataclass(frozen=True)
class Strip:
    """The file of some of a frame's tiles, frame by frame.

    Parameters
    ----------
    path
        Absolute path or fsspec URL.
    offset
        Byte at which the pixels of the first tile of frame 0 begin.
    corners
        Row and column in the frame of each tile, in the order of the file.
    gaps
        Tiles that are missing in the file: (number of the first one, how many), counted from frame 0 as if none were.
    """

    path: str
    offset: int
    corners: tuple[tuple[int, int], ...]
    gaps: tuple[tuple[int, int], ...] = ()

    @functools.cached_property
    def _places(self) -> np.ndarray:
        return np.array(self.corners, "i8").reshape(-1, 2)

    @functools.cached_property
    def _gaps(self) -> tuple[np.ndarray, np.ndarray]:
        gaps = np.array(self.gaps, "i8").reshape(-1, 2)
        return gaps, np.concatenate([[0], np.cumsum(gaps[:, 1])])

    def columns(self, width: int) -> tuple[int, int]:
        """First and last column (excluded) of the frame that tiles so wide cover."""
        return int(self._places[:, 1].min()), int(self._places[:, 1].max()) + width

    def stored(self, tiles: np.ndarray) -> np.ndarray:
        """Places of tiles in the file, as it has gaps; -1: not there.

        Examples
        --------
        >>> Strip("a", 0, ((0, 0),), gaps=((2, 3),)).stored(np.arange(7))
        array([ 0,  1, -1, -1, -1,  2,  3])
        """
        if not self.gaps:
            return tiles
        gaps, missing = self._gaps
        before = np.searchsorted(gaps[:, 0], tiles, "right")
        last = gaps[np.maximum(before - 1, 0)]
        lost = (before > 0) & (tiles < last[:, 0] + last[:, 1])
        return np.where(lost, -1, tiles - missing[before])

    def parts(self, tile_shape: tuple[int, int], rows: slice, columns: slice) -> tuple[np.ndarray, ...]:
        """Which of a frame's tiles have a part in a window, what part that is, and where in the window it goes.

        Returns
        -------
        tiles, corners, cuts
            As `TileDecoder.place` takes them.
        """
        height, width = tile_shape
        top, left = self._places[:, 0], self._places[:, 1]
        cuts = np.stack(
            [
                np.clip(rows.start - top, 0, height),
                np.clip(rows.stop - top, 0, height),
                np.clip(columns.start - left, 0, width),
                np.clip(columns.stop - left, 0, width),
            ],
            1,
        )
        tiles = np.flatnonzero((cuts[:, 0] < cuts[:, 1]) & (cuts[:, 2] < cuts[:, 3]))
        cuts = cuts[tiles]
        corners = np.stack([top[tiles] + cuts[:, 0] - rows.start, left[tiles] + cuts[:, 2] - columns.start], 1)
        return tiles, corners, cuts


@dataclass(frozen=True)
class Mosaic(Pixels):
    """Frames of tiles, as an array of navigation axes and frame axes.

    Parameters
    ----------
    strips
        The files; together their tiles make up a frame.
    tile_shape, frame_shape
        Rows and columns.
    tile_stride
        Bytes from one tile to the next in a file.
    count
        Number of frames.
    decoder
        How a tile is stored.
    navigation
        Which frame each point shows.
    storage
        How bytes are fetched.
    stamps
        State of the files when they were opened (for names of dask arrays).
    """

    strips: tuple[Strip, ...]
    tile_shape: tuple[int, int]
    frame_shape: tuple[int, int]
    tile_stride: int
    count: int
    decoder: TileDecoder
    navigation: Navigation
    storage: Storage = field(default_factory=Storage)
    stamps: tuple[object, ...] = ()
    shape: tuple[int, ...] = field(init=False)
    dtype: np.dtype = field(init=False)
    frame_ndim: int = field(init=False, default=2)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", self.navigation.shape + self.frame_shape)
        object.__setattr__(self, "dtype", self.decoder.dtype)

    @property
    def _tile_bytes(self) -> int:
        return self.decoder.stored_bytes(self.tile_shape)

    def files(self) -> tuple[str, ...]:
        """Names of the files."""
        return tuple(strip.path for strip in self.strips)

    def token(self) -> object:
        """Layout, navigation and the state of the files."""
        layout = (self.strips, self.tile_shape, self.frame_shape, self.tile_stride, self.count, self.decoder)
        return ("mosaic", layout, self.navigation, self.stamps)

    def layout(self) -> dict[str, Any]:
        """Say how frames lie in the files, for people."""
        return {
            "kind": "tiles at a constant stride",
            "frames": self.count,
            "tile": list(self.tile_shape),
            "tiles of a frame": sum(len(strip.corners) for strip in self.strips),
            "offsets": [strip.offset for strip in self.strips],
            "tile_stride": self.tile_stride,
            "missing tiles": sum(count for strip in self.strips for _, count in strip.gaps),
            "stored": type(self.decoder).__name__,
            "first_frame": self.navigation.first,
        }

    def blank(self, points: Box) -> np.ndarray | None:
        """Which points of a box show no frame."""
        return self.navigation.part(points).blank(self.count)

    # Reading ---------------------------------------------------------------------------------------------------------

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Pixels of a box; blank points and missing tiles are zero."""
        if out is None:
            out = np.empty(tuple(map(count_of, box)), self.dtype)
        self.read_many([(box, out)])
        return out

    def read_many(self, reads: Sequence[tuple[Box, np.ndarray]]) -> None:
        """Read several boxes, each into an array, frame by frame; bytes of several frames are fetched at once."""
        depth = len(self.navigation.shape)
        wanted = (
            (frame, box[depth:], out[place])
            for box, out in reads
            for place, frame in _numbered(self.navigation.part(box[:depth]))
        )
        frame_bytes = self.tile_stride * sum(len(strip.corners) for strip in self.strips)
        at_a_time = max(1, FETCH_BYTES // frame_bytes)
        while batch := list(itertools.islice(wanted, at_a_time)):
            self._read_frames(batch)

    def _read_frames(self, wanted: Sequence[tuple[int, Box, np.ndarray]]) -> None:
        """Read a few frames, or the same part of each: all bytes are fetched at once, then decoded into place."""
        windows = {_window(cut) for _, cut, _ in wanted}
        parts = {w: [strip.parts(self.tile_shape, *_slices(w)) for strip in self.strips] for w in windows}
        ranges: list[Range] = []
        jobs: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = []
        for frame, cut, _ in wanted:
            jobs.append([])
            if not 0 <= frame < self.count:
                continue
            for strip, (tiles, corners, cuts) in zip(self.strips, parts[_window(cut)], strict=True):
                for starts, members in self._runs(strip, tiles + frame * len(strip.corners)):
                    ranges.append((strip.path, int(starts[0]), int(starts[-1]) + self._tile_bytes))
                    jobs[-1].append((starts, corners[members], cuts[members]))
        fetched = iter(self.storage.fetch(ranges))
        for (_, cut, out), runs in zip(wanted, jobs, strict=True):
            rows, columns = _slices(_window(cut))
            window = (rows.stop - rows.start, columns.stop - columns.start)
            direct = out.shape == window and out.flags.c_contiguous and out.dtype == self.dtype
            target = out if direct else np.empty(window, self.dtype)
            if sum(_area(cuts) for _, _, cuts in runs) < math.prod(window):
                target[...] = 0
            for starts, corners, cuts in runs:
                buffer, base = next(fetched)
                data = np.frombuffer(buffer, "u1")
                self.decoder.place(data, starts - base, corners, self.tile_shape[1], cuts, target)
            if not direct:
                out[...] = target[:: cut[0].step, :: cut[1].step]

    def _runs(self, strip: Strip, tiles: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield tiles (in the order of the file) that are fetched in one piece: their bytes in the file, and which."""
        stored = strip.stored(tiles)
        members = np.flatnonzero(stored >= 0)
        starts = strip.offset + stored[members] * self.tile_stride
        far = np.flatnonzero(np.diff(starts) > (np.inf if self.storage.maps else MERGE_BYTES)) + 1
        for run in np.split(np.arange(len(starts)), far) if len(starts) else ():
            yield starts[run], members[run]

    # Reductions: tile by tile across frames, so that sums stay in the cache ------------------------------------------

    @property
    def column_parts(self) -> tuple[int, ...]:
        """Columns that a file holds on its own."""
        spans = sorted({strip.columns(self.tile_shape[1]) for strip in self.strips})
        borders = [0, *(stop for _, stop in spans)]
        if borders[:-1] != [start for start, _ in spans] or borders[-1] != self.frame_shape[1]:
            return ()
        return tuple(stop - start for start, stop in spans)

    def sum_frames(self, points: Box, columns: slice | None = None) -> np.ndarray:
        """Sum over points, 64 bits, or 32 if that is enough."""
        wanted = columns or slice(0, self.frame_shape[1])
        strips = [s for s in self.strips if columns is None or s.columns(self.tile_shape[1])[0] == wanted.start]
        total = np.zeros(
            (self.frame_shape[0], wanted.stop - wanted.start),
            partial_type(self.dtype, math.prod(map(count_of, points))),
        )
        rows, width = self.tile_shape
        part = np.empty(rows * width, total.dtype)
        for (top, left), _, data, starts in self._across(points, strips):
            part[:] = 0
            self.decoder.sum(data, starts, part)
            total[top : top + rows, left - wanted.start : left - wanted.start + width] += part.reshape(rows, width)
        return total

    def total_frames(self, points: Box) -> np.ndarray:
        """Sum of the frame at each point."""
        shape = tuple(map(count_of, points))
        totals = np.zeros(math.prod(shape), "u8")
        for _, members, data, starts in self._across(points):
            part = np.zeros(len(starts), "u8")
            self.decoder.totals(data, starts, math.prod(self.tile_shape), part)
            totals[members] += part
        return totals.reshape(shape)

    def dot_frames(self, points: Box, masks: np.ndarray) -> np.ndarray:
        """Product of the frame at each point with each mask, float64.

        Only those rows of tiles are read where a mask is not zero: virtual detectors leave much of a frame out.
        """
        shape = tuple(map(count_of, points))
        dots = np.zeros((math.prod(shape), len(masks)))
        pictures = masks.reshape(len(masks), *self.frame_shape)
        rows, columns = self.tile_shape
        bands = {
            (top, left): _band(pictures[:, top : top + rows, left : left + columns])
            for strip in self.strips
            for top, left in strip.corners
        }
        for corner, members, data, starts in self._across(points, corners={k for k, (_, b) in bands.items() if b.size}):
            first, band = bands[corner]
            part = np.zeros((len(starts), len(masks)))
            self.decoder.dots(data, starts + self.decoder.stored_bytes((first, columns)), band, part)
            dots[members] += part
        return dots.reshape(*shape, len(masks))

    def _across(
        self, points: Box, strips: Sequence[Strip] | None = None, corners: Container[tuple[int, int]] | None = None
    ) -> Iterator[tuple[tuple[int, int], np.ndarray, np.ndarray, np.ndarray]]:
        """Go through all tiles of a box of points, or those of some strips or places, one place after the other.

        Yields
        ------
        corner
            Row and column of the place.
        members
            Which of the points have a tile there, counted in C order.
        data, starts
            Their bytes.
        """
        frames = self.navigation.part(points).frames().reshape(-1)
        order = np.argsort(frames, kind="stable")
        order = order[(frames[order] >= 0) & (frames[order] < self.count)]
        for strip in self.strips if strips is None else strips:
            depth = len(strip.corners)
            wanted = np.array([k for k, c in enumerate(strip.corners) if corners is None or c in corners], "i8")
            at_a_time = max(1, (MAPPED_BYTES if self.storage.maps else FETCH_BYTES) // (depth * self.tile_stride))
            for at in range(0, len(order) if len(wanted) else 0, at_a_time):
                some = order[at : at + at_a_time]
                tiles = (frames[some, None] * depth + wanted).reshape(-1)
                runs = list(self._runs(strip, tiles))
                ranges = [(strip.path, int(s[0]), int(s[-1]) + self._tile_bytes) for s, _ in runs]
                for (starts, members), (buffer, base) in zip(runs, self.storage.fetch(ranges), strict=True):
                    data = np.frombuffer(buffer, "u1")
                    if len(starts) == len(tiles):  # the usual case, in which nothing has to be sought
                        for k, column in zip(wanted, (starts - base).reshape(-1, len(wanted)).T.copy(), strict=True):
                            yield strip.corners[k], some, data, column
                        continue
                    for number, k in enumerate(wanted):
                        here = members % len(wanted) == number
                        if here.any():
                            yield strip.corners[k], some[members[here] // len(wanted)], data, starts[here] - base


def _band(masks: np.ndarray) -> tuple[int, np.ndarray]:
    """Cut masks over a tile to the rows where one of them is not zero: the first row, and masks as rows of pixels."""
    rows = np.flatnonzero(masks.any((0, 2)))
    first, last = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
    return first, np.ascontiguousarray(masks[:, first:last].reshape(len(masks), -1))


def _numbered(points: Navigation) -> Iterator[tuple[tuple[int, ...], int]]:
    """Yield places of points and the frames that they show."""
    for place in np.ndindex(points.shape):
        yield place, points.first + sum(k * s for k, s in zip(place, points.strides, strict=True))


def _window(cut: Box) -> tuple[int, ...]:
    """First and last (excluded) row and column of a part of a frame, whatever steps it has."""
    return tuple(n for c in cut for n in (c.start, c.start + max(0, count_of(c) - 1) * c.step + (count_of(c) > 0)))


def _slices(window: tuple[int, ...]) -> tuple[slice, slice]:
    return slice(*window[:2]), slice(*window[2:])


def _area(cuts: np.ndarray) -> int:
    return int(((cuts[:, 1] - cuts[:, 0]) * (cuts[:, 3] - cuts[:, 2])).sum())
