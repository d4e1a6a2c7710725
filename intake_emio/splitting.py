"""Splitting images into files: which axes lie within a file, and which become parts of the names."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .axes import check_axes
from .errors import ArgumentError
from .formats import Format, Writer
from .partition import VARIABLE, check_stem, escaped, member_name, texts_of
from .record import coordinate, describe

if TYPE_CHECKING:
    import xarray as xr

MOST_COORDS = 16 << 10
"""Characters: longer accounts of the outer coordinates are kept in the first member only."""


@dataclass(frozen=True)
class Target:
    """Where to, and how.

    Parameters
    ----------
    path
        As the user wrote it, made absolute, with its extension.
    extension
        As the user spelled it.
    format, writer
        That it stands for.
    """

    path: str
    extension: str
    format: Format
    writer: Writer

    @property
    def stem(self) -> str:
        """Path without the extension."""
        return self.path[: len(self.path) - len(self.extension)]

    def inner(self, axes: str, partition: str | None) -> str:
        """Axes of a variable that lie within a file, in their order there.

        Raises
        ------
        ArgumentError
            If the format cannot hold the axes that the user wants together.
        """
        wanted = "".join(a for a in partition or "" if a in axes)
        if self.writer.file_axes is None:
            return wanted or axes
        fitting = self.format.load(self.writer.file_axes)(wanted or axes)
        if wanted and set(fitting) != set(wanted):
            raise ArgumentError(
                f"{self.path}: {self.extension} files cannot hold the axes {wanted!r} together, only "
                f"{fitting!r} of them: choose another partition, or .zarr"
            )
        return fitting


@dataclass(frozen=True)
class Part:
    """What is written together: a Dataset or a variable, into one file, or one for each point of the outer axes.

    Parameters
    ----------
    content
        With the outer axes first, then those of a file.
    outer
        Axes that become parts of names.
    paths
        Files to write, in C order over the outer axes.
    account
        Record of a member, without its place in the set; empty where files keep none.
    place
        Record of the set: outer axes, shape, coordinates.
    first_tells
        Whether the coordinates of the set are so long that only the first member has them.
    """

    content: xr.Dataset | xr.DataArray
    outer: str
    paths: tuple[str, ...]
    account: Mapping[str, Any]
    place: Mapping[str, Any] = field(default_factory=dict)
    first_tells: bool = False

    @property
    def image(self) -> xr.DataArray:
        """The variable that decides about the axes."""
        return self.content["image"] if hasattr(self.content, "data_vars") else self.content  # type: ignore[return-value]

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of the outer axes."""
        return tuple(self.content.sizes[axis] for axis in self.outer)

    def points(self, k: int) -> dict[str, int]:
        """Indices of a member along the outer axes."""
        return dict(zip(self.outer, map(int, np.unravel_index(k, self.shape)), strict=True)) if self.outer else {}

    def record(self, k: int) -> dict[str, Any]:
        """Account of a member and of its place in the set."""
        if not self.outer:
            return dict(self.account)
        place = dict(self.place)
        if k and self.first_tells:
            del place["coords"]
            place["first"] = os.path.basename(self.paths[0])
        return {**self.account, "outer": {**place, "index": list(self.points(k).values())}}


def split(dataset: xr.Dataset, target: Target, partition: str | None, by_index: bool) -> list[Part]:
    """Plan the files of a Dataset; nothing is computed.

    Parameters
    ----------
    dataset
        All variables have axes of single letters.
    target
        Where to.
    partition
        Axes that lie within a file, in that order; `None`: as many as fit.
    by_index
        Whether names have indices instead of coordinates.

    Raises
    ------
    ArgumentError
        If the partition does not fit, or coordinates cannot be told in names.
    """
    axes = {name: "".join(map(str, variable.dims)) for name, variable in dataset.data_vars.items()}
    if partition is not None:
        check_axes(partition)
        if not any(a in dims for a in partition for dims in axes.values()):
            raise ArgumentError(f"partition {partition!r} names none of the axes {', '.join(axes.values())}")
    inner = {name: target.inner(dims, partition) for name, dims in axes.items()}
    together = target.writer.takes(map(str, axes)) and ("image" in axes or target.writer.holds == ("*",))
    if together and inner == axes:
        main = "image" if "image" in axes else next(iter(axes))
        account = describe(dataset[main], dataset.attrs) if target.writer.records else {}
        return [Part(dataset, "", (target.path,), account)]
    if together and target.writer.holds != ("*",):
        return [_part(dataset, dataset["image"], inner["image"], target, [], by_index)]
    several = len(axes) > 1
    check_stem(os.path.basename(target.stem))
    parts = []
    for name, variable in dataset.data_vars.items():
        if target.writer.holds:
            content: Any = dataset[[name]].rename({name: "image"})
        else:
            content = variable.assign_attrs({**dataset.attrs, **variable.attrs})
        groups = [(VARIABLE, escaped(str(name)))] if several else []
        parts.append(_part(content, variable, inner[name], target, groups, by_index, dataset.attrs))
    return parts


def _part(
    content: Any,
    image: xr.DataArray,
    inner: str,
    target: Target,
    groups: list[tuple[str, str]],
    by_index: bool,
    attrs: Mapping[str, Any] | None = None,
) -> Part:
    """Plan the files of one variable, or of a Dataset that goes by its image."""
    outer = "".join(a for a in map(str, image.dims) if a not in inner)
    order = [*outer, *inner]
    content = content.transpose(..., *order) if tuple(image.dims) != tuple(order) else content
    image = image.transpose(*order)
    texts = {a: texts_of(a, image.coords.get(a), image.sizes[a], by_index) for a in outer}
    paths = [member_name(target.stem, groups, target.extension)]
    if outer:
        check_stem(os.path.basename(target.stem))
        if 0 in image.shape:
            raise ArgumentError(f"{target.path}: an image of shape {image.shape} has no pixels")
        shape = tuple(image.sizes[a] for a in outer)
        paths = [
            member_name(
                target.stem, [*groups, *((a, texts[a][i]) for a, i in zip(outer, at, strict=True))], target.extension
            )
            for at in np.ndindex(shape)
        ]
    if not target.writer.records:  # nobody reads coordinates that are not written
        return Part(content, outer, tuple(paths), {})
    within = [name for name, coord in image.coords.items() if not set(coord.dims) & set(outer)]
    first = image.isel(dict.fromkeys(outer, 0), drop=True)
    account = describe(first.drop_vars([n for n in first.coords if n not in within]), attrs or content.attrs)
    place = {
        "axes": outer,
        "shape": [image.sizes[a] for a in outer],
        "coords": {str(n): coordinate(c) for n, c in image.coords.items() if n not in within},
        **({"labels": "index"} if by_index else {}),
    }
    long = len(json.dumps(place["coords"])) > MOST_COORDS
    return Part(content, outer, tuple(paths), account, place if outer else {}, long)
