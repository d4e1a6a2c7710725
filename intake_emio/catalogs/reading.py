"""Catalogs as plain data: YAML read without running anything, whoever wrote it, and entry by entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from ..errors import CatalogError
from ..frames.files import File, normalise

LARGEST = 1 << 28  # bytes; a hundred thousand entries are a third of that
DEEPEST = 50
MOST_VALUES = 20_000_000

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, where it is there


@dataclass(frozen=True)
class CatalogText:
    """A catalog file, looked over but for its entries not yet turned into values: there may be many.

    Parameters
    ----------
    name
        Path or URL, for messages.
    content
        Everything but the entries of version 1.
    has_sources
        Whether there are such entries.
    rewritten
        Whether intake reads another text than this one: it takes ``!template`` out.
    """

    name: str
    content: dict[str, Any]
    has_sources: bool
    rewritten: bool
    _text: str = field(repr=False)
    _pairs: tuple[tuple[int, int, int], ...] | None = field(repr=False)  # start, column, end of each entry
    _sources: Any = field(default=None, repr=False)

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        """Yield names and entries, whatever they are.

        Raises
        ------
        CatalogError
            If one cannot be read, or a name comes twice.
        """
        if self._pairs is None:
            yield from self._sources.items() if isinstance(self._sources, Mapping) else ()
            return
        seen = set()
        for start, column, end in self._pairs:
            for name, entry in _loaded(" " * column + self._text[start:end], self.name).items():
                if name in seen:
                    raise CatalogError(f"{self.name}: there are two entries {name!r}: give one another name")
                seen.add(name)
                yield name, entry

    def entries(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield names and entries.

        Raises
        ------
        CatalogError
            If there are none, or one is no mapping.
        """
        if not self.has_sources:
            raise CatalogError(f"{self.name}: not a catalog of intake: there is no mapping 'sources'")
        for name, entry in self.pairs():
            if not isinstance(name, str) or not isinstance(entry, dict):
                raise CatalogError(f"{self.name}: entry {name!r} is no mapping with a text as its name")
            yield name, entry


def read_catalog(uri: Any, storage_options: Mapping[str, Any] | None = None) -> CatalogText:
    """Look a catalog file over.

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


def parse_catalog(raw: bytes, name: str) -> CatalogText:
    """Look a catalog over, from the bytes of its file.

    Parameters
    ----------
    raw
        UTF-8.
    name
        For messages.

    Raises
    ------
    CatalogError
        If it is no catalog, or YAML that does harm.

    Examples
    --------
    >>> catalog = parse_catalog(b"sources: {gold: {driver: emio, args: {uri: gold.blo}}}", "lab.yml")
    >>> dict(catalog.entries())["gold"]["args"]
    {'uri': 'gold.blo'}
    >>> parse_catalog(b"sources: !!python/object/apply:os.system [ls]", "lab.yml")
    Traceback (most recent call last):
        ...
    intake_emio.errors.CatalogError: lab.yml: could not determine a constructor for the tag ...
    """
    try:
        text = raw.decode("utf-8-sig")
        look = _Look()
        for event in yaml.parse(text, _Loader):
            look.at(event)
    except (yaml.YAMLError, ValueError) as error:
        raise CatalogError(f"{name}: {_in_a_line(error)}") from None
    rewritten = "!template " in text
    if look.sources is None:
        content = _loaded(text, name)
        sources = content.pop("sources", None)
        return CatalogText(name, content, isinstance(sources, Mapping), rewritten, "", None, sources)
    first, last = look.sources
    content = _loaded(text[:first] + "sources:\n" + text[last:], name)
    content.pop("sources")
    return CatalogText(name, content, True, rewritten, text, tuple(look.pairs()))


def _loaded(text: str, name: str) -> dict[Any, Any]:
    try:
        content = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise CatalogError(f"{name}: {_in_a_line(error)}") from None
    if not isinstance(content, dict):
        held = "nothing" if content is None else f"a {type(content).__name__}"
        raise CatalogError(f"{name}: not a catalog: it holds {held} and no mapping")
    return content


def _in_a_line(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem}, line {error.problem_mark.line + 1}"
    return " ".join(str(error).split())


class _Look:
    """What is seen of a catalog while it is parsed, before any value is made.

    Too deep a nesting would overflow the stack, references to references the memory: both are refused. Where the
    entries begin and end is noted, if they are plain: then they can be read one at a time.

    Attributes
    ----------
    sources
        Where the value of ``sources`` begins with its key, and where it ends; `None`: the entries are not plain.
    """

    def __init__(self) -> None:
        self.sources: tuple[int, int] | None = None
        self._starts: list[tuple[int, int]] = []  # index and column of the key of each entry
        self._sizes: dict[str, int] = {}  # of what has a name, with all that it refers to
        self._open: list[tuple[str | None, int]] = []
        self._total = 0
        self._members: list[int] = []  # how many nodes each open collection has so far
        self._key: tuple[int, str] | None = None  # the last key of the topmost mapping
        self._within = False
        self._is_plain = True

    def pairs(self) -> Iterator[tuple[int, int, int]]:
        """Yield start, column and end of each entry."""
        assert self.sources is not None
        ends = [start for start, _ in self._starts[1:]] + [self.sources[1]]
        for (start, column), end in zip(self._starts, ends, strict=True):
            yield start, column, end

    def at(self, event: Any) -> None:
        """Take note of an event.

        Raises
        ------
        CatalogError
            If it is nested too deeply, refers to itself, or becomes too large.
        """
        if isinstance(event, yaml.NodeEvent):
            self._note_place(event)
        if isinstance(event, yaml.CollectionStartEvent):
            self._open.append((event.anchor, self._total))
            self._members.append(0)
            if len(self._open) > DEEPEST:
                raise CatalogError(f"nested more than {DEEPEST} deep, {_place(event)}")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = self._open.pop()
            self._members.pop()
            if anchor is not None:
                self._sizes[anchor] = self._total - before
            if self._within and len(self._open) == 1:
                self._within = False
                assert self._key is not None
                end: Any = event.start_mark
                self.sources = (self._key[0], end.index) if self._is_plain and self._starts else None
        elif isinstance(event, yaml.ScalarEvent) and event.anchor is not None:
            self._sizes[event.anchor] = 1
        elif isinstance(event, yaml.AliasEvent):
            self._is_plain = False
            self.sources = None
            if event.anchor not in self._sizes:
                raise CatalogError(f"{event.anchor!r} refers to itself, or to nothing, {_place(event)}")
            self._total += self._sizes[event.anchor]
        self._total += 1
        if self._total > MOST_VALUES:
            raise CatalogError(f"references make it larger than {MOST_VALUES} values, {_place(event)}")

    def _note_place(self, event: Any) -> None:
        """Note keys of the topmost mapping, and of the one of entries."""
        depth = len(self._open)
        if depth == 0:
            self._is_plain = isinstance(event, yaml.MappingStartEvent) and not event.flow_style
        elif depth == 1 and self._members[0] % 2 == 0:
            self._key = (event.start_mark.index, getattr(event, "value", ""))
        elif depth == 1 and self._key is not None and self._key[1] == "sources":
            self._within = isinstance(event, yaml.MappingStartEvent) and event.tag is None
            self._is_plain = self._is_plain and self._within and not event.flow_style
        elif depth == 2 and self._within and self._members[1] % 2 == 0:
            self._starts.append((event.start_mark.index, event.start_mark.column))
            self._is_plain = self._is_plain and isinstance(event, yaml.ScalarEvent)
        if depth:
            self._members[-1] += 1


def _place(event: Any) -> str:
    return f"line {event.start_mark.line + 1}"
