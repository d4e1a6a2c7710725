"""A survey of a folder: the data sets in it, opening only what former catalogs do not know already."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace

from ..errors import EmioWarning
from ..frames.files import File
from ..progress import steps
from .crawl import Dataset, Refusal, crawl, look
from .entries import relative
from .folders import Folder, Selection, Trouble, folder_of, walk
from .grouping import grouped
from .report import Report
from .updating import Former, Known


class Survey:
    """What is in a folder, and below.

    Parameters
    ----------
    root
        The folder.
    selection
        Which files are looked at.
    former
        What catalogs made before know.

    Attributes
    ----------
    datasets : list of Dataset
        Those that are new, or have changed, in natural order of their places.
    current : list of Known
        Former entries of what has not changed.
    refusals : list of Refusal
        Files that belong to nothing.
    report : Report
        Account of it all.
    """

    def __init__(self, root: File, selection: Selection, former: Former):
        self.root = root
        self.selection = selection
        self.former = former
        self.datasets: list[Dataset] = []
        self.current: list[Known] = []
        self.refusals: list[Refusal] = []
        self.report = Report(root.uri)
        self._spoken_for: set[str] = set()
        self._refused = former.refusals(root.uri)
        self._run()

    def _run(self) -> None:
        found: list[Dataset] = []
        with warnings.catch_warnings(record=True) as said, steps("crawling", None) as advance:
            warnings.simplefilter("always", EmioWarning)
            for answer in crawl(self._unknown()):
                if isinstance(answer, Dataset):
                    found.append(answer)
                else:
                    self.refusals.append(answer)
                advance(1)
            self._look_again(found)
        self.datasets = grouped(found)
        self._account(dict.fromkeys(str(one.message) for one in said if issubclass(one.category, EmioWarning)))

    # What has to be opened ---------------------------------------------------------------------------------------

    def _unknown(self) -> Iterator[tuple[Folder, list[str]]]:
        """Yield the folders, each with the names of files that nothing is known of yet."""
        for one in walk(self.root, self.selection):
            if isinstance(one, Trouble):
                if one.is_fault:
                    self.report.unreadable[one.place or "."] = one.reason
                else:
                    self.report.notes.append(f"{one.place}: {one.reason}")
                continue
            names = [name for name in one.stamps if self.selection.takes(one.place_of(name))]
            self.report.folders += 1
            self.report.files += sum(one.stamps[name].files for name in names)
            yield one, self._without_known(one, names)

    def _without_known(self, folder: Folder, names: list[str]) -> list[str]:
        """Leave out files of entries that are current or by hand, and those that were refused as they are now."""
        uris = {f"{folder.name.rstrip('/')}/{name}": name for name in names}
        for known in self.former.in_folder(folder):
            files = known.files_in(folder)
            if uris.keys().isdisjoint(files):
                continue
            if known.record:
                if not known.is_current(folder):
                    continue
                self.current.append(known)
            self._spoken_for.update(files)
        unknown = []
        for uri, name in uris.items():
            if uri not in self._spoken_for and not self._refused_before(folder, uri, name):
                unknown.append(name)
        return unknown

    def _refused_before(self, folder: Folder, uri: str, name: str) -> bool:
        before = self._refused.get(uri)
        if before is None or before[1] != folder.state_of(name):
            return False
        self.refusals.append(Refusal(uri, folder.place_of(name), *before))
        return True

    def _look_again(self, found: list[Dataset]) -> None:
        """Open entries that were current until something that was found turned out to belong to them."""
        folders: dict[str, Folder] = {}
        new = list(found)
        while new:
            files = {name for one in new for name in one.files}
            grown: dict[bool, list[Known]] = {True: [], False: []}
            for known in self.current:
                grown[not files.isdisjoint(known.files)].append(known)
            self.current, new = grown[False], []
            for known in grown[True]:
                assert known.uri is not None
                where, name = os.path.split(known.uri)
                if where not in folders:
                    place = relative(known.uri, self.root.uri) or name
                    folders[where] = folder_of(known.uri, place, self.root.storage_options)
                answer = look(folders[where], name)
                if isinstance(answer, Dataset):
                    new.append(answer)
                else:
                    self.refusals.append(answer)
            found += new

    # What came of it ---------------------------------------------------------------------------------------------

    def _account(self, notes: Iterable[str]) -> None:
        taken = {name for one in self.datasets for name in one.files} | self._spoken_for
        alone = sorted((one for one in self.refusals if one.uri not in taken), key=lambda one: one.place)
        self.refusals = [
            replace(one, reason=self._seen_from_root(one.reason).removeprefix(f"{one.place}: ")) for one in alone
        ]
        report = self.report
        for refusal in self.refusals:
            if refusal.needs_parameters:
                report.needs_parameters[refusal.place] = refusal.reason
            elif refusal.reason:
                report.unreadable[refusal.place] = refusal.reason
            else:
                report.other += 1
        report.notes += sorted(self._seen_from_root(text) for text in notes)
        report.datasets = len(self.datasets) + len(self.current)
        report.unchanged = len(self.current)
        report.in_datasets = report.files - len(self.refusals)

    def _seen_from_root(self, text: str) -> str:
        return text.replace(self.root.uri.rstrip("/") + "/", "")
