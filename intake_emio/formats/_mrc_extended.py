"""Extended headers of MRC files: a record for each image, by FEI's programs, SerialEM, or after Agard.

Layouts and units: docs/formats/mrc.md.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..axes import Scale
from ..errors import EmioWarning
from ..frames.decoders import nothing
from ..frames.files import File
from ..frames.frames import Frames
from ..frames.layout import FrameStack
from ..frames.navigation import Navigation
from ..frames.pixels import Pixels
from ..frames.storage import Storage
from ..frames.views import Mapped
from ..image import Variable
from ._mrc_header import HEADER, Header

DAY_0 = np.datetime64("1899-12-30", "ms")
DAY_MS = 86_400_000
LAST_DAY = 150_000.0  # in the year 2310
UM, NM = 1e6, 1e9  # in a metre

FEI1_BYTES, FEI2_BYTES = 768, 888
LARGEST_RECORD = 1 << 16
LEGACY_BYTES, LEGACY_RECORD = 131_072, 128  # always 1024 records
FEI_FIELDS: dict[str, tuple[int, str]] = {
    "metadata size": (0, "i4"),
    "metadata version": (4, "i4"),
    "bitmask 1": (8, "u4"),
    "timestamp": (12, "f8"),  # days
    "microscope type": (20, "S16"),
    "D-number": (36, "S16"),
    "application": (52, "S16"),
    "application version": (68, "S16"),
    "HT": (84, "f8"),  # V
    "dose": (92, "f8"),  # e/m2
    "alpha tilt": (100, "f8"),  # degrees
    "beta tilt": (108, "f8"),
    "x-stage": (116, "f8"),  # m
    "y-stage": (124, "f8"),
    "z-stage": (132, "f8"),
    "tilt axis angle": (140, "f8"),
    "dual axis rotation": (148, "f8"),
    "pixel size x": (156, "f8"),
    "pixel size y": (164, "f8"),
    "defocus": (220, "f8"),  # m
    "STEM defocus": (228, "f8"),
    "applied defocus": (236, "f8"),
    "instrument mode": (244, "i4"),  # 1 TEM, 2 STEM
    "projection mode": (248, "i4"),  # 1 diffraction, 2 imaging
    "objective lens mode": (252, "S16"),
    "high magnification mode": (268, "S16"),
    "probe mode": (284, "i4"),
    "EFTEM on": (288, "?"),
    "magnification": (289, "f8"),
    "bitmask 2": (297, "u4"),
    "camera length": (301, "f8"),  # m
    "spot index": (309, "i4"),
    "illuminated area": (313, "f8"),
    "intensity": (321, "f8"),
    "convergence angle": (329, "f8"),
    "illumination mode": (337, "S16"),
    "wide convergence angle range": (353, "?"),
    "slit inserted": (354, "?"),
    "slit width": (355, "f8"),
    "acceleration voltage offset": (363, "f8"),
    "drift tube voltage": (371, "f8"),
    "energy shift": (379, "f8"),
    "shift offset x": (387, "f8"),
    "shift offset y": (395, "f8"),
    "shift x": (403, "f8"),
    "shift y": (411, "f8"),
    "integration time": (419, "f8"),  # s
    "binning width": (427, "i4"),
    "binning height": (431, "i4"),
    "camera name": (435, "S16"),
    "readout area left": (451, "i4"),
    "readout area top": (455, "i4"),
    "readout area right": (459, "i4"),
    "readout area bottom": (463, "i4"),
    "noise reduction": (467, "?"),
    "frames summed": (468, "i4"),
    "direct detector electron counting": (472, "?"),
    "direct detector align frames": (473, "?"),
    "bitmask 3": (490, "u4"),
    "phase plate": (518, "?"),
    "STEM detector name": (519, "S16"),
    "gain": (535, "f8"),
    "offset": (543, "f8"),
    "dwell time": (571, "f8"),  # s
    "frame time": (579, "f8"),
    "scan size left": (587, "i4"),
    "scan size top": (591, "i4"),
    "scan size right": (595, "i4"),
    "scan size bottom": (599, "i4"),
    "full scan FOV x": (603, "f8"),  # m
    "full scan FOV y": (611, "f8"),
    "element": (619, "S16"),
    "energy interval lower": (635, "f8"),
    "energy interval higher": (643, "f8"),
    "method": (651, "i4"),
    "is dose fraction": (655, "?"),
    "fraction number": (656, "i4"),
    "start frame": (660, "i4"),
    "end frame": (664, "i4"),
    "input stack filename": (668, "S80"),
    "bitmask 4": (748, "u4"),
    "alpha tilt min": (752, "f8"),
    "alpha tilt max": (760, "f8"),
    # FEI2 only
    "scan rotation": (768, "f8"),
    "diffraction pattern rotation": (776, "f8"),
    "image rotation": (784, "f8"),
    "scan mode enumeration": (792, "i4"),
    "acquisition time stamp": (796, "i8"),
    "detector commercial name": (804, "S16"),
    "start tilt angle": (820, "f8"),
    "end tilt angle": (828, "f8"),
    "tilt per image": (836, "f8"),
    "tilt speed": (844, "f8"),
    "beam center x pixel": (852, "i4"),
    "beam center y pixel": (856, "i4"),
    "CFEG flash timestamp": (860, "i8"),
    "phase plate position index": (868, "i4"),
    "objective aperture name": (872, "S16"),
}
LEGACY_FIELDS = (
    "alpha tilt",  # degrees
    "beta tilt",
    "x-stage",  # m, or µm
    "y-stage",
    "z-stage",
    "x-shift",
    "y-shift",
    "defocus",  # m, or µm
    "exposure time",  # s
    "mean intensity",
    "tilt axis angle",
    "pixel size",  # m
    "magnification",
    "HT",  # V
)
STAGE = ("x-stage", "y-stage", "z-stage")
SERIAL_EM: dict[int, dict[str, str]] = {
    1: {"tilt_angle": "i2"},
    2: {"piece_x": "i2", "piece_y": "i2", "piece_z": "i2"},
    4: {"stage_x": "i2", "stage_y": "i2"},
    8: {"magnification": "i2"},
    16: {"intensity": "i2"},
    32: {"dose": "<u4"},  # two i2
    **{1 << bit: {f"reserved_{bit}": f"V{4 if bit % 2 else 2}"} for bit in range(6, 11)},
}
"""Items of SerialEM's records by the bits that announce them, in the order in which they stand."""

Change = Callable[[np.ndarray, np.ndarray], None]


@dataclass(frozen=True)
class Fact:
    """A number of each image that becomes a coordinate.

    Parameters
    ----------
    field
        Name in the record.
    change
        What makes the value of stored numbers, and of which type it is; `None`: as stored.
    to
        Type of the value.
    units
        As pint reads them.
    """

    field: str
    change: Change | None = None
    to: str = "f8"
    units: str | None = None


@dataclass(frozen=True)
class Extended:
    """Records of one kind, one behind the other from the end of the header on.

    Parameters
    ----------
    kind
        As in ``exttyp``, or ``"FEI"`` for FEI's old records.
    record
        Type of a record.
    first
        The first record, by name.
    facts
        What becomes coordinates, by their names; empty if there are fewer records than images.
    """

    kind: str
    record: np.dtype
    first: Mapping[str, Any]
    facts: Mapping[str, Fact]

    def pixel_scales(self, scales: Mapping[str, Scale]) -> dict[str, Scale]:
        """Calibration of rows (``"y"``) and columns (``"x"``), as far as it is known here, over that of the header."""
        if self.kind == "FEI":
            sizes = {"y": self.first.get("pixel size", 0.0), "x": self.first.get("pixel size", 0.0)}
        elif self.kind in ("FEI1", "FEI2"):
            sizes = {"y": self.first["pixel size y"], "x": self.first["pixel size x"]}
        else:
            return {}
        known = {axis: size for axis, size in sizes.items() if 0 < size < math.inf}
        return {
            axis: Scale(size * NM, "nm", scales[axis].origin if axis in scales else 0.0)
            if size < 1
            else Scale(size / NM, "1/nm")
            for axis, size in known.items()
        }

    def scan_shape(self, images: int) -> tuple[int, int] | None:
        """Rows and columns of Velox's 4D-STEM; what stands there otherwise is the scan of a single image."""
        if self.kind not in ("FEI1", "FEI2") or images < 2:
            return None
        rows = self.first["scan size bottom"] - self.first["scan size top"]
        columns = self.first["scan size right"] - self.first["scan size left"]
        return (rows, columns) if min(rows, columns) > 0 and rows * columns == images else None

    def acquisition(self) -> dict[str, Any]:
        """Vendor-neutral facts of the first image; 0 means unknown."""
        if self.kind not in ("FEI", "FEI1", "FEI2"):
            return {}
        get = {name: value for name, value in self.first.items() if _is_set(value)}
        angle = get.get("convergence angle")
        scanned = get.get("instrument mode") == 2
        cameras = ("STEM detector name", "camera name") if scanned else ("camera name", "STEM detector name")
        names = [get.get(name) for name in ("microscope type", "D-number")]
        facts: dict[str, Any] = {
            "beam_energy": get.get("HT", 0) / 1000,
            "camera_length": get.get("camera length", 0) * 1000,
            "magnification": get.get("magnification"),
            "dwell_time": get.get("dwell time"),
            "exposure_time": get.get("integration time", get.get("exposure time")),
            "convergence_angle": angle and (angle * 1000 if angle < 1 else angle),
            "instrument": " ".join(name for name in names if name),
            "detector": next((get[name] for name in cameras if name in get), None),
            "start_time": _iso(get.get("timestamp", 0.0)),
            "stage": self._stage(get),
        }
        return {name: fact for name, fact in facts.items() if fact}

    def _stage(self, get: Mapping[str, Any]) -> dict[str, float]:
        factor = UM if self.kind != "FEI" else _to_micrometres(self.first, STAGE)
        stage = {axis: get[name] * factor for axis, name in zip("xyz", STAGE, strict=True) if name in get}
        tilts = {"alpha": get.get("alpha tilt"), "beta": get.get("beta tilt")}
        return {name: round(value, 9) for name, value in {**stage, **tilts}.items() if value is not None}

    def coordinates(
        self, file: File, header: Header, navigation: Navigation, storage: Storage, axes: str
    ) -> dict[str, Variable]:
        """Facts of each image along navigation axes, read when they are needed."""
        return {
            name: Variable(
                self._along(fact, file, header, navigation, storage), axes, {"units": fact.units} if fact.units else {}
            )
            for name, fact in self.facts.items()
        }

    def _along(self, fact: Fact, file: File, header: Header, navigation: Navigation, storage: Storage) -> Pixels:
        kind, at = self.record.fields[fact.field][:2]  # type: ignore[index]
        stack = FrameStack.in_one_file(
            file.uri,
            kind,
            (),
            header["nz"],
            offset=HEADER.itemsize,
            frame_header=at,
            frame_footer=self.record.itemsize - at - kind.itemsize,
        )
        stored = Frames(stack, navigation, storage, file.stamp)
        if fact.change is None:
            return stored
        to = np.dtype(fact.to)
        return Mapped(stored, fact.change, to, nothing(to))  # type: ignore[arg-type]


def read_extended(file: File, header: Header) -> Extended | None:
    """Understand the extended header, if it is of a kind that has records.

    Warns
    -----
    EmioWarning
        If it claims to be of such a kind, and is not. Pixels do not depend on it.
    """
    if not header["nsymbt"]:
        return None
    kind = header["exttyp"].decode("latin-1").strip("\0 ")
    items = _serial_em_items(header) if kind in ("SERI", "") else {}
    counted = not kind and (header["nint"], header["nreal"]) != (0, 0)
    old = header["nsymbt"] == LEGACY_BYTES and kind not in ("CCP4", "MRCO", "HDF5")
    found = None
    if kind in ("FEI1", "FEI2"):
        found = _fei(file, header, kind)
    elif items:
        found = _serial_em(file, header, items)
    elif counted or old or kind in ("AGAR", "SERI"):
        found = _agard(file, header)
    if found is None and (counted or kind in ("FEI1", "FEI2", "AGAR", "SERI")):
        warnings.warn(
            f"{file}: the extended header of {header['nsymbt']} bytes does not hold what its kind ({kind or 'none'}, "
            f"nint={header['nint']}, nreal={header['nreal']}) promises: it is ignored",
            EmioWarning,
            stacklevel=4,
        )
    return found


def _fei(file: File, header: Header, kind: str) -> Extended | None:
    stated = int(np.frombuffer(file.read_exactly(HEADER.itemsize, 4, "extended header"), header.order + "i4")[0])
    size = stated if FEI1_BYTES <= stated <= LARGEST_RECORD else FEI2_BYTES if kind == "FEI2" else FEI1_BYTES
    record = _record(
        {
            name: (at, "<u4" if name.startswith("bitmask") else form)
            for name, (at, form) in FEI_FIELDS.items()
            if at < FEI1_BYTES or (kind == "FEI2" and size >= FEI2_BYTES)
        },
        size,
        header.order,
    )
    facts = {
        "time": Fact("timestamp", _moments, "M8[ms]"),
        "tilt_angle": Fact("alpha tilt", _times(1), units="degree"),
        "tilt_angle_beta": Fact("beta tilt", _times(1), units="degree"),
        **{f"stage_{name[0]}": Fact(name, _times(UM), units="µm") for name in STAGE},
        "defocus": Fact("defocus", _times(UM), units="µm"),
        "exposure_time": Fact("integration time", _times(1), units="s"),
    }
    return _with_set_facts(file, header, kind, record, facts)


def _agard(file: File, header: Header) -> Extended | None:
    """Integers of 4 bytes, then floats; FEI's old ones are 32 floats, which their header may not say."""
    integers, floats = header["nint"], header["nreal"]
    kind = "AGAR"
    if header["nsymbt"] == LEGACY_BYTES and (integers, floats) in ((0, 0), (0, LEGACY_RECORD // 4)):
        kind, integers, floats = "FEI", 0, LEGACY_RECORD // 4
    size = 4 * (integers + floats)
    if min(integers, floats) < 0 or not size or (kind == "AGAR" and size * header["nz"] > header["nsymbt"]):
        return None
    names = LEGACY_FIELDS[:floats]
    record = _record({name: (4 * (integers + k), "f4") for k, name in enumerate(names)}, size, header.order)
    first = _read_record(file, record, 0)
    stage, defocus = (_to_micrometres(first, fields) for fields in (STAGE, ("defocus",)))
    facts = {
        "tilt_angle": Fact("alpha tilt", _times(1), units="degree"),
        "tilt_angle_beta": Fact("beta tilt", _times(1), units="degree"),
        **{f"stage_{name[0]}": Fact(name, _times(stage), units="µm") for name in STAGE},
        "defocus": Fact("defocus", _times(defocus), units="µm"),
        "exposure_time": Fact("exposure time", _times(1), units="s"),
    }
    known = {name: fact for name, fact in facts.items() if fact.field in names}
    return _with_set_facts(file, header, kind, record, known)


def _serial_em_items(header: Header) -> dict[str, tuple[int, str]]:
    """Byte and type of what SerialEM's flags announce; nothing, if sizes do not add up."""
    items, at = {}, 0
    for bit, named in SERIAL_EM.items():
        for name, form in named.items() if header["nreal"] & bit else ():
            items[name] = (at, form)
            at += np.dtype(form).itemsize
    return items if at == header["nint"] and 0 < header["nreal"] < 1 << len(SERIAL_EM) else {}


def _serial_em(file: File, header: Header, items: Mapping[str, tuple[int, str]]) -> Extended | None:
    if header["nint"] * header["nz"] > header["nsymbt"]:
        return None
    record = _record(items, header["nint"], header.order)
    every = {
        "tilt_angle": Fact("tilt_angle", _times(1 / 100), units="degree"),
        **{name: Fact(name) for name in SERIAL_EM[2]},
        **{name: Fact(name, _times(1 / 25), units="µm") for name in SERIAL_EM[4]},
        "magnification": Fact("magnification", _times(100)),
        "intensity": Fact("intensity", _times(1 / 25000)),
        "dose": Fact("dose", functools.partial(_doses, order=header.order), units="1/angstrom^2"),
    }
    first = _read_record(file, record, 0)
    return Extended("SERI", record, first, {name: fact for name, fact in every.items() if name in items})


def _record(fields: Mapping[str, tuple[int, str]], size: int, order: str) -> np.dtype:
    """Type of a record whose fields lie anywhere; those with a byte order of their own keep it."""
    return np.dtype(
        {
            "names": list(fields),
            "formats": [form if form[0] == "<" else order + form for _, form in fields.values()],
            "offsets": [at for at, _ in fields.values()],
            "itemsize": size,
        }
    )


def _read_record(file: File, record: np.dtype, number: int) -> dict[str, Any]:
    """Fields of the record of an image, by name."""
    raw = file.read_exactly(HEADER.itemsize + number * record.itemsize, record.itemsize, "extended header")
    values = np.frombuffer(raw, record, 1)[0]
    named = {name: values[name].tolist() for name in record.names or ()}
    return {n: v.decode("latin-1").strip("\0 ") if isinstance(v, bytes) else v for n, v in named.items()}


def _with_set_facts(
    file: File, header: Header, kind: str, record: np.dtype, facts: Mapping[str, Fact]
) -> Extended | None:
    """Records with those facts that are set, if every image has a record; programs fill up with empty ones."""
    count = header["nsymbt"] // record.itemsize
    if not count:
        return None
    first = _read_record(file, record, 0)
    if count < header["nz"]:
        return Extended(kind, record, first, {})
    last = _read_record(file, record, header["nz"] - 1)
    used = any(_is_set(last[fact.field]) for fact in facts.values())
    known = {name: fact for name, fact in facts.items() if _is_set(first[fact.field]) or _is_set(last[fact.field])}
    return Extended(kind, record, first, known if used else {})


def _is_set(value: Any) -> bool:
    return bool(value) and not (isinstance(value, float) and not math.isfinite(value))


def _to_micrometres(first: Mapping[str, Any], fields: Iterable[str]) -> float:
    """What lengths have to be multiplied by: programs write metres, or micrometres, which are then above 1."""
    return 1.0 if any(abs(first.get(name, 0.0)) > 1 for name in fields) else UM


# Stored numbers to values --------------------------------------------------------------------------------------------


def _times(factor: float) -> Change:
    return functools.partial(_multiplied, factor=factor)


def _multiplied(stored: np.ndarray, out: np.ndarray, *, factor: float) -> None:
    np.multiply(stored, factor, out=out, dtype="f8")


def _moments(days: np.ndarray, out: np.ndarray) -> None:
    """Days since the end of 1899; NaT where nothing is set."""
    known = (days > 0) & (days < LAST_DAY)
    since = np.round(np.where(known, days, 0) * DAY_MS).astype("m8[ms]")
    out[...] = np.where(known, DAY_0 + since, np.datetime64("NaT"))


def _doses(stored: np.ndarray, out: np.ndarray, *, order: str) -> None:
    """Floats that SerialEM splits into two short integers."""
    pairs = stored.astype("<u4")[..., None].view(order + "i2").astype("f8")
    first, second = pairs[..., 0], pairs[..., 1]
    digits = 256 * np.abs(first) + np.abs(second) % 256
    out[...] = np.sign(first) * digits * 2.0 ** (np.sign(second) * (np.abs(second) // 256))


def _iso(days: float) -> str | None:
    """Days since 1899-12-30 as ISO time without time zone."""
    if not 0 < days < LAST_DAY:
        return None
    return str(DAY_0 + np.timedelta64(round(days * DAY_MS), "ms"))
