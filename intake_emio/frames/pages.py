"""Pages of TIFF files whose pixels are compressed, packed or cut into tiles: read strip by strip, tile by tile."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import itertools
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import EmioError, MissingFileError, StorageError, TruncatedError
from .chunking import COPY_BYTES, frame_chunks
from .files import File, filesystem, is_remote
from .navigation import Navigation
from .pixels import Box, Pixels, count_of
from .storage import Storage

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage

ROWS = 2
"""Number of the axis of rows among the five of every page: planes of samples, depth, rows, columns, samples."""


@contextlib.contextmanager
def opened(uri: str, options: Mapping[str, Any] | None = None) -> Iterator[TiffFile]:
    """Open a TIFF file, local or remote, as it is or packed by gzip, until the end of the block.

    Raises
    ------
    MissingFileError
        If it is not there.
    """
    import tifffile

    with contextlib.ExitStack() as stack:
        try:
            if not is_remote(uri) and not is_gzipped(uri):
                source: Any = uri
            else:
                fs, path = filesystem(uri, options)
                source = stack.enter_context(fs.open(path, "rb"))
                if is_gzipped(uri):
                    source = stack.enter_context(gzip.GzipFile(fileobj=source))
            name = None if source is uri else os.path.basename(uri)
            yield stack.enter_context(tifffile.TiffFile(source, name=name))
        except FileNotFoundError as error:
            if isinstance(error, MissingFileError):
                raise
            raise MissingFileError(f"{uri}: no such file") from None


def is_gzipped(uri: str) -> bool:
    """Whether a name says that the file is packed by gzip."""
    return uri.split("::", 1)[0].lower().endswith(".gz")


@dataclass(frozen=True, eq=False)
class Pages(Pixels):
    """Pages as an array of navigation axes and page axes; a page is found by the byte of its directory.

    Parameters
    ----------
    paths
        The files.
    members, places
        For each page, the number of its file and the byte of its directory; -1: a blank page.
    page_shape
        Shape of a page without the axes it lacks.
    axes
        Which of the five axes that every page has (see `ROWS`) `page_shape` shows.
    dtype
        Type of the decoded pixels, native byte order.
    segment
        Shape of a strip or tile, along the axes of `page_shape`.
    navigation
        Which page each point shows.
    storage
        How bytes are fetched.
    stamps
        State of the files when they were opened.
    """

    paths: tuple[str, ...]
    members: np.ndarray
    places: np.ndarray
    page_shape: tuple[int, ...]
    axes: tuple[int, ...]
    dtype: np.dtype
    segment: tuple[int, ...]
    navigation: Navigation
    storage: Storage = field(default_factory=Storage)
    stamps: tuple[object, ...] = ()
    shape: tuple[int, ...] = field(init=False)
    frame_ndim: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", self.navigation.shape + self.page_shape)
        object.__setattr__(self, "frame_ndim", len(self.page_shape))

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Pixels of a box; only strips and tiles that it touches are read."""
        depth = len(self.navigation.shape)
        if out is None:
            out = np.empty(tuple(map(count_of, box)), self.dtype)
        if not out.size:
            return out
        wanted: dict[int, list[tuple[int, tuple[int, ...]]]] = {}
        numbers = self.navigation.part(box[:depth]).frames()
        for point in np.ndindex(numbers.shape):
            page = int(numbers[point])
            if not 0 <= page < len(self.places) or self.places[page] < 0:
                out[point] = 0
            else:
                wanted.setdefault(int(self.members[page]), []).append((page, point))
        for member, pages in wanted.items():
            with self._reporting(self.paths[member]), opened(self.paths[member], self.storage.options) as tiff:
                self._read_pages(tiff, self.paths[member], pages, box[depth:], out)
        return out

    @contextlib.contextmanager
    def _reporting(self, path: str) -> Iterator[None]:
        """Turn whatever decoders raise into our errors."""
        try:
            yield
        except EmioError:
            raise
        except EOFError as error:
            raise TruncatedError(f"{path}: the packed file ends early: {error}") from error
        except Exception as error:  # decoders of a dozen libraries raise what they like
            raise StorageError(f"{path}: a page cannot be decoded: {error!r}") from error

    def _read_pages(
        self, tiff: TiffFile, path: str, pages: list[tuple[int, tuple[int, ...]]], cut: Box, out: np.ndarray
    ) -> None:
        """Decode the segments that a part of some pages of one file touches, each into its place."""
        from tifffile import TiffFrame, TiffPage

        tiff.filehandle.seek(int(self.places[pages[0][0]]))
        page: TiffPage | TiffFrame
        page = keyframe = TiffPage(tiff, pages[0][0])
        window = [slice(0, n, 1) for n in keyframe.shaped]
        for axis, part in zip(self.axes, cut, strict=True):
            window[axis] = part
        numbers = _touched(keyframe, window)
        missing = tuple(k for k in range(5) if k not in self.axes)
        places: list[tuple[int, int]] = []
        jobs: list[tuple[np.ndarray, int, dict[str, Any]]] = []
        for number, point in pages:
            if number != pages[0][0]:  # pages alike share everything but where their bytes are
                page = TiffFrame(tiff, number, offset=int(self.places[number]), keyframe=keyframe)
            if len(page.dataoffsets) < count_segments(keyframe):
                raise StorageError(f"{path}: page {number} has fewer strips or tiles than it needs")
            place: tuple[Any, ...] = (*point, ...)
            target = np.expand_dims(out[place], missing)
            jpeg = {"jpegtables": page.jpegtables, "jpegheader": keyframe.jpegheader} if _is_jpeg(keyframe) else {}
            places += [(page.dataoffsets[k], page.databytecounts[k]) for k in numbers]
            jobs += [(target, k, jpeg) for k in numbers]
        for (target, number, jpeg), data in zip(jobs, self._fetch(tiff, path, places), strict=True):
            pixels, corner, _ = keyframe.decode(data, number, **jpeg)
            if pixels is None:  # nothing is stored of it
                pixels = np.broadcast_to(np.asarray(keyframe.nodata, self.dtype), segments_of(keyframe)[0])
            _place(pixels.reshape(1, *pixels.shape[-4:]), corner, window, target)

    def _fetch(self, tiff: TiffFile, path: str, places: list[tuple[int, int]]) -> Iterator[bytes | None]:
        """Yield the stored bytes of segments (first byte, how many); a segment without any is empty."""
        if is_gzipped(path):
            for start, count in places:
                tiff.filehandle.seek(start)
                yield tiff.filehandle.read(count) if count else None
            return
        buffers = iter(self.storage.fetch([(path, at, at + count) for at, count in places if count]))
        for at, count in places:
            if count:
                buffer, base = next(buffers)
                yield bytes(memoryview(buffer)[at - base : at - base + count])
            else:
                yield None

    def blank(self, points: Box) -> np.ndarray | None:
        """Which points of a box show no page."""
        numbers = self.navigation.part(points).frames()
        outside = (numbers < 0) | (numbers >= len(self.places))
        blank = outside | (self.places[np.where(outside, 0, numbers)] < 0)
        return blank if blank.any() else None

    def chunks(self) -> tuple[int, ...]:
        """Whole pages; rows of strips or tiles where pages are large."""
        chunks = list(frame_chunks(self.shape, self.dtype.itemsize, self.frame_ndim, views=False))
        page_bytes = math.prod(self.page_shape) * self.dtype.itemsize
        if page_bytes > COPY_BYTES and ROWS in self.axes:
            axis = len(self.navigation.shape) + self.axes.index(ROWS)
            rows, step = self.shape[axis], self.segment[self.axes.index(ROWS)]
            fitting = COPY_BYTES * rows // page_bytes
            chunks[axis] = min(rows, max(1, fitting // step) * step)
        return tuple(chunks)

    def files(self) -> tuple[str, ...]:
        """Names of the files."""
        return self.paths

    def layout(self) -> dict[str, Any]:
        """Say how pixels lie in the files, for people."""
        return {
            "kind": "pages of strips or tiles",
            "frames": len(self.places),
            "segment": list(self.segment),
            "first_frame": self.navigation.first,
        }

    def token(self) -> object:
        """Pages, navigation and the state of the files."""
        digest = hashlib.blake2b(self.places.tobytes() + self.members.tobytes()).hexdigest()
        layout = (self.paths, self.page_shape, self.axes, self.dtype.str, self.navigation)
        return ("pages", digest, layout, self.stamps)


def segments_of(page: TiffPage) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    """Shape of a segment (depth, rows, columns, samples), and how many planes, layers, rows and columns of them."""
    planes, depth, rows, columns, samples = page.shaped
    if page.is_tiled:
        shape = (page.tiledepth, page.tilelength, page.tilewidth, samples)
    else:
        shape = (1, min(page.rowsperstrip or rows, rows), columns, samples)
    return shape, (planes, -(-depth // shape[0]), -(-rows // shape[1]), -(-columns // shape[2]))


def count_segments(page: TiffPage) -> int:
    """How many strips or tiles make up a page."""
    grid: tuple[int, ...] = segments_of(page)[1]
    return math.prod(grid)


def _touched(page: TiffPage, window: list[slice]) -> list[int]:
    """Numbers of the segments that a window touches."""
    shape, grid = segments_of(page)
    along = [range(k.start, k.stop)[:: k.step] for k in window[:4]]
    steps = (1, *shape[:3])
    members = [sorted({at // step for at in steps_of}) for steps_of, step in zip(along, steps, strict=True)]
    return [int(np.ravel_multi_index(place, grid)) for place in itertools.product(*members)]


def _place(pixels: np.ndarray, corner: tuple[int, ...], window: list[slice], target: np.ndarray) -> None:
    """Copy the part of a segment that lies in a window into its place."""
    source, place = [], []
    for size, start, cut in zip(pixels.shape, corner, window, strict=True):
        skipped = max(0, -(-(start - cut.start) // cut.step))  # members of the window in front of the segment
        first = cut.start + skipped * cut.step
        members = len(range(first, min(cut.stop, start + size), cut.step))
        source.append(slice(first - start, first - start + members * cut.step, cut.step))
        place.append(slice(skipped, skipped + members))
    target[tuple(place)] = pixels[tuple(source)]


def _is_jpeg(page: TiffPage) -> bool:
    return int(page.compression) in (6, 7, 33007, 34892)


def stamps_of(paths: tuple[str, ...], options: Mapping[str, Any] | None) -> tuple[object, ...]:
    """Return the state of some files."""
    return tuple(File(path, options).stamp for path in paths)
