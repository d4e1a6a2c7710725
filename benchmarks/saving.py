"""How fast images are saved: `python benchmarks/saving.py [.zarr .npy ...] [--size 4G] [--repeat 5]`.

A lazy scan, opened from a raw file in the page cache, is saved to each format without compression; `numpy.save` writes
the same bytes from memory. All take turns, each in a process of its own, which also tells how much memory it took.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import report

REFERENCE = "numpy.save"
TARGETS = (".zarr", ".npy", ".blo", ".tif")
OPTIONS: dict[str, dict[str, Any]] = {".zarr": {"compress": False}}
LEAST = {".zarr": 0.7, ".npy": 0.8}
"""Part of the reference's throughput that must be reached, on a machine that does nothing else."""

FRAME = (256, 256)
LINE = 256
"""Frames of a scan line."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = parsed(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="saving-") as folder:
        scan = write_scan(Path(folder) / "scan.raw", options.size)
        subjects = {name: Subject(name, scan) for name in (REFERENCE, *options.targets)}
        try:
            for number in range(options.repeat + 1):  # the first turn warms up
                for subject in subjects.values():
                    print(f"turn {number}: {subject.name}", file=sys.stderr, flush=True)
                    subject.take_turn(counts=number > 0)
        finally:
            for subject in subjects.values():
                subject.end()
        print(text(list(subjects.values()), scan.stat().st_size, options.markdown))


def write_scan(path: Path, nbytes: int) -> Path:
    """Write whole scan lines of random patterns of one byte per pixel; reading them back fills the page cache."""
    line = np.random.default_rng(0).integers(0, 256, (LINE, *FRAME), dtype="u1")
    with path.open("wb") as file:
        for k in range(max(1, nbytes // line.nbytes)):
            np.roll(line, k, axis=0).tofile(file)
    return path


class Subject:
    """One way to save the scan, in a process of its own.

    Parameters
    ----------
    name
        Extension, or the reference.
    scan
        File to save again.
    """

    def __init__(self, name: str, scan: Path):
        self.name = name
        self.seconds: list[float] = []
        self.peak = 0
        self.failure = ""
        context = multiprocessing.get_context("spawn")
        self._line, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, name, str(scan)), daemon=True)
        self._process.start()

    def take_turn(self, counts: bool) -> None:
        """Let it save once."""
        if self.failure:
            return
        self._line.send("save")
        answer = self._line.recv()
        if isinstance(answer, str):
            self.failure = answer
            return
        seconds, self.peak = answer
        self.seconds += [seconds] * counts

    def end(self) -> None:
        """Let its process end."""
        self._line.close()
        self._process.join()


def work(line: Connection, name: str, scan: str) -> None:
    """Save as often as asked, and answer with seconds and the peak of memory, or what went wrong."""
    save = saver(name, scan)
    with Memory() as memory:
        while True:
            try:
                line.recv()
            except EOFError:
                return
            target = os.path.join(os.path.dirname(scan), f"saved{name if name.startswith('.') else '.npy'}")
            try:
                begin = time.perf_counter()
                save(target)
                answer: Any = (time.perf_counter() - begin, memory.peak)
            except Exception as error:  # the others go on
                answer = f"{type(error).__name__}: {str(error)[:200]}"
            if os.path.isdir(target):
                shutil.rmtree(target)
            elif os.path.exists(target):
                os.remove(target)
            line.send(answer)


def saver(name: str, scan: str) -> Callable[[str], Any]:
    """Return what is timed: opening is, loading for the reference is not."""
    count = os.path.getsize(scan) // (LINE * FRAME[0] * FRAME[1])
    if name == REFERENCE:
        pixels = np.fromfile(scan, "u1").reshape(count, LINE, *FRAME)
        return lambda target: np.save(target, pixels)
    import intake_emio as emio

    def save(target: str) -> None:
        dataset = emio.imload(scan, dtype="u1", nav_shape=(count, LINE), sig_shape=FRAME)
        emio.imsave(dataset, target, **OPTIONS.get(name, {}))

    return save


class Memory:
    """Watches how much memory this process takes; pages of mapped files are not counted, where the system says so."""

    def __init__(self) -> None:
        self.peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._before = self._now()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.peak = max(self.peak, self._now() - self._before)

    @staticmethod
    def _now() -> int:
        try:
            with open("/proc/self/status") as file:
                return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon"))
        except OSError:  # not on Linux
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def text(subjects: Sequence[Subject], nbytes: int, markdown: bool) -> str:
    """Return a table of what was measured, and notes."""
    reference = statistics.median(subjects[0].seconds or [float("nan")])
    rows = []
    for subject in subjects:
        if subject.seconds:
            median = statistics.median(subject.seconds)
            least = LEAST.get(subject.name)
            rows.append(
                [
                    subject.name,
                    report.duration(median),
                    f"{nbytes / median / 1e9:.2f} GB/s",
                    f"{reference / median:.2f}",
                    f"{least}" if least else "",
                    f"{subject.peak / (1 << 20):.0f} MiB",
                ]
            )
    header = ("saved to", "median", "throughput", f"of {REFERENCE}", "at least", "memory more")
    notes = [f"{subject.name} failed: {subject.failure}" for subject in subjects if subject.failure]
    about = report.machine()
    heading = (
        f"{nbytes / (1 << 30):.2f} GiB, {len(subjects[0].seconds)} repeats, {about['cores']} cores, "
        f"{about['memory'] / 2**30:.0f} GiB of memory. Load average at the end: {about['load'][0]:.1f}."
    )
    return "\n".join([heading, "", report.table(header, rows, markdown), *notes])


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="extension", help=f"default: {' '.join(TARGETS)}")
    parser.add_argument("--size", type=report.size, default=report.size("4G"), help="of the scan; default 4G")
    parser.add_argument("--repeat", type=int, default=5, help="how often each takes its turn; default 5")
    parser.add_argument("--folder", type=Path, help="where files are written; default: the system's own")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    options = parser.parse_args(arguments)
    options.targets = options.targets or list(TARGETS)
    return options


if __name__ == "__main__":
    main()
