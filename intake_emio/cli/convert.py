"""`emio convert`: from any format to any that is written."""

from __future__ import annotations

import json
import os
import time
import warnings
from typing import Annotated, Any

import typer

from ..errors import EmioWarning
from . import app
from .info import bytes_text
from .options import AsJson, FormatName, Overwrite, Settings, reader_arguments, writer_arguments

MOST_NAMED = 4


@app.command("convert")
def convert(
    sources: Annotated[
        list[str], typer.Argument(metavar="IN", help="Path or URL; several files, a folder or a pattern are one image.")
    ],
    target: Annotated[str, typer.Argument(metavar="OUT", help="Where to; the extension names the format.")],
    partition: Annotated[
        str | None, typer.Option("--partition", "-p", help="Axes within a file, as vu; the others become file names.")
    ] = None,
    compress: Annotated[
        bool | None, typer.Option("--compress/--no-compress", help="More than usual for the format, or not at all.")
    ] = None,
    overwrite: Overwrite = False,
    labels: Annotated[str, typer.Option("--labels", help="Name files after coords or index.")] = "coords",
    chunks: Annotated[
        str,
        typer.Option("--chunks", "-c", help="How pixels are read, and cut in Zarr and HDF5: auto, frame, {'y': 8}."),
    ] = "auto",
    settings: Settings = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", help="Argument of the writer, as NAME=VALUE.", metavar="NAME=VALUE"),
    ] = None,
    format_name: FormatName = None,
    as_json: AsJson = False,
) -> None:
    """Write IN as OUT, lazily: files may be larger than memory.

    ```
    emio convert scan.blo scan.zarr
    emio convert scan.blo frames.tif --partition vu
    emio convert "frames.*.tif" scan.hspy --compress
    emio convert frames.bin scan.npy -s dtype=uint16 -s "sig_shape=(256, 256)"
    emio convert movie.mrc movie.blo -o intensity_scaling=minmax
    ```
    """
    from ..io import imload, imsave

    given = reader_arguments(settings, format_name)
    begin = time.monotonic()
    dataset = imload(sources[0] if len(sources) == 1 else sources, chunks=chunks, **given)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", EmioWarning)
        written = imsave(
            dataset,
            target,
            compress=compress,
            partition=partition,
            overwrite=overwrite,
            labels=labels,
            **writer_arguments(options),
        )
    summary = {
        "written": written,
        "axes": {name: dict(variable.sizes) for name, variable in dataset.data_vars.items()},
        "nbytes": dataset.nbytes,
        "file_bytes": sum(_size(path) for path in written),
        "seconds": round(time.monotonic() - begin, 3),
        "notes": [str(note.message) for note in notes if issubclass(note.category, EmioWarning)],
    }
    if as_json:
        print(json.dumps(summary, indent=2, ensure_ascii=False))
    else:
        _show(summary)


def _size(path: str) -> int:
    """Bytes of a file, or of everything in a folder; 0 where that is not known."""
    if os.path.isdir(path):
        return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)
    return os.path.getsize(path) if os.path.isfile(path) else 0


def _show(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    written = summary["written"]
    table = Table(box=None, show_header=False)
    table.add_column(style="cyan")
    table.add_column(overflow="fold")
    more = [f"… {written[-1]}"] if len(written) > MOST_NAMED else []
    table.add_row("written", "\n".join([*written[: MOST_NAMED if not more else MOST_NAMED - 1], *more]))
    if more:
        table.add_row("files", str(len(written)))
    for name, sizes in summary["axes"].items():
        table.add_row(name, ", ".join(f"{axis} {size}" for axis, size in sizes.items()))
    rate = summary["nbytes"] / max(summary["seconds"], 1e-3)
    table.add_row("pixels", f"{bytes_text(summary['nbytes'])} in {summary['seconds']:.1f} s, {bytes_text(int(rate))}/s")
    table.add_row("on disk", bytes_text(summary["file_bytes"]))
    for note in summary["notes"]:
        table.add_row("note", note)
    Console().print(table)
