"""HyperSpy's signals in HDF5 files (``.hspy``): the tree of `_hyperspy_tree`, held by HDF5 groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ._hdf5_files import Place, Tree, attributes, plain, text
from ._hdf5_layouts import Array, colours, is_pixels
from ._hyperspy_tree import MOST_MEMBERS, Leaf, described, models_of, version_of, within


@dataclass(frozen=True)
class HDF5Node:
    """A group of an HDF5 file."""

    tree: Tree
    place: Place

    def attributes(self) -> dict[str, Any]:
        """Attributes in plain types."""
        return attributes(self.place.thing)

    def names(self) -> list[str]:
        """Names of the members."""
        return list(self.place.thing)

    def member(self, name: str) -> HDF5Node | Leaf | None:
        """Return a member by its name; `None` if there is none."""
        found = self.tree.get(name, self.place)
        if found is None:
            return None
        if not found.is_dataset:
            return HDF5Node(self.tree, found)
        dataset = found.thing
        dtype = getattr(dataset, "dtype", None)
        return Leaf(tuple(dataset.shape or ()), str(dtype), lambda: _values(dataset))


def _values(dataset: Any) -> np.ndarray:
    """Numbers, or text in whatever way it is stored."""
    values = np.asarray(dataset[()])
    if values.dtype.kind in "OS":
        return np.array([text(value) for value in values.reshape(-1)]).reshape(values.shape)
    return values


def is_hyperspy(tree: Tree) -> bool:
    """Whether a file is HyperSpy's."""
    return text(tree.root.thing.attrs.get("file_format", "")) == "HyperSpy" or bool(_experiments(tree))


def _experiments(tree: Tree) -> list[tuple[str, HDF5Node, Place]]:
    """Signals by name: their groups, and their data."""
    top = within(HDF5Node(tree, tree.root), "Experiments")
    found = []
    for name in top.names()[:MOST_MEMBERS] if top is not None else ():
        group, data = within(top, name), tree.get(f"Experiments/{name}/data")
        if isinstance(group, HDF5Node) and data is not None and data.is_dataset:
            found.append((name, group, data))
    return found


def hyperspy(tree: Tree) -> list[Array]:
    """Signals of a HyperSpy file, the largest first."""
    root = HDF5Node(tree, tree.root)
    version = version_of(str(tree.file), {k: plain(v) for k, v in tree.root.thing.attrs.items()})
    arrays = []
    for name, group, data in _experiments(tree):
        if not is_pixels(data.thing):
            continue
        path, count = f"/Experiments/{name}/data", colours(data.thing)
        found = described(f"{tree.file}: {path}", group, name, data.thing.shape, colours=count, version=version)
        models = models_of(root, name)
        arrays.append(
            Array(
                data,
                path,
                title=found.title,
                axes=found.axes,
                order=found.order,
                signal=found.frame_ndim,
                calibration=found.calibration,
                acquisition=found.acquisition,
                header={**found.header, **({"models": models} if models else {})},
                record=found.record,
            )
        )
    return sorted(arrays, key=lambda array: (-array.size, array.name))
