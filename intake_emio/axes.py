"""The axis alphabet: names, orders, calibration, and conversion between labelled and bare arrays.

Axis names are single letters: ``i`` image index, ``t`` time, ``c`` channel, ``z y x`` space, and ``v u`` detector
rows and columns behind a scan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ArgumentError

if TYPE_CHECKING:
    import xarray as xr

ORDER = "itczyx"
"""Order of axes in which images are presented by default; ``v u`` come behind."""

UNSPACED = "ic"
"""Axes that count or name things: a distance between their members means nothing."""

_NAVIGATION = ("", "i", "yx", "iyx", "ityx")
_SIGNAL = {1: "u", 2: "vu", 3: "cvu"}


@dataclass(frozen=True)
class Scale:
    """Even calibration of an axis: pixel ``k`` lies at ``origin + k * step``."""

    step: float
    units: str | None = None
    origin: float = 0.0

    def values(self, size: int) -> np.ndarray:
        """Coordinates of an axis of `size` pixels, float64."""
        return self.origin + self.step * np.arange(size)

    def part(self, pick: slice | tuple[int, ...], size: int) -> Calibration:
        """Calibration of some of the pixels."""
        if isinstance(pick, slice):
            return Scale(self.step * pick.step, self.units, self.origin + self.step * pick.start)
        return Labels(tuple(self.values(size)[list(pick)].tolist()), self.units)


@dataclass(frozen=True)
class Labels:
    """Explicit coordinates of an axis: channel names, uneven times, energies."""

    labels: tuple[Any, ...]
    units: str | None = None

    def values(self, size: int) -> np.ndarray:
        """Coordinates of an axis of `size` pixels."""
        if len(self.labels) != size:
            raise ArgumentError(f"{len(self.labels)} coordinates for an axis of {size} pixels")
        return np.asarray(self.labels)

    def part(self, pick: slice | tuple[int, ...], size: int) -> Calibration:
        """Coordinates of some of the pixels."""
        picked = self.labels[pick] if isinstance(pick, slice) else tuple(self.labels[k] for k in pick)
        return Labels(picked, self.units)


Calibration = Scale | Labels


def even_or_labels(values: np.ndarray, units: str | None = None) -> Calibration:
    """Even calibration if it gives exactly these coordinates, else the coordinates themselves.

    Examples
    --------
    >>> even_or_labels(np.array([0.0, 0.5, 1.0]), "nm")
    Scale(step=0.5, units='nm', origin=0.0)
    """
    if values.dtype == np.float64 and values.size > 1 and np.isfinite(values).all():
        for step in (values[1] - values[0], (values[-1] - values[0]) / (values.size - 1)):
            scale = Scale(float(step), units, float(values[0]))
            if step and np.array_equal(scale.values(values.size), values):
                return scale
    return Labels(tuple(values), units)


def default_axes(navigation: int, signal: int = 2) -> str:
    """Names of the axes of frames that say nothing about them.

    Parameters
    ----------
    navigation, signal
        How many navigation axes (scan, stack) and signal axes (detector) there are.

    Raises
    ------
    ArgumentError
        If there are more axes than there are names.

    Examples
    --------
    >>> default_axes(0), default_axes(1), default_axes(2), default_axes(3)
    ('yx', 'iyx', 'yxvu', 'iyxvu')
    >>> default_axes(2, signal=1)
    'yxu'
    """
    if navigation >= len(_NAVIGATION) or signal not in _SIGNAL:
        raise ArgumentError(
            f"{navigation} navigation and {signal} signal axes have no default names: "
            'pass metadata={"axes": "..."} with one letter for each'
        )
    if navigation < 2 and signal > 1:
        return _NAVIGATION[navigation] + _SIGNAL[signal].replace("vu", "yx")
    if navigation == 0:
        return "x"
    return _NAVIGATION[navigation] + _SIGNAL[signal]


def array_axes(ndim: int, signal: int = 2) -> str:
    """Names of the axes of a bare array: as `default_axes`, but a single signal axis behind others is a spectrum, `c`.

    Examples
    --------
    >>> array_axes(4), array_axes(3), array_axes(1), array_axes(3, 1)
    ('yxvu', 'iyx', 'x', 'yxc')
    """
    signal = min(signal, ndim)
    if ndim and not signal:  # no frame at all: a map
        return default_axes(0, ndim) if ndim < 3 else default_axes(ndim - 2)
    axes = default_axes(ndim - signal, signal)
    return axes.replace("u", "c") if signal == 1 else axes


KNOWN_NAMES = {
    "t": ("time",),
    "c": ("channel", "channels", "energy", "band"),
    "z": ("depth", "lev", "level"),
    "y": ("lat", "latitude", "height", "row", "scan_y"),
    "x": ("lon", "longitude", "width", "col", "column", "scan_x"),
    "i": ("frame", "index"),
    "v": ("ky", "qy", "detector_y"),
    "u": ("kx", "qx", "detector_x"),
}
"""Longer names that other programs give to axes."""


def axis_letters(names: Sequence[str], signal: int = 2) -> tuple[str, tuple[str, ...]]:
    """Letters for axes that other programs named.

    Single letters stay, well-known names are translated, and the others get the default letter of their position, or
    another one if that is taken.

    Parameters
    ----------
    names
        Of the axes, in order.
    signal
        How many of the last ones are signal axes.

    Returns
    -------
    letters
        One for each axis.
    guessed
        The names that were not understood.

    Examples
    --------
    >>> axis_letters(["time", "row", "col"]), axis_letters(["scan_y", "scan_x", "ky", "kx"])
    (('tyx', ()), ('yxvu', ()))
    >>> axis_letters(["tilt", "y", "x"])
    ('iyx', ('tilt',))
    """
    known = {long: letter for letter, longs in KNOWN_NAMES.items() for long in longs}
    found: list[str] = [""] * len(names)
    for single in (True, False):  # what is a letter already comes before what would have to become one
        for k, name in enumerate(names):
            letter = name if len(name) == 1 and name.isalpha() else known.get(name.lower(), "")
            if not found[k] and letter and letter not in found and (len(name) == 1) == single:
                found[k] = letter
    guessed = tuple(name for name, letter in zip(names, found, strict=True) if not letter)
    try:
        usual = array_axes(len(names), signal)
    except ArgumentError:
        usual = ""
    for k, letter in enumerate(found):
        if not letter:
            free = (a for a in (usual[k : k + 1], *"itczyxvuwsabdefghjklmnopqr") if a and a not in found)
            found[k] = next(free)
    return "".join(found), guessed


def check_axes(axes: str, ndim: int | None = None) -> str:
    """Return `axes` if they are unique single letters, and as many as `ndim`.

    Raises
    ------
    ArgumentError
        If they are not.
    """
    if not isinstance(axes, str) or not (axes.isalpha() or ndim == 0 == len(axes)) or len(set(axes)) != len(axes):
        raise ArgumentError(f"axes must be unique letters such as 'iyx' or 'yxvu', not {axes!r}")
    if ndim is not None and len(axes) != ndim:
        raise ArgumentError(f"axes {axes!r} name {len(axes)} axes, but the image has {ndim}")
    return axes


def arrange(axes: str, order: str | None) -> str:
    """Axes in the wanted order: those that `order` names first, the others behind in their own order.

    Examples
    --------
    >>> arrange("yxvu", "uvxy"), arrange("tcyx", "ct"), arrange("iyx", None)
    ('uvxy', 'ctyx', 'iyx')
    """
    if not order:
        return axes
    check_axes(order)
    return "".join(a for a in order if a in axes) + "".join(a for a in axes if a not in order)


def recalibrate(
    axes: str,
    shape: Sequence[int],
    calibration: Mapping[str, Calibration],
    *,
    spacing: Mapping[str, float | None] | None = None,
    spacing_units: Mapping[str, str | None] | None = None,
    coords: Mapping[str, Sequence[Any] | None] | None = None,
) -> dict[str, Calibration]:
    """Calibration of the axes once the user's word is put over the file's.

    `coords` win over `spacing`; `None` as a value removes the calibration of that axis.

    Raises
    ------
    ArgumentError
        If an axis does not exist, or coordinates do not fit its length.
    """
    result = dict(calibration)
    sizes = dict(zip(axes, shape, strict=True))
    for name, given in (("spacing", spacing), ("spacing_units", spacing_units), ("coords", coords)):
        if given is not None and not isinstance(given, Mapping):
            raise ArgumentError(f"metadata[{name!r}] must be a mapping from axes, not {given!r}")
        for axis in given or {}:
            if axis not in sizes:
                raise ArgumentError(f"metadata[{name!r}] names axis {axis!r}, but the image has {axes!r}")
    for axis, step in (spacing or {}).items():
        old = result.pop(axis, None)
        if step is not None:
            origin = old.origin if isinstance(old, Scale) else 0.0
            result[axis] = Scale(_finite(axis, step), old.units if old else None, origin)
    for axis, values in (coords or {}).items():
        old = result.pop(axis, None)
        if values is not None:
            labels = np.asarray(values)
            if labels.shape != (sizes[axis],):
                raise ArgumentError(
                    f"metadata['coords'] has {labels.size} values for axis {axis!r} of {sizes[axis]} pixels"
                )
            # NumPy's own scalars keep dates and narrow types
            result[axis] = Labels(tuple(labels), old.units if old else None)
    for axis, units in (spacing_units or {}).items():
        if axis in result:
            result[axis] = replace(result[axis], units=units)
        elif units is not None:
            raise ArgumentError(
                f"metadata['spacing_units'] gives {units!r} to axis {axis!r}, which has no spacing: give it one"
            )
    return result


def _finite(axis: str, step: Any) -> float:
    try:
        value = float(step)
    except (TypeError, ValueError):
        value = float("nan")
    if not np.isfinite(value) or value == 0:
        raise ArgumentError(f"metadata['spacing'] of axis {axis!r} must be a finite number, not {step!r}")
    return value


LENGTHS = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "µm": 1e-6, "um": 1e-6, "nm": 1e-9, "Å": 1e-10, "pm": 1e-12}
"""Units of length, in metres; spelled as pint and UDUNITS read them (``"um"`` is read, ``"µm"`` written)."""


def convert_length(value: float, units: str | None, wanted: str) -> float | None:
    """Length in other units; `None` if `units` are no length.

    Examples
    --------
    >>> convert_length(2.5, "µm", "nm"), convert_length(1.0, "1/nm", "cm")
    (2500.0, None)
    """
    if units not in LENGTHS:
        return None
    return value if units == wanted else float(f"{value * (LENGTHS[units] / LENGTHS[wanted]):.15g}")


# Labelled arrays ---------------------------------------------------------------------------------------------------


def get_axes(image: Any) -> str:
    """Axes of an image, as a string of letters.

    Labelled images know their axes. For anything else they are guessed: three axes of which the first or the last
    has length 3 are an RGB image (``cyx``, ``yxc``), otherwise the last letters of ``itczyx`` are taken.

    Parameters
    ----------
    image
        `xarray.Dataset`, `xarray.DataArray`, anything with a `shape`, a shape (tuple) or a number of axes (int).

    Returns
    -------
    str
        For example ``"tzyx"``.

    Raises
    ------
    ArgumentError
        If axes are not single letters, or there are too few or too many to guess.

    Examples
    --------
    >>> get_axes((5, 64, 64)), get_axes((64, 64, 3)), get_axes(2)
    ('zyx', 'yxc', 'yx')
    """
    if hasattr(image, "data_vars"):
        return get_axes(_main_variable(image))
    if hasattr(image, "dims"):
        if not image.dims:
            raise ArgumentError("the image has no axes")
        if any(not isinstance(d, str) or len(d) != 1 or not d.isalpha() for d in image.dims):
            raise ArgumentError(f"axes must be single letters, not {tuple(image.dims)}: rename them")
        return "".join(image.dims)
    if isinstance(image, int | np.integer):
        if not 1 <= image <= len(ORDER):
            raise ArgumentError(f"axes can be guessed for 1 to {len(ORDER)} axes, not for {image}")
        return ORDER[-int(image) :]
    shape = image if isinstance(image, tuple) else getattr(image, "shape", None)
    if shape is None:
        raise ArgumentError(f"a {type(image).__name__} has no axes")
    dtype = getattr(image, "dtype", None)
    if len(shape) == 3 and (dtype is None or dtype in (np.uint8, np.float32)):
        if shape[0] == 3:
            return "cyx"
        if shape[-1] == 3:
            return "yxc"
    return get_axes(len(shape))


def get_spacing(image: Any, axes: str | None = None) -> Any:
    """Distance between neighbouring pixels along the axes.

    Parameters
    ----------
    image
        `xarray.Dataset` or `xarray.DataArray`.
    axes
        Which axes; default: all but ``i`` and ``c``, in the image's order.

    Returns
    -------
    tuple of float or None
        In the units of `get_spacing_units`; `None` for an axis without even calibration. Not a tuple but
        the value itself if `axes` is a single letter.

    Examples
    --------
    >>> import numpy as np
    >>> image = to_xarray(np.zeros((4, 5)), spacing={"y": 2.5}, spacing_units={"y": "nm"})
    >>> get_spacing(image), get_spacing(image, "y"), get_spacing_units(image)
    ((2.5, None), 2.5, ('nm', None))
    """
    return _per_axis(image, axes, spacing_of)


def get_spacing_units(image: Any, axes: str | None = None) -> Any:
    """Units of `get_spacing`, in the same way; `None` for an axis without units."""
    return _per_axis(image, axes, units_of)


def spacing_of(image: xr.DataArray, axis: str) -> float | None:
    """Step of an evenly calibrated axis, else `None`."""
    if axis not in image.coords:  # get() would make one up
        return None
    coord = image.coords[axis]
    if coord.ndim != 1 or coord.size < 2 or coord.dtype.kind not in "iuf":
        return None
    values = coord.values.astype("f8")
    step = (values[-1] - values[0]) / (values.size - 1)
    even = np.allclose(np.diff(values), step, rtol=1e-6, atol=0) and step != 0 and np.isfinite(step)
    return float(values[1] - values[0]) if even else None


def units_of(image: xr.DataArray, axis: str) -> str | None:
    """Units of an axis' coordinate, else `None`."""
    units = image.coords[axis].attrs.get("units") if axis in image.coords else None
    return None if units is None else str(units)


def _per_axis(image: Any, axes: str | None, fact: Any) -> Any:
    if hasattr(image, "data_vars"):
        image = _main_variable(image)
    if not hasattr(image, "coords"):
        raise ArgumentError(f"a {type(image).__name__} carries no calibration: label it with to_xarray first")
    wanted = "".join(a for a in get_axes(image) if a not in UNSPACED) if axes is None else axes
    values = tuple(fact(image, axis) for axis in wanted)
    return values[0] if axes is not None and len(axes) == 1 else values


def _main_variable(dataset: xr.Dataset) -> xr.DataArray:
    """Return the picture of a Dataset: `image`, or else the only variable that has all dimensions."""
    if "image" in dataset:
        return dataset["image"]
    whole = [v for v in dataset.data_vars.values() if set(v.dims) == set(dataset.dims)]
    if len(whole) != 1:
        raise ArgumentError(f"which variable is the image? There are {sorted(map(str, dataset.data_vars))}")
    return whole[0]


def to_numpy(image: Any) -> np.ndarray:
    """Pixels of an image as a NumPy array; lazy images are computed.

    Parameters
    ----------
    image
        `xarray.DataArray`, `xarray.Dataset` (its `image`), dask or NumPy array.
    """
    if hasattr(image, "data_vars"):
        image = _main_variable(image)
    return np.asarray(image.values if hasattr(image, "dims") else image)


def to_xarray(
    image: Any,
    spacing: Mapping[str, float | None] | Sequence[float | None] | None = None,
    axes: str | None = None,
    coords: Mapping[str, Any] | None = None,
    spacing_units: Mapping[str, str | None] | Sequence[str | None] | None = None,
    name: str | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Label an array with axes and calibration.

    Parameters
    ----------
    image
        NumPy or dask array (never copied nor computed). A DataArray, or the `image` of a Dataset, is not changed; the
        result keeps what it knows, and `spacing`, `coords` and `spacing_units` are put over it.
    spacing, spacing_units
        By axis, or in the order of the axes (without ``i`` and ``c``).
    axes
        One letter for each axis; default: `get_axes`.
    coords
        By axis; wins over `spacing`. Coordinates of axes that the image lacks are left out.
    name, attrs
        Of the DataArray.

    Returns
    -------
    xarray.DataArray

    Examples
    --------
    >>> import numpy as np
    >>> to_xarray(np.zeros((2, 3)), spacing=(1.0, 0.5), spacing_units=("nm", "nm")).coords["x"].values
    array([0. , 0.5, 1. ])
    """
    import xarray as xr

    if hasattr(image, "data_vars"):
        image = _main_variable(image)
    if isinstance(image, xr.DataArray):
        labelled = image.copy(deep=False)
        if axes is not None:
            labelled = labelled.rename(dict(zip(image.dims, check_axes(axes, image.ndim), strict=True)))
        labelled.attrs.update(attrs or {})
        labelled.name = image.name if name is None else name
    else:
        if not hasattr(image, "dtype"):
            image = np.asarray(image)
        names = get_axes(image) if axes is None else check_axes(axes, image.ndim)
        labelled = xr.DataArray(image, dims=tuple(names), attrs=dict(attrs or {}))
        labelled.name = name  # dask arrays have names of their own, which xarray would take
    names = get_axes(labelled)
    calibration = recalibrate(
        names,
        labelled.shape,
        {},
        spacing=_by_axis(spacing, names),
        coords={a: v for a, v in (coords or {}).items() if a in names},
    )
    units = _by_axis(spacing_units, names)
    known = {axis: labelled.coords[axis] for axis in names if axis in labelled.coords}
    new: dict[str, Any] = {}
    for axis in names:
        if axis in calibration:
            values = calibration[axis].values(labelled.sizes[axis])
        elif axis in known and units.get(axis):
            values = known[axis].values
        else:
            continue
        facts = known[axis].attrs if axis in known else {}
        new[axis] = (axis, values, {**facts, "units": units[axis]} if units.get(axis) else dict(facts))
    return labelled.assign_coords(new)


def _by_axis(values: Any, axes: str) -> dict[str, Any]:
    if values is None:
        return {}
    if isinstance(values, Mapping):
        return dict(values)
    spaced = [a for a in axes if a not in UNSPACED]
    given = list(values) if isinstance(values, Iterable) and not isinstance(values, str) else [values]
    if len(given) > len(spaced):
        raise ArgumentError(f"{len(given)} values for the {len(spaced)} axes {''.join(spaced)!r}")
    return dict(zip(spaced[len(spaced) - len(given) :], given, strict=True))
