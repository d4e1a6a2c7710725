"""Images as HyperSpy keeps them, whatever holds them: for the writers of ``.zspy`` (Zarr) and ``.hspy`` (HDF5).

`signal_of` makes a `Signal` of an image: the pixels in HyperSpy's order of axes, and a tree of groups with everything
else. A writer makes the group ``Experiments/<signal.experiment>``, puts the tree into it as it is, and the pixels into
its member ``data``. It knows its container and nothing else:

* `Group.attributes` are text, bool, int and float;
* `Group.arrays` are small NumPy arrays of numbers, of text (kind ``U``), which is stored as text of any length, or of
  bytes of one length (kind ``S``), which are stored as that;
* `Group.groups` are groups again.

Rules: docs/formats/zspy.md.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..axes import units_of
from ..errors import EmioWarning
from ..record import KEY
from . import _hyperspy

if TYPE_CHECKING:
    import xarray as xr

VERSION = "3.3"
"""Of HyperSpy's tree, as its root says in the attribute ``file_format_version``."""

LONGEST_TEXT = 32_768
"""Bytes of our record in one piece: attributes of HDF5 hold 64 kB."""

LONGEST_NAME = 200
"""Bytes of the name of a group, which may be that of a folder."""

MANY_CHANNELS = 4
RESERVED = {"", ".", "..", ".zgroup", ".zarray", ".zattrs", ".zmetadata", "zarr.json"}
DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d(?::[\d.]+)?)(Z|[+-]\d\d:\d\d)?)?")


@dataclass(frozen=True)
class Group:
    """A group of HyperSpy's tree."""

    attributes: dict[str, str | bool | int | float] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)


@dataclass(frozen=True)
class Signal:
    """An image as HyperSpy keeps it.

    Parameters
    ----------
    experiment
        Name of its group below ``Experiments``.
    pixels
        NumPy or dask array: navigation axes, then signal axes. Colours are records R, G, B (, A).
    axes
        Letter of each axis of `pixels`.
    signal
        How many of the last axes are signal axes.
    tree
        Everything but the pixels: axes, metadata and so on.
    """

    experiment: str
    pixels: Any
    axes: str
    signal: int
    tree: Group


def signal_of(image: xr.DataArray, record: Mapping[str, Any] | None = None) -> Signal:
    """Return an image as HyperSpy keeps it; nothing is computed.

    Parameters
    ----------
    image
        With the attributes of its Dataset among its own.
    record
        Our own account of it (see `intake_emio.record`), which is put into ``original_metadata.emio``.

    Warns
    -----
    EmioWarning
        If there are coordinates that HyperSpy's axes cannot have.
    """
    known = _known(image)
    colours = _has_colours(image)
    navigation, signal = _roles(image, colours, known)
    axes = navigation + signal
    pixels = image.transpose(*axes, *("c" if colours else "")).data
    metadata = _metadata(image, known, signal)
    original = _hyperspy.restored(known, "original_metadata") if known else _header(image)
    if record is not None:
        original = {**original, KEY: _account(record, axes + ("c" if colours else ""))}
    tree = {
        "package": "",  # HyperSpy warns of the name of a package that is not installed
        "package_version": "",
        **{f"axis-{k}": _axis(image, letter, letter in navigation, known) for k, letter in enumerate(axes)},
        "metadata": metadata,
        "original_metadata": original,
        "learning_results": {},
        "attributes": {"_lazy": False, "ragged": False},
    }
    _warn(image, axes)
    title = _text(str(metadata["General"]["title"]))
    name = _member(title) if title else "__unnamed__"
    return Signal(name, _as_records(pixels) if colours else pixels, axes, len(signal), encoded(tree))


def _header(image: xr.DataArray) -> dict[str, Any]:
    """What the header of the file said from which the image comes."""
    metadata = image.attrs.get("metadata")
    header = metadata.get("fileheader") if isinstance(metadata, Mapping) else None
    return dict(header) if isinstance(header, Mapping) else {}


def _known(image: xr.DataArray) -> dict[str, Any]:
    """Header of a file of HyperSpy; empty for images that come from elsewhere."""
    header = _header(image)
    return header if _hyperspy.is_own_header(header) else {}


def _account(record: Mapping[str, Any], axes: str) -> str | list[str]:
    """Our record as JSON text, and what the axes of `data` are; in pieces, if it is long."""
    text = json.dumps({**record, _hyperspy.STORED_AXES: axes})  # ASCII: as many bytes as characters
    pieces = [text[k : k + LONGEST_TEXT] for k in range(0, len(text), LONGEST_TEXT)]
    return text if len(pieces) == 1 else pieces


def warn_of_losses(image: xr.DataArray) -> None:
    """Say what HyperSpy had made of the signal, or noted with it, that is not written again."""
    known = _known(image)
    lost = [name.replace("_", " ") for name in ("models", "learning_results") if known.get(name)] + notes_in(image)
    if lost:
        warnings.warn(f"not written again: {', '.join(lost)} of HyperSpy's file", EmioWarning, stacklevel=3)


def notes_in(image: xr.DataArray) -> list[str]:
    """Paths of what was in the metadata and has not been read."""
    return sorted(path for path, kind in (_known(image).get("types") or {}).items() if kind == _hyperspy.NOTE)


# Axes ----------------------------------------------------------------------------------------------------------------


def _has_colours(image: xr.DataArray) -> bool:
    axes = "".join(map(str, image.dims))
    if image.dtype not in (np.uint8, np.uint16) or "c" not in image.coords or set(axes) & set("vu"):
        return False
    names = [str(name).lower() for name in np.atleast_1d(image.coords["c"].values)]
    return "c" in axes and bool(set(axes) & set("yx")) and names in (list("rgb"), list("rgba"))


def _roles(image: xr.DataArray, colours: bool, known: Mapping[str, Any]) -> tuple[str, str]:
    """Navigation axes and signal axes, each in our order."""
    axes = "".join(a for a in map(str, image.dims) if not (colours and a == "c"))
    flags = {axis.get("letter"): axis.get("navigate") for axis in known.get("axes", ())}
    if flags.keys() == set(axes):  # nothing has been taken away: as HyperSpy had them
        signal = "".join(a for a in axes if not flags[a])
    else:
        signal = _usual_signal(image, axes)
    return "".join(a for a in axes if a not in signal), signal


def _usual_signal(image: xr.DataArray, axes: str) -> str:
    if set(axes) & set("vu"):
        return "".join(a for a in "vu" if a in axes)
    if "c" in axes:
        numbered = "c" in image.coords and image.coords["c"].dtype.kind in "iuf"
        if numbered or image.sizes["c"] > MANY_CHANNELS:
            return "c"
    return "".join(a for a in "yx" if a in axes) or axes[-2:]


def _axis(image: xr.DataArray, letter: str, navigate: bool, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the group of an axis: as HyperSpy had it, if it still is the same."""
    old = next((dict(axis) for axis in known.get("axes", ()) if axis.get("letter") == letter), {})
    old.pop("letter", None)
    usual = {"_type": "UniformDataAxis", "name": letter, "units": None, "is_binned": False}
    fixed = {"size": image.sizes[letter], "navigate": navigate}
    if old and _is_same(old, image, letter):
        return {**usual, "scale": 1.0, "offset": 0.0, **old, **fixed}
    units = units_of(image, letter)
    if old and _hyperspy.units(old.get("units")) == units:
        units = old.get("units")
    kept = {k: v for k, v in old.items() if k in ("name", "is_binned")}
    values = image.coords[letter].values if letter in image.coords else np.arange(image.sizes[letter], dtype="f8")
    scale = _scale(values, uneven=old.get("_type") == "DataAxis" and letter in image.coords)
    if scale is None:
        return {**usual, "scale": 1.0, "offset": 0.0, **kept, **fixed}
    return {**usual, "units": units, **kept, **scale, **fixed}


def _is_same(old: Mapping[str, Any], image: xr.DataArray, letter: str) -> bool:
    """Whether an axis as HyperSpy had it gives the coordinates that the image has."""
    if old.get("_type") == "DataAxis":
        return False  # the values are with the image only
    scale = _hyperspy.calibration(old, image.sizes[letter])
    if scale is None or letter not in image.coords:
        return scale is None and letter not in image.coords
    return scale.units == units_of(image, letter) and np.array_equal(
        scale.values(image.sizes[letter]), image.coords[letter].values
    )


def _scale(values: np.ndarray, uneven: bool = False) -> dict[str, Any] | None:
    """Scale and offset of even coordinates, or the coordinates; `None` for those that HyperSpy cannot have."""
    if values.ndim != 1 or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        return None
    exact = values.astype("f8")
    steps = np.diff(exact)
    if uneven or not np.allclose(steps, steps.mean() if steps.size else 0, rtol=1e-6, atol=0):
        ordered = (steps > 0).all() or (steps < 0).all()
        return {"_type": "DataAxis", "axis": exact} if ordered else None
    if not steps.size:
        return {"scale": 1.0, "offset": float(exact[0])}
    step = steps[0] if np.array_equal(exact[0] + steps[0] * np.arange(exact.size), exact) else steps.mean()
    return {"scale": float(step), "offset": float(exact[0])} if step else None


def _warn(image: xr.DataArray, axes: str) -> None:
    lost = [a for a in axes if a in image.coords and _scale(image.coords[a].values) is None]
    if lost:
        warnings.warn(
            f"HyperSpy shows axis {', '.join(lost)} without coordinates: it wants numbers that increase or decrease. "
            "intake-emio reads them as they were",
            EmioWarning,
            stacklevel=2,
        )


def _as_records(pixels: Any) -> Any:
    """Colours along the last axis as records R, G, B (, A)."""
    names = "RGBA"[: pixels.shape[-1]]
    record = np.dtype([(name, pixels.dtype.newbyteorder("<")) for name in names])

    def packed(block: np.ndarray) -> np.ndarray:
        plain = np.ascontiguousarray(block, dtype=record[0])
        return plain.view(record)[..., 0]

    if isinstance(pixels, np.ndarray):
        return packed(pixels)
    depth = pixels.ndim - 1
    return pixels.rechunk({depth: -1}).map_blocks(
        packed, dtype=record, drop_axis=depth, meta=np.empty((0,) * depth, record)
    )


# Metadata ------------------------------------------------------------------------------------------------------------


def _metadata(image: xr.DataArray, known: Mapping[str, Any], signal: str) -> dict[str, Any]:
    """Return HyperSpy's metadata: as they were, with the facts that are other ones now."""
    metadata = _hyperspy.restored(known, "metadata") if known else {}
    facts = image.attrs.get("acquisition")
    facts = dict(facts) if isinstance(facts, Mapping) else {}
    before = _hyperspy.acquisition(metadata)
    general = _within(metadata, "General")
    for name, value in facts.items():
        if before.get(name) == value or value is None:
            continue
        if name == "title":
            general["title"] = str(value)
        elif name == "start_time":
            general.update(_start(str(value)))
        elif name in _hyperspy.PLACES:
            *path, last = _place(name, signal)
            _within(metadata, "Acquisition_instrument", _microscope(metadata), *path)[last] = value
    general.setdefault("title", "")
    _within(metadata, "Signal").setdefault("signal_type", "")
    return metadata


def _place(name: str, signal: str) -> tuple[str, ...]:
    """Where a fact stands: HyperSpy has a place for the dwell time of spectra only."""
    return ("dwell_time",) if name == "dwell_time" and signal != "c" else _hyperspy.PLACES[name]


def _microscope(metadata: Mapping[str, Any]) -> str:
    instrument = metadata.get("Acquisition_instrument")
    return "SEM" if isinstance(instrument, Mapping) and "SEM" in instrument and "TEM" not in instrument else "TEM"


def _within(tree: dict[str, Any], *path: str) -> dict[str, Any]:
    """Return a branch of a tree, made if it is not there."""
    for name in path:
        if not isinstance(tree.get(name), dict):
            tree[name] = {}
        tree = tree[name]
    return tree


def _start(text: str) -> dict[str, Any]:
    """Date, time and time zone as HyperSpy keeps them."""
    found = DATE.fullmatch(text)
    if found is None:
        return {}
    date, time, zone = found.groups()
    parts = {"date": date, "time": time, "time_zone": "UTC" if zone == "Z" else zone}
    return {name: part for name, part in parts.items() if part}


# Encoding ------------------------------------------------------------------------------------------------------------


def encoded(tree: Mapping[str, Any]) -> Group:
    """Return a tree of dictionaries as groups; types that attributes cannot have are spelled in the names.

    Examples
    --------
    >>> group = encoded({"a": None, "b": [1, 2], "c": (), "d": [{"e": 0.5}, None]})
    >>> group.attributes, group.arrays, list(group.groups)
    ({'a': '_None_', '_tuple_empty_c': '_None_'}, {'_list_b': array([1, 2])}, ['_list_2_d'])
    >>> group.groups["_list_2_d"].groups["0"].attributes
    {'e': 0.5}
    """
    group = Group()
    for key, value in tree.items():
        _put(group, str(key), value)
    return group


def _put(group: Group, key: str, value: Any) -> None:
    match value:
        case None:
            group.attributes[key] = _hyperspy.NONE
        case str() | bytes():
            group.attributes[key] = _text(value)
        case bool() | float():
            group.attributes[key] = value
        case int():
            group.attributes[key] = value if abs(value) < 2**63 else str(value)
        case np.generic():
            _put(group, key, value.item())
        case np.ndarray() if value.dtype.kind in "biufc" and value.ndim:
            group.arrays[_member(key)] = value
        case np.ndarray() if value.dtype.kind == "U" and value.ndim:
            group.arrays[_member(key)] = np.char.encode(value, "utf-8")
        case np.ndarray():
            _put(group, key, (value.astype(str) if value.ndim else value).tolist())
        case Mapping():
            group.groups[_member(key)] = encoded(value)
        case list() | tuple():
            _put_sequence(group, key, value)
        case _:
            group.attributes[key] = _text(str(value))


def _put_sequence(group: Group, key: str, items: Sequence[Any]) -> None:
    kind = "list" if isinstance(items, list) else "tuple"
    if not items:
        group.attributes[f"_{kind}_empty_{key}"] = _hyperspy.NONE
        return
    vector = _vector(items)
    if vector is not None:
        group.arrays[_member(f"_{kind}_{key}")] = vector
    else:
        group.groups[_member(f"_{kind}_{len(items)}_{key}")] = encoded({str(k): v for k, v in enumerate(items)})


def _vector(items: Sequence[Any]) -> np.ndarray | None:
    """Items of one kind as an array; `None` if they are of several, or not simple."""
    kinds = {type(item) for item in items}
    if kinds == {str}:
        return np.array([_text(item) for item in items])
    if kinds in ({bool}, {int}, {float}, {int, float}) and not any(
        isinstance(i, int) and abs(i) >= 2**63 for i in items
    ):
        return np.array(items)
    return None


def _text(value: str | bytes) -> str:
    """Text that every container can hold."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _member(key: str) -> str:
    """Name of a group or an array: no path, and none that is taken."""
    name = _text(key).replace("/", "-").encode()[:LONGEST_NAME].decode(errors="ignore")
    return f"_{name}" if name in RESERVED else name


# Chunks --------------------------------------------------------------------------------------------------------------


def signal_chunks(shape: Sequence[int], signal: int, itemsize: int, target: float) -> tuple[int, ...]:
    """Chunks of whole signals, as many as `target` bytes hold, equally many along all navigation axes.

    HyperSpy stores data so, with a target of 1 MB in HDF5 and 100 MB in Zarr.

    Examples
    --------
    >>> signal_chunks((256, 256, 64, 64), 2, 2, 1e8), signal_chunks((4, 256, 64, 64), 2, 2, 1e6)
    ((110, 110, 64, 64), (4, 30, 64, 64))
    """
    depth = len(shape) - signal
    chunk = list(shape)
    room = max(1, int(target) // max(1, math.prod(shape[depth:]) * itemsize))
    long = sorted(range(depth), key=lambda axis: shape[axis], reverse=True)
    while long and shape[long[-1]] <= (side := int(room ** (1 / len(long)) + 1e-9)):
        room //= shape[long.pop()]  # the whole axis; the others share what is left
    for axis in long:
        chunk[axis] = max(1, side)
    return tuple(chunk)
