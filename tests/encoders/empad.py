"""EMPAD scans and series: a raw file of frames, and the XML that describes it.

Layout: docs/formats/empad.md.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
from numpy.typing import ArrayLike, NDArray

FOOTER = (2, 128)  # rows behind each frame
BLOCK = 1 << 24  # bytes written at once
SOFTWARE = {"0.51": "0.51 211118", "1.2.2": "1.2.2  (2021-08-20)"}


def write_empad(
    folder: str | Path,
    frames: NDArray,
    *,
    kind: Literal["scan", "series"] = "scan",
    scan: tuple[int, int] | None = None,
    version: Literal["0.51", "1.2.2"] = "1.2.2",
    raw_name: str | None = None,
    xml_name: str = "acquisition.xml",
    acquire: tuple[int, int] | None = None,
    search: tuple[int, int] = (64, 64),
    field_of_view: float | tuple[float, float] | None = 1e-6,
    scale_factor: float = 0.72,
    pixel_size: float | None = 1.8e-10,
    voltage: float = 300e3,
    camera_length: float = 0.7225,
    start_time: str = "2019-06-06T13:30:00.164675",
    elements: Mapping[str, Any] | None = None,
    declaration: bool = False,
    footer: ArrayLike = 0,
) -> tuple[Path, Path]:
    """Write frames as an EMPAD data set.

    Parameters
    ----------
    folder
        Where the two files go.
    frames
        Pixels, (n, 128, 128), stored as float32. A broadcast view costs no memory.
    kind
        Scan, or series (which has no measurements of the microscope).
    scan
        (ny, nx), as the XML says it; need not agree with the frames. None: (1, n).
    version
        Software, hence names of the elements. 0.51 has `type`, `pix_x`, `pix_y`.
    raw_name
        The raw file. None: `scan_x<nx>_y<ny>.raw` or `series_x<n>.raw`.
    xml_name
        The XML file.
    acquire, search
        (ny, nx) of the two sets of scan parameters. `acquire` None: as `scan`.
    field_of_view
        As stored, in m: one number, or one each for x and y. None: left out.
    scale_factor
        Of the field of view, version 1.2.2.
    pixel_size
        Of the detector as stored (1e9 times it is in 1/nm), version 0.51. None: left out.
    voltage, camera_length
        In V and m.
    start_time
        ISO format.
    elements
        Values by place, such as `raw_file@filename`, `iom_measurements/high_voltage` or
        `scan_parameters[@mode="search"]/scan_size`. They go last. None leaves a value out.
    declaration
        Begin with an XML declaration.
    footer
        Values of the two rows behind each frame, broadcast to (n, 2, 128).

    Returns
    -------
    xml, raw : Path
        The two files.
    """
    n = len(frames)
    ny, nx = scan or (1, n)
    if raw_name is None:
        raw_name = f"series_x{n}.raw" if kind == "series" else f"scan_x{nx}_y{ny}.raw"
    old = version == "0.51"
    contents: dict[str, Any] = {
        "timestamp@isoformat": start_time,
        "software_version": SOFTWARE[version],
        "type": kind if old or kind == "series" else None,
        "raw_file@filename": raw_name,
        "background_image@absolute_filename": "/home/empad/backgrounds/background_0001",
        "exposure_time": 1,
        "post_exposure_time": 0,
        "camserver_parameters/camserver_connected": True,
    }
    if kind == "series":
        contents |= {"count": n, "scan_parameters/series_count": n}
    else:
        if old:
            contents |= {"pix_x": nx, "pix_y": ny}
        contents |= _scan_parameters("search", search) | _scan_parameters("acquire", acquire or (ny, nx))
        contents |= {"grid_measurements/bias_current": "2.79 uA"}
        contents |= _measurements(old, field_of_view, scale_factor, pixel_size, voltage, camera_length)

    xml, raw = Path(folder, xml_name), Path(folder, raw_name)
    tree = ElementTree.ElementTree(_tree({**contents, **(elements or {})}))
    tree.write(xml, encoding="utf-8", xml_declaration=declaration)
    _write_raw(raw, frames, footer)
    return xml, raw


def _scan_parameters(mode: str, shape: tuple[int, int]) -> dict[str, Any]:
    values = {
        "scan_resolution_x": shape[1],
        "scan_resolution_y": shape[0],
        "scan_size": 0.55,
        "scan_center_x": 0.5,
        "scan_center_y": 0.5,
    }
    return {f'scan_parameters[@mode="{mode}"]/{name}': value for name, value in values.items()}


def _measurements(
    old: bool,
    field_of_view: float | tuple[float, float] | None,
    scale_factor: float,
    pixel_size: float | None,
    voltage: float,
    camera_length: float,
) -> dict[str, Any]:
    """Name what the microscope told: dots in the old names are literal, the new ones are nested."""
    x, y = field_of_view if isinstance(field_of_view, tuple) else (field_of_view, field_of_view)
    if old:
        values = {
            "source.get_voltage": voltage,
            "optics.get_cameralength": camera_length,
            "optics.get_cameralengths": [0.0293, camera_length],
            "optics.get_magnicication": "None",
            "optics.get_full_scan_field_of_view": None if x is None else [x, y],
            "calibrated_pixelsize": pixel_size,
        }
    else:
        values = {
            "high_voltage": voltage,
            "nominal_camera_length": camera_length,
            "full_scan_field_of_view/x": x,
            "full_scan_field_of_view/y": y,
            "full_scan_field_of_view/scale_factor": None if x is None else scale_factor,
        }
    return {f"iom_measurements/{name}": value for name, value in values.items()}


def _tree(contents: Mapping[str, Any]) -> ElementTree.Element:
    """Build the XML from values by place, creating the elements on the way."""
    root = ElementTree.Element("root", name="acquisition_1")
    for place, value in contents.items():
        if value is None:
            continue
        path, attribute = re.findall(r"^(.*?)(?:@(\w+))?$", place)[0]
        element = root
        for step in path.split("/"):
            element = _child(element, step)
        if attribute:
            element.set(attribute, str(value))
        else:
            element.text = str(value)
    return root


def _child(parent: ElementTree.Element, step: str) -> ElementTree.Element:
    """Child `tag` or `tag[@name="value"]`, made if there is none."""
    found = parent.find(step)
    if found is not None:
        return found
    tag = step.partition("[")[0]
    return ElementTree.SubElement(parent, tag, dict(re.findall(r'@(\w+)="(.*?)"', step)))


def _write_raw(path: Path, frames: NDArray, footer: ArrayLike) -> None:
    """Write the frames with their footers, a block of them at a time."""
    record = np.dtype([("pixels", "<f4", frames.shape[1:]), ("footer", "<f4", FOOTER)])
    footers = np.broadcast_to(footer, (len(frames), *FOOTER))
    step = max(1, BLOCK // record.itemsize)
    records = np.empty(min(step, len(frames)), record)
    with open(path, "wb") as file:
        for first in range(0, len(frames), step):
            block = records[: len(frames) - first]
            block["pixels"] = frames[first : first + len(block)]
            block["footer"] = footers[first : first + len(block)]
            block.tofile(file)
