"""Bytes and launches of a step on meta tensors."""

import importlib.util

import pytest
import torch

from bench.__main__ import main
from bench.allocations import Meter, triton_step
from lisa_kernels.core.registry import select
from lisa_kernels.core.spec import Case

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs triton: pip install 'triton>=3.6,<3.10'"
)


def meta(*shape):
    return torch.empty(shape, device="meta")


def test_what_is_dropped_counts_at_the_peak_alone():
    with Meter(()) as meter:
        first = meta(1000) + 1.0
        del first
        second = meta(10) + 1.0
    assert (meter.peak, meter.held) == (2 * 4000, second.nbytes)


def test_views_and_inputs_cost_nothing():
    given = meta(100)
    with Meter((given,)) as meter:
        views = (given[1:], given.t(), given.reshape(10, 10))
    assert (meter.peak, meter.held, len(views)) == (0, 0, 3)


@needs_triton
def test_ctc_keeps_statistics_and_occupancies_and_backward_makes_the_gradient_alone():
    (spec,) = select(("ctc_loss",))
    frames, batch, classes, labels = 60, 4, 500, 20
    case = Case("sample", {"T": frames, "N": batch, "C": classes, "S": labels}, {}, "full_lengths")
    step = triton_step(spec, case, torch.float32, "sm_90")
    saved = 4 * frames * batch * (2 + labels + 1)
    assert saved <= step.kept_bytes < saved + 1000
    gradient = 4 * frames * batch * classes
    assert saved + gradient <= step.peak_bytes < 1.1 * (saved + gradient)
    assert min(step.launches) > 0


@needs_triton
def test_a_dtype_that_is_refused_says_why():
    (spec,) = select(("ctc_loss",))
    with pytest.raises(NotImplementedError, match="float64"):
        triton_step(spec, Case("sample", {"T": 4, "N": 2, "C": 5, "S": 1}), torch.float64, "sm_90")


@needs_triton
def test_the_command_prints_a_table(capsys):
    assert main(["memory", "ctc"]) == 0
    assert "T=1500 N=32 C=5000 S=200, torch.bfloat16: 458 MiB of inputs" in capsys.readouterr().out
