"""OME-XML in TIFF files, read and written: sizes and their units, channels, times of planes, our own account."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..axes import LENGTHS, Calibration, Labels
from ..record import KEY
from ._tif_account import Account, Page, attribute_of, children, finite, note_scale, positive, text_of, unit
from ._tif_pages import HYPERSTACK, PageAxes, measured

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    import xarray as xr
    from tifffile import TiffFile

NAMESPACE = "intake-emio"
"""Of the annotation that holds our own account."""

OME_DTYPES = (
    "bool", "int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64", "complex64", "complex128",
)  # fmt: skip
TIMES = ("s", "ms", "µs", "us", "ns", "ps", "min", "h", "d")
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def ome(page: Page) -> Account | None:
    """Read OME-XML: sizes and their units, channels, times of planes."""
    root = ome_root(page.tiff)
    if root is None or page.kind != "ome":
        return None
    images = children(root, "Image")
    if page.number >= len(images):
        return None
    image = images[page.number]
    pixels = next(iter(children(image, "Pixels")), None)
    if pixels is None:
        return None
    calibration: dict[str, Calibration] = {}
    for axis in "xyz":
        note_scale(calibration, axis, pixels.get(f"PhysicalSize{axis.upper()}"),
               pixels.get(f"PhysicalSize{axis.upper()}Unit", "µm"))  # fmt: skip
    note_scale(calibration, "t", pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"))
    sizes = dict(zip(page.axes, page.shape, strict=True))
    names = [channel.get("Name") for channel in children(pixels, "Channel")]
    if all(names) and len(names) == sizes.get("c"):
        calibration["c"] = Labels(tuple(names))
    if "t" in sizes and "t" not in calibration:
        times = _plane_times(pixels)
        if len(times) == sizes["t"]:
            calibration["t"] = Labels(tuple(times), _plane_unit(pixels))
    return Account(
        {axis: scale for axis, scale in calibration.items() if axis in sizes},
        {
            "title": image.get("Name"),
            "start_time": text_of(image, "AcquisitionDate"),
            "magnification": positive(attribute_of(root, "Objective", "NominalMagnification")),
            "instrument": attribute_of(root, "Microscope", "Model"),
        },
        final=True,
    )


def ome_root(tiff: TiffFile) -> Element | None:
    """Parse the OME-XML of a file safely; `None` if there is none.

    Raises
    ------
    defusedxml.DefusedXmlException
        If it would harm whoever parses it.
    """
    from xml.etree.ElementTree import ParseError

    from defusedxml.ElementTree import fromstring

    text = tiff.pages.first.description
    if not text.rstrip("\0 \r\n").endswith("OME>"):
        return None
    try:
        return fromstring(text.rstrip("\0 \r\n").encode())
    except (ParseError, UnicodeError):
        return None


def _plane_times(pixels: Element) -> list[float]:
    """Times of the planes of the first channel and slice, in order; none if one of them is unknown."""
    times: dict[int, float] = {}
    for plane in children(pixels, "Plane"):
        if plane.get("TheC", "0") == "0" == plane.get("TheZ", "0"):
            delta = finite(plane.get("DeltaT"))
            if delta is None:
                return []
            times[int(plane.get("TheT", "0"))] = delta
    return [times[k] for k in sorted(times)]


def _plane_unit(pixels: Element) -> str | None:
    plane = next(iter(children(pixels, "Plane")), None)
    return unit("s" if plane is None else plane.get("DeltaTUnit", "s"))


def annotation(tiff: TiffFile) -> str | None:
    """Our own account of the image, as JSON text, from the annotations; `None` if there is none."""
    if NAMESPACE not in tiff.pages.first.description:
        return None
    root = ome_root(tiff)
    if root is None:
        return None
    ours = [e for e in root.iter() if str(e.tag).endswith("MapAnnotation") and e.get("Namespace") == NAMESPACE]
    entries = (entry for one in ours for entry in one.iter() if entry.get("K") == KEY)
    return next((entry.text for entry in entries), None)


# Writing -------------------------------------------------------------------------------------------------------------


def ome_tags(image: xr.DataArray, axes: PageAxes, note: Mapping[str, Any]) -> dict[str, Any]:
    """Return OME-XML of an image, as an argument of tifffile's `TiffWriter.write`.

    Parameters
    ----------
    image
        What is written.
    axes
        How it is spread over pages: a hyperstack.
    note
        Our own account of it, which is kept as an annotation.
    """
    import uuid
    from importlib.metadata import version

    import tifffile

    xml = tifffile.OmeXml(Creator=f"intake-emio {version('intake-emio')}", UUID=str(uuid.uuid4()))
    counted = HYPERSTACK.replace(axes.samples, "") if axes.samples else HYPERSTACK
    pages = tuple(axes.sizes.get(a, 1) for a in counted)
    rows, columns, *samples = axes.page_shape
    xml.addimage(
        image.dtype,
        (*pages, *axes.page_shape),
        (axes.count, 1, 1, rows, columns, *(samples or (1,))),
        axes=counted.upper() + "YX" + "S" * len(samples),
        MapAnnotation={"Namespace": NAMESPACE, KEY: json.dumps(note[KEY])},
        **_facts(note[KEY]),
        **_sizes(image, axes),
    )
    return {"description": xml.tostring(declaration=True).encode()}


def _facts(account: Mapping[str, Any]) -> dict[str, Any]:
    """Title and time of the recording."""
    said = account.get("acquisition") or {}
    facts = {"Name": _xml_text(said.get("title") or account.get("name") or "image")}
    try:
        when = datetime.fromisoformat(str(said.get("start_time")))
    except ValueError:
        return facts
    return {**facts, "AcquisitionDate": when.isoformat()}


def _sizes(image: xr.DataArray, axes: PageAxes) -> dict[str, Any]:
    """Sizes of pixels and steps in time that have a unit of OME, and names of channels."""
    sizes: dict[str, Any] = {}
    for name, axis, known in (
        ("PhysicalSizeX", axes.columns, LENGTHS), ("PhysicalSizeY", axes.rows, LENGTHS),
        ("PhysicalSizeZ", "z", LENGTHS), ("TimeIncrement", "t", TIMES),
    ):  # fmt: skip
        scale = measured(image, axis)
        units = str(scale and scale.units)
        if scale is not None and units in known:
            sizes |= {name: scale.step, f"{name}Unit": units.replace("u", "µ")}
    if "c" in axes.counted and "c" in image.coords and image["c"].dtype.kind in "UO":
        sizes["Channel"] = {"Name": [_xml_text(name) for name in image["c"].values]}
    return sizes


def _xml_text(text: Any) -> str:
    """Text without the characters that XML cannot hold."""
    return re.sub(NOT_XML, "?", str(text))
