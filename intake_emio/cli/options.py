"""Options that several commands have, and the arguments of readers that they make."""

from __future__ import annotations

import ast
import contextlib
from typing import Annotated, Any

import typer


def _formats(beginning: str) -> list[tuple[str, str]]:
    """Names of formats that begin so, with their titles, for shells that complete them."""
    from ..formats import registry

    files = [entry for entry in registry().values() if entry.source and not entry.arrays]
    return [(entry.name, entry.title) for entry in files if entry.name.startswith(beginning)]


Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="NAME=VALUE",
        help="An argument of the reader, such as dtype=uint16 or dataset_index=1; may be given several times.",
    ),
]
FormatName = Annotated[
    str | None,
    typer.Option(
        "--format",
        "-f",
        metavar="NAME",
        help="The format, if it is not to be found out; `emio formats` lists them.",
        autocompletion=_formats,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there already.")]


def reader_arguments(settings: list[str] | None, format: str | None = None) -> dict[str, Any]:
    """Arguments of a reader from the command line; readers understand text, but for mappings.

    Raises
    ------
    typer.BadParameter
        If something is not of the form NAME=VALUE.

    Examples
    --------
    >>> reader_arguments(["sig_shape=(256, 256)", "partition={'y': 3}"], "raw")
    {'sig_shape': '(256, 256)', 'partition': {'y': 3}, 'format': 'raw'}
    """
    found = dict(_setting(one) for one in settings or [])
    return found if format is None else {**found, "format": format}


def writer_arguments(options: list[str] | None) -> dict[str, Any]:
    """Arguments of a writer from the command line; what looks like a Python literal is one.

    Raises
    ------
    typer.BadParameter
        If something is not of the form NAME=VALUE.

    Examples
    --------
    >>> writer_arguments(["levels=3", "intensity_scaling=minmax"])
    {'levels': 3, 'intensity_scaling': 'minmax'}
    """
    found = dict(_setting(one) for one in options or [])
    for name, value in found.items():
        with contextlib.suppress(ValueError, SyntaxError):
            found[name] = ast.literal_eval(value) if isinstance(value, str) else value
    return found


def _setting(option: str) -> tuple[str, Any]:
    name, equals, value = option.partition("=")
    if not equals:
        raise typer.BadParameter(f"{option!r} is not of the form NAME=VALUE")
    if not value.startswith("{"):
        return name, value
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        raise typer.BadParameter(f"{value!r} is not a mapping such as {{'y': 2}}") from None
