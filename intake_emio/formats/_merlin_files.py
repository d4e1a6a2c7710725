"""Files of a Merlin acquisition: how frames lie in each, and which ones belong together in which order.

Rules and quirks: docs/formats/mib.md.
"""

from __future__ import annotations

import itertools
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ..errors import EmioError, EmioWarning, HeaderError, MissingFileError
from ..frames.decoders import Decoder, FourQuarters, HighAndLow, ReversedWords
from ..frames.files import File
from ._merlin import EXTENSION, MAGIC, FrameHeader, Settings, is_hdr, read_frame_header, read_hdr

UNSIGNED = {"U01": "u1", "U08": "u1", "U16": ">u2", "U32": ">u4", "U64": ">u8"}
RAW: dict[int, Decoder] = {
    1: ReversedWords(1),
    6: ReversedWords(8),
    12: ReversedWords(16),
    24: HighAndLow(ReversedWords(16), 12),
}
BYTE = np.dtype("u1")
CHIP = 256
GAP = 2  # blank rows and columns between the chips of a layout "G"
MOST_CHANNELS = 8
DIGITS = "0123456789"
THREADS = 8  # that read headers of many files


@dataclass(frozen=True)
class Part:
    """A file of an acquisition.

    Parameters
    ----------
    file
        Its name.
    header
        Of its first frame.
    shape
        Of a decoded frame.
    dtype, decoder
        How pixels are stored.
    stride
        Bytes from one frame to the next.
    """

    file: File
    header: FrameHeader
    shape: tuple[int, int]
    dtype: np.dtype
    decoder: Decoder | None
    stride: int

    @property
    def frames(self) -> int:
        """Number of complete frames."""
        return self.file.size // self.stride

    @property
    def rest(self) -> int:
        """Bytes behind the last complete frame."""
        return self.file.size % self.stride

    def header_of(self, frame: int) -> FrameHeader:
        """Header of any frame."""
        return read_frame_header(self.file, frame * self.stride)


def inspect(file: File) -> Part:
    """Find out how frames lie in a file, from its first header and its size.

    Raises
    ------
    HeaderError
        If it has no complete frame, or pixels that cannot be decoded.
    """
    header = read_frame_header(file)
    shape, dtype, decoder = _storage(file, header)
    pixels = math.prod(shape) * dtype.itemsize if decoder is None else decoder.stored_bytes(shape)
    return Part(file, header, shape, dtype, decoder, header.header_bytes + pixels)


def _storage(file: File, header: FrameHeader) -> tuple[tuple[int, int], np.dtype, Decoder | None]:
    """Shape of a frame, and how its pixels are stored."""
    shape = (header.height, header.width)
    if header.kind in UNSIGNED:
        return shape, np.dtype(UNSIGNED[header.kind]), None
    if header.kind != "R64":
        raise HeaderError(
            f"{file}: pixel type {header.kind!r} is unknown, expected R64 or one of {', '.join(UNSIGNED)}"
        )
    words = RAW.get(header.depth or 0)
    if words is None:
        found = "is missing" if header.depth is None else f"is {header.depth}"
        raise HeaderError(
            f"{file}: raw pixels (R64) need the depth of the counter behind {EXTENSION} in the frame header, one of "
            f"{', '.join(map(str, RAW))}; it {found}"
        )
    if header.chips > 1:
        return _raw_quad(file, header, words)
    if header.depth == 24:  # the header counts the columns of both images
        if header.width % 2:
            raise HeaderError(f"{file}: raw pixels of 24 bits in {header.width} columns, expected an even number")
        shape = (header.height, header.width // 2)
    bits = math.prod(shape) * {1: 1, 6: 8}.get(header.depth or 0, 16)
    if bits % 64:
        raise HeaderError(f"{file}: raw frames of {shape} at {header.depth} bits are no whole number of 64 bit words")
    return shape, BYTE, words


def _raw_quad(file: File, header: FrameHeader, words: Decoder) -> tuple[tuple[int, int], np.dtype, Decoder]:
    """Four chips side by side in the file, as the square that they are; nobody has decoded anything else."""
    size = (header.height, header.width)
    quad = header.layout in ("2X2", "2X2G") and header.chips == 4 and size == (CHIP, 4 * CHIP)
    if not quad or not isinstance(words, ReversedWords):
        raise HeaderError(
            f"{file}: raw pixels (R64) of {header.chips} chips in layout {header.layout.lower()}, {size[0]} x {size[1]}"
            f" at {header.depth} bits: how they lie is not known. Known are single chips, and 2x2 of four with 256 "
            "rows at 1, 6 or 12 bits; save as integers (U08, U16, U32) instead"
        )
    gap = GAP if header.layout.endswith("G") else 0
    return (2 * CHIP + gap, 2 * CHIP + gap), BYTE, FourQuarters(words, gap)


def _check_frames(part: Part) -> None:
    """Check that there is a frame, and that headers are where they must be."""
    if not part.frames:
        raise HeaderError(
            f"{part.file}: not even one complete frame: {part.shape[0]} x {part.shape[1]} pixels ({part.header.kind}) "
            f"and their header need {part.stride} bytes, the file has {part.file.size}"
        )
    magic = part.file.read(0, len(MAGIC))
    for frame in sorted({min(1, part.frames - 1), part.frames - 1} - {0}):
        found = part.file.read(frame * part.stride, len(magic))
        if found != magic:
            raise HeaderError(
                f"{part.file}: the header of frame {frame} is not where it must be: byte {frame * part.stride} has "
                f"{found!r}, expected {magic!r}. The size of frames in the first header is wrong"
            )


# Files ---------------------------------------------------------------------------------------------------------------


def find_acquisition(file: File, alone: bool) -> tuple[tuple[Part, ...], Settings]:
    """Files of an acquisition in the order of their frames, and what its `.hdr` file says.

    Parameters
    ----------
    file
        A `.mib` or `.hdr` file.
    alone
        Whether to look at the one `.mib` file only.

    Raises
    ------
    MissingFileError
        If there is no `.mib` file.
    HeaderError
        If files are missing or do not fit together.
    """
    if is_hdr(file):
        settings = read_hdr(file)
        separated = re.compile(re.escape(file.stem) + r"[-_. ]?\d*")
        names = _data_files(file, separated)
        if not names:
            raise MissingFileError(f"{file}: there is no .mib file named {file.stem}.mib or {file.stem}1.mib beside it")
        exact = [name for name in names if name[:-4] == file.stem]
        named = (exact or names)[0] if exact or len(names) == 1 else None
    else:
        settings = _settings_beside(file)
        names = _data_files(file, re.compile(re.escape(file.stem.rstrip(DIGITS)) + r"\d*"))
        named = file.name
        if file.name not in names:  # another extension, or a folder that cannot be listed
            names = [file.name]
    if alone or len(names) == 1:
        if named is None:
            raise _ambiguous(file, names)
        part = inspect(file if named == file.name else file.sibling(named))
        _check_frames(part)
        return (part,), settings
    parts = _inspect_all(file, names, named)
    return _select(file, parts, settings, named), settings


def _data_files(file: File, stem: re.Pattern[str]) -> list[str]:
    return [n for n in file.neighbours if n[-4:].lower() == ".mib" and stem.fullmatch(n[:-4])]


def _settings_beside(file: File) -> Settings:
    """Entries of the `.hdr` file of a `.mib` file; none if there is no such file."""
    prefix = file.stem.rstrip(DIGITS)
    wanted = [file.stem, prefix, prefix[:-1] if prefix[-1:] in tuple("_-. ") else prefix]
    listed = {n.lower(): n for n in reversed(file.neighbours)}
    for stem in dict.fromkeys(filter(None, wanted)):
        name = listed.get(f"{stem}.hdr".lower(), None if listed else f"{stem}.hdr")
        if name and (listed or file.sibling(name).exists()) and is_hdr(file.sibling(name)):
            return read_hdr(file.sibling(name))
    return Settings()


def _inspect_all(file: File, names: Sequence[str], named: str | None) -> list[Part]:
    """Read the first headers of several files; those without a complete frame are left out."""

    def look(name: str) -> Part | EmioError | None:
        try:
            part = inspect(file if name == file.name else file.sibling(name))
            if not part.frames and name != named:
                return None
            _check_frames(part)
        except EmioError as error:
            return error if name == named or file.sibling(name).size else None
        return part

    with ThreadPoolExecutor(THREADS) as threads:
        found = list(threads.map(look, names))
    parts = []
    for name, part in zip(names, found, strict=True):
        if isinstance(part, EmioError):
            if name == named:
                raise part
            raise HeaderError(f"{part}. {_alone(name)}") from part
        if part is None:
            warnings.warn(f"{file.sibling(name)}: not even one complete frame: ignored", EmioWarning, 4)
        else:
            parts.append(part)
    if not parts:
        raise HeaderError(f"{file}: no .mib file beside it has a complete frame")
    return parts


def _select(file: File, parts: list[Part], settings: Settings, named: str | None) -> tuple[Part, ...]:
    """Files that belong together, in the order of their frames: the first frame of one follows the last of another."""
    ordered = sorted(parts, key=lambda part: (part.header.number, part.file.name))
    channels = len(find_channels(ordered, settings))
    holes = []
    for part, following in itertools.pairwise(ordered):
        number, start = part.header.number, following.header.number
        ends = {number + part.frames}
        if part.frames % channels == 0:
            ends.add(number + part.frames // channels)  # the images of an exposure may share a number
        if start in ends:
            continue
        if start < max(ends):
            return (_named_one(file, ordered, named),)
        holes.append((max(ends), start, following))
    for part in ordered:
        if part.header.geometry != ordered[0].header.geometry:
            raise HeaderError(
                f"{part.file}: its frames are others than those of {ordered[0].file.name}: "
                f"{_words(part.header)}, not {_words(ordered[0].header)}. {_alone(file.name)}"
            )
    if holes:
        end, start, following = holes[0]
        raise HeaderError(
            f"{file}: frames {end} to {start - 1} are missing in front of {following.file.name}: a file is not there "
            f"or cut short. {_alone(file.name)}"
        )
    return tuple(ordered)


def _named_one(file: File, parts: Sequence[Part], named: str | None) -> Part:
    """Return the one file that was asked for, of several acquisitions with similar names."""
    chosen = [part for part in parts if part.file.name == named]
    if not chosen:
        raise _ambiguous(file, [part.file.name for part in parts])
    others = sorted(part.file.name for part in parts if part.file.name != named)
    warnings.warn(
        f"{file}: {', '.join(others[:3])}{' ...' if len(others) > 3 else ''} beside it have frames of the same "
        f"numbers, so they are other acquisitions, and only {named} is read; disable_glob=True says so explicitly",
        EmioWarning,
        5,
    )
    return chosen[0]


def _ambiguous(file: File, names: Sequence[str]) -> HeaderError:
    listed = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
    return HeaderError(f"{file}: it may belong to any of {listed}: open one of these, with disable_glob=True")


def _alone(name: str) -> str:
    return f"To look at {name} only, pass disable_glob=True"


def _words(header: FrameHeader) -> str:
    depth = "" if header.depth is None else f" at {header.depth} bits"
    return f"{header.height} x {header.width} {header.kind}{depth} in layout {header.layout.lower()}"


# Images of an exposure -----------------------------------------------------------------------------------------------


def find_channels(parts: Sequence[Part], settings: Settings) -> tuple[int, ...]:
    """Numbers of the images that each exposure consists of: counters that are read together, or colours.

    Alternating counters are no channels: they take turns, so that one counts while the other is read.
    """
    both = re.fullmatch(r"\W*counter 0\W.*counter 1\W*", settings.text("Active Counters").lower())
    if not (parts[0].header.colour or both):
        return (parts[0].header.counter,)
    seen = [header.counter for header in itertools.islice(_headers(parts), 2 * MOST_CHANNELS)]
    period = next((k for k in range(1, len(seen)) if seen[k] == seen[0]), len(seen))
    cycle = tuple(seen[:period])
    looked_at = seen[: 2 * period]
    if period > MOST_CHANNELS or len(set(cycle)) < period or looked_at != list(cycle + cycle)[: len(looked_at)]:
        warnings.warn(
            f"{parts[0].file}: several images per exposure, but their numbers {seen} do not repeat: each is shown as "
            "a frame of its own",
            EmioWarning,
            3,
        )
        return cycle[:1]
    return cycle


def _headers(parts: Sequence[Part]) -> Iterator[FrameHeader]:
    for part in parts:
        for frame in range(part.frames):
            yield part.header_of(frame)
