"""NumPy array files (.npy): one array behind a short text header.

Layout and quirks: docs/formats/npy.md.
"""

from __future__ import annotations

import ast
import io
import math
import re
import struct
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import arguments
from ..axes import Labels, check_axes, default_axes
from ..errors import ArgumentError, HeaderError, TruncatedError
from ..frames.files import File
from ..frames.frames import Frames
from ..frames.layout import FrameStack
from ..frames.navigation import Navigation, check_sync_offset, navigate
from ..frames.store import make_room, store, write_all
from ..image import Image
from ..source import ImageSource

if TYPE_CHECKING:
    import xarray as xr

MAGIC = b"\x93NUMPY"
LONGEST_HEADER = 10_000  # NumPy's own limit: larger literals are slow to parse, and can crash the parser
ZIPS = (b"PK\3\4", b"PK\5\6")  # the second one is empty
KEYS = {"descr", "fortran_order", "shape"}
PYTHON2_NUMBER = re.compile(r"(?<=[(,\s])(\d+)L(?=[,)\s])")  # (10L, 20L)
COLOURS = ("R", "G", "B", "A")


class NpySource(ImageSource):
    """NumPy file, in C or Fortran order, of any version; pickled objects are never loaded.

    Parameters
    ----------
    uri
        Path or URL of the file.
    sig_dims
        How many of the last axes are signal axes. Default: as many as `sig_shape` has, else 2.
    nav_shape, sig_shape
        Cut the stream of elements anew into frames of `sig_shape`, and arrange them as `nav_shape`: fewer frames
        than there are, or more (the rest is blank). Not for files in Fortran order.
    navigation_axes
        Positions of the axes that are navigation, if these are not the first ones.
    key
        Field of a structured array.
    **common
        See `ImageSource`.

    Raises
    ------
    HeaderError, TruncatedError
        If the file is no NumPy file, holds no pixels, or fewer than the header says.
    ArgumentError
        If an argument does not fit the array.

    Notes
    -----
    Source of the facts: NumPy's format description, NEP 1.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "stack.npy"
    >>> np.save(path, np.zeros((6, 4, 4), "u2"))
    >>> NpySource(path, nav_shape=(2, 3)).to_dask().image.dims
    ('y', 'x', 'v', 'u')
    """

    name = "emio_npy"
    format_name = "npy"

    def __init__(
        self,
        uri: Any,
        *,
        sig_dims: Any = None,
        navigation_axes: Any = None,
        key: str | None = None,
        **common: Any,
    ):
        super().__init__(uri, **common)
        self.sig_dims = None if sig_dims is None else arguments.number("sig_dims", sig_dims, least=0)
        self.navigation_axes = None
        if navigation_axes is not None:
            self.navigation_axes = [arguments.number("navigation_axes", n) for n in arguments.members(navigation_axes)]
        self.key = key
        if navigation_axes is not None and (sig_dims is not None or self.nav_shape or self.sig_shape):
            raise ArgumentError("navigation_axes excludes sig_dims, nav_shape and sig_shape")
        if self.sig_shape and self.sig_dims not in (None, len(self.sig_shape)):
            raise ArgumentError(f"sig_shape={self.sig_shape} does not have sig_dims={self.sig_dims} numbers")

    def parse(self, file: File) -> Image:
        """Describe a NumPy file from its header."""
        header = read_header(file)
        record, colours = _record(file, header["dtype"], self.key)
        within = () if colours else FrameStack((), record, ()).shape
        stored = header["shape"]
        if header["fortran_order"] and len(stored) > 1:
            pixels = self._reversed(file, header, record, len(within))
            # the file is the C-ordered array of the reversed shape
            place = [*reversed(range(len(stored))), *range(len(stored), len(stored) + len(within))]
        else:
            pixels = self._frames(file, header, record, len(within))
            place = list(range(pixels.ndim - bool(colours)))
        order, letters = self._letters(file, len(place), bool(colours))
        axes = "".join(letters[place.index(k)] for k in range(len(place)))
        return Image(
            pixels,
            axes + order[len(place) :],
            order=order,
            calibration={order[-1]: Labels(colours)} if colours else {},
            header={name: value for name, value in header.items() if name != "dtype"} | {"descr": str(header["dtype"])},
        )

    def _frames(self, file: File, header: dict[str, Any], record: np.dtype, within: int) -> Frames:
        """Elements in C order are frames at a constant stride, to be cut and arranged as the user likes."""
        stored = header["shape"]
        signal = self._signal(file, len(stored) + within) - within
        if signal < 0:
            raise ArgumentError(f"{file}: a pixel itself has {within} axes, so sig_dims must be at least {within}")
        nav = stored[: len(stored) - signal]
        sig = stored[len(stored) - signal :] if self.sig_shape is None else self.sig_shape
        count = math.prod(stored) // math.prod(sig)
        if not count:
            raise ArgumentError(
                f"{file}: a frame of sig_shape={sig} has more pixels than the {math.prod(stored)} there are"
            )
        check_sync_offset(file, self.sync_offset, count)
        navigation = navigate(file, count, nav, nav_shape=self.nav_shape, sync_offset=self.sync_offset)
        stack = FrameStack.in_one_file(self.uri, record, sig, count, offset=header["offset"])
        return Frames(stack, navigation, self.storage(), file.stamp)

    def _reversed(self, file: File, header: dict[str, Any], record: np.dtype, within: int) -> Frames:
        """Fortran order: the array of the reversed shape, whose frames are not contiguous."""
        stored = header["shape"]
        signal = self._signal(file, len(stored) + within) - within
        nav, sig = stored[: len(stored) - signal], stored[len(stored) - signal :]
        if self.nav_shape not in (None, nav) or self.sig_shape not in (None, sig) or self.sync_offset:
            raise ArgumentError(
                f"{file}: is in Fortran order, so its frames do not follow each other: nav_shape, sig_shape and "
                "sync_offset cannot be changed. Save it in C order first (numpy.ascontiguousarray)"
            )
        backwards = stored[::-1]
        stack = FrameStack.in_one_file(
            self.uri, record, backwards[-2:], math.prod(backwards[:-2]), offset=header["offset"]
        )
        return Frames(stack, Navigation.of(backwards[:-2]), self.storage(), file.stamp)

    def _signal(self, file: File, ndim: int) -> int:
        """Number of signal axes of an array of so many axes."""
        if self.navigation_axes is not None:
            places = {n % ndim for n in self.navigation_axes if -ndim <= n < ndim}
            if len(places) != len(self.navigation_axes):
                raise ArgumentError(
                    f"{file}: navigation_axes={self.navigation_axes} are not axes of an array of {ndim}"
                )
            return ndim - len(places)
        signal = self.sig_dims if self.sig_dims is not None else len(self.sig_shape or (0, 0))
        if self.sig_shape is None and signal > ndim:
            raise ArgumentError(
                f"{file}: the array has {ndim} axes, fewer than sig_dims={signal}: pass a smaller sig_dims="
            )
        return signal

    def _letters(self, file: File, ndim: int, coloured: bool) -> tuple[str, dict[int, str]]:
        """Names of the axes in our order, that of the colours last, and of those of the array by their position."""
        signal = self._signal(file, ndim)
        given = self._given_metadata.get("axes")
        order = check_axes(given or default_axes(ndim - signal, signal) + "c" * coloured, ndim + coloured)
        positions = list(range(ndim - signal))
        if self.navigation_axes is not None:
            positions = [n % ndim for n in self.navigation_axes]
        rest = [n for n in range(ndim) if n not in positions]
        return order, dict(zip([*positions, *rest], order[:ndim], strict=True))


def is_archive(file: File) -> bool:
    """Whether a ZIP archive holds arrays (``.npz``): no image, but our reader knows what to say of it."""
    if file.read(0, 4) not in ZIPS:
        return False
    return file.extension == ".npz" or any(name.endswith(".npy") for name in _names_in(file))


def read_header(file: File) -> dict[str, Any]:
    """Version, dtype, order, shape and data offset of a NumPy file.

    Raises
    ------
    HeaderError, TruncatedError
        If it is none, or contradicts itself.
    """
    start = file.read(0, 12)
    if start[:4] in ZIPS:
        raise HeaderError(f"{file}: is a ZIP archive (.npz){_members(file)}: pass numpy.load(...)['name'] instead")
    if start[:6] != MAGIC:
        raise HeaderError(f"{file}: not a NumPy file: it starts with {start[:8]!r}, expected {MAGIC!r}")
    major = start[6] if len(start) > 6 else 0
    if len(start) >= 8 and major not in (1, 2, 3):
        raise HeaderError(f"{file}: version {major} of the NumPy format is unknown, expected 1, 2 or 3")
    width, kind = (2, "<H") if major == 1 else (4, "<I")
    length = struct.unpack(kind, file.read_exactly(8, width, "NumPy header's length"))[0]
    if length > LONGEST_HEADER:
        raise HeaderError(f"{file}: a header of {length} bytes is no array of pixels (at most {LONGEST_HEADER})")
    text = file.read_exactly(8 + width, length, "NumPy header").decode("utf-8" if major == 3 else "latin-1", "replace")
    header = _literal(file, text)
    header |= {"version": major, "offset": 8 + width + length}
    _check_size(file, header)
    return header


def _literal(file: File, text: str) -> dict[str, Any]:
    """Evaluate the header as a literal, never as code, and check each of its parts."""
    try:
        header = ast.literal_eval(re.sub(PYTHON2_NUMBER, r"\1", text.strip()))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise HeaderError(f"{file}: the header is no Python dictionary: {text[:80]!r}") from None
    if not isinstance(header, dict) or set(header) != KEYS:
        raise HeaderError(f"{file}: the header must have exactly the keys {sorted(KEYS)}, not {text[:80]!r}")
    shape, fortran = header["shape"], header["fortran_order"]
    if not isinstance(shape, tuple) or any(type(n) is not int or n < 0 for n in shape):
        raise HeaderError(f"{file}: shape must be a tuple of whole numbers, not {shape!r}")
    if not isinstance(fortran, bool):
        raise HeaderError(f"{file}: fortran_order must be True or False, not {fortran!r}")
    try:
        dtype = np.lib.format.descr_to_dtype(header["descr"])
    except Exception:  # anything can be wrong with a stranger's description
        raise HeaderError(f"{file}: descr {header['descr']!r} is no pixel type") from None
    return {"shape": shape, "fortran_order": fortran, "dtype": dtype}


def _members(file: File) -> str:
    """Names of the arrays in a local archive, for messages."""
    names = [name.removesuffix(".npy") for name in _names_in(file)]
    return f" of {', '.join(names)}" if names else ""


def _names_in(file: File) -> list[str]:
    try:
        with zipfile.ZipFile(file.uri) as archive:
            return archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return []


def _check_size(file: File, header: dict[str, Any]) -> None:
    shape, dtype = header["shape"], header["dtype"]
    if dtype.hasobject:
        raise HeaderError(f"{file}: holds pickled objects ({dtype}): these are never loaded, they could run any code")
    if not shape or 0 in shape or not dtype.itemsize:
        raise HeaderError(f"{file}: an array of shape {shape} has no pixels")
    needed, there = math.prod(shape), (file.size - header["offset"]) // dtype.itemsize
    if needed > there:
        raise TruncatedError(
            f"{file}: holds {max(0, there)} elements, the header says {needed} {shape}: not fully written or copied?"
        )


def _record(file: File, dtype: np.dtype, key: str | None) -> tuple[np.dtype, tuple[str, ...]]:
    """Type of an element as the engine reads it, and the names of its colours if it is one.

    A plain type is taken as it is; of a record, one field is read where it lies.
    """
    if dtype.names is None:
        if key is not None:
            raise ArgumentError(f"{file}: key={key!r} names a field, but the array of {dtype} has none")
        _check_numeric(file, dtype.base, "the array")
        return (np.dtype([("value", dtype)]) if dtype.shape else dtype), ()
    fields = {name: dtype.fields[name][:2] for name in dtype.names}  # type: ignore[index]
    types = [kind for kind, _ in fields.values()]
    if (
        key is None
        and dtype.names in (COLOURS[:3], COLOURS)
        and types[0] in ("u1", "<u2", ">u2")
        and len(set(types)) == 1
    ):
        colour = np.dtype((types[0], (len(types),)))
        if [at for _, at in fields.values()] == [n * types[0].itemsize for n in range(len(types))]:
            return _one_field(dtype, colour, 0), tuple(name.lower() for name in dtype.names)
    numeric = [name for name, (kind, _) in fields.items() if kind.base.kind in "biufc"]
    if key is None and len(fields) == 1 and numeric:
        key = numeric[0]
    if key is None or key not in fields:
        asked = "choose a field with key=" if key is None else f"there is no field {key!r}"
        raise ArgumentError(f"{file}: is an array of records, {asked}; numeric fields: {', '.join(numeric) or 'none'}")
    kind, offset = fields[key]
    _check_numeric(file, kind.base, f"field {key!r}")
    return _one_field(dtype, kind, offset), ()


def _one_field(record: np.dtype, kind: np.dtype, offset: int) -> np.dtype:
    return np.dtype({"names": ["value"], "formats": [kind], "offsets": [offset], "itemsize": record.itemsize})


def _check_numeric(file: File, dtype: np.dtype, what: str) -> None:
    if dtype.kind not in "biufc" or dtype.names:
        raise HeaderError(f"{file}: {what} holds {dtype}, which are not pixels")


# Writing -------------------------------------------------------------------------------------------------------------


def save(image: xr.DataArray, path: str, *, compress: bool | None = None) -> None:
    """Write an image as a NumPy file, version 1.0, C order, native bytes; lazy pixels block by block.

    Parameters
    ----------
    image
        With any axes; their names and calibration are lost.
    path
        File to create.
    compress
        Makes no difference: the format knows no compression.

    Raises
    ------
    ArgumentError
        If the image does not hold numbers.
    """
    if image.dtype.kind not in "biufc":
        raise ArgumentError(f"{path}: the image holds {image.dtype}, which are not pixels")
    header = io.BytesIO()
    described = {"descr": image.dtype.newbyteorder("=").str, "fortran_order": False, "shape": image.shape}
    np.lib.format.write_array_header_1_0(header, described)
    target = Target(path, image.dtype.newbyteorder("="), image.shape, header.tell())
    with open(path, "wb") as file:
        file.write(header.getvalue())
    make_room(path, target.offset + image.nbytes)
    store(image.data, target)


@dataclass(frozen=True)
class Target:
    """A NumPy file that takes blocks; it travels to other processes by its name."""

    path: str
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int

    def __setitem__(self, box: tuple[slice, ...], block: np.ndarray) -> None:
        depth = next((k for k, n in enumerate(block.shape) if n != 1), block.ndim)
        if block.shape[depth + 1 :] != self.shape[depth + 1 :]:  # several runs of bytes
            np.memmap(self.path, self.dtype, "r+", self.offset, self.shape)[box] = block
            return
        first = sum(cut.start * math.prod(self.shape[axis + 1 :]) for axis, cut in enumerate(box))
        with open(self.path, "r+b", buffering=0) as file:
            file.seek(self.offset + first * self.dtype.itemsize)
            write_all(file, block.astype(self.dtype, copy=False))


def losses(image: xr.DataArray) -> list[str]:
    """Name what a NumPy file does not keep of an image."""
    lost = []
    if image.coords:
        lost.append("calibration and units")
    if "".join(map(str, image.dims)) not in ("yx", "iyx", "yxvu", "iyxvu", "ityxvu"):
        lost.append("names of the axes")
    return lost
