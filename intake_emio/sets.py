"""Sets of files that are one image: their members are opened by their own formats and put together by their names.

Files that `imsave` wrote tell more than names do: order, types and units of the coordinates. Rules: docs/partitions.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import arguments, record
from .axes import Calibration, even_or_labels
from .detection import open_source
from .errors import ArgumentError, EmioError, MissingFileError
from .finding import Axis, Found, Grid, Listing, find_members, grid_of, several_files
from .formats import registry
from .frames.files import File, is_remote, normalise
from .frames.gathered import Gathered
from .frames.held import Held
from .frames.joined import Unfolded
from .frames.navigation import navigate
from .frames.pixels import Pixels
from .frames.storage import Storage
from .image import Image, Variable
from .partition import texts_of
from .source import ImageSource

COMPARED = 64
"""So many members are opened together with the set; of more, the first one only, and the others when they are read."""

THREADS = 8
MOST_NAMED = 5
FOR_MEMBERS = ("sig_shape", "io_backend", "corrections")
"""Common arguments that are handed to the members; the others are about the whole."""


def open_any(uri: Any, *, storage_options: Mapping[str, Any] | None = None, **settings: Any) -> ImageSource:
    """Return the source of a file, or of a set of files.

    Parameters
    ----------
    uri
        Path, URL, glob, pattern, folder or list.
    storage_options
        For fsspec.
    **settings
        Arguments of the source.
    """
    if not several_files(uri, storage_options):
        return open_source(uri, storage_options=storage_options, **settings)
    settings["storage_options"] = dict(storage_options or {})
    own = next((entry for entry in registry().values() if set(entry.set_arguments) & set(settings)), None)
    if own is None:
        return FilesSource(uri, **settings)
    return own.source_class()(uri, **{name: value for name, value in settings.items() if name != "format"})


class FilesSource(ImageSource):
    """A set of files of one format, each of them a part of one image.

    Parameters
    ----------
    uri
        Glob ``frames.y_*.x_*.tif``, pattern ``img_ch{c}_z{z}.tif``, folder, or list of files. Where names have no
        coordinates the files follow each other along ``i``: in natural order, those of a list as they are given.
    format
        Name of the format, if it is not to be found out.
    missing
        ``"raise"``, or ``"fill"``: members that are not there are zeros, or NaN if they hold floats.
    **settings
        Arguments of the format for each file, and the common ones of `ImageSource`. ``metadata={"axes": ...}`` names
        the axes of the members or, if there are as many letters, those of the whole. `nav_shape` and `sync_offset`
        arrange files whose names have no coordinates.

    Raises
    ------
    MissingFileError
        If there is no such file, or members are missing.
    ArgumentError
        If names or members do not fit together.

    Examples
    --------
    >>> import tempfile, os, numpy as np
    >>> folder = tempfile.mkdtemp()
    >>> for number in (9, 10, 12):
    ...     np.save(os.path.join(folder, f"frame.i_{number}.npy"), np.full((4, 4), number))
    >>> FilesSource(os.path.join(folder, "frame.*.npy")).to_dask().image.i.values
    array([ 9, 10, 12])
    """

    name = "emio_files"
    format_name = "files"

    def __init__(self, uri: Any, *, format: str | None = None, missing: str = "raise", **settings: Any):
        names = [normalise(one) for one in uri] if isinstance(uri, list | tuple) else None
        if names == []:
            raise ArgumentError("the list of files is empty")
        common = ImageSource.defaults()
        super().__init__(names[0] if names else uri, **{k: v for k, v in settings.items() if k in common})
        self.uri: Any = names or self.uri
        self.format = format
        self.missing = arguments.choice("missing", missing, ("raise", "fill"))
        self._own = {k: v for k, v in settings.items() if k not in common}
        self._listing: Listing | None = None

    @property
    def image(self) -> Image:
        """Description of the image: as its members and their names say."""
        if self._image is None:
            image = self._joined()
            axes = self._given_metadata.get("axes")
            whole = {k: v for k, v in self._given_metadata.items() if k != "axes" or len(str(axes)) == len(image.axes)}
            self._image = image.with_metadata(whole).arranged(self.output_axis_order).part(self.partition)
        return self._image

    @property
    def settings(self) -> dict[str, Any]:
        """All arguments by name, those of the members as given."""
        return {**super().settings, **self._own}

    @property
    def listing(self) -> Listing:
        """The members, as they were found."""
        if self._listing is None:
            self._listing = find_members(self.uri, self.storage_options)
        return self._listing

    def storage(self) -> Storage:
        """How the members' bytes are fetched."""
        return Storage.choose(self.listing.members[0].name, self.io_backend, self.storage_options)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Arguments, and the state of the files."""
        return (type(self).__module__, self._identity(), self.image.pixels.token())

    def _close(self) -> None:
        super()._close()
        self._listing = None

    # Putting together -------------------------------------------------------------------------------------------

    def _joined(self) -> Image:
        """Put the variables together; the picture is `image`, or else the first one."""
        by_variable: dict[str, list[Found]] = {}
        for member in self.listing.members:
            by_variable.setdefault(member.variable, []).append(member)
        images = {name: self._variable(members) for name, members in by_variable.items()}
        main = "image" if "image" in images else next(iter(images))
        image = replace(images[main], name=main or "image")
        for name, other in images.items():
            if name == main:
                continue
            _check_axes_agree(image, other, name)
            image = replace(
                image,
                variables={**image.variables, name: other.image},
                facts={**other.facts, **image.facts},
                calibration={**other.calibration, **image.calibration},
            )
        return image

    def _variable(self, members: list[Found]) -> Image:
        """Put the members of one variable together."""
        odd = next((m for m in members if m.axes != members[0].axes), None)
        if odd is not None:
            raise ArgumentError(
                f"{odd.name}: its name tells the axes {odd.axes or '-'}, that of {members[0].name} "
                f"{members[0].axes or '-'}: choose one of these sets with a glob"
            )
        opener, first = self._opened(members[0].name)
        if members[0].axes:
            return self._by_coordinates(members, opener, first)
        if not members[0].variable:
            return self._in_a_row(tuple(member.name for member in members), opener, first)
        if len(members) > 1:
            raise ArgumentError(f"{members[0].name} and {members[1].name}: have the same place in the set")
        return first

    def _by_coordinates(self, members: list[Found], opener: Opener, first: Image) -> Image:
        """Put files together whose names tell where they belong."""
        if self.nav_shape is not None or self.sync_offset:
            raise ArgumentError(f"{self._said}: the names tell the axes, so nav_shape and sync_offset do not apply")
        place = _place(first, File(members[0].name, self.storage_options), opener)
        grid = grid_of(self.listing, members, _texts_in(place))
        if grid.gaps and self.missing == "raise":
            more = " …" if len(grid.gaps) > MOST_NAMED else ""
            raise MissingFileError(
                f"{self._said}: {len(grid.gaps)} of {len(grid.names)} members are missing: "
                f"{', '.join(grid.gaps[:MOST_NAMED])}{more}. Pass missing='fill' to show them blank"
            )
        inner = _apart(first, grid.letters, members[0].name)
        return _labelled(self._gathered(grid.names, grid.letters, grid.shape, inner, opener), grid, place)

    def _in_a_row(self, names: tuple[str, ...], opener: Opener, first: Image) -> Image:
        """Put files one behind the other whose names tell no axes."""
        inner = first.image.axes
        if "i" in inner:
            return self._end_to_end(names, opener, first)
        image = self._gathered(names, "i", (len(names),), first, opener)
        if self.nav_shape is None and not self.sync_offset:
            return image
        if image.pixels.ndim != image.pixels.frame_ndim + 1:
            raise ArgumentError(f"{self._said}: nav_shape arranges files of one frame each, and these have {inner!r}")
        shape = (len(names),)
        navigation = navigate(self._said, len(names), shape, nav_shape=self.nav_shape, sync_offset=self.sync_offset)
        return image.along(navigation)

    def _end_to_end(self, names: tuple[str, ...], opener: Opener, first: Image) -> Image:
        """Make one long stack of stacks."""
        if self.nav_shape is not None or self.sync_offset:
            raise ArgumentError(f"{self._said}: nav_shape arranges files of one frame each, and these are stacks")
        order = "i" + first.image.axes.replace("i", "")
        opener, first = replace(opener, order=order), first.arranged(order)
        self._compare(names, opener)
        facts = {k: fact for k, fact in first.facts.items() if fact.axes == "i"}
        return replace(
            first,
            pixels=Unfolded(self._pixels(names, (len(names),), first.image, opener)),
            axes=order,
            order=None,
            calibration={a: scale for a, scale in first.calibration.items() if a != "i"},
            variables={},
            facts={
                k: replace(fact, pixels=Unfolded(self._pixels(names, (len(names),), fact, opener.of("facts", k))))
                for k, fact in facts.items()
            },
        )

    # Members ----------------------------------------------------------------------------------------------------

    @property
    def _said(self) -> str:
        return self.uri if isinstance(self.uri, str) else f"{self.uri[0]} …"

    def _opened(self, name: str) -> tuple[Opener, Image]:
        """Open the first member with all arguments that are not about the whole, and say how the others are opened."""
        usual = self.defaults()
        common = {k: getattr(self, k) for k in FOR_MEMBERS if getattr(self, k) is not usual[k]}
        opener = Opener(self.format, self.storage_options, {**common, **self._own})
        source = opener.source(name)
        axes = self._given_metadata.get("axes")
        if axes and len(source.image.axes) == len(axes):
            opener = replace(opener, settings={**opener.settings, "metadata": {"axes": axes}})
            source = opener.source(name)
        self.format_name = source.format_name  # type: ignore[misc]
        image = source.image.image
        alike = (image.axes, image.pixels.shape, str(image.pixels.dtype))
        return replace(opener, format=source.format_name, alike=alike, example=name), source.image

    def _gathered(
        self, names: tuple[str | None, ...], outer: str, shape: tuple[int, ...], first: Image, opener: Opener
    ) -> Image:
        """Put an axis, or several, in front of everything that the members hold."""
        images = self._compare(names, opener)

        def gathered(variable: Variable, opener: Opener) -> Variable:
            return replace(variable, pixels=self._pixels(names, shape, variable, opener), axes=outer + variable.axes)

        image = gathered(first.image, opener)
        alike, unlike = _scalars(images, outer)
        return replace(
            first,
            pixels=image.pixels,
            axes=image.axes,
            order=None,
            frame_axes=first.frame_axes,
            variables={k: gathered(v, opener.of("variables", k)) for k, v in first.variables.items()},
            facts={
                **{k: gathered(v, opener.of("facts", k)) for k, v in first.facts.items()},
                **{k: Variable(Held(v.reshape(shape), 0), outer, attrs) for k, (v, attrs) in unlike.items()},
            },
            scalars=alike,
            outer={},
        )

    def _pixels(
        self, names: tuple[str | None, ...], shape: tuple[int, ...], variable: Variable, opener: Opener
    ) -> Gathered:
        stamps: tuple[Any, ...] = ()
        if not is_remote(self.listing.members[0].name) or len(names) <= COMPARED:
            stamps = tuple(_stamp(name, self.storage_options) if name else None for name in names)
        blank = float("nan") if variable.pixels.dtype.kind in "fc" else 0
        return Gathered(names, shape, variable.pixels, opener, stamps, blank)

    def _compare(self, names: Sequence[str | None], opener: Opener) -> list[Image]:
        """Open all members of a small set, and refuse those that are unlike the first."""
        there = [name for name in names if name]
        if len(there) > COMPARED:
            return []
        with ThreadPoolExecutor(THREADS) as threads:
            return list(threads.map(opener.image, there))


@dataclass(frozen=True)
class Opener:
    """Opens members of a set, here or in a task.

    Parameters
    ----------
    format, storage_options, settings
        How each is opened.
    order
        Order of axes, if it is not the file's.
    part
        What is wanted of it: a variable or a fact of this name; the image itself, if there is none.
    alike
        Axes, shape and type that all must have.
    example
        A member that has them.
    """

    format: str | None
    storage_options: Mapping[str, Any]
    settings: Mapping[str, Any]
    order: str | None = None
    part: tuple[str, str] | None = None
    alike: tuple[str, tuple[int, ...], str] | None = None
    example: str = ""

    def of(self, kind: str, name: str) -> Opener:
        """Return the same for a variable or a fact."""
        return replace(self, part=(kind, name))

    def source(self, name: str) -> ImageSource:
        """Open a member."""
        return open_source(name, format=self.format, storage_options=self.storage_options or None, **self.settings)

    def image(self, name: str) -> Image:
        """Describe a member.

        Raises
        ------
        ArgumentError
            If it is unlike the others.
        """
        image = self.source(name).image
        found = (image.image.axes, image.image.pixels.shape, str(image.image.pixels.dtype))
        if self.alike is not None and found != self.alike:
            raise ArgumentError(
                f"{name}: has axes {found[0]!r}, shape {found[1]} and type {found[2]}, but {self.example} has "
                f"{self.alike[0]!r}, {self.alike[1]} and {self.alike[2]}: members of a set must be alike. Open them as "
                "two sets"
            )
        return image.arranged(self.order)

    def __call__(self, name: str) -> Pixels:
        """Pixels of a member."""
        image = self.image(name)
        if self.part is None:
            return image.image.pixels
        kind, what = self.part
        try:
            return getattr(image, kind)[what].pixels
        except KeyError:
            raise ArgumentError(f"{name}: has no {what!r}, but {self.example} has: members must be alike") from None


def _stamp(name: str, storage_options: Mapping[str, Any]) -> Any:
    file = File(name, storage_options)
    return None if file.is_folder else file.stamp


def _scalars(
    images: Sequence[Image], outer: str
) -> tuple[dict[str, tuple[Any, str | None]], dict[str, tuple[np.ndarray, dict[str, Any]]]]:
    """Single values of the members: those that all share, and those that become coordinates along the set."""
    alike: dict[str, tuple[Any, str | None]] = {}
    unlike: dict[str, tuple[np.ndarray, dict[str, Any]]] = {}
    for name in images[0].scalars if images else ():
        found = [image.scalars.get(name) for image in images]
        if name in outer or None in found:
            continue
        values, units = [one[0] for one in found if one], found[0][1] if found[0] else None
        if all(value == values[0] for value in values):
            alike[name] = (values[0], units)
        else:
            unlike[name] = (np.array(values), {"units": units} if units else {})
    return alike, unlike


def _apart(first: Image, outer: str, name: str) -> Image:
    """Return a member whose axes are none of the outer ones: frames ``yx`` of a scan ``yx`` become ``vu``."""
    axes = first.image.axes
    if not set(axes) & set(outer):
        return first
    if axes == "yx" and not set("vu") & set(outer):
        return first.renamed("vu")
    raise ArgumentError(
        f"{name}: its axes {axes!r} and those of the names, {outer!r}, share a letter: pass metadata={{'axes': ...}} "
        "with other names for the axes of the files"
    )


def _check_axes_agree(one: Image, other: Image, name: str) -> None:
    """Refuse variables whose axes of the same name differ."""
    for axis, size in other.sizes.items():
        if axis not in one.sizes:
            continue
        same = one.sizes[axis] == size
        mine, theirs = one.calibration.get(axis), other.calibration.get(axis)
        if same and mine is not None and theirs is not None:
            same = bool(np.array_equal(mine.values(size), theirs.values(size)))
        if not same:
            raise ArgumentError(f"variable {name!r} has other members along axis {axis!r} than the rest: open it alone")


# What members know of their set --------------------------------------------------------------------------------------


def _place(first: Image, file: File, opener: Opener) -> Mapping[str, Any]:
    """Return the account of the whole set; of a large one, it is in the member that was written first."""
    told = first.outer.get("first")
    if "coords" in first.outer or not isinstance(told, str) or "/" in told:
        return first.outer
    beside = file.sibling(told)
    return opener.image(beside.uri).outer if beside.is_folder or beside.exists() else first.outer


def _sizes_of(place: Mapping[str, Any]) -> dict[str, int]:
    try:
        sizes = [arguments.number("shape", n, least=0) for n in place.get("shape", ())]
        return dict(zip(str(place.get("axes", "")), sizes, strict=True))
    except (ValueError, TypeError):  # somebody has been at it
        return {}


def _texts_in(place: Mapping[str, Any]) -> dict[str, list[str]]:
    """Texts of all members of the set along each axis, in their order."""
    import xarray as xr

    texts: dict[str, list[str]] = {}
    for axis, size in _sizes_of(place).items():
        account = arguments.mapping("coords", place.get("coords")).get(axis)
        try:
            coord = None if account is None else xr.DataArray(record.values_of(account, size), dims=axis)
            texts[axis] = texts_of(axis, coord, size, by_index=place.get("labels") == "index")
        except (EmioError, ValueError):
            continue
    return texts


def _labelled(image: Image, grid: Grid, place: Mapping[str, Any]) -> Image:
    """Give the outer axes their coordinates: those that were saved, or else what the names say."""
    texts = _texts_in(place)
    kept = {
        axis.name: tuple(texts[axis.name].index(text) for text in axis.texts)
        for axis in grid.axes
        if set(axis.texts) <= set(texts.get(axis.name, ()))
    }
    sizes = _sizes_of(place)
    accounts = {
        name: account
        for name, account in arguments.mapping("coords", place.get("coords")).items()
        if isinstance(account, Mapping)
        and set(str(account.get("dims", "")))
        <= {*kept, *image.sizes} - {axis.name for axis in grid.axes if axis.name not in kept}
    }
    try:
        scales, facts, scalars = record.coordinates(accounts, {**image.sizes, **sizes})
    except ArgumentError:
        scales, facts, scalars, kept = {}, {}, {}, {}
    told = {a: scale.part(kept[a], sizes[a]) for a, scale in scales.items() if a in kept}
    named = {axis.name: _scale_of(axis) for axis in grid.axes if axis.name not in told}
    return replace(
        image,
        calibration={**image.calibration, **told, **{a: scale for a, scale in named.items() if scale is not None}},
        facts={**image.facts, **{name: fact.part(kept) for name, fact in facts.items()}},
        scalars={**image.scalars, **scalars},
    )


def _scale_of(axis: Axis) -> Calibration | None:
    """Coordinates that names tell; those that only count are none."""
    if axis.values.dtype.kind == "i" and np.array_equal(axis.values, np.arange(len(axis.values))):
        return None
    return even_or_labels(axis.values)
