"""What to show of an image at a glance: panels by the kinds of its axes, of a sample where there is very much of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import accessor  # noqa: F401  gives images their `.emio`
from ..axes import spacing_of, units_of
from ..frames.files import is_remote
from ..frames.store import progress
from .curves import Curve
from .lettering import unit_text
from .pictures import Circle, Panel, Picture, range_text

if TYPE_CHECKING:
    import xarray as xr

    from ..image import Image
    from ..source import ImageSource

MOST_BYTES = 2 << 30
MOST_REMOTE_BYTES = 256 << 20
MOST_PIXELS = 64 << 20
"""So many are held in memory at a time, where they are not reduced while they are read."""

MOST_CHANNELS = 4
"""More members of an axis `c` are a spectrum."""

PLANES = (("y", "x"), ("v", "u"))
"""Axes that span a plane, so that their pixels are square unless the file says otherwise."""

BRIGHT, DARK = "#38bdf8", "#fb923c"


@dataclass(frozen=True)
class Overview:
    """Panels, and which part of the image they show if it is not all of it."""

    panels: list[Panel]
    sample: str = ""


def overview(source: ImageSource) -> Overview:
    """Return an overview of an image; reads each pixel at most twice, and never more than `MOST_BYTES` at a time.

    Scans of patterns become virtual bright and dark field and the mean pattern; spectra the mean spectrum and a map of
    all intensity; stacks the middle and the mean image.

    Parameters
    ----------
    source
        Of any format.

    Examples
    --------
    >>> import intake
    >>> from intake_emio.cli.demo import small_scan
    >>> [panel.title for panel in overview(intake.open_emio(small_scan())).panels]
    ['virtual bright field', 'virtual dark field', 'mean pattern (logarithm)']
    """
    return _Glance(source).overview()


class _Glance:
    """One look at an image."""

    def __init__(self, source: ImageSource):
        self.source = source
        self.image: Image = source.image
        self.axes = self.image.image.axes
        self.sizes = self.image.image.sizes
        self.limit = MOST_REMOTE_BYTES if is_remote(source.uri) else MOST_BYTES
        self.sample: list[str] = []

    def overview(self) -> Overview:
        spectral = self._spectral_axis()
        if spectral:
            panels = self._spectra(spectral)
        elif {"v", "u"} < {*self.axes}:
            panels = self._patterns()
        else:
            panels = self._images()
        return Overview(panels, "; ".join(self.sample))

    def _spectral_axis(self) -> str:
        """The axis along which values are a curve; empty if frames are images."""
        if len(self.axes) == 1 or len(self.image.frame_axes) == 1:
            return self.image.frame_axes or self.axes
        return "c" if self.sizes.get("c", 0) > MOST_CHANNELS else ""

    # Reading ------------------------------------------------------------------------------------------------------

    def _thinned(self, image: Image, axes: Sequence[str], most: int) -> Image:
        """Only so many members of some axes that there are not more than so many bytes."""
        step = math.ceil((image.image.pixels.nbytes / most) ** (1 / len(axes)))
        if step < 2:
            return image
        self.sample.append(f"a sample: every {_ordinal(step)} along {' and '.join(axes)}")
        return image.part({axis: slice(None, None, step) for axis in axes})

    def _held(self, image: Image, axes: Sequence[str]) -> xr.DataArray:
        """The image in memory, thinned along some axes if it is large."""
        return _computed(self._array(self._thinned(image, axes, MOST_PIXELS * image.pixels.dtype.itemsize)))

    def _array(self, image: Image) -> xr.DataArray:
        return image.to_dataset(self.source.uri, self.source.format_name)[image.name]

    def _middle(self, axes: Sequence[str]) -> dict[str, int]:
        """The middle member of each of some axes."""
        return {axis: self.sizes[axis] // 2 for axis in axes}

    # Kinds of images ----------------------------------------------------------------------------------------------

    def _spectra(self, spectral: str) -> list[Panel]:
        points = _upright(axis for axis in self.axes if axis != spectral)
        if not points:
            return [_panel(self._held(self.image, [spectral]), "spectrum" if spectral == "c" else "")]
        array = self._array(self._thinned(self.image, points, self.limit))
        total, mean = _computed(array.emio.sum(spectral)), _computed(array.emio.mean(points))
        return [
            _panel(total.isel(self._middle(points[:-2])).transpose(*points[-2:]), f"sum over {spectral}"),
            _panel(mean, f"mean over {', '.join(points)}"),
        ]

    def _patterns(self) -> list[Panel]:
        points = _upright(axis for axis in self.axes if axis not in "vu")
        picks = self._middle(points[:-2])
        if picks:
            self.sample.append(f"only {_place(picks)}")
        array = self._array(self._thinned(self.image.part(picks), points[-2:], self.limit))
        mean = _computed(array.emio.mean(points[-2:])).transpose("v", "u")
        row, column, radius = central_beam(mean.values)
        inner = min(1.5 * radius + 1, _farthest(mean.shape, row, column))
        v, u = np.indices(mean.shape)
        distance = np.hypot(v - row, u - column)
        masks = np.stack([distance <= radius, distance >= inner]).astype("f4")
        bright, dark = _computed(array.emio.dot(_on_detector(masks))).transpose("detector", *points[-2:])
        unit = spacing_of(array, "u"), units_of(array, "u")
        circles = (Circle(row, column, radius, BRIGHT), Circle(row, column, inner, DARK))
        return [
            _panel(bright, "virtual bright field", f"within {_length(radius, *unit)} (blue)"),
            _panel(dark, "virtual dark field", f"beyond {_length(inner, *unit)} (orange)"),
            _panel(mean, "mean pattern (logarithm)", logarithmic=True, circles=circles),
        ]

    def _images(self) -> list[Panel]:
        *others, rows, columns = _upright(self.axes)
        plane = (rows, columns)
        if "c" in others:
            return self._channels(plane, [axis for axis in others if axis != "c"])
        picks = self._middle(others)
        middle = self._held(self.image.part(picks), plane).transpose(*plane)
        if not others:
            return [_image(middle, "")]
        step = -(-self.sizes[plane[0]] // middle.sizes[plane[0]])
        coarse = self.image.part({axis: slice(None, None, step) for axis in plane})
        mean = self._array(self._thinned(coarse, others, self.limit)).emio.mean(others)
        return [
            _image(middle, _place(picks)),
            _image(_computed(mean).transpose(*plane), f"mean over {', '.join(others)}"),
        ]

    def _channels(self, plane: tuple[str, str], others: list[str]) -> list[Panel]:
        """One picture in colours, or one for each channel; of further axes the middle."""
        picks = self._middle(others)
        array = self._held(self.image.part(picks), plane).transpose(*plane, "c")
        names = [str(name) for name in array["c"].values] if "c" in array.coords else []
        if names[:3] == ["r", "g", "b"]:
            return [_image(array.isel(c=slice(3)), _place(picks) or "in colours")]
        titles = [f"channel {name}" for name in names or range(array.sizes["c"])]
        return [
            _image(array.isel(c=k), ", ".join(filter(None, (title, _place(picks))))) for k, title in enumerate(titles)
        ]


def _upright(axes: Iterable[str]) -> list[str]:
    """Axes with those of a plane at the end, rows before columns.

    Examples
    --------
    >>> _upright("yxc"), _upright("uvi"), _upright("ab")
    (['c', 'y', 'x'], ['i', 'v', 'u'], ['a', 'b'])
    """
    names = list(axes)
    plane = next((plane for plane in PLANES if {*plane} <= {*names}), ())
    return [*(axis for axis in names if axis not in plane), *plane]


def central_beam(pattern: np.ndarray) -> tuple[float, float, float]:
    """Centre (row, column) and radius of the brightest disk of a pattern, in pixels.

    Parameters
    ----------
    pattern
        Two-dimensional.

    Examples
    --------
    >>> pattern = np.zeros((40, 50))
    >>> v, u = np.indices(pattern.shape)
    >>> pattern[np.hypot(v - 18, u - 30) <= 5] = 9
    >>> [round(value) for value in central_beam(pattern)]
    [18, 30, 6]
    """
    from scipy import ndimage

    clean = ndimage.median_filter(np.nan_to_num(pattern.astype("f8")), 3)  # hot pixels are no beam
    bright = clean > (np.median(clean) + clean.max()) / 2
    parts, _ = ndimage.label(bright)
    beam = parts == parts[np.unravel_index(clean.argmax(), clean.shape)]
    area = np.count_nonzero(beam)
    if not bright.any() or area > pattern.size / 4:  # no beam to be seen: the middle of the detector
        row, column = ((n - 1) / 2 for n in pattern.shape)
        return row, column, max(1.0, min(pattern.shape) / 8)
    row, column = ndimage.center_of_mass(beam)
    return float(row), float(column), math.sqrt(area / math.pi) * 1.1 + 0.5


def _farthest(shape: tuple[int, ...], row: float, column: float) -> float:
    """Distance from a point that some pixels of a frame still have."""
    return max(abs(end - place) for n, place in zip(shape, (row, column), strict=True) for end in (0, n - 1))


def _on_detector(masks: np.ndarray) -> Any:
    import xarray as xr

    return xr.DataArray(masks, dims=("detector", "v", "u"))


def _computed(array: xr.DataArray) -> xr.DataArray:
    """Return the array with its values; a bar shows on the terminal if that takes long."""
    with progress():
        return array.compute()


# Panels --------------------------------------------------------------------------------------------------------------


def _panel(array: xr.DataArray, title: str, note: str = "", **look: Any) -> Panel:
    """A picture of an array of two axes, or three with colours; a curve, if it has but one that counts."""
    array = array.squeeze() if array.ndim == 2 and 1 in array.shape and array.size > 1 else array
    if array.ndim == 1:
        return _curve(array, title, note)
    values, modulus = _real(array.values)
    title = ", ".join(part for part in (title, modulus) if part) or "image"
    rows, columns = (str(dim) for dim in array.dims[:2])
    return Picture(values, title, note or range_text(values), **_scale(array, rows, columns), **look)


def _image(array: xr.DataArray, title: str) -> Panel:
    """A picture of a frame; of patterns, as their units tell, the logarithm of the intensities."""
    units = units_of(array, str(array.dims[1])) or ""
    if array.ndim == 2 and units.startswith(("1/", "mrad", "rad")):
        return _panel(array, f"{title or 'image'} (logarithm)", logarithmic=True)
    return _panel(array, title)


def _curve(array: xr.DataArray, title: str, note: str) -> Curve:
    axis = str(array.dims[0])
    labelled = axis in array.coords and array[axis].dtype.kind in "iuf"
    x = array[axis].values if labelled else np.arange(array.size)
    units = (units_of(array, axis) or "") if labelled else "index"
    values, modulus = _real(array.values)
    label = f"{axis} ({unit_text(units)})" if units else axis
    return Curve(x, values, title or "profile", note, label, modulus or "intensity")


def _real(values: np.ndarray) -> tuple[np.ndarray, str]:
    """Numbers that can be drawn, and what they are, if not the values themselves."""
    if np.iscomplexobj(values):
        return np.abs(values), "modulus"
    return values.astype("u1") if values.dtype == bool else values, ""


def _scale(array: xr.DataArray, rows: str, columns: str) -> dict[str, Any]:
    """Steps, units and freedom of a picture with these axes."""
    steps = [spacing_of(array, axis) for axis in (rows, columns)]
    units = {units_of(array, axis) for axis in (rows, columns)}
    if None in steps or len(units) > 1:
        return {"steps": None, "units": None, "free": (rows, columns) not in PLANES}
    return {"steps": tuple(abs(step) for step in steps if step), "units": units.pop(), "free": False}


def _length(pixels: float, step: float | None, units: str | None) -> str:
    return f"{pixels * abs(step):.3g} {unit_text(units)}" if step and units else f"{pixels:.3g} pixels"


def _place(picks: dict[str, int]) -> str:
    return ", ".join(f"{axis} = {index}" for axis, index in picks.items())


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
