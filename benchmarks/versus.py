"""How we compare: `python benchmarks/versus.py [workload ...] [--formats raw,blo] [--size 512M] [--repeat 7]`.

Measures ours (plain xarray and dask; the fused reductions) against the machine's limit, LiberTEM (the best of its
executors) and RosettaSciIO. All take turns in one run; the table shows ratios of medians, and which targets are met.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import cluster, peers, report, server
from benchmarks.cases import CASES, Case
from benchmarks.limit import CORES
from benchmarks.workloads import WORKLOADS, NotHere, Scene
from intake_emio.formats import registry


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = parsed(arguments)
    try:
        entries = [entry for name in options.formats for entry in measure(CASES[name], options)]
    finally:
        server.stop()
        cluster.close(CORES)
        peers.close_contexts()
    entries.sort(key=lambda entry: options.workloads.index(entry.workload))
    print(report.text(entries, options.size, options.repeat, options.markdown))
    if options.json:
        content = {
            "size": options.size,
            "repeat": options.repeat,
            "machine": report.machine(),
            "entries": [entry.plain() for entry in entries],
        }
        options.json.write_text(json.dumps(content, indent=1))


def measure(case: Case, options: argparse.Namespace) -> list[report.Entry]:
    """Write a format's files and run all workloads on them."""
    if case.format not in registry():
        note = f"skipped: we cannot read {case.format} yet"
        return [report.Entry(workload, case.name, case.kind, notes=[note]) for workload in options.workloads]
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="versus-") as folder:
        _say(f"{case.name}: writing")
        files = case.make(Path(folder), options.size)
        files.warm()
        scene = Scene(case, files, options.executors, Path(folder), options.size)
        return [run(workload, scene, options.repeat) for workload in options.workloads]


def run(workload: str, scene: Scene, repeat: int) -> report.Entry:
    """Measure one workload on one format."""
    _say(f"{scene.case.name}: {workload}")
    entry = report.Entry(workload, scene.case.name, scene.case.kind)
    try:
        contest = WORKLOADS[workload](scene)
    except NotHere as why:
        entry.notes.append(str(why))
        return entry
    except Exception as error:  # what was measured until now is worth keeping
        entry.notes.append(f"FAILED: {type(error).__name__}: {str(error)[:200]}")
        return entry
    entry.measurements = contest.measure(repeat)
    entry.facts, entry.notes = contest.facts, contest.notes
    return entry


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", metavar="workload", help=f"of {', '.join(WORKLOADS)}; default: all")
    parser.add_argument("--formats", type=_names, help=f"of {', '.join(CASES)}; default: all that we can open")
    parser.add_argument(
        "--size", type=report.size, default=report.size("512M"), help="of each file: 64M, 2G; default 512M"
    )
    parser.add_argument("--repeat", type=int, default=7, help="how often each subject takes its turn; default 7")
    parser.add_argument("--executors", type=_names, default=list(peers.EXECUTORS), help="of LiberTEM; the best counts")
    parser.add_argument("--folder", type=Path, help="where the files are written; default: the system's own")
    parser.add_argument("--json", type=Path, help="also write all times to this file")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    options = parser.parse_args(arguments)
    options.workloads = options.workloads or list(WORKLOADS)
    options.formats = options.formats or [case.name for case in CASES.values() if case.format in registry()]
    for given, known in (
        (options.workloads, WORKLOADS),
        (options.formats, CASES),
        (options.executors, peers.EXECUTORS),
    ):
        for name in given:
            if name not in known:
                parser.error(f"{name!r} is none of {', '.join(known)}")
    return options


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
