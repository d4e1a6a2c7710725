"""The nine files of a K2 IS capture, and the blocks of which a sector file consists.

Layout: docs/formats/k2is.md.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, HeaderError, MissingFileError, TruncatedError
from ..frames.files import File
from ..frames.storage import Storage
from ._gatan import read_tags

SECTORS = 8
SECTOR_SHAPE = (1860, 256)
TILE_SHAPE = (930, 16)
TILES = 32  # blocks of a frame in one sector

SYNC = 0xFFFF0055
BLOCK_BYTES = 0x5758
HEADER = np.dtype(
    [
        ("sync", ">u4"),
        ("unknown_4", "V4"),
        ("version", "u1"),
        ("flags", "u1"),
        ("unknown_10", "V6"),
        ("block_count", ">u4"),
        ("width", ">u2"),
        ("height", ">u2"),
        ("frame_id", ">u4"),
        ("pixel_x_start", ">u2"),
        ("pixel_y_start", ">u2"),
        ("pixel_x_end", ">u2"),
        ("pixel_y_end", ">u2"),
        ("block_size", ">u4"),
    ]
)
SHUTTER = 0x01  # bit of the flags; the other bits are unknown
SUMMIT_BLOCK_BYTES = 0xC028

SYNC_WITHIN = 1 << 20  # bytes in which the first block must begin
LARGEST_TAG_FILE = 64 << 20

SECTOR_NAME = re.compile(r"(?P<stem>.*)[1-8]\.bin", re.IGNORECASE | re.DOTALL)


# The nine files ------------------------------------------------------------------------------------------------------


def capture_files(file: File) -> tuple[list[File], File]:
    """Return the sectors of a capture, left to right, and its tag file, from any of them.

    Raises
    ------
    ArgumentError
        If the name is none of a capture.
    MissingFileError
        If files are missing; says which.
    """
    file.size  # noqa: B018  a missing file is told apart from missing siblings
    sector = SECTOR_NAME.fullmatch(file.name)
    if sector is None and file.extension != ".gtg":
        raise ArgumentError(
            f"{file}: a capture consists of NAME1.bin ... NAME8.bin and NAME.gtg; this name is none of them"
        )
    stem = sector["stem"] if sector else file.stem
    names = [f"{stem}{k + 1}.bin" for k in range(SECTORS)] + [f"{stem}.gtg"]
    found = [file if name.lower() == file.name.lower() else beside(file, name) for name in names]
    missing = [name for name, there in zip(names, found, strict=True) if there is None]
    if missing:
        raise MissingFileError(
            f"{file}: {', '.join(missing)} missing in the same folder: a capture is eight sectors and a tag file"
        )
    files = [f for f in found if f is not None]
    return files[:SECTORS], files[SECTORS]


def beside(file: File, name: str) -> File | None:
    """Return a file of the same folder by its name, with the extension in any case."""
    stem, extension = name.rsplit(".", 1)
    spelt = [n for n in file.neighbours if n[: len(stem) + 1] == f"{stem}." and n[len(stem) + 1 :].lower() == extension]
    if spelt:
        return file.sibling(name if name in spelt else spelt[0])
    if file.neighbours:
        return None
    sibling = file.sibling(name)  # servers that cannot list folders
    return sibling if sibling.exists() else None


def read_tag_file(file: File) -> Any:
    """Tag tree of a capture."""
    if not 0 < file.size <= LARGEST_TAG_FILE:
        raise TruncatedError(f"{file}: the tag file has {file.size} bytes, expected some thousands: copy it again")
    return read_tags(file)


# Blocks --------------------------------------------------------------------------------------------------------------


class Sector:
    """One sector file: blocks at a constant stride, of which only headers are read.

    Parameters
    ----------
    file
        The file.
    storage
        How headers are fetched.
    """

    def __init__(self, file: File, storage: Storage):
        self.file, self.storage = file, storage
        self._known: dict[int, np.void] = {}

    def __str__(self) -> str:
        return str(self.file)

    @functools.cached_property
    def base(self) -> int:
        """Byte of the first block; files may begin in the middle of one."""
        if self.file.size < BLOCK_BYTES:
            raise TruncatedError(
                f"{self}: has {self.file.size} bytes, which is not even one block of {BLOCK_BYTES} bytes"
            )
        head = self.file.read(0, HEADER.itemsize)
        first = np.frombuffer(head, HEADER)[0]
        if first["sync"] == SYNC and first["block_size"] == BLOCK_BYTES:
            return 0
        found = first_block(self.file.read(0, SYNC_WITHIN))
        if found is None:
            if first["sync"] == SYNC:
                check_header(self, first, 0)  # says what is wrong with it
            raise HeaderError(
                f"{self}: no blocks: it begins with {head[:4].hex(' ')}, expected ff ff 00 55, and no such mark "
                f"repeats every {BLOCK_BYTES} bytes in the first {SYNC_WITHIN}"
            )
        return found

    @functools.cached_property
    def blocks(self) -> int:
        """Number of blocks; one that was not finished at the end does not count."""
        count = (self.file.size - self.base) // BLOCK_BYTES
        if not count:
            raise TruncatedError(f"{self}: ends within its first block: {self.file.size} bytes")
        return count

    def header(self, index: int) -> np.void:
        """Header of a block of the file."""
        return self.headers([index])[0]

    def headers(self, indices: Sequence[int]) -> list[np.void]:
        """Headers of some blocks of the file, fetched at the same time, and checked."""
        new = [i for i in dict.fromkeys(indices) if i not in self._known]
        places = [self.base + i * BLOCK_BYTES for i in new]
        ranges = [(self.file.uri, at, at + HEADER.itemsize) for at in places]
        for index, at, (buffer, begin) in zip(new, places, self.storage.fetch(ranges), strict=True):
            header = np.frombuffer(buffer, HEADER, 1, at - begin)[0].copy()
            check_header(self, header, at)
            self._known[index] = header
        return [self._known[i] for i in indices]

    def count(self, index: int) -> int:
        """Running number of a block of the file."""
        return int(self.header(index)["block_count"])

    def at_least(self, count: int, low: int, high: int) -> int | None:
        """First block from `low` on, before `high`, whose running number is not below `count`."""
        guess = low + lead(count, self.count(low)) if low < high else high
        if low < guess < high and self.count(guess) == count and self.count(guess - 1) != count:
            return guess  # nothing is lost in between, as is nearly always so
        for index in range(low, high):
            if lead(self.count(index), count) >= 0:
                return index
        return None


def first_block(data: bytes) -> int | None:
    """Where in some bytes the first block begins. The mark may also stand among pixels, so another must follow."""
    mark = SYNC.to_bytes(4, "big")
    at = data.find(mark)
    while at >= 0:
        behind = data[at + BLOCK_BYTES : at + BLOCK_BYTES + 4]
        header = data[at : at + HEADER.itemsize]
        right_size = header[-4:] == BLOCK_BYTES.to_bytes(4, "big")
        if right_size and mark.startswith(behind) and len(header) == HEADER.itemsize:
            return at
        at = data.find(mark, at + 1)
    return None


def check_header(sector: Sector, header: np.void, at: int) -> None:
    """Raise a `HeaderError` if a block's header is not as it has to be."""
    found = {name: int(header[name]) for name in ("sync", "width", "height", "block_size")}
    if found["block_size"] == SUMMIT_BLOCK_BYTES:
        raise HeaderError(
            f"{sector}: blocks of {SUMMIT_BLOCK_BYTES} bytes: this was recorded in Summit (counting) mode, and only "
            "the in-situ (IS) mode can be read"
        )
    expected = {"sync": SYNC, "width": SECTOR_SHAPE[1], "height": SECTOR_SHAPE[0], "block_size": BLOCK_BYTES}
    for name, value in expected.items():
        if found[name] != value:
            raise HeaderError(
                f"{sector}: the block at byte {at} has {name} {found[name]:#x}, expected {value:#x}: the file is "
                "damaged, or of another camera"
            )
    corner = corner_of(header)
    end = int(header["pixel_y_end"]), int(header["pixel_x_end"])
    for start, stop, size, whole in zip(corner, end, TILE_SHAPE, SECTOR_SHAPE, strict=True):
        if start % size or stop != start + size - 1 or stop >= whole:
            raise HeaderError(
                f"{sector}: the block at byte {at} holds rows and columns from {corner} to {end}, expected a tile of "
                f"{TILE_SHAPE} in a sector of {SECTOR_SHAPE}"
            )


def corner_of(header: np.void) -> tuple[int, int]:
    """Row and column in the sector where the tile of a block begins."""
    return int(header["pixel_y_start"]), int(header["pixel_x_start"])


def lead(a: int, b: int) -> int:
    """By how much one running number is ahead of another; they are of 32 bits and begin again at 0."""
    return (a - b + (1 << 31)) % (1 << 32) - (1 << 31)
