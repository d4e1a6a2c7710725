"""Pages of pictures: grey or coloured panels with percentile contrast, scale bars and captions, saved as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image as Canvas
from PIL import ImageDraw

from .lettering import fitted, font, in_readable_units, number_text, round_length, unit_text, width_of, wrapped

HEIGHT = 440
WIDEST = 600
NARROWEST = 24
LEAST_COLUMN = 240
MARGIN = 28
LINE = 22
HEADING = 24
TITLE = 18
NOTE = 14
INK, FADED, EDGE, WARNING = "#1b1f24", "#6b7280", "#d1d5db", "#b45309"
RANGE = 100
"""Brightest over darkest of what a logarithmic picture tells apart."""

CRISP = 3
"""From this magnification on pixels are shown as squares."""


class Panel(Protocol):
    """What fits on a page: something with a title and a note that can be drawn."""

    @property
    def title(self) -> str:
        """One line above."""

    @property
    def note(self) -> str:
        """One line below."""

    def draw(self) -> Canvas.Image:
        """Return the drawing, at most `HEIGHT` pixels high."""


@dataclass(frozen=True)
class Circle:
    """An outline on a picture; centre and radius in pixels of the picture."""

    row: float
    column: float
    radius: float
    colour: str


@dataclass(frozen=True)
class Picture:
    """An image.

    Parameters
    ----------
    pixels
        Rows and columns, any real type; with three planes behind them: red, green and blue.
    title
        One line above.
    note
        One line below.
    steps, units
        Distance of rows and of columns, for the aspect; with units there is a scale bar.
    logarithmic
        Whether the logarithm of the intensities above the darkest is shown, over two decades, for patterns.
    circles
        Outlines to draw.
    free
        Whether the axes are of different kinds, so that there is no right aspect.
    """

    pixels: np.ndarray
    title: str
    note: str = ""
    steps: tuple[float, float] | None = None
    units: str | None = None
    logarithmic: bool = False
    circles: Sequence[Circle] = ()
    free: bool = False

    def draw(self) -> Canvas.Image:
        """Return the picture, with its scale bar."""
        size = self._size()
        drawn = _resized(self._grey(size), size).convert("RGB")
        self._outline(drawn)
        ImageDraw.Draw(drawn).rectangle((0, 0, drawn.width - 1, drawn.height - 1), outline=EDGE)
        if self.steps and self.units and size[0] >= 4 * NARROWEST and not self.free:
            _scale_bar(drawn, self.steps[1] * self.pixels.shape[1] / size[0], self.units)
        return drawn

    def _size(self) -> tuple[int, int]:
        """Width and height on the page."""
        rows, columns = self.pixels.shape[:2]
        y, x = self.steps or (1.0, 1.0)
        aspect = 4 / 3 if self.free else columns * x / (rows * y)
        width, height = HEIGHT * aspect, float(HEIGHT)
        if width > WIDEST:
            width, height = WIDEST, WIDEST / aspect
        return max(NARROWEST, round(width)), max(NARROWEST, round(height))

    def _grey(self, size: tuple[int, int]) -> Canvas.Image:
        pixels = _shrunk(np.asarray(self.pixels), size)
        low, high = contrast(pixels)
        with np.errstate(invalid="ignore"):
            shares = np.nan_to_num(np.clip((pixels - low) / (high - low), 0, 1))
        shown = np.log1p(shares * RANGE) / np.log1p(RANGE) if self.logarithmic else shares
        return Canvas.fromarray(np.round(shown * 255).astype("u1"))

    def _outline(self, drawn: Canvas.Image) -> None:
        rows, columns = self.pixels.shape[:2]
        across, down = drawn.width / columns, drawn.height / rows
        fine = 3
        layer = Canvas.new("RGBA", (drawn.width * fine, drawn.height * fine))
        for circle in self.circles:
            x, y = (circle.column + 0.5) * across * fine, (circle.row + 0.5) * down * fine
            rx, ry = circle.radius * across * fine, circle.radius * down * fine
            ImageDraw.Draw(layer).ellipse((x - rx, y - ry, x + rx, y + ry), outline=circle.colour, width=2 * fine)
        smooth = layer.resize(drawn.size, Canvas.Resampling.BOX)
        drawn.paste(smooth, (0, 0), smooth)


def contrast(pixels: np.ndarray, percentiles: tuple[float, float] = (0.5, 99.5)) -> tuple[float, float]:
    """Values to show black and white: percentiles of what is finite, or the extremes where those are equal.

    Examples
    --------
    >>> low, high = contrast(np.arange(1001.0))
    >>> round(low), round(high)
    (5, 995)
    """
    finite = pixels[np.isfinite(pixels)]
    if not finite.size:
        return 0.0, 1.0
    low, high = map(float, np.percentile(finite, percentiles))
    if low == high:
        low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def range_text(pixels: np.ndarray) -> str:
    """Say which values are black and white.

    Examples
    --------
    >>> range_text(np.array([0, 250])), range_text(np.zeros(3))
    ('black 1.25, white 248.8', 'all 0')
    """
    finite = pixels[np.isfinite(pixels)]
    if not finite.size or finite.min() == finite.max():
        return f"all {number_text(float(finite[0]))}" if finite.size else "no numbers"
    low, high = contrast(pixels)
    return f"black {number_text(low)}, white {number_text(high)}"


def _shrunk(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Float pixels, averaged where there are more of them than on the page; colours share their contrast."""
    height, width = min(size[1], pixels.shape[0]), min(size[0], pixels.shape[1])
    if (height, width) == pixels.shape[:2]:
        return pixels.astype("f8")
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    shrunk = [
        np.asarray(Canvas.fromarray(planes[..., k].astype("f4")).resize((width, height), Canvas.Resampling.BOX), "f8")
        for k in range(planes.shape[-1])
    ]
    return shrunk[0] if pixels.ndim == 2 else np.stack(shrunk, axis=-1)


def _resized(picture: Canvas.Image, size: tuple[int, int]) -> Canvas.Image:
    """Return a picture enlarged: smoothly a little, crisply a lot."""
    zoom = max(size[0] / picture.width, size[1] / picture.height)
    return picture.resize(size, Canvas.Resampling.NEAREST if zoom >= CRISP else Canvas.Resampling.BICUBIC)


def _scale_bar(drawn: Canvas.Image, per_pixel: float, units: str) -> None:
    """Draw a bar of a round length in the lower left corner, on a dark ground."""
    length, units = in_readable_units(round_length(drawn.width * per_pixel / 4), units)
    bar = round(round_length(drawn.width * per_pixel / 4) / abs(per_pixel))
    text = fitted(f"{length:g} {unit_text(units)}", NOTE + 2, drawn.width)
    wide = max(bar, width_of(text, NOTE + 2)) + 20
    left, top = 10, drawn.height - 54
    ground = Canvas.new("RGBA", (wide, 44))
    ImageDraw.Draw(ground).rounded_rectangle((0, 0, wide - 1, 43), 6, fill=(0, 0, 0, 140))
    drawn.paste(ground, (left, top), ground)
    draw = ImageDraw.Draw(drawn)
    draw.text((left + wide / 2, top + 15), text, "white", font(NOTE + 2), anchor="mm")
    start = left + (wide - bar) / 2
    draw.rectangle((start, top + 31, start + bar, top + 35), fill="white")


def save_page(panels: Sequence[Panel], path: str, *, heading: str = "", facts: str = "", warning: str = "") -> None:
    """Write panels side by side, below a heading, as a picture.

    Parameters
    ----------
    panels
        From left to right.
    path
        File to create or replace.
    heading, facts, warning
        Lines above the panels: in large, in grey and in orange letters.
    """
    drawings = [panel.draw() for panel in panels]
    columns = [max(drawing.width, LEAST_COLUMN) for drawing in drawings]
    width = sum(columns) + MARGIN * (len(columns) + 1)
    texts = ((heading, HEADING, INK), (facts, NOTE + 1, FADED), (warning, NOTE + 1, WARNING))
    lines = [(line, size, ink) for text, size, ink in texts for line in wrapped(text, size, width - 2 * MARGIN)]
    top = MARGIN + sum(size + 10 for _, size, _ in lines) + (10 if lines else 0)
    tallest = max(drawing.height for drawing in drawings)
    page = Canvas.new("RGB", (width, top + LINE + 8 + tallest + LINE + MARGIN), "white")
    draw = ImageDraw.Draw(page)
    at = MARGIN
    for line, size, ink in lines:
        draw.text((MARGIN, at), line, ink, font(size))
        at += size + 10
    left = MARGIN
    for panel, drawing, column in zip(panels, drawings, columns, strict=True):
        draw.text((left, top), fitted(panel.title, TITLE, column), INK, font(TITLE))
        page.paste(drawing, (left, top + LINE + 8))
        draw.text((left, top + LINE + drawing.height + 16), fitted(panel.note, NOTE, column), FADED, font(NOTE))
        left += column + MARGIN
    page.save(path, "PNG", optimize=True)
