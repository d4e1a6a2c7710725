"""`imload` and `imsave`: the way in and the way out."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any

from .errors import ArgumentTypeError, UnknownArgumentError


def imload(
    uri: Any,
    partition: Any = None,
    metadata_only: bool = False,
    chunks: Any = "auto",
    **source_kwargs: Any,
) -> Any:
    """Open a detector file of any known format.

    Parameters
    ----------
    uri
        Path (`str` or `pathlib.Path`) or fsspec URL; for sets of files a glob ``frames.*.tif``, a pattern
        ``img_ch{c}_z{z}.tif``, a folder, or a list of files (see `FilesSource`); an intake `DataSource` (as
        ``catalog.name`` gives it), a catalog entry, or an array in memory (NumPy, dask, xarray, Zarr, h5py).
    partition
        Load only a part: number, slice or list along the first axis, or ``{axis: index}``. A number drops the axis.
    metadata_only
        Return what is known without any pixels, as `DataSource.discover` does.
    chunks
        ``"auto"``: the engine's rule; ``"frame"``; a number; one entry per axis; ``{axis: size}``, where other axes
        stay whole; `None`: load into memory.
    **source_kwargs
        Arguments of the reader: those of its format, and the common ones ``nav_shape``, ``sig_shape``, ``sync_offset``,
        ``io_backend``, ``storage_options``, ``output_axis_order``, ``metadata``; ``format="raw"`` names the format.
        For a catalog entry: its parameters.

    Returns
    -------
    xarray.Dataset
        With the variable ``image``, coordinates in physical units, and ``attrs`` with ``uri``, ``format``, ``metadata``
        and ``acquisition``. Lazy unless `chunks` is `None`. A dict, if `metadata_only`.

    Raises
    ------
    UnknownFormatError
        If no format fits.
    UnknownArgumentError
        If the format has no such argument (a `TypeError`).
    EmioError
        If the file is broken or an argument does not fit.

    Examples
    --------
    >>> from intake_emio.cli.demo import small_scan
    >>> ds = imload(small_scan())
    >>> ds.image.dims, ds.image.shape
    (('y', 'x', 'v', 'u'), (8, 8, 32, 32))
    >>> imload(small_scan(), partition={"y": 3, "x": slice(2, 4)}).image.sizes
    Frozen({'x': 2, 'v': 32, 'u': 32})
    """
    own = {"partition": partition, "chunks": chunks}
    given = {k: v for k, v in own.items() if v is not None and not (k == "chunks" and v == "auto")}
    source = _source(uri, given, source_kwargs)
    if metadata_only:
        return source.discover()
    return source.read() if chunks is None else source.to_dask()


def _source(uri: Any, own: dict[str, Any], source_kwargs: dict[str, Any]) -> Any:
    several = isinstance(uri, list | tuple) and all(isinstance(one, str | os.PathLike) for one in uri)
    if several or isinstance(uri, str | os.PathLike):
        from .sets import open_any

        return open_any(uri, **own, **source_kwargs)
    from intake.catalog.entry import CatalogEntry
    from intake.source.base import DataSource

    if isinstance(uri, CatalogEntry):
        return uri(**own, **source_kwargs)
    if isinstance(uri, DataSource):
        if source_kwargs:
            raise UnknownArgumentError(
                f"{uri.name} is an open source already, so {min(source_kwargs)!r} comes too late: pass it when the "
                "source is made, or call it: source(...)"
            )
        return uri.configure_new(**own) if own else uri
    from .formats.memory import is_array, source_of

    if is_array(uri):
        return source_of(uri, **own, **source_kwargs)
    from .frames.chunked_store import is_store

    if is_store(uri):
        from .formats import find

        return find(source_kwargs.pop("format", "zspy")).source_class()(uri, **own, **source_kwargs)
    raise ArgumentTypeError(
        f"imload takes a path, a URL, an array, an intake source or a catalog entry, not a {type(uri).__name__}"
    )


def imsave(
    image: Any,
    uri: Any,
    compress: bool | None = None,
    partition: str | None = None,
    overwrite: bool = False,
    labels: str = "coords",
    storage_options: Mapping[str, Any] | None = None,
    compute: bool = True,
    **format_kwargs: Any,
) -> Any:
    """Save an image; all or nothing.

    Parameters
    ----------
    image
        `xarray.Dataset`, `xarray.DataArray`, NumPy or dask array, or an intake source. It is not changed.
    uri
        Where to, a path or fsspec URL. The extension names the format: ``.zarr .ome.zarr .zspy .h5 .nc .hspy .tif
        .ome.tif .npy .mrc .blo``; without one ``.zarr`` is appended.
    compress
        `None`: as usual for the format; `True`: more; `False`: not at all.
    partition
        Axes that lie within a file, in that order; the others become several files, named after their coordinates:
        ``frames.y_00.0.x_12.8.tif`` with ``partition="vu"``. `None`: split only where the format needs it.
    overwrite
        Whether existing files may be replaced.
    labels
        ``"coords"``: files of a set are named after coordinates; ``"index"``: after indices.
    storage_options
        For fsspec, if `uri` is a URL.
    compute
        `False`: do nothing yet, and return a `dask.delayed.Delayed` that does all of it.
    **format_kwargs
        Arguments of the format's writer.

    Returns
    -------
    list of str
        What was written, in order. Formats with one variable per file make several files of a Dataset of several
        variables: ``scan.var_image.npy``, ``scan.var_navigator.npy``. So do formats that cannot hold all axes.

    Raises
    ------
    TargetExistsError
        If something is there already and `overwrite` is not set; nothing is written.
    ArgumentError
        If the extension is unknown, or the format cannot hold the image.

    Warns
    -----
    EmioWarning
        Once, if the format does not keep everything: says what is lost.

    Examples
    --------
    >>> import tempfile, os, numpy as np
    >>> folder = tempfile.mkdtemp()
    >>> [os.path.basename(p) for p in imsave(np.eye(3), os.path.join(folder, "eye.npy"))]
    ['eye.npy']
    >>> movie = np.zeros((2, 3, 4, 4))
    >>> [os.path.basename(p) for p in imsave(movie, os.path.join(folder, "movie.tif"), partition="zyx")]
    ['movie.c_0.tif', 'movie.c_1.tif']
    """
    from .saving import save

    saved = functools.partial(
        save,
        image,
        uri,
        compress=compress,
        partition=partition,
        overwrite=overwrite,
        labels=labels,
        storage_options=storage_options,
        **format_kwargs,
    )
    if compute:
        return saved()
    import dask

    return dask.delayed(saved, traverse=False)()
