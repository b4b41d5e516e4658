"""The wording of every check: function, argument, what came, what is allowed."""

import pytest
import torch

from lisa_kernels.core import checks

X = torch.zeros(2, 3)
BAD = [
    (lambda: checks.check_tensor("f", "x", [1]), TypeError, "f: x is list; it takes a torch.Tensor."),
    (lambda: checks.check_rank("f", "x", X, (3,), "[T, N]"), ValueError, "f: x has shape (2, 3); it takes [T, N]."),
    (
        lambda: checks.check_dtype("f", "x", X, (torch.int64, torch.int32), "Use .long()."),
        TypeError,
        "f: x is float32; it takes int64 or int32. Use .long().",
    ),
    (
        lambda: checks.check_size("f", "x", X, 1, 4, "the width"),
        ValueError,
        "f: x has shape (2, 3); its size in dimension 1 must be 4, the width.",
    ),
    (
        lambda: checks.check_device("f", "x", X, "y", X.to("meta")),
        ValueError,
        "f: x is on cpu and y on meta; it takes one device for both. Move x with .to('meta').",
    ),
    (lambda: checks.check_choice("f", "mode", "c", ("a", "b")), ValueError, "f: mode is 'c'; it takes 'a' or 'b'."),
    (lambda: checks.check_flag("f", "flag", 1), TypeError, "f: flag is 1 (int); it takes True or False."),
    (lambda: checks.check_integer("f", "n", True), TypeError, "f: n is True (bool); it takes an integer."),
    (lambda: checks.check_integer("f", "n", 1.5), TypeError, "f: n is 1.5 (float); it takes an integer."),
    (lambda: checks.check_value("f", "n", 3, 0, 3, "a class"), ValueError, "f: n is 3; it takes 0 to 2, a class."),
    (
        lambda: checks.check_range("f", "x", torch.tensor([[0, 1], [9, 2]]), 0, 2, "classes", "Count again."),
        ValueError,
        "f: x[1, 0] is 9; it takes 0 to 2, classes. Count again.",
    ),
    (
        lambda: checks.check_range("f", "x", torch.tensor([-1]), 0, 2, "classes"),
        ValueError,
        "f: x[0] is -1; it takes 0 to 2, classes.",
    ),
    (
        lambda: checks.check_finite("f", "x", torch.tensor([[1.0, 2.0], [float("inf"), 0.0]]), "Give a floor."),
        ValueError,
        "f: x[1, 0] is inf; it takes finite numbers. Give a floor.",
    ),
    (lambda: checks.check_number("f", "a", True), TypeError, "f: a is True (bool); it takes a number."),
    (lambda: checks.check_number("f", "a", X), TypeError, "f: a is Tensor; it takes a number."),
    (lambda: checks.check_number("f", "a", float("nan")), ValueError, "f: a is nan; it takes a finite number."),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[message for _, _, message in BAD])
def test_a_check_words_its_message(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


def test_good_values_pass():
    checks.check_tensor("f", "x", X)
    checks.check_rank("f", "x", X, (1, 2), "")
    checks.check_dtype("f", "x", X, (torch.float32,))
    checks.check_size("f", "x", X, 1, 3, "")
    checks.check_device("f", "x", X, "y", X)
    checks.check_choice("f", "mode", "a", ("a", "b"))
    checks.check_flag("f", "flag", False)
    checks.check_integer("f", "n", -3)
    checks.check_value("f", "n", 0, 0, 1, "")
    checks.check_range("f", "x", torch.tensor([0, 2]), 0, 2, "")
    checks.check_finite("f", "x", X)
    checks.check_number("f", "a", -1)
    checks.check_number("f", "a", 0.5)
    checks.check_range("f", "x", torch.zeros(0, dtype=torch.int64), 0, 0, "")
