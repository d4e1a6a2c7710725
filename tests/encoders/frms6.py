"""Data sets of PNDetector pnCCD cameras: a text header, dark frames and folded signal frames.

Layout: docs/formats/frms6.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FILE_HEADER = np.dtype(
    [
        ("header_size", "<u2"),
        ("frame_header_size", "<u2"),
        ("ccds", "u1"),
        ("old_width", "u1"),
        ("old_height", "u1"),
        ("version", "u1"),
        ("id", "S80"),
        ("width", "<u2"),
        ("height", "<u2"),
        ("reserved", "V928"),
        ("frames", "<u4"),
    ]
)
FRAME_HEADER = np.dtype(
    [
        ("old_start", "u1"),
        ("info", "u1"),
        ("ccd", "u1"),
        ("old_height", "u1"),
        ("seconds", "<u4"),
        ("microseconds", "<u4"),
        ("number", "<u4"),
        ("temperature", "<f8"),
        ("start", "<u2"),
        ("lines", "<u2"),
        ("trigger", "<u4"),
        ("bunch", "<u8"),
        ("reserved", "V24"),
    ]
)
BLOCK = 2**26  # bytes of frames put together at a time


def write_frms6(
    folder: str | Path,
    base: str,
    frames: NDArray[np.uint16],
    *,
    dark: NDArray[np.uint16] | None = None,
    scan: tuple[int, int] | None = None,
    per_file: int | Sequence[int] | None = None,
    first_number: int = 1,
    digits: int = 3,
    binning: int = 1,
    header_counts: bool = True,
    times: ArrayLike = 0,
    file_headers: Mapping[int, Mapping[str, Any]] | None = None,
    frame_headers: Mapping[str, ArrayLike] | None = None,
    hdr: Mapping[str, Any] | None = None,
    hdr_text: str | bytes | None = None,
    trailing: bytes = b"",
) -> list[Path]:
    """Write a data set: `<base>.hdr`, dark frames as `<base>_000.frms6`, signal from `<base>_001.frms6` on.

    Parameters
    ----------
    folder, base
        Where, and how the names begin.
    frames
        Signal frames as they are seen, (n, 2h, w), but with binned rows not repeated. A broadcast view costs
        no memory.
    dark
        Dark frames in the same orientation, (m, 2h, w).
    scan
        `stemImageSize`. None: one row of all frames.
    per_file
        Frames in each signal file, or a list of counts. None: all in one.
    first_number, digits
        Number of the first signal file, and how many digits numbers have.
    binning
        Rows added up by the camera.
    header_counts
        Whether file headers tell the number of frames; in old files it is 0.
    times
        Microseconds since 1970 of the signal frames, (n,) or one value.
    file_headers
        Values for any field of a file's header, by the file's number.
    frame_headers
        Values for any field of the signal frames' headers, (n,) or one value.
    hdr
        Values for any key of the `.hdr`; None leaves the key out.
    hdr_text
        Instead of the whole `.hdr`.
    trailing
        Bytes behind the frames of every signal file.

    Returns
    -------
    list of Path
        The `.hdr`, the dark file if any, the signal files.
    """
    seconds, microseconds = np.divmod(np.asarray(times, np.int64), 10**6)
    known = {"seconds": seconds, "microseconds": microseconds, **(frame_headers or {})}
    signal_headers = _frame_headers(frames, known)
    files = [
        (number, frames[part], signal_headers[part], trailing)
        for number, part in enumerate(_parts(len(frames), per_file), first_number)
    ]
    if dark is not None:
        files.insert(0, (0, dark, _frame_headers(dark, {}), b""))

    text = _hdr(frames, dark, scan, binning, hdr or {}) if hdr_text is None else hdr_text
    paths = [Path(folder, f"{base}.hdr")]
    paths[0].write_bytes(text.encode() if isinstance(text, str) else text)
    for number, stack, headers, rest in files:
        count = len(stack) if header_counts else 0
        paths.append(Path(folder, f"{base}_{number:0{digits}}.frms6"))
        with paths[-1].open("wb") as file:
            _file_header(stack, {"frames": count, **(file_headers or {}).get(number, {})}).tofile(file)
            for records in _records(stack, headers):
                records.tofile(file)
            file.write(rest)
    return paths


def fold(frames: NDArray) -> NDArray:
    """Put the lower half, turned by 180°, to the right of the upper one: (n, 2h, w) becomes (n, h, 2w).

    Examples
    --------
    >>> fold(np.array([[[1, 2], [5, 6], [8, 7], [4, 3]]])).tolist()
    [[[1, 2, 3, 4], [5, 6, 7, 8]]]
    """
    half = frames.shape[1] // 2
    return np.concatenate([frames[:, :half], frames[:, half:][:, ::-1, ::-1]], axis=2)


def write_gain_csv(path: str | Path, gain: NDArray) -> Path:
    """Write a gain map, (rows, columns) as seen, the way the camera's software does: lines are columns."""
    path = Path(path)
    path.write_text("".join("".join(f"{value};" for value in column) + "\n" for column in gain.T.tolist()))
    return path


def _hdr(
    frames: NDArray,
    dark: NDArray | None,
    scan: tuple[int, int] | None,
    binning: int,
    overrides: Mapping[str, Any],
) -> str:
    _, rows, columns = frames.shape
    keys = {
        "signalFrames": len(frames),
        "darkFrames": 0 if dark is None else len(dark),
        "dwellTimeMicroseconds": 100,
        "gain": 1,
        "stemImageSize": "{}x{}".format(*scan or (1, len(frames))),
        "readoutMode": f'"bin: {binning}, windowing: {rows * binning} x {columns}"',
        **overrides,
    }
    lines = [f"{key} = {value}\n" for key, value in keys.items() if value is not None]
    return "".join(["[measurementInfo]\n", *lines])


def _parts(count: int, per_file: int | Sequence[int] | None) -> list[slice]:
    """Distribute frames over files."""
    if per_file is None:
        per_file = [count]
    elif isinstance(per_file, int):
        per_file = [min(per_file, count - start) for start in range(0, count, per_file)]
    stops = np.cumsum(per_file).tolist()
    return [slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]


def _file_header(frames: NDArray, fields: Mapping[str, Any]) -> NDArray:
    height, width = frames.shape[1] // 2, frames.shape[2] * 2
    known = {
        "header_size": FILE_HEADER.itemsize,
        "frame_header_size": FRAME_HEADER.itemsize,
        "ccds": 1,
        "old_width": width % 256,
        "old_height": height % 256,
        "version": 6,
        "width": width,
        "height": height,
    }
    return _struct((), FILE_HEADER, {**known, **fields})


def _frame_headers(frames: NDArray, fields: Mapping[str, ArrayLike]) -> NDArray:
    height = frames.shape[1] // 2
    known = {"old_height": height % 256, "number": np.arange(len(frames)), "lines": height}
    return _struct(len(frames), FRAME_HEADER, {**known, **fields})


def _struct(shape: int | tuple[()], dtype: np.dtype, fields: Mapping[str, ArrayLike]) -> NDArray:
    struct = np.zeros(shape, dtype)
    for name, values in fields.items():
        struct[name] = values
    return struct


def _records(frames: NDArray, headers: NDArray) -> Iterator[NDArray]:
    """Yield some folded frames at a time, with their headers."""
    _, rows, columns = frames.shape
    record = np.dtype([("header", FRAME_HEADER), ("pixels", "<u2", (rows // 2, 2 * columns))])
    step = max(1, BLOCK // record.itemsize)
    for start in range(0, len(frames), step):
        part = slice(start, start + step)
        records = np.empty(len(headers[part]), record)
        records["header"], records["pixels"] = headers[part], fold(frames[part])
        yield records
