"""Finding out what a file is: by content first, by extension second, never reading more than its head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import MissingFileError, StorageError, UnknownFormatError
from .formats import Format, find, registry
from .frames.files import File, normalise

if TYPE_CHECKING:
    from .source import ImageSource

HEAD_BYTES = 4096


@dataclass(frozen=True)
class Detection:
    """What a file is, and why.

    Parameters
    ----------
    uri
        Path or URL, normalised.
    format
        Name of the format.
    reason
        What told.
    parameters
        What the header says: ``axes``, ``nav_shape``, ``sig_shape``, ``dtype``, ``sync_offset``.
    """

    uri: str
    format: str
    reason: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


def detect(
    uri: Any,
    *,
    format: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Detection:
    """Find the format of a file, and the parameters that its reader finds in it.

    Parameters
    ----------
    uri
        Path or fsspec URL.
    format
        Name of a format, if it is known already.
    storage_options
        For fsspec.
    **settings
        Arguments for the reader: with `dtype`, a file that is not recognised by its content is raw.

    Returns
    -------
    Detection

    Raises
    ------
    UnknownFormatError
        If no format fits; lists those tried.
    MissingFileError
        If there is no such file.

    Examples
    --------
    >>> from intake_emio.cli.demo import small_scan
    >>> found = detect(small_scan())
    >>> found.format, found.parameters["nav_shape"]
    ('blo', (8, 8))
    """
    file = File(normalise(uri), storage_options)
    entry, reason = recognised(file, format, settings)
    source = _opened(entry, file, {**settings, "storage_options": storage_options})
    image = source.image
    pixels = image.pixels
    depth = pixels.ndim - pixels.frame_ndim
    parameters = {
        "axes": image.image.axes,
        "nav_shape": pixels.shape[:depth],
        "sig_shape": pixels.shape[depth:],
        "dtype": str(pixels.dtype),
        "sync_offset": pixels.layout().get("first_frame", 0),
    }
    return Detection(file.uri, entry.name, reason, parameters)


def open_source(
    uri: Any, *, format: str | None = None, storage_options: Mapping[str, Any] | None = None, **settings: Any
) -> ImageSource:
    """Return the intake source of a file's format.

    Parameters
    ----------
    uri, format, storage_options
        See `detect`.
    **settings
        Arguments of the source.
    """
    file = File(normalise(uri), storage_options)
    entry, _ = recognised(file, format, settings)
    return _opened(entry, file, {**settings, "storage_options": storage_options})


def _opened(entry: Format, file: File, settings: dict[str, Any]) -> ImageSource:
    given = {name: value for name, value in settings.items() if name != "storage_options" or value}
    source = entry.source_class()(file.uri, **given)
    source.file = file  # what has been read of it need not be read again
    return source


def recognised(file: File, format: str | None, settings: Mapping[str, Any]) -> tuple[Format, str]:
    """Return a file's format, and what told.

    Raises
    ------
    UnknownFormatError
        If no format fits.
    """
    if format is not None:
        return find(format), "format= was given"
    try:
        file.size  # noqa: B018  a missing file, or a folder, is told apart from an unknown format
    except (MissingFileError, StorageError):
        folder = by_folder(file)
        if folder is None:
            raise
        return folder, folder.detection
    entry = by_content(file)
    if entry:
        return entry, entry.detection
    if settings.get("dtype") is not None:
        return find("raw"), "dtype was given"
    named = by_extension(file)
    if named and named.magic:
        return named, f"extension {file.extension}"  # its reader says what is wrong
    listed = by_folder(file) if file.remote else None  # web servers answer for a folder with a page of text
    if listed:
        return listed, listed.detection
    raise UnknownFormatError(_nothing_fits(file))


def by_content(file: File) -> Format | None:
    """Return the format whose magic bytes fit, or else the one that recognises the file by a check of its own."""
    head = file.read(0, HEAD_BYTES)
    entries = sorted(registry().values(), key=lambda entry: file.extension not in entry.extensions)
    for entry in entries:
        if any(head[at : at + len(magic)] == magic for at, magic in entry.magic):
            return entry
    for entry in entries:
        if entry.recognise is not None and entry.load(entry.recognise)(file):
            return entry
    return None


def by_folder(file: File) -> Format | None:
    """Return the format whose images are folders, if this is one of them, or at least is called so."""
    entries = [entry for entry in registry().values() if entry.folders]
    entries.sort(key=lambda entry: file.extension not in entry.extensions)
    for entry in entries:
        if entry.recognise is not None and entry.load(entry.recognise)(file):
            return entry
    if file.is_folder:
        return next((entry for entry in entries if file.extension in entry.extensions), None)
    return None


def by_extension(file: File) -> Format | None:
    """Return the format that goes by the file's extension."""
    return next((entry for entry in registry().values() if file.extension in entry.extensions), None)


def _nothing_fits(file: File) -> str:
    from .formats.raw import frame_hints

    tried = ", ".join(sorted(name for name, entry in registry().items() if entry.source and not entry.arrays))
    return (
        f"{file}: no format fits; tried {tried}. It starts with {file.read(0, 8)!r}. If it holds raw frames, pass "
        f"dtype= and sig_shape=. {frame_hints(file.size)}"
    ).rstrip()
