"""Raw captures of the Gatan K2 IS: eight sector files of packed blocks, and a file of Gatan tags.

Layout and quirks: docs/formats/k2is.md.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .. import arguments
from ..axes import default_axes
from ..errors import ArgumentError, EmioWarning, HeaderError
from ..frames.files import File
from ..frames.frames import Frames
from ..frames.layout import FrameStack, Piece
from ..frames.mosaic import Mosaic
from ..frames.navigation import Navigation, check_sync_offset
from ..frames.packed12 import Packed12
from ..frames.storage import Storage
from ..image import Image, Variable
from ..source import ImageSource
from ._gatan import tag
from ._k2is_blocks import (
    BLOCK_BYTES,
    HEADER,
    SECTOR_NAME,
    SHUTTER,
    SUMMIT_BLOCK_BYTES,
    SYNC,
    TILE_SHAPE,
    TILES,
    Sector,
    beside,
    capture_files,
    first_block,
    read_tag_file,
)
from ._k2is_sync import Capture, synchronise

FRAME_SHAPE = (1860, 2048)
SENSOR_SHAPE = (1792, 1920)  # columns behind are constant, rows below are not lit
MOST_POINTS = 1 << 31


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
        tags = read_tag_file(tag_file)
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
        return file.read(0, 4) in (b"\0\0\0\3", b"\0\0\0\4") or beside(file, f"{file.stem}1.bin") is not None
    if not SECTOR_NAME.fullmatch(file.name):
        return False
    head = file.read(0, 2 * BLOCK_BYTES + HEADER.itemsize)
    first = np.frombuffer(head[: HEADER.itemsize].ljust(HEADER.itemsize, b"\0"), HEADER)[0]
    if first["sync"] == SYNC and first["block_size"] in (BLOCK_BYTES, SUMMIT_BLOCK_BYTES):
        return True
    return first_block(head) is not None and beside(file, f"{file.stem[:-1]}.gtg") is not None


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
