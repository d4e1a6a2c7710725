"""Spectra as streams of events: each a channel that counted one, or a mark that the next pixel begins.

Pixels follow each other row by row, and frames of the same scan one behind the other. A stream does not say where its
rows begin, so it is gone through once per process.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import StorageError
from .chunking import grown_chunks
from .pixels import Box, Pixels, count_of

WALK = 4 << 20
"""Events that are looked at together, in search of the rows."""


@dataclass(frozen=True)
class EventScan:
    """What is known of a stream.

    Parameters
    ----------
    rows, columns
        Of the scan.
    channels
        Of a spectrum, as they are counted.
    first, last
        Frames that are wanted: the first one, and the one behind the last.
    summed
        Whether frames are added up, or make an axis.
    rebinned
        How many channels become one.
    dtype
        Type of the counts.
    mark
        Event that ends a pixel.
    """

    rows: int
    columns: int
    channels: int
    first: int
    last: int
    summed: bool = True
    rebinned: int = 1
    dtype: np.dtype = field(default_factory=lambda: np.dtype("u2"))
    mark: int = 65535

    @property
    def shape(self) -> tuple[int, ...]:
        """Frames unless they are summed, rows, columns, channels."""
        frames = () if self.summed else (self.last - self.first,)
        return (*frames, self.rows, self.columns, self.channels // self.rebinned)


@dataclass(frozen=True)
class EventCounts(Pixels):
    """Counts of events as an array, of several detectors together.

    Parameters
    ----------
    detectors
        Events of each, along the first axis.
    scan
        What they mean.
    """

    detectors: tuple[Pixels, ...]
    scan: EventScan
    shape: tuple[int, ...] = field(init=False)
    dtype: np.dtype = field(init=False)
    frame_ndim: int = field(init=False, default=1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", self.scan.shape)
        object.__setattr__(self, "dtype", self.scan.dtype)

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Counts of a box.

        Raises
        ------
        StorageError
            If there are more counts than the type can hold, or channels that do not exist.
        """
        if out is None:
            out = np.empty(tuple(map(count_of, box)), self.dtype)
        if not out.size:
            return out
        scan, (rows, columns, channels) = self.scan, box[-3:]
        first, last = rows.start, range(rows.start, rows.stop, rows.step)[-1] + 1
        every = range(scan.first, scan.last)
        frames = [list(every)] if scan.summed else [[k] for k in every[box[0]]]
        target = out[None] if scan.summed else out
        for some, counts in zip(frames, target, strict=True):
            total = np.zeros((last - first) * scan.columns * self.shape[-1], "u4")
            for stream in self.detectors:
                for events in self._rows(stream, some, first, last):
                    self._count(events, total)
            if scan.dtype.kind in "iu" and total.max(initial=0) > np.iinfo(scan.dtype).max:
                raise StorageError(
                    f"{', '.join(self.files()[:1])}: a channel has {total.max()} counts, more than {scan.dtype} can "
                    'hold: pass SI_dtype="uint32"'
                )
            spectra = total.reshape(last - first, scan.columns, self.shape[-1])
            counts[...] = spectra[:: rows.step, columns, channels]
        return out

    def _rows(self, stream: Pixels, frames: list[int], first: int, last: int) -> Iterator[np.ndarray]:
        """Yield the events of some rows, frame by frame."""
        starts = _STARTS.get(stream, self.scan)
        rows = self.scan.rows
        places = [(int(starts[k * rows + first]), int(starts[k * rows + last])) for k in frames]
        reads = [((slice(a, b, 1), slice(0, 1, 1)), np.empty((b - a, 1), stream.dtype)) for a, b in places if b > a]
        stream.read_many(reads)
        for _, events in reads:
            yield events[:, 0]

    def _count(self, events: np.ndarray, total: np.ndarray) -> None:
        """Add the events of some rows to their counts."""
        marks = events == self.scan.mark
        pixel = np.cumsum(marks)[~marks]
        channel = events[~marks]
        if channel.size and channel.max() >= self.scan.channels:
            raise StorageError(
                f"{', '.join(self.files()[:1])}: an event of channel {channel.max()}, and there are "
                f"{self.scan.channels}"
            )
        np.add.at(total, pixel * self.shape[-1] + channel // self.scan.rebinned, 1)

    def chunks(self) -> tuple[int, ...]:
        """Whole rows: their events follow each other."""
        row = (*(1,) * (self.ndim - 2), *self.shape[-2:])
        return grown_chunks(self.shape, self.dtype.itemsize, row)

    def files(self) -> tuple[str, ...]:
        """Names of the files."""
        return tuple(dict.fromkeys(name for stream in self.detectors for name in stream.files()))

    def layout(self) -> dict[str, Any]:
        """Say how counts are stored, for people."""
        return {
            "kind": "stream of events",
            "detectors": len(self.detectors),
            "events": sum(stream.shape[0] for stream in self.detectors),
            "frames": self.scan.last - self.scan.first,
        }

    def token(self) -> object:
        """Streams of events, and what they mean."""
        return ("events", self.scan, *(stream.token() for stream in self.detectors))


class _Starts:
    """Where the rows of recently read streams begin."""

    def __init__(self, most: int = 32):
        self.most = most
        self._starts: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, stream: Pixels, scan: EventScan) -> np.ndarray:
        """First event of each row of each frame, up to the last one that is wanted, and the event behind it."""
        key = stream.name((scan.rows, scan.columns, scan.last, scan.mark))
        with self._lock:
            if key not in self._starts:
                self._starts[key] = _row_starts(stream, scan)
                if len(self._starts) > self.most:
                    self._starts.popitem(last=False)
            self._starts.move_to_end(key)
            return self._starts[key]


_STARTS = _Starts()


def _row_starts(stream: Pixels, scan: EventScan) -> np.ndarray:
    size, rows = stream.shape[0], scan.last * scan.rows
    found = [np.zeros(1, "i8")]
    pixels = count = 0
    for at in range(0, size, WALK):
        events = stream.read((slice(at, min(at + WALK, size), 1), slice(0, 1, 1)))[:, 0]
        marks = np.flatnonzero(events == scan.mark)
        behind = marks[(pixels + 1 + np.arange(marks.size)) % scan.columns == 0] + at + 1
        found.append(behind)
        pixels, count = pixels + marks.size, count + behind.size
        if count >= rows:
            break
    starts = np.concatenate(found)[: rows + 1]
    return np.concatenate([starts, np.full(rows + 1 - starts.size, size, "i8")])  # rows that were not scanned any more
