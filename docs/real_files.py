"""Open real files of every format, compare them with what other programs read in them, and print the page about it.

``python -m docs.real_files > docs/real-files.md``, from the repository's root. ``EMIO_TEST_DATA`` names the folder with
a folder of files for each format; an ``EXPECTED.json`` in each says what is in them.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import intake_emio as emio
from intake_emio.errors import EmioWarning
from tests.conftest import REAL

PAGE = """# Real files

Files of microscopes, cameras and other programs, opened here and compared with what other programs read in them.
They come from RosettaSciIO's tests. `python -m docs.real_files > docs/real-files.md` makes this page anew.

| column | yes means |
| --- | --- |
| opened | `imload` gives a Dataset |
| pixels | the same bytes, in the order of the expected axes |
| axes | the same lengths, steps, origins and units, converted to ours; and the same names, where they are given |

{summary}

| format | file | opened | pixels | axes | remark |
| --- | --- | --- | --- | --- | --- |
{rows}
"""
UNITS = {"1 / µm": ("1/nm", 1e-3), "µm": ("nm", 1e3), "pm": ("nm", 1e-3), "keV": ("eV", 1e3)}
SPELLED = {"Å": "angstrom", "1 / Å": "1/angstrom", "1 / nm": "1/nm", "[]": "", None: ""}
"""How HDF5 files of other programs are shown: in fixed units, spelled as pint reads them."""

REMARKS = {
    "hdf5/Si100_4D.emd": "axes in the order of their names: transposed",
    "hdf5/example_object_dtype_data.emd": "text, which is no image: refused",
    "hdf5/test_00_master.h5": "with the scan and its steps, which stand in a file beside it",
    "hdf5/velox_emd_version11.zip: Test SI 16x16 215 kx.emd": "all frames of a stack; expected is one of them",
    "tvips/test_tvips_2233_000.tvips": "with the pattern's calibration, which is not among what is expected",
    "tvips/test_tvips_2345_000.tvips": "the same",
}
"""Where we differ on purpose, and why."""


@dataclass(frozen=True)
class Case:
    """A file, how it is opened, and what should come of it.

    Parameters
    ----------
    name
        Of the file in its format's folder, with arguments behind ``#``.
    path
        Where it is; files that are made or unpacked lie elsewhere.
    expected
        Alternatives: a file may hold several images.
    arguments
        For `imload`.
    """

    name: str
    path: Path
    expected: list[Mapping[str, Any]]
    arguments: Mapping[str, Any] = field(default_factory=dict)


def cases(folder: Path, work: Path) -> Iterator[Case]:
    """Yield the cases of a format; what has to be made for them goes into a folder for work."""
    listed = json.loads((folder / "EXPECTED.json").read_text())
    for name, entry in listed.get("files", listed).items():
        if name.startswith("_"):
            continue
        path = folder / name.partition("#")[0]
        if "files" in entry:
            with zipfile.ZipFile(path) as archive:
                archive.extractall(work)
            for member, signals in entry["files"].items():
                yield Case(f"{name}: {member}", work / member, signals)
        elif "make" in entry:
            made = work / name
            made.write_bytes(path.read_bytes())
            np.arange(entry["make"]["floats"]).astype("<f4").tofile(work / entry["make"]["file"])
            yield Case(name, made, [entry])
        else:
            there = path if path.exists() else path.with_name(path.name + ".gz")
            expected = entry.get("signals", [entry])
            yield Case(
                there.name if "#" not in name and there != path else name, there, expected, entry.get("kwargs", {})
            )


def digest(image: xr.DataArray) -> str:
    """SHA-256 of pixels, little-endian, in C order."""
    pixels = image.values
    return hashlib.sha256(np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("<")))).hexdigest()


def same_axes(image: xr.DataArray, expected: Mapping[str, Any]) -> bool:
    """Whether shape, type and calibration are as expected."""
    if list(image.shape) != expected["shape"] or str(image.dtype) != expected["dtype"]:
        return False
    if isinstance(expected["axes"], list):
        return all(map(same_axis, itertools.repeat(image), map(str, image.dims), expected["axes"]))
    spacing = {a: step for a in map(str, image.dims) if (step := emio.get_spacing(image, a)) is not None}
    units = {a: unit for a in map(str, image.dims) if (unit := emio.get_spacing_units(image, a)) is not None}
    origins = {a: float(image[a][0]) for a in expected.get("origin", {}) if a in image.coords}
    ends = {a: [float(image[a][k]) for k in (0, -1)] for a in expected.get("coords_first_last", {})}
    return (
        expected["axes"] in (None, "".join(map(str, image.dims)))
        and (bool(ends) or close(spacing, expected["spacing"]))
        and units == expected["units"]
        and close(origins, expected.get("origin", {}))
        and ends == expected.get("coords_first_last", {})
    )


def same_axis(image: xr.DataArray, axis: str, expected: Mapping[str, Any]) -> bool:
    """Whether an axis is as another program shows it; where it counts only, ours has no coordinate."""
    stated = expected.get("units")
    unit, factor = UNITS.get(stated, (SPELLED.get(stated, stated), 1))
    step, origin = expected["scale"] * factor, expected["offset"] * factor
    if axis not in image.coords:
        return (unit, step, origin) == ("", 1, 0)
    values = image[axis].values
    found = {"origin": values[0], "step": values[1] - values[0] if len(values) > 1 else step}
    return image[axis].attrs.get("units", "") == unit and close(found, {"origin": origin, "step": step})


def close(found: Mapping[str, float], expected: Mapping[str, float]) -> bool:
    """Whether numbers are the same, but for single precision."""
    return found.keys() == expected.keys() and all(
        math.isclose(found[k], expected[k], rel_tol=1e-5, abs_tol=1e-12) for k in found
    )


def compared(case: Case, format_name: str) -> dict[str, str]:
    """Return a line of the table."""
    line = {"format": format_name, "file": f"`{case.name}`", "opened": "yes"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EmioWarning)
            image = emio.imload(case.path, **case.arguments).image.load()
    except emio.errors.EmioError:
        line |= {"opened": "no", "pixels": "", "axes": ""}
    else:
        found = digest(image)
        alike = [one for one in case.expected if one["sha256"] == found]
        line["pixels"] = "yes" if alike else "no"
        line["axes"] = "yes" if any(same_axes(image, one) for one in alike or case.expected) else "no"
    remark = REMARKS.get(f"{format_name}/{case.name}", "")
    if len(case.expected) > 1:
        remark = remark or f"one of {len(case.expected)} images"
    return {**line, "remark": remark}


def main() -> None:
    """Print the page."""
    lines = []
    for folder in sorted(path.parent for path in REAL.glob("*/EXPECTED.json")):
        with tempfile.TemporaryDirectory() as work:
            lines += [compared(case, folder.name) for case in cases(folder, Path(work))]
    counts = {what: sum(line[what] == "yes" for line in lines) for what in ("opened", "pixels", "axes")}
    summary = f"Of {len(lines)} files, {counts['opened']} open, {counts['pixels']} have the expected pixels, and "
    summary += f"{counts['axes']} the expected axes."
    rows = "\n".join("| " + " | ".join(line.values()) + " |" for line in lines)
    print(PAGE.format(summary=summary, rows=rows), end="")


if __name__ == "__main__":
    main()
