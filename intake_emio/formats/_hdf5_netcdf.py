"""HDF5 files of named variables: netCDF-4, as xarray and we write it. The image comes with all that lies beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..axes import Calibration, even_or_labels
from ..errors import ArgumentError
from ..frames.held import Held
from ..image import Image, Variable
from ..record import KEY, Record, coordinates
from ._hdf5_files import Place, Tree, attributes, text
from ._hdf5_layouts import NO_VARIABLE, Array, Beside, axis_names, is_pixels, labelled, lies_elsewhere

MOST_VARIABLES = 1000
MOST_HELD = 64 << 20
"""Bytes of a coordinate that is read when the file is opened."""

OF_NETCDF = {
    "_FillValue",
    "_Netcdf4Coordinates",
    "_Netcdf4Dimid",
    "_NCProperties",
    "_nc3_strict",
    "CLASS",
    "DIMENSION_LIST",
    "NAME",
    "REFERENCE_LIST",
    "coordinates",
    "dtype",
}
"""Attributes that say how netCDF, or xarray, stores a variable."""

CODING = {"units", "calendar"}
"""Attributes by which times are stored as numbers."""


def netcdf(tree: Tree) -> list[Array]:
    """Variables of a file that we have written, or that has an `image` with axes of single letters; the image first."""
    record = _record(tree)
    if record is None and "image" not in tree.root.thing:
        return []
    found = _variables(tree)
    axes = {name: _axes(place) for name, place in found.items()}
    main = str(record.account.get("name")) if record is not None else "image"
    main = main if main in found else "image"
    if main not in found or not axes[main] or not is_pixels(found[main].thing):
        return []
    beside = _coordinate_names(found, axes, record) - {main}
    sizes = dict(zip(axes[main] or "", found[main].thing.shape, strict=True))
    pictures = {}
    for name, place in found.items():
        letters = axes[name]
        if name not in beside and letters and is_pixels(place.thing) and _fits(place, letters, sizes):
            described = labelled(tree, place, f"/{name}", min(2, len(letters)))
            pictures[name] = replace(described, axes=letters, attrs=_clean(attributes(place.thing)))
            sizes |= dict(zip(letters, place.thing.shape, strict=True))
    image = pictures.pop(main)
    coords = {name: found[name] for name in sorted(beside & found.keys()) if _fits(found[name], axes[name], sizes)}
    header = {"attributes": _clean(attributes(tree.root.thing))}
    whole = replace(image, beside=_beside(coords, axes, pictures), record=record, header=header)
    return [whole, *pictures.values()]


def with_record(image: Image, record: Record) -> Image:
    """Return an image with what our own account adds to the file's own variables.

    The account has those coordinates and attributes only which they cannot hold.
    """
    done = record.applied(image)
    if done is image:  # somebody has been at the file
        return image
    beside = record.account.get("beside")
    accounts, attrs = (_mappings(beside.get(k)) if isinstance(beside, Mapping) else {} for k in ("coords", "attrs"))
    try:
        calibration, facts, scalars = coordinates(accounts, image.sizes)
    except ArgumentError:
        calibration, facts, scalars = {}, {}, {}
    variables = {n: replace(v, attrs=attrs[n]) if n in attrs else v for n, v in done.variables.items()}
    done_facts = {**done.facts, **facts}
    return replace(
        done,
        calibration={**_without(image.calibration, done_facts), **done.calibration, **calibration},
        facts={**image.facts, **done_facts},
        scalars={**_without(image.scalars, done_facts), **done.scalars, **scalars},
        variables=variables,
    )


def _without(mapping: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name not in names}


def _mappings(accounts: Any) -> dict[str, Any]:
    given = accounts if isinstance(accounts, Mapping) else {}
    return {str(name): account for name, account in given.items() if isinstance(account, Mapping)}


def _record(tree: Tree) -> Record | None:
    attrs = tree.root.thing.attrs
    return Record.parse(text(attrs[KEY])) if KEY in attrs else None


def _variables(tree: Tree) -> dict[str, Place]:
    """Datasets of the root group, links and mere dimensions aside."""
    import h5py

    root = tree.root.thing
    names = [n for n in list(root)[:MOST_VARIABLES] if isinstance(root.get(n, getlink=True), h5py.HardLink)]
    places = {name: tree.get(name) for name in names}
    return {
        name: place
        for name, place in places.items()
        if place is not None
        and place.is_dataset
        and not text(place.thing.attrs.get("NAME", "")).startswith(NO_VARIABLE)
    }


def _axes(place: Place) -> str | None:
    """Letters of the axes of a variable; `None` if they have other names, or none."""
    names = axis_names(place.thing)
    if all(len(name) == 1 and name.isalpha() for name in names) and len(set(names)) == len(names):
        return "".join(names)
    return None


def _fits(place: Place, axes: str | None, sizes: Mapping[str, int]) -> bool:
    return axes is not None and all(sizes.get(a, n) == n for a, n in zip(axes, place.thing.shape, strict=True))


def _coordinate_names(found: Mapping[str, Place], axes: Mapping[str, str | None], record: Record | None) -> set[str]:
    """Which variables are coordinates: those that others, or our own account, call so, and those called as an axis."""
    named = [text(place.thing.attrs["coordinates"]) for place in found.values() if "coordinates" in place.thing.attrs]
    own = {name for name in found if axes[name] == name}
    listed = record.account.get("coordinates") if record is not None else None
    return own.union(" ".join(named).split(), map(str, listed) if isinstance(listed, list) else ())


def _clean(attrs: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in attrs.items() if k not in OF_NETCDF and k != KEY}


# Coordinates ---------------------------------------------------------------------------------------------------------


def _beside(coords: Mapping[str, Place], axes: Mapping[str, str | None], pictures: Mapping[str, Array]) -> Beside:
    """What lies beside the image, as the file's own variables say it."""
    calibration: dict[str, Calibration] = {}
    facts: dict[str, Array] = {}
    held: dict[str, Variable] = {}
    scalars: dict[str, tuple[Any, str | None]] = {}
    for name, place in coords.items():
        dims = axes[name] or ""
        if dims and dims != name and is_pixels(place.thing) and not _is_time(place):
            facts[name] = Array(place, f"/{name}", axes=dims, attrs=_clean(attributes(place.thing)))
            continue
        values, attrs = _values(place, dims)
        if values is None:
            continue
        units = str(attrs["units"]) if "units" in attrs else None
        if dims == name:
            calibration[name] = even_or_labels(values, units)
        elif not dims:
            scalars[name] = values[()], units
        else:
            held[name] = Variable(Held(values, 0), dims, attrs)
    return Beside(pictures, facts, held, calibration, scalars)


def _is_time(place: Place) -> bool:
    attrs = place.thing.attrs
    return " since " in text(attrs.get("units", "")) or text(attrs.get("dtype", "")).startswith("timedelta64")


def _values(place: Place, dims: str) -> tuple[np.ndarray | None, dict[str, Any]]:
    """Values of a coordinate, text and times as such, and its attributes; `None` if they are none, or too many."""
    dataset, attrs = place.thing, attributes(place.thing)
    if dataset.size is None or dataset.size * dataset.dtype.itemsize > MOST_HELD or lies_elsewhere(dataset):
        return None, {}
    values = np.asarray(dataset[()])
    if values.dtype.kind in "OS":
        values = np.array([text(value) for value in values.reshape(-1)], dtype=str).reshape(values.shape)
    if attrs.get("dtype") == "bool":
        values = values.astype(bool)
    if values.dtype.kind not in "biufcU":
        return None, {}
    times = _times(place, dims, values, attrs) if _is_time(place) else None
    if times is None:
        return values, _clean(attrs)
    return times, {k: v for k, v in _clean(attrs).items() if k not in CODING}


def _times(place: Place, dims: str, values: np.ndarray, attrs: Mapping[str, Any]) -> np.ndarray | None:
    """Numbers as the times that they mean by the conventions of CF; `None` if nobody understands them."""
    import xarray as xr

    encoded = xr.Variable(tuple(dims), values, {k: v for k, v in attrs.items() if k in (*CODING, "dtype")})
    try:
        times = np.asarray(xr.conventions.decode_cf_variable(place.path, encoded, mask_and_scale=False).values)
    except (ValueError, TypeError, OverflowError, ImportError):
        return None
    return times if times.dtype.kind in "mM" else None  # not those of other calendars
