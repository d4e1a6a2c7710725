"""Searching catalogs by what they say of their entries; no data file is opened."""

from __future__ import annotations

import copy
import difflib
import fnmatch
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from ..errors import ArgumentError, ArgumentTypeError, EmioError, EmioWarning
from ..frames.files import normalise
from .entries import FACTS, unescaped, uri_out
from .expressions import Expression, equal, parse
from .reading import CatalogText, read_catalog
from .writing import base_of

DEEPEST = 10
"""Catalogs within catalogs; those that contain themselves end here."""

USUAL = (
    *("name", "text", "description", "driver", "uri", "format", "axes", "shape", "ndim", "dtype"),
    *("spacing", "spacing_units", "datasets", "size", "modified", "files", "title", "beam_energy", "camera_length"),
    *("magnification", "exposure_time", "dwell_time", "convergence_angle", "stage", "instrument", "detector"),
    "start_time",
)
"""Facts that may be asked for, even if no entry has them."""

HIDDEN = ("state", "written", "settings")
"""What is kept in entries for updating."""


@dataclass(frozen=True)
class Found:
    """An entry, and what is known of it.

    Parameters
    ----------
    name
        With those of the catalogs that it is in, joined by dots.
    entry
        Description, driver, args and metadata, as they are written.
    facts
        By name: what the entry's metadata say, those of the acquisition among them.
    handle
        What a catalog that is open has under this name.
    """

    name: str
    entry: Mapping[str, Any]
    facts: Mapping[str, Any]
    handle: Any = None


def search(catalog: Any, where: str | None = None, /, *, after: Any = None, before: Any = None, **facts: Any) -> Any:
    """Find entries by what the catalog says of them; no data file is opened.

    Parameters
    ----------
    catalog
        An open catalog of intake, or the path or URL of one, which is then read as plain YAML: nothing in it is run.
        Catalogs within it are searched as well.
    where
        A condition such as ``"beam_energy > 80 and 'gold' in name"``, see `intake_emio.catalogs.expressions.parse`.
    after, before
        Date, or ISO 8601 text: the image was recorded at that time or later, or earlier. Where that is not known, the
        time of the file's last change counts.
    **facts
        What is wanted of single facts. A number: the same, to a millionth. A text: the same, whatever its case; ``*``
        and ``?`` stand for any letters. A list or tuple: the same members, where `None` stands for any. A set: one of
        its members.

    Returns
    -------
    intake.catalog.Catalog or dict
        A catalog with the entries found; for a path, the entries themselves by name. Names of entries from catalogs
        within are joined by dots.

    Raises
    ------
    ArgumentError
        If there is no such fact in any entry, or the condition cannot be understood.
    CatalogError
        If the file is no catalog.

    Examples
    --------
    >>> import os
    >>> from intake_emio.catalogs.building import build_catalog
    >>> from intake_emio.cli.demo import small_scan
    >>> catalog = build_catalog(os.path.dirname(small_scan()))
    >>> list(search(catalog, beam_energy=200, format="blo", shape=(8, 8, None, None)))
    ['scan']
    >>> list(search(catalog, "beam_energy < 100 or 'silver' in text"))
    []
    """
    found = found_in(catalog, where, after=after, before=before, facts=facts)
    if isinstance(catalog, str | os.PathLike):
        return {one.name: one.entry for one in found}
    return _as_catalog(catalog, found)


def found_in(
    catalog: Any,
    where: str | None = None,
    *,
    after: Any = None,
    before: Any = None,
    facts: Mapping[str, Any] | None = None,
) -> list[Found]:
    """Return the entries that `search` finds, with what is known of them."""
    wanted = facts or {}
    expression = parse(where) if where is not None else None
    limits = _moment("after", after), _moment("before", before)
    known: set[str] = set()
    found = []
    for one in entries_of(catalog):
        known.update(one.facts)
        if _fits(one, expression, limits, wanted):
            found.append(one)
    _check_names({*wanted, *(expression.names if expression else ())}, known)
    return found


def to_dataframe(catalog: Any) -> Any:
    """Return what a catalog says of its entries as a table; no data file is opened.

    Parameters
    ----------
    catalog
        As for `search`.

    Returns
    -------
    pandas.DataFrame
        A row for each entry, under its name; a column for each fact, members of mappings under names such as
        ``spacing.y``. What is not known is missing.

    Examples
    --------
    >>> import os
    >>> from intake_emio.catalogs.building import build_catalog
    >>> from intake_emio.cli.demo import small_scan
    >>> table = to_dataframe(build_catalog(os.path.dirname(small_scan())))
    >>> table.loc["scan", ["format", "shape", "spacing_units.y"]].tolist()
    ['blo', (8, 8, 32, 32), 'nm']
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ArgumentError("to_dataframe needs pandas: install intake-emio[pandas]") from error
    listed = list(entries_of(catalog))
    rows = [dict(_flat(one.facts)) for one in listed]
    columns = list(dict.fromkeys(name for row in rows for name in row if name not in ("name", "text")))
    return pd.DataFrame(rows, pd.Index([one.name for one in listed], name="name"), columns)


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, tuple(value) if isinstance(value, list) else value


# Entries -------------------------------------------------------------------------------------------------------------


def entries_of(catalog: Any) -> Iterator[Found]:
    """Yield the entries of a catalog, and of those within it.

    Parameters
    ----------
    catalog
        As for `search`.
    """
    if isinstance(catalog, str | os.PathLike):
        name = normalise(catalog)
        yield from _of_file(read_catalog(name), "", frozenset([name]))
    elif hasattr(catalog, "walk"):
        yield from _of_catalog(catalog, "", ())
    elif hasattr(catalog, "entries"):
        aliases = {token: alias for alias, token in catalog.aliases.items()}
        for name, entry in catalog.entries.items():
            yield _found(aliases.get(name, name), _version_2(entry.reader, entry.metadata), catalog[name])
    else:
        raise ArgumentTypeError(
            f"a catalog of intake, or the path of one, was expected, not a {type(catalog).__name__}"
        )


def _of_file(catalog: CatalogText, prefix: str, above: frozenset[str]) -> Iterator[Found]:
    """Entries of a catalog that is plain data, and of those that it leads to by a plain path."""
    if catalog.content.get("version") == 2:
        for name, one in _mapping(catalog.content.get("entries")).items():
            yield _found(f"{prefix}{name}", _version_2(_mapping(one).get("reader"), _mapping(one).get("metadata")))
        return
    base = base_of(catalog.name)
    for name, entry in catalog.entries():
        path = _mapping(entry.get("args")).get("path")
        below = uri_out(path, base) if isinstance(path, str) else None
        if entry.get("driver") != "yaml_file_cat" or below is None:
            yield _found(prefix + name, entry, base=base)
        elif below not in above and len(above) < DEEPEST:
            try:
                inner = read_catalog(below)
            except EmioError as error:
                warnings.warn(f"{prefix}{name} cannot be searched: {error}", EmioWarning, stacklevel=2)
                continue
            yield from _of_file(inner, f"{prefix}{name}.", above | {below})


def _of_catalog(catalog: Any, prefix: str, above: tuple[str, ...]) -> Iterator[Found]:
    """Entries of a catalog that intake has opened."""
    path = str(getattr(catalog, "path", ""))
    if len(above) > DEEPEST or (path and path in above):
        return
    for name, entry in catalog.walk(depth=1).items():
        described = entry.describe()
        if described["container"] != "catalog":
            driver = next(iter(described["driver"]), None) if described["driver"] else None
            yield _found(prefix + name, {**described, "driver": driver}, entry)
            continue
        try:
            inner = list(_of_catalog(entry(), f"{prefix}{name}.", (*above, path)))
        except Exception as error:  # whatever intake and the drivers of others raise
            warnings.warn(f"{prefix}{name} cannot be searched: {error}", EmioWarning, stacklevel=2)
            continue
        yield from inner


def _version_2(reader: Any, metadata: Any) -> dict[str, Any]:
    known = _mapping(metadata)
    return {"driver": reader, "description": known.get("description", ""), "metadata": known}


def _found(name: str, entry: Mapping[str, Any], handle: Any = None, base: str | None = None) -> Found:
    return Found(name, entry, facts_of(name, entry, base), handle)


def facts_of(name: str, entry: Mapping[str, Any], base: str | None = None) -> dict[str, Any]:
    """Return everything that an entry says, by name; what somebody wrote into its metadata wins.

    Parameters
    ----------
    name
        Of the entry.
    entry
        As it is written.
    base
        Folder of the catalog, for the path.
    """
    metadata = _mapping(entry.get("metadata"))
    record = {k: v for k, v in _mapping(metadata.get(FACTS)).items() if k not in HIDDEN}
    acquisition = _mapping(record.pop("acquisition", None))
    own = {k: v for k, v in metadata.items() if k not in (FACTS, "catalog_dir")}
    uri = _mapping(entry.get("args")).get("uri")
    facts: dict[str, Any] = {
        "name": name,
        "description": entry.get("description") or "",
        "driver": entry.get("driver"),
        **({"uri": uri_out(uri, base) or uri} if isinstance(uri, str) else {}),
        **unescaped({**record, **acquisition, **own}),
    }
    if isinstance(facts.get("shape"), list):
        facts["ndim"] = len(facts["shape"])
    facts["text"] = " ".join(_texts(facts))
    return facts


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: Any) -> Iterator[str]:
    match value:
        case Mapping():
            for one in value.values():
                yield from _texts(one)
        case list() | tuple():
            for one in value:
                yield from _texts(one)
        case None:
            return
        case _:
            yield str(value)


# Conditions ----------------------------------------------------------------------------------------------------------


def _check_names(asked: Iterable[str], found: Iterable[str]) -> None:
    known = {*found, *USUAL}
    for name in asked:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3)
            hint = f"do you mean {' or '.join(near)}?" if near else f"known are {', '.join(sorted(known))}"
            raise ArgumentError(f"no entry has a fact {name!r}: {hint}")


def _fits(
    one: Found,
    expression: Expression | None,
    limits: tuple[datetime | None, datetime | None],
    facts: Mapping[str, Any],
) -> bool:
    if expression is not None and not expression.matches(one.facts):
        return False
    if any(limit is not None for limit in limits):
        time = _time_of(one.facts)
        after, before = limits
        if time is None or (after is not None and time < after) or (before is not None and time >= before):
            return False
    return all(_is_wanted(one.facts.get(name), wanted) for name, wanted in facts.items())


def _is_wanted(fact: Any, wanted: Any) -> bool:
    match wanted:
        case str() if isinstance(fact, str):
            return fnmatch.fnmatchcase(fact.casefold(), wanted.casefold())
        case set() | frozenset():
            return any(_is_wanted(fact, one) for one in wanted)
        case list() | tuple() if isinstance(fact, list | tuple):
            pairs = zip(fact, wanted, strict=False)
            return len(fact) == len(wanted) and all(b is None or equal(a, b) for a, b in pairs)
        case Mapping() if isinstance(fact, Mapping):
            return all(_is_wanted(fact.get(key), value) for key, value in wanted.items())
    return equal(fact, wanted)


def _time_of(facts: Mapping[str, Any]) -> datetime | None:
    for name in ("start_time", "modified"):
        try:
            return _aware(datetime.fromisoformat(str(facts.get(name))))
        except ValueError:
            continue
    return None


def _moment(name: str, given: Any) -> datetime | None:
    if given is None or isinstance(given, datetime):
        return given and _aware(given)
    if isinstance(given, date):
        given = given.isoformat()
    try:
        return _aware(datetime.fromisoformat(str(given)))
    except ValueError:
        raise ArgumentError(
            f"{name} must be a date such as 2024-05-31, or with a time as 2024-05-31T12:00, not {given!r}"
        ) from None


def _aware(time: datetime) -> datetime:
    """Return a time with its zone; detectors that do not say theirs are taken as UTC."""
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


# Results -------------------------------------------------------------------------------------------------------------


def _as_catalog(catalog: Any, found: list[Found]) -> Any:
    """Return a catalog of the same version with some of the entries."""
    if not hasattr(catalog, "walk"):
        chosen = type(catalog)()
        for one in found:
            chosen[one.name] = one.handle
            chosen.aliases[one.name] = one.name  # by which intake lists what is there
        return chosen
    from intake.catalog import Catalog

    entries = {one.name: copy.copy(one.handle) for one in found}
    chosen = Catalog.from_dict(
        entries,
        name=f"{catalog.name}_search",
        metadata=dict(catalog.metadata or {}),
        getenv=catalog.getenv,
        getshell=catalog.getshell,
        storage_options=catalog.storage_options,
        user_parameters=dict(catalog.user_parameters),
    )
    chosen.cat = catalog
    for entry in entries.values():
        entry._catalog = chosen
    return chosen
