"""Writing arrays block by block, whatever the scheduler, with a progress bar for people who wait.

Where every worker can write for itself, `store` is the way; where one alone may write, `hand_over`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

PATIENCE = 2.0
"""Seconds after which a progress bar appears, if there is a terminal."""


WRITE_BYTES = 4 << 20
"""How much is written at once: kernels take twice as long for each byte of writes that are much larger."""


class Target(Protocol):
    """Something that takes blocks. It must pickle by name: workers of a cluster write to the same file."""

    def __setitem__(self, box: Any, block: np.ndarray) -> None: ...


def store(pixels: Any, target: Target, show_progress: bool = True) -> None:
    """Write a NumPy or dask array into a target; of a dask array, each chunk is computed once."""
    if not hasattr(pixels, "dask"):
        target[tuple(slice(0, n) for n in pixels.shape)] = np.asarray(pixels)
        return
    import dask.array as da

    with progress() if show_progress else contextlib.nullcontext():
        da.store(pixels, target, lock=False)  # type: ignore[arg-type]


def make_room(path: str, nbytes: int) -> None:
    """Make a file so long, with room for every byte: a memory map that finds no room would end the process.

    Raises
    ------
    OSError
        If there is not as much room.
    """
    with open(path, "r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, nbytes)
        except AttributeError:  # not on macOS and Windows
            file.truncate(nbytes)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # file systems that cannot promise anything
                raise
            file.truncate(nbytes)


def write_all(file: Any, pixels: np.ndarray) -> None:
    """Write pixels in C order to an open, unbuffered file; those that lie together in memory are not copied."""
    rest = memoryview(np.ascontiguousarray(pixels).reshape(-1).view("u1").data)
    while rest:
        rest = rest[file.write(rest[:WRITE_BYTES]) :]


def hand_over(arrays: Sequence[Any], take: Callable[[Any], None], show_progress: bool = True) -> None:
    """Compute dask arrays together, and hand each block over in this thread as soon as it is there.

    A block is forgotten once it was taken, and what several need is computed once. Threads and processes start the next
    block only when one was taken, so few are on their way; a cluster keeps those that wait on its workers.

    Parameters
    ----------
    arrays
        Blocks may be any objects that pickle.
    take
        Called with one block after the other, in any order.
    show_progress
        Whether to show a bar, where somebody can see it.
    """
    from dask.base import collections_to_expr, flatten, get_scheduler
    from dask.callbacks import Callback

    expression = collections_to_expr(arrays).optimize()
    keys = list(flatten(expression.__dask_keys__()))
    schedule = get_scheduler(collections=arrays)
    client = getattr(schedule, "__self__", None)
    distributed = sys.modules.get("distributed")
    if distributed is not None and isinstance(client, distributed.Client):
        _from_cluster(client, expression, keys, take)
        return
    waiting = set(keys)

    def taken(key: Any, block: Any, graph: Any, state: dict[str, Any], worker: Any) -> None:
        if key in waiting:
            take(block)
            waiting.remove(key)
            state["cache"][key] = None  # or dask would keep it to the end

    with progress() if show_progress else contextlib.nullcontext():
        own = Callback(posttask=taken)._callback  # not registered: other threads may compute something, too
        blocks = schedule(expression, keys, callbacks=[own, *Callback.active])
    for key, block in zip(keys, blocks, strict=True):
        if key in waiting:  # a scheduler that knows no callbacks
            take(block)


def _from_cluster(client: Any, graph: Any, keys: list[Any], take: Callable[[Any], None]) -> None:
    """Take blocks from a cluster one by one; those that wait stay on its workers."""
    from distributed import as_completed

    futures = client.get(graph, keys, sync=False)
    try:
        for future in as_completed(futures):
            take(future.result())
            future.release()
    except BaseException:
        client.cancel(futures)
        raise


@contextlib.contextmanager
def progress() -> Iterator[None]:
    """Show dask's progress bar for whatever is computed inside, once it takes long and if somebody can see it."""
    if not sys.stderr.isatty():
        yield
        return
    from dask.diagnostics import ProgressBar

    with ProgressBar(minimum=PATIENCE, out=sys.stderr):
        yield
