"""Writing images as HyperSpy keeps them in HDF5 (``.hspy``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError
from ._hdf5_pixels import Plan, as_disk_errors, write_pixels
from ._hyperspy_writing import VERSION, Group, signal_chunks, signal_of, warn_of_losses

if TYPE_CHECKING:
    import xarray as xr

CHUNK_BYTES = 1e6
"""As HyperSpy cuts arrays in memory. Without chunks it cannot open a file lazily."""


@as_disk_errors()
def save_hspy(
    image: xr.DataArray, path: str, *, compress: bool | None = None, record: Mapping[str, Any] | None = None
) -> None:
    """Write an image as a file of HyperSpy; lazy pixels block by block.

    Parameters
    ----------
    image
        Of any numbers, with the attributes of its Dataset among its own.
    path
        File to create.
    compress
        `None` and `True`: gzip, level 4, and shuffling, as HyperSpy does; `False`: none.
    record
        Our own account of the image, kept as ``original_metadata.emio``.

    Raises
    ------
    ArgumentError
        If the image holds no numbers, or has an axis of length 0.

    Warns
    -----
    EmioWarning
        If there are coordinates that HyperSpy's axes cannot have, or HyperSpy had something else that is not written
        again.
    """
    import h5py

    if image.dtype.kind not in "biufc" or 0 in image.shape:
        raise ArgumentError(f"{path}: an image of {image.dtype} and shape {image.shape} is no signal of HyperSpy")
    signal = signal_of(image, record)
    warn_of_losses(image)
    pixels = signal.pixels
    chunks = signal_chunks(pixels.shape, signal.signal, pixels.dtype.itemsize, CHUNK_BYTES)
    plan = Plan.of(pixels, compress is not False, chunks)
    name = f"Experiments/{signal.experiment}"
    with h5py.File(path, "w") as file:
        file.attrs["file_format"], file.attrs["file_format_version"] = "HyperSpy", VERSION
        group = file.create_group(name)
        _put(group, signal.tree)
        group.create_dataset("data", pixels.shape, pixels.dtype.newbyteorder("="), **plan.options)
    write_pixels(path, {f"{name}/data": plan})


def _put(place: Any, tree: Group) -> None:
    """Put a tree into a group of the file."""
    import h5py

    for key, value in tree.attributes.items():
        place.attrs[key] = value
    for key, array in tree.arrays.items():
        if array.dtype.kind == "U":
            place.create_dataset(key, data=array.astype(object), dtype=h5py.string_dtype())
        else:
            place.create_dataset(key, data=array)
    for key, branch in tree.groups.items():
        _put(place.create_group(key), branch)
