"""Declarations of shared memory.

Grammar::

    shared     := qualifier* '__shared__' rest ';'          in a function, outside of macros
    qualifier  := 'static' | 'extern' | 'volatile'
    rest       := [alignment] type declarator (',' declarator)*           static
                | [alignment] type name '[' ']'                           dynamic, with 'extern'
    alignment  := ('__align__' | 'alignas') '(' expression ')'            anywhere in rest
    declarator := name ('[' expression ']')*
    type       := whatever stands before the first name: pair<int, float>, unsigned char

A static one becomes, for each declarator, a reference into the block's shared memory; a dynamic one a pointer to the
launch's.  What fits neither form (initialisers, pointers behind a comma, a macro) is refused.
"""

from __future__ import annotations

import re

from lisa_kernels.testing.cuda.source_text import closing, inside_function
from lisa_kernels.testing.cuda.translate.edits import Edit, as_many_lines, split_at_commas

_SHARED = re.compile(r"(?:\bstatic\s+)?(\bextern\s+)?(?:\bstatic\s+)?(\bvolatile\s+)?\b__shared__\b")
_DECLARATOR = r"(?P<name>\w+)\s*(?P<extents>(?:\[.*\])?)\s*"
_ALIGNMENT = re.compile(r"\b(?:__align__|alignas)\s*\(")


def shared_edits(text: str, code: str) -> list[Edit]:
    """Return the edits for all declarations of shared memory; ``code`` is ``blanked(text)``."""
    edits = []
    for match in _SHARED.finditer(code):
        end = code.find(";", match.end())
        declaration = text[match.end() : end]
        if not inside_function(code, match.start()):
            new = None
        elif match[1]:
            new = _dynamic_shared(declaration)
        else:
            new = _static_shared(declaration, code[match.end() : end], volatile=bool(match[2]))
        if new is None:
            edits.append(Edit(match.start(), match.end(), "LISA_HOST_REFUSE_SHARED"))
        else:
            edits.append(Edit(match.start(), end, as_many_lines(new, text[match.start() : end])))
    return edits


def _dynamic_shared(declaration: str) -> str | None:
    """``extern __shared__ T name[];``: a pointer to the launch's dynamic shared memory."""
    declaration, _ = _without_alignment(declaration)
    match = re.fullmatch(r"\s*(.+?)\s*\b(\w+)\s*\[\s*\]\s*", declaration, re.DOTALL)
    if match is None:
        return None
    return f"{match[1]}* {match[2]} = ::lisa_host::dynamic_shared<{match[1]}>()"


def _static_shared(declaration: str, code: str, *, volatile: bool) -> str | None:
    """``__shared__ T a[2], b;``: for each name a reference into the block's shared memory."""
    if "=" in code or "{" in code:
        return None
    declaration, alignment = _without_alignment(declaration)
    first, *others = split_at_commas(declaration)
    # The type ends where the first declarator begins.
    with_type = re.fullmatch(rf"\s*(?P<type>.+?)\s*\b{_DECLARATOR}", first, re.DOTALL)
    declarators = [with_type, *(re.fullmatch(rf"\s*{_DECLARATOR}", other, re.DOTALL) for other in others)]
    if None in declarators:
        return None
    element = ("volatile " if volatile else "") + " ".join(with_type["type"].split())
    return "; ".join(_reference(element, match["name"], match["extents"], alignment) for match in declarators)


def _reference(element: str, name: str, extents: str, alignment: str) -> str:
    """One variable; its array type has a name, since a reference to an array cannot be written otherwise."""
    kind, key = f"lisa_host_type_of_{name}", f"lisa_host_key_of_{name}"
    # The address of `key` tells this declaration, and this instantiation of a template, from all others.
    return (
        f"typedef {element} {kind}{extents}; static char {key}; "
        f'{kind}& {name} = ::lisa_host::shared_variable<{kind}>(&{key}, "{name}", {alignment})'
    )


def _without_alignment(declaration: str) -> tuple[str, str]:
    match = _ALIGNMENT.search(declaration)
    if match is None:
        return declaration, "1"
    end = closing(declaration, match.end() - 1)
    return declaration[: match.start()] + declaration[end + 1 :], declaration[match.end() : end]
