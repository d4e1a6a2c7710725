"""Saving images: what is asked for, into which files, and what is refused before anything is written."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import os
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from . import arguments
from .axes import get_axes, to_xarray
from .errors import (
    ArgumentError,
    ArgumentTypeError,
    EmioError,
    EmioWarning,
    MissingFileError,
    StorageError,
    TargetExistsError,
    UnknownArgumentError,
)
from .formats import Format, registry
from .frames.chunking import cores
from .frames.files import is_remote, normalise
from .members import write_members
from .partition import parse_name
from .progress import steps
from .replacing import LONGEST_NAME, exists, replacing, sync, uploading
from .splitting import Part, Target, split

if TYPE_CHECKING:
    import xarray as xr

DEFAULT_EXTENSION = ".zarr"
MOST_NAMED = 5
"""Files that a message names."""


def save(
    image: Any,
    uri: Any,
    *,
    compress: bool | None = None,
    partition: str | None = None,
    overwrite: bool = False,
    labels: str = "coords",
    storage_options: Mapping[str, Any] | None = None,
    **format_kwargs: Any,
) -> list[str]:
    """Save an image; see `intake_emio.imsave`."""
    if compress is not None and not isinstance(compress, bool):
        raise ArgumentTypeError(f"compress must be True, False or None, not {compress!r}")
    arguments.choice("labels", labels, ("coords", "index"))
    dataset = as_dataset(image)
    target = target_of(uri)
    write = target.format.load(target.writer.save)
    _check_arguments(target.format, write, format_kwargs)
    parts = split(dataset, target, partition, labels == "index")
    paths = [path for part in parts for path in part.paths]
    options = {"compress": compress, **format_kwargs}
    if is_remote(target.path) and "storage_options" in inspect.signature(write).parameters:
        options["storage_options"] = storage_options
    if _amends(target, format_kwargs):
        for part in parts:
            _write(part, list(part.paths), target, write, lambda _: None, options)
        return paths
    _check_targets(paths, overwrite, storage_options)
    _warn_losses(parts, target)
    if overwrite:
        _warn_strays(parts, target)
    with (
        _written(target, paths, storage_options) as temporaries,
        _own_threads(),
        steps("saving", len(paths)) as advance,
    ):
        for part, names in zip(parts, _per_part(parts, temporaries), strict=True):
            _write(part, names, target, write, advance, options)
    return paths


def _amends(target: Target, given: Mapping[str, Any]) -> bool:
    """Whether what is there is changed, which the writer does by itself, instead of replaced."""
    name = target.writer.amends
    return name is not None and not arguments.flag(name, given.get(name, True))


def _per_part(parts: list[Part], names: list[str]) -> Iterator[list[str]]:
    rest = iter(names)
    for part in parts:
        yield list(itertools.islice(rest, len(part.paths)))


def _written(
    target: Target, paths: list[str], storage_options: Mapping[str, Any] | None
) -> contextlib.AbstractContextManager[list[str]]:
    """Names under which to write, until all is complete."""
    if is_remote(target.path):
        return uploading(paths, storage_options, directly=target.writer.folder)
    return replacing(paths)


def _write(
    part: Part,
    names: list[str],
    target: Target,
    write: Callable[..., None],
    advance: Callable[[int], None],
    options: Mapping[str, Any],
) -> None:
    """Write the files of a part under temporary names, which no message mentions."""
    lock = threading.Lock()

    def write_one(k: int, content: Any) -> None:
        noted = {"record": part.record(k)} if target.writer.records else {}
        try:
            write(content, names[k], **options, **noted)
            sync(names[k])
        except EmioError as error:
            error.args = tuple(str(text).replace(names[k], part.paths[k]) for text in error.args)
            raise
        except OSError as error:
            raise StorageError(f"{part.paths[k]}: {error.strerror or error}") from error
        with lock:
            advance(1)

    if part.outer:
        write_members(part, write_one, tempfile.gettempdir() if is_remote(names[0]) else os.path.dirname(names[0]))
    else:
        write_one(0, part.content)


def as_dataset(image: Any) -> xr.Dataset:
    """Return whatever people hand over, as a labelled Dataset with an `image`; nothing is computed.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If it is no image, or of a kind that files cannot hold.
    """
    import xarray as xr
    from intake.source.base import DataSource

    if isinstance(image, DataSource):
        image = image.to_dask()
    if isinstance(image, list | tuple | str | bytes | dict):
        raise ArgumentTypeError(f"imsave takes a Dataset, a DataArray or an array, not a {type(image).__name__}")
    if not isinstance(image, xr.Dataset):
        _check_dense(image)
        labelled = to_xarray(image)
        attrs = labelled.attrs
        nobody = (None, getattr(labelled.data, "name", None))  # xarray takes the name that dask has given an array
        image = labelled.to_dataset(name="image" if labelled.name in (*nobody, *labelled.coords) else labelled.name)
        image.attrs = dict(attrs)
    for name, variable in image.data_vars.items():
        if not variable.ndim:
            raise ArgumentError(f"variable {name!r} has no axes: a single number is no image")
        get_axes(variable)
        if variable.chunks is not None:
            _check_dense(variable.data)
    if not image.data_vars:
        raise ArgumentError("the Dataset has no variables to save")
    return image


def _check_dense(pixels: Any) -> None:
    """Refuse arrays that are more than pixels, or fewer."""
    pixels = getattr(pixels, "_meta", pixels)  # what the chunks of a dask array are like
    if isinstance(pixels, np.ma.MaskedArray):
        raise ArgumentTypeError("masked arrays cannot be saved: fill them first (image.filled(0))")
    if hasattr(pixels, "todense"):
        raise ArgumentTypeError("sparse arrays cannot be saved: make them dense first (image.todense())")


def target_of(uri: Any) -> Target:
    """Return where to write and how, by the extension; without one, `.zarr` is appended.

    Raises
    ------
    ArgumentError
        If the extension is unknown; lists the known ones.
    """
    path = normalise(os.fspath(uri).rstrip("/") if len(os.fspath(uri)) > 1 else uri)
    writers = {ext: (entry, w) for entry in registry().values() for w in entry.writers for ext in w.extensions}
    name = path.rpartition("/")[2] if is_remote(path) else os.path.basename(path)
    for extension in sorted(writers, key=len, reverse=True):
        if name.lower().endswith(extension) and len(name) > len(extension):
            return Target(path, path[-len(extension) :], *writers[extension])
    if "." in name.lstrip("."):
        known = ", ".join(sorted(writers))
        raise ArgumentError(f"{path}: unknown extension {os.path.splitext(name)[1]!r}; images can be saved as {known}")
    return Target(path + DEFAULT_EXTENSION, DEFAULT_EXTENSION, *writers[DEFAULT_EXTENSION])


def _check_arguments(entry: Format, write: Callable[..., None], given: Mapping[str, Any]) -> None:
    parameters = inspect.signature(write).parameters.values()
    allowed = [
        p.name
        for p in parameters
        if p.kind is p.KEYWORD_ONLY and p.name not in ("compress", "record", "storage_options")
    ]
    unknown = sorted(set(given) - set(allowed))
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        raise UnknownArgumentError(
            f"{entry.name} files are saved without an argument {unknown[0]!r}; allowed: "
            f"{', '.join(['compress', 'partition', 'overwrite', 'labels', 'storage_options', *allowed])}"
        )


def _check_targets(paths: list[str], overwrite: bool, storage_options: Mapping[str, Any] | None) -> None:
    remote = is_remote(paths[0])
    folder = os.path.dirname(paths[0])
    if not remote and not os.path.isdir(folder):
        raise MissingFileError(f"{folder}: no such folder: make it first")
    known: dict[str, str] = {}
    for path in paths:
        if len(os.fsencode(os.path.basename(path))) > LONGEST_NAME:
            raise ArgumentError(f"{path}: the file's name is longer than {LONGEST_NAME} bytes")
        if path.casefold() in known:
            raise ArgumentError(f"{path}: differs from {known[path.casefold()]} in case only: rename a variable")
        known[path.casefold()] = path
    there = [] if overwrite else [path for path in paths if exists(path, storage_options)]
    if there:
        more = f" and {len(there) - MOST_NAMED} more" if len(there) > MOST_NAMED else ""
        raise TargetExistsError(
            f"{', '.join(there[:MOST_NAMED])}{more}: exists already: pass overwrite=True to replace it"
        )


def _warn_losses(parts: list[Part], target: Target) -> None:
    """Say once what the format will not keep of the files' images."""
    if target.writer.losses is None:
        return
    losses = target.format.load(target.writer.losses)
    lost = sorted({loss for part in parts for loss in losses(part.content.isel(part.points(0)))})
    if lost:
        warnings.warn(
            f"{parts[0].paths[0]}: {target.format.name} files do not keep {', '.join(lost)}; .zarr does",
            EmioWarning,
            stacklevel=4,
        )


def _warn_strays(parts: list[Part], target: Target) -> None:
    """Name members of an earlier, larger set that stay where they are."""
    if is_remote(target.path) or not any(part.outer for part in parts):
        return
    folder, stem = os.path.split(target.stem)
    ours = {os.path.basename(path) for part in parts for path in part.paths}
    strays = [
        name
        for name in sorted(os.listdir(folder))
        if name not in ours
        and name.endswith(target.extension)
        and (parsed := parse_name(name, target.extension)).groups
        and parsed.stem == stem
    ]
    if strays:
        more = f" and {len(strays) - MOST_NAMED} more" if len(strays) > MOST_NAMED else ""
        warnings.warn(
            f"{target.path}: {', '.join(strays[:MOST_NAMED])}{more} of an earlier set stay beside the new files, and "
            "will be read with them: remove them",
            EmioWarning,
            stacklevel=4,
        )


@contextlib.contextmanager
def _own_threads() -> Iterator[None]:
    """Let dask's threads finish before a failed save is tidied up: they would go on writing behind our back.

    Other schedulers, and threads that the user has chosen, are left alone.
    """
    import dask
    from dask import threaded

    if dask.base.get_scheduler() not in (None, threaded.get) or dask.config.get("pool", None) is not None:
        yield
        return
    pool = ThreadPoolExecutor(dask.config.get("num_workers", None) or cores())
    caller = threading.current_thread()

    def get(graph: Any, keys: Any, **options: Any) -> Any:
        """Compute in the pool; a computation within a block would wait there for itself."""
        own = {"pool": pool} if threading.current_thread() is caller else {}
        return threaded.get(graph, keys, **{**options, **own})

    try:
        with dask.config.set(scheduler=get):
            yield
    finally:
        pool.shutdown(cancel_futures=True)
