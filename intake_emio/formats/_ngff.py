"""Metadata of OME-Zarr (NGFF) 0.1 to 0.5: what the arrays of a multiscale image are, and how they are calibrated.

Source of the facts: the OME-NGFF specifications 0.4 and 0.5, and what ome-zarr-py writes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..axes import Calibration, Labels, Scale, axis_letters
from ..errors import ArgumentError, EmioWarning, HeaderError

UNITS = {
    "meter": "m",
    "centimeter": "cm",
    "millimeter": "mm",
    "micrometer": "µm",
    "micron": "µm",
    "um": "µm",
    "nanometer": "nm",
    "angstrom": "Å",
    "picometer": "pm",
    "second": "s",
    "millisecond": "ms",
    "microsecond": "µs",
    "nanosecond": "ns",
    "minute": "min",
    "hour": "h",
}
"""Words of UDUNITS, as we spell them; anything else stays as it is."""

LABEL = "label_"
"""What stands in front of the names of labels, when they are variables."""

OLD_AXES = "tczyx"  # versions 0.1 and 0.2 have these five and do not say so


@dataclass(frozen=True)
class Multiscale:
    """One image, at several resolutions.

    Parameters
    ----------
    name
        As the file says.
    axes
        One letter for each axis.
    paths
        Of the arrays, the finest first.
    steps, origins, units
        Of each array, by axis.
    channel
        Letter of the channel axis; ``""`` if there is none.
    """

    name: str
    axes: str
    paths: tuple[str, ...]
    steps: tuple[tuple[float, ...], ...]
    origins: tuple[tuple[float, ...], ...]
    units: tuple[str | None, ...]
    channel: str

    def calibration(self, where: str, level: int) -> dict[str, Calibration]:
        """Calibration of the axes of a level; an axis that says nothing has none."""
        found: dict[str, Calibration] = {}
        for axis, step, origin, units in zip(
            self.axes, self.steps[level], self.origins[level], self.units, strict=True
        ):
            if not (math.isfinite(step) and math.isfinite(origin) and step):
                warnings.warn(f"{where}: scale {step} of axis {axis!r} is no calibration", EmioWarning, 4)
            elif axis != self.channel and (units or step != 1 or origin):
                found[axis] = Scale(step, units, origin)
        return found


def section(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of OME-Zarr among a group's attributes: under ``ome`` since 0.5, mixed with the others before."""
    ome = attrs.get("ome")
    return dict(ome) if isinstance(ome, Mapping) else dict(attrs)


def refuse_plates(where: str, ome: Mapping[str, Any]) -> None:
    """A plate or a well is many images; say where the first ones are."""
    if isinstance(ome.get("plate"), Mapping):
        wells = [str(well.get("path")) + "/0" for well in ome["plate"].get("wells", ())]
        kind, paths = "plate", wells
    elif isinstance(ome.get("well"), Mapping):
        kind, paths = "well", [str(image.get("path")) for image in ome["well"].get("images", ())]
    else:
        return
    raise ArgumentError(
        f"{where}: is a {kind} of {len(paths)} images: pass the path of one field, such as "
        f"ds_path={' or '.join(map(repr, paths[:3])) or '...'}"
    )


def multiscales(where: str, ome: Mapping[str, Any]) -> tuple[Multiscale, ...]:
    """Return the images that a group says it holds.

    Raises
    ------
    HeaderError
        If the metadata are not as specified.
    """
    stored = ome.get("multiscales")
    if not isinstance(stored, Sequence) or isinstance(stored, str) or not stored:
        return ()
    try:
        return tuple(_multiscale(where, entry) for entry in stored)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, HeaderError):
            raise
        raise HeaderError(f"{where}: broken OME-Zarr metadata: {type(error).__name__}: {error}") from error


def _multiscale(where: str, entry: Mapping[str, Any]) -> Multiscale:
    axes = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in entry.get("axes") or OLD_AXES]
    letters = _letters(where, axes)
    steps, origins = [], []
    for dataset in entry["datasets"]:
        first = dataset.get("coordinateTransformations") or ()
        step, origin = _transformed(where, len(axes), [*first, *(entry.get("coordinateTransformations") or ())])
        steps.append(step)
        origins.append(origin)
    units = tuple(UNITS.get(str(a["unit"]), str(a["unit"])) if a.get("unit") else None for a in axes)
    channel = next((k for k, axis in zip(letters, axes, strict=True) if axis.get("type") == "channel" or k == "c"), "")
    paths = tuple(str(dataset["path"]).strip("/") for dataset in entry["datasets"])
    if not paths:
        raise HeaderError(f"{where}: an image of OME-Zarr without datasets")
    return Multiscale(str(entry.get("name") or ""), letters, paths, tuple(steps), tuple(origins), units, channel)


def _letters(where: str, axes: Sequence[Mapping[str, Any]]) -> str:
    """Letters of the axes: single letters stay, longer names go by the type of the axis."""
    spatial = [k for k, axis in enumerate(axes) if axis.get("type") == "space"]
    names = []
    for k, axis in enumerate(axes):
        name, kind = str(axis["name"]), axis.get("type")
        if len(name) > 1 and kind == "space" and len(spatial) <= 3:
            name = "zyx"[3 - len(spatial) :][spatial.index(k)]
        elif len(name) > 1 and kind in ("time", "channel"):
            name = kind[0]
        names.append(name)
    letters, guessed = axis_letters(names)
    if guessed:
        warnings.warn(f"{where}: axes {', '.join(guessed)} are called {letters!r} by position", EmioWarning, 6)
    return letters


def _transformed(
    where: str, ndim: int, transformations: Sequence[Mapping[str, Any]]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Step and origin of each axis once all transformations are applied, one after the other."""
    step, origin = [1.0] * ndim, [0.0] * ndim
    for transformation in transformations:
        kind = transformation.get("type")
        values = transformation.get(kind) if kind in ("scale", "translation") else None
        if kind == "identity":
            continue
        if values is None:
            warnings.warn(f"{where}: coordinate transformation {kind!r} is ignored", EmioWarning, 6)
            continue
        if len(values) != ndim:
            raise HeaderError(f"{where}: a {kind} of {len(values)} numbers for {ndim} axes")
        numbers = [float("nan") if value is None else float(value) for value in values]
        if kind == "scale":
            step = [s * n for s, n in zip(step, numbers, strict=True)]
            origin = [o * n for o, n in zip(origin, numbers, strict=True)]
        else:
            origin = [o + n for o, n in zip(origin, numbers, strict=True)]
    return tuple(step), tuple(origin)


def channel_names(ome: Mapping[str, Any], count: int) -> Labels | None:
    """Labels of the channels, if there is one for each."""
    omero = ome.get("omero")
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(channels, Sequence) or len(channels) != count:
        return None
    labels = tuple(str(channel.get("label", k)) for k, channel in enumerate(channels) if isinstance(channel, Mapping))
    return Labels(labels) if len(labels) == count else None
