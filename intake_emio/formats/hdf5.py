"""HDF5 files in all their dialects: HyperSpy, Velox, Berkeley EMD, py4DSTEM, NeXus, DECTRIS, netCDF-4, plain ones.

Layouts and quirks: docs/formats/hdf5.md.
"""

from __future__ import annotations

import math
import warnings
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from .. import arguments
from ..axes import Labels, default_axes
from ..errors import ArgumentError, EmioError, EmioWarning, HeaderError, StorageError
from ..frames.chunk_bytes import filters_of
from ..frames.chunked import ChunkedDataset, Concatenated, Opening, Stacked
from ..frames.corrections import Corrections, Reference
from ..frames.events import EventCounts
from ..frames.files import File
from ..frames.frames import Frames
from ..frames.layout import FrameStack
from ..frames.navigation import Navigation, navigate
from ..frames.picked import along
from ..frames.pixels import Pixels
from ..frames.views import permuted, selected
from ..image import Image, Variable
from ..source import ImageSource
from ._hdf5_emd import emd, is_emd
from ._hdf5_files import Place, Tree
from ._hdf5_hyperspy import hyperspy, is_hyperspy
from ._hdf5_hyperspy_writing import save_hspy
from ._hdf5_layouts import (
    COLOURS,
    NOT_APPLIED,
    Array,
    Beside,
    abtem,
    by_letter,
    colours,
    element,
    generic,
    is_abtem,
    is_pixels,
    labelled,
    positional,
    refuse,
)
from ._hdf5_netcdf import netcdf, with_record
from ._hdf5_nexus import dectris, is_dectris, is_nexus, nexus
from ._hdf5_velox import KINDS, Counting, is_velox, velox
from ._hdf5_writing import save, save_nc

__all__ = ["HDF5Source", "is_hdf5", "save", "save_hspy", "save_nc"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
USER_BLOCKS = tuple(512 << k for k in range(8))  # something else may precede: MATLAB puts 512 bytes of text there
LARGEST_EMPTY = 64 << 20  # a dataset that was never written may claim any size


class HDF5Source(ImageSource):
    """The image of an HDF5 file, whatever program wrote it; with `ds_path`, any dataset in it.

    Parameters
    ----------
    uri
        Path or URL of the file.
    ds_path
        Path in the file of the dataset (or of the group around it), or its title. Default: what the file says is to be
        shown, else the largest stack of frames.
    dataset_path
        The same.
    sig_dims
        How many of the last axes are signal axes, where the file does not say.
    stack_group
        EMD: whether groups whose names differ in their last four digits only are stacked.
    select_type
        Velox: ``"images"``, ``"single_spectrum"`` or ``"spectrum_image"``.
    first_frame, last_frame
        Velox, EDS spectrum images: frames of the scan that are wanted, the last one excluded.
    sum_frames
        Velox: whether the frames of an EDS spectrum image are added up, or make an axis.
    sum_EDS_detectors
        Velox: whether the detectors of an EDS spectrum image are added up, or are images of their own.
    rebin_energy
        Velox: so many channels of an EDS spectrum become one.
    SI_dtype
        Velox: type of the counts of an EDS spectrum image; default: that of the file, uint16.
    external_links
        ``"folder"``: links to other files must stay in the folder; ``"anywhere"``: they may lead to any file.
    swmr
        Open the file while the detector still writes it.
    locking
        `False`: do not ask the file system for a lock.
    target_size
        Bytes of a chunk of compressed data, about.
    **common
        See `ImageSource`.

    Raises
    ------
    HeaderError
        If the file is no HDF5 file, or holds no image.
    ArgumentError
        If `ds_path` is no dataset of numbers, or an argument does not fit.
    StorageError
        If links lead out of the folder, a filter is missing, or the dataset was never written.

    Examples
    --------
    >>> import tempfile, h5py, numpy as np, intake
    >>> path = tempfile.mkdtemp() + "/scan.h5"
    >>> with h5py.File(path, "w") as file:
    ...     file["thumbnail"] = np.zeros((64, 64), "u1")
    ...     file["scan"] = np.ones((3, 4, 8, 8), "u2")
    >>> dict(intake.open_emio_hdf5(path).to_dask().image.sizes)
    {'y': 3, 'x': 4, 'v': 8, 'u': 8}
    """

    name = "emio_hdf5"
    format_name = "hdf5"

    def __init__(
        self,
        uri: Any,
        *,
        ds_path: str | None = None,
        dataset_path: str | None = None,
        sig_dims: int = 2,
        stack_group: bool | None = None,
        select_type: str | None = None,
        first_frame: int = 0,
        last_frame: int | None = None,
        sum_frames: bool = True,
        sum_EDS_detectors: bool = True,
        rebin_energy: int = 1,
        SI_dtype: Any = None,
        external_links: str = "folder",
        swmr: bool = False,
        locking: bool | None = None,
        target_size: int | None = None,
        **common: Any,
    ):
        super().__init__(uri, **common)
        self.ds_path = ds_path if ds_path is not None else dataset_path
        self.dataset_path = dataset_path
        self.sig_dims = arguments.number("sig_dims", sig_dims, least=1)
        self.stack_group = None if stack_group is None else arguments.flag("stack_group", stack_group)
        self.select_type = arguments.choice("select_type", select_type, (None, *KINDS))
        self.first_frame = arguments.number("first_frame", first_frame, least=0)
        self.last_frame = None if last_frame is None else arguments.number("last_frame", last_frame, least=1)
        self.sum_frames = arguments.flag("sum_frames", sum_frames)
        self.sum_EDS_detectors = arguments.flag("sum_EDS_detectors", sum_EDS_detectors)
        self.rebin_energy = arguments.number("rebin_energy", rebin_energy, least=1)
        self.SI_dtype = None if SI_dtype is None else _count_type(SI_dtype)
        self.external_links = arguments.choice("external_links", external_links, ("folder", "anywhere"))
        self.swmr = arguments.flag("swmr", swmr)
        self.locking = None if locking is None else arguments.flag("locking", locking)
        self.target_size = None if target_size is None else arguments.number("target_size", target_size, least=1)

    def parse(self, file: File) -> Image:
        """Find the dataset, and describe it."""
        _check_signature(file)
        opening = Opening(self.storage_options, self.swmr, self.locking)
        try:
            return self._parsed(file, opening)
        except EmioError:
            raise
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise HeaderError(f"{file}: the structure of the file is damaged: {error!r}") from error

    def _parsed(self, file: File, opening: Opening) -> Image:
        with ExitStack() as closing:
            tree = Tree(file, opening, self.external_links == "anywhere", closing)
            dialect, arrays = self._arrays(tree)
            chosen = self._chosen(tree, arrays)
            for trouble in tree.troubles if self.ds_path is None else ():
                warnings.warn(f"left out: {trouble}", EmioWarning, stacklevel=5)
            return self._described(tree, dialect, chosen, arrays)

    @property
    def _counting(self) -> Counting:
        """How the user wants events counted."""
        return Counting(
            self.first_frame,
            self.last_frame,
            self.sum_frames,
            self.sum_EDS_detectors,
            self.rebin_energy,
            None if self.SI_dtype is None else np.dtype(self.SI_dtype),
        )

    # Which dataset ----------------------------------------------------------------------------------------------------

    def _arrays(self, tree: Tree) -> tuple[str, list[Array]]:
        """Arrays of the file as its dialect knows them, the one to open first."""
        if is_velox(tree):
            return "Velox", velox(tree, self.select_type, self._counting)
        if self.select_type is not None:
            raise ArgumentError(f"{tree.file}: select_type is for Velox files only")
        if found := netcdf(tree):
            return "netCDF-4", found
        if is_hyperspy(tree):
            return "HyperSpy", hyperspy(tree)
        if is_emd(tree):
            stacked = self.stack_group if self.stack_group is not None else self.ds_path is None
            return "EMD", emd(tree, stacked)
        if is_dectris(tree):
            return "DECTRIS", dectris(tree, self.own_corrections)
        if is_nexus(tree) and (found := nexus(tree)):
            return "NeXus", found
        if is_abtem(tree) and (found := abtem(tree)):
            return "abTEM", found
        if self.ds_path is not None and self._is_dataset(tree, self.ds_path):
            return "HDF5", []  # no need to look through everything
        return "HDF5", generic(tree, self.sig_dims)

    @staticmethod
    def _is_dataset(tree: Tree, path: str) -> bool:
        found = tree.get("/" + path.strip("/"))
        return found is not None and found.is_dataset

    def _chosen(self, tree: Tree, arrays: list[Array]) -> Array:
        if self.ds_path is None:
            if arrays:
                return arrays[0]
            if tree.troubles:
                raise tree.troubles[0]
            raise HeaderError(f"{tree.file}: holds no dataset that could be an image of {self.sig_dims} axes or more")
        wanted = str(self.ds_path)
        path = "/" + wanted.strip("/")
        exact = [a for a in arrays if a.name == path] or [a for a in arrays if a.title and a.title == wanted]
        below = [a for a in arrays if a.name.startswith(path.rstrip("/") + "/")]
        for found in (exact, below):
            if len(found) == 1:
                return found[0]
        if len(exact) > 1 or len(below) > 1:
            raise refuse(tree, exact or below, f"ds_path={wanted!r} could be several datasets: pass one of them")
        place = tree.get(path)
        if place is None:
            raise refuse(tree, arrays, f"there is no dataset {wanted!r}")
        if not place.is_dataset:
            inside = [(n, p) for n, p in tree.walk(place) if is_pixels(p.thing)]
            if len(inside) != 1:
                raise refuse(
                    tree, arrays, f"ds_path={wanted!r} is a group with {len(inside)} datasets: pass one of them"
                )
            path, place = inside[0]
        same = [a for a in arrays if a.place.identity == place.identity]
        if same:
            return same[0]
        if not is_pixels(place.thing):
            shape = getattr(place.thing, "shape", None)
            raise refuse(tree, arrays, f"{wanted!r} is no image: {_type_name(place.thing)} of shape {shape}")
        return labelled(tree, place, path)

    # What it is -------------------------------------------------------------------------------------------------------

    def _described(self, tree: Tree, dialect: str, chosen: Array, arrays: list[Array]) -> Image:
        dataset = chosen.place.thing
        ndim = len(chosen.shape)
        colour = bool(colours(dataset)) and len(chosen.axes) <= ndim  # a layout may have named their axis
        signal = chosen.signal if chosen.signal is not None else self.sig_dims
        if signal > max(ndim, len(chosen.axes)):
            if chosen.signal is None and self.sig_dims == 2:
                signal = ndim
            else:
                raise ArgumentError(
                    f"{tree.file}: sig_dims={self.sig_dims}, but {chosen.name} has {ndim} axes {chosen.shape}"
                )
        axes = chosen.axes or positional(ndim, signal)
        order = chosen.order or axes
        if colour:
            axes, order = axes + "c", order + "c"
        signal += colour
        if chosen.stack:
            order = chosen.stack + order
        pixels = self._pixels(tree, chosen, axes, order.removeprefix(chosen.stack), signal)
        calibration = by_letter(chosen.calibration, axes)
        if colour:
            calibration["c"] = Labels(COLOURS[: colours(dataset)])
        order, pixels = self._navigated(tree, chosen, order, signal, pixels, calibration)
        if scaling := [name for name in NOT_APPLIED if name in chosen.attrs]:
            warnings.warn(
                f"{tree.file}: {chosen.name} has {', '.join(scaling)}, which are not applied",
                EmioWarning,
                stacklevel=5,
            )
        listed = tuple(
            {
                "index": k,
                "name": a.title or a.name,
                "path": a.name,
                "shape": list(a.shape),
                "dtype": str(a.dtype),
            }
            for k, a in enumerate(arrays)
        )
        image = Image(
            pixels,
            order,
            calibration={a: c for a, c in calibration.items() if a in order},
            header={"layout": dialect, "ds_path": chosen.name, **chosen.header},
            acquisition=chosen.acquisition,
            attrs=chosen.attrs,
            datasets=listed,
            corrections=self._corrections(tree, chosen),
        )
        if chosen.beside is not None and image.image.sizes == dict(zip(axes, dataset.shape, strict=True)):
            image = self._with_beside(tree, chosen.beside, image)
            return image if chosen.record is None else with_record(image, chosen.record)
        return image if chosen.record is None else chosen.record.applied(image)

    def _corrections(self, tree: Tree, chosen: Array) -> Corrections | None:
        """What the file says that its frames need."""
        gain = None
        if chosen.gain is not None:
            gain = Reference(self._stored(tree, chosen.gain, (0, 1), 2), chosen.gain.path.rsplit("/", 1)[-1])
        return Corrections(gain=gain, excluded=chosen.excluded) or None

    def _with_beside(self, tree: Tree, beside: Beside, image: Image) -> Image:
        """Add the variables and coordinates that lie beside an image."""

        def variable(array: Array) -> Variable:
            signal = min(2, len(array.axes))
            return Variable(self._pixels(tree, array, array.axes, array.axes, signal), array.axes, array.attrs)

        return replace(
            image,
            calibration=beside.calibration,
            variables={name: variable(array) for name, array in beside.variables.items()},
            facts={**{name: variable(array) for name, array in beside.facts.items()}, **beside.held},
            scalars=beside.scalars,
        )

    def _pixels(self, tree: Tree, chosen: Array, axes: str, order: str, signal: int) -> Pixels:
        """Pixels in the presented order of axes, without what the user says of the scan."""
        places = (chosen.place, *chosen.further)
        if chosen.events is not None:
            return EventCounts(tuple(self._stored(tree, place, (0, 1), 1) for place in places), chosen.events)
        dropped = [a for a in axes if a not in order]  # of length 1, see Array
        turned = tuple(axes.index(a) for a in (*dropped, *order))
        parts = tuple(
            selected(stored, [0] * len(dropped) + [slice(0, n, 1) for n in stored.shape[len(dropped) :]])
            for stored in (self._stored(tree, place, turned, signal) for place in places)
        )
        if chosen.stack:
            return Stacked(parts)
        return parts[0] if len(parts) == 1 else Concatenated(parts)

    def _stored(self, tree: Tree, place: Place, turned: tuple[int, ...], signal: int) -> Pixels:
        opening = tree.check(place)
        dataset = place.thing
        found = element(dataset)
        assert found is not None  # is_pixels has looked
        stored, view = found
        _check_written(place)
        frames = None if self.swmr else self._plain_frames(place, stored, view, signal)
        if frames is not None:
            return permuted(frames, turned)
        if self.io_backend is not None:
            raise ArgumentError(
                f"{tree.file}: io_backend={self.io_backend!r} cannot be had: {place.path} is stored in chunks, "
                "which HDF5 reads"
            )
        return ChunkedDataset(
            place.file.uri,
            place.path,
            stored,
            tuple(dataset.shape),
            tuple(dataset.chunks or (1,) * len(dataset.shape)),
            turned,
            signal,
            view,
            opening,
            place.file.stamp,
            self.target_size,
            filters_of(dataset) if not self.swmr and _is_common(dataset, stored) else None,
        )

    def _plain_frames(self, place: Place, stored: np.dtype, view: np.dtype | None, signal: int) -> Frames | None:
        """Frames of a dataset that lies in one piece, which are read without HDF5; `None` if it does not."""
        dataset = place.thing
        offset = dataset.id.get_offset() if dataset.chunks is None and not dataset.is_virtual else None
        if offset is None or dataset.external or not _is_common(dataset, stored):
            return None
        shape = tuple(dataset.shape)
        pixel = stored
        if view is not None:
            pixel = view
            if view.kind not in "bc":
                shape = (*shape, len(stored.names or ()))
        depth = len(shape) - signal
        count = math.prod(shape[:depth])
        end = offset + math.prod(shape) * pixel.itemsize
        if end > place.file.size:
            raise StorageError(f"{place.file}: {place.path} reaches to byte {end}, and the file has {place.file.size}")
        stack = FrameStack.in_one_file(place.file.uri, pixel, shape[depth:], count, offset=offset)
        return Frames(stack, Navigation.of(shape[:depth]), self.storage(), (place.file.stamp,))

    # What the user says of the scan -----------------------------------------------------------------------------------

    def _navigated(
        self, tree: Tree, chosen: Array, order: str, signal: int, pixels: Pixels, calibration: dict[str, Any]
    ) -> tuple[str, Pixels]:
        """Frames arranged as the user, or another part of the file, says; calibration is changed with them."""
        depth = pixels.ndim - signal
        nav, frame = pixels.shape[:depth], pixels.shape[depth:]
        if self.sig_shape is not None and self.sig_shape != frame:
            raise ArgumentError(
                f"{tree.file}: sig_shape={self.sig_shape}, but frames are {frame}: frames of an HDF5 dataset cannot be "
                "reshaped, they are stored in chunks"
            )
        wanted = self.nav_shape or chosen.frames or nav
        if wanted == nav and not self.sync_offset:
            return order, pixels
        count = math.prod(nav)
        arranged = navigate(
            tree.file, count, chosen.frames or nav, nav_shape=self.nav_shape, sync_offset=self.sync_offset
        )
        letters = order[:depth], order[depth:]
        if len(wanted) != depth:
            new = positional(len(wanted) + signal, signal) if signal == 2 else _navigation(len(wanted)) + letters[1]
            for old, name in zip(letters[1], new[len(wanted) :], strict=True):
                scale = calibration.pop(old, None)
                if scale is not None and not chosen.frames:
                    calibration[name] = scale
            kept = set(new[len(wanted) :]) if not chosen.frames else set()
            for old in letters[0]:
                if old not in kept:
                    calibration.pop(old, None)
            if chosen.frames and wanted == chosen.frames:
                calibration |= by_letter(chosen.calibration, chosen.axes)
        else:
            new = order
            for letter, old_size, size in zip(new, nav, wanted, strict=False):
                if isinstance(calibration.get(letter), Labels) and old_size != size:
                    calibration.pop(letter)
        if chosen.frames and len(new) - signal != 2:
            calibration.clear()
        if isinstance(pixels, Frames):
            return new, pixels.along(arranged)
        return new, along(pixels, arranged)


def _count_type(value: Any) -> str:
    try:
        dtype = np.dtype(value)
    except TypeError:
        dtype = np.dtype(bool)
    if dtype.kind not in "iuf":
        raise ArgumentError(f"SI_dtype must be a type of numbers, such as 'uint32', not {value!r}")
    return dtype.name


def _navigation(count: int) -> str:
    return {0: "", 1: "i", 2: "yx", 3: "iyx", 4: "ityx"}.get(count) or default_axes(count)


def _type_name(dataset: Any) -> str:
    try:
        return str(dataset.dtype)
    except (TypeError, ValueError):
        return "an unknown type"


def _is_common(dataset: Any, stored: np.dtype) -> bool:
    """Whether values lie in the file as NumPy has them: all bits used, no conversion by HDF5."""
    kind = dataset.id.get_type()
    if kind.get_size() != stored.itemsize:
        return False
    try:
        return kind.get_precision() == 8 * stored.itemsize
    except AttributeError:
        return True  # enumerations and records


def _check_written(place: Place) -> None:
    """Refuse large datasets that nobody wrote; warn if some of it is missing."""
    dataset = place.thing
    if dataset.is_virtual or dataset.external:
        return
    nbytes = math.prod(dataset.shape) * dataset.dtype.itemsize
    if dataset.id.get_storage_size() == 0:
        if nbytes > LARGEST_EMPTY:
            raise StorageError(
                f"{place.file}: {place.path} was created with {nbytes} bytes, but never written: no pixel is there"
            )
        warnings.warn(f"{place.file}: {place.path} was never written: all pixels are filled up", EmioWarning, 6)
        return
    if dataset.chunks is None:
        return
    chunks = math.prod(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
    there = dataset.id.get_num_chunks()
    if there < chunks:
        warnings.warn(
            f"{place.file}: only {there} of {chunks} chunks of {place.path} were written: the others are filled up",
            EmioWarning,
            6,
        )


# Recognising it ------------------------------------------------------------------------------------------------------


def is_hdf5(file: File) -> bool:
    """Whether a file has HDF5's signature behind a larger user block; smaller ones are found by the registry."""
    return file.extension in (".h5", ".hdf5", ".mat") and any(
        file.read(at, len(SIGNATURE)) == SIGNATURE for at in USER_BLOCKS if at < file.size
    )


def _check_signature(file: File) -> None:
    starts = (0, *USER_BLOCKS)
    if any(file.read(at, len(SIGNATURE)) == SIGNATURE for at in starts if at < file.size):
        return
    begin = file.read(0, 8)
    if begin[:3] == b"CDF" and begin[3:4] in (b"\1", b"\2", b"\5"):
        raise HeaderError(f"{file}: netCDF-3, which is no HDF5: open it with xarray (xarray.open_dataset)")
    raise HeaderError(
        f"{file}: not HDF5: it starts with {begin!r}, and has no signature {SIGNATURE!r} at byte 0, 512 …"
    )
