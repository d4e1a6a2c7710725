"""Pixels in the chunks of a Zarr array.

A store is known by its name; each process opens it when it first reads, and keeps a few recently used arrays open.
A store without a name, in memory for instance, is carried along as it is. Only zarr-python knows how chunks are stored;
it is imported when a store is opened.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import math
import os
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import EmioError, HeaderError, MissingFileError, StorageError
from .chunking import grown_chunks
from .files import File, filesystem
from .pixels import READ_BYTES, Box, Pixels

METADATA = ("zarr.json", ".zgroup", ".zarray")
"""Files that make a folder a Zarr group or array."""

MOST_OPEN = 32
MOST_LOOKED_AT = 1000
"""In how many chunks the broken one is searched."""


@dataclass(frozen=True)
class StoreName:
    """What a Zarr store is called: a folder, a ``.zip`` file, or an fsspec URL.

    Parameters
    ----------
    uri
        Path or URL of the root.
    zipped
        Whether it is a local ``.zip`` file.
    options
        For fsspec.
    """

    uri: str
    zipped: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def open(self) -> Any:
        """Open the store, read-only."""
        from zarr.storage import LocalStore, ZipStore

        if self.zipped:
            return ZipStore(self.uri, mode="r")
        if File(self.uri).remote:
            return remote_store(self.uri, self.options, read_only=True)
        return LocalStore(self.uri, read_only=True)

    @contextlib.contextmanager
    def kept_open(self) -> Iterator[HeldStore]:
        """Open the store once for many looks into it."""
        from zarr.core.sync import sync
        from zarr.storage import ZipStore

        with self.in_our_words(""):
            store = sync(ZipStore.open(self.uri, mode="r")) if self.zipped else self.open()
        try:
            yield HeldStore(self.uri, self.zipped, self.options, store, str(self.stamp("")))
        finally:
            store.close()

    def node(self, path: str) -> Any:
        """Open a group or an array by its path in the store.

        Raises
        ------
        HeaderError
            If there is none, or its metadata are broken.
        """
        import zarr

        with self.in_our_words(path):
            store = self.open()
            return zarr.open(store, path=path, mode="r" if store.read_only else "r+")

    @contextlib.contextmanager
    def in_our_words(self, path: str) -> Iterator[None]:
        """Turn whatever zarr-python says about metadata into an error that names the store."""
        where = f"{self.uri}: {path}" if path else self.uri
        try:
            yield
        except EmioError:
            raise
        except json.JSONDecodeError as error:
            raise HeaderError(f"{where}: the metadata ({self._broken(path)}) are no JSON: {error}") from error
        except FileNotFoundError as error:
            if self._is_described(path):
                raise HeaderError(f"{where}: has Zarr metadata, but they describe no group or array") from error
            raise MissingFileError(f"{where}: no Zarr group or array of that name") from error
        except OSError as error:
            raise StorageError(f"{where}: {error}") from error
        except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, NotImplementedError) as error:
            text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
            if type(error).__name__ == "UnknownCodecError" or "codec not available" in text:
                raise HeaderError(
                    f"{where}: is compressed with a codec that is not installed ({text}): install the package that "
                    "has it, for example imagecodecs-numcodecs, hdf5plugin or numcodecs[all]"
                ) from error
            raise HeaderError(f"{where}: broken Zarr metadata: {type(error).__name__}: {text}") from error

    def _is_described(self, path: str) -> bool:
        """Whether there are metadata, whatever they say."""
        return self.stamp(path) is not None and not self.zipped

    def _broken(self, path: str) -> str:
        """Name the metadata file that is no JSON."""
        if self.zipped:
            return "zarr.json"
        for name in (*METADATA, ".zattrs", ".zmetadata"):
            file = File(self.uri, self.options).within(f"{path}/{name}" if path else name)
            if file.exists():
                try:
                    json.loads(file.read(0, file.size))
                except ValueError:
                    return name
        return "zarr.json"

    def stamp(self, path: str) -> object:
        """State of an array, as far as the files of its metadata show it."""
        root = File(self.uri, self.options)
        if self.zipped:
            return root.stamp
        for name in ("zarr.json", ".zarray"):
            file = root.within(f"{path}/{name}" if path else name)
            if file.exists():
                return file.stamp
        return None


def remote_store(uri: str, options: Mapping[str, Any], *, read_only: bool) -> Any:
    """Open a store behind an fsspec URL, on file systems with and without concurrent requests."""
    from zarr.storage import FsspecStore

    fs, path = filesystem(uri, options)
    if fs.async_impl:
        return FsspecStore.from_url(uri, storage_options=dict(options) or None, read_only=read_only)
    return FsspecStore.from_mapper(fs.get_mapper(path), read_only=read_only)


@dataclass(frozen=True)
class HeldStore(StoreName):
    """A Zarr store that is open already, and perhaps has no name.

    Parameters
    ----------
    store
        As zarr-python knows it.
    identity
        What tells its content from any other.
    """

    store: Any = None
    identity: str = field(default_factory=lambda: uuid.uuid4().hex)

    def open(self) -> Any:
        """Return the store."""
        return self.store

    @contextlib.contextmanager
    def kept_open(self) -> Iterator[HeldStore]:
        """Yield the store itself, which stays open."""
        yield self

    def names(self, path: str) -> list[str]:
        """Names of all that lies directly below a path, sorted; nothing where a store cannot list them.

        Members of groups are among them, also those that zarr-python cannot open.
        """
        from zarr.core.sync import sync
        from zarr.storage import FsspecStore

        async def listed(store: Any) -> list[str]:
            if isinstance(store, FsspecStore) and not store.path:  # zarr-python would ask for "/" and the path
                return list(await store.fs._ls(path, detail=False))
            return [name async for name in store.list_dir(path)]

        try:
            names = sync(listed(self.open()))
        except (OSError, NotImplementedError):
            return []
        return sorted({name.rstrip("/").rpartition("/")[2] for name in names} - {""})

    def stamp(self, path: str) -> object:
        """Its identity: what is in it may change without a trace."""
        return self.identity

    def _is_described(self, path: str) -> bool:
        return not set(METADATA).isdisjoint(self.names(path))


def is_store(value: Any) -> bool:
    """Whether something is a Zarr store, or a mapping that can be one.

    Examples
    --------
    >>> is_store({".zgroup": b"{}"}), is_store({"a": 1}), is_store("scan.zarr")
    (True, False, False)
    """
    if isinstance(value, Mapping) and not type(value).__module__.startswith("fsspec."):
        return all(isinstance(content, bytes | bytearray | memoryview) for content in value.values())
    return any(kind.__module__.startswith(("zarr.abc.store", "fsspec.mapping")) for kind in type(value).__mro__)


def held_store(store: Any) -> StoreName | None:
    """Name of a store that is handed over as an object, or the store itself; `None` if it is none.

    Stores of zarr-python, maps of fsspec, and mappings from keys to bytes are taken.

    Examples
    --------
    >>> held_store({".zgroup": b'{"zarr_format": 2}'}).uri
    '<dict with 1 keys>'
    """
    if not is_store(store):
        return None
    from fsspec.mapping import FSMap
    from zarr.core.buffer import cpu
    from zarr.storage import FsspecStore, LocalStore, MemoryStore, ZipStore

    if isinstance(store, FSMap):
        return HeldStore(f"<{store.root}>", store=FsspecStore.from_mapper(store, read_only=True))
    if isinstance(store, Mapping):
        held: dict[str, Any] = {key: cpu.Buffer.from_bytes(bytes(value)) for key, value in store.items()}
        return HeldStore(f"<{type(store).__name__} with {len(store)} keys>", store=MemoryStore(held, read_only=True))
    if isinstance(store, LocalStore):
        return StoreName(str(store.root))
    if isinstance(store, ZipStore):
        return StoreName(str(store.path), zipped=True)
    with contextlib.suppress(NotImplementedError):
        store = store.with_read_only(True)
    return HeldStore(f"<{store}>", store=store)


class _Arrays:
    """Arrays that this process has open, the recently used ones; a forked process opens its own."""

    def __init__(self) -> None:
        self._open: OrderedDict[object, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, store: StoreName, path: str, stamp: object) -> Any:
        key = (os.getpid(), store.uri, repr(sorted(store.options.items())), path, stamp)
        with self._lock:
            array = self._open.get(key)
            if array is not None:
                self._open.move_to_end(key)
                return array
        array = store.node(path)
        with self._lock:
            self._open[key] = array
            while len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
        return array


_ARRAYS = _Arrays()


@dataclass(frozen=True)
class StoredArray(Pixels):
    """A Zarr array, known by its name.

    Parameters
    ----------
    store, path
        Where it is.
    shape, dtype
        Of the array; the dtype in native byte order.
    natural
        Shape of what is stored in one file: chunks, or shards.
    frame_ndim
        How many of the last axes make a frame.
    stamp
        State of the store when it was opened.
    members
        How many numbers an element is made of, if it is a record of equal ones, which become one more axis; else 0.
    """

    store: StoreName
    path: str
    shape: tuple[int, ...]
    dtype: np.dtype
    natural: tuple[int, ...]
    frame_ndim: int = 2
    stamp: object = None
    members: int = 0

    @classmethod
    def of(cls, store: StoreName, array: Any, frame_ndim: int = 2, *, records: bool = False) -> StoredArray:
        """Return an open array by its name.

        Parameters
        ----------
        store, array
            Where it is, and what zarr-python says of it.
        frame_ndim
            How many of the last axes make a frame.
        records
            Whether elements may be records of equal numbers; these are one more axis of the frame.

        Raises
        ------
        HeaderError
            If it has no pixels: an axis of length zero, or elements that are no numbers.
        """
        path = array.path.strip("/")
        where = f"{store.uri}: {path}" if path else store.uri
        if 0 in array.shape:
            raise HeaderError(f"{where}: an array of shape {array.shape} has no pixels")
        dtype = np.dtype(array.dtype)
        members = 0
        if records and dtype.names and len({dtype[name] for name in dtype.names}) == 1:
            members, dtype = len(dtype.names), dtype[0]
        if dtype.kind not in "biufc":
            raise HeaderError(f"{where}: elements of type {dtype} are no pixels: numbers are expected")
        natural = array.shards or array.chunks
        if 0 in natural:
            raise HeaderError(f"{where}: chunks of shape {natural} hold no pixels")
        more = (members,) if members else ()
        return cls(
            store,
            path,
            (*array.shape, *more),
            dtype.newbyteorder("="),
            (*natural, *more),
            min(frame_ndim, array.ndim) + len(more),
            store.stamp(path),
            members,
        )

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Pixels of a box; chunks that are missing show the fill value."""
        array = _ARRAYS.get(self.store, self.path, self.stamp)
        depth = len(self.shape) - bool(self.members)
        if array.shape != self.shape[:depth]:
            raise StorageError(f"{self._where}: has changed its shape to {array.shape}: open it again")
        try:
            values = np.asarray(array[box[:depth]])
        except Exception as error:  # codecs of strangers raise what they like
            raise StorageError(
                f"{self._where}: chunk {self._guilty(array, box)} cannot be read: {type(error).__name__}: {error}"
            ) from error
        if self.members:
            values = np.ascontiguousarray(values)
            values = values.view(values.dtype[0]).reshape(*values.shape, self.members)[..., box[depth]]
        if out is None:
            return values.astype(self.dtype, copy=False)
        out[...] = values
        return out

    @property
    def _where(self) -> str:
        return f"{self.store.uri}: {self.path}" if self.path else self.store.uri

    def _guilty(self, array: Any, box: Box) -> str:
        """Key of the first chunk of a box that cannot be read."""
        natural = self.natural[: array.ndim]
        grid = [range(cut.start // n, (cut.stop - 1) // n + 1) for cut, n in zip(box, natural, strict=False)]
        for place in itertools.islice(itertools.product(*grid), MOST_LOOKED_AT):
            part = tuple(slice(k * n, (k + 1) * n) for k, n in zip(place, natural, strict=True))
            try:
                array[part]
            except Exception:
                return str(array.metadata.encode_chunk_key(place))
        return "(which one is not known)"

    def chunks(self) -> tuple[int, ...]:
        """Whole multiples of what is stored together."""
        return grown_chunks(self.shape, self.dtype.itemsize, self.natural)

    @property
    def read_bytes(self) -> int:
        """A whole stored chunk: to read a part of one, all of it is decoded."""
        return max(READ_BYTES, math.prod(self.chunks()) * self.dtype.itemsize)

    @property
    def walks(self) -> bool:
        """Not in pieces, for the same reason."""
        return False

    def files(self) -> tuple[str, ...]:
        """Name of the store."""
        return (self.store.uri,)

    def layout(self) -> dict[str, Any]:
        """Say where the array is, for people."""
        return {"kind": "Zarr array", "array": self.path or "/", "chunks": list(self.natural)}

    def token(self) -> object:
        """Store, array and its state."""
        return ("zarr", self.store.uri, self.path, self.shape, self.dtype.str, self.frame_ndim, self.stamp)


def name_of(array: Any) -> StoreName | None:
    """Name of the store of an open `zarr.Array`, if another process could open it by that."""
    store = held_store(array.store)
    return None if isinstance(store, HeldStore) else store


@functools.lru_cache(maxsize=64)
def zip_root(path: str, stamp: object) -> str | None:
    """Folder of a local ``.zip`` in which a Zarr store begins (``""``: at the top); `None` if there is none."""
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError):
        return None
    return _root_among(names)


def remote_zip_root(file: File) -> str | None:
    """Folder of a remote ``.zip`` in which a Zarr store begins."""
    from .files import filesystem

    try:
        fs, _ = filesystem(f"zip://::{file.uri}", file.storage_options)
        return _root_among([str(name) for name in fs.find("")])
    except (OSError, ValueError, EmioError):
        return None


def _root_among(names: list[str]) -> str | None:
    roots = {name.rpartition("/")[0] for name in names if name.rpartition("/")[2] in METADATA}
    shortest = min(roots, key=lambda root: (root.count("/") if root else -1, root), default=None)
    return shortest if shortest is None or shortest.count("/") < 1 else None
