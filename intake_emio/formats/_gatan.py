"""Gatan's tag trees, as they stand in Digital Micrograph files (versions 3 and 4) and beside K2 captures (.gtg).

```
file  = version u4 | size W | byte order of the values u4 | root group
group = sorted u1 | open u1 | count W | entries
entry = kind u1 (20 group, 21 value) | length of name u2 | name | [version 4: length W] | group or value
value = "%%%%" | n W | n words W that say the type | data
```

Structure is big-endian, ``W`` is a word of 4 bytes in version 3 and of 8 in version 4; values have their own order.
Gatan publishes no specification: the facts come from openNCEM, RosettaSciIO and C. Boothroyd's page on the format.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import HeaderError, TruncatedError
from ..frames.files import File

END, GROUP, VALUE = 0, 20, 21
STRUCT, STRING, ARRAY = 15, 18, 20
NUMBERS = {2: "i2", 3: "i4", 4: "u2", 5: "u4", 6: "f4", 7: "f8", 8: "?", 9: "i1", 10: "u1", 11: "i8", 12: "u8"}
UTF_16 = 4  # an array of these is text

WINDOW_BYTES = 64 << 10
LARGEST_ARRAY = 1 << 10  # larger ones stay in the file ...
LARGEST_TEXT = 64 << 10  # ... but for text
MOST_DEPTH = 64  # real files: at most 13
MOST_WORDS = 1 << 10  # of a type's description; real files: at most 19
MOST_NESTED = 8  # arrays of arrays
MOST_TAGS = 1 << 20  # real files: at most 720


@dataclass(frozen=True)
class TagArray:
    """Numbers that were left in the file.

    Parameters
    ----------
    offset
        Byte of the first one.
    dtype
        Of one element, with its byte order; structs have fields ``f0``, ``f1`` …
    count
        Number of elements.
    """

    offset: int
    dtype: np.dtype
    count: int

    def __str__(self) -> str:
        return f"{self.count} x {self.dtype} at byte {self.offset}"


@dataclass(frozen=True)
class TagHeader:
    """What stands in front of the root group.

    Parameters
    ----------
    version
        3 or 4.
    order
        Byte order of the values, ``"<"`` or ``">"``.
    """

    version: int
    order: str

    @property
    def word(self) -> int:
        """Bytes of a count."""
        return 4 if self.version == 3 else 8

    @property
    def nbytes(self) -> int:
        """Bytes of the header, where the root group begins."""
        return 8 + self.word

    @property
    def smallest_entry(self) -> int:
        """Bytes of an empty group without a name."""
        return 9 if self.version == 3 else 21


def looks_like_tags(file: File) -> bool:
    """Whether a file begins with a tag tree: version, byte order and a root group that is possible."""
    head = file.read(0, 32)
    version = int.from_bytes(head[:4], "big")
    if version not in (3, 4) or len(head) < 22:
        return False
    word = 4 if version == 3 else 8
    order = int.from_bytes(head[4 + word : 8 + word], "big")
    flags, count = head[8 + word : 10 + word], int.from_bytes(head[10 + word : 10 + 2 * word], "big")
    return order in (0, 1) and max(flags) <= 1 and 0 < count * (9 if version == 3 else 21) <= file.size


def read_header(file: File) -> TagHeader:
    """Read what stands in front of the root group; the size in it is wrong in old files and not used.

    Raises
    ------
    HeaderError, TruncatedError
        If the file is no tag tree of version 3 or 4.
    """
    version = int.from_bytes(file.read_exactly(0, 4, "version of the tag file"), "big")
    if version not in (3, 4):
        raise HeaderError(f"{file}: no Gatan tags: the version is {version}, expected 3 or 4")
    word = 4 if version == 3 else 8
    order = int.from_bytes(file.read_exactly(4 + word, 4, "byte order of the tag file"), "big")
    if order not in (0, 1):
        raise HeaderError(f"{file}: the byte order of the tags is {order}, expected 0 (big) or 1 (little)")
    return TagHeader(version, "<" if order else ">")


def read_tags(file: File) -> dict[str, Any] | list[Any]:
    """Read a tag tree, but not the large arrays in it.

    Groups become dictionaries; those whose tags have no names become lists. Where names repeat, or only some tags have
    none, the later ones get their place in the group behind the name: ``Name[3]``. Numbers become int, float or bool,
    structs tuples, small arrays lists, arrays of UTF-16 units text. Arrays of more than 1 kB (64 kB of text), and
    pixels (``ImageData.Data``) of any size, become `TagArray`.

    Raises
    ------
    HeaderError, TruncatedError
        If a count, a length or the depth is impossible, or the file ends too early.
    """
    header = read_header(file)
    return _Reader(file, header).tree()


def tag(tree: Any, *path: str | int, default: Any = None) -> Any:
    """Return a tag by the names (in lists: numbers) on the way to it.

    Examples
    --------
    >>> tag({"ImageList": [{"Name": "gold"}]}, "ImageList", 0, "Name")
    'gold'
    >>> tag({"ImageList": []}, "ImageList", 0, "Name", default="")
    ''
    """
    for step in path:
        known = range(len(tree)) if isinstance(tree, list) else tree if isinstance(tree, dict) else ()
        if step not in known:
            return default
        tree = tree[step]
    return tree


@dataclass
class _Group:
    """A group that is being read."""

    name: str
    count: int
    end: int
    names: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def contents(self) -> dict[str, Any] | list[Any]:
        if self.names and not any(self.names):
            return self.values
        found: dict[str, Any] = {}
        for place, (name, value) in enumerate(zip(self.names, self.values, strict=True)):
            found[name if name and name not in found else f"{name}[{place}]"] = value
        return found


@dataclass(frozen=True)
class _Type:
    """How an encoded value is stored: a number, a struct, or an array (`count` elements of a type)."""

    nbytes: int
    code: int = 0
    members: tuple[_Type, ...] = ()
    count: int = 0

    @property
    def is_text(self) -> bool:
        return self.code == STRING or (self.code == ARRAY and self.members[0].code == UTF_16)

    def dtype(self, order: str) -> np.dtype:
        """NumPy's type; call it only when the size has been checked against the file."""
        if self.code == STRUCT:
            return np.dtype([(f"f{k}", member.dtype(order)) for k, member in enumerate(self.members)])
        if self.code == ARRAY:
            return np.dtype((self.members[0].dtype(order), (self.count,)))
        if self.code == STRING:
            return np.dtype(("u1", (self.count,)))
        return np.dtype(order + NUMBERS[self.code])


class _Unknown(Exception):
    """A type of value that nobody knows."""


class _Reader:
    """Goes through a tag file once, front to back, in blocks."""

    def __init__(self, file: File, header: TagHeader):
        self.file, self.header = file, header
        self.at = header.nbytes
        self.size = file.size
        self.tags = 0
        self.window, self.window_at = b"", 0
        self.stack: list[_Group] = []

    # Bytes -----------------------------------------------------------------------------------------------------------

    def take(self, count: int, end: int, what: str) -> bytes:
        """Return the next bytes, which must end before byte `end`."""
        self.expect(count, end, what)
        if not self.window_at <= self.at <= self.at + count <= self.window_at + len(self.window):
            self.window, self.window_at = self.file.read(self.at, max(count, WINDOW_BYTES)), self.at
        start = self.at - self.window_at
        data = self.window[start : start + count]
        if len(data) < count:
            raise TruncatedError(f"{self.file}: the {what} of {self.place} is cut short: has the file changed?")
        self.at += count
        return data

    def expect(self, count: int, end: int, what: str) -> None:
        """Check that so many bytes are left; numbers are Python's, so that nothing wraps."""
        if self.at + count > end:
            kind = TruncatedError if end == self.size else HeaderError
            raise kind(
                f"{self.file}: the {what} of {self.place} needs {count} bytes from byte {self.at} on, but only "
                f"{max(0, end - self.at)} are left in {'the file' if end == self.size else 'its group'}"
            )

    def number(self, nbytes: int, end: int, what: str) -> int:
        return int.from_bytes(self.take(nbytes, end, what), "big")

    def words(self, count: int, end: int, what: str) -> list[int]:
        word = self.header.word
        return np.frombuffer(self.take(count * word, end, what), f">u{word}").tolist()

    @property
    def place(self) -> str:
        """Where we are, for messages."""
        return ".".join(self.path) or "the root group"

    @property
    def path(self) -> list[str]:
        path = []
        for outer, inner in zip(self.stack, self.stack[1:], strict=False):
            path.append(inner.name or f"[{len(outer.values)}]")
        return path

    # Groups ----------------------------------------------------------------------------------------------------------

    def tree(self) -> dict[str, Any] | list[Any]:
        """Read all groups, with a stack of our own rather than Python's."""
        self.open_group("", self.size)
        while True:
            group = self.stack[-1]
            if len(group.values) < group.count:
                self.entry(group)
                continue
            if self.header.version == 4 and len(self.stack) > 1:
                self.at = group.end  # wherever decoding ended: the length that was announced counts
            self.stack.pop()
            if not self.stack:
                return group.contents()
            self.stack[-1].names.append(group.name)
            self.stack[-1].values.append(group.contents())

    def open_group(self, name: str, end: int) -> None:
        self.take(2, end, "flags")  # sorted, open: of no meaning to a reader
        count = self.number(self.header.word, end, "number of tags")
        if count * self.header.smallest_entry > end - self.at:
            raise HeaderError(
                f"{self.file}: group {name or self.place!r} announces {count} tags, which do not fit into the "
                f"{end - self.at} bytes that are left"
            )
        if len(self.stack) >= MOST_DEPTH:
            raise HeaderError(f"{self.file}: tags are nested deeper than {MOST_DEPTH} groups")
        self.stack.append(_Group(name, count, end))

    def entry(self, group: _Group) -> None:
        """Read one tag: a value is added to its group, a group is opened."""
        self.tags += 1
        if self.tags > MOST_TAGS:
            raise HeaderError(f"{self.file}: more than {MOST_TAGS} tags: the file is broken")
        kind = self.number(1, group.end, "next tag")
        if kind not in (GROUP, VALUE):
            found = "the end of the file" if kind == END else f"a tag of kind {kind}"
            raise HeaderError(
                f"{self.file}: {found} at byte {self.at - 1}, but {self.place} announced {group.count} tags and "
                f"{len(group.values)} are there; expected a group ({GROUP}) or a value ({VALUE})"
            )
        name = self.take(self.number(2, group.end, "length of a name"), group.end, "name of a tag").decode("latin-1")
        end = group.end
        if self.header.version == 4:
            length = self.number(8, end, f"length of {name!r}")
            self.expect(length, end, f"tag {name!r}")
            end = self.at + length
        if kind == GROUP:
            self.open_group(name, end)
            return
        try:
            value = self.value(name, end)
        except _Unknown as unknown:
            if self.header.version == 3:  # no way to know where it ends
                raise HeaderError(f"{self.file}: tag {name!r} of {self.place} {unknown}") from None
            value = None
        if self.header.version == 4:
            self.at = end
        group.names.append(name)
        group.values.append(value)

    # Values ----------------------------------------------------------------------------------------------------------

    def value(self, name: str, end: int) -> Any:
        what = f"value {name!r}"
        mark = self.take(4, end, what)
        if mark != b"%%%%":
            raise HeaderError(f"{self.file}: {what} of {self.place} begins with {mark!r}, expected b'%%%%'")
        count = self.number(self.header.word, end, what)
        self.expect(count * self.header.word, end, what)
        if not 0 < count <= MOST_WORDS:
            raise _Unknown(f"has a type of {count} words")
        kind, used = self.type_of(self.words(count, end, what), 0)
        if used != count:
            raise _Unknown(f"has a type of {count} words, of which {used} are understood")
        self.expect(kind.nbytes, end, what)
        if self.stays(kind, name):
            element, elements = (kind.members[0] if kind.members else _Type(1, 10)), kind.count
            while element.code == ARRAY:  # arrays of arrays are one, because NumPy's types cannot be of any size
                element, elements = element.members[0], elements * element.count
            left = TagArray(self.at, element.dtype(self.header.order), elements)
            self.at += kind.nbytes
            return left
        return self.decoded(kind, self.take(kind.nbytes, end, what))

    def stays(self, kind: _Type, name: str) -> bool:
        """Whether numbers stay in the file. Pixels do, even if they are few and of the type of text."""
        if kind.code not in (ARRAY, STRING):
            return False
        pixels = name == "Data" and self.path[-1:] == ["ImageData"]
        return pixels or kind.nbytes > (LARGEST_TEXT if kind.is_text else LARGEST_ARRAY)

    def decoded(self, kind: _Type, data: bytes) -> Any:
        order = self.header.order
        if kind.is_text:
            if kind.code == STRING:
                return data.decode("latin-1")
            return data.decode("utf-16-le" if order == "<" else "utf-16-be", "replace")
        if not kind.nbytes:
            return [] if kind.code == ARRAY else ()
        if kind.code == ARRAY:
            return np.frombuffer(data, kind.members[0].dtype(order)).tolist()
        return np.frombuffer(data, kind.dtype(order))[0].item()

    def type_of(self, words: list[int], at: int, depth: int = 0) -> tuple[_Type, int]:
        """Understand the words of a type from one on; returns the type and the word behind it."""
        code, rest = words[at], words[at + 1 :]
        if code in NUMBERS:
            return _Type(np.dtype(NUMBERS[code]).itemsize, code), at + 1
        if code == STRING and rest:
            return _Type(rest[0], STRING, count=rest[0]), at + 2
        if code == STRUCT and len(rest) >= 2 and rest[1] * 2 + 2 <= len(rest):
            members = rest[3 : 2 + 2 * rest[1] : 2]  # each behind the length of a name that is never there
            if all(member in NUMBERS for member in members):
                fields = tuple(_Type(np.dtype(NUMBERS[member]).itemsize, member) for member in members)
                return _Type(sum(f.nbytes for f in fields), STRUCT, fields), at + 3 + 2 * rest[1]
        if code == ARRAY and rest and depth < MOST_NESTED:
            element, behind = self.type_of(words, at + 1, depth + 1)
            if behind < len(words):
                count = words[behind]
                return _Type(element.nbytes * count, ARRAY, (element,), count), behind + 1
        raise _Unknown(f"has the unknown type {words[at : at + 8]}")
