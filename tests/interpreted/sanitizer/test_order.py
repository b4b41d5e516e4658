"""Determinism under shuffled programs."""

import pytest
import torch

from lisa_kernels.testing.sanitizer import same_bits_in_any_order
from tests.interpreted.sanitizer import kernels


def test_a_copy_has_the_same_bits_in_any_order():
    x, out = torch.randn(100), torch.zeros(100)
    report = same_bits_in_any_order(lambda: kernels.copy_kernel[(4,)](x, out, 100, 32), {"out": out})
    assert report
    assert str(report) == "the same bits in 5 orders"


def test_float_atomics_depend_on_the_order():
    """Ones added after two large values have cancelled stay; in the reverse order they come first and are absorbed."""
    x, out = torch.tensor([1e8, -1e8, 1, 1, 1]), torch.zeros(1)
    report = same_bits_in_any_order(lambda: kernels.atomic_sum_kernel[(5,)](x, out, 5, 1), {"out": out})
    assert not report
    assert (-1, "out", (0,)) in report.differing
    assert "out[0] differs in the reverse order" in str(report)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_integer_atomics_do_not(dtype):
    x, out = torch.randint(0, 9, (1000,), dtype=dtype), torch.zeros(1, dtype=dtype)
    assert same_bits_in_any_order(lambda: kernels.atomic_sum_kernel[(8,)](x, out, 1000, 128), {"out": out})


def test_tensors_start_each_order_alike():
    """A sum that adds to what is there: without setting it back every order would differ."""
    x, out = torch.ones(100), torch.full((1,), 5.0)
    assert same_bits_in_any_order(lambda: kernels.atomic_sum_kernel[(4,)](x, out, 100, 32), {"out": out})
    assert out.item() == 105
