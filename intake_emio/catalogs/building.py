"""`build_catalog`: from a folder to catalogs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..arguments import plain
from ..errors import ArgumentError
from ..frames.files import File, normalise
from . import version2
from .crawl import Refusal
from .entries import FACTS, cleaned, names_for
from .folders import Selection
from .layout import Layout
from .listing import listed
from .report import Report
from .surveying import Survey
from .updating import Former, read_former
from .writing import base_of, is_stream, refuse_existing, write_catalogs

SECRETS = ("key", "secret", "token", "password", "credential")
"""Words in the names of storage options that are not for a catalog."""


def build_catalog(
    folder: Any,
    target: Any = None,
    *,
    nested: bool = False,
    update: bool = False,
    overwrite: bool = False,
    version: int = 1,
    include: str | Iterable[str] = (),
    exclude: str | Iterable[str] = (),
    storage_options: Mapping[str, Any] | None = None,
) -> Any:
    """List every image in a folder, and below, in a catalog.

    Parameters
    ----------
    folder
        Path or fsspec URL.
    target
        Catalog to write, ending in ``.yml`` or ``.yaml``; `None`: nothing is written. Paths in it are relative to its
        folder.
    nested
        Write a catalog of the same name for each folder, next to `target` in folders of the same names; `target`
        leads to them.
    update
        Open only what has changed since `target` was written. What people wrote into it is kept: names,
        descriptions, arguments, further metadata and entries.
    overwrite
        Begin anew, even if `target` exists.
    version
        Of the catalog: 1, or 2 for the readers of intake 2.
    include, exclude
        Patterns such as ``"*.mib"`` for the files to look at. They fit the names of files and of folders that these
        are in; with a ``/`` in it, the place seen from `folder`. Default: all but hidden files.
    storage_options
        For fsspec. They are written into the catalog, apart from those that look like secrets.

    Returns
    -------
    intake.catalog.Catalog
        Opened, with an attribute `report` (`intake_emio.catalogs.report.Report`): counts, and what could not be read.

    Raises
    ------
    MissingFileError
        If there is no such folder.
    TargetExistsError
        If `target` exists, and neither `update` nor `overwrite` was given.
    CatalogError
        If the catalog to update is broken.
    ArgumentError
        If arguments do not go together.

    Examples
    --------
    >>> import os
    >>> from intake_emio.cli.demo import small_scan
    >>> catalog = build_catalog(os.path.dirname(small_scan()))
    >>> list(catalog), catalog.scan.to_dask().image.shape
    (['scan'], (8, 8, 32, 32))
    >>> catalog.report.summary()
    '1 data set in 1 file (1 in data sets, 0 other) in 1 folder'
    """
    import intake

    order = Order(
        File(normalise(folder), storage_options),
        None if target is None else os.fspath(target),
        nested=nested,
        update=update,
        version=version,
        selection=Selection(_patterns(include), _patterns(exclude)),
    )
    contents, report = order.made(overwrite=overwrite)
    if target is None:
        catalog = _in_memory(contents[""])
    else:
        write_catalogs(contents, overwrite=overwrite or update, storage_options=storage_options)
        catalog = intake.open_catalog(normalise(target), storage_options=dict(storage_options or {}))
    catalog.report = report
    return catalog


def _patterns(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _in_memory(content: Mapping[str, Any]) -> Any:
    from intake.catalog import Catalog
    from intake.catalog.local import LocalCatalogEntry

    entries = {name: LocalCatalogEntry(name=name, **entry) for name, entry in content["sources"]}
    return Catalog.from_dict(entries, name=content["metadata"]["name"], metadata=content["metadata"])


@dataclass(frozen=True)
class Order:
    """A catalog to be made.

    Parameters
    ----------
    root
        Folder to crawl.
    target
        Path, URL or stream; `None`: nowhere.
    nested, update, version
        See `build_catalog`.
    selection
        Which files are looked at.
    """

    root: File
    target: str | None
    nested: bool = False
    update: bool = False
    version: int = 1
    selection: Selection = field(default_factory=Selection)

    def __post_init__(self) -> None:
        if self.version not in (1, 2):
            raise ArgumentError(f"version must be 1 or 2, not {self.version!r}")
        if self.version == 2 and (self.nested or self.update):
            raise ArgumentError("catalogs of version 2 are neither nested nor updated: leave out nested and update")
        if self.is_stream and (self.nested or self.update):
            raise ArgumentError("nested and update need a catalog file, ending in .yml or .yaml")
        if not self.is_stream and not str(self.target).endswith((".yml", ".yaml")):
            raise ArgumentError(f"{self.target}: intake reads catalogs whose names end in .yml or .yaml")

    @property
    def is_stream(self) -> bool:
        """Whether there is no file to write."""
        return self.target is None or is_stream(self.target)

    def made(self, overwrite: bool = False) -> tuple[dict[str, dict[str, Any]], Report]:
        """Crawl, and return the contents of all catalogs by target, and the report; nothing is written yet.

        Raises
        ------
        TargetExistsError
            If there is a catalog that is neither to be updated nor overwritten: that is said before the work is done.
        """
        target = "" if self.target is None else self.target if self.is_stream else normalise(self.target)
        if not (self.is_stream or self.update or overwrite):
            refuse_existing([target], self.root.storage_options)
        former = read_former(target, self.root.storage_options) if self.update else Former()
        survey = Survey(self.root, self.selection, former)
        options, withheld = shareable(plain(self.root.storage_options))
        survey.report.notes += [f"storage_options: {name} is not written into the catalog" for name in withheld]
        base = base_of(target) if target else None
        if self.version == 2:
            names = names_for([one.place for one in survey.datasets], ())
            datasets = {names[one.place]: one for one in survey.datasets}
            return {target: version2.catalog_of(datasets, base, options)}, survey.report
        found = listed(survey, former)
        layout = Layout(target, base, options, former, found, self.root.name)
        contents = layout.nested() if self.nested else layout.flat()
        _note_refusals(contents[target]["metadata"], survey.refusals)
        return contents, survey.report


def _note_refusals(metadata: dict[str, Any], refusals: Iterable[Refusal]) -> None:
    """Write into a catalog's metadata what could not be read, so that it need not be tried again until it changes."""
    refused = {
        cleaned(one.place): {"reason": cleaned(one.reason), "state": one.state}
        for one in refusals
        if one.reason and not one.needs_parameters
    }
    metadata.pop(FACTS, None)
    if refused:
        metadata[FACTS] = {"unreadable": refused}


def shareable(options: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the storage options that may be written into a catalog, and the names of those that look like secrets.

    Examples
    --------
    >>> shareable({"anon": False, "key": "AKIA", "client_kwargs": {"region_name": "eu", "aws_secret_access_key": "x"}})
    ({'anon': False, 'client_kwargs': {'region_name': 'eu'}}, ['key', 'client_kwargs.aws_secret_access_key'])
    """
    kept: dict[str, Any] = {}
    withheld: list[str] = []
    for name, value in options.items():
        if any(word in name.lower() for word in SECRETS):
            withheld.append(name)
        elif isinstance(value, Mapping):
            kept[name], below = shareable(value)
            withheld += [f"{name}.{one}" for one in below]
        else:
            kept[name] = value
    return kept, withheld
