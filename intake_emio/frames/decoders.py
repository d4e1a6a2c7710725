"""Packed pixels: how stored bytes become numbers where they are not plain ones.

A decoder knows a packing and nothing of files or scans. It works on many frames at once, in compiled code that does not
hold the interpreter's lock.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Decoder(Protocol):
    """How the bytes of a frame become pixels. Decoders are frozen and pickle small."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the pixels, native byte order."""

    def stored_bytes(self, shape: tuple[int, ...]) -> int:
        """Bytes that a frame of so many pixels takes in the file."""

    def decode(self, stored: np.ndarray, out: np.ndarray) -> None:
        """Decode frames.

        Parameters
        ----------
        stored
            uint8, shape (frames, bytes); bytes of a frame are contiguous, frames need not be.
        out
            Shape (frames, rows, columns), of type `dtype`; any strides.
        """
