"""Pixels that are an array already: NumPy, dask, or anything that behaves like them.

They are handed out as they are. Views of them are arrays too, so that a dask array keeps its own graph.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .chunking import grown_chunks
from .pixels import Box, Pixels


@dataclass(frozen=True, eq=False)
class Held(Pixels):
    """An array in memory, or one that knows itself how to get there.

    Parameters
    ----------
    array
        Not copied, and never changed.
    frame_ndim
        How many of the last axes make a frame.
    """

    array: Any
    frame_ndim: int = 2
    identity: str = field(default_factory=lambda: uuid.uuid4().hex)
    shape: tuple[int, ...] = field(init=False)
    dtype: np.dtype = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.array.shape))
        object.__setattr__(self, "dtype", np.dtype(self.array.dtype).newbyteorder("="))
        object.__setattr__(self, "frame_ndim", min(self.frame_ndim, len(self.shape)))

    @property
    def is_lazy(self) -> bool:
        """Whether it is a dask array."""
        return hasattr(self.array, "__dask_graph__")

    @property
    def native(self) -> Any:
        """The array in native byte order."""
        return self.array if self.array.dtype.isnative else self.array.astype(self.dtype)

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Pixels of a box; a view of an array in memory."""
        values = np.asarray(self.array[box])
        if out is None:
            return values.astype(self.dtype, copy=False)
        out[...] = values
        return out

    def transposed(self, order: Sequence[int]) -> Held:
        """Return the same with its axes in another order."""
        return Held(self.array.transpose(tuple(order)), self.frame_ndim, f"{self.identity}-{tuple(order)}")

    def part(self, picks: Sequence[slice | tuple[int, ...] | int]) -> Held:
        """Return a part: along each axis a slice, some indices, or one index, which drops the axis."""
        array = self.array
        for axis in reversed(range(len(picks))):
            pick = picks[axis]
            array = array[(slice(None),) * axis + (list(pick) if isinstance(pick, tuple) else pick,)]
        navigation = self.ndim - self.frame_ndim
        left = sum(not isinstance(pick, int) for pick in picks[navigation:])
        return Held(array, left, f"{self.identity}-{tuple(picks)}")

    def chunks(self) -> tuple[Any, ...]:
        """Chunks of a dask array as they are; else the rule of the engine."""
        if self.is_lazy:
            return tuple(self.array.chunks)
        frame = (1,) * (self.ndim - self.frame_ndim) + self.shape[self.ndim - self.frame_ndim :]
        return grown_chunks(self.shape, self.dtype.itemsize, frame)

    @property
    def read_bytes(self) -> int:
        """Everything: cutting gains nothing."""
        return max(1, math.prod(self.shape) * self.dtype.itemsize)

    @property
    def is_view(self) -> bool:
        """Whether a box can be had without copying."""
        return isinstance(self.array, np.ndarray) and self.array.dtype.isnative

    def layout(self) -> dict[str, Any]:
        """Say what holds the pixels, for people."""
        return {"kind": f"{type(self.array).__module__.partition('.')[0]} array in memory"}

    def token(self) -> object:
        """Identity of this array: its content may change under us."""
        return ("held", self.identity, self.frame_ndim)
