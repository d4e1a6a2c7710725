"""The first plane of an MRC file, as cameras write dark frames and gain maps.

Such files claim thousands of planes and end in leftovers of earlier ones, so nothing but the first plane is believed.
"""

from __future__ import annotations

import struct

from ..errors import HeaderError, TruncatedError
from ..frames.files import File
from ..frames.frames import Frames
from ..frames.layout import FrameStack
from ..frames.navigation import Navigation
from ..frames.storage import Storage

HEADER_BYTES = 1024
EXTENDED_AT = 92  # bytes of the extended header
MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2"}
LARGEST = 65536  # rows or columns of a sensor


def first_plane(file: File, storage: Storage) -> Frames:
    """Describe the first plane of an MRC file, (ny, nx), in the order in which its rows are stored.

    Raises
    ------
    HeaderError
        If the header makes no sense in either byte order.
    TruncatedError
        If the plane is not complete.
    """
    raw = file.read_exactly(0, HEADER_BYTES, "MRC header")
    for order in "<>":
        nx, ny, _, mode = struct.unpack_from(f"{order}4i", raw)
        (extended,) = struct.unpack_from(f"{order}i", raw, EXTENDED_AT)
        if mode in MODES and 0 < nx <= LARGEST and 0 < ny <= LARGEST and extended >= 0:
            break
    else:
        nx, ny, _, mode = struct.unpack_from("<4i", raw)
        raise HeaderError(f"{file}: not an MRC plane of mode 0, 1, 2 or 6: nx={nx}, ny={ny}, mode={mode}")
    stack = FrameStack.in_one_file(file.uri, order + MODES[mode], (ny, nx), 1, offset=HEADER_BYTES + extended)
    needed = HEADER_BYTES + extended + stack.frame_bytes
    if file.size < needed:
        raise TruncatedError(
            f"{file}: the first plane of {ny} x {nx} needs {needed} bytes, the file has {file.size}: pass "
            "corrections=False to read stored pixels"
        )
    return Frames(stack, Navigation.of(()), storage, file.stamp)
