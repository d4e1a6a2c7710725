"""The formats, one module each, and the registry that lists them as data.

A new format is one module with an `ImageSource` and one entry here, or a third-party package that offers a `Format` (or
several) through the entry-point group ``intake_emio.formats``. Modules are imported when a file of theirs turns up.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, EmioWarning

if TYPE_CHECKING:
    from ..source import ImageSource

ENTRY_POINTS = "intake_emio.formats"


@dataclass(frozen=True)
class Writer:
    """How images are written under some extensions, without importing the module that does it.

    The module's function takes the image (a DataArray, or a Dataset where more than the image fits into a file), the
    path of a new file, ``compress``, and its own arguments by name.

    Parameters
    ----------
    extensions
        In lower case, with their dots.
    save
        Name of the function of the format's module.
    holds
        Names of the variables that one file holds beside the image; ``("*",)``: any. The function is then handed a
        Dataset.
    file_axes
        Name of a function of the module that takes the axes of an image and returns those that fit into one file, in
        that order; the others become several files. `None`: all fit.
    records
        Whether the function takes ``record=``, our own account of the image in JSON types, and the reader finds it
        again (see `intake_emio.record`).
    losses
        Name of a function of the module that says what of an image is not kept.
    folder
        Whether what is written is a folder; it can then be written to any fsspec URL directly.
    amends
        Name of an argument of the function: `False` means that it changes what is there, all or nothing, instead of
        making something new.
    """

    extensions: tuple[str, ...]
    save: str = "save"
    holds: tuple[str, ...] = ()
    file_axes: str | None = None
    records: bool = False
    losses: str | None = None
    folder: bool = False
    amends: str | None = None

    def takes(self, names: Iterable[str]) -> bool:
        """Whether all these variables fit into one file."""
        beside = {name for name in names if name != "image"}
        return self.holds == ("*",) or bool(self.holds and beside <= set(self.holds))


@dataclass(frozen=True)
class Format:
    """What is known of a format without importing its module.

    Parameters
    ----------
    name
        As in ``format=`` and in the driver's name ``emio_<name>``.
    title
        In plain words.
    module
        Dotted name of its module.
    source
        Name of the `ImageSource` in the module; `None` if the format is only written.
    extensions
        In lower case, with their dots.
    magic
        Byte strings by which the content is recognised, each with its offset.
    recognise
        Name of a function of the module that takes a `File` and says whether it is of this format, where magic bytes
        do not suffice.
    detection
        How files are recognised, in words.
    folders
        Whether an image may be a folder: then `recognise` is asked about folders too.
    arrays
        Whether it is no file at all, but an array in memory.
    set_arguments
        Arguments by which its source takes several files on its own, faster than `FilesSource` does.
    writers
        How it is written, if it is.
    """

    name: str
    title: str
    module: str
    source: str | None = None
    extensions: tuple[str, ...] = ()
    magic: tuple[tuple[int, bytes], ...] = ()
    recognise: str | None = None
    detection: str = ""
    folders: bool = False
    arrays: bool = False
    set_arguments: tuple[str, ...] = ()
    writers: tuple[Writer, ...] = ()

    def load(self, what: str) -> Any:
        """Return an object of the format's module by its name."""
        return getattr(importlib.import_module(self.module), what)

    def source_class(self) -> type[ImageSource]:
        """Return the reader.

        Raises
        ------
        ArgumentError
            If the format is only written.
        """
        if self.source is None:
            raise ArgumentError(f"{self.name} files are written, but not read")
        return self.load(self.source)


_HERE = __name__

FORMATS = (
    Format(
        "blo",
        "NanoMegas blockfile",
        f"{_HERE}.blo",
        source="BloSource",
        extensions=(".blo",),
        magic=((0, b"IMGBLO"),),
        detection="first bytes IMGBLO",
        writers=(Writer((".blo",), holds=("navigator",), file_axes="file_axes", losses="losses"),),
    ),
    Format(
        "dask",
        "Dask array in memory",
        f"{_HERE}.memory",
        source="DaskSource",
        detection="type of the array",
        arrays=True,
    ),
    Format(
        "dm",
        "Gatan Digital Micrograph",
        f"{_HERE}.dm",
        source="DMSource",
        extensions=(".dm3", ".dm4"),
        set_arguments=("files", "same_offset"),
        recognise="is_dm",
        detection="version 3 or 4, and the beginning of a tag tree that fits into the file",
    ),
    Format(
        "empad",
        "EMPAD scan or series",
        f"{_HERE}.empad",
        source="EmpadSource",
        extensions=(".xml", ".raw"),
        recognise="is_empad",
        detection="XML that names a raw file, or the raw file of such an XML",
    ),
    Format(
        "frms6",
        "PNDetector pnCCD camera",
        f"{_HERE}.frms6",
        source="Frms6Source",
        extensions=(".frms6",),
        magic=((0, b"\x00\x04\x40\x00"),),
        recognise="is_frms6",
        detection="first bytes 00 04 40 00, or a .hdr with a section [measurementInfo]",
    ),
    Format(
        "hdf5",
        "HDF5: HyperSpy, EMD, NeXus, DECTRIS …",
        f"{_HERE}.hdf5",
        source="HDF5Source",
        extensions=(".h5", ".hdf5", ".hdf", ".he5", ".nxs", ".nx5", ".nexus", ".emd", ".de5", ".hspy", ".nc", ".nc4"),
        magic=tuple((at, b"\x89HDF\r\n\x1a\n") for at in (0, 512, 1024, 2048)),
        recognise="is_hdf5",
        detection="signature \\x89HDF at byte 0, or behind a user block",
        writers=(
            Writer((".h5",), holds=("*",), records=True),
            Writer((".nc",), save="save_nc", holds=("*",), records=True),
            Writer((".hspy",), save="save_hspy", records=True),
        ),
    ),
    Format(
        "k2is",
        "Gatan K2 IS raw capture",
        f"{_HERE}.k2is",
        source="K2ISSource",
        extensions=(".gtg", ".bin"),
        recognise="is_k2is",
        detection="block headers of NAME1.bin ... NAME8.bin, or NAME.gtg",
    ),
    Format(
        "memory",
        "Array in memory",
        f"{_HERE}.memory",
        source="MemorySource",
        detection="type of the array",
        arrays=True,
    ),
    Format(
        "mib",
        "Merlin (Medipix3) acquisition",
        f"{_HERE}.mib",
        source="MibSource",
        extensions=(".mib",),
        magic=((0, b"MQ1,"),),
        recognise="is_mib",
        detection="first bytes MQ1, or a .hdr file that begins with HDR",
    ),
    Format(
        "mrc",
        "MRC, CCP4 map, Direct Electron movie",
        f"{_HERE}.mrc",
        source="MrcSource",
        extensions=(".mrc", ".mrcs", ".map", ".st", ".ali", ".rec", ".preali"),
        magic=((208, b"MAP"),),
        recognise="is_mrc",
        detection="MAP at byte 208, also packed by gzip or bzip2; of old files the extension, and a header that fits",
        writers=(Writer((".mrc",), file_axes="file_axes", records=True, losses="losses"),),
    ),
    Format(
        "npy",
        "NumPy array",
        f"{_HERE}.npy",
        source="NpySource",
        extensions=(".npy",),
        magic=((0, b"\x93NUMPY"),),
        recognise="is_archive",
        detection="first bytes \\x93NUMPY",
        writers=(Writer((".npy",), losses="losses"),),
    ),
    Format(
        "raw",
        "Headerless raw frames",
        f"{_HERE}.raw",
        source="RawSource",
        extensions=(".raw", ".bin", ".dat"),
        detection="arguments dtype and sig_shape",
    ),
    Format(
        "seq",
        "Norpix sequence",
        f"{_HERE}.seq",
        source="SeqSource",
        extensions=(".seq",),
        magic=((0, b"\xed\xfe\x00\x00"),),
        detection="first bytes ED FE 00 00",
    ),
    Format(
        "ser",
        "TIA series and acquisition",
        f"{_HERE}.ser",
        source="SerSource",
        extensions=(".ser", ".emi"),
        magic=((0, b"\x49\x49\x97\x01"), (0, b"JK\x00\x02")),
        detection="first bytes 49 49 97 01 (.ser) or 4A 4B 00 02 (.emi)",
    ),
    Format(
        "tif",
        "TIFF",
        f"{_HERE}.tif",
        source="TifSource",
        extensions=(".tif", ".tiff", ".btf", ".tf8", ".tf2"),
        magic=((0, b"II*\0"), (0, b"MM\0*"), (0, b"II+\0"), (0, b"MM\0+")),
        recognise="is_tif",
        detection="first bytes II*\\0 or MM\\0* (BigTIFF: + instead of *), also packed by gzip",
        writers=(
            Writer((".tif", ".tiff"), file_axes="file_axes", records=True),
            Writer((".ome.tif", ".ome.tiff"), save="save_ome", file_axes="ome_file_axes", records=True),
        ),
    ),
    Format(
        "tvips",
        "TVIPS stream",
        f"{_HERE}.tvips",
        source="TvipsSource",
        extensions=(".tvips",),
        recognise="is_tvips",
        detection="extension .tvips and a series header of 256 bytes",
    ),
    Format(
        "zarr",
        "Zarr store, OME-Zarr",
        f"{_HERE}.zarr",
        source="ZarrSource",
        extensions=(".zarr",),
        recognise="is_zarr",
        detection="zarr.json, .zgroup or .zarray in a folder or a .zip",
        folders=True,
        writers=(
            Writer((".zarr",), holds=("*",), records=True, folder=True),
            Writer(
                (".ome.zarr",),
                save="save_ome",
                holds=("*",),
                file_axes="ome_axes",
                records=True,
                losses="ome_losses",
                folder=True,
            ),
        ),
    ),
    Format(
        "zspy",
        "HyperSpy signal in Zarr",
        f"{_HERE}.zspy",
        source="ZspySource",
        extensions=(".zspy",),
        recognise="is_zspy",
        detection="a Zarr store with file_format ZSpy, or with a group Experiments",
        folders=True,
        writers=(Writer((".zspy",), records=True, folder=True, amends="write_dataset"),),
    ),
)


@functools.cache
def registry() -> dict[str, Format]:
    """All formats by name, those of other packages included; ours win where names clash."""
    from importlib.metadata import entry_points

    found: dict[str, Format] = {}
    for point in entry_points(group=ENTRY_POINTS):
        try:
            offered = point.load()
        except Exception as error:  # a stranger's package may break in any way, and must not break ours
            warnings.warn(f"formats of {point.value} cannot be used: {error!r}", EmioWarning, stacklevel=2)
            continue
        for entry in [offered] if isinstance(offered, Format) else offered:
            found[entry.name] = entry
    return {**found, **{entry.name: entry for entry in FORMATS}}


def find(name: str) -> Format:
    """Return a format by its name.

    Raises
    ------
    ArgumentError
        If there is none of that name; says which there are.
    """
    known = registry()
    if name not in known:
        raise ArgumentError(f"there is no format {name!r}; known are {', '.join(sorted(known))}")
    return known[name]
