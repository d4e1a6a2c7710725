"""Writing images as OME-Zarr 0.5 (Zarr version 3) or 0.4 (version 2), with coarser levels and labels.

Rules: docs/formats/zarr.md; the facts are those of the OME-NGFF specifications.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from .. import arguments
from ..axes import Scale, spacing_of, units_of
from ..errors import ArgumentError
from ..frames.chunked_store import StoredArray, StoreName
from ..frames.chunked_target import NewStore, write_chunks
from ..record import KEY, describe
from ._ngff import LABEL, UNITS
from ._ngff_levels import Factors, coarser, coarser_scale, coarser_shape, plan
from ._zarr_layout import Layout, Wishes

if TYPE_CHECKING:
    import xarray as xr

ORDER = "tcizyx"
"""Order in which the axes are stored: time, then a channel or another axis, then space."""

TYPES = {"t": "time", "c": "channel", "i": "index", "z": "space", "y": "space", "x": "space"}
ZARR_FORMATS = {"0.5": 3, "0.4": 2}
COLOURS = {"r": "FF0000", "g": "00FF00", "b": "0000FF"}
MOST_CHANNELS = 64
"""More are a spectrum: viewers would make a layer of each."""


def save_ome(
    dataset: xr.Dataset,
    path: str,
    *,
    compress: bool | None = None,
    record: Mapping[str, Any] | None = None,
    chunks: Any = None,
    shards: Any = None,
    levels: int | None = None,
    version: str = "0.5",
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Write an image, and its labels, as OME-Zarr.

    Parameters
    ----------
    dataset
        The image, of ``tczyx`` or ``izyx``, at least two of them in space; other variables are labels: whole numbers
        of the same shape.
    path
        Folder to create, or fsspec URL.
    compress, chunks, shards, storage_options
        As for groups; tuples go by the axes of the image. Coarser levels have chunks of the same shape.
    record
        Our own account of the image, which is kept as attribute ``emio`` of the group.
    levels
        How many resolutions, the full one counted; each has half as many pixels along y and x, and along z where these
        are no longer than 1.5 of the others. Default: until y and x have 256 pixels at most.
    version
        Of the specification: ``"0.5"``, or ``"0.4"`` for older programs.

    Raises
    ------
    ArgumentError
        If the image has other axes or pixels, or none, or an argument does not fit.

    Notes
    -----
    Source of the facts: the specifications of OME-NGFF 0.4 and 0.5.

    Examples
    --------
    >>> import tempfile, os, xarray as xr, zarr
    >>> path = os.path.join(tempfile.mkdtemp(), "map.ome.zarr")
    >>> save_ome(xr.Dataset({"image": (("y", "x"), np.eye(512))}), path)
    >>> [zarr.open_group(path)[level].shape for level in "01"]
    [(512, 512), (256, 256)]
    """
    arguments.choice("version", version, tuple(ZARR_FORMATS))
    wanted = None if levels is None else arguments.number("levels", levels, least=1)
    wishes = Wishes(compress, arguments.chunks(chunks), arguments.chunks(shards), ZARR_FORMATS[version])
    image, labels = _image_and_labels(dataset)
    _check_pixels(image)
    image_axes = "".join(map(str, image.dims))
    axes = _stored_order(ome_axes(image_axes), image_axes)
    scales = {axis: _scale(image, axis) for axis in axes}
    known = {axis: scale for axis, scale in scales.items() if spacing_of(image, axis) is not None}
    factors = plan(axes, [image.sizes[axis] for axis in axes], known, wanted)
    store = NewStore(path, storage_options)
    pyramids = [
        Pyramid(store, where, variable.transpose(*axes), factors, wishes, image_axes)
        for where, variable in {"": image, **labels}.items()
    ]
    for pyramid in pyramids:
        pyramid.create()
    multiscales = _multiscales(str(_title(image, dataset)), axes, scales, factors)
    _describe_labels(store, labels, multiscales, version)
    store.lay_out()
    for pyramid in pyramids:
        pyramid.write()
    ome = {"multiscales": multiscales, **_omero(image, pyramids[0])}
    _describe(store, "", ome, version, {KEY: arguments.plain(record)} if record else {})
    store.finish()


def ome_axes(axes: str) -> str:
    """Return the axes of an image that one OME-Zarr store holds; an index ``i`` only alone with space.

    Raises
    ------
    ArgumentError
        If that is no image in space.
    """
    strange = [axis for axis in axes if axis not in ORDER]
    if strange or sum(axis in "zyx" for axis in axes) < 2:
        why = f"has no place for {', '.join(strange)}" if strange else "wants at least two of z, y, x"
        raise ArgumentError(f"an image of axes {axes!r} cannot be OME-Zarr, which {why}: save it as .zarr")
    return axes.replace("i", "") if set("tc") & set(axes) else axes


def ome_losses(dataset: xr.Dataset) -> list[str]:
    """Name what other programs will not see in an OME-Zarr store; it is kept in our own record."""
    image, _ = _image_and_labels(dataset)
    named = "c" if image.sizes.get("c", 0) <= MOST_CHANNELS else ""
    uneven = [
        axis
        for axis in map(str, image.dims)
        if axis in image.coords
        and axis not in named
        and spacing_of(image, axis) is None
        and (image.sizes[axis] > 1 or image[axis].dtype.kind not in "iuf")
    ]
    return [f"uneven coordinates of {', '.join(uneven)} for other programs"] if uneven else []


# What is there to write ----------------------------------------------------------------------------------------------


def _image_and_labels(dataset: xr.Dataset) -> tuple[xr.DataArray, dict[str, xr.DataArray]]:
    """Return the image, and labels by the path of their group."""
    names = list(dataset.data_vars)
    if "image" not in names and len(names) > 1:
        raise ArgumentError(f"which of {', '.join(map(str, names))} is the image? Call it 'image'")
    main = "image" if "image" in names else names[0]
    image = dataset[main]
    labels: dict[str, xr.DataArray] = {}
    for name, variable in dataset.data_vars.items():
        if name == main:
            continue
        if variable.dtype.kind not in "iu" or dict(variable.sizes) != dict(image.sizes):
            raise ArgumentError(
                f"variable {name!r}, {variable.dtype} of {dict(variable.sizes)}, is not integer labels of the image's "
                "shape, and OME-Zarr holds nothing else beside the image: save it on its own, or all of it as .zarr"
            )
        where = "labels/" + quote(str(name).removeprefix(LABEL) or str(name), safe="")
        if where in labels:
            raise ArgumentError(f"labels {name!r} and {labels[where].name!r} would have one name: rename one of them")
        labels[where] = variable
    return image, labels


def _check_pixels(image: xr.DataArray) -> None:
    if image.dtype.kind not in "iuf":
        way_out = {"b": 'make them whole numbers (astype("u1"))', "c": "save their real part or modulus"}
        raise ArgumentError(
            f"the image holds {image.dtype}, and OME-Zarr integers and floats: "
            f"{way_out.get(image.dtype.kind, 'convert it')}, or save it as .zarr"
        )
    if not image.size:
        raise ArgumentError(f"an image of shape {image.shape} has no pixels, which OME-Zarr does not hold; .zarr does")


def _stored_order(fitting: str, axes: str) -> str:
    if set(fitting) != set(axes):
        raise ArgumentError(f"an image of axes {axes!r} does not fit into one OME-Zarr store, only {fitting!r} of them")
    return "".join(axis for axis in ORDER if axis in axes)


def _scale(image: xr.DataArray, axis: str) -> Scale:
    """Even calibration, as far as there is one; of a single pixel its place."""
    step, units = spacing_of(image, axis), units_of(image, axis)
    first = image[axis].values[0] if axis in image.coords else 0
    if step is None and not (image.sizes[axis] == 1 and np.asarray(first).dtype.kind in "iuf" and np.isfinite(first)):
        return Scale(1.0, units)
    return Scale(step or 1.0, units, float(first))


def _title(image: xr.DataArray, dataset: xr.Dataset) -> Any:
    facts = {**dataset.attrs, **image.attrs}.get("acquisition")
    return (facts.get("title") if isinstance(facts, Mapping) else None) or image.name


# Metadata ------------------------------------------------------------------------------------------------------------


def _multiscales(name: str, axes: str, scales: Mapping[str, Scale], factors: Sequence[Factors]) -> list[dict[str, Any]]:
    words = {short: word for word, short in reversed(UNITS.items())}
    described = []
    for axis in axes:
        unit = scales[axis].units
        described.append({"name": axis, "type": TYPES[axis], **({"unit": words.get(unit, unit)} if unit else {})})
    datasets, level = [], dict(scales)
    for k, joined in enumerate([(1,) * len(axes), *factors]):
        level = {a: coarser_scale(level[a], f) for a, f in zip(axes, joined, strict=True)}
        transformations = [
            {"type": "scale", "scale": [level[a].step for a in axes]},
            {"type": "translation", "translation": [level[a].origin for a in axes]},
        ]
        datasets.append({"path": str(k), "coordinateTransformations": transformations})
    return [{"name": name, "axes": described, "datasets": datasets, **({"type": "mean"} if factors else {})}]


def _omero(image: xr.DataArray, pyramid: Pyramid) -> dict[str, Any]:
    """Names of the channels, and from where to where viewers should show them."""
    count = image.sizes.get("c", 0)
    if "c" not in image.coords or not 0 < count <= MOST_CHANNELS:
        return {}
    channels = []
    for k, name in enumerate(map(str, image["c"].values)):
        low, high = pyramid.range_of(k)
        limits = np.iinfo(image.dtype) if image.dtype.kind in "iu" else None
        window = {"min": int(limits.min), "max": int(limits.max)} if limits else {"min": low, "max": high}
        channels.append(
            {
                "label": name,
                "color": COLOURS.get(name.lower(), "FFFFFF"),
                "active": True,
                "window": {**window, "start": low, "end": high},
            }
        )
    return {"omero": {"channels": channels}}


def _describe_labels(
    store: NewStore, labels: Mapping[str, xr.DataArray], multiscales: list[dict[str, Any]], version: str
) -> None:
    if not labels:
        return
    _describe(store, "labels", {"labels": [where.partition("/")[2] for where in labels]}, version)
    for where, variable in labels.items():
        own = [
            {**entry, "name": str(variable.name), **({"type": "nearest"} if "type" in entry else {})}
            for entry in multiscales
        ]
        about = {"image-label": {"version": version, "source": {"image": "../../"}}}
        account = describe(variable.drop_vars(list(variable.coords)))
        _describe(store, where, {"multiscales": own, **about}, version, {KEY: account})


def _describe(
    store: NewStore, path: str, ome: dict[str, Any], version: str, attributes: Mapping[str, Any] | None = None
) -> None:
    """Give a group its metadata; version 0.5 has its metadata under a key of their own, 0.4 among all attributes."""
    import zarr

    if version == "0.5":
        ome = {"ome": {"version": version, **ome}}
    elif "multiscales" in ome:
        ome = {**ome, "multiscales": [{"version": version, **entry} for entry in ome["multiscales"]]}
    zarr_format: Any = ZARR_FORMATS[version]
    group = zarr.open_group(store.skeleton, path=path or None, mode="a", zarr_format=zarr_format)
    group.update_attributes({**ome, **(attributes or {})})


# Pixels --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pyramid:
    """An image or labels at all levels.

    Parameters
    ----------
    store, where
        Store, and path of the group.
    variable
        With its axes in the order in which they are stored.
    factors
        How much coarser each level is than the one before.
    wishes, image_axes
        How the user wants the chunks, and in which order of axes that is said.
    """

    store: NewStore
    where: str
    variable: xr.DataArray
    factors: Sequence[Factors]
    wishes: Wishes
    image_axes: str

    @property
    def is_labels(self) -> bool:
        """Whether the numbers are names."""
        return bool(self.where)

    @property
    def layouts(self) -> list[tuple[tuple[int, ...], Layout]]:
        """Shape and layout of each level."""
        axes = "".join(map(str, self.variable.dims))
        layout = self.wishes.layout(axes, self.variable.data, self.image_axes)
        shape = self.variable.shape
        found = [(shape, layout)]
        for factors in self.factors:
            shape = coarser_shape(shape, factors)
            layout = layout.within(shape)
            found.append((shape, layout))
        return found

    def create(self) -> None:
        """Create the arrays."""
        import zarr

        zarr_format: Any = self.wishes.zarr_format
        keys: Any = {"name": "default" if zarr_format == 3 else "v2", "separator": "/"}
        for k, (shape, layout) in enumerate(self.layouts):
            zarr.create_array(
                self.store.skeleton,
                name=self._path(k),
                shape=shape,
                dtype=self.variable.dtype.newbyteorder("="),
                fill_value=0,
                zarr_format=zarr_format,
                chunk_key_encoding=keys,
                dimension_names=list(map(str, self.variable.dims)) if zarr_format == 3 else None,
                **layout.encoding,
            )

    def write(self) -> None:
        """Write all levels, each from the one before."""
        for k, (_, layout) in enumerate(self.layouts):
            pixels = self.variable.data
            if k:
                pixels = coarser(self.stored(k - 1), self.factors[k - 1], layout.chunks, labels=self.is_labels)
            write_chunks(pixels, self.store.target(self._path(k), plain=layout.plain), layout.unit)

    def stored(self, level: int) -> StoredArray:
        """Pixels of a level that has been written."""
        name = StoreName(self.store.uri, options=self.store.options)
        return StoredArray.of(name, name.node(self._path(level)))

    def range_of(self, channel: int) -> tuple[float, float]:
        """Least and greatest value of a channel, in a plane of the coarsest level in the midst of the others."""
        pixels = self.stored(len(self.factors))
        middle = {"c": channel}
        *outer, _, _ = self.variable.dims
        at = [middle.get(str(a), n // 2) for a, n in zip(outer, pixels.shape, strict=False)]
        plane = pixels.read((*(slice(k, k + 1, 1) for k in at), *(slice(0, n, 1) for n in pixels.shape[-2:])))
        finite = plane[np.isfinite(plane)]
        return (finite.min().item(), finite.max().item()) if finite.size else (0, 1)

    def _path(self, level: int) -> str:
        return f"{self.where}/{level}" if self.where else str(level)
