"""Arrays in memory: NumPy, dask, xarray, Zarr and HDF5 arrays, read like files.

Rules: docs/formats/memory.md.
"""

from __future__ import annotations

import math
import os
import warnings
from typing import Any

import numpy as np

from .. import arguments
from ..axes import Calibration, Labels, array_axes, axis_letters, even_or_labels
from ..errors import ArgumentError, ArgumentTypeError, EmioWarning, UnknownArgumentError
from ..frames.files import File, local_stamp
from ..frames.frames import Frames
from ..frames.held import Held
from ..frames.layout import FrameStack
from ..frames.navigation import Navigation, check_sync_offset, navigate
from ..frames.picked import along
from ..frames.pixels import Pixels
from ..frames.storage import Storage
from ..image import Image, Variable
from ..source import ImageSource

ACCEPTED = "NumPy, dask, xarray, Zarr and h5py arrays, and what behaves like a NumPy array"
COLOURS = (("R", "G", "B"), ("R", "G", "B", "A"))
SMALL_CHUNK = 1 << 20
MANY_CHUNKS = 10_000


class MemorySource(ImageSource):
    """An array in memory, labelled like a file.

    The array is neither copied nor frozen: if it is changed later, the Dataset changes too.

    Parameters
    ----------
    uri
        The array: NumPy, dask, `xarray.DataArray` or `xarray.Dataset`, `zarr.Array`, `h5py.Dataset`, or anything with
        `shape`, `dtype` and ``__array__``.
    sig_dims
        How many of the last axes are signal axes; default: as many as `sig_shape` has, else 2.
    ds_path
        Name of the variable, for an `xarray.Dataset` of several without an ``image``.
    **common
        See `ImageSource`. NumPy arrays stay NumPy arrays, unless `chunks` says otherwise.

    Raises
    ------
    ArgumentTypeError
        If it is no array (a `TypeError`).
    ArgumentError
        If it holds no numbers, has no pixels, or does not fit the arguments.

    Examples
    --------
    >>> import numpy as np
    >>> MemorySource(np.zeros((2, 3, 4), "u2")).to_dask().image.dims
    ('i', 'y', 'x')
    """

    name = "emio_memory"
    format_name = "memory"

    def __init__(self, uri: Any, *, sig_dims: Any = None, ds_path: str | None = None, **common: Any):
        self.held = uri
        label = described(uri)
        for name in ("io_backend", "storage_options"):
            if common.get(name):
                raise UnknownArgumentError(f"{label}: {name} applies to files, not to arrays in memory")
        super().__init__(label, **common)
        self.sig_dims = None if sig_dims is None else arguments.number("sig_dims", sig_dims, least=0)
        self.ds_path = ds_path
        if self.sig_shape and self.sig_dims not in (None, len(self.sig_shape)):
            raise ArgumentError(f"{label}: sig_shape={self.sig_shape} does not have sig_dims={self.sig_dims} numbers")

    def parse(self, file: File) -> Image:
        """Describe the array; nothing is computed."""
        array, known = self.held, None
        if hasattr(array, "data_vars"):
            known, array = array, array[self._variable(array)]
        elif hasattr(array, "dims") and hasattr(array, "coords"):
            known = array.to_dataset(name="image" if array.name is None else array.name)
        return self._plain(array) if known is None else self._labelled(array, known)

    # Bare arrays ------------------------------------------------------------------------------------------------

    def _plain(self, array: Any) -> Image:
        array, colours = _unpacked(self.uri, array)
        signal = self._signal(array.ndim - bool(colours)) + bool(colours)
        pixels = self._arranged(self._pixels(array, signal), signal)
        names = _dims_of(array)
        given = self._given_metadata.get("axes")
        if given:
            axes = given
        elif names and len(names) == pixels.ndim:
            axes = axis_letters(names, signal)[0]
        else:
            axes = array_axes(pixels.ndim - bool(colours), signal - bool(colours)) + "c" * bool(colours)
        return Image(pixels, axes, calibration={axes[-1]: Labels(colours)} if colours else {})

    def _signal(self, ndim: int) -> int:
        signal = self.sig_dims if self.sig_dims is not None else len(self.sig_shape or (0, 0))
        return signal if self.sig_shape else min(signal, ndim)

    def _pixels(self, array: Any, signal: int) -> Pixels:
        """Pixels that travel by name where the array has one, else the array itself."""
        named = _named_store(array, signal) or (
            _named_map(array, signal) if self.chunks not in (None, "auto") else None
        )
        if named is not None:
            return named
        if type(array).__module__.partition(".")[0] in ("zarr", "h5py"):
            import dask.array as da

            chunks = getattr(array, "shards", None) or array.chunks or "auto"
            array = da.from_array(array, chunks=chunks, lock=type(array).__module__.startswith("h5py"))
        return Held(self._rechunked(array, signal), signal)

    def _rechunked(self, array: Any, signal: int) -> Any:
        """Chunks of a dask array are the user's."""
        if not hasattr(array, "__dask_graph__") or self.chunks not in (None, "auto"):
            return array
        cut = [k for k in range(array.ndim - signal, array.ndim) if len(array.chunks[k]) > 1]
        small = math.prod(map(max, array.chunks)) * array.dtype.itemsize < SMALL_CHUNK
        if cut or (small and array.npartitions > MANY_CHUNKS):
            import dask.array as da

            warnings.warn(
                f"{self.uri}: frames are cut into chunks, or there are many small chunks ({array.npartitions}): "
                "pass chunks='frame' or sizes",
                da.PerformanceWarning,
                stacklevel=2,
            )
        return array

    def _arranged(self, pixels: Pixels, signal: int) -> Pixels:
        """Cut the elements into frames, and arrange these, as the user likes."""
        depth = pixels.ndim - pixels.frame_ndim
        nav, sig = pixels.shape[:depth], self.sig_shape or pixels.shape[depth:]
        if self.nav_shape in (None, nav) and sig == pixels.shape[depth:] and not self.sync_offset:
            return pixels
        if pixels.size % math.prod(sig):
            raise ArgumentError(
                f"{self.uri}: {pixels.size} elements are not a whole number of frames of sig_shape={sig}"
            )
        count = pixels.size // math.prod(sig)
        check_sync_offset(self.uri, self.sync_offset, count)
        navigation = navigate(self.uri, count, nav, nav_shape=self.nav_shape, sync_offset=self.sync_offset)
        if not isinstance(pixels, Held):
            if sig != pixels.shape[depth:] or not depth:
                raise ArgumentError(f"{self.uri}: sig_shape must be {pixels.shape[depth:]}, as the chunks are cut")
            return along(pixels, navigation)
        stream = pixels.native.reshape((count, *sig))
        return Held(_counted(stream, navigation).reshape((*navigation.shape, *sig)), len(sig))

    # xarray -----------------------------------------------------------------------------------------------------

    def _variable(self, dataset: Any) -> Any:
        """Name of the variable that is the image."""
        names = list(dataset.data_vars)
        chosen = self.ds_path if self.ds_path is not None else "image" if "image" in names else None
        if chosen is None and len(names) == 1:
            chosen = names[0]
        if chosen not in names:
            raise ArgumentError(f"{self.uri}: which variable? Pass ds_path=, one of {', '.join(map(str, names))}")
        return chosen

    def _labelled(self, array: Any, dataset: Any) -> Image:
        """Describe an array of xarray, with its coordinates and what lies beside it."""
        _check(self.uri, array.variable)
        names = list(map(str, array.dims))
        signal = self._signal(array.ndim)
        letters = dict(zip(names, axis_letters(names, signal)[0], strict=True))
        pixels = self._arranged(Held(self._rechunked(array.variable.data, signal), signal), signal)
        attrs = dict(array.attrs)
        header: dict[str, Any] = {"attributes": dict(dataset.attrs)} if dataset.attrs else {}
        if "".join(letters.values()) != "".join(names):
            header["dims"] = names
        if pixels.shape != tuple(array.shape) or self.sync_offset:  # coordinates belong to other points now
            axes = self._given_metadata.get("axes") or array_axes(pixels.ndim, pixels.frame_ndim)
            return Image(pixels, axes, header=header, attrs=attrs)
        calibration, scalars, facts = _coordinates(array, letters)
        beside = {
            str(name): Variable(Held(other.variable.data), "".join(letters[d] for d in other.dims), dict(other.attrs))
            for name, other in dataset.data_vars.items()
            if name != array.name and other.ndim and set(other.dims) <= set(letters)
        }
        acquisition = dataset.attrs.get("acquisition")
        return Image(
            pixels,
            "".join(letters.values()),
            calibration=calibration,
            header=header,
            acquisition=acquisition if isinstance(acquisition, dict) else {},
            variables=beside,
            facts=facts,
            scalars=scalars,
            attrs=attrs,
        )

    # What a source without a file does otherwise ----------------------------------------------------------------

    def storage(self) -> Storage:
        """Nothing is fetched."""
        return Storage("memory")


class DaskSource(MemorySource):
    """A dask array, labelled like a file; nothing is computed on opening.

    Parameters
    ----------
    uri
        The array.
    preserve_dimensions
        For compatibility: axes keep their order either way, because ours have names.
    min_size
        Merge chunks along the navigation axes until the smallest has so many bytes; default: chunks stay as they are.
    **common
        See `MemorySource`.

    Examples
    --------
    >>> import dask.array as da
    >>> scan = da.zeros((8, 8, 16, 16), chunks=(1, 8, 16, 16), dtype="u1")
    >>> DaskSource(scan, min_size=4096).to_dask().image.data.chunksize
    (2, 8, 16, 16)
    """

    name = "emio_dask"
    format_name = "dask"

    def __init__(self, uri: Any, *, preserve_dimensions: Any = True, min_size: Any = None, **common: Any):
        super().__init__(uri, **common)
        if not hasattr(uri, "__dask_graph__") or hasattr(uri, "dims"):
            raise ArgumentTypeError(f"{self.uri}: emio_dask takes dask arrays; use emio_memory for others")
        self.preserve_dimensions = arguments.flag("preserve_dimensions", preserve_dimensions)
        self.min_size = None if min_size is None else arguments.number("min_size", min_size, least=1)
        if self.min_size is not None and self.chunks not in (None, "auto"):
            raise ArgumentError(f"{self.uri}: min_size and chunks both say how large chunks are: pass one of them")
        if not self.preserve_dimensions:
            warnings.warn(
                f"{self.uri}: preserve_dimensions=False has no effect: axes have names and keep their order",
                EmioWarning,
                stacklevel=2,
            )

    def _rechunked(self, array: Any, signal: int) -> Any:
        if self.min_size is None:
            return super()._rechunked(array, signal)
        return array.rechunk(merged_chunks(array.chunks, signal, array.dtype.itemsize, self.min_size))


def merged_chunks(
    chunks: tuple[tuple[int, ...], ...], signal: int, itemsize: int, min_size: int
) -> tuple[tuple[int, ...], ...]:
    """Merge chunks until the smallest has `min_size` bytes, as LiberTEM does.

    Always along the last navigation axis that is cut: the smallest chunk with its smaller neighbour, ties from the
    right. Chunks are never split; signal axes become whole.

    Examples
    --------
    >>> merged_chunks(((1,) * 5, (4,)), 1, 2, 16)
    ((3, 2), (4,))
    """
    depth = len(chunks) - signal
    cuts = [np.array(sizes) for sizes in chunks[:depth]] + [np.array([sum(sizes)]) for sizes in chunks[depth:]]
    for axis in reversed(range(depth)):
        others = math.prod(int(sizes.min()) for k, sizes in enumerate(cuts) if k != axis) * itemsize
        while len(cuts[axis]) > 1 and int(cuts[axis].min()) * others < min_size:
            cuts[axis] = _merged(cuts[axis])
    return tuple(tuple(map(int, sizes)) for sizes in cuts)


def _merged(sizes: np.ndarray) -> np.ndarray:
    """Merge the smallest member with its smaller neighbour."""
    last = len(sizes) - 1
    at = last - int(sizes[::-1].argmin())
    left = at if at == last or (at > 0 and sizes[at - 1] < sizes[at + 1]) else at + 1
    return np.concatenate([sizes[: left - 1], [sizes[left - 1] + sizes[left]], sizes[left + 1 :]])


def is_array(value: Any) -> bool:
    """Whether something is an array, or labelled ones, rather than the name of a file."""
    return hasattr(value, "data_vars") or (hasattr(value, "shape") and hasattr(value, "dtype"))


def source_of(array: Any, *, format: str | None = None, **settings: Any) -> MemorySource:
    """Return the source of an array, chosen by its type."""
    lazy = hasattr(array, "__dask_graph__") and not hasattr(array, "dims")
    if format not in (None, "memory", "dask"):
        raise ArgumentError(f"{described(array)}: format={format!r} is one of files; leave it out for arrays")
    return (DaskSource if lazy and format != "memory" else MemorySource)(array, **settings)


def described(array: Any) -> str:
    """What messages call an array.

    Raises
    ------
    ArgumentTypeError
        If it is none.

    Examples
    --------
    >>> described(np.zeros((2, 3, 4), "u2"))
    '<ndarray (2, 3, 4) uint16>'
    """
    if not is_array(array) or isinstance(array, np.generic):
        raise ArgumentTypeError(f"a {type(array).__name__} is no array: {ACCEPTED} are taken")
    if hasattr(array, "data_vars"):
        return f"<Dataset {dict(array.sizes)}>"
    return f"<{type(array).__name__} {tuple(array.shape)} {array.dtype}>"


# Kinds of arrays -----------------------------------------------------------------------------------------------------


def _unpacked(label: str, array: Any) -> tuple[Any, tuple[str, ...]]:
    """Return an array of plain numbers, and the colours of its last axis if it was made of records."""
    names = getattr(array.dtype, "names", None)
    if isinstance(array, np.ndarray) and names in COLOURS and len({array.dtype[n] for n in names}) == 1:
        from numpy.lib.recfunctions import structured_to_unstructured

        array = structured_to_unstructured(array)
    else:
        names = None
    _check(label, array)
    return array, tuple(str(name).lower() for name in names or ())


def _check(label: str, array: Any) -> None:
    """Refuse what has no pixels."""
    if isinstance(array, np.ma.MaskedArray) or isinstance(getattr(array, "_meta", None), np.ma.MaskedArray):
        raise ArgumentTypeError(f"{label}: masked arrays have no value at masked pixels: fill them first (.filled(0))")
    if type(array).__module__.startswith("scipy.sparse"):
        raise ArgumentTypeError(f"{label}: sparse matrices of SciPy are no images: make it dense (.toarray())")
    if any(n != n for n in array.shape):
        raise ArgumentError(f"{label}: sizes of chunks are not known: call .compute_chunk_sizes() first")
    if np.dtype(array.dtype).kind not in "biufc":
        raise ArgumentTypeError(f"{label}: elements of type {array.dtype} are no pixels: numbers are expected")
    if not array.ndim or 0 in array.shape:
        raise ArgumentError(f"{label}: an array of shape {tuple(array.shape)} has no pixels")


def _named_store(array: Any, signal: int) -> Pixels | None:
    """Pixels of an open Zarr or HDF5 array by the name of its file."""
    package = type(array).__module__.partition(".")[0]
    if package == "zarr":
        from ..frames.chunked_store import StoredArray, name_of

        store = name_of(array)
        return None if store is None else StoredArray.of(store, array, signal)
    if package == "h5py" and os.path.isfile(array.file.filename):
        from ..frames.chunked import ChunkedDataset

        return ChunkedDataset(
            os.path.abspath(array.file.filename),
            array.name,
            array.dtype,
            array.shape,
            array.chunks or (1,) * array.ndim,
            tuple(range(array.ndim)),
            frame_ndim=signal,
            stamp=local_stamp(array.file.filename),
        )
    return None


def _dims_of(array: Any) -> tuple[str, ...] | None:
    """Names of the dimensions of a Zarr array."""
    names = getattr(getattr(array, "metadata", None), "dimension_names", None)
    return tuple(names) if names and all(isinstance(n, str) for n in names) else None


def _named_map(array: Any, signal: int) -> Pixels | None:
    """Frames of a memory-mapped file by its name: pickled, a map would travel with all its content."""
    if not isinstance(array, np.memmap) or not array.filename or not array.flags.c_contiguous:
        return None
    root = array
    while isinstance(root.base, np.memmap):
        root = root.base
    offset = root.offset + array.ctypes.data - root.ctypes.data
    depth = array.ndim - signal
    path = str(array.filename)
    stack = FrameStack.in_one_file(
        path, array.dtype, array.shape[depth:], math.prod(array.shape[:depth]), offset=offset
    )
    return Frames(stack, Navigation.of(array.shape[:depth]), Storage(), local_stamp(path))


def _counted(stream: Any, navigation: Navigation) -> Any:
    """Frames of a stream in the order of the points; blank ones where there are none."""
    module: Any = np
    if hasattr(stream, "__dask_graph__"):
        import dask.array as module
    first, points = navigation.first, navigation.points
    kept = stream[max(0, first) : max(0, min(len(stream), first + points))]
    before = min(max(0, -first), points)
    behind = points - before - len(kept)
    parts = [module.zeros((n, *stream.shape[1:]), dtype=stream.dtype) for n in (before, behind)]
    together = [part for part in (parts[0], kept, parts[1]) if len(part)]
    return together[0] if len(together) == 1 else module.concatenate(together)


def _coordinates(
    array: Any, letters: dict[str, str]
) -> tuple[dict[str, Calibration], dict[str, tuple[Any, str | None]], dict[str, Variable]]:
    """Calibration, single values and per-frame facts among the coordinates of xarray."""
    calibration: dict[str, Calibration] = {}
    scalars: dict[str, tuple[Any, str | None]] = {}
    facts: dict[str, Variable] = {}
    for name, coord in array.coords.items():
        units = coord.attrs.get("units")
        if name in letters and coord.dims == (name,):
            if type(coord.to_index()).__name__ == "MultiIndex":
                raise ArgumentError(f"coordinate {name!r} is a MultiIndex: call .reset_index({name!r}) first")
            calibration[letters[str(name)]] = even_or_labels(coord.values, None if units is None else str(units))
        elif not coord.ndim:
            scalars[str(name)] = (coord.values[()], None if units is None else str(units))
        elif all(d in letters for d in coord.dims):
            axes = "".join(letters[d] for d in coord.dims)
            facts[str(name)] = Variable(Held(coord.variable.data), axes, dict(coord.attrs))
    return calibration, scalars, facts
