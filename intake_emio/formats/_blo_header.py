"""The header of a blockfile, which is read and written: fields, sizes, byte order.

Layout: docs/formats/blo.md.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np

MAGIC = b"IMGBLO"
VERSIONS = (258, 259)
FRAME_HEADER = 6  # marker 0x55AA, then the frame's number; nobody checks them
OLE_EPOCH = datetime(1899, 12, 30)
FIELDS = [
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
    *((f"Centering_N{n}", "f8") for n in range(8)),
    *((f"Distortion_N{n:02}", "f8") for n in range(14)),
]
HEADER = np.dtype(FIELDS)


def in_order(order: str) -> np.dtype:
    """Return the header's type in a byte order."""
    return HEADER.newbyteorder("<" if order == "<" else ">")
