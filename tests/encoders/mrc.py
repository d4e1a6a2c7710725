"""MRC files of all modes, makers and ages, and what lies beside movies of Direct Electron cameras.

Layout: docs/formats/mrc.md.
"""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

MODE_OF = {"i1": 0, "u1": 0, "i2": 1, "f4": 2, "c8": 4, "u2": 6, "f2": 12}
STAMP_OF = {"<": b"\x44\x44\0\0", ">": b"\x11\x11\0\0"}
IMOD_STAMP = 1146047817
AT = {
    **{name: (4 * k, "i") for k, name in enumerate(["nx", "ny", "nz", "mode", "nxstart", "nystart", "nzstart"])},
    **{name: (28 + 4 * k, "i") for k, name in enumerate(["mx", "my", "mz"])},
    **{name: (40 + 4 * k, "f") for k, name in enumerate(["xlen", "ylen", "zlen", "alpha", "beta", "gamma"])},
    **{name: (64 + 4 * k, "i") for k, name in enumerate(["mapc", "mapr", "maps"])},
    **{name: (76 + 4 * k, "f") for k, name in enumerate(["dmin", "dmax", "dmean"])},
    "ispg": (88, "i"),
    "nsymbt": (92, "i"),
    "exttyp": (104, "4s"),
    "nversion": (108, "i"),
    "nint": (128, "h"),
    "nreal": (130, "h"),
    "imodStamp": (152, "i"),
    "imodFlags": (156, "i"),
    **{name: (196 + 4 * k, "f") for k, name in enumerate(["xorg", "yorg", "zorg"])},
    "map": (208, "4s"),
    "machst": (212, "4s"),
    "rms": (216, "f"),
    "nlabl": (220, "i"),
}
"""Where each field of the header stands, and its type."""


def write_mrc(
    path: str | Path,
    sections: NDArray,
    *,
    mode: int | None = None,
    order: Literal["<", ">"] = "<",
    step: Sequence[float] = (0, 0, 0),
    extended: bytes = b"",
    labels: Sequence[str] = (),
    trailing: bytes = b"",
    cut: int = 0,
    **fields: Any,
) -> Path:
    """Write sections.

    Parameters
    ----------
    path
        The file.
    sections
        Shape (sections, rows, columns), for mode 16 with three colours behind; or a single section. They are stored as
        they are.
    mode
        Default: the one of the pixels' type.
    order
        Byte order of every number.
    step
        Size of a voxel along X, Y, Z in Å. The cell is as many of them as mx, my, mz say, which are the sizes unless
        they are given.
    extended
        Extended header.
    labels
        Texts.
    trailing
        Bytes behind the pixels.
    cut
        How many bytes are missing at the end.
    **fields
        Values of header fields (see `AT`) instead of the usual ones; nothing else is moved.

    Returns
    -------
    Path
        The file.

    Examples
    --------
    >>> import tempfile
    >>> write_mrc(tempfile.mkdtemp() + "/a.mrc", np.array([[[1, 2, 3]]]), mode=101).read_bytes()[1024:].hex()
    '2103'
    """
    sections = sections if sections.ndim > 2 and (mode != 16 or sections.ndim > 3) else sections[None]
    nz, ny, nx = sections.shape[:3]
    values: dict[str, Any] = {
        "nx": nx,
        "ny": ny,
        "nz": nz,
        "mode": MODE_OF[sections.dtype.str[1:]] if mode is None else mode,
        "mx": nx,
        "my": ny,
        "mz": nz,
        "alpha": 90,
        "beta": 90,
        "gamma": 90,
        "mapc": 1,
        "mapr": 2,
        "maps": 3,
        "dmin": 0,
        "dmax": -1,
        "dmean": -2,
        "nsymbt": len(extended),
        "map": b"MAP ",
        "machst": STAMP_OF[order],
        "rms": -1,
        "nlabl": len(labels),
    }
    values |= {name: value for name, value in fields.items() if name in ("mx", "my", "mz")}
    values |= {f"{a}len": size * values[f"m{a}"] for a, size in zip("xyz", step, strict=True)}
    header = bytearray(1024)
    for name, value in {**values, **fields}.items():
        at, form = AT[name]
        struct.pack_into(order + form, header, at, value)
    for k, label in enumerate(labels):
        header[224 + 80 * k : 224 + 80 * k + len(label)] = label.encode()
    content = bytes(header) + extended + stored(sections, values["mode"], order) + trailing
    path = Path(path)
    path.write_bytes(content[: len(content) - cut])
    return path


def stored(sections: NDArray, mode: int, order: str) -> bytes:
    """Return the bytes of pixels."""
    if mode == 3:
        pairs = np.stack([sections.real, sections.imag], -1)
        return pairs.astype(order + "i2").tobytes()
    if mode == 101:
        return b"".join(_nibbles(row) for section in sections for row in section)
    return sections.astype(sections.dtype.newbyteorder(order)).tobytes()


def _nibbles(row: NDArray) -> bytes:
    """Two pixels in a byte, the left one in the low half; a new byte for each row."""
    pixels = [*row.tolist(), 0][: len(row) + len(row) % 2]
    return bytes(low + 16 * high for low, high in zip(pixels[::2], pixels[1::2], strict=True))


# Extended headers ----------------------------------------------------------------------------------------------------


def fei_record(size: int = 888, order: str = "<", **values: Any) -> bytes:
    """Return the record of an image by FEI's programs: values by ``at_<offset>_<type of struct>``."""
    record = bytearray(size)
    struct.pack_into(order + "2i", record, 0, size, 2)
    for name, value in values.items():
        _, at, form = name.split("_")
        struct.pack_into(order + form, record, int(at), value)
    return bytes(record)


# Direct Electron -----------------------------------------------------------------------------------------------------


def write_info(path: str | Path, entries: Mapping[str, Any]) -> Path:
    """Write an info file; names are filled up with blanks, as the camera's program does."""
    path = Path(path)
    path.write_text("".join(f"{key:<64}= {value}\n" for key, value in entries.items()))
    return path


def raster(rows: int, columns: int, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what an info file says of a scan line by line, with some entries changed."""
    return {
        "Scan - Enable": "Enable",
        "Scan - Type": "Raster",
        "Scan - Size X": columns,
        "Scan - Size Y": rows,
        "Scan - ROI Enable": "Disable",
        "Scan - Repeats": 1,
        "Instrument Project TEMorSTEM Mode": -1,
        "Specimen Pixel Size X (nanometers)": 0.5,
        "Specimen Pixel Size Y (nanometers)": 0.25,
        "Diffraction Pixel Size X": 0.02,
        "Diffraction Pixel Size Y": 0.01,
        "Instrument Project Camera Length (centimeters)": -1,
        "Frames Per Second": 500,
        "Autosave Movie Sum Count": 2,
        **(changes or {}),
    }
