"""Sets of files that are one image: members that `imsave` named after their places."""

from __future__ import annotations

import fnmatch
import glob
import re
from collections.abc import Iterable, Mapping

from ..finding import FIELD, MAGIC, extension_of
from ..partition import VARIABLE, parse_name

LIKELY = re.compile(r"\.(var|[a-z])_", re.IGNORECASE)
Sets = dict[str, list[str]]


def sets_in(names: Iterable[str], folder: str = "") -> tuple[Sets, list[str]]:
    """Sort out the members of sets.

    Parameters
    ----------
    names
        Of the files of a folder, without it.
    folder
        Its name: if that looks like a pattern, sets in it cannot be opened by theirs.

    Returns
    -------
    sets : dict of str to list of str
        Names of the members, by the glob that finds them.
    others : list of str
        Names that belong to no set of several files.

    Examples
    --------
    >>> sets_in(["a.y_0.tif", "a.y_1.tif", "b.y_0.tif", "c.tif", "d.var_image.i_0.npy", "d.var_image.i_1.npy"])
    ({'a.y_*.tif': ['a.y_0.tif', 'a.y_1.tif'],
      'd.var_*.npy': ['d.var_image.i_0.npy', 'd.var_image.i_1.npy']}, ['b.y_0.tif', 'c.tif'])
    """
    names = list(names)
    by_pattern: Sets = {}
    for name in names if not (MAGIC.search(folder) or FIELD.search(folder)) else ():
        pattern = _pattern(name) if LIKELY.search(name) else None
        if pattern is not None:
            by_pattern.setdefault(pattern, []).append(name)
    sets = {pattern: members for pattern, members in by_pattern.items() if len(members) > 1}
    taken = {name for members in sets.values() for name in members}
    return sets, [name for name in names if name not in taken]


def _pattern(name: str) -> str | None:
    """Return the glob that finds the set of a member; `None` if the name is none of a member."""
    parsed = parse_name(name, extension_of(name))
    keys = [key for key, _ in parsed.groups]
    if not keys or FIELD.search(name):
        return None
    keys = [VARIABLE] if keys[0] == VARIABLE else keys
    pattern = glob.escape(parsed.stem) + "".join(f".{key}_*" for key in keys) + glob.escape(parsed.extension)
    return pattern if fnmatch.fnmatchcase(name, pattern) else None


def is_set(name: str, stamps: Mapping[str, object]) -> bool:
    """Whether a name is a glob, and not that of a file."""
    return name not in stamps and MAGIC.search(name) is not None
