"""Frames of one numpy type behind each other, with anything before, between and behind them.

Layout: docs/formats/raw.md.
"""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BLOCK = 2**26  # bytes of frames put together at a time

Extra = int | bytes | NDArray[np.uint8]


def write_raw(
    path: str | Path,
    frames: NDArray,
    *,
    file_header: bytes = b"",
    frame_header: Extra = 0,
    frame_footer: Extra = 0,
    last_footer: bool = True,
    trailing: bytes = b"",
) -> Path:
    """Write equal frames at a constant stride.

    Parameters
    ----------
    path
        The file.
    frames
        (n, ...), stored in C order and in the byte order of their dtype. A broadcast view costs no memory.
    file_header
        Bytes before everything.
    frame_header, frame_footer
        Bytes before and behind each frame: so many zeros, the same bytes for all, or an array (n, bytes).
    last_footer
        Whether the last frame has its footer.
    trailing
        Bytes behind everything.

    Returns
    -------
    Path
        The file.
    """
    headers, footers = _for_each(frame_header, len(frames)), _for_each(frame_footer, len(frames))
    record = np.dtype(
        [
            ("header", "u1", headers.shape[1:]),
            ("pixels", frames.dtype, frames.shape[1:]),
            ("footer", "u1", footers.shape[1:]),
        ]
    )
    step = max(1, BLOCK // record.itemsize)
    with open(path, "wb") as file:
        file.write(file_header)
        for start in range(0, len(frames), step):
            part = slice(start, start + step)
            records = np.empty(len(frames[part]), record)
            records["header"], records["pixels"], records["footer"] = (
                headers[part],
                frames[part],
                footers[part],
            )
            records.tofile(file)
        if not last_footer:
            file.seek(-footers.shape[1], os.SEEK_CUR)
            file.truncate()
        file.write(trailing)
    return Path(path)


def _for_each(extra: Extra, frames: int) -> NDArray[np.uint8]:
    """Give every frame its bytes, (frames, bytes)."""
    if isinstance(extra, int):
        extra = bytes(extra)
    if isinstance(extra, bytes):
        extra = np.frombuffer(extra, "u1")
    return np.broadcast_to(extra, (frames, extra.shape[-1]))
