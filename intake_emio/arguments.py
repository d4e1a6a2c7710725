"""Values of arguments as people write them: numbers and shapes, also as text, because catalogs hand over strings."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .errors import ArgumentError


def number(name: str, value: Any, *, least: int | None = None) -> int:
    """Whole number from an int, an integral float or text.

    Examples
    --------
    >>> number("sync_offset", "-3"), number("sync_offset", 4.0)
    (-3, 4)
    """
    parsed = _literal(value)
    if isinstance(parsed, bool | np.bool_) or not isinstance(parsed, int | float | np.number):
        raise ArgumentError(f"{name} must be a whole number, not {value!r}")
    if parsed != parsed or parsed in (float("inf"), float("-inf")) or int(parsed) != parsed:
        raise ArgumentError(f"{name} must be a whole number, not {value!r}")
    if least is not None and parsed < least:
        raise ArgumentError(f"{name} must be at least {least}, not {value!r}")
    return int(parsed)


def decimal(name: str, value: Any) -> float:
    """Finite number from a number or text."""
    parsed = _literal(value)
    if (
        isinstance(parsed, bool | np.bool_)
        or not isinstance(parsed, int | float | np.number)
        or not np.isfinite(parsed)
    ):
        raise ArgumentError(f"{name} must be a number, not {value!r}")
    return float(parsed)


def shape(name: str, value: Any) -> tuple[int, ...] | None:
    """Tuple of positive numbers from a sequence, a single number or text; `None` stays `None`.

    Examples
    --------
    >>> shape("nav_shape", "(256, 256)"), shape("nav_shape", ["64", 32]), shape("nav_shape", 5)
    ((256, 256), (64, 32), (5,))
    """
    parsed = _literal(value)
    if parsed is None:
        return None
    if isinstance(parsed, str | bytes | Mapping) or not isinstance(parsed, Iterable):
        parsed = (parsed,)
    try:
        return tuple(number(name, n, least=1) for n in parsed)
    except ArgumentError:
        raise ArgumentError(f"{name} must be a shape such as (256, 256) of positive numbers, not {value!r}") from None


def members(value: Any) -> list[Any]:
    """Members of a sequence, or of text that is one; anything else alone."""
    parsed = _literal(value)
    return list(parsed) if isinstance(parsed, list | tuple | np.ndarray) else [parsed]


def mapping(name: str, value: Any) -> dict[str, Any]:
    """Return a mapping as a dict; `None` is an empty one."""
    if value is not None and not isinstance(value, Mapping):
        raise ArgumentError(f"{name} must be a mapping, not {value!r}")
    return dict(value or {})


def flag(name: str, value: Any) -> bool:
    """Convert a bool, or ``"true"``/``"false"``.

    Examples
    --------
    >>> flag("flip", "False")
    False
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise ArgumentError(f"{name} must be True or False, not {value!r}")


def choice(name: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    """One of some values."""
    if value not in allowed:
        raise ArgumentError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
    return value


def corrections(value: Any) -> Any:
    """Return `corrections` as written: ``"auto"``, a bool, `None` or a mapping."""
    if isinstance(value, Mapping):
        empty = {k: flag("corrections['allow_empty']", v) for k, v in value.items() if k == "allow_empty"}
        return {**value, **empty}
    if value is None or (isinstance(value, str) and value == "auto"):
        return value
    try:
        return flag("corrections", value)
    except ArgumentError:
        raise ArgumentError(f"corrections must be 'auto', True, False or a mapping, not {value!r}") from None


def region(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Boolean array over the navigation axes."""
    wanted = np.asarray(value, dtype=bool)
    if wanted.shape != shape or not shape:
        raise ArgumentError(f"roi of shape {wanted.shape} does not fit navigation axes of shape {shape}")
    return wanted


def chunks(value: Any) -> Any:
    """`chunks` as written, with numbers in text made numbers.

    Examples
    --------
    >>> chunks("8"), chunks({"y": "4"}), chunks("auto")
    (8, {'y': 4}, 'auto')
    """
    parsed = _literal(value)
    if isinstance(parsed, Mapping):
        return {str(axis): _literal(size) for axis, size in parsed.items()}
    if isinstance(parsed, list | tuple):
        return tuple(_literal(size) for size in parsed)
    return parsed


def partition(value: Any) -> Any:
    """`partition` as written, with numbers and slices in text made numbers and slices.

    Examples
    --------
    >>> partition("2:8"), partition({"y": "3"}), partition([0, "5"])
    (slice(2, 8, None), {'y': 3}, [0, 5])
    """
    parsed = _literal(value)
    if isinstance(parsed, str) and 1 <= parsed.count(":") <= 2:
        return slice(*(number("partition", n) if n.strip() else None for n in parsed.split(":")))
    if isinstance(parsed, Mapping):
        return {str(axis): partition(index) for axis, index in parsed.items()}
    if isinstance(parsed, list | tuple | np.ndarray):
        return [number("partition", index) for index in parsed]
    if parsed is None or isinstance(parsed, slice):
        return parsed
    return number("partition", parsed)


def plain(value: Any) -> Any:
    """Return a value with plain JSON types only, copied; anything unknown becomes text.

    Examples
    --------
    >>> plain({"a": np.float32(0.5), "b": (1, 2), "c": float("nan")})
    {'a': 0.5, 'b': [1, 2], 'c': None}
    """
    match value:
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case np.ndarray():
            return plain((value.astype(str) if value.dtype.kind == "M" else value).tolist())
        case np.datetime64():
            return str(value)
        case np.generic():
            return plain(value.item())
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
        case bytes():
            return value.decode("latin-1").rstrip("\0")
        case float():
            return value if np.isfinite(value) else None
        case None | bool() | int() | str():
            return value
        case slice():
            return ":".join("" if n is None else str(n) for n in (value.start, value.stop, value.step))
        case os.PathLike():
            return os.fspath(value)
        case type() if issubclass(value, np.generic):
            return np.dtype(value).name
    return str(value)


def _literal(value: Any) -> Any:
    """Text that is a number, a tuple, a list, a dict or None, as that; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value
