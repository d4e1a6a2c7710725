"""How arrays are cut into chunks and shards of Zarr, and compressed.

Rules: docs/formats/zarr.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..frames.chunked_target import grown
from ..frames.chunking import given_chunks

CHUNK_BYTES = 4 << 20
"""Of a chunk of an array in memory: whole frames."""

LARGEST_CHUNK = 256 << 20
"""Larger ones are cut, unless the user wants them: readers have to hold them."""

MOST_COMPRESSED = (1 << 31) - (1 << 16)
"""Compressors take less than 2 GiB."""

SHARD_BYTES = 256 << 20
MOST_FILES = 10_000
"""An array of more chunks than this is put into shards."""


@dataclass(frozen=True)
class Layout:
    """How an array is stored.

    Parameters
    ----------
    chunks
        Shape of what is compressed together.
    shards
        Shape of what is in one file; `None`: the same.
    compressor
        Codec of zarr-python for version 3, of numcodecs for version 2; `None`: pixels are stored as they are.
    """

    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None = None
    compressor: Any = None

    @property
    def unit(self) -> tuple[int, ...]:
        """Shape of what is in one file."""
        return self.shards or self.chunks

    def within(self, shape: Sequence[int]) -> Layout:
        """Return the same for a smaller array."""
        chunks = tuple(min(c, n) for c, n in zip(self.chunks, shape, strict=True))
        if self.shards is None:
            return replace(self, chunks=chunks)
        shards = tuple(min(s // c, -(-n // c)) * c for s, c, n in zip(self.shards, chunks, shape, strict=True))
        return replace(self, chunks=chunks, shards=shards)

    @property
    def plain(self) -> bool:
        """Whether files hold the pixels as they are in memory."""
        return self.compressor is None and self.shards is None

    @property
    def encoding(self) -> dict[str, Any]:
        """What `zarr.create_array` and xarray want to know."""
        shards = {"shards": self.shards} if self.shards else {}
        return {"chunks": self.chunks, **shards, "compressors": self.compressor and (self.compressor,)}


@dataclass(frozen=True)
class Wishes:
    """What the user says of chunks, and which version of Zarr it is for.

    Parameters
    ----------
    compress
        As `imsave` takes it.
    chunks, shards
        As `imload` takes `chunks`: a size for all axes, one per axis of the image, or by axis, where axes left out stay
        whole; `None`: the rules.
    zarr_format
        2 or 3.
    """

    compress: bool | None = None
    chunks: Any = None
    shards: Any = None
    zarr_format: int = 3

    def __post_init__(self) -> None:
        if self.shards is not None and self.zarr_format == 2:
            raise ArgumentError(f"shards={self.shards!r}: version 2 of Zarr has no shards")

    def layout(self, axes: str, pixels: Any, image_axes: str) -> Layout:
        """Return how a variable is stored.

        Parameters
        ----------
        axes, pixels
            Of the variable; a NumPy or dask array.
        image_axes
            Of the image: tuples go by these.

        Raises
        ------
        ArgumentError
            If chunks or shards do not fit.
        """
        shape, itemsize = pixels.shape, pixels.dtype.itemsize
        usual = usual_chunks(shape, itemsize, getattr(pixels, "chunks", None))
        chunks = _sizes("chunks", self.chunks, axes, shape, usual, image_axes)
        shards = None
        if self.shards is not None:
            shards = _whole_shards(_sizes("shards", self.shards, axes, shape, chunks, image_axes), chunks, axes, shape)
        elif self.zarr_format == 3 and math.prod(-(-n // c) for n, c in zip(shape, chunks, strict=True)) > MOST_FILES:
            shards = grown(chunks, shape, itemsize, SHARD_BYTES)
        nbytes = math.prod(chunks) * itemsize
        if nbytes > MOST_COMPRESSED and self.compress is not False:
            raise ArgumentError(f"chunks={self.chunks!r} are of {nbytes} bytes: less than 2 GiB can be compressed")
        return Layout(chunks, shards, compressor(self.compress, pixels.dtype, self.zarr_format))


def usual_chunks(
    shape: Sequence[int], itemsize: int, chunks: tuple[tuple[int, ...], ...] | None = None
) -> tuple[int, ...]:
    """Chunks of dask as they are; of arrays in memory, a few MiB of whole frames. What is very large is cut."""
    wanted = [max(1, sizes[0]) for sizes in chunks] if chunks else _cut(shape, itemsize, CHUNK_BYTES, frame_ndim=2)
    return _cut(wanted, itemsize, LARGEST_CHUNK)


def _cut(shape: Sequence[int], itemsize: int, nbytes: int, frame_ndim: int = 0) -> tuple[int, ...]:
    """Shape of so many bytes at most, cut along the first axes; the last ones are not cut."""
    sizes = list(shape)
    for axis in range(max(0, len(sizes) - frame_ndim)):
        rest = math.prod(shape[axis + 1 :]) * itemsize
        sizes[axis] = min(sizes[axis], nbytes // max(1, rest))
    return tuple(max(1, size) for size in sizes)


def _sizes(
    name: str, given: Any, axes: str, shape: tuple[int, ...], usual: tuple[int, ...], image_axes: str
) -> tuple[int, ...]:
    """Sizes along the axes of a variable, from what the user wrote for the image."""
    if isinstance(given, list | tuple):
        if len(given) != len(image_axes):
            raise ArgumentError(f"{name} has {len(given)} entries for the {len(image_axes)} axes {image_axes!r}")
        given = dict(zip(image_axes, given, strict=True))
    if isinstance(given, Mapping):
        unknown = [axis for axis in given if axis not in image_axes]
        if unknown:
            raise ArgumentError(f"{name} names axis {unknown[0]!r}, but the image has {image_axes!r}")
        given = {axis: size for axis, size in given.items() if axis in axes}
    sizes = given_chunks(given, axes, shape, usual, image_axes[-2:])
    whole = tuple(max(1, size) for size in sizes if isinstance(size, int))
    if len(whole) < len(sizes):
        raise ArgumentError(f"{name}={given!r}: in a Zarr array all of them have one size")
    return whole


def _whole_shards(
    shards: tuple[int, ...], chunks: tuple[int, ...], axes: str, shape: tuple[int, ...]
) -> tuple[int, ...]:
    """Shards hold whole chunks; those that reach to the end of an axis are filled up."""
    for axis, size, chunk, n in zip(axes, shards, chunks, shape, strict=True):
        if size % chunk and size < n:
            raise ArgumentError(f"shards of {size} along {axis!r} must be a multiple of the chunks of {chunk}")
    return tuple(-(-size // chunk) * chunk for size, chunk in zip(shards, chunks, strict=True))


def compressor(compress: bool | None, dtype: np.dtype, zarr_format: int) -> Any:
    """Return the codec: Zstandard; more of it behind a shuffle, which packs sparse detector data tighter; or none."""
    if compress is False:
        return None
    bits = dtype.kind in "iub"
    if zarr_format == 2:
        from numcodecs import Blosc, Zstd

        return Blosc("zstd", 5, Blosc.BITSHUFFLE if bits else Blosc.SHUFFLE) if compress else Zstd(3)
    from zarr.codecs import BloscCodec, BloscShuffle, ZstdCodec

    shuffle = BloscShuffle.bitshuffle if bits else BloscShuffle.shuffle
    return BloscCodec(cname="zstd", clevel=5, shuffle=shuffle) if compress else ZstdCodec(level=3)
