"""Definitions of kernels: what makes them known by name, and a check of their launch bounds.

Grammar::

    kernel := ['template' ...] ... '__global__' before* name '(' parameters ')' '{' body '}'
    before := 'void' | 'static' | 'inline' | '__noinline__' | '__forceinline__'
            | '__launch_bounds__' '(' threads (',' expression)* ')'

Templates get no name, for their instantiations have one each (``HostModule.build(instantiate=...)``); declarations, and
kernels that a macro defines, stay as they are.
"""

from __future__ import annotations

import re

from lisa_kernels.testing.cuda.source_text import closing
from lisa_kernels.testing.cuda.translate.edits import Edit, split_at_commas

_KERNEL = re.compile(r"\b__global__\b")
_BEFORE_KERNEL_NAME = re.compile(
    r"\s*(?:(?:void|static|inline|__noinline__|__forceinline__)\b|(__launch_bounds__)\s*\()"
)
_BODY = re.compile(r"\s*\{")
_NAME = re.compile(r"\s*([A-Za-z_]\w*)\s*\(")


def kernel_edits(code: str) -> list[Edit]:
    """Return the edits for all kernels that ``code``, text that went through ``blanked``, defines."""
    edits = []
    for match in _KERNEL.finditer(code):
        position, bounds = match.end(), None
        while before := _BEFORE_KERNEL_NAME.match(code, position):
            position = before.end()
            if before[1]:
                position = closing(code, before.end() - 1) + 1
                bounds = split_at_commas(code[before.end() : position - 1])[0].strip()
        if (name := _NAME.match(code, position)) is None:
            continue
        body = _BODY.match(code, closing(code, name.end() - 1) + 1)
        if body is None:
            continue
        if bounds:
            edits.append(Edit(body.end(), body.end(), f" ::lisa_host::check_launch_bounds({bounds});"))
        beginning = max(code.rfind(mark, 0, match.start()) for mark in ";{}")
        if not re.search(r"\btemplate\b", code[beginning + 1 : match.start()]):
            end = closing(code, body.end() - 1) + 1
            edits.append(Edit(end, end, f" LISA_HOST_EXPORT({name[1]})"))
    return edits
