"""Tables of what was measured: everybody against the limit, and ours against the targets."""

from __future__ import annotations

import argparse
import os
import platform
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from .limit import CORES
from .targets import TARGETS, targets_for
from .timing import Measurement

PEERS = ("LiberTEM", "RosettaSciIO")
ORDER = (*PEERS, "plain", "fused", "no dask")
AGAINST = ("reference", *PEERS, "seconds", "seconds more")
GOALS = ("workload", "format", "ours", "median", "reference", *PEERS, "absolute", "targets")
FACTS = ("workload", "format", "fact", "value", "at most", "met")
SCATTER = 0.3
"""Medians whose quartiles lie farther apart than this part of them are marked."""

PACKAGES = ("intake-emio", "libertem", "rosettasciio", "dask", "xarray", "numpy", "numba")


@dataclass
class Entry:
    """One workload on one format."""

    workload: str
    format: str
    kind: str
    measurements: list[Measurement] = field(default_factory=list)
    facts: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def of(self, subject: str) -> Measurement | None:
        """Measurement of a subject, if it took part."""
        return next((m for m in self.measurements if m.contestant.subject == subject), None)

    def reference(self, measurement: Measurement) -> Measurement | None:
        """What a subject is compared to; `None` for references themselves."""
        name = measurement.contestant.reference
        return None if name == measurement.contestant.subject else self.of(name)

    def against(self, measurement: Measurement, what: str) -> float | None:
        """Ratio of medians or, for absolute targets, seconds."""
        if what == "seconds":
            return measurement.median
        other = self.of(what) if what in PEERS else self.reference(measurement)
        if other is None:
            return None
        if what == "seconds more":
            return measurement.median - other.median
        return measurement.median / other.median

    def plain(self) -> dict[str, Any]:
        """All of it in JSON types."""
        return {
            "workload": self.workload,
            "format": self.format,
            "kind": self.kind,
            "subjects": {
                m.contestant.subject: {
                    "variant": m.contestant.variant,
                    "median": m.median,
                    "seconds": m.seconds,
                    **{what: self.against(m, what) for what in ("reference", *PEERS)},
                    "targets": targets_for(self.workload, self.kind, m.contestant.subject),
                }
                for m in self.measurements
            },
            "facts": self.facts,
            "notes": self.notes,
        }


def machine() -> dict[str, Any]:
    """Where and with what was measured."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": CORES,
        "memory": memory,
        "load": os.getloadavg(),
        "versions": versions,
    }


def text(entries: Sequence[Entry], size: int, repeat: int, markdown: bool) -> str:
    """Everything that is printed at the end."""
    about = machine()
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items() if version)
    heading = (
        f"{size / 2**20:.0f} MiB per format, {repeat} repeats, {about['cores']} cores, "
        f"{about['memory'] / 2**30:.0f} GiB, Python {about['python']}, {versions}"
    )
    explanation = (
        f"Ratios of medians in one interleaved run; below 1 is faster than what it is compared to; ~: quartiles lie "
        f"more than {SCATTER:.0%} apart. Load average at the end: {about['load'][0]:.1f}."
    )
    parts = [heading, explanation]
    for workload in dict.fromkeys(entry.workload for entry in entries):
        chosen = [entry for entry in entries if entry.workload == workload and entry.measurements]
        if chosen:
            parts.append(_title(workload, markdown) + "\n" + standing(chosen, markdown))
    rows = list(_target_rows(entries))
    if rows:
        parts.append(_title("targets: measured / at most", markdown) + "\n" + table(GOALS, rows, markdown))
    facts = list(_fact_rows(entries))
    if facts:
        parts.append(_title("facts", markdown) + "\n" + table(FACTS, facts, markdown))
    notes = list(_notes(entries))
    if notes:
        parts.append(_title("notes", markdown) + "\n" + "\n".join(notes))
    return "\n\n".join(parts)


def standing(entries: Sequence[Entry], markdown: bool = False) -> str:
    """Table of one workload: how long the references take, and everybody's ratio to their own."""
    measurements = [m for entry in entries for m in entry.measurements]
    references = dict.fromkeys(m.contestant.reference for m in measurements)
    subjects = {m.contestant.subject for m in measurements}
    columns = [s for s in references if s in subjects]
    columns += sorted(subjects - set(columns), key=lambda s: (ORDER.index(s) if s in ORDER else len(ORDER), s))
    rows = [[entry.format, *(_standing_cell(entry, entry.of(s)) for s in columns)] for entry in entries]
    return table(("format", *columns), rows, markdown)


def _standing_cell(entry: Entry, measurement: Measurement | None) -> str:
    if measurement is None:
        return "-"
    time = "~" * (measurement.scatter > SCATTER) + duration(measurement.median)
    ratio = entry.against(measurement, "reference")
    variant = f" {measurement.contestant.variant}" if measurement.contestant.variant else ""
    return f"{time}{variant}" if ratio is None else f"{number(ratio)} ({time}{variant})"


def _target_rows(entries: Iterable[Entry]) -> Iterable[list[str]]:
    for entry in entries:
        for measurement in entry.measurements:
            subject = measurement.contestant.subject
            targets = targets_for(entry.workload, entry.kind, subject)
            if not targets:
                continue
            measured = {what: entry.against(measurement, what) for what in AGAINST}
            missed = [what for what, most in targets.items() if (found := measured[what]) is not None and found > most]
            absolute = [_target_cell(measured[w], targets[w], duration) for w in AGAINST[-2:] if w in targets]
            yield [
                entry.workload,
                entry.format,
                subject,
                duration(measurement.median),
                *(_target_cell(measured[what], targets.get(what), number) for what in ("reference", *PEERS)),
                " ".join(absolute),
                f"MISSED: {', '.join(missed)}" if missed else "met",
            ]


def _target_cell(measured: float | None, most: float | None, spelt: Any) -> str:
    if measured is None:
        return ""
    return spelt(measured) if most is None else f"{spelt(measured)} / {spelt(most)}"


def _fact_rows(entries: Iterable[Entry]) -> Iterable[list[str]]:
    for entry in entries:
        for name, value in entry.facts.items():
            most = next((t.most for t in TARGETS if t.against == name and entry.workload in t.workloads), None)
            verdict = "" if most is None else "met" if value <= most else "MISSED"
            yield [
                entry.workload,
                entry.format,
                name,
                f"{value:,.0f}",
                "" if most is None else f"{most:,.0f}",
                verdict,
            ]


def _notes(entries: Iterable[Entry]) -> Iterable[str]:
    """Each note once, with everything that it is about."""
    about: dict[str, dict[str, list[str]]] = {}
    for entry in entries:
        for note in dict.fromkeys(entry.notes):
            about.setdefault(note, {}).setdefault(entry.format, []).append(entry.workload)
    for note, formats in about.items():
        where = "; ".join(f"{name} ({', '.join(workloads)})" for name, workloads in formats.items())
        yield f"- {note}: {where}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool = False) -> str:
    """Aligned columns, or a Markdown table."""
    if markdown:
        lines = [header, ["---"] * len(header), *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    widths = [max(len(row[k]) for row in (header, *rows)) for k in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def number(value: float) -> str:
    """Two significant digits, without an exponent.

    Examples
    --------
    >>> number(0.0612), number(0.26), number(1.43), number(23.4)
    ('0.061', '0.26', '1.4', '23')
    """
    digits = 3 if value < 0.1 else 2 if value < 1 else 1 if value < 10 else 0
    return f"{value:.{digits}f}"


def size(text: str) -> int:
    """Bytes, of an argument such as ``512M``.

    Examples
    --------
    >>> size("64M"), size("2GiB")
    (67108864, 2147483648)
    """
    match = re.fullmatch(r"(\d+)([KMG]?)", text.upper().removesuffix("B").removesuffix("I"))
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 512M")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]]


def duration(seconds: float) -> str:
    """Seconds, or a fraction of them that reads well."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if abs(seconds) * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.2f} µs"


def _title(title: str, markdown: bool) -> str:
    return f"### {title}\n" if markdown else f"{title}\n{'=' * len(title)}"
