"""The command line `emio`: a module for each command."""

from __future__ import annotations

import sys

import typer

HELP = """
Open every electron microscopy detector file as labelled, lazy data.

```
emio demo                        try it, on data that it makes
emio info scan.blo               what is in a file
emio preview scan.blo            a picture of it
emio convert scan.blo scan.zarr  save it in another format
emio catalog lab                 list all images below a folder
emio search catalog.yml "beam_energy > 80"   find some of them
emio formats                     what can be read and written
```

Exit codes: 0 done; 1 refused, and one line says why; 2 the command line is wrong.
"""

app = typer.Typer(
    name="emio",
    help=HELP,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; what we refuse is said in one message and exit code 1, without a traceback."""
    import warnings

    from ..errors import EmioError, EmioWarning

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        if issubclass(category, EmioWarning):
            print(f"note: {message}", file=sys.stderr)

    warnings.showwarning = show
    try:
        app(prog_name="emio")
    except EmioError as error:
        sys.exit(f"emio: {error}".replace("pass overwrite=True", "pass --overwrite"))
    except OSError as error:
        sys.exit(f"emio: {error.filename}: {error.strerror}" if error.filename else f"emio: {error}")


from . import catalog, convert, demo, formats, info, preview, search  # noqa: E402, F401  each adds its command to the app
