"""One matrix out of a MATLAB file of level 4, 5, or 7 (which is 5, compressed); 7.3 is HDF5.

SciPy reads these files as well, but a damaged one of level 5 can kill the process there (SciPy 1.17). Only full, real
matrices are understood, and every size is compared with the bytes that are there. Source of the layout: MathWorks,
MAT-File Format.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import HeaderError
from ..frames.files import File

TEXT_HEADER = 128  # of level 5: free text, then version and byte order
BYTE_ORDERS = {b"IM": "<", b"MI": ">"}
MATRIX, COMPRESSED = 14, 15
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
OTHER_CLASSES = {1: "a cell array", 2: "a structure", 3: "an object", 4: "text", 5: "sparse"}  # 6 to 15: numbers
COMPLEX = 0x0800
STORED_4 = ("f8", "f4", "i4", "i2", "u2", "u1")
NAMES_AND_SIZES = 4096  # bytes, more than what stands in front of the numbers of a matrix


@dataclass(frozen=True)
class Matrix:
    """A variable of a MATLAB file.

    Parameters
    ----------
    name
        Of the variable.
    shape
        Rows and columns, or more.
    kind
        What it holds if that is no full matrix of real numbers, else empty.
    dtype
        Stored type.
    stored
        Bytes of the numbers, column by column.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    dtype: np.dtype
    stored: bytes

    def values(self, file: File) -> np.ndarray:
        """Return the numbers.

        Raises
        ------
        HeaderError
            If not all of them are there.
        """
        needed = math.prod(self.shape) * self.dtype.itemsize
        if len(self.stored) != needed:
            raise HeaderError(
                f"{file}: {self.name} of {self.shape} needs {needed} bytes, but {len(self.stored)} are there"
            )
        return np.frombuffer(self.stored, self.dtype).reshape(self.shape, order="F")


def matrices(file: File, raw: bytes, longest: int) -> Iterator[Matrix]:
    """Yield the variables of a file, one after the other.

    Parameters
    ----------
    file
        For messages.
    raw
        Its content.
    longest
        How many bytes of numbers are wanted of a compressed variable; of larger ones, some are left out.

    Raises
    ------
    HeaderError
        If the content is none of a MATLAB file.
    """
    order = BYTE_ORDERS.get(raw[TEXT_HEADER - 2 : TEXT_HEADER])
    try:
        if order is None:
            yield from _level_4(raw)
            return
        for kind, content in _elements(raw[TEXT_HEADER:], order):
            if kind == COMPRESSED:
                content = zlib.decompressobj().decompress(content, longest + NAMES_AND_SIZES)
                kind, content = next(_elements(content, order))
            if kind == MATRIX:
                yield _level_5(content, order)
    except (struct.error, zlib.error, ValueError, IndexError, StopIteration) as error:
        raise HeaderError(f"{file}: not a readable MATLAB file: {error}") from error


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield types and contents of a chain of elements; the last one may be cut."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}2I", data, at)
        if kind >> 16:  # up to four bytes stand in the tag itself
            yield kind & 0xFFFF, data[at + 4 : at + 4 + min(kind >> 16, 4)]
            at += 8
            continue
        yield kind, data[at + 8 : at + 8 + size]
        at += 8 + (size if kind == COMPRESSED else -(-size // 8) * 8)


def _level_5(content: bytes, order: str) -> Matrix:
    """Flags, shape, name and numbers of a matrix, which may be stored in a smaller type than it had."""
    parts = list(_elements(content, order))
    flags = struct.unpack(f"{order}I", parts[0][1][:4])[0]
    shape = tuple(int(n) for n in np.frombuffer(parts[1][1], f"{order}i4"))
    name = parts[2][1].decode("latin-1")
    kind = OTHER_CLASSES.get(flags & 0xFF, "complex" if flags & COMPLEX else "")
    stored, numbers = parts[3] if len(parts) > 3 else (0, b"")
    if stored not in STORED and not kind:
        kind = f"stored in type {stored}"
    return Matrix(name, shape, kind, np.dtype(order + STORED.get(stored, "u1")), numbers)


def _level_4(raw: bytes) -> Iterator[Matrix]:
    """Matrices one behind the other: five numbers, name, real and imaginary part."""
    at = 0
    while at < len(raw):
        order = "<" if struct.unpack_from("<I", raw, at)[0] < 5000 else ">"
        mopt, rows, columns, imaginary, length = struct.unpack_from(f"{order}5i", raw, at)
        machine, precision, text = mopt // 1000, mopt // 10 % 100, mopt % 10
        if machine not in (0, 1) or precision >= len(STORED_4) or min(rows, columns, length) < 0:
            raise ValueError(f"a matrix at byte {at} has type {mopt}, {rows} rows and {columns} columns")
        dtype = np.dtype(order + STORED_4[precision])
        begin = at + 20 + length
        end = begin + rows * columns * dtype.itemsize
        name = raw[at + 20 : begin].rstrip(b"\0").decode("latin-1")
        kind = "text" if text == 1 else "sparse" if text else "complex" if imaginary else ""
        yield Matrix(name, (rows, columns), kind, dtype, raw[begin:end])
        at = end + (end - begin if imaginary else 0)
