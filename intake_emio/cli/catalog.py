"""`emio catalog`: list every image below a folder in a catalog; `emio catalog check`: look a stranger's catalog over."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import click
import typer
from typer.core import TyperGroup

from . import app


class _BuildsByDefault(TyperGroup):
    """Takes `emio catalog FOLDER` for `emio catalog build FOLDER`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help"):
            args = ["build", *args]
        return super().parse_args(ctx, args)


commands = typer.Typer(cls=_BuildsByDefault, no_args_is_help=True, rich_markup_mode="markdown")
app.add_typer(commands, name="catalog", help="List every image below a folder in a catalog, or check a catalog.")


@commands.command("build")
def build(
    folder: Annotated[str, typer.Argument(help="Path or URL of the folder to crawl.")],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Catalog to write; /dev/stdout prints it.")
    ] = "catalog.yml",
    nested: Annotated[bool, typer.Option("--nested", help="A catalog for each folder, and one that leads to them.")] = (
        False
    ),
    update: Annotated[
        bool, typer.Option("--update", help="Open only what has changed; keep what people wrote into the catalog.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew, even if there is a catalog.")] = False,
    include: Annotated[
        list[str] | None, typer.Option("--include", metavar="PATTERN", help="Look only at these, such as '*.mib'.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", metavar="PATTERN", help="Leave out these files and folders.")
    ] = None,
    v2: Annotated[bool, typer.Option("--v2", help="A catalog for the readers of intake 2.")] = False,
    storage_options: Annotated[
        str, typer.Option(metavar="JSON", help="For fsspec, such as '{\"anon\": true}'.")
    ] = "{}",
) -> None:
    """List every image below FOLDER in a catalog; what could not be read is said at the end.

    Example: `emio catalog lab -o lab/catalog.yml --exclude old`; later `emio catalog lab -o lab/catalog.yml --update`.
    """
    from ..catalogs.building import Order
    from ..catalogs.folders import Selection
    from ..catalogs.writing import write_catalogs
    from ..frames.files import File, normalise

    order = Order(
        File(normalise(folder), _options(storage_options)),
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


@commands.command("check")
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Catalogs, by path or URL.")],
) -> None:
    """Tell what in FILE could run code or reach out when it is opened; nothing is opened or run to find out.

    Exit code 1 if there is anything.
    """
    from ..catalogs.checking import check_catalog

    findings = [finding for file in files for finding in check_catalog(file)]
    for finding in findings:
        print(finding)
    if findings:
        raise typer.Exit(1)
    print(f"{', '.join(files)}: only our drivers, nested catalogs that are the same, and plain templates")
