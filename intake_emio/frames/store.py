"""Writing arrays block by block, whatever the scheduler, with a progress bar for people who wait."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

PATIENCE = 2.0
"""Seconds after which a progress bar appears, if there is a terminal."""


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


@contextlib.contextmanager
def progress() -> Iterator[None]:
    """Show dask's progress bar for whatever is computed inside, once it takes long and if somebody can see it."""
    if not sys.stderr.isatty():
        yield
        return
    from dask.diagnostics import ProgressBar

    with ProgressBar(minimum=PATIENCE, out=sys.stderr):
        yield
