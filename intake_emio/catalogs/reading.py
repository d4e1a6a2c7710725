"""Catalogs as plain data: YAML read without running anything, whoever wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from ..errors import CatalogError
from ..frames.files import File, normalise

LARGEST = 1 << 28  # bytes; a hundred thousand entries are a third of that
DEEPEST = 50
MOST_NODES = 20_000_000

# a safe loader, of libyaml where it is there
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_catalog(uri: Any, storage_options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Content of a catalog file, with every name and text as it is written there.

    Parameters
    ----------
    uri
        Path or fsspec URL.
    storage_options
        For fsspec.

    Raises
    ------
    CatalogError
        If it is no catalog, or YAML that does harm.
    MissingFileError, StorageError
        If it cannot be read.
    """
    file = File(normalise(uri), storage_options)
    if file.size > LARGEST:
        raise CatalogError(f"{file}: {file.size} bytes are too many for a catalog")
    return parse_catalog(file.read(0, file.size), str(file))


def parse_catalog(raw: bytes, name: str) -> dict[str, Any]:
    """Content of a catalog, from the bytes of its file.

    Parameters
    ----------
    raw
        UTF-8, or UTF-16 with a byte-order mark.
    name
        For messages.

    Raises
    ------
    CatalogError
        If it is no catalog, or YAML that does harm.

    Examples
    --------
    >>> parse_catalog(b"sources: {gold: {driver: emio, args: {uri: gold.blo}}}", "lab.yml")["sources"]["gold"]["args"]
    {'uri': 'gold.blo'}
    >>> parse_catalog(b"sources: !!python/object/apply:os.system [ls]", "lab.yml")
    Traceback (most recent call last):
        ...
    intake_emio.errors.CatalogError: lab.yml: could not determine a constructor for the tag ...
    """
    try:
        _check_size(raw)
        content = yaml.load(raw, _Loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise CatalogError(f"{name}: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        held = "nothing" if content is None else f"a {type(content).__name__}"
        raise CatalogError(f"{name}: not a catalog: it holds {held} and no mapping")
    return content


def sources_of(content: Mapping[str, Any], name: str) -> dict[str, dict[str, Any]]:
    """Entries of a catalog of version 1, by name.

    Raises
    ------
    CatalogError
        If there is none, or one is no mapping.
    """
    sources = content.get("sources")
    if not isinstance(sources, dict):
        raise CatalogError(f"{name}: not a catalog of intake: there is no mapping 'sources'")
    for key, entry in sources.items():
        if not isinstance(key, str) or not isinstance(entry, dict):
            raise CatalogError(f"{name}: entry {key!r} is no mapping with a text as its name")
    return sources


def _check_size(raw: bytes) -> None:
    """Refuse what would overflow the stack or, by references to references, the memory, before anything is built.

    Raises
    ------
    CatalogError
        If it is nested too deeply, or becomes too large.
    yaml.YAMLError
        If it is no YAML.
    """
    sizes: dict[str, int] = {}  # of what has a name, with all that it refers to
    open_nodes: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(raw, _Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, total))
            if len(open_nodes) > DEEPEST:
                raise CatalogError(f"nested more than {DEEPEST} deep, {_place(event)}")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.ScalarEvent) and event.anchor is not None:
            sizes[event.anchor] = 1
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise CatalogError(f"{event.anchor!r} refers to itself, or to nothing, {_place(event)}")
            total += sizes[event.anchor]
        total += 1
        if total > MOST_NODES:
            raise CatalogError(f"references make it larger than {MOST_NODES} values, {_place(event)}")


def _place(event: Any) -> str:
    return f"line {event.start_mark.line + 1}"
