"""Writing the members of a set in parallel, each pixel computed once, memory flat."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from .frames.chunking import cores
from .frames.store import make_room, store
from .replacing import hidden, remove
from .splitting import Part

BLOCK_BYTES = 128 << 20
"""Pixels that are computed together: some members of a set, or one."""

Write = Callable[[int, Any], None]
"""Writes the member of a number; takes its Dataset or DataArray."""


def write_members(part: Part, write: Write, folder: str) -> None:
    """Write all members of a set.

    Blocks of members whose chunks they share are computed together, by whatever scheduler dask uses, and their files
    are written by a few threads while the next block is computed. A member larger than a block is handed over lazily.
    Members that share chunks and are together larger than a block go through a file in between.

    Parameters
    ----------
    part
        The set.
    write
        Writes one member.
    folder
        Where a file in between may lie.
    """
    pending: list[Future[None]] = []
    with ThreadPoolExecutor(cores()) as threads:
        try:
            for block in _blocks(part):
                content = part.content.isel({a: slice(s.start, s.stop) for a, s in zip(part.outer, block, strict=True)})
                numbers = _numbers(block, part.shape)
                if content.nbytes <= BLOCK_BYTES or part.image.chunks is None:
                    loaded = content.compute()
                    _finish(pending)
                    pending = [threads.submit(_write_one, write, loaded, part, block, k) for k in numbers]
                elif len(numbers) == 1:
                    _write_one(write, content, part, block, numbers[0])
                else:
                    _finish(pending)
                    pending = []
                    _through_a_file(threads, write, content, part, block, folder)
            _finish(pending)
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise


def _finish(pending: list[Future[None]]) -> None:
    for future in pending:
        future.result()


def _write_one(write: Write, content: Any, part: Part, block: tuple[slice, ...], k: int) -> None:
    at = np.unravel_index(k, part.shape)
    points = {a: int(i) - s.start for a, i, s in zip(part.outer, at, block, strict=True)}
    write(k, content.isel(points))


def _numbers(block: tuple[slice, ...], shape: tuple[int, ...]) -> list[int]:
    """Numbers of the members of a block."""
    places = np.ix_(*(range(cut.start, cut.stop) for cut in block))
    return np.ravel_multi_index(places, shape).ravel().tolist()


def _blocks(part: Part) -> Iterator[tuple[slice, ...]]:
    """Cut the outer axes along chunks, into blocks as large as may be computed together."""
    image = part.image
    depth = len(part.outer)
    chunks = image.chunks or tuple((1,) * n for n in image.shape)
    within = math.prod(image.shape[depth:]) * image.dtype.itemsize
    room = max(1, BLOCK_BYTES // max(1, within))
    cuts: list[list[slice]] = []
    for axis in reversed(range(depth)):
        sizes = _grown(chunks[axis], room)
        room = max(1, room // max(sizes))
        ends = list(itertools.accumulate(sizes))
        cuts.insert(0, [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)])
    return itertools.product(*cuts)


def _grown(sizes: tuple[int, ...], room: int) -> list[int]:
    """Join neighbouring chunks while they stay within so many members."""
    grown = [sizes[0]]
    for size in sizes[1:]:
        if grown[-1] + size <= room:
            grown[-1] += size
        else:
            grown.append(size)
    return grown


def _through_a_file(
    threads: ThreadPoolExecutor, write: Write, content: Any, part: Part, block: tuple[slice, ...], folder: str
) -> None:
    """Compute a block that is too large for memory into a file, and write its members from there."""
    path = hidden(os.path.join(folder, "block"), "tmp")
    image = content["image"] if hasattr(content, "data_vars") else content
    try:
        with open(path, "xb"):
            make_room(path, image.nbytes)
        pixels = np.memmap(path, image.dtype, "r+", shape=image.shape)
        store(image.data, pixels)
        stored = image.copy(data=pixels)
        content = content.assign(image=stored) if hasattr(content, "data_vars") else stored
        _finish([threads.submit(_write_one, write, content, part, block, k) for k in _numbers(block, part.shape)])
    finally:
        remove(path)
