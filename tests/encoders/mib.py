"""Merlin acquisitions: `.mib` files of frames, each behind a text header, and the `.hdr` beside them.

Layout: docs/formats/mib.md.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, repeat
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Kind = Literal["U01", "U08", "U16", "U32", "U64", "R64"]

PIXEL = {"U01": "u1", "U08": "u1", "U16": ">u2", "U32": ">u4", "U64": ">u8"}
DEPTH = {"U01": 1, "U08": 6, "U16": 12, "U32": 24, "U64": 24, "R64": 12}  # of the counter, if not told
RAW_BITS = {1: 1, 6: 8, 12: 16, 24: 32}  # per pixel as stored, by counter depth
CHIPS = {"1x1": 1, "2x2": 4}
GAP = 2  # pixels between the chips of a layout "G"

DACS = [
    *(11, 511, 0, 0, 0, 0, 0, 0),  # thresholds
    *(175, 10, 200, 125, 100, 100, 93, 100, 99, 30, 128, 4, 255, 140, 128, 191, 179, 511, 511),
]
DAC_TEXT = ",".join(f"{value:03}" for value in DACS)
PADDED = {"number": "06", "header_bytes": "05", "chips": "02", "width": "04", "height": "04"}
LOCAL_TIME = np.timedelta64(1, "h")  # ahead of UTC
LEGACY_HEADER = 256
BLOCK = 1 << 24  # bytes written at once


@dataclass(frozen=True)
class Dialect:
    """How a program writes the headers of the frames.

    Parameters
    ----------
    padded
        Numbers have leading zeros, and the layout leading blanks.
    chip_settings
        Thresholds, chip types and DACs are there. Raw files before 0.7x have one empty field instead.
    extension
        The field `MQ1A` and the three behind it are there.
    day_first
        Local times as they were before 2018: `15/04/2017 12:30:00.123`.
    unit
        Of the exposure in the extension. 0.65 has `nS`.
    end
        Text behind the last field.
    filler
        Byte that fills the rest of the header.
    """

    padded: bool = True
    chip_settings: bool = True
    extension: bool = True
    day_first: bool = False
    unit: str = "ns"
    end: str = ","
    filler: bytes = b"\0"


MERLIN = Dialect()


def write_mib(
    path: str | Path,
    frames: NDArray,
    *,
    kind: Kind = "U16",
    depth: int | None = None,
    layout: str = "1x1",
    chips: int | None = None,
    header_bytes: int | None = None,
    first_number: int = 1,
    counters: ArrayLike = 0,
    colour: bool = False,
    start_time: str = "2021-04-15T13:43:47.008505401",
    times: ArrayLike | None = None,
    exposure_s: ArrayLike = 0.001,
    thresholds: Sequence[float] = (2, 511),
    dialect: Dialect = MERLIN,
    fields: Mapping[str, ArrayLike] | None = None,
    part: slice = slice(None),
) -> Path:
    """Write frames as a MIB file.

    "Per frame" means one value, or several that are repeated cyclically.

    Parameters
    ----------
    path
        The file.
    frames
        Pixels in stored row order, (n, height, width), decoded. Raw quads have 512 rows and columns; those
        with a gap 514, of which the cross is left out. A broadcast view costs no memory.
    kind
        Pixel type: U for unsigned integers as they are, R64 for the memory of the chips.
    depth
        Of the counter in bits: 1, 6, 12 or 24. It decides how R64 is stored. None: what the pixel type
        holds, 12 for R64.
    layout
        `1x1`, `2x2`, `Nx1`, `2x2G` or `Nx1G`.
    chips
        Number of chips. None: by the layout, N as the width has it. R64 of four chips in `2x2` is scattered
        as a quad; any other R64 is stored row by row.
    header_bytes
        Size of the frame headers. None: 256, and 128 for each chip.
    first_number
        Of the first frame.
    counters
        Counter, or index of the colour, per frame.
    colour
        Colour mode; says so in the header, and no more.
    start_time
        UTC of the first frame, to the ns.
    times
        In s since the start, per frame. None: one exposure after the other.
    exposure_s
        In s, per frame.
    thresholds
        In keV, up to eight.
    dialect
        Spelling of the headers.
    fields
        Values for any header field by name, per frame: `magic`, `number`, `header_bytes`, `chips`, `width`,
        `height`, `kind`, `layout`, `enabled`, `time`, `exposure`, `counter`, `colour`, `gain`, `thresholds`,
        `chip_settings`, `extension`, `utc`, `exposure_ns`, `depth`. Text stays as it is. They go last, and
        change what the header says, never the layout.
    part
        Frames that go into this file. Numbers and all values per frame count from the first of `frames`.

    Returns
    -------
    Path
        The file.
    """
    n, height, width = frames.shape
    index = np.arange(*part.indices(n))
    if depth is None:
        depth = DEPTH[kind]
    if chips is None:
        chips = CHIPS.get(layout.removesuffix("G"), max(1, width // (128 if colour else 256)))
    if header_bytes is None:
        header_bytes = 256 + 128 * chips
    quad = kind == "R64" and chips == 4 and layout.startswith("2x2")
    gap = GAP if layout.endswith("G") else 0
    if quad:
        height, width = (height - gap) // 2, (width - gap) * 2
    exposure = _per_frame(exposure_s, index)
    utc = _clock(start_time, index * exposure if times is None else _per_frame(times, index))
    values: dict[str, Any] = {
        "magic": "MQ1",
        "number": first_number + index,
        "header_bytes": header_bytes,
        "chips": chips,
        "width": width * 2 if kind == "R64" and depth == 24 else width,
        "height": height,
        "kind": kind,
        "layout": f"{layout:>6}" if dialect.padded else layout,
        "enabled": f"{(1 << chips) - 1:02X}",
        "time": _local_times(utc, dialect.day_first),
        "exposure": [f"{seconds:.6f}" for seconds in exposure],
        "counter": _per_frame(counters, index),
        "colour": int(colour),
        "gain": 0,
        "thresholds": _exponential([*thresholds, *[0] * 8][:8]),
        "chip_settings": ",".join([f"3RX,{DAC_TEXT}"] * chips),
        "extension": "MQ1A",
        "utc": [f"{time}Z" for time in np.datetime_as_string(utc)],
        "exposure_ns": [f"{seconds * 1e9:.0f}{dialect.unit}" for seconds in exposure],
        "depth": depth,
    }
    for name, value in (fields or {}).items():
        if name not in values:
            raise ValueError(f"{name!r} is none of the fields {', '.join(values)}")
        values[name] = _per_frame(value, index)

    pixels, encode = _storage(kind, depth, (height, width), gap if quad else None)
    headers = _headers(_spelt(values, dialect), header_bytes, dialect)
    return _write_records(path, header_bytes, headers, frames[part], pixels, encode)


def write_mib_series(
    folder: str | Path,
    prefix: str,
    frames: NDArray,
    *,
    per_file: int,
    digits: int = 1,
    first_file: int = 1,
    extension: str = ".mib",
    **options: Any,
) -> list[Path]:
    """Write one acquisition as several MIB files `<prefix>1.mib`, `<prefix>2.mib` ...

    Parameters
    ----------
    folder, prefix
        Where, and what the names begin with.
    frames
        Pixels of all files, as for `write_mib`.
    per_file
        Frames per file; the last may have fewer.
    digits
        Least number of digits in the names.
    first_file
        Number in the first name.
    extension
        As it is to be spelt.
    **options
        For `write_mib`. Values per frame go on across the files.

    Returns
    -------
    list of Path
        The files.
    """
    paths = []
    for number, start in enumerate(range(0, len(frames), per_file), first_file):
        path = Path(folder, f"{prefix}{number:0{digits}}{extension}")
        paths.append(write_mib(path, frames, part=slice(start, start + per_file), **options))
    return paths


def write_hdr(
    path: str | Path,
    *,
    scan: tuple[int, int] | None = None,
    frames: int = 1,
    frames_per_trigger: int = 1,
    depth: int | str = 12,
    layout: str = "1x1",
    chip_mode: str = "SPM",
    active_counters: str = "Counter 0",
    entries: Mapping[str, Any] | None = None,
    lines: Iterable[str] = (),
    colon: str = ":",
    newline: str = "\r\n",
    size: int | None = 2048,
) -> Path:
    """Write the text file of an acquisition.

    Parameters
    ----------
    path
        The file.
    scan
        `ScanY` and `ScanX`. None: left out, as before 1.5.
    frames
        Number of frames that were asked for. 0: endless.
    frames_per_trigger
        0 if endless.
    depth
        Of the counter, `12` or the old `12B`.
    layout
        As in the frames.
    chip_mode
        `SPM`, `CSM`, `CM` or `CSCM`.
    active_counters
        `Counter 0`, `Counter 1`, `Counter 0, Counter 1`, `Alternating` ...
    entries
        Values by key, for these or other keys. They go last. None leaves a key out.
    lines
        Further lines as they are, whatever they may be.
    colon
        What comes between a key and the tab.
    newline
        End of a line.
    size
        Bytes of the file, filled with blanks behind the line `End`. None: there is no such line.

    Returns
    -------
    Path
        The file.
    """
    values = {
        "Time and Date Stamp (day, mnth, yr, hr, min, s)": "15/04/2021 14:43:47",
        "Chip ID": "W100_A1, - , - , - ",
        "Chip Type (Medipix 3.0, Medipix 3.1, Medipix 3RX)": "Medipix 3RX",
        "Assembly Size (NX1, 2X2)": f"{layout:>6}",
        "Chip Mode  (SPM, CSM, CM, CSCM)": chip_mode,
        "Counter Depth (number)": depth,
        "Gain": "SLGM",
        "Active Counters": active_counters,
        "Thresholds (keV)": _exponential([2, 511, 0, 0, 0, 0, 0, 0]),
        "DACs": f"{DAC_TEXT}; ; ; ",
        "bpc File": r"c:\Merlin\W100_A1_SPM.bpc,,,",
        "DAC File": r"c:\Merlin\W100_A1_SPM.dacs,,,",
        "Gap Fill Mode": "None",
        "Flat Field File": "None",
        "Dead Time File": r"Dummy (C:\<NUL>\)",
        "Acquisition Type (Normal, Th_scan, Config)": "Normal",
        "Frames in Acquisition (Number)": frames,
        "Frames per Trigger (Number)": frames_per_trigger,
        "Trigger Start (Positive, Negative, Internal)": "Internal",
        "Trigger Stop (Positive, Negative, Internal)": "Internal",
        "Sensor Bias (V)": "120 V",
        "Sensor Polarity (Positive, Negative)": "Positive",
        "Temperature (C)": "Board Temp 43.809250 Deg C",
        "Humidity (%)": "Board Humidity 14.576477 ",
        "Medipix Clock (MHz)": "180MHz",
        "Readout System": "Merlin Quad",
        "Software Version": "0.77",
        **({} if scan is None else {"ScanX": scan[1], "ScanY": scan[0]}),
        **(entries or {}),
    }
    stated = [f"{key}{colon}\t{value}" for key, value in values.items() if value is not None]
    text = "".join(line + newline for line in ["HDR,\t", *stated, *lines])
    if size is not None:
        text = f"{text}End\t".ljust(size)
    path = Path(path)
    path.write_bytes(text.encode("latin-1"))
    return path


def write_legacy_mib(
    path: str | Path,
    frames: NDArray,
    *,
    depth: Literal[12, 24] = 12,
    first_number: int = 1,
    counters: ArrayLike = 0,
    start_time: str = "2015-08-11T17:55:11.682",
    exposure_s: float = 0.001,
    thresholds: tuple[float, float] = (27, 3.6),
) -> Path:
    """Write frames as the software of 2015 did, which has another header and no `MQ1`.

    Parameters
    ----------
    path
        The file.
    frames
        Pixels in stored row order, (n, 256, 256).
    depth
        12 is stored as uint16, 24 as uint32.
    first_number
        Of the first frame.
    counters
        Per frame: one value, or several that are repeated cyclically.
    start_time
        Local time of the first frame, to the ms. The others follow one exposure after the other.
    exposure_s
        In s.
    thresholds
        In keV.

    Returns
    -------
    Path
        The file.
    """
    index = np.arange(len(frames))
    times = _clock(start_time, index * exposure_s)
    values = {
        "depth": f"{depth}B",
        "number": [f"{number:06}" for number in first_number + index],
        "counter": _per_frame(counters, index),
        "time": [time.replace("T", " ") for time in np.datetime_as_string(times, "ms")],
        "exposure_ms": _exponential([exposure_s * 1000]),
        "thresholds": _exponential(thresholds),
        "dacs": DAC_TEXT,
    }
    pixels = np.dtype((">u2" if depth == 12 else ">u4", frames.shape[1:]))
    return _write_records(path, LEGACY_HEADER, _headers(values, LEGACY_HEADER, MERLIN), frames, pixels)


def _storage(
    kind: Kind, depth: int, shape: tuple[int, int], gap: int | None
) -> tuple[np.dtype, Callable[[NDArray], NDArray]]:
    """Return the type of a frame in the file, and what makes such frames of the decoded ones."""
    if kind == "R64":
        words = prod(shape) * RAW_BITS[depth] // 64
        return np.dtype((">u8", (words,))), partial(raw_words, depth=depth, gap=gap)
    return np.dtype((PIXEL[kind], shape)), np.asarray


def raw_words(frames: NDArray, depth: int, gap: int | None = None) -> NDArray[np.uint64]:
    """Pixels as the words of 64 bits that the chips send, (n, words).

    The first pixel of a word has its lowest bits. With a `gap`, possibly 0, the frames are quads.

    Examples
    --------
    >>> [f"{word:016x}" for word in raw_words(np.arange(8).reshape(1, 1, 8), depth=6)[0]]
    ['0706050403020100']
    >>> [f"{word:016x}" for word in raw_words(np.array([[[258, 0, 0, 4095]]]), depth=12)[0]]
    ['0fff000000000102']
    """
    if gap is not None:
        frames = _quad_lines(frames, gap)
    pixels = np.ascontiguousarray(frames).reshape(len(frames), -1)
    if depth == 1:
        stored = np.packbits(pixels != 0, axis=1, bitorder="little")
    elif depth == 6:
        stored = pixels.astype("u1")
    elif depth == 12:
        stored = pixels.astype("<u2")
    else:  # two images, high bits first
        stored = np.concatenate([pixels >> 12, pixels & 0xFFF], axis=1).astype("<u2")
    return stored.view("<u8")


def _quad_lines(frames: NDArray, gap: int) -> NDArray:
    """Rows of the chips 4, 3, 2, 1 side by side; 3 and 4 are mounted upside down."""
    rows, columns = ((size - gap) // 2 for size in frames.shape[1:])
    turned = frames[:, ::-1, ::-1]
    return np.concatenate(
        [
            turned[:, :rows, :columns],
            turned[:, :rows, -columns:],
            frames[:, :rows, -columns:],
            frames[:, :rows, :columns],
        ],
        axis=2,
    )


def _per_frame(value: ArrayLike, index: NDArray) -> NDArray:
    """Values of the frames with these indices."""
    values = np.atleast_1d(value)
    return values[index % len(values)]


def _clock(start: str, seconds: NDArray) -> NDArray[np.datetime64]:
    return np.datetime64(start, "ns") + np.rint(seconds * 1e9).astype("m8[ns]")


def _local_times(utc: NDArray[np.datetime64], day_first: bool) -> list[str]:
    if day_first:
        texts = np.datetime_as_string(utc + LOCAL_TIME, "ms")
        return [f"{text[8:10]}/{text[5:7]}/{text[:4]} {text[11:]}" for text in texts]
    return [text.replace("T", " ") for text in np.datetime_as_string(utc + LOCAL_TIME, "us")]


def _exponential(numbers: Iterable[float]) -> str:
    """Text such as `2.000000E+0,5.110000E+2`."""
    parts = (f"{number:.6E}".split("E") for number in numbers)
    return ",".join(f"{mantissa}E{int(exponent):+}" for mantissa, exponent in parts)


def _spelt(values: dict[str, Any], dialect: Dialect) -> dict[str, Any]:
    """Fields as the dialect has them."""
    values = dict(values)
    if dialect.padded:
        values |= {name: _padded(values[name], spec) for name, spec in PADDED.items()}
    if not dialect.chip_settings:
        values["thresholds"] = ""
        del values["chip_settings"]
    if not dialect.extension:
        for name in ("extension", "utc", "exposure_ns", "depth"):
            del values[name]
    return values


def _padded(value: Any, spec: str) -> Any:
    if np.ndim(value):
        return [_padded(each, spec) for each in value]
    return value if isinstance(value, str) else format(value, spec)


def _headers(values: Mapping[str, Any], size: int, dialect: Dialect) -> Iterator[bytes]:
    """Headers one by one, from texts or numbers that are constant or one per frame."""
    columns = [repeat(str(value)) if np.ndim(value) == 0 else map(str, value) for value in values.values()]
    for row in zip(*columns, strict=False):
        text = (",".join(row) + dialect.end).encode("latin-1")
        if len(text) > size:
            raise ValueError(f"a header of {len(text)} bytes does not fit into {size}")
        yield text.ljust(size, dialect.filler)


def _write_records(
    path: str | Path,
    header_bytes: int,
    headers: Iterator[bytes],
    frames: NDArray,
    pixels: np.dtype,
    encode: Callable[[NDArray], NDArray] = np.asarray,
) -> Path:
    """Write the frames behind their headers, a block of them at a time."""
    record = np.dtype([("header", f"S{header_bytes}"), ("pixels", pixels)])
    step = max(1, BLOCK // max(record.itemsize, frames.itemsize * prod(frames.shape[1:])))
    records = np.zeros(min(step, len(frames)), record)
    with open(path, "wb") as file:
        for first in range(0, len(frames), step):
            block = records[: len(frames) - first]
            part = frames[first : first + len(block)]
            block["header"] = list(islice(headers, len(block)))
            block["pixels"] = encode(part)
            block.tofile(file)
    return Path(path)
