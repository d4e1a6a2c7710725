"""Looking a catalog over before it is opened: intake calls what `driver` names, and runs what templates say."""

from __future__ import annotations

import glob
import os
import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..errors import EmioError
from ..formats import registry
from ..frames.files import is_remote, normalise
from .entries import uri_out
from .reading import CatalogText, read_catalog
from .writing import base_of

DRIVER = re.compile(r"emio(_\w+)?")
NESTED = ("yaml_file_cat", "yaml_files_cat")
KEYS = {"description", "driver", "args", "metadata", "parameters", "direct_access", "cache"}
CONTENT = {"metadata", "name", "description", "version"}
CALL = re.compile(r"\s*(?:client_)?(\w+)\(")
REFERENCE = re.compile(r"(^|::)\s*reference\s*(::|://|$)")
CONTENT_2 = {"version", "aliases", "metadata", "user_parameters", "entries", "data"}
KEYS_2 = {"reader", "datatype", "kwargs", "metadata", "output_instance", "user_parameters"}
PARAMETER_2 = re.compile(r"intake\.readers\.user_parameters:\w+")
CALL_2 = re.compile(r"\{*(import|func|pickle64)\(")
FIELD_2 = re.compile(r"(data|env)\([^)]*\)|\w*")
MOST_CATALOGS = 1000
MOST_PATTERNS = 2
"""Folders of a path that may be patterns."""


@dataclass(frozen=True)
class Finding:
    """Something in a catalog that should not be there.

    Parameters
    ----------
    catalog
        Path or URL.
    place
        Where in it, joined by dots.
    reason
        What it could do.
    """

    catalog: str
    place: str
    reason: str

    def __str__(self) -> str:
        """Return it in a line."""
        return " ".join(f"{self.catalog}: {self.place}{': ' if self.place else ''}{self.reason}".split())


def check_catalog(uri: Any) -> list[Finding]:
    """Return what in a catalog, and in those it leads to, could run code or reach out when it is opened.

    Everything is read as plain data; nothing is opened or run. Allowed are our drivers and nested catalogs, and the
    templates ``{{ CATALOG_DIR }}``, ``{{ name }}`` of a parameter, ``{{ env(NAME) }}`` and literal texts.

    Parameters
    ----------
    uri
        Path or fsspec URL.

    Returns
    -------
    list of Finding
        Empty if nothing is wrong.

    Raises
    ------
    MissingFileError, StorageError
        If the catalog cannot be read.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "gift.yml"
    >>> _ = path.write_text("sources: {a: {driver: subprocess.Popen, args: {args: [ls]}}}")
    >>> [finding.reason for finding in check_catalog(path)]
    ["driver 'subprocess.Popen' is none of ours: intake imports and calls it"]
    """
    first = normalise(uri)
    findings: list[Finding] = []
    waiting, seen = [first], {first}
    while waiting:
        name = waiting.pop(0)
        findings += (check := _Check(name, is_first=name == first)).findings()
        new = [one for one in dict.fromkeys(check.leads_to) if one not in seen]
        if len(seen) + len(new) > MOST_CATALOGS:
            return [*findings, Finding(name, "", f"leads to more than {MOST_CATALOGS} catalogs: not all were checked")]
        seen.update(new)
        waiting += new
    return findings


class _Check:
    """The check of one catalog file."""

    def __init__(self, name: str, is_first: bool):
        self.name = name
        self.is_first = is_first
        self.base = base_of(name)
        self.leads_to: list[str] = []

    def findings(self) -> list[Finding]:
        try:
            catalog = read_catalog(self.name)
            if catalog.rewritten:
                return [
                    Finding(self.name, "", "has '!template ' in it, which intake takes out before it reads the rest")
                ]
            check = self._of_version_2 if catalog.content.get("version") == 2 else self._of_version_1
            found = list(check(catalog))
        except (OSError, EmioError) as error:
            if self.is_first and isinstance(error, OSError):
                raise
            reason = str(error).removeprefix(f"{self.name}: ")
            return [Finding(self.name, "", f"cannot be read safely: {reason}")]
        return [Finding(self.name, ".".join(map(str, place)), reason) for place, reason in found]

    # Version 1 ---------------------------------------------------------------------------------------------------

    def _of_version_1(self, catalog: CatalogText) -> Iterator[tuple[tuple[Any, ...], str]]:
        content = catalog.content
        yield from _unknown((), content, CONTENT)
        metadata = content.get("metadata")
        shared = metadata.get("parameters") if isinstance(metadata, Mapping) else None
        yield from _parameters(("metadata", "parameters"), shared)
        if not catalog.has_sources:
            yield ("sources",), "is no mapping"
        for name, entry in catalog.pairs():
            if not isinstance(entry, Mapping) or not isinstance(name, str):
                yield ("sources", name), "is no mapping with a text as its name"
                continue
            yield from self._of_entry((name,), entry, shared)

    def _of_entry(self, place: tuple[Any, ...], entry: Mapping[str, Any], shared: Any) -> Iterator[tuple[Any, str]]:
        yield from _unknown(place, entry, KEYS)
        driver = entry.get("driver")
        drivers = driver if isinstance(driver, list) else [driver]
        for one in drivers:
            if not _is_ours(one):
                yield place, f"driver {one!r} is none of ours: intake imports and calls it"
        yield from _parameters((*place, "parameters"), entry.get("parameters"))
        own = entry.get("parameters")
        names = {str(name) for some in (own, shared, entry.get("args")) if isinstance(some, Mapping) for name in some}
        for part in ("args", "metadata"):  # intake evaluates templates in both
            for where, text in _texts(entry.get(part), (*place, part)):
                reason = _template(text, names) or (_reach(where[-1], text) if part == "args" else None)
                if reason:
                    yield where, reason
        if any(one in NESTED for one in drivers):
            yield from self._nested(place, entry)

    def _nested(self, place: tuple[Any, ...], entry: Mapping[str, Any]) -> Iterator[tuple[Any, str]]:
        """Note the catalogs that an entry leads to, to be checked as well."""
        args = entry.get("args")
        if isinstance(args, Mapping) and args.get("getshell"):
            yield (*place, "args", "getshell"), "lets catalogs run commands"
        paths = args.get("path") if isinstance(args, Mapping) else None
        for path in paths if isinstance(paths, list) else [paths]:
            found = uri_out(path, self.base) if isinstance(path, str) else None
            if found is None or (is_remote(found) and not (self.base or "").startswith(found.split("://")[0])):
                yield place, f"leads to {path!r}, which cannot be checked from here"
            elif is_remote(found):
                self.leads_to.append(found)
            elif sum(map(glob.has_magic, found.split("/"))) > MOST_PATTERNS:
                yield place, f"leads to {path!r}, which are too many folders to check"
            elif os.path.isdir(found):
                self.leads_to += sorted(glob.glob(os.path.join(glob.escape(found), "*.y*ml")))
            else:
                self.leads_to += sorted(glob.glob(found)) if glob.has_magic(found) else [found]

    # Version 2 ---------------------------------------------------------------------------------------------------

    def _of_version_2(self, catalog: CatalogText) -> Iterator[tuple[tuple[Any, ...], str]]:
        content = catalog.content
        yield from _unknown((), content, CONTENT_2)
        yield from _parameters_2(("user_parameters",), content.get("user_parameters"))
        for part, key in (("entries", "reader"), ("data", "datatype")):
            entries = content.get(part)
            for name, entry in entries.items() if isinstance(entries, Mapping) else ():
                if not isinstance(entry, Mapping):
                    yield (part, name), "is no mapping"
                    continue
                yield from _unknown((part, name), entry, KEYS_2)
                if entry.get(key) not in _classes_2():
                    yield (part, name), f"{key} {entry.get(key)!r} is none of ours: intake imports and calls it"
                yield from _parameters_2((part, name, "user_parameters"), entry.get("user_parameters"))
                for where, text in _texts(entry.get("kwargs"), (part, name, "kwargs")):
                    reason = _template_2(text)
                    if reason:
                        yield where, reason


def _is_ours(driver: Any) -> bool:
    return isinstance(driver, str) and (driver in _classes() or DRIVER.fullmatch(driver) is not None)


@cache
def _classes() -> set[str]:
    """Drivers with other names: those of intake for nested catalogs, and our classes as sources write themselves."""
    ours = {f"{entry.module}{mark}{entry.source}" for entry in registry().values() for mark in ".:"}
    return {*NESTED, *ours}


@cache
def _classes_2() -> set[str]:
    names = [(entry.source or "").removesuffix("Source") for entry in registry().values() if not entry.arrays]
    return {f"intake_emio.readers:{name}{kind}" for name in names if name for kind in ("", "Reader")}


def _unknown(place: tuple[Any, ...], mapping: Mapping[str, Any], known: set[str]) -> Iterator[tuple[Any, str]]:
    for key in mapping:
        if key == "plugins":
            yield (*place, key), "imports modules when the catalog is opened"
        elif key not in known:
            yield (*place, key), "is nothing that a catalog needs"


def _parameters(place: tuple[Any, ...], parameters: Any) -> Iterator[tuple[Any, str]]:
    """Check the defaults of parameters: some texts are calls."""
    if parameters is None:
        return
    if not isinstance(parameters, Mapping):
        yield place, "is no mapping"
        return
    for name, parameter in parameters.items():
        for where, text in _texts(parameter, (*place, name)):
            call = CALL.match(text)
            if where[-1] == "default" and call is not None and call[1] != "env":
                yield where, f"{text!r} runs a command"
            elif reason := _reach(None, text):
                yield where, reason


def _parameters_2(place: tuple[Any, ...], parameters: Any) -> Iterator[tuple[Any, str]]:
    """Check parameters of version 2: their class is imported, and some texts are calls."""
    for name, parameter in parameters.items() if isinstance(parameters, Mapping) else ():
        kind = parameter.get("cls") if isinstance(parameter, Mapping) else None
        if kind is not None and not (isinstance(kind, str) and PARAMETER_2.fullmatch(kind)):
            yield (*place, name, "cls"), f"{kind!r} is imported when the catalog is opened"
        for where, text in _texts(parameter, (*place, name)):
            reason = _template_2(text) or _reach(None, text)
            if reason and where[-1] != "cls":
                yield where, reason


def _template_2(text: str) -> str | None:
    """Say what is wrong with a text of version 2, which is a call or has fields as of `str.format`."""
    if CALL_2.match(text):
        return f"{text!r} imports or unpickles something"
    waiting = [text]
    try:
        while waiting:
            for _, field, below, _ in string.Formatter().parse(waiting.pop()):
                if field is not None and not FIELD_2.fullmatch(field):
                    return f"template {{{field}}} is neither CATALOG_DIR, nor the name of a parameter or of data"
                waiting += [below] if below else []
    except ValueError:  # braces that are no template
        return None
    return None


def _texts(value: Any, place: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Yield all texts in a value, each with its place."""
    match value:
        case str():
            yield place, value
        case Mapping():
            for key, one in value.items():
                yield from _texts(one, (*place, key))
        case list() | tuple():
            for number, one in enumerate(value):
                yield from _texts(one, (*place, number))


def _reach(key: Any, text: str) -> str | None:
    """Say what is wrong with a URL: where it leads to must be seen, and be nothing that has templates of its own."""
    if REFERENCE.search(text):
        return f"{text!r} is a reference file system, which evaluates templates of its own"
    if key in ("uri", "path") and re.match(r"\s*\{\{(?!\s*(CATALOG_DIR|'\{')\s*\}\})", text):
        return f"{text!r} begins with a template, so that it can lead anywhere"
    return None


def _template(text: str, names: set[str]) -> str | None:
    """Say what is wrong with the templates in a text, if anything is; they are parsed, not evaluated."""
    if not re.search(r"\{[{%#]", text):
        return None
    import jinja2
    from jinja2 import nodes

    try:
        body = jinja2.Environment().parse(text).body
    except (jinja2.TemplateError, RecursionError, ValueError) as error:
        return f"template {text!r} cannot be parsed: {error}"
    for part in (part for one in body for part in (one.nodes if isinstance(one, nodes.Output) else [one])):
        match part:
            case nodes.TemplateData() | nodes.Const(value=str() | int() | float()):
                continue
            case nodes.Name(name=name) if name == "CATALOG_DIR" or name in names:
                continue
            case nodes.Call(
                node=nodes.Name(name="env"),
                args=[nodes.Name() | nodes.Const()],
                kwargs=[],
                dyn_args=None,
                dyn_kwargs=None,
            ):
                continue
        return f"template {text!r} is neither CATALOG_DIR, nor the name of a parameter, nor env(NAME): it can run code"
    return None
