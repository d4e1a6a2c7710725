"""Zarr stores: groups of xarray, bare arrays, groups of arrays, OME-Zarr. A Dataset is written as a group.

Layout and quirks: docs/formats/zarr.md.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import arguments
from ..axes import Calibration, Scale, array_axes, axis_letters, even_or_labels
from ..errors import ArgumentError, EmioError, EmioWarning, HeaderError, MissingFileError
from ..frames.chunked_store import METADATA, StoredArray, StoreName, remote_zip_root, zip_root
from ..frames.files import File
from ..frames.held import Held
from ..frames.navigation import navigate
from ..frames.picked import Picked
from ..frames.storage import Storage
from ..image import Image, Variable
from ..source import ImageSource
from . import _ngff

if TYPE_CHECKING:
    import xarray as xr

ZIP = b"PK\x03\x04"
EXPECTED = "zarr.json, .zgroup or .zarray"
DEEPEST = 32
MOST_LISTED = 20
MOST_HELD = 16 << 20
FREE_LETTERS = "itczyxvuwsabdefghjklmnopqr"
CHUNK_BYTES = 4 << 20


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
        where = _where(store, node.path)
        _ngff.refuse_plates(where, ome)
        if ome.get("bioformats2raw.layout") is not None and not ome.get("multiscales"):
            return self._of_collection(store, node)
        images = _ngff.multiscales(where, ome)
        if images:
            return self._of_multiscale(store, node, images)
        variables = {name: array for name, array in _members(node) if _dims(array) is not None}
        if any(array.ndim for array in variables.values()):
            return self._of_dataset(store, node, variables)
        return self._of_array(store, *_largest(store, node))

    def _node(self, store: StoreName, inside: str) -> Any:
        wanted = "/".join(part.strip("/") for part in (inside, self.ds_path or "") if part.strip("/"))
        try:
            return store.node(wanted)
        except MissingFileError:
            arrays = _listed(_tree(store.node(inside)))
            raise ArgumentError(f"{store.uri}: there is no {self.ds_path!r}; the store holds {arrays}") from None

    # Bare arrays ------------------------------------------------------------------------------------------------

    def _of_array(self, store: StoreName, array: Any, datasets: tuple[dict[str, Any], ...] = ()) -> Image:
        """Describe one array, with what the groups around it know of it."""
        parts = array.path.strip("/").split("/") if array.path.strip("/") else []
        for depth in reversed(range(len(parts))):
            group, name = store.node("/".join(parts[:depth])), "/".join(parts[depth:])
            images = _ngff.multiscales(_where(store, group.path), _ngff.section(dict(group.attrs)))
            for number, multiscale in enumerate(images):
                if name in multiscale.paths:
                    return self._of_multiscale(store, group, images, (number, multiscale.paths.index(name)))
            if depth == len(parts) - 1 and _dims(array) is not None:
                near = {n: a for n, a in _members(group) if _dims(a) is not None}
                return replace(self._of_dataset(store, group, near, name), datasets=datasets)
        pixels = StoredArray.of(store, array, self.sig_dims)
        if not array.ndim:
            raise HeaderError(f"{_where(store, array.path)}: a single number is no image")
        attrs = dict(array.attrs)
        names = _dims(array) or attrs.get("axes")
        if isinstance(names, list | tuple | str) and len(names) == array.ndim:
            axes = self._letters(store, [str(n.get("name") if isinstance(n, dict) else n) for n in names])
        else:
            axes = self._given_metadata.get("axes") or array_axes(array.ndim, self.sig_dims)
        image = Image(
            pixels,
            axes,
            calibration=_spacing(axes, attrs),
            header={"array": array.path, "attributes": _clean(attrs)},
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
        beside = _coordinate_names(attrs, variables)
        if main is None:
            main = _main(store, {n: a for n, a in variables.items() if n not in beside})
        else:  # asked for by name, so the other pictures are not wanted
            variables = {n: a for n, a in variables.items() if n in beside or n == main}
        array = variables.pop(main)
        names = _dims(array) or ()
        letters = dict(zip(names, self._letters(store, list(names)), strict=True))
        parts = _Parts(store, letters, dict(zip(names, array.shape, strict=True)))
        for name, other in variables.items():
            parts.add(name, other, name in beside)
        ours = attrs["metadata"].get("fileheader") if isinstance(attrs.get("metadata"), dict) else None
        header = ours if isinstance(ours, dict) and "format" in attrs else {"attributes": _clean(attrs)}
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
            attrs=_clean(dict(array.attrs)),
        )
        return self._shaped(store, image)

    # OME-Zarr ---------------------------------------------------------------------------------------------------

    def _of_collection(self, store: StoreName, group: Any) -> Image:
        """Describe one image of a folder that bioformats2raw wrote: numbered groups."""
        listed: Any = None
        with contextlib.suppress(EmioError):
            listed = _ngff.section(dict(store.node(_join(group.path, "OME")).attrs)).get("series")
        if not listed:
            listed = sorted((name for name, _ in _groups(group) if name.isdigit()), key=int) or ["0"]
        series = self._series(store, len(listed))
        chosen = store.node(_join(group.path, str(listed[series])))
        images = _ngff.multiscales(_where(store, chosen.path), _ngff.section(dict(chosen.attrs)))
        if not images:
            raise HeaderError(f"{_where(store, chosen.path)}: holds no OME-Zarr image")
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
        where = _where(store, group.path)
        if level >= len(image.paths):
            raise ArgumentError(f"{where}: there is no level={level}: levels 0 to {len(image.paths) - 1} exist")
        try:
            array = store.node(_join(group.path, image.paths[level]))
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
        described = Image(
            pixels,
            image.axes,
            calibration=calibration,
            header={**_clean(ome), "level": level},
            acquisition={"title": image.name} if image.name else {},
            variables=self._labels(store, group, dict(zip(image.axes, pixels.shape, strict=True)), level),
            datasets=_series_listed(store, group, images) if len(images) > 1 else (),
        )
        return self._shaped(store, described)

    def _labels(self, store: StoreName, group: Any, sizes: dict[str, int], level: int) -> dict[str, Variable]:
        """Describe the label images that have the image's own pixels."""
        try:
            folder = store.node(_join(group.path, "labels"))
        except EmioError:
            return {}
        listed = _ngff.section(dict(folder.attrs)).get("labels")
        found: dict[str, Variable] = {}
        for name in listed if isinstance(listed, list) else ():
            with contextlib.suppress(EmioError):
                label = store.node(_join(folder.path, str(name)))
                scales = _ngff.multiscales(_where(store, label.path), _ngff.section(dict(label.attrs)))
                array = store.node(_join(label.path, scales[0].paths[level] if level < len(scales[0].paths) else "?"))
                pixels = StoredArray.of(store, array, self.sig_dims)
                if all(sizes.get(a) == n for a, n in zip(scales[0].axes, pixels.shape, strict=True)):
                    found[f"label_{name}"] = Variable(pixels, scales[0].axes)
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
        count = math.prod(nav)
        navigation = navigate(store.uri, count, nav, nav_shape=self.nav_shape, sync_offset=self.sync_offset)
        points = navigation.frames()
        points[(points < 0) | (points >= count)] = -1
        signal = image.axes[depth:]
        same = navigation.shape == nav
        if same or len(navigation.shape) == depth:
            axes = image.axes
        else:
            axes = self._given_metadata.get("axes") or array_axes(points.ndim + len(signal), len(signal))
        renamed = dict(zip(signal, axes[points.ndim :], strict=True))
        kept = {renamed[a]: c for a, c in image.calibration.items() if a in signal}
        return replace(
            image,
            pixels=Picked(pixels, points),
            axes=axes,
            frame_axes=axes[points.ndim :],
            calibration=image.calibration if same else kept,
            variables={},
            facts={},
        )


# Finding stores ------------------------------------------------------------------------------------------------------


def is_zarr(file: File) -> bool:
    """Whether a folder, or a zip file, holds Zarr metadata."""
    if file.extension == ".zspy":  # Zarr with a convention of its own
        return False
    if file.is_folder or (file.remote and not file.exists()):
        return _has_metadata(file)
    return file.read(0, 4) == ZIP and _zip_root(file) is not None


def _has_metadata(folder: File) -> bool:
    return any(folder.within(name).exists() for name in METADATA)


def _zip_root(file: File) -> str | None:
    return remote_zip_root(file) if file.remote else zip_root(file.uri, file.stamp)


def located(file: File) -> tuple[StoreName, str]:
    """Find the root of the store that a name points into, and the path in it.

    Raises
    ------
    MissingFileError, HeaderError
        If there is nothing, or no Zarr store.
    """
    if not file.is_folder and not (file.remote and _has_metadata(file)):
        root = _zip_root(file) if file.read(0, 4) == ZIP else None
        if root is None:
            file.size  # noqa: B018  says if it is missing
            raise HeaderError(f"{file}: is no Zarr store: expected a folder, or a .zip file, with {EXPECTED} in it")
        if file.remote:
            return StoreName(f"zip://::{file.uri}", options=file.storage_options), root
        return StoreName(file.uri, zipped=True), root
    if not _has_metadata(file):
        raise HeaderError(f"{file}: no Zarr metadata in this folder: expected {EXPECTED}")
    root_folder = file
    inside: list[str] = []
    while len(inside) < DEEPEST and (parent := root_folder.parent) and _is_group(parent):
        inside.insert(0, root_folder.name)
        root_folder = parent
    return StoreName(root_folder.uri, options=file.storage_options), "/".join(inside)


def _is_group(folder: File) -> bool:
    return folder.within(".zgroup").exists() or folder.within("zarr.json").exists()


# What is in a group --------------------------------------------------------------------------------------------------


def _where(store: StoreName, path: str) -> str:
    return f"{store.uri}: {path}" if path.strip("/") else store.uri


def _join(*parts: str) -> str:
    return "/".join(part.strip("/") for part in parts if part.strip("/"))


def _members(group: Any) -> list[tuple[str, Any]]:
    with StoreName(str(group.store_path)).in_our_words(""):
        return sorted(group.arrays())


def _groups(group: Any) -> list[tuple[str, Any]]:
    with StoreName(str(group.store_path)).in_our_words(""):
        return sorted(group.groups())


def _tree(group: Any) -> list[Any]:
    """Return all arrays below a group, in the order of their paths."""
    if hasattr(group, "shape"):
        return [group]
    with StoreName(str(group.store_path)).in_our_words(""):
        members = group.members(max_depth=None)
        return [node for _, node in sorted(members, key=lambda member: member[0]) if hasattr(node, "shape")]


def _listed(arrays: list[Any]) -> str:
    """Say what there is, for messages."""
    lines = [f"{array.path or '/'} {array.shape} {array.dtype}" for array in arrays[:MOST_LISTED]]
    rest = [f"and {len(arrays) - MOST_LISTED} more"] if len(arrays) > MOST_LISTED else []
    return "; ".join([*lines, *rest]) or "no arrays that could be listed"


def _dims(array: Any) -> tuple[str, ...] | None:
    """Names of the dimensions of an array, if it has them: version 3 has a place for them, xarray made one in 2."""
    names = getattr(array.metadata, "dimension_names", None) or dict(array.attrs).get("_ARRAY_DIMENSIONS")
    if names is None and array.metadata.zarr_format == 3 and not array.ndim:
        names = ()
    if names is None or len(names) != array.ndim or any(not isinstance(n, str) for n in names):
        return None
    return tuple(names)


def _largest(store: StoreName, group: Any) -> tuple[Any, tuple[dict[str, Any], ...]]:
    """Return the only array of a tree, or the one that is larger than all others together; and a list of all."""
    arrays = [array for array in _tree(group) if array.ndim]
    if not arrays:
        raise HeaderError(
            f"{_where(store, group.path)}: no arrays were found in this group; where folders cannot be listed "
            "(web servers), pass ds_path="
        )
    arrays.sort(key=lambda array: -array.nbytes)
    if len(arrays) > 1:
        if arrays[0].nbytes <= sum(array.nbytes for array in arrays[1:]):
            raise ArgumentError(f"{store.uri}: which array? Pass ds_path=; there are {_listed(arrays)}")
        warnings.warn(
            f"{store.uri}: {arrays[0].path} is read; there are also {_listed(arrays[1:])}", EmioWarning, stacklevel=5
        )
    listed = [{"index": k, "name": a.path, "shape": list(a.shape), "dtype": str(a.dtype)} for k, a in enumerate(arrays)]
    return arrays[0], tuple(listed)


def _series_listed(store: StoreName, group: Any, images: tuple[_ngff.Multiscale, ...]) -> tuple[dict[str, Any], ...]:
    listed = []
    for k, image in enumerate(images):
        array = store.node(_join(group.path, image.paths[0]))
        listed.append({"index": k, "name": image.name, "shape": list(array.shape), "dtype": str(array.dtype)})
    return tuple(listed)


def _coordinate_names(attrs: dict[str, Any], variables: dict[str, Any]) -> set[str]:
    """Which variables are coordinates: those that others name so, and those called like their only dimension."""
    named = " ".join(str(dict(a.attrs).get("coordinates", "")) for a in variables.values())
    named += " " + str(attrs.get("coordinates", ""))
    return {n for n, a in variables.items() if n in named.split() or _dims(a) == (n,)}


def _main(store: StoreName, pictures: dict[str, Any]) -> str:
    """Name of the image: `image`, or else the variable of most dimensions, or else of most bytes."""
    if "image" in pictures:
        return "image"
    candidates = {n: a for n, a in pictures.items() if a.ndim and np.dtype(a.dtype).kind in "biufc"}
    if not candidates:
        raise HeaderError(f"{store.uri}: holds no image, only {_listed(list(pictures.values()))}")
    return max(candidates, key=lambda n: (candidates[n].ndim, candidates[n].nbytes))


def _spacing(axes: str, attrs: dict[str, Any]) -> dict[str, Calibration]:
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


def _clean(attrs: dict[str, Any]) -> dict[str, Any]:
    """Attributes without those that say how the array is stored."""
    return {k: v for k, v in attrs.items() if k not in ("_ARRAY_DIMENSIONS", "_FillValue", "coordinates")}


@dataclass
class _Parts:
    """What lies beside the image in a group, put into its place one by one."""

    store: StoreName
    letters: dict[str, str]
    sizes: dict[str, int]
    calibration: dict[str, Calibration] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    facts: dict[str, Variable] = field(default_factory=dict)
    scalars: dict[str, tuple[Any, str | None]] = field(default_factory=dict)

    def add(self, name: str, array: Any, coordinate: bool) -> None:
        """Take a variable or a coordinate; what does not go with the image is left out."""
        dims = _dims(array)
        if (
            dims is None
            or 0 in array.shape
            or any(self.sizes.get(d, n) != n for d, n in zip(dims, array.shape, strict=True))
        ):
            return
        if coordinate and dims == (name,):
            if name in self.letters:
                values, units, _ = _coordinate(self.store, array)
                self.calibration[self.letters[name]] = even_or_labels(values, units)
            return
        if coordinate and not dims:
            values, units, _ = _coordinate(self.store, array)
            self.scalars[name] = (values[()], units)
            return
        if coordinate and not set(dims) <= set(self.letters):
            return
        axes = self._axes(dims)
        if np.dtype(array.dtype).kind in "biufc" and not (coordinate and _is_time(array)):
            found = Variable(StoredArray.of(self.store, array), axes, _clean(dict(array.attrs)))
        elif coordinate or array.nbytes <= MOST_HELD:
            values, units, attrs = _coordinate(self.store, array)
            found = Variable(Held(values), axes, {**attrs, **({"units": units} if units else {})})
        else:
            warnings.warn(f"{self.store.uri}: {name} of type {array.dtype} is left out", EmioWarning, stacklevel=6)
            return
        (self.facts if coordinate else self.variables)[name] = found

    def _axes(self, dims: tuple[str, ...]) -> str:
        """Letters of dimensions: those of the image, and free ones for others."""
        for name in dims:
            if name not in self.letters:
                wanted, _ = axis_letters([name])
                taken = self.letters.values()
                self.letters[name] = next(a for a in (*wanted, *FREE_LETTERS) if a not in taken)
        return "".join(self.letters[name] for name in dims)


def _is_time(array: Any) -> bool:
    attrs = dict(array.attrs)
    return " since " in str(attrs.get("units", "")) or str(attrs.get("dtype", "")).startswith("timedelta64")


def _coordinate(store: StoreName, array: Any) -> tuple[np.ndarray, str | None, dict[str, Any]]:
    """Values of a coordinate, its units and its other attributes; times and text are decoded."""
    with store.in_our_words(array.path):
        values = np.asarray(array[...])
    attrs = _clean(dict(array.attrs))
    if values.dtype.kind in "OT":
        values = np.asarray(values, dtype=str)
    if _is_time(array):
        import xarray as xr

        variable = xr.Variable(_dims(array) or (), values, attrs)
        decoded = xr.conventions.decode_cf_variable(array.basename, variable, mask_and_scale=False)
        values, attrs = np.asarray(decoded.values), dict(decoded.attrs)
    units = attrs.pop("units", None)
    return values, None if units is None else str(units), attrs


# Writing -------------------------------------------------------------------------------------------------------------


def save(dataset: xr.Dataset, path: str, *, compress: bool | None = None) -> None:
    """Write a Dataset as a Zarr v3 group with consolidated metadata; lazy pixels chunk by chunk.

    Parameters
    ----------
    dataset
        Any variables; attributes are stored as JSON.
    path
        Folder to create.
    compress
        `None`: zstd; `True`: Blosc with zstd and bit shuffling, better on sparse detector data; `False`: none.

    Raises
    ------
    ArgumentError
        If a variable holds Python objects.
    """
    clean = dataset.copy()
    clean.attrs = arguments.plain(dataset.attrs)
    for name, variable in clean.variables.items():
        if variable.dtype.kind not in ("biufc" if name in clean.data_vars else "biufcUSMm"):
            raise ArgumentError(f"variable {name!r} holds {variable.dtype}, which are no pixels that Zarr can store")
        variable.encoding = {}
        variable.attrs = arguments.plain(variable.attrs)
    encoding: dict[Any, dict[str, Any]] = {}
    for name, array in clean.data_vars.items():
        clean[name] = _evenly_chunked(array)
        encoding[name] = {"chunks": _chunk_shape(clean[name]), **_compressors(array, compress)}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        clean.to_zarr(path, mode="w-", zarr_format=3, consolidated=True, encoding=encoding)


def _evenly_chunked(variable: xr.DataArray) -> xr.DataArray:
    """Zarr wants equal chunks, but for the last ones."""
    if variable.chunks is None or all(len(set(c[:-1])) <= 1 and c[-1] <= c[0] for c in variable.chunks):
        return variable
    return variable.chunk(dict(zip(variable.dims, (c[0] for c in variable.chunks), strict=True)))


def _chunk_shape(variable: xr.DataArray) -> tuple[int, ...]:
    """Dask chunks as they are; of arrays in memory, as many whole frames as make a few MiB."""
    if variable.chunks is not None:
        return tuple(c[0] for c in variable.chunks)
    shape = list(variable.shape)
    for axis in range(max(0, len(shape) - 2)):
        rest = math.prod(shape[axis + 1 :]) * variable.dtype.itemsize
        shape[axis] = min(shape[axis], CHUNK_BYTES // max(1, rest))
    return tuple(max(1, size) for size in shape)


def _compressors(variable: xr.DataArray, compress: bool | None) -> dict[str, Any]:
    from zarr.codecs import BloscCodec, BloscShuffle

    if compress is None:
        return {}
    if not compress:
        return {"compressors": None}
    shuffle = BloscShuffle.bitshuffle if variable.dtype.kind in "iub" else BloscShuffle.shuffle
    return {"compressors": [BloscCodec(cname="zstd", clevel=5, shuffle=shuffle)]}
