"""Our own account of an image, which writers put into files that cannot say it in their own words.

It is a mapping of JSON types: axes, coordinates with their types and units, attributes, and, of a member of a set of
files, its place in the set. Readers lay it over what the file itself says, if both agree on the shape.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from . import arguments
from .axes import Calibration, check_axes, even_or_labels
from .errors import ArgumentError
from .frames.held import Held
from .image import Image, Variable

if TYPE_CHECKING:
    import xarray as xr

KEY = "emio"
"""Name under which files keep the record."""

VERSION = 1
OF_DATASET = ("metadata", "acquisition", "uri", "format")
"""Attributes of Datasets that have a place of their own, or belong to the file that was read."""


def describe(
    image: xr.DataArray, dataset_attrs: Mapping[str, Any] | None = None, outer: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the account of an image in JSON types.

    Parameters
    ----------
    image
        A variable of a Dataset.
    dataset_attrs
        Attributes of that Dataset; those of the variable win.
    outer
        Of a member of a set: its place in the set.

    Examples
    --------
    >>> import xarray as xr
    >>> image = xr.DataArray(np.zeros((2, 3), "u1"), dims=("y", "x"), coords={"x": [0.0, 0.5, 1.0]}, name="image")
    >>> describe(image)["coords"]
    {'x': {'dims': 'x', 'dtype': '<f8', 'start': 0.0, 'step': 0.5}}
    """
    whole = {**(dataset_attrs or {}), **image.attrs}
    metadata = arguments.mapping("metadata", whole.get("metadata"))
    account = {
        "version": VERSION,
        "name": str(image.name or "image"),
        "axes": "".join(map(str, image.dims)),
        "shape": list(image.shape),
        "dtype": image.dtype.newbyteorder("=").name,
        "coords": {str(name): coordinate(coord) for name, coord in image.coords.items()},
        "attrs": _own(image.attrs),
        "dataset": _own(dataset_attrs or {}),
        "acquisition": arguments.plain(whole.get("acquisition") or {}),
        "fileheader": arguments.plain(metadata.get("fileheader") or {}),
    }
    return {**account, "outer": arguments.plain(outer)} if outer else account


def _own(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes that nobody but the user has given."""
    return arguments.plain({k: v for k, v in attrs.items() if k not in OF_DATASET})


def coordinate(coord: xr.DataArray) -> dict[str, Any]:
    """Return a coordinate in JSON types, exactly: as start and step where that gives the very same numbers."""
    values = coord.values
    account: dict[str, Any] = {"dims": "".join(map(str, coord.dims)), "dtype": values.dtype.newbyteorder("<").str}
    if values.ndim == 1 and values.dtype.kind in "iu" and values.size > 2:
        start, step = int(values[0]), int(values[1]) - int(values[0])
        even = all(start + step * k == int(value) for k, value in enumerate(values))
        scale: Any = {"start": start, "step": step} if even else None
    else:
        found = even_or_labels(values) if values.ndim == 1 else None
        scale = {"start": found.origin, "step": found.step} if hasattr(found, "step") else None  # type: ignore[union-attr]
    account |= scale or {"values": _plain_values(values)}
    attrs = arguments.plain(coord.attrs)
    return {**account, "attrs": attrs} if attrs else account


def _plain_values(values: np.ndarray) -> Any:
    """Numbers and text as JSON has them; dates as whole numbers, and what is not finite as text."""
    if values.dtype.kind in "mM":
        return values.astype("i8").tolist()
    if values.dtype.kind not in "biufU":
        return np.vectorize(str, otypes="U")(values).tolist()
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return np.vectorize(repr, otypes="O")(values.astype("f8")).tolist()
    return values.tolist()


def values_of(account: Mapping[str, Any], size: int) -> np.ndarray:
    """Return the values of a coordinate from its account.

    Parameters
    ----------
    account
        As `coordinate` returns it.
    size
        Length of its axis; makes no difference where the values themselves are there.

    Raises
    ------
    ArgumentError
        If it is none.
    """
    try:
        dtype = np.dtype(str(account["dtype"])).newbyteorder("=")
        if "values" in account:
            values = np.asarray(account["values"])
            return values.astype("i8").view(dtype) if dtype.kind in "mM" else values.astype(dtype)
        return (account["start"] + account["step"] * np.arange(size)).astype(dtype)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ArgumentError(f"the record of a coordinate is broken: {error}") from None


@dataclass(frozen=True)
class Record:
    """An account of an image, as found in a file.

    Parameters
    ----------
    axes, shape
        Of the image.
    account
        All of it.
    """

    axes: str
    shape: tuple[int, ...]
    account: Mapping[str, Any]

    @classmethod
    def parse(cls, account: Any) -> Record | None:
        """Take an account, also as JSON text, from a stranger's file; `None` if it is none of ours."""
        if isinstance(account, str | bytes):
            try:
                account = json.loads(account)
            except (ValueError, RecursionError):
                return None
        if not isinstance(account, Mapping) or account.get("version") != VERSION:
            return None
        axes, shape = account.get("axes"), account.get("shape")
        try:
            check_axes(axes, len(shape))  # type: ignore[arg-type]
            sizes = tuple(arguments.number("shape", n, least=0) for n in shape)  # type: ignore[union-attr]
        except (ArgumentError, TypeError):
            return None
        return cls(str(axes), sizes, account)

    @property
    def outer(self) -> Mapping[str, Any] | None:
        """The set of which the file is a member, if it is one."""
        outer = self.account.get("outer")
        return outer if isinstance(outer, Mapping) else None

    def applied(self, image: Image) -> Image:
        """Return an image with its axes, coordinates and attributes as they were when it was saved.

        An image of other axes or another shape is returned as it is: something else has been at the file since.
        """
        stored = image.image
        sizes = dict(zip(self.axes, self.shape, strict=True))
        if stored.sizes != sizes or image.variables.keys() & self._coords().keys():
            return image
        try:
            calibration, facts, scalars = coordinates(self._coords(), sizes)
        except ArgumentError:
            return image
        mapping = arguments.mapping
        return replace(
            image,
            order=self.axes,
            calibration=calibration,
            facts=facts,
            scalars={**self._place(), **scalars},
            attrs=mapping("attrs", self.account.get("attrs")),
            acquisition=mapping("acquisition", self.account.get("acquisition")),
            header=mapping("fileheader", self.account.get("fileheader")) or image.header,
            dataset_attrs=mapping("dataset", self.account.get("dataset")),
            outer=self.outer or {},
        )

    def _place(self) -> dict[str, tuple[Any, str | None]]:
        """Coordinates of the member in its set."""
        outer = self.outer or {}
        coords, axes = arguments.mapping("coords", outer.get("coords")), str(outer.get("axes", ""))
        try:
            sizes = dict(zip(axes, outer["shape"], strict=True))
            at = dict(zip(axes, outer["index"], strict=True))
            calibration, _, _ = coordinates({a: c for a, c in coords.items() if a in sizes}, sizes)
            return {a: (scale.values(sizes[a])[at[a]], scale.units) for a, scale in calibration.items()}
        except (KeyError, TypeError, ValueError, IndexError):  # somebody has been at it
            return {}

    def _coords(self) -> Mapping[str, Any]:
        coords = self.account.get("coords")
        return coords if isinstance(coords, Mapping) else {}


def coordinates(
    accounts: Mapping[str, Any], sizes: Mapping[str, int]
) -> tuple[dict[str, Calibration], dict[str, Variable], dict[str, tuple[Any, str | None]]]:
    """Coordinates of the axes, facts along some of the axes, and single values, from their accounts.

    Raises
    ------
    ArgumentError
        If they do not fit the axes.
    """
    calibration: dict[str, Calibration] = {}
    facts: dict[str, Variable] = {}
    scalars: dict[str, tuple[Any, str | None]] = {}
    for name, account in accounts.items():
        if not isinstance(account, Mapping):
            raise ArgumentError(f"the record of coordinate {name!r} is broken")
        attrs, dims = account.get("attrs") or {}, str(account.get("dims", ""))
        if any(axis not in sizes for axis in dims):
            raise ArgumentError(f"coordinate {name!r} lies along an axis that the image has not")
        values = values_of(account, sizes[dims[0]] if dims else 1)
        if values.shape != tuple(sizes[axis] for axis in dims):
            raise ArgumentError(f"coordinate {name!r} has shape {values.shape}")
        units = attrs.get("units")
        if dims == name and attrs.keys() <= {"units"}:
            calibration[name] = even_or_labels(values, units)
        elif not dims and attrs.keys() <= {"units"}:
            scalars[name] = (values[()], units)
        else:
            facts[name] = Variable(Held(values, 0), dims, attrs)
    return calibration, facts, scalars
