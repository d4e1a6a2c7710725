"""Direct Electron movies: the scan, the calibration and the images that stand beside an MRC file.

Names and keys: docs/formats/mrc.md.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ..axes import Scale
from ..errors import ArgumentError, EmioError, EmioWarning, HeaderError, TruncatedError
from ..frames.files import File, is_remote
from ..frames.frames import Frames
from ..frames.layout import FrameStack
from ..frames.navigation import Navigation
from ..frames.storage import Storage
from ._mrc_header import PLANES, plane, read_header

MOVIE, POSITIONS = "_movie.mrc", "_scan_coordinates.csv"
NUMBERED_MOVIE = re.compile(r"(\d{8}_\d+(?:_.+)?)_\d+")
VIRTUAL = re.compile(r"(?:virt *)?(\d+)_([^_]+)_(.+)\.mrc", re.IGNORECASE)
EXTERNAL = re.compile(r"ext(\d+)(?:_(.+))?\.mrc", re.IGNORECASE)
LARGEST_INFO = 16 << 20
LARGEST_POSITION = 65535
LARGEST_SIZE = 1 << 20  # scan points along an axis
SPARSEST = 4096  # positions for each that is visited
FREE_POSITIONS = 1 << 24


# Files of a set ------------------------------------------------------------------------------------------------------


def is_movie(file: File) -> bool:
    """Whether the file's name is that of a movie."""
    return file.name.lower().endswith(MOVIE)


def prefixes(file: File) -> Iterator[str]:
    """Yield what names of the other files of the set may begin with: several movies of one acquisition are numbered."""
    prefix = file.name[: -len(MOVIE)]
    yield prefix
    numbered = NUMBERED_MOVIE.fullmatch(prefix)
    if numbered:
        yield numbered[1]


def beside(file: File, suffix: str) -> File | None:
    """Return the file of the set with a suffix, if there is one."""
    if not is_movie(file):
        return None
    candidates = (file.sibling(prefix + suffix) for prefix in prefixes(file))
    return next((candidate for candidate in candidates if candidate.exists()), None)


def named(file: File, name: str) -> File:
    """Return a file by its name; a relative one is looked for beside the movie first."""
    if not is_remote(name) and not os.path.isabs(os.path.expanduser(name)):
        candidate = file.sibling(name)
        if file.remote or candidate.exists():
            return candidate
    return File(name, file.storage_options)


# Info file -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Info:
    """What the camera's program says of an acquisition: lines ``key = value``."""

    entries: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, file: File) -> Info:
        """Read an info file.

        Raises
        ------
        MissingFileError, HeaderError
            If it is not there, or none.
        """
        if file.size > LARGEST_INFO:
            raise HeaderError(f"{file}: an info file of {file.size} bytes is none: pass another metadata_file, or None")
        lines = file.read(0, file.size).decode("utf-8", "replace").splitlines()
        pairs = (line.partition("=") for line in lines)
        return cls({key.strip(): value.strip() for key, equals, value in pairs if equals})

    def number(self, key: str) -> float | None:
        """Return a number; -1 and 0 stand for what is not known."""
        try:
            value = float(self.entries[key])
        except (KeyError, ValueError):
            return None
        return value if math.isfinite(value) and value > 0 else None

    def says(self, key: str) -> bool:
        """Whether something is enabled."""
        return self.entries.get(key, "").lower() == "enable"

    @property
    def is_stem(self) -> bool:
        """Whether the microscope was in scanning mode, or at least scanned."""
        mode = self.entries.get("Instrument Project TEMorSTEM Mode", "-1")
        return mode == "1" if mode in ("0", "1") else self.says("Scan - Enable")

    @property
    def is_scan(self) -> bool:
        """Whether frames belong to points of a scan."""
        return self.is_stem and self.says("Scan - Enable")

    @property
    def is_raster(self) -> bool:
        """Whether points were scanned line by line."""
        return self.entries.get("Scan - Type", "Raster").lower() == "raster"

    @property
    def is_diffraction(self) -> bool:
        """Whether frames are diffraction patterns."""
        return self.is_stem or self.number("Instrument Project Camera Length (centimeters)") is not None

    @property
    def scan_size(self) -> tuple[float | None, float | None]:
        """Rows and columns of the scan, or of its region of interest."""
        what = "Scan - ROI Size" if self.says("Scan - ROI Enable") else "Scan - Size"
        return self.number(f"{what} Y"), self.number(f"{what} X")

    def scans(self, shape: tuple[int, ...]) -> bool:
        """Whether a navigation shape is that of the scan, or ends in it."""
        return self.is_scan and self.scan_size == shape[-2:]

    def raster(self, file: File) -> tuple[int, int]:
        """Rows and columns of a scan line by line.

        Raises
        ------
        HeaderError
            If they are not there.
        """
        rows, columns = (
            int(size) if size and size <= LARGEST_SIZE and size == int(size) else 0 for size in self.scan_size
        )
        if not rows or not columns:
            raise HeaderError(
                f"{file}: the info file says that this is a scan, but not of what size (Scan - Size X and Y, or Scan - "
                "ROI Size X and Y): pass nav_shape=, or metadata_file=None"
            )
        return rows, columns

    @property
    def repeats(self) -> int:
        """How often the scan was repeated."""
        return int(self.number("Scan - Repeats") or 1)

    def scales(self, axes: str) -> dict[str, Scale]:
        """Calibration of a scan (axes that end in yxvu) or of a movie (tyx)."""
        specimen = {axis: self.number(f"Specimen Pixel Size {axis.upper()} (nanometers)") for axis in "yx"}
        angles = {axis: self.number(f"Diffraction Pixel Size {axis.upper()}") for axis in "yx"}
        found: dict[str, Scale] = {}
        if "v" in axes:
            found |= {axis: Scale(step, "nm") for axis, step in specimen.items() if step}
            found |= {"vu"["yx".index(axis)]: Scale(step, "1/nm") for axis, step in angles.items() if step}
        else:
            steps, units = (angles, "1/nm") if self.is_diffraction else (specimen, "nm")
            found |= {axis: Scale(step, units) for axis, step in steps.items() if step}
        rate, summed = self.number("Frames Per Second"), self.number("Autosave Movie Sum Count") or 1
        if "t" in axes and rate:
            found["t"] = Scale(summed / rate, "s")
        return found

    def acquisition(self) -> dict[str, Any]:
        """Vendor-neutral facts."""
        energy = self.number("Instrument Accelerating Voltage (V)")
        length = self.number("Instrument Project Camera Length (centimeters)")
        dwell = self.number("Scan - Dwell Time (microseconds)") if self.is_scan else None
        facts = {
            "detector": self.entries.get("Camera Model"),
            "beam_energy": energy and energy / 1000,
            "camera_length": length and length * 10,
            "magnification": self.number("Instrument Project Magnification"),
            "exposure_time": self.number("Exposure Time (seconds)"),
            "dwell_time": dwell and dwell / 1e6,
            "adus_per_electron": self.number("ADUs Per Electron Bin1x"),
            "start_time": _start(self.number("Timestamp (seconds since Epoch)")),
        }
        return {name: fact for name, fact in facts.items() if fact}


def _start(seconds: float | None) -> str | None:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else None
    except (ValueError, OverflowError, OSError):
        return None


# Positions -----------------------------------------------------------------------------------------------------------


def read_positions(file: File, frames: int) -> np.ndarray:
    """Read the position of each frame.

    Parameters
    ----------
    file
        Lines ``column,row``.
    frames
        How many there are in the movie.

    Returns
    -------
    numpy.ndarray
        int64, shape (lines, 2): columns and rows.

    Raises
    ------
    MissingFileError, HeaderError
        If it is not there, or is no such table.
    """
    text = file.read(0, file.size)
    expected = "expected lines 'column,row' of whole numbers from 0 on"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            table = np.loadtxt(io.BytesIO(text), "i8", comments=None, delimiter=",", ndmin=2, encoding="latin-1")
    except (ValueError, OverflowError, Warning) as error:
        raise HeaderError(f"{file}: {expected}: {error}") from None
    if table.shape[1] != 2 or table.min() < 0 or table.max() > LARGEST_POSITION:
        raise HeaderError(
            f"{file}: {expected} to {LARGEST_POSITION}, found {table.shape[1]} columns of numbers from {table.min()} "
            f"to {table.max()}"
        )
    if len(table) > frames:
        raise HeaderError(
            f"{file}: has {len(table)} positions, the movie has {frames} frames: do they belong together? Pass "
            "scan_file=, or nav_shape= to go without"
        )
    return table


def table_of(file: File, positions: np.ndarray, first: int, frames: int) -> np.ndarray:
    """Return which frame each point of a scan shows.

    Parameters
    ----------
    file
        Of the positions, for messages.
    positions
        Columns and rows, one for each frame.
    first
        Frame of the first position.
    frames
        How many frames there are.

    Returns
    -------
    numpy.ndarray
        Number of the frame, -1: none; shape (rows, columns), behind an axis of visits if a point was visited again.

    Raises
    ------
    HeaderError
        If next to nothing of the scan was visited: then these are no positions of a scan.

    Examples
    --------
    >>> table_of(File("a.csv"), np.array([[1, 0], [0, 0], [1, 0]]), 0, 3).tolist()
    [[[1, 0]], [[-1, 2]]]
    """
    columns, rows = (positions.max(axis=0) + 1).tolist()
    place = positions[:, 1] * columns + positions[:, 0]
    order = np.argsort(place, kind="stable")
    _, begins, visits = np.unique(place[order], return_index=True, return_counts=True)
    visit = np.empty_like(place)
    visit[order] = np.arange(len(place)) - np.repeat(begins, visits)
    points = int(visits.max()) * rows * columns
    if points > max(FREE_POSITIONS, SPARSEST * len(positions)):
        raise HeaderError(
            f"{file}: {len(positions)} positions are spread over {rows} rows and {columns} columns, up to "
            f"{visits.max()} at the same place: that is no scan. Pass scan_file=, or nav_shape= to go without"
        )
    numbers = np.arange(len(place)) + first
    numbers[(numbers < 0) | (numbers >= frames)] = -1
    table = np.full((int(visits.max()), rows, columns), -1)
    table[visit, positions[:, 1], positions[:, 0]] = numbers
    return table if len(table) > 1 else table[0]


# Images of the same scan ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picture:
    """An image of the scan: a virtual one, made from the frames, or one of another detector."""

    title: str
    pixels: Frames
    is_virtual: bool


def pictures(
    file: File,
    virtual: Sequence[str] | None,
    external: Sequence[str] | None,
    scan: tuple[int, ...],
    first: int,
    storage: Storage,
) -> Iterator[Picture]:
    """Yield the images of a scan, virtual ones first; their pixels are not read.

    Parameters
    ----------
    file
        The movie.
    virtual, external
        Names of files; `None`: those beside the movie, as far as they have the shape of the scan.
    scan
        Rows and columns.
    first
        Frame of the first point: virtual images follow the frames.
    storage
        How bytes are fetched.

    Raises
    ------
    EmioError
        If an image that is named cannot be read, or has another shape.
    """
    for pattern, given in ((VIRTUAL, virtual), (EXTERNAL, external)):
        is_virtual = pattern is VIRTUAL
        for one in _listed(file, pattern) if given is None else [named(file, name) for name in given]:
            try:
                stack = _points(one, scan)
            except EmioError as error:
                if given is not None:
                    raise
                if not isinstance(error, ArgumentError):
                    warnings.warn(f"{error}: this image of the scan is left out", EmioWarning, stacklevel=5)
                continue
            points = Navigation.of(scan, first if is_virtual else 0)
            yield Picture(_title(file, one, pattern), Frames(stack, points, storage, one.stamp), is_virtual)


def _points(file: File, scan: tuple[int, ...]) -> FrameStack:
    """Where the pixels of an image lie, each as a frame of its own."""
    header = read_header(file)
    if header.frame != scan or header["nz"] != 1 or header.mode not in PLANES:
        raise ArgumentError(f"{file}: is no image of a scan of {scan}, but has {header['nz']} of {header.frame}")
    stack = plane(file, header)
    end = header.start + stack.frame_bytes
    if file.size < end:
        raise TruncatedError(f"{file}: an image of {scan} needs {end} bytes, the file has {file.size}")
    return FrameStack.in_one_file(file.uri, stack.dtype, (), math.prod(scan), offset=header.start)


def _listed(file: File, pattern: re.Pattern[str]) -> list[File]:
    """Images beside a movie, in the order of their numbers."""
    if not is_movie(file):
        return []
    for prefix in prefixes(file):
        rests = [name[len(prefix) + 1 :] for name in file.neighbours if name.startswith(f"{prefix}_")]
        found = [(int(match[1]), rest) for rest in rests if (match := pattern.fullmatch(rest))]
        if found:
            return [file.sibling(f"{prefix}_{rest}") for _, rest in sorted(found)]
    return []


def _title(movie: File, image: File, pattern: re.Pattern[str]) -> str:
    """Return what an image is called within its file's name."""
    for prefix in prefixes(movie) if is_movie(movie) else ():
        match = pattern.fullmatch(image.name.removeprefix(f"{prefix}_"))
        if match:
            return match[2] or f"ext{match[1]}"
    return image.stem


def distinct(titles: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Names that differ from each other and from those that are taken.

    Examples
    --------
    >>> distinct(["Sum", "Sum", "x"], ["x", "y"])
    ['Sum', 'Sum_1', 'x_1']
    """
    used, names = set(taken), []
    for title in titles:
        candidates = (title if number == 0 else f"{title}_{number}" for number in itertools.count())
        names.append(next(name for name in candidates if name not in used))
        used.add(names[-1])
    return names
