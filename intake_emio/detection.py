"""Finding out what a file is: by content first, by extension second, never reading more than its head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import ArgumentError, UnknownFormatError
from .formats import Format, find, registry
from .frames.files import File, normalise

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
    found = find_format(uri, format=format, storage_options=storage_options, **settings)
    source = find(found.format).source_class()(found.uri, storage_options=storage_options, **settings)
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
    return replace(found, parameters=parameters)


def find_format(
    uri: Any,
    *,
    format: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Detection:
    """Find the format of a file, without parsing it; see `detect`."""
    if format is not None:
        return Detection(normalise(uri), find(format).name, "format= was given")
    file = File(normalise(uri), storage_options)
    file.size  # noqa: B018  a missing file, or a folder, is told apart from an unknown format
    recognised = by_content(file)
    if recognised:
        return Detection(file.uri, recognised.name, recognised.detection)
    if settings.get("dtype") is not None:
        return Detection(file.uri, "raw", "dtype was given")
    named = by_extension(file)
    if named and named.magic:
        return Detection(file.uri, named.name, f"extension {file.extension}")  # its reader says what is wrong
    raise UnknownFormatError(_nothing_fits(file))


def by_content(file: File) -> Format | None:
    """Return the format whose magic bytes or own check fit; formats of the file's extension are asked first."""
    head = file.read(0, HEAD_BYTES)
    candidates = sorted(registry().values(), key=lambda entry: file.extension not in entry.extensions)
    for entry in candidates:
        if any(head[at : at + len(magic)] == magic for at, magic in entry.magic):
            return entry
        if entry.recognise is not None and entry.load(entry.recognise)(file):
            return entry
    return None


def by_extension(file: File) -> Format | None:
    """Return the format that goes by the file's extension."""
    return next((entry for entry in registry().values() if file.extension in entry.extensions), None)


def _nothing_fits(file: File) -> str:
    from .formats.raw import frame_hints

    tried = ", ".join(sorted(name for name, entry in registry().items() if entry.source))
    return (
        f"{file}: no format fits; tried {tried}. It starts with {file.read(0, 8)!r}. If it holds raw frames, pass "
        f"dtype= and sig_shape=. {frame_hints(file.size)}"
    ).rstrip()


def open_source(uri: Any, *, format: str | None = None, **settings: Any) -> Any:
    """Return the intake source of a file's format; see `detect`.

    Parameters
    ----------
    uri
        Path or fsspec URL.
    format
        Name of a format, if it is known already.
    **settings
        Arguments of the source.
    """
    found = find_format(uri, format=format, **settings)
    entry = find(found.format)
    if entry.source is None:
        raise ArgumentError(f"{found.uri}: {entry.name} files are written, but not read")
    return entry.source_class()(found.uri, **settings)
