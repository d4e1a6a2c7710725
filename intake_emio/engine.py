"""The xarray engine `emio`: ``xr.open_dataset("scan.blo")``.

The Dataset is that of `intake_emio.imload`, but what is lazy follows xarray: without `chunks` pixels are read when they
are used, without dask; with `chunks` they are dask arrays.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from xarray.backends import BackendEntrypoint

if TYPE_CHECKING:
    import xarray as xr

OTHERS = ("hdf5", "zarr", "tif")
"""Formats that other engines open: HDF5 and netCDF, Zarr, TIFF (rioxarray). They want ``engine="emio"``."""


class EmioBackend(BackendEntrypoint):
    """Detector files of electron microscopes for `xarray.open_dataset` and `xarray.open_mfdataset`."""

    description: ClassVar[str] = "Electron microscopy detector files, by intake-emio"
    open_dataset_parameters: ClassVar[tuple | None] = ("filename_or_obj", "drop_variables")

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Say whether this is a file that no other engine opens: a local one by its content, a URL by its extension."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        from .detection import by_content
        from .formats import registry
        from .frames.files import File

        try:
            file = File(os.fspath(filename_or_obj))
            if file.remote:
                named = [entry.name for entry in registry().values() if file.extension in entry.extensions]
                return bool(named) and not {*named} & {*OTHERS, "raw"}  # raw files are not known by their names
            found = by_content(file) if os.path.isfile(file.uri) else None
        except Exception:  # whatever it is: other engines must get their turn
            return False
        return found is not None and found.name not in OTHERS

    def open_dataset(
        self, filename_or_obj: Any, *, drop_variables: str | Iterable[str] | None = None, **settings: Any
    ) -> xr.Dataset:
        """Open a detector file.

        Parameters
        ----------
        filename_or_obj
            Path or fsspec URL; a glob or pattern of files that are one image.
        drop_variables
            Names of variables and coordinates to leave out.
        **settings
            Arguments of the reader, as `intake_emio.imload` takes them, ``format`` included. (``chunks`` is xarray's.)

        Raises
        ------
        UnknownFormatError
            If no format fits.
        UnknownArgumentError
            If the format has no such argument (a `TypeError`).
        ArgumentTypeError
            If it is an open file or an array.

        Examples
        --------
        >>> import xarray as xr
        >>> from intake_emio.cli.demo import small_scan
        >>> ds = xr.open_dataset(small_scan(), engine="emio")
        >>> ds.image.dims, ds.image.chunks
        (('y', 'x', 'v', 'u'), None)
        """
        from .errors import ArgumentTypeError
        from .sets import open_any

        if not isinstance(filename_or_obj, str | os.PathLike):
            raise ArgumentTypeError(
                f"the engine 'emio' takes a path or a URL, not a {type(filename_or_obj).__name__}: it opens files anew "
                "whenever it reads; for arrays there is intake_emio.imload"
            )
        dataset = open_any(filename_or_obj, **settings).to_indexed()
        dropped = [drop_variables] if isinstance(drop_variables, str) else drop_variables or ()
        return dataset.drop_vars(dropped, errors="ignore")
