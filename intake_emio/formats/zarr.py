"""Zarr stores: groups of xarray, bare arrays, groups of arrays, OME-Zarr. Groups and OME-Zarr are written.

Layout and quirks: docs/formats/zarr.md.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .. import arguments
from ..axes import array_axes, axis_letters
from ..errors import ArgumentError, EmioError, EmioWarning, HeaderError, MissingFileError
from ..frames.chunked_store import StoredArray, StoreName
from ..frames.files import File
from ..frames.navigation import navigate
from ..frames.storage import Storage
from ..image import Image, Variable
from ..record import KEY, OF_DATASET, Record
from ..source import ImageSource
from . import _ngff
from ._ngff_writing import ome_axes, ome_losses, save_ome
from ._zarr_store import (
    Parts,
    arrays_in,
    clean_attrs,
    coordinate_names,
    dims_of,
    groups_in,
    is_zarr,
    joined,
    largest_array,
    listing,
    located,
    main_variable,
    members_of,
    place_of,
    series_listing,
    spacing_in,
)
from ._zarr_writing import TIMES, save

__all__ = ["ZarrSource", "is_zarr", "ome_axes", "ome_losses", "save", "save_ome"]


class ZarrSource(ImageSource):
    """A Zarr store: a group as xarray writes it, a bare array, a group of arrays, or OME-Zarr.

    Parameters
    ----------
    uri
        Folder, ``.zip`` file or fsspec URL; may point to a group or an array within a store.
    ds_path
        Group or array within the store.
    series
        Which image of an OME-Zarr store that holds several; default: the first.
    level
        Resolution of an OME-Zarr image; 0 is the finest.
    sig_dims
        How many of the last axes are signal axes.
    **common
        See `ImageSource`.

    Raises
    ------
    HeaderError
        If there are no Zarr metadata, or broken ones, or elements that are no numbers.
    ArgumentError
        If an argument does not fit what the store holds; lists that.

    Examples
    --------
    >>> import tempfile, os, numpy as np, zarr
    >>> path = os.path.join(tempfile.mkdtemp(), "stack.zarr")
    >>> array = zarr.create_array(path, data=np.zeros((6, 4, 4), "u2"), dimension_names=["t", "y", "x"])
    >>> ZarrSource(path).to_dask().image.dims
    ('t', 'y', 'x')
    """

    name = "emio_zarr"
    format_name = "zarr"

    def __init__(
        self,
        uri: Any,
        *,
        ds_path: str | None = None,
        series: Any = None,
        level: Any = 0,
        sig_dims: Any = 2,
        **common: Any,
    ):
        super().__init__(uri, **common)
        self.ds_path = ds_path
        self.series = None if series is None else arguments.number("series", series, least=0)
        self.level = arguments.number("level", level, least=0)
        self.sig_dims = arguments.number("sig_dims", sig_dims, least=0)
        if self.io_backend is not None:
            raise ArgumentError(
                f"{self.uri}: io_backend={self.io_backend!r} does not apply to Zarr stores: leave it out"
            )

    def storage(self) -> Storage:
        """Bytes are fetched by zarr-python."""
        return Storage("zarr")

    def parse(self, file: File) -> Image:
        """Describe what a store holds from its metadata; coordinates are read, pixels are not."""
        store, inside = located(file)
        node = self._node(store, inside)
        if hasattr(node, "shape"):
            return self._of_array(store, node)
        ome = _ngff.section(dict(node.attrs))
        where = place_of(store, node.path)
        _ngff.refuse_plates(where, ome)
        if ome.get("bioformats2raw.layout") is not None and not ome.get("multiscales"):
            return self._of_collection(store, node)
        images = _ngff.multiscales(where, ome)
        if images:
            return self._of_multiscale(store, node, images)
        variables = {name: array for name, array in members_of(node) if dims_of(array) is not None}
        if any(array.ndim for array in variables.values()):
            return self._of_dataset(store, node, variables)
        return self._of_array(store, *largest_array(store, node))

    def _node(self, store: StoreName, inside: str) -> Any:
        wanted = "/".join(part.strip("/") for part in (inside, self.ds_path or "") if part.strip("/"))
        try:
            return store.node(wanted)
        except MissingFileError:
            arrays = listing(arrays_in(store.node(inside)))
            raise ArgumentError(f"{store.uri}: there is no {self.ds_path!r}; the store holds {arrays}") from None

    # Bare arrays ------------------------------------------------------------------------------------------------

    def _of_array(self, store: StoreName, array: Any, datasets: tuple[dict[str, Any], ...] = ()) -> Image:
        """Describe one array, with what the groups around it know of it."""
        parts = array.path.strip("/").split("/") if array.path.strip("/") else []
        for depth in reversed(range(len(parts))):
            group, name = store.node("/".join(parts[:depth])), "/".join(parts[depth:])
            images = _ngff.multiscales(place_of(store, group.path), _ngff.section(dict(group.attrs)))
            for number, multiscale in enumerate(images):
                if name in multiscale.paths:
                    return self._of_multiscale(store, group, images, (number, multiscale.paths.index(name)))
            if depth == len(parts) - 1 and dims_of(array) is not None:
                near = {n: a for n, a in members_of(group) if dims_of(a) is not None}
                return replace(self._of_dataset(store, group, near, name), datasets=datasets)
        pixels = StoredArray.of(store, array, self.sig_dims)
        if not array.ndim:
            raise HeaderError(f"{place_of(store, array.path)}: a single number is no image")
        attrs = dict(array.attrs)
        names = dims_of(array) or attrs.get("axes")
        if isinstance(names, list | tuple | str) and len(names) == array.ndim:
            axes = self._letters(store, [str(n.get("name") if isinstance(n, dict) else n) for n in names])
        else:
            axes = self._given_metadata.get("axes") or array_axes(array.ndim, self.sig_dims)
        image = Image(
            pixels,
            axes,
            calibration=spacing_in(axes, attrs),
            header={"array": array.path, "attributes": clean_attrs(attrs)},
            datasets=datasets,
        )
        return self._shaped(store, image)

    def _letters(self, store: StoreName, names: list[str]) -> str:
        letters, guessed = axis_letters(names, self.sig_dims)
        if guessed and not self._given_metadata.get("axes"):
            warnings.warn(
                f"{store.uri}: axes {', '.join(guessed)} of {', '.join(names)} are called {letters!r}: name them with "
                'metadata={"axes": "..."}',
                EmioWarning,
                stacklevel=6,
            )
        return letters

    # Groups of xarray -------------------------------------------------------------------------------------------

    def _of_dataset(self, store: StoreName, group: Any, variables: dict[str, Any], main: str | None = None) -> Image:
        """Describe a group whose arrays have named dimensions: variables and their coordinates."""
        attrs = dict(group.attrs)
        beside = coordinate_names(attrs, variables)
        if main is None:
            main = main_variable(store, {n: a for n, a in variables.items() if n not in beside})
        else:  # asked for by name, so the other pictures are not wanted
            variables = {n: a for n, a in variables.items() if n in beside or n == main}
        array = variables.pop(main)
        names = dims_of(array) or ()
        letters = dict(zip(names, self._letters(store, list(names)), strict=True))
        ours = attrs.pop(KEY, None)
        times = ours.get(TIMES) if isinstance(ours, Mapping) else None
        sizes = dict(zip(names, array.shape, strict=True))
        parts = Parts(store, letters, sizes, times if isinstance(times, Mapping) else {})
        for name, other in variables.items():
            parts.add(name, other, name in beside)
        account = Record.parse(ours)
        told = attrs["metadata"].get("fileheader") if isinstance(attrs.get("metadata"), dict) else None
        header: Any = told if isinstance(told, dict) else {"attributes": clean_attrs(attrs)}
        if "".join(letters.values()) != "".join(names):
            header = {**header, "dims": list(names)}
        image = Image(
            StoredArray.of(store, array, self.sig_dims),
            "".join(letters[name] for name in names),
            calibration=parts.calibration,
            header=header,
            acquisition=attrs["acquisition"] if isinstance(attrs.get("acquisition"), dict) else {},
            variables=parts.variables,
            facts=parts.facts,
            scalars=parts.scalars,
            attrs=clean_attrs(dict(array.attrs)),
            dataset_attrs={k: v for k, v in clean_attrs(attrs).items() if k not in OF_DATASET},
            outer=(account.outer if account else None) or {},
        )
        return self._shaped(store, image)

    # OME-Zarr ---------------------------------------------------------------------------------------------------

    def _of_collection(self, store: StoreName, group: Any) -> Image:
        """Describe one image of a folder that bioformats2raw wrote: numbered groups."""
        listed: Any = None
        with contextlib.suppress(EmioError):
            listed = _ngff.section(dict(store.node(joined(group.path, "OME")).attrs)).get("series")
        if not listed:
            listed = sorted((name for name, _ in groups_in(group) if name.isdigit()), key=int) or ["0"]
        series = self._series(store, len(listed))
        chosen = store.node(joined(group.path, str(listed[series])))
        images = _ngff.multiscales(place_of(store, chosen.path), _ngff.section(dict(chosen.attrs)))
        if not images:
            raise HeaderError(f"{place_of(store, chosen.path)}: holds no OME-Zarr image")
        datasets = tuple({"index": k, "name": str(name)} for k, name in enumerate(listed))
        return replace(self._of_multiscale(store, chosen, images, (0, self.level)), datasets=datasets)

    def _series(self, store: StoreName, count: int) -> int:
        series = self.series or 0
        if series >= count:
            raise ArgumentError(f"{store.uri}: there is no series={series}: the store holds {count}, counted from 0")
        return series

    def _of_multiscale(
        self,
        store: StoreName,
        group: Any,
        images: tuple[_ngff.Multiscale, ...],
        chosen: tuple[int, int] | None = None,
    ) -> Image:
        """Describe one level of an OME-Zarr image, and its labels."""
        series, level = chosen or (self._series(store, len(images)), self.level)
        ome, image = _ngff.section(dict(group.attrs)), images[series]
        where = place_of(store, group.path)
        if level >= len(image.paths):
            raise ArgumentError(f"{where}: there is no level={level}: levels 0 to {len(image.paths) - 1} exist")
        try:
            array = store.node(joined(group.path, image.paths[level]))
        except MissingFileError as error:
            raise HeaderError(f"{where}: names an array {image.paths[level]!r} that is not there") from error
        if getattr(array, "ndim", None) != len(image.axes):
            raise HeaderError(
                f"{where}: {image.paths[level]!r} should be an array of {len(image.axes)} axes {image.axes!r}"
            )
        pixels = StoredArray.of(store, array, self.sig_dims)
        calibration = image.calibration(where, level)
        if image.channel:
            names = _ngff.channel_names(ome, pixels.shape[image.axes.index(image.channel)])
            calibration |= {image.channel: names} if names else {}
        ours = Record.parse(group.attrs.get(KEY)) if (series, level) == (0, 0) else None
        described = Image(
            pixels,
            image.axes,
            calibration=calibration,
            header={**{key: value for key, value in clean_attrs(ome).items() if key != KEY}, "level": level},
            acquisition={"title": image.name} if image.name else {},
            variables=self._labels(store, group, dict(zip(image.axes, pixels.shape, strict=True)), level),
            datasets=series_listing(store, group, images) if len(images) > 1 else (),
        )
        return self._shaped(store, ours.applied(described) if ours else described)

    def _labels(self, store: StoreName, group: Any, sizes: dict[str, int], level: int) -> dict[str, Variable]:
        """Describe the label images that have the image's own pixels."""
        try:
            folder = store.node(joined(group.path, "labels"))
        except EmioError:
            return {}
        listed = _ngff.section(dict(folder.attrs)).get("labels")
        found: dict[str, Variable] = {}
        for name in listed if isinstance(listed, list) else ():
            with contextlib.suppress(EmioError):
                label = store.node(joined(folder.path, str(name)))
                scales = _ngff.multiscales(place_of(store, label.path), _ngff.section(dict(label.attrs)))
                array = store.node(joined(label.path, scales[0].paths[level] if level < len(scales[0].paths) else "?"))
                variable = Variable(StoredArray.of(store, array, self.sig_dims), scales[0].axes)
                if not variable.sizes.items() <= sizes.items():
                    continue
                usual = _ngff.LABEL + str(name)
                ours = Record.parse(label.attrs.get(KEY))
                if ours:
                    attrs = arguments.mapping("attrs", ours.account.get("attrs"))
                    variable = replace(variable, attrs=attrs).arranged(ours.axes)
                    usual = str(ours.account.get("name") or usual)
                found[usual if usual not in ("image", *found) else _ngff.LABEL + str(name)] = variable
        return found

    # Shapes -----------------------------------------------------------------------------------------------------

    def _shaped(self, store: StoreName, image: Image) -> Image:
        """Arrange the frames as the user likes; what was known along the old navigation axes is dropped."""
        pixels = image.pixels
        depth = pixels.ndim - pixels.frame_ndim
        nav, sig = pixels.shape[:depth], pixels.shape[depth:]
        if self.sig_shape not in (None, sig):
            raise ArgumentError(f"{store.uri}: sig_shape={self.sig_shape} must be {sig}, as the chunks are cut")
        if self.nav_shape in (None, nav) and not self.sync_offset:
            return image
        if not depth:
            raise ArgumentError(f"{store.uri}: a single frame of {sig} cannot be arranged by nav_shape or sync_offset")
        navigation = navigate(store.uri, math.prod(nav), nav, nav_shape=self.nav_shape, sync_offset=self.sync_offset)
        return image.along(navigation, self._given_metadata.get("axes"))
