"""What a layout of HDF5 files says about an array, and the arrays of files that follow no layout.

A layout is a function that takes the open file and returns the arrays it knows, the one to open first. Each says which
dataset it is, what its axes are, and what is known of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..axes import Calibration, Labels, Scale, default_axes
from ..errors import ArgumentError
from ..frames.events import EventScan
from ..image import Variable
from ..record import Record
from . import _hyperspy
from ._hdf5_files import Place, Tree, attributes, number, text

COLOURS = ("r", "g", "b", "a")
NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable"
"""How netCDF calls dimension scales without values."""

NOT_APPLIED = ("scale_factor", "add_offset")


@dataclass(frozen=True)
class Array:
    """One array of a file.

    Parameters
    ----------
    place
        Where the dataset is.
    name
        Path by which it is listed and chosen.
    title
        What the file calls it.
    axes
        A letter for each stored axis, or empty: by position. With colours, these are one more.
    order
        How the axes are presented, if in another order; axes of length 1 that it lacks are dropped.
    signal
        How many of the last presented axes make a frame; `None`: as the user says.
    calibration, acquisition, header
        See `Image`.
    attrs
        Of the image.
    further
        Datasets that belong behind it: along the first axis, or stacked along `stack`.
    stack
        Letter of the new first axis along which `further` are stacked.
    frames
        How many frames there should be, and how they are arranged, if the file says that elsewhere.
    record
        Our own account of the image, if we have written the file.
    beside
        What comes with the image, if the file is one of named variables.
    events
        How pixels are counted, if `place` and `further` are streams of events.
    gain
        Factors that the pixels of a frame still have to be multiplied by.
    excluded
        Flat numbers of the dead pixels of a frame.
    """

    place: Place
    name: str
    title: str = ""
    axes: str = ""
    order: str = ""
    signal: int | None = None
    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    acquisition: Mapping[str, Any] = field(default_factory=dict)
    header: Mapping[str, Any] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    further: tuple[Place, ...] = ()
    stack: str = ""
    frames: tuple[int, ...] | None = None
    record: Record | None = None
    beside: Beside | None = None
    events: EventScan | None = None
    gain: Place | None = None
    excluded: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the dataset."""
        return tuple(self.place.thing.shape) if self.events is None else self.events.shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the elements; records of colours are left together."""
        if self.events is not None:
            return self.events.dtype
        stored, view = element(self.place.thing) or (self.place.thing.dtype, None)
        return view if view is not None and view.kind in "bc" else stored

    @property
    def size(self) -> int:
        """Elements of the dataset."""
        return int(np.prod(self.shape, dtype=object))


@dataclass(frozen=True)
class Beside:
    """What lies beside an image in a file of named variables.

    Parameters
    ----------
    variables
        Further pictures.
    facts
        Coordinates along some of the axes, which are read when they are wanted.
    held
        Those that were read.
    calibration
        Coordinates of axes.
    scalars
        Single values, with their units.
    """

    variables: Mapping[str, Array]
    facts: Mapping[str, Array]
    held: Mapping[str, Variable]
    calibration: Mapping[str, Calibration]
    scalars: Mapping[str, tuple[Any, str | None]]


def is_pixels(dataset: Any, least: int = 1) -> bool:
    """Whether a dataset can be an image: numbers, `least` axes or more, none of them empty."""
    shape = dataset.shape
    return bool(shape) and len(shape) >= least and 0 not in shape and element(dataset) is not None


def element(dataset: Any) -> tuple[np.dtype, np.dtype | None] | None:
    """Type of the elements, and what they are made of if they are records; `None` if they are no pixels.

    Pairs of a real and an imaginary part, as Velox and others write them, are complex numbers; red, green and blue are
    colours.
    """
    try:
        dtype = dataset.dtype
    except (TypeError, ValueError):
        return None
    if dtype == np.int8 and text(dataset.attrs.get("dtype", "")) == "bool":  # as xarray writes it
        return np.dtype("i1"), np.dtype(bool)
    if dtype.kind in "biufc":
        return np.dtype(dtype.str), None  # without what h5py notes about enumerations
    if dtype.names is None:
        return None
    members = [dtype[name] for name in dtype.names]
    first = members[0]
    if first.kind not in "iuf" or any(m != first for m in members) or dtype.itemsize != len(members) * first.itemsize:
        return None
    names = [name.lower() for name in dtype.names]
    if names in ([*COLOURS[:3]], [*COLOURS]):
        return dtype, first
    parts = [name[0] for name in names]
    if parts == ["r", "i"] and first.kind == "f" and first.itemsize in (4, 8):
        return dtype, np.dtype(f"{first.byteorder}c{2 * first.itemsize}")
    return None


def colours(dataset: Any) -> int:
    """How many colours an element has; 0 if it has none."""
    found = element(dataset)
    if found is None or found[1] is None or found[1].kind in "bc":
        return 0
    return len(dataset.dtype.names)


def along(values: Any, size: int, unit: Any) -> Calibration | None:
    """Calibration of an axis from the vector that belongs to it; `None` if it says nothing.

    Examples
    --------
    >>> along(np.array([0.5, 0.75]), 10, "nm")
    Scale(step=0.25, units='nm', origin=0.5)
    >>> along(np.array([1.0, 2.0, 4.0]), 3, "s")
    Labels(labels=(1.0, 2.0, 4.0), units='s')
    """
    vector = np.asarray(values)
    spelled = _hyperspy.units(unit)
    if vector.ndim != 1 or vector.size not in (size, 2) or (vector.size == 2 and size == 1):
        return None
    if vector.dtype.kind in "OSU":
        return Labels(tuple(text(v) for v in vector)) if vector.size == size else None
    if vector.dtype.kind not in "iuf" or not np.isfinite(vector).all():
        return None
    noise = 8 * np.finfo("f4").eps if vector.dtype == np.float32 else 1e-9
    exact = vector.astype("f8")
    if exact.size == 1:
        return Labels((float(exact[0]),), spelled)
    step = (exact[-1] - exact[0]) / (exact.size - 1)
    even = np.abs(np.diff(exact) - step).max() <= 1e-6 * abs(step) + noise * np.abs(exact).max()
    if step == 0:
        return None
    if not even:
        return Labels(tuple(exact.tolist()), spelled)
    origin = float(exact[0])
    return None if (step, origin, spelled) == (1.0, 0.0, None) else Scale(float(step), spelled, origin)


def positional(ndim: int, signal: int, has_colours: bool = False) -> str:
    """Names of axes that have none."""
    if has_colours:
        return positional(ndim, min(signal, ndim)) + "c"
    if ndim - signal == 4 and signal == 2:
        return "ityxvu"
    return default_axes(max(0, ndim - signal), min(signal, ndim))


def small(place: Place | None) -> np.ndarray | None:
    """Values of a dataset that is small (a vector, a scalar), as an array; `None` if it cannot be read."""
    if place is None or not place.is_dataset or place.thing.size is None or place.thing.size > 1 << 20:
        return None
    if lies_elsewhere(place.thing):
        return None
    try:
        return np.asarray(place.thing[()])
    except (OSError, TypeError, ValueError, RuntimeError):
        return None


def lies_elsewhere(dataset: Any) -> bool:
    """Whether a dataset has its values in other files: only pixels may, and those are checked (`Tree.check`)."""
    return bool(dataset.external) or dataset.is_virtual


# Files without a layout, and netCDF-4 --------------------------------------------------------------------------------


def generic(tree: Tree, signal: int) -> list[Array]:
    """All datasets that can be images: largest stack of frames first, single frames behind."""
    found = [labelled(tree, place, name) for name, place in tree.walk() if is_pixels(place.thing, signal)]
    images = [array for array in found if not _is_scale(array.place.thing)]
    return sorted(images, key=lambda a: (len(a.shape) <= signal, -a.size, a.name))


def labelled(tree: Tree, place: Place, name: str, signal: int | None = None) -> Array:
    """Return a dataset as an array, with what HDF5's own dimension scales say of its axes."""
    dataset = place.thing
    names = axis_names(dataset)
    known = "".join(names)
    ours = len(known) == len(names) == len(set(known)) and all(len(n) == 1 and n in "itczyxvu" for n in names)
    axes = known if ours and names else ""
    attrs = {k: number(dataset.attrs[k]) for k in NOT_APPLIED if k in dataset.attrs}
    header: dict[str, Any] = {"attributes": attributes(dataset)}
    if any(names):
        header["dimensions"] = names
    by_axis = {}
    for k, dim in enumerate(dataset.dims):
        scale = _attached(dim)
        if scale is None or _is_dimension(scale) or scale.shape != (dataset.shape[k],) or lies_elsewhere(scale):
            continue
        unit = scale.attrs.get("units")
        by_axis[k] = along(np.asarray(scale[()]), dataset.shape[k], None if unit is None else text(unit))
    return Array(
        place,
        name,
        axes=axes,
        calibration=_Positions({k: c for k, c in by_axis.items() if c is not None}),
        header=header,
        attrs=attrs,
        signal=signal,
    )


def axis_names(dataset: Any) -> list[str]:
    """Names of the axes, by their labels or dimension scales; empty where they have none."""
    if len(dataset.shape or ()) == 1 and _is_scale(dataset):
        return [str(dataset.name).rsplit("/", 1)[-1]]
    names = []
    for dim in dataset.dims if dataset.shape else ():
        scale = _attached(dim)
        names.append(dim.label or ("" if scale is None else str(scale.name or "").rsplit("/", 1)[-1]))
    return names


def _is_dimension(scale: Any) -> bool:
    """Whether a dimension scale of netCDF has no values."""
    return text(scale.attrs.get("NAME", "")).startswith(NO_VARIABLE)


class _Positions(dict[Any, Calibration]):
    """Calibration by the number of the stored axis, because letters are given later."""


def by_letter(calibration: Mapping[Any, Calibration], axes: str) -> dict[str, Calibration]:
    """Calibration by letter, whether it was given by letter or by the number of the stored axis."""
    return {axes[k] if isinstance(k, int) else k: c for k, c in calibration.items()}


def _attached(dim: Any) -> Any:
    """First dimension scale of an axis; `None` if there is none, or it cannot be followed."""
    try:
        return dim[0] if len(dim) else None
    except (OSError, RuntimeError, KeyError, ValueError):
        return None


def _is_scale(dataset: Any) -> bool:
    return text(dataset.attrs.get("CLASS", "")) == "DIMENSION_SCALE" if "CLASS" in dataset.attrs else False


# abTEM ---------------------------------------------------------------------------------------------------------------


def abtem(tree: Tree) -> list[Array]:
    """Arrays of abTEM: `array`, with `sampling`, `units` and `offsets` per axis; the first axis counts as rows."""
    place = tree.get("array")
    steps, unit, origins = (small(tree.get(name)) for name in ("sampling", "units", "offsets"))
    if place is None or not is_pixels(place.thing):
        return []
    ndim = len(place.thing.shape)
    axes = positional(ndim, min(2, ndim))
    calibration: dict[str, Calibration] = {}
    if steps is not None and steps.size == ndim:
        for k, axis in enumerate(axes):
            step = number(steps.reshape(-1)[k])
            written = text(unit.reshape(-1)[k]) if unit is not None and unit.size == ndim else None
            origin = number(origins.reshape(-1)[k]) if origins is not None and origins.size == ndim else 0.0
            if step:
                calibration[axis] = Scale(step, _hyperspy.units(written), origin or 0.0)
    return [Array(place, "/array", axes=axes, signal=min(2, ndim), calibration=calibration)]


def is_abtem(tree: Tree) -> bool:
    """Whether a file is abTEM's."""
    return all(tree.root.thing.get(name, getlink=True) is not None for name in ("array", "sampling", "units"))


# Messages ------------------------------------------------------------------------------------------------------------


def listing(arrays: Sequence[Array]) -> str:
    """Say what there is, for messages."""
    shown = [f"{a.name} {a.shape} {a.place.thing.dtype}" for a in arrays[:12]]
    return "; ".join(shown) + (f" and {len(arrays) - 12} more" if len(arrays) > 12 else "")


def refuse(tree: Tree, arrays: Sequence[Array], what: str) -> ArgumentError:
    """Error for a `ds_path` that cannot be used."""
    there = f"it holds {listing(arrays)}" if arrays else "it holds no array of numbers that could be an image"
    return ArgumentError(f"{tree.file}: {what}; {there}")
