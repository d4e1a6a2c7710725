"""NeXus files, and the master files of DECTRIS detectors (ARINA, EIGER, QUADRO, SINGLA), which look like them."""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

import numpy as np

from ..axes import Calibration, Scale
from ..errors import EmioWarning, HeaderError
from . import _hyperspy
from ._hdf5_files import Place, Tree, attributes, number, plain, text, texts
from ._hdf5_layouts import Array, along, is_pixels, lies_elsewhere, positional, small

ENERGY_UNITS = {"eV", "keV", "meV"}
MEMBER = re.compile(r"data_\d+")
BAD = 0xFFFF
"""Bits of NeXus' pixel masks that make a pixel useless: gaps, dead, blind, hot, noisy ones. Others are notes."""


def is_nexus(tree: Tree) -> bool:
    """Whether a file is a NeXus file."""
    import h5py

    root = tree.root.thing
    if "NX_class" in root.attrs or text(root.attrs.get("file_format", "")) == "nexus":
        return True
    for name in list(root)[:100]:
        if not isinstance(root.get(name, getlink=True), h5py.ExternalLink):
            place = tree.get(name)
            if place is not None and "NX_class" in place.thing.attrs:
                return True
    return False


def nexus(tree: Tree) -> list[Array]:
    """Plottable data of a NeXus file: what its `default` attributes lead to, then the largest."""
    arrays: dict[tuple[str, int], Array] = {}
    groups = _data_groups(tree)
    for path, group in groups:
        found = _signal(tree, path, group)
        if found is not None:
            arrays.setdefault(found.place.identity, found)
    chosen = _default(tree)
    first = _signal(tree, chosen.path, chosen) if chosen is not None else None
    return sorted(
        arrays.values(),
        key=lambda a: (first is None or a.place.identity != first.place.identity, -a.size, a.name),
    )


def _data_groups(tree: Tree) -> list[tuple[str, Place]]:
    """All groups of class NXdata."""
    folders = {path.rpartition("/")[0] for path, _ in tree.walk()}
    found = [(path, tree.get(path or "/")) for path in sorted(folders)]
    return [
        (path, place)
        for path, place in found
        if place is not None and text(place.thing.attrs.get("NX_class", "")) == "NXdata"
    ]


def _default(tree: Tree) -> Place | None:
    here: Place | None = tree.root
    for _ in range(8):
        if here is None or here.is_dataset:
            return None
        name = here.thing.attrs.get("default")
        if name is None:
            return here if text(here.thing.attrs.get("NX_class", "")) == "NXdata" else None
        here = tree.get(text(name), here)
    return None


def _signal(tree: Tree, path: str, group: Place) -> Array | None:
    attrs = group.thing.attrs
    name = text(attrs["signal"]) if "signal" in attrs else None
    if name is None:  # as it was before 2014: the dataset says that it is the signal
        old = [n for n in list(group.thing)[:1000] if _is_old_signal(tree.get(n, group))]
        name = old[0] if old else None
    place = tree.get(name, group) if name else None
    if place is None or not place.is_dataset or not is_pixels(place.thing):
        return None
    shape = place.thing.shape
    named: Any = attrs.get("axes", place.thing.attrs.get("axes"))
    axis_names = _axis_names(named, len(shape))
    calibration: dict[int, Calibration] = {}
    energies = set()
    for number_, axis in enumerate(axis_names):
        if axis in ("", "."):
            continue
        where = attrs.get(f"{axis}_indices")
        k = (
            int(where.reshape(-1)[0])
            if where is not None and getattr(where, "size", 1) == 1 and hasattr(where, "reshape")
            else int(where)
            if where is not None and not hasattr(where, "reshape")
            else number_
        )
        vector = tree.get(axis, group)
        values = small(vector)
        if vector is None or values is None or not 0 <= k < len(shape) or values.shape != (shape[k],):
            continue
        unit = vector.thing.attrs.get("units")
        scale = along(values, shape[k], None if unit is None else text(unit))
        if scale is not None:
            calibration[k] = scale
        if axis.lower().startswith("energy") or (scale is not None and scale.units in ENERGY_UNITS):
            energies.add(k)
    kind = text(attrs.get("interpretation", place.thing.attrs.get("interpretation", "")))
    axes, signal = _letters(len(shape), kind, energies)
    title = path.rsplit("/", 1)[-1]
    order = axes
    if axes and "c" in axes and not axes.endswith("c") and kind != "image":
        order = axes.replace("c", "") + "c"
    facts = tree.get(f"{path.rpartition('/')[0]}/auxiliary/hyperspy_metadata")
    header: dict[str, Any] = {"axis_names": axis_names, "interpretation": kind, "attributes": attributes(group.thing)}
    acquisition = {"title": title}
    if facts is not None:
        header["metadata"] = _values(tree, facts)
        acquisition |= _hyperspy.acquisition(header["metadata"])
    return Array(
        place,
        f"{path}/{name}",
        title,
        axes,
        order,
        signal,
        {axes[k]: c for k, c in calibration.items()},
        acquisition,
        header,
    )


def _is_old_signal(place: Place | None) -> bool:
    if place is None or not place.is_dataset or "signal" not in place.thing.attrs:
        return False
    return number(place.thing.attrs["signal"]) == 1 or text(place.thing.attrs["signal"]) == "1"


def _axis_names(named: Any, ndim: int) -> list[str]:
    if named is None:
        return [""] * ndim
    names = texts(named)
    if len(names) == 1:
        names = [n.strip() for n in re.split(r"[,:]", names[0].strip("[]"))]
    return names[:ndim] + [""] * (ndim - len(names))


def _letters(ndim: int, kind: str, energies: set[int]) -> tuple[str, int]:
    """Letters, and how many of the last ones make a frame."""
    if kind == "spectrum" or (not kind and energies == {ndim - 1}):
        return {1: "", 2: "i", 3: "yx", 4: "iyx", 5: "ityx"}.get(ndim, "ityxzab"[: ndim - 1]) + "c", 1
    if not kind and len(energies) == 1 and ndim in (2, 3):
        (k,) = energies
        rest = {2: "i", 3: "yx"}[ndim]
        return rest[:k] + "c" + rest[k:], 1
    return positional(ndim, min(2, ndim)), min(2, ndim)


def _values(tree: Tree, group: Place, deep: int = 0) -> dict[str, Any]:
    """Small datasets and attributes below a group."""
    found: dict[str, Any] = attributes(group.thing)
    for name in list(group.thing)[:1000] if deep < 8 else []:
        place = tree.get(name, group)
        if place is None:
            continue
        if not place.is_dataset:
            found[name] = _values(tree, place, deep + 1)
        elif (values := small(place)) is not None and values.size <= 1000:
            found[name] = plain(values)
    return found


# DECTRIS -------------------------------------------------------------------------------------------------------------


def is_dectris(tree: Tree) -> bool:
    """Whether a file is the master file of a DECTRIS detector."""
    data = tree.get("entry/data") if tree.root.thing.get("entry", getlink=True) is not None else None
    if data is not None and not data.is_dataset and any(MEMBER.fullmatch(name) for name in data.thing):
        return True
    definition = small(tree.get("entry/definition"))
    return definition is not None and text(definition) == "NXmx" and data is not None


def dectris(tree: Tree, corrections: bool) -> list[Array]:
    """The frames of all data files of a master file, as one array.

    Parameters
    ----------
    tree
        The master file.
    corrections
        Whether to look for dead pixels, and for a flat field that the detector has not applied.

    Raises
    ------
    MissingFileError
        If a data file is not there.
    HeaderError
        If there are no frames, or files differ in size or type of their frames.
    """
    group = tree.get("entry/data")
    names = sorted((n for n in group.thing if MEMBER.fullmatch(n)), key=lambda n: int(n[5:])) if group else []
    if not names and group is not None and "data" in group.thing:
        names = ["data"]  # one virtual dataset
    places = [place for name in names if (place := tree.get(name, group)) is not None]
    if not places:
        raise HeaderError(f"{tree.file}: /entry/data has no data_000001 nor any other frames")
    first = places[0].thing
    for place, name in zip(places, names, strict=False):
        dataset = place.thing
        if dataset.ndim != 3 or dataset.shape[1:] != first.shape[1:] or dataset.dtype != first.dtype:
            raise HeaderError(
                f"{tree.file}: {name} in {place.file.name} holds {dataset.shape} {dataset.dtype}, and {names[0]} "
                f"{first.shape} {first.dtype}: frames must be equal"
            )
    stored = sum(place.thing.shape[0] for place in places)
    facts = _values(tree, detector) if (detector := tree.get("entry/instrument/detector")) is not None else {}
    specific = facts.get("detectorSpecific", {})
    expected = int(number(specific.get("nimages", 0)) or 0) * int(number(specific.get("ntrigger", 1)) or 1)
    scan, scan_shape = _scan(tree), None
    if scan:
        rows, columns = (int(number(scan.get(name, 0)) or 0) for name in ("NumPixelsY", "NumPixelsX"))
        if rows > 0 and columns > 0 and rows * columns == max(stored, expected):
            scan_shape = (rows, columns)
    calibration: dict[str, Calibration] = {}
    pixel = number(scan.get("Pixel Size", 0)) if scan_shape else None
    if pixel:
        calibration = {axis: Scale(pixel, "nm") for axis in "yx"}
    return [
        Array(
            places[0],
            f"/entry/data/{names[0]}",
            text(facts.get("description", "")),
            "iyx",
            "iyx",
            2,
            calibration,
            _dectris_facts(facts, specific, scan),
            {"detector": facts, "STEM Metadata": scan, "data_files": [p.file.name for p in places]},
            further=tuple(places[1:]),
            frames=scan_shape or (max(stored, expected),),
            gain=_flatfield(tree, facts, first.shape[1:]) if corrections else None,
            excluded=_dead(tree, first.shape[1:]) if corrections else (),
        )
    ]


def _flatfield(tree: Tree, facts: dict[str, Any], frame: tuple[int, ...]) -> Place | None:
    """Factors of the pixels, if the detector says that it has not applied them, and there are others than 1."""
    applied = number(facts.get("flatfield_correction_applied"))
    place = tree.get("entry/instrument/detector/detectorSpecific/flatfield") if applied == 0 else None
    values = _picture(place, frame)
    return place if values is not None and values.dtype.kind == "f" and (values != 1).any() else None


def _dead(tree: Tree, frame: tuple[int, ...]) -> tuple[int, ...]:
    """Flat numbers of the pixels that the detector has masked."""
    values = _picture(tree.get("entry/instrument/detector/detectorSpecific/pixel_mask"), frame)
    if values is None or values.dtype.kind not in "iu":
        return ()
    return tuple(np.flatnonzero(values & BAD).tolist())


def _picture(place: Place | None, frame: tuple[int, ...]) -> np.ndarray | None:
    """Values of a dataset that belongs to the frames; `None` if it has another shape."""
    if place is None or not place.is_dataset or place.thing.shape != frame or lies_elsewhere(place.thing):
        return None
    return np.asarray(place.thing[()])


def _scan(tree: Tree) -> dict[str, Any]:
    """What the microscope says of the scan, in a file beside the master."""
    import h5py

    base = re.sub(r"_master$", "", tree.file.stem)
    names = [n for n in (f"{base}.h5", f"{base}.hdf5") if n in tree.file.neighbours and n != tree.file.name]
    for name in names:
        file = tree.file.sibling(name)
        try:
            with tree.opening.open(file.uri, file.stamp) as opened:
                if isinstance(opened.get("STEM Metadata", getlink=True), h5py.HardLink):
                    return attributes(opened["STEM Metadata"])
        except (OSError, KeyError):
            warnings.warn(f"{file}: cannot be read, so the scan is unknown", EmioWarning, stacklevel=6)
    return {}


def _dectris_facts(facts: dict[str, Any], specific: dict[str, Any], scan: dict[str, Any]) -> dict[str, Any]:
    photon = number(specific.get("photon_energy"))
    tension = number(scan.get("High Tension"))
    length = number(scan.get("Camera Length"))
    found = {
        "beam_energy": tension / 1000 if tension else photon / 1000 if photon else None,
        "camera_length": float(f"{length * 1000:.12g}") if length else None,
        "magnification": number(scan.get("Magnification")),
        "exposure_time": number(facts.get("count_time")),
        "dwell_time": number(facts.get("frame_time")),
        "detector": " ".join(str(facts[k]) for k in ("description", "detector_number") if facts.get(k)),
        "start_time": specific.get("data_collection_date"),
    }
    return {name: fact for name, fact in found.items() if fact not in (None, "") and not _odd(fact)}


def _odd(fact: Any) -> bool:
    return isinstance(fact, float) and not math.isfinite(fact)
