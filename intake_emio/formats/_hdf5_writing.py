"""Writing Datasets as HDF5 files that are netCDF-4 too, or nearly.

Rules: docs/formats/hdf5.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import arguments
from ..errors import ArgumentError
from ..record import KEY, coordinate
from ._hdf5_netcdf import CODING, OF_NETCDF
from ._hdf5_pixels import Plan, as_disk_errors, write_pixels

if TYPE_CHECKING:
    import h5netcdf
    import xarray as xr

LONG = 1000
"""Lists of more members are written as text: an attribute has 64 kB."""

OF_THE_FILE = {"uri", "format", KEY}
"""Attributes of Datasets that belong to the file which was read."""

NETCDF_TYPES = {"bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)), "float32", "float64"}


def save(dataset: xr.Dataset, path: str, *, compress: bool | None = None, record: Mapping[str, Any]) -> None:
    """Write a Dataset as an HDF5 file, with dimension scales as netCDF-4 has them; lazy pixels block by block.

    Parameters
    ----------
    dataset
        Any variables of numbers, which may be complex or of half precision.
    path
        File to create.
    compress
        `True`: gzip, level 4, and shuffling; `None` and `False`: none, and pixels in one piece if their chunks allow.
    record
        Our own account of the image, kept as the attribute ``emio`` of the root.

    Raises
    ------
    ArgumentError
        If a variable holds no numbers, or has a name that HDF5 cannot have.
    """
    _write(dataset, path, bool(compress), record, strict=False)


def save_nc(dataset: xr.Dataset, path: str, *, compress: bool | None = None, record: Mapping[str, Any]) -> None:
    """Write a Dataset as a netCDF-4 file; lazy pixels block by block.

    Parameters
    ----------
    dataset, path, compress, record
        As `save` takes them.

    Raises
    ------
    ArgumentError
        If a variable is of a type that netCDF does not know, such as complex numbers.
    """
    _write(dataset, path, bool(compress), record, strict=True)


@as_disk_errors()
def _write(dataset: xr.Dataset, path: str, compress: bool, record: Mapping[str, Any], strict: bool) -> None:
    import h5netcdf

    for name, variable in dataset.variables.items():
        _check(path, str(name), variable, strict, pixels=name in dataset.data_vars)
    plans = {str(name): Plan.of(variable.data, compress) for name, variable in dataset.data_vars.items()}
    with h5netcdf.File(path, "w", invalid_netcdf=not strict) as file:
        file.dimensions = {str(dim): size for dim, size in dataset.sizes.items()}
        for name, coord in dataset.coords.items():
            _write_coordinate(file, str(name), coord.variable, strict)
        for name, plan in plans.items():
            picture = dataset[name]
            dtype, spelled = picture.dtype.newbyteorder("="), {}
            if strict and dtype.kind == "b":
                dtype, spelled = np.dtype("i1"), {"dtype": "bool"}  # as xarray spells it
            stored = file.create_variable(name, tuple(map(str, picture.dims)), dtype, **plan.options)
            stored.attrs.update(_plain_attrs(picture.attrs) | _coordinates_of(picture, dataset) | spelled)
        attrs = {k: v for k, v in dataset.attrs.items() if k not in OF_THE_FILE}
        file.attrs.update(_plain_attrs(attrs) | {KEY: json.dumps(_account(dataset, record, strict))})
    write_pixels(path, plans)


def _check(path: str, name: str, variable: xr.Variable, strict: bool, pixels: bool) -> None:
    """Refuse what HDF5, or netCDF, cannot hold."""
    if not _is_name(name):
        raise ArgumentError(f"{path}: HDF5 cannot have the name {name!r}: rename it")
    dtype = variable.dtype
    if dtype.kind not in ("biufc" if pixels else "biufcUSOMm") or (
        dtype.kind == "O" and not all(isinstance(value, str) for value in variable.values.flat)
    ):
        raise ArgumentError(f"{path}: {name!r} holds {dtype}, which HDF5 files of ours do not: leave it out")
    if strict and dtype.kind in "biufc" and dtype.name not in NETCDF_TYPES and (pixels or dtype != np.float16):
        raise ArgumentError(
            f"{path}: {name!r} holds {dtype}, which netCDF does not know: save it as .h5 or .zarr, or convert it first"
        )


def _is_name(name: str) -> bool:
    return name not in ("", ".") and not set(name) & {"/", "\0"} and _is_text(name)


def _is_text(text: str) -> bool:
    """Whether HDF5 can hold a text."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


# Coordinates ---------------------------------------------------------------------------------------------------------


def _write_coordinate(file: h5netcdf.File, name: str, coord: xr.Variable, strict: bool) -> None:
    """Write the values of a coordinate: times by the conventions of CF, texts of any length."""
    import h5py
    import xarray as xr

    attrs = _plain_attrs(coord.attrs)
    values, fill = coord.values, None
    dtype: Any = values.dtype.newbyteorder("=")
    if dtype.kind in "USO":
        values, dtype = np.vectorize(_text, otypes="O")(values), h5py.string_dtype()
    elif dtype.kind in "Mm" or (strict and dtype.kind == "b"):
        own = {k: v for k, v in attrs.items() if k not in CODING}
        encoded = xr.conventions.encode_cf_variable(xr.Variable(coord.dims, values, own), name=name)
        values, attrs = encoded.values, dict(encoded.attrs)
        dtype, fill = values.dtype, attrs.pop("_FillValue", None)
    elif strict and dtype == np.float16:
        dtype = np.dtype("f4")
    dims = tuple(map(str, coord.dims))
    stored = file.create_variable(name, dims, dtype, np.asarray(values, dtype), fillvalue=fill)
    stored.attrs.update(attrs)


def _text(value: str | bytes) -> str:
    """Text that HDF5 can hold."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _coordinates_of(variable: xr.DataArray, dataset: xr.Dataset) -> dict[str, str]:
    """Which coordinates belong to a variable, beside those of its axes: they stand in an attribute, by CF."""
    beside = [str(n) for n, c in dataset.coords.items() if (n,) != c.dims and set(c.dims) <= set(variable.dims)]
    named = [name for name in beside if not set(name) & set(" \t\n")]
    return {"coordinates": " ".join(named)} if named else {}


# Attributes ----------------------------------------------------------------------------------------------------------


def _plain_attrs(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes as netCDF can have them; what is more than text, numbers and short lists of them as JSON text."""
    return {
        name: value if _is_plain(value) else json.dumps(value)
        for name, value in arguments.plain(attrs).items()
        if name not in OF_NETCDF and _is_name(name)
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        kinds = {type(member) for member in value}
        return 0 < len(value) <= LONG and len(kinds) == 1 and all(map(_is_plain, value)) and kinds != {list}
    if isinstance(value, str):
        return _is_text(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return -(2**63) <= value < 2**63
    return isinstance(value, float)


# Our own account ------------------------------------------------------------------------------------------------------


def _account(dataset: xr.Dataset, record: Mapping[str, Any], strict: bool) -> dict[str, Any]:
    """Our record without what the file's own variables say exactly, and with what they do not say of other images."""
    odd = {
        str(name): coord for name, coord in dataset.coords.items() if not _is_kept(str(name), coord.variable, strict)
    }
    apart = {
        name: coordinate(coord) for name, coord in odd.items() if name not in dataset[_main(dataset, record)].coords
    }
    attrs = {
        str(name): arguments.plain(variable.attrs)
        for name, variable in dataset.data_vars.items()
        if not _come_back(variable.attrs)
    }
    return {
        **record,
        "coords": {name: account for name, account in record["coords"].items() if name in odd},
        "coordinates": list(map(str, dataset.coords)),
        "beside": {"coords": apart, "attrs": attrs},
    }


def _main(dataset: xr.Dataset, record: Mapping[str, Any]) -> str:
    """Name of the variable of which the record tells."""
    return record["name"] if record["name"] in dataset.data_vars else "image"


def _is_kept(name: str, coord: xr.Variable, strict: bool) -> bool:
    """Whether a coordinate comes back exactly without our help."""
    kind, attrs = coord.dtype.kind, dict(coord.attrs)
    if (kind in "SO") or (kind == "M" and coord.dtype != "M8[ns]") or (strict and coord.dtype == np.float16):
        return False
    if kind == "U" and not all(map(_is_text, coord.values.flat)):
        return False
    if (kind in "mM" and attrs.keys() & CODING) or (coord.dims in ((), (name,)) and attrs.keys() - {"units"}):
        return False
    return _come_back(attrs) and isinstance(attrs.get("units", ""), str)


def _come_back(attrs: Mapping[Any, Any]) -> bool:
    """Whether attributes come back exactly as they are."""
    return all(
        name not in OF_NETCDF
        and _is_name(name)
        and _is_plain(value)
        and not (isinstance(value, list) and len(value) < 2)
        for name, value in arguments.plain(attrs).items()
    )
