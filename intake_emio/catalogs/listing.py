"""Which entries a catalog gets: new ones, and those of former catalogs with everything that people wrote."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import EmioWarning
from ..finding import natural
from .crawl import Dataset, look
from .entries import entry_of, names_for, relative
from .folders import folder_of
from .surveying import Survey
from .updating import Former, Known


@dataclass(frozen=True)
class Listed:
    """Something that is to be listed.

    Parameters
    ----------
    place
        Where it is, seen from the folder that was crawled; of an entry by hand the place of its catalog.
    dataset
        What was found; `None`: the former entry is kept.
    known
        Its former entry, if there is one.
    by_hand
        Whether somebody wrote the entry.
    """

    place: str
    dataset: Dataset | None = None
    known: Known | None = None
    by_hand: bool = False

    @property
    def folder(self) -> str:
        """Place of the folder to whose catalog it belongs."""
        return self.place if self.by_hand else self.place.rpartition("/")[0]

    @property
    def format(self) -> str:
        """Name of the format, if it is known."""
        if self.dataset is not None:
            return self.dataset.format
        return str(self.known.record.get("format", "")) if self.known is not None else ""

    def entry(self, base: str | None, storage_options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entry for a catalog in a folder."""
        former = None if self.known is None else Known.of(self.known.name, self.known.moved(base), self.known.base)
        if self.dataset is None:
            assert former is not None
            return dict(former.entry)
        made = entry_of(self.dataset, base, storage_options)
        return made if former is None else former.renewed(made)


def listed(survey: Survey, former: Former) -> list[Listed]:
    """Return everything that is to be listed, entries by hand first, then in natural order of their places.

    Entries of files in this folder that are gone are left out, unless somebody has edited them.
    """
    root = survey.root.uri
    unmatched = {id(known): known for known in former.known}
    found = []
    for known in survey.current:
        del unmatched[id(known)]
        found.append(Listed(relative(known.uri or "", root) or "", known=known))
    by_file = {name: known for known in unmatched.values() if known.record for name in reversed(known.files)}
    for dataset in survey.datasets:
        match = next((by_file[n] for n in (dataset.uri, *sorted(dataset.files)) if n in by_file), None)
        if match is None or id(match) not in unmatched:
            found.append(Listed(dataset.place, dataset))
            continue
        del unmatched[id(match)]
        found.append(Listed(dataset.place, _as_opened_there(dataset, match, survey), match))
    found.sort(key=lambda one: natural(one.place))
    return [Listed(_place(known, former), known=known, by_hand=True) for known in _kept(unmatched, survey)] + found


def _kept(unmatched: Mapping[int, Known], survey: Survey) -> Iterator[Known]:
    """Yield former entries that stay: made by hand, of other folders, or edited, although nothing is there any more."""
    inside = survey.root.uri.rstrip("/")
    for known in unmatched.values():
        is_elsewhere = known.uri is not None and not f"{known.uri}/".startswith(f"{inside}/")
        if known.record and not known.is_catalog and not is_elsewhere:
            if not known.is_edited:
                continue
            survey.report.kept.append(known.name)
        if not (known.record and known.is_catalog):
            yield known


def _place(known: Known, former: Former) -> str:
    """Place of the folder of an entry's catalog, seen from the topmost one."""
    return (relative(known.base, former.base or known.base) or "").strip(".")


def _as_opened_there(dataset: Dataset, known: Known, survey: Survey) -> Dataset:
    """Return the data set with the facts that it has with the arguments that somebody gave its reader."""
    settings, uri = known.settings, known.uri
    if not settings or uri is None or "{{" in str(settings):
        return dataset
    driver = str(known.entry.get("driver"))
    named = {"format": driver.removeprefix("emio_")} if driver.startswith("emio_") and not dataset.is_set else {}
    folder = folder_of(uri, relative(uri, survey.root.uri) or "", survey.root.storage_options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmioWarning)  # said when it was opened without the arguments
        answer = look(folder, uri.rpartition("/")[2], {**named, **settings})
    if isinstance(answer, Dataset):
        return replace(dataset, packed=answer.packed)
    survey.report.notes.append(f"entry {known.name} cannot be opened with its arguments: {answer.reason}")
    return dataset


def named(found: list[Listed], folder: str = "", taken: Iterable[str] = ()) -> Iterator[tuple[str, Listed]]:
    """Yield everything with its name: the one that it has already, or else one made of its place.

    Parameters
    ----------
    found
        What is to be listed.
    folder
        Place of the catalog, from which names begin.
    taken
        Names that are used already.
    """
    names: dict[str, Listed] = {}
    new: dict[str, Listed] = {}
    for one in found:
        if one.known is not None and one.known.name not in names and one.known.name not in taken:
            names[one.known.name] = one
        else:
            new[one.place[len(folder) :].lstrip("/") or folder] = one
    made = {id(new[place]): name for place, name in names_for(new, {*names, *taken}).items()}
    made |= {id(one): name for name, one in names.items()}
    return ((made[id(one)], one) for one in found)
