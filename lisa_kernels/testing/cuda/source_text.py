"""Finding one's way in C++ text without parsing it: comments and strings blanked, brackets matched."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable

_LITERALS = re.compile(
    r"""//(?:\\.|[^\\\n])*           # comment to the end of the line, which a backslash extends
      | /\*.*?\*/                    # comment
      | R"(?P<mark>[^\s()\\]{0,16})\(.*?\)(?P=mark)"
      | "(?:\\.|[^"\\\n])*"
      | (?<![0-9A-Za-z_])'(?:\\.|[^'\\\n])+'   # not a digit separator
    """,
    re.DOTALL | re.VERBOSE,
)
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"\n]+)"|<([^>\n]+)>)', re.MULTILINE)
# What may stand before a brace that opens no function: the string of extern "C" is blank.
_SCOPE = re.compile(r"(\bnamespace(\s+\w+(\s*::\s*\w+)*)?|\bextern)\s*$")
_PAIRS = {"(": ")", "[": "]", "{": "}"}


def blanked(text: str) -> str:
    """Return ``text`` with every comment, string and character replaced by spaces; positions and lines stay."""
    return _LITERALS.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def closing(code: str, start: int) -> int:
    """Return the position of the bracket that closes the one at ``start``.

    Args:
        code: Text that went through ``blanked``.

    Raises:
        ValueError: Nothing closes it.
    """
    opening, depth = code[start], 0
    for position in range(start, len(code)):
        if code[position] == opening:
            depth += 1
        elif code[position] == _PAIRS[opening]:
            depth -= 1
            if depth == 0:
                return position
    raise ValueError(f"translate: nothing closes the {opening!r} of line {line_of(code, start)}")


def inside_function(code: str, position: int) -> bool:
    """Return whether a position lies in braces other than those of namespaces and ``extern "C"``, and in no macro."""
    scopes: list[bool] = []
    for brace in re.finditer(r"[{}]", code[:position]):
        if brace[0] == "{":
            scopes.append(_SCOPE.search(code[: brace.start()]) is None)
        elif scopes:
            scopes.pop()
    return any(scopes) and not _in_directive(code, position)


def _in_directive(code: str, position: int) -> bool:
    """Whether a position belongs to a line that starts with ``#``, continued lines included."""
    start = code.rfind("\n", 0, position) + 1
    while code[:start].endswith("\\\n"):
        start = code.rfind("\n", 0, start - 1) + 1
    return code[start:position].lstrip().startswith("#")


def line_of(text: str, position: int) -> int:
    """Return the line number of a position, starting at 1."""
    return text.count("\n", 0, position) + 1


def includes(text: str) -> list[tuple[int, int, str]]:
    """Return (start, end, name) of the lines that include a file, comments left out."""
    # Blanking takes the quotes of an include as well: a directive is one if its # survives.
    code = blanked(text)
    return [
        (match.start(), match.end(), match[1] or match[2])
        for match in _INCLUDE.finditer(text)
        if code[match.start() : match.end()].lstrip().startswith("#")
    ]


def find_include(name: str, folders: Iterable[pathlib.Path]) -> pathlib.Path | None:
    """Return the file that an include means, or None if no folder has it."""
    for folder in folders:
        if (path := folder / name).is_file():
            return path.resolve()
    return None
