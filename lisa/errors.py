"""The one error that means: something you gave is wrong, and here is how to mend it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InputError(ValueError):
    """A bad file, folder, option or config; the command line prints it without a traceback."""


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Put ``path`` into an ``OSError`` that names no file: a write to a full disk does not say where."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
