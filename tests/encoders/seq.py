"""Norpix sequences, and the files that Direct Electron's cameras put beside them.

Layout: docs/formats/seq.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal
from xml.etree import ElementTree

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

HEADER = np.dtype(
    [
        ("magic", "<u4"),
        ("name", "S24"),
        ("version", "<i4"),
        ("header_size", "<i4"),
        ("description", "S512"),
        ("width", "<u4"),
        ("height", "<u4"),
        ("bit_depth", "<u4"),
        ("bit_depth_real", "<u4"),
        ("image_size_bytes", "<u4"),
        ("image_format", "<u4"),
        ("allocated_frames", "<u4"),
        ("origin", "<u4"),
        ("true_image_size", "<u4"),
        ("suggested_frame_rate", "<f8"),
        ("description_format", "<i4"),
        ("reference_frame", "<u4"),
        ("fixed_size", "<u4"),
        ("flags", "<u4"),
        ("bayer_pattern", "<i4"),
        ("time_offset_us", "<i4"),
        ("extended_header_size", "<i4"),
        ("compression_format", "<u4"),
        ("reference_time_s", "<i4"),
        ("reference_time_ms", "<u2"),
        ("reference_time_us", "<u2"),
    ]
)
SECTOR = 8192  # strides of real files are multiples of it
BLOCK = 1 << 24  # bytes written at once

METADATA_RECORD = 224
METADATA_FIELDS: dict[str, dict[str, tuple[int, DTypeLike]]] = {  # offset in the record, type
    "A": {
        "record_length": (0, "<u4"),
        "one": (4, "<u4"),
        "kind": (8, "<u4"),
        "payload_length": (12, "<u4"),
        "metadata_size": (16, "<i4"),
        "metadata_version": (20, "<i4"),
        "width": (24, "<i4"),
        "height": (28, "<i4"),
        "offset_x": (32, "<i4"),
        "offset_y": (36, "<i4"),
        "binning": (40, "<i4"),
        "bit_mode": (44, "<i4"),
        "frame_rate": (48, "<f8"),
        "rotation": (56, "<i4"),
        "flip": (60, "<i4"),
        "okra": (64, "?"),
        "global_shutter": (65, "?"),
        "off_chip_cds": (66, "?"),
        "akra": (67, "?"),
        "sequence": (68, "<i4"),
        "camera_type": (72, "<i4"),
        "gain_mode": (76, "<i4"),
        "sensor_gain": (80, "<f8"),
        "magnification": (88, "<f8"),
        "pixel_size": (96, "<f8"),
        "camera_length": (104, "<f8"),
        "diffraction_pixel_size": (112, "<f8"),
        "time": (168, "S32"),
        "grabber": (200, "S8"),
        "firmware": (208, "<f8"),
    },
    "B": {
        "metadata_size": (26, "<i4"),
        "metadata_version": (30, "<i4"),
        "width": (34, "<i4"),
        "height": (38, "<i4"),
        "offset_x": (42, "<i4"),
        "offset_y": (46, "<i4"),
        "binning": (50, "<i4"),
        "bit_mode": (54, "<i4"),
        "frame_rate": (58, "<i4"),
        "rotation": (62, "<i4"),
        "flip": (66, "<i4"),
        "okra": (70, "?"),
    },
}


def write_seq(
    path: str | Path,
    frames: NDArray,
    *,
    version: int = 5,
    bit_depth_real: int | None = None,
    true_image_size: int | None = None,
    times: ArrayLike = 0,
    frame_rate: float = 100,
    allocated_frames: int | None = None,
    image_format: int = 100,
    compression: int = 0,
    description: str | bytes = "a recording",
    header: Mapping[str, Any] | None = None,
) -> Path:
    """Write frames as a Norpix sequence.

    Parameters
    ----------
    path
        The file.
    frames
        Pixels, (n, height, width), uint8, uint16 or uint32. A broadcast view costs no memory.
    version
        Before 5, the frames begin at 1024 instead of 8192, and timestamps have no microseconds.
    bit_depth_real
        Significant bits. None: all.
    true_image_size
        Bytes from frame to frame. A timestamp that does not fit behind the pixels is left out. None: pixels
        and timestamp, padded to a multiple of 8192.
    times
        Unix times in s, rounded to µs: one value, or one per frame.
    frame_rate
        Frames per s.
    allocated_frames
        Number of frames as the header has it. None: the true one.
    image_format, compression
        100: monochrome; 0: none. Other values do not change the frames.
    description
        Text, or up to 512 bytes as they are.
    header
        Values for any header field by name. They go last, and change what the header says, never the layout.

    Returns
    -------
    Path
        The file.
    """
    n, height, width = frames.shape
    pixels = np.dtype((frames.dtype.newbyteorder("<"), (height, width)))
    bits = frames.dtype.itemsize * 8
    clock = _clock(times, microseconds=version >= 5)
    if true_image_size is None:
        used = pixels.itemsize + sum(values.itemsize for values in clock.values())
        true_image_size = -(-used // SECTOR) * SECTOR
    fields = {
        "magic": 0xFEED,
        "name": _utf16("Norpix seq"),
        "version": version,
        "header_size": 1024,
        "description": _utf16(description) if isinstance(description, str) else description,
        "width": width,
        "height": height,
        "bit_depth": bits,
        "bit_depth_real": bits if bit_depth_real is None else bit_depth_real,
        "image_size_bytes": pixels.itemsize,
        "image_format": image_format,
        "allocated_frames": n if allocated_frames is None else allocated_frames,
        "true_image_size": true_image_size,
        "suggested_frame_rate": frame_rate,
        "compression_format": compression,
        **(header or {}),
    }
    with open(path, "wb") as file:
        file.write(_header(fields).ljust(8192 if version >= 5 else 1024, b"\0"))
        _write_records(file, _record(pixels, clock, true_image_size), {"pixels": frames, **clock})
    return Path(path)


def write_sidecar_mrc(
    path: str | Path, plane: ArrayLike, *, nz: int = 32766, stale_tail: bytes = b"", extended: bytes = b""
) -> Path:
    """Write a dark frame or gain map, (height, width), as the camera does.

    Parameters
    ----------
    path
        The file.
    plane
        Pixels, stored as float32.
    nz
        Number of planes as the header has it. Real files have nonsense here.
    stale_tail
        Bytes behind the plane.
    extended
        Extended header.

    Returns
    -------
    Path
        The file.
    """
    pixels = np.asarray(plane, "<f4")
    header = np.zeros(256, "<i4")
    header[:4] = pixels.shape[1], pixels.shape[0], nz, 2  # mode 2: float32
    header[23] = len(extended)
    path = Path(path)
    path.write_bytes(header.tobytes() + extended + pixels.tobytes() + stale_tail)
    return path


def write_metadata(
    path: str | Path,
    *,
    roi: tuple[int, int, int, int],
    binning: int = 1,
    layout: Literal["A", "B"] = "A",
    records: int = 1,
    fields: Mapping[str, ArrayLike] | None = None,
) -> Path:
    """Write the binary metadata of the frames.

    Parameters
    ----------
    path
        The file.
    roi
        Region of the sensor in pixels before binning: (offset_y, offset_x, height, width).
    binning
        Hardware binning.
    layout
        A: a kind and a payload in each record. B: eleven numbers without gaps.
    records
        Number of records.
    fields
        Values for any field by name, one or one per record. They go last.

    Returns
    -------
    Path
        The file.
    """
    offset_y, offset_x, height, width = roi
    values = {
        "metadata_size": 208,
        "metadata_version": 16,
        "offset_y": offset_y,
        "offset_x": offset_x,
        "height": height,
        "width": width,
        "binning": binning,
    }
    if layout == "A":
        values |= {"record_length": METADATA_RECORD, "one": 1, "kind": 8, "payload_length": 208}
    content = np.zeros(records, _metadata_record(layout))
    for name, value in {**values, **(fields or {})}.items():
        content[name] = value
    header = np.zeros(64, "<u4")
    header[:4] = 1, 256, records, METADATA_RECORD
    path = Path(path)
    path.write_bytes(header.tobytes() + content.tobytes())
    return path


@dataclass(frozen=True)
class BadPixelMap:
    """Dead pixels of a sensor of so many rows and columns.

    A defect is the attributes of its element: `{"Row": 300}`, `{"Rows": "200-220", "Column": 10}` ...
    """

    rows: int
    columns: int
    defects: Sequence[Mapping[str, int | str]] = ()
    binning: int | None = None


def write_config_xml(
    path: str | Path,
    maps: Sequence[BadPixelMap] = (),
    *,
    file_info: Mapping[str, Any] | None = None,
    root: Literal["Configuration", "BadPixels"] = "Configuration",
) -> Path:
    """Write the configuration: maps of dead pixels, and `FileInfo` values by name.

    Each map has a comment with an example of a defect, as in the vendor's files.
    """
    tree = ElementTree.Element(root)
    if file_info:
        info = ElementTree.SubElement(tree, "FileInfo")
        for name, value in file_info.items():
            ElementTree.SubElement(info, name, Value=str(value))
    parent = tree if root == "BadPixels" else ElementTree.SubElement(tree, "BadPixels")
    for bad in maps:
        attributes = {"Rows": bad.rows, "Columns": bad.columns, "Binning": bad.binning}
        element = ElementTree.SubElement(parent, "BadPixelMap", _texts(attributes))
        element.append(ElementTree.Comment(' a dead row: <Defect Row="0"/> '))
        for defect in bad.defects:
            ElementTree.SubElement(element, "Defect", _texts(defect))
    ElementTree.ElementTree(tree).write(path, encoding="utf-8", xml_declaration=True)
    return Path(path)


def write_celeritas(
    folder: str | Path,
    base: str,
    images: NDArray,
    *,
    prebuffer: int,
    started: tuple[str, str] = ("12-00-00.120", "12-00-00.124"),
    surplus: int = 0,
    config: bool = True,
    **options: Any,
) -> tuple[Path, Path]:
    """Write the two halves of a Celeritas recording, several images per record.

    Parameters
    ----------
    folder, base
        Where, and what the names begin with.
    images
        Joined images, (n, height, width), of even height and with n a multiple of `prebuffer`.
    prebuffer
        Images per record.
    started
        Times in the names of the top and the bottom half.
    surplus
        Blank records that the bottom half has behind the last of the top half.
    config
        Write the XML that tells `prebuffer`.
    **options
        For `write_seq`, per record.

    Returns
    -------
    top, bottom : Path
        The two sequences.
    """
    folder = Path(folder)
    n, height, width = images.shape
    half = height // 2
    records = (n // prebuffer, prebuffer * half, width)
    top = images[:, half - 1 :: -1].reshape(records)  # stored upside down
    bottom = np.pad(images[:, half:].reshape(records), ((0, surplus), (0, 0), (0, 0)))
    if config:
        info = {"ImageSizeX": width, "ImageSizeY": height, "SegmentPreBuffer": prebuffer}
        write_config_xml(folder / f"{base}.seq.Config.Metadata.xml", file_info=info)
    return (
        write_seq(folder / f"{base}_Top_{started[0]}.seq", top, **options),
        write_seq(folder / f"{base}_Bottom_{started[1]}.seq", bottom, **options),
    )


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-le")


def _header(fields: Mapping[str, Any]) -> bytes:
    header = np.zeros((), HEADER)
    for name, value in fields.items():
        header[name] = value
    return header.tobytes()


def _clock(times: ArrayLike, *, microseconds: bool) -> dict[str, NDArray]:
    """Parts of a timestamp, in the order and with the types of the footer."""
    total = np.rint(np.asarray(times) * 1e6).astype("i8")
    clock = {
        "s": (total // 1_000_000).astype("<u4"),
        "ms": (total // 1000 % 1000).astype("<u2"),
        "us": (total % 1000).astype("<u2"),
    }
    if not microseconds:
        del clock["us"]
    return clock


def _record(pixels: np.dtype, clock: Mapping[str, NDArray], stride: int) -> np.dtype:
    """One frame with its footer, and the timestamp in it if there is room."""
    formats = [pixels, *(values.dtype for values in clock.values())]
    offsets = np.cumsum([0, *(dtype.itemsize for dtype in formats)])
    fields = len(formats) if offsets[-1] <= stride else 1
    return np.dtype(
        {
            "names": ["pixels", *clock][:fields],
            "formats": formats[:fields],
            "offsets": offsets[:fields].tolist(),
            "itemsize": stride,
        }
    )


def _write_records(file: BinaryIO, record: np.dtype, columns: Mapping[str, NDArray]) -> None:
    """Write the frames, a block of them at a time."""
    n = len(columns["pixels"])
    step = max(1, BLOCK // record.itemsize)
    records = np.zeros(min(step, n), record)
    for first in range(0, n, step):
        block = records[: n - first]
        for name in record.fields or ():
            values = columns[name]
            block[name] = values[first : first + len(block)] if values.ndim else values
        block.tofile(file)


def _metadata_record(layout: str) -> np.dtype:
    fields = METADATA_FIELDS[layout]
    offsets, formats = zip(*fields.values(), strict=True)
    return np.dtype({"names": list(fields), "formats": formats, "offsets": offsets, "itemsize": METADATA_RECORD})


def _texts(attributes: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in attributes.items() if value is not None}
