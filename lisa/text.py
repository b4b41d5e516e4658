"""Character codec for CTC: class 0 is the blank, then space, apostrophe and a to z."""

from collections.abc import Sequence

from lisa.errors import InputError

BLANK = 0
CHARACTERS = " 'abcdefghijklmnopqrstuvwxyz"
CLASSES = len(CHARACTERS) + 1
_CLASS_OF = {character: index + 1 for index, character in enumerate(CHARACTERS)}


def encode(text: str) -> list[int]:
    """Return the class of each character, ``[S]``, every one in ``[1, CLASSES)``.

    Raises:
        InputError: a character outside ``CHARACTERS``.
    """
    unknown = sorted(set(text) - set(CHARACTERS))
    if unknown:
        raise InputError(
            f"encode: text {text!r} holds {unknown}; it takes a-z, apostrophe and space. "
            "Lower the case and spell out digits and signs first."
        )
    return [_CLASS_OF[character] for character in text]


def decode(classes: Sequence[int]) -> str:
    """Return the text of label classes ``[S]``; blanks are left out."""
    return "".join(CHARACTERS[index - 1] for index in classes if index != BLANK)
