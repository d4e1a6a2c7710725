"""Images in Digital Micrograph files: which ones there are, how their pixels are stored, what their axes measure.

Rules and quirks: docs/formats/dm.md.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..axes import Scale
from ..errors import ArgumentError, EmioWarning, HeaderError, TruncatedError
from ..frames.decoders import Decoder
from ..frames.files import File
from ._gatan import TagArray, read_header, read_tags, tag

DM2 = b"\x00\x3d"
HDF5 = b"\x89HDF\r\n\x1a\n"

PLAIN = {
    1: "i2",
    2: "f4",
    3: "c8",
    6: "u1",
    7: "i4",
    9: "i1",
    10: "u2",
    11: "u4",
    12: "f8",
    13: "c16",
    14: "?",
    39: "i8",
    40: "u8",
}
"""Pixel types by their number, which is not that of the encoded type."""

COLOURS = (8, 23)
OLD_TRANSFORM, TRANSFORMS = 5, {27: "f4", 28: "f8"}
NO_PIXELS = {0, 4, *range(15, 39)} - {23, 27, 28}  # null, obsolete, other colours, points, rectangles: never met

UNITS = {
    "A": "angstrom",
    "Å": "angstrom",
    "um": "µm",
    "μm": "µm",  # Greek letter, not the sign for micro
    "1/um": "1/µm",
    "1/μm": "1/µm",
    "1/A": "1/angstrom",
    "deg": "degree",
    "sec": "s",
    "us": "µs",
    "μs": "µs",
}
"""Units as pint spells them; others are taken as found."""

ENERGIES = ("eV", "keV", "meV")
TIMES = ("s", "ms", "µs", "ns", "min", "h")
LENGTHS = ("m", "cm", "mm", "µm", "nm", "pm", "angstrom")
RECIPROCAL = ("1/nm", "1/µm", "1/angstrom", "1/pm", "mrad", "rad", "degree")


@dataclass(frozen=True)
class DMImage:
    """One image of a file, as its tags describe it.

    Parameters
    ----------
    file
        Where it is.
    index
        Its number in the file, thumbnails included.
    tags
        Its group of tags: ``ImageData``, ``ImageTags``, ``Name``.
    data
        Where its pixels are.
    order
        Byte order of values and pixels.
    is_thumbnail
        Whether it is a small picture of another one.
    """

    file: File
    index: int
    tags: Mapping[str, Any]
    data: TagArray
    order: str
    is_thumbnail: bool = False

    @property
    def name(self) -> str:
        """Title; empty if there is none."""
        name = self.tags.get("Name")
        return name.strip() if isinstance(name, str) else ""

    @property
    def data_type(self) -> int | None:
        """Number of the pixel type."""
        found = tag(self.tags, "ImageData", "DataType")
        return found if isinstance(found, int) else None

    @property
    def dimensions(self) -> tuple[int, ...]:
        """Sizes, fastest axis first."""
        found = members(tag(self.tags, "ImageData", "Dimensions"))
        return tuple(n for n in found if isinstance(n, int))

    @property
    def image_tags(self) -> Mapping[str, Any]:
        """What the microscope and the user say; of images that a plug-in put together, what the first one said."""
        own = tag(self.tags, "ImageTags", default={})
        source = tag(own, "source", "Tags at creation")
        if isinstance(source, dict) and "Microscope Info" not in own:
            return source
        return own if isinstance(own, dict) else {}

    @property
    def colours(self) -> bool:
        """Whether a pixel is a colour."""
        return self.data_type in COLOURS

    @property
    def dtype_name(self) -> str:
        """Pixel type as it will be read, for lists."""
        kind = self.data_type
        if kind in PLAIN:
            return np.dtype(PLAIN[kind]).name
        if kind in COLOURS:
            return "uint8"
        packed: dict[int | None, str] = {OLD_TRANSFORM: "complex64", 27: "complex64", 28: "complex128"}
        return packed.get(kind, f"DataType {kind}")

    def summary(self) -> dict[str, Any]:
        """What a list of images says about it."""
        return {
            "index": self.index,
            "name": self.name,
            "shape": self.dimensions[::-1],
            "dtype": self.dtype_name,
        }

    def storage(self) -> tuple[np.dtype, Decoder | None]:
        """Check that the pixels are there, and say how they are stored.

        Raises
        ------
        HeaderError, TruncatedError
            If there are fewer pixels than `dimensions` says, none at all, or pixels of an unknown kind.
        """
        dimensions, kind = self.dimensions, self.data_type
        if not dimensions or min(dimensions) < 1:
            raise HeaderError(f"{self}: Dimensions are {list(dimensions)}, so there are no pixels")
        dtype, decoder = self._pixel_type(kind)
        count = math.prod(dimensions)
        needed = count * dtype.itemsize
        if decoder is not None:
            needed = decoder.stored_bytes(self._frame) * (count // math.prod(dimensions[:2]))
        there = self.data.count * self.data.dtype.itemsize
        if needed > there:
            raise HeaderError(
                f"{self}: Dimensions {list(dimensions)} of DataType {kind} need {needed} bytes, but Data has {there} "
                f"({self.data.count} x {self.data.dtype})"
            )
        if self.data.offset + needed > self.file.size:
            raise TruncatedError(f"{self}: the file ends inside the pixels: not fully written or copied?")
        return dtype, decoder

    @property
    def _frame(self) -> tuple[int, ...]:
        frame = self.dimensions[:2][::-1]
        return (3, *frame) if self.colours else frame

    def _pixel_type(self, kind: int | None) -> tuple[np.dtype, Decoder | None]:
        if kind in PLAIN:
            return np.dtype(self.order + PLAIN[kind]), None
        if kind in COLOURS:
            return np.dtype("u1"), Colours(self.order)
        if kind == OLD_TRANSFORM or kind in TRANSFORMS:
            height, width = self._frame if len(self._frame) == 2 else (0, 0)
            square = height == width and height % 2 == 0
            if len(self.dimensions) != 2 or (kind == OLD_TRANSFORM and not square):
                raise HeaderError(
                    f"{self}: packed Fourier transforms (DataType {kind}) are read if they are one image"
                    f"{', square and of even size' if kind == OLD_TRANSFORM else ''}, not {list(self.dimensions)}: "
                    "save it as complex numbers"
                )
            if kind == OLD_TRANSFORM:
                return np.dtype("u1"), OldTransform(self.order)
            return np.dtype("u1"), HalfTransform(self.order, TRANSFORMS[kind])
        simple = self.data.dtype.names is None and self.data.dtype.shape == ()
        if kind not in NO_PIXELS and simple and self.data.count == math.prod(self.dimensions):
            return self.data.dtype, None  # elements and sizes agree, so what else could it be?
        raise HeaderError(
            f"{self}: DataType {kind} cannot be read; known are {', '.join(map(str, sorted(PLAIN)))}, the colours "
            f"{COLOURS[0]} and {COLOURS[1]}, and the packed Fourier transforms 5, 27 and 28"
        )

    def __str__(self) -> str:
        return f"{self.file}: image {self.index}"

    # Calibration -----------------------------------------------------------------------------------------------------

    def units(self, dimension: int) -> str:
        """Units of an axis as pint spells them; empty if it has none."""
        found = self._calibration(dimension).get("Units")
        text = found.strip().strip("\0") if isinstance(found, str) else ""
        return UNITS.get(text, text)

    def scale(self, dimension: int) -> Scale | None:
        """Calibration of an axis: the origin is in pixels."""
        group = self._calibration(dimension)
        origin, step = group.get("Origin", 0.0), group.get("Scale", 1.0)
        units = self.units(dimension) or None
        if not isinstance(origin, int | float) or not isinstance(step, int | float):
            return None
        if units is None and step == 1 and origin == 0:
            return None
        if not (math.isfinite(origin) and math.isfinite(step) and step):
            warnings.warn(
                f"{self}: axis {dimension} has Scale {step} and Origin {origin}, so it gets no coordinate",
                EmioWarning,
                stacklevel=2,
            )
            return None
        return Scale(float(step), units, 0.0 - float(origin) * float(step))

    def _calibration(self, dimension: int) -> Mapping[str, Any]:
        """Calibration of an axis; where a plug-in wrote fewer of them than axes, they belong to the first ones."""
        found = members(tag(self.tags, "ImageData", "Calibrations", "Dimension"))
        group = found[dimension] if dimension < len(found) else None
        return group if isinstance(group, dict) else {}

    def brightness(self) -> dict[str, Any]:
        """What pixel values mean: value = (pixel - origin) * scale. It is never applied."""
        group = tag(self.tags, "ImageData", "Calibrations", "Brightness", default={})
        if not isinstance(group, dict):
            return {}
        known = {name.lower(): group.get(name) for name in ("Origin", "Scale", "Units")}
        if known["scale"] in (None, 1) and not known["origin"] and not known["units"]:
            return {}
        return {"brightness": {name: value for name, value in known.items() if value not in (None, "")}}


def read_images(file: File) -> tuple[list[DMImage], Mapping[str, Any]]:
    """Return the images of a file, and the tags beside them.

    Raises
    ------
    HeaderError, TruncatedError
        If it is no file of version 3 or 4, broken, or without an image.
    """
    start = file.read(0, 8)
    for magic, kind in ((HDF5, "a .dm5 file, which is HDF5"), (DM2, "a file of version 2 (.dm2)")):
        if start.startswith(magic):
            raise HeaderError(f"{file}: is {kind}; versions 3 and 4 are read: save it as .dm4 with Gatan's software")
    if not start:
        raise TruncatedError(f"{file}: is empty: not fully written or copied?")
    try:
        order, tree = read_header(file).order, read_tags(file)
    except TruncatedError as error:
        raise TruncatedError(f"{error}: not fully written or copied?") from None
    thumbnails = {tag(entry, "ImageIndex") for entry in members(tag(tree, "Thumbnails"))}
    images = []
    for index, group in enumerate(members(tag(tree, "ImageList"))):
        data = tag(group, "ImageData", "Data")
        if isinstance(data, TagArray):
            images.append(DMImage(file, index, group, data, order, index in thumbnails))
    if not images:
        raise HeaderError(f"{file}: the tags hold no image (ImageList is missing, empty, or has no ImageData)")
    beside = {name: group for name, group in tree.items() if name != "ImageList"} if isinstance(tree, dict) else {}
    return images, beside


def shown_images(images: list[DMImage]) -> list[DMImage]:
    """Return those that are no thumbnails, if there are any."""
    return [image for image in images if not image.is_thumbnail] or images


def choose(images: list[DMImage], index: int | None) -> DMImage:
    """Return the image of an index, or the first of those with the most axes: a scan comes behind its survey image.

    Raises
    ------
    ArgumentError
        If there is no image of that number.
    """
    if index is None:
        return max(shown_images(images), key=lambda image: sum(n > 1 for n in image.dimensions))
    for image in images:
        if image.index == index:
            return image
    known = ", ".join(f"{image.index} ({image.name or 'no name'}, {image.dimensions[::-1]})" for image in images)
    raise ArgumentError(f"{images[0].file}: there is no image dataset_index={index}; images are {known}")


def members(group: Any) -> list[Any]:
    """Return the members of a list of tags, even if some of them have names."""
    return list(group.values()) if isinstance(group, dict) else group if isinstance(group, list) else []


# Packed pixels -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Colours:
    """Numbers ``0x00RRGGBB`` of four bytes, as planes red, green and blue.

    Parameters
    ----------
    order
        Byte order of the numbers.

    Examples
    --------
    >>> planes = np.empty((1, 3, 1), "u1")
    >>> Colours("<").decode(np.array([[0x33, 0x22, 0x11, 0]], "u1"), planes)
    >>> planes.tolist()
    [[[17], [34], [51]]]
    """

    order: str

    @property
    def dtype(self) -> np.dtype:
        """One byte for each colour."""
        return np.dtype("u1")

    def stored_bytes(self, shape: tuple[int, ...]) -> int:
        """Four for each pixel."""
        return 4 * math.prod(shape[1:])

    def decode(self, stored: np.ndarray, out: np.ndarray) -> None:
        """Decode frames."""
        pixels = stored.reshape(len(stored), *out.shape[2:], 4)
        for plane in range(3):
            out[:, plane] = pixels[..., 2 - plane if self.order == "<" else 1 + plane]


@dataclass(frozen=True)
class HalfTransform:
    """Fourier transform of a real image, of which one half is stored: column `c` is column ``W // 2 - c`` of the whole.

    Parameters
    ----------
    order, part
        Byte order and type of real and imaginary parts.

    Examples
    --------
    >>> whole = np.empty((1, 1, 3), "c8")
    >>> HalfTransform("<", "f4").decode(np.array([[5, 1 + 2j]], "c8").view("u1"), whole)
    >>> whole.tolist()
    [[[(1+2j), (5+0j), (1-2j)]]]
    """

    order: str
    part: str

    @property
    def dtype(self) -> np.dtype:
        """Complex numbers of two parts."""
        return np.dtype("c8" if self.part == "f4" else "c16")

    def stored_bytes(self, shape: tuple[int, ...]) -> int:
        """Those of H rows of W // 2 + 1 numbers."""
        return shape[0] * (shape[1] // 2 + 1) * self.dtype.itemsize

    def decode(self, stored: np.ndarray, out: np.ndarray) -> None:
        """Decode frames."""
        height, width = out.shape[1:]
        half = np.ascontiguousarray(stored).view(np.dtype(self.order + self.dtype.str[1:]))
        unfold(half.reshape(len(stored), height, width // 2 + 1), out)


@dataclass(frozen=True)
class OldTransform:
    """Fourier transform of 2N x 2N as that many real numbers.

    The two columns that the symmetry makes half redundant, zero and Nyquist frequency, share the first column: its
    lower rows belong to the one, its upper rows to the other, and the four real numbers stand in two complex ones.

    Parameters
    ----------
    order
        Byte order of the numbers.
    """

    order: str

    @property
    def dtype(self) -> np.dtype:
        """Complex numbers of 8 bytes."""
        return np.dtype("c8")

    def stored_bytes(self, shape: tuple[int, ...]) -> int:
        """Four for each pixel."""
        return 4 * math.prod(shape)

    def decode(self, stored: np.ndarray, out: np.ndarray) -> None:
        """Decode frames."""
        size, n = out.shape[1], out.shape[1] // 2
        numbers = np.ascontiguousarray(stored).view(np.dtype(self.order + "c8")).reshape(-1, size, n)
        half = np.empty((len(stored), size, n + 1), "c8")
        half[:, :, 1:n] = numbers[:, :, 1:]
        first = numbers[:, :, 0]
        for column, rows in ((0, first[:, n + 1 :]), (n, first[:, 1:n])):
            half[:, n + 1 :, column] = rows
            half[:, 1:n, column] = rows[:, ::-1].conj()
        half[:, n, 0], half[:, 0, 0] = first[:, n].real, first[:, n].imag
        half[:, n, n], half[:, 0, n] = first[:, 0].real, first[:, 0].imag
        unfold(half, out)


def unfold(half: np.ndarray, out: np.ndarray) -> None:
    """Make whole transforms of halves by ``F[-k] = conj(F[k])``, zero frequency at (H // 2, W // 2)."""
    height, width = out.shape[1:]
    middle = width // 2
    out[:, :, : middle + 1] = half[:, :, ::-1]
    mirrored = (2 * (height // 2) - np.arange(height)) % height
    right = np.arange(middle + 1, width)
    out[:, :, middle + 1 :] = half[:, mirrored][:, :, right - middle].conj()
