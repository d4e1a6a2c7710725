"""Finding Zarr stores, and what their groups hold.

Rules: docs/formats/zarr.md.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..axes import Calibration, Scale, axis_letters, even_or_labels
from ..errors import ArgumentError, EmioError, EmioWarning, HeaderError
from ..frames.chunked_store import METADATA, StoredArray, StoreName, remote_zip_root, zip_root
from ..frames.files import File
from ..frames.held import Held
from ..image import Variable
from . import _ngff

ZIP = b"PK\x03\x04"
EXPECTED = "zarr.json, .zgroup or .zarray"
DEEPEST = 32
EXPERIMENTS = "Experiments"
MOST_LISTED = 20
MOST_HELD = 16 << 20
TIME_UNITS = ("s", "ms", "us", "ns")
FREE_LETTERS = "itczyxvuwsabdefghjklmnopqr"

# Finding stores ------------------------------------------------------------------------------------------------------


def is_zarr(file: File) -> bool:
    """Whether a folder, or a zip file, holds Zarr metadata, and no signal of HyperSpy."""
    return is_store(file) and signal_path(file) is None


def is_zspy(file: File) -> bool:
    """Whether a folder, or a zip file, holds signals of HyperSpy, or is one of these."""
    return is_store(file) and signal_path(file) is not None


def is_store(file: File) -> bool:
    """Whether a folder, or a zip file, holds Zarr metadata."""
    if file.is_folder or (file.remote and not file.exists()):
        return has_metadata(file)
    return file.read(0, 4) == ZIP and root_in_zip(file) is not None


def signal_path(file: File) -> str | None:
    """Where in a store of HyperSpy a name points to: the root (``""``), or a signal; `None` if not in such a store.

    Other arrays of such a store are for readers of plain Zarr.
    """
    store, inside = located(file)
    zipped = store.zipped or store.uri.startswith("zip://::")
    parts = [] if zipped else inside.split("/") if inside else []
    if parts and not ((parts[0] == EXPERIMENTS and len(parts) < 3) or parts[0::2] == [EXPERIMENTS, "data"]):
        return None
    root = inside if zipped else ""
    return "/".join(parts) if holds_signals(store, root) else None


def holds_signals(store: StoreName, root: str) -> bool:
    """Whether the root of a store says that it is HyperSpy's, or has a group of experiments."""
    try:
        with store.kept_open() as held:
            group = held.node(root)
            if hasattr(group, "shape"):
                return False
            if group.attrs.get("file_format") == "ZSpy":
                return True
            return not hasattr(held.node(joined(root, EXPERIMENTS)), "shape")
    except EmioError:
        return False


def has_metadata(folder: File) -> bool:
    return any(folder.within(name).exists() for name in METADATA)


def root_in_zip(file: File) -> str | None:
    return remote_zip_root(file) if file.remote else zip_root(file.uri, file.stamp)


def located(file: File) -> tuple[StoreName, str]:
    """Find the root of the store that a name points into, and the path in it.

    Raises
    ------
    MissingFileError, HeaderError
        If there is nothing, or no Zarr store.
    """
    if not file.is_folder and not (file.remote and has_metadata(file)):
        root = root_in_zip(file) if file.read(0, 4) == ZIP else None
        if root is None:
            file.size  # noqa: B018  says if it is missing
            raise HeaderError(f"{file}: is no Zarr store: expected a folder, or a .zip file, with {EXPECTED} in it")
        if file.remote:
            return StoreName(f"zip://::{file.uri}", options=file.storage_options), root
        return StoreName(file.uri, zipped=True), root
    if not has_metadata(file):
        raise HeaderError(f"{file}: no Zarr metadata in this folder: expected {EXPECTED}")
    root_folder = file
    inside: list[str] = []
    while len(inside) < DEEPEST and (parent := root_folder.parent) and is_group_folder(parent):
        inside.insert(0, root_folder.name)
        root_folder = parent
    return StoreName(root_folder.uri, options=file.storage_options), "/".join(inside)


def is_group_folder(folder: File) -> bool:
    return folder.within(".zgroup").exists() or folder.within("zarr.json").exists()


# What is in a group --------------------------------------------------------------------------------------------------


def place_of(store: StoreName, path: str) -> str:
    return f"{store.uri}: {path}" if path.strip("/") else store.uri


def joined(*parts: str) -> str:
    return "/".join(part.strip("/") for part in parts if part.strip("/"))


def members_of(group: Any) -> list[tuple[str, Any]]:
    with StoreName(str(group.store_path)).in_our_words(""):
        return sorted(group.arrays())


def groups_in(group: Any) -> list[tuple[str, Any]]:
    with StoreName(str(group.store_path)).in_our_words(""):
        return sorted(group.groups())


def arrays_in(group: Any) -> list[Any]:
    """Return all arrays below a group, in the order of their paths."""
    if hasattr(group, "shape"):
        return [group]
    with StoreName(str(group.store_path)).in_our_words(""):
        members = group.members(max_depth=None)
        return [node for _, node in sorted(members, key=lambda member: member[0]) if hasattr(node, "shape")]


def listing(arrays: list[Any]) -> str:
    """Say what there is, for messages."""
    lines = [f"{array.path or '/'} {array.shape} {array.dtype}" for array in arrays[:MOST_LISTED]]
    rest = [f"and {len(arrays) - MOST_LISTED} more"] if len(arrays) > MOST_LISTED else []
    return "; ".join([*lines, *rest]) or "no arrays that could be listed"


def dims_of(array: Any) -> tuple[str, ...] | None:
    """Names of the dimensions of an array, if it has them: version 3 has a place for them, xarray made one in 2."""
    names = getattr(array.metadata, "dimension_names", None) or dict(array.attrs).get("_ARRAY_DIMENSIONS")
    if names is None and array.metadata.zarr_format == 3 and not array.ndim:
        names = ()
    if names is None or len(names) != array.ndim or any(not isinstance(n, str) for n in names):
        return None
    return tuple(names)


def largest_array(store: StoreName, group: Any) -> tuple[Any, tuple[dict[str, Any], ...]]:
    """Return the only array of a tree, or the one that is larger than all others together; and a list of all."""
    arrays = [array for array in arrays_in(group) if array.ndim]
    if not arrays:
        raise HeaderError(
            f"{place_of(store, group.path)}: no arrays were found in this group; where folders cannot be listed "
            "(web servers), pass ds_path="
        )
    arrays.sort(key=lambda array: -array.nbytes)
    if len(arrays) > 1:
        if arrays[0].nbytes <= sum(array.nbytes for array in arrays[1:]):
            raise ArgumentError(f"{store.uri}: which array? Pass ds_path=; there are {listing(arrays)}")
        warnings.warn(
            f"{store.uri}: {arrays[0].path} is read; there are also {listing(arrays[1:])}", EmioWarning, stacklevel=5
        )
    listed = [{"index": k, "name": a.path, "shape": list(a.shape), "dtype": str(a.dtype)} for k, a in enumerate(arrays)]
    return arrays[0], tuple(listed)


def series_listing(store: StoreName, group: Any, images: tuple[_ngff.Multiscale, ...]) -> tuple[dict[str, Any], ...]:
    listed = []
    for k, image in enumerate(images):
        array = store.node(joined(group.path, image.paths[0]))
        listed.append({"index": k, "name": image.name, "shape": list(array.shape), "dtype": str(array.dtype)})
    return tuple(listed)


def coordinate_names(attrs: dict[str, Any], variables: dict[str, Any]) -> set[str]:
    """Which variables are coordinates: those that others name so, and those called like their only dimension."""
    named = " ".join(str(dict(a.attrs).get("coordinates", "")) for a in variables.values())
    named += " " + str(attrs.get("coordinates", ""))
    return {n for n, a in variables.items() if n in named.split() or dims_of(a) == (n,)}


def main_variable(store: StoreName, pictures: dict[str, Any]) -> str:
    """Name of the image: `image`, or else the variable of most dimensions, or else of most bytes."""
    if "image" in pictures:
        return "image"
    candidates = {n: a for n, a in pictures.items() if a.ndim and np.dtype(a.dtype).kind in "biufc"}
    if not candidates:
        raise HeaderError(f"{store.uri}: holds no image, only {listing(list(pictures.values()))}")
    return max(candidates, key=lambda n: (candidates[n].ndim, candidates[n].nbytes))


def spacing_in(axes: str, attrs: dict[str, Any]) -> dict[str, Calibration]:
    """Calibration of a bare array, where its attributes have a number for each axis."""
    for key in ("spacing", "scale", "resolution", "pixel_size"):
        steps, units = attrs.get(key), attrs.get("units")
        if isinstance(steps, list) and len(steps) == len(axes):
            units = units if isinstance(units, list) and len(units) == len(axes) else [units] * len(axes)
            return {
                axis: Scale(float(step), _ngff.UNITS.get(str(unit), str(unit)) if unit else None)
                for axis, step, unit in zip(axes, steps, units, strict=True)
                if isinstance(step, int | float) and math.isfinite(step) and step
            }
    return {}


def clean_attrs(attrs: dict[str, Any]) -> dict[str, Any]:
    """Attributes without those that say how the array is stored."""
    return {k: v for k, v in attrs.items() if k not in ("_ARRAY_DIMENSIONS", "_FillValue", "coordinates")}


@dataclass
class Parts:
    """What lies beside the image in a group, put into its place one by one."""

    store: StoreName
    letters: dict[str, str]
    sizes: dict[str, int]
    times: Mapping[str, str] = field(default_factory=dict)
    calibration: dict[str, Calibration] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    facts: dict[str, Variable] = field(default_factory=dict)
    scalars: dict[str, tuple[Any, str | None]] = field(default_factory=dict)

    def add(self, name: str, array: Any, coordinate: bool) -> None:
        """Take a variable or a coordinate; what does not go with the image is left out."""
        dims = dims_of(array)
        if (
            dims is None
            or 0 in array.shape
            or any(self.sizes.get(d, n) != n for d, n in zip(dims, array.shape, strict=True))
        ):
            return
        if coordinate and not set(dims) <= set(self.letters):
            return
        if coordinate and dims in ((name,), ()):
            self._add_coordinate(self.letters[name] if dims else name, array)
            return
        axes = self._axes(dims)
        if np.dtype(array.dtype).kind in "biufc" and not (coordinate and is_time(array)):
            found = Variable(StoredArray.of(self.store, array), axes, clean_attrs(dict(array.attrs)))
        elif coordinate or array.nbytes <= MOST_HELD:
            values, attrs = coordinate_of(self.store, array, self.times.get(name))
            found = Variable(Held(values), axes, attrs)
        else:
            warnings.warn(f"{self.store.uri}: {name} of type {array.dtype} is left out", EmioWarning, stacklevel=6)
            return
        (self.facts if coordinate else self.variables)[name] = found

    def _add_coordinate(self, name: str, array: Any) -> None:
        """Take the coordinate of an axis, or a single value; what has more attributes than units is kept whole."""
        values, attrs = coordinate_of(self.store, array, self.times.get(array.basename))
        units = None if attrs.get("units") is None else str(attrs["units"])
        if array.ndim:
            self.calibration[name] = even_or_labels(values, units)
        elif attrs.keys() <= {"units"}:
            self.scalars[name] = (values[()], units)
        if not attrs.keys() <= {"units"}:
            self.facts[name] = Variable(Held(values, 0), name if array.ndim else "", attrs)

    def _axes(self, dims: tuple[str, ...]) -> str:
        """Letters of dimensions: those of the image, and free ones for others."""
        for name in dims:
            if name not in self.letters:
                wanted, _ = axis_letters([name])
                taken = self.letters.values()
                self.letters[name] = next(a for a in (*wanted, *FREE_LETTERS) if a not in taken)
        return "".join(self.letters[name] for name in dims)


def is_time(array: Any) -> bool:
    attrs = dict(array.attrs)
    return " since " in str(attrs.get("units", "")) or str(attrs.get("dtype", "")).startswith("timedelta64")


def coordinate_of(store: StoreName, array: Any, time_unit: str | None = None) -> tuple[np.ndarray, dict[str, Any]]:
    """Values of a coordinate, and its attributes; text and times are decoded, dates in a unit (default: ns)."""
    with store.in_our_words(array.path):
        values = np.asarray(array[...])
    attrs = clean_attrs(dict(array.attrs))
    if values.dtype.kind in "OT":
        values = np.asarray(values.tolist(), dtype=str)
    if is_time(array):
        import xarray as xr

        variable = xr.Variable(dims_of(array) or (), values, attrs)
        dates: Any = xr.coders.CFDatetimeCoder(time_unit=time_unit if time_unit in TIME_UNITS else "ns")  # type: ignore
        decoded = xr.conventions.decode_cf_variable(
            array.basename, variable, mask_and_scale=False, decode_times=dates, decode_timedelta=True
        )
        values, attrs = np.asarray(decoded.values), dict(decoded.attrs)
    return values, attrs
