"""All-or-nothing writing: into temporaries, then renamed; a failed save leaves everything as it was."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from .errors import StorageError
from .frames.files import filesystem, is_remote

LONGEST_NAME = 255  # bytes; of most file systems


@contextlib.contextmanager
def replacing(paths: list[str]) -> Iterator[list[str]]:
    """Yield temporary names beside the targets; rename all on success, leave everything as it was on any failure.

    Files are to be brought to the disk (`sync`) by whoever writes them, folders are left to the system.
    """
    temporaries = [hidden(path, "tmp") for path in paths]
    replaced: dict[str, str | None] = {}
    try:
        yield temporaries
        for temporary, path in zip(temporaries, paths, strict=True):
            replaced[path] = _put(temporary, path)
    except BaseException:
        for path, old in replaced.items():
            remove(path)
            if old is not None:
                os.rename(old, path)
        for temporary in temporaries:
            remove(temporary)
        raise
    for old in replaced.values():
        if old is not None:
            remove(old)


@contextlib.contextmanager
def uploading(urls: list[str], storage_options: Mapping[str, Any] | None, directly: bool) -> Iterator[list[str]]:
    """Yield names to write to; afterwards everything is where the URLs say, or nothing is.

    Parameters
    ----------
    urls
        Targets on one remote file system. What is there is replaced.
    storage_options
        For fsspec.
    directly
        Whether the URLs themselves are written to (folders of many objects), and not a local copy that is sent when it
        is complete.
    """
    fs, _ = filesystem(urls[0], storage_options)
    places = [filesystem(url, storage_options)[1] for url in urls]
    sent: list[str] = []
    folder = None if directly else tempfile.mkdtemp(prefix="intake-emio-")
    try:
        if folder is None:
            sent = list(places)
            for place in places:
                _discard(fs, place)
            yield list(urls)
            return
        copies = [os.path.join(folder, str(k), place.rpartition("/")[2]) for k, place in enumerate(places)]
        for copy in copies:
            os.mkdir(os.path.dirname(copy))
        yield copies
        for copy, place in zip(copies, places, strict=True):
            sent.append(place)
            fs.put_file(copy, place)
    except BaseException as error:
        for place in sent:
            _discard(fs, place)
        if isinstance(error, OSError | NotImplementedError):
            raise StorageError(f"{urls[0]}: cannot be written there: {error}") from error
        raise
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _discard(fs: Any, place: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        fs.rm(place, recursive=True)


def exists(path: str, storage_options: Mapping[str, Any] | None = None) -> bool:
    """Whether there is a file, a folder or a link of that name already."""
    if not is_remote(path):
        return os.path.lexists(path)
    fs, place = filesystem(path, storage_options)
    try:
        return bool(fs.exists(place))
    except (OSError, NotImplementedError) as error:
        raise StorageError(f"{path}: nobody can tell whether it exists: {error}") from error


def hidden(path: str, kind: str) -> str:
    """Return a name beside a target under which nobody looks for images, with the same extension."""
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
    old = hidden(path, "old")
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
        remove(old)
        raise
    return old


def sync(path: str) -> None:
    """Make sure that a file is on the disk before it gets its name."""
    if os.path.isfile(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove(path: str) -> None:
    """Remove a file or a folder, if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
