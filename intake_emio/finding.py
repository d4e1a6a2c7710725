"""Finding the members of a set of files, and what their names say: globs, patterns, folders, lists.

Rules: docs/partitions.md.
"""

from __future__ import annotations

import glob
import itertools
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from natsort import natsort_keygen, ns

from .errors import ArgumentError, MissingFileError, StorageError
from .formats import registry
from .frames.files import File, filesystem, is_remote, normalise
from .partition import VARIABLE, member_name, parse_name, values_of

SIDECARS = (".json", ".txt")
MAGIC = re.compile(r"[*?\[]")
FIELD = re.compile(r"\{(var|[A-Za-z])(?::(d|str))?\}")

_as_people_do = natsort_keygen(alg=ns.IGNORECASE)


def natural(text: str) -> tuple[Any, str]:
    """Key that sorts text as people do: digits as numbers, whatever the case; what is the same then, by its letters.

    Examples
    --------
    >>> sorted(["b_10", "a", "B_9", "A"], key=natural)
    ['A', 'a', 'B_9', 'b_10']
    """
    return _as_people_do(text), text


@dataclass(frozen=True)
class Found:
    """A file of a set, and what its name says.

    Parameters
    ----------
    name
        Path or URL.
    variable
        To which it belongs; empty if the name does not say.
    places
        Text of the coordinate on each axis.
    """

    name: str
    variable: str = ""
    places: tuple[tuple[str, str], ...] = ()

    @property
    def axes(self) -> str:
        """Axes that the name tells."""
        return "".join(axis for axis, _ in self.places)


@dataclass(frozen=True)
class Listing:
    """The files of a set.

    Parameters
    ----------
    members
        In natural order, or as they were given.
    spell
        Function of a member and other places on its axes that returns the name of the file there.
    words
        Axes whose values are text, whatever they look like.
    """

    members: tuple[Found, ...]
    spell: Callable[[Found, Sequence[str]], str]
    words: frozenset[str] = frozenset()


def several_files(uri: Any, storage_options: Mapping[str, Any] | None = None) -> bool:
    """Whether a set is meant: a list, a pattern, a glob, or a folder that is no image itself.

    A file that exists under this very name is only itself.
    """
    if isinstance(uri, list | tuple):
        return True
    file = File(normalise(uri), storage_options)
    if FIELD.search(file.uri) or MAGIC.search(_path_of(file.uri)):
        return not (file.exists() if file.remote else os.path.lexists(file.uri))
    if file.remote or not file.is_folder:
        return False
    from .detection import by_folder

    return by_folder(file) is None


def _path_of(uri: str) -> str:
    """Return a URL without what web servers are asked behind a question mark."""
    return uri.split("?", 1)[0] if uri.startswith(("http:", "https:")) else uri


def find_members(uri: str | list[str], storage_options: Mapping[str, Any] | None = None) -> Listing:
    """Find the files of a set.

    Parameters
    ----------
    uri
        Glob, pattern with ``{axis}``, folder, or list of names.
    storage_options
        For fsspec.

    Raises
    ------
    MissingFileError
        If there are none.
    ArgumentError
        If their names do not go together.
    """
    if isinstance(uri, list):
        return _by_grammar(uri)
    if FIELD.search(uri):
        return _by_pattern(uri, storage_options)
    if MAGIC.search(uri):
        names = matching(uri, storage_options)
        if not names:
            raise MissingFileError(f"{uri}: no file matches")
        return _by_grammar(names)
    return _by_grammar(_in_folder(File(uri, storage_options)))


def matching(pattern: str, storage_options: Mapping[str, Any] | None = None) -> list[str]:
    """Names that match a glob, in natural order; hidden ones do not."""
    if not is_remote(pattern):
        return sorted(glob.glob(pattern, recursive=True), key=natural)
    fs, path = filesystem(pattern, storage_options)
    try:
        names = [str(name) for name in fs.glob(path)]
    except FileNotFoundError:
        names = []
    except (OSError, NotImplementedError) as error:
        raise StorageError(f"{pattern}: files cannot be listed there: {error}. Pass a list of them") from error
    visible = (name for name in names if not name.rpartition("/")[2].startswith("."))
    return sorted((_spelled_like(pattern, name) for name in visible), key=natural)


def _spelled_like(pattern: str, path: str) -> str:
    """Return the URL of a path that a file system has found, with the protocols and slashes of the pattern."""
    if "://" in path:
        return path
    head, chain, rest = pattern.partition("::")
    if chain and "://" not in head:  # simplecache::s3://bucket/*.tif
        return head + chain + _spelled_like(rest, path)
    protocol, _, inner = head.partition("://")
    return f"{protocol}://{path if inner.startswith('/') else path.lstrip('/')}{chain}{rest}"


def extension_of(name: str) -> str:
    """Return the longest known extension of a file name, as it is spelled there."""
    entries = registry().values()
    known = {e for entry in entries for e in (*entry.extensions, *(x for w in entry.writers for x in w.extensions))}
    fitting = [extension for extension in known if name.lower().endswith(extension)]
    return name[-len(max(fitting, key=len)) :] if fitting else os.path.splitext(name)[1]


def _in_folder(folder: File) -> list[str]:
    """All images of a folder; they must be of one kind."""
    folders = tuple(extension for entry in registry().values() if entry.folders for extension in entry.extensions)
    with os.scandir(folder.uri) as entries:
        names = [
            entry.name
            for entry in entries
            if not entry.name.startswith(".")
            and not entry.name.lower().endswith(SIDECARS)
            and (entry.is_file() or entry.name.lower().endswith(folders))
        ]
    kinds = sorted({extension_of(name).lower() or "no extension" for name in names})
    if len(kinds) != 1:
        found = f"files of several kinds: {', '.join(kinds)}" if kinds else "nothing that could be read"
        raise ArgumentError(f"{folder}: is a folder with {found}: choose with a glob such as *{(kinds or ['.tif'])[0]}")
    return [os.path.join(folder.uri, name) for name in sorted(names, key=natural)]


def _by_grammar(names: Sequence[str]) -> Listing:
    """Take names apart by our grammar; names without groups are only names."""
    members: list[Found] = []
    stems: dict[tuple[str, str], str] = {}
    for name in names:
        folder, base = _split(name)
        parsed = parse_name(base, extension_of(base))
        variable = "".join(text for key, text in parsed.groups if key == VARIABLE)
        members.append(Found(name, variable, tuple(group for group in parsed.groups if group[0] != VARIABLE)))
        stems.setdefault((folder, parsed.stem), name)
    if all(not one.variable and not one.places for one in members):
        return Listing(tuple(members), lambda member, texts: member.name)
    if len(stems) > 1:
        one, other = list(stems.values())[:2]
        raise ArgumentError(
            f"{one} and {other}: belong to different sets, as what stands in front of the coordinates differs: open "
            "them one by one"
        )

    def spell(member: Found, texts: Sequence[str]) -> str:
        folder, base = _split(member.name)
        parsed = parse_name(base, extension_of(base))
        rest = iter(texts)
        groups = [(key, text if key == VARIABLE else next(rest)) for key, text in parsed.groups]
        return folder + member_name(parsed.stem, groups, parsed.extension)

    return Listing(tuple(members), spell)


def _split(name: str) -> tuple[str, str]:
    slash = max(name.rfind("/"), name.rfind(os.sep)) + 1
    return name[:slash], name[slash:]


def _by_pattern(pattern: str, storage_options: Mapping[str, Any] | None) -> Listing:
    """Take names apart by the user's pattern."""
    expression, rough, seen, words = "", "", set(), set()
    for k, piece in enumerate(re.split(r"(\{(?:var|[A-Za-z])(?::(?:d|str))?\}|\*)", pattern)):
        field = FIELD.fullmatch(piece)
        if field is None:
            expression += "[^/]*" if piece == "*" and k % 2 else re.escape(piece)
            rough += piece if piece == "*" and k % 2 else glob.escape(piece)
            continue
        key, kind = field[1] if field[1] == VARIABLE else field[1].lower(), field[2]
        matches = r"[+-]?[0-9]+" if kind == "d" else "[^/]+?"
        expression += f"(?P={key})" if key in seen else f"(?P<{key}>{matches})"
        rough += "*"
        seen.add(key)
        words |= {key} if kind == "str" else set()
    axes = [key for key in dict.fromkeys(_keys_of(pattern)) if key != VARIABLE]
    members = []
    for name in matching(rough, storage_options):
        fit = re.fullmatch(expression, name, re.DOTALL)
        if fit:
            places = tuple((axis, fit[axis]) for axis in axes)
            members.append(Found(name, fit[VARIABLE] if VARIABLE in seen else "", places))
    if not members:
        raise MissingFileError(f"{pattern}: no file matches")

    def spell(member: Found, texts: Sequence[str]) -> str:
        told = {**dict(zip(axes, texts, strict=True)), VARIABLE: member.variable}
        return FIELD.sub(lambda field: told[field[1] if field[1] == VARIABLE else field[1].lower()], pattern)

    return Listing(tuple(members), spell, frozenset(words))


def _keys_of(pattern: str) -> list[str]:
    return [field[1] if field[1] == VARIABLE else field[1].lower() for field in FIELD.finditer(pattern)]


# The order of members ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """An outer axis: the texts on it in order, and what they stand for."""

    name: str
    texts: tuple[str, ...]
    values: np.ndarray

    @classmethod
    def of(cls, name: str, texts: Sequence[str], members: Mapping[str, Found], *, words: bool) -> Axis:
        """Put texts into order: numbers and dates by value, words naturally.

        Raises
        ------
        ArgumentError
            If two texts stand for the same.
        """
        values = values_of(texts, as_text=words)
        if values.dtype.kind == "U":
            order = sorted(range(len(texts)), key=lambda k: natural(str(values[k])))
        else:
            order = np.argsort(values, kind="stable").tolist()
        for one, other in itertools.pairwise(order):
            if values[one] == values[other]:
                raise ArgumentError(
                    f"{members[texts[one]].name} and {members[texts[other]].name}: both are {name} = {values[one]}"
                )
        return cls(name, tuple(texts[k] for k in order), values[order])


@dataclass(frozen=True)
class Grid:
    """Members of one variable in the order of their coordinates.

    Parameters
    ----------
    axes
        The outer axes.
    names
        Of the files, in C order over the axes; `None` where there is none.
    gaps
        Names of those that are not there.
    """

    axes: tuple[Axis, ...]
    names: tuple[str | None, ...]
    gaps: tuple[str, ...] = ()

    @property
    def letters(self) -> str:
        """Names of the axes."""
        return "".join(axis.name for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """How many members there are along each axis."""
        return tuple(len(axis.texts) for axis in self.axes)


def grid_of(listing: Listing, members: Sequence[Found], known: Mapping[str, Sequence[str]] | None = None) -> Grid:
    """Arrange the members of one variable.

    Parameters
    ----------
    listing
        To which they belong.
    members
        All with the same axes.
    known
        By axis the texts of all its members in their true order, where somebody has written that down.

    Raises
    ------
    ArgumentError
        If two files have the same place.
    """
    axes = []
    for k, letter in enumerate(members[0].axes):
        by_text: dict[str, Found] = {}
        for member in members:
            by_text.setdefault(member.places[k][1], member)
        texts = list(by_text)
        axis = Axis.of(letter, texts, by_text, words=letter in listing.words)
        order = (known or {}).get(letter, ())
        if set(texts) <= set(order):
            kept = [text for text in order if text in by_text]
            axis = Axis(letter, tuple(kept), axis.values[[axis.texts.index(text) for text in kept]])
        axes.append(axis)
    places = [{text: n for n, text in enumerate(axis.texts)} for axis in axes]
    shape = tuple(len(axis.texts) for axis in axes)
    names: list[str | None] = [None] * math.prod(shape)
    for member in members:
        at = [place[text] for place, (_, text) in zip(places, member.places, strict=True)]
        k = int(np.ravel_multi_index(at, shape)) if at else 0
        if names[k] is not None:
            raise ArgumentError(f"{names[k]} and {member.name}: have the same place in the set")
        names[k] = member.name
    gaps = tuple(
        listing.spell(members[0], [axis.texts[n] for axis, n in zip(axes, np.unravel_index(k, shape), strict=True)])
        for k, name in enumerate(names)
        if name is None
    )
    return Grid(tuple(axes), tuple(names), gaps)
