"""Pixels seen otherwise: axes in another order, only a part, or other values, without reading anything beforehand."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .held import Held
from .pixels import Box, Pixels, count_of


@dataclass(frozen=True)
class Permuted(Pixels):
    """Pixels with their axes in another order; ``order[k]`` is the inner axis that becomes axis `k`.

    Parameters
    ----------
    inner
        Pixels as stored.
    order
        Inner axes in the new order.
    frame_ndim
        How many of the last axes make a frame then; default: as many as in the inner pixels.
    """

    inner: Pixels
    order: tuple[int, ...]
    frame_ndim: int = -1
    shape: tuple[int, ...] = field(init=False)
    dtype: np.dtype = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.inner.shape[k] for k in self.order))
        object.__setattr__(self, "dtype", self.inner.dtype)
        if self.frame_ndim < 0:
            object.__setattr__(self, "frame_ndim", self.inner.frame_ndim)

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Pixels of a box."""
        back = np.argsort(self.order)
        inner_box = tuple(box[k] for k in back)
        inner_out = None if out is None else out.transpose(back)
        return self.inner.read(inner_box, inner_out).transpose(self.order)

    def chunks(self) -> tuple[int, ...]:
        """Chunks that read well from the inner pixels."""
        inner = self.inner.chunks()
        return tuple(inner[k] for k in self.order)

    @property
    def is_view(self) -> bool:
        """As the inner pixels."""
        return self.inner.is_view

    @property
    def read_bytes(self) -> int:
        """As the inner pixels."""
        return self.inner.read_bytes

    @property
    def walks(self) -> bool:
        """As the inner pixels."""
        return self.inner.walks

    def files(self) -> tuple[str, ...]:
        """As the inner pixels."""
        return self.inner.files()

    def layout(self) -> dict[str, Any]:
        """As the inner pixels."""
        return self.inner.layout()

    def token(self) -> object:
        """Inner token and order."""
        return ("permuted", self.order, self.inner.token())


def permuted(pixels: Pixels, order: Sequence[int]) -> Pixels:
    """Pixels with their axes in another order."""
    if tuple(order) == tuple(range(pixels.ndim)):
        return pixels
    return pixels.transposed(order) if isinstance(pixels, Held) else Permuted(pixels, tuple(order))


Several = slice | tuple[int, ...]
Pick = Several | int


@dataclass(frozen=True)
class Selected(Pixels):
    """Part of some pixels: along each axis a slice, some indices, or one index, which drops the axis."""

    inner: Pixels
    picks: tuple[Pick, ...]
    shape: tuple[int, ...] = field(init=False)
    dtype: np.dtype = field(init=False)
    frame_ndim: int = field(init=False)

    def __post_init__(self) -> None:
        kept = {k: pick for k, pick in enumerate(self.picks) if not isinstance(pick, int)}
        shape = tuple(map(count_of, kept.values()))
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "dtype", self.inner.dtype)
        navigation = self.inner.ndim - self.inner.frame_ndim
        object.__setattr__(self, "frame_ndim", sum(k >= navigation for k in kept))

    @property
    def _dropped(self) -> tuple[int, ...]:
        return tuple(k for k, pick in enumerate(self.picks) if isinstance(pick, int))

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Pixels of a box; of an axis with indices, only those are read."""
        cuts = iter(box)
        inner: list[slice] = []
        listed: list[int] = []
        for axis, pick in enumerate(self.picks):
            if isinstance(pick, int):
                inner.append(slice(pick, pick + 1, 1))
                continue
            cut = next(cuts)
            if isinstance(pick, slice):
                start, step = pick.start + cut.start * pick.step, pick.step * cut.step
                inner.append(slice(start, start + count_of(cut) * step, step))
            else:
                inner.append(cut)
                listed.append(axis)
        if not listed:
            target = None if out is None else np.expand_dims(out, self._dropped)
            return np.squeeze(self.inner.read(tuple(inner), target), self._dropped)
        if out is None:
            out = np.empty(tuple(map(count_of, box)), self.dtype)
        self._read_listed(inner, listed, np.expand_dims(out, self._dropped))
        return out

    def _read_listed(self, box: list[slice], listed: list[int], out: np.ndarray) -> None:
        """Read the members of the first listed axis one by one, those of the others within."""
        axis, *others = listed
        for number, index in enumerate(self.picks[axis][box[axis]]):  # type: ignore[index]
            inner = [*box[:axis], slice(index, index + 1, 1), *box[axis + 1 :]]
            target = out[(slice(None),) * axis + (slice(number, number + 1),)]
            if others:
                self._read_listed(inner, others, target)
            else:
                self.inner.read(tuple(inner), target)

    @property
    def is_view(self) -> bool:
        """Whether a box can be had without copying."""
        return self.inner.is_view and not any(isinstance(p, tuple) for p in self.picks)

    def chunks(self) -> tuple[int, ...]:
        """What the inner pixels like, as far as it is left."""
        inner = [c for c, pick in zip(self.inner.chunks(), self.picks, strict=True) if not isinstance(pick, int)]
        return tuple(min(c, n) for c, n in zip(inner, self.shape, strict=True))

    @property
    def read_bytes(self) -> int:
        """As the inner pixels."""
        return self.inner.read_bytes

    @property
    def walks(self) -> bool:
        """As the inner pixels."""
        return self.inner.walks

    def files(self) -> tuple[str, ...]:
        """As the inner pixels."""
        return self.inner.files()

    def layout(self) -> dict[str, Any]:
        """As the inner pixels."""
        return self.inner.layout()

    def token(self) -> object:
        """Inner token and picks."""
        return ("selected", self.picks, self.inner.token())


def selected(pixels: Pixels, picks: Sequence[Pick]) -> Pixels:
    """Part of some pixels."""
    everything = tuple(slice(0, n, 1) for n in pixels.shape)
    if tuple(picks) == everything:
        return pixels
    return pixels.part(picks) if isinstance(pixels, Held) else Selected(pixels, tuple(picks))


@dataclass(frozen=True)
class Mapped(Pixels):
    """Pixels whose values are changed one by one as they are read.

    Parameters
    ----------
    inner
        Pixels as stored.
    change
        Function of the stored values (do not change them: they may be a view of a file) and the array that takes the
        new ones, of the same shape. It must pickle.
    to
        Type of the new values; default: as stored.
    blank_value
        What blank points show.
    """

    inner: Pixels
    change: Callable[[np.ndarray, np.ndarray], None]
    to: np.dtype | None = None
    blank_value: float = 0
    shape: tuple[int, ...] = field(init=False)
    dtype: np.dtype = field(init=False)
    frame_ndim: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", self.inner.shape)
        object.__setattr__(self, "dtype", self.inner.dtype if self.to is None else np.dtype(self.to))
        object.__setattr__(self, "frame_ndim", self.inner.frame_ndim)

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Changed pixels of a box."""
        if out is None:
            out = np.empty(tuple(map(count_of, box)), self.dtype)
        self.change(self.inner.read(box), out)
        blank = self.inner.blank(box[: self.ndim - self.frame_ndim])
        if blank is not None:
            out[blank] = self.blank_value
        return out

    def blank(self, points: Box) -> np.ndarray | None:
        """As the inner pixels."""
        return self.inner.blank(points)

    @property
    def read_bytes(self) -> int:
        """As the inner pixels."""
        return self.inner.read_bytes

    @property
    def walks(self) -> bool:
        """As the inner pixels."""
        return self.inner.walks

    def files(self) -> tuple[str, ...]:
        """As the inner pixels."""
        return self.inner.files()

    def layout(self) -> dict[str, Any]:
        """As the inner pixels."""
        return self.inner.layout()

    def token(self) -> object:
        """Inner token, function and type."""
        return ("mapped", pickle.dumps(self.change), self.dtype.str, repr(self.blank_value), self.inner.token())
