"""Writing blockfiles: header, navigator and patterns, each chunk computed once.

Layout: docs/formats/blo.md.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import arguments
from ..axes import convert_length, spacing_of, units_of
from ..errors import ArgumentError, EmioWarning
from ..frames.store import make_room, store
from ._blo_header import FIELDS, FRAME_HEADER, HEADER, MAGIC, OLE_EPOCH, VERSIONS, in_order

if TYPE_CHECKING:
    import xarray as xr

DATA_OFFSET_1 = 4096
LARGEST = 65535
CARRIED = [name for name, _ in FIELDS if name.startswith(("Centering", "Distortion"))] + [
    "UNKNOWN1",
    "DP_rotation",
    "Scan_rotation",
    "Beam_energy",
    "Camera_length",
    "Acquisition_time",
]


def save(
    dataset: xr.Dataset,
    path: str,
    *,
    compress: bool | None = None,
    intensity_scaling: str | tuple[float, float] | None = None,
    navigator: str | np.ndarray | None = "navigator",
    show_progressbar: bool = True,
    endianess: str = "<",
) -> None:
    """Write a scan of square patterns as a blockfile; each chunk is computed once.

    Parameters
    ----------
    dataset
        Its `image` has two signal axes of equal length behind up to two navigation axes. Header fields of a Dataset
        that came from a blockfile are carried over.
    path
        File to create.
    compress
        Makes no difference: the format knows no compression.
    intensity_scaling
        How pixels become uint8. `None`: not at all, values must be whole numbers from 0 to 255. ``"dtype"``,
        ``"minmax"``, ``"crop"`` (0 to 255) or ``(low, high)``: that range is stretched to 0 … 255, what lies outside
        is clipped.
    navigator
        ``"navigator"``: the Dataset's variable of that name, or else the mean of every pattern; an array of scan shape;
        `None`: zeros.
    show_progressbar
        Whether to show one, on a terminal, when it takes long.
    endianess
        ``"<"`` or ``">"``: byte order of every number.

    Raises
    ------
    ArgumentError
        If the image does not fit into a blockfile.

    Warns
    -----
    EmioWarning
        If a calibration cannot be expressed in nm (scan) or cm (detector).
    """
    dataset = _rows_first(dataset)
    image = dataset["image"]
    arguments.choice("endianess", endianess, ("<", ">"))
    ny, nx, size = _scan_of(path, image)
    pixels = image.data.reshape(ny, nx, size, size)
    limits = _limits(path, pixels, intensity_scaling)
    header = _header_of(dataset, ny, nx, size).astype(in_order(endianess))
    stored = _given_navigator(path, dataset, navigator, (ny, nx), limits)
    target = PatternTarget(path, int(header["Data_offset_2"]), (ny, nx), size, endianess, limits, stored is None)
    with open(path, "wb") as file:
        file.write(header.tobytes() + _note_of(dataset))
    make_room(path, int(header["Data_offset_2"]) + ny * nx * (FRAME_HEADER + size * size))
    target.number_frames()
    if stored is not None:
        target.navigator()[...] = stored
    store(_whole_patterns(pixels), target, show_progressbar)


def file_axes(axes: str) -> str:
    """Return the axes of an image that one blockfile holds: a pattern behind up to two scan axes."""
    return axes[-4:]


def losses(dataset: xr.Dataset) -> list[str]:
    """Name what a blockfile does not keep of a Dataset."""
    image = dataset["image"]
    uneven = [
        str(d) for d in image.dims if d in image.coords and spacing_of(image, str(d)) is None and image.sizes[d] > 1
    ]
    shifted = [
        str(d)
        for d in image.dims
        if str(d) not in uneven and d in image.coords and (image[d].dtype.kind not in "iuf" or image[d][0] != 0)
    ]
    lost = [f"uneven coordinates of {', '.join(uneven)}"] * bool(uneven)
    return lost + [f"the origin of {', '.join(shifted)}"] * bool(shifted)


@dataclass(frozen=True)
class PatternTarget:
    """A blockfile that takes blocks of patterns; it travels to other processes by its name."""

    path: str
    offset: int
    scan: tuple[int, int]
    size: int
    endianess: str
    limits: tuple[float, float] | None
    make_navigator: bool

    def frames(self) -> np.ndarray:
        """All frames with their headers, as a map of the file."""
        frame = np.dtype(
            [
                ("marker", self.endianess + "u2"),
                ("number", self.endianess + "u4"),
                ("pixels", "u1", (self.size,) * 2),
            ]
        )
        return np.memmap(self.path, frame, "r+", self.offset, self.scan)

    def navigator(self) -> np.ndarray:
        """Virtual bright field, as a map of the file."""
        return np.memmap(self.path, "u1", "r+", DATA_OFFSET_1, self.scan)

    def number_frames(self) -> None:
        """Write all frame headers."""
        frames = self.frames()
        frames["marker"] = 0x55AA
        frames["number"] = np.arange(math.prod(self.scan), dtype="u4").reshape(self.scan)

    def __setitem__(self, box: tuple[slice, ...], block: np.ndarray) -> None:
        scaled = _scaled(block, self.limits)
        if self.limits is None and block.dtype != np.uint8:
            _check_bytes(self.path, block)
        self.frames()["pixels"][box] = scaled
        if self.make_navigator:
            self.navigator()[box[:2]] = _scaled(block.mean((2, 3), dtype="f8"), self.limits)


def _rows_first(dataset: xr.Dataset) -> xr.Dataset:
    """Scan rows and columns, then pattern rows and columns: a Dataset may present them in another order."""
    return dataset.transpose(..., *(axis for axis in "yxvu" if axis in dataset["image"].dims))


def _scan_of(path: str, image: xr.DataArray) -> tuple[int, int, int]:
    """Rows, columns and pattern size that the file will have."""
    *scan, height, width = image.shape if image.ndim > 1 else (*image.shape, 0)
    if height != width or len(scan) > 2:
        raise ArgumentError(
            f"{path}: a blockfile holds square patterns of a scan (y, x, v, u), not {dict(image.sizes)}: cut out a "
            "square, or save the scans one by one"
        )
    ny, nx = [1, 1, *scan][-2:]
    if not 0 < min(ny, nx, width) <= max(ny, nx, width) <= LARGEST:
        raise ArgumentError(f"{path}: scan {ny} x {nx} of {width} pixels: a blockfile counts from 1 to {LARGEST}")
    if image.dtype.kind not in "biuf":
        raise ArgumentError(f"{path}: the image holds {image.dtype}, which cannot become bytes")
    return ny, nx, width


def _limits(path: str, pixels: Any, scaling: Any) -> tuple[float, float] | None:
    """Values that become 0 and 255; None: pixels stay as they are."""
    if scaling is None:
        return None
    if isinstance(scaling, str) and scaling == "crop":
        return 0.0, 255.0
    if isinstance(scaling, str) and scaling == "minmax":
        import dask

        low, high = map(float, dask.compute(pixels.min(), pixels.max()))
        if not math.isfinite(high - low):
            raise ArgumentError(
                f"{path}: intensity_scaling='minmax', but the image reaches from {low} to {high}: pass (low, high)"
            )
        return (low, high) if low < high else (0.0, 255.0)
    if isinstance(scaling, str) and scaling == "dtype" and pixels.dtype.kind in "iu":
        info = np.iinfo(pixels.dtype)
        return float(info.min), float(info.max)
    if (
        isinstance(scaling, tuple | list)
        and len(scaling) == 2
        and all(isinstance(limit, int | float | np.number) for limit in scaling)
    ):
        low, high = map(float, scaling)
        if low < high and math.isfinite(high - low):
            return low, high
    raise ArgumentError(
        f"{path}: intensity_scaling={scaling!r} does not fit {pixels.dtype}: use 'dtype' (integers), 'minmax', 'crop' "
        "or (low, high) with low < high"
    )


def _scaled(block: np.ndarray, limits: tuple[float, float] | None) -> np.ndarray:
    if limits is None:
        return block
    low, high = limits
    return np.floor((np.clip(block.astype("f8"), low, high) - low) / (high - low) * 255)


def _check_bytes(path: str, block: np.ndarray) -> None:
    if block.dtype == bool:
        return
    low, high = block.min(), block.max()
    if not (low >= 0 and high <= 255 and (block.dtype.kind in "iu" or (block == np.floor(block)).all())):
        raise ArgumentError(
            f"{path}: blockfiles hold whole numbers from 0 to 255, and the image has {block.dtype} values from {low} "
            f"to {high}: pass intensity_scaling='minmax', 'dtype', 'crop' or (low, high)"
        )


def _whole_patterns(pixels: Any) -> Any:
    return pixels.rechunk({2: -1, 3: -1}) if hasattr(pixels, "rechunk") else pixels


def _given_navigator(
    path: str, dataset: xr.Dataset, navigator: Any, scan: tuple[int, int], limits: tuple[float, float] | None
) -> np.ndarray | None:
    """Bright field to store, in bytes, or `None` if it is to be made from the patterns."""
    if navigator is None:
        return np.zeros(scan, "u1")
    if isinstance(navigator, str):
        if navigator not in dataset and navigator == "navigator":
            return None
        if navigator not in dataset:
            raise ArgumentError(f"{path}: the Dataset has no variable {navigator!r} to store as navigator")
        navigator = dataset[navigator]
    values = np.asarray(navigator)
    if values.shape not in (scan, dataset["image"].shape[:-2]):
        raise ArgumentError(f"{path}: the navigator's shape {values.shape} is not the scan's {scan}")
    scaled = _scaled(values.reshape(scan), limits)
    if not ((scaled >= 0) & (scaled <= 255)).all():
        raise ArgumentError(
            f"{path}: the navigator has values from {values.min()} to {values.max()}, and blockfiles hold 0 to 255: "
            "pass intensity_scaling=, or navigator=None"
        )
    return scaled.astype("u1")


def _header_of(dataset: xr.Dataset, ny: int, nx: int, size: int) -> np.ndarray:
    header = np.zeros((), HEADER)
    before = dataset.attrs.get("metadata", {}).get("fileheader", {})
    facts = dataset.attrs.get("acquisition", {})
    header["UNKNOWN1"] = 131141
    header["Acquisition_time"] = _days(facts.get("start_time"))
    _store(header, "Beam_energy", facts.get("beam_energy"), 1000)
    _store(header, "Camera_length", facts.get("camera_length"), 10)
    if before.get("ID") == MAGIC.decode():
        for name in CARRIED:
            _store(header, name, before.get(name), 1)
    header["ID"], header["MAGIC"] = MAGIC, VERSIONS[0]
    header["Data_offset_1"] = DATA_OFFSET_1
    header["Data_offset_2"] = -(-(DATA_OFFSET_1 + nx * ny) // 16) * 16
    header["DP_SZ"], header["NX"], header["NY"] = size, nx, ny
    *scan, row, _ = map(str, dataset["image"].dims)
    rows, columns = [None, None, *scan][-2:]
    header["SY"], header["SX"] = _step(dataset, rows, "nm"), _step(dataset, columns, "nm")
    pixel = _step(dataset, row, "cm")
    density = round(100 / pixel) if pixel else 0
    if pixel and not 1 <= density <= LARGEST:
        density = 0
        warnings.warn(f"detector pixels of {pixel} cm cannot be stored in a blockfile", EmioWarning, stacklevel=5)
    header["SDP"] = density
    return header


def _store(header: np.ndarray, name: str, value: Any, factor: int) -> None:
    """Put a number into a field of the header.

    Raises
    ------
    ArgumentError
        If it is none that the field can hold.
    """
    whole = header.dtype[name].kind == "u"
    try:
        scaled = factor * float(value or 0)
        header[name] = round(scaled) if whole else scaled
    except (TypeError, ValueError, OverflowError):
        raise ArgumentError(
            f"{name} of a blockfile cannot hold {value!r}: correct it in the attributes of the Dataset"
        ) from None


def _step(dataset: xr.Dataset, axis: str | None, units: str) -> float:
    """Spacing of an axis in the units of the format; 0 where there is none, or none that can be converted."""
    image = dataset["image"]
    spacing = spacing_of(image, axis) if axis else None
    if axis is None or spacing is None:
        return 0.0
    converted = convert_length(spacing, units_of(image, axis), units)
    if converted is None:
        warnings.warn(
            f"spacing of {axis!r} in {units_of(image, axis)!r} cannot be stored in a blockfile, which wants {units}",
            EmioWarning,
            stacklevel=6,
        )
    return converted or 0.0


def _days(start_time: str | None) -> float:
    """ISO time as days since 1899-12-30; unknown: what RosettaSciIO writes."""
    if not start_time:
        return 25570.0
    try:
        moment = datetime.fromisoformat(start_time).replace(tzinfo=None)
    except ValueError:
        return 25570.0
    return (moment - OLE_EPOCH) / timedelta(days=1)


def _note_of(dataset: xr.Dataset) -> bytes:
    note = dataset.attrs.get("metadata", {}).get("fileheader", {}).get("Note")
    note = note or dataset.attrs.get("acquisition", {}).get("title") or ""
    return str(note).encode("latin-1", "replace")[: DATA_OFFSET_1 - HEADER.itemsize]
