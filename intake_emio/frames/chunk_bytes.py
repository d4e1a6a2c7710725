"""Chunks of HDF5 datasets, read past the library, which has one lock for everything.

HDF5 is asked where the chunks lie; their bytes are fetched and decompressed here, by as many threads as there are.
"""

from __future__ import annotations

import itertools
import math
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from .storage import Range, Storage

DEFLATE, SHUFFLE = 1, 2
"""Numbers by which HDF5 knows its filters."""

SMALLEST_CHUNK = 8 << 10
"""Bytes; smaller chunks cost more here than the lock does there."""

MOST_CHUNKS = 1 << 62  # that can be counted


def filters_of(dataset: Any) -> tuple[int, ...] | None:
    """Filters through which chunks went, the first one first; `None` if we do not know them, or chunks are tiny."""
    if dataset.chunks is None or dataset.is_virtual:
        return None
    itemsize = dataset.id.get_type().get_size()
    settings = dataset.id.get_create_plist()
    found = []
    for k in range(settings.get_nfilters()):
        number, _, values, _ = settings.get_filter(k)
        if number not in (DEFLATE, SHUFFLE) or number in found or (number == SHUFFLE and values[:1] != (itemsize,)):
            return None
        found.append(number)
    few = math.prod(-(-size // step) for size, step in zip(dataset.shape, dataset.chunks, strict=True)) < MOST_CHUNKS
    return tuple(found) if few and math.prod(dataset.chunks) * itemsize >= SMALLEST_CHUNK else None


class UnknownBytes(Exception):
    """Bytes of a chunk that are not what its filters say: damaged, or stored in a way that only HDF5 knows."""


@dataclass(frozen=True)
class Part:
    """Part of a chunk that is wanted.

    Parameters
    ----------
    start, stop
        Where the chunk lies in the file; -1: it was never written.
    skipped
        Filters that this chunk did not go through, as bits.
    within, place
        Which of its elements, and where they go.
    """

    start: int
    stop: int
    skipped: int
    within: tuple[slice, ...]
    place: tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class ChunkTable:
    """Where the chunks of a dataset lie in its file.

    Parameters
    ----------
    grid, chunk
        How many chunks there are along each axis, and their shape.
    numbers
        Of the chunks that were written, counted in C order, ascending.
    places
        For each of them: first byte, last one (excluded), filters that it did not go through.
    blank
        Element of the others.
    """

    grid: tuple[int, ...]
    chunk: tuple[int, ...]
    numbers: np.ndarray
    places: np.ndarray
    blank: np.ndarray

    @classmethod
    def of(cls, dataset: Any) -> ChunkTable:
        """Ask HDF5 for all chunks of an open dataset at once: each question would cost as much as all of them."""
        chunk = tuple(dataset.chunks)
        grid = tuple(-(-size // step) for size, step in zip(dataset.shape, chunk, strict=True))
        corners, facts = array("q"), array("q")

        def note(info: Any) -> None:
            corners.extend(info.chunk_offset)
            facts.extend((info.byte_offset, info.byte_offset + info.size, info.filter_mask))

        dataset.id.chunk_iter(note)
        along = np.frombuffer(corners, "i8").reshape(-1, len(chunk)) // chunk
        numbers = np.ravel_multi_index(tuple(along.T), grid)
        order = np.argsort(numbers)
        places = np.frombuffer(facts, "i8").reshape(-1, 3)[order]
        return cls(grid, chunk, numbers[order], places, np.asarray(dataset.fillvalue))

    def parts(self, box: Sequence[slice]) -> list[Part]:
        """Parts of chunks that make up a box."""
        along = [list(_along(cut, size)) for cut, size in zip(box, self.chunk, strict=True)]
        wanted = np.ravel_multi_index(np.ix_(*([number for number, *_ in some] for some in along)), self.grid)
        at = np.searchsorted(self.numbers, wanted.reshape(-1))
        there = np.append(self.numbers, -1)[at] == wanted.reshape(-1)
        places = np.where(there[:, None], np.append(self.places, [[-1, -1, 0]], 0)[at], [-1, -1, 0])
        return [
            Part(start, stop, skipped, tuple(w for _, w, _ in members), tuple(place for *_, place in members))
            for (start, stop, skipped), members in zip(places.tolist(), itertools.product(*along), strict=True)
        ]


class _Tables:
    """Tables of recently read datasets, made once per process."""

    def __init__(self, most: int = 8):
        self.most = most
        self._tables: OrderedDict[Any, ChunkTable] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any, dataset: Callable[[], AbstractContextManager[Any]] | None) -> ChunkTable | None:
        """Return the table of a dataset, which is opened if need be; `None` if it is not known and must not be made."""
        with self._lock:
            if key not in self._tables:
                if dataset is None:
                    return None
                with dataset() as opened:
                    self._tables[key] = ChunkTable.of(opened)
                if len(self._tables) > self.most:
                    self._tables.popitem(last=False)
            self._tables.move_to_end(key)
            return self._tables[key]


TABLES = _Tables()


def _along(cut: slice, size: int) -> Iterator[tuple[int, slice, slice]]:
    """Yield the chunks along an axis that have members of a cut: number, which members, where they go."""
    members = range(cut.start, cut.stop, cut.step)
    for number in range(members[0] // size, members[-1] // size + 1):
        skipped = max(0, -(-(number * size - cut.start) // cut.step))
        first = cut.start + skipped * cut.step - number * size
        count = len(members[skipped:]) if number == members[-1] // size else len(range(first, size, cut.step))
        if count:
            yield number, slice(first, first + (count - 1) * cut.step + 1, cut.step), slice(skipped, skipped + count)


@dataclass(frozen=True)
class ChunkBytes:
    """How the bytes of a chunk become elements.

    Parameters
    ----------
    chunk
        Shape of a chunk.
    dtype
        Of its elements.
    filters
        As `filters_of` returns them.
    """

    chunk: tuple[int, ...]
    dtype: np.dtype
    filters: tuple[int, ...]

    def elements(self, data: Any, skipped: int) -> np.ndarray:
        """Elements of a chunk; a view of the bytes, if there are no filters.

        Raises
        ------
        UnknownBytes
            If the bytes cannot be decompressed.
        OSError
            If they are not as many as they have to be, which HDF5 would not notice.
        """
        for k, number in reversed(list(enumerate(self.filters))):
            if skipped & (1 << k):
                continue
            data = _inflated(data, self._nbytes) if number == DEFLATE else self._unshuffled(data)
        return np.frombuffer(self._checked(data), self.dtype).reshape(self.chunk)

    @property
    def _nbytes(self) -> int:
        return math.prod(self.chunk) * self.dtype.itemsize

    def _checked(self, data: Any) -> Any:
        if len(data) != self._nbytes:
            raise OSError(f"a chunk has {len(data)} bytes, {self._nbytes} were expected")
        return data

    def _unshuffled(self, data: Any) -> np.ndarray:
        by_place = np.frombuffer(self._checked(data), "u1").reshape(self.dtype.itemsize, -1)
        elements = np.empty(by_place.shape[::-1], "u1")
        for place, column in enumerate(by_place):  # much faster than a transposition
            elements[:, place] = column
        return elements.reshape(-1)


def _inflated(data: Any, nbytes: int) -> Any:
    """Decompressed bytes, no more than there have to be."""
    from imagecodecs import DeflateError, deflate_decode

    try:
        return deflate_decode(data, out=nbytes)
    except DeflateError:
        raise UnknownBytes from None


def fetched(path: str, parts: Sequence[Part], storage: Storage) -> list[memoryview]:
    """Bytes of the chunks that were written, all requested at once."""
    ranges: list[Range] = [(path, part.start, part.stop) for part in parts if part.start >= 0]
    if storage.maps and ranges:
        (buffer, base) = storage.fetch([(path, 0, max(stop for *_, stop in ranges))])[0]
        return [memoryview(buffer)[start - base : stop - base] for _, start, stop in ranges]
    buffers = storage.fetch(ranges)
    return [
        memoryview(buffer)[start - base : stop - base]
        for (buffer, base), (_, start, stop) in zip(buffers, ranges, strict=True)
    ]
