"""Fetching bytes: memory maps, buffered and direct reads of local files, requests for remote ones, packed ones.

A backend answers one question: given some byte ranges, in which buffer are they, and at which byte of the file does
that buffer begin? Maps are kept per process, and made anew when a file changes.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ArgumentError, MissingFileError, StorageError, TruncatedError
from .files import fetch_ranges, is_remote
from .unpacked import fetch_unpacked

BACKENDS = ("mmap", "buffered", "direct")
REQUEST_BYTES = 4 << 20
"""Size of one remote request: a chunk is fetched as several of these at the same time."""

Range = tuple[str, int, int]
Buffer = tuple[Any, int]


@dataclass(frozen=True)
class Storage:
    """How the bytes of files are fetched.

    Parameters
    ----------
    backend
        ``"mmap"``, ``"buffered"``, ``"direct"`` (past the page cache), ``"remote"`` for URLs, or ``"packed"`` for the
        content of files packed by gzip or bzip2, wherever they are.
    options
        For fsspec.
    """

    backend: str = "mmap"
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def choose(cls, uri: str, io_backend: str | None = None, options: Mapping[str, Any] | None = None) -> Storage:
        """Return the backend that was asked for, or the best one for a file.

        Raises
        ------
        ArgumentError
            If there is no such backend, or it cannot read the file.
        """
        if io_backend is not None and io_backend not in BACKENDS:
            raise ArgumentError(f"io_backend must be one of {', '.join(BACKENDS)} or None, not {io_backend!r}")
        if is_remote(uri):
            if io_backend is not None:
                raise ArgumentError(f"{uri}: io_backend={io_backend!r} reads local files only; leave it out for URLs")
            return cls("remote", dict(options or {}))
        if io_backend == "direct" and not hasattr(os, "O_DIRECT"):
            raise ArgumentError("io_backend='direct' needs O_DIRECT, which this system lacks: use 'buffered'")
        return cls(io_backend or "mmap")

    @property
    def maps(self) -> bool:
        """Whether buffers are maps of whole files, so that ranges cost nothing until they are touched."""
        return self.backend == "mmap"

    @property
    def whole_chunks(self) -> bool:
        """Whether a chunk should be fetched at once: maps cost nothing, and remote requests run at the same time."""
        return self.backend in ("mmap", "remote")

    def fetch(self, ranges: Sequence[Range]) -> list[Buffer]:
        """Return for each range (file, start, stop) a buffer that holds it, and where that buffer begins.

        Raises
        ------
        MissingFileError, TruncatedError, StorageError
            If a file is gone, has become too short, or cannot be read.
        """
        if not ranges:
            return []
        match self.backend:
            case "mmap":
                return [(_MAPS.get(path, stop), 0) for path, _, stop in ranges]
            case "remote":
                return _fetch_remote(ranges, self.options)
            case "direct":
                return [_read_direct(path, start, stop) for path, start, stop in ranges]
            case "packed":
                return [(fetch_unpacked(path, start, stop, self.options), start) for path, start, stop in ranges]
        return [(_read_buffered(path, start, stop), start) for path, start, stop in ranges]

    def gather(self, path: str, places: Sequence[int], nbytes: int) -> bytes:
        """Return a few bytes from each of many places of a local file, one behind the other."""
        with _open(path) as handle:
            descriptor = handle.fileno()
            data = b"".join([os.pread(descriptor, nbytes, at) for at in places])
            if len(data) != nbytes * len(places):
                raise shrunk(path, max(places) + nbytes, os.fstat(descriptor).st_size)
        return data


# Memory maps ---------------------------------------------------------------------------------------------------------


class Maps:
    """Maps of recently used files, one per file and process.

    A file that has changed is mapped anew. The size is checked at each use, because touching a map behind the end of
    a file that has become shorter kills the process.
    """

    def __init__(self, most: int = 128):
        self.most = most
        self._maps: OrderedDict[str, tuple[tuple[int, int, int], mmap.mmap]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: str, stop: int) -> mmap.mmap:
        """Map of a whole file that reaches to byte `stop` at least."""
        info = _stat(path)
        if info.st_size < stop:
            raise shrunk(path, stop, info.st_size)
        stamp = (info.st_size, info.st_mtime_ns, info.st_ino)
        with self._lock:
            known = self._maps.get(path)
            if known is None or known[0] != stamp:
                known = (stamp, _map(path))
                self._maps[path] = known
                if len(self._maps) > self.most:
                    self._maps.popitem(last=False)
            self._maps.move_to_end(path)
            return known[1]

    def forget(self, path: str | None = None) -> None:
        """Drop the map of a file, or all of them; arrays that still use one keep it alive."""
        with self._lock:
            if path is None:
                self._maps.clear()
            else:
                self._maps.pop(path, None)


def _map(path: str) -> mmap.mmap:
    with _open(path) as handle:
        return mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)


_MAPS = Maps()
forget = _MAPS.forget


def shrunk(path: str, needed: int, found: int) -> TruncatedError:
    """Return the error for a file that ends earlier than when it was opened."""
    return TruncatedError(
        f"{path}: needs {needed} bytes, but has only {found} now: it became shorter after it was opened. Open it again"
    )


def _stat(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file any more: it vanished after it was opened") from None


def _open(path: str) -> Any:
    try:
        return open(path, "rb", buffering=0)
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file any more: it vanished after it was opened") from None
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error


# Reads ---------------------------------------------------------------------------------------------------------------


def _read_buffered(path: str, start: int, stop: int) -> np.ndarray:
    buffer = np.empty(stop - start, "u1")
    with _open(path) as handle:
        _fill(handle.fileno(), buffer.data, start, path)
    return buffer


def _fill(descriptor: int, target: memoryview, start: int, path: str) -> None:
    done = 0
    while done < len(target):
        got = os.preadv(descriptor, [target[done:]], start + done)
        if not got:
            raise shrunk(path, start + len(target), os.fstat(descriptor).st_size)
        done += got


def _read_direct(path: str, start: int, stop: int) -> Buffer:
    """Read past the page cache: buffer, position and length are all multiples of a page."""
    page = mmap.PAGESIZE
    begin = start // page * page
    length = -(-(stop - begin) // page) * page
    buffer = mmap.mmap(-1, length)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file any more: it vanished after it was opened") from None
    except OSError as error:
        raise StorageError(
            f"{path}: the file system cannot do direct reads ({error.strerror}): use io_backend='buffered'"
        ) from error
    try:
        done = 0
        with memoryview(buffer) as view:
            while begin + done < stop:
                got = os.preadv(descriptor, [view[done:]], begin + done)
                done += got
                if not got or (got % page and begin + done < stop):
                    raise shrunk(path, stop, os.fstat(descriptor).st_size)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"{path}: direct read failed ({error.strerror}): use io_backend='buffered'") from error
    finally:
        os.close(descriptor)
    return buffer, begin


def _fetch_remote(ranges: Sequence[Range], options: Mapping[str, Any]) -> list[Buffer]:
    """All ranges at once: near ones of the same file in one request, large ones in several."""
    pieces: list[Range] = []
    members: list[tuple[int, int]] = []
    for path, start, stop in ranges:
        first = len(pieces)
        pieces += [(path, at, min(at + REQUEST_BYTES, stop)) for at in range(start, stop, REQUEST_BYTES)]
        members.append((first, len(pieces)))
    data = fetch_ranges(pieces, options)
    return [
        (data[first] if last == first + 1 else b"".join(data[first:last]), start)
        for (first, last), (_, start, _) in zip(members, ranges, strict=True)
    ]
