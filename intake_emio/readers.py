"""Datatypes and readers of intake 2, a pair for each format: `Blo` and `BloReader`, `Mib` and `MibReader` and so on.

They are what `intake.recommend`, `intake.auto_pipeline` and catalogs of version 2 know of us. Making a class registers
it, and intake imports this module whenever it is imported itself: so nothing heavy is imported here.

>>> import intake
>>> from intake_emio.cli.demo import small_scan
>>> intake.recommend(small_scan())
[<class 'intake_emio.readers.Blo'>]
>>> intake.auto_pipeline(small_scan(), "xarray:Dataset").read().image.dims
('y', 'x', 'v', 'u')
"""

from __future__ import annotations

import re
from typing import Any

from intake.readers.datatypes import FileData
from intake.readers.readers import BaseReader

from .formats import Format, registry


class EmioReader(BaseReader):
    """A detector file as a labelled, lazy Dataset; takes the arguments of `imload`."""

    imports = {"intake_emio"}  # noqa: RUF012  as intake declares it
    output_instance = "xarray:Dataset"
    func = "intake_emio.io:imload"
    format_name = ""

    def _read(self, data: FileData, **settings: Any) -> Any:
        usual = {"format": self.format_name, "storage_options": data.storage_options, "metadata": self.metadata}
        return self._func(data.url, **{**usual, **settings})


def _pair(entry: Format) -> tuple[type[FileData], type[EmioReader]]:
    """Return the datatype and the reader of a format."""
    name = (entry.source or "").removesuffix("Source")
    extensions = "|".join(re.escape(extension[1:]) for extension in entry.extensions)
    facts = {
        "__doc__": f"{entry.title}: images of an electron microscope's detector.",
        "__module__": __name__,
        "filepattern": rf"\.({extensions}){'/?' if entry.folders else ''}$" if extensions else "",
        "magic": set(entry.magic),
        "structure": {"array", "image"},
    }
    datatype = type(name, (FileData,), facts)
    own = {
        "__doc__": f"{entry.title} as a labelled, lazy Dataset.",
        "__module__": __name__,
        "format_name": entry.name,
        "implements": {datatype},
    }
    return datatype, type(f"{name}Reader", (EmioReader,), own)


_PAIRS = [_pair(entry) for entry in registry().values() if entry.source and not entry.arrays]
globals().update({made.__name__: made for made in sum(_PAIRS, ())})
