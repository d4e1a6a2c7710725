"""What is measured: each workload makes a contest for one format."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import cluster, server
from .cases import Case, Files
from .limit import CORES, Limit
from .ours import Direct, Fused, Plain, opened, pixels
from .peers import LiberTEM, RosettaSciIO
from .timing import Contest, Contestant

FRAMES = 16
"""Single frames in one turn."""

OPENINGS = 10
"""How often a file is opened in one turn."""

MASKS = 4
MILLION = (1000, 1000)
SMALL_FRAME = (64, 64)
BARE_IMPORTS = "import xarray, dask.array\n"
DECODED_BYTES = 128 << 20
REMOTE_BYTES = 128 << 20
REQUEST_BYTES = 4 << 20


class NotHere(Exception):
    """A workload does not apply to a format, or needs something that is not installed."""


@dataclass(frozen=True)
class Scene:
    """A format's files, and with whom they are measured.

    Parameters
    ----------
    case, files
        What is read.
    executors
        LiberTEM's, of which the best counts.
    folder
        For further files.
    size
        Bytes that were asked for.
    """

    case: Case
    files: Files
    executors: Sequence[str]
    folder: Path
    size: int

    def contestants(self, task: str, *arguments: Any, calls: int = 1, corrected: bool = False) -> Contest:
        """Let everybody who can do a task do it."""
        contest = Contest([])
        for make in self._subjects(corrected):
            try:
                subject = make()
            except (ImportError, NotImplementedError) as why:
                contest.notes.append(str(why))
                continue
            except Exception as error:  # a reader that cannot open the file: the others go on
                contest.notes.append(f"{type(error).__name__}: {str(error)[:200]}")
                continue
            contest.contestants += _doing(subject, task, arguments, calls)
        return contest

    def _subjects(self, corrected: bool) -> list[Callable[[], Any]]:
        ours = self.ours(corrected)
        return [
            lambda: Limit(self.files),
            lambda: Plain(self.files.path, ours),
            lambda: Fused(self.files.path, ours),
            lambda: Direct(self.files.path, ours),
            *(lambda e=e: LiberTEM(self.case, self.files, e, corrected) for e in self.executors),
            *([] if corrected else [lambda v=v: RosettaSciIO(self.case, self.files, v) for v in ("lazy", "eager")]),
        ]

    def ours(self, corrected: bool = False) -> dict[str, Any]:
        """Our arguments."""
        return {**self.case.ours(self.files), **((self.case.corrected or {}) if corrected else {})}


def _doing(subject: Any, task: str, arguments: tuple[Any, ...], calls: int) -> Iterator[Contestant]:
    run = getattr(subject, task, None)
    if run is None or (subject.name == "RosettaSciIO" and subject.variant == "eager" and task != "load"):
        return
    yield Contestant(subject.name, lambda: run(*arguments), subject.variant, calls, upside_down=subject.upside_down)


# Reductions ----------------------------------------------------------------------------------------------------------


def mean(scene: Scene) -> Contest:
    """Mean frame."""
    return replace(scene.contestants("mean"), frames=True)


def total(scene: Scene) -> Contest:
    """Sum over the detector."""
    return scene.contestants("sum")


def virtual(scene: Scene) -> Contest:
    """Annular virtual detector."""
    return scene.contestants("virtual", annuli(scene.files.frame, 1)[0])


def dot(scene: Scene) -> Contest:
    """Several virtual detectors at once."""
    return scene.contestants("dot", annuli(scene.files.frame, MASKS))


def corrected(scene: Scene) -> Contest:
    """Mean frame of corrected pixels."""
    if scene.case.corrected is None:
        raise NotHere("has no corrections")
    return replace(scene.contestants("mean", corrected=True), frames=True)


def annuli(frame: tuple[int, int], count: int) -> NDArray[np.float32]:
    """Rings about the middle, (count, height, width); they look the same upside down."""
    v, u = (np.arange(n) - (n - 1) / 2 for n in frame)
    radius = np.hypot(v[:, np.newaxis], u) / (min(frame) / 2)
    edges = np.linspace(0.2, 0.9, count + 1)
    rings = [(radius >= low) & (radius < high) for low, high in itertools.pairwise(edges)]
    return np.stack(rings).astype("f4")


# Pixels --------------------------------------------------------------------------------------------------------------


def load(scene: Scene) -> Contest:
    """Everything in memory."""
    return replace(scene.contestants("load"), frames=True)


def rows(scene: Scene) -> Contest:
    """An eighth of the scan rows, from the middle."""
    ny = scene.files.scan[0]
    return replace(scene.contestants("rows", slice(ny // 2, ny // 2 + max(1, ny // 8))), frames=True)


def frames(scene: Scene) -> Contest:
    """Single frames at random."""
    generator = np.random.default_rng(3)
    points = list(zip(*(generator.integers(0, n, FRAMES).tolist() for n in scene.files.scan), strict=True))
    return replace(scene.contestants("frames", points, calls=FRAMES), frames=True)


def decode(scene: Scene) -> Contest:
    """One thread fills warm memory with pixels, against a copy of the stored bytes."""
    source = pixels(scene.files.path, scene.ours())
    ny, nx = scene.files.scan
    frame_bytes = math.prod(scene.files.frame) * source.dtype.itemsize
    band = min(ny, max(1, DECODED_BYTES // (nx * frame_bytes)))
    out = np.zeros((band, *source.shape[1:]), source.dtype)
    whole = tuple(slice(0, n, 1) for n in source.shape[1:])
    stored = np.ones(scene.files.stored * band // ny, "u1")
    copy = np.zeros_like(stored)

    def ours() -> None:
        for y in range(band):
            source.read((slice(y, y + 1, 1), *whole), out[y : y + 1])

    return Contest(
        [
            Contestant("memcpy", lambda: np.copyto(copy, stored), reference="memcpy"),
            Contestant("plain", ours, reference="memcpy"),
        ],
    )


# Opening -------------------------------------------------------------------------------------------------------------


def opening(scene: Scene) -> Contest:
    """Open the file again; nothing is read."""
    contest = scene.contestants("open", calls=OPENINGS)
    again = [replace(c, run=_repeated(c.run)) for c in contest.contestants if c.subject != "fused"]
    return replace(contest, contestants=again, tolerance=None)


def _repeated(run: Callable[[], Any]) -> Callable[[], None]:
    def several() -> None:
        for _ in range(OPENINGS):
            run()

    return several


def newprocess(scene: Scene) -> Contest:
    """Import and open in a new process, against bare imports."""
    return _processes(scene, "code")


def graph(scene: Scene) -> Contest:
    """Open a million frames in a new process and make the graphs of two reductions; no pixel is read."""
    if scene.case.sparse is None:
        raise NotHere("only for formats whose files can be written sparsely")
    files = scene.case.make_sparse(scene.folder, MILLION, SMALL_FRAME)
    scene = replace(scene, files=files)
    contest = _processes(scene, "graph_code")
    forget_pages(files)
    run_code(Plain(files.path, scene.ours()).graph_code())
    if shutil.which("fincore"):
        contest.facts["bytes read"] = resident(files)
    contest.facts["pickled bytes"] = len(pickle.dumps(pixels(files.path, scene.ours()), protocol=5))
    contest.facts["bytes of the mean's graph"] = graph_bytes(Plain(files.path, scene.ours()).image.mean(("y", "x")))
    return contest


def _processes(scene: Scene, method: str) -> Contest:
    contest = Contest([Contestant("imports", lambda: run_code(BARE_IMPORTS), reference="imports")], tolerance=None)
    ours = scene.ours()
    makers: list[Callable[[], Any]] = [
        lambda: Plain(scene.files.path, ours),
        lambda: LiberTEM(scene.case, scene.files, "inline"),
        lambda: RosettaSciIO(scene.case, scene.files),
    ]
    if method == "graph_code":
        makers.append(lambda: Fused(scene.files.path, ours))
    for make in makers:
        try:
            subject = make()
        except Exception as error:  # not installed, or cannot read it
            contest.notes.append(f"{type(error).__name__}: {str(error)[:200]}")
            continue
        code = getattr(subject, method)()
        contest.contestants.append(
            Contestant(subject.name, lambda code=code: run_code(code), reference="imports")  # type: ignore[misc]
        )
    return contest


def run_code(code: str) -> None:
    """Run Python code in a new process."""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def graph_bytes(array: Any) -> int:
    """Bytes of an array's optimised graph, as it would go to a cluster."""
    import cloudpickle
    import dask

    (optimised,) = dask.optimize(array.data)
    return len(cloudpickle.dumps(optimised.dask, protocol=5))


def forget_pages(files: Files) -> None:
    """Drop files from the page cache."""
    for part in files.parts:
        descriptor = os.open(part, os.O_RDWR)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def resident(files: Files) -> int:
    """Bytes of files that are in the page cache."""
    done = subprocess.run(
        ["fincore", "--bytes", "--noheadings", "--output", "RES", *files.parts], capture_output=True, text=True
    )
    return sum(map(int, done.stdout.split()))


# Elsewhere -----------------------------------------------------------------------------------------------------------


def distributed(scene: Scene) -> Contest:
    """Mean frame on a cluster of as many processes as there are cores, against threads."""
    ours = scene.ours()
    client = cluster.client(CORES)
    contest = Contest([], frames=True)
    for road in (Plain, Fused):
        try:
            threads, processes = road(scene.files.path, ours), road(scene.files.path, ours, client)
        except ImportError as why:
            contest.notes.append(str(why))
            continue
        reference = f"{road.name} threads"
        contest.contestants += [
            Contestant(reference, threads.mean, reference=reference),
            Contestant(road.name, processes.mean, reference=reference),
        ]
        with cluster.bytes_through(client) as counted:
            processes.mean()
        name = "bytes through the scheduler"
        contest.facts[name] = max(contest.facts.get(name, 0), counted.total)
    return contest


def remote(scene: Scene) -> Contest:
    """Read an open file over HTTP with 30 ms to the first byte, against one `cat_ranges` of the same pieces."""
    try:
        import aiohttp  # noqa: F401  what fsspec needs
        import fsspec
    except ImportError as why:
        raise NotHere(str(why)) from None
    size = min(scene.size, REMOTE_BYTES)
    files = scene.case.make(scene.folder / "remote", size)
    if len(files.parts) > 1:
        raise NotHere("consists of several files")
    host = server.serving(files.path)
    url = f"{host}/{os.path.basename(files.path)}"
    ours = replace(scene, files=files).ours()
    http = fsspec.filesystem("http")
    starts = list(range(0, files.stored, REQUEST_BYTES))
    stops = [min(start + REQUEST_BYTES, files.stored) for start in starts]

    def ranges() -> None:
        http.cat_ranges([url] * len(starts), starts, stops, on_error="raise")

    plain = Plain(url, ours)
    contest = Contest(
        [
            Contestant("cat_ranges", ranges, reference="cat_ranges"),
            Contestant("load", opened(url, ours).read, reference="cat_ranges"),
            Contestant("plain mean", plain.mean, reference="cat_ranges"),
        ],
        tolerance=None,
    )
    with contextlib.suppress(ImportError):
        contest.contestants.append(Contestant("fused mean", Fused(url, ours).mean, reference="cat_ranges"))
    return contest


WORKLOADS: dict[str, Callable[[Scene], Contest]] = {
    "open": opening,
    "load": load,
    "mean": mean,
    "sum": total,
    "virtual": virtual,
    "dot": dot,
    "frames": frames,
    "rows": rows,
    "graph": graph,
    "decode": decode,
    "corrected": corrected,
    "distributed": distributed,
    "remote": remote,
    "newprocess": newprocess,
}
