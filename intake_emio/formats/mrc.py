"""MRC and CCP4 maps (.mrc, .mrcs, .map …): images, stacks, volumes, movies of Direct Electron cameras, Velox scans.

Layout and quirks: docs/formats/mrc.md.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import arguments
from ..axes import ORDER, Calibration, Labels, check_axes, default_axes
from ..errors import ArgumentError, EmioError, HeaderError, MissingFileError, TruncatedError
from ..frames.files import File
from ..frames.frames import Frames
from ..frames.layout import FrameStack
from ..frames.navigation import Navigation, check_sync_offset, navigate
from ..frames.picked import Picked
from ..frames.pixels import Pixels
from ..frames.storage import Storage
from ..frames.unpacked import Unpacked
from ..image import Image, Variable
from ..source import ImageSource
from . import _mrc_direct_electron as direct_electron
from ._mrc_direct_electron import POSITIONS, Info
from ._mrc_extended import Extended, read_extended
from ._mrc_header import (
    COLOURS,
    HEADER,
    MAP,
    MAP_AT,
    Header,
    bytes_up_to,
    content_of,
    in_right_order,
    kind_of,
    read_header,
)
from ._mrc_writing import file_axes, losses, save

__all__ = ["MrcSource", "file_axes", "is_mrc", "losses", "save"]

EXTENSIONS = (".mrc", ".mrcs", ".map", ".st", ".ali", ".rec", ".preali")
STACKS = (".mrcs", ".st", ".ali", ".preali")
LARGEST_CLAIM = 1 << 30
MOST_NAMED = 4  # navigation axes that have default names


class MrcSource(ImageSource):
    """MRC file as an image `yx`, a stack `iyx`, a movie `tyx`, a scan `yxvu`, or volumes `zyx` and `izyx`.

    Parameters
    ----------
    uri
        Path or URL of the file, which may be packed by gzip or bzip2.
    dtype
        ``"u1"`` or ``"i1"``: how bytes of mode 0 are to be read. Default: as IMOD's flag, the camera or the range of
        values says.
    endianess
        ``"<"`` or ``">"``; default: the file's own.
    metadata_file
        Info file of a Direct Electron movie. ``"auto"``: the one beside it; `None`: none.
    scan_file
        Table of the scan positions of a Direct Electron movie; default: the one beside it, if the scan needs one.
    virtual_images, external_images
        Files with virtual images, and with those of other detectors, of a Direct Electron scan; default: those beside
        the movie.
    **common
        See `ImageSource`. `nav_shape` arranges the sections, `sig_shape` must have as many pixels as one of them.

    Raises
    ------
    HeaderError
        If the file is no MRC file, of an unknown mode, or contradicts itself; if the files beside a movie cannot be
        understood.
    TruncatedError
        If it ends early; `nav_shape` opens the frames that are there.
    StorageError
        If it is packed, and that is broken.
    MissingFileError
        If a scan needs positions, and there is no file with them.
    ArgumentError
        If an argument does not fit the file.

    Notes
    -----
    Sources of the facts: MRC2014, IMOD's documentation, mrcfile, RosettaSciIO, ncempy, files of users.

    Examples
    --------
    >>> import pathlib, struct, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "stack.mrc"
    >>> header = struct.pack("<10i6f", 3, 2, 4, 0, 0, 0, 0, 3, 2, 4, 30, 20, 40, 90, 90, 90).ljust(208, bytes(1))
    >>> _ = path.write_bytes((header + b"MAP DD").ljust(1024, bytes(1)) + bytes(range(24)))
    >>> image = MrcSource(path).to_dask().image
    >>> image.dims, image.dtype, float(image.x[1]), image.x.units
    (('i', 'y', 'x'), dtype('int8'), 1.0, 'nm')
    """

    name = "emio_mrc"
    format_name = "mrc"

    def __init__(
        self,
        uri: Any,
        *,
        dtype: Any = None,
        endianess: str | None = None,
        metadata_file: Any = "auto",
        scan_file: Any = None,
        virtual_images: Any = None,
        external_images: Any = None,
        output_axis_order: str | None = ORDER,
        **common: Any,
    ):
        super().__init__(uri, output_axis_order=output_axis_order, **common)
        self.dtype = _type_name(dtype)
        self.endianess = arguments.choice("endianess", endianess, (None, "<", ">"))
        self.metadata_file = None if metadata_file in (None, "None") else os.fspath(metadata_file)
        self.scan_file = None if scan_file in (None, "None") else os.fspath(scan_file)
        self.virtual_images = _names(virtual_images)
        self.external_images = _names(external_images)

    def parse(self, file: File) -> Image:
        """Describe a file from its header, its extended header, and what stands beside it."""
        content = content_of(file)
        header = read_header(content, self.endianess)
        check_sync_offset(content, self.sync_offset, header["nz"])
        movie = self._movie(content)
        extended = read_extended(content, header)
        plan = self._plan(content, header, movie, extended)
        stack = self._stack(content, header, plan, unsigned_maker=movie is not None)
        navigation, pixels = self._shown(content, stack, plan)
        depth = len(plan.shape)
        facts: dict[str, Variable] = {}
        if extended is not None and plan.points is None and not plan.is_volume:
            facts = extended.coordinates(content, header, navigation, self.storage(), plan.axes[:depth])
        return Image(
            pixels,
            plan.axes,
            calibration=self._calibration(header, extended, movie, plan),
            header=_account(header, extended, movie),
            acquisition={**(extended.acquisition() if extended else {}), **(movie.acquisition() if movie else {})},
            variables=self._pictures(content, plan, taken=["image", *plan.axes, *facts]),
            facts=facts,
            stored_frame=header.stack(file.uri, 1).frame_shape,
            outer=(header.record and header.record.outer) or {},
        )

    def storage(self) -> Storage:
        """How this source's bytes are fetched."""
        file = self.file or File(self.uri, self.storage_options)
        if not isinstance(content_of(file), Unpacked):
            return super().storage()
        if self.io_backend is not None:
            raise ArgumentError(
                f"{file}: io_backend={self.io_backend!r} reads files as they are, and this one is packed: leave it "
                "out, or unpack the file"
            )
        return Storage("packed", self.storage_options)

    # Frames ---------------------------------------------------------------------------------------------------------

    def _movie(self, file: File) -> Info | None:
        """What is known of a Direct Electron movie; `None`: it is none."""
        if self.metadata_file == "auto":
            found = direct_electron.beside(file, "_info.txt")
        else:
            found = self.metadata_file and direct_electron.named(file, self.metadata_file)
        if found:
            return Info.read(found)
        return Info() if direct_electron.is_movie(file) or self.scan_file else None

    def _stack(self, file: File, header: Header, plan: Plan, unsigned_maker: bool) -> FrameStack:
        """Where frames lie, as many as there are."""
        if self.sig_shape is not None and math.prod(self.sig_shape) != math.prod(header.frame):
            raise ArgumentError(
                f"{file}: sig_shape={self.sig_shape} does not hold the {math.prod(header.frame)} pixels of a frame of "
                f"{header.frame}"
            )
        kind = kind_of(file, header, self.dtype, unsigned_maker)
        stack = header.stack(file.uri, header["nz"], self.sig_shape, kind)
        end = header.start + stack.count * stack.frame_bytes
        count = (bytes_up_to(file, end) - header.start) // stack.frame_bytes
        if count < 1 or (count < stack.count and not plan.may_be_short):
            way_out = f": pass nav_shape=({count},) to open those" if count else ": is this copy complete?"
            raise TruncatedError(
                f"{file}: holds {count} complete frames of {stack.frame_bytes} bytes, the header says {stack.count}"
                f"{way_out}"
            )
        return header.stack(file.uri, count, self.sig_shape, kind)

    def _shown(self, file: File, stack: FrameStack, plan: Plan) -> tuple[Navigation, Pixels]:
        """Frames as they are arranged."""
        frames = Frames(stack, Navigation.of((stack.count,)), self.storage(), file.stamp)
        if plan.points is not None:
            return frames.navigation, Picked(frames, plan.points)
        points = math.prod(plan.shape)
        claim = points * stack.frame_bytes
        if self.nav_shape is None and points > stack.count and claim > LARGEST_CLAIM and claim > 1000 * file.size:
            raise HeaderError(
                f"{file}: a scan of {plan.shape} would need {claim} bytes, the file has {file.size}: pass nav_shape="
            )
        navigation = navigate(file, stack.count, plan.shape, sync_offset=self.sync_offset)
        return navigation, frames.along(navigation)

    # Axes -----------------------------------------------------------------------------------------------------------

    def _plan(self, file: File, header: Header, movie: Info | None, extended: Extended | None) -> Plan:
        """How frames are arranged: as the user says, or a camera, or the microscope, or we, or the header."""
        nz = header["nz"]
        if self.nav_shape is not None:
            return self._gridded(header, self.nav_shape)
        if movie is not None:
            return self._of_movie(file, header, movie)
        scan = extended.scan_shape(nz) if extended else None
        if scan is not None:
            return self._gridded(header, scan)
        if header.record is not None and self.sig_shape is None:
            return Plan(header.record.shape[:-2], header.record.axes, is_volume=not header.is_stack)
        if header.labelled_shape is not None:
            return self._gridded(header, header.labelled_shape)
        if nz == 1:
            return self._gridded(header, ())
        if file.extension in STACKS or header.is_stack:
            return self._gridded(header, (nz,))
        return self._of_volume(file, header)

    def _gridded(self, header: Header, shape: tuple[int, ...], first: str = "", points: Any = None) -> Plan:
        """Plan of a grid of frames, whose axes get their default names, but for the first one."""
        given = self._given_metadata.get("axes")
        if given and len(shape) > MOST_NAMED:
            axes = check_axes(given)
        else:
            axes = default_axes(len(shape), len(self.sig_shape or header.frame)) + "c" * (header.mode == COLOURS)
        return Plan(shape, first + axes[len(first) :], points, may_be_short=self.nav_shape is not None)

    def _of_movie(self, file: File, header: Header, info: Info) -> Plan:
        """Plan of a Direct Electron movie: a raster, single positions, or a film."""
        nz = header["nz"]
        if self.scan_file is None and not info.is_scan:
            return self._gridded(header, (nz,) if nz > 1 else (), "t" * (nz > 1 and bool(info.entries)))
        if self.scan_file is None and info.is_raster:
            scan = info.raster(file)
            repeated = (info.repeats, *scan)
            shape = repeated if info.repeats > 1 and nz == math.prod(repeated) else scan
            return replace(self._gridded(header, shape), may_be_short=True)
        named = direct_electron.named(file, self.scan_file) if self.scan_file else None
        table = named or direct_electron.beside(file, POSITIONS)
        if table is None:
            raise MissingFileError(
                f"{file}: Scan - Type is {info.entries.get('Scan - Type')!r}, so the position of each frame is needed, "
                f"and there is no ...{POSITIONS} beside the movie: pass scan_file=, or nav_shape= to go without"
            )
        positions = direct_electron.read_positions(table, nz)
        points = direct_electron.table_of(table, positions, self.sync_offset, nz)
        return self._gridded(header, points.shape, points=points)

    def _of_volume(self, file: File, header: Header) -> Plan:
        """Plan of a volume, or of several; the header says which axis of space columns, rows and sections are."""
        nz = header["nz"]
        order = header.order_of_axes
        depth = header.intervals(order[2])
        shape: tuple[int, ...] = (nz,)
        if header.is_stack_of_volumes:
            if depth < 1 or nz % depth:
                raise HeaderError(
                    f"{file}: ispg={header['ispg']} says that this is a stack of volumes, but its {nz} sections are no "
                    f"multiple of the {depth} of a volume: pass nav_shape="
                )
            shape = (nz // depth, depth)
        columns, rows, sections = ("xyz"[k] for k in order)
        frame = rows + columns if self.sig_shape is None else default_axes(1, len(self.sig_shape))[1:]
        axes = "i" * (len(shape) - 1) + sections + frame + "c" * (header.mode == COLOURS)
        return Plan(shape, axes, is_volume=True)

    def _calibration(
        self, header: Header, extended: Extended | None, movie: Info | None, plan: Plan
    ) -> dict[str, Calibration]:
        """Coordinates of space; what the microscope or the camera says counts more than the cell of the header."""
        depth = len(plan.shape)
        frame = plan.axes[depth : depth + 2] if self.sig_shape in (None, header.frame) else ""
        columns, rows, sections = ("xyz"[k] for k in (header.order_of_axes if plan.is_volume else (0, 1, 2)))
        cell = {axis: scale for axis, scale in zip("xyz", map(header.scale, range(3)), strict=True) if scale}
        cell |= extended.pixel_scales(cell) if extended else {}
        letters = dict(zip(frame, (rows, columns), strict=False))
        if plan.is_volume:
            letters[plan.axes[depth - 1]] = sections
        found: dict[str, Calibration] = {letter: cell[axis] for letter, axis in letters.items() if axis in cell}
        if movie is not None:
            scan = "" if self.nav_shape is not None and not movie.scans(self.nav_shape) else plan.axes[:depth]
            found |= {axis: scale for axis, scale in movie.scales(plan.axes).items() if axis in scan + frame}
        if header.mode == COLOURS:
            found[plan.axes[-1]] = Labels(("r", "g", "b"))
        return found

    def _pictures(self, file: File, plan: Plan, taken: list[str]) -> dict[str, Variable]:
        """Virtual images of a scan, and those of other detectors; the first virtual one is the navigator."""
        depth = len(plan.shape)
        if depth < 2 or plan.is_volume:
            if self.virtual_images or self.external_images:
                raise ArgumentError(f"{file}: virtual_images and external_images need a scan, and this is none")
            return {}
        first = self.sync_offset if plan.points is None else 0
        given = self.virtual_images, self.external_images
        found = list(direct_electron.pictures(file, *given, plan.shape[-2:], first, super().storage()))
        names = [picture.title for picture in found]
        if found and found[0].is_virtual:
            names[0] = "navigator"
        return {
            name: Variable(picture.pixels, plan.axes[depth - 2 : depth], {"long_name": picture.title})
            for name, picture in zip(direct_electron.distinct(names, taken), found, strict=True)
        }


@dataclass(frozen=True)
class Plan:
    """How frames are arranged.

    Parameters
    ----------
    shape
        Navigation shape.
    axes
        Of all axes, in the order in which they are stored.
    points
        Which frame each point shows, if counting does not do; -1: none.
    may_be_short
        Whether frames that are missing at the end are blank.
    is_volume
        Whether sections are a dimension of space.
    """

    shape: tuple[int, ...]
    axes: str
    points: np.ndarray | None = None
    may_be_short: bool = False
    is_volume: bool = False


def is_mrc(file: File) -> bool:
    """Whether a file is MRC that is packed, or from before 2000: then only its extension and its header tell."""
    content = content_of(file)
    named = content.extension in EXTENSIONS
    try:
        raw = content.read(0, HEADER.itemsize)
        if raw[MAP_AT : MAP_AT + len(MAP)] == MAP:
            return len(raw) == HEADER.itemsize
        header = in_right_order(raw) if named and len(raw) == HEADER.itemsize else None
        if header is not None:
            end = header.start + header.stack(file.uri, 1).frame_bytes
            return bytes_up_to(content, end) == end
    except EmioError:
        pass
    return named and isinstance(content, Unpacked)  # the reader says what is wrong


def _account(header: Header, extended: Extended | None, movie: Info | None) -> dict[str, Any]:
    """All headers, under the names of the format."""
    account = header.account()
    if extended is not None:
        account["extended"] = dict(extended.first)
    if movie is not None and movie.entries:
        account["info"] = dict(movie.entries)
    return account


def _names(given: Any) -> list[str] | None:
    if given in (None, "None"):
        return None
    return [os.fspath(name) for name in ([given] if isinstance(given, os.PathLike) else arguments.members(given))]


def _type_name(dtype: Any) -> str | None:
    if dtype in (None, "None"):
        return None
    try:
        return np.dtype(dtype).newbyteorder("=").name
    except TypeError:
        raise ArgumentError(f"dtype must be 'u1' or 'i1', not {dtype!r}") from None
