"""Raw captures of the Gatan K2 IS: eight sector files of packed blocks, and a file of Gatan tags.

Layout and quirks: docs/formats/k2is.md.
"""

from __future__ import annotations

import functools
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from .. import arguments
from ..axes import default_axes
from ..errors import ArgumentError, EmioWarning, HeaderError, MissingFileError, TruncatedError
from ..frames.files import File
from ..frames.frames import Frames
from ..frames.layout import FrameStack, Piece
from ..frames.mosaic import Mosaic, Strip
from ..frames.navigation import Navigation, check_sync_offset
from ..frames.packed12 import Packed12
from ..frames.storage import Storage
from ..image import Image, Variable
from ..source import ImageSource
from ._gatan import read_tags, tag

SECTORS = 8
SECTOR_SHAPE = (1860, 256)
FRAME_SHAPE = (1860, 2048)
SENSOR_SHAPE = (1792, 1920)  # columns behind are constant, rows below are not lit
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
MEET_WITHIN = 4096  # blocks in which the sectors must meet; in real captures, tens
MOST_INCOMPLETE = 64  # frames at the beginning; in real captures, one
MOST_LOSSES = 10_000  # places where blocks are missing; more is no capture any more
LARGEST_TAG_FILE = 64 << 20
MOST_POINTS = 1 << 31

SECTOR_NAME = re.compile(r"(?P<stem>.*)[1-8]\.bin", re.IGNORECASE | re.DOTALL)


class K2ISSource(ImageSource):
    """Capture of a K2 IS: a scan `yxvu`, or a film `tyx`.

    Parameters
    ----------
    uri
        Path or URL of any of the nine files.
    sync_offset
        Number of complete frames in front of the scan or film, counted from the first one in the files; `None`: as the
        shutter flag says. A scan begins one frame earlier than its number says, because the flag comes late; so 0
        gives a scan whose first point is blank.
    **common
        See `ImageSource`.

    Raises
    ------
    MissingFileError
        If one of the nine files is missing.
    HeaderError, TruncatedError
        If blocks or tags are broken, or the sectors cannot be synchronised.
    ArgumentError
        If `sig_shape` is not (1860, 2048), or `sync_offset` is out of range.

    Notes
    -----
    There is no public description of the format: the facts come from LiberTEM and py4DSTEM.
    """

    name = "emio_k2is"
    format_name = "k2is"

    def __init__(self, uri: Any, *, sync_offset: Any = None, **common: Any):
        super().__init__(uri, **common)
        self.sync_offset = None if sync_offset is None else arguments.number("sync_offset", sync_offset)  # type: ignore[assignment]
        if self.sig_shape not in (None, FRAME_SHAPE):
            raise ArgumentError(
                f"{self.uri}: sig_shape={self.sig_shape} is impossible: frames are {FRAME_SHAPE}. To leave out what "
                "is not sensor, cut with .isel(...)"
            )

    def parse(self, file: File) -> Image:
        """Describe a capture from the tags and a few block headers."""
        files, tag_file = capture_files(file)
        tags = _read_tag_file(tag_file)
        storage = self.storage()
        # single headers would be dear past the page cache
        capture = synchronise(
            [Sector(f, Storage("buffered") if storage.backend == "direct" else storage) for f in files]
        )
        scan = self._scan(tag_file, tags, capture.count)
        native = capture.native
        navigation = self._navigation(file, capture.count, scan, native)
        film = scan is None and self.nav_shape is None
        axes = "tyx" if film else default_axes(len(navigation.shape))
        stamps = tuple(f.stamp for f in files)
        mosaic = Mosaic(
            capture.strips,
            TILE_SHAPE,
            FRAME_SHAPE,
            BLOCK_BYTES,
            capture.count,
            Packed12(),
            navigation,
            storage,
            stamps,
        )
        return Image(
            mosaic,
            axes,
            header={"image_count": capture.count, "sync_offset": native, **capture.summary(), "tags": tags},
            acquisition={"detector": "Gatan K2 IS", "frames": capture.count, "frames_before_shutter": native},
            facts=_facts(capture, navigation, storage, stamps, axes),
            attrs={"sensor_shape": list(SENSOR_SHAPE)},
        )

    def _scan(self, file: File, tags: Any, count: int) -> tuple[int, int] | None:
        """Scan shape that the tags say, fly-back columns included; `None` if they say none: a film."""
        sizes = [tag(tags, "SI Dimensions", name) for name in ("Size Y", "Size X")]
        if None in sizes:
            return None
        try:
            rows, columns = (arguments.number("size", n) for n in sizes)
        except ArgumentError:
            rows, columns = 0, 0
        if rows > 0 and columns > 0 and rows * columns <= min(MOST_POINTS, 1000 * count):
            return rows, columns
        if self.nav_shape is None:
            raise HeaderError(
                f"{file}: SI Dimensions say a scan of Size Y x Size X = {sizes[0]} x {sizes[1]}, which is impossible "
                f"for the {count} frames that are there: pass nav_shape="
            )
        return 0, 0

    def _navigation(self, file: File, count: int, scan: tuple[int, int] | None, native: int) -> Navigation:
        offset = native if self.sync_offset is None else self.sync_offset
        check_sync_offset(file, offset, count)
        late = 0 if scan is None else 1  # LiberTEM: the flag of a scan is set one frame too late
        grid = self.nav_shape or scan or (count - offset,)
        missing = math.prod(grid) - (count - max(0, native - late))
        if missing > 0 and (self.sync_offset is None or scan or self.nav_shape):
            warnings.warn(
                f"{file}: {missing} of {math.prod(grid)} frames are missing at the end and stay blank", EmioWarning, 2
            )
        if scan and not native and self.sync_offset is None:
            warnings.warn(
                f"{file}: the shutter is open in the first complete frame, but a scan begins one frame earlier: its "
                "first point stays blank",
                EmioWarning,
                2,
            )
        return Navigation.of(grid, offset - late)


def is_k2is(file: File) -> bool:
    """Whether a file is a sector or the tags of a capture."""
    if file.extension == ".gtg":
        return file.read(0, 4) in (b"\0\0\0\3", b"\0\0\0\4") or _beside(file, f"{file.stem}1.bin") is not None
    if not SECTOR_NAME.fullmatch(file.name):
        return False
    head = file.read(0, 2 * BLOCK_BYTES + HEADER.itemsize)
    first = np.frombuffer(head[: HEADER.itemsize].ljust(HEADER.itemsize, b"\0"), HEADER)[0]
    if first["sync"] == SYNC and first["block_size"] in (BLOCK_BYTES, SUMMIT_BLOCK_BYTES):
        return True
    return _first_block(head) is not None and _beside(file, f"{file.stem[:-1]}.gtg") is not None


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
    found = [file if name.lower() == file.name.lower() else _beside(file, name) for name in names]
    missing = [name for name, there in zip(names, found, strict=True) if there is None]
    if missing:
        raise MissingFileError(
            f"{file}: {', '.join(missing)} missing in the same folder: a capture is eight sectors and a tag file"
        )
    files = [f for f in found if f is not None]
    return files[:SECTORS], files[SECTORS]


def _beside(file: File, name: str) -> File | None:
    """Return a file of the same folder by its name, with the extension in any case."""
    stem, extension = name.rsplit(".", 1)
    spelt = [n for n in file.neighbours if n[: len(stem) + 1] == f"{stem}." and n[len(stem) + 1 :].lower() == extension]
    if spelt:
        return file.sibling(name if name in spelt else spelt[0])
    if file.neighbours:
        return None
    sibling = file.sibling(name)  # servers that cannot list folders
    return sibling if sibling.exists() else None


def _read_tag_file(file: File) -> Any:
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
        found = _first_block(self.file.read(0, SYNC_WITHIN))
        if found is None:
            if first["sync"] == SYNC:
                _check(self, first, 0)  # says what is wrong with it
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
            _check(self, header, at)
            self._known[index] = header
        return [self._known[i] for i in indices]

    def count(self, index: int) -> int:
        """Running number of a block of the file."""
        return int(self.header(index)["block_count"])

    def at_least(self, count: int, low: int, high: int) -> int | None:
        """First block from `low` on, before `high`, whose running number is not below `count`."""
        guess = low + _ahead(count, self.count(low)) if low < high else high
        if low < guess < high and self.count(guess) == count and self.count(guess - 1) != count:
            return guess  # nothing is lost in between, as is nearly always so
        for index in range(low, high):
            if _ahead(self.count(index), count) >= 0:
                return index
        return None


def _first_block(data: bytes) -> int | None:
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


def _check(sector: Sector, header: np.void, at: int) -> None:
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
    corner = int(header["pixel_y_start"]), int(header["pixel_x_start"])
    end = int(header["pixel_y_end"]), int(header["pixel_x_end"])
    for start, stop, size, whole in zip(corner, end, TILE_SHAPE, SECTOR_SHAPE, strict=True):
        if start % size or stop != start + size - 1 or stop >= whole:
            raise HeaderError(
                f"{sector}: the block at byte {at} holds rows and columns from {corner} to {end}, expected a tile of "
                f"{TILE_SHAPE} in a sector of {SECTOR_SHAPE}"
            )


def _corner(header: np.void) -> tuple[int, int]:
    return int(header["pixel_y_start"]), int(header["pixel_x_start"])


def _ahead(a: int, b: int) -> int:
    """By how much one running number is ahead of another; they are of 32 bits and begin again at 0."""
    return (a - b + (1 << 31)) % (1 << 32) - (1 << 31)


# Synchronising the sectors -------------------------------------------------------------------------------------------


@dataclass
class Capture:
    """Eight sectors whose blocks are numbered alike: block ``TILES * f + j`` is tile `j` of frame `f` in all of them.

    Parameters
    ----------
    sectors
        The files.
    first
        Block of each file where frame 0 begins.
    count
        Number of frames.
    corners
        Row and column in the sector of each tile, per sector.
    gaps
        Blocks that are missing, per sector: (number of the first one, how many).
    """

    sectors: list[Sector]
    first: list[int]
    count: int
    corners: list[tuple[tuple[int, int], ...]]
    gaps: list[tuple[tuple[int, int], ...]] = field(default_factory=lambda: [()] * SECTORS)

    @functools.cached_property
    def strips(self) -> tuple[Strip, ...]:
        """Layout of the sectors, each at its place in the frame."""
        return tuple(
            Strip(
                sector.file.uri,
                sector.base + first * BLOCK_BYTES + HEADER.itemsize,
                tuple((row, column + number * SECTOR_SHAPE[1]) for row, column in corners),
                gaps,
            )
            for number, (sector, first, corners, gaps) in enumerate(
                zip(self.sectors, self.first, self.corners, self.gaps, strict=True)
            )
        )

    def header(self, sector: int, block: int) -> np.void | None:
        """Header of a block; `None` if it is lost."""
        stored = int(self.strips[sector].stored(np.array([block]))[0])
        return None if stored < 0 else self.sectors[sector].header(self.first[sector] + stored)

    def headers_of(self, frame: int, tiles: Sequence[int]) -> list[np.void]:
        """Headers of some tiles of a frame in all sectors, as far as they are there."""
        found = (self.header(k, frame * TILES + j) for k in range(SECTORS) for j in tiles)
        return [header for header in found if header is not None]

    @functools.cached_property
    def native(self) -> int:
        """Number of frames in front of the first one with the shutter flag, which stays set."""
        low, high = 0, self.count
        while low < high:
            middle = (low + high) // 2
            if self._open(middle):
                high = middle
            else:
                low = middle + 1
        if low == self.count:
            warnings.warn(
                f"{self.sectors[0]}: the shutter is open in no frame: taken as if it always were", EmioWarning, 3
            )
            return 0
        first = self.header(0, low * TILES)
        if first is not None and not first["flags"] & SHUTTER:
            warnings.warn(f"{self.sectors[0]}: the shutter opens within frame {low}", EmioWarning, 3)
        return low

    def _open(self, frame: int) -> bool:
        for block in range((frame + 1) * TILES - 1, frame * TILES - 1, -1):
            for sector in range(SECTORS):
                header = self.header(sector, block)
                if header is not None:
                    return bool(header["flags"] & SHUTTER)
        return False

    def summary(self) -> dict[str, Any]:
        """Where the frames lie, for the metadata."""
        last = [
            int(max(0, strip.stored(np.arange((self.count - 1) * TILES, self.count * TILES)).max())) + first
            for strip, first in zip(self.strips, self.first, strict=True)
        ]
        return {
            "first_block_offsets": [s.base + k * BLOCK_BYTES for s, k in zip(self.sectors, self.first, strict=True)],
            "last_block_offsets": [s.base + k * BLOCK_BYTES for s, k in zip(self.sectors, last, strict=True)],
            "lost_blocks": [sum(n for _, n in gaps) for gaps in self.gaps],
        }


def synchronise(sectors: list[Sector]) -> Capture:
    """Find the complete frames of eight sectors, from a few headers.

    Raises
    ------
    HeaderError
        If the sectors do not belong together, have no complete frame, or lost blocks in a way that cannot be mended.
    """
    start = _next_frame(sectors, _meet(sectors, [0] * SECTORS))
    corners = [_tile_order(sector, first) for sector, first in zip(sectors, start, strict=True)]
    end = _meet_at_end(sectors, start)
    gaps, blocks = _gaps(sectors, start, end, corners)
    count = blocks // TILES
    if not count:
        raise HeaderError(f"{sectors[0]}: the eight sectors have no complete frame in common")
    inside = [tuple((at, min(n, count * TILES - at)) for at, n in own if at < count * TILES) for own in gaps]
    capture = Capture(sectors, start, count, corners, inside)
    for frame in (0, count - 1):
        _check_frame(capture, frame)
    lost = {str(s.file.name): sum(n for _, n in own) for s, own in zip(sectors, inside, strict=True) if own}
    if lost:
        said = ", ".join(f"{n} of {name}" for name, n in lost.items())
        warnings.warn(
            f"{sectors[0]}: {sum(lost.values())} blocks were lost while recording ({said}): their pixels are 0, all "
            "others are in their places",
            EmioWarning,
            3,
        )
    return capture


def _meet(sectors: list[Sector], places: list[int]) -> list[int]:
    """First block of each sector, from some places on, with the same running number in all."""
    target = functools.reduce(
        lambda a, b: a if _ahead(a, b) >= 0 else b,
        (sector.count(place) for sector, place in zip(sectors, places, strict=True)),
    )
    found = list(places)
    while True:
        highest = target
        for k, sector in enumerate(sectors):
            stop = min(sector.blocks, places[k] + MEET_WITHIN)
            near = _ahead(target, sector.count(places[k])) < MEET_WITHIN
            block = sector.at_least(target, found[k], stop) if near else None
            if block is None:
                raise HeaderError(
                    f"{sector}: cannot be synchronised: from block {places[k]} on its running numbers begin with "
                    f"{sector.count(places[k])}, and none of the {stop - places[k]} blocks that follow has the number "
                    f"{target}, which another sector has. Are the eight files of one capture?"
                )
            found[k] = block
            if _ahead(sector.count(block), highest) > 0:  # the block is lost here: meet at a later one
                highest = sector.count(block)
        if highest == target:
            return found
        target = highest


def _next_frame(sectors: list[Sector], start: list[int]) -> list[int]:
    """First block of the first frame that is complete in each sector, from where they meet."""
    for _ in range(MOST_INCOMPLETE):
        if any(first + TILES > sector.blocks for sector, first in zip(sectors, start, strict=True)):
            raise HeaderError(f"{sectors[0]}: the eight sectors have no complete frame in common")
        if all(_is_frame(sector, first) for sector, first in zip(sectors, start, strict=True)):
            ids = {int(sector.header(first)["frame_id"]) for sector, first in zip(sectors, start, strict=True)}
            if len(ids) == 1:
                return start
            raise HeaderError(
                f"{sectors[0]}: the sectors disagree about the number of the first complete frame: {sorted(ids)}. Are "
                "the eight files of one capture?"
            )
        behind = [_behind_frame(sector, first) for sector, first in zip(sectors, start, strict=True)]
        if any(place >= sector.blocks for sector, place in zip(sectors, behind, strict=True)):
            raise HeaderError(f"{sectors[0]}: the eight sectors have no complete frame in common")
        start = _meet(sectors, behind)
    raise HeaderError(
        f"{sectors[0]}: blocks are missing in each of the first {MOST_INCOMPLETE} frames: the sectors cannot be "
        "synchronised"
    )


def _is_frame(sector: Sector, first: int) -> bool:
    return len({int(h["frame_id"]) for h in sector.headers(range(first, first + TILES))}) == 1


def _behind_frame(sector: Sector, first: int) -> int:
    """First block of another frame than that of block `first`."""
    headers = sector.headers(range(first, min(first + TILES + 1, sector.blocks)))
    known = headers[0]["frame_id"]
    return first + next((n for n, h in enumerate(headers) if h["frame_id"] != known), len(headers))


def _tile_order(sector: Sector, first: int) -> tuple[tuple[int, int], ...]:
    """Where the blocks of a frame go; the format does not promise any order, so it is read."""
    corners = tuple(_corner(header) for header in sector.headers(range(first, first + TILES)))
    if len(set(corners)) < TILES:
        raise HeaderError(
            f"{sector}: the {TILES} blocks of the first complete frame hold only {len(set(corners))} different tiles"
        )
    return corners


def _meet_at_end(sectors: list[Sector], start: list[int]) -> list[int]:
    """Last block of each sector with the same running number in all."""
    places = [sector.blocks - 1 for sector in sectors]
    for _ in range(MEET_WITHIN):
        counts = [sector.count(place) for sector, place in zip(sectors, places, strict=True)]
        lowest = functools.reduce(lambda a, b: a if _ahead(a, b) <= 0 else b, counts)
        if all(count == lowest for count in counts):
            return places
        places = [
            _last_until(sector, lowest, first, place)
            for sector, first, place in zip(sectors, start, places, strict=True)
        ]
        if any(place < first for place, first in zip(places, start, strict=True)):
            break
    raise HeaderError(
        f"{sectors[0]}: the sectors end with the block numbers {[s.count(s.blocks - 1) for s in sectors]} and have no "
        "common last block: they cannot be synchronised"
    )


def _last_until(sector: Sector, count: int, first: int, last: int) -> int:
    """Last block, from `first` to `last`, whose running number is not above `count`; -1 if it is nowhere near."""
    guess = max(first, last - _ahead(sector.count(last), count))
    for place in range(guess, min(last + 1, guess + MEET_WITHIN)):  # longer than one step only if blocks are missing
        ahead = _ahead(sector.count(place), count)
        if ahead >= 0:
            return place if ahead == 0 else place - 1
    return -1


# Lost blocks ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Jump:
    """A place in a sector behind which running numbers do not go on as before."""

    at: int  # block of the file, the last one before the jump
    before: int
    behind: int

    @property
    def numbers(self) -> tuple[int, int]:
        return self.before, self.behind


def _gaps(
    sectors: list[Sector], start: list[int], end: list[int], corners: list[tuple[tuple[int, int], ...]]
) -> tuple[list[list[tuple[int, int]]], int]:
    """Find the missing blocks of each sector, counted from frame 0, and the number of blocks with the missing ones.

    Running numbers tell where blocks are missing. But sectors are compared with each other: where all of them jump from
    the same number to the same one, time went on in between, or the counter began anew, and no frames are inserted.
    """
    step = _ahead(sectors[0].count(start[0] + 1), sectors[0].count(start[0])) or 1
    jumps = [_jumps(sector, a, b, step) for sector, a, b in zip(sectors, start, end, strict=True)]
    common = set.intersection(*({jump.numbers for jump in own} for own in jumps))
    longest = max(b - a + 1 for a, b in zip(start, end, strict=True))
    gaps: list[list[tuple[int, int]]] = []
    totals = []
    for sector, a, b, own, order in zip(sectors, start, end, jumps, corners, strict=True):
        gaps.append([])
        block, at = 0, a  # number counted from frame 0, and in the file
        for jump in own:
            block += jump.at - at + 1
            at = jump.at + 1
            if jump.numbers in common:
                missing = _rest_of_frame(sector, jump, block, order)
            else:
                missing = _ahead(jump.behind, jump.before) // step - 1
            if not 0 <= missing <= longest + TILES:
                raise HeaderError(
                    f"{sector}: the running number jumps from {jump.before} to {jump.behind} behind block {jump.at}, "
                    "but not in all sectors: they cannot be brought together again"
                )
            if missing:
                gaps[-1].append((block, missing))
            block += missing
        totals.append(block + b - at + 1)
    if len(set(totals)) > 1:
        raise HeaderError(
            f"{sectors[0]}: blocks were lost while recording, and the sectors cannot be brought together again: they "
            f"have {totals} blocks between common ones"
        )
    return gaps, totals[0]


def _jumps(sector: Sector, first: int, last: int, step: int) -> list[_Jump]:
    """Find where running numbers do not go on by one step, by halving: few headers are read in the longest file."""
    found: list[_Jump] = []
    stack = [(first, last)]
    while stack:
        low, high = stack.pop()
        before, behind = sector.count(low), sector.count(high)
        if _ahead(behind, before) == (high - low) * step:
            continue
        if high - low == 1:
            found.append(_Jump(low, before, behind))
            if len(found) > MOST_LOSSES:
                raise HeaderError(f"{sector}: blocks are missing at more than {MOST_LOSSES} places: it cannot be read")
            continue
        middle = (low + high) // 2
        stack += [(middle, high), (low, middle)]
    return found


def _rest_of_frame(sector: Sector, jump: _Jump, block: int, order: tuple[tuple[int, int], ...]) -> int:
    """How many blocks to insert where all sectors jump, so that the next one comes to its place in a frame."""
    before, behind = sector.headers([jump.at, jump.at + 1])
    here, there = block % TILES, order.index(_corner(behind))
    same_frame = before["frame_id"] == behind["frame_id"] and here
    return there - here if same_frame or not here else TILES - here + there


def _check_frame(capture: Capture, frame: int) -> None:
    """Raise a `HeaderError` if the blocks of a frame do not belong together, or are other tiles than they should be."""
    ids = set()
    for number, order in enumerate(capture.corners):
        for tile in (0, TILES - 1):
            header = capture.header(number, frame * TILES + tile)
            if header is None:
                continue
            ids.add(int(header["frame_id"]))
            if _corner(header) != order[tile]:
                raise HeaderError(
                    f"{capture.sectors[number]}: tile {tile} of frame {frame} is at {_corner(header)}, expected "
                    f"{order[tile]}: blocks were lost, and the sectors cannot be brought together again"
                )
    if len(ids) > 1:
        raise HeaderError(
            f"{capture.sectors[0]}: the sectors disagree about the number of frame {frame}: {sorted(ids)}: they cannot "
            "be brought together again"
        )


# Facts of each frame -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shutter:
    """Decodes the flags of a frame's first block."""

    dtype: ClassVar[np.dtype] = np.dtype(bool)

    def stored_bytes(self, shape: tuple[int, ...]) -> int:
        return 1

    def decode(self, stored: np.ndarray, out: np.ndarray) -> None:
        np.not_equal(stored[:, 0] & SHUTTER, 0, out=out)


def _facts(
    capture: Capture, navigation: Navigation, storage: Storage, stamps: tuple[Any, ...], axes: str
) -> dict[str, Variable]:
    """Per-frame facts from the headers of a sector that is without gaps, if there is one."""
    number = next((k for k, gaps in enumerate(capture.gaps) if not gaps), None)
    if number is None:
        return {}
    sector = capture.sectors[number]
    piece = Piece(sector.file.uri, sector.base + capture.first[number] * BLOCK_BYTES, capture.count)

    def fact(name: str, decoder: _Shutter | None = None) -> Variable:
        dtype, at = HEADER.fields[name][:2]  # type: ignore[index]
        behind = TILES * BLOCK_BYTES - at - dtype.itemsize
        stack = FrameStack((piece,), dtype, (), frame_header=at, frame_footer=behind, decoder=decoder)
        return Variable(Frames(stack, navigation, storage, stamps), axes[: len(navigation.shape)])

    return {"frame_id": fact("frame_id"), "shutter": fact("flags", _Shutter())}
