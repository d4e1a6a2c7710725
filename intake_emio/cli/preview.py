"""`emio preview`: a picture of what is in a file."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated

import typer

from . import app
from .options import FormatName, Overwrite, Settings, reader_arguments

if TYPE_CHECKING:
    from ..source import ImageSource


@app.command("preview")
def preview(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Path or URL.")],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="PNG", help="The picture; default: NAME.preview.png, in this folder."),
    ] = None,
    settings: Settings = None,
    format_name: FormatName = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw what FILE holds: of a scan bright field, dark field and mean pattern; of a stack the middle and the mean.

    Spectra become curves, single images pictures with a scale bar. Of very large files a sample is read, and the
    picture says so. What is printed is the path of the picture.

    ```
    emio preview scan.blo
    emio preview spectra.dm4 -s dataset_index=1 -o eels.png
    emio preview series.seq -s partition=0:100 --overwrite
    emio preview frames.bin -s dtype=uint16 -s "sig_shape=(256, 256)"
    ```
    """
    from ..errors import ArgumentError, TargetExistsError
    from ..sets import open_any

    source = open_any(file, **reader_arguments(settings, format_name))
    path = os.path.abspath(output or f"{_plain_stem(file)}.preview.png")
    if not path.lower().endswith(".png"):
        raise ArgumentError(f"{path}: pictures are PNG files: let the name end in .png")
    if os.path.lexists(path) and not overwrite:
        raise TargetExistsError(f"{path}: exists already: pass --overwrite to replace it, or -o to name another one")
    save_preview(source, path)
    print(path)


def _plain_stem(file: str) -> str:
    """Name of a file without folders and extension; of a pattern of files without what makes it one."""
    from ..frames.files import File

    return re.sub(r"[*?{}\[\]]+", "_", File(file).stem) or "image"


def save_preview(source: ImageSource, path: str) -> None:
    """Write a picture of an image; all or nothing.

    Parameters
    ----------
    source
        Of any format.
    path
        File to create or replace.
    """
    from ..frames.files import File
    from ..replacing import replacing
    from .overview import overview
    from .pictures import save_page

    seen = overview(source)
    with replacing([path]) as [temporary]:
        save_page(seen.panels, temporary, heading=File(source.uri).name, facts=_facts(source), warning=seen.sample)


def _facts(source: ImageSource) -> str:
    """One line: what it is, how large, how it was taken."""
    from ..formats import find
    from .info import bytes_text

    pixels = source.image.image.pixels
    sizes = " × ".join(f"{axis} {size}" for axis, size in source.image.image.sizes.items())
    energy = source.image.acquisition.get("beam_energy")
    facts = [find(source.format_name).title.partition(":")[0], sizes, str(pixels.dtype), bytes_text(pixels.nbytes)]
    return ", ".join([*facts, f"{energy:g} keV"] if isinstance(energy, int | float) else facts)
