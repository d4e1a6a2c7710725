"""Writing Datasets as Zarr groups.

Rules: docs/formats/zarr.md.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import arguments
from ..errors import ArgumentError
from ..record import KEY

if TYPE_CHECKING:
    import xarray as xr

CHUNK_BYTES = 4 << 20


def save(dataset: xr.Dataset, path: str, *, compress: bool | None = None, record: Mapping[str, Any]) -> None:
    """Write a Dataset as a Zarr v3 group with consolidated metadata; lazy pixels chunk by chunk.

    Parameters
    ----------
    dataset
        Any variables; attributes are stored as JSON.
    path
        Folder to create.
    compress
        `None`: zstd; `True`: Blosc with zstd and bit shuffling, better on sparse detector data; `False`: none.
    record
        Our own account of the image. Of a member of a set it is kept as the attribute ``emio`` of the group; all else
        that it says is in the store anyway.

    Raises
    ------
    ArgumentError
        If a variable holds Python objects.
    """
    clean = dataset.copy()
    clean.attrs = {**arguments.plain(dataset.attrs), **({KEY: record} if "outer" in record else {})}
    for name, variable in clean.variables.items():
        if variable.dtype.kind not in ("biufc" if name in clean.data_vars else "biufcUSMm"):
            raise ArgumentError(f"variable {name!r} holds {variable.dtype}, which are no pixels that Zarr can store")
        variable.encoding = {}
        variable.attrs = arguments.plain(variable.attrs)
    encoding: dict[Any, dict[str, Any]] = {}
    for name, array in clean.data_vars.items():
        clean[name] = _evenly_chunked(array)
        encoding[name] = {"chunks": _chunk_shape(clean[name]), **_compressors(array, compress)}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        clean.to_zarr(path, mode="w-", zarr_format=3, consolidated=True, encoding=encoding)


def _evenly_chunked(variable: xr.DataArray) -> xr.DataArray:
    """Zarr wants equal chunks, but for the last ones."""
    if variable.chunks is None or all(len(set(c[:-1])) <= 1 and c[-1] <= c[0] for c in variable.chunks):
        return variable
    return variable.chunk(dict(zip(variable.dims, (c[0] for c in variable.chunks), strict=True)))


def _chunk_shape(variable: xr.DataArray) -> tuple[int, ...]:
    """Dask chunks as they are; of arrays in memory, as many whole frames as make a few MiB."""
    if variable.chunks is not None:
        return tuple(c[0] for c in variable.chunks)
    shape = list(variable.shape)
    for axis in range(max(0, len(shape) - 2)):
        rest = math.prod(shape[axis + 1 :]) * variable.dtype.itemsize
        shape[axis] = min(shape[axis], CHUNK_BYTES // max(1, rest))
    return tuple(max(1, size) for size in shape)


def _compressors(variable: xr.DataArray, compress: bool | None) -> dict[str, Any]:
    from zarr.codecs import BloscCodec, BloscShuffle

    if compress is None:
        return {}
    if not compress:
        return {"compressors": None}
    shuffle = BloscShuffle.bitshuffle if variable.dtype.kind in "iub" else BloscShuffle.shuffle
    return {"compressors": [BloscCodec(cname="zstd", clevel=5, shuffle=shuffle)]}
