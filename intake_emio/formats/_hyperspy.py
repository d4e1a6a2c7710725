"""What HyperSpy's files have in common, whatever holds them: axes, units, and where facts stand in the metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..axes import Calibration, Labels, Scale
from ..errors import HeaderError
from ._expression import evaluated

NONE = "_None_"
"""How `None` is spelled."""

OWN_HEADER = {"axes": list, "metadata": dict, "original_metadata": dict, "types": dict}
"""What the header of a file of HyperSpy has, and those of no other format."""

NOTE = "note"
"""Type of what stands for something that was not read."""

ARRAY = "array "
"""Type of an array, before that of its elements."""

NUMBER = "number "
"""Type of a number that JSON has not, before its name."""

STORED_AXES = "stored_axes"
"""Key of our record that says what the axes of the array are."""

PLACES = {
    "beam_energy": ("beam_energy",),
    "camera_length": ("camera_length",),
    "magnification": ("magnification",),
    "convergence_angle": ("convergence_angle",),
    "instrument": ("microscope",),
    "exposure_time": ("Detector", "Camera", "exposure"),
    "dwell_time": ("Detector", "EELS", "dwell_time"),
    "stage": ("Stage",),
}
"""Where facts stand below ``Acquisition_instrument.TEM`` in the metadata."""

NOTHING = {"", "px", "pixel", "pixels", "pixel(s)", "<undefined>", "undefined", "_none_", "none", "t.undefined"}
ANGSTROM = {"A", "\u00c5", "\u212b", "angstrom", "Angstrom", "ångström"}
TIMES = {"t", "time", "frame time", "frame_time"}
TIME_UNITS = {"s", "ms", "us", "µs", "min", "h"}
DEPTHS = {"z", "depth", "height", "thickness", "volume"}
LENGTH_UNITS = {"m", "mm", "cm", "µm", "nm", "pm", "angstrom"}


def units(written: Any) -> str | None:
    """Units as pint and UDUNITS read them; `None` for pixels and nothing.

    Examples
    --------
    >>> units("$A^{-1}$"), units("[n_m^-1]"), units("[m_rad] [e_V]"), units("1 / nm"), units("px")
    ('1/angstrom', '1/nm', 'mrad eV', '1/nm', None)
    """
    if written is None:
        return None
    raw = str(written).strip()
    parts = re.findall(r"\[([^\]]*)\]", raw)
    if parts:  # Berkeley EMD: prefix and unit joined by an underscore
        raw = " ".join(part.replace("_", "") for part in parts).strip()
    raw = raw.replace("$", "").replace("{", "").replace("}", "").strip()
    if raw.lower() in NOTHING:
        return None
    inverse = re.fullmatch(r"(?:1\s*/\s*(.+)|(.+?)\s*\^\s*-1)", raw)
    if inverse:
        return f"1/{_unit((inverse[1] or inverse[2]).strip())}"
    return _unit(raw)


def _unit(name: str) -> str:
    if name in ANGSTROM:
        return "angstrom"
    return {"um": "µm", "\u03bcm": "µm", "micron": "µm", "us": "µs"}.get(name, name)


def letters(
    names: Sequence[str | None], unit_names: Sequence[str | None], navigate: Sequence[bool]
) -> tuple[str, str, int]:
    """Letters of axes, from their names and which of them navigate.

    Returns
    -------
    letters
        In the order of the array.
    order
        The same with the navigation axes in front.
    signal
        How many signal axes there are.

    Examples
    --------
    >>> letters([None, None, "kx", "ky"], [None] * 4, [True, True, False, False])
    ('yxvu', 'yxvu', 2)
    >>> letters(["Energy", "y", "x"], ["eV", "nm", "nm"], [False, True, True])
    ('cyx', 'yxc', 1)
    """
    navigation = [k for k, flag in enumerate(navigate) if flag]
    signal = [k for k, flag in enumerate(navigate) if not flag]
    if not signal:  # a transposed signal
        navigation, signal = navigation[:-2], navigation[-2:]
    elif len(signal) > 2:  # HyperSpy's BaseSignal
        navigation, signal = sorted(navigation + signal[:-2]), signal[-2:]
    given = [str(name).lower() if name else "" for name in names]
    found = _own_names([given[k] for k in navigation], [given[k] for k in signal])
    if found is None:
        found = _by_position([(given[k], unit_names[k]) for k in navigation], len(signal))
    by_axis = dict(zip(navigation + signal, found, strict=True))
    if "stack_element" in given and "i" not in found:  # HyperSpy's name for the axis along which it stacked images
        renamed = by_axis[given.index("stack_element")]
        by_axis[given.index("stack_element")], found = "i", found.replace(renamed, "i")
    return "".join(by_axis[k] for k in range(len(names))), found, len(signal)


def _own_names(navigation: list[str], signal: list[str]) -> str | None:
    """Names that are letters of ours already, each in its role."""
    together = navigation + signal
    if len(set(together)) != len(together) or not all(len(n) == 1 and n in "itczyxvu" for n in together):
        return None
    if any(n in "vu" for n in navigation) or set(signal) not in ({"y", "x"}, {"v", "u"}, {"c"}):
        return None
    return "".join(together)


def _by_position(navigation: list[tuple[str, str | None]], signal: int) -> str:
    first = "i"
    if navigation:
        name, unit = navigation[0]
        first = "t" if name in TIMES or unit in TIME_UNITS else "z" if name in DEPTHS else "i"
        if signal == 1 and len(navigation) == 1 and first == "i" and (name == "x" or unit in LENGTH_UNITS):
            first = "x"
    if signal == 2:
        if len(navigation) < 2:
            return first[: len(navigation)] + "yx"
        end = "yxvu"
    else:
        end = "yxc" if len(navigation) > 1 else "c"
    extra = len(navigation) - (2 if len(navigation) > 1 else 0)
    second = "t" if first != "t" else "i"
    spare = [first, second, *(a for a in "zabdefghjklmnopqrsw" if a not in (first, second))]
    if extra > len(spare):
        raise HeaderError(f"{len(navigation) + signal} axes are more than there are letters for")
    return "".join(spare[:extra]) + end


def calibration(axis: Mapping[str, Any], size: int) -> Calibration | None:
    """Calibration of an axis' dictionary; `None` if there is none, or its values are not as many as `size`.

    Examples
    --------
    >>> calibration({"scale": 0.5, "offset": 2, "units": "nm"}, 8)
    Scale(step=0.5, units='nm', origin=2.0)
    >>> calibration({"expression": "a * x**2", "a": 0.5, "x": {"size": 3}}, 3)
    Labels(labels=(0.0, 0.5, 2.0), units=None)
    """
    unit = units(axis.get("units"))
    values = axis.get("axis")
    if "expression" in axis:
        values = function_values(axis, size)
        if values is None:
            return None
    try:
        if values is not None:
            return Labels(tuple(float(v) for v in values), unit) if len(values) == size else None
        step, origin = float(axis.get("scale", 1)), float(axis.get("offset", 0))
    except (TypeError, ValueError):
        return None
    if step == 0 or step - step or origin - origin or (step == 1 and origin == 0 and unit is None):
        return None
    return Scale(step, unit, origin)


def function_values(axis: Mapping[str, Any], size: int) -> np.ndarray | None:
    """Coordinates of an axis that is a function of another one; `None` if it is beyond arithmetic."""
    inner = axis.get("x")
    base = calibration(inner, size) if isinstance(inner, Mapping) else None
    numbers = {k: v for k, v in axis.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    x = np.arange(size, dtype="f8") if base is None else np.asarray(base.values(size))
    return evaluated(str(axis.get("expression")), {**numbers, "x": x})


def is_own_header(header: Any) -> bool:
    """Whether the header of an image is that of a file of HyperSpy; it may come from a stranger's record."""
    if not isinstance(header, Mapping) or not all(isinstance(header.get(k), kind) for k, kind in OWN_HEADER.items()):
        return False
    return all(isinstance(axis, Mapping) for axis in header["axes"])


def branch(tree: Any, path: Sequence[str]) -> Any:
    """What stands in a tree of dictionaries at some place; `None` if nothing does."""
    for name in path:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


def restored(header: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a branch of a file's header as HyperSpy had it: tuples and arrays are ones again, notes are gone.

    Examples
    --------
    >>> header = {"metadata": {"a": [1, 2], "b": "an array"}, "types": {"metadata/a": "tuple", "metadata/b": "note"}}
    >>> restored(header, "metadata")
    {'a': (1, 2)}
    """
    types = header.get("types") or {}
    whole = _restored(header.get(name) or {}, name, types)
    for path in (path.split("/") for path, kind in types.items() if kind == NOTE):
        if path[:2] == [name, "Markers"] and len(path) > 2 and isinstance(whole.get("Markers"), dict):
            whole["Markers"].pop(path[2], None)  # a marker without its numbers is none
    return whole if isinstance(whole, dict) else {}


def _restored(value: Any, path: str, types: Mapping[str, str]) -> Any:
    kind = str(types.get(path, ""))
    if isinstance(value, Mapping):
        inside = {name: (f"{path}/{name}", item) for name, item in value.items()}
        return {name: _restored(item, p, types) for name, (p, item) in inside.items() if types.get(p) != NOTE}
    try:
        if kind.startswith(NUMBER):
            return float(kind.removeprefix(NUMBER))
        if isinstance(value, list) and kind.startswith(ARRAY):
            return np.asarray(value, dtype=kind.removeprefix(ARRAY))
    except (TypeError, ValueError, OverflowError):  # somebody has been at it
        return value
    if not isinstance(value, list):
        return value
    items = [None if types.get(p := f"{path}/{k}") == NOTE else _restored(v, p, types) for k, v in enumerate(value)]
    return tuple(items) if kind == "tuple" else items


def acquisition(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Vendor-neutral facts of HyperSpy's metadata."""
    instrument, general = _dict(metadata, "Acquisition_instrument"), _dict(metadata, "General")
    microscope = _dict(instrument, "TEM") or _dict(instrument, "SEM")
    detector = _dict(microscope, "Detector")
    stage = _dict(microscope, "Stage")
    facts = {
        "beam_energy": microscope.get("beam_energy"),
        "camera_length": microscope.get("camera_length"),
        "magnification": microscope.get("magnification"),
        "convergence_angle": microscope.get("convergence_angle"),
        "instrument": microscope.get("microscope"),
        "exposure_time": _seconds(_dict(detector, "Camera"), "exposure"),
        "dwell_time": _seconds(_dict(detector, "EELS") or microscope, "dwell_time"),
        "stage": {k: v for k, v in stage.items() if isinstance(v, int | float)} or None,
        "title": general.get("title"),
    }
    if general.get("date"):
        time, zone = str(general.get("time") or ""), str(general.get("time_zone") or "")
        zone = "Z" if zone == "UTC" else zone if re.fullmatch(r"[+-]\d\d:\d\d|Z", zone) else ""
        facts["start_time"] = str(general["date"]) + (f"T{time}{zone}" if time else "")
    return {name: fact for name, fact in facts.items() if fact not in (None, "", {}, "__unnamed__")}


def _seconds(facts: Mapping[str, Any], name: str) -> Any:
    """Time in seconds; old files say beside it that they mean milliseconds."""
    value = facts.get(name)
    milli = facts.get(f"{name}_units") == "ms"
    return float(f"{value * 1e-3:.12g}") if milli and isinstance(value, int | float) else value


def _dict(mapping: Any, key: str) -> dict[str, Any]:
    found = mapping.get(key) if isinstance(mapping, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}
