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
FEW = 48
"""Fewer points are marked."""

FINE = 3
"""Lines are drawn so many times larger, and shrunk to be smooth."""


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` along the page's columns or rows from `start` to `stop`."""

    low: float
    high: float
    start: int
    stop: int

    def places(self, values: np.ndarray) -> np.ndarray:
        """Columns or rows of some values."""
        return self.start + (values - self.low) / (self.high - self.low) * (self.stop - self.start)

    def ticks(self, about: int) -> tuple[list[tuple[str, float]], str]:
        """Texts of round numbers with their places, and the power of ten that they were divided by."""
        values = ticks(self.low, self.high, about)
        texts, power = tick_labels(values)
        return list(zip(texts, self.places(np.array(values)).tolist(), strict=True)), power


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
        across = Axis(*_span(x, 0.0), LEFT, WIDTH - RIGHT)
        down = Axis(*_limits(y), HEIGHT - BOTTOM, TOP)
        columns, x_power = across.ticks(7)
        rows, y_power = down.ticks(6)
        drawn = _lines(across.places(x), down.places(y), [at for _, at in columns], [at for _, at in rows])
        draw = ImageDraw.Draw(drawn)
        for text, column in columns:
            draw.text((column, HEIGHT - BOTTOM + 8), written(text, NOTE), FADED, font(NOTE), anchor="ma")
        for text, row in rows:
            draw.text((LEFT - 8, row), written(text, NOTE), FADED, font(NOTE), anchor="rm")
        right = _labelled(self.x_label, x_power)
        draw.text((WIDTH - RIGHT, HEIGHT - 4), right, INK, font(NOTE + 1), anchor="rd")
        draw.text((0, 4), _labelled(self.y_label, y_power), INK, font(NOTE + 1))
        return drawn


def _labelled(label: str, power: str) -> str:
    return fitted(" / ".join(filter(None, (label, power))), NOTE + 1, WIDTH - LEFT)


def _limits(y: np.ndarray) -> tuple[float, float]:
    """Range of the values with some room; from zero, if that is not far."""
    low, high = _span(y, 0.04)
    return (0.0, high) if y.size and 0 <= y.min() < 0.4 * y.max() else (low, high)


def _span(values: np.ndarray, room: float) -> tuple[float, float]:
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    if low == high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    return low - room * (high - low), high + room * (high - low)


def _lines(x: np.ndarray, y: np.ndarray, columns: list[float], rows: list[float]) -> Canvas.Image:
    """Grid, curve and frame, from places on the page."""
    large = Canvas.new("RGB", (WIDTH * FINE, HEIGHT * FINE), "white")
    draw = ImageDraw.Draw(large)
    left, top, right, bottom = (side * FINE for side in (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM))
    for column in columns:
        draw.line((column * FINE, top, column * FINE, bottom), GRID, FINE)
    for row in rows:
        draw.line((left, row * FINE, right, row * FINE), GRID, FINE)
    across, down = _outline(x, y)
    points = list(zip(across * FINE, down * FINE, strict=True))
    if len(points) > 1:
        draw.line(points, LINE, 2 * FINE - 1, joint="curve")
    if len(points) < FEW:
        for column, row in points:
            draw.ellipse((column - 3 * FINE, row - 3 * FINE, column + 3 * FINE, row + 3 * FINE), fill=LINE)
    draw.line((left, top, left, bottom, right, bottom), FADED, FINE)
    return large.resize((WIDTH, HEIGHT), Canvas.Resampling.LANCZOS)


def _outline(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of a line; where many share a column only the first, lowest, highest and last of them."""
    if x.size < 8 * WIDTH or (np.diff(x) < 0).any():
        return x, y
    kept = []
    for run in np.split(np.arange(x.size), np.flatnonzero(np.diff(x.astype(int))) + 1):
        kept += sorted({run[0], run[np.argmin(y[run])], run[np.argmax(y[run])], run[-1]})
    return x[kept], y[kept]
