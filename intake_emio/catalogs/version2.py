"""Catalogs of intake's version 2, which hold datatypes and readers instead of drivers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ..arguments import plain
from ..formats import find
from ..frames.files import is_remote
from .crawl import Dataset
from .entries import FACTS, cleaned, description_of, digest, record_of, relative


def catalog_of(datasets: Mapping[str, Dataset], base: str | None, storage_options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a catalog of version 2.

    Parameters
    ----------
    datasets
        By name.
    base
        Folder of the catalog; `None`: paths are absolute.
    storage_options
        For fsspec; kept with the data.
    """
    data: dict[str, Any] = {}
    entries: dict[str, Any] = {}
    for name, dataset in datasets.items():
        token = digest([name, dataset.place])
        metadata = {"description": cleaned(description_of(dataset)), FACTS: record_of(dataset)}
        datatype, reader = _classes(dataset.format)
        data[token] = {
            "datatype": datatype,
            "kwargs": {"storage_options": _literal(plain(storage_options)) or None, "url": _url(dataset.uri, base)},
            "metadata": {},
            "user_parameters": {},
        }
        entries[name] = {
            "kwargs": {"args": [f"{{data({token})}}"]},
            "metadata": metadata,
            "output_instance": "xarray:Dataset",
            "reader": reader,
            "user_parameters": {},
        }
    return {
        "version": 2,
        "aliases": {name: name for name in entries},
        "metadata": {},
        "user_parameters": {},
        "entries": iter(entries.items()),
        "data": iter(data.items()),
    }


def _classes(format_name: str) -> tuple[str, str]:
    """Qualified names of datatype and reader of a format."""
    entry = find(format_name)
    name = (entry.source or "").removesuffix("Source")
    return f"intake_emio.readers:{name}", f"intake_emio.readers:{name}Reader"


def _url(uri: str, base: str | None) -> str:
    found = relative(uri, base)
    if found is None:
        return _literal(uri)
    if not is_remote(uri):  # CATALOG_DIR is a file:// URL, in which these characters have a meaning
        found = re.sub("[%#?]", lambda one: quote(one[0]), found)
    return "{CATALOG_DIR}/" + _literal(found)


def _literal(value: Any) -> Any:
    """Return a value whose texts come out of `str.format` as they are."""
    match value:
        case str():
            return cleaned(value).replace("{", "{{").replace("}", "}}")
        case dict():
            return {key: _literal(item) for key, item in value.items()}
        case list():
            return [_literal(item) for item in value]
    return value
