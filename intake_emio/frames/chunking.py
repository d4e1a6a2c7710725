"""How arrays are cut into chunks.

The rule was measured (see `docs/performance.md`): whole frames that follow each other in the file; 64 MiB where chunks
are views of the file, 16 MiB where they are made in fresh memory; at least 16 frames; enough chunks for every core; not
too many for a graph.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

from ..errors import ArgumentError

MIB = 1 << 20
VIEW_BYTES = 64 * MIB
COPY_BYTES = 16 * MIB
LARGEST_BYTES = 256 * MIB
SMALLEST_BYTES = 4 * MIB
LEAST_FRAMES = 16
CHUNKS_PER_CORE = 4
MOST_CHUNKS = 8000


@functools.cache
def cores() -> int:
    """How many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def frame_chunks(
    shape: Sequence[int], itemsize: int, frame_ndim: int, *, views: bool, per_core: int = CHUNKS_PER_CORE
) -> tuple[int, ...]:
    """Chunk sizes for frames that lie one behind the other in C order.

    Parameters
    ----------
    shape
        Of the whole: navigation axes, then `frame_ndim` axes of the frame.
    itemsize
        Bytes of a pixel in memory.
    views
        Whether chunks are views of the file rather than copies.
    per_core
        How many chunks of small data there are at least for each core.

    Examples
    --------
    >>> frame_chunks((256, 256, 256, 256), 2, 2, views=True)
    (2, 256, 256, 256)
    """
    navigation, frame = tuple(shape[: len(shape) - frame_ndim]), tuple(shape[len(shape) - frame_ndim :])
    frame_bytes = max(1, math.prod(frame) * itemsize)
    frames = math.prod(navigation)
    total = frames * frame_bytes
    target = VIEW_BYTES if views else COPY_BYTES
    target = min(target, max(SMALLEST_BYTES, total // (per_core * cores())))
    while target < LARGEST_BYTES and total / target > MOST_CHUNKS:
        target *= 2
    wanted = max(1, target // frame_bytes)
    least = min(LEAST_FRAMES, LARGEST_BYTES // frame_bytes)
    if wanted < least:
        return contiguous_runs(navigation, least, at_least=True) + frame
    return contiguous_runs(navigation, wanted) + frame


def grown_chunks(shape: Sequence[int], itemsize: int, stored: Sequence[int]) -> tuple[int, ...]:
    """Chunk sizes for pixels that are stored in chunks: whole multiples of those, the last axes first.

    Parameters
    ----------
    shape, itemsize
        Of the whole; bytes of a pixel.
    stored
        Shape of a stored chunk, which is read as one.

    Examples
    --------
    >>> grown_chunks((512, 512, 256, 256), 2, (1, 8, 256, 256))
    (1, 128, 256, 256)
    """
    chunk = [max(1, min(c, n)) for c, n in zip(stored, shape, strict=True)]
    total = math.prod(shape) * itemsize
    target = min(COPY_BYTES, max(SMALLEST_BYTES, total // (CHUNKS_PER_CORE * cores())))
    while target < LARGEST_BYTES and total / target > MOST_CHUNKS:
        target *= 2
    for axis in reversed(range(len(chunk))):
        times = max(1, target // max(1, math.prod(chunk) * itemsize))
        chunk[axis] = min(shape[axis], chunk[axis] * times)
        if chunk[axis] < shape[axis]:
            break
    return tuple(chunk)


def contiguous_runs(shape: tuple[int, ...], wanted: int, at_least: bool = False) -> tuple[int, ...]:
    """Chunk of up to (or at least) `wanted` points of a grid in C order: whole inner axes, an even share of one."""
    chunk = [1] * len(shape)
    for axis in reversed(range(len(shape))):
        if wanted >= shape[axis]:
            chunk[axis] = shape[axis]
            wanted = -(-wanted // max(1, shape[axis])) if at_least else wanted // max(1, shape[axis])
            continue
        parts = shape[axis] // wanted if at_least else -(-shape[axis] // max(1, wanted))
        chunk[axis] = -(-shape[axis] // parts)
        break
    return tuple(chunk)


def given_chunks(
    chunks: Any, axes: str, shape: Sequence[int], auto: Sequence[int], frame_axes: str
) -> tuple[int | tuple[int, ...], ...]:
    """Chunk sizes along each axis from whatever the user wrote.

    Parameters
    ----------
    chunks
        ``"auto"``; ``"frame"``: one frame each; a number for all axes; or a mapping from axes to
        entries, where axes left out stay whole. An entry is a size, -1 or None for the whole axis, ``"auto"``, or
        the sizes of all chunks along the axis.
    axes, shape
        Of the image.
    auto
        What ``"auto"`` means.
    frame_axes
        The axes that make a frame.

    Raises
    ------
    ArgumentError
        If axes do not exist, sizes do not fit, or the value is of none of these kinds.

    Examples
    --------
    >>> given_chunks({"y": 4}, "yxvu", (64, 64, 8, 8), (64, 64, 8, 8), "vu")
    (4, 64, 8, 8)
    >>> given_chunks("frame", "yxvu", (64, 64, 8, 8), (64, 64, 8, 8), "vu")
    (1, 1, 8, 8)
    """
    if chunks is None or chunks == "auto":
        return tuple(auto)
    if chunks == "frame":
        return tuple(n if a in frame_axes else 1 for a, n in zip(axes, shape, strict=True))
    if isinstance(chunks, Mapping):
        unknown = [a for a in chunks if a not in axes]
        if unknown:
            raise ArgumentError(f"chunks names axis {unknown[0]!r}, but the image has {axes!r}")
        entries: list[Any] = [chunks.get(a, -1) for a in axes]
    elif isinstance(chunks, Integral) and not isinstance(chunks, bool):
        entries = [chunks] * len(axes)
    else:
        raise ArgumentError(
            f"chunks must be 'auto', 'frame', a number, one entry per axis, a mapping or None, not {chunks!r}"
        )
    return tuple(_chunk_entry(e, a, n, w) for e, a, n, w in zip(entries, axes, shape, auto, strict=True))


def _chunk_entry(entry: Any, axis: str, size: int, auto: int) -> int | tuple[int, ...]:
    if entry == "auto":
        return auto
    if entry is None or entry == -1:
        return size
    if isinstance(entry, Integral) and not isinstance(entry, bool) and int(entry) > 0:
        return min(int(entry), size)
    if isinstance(entry, Sequence) and not isinstance(entry, str) and sum(entry) == size and min(entry, default=0) > 0:
        return tuple(int(e) for e in entry)
    raise ArgumentError(f"chunks={entry!r} does not fit axis {axis!r} of {size} pixels")
