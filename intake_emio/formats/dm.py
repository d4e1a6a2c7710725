"""Gatan Digital Micrograph files (.dm3, .dm4): images, spectra and scans in a tree of tags.

Layout and quirks: docs/formats/dm.md.
"""

from __future__ import annotations

import fnmatch
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from natsort import natsorted

from .. import arguments
from ..axes import ORDER, Calibration, Labels, default_axes
from ..errors import ArgumentError, HeaderError, MissingFileError, TruncatedError
from ..frames.files import File
from ..frames.frames import Frames
from ..frames.layout import FrameStack, Piece
from ..frames.navigation import Navigation, navigate
from ..frames.picked import along
from ..frames.pixels import Pixels
from ..frames.views import Permuted
from ..image import Image
from ..source import ImageSource
from ._dm_image import (
    DM2,
    ENERGIES,
    LENGTHS,
    RECIPROCAL,
    TIMES,
    DMImage,
    choose,
    read_images,
    shown_images,
)
from ._dm_metadata import acquisition
from ._gatan import looks_like_tags, tag

EXTENSIONS = (".dm3", ".dm4")
VERSIONS = (b"\0\0\0\3", b"\0\0\0\4")
RGB = ("r", "g", "b")
MOST_AXES = 6
FEW_FILES = 10  # whose headers are read one after the other
THREADS = 8


class DMSource(ImageSource):
    """Digital Micrograph file, or a set of them: images `yx`, stacks `iyx`, spectra `c`, scans `yxvu`.

    Parameters
    ----------
    uri
        Path or URL of a file; a pattern such as ``scan_*.dm3`` (natural order); or a list of files.
    files
        Files of a set, in this order; `uri` then only names the set.
    same_offset
        Read the tags of the first file of a set only: pixels of the others lie at the same place.
    force_c_order
        Four axes are stored as y, x, v, u, whatever the tags say.
    dataset_index
        Which image of the file, thumbnails counted. Default: the first of those with the most axes.
    disable_glob
        Take `uri` as a name even if it looks like a pattern.
    **common
        See `ImageSource`.

    Raises
    ------
    HeaderError, TruncatedError
        If the tags are broken, hold no image, or fewer pixels than they say.
    MissingFileError
        If a file is not there, or nothing fits a pattern.
    ArgumentError
        If an argument does not fit the image.

    Notes
    -----
    Gatan publishes no specification. Sources of the facts: RosettaSciIO, openNCEM, LiberTEM, C. Boothroyd's page.

    Examples
    --------
    >>> source = DMSource("scan_*.dm3", nav_shape=(16, 16))
    >>> source.name, source.nav_shape
    ('emio_dm', (16, 16))
    """

    name = "emio_dm"
    format_name = "dm"

    def __init__(
        self,
        uri: Any,
        *,
        files: Any = None,
        same_offset: Any = False,
        force_c_order: Any = False,
        dataset_index: Any = None,
        disable_glob: Any = False,
        **common: Any,
    ):
        if not isinstance(uri, str | os.PathLike):
            if files is not None or not len(uri):
                raise ArgumentError(f"uri must be a file, or a list of at least one file without files=, not {uri!r}")
            uri, files = uri[0], uri
        super().__init__(uri, **common)
        self.files = None if files is None else [os.fspath(name) for name in arguments.members(files)]
        if self.files == []:
            raise ArgumentError(f"{self.uri}: files= is empty")
        self.same_offset = arguments.flag("same_offset", same_offset)
        self.force_c_order = arguments.flag("force_c_order", force_c_order)
        self.dataset_index = None
        if dataset_index is not None:
            self.dataset_index = arguments.number("dataset_index", dataset_index, least=0)
        self.disable_glob = arguments.flag("disable_glob", disable_glob)

    def parse(self, file: File) -> Image:
        """Describe a file, or a set of files, from the tags."""
        members = self._members(file)
        images, beside = read_images(members[0] if members else file)
        image = choose(images, self.dataset_index)
        dtype, decoder = image.storage()
        plan = arrangement(image, self.force_c_order)
        if members:
            plan, pieces, stamps = self._set(members, image, plan)
        else:
            pieces = (Piece(image.file.uri, image.data.offset, math.prod(plan.nav)),)
            stamps = (image.file.stamp,)
        frame = (len(RGB), *plan.frame) if image.colours else plan.frame
        frames = Frames(
            FrameStack(pieces, dtype, frame, decoder=decoder), Navigation.of(plan.nav), self.storage(), stamps
        )
        shown = self._transposed(frames, plan, image) if plan.transposed else self._in_order(frames, plan, image)
        return Image(
            shown.pixels,
            shown.axes,
            order="".join(sorted(shown.axes, key=(ORDER + "vu").index)),
            frame_axes=shown.axes[len(shown.axes) - shown.pixels.frame_ndim :],
            calibration=_calibration(image, plan, shown),
            header={**beside, "ImageList": {str(image.index): image.tags}},
            acquisition=acquisition(image.image_tags, image.name),
            attrs=image.brightness(),
            datasets=() if members else tuple(known.summary() for known in shown_images(images)),
        )

    # Frames in the order of the scan ---------------------------------------------------------------------------------

    def _in_order(self, frames: Frames, plan: Arrangement, image: DMImage) -> _Shown:
        """Frames that follow each other in the file as they do in the scan."""
        nav_shape = self.nav_shape or _titan_scan(image, plan)
        if "c" in plan.nav_letters and (self.sync_offset or nav_shape not in (None, plan.nav)):
            raise ArgumentError(
                f"{image}: is stored energy by energy ({plan.nav_letters + plan.frame_letters}, "
                f"{plan.nav + plan.frame}), so its spectra are no frames that nav_shape or sync_offset could count"
            )
        sig = self._signal(plan.frame, plan, image)
        navigation = navigate(
            image.file, frames.stack.count, plan.nav, nav_shape=nav_shape, sync_offset=self.sync_offset
        )
        stack = frames.stack
        frame = (*stack.frame_shape[:1], *sig) if image.colours else sig
        pieces = FrameStack(stack.pieces, stack.dtype, frame, decoder=stack.decoder)
        nav_letters, sig_letters = plan.letters_for(len(navigation.shape), len(sig))
        return _Shown(
            Frames(pieces, navigation, frames.storage, frames.stamps),
            nav_letters + "c" * image.colours + sig_letters,
            nav_letters if len(navigation.shape) == len(plan.nav) else "",
            sig_letters if sig == plan.frame else "",
        )

    def _transposed(self, frames: Frames, plan: Arrangement, image: DMImage) -> _Shown:
        """Scans stored detector pixel by detector pixel: each stored frame is a scan image, and the rest is a view."""
        if image.colours:
            raise HeaderError(f"{image}: colours in a scan stored detector pixel by detector pixel are not read")
        *slow, rows, columns = plan.nav
        sig = self._signal((rows, columns), plan, image)
        scan = plan.frame
        images = frames.along(Navigation.of((*slow, *sig)))
        depth, width = len(slow), len(sig)
        order = [*range(depth), depth + width, depth + width + 1, *range(depth, depth + width)]
        pixels: Pixels = Permuted(images, tuple(order), width)
        navigation = navigate(
            image.file,
            math.prod((*slow, *scan)),
            (*slow, *scan),
            nav_shape=self.nav_shape,
            sync_offset=self.sync_offset,
        )
        if navigation != Navigation.of((*slow, *scan)):
            pixels = along(pixels, navigation)
        same = len(navigation.shape) == depth + 2 and width == 2
        letters = plan.nav_letters[:depth] + "yx", "vu"
        nav_letters, sig_letters = letters if same else _default_letters(len(navigation.shape), width)
        return _Shown(
            pixels,
            nav_letters + sig_letters,
            nav_letters if same else "",
            sig_letters if sig == (rows, columns) else "",
        )

    def _signal(self, frame: tuple[int, ...], plan: Arrangement, image: DMImage) -> tuple[int, ...]:
        """Shape of a frame: another one of as many pixels, if the user says so."""
        if self.sig_shape is None:
            return frame
        if math.prod(self.sig_shape) != math.prod(frame) or ("c" in plan.frame_letters and len(self.sig_shape) != 1):
            raise ArgumentError(
                f"{image}: sig_shape={self.sig_shape} does not hold the {math.prod(frame)} pixels of a {frame} frame"
            )
        return self.sig_shape

    # Sets of files ---------------------------------------------------------------------------------------------------

    def _members(self, file: File) -> list[File]:
        """Files of a set; none if it is a single file."""
        if self.files is not None:
            return [File(name, self.storage_options) for name in self.files]
        wild = "*" if file.remote else "*?["  # URLs have question marks of their own
        if self.disable_glob or not any(c in file.name for c in wild) or file.exists():
            return []
        names = natsorted(name for name in file.neighbours if fnmatch.fnmatchcase(name, file.name))
        if not names:
            raise MissingFileError(f"{file}: no file fits this pattern; disable_glob=True takes it as a name")
        return [file.sibling(name) for name in names]

    def _set(
        self, members: list[File], first: DMImage, plan: Arrangement
    ) -> tuple[Arrangement, tuple[Piece, ...], tuple[object, ...]]:
        """Join the images or stacks of all files along `i`."""
        if plan.spectral or plan.transposed or len(plan.frame) != 2 or len(plan.nav) > 1:
            raise HeaderError(
                f"{first}: has the axes {plan.nav_letters + plan.frame_letters} {plan.nav + plan.frame}; files of a "
                "set hold an image or a stack of images each"
            )
        count = math.prod(plan.nav)
        if self.same_offset:
            end = first.data.offset + _stored_bytes(first)
            for member in members:
                if member.size < end:
                    raise TruncatedError(
                        f"{member}: has {member.size} bytes, but the pixels of {members[0].name} end at byte {end}: "
                        "pass same_offset=False"
                    )
            pieces = tuple(Piece(member.uri, first.data.offset, count) for member in members)
        elif len(members) <= FEW_FILES:
            pieces = tuple(self._piece(member, first) for member in members)
        else:
            with ThreadPoolExecutor(THREADS) as threads:
                pieces = tuple(threads.map(lambda member: self._piece(member, first), members))
        total = sum(piece.count for piece in pieces)
        joined = Arrangement((total,), "i", plan.frame, "yx", nav_dimensions=(None,), frame_dimensions=(1, 0))
        return joined, pieces, tuple(member.stamp for member in members)

    def _piece(self, member: File, first: DMImage) -> Piece:
        """Frames of one file of a set, which must be like those of the first one."""
        image = choose(read_images(member)[0], self.dataset_index)

        def kind(of: DMImage) -> tuple[Any, ...]:
            return of.dimensions[:2], *of.storage()

        if len(image.dimensions) not in (2, 3) or kind(image) != kind(first):
            raise HeaderError(
                f"{image}: holds {_described(image)}, but {first.file.name} {_described(first)}: files of a set must "
                "have frames of one shape, pixel type and byte order"
            )
        return Piece(member.uri, image.data.offset, math.prod(image.dimensions[2:]))


@dataclass(frozen=True)
class _Shown:
    """Pixels as presented.

    Parameters
    ----------
    pixels, axes
        Pixels and all their axes.
    nav_letters, sig_letters
        Those axes that still are those of the file, so that its calibration holds.
    """

    pixels: Pixels
    axes: str
    nav_letters: str
    sig_letters: str


def is_dm(file: File) -> bool:
    """Whether a file begins with a tag tree, and is no description of a K2 capture; also versions that are refused."""
    start = file.read(0, 8)
    if file.extension == ".dm2":
        return start[:2] == DM2
    if start[:4] not in VERSIONS or file.extension == ".gtg":
        return False
    return file.extension in EXTENSIONS or looks_like_tags(file)


def _stored_bytes(image: DMImage) -> int:
    return image.data.count * image.data.dtype.itemsize


def _described(image: DMImage) -> str:
    return f"{image.dimensions[::-1]} {image.dtype_name} {'little' if image.order == '<' else 'big'}-endian"


def _calibration(image: DMImage, plan: Arrangement, shown: _Shown) -> dict[str, Calibration]:
    """Coordinates of the axes that are those of the file, and names of colours."""
    nav, frame = plan.nav_dimensions, plan.frame_dimensions
    if plan.transposed:
        nav, frame = (*nav[:-2], *frame), nav[-2:]
    pairs = [*zip(shown.nav_letters, nav, strict=False), *zip(shown.sig_letters, frame, strict=False)]
    scales = {letter: image.scale(dimension) for letter, dimension in pairs if dimension is not None}
    found: dict[str, Calibration] = {letter: scale for letter, scale in scales.items() if scale is not None}
    return {**found, "c": Labels(RGB)} if image.colours else found


# Which axis is what --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arrangement:
    """What the stored axes are.

    Parameters
    ----------
    nav, nav_letters
        Sizes and names of the axes that count stored frames, slowest first.
    frame, frame_letters
        Those of a stored frame.
    nav_dimensions, frame_dimensions
        Which of the file's dimensions they are; `None`: of no file.
    spectral
        Whether one axis is an energy or a wavelength.
    transposed
        Whether a stored frame is an image of the scan, rather than of the detector.
    """

    nav: tuple[int, ...]
    nav_letters: str
    frame: tuple[int, ...]
    frame_letters: str
    nav_dimensions: tuple[int | None, ...]
    frame_dimensions: tuple[int | None, ...]
    spectral: bool = False
    transposed: bool = False

    def letters_for(self, nav: int, sig: int) -> tuple[str, str]:
        """Names of so many navigation and signal axes: those of the file if it has as many."""
        if (nav, sig) == (len(self.nav), len(self.frame)):
            return self.nav_letters, self.frame_letters
        if self.spectral and 0 < nav <= 3:
            return "iyx"[3 - nav :], self.frame_letters
        return _default_letters(nav, sig)


def _default_letters(nav: int, sig: int) -> tuple[str, str]:
    axes = default_axes(nav, sig)
    return axes[:nav], axes[nav:]


def arrangement(image: DMImage, force_c_order: bool = False) -> Arrangement:
    """Find out what the stored axes are.

    Raises
    ------
    HeaderError
        If there are more axes than anybody knows names for.
    """
    dimensions = image.dimensions
    spectral = spectral_axis(image)
    if spectral is not None:
        letters = _spectrum_letters(image, spectral)
        frame_ndim = 1 if letters[0] == "c" else min(2, letters.index("c"))
        return _arranged(dimensions, letters, frame_ndim, spectral=True)
    ndim = len(dimensions)
    if ndim > MOST_AXES:
        raise HeaderError(f"{image}: has {ndim} axes {list(dimensions[::-1])}, at most {MOST_AXES} are read")
    if ndim <= 3:
        letters = ["x", "y", _stack_axis(image, 2)][:ndim]
        return _arranged(dimensions, letters, min(2, ndim))
    slow = ["t", "i"][6 - ndim :] if ndim > 4 else []
    if force_c_order or detector_first(image):
        return _arranged(dimensions, ["u", "v", "x", "y", *slow], 2)
    return _arranged(dimensions, ["x", "y", "u", "v", *slow], 2, transposed=True)


def _arranged(dimensions: Sequence[int], letters: list[str], frame_ndim: int, **kind: bool) -> Arrangement:
    """Split axes, fastest first, into those of the frame and the rest; axes without a name are left out."""
    named = [k for k, letter in enumerate(letters) if letter]
    frame, nav = named[:frame_ndim][::-1], named[frame_ndim:][::-1]
    return Arrangement(
        tuple(dimensions[k] for k in nav),
        "".join(letters[k] for k in nav),
        tuple(dimensions[k] for k in frame),
        "".join(letters[k] for k in frame),
        tuple(nav),
        tuple(frame),
        **kind,
    )


def spectral_axis(image: DMImage) -> int | None:
    """Which dimension is an energy or a wavelength; units decide only where they are those of energies."""
    ndim = len(image.dimensions)
    kind = _meta(image, "Format").lower()
    orsay = isinstance(image.image_tags.get("spim"), dict)
    energies = [k for k in range(ndim) if image.units(k) in ENERGIES]
    if kind not in ("spectrum", "spectrum image") and not orsay:
        return energies[0] if not kind and len(energies) == 1 else None
    if len(energies) == 1:
        return energies[0]
    if kind == "spectrum" or ndim < 3:
        return 0
    return (0 if swapped(image) else 2) if ndim == 3 else None


def _spectrum_letters(image: DMImage, spectral: int) -> list[str]:
    """Name the axes beside that of the energy; of a single spectrum those of length 1 are dropped."""
    single = _meta(image, "Format").lower() == "spectrum"
    others = [k for k, n in enumerate(image.dimensions) if k != spectral and not (single and n == 1)]
    if len(others) > 3:
        raise HeaderError(f"{image}: a spectrum image of {len(others)} other axes is not read, at most 3")
    letters = [""] * len(image.dimensions)
    letters[spectral] = "c"
    for k, letter in zip(others, ("x", "y", "i"), strict=False):
        letters[k] = letter if letter != "i" else _stack_axis(image, k)
    return letters


def detector_first(image: DMImage) -> bool:
    """Whether a scan has the detector's axes as its fastest: the tag says so, or else the units."""
    order = swapped(image)
    if order is not None:
        return order
    units = [image.units(k) for k in range(4)]
    return all(u in RECIPROCAL for u in units[:2]) and all(u in LENGTHS for u in units[2:])


def swapped(image: DMImage) -> bool | None:
    """What the tag `Data Order Swapped` says; `None` if it is missing."""
    found = tag(image.image_tags, "Meta Data", "Data Order Swapped")
    if isinstance(found, str):
        return found.strip().lower() in ("true", "1")
    return bool(found) if isinstance(found, int) else None


def _stack_axis(image: DMImage, dimension: int) -> str:
    """Name of the axis along which images are stacked."""
    units = image.units(dimension)
    if units in TIMES or tag(image.image_tags, "Meta Data", "IsSequence") in (True, "true", "True"):
        return "t"
    return "z" if units in LENGTHS else "i"


def _titan_scan(image: DMImage, plan: Arrangement) -> tuple[int, int] | None:
    """Scan shape of NCEM's TitanX, which saves scans as stacks."""
    width, height = (tag(image.image_tags, "4D STEM Tags", f"Scan shape {axis}") for axis in "XY")
    if plan.spectral or len(plan.nav) != 1 or not isinstance(width, int | float) or not isinstance(height, int | float):
        return None
    return (int(height), int(width)) if width * height == plan.nav[0] and min(width, height) > 0 else None


def _meta(image: DMImage, name: str) -> str:
    found = tag(image.image_tags, "Meta Data", name)
    return found.strip() if isinstance(found, str) else ""
