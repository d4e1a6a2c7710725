"""Velox files (.emd of Thermo Fisher): images, spectra, and spectrum images of EELS and EDS; metadata are JSON."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import numpy as np

from ..axes import Calibration, Scale
from ..errors import ArgumentError, EmioWarning, HeaderError
from ..frames.events import EventScan
from ._hdf5_files import Place, Tree, number, text
from ._hdf5_layouts import Array, is_pixels, small

# Lengths are given in nm, reciprocal ones in 1/nm, angles in mrad
UNITS = {"m": (1e9, "nm"), "1/m": (1e-9, "1/nm"), "rad": (1e3, "mrad")}
KINDS = {
    "images": ("Image",),
    "single_spectrum": ("Spectrum",),
    "spectrum_image": ("EelsSpectrumImage", "SpectrumStream"),
}
MOST_CHANNELS = MOST_PIXELS = 65535
MOST_FRAMES = 1_000_000


@dataclass(frozen=True)
class Counting:
    """How the events of EDS detectors are to be counted; see `HDF5Source`."""

    first_frame: int = 0
    last_frame: int | None = None
    sum_frames: bool = True
    sum_detectors: bool = True
    rebinned: int = 1
    dtype: np.dtype | None = None


def is_velox(tree: Tree) -> bool:
    """Whether a file is Velox's."""
    version = _document(tree.get("Version")) if tree.root.thing.get("Version", getlink=True) is not None else None
    return isinstance(version, Mapping) and version.get("format") in ("Velox", "DevelopersKit")


def velox(tree: Tree, select_type: str | None, counting: Counting) -> list[Array]:
    """Arrays of a Velox file: spectrum images of EELS, of EDS, then images, the largest first, then spectra.

    Raises
    ------
    HeaderError
        If there is none; says whether the file was pruned.
    """
    data = tree.get("Data")
    if data is None:
        raise HeaderError(f"{tree.file}: a Velox file without its group Data")
    titles = _titles(tree)
    place_of_map = _map_calibration(tree)
    arrays: list[tuple[int, Array]] = []
    if select_type in (None, "spectrum_image"):
        arrays += [(0, array) for array in _eds(tree, counting)]
    readers = {"EelsSpectrumImage": _eels, "Image": _image, "Spectrum": _spectrum}
    for rank, (kind, reader) in zip((-1, 1, 2), readers.items(), strict=True):
        if select_type is not None and kind not in KINDS[select_type]:
            continue
        group = tree.get(f"Data/{kind}")
        for uid in list(group.thing)[:10000] if group is not None else []:
            place = tree.get(f"Data/{kind}/{uid}/Data")
            if place is None or not place.is_dataset or not is_pixels(place.thing):
                continue
            metadata = _metadata(tree, f"Data/{kind}/{uid}")
            title = titles.get(f"/Data/{kind}/{uid}", "") or _detector(metadata)
            arrays.append((rank, reader(tree, f"/Data/{kind}/{uid}", place, metadata, title, place_of_map)))
    if not arrays:
        raise HeaderError(f"{tree.file}: {_why_nothing(tree, select_type)}")
    arrays.sort(key=lambda pair: (pair[0], -pair[1].size))
    return [array for _, array in arrays]


def _why_nothing(tree: Tree, select_type: str | None) -> str:
    wanted = f" of select_type={select_type!r}" if select_type else " that can be read"
    held = tree.get("Data")
    kinds = ", ".join(held.thing) if held is not None else "nothing"
    stream = tree.get("Data/SpectrumStream")
    if tree.get("Data/SpectrumImage") is not None and (stream is None or not len(stream.thing)):
        return f"no array{wanted}: the file was pruned, its spectrum stream is not there any more; it holds {kinds}"
    return f"no array{wanted}; it holds {kinds}"


def _image(tree: Tree, name: str, place: Place, metadata: Any, title: str, of_map: Any) -> Array:
    shape = place.thing.shape
    calibration = _space(metadata)
    time = _frame_time(metadata)
    if len(shape) == 3 and shape[2] > 1 and time:
        calibration["t"] = Scale(time, "s")
    axes = "yxt" if len(shape) == 3 else "yx"
    order = "tyx" if len(shape) == 3 and shape[2] > 1 else "yx"
    return _array(name, place, metadata, title, axes, order, 2, calibration)


def _spectrum(tree: Tree, name: str, place: Place, metadata: Any, title: str, of_map: Any) -> Array:
    calibration: dict[str, Calibration] = {}
    energy = _energy(metadata)
    if energy:
        calibration["c"] = energy
    shape = place.thing.shape
    axes = "ci" if len(shape) == 2 else "c"
    order = "ic" if len(shape) == 2 and shape[1] > 1 else "c"
    return _array(name, place, metadata, title, axes, order, 1, calibration)


def _eels(tree: Tree, name: str, place: Place, metadata: Any, title: str, of_map: Any) -> Array:
    shape = place.thing.shape
    axes, order = ("xcy", "yxc") if len(shape) == 3 else ("xc", "xc")
    calibration = {a: c for a, c in of_map.items() if a in axes}
    acquired = _document(tree.get(f"{name}/AcquisitionMetadata"))
    facts = acquired.get("Data", {}) if isinstance(acquired, Mapping) else {}
    step, origin = number(facts.get("dispersion")), number(facts.get("offset"))
    if step:
        calibration["c"] = Scale(step, "eV", origin or 0.0)
    array = _array(name, place, metadata, title or "EELS", axes, order, 1, calibration)
    return replace(array, header={**array.header, "acquisition_metadata": acquired})


# Streams of EDS counts ------------------------------------------------------------------------------------------------


def _eds(tree: Tree, counting: Counting) -> list[Array]:
    """Spectrum images of the EDS detectors, added up, or each for itself."""
    group = tree.get("Data/SpectrumStream")
    found: list[Array] = []
    for uid in list(group.thing)[:1000] if group is not None else []:
        name = f"Data/SpectrumStream/{uid}"
        place = tree.get(f"{name}/Data")
        if place is None or not place.is_dataset or place.thing.ndim != 2 or place.thing.dtype != "u2":
            continue
        scan = _event_scan(tree, name, counting)
        if scan is not None:
            found.append(_counts(tree, name, place, scan))
    if not counting.sum_detectors or not found:
        return found
    alike = [array for array in found if array.events == found[0].events]
    title = "EDS" if len(alike) > 1 else found[0].title
    facts = {k: v for k, v in found[0].acquisition.items() if k != "detector" or len(alike) == 1}
    summed = replace(found[0], title=title, further=tuple(a.place for a in alike[1:]), acquisition=facts)
    return [summed, *(array for array in found if array not in alike)]


def _counts(tree: Tree, name: str, place: Place, scan: EventScan) -> Array:
    metadata = _metadata(tree, name)
    calibration = _space(metadata)
    energy = _energy(metadata)
    if energy:
        width = energy.step * scan.rebinned
        calibration["c"] = Scale(width, energy.units, energy.origin + (width - energy.step) / 2)
    time = _frame_time(metadata)
    if time and not scan.summed:
        calibration["t"] = Scale(time, "s", time * scan.first)
    axes = "yxc" if scan.summed else "tyxc"
    array = _array(f"/{name}", place, metadata, _detector(metadata), axes, axes, 1, calibration)
    return replace(array, events=scan)


def _event_scan(tree: Tree, name: str, counting: Counting) -> EventScan | None:
    """What a stream's settings say of its scan; `None` if they do not."""
    settings = _document(tree.get(f"{name}/AcquisitionSettings"))
    area = _within(_document(tree.get(f"{name}/Metadata")), "Scan", "ScanArea")
    rows = _part_of(_within(settings, "RasterScanDefinition", "Height"), area, "top", "bottom")
    columns = _part_of(_within(settings, "RasterScanDefinition", "Width"), area, "left", "right")
    channels = int(number(_within(settings, "bincount")) or 0)
    if not rows or not columns or not 0 < channels <= MOST_CHANNELS:
        warnings.warn(f"{tree.file}: /{name} does not say how it was scanned", EmioWarning, stacklevel=7)
        return None
    if channels % counting.rebinned:
        raise ArgumentError(f"{tree.file}: rebin_energy={counting.rebinned} does not divide {channels} channels")
    frames = _frames(tree, name)
    last = frames if counting.last_frame is None else counting.last_frame
    if not counting.first_frame < last <= frames:
        raise ArgumentError(
            f"{tree.file}: first_frame={counting.first_frame} and last_frame={last} do not fit {frames} frames"
        )
    encoding = str(_within(settings, "StreamEncoding") or "uint16")
    dtype = counting.dtype or np.dtype(encoding if encoding in ("uint8", "uint16", "uint32") else "u2")
    return EventScan(rows, columns, channels, counting.first_frame, last, counting.sum_frames, counting.rebinned, dtype)


def _part_of(size: Any, area: Any, begin: str, end: str) -> int:
    """Pixels of the part of a scan that was recorded: the settings tell of the whole field."""
    whole = number(size) or 0.0
    low, high = number(_within(area, begin)), number(_within(area, end))
    share = high - low if low is not None and high is not None else 1.0
    pixels = round(whole * share) if 0 < share <= 1 else 0
    return pixels if 0 < pixels <= MOST_PIXELS else 0


def _frames(tree: Tree, name: str) -> int:
    """How many frames were scanned: by the spectrum image, else by the table of where they begin."""
    group = tree.get("Data/SpectrumImage")
    for uid in list(group.thing)[:100] if group is not None else []:
        settings = _document(tree.get(f"Data/SpectrumImage/{uid}/SpectrumImageSettings"))
        last = int(number(_within(settings, "endFramePosition")) or 0)
        if 0 < last <= MOST_FRAMES:
            return last
    table = tree.get(f"{name}/FrameLocationTable")
    count = table.thing.shape[0] if table is not None and table.is_dataset and table.thing.shape else 1
    return min(max(1, count), MOST_FRAMES)


def _array(
    name: str,
    place: Place,
    metadata: Any,
    title: str,
    axes: str,
    order: str,
    signal: int,
    calibration: Mapping[str, Calibration],
) -> Array:
    facts = _acquisition(metadata, title)
    return Array(place, f"{name}/Data", title, axes, order, signal, calibration, facts, {"metadata": metadata})


# Metadata ------------------------------------------------------------------------------------------------------------


def _document(place: Place | None) -> Any:
    """JSON of a dataset: one text, or the first column of bytes filled up with zeros; `None` if it is none."""
    if place is None or not place.is_dataset:
        return None
    dataset = place.thing
    try:
        if dataset.dtype == "u1":
            raw = (dataset[:, 0] if dataset.ndim == 2 else dataset[()]).tobytes().split(b"\0", 1)[0]
            return json.loads(raw.decode("utf-8", "replace"))
        values = small(place)
        return None if values is None else json.loads(text(values))
    except (ValueError, OSError, RuntimeError, TypeError, RecursionError):
        return None


def _metadata(tree: Tree, name: str) -> dict[str, Any]:
    found = _document(tree.get(f"{name}/Metadata"))
    if not isinstance(found, dict):
        warnings.warn(f"{tree.file}: /{name}/Metadata is no JSON: there is no calibration", EmioWarning, stacklevel=6)
        return {}
    return found


def _within(mapping: Any, *keys: str) -> Any:
    for key in keys:
        mapping = mapping.get(key) if isinstance(mapping, Mapping) else None
    return mapping


def _space(metadata: Any) -> dict[str, Calibration]:
    """Calibration of rows and columns."""
    calibration: dict[str, Calibration] = {}
    result = _within(metadata, "BinaryResult") or {}
    for axis, side, unit in (("y", "height", "PixelUnitY"), ("x", "width", "PixelUnitX")):
        step = number(_within(result, "PixelSize", side))
        factor, unit_name = UNITS.get(str(result.get(unit) or ""), (1.0, str(result.get(unit) or "") or None))
        if step:
            origin = number(_within(result, "Offset", axis)) or 0.0
            calibration[axis] = Scale(step * factor, unit_name, origin * factor)
    return calibration


def _map_calibration(tree: Tree) -> dict[str, Calibration]:
    """Calibration of the scan that EELS belongs to: it stands with the spectrum image."""
    group = tree.get("Data/SpectrumImage")
    for uid in list(group.thing)[:100] if group is not None else []:
        found = _space(_document(tree.get(f"Data/SpectrumImage/{uid}/Metadata")))
        if found:
            return found
    return {}


def _frame_time(metadata: Any) -> float | None:
    index = _within(metadata, "BinaryResult", "DetectorIndex")
    return number(_within(metadata, "Scan", "FrameTime")) or number(
        _within(metadata, "Detectors", f"Detector-{index}", "ExposureTime")
    )


def _energy(metadata: Any) -> Scale | None:
    wanted = str(_within(metadata, "BinaryResult", "Detector") or "")
    for detector in (_within(metadata, "Detectors") or {}).values():
        if wanted and wanted in str(_within(detector, "DetectorName") or ""):
            step = number(_within(detector, "Dispersion"))
            if step:
                return Scale(step, "eV", number(_within(detector, "OffsetEnergy")) or 0.0)
    return None


def _detector(metadata: Any) -> str:
    result = _within(metadata, "BinaryResult") or {}
    name = _within(metadata, "Detectors", f"Detector-{result.get('DetectorIndex')}", "DetectorName")
    return str(name or result.get("Detector") or "")


def _titles(tree: Tree) -> dict[str, str]:
    """Names under which Velox shows the arrays, by path."""
    titles: dict[str, str] = {}
    for folder in ("Presentation/Displays/ImageDisplay", "Displays/ImageDisplay"):
        group = tree.get(folder)
        for uid in list(group.thing)[:1000] if group is not None else []:
            shown = _document(tree.get(f"{folder}/{uid}"))
            label = _within(shown, "display", "label") or _within(shown, "id")
            path = _within(shown, "dataPath")
            if path is None and isinstance(_within(shown, "data"), str):
                path = _within(_document(tree.get(shown["data"])), "dataPath")
            if path and label:
                titles["/" + str(path).strip("/").removesuffix("/Data")] = unquote(str(label))
    return titles


def _acquisition(metadata: Any, title: str) -> dict[str, Any]:
    def scaled(factor: float, *keys: str) -> float | None:
        value = number(_within(metadata, *keys))
        return None if value is None else float(f"{value * factor:.12g}")

    stage = {
        "tilt_alpha": scaled(180 / 3.141592653589793, "Stage", "AlphaTilt"),
        "tilt_beta": scaled(180 / 3.141592653589793, "Stage", "BetaTilt"),
        **{axis: scaled(1, "Stage", "Position", axis) for axis in "xyz"},
    }
    instrument = " ".join(
        str(_within(metadata, "Instrument", key) or "") for key in ("InstrumentClass", "InstrumentModel")
    ).strip()
    facts = {
        "beam_energy": scaled(1e-3, "Optics", "AccelerationVoltage"),
        "camera_length": scaled(1e3, "Optics", "CameraLength"),
        "magnification": scaled(1, "CustomProperties", "StemMagnification", "value"),
        "convergence_angle": scaled(1e3, "Optics", "BeamConvergence"),
        "dwell_time": scaled(1, "Scan", "DwellTime"),
        "instrument": instrument,
        "detector": _detector(metadata),
        "stage": {k: v for k, v in stage.items() if v is not None} or None,
        "start_time": _start(metadata),
        "title": title,
    }
    return {name: fact for name, fact in facts.items() if fact not in (None, "", 0.0)}


def _start(metadata: Any) -> str | None:
    seconds = number(_within(metadata, "Acquisition", "AcquisitionStartDatetime", "DateTime"))
    if not seconds:
        stamp = number(_within(metadata, "CustomProperties", "Detectors[BM-Ceta].TimeStamp", "value"))
        seconds = stamp / 1e6 if stamp else None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else None
    except (OverflowError, ValueError, OSError):
        return None
