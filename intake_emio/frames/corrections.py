"""Dark, gain and dead pixels, applied while frames are read.

Per frame, in this order: ``(raw - dark) * gain`` in floating point, nothing clipped; then each dead pixel becomes the
mean of its neighbours, of those around it that lie in the frame and are not dead themselves. Blank frames stay zero.
Rules and sources: docs/corrections.md.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import ArgumentError, EmioWarning
from .frames import Frames
from .pixels import Box, Pixels, count_of, inside, whole
from .reduce import COMPILED, Stream, dots_of_frames, streams, sum_of_frames, tiled
from .tiles import TILE_BYTES, frame_box, tiles
from .views import selected

KEYS = ("dark", "gain", "excluded_pixels", "allow_empty")


@dataclass(frozen=True, eq=False)
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
        with _LOADING:
            if self.token not in _LOADED:
                _LOADED[self.token] = np.ascontiguousarray(self.values.read(whole(self.values.shape)))
                while len(_LOADED) > MOST_LOADED:
                    _LOADED.popitem(last=False)
            return _LOADED[self.token]

    @functools.cached_property
    def token(self) -> str:
        """What tells these values from others: a digest of the array, or of the file's name and state."""
        if isinstance(self.values, np.ndarray):
            array = np.ascontiguousarray(self.values)
            return _digest(array.dtype.str.encode(), repr(array.shape).encode(), array.data)
        return _digest(repr(self.values.token()).encode())


_LOADED: OrderedDict[str, np.ndarray] = OrderedDict()
_LOADING = threading.Lock()
MOST_LOADED = 8


def _digest(*parts: Any) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
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

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Corrections) and self.token == other.token

    def __hash__(self) -> int:
        return hash(self.token)

    @classmethod
    def given(cls, values: Mapping[str, Any], shape: tuple[int, ...], read: Callable[[str], Pixels]) -> Corrections:
        """Corrections as a user writes them.

        Parameters
        ----------
        values
            ``dark`` and ``gain``: arrays, or names of files; ``excluded_pixels``: boolean mask, list of
            (row, column), or name of a file with one of them; ``allow_empty``.
        shape
            Of a frame.
        read
            Function that opens a file by its name, as pixels.

        Raises
        ------
        ArgumentError
            If a key is unknown, or shapes do not fit.
        """
        unknown = [key for key in values if key not in KEYS]
        if unknown:
            raise ArgumentError(f"corrections has no key {unknown[0]!r}, only {', '.join(KEYS)}")
        dead = values.get("excluded_pixels")
        if dead is not None and _is_name(dead):
            dead = _stored_excluded(read(dead))
        return cls(
            _reference("dark", values.get("dark"), read),
            _reference("gain", values.get("gain"), read),
            () if dead is None else excluded_pixels(dead, shape),
            bool(values.get("allow_empty", False)),
        ).checked(shape)

    def checked(self, shape: tuple[int, ...], name: object = "corrections", *, strict: bool = True) -> Corrections:
        """Return the same, if it fits frames of a shape.

        Parameters
        ----------
        shape
            Of a frame.
        name
            Of what is to be corrected, for messages.
        strict
            Whether a dead pixel without a good neighbour is refused, rather than left as it is with a warning.

        Raises
        ------
        ArgumentError
            If the shape of a reference is another one, or dead pixels cannot be repaired.
        """
        for reference in (self.dark, self.gain):
            if reference is not None and reference.shape != shape:
                raise ArgumentError(
                    f"{name}: {reference.name} has shape {reference.shape}, frames have {shape}: it belongs to another "
                    "region or binning. Pass corrections=False to read stored pixels, or references of your own"
                )
        if not self.excluded or self.allow_empty:
            return self
        alone = np.flatnonzero(neighbours(self.excluded, shape)[1] == 0)
        if not len(alone):
            return self
        where = tuple(int(k) for k in np.unravel_index(self.excluded[alone[0]], shape))
        fault = f"{name}: {len(alone)} dead pixels have no good neighbour to be repaired from, the first one is {where}"
        if strict:
            raise ArgumentError(f"{fault}: pass corrections={{..., 'allow_empty': True}} to leave them as they are")
        warnings.warn(f"{fault}; they stay as they are", EmioWarning, stacklevel=3)
        return replace(self, allow_empty=True)

    def result_type(self, stored: np.dtype) -> np.dtype:
        """Type of corrected pixels: float32 for up to 16 bits, float64 for more; complex stays."""
        return np.result_type(np.float32, stored)

    @functools.cached_property
    def token(self) -> str:
        """What tells these corrections from others."""
        references = [r.token if r else None for r in (self.dark, self.gain)]
        return _digest(repr(references).encode(), np.asarray(self.excluded, "i8").data)

    def summary(self) -> dict[str, Any]:
        """What is done, in JSON types."""
        named = {"dark": self.dark, "gain": self.gain}
        found: dict[str, Any] = {key: reference.name for key, reference in named.items() if reference is not None}
        return {**found, "excluded_pixels": len(self.excluded)} if self.excluded else found


# What users write ----------------------------------------------------------------------------------------------------


def excluded_pixels(given: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Flat numbers of dead pixels from a boolean mask or a list of (row, column).

    Raises
    ------
    ArgumentError
        If the mask's shape is not the frame's, or a pixel lies outside.

    Examples
    --------
    >>> excluded_pixels([(0, 2), (1, 1)], (2, 3))
    (2, 4)
    """
    try:
        values = np.asarray(given)
    except ValueError:
        values = np.asarray(None)
    if values.dtype == bool:
        if values.shape != shape:
            raise ArgumentError(f"excluded_pixels is a mask of shape {values.shape}, frames have {shape}")
        return tuple(np.flatnonzero(values).tolist())
    if values.dtype.kind in "iuf" and not values.size:
        return ()
    if values.ndim != 2 or values.shape[1] != len(shape) or values.dtype.kind not in "iu":
        raise ArgumentError(
            f"excluded_pixels must be a boolean mask or a list of (row, column), not {str(given)[:80]!r}"
        )
    outside = ((values < 0) | (values >= np.asarray(shape))).any(1)
    if outside.any():
        raise ArgumentError(f"excluded_pixels has {tuple(values[outside][0].tolist())}, outside a frame of {shape}")
    return tuple(np.unique(np.ravel_multi_index(tuple(values.T), shape)).tolist())


def _is_name(given: Any) -> bool:
    return isinstance(given, str) or hasattr(given, "__fspath__")


def _reference(key: str, given: Any, read: Callable[[str], Pixels]) -> Reference | None:
    if given is None:
        return None
    values = read(given) if _is_name(given) else np.array(given)  # a copy: nobody changes it behind our back
    if values.dtype.kind not in "biuf":
        raise ArgumentError(f"corrections[{key!r}] must hold real numbers, not {values.dtype}")
    return Reference(values, str(given) if _is_name(given) else f"array {values.shape}")


def _stored_excluded(pixels: Pixels) -> np.ndarray:
    """Mask or list of pixels in a file; a picture of numbers, which cannot store truth, is a mask of what is not 0."""
    values = pixels.read(whole(pixels.shape))
    return values != 0 if values.dtype.kind == "f" else values


# Doing it ------------------------------------------------------------------------------------------------------------


def neighbours(
    excluded: tuple[int, ...], shape: tuple[int, ...], dead: tuple[int, ...] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Good neighbours of pixels: flat numbers, the good ones first, then the pixel itself; and how many are good.

    Parameters
    ----------
    excluded
        Flat numbers of the pixels.
    shape
        Of a frame; there are 3ⁿ - 1 neighbours in n dimensions.
    dead
        All pixels that are no good; default: `excluded`.

    Examples
    --------
    >>> neighbours((0,), (3, 3))
    (array([[1, 3, 4, 0, 0, 0, 0, 0]]), array([3]))
    """
    pixels = np.asarray(excluded, dtype=int)
    around = np.array([step for step in itertools.product((-1, 0, 1), repeat=len(shape)) if any(step)], dtype=int)
    places = np.stack(np.unravel_index(pixels, shape), -1)[:, None] + around
    inside = ((places >= 0) & (places < shape)).all(-1)
    flat = np.ravel_multi_index(tuple(np.moveaxis(places, -1, 0)), shape, mode="clip")
    good = inside & ~np.isin(flat, pixels if dead is None else np.asarray(dead, dtype=int))
    first = np.argsort(~good, axis=1, kind="stable")
    ordered = np.take_along_axis(np.where(good, flat, pixels[:, None]), first, 1)
    return ordered, good.sum(1)


@dataclass(frozen=True)
class Region:
    """Corrections of a part of each frame, made ready: flat arrays, and dead pixels counted within the part."""

    dark: np.ndarray
    gain: np.ndarray
    dead: np.ndarray
    lists: np.ndarray
    counts: np.ndarray

    def apply(self, stream: Stream, stored: np.dtype, out: np.ndarray) -> None:
        """Correct frames of a stored type into rows of pixels."""
        if stored in COMPILED:
            from . import kernels

            like = np.empty(0, stored)
            narrow = np.empty(0, "i4" if stored.kind in "ui" and stored.itemsize <= 2 else stored)
            place = (stream.data, stream.first, stream.stride, stream.swap)
            kernels.correct_frames(*place, like, narrow, *self._arrays, out)
            return
        np.subtract(stream.rows(stored, len(self.dark)), self.dark, out=out, dtype=out.dtype)
        out *= self.gain
        self.repair(out)

    def repair(self, rows: np.ndarray) -> None:
        """Replace dead pixels in rows of pixels that are corrected otherwise."""
        if len(self.dead):
            good = np.where(self._counted, rows[:, self.lists], 0)
            rows[:, self.dead] = good.sum(2, dtype=np.result_type(np.float64, rows.dtype)) / self.counts

    def onto_stored(self, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Masks for stored pixels, and what to subtract: corrections are linear, so masks can take them over."""
        spread = masks.astype("f8")
        if len(self.dead):
            for mask in spread:
                share = self._counted * (mask[self.dead] / self.counts)[:, None]
                mask += np.bincount(self.lists.reshape(-1), share.reshape(-1), len(mask))
            spread[:, self.dead] = 0
        spread *= self.gain
        return spread, spread @ self.dark.astype("f8")

    @functools.cached_property
    def _counted(self) -> np.ndarray:
        """Which entries of the lists are good neighbours."""
        return np.arange(self.lists.shape[1]) < self.counts[:, None]

    @functools.cached_property
    def is_linear(self) -> bool:
        """Whether sums may be corrected instead of what is summed: infinite gains would come out otherwise."""
        return bool(np.isfinite(self.dark).all() and np.isfinite(self.gain).all())

    @property
    def _arrays(self) -> tuple[np.ndarray, ...]:
        return self.dark, self.gain, self.dead, self.lists, self.counts


@functools.lru_cache(maxsize=4)
def region_of(
    corrections: Corrections, shape: tuple[int, ...], part: tuple[tuple[int, int], ...], dtype: np.dtype
) -> Region:
    """Corrections of the part of a frame between (start, stop) along each axis, for pixels of a result type."""
    cut = tuple(slice(*borders) for borders in part)
    extent = tuple(stop - start for start, stop in part)

    def flat(reference: Reference | None, missing: int) -> np.ndarray:
        real = np.empty(0, dtype).real.dtype
        if reference is None:
            return np.full(math.prod(extent), missing, real)
        return np.ascontiguousarray(reference.load()[cut], real).reshape(-1)

    dead = _within(corrections.excluded, shape, part)
    lists, counts = neighbours(tuple(dead.tolist()), shape, corrections.excluded)
    repaired = _repairable(dead, lists, counts, shape, part)
    lists, counts, dead = lists[repaired], counts[repaired], dead[repaired]

    def local(numbers: np.ndarray) -> np.ndarray:
        places = np.unravel_index(numbers, shape)
        return np.ravel_multi_index(
            tuple(p - start for p, (start, _) in zip(places, part, strict=True)), extent, mode="clip"
        )

    return Region(flat(corrections.dark, 0), flat(corrections.gain, 1), local(dead), local(lists), counts)


def _within(numbers: tuple[int, ...], shape: tuple[int, ...], part: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Those of some flat numbers that lie in a part of a frame."""
    flat = np.asarray(numbers, dtype=int)
    places = np.unravel_index(flat, shape)
    hit = np.ones(len(flat), bool)
    for place, (start, stop) in zip(places, part, strict=True):
        hit &= (place >= start) & (place < stop)
    return flat[hit]


def _repairable(
    dead: np.ndarray, lists: np.ndarray, counts: np.ndarray, shape: tuple[int, ...], part: tuple[tuple[int, int], ...]
) -> np.ndarray:
    """Which dead pixels have a good neighbour, and all of them in the part; the others lie on its halo."""
    good = counts > 0
    for place, (start, stop) in zip(np.unravel_index(lists, shape), part, strict=True):
        good &= ((place >= start) & (place < stop)).all(1)
    return good


@dataclass(frozen=True)
class Corrected(Pixels):
    """Pixels with corrections, which are done on frames as they lie in the file, in the same pass as reading.

    Parameters
    ----------
    inner
        Stored pixels.
    corrections
        What to do.
    frame_shape
        Shape of a frame as the corrections have it, if `inner` hands frames out in another one.
    """

    inner: Pixels
    corrections: Corrections
    frame_shape: tuple[int, ...] = ()
    shape: tuple[int, ...] = field(init=False)
    dtype: np.dtype = field(init=False)
    frame_ndim: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", self.inner.shape)
        object.__setattr__(self, "dtype", self.corrections.result_type(self.inner.dtype))
        object.__setattr__(self, "frame_ndim", self.inner.frame_ndim)
        if not self.frame_shape:
            object.__setattr__(self, "frame_shape", self.shape[self.ndim - self.frame_ndim :])

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Corrected pixels of a box; blank frames stay zero."""
        depth = self.ndim - self.frame_ndim
        points, cut = box[:depth], box[depth:]
        if out is None:
            out = np.empty(tuple(map(count_of, box)), self.dtype)
        if not out.size:
            return out
        part = self._part(cut)
        region = self._region(part)
        within = tuple(slice(c.start - p.start, c.stop - p.start, c.step) for c, p in zip(cut, part, strict=True))
        for stream in self._stored(points, part):
            self._correct(stream, region, out[stream.place], tuple(map(count_of, part)), within)
        blank = self.inner.blank(points)
        if blank is not None:
            out[blank] = 0
        return out

    def streams(self, points: Box) -> Iterator[Stream]:
        """Corrected frames in runs that stay in the cache, all in the same place."""
        frame = frame_box(self)
        region, size = self._region(frame), len(self._region(frame).dark)
        blank = self.inner.blank(points)
        scratch = np.empty(0, self.dtype)
        for stream in self._stored(points, frame):
            for tile in tiles(self, whole(stream.shape), TILE_BYTES):
                run = stream.part(tile)
                if scratch.size < run.count * size:
                    scratch = np.empty(run.count * size, self.dtype)
                rows = scratch[: run.count * size].reshape(run.count, size)
                region.apply(run, self.inner.dtype, rows)
                if blank is not None:
                    rows[blank[run.place].reshape(-1)] = 0
                yield Stream(run.place, run.shape, scratch.view("u1"), 0, size * self.dtype.itemsize)

    def sum_frames(self, points: Box, columns: slice | None = None) -> np.ndarray | None:
        """Sum over frames, which is corrected once, in double precision; corrections are linear."""
        region = self._region(frame_box(self))
        if self.dtype.kind == "c" or not region.is_linear:
            return None
        blank = self.inner.blank(points)
        shown = math.prod(map(count_of, points)) - (0 if blank is None else int(blank.sum()))
        total = sum_of_frames(self.inner, points).astype("f8").reshape(1, -1)
        total -= shown * region.dark.astype("f8")
        total *= region.gain
        region.repair(total)
        return total.reshape(self.shape[self.ndim - self.frame_ndim :])

    def total_frames(self, points: Box) -> np.ndarray | None:
        """Sum of each frame, as the product with a mask of ones."""
        dots = self.dot_frames(points, np.ones((1, math.prod(self.frame_shape))))
        return None if dots is None else dots[..., 0]

    def dot_frames(self, points: Box, masks: np.ndarray) -> np.ndarray | None:
        """Product of each frame with masks that contain the corrections, where pixels are integers: all are finite."""
        region = self._region(frame_box(self))
        if self.inner.dtype.kind not in "iu" or not region.is_linear:
            return None
        stored, offset = region.onto_stored(masks)
        dots = dots_of_frames(self.inner, points, stored) - offset
        blank = self.inner.blank(points)
        if blank is not None:
            dots[blank] = 0
        return dots

    def _stored(self, points: Box, part: Box) -> Iterator[Stream]:
        """Stored frames, or a part of each, upright as the corrections are."""
        depth = self.ndim - self.frame_ndim
        inner = selected(self.inner, (*whole(self.shape[:depth]), *part))
        flipped = isinstance(inner, Frames) and inner.stack.flip
        return tiled(inner, points) if flipped else streams(inner, points)

    def _region(self, part: Box) -> Region:
        borders = whole(self.frame_shape) if part == frame_box(self) else part
        return region_of(self.corrections, self.frame_shape, tuple((c.start, c.stop) for c in borders), self.dtype)

    def _correct(self, stream: Stream, region: Region, out: np.ndarray, extent: tuple[int, ...], within: Box) -> None:
        """Correct the frames of a stream into their place: at once where that is whole, else through a copy."""
        direct = within == whole(extent) and out.flags.c_contiguous
        frames = out if direct else np.empty((*stream.shape, *extent), self.dtype)
        region.apply(stream, self.inner.dtype, frames.reshape(stream.count, -1))
        if not direct:
            out[...] = frames[inside(within)]

    def _part(self, cut: Box) -> Box:
        """What has to be read of each frame for a part of it: with a border of one pixel if a dead one lies in it."""
        shape = self.shape[self.ndim - self.frame_ndim :]
        if shape != self.frame_shape:
            return whole(shape)
        part = tuple(slice(c.start, c.start + (count_of(c) - 1) * c.step + 1, 1) for c in cut)
        if len(_within(self.corrections.excluded, shape, tuple((c.start, c.stop) for c in part))):
            part = tuple(slice(max(0, c.start - 1), min(n, c.stop + 1), 1) for c, n in zip(part, shape, strict=True))
        return part

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

    def chunks(self) -> tuple[int, ...]:
        """As the inner pixels, but for plain frames by their corrected size."""
        return super().chunks() if isinstance(self.inner, Frames) else self.inner.chunks()

    def files(self) -> tuple[str, ...]:
        """As the inner pixels."""
        return self.inner.files()

    def layout(self) -> dict[str, Any]:
        """As the inner pixels."""
        return self.inner.layout()

    def token(self) -> object:
        """Inner token and corrections."""
        return ("corrected", self.corrections.token, self.frame_shape, self.inner.token())
