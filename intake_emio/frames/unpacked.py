"""Files that are packed as one stream by gzip or bzip2.

Such a stream can only be unpacked from its beginning. That is done once per process, and only as far as somebody has
asked for; what is unpacked stays in memory, or in a temporary file if it is large.
"""

from __future__ import annotations

import bz2
import gzip
import tempfile
import threading
import weakref
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from ..errors import StorageError, TruncatedError
from .files import File, filesystem

MEMORY_BYTES = 16 << 20
"""What is kept in memory of one file; beyond that, a temporary file is used."""

PIECE = 1 << 20
SUFFIXES = (".gz", ".bz2")
GZIP, BZIP2 = b"\x1f\x8b", b"BZ"


def is_packed(file: File) -> bool:
    """Whether a file begins as gzip and bzip2 streams do."""
    return file.read(0, 2) in (GZIP, BZIP2)


class Unpacked(File):
    """A packed file seen as if it were not: `read` gives what is in it, and names lack ``.gz`` or ``.bz2``.

    Parameters
    ----------
    packed
        The file as it is.
    """

    def __init__(self, packed: File):
        super().__init__(packed.uri, packed.storage_options)
        self.seen = packed.seen

    @property
    def name(self) -> str:
        """Last part of the name, as it was before packing."""
        name = super().name
        return name[: name.rfind(".")] if name.lower().endswith(SUFFIXES) else name

    def read(self, start: int, count: int) -> bytes:
        """Unpacked bytes from `start` on: `count` of them, or fewer where the content ends."""
        if start < 0 or count <= 0:
            return b""
        self.seen.add(self.uri)
        stream = stream_of(self)
        return stream.read(start, min(start + count, stream.reach(start + count)))

    def reach(self, stop: int) -> int:
        """How many bytes of content there are, as far as `stop`.

        A gzip stream ends with the length of its content. If that is just what is asked for, it is believed, so that
        nothing has to be unpacked.
        """
        packed = File(self.uri, self.storage_options)
        if packed.read(0, 2) == GZIP:
            length = int.from_bytes(packed.read(packed.size - 4, 4), "little")
            if length == stop % (1 << 32):
                return stop
        return min(stop, stream_of(self).reach(stop))


class Stream:
    """The content of a packed file, as far as it has been unpacked.

    Parameters
    ----------
    file
        The packed file.
    """

    def __init__(self, file: File):
        self.path = file.uri
        self._packed, self._source = _opened(file)
        self._content = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115  as long-lived as the stream
        self._length = 0
        self._fault: StorageError | None = None
        self._lock = threading.Lock()
        weakref.finalize(self, _close, self._source, self._packed, self._content)

    def reach(self, stop: int) -> int:
        """Unpack to byte `stop`, or to the end; return how many bytes there are then.

        Raises
        ------
        StorageError
            If the stream is broken; one that just ends too early is not.
        """
        with self._lock:
            self._content.seek(self._length)
            while self._length <= stop and not self._source.closed:  # one more: checksums are compared at the end
                piece = self._next()
                self._content.write(piece)
                self._length += len(piece)
            if self._fault is not None:
                raise self._fault
            return self._length

    def _next(self) -> bytes:
        """Return the next bytes of the content; nothing, and close the source, at its end."""
        piece = b""
        try:
            piece = self._source.read1(PIECE)  # what there is before a fault is not lost
        except EOFError:
            pass
        except (OSError, ValueError, zlib.error) as error:
            self._fault = StorageError(
                f"{self.path}: the packed stream is broken behind byte {self._length} of its content: {error}"
            )
        if not piece:
            _close(self._source, self._packed)
        return piece

    def read(self, start: int, stop: int) -> bytes:
        """Return a range of the content.

        Raises
        ------
        TruncatedError
            If it ends before.
        """
        length = self.reach(stop)
        if length < stop:
            raise TruncatedError(
                f"{self.path}: the packed stream ends at byte {length} of its content, but {stop} are needed: is this "
                "copy complete?"
            )
        with self._lock:
            self._content.seek(start)
            return self._content.read(stop - start)


def _close(*files: Any) -> None:
    for file in files:
        file.close()


def _opened(file: File) -> tuple[Any, Any]:
    """Return the packed file, open, and what unpacks it."""
    start = file.read(0, 2)
    if start not in (GZIP, BZIP2):
        raise StorageError(f"{file}: is no gzip or bzip2 stream (any more): it begins with {start!r}")
    packed: Any
    if file.remote:
        fs, path = filesystem(file.uri, file.storage_options)
        packed = fs.open(path, "rb")
    else:
        packed = open(file.uri, "rb")  # noqa: SIM115  the stream closes it
    return packed, gzip.GzipFile(fileobj=packed) if start == GZIP else bz2.BZ2File(packed)


class Streams:
    """Streams of recently used files; a file that has changed is unpacked anew."""

    def __init__(self, most: int = 8):
        self.most = most
        self._streams: OrderedDict[str, tuple[object, Stream]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, file: File) -> Stream:
        """Return the stream of a packed file."""
        packed = File(file.uri, file.storage_options)
        stamp = packed.stamp
        with self._lock:
            known = self._streams.get(file.uri)
            if known is None or known[0] != stamp:
                known = (stamp, Stream(packed))
                self._streams[file.uri] = known
                if len(self._streams) > self.most:
                    self._streams.popitem(last=False)
            self._streams.move_to_end(file.uri)
            return known[1]


_STREAMS = Streams()
stream_of = _STREAMS.get


def fetch_unpacked(path: str, start: int, stop: int, options: Mapping[str, Any]) -> bytes:
    """Return a range of the content of a packed file."""
    return stream_of(File(path, options)).read(start, stop)
