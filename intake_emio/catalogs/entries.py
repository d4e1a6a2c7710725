"""From data sets to entries: what a catalog says of each, and under which name."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Container, Iterable, Mapping
from typing import Any

from ..arguments import plain
from ..formats import FORMATS, find
from ..frames.files import is_remote
from .crawl import Dataset
from .folders import Stamp
from .numbering import shortened

FACTS = "emio"
"""Key of an entry's metadata under which everything stands that we found out."""

CATALOG_DIR = "{{ CATALOG_DIR }}/"
_TEMPLATE = re.compile(r"\{(?=[{%#])")
_BRACE = "{{ '{' }}"


# Texts and templates -------------------------------------------------------------------------------------------------


def literal(value: Any) -> Any:
    """Return a value whose texts come out of intake's templates as they are now, whatever they contain.

    Names of files and titles in headers come from strangers, and intake runs what stands between ``{{`` and ``}}``.

    Examples
    --------
    >>> literal({"title": "{{ 1 + 1 }} nm"})
    {'title': "{{ '{' }}{ 1 + 1 }} nm"}
    """
    match value:
        case str():
            return _TEMPLATE.sub(_BRACE, cleaned(value))
        case dict():
            return {cleaned(key): literal(item) for key, item in value.items()}
        case list():
            return [literal(item) for item in value]
    return value


def cleaned(text: str) -> str:
    """Return a text that can be written as UTF-8."""
    return text.encode("utf-8", "replace").decode()


def unescaped(value: Any) -> Any:
    """Return what `literal` was given.

    Examples
    --------
    >>> unescaped(literal("{{{% x %}"))
    '{{{% x %}'
    """
    match value:
        case str():
            return value.replace(_BRACE, "{")
        case dict():
            return {key: unescaped(item) for key, item in value.items()}
        case list():
            return [unescaped(item) for item in value]
    return value


def uri_in(uri: str, base: str | None) -> str:
    """Return a path or URL as it stands in a catalog.

    Parameters
    ----------
    uri
        Absolute.
    base
        Folder of the catalog; `None` if it has none.

    Returns
    -------
    str
        Relative to ``{{ CATALOG_DIR }}`` if both are in the same folder, however far up, but for the topmost one.

    Examples
    --------
    >>> uri_in("/data/lab/2024/gold.blo", "/data/lab"), uri_in("/data/raw/x.mib", "/data/catalogs")
    ('{{ CATALOG_DIR }}/2024/gold.blo', '{{ CATALOG_DIR }}/../raw/x.mib')
    >>> uri_in("/data/lab/gold.blo", "/home/ada"), uri_in("s3://lab/2024/gold.blo", "s3://lab")
    ('/data/lab/gold.blo', '{{ CATALOG_DIR }}/2024/gold.blo')
    """
    found = relative(uri, base)
    return literal(uri) if found is None else CATALOG_DIR + literal(found)


def relative(uri: str, base: str | None) -> str | None:
    """Return a path or URL seen from a folder, with ``/``; `None` if they have no folder in common."""
    if base is None or "::" in uri or is_remote(uri) != is_remote(base):
        return None
    if is_remote(uri):
        inside = base.rstrip("/") + "/"
        return uri[len(inside) :] if uri.startswith(inside) else None
    if os.path.dirname(os.path.commonpath([uri, base])) == os.path.commonpath([uri, base]) != base:
        return None
    return os.path.relpath(uri, base).replace(os.sep, "/")


def uri_out(text: str, base: str | None) -> str | None:
    """Return the absolute path or URL for one that stands in a catalog; `None` if it has other templates.

    Examples
    --------
    >>> uri_out("{{ CATALOG_DIR }}/../raw/x.mib", "/data/catalogs"), uri_out("{{ CATALOG_DIR }}/{{ name }}", "/data")
    ('/data/raw/x.mib', None)
    """
    inner = re.sub(r"^\{\{\s*CATALOG_DIR\s*\}\}/*", "", text)
    plain_text = unescaped(inner)
    if _TEMPLATE.search(inner.replace(_BRACE, "")):
        return None
    if inner == text:
        return plain_text if is_remote(plain_text) or base is None else os.path.join(base, plain_text)
    if base is None:
        return None
    return f"{base.rstrip('/')}/{plain_text}" if is_remote(base) else os.path.normpath(os.path.join(base, plain_text))


# Entries -------------------------------------------------------------------------------------------------------------


def entry_of(dataset: Dataset, base: str | None, storage_options: Mapping[str, Any]) -> dict[str, Any]:
    """Entry of a data set, as the catalog holds it.

    Parameters
    ----------
    dataset
        What is described.
    base
        Folder of the catalog; `None`: paths are absolute.
    storage_options
        For fsspec; kept with the entry.
    """
    ours = {entry.name for entry in FORMATS}
    driver = "files" if dataset.is_set else dataset.format if dataset.format in ours else ""
    args: dict[str, Any] = {"uri": uri_in(dataset.uri, base)}
    if storage_options:
        args["storage_options"] = literal(plain(storage_options))
    entry: dict[str, Any] = {
        "description": cleaned(description_of(dataset)),
        "driver": f"emio_{driver}" if driver else "emio",
        "args": args,
        "metadata": {FACTS: literal(record_of(dataset))},
    }
    entry["metadata"][FACTS]["written"] = written(entry)
    return entry


def written(entry: Mapping[str, Any]) -> dict[str, str]:
    """Return short texts that tell later whether somebody has edited what we wrote."""
    return {
        "description": digest(entry.get("description")),
        "args": digest([entry.get("driver"), entry.get("args")]),
    }


def description_of(dataset: Dataset) -> str:
    """Say in a line what a data set is."""
    facts = dataset.facts
    acquisition = facts.get("acquisition", {})
    sizes = ", ".join(f"{axis} {size}" for axis, size in zip(facts["axes"], facts["shape"], strict=True))
    parts = [
        f"{f'{len(dataset.files)} files, ' if dataset.is_set else ''}{find(dataset.format).title.partition(':')[0]}",
        f"{sizes} {facts['dtype']}".strip(),
        f"{acquisition['beam_energy']:g} keV" if isinstance(acquisition.get("beam_energy"), int | float) else "",
        f"first of {len(facts['datasets'])} images" if "datasets" in facts else "",
        " ".join(str(acquisition.get("title", "")).split()),
    ]
    return "; ".join(filter(None, parts))


def record_of(dataset: Dataset) -> dict[str, Any]:
    """Everything that was found out: facts, and what tells later whether the files have changed."""
    where = os.path.dirname(dataset.uri)
    stamps = [dataset.stamps[name] for name in dataset.files if name in dataset.stamps]
    times = [stamp.modified for stamp in stamps if stamp.modified is not None]
    return {
        **dataset.facts,
        "size": sum(stamp.size or 0 for stamp in stamps),
        **({"modified": max(times)} if times else {}),
        "files": shortened(file_name(name, where) for name in ([dataset.uri] if dataset.is_set else dataset.files)),
        "state": state_of(dataset.stamps, dataset.files, dataset.beside, where),
    }


def file_name(uri: str, where: str) -> str:
    """Return the name of a file seen from the folder of its data set."""
    return uri[len(where) + 1 :] if uri.startswith(where.rstrip("/") + "/") else uri


def state_of(stamps: Mapping[str, Stamp], files: Iterable[str], beside: Iterable[str], where: str) -> str | None:
    """Return a text that changes when any of the files does, or another one appears beside them.

    Parameters
    ----------
    stamps
        Of the files, by name.
    files
        All files of a data set.
    beside
        Names of others that may be about it.
    where
        Folder of the data set.

    Returns
    -------
    str or None
        `None` if it cannot be told.
    """
    known = {file_name(name, where): stamps.get(name) for name in files}
    if any(stamp is None or stamp.mark is None for stamp in known.values()):
        return None
    others = sorted(set(beside) - set(known))
    marks = sorted((name, stamp.size, str(stamp.mark), stamp.files) for name, stamp in known.items() if stamp)
    return digest([marks, others])


def digest(value: Any) -> str:
    """Return a short text that tells values apart."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


# Names ---------------------------------------------------------------------------------------------------------------


def names_for(places: Iterable[str], taken: Container[str]) -> dict[str, str]:
    """Return unique, readable names made of places, by place.

    Parameters
    ----------
    places
        Paths with ``/``, each once, in a stable order.
    taken
        Names that are used already.

    Examples
    --------
    >>> names_for(["gold/scan 1.blo", "gold/scan 1.npy", "µ.tif", "..."], taken=())
    {'gold/scan 1.blo': 'gold_scan_1_blo', 'gold/scan 1.npy': 'gold_scan_1_npy', 'µ.tif': 'µ', '...': 'image'}
    """
    places = list(places)
    short: dict[str, int] = {}
    for place in places:
        name = _name(os.path.splitext(place)[0])
        short[name] = short.get(name, 0) + 1
    found: dict[str, str] = {}
    used: set[str] = set()
    for place in places:
        name = _name(os.path.splitext(place)[0])
        if short[name] > 1 or name in taken:
            name = _name(place)
        number, unique = 1, name
        while unique in used or unique in taken:
            number += 1
            unique = f"{name}_{number}"
        used.add(unique)
        found[place] = unique
    return found


def _name(place: str) -> str:
    """Letters, digits and ``_`` of a place: dots would lead into catalogs within the catalog."""
    return re.sub(r"[\W_]+", "_", place).strip("_") or "image"
