"""Packed pixels: how stored bytes become numbers where they are not plain ones.

A decoder knows a packing and nothing of files or scans. It works on many frames at once, in compiled code
(NumPy's own, or `kernels`) that does not hold the interpreter's lock.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Decoder(Protocol):
    """How the bytes of a frame become pixels. Decoders are frozen and pickle small."""

    def __hash__(self) -> int: ...

    @property
    def dtype(self) -> np.dtype:
        """Type of the pixels, native byte order."""

    def stored_bytes(self, shape: tuple[int, ...]) -> int:
        """Bytes that a frame of so many pixels takes in the file."""

    def decode(self, stored: np.ndarray, out: np.ndarray) -> None:
        """Decode frames.

        Parameters
        ----------
        stored
            uint8, shape (frames, bytes); bytes of a frame are contiguous, frames need not be.
        out
            Shape (frames, *shape of a frame), of type `dtype`; any strides.
        """


@functools.lru_cache(maxsize=16)
def rearrangement(decoder: Decoder, shape: tuple[int, ...]) -> tuple[np.dtype, np.ndarray] | None:
    """Tell what a decoder does if it only puts plain pixels in another order: then sums need no decoding.

    Returns
    -------
    stored : numpy.dtype
        Type of the pixels as they are stored.
    order : numpy.ndarray
        Flat number of the stored pixel that becomes each pixel of the frame; `None` if decoding is more than that.
        Decoders say so by an attribute `moves`, the stored type.

    Examples
    --------
    >>> rearrangement(ReversedWords(16), (1, 8))[1].tolist()
    [3, 2, 1, 0, 7, 6, 5, 4]
    """
    stored = getattr(decoder, "moves", None)
    if stored is None:
        return None
    numbers = np.arange(math.prod(shape))
    order = np.zeros(shape, int)
    bits = 8 * stored.itemsize
    for shift in range(0, max(1, int(numbers[-1]).bit_length()), bits):  # as many digits as a pixel can hold at a time
        digits = np.empty((1, *shape), decoder.dtype)
        decoder.decode((numbers >> shift & (1 << bits) - 1).astype(stored).view("u1")[None], digits)
        order |= digits[0].astype(int) << shift
    return stored, order.reshape(-1)


@dataclass(frozen=True)
class ReversedWords:
    """Big-endian words of 64 bits, in which the first pixel has the lowest bits.

    Reading a word as one number turns the order of its bytes, so pixels of 8 and 16 bits need nothing else.

    Parameters
    ----------
    bits
        Of a stored pixel: 1, 8 or 16.

    Examples
    --------
    >>> pixels = np.empty((1, 1, 4), "u2")
    >>> ReversedWords(16).decode(np.array([[0x0F, 0xFF, 0, 0, 0, 0, 1, 2]], "u1"), pixels)
    >>> pixels.tolist()
    [[[258, 0, 0, 4095]]]
    """

    bits: int

    @property
    def moves(self) -> np.dtype | None:
        """Bytes and big-endian words are only put in another order."""
        return None if self.bits == 1 else np.dtype("u1" if self.bits == 8 else ">u2")

    @property
    def dtype(self) -> np.dtype:
        """One byte for a bit."""
        return np.dtype("u2" if self.bits == 16 else "u1")

    def stored_bytes(self, shape: tuple[int, ...]) -> int:
        """Pixels without gaps."""
        return math.prod(shape) * self.bits // 8

    def decode(self, stored: np.ndarray, out: np.ndarray) -> None:
        """Decode frames."""
        rows = math.prod(out.shape[1:-1])
        if stored.shape[1] % (8 * rows) == 0:
            self.decode_lines(stored.reshape(*out.shape[:-1], -1), out)
        else:  # words go on from one row to the next
            for frame, pixels in zip(stored, out, strict=True):
                flat = np.empty((1, 1, pixels.size), self.dtype)
                self.decode_lines(frame[None, None], flat)
                pixels[...] = flat.reshape(pixels.shape)

    def decode_lines(self, stored: np.ndarray, out: np.ndarray) -> None:
        """Decode lines of whole words.

        Parameters
        ----------
        stored
            uint8, bytes of a line along the last axis.
        out
            Pixels of a line along the last axis, forwards or backwards in memory; else as `stored`.
        """
        if out.strides[-1] == out.itemsize:
            self._decode(stored, out, turned=False)
        elif out.strides[-1] == -out.itemsize:
            self._decode(stored, out[..., ::-1], turned=True)
        else:
            pixels = np.empty(out.shape, out.dtype)
            self._decode(stored, pixels, turned=False)
            out[...] = pixels

    def _decode(self, stored: np.ndarray, out: np.ndarray, turned: bool) -> None:
        """Decode lines, from the last pixel to the first one if `turned`."""
        backwards = (..., slice(None, None, -1))
        if self.bits == 1:
            from .kernels import spread_bits

            words = out.view("u8")  # of eight pixels each
            spread_bits(stored, words[backwards] if turned else words, _eight_pixels(turned))
        elif not turned:
            np.copyto(out.view("<u8"), stored.view(">u8"))
        else:  # turned twice, the pixels of a word are in order as they are stored
            np.copyto(out.view("u8")[backwards], stored.view("u8"))
            if self.bits == 16:
                np.copyto(out, out.view(">u2"))


@functools.cache
def _eight_pixels(turned: bool) -> np.ndarray:
    """Bits of every possible byte as eight bytes in one number; the lowest bit is the first pixel, or the last one."""
    bits = np.unpackbits(np.arange(256, dtype="u1")[:, None], axis=1, bitorder="big" if turned else "little")
    return bits.view("u8")[:, 0]


@dataclass(frozen=True)
class HighAndLow:
    """Two images one behind the other: the high bits of every pixel, then the low ones.

    Parameters
    ----------
    half
        How each image is stored.
    low_bits
        Number of low bits.
    """

    half: Decoder
    low_bits: int

    @property
    def dtype(self) -> np.dtype:
        """Twice as wide as a half."""
        return np.dtype(f"u{2 * self.half.dtype.itemsize}")

    def stored_bytes(self, shape: tuple[int, ...]) -> int:
        """Those of both images."""
        return 2 * self.half.stored_bytes(shape)

    def decode(self, stored: np.ndarray, out: np.ndarray) -> None:
        """Decode frames, one at a time so that they stay in the cache."""
        middle = stored.shape[1] // 2
        half = np.empty((1, *out.shape[1:]), self.half.dtype)
        for frame, pixels in zip(stored, out, strict=True):
            self.half.decode(frame[None, :middle], half)
            np.left_shift(half[0], self.low_bits, out=pixels, dtype=out.dtype)
            self.half.decode(frame[None, middle:], half)
            np.add(pixels, half[0], out=pixels)


@dataclass(frozen=True)
class FourQuarters:
    """A frame of four quarters that were read out at once, the lower two of which are mounted upside down.

    Each stored line has a row of each quarter: ``[4 | 3 | 2 | 1]``, where quarters 1 and 2 are the upper ones and
    3 and 4 the lower ones, turned by 180 degrees.

    Parameters
    ----------
    words
        How pixels are stored.
    gap
        Blank rows and columns between the quarters.

    Examples
    --------
    >>> pixels = np.empty((1, 2, 16), "u1")
    >>> FourQuarters(ReversedWords(8)).decode(np.arange(32, dtype="u1")[None], pixels)
    >>> pixels[0].tolist()
    [[31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16],
     [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7]]
    """

    words: ReversedWords
    gap: int = 0

    @property
    def moves(self) -> np.dtype | None:
        """As the words, if nothing is filled in."""
        return None if self.gap else self.words.moves

    @property
    def dtype(self) -> np.dtype:
        """As the quarters."""
        return self.words.dtype

    def stored_bytes(self, shape: tuple[int, ...]) -> int:
        """The gap is not stored."""
        return self.words.stored_bytes(tuple(n - self.gap for n in shape))

    def decode(self, stored: np.ndarray, out: np.ndarray) -> None:
        """Decode frames."""
        rows, columns = ((n - self.gap) // 2 for n in out.shape[1:])
        lines = stored.reshape(len(stored), rows, 4, -1)
        turned = out[:, ::-1, ::-1]
        self.words.decode_lines(lines[:, :, 0], turned[:, :rows, :columns])
        self.words.decode_lines(lines[:, :, 1], turned[:, :rows, columns + self.gap :])
        self.words.decode_lines(lines[:, :, 2], out[:, :rows, columns + self.gap :])
        self.words.decode_lines(lines[:, :, 3], out[:, :rows, :columns])
        if self.gap:
            out[:, rows : rows + self.gap] = 0
            out[:, :, columns : columns + self.gap] = 0


@dataclass(frozen=True)
class Folded:
    """Frames whose lower half lies beside the upper one, turned by 180 degrees, as sensors read out from two sides do.

    Parameters
    ----------
    pixel
        Stored type, with its byte order.
    rows, columns
        Of the frame as it is stored; columns are even.
    repeat
        How often each row is repeated, where the camera has added up so many.

    Examples
    --------
    >>> pixels = np.empty((1, 4, 2), "u1")
    >>> Folded(np.dtype("u1"), 2, 4).decode(np.arange(1, 9, dtype="u1")[None], pixels)
    >>> pixels[0].tolist()
    [[1, 2], [5, 6], [8, 7], [4, 3]]
    """

    pixel: np.dtype
    rows: int
    columns: int
    repeat: int = 1

    @property
    def moves(self) -> np.dtype | None:
        """Pixels as they are stored, if none is repeated."""
        return self.pixel if self.repeat == 1 else None

    @property
    def dtype(self) -> np.dtype:
        """As stored, native byte order."""
        return self.pixel.newbyteorder("=")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of an unfolded frame."""
        return 2 * self.rows * self.repeat, self.columns // 2

    def stored_bytes(self, shape: tuple[int, ...]) -> int:
        """Repeated rows are stored once, whatever shape an unfolded frame is given."""
        return self.rows * self.columns * self.pixel.itemsize

    def decode(self, stored: np.ndarray, out: np.ndarray) -> None:
        """Decode frames, one at a time so that they stay in the cache."""
        folded = stored.view(self.pixel).reshape(len(stored), self.rows, self.columns)
        if out.shape[1:] == self.shape:
            self._unfold(folded, out)
            return
        for frame, pixels in zip(folded, out, strict=True):
            unfolded = np.empty((1, *self.shape), self.dtype)
            self._unfold(frame[None], unfolded)
            pixels[...] = unfolded.reshape(pixels.shape)

    def _unfold(self, folded: np.ndarray, out: np.ndarray) -> None:
        width = self.columns // 2
        turned = folded[:, ::-1, : -width - 1 : -1]
        for k, frame in enumerate(out):
            for first in range(self.repeat):
                seen = frame[first :: self.repeat]
                seen[: self.rows] = folded[k, :, :width]
                seen[self.rows :] = turned[k]


@dataclass(frozen=True)
class Moments:
    """Times since 1970 that are stored as several numbers, such as seconds and microseconds.

    Parameters
    ----------
    parts
        Type of the record: each field is named after its unit, as NumPy spells it (``"s"``, ``"ms"``, ``"us"``).

    Examples
    --------
    >>> moment = np.empty(1, "M8[ns]")
    >>> Moments(np.dtype([("s", "<u4"), ("us", "<u4")])).decode(np.array([[2, 0, 0, 0, 5, 0, 0, 0]], "u1"), moment)
    >>> str(moment[0])
    '1970-01-01T00:00:02.000005000'
    """

    parts: np.dtype

    @property
    def dtype(self) -> np.dtype:
        """Nanoseconds, as xarray and pandas prefer."""
        return np.dtype("M8[ns]")

    def stored_bytes(self, shape: tuple[int, ...]) -> int:
        """Those of the record."""
        return self.parts.itemsize

    def decode(self, stored: np.ndarray, out: np.ndarray) -> None:
        """Add the parts up."""
        records = stored.view(self.parts)[:, 0]
        out[...] = np.datetime64(0, "ns")
        for unit in self.parts.names or ():
            out += records[unit].astype("i8").astype(f"m8[{unit}]")


@dataclass(frozen=True)
class TextField:
    """A value in a line of text whose fields are separated by commas, such as a time in the header of each frame.

    What cannot be read as such a value is 0, NaN or NaT.

    Parameters
    ----------
    length
        Bytes of the line; what is left of it is filled with zero bytes, blanks or anything.
    place
        Number of the field.
    kind
        Type of the value: ``"i8"``, ``"f8"`` or ``"M8[ns]"``.
    after
        Text of the field from which `place` is counted; default: the first one.
    divisor
        What numbers are divided by.

    Examples
    --------
    >>> line = np.frombuffer(b"F,07,   2500ns,2021-04-15T13:44:43.100924481Z,", "u1")
    >>> values = np.empty(1)
    >>> TextField(len(line), 2, "f8", divisor=1000).decode(line[None], values)
    >>> values.tolist()
    [2.5]
    """

    length: int
    place: int
    kind: str
    after: str | None = None
    divisor: float = 1

    @property
    def dtype(self) -> np.dtype:
        """Type of the value."""
        return np.dtype(self.kind)

    def stored_bytes(self, shape: tuple[int, ...]) -> int:
        """Those of the line."""
        return self.length

    def decode(self, stored: np.ndarray, out: np.ndarray) -> None:
        """Read the value of each line; all lines with commas in the same places at once."""
        if not len(stored):
            return
        commas = stored == ord(",")
        same = (commas == commas[0]).all(axis=1)
        if same.all():
            out[...] = self._values(stored, commas[0])
            return
        patterns, group = np.unique(np.packbits(commas, axis=1), axis=0, return_inverse=True)
        for number in range(len(patterns)):
            members = np.flatnonzero(group.reshape(-1) == number)
            out[members] = self._values(stored[members], commas[members[0]])

    def _values(self, lines: np.ndarray, commas: np.ndarray) -> np.ndarray:
        """Values of lines with commas in the same places."""
        borders = [-1, *np.flatnonzero(commas).tolist(), self.length]
        place = self.place
        if self.after is not None:
            names = lines[0].tobytes().decode("latin-1").split(",")
            place += next((k for k, name in enumerate(names) if name.strip() == self.after), len(names))
        texts = np.zeros(len(lines), "S1")
        if place < len(borders) - 1 and borders[place + 1] > borders[place] + 1:
            column = np.ascontiguousarray(lines[:, borders[place] + 1 : borders[place + 1]])
            texts = np.strings.strip(column.view(f"S{column.shape[1]}")[:, 0], AROUND_VALUES)
        values = _parsed(texts, self.dtype)
        return values if self.divisor == 1 else values / self.divisor


AROUND_VALUES = b" \r\n\0nNsSZ"
"""What may stand around a number or a time: blanks, a unit (`ns`, `nS`, `s`), a time zone (UTC)."""

DAY_FIRST = re.compile(rb"(\d\d)/(\d\d)/(\d{4}) ")


def _parsed(texts: np.ndarray, dtype: np.dtype) -> np.ndarray:
    try:
        return texts.astype(dtype)
    except (ValueError, OverflowError):
        return np.array([_parsed_alone(text, dtype) for text in texts.tolist()], dtype)


def _parsed_alone(text: bytes, dtype: np.dtype) -> np.ndarray:
    """Parse one text, also times such as ``15/04/2018 12:30:00.123``."""
    try:
        return np.array(DAY_FIRST.sub(rb"\3-\2-\1 ", text)).astype(dtype)
    except (ValueError, OverflowError):
        return nothing(dtype)


def nothing(dtype: np.dtype) -> np.ndarray:
    """Return what stands where there is no value: 0, NaN or, of times, NaT."""
    return np.array({"M": "NaT", "f": "nan"}.get(dtype.kind, 0), dtype)


# Numbers of odd sizes ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Nibbles:
    """Pixels of four bits, two in a byte: the left one in the lower half; each row begins with a new byte.

    Parameters
    ----------
    rows, columns
        Of the frame as it is stored; it can be handed out in any shape of as many pixels.

    Examples
    --------
    >>> pixels = np.empty((1, 1, 3), "u1")
    >>> Nibbles(1, 3).decode(np.array([[0x21, 0xF3]], "u1"), pixels)
    >>> pixels.tolist()
    [[[1, 2, 3]]]
    """

    rows: int
    columns: int

    @property
    def dtype(self) -> np.dtype:
        """A byte for each."""
        return np.dtype("u1")

    def stored_bytes(self, shape: tuple[int, ...]) -> int:
        """Whole bytes for each row, whatever shape is handed out."""
        return self.rows * -(-self.columns // 2)

    def decode(self, stored: np.ndarray, out: np.ndarray) -> None:
        """Decode frames."""
        pairs = stored.reshape(len(stored), self.rows, -1)
        if out.shape[1:] == (self.rows, self.columns):
            self._part(pairs, out)
            return
        for frame, pixels in zip(pairs, out, strict=True):
            whole = np.empty((self.rows, self.columns), "u1")
            self._part(frame, whole)
            pixels[...] = whole.reshape(pixels.shape)

    def _part(self, pairs: np.ndarray, out: np.ndarray) -> None:
        np.bitwise_and(pairs, 15, out=out[..., ::2])
        np.right_shift(pairs[..., : self.columns // 2], 4, out=out[..., 1::2])


@dataclass(frozen=True)
class ComplexIntegers:
    """Complex numbers that are stored as two integers of 16 bits, the real one first; single floats hold them exactly.

    Parameters
    ----------
    part
        Stored type of each integer, with its byte order.

    Examples
    --------
    >>> numbers = np.empty((1, 2), "c8")
    >>> ComplexIntegers(np.dtype(">i2")).decode(np.array([[0, 1, 255, 254, 0, 0, 1, 0]], "u1"), numbers)
    >>> numbers.tolist()
    [[(1-2j), 256j]]
    """

    part: np.dtype

    @property
    def dtype(self) -> np.dtype:
        """Single precision."""
        return np.dtype("c8")

    def stored_bytes(self, shape: tuple[int, ...]) -> int:
        """Two integers for each."""
        return 2 * self.part.itemsize * math.prod(shape)

    def decode(self, stored: np.ndarray, out: np.ndarray) -> None:
        """Decode frames."""
        parts = stored.view(self.part).reshape(*out.shape, 2)
        out.real[...] = parts[..., 0]
        out.imag[...] = parts[..., 1]
