"""What a TIFF file claims, against what it has: nothing of it is believed before it has been looked at."""

from __future__ import annotations

import contextlib
import logging
import math
import mmap
import struct
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import EmioError, EmioWarning, HeaderError, MissingFileError, TruncatedError
from ..frames.files import File
from ..frames.pages import count_segments, is_gzipped, opened
from ._tif_ome import ome_root

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def check_start(file: File) -> None:
    if is_gzipped(file.uri):
        return
    start = file.read(0, 8)
    if start[:4] not in MAGICS:
        raise HeaderError(f"{file}: not a TIFF file: it starts with {start!r}, expected one of {MAGICS}")
    if len(start) < 8:
        raise TruncatedError(f"{file}: a TIFF header needs 8 bytes, but only {len(start)} are there")


@contextlib.contextmanager
def parsing(file: File) -> Iterator[None]:
    """Name the file in whatever tifffile raises, and keep what it logs from the terminal."""
    silent, logger = logging.NullHandler(), logging.getLogger("tifffile")
    logger.addHandler(silent)
    try:
        yield
    except (EmioError, OSError):
        raise
    except (ValueError, KeyError, IndexError, TypeError, RuntimeError, ArithmeticError, struct.error) as error:
        raise HeaderError(f"{file}: the TIFF structure is broken: {error}") from error
    finally:
        logger.removeHandler(silent)


@contextlib.contextmanager
def directories(file: File, options: Mapping[str, Any]) -> Iterator[TiffFile]:
    """Open a file whose chain of directories is known to end."""
    import tifffile

    with opened(file.uri, options) as tiff:
        loop = _looping_link(file, tiff)
        if loop is None:
            yield tiff
            return
    if file.remote or is_gzipped(file.uri):
        raise HeaderError(f"{file}: the chain of its directories loops, which is understood in local files only")
    warnings.warn(f"{file}: the chain of its directories loops: every page is read once", EmioWarning, 6)
    with open(file.uri, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY) as private:
        at, count = loop
        private[at : at + count] = bytes(count)  # the chain ends here; the file itself is not changed
        with tifffile.TiffFile(private, name=file.name) as tiff:  # type: ignore[arg-type]
            yield tiff


def _looping_link(file: File, tiff: TiffFile) -> tuple[int, int] | None:
    """Byte and length of the link that leads back to an earlier directory: tifffile would follow it forever.

    Raises
    ------
    HeaderError, TruncatedError
        If there is no directory, or the chain leads out of the file.
    """
    handle, form = tiff.filehandle, tiff.tiff
    try:
        at = tiff.pages.first.offset
    except IndexError:
        raise HeaderError(f"{file}: no image in the file: its first directory is missing") from None
    link, seen = 0, set[int]()
    while at:
        if at in seen:
            return link, form.offsetsize
        if at >= handle.size:
            raise TruncatedError(
                f"{file}: the directory of page {len(seen)} should be at byte {at}, but the file ends at {handle.size}"
            )
        seen.add(at)
        handle.seek(at)
        (entries,) = struct.unpack(form.tagnoformat, handle.read(form.tagnosize))
        link = at + form.tagnosize + entries * form.tagsize
        handle.seek(link)
        (at,) = struct.unpack(form.offsetformat, handle.read(form.offsetsize))
    return None


def check_members(file: File, tiff: TiffFile, allow_missing: bool) -> None:
    """Refuse OME-XML that is dangerous, leads out of the folder, or names files that are not there."""
    from defusedxml import DefusedXmlException

    try:
        root = ome_root(tiff)
    except DefusedXmlException as error:
        raise HeaderError(f"{file}: its OME-XML is refused, because it could do harm: {error!r}") from error
    if root is None:
        return
    named = {
        uuid.get("FileName", ""): uuid.text
        for uuid in root.iter()
        if str(uuid.tag).rsplit("}", 1)[-1] == "UUID" and uuid.get("FileName")
    }
    others = [name for name, uuid in named.items() if name.lower() != file.name.lower() and uuid != root.get("UUID")]
    outside = [name for name in others if "/" in name or "\\" in name or name in (".", "..")]
    if outside:
        raise HeaderError(f"{file}: its OME-XML names {outside[0]!r}, which is not in the same folder")
    if others and (file.remote or is_gzipped(file.uri)):
        raise HeaderError(
            f"{file}: the image is spread over {len(others) + 1} files, which works for local files only: copy them"
        )
    missing = [name for name in others if name not in file.neighbours]
    if missing and not allow_missing:
        raise MissingFileError(
            f"{file}: files of its OME set are missing: {', '.join(missing[:5])}{' ...' if missing[5:] else ''}. Put "
            "them into the same folder, or pass allow_missing=True for blank pages"
        )


def check_page(file: File, level: TiffPageSeries) -> None:
    page = level.keyframe
    if page.dtype is None:
        raise HeaderError(
            f"{file}: pixels of {page.bitspersample} bits of SampleFormat {page.sampleformat} are not supported"
        )
    if not math.prod(level.shape) or not level.shape:
        raise HeaderError(f"{file}: no image in the file: its shape is {tuple(level.shape)}")


def check_imagej(file: File, tiff: TiffFile, series: TiffPageSeries) -> None:
    """Refuse ImageJ stacks of one directory that end early: tifffile takes them for single images."""
    said = (tiff.imagej_metadata or {}) if tiff.is_imagej else {}
    page, images = series.keyframe, int(said.get("images", 1))
    if series.kind in ("imagej", "ome") or not page.is_final or images <= len(tiff.pages) or is_gzipped(file.uri):
        return
    end = page.dataoffsets[0] + images * page.nbytes
    if end > file.size:
        whole = max(0, (file.size - page.dataoffsets[0]) // page.nbytes)
        raise TruncatedError(
            f"{file}: page {whole} of {images} is cut: pixels reach to byte {end}, but the file ends at {file.size}"
        )


def check_decodable(file: File, page: TiffPage) -> None:
    """Refuse compressions that nothing here can decode, before anybody waits for pixels."""
    import tifffile

    compression = int(page.compression)
    try:
        if compression != 1:
            tifffile.TIFF.DECOMPRESSORS[compression]
        if int(page.predictor) != 1 and compression not in tifffile.TIFF.IMAGE_COMPRESSIONS:
            tifffile.TIFF.UNPREDICTORS[int(page.predictor)]
    except (KeyError, ImportError):
        name = getattr(page.compression, "name", "unknown")
        raise HeaderError(
            f"{file}: compression {compression} ({name}, predictor {int(page.predictor)}) cannot be decoded: "
            "pip install --upgrade imagecodecs, or save the image with another compression"
        ) from None


def check_segments(file: File, keyframe: TiffPage, page: TiffPage | TiffFrame, number: int) -> None:
    """Refuse pages whose strips or tiles are not there, or lie behind the end of their file."""
    needed = count_segments(keyframe)
    if len(page.dataoffsets) < needed or len(page.databytecounts) < needed:
        raise HeaderError(
            f"{file}: page {number} has {len(page.dataoffsets)} strips or tiles, but {needed} make up its shape "
            f"{tuple(keyframe.shape)}"
        )
    if page.offset <= 0:
        raise HeaderError(f"{file}: page {number} has no directory of its own: unpack the file before reading it")
    stored = sum(page.databytecounts[:needed])
    plain = int(keyframe.compression) == 1 and not keyframe.is_subsampled and all(page.databytecounts[:needed])
    if plain and stored * 8 < keyframe.size * keyframe.bitspersample:
        raise HeaderError(
            f"{file}: the strips or tiles of page {number} hold {stored} bytes, too few for {tuple(keyframe.shape)} "
            f"pixels of {keyframe.bitspersample} bits"
        )
    if is_gzipped(file.uri):
        return
    size = page.parent.filehandle.size
    end = max((at + n for at, n in zip(page.dataoffsets, page.databytecounts, strict=False) if n), default=0)
    if end > size:
        raise TruncatedError(f"{file}: page {number} reaches to byte {end}, but the file ends at byte {size}")
