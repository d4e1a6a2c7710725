"""PNG pictures of images: percentile contrast, a scale bar with units, a caption."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image as Canvas
from PIL import ImageDraw, ImageFont

PANEL = 360
MARGIN = 16
CAPTION = 34
NICE = (1.0, 2.0, 5.0)


@dataclass(frozen=True)
class Panel:
    """One picture.

    Parameters
    ----------
    pixels
        Two-dimensional, any numeric type.
    caption
        One line below the picture.
    spacing, units
        Of the pixels along a row; without them there is no scale bar.
    """

    pixels: np.ndarray
    caption: str
    spacing: float | None = None
    units: str | None = None


def save_panels(panels: list[Panel], path: str, percentiles: tuple[float, float] = (0.5, 99.5)) -> None:
    """Write panels side by side as a PNG.

    Parameters
    ----------
    panels
        From left to right.
    path
        File to create or replace.
    percentiles
        Values shown black and white.
    """
    width = MARGIN + len(panels) * (PANEL + MARGIN)
    canvas = Canvas.new("RGB", (width, PANEL + 2 * MARGIN + CAPTION), "white")
    for number, panel in enumerate(panels):
        corner = (MARGIN + number * (PANEL + MARGIN), MARGIN)
        canvas.paste(_drawn(panel, percentiles), corner)
        ImageDraw.Draw(canvas).text((corner[0], PANEL + MARGIN + 8), panel.caption, "black", ImageFont.load_default(18))
    canvas.save(path, "PNG")


def _drawn(panel: Panel, percentiles: tuple[float, float]) -> Canvas.Image:
    pixels = np.nan_to_num(panel.pixels.astype("f8"))
    low, high = np.percentile(pixels, percentiles)
    grey = np.clip((pixels - low) / ((high - low) or 1.0), 0, 1) * 255
    height, width = grey.shape
    zoom = PANEL / max(height, width)
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    picture = Canvas.fromarray(grey.astype("u1")).resize(size, Canvas.Resampling.NEAREST).convert("RGB")
    drawn = Canvas.new("RGB", (PANEL, PANEL), "white")
    drawn.paste(picture, (0, 0))
    if panel.spacing and panel.units:
        bright = grey[-max(1, height // 6) :, : max(1, width // 3)].mean() > 127
        _scale_bar(ImageDraw.Draw(drawn), size, panel.spacing / zoom, panel.units, "black" if bright else "white")
    return drawn


def _scale_bar(draw: ImageDraw.ImageDraw, size: tuple[int, int], per_pixel: float, units: str, colour: str) -> None:
    """Draw a bar of a round length, about a quarter of the picture, with its length in the lower left corner."""
    length = round_length(size[0] * per_pixel / 4)
    pixels = round(length / per_pixel)
    left, bottom = 12, size[1] - 12
    draw.rectangle((left, bottom - 6, left + pixels, bottom), fill=colour)
    draw.text((left, bottom - 34), f"{length:g} {units}", colour, ImageFont.load_default(20))


def round_length(length: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20 … that is not longer.

    Examples
    --------
    >>> round_length(37.0), round_length(0.8)
    (20.0, 0.5)
    """
    power = 10.0 ** math.floor(math.log10(abs(length)))
    return max(n * power for n in NICE if n * power <= abs(length) * (1 + 1e-9))
