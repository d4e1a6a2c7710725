"""EMPAD scans and series (.xml + .raw): float32 frames of 128 x 128 pixels, described by an XML file beside them.

Layout and quirks: docs/formats/empad.md.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import arguments
from ..axes import Calibration, Scale, default_axes
from ..errors import ArgumentError, EmioError, HeaderError, MissingFileError, TruncatedError
from ..frames.files import File
from ..frames.frames import Frames
from ..frames.layout import FrameStack
from ..frames.navigation import Navigation, navigate
from ..frames.pixels import Pixels
from ..frames.views import Mapped
from ..image import Image
from ..source import ImageSource

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

FRAME = (128, 128)
FRAME_BYTES = 128 * 128 * 4
FOOTER = 2 * 128 * 4  # two more rows of facts about the frame, undocumented
STRIDE = FRAME_BYTES + FOOTER
CENTRE = 64  # pixel of the detector that counts as its centre
LARGEST_XML = 4 << 20
DEEPEST = 20
FIRST_TAG = re.compile(rb"<([A-Za-z_][\w.:-]*)")
RAW_FILE = re.compile(rb"<raw_file\b[^<>]*\sfilename\s*=")
NAMED_SCAN = re.compile(r"scan_x(\d{1,9})_y(\d{1,9})\.raw", re.IGNORECASE)
NAMED_SERIES = re.compile(r"series_x(\d{1,9})\.raw", re.IGNORECASE)

Candidates = list[tuple[str, tuple[int, ...] | None]]
"""What may be the navigation shape, and where that is said; `None`: said, but impossible."""


class EmpadSource(ImageSource):
    """EMPAD data set, opened by its XML or its raw file: a scan `yx` of patterns `vu`, or a series `i` of images `yx`.

    Parameters
    ----------
    uri
        Path or URL of the XML file, or of the raw file.
    q_calibration
        Size of a detector pixel in 1/nm, which wins over the file's.
    remove_nans
        Replace what is not a number by 0 while reading.
    **common
        See `ImageSource`.

    Raises
    ------
    HeaderError
        If the XML is broken or not EMPAD's, or fits the raw file in no way.
    MissingFileError
        If the raw file is not there.
    TruncatedError
        If the raw file does not hold whole frames.
    ArgumentError
        If `sig_shape` has another number of pixels than a frame, or `sync_offset` is out of range.

    Notes
    -----
    The scan has the first shape that the size of the raw file confirms, of those that the XML offers. Sources of the
    facts: LiberTEM, RosettaSciIO, py4DSTEM and files of users.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> np.zeros((2 * 3, 130, 128), "<f4").tofile(folder / "scan_x3_y2.raw")
    >>> _ = (folder / "gold.xml").write_text('<root><raw_file filename="scan_x3_y2.raw"/></root>')
    >>> EmpadSource(folder / "gold.xml").to_dask().image.sizes
    Frozen({'y': 2, 'x': 3, 'v': 128, 'u': 128})
    """

    name = "emio_empad"
    format_name = "empad"

    def __init__(self, uri: Any, *, q_calibration: Any = None, remove_nans: Any = False, **common: Any):
        super().__init__(uri, **common)
        self.q_calibration = None if q_calibration is None else arguments.decimal("q_calibration", q_calibration)
        if self.q_calibration is not None and self.q_calibration <= 0:
            raise ArgumentError(f"q_calibration must be positive (1/nm for a pixel), not {q_calibration!r}")
        self.remove_nans = arguments.flag("remove_nans", remove_nans)

    def parse(self, file: File) -> Image:
        """Describe a data set from its XML and the size of its raw file."""
        raw, xml = (self._raw_of(file), file) if _is_xml(file) else (file, xml_of(file))
        root = None if xml is None else read_xml(xml)
        count = frames_in(raw)
        scan = self._shape(raw, xml, shapes(root, raw), count)
        navigation = navigate(raw, count, scan or (count,), nav_shape=self.nav_shape, sync_offset=self.sync_offset)
        frame = self._frame_shape(file)
        axes = self._given_metadata.get("axes") or default_axes(len(navigation.shape), len(frame))
        return Image(
            self._pixels(raw, count, frame, navigation),
            axes,
            calibration=self._calibration(root, axes, scan, navigation, frame),
            header={} if root is None else as_dict(root),
            acquisition={"detector": "EMPAD"} if root is None else _acquisition(root),
            stored_frame=FRAME,
        )

    def _raw_of(self, xml: File) -> File:
        """Return the raw file that an XML names, or if there is none, one that goes by the name of the XML and fits."""
        root = read_xml(xml)
        name = raw_name(xml, root)
        named = xml.sibling(name)
        if _there(named):
            return named
        for other in _same_stem(xml, ".raw"):
            if other.size and other.size % STRIDE == 0:
                count = other.size // STRIDE
                if self.nav_shape is not None or _first_fit(shapes(root, other), count) is not None:
                    return other
        raise MissingFileError(
            f"{xml}: its raw file {name!r} is not in the same folder: put it there, or name it {xml.stem}.raw if its "
            "name was changed"
        )

    def _shape(self, raw: File, xml: File | None, offered: Candidates, count: int) -> tuple[int, ...] | None:
        """Return the navigation shape that the raw file confirms; `None` if there is none, but the user knows one."""
        shape = _first_fit(offered, count)
        if shape is not None or self.nav_shape is not None:
            return shape
        said = ", ".join(f"{where} says {value or 'an impossible size'}" for where, value in offered)
        if xml is None:
            raise HeaderError(
                f"{raw}: holds {count} frames, no XML file describes them, and "
                f"{said or 'the name of the file says nothing'}: pass nav_shape="
            )
        raise HeaderError(
            f"{xml}: {raw.name} has {raw.size} bytes, which are {count} frames, but {said or 'no shape is given'}: "
            "pass nav_shape="
        )

    def _frame_shape(self, file: File) -> tuple[int, ...]:
        if self.sig_shape is None:
            return FRAME
        if math.prod(self.sig_shape) != math.prod(FRAME):
            raise ArgumentError(
                f"{file}: sig_shape={self.sig_shape} does not hold the {math.prod(FRAME)} pixels of a {FRAME} frame"
            )
        return self.sig_shape

    def _pixels(self, raw: File, count: int, frame: tuple[int, ...], navigation: Navigation) -> Pixels:
        stack = FrameStack.in_one_file(raw.uri, "<f4", frame, count, frame_footer=FOOTER)
        frames = Frames(stack, navigation, self.storage(), raw.stamp)
        return Mapped(frames, without_nans) if self.remove_nans else frames

    def _calibration(
        self,
        root: Element | None,
        axes: str,
        scan: tuple[int, ...] | None,
        navigation: Navigation,
        frame: tuple[int, ...],
    ) -> dict[str, Calibration]:
        """Calibrate the detector unless frames are reshaped, and the scan unless it is."""
        found: dict[str, Calibration] = {}
        step = self.q_calibration or _detector_step(root)
        if step and frame == FRAME:
            found |= dict.fromkeys(axes[-2:], Scale(step, "1/nm", -CENTRE * step))
        if scan is not None and len(scan) == 2 and navigation.shape == scan:
            steps = dict(zip(axes[:2], _scan_steps(root, *scan), strict=True))
            found |= {axis: Scale(step, "nm") for axis, step in steps.items() if step}
        return found


def is_empad(file: File) -> bool:
    """Whether a file is an EMPAD's XML, or a raw file that has one or says its scan's shape in its name."""
    if file.extension != ".raw":
        return _is_xml(file) and _looks_like_empad(file)
    if not file.size or file.size % STRIDE:
        return False
    return _first_fit(shapes(None, file), file.size // STRIDE) is not None or xml_of(file) is not None


# The files -----------------------------------------------------------------------------------------------------------


def _is_xml(file: File) -> bool:
    if file.extension in (".xml", ".raw"):
        return file.extension == ".xml"
    head = file.read(0, 256).removeprefix(b"\xef\xbb\xbf").lstrip()
    return head.startswith((b"<?xml", b"<root", b"<!"))


def _looks_like_empad(file: File) -> bool:
    """Whether the first element is called root, and one with the name of a raw file follows; nothing is parsed."""
    text = file.read(0, LARGEST_XML)
    first = FIRST_TAG.search(text)
    return first is not None and first[1] == b"root" and RAW_FILE.search(text) is not None


def read_xml(file: File) -> Element:
    """Return the root of an EMPAD's XML.

    Raises
    ------
    HeaderError
        If it is broken or dangerous, or not EMPAD's.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        root = fromstring(file.read(0, LARGEST_XML))
    except ParseError as error:
        raise HeaderError(f"{file}: broken XML ({error}): is the file cut off?") from None
    except DefusedXmlException as error:
        raise HeaderError(f"{file}: XML that declares entities is not read, because it can harm ({error})") from None
    except (ValueError, LookupError) as error:
        raise HeaderError(f"{file}: not XML in a known encoding ({error})") from None
    if root.tag != "root" or root.find("raw_file[@filename]") is None:
        raise HeaderError(
            f"{file}: not the XML of an EMPAD: it starts with <{root.tag}>, expected <root> and in it "
            "<raw_file filename=...>"
        )
    return root


def raw_name(xml: File, root: Element) -> str:
    """Name of the raw file, without the folders of the computer that recorded it.

    Raises
    ------
    HeaderError
        If it is no name of a file.
    """
    element = root.find("raw_file")
    given = "" if element is None else element.get("filename", "")
    name = re.split(r"[/\\]", given)[-1].strip()
    if name in ("", ".", "..") or "::" in name:  # fsspec takes :: as the way into another file system
        raise HeaderError(f"{xml}: raw_file is {given!r}, which names no file: open the raw file, with nav_shape=")
    return name


def xml_of(raw: File) -> File | None:
    """Return the XML that names a raw file; else one of the raw file's name, if the file it names is gone."""
    partners = _same_stem(raw, ".xml")
    others = (raw.sibling(name) for name in raw.neighbours if name.lower().endswith(".xml"))
    for xml in (*partners, *others):
        if _names(xml) == raw.name:
            return xml
    return next((xml for xml in partners if (name := _names(xml)) and not _there(raw.sibling(name))), None)


def _names(xml: File) -> str | None:
    """Name of the raw file in an EMPAD's XML; `None` if a file is none."""
    try:
        return raw_name(xml, read_xml(xml)) if _looks_like_empad(xml) else None
    except EmioError:
        return None


def _same_stem(file: File, extension: str) -> list[File]:
    """Return the file of the same name with another extension, in any case."""
    names = [name for name in file.neighbours if name.lower().endswith(extension) and name[:-4] == file.stem]
    found = [file.sibling(name) for name in names or [file.stem + extension]]
    return [other for other in found if _there(other)]


def _there(file: File) -> bool:
    try:
        return file.exists()
    except EmioError:  # a folder, or a name that no file can have
        return False


def frames_in(raw: File) -> int:
    """Count the frames of a raw file.

    Raises
    ------
    TruncatedError
        If they are not whole.
    """
    count, rest = divmod(raw.size, STRIDE)
    if count and not rest:
        return count
    hint = "the recording was cut short, or this is no EMPAD's raw file"
    if raw.size and raw.size % FRAME_BYTES == 0:
        hint = (
            "this looks like frames without EMPAD's footers (second generation, or cropped before): read it with "
            "format='raw', sig_shape=(128, 128) and dtype='uint32' or 'float32'"
        )
    raise TruncatedError(
        f"{raw}: has {raw.size} bytes, expected whole frames of {STRIDE} bytes ({count} frames, {rest} bytes left "
        f"over): {hint}"
    )


# The shape -----------------------------------------------------------------------------------------------------------


def shapes(root: Element | None, raw: File) -> Candidates:
    """Navigation shapes that are said anywhere, the most trustworthy first.

    None can be trusted without the size of the raw file: old software left "acquire" at another scan, and records with
    the settings of "search" as well.
    """
    if root is None:
        return _by_name("its name", raw.name)
    series = _text(root, "type") == "series" or root.find("scan_parameters/series_count") is not None
    offered: Candidates = []
    if series:
        offered += _said(root, ("count",)) + _said(root, ("scan_parameters/series_count",))
    offered += _by_name("the name of its raw_file", raw_name(raw, root))
    offered += _said(root, ("pix_y", "pix_x"))
    for mode in ("acquire", "search"):
        place = f"scan_parameters[@mode='{mode}']/scan_resolution_"
        offered += _said(root, (place + "y", place + "x"))
    return offered


def _by_name(where: str, name: str) -> Candidates:
    scan, series = NAMED_SCAN.search(name), NAMED_SERIES.search(name)
    if scan:
        return [(where, (int(scan[2]), int(scan[1])))]
    return [(where, (int(series[1]),))] if series else []


def _said(root: Element, places: tuple[str, ...]) -> Candidates:
    """Shape in some elements, if all are there; `None` for one that is not of positive numbers."""
    texts = [_text(root, place) for place in places]
    if any(text is None for text in texts):
        return []
    numbers = tuple(int(text) if text and re.fullmatch(r"\d{1,12}", text) else 0 for text in texts)
    return [(" and ".join(places), numbers if all(numbers) else None)]


def _first_fit(offered: Candidates, count: int) -> tuple[int, ...] | None:
    return next((shape for _, shape in offered if shape is not None and math.prod(shape) == count), None)


# Calibration and facts -----------------------------------------------------------------------------------------------


def _text(root: Element, place: str) -> str | None:
    """Text of an element: tags with dots in them are literal names, and values may be missing anywhere."""
    element: Element | None = root
    for step in place.split("/"):
        if element is None:
            return None
        element = element.find(step)
    return None if element is None else (element.text or "").strip()


def _number(value: Any) -> float | None:
    """Positive finite number, or `None`."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _measured(root: Element, *names: str) -> float | None:
    """Return the first of some measurements of the microscope that is a positive number."""
    return next((n for name in names if (n := _number(_text(root, f"iom_measurements/{name}")))), None)


def _detector_step(root: Element | None) -> float | None:
    """Size of a detector pixel in 1/nm; only old software wrote it."""
    stored = None if root is None else _measured(root, "calibrated_pixelsize")
    return stored and stored * 1e9


def _scan_steps(root: Element | None, ny: int, nx: int) -> tuple[float | None, float | None]:
    """Step of the scan along y and x in nm."""
    if root is None:
        return None, None
    width = _measured(root, "full_scan_field_of_view/x")
    factor = _measured(root, "full_scan_field_of_view/scale_factor")
    if width and factor:  # version 1.2: stored too small by the factor, and it belongs to the longer side
        step = _number(width / factor / max(ny, nx) * 1e9)
        return step, step
    view = arguments.members(_text(root, "iom_measurements/optics.get_full_scan_field_of_view") or "")
    if len(view) != 2:
        return None, None
    height, width = map(_number, view)
    return height and height / ny * 1e9, width and width / nx * 1e9


def _acquisition(root: Element) -> dict[str, Any]:
    volts = _measured(root, "high_voltage", "source.get_voltage")
    metres = _measured(root, "nominal_camera_length", "optics.get_cameralength")
    milliseconds = _number(_text(root, "exposure_time"))
    facts = {
        "title": root.get("name"),
        "detector": "EMPAD",
        "start_time": _start_time(root),
        "beam_energy": volts and volts / 1000,
        "camera_length": metres and metres * 1000,
        "exposure_time": milliseconds and milliseconds / 1000,
    }
    return {name: fact for name, fact in facts.items() if fact}


def _start_time(root: Element) -> str | None:
    """Start in ISO format, local time without a zone."""
    stamp = root.find("timestamp")
    text = "" if stamp is None else stamp.get("isoformat", "").strip()
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return None
    return text


def as_dict(element: Element, depth: int = 0) -> Any:
    """Return all of an XML element: text, or a dictionary of attributes and children, with lists where names repeat."""
    if depth > DEEPEST or not (len(element) or element.attrib):
        return (element.text or "").strip()
    found: dict[str, Any] = dict(element.attrib)
    text = (element.text or "").strip()
    if text:
        found["text"] = text
    children: dict[str, list[Any]] = {}
    for child in element:
        children.setdefault(child.tag, []).append(as_dict(child, depth + 1))
    return found | {tag: same[0] if len(same) == 1 else same for tag, same in children.items()}


def without_nans(values: np.ndarray, out: np.ndarray) -> None:
    """Copy pixels, with 0 for what is not a number."""
    np.copyto(out, values)
    np.copyto(out, 0, where=np.isnan(values))
