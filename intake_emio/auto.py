"""The intake driver `emio`: any file of any format we know."""

from __future__ import annotations

from typing import Any

from .frames.files import normalise
from .image import Image
from .sets import open_any
from .source import ImageSource


class EmioSource(ImageSource):
    """A detector file whose format is found out when it is first used.

    Parameters
    ----------
    uri
        Path or fsspec URL; a glob, a pattern, a folder or a list for a set of files (see `FilesSource`).
    format
        Name of a format, if it is not to be found out.
    **settings
        Arguments of the format's own source, and the common ones of `ImageSource`. Unknown ones are refused when the
        file is first used, because only then its format is known.

    Examples
    --------
    >>> import intake
    >>> from intake_emio.cli.demo import small_scan
    >>> intake.open_emio(small_scan()).discover()["shape"]
    (8, 8, 32, 32)
    """

    name = "emio"

    def __init__(self, uri: Any, *, format: str | None = None, **settings: Any):
        common = ImageSource.defaults()
        names = [normalise(one) for one in uri] if isinstance(uri, list | tuple) else None
        super().__init__(names[0] if names else uri, **{k: v for k, v in settings.items() if k in common})
        self.uri: Any = names or self.uri
        self.format = format
        self._resolved: ImageSource | None = None

    @property
    def resolved(self) -> ImageSource:
        """The source of the file's own format."""
        if self._resolved is None:
            self._resolved = open_any(**{**self._captured_init_kwargs, "uri": self.uri})
            self.format_name = self._resolved.format_name  # type: ignore[misc]
        return self._resolved

    @property
    def image(self) -> Image:
        """Description of the image."""
        return self.resolved.image

    @property
    def all_files(self) -> tuple[str, ...]:
        """Names of all files that the data set is made of."""
        return self.resolved.all_files

    @property
    def settings(self) -> dict[str, Any]:
        """All arguments by name, those of the format as given."""
        own = {k: v for k, v in self._captured_init_kwargs.items() if k not in self.defaults()}
        return {**super().settings, **own}

    def _close(self) -> None:
        super()._close()
        self._resolved = None
