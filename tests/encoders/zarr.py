"""Zarr stores written by hand: metadata as JSON, chunks as plain bytes or zlib streams.

Layout: the Zarr specifications 2 and 3. What libraries write is tested with the libraries themselves.
"""

import itertools
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = {"u": "uint", "i": "int", "f": "float", "b": "bool"}


def write_group(path: str | Path, attrs: dict[str, Any] | None = None, *, version: int = 3) -> Path:
    """Make a folder a group."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    if version == 3:
        text = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attrs or {}})
        (path / "zarr.json").write_text(text)
    else:
        (path / ".zgroup").write_text(json.dumps({"zarr_format": 2}))
        (path / ".zattrs").write_text(json.dumps(attrs or {}))
    return path


def write_array(
    path: str | Path,
    array: NDArray,
    *,
    version: int = 3,
    chunks: tuple[int, ...] | None = None,
    attrs: dict[str, Any] | None = None,
    dims: list[str] | None = None,
    fill_value: Any = 0,
    fortran_order: bool = False,
    deflate: bool = False,
    separator: str | None = None,
    skip: tuple[tuple[int, ...], ...] = (),
    **changed: Any,
) -> Path:
    """Write an array, big-endian if it is.

    Parameters
    ----------
    path, array
        Where to, and what.
    chunks
        Shape of the chunks; those at the end are filled up.
    attrs, dims
        Attributes, and names of the dimensions (in version 2 an attribute of xarray).
    fill_value
        Of chunks that are missing.
    fortran_order
        Store the first axis of each chunk fastest (version 2).
    deflate
        Compress chunks with zlib (version 2).
    separator
        Between the numbers in the name of a chunk.
    skip
        Chunks that are not written.
    **changed
        Entries of the metadata, when not the truth.
    """
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    chunks = chunks or array.shape
    attrs = dict(attrs or {})
    if version == 2:
        if dims is not None:
            attrs["_ARRAY_DIMENSIONS"] = dims
        separator = separator or "."
        meta: dict[str, Any] = {
            "zarr_format": 2,
            "shape": list(array.shape),
            "chunks": list(chunks),
            "dtype": array.dtype.str,
            "compressor": {"id": "zlib", "level": 1} if deflate else None,
            "fill_value": fill_value,
            "order": "F" if fortran_order else "C",
            "filters": None,
            "dimension_separator": separator,
        }
        (path / ".zarray").write_text(json.dumps({**meta, **changed}))
        (path / ".zattrs").write_text(json.dumps(attrs))
    else:
        separator = separator or "/"
        endian = "big" if array.dtype.str[0] == ">" else "little"
        bits = "" if array.dtype.kind == "b" else str(8 * array.dtype.itemsize)
        meta = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(array.shape),
            "data_type": KINDS[array.dtype.kind] + bits,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": separator}},
            "fill_value": fill_value,
            "codecs": [{"name": "bytes", "configuration": {"endian": endian}}],
            "attributes": attrs,
            "storage_transformers": [],
            **({"dimension_names": dims} if dims is not None else {}),
        }
        (path / "zarr.json").write_text(json.dumps({**meta, **changed}))
    for place in itertools.product(*(range(-(-n // c)) for n, c in zip(array.shape, chunks, strict=True))):
        if place in skip:
            continue
        part = array[tuple(slice(k * c, (k + 1) * c) for k, c in zip(place, chunks, strict=True))]
        block = np.zeros(chunks, array.dtype)
        block[tuple(slice(n) for n in part.shape)] = part
        data = block.tobytes("F" if fortran_order else "C")
        name = separator.join(map(str, place))
        file = path / (f"c{separator}{name}" if version == 3 else name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(zlib.compress(data, 1) if deflate else data)
    return path
