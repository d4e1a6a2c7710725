"""Opening what folders hold, in parallel: every file is asked what it is, and those that are images what they show."""

from __future__ import annotations

import json
import mimetypes
import os
import re
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arguments import plain
from ..axes import Calibration, Scale
from ..detection import by_extension, recognised
from ..errors import EmioWarning, UnknownFormatError
from ..formats import Format, find
from ..formats.raw import frame_hints
from ..frames.files import File
from ..sets import FilesSource
from .folders import Folder, Stamp, in_words
from .partitions import is_set, sets_in

if TYPE_CHECKING:
    from ..source import ImageSource

THREADS = 16
WAITING = 4 * THREADS
"""Runs that are handed to threads at a time: more would only take memory."""
TOGETHER = 32
ALIKE, ALONE = "", "alone"
LONGEST_TEXT = 200
LONGEST_LIST = 32


@dataclass(frozen=True, slots=True)
class Dataset:
    """An image in one or several files; kept small, because there may be a hundred thousand.

    Parameters
    ----------
    uri
        What is opened: one of the files, or a glob for all of them.
    place
        Where that is, seen from where the crawl began.
    format
        Name of the format.
    pixels
        Files that hold pixels.
    files
        These, and those that were read for the header.
    stamps
        Of `files`, by name, as far as they are known.
    beside
        Names of other files that begin as this one, which may be about it.
    packed
        What is known without pixels, as JSON.
    """

    uri: str
    place: str
    format: str
    pixels: frozenset[str]
    files: frozenset[str]
    stamps: Mapping[str, Stamp] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    packed: str = "{}"

    @property
    def facts(self) -> dict[str, Any]:
        """What is known without pixels, in JSON types."""
        return json.loads(self.packed)

    @property
    def is_set(self) -> bool:
        """Whether the files are members of a set, each an image by itself."""
        return self.uri not in self.files


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that is no data set, and why.

    Parameters
    ----------
    uri, place
        As of a `Dataset`.
    reason
        In words; empty for files that are something else.
    state
        Text that changes when the file does, or others in its folder come or go.
    needs_parameters
        Whether it may hold raw frames, of a shape and type that nobody knows.
    """

    uri: str
    place: str
    reason: str = ""
    state: str = ""
    needs_parameters: bool = False


Answer = Dataset | Refusal


@dataclass(frozen=True)
class _Run:
    """Files of a folder that one thread opens, one after the other.

    Parameters
    ----------
    folder
        Where they are.
    names
        Of the files, in natural order.
    found
        Names of files in this folder that are known to belong to a data set; all runs of the folder add to it.
    kind
        `ALIKE`: names differ in their numbers only, so that the first file may stand for all. `ALONE`: they need not
        have anything to do with each other. Otherwise a glob: they are members of a set.
    """

    folder: Folder
    names: list[str]
    found: set[str]
    kind: str = ALIKE


def crawl(folders: Iterable[tuple[Folder, list[str]]]) -> Iterator[Answer]:
    """Open files in parallel and yield what they are, in no certain order.

    A data set of several files may be yielded more than once, by way of different files.

    Parameters
    ----------
    folders
        Folders, each with the names to open, of files and of images that are folders.
    """
    runs = _runs(folders)
    more: deque[_Run] = deque()
    pending: deque[Future[tuple[list[Answer], list[_Run]]]] = deque()
    with ThreadPoolExecutor(THREADS, "emio-crawl") as threads:
        try:
            while True:
                while len(pending) < WAITING and (run := more.popleft() if more else next(runs, None)):
                    pending.append(threads.submit(_open_run, run))
                if not pending:
                    return
                answers, further = pending.popleft().result()
                more.extend(further)
                yield from answers
        finally:
            threads.shutdown(cancel_futures=True)


def _runs(folders: Iterable[tuple[Folder, list[str]]]) -> Iterator[_Run]:
    """Group the files of each folder: names that differ in numbers only are probably a sequence."""
    for folder, names in folders:
        found: set[str] = set()
        sets, others = sets_in(names, folder.name)
        for pattern, members in sets.items():
            yield _Run(folder, members, found, pattern)
        alike: dict[str, list[str]] = {}
        for name in others:
            alike.setdefault(re.sub(r"\d+", "#", name), []).append(name)
        few: list[str] = []
        for group in alike.values():
            if len(group) > 1:
                yield _Run(folder, group, found)
                continue
            few += group
            if len(few) >= TOGETHER:
                yield _Run(folder, few, found, ALONE)
                few = []
        if few:
            yield _Run(folder, few, found, ALONE)


def _open_run(run: _Run) -> tuple[list[Answer], list[_Run]]:
    """Open the files that belong to nothing yet; leave the others to further runs if the first one stands alone."""
    if run.kind not in (ALIKE, ALONE):
        return _open_set(run)
    answers: list[Answer] = []
    for position, name in enumerate(run.names):
        if name in run.found:
            continue
        answer = look(run.folder, name)
        answers.append(answer)
        others = _pixel_names(run.folder, answer) - {name}
        run.found.update(others)
        if run.kind == ALIKE and not others:
            rest = run.names[position + 1 :]
            cuts = range(0, len(rest), TOGETHER)
            return answers, [_Run(run.folder, rest[k : k + TOGETHER], run.found, ALONE) for k in cuts]
    return answers, []


def _open_set(run: _Run) -> tuple[list[Answer], list[_Run]]:
    """Open a set by its glob; if it is none after all, its members are opened one by one."""
    answer = look(run.folder, run.kind)
    if isinstance(answer, Dataset):
        run.found.update(run.names)
        return [answer], []
    warnings.warn(f"{answer.reason}: its files are listed one by one", EmioWarning, stacklevel=2)
    return [], [_Run(run.folder, run.names, run.found)]


def _pixel_names(folder: Folder, answer: Answer) -> set[str]:
    if isinstance(answer, Refusal):
        return set()
    folders = (os.path.split(uri) for uri in answer.pixels)
    return {name for where, name in folders if where == folder.name.rstrip("/")}


# One file ------------------------------------------------------------------------------------------------------------


def look(folder: Folder, name: str, settings: Mapping[str, Any] | None = None) -> Answer:
    """Open one file, and say what it is; whatever goes wrong is an answer, too.

    Parameters
    ----------
    folder
        Where it is.
    name
        Of the file, or of a folder in it that is an image; or a glob for all members of a set.
    settings
        Arguments for its reader, and ``format``.
    """
    file, place, state = folder.file(name), folder.place_of(name), folder.state_of(name)
    try:
        file.uri.encode()
    except UnicodeEncodeError:
        return Refusal(file.uri, ascii(place), "its name is no Unicode text: rename it", state)
    given = {"storage_options": folder.storage_options, **(settings or {})}
    try:
        if is_set(name, folder.stamps):
            return _described(FilesSource(file.uri, **given), folder, place)
        entry = _format_of(file, given.pop("format", None))
        if entry is None:
            return _no_format(file, place, state)
        source = entry.source_class()(file.uri, **given)
        source.file = file
        return _described(source, folder, place)
    except Exception as error:  # of readers and of what they are built on: one bad file must not end a crawl
        return Refusal(file.uri, place, in_words(error), state)


def _format_of(file: File, named: str | None) -> Format | None:
    try:
        return recognised(file, named, {})[0]
    except UnknownFormatError:
        return None


def _no_format(file: File, place: str, state: str) -> Refusal:
    """Say what a file is that nobody recognises: by its name raw frames, a broken image, or something else."""
    if file.extension in find("raw").extensions:
        return Refusal(file.uri, place, frame_hints(file.size), state, needs_parameters=True)
    expected = by_extension(file)
    if expected is None or _common(file.extension):
        return Refusal(file.uri, place)
    reason = f"called {file.extension}, but it is no {expected.title}: it starts with {file.read(0, 8)!r}"
    return Refusal(file.uri, place, reason, state)


@cache
def _common(extension: str) -> bool:
    """Whether an extension is used by many programs, and says little."""
    return extension in mimetypes.MimeTypes().types_map[True]


def _described(source: ImageSource, folder: Folder, place: str) -> Dataset:
    packed = json.dumps(facts_of(source), ensure_ascii=False)
    name = os.path.basename(source.uri)
    if name in folder.images:
        files = pixels = frozenset([source.uri])
    else:
        pixels = frozenset(folder.own_name(uri) for uri in source.image.files) or frozenset([source.uri])
        files = pixels.union(folder.own_name(uri) for uri in source.all_files)
        files = pixels if files == pixels else files
    beside = folder.beginning_like(name)
    return Dataset(source.uri, place, source.format_name, pixels, files, folder.stamps_of(files), beside, packed)


def facts_of(source: ImageSource) -> dict[str, Any]:
    """What is known of an image without its pixels, as far as it is short."""
    image = source.image
    picture = image.image
    scales = {axis: image.calibration[axis] for axis in picture.axes if axis in image.calibration}
    facts = {
        "format": source.format_name,
        "axes": picture.axes,
        "shape": list(picture.pixels.shape),
        "dtype": str(picture.pixels.dtype),
        "spacing": {axis: step for axis, scale in scales.items() if (step := _step(scale)) is not None},
        "spacing_units": {axis: scale.units for axis, scale in scales.items() if scale.units},
        "acquisition": {name: fact for name, fact in plain(image.acquisition).items() if _is_short(fact)},
        "datasets": _names(image.datasets[:LONGEST_LIST]) if len(image.datasets) > 1 else [],
    }
    return {name: fact for name, fact in facts.items() if fact not in ({}, [])}


def _names(datasets: Iterable[Mapping[str, Any]]) -> list[str]:
    return [str(one.get("name") or k)[:LONGEST_TEXT] for k, one in enumerate(datasets)]


def _step(scale: Calibration) -> float | None:
    """Spacing of an axis, if it is even but for rounding."""
    if isinstance(scale, Scale):
        return float(f"{scale.step:.12g}")
    if len(scale.labels) < 2 or not all(isinstance(label, int | float) for label in scale.labels):
        return None
    steps = np.diff(scale.labels)
    return float(f"{steps.mean():.12g}") if np.allclose(steps, steps[0], rtol=1e-6, atol=0) else None


def _is_short(fact: Any) -> bool:
    match fact:
        case None | "":
            return False
        case str():
            return len(fact) <= LONGEST_TEXT
        case dict():
            return len(fact) <= LONGEST_LIST and all(not isinstance(v, dict) and _is_short(v) for v in fact.values())
        case list():
            return len(fact) <= LONGEST_LIST and all(isinstance(v, int | float | str) and _is_short(v) for v in fact)
    return True
