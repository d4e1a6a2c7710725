"""Raw captures of the Gatan K2 IS: eight sector files of packed blocks, and a Gatan tag file.

Layout: docs/formats/k2is.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

SECTORS = 8
TILES = 32  # blocks of a frame in one sector: two halves of sixteen column groups
TILE = (930, 16)
BLOCK_SIZE = 0x5758
BLOCK = np.dtype(
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
        ("payload", "u1", TILE[0] * TILE[1] * 3 // 2),
    ]
)
BLOCKS_AT_A_TIME = 2048

TAG_TYPES = {
    "i2": 2,
    "i4": 3,
    "u2": 4,
    "u4": 5,
    "f4": 6,
    "f8": 7,
    "b1": 8,
    "i1": 9,
    "u1": 10,
    "i8": 11,
    "u8": 12,
}


def write_k2is(
    folder: str | Path,
    stem: str,
    frames: NDArray[np.uint16],
    *,
    count: int | None = None,
    first_block_count: ArrayLike = 50_000,
    frame_ids: ArrayLike | None = None,
    shutter_from: int | None = 0,
    other_flags: int = 0,
    sector_starts: ArrayLike = 0,
    sector_ends: ArrayLike = 0,
    partial_heads: ArrayLike = 0,
    partial_tails: ArrayLike = 0,
    lost: Mapping[int, Iterable[int]] | None = None,
    tile_order: Sequence[int] = range(TILES),
    header: Mapping[str, ArrayLike] | None = None,
    scan: tuple[float, float] | None = None,
    tags: Mapping[str, Any] | None = None,
    gtg_version: Literal[3, 4] = 3,
    gtg_byte_order: Literal["<", ">"] = "<",
) -> list[Path]:
    """Write a capture: `<stem>1.bin` … `<stem>8.bin` and `<stem>.gtg`.

    Blocks are counted from the first one of frame 0, in every sector alike. Those before frame 0 and behind
    the last frame belong to more frames, which repeat the given ones. "Per sector" means one value, or eight.

    Parameters
    ----------
    folder, stem
        Where, and how the names begin.
    frames
        Pixels, (n, 1860, 2048), at most 4095.
    count
        Number of frames, if the given ones are to be repeated cyclically.
    first_block_count
        The running number of block 0, per sector.
    frame_ids
        Per frame, (count,) or (8, count). None: 1000, 1001 ...
    shutter_from
        First frame with the shutter flag. None: no frame.
    other_flags
        Bits set in the flags of all blocks.
    sector_starts
        Blocks before frame 0, per sector; negative: so many blocks are missing there.
    sector_ends
        Blocks behind the last frame, per sector; negative: so many blocks are missing there.
    partial_heads, partial_tails
        Bytes of one more block at the beginning and at the end of the file, per sector.
    lost
        Blocks that never reached the file, by sector number 1 … 8.
    tile_order
        Which tile comes when. Tiles count from right to left, the upper half first, as K2 cameras send them.
    header
        Values for any field of the block headers, per sector.
    scan
        Scan size (y, x) in the tags. None: a video.
    tags
        More tags for the root, or other ones.
    gtg_version, gtg_byte_order
        Of the tag file.

    Returns
    -------
    list of Path
        The sectors in order, then the tag file.
    """
    count = len(frames) if count is None else count
    ids = np.broadcast_to(np.arange(1000, 1000 + count) if frame_ids is None else frame_ids, (SECTORS, count))
    per_sector = {name: np.broadcast_to(value, SECTORS) for name, value in (header or {}).items()}
    first_counts, starts, ends, heads, tails = (
        np.broadcast_to(value, SECTORS)
        for value in (first_block_count, sector_starts, sector_ends, partial_heads, partial_tails)
    )
    paths = []
    for k in range(SECTORS):
        sector = _Sector(
            packed=pack_12_bit(_tiles(frames[:, :, 256 * k : 256 * (k + 1)])),
            tile_order=np.asarray(tile_order),
            first_block_count=first_counts[k],
            frame_ids=ids[k],
            shutter_from=np.inf if shutter_from is None else shutter_from,
            other_flags=other_flags,
            header={name: values[k] for name, values in per_sector.items()},
        )
        first, stop = -starts[k], TILES * count + ends[k]
        present = np.setdiff1d(np.arange(first, stop), list((lost or {}).get(k + 1, ())))
        path = Path(folder, f"{stem}{k + 1}.bin")
        with path.open("wb") as file:
            file.write(sector.blocks(np.array([first - 1])).tobytes()[BLOCK_SIZE - heads[k] :])
            for i in range(0, len(present), BLOCKS_AT_A_TIME):
                sector.blocks(present[i : i + BLOCKS_AT_A_TIME]).tofile(file)
            file.write(sector.blocks(np.array([stop])).tobytes()[: tails[k]])
        paths.append(path)
    tree = {**_camera_tags(scan), **(tags or {})}
    paths.append(write_gtg(Path(folder, f"{stem}.gtg"), tree, version=gtg_version, byte_order=gtg_byte_order))
    return paths


@dataclass
class _Sector:
    """One of the eight streams of blocks, endless in both directions."""

    packed: NDArray[np.uint8]  # (frames, tiles, bytes)
    tile_order: NDArray[np.int64]
    first_block_count: int
    frame_ids: NDArray[np.int64]
    shutter_from: float
    other_flags: int
    header: Mapping[str, Any]

    def blocks(self, index: NDArray[np.int64]) -> NDArray:
        """Make the blocks with these numbers, counted from the first one of frame 0."""
        frame, tile = index // TILES, self.tile_order[index % TILES]
        known = np.clip(frame, 0, len(self.frame_ids) - 1)
        x, y = 16 * (15 - tile % 16), 930 * (tile // 16)
        blocks = np.zeros(len(index), BLOCK)
        fields = {
            "sync": 0xFFFF0055,
            "version": 1,
            "flags": (frame >= self.shutter_from) | self.other_flags,
            "block_count": self.first_block_count + index,
            "width": 256,
            "height": 1860,
            "frame_id": self.frame_ids[known] + frame - known,
            "pixel_x_start": x,
            "pixel_y_start": y,
            "pixel_x_end": x + TILE[1] - 1,
            "pixel_y_end": y + TILE[0] - 1,
            "block_size": BLOCK_SIZE,
            "payload": self.packed[frame % len(self.packed), tile],
            **self.header,
        }
        for name, values in fields.items():
            blocks[name] = values
        return blocks


def _tiles(sector: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Cut (n, 1860, 256) into (n, tile, pixel)."""
    rows, columns = TILE
    grid = sector.reshape(len(sector), 2, rows, 16, columns)[:, :, :, ::-1]
    return grid.swapaxes(2, 3).reshape(len(sector), TILES, rows * columns)


def pack_12_bit(pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Put every two pixels, at most 4095, into three bytes, low bits first.

    Examples
    --------
    >>> pack_12_bit(np.array([0xABC, 0xDEF], "u2")).tobytes().hex(" ")
    'bc fa de'
    """
    first, second = pixels[..., 0::2], pixels[..., 1::2]
    packed = np.empty((*first.shape, 3), "u1")
    packed[..., 0] = first & 0xFF
    packed[..., 1] = first >> 8 | (second & 0xF) << 4
    packed[..., 2] = second >> 4
    return packed.reshape(*pixels.shape[:-1], -1)


def _camera_tags(scan: tuple[float, float] | None) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    if scan is not None:
        tree["SI Dimensions"] = {"Size X": scan[1], "Size Y": scan[0]}
    tree["SI Image Tags"] = {"Acquisition": {"Parameters": {"Detector": {"height": 1792, "width": 1920}}}}
    return tree


def write_gtg(
    path: str | Path,
    tree: Mapping[str, Any],
    *,
    version: Literal[3, 4] = 3,
    byte_order: Literal["<", ">"] = "<",
) -> Path:
    """Write a tree of Gatan tags.

    Parameters
    ----------
    path
        The file.
    tree
        The root group. What a value becomes:

        - mapping: a group; list: a group of tags without names
        - int, float, bool: int32, float64, bool; NumPy numbers: their own type
        - str: an array of UTF-16 units, as Gatan writes text; bytes: the rare string type
        - tuple: a struct; NumPy array: an array, structured ones an array of structs
    version
        3 or 4: words of 32 or of 64 bits, and tags that say how long they are.
    byte_order
        Of the values; the structure is always big-endian.

    Returns
    -------
    Path
        The file.
    """
    root = _Tags(version, byte_order).group(tree)
    word = 4 if version == 3 else 8
    path = Path(path)
    path.write_bytes(
        version.to_bytes(4, "big")
        + len(root).to_bytes(word, "big")
        + (byte_order == "<").to_bytes(4, "big")
        + root
        + bytes(8)
    )
    return path


@dataclass
class _Tags:
    """Groups and values as bytes."""

    version: int
    byte_order: Literal["<", ">"]

    def group(self, tags: Mapping[str, Any] | Sequence[Any]) -> bytes:
        named = tags.items() if isinstance(tags, Mapping) else [("", tag) for tag in tags]
        return b"\x00\x00" + self._words(len(tags)) + b"".join(self._tag(name, tag) for name, tag in named)

    def _tag(self, name: str, tag: Any) -> bytes:
        is_group = isinstance(tag, Mapping | list)
        content = self.group(tag) if is_group else self._value(tag)
        kind, label = b"\x14" if is_group else b"\x15", name.encode("latin-1")
        length = b"" if self.version == 3 else self._words(len(content))
        return kind + len(label).to_bytes(2, "big") + label + length + content

    def _value(self, value: Any) -> bytes:
        if isinstance(value, bytes):
            info, data = [18, len(value)], value
        elif isinstance(value, str):
            return self._value(np.frombuffer(value.encode("utf-16-le"), "<u2"))
        elif isinstance(value, tuple):
            items = [_number(item) for item in value]
            info, data = _struct_info([item.dtype for item in items]), b"".join(map(self._bytes, items))
        elif isinstance(value, np.ndarray):
            info, data = [20, *_type_info(value.dtype), len(value)], self._bytes(value)
        else:
            info, data = _type_info(_number(value).dtype), self._bytes(_number(value))
        return b"%%%%" + self._words(len(info), *info) + data

    def _words(self, *words: int) -> bytes:
        return np.array(words, ">u4" if self.version == 3 else ">u8").tobytes()

    def _bytes(self, values: NDArray) -> bytes:
        return values.astype(values.dtype.newbyteorder(self.byte_order)).tobytes()


def _number(value: Any) -> NDArray:
    return np.asarray(value, "i4" if type(value) is int else None)


def _type_info(dtype: np.dtype) -> list[int]:
    if dtype.names is not None:
        return _struct_info([dtype[name] for name in dtype.names])
    return [TAG_TYPES[dtype.str[1:]]]


def _struct_info(dtypes: list[np.dtype]) -> list[int]:
    return [15, 0, len(dtypes), *(word for dtype in dtypes for word in (0, *_type_info(dtype)))]
