"""All-or-nothing writing: into temporary siblings, then renamed; a failed save leaves everything as it was."""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import secrets
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

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
from .formats import Format, Writer, registry
from .frames.chunking import cores
from .frames.files import is_remote, normalise
from .record import describe

if TYPE_CHECKING:
    import xarray as xr

DEFAULT_EXTENSION = ".zarr"
LONGEST_NAME = 255  # bytes; of most file systems


@dataclass(frozen=True)
class Member:
    """One file to write."""

    path: str
    content: xr.Dataset | xr.DataArray
    record: Mapping[str, Any]


def save(
    image: Any, uri: Any, *, compress: bool | None = None, overwrite: bool = False, **format_kwargs: Any
) -> list[str]:
    """Save an image; see `intake_emio.imsave`."""
    if compress is not None and not isinstance(compress, bool):
        raise ArgumentTypeError(f"compress must be True, False or None, not {compress!r}")
    dataset = as_dataset(image)
    path, entry, writer = target_format(uri)
    write = entry.load(writer.save)
    _check_arguments(entry, write, format_kwargs)
    members = _members(dataset, path, writer)
    _check_targets(members, overwrite)
    _warn_losses(members, entry, writer)
    with replacing([member.path for member in members]) as temporaries, _own_threads():
        for member, temporary in zip(members, temporaries, strict=True):
            try:
                noted = {"record": member.record} if writer.records else {}
                write(member.content, temporary, compress=compress, **noted, **format_kwargs)
            except EmioError as error:
                error.args = tuple(str(text).replace(temporary, member.path) for text in error.args)
                raise
            except OSError as error:
                raise StorageError(f"{member.path}: {error.strerror or error}") from error
    return [member.path for member in members]


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
        image = labelled.to_dataset(name="image" if labelled.name in (None, *labelled.coords) else labelled.name)
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


def target_format(uri: Any) -> tuple[str, Format, Writer]:
    """Return the path to write, its format and how that is written, by extension; without one, `.zarr` is appended.

    Raises
    ------
    ArgumentError
        If the extension is unknown; lists the known ones.
    """
    path = normalise(os.fspath(uri).rstrip("/") if len(os.fspath(uri)) > 1 else uri)
    if is_remote(path):
        raise ArgumentError(f"{path}: saving is possible to local folders only: save there, and copy")
    writers = {ext: (entry, w) for entry in registry().values() for w in entry.writers for ext in w.extensions}
    name = os.path.basename(path)
    for extension in sorted(writers, key=len, reverse=True):
        if name.lower().endswith(extension) and len(name) > len(extension):
            return path, *writers[extension]
    if "." in name.lstrip("."):
        known = ", ".join(sorted(writers))
        raise ArgumentError(f"{path}: unknown extension {os.path.splitext(name)[1]!r}; images can be saved as {known}")
    return path + DEFAULT_EXTENSION, *writers[DEFAULT_EXTENSION]


def _members(dataset: xr.Dataset, path: str, writer: Writer) -> list[Member]:
    """One file, or one per variable where the format holds only one: `scan.var_image.npy`."""
    names = list(dataset.data_vars)
    if ("image" in dataset or writer.holds == ("*",)) and writer.takes(map(str, names)):
        main = "image" if "image" in dataset else names[0]
        return [Member(path, dataset, describe(dataset[main], dataset.attrs))]

    def member(path: str, name: Any) -> Member:
        account = describe(dataset[name], dataset.attrs)
        if writer.holds:
            return Member(path, dataset[[name]].rename({name: "image"}), account)
        return Member(path, dataset[name].assign_attrs({**dataset.attrs, **dataset[name].attrs}), account)

    if len(names) == 1:
        return [member(path, names[0])]
    extension = next(e for e in sorted(writer.extensions, key=len, reverse=True) if path.lower().endswith(e))
    stem, spelled = path[: -len(extension)], path[-len(extension) :]
    return [member(f"{stem}.var_{_escaped(str(name))}{spelled}", name) for name in names]


def _escaped(name: str) -> str:
    """Name of a variable as a part of a file's name: only letters, digits, ``-``, ``+`` and ``_`` stay as they are."""
    return re.sub(r"[^\w+-]", lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), name)


def _check_arguments(entry: Format, write: Callable[..., None], given: Mapping[str, Any]) -> None:
    parameters = inspect.signature(write).parameters.values()
    allowed = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in ("compress", "record")]
    unknown = sorted(set(given) - set(allowed))
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        raise UnknownArgumentError(
            f"{entry.name} files are saved without an argument {unknown[0]!r}; allowed: "
            f"{', '.join(['compress', 'overwrite', *allowed])}"
        )


def _check_targets(members: list[Member], overwrite: bool) -> None:
    folder = os.path.dirname(members[0].path)
    if not os.path.isdir(folder):
        raise MissingFileError(f"{folder}: no such folder: make it first")
    known: dict[str, str] = {}
    for path in (member.path for member in members):
        if len(os.fsencode(os.path.basename(path))) > LONGEST_NAME:
            raise ArgumentError(f"{path}: the file's name is longer than {LONGEST_NAME} bytes")
        if path.casefold() in known:
            raise ArgumentError(f"{path}: differs from {known[path.casefold()]} in case only: rename a variable")
        known[path.casefold()] = path
    there = [member.path for member in members if os.path.lexists(member.path)]
    if there and not overwrite:
        raise TargetExistsError(f"{', '.join(there)}: exists already: pass overwrite=True to replace it")


def _warn_losses(members: list[Member], entry: Format, writer: Writer) -> None:
    if writer.losses is None:
        return
    lost = sorted({loss for member in members for loss in entry.load(writer.losses)(member.content)})
    if lost:
        warnings.warn(
            f"{members[0].path}: {entry.name} files do not keep {', '.join(lost)}; .zarr does",
            EmioWarning,
            stacklevel=4,
        )


@contextlib.contextmanager
def replacing(paths: list[str]) -> Iterator[list[str]]:
    """Yield temporary names beside the targets; rename all on success, leave everything as it was on any failure."""
    temporaries = [_hidden(path, "tmp") for path in paths]
    replaced: dict[str, str | None] = {}
    try:
        yield temporaries
        for temporary in temporaries:
            _sync(temporary)
        for temporary, path in zip(temporaries, paths, strict=True):
            replaced[path] = _put(temporary, path)
    except BaseException:
        for path, old in replaced.items():
            _remove(path)
            if old is not None:
                os.rename(old, path)
        for temporary in temporaries:
            _remove(temporary)
        raise
    for old in replaced.values():
        if old is not None:
            _remove(old)


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


def _hidden(path: str, kind: str) -> str:
    folder, name = os.path.split(path)
    stem, extension = os.path.splitext(name)
    tail = f".{secrets.token_hex(4)}.{kind}{extension}"
    short = os.fsencode(stem)[: LONGEST_NAME - len(tail) - 1].decode(errors="ignore")
    return os.path.join(folder, f".{short}{tail}")


def _put(temporary: str, path: str) -> str | None:
    """Rename over the target; return the name under which the old one is kept until all targets are in place."""
    if not os.path.lexists(path):
        os.replace(temporary, path)
        return None
    old = _hidden(path, "old")
    if os.path.isdir(path) or os.path.isdir(temporary):  # a folder cannot be replaced: it is moved aside first
        os.rename(path, old)
        try:
            os.replace(temporary, path)
        except BaseException:
            os.rename(old, path)
            raise
        return old
    try:
        os.link(path, old, follow_symlinks=False)
    except OSError:  # no hard links here: the old file cannot be kept, and need not be if this is the only one
        os.replace(temporary, path)
        return None
    try:
        os.replace(temporary, path)
    except BaseException:
        _remove(old)
        raise
    return old


def _sync(path: str) -> None:
    """Make sure that a file is on the disk before it gets its name; folders are left to the system."""
    if os.path.isfile(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
