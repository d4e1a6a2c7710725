"""Files by name: local paths and fsspec URLs, their headers and their neighbours."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from ..errors import MissingFileError, StorageError, TruncatedError

HEAD = 65536
"""How much of a remote file is fetched at first: one request serves most headers."""


def normalise(uri: Any) -> str:
    """Absolute path of a local file, or the URL of a remote one.

    Examples
    --------
    >>> normalise("s3://bucket/scan.blo"), normalise("file:///data//scan.blo")
    ('s3://bucket/scan.blo', '/data/scan.blo')
    """
    text = os.fspath(uri)
    if text.startswith(("file:", "local:")) and "::" not in text:
        text = unquote(urlsplit(text).path) if "://" in text else text.split(":", 1)[1]
    elif is_remote(text):
        return text
    return os.path.abspath(os.path.expanduser(text))


def is_remote(uri: str) -> bool:
    """Whether bytes come through fsspec: ``http://…``, ``s3://…``, ``zip://…::…``."""
    return "://" in uri or "::" in uri


class File:
    """A readable sequence of bytes with a name, for parsing headers. Nothing stays open.

    Parameters
    ----------
    uri
        Path or fsspec URL.
    storage_options
        For fsspec.
    neighbours
        Names of all files in the same folder, sorted, if they are known already.

    Attributes
    ----------
    seen : set of str
        Names of the files that were looked into from here: this one and siblings. They are what a parser went by.
    """

    def __init__(
        self, uri: str, storage_options: Mapping[str, Any] | None = None, *, neighbours: Sequence[str] | None = None
    ):
        self.uri = normalise(uri)
        self.storage_options = dict(storage_options or {})
        self.remote = is_remote(self.uri)
        self.seen: set[str] = set()
        if neighbours is not None:
            self.neighbours = tuple(neighbours)

    def __str__(self) -> str:
        return self.uri

    @property
    def name(self) -> str:
        """Last part of the name, without folders."""
        return self.uri.split("::", 1)[0].replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]

    @property
    def stem(self) -> str:
        """Name without its last extension."""
        return os.path.splitext(self.name)[0]

    @property
    def extension(self) -> str:
        """Last extension in lower case, with its dot."""
        return os.path.splitext(self.name)[1].lower()

    @functools.cached_property
    def stamp(self) -> tuple[int, float | str]:
        """Size in bytes, and a mark that changes when the content does (modification time or ETag)."""
        if self.remote:
            stamp = remote_stamp(self.uri, self.storage_options)
        else:
            stamp = local_stamp(self.uri)
        self.seen.add(self.uri)
        return stamp

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.stamp[0]

    def exists(self) -> bool:
        """Whether there is such a file."""
        try:
            return self.size >= 0
        except (MissingFileError, IsADirectoryError):
            return False

    @functools.cached_property
    def is_folder(self) -> bool:
        """Whether the name is that of a folder, as far as that can be told: web servers may not say."""
        if not self.remote:
            return os.path.isdir(self.uri)
        fs, path = filesystem(self.uri, self.storage_options)
        try:
            return not path.strip("/") or bool(fs.isdir(path))
        except (OSError, NotImplementedError):
            return False

    def within(self, name: str) -> File:
        """Return the file of that name in this folder; `name` may have folders in front, with ``/``."""
        head, chain, rest = self.uri.partition("::")
        slash = "/" if self.remote else os.sep
        inner = name if head.endswith("://") else head.rstrip(slash) + slash + name
        return File((head if head.endswith("://") else "") + inner + chain + rest, self.storage_options)

    @property
    def parent(self) -> File | None:
        """The folder this is in; `None` at the top."""
        head, chain, rest = self.uri.partition("::")
        slash = "/" if self.remote else os.sep
        folder = head.rstrip(slash).rpartition(slash)[0]
        if not folder or folder.endswith((":", ":/")):
            return None
        return File(folder + chain + rest, self.storage_options)

    def read(self, start: int, count: int) -> bytes:
        """Bytes from `start` on: `count` of them, or fewer where the file ends."""
        if start < 0 or count <= 0:
            return b""
        self.seen.add(self.uri)
        if not self.remote:
            try:
                with open(self.uri, "rb") as handle:
                    handle.seek(start)
                    return handle.read(count)
            except FileNotFoundError:
                raise MissingFileError(f"{self.uri}: no such file") from None
            except IsADirectoryError:
                raise StorageError(f"{self.uri} is a folder, and a file was expected") from None
        if start + count <= HEAD:
            return self._head[start : start + count]
        return fetch_remote(self.uri, start, min(start + count, self.size), self.storage_options)

    def read_exactly(self, start: int, count: int, what: str) -> bytes:
        """Read `count` bytes, or raise a `TruncatedError` that names `what` is cut short."""
        data = self.read(start, count)
        if len(data) != count:
            raise TruncatedError(
                f"{self.uri}: the {what} needs {count} bytes from byte {start} on, but only {len(data)} are there"
            )
        return data

    @functools.cached_property
    def _head(self) -> bytes:
        return fetch_remote(self.uri, 0, min(HEAD, self.size), self.storage_options)

    def sibling(self, name: str) -> File:
        """Return the file of that name in the same folder; what is seen of it counts as seen from here."""
        same_folder = "/" not in name and os.sep not in name
        other = File(
            _beside(self.uri, name),
            self.storage_options,
            neighbours=self.__dict__.get("neighbours") if same_folder else None,  # listed at most once
        )
        other.seen = self.seen
        return other

    @functools.cached_property
    def neighbours(self) -> tuple[str, ...]:
        """Names of all files in the same folder, sorted."""
        if not self.remote:
            try:
                return tuple(sorted(e.name for e in os.scandir(os.path.dirname(self.uri)) if e.is_file()))
            except FileNotFoundError:
                return ()
        fs, path = filesystem(self.uri, self.storage_options)
        try:
            listing = fs.ls(fs._parent(path), detail=False)
        except (OSError, NotImplementedError):
            return ()
        return tuple(sorted(str(p).rstrip("/").rsplit("/", 1)[-1] for p in listing))


def _beside(uri: str, name: str) -> str:
    head, chain, rest = uri.partition("::")
    folder, slash, _ = head.replace("\\", "/").rpartition("/") if is_remote(uri) else head.rpartition(os.sep)
    return folder + slash + name + chain + rest


def local_stamp(path: str) -> tuple[int, float | str]:
    """Size and modification time of a local file.

    Raises
    ------
    MissingFileError, StorageError
        If it is not there, or is no file.
    """
    try:
        info = os.stat(path)
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file") from None
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    if not os.path.isfile(path):
        raise StorageError(f"{path} is a folder, and a file was expected")
    return info.st_size, info.st_mtime_ns


# Remote files --------------------------------------------------------------------------------------------------------


def filesystem(uri: str, storage_options: Mapping[str, Any] | None = None) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the path in it. Instances are cached by fsspec, per process."""
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(uri, **dict(storage_options or {}))
    except ImportError as error:
        raise StorageError(f"{uri}: {error}. Install intake-emio[remote]") from error
    except ValueError as error:
        raise StorageError(f"{uri}: {error}") from error
    except FileNotFoundError:
        raise MissingFileError(f"{uri}: no such file") from None


def remote_stamp(uri: str, storage_options: Mapping[str, Any] | None) -> tuple[int, float | str]:
    """Size of a remote file, and what tells its versions apart as far as the server says."""
    fs, path = filesystem(uri, storage_options)
    try:
        info = fs.info(path)
    except FileNotFoundError:
        raise MissingFileError(f"{uri}: no such file") from None
    except OSError as error:
        raise StorageError(f"{uri}: {error}") from error
    if info.get("type") == "directory":
        raise StorageError(f"{uri} is a folder, and a file was expected")
    if info.get("size") is None:
        raise StorageError(f"{uri}: the server does not tell the file's size, so parts of it cannot be read. {CACHE}")
    mark = next((info[k] for k in ("ETag", "etag", "LastModified", "mtime", "created") if info.get(k)), "")
    return int(info["size"]), str(mark)


def fetch_remote(uri: str, start: int, stop: int, storage_options: Mapping[str, Any] | None) -> bytes:
    """Bytes `start` to `stop` of a remote file, in one request."""
    return fetch_ranges([(uri, start, stop)], storage_options)[0]


def fetch_ranges(ranges: list[tuple[str, int, int]], storage_options: Mapping[str, Any] | None) -> list[bytes]:
    """Return byte ranges of remote files on one file system, requested at the same time where it can do that."""
    places = {uri: filesystem(uri, storage_options) for uri, _, _ in ranges}
    fs = places[ranges[0][0]][0]
    paths = [places[uri][1] for uri, _, _ in ranges]
    starts, stops = [r[1] for r in ranges], [r[2] for r in ranges]
    try:
        pieces = fs.cat_ranges(paths, starts, stops, on_error="raise")
    except FileNotFoundError:
        raise MissingFileError(f"{ranges[0][0]}: no such file (any more)") from None
    except OSError as error:
        raise StorageError(f"{ranges[0][0]}: {error}") from error
    for (uri, start, stop), piece in zip(ranges, pieces, strict=True):
        if len(piece) > stop - start:
            raise StorageError(
                f"{uri}: asked for {stop - start} bytes, got {len(piece)}: the server ignores range requests. {CACHE}"
            )
        if len(piece) < stop - start:
            raise TruncatedError(
                f"{uri}: asked for bytes {start} to {stop}, got only {len(piece)}: has the file changed?"
            )
    return pieces


CACHE = "Put 'simplecache::' in front of the URL to work on a local copy"
