"""intake-emio: every electron microscopy detector file as a labelled, lazy `xarray.Dataset`.

>>> import intake_emio as emio
>>> from intake_emio.cli.demo import small_scan
>>> ds = emio.imload(small_scan())
>>> ds.image.dims
('y', 'x', 'v', 'u')
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .axes import get_axes, get_spacing, get_spacing_units, to_numpy, to_xarray
    from .catalogs.building import build_catalog
    from .catalogs.searching import search, to_dataframe
    from .detection import Detection, detect
    from .errors import EmioError, EmioWarning
    from .io import imload, imsave

__all__ = [
    "Detection",
    "EmioError",
    "EmioWarning",
    "build_catalog",
    "detect",
    "get_axes",
    "get_spacing",
    "get_spacing_units",
    "imload",
    "imsave",
    "search",
    "to_dataframe",
    "to_numpy",
    "to_xarray",
]

_HOME = {
    "Detection": "detection",
    "EmioError": "errors",
    "EmioWarning": "errors",
    "build_catalog": "catalogs.building",
    "detect": "detection",
    "get_axes": "axes",
    "get_spacing": "axes",
    "get_spacing_units": "axes",
    "imload": "io",
    "imsave": "io",
    "search": "catalogs.searching",
    "to_dataframe": "catalogs.searching",
    "to_numpy": "axes",
    "to_xarray": "axes",
}


def __getattr__(name: str) -> Any:
    """Import public names when they are first used: importing the package itself costs nothing."""
    from importlib import import_module, metadata

    if name == "__version__":
        return metadata.version("intake-emio")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
