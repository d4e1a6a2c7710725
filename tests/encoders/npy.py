"""NumPy array files, with headers that NumPy itself would not write.

Layout: docs/formats/npy.md.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 2**26  # bytes of array put together at a time


def write_npy(
    path: str | Path,
    array: NDArray,
    *,
    version: tuple[int, int] = (1, 0),
    fortran_order: bool = False,
    padding: int = 64,
    header_text: str | bytes | None = None,
    descr: Any = None,
    shape: tuple[int, ...] | None = None,
    long_suffix: bool = False,
    trailing: bytes = b"",
    truncate: int | None = None,
) -> Path:
    """Write an array, whatever its header is to say.

    Parameters
    ----------
    path
        The file.
    array
        Any array, stored in the byte order of its dtype. A broadcast view costs no memory.
    version
        1.0, 2.0 and 3.0 differ in the size of the header's length and in the header's encoding.
    fortran_order
        Store the first axis fastest.
    padding
        Begin the data at a multiple of so many bytes: 64, 16 in old files, 0 for anywhere.
    header_text
        Instead of the dict literal: str is still padded, bytes are written as they are.
    descr, shape
        What the header says, when not the truth.
    long_suffix
        Spell the shape as Python 2 did, (10L, 20L).
    trailing
        Bytes behind the data.
    truncate
        Cut the file to so many bytes.

    Returns
    -------
    Path
        The file.
    """
    if header_text is None:
        says_descr = _descr(array.dtype) if descr is None else descr
        says_shape = _shape_text(array.shape if shape is None else shape, long_suffix)
        header_text = f"{{'descr': {says_descr!r}, 'fortran_order': {fortran_order}, 'shape': {says_shape}, }}"
    stored = np.atleast_1d(array.T if fortran_order else array)
    step = max(1, BLOCK * len(stored) // max(1, stored.nbytes))
    with open(path, "wb") as file:
        file.write(_preamble(header_text, version, padding))
        for start in range(0, len(stored), step):
            np.ascontiguousarray(stored[start : start + step]).tofile(file)
        file.write(trailing)
        if truncate is not None:
            file.truncate(truncate)
    return Path(path)


def _preamble(text: str | bytes, version: tuple[int, int], padding: int) -> bytes:
    """Magic, version, the header's length, and the header up to the data."""
    length_size = 2 if version[0] == 1 else 4
    if isinstance(text, str):
        header = text.encode("utf-8" if version[0] == 3 else "latin-1")
        blanks = -(8 + length_size + len(header) + 1) % padding if padding else 0
        header += b" " * blanks + b"\n"
    else:
        header = text
    return b"\x93NUMPY" + bytes(version) + len(header).to_bytes(length_size, "little") + header


def _descr(dtype: np.dtype) -> Any:
    return dtype.str if dtype.names is None else dtype.descr


def _shape_text(shape: tuple[int, ...], long_suffix: bool) -> str:
    sizes = [f"{size}L" if long_suffix else f"{size}" for size in shape]
    return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"
