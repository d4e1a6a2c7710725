"""OME-XML in TIFF files: sizes and their units, channels, times of planes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..axes import Calibration, Labels
from ._tif_account import Account, Page, attribute_of, children, finite, note_scale, positive, text_of, unit

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from tifffile import TiffFile


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
