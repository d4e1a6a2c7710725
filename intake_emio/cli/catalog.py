"""`emio catalog`: list every image below a folder in a catalog; `emio catalog check`: look somebody's catalog over."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from . import app
from .options import Overwrite


@app.command("catalog")
def catalog(
    words: Annotated[
        list[str], typer.Argument(metavar="FOLDER", help="Path or URL of a folder; or the word check, and catalogs.")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Catalog to write; /dev/stdout prints it.")
    ] = "catalog.yml",
    nested: Annotated[
        bool, typer.Option("--nested", help="A catalog for each folder, and one that leads to them.")
    ] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Open only what has changed; keep what people wrote into the catalog.")
    ] = False,
    overwrite: Overwrite = False,
    include: Annotated[
        list[str] | None, typer.Option("--include", metavar="PATTERN", help="Look only at these files and folders.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", metavar="PATTERN", help="Leave out these files and folders.")
    ] = None,
    v2: Annotated[bool, typer.Option("--v2", help="A catalog for the readers of intake 2.")] = False,
    storage_options: Annotated[
        str, typer.Option("--storage-options", metavar="JSON", help="For fsspec, such as '{\"anon\": true}'.")
    ] = "{}",
) -> None:
    """List every image below FOLDER in a catalog for intake; what could not be read is said at the end.

    ```
    emio catalog lab -o lab/catalog.yml
    emio catalog lab -o lab/catalog.yml --update
    emio catalog lab -o lab/catalog.yml --nested --exclude old --include "*.mib" --include "*.hdr"
    emio catalog s3://bucket/lab -o /dev/stdout --storage-options '{"anon": true}'
    emio catalog check from-a-stranger.yml     what in it could run code; exit code 1 if there is anything
    ```
    """
    if words[0] == "check" and len(words) > 1:
        _check(words[1:])
        return
    if len(words) > 1:
        raise typer.BadParameter(f"one FOLDER at a time, not {' '.join(words)}")
    from ..catalogs.building import Order
    from ..catalogs.folders import Selection
    from ..catalogs.writing import write_catalogs
    from ..frames.files import File, normalise

    order = Order(
        File(normalise(words[0]), _options(storage_options)),
        output,
        nested=nested,
        update=update,
        version=2 if v2 else 1,
        selection=Selection(tuple(include or ()), tuple(exclude or ())),
    )
    contents, report = order.made(overwrite=overwrite)
    write_catalogs(contents, overwrite=overwrite or update, storage_options=order.root.storage_options)
    print(report, file=sys.stderr)


def _options(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"--storage-options is no JSON: {error}") from None
    if not isinstance(options, dict):
        raise typer.BadParameter("--storage-options must be a JSON object, such as '{\"anon\": true}'")
    return options


def _check(files: list[str]) -> None:
    """Print what in catalogs could run code, without opening them."""
    from ..catalogs.checking import check_catalog

    findings = [finding for file in files for finding in check_catalog(file)]
    for finding in findings:
        print(finding)
    if findings:
        raise typer.Exit(1)
    print(f"{', '.join(files)}: only our drivers, catalogs of the same kind, and plain templates")
