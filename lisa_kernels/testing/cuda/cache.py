"""Compiled files, kept by the content of everything that went into them."""

from __future__ import annotations

import hashlib
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Sequence

from lisa_kernels.testing.cuda.source_text import find_include, includes


def default_cache() -> pathlib.Path:
    """Return ``~/.cache/lisa_kernels/cuda``."""
    return pathlib.Path.home() / ".cache" / "lisa_kernels" / "cuda"


def cached_folder(
    parts: Iterable[str], cache: pathlib.Path | None, make: Callable[[pathlib.Path], None]
) -> pathlib.Path:
    """Return the folder that ``make`` filled for these parts, filling it at first use.

    Args:
        parts: All that the content depends on: texts, flags, versions.
        cache: Where folders are kept; None: ``default_cache()``.
        make: Fills an empty folder.  When it raises, nothing is kept.
    """
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    root = cache or default_cache()
    folder = root / digest
    if folder.is_dir():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as temporary:
        filled = pathlib.Path(temporary) / "filled"
        filled.mkdir()
        make(filled)
        try:
            filled.rename(folder)
        except OSError:
            # Another process was first; its content is the same.
            if not folder.is_dir():
                raise
    return folder


def source_texts(source: pathlib.Path, include_dirs: Sequence[pathlib.Path]) -> list[str]:
    """Return the text of a file and of all files it includes that are found beside it or in ``include_dirs``."""
    seen: dict[pathlib.Path, str] = {}
    waiting = [source.resolve()]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen[path] = text = path.read_text()
        found = (find_include(name, [path.parent, *include_dirs]) for _, _, name in includes(text))
        waiting += [include for include in found if include]
    return list(seen.values())


def as_file(source: str | pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Return the path of a source given as a path or as text; text (anything with a line break) goes to ``folder``."""
    if isinstance(source, pathlib.Path) or "\n" not in source:
        path = pathlib.Path(source)
        if not path.is_file():
            raise ValueError(f"cuda: {path} is no file; it takes the path or the text of a .cu file.")
        return path.resolve()
    path = folder / "source.cu"
    path.write_text(source)
    return path
