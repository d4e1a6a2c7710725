"""Writing MRC2014 files: header, labels and pixels, each chunk computed once.

Layout: docs/formats/mrc.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..axes import convert_length, spacing_of, units_of
from ..errors import ArgumentError
from ..frames.store import make_room, progress
from ..record import KEY, VERSION
from ._mrc_header import HEADER, IMOD, LABEL_BYTES, SIGNED

if TYPE_CHECKING:
    import xarray as xr

KINDS = {"i1": 0, "i2": 1, "f4": 2, "c8": 4, "u2": 6, "f2": 12}
NEAREST = {"b": "uint16", "c": "complex64"}
"""What to convert pixels to that do not fit, by their kind; others become float32."""

LARGEST = 2**31 - 1
LABELS = 10
TITLE = "Saved by intake-emio"
IMAGES, VOLUME, VOLUMES = 0, 1, 401  # space groups
UNKNOWN = {"dmin": 0.0, "dmax": -1.0, "dmean": -2.0, "rms": -1.0}
PIECE = 1 << 20
"""Pixels whose statistics are made at a time."""

ACCOUNT = np.dtype([("count", "f8"), ("low", "f8"), ("high", "f8"), ("mean", "f8"), ("squares", "f8")])
"""Statistics of some pixels; `squares` is the sum of squared differences from the mean."""


def save(
    image: xr.DataArray, path: str, *, compress: bool | None = None, record: Mapping[str, Any] | None = None
) -> None:
    """Write an image, a stack, a scan or volumes as MRC2014, little-endian; lazy pixels block by block.

    Parameters
    ----------
    image
        Frames (the last two axes) behind at most two more axes. ``z`` makes a volume, ``iz`` volumes; anything else is
        a stack, of which the labels say what it was.
    path
        File to create.
    compress
        Makes no difference: the format knows no compression.
    record
        Our own account of the image, of which axes and shape are kept in the labels.

    Raises
    ------
    ArgumentError
        If the pixels are of a type that the format lacks, or the axes do not fit.
    """
    axes = "".join(map(str, image.dims))
    if not 2 <= image.ndim <= 4 or not 0 < min(image.shape) <= max(image.shape) <= LARGEST:
        raise ArgumentError(
            f"{path}: an MRC file holds frames behind at most two other axes, all of 1 to {LARGEST} members, not "
            f"{dict(image.sizes)}"
        )
    if math.prod(image.shape[:-2]) > LARGEST:
        raise ArgumentError(f"{path}: an MRC file holds at most {LARGEST} frames, not {math.prod(image.shape[:-2])}")
    kind = stored_type(path, image.dtype)
    header = _header(image, axes, kind)
    labels = _labels(axes, image.shape, record or {})
    header["nlabl"] = len(labels)
    header["label"][: len(labels)] = labels
    with open(path, "wb") as file:
        file.write(header.tobytes())
    make_room(path, HEADER.itemsize + image.size * kind.itemsize)
    for name, value in _statistics(_stored(image.data, Target(path, kind, image.shape)), kind).items():
        header[name] = value
    with open(path, "r+b") as file:
        file.write(header.tobytes())


def stored_type(path: str, dtype: np.dtype) -> np.dtype:
    """Return the type in which pixels are written; bytes are widened, because half of all readers think them signed.

    Raises
    ------
    ArgumentError
        If the format has none that holds them exactly.
    """
    kind = "u2" if dtype == np.uint8 else dtype.str[1:]
    if kind not in KINDS:
        known = ", ".join(np.dtype(known).name for known in KINDS)
        raise ArgumentError(
            f"{path}: MRC files hold {known} and (as uint16) uint8 pixels, not {dtype}: convert them, for example with "
            f"image.astype({NEAREST.get(dtype.kind, 'float32')!r})"
        )
    return np.dtype("<" + kind)


def file_axes(axes: str) -> str:
    """Return the axes of an image that one file holds: a frame, and what may stand before it.

    Examples
    --------
    >>> [file_axes(axes) for axes in ("itczyx", "ityx", "cyx", "iyxvu", "tvu", "vu")]
    ['izyx', 'tyx', 'yx', 'yxvu', 'tvu', 'vu']
    """
    frame = "vu" if {"v", "u"} <= {*axes} else "yx" if {"y", "x"} <= {*axes} else axes[-2:]
    rest = "".join(a for a in axes if a not in frame)
    if frame == "vu" and {"y", "x"} <= {*rest}:
        return "yxvu"
    if frame == "yx" and "z" in rest:
        return "izyx" if "i" in rest else "zyx"
    return next((a for a in reversed(rest) if a in "iztyx"), "") + frame


def losses(image: xr.DataArray) -> list[str]:
    """Name what an MRC file does not keep of an image."""
    lost = []
    for name, coord in image.coords.items():
        if coord.ndim and (str(name) not in _spatial(image) or _angstroms(image, str(name)) is None):
            units = units_of(image, str(name))
            lost.append(f"coordinate {name}{f' in {units}' if units else ''}")
    return lost


# Header --------------------------------------------------------------------------------------------------------------


def _spatial(image: xr.DataArray) -> str:
    """Axes whose calibration has a place: columns, rows, sections of a volume."""
    axes = "".join(map(str, image.dims))
    return axes[::-1][: 3 if axes.endswith("zyx") else 2]


def _angstroms(image: xr.DataArray, axis: str) -> tuple[float, float] | None:
    """Step and origin of an axis in Å; `None` if it has none that the header can say."""
    spacing, units = spacing_of(image, axis), units_of(image, axis)
    if spacing is None or spacing <= 0:
        return None
    step, origin = (convert_length(value, units, "Å") for value in (spacing, float(image[axis][0])))
    return None if step is None or origin is None else (step, origin)


def _header(image: xr.DataArray, axes: str, kind: np.dtype) -> np.ndarray:
    """Header of an image whose statistics are not known yet."""
    *before, rows, columns = image.shape
    header = np.zeros((), HEADER.newbyteorder("<"))
    header["nx"], header["ny"], header["nz"] = columns, rows, math.prod(before)
    header["mode"] = KINDS[kind.str[1:]]
    header["mx"], header["my"], header["mz"] = columns, rows, 1
    if axes.endswith("zyx"):
        header["mz"] = before[-1]
        header["ispg"] = VOLUME if len(before) == 1 else VOLUMES
    for k, axis in enumerate(_spatial(image)):
        step, origin = _angstroms(image, axis) or (0, 0)
        header["cella"][k], header["origin"][k] = step * image.sizes[axis], origin
    header["cellb"] = 90
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["nversion"], header["map"], header["machst"] = 20141, b"MAP ", np.void(b"DD\0\0")
    if kind == np.int8:
        header["imodStamp"], header["imodFlags"] = IMOD, SIGNED
    for name, value in UNKNOWN.items():
        header[name] = value
    return header


def _labels(axes: str, shape: tuple[int, ...], record: Mapping[str, Any]) -> list[bytes]:
    """What people and our reader are told: the shape of a scan, and axes that the header cannot say."""
    labels = [TITLE.encode()]
    if len(shape) == 4 and not axes.endswith("zyx"):
        labels.append(f"nav_shape=({shape[0]}, {shape[1]})".encode())
    usual = axes in ("yx", "yxvu") or (axes in ("iyx", "zyx", "izyx") and math.prod(shape[:-2]) > 1)
    if usual and "outer" not in record:
        return labels
    told = {"version": VERSION, "axes": axes, "shape": list(shape)}
    place = {"outer": record["outer"]} if "outer" in record else {}
    for account in ({**told, **place}, told):
        text = f"{KEY}={json.dumps(account, separators=(',', ':'))}".encode()
        pieces = [text[k : k + LABEL_BYTES] for k in range(0, len(text), LABEL_BYTES)]
        if len(labels) + len(pieces) <= LABELS and all(piece.strip() for piece in pieces):
            return labels + pieces
    return labels


# Pixels --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """The pixels of a file, which take blocks; it travels to other processes by its name."""

    path: str
    kind: np.dtype
    shape: tuple[int, ...]

    def take(self, box: tuple[slice, ...], block: np.ndarray) -> np.ndarray:
        """Write a block, and return its statistics as a record."""
        stored = np.memmap(self.path, self.kind, "r+", HEADER.itemsize, self.shape)
        stored[box] = block
        stored.flush()
        return joined([_account(block.reshape(-1)[k : k + PIECE]) for k in range(0, block.size, PIECE)])


def _stored(pixels: Any, target: Target) -> np.ndarray:
    """Write all pixels, and return the statistics of the blocks."""
    if not hasattr(pixels, "dask"):
        return target.take(tuple(slice(0, n) for n in target.shape), np.ascontiguousarray(pixels))
    accounts = pixels.map_blocks(
        _taken,
        target=target,
        dtype=ACCOUNT,
        chunks=tuple((1,) * n for n in pixels.numblocks),
        meta=np.empty((0,) * pixels.ndim, ACCOUNT),
    )
    with progress():
        return accounts.compute()


def _taken(block: np.ndarray, *, target: Target, block_info: Any) -> np.ndarray:
    box = tuple(slice(*ends) for ends in block_info[0]["array-location"])
    return target.take(box, np.ascontiguousarray(block)).reshape((1,) * block.ndim)


def _account(pixels: np.ndarray) -> np.ndarray:
    """Statistics of a run of pixels; of complex ones there are none."""
    if pixels.dtype.kind == "c":
        return np.array((pixels.size, *[math.nan] * 4), ACCOUNT)
    values = pixels.astype("f8")
    with np.errstate(invalid="ignore"):  # pixels may be infinite
        mean = values.mean()
        squares = np.square(values - mean).sum()
    return np.array((values.size, values.min(), values.max(), mean, squares), ACCOUNT)


def joined(accounts: Any) -> np.ndarray:
    """Statistics of several runs of pixels together.

    Examples
    --------
    >>> runs = np.array([(2, 0, 2, 1, 2), (1, 4, 4, 4, 0)], ACCOUNT)
    >>> joined(runs).tolist()  # of 0, 2 and 4
    (3.0, 0.0, 4.0, 2.0, 8.0)
    """
    runs = np.asarray(accounts, ACCOUNT).reshape(-1)
    count = runs["count"].sum()
    with np.errstate(invalid="ignore"):
        mean = (runs["count"] * runs["mean"]).sum() / count
        squares = (runs["squares"] + runs["count"] * np.square(runs["mean"] - mean)).sum()
    return np.array((count, runs["low"].min(), runs["high"].max(), mean, squares), ACCOUNT)


def _statistics(accounts: np.ndarray, kind: np.dtype) -> dict[str, float]:
    """Statistics under their names in the header; of pixels that are not all finite, none."""
    whole = joined(accounts)
    if not all(map(math.isfinite, whole.tolist())):
        return UNKNOWN
    rms = math.sqrt(whole["squares"] / whole["count"])
    if kind == np.float16:  # programs that check it add up in half precision
        rms = UNKNOWN["rms"]
    return {"dmin": float(whole["low"]), "dmax": float(whole["high"]), "dmean": float(whole["mean"]), "rms": rms}
