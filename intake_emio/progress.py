"""Progress for people who wait: a bar that appears once something takes long, if somebody can see it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from .frames.store import PATIENCE


@contextlib.contextmanager
def steps(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show how much of something is done.

    Parameters
    ----------
    title
        What is done, in a word.
    total
        How many steps there are; `None`: nobody knows.

    Yields
    ------
    function
        To be called with the number of steps that were just done, from one thread at a time.

    Examples
    --------
    >>> with steps("saving", 3) as advance:
    ...     advance(3)
    """
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(title, total=total)
    begin = time.monotonic()
    shown = False

    def advance(done: int) -> None:
        nonlocal shown
        if not shown and time.monotonic() - begin > PATIENCE:
            bar.start()
            shown = True
        bar.advance(task, done)

    try:
        yield advance
    finally:
        if shown:
            bar.stop()
