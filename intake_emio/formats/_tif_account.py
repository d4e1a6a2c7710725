"""What programs say about a TIFF image: a page as they see it, their account of it, and the values they write."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..axes import Calibration, Scale
from ..frames.files import File

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from tifffile import TiffFile, TiffPage

UNITS = {
    "micron": "µm", "microns": "µm", "micrometer": "µm", "um": "µm", "μm": "µm",
    "angstrom": "Å", "a": "Å", "å": "Å", "\u212b": "Å", "sec": "s", "second": "s", "seconds": "s", "in": "inch",
    "inches": "inch",
}  # fmt: skip
ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
"""How ImageJ writes what is not ASCII."""

UNCALIBRATED = ("", "pixel", "pixels", "pix", "px", "reference frame", "gray value")
PER_CENTIMETRE = {2: 1 / 2.54, 3: 1.0, 4: 10.0, 5: 1e4}
"""How many pixels per cm one pixel per unit is, by ResolutionUnit (4 and 5: mm and µm, as tifffile writes them)."""


@dataclass(frozen=True)
class Page:
    """A page and its surroundings, as vendors' accounts need them."""

    file: File
    tiff: TiffFile
    page: TiffPage
    axes: str
    shape: tuple[int, ...]
    kind: str
    number: int
    force_resolution: bool = False

    def value(self, code: int) -> Any:
        """Value of a tag, or `None`."""
        tag = self.page.tags.get(code)
        return None if tag is None else tag.value

    def text(self, code: int) -> str:
        """Value of a tag as text."""
        value = self.value(code)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        return value.strip("\0 \r\n") if isinstance(value, str) else ""

    @property
    def width(self) -> int:
        """Columns."""
        return self.page.imagewidth

    @property
    def height(self) -> int:
        """Rows."""
        return self.page.imagelength


@dataclass(frozen=True)
class Account:
    """What one program says.

    Parameters
    ----------
    calibration
        By axis.
    acquisition, header
        See `Image`.
    attrs
        Of the image variable.
    renamed
        Axes that this program gives a meaning.
    final
        Whether nobody else is to be asked about the calibration.
    """

    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    acquisition: Mapping[str, Any] = field(default_factory=dict)
    header: Mapping[str, Any] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    final: bool = False


def known(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that say something."""
    return {name: fact for name, fact in facts.items() if fact not in (None, "", {})}


# Values --------------------------------------------------------------------------------------------------------------


def unit(text: Any) -> str | None:
    r"""Unit as we spell it; `None` if it stands for pixels, or for nothing.

    Examples
    --------
    >>> unit("micron"), unit(r"\u00B5m"), unit("pixel"), unit("1/nm")
    ('µm', 'µm', None, '1/nm')
    """
    if not isinstance(text, str):
        return None
    name = re.sub(ESCAPED, lambda found: chr(int(found[1], 16)), text.strip("\0 \"'"))
    lowered = name.lower()
    return None if lowered in UNCALIBRATED else UNITS.get(lowered, name)


def note_scale(calibration: dict[str, Calibration], axis: str, step: Any, units: Any, origin: Any = None) -> None:
    """Note a scale if it is positive and has a unit; `origin` is the pixel at 0."""
    value, known = positive(step), unit(units)
    if value is not None and known:
        zero = finite(origin) or 0.0
        calibration[axis] = Scale(value, known, -zero * value if zero else 0.0)


def finite(value: Any) -> float | None:
    """Return a number, also one in text; `None` if it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def positive(value: Any) -> float | None:
    """Return a number above 0, also one in text."""
    number = None if isinstance(value, bool) else finite(value)
    return number if number is not None and number > 0 else None


def rational(value: Any, *, inverse: bool = False) -> float | None:
    """Value of a rational tag; `None` if either number is 0."""
    if not isinstance(value, tuple) or len(value) != 2 or not all(value):
        return None
    return value[1] / value[0] if inverse else value[0] / value[1]


def per_centimetre(page: Page, code: int) -> float | None:
    """Pixels per cm, as a resolution tag says."""
    per_unit = rational(page.value(code))
    given = page.value(296)
    factor = PER_CENTIMETRE.get(2 if given is None else int(given))
    return per_unit * factor if per_unit and factor else None


def moment(text: str, layout: str) -> str | None:
    """Date and time as ISO 8601; `None` if the text is laid out otherwise."""
    try:
        return datetime.strptime(text.strip(), layout).isoformat()
    except ValueError:
        return None


# XML -----------------------------------------------------------------------------------------------------------------


def children(element: Element, name: str) -> list[Element]:
    """Children of that name, whatever their namespace."""
    return [child for child in element if str(child.tag).rsplit("}", 1)[-1] == name]


def anywhere(element: Element, name: str) -> Element | None:
    """Return the first element of that name, as deep as it may be."""
    return next((child for child in element.iter() if str(child.tag).rsplit("}", 1)[-1] == name), None)


def text_of(element: Element, name: str) -> str | None:
    """Text of the first element of that name."""
    found = anywhere(element, name)
    return None if found is None or not found.text else found.text.strip()


def attribute_of(element: Element, name: str, attribute: str) -> str | None:
    """Attribute of the first element of a name."""
    found = anywhere(element, name)
    return None if found is None else found.get(attribute)
