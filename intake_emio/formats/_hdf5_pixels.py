"""Pixels on their way into HDF5 datasets: how they are stored, and who writes them.

What lies in one piece is written by all workers at once, straight into its place in the file. Chunks are compressed
where they are computed, and put into the file by one thread.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import EmioError
from ..frames.store import hand_over, write_all

CHUNK_BYTES = 4 << 20
LARGEST_CHUNK = 1 << 30  # HDF5 takes less than 4 GiB
SHORT_RUN = 4096  # bytes; blocks that are scattered over the file in shorter runs are better stored as chunks
LEVEL = 4
ALIGNED_BYTES = 1 << 16
PAGE = 4096
"""Large datasets begin at a page of memory, so that they can be mapped and read directly."""


@dataclass(frozen=True)
class Plan:
    """How the pixels of a dataset are stored.

    Parameters
    ----------
    pixels
        NumPy array, or dask array in equal chunks.
    chunks
        Shape of the dataset's chunks, of which those of a dask array are multiples; `None`: all in one piece.
    compressed
        Whether chunks are compressed by gzip and shuffling.
    """

    pixels: Any
    chunks: tuple[int, ...] | None
    compressed: bool = False

    @classmethod
    def of(cls, pixels: Any, compress: bool, chunks: Sequence[int] | None = None) -> Plan:
        """Find out how pixels are stored best.

        Parameters
        ----------
        pixels
            NumPy or dask array.
        compress
            Whether to compress.
        chunks
            Of arrays in memory, if there must be chunks. Default: what is not compressed lies in one piece, if the
            blocks of a dask array are not scattered over it, and what is compressed in whole frames of a few MiB.
        """
        if 0 in pixels.shape:
            return cls(pixels, None)
        if hasattr(pixels, "dask"):
            pixels = evenly_chunked(pixels)
            block = tuple(sizes[0] for sizes in pixels.chunks)
            if chunks is None and not compress and _lies_in_runs(block, pixels):
                return cls(pixels, None)
            return cls(pixels, divided(block, pixels.dtype.itemsize), compress)
        if chunks is None and not compress:
            return cls(pixels, None)
        return cls(pixels, tuple(chunks or divided(pixels.shape, pixels.dtype.itemsize, exactly=False)), compress)

    @property
    def options(self) -> dict[str, Any]:
        """Arguments for the creation of the dataset."""
        if self.chunks is None:
            return {}
        gzip = {"compression": "gzip", "compression_opts": LEVEL, "shuffle": True} if self.compressed else {}
        return {"chunks": self.chunks, **gzip}

    @property
    def is_lazy(self) -> bool:
        """Whether pixels are a dask array."""
        return hasattr(self.pixels, "dask")

    @property
    def blocks(self) -> Any:
        """The pixels as a dask array."""
        if self.is_lazy:
            return self.pixels
        import dask.array as da

        blocks = self.chunks or divided(self.pixels.shape, self.pixels.dtype.itemsize, exactly=False)
        return da.from_array(self.pixels, chunks=blocks, name=False)  # unnamed: a name would cost a hash of all pixels


def evenly_chunked(pixels: Any) -> Any:
    """Return a dask array in equal chunks, but for the last ones."""
    if all(len(set(sizes[:-1])) <= 1 and sizes[-1] <= sizes[0] for sizes in pixels.chunks):
        return pixels
    return pixels.rechunk(tuple(sizes[0] for sizes in pixels.chunks))


def _lies_in_runs(block: tuple[int, ...], pixels: Any) -> bool:
    """Whether blocks are a few long runs of bytes of the whole array."""
    run = pixels.dtype.itemsize
    for size, length in zip(reversed(block), reversed(pixels.shape), strict=True):
        run *= size
        if size < length:
            break
    return run >= min(SHORT_RUN, math.prod(block) * pixels.dtype.itemsize)


def divided(block: Sequence[int], itemsize: int, exactly: bool = True) -> tuple[int, ...]:
    """Chunks of a few MiB that make up a block, cut along its first axes; frames stay whole unless they are huge.

    Parameters
    ----------
    block, itemsize
        Shape of the block; bytes of a pixel.
    exactly
        Whether they must make up the block without a rest.

    Examples
    --------
    >>> divided((32, 64, 256, 256), 2), divided((6, 1024, 1024), 2, exactly=False), divided((1 << 16, 1 << 16), 2)
    ((1, 32, 256, 256), (2, 1024, 1024), (8192, 65536))
    """
    chunk = list(block)
    for axis, size in enumerate(block):
        limit = CHUNK_BYTES if axis < len(block) - 2 else LARGEST_CHUNK
        room = max(1, limit // (math.prod(chunk[axis + 1 :]) * itemsize))
        if room < size:
            chunk[axis] = next(n for n in range(room, 0, -1) if size % n == 0 or not exactly)
        if math.prod(chunk) * itemsize <= CHUNK_BYTES:
            break
    return tuple(chunk)


@contextlib.contextmanager
def as_disk_errors() -> Iterator[None]:
    """Raise what it is where HDF5 says `RuntimeError` because a disk is full."""
    try:
        yield
    except RuntimeError as error:
        number = re.search(r"errno = (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def write_pixels(path: str, plans: Mapping[str, Plan]) -> None:
    """Write pixels into the datasets of a file; each block is computed once, by whatever scheduler dask uses.

    Parameters
    ----------
    path
        The file, which nobody has open.
    plans
        By the path of the dataset, which was created with the `options`.
    """
    import dask
    import h5py

    written = {name: plan for name, plan in plans.items() if plan.pixels.size}
    with h5py.File(path, "r+", alignment_threshold=ALIGNED_BYTES, alignment_interval=PAGE) as file:
        offsets = {name: _allocated(file[name]) for name, plan in written.items() if plan.chunks is None}
    with h5py.File(path, "r+") as file:  # anew, so that nothing which it holds back overwrites what others write

        def put(chunks: Sequence[tuple[str, tuple[int, ...], bytes]]) -> None:
            for name, corner, content in chunks:
                file[name].id.write_direct_chunk(corner, content)

        done = {name: _written(path, name, plan, offsets.get(name)) for name, plan in written.items()}
        held = [blocks for name, blocks in done.items() if not written[name].is_lazy]
        lazy = [blocks for name, blocks in done.items() if written[name].is_lazy]
        if held:
            with dask.config.set(scheduler="threads"):  # nothing that is in memory here goes to another process
                hand_over(held, put)
        if lazy:
            hand_over(lazy, put)


def _written(path: str, name: str, plan: Plan, offset: int | None) -> Any:
    """Blocks of a dataset as a dask array that writes them, or makes chunks of them, when it is computed."""
    blocks = plan.blocks
    place = _Place(blocks.shape, blocks.dtype.newbyteorder("="), tuple(sizes[0] for sizes in blocks.chunks))
    if plan.chunks is None:
        assert offset is not None
        write: Any = _Run(path, offset, place)
    else:
        write = _Chunks(name, plan.chunks, plan.compressed, place)
    return blocks.map_blocks(write, dtype=object, meta=np.empty((0,) * blocks.ndim, object))


def _allocated(dataset: Any) -> int:
    """Make a dataset get its place in the file, and return that."""
    dataset[(0,) * dataset.ndim] = np.zeros((), dataset.dtype)
    return int(dataset.id.get_offset())


# What is done with a block, where it is computed ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """Where the blocks of an array lie.

    Parameters
    ----------
    shape, dtype
        Of the whole.
    blocks
        Shape of a block; those at the end may be smaller.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    blocks: tuple[int, ...]

    def corner(self, number: Sequence[int]) -> tuple[int, ...]:
        """Index of the first pixel of a block."""
        return tuple(n * size for n, size in zip(number, self.blocks, strict=True))

    def checked(self, block: Any, number: Sequence[int]) -> np.ndarray:
        """Pixels of a block, as they lie in the file.

        Raises
        ------
        EmioError
            If they are not as many as they have to be.
        """
        wanted = tuple(
            min(size, length - at)
            for size, length, at in zip(self.blocks, self.shape, self.corner(number), strict=True)
        )
        pixels = np.asarray(block)
        if pixels.shape != wanted:
            raise EmioError(f"a block of the dask array has shape {pixels.shape}, and {wanted} was announced")
        return np.ascontiguousarray(pixels, self.dtype).reshape(wanted)


@dataclass(frozen=True)
class _Run:
    """Writes blocks of a dataset that lies in one piece; it travels to other processes by the name of the file."""

    path: str
    offset: int
    place: _Place

    def __call__(self, block: Any, block_id: tuple[int, ...]) -> list[Any]:
        pixels = self.place.checked(block, block_id)
        corner, shape = self.place.corner(block_id), self.place.shape
        partly = [k for k, (size, length) in enumerate(zip(pixels.shape, shape, strict=True)) if size < length]
        depth = partly[-1] if partly else 0  # from there on, pixels follow each other
        with open(self.path, "r+b", buffering=0) as file:
            for index in np.ndindex(pixels.shape[:depth]):
                first = tuple(at + n for at, n in zip(corner, (*index, *(0,) * (len(shape) - depth)), strict=True))
                file.seek(self.offset + int(np.ravel_multi_index(first, shape)) * pixels.itemsize)
                write_all(file, pixels[index])
        return []


@dataclass(frozen=True)
class _Chunks:
    """Cuts blocks into the chunks of a dataset, as they will lie in the file."""

    name: str
    chunks: tuple[int, ...]
    compressed: bool
    place: _Place

    def __call__(self, block: Any, block_id: tuple[int, ...]) -> list[tuple[str, tuple[int, ...], bytes]]:
        pixels = self.place.checked(block, block_id)
        corner = self.place.corner(block_id)
        counts = [-(-size // chunk) for size, chunk in zip(pixels.shape, self.chunks, strict=True)]
        found = []
        for index in np.ndindex(*counts):
            at = [n * chunk for n, chunk in zip(index, self.chunks, strict=True)]
            part = pixels[tuple(slice(a, a + chunk) for a, chunk in zip(at, self.chunks, strict=True))]
            first = tuple(c + a for c, a in zip(corner, at, strict=True))
            found.append((self.name, first, self._stored(self._whole(part))))
        return found

    def _whole(self, part: np.ndarray) -> np.ndarray:
        """Fill a chunk at the end of an axis up: all are stored in the same size."""
        if part.shape == self.chunks:
            return part
        chunk = np.zeros(self.chunks, part.dtype)
        chunk[tuple(slice(0, size) for size in part.shape)] = part
        return chunk

    def _stored(self, chunk: np.ndarray) -> bytes:
        if not self.compressed:
            return chunk.tobytes()
        by_pixel = np.ascontiguousarray(chunk).reshape(-1).view("u1").reshape(-1, chunk.itemsize)
        return zlib.compress(by_pixel.T.tobytes(), LEVEL)  # shuffled: first bytes of all pixels, then the second ones
