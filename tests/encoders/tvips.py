"""TVIPS camera streams, in one piece or several.

Layout: docs/formats/tvips.md.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

SERIES_HEADER = np.dtype(
    [
        ("ISize", "<i4"),
        ("IVersion", "<i4"),
        ("IXDim", "<i4"),
        ("IYDim", "<i4"),
        ("IBPP", "<i4"),
        ("IXOff", "<i4"),
        ("IYOff", "<i4"),
        ("IXBin", "<i4"),
        ("IYBin", "<i4"),
        ("IPixelSize", "<i4"),
        ("IHT", "<i4"),
        ("IMagTotal", "<i4"),
        ("IImgHeaderBytes", "<i4"),
        ("filler", "S204"),
    ]
)
FRAME_HEADER = np.dtype(
    [
        ("counter", "<u4"),
        ("time", "<u4"),
        ("milliseconds", "<u4"),  # version 1 ends here
        ("lut", "<u4"),
        ("faraday", "<f4"),
        ("magnification", "<u4"),
        ("mode", "<u4"),
        ("stage_x", "<f4"),
        ("stage_y", "<f4"),
        ("stage_z", "<f4"),
        ("stage_alpha", "<f4"),
        ("stage_beta", "<f4"),
        ("rotator", "<u4"),
        ("heating_temperature", "<f4"),
        ("heating_setpoint", "<f4"),
        ("heating_power", "<f4"),
        ("objective", "<f4"),
        ("scan_x", "<f4"),
        ("scan_y", "<f4"),
        ("bias_u_setpoint", "<f4"),
        ("bias_u", "<f4"),
        ("bias_i_setpoint", "<f4"),
        ("bias_i", "<f4"),
        ("bias_e_setpoint", "<f4"),
        ("bias_r", "<f4"),
        ("bias_limit_u", "<f4"),
        ("bias_limit_i", "<f4"),
    ]
)
NOT_A_SIZE = 123456789  # version 1 has garbage in the place of the frame header's size
BLOCK = 1 << 24  # bytes written at once


def write_tvips(
    path: str | Path,
    frames: NDArray,
    *,
    version: int = 2,
    header_bytes: int | None = None,
    per_file: int | None = None,
    times: ArrayLike = 0,
    positions: ArrayLike = (0, 0),
    rotator: ArrayLike = 0,
    mode: ArrayLike = 2,
    pixel_size: int = 15600,
    filler: str = "TVIPS",
    header: Mapping[str, Any] | None = None,
    frame_header: Mapping[str, ArrayLike] | None = None,
) -> list[Path]:
    """Write frames as a TVIPS stream.

    Parameters
    ----------
    path
        Stem of the pieces `<stem>_000.tvips`, `<stem>_001.tvips` ...; or a name with the extension, in any
        case, which a single piece bears as it is.
    frames
        Pixels, (n, height, width), uint8 to uint64. A broadcast view costs no memory.
    version
        1 or 2.
    header_bytes
        Size of the frame headers. Known fields that do not fit are left out, what is beyond them is zero.
        None: 12 in version 1; all known fields, 108, in version 2.
    per_file
        Frames per piece. None: one piece.
    times
        Unix times in s, rounded to ms. This and the following arrays: one value, or one per frame.
    positions
        Scan positions (y, x), (n, 2).
    rotator
        Index of the rotator: 0 outside a scan, from 1 within.
    mode
        1 imaging, 2 diffraction.
    pixel_size
        In nm: pitch of the sensor if the filler is `TVIPS`, else step of the image, then in 1/nm in mode 2.
    filler
        Word that is repeated behind the series header: `TVIPS`, or `HYPERSPY`.
    header
        Values for any field of the series header by name. They go last, and change what the header says,
        never the layout.
    frame_header
        Values for any field of the frame headers by name.

    Returns
    -------
    list of Path
        The pieces.
    """
    n, height, width = frames.shape
    if header_bytes is None:
        header_bytes = 12 if version == 1 else FRAME_HEADER.itemsize
    series = {
        "ISize": SERIES_HEADER.itemsize,
        "IVersion": version,
        "IXDim": width,
        "IYDim": height,
        "IBPP": frames.dtype.itemsize * 8,
        "IXBin": 1,
        "IYBin": 1,
        "IPixelSize": pixel_size,
        "IImgHeaderBytes": NOT_A_SIZE if version == 1 else header_bytes,
        "filler": (f"{filler} " * 204).encode()[:204],
        **(header or {}),
    }
    headers = np.zeros(n, FRAME_HEADER)
    for name, value in {
        "counter": np.arange(n),
        **_clock(times),
        "scan_y": np.asarray(positions)[..., 0],
        "scan_x": np.asarray(positions)[..., 1],
        "rotator": rotator,
        "mode": mode,
        **(frame_header or {}),
    }.items():
        headers[name] = value

    step = per_file or max(n, 1)
    starts = range(0, max(n, 1), step)
    pieces = _pieces(Path(path), len(starts))
    for piece, start in zip(pieces, starts, strict=True):
        part = slice(start, start + step)
        with open(piece, "wb") as file:
            if start == 0:
                file.write(_series_header(series))
            _write_records(file, headers[part], header_bytes, frames[part])
    return pieces


def raster(shape: tuple[int, int], *, before: int = 0, after: int = 0) -> NDArray:
    """Positions (y, x) of a scan row by row, with frames at (0, 0) before and after it.

    Examples
    --------
    >>> raster((1, 3), before=2).tolist()
    [[0, 0], [0, 0], [0, 0], [0, 1], [0, 2]]
    """
    return np.pad(np.argwhere(np.ones(shape)), ((before, after), (0, 0)))


def _pieces(path: Path, count: int) -> list[Path]:
    """Names of all pieces; an extension that was given is kept as it was spelt."""
    named = path.suffix.lower() == ".tvips"
    if named and count == 1:
        return [path]
    stem, extension = (path.stem.removesuffix("_000"), path.suffix) if named else (path.name, ".tvips")
    return [path.with_name(f"{stem}_{number:03}{extension}") for number in range(count)]


def _series_header(fields: Mapping[str, Any]) -> bytes:
    header = np.zeros((), SERIES_HEADER)
    for name, value in fields.items():
        header[name] = value
    return header.tobytes()


def _clock(times: ArrayLike) -> dict[str, NDArray]:
    seconds, milliseconds = np.divmod(np.rint(np.asarray(times) * 1000).astype("i8"), 1000)
    return {"time": seconds, "milliseconds": milliseconds}


def _write_records(file: BinaryIO, headers: NDArray, header_bytes: int, frames: NDArray) -> None:
    """Write the frames with headers as long as asked, a block of them at a time."""
    n, *shape = frames.shape
    record = np.dtype([("header", "u1", (header_bytes,)), ("pixels", frames.dtype.newbyteorder("<"), shape)])
    columns = headers.view("u1").reshape(n, headers.itemsize)
    known = min(header_bytes, headers.itemsize) // 4 * 4  # whole fields, all of four bytes
    step = max(1, BLOCK // record.itemsize)
    records = np.zeros(min(step, n), record)
    for first in range(0, n, step):
        block = records[: n - first]
        block["header"][:, :known] = columns[first : first + len(block), :known]
        block["pixels"] = frames[first : first + len(block)]
        block.tofile(file)
