"""Text on pictures: fonts that are there, characters that they have, lines that fit, numbers that read well."""

from __future__ import annotations

import functools
import importlib.util
import math
import os

from PIL import ImageFont

from ..axes import LENGTHS, convert_length

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

FONTS = ("DejaVuSans.ttf", "Arial.ttf", "arial.ttf", "Helvetica.ttc", "LiberationSans-Regular.ttf")
SPELLED = {"µ": "u", "μ": "u", "Å": "A", "×": "x", "–": "-", "²": "2", "³": "3", "⁻": "-", "¹": "1"}
NICE = (1.0, 2.0, 5.0)


@functools.cache
def font(size: int) -> Font:
    """Return a font of the system or of matplotlib, or else Pillow's own, which lacks many characters."""
    found = importlib.util.find_spec("matplotlib")
    bundled = [os.path.join(place, "mpl-data", "fonts", "ttf", FONTS[0]) for place in _folders(found)]
    for name in (*FONTS, *bundled):
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def _folders(package: importlib.machinery.ModuleSpec | None) -> list[str]:
    return list(package.submodule_search_locations or ()) if package else []


def written(text: str, size: int) -> str:
    """Text in characters that the font has.

    Examples
    --------
    >>> written("64 x 64", 16)
    '64 x 64'
    """
    return "".join(c if c.isascii() or _has(c, size) else SPELLED.get(c, "?") for c in text)


@functools.cache
def _has(character: str, size: int) -> bool:
    """Whether the font draws a character otherwise than one that no font has."""
    return bytes(font(size).getmask(character)) != bytes(font(size).getmask("\ue000"))


def width_of(text: str, size: int) -> int:
    """Pixels that a line of text is wide."""
    return math.ceil(font(size).getlength(text))


def fitted(text: str, size: int, width: int) -> str:
    """Return a line of text, cut in the middle where it is wider than `width` pixels.

    Examples
    --------
    >>> fitted("scan.blo", 16, 1000)
    'scan.blo'
    >>> short = fitted("a_very_long_name_of_a_scan.blo", 16, 120)
    >>> short.startswith("a_v") and short.endswith(".blo") and width_of(short, 16) <= 120
    True
    """
    text = written(text, size)
    for kept in range(len(text), 0, -1):
        shown = text if kept == len(text) else f"{text[: (kept + 1) // 2]}...{text[len(text) - kept // 2 :]}"
        if width_of(shown, size) <= width:
            return shown
    return ""


def wrapped(text: str, size: int, width: int) -> list[str]:
    """Lines of a text, broken at its commas so that they fit into `width` pixels.

    Examples
    --------
    >>> wrapped("a scan, 64 x 64, uint8", 16, 150)
    ['a scan, 64 x 64,', 'uint8']
    """
    lines: list[str] = []
    for part in text.split(", ") if text else []:
        longer = f"{lines[-1]}, {part}" if lines else part
        if not lines or width_of(f"{longer},", size) > width:
            lines.append(part)
        else:
            lines[-1] = longer
    return [fitted(f"{line}," if line is not lines[-1] else line, size, width) for line in lines]


def number_text(value: float) -> str:
    """Four digits of a number, without an exponent where that is short.

    Examples
    --------
    >>> number_text(20743.6), number_text(0.01784), number_text(2.2e-6)
    ('20740', '0.01784', '2.2e-06')
    """
    short = float(f"{value:.4g}")
    return f"{short:.0f}" if 1e4 <= abs(short) < 1e7 else f"{short:.4g}"


def unit_text(units: str) -> str:
    """Units as people write them.

    Examples
    --------
    >>> unit_text("1/nm"), unit_text("mrad")
    ('nm⁻¹', 'mrad')
    """
    units = units.replace("angstrom", "Å")
    return f"{units[2:]}⁻¹" if units.startswith("1/") and units[2:].isalpha() else units


def round_length(length: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20 … that is not longer.

    Examples
    --------
    >>> round_length(37.0), round_length(0.8)
    (20.0, 0.5)
    """
    power = 10.0 ** math.floor(math.log10(abs(length)))
    return max(n * power for n in NICE if n * power <= abs(length) * (1 + 1e-9))


def in_readable_units(length: float, units: str) -> tuple[float, str]:
    """Return a length in units that make it neither tiny nor huge; other quantities stay.

    Examples
    --------
    >>> in_readable_units(2e-4, "m"), in_readable_units(25.0, "nm"), in_readable_units(2e-3, "1/nm")
    ((200.0, 'µm'), (25.0, 'nm'), (0.002, '1/nm'))
    """
    if units not in LENGTHS or 0.1 <= abs(length) < 1000:
        return length, units
    for wanted in ("m", "mm", "µm", "nm", "pm"):
        converted = convert_length(length, units, wanted)
        if converted is not None and abs(converted) >= 0.5:
            return converted, wanted
    return length, units


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers from `low` to `high`, about so many.

    Examples
    --------
    >>> ticks(3.0, 97.0, 5)
    [20.0, 40.0, 60.0, 80.0]
    """
    step = round_length((high - low) / about * 1.5)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{k * step:.12g}") for k in range(first, last + 1)]


def tick_labels(values: list[float]) -> tuple[list[str], str]:
    """Texts for round numbers, and the power of ten that they were divided by, if any.

    Examples
    --------
    >>> tick_labels([0.0, 0.5, 1.0]), tick_labels([0.0, 2e6])
    ((['0', '0.5', '1'], ''), (['0', '2'], '1e6'))
    """
    largest = max(map(abs, values), default=0.0)
    power = 0 if not largest or 1e-2 <= largest < 1e5 else 3 * math.floor(math.log10(largest) / 3)
    return [f"{value / 10.0**power:.6g}" for value in values], f"1e{power}" if power else ""
