"""What every reader returns and every writer takes: pixels, and all that is known about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from . import arguments
from .axes import Calibration, Labels, Scale, arrange, array_axes, check_axes, recalibrate
from .errors import ArgumentError, PartitionError
from .frames.chunking import given_chunks
from .frames.corrections import Corrected, Corrections
from .frames.held import Held
from .frames.lazy import lazy, load
from .frames.navigation import Navigation
from .frames.picked import along
from .frames.pixels import Pixels, count_of
from .frames.views import Pick, permuted, selected

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Variable:
    """Pixels with named axes: the image itself, or something stored beside it."""

    pixels: Pixels
    axes: str
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.axes or self.pixels.ndim:  # a fact of a single frame has no axes
            check_axes(self.axes, self.pixels.ndim)

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each axis."""
        return dict(zip(self.axes, self.pixels.shape, strict=True))

    @property
    def in_memory(self) -> bool:
        """Whether the pixels are an array in memory."""
        return isinstance(self.pixels, Held) and not self.pixels.is_lazy

    def arranged(self, order: str | None) -> Variable:
        """Return the same with the axes in another order; axes that `order` lacks follow behind."""
        axes = arrange(self.axes, order)
        return replace(self, pixels=permuted(self.pixels, [self.axes.index(a) for a in axes]), axes=axes)

    def part(self, picks: Mapping[str, Pick]) -> Variable:
        """Return a part: by axis a slice, some indices, or one index, which drops the axis."""
        chosen = [picks.get(a, slice(0, n, 1)) for a, n in self.sizes.items()]
        axes = "".join(a for a in self.axes if not isinstance(picks.get(a), int))
        return replace(self, pixels=selected(self.pixels, chosen), axes=axes)


@dataclass(frozen=True)
class Image:
    """Description of a measurement: a picklable account of pixels, axes, calibration and metadata.

    Parameters
    ----------
    pixels
        Where the pixels are.
    axes
        One letter for each axis of `pixels`, in the order in which they are stored.
    order
        Order in which the axes are presented, if it is another one.
    calibration
        By axis; axes without one have no coordinate.
    header
        Everything the file's header says, under the names of the format.
    acquisition
        The vendor-neutral facts: ``beam_energy`` in keV, ``camera_length`` in mm and so on.
    variables
        Further variables, such as the ``navigator`` of a blockfile.
    facts
        Per-frame facts, which become coordinates along the navigation axes; under the name of an axis its coordinate,
        where a calibration cannot say all of it.
    attrs
        Of the image variable.
    frame_axes
        The axes that make a frame, whatever their order; default: the last ones presented.
    scalars
        Coordinates (value, units) of axes that were dropped because one member was picked.
    corrections
        Dark, gain and dead pixels that belong to the data, as far as they are to be applied.
    datasets
        What the file holds, if it holds several images: ``index``, ``name``, ``shape``, ``dtype`` of each.
    stored_frame
        Shape of a frame as stored, where `sig_shape` makes another one of it: corrections have this shape.
    name
        Of the image among the variables of the Dataset.
    dataset_attrs
        Attributes that people have given to the Dataset which was saved.
    outer
        Place of the file in a set of files, as `imsave` has recorded it (see `intake_emio.record`).
    """

    pixels: Pixels
    axes: str
    order: str | None = None
    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    header: Mapping[str, Any] = field(default_factory=dict)
    acquisition: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, Variable] = field(default_factory=dict)
    facts: Mapping[str, Variable] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    frame_axes: str = ""
    scalars: Mapping[str, tuple[Any, str | None]] = field(default_factory=dict)
    corrections: Corrections | None = None
    stored_frame: tuple[int, ...] = ()
    datasets: tuple[Mapping[str, Any], ...] = ()
    name: str = "image"
    dataset_attrs: Mapping[str, Any] = field(default_factory=dict)
    outer: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_axes(self.axes, self.pixels.ndim)
        if not self.frame_axes:
            presented = arrange(self.axes, self.order)
            object.__setattr__(self, "frame_axes", presented[len(presented) - self.pixels.frame_ndim :])

    @property
    def image(self) -> Variable:
        """The pixels with their axes in the order in which they are presented."""
        return Variable(self.pixels, self.axes, self.attrs).arranged(self.order)

    @property
    def sizes(self) -> dict[str, int]:
        """Length of every axis of every variable, the image's first."""
        sizes = self.image.sizes
        for variable in (*self.variables.values(), *self.facts.values()):
            sizes = {**variable.sizes, **sizes}
        return sizes

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files that hold pixels, those of variables and of facts of each frame included."""
        pixels = (self.pixels, *(v.pixels for v in (*self.variables.values(), *self.facts.values())))
        return tuple(dict.fromkeys(name for one in pixels for name in one.files()))

    def renamed(self, axes: str) -> Image:
        """Return the image with its axes renamed, position by position in the order they are presented.

        Raises
        ------
        ArgumentError
            If `axes` are not as many unique letters.
        """
        old = self.image.axes
        names = dict(zip(old, check_axes(axes, len(old)), strict=True))
        clash = [a for a in self.sizes if a not in names and a in axes]
        if clash:
            raise ArgumentError(f"axis {clash[0]!r} is already the name of another variable's axis")

        def rename(letters: str) -> str:
            return "".join(names.get(a, a) for a in letters)

        return replace(
            self,
            axes=rename(self.axes),
            order=None if self.order is None else rename(self.order),
            frame_axes=rename(self.frame_axes),
            calibration={names.get(a, a): c for a, c in self.calibration.items()},
            variables={k: replace(v, axes=rename(v.axes)) for k, v in self.variables.items()},
            facts={rename(k) if k == v.axes else k: replace(v, axes=rename(v.axes)) for k, v in self.facts.items()},
        )

    def with_metadata(self, metadata: Mapping[str, Any]) -> Image:
        """Return the image with the user's word over the file's: `axes`, `spacing`, `spacing_units`, `coords`."""
        renamed = self if metadata.get("axes") is None else self.renamed(metadata["axes"])
        sizes = renamed.sizes
        given = {key: metadata.get(key) for key in ("spacing", "spacing_units", "coords")}
        calibration = recalibrate("".join(sizes), tuple(sizes.values()), renamed.calibration, **given)
        told = {axis for axes in given.values() for axis in axes or ()}
        facts = {name: fact for name, fact in renamed.facts.items() if name not in told}
        return replace(renamed, calibration=calibration, facts=facts)

    def arranged(self, order: str | None) -> Image:
        """Return the image with all variables presented in another order of axes."""
        if order is None:
            return self
        return replace(
            self,
            order=arrange(self.image.axes, order),
            variables={k: v.arranged(order) for k, v in self.variables.items()},
            facts={k: v.arranged(order) for k, v in self.facts.items()},
        )

    def along(self, navigation: Navigation, axes: str | None = None) -> Image:
        """Return the image with its frames arranged anew.

        Parameters
        ----------
        navigation
            Which frame each point shows; frames are counted along the navigation axes, as they are stored.
        axes
            Names of all axes, if there will be another number of them; default: the usual ones.

        Returns
        -------
        Image
            What was known along the old navigation axes is dropped, unless their lengths stay.
        """
        depth = self.pixels.ndim - self.pixels.frame_ndim
        signal, new = self.axes[depth:], len(navigation.shape)
        names = self.axes if new == depth else axes or array_axes(new + len(signal), len(signal))
        renamed = dict(zip(signal, names[new:], strict=True))
        same = navigation.shape == self.pixels.shape[:depth]
        kept = {renamed[a]: scale for a, scale in self.calibration.items() if a in renamed}
        return replace(
            self,
            pixels=along(self.pixels, navigation),
            axes=names,
            frame_axes=names[new:],
            calibration=self.calibration if same else kept,
            variables={},
            facts={},
        )

    def corrected(self, corrections: Corrections | None) -> Image:
        """Return the image with corrections applied while it is read, and noted in its attributes."""
        if not corrections:
            return self
        done = corrections.summary()
        return replace(
            self,
            pixels=Corrected(self.pixels, corrections, self.stored_frame),
            attrs={**self.attrs, "corrections": done},
            acquisition={**self.acquisition, "corrections": done},
        )

    def part(self, partition: Any) -> Image:
        """Return a part of the image, with the coordinates that belong to it.

        Parameters
        ----------
        partition
            Number, slice or list along the first axis, or by axis; a number drops the axis and leaves a scalar
            coordinate if the axis is calibrated.

        Raises
        ------
        PartitionError
            If an index is out of range, or nothing is left.
        ArgumentError
            If an axis does not exist.
        """
        sizes = self.sizes
        picks = picked(partition, self.image.axes, sizes)
        if not picks:
            return self
        calibration, scalars = dict(self.calibration), dict(self.scalars)
        for axis, pick in picks.items():
            if axis in calibration:
                scale = calibration.pop(axis)
                if isinstance(pick, int):
                    scalars[axis] = scale.values(sizes[axis])[pick], scale.units
                else:
                    calibration[axis] = scale.part(pick, sizes[axis])
        image = Variable(self.pixels, self.axes).part(picks)
        presented = "".join(a for a in self.image.axes if a in image.axes)
        return replace(
            self,
            pixels=image.pixels,
            axes=image.axes,
            order=presented,
            calibration=calibration,
            variables={k: v.part(picks) for k, v in self.variables.items()},
            facts={k: v.part(picks) for k, v in self.facts.items()},
            frame_axes="".join(a for a in self.frame_axes if a in image.axes),
            scalars=scalars,
        )

    def to_dataset(
        self, uri: str, format_name: str, *, chunks: Any = "auto", metadata: Mapping[str, Any] | None = None
    ) -> xr.Dataset:
        """Return the labelled Dataset.

        Parameters
        ----------
        uri, format_name
            For the attributes.
        chunks
            See `intake_emio.imload`; `None` loads.
        metadata
            Further entries of ``attrs["metadata"]``.
        """

        def array(name: str, variable: Variable) -> Any:
            asked = name == self.name and not (isinstance(chunks, str) and chunks == "auto")
            if chunks is None or (variable.in_memory and not asked):
                return load(variable.pixels)
            return lazy(variable.pixels, self.cuts(variable, chunks))

        return self.labelled(array, uri, format_name, metadata)

    def labelled(
        self,
        array: Callable[[str, Variable], Any],
        uri: str,
        format_name: str,
        metadata: Mapping[str, Any] | None = None,
    ) -> xr.Dataset:
        """Return the labelled Dataset of arrays that somebody else makes.

        Parameters
        ----------
        array
            Gets the name of a variable and its description, and returns its pixels as xarray takes them.
        uri, format_name, metadata
            See `to_dataset`.
        """
        import xarray as xr

        def entry(name: str, variable: Variable) -> Any:
            return tuple(variable.axes), array(name, variable), dict(variable.attrs)

        sizes = self.sizes
        coords: dict[str, Any] = {}
        for axis, scale in self.calibration.items():
            if axis in sizes:
                coords[axis] = (
                    axis,
                    _index(scale.values(sizes[axis])),
                    {"units": scale.units} if scale.units else {},
                )
        for axis, (value, units) in self.scalars.items():
            coords[axis] = ((), value, {"units": units} if units else {})
        coords |= {name: entry(name, fact) for name, fact in self.facts.items()}
        pictures = {self.name: self.image, **self.variables}
        return xr.Dataset(
            {name: entry(name, variable) for name, variable in pictures.items()},
            coords,
            {
                **self.dataset_attrs,
                "uri": uri,
                "format": format_name,
                "metadata": {**(metadata or {}), **self.summary()},
                "acquisition": arguments.plain(self.acquisition),
            },
        )

    def cuts(self, variable: Variable, chunks: Any) -> tuple[int | tuple[int, ...], ...]:
        """Return the chunk sizes of a variable along each axis, from what the user wrote for the image."""
        axes, sizes = self.image.axes, self.sizes
        if isinstance(chunks, list | tuple):
            if len(chunks) != len(axes):
                raise ArgumentError(f"chunks has {len(chunks)} entries for the {len(axes)} axes {axes!r}")
            chunks = dict(zip(axes, chunks, strict=True))
        if isinstance(chunks, Mapping):
            unknown = [a for a in chunks if a not in sizes]
            if unknown:
                raise ArgumentError(f"chunks names axis {unknown[0]!r}, but the image has {axes!r}")
            chunks = {a: c for a, c in chunks.items() if a in variable.axes}
        pixels = variable.pixels
        return given_chunks(chunks, variable.axes, pixels.shape, pixels.chunks(), self.frame_axes)

    def summary(self) -> dict[str, Any]:
        """Axes, shape, type, calibration and header of the whole image, in JSON types."""
        image = self.image
        scales = {a: c for a, c in self.calibration.items() if isinstance(c, Scale)}
        return {
            "axes": image.axes,
            "shape": list(image.pixels.shape),
            "dtype": str(image.pixels.dtype),
            "spacing": {a: float(c.step) for a, c in scales.items()},
            "spacing_units": {a: c.units for a, c in self.calibration.items() if c.units},
            "coords": {a: arguments.plain(c.labels) for a, c in self.calibration.items() if isinstance(c, Labels)},
            "fileheader": arguments.plain(self.header),
            **({"datasets": arguments.plain(self.datasets)} if len(self.datasets) > 1 else {}),
        }


def _index(values: np.ndarray) -> Any:
    """Coordinates of an axis; numbers as a pandas index, which xarray takes without looking for a dozen libraries."""
    import pandas as pd

    return pd.Index(values) if values.dtype.kind in "iuf" else values


def picked(partition: Any, axes: str, sizes: Mapping[str, int]) -> dict[str, Pick]:
    """Turn a partition into checked picks by axis: indices are not negative, slices have start, stop, positive step."""
    if partition is None:
        return {}
    by_axis = partition if isinstance(partition, Mapping) else {axes[0]: partition}
    picks: dict[str, Pick] = {}
    for axis, index in by_axis.items():
        if axis not in sizes:
            raise ArgumentError(f"partition names axis {axis!r}, but the image has {axes!r}")
        picks[axis] = pick = _pick(axis, index, sizes[axis])
        if not isinstance(pick, int) and not count_of(pick):
            raise PartitionError(f"partition {index!r} of axis {axis!r} of {sizes[axis]} is empty")
    return picks


def _pick(axis: str, index: Any, size: int) -> Pick:
    if isinstance(index, slice):
        start, stop, step = index.indices(size)
        return tuple(range(start, stop, step)) if step < 0 else slice(start, max(start, stop), step)
    if isinstance(index, int):
        if not -size <= index < size:
            raise PartitionError(f"partition {index} is out of range: axis {axis!r} has {size} members")
        return index % size
    return tuple(_pick(axis, int(i), size) for i in index)  # type: ignore[misc]
