"""Writing pixels in the chunks of Zarr arrays, in parallel, without anything in between where nothing is compressed.

A new store is composed in memory first: metadata, and whatever is small. That is put to its place, then the pixels are
written block by block, and the metadata of the root come last: nobody takes half a store for a whole one.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .chunked_store import remote_store
from .chunking import cores
from .files import filesystem, is_remote
from .pixels import Box
from .store import store, write_all

ROOT = (".zmetadata", ".zattrs", ".zgroup", "zarr.json")
"""Metadata of the root, in the order in which they are written: the last one makes the folder a store."""

BLOCK_BYTES = 64 << 20
"""Chunks that are written together, if they are small."""


class NewStore:
    """A Zarr store in the making.

    Parameters
    ----------
    uri
        Folder to make, or fsspec URL. There must be nothing yet.
    storage_options
        For fsspec.
    """

    def __init__(self, uri: str, storage_options: Mapping[str, Any] | None = None):
        from zarr.storage import MemoryStore

        self.uri = uri.rstrip("/")
        self.options = dict(storage_options or {})
        self._held: dict[str, Any] = {}
        self.skeleton = MemoryStore(self._held)
        """Where groups and arrays are created; pixels are not written here."""

    def lay_out(self) -> None:
        """Put everything that was created to its place, but not the metadata of the root."""
        if not is_remote(self.uri):
            os.mkdir(self.uri)
        self._put([key for key in self._held if key not in ROOT])

    def finish(self) -> None:
        """Put the metadata of the root, which may have been created only now."""
        for key in ROOT:
            if key in self._held:
                self._put([key])

    def target(self, path: str, *, plain: bool) -> ChunkTarget:
        """Return an array of the store, to write pixels to.

        Parameters
        ----------
        path
            Of the array.
        plain
            Whether chunks are stored as they are in memory: not compressed, and not in shards.
        """
        return ChunkTarget(self.uri, path, plain and not is_remote(self.uri), self.options)

    def _put(self, keys: list[str]) -> None:
        content = {key: self._held[key].to_bytes() for key in keys}
        if is_remote(self.uri):
            fs, root = filesystem(self.uri, self.options)
            fs.pipe({f"{root.rstrip('/')}/{key}": data for key, data in content.items()})
            return
        for key, data in content.items():
            write_file(os.path.join(self.uri, *key.split("/")), np.frombuffer(data, "u1"))


@dataclass(frozen=True)
class ChunkTarget:
    """A Zarr array that takes blocks of whole chunks; it travels to other processes by its name.

    Parameters
    ----------
    uri
        Of the store.
    path
        Of the array.
    plain
        Whether chunks are local files that hold the pixels as they are in memory.
    options
        For fsspec.
    token
        Tells it from others of the same name, before or after.
    """

    uri: str
    path: str
    plain: bool = False
    options: Mapping[str, Any] = field(default_factory=dict, compare=False)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __setitem__(self, box: Box, block: np.ndarray) -> None:
        array = _opened(self, os.getpid())
        if not self.plain:
            array[box] = block
            return
        begins = [cut.start for cut in box]
        for place in itertools.product(*(range(0, n, c) for n, c in zip(block.shape, array.chunks, strict=True))):
            chunk = block[tuple(slice(at, at + c) for at, c in zip(place, array.chunks, strict=True))]
            number = tuple((b + at) // c for b, at, c in zip(begins, place, array.chunks, strict=True))
            key = f"{self.path}/{array.metadata.encode_chunk_key(number)}"
            write_file(os.path.join(self.uri, *key.split("/")), _filled(chunk.astype(array.dtype, copy=False), array))


@functools.lru_cache(maxsize=32)
def _opened(target: ChunkTarget, process: int) -> Any:
    import zarr
    from zarr.storage import LocalStore

    remote = is_remote(target.uri)
    opened = remote_store(target.uri, target.options, read_only=False) if remote else LocalStore(target.uri)
    array = zarr.open_array(opened, path=target.path, mode="r+")
    return array.with_config({"write_empty_chunks": True})  # to look for blank ones takes longer than to write them


def _filled(chunk: np.ndarray, array: Any) -> np.ndarray:
    """Chunks have one size, also those that reach over the edge of the array."""
    if chunk.shape == array.chunks:
        return chunk
    whole = np.zeros(array.chunks, chunk.dtype)
    whole[tuple(slice(n) for n in chunk.shape)] = chunk
    return whole


def write_file(path: str, content: np.ndarray) -> None:
    """Write a new file, and make the folder it is in."""
    try:
        file = open(path, "wb", buffering=0)  # noqa: SIM115  the folder is there but for the first of its files
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        file = open(path, "wb", buffering=0)  # noqa: SIM115
    with file:
        write_all(file, content)


def write_chunks(pixels: Any, target: ChunkTarget, unit: Sequence[int]) -> None:
    """Write a NumPy or dask array so that no two tasks write the same file.

    Of a dask array, each chunk is computed once.

    Parameters
    ----------
    pixels
        All of the array.
    target
        Where to.
    unit
        Shape of what is in one file: chunks, or shards.
    """
    if not pixels.size:
        return
    if hasattr(pixels, "dask"):
        store(in_whole_chunks(pixels, unit), target)
        return
    sizes = grown(unit, pixels.shape, pixels.dtype.itemsize, BLOCK_BYTES)
    cuts = [[slice(at, min(at + c, n)) for at in range(0, n, c)] for n, c in zip(pixels.shape, sizes, strict=True)]
    with ThreadPoolExecutor(cores()) as threads:
        writes = [threads.submit(target.__setitem__, box, pixels[box]) for box in itertools.product(*cuts)]
        try:
            for write in writes:
                write.result()
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise


def in_whole_chunks(pixels: Any, unit: Sequence[int]) -> Any:
    """Return a dask array whose chunks are whole numbers of stored ones, as near to its own as that allows."""
    if all(size % n == 0 for sizes, n in zip(pixels.chunks, unit, strict=True) for size in sizes[:-1]):
        return pixels
    own = [max(sizes) for sizes in pixels.chunks]
    return pixels.rechunk(grown(unit, own, pixels.dtype.itemsize, BLOCK_BYTES))


def grown(unit: Sequence[int], within: Sequence[int], itemsize: int, nbytes: int) -> tuple[int, ...]:
    """Shape of a block of whole units: as many as make up so many bytes, the last axes first; at least one.

    Parameters
    ----------
    unit
        Shape that is not cut.
    within
        Shape that the block reaches at most, if a unit is not larger.
    itemsize, nbytes
        Bytes of a pixel, and of the block.

    Examples
    --------
    >>> grown((1, 1, 64, 64), (128, 128, 64, 64), 2, 1 << 20)
    (1, 128, 64, 64)
    """
    block = list(unit)
    for axis in reversed(range(len(block))):
        room = nbytes // max(1, math.prod(block) * itemsize)
        block[axis] *= max(1, min(-(-within[axis] // unit[axis]), room))
    return tuple(block)
