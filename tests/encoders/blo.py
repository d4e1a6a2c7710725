"""NanoMegas blockfiles, right ones and odd ones.

Layout: docs/formats/blo.md.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

HEADER_FIELDS = [
    ("ID", "S6"),
    ("MAGIC", "u2"),
    ("Data_offset_1", "u4"),
    ("Data_offset_2", "u4"),
    ("UNKNOWN1", "u4"),
    ("DP_SZ", "u2"),
    ("DP_rotation", "u2"),
    ("NX", "u2"),
    ("NY", "u2"),
    ("Scan_rotation", "u2"),
    ("SX", "f8"),
    ("SY", "f8"),
    ("Beam_energy", "u4"),
    ("SDP", "u2"),
    ("Camera_length", "u4"),
    ("Acquisition_time", "f8"),
    *((f"Centering_N{i}", "f8") for i in range(8)),
    *((f"Distortion_N{i:02}", "f8") for i in range(14)),
]
SIXTEEN_BITS = "Blo Bit Depth: 16 bits\r\n"


def write_blo(
    path: str | Path,
    patterns: NDArray,
    *,
    byte_order: Literal["<", ">"] = "<",
    magic: int = 258,
    note: str | bytes | None = None,
    steps: tuple[float, float] = (0, 0),
    pixels_per_cm_x100: int = 0,
    beam_energy: int = 0,
    camera_length: int = 0,
    acquisition_time: float = 0,
    navigator: ArrayLike | None = None,
    data_offset_1: int = 4096,
    data_offset_2: int | None = None,
    frames_written: int | None = None,
    trailing: bytes = b"",
    header: Mapping[str, Any] | None = None,
    markers: ArrayLike = 0x55AA,
    numbers: ArrayLike | None = None,
) -> Path:
    """Write a scan of square patterns as a blockfile.

    Parameters
    ----------
    path
        The file.
    patterns
        Pixels, (ny, nx, size, size), uint8 or uint16. A broadcast view costs no memory.
    byte_order
        "<" or ">", of every number in the file.
    magic
        Version: 258, or 259 for the newer software, which 16 bit patterns need.
    note
        Text behind the header, cut where the navigator begins. None: the bit depth of 16 bit patterns, else
        nothing.
    steps
        Scan steps (y, x) in nm.
    pixels_per_cm_x100
        SDP: 100 times the detector pixels per cm.
    beam_energy, camera_length
        In V and in 0.1 mm.
    acquisition_time
        Days since 1899-12-30.
    navigator
        Virtual bright field, uint8, (ny, nx), cut where the frames begin. None: zeros.
    data_offset_1, data_offset_2
        Where navigator and frames begin. None: behind the navigator, at a multiple of 16.
    frames_written
        Stop after so many frames.
    trailing
        Bytes behind the frames; with `frames_written` the beginning of an incomplete one.
    header
        Values for any header field by name. They go last, and change what the header says, never the layout.
    markers, numbers
        For the frame headers: one value, or one per frame. None: 0, 1, 2 ...

    Returns
    -------
    Path
        The file.
    """
    ny, nx, size = patterns.shape[:3]
    if data_offset_2 is None:
        data_offset_2 = -(-(data_offset_1 + ny * nx) // 16) * 16
    if note is None:
        note = SIXTEEN_BITS if patterns.dtype.itemsize == 2 else ""
    fields = {
        "ID": b"IMGBLO",
        "MAGIC": magic,
        "Data_offset_1": data_offset_1,
        "Data_offset_2": data_offset_2,
        "UNKNOWN1": 131141,
        "DP_SZ": size,
        "NX": nx,
        "NY": ny,
        "SX": steps[1],
        "SY": steps[0],
        "Beam_energy": beam_energy,
        "SDP": pixels_per_cm_x100,
        "Camera_length": camera_length,
        "Acquisition_time": acquisition_time,
    }
    with open(path, "wb") as file:
        text = note.encode("latin-1") if isinstance(note, str) else note
        preamble = _filled(_header({**fields, **(header or {})}, byte_order) + text, data_offset_1)
        if navigator is not None:
            preamble += np.asarray(navigator, "u1").tobytes()
        file.write(_filled(preamble, data_offset_2))
        for frames in _rows_of_frames(patterns, byte_order, markers, numbers, frames_written):
            frames.tofile(file)
        file.write(trailing)
    return Path(path)


def _header(fields: Mapping[str, Any], byte_order: Literal["<", ">"]) -> bytes:
    header = np.zeros((), np.dtype(HEADER_FIELDS).newbyteorder(byte_order))
    for name, value in fields.items():
        header[name] = value
    return header.tobytes()


def _filled(content: bytes, size: int) -> bytes:
    """Cut or pad with zeros."""
    return content[:size].ljust(size, b"\0")


def _rows_of_frames(
    patterns: NDArray,
    byte_order: Literal["<", ">"],
    markers: ArrayLike,
    numbers: ArrayLike | None,
    frames_written: int | None,
) -> Iterator[NDArray]:
    """Yield the frames of one scan row after the other, with their headers."""
    ny, nx = patterns.shape[:2]
    wanted = ny * nx if frames_written is None else frames_written
    frame = np.dtype([("marker", "u2"), ("number", "u4"), ("pixels", patterns.dtype, patterns.shape[2:])])
    row = np.empty(nx, frame.newbyteorder(byte_order))
    marker_of = np.broadcast_to(markers, ny * nx).reshape(ny, nx)
    number_of = np.broadcast_to(np.arange(ny * nx) if numbers is None else numbers, ny * nx).reshape(ny, nx)
    for y in range(ny):
        row["marker"], row["number"], row["pixels"] = marker_of[y], number_of[y], patterns[y]
        yield row[: max(0, wanted - y * nx)]
