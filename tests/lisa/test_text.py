"""The character codec."""

import pytest

from lisa.errors import InputError
from lisa.text import BLANK, CHARACTERS, CLASSES, decode, encode


def test_decoding_undoes_encoding():
    text = "it's 'the quick brown fox jumps over a lazy dog'"
    assert decode(encode(text)) == text


def test_every_character_has_a_class_of_its_own_and_none_is_the_blank():
    classes = encode(CHARACTERS)
    assert sorted(classes) == list(range(1, CLASSES))
    assert BLANK not in classes


def test_unknown_character_is_named():
    with pytest.raises(InputError, match=r"text 'Press 1' holds \['1', 'P'\]; it takes a-z, apostrophe and space"):
        encode("Press 1")
