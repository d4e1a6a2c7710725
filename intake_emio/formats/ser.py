"""FEI / Thermo Fisher TIA series (.ser) and acquisitions (.emi): images or spectra, alone, in series and in scans.

A `.ser` holds the pixels and the geometry of one detector, read in `_ser_series`; the `.emi` beside it adds the
microscope's state, read in `_emi`. Layout and quirks: docs/formats/ser.md.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import arguments
from ..axes import ORDER, Calibration, Scale, default_axes
from ..errors import ArgumentError, EmioError, EmioWarning, MissingFileError
from ..frames.files import File
from ..frames.frames import Frames
from ..frames.layout import FrameStack
from ..frames.navigation import Navigation, check_sync_offset, navigate
from ..frames.picked import Picked
from ..frames.pixels import Pixels
from ..frames.views import Mapped
from ..image import Image, Variable
from ..source import ImageSource
from . import _emi
from ._emi import ObjectInfo
from ._ser_series import (
    BYTE,
    MAGIC,
    NM,
    TAG_BYTES,
    TIME_AND_POSITION,
    Series,
    TagField,
    copied,
    read_series,
    runs,
    scan_of,
)

METRES = ("meters", "m")
SERIES_NAME = re.compile(r"(.+)_(\d{1,9})")


class SerSource(ImageSource):
    """TIA series, opened by its `.ser` file or by the `.emi` of the acquisition.

    Images are `yx`, in a series `iyx`, in a scan `yxvu`. Spectra are `c`, in a series or along a line `ic`, in a scan
    `cyx`.

    Parameters
    ----------
    uri
        Path or URL of ``x_1.ser``, or of ``x.emi``, which stands for all ``x_<number>.ser`` beside it.
    only_valid_data
        Of a series that was stopped, give what was recorded; `False`: its planned length, and what is missing is blank.
        Scans of two and more dimensions always keep their planned shape.
    series
        Number of the `.ser` to open of an `.emi`; default: the lowest.
    **common
        See `ImageSource`.

    Raises
    ------
    HeaderError
        If the file is no TIA series, holds no data, or its header contradicts it.
    TruncatedError
        If an element ends behind the end of the file.
    MissingFileError
        If no `.ser` lies beside the `.emi`.
    ArgumentError
        If there is no such `series`, `sig_shape` has another number of pixels than an element, or `sync_offset` is out
        of range.

    Notes
    -----
    Row 0 of an image is the last one stored. The time of every element and the positions of the beam are coordinates
    ``time``, ``position_x`` and ``position_y``. Sources of the facts: RosettaSciIO, ncempy, LiberTEM, files of users.

    Examples
    --------
    >>> import struct, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a_1.ser"
    >>> header = struct.pack("<HHHIIIIII", 0x4949, 0x197, 0x210, 0x4122, 0x4152, 1, 1, 30, 0)
    >>> element = struct.pack("<ddIddIHII", 0, 1e-9, 0, 0, 1e-9, 0, 1, 3, 2) + bytes([1, 2, 3, 4, 5, 6])
    >>> tag = struct.pack("<HHI", 0x4152, 0, 1456167001)
    >>> _ = path.write_bytes(header + struct.pack("<II", 38, 94) + element + tag)
    >>> SerSource(path).to_dask().image.values.tolist()
    [[4, 5, 6], [1, 2, 3]]
    """

    name = "emio_ser"
    format_name = "ser"

    def __init__(self, uri: Any, *, only_valid_data: Any = True, series: Any = None, **common: Any):
        super().__init__(uri, **common)
        self.only_valid_data = arguments.flag("only_valid_data", only_valid_data)
        self.series = None if series in (None, "None") else arguments.number("series", series, least=0)

    def parse(self, file: File) -> Image:
        """Describe a series from its header, its first element, and the `.emi`."""
        beside: Mapping[int, File] = {}
        number: int | None
        emi: File | None
        if is_emi(file):
            base, emi, beside = file.stem, file, series_beside(file, file.stem)
            number = self._chosen(file, beside)
            ser = beside[number]
        else:
            base, number = base_and_number(file)
            self._check_series(file, number)
            ser, emi = file, None if number is None else emi_of(file, base)
        series = read_series(ser)
        info = ObjectInfo()
        if emi is not None and number is not None:
            info = info_of(emi, sorted(beside or series_beside(file, base)), number)
        return self._described(file, series, info, self._listed(beside))

    def _chosen(self, emi: File, beside: Mapping[int, File]) -> int:
        if not beside:
            raise MissingFileError(
                f"{emi}: no {emi.stem}_1.ser (or another number) beside it. The pixels are in .ser files: put them "
                "into the same folder, under the name of the .emi. Pixels inside the .emi cannot be read"
            )
        number = min(beside) if self.series is None else self.series
        if number not in beside:
            raise ArgumentError(
                f"{emi}: series={number}, but beside it are only {', '.join(beside[n].name for n in sorted(beside))}"
            )
        return number

    def _check_series(self, ser: File, number: int | None) -> None:
        if self.series not in (None, number):
            itself = "has no number" if number is None else f"is series {number}"
            raise ArgumentError(f"{ser}: series={self.series}, but this file {itself}: open the .emi to choose")

    def _listed(self, beside: Mapping[int, File]) -> tuple[Mapping[str, Any], ...]:
        """List what the series of an acquisition hold, if there are several; one that is broken without its shape."""
        listed = []
        for number in sorted(beside) if len(beside) > 1 else ():
            entry: dict[str, Any] = {"index": number, "name": beside[number].name}
            try:
                series = read_series(beside[number])
                shape = scan_of(series, self.only_valid_data)
                shape = (*series.shape, *shape) if series.spectra and len(shape) > 1 else (*shape, *series.shape)
                kind = "spectra" if series.spectra else "images"
                entry |= {"shape": shape, "dtype": series.dtype.newbyteorder("=").name, "kind": kind}
            except EmioError:
                entry |= {"shape": (), "dtype": "", "kind": "unreadable"}
            listed.append(entry)
        return tuple(listed)

    def _described(self, file: File, series: Series, info: ObjectInfo, listed: tuple[Mapping[str, Any], ...]) -> Image:
        scan = self._scan(series)
        check_sync_offset(series.file, self.sync_offset, series.count)
        navigation = navigate(series.file, series.count, scan, nav_shape=self.nav_shape, sync_offset=self.sync_offset)
        frame = self._frame_shape(series)
        depth = len(navigation.shape)
        axes = self._given_metadata.get("axes") or self._axes(series, depth, len(frame))
        calibration: dict[str, Calibration] = {}
        if frame == series.shape:
            calibration |= _element_scales(series, axes[depth:], info)
        if navigation.shape == scan:
            calibration |= _scan_scales(series, axes[:depth])
        pixels = Frames(series.stack(frame), navigation, self.storage(), series.file.stamp)
        described = {"ObjectInfo": info.fields} if info.fields else {}
        return Image(
            pixels,
            axes,
            calibration=calibration,
            header={**series.header, **described},
            acquisition={**info.acquisition(spectra=series.spectra), "title": file.stem},
            facts=self._facts(series, navigation, axes[:depth]),
            stored_frame=series.shape,
            datasets=listed,
        ).arranged(None if self._given_metadata.get("axes") else ORDER)

    def _scan(self, series: Series) -> tuple[int, ...]:
        if self.nav_shape is None and not series.consistent:
            warnings.warn(
                f"{series.file}: dimensions of {series.sizes} do not hold the {series.total} elements that were "
                f"planned: the {series.count} that are there are read as one axis. Pass nav_shape=",
                EmioWarning,
                stacklevel=5,
            )
        return scan_of(series, self.only_valid_data)

    def _frame_shape(self, series: Series) -> tuple[int, ...]:
        if self.sig_shape is None:
            return series.shape
        if math.prod(self.sig_shape) != math.prod(series.shape):
            raise ArgumentError(
                f"{series.file}: sig_shape={self.sig_shape} does not hold the {math.prod(series.shape)} pixels of an "
                f"element of {series.shape}"
            )
        return self.sig_shape

    def _axes(self, series: Series, depth: int, signal: int) -> str:
        if series.spectra and signal == 1:
            return default_axes(depth, 1)[:-1] + "c"
        return default_axes(depth, signal)

    def _facts(self, series: Series, navigation: Navigation, axes: str) -> dict[str, Variable]:
        """Time and beam position of every element, from its tag."""
        if series.tag_id not in TAG_BYTES:
            warnings.warn(
                f"{series.file}: TagTypeID 0x{series.tag_id:04x} is unknown, expected 0x4152 or 0x4142: there are no "
                "times and positions",
                EmioWarning,
                stacklevel=5,
            )
            return {}
        fields: dict[str, tuple[TagField, Any, dict[str, str]]] = {
            "time": (TagField(series.tag_id, 4, "time"), np.datetime64("NaT"), {"long_name": "UTC"})
        }
        if series.tag_id == TIME_AND_POSITION:
            fields["position_x"] = TagField(series.tag_id, 8, "position"), math.nan, {"units": "nm"}
            fields["position_y"] = TagField(series.tag_id, 16, "position"), math.nan, {"units": "nm"}
        return {
            name: Variable(Mapped(self._tags(series, navigation, tag), copied, None, blank), axes, attrs)
            for name, (tag, blank, attrs) in fields.items()
        }

    def _tags(self, series: Series, navigation: Navigation, tag: TagField) -> Pixels:
        """Return a field of the tags, seen through the scan; where the tag of an element is lost, nothing."""
        offsets, length = series.tag_offsets, tag.stored_bytes(())
        good = (offsets >= series.end) & (offsets <= series.file.size - length)

        def tags(some: np.ndarray, points: Navigation) -> Frames:
            pieces, stride = runs(series.file.uri, some, length)
            stack = FrameStack(pieces, BYTE, (), frame_footer=stride - length, decoder=tag)
            return Frames(stack, points, self.storage(), series.file.stamp)

        if good.all():
            return tags(offsets, navigation)
        if not navigation.shape:  # a single element
            only = slice(navigation.first, navigation.first + 1)
            return tags(offsets[only][good[only]], Navigation.of(()))
        elements = navigation.frames()
        place = np.append(np.where(good, np.cumsum(good) - 1, -1), -1)  # of each element among the good tags
        table = place[np.where((elements >= 0) & (elements < series.count), elements, -1)]
        return Picked(tags(offsets[good], Navigation.of((int(good.sum()),))), table)


# The files of an acquisition -----------------------------------------------------------------------------------------


def is_emi(file: File) -> bool:
    """Whether a file is the acquisition, not one of its series."""
    head = file.read(0, 4)
    return head == _emi.MAGIC or (file.extension == ".emi" and head != MAGIC)


def series_beside(file: File, base: str) -> dict[int, File]:
    """Series of an acquisition in the folder of a file, by number; never by a pattern, which brackets would break."""
    found: dict[int, File] = {}
    for name in file.neighbours or (f"{base}_1.ser",):
        stem, extension = name[:-4], name[-4:].lower()
        match = SERIES_NAME.fullmatch(stem) if extension == ".ser" else None
        if match and match[1] == base:
            found.setdefault(int(match[2]), file.sibling(name))
    return found if file.neighbours else {n: ser for n, ser in found.items() if _there(ser)}


def base_and_number(ser: File) -> tuple[str, int | None]:
    """Name of the acquisition that a series is part of, and its number in it."""
    match = SERIES_NAME.fullmatch(ser.stem)
    return (match[1], int(match[2])) if match else (ser.stem, None)


def emi_of(ser: File, base: str) -> File | None:
    """Return the acquisition beside a series, its extension in any case."""
    plain = ser.sibling(f"{base}.emi")
    if _there(plain):
        return plain
    others = (name for name in ser.neighbours if name.lower().endswith(".emi") and name[:-4] == base)
    return next((ser.sibling(name) for name in others), None)


def _there(file: File) -> bool:
    try:
        return file.exists()
    except EmioError:  # a folder, or a name that no file can have
        return False


def info_of(emi: File, numbers: list[int], number: int) -> ObjectInfo:
    """What the acquisition says of one of its series; trouble costs the metadata, never the pixels."""
    try:
        objects = tuple(_emi.stored_objects(emi.read(0, _emi.LARGEST_FILE)))
    except OSError as error:
        warnings.warn(f"{emi}: {error}: it is ignored", EmioWarning, stacklevel=4)
        return ObjectInfo()
    stored = _emi.object_of(objects, numbers, number)
    if stored is None:
        reason = (
            f"none of its {len(objects)} objects can be told to be" if objects else "no <ObjectInfo> in it: nothing is"
        )
        warnings.warn(f"{emi}: {reason} of series {number}: its metadata are ignored", EmioWarning, stacklevel=4)
        return ObjectInfo()
    return _emi.read_object(emi, stored)


# Calibration ---------------------------------------------------------------------------------------------------------


def _element_scales(series: Series, axes: str, info: ObjectInfo) -> dict[str, Calibration]:
    """Energies in eV; pixels of images in nm, of diffraction patterns in 1/nm. Units do not stand in the file.

    Which of them it is, the acquisition knows, unless pixels of more than a metre prove that they are in 1/m.
    """
    found: dict[str, Scale | None]
    if series.spectra:
        found = {axes: series.lines[0].scale(1, "eV")}
    else:
        huge = any(abs(line.delta) > 1 for line in series.lines)
        factor, units = (1 / NM, "1/nm") if huge or info.diffraction else (NM, "nm")
        found = {axis: line.scale(factor, units) for axis, line in zip(reversed(axes), series.lines, strict=True)}
    return {axis: scale for axis, scale in found.items() if scale is not None}


def _scan_scales(series: Series, axes: str) -> dict[str, Calibration]:
    """Calibration of the scan; counting is none."""
    if not series.consistent or len(axes) != len(series.dimensions) or _are_points(series):
        return {}
    found: dict[str, Calibration] = {}
    for axis, dimension in zip(reversed(axes), series.dimensions, strict=True):
        metres = dimension.units in METRES
        scale = dimension.line.scale(NM if metres else 1, "nm" if metres else dimension.units)
        if dimension.units and scale is not None:
            found[axis] = scale
    return found


def _are_points(series: Series) -> bool:
    """Whether single points were measured: TIA stores them as a line with a step of 1 m, which positions contradict."""
    if len(series.dimensions) != 1 or series.tag_id != TIME_AND_POSITION or series.count < 2:
        return False
    tags = [series.file.read(int(offset), TAG_BYTES[TIME_AND_POSITION]) for offset in series.tag_offsets[:2]]
    if any(len(tag) < 24 or int.from_bytes(tag[:2], "little") != series.tag_id for tag in tags):
        return False
    first, second = (np.frombuffer(tag, "<f8", offset=8) for tag in tags)
    step = abs(series.dimensions[0].line.delta)
    return bool(abs(math.dist(first, second) - step) > 0.01 * step)
