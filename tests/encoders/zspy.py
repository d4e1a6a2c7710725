"""HyperSpy signals in Zarr stores, written by hand: JSON for groups and attributes, plain bytes for chunks.

Layout: RosettaSciIO's documentation of the ZSpy format, version 3.3, and what HyperSpy 2.5 leaves on the disk.
"""

import base64
import json
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .zarr import write_array, write_group


def axis(name: Any = None, units: Any = None, scale: float = 1.0, offset: float = 0.0, **more: Any) -> dict[str, Any]:
    """Attributes of a uniform axis, a signal axis unless `more` says otherwise."""
    usual = {"_type": "UniformDataAxis", "scale": scale, "offset": offset, "navigate": False, "is_binned": False}
    return {"name": name, "units": units, **usual, **more}


def navigation(name: Any = None, units: Any = None, scale: float = 1.0, offset: float = 0.0) -> dict[str, Any]:
    """Attributes of a navigation axis."""
    return axis(name, units, scale, offset, navigate=True)


def write_zspy(
    path: str | Path,
    data: NDArray,
    axes: list[dict[str, Any]],
    *,
    title: str = "",
    metadata: dict[str, Any] | None = None,
    version: int = 2,
    tree_version: Any = "3.3",
    listed_axes: bool = False,
    **stored: Any,
) -> Path:
    """Write a signal; several may be written into one store.

    Parameters
    ----------
    path, data
        Where to, and pixels; R, G, B (, A) records become structured elements.
    axes
        Attributes by axis of the array; an entry that is an array becomes one, one that is a dictionary a group.
    title
        Name of the signal.
    metadata
        Dictionaries become groups, arrays become arrays, lists of text arrays of text; the keys are as in the file.
    version
        Of Zarr.
    tree_version
        Of HyperSpy's tree.
    listed_axes
        Whether the axes stand in one group, as in signals within metadata.
    **stored
        How the array is stored, see `write_array`.
    """
    path = Path(path)
    write_group(path, {"file_format": "ZSpy", "file_format_version": tree_version}, version=version)
    write_group(path / "Experiments", version=version)
    signal = write_group(
        path / "Experiments" / (title or "__unnamed__"),
        {"package": "hyperspy", "package_version": "2.5.0"},
        version=version,
    )
    if data.dtype.names:
        fields = [[name, data.dtype[name].str] for name in data.dtype.names]
        stored = {"dtype": fields, "fill_value": base64.b64encode(bytes(data.dtype.itemsize)).decode(), **stored}
    separator = {"separator": "/"} if version == 2 else {}
    write_array(signal / "data", data, version=version, **{**separator, **stored})
    folder = write_group(signal / f"_list_{len(axes)}_axes", version=version) if listed_axes else signal
    for k, (facts, size) in enumerate(zip(axes, data.shape, strict=True)):
        write_tree(folder / (str(k) if listed_axes else f"axis-{k}"), {"size": size, **facts}, version)
    write_tree(
        signal / "metadata", {"General": {"title": title}, "Signal": {"signal_type": ""}, **(metadata or {})}, version
    )
    write_tree(signal / "original_metadata", {}, version)
    write_tree(signal / "attributes", {"_lazy": False, "ragged": False}, version)
    return path


def write_tree(path: Path, tree: dict[str, Any], version: int = 2) -> None:
    """Write a dictionary as a group; `None` is spelled as HyperSpy does."""
    attributes: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, np.ndarray):
            write_array(path / name, value, version=version)
        elif isinstance(value, list):
            write_texts(path / name, value)
        elif isinstance(value, dict):
            write_tree(path / name, value, version)
        else:
            attributes[name] = "_None_" if value is None else value
    write_group(path, attributes, version=version)


def write_texts(path: Path, texts: list[str], codec: str = "vlen-utf8") -> None:
    """Write an array of text of any length (version 2): count, then each text behind its length."""
    path.mkdir(parents=True)
    encoded = [text.encode() for text in texts]
    data = struct.pack("<I", len(texts)) + b"".join(struct.pack("<I", len(text)) + text for text in encoded)
    (path / "0").write_bytes(data)
    _write_objects(path, len(texts), {"id": codec})


def write_ragged(path: Path, count: int) -> None:
    """Write what zarr-python 3 cannot open: an array of arrays (version 2), without a chunk."""
    path.mkdir(parents=True)
    _write_objects(path, count, {"id": "vlen-array", "dtype": "<f8"})


def _write_objects(path: Path, count: int, codec: dict[str, Any]) -> None:
    meta = {"zarr_format": 2, "shape": [count], "chunks": [count], "dtype": "|O", "compressor": None, "fill_value": 0}
    (path / ".zarray").write_text(json.dumps({**meta, "order": "C", "filters": [codec]}))


def zipped(folder: Path, target: str | Path, within: str = "") -> Path:
    """Pack a store into a ZIP file, members as they are, perhaps in a folder."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for root, _, names in os.walk(folder):
            for name in sorted(names):
                file = Path(root) / name
                archive.write(file, os.path.join(within, file.relative_to(folder)))
    return Path(target)
