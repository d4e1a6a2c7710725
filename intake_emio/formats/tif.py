"""TIFF (.tif, .ome.tif, BigTIFF): images of microscopes of every make, from one page to volumes and pyramids.

tifffile reads and writes the format; here are axes, calibration, laziness and errors. Layout, quirks and rules of
writing: docs/formats/tif.md.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import math
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import arguments
from ..axes import ORDER, Calibration, Labels, Scale, default_axes
from ..errors import ArgumentError, EmioWarning, HeaderError, TruncatedError
from ..frames.files import File
from ..frames.frames import Frames
from ..frames.layout import FrameStack, Piece
from ..frames.navigation import Navigation, navigate
from ..frames.pages import Pages, is_gzipped, segments_of, stamps_of
from ..frames.pixels import Pixels
from ..image import Image
from ..source import ImageSource
from ._tif_account import Account, Page
from ._tif_checks import (
    MAGICS,
    check_decodable,
    check_imagej,
    check_members,
    check_page,
    check_segments,
    check_start,
    directories,
    parsing,
)
from ._tif_record import record_of, saved_axes
from ._tif_vendors import CALIBRATING, account_of
from ._tif_writing import file_axes, ome_file_axes, save, save_ome

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

__all__ = ["TifSource", "file_axes", "is_tif", "name_axes", "ome_file_axes", "save", "save_ome"]

GZIP = b"\x1f\x8b"
BULK = (273, 279, 324, 325, 320, 513, 514, 65027)
"""Tags that are tables of strips and tiles, colour maps or thumbnails."""

BULK_BYTES = 1 << 16
COLOURS = {2: "rgba", 5: "cmyk", 6: "rgba"}
"""Names of samples by photometric interpretation: RGB, CMYK, and YCbCr, which is decoded to RGB."""

ODD_AXES = "PRAFHLV"
"""tifffile's plane, region, angle, phase, lifetime, exposure, event: images of a stack, if there is one of them."""

PAGE_AXES = {"Z": 1, "Y": 2, "X": 3}


class TifSource(ImageSource):
    """One series of a TIFF file, at one level of its pyramid.

    Parameters
    ----------
    uri
        Path or URL of the file, which may be packed by gzip (``.tif.gz``).
    series
        Which series, counted from 0. `None`: the one with the most pixels that is no thumbnail; of equals the one with
        a vendor's calibration, then that with more bits.
    level
        0: full resolution; `k`: that level of the pyramid.
    force_read_resolution
        Believe the resolution tags, whatever they say: those of many programs are the resolution of a screen.
    allow_missing
        Whether files that OME-XML names may be missing; their pages are blank then.
    **common
        See `ImageSource`.

    Raises
    ------
    HeaderError
        If the file is no TIFF, or its directories contradict it.
    TruncatedError
        If pixels lie behind the end of the file.
    MissingFileError
        If other files of an OME set are not there.
    ArgumentError
        If there is no such series or level, or an argument does not fit.

    Examples
    --------
    >>> import pathlib, tempfile, numpy as np, tifffile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "stack.tif"
    >>> tifffile.imwrite(path, np.zeros((5, 4, 6), "u2"), imagej=True, resolution=(4, 4),
    ...                  metadata={"unit": "nm", "axes": "ZYX", "spacing": 2})
    >>> image = TifSource(path).to_dask().image
    >>> image.dims, float(image.x[1]), image.x.units
    (('z', 'y', 'x'), 0.25, 'nm')
    """

    name = "emio_tif"
    format_name = "tif"

    def __init__(
        self,
        uri: Any,
        *,
        series: Any = None,
        level: Any = 0,
        force_read_resolution: Any = False,
        allow_missing: Any = False,
        output_axis_order: str | None = ORDER,
        **common: Any,
    ):
        super().__init__(uri, output_axis_order=output_axis_order, **common)
        self.series = None if series in (None, "None") else arguments.number("series", series, least=0)
        self.level = arguments.number("level", level, least=0)
        self.force_read_resolution = arguments.flag("force_read_resolution", force_read_resolution)
        self.allow_missing = arguments.flag("allow_missing", allow_missing)

    def parse(self, file: File) -> Image:
        """Describe one series from its directories."""
        check_start(file)
        with parsing(file), directories(file, self.storage_options) as tiff:
            check_members(file, tiff, self.allow_missing)
            listed = list(tiff.series)
            number = self._choose(file, listed)
            return self._describe(file, tiff, listed, number)

    def _choose(self, file: File, listed: list[TiffPageSeries]) -> int:
        """Number of the series that is meant."""
        if self.series is not None:
            if self.series >= len(listed):
                raise ArgumentError(f"{file}: there is no series {self.series}: {_listing(listed)}")
            return self.series
        if not listed:
            raise HeaderError(f"{file}: no image in the file")
        return max(range(len(listed)), key=lambda k: (*_rank(listed[k]), -k))

    def _describe(self, file: File, tiff: TiffFile, listed: list[TiffPageSeries], number: int) -> Image:
        series = listed[number]
        if self.level >= len(series.levels):
            raise ArgumentError(
                f"{file}: series {number} has no level {self.level}, only 0 to {len(series.levels) - 1}. "
                f"{_listing(listed)}"
            )
        level, keyframe = series.levels[self.level], series.keyframe
        check_page(file, level)
        check_imagej(file, tiff, series)
        saved = self._as_saved(file, tiff, listed, number)
        if saved is not None:
            return saved
        stored, shape = _without_single(level)
        images = _miscounted(file, tiff, series)
        if images:
            stored, shape = "I" + keyframe.axes, (images, *keyframe.shape)
        names = name_axes(stored, given="axes" in self._given_metadata, file=file)
        account = account_of(Page(file, tiff, keyframe, names, shape, series.kind, number, self.force_read_resolution))
        names = "".join(account.renamed.get(a, a) for a in names)
        pixels, depth = self._pixels(file, tiff, level, shape, _frame_start(stored))
        names = self._names(names, depth, pixels)
        calibration = _calibration(names, pixels.shape, account, _ratios(series.levels[0], level))
        if "S" in stored:
            colour = "s" if "C" in stored else "c"
            sizes = dict(zip(names, pixels.shape, strict=True))
            letters = COLOURS.get(int(keyframe.photometric), "")[: sizes.get(colour, 0)]
            if letters and len(letters) == sizes[colour]:
                calibration[colour] = Labels(tuple(letters))
        return Image(
            pixels,
            names,
            calibration=calibration,
            header={**_header(file, keyframe), **account.header},
            acquisition=account.acquisition,
            attrs=dict(account.attrs),
            datasets=_datasets(listed),
        )

    def _as_saved(self, file: File, tiff: TiffFile, listed: list[TiffPageSeries], number: int) -> Image | None:
        """Return an image as it was when we saved it, if that is in the file and nobody wants its frames otherwise."""
        series = listed[number]
        record = record_of(tiff, series.kind, number)
        if record is None or self.level or self.nav_shape is not None or self.sync_offset:
            return None
        axes = saved_axes(record, series)
        if axes is None:
            return None
        pixels, _ = self._pixels(file, tiff, series, axes.shape, len(axes.counted))
        stored = Image(pixels, axes.stored, header=_header(file, series.keyframe), datasets=_datasets(listed))
        image = stored.part({a: 0 for a in axes.stored if a not in record.axes})
        saved = record.applied(image)
        return None if saved is image else saved

    def order_of(self, image: Image) -> str | None:
        """Order in which the axes are presented: images that we saved keep theirs, unless the user wants another."""
        asked = "output_axis_order" in self._captured_init_kwargs
        return self.output_axis_order if asked or image.order is None else None

    # Pixels ---------------------------------------------------------------------------------------------------------

    def _pixels(
        self, file: File, tiff: TiffFile, level: TiffPageSeries, shape: tuple[int, ...], depth: int
    ) -> tuple[Pixels, int]:
        """Return the pixels, and how many axes of navigation the file gives them; `depth` if they are contiguous."""
        page = level.keyframe
        plain = page.is_final and page.dtype is not None and page.dtype.kind != "b" and not is_gzipped(file.uri)
        offset = level.dataoffset if plain else None
        if offset is not None:
            stack = _contiguous_stack(file, tiff, level, offset, shape, depth)
            return self._frames(file, stack, shape[:depth], (file.stamp,)), depth
        pages = list(level.pages)
        if math.prod(shape) != math.prod(level.shape):
            pages = list(tiff.pages)
        depth = len(shape) - page.ndim
        if depth < 0 or shape[depth:] != tuple(page.shape) or math.prod(shape[:depth]) != len(pages):
            raise HeaderError(
                f"{file}: {len(pages)} pages of shape {tuple(page.shape)} do not make up an image of shape {shape}"
            )
        if plain and all(one is not None for one in pages):
            stack = _scattered_stack(file, tiff, pages, tuple(page.shape), level.dtype)
            stamps = stamps_of(tuple(dict.fromkeys(piece.path for piece in stack.pieces)), self.storage_options)
            return self._frames(file, stack, shape[:depth], stamps), depth
        return self._segments(file, level, pages, shape[:depth]), depth

    def _frames(self, file: File, stack: FrameStack, grid: tuple[int, ...], stamps: tuple[object, ...]) -> Frames:
        self._check_frame(file, stack.frame_shape)
        return Frames(stack, self._navigation(file, stack.count, grid), self.storage(), stamps)

    def _segments(
        self, file: File, level: TiffPageSeries, pages: list[TiffPage | TiffFrame | None], grid: tuple[int, ...]
    ) -> Pages:
        page = level.keyframe
        check_decodable(file, page)
        paths = tuple(dict.fromkeys(_path(file, one) for one in pages if one is not None))
        for number, one in enumerate(pages):
            if one is not None:
                check_segments(file, page, one, number)
        numbers = {path: k for k, path in enumerate(paths)}
        axes = _page_axes(file, page)
        segment = (1, *segments_of(page)[0])
        self._check_frame(file, tuple(page.shape))
        return Pages(
            paths,
            np.array([0 if one is None else numbers[_path(file, one)] for one in pages], "i4"),
            np.array([-1 if one is None else one.offset for one in pages], "i8"),
            tuple(page.shape),
            axes,
            np.dtype(page.dtype).newbyteorder("="),
            tuple(segment[axis] for axis in axes),
            self._navigation(file, len(pages), grid),
            self.storage(),
            stamps_of(paths, self.storage_options),
        )

    def _navigation(self, file: File, count: int, grid: tuple[int, ...]) -> Navigation:
        return navigate(file, count, grid, nav_shape=self.nav_shape, sync_offset=self.sync_offset)

    def _check_frame(self, file: File, frame: tuple[int, ...]) -> None:
        if self.sig_shape is not None and self.sig_shape != frame:
            raise ArgumentError(f"{file}: sig_shape={self.sig_shape}, but the frames are {frame}: leave it out")

    def _names(self, names: str, depth: int, pixels: Pixels) -> str:
        """Names of the axes, where `nav_shape` makes others of them."""
        grid = pixels.ndim - pixels.frame_ndim
        if self.nav_shape is None or grid == depth:
            return names
        default, frame = default_axes(grid), names[depth:]
        pairs = {"y": default[-2], "x": default[-1], "v": default[-2], "u": default[-1]}
        return default[:-2] + "".join(pairs.get(a, a) for a in frame)


def is_tif(file: File) -> bool:
    """Whether a file packed by gzip holds a TIFF file."""
    if not is_gzipped(file.uri) or file.read(0, 2) != GZIP:
        return False
    try:
        return zlib.decompressobj(31).decompress(file.read(0, 512), 4) in MAGICS
    except zlib.error:
        return False


# Axes ----------------------------------------------------------------------------------------------------------------


def name_axes(stored: str, *, given: bool = False, file: object = "TIFF") -> str:
    """Our names for tifffile's axes.

    Parameters
    ----------
    stored
        tifffile's.
    given
        Whether the user names them anyway: then any letters will do.
    file
        For messages.

    Raises
    ------
    ArgumentError
        If nothing tells what the axes are.

    Examples
    --------
    >>> name_axes("TZCYX"), name_axes("IYXS"), name_axes("QQYX"), name_axes("YXVU")
    ('tzcyx', 'iyxc', 'yxvu', 'yxvu')
    """
    unknown = stored.count("Q")
    if unknown in (2, 3) and stored == "Q" * unknown + "YX":
        return default_axes(unknown)
    if stored.endswith("YXVU"):
        return stored.lower()
    if unknown > 1 and not given:
        raise ArgumentError(
            f'{file}: {unknown} of the axes {stored} are of unknown meaning: pass metadata={{"axes": ...}} with one '
            "letter for each"
        )
    odd = [a for a in stored if a in ODD_AXES]
    names: list[str] = []
    for letter in stored:
        free = not {"i", "I", "Q"} & ({*names} | {*stored})
        if letter == "S":
            name = "c" if "C" not in stored else "s"
        elif letter == "E":
            name = "c" if not {"C", "S"} & {*stored} else "e"
        elif letter == "Q" or (letter in ODD_AXES and len(odd) == 1 and free):
            name = "i"
        else:
            name = "w" if letter == "V" else letter.lower()  # v is for detector rows
        if name in names or not name.isalpha():
            name = next(a for a in "jklmnopqrst" if a not in names and a.upper() not in stored)
        names.append(name)
    return "".join(names)


def _without_single(level: TiffPageSeries) -> tuple[str, tuple[int, ...]]:
    """Axes and shape of a series without axes of length 1, other than rows and columns."""
    kept = "YXVU" if level.axes.upper().endswith("YXVU") else "YX"
    pairs = [(a, int(n)) for a, n in zip(level.axes.upper(), level.shape, strict=True) if n > 1 or a in kept]
    return "".join(a for a, _ in pairs), tuple(n for _, n in pairs)


def _frame_start(stored: str) -> int:
    """Where the axes of a frame begin: rows, or planes of samples in front of them."""
    first = "V" if stored.endswith("YXVU") else "Y"
    start = stored.find(first)
    if start < 0:
        return max(0, len(stored) - 2)
    return start - (start > 0 and stored[start - 1] == "S")


def _page_axes(file: File, page: TiffPage) -> tuple[int, ...]:
    """Which of the five axes of every page the shape of this one shows."""
    axes = tuple(
        PAGE_AXES.get(letter, -1) if letter != "S" else 0 if k < page.axes.index("Y") else 4
        for k, letter in enumerate(page.axes)
    )
    if -1 in axes or tuple(page.shaped[k] for k in axes) != tuple(page.shape):
        raise HeaderError(f"{file}: pages with axes {page.axes} of shape {tuple(page.shape)} are not understood")
    return axes


def _miscounted(file: File, tiff: TiffFile, series: TiffPageSeries) -> int:
    """Return the number of ImageJ's images where it is not frames x slices x channels, and warn; else 0."""
    said = tiff.imagej_metadata or {}
    images = int(said.get("images", 1))
    claimed = math.prod(int(said.get(name, 1)) for name in ("frames", "slices", "channels"))
    if series.kind != "imagej" or images == 1 or claimed in (1, images) or series.keyframe.samplesperpixel > 1:
        return 0
    warnings.warn(
        f"{file}: ImageJ's frames x slices x channels are {claimed}, but there are {images} images: they are a plain "
        "stack",
        EmioWarning,
        5,
    )
    return images


# Calibration and metadata --------------------------------------------------------------------------------------------


def _calibration(
    names: str, shape: tuple[int, ...], account: Account, ratios: Mapping[str, float]
) -> dict[str, Calibration]:
    """What an account says of the axes that there are, at one level of a pyramid."""
    said = dict(account.calibration)
    if "v" in names and not account.renamed:  # pages are patterns then, and pixel sizes are theirs
        said = {{"y": "v", "x": "u"}.get(axis, axis): scale for axis, scale in said.items() if axis not in "vu"}
    sizes = dict(zip(names, shape, strict=True))
    result: dict[str, Calibration] = {}
    for axis, scale in said.items():
        if isinstance(scale, Scale) and axis in sizes:
            result[axis] = replace(scale, step=scale.step * ratios.get(axis, 1.0))
        elif isinstance(scale, Labels) and len(scale.labels) == sizes.get(axis):
            result[axis] = scale
    return result


def _ratios(full: TiffPageSeries, level: TiffPageSeries) -> dict[str, float]:
    """How many pixels of full resolution one pixel of a level is, by axis."""
    if full is level or len(full.shape) != len(level.shape):
        return {}
    pairs = zip(full.axes.lower(), full.shape, level.shape, strict=True)
    return {axis: n / m for axis, n, m in pairs if axis in "zyx" and n != m}


def _header(file: File, page: TiffPage) -> dict[str, Any]:
    """Every tag under its name, but for bulk."""
    header: dict[str, Any] = {}
    for tag in page.tags:
        if tag.code in BULK or tag.valuebytecount > BULK_BYTES:
            continue
        with contextlib.suppress(Exception):  # a tag that cannot be read is none
            header[tag.name] = _plain(tag.value)
    if page.colormap is not None:
        header["colormap"] = page.colormap.tolist()
    header["photometric"] = getattr(page.photometric, "name", str(page.photometric))
    header["compression"] = getattr(page.compression, "name", str(page.compression))
    return header


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [value.real, value.imag] if isinstance(value, complex) else value


def _datasets(listed: list[TiffPageSeries]) -> tuple[Mapping[str, Any], ...]:
    return tuple(
        {"index": k, "name": series.name, "shape": tuple(series.shape), "dtype": str(series.dtype)}
        for k, series in enumerate(listed)
        if not series.keyframe.is_reduced
    )


def _listing(listed: list[TiffPageSeries]) -> str:
    lines = (f"{k}: {s.axes} {tuple(s.shape)} {s.dtype} {s.name!r}" for k, s in enumerate(listed))
    return f"the file has {len(listed)} series ({'; '.join(lines)})"


def _rank(series: TiffPageSeries) -> tuple[bool, int, bool, int]:
    """What makes a series the one that is meant: no thumbnail, many pixels, calibrated, many bits."""
    page = series.keyframe
    samples = series.shape[series.axes.index("S")] if "S" in series.axes else 1
    calibrated = any(code in page.tags for code in CALIBRATING)
    return not page.is_reduced, math.prod(series.shape) // max(1, samples), calibrated, page.bitspersample


# Where pixels lie ----------------------------------------------------------------------------------------------------


def _contiguous_stack(
    file: File, tiff: TiffFile, level: TiffPageSeries, offset: int, shape: tuple[int, ...], depth: int
) -> FrameStack:
    """Frames one behind the other, such as ImageJ's, of which only the first has a directory."""
    dtype = np.dtype(level.dtype).newbyteorder(tiff.byteorder)
    count, frame = math.prod(shape[:depth]), shape[depth:]
    frame_bytes = math.prod(frame) * dtype.itemsize
    end = offset + count * frame_bytes
    if end > file.size:
        whole = max(0, (file.size - offset) // frame_bytes)
        raise TruncatedError(
            f"{file}: page {whole} of {count} is cut: pixels reach to byte {end}, but the file ends at byte {file.size}"
        )
    return FrameStack.in_one_file(file.uri, dtype, frame, count, offset=offset)


def _scattered_stack(
    file: File, tiff: TiffFile, pages: list[Any], frame: tuple[int, ...], dtype: np.dtype
) -> FrameStack:
    """Frames with directories between them: at a constant stride if there is one, else each a piece of its own."""
    pixel = np.dtype(dtype).newbyteorder(tiff.byteorder)
    frame_bytes = math.prod(frame) * pixel.itemsize
    places = [(_path(file, page), int(page.dataoffsets[0])) for page in pages]
    for number, (page, (_, at)) in enumerate(zip(pages, places, strict=True)):
        size = page.parent.filehandle.size
        if at + frame_bytes > size:
            raise TruncatedError(
                f"{file}: page {number} reaches to byte {at + frame_bytes}, but the file ends at byte {size}"
            )
    steps = {b - a for (_, a), (_, b) in itertools.pairwise(places)}
    if len({path for path, _ in places}) == 1 and len(steps) == 1 and min(steps) >= frame_bytes:
        gap = steps.pop() - frame_bytes
        return FrameStack.in_one_file(places[0][0], pixel, frame, len(places), offset=places[0][1], frame_footer=gap)
    return FrameStack(tuple(Piece(path, at, 1) for path, at in places), pixel, frame)


def _path(file: File, page: TiffPage | TiffFrame) -> str:
    """Name of the file that a page lies in."""
    own = page.parent.filehandle
    return file.uri if own.name == file.name or file.remote or is_gzipped(file.uri) else file.sibling(own.name).uri
