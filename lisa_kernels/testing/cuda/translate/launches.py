"""Launches.

Grammar::

    launch := kernel '<<<' arguments '>>>' '('
    kernel := ['::'] part ('::' part)* | '(' expression ')'
    part   := name ['<' template arguments '>']

Each becomes ``::lisa_host::configure("kernel", kernel, arguments)(``.  Template arguments with a comparison in them
(``k<(a > b)>``) are not told from brackets; the compiler then refuses ``<<<``.
"""

from __future__ import annotations

import re

from lisa_kernels.testing.cuda.translate.edits import Edit, as_many_lines

_LAUNCH_END = re.compile(r">>>(?=\s*\()")


def launch_edits(text: str, code: str) -> list[Edit]:
    """Return the edits for all launches; ``code`` is ``blanked(text)``."""
    edits = []
    for match in re.finditer("<<<", code):
        start = _expression_before(code, match.start())
        end = _LAUNCH_END.search(code, match.end())
        if start is None or end is None:
            continue
        kernel = text[start : match.start()].strip()
        arguments = text[match.end() : end.start()]
        name = " ".join(kernel.split()).replace('"', "")
        new = f'::lisa_host::configure("{name}", {kernel}, {arguments})'
        edits.append(Edit(start, end.end(), as_many_lines(new, text[start : end.end()])))
    return edits


def _expression_before(code: str, end: int) -> int | None:
    """Return where the kernel's name begins that ends at ``end``: ``a::b<c<1>, 2>``, or a parenthesis."""
    position = len(code[:end].rstrip())
    if code[position - 1] == ")":
        return _opening(code, position - 1, "(", ")")
    while True:
        if code[position - 1] == ">":
            opened = _opening(code, position - 1, "<", ">")
            if opened is None:
                return None
            position = len(code[:opened].rstrip())
        name = re.search(r"[A-Za-z_]\w*$", code[:position])
        if name is None:
            return None
        position = name.start()
        before = code[:position].rstrip()
        if not before.endswith("::"):
            return position
        position = len(before) - 2
        if not re.search(r"[\w>]\s*$", code[:position]):  # a leading ::
            return position


def _opening(code: str, end: int, opening: str, closed: str) -> int | None:
    depth = 0
    for position in range(end, -1, -1):
        depth += (code[position] == closed) - (code[position] == opening)
        if depth == 0:
            return position
    return None
