"""The protocol between whatever holds pixels and whatever wants them: shape, dtype, natural chunks, read a box."""

from __future__ import annotations

import abc
import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import PartitionError
from .chunking import frame_chunks

Box = tuple[slice, ...]
"""One slice per axis, with start, stop and a positive step."""


READ_BYTES = 8 << 20
"""What one thread reads at a time: memory that is filled is still in the cache when it is converted."""


MOST_SUMMED = 32_768
"""Pixels of 16 bits whose sum fits into 32 bits, signed or not."""


class Pixels(abc.ABC):
    """Something array-like that reads boxes of pixels when asked, and holds file names and numbers only.

    A subclass offers `shape`, `dtype`, `frame_ndim`, `read` and `token`; it must pickle small, because every task of a
    dask graph carries it.
    """

    shape: tuple[int, ...]
    """Shape of the whole."""

    dtype: np.dtype
    """Type of the pixels, native byte order."""

    frame_ndim: int
    """How many of the last axes make a frame."""

    @abc.abstractmethod
    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Pixels of a box; into `out` if given. Without `out` the result may be a read-only view of a file."""

    def read_many(self, reads: Sequence[tuple[Box, np.ndarray]]) -> None:
        """Read several boxes, each into an array; pixels that lie far away fetch them all at once."""
        for box, out in reads:
            self.read(box, out)

    def sum_frames(self, points: Box, columns: slice | None = None) -> np.ndarray | None:
        """Sum over a box of points, 32 or 64 bits; `None`: no better way than to read the frames.

        With `columns`, one of the `column_parts`, only of that part of the frames.
        """
        return None

    @property
    def column_parts(self) -> tuple[int, ...]:
        """Widths of the parts of a frame that can be summed on their own, at no cost; empty if there are none."""
        return ()

    def total_frames(self, points: Box) -> np.ndarray | None:
        """Sum of each frame of a box of points, 64 bits; `None` as in `sum_frames`."""
        return None

    def dot_frames(self, points: Box, masks: np.ndarray) -> np.ndarray | None:
        """Product of each frame with each mask (rows of float pixels), float64; `None` as in `sum_frames`."""
        return None

    @abc.abstractmethod
    def token(self) -> object:
        """Return what tells these pixels from any others, including the state of the files."""

    def blank(self, points: Box) -> np.ndarray | None:
        """Which points of a box show no frame, as a mask; `None` if all do."""
        return None

    def streams(self, points: Box) -> Iterator[Any] | None:
        """Frames as runs of bytes (`reduce.Stream`), each valid until the next one; `None` as in `sum_frames`."""
        return None

    def files(self) -> tuple[str, ...]:
        """Names of the files that hold the pixels."""
        return ()

    def layout(self) -> dict[str, Any]:
        """Say how pixels lie in the files, for people."""
        return {"kind": type(self).__name__}

    def chunks(self) -> tuple[int, ...]:
        """Chunk size along each axis that reads well."""
        return frame_chunks(self.shape, self.dtype.itemsize, self.frame_ndim, views=self.is_view)

    @property
    def read_bytes(self) -> int:
        """How many bytes of pixels one read should be about, when everything is read in parallel."""
        return READ_BYTES

    @property
    def walks(self) -> bool:
        """Whether a large box can be walked through in small pieces, without reading all of it first."""
        return True

    @property
    def is_view(self) -> bool:
        """Whether a box can be had without copying pixels."""
        return False

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        """Index as NumPy does with numbers, slices and one list per axis (each axis on its own)."""
        box, picks = boxed(key, self.shape)
        pixels = self.read(box)
        return pixels if picks is None else pixels[picks] if isinstance(picks, tuple) else picks(pixels)

    def __dask_tokenize__(self) -> object:
        return self.token()

    def name(self, chunks: object) -> str:
        """Return a name for a dask array of these pixels: the same for the same files in the same state and chunks."""
        digest = hashlib.blake2b(repr((self.token(), chunks)).encode(), digest_size=16).hexdigest()
        return f"emio-{digest}"


def whole(shape: Sequence[int]) -> Box:
    """Return the box of everything."""
    return tuple(slice(0, n, 1) for n in shape)


def sum_type(dtype: np.dtype) -> np.dtype:
    """Type of a sum over many pixels: 64 bits."""
    kinds = {"u": "u8", "b": "i8", "i": "i8", "f": "f8", "c": "c16"}
    return np.dtype(kinds[dtype.kind]) if dtype.itemsize <= 16 else dtype


def partial_type(dtype: np.dtype, count: int) -> np.dtype:
    """Type of a sum over at most so many pixels."""
    fits = dtype.kind in "bui" and dtype.itemsize <= 2 and count <= MOST_SUMMED
    return np.dtype("i4" if dtype.kind == "i" else "u4") if fits else sum_type(dtype)


def inside(cut: Box) -> tuple[Any, ...]:
    """Return the index that cuts a part out of frames, whatever navigation axes are in front."""
    return (..., *cut)


def count_of(cut: slice | tuple[int, ...]) -> int:
    """How many members a slice (with start and stop) or a list of indices has."""
    return len(cut) if isinstance(cut, tuple) else len(range(cut.start, cut.stop, cut.step))


def boxed(key: Any, shape: tuple[int, ...]) -> tuple[Box, Any]:
    """Translate an index into a box to read, and what is left to do with the pixels read.

    Returns
    -------
    box
        The smallest box that holds what is wanted.
    picks
        `None`, an index (tuple) to apply, or a function.

    Raises
    ------
    PartitionError
        If an index is out of range, or there are more indices than axes.
    """
    keys = _full(key, len(shape))
    if any(k is None for k in keys):
        raise PartitionError("new axes cannot be made by indexing: expand the array first")
    box: list[slice] = []
    picks: list[Any] = []
    plain, listed = True, False
    for axis, (k, size) in enumerate(zip(keys, shape, strict=True)):
        if isinstance(k, slice):
            start, stop, step = k.indices(size)
            if step < 0:
                count = len(range(start, stop, step))
                box.append(slice(start + (count - 1) * step, start + 1, -step) if count else slice(0, 0, 1))
                picks.append(slice(None, None, -1))
                plain = False
            else:
                box.append(slice(start, max(start, stop), step))
                picks.append(slice(None))
        elif isinstance(k, int | np.integer):
            index = _checked(int(k), size, axis)
            box.append(slice(index, index + 1, 1))
            picks.append(0)
            plain = False
        else:
            wanted = np.asarray(k)
            if wanted.dtype == bool:
                wanted = np.flatnonzero(wanted)
            indices = [_checked(int(i), size, axis) for i in wanted.tolist()]
            low = min(indices, default=0)
            box.append(slice(low, max(indices, default=-1) + 1, 1))
            picks.append(np.asarray(indices, dtype=int) - low)
            plain, listed = False, True
    if plain:
        return tuple(box), None
    if listed:
        return tuple(box), lambda pixels: _pick_each(pixels, picks)
    return tuple(box), tuple(picks)


def _full(key: Any, ndim: int) -> tuple[Any, ...]:
    keys = key if isinstance(key, tuple) else (key,)
    dots = [n for n, k in enumerate(keys) if k is Ellipsis]
    if dots:
        at = dots[0]
        keys = keys[:at] + (slice(None),) * (ndim - len(keys) + 1) + keys[at + 1 :]
    if len(keys) > ndim:
        raise PartitionError(f"{len(keys)} indices for {ndim} axes")
    return keys + (slice(None),) * (ndim - len(keys))


def _checked(index: int, size: int, axis: int) -> int:
    if not -size <= index < size:
        raise PartitionError(f"index {index} is out of range for axis {axis} of {size}")
    return index % size


def _pick_each(pixels: np.ndarray, picks: list[Any]) -> np.ndarray:
    """Apply each axis' index on its own, last axis first so that dropped axes do not move the others."""
    for axis in reversed(range(len(picks))):
        pixels = pixels[(slice(None),) * axis + (picks[axis],)]
    return pixels
