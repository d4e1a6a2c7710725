"""Which axes of an image count the pages of a TIFF file, and which make up a page; and how large a pixel is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..axes import LENGTHS, Scale, convert_length, spacing_of, units_of

if TYPE_CHECKING:
    import xarray as xr

PAIRS = ("yx", "xy", "vu", "uv")
"""Rows and columns of a page, in the orders in which an image may have them."""

HYPERSTACK = "tzc"
"""Axes that ImageJ and OME know beside rows and columns, in the order of their pages."""


@dataclass(frozen=True)
class PageAxes:
    """How the axes of an image are spread over pages.

    Parameters
    ----------
    counted
        Axes that count pages, the slowest first.
    frame
        Axes of rows and of columns.
    samples
        Axis of the colours of a pixel, if it has any.
    sizes
        Length of each axis.
    """

    counted: str
    frame: str
    samples: str
    sizes: Mapping[str, int]

    @classmethod
    def of(cls, image: xr.DataArray) -> PageAxes:
        """Spread an image of at least two axes, not counting that of its colours.

        A page has the last two axes if they are a pair such as `yx`, else the pair `vu` or `yx` that there is, else the
        last two axes, whatever they are.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> axes = PageAxes.of(xr.DataArray(np.zeros((2, 3, 4, 5), "u2"), dims=tuple("cyxt")))
        >>> axes.counted, axes.frame, axes.stored
        ('tc', 'yx', 'tcyx')
        """
        samples = "c" if is_coloured(image) else ""
        rest = "".join(str(axis) for axis in image.dims if axis != samples)
        last = rest[-2:]
        frame = last if last in PAIRS else next((pair for pair in ("vu", "yx") if {*pair} <= {*rest}), last)
        counted = "".join(a for a in rest if a not in frame)
        if {*counted} <= {*HYPERSTACK}:
            counted = "".join(a for a in HYPERSTACK if a in counted)
        return cls(counted, frame, samples, {str(axis): size for axis, size in image.sizes.items()})

    @property
    def stored(self) -> str:
        """All axes, as they follow each other in the file."""
        return self.counted + self.frame + self.samples

    @property
    def rows(self) -> str:
        """Axis that counts the rows of a page."""
        return self.frame[0]

    @property
    def columns(self) -> str:
        """Axis that counts the columns of a page."""
        return self.frame[1]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the image as it is stored."""
        return tuple(self.sizes[a] for a in self.stored)

    @property
    def count(self) -> int:
        """Number of pages."""
        return math.prod(self.sizes[a] for a in self.counted)

    @property
    def page_shape(self) -> tuple[int, ...]:
        """Shape of a page."""
        return self.shape[len(self.counted) :]

    @property
    def is_hyperstack(self) -> bool:
        """Whether ImageJ and OME know all axes by name."""
        return {*self.counted} <= {*HYPERSTACK} and {*self.frame} == {*"yx"}

    @property
    def letters(self) -> str:
        """All axes as tifffile's own JSON names them: capitals, `S` for colours."""
        plain = self.counted + self.frame
        upper = plain.upper()
        return (upper if len({*upper}) == len(upper) == len(plain) else plain) + "S" * len(self.samples)

    def told_imagej(self) -> tuple[str, tuple[int, ...]]:
        """Axes and shape that ImageJ is told: those of a hyperstack, or else plain slices."""
        frame = "YX" + "S" * len(self.samples)
        if self.is_hyperstack:
            return self.counted.upper() + frame, self.shape
        return "Z" + frame, (self.count, *self.page_shape)


def is_coloured(image: xr.DataArray) -> bool:
    """Whether channels are the colours of pixels: red, green, blue and maybe alpha, of 8 or 16 bits."""
    if "c" not in image.dims or "c" not in image.coords or image.dtype not in ("uint8", "uint16"):
        return False
    return list(map(str, image["c"].values)) in (list("rgb"), list("rgba")) and "s" not in image.dims


def measured(image: xr.DataArray, axis: str) -> Scale | None:
    """Even calibration of an axis in units; of a descending one only the size of a pixel.

    It is rounded to what other programs make of it: the record is exact.
    """
    step, units = spacing_of(image, axis), units_of(image, axis)
    if not step or not units:
        return None
    origin = float(image[axis][0]) if step > 0 else 0.0
    return Scale(float(f"{abs(step):.12g}"), units, origin)


def expressed(scale: Scale, units: str) -> Scale | None:
    """Return a scale in other units of length, or of inverse length; `None` where that cannot be.

    Examples
    --------
    >>> expressed(Scale(2.5e-10, "m"), "nm"), expressed(Scale(5e7, "1/m"), "1/nm").step
    (Scale(step=0.25, units='nm', origin=0.0), 0.05)
    """
    own = scale.units or ""
    if units == own:
        return scale
    old, new = (units[2:], own[2:]) if units.startswith("1/") and own.startswith("1/") else (own, units)
    if old not in LENGTHS or new not in LENGTHS:
        return None
    step, origin = (convert_length(value, old, new) or 0.0 for value in (scale.step, scale.origin))
    return Scale(step, units, origin)
