"""Pixels of many files that are alike: each point of the outer axes is a file of its own."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .chunking import grown_chunks
from .files import is_remote
from .pixels import Box, Pixels, count_of

REQUESTS = 16
"""Remote files that are opened at the same time."""


@dataclass(frozen=True, eq=False)
class Gathered(Pixels):
    """Members of a set of files, opened when they are read.

    Parameters
    ----------
    names
        Of the files, in C order over the outer axes; `None`: a member that is missing.
    outer
        Shape of the outer axes.
    member
        Pixels of one of them; the others have the same shape and type.
    open
        Function of a name that returns the pixels of that member, and raises an error if they are unlike the others.
        It must pickle.
    stamps
        What tells the state of the files.
    blank_value
        What missing members show.
    """

    names: tuple[str | None, ...]
    outer: tuple[int, ...]
    member: Pixels
    open: Callable[[str], Pixels]
    stamps: tuple[Any, ...] = ()
    blank_value: float = 0
    shape: tuple[int, ...] = field(init=False)
    dtype: np.dtype = field(init=False)
    frame_ndim: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", (*self.outer, *self.member.shape))
        object.__setattr__(self, "dtype", self.member.dtype)
        object.__setattr__(self, "frame_ndim", self.member.frame_ndim)

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Pixels of a box, member by member."""
        if out is None:
            out = np.empty(tuple(map(count_of, box)), self.dtype)
        depth = len(self.outer)
        numbers = np.arange(math.prod(self.outer)).reshape(self.outer)[box[:depth]]
        inner = box[depth:]

        def read_one(at: tuple[int, ...]) -> None:
            place: Any = (*at, ...)  # a view, even of a single pixel
            name, target = self.names[numbers[at]], out[place]
            if name is None:
                target[...] = self.blank_value
            elif inner:
                self.open(name).read(inner, target)
            else:
                target[...] = self.open(name).read(())

        points = list(np.ndindex(numbers.shape))
        if len(points) > 1 and any(is_remote(name) for name in self.names[:1] if name):
            with ThreadPoolExecutor(min(REQUESTS, len(points))) as threads:
                list(threads.map(read_one, points))
        else:
            for at in points:
                read_one(at)
        return out

    def blank(self, points: Box) -> np.ndarray | None:
        """Which points of a box belong to members that are missing."""
        depth = len(self.outer)
        missing = np.array([name is None for name in self.names]).reshape(self.outer)[points[:depth]]
        if not missing.any():
            return None
        navigation = tuple(map(count_of, points[depth:]))
        return np.broadcast_to(missing.reshape(missing.shape + (1,) * len(navigation)), missing.shape + navigation)

    def chunks(self) -> tuple[int, ...]:
        """Several small members together, or parts of large ones."""
        return grown_chunks(self.shape, self.dtype.itemsize, (1,) * len(self.outer) + tuple(self.member.chunks()))

    def files(self) -> tuple[str, ...]:
        """Names of the members."""
        return tuple(name for name in self.names if name)

    def layout(self) -> dict[str, Any]:
        """As the members, and how many there are."""
        return {**self.member.layout(), "members": len(self.files())}

    def token(self) -> object:
        """Names and states of the files, and how they are opened."""
        digest = hashlib.blake2b(repr((self.names, self.stamps)).encode()).hexdigest()
        return ("gathered", digest, self.outer, self.dtype.str, repr(self.blank_value), repr(self.open))
