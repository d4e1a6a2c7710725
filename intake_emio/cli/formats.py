"""`emio formats`: what can be read and written."""

from __future__ import annotations

import json

from . import app
from .options import AsJson


@app.command("formats")
def formats(as_json: AsJson = False) -> None:
    """List the formats: how files are recognised, and whether they are read and written.

    ```
    emio formats
    emio formats --json | jq '.[] | select(.writes) | .name'
    ```
    """
    from ..formats import registry

    rows = [
        {
            "name": entry.name,
            "title": entry.title,
            "extensions": list(entry.extensions),
            "reads": entry.source is not None,
            "writes": bool(entry.writers),
            "detection": entry.detection or ("only written" if entry.source is None else "extension"),
        }
        for entry in sorted(registry().values(), key=lambda entry: entry.name)
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("format", "what it is", "extensions", "reads", "writes", "recognised by", title="Formats")
    for row in rows:
        marks = ["yes" if row[key] else "–" for key in ("reads", "writes")]
        table.add_row(row["name"], row["title"], " ".join(row["extensions"]), *marks, row["detection"])  # type: ignore[arg-type]
    Console().print(table)
