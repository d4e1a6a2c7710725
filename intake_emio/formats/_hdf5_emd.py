"""EMD files: Berkeley's 0.x (also Direct Electron, Prismatic) and py4DSTEM's emdfile, up to EMD 1.0."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..axes import Calibration, Labels, Scale
from . import _hyperspy
from ._hdf5_files import Place, Tree, attributes, number, text
from ._hdf5_layouts import Array, along, is_pixels, positional, small

DATASETS = ("data", "datacube", "counted_datacube", "diffractionslice", "realslice")
TOPS = ("4DSTEM_experiment", "4DSTEM_simulation")
LETTERS = {
    "x": "x",
    "r_x": "x",
    "rx": "x",
    "y": "y",
    "r_y": "y",
    "ry": "y",
    "z": "z",
    "r_z": "z",
    "q_x": "u",
    "qx": "u",
    "kx": "u",
    "q_y": "v",
    "qy": "v",
    "ky": "v",
    "t": "t",
    "time": "t",
}
ENERGIES = {"eV", "keV", "meV"}
OUR_ORDER = "itczyxvu"


def is_emd(tree: Tree) -> bool:
    """Whether a file is an EMD file."""
    root = tree.root
    if text(root.thing.attrs.get("emd_group_type", "")) == "file" or _has_version(root):
        return True
    for name in list(root.thing)[:100]:
        if name in TOPS:
            return True
        top = _quietly(tree, name)
        if top is None or top.is_dataset:
            continue
        if _has_version(top) or "emd_group_type" in top.thing.attrs:
            return True
        for member in list(top.thing)[:100]:
            below = _quietly(tree, member, top)
            if below is not None and text(below.thing.attrs.get("emd_group_type", "")) == "1":
                return True
    return False


def _quietly(tree: Tree, name: str, start: Place | None = None) -> Place | None:
    """Object that is no link out of the file."""
    import h5py

    group = tree.root if start is None else start
    if isinstance(group.thing.get(name, getlink=True), h5py.ExternalLink):
        return None
    return tree.get(name, group)


def _has_version(place: Place) -> bool:
    return "version_major" in place.thing.attrs and "version_minor" in place.thing.attrs


def emd(tree: Tree, stacked: bool) -> list[Array]:
    """Arrays of an EMD file: a data cube before anything else, then the largest one."""
    groups: dict[str, Array] = {}
    for path, place in tree.walk():
        folder, _, name = path.rpartition("/")
        owner = tree.get(folder or "/")
        if owner is None or not (kind := text(owner.thing.attrs.get("emd_group_type", ""))):
            continue
        if kind not in ("1", "array") or name not in DATASETS or not is_pixels(place.thing):
            continue
        groups[folder] = _array(tree, owner, place, path)
    arrays = _stacks(tree, groups) if stacked else list(groups.values())
    return sorted(
        arrays, key=lambda a: (a.header.get("python_class") != "DataCube", -a.size * (1 + len(a.further)), a.name)
    )


def _array(tree: Tree, group: Place, place: Place, path: str) -> Array:
    shape = place.thing.shape
    ours = attributes(group.thing)
    modern = text(group.thing.attrs["emd_group_type"]) == "array" or tree.get("dim0", group) is not None
    dims = [_dim(tree, group, f"dim{k if modern else k + 1}", n) for k, n in enumerate(shape)]
    names = [name for name, _ in dims]
    python_class = ours.get("python_class") or ours.get("py4dstem_class") or ""
    # py4DSTEM counts its "x" along rows, whatever the names suggest
    rows_first = modern or "4DSTEM_experiment" in path
    if rows_first:
        axes, order, signal = _py4dstem(place, dims)
    else:
        axes, order, signal = _by_names(names, [c for _, c in dims], path)
    calibration = {a: c for a, (_, c) in zip(axes, dims, strict=True) if c is not None}
    header: dict[str, Any] = {**ours, "axis_names": names}
    for name in ("microscope", "sample", "user", "comments"):
        found = _quietly(tree, name)
        if found is not None and (facts := attributes(found.thing)):
            header[name] = facts
    if python_class:
        header["python_class"] = python_class
    title = group.path.rsplit("/", 1)[-1]
    return Array(
        place,
        path,
        title,
        axes,
        order,
        signal,
        calibration,
        {"title": title} if title not in ("", "__unnamed__") else {},
        header,
    )


def _dim(tree: Tree, group: Place, name: str, size: int) -> tuple[str, Calibration | None]:
    place = tree.get(name, group)
    values = small(place)
    if place is None or values is None:
        return "", None
    unit = place.thing.attrs.get("units")
    written = place.thing.attrs.get("name")
    return "" if written is None else text(written), along(values, size, None if unit is None else text(unit))


def _py4dstem(place: Place, dims: Sequence[tuple[str, Calibration | None]]) -> tuple[str, str, int]:
    ndim = len(place.thing.shape)
    calibration = dims[-1][1]
    if ndim == 3 and isinstance(calibration, Labels) and calibration.labels and isinstance(calibration.labels[0], str):
        return "yxi", "iyx", 2  # labelled slices
    axes = positional(ndim, min(2, ndim))
    return axes, axes, min(2, ndim)


def _by_names(names: Sequence[str], calibration: Sequence[Calibration | None], path: str) -> tuple[str, str, int]:
    """Letters by the names of the axes: files of different programs have them in different orders."""
    lowered = [name.strip().lower() for name in names]
    ndim = len(lowered)
    if ndim == 4 and lowered[0] == lowered[1] and lowered[2:] == ["y", "x"]:  # ncempy, from a SER file
        return "yxvu", "yxvu", 2
    found = [LETTERS.get(name, "") for name in lowered]
    for k, scale in enumerate(calibration):
        if not found[k] and ("energy" in lowered[k] or (scale is not None and scale.units in ENERGIES)):
            found[k] = "c"
    known = [letter for letter in found if letter]
    pairs = {"yx", "xy"} & {"".join(known[i : i + 2]) for i in range(len(known))} or {"u", "v"} <= set(known)
    if not known or len(set(known)) != len(known) or not pairs:
        axes = positional(ndim, min(2, ndim))
        if path.startswith("/signals/"):  # written by HyperSpy, last axis first
            return axes[::-1], axes, min(2, ndim)
        return axes, axes, min(2, ndim)
    spare = iter([a for a in "itzabdefghjk" if a not in known])
    axes = "".join(letter or next(spare) for letter in found)
    # axes we have no word for navigate, and stand in front
    order = "".join(sorted(axes, key=lambda a: (OUR_ORDER.find(a), a)))
    return axes, order, min(2, ndim)


# Prismatic: one group per thickness ----------------------------------------------------------------------------------


def _stacks(tree: Tree, groups: dict[str, Array]) -> list[Array]:
    """Groups whose names differ in their last four digits only, as one array."""
    series: dict[tuple[str, Any], list[str]] = {}
    for folder, array in groups.items():
        stem = re.fullmatch(r"(.*?)\d{4}", folder)
        key = (stem[1] if stem else folder + "/", (array.shape, array.axes, array.place.thing.dtype.str))
        series.setdefault(key, []).append(folder)
    arrays = []
    for (base, _), folders in series.items():
        folders.sort()
        first = groups[folders[0]]
        if len(folders) == 1 or "z" in first.axes:
            arrays += [groups[folder] for folder in folders]
            continue
        calibration = dict(first.calibration)
        depth = _depths(tree, folders[0], len(folders))
        if depth is not None:
            calibration["z"] = depth
        title = base.rstrip("/").rsplit("/", 1)[-1]
        arrays.append(
            replace(
                first,
                title=title,
                stack="z",
                further=tuple(groups[folder].place for folder in folders[1:]),
                calibration=calibration,
                acquisition={"title": title},
            )
        )
    return arrays


def _depths(tree: Tree, folder: str, count: int) -> Scale | None:
    """Thickness of the specimen at each group of a simulation."""
    top = folder.strip("/").split("/", 1)[0]
    place = tree.get(f"/{top}/metadata/metadata_0/original/simulation_parameters")
    if place is None:
        return None
    facts = place.thing.attrs
    between, thick, start = (number(facts.get(name, "")) for name in ("ns", "s", "zs"))
    if not between or not thick:
        return None
    tiles, cell = facts.get("t"), facts.get("c")
    step = between * thick
    origin = start or 0.0
    if tiles is not None and cell is not None and len(tiles) == 3 == len(cell):
        heights = {float(tiles[2]) * float(cell[k]) for k in (0, 2)}  # cells are given as z, y, x or x, y, z
        if all(abs(height - count * step) > 0.01 * step for height in heights):
            return None
    return Scale(step, _hyperspy.units("A"), origin or step)
