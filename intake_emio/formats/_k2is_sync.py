"""Bringing the eight sectors of a K2 IS capture together, and keeping them together where blocks are lost.

Rules: docs/formats/k2is.md.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import EmioWarning, HeaderError
from ..frames.mosaic import Strip
from ._k2is_blocks import BLOCK_BYTES, HEADER, SECTOR_SHAPE, SECTORS, SHUTTER, TILES, Sector, corner_of, lead

MEET_WITHIN = 4096  # blocks in which the sectors must meet; in real captures, tens
MOST_INCOMPLETE = 64  # frames at the beginning; in real captures, one
MOST_LOSSES = 10_000  # places where blocks are missing; more is no capture any more


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
    gaps: list[tuple[tuple[int, int], ...]]

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
    lost = {s.file.name: sum(n for _, n in own) for s, own in zip(sectors, inside, strict=True) if own}
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
        lambda a, b: a if lead(a, b) >= 0 else b,
        (sector.count(place) for sector, place in zip(sectors, places, strict=True)),
    )
    found = list(places)
    while True:
        highest = target
        for k, sector in enumerate(sectors):
            stop = min(sector.blocks, places[k] + MEET_WITHIN)
            near = lead(target, sector.count(places[k])) < MEET_WITHIN
            block = sector.at_least(target, found[k], stop) if near else None
            if block is None:
                raise HeaderError(
                    f"{sector}: cannot be synchronised: from block {places[k]} on its running numbers begin with "
                    f"{sector.count(places[k])}, and none of the {stop - places[k]} blocks that follow has the number "
                    f"{target}, which another sector has. Are the eight files of one capture?"
                )
            found[k] = block
            if lead(sector.count(block), highest) > 0:  # the block is lost here: meet at a later one
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
    corners = tuple(corner_of(header) for header in sector.headers(range(first, first + TILES)))
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
        lowest = functools.reduce(lambda a, b: a if lead(a, b) <= 0 else b, counts)
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
    guess = max(first, last - lead(sector.count(last), count))
    for place in range(guess, min(last + 1, guess + MEET_WITHIN)):  # longer than one step only if blocks are missing
        ahead = lead(sector.count(place), count)
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
    step = lead(sectors[0].count(start[0] + 1), sectors[0].count(start[0])) or 1
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
                missing = lead(jump.behind, jump.before) // step - 1
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
        if lead(behind, before) == (high - low) * step:
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
    here, there = block % TILES, order.index(corner_of(behind))
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
            if corner_of(header) != order[tile]:
                raise HeaderError(
                    f"{capture.sectors[number]}: tile {tile} of frame {frame} is at {corner_of(header)}, expected "
                    f"{order[tile]}: blocks were lost, and the sectors cannot be brought together again"
                )
    if len(ids) > 1:
        raise HeaderError(
            f"{capture.sectors[0]}: the sectors disagree about the number of frame {frame}: {sorted(ids)}: they cannot "
            "be brought together again"
        )
