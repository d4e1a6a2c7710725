"""`emio demo`: a synthetic scan from detector to picture, the way real data go."""

from __future__ import annotations

import functools
import os
import tempfile
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from . import app

if TYPE_CHECKING:
    import xarray as xr

SCAN_STEP = 2.5  # nm
CAMERA_LENGTH = 200.0  # mm
PIXEL = 0.05  # cm on the camera


@app.command("demo")
def demo(folder: Annotated[str, typer.Argument(help="Where to put the files.")] = "emio-demo") -> None:
    """Make a small 4D-STEM scan, catalog it, open it through intake, and save a picture of it.

    ```
    emio demo
    emio demo /tmp/emio-demo
    ```
    """
    import intake
    from rich.console import Console

    console = Console()
    os.makedirs(folder, exist_ok=True)
    scan = os.path.join(folder, "gold_on_carbon.blo")
    from ..io import imsave
    from .preview import save_preview

    imsave(synthetic_scan(64, 96), scan, overwrite=True)
    console.print(f"1. a scan of 64 x 64 diffraction patterns: [cyan]{scan}[/]")

    catalog = os.path.join(folder, "catalog.yml")
    write_catalog(catalog, scan)
    console.print(f"2. a catalog that lists it: [cyan]{catalog}[/]")

    source = intake.open_catalog(catalog).gold_on_carbon
    dataset = source.to_dask()
    console.print("3. opened with [cyan]intake.open_catalog(...).gold_on_carbon.to_dask()[/], nothing read yet:")
    console.print(f"   image {dict(dataset.image.sizes)} {dataset.image.dtype}, {dataset.image.nbytes / 1e6:.1f} MB")

    picture = os.path.join(folder, "gold_on_carbon.png")
    save_preview(source, picture)
    console.print("4. bright field, dark field and mean pattern, as [cyan]emio preview[/] draws them:")
    print(os.path.abspath(picture))


def write_catalog(path: str, scan: str) -> None:
    """Write the catalog that lists the demo's scan; what somebody wrote into it before is kept."""
    from ..catalogs.building import build_catalog

    build_catalog(os.path.dirname(scan), path, include=os.path.basename(scan), update=True)


def synthetic_scan(points: int, size: int, seed: int = 7) -> xr.Dataset:
    """Return a scan over crystalline particles on an amorphous film.

    Parameters
    ----------
    points
        Scan points along each axis.
    size
        Pixels along each axis of a pattern.
    seed
        Of the random numbers.

    Returns
    -------
    xarray.Dataset
        `image`, dims ``y x v u``, uint8, with coordinates in nm (scan) and cm (camera).
    """
    from ..axes import to_xarray

    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:points, 0:points] / points
    patterns = np.empty((points, points, size, size), "u1")
    background = 60 * _disk(size, 0, 0, size / 14) + 12 * np.exp(-_radius(size) / (size / 5))
    particles = [
        (*random.uniform(0.1, 0.9, 2), random.uniform(0.06, 0.16), random.uniform(0, np.pi / 3)) for _ in range(9)
    ]
    spots = [_spots(size, angle) for *_, angle in particles]
    for row in range(points):
        thickness = [
            np.sqrt(np.clip(r**2 - (y[row] - cy) ** 2 - (x[row] - cx) ** 2, 0, None)) / 0.16
            for cy, cx, r, _ in particles
        ]
        total = np.clip(sum(thickness), 0, 1.2)
        mean = background * (1 - 0.6 * total)[:, None, None]
        for local, lattice in zip(thickness, spots, strict=True):
            mean = mean + local[:, None, None] * lattice
        patterns[row] = np.minimum(random.poisson(mean), 255)
    dataset = to_xarray(
        patterns,
        axes="yxvu",
        spacing={"y": SCAN_STEP, "x": SCAN_STEP, "v": PIXEL, "u": PIXEL},
        spacing_units={"y": "nm", "x": "nm", "v": "cm", "u": "cm"},
        name="image",
    ).to_dataset()
    facts: dict[str, Any] = {"beam_energy": 200.0, "camera_length": CAMERA_LENGTH, "title": "Synthetic gold on carbon"}
    dataset.attrs["acquisition"] = facts
    return dataset


def _radius(size: int) -> np.ndarray:
    v, u = np.mgrid[0:size, 0:size] - (size - 1) / 2
    return np.hypot(v, u)


def _disk(size: int, dv: float, du: float, radius: float) -> np.ndarray:
    v, u = np.mgrid[0:size, 0:size] - (size - 1) / 2
    return 1 / (1 + np.exp((np.hypot(v - dv, u - du) - radius) * 2))


def _spots(size: int, angle: float) -> np.ndarray:
    """Diffraction disks of a hexagonal lattice, two orders."""
    pattern = np.zeros((size, size))
    for order, strength in ((1.0, 30.0), (np.sqrt(3), 14.0)):
        turn = angle if order == 1 else angle + np.pi / 6
        for k in range(6):
            phi = turn + k * np.pi / 3
            pattern += strength * _disk(size, size / 5 * order * np.sin(phi), size / 5 * order * np.cos(phi), size / 24)
    return pattern


@functools.cache
def small_scan() -> str:
    """Path of a small synthetic blockfile, made once per process: for examples and tests.

    Examples
    --------
    >>> small_scan().endswith(".blo")
    True
    """
    import atexit
    import shutil

    from ..io import imsave

    folder = tempfile.mkdtemp(prefix="emio-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return imsave(synthetic_scan(8, 32), os.path.join(folder, "scan.blo"))[0]
