"""Curves as panels of a page: a line with axes, ticks of round numbers and labels with units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image as Canvas
from PIL import ImageDraw

from .lettering import fitted, font, tick_labels, ticks, written
from .pictures import FADED, HEIGHT, INK, NOTE

WIDTH = 640
LEFT, RIGHT, TOP, BOTTOM = 66, 10, 34, 56
GRID, LINE = "#e5e7eb", "#1d4ed8"
FINE = 3
"""Lines are drawn so many times larger, and shrunk to be smooth."""


@dataclass(frozen=True)
class Curve:
    """A line over an axis.

    Parameters
    ----------
    x, y
        As many positions as values; what is not finite is left out.
    title, note
        One line above and one below.
    x_label, y_label
        What the axes are, with units.
    """

    x: np.ndarray
    y: np.ndarray
    title: str
    note: str = ""
    x_label: str = ""
    y_label: str = ""

    def draw(self) -> Canvas.Image:
        """Return the curve in its axes."""
        usable = np.isfinite(self.x) & np.isfinite(self.y)
        x, y = np.asarray(self.x, "f8")[usable], np.asarray(self.y, "f8")[usable]
        x_limits, y_limits = _span(x, 0.0), _limits(y)
        box = (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)
        across, down = ticks(*x_limits, about=7), ticks(*y_limits, about=6)
        columns = [_place(t, x_limits, box[0], box[2]) for t in across]
        rows = [_place(t, y_limits, box[3], box[1]) for t in down]
        drawn = _lines(x, y, x_limits, y_limits, box, columns, rows)
        self._letter(drawn, box, list(zip(across, columns, strict=True)), list(zip(down, rows, strict=True)))
        return drawn

    def _letter(
        self,
        drawn: Canvas.Image,
        box: tuple[int, int, int, int],
        across: list[tuple[float, float]],
        down: list[tuple[float, float]],
    ) -> None:
        draw = ImageDraw.Draw(drawn)
        texts, power = tick_labels([value for value, _ in across])
        for text, (_, column) in zip(texts, across, strict=True):
            draw.text((column, box[3] + 8), written(text, NOTE), FADED, font(NOTE), anchor="ma")
        label = " / ".join(filter(None, (self.x_label, power)))
        draw.text((box[2], HEIGHT - 4), fitted(label, NOTE + 1, WIDTH // 2), INK, font(NOTE + 1), anchor="rd")
        texts, power = tick_labels([value for value, _ in down])
        for text, (_, row) in zip(texts, down, strict=True):
            draw.text((box[0] - 8, row), written(text, NOTE), FADED, font(NOTE), anchor="rm")
        label = " / ".join(filter(None, (self.y_label, power)))
        draw.text((0, 4), fitted(label, NOTE + 1, WIDTH), INK, font(NOTE + 1))


def _limits(y: np.ndarray) -> tuple[float, float]:
    """Range of the values with some room; from zero, if that is not far."""
    low, high = _span(y, 0.04)
    return (0.0, high) if y.size and 0 <= y.min() < 0.4 * y.max() else (low, high)


def _span(values: np.ndarray, room: float) -> tuple[float, float]:
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    if low == high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    return low - room * (high - low), high + room * (high - low)


def _place(value: float, limits: tuple[float, float], start: int, stop: int) -> float:
    return start + (value - limits[0]) / (limits[1] - limits[0]) * (stop - start)


def _lines(
    x: np.ndarray,
    y: np.ndarray,
    x_limits: tuple[float, float],
    y_limits: tuple[float, float],
    box: tuple[int, int, int, int],
    columns: list[float],
    rows: list[float],
) -> Canvas.Image:
    """Grid, curve and frame."""
    large = Canvas.new("RGB", (WIDTH * FINE, HEIGHT * FINE), "white")
    draw = ImageDraw.Draw(large)
    left, top, right, bottom = (side * FINE for side in box)
    for column in columns:
        draw.line((column * FINE, top, column * FINE, bottom), GRID, FINE)
    for row in rows:
        draw.line((left, row * FINE, right, row * FINE), GRID, FINE)
    across = left + (x - x_limits[0]) / (x_limits[1] - x_limits[0]) * (right - left)
    down = bottom + (y - y_limits[0]) / (y_limits[1] - y_limits[0]) * (top - bottom)
    points = list(zip(*_outline(across, down), strict=True))
    if len(points) > 1:
        draw.line(points, LINE, 2 * FINE - 1, joint="curve")
    if len(points) <= (right - left) / (12 * FINE):
        for column, row in points:
            draw.ellipse((column - 9, row - 9, column + 9, row + 9), fill=LINE)
    draw.line((left, top, left, bottom, right, bottom), FADED, FINE)
    return large.resize((WIDTH, HEIGHT), Canvas.Resampling.LANCZOS)


def _outline(across: np.ndarray, down: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of a line; where many share a pixel only the first, lowest, highest and last of them."""
    if across.size < 8 * WIDTH or (np.diff(across) < 0).any():
        return across, down
    kept = []
    for run in np.split(np.arange(across.size), np.flatnonzero(np.diff(across.astype(int) // FINE)) + 1):
        kept += sorted({run[0], run[np.argmin(down[run])], run[np.argmax(down[run])], run[-1]})
    return across[kept], down[kept]
