"""ZSpy (.zspy): signals of HyperSpy in Zarr stores.

Layout and quirks: docs/formats/zspy.md.
"""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import (
    ArgumentError,
    ArgumentTypeError,
    EmioError,
    EmioWarning,
    HeaderError,
    MissingFileError,
    StorageError,
)
from ..frames.chunked_store import HeldStore, StoredArray, StoreName, held_store
from ..frames.files import File
from ..frames.storage import Storage
from ..frames.views import Permuted
from ..image import Image
from ..source import ImageSource
from ._hyperspy_tree import COLOURS, MOST_MEMBERS, Described, Leaf, described, models_of, version_of, within
from ._zarr_store import EXPERIMENTS, is_zspy, joined, located, place_of
from ._zspy_writing import save

__all__ = ["ZspySource", "is_zspy", "save"]

LARGEST_EMPTY = 64 << 20  # an array without any chunk may claim any size
METADATA = {".zarray", ".zattrs", ".zgroup", ".zmetadata", "zarr.json"}
RAGGED = {"_ragged_shapes_data", "ragged_shapes"}
LMDB = "data.mdb"


class ZspySource(ImageSource):
    """A signal of HyperSpy in a Zarr store of version 2 or 3.

    Parameters
    ----------
    uri
        Folder, ``.zip`` file or fsspec URL, which may point to a signal within the store; or a store of zarr-python, a
        map of fsspec, or a mapping from keys to bytes.
    ds_path
        Which signal, if there are several: its name, or its path ``Experiments/<name>``. Default: the largest.
    **common
        See `ImageSource`. `nav_shape`, `sig_shape`, `sync_offset` and `io_backend` do not apply.

    Raises
    ------
    HeaderError
        If there are no Zarr metadata, or broken ones, or no signal.
    ArgumentError
        If `ds_path` is no signal; lists those that there are.
    StorageError
        If pixels were never written.

    Examples
    --------
    >>> import tempfile, numpy as np, xarray as xr, intake_emio as emio
    >>> path = tempfile.mkdtemp() + "/scan.zspy"
    >>> scan = xr.DataArray(np.zeros((4, 5, 8, 8), "u2"), dims=("y", "x", "v", "u"))
    >>> files = emio.imsave(scan, path)
    >>> dict(ZspySource(path).to_dask().image.sizes)
    {'y': 4, 'x': 5, 'v': 8, 'u': 8}
    """

    name = "emio_zspy"
    format_name = "zspy"

    def __init__(self, uri: Any, *, ds_path: str | None = None, **common: Any):
        self._store = None if isinstance(uri, str | os.PathLike) else held_store(uri)
        if self._store is None and not isinstance(uri, str | os.PathLike):
            raise ArgumentTypeError(f"a {type(uri).__name__} is neither a path nor a Zarr store")
        if isinstance(self._store, HeldStore):
            self.held = uri
        super().__init__(uri if self._store is None else self._store.uri, **common)
        self.ds_path = ds_path
        for name in ("nav_shape", "sig_shape", "sync_offset", "io_backend"):
            if getattr(self, name):
                raise ArgumentError(f"{self.uri}: {name} does not apply to signals of HyperSpy: leave it out")

    def storage(self) -> Storage:
        """Bytes are fetched by zarr-python."""
        return Storage("zarr")

    def parse(self, file: File) -> Image:
        """Describe a signal from its metadata; pixels are not touched."""
        store, root, wanted = self._located(file)
        with store.kept_open() as opened:
            return self._described(store, ZarrNode.at(opened, root), wanted)

    def _located(self, file: File) -> tuple[StoreName, str, str | None]:
        """Store, path of the root in it, and which signal is wanted."""
        if isinstance(self._store, HeldStore):
            return self._store, "", self.ds_path
        if file.is_folder and file.within(LMDB).exists():
            raise HeaderError(
                f"{file}: is an LMDB store of Zarr 2: open it with zarr<3 and copy it (zarr.copy_store) to a "
                "directory or a ZIP"
            )
        store, inside = located(file)
        if store.zipped or store.uri.startswith("zip://::"):
            return store, inside, self.ds_path
        return store, "", self.ds_path or inside.removeprefix(EXPERIMENTS) or None

    def _described(self, store: StoreName, root: ZarrNode, wanted: str | None) -> Image:
        version = version_of(store.uri, root.attributes())
        signals = _signals(root, wanted)
        signal = _chosen(store, signals, wanted)
        array = signal.data
        where = place_of(store, array.path)
        colours = _colours(array)
        shape = tuple(map(int, array.shape))
        stored = StoredArray.of(store, array, records=bool(colours))
        if not shape:
            raise HeaderError(f"{where}: a single number is no image")
        _check_written(root.store, array)
        found = described(where, signal.group, signal.name, shape, colours=colours, version=version)
        if found.missing:
            lacking = ", ".join(f"axis-{k}" for k in found.missing)
            raise HeaderError(f"{where}: has {len(shape)} axes, and the description of {lacking} is not there")
        order = tuple(found.axes.index(a) for a in found.order)
        pixels = replace(stored, frame_ndim=found.frame_ndim)
        image = Image(
            pixels if found.order == found.axes else Permuted(pixels, order, found.frame_ndim),
            found.order,
            calibration=found.calibration,
            header=_header(found, root, signal, signals),
            acquisition=found.acquisition,
            datasets=_listed(signals) if len(signals) > 1 else (),
        )
        return image if found.record is None else found.record.applied(image)


# What is in a store --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ZarrNode:
    """A group of a Zarr store."""

    store: HeldStore
    path: str
    group: Any

    @classmethod
    def at(cls, store: HeldStore, path: str) -> ZarrNode:
        """Open a group by its path.

        Raises
        ------
        HeaderError
            If it is an array, or its metadata are broken.
        """
        node = store.node(path)
        if hasattr(node, "shape"):
            raise HeaderError(f"{place_of(store, path)}: is an array, and a group of HyperSpy's was expected")
        return cls(store, path, node)

    def attributes(self) -> dict[str, Any]:
        """Attributes of the group."""
        return dict(self.group.attrs)

    def names(self) -> list[str]:
        """Names of the members, also of those that zarr-python cannot open."""
        return [name for name in self.store.names(self.path) if name not in METADATA]

    def member(self, name: str) -> ZarrNode | Leaf | None:
        """Return a member by its name; an array that zarr-python cannot open, as one that cannot be read."""
        path = joined(self.path, name)
        try:
            node = self.store.node(path)
        except MissingFileError:
            return None
        except EmioError:
            return Leaf()
        if not hasattr(node, "shape"):
            return ZarrNode(self.store, path, node)
        return Leaf(tuple(node.shape), str(node.dtype), lambda: _values(node))


def _values(array: Any) -> np.ndarray:
    """Numbers, or text in whatever way it is stored."""
    values = np.asarray(array[...])
    if values.dtype.kind not in "SOT":
        return values
    texts = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values.reshape(-1).tolist()]
    return np.array(texts, dtype=str).reshape(values.shape)


@dataclass(frozen=True)
class Signal:
    """A signal in a store.

    Parameters
    ----------
    name, group
        What it is called, and what is known of it.
    data
        `zarr.Array`; `None` if it is no image.
    trouble
        Why it is none.
    """

    name: str
    group: ZarrNode
    data: Any = None
    trouble: EmioError | None = None


def _signals(root: ZarrNode, wanted: str | None) -> list[Signal]:
    """All signals of a store, the largest first; where nothing can be listed, the wanted one."""
    top = within(root, EXPERIMENTS)
    if not isinstance(top, ZarrNode):
        return []
    names = top.names()[:MOST_MEMBERS]
    if not names and wanted:
        names = [_name_in(wanted)]
        warnings.warn(
            f"{root.store.uri}: the store cannot be listed: only what HyperSpy always calls the same is found of the "
            "metadata",
            EmioWarning,
            stacklevel=6,
        )
    found = [_signal(group) for group in (top.member(name) for name in names) if isinstance(group, ZarrNode)]
    sized = [signal for signal in found if signal is not None]
    return sorted(sized, key=lambda s: (s.data is None, -math.prod(s.data.shape) if s.data is not None else 0, s.name))


def _signal(group: ZarrNode) -> Signal | None:
    name, path = group.path.rpartition("/")[2], joined(group.path, "data")
    beside = within(group, "attributes")
    if not RAGGED.isdisjoint(group.names()) or (beside is not None and beside.attributes().get("ragged") is True):
        return Signal(
            name,
            group,
            trouble=HeaderError(
                f"{place_of(group.store, path)}: is a ragged signal (vectors per scan position), not an image: load it "
                "with HyperSpy"
            ),
        )
    try:
        node = group.store.node(path)
    except MissingFileError:
        return None
    except EmioError as error:
        return Signal(name, group, trouble=error)
    return Signal(name, group, node) if hasattr(node, "shape") else None


def _name_in(ds_path: str) -> str:
    """Name of a signal from whatever the user calls it."""
    return ds_path.strip("/").removeprefix(f"{EXPERIMENTS}/").removesuffix("/data")


def _chosen(store: StoreName, signals: list[Signal], wanted: str | None) -> Signal:
    there = ", ".join(f"{s.name} {s.data.shape if s.data is not None else '(no image)'}" for s in signals)
    if not signals:
        raise HeaderError(
            f"{store.uri}: holds no signal of HyperSpy: no group below {EXPERIMENTS} has data. Where folders cannot be "
            "listed (web servers), pass ds_path="
        )
    if wanted is None:
        chosen = signals[0]
    else:
        named = [s for s in signals if s.name == _name_in(wanted)]
        if not named:
            raise ArgumentError(f"{store.uri}: there is no signal {wanted!r}; there are {there}")
        chosen = named[0]
    if chosen.trouble is not None:
        raise chosen.trouble
    return chosen


def _colours(array: Any) -> int:
    """How many colours an element has; 0 if it is a number."""
    names = [str(name).lower() for name in np.dtype(array.dtype).names or ()]
    return len(names) if names in ([*COLOURS[:3]], [*COLOURS]) else 0


def _check_written(store: HeldStore, array: Any) -> None:
    """Refuse a large array without a single chunk, before anything is allocated for it."""
    if math.prod(map(int, array.shape)) * np.dtype(array.dtype).itemsize <= LARGEST_EMPTY:
        return
    names = set(store.names(array.path))
    if names and names <= METADATA:
        raise StorageError(
            f"{place_of(store, array.path)}: no pixel of the {tuple(array.shape)} array was ever written: there is no "
            "chunk at all"
        )


def _header(found: Described, root: ZarrNode, signal: Signal, signals: list[Signal]) -> dict[str, Any]:
    others = [other.name for other in signals if other is not signal]
    models = models_of(root, signal.name)
    return {
        **found.header,
        "zarr_format": int(signal.data.metadata.zarr_format),
        **({"experiments": others} if others else {}),
        **({"models": models} if models else {}),
    }


def _listed(signals: list[Signal]) -> tuple[dict[str, Any], ...]:
    images = [signal for signal in signals if signal.data is not None]
    return tuple(
        {"index": k, "name": s.name, "shape": list(s.data.shape), "dtype": str(s.data.dtype)}
        for k, s in enumerate(images)
    )
