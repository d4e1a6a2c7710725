"""Dark, gain and dead pixels, applied while frames are read.

Per frame, in this order: ``(raw - dark) * gain`` in floating point, nothing clipped; then each dead pixel becomes the
mean of its neighbours, of the eight around it those that lie in the frame and are not dead. Blank frames stay zero.
Rules and sources: docs/corrections.md.
"""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ArgumentError
from .pixels import Box, Pixels, count_of, inside, whole
from .tiles import TILE_BYTES, frame_box, placed, tiles

KEYS = ("dark", "gain", "excluded_pixels", "allow_empty")


@dataclass(frozen=True)
class Reference:
    """A frame of reference values, in memory or in a file; files are read when the first pixel is, once per process.

    Parameters
    ----------
    values
        An array, or pixels of the frame's shape.
    name
        What it is called in the metadata.
    """

    values: np.ndarray | Pixels
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the frame."""
        return self.values.shape

    def load(self) -> np.ndarray:
        """Return the values, kept for the next task."""
        if isinstance(self.values, np.ndarray):
            return self.values
        key = repr(self.values.token())
        if key not in _LOADED:
            _LOADED[key] = np.ascontiguousarray(self.values.read(whole(self.values.shape)))
            while len(_LOADED) > MOST_LOADED:
                _LOADED.popitem(last=False)
        return _LOADED[key]

    def token(self) -> object:
        """Return what tells these values from others."""
        if isinstance(self.values, np.ndarray):
            return hashlib.blake2b(np.ascontiguousarray(self.values).tobytes()).hexdigest()
        return self.values.token()


_LOADED: OrderedDict[str, np.ndarray] = OrderedDict()
MOST_LOADED = 16


@dataclass(frozen=True)
class Corrections:
    """What to do with each frame.

    Parameters
    ----------
    dark, gain
        References of the frame's shape; missing ones are 0 and 1.
    excluded
        Flat numbers of dead pixels within the frame, sorted.
    allow_empty
        Whether a dead pixel without a good neighbour keeps its value, rather than being refused.
    """

    dark: Reference | None = None
    gain: Reference | None = None
    excluded: tuple[int, ...] = ()
    allow_empty: bool = False

    def __bool__(self) -> bool:
        return self.dark is not None or self.gain is not None or bool(self.excluded)

    @classmethod
    def given(cls, values: Mapping[str, Any], shape: tuple[int, ...], read: Any) -> Corrections:
        """Corrections as a user writes them.

        Parameters
        ----------
        values
            ``dark`` and ``gain``: arrays, or names of files; ``excluded_pixels``: boolean mask, or list of
            (row, column); ``allow_empty``.
        shape
            Of a frame.
        read
            Function that opens a file by its name, as pixels.

        Raises
        ------
        ArgumentError
            If a key is unknown, or shapes do not fit.
        """
        unknown = [key for key in values if key not in (*KEYS, "dead_pixels")]
        if unknown:
            raise ArgumentError(f"corrections has no key {unknown[0]!r}, only {', '.join(KEYS)}")
        dead = values.get("excluded_pixels", values.get("dead_pixels"))
        return cls(
            _reference("dark", values.get("dark"), read),
            _reference("gain", values.get("gain"), read),
            () if dead is None else excluded_pixels(dead, shape),
            bool(values.get("allow_empty", False)),
        ).checked(shape)

    def checked(self, shape: tuple[int, ...], name: object = "corrections") -> Corrections:
        """Return the same, if it fits frames of a shape.

        Raises
        ------
        ArgumentError
            If it does not, or a dead pixel has no good neighbour.
        """
        for reference in (self.dark, self.gain):
            if reference is not None and reference.shape != shape:
                raise ArgumentError(
                    f"{name}: {reference.name} has shape {reference.shape}, frames have {shape}: pass corrections=False "
                    "to read them uncorrected"
                )
        if self.excluded and not self.allow_empty:
            alone = np.flatnonzero(neighbours(self.excluded, shape)[1] == 0)
            if len(alone):
                where = tuple(int(k) for k in np.unravel_index(self.excluded[alone[0]], shape))
                raise ArgumentError(
                    f"{name}: dead pixel {where} has no good neighbour to be repaired from, nor have {len(alone) - 1} "
                    "others: pass allow_empty=True in corrections to leave them as they are"
                )
        return self

    def result_type(self, stored: np.dtype) -> np.dtype:
        """Type of corrected pixels: float32 for up to 16 bits, float64 for more; complex stays."""
        return np.result_type(np.float32, stored)

    def token(self) -> object:
        """Return what tells these corrections from others."""
        references = tuple(r and r.token() for r in (self.dark, self.gain))
        return (*references, hash(self.excluded), len(self.excluded))

    def summary(self) -> dict[str, Any]:
        """What is done, in JSON types."""
        named = {"dark": self.dark, "gain": self.gain}
        found: dict[str, Any] = {key: reference.name for key, reference in named.items() if reference is not None}
        return {**found, "excluded_pixels": len(self.excluded)} if self.excluded else found

    def apply(self, frames: np.ndarray, out: np.ndarray) -> None:
        """Correct whole frames into an array of `result_type`.

        Parameters
        ----------
        frames
            Native pixels, any navigation axes, then the frame's.
        out
            Of the same shape.
        """
        if frames.dtype.kind == "c":
            np.copyto(out, frames)
            if self.dark is not None:
                out -= self.dark.load()
            if self.gain is not None:
                out *= self.gain.load()
        else:
            from .kernels import correct_rows

            size = int(np.prod(frames.shape[frames.ndim - self._frame_ndim(frames) :]))
            dark = self._flat(self.dark, out.dtype, 0, size)
            gain = self._flat(self.gain, out.dtype, 1, size)
            target = out if out.flags.c_contiguous else np.empty(out.shape, out.dtype)
            correct_rows(np.ascontiguousarray(frames).reshape(-1, size), dark, gain, target.reshape(-1, size))
            if target is not out:
                out[...] = target
        if self.excluded:
            self._repair(out)

    def _frame_ndim(self, frames: np.ndarray) -> int:
        reference = self.dark or self.gain
        return len(reference.shape) if reference is not None else min(2, frames.ndim)

    @staticmethod
    def _flat(reference: Reference | None, dtype: np.dtype, missing: int, size: int) -> np.ndarray:
        if reference is None:
            return _constant(missing, size, dtype.str)
        return np.ascontiguousarray(reference.load(), dtype).reshape(-1)

    def _repair(self, frames: np.ndarray) -> None:
        """Replace dead pixels by the mean of their good neighbours, summed in float64."""
        shape = frames.shape[-2:]
        lists, counts = neighbours(self.excluded, shape)
        rows = frames.reshape(-1, shape[0] * shape[1]) if frames.flags.c_contiguous else None
        flat = rows if rows is not None else np.ascontiguousarray(frames).reshape(-1, shape[0] * shape[1])
        good = counts > 0
        dead = np.asarray(self.excluded)[good]
        wide = np.result_type(np.float64, frames.dtype)
        values = flat[:, lists[good]].astype(wide) * (lists[good] != dead[:, None])
        flat[:, dead] = values.sum(2) / counts[good]
        if rows is None:
            frames[...] = flat.reshape(frames.shape)


@functools.lru_cache(maxsize=8)
def _constant(value: int, size: int, dtype: str) -> np.ndarray:
    return np.full(size, value, dtype)


@functools.lru_cache(maxsize=16)
def neighbours(excluded: tuple[int, ...], shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Good neighbours of dead pixels: flat numbers, eight each, filled up with the pixel itself; and how many are good.

    Examples
    --------
    >>> neighbours((0,), (3, 3))
    (array([[0, 0, 0, 0, 1, 0, 3, 4]]), array([3]))
    """
    height, width = shape
    dead = np.asarray(excluded, dtype=int)
    around = [(dr, dc) for dr in (-1, 0, 1) for dc in (-1, 0, 1) if dr or dc]
    row = (dead // width)[:, None] + np.array([dr for dr, _ in around])
    column = (dead % width)[:, None] + np.array([dc for _, dc in around])
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    flat = np.where(inside, row * width + column, dead[:, None])
    good = inside & ~np.isin(flat, dead)
    return np.where(good, flat, dead[:, None]), good.sum(1)


def excluded_pixels(given: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Flat numbers of dead pixels from a boolean mask or a list of (row, column).

    Raises
    ------
    ArgumentError
        If the mask's shape is not the frame's, or a pixel lies outside.
    """
    values = np.asarray(given)
    if values.dtype == bool:
        if values.shape != shape:
            raise ArgumentError(f"excluded_pixels is a mask of shape {values.shape}, frames have {shape}")
        return tuple(np.flatnonzero(values).tolist())
    if not values.size:
        return ()
    if values.ndim != 2 or values.shape[1] != len(shape) or values.dtype.kind not in "iu":
        raise ArgumentError(f"excluded_pixels must be a boolean mask or a list of (row, column), not {given!r}")
    if (values < 0).any() or (values >= np.asarray(shape)).any():
        raise ArgumentError(f"excluded_pixels names pixels outside a frame of {shape}")
    return tuple(sorted(set(np.ravel_multi_index(tuple(values.T), shape).tolist())))


def _reference(key: str, given: Any, read: Any) -> Reference | None:
    if given is None:
        return None
    if hasattr(given, "__fspath__") or isinstance(given, str):
        return Reference(read(given), str(given))
    values = np.asarray(given)
    if values.dtype.kind not in "biuf":
        raise ArgumentError(f"corrections[{key!r}] must hold real numbers, not {values.dtype}")
    return Reference(values, f"array {values.shape}")


@dataclass(frozen=True)
class Corrected(Pixels):
    """Pixels with corrections, done on whole frames in tiles that stay in the cache, whatever part is read."""

    inner: Pixels
    corrections: Corrections
    shape: tuple[int, ...] = field(init=False)
    dtype: np.dtype = field(init=False)
    frame_ndim: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", self.inner.shape)
        object.__setattr__(self, "dtype", self.corrections.result_type(self.inner.dtype))
        object.__setattr__(self, "frame_ndim", self.inner.frame_ndim)

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Corrected pixels of a box; blank frames stay zero."""
        depth = self.ndim - self.frame_ndim
        points, cut = box[:depth], box[depth:]
        if out is None:
            out = np.empty(tuple(map(count_of, box)), self.dtype)
        frame = frame_box(self)
        for tile in tiles(self.inner, points, TILE_BYTES):
            raw = self.inner.read((*tile, *frame))
            target = out[placed(tile, points)]
            corrected = target if cut == frame else np.empty(raw.shape, self.dtype)
            self.corrections.apply(raw, corrected)
            blank = self.inner.blank(tile)
            if blank is not None:
                corrected[blank] = 0
            if corrected is not target:
                target[...] = corrected[inside(cut)]
        return out

    def blank(self, points: Box) -> np.ndarray | None:
        """As the inner pixels."""
        return self.inner.blank(points)

    def files(self) -> tuple[str, ...]:
        """As the inner pixels."""
        return self.inner.files()

    def layout(self) -> dict[str, Any]:
        """As the inner pixels."""
        return self.inner.layout()

    def token(self) -> object:
        """Inner token and corrections."""
        return ("corrected", self.corrections.token(), self.inner.token())
