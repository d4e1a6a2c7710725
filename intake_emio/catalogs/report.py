"""What came of a crawl: how many files, of which kind, and what is wrong with those that could not be read."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """Account of a crawl; all places are seen from the folder that was crawled.

    Parameters
    ----------
    folder
        Where it began.
    files, folders
        How many were looked at.
    datasets
        How many there are.
    in_datasets
        How many files belong to them.
    unchanged
        How many data sets were not opened again, because nothing has changed.
    other
        How many files are something else: text, pictures of plots, archives.
    needs_parameters
        Files that may hold raw frames, with what their size tells.
    unreadable
        Files and folders that could not be read, with the reason.
    notes
        What was odd in files that could be read, or in links between folders.
    kept
        Names of entries in whose place nothing was found, and that are kept because somebody has edited them.
    """

    folder: str = ""
    files: int = 0
    folders: int = 0
    datasets: int = 0
    in_datasets: int = 0
    unchanged: int = 0
    other: int = 0
    needs_parameters: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Return the counts in a line.

        Examples
        --------
        >>> Report(files=12, folders=2, datasets=3, in_datasets=9, other=2, unreadable={"a.blo": "cut"}).summary()
        '3 data sets in 12 files (9 in data sets, 2 other, 1 unreadable) in 2 folders'
        """
        kinds = [
            f"{self.in_datasets} in data sets",
            f"{self.other} other",
            f"{len(self.needs_parameters)} perhaps raw" if self.needs_parameters else "",
            f"{len(self.unreadable)} unreadable" if self.unreadable else "",
        ]
        unchanged = f", {self.unchanged} of them unchanged" if self.unchanged else ""
        return (
            f"{_count(self.datasets, 'data set')} in {_count(self.files, 'file')} ({', '.join(filter(None, kinds))}) "
            f"in {_count(self.folders, 'folder')}{unchanged}"
        )

    def __str__(self) -> str:
        """Return the summary, and everything that needs somebody's attention."""
        parts = [self.summary()]
        parts += _listed("unreadable", [f"{place}: {reason}" for place, reason in sorted(self.unreadable.items())])
        raw = [f"{place}: {hint}" for place, hint in sorted(self.needs_parameters.items())]
        parts += _listed("raw frames of unknown shape and type, for an entry by hand with dtype and sig_shape", raw)
        parts += _listed("kept, although nothing was found in their place, because somebody has edited them", self.kept)
        parts += _listed("odd", self.notes)
        return "\n".join(parts)


MOST_LINES = 50


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _listed(title: str, lines: list[str]) -> list[str]:
    if not lines:
        return []
    more = [f"  … and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return [f"{title}:", *(f"  {line}" for line in lines[:MOST_LINES]), *more]
