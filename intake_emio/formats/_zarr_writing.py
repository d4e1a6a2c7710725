"""Writing Datasets as Zarr groups, as xarray reads them.

Rules: docs/formats/zarr.md.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import arguments
from ..errors import ArgumentError
from ..frames.chunked_target import NewStore, write_chunks
from ..record import KEY
from ._zarr_layout import Layout, Wishes, compressor

if TYPE_CHECKING:
    import xarray as xr

PIXELS = "biufc"
ONE_BY_ONE = threading.Lock()
"""Members of a set are written by several threads, and warnings can be silenced for all threads only."""

TIMES = "times"
"""Entry of our own attribute of the group: units of dates that are not nanoseconds, which is all that xarray reads."""

OF_TIMES = ("units", "calendar", "dtype")
"""Attributes in which xarray says how it stores times."""


def save(
    dataset: xr.Dataset,
    path: str,
    *,
    compress: bool | None = None,
    record: Mapping[str, Any] | None = None,
    chunks: Any = None,
    shards: Any = None,
    zarr_format: int = 3,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Write a Dataset as a Zarr group with consolidated metadata; lazy pixels chunk by chunk.

    Parameters
    ----------
    dataset
        Any variables; attributes are stored as JSON.
    path
        Folder to create, or fsspec URL.
    compress
        `None`: zstd; `True`: Blosc with zstd and bit shuffling, better on sparse detector data; `False`: none.
    record
        Our own account of the image. Of a member of a set it is kept as the attribute ``emio`` of the group; all else
        that it says is in the store anyway.
    chunks
        Sizes of the stored chunks: ``{axis: size}``, where other axes stay whole, one per axis, a number, or
        ``"frame"``. Default: chunks of dask as they are; of arrays in memory, a few MiB of whole frames.
    shards
        In the same way, multiples of the chunks: what is in one file. Default: only where there would be more than
        10 000 files.
    zarr_format
        Version of Zarr: 3 or 2.
    storage_options
        For fsspec.

    Raises
    ------
    ArgumentError
        If a variable holds Python objects, or chunks do not fit.

    Examples
    --------
    >>> import tempfile, os, xarray as xr
    >>> path = os.path.join(tempfile.mkdtemp(), "stack.zarr")
    >>> save(xr.Dataset({"image": (("i", "y", "x"), np.zeros((6, 4, 4)))}), path, chunks={"i": 2})
    >>> xr.open_zarr(path).image.chunks
    ((2, 2, 2), (4,), (4,))
    """
    arguments.choice("zarr_format", zarr_format, (2, 3))
    wishes = Wishes(compress, arguments.chunks(chunks), arguments.chunks(shards), zarr_format)
    clean = _cleaned(dataset, zarr_format)
    ours = {**(record if record and "outer" in record else {}), **_units_of_dates(clean)}
    if ours:
        clean.attrs[KEY] = arguments.plain(ours)
    layouts = _layouts(clean, wishes)
    store = NewStore(path, storage_options)
    _compose(clean, layouts, wishes, store)
    store.lay_out()
    for name, layout in layouts.items():
        write_chunks(clean[name].data, store.target(str(name), plain=layout.plain), layout.unit)
    store.finish()


def _cleaned(dataset: xr.Dataset, zarr_format: int) -> xr.Dataset:
    """Copy without what other files left behind, with attributes of JSON types; text and times are in memory.

    Raises
    ------
    ArgumentError
        If a variable is of a kind that Zarr cannot store.
    """
    clean = dataset.assign_coords({name: c.astype(str) for name, c in dataset.coords.items() if _is_text(c)})
    clean.attrs = arguments.plain(dataset.attrs)
    for name, variable in clean.variables.items():
        kinds = PIXELS if name in clean.data_vars else PIXELS + "USTMm"
        if variable.dtype.kind not in kinds:
            several = getattr(clean.indexes.get(name), "nlevels", 1) > 1
            what = "is a MultiIndex" if several else f"holds {variable.dtype}"
            way_out = f"reset_index({name!r})" if several else "convert it (astype), or drop it (drop_vars)"
            raise ArgumentError(f"variable {name!r} {what}, which Zarr cannot store: {way_out}")
        attrs = arguments.plain(variable.attrs)
        times = OF_TIMES if variable.dtype.kind in "Mm" else ()
        variable.attrs = {key: value for key, value in attrs.items() if key != "coordinates" and key not in times}
        variable.encoding = {}
    text = {}
    for name, coord in clean.coords.items():
        if coord.dtype.kind == "U" and zarr_format == 3:  # text of one length has no place in its specification
            text[name] = coord.astype(np.dtypes.StringDType())
        elif coord.chunks is not None and coord.dtype.kind not in PIXELS:
            text[name] = coord.compute()
    return clean.assign_coords(text)


def _is_text(coord: xr.DataArray) -> bool:
    """Whether Python objects are text, one and all."""
    return coord.dtype.kind == "O" and all(isinstance(value, str) for value in coord.values.flat)


def _units_of_dates(dataset: xr.Dataset) -> dict[str, Any]:
    dates = {str(name): v.dtype for name, v in dataset.variables.items() if v.dtype.kind == "M"}
    units = {name: np.datetime_data(dtype)[0] for name, dtype in dates.items()}
    return {TIMES: found} if (found := {name: unit for name, unit in units.items() if unit != "ns"}) else {}


def _layouts(clean: xr.Dataset, wishes: Wishes) -> dict[Any, Layout]:
    """How the variables are stored whose pixels are written block by block."""
    main = clean["image"] if "image" in clean else next(iter(clean.data_vars.values()))
    image_axes = "".join(map(str, main.dims))
    return {
        name: wishes.layout("".join(map(str, variable.dims)), variable.data, image_axes)
        for name, variable in clean.variables.items()
        if name in clean.data_vars or variable.chunks is not None
    }


def _compose(clean: xr.Dataset, layouts: Mapping[Any, Layout], wishes: Wishes, store: NewStore) -> None:
    """Let xarray write the metadata of everything, and the coordinates that are in memory."""
    import dask.array as da

    hollow = clean.copy()
    encoding: dict[Any, dict[str, Any]] = {}
    for name, variable in clean.variables.items():
        if name in layouts:
            nothing = da.zeros(variable.shape, dtype=variable.dtype.newbyteorder("="), chunks=variable.shape)
            hollow[name] = hollow[name].copy(data=nothing)
            encoding[name] = layouts[name].encoding
        elif variable.dtype.kind not in "UST":
            codec = compressor(wishes.compress, variable.dtype, wishes.zarr_format)
            encoding[name] = {"compressors": codec and (codec,)}
        if variable.dtype.kind == "f":
            encoding[name]["_FillValue"] = None  # or readers would look for NaN in every pixel
    with ONE_BY_ONE, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        warnings.filterwarnings("ignore", message="The data type")  # of bytes, in version 3
        hollow.to_zarr(
            store.skeleton,
            mode="w-",
            zarr_format=wishes.zarr_format,
            consolidated=True,
            compute=False,
            encoding=encoding,
        )
