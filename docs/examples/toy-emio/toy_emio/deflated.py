"""Frames that are compressed one by one: pixels that do not lie at a constant stride."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from intake_emio.frames.pixels import Box, Pixels
from intake_emio.frames.storage import Storage


@dataclass(frozen=True)
class DeflatedFrames(Pixels):
    """Frames in one file; `places` says where each begins and ends."""

    path: str
    places: tuple[tuple[int, int], ...]
    storage: Storage
    shape: tuple[int, ...]
    dtype: np.dtype
    frame_ndim: int = 2

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Pixels of a box; each frame of it is decompressed once."""
        if out is None:
            out = np.empty([len(range(s.start, s.stop, s.step)) for s in box], self.dtype)
        frames, *cut = box
        ranges = [(self.path, *self.places[k]) for k in range(frames.start, frames.stop, frames.step)]
        fetched = self.storage.fetch(ranges)
        for number, ((_, start, stop), (buffer, begin)) in enumerate(zip(ranges, fetched, strict=True)):
            frame = zlib.decompress(memoryview(buffer)[start - begin : stop - begin])
            out[number] = np.frombuffer(frame, self.dtype).reshape(self.shape[1:])[tuple(cut)]
        return out

    def token(self) -> object:
        """File, places and shape."""
        return (self.path, self.places, self.shape, str(self.dtype))
