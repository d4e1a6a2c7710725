"""Catalogs made before: what has not changed since, and what people wrote into them."""

from __future__ import annotations

import fnmatch
import itertools
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..finding import FIELD
from ..frames.files import is_remote
from ..replacing import exists
from .entries import FACTS, digest, state_of, unescaped, uri_in, uri_out, written
from .folders import Folder
from .numbering import MOST, expanded
from .partitions import is_set
from .reading import read_catalog
from .writing import base_of

GENERATED = {"description", "driver", "args", "metadata"}
"""Keys of an entry that we write; others are somebody's."""


@dataclass(frozen=True, slots=True)
class Known:
    """An entry of a catalog made before; kept small, because there may be a hundred thousand.

    Parameters
    ----------
    name
        Under which it is listed.
    packed
        The entry as it is written, pickled.
    base
        Folder of its catalog.
    """

    name: str
    packed: bytes
    base: str

    @classmethod
    def of(cls, name: str, entry: Mapping[str, Any], base: str) -> Known:
        """Keep an entry."""
        return cls(name, pickle.dumps(dict(entry)), base)

    @property
    def entry(self) -> dict[str, Any]:
        """The entry as it is written."""
        return pickle.loads(self.packed)  # nobody else has had it

    @property
    def record(self) -> Mapping[str, Any]:
        """What was found out when it was made; empty if somebody wrote the entry."""
        metadata = self.entry.get("metadata")
        record = metadata.get(FACTS) if isinstance(metadata, Mapping) else None
        return record if isinstance(record, Mapping) and isinstance(record.get("written"), Mapping) else {}

    @property
    def is_catalog(self) -> bool:
        """Whether it leads to another catalog."""
        return self.entry.get("driver") in ("yaml_file_cat", "yaml_files_cat")

    @property
    def uri(self) -> str | None:
        """What is opened, absolute; `None` if only intake can tell."""
        args = self.entry.get("args")
        uri = args.get("path" if self.is_catalog else "uri") if isinstance(args, Mapping) else None
        return uri_out(uri, self.base) if isinstance(uri, str) else None

    def files_in(self, folder: Folder) -> list[str]:
        """All files it was made of, absolute; of a set those that are there now."""
        pattern = FIELD.sub("*", os.path.basename(self.uri or ""))
        if not is_set(pattern, folder.stamps):
            return self.files
        return [f"{folder.name.rstrip('/')}/{name}" for name in fnmatch.filter(folder.stamps, pattern)]

    @property
    def files(self) -> list[str]:
        """All files it was made of, absolute; of a set the pattern."""
        if self.uri is None:
            return []
        listed = self.record.get("files")
        if not isinstance(listed, list):
            return [self.uri]
        where = os.path.dirname(self.uri)
        names = itertools.islice(expanded(unescaped(str(name)) for name in listed), MOST)
        return [name if name.startswith("/") or is_remote(name) else f"{where}/{name}" for name in names]

    @property
    def edited(self) -> dict[str, bool]:
        """Which of description and arguments somebody has changed."""
        before, now = self.record.get("written", {}), written(self.entry)
        return {part: before.get(part) != now[part] for part in now}

    @property
    def is_edited(self) -> bool:
        """Whether there is anything in it that somebody wrote."""
        return any(self.edited.values()) or bool(self.entry.keys() - GENERATED or self._own_metadata)

    @property
    def _own_metadata(self) -> dict[str, Any]:
        metadata = self.entry.get("metadata")
        return {k: v for k, v in metadata.items() if k != FACTS} if isinstance(metadata, Mapping) else {}

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments that somebody gave the reader, metadata included."""
        args = self.entry.get("args")
        given = {k: v for k, v in args.items() if k not in ("uri", "storage_options")} if isinstance(args, dict) else {}
        return {**given, **({"metadata": self._own_metadata} if self._own_metadata else {})}

    @property
    def _settings_digest(self) -> str | None:
        return digest(self.settings) if self.settings else None

    def is_current(self, folder: Folder) -> bool:
        """Whether nothing has changed: neither its files, nor others that may be about it, nor its arguments."""
        if self.uri is None or not self.record or self.record.get("settings") != self._settings_digest:
            return False
        files = self.files_in(folder)
        beside = folder.beginning_like(os.path.basename(self.uri))
        now = state_of(folder.stamps_of(files), files, beside, os.path.dirname(self.uri))
        return now is not None and now == self.record.get("state")

    def renewed(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entry as it is made now, with everything in it that somebody wrote before."""
        edited = self.edited
        merged = dict(self.entry)
        if not edited["description"]:
            merged["description"] = entry["description"]
        if not edited["args"]:
            merged |= {"driver": entry["driver"], "args": entry["args"]}
        record = dict(entry["metadata"][FACTS])
        if self._settings_digest is not None:
            record["settings"] = self._settings_digest
        merged["metadata"] = {**self._own_metadata, FACTS: record}
        return merged

    def moved(self, base: str | None) -> dict[str, Any]:
        """Return the entry for a catalog in another folder."""
        if base == self.base or self.uri is None:
            return dict(self.entry)
        key = "path" if self.is_catalog else "uri"
        entry = {**self.entry, "args": {**self.entry["args"], key: uri_in(self.uri, base)}}
        if self.record and not self.edited["args"]:
            record = {**self.record, "written": {**self.record["written"], "args": written(entry)["args"]}}
            entry["metadata"] = {**self.entry["metadata"], FACTS: record}
        return entry


@dataclass
class Former:
    """All that former catalogs hold.

    Parameters
    ----------
    known
        Their entries.
    contents
        Everything else in them, by the folder of the catalog; the topmost catalog first.
    """

    known: list[Known] = field(default_factory=list)
    contents: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._by_folder: dict[str, list[Known]] = {}
        for known in self.known:
            if known.uri is not None and not known.is_catalog:
                self._by_folder.setdefault(os.path.dirname(known.uri), []).append(known)

    @property
    def base(self) -> str | None:
        """Folder of the topmost catalog."""
        return next(iter(self.contents), None)

    def in_folder(self, folder: Folder) -> list[Known]:
        """Entries of what is in a folder."""
        return self._by_folder.get(folder.name, [])

    def refusals(self, root: str) -> dict[str, tuple[str, str]]:
        """Files that could not be read, by name: the reason, and the state that they were in."""
        content = self.contents.get(self.base or "", {})
        noted = _mapping(_mapping(_mapping(content.get("metadata")).get(FACTS)).get("unreadable"))
        return {
            f"{root.rstrip('/')}/{place}": (str(_mapping(one).get("reason")), str(_mapping(one).get("state")))
            for place, one in noted.items()
        }

    def branch(self, base: str, target: str) -> Known | None:
        """Return the entry of the catalog in a folder that leads to another catalog."""
        leading = (one for one in self.known if one.is_catalog and one.base == base and one.uri == target)
        return next(leading, None)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def read_former(target: str, storage_options: Mapping[str, Any] | None = None) -> Former:
    """Read a catalog, and those below it that we made.

    Parameters
    ----------
    target
        Path or URL.
    storage_options
        For fsspec.

    Raises
    ------
    CatalogError
        If one of them is broken.
    """
    known: list[Known] = []
    contents: dict[str, dict[str, Any]] = {}
    waiting = [target]
    while waiting:
        name = waiting.pop(0)
        base = base_of(name)
        if base is None or base in contents or not exists(name, storage_options):
            continue
        catalog = read_catalog(name, storage_options)
        entries = [Known.of(key, entry, base) for key, entry in catalog.entries()]
        contents[base] = catalog.content
        known += entries
        waiting += [one.uri for one in entries if one.is_catalog and one.record and one.uri is not None]
    return Former(known, contents)
