"""Writing catalogs: YAML that reads and diffs well, all or nothing."""

from __future__ import annotations

import contextlib
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from ..errors import StorageError, TargetExistsError
from ..frames.files import File, is_remote, normalise
from ..replacing import exists, replacing, sync, uploading

WIDTH = 120


_SafeDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # libyaml's, where it is there


class _Dumper(_SafeDumper):
    """Writes everything out where it stands, and multi-line texts as they are."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def to_yaml(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield a catalog as YAML, piece by piece; what is innermost takes one line.

    Parameters
    ----------
    content
        Values that are iterators over pairs of name and value are mappings, however long.

    Examples
    --------
    >>> entries = iter([("gold", {"driver": "emio", "args": {"uri": "a.blo"}})])
    >>> print("".join(to_yaml({"metadata": {"version": 1}, "sources": entries})), end="")
    metadata: {version: 1}
    sources:
      gold:
        driver: emio
        args: {uri: a.blo}
    """
    for key, value in content.items():
        if not isinstance(value, Iterator):
            yield _dumped(key, value)
            continue
        empty = True
        for name, item in value:
            if empty:
                yield f"{key}:\n"
                empty = False
            yield textwrap.indent(_dumped(name, item), "  ")
        if empty:
            yield f"{key}: {{}}\n"


def _dumped(name: str, value: Any) -> str:
    """Return a name and its value; alone, a mapping of scalars would take one line, and not continue the catalog."""
    style = None if isinstance(value, Mapping | list) else False
    return yaml.dump(
        {name: value}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=style, width=WIDTH
    )


def is_stream(target: str) -> bool:
    """Whether a target is written through, such as ``/dev/stdout``, instead of being replaced."""
    if is_remote(target):
        return False
    return target in ("-", "/dev/stdout", "/dev/stderr") or (os.path.exists(target) and not os.path.isfile(target))


def base_of(target: str) -> str | None:
    """Return the folder of a catalog, from which its paths are seen; `None` for streams.

    Examples
    --------
    >>> base_of("/data/lab/catalog.yml"), base_of("s3://lab/catalog.yml"), base_of("-")
    ('/data/lab', 's3://lab', None)
    """
    if is_stream(target):
        return None
    folder = File(normalise(target)).parent
    return None if folder is None or "::" in target else folder.uri


def write_catalogs(
    contents: Mapping[str, Mapping[str, Any]],
    *,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Write catalogs: all of them, or none.

    Parameters
    ----------
    contents
        What to write, by path or URL; streams get it as text.
    overwrite
        Replace what is there.
    storage_options
        For fsspec.

    Raises
    ------
    TargetExistsError
        If there is something already.
    StorageError
        If it cannot be written.
    """
    streams = [target for target in contents if is_stream(target)]
    for target in streams:
        _write_through(target, to_yaml(contents[target]))
    targets = {normalise(target): content for target, content in contents.items() if target not in streams}
    if not targets:
        return
    if not overwrite:
        refuse_existing(targets, storage_options)
    try:
        with _all_or_nothing(list(targets), storage_options) as places:
            for place, content in zip(places, targets.values(), strict=True):
                with open(place, "w", encoding="utf-8") as file:
                    file.writelines(to_yaml(content))
                sync(place)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"{error.filename or next(iter(targets))}: {error.strerror or error}") from error


def refuse_existing(targets: Iterable[str], storage_options: Mapping[str, Any] | None = None) -> None:
    """Refuse to write where there is something already.

    Raises
    ------
    TargetExistsError
        Says what can be done.
    """
    for target in targets:
        if exists(target, storage_options):
            raise TargetExistsError(
                f"{target} exists already: update it (update=True, --update), which keeps what people wrote into it, "
                "or replace it (overwrite=True, --overwrite)"
            )


def _write_through(target: str, lines: Iterable[str]) -> None:
    ours = {"-": sys.stdout, "/dev/stdout": sys.stdout, "/dev/stderr": sys.stderr}
    if target in ours:  # opened by its name, a file that it was redirected to would be begun anew
        ours[target].writelines(lines)
        ours[target].flush()
    else:
        with open(target, "w", encoding="utf-8") as stream:
            stream.writelines(lines)


def _all_or_nothing(
    targets: list[str], storage_options: Mapping[str, Any] | None
) -> contextlib.AbstractContextManager[Iterable[str]]:
    if is_remote(targets[0]):
        return uploading(targets, storage_options, directly=False)
    for target in targets:
        os.makedirs(os.path.dirname(target), exist_ok=True)
    return replacing(targets)
