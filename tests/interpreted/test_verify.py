"""``verify --backend interpreted``: ops judged in the interpreter, under the sanitizer."""

import pytest
import torch

from lisa_kernels.testing.plan import verify_op
from lisa_kernels.testing.rows import FAILED, PASSED
from tests.specimens.swiglu import triton_impl
from tests.specimens.swiglu.spec import SPECS

CPU = torch.device("cpu")


def rows_of(spec, level="quick"):
    return list(verify_op(spec, device=CPU, backend="interpreted", level=level))


def test_every_op_passes(spec):
    """An op without Triton kernels is a skipped row."""
    assert not [row for row in rows_of(spec) if row.status == FAILED]


@pytest.mark.parametrize("level", ["quick", pytest.param("full", marks=pytest.mark.prove)])
def test_right_kernels_pass_values_gradients_and_every_order(level):
    rows = rows_of(SPECS[0], level)
    assert {row.status for row in rows} == {PASSED}, [row.message for row in rows if row.status != PASSED]
    assert {"output", "grad_gate", "grad_up", "same bits in any order"} <= {row.check for row in rows}


def test_a_launch_that_leaves_a_block_out_is_caught(monkeypatch):
    monkeypatch.setattr(triton_impl, "_grid", lambda gate, tile: (max(1, -(-gate.numel() // tile.BLOCK) - 1),))
    messages = [row.message for row in rows_of(SPECS[0]) if row.status == FAILED]
    assert any("unwritten output" in message for message in messages)


def test_an_access_out_of_bounds_is_caught_although_no_value_changes(monkeypatch):
    """The kernel is told of one element too many: it reads and writes past the end, where nobody looks."""
    right = triton_impl.launch

    def one_more(kernel, grid, *args, **options):
        right(kernel, grid, *args[:-1], args[-1] + 1, **options)

    monkeypatch.setattr(triton_impl, "launch", one_more)
    messages = [row.message for row in rows_of(SPECS[0]) if row.status == FAILED]
    assert any("out of bounds" in message for message in messages)
