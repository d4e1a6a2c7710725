"""Walking through folders, local or remote: what is in them, without opening a file."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple

from natsort import natsorted

from ..detection import by_folder
from ..errors import ArgumentError, EmioError, MissingFileError, StorageError
from ..frames.files import File, filesystem, is_remote

DATE = re.compile(r"\d{4}-\d\d-\d\dT")


class Stamp(NamedTuple):
    """Size in bytes, and a mark that changes when the content does; `None`: the server does not say.

    Of a folder that is an image, they are those of all files in it, and `files` tells how many these are.
    """

    size: int | None
    mark: Any
    files: int = 1

    @property
    def modified(self) -> str | None:
        """Time of the last change in UTC (ISO 8601), if the mark is a time."""
        match self.mark:
            case int():
                time = datetime.fromtimestamp(self.mark // 10**9, UTC)
            case float():
                time = datetime.fromtimestamp(self.mark, UTC)
            case datetime():
                time = self.mark.astimezone(UTC)
            case str() if DATE.match(self.mark):
                return self.mark
            case _:
                return None
        return time.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Folder:
    """A folder and the files in it, and folders in it that are images.

    Parameters
    ----------
    name
        Path or URL.
    place
        The same, seen from where the walk began, with ``/``; empty there.
    stamps
        Of the files and of the images, by name, in natural order. Hidden files are left out.
    images
        Names of folders in it that are images.
    storage_options
        For fsspec.
    """

    name: str
    place: str
    stamps: Mapping[str, Stamp]
    images: frozenset[str] = frozenset()
    storage_options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the files, sorted as neighbours of a `File` are."""
        return tuple(sorted(self.stamps.keys() - self.images))

    @cached_property
    def _names_digest(self) -> str:
        names = [name for name in self.names if not name.endswith((".yml", ".yaml"))]  # catalogs say nothing of files
        return hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass")).hexdigest()

    def state_of(self, name: str) -> str:
        """Return a text that changes when a file does, or when others in here come or go."""
        return hashlib.sha256(f"{self.stamps.get(name)}{self._names_digest}".encode()).hexdigest()[:12]

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self.names:
            found.setdefault(name.partition(".")[0], []).append(name)
        return found

    def beginning_like(self, name: str) -> tuple[str, ...]:
        """Names of the other files whose names are the same up to their first dot: they may be about that file."""
        return tuple(other for other in self._by_stem.get(name.partition(".")[0], ()) if other != name)

    @cached_property
    def _real(self) -> str:
        return self.name if is_remote(self.name) else os.path.realpath(self.name)

    def own_name(self, uri: str) -> str:
        """Return a file's name by way of this folder: readers may have followed links that lead here."""
        if uri.startswith(self._real + os.sep) and not uri.startswith(self.name + os.sep):
            return self.name + uri[len(self._real) :]
        return uri

    def stamps_of(self, uris: Iterable[str]) -> dict[str, Stamp]:
        """Return stamps of files in here or elsewhere, by name, as far as they are there."""
        found = {}
        for uri in uris:
            where, name = os.path.split(uri)
            stamp = self.stamps.get(name) if where == self.name.rstrip("/") else _stamp(uri, self.storage_options)
            if stamp is not None:
                found[uri] = stamp
        return found

    def file(self, name: str) -> File:
        """Return a file in here, or an image that is a folder; it knows its neighbours."""
        plain = File(self.name, self.storage_options).within(name)
        return File(plain.uri, self.storage_options, neighbours=self.names)

    def place_of(self, name: str) -> str:
        """Return where a file in here is, seen from where the walk began."""
        return f"{self.place}/{name}" if self.place else name


@dataclass(frozen=True)
class Selection:
    """Which files are looked at.

    A pattern fits a file if it fits the name of the file or of a folder that it is in; a pattern with a ``/`` fits
    their places, seen from where the walk begins.

    Examples
    --------
    >>> chosen = Selection(include=("*.mib",), exclude=("old", "2023/test*"))
    >>> [chosen.takes(place) for place in ("a/x.mib", "a/x.blo", "old/x.mib", "2023/test 1/x.mib")]
    [True, False, False, False]
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def takes(self, place: str) -> bool:
        """Whether a file is to be looked at."""
        return not self.excludes(place) and (not self.include or _fits(place, self.include))

    def excludes(self, place: str) -> bool:
        """Whether a file or a folder is left out."""
        return _fits(place, self.exclude)


def _fits(place: str, patterns: Iterable[str]) -> bool:
    parts = place.split("/")
    places = ["/".join(parts[: k + 1]) for k in range(len(parts))]
    return any(
        fnmatch.fnmatchcase(text, pattern)
        for pattern in patterns
        for text in (places if "/" in pattern.strip("/") else parts)
    )


@dataclass(frozen=True)
class Trouble:
    """Something that cannot be listed, or that is not listed twice.

    Parameters
    ----------
    place
        Where, seen from where the walk began.
    reason
        In words.
    is_fault
        Whether something is missing because of it.
    """

    place: str
    reason: str
    is_fault: bool = True


def walk(root: File, selection: Selection) -> Iterator[Folder | Trouble]:
    """Yield a folder and all below it that are not excluded; images that are folders are not entered.

    Every folder comes once, however many symbolic links lead to it, and by its own name if that is below the root.

    Parameters
    ----------
    root
        Where to begin.
    selection
        Folders that it excludes are not entered.

    Raises
    ------
    MissingFileError, ArgumentError, StorageError
        If there is no such folder, or it cannot be reached.
    """
    _check_root(root)
    seen: set[object] = set()
    waiting, links = [("", root)], list[tuple[str, File]]()
    while waiting or links:
        is_listed = bool(waiting)  # by the folder it is in, which has told that it is no image
        place, file = waiting.pop() if waiting else links.pop(0)
        try:
            identity: object = file.uri if file.remote else _identity(file.uri)
            if identity in seen:
                yield Trouble(place, "a link to a folder that is listed already", is_fault=False)
                continue
            seen.add(identity)
            if not (is_listed and place) and by_folder(file) is not None:
                yield _only(file, place)
                continue
            listed = _listing(file)
        except Exception as error:  # of servers as well, which have errors of their own
            yield Trouble(place, in_words(error))
            continue
        for name in listed.broken:
            yield Trouble(_below(place, name), "a link to nothing")
        images: dict[str, Stamp] = {}
        entered = []
        for name in natsorted(listed.folders):
            below, inner = _below(place, name), file.within(name)
            if selection.excludes(below):
                continue
            try:
                if _is_link(inner):
                    links.append((below, inner))
                elif by_folder(inner) is None:
                    entered.append((below, inner))
                else:
                    images[name] = _total(inner)
            except Exception as error:
                yield Trouble(below, in_words(error))
        yield Folder(file.uri, place, _sorted({**listed.files, **images}), frozenset(images), file.storage_options)
        waiting += reversed(entered)


def _check_root(root: File) -> None:
    try:
        if root.is_folder:
            return
        is_file = root.exists()
    except Exception as error:
        raise StorageError(f"{root}: {in_words(error)}") from error
    if is_file:
        raise ArgumentError(f"{root} is a file: a catalog is made of a folder")
    raise MissingFileError(f"{root}: no such folder")


def _only(image: File, place: str) -> Folder:
    """Return a folder as if there were nothing in it but one image, which is a folder itself."""
    assert image.parent is not None
    where = place.rpartition("/")[0]
    return Folder(image.parent.uri, where, {image.name: _total(image)}, frozenset([image.name]), image.storage_options)


def folder_of(uri: str, place: str, storage_options: Mapping[str, Any]) -> Folder:
    """Return the folder that a file is in, listed now.

    Parameters
    ----------
    uri, place
        Of the file.
    storage_options
        For fsspec.
    """
    file = File(os.path.dirname(uri), storage_options)
    listed = _listing(file)
    inner = {name: file.within(name) for name in listed.folders}
    images = {name: _total(one) for name, one in inner.items() if by_folder(one) is not None}
    stamps = _sorted({**listed.files, **images})
    return Folder(file.uri, os.path.dirname(place), stamps, frozenset(images), storage_options)


def in_words(error: BaseException) -> str:
    """Say in one line what went wrong."""
    text = str(error) if isinstance(error, EmioError) or not isinstance(error, OSError) else error.strerror or ""
    kind = "" if isinstance(error, EmioError | OSError) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{text or type(error).__name__}".split())[:500]


def _below(place: str, name: str) -> str:
    return f"{place}/{name}" if place else name


def _identity(path: str) -> tuple[int, int]:
    info = os.stat(path)
    return info.st_dev, info.st_ino


def _is_link(folder: File) -> bool:
    return not folder.remote and os.path.islink(folder.uri)


# Listings ------------------------------------------------------------------------------------------------------------


class _Listing(NamedTuple):
    files: dict[str, Stamp]
    folders: list[str]
    broken: list[str]


def _listing(folder: File) -> _Listing:
    return _remote_listing(folder) if folder.remote else _local_listing(folder.uri)


def _sorted(stamps: Mapping[str, Stamp]) -> dict[str, Stamp]:
    return {name: stamps[name] for name in natsorted(stamps)}


def _local_listing(path: str) -> _Listing:
    found = _Listing({}, [], [])
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    found.folders.append(entry.name)
                elif entry.is_file():
                    found.files[entry.name] = _local_stamp(entry.stat())
                elif entry.is_symlink():
                    found.broken.append(entry.name)
            except OSError:  # gone again, or links in a circle
                if entry.is_symlink():
                    found.broken.append(entry.name)
    return found


def _local_stamp(info: os.stat_result) -> Stamp:
    return Stamp(info.st_size, info.st_mtime_ns)


def _stamp(uri: str, storage_options: Mapping[str, Any]) -> Stamp | None:
    try:
        if not is_remote(uri):
            return _local_stamp(os.stat(uri))
        fs, path = filesystem(uri, storage_options)
        return _remote_stamp(fs.info(path))
    except OSError:
        return None


def _remote_listing(folder: File) -> _Listing:
    fs, path = filesystem(folder.uri, folder.storage_options)
    fs.invalidate_cache(path)
    found = _Listing({}, [], [])
    inside = path.rstrip("/") + "/"
    for info in fs.ls(path, detail=True):
        own = str(info["name"]).rstrip("/")
        name = own.rpartition("/")[2]
        if name.startswith(".") or not name or (inside != "/" and not own.startswith(inside)):
            continue  # web servers list links to anywhere
        if info.get("type") == "directory":
            found.folders.append(name)
        else:
            found.files[name] = _remote_stamp(info)
    return found


def _remote_stamp(info: Mapping[str, Any]) -> Stamp:
    keys = ("mtime", "LastModified", "last_modified", "modified", "updated", "created", "ETag", "etag")
    return Stamp(info.get("size"), next((info[key] for key in keys if info.get(key)), None))


def _total(folder: File) -> Stamp:
    """Stamp of all files in a folder and below; links to folders are not followed."""
    stamps = list(_stamps_below(folder))
    marks = [stamp.mark for stamp in stamps if stamp.mark is not None]
    return Stamp(sum(stamp.size or 0 for stamp in stamps), max(marks, key=str, default=None), len(stamps))


def _stamps_below(folder: File) -> Iterator[Stamp]:
    if folder.remote:
        fs, path = filesystem(folder.uri, folder.storage_options)
        yield from map(_remote_stamp, fs.find(path, detail=True).values())
        return
    for where, _, names in os.walk(folder.uri):
        for name in names:
            try:
                yield _local_stamp(os.stat(os.path.join(where, name)))
            except OSError:  # gone again
                continue
