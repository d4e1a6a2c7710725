"""The scan in a TVIPS recording: found by the positions in front of the frames, or by the rotator index; and unwound.

Rules: docs/formats/tvips.md.
"""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import dataclass

import numpy as np

from ..errors import ArgumentError, EmioWarning, HeaderError
from ..frames.files import File
from ._tvips_recording import Recording

START_WITHIN = 4096  # frames in which a scan must have begun, as in LiberTEM
LONGEST_LINE = 65536
MOST_DROPPED = 16  # so many times fewer frames than the rotator counts are not a scan


# Scans by their positions --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scan:
    """A scan in a recording: its first frame, and its shape if that is known."""

    start: int
    shape: tuple[int, int] | None


def find_scan(frames: Recording) -> Scan | None:
    """Find a scan by the positions in front of the frames, reading as few as possible.

    The recorder runs before the scan begins, while the beam waits at (0, 0); the scan starts with the last frame there.
    """
    if not frames.has("scan_x", "scan_y"):
        return None
    start = _start_of_scan(frames)
    if start is None:
        return None
    line = _first_line(frames, start)
    if line is None:
        return Scan(start, None)
    end, nx = line
    rows = min((frames.count - start) // nx, _rows_reached(frames, end))
    return Scan(start, (max(1, rows), nx))


def _positions(frames: Recording, start: int, stop: int) -> np.ndarray:
    """Whole parts of the scan positions (y, x) of some frames, shape (2, n); NaN stays."""
    return np.floor(np.stack([frames.field(name)[start:stop] for name in ("scan_y", "scan_x")]))


def _start_of_scan(frames: Recording) -> int | None:
    """Frame at (0, 0) in front of the first one at (0, 1)."""
    for begin, end in _blocks(0, min(frames.count, START_WITHIN)):
        y, x = _positions(frames, max(0, begin - 1), end)
        found = np.flatnonzero((y[:-1] == 0) & (x[:-1] == 0) & (y[1:] == 0) & (x[1:] == 1))
        if len(found):
            return max(0, begin - 1) + int(found[0])
    return None


def _first_line(frames: Recording, start: int) -> tuple[int, int] | None:
    """First frame behind the first line, where x falls, and the length of that line."""
    longest = 0.0
    for begin, end in _blocks(start + 1, min(frames.count, start + 1 + LONGEST_LINE)):
        _, x = _positions(frames, begin - 1, end)
        falls = np.flatnonzero(x[1:] < x[:-1])
        longest = float(np.fmax.reduce(x[: falls[0] + 1] if len(falls) else x, initial=longest))
        if len(falls):
            return (begin + int(falls[0]), int(longest) + 1) if longest < frames.count else None
    return None


def _rows_reached(frames: Recording, second_line: int) -> int:
    """Number of rows that the scan reached: by its end, the beam may be back at (0, 0)."""

    def y_of(frame: int) -> float:
        return float(_positions(frames, frame, frame + 1)[0, 0])

    low, high = second_line, frames.count - 1
    if y_of(high) > 0:
        return _whole_rows(y_of(high))
    if not y_of(low) > 0:
        return 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if y_of(middle) > 0 else (low, middle)
    return _whole_rows(y_of(low))


def _whole_rows(y: float) -> int:
    return int(y) + 1 if math.isfinite(y) else 2**63


def _blocks(start: int, stop: int) -> list[tuple[int, int]]:
    """Cut a range of frames into blocks that double in size: what is sought is mostly near the beginning."""
    borders, size = [start], 64
    while borders[-1] < stop:
        borders.append(min(stop, borders[-1] + size))
        size *= 2
    return list(itertools.pairwise(borders))


# Scans by the rotator index ------------------------------------------------------------------------------------------


def by_rotator(file: File, frames: Recording) -> np.ndarray:
    """Frame of each point of a square scan, by the index that counts its points in the frame headers.

    Raises
    ------
    HeaderError
        If there is no such index, it never rises, or the scan is not square.
    """
    if not frames.has("rotator"):
        raise HeaderError(
            f"{file}: frame headers of {frames.header_bytes} bytes hold no rotator index, so scan_shape='auto' finds "
            "nothing: pass nav_shape="
        )
    index = frames.field("rotator")[...].astype("i8")  # signed: what falls must not seem to rise
    rises = np.flatnonzero(np.diff(index) > 0)
    if not len(rises):
        raise HeaderError(f"{file}: the rotator index never rises, so scan_shape='auto' finds no scan: pass nav_shape=")
    start, end = int(rises[0]), int(rises[-1]) + 1
    start += int(index[start] == 0)
    points = int(index[end])
    side = math.isqrt(points)
    if side * side != points or points > MOST_DROPPED * frames.count:
        raise HeaderError(
            f"{file}: the rotator index ends at {points} after {frames.count} frames, and scan_shape='auto' needs the "
            "points of a square scan: pass nav_shape="
        )
    table = _fill_positions(index[start : end + 1], points)
    missing = int((table < 0).sum())
    if missing:
        warnings.warn(f"{file}: {missing} of {points} points of the scan have no frame and stay blank", EmioWarning, 3)
    return np.where(table < 0, -1, table + start).reshape(side, side)


def _fill_positions(index: np.ndarray, points: int) -> np.ndarray:
    """Number of the frame for each of the positions 1 to `points`; -1 where there is none.

    Frames of one index serve the positions up to the next index in turn, the last of them again and again if there are
    too few (frames were dropped). What is left over is ignored.
    """
    table = np.full(points, -1)
    borders = [0, *(np.flatnonzero(np.diff(index)) + 1).tolist(), len(index)]
    for first, behind in itertools.pairwise(borders):
        low = int(index[first])
        high = int(index[behind]) if behind < len(index) else low + 1
        positions = np.arange(max(low, 1), min(high, points + 1))
        table[positions - 1] = np.minimum(first + positions - low, behind - 1)
    return table


# Scans without fly-back ----------------------------------------------------------------------------------------------


def unwound(file: File, points: np.ndarray, axis: str, hysteresis: int) -> np.ndarray:
    """Put the frames of a winding scan in order: every other line backwards, and rolled.

    Raises
    ------
    ArgumentError
        If there are no lines, because this is no scan.
    """
    if points.ndim < 2:
        raise ArgumentError(
            f"{file}: winding_scan_axis needs a scan of two axes, but this is a series of {points.size} frames: "
            "pass nav_shape="
        )
    points = points.copy()
    lines = points if axis == "x" else points.swapaxes(-1, -2)
    lines[..., ::2, :] = np.roll(lines[..., ::2, ::-1], hysteresis, axis=-1)
    return points
