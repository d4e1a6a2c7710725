"""Which entry stands in which file: one catalog for everything, or one for each folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from natsort import natsorted

from ..frames.files import File
from .entries import FACTS, names_for, uri_in, written
from .listing import Listed, named
from .updating import Former


@dataclass(frozen=True)
class Layout:
    """Everything that is to be listed, and where.

    Parameters
    ----------
    target
        Path or URL of the topmost catalog; empty: in memory.
    base
        Its folder, if paths are relative to it.
    storage_options
        Kept with the entries.
    former
        Catalogs that were there before.
    found
        What is to be listed.
    title
        Name of the topmost catalog, if it has none.
    """

    target: str
    base: str | None
    storage_options: Mapping[str, Any]
    former: Former
    found: list[Listed]
    title: str

    def flat(self) -> dict[str, dict[str, Any]]:
        """Return the content of the only catalog, by its target."""
        return {self.target: self._content(self.base, self.title, self._entries(self.found, self.base))}

    def nested(self) -> dict[str, dict[str, Any]]:
        """Return the contents of a catalog for each folder, by their targets; each leads to those right below it."""
        assert self.base is not None
        by_folder: dict[str, list[Listed]] = {"": []}
        for one in self.found:
            by_folder.setdefault(one.folder, []).append(one)
        for place in list(by_folder):
            while place:
                place = place.rpartition("/")[0]
                by_folder.setdefault(place, [])
        below: dict[str, list[str]] = {}
        for place in natsorted(by_folder):
            if place:
                below.setdefault(place.rpartition("/")[0], []).append(place)
        totals = _totals(by_folder)
        contents = {}
        for place in natsorted(by_folder):
            own, base = by_folder[place], self._base(place)
            kept = {one.known.name for one in own if one.known is not None}
            branches = dict(self._branches(place, below.get(place, []), totals, kept))
            entries = self._entries(own, base, place, branches)
            title = place.rpartition("/")[2] or self.title
            contents[self._target(place)] = self._content(base, title, entries)
        return contents

    def _content(self, base: str | None, title: str, entries: Iterator[tuple[str, Any]]) -> dict[str, Any]:
        before = self.former.contents.get(base or "", {})
        metadata = before.get("metadata")
        if not isinstance(metadata, Mapping):
            metadata = {"version": 1, "name": title or "catalog"}
        return {**before, "metadata": dict(metadata), "sources": entries}

    def _entries(
        self, found: list[Listed], base: str | None, place: str = "", branches: Mapping[str, Any] | None = None
    ) -> Iterator[tuple[str, Any]]:
        yield from (branches or {}).items()
        for name, one in named(found, place, branches or {}):
            yield name, one.entry(base, self.storage_options)

    def _branches(
        self, place: str, below: list[str], totals: Mapping[str, Counter[str]], taken: set[str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield entries that lead to the catalogs of the folders right below."""
        base = self._base(place)
        known = {one: self.former.branch(base, self._target(one)) for one in below}
        names = {one: former.name for one, former in known.items() if former is not None}
        new = {one[len(place) :].lstrip("/"): one for one in below if one not in names}
        names |= {new[short]: name for short, name in names_for(new, taken | set(names.values())).items()}
        for one in below:
            made = _branch(uri_in(self._target(one), base), totals[one])
            former = known[one]
            yield names[one], made if former is None else former.renewed(made)

    def _base(self, place: str) -> str:
        assert self.base is not None
        return File(self.base).within(place).uri if place else self.base

    def _target(self, place: str) -> str:
        return File(self._base(place)).within(File(self.target).name).uri if place else self.target


def _totals(by_folder: Mapping[str, list[Listed]]) -> dict[str, Counter[str]]:
    """Count the formats in each folder and below."""
    totals: dict[str, Counter[str]] = {place: Counter() for place in by_folder}
    for folder, found in by_folder.items():
        counts = Counter(one.format for one in found)
        place = folder
        while place:
            totals[place] += counts
            place = place.rpartition("/")[0]
    return totals


def _branch(path: str, formats: Counter[str]) -> dict[str, Any]:
    """Entry that leads to another catalog, and says what is in it."""
    kinds = ", ".join(f"{count} {name or 'other'}" for name, count in sorted(formats.items()))
    entry: dict[str, Any] = {
        "description": f"{formats.total()} data sets: {kinds}",
        "driver": "yaml_file_cat",
        "args": {"path": path},
    }
    return {**entry, "metadata": {FACTS: {"datasets": formats.total(), "written": written(entry)}}}
