"""`ImageSource`: the base of every reader, an intake driver that gives labelled xarray data."""

from __future__ import annotations

import copy
import functools
import inspect
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from intake.source.base import DataSource, Schema

from . import arguments
from .axes import check_axes
from .errors import ArgumentError, MissingFileError, PartitionError, UnknownArgumentError
from .frames.corrections import Corrections
from .frames.files import File, normalise
from .frames.lazy import load
from .frames.picked import Picked
from .frames.pixels import Pixels, whole
from .frames.storage import Storage
from .frames.tiles import TILE_BYTES, frame_box, tiles
from .frames.views import selected
from .image import Image, Variable

if TYPE_CHECKING:
    import xarray as xr


class ImageSource(DataSource):
    """A detector file as an intake source.

    A format is a subclass that adds its own arguments and offers `parse`, which turns a file's header into an
    `Image`. Everything else is done here: laziness, calibration by the user, partitions, what catalogs need.
    Every argument of a source is kept, normalised, as an attribute of the same name.

    Parameters
    ----------
    uri
        Path, `pathlib.Path` or fsspec URL.
    chunks
        ``"auto"``, ``"frame"``, a number, a tuple, ``{axis: size}``, or `None` (load).
    nav_shape, sig_shape
        Override the navigation or signal shape that the file says.
    sync_offset
        Positive: so many frames are skipped at the start; negative: so many blank ones are inserted.
    io_backend
        ``"mmap"`` (default on local files), ``"buffered"`` or ``"direct"``.
    storage_options
        For fsspec.
    output_axis_order
        Order of the axes; those left out follow behind. `None` keeps the file's.
    corrections
        ``"auto"``: dark, gain and dead pixels that belong to the data are applied, faults with dead pixels are
        warnings; `True`: the same, every fault is an error; `False`: stored pixels; a mapping with ``dark``, ``gain``
        (arrays, or files that we read), ``excluded_pixels`` (boolean mask, or list of (row, column)) and
        ``allow_empty`` replaces them. Corrected pixels are float32 (float64 for more than 16 bits). References have
        the shape of a stored frame.
    partition
        Load only this part: number, slice or list along the first axis, or ``{axis: index}``.
    metadata
        ``axes`` renames the axes; ``spacing``, ``spacing_units`` and ``coords`` (by axis) win over the file.
        Further entries are kept.
    """

    container = "xarray"
    partition_access = True
    version = "1"
    name: str = "emio"
    format_name: ClassVar[str] = ""
    held: Any = None
    """What is read, if it is no file: an array or a store in memory. `uri` then is what messages call it."""
    _captured_init_args: tuple[Any, ...]
    _captured_init_kwargs: dict[str, Any]

    def __init__(
        self,
        uri: Any,
        *,
        chunks: Any = "auto",
        nav_shape: Any = None,
        sig_shape: Any = None,
        sync_offset: Any = 0,
        io_backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        output_axis_order: str | None = None,
        corrections: Any = "auto",
        partition: Any = None,
        metadata: Mapping[str, Any] | None = None,
        **unknown: Any,
    ):
        if unknown:
            allowed = ", ".join(list(self.defaults())[1:])
            raise UnknownArgumentError(
                f"{uri}: {self.format_name} files have no argument {min(unknown)!r}, only {allowed}"
            )
        self._own_captured_arguments()
        super().__init__(
            storage_options=arguments.mapping("storage_options", storage_options),
            metadata=arguments.plain(arguments.mapping("metadata", metadata)),
        )
        self.uri = normalise(uri) if self.held is None else uri
        self.chunks = arguments.chunks(chunks)
        self.nav_shape = arguments.shape("nav_shape", nav_shape)
        self.sig_shape = arguments.shape("sig_shape", sig_shape)
        self.sync_offset = arguments.number("sync_offset", sync_offset or 0)
        self.io_backend = io_backend
        self.output_axis_order = output_axis_order and check_axes(output_axis_order)
        self.corrections = arguments.corrections(corrections)
        self.partition = arguments.partition(partition)
        self._given_metadata = dict(self.metadata)
        self.file: File | None = None
        self._image: Image | None = None

    # What a format offers ---------------------------------------------------------------------------------------

    def parse(self, file: File) -> Image:
        """Read the header of a file and describe the image; pixels are not touched.

        Raises
        ------
        EmioError
            If the file is not of this format, broken, or does not fit the arguments.
        """
        raise NotImplementedError

    # What users want --------------------------------------------------------------------------------------------

    @property
    def image(self) -> Image:
        """Description of the image: as parsed, with the user's calibration, order of axes and partition. Read once."""
        if self._image is None:
            self.file = self.file or File(self.uri, self.storage_options)
            parsed = self.parse(self.file)
            corrected = parsed.corrected(self._corrections_of(parsed))
            labelled = corrected.with_metadata(self._given_metadata).arranged(self.order_of(parsed))
            self._image = labelled.part(self.partition)
        return self._image

    def order_of(self, image: Image) -> str | None:
        """Order in which the axes of an image are presented; `None`: its own."""
        return self.output_axis_order

    @property
    def all_files(self) -> tuple[str, ...]:
        """Names of all files that the data set is made of: those with pixels, then headers and others that were read.

        Examples
        --------
        >>> import intake, os
        >>> from intake_emio.cli.demo import small_scan
        >>> [os.path.basename(name) for name in intake.open_emio(small_scan()).all_files]
        ['scan.blo']
        """
        pixels = self.image.files
        read = self.file.seen if self.file is not None else ()
        return (*pixels, *sorted(set(read) - set(pixels)))

    @property
    def own_corrections(self) -> bool:
        """Whether corrections that belong to the data are to be applied: if not, nobody opens the files they are in."""
        return self.corrections is True or isinstance(self.corrections, str)

    def _corrections_of(self, image: Image) -> Corrections | None:
        """What to correct: what the user says, or else what belongs to the data."""
        frame = image.stored_frame or image.pixels.shape[image.pixels.ndim - image.pixels.frame_ndim :]
        if isinstance(self.corrections, Mapping):
            return Corrections.given(self.corrections, frame, self._read_reference)
        if not self.own_corrections or not image.corrections:
            return None
        return image.corrections.checked(frame, self.uri, strict=self.corrections is True)

    def _read_reference(self, name: str) -> Pixels:
        """Open a file of reference values: a frame, or a stack of one."""
        from .detection import open_source
        from .formats._mrc_header import first_plane

        file = File(normalise(name), self.storage_options)
        if file.extension == ".mrc":
            return first_plane(file, Storage.choose(file.uri, None, self.storage_options))
        pixels = open_source(file.uri, storage_options=self.storage_options, corrections=False).image.pixels
        depth = pixels.ndim - pixels.frame_ndim
        return selected(pixels, [0 if k < depth and n == 1 else slice(0, n, 1) for k, n in enumerate(pixels.shape)])

    def to_dask(self) -> xr.Dataset:
        """Return the Dataset with dask arrays; no pixel is read."""
        return self._dataset(self.image, "auto" if self.chunks is None else self.chunks)

    def read(self) -> xr.Dataset:
        """Return the Dataset in memory, read in parallel."""
        return self._dataset(self.image, None)

    def to_indexed(self) -> xr.Dataset:
        """Return the Dataset with xarray's own lazy arrays, which are read where they are indexed, without dask.

        Examples
        --------
        >>> import intake
        >>> from intake_emio.cli.demo import small_scan
        >>> intake.open_emio_blo(small_scan()).to_indexed().image.encoding
        {'preferred_chunks': {'y': 8, 'x': 8, 'v': 32, 'u': 32}}
        """
        from . import accessor  # noqa: F401  gives Datasets their `.emio`
        from .indexed import indexed

        image = self.image

        def array(name: str, variable: Variable) -> Any:
            return load(variable.pixels) if variable.in_memory else indexed(variable.pixels)

        dataset = image.labelled(array, self.uri, self.format_name, self._given_metadata)
        for name, variable in {image.name: image.image, **image.variables, **image.facts}.items():
            cuts = image.cuts(variable, self.chunks)
            dataset[name].encoding["preferred_chunks"] = dict(zip(variable.axes, cuts, strict=True))
        return dataset

    def _dataset(self, image: Image, chunks: Any) -> xr.Dataset:
        from . import accessor  # noqa: F401  gives Datasets their `.emio`

        self._load_metadata()
        return image.to_dataset(self.uri, self.format_name, chunks=chunks, metadata=self._given_metadata)

    def diagnostics(self) -> dict[str, Any]:
        """Say how the pixels are read: files, bytes, layout, storage, chunks.

        Examples
        --------
        >>> import intake
        >>> from intake_emio.cli.demo import small_scan
        >>> intake.open_emio(small_scan()).diagnostics()["backend"]
        'mmap'
        """
        self._load_metadata()
        pixels = self.image.image.pixels
        files = list(dict.fromkeys(pixels.files()))
        grid = self._grid()
        return {
            "files": files[:8],
            "number of files": len(files),
            "layout": pixels.layout(),
            "backend": self.storage().backend,
            "views": pixels.is_view,
            "shape": list(pixels.shape),
            "dtype": str(pixels.dtype),
            "bytes in memory": pixels.nbytes,
            "chunks": [sizes[0] for sizes in grid],
            "number of chunks": self.npartitions,
            "bytes of a chunk": int(np.prod([sizes[0] for sizes in grid], dtype=int)) * pixels.dtype.itemsize,
        }

    def iter_tiles(
        self, nbytes: int = TILE_BYTES, *, dtype: np.typing.DTypeLike | None = None, roi: Any = None
    ) -> Iterator[tuple[dict[str, slice], np.ndarray]]:
        """Yield the frames in runs that stay in the processor's cache, without dask.

        Parameters
        ----------
        nbytes
            About how many bytes of pixels at a time; at least one frame.
        dtype
            To convert to.
        roi
            Boolean array over the navigation axes: only frames where it is True, counted by axis ``i``.

        Yields
        ------
        place : dict of str to slice
            Where the frames lie, by navigation axis.
        pixels : numpy.ndarray
            Navigation axes, then those of the frame. Do not change them: they may be a view of the file.

        Examples
        --------
        >>> import intake
        >>> from intake_emio.cli.demo import small_scan
        >>> source = intake.open_emio(small_scan())
        >>> sum(int(pixels.sum()) for _, pixels in source.iter_tiles()) == int(source.read().image.sum())
        True
        """
        pixels, axes = self.image.pixels, self.image.axes
        if roi is not None:
            points = np.flatnonzero(arguments.region(roi, pixels.shape[: pixels.ndim - pixels.frame_ndim]))
            pixels, axes = Picked(pixels, points), "i"
        depth = pixels.ndim - pixels.frame_ndim
        for tile in tiles(pixels, whole(pixels.shape[:depth]), nbytes):
            read = pixels.read((*tile, *frame_box(pixels)))
            yield dict(zip(axes[:depth], tile, strict=True)), read if dtype is None else read.astype(dtype, copy=False)

    def storage(self) -> Storage:
        """How this source's bytes are fetched."""
        return Storage.choose(self.uri, self.io_backend, self.storage_options)

    # What intake wants ------------------------------------------------------------------------------------------

    def _get_schema(self) -> Schema:
        summary = self.image.summary()
        return Schema(
            dtype=summary["dtype"],
            shape=tuple(summary["shape"]),
            npartitions=int(np.prod([len(sizes) for sizes in self._grid()], dtype=int)),
            extra_metadata=summary,
        )

    def _grid(self) -> tuple[tuple[int, ...], ...]:
        """Sizes of the chunks of the image along each axis: these are the partitions."""
        from dask.array.core import normalize_chunks

        image = self.image.image
        if self.chunks is None:
            return tuple((n,) for n in image.pixels.shape)
        return normalize_chunks(self.image.cuts(image, self.chunks), shape=image.pixels.shape)

    def read_partition(self, i: int | tuple[int, ...]) -> xr.Dataset:
        """Return one chunk of the image, in memory, with its coordinates.

        Parameters
        ----------
        i
            Number of the chunk in C order, or its place along each axis.

        Raises
        ------
        PartitionError
            If there is no such chunk.
        """
        self._load_metadata()
        counts = tuple(len(sizes) for sizes in self._grid())
        try:
            flat = int(np.ravel_multi_index(tuple(i), counts)) if isinstance(i, tuple | list) else int(i)
        except ValueError:
            flat = -1
        if not 0 <= flat < self.npartitions:
            raise PartitionError(f"{self.uri}: {i} is out of range: there are {self.npartitions} partitions {counts}")
        return self._get_partition(flat)

    def _get_partition(self, i: int) -> xr.Dataset:
        grid = self._grid()
        place = np.unravel_index(i, tuple(len(sizes) for sizes in grid))
        box = {
            axis: slice(sum(sizes[:k]), sum(sizes[: k + 1]))
            for axis, sizes, k in zip(self.image.image.axes, grid, map(int, place), strict=True)
        }
        return self._dataset(self.image.part(box), None)

    def read_chunked(self) -> Iterator[xr.Dataset]:
        """Yield the chunks of the image, one after the other."""
        self._load_metadata()
        for i in range(self.npartitions):
            yield self._get_partition(i)

    def _close(self) -> None:
        self._schema = self._image = self.file = None

    def configure_new(self, **changed: Any) -> ImageSource:
        """Return a source with some arguments changed, and the others as they are.

        Parameters
        ----------
        **changed
            Arguments. For a source from a catalog also the entry's parameters: then the entry makes it anew.
        """
        if self._entry is not None and any(name not in self.defaults() for name in changed):
            return super().configure_new(**changed)
        source = type(self)(**{**self._captured_init_kwargs, **changed})
        for name in ("name", "description", "cat", "_entry", "_passed_kwargs"):
            if name in self.__dict__:
                setattr(source, name, self.__dict__[name])
        return source

    __call__ = get = configure_new

    # Identity ---------------------------------------------------------------------------------------------------

    @classmethod
    @functools.cache
    def defaults(cls) -> dict[str, Any]:
        """All arguments with their defaults: `uri` first, the format's own before the common ones."""
        found: dict[str, Any] = {"uri": None}
        for owner in cls.__mro__:
            if issubclass(owner, ImageSource):
                for parameter in list(inspect.signature(owner.__init__).parameters.values())[1:]:
                    if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                        found.setdefault(parameter.name, parameter.default)
        return found

    @property
    def settings(self) -> dict[str, Any]:
        """All arguments, normalised, by name."""
        values = {name: getattr(self, name) for name in self.defaults() if name != "metadata"}
        return {**values, "metadata": self._given_metadata}

    def _own_captured_arguments(self) -> None:
        """Name the arguments that intake captured and copy them, so that nobody changes the caller's."""
        positional = {}
        if self._captured_init_args:
            names = list(inspect.signature(type(self).__init__).parameters)[1:]
            positional = dict(zip(names, self._captured_init_args, strict=False))
        given = {**positional, **self._captured_init_kwargs}
        own = copy.deepcopy({name: value for name, value in given.items() if name != "uri"})
        self._captured_init_args = ()
        self._captured_init_kwargs = {**own, **({"uri": given["uri"]} if "uri" in given else {})}

    def _identity(self) -> str:
        from dask.tokenize import tokenize

        settings = self.settings
        if isinstance(self.corrections, Mapping):  # arrays of a whole frame: as text they would take seconds
            settings["corrections"] = {
                k: tokenize(v) if isinstance(v, np.ndarray) else v for k, v in self.corrections.items()
            }
        which = [] if self.held is None else [id(self.held)]
        return json.dumps([type(self).__qualname__, arguments.plain(settings), *which], sort_keys=True)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Arguments, and the state of the file: another token when the file changes."""
        file = File(self.uri, self.storage_options)
        try:
            unstamped = self.held is not None or file.is_folder
            stamp: object = self.image.pixels.token() if unstamped else file.stamp
        except MissingFileError:
            stamp = None
        return (type(self).__module__, self._identity(), stamp)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "name": self.name, "description": self.description}

    def __setstate__(self, state: dict[str, Any]) -> None:
        labels = {key: state.pop(key) for key in ("name", "description")}
        super().__setstate__(state)
        self.name, self.description = labels["name"], labels["description"]

    def _yaml(self) -> dict[str, Any]:
        if self.held is not None:
            raise ArgumentError(f"{self.uri}: what is in memory cannot stand in a catalog: save it first (imsave)")
        usual = {**self.defaults(), "storage_options": {}, "metadata": self._given_metadata}
        given = {k: v for k, v in self.settings.items() if k not in usual or v != usual[k]}
        return {
            "sources": {
                self.name: {
                    "driver": f"{type(self).__module__}.{type(self).__qualname__}",
                    "description": self.description or "",
                    "metadata": {k: v for k, v in self._given_metadata.items() if k != "catalog_dir"},
                    "args": arguments.plain(given),
                }
            }
        }

    def yaml(self) -> str:
        """Return the source as a YAML catalog of one entry, which `intake.open_catalog` can load again."""
        import yaml

        return yaml.safe_dump(self._yaml(), sort_keys=False, default_flow_style=False, allow_unicode=True)
