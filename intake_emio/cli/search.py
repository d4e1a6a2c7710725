"""`emio search`: find entries of a catalog by what it says of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from . import app
from .options import AsJson

COLUMNS = ("name", "format", "axes", "shape", "dtype", "beam_energy", "start_time")

LINE = 1000  # characters: nothing is cut, because names are there to be copied


@app.command("search")
def search(
    catalog: Annotated[str, typer.Argument(metavar="CATALOG", help="Path or URL of a catalog.")],
    where: Annotated[
        str | None, typer.Argument(metavar="[CONDITION]", help="Such as \"beam_energy > 80 and 'gold' in name\".")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find entries by what the catalog says of them: no data file is opened, and nothing in the catalog is run.

    Without a condition, all entries are listed. What is not known fulfils no comparison, but `== None`.

    ```
    emio search catalog.yml
    emio search catalog.yml "beam_energy > 80 and 'gold' in name"
    emio search catalog.yml "format == 'mib' and shape[-1] == 256 and spacing.y < 1"
    emio search catalog.yml "start_time >= '2024-05' or sample == None" --json
    ```
    """
    from ..catalogs.searching import found_in

    found = [one.facts for one in found_in(catalog, where)]
    if as_json:
        print(json.dumps([_shown(facts) for facts in found], indent=2, ensure_ascii=False, default=str))
        return
    from rich.console import Console
    from rich.table import Table

    columns = [name for name in COLUMNS if any(facts.get(name) not in (None, "") for facts in found)]
    table = Table(*(name.replace("_", " ") for name in columns), box=None)
    for facts in found:
        table.add_row(*(_text(facts.get(name)) for name in columns))
    if found:
        Console(width=LINE).print(table)
    print(f"{len(found)} {'entry' if len(found) == 1 else 'entries'}")


def _shown(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name != "text"}


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " x ".join(map(str, value))
    return "" if value is None else str(value)
