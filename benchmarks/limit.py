"""The machine's limit: the same bytes touched by all cores, with nothing decoded."""

from __future__ import annotations

import itertools
import mmap
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cases import Files

PIECE = 8 << 20
HEADER = 4096
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Limit:
    """Touches bytes: maps summed as 64 bit words for reductions, `preadv` into fresh memory for loading."""

    name = "limit"
    variant = ""
    upside_down = False

    def __init__(self, files: Files):
        self.files = files
        self.threads = ThreadPoolExecutor(CORES)
        self.words = [_mapped_words(part) for part in files.parts]

    def open(self) -> bytes:
        """Read a header's worth of bytes."""
        with open(self.files.parts[0], "rb", buffering=0) as file:
            return file.read(HEADER)

    def touch(self, *_: Any) -> None:
        """Sum all words of the mapped files."""
        step = PIECE // 8
        pieces = [words[at : at + step] for words in self.words for at in range(0, len(words), step)]
        for _ in self.threads.map(np.sum, pieces):
            pass

    mean = sum = virtual = dot = touch

    def load(self) -> None:
        """Read all bytes."""
        self._read([(part, 0, os.path.getsize(part)) for part in self.files.parts])

    def rows(self, band: slice) -> None:
        """Read as many bytes as a band of scan rows has."""
        ny = self.files.scan[0]
        sizes = [(part, os.path.getsize(part)) for part in self.files.parts]
        self._read([(part, size * band.start // ny, size * band.stop // ny) for part, size in sizes])

    def frames(self, points: Sequence[tuple[int, int]]) -> None:
        """Read as many bytes as single frames have, one after the other."""
        nx, count = self.files.scan[1], self.files.scan[0] * self.files.scan[1]
        for part in self.files.parts:
            size = os.path.getsize(part)
            with open(part, "rb", buffering=0) as file:
                for y, x in points:
                    at = size * (y * nx + x) // count
                    os.preadv(file.fileno(), [memoryview(bytearray(size // count))], at)

    def _read(self, ranges: list[tuple[str, int, int]]) -> None:
        out = np.empty(sum(stop - start for _, start, stop in ranges), "u1")
        begins = itertools.accumulate((stop - start for _, start, stop in ranges), initial=0)
        pieces = [
            (path, at, out[begin + at - start : begin + min(at + PIECE, stop) - start])
            for (path, start, stop), begin in zip(ranges, begins, strict=False)
            for at in range(start, stop, PIECE)
        ]
        for done in self.threads.map(lambda piece: _fill(*piece), pieces):
            assert done is None


def _fill(path: str, start: int, out: NDArray[np.uint8]) -> None:
    with open(path, "rb", buffering=0) as file:
        done = 0
        while done < len(out):
            done += os.preadv(file.fileno(), [out.data[done:]], start + done)


def _mapped_words(path: str) -> NDArray[np.uint64]:
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(mapped, "u8", count=len(mapped) // 8)
