"""Writing signals of HyperSpy into Zarr stores of version 2, the only one that HyperSpy reads.

Rules: docs/formats/zspy.md.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import arguments
from ..errors import ArgumentError, ArgumentTypeError, HeaderError
from ..frames.chunked_store import StoreName
from ..frames.chunked_target import NewStore, in_whole_chunks, write_chunks
from ..frames.chunking import given_chunks
from ..frames.files import File, is_remote
from ..frames.store import hand_over
from ..replacing import uploading
from ._hyperspy_writing import VERSION, Group, Signal, notes_in, signal_chunks, signal_of, warn_of_losses
from ._zarr_store import EXPERIMENTS, joined, located

if TYPE_CHECKING:
    import xarray as xr

CHUNK_BYTES = 1e8
"""About how much HyperSpy puts into a chunk of data in memory."""

LARGEST_CHUNK = (1 << 31) - (1 << 16)
"""Blosc takes less than 2 GiB."""

OF_OBJECTS = {"pickle", "json2", "msgpack2", "vlen-utf8", "vlen-bytes", "vlen-array", "categorize"}
REWRITTEN = ("metadata", "original_metadata", "attributes")


def save(
    image: xr.DataArray,
    path: Any,
    *,
    compress: bool | None = None,
    record: Mapping[str, Any] | None = None,
    chunks: Any = None,
    compressor: Any = None,
    close_file: bool = True,
    write_dataset: bool = True,
    store_type: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    filters: Any = None,
    order: str = "C",
    fill_value: Any = None,
) -> None:
    """Write an image as a signal that HyperSpy opens, lazy pixels chunk by chunk.

    Parameters
    ----------
    image
        Any axes; numbers, bool or complex. Which axes are signal axes follows from their names, see the documentation.
    path
        Folder to make, ``.zip`` file or fsspec URL; or a store of zarr-python, a map of fsspec, or a mapping.
    compress
        `None`: Blosc with zstd, as HyperSpy does; `True`: packed tighter; `False`: not at all.
    record
        Our own account of the image, which is kept in ``original_metadata.emio``.
    chunks
        Sizes in the order in which the axes are stored (navigation axes, then signal axes), or by axis. Default: the
        chunks of lazy pixels; else whole signals, about 100 MB together.
    compressor
        Codec of numcodecs; `False`: none.
    close_file
        Whether a store that was handed over is closed.
    write_dataset
        `False`: the signal is there already, and only its axes and metadata are written anew.
    store_type
        ``"local"`` (default) makes a folder, ``"zip"`` a single file.
    storage_options
        For fsspec.
    filters, order, fill_value
        Of the array: codecs of numcodecs before the compressor, ``"C"`` or ``"F"``, and what missing chunks show (0).

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If the image holds no numbers, or an argument does not fit.
    HeaderError
        If there is no such signal to write the metadata of.

    Warns
    -----
    EmioWarning
        If HyperSpy cannot have some coordinates, or had something else that is not written again.
    """
    store_type = arguments.choice("store_type", store_type, (None, "local", "zip"))
    if image.dtype.kind not in "biufc" or image.dtype.itemsize > (16 if image.dtype.kind == "c" else 8):
        raise ArgumentError(f"the image holds {image.dtype}, which are no pixels that HyperSpy can have")
    if 0 in image.shape:
        raise ArgumentError(f"an image of shape {image.shape} has no pixels")
    signal = signal_of(image, record)
    if not arguments.flag("write_dataset", write_dataset):
        _rewrite(path, signal, notes_in(image))
        return
    warn_of_losses(image)
    layout = {
        "chunks": _chunk_shape(signal, chunks),
        "compressors": _compressor(compress, compressor, image.dtype),
        "order": arguments.choice("order", order, ("C", "F")),
        "filters": filters,
        **({} if fill_value is None else {"fill_value": fill_value}),
    }
    if isinstance(path, str | os.PathLike) and store_type != "zip":
        _write_new(NewStore(os.fspath(path), storage_options), signal, layout)
        return
    with _opened(path, store_type, arguments.flag("close_file", close_file), storage_options) as store:
        experiment, data = _begun(store, signal, layout)
        _write_here(signal.pixels, data)
        _write_members(experiment, signal.tree)


def _write_new(store: NewStore, signal: Signal, layout: Mapping[str, Any]) -> None:
    """Write a folder, or its like on a server, in parallel."""
    experiment, data = _begun(store.skeleton, signal, layout)
    _write_members(experiment, signal.tree)
    store.lay_out()
    plain = layout["compressors"] is layout["filters"] is None and layout["order"] == "C"
    write_chunks(signal.pixels, store.target(data.path, plain=plain), data.chunks)
    store.finish()


def _begun(store: Any, signal: Signal, layout: Mapping[str, Any]) -> tuple[Any, Any]:
    """Make the group of a signal, and the array for its pixels."""
    import zarr

    attributes = {"file_format": "ZSpy", "file_format_version": VERSION}
    root = zarr.create_group(store, zarr_format=2, attributes=attributes)
    experiment = root.create_group(EXPERIMENTS).create_group(signal.experiment, attributes=signal.tree.attributes)
    dtype = signal.pixels.dtype
    try:
        data = experiment.create_array(
            "data",
            shape=signal.pixels.shape,
            dtype=dtype if dtype.names else dtype.newbyteorder("<"),
            chunk_key_encoding={"name": "v2", "separator": "/"},
            config={"write_empty_chunks": True},
            **layout,
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise ArgumentError(f"filters={layout['filters']!r} or fill_value does not fit: {error}") from error
    return experiment, data


def _write_members(parent: Any, tree: Group) -> None:
    for name, values in tree.arrays.items():
        is_text = values.dtype.kind == "U"
        array = parent.create_array(name, shape=values.shape, dtype=str if is_text else values.dtype)
        array[...] = values.astype(object) if is_text else values
    for name, group in tree.groups.items():
        _write_members(parent.create_group(name, attributes=group.attributes), group)


def _write_here(pixels: Any, data: Any) -> None:
    """Write pixels into a store that only this process has; each block is computed once."""
    if isinstance(pixels, np.ndarray):
        data[...] = pixels
        return

    def put(placed: tuple[tuple[slice, ...], np.ndarray]) -> None:
        data[placed[0]] = placed[1]

    blocks = in_whole_chunks(pixels, data.chunks)
    hand_over([blocks.map_blocks(_placed, dtype=object, meta=np.empty((0,) * blocks.ndim, object))], put)


def _placed(block: np.ndarray, block_info: Any = None) -> Any:
    """Return a block with its place in the array."""
    return tuple(slice(start, stop) for start, stop in block_info[0]["array-location"]), block


# Layout --------------------------------------------------------------------------------------------------------------


def _chunk_shape(signal: Signal, chunks: Any) -> tuple[int, ...]:
    """Shape of the stored chunks."""
    pixels = signal.pixels
    usual, chunks = _usual_chunks(signal), arguments.chunks(chunks)
    if chunks is None or chunks == "auto":
        return usual
    frame_axes = signal.axes[len(signal.axes) - signal.signal :]
    if isinstance(chunks, list | tuple):
        if len(chunks) != pixels.ndim:
            raise ArgumentError(f"chunks has {len(chunks)} entries for the {pixels.ndim} axes {signal.axes!r}")
        chunks = dict(zip(signal.axes, chunks, strict=True))
    sizes = given_chunks(chunks, signal.axes, pixels.shape, usual, frame_axes)
    if not all(isinstance(size, int) for size in sizes):
        raise ArgumentError(f"chunks={chunks!r}: all stored chunks along an axis have one size")
    nbytes = math.prod(sizes) * pixels.dtype.itemsize
    if nbytes > LARGEST_CHUNK:
        raise ArgumentError(f"chunks={chunks!r} makes chunks of {nbytes} bytes: less than 2 GiB can be compressed")
    return sizes  # type: ignore[return-value]


def _usual_chunks(signal: Signal) -> tuple[int, ...]:
    """Chunks of lazy pixels; else whole signals. What is too large to be compressed is cut."""
    pixels = signal.pixels
    if isinstance(pixels, np.ndarray):
        chunk = list(signal_chunks(pixels.shape, signal.signal, pixels.dtype.itemsize, CHUNK_BYTES))
    else:
        chunk = [sizes[0] for sizes in pixels.chunks]
    while math.prod(chunk) * pixels.dtype.itemsize > LARGEST_CHUNK:
        longest = max(range(len(chunk)), key=lambda axis: chunk[axis])
        chunk[longest] = -(-chunk[longest] // 2)
    return tuple(chunk)


def _compressor(compress: bool | None, compressor: Any, dtype: np.dtype) -> Any:
    """Codec of numcodecs; `None` for none."""
    import numcodecs
    from numcodecs.abc import Codec

    if compressor is None:
        if compress is False:
            return None
        bits = bool(compress) and dtype.kind in "iub"
        return numcodecs.Blosc(cname="zstd", clevel=5 if compress else 1, shuffle=2 if bits else 1)
    if compress is not None:
        raise ArgumentError("compress and compressor both say how to compress: pass one of them")
    if compressor is False:
        return None
    if isinstance(compressor, Mapping):
        try:
            compressor = numcodecs.get_codec(dict(compressor))
        except ValueError as error:
            raise ArgumentError(f"compressor={compressor!r} is no codec of numcodecs: {error}") from error
    if not isinstance(compressor, Codec):
        raise ArgumentTypeError(
            f"compressor must be False or a codec of numcodecs, such as numcodecs.Zstd(), not {compressor!r}: HyperSpy "
            "reads version 2 of Zarr only"
        )
    if compressor.codec_id in OF_OBJECTS:
        raise ArgumentError(f"compressor {compressor.codec_id!r} stores Python objects, not pixels")
    return compressor


# Stores --------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(path: Any, store_type: str | None, close: bool, storage_options: Mapping[str, Any] | None) -> Iterator[Any]:
    """Yield a store of zarr-python to write to: a new ZIP, or one that the user has."""
    if not isinstance(path, str | os.PathLike):
        if store_type is not None:
            raise ArgumentError("store_type says what is made of a path; a store is what it is: leave it out")
        with _handed_over(path) as store:
            try:
                yield store
            finally:
                if close:
                    store.close()
        return
    from zarr.storage import ZipStore

    with contextlib.ExitStack() as closing:
        file = os.fspath(path)
        if is_remote(file):
            file = closing.enter_context(uploading([file], storage_options, directly=False))[0]
        store = ZipStore(file, mode="w")
        closing.callback(store.close)
        yield store


@contextlib.contextmanager
def _handed_over(store: Any) -> Iterator[Any]:
    """Yield a store that the user has: of zarr-python, of fsspec, or a mapping, which is filled at the end."""
    from fsspec.mapping import FSMap
    from zarr.abc.store import Store
    from zarr.storage import FsspecStore, MemoryStore

    if isinstance(store, FSMap):
        yield FsspecStore.from_mapper(store)
    elif isinstance(store, MutableMapping):
        held: dict[str, Any] = {}
        yield MemoryStore(held)
        store.update({key: value.to_bytes() for key, value in held.items()})
    elif isinstance(store, Store):
        yield store
    else:
        raise ArgumentTypeError(f"a {type(store).__name__} is neither a path nor a Zarr store")


# Metadata of a signal that is there ----------------------------------------------------------------------------------


def _rewrite(path: Any, signal: Signal, notes: list[str]) -> None:
    """Write axes and metadata of a signal anew, all or nothing; the pixels stay where they are."""
    if not isinstance(path, str | os.PathLike) or is_remote(str(path)):
        raise ArgumentError("write_dataset=False needs a local folder: groups of other stores cannot be put in place")
    file = File(str(path))
    store, inside = located(file)
    if store.zipped or inside:
        raise ArgumentError(f"{file}: write_dataset=False needs the folder of a store: a ZIP cannot be changed")
    group = joined(EXPERIMENTS, signal.experiment)
    zarr_format = _check_same(store, group, signal)
    folder = os.path.join(store.uri, EXPERIMENTS, signal.experiment)
    with tempfile.TemporaryDirectory(prefix=".", suffix=".tmp", dir=os.path.dirname(store.uri)) as made:
        new = os.path.join(made, "new")
        _write_beside(new, signal, zarr_format)
        _keep(folder, new, notes)
        _exchange(new, folder, os.path.join(made, "old"), sorted(os.listdir(new)))


def _check_same(store: StoreName, group: str, signal: Signal) -> Any:
    """Check that the signal is in the store; return the version of Zarr."""
    where = f"{store.uri}: {group}"
    with store.kept_open() as held:
        if "data" not in held.names(group):
            there = ", ".join(name for name in held.names(EXPERIMENTS) if not name.startswith(".")) or "none"
            raise HeaderError(f"{where}: there is no such signal to write the metadata of; there are: {there}")
        data = held.node(joined(group, "data"))
        if tuple(data.shape) != tuple(signal.pixels.shape):
            raise HeaderError(f"{where}: has the shape {data.shape}, and the image {signal.pixels.shape}")
        return int(data.metadata.zarr_format)


def _write_beside(folder: str, signal: Signal, zarr_format: Any) -> None:
    import zarr

    kept = {name: group for name, group in signal.tree.groups.items() if name in REWRITTEN or name.startswith("axis-")}
    root = zarr.create_group(folder, zarr_format=zarr_format, attributes=signal.tree.attributes)
    _write_members(root, Group(groups=kept))


def _keep(folder: str, new: str, notes: list[str]) -> None:
    """Copy what has not been read of the old metadata, such as markers with ragged arrays."""
    for note in notes:
        *above, key = note.split("/")[:3] if note.startswith("metadata/Markers/") else note.split("/")
        source, target = os.path.join(folder, *above), os.path.join(new, *above)
        for name in os.listdir(source) if os.path.isdir(source) and os.path.isdir(target) else ():
            if (name == key or name.endswith(f"_{key}")) and not os.path.lexists(os.path.join(target, name)):
                shutil.copytree(os.path.join(source, name), os.path.join(target, name))


def _exchange(new: str, folder: str, old: str, names: list[str]) -> None:
    """Put files and folders in the place of others, which are moved away; on failure all is as it was."""
    os.mkdir(old)
    moved: list[tuple[str, str]] = []

    def move(source: str, target: str) -> None:
        os.rename(source, target)
        moved.append((source, target))

    try:
        for name in names:
            if os.path.lexists(os.path.join(folder, name)):
                move(os.path.join(folder, name), os.path.join(old, name))
            move(os.path.join(new, name), os.path.join(folder, name))
    except BaseException:
        for source, target in reversed(moved):
            os.rename(target, source)
        raise
