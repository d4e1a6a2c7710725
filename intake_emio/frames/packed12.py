"""Tiles of 12 bit pixels, three bytes for two: the packing of fast cameras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np


@dataclass(frozen=True)
class Packed12:
    """Two pixels in three bytes, low bits first: ``a = b0 | (b1 & 15) << 8``, ``b = b1 >> 4 | b2 << 4``.

    It decodes tiles for a `Mosaic`; see `TileDecoder` for its methods. Columns of a tile come in groups of 16.
    """

    dtype: ClassVar[np.dtype] = np.dtype("u2")

    def stored_bytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of a tile."""
        rows, columns = shape
        return rows * columns * 3 // 2

    def place(
        self, data: np.ndarray, starts: np.ndarray, corners: np.ndarray, columns: int, cuts: np.ndarray, out: np.ndarray
    ) -> None:
        """Decode parts of tiles into their places."""
        from .kernels12 import place_tiles

        place_tiles(data, starts, corners, columns, cuts, out.shape[1], out.reshape(-1))

    def sum(self, data: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
        """Add tiles to a tile of sums."""
        from .kernels12 import sum_tiles

        sum_tiles(data, starts, out)

    def totals(self, data: np.ndarray, starts: np.ndarray, pixels: int, out: np.ndarray) -> None:
        """Add the sum of each tile to a number of its own."""
        from .kernels12 import total_tiles

        total_tiles(data, starts, pixels, out)

    def dots(self, data: np.ndarray, starts: np.ndarray, masks: np.ndarray, out: np.ndarray) -> None:
        """Add the products of each tile with each mask."""
        from .kernels import BLOCK
        from .kernels12 import dot_tiles

        dot_tiles(data, starts, masks, BLOCK, out)
