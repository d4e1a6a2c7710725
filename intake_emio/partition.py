"""The grammar of file names in a set: coordinates to names when an image is split, names to coordinates on reading.

``frames.var_image.y_00.0.x_12.8.tif``: a stem, groups ``.<axis>_<value>`` in the order of the axes, with a group
``.var_<name>`` in front of them if there are several variables, and the extension. Rules: docs/partitions.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

import numpy as np

from .errors import ArgumentError

if TYPE_CHECKING:
    import xarray as xr

VARIABLE = "var"
MOST_DECIMALS = 9
EVEN = 1e-6  # steps that differ by less, in parts of a step, are the same

_HEAD = re.compile(r"(var|[a-z])_(.+)", re.IGNORECASE | re.DOTALL)
_INTEGER = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.[0-9]*(?:e[+-]?[0-9]+)?|[0-9]+e[+-]?[0-9]+)", re.IGNORECASE)
_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(\.\d{1,9})?", re.ASCII)
_DURATION = re.compile(r"-?[0-9]+\.[0-9]{1,9}s")
_TRUTH = {"true": True, "false": False}


# Coordinates to names ------------------------------------------------------------------------------------------------


def texts_of(axis: str, coord: xr.DataArray | None, size: int, by_index: bool = False) -> list[str]:
    """Return the text of each value of an axis, as it stands in file names.

    Parameters
    ----------
    axis
        Its name, for messages.
    coord
        Its coordinate; `None`: the index is taken.
    size
        Its length.
    by_index
        Take the index even if there is a coordinate.

    Raises
    ------
    ArgumentError
        If two values are equal, or are of a kind that names cannot hold.

    Examples
    --------
    >>> import xarray as xr
    >>> texts_of("i", xr.DataArray([3, 10]), 2), texts_of("c", xr.DataArray(["a/b", "03"]), 2)
    (['03', '10'], ['a%2Fb', '%303'])
    """
    values = np.arange(size) if coord is None or by_index else _named_values(axis, coord)
    texts = _TEXTS[values.dtype.kind](axis, values)
    seen: dict[str, int] = {}
    for k, text in enumerate(texts):
        if text.casefold() in seen:
            same = seen[text.casefold()]
            raise ArgumentError(
                f"coordinate {axis} has {values[k]} twice: files of the same name cannot be told apart, pass "
                'labels="index"'
                if values[same] == values[k]
                else f"coordinate {axis}: {values[same]} and {values[k]} make file names that cannot be told apart, "
                'pass labels="index"'
            )
        seen[text.casefold()] = k
    return texts


def _named_values(axis: str, coord: xr.DataArray) -> np.ndarray:
    values = np.asarray(coord.values)
    if values.dtype.kind in "OT" and all(isinstance(value, str) for value in values):
        values = values.astype(str)
    if values.dtype.kind not in _TEXTS:
        raise ArgumentError(f'coordinate {axis} holds {values.dtype}, which file names cannot: pass labels="index"')
    return values


def _integers(axis: str, values: np.ndarray) -> list[str]:
    width = max((len(str(abs(int(value)))) for value in values), default=1)
    return [f"{'-' if value < 0 else ''}{abs(int(value)):0{width}d}" for value in values]


def _floats(axis: str, values: np.ndarray) -> list[str]:
    """Even calibrations in fixed point, anything else as the shortest text that reads back."""
    if not np.isfinite(values).all():
        raise ArgumentError(f'coordinate {axis} has values that are not finite: pass labels="index"')
    return _fixed_point(values.astype("f8")) or [str(value) for value in values]  # shortest that gives the same float


def _fixed_point(values: np.ndarray) -> list[str] | None:
    """Fewest decimals that stay within a thousandth of a step, all of one width; `None` if nine do not do."""
    steps = np.diff(values)
    if not steps.size or not steps[0] or np.abs(steps - steps.mean()).max() > EVEN * abs(steps.mean()):
        return None
    for decimals in range(1, MOST_DECIMALS + 1):
        texts = [f"{value:.{decimals}f}" for value in values]
        if np.abs(np.array(texts, "f8") - values).max() <= abs(steps[0]) / 1000:
            break
    else:
        return None
    bare = [text.lstrip("-") for text in texts]
    width = max(map(len, bare))
    return [
        ("-" if text.startswith("-") and float(text) else "") + digits.zfill(width)
        for text, digits in zip(texts, bare, strict=True)
    ]


def _truths(axis: str, values: np.ndarray) -> list[str]:
    return [str(bool(value)).lower() for value in values]


def _words(axis: str, values: np.ndarray) -> list[str]:
    if any(not value for value in values):
        raise ArgumentError(f'coordinate {axis} has an empty text: pass labels="index"')
    return [escaped(str(value)) for value in values]


def _dates(axis: str, values: np.ndarray) -> list[str]:
    if np.isnat(values).any():
        raise ArgumentError(f'coordinate {axis} has dates that are missing (NaT): pass labels="index"')
    whole = values.astype("M8[ns]")
    if (whole.astype(values.dtype) != values).any():
        raise ArgumentError(f'coordinate {axis} has dates before 1678 or after 2262: pass labels="index"')
    rests = (whole.astype("i8") % 10**9).tolist()
    decimals = next(n for n in (0, 3, 6, 9) if all(rest % 10 ** (9 - n) == 0 for rest in rests))
    texts = [str(date).replace("-", "").replace(":", "") for date in whole.astype("M8[s]")]
    return [text + f".{rest:09d}"[: 1 + decimals] * bool(decimals) for text, rest in zip(texts, rests, strict=True)]


def _durations(axis: str, values: np.ndarray) -> list[str]:
    if np.isnat(values).any():
        raise ArgumentError(f'coordinate {axis} has durations that are missing (NaT): pass labels="index"')
    texts = []
    for nanoseconds in values.astype("m8[ns]").astype("i8").tolist():
        seconds, rest = divmod(abs(nanoseconds), 10**9)
        texts.append(f"{'-' if nanoseconds < 0 else ''}{seconds}.{f'{rest:09d}'.rstrip('0') or '0'}s")
    return texts


_TEXTS = {
    "i": _integers,
    "u": _integers,
    "f": _floats,
    "b": _truths,
    "U": _words,
    "M": _dates,
    "m": _durations,
}


def escaped(text: str) -> str:
    """Text as part of a file name: only letters, digits, ``-``, ``+`` and ``_`` stay as they are.

    Text that would be read as a number, a truth value or a date gets its first character encoded.

    Examples
    --------
    >>> escaped("a/b c.d"), escaped("true"), escaped("-x_1")
    ('a%2Fb%20c%2Ed', '%74rue', '-x_1')
    """
    safe = re.sub(r"[^\w+-]", lambda found: _percent(found[0]), text)
    return safe if isinstance(value_of(safe), str) else _percent(safe[0]) + safe[1:]


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())


def member_name(stem: str, groups: Iterable[tuple[str, str]], extension: str) -> str:
    """Name of a member: its stem, its groups (key, text) in order, its extension.

    Examples
    --------
    >>> member_name("frames", [("var", "image"), ("y", "00.0")], ".tif")
    'frames.var_image.y_00.0.tif'
    """
    return stem + "".join(f".{key}_{text}" for key, text in groups) + extension


def check_stem(stem: str) -> None:
    """Refuse a stem that would itself be read as having groups.

    Raises
    ------
    ArgumentError
        If it ends in something like ``.i_03``.
    """
    if parse_name(stem + ".x", ".x").groups:
        raise ArgumentError(
            f"{stem}: the name ends in what would be read as an axis and its coordinate "
            f"({'.'.join(map('_'.join, parse_name(stem + '.x', '.x').groups))}): choose another one"
        )


# Names to coordinates ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MemberName:
    """A file name, taken apart."""

    stem: str
    groups: tuple[tuple[str, str], ...]
    extension: str


def parse_name(name: str, extension: str) -> MemberName:
    """Take a file name apart; the case of keys makes no difference, and a dot in a value belongs to the value.

    Examples
    --------
    >>> parse_name("frames.Y_00.0.x_12.8.tif", ".tif").groups
    (('y', '00.0'), ('x', '12.8'))
    """
    first, *rest = name[: len(name) - len(extension)].split(".")
    groups: list[list[str]] = []
    for part in rest:
        head = _HEAD.fullmatch(part)
        if head:
            groups.append([head[1].lower(), head[2]])
        elif groups:
            groups[-1][1] += "." + part
        else:
            first += "." + part
    return MemberName(first, tuple((key, text) for key, text in groups), name[len(name) - len(extension) :])


def value_of(text: str) -> int | float | bool | str | np.datetime64 | np.timedelta64:
    """Value that a text in a file name stands for; what is nothing else is text, unescaped.

    Examples
    --------
    >>> value_of("-03"), value_of("00.50"), value_of("20240131T235959"), value_of("a%2Fb")
    (-3, 0.5, np.datetime64('2024-01-31T23:59:59.000000000'), 'a/b')
    """
    if _INTEGER.fullmatch(text) and abs(int(text)) < 2**63:
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if text in _TRUTH:
        return _TRUTH[text]
    date = _DATE.fullmatch(text)
    if date:
        try:
            return np.datetime64("{}-{}-{}T{}:{}:{}".format(*date.groups()[:6]) + (date[7] or ""), "ns")
        except ValueError:  # no such day
            return unquote(text)
    if _DURATION.fullmatch(text):
        seconds, _, rest = text.rstrip("s").partition(".")
        nanoseconds = abs(int(seconds)) * 10**9 + int(rest.ljust(9, "0"))
        if nanoseconds < 2**63:
            return np.timedelta64(-nanoseconds if text.startswith("-") else nanoseconds, "ns")
    return unquote(text)


def values_of(texts: Sequence[str], as_text: bool = False) -> np.ndarray:
    """Values that the texts of an axis stand for, all of one type.

    Parameters
    ----------
    texts
        One for each member of the axis.
    as_text
        Leave numbers and dates as text.

    Returns
    -------
    numpy.ndarray
        int64, float64 (also if integers are among them), bool, datetime64[ns], timedelta64[ns], or else text.

    Examples
    --------
    >>> values_of(["03", "10"]), values_of(["1", "2.5"]), values_of(["1", "b"])
    (array([ 3, 10]), array([1. , 2.5]), array(['1', 'b'], dtype='<U1'))
    """
    values = [unquote(text) if as_text else value_of(text) for text in texts]
    kinds = {type(value) for value in values}
    if kinds == {int, float}:
        kinds = {float}
    dtypes = {int: "i8", float: "f8", bool: "?", np.datetime64: "M8[ns]", np.timedelta64: "m8[ns]"}
    if len(kinds) == 1 and (kind := kinds.pop()) in dtypes:
        return np.array(values, dtypes[kind])
    return np.array([unquote(text) for text in texts], dtype=str)
