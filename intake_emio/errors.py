"""What can go wrong, by name.

Every refusal is an `EmioError`, which is a `ValueError`; trouble with files is an `OSError` as well. A message
says which file, what was found, what was expected, and what the user can do.
"""


class EmioError(ValueError):
    """Anything that intake-emio refuses to do."""


class UnknownFormatError(EmioError):
    """No format fits the file."""


class HeaderError(EmioError):
    """A file's header is broken, or contradicts the file."""


class ArgumentError(EmioError):
    """An argument has a value that cannot be used."""


class ArgumentTypeError(EmioError, TypeError):
    """An argument of a type that cannot be used."""


class UnknownArgumentError(ArgumentTypeError):
    """An argument that the format does not have, or one that is missing."""


class PartitionError(EmioError, IndexError):
    """A part of the data that does not exist."""


class MissingFileError(EmioError, FileNotFoundError):
    """A file that should be there is not."""


class TargetExistsError(EmioError, FileExistsError):
    """Saving would replace something, and `overwrite=True` was not given."""


class CatalogError(EmioError):
    """A catalog is broken, or does what a catalog should not."""


class StorageError(EmioError, OSError):
    """Bytes could not be read or written."""


class TruncatedError(StorageError):
    """A file is shorter than it has to be."""


class EmioWarning(UserWarning):
    """Something was missing or odd in the data; the result is still well defined."""
