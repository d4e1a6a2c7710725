"""Gatan Digital Micrograph files, versions 3 and 4: a tree of tags with images in it.

Layout: docs/formats/dm.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

ENCODED = {"i2": 2, "i4": 3, "u2": 4, "u4": 5, "f4": 6, "f8": 7, "b1": 8, "i1": 9, "u1": 10, "i8": 11, "u8": 12}
DATA_TYPES = {
    "i2": 1,
    "f4": 2,
    "c8": 3,
    "u1": 6,
    "i4": 7,
    "i1": 9,
    "u2": 10,
    "u4": 11,
    "f8": 12,
    "c16": 13,
    "b1": 14,
    "i8": 39,
    "u8": 40,
}

Part = bytes | int
"""Bytes, or a number of zeros that become a hole in the file."""


@dataclass
class Value:
    """A value with its type spelled out: what no Python value stands for."""

    info: Sequence[int]
    data: Part


@dataclass
class DMImage:
    """One image of a file.

    Parameters
    ----------
    data
        Pixels in C order, so with the slowest axis first; or the shape of an image of zeros that takes no room on disk.
    dtype
        Pixel type, if `data` is a shape.
    data_type
        Number of the pixel type; default: as `data` has it. 8 and 23 take colours along the last axis; 5, 27 and 28 a
        whole Fourier transform.
    name
        Title.
    scales
        (origin, scale, units) of each axis, fastest axis first.
    brightness
        (origin, scale, units) of the values.
    tags
        Content of ``ImageTags``.
    dimensions
        What the file says, fastest axis first, if not the truth.
    more
        Further tags of ``ImageData``, or other ones.
    """

    data: Any
    dtype: str | None = None
    data_type: int | None = None
    name: str = "image"
    scales: Sequence[tuple[float, float, str]] = ()
    brightness: tuple[float, float, str] | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    dimensions: Sequence[int] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def group(self, byte_order: str) -> dict[str, Any]:
        """Return the tags of the image."""
        shape, kind, pixels = self._stored(byte_order)
        calibrations: dict[str, Any] = {"Dimension": [_calibration(*scale) for scale in self.scales]}
        if self.brightness:
            calibrations["Brightness"] = _calibration(*self.brightness)
        dimensions = list(shape[::-1]) if self.dimensions is None else self.dimensions
        data = {
            "Calibrations": calibrations,
            "Data": pixels,
            "DataType": np.uint32(kind),
            "Dimensions": [np.uint32(n) for n in dimensions],
            "PixelDepth": np.uint32(1),
            **self.more,
        }
        data = {name: value for name, value in data.items() if value is not None}
        return {"ImageData": data, "ImageTags": dict(self.tags), "Name": self.name, "UniqueID": {}}

    def _stored(self, byte_order: str) -> tuple[tuple[int, ...], int, Value]:
        """Shape, number of the pixel type, and pixels."""
        if self.dtype is not None:
            dtype, shape = np.dtype(self.dtype), tuple(self.data)
            count = int(np.prod(shape, dtype=object))
            return shape, DATA_TYPES[dtype.str[1:]], Value([20, *_type_info(dtype), count], count * dtype.itemsize)
        data = np.asarray(self.data)
        kind = self.data_type or DATA_TYPES[data.dtype.str[1:]]
        shape = data.shape
        if kind in (8, 23):
            shape, data = shape[:-1], colours(data)
        elif kind == 5:
            data = old_packed(data).view("f4").reshape(-1)
        elif kind in (27, 28):
            data = packed(data).astype("c8" if kind == 27 else "c16").reshape(-1)
            if kind == 27:
                data = data.view("f4")
            else:
                data = data.view("f8")
        flat = data.reshape(-1)
        return shape, kind, Value([20, *_type_info(flat.dtype), len(flat)], _ordered(flat, byte_order))


def colours(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return colours (last axis: red, green, blue) as numbers 0x00RRGGBB.

    Examples
    --------
    >>> hex(colours(np.array([1, 2, 3], "u1")))
    '0x10203'
    """
    red, green, blue = np.moveaxis(rgb.astype("i4"), -1, 0)
    return red << 16 | green << 8 | blue


def packed(transform: NDArray) -> NDArray:
    """Half of the Fourier transform of a real image, zero frequency at (H // 2, W // 2), from its middle to the left.

    Examples
    --------
    >>> row = np.array([1, 2, 3, 4, 5])
    >>> packed(row[None]).tolist()
    [[3, 2, 1]]
    """
    middle = transform.shape[1] // 2
    return transform[:, middle::-1]


def old_packed(transform: NDArray) -> NDArray[np.complex64]:
    """Pack a transform of 2N x 2N into as many real numbers, the halves of its two special columns in one."""
    half = packed(transform)
    n = len(transform) // 2
    assert transform.shape == (2 * n, 2 * n)
    stored = np.zeros((2 * n, n), "c8")
    stored[:, 1:] = half[:, 1:n]
    for r in range(n + 1, 2 * n):
        stored[r, 0] = half[r, 0]
    for r in range(1, n):
        stored[r, 0] = half[n + r, n]
    stored[n, 0] = half[n, 0].real + 1j * half[0, 0].real
    stored[0, 0] = half[n, n].real + 1j * half[0, n].real
    return stored


def _calibration(origin: float, scale: float, units: str) -> dict[str, Any]:
    return {"Origin": np.float32(origin), "Scale": np.float32(scale), "Units": units}


def write_dm(
    path: str | Path,
    *images: DMImage,
    version: Literal[3, 4] | None = None,
    byte_order: Literal["<", ">"] = "<",
    thumbnail: int | None = None,
    tags: Mapping[str, Any] | None = None,
    size: int | None = None,
    end: bytes = bytes(8),
) -> Path:
    """Write a file.

    Parameters
    ----------
    path
        The file.
    *images
        Its images, thumbnails among them.
    version
        3 or 4; default: as the extension says.
    byte_order
        Of values and pixels.
    thumbnail
        Number of the image that is one.
    tags
        More tags of the root group, or other ones; None: such a tag is left out.
    size
        What the header says, if not the truth.
    end
        What follows the root group.

    Returns
    -------
    Path
        The file.
    """
    path = Path(path)
    version = version or (4 if path.suffix.lower() == ".dm4" else 3)
    tree: dict[str, Any] = {
        "ApplicationBounds": (0, 0, 1018, 1408),
        "DocumentObjectList": [],
        "HasWindowPosition": True,
        "ImageList": [image.group(byte_order) for image in images],
        "ImageSourceList": [{"ClassName": "ImageSource:Simple", "Id": [np.uint32(0)], "ImageRef": np.uint32(0)}],
        "Thumbnails": None if thumbnail is None else [{"ImageIndex": np.uint32(thumbnail)}],
        "InImageMode": True,
        **(tags or {}),
    }
    tree = {name: value for name, value in tree.items() if value is not None}
    root = _Tags(version, byte_order).group(tree)
    nbytes = sum(part if isinstance(part, int) else len(part) for part in root)
    word = 4 if version == 3 else 8
    header = version.to_bytes(4, "big") + (nbytes if size is None else size).to_bytes(word, "big")
    with path.open("wb") as file:
        file.write(header + (byte_order == "<").to_bytes(4, "big"))
        for part in [*root, end]:
            if isinstance(part, int):
                file.truncate(file.tell() + part)
                file.seek(0, 2)
            else:
                file.write(part)
    return path


@dataclass
class _Tags:
    """Groups and values as bytes.

    Examples
    --------
    >>> b"".join(_Tags(3, "<").tag("Scale", np.float32(0.5)))[8:].hex(" ", 4)
    '25252525 00000001 00000006 0000003f'
    """

    version: int
    byte_order: str

    def group(self, tags: Mapping[str, Any] | Sequence[Any]) -> list[Part]:
        named = tags.items() if isinstance(tags, Mapping) else [("", tag) for tag in tags]
        parts: list[Part] = [b"\x00\x00" + self._words(len(tags))]
        for name, tag in named:
            parts += self.tag(name, tag)
        return parts

    def tag(self, name: str, tag: Any) -> list[Part]:
        is_group = isinstance(tag, Mapping | list)
        content = self.group(tag) if is_group else self._value(tag)
        label = name.encode("latin-1")
        head = (b"\x14" if is_group else b"\x15") + len(label).to_bytes(2, "big") + label
        if self.version == 4:
            head += self._words(sum(part if isinstance(part, int) else len(part) for part in content))
        return [head, *content]

    def _value(self, value: Any) -> list[Part]:
        data: Part
        if isinstance(value, Value):
            info, data = list(value.info), value.data
        elif isinstance(value, str):
            return self._value(np.frombuffer(value.encode("utf-16-le"), "<u2"))
        elif isinstance(value, tuple):
            items = [_number(item) for item in value]
            info = _struct_info([item.dtype for item in items])
            data = b"".join(_ordered(item, self.byte_order) for item in items)
        elif isinstance(value, np.ndarray):
            info, data = [20, *_type_info(value.dtype), len(value)], _ordered(value, self.byte_order)
        else:
            info, data = _type_info(_number(value).dtype), _ordered(_number(value), self.byte_order)
        return [b"%%%%" + self._words(len(info), *info), data]

    def _words(self, *words: int) -> bytes:
        return b"".join(word.to_bytes(4 if self.version == 3 else 8, "big") for word in words)


def _ordered(values: NDArray, byte_order: str) -> bytes:
    return values.astype(values.dtype.newbyteorder(byte_order)).tobytes()


def _number(value: Any) -> NDArray:
    return np.asarray(value, "i4" if type(value) is int else None)


def _type_info(dtype: np.dtype) -> list[int]:
    if dtype.names is not None:
        return _struct_info([dtype[name] for name in dtype.names])
    if dtype.kind == "c":
        return _struct_info([np.dtype(f"f{dtype.itemsize // 2}")] * 2)
    return [ENCODED[dtype.str[1:]]]


def _struct_info(dtypes: list[np.dtype]) -> list[int]:
    return [15, 0, len(dtypes), *(word for dtype in dtypes for word in (0, *_type_info(dtype)))]
