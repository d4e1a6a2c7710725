"""Pixels in the chunks of an HDF5 dataset.

A dataset is known by the name of its file and its path in it; every read opens the file anew, so that nothing holds a
lock, and nothing that is open has to travel. Remote files are kept open, because opening one takes several requests.
Chunks that we know how to decompress are read past HDF5 (see `chunk_bytes`), because it lets one thread work at a time.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import EmioError, MissingFileError, StorageError, TruncatedError
from .chunk_bytes import TABLES, ChunkBytes, UnknownBytes, fetched
from .chunking import CHUNKS_PER_CORE, COPY_BYTES, SMALLEST_BYTES, cores
from .files import filesystem, is_remote, local_stamp
from .frames import convert
from .pixels import READ_BYTES, Box, Pixels, count_of
from .storage import Storage

THIN = 8
"""Chunks that are thinner than this along the last axis are read one by one: HDF5 would put a box of many of them
together element by element."""

MUCH_BYTES = 4 << 20
"""Only reads of so many bytes have HDF5 asked where all the chunks are."""


@dataclass(frozen=True)
class Opening:
    """How an HDF5 file is opened.

    Parameters
    ----------
    options
        For fsspec.
    swmr
        Whether another program goes on writing it.
    locking
        `False`: without asking the file system for a lock; `None`: as HDF5 does.
    plugins
        Whether filters of hdf5plugin are needed.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    swmr: bool = False
    locking: bool | None = None
    plugins: bool = False

    @contextmanager
    def open(self, path: str, stamp: object) -> Iterator[Any]:
        """Open a file as `h5py.File`.

        Raises
        ------
        MissingFileError, TruncatedError, StorageError
            If it is not there, too short, locked, or no HDF5 file.
        """
        if self.plugins:
            import hdf5plugin  # noqa: F401  registers its filters
        if is_remote(path):
            yield _kept_open(path, stamp, tuple(sorted(self.options.items(), key=str)), _process())
            return
        with _opened(path, self.swmr, self.locking) as file:
            yield file


def _process() -> int:
    import os

    return os.getpid()


@functools.lru_cache(maxsize=4)
def _kept_open(path: str, stamp: object, options: tuple[tuple[str, Any], ...], process: int) -> Any:
    """Remote file, kept for the next read of the same process; closed when nobody uses it any more."""
    import h5py

    fs, inner = filesystem(path, dict(options))
    try:
        return h5py.File(fs.open(inner, "rb"), "r")
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file") from None
    except OSError as error:
        raise _trouble(path, error) from error


def _opened(path: str, swmr: bool, locking: bool | None) -> Any:
    import h5py

    try:
        return h5py.File(path, "r", swmr=swmr, locking=locking)
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file") from None
    except OSError as error:
        if locking is None and "unable to lock file" in str(error) and not isinstance(error, BlockingIOError):
            return _opened(path, swmr, False)  # a file system without locks
        raise _trouble(path, error) from error


def _trouble(path: str, error: OSError) -> EmioError:
    """Say in our words what HDF5 says in its own."""
    text = str(error)
    if "truncated file" in text:
        return TruncatedError(f"{path}: the file is cut short: {text[text.find('truncated file') :].rstrip(')')}")
    if "lock" in text or "already open for" in text:
        return StorageError(
            f"{path}: being written by another program ({text}); pass swmr=True, or locking=False if you are sure"
        )
    return StorageError(f"{path}: HDF5 cannot open it: {text}")


@dataclass(frozen=True)
class ChunkedDataset(Pixels):
    """An HDF5 dataset of any layout, with its axes in any order.

    Parameters
    ----------
    path, dataset
        File, and where in it.
    stored
        Type of the elements as h5py reads them.
    stored_shape
        Shape of the dataset.
    natural
        Shape of the chunks; ones where there are none.
    order
        ``order[k]`` is the stored axis that becomes axis `k`.
    frame_ndim
        How many of the last axes, as they are handed out, make a frame.
    view
        What an element is, if it is a record of equal numbers: the complex type, or that of the members, which become
        one more stored axis.
    opening
        How the file is opened.
    stamp
        State of the file when it was opened.
    target
        Bytes that chunks should have; default: the rule of the engine.
    filters
        Those of the chunks, if they can be read without HDF5; else `None`.
    """

    path: str
    dataset: str
    stored: np.dtype
    stored_shape: tuple[int, ...]
    natural: tuple[int, ...]
    order: tuple[int, ...]
    frame_ndim: int = 2
    view: np.dtype | None = None
    opening: Opening = field(default_factory=Opening)
    stamp: object = None
    target: int | None = None
    filters: tuple[int, ...] | None = None
    shape: tuple[int, ...] = field(init=False)
    dtype: np.dtype = field(init=False)

    def __post_init__(self) -> None:
        full = (*self.stored_shape, self.members) if self.members > 1 else self.stored_shape
        object.__setattr__(self, "shape", tuple(full[k] for k in self.order))
        object.__setattr__(self, "dtype", (self.view or self.stored).newbyteorder("="))

    @functools.cached_property
    def members(self) -> int:
        """Numbers in an element."""
        return self.stored.itemsize // self.view.itemsize if self.view is not None else 1

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Pixels of a box, decompressed by HDF5."""
        if out is None:
            out = np.empty(tuple(map(count_of, box)), self.dtype)
        self.read_many([(box, out)])
        return out

    def read_many(self, reads: Any) -> None:
        """Read several boxes with the file opened once."""
        wanted = [(box, out) for box, out in reads if out.size]
        try:
            if self.filters is None or not self._read_chunks(wanted, self.filters):
                with self._opened() as dataset:
                    for box, out in wanted:
                        self._read(dataset, box, out)
        except EmioError:
            raise
        except (OSError, KeyError, RuntimeError) as error:
            raise StorageError(f"{self.path}: {self.dataset} cannot be read at {_text(reads)}: {error}") from error

    def _read_chunks(self, reads: Sequence[tuple[Box, np.ndarray]], filters: tuple[int, ...]) -> bool:
        """Read boxes past HDF5, all bytes fetched at once; whether that was possible, and worth it."""
        remote = is_remote(self.path)
        if not remote and local_stamp(self.path) != self.stamp:
            return False  # HDF5 knows better than we where things are now
        much = sum(out.nbytes for _, out in reads) >= MUCH_BYTES
        table = TABLES.get((self.path, self.stamp, self.dataset), self._opened if much else None)
        if table is None:
            return False
        parts = [table.parts(self._stored(box)) for box, _ in reads]
        storage = Storage("remote", self.opening.options) if remote else Storage()
        chunks = iter(fetched(self.path, [part for some in parts for part in some], storage))
        chunk = ChunkBytes(self.natural, self.stored, filters)
        try:
            for (box, out), some in zip(reads, parts, strict=True):
                target = out.transpose(self._back)
                for part in some:
                    if part.start < 0:
                        target[part.place] = self._pixels(table.blank.astype(self.stored), box)
                    else:
                        elements = chunk.elements(next(chunks), part.skipped)[part.within]
                        convert(self._pixels(elements, box), target[part.place])
        except UnknownBytes:
            return False
        return True

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """Open the dataset, as it was when it was found."""
        with self.opening.open(self.path, self.stamp) as file:
            dataset = file[self.dataset]
            if dataset.shape != self.stored_shape and not self._has_grown(dataset.shape):
                raise StorageError(f"{self.path}: {self.dataset} has changed its shape to {dataset.shape}")
            yield dataset

    def _has_grown(self, now: tuple[int, ...]) -> bool:
        return len(now) == len(self.stored_shape) and all(n >= m for n, m in zip(now, self.stored_shape, strict=True))

    @functools.cached_property
    def _back(self) -> tuple[int, ...]:
        """Axis of the pixels as they are handed out, for each stored axis."""
        return tuple(int(k) for k in np.argsort(self.order))

    def _stored(self, box: Box) -> list[slice]:
        """Box of a dataset in its own order of axes, without that of the members of an element."""
        return [box[k] for k in self._back[: len(self.stored_shape)]]

    def _read(self, dataset: Any, box: Box, out: np.ndarray) -> None:
        """Let HDF5 read a box."""
        stored_box, target = self._stored(box), out.transpose(self._back)
        last = len(stored_box) - 1
        thin = self.natural[last]
        if last > 0 and thin < THIN and count_of(stored_box[last]) > thin:
            cut, step = stored_box[last], stored_box[last].step
            for at in range(0, count_of(cut), max(1, thin // step)):
                first = cut.start + at * step
                some = range(first, cut.stop, step)[: max(1, thin // step)]
                piece = (*stored_box[:last], slice(some[0], some[-1] + 1, step))
                place = (slice(None),) * last + (slice(at, at + len(some)),)
                target[place] = self._pixels(dataset[piece], box)
            return
        target[...] = self._pixels(dataset[tuple(stored_box)], box)

    def _pixels(self, values: np.ndarray, box: Box) -> np.ndarray:
        """Pixels of elements, and of those the members that a box wants."""
        if self.view is None:
            return values
        members = np.ascontiguousarray(values).view(self.view)
        if self.members == 1:
            return members.reshape(values.shape)
        return members.reshape(*values.shape, self.members)[..., box[self._back[-1]]]

    def chunks(self) -> tuple[int, ...]:
        """Whole frames, and whole chunks of the file."""
        natural = [*self.natural, self.members] if self.members > 1 else list(self.natural)
        chunk = [min(natural[k], n) for k, n in zip(self.order, self.shape, strict=True)]
        depth = self.ndim - self.frame_ndim
        chunk[depth:] = self.shape[depth:]
        size = max(1, math.prod(chunk) * self.dtype.itemsize)
        wanted = (self.target or self._usual) // size
        for axis in reversed(range(depth)):
            if wanted < 2:
                break
            times = -(-self.shape[axis] // max(1, chunk[axis]))
            chunk[axis] = min(self.shape[axis], chunk[axis] * min(times, wanted))
            wanted = wanted // times if wanted >= times else 1
        return tuple(chunk)

    @property
    def _usual(self) -> int:
        return min(COPY_BYTES, max(SMALLEST_BYTES, self.nbytes // (CHUNKS_PER_CORE * cores())))

    @property
    def read_bytes(self) -> int:
        """A whole chunk: to read a part of one, HDF5 decompresses all of it."""
        return max(READ_BYTES, math.prod(self.chunks()) * self.dtype.itemsize)

    @property
    def walks(self) -> bool:
        """Not in pieces, for the same reason."""
        return False

    def files(self) -> tuple[str, ...]:
        """Name of the file."""
        return (self.path,)

    def layout(self) -> dict[str, Any]:
        """Say where the dataset is, for people."""
        return {
            "kind": "HDF5 dataset",
            "dataset": self.dataset,
            "stored": self.stored.str,
            "stored_shape": list(self.stored_shape),
            "chunks": list(self.natural),
        }

    def token(self) -> object:
        """File, its state, dataset and how it is seen."""
        return ("hdf5", self.path, self.stamp, self.dataset, self.stored_shape, self.order, self.frame_ndim, self.view)


def _text(reads: Any) -> str:
    return "; ".join(", ".join(f"{cut.start}:{cut.stop}" for cut in box) for box, _ in list(reads)[:2])


@dataclass(frozen=True)
class Concatenated(Pixels):
    """Pixels of several files one after the other along their first axis.

    Parameters
    ----------
    parts
        Equal in all but the length of the first axis.
    """

    parts: tuple[Pixels, ...]
    shape: tuple[int, ...] = field(init=False)
    dtype: np.dtype = field(init=False)
    frame_ndim: int = field(init=False)

    def __post_init__(self) -> None:
        first = self.parts[0]
        object.__setattr__(self, "shape", (sum(part.shape[0] for part in self.parts), *first.shape[1:]))
        object.__setattr__(self, "dtype", first.dtype)
        object.__setattr__(self, "frame_ndim", first.frame_ndim)

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Pixels of a box, from those parts that it touches."""
        if out is None:
            out = np.empty(tuple(map(count_of, box)), self.dtype)
        wanted = range(box[0].start, box[0].stop, box[0].step)
        start = done = 0
        for part in self.parts:
            stop = start + part.shape[0]
            here = len(range(wanted.start, min(wanted.stop, stop), wanted.step)) - done
            if here > 0:
                first = wanted[done] - start
                cut = slice(first, first + (here - 1) * wanted.step + 1, wanted.step)
                part.read((cut, *box[1:]), out[done : done + here])
                done += here
            start = stop
        return out

    def chunks(self) -> tuple[int, ...]:
        """As the first part."""
        return self.parts[0].chunks()

    @property
    def read_bytes(self) -> int:
        """As the first part."""
        return self.parts[0].read_bytes

    @property
    def walks(self) -> bool:
        """As the first part."""
        return self.parts[0].walks

    def files(self) -> tuple[str, ...]:
        """Those of all parts."""
        return tuple(name for part in self.parts for name in part.files())

    def layout(self) -> dict[str, Any]:
        """As the first part, and how many there are."""
        return {**self.parts[0].layout(), "parts": len(self.parts)}

    def token(self) -> object:
        """Tokens of all parts."""
        return ("concatenated", *(part.token() for part in self.parts))


@dataclass(frozen=True)
class Stacked(Pixels):
    """Pixels of the same shape along a new first axis."""

    parts: tuple[Pixels, ...]
    shape: tuple[int, ...] = field(init=False)
    dtype: np.dtype = field(init=False)
    frame_ndim: int = field(init=False)

    def __post_init__(self) -> None:
        first = self.parts[0]
        object.__setattr__(self, "shape", (len(self.parts), *first.shape))
        object.__setattr__(self, "dtype", first.dtype)
        object.__setattr__(self, "frame_ndim", first.frame_ndim)

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Pixels of a box, from those parts that it touches."""
        if out is None:
            out = np.empty(tuple(map(count_of, box)), self.dtype)
        for number, part in enumerate(range(box[0].start, box[0].stop, box[0].step)):
            self.parts[part].read(box[1:], out[number])
        return out

    def chunks(self) -> tuple[int, ...]:
        """As a part."""
        return (1, *self.parts[0].chunks())

    def files(self) -> tuple[str, ...]:
        """Those of all parts."""
        return tuple(name for part in self.parts for name in part.files())

    def layout(self) -> dict[str, Any]:
        """As the first part, and how many there are."""
        return {**self.parts[0].layout(), "parts": len(self.parts)}

    def token(self) -> object:
        """Tokens of all parts."""
        return ("stacked", *(part.token() for part in self.parts))
