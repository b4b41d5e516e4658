"""CUDA C++ into C++ for the headers of ``csrc/testing``.

Four things in a ``.cu`` file are not C++ and no macro can make them so: ``kernel<<<...>>>(...)``, variables that are
``__shared__``, includes of CUDA's own headers, and kernels that Python wants to call by name.  All else stays, line for
line; messages of the compiler name the lines of the ``.cu`` file.

Each module reads one of them, by the grammar that its first lines state, and returns edits; comments and strings are
blanked first (``source_text.blanked``).
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from lisa_kernels.testing.cuda.source_text import blanked, find_include, includes
from lisa_kernels.testing.cuda.translate.edits import Edit, apply
from lisa_kernels.testing.cuda.translate.headers import include_edits, libcuxx_edits
from lisa_kernels.testing.cuda.translate.kernels import kernel_edits
from lisa_kernels.testing.cuda.translate.launches import launch_edits
from lisa_kernels.testing.cuda.translate.refused import refused_edits
from lisa_kernels.testing.cuda.translate.shared import shared_edits


def translate(text: str) -> str:
    """Return the C++ that ``cuda_on_host.h`` runs; as many lines as ``text``.

    Args:
        text: The content of a ``.cu`` or ``.cuh`` file, its includes resolved by ``translate_tree``.

    Raises:
        ValueError: Brackets do not match.
    """
    # First, on their own: a __shared__ variable may have a type of libcu++.
    text = apply(text, libcuxx_edits(blanked(text)))
    code = blanked(text)
    text = apply(text, [*refused_edits(code), *include_edits(text), *shared_edits(text, code), *kernel_edits(code)])
    # Launches last, on the new text: their arguments may hold what was edited above.
    return apply(text, launch_edits(text, blanked(text)))


def translate_tree(
    source: pathlib.Path, include_dirs: Sequence[pathlib.Path], shown: str | None = None
) -> dict[str, str]:
    """Return the translated text of a file and of all files of the project that it includes.

    Args:
        source: A ``.cu`` file.
        include_dirs: Where its includes are looked for, after the including file's own folder.  What is found in none
            of them is left to the compiler.
        shown: What messages call ``source``; None: its path.

    Returns:
        Text by file name; the first is ``source``.  Includes are rewritten to these names.
    """
    names: dict[pathlib.Path, str] = {}
    texts: dict[str, str] = {}

    def visit(path: pathlib.Path) -> str:
        if path in names:
            return names[path]
        names[path] = name = f"{len(names)}_{path.name}"
        texts[name] = ""  # keeps the order of discovery
        text = path.read_text()
        edits = []
        for start, end, included in includes(text):
            if found := find_include(included, [path.parent, *include_dirs]):
                edits.append(Edit(start, end, f'#include "{visit(found)}"'))
        called = shown if shown and name.startswith("0_") else path
        texts[name] = f'#line 1 "{called}"\n' + translate(apply(text, edits))
        return name

    visit(source.resolve())
    return texts
