"""`emio info`: what is in a file, without reading pixels."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..axes import Labels, Scale
from ..errors import EmioError
from . import app
from .options import AsJson, FormatName, Settings, reader_arguments

if TYPE_CHECKING:
    from ..image import Image
    from ..source import ImageSource

UNITS = {
    "beam_energy": "keV",
    "camera_length": "mm",
    "exposure_time": "s",
    "dwell_time": "s",
    "convergence_angle": "mrad",
    "scan_rotation": "°",
}


@app.command("info")
def info(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="Paths or URLs.")],
    settings: Settings = None,
    format_name: FormatName = None,
    as_json: AsJson = False,
    brief: Annotated[bool, typer.Option("--brief", "-b", help="One line for each file, errors included.")] = False,
    diagnostics: Annotated[
        bool, typer.Option("--diagnostics", help="How the pixels would be read: files, layout, chunks.")
    ] = False,
) -> None:
    """Tell what FILE holds: format, axes, sizes, calibration, pixel type, acquisition. No pixel is read.

    ```
    emio info scan.blo
    emio info frames.bin -s dtype=uint16 -s "sig_shape=(256, 256)"
    emio info --brief *.mib
    emio info scan.blo --json | jq .shape
    ```
    """
    given = reader_arguments(settings, format_name)
    if as_json:
        found = [_facts(file, given, diagnostics) for file in files]
        print(json.dumps(found[0] if len(found) == 1 else found, indent=2, ensure_ascii=False))
    elif brief:
        unread = [file for file in files if not _one_line(file, given)]
        if unread:
            raise typer.Exit(1)
    else:
        from rich.console import Console

        for file in files:
            _show(Console(), _facts(file, given, diagnostics))


def _facts(file: str, settings: dict[str, Any], diagnostics: bool) -> dict[str, Any]:
    from ..sets import open_any

    source = open_any(file, **settings)
    facts = describe(source)
    return {**facts, "diagnostics": source.diagnostics()} if diagnostics else facts


def _one_line(file: str, settings: dict[str, Any]) -> bool:
    """Print what is in a file, or why it cannot be read, in one line; return whether it can."""
    try:
        facts = _facts(file, settings, diagnostics=False)
    except EmioError as error:
        print(f"{os.path.basename(file)}: {error}".replace("\n", " "))
        return False
    sizes = " ".join(f"{axis}={size}" for axis, size in zip(facts["axes"], facts["shape"], strict=True))
    steps = [
        f"{axis} {scale['spacing']:.6g} {scale['units'] or ''}".strip()
        for axis, scale in facts["calibration"].items()
        if "spacing" in scale
    ]
    print(
        "  ".join([os.path.basename(file), facts["format"], sizes, facts["dtype"], bytes_text(facts["nbytes"]), *steps])
    )
    return True


def describe(source: ImageSource) -> dict[str, Any]:
    """Facts about a source, in JSON types."""
    from ..arguments import plain
    from ..frames.files import File

    image = source.image
    picture = image.image
    return {
        "uri": source.uri,
        "format": source.format_name,
        "axes": picture.axes,
        "shape": list(picture.pixels.shape),
        "dtype": str(picture.pixels.dtype),
        "nbytes": picture.pixels.nbytes,
        "file_bytes": sum(File(name, source.storage_options).size for name in dict.fromkeys(picture.pixels.files())),
        "calibration": {axis: _calibration(image, axis) for axis in picture.axes if axis in image.calibration},
        "variables": {name: dict(variable.sizes) for name, variable in image.variables.items()},
        "coordinates": {name: dict(fact.sizes) for name, fact in image.facts.items()},
        "datasets": plain(image.datasets) if len(image.datasets) > 1 else [],
        "acquisition": plain(image.acquisition),
    }


def _calibration(image: Image, axis: str) -> dict[str, Any]:
    from ..arguments import plain

    scale = image.calibration[axis]
    if isinstance(scale, Scale):
        return {"spacing": scale.step, "origin": scale.origin, "units": scale.units}
    assert isinstance(scale, Labels)
    return {"coords": plain(scale.labels), "units": scale.units}


def _show(console: Any, facts: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, title=facts["uri"], title_justify="left", title_style="bold")
    table.add_column(style="cyan")
    table.add_column()
    table.add_row("format", facts["format"])
    sizes = ", ".join(f"{axis} {size}" for axis, size in zip(facts["axes"], facts["shape"], strict=True))
    table.add_row("image", f"{sizes}   {facts['dtype']}   {bytes_text(facts['nbytes'])}")
    table.add_row("on disk", bytes_text(facts["file_bytes"]))
    for axis, scale in facts["calibration"].items():
        table.add_row(f"axis {axis}", _scale_text(scale, facts["shape"][facts["axes"].index(axis)]))
    for kind in ("variables", "coordinates"):
        for name, sizes in facts[kind].items():
            table.add_row(name, ", ".join(f"{axis} {size}" for axis, size in sizes.items()))
    for dataset in facts["datasets"]:
        sizes = " x ".join(map(str, dataset["shape"]))
        table.add_row(f"dataset {dataset['index']}", f"{dataset['name']}   {sizes}   {dataset['dtype']}")
    for name, value in facts["acquisition"].items():
        units = UNITS.get(name, "")
        table.add_row(name.replace("_", " "), f"{value} {units}".strip())
    for name, value in facts.get("diagnostics", {}).items():
        table.add_row(
            name.replace("_", " "), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        )
    console.print(table)


def _scale_text(scale: dict[str, Any], size: int) -> str:
    units = scale["units"] or ""
    if "coords" in scale:
        return f"{', '.join(map(str, scale['coords'][:8]))}{' …' if size > 8 else ''} {units}".strip()
    last = scale["origin"] + scale["spacing"] * (size - 1)
    return f"{scale['spacing']:.6g} {units} per pixel, from {scale['origin']:.6g} to {last:.6g} {units}".replace(
        "  ", " "
    )


def bytes_text(count: int) -> str:
    """A number of bytes, as people write it.

    Examples
    --------
    >>> bytes_text(300), bytes_text(37_748_736)
    ('300 bytes', '37.7 MB')
    """
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return ""
