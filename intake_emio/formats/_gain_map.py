"""Gain maps: one factor for each pixel of a frame, in a MATLAB file or as semicolon-separated text."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ArgumentError, HeaderError
from ..frames.files import File
from ..frames.pixels import Box, Pixels
from ._matlab import matrices

VARIABLE = "GainMap"
HDF5 = b"\x89HDF\r\n\x1a\n"
HDF5_PLACES = (512, 0)  # MATLAB puts 512 bytes of its own in front


@dataclass(frozen=True)
class GainMap(Pixels):
    """A gain map in a file, read again where it is used, so that task graphs carry its name only.

    Parameters
    ----------
    path
        Path or URL of the .mat or .csv file.
    shape
        Rows and columns of the detector.
    stamp
        State of the file when it was opened.
    options
        For fsspec.
    """

    path: str
    shape: tuple[int, int]
    stamp: object = None
    options: Mapping[str, Any] = field(default_factory=dict)
    dtype: np.dtype = field(init=False, default=np.dtype("f4"))
    frame_ndim: int = field(init=False, default=2)

    @classmethod
    def of(cls, file: File, shape: tuple[int, int]) -> GainMap:
        """Gain map in a file, which is read once to see whether it is good; errors as `read_gain_map`."""
        read_gain_map(file, shape)
        return cls(file.uri, shape, file.stamp, file.storage_options)

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Factors of a part of the frame."""
        factors = read_gain_map(File(self.path, self.options), self.shape)[box]
        if out is None:
            return factors
        out[...] = factors
        return out

    def files(self) -> tuple[str, ...]:
        """The file."""
        return (self.path,)

    def token(self) -> object:
        """File, its state, and the shape."""
        return ("gain map", self.path, self.stamp, self.shape)


def read_gain_map(file: File, shape: tuple[int, int]) -> np.ndarray:
    """Read a gain map of a known shape.

    Parameters
    ----------
    file
        ``.mat`` with the variable ``GainMap``, or ``.csv``.
    shape
        Rows and columns of the detector.

    Returns
    -------
    numpy.ndarray
        float32, of that shape.

    Raises
    ------
    ArgumentError
        If it has another shape, or the extension is neither.
    HeaderError
        If it cannot be read, or has no real numbers.
    """
    if file.extension == ".mat":
        raw = file.read_exactly(0, file.size, "gain map")
        hdf5 = any(raw[at : at + len(HDF5)] == HDF5 for at in HDF5_PLACES)
        return (_from_hdf5 if hdf5 else _from_matlab)(file, raw, shape)
    if file.extension == ".csv":
        return _from_csv(file, file.read_exactly(0, file.size, "gain map"), shape)
    raise ArgumentError(f"{file}: a gain map must be a .mat or .csv file")


def _from_matlab(file: File, raw: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Levels 4 and 5 to 7.2."""
    others = []
    for matrix in matrices(file, raw, 8 * math.prod(shape)):
        if matrix.name == VARIABLE:
            if matrix.kind:
                raise HeaderError(f"{file}: {VARIABLE} is no full matrix of real numbers: it is {matrix.kind}")
            _check(file, matrix.shape, shape)
            return _factors(file, matrix.values(file), shape)
        others.append(matrix.name)
    raise HeaderError(f"{file}: has no variable {VARIABLE}, only {', '.join(sorted(others)) or 'none'}")


def _from_hdf5(file: File, raw: bytes, shape: tuple[int, int]) -> np.ndarray:
    """MATLAB 7.3 is HDF5; its matrices are stored by columns, and so appear transposed."""
    import h5py

    try:
        with h5py.File(io.BytesIO(raw), "r") as container:
            if VARIABLE not in container:
                raise HeaderError(f"{file}: has no variable {VARIABLE}, only {', '.join(sorted(container))}")
            link, variable = container.get(VARIABLE, getlink=True), container.get(VARIABLE)
            inside = isinstance(link, h5py.HardLink) and isinstance(variable, h5py.Dataset)
            if not inside or variable.external or variable.is_virtual:
                raise HeaderError(f"{file}: {VARIABLE} is no matrix within the file")
            _check(file, variable.shape[::-1], shape)
            return _factors(file, variable[()].T, shape)
    except (ArgumentError, HeaderError):
        raise
    except Exception as error:  # damaged files surface in HDF5 as errors of any kind
        raise HeaderError(f"{file}: not a readable MATLAB 7.3 file: {error}") from error


def _from_csv(file: File, raw: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Lines are columns of the detector; a semicolon may end them."""
    lines = raw.decode("latin-1").removeprefix("ï»¿").splitlines()
    columns = [[cell for cell in line.split(";") if cell.strip()] for line in lines]
    columns = [column for column in columns if column]
    lengths = sorted({len(column) for column in columns})
    if len(lengths) != 1:
        raise HeaderError(
            f"{file}: expected {shape[1]} lines of {shape[0]} numbers with semicolons between, found "
            f"{len(columns)} lines of {' or '.join(map(str, lengths)) or 'no'} numbers"
        )
    _check(file, (lengths[0], len(columns)), shape)
    try:
        return _factors(file, np.array([list(map(float, column)) for column in columns]).T, shape)
    except ValueError as error:
        raise HeaderError(f"{file}: a gain map must hold numbers with a decimal point: {error}") from error


def _factors(file: File, values: Any, shape: tuple[int, int]) -> np.ndarray:
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
        raise HeaderError(f"{file}: {VARIABLE} is no full matrix of real numbers")
    _check(file, values.shape, shape)
    return np.ascontiguousarray(values, "f4")


def _check(file: File, found: tuple[int, ...], shape: tuple[int, int]) -> None:
    if tuple(found) != tuple(shape):
        raise ArgumentError(
            f"{file}: the gain map has shape {tuple(found)} ({math.prod(found)} pixels), frames have {shape}: pass "
            "another gain_map_path, or none"
        )
