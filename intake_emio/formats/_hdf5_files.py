"""HDF5 files of strangers, looked at without following links to where they must not lead.

Three things make HDF5 read other files: external links, virtual datasets, and external raw storage. All of them stay in
the folder of the opened file, or they are refused. Links are therefore followed here, one name after the other, and
what is handed out says in which file it really lies.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import EmioError, HeaderError, MissingFileError, StorageError
from ..frames.chunked import Opening
from ..frames.files import File

LINKS = 32  # a path that follows more soft links than that is a circle
FILES_DEEP = 8
MOST_OBJECTS = 10_000
MOST_SECONDS = 3.0
PLUGINS = {
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32013: "zfp",
    32015: "zstd",
    32026: "blosc2",
}


def text(value: Any) -> str:
    """Text of an attribute or scalar dataset: str, bytes, NumPy's bytes, or an array of one of those."""
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0] if value.size else ""
    if isinstance(value, np.void):
        value = value.tobytes()
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8").rstrip("\0")
        except UnicodeDecodeError:
            return value.decode("latin-1").rstrip("\0")
    return str(value)


def texts(value: Any) -> list[str]:
    """Texts of an attribute that is an array of them, or one."""
    return [text(member) for member in value.reshape(-1)] if isinstance(value, np.ndarray) else [text(value)]


def attributes(thing: Any) -> dict[str, Any]:
    """Attributes in plain types; those that cannot be read are left out."""
    found = {}
    for name in thing.attrs:
        try:
            value = thing.attrs[name]
        except (OSError, TypeError, ValueError, KeyError):
            continue
        found[str(name)] = plain(value)
    return found


def plain(value: Any) -> Any:
    """Number, text or list of an attribute or a small dataset."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "OSV" and value.dtype.names is None:
        members = [text(member) for member in value.reshape(-1)[:1000]]
        return members[0] if value.shape in ((), (1,)) else members
    if isinstance(value, np.ndarray):
        return value.item() if value.size == 1 and value.dtype.names is None else value.reshape(-1)[:1000].tolist()
    if isinstance(value, np.generic) and not isinstance(value, np.void | np.bytes_ | np.str_):
        return value.item()
    return text(value)


def number(value: Any) -> float | None:
    """Finite number of an attribute or a dataset's content, also where it is written as text; else `None`."""
    try:
        found = float(value.reshape(-1)[0]) if isinstance(value, np.ndarray) else float(value)
    except (TypeError, ValueError, IndexError):
        return None
    return found if math.isfinite(found) else None


@dataclass(frozen=True)
class Place:
    """An object, and where it really lies.

    Parameters
    ----------
    file
        The file, which need not be the one that was opened.
    path
        Path in it, without links.
    thing
        `h5py.Group` or `h5py.Dataset`.
    """

    file: File
    path: str
    thing: Any

    @property
    def is_dataset(self) -> bool:
        """Whether it is a dataset."""
        return hasattr(self.thing, "dtype") and hasattr(self.thing, "shape")

    @property
    def identity(self) -> tuple[str, int]:
        """The same for the same object, by whatever path it was reached."""
        from h5py import h5o

        return self.file.uri, h5o.get_info(self.thing.id).addr


@dataclass
class Tree:
    """An open HDF5 file and those that it links to.

    Parameters
    ----------
    file
        The file.
    opening
        How it is opened.
    anywhere
        Whether links may lead out of the folder.
    closing
        Closes all files.
    """

    file: File
    opening: Opening
    anywhere: bool
    closing: ExitStack
    troubles: list[EmioError] = field(default_factory=list)
    _open: dict[str, Any] = field(default_factory=dict)

    @property
    def root(self) -> Place:
        """The root group."""
        return self._root(self.file)

    def _root(self, file: File) -> Place:
        if file.uri not in self._open:
            self._open[file.uri] = self.closing.enter_context(self.opening.open(file.uri, file.stamp))
        return Place(file, "/", self._open[file.uri])

    def get(self, path: str, start: Place | None = None) -> Place | None:
        """Object at a path; `None` if there is none.

        Raises
        ------
        StorageError, MissingFileError
            If an external link leads out of the folder, or to a file that is not there.
        """
        return self._follow(self.root if start is None or path.startswith("/") else start, path, 0)

    def _follow(self, here: Place, path: str, deep: int) -> Place | None:
        import h5py

        names = [name for name in path.split("/") if name]
        links = 0
        while names:
            name = names.pop(0)
            if name == ".":
                continue
            if here.is_dataset:
                return None
            link = here.thing.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                root = self._root(self._linked(here, name, link.filename, deep))
                found = self._follow(root, "/".join([link.path, *names]), deep + 1)
                if found is None:
                    raise MissingFileError(
                        f"{here.file}: {here.path.rstrip('/')}/{name} is a link to {link.path} in {link.filename}, "
                        "which has no such object"
                    )
                return found
            if isinstance(link, h5py.SoftLink):
                links += 1
                if links > LINKS:
                    return None
                names = [part for part in link.path.split("/") if part] + names
                if link.path.startswith("/"):
                    here = Place(here.file, "/", self._root(here.file).thing)
                continue
            try:
                thing = here.thing[name] if link is not None else None
            except (KeyError, OSError, RuntimeError):
                thing = None
            if thing is None:
                return None
            here = Place(here.file, f"{here.path.rstrip('/')}/{name}", thing)
        return here

    def _linked(self, here: Place, name: str, target: str, deep: int) -> File:
        """Return the file of an external link, checked before it is opened: opening is reading."""
        what = f"{here.file}: {here.path.rstrip('/')}/{name} links to {target!r}"
        if deep >= FILES_DEEP:
            raise StorageError(f"{what}, behind {deep} other links: that is too deep")
        file = self.beside(here.file, target, what)
        if not file.exists():
            raise MissingFileError(f"{what}, and there is no {file}: put it there")
        return file

    def beside(self, file: File, target: str, what: str) -> File:
        """Return a file by its name relative to another one; it must lie in the folder of the opened file, or below.

        Raises
        ------
        StorageError
            If it does not.
        """
        if file.remote:
            if "/" in target or "\\" in target:
                raise StorageError(f"{what}, which is not in the same folder")
            return file.sibling(target)
        found = os.path.realpath(os.path.join(os.path.dirname(file.uri), target))
        folder = os.path.realpath(os.path.dirname(self.file.uri))
        if not self.anywhere and os.path.commonpath([folder, found]) != folder:
            raise StorageError(
                f"{what}, which lies outside of the folder; pass external_links='anywhere' if you trust the file"
            )
        return File(found, file.storage_options)

    def walk(self, start: Place | None = None) -> Iterator[tuple[str, Place]]:
        """Yield every dataset once, with the path by which it was reached; groups may contain themselves.

        Links that must not be followed are noted in `troubles`.

        Raises
        ------
        HeaderError
            If there are too many objects.
        """
        begin = self.root if start is None else start
        seen = {begin.identity}
        waiting = [("" if begin.path == "/" else begin.path, begin)]
        count, since = 0, time.monotonic()
        while waiting:
            name, here = waiting.pop()
            if here.is_dataset:
                yield name, here
                continue
            below = []
            for member in here.thing:
                count += 1
                if count > MOST_OBJECTS or time.monotonic() - since > MOST_SECONDS:
                    raise HeaderError(f"{self.file}: there are too many objects to look through: pass ds_path=")
                try:
                    found = self._follow(here, member, 0)
                    if found is None or not hasattr(found.thing, "attrs"):
                        continue
                    if not found.is_dataset and not hasattr(found.thing, "keys"):  # a named type
                        continue
                    identity = found.identity
                except EmioError as trouble:
                    self.troubles.append(trouble)
                    continue
                if identity not in seen:
                    seen.add(identity)
                    below.append((f"{name}/{member}", found))
            waiting += reversed(below)

    # What a dataset must not do ---------------------------------------------------------------------------------------

    def check(self, place: Place, deep: int = 0) -> Opening:
        """Return how a dataset is opened, if it can be read at all.

        Raises
        ------
        StorageError
            If it reads other files that it must not, or needs a filter that is not there.
        """
        dataset = place.thing
        if dataset.external and not self.anywhere:
            raise StorageError(
                f"{place.file}: {place.path} has its values in another file, {dataset.external[0][0]!r}; pass "
                "external_links='anywhere' if you trust the file"
            )
        plugins = False
        if dataset.is_virtual:
            plugins = self._check_sources(place, deep)
        plugins |= _needs_plugins(place)
        return Opening(self.opening.options, self.opening.swmr, self.opening.locking, plugins)

    def _check_sources(self, place: Place, deep: int) -> bool:
        from ..errors import EmioWarning

        if deep >= FILES_DEEP:
            raise StorageError(f"{place.file}: {place.path} is put together from too many levels of files")
        missing, plugins = [], False
        sources = sorted({(source.file_name, source.dset_name) for source in place.thing.virtual_sources()})
        for name, dataset in sources:
            file = (
                place.file
                if name == "."
                else self.beside(place.file, name, f"{place.file}: {place.path} uses {name!r}")
            )
            if "%" in name:
                continue
            if not file.exists():
                missing.append(name)
                continue
            source = self._follow(self._root(file), dataset, 1)
            if source is not None and source.is_dataset and source.identity != place.identity:
                plugins |= self.check(source, deep + 1).plugins
        if missing and len(missing) == len(sources):
            raise MissingFileError(
                f"{place.file}: {place.path} is put together from files that are not there: {missing}"
            )
        if missing:
            import warnings

            warnings.warn(
                f"{place.file}: {place.path} lacks {', '.join(missing)}: that part is filled up", EmioWarning, 4
            )
        return plugins


def _needs_plugins(place: Place) -> bool:
    """Whether filters of hdf5plugin are needed, which are then there."""
    from h5py import h5z

    settings = place.thing.id.get_create_plist()
    filters = [settings.get_filter(k) for k in range(settings.get_nfilters())]
    foreign = [(number, name) for number, _, _, name in filters if number > 255]
    if not foreign:
        return False
    with suppress(ImportError):
        import hdf5plugin  # noqa: F401  registers its filters
    for number_, name in foreign:
        if not h5z.filter_avail(number_):
            known = PLUGINS.get(number_) or text(name) or "unknown"
            raise StorageError(
                f"{place.file}: {place.path} is compressed with filter {number_} ({known}), which is not there: "
                "pip install hdf5plugin"
            )
    return True
