"""The files to measure: how each is written, and how every subject opens it."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.encoders.blo import write_blo
from tests.encoders.k2is import write_k2is
from tests.encoders.mib import write_mib
from tests.encoders.npy import write_npy
from tests.encoders.raw import write_raw
from tests.encoders.seq import write_seq, write_sidecar_mrc
from tests.encoders.tvips import raster, write_tvips

MOST_IN_MEMORY = 2 << 30
"""Bytes of decoded pixels at most: readers hold them several times, and 1 bit pixels are eight times their file."""

SHIFT = 61
"""Each frame is a window of the same random pixels, so many pixels further on: all differ, and none costs memory."""

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """A function by its name, and its arguments: to be called here, or as the source text of another process."""

    module: str
    function: str
    arguments: tuple[Any, ...] = ()
    keywords: Arguments = field(default_factory=dict)

    def __call__(self) -> Any:
        """Call it."""
        return getattr(importlib.import_module(self.module), self.function)(*self.arguments, **self.keywords)

    def code(self) -> str:
        """Source text that does the same."""
        return (
            f"from numpy import dtype\nfrom {self.module} import {self.function}\n"
            f"result = {self.function}(*{self.arguments!r}, **{dict(self.keywords)!r})\n"
        )


@dataclass(frozen=True)
class Files:
    """A scan on disk.

    Parameters
    ----------
    path
        What is passed to readers.
    parts
        All files that hold pixels.
    scan, frame
        (ny, nx) and (height, width).
    """

    path: str
    parts: tuple[str, ...]
    scan: tuple[int, int]
    frame: tuple[int, int]

    @property
    def stored(self) -> int:
        """Bytes on disk."""
        return sum(os.path.getsize(part) for part in self.parts)

    def warm(self) -> None:
        """Write what is still to be written to the disk, and have everything in the page cache."""
        for part in self.parts:
            descriptor = os.open(part, os.O_RDWR)
            os.fsync(descriptor)
            os.close(descriptor)
            with open(part, "rb", buffering=0) as file:
                while file.read(1 << 24):
                    pass


@dataclass(frozen=True)
class Case:
    """A format with one kind of pixels.

    Parameters
    ----------
    name
        As in ``--formats``.
    format
        As in our registry.
    kind
        Which targets hold (see `benchmarks.targets`).
    dtype, below
        Decoded pixels: their type, and the number they stay below.
    write
        Takes the folder, frames (n, height, width) and the scan's shape; returns the files, first the one to open.
    ours, libertem
        Arguments beside the path. `None`: LiberTEM cannot read the format.
    rosettasciio
        What opens it lazily in RosettaSciIO; `None`: it cannot read the format.
    frame
        (height, width)
    bits
        Per stored pixel.
    share
        Of the size asked for, where decoding makes much more of it.
    corrected
        Our arguments and LiberTEM's for corrected pixels, if the format has corrections.
    sparse
        Writes a file of zeros that takes no space, for a million frames.
    """

    name: str
    format: str
    kind: str
    dtype: str
    below: int
    write: Callable[[Path, NDArray, tuple[int, int]], list[Path]]
    ours: Callable[[Files], Arguments] = lambda files: {}
    libertem: Callable[[Files], Arguments] | None = None
    rosettasciio: Callable[[Files], Call] | None = None
    frame: tuple[int, int] = (256, 256)
    bits: int = 0
    share: float = 1.0
    corrected: Arguments | None = None
    sparse: Callable[[Path, NDArray, tuple[int, int]], list[Path]] | None = None

    def make(self, folder: Path, size: int) -> Files:
        """Write about `size` bytes of random pixels into a folder of their own."""
        bits = self.bits or np.dtype(self.dtype).itemsize * 8
        pixels = math.prod(self.frame)
        frames = int(size * self.share) // (pixels * bits // 8)
        frames = min(frames, MOST_IN_MEMORY // (pixels * np.dtype(self.dtype).itemsize))
        scan = scan_shape(frames)
        return self._written(self.write, folder / self.name, frames_of(self, scan), scan)

    def make_sparse(self, folder: Path, scan: tuple[int, int], frame: tuple[int, int]) -> Files:
        """Write a file of zeros with that many frames."""
        if self.sparse is None:
            raise NotImplementedError(f"{self.name} cannot be written without its pixels")
        zeros = np.broadcast_to(np.zeros((), self.dtype), (math.prod(scan), *frame))
        return self._written(self.sparse, folder / f"{self.name}_sparse", zeros, scan)

    def _written(self, write: Callable, folder: Path, frames: NDArray, scan: tuple[int, int]) -> Files:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [os.fspath(path) for path in write(folder, frames, scan)]
        parts = [path for path in paths if not path.endswith((".gtg", ".mrc"))]
        return Files(paths[0], tuple(parts), scan, (frames.shape[1], frames.shape[2]))


def scan_shape(frames: int) -> tuple[int, int]:
    """Scan of at most so many frames; from 1024 on a multiple of 512, without which LiberTEM fails on 1 bit MIB."""
    nx = 1 << max(0, int(math.log2(max(1, frames)) / 2))
    ny = max(1, frames // nx)
    return (ny - ny % max(1, 512 // nx) if frames >= 1024 else ny), nx


def frames_of(case: Case, scan: tuple[int, int]) -> NDArray:
    """Random frames, (n, height, width), as overlapping windows of few pixels."""
    count, dtype = math.prod(scan), np.dtype(case.dtype)
    pool = np.random.default_rng(1).integers(0, case.below, SHIFT * count + math.prod(case.frame)).astype(dtype)
    strides = (SHIFT * dtype.itemsize, case.frame[1] * dtype.itemsize, dtype.itemsize)
    return np.lib.stride_tricks.as_strided(pool, (count, *case.frame), strides, writeable=False)


# How each format is written ------------------------------------------------------------------------------------------


def _raw(folder: Path, frames: NDArray, scan: tuple[int, int]) -> list[Path]:
    return [write_raw(folder / "scan.raw", frames)]


def _raw_sparse(folder: Path, frames: NDArray, scan: tuple[int, int]) -> list[Path]:
    path = folder / "scan.raw"
    path.touch()
    os.truncate(path, frames.size * frames.dtype.itemsize)
    return [path]


def _npy(folder: Path, frames: NDArray, scan: tuple[int, int]) -> list[Path]:
    return [write_npy(folder / "scan.npy", _gridded(frames, scan))]


def _blo(folder: Path, frames: NDArray, scan: tuple[int, int]) -> list[Path]:
    return [write_blo(folder / "scan.blo", _gridded(frames, scan))]


def _blo_sparse(folder: Path, frames: NDArray, scan: tuple[int, int]) -> list[Path]:
    path = write_blo(folder / "scan.blo", _gridded(frames, scan), frames_written=0)
    os.truncate(path, path.stat().st_size + len(frames) * (frames[0].nbytes + 6))
    return [path]


def _gridded(frames: NDArray, scan: tuple[int, int]) -> NDArray:
    """Frames as a scan; unlike `reshape` this copies no overlapping windows."""
    strides = (frames.strides[0] * scan[1], *frames.strides)
    return np.lib.stride_tricks.as_strided(frames, scan + frames.shape[1:], strides, writeable=False)


def _mib(**kind: Any) -> Callable[[Path, NDArray, tuple[int, int]], list[Path]]:
    return lambda folder, frames, scan: [write_mib(folder / "scan.mib", frames, **kind)]


def _tvips(folder: Path, frames: NDArray, scan: tuple[int, int]) -> list[Path]:
    return write_tvips(
        folder / "scan", frames, positions=raster(scan), rotator=np.arange(1, len(frames) + 1), times=1.6e9
    )


def _seq(folder: Path, frames: NDArray, scan: tuple[int, int]) -> list[Path]:
    generator = np.random.default_rng(2)
    dark, gain = generator.uniform(0, 50, frames.shape[1:]), generator.uniform(0.8, 1.2, frames.shape[1:])
    path = write_seq(folder / "scan.seq", frames)
    write_sidecar_mrc(folder / "scan.seq.dark.mrc", dark, nz=1)  # LiberTEM believes nz
    write_sidecar_mrc(folder / "scan.seq.gain.mrc", gain, nz=1)
    return [path]


def _k2is(folder: Path, frames: NDArray, scan: tuple[int, int]) -> list[Path]:
    few = np.ascontiguousarray(frames[:8])
    *sectors, tags = write_k2is(folder, "scan_", few, count=len(frames))
    return [tags, *sectors]


# How each format is opened -------------------------------------------------------------------------------------------


def _shapes(files: Files) -> dict[str, Any]:
    return {"nav_shape": files.scan, "sig_shape": files.frame}


def _scan(files: Files) -> dict[str, Any]:
    return {"nav_shape": files.scan}


def _mapped(dtype: str) -> Callable[[Files], Call]:
    """Open bare frames with the function that all of RosettaSciIO's memory-mapping readers use."""
    return lambda files: Call(
        "rsciio.utils.file",
        "memmap_distributed",
        (files.path, np.dtype(dtype)),
        {"shape": files.scan + files.frame},
    )


def _reader(module: str, **keywords: Any) -> Callable[[Files], Call]:
    return lambda files: Call(f"rsciio.{module}", "file_reader", (files.path,), {"lazy": True, **keywords})


def _merlin_reader(files: Files) -> Call:
    return _reader("quantumdetector", navigation_shape=files.scan[::-1])(files)


_TABLE = (
    Case(
        name="raw",
        format="raw",
        kind="native",
        dtype="<u2",
        below=4096,
        write=_raw,
        ours=lambda files: {"dtype": "<u2", **_shapes(files)},
        libertem=lambda files: {"dtype": "<u2", **_shapes(files)},
        rosettasciio=_mapped("<u2"),
        sparse=_raw_sparse,
    ),
    Case(
        name="raw_be",
        format="raw",
        kind="big-endian",
        dtype=">u2",
        below=4096,
        write=_raw,
        ours=lambda files: {"dtype": ">u2", **_shapes(files)},
        libertem=lambda files: {"dtype": ">u2", **_shapes(files)},
        rosettasciio=_mapped(">u2"),
    ),
    Case(
        name="npy_f4",
        format="npy",
        kind="float32",
        dtype="<f4",
        below=4096,
        write=_npy,
        libertem=lambda files: {},
        rosettasciio=_reader("numpy", navigation_axes=[0, 1]),
    ),
    Case(
        name="blo",
        format="blo",
        kind="blo",
        dtype="u1",
        below=256,
        write=_blo,
        libertem=lambda files: {},
        rosettasciio=_reader("blockfile"),
        frame=(144, 144),
        sparse=_blo_sparse,
    ),
    Case(
        name="tvips",
        format="tvips",
        kind="headers",
        dtype="<u2",
        below=4096,
        write=_tvips,
        ours=_scan,
        libertem=_scan,
        rosettasciio=lambda files: _reader("tvips", scan_shape=files.scan)(files),
        frame=(512, 512),
    ),
    Case(
        name="mib_u2",
        format="mib",
        kind="big-endian",
        dtype="u2",
        below=4096,
        write=_mib(),
        ours=_scan,
        libertem=_scan,
        rosettasciio=_merlin_reader,
    ),
    Case(
        name="mib_r1",
        format="mib",
        kind="R1",
        dtype="u1",
        below=2,
        write=_mib(kind="R64", depth=1),
        ours=_scan,
        libertem=_scan,
        bits=1,
        share=0.25,
    ),
    Case(
        name="mib_r6",
        format="mib",
        kind="R6",
        dtype="u1",
        below=64,
        write=_mib(kind="R64", depth=6),
        ours=_scan,
        libertem=_scan,
    ),
    Case(
        name="mib_r12",
        format="mib",
        kind="R12",
        dtype="u2",
        below=4096,
        write=_mib(kind="R64", depth=12),
        ours=_scan,
        libertem=_scan,
    ),
    Case(
        name="seq",
        format="seq",
        kind="headers",
        dtype="<u2",
        below=4096,
        write=_seq,
        ours=lambda files: {"corrections": False, **_scan(files)},
        libertem=_scan,
        corrected={"corrections": True},
    ),
    Case(
        name="k2is",
        format="k2is",
        kind="k2is",
        dtype="u2",
        below=4096,
        write=_k2is,
        ours=_scan,
        libertem=_scan,
        frame=(1860, 2048),
        bits=12,
    ),
)

CASES = {case.name: case for case in _TABLE}
