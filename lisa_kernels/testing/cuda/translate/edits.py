"""Replacements in a text, found in any order and made at once."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Edit:
    """Text that takes the place of what stands from ``start`` to ``end``."""

    start: int
    end: int
    text: str


def apply(text: str, edits: list[Edit]) -> str:
    """Return ``text`` with all edits made; they do not overlap."""
    for edit in sorted(edits, key=lambda edit: edit.start, reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def as_many_lines(new: str, old: str) -> str:
    """Return ``new`` with line breaks added, so that what follows stays on its line."""
    return new + "\n" * (old.count("\n") - new.count("\n"))


def split_at_commas(text: str) -> list[str]:
    """Return the parts between commas outside of all brackets, those of templates included."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([<") - (letter in ")]>")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
