"""A progress bar for what takes long."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from dask.callbacks import Callback

PATIENCE = 2.0
"""Seconds before a bar appears."""


class _Tasks(Callback):
    """Dask's tasks, as they are done, on a bar."""

    def __init__(self, bar: Any, row: Any):
        super().__init__()
        self.bar, self.row = bar, row

    def _start_state(self, graph: Any, state: dict[str, Any]) -> None:
        total = sum(len(state[kind]) for kind in ("ready", "waiting", "running"))
        self.bar.update(self.row, total=total, completed=0)

    def _posttask(self, *_: Any) -> None:
        self.bar.advance(self.row)


@contextlib.contextmanager
def progress(what: str) -> Iterator[None]:
    """Show on stderr how far dask is, from the third second on; nothing where stderr is no terminal.

    Parameters
    ----------
    what
        What is being done, in a word or two.

    Examples
    --------
    >>> with progress("reading"):
    ...     pass
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    bar = Progress(console=console, transient=True)
    appears = threading.Timer(PATIENCE, bar.start)
    appears.daemon = True
    with _Tasks(bar, bar.add_task(what, total=None)):
        appears.start()
        try:
            yield
        finally:
            appears.cancel()
            appears.join()
            bar.stop()
