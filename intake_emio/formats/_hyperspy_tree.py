"""The tree of a HyperSpy file, read from whatever holds it: Zarr (``.zspy``) or HDF5 (``.hspy``).

A container shows itself as a `Node`; everything that HyperSpy means by names and attributes is here.

Rules: docs/formats/zspy.md.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..axes import Calibration, Labels
from ..errors import EmioWarning
from ..record import KEY, Record
from . import _hyperspy
from ._hyperspy import ARRAY, NONE, NOTE, NUMBER

NEWEST = 3.3
COLOURS = ("r", "g", "b", "a")
MOST_VALUES = 1000
"""Longer arrays in the metadata are not read."""

MOST_COORDINATES = 1 << 24
MOST_PIECES = 100_000
MOST_MEMBERS = 1000
MOST_NODES = 10_000
DEEPEST = 16
SEQUENCE = re.compile(r"_(list|tuple)_(.*)", re.DOTALL)
OLD_DATE = re.compile(r"_datetime_(date|time)_?(.*)", re.DOTALL)

MOVED: tuple[tuple[float, str, str], ...] = (
    (1.1, "signal", "Signal/signal_type"),
    (1.1, "name", "General/title"),
    *((1.2, name, f"General/{name}") for name in ("title", "date", "time", "original_filename")),
    *((1.2, name, f"Signal/{name}") for name in ("record_by", "signal_origin", "signal_type")),
    (1.2, "Variance_estimation", "Noise_properties/Variance_linear_model"),
    (1.2, "TEM", "Acquisition_instrument/TEM"),
    (1.2, "SEM", "Acquisition_instrument/SEM"),
    (1.2, "Acquisition_instrument/TEM/EELS", "Acquisition_instrument/TEM/Detector/EELS"),
    (1.2, "Acquisition_instrument/TEM/EDS", "Acquisition_instrument/TEM/Detector/EDS"),
    (1.2, "Acquisition_instrument/SEM/EDS", "Acquisition_instrument/SEM/Detector/EDS"),
    (3.0, "Acquisition_instrument/TEM/tilt_stage", "Acquisition_instrument/TEM/Stage/tilt_alpha"),
    (3.0, "Acquisition_instrument/TEM/exposure", "Acquisition_instrument/TEM/Detector/Camera/exposure"),
    (3.0, "Acquisition_instrument/TEM/exposure_time", "Acquisition_instrument/TEM/Detector/Camera/exposure"),
)
"""Where facts have gone since: before which version they stood where, and where they stand now."""


class Node(Protocol):
    """A group of a file."""

    def attributes(self) -> dict[str, Any]:
        """Attributes in plain types."""

    def names(self) -> list[str]:
        """Names of the members."""

    def member(self, name: str) -> Node | Leaf | None:
        """Return a member by its name; `None` if there is none."""


@dataclass(frozen=True)
class Leaf:
    """An array in the tree.

    Parameters
    ----------
    shape, dtype
        As far as they are known.
    read
        Reads all of it, numbers or text; `None` for what cannot be read.
    """

    shape: tuple[int, ...] = ()
    dtype: str = ""
    read: Callable[[], np.ndarray] | None = None

    def values(self, most: int = MOST_VALUES) -> np.ndarray | None:
        """Values, if there are no more than `most`, and they can be read."""
        if self.read is None or int(np.prod(self.shape, dtype=object)) > most:
            return None
        try:
            values = self.read()
        except Exception:  # codecs of strangers raise what they like
            return None
        return values if values.dtype.kind in "biufU" else None

    def __str__(self) -> str:
        return f"array {self.shape} {self.dtype}".rstrip() if self.dtype else "array"


def within(node: Node | None, *path: str) -> Node | None:
    """Return a group below another one; `None` if there is no such group."""
    for name in path:
        found = node.member(name) if node is not None else None
        node = None if isinstance(found, Leaf) else found
    return node


def values_in(node: Node | None, name: str, most: int = MOST_VALUES) -> np.ndarray | None:
    """Values of an array in a group; `None` if there is none, or it is not read."""
    found = node.member(name) if node is not None else None
    return found.values(most) if isinstance(found, Leaf) else None


# Branches ------------------------------------------------------------------------------------------------------------


@dataclass
class Branches:
    """Reads branches of a tree as dictionaries of JSON types, and notes the types that JSON does not tell apart."""

    types: dict[str, str] = field(default_factory=dict)
    nodes: int = 0

    def read(self, node: Node | None, path: str, deep: int = 0) -> dict[str, Any]:
        """Return a group as a dictionary; what is too large, too deep or not readable is a note."""
        found: dict[str, Any] = {}
        if node is None:
            return found
        self.nodes += 1
        for key, value in node.attributes().items():
            self._put_attribute(found, key, value, path)
        if deep > DEEPEST or self.nodes > MOST_NODES:
            return found
        names = node.names()[:MOST_MEMBERS]
        for name in names:
            if name.startswith(("_ragged_shapes", "ragged_shapes")):
                continue
            ragged = f"_ragged_shapes_{name}" in names or (name == "data" and "ragged_shapes" in names)
            member = None if ragged else node.member(name)
            if ragged:
                self._note(found, name, path, "ragged array that is")
            elif isinstance(member, Leaf):
                self._put_array(found, name, member, path)
            elif member is not None:
                self._put_group(found, name, member, path, deep)
        return found

    def _note(self, found: dict[str, Any], name: str, path: str, what: str) -> None:
        found[name] = f"{what} not read"
        self.types[f"{path}/{name}"] = NOTE

    def _put_attribute(self, found: dict[str, Any], key: str, value: Any, path: str) -> None:
        for kind in ("list", "tuple"):
            if key.startswith(f"_{kind}_empty_"):
                self._put_sequence(found, key.removeprefix(f"_{kind}_empty_"), [], kind, path)
                return
        date = OLD_DATE.fullmatch(key)
        if key.startswith("_bs_"):  # may be a pickle: never loaded
            self._note(found, key.removeprefix("_bs_"), path, "bytes that are")
        elif date:
            found[date[2] or date[1]] = _date(str(value), date[1])
        else:
            found[key] = None if isinstance(value, str) and value == NONE else value
            self._mark_number(f"{path}/{key}", value)

    def _mark_number(self, path: str, value: Any) -> None:
        """Keep numbers that JSON has not."""
        if isinstance(value, float) and not math.isfinite(value):
            self.types[path] = f"{NUMBER}{value}"

    def _put_array(self, found: dict[str, Any], name: str, leaf: Leaf, path: str) -> None:
        sequence = SEQUENCE.fullmatch(name)
        values = leaf.values()
        if values is None:
            self._note(found, sequence[2] if sequence else name, path, f"{leaf} that is")
        elif sequence:
            self._put_sequence(found, sequence[2], values.tolist(), sequence[1], path)
        else:
            found[name] = values.tolist()
            self.types[f"{path}/{name}"] = ARRAY + ("U" if values.dtype.kind == "U" else values.dtype.str)

    def _put_group(self, found: dict[str, Any], name: str, node: Node, path: str, deep: int) -> None:
        sequence = re.fullmatch(r"_(list|tuple)_\d+_(.*)", name, re.DOTALL)
        if name.startswith("_sig_"):
            self._note(found, name.removeprefix("_sig_"), path, f"signal ({node.member('data')}) that is")
        elif name.startswith("_hspy_AxesManager_"):
            name = name.removeprefix("_hspy_AxesManager_")
            axes = self.read(node, f"{path}/{name}", deep + 1)
            found[name] = [axes[k] for k in sorted(axes, key=_number)]
            self.types[f"{path}/{name}"] = NOTE
        elif sequence:
            items = self.read(node, f"{path}/{sequence[2]}", deep + 1)
            ordered = [items[k] for k in sorted(items, key=_number)]
            self._put_sequence(found, sequence[2], ordered, sequence[1], path)
        else:
            found[name] = self.read(node, f"{path}/{name}", deep + 1)

    def _put_sequence(self, found: dict[str, Any], name: str, items: list[Any], kind: str, path: str) -> None:
        found[name] = items
        if kind == "tuple":
            self.types[f"{path}/{name}"] = kind
        for k, item in enumerate(items):
            self._mark_number(f"{path}/{name}/{k}", item)


def _number(key: str) -> tuple[int, str]:
    return (int(key), "") if key.isdigit() else (MOST_NODES, key)


def _date(text: str, kind: str) -> str:
    """ISO form of ``datetime.date(2014, 7, 9)``, as text that is never evaluated."""
    numbers = [int(n) for n in re.findall(r"\d+", text)][:3]
    return ("-" if kind == "date" else ":").join(f"{n:02d}" for n in numbers)


def version_of(where: str, attributes: Mapping[str, Any]) -> float:
    """Version of the tree as the root of a file says it; a file that says nothing is of the first one."""
    written = attributes.get("file_format_version")
    if isinstance(written, bytes):
        written = written.decode("latin-1")
    try:
        version = 1.0 if written is None else round(float(written), 2)
    except (TypeError, ValueError):
        version = NEWEST
    if version > NEWEST:
        warnings.warn(
            f"{where}: is written in version {written} of HyperSpy's format; known is {NEWEST}",
            EmioWarning,
            stacklevel=6,
        )
    return version


def modernised(metadata: dict[str, Any], version: float) -> dict[str, Any]:
    """Metadata of an old version with everything where it stands today.

    Examples
    --------
    >>> modernised({"title": "gold", "TEM": {"tilt_stage": 3.0}}, 1.1)
    {'General': {'title': 'gold'}, 'Acquisition_instrument': {'TEM': {'Stage': {'tilt_alpha': 3.0}}}}
    """
    for since, old, new in MOVED if version < NEWEST else ():
        *above, name = old.split("/")
        place = _hyperspy.branch(metadata, above)
        if version >= since or not isinstance(place, dict) or name not in place:
            continue
        value = place.pop(name)
        *above, name = new.split("/")
        target = metadata
        for part in above:
            if not isinstance(target.get(part), dict):
                target[part] = {}
            target = target[part]
        target.setdefault(name, value)
    return metadata


# Signals -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Described:
    """What a file says of a signal.

    Parameters
    ----------
    title
        Empty if it has none.
    axes
        Letter of each axis of the array; colours are the last one.
    order
        Navigation axes, then those of a frame.
    frame_ndim
        How many of the last axes in `order` make a frame.
    calibration, acquisition, header
        See `Image`.
    record
        Our own account of the image, if we have written the file and nobody else since.
    missing
        Numbers of axes of which the file says nothing.
    """

    title: str
    axes: str
    order: str
    frame_ndim: int
    calibration: Mapping[str, Calibration]
    acquisition: Mapping[str, Any]
    header: Mapping[str, Any]
    record: Record | None
    missing: tuple[int, ...]


def described(
    where: str, group: Node, name: str, shape: tuple[int, ...], *, colours: int = 0, version: float = NEWEST
) -> Described:
    """Return what a file says of a signal; pixels are not touched.

    Parameters
    ----------
    where
        For messages.
    group, name
        Group of the signal, and what it is called.
    shape
        Of the array `data`.
    colours
        How many colours a pixel has, if it is a record of them.
    version
        Of the tree, see `version_of`.

    Warns
    -----
    EmioWarning
        If an axis has another length than the array, or is a function that cannot be evaluated.
    """
    attributes = group.attributes()
    branches = Branches()
    metadata = branches.read(within(group, "metadata") or within(group, "mapped_parameters"), "metadata")
    metadata = modernised(metadata, version)
    record = _record(group, attributes, len(shape) + bool(colours))
    groups = [_axis_group(group, k, len(shape)) for k in range(len(shape))]
    axes = [_axis(where, node, k, n) for k, (node, n) in enumerate(zip(groups, shape, strict=True))]
    letters, order, signal = _letters(axes, metadata, record, bool(colours))
    calibration = {a: _hyperspy.calibration(axis, n) for a, axis, n in zip(letters, axes, shape, strict=True)}
    header = {
        **attributes,
        "experiment": name,
        "axis_names": [axis.get("name") for axis in axes],
        "axes": [{**_without_values(axis), "letter": a} for a, axis in zip(letters, axes, strict=True)],
        "metadata": metadata,
        "original_metadata": _original(group, branches, record),
        "types": branches.types,
        **_beside(group),
    }
    if colours:
        letters, order = letters + "c", f"{order[: len(order) - signal]}c{order[len(order) - signal :]}"
        calibration["c"] = Labels(COLOURS[:colours])
    return Described(
        "" if name == "__unnamed__" else name,
        letters,
        order,
        signal + bool(colours),
        {a: c for a, c in calibration.items() if c is not None},
        _hyperspy.acquisition(metadata),
        header,
        record,
        tuple(k for k, node in enumerate(groups) if node is None),
    )


def _original(group: Node, branches: Branches, record: Record | None) -> dict[str, Any]:
    """What HyperSpy calls the original metadata; in files of ours our record has them, too, and is read at once."""
    if record is None:
        node = within(group, "original_metadata") or within(group, "original_parameters")
        original = branches.read(node, "original_metadata")
        original.pop(KEY, None)  # another program has written the file since
        return original
    header = record.account.get("fileheader")
    if _hyperspy.is_own_header(header):
        return dict(header["original_metadata"])  # type: ignore[index]
    return dict(header) if isinstance(header, Mapping) else {}


def _record(group: Node, attributes: Mapping[str, Any], ndim: int) -> Record | None:
    """Our own account of the image; HyperSpy keeps it when it writes the file again, but then it is out of date."""
    original = within(group, "original_metadata")
    if attributes.get("package") != "" or original is None:
        return None
    account = original.attributes().get(KEY)
    if account is None:
        pieces = values_in(original, f"_list_{KEY}", MOST_PIECES)
        account = None if pieces is None else "".join(map(str, pieces))
    record = Record.parse(account)
    stored = "" if record is None else record.account.get(_hyperspy.STORED_AXES)
    known = isinstance(stored, str) and stored.isalpha() and len(set(stored)) == len(stored) == ndim
    return record if known else None


def _letters(
    axes: list[dict[str, Any]], metadata: Mapping[str, Any], record: Record | None, colours: bool
) -> tuple[str, str, int]:
    """Letters of the stored axes, their order, and how many of the last ones are signal axes."""
    flags = [axis.get("navigate") for axis in axes]
    if any(flag is None for flag in flags):  # before HyperSpy 1.0
        kind = _hyperspy.branch(metadata, ["Signal", "record_by"])
        signal = {"image": 2, "spectrum": 1}.get(str(kind), len(axes))
        flags = [k < len(axes) - signal for k in range(len(axes))]
    names = [axis.get("name") for axis in axes]
    units = [_hyperspy.units(axis.get("units")) for axis in axes]
    letters, order, signal = _hyperspy.letters(names, units, [bool(flag) for flag in flags])
    known = letters if record is None else record.account[_hyperspy.STORED_AXES][: len(axes)]
    if colours and "c" in known:  # a line of colours
        known = known.replace("c", next(a for a in "xuyvz" if a not in known))
    renamed = str.maketrans(letters, known)
    return known, order.translate(renamed), signal


def _axis_group(group: Node, number: int, count: int) -> Node | None:
    return within(group, f"axis-{number}") or within(group, f"_list_{count}_axes", str(number))


def _axis(where: str, node: Node | None, number: int, size: int) -> dict[str, Any]:
    """What the group of an axis says, as a dictionary."""
    if node is None:
        return {}
    axis = {k: None if v == NONE else v for k, v in node.attributes().items() if k != "axis"}
    values = None if "scale" in axis else values_in(node, "axis", min(max(size, MOST_VALUES), MOST_COORDINATES))
    if values is not None and values.dtype.kind in "iuf":
        axis["axis"] = values.reshape(-1).tolist()
    inner = within(node, "x") if "expression" in axis else None
    if inner is not None:
        axis["x"] = {k: None if v == NONE else v for k, v in inner.attributes().items()}
    if "expression" in axis and _hyperspy.function_values(axis, size) is None:
        warnings.warn(
            f"{where}: axis {number} is the function {str(axis['expression'])[:80]!r}, which is more than arithmetic: "
            "it has no coordinate",
            EmioWarning,
            stacklevel=7,
        )
    claimed = axis.get("size") if values is None else values.size
    if claimed not in (None, size):
        warnings.warn(
            f"{where}: has {size} pixels along axis {number}, and its description says {claimed}",
            EmioWarning,
            stacklevel=7,
        )
    return axis


def _without_values(axis: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in axis.items() if k != "axis"}


def _beside(group: Node) -> dict[str, Any]:
    """Names of what HyperSpy has made of the signal, which is not read."""
    results = within(group, "learning_results")
    made = [] if results is None else sorted({*results.attributes(), *results.names()})
    return {"learning_results": made} if made else {}


def models_of(root: Node, experiment: str) -> list[str]:
    """Names of the models that were fitted to a signal."""
    models = within(root, "Analysis", "models")
    names = [] if models is None else models.names()[:MOST_MEMBERS]
    nodes = {name: within(models, name) for name in names}
    owners = (experiment, f"/Experiments/{experiment}")
    return [name for name, node in nodes.items() if node is not None and node.attributes().get("_signal") in owners]
