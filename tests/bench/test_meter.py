"""The memory meter against tensors of known size."""

from __future__ import annotations

import pytest
import torch

from bench.memory import MIB, peak_bytes

_CPU = torch.device("cpu")


def _mib(count):
    return torch.empty(count * MIB, dtype=torch.uint8)


def test_freed_memory_makes_room():
    """4 and 2 are held together, then 2 and 3: the peak is 6, not the sum 9 and not what is left."""

    def forward():
        first, second = _mib(4), _mib(2)
        del first
        return second, _mib(3)

    assert peak_bytes(forward, lambda result: None, _CPU)["fwd"] == 6 * MIB


def test_backward_starts_from_what_forward_holds():
    peaks = peak_bytes(lambda: _mib(5), lambda result: _mib(2), _CPU)
    assert peaks == {"fwd": 5 * MIB, "bwd": 2 * MIB, "fwd+bwd": 7 * MIB}


def test_the_peak_of_forward_is_that_of_both_where_backward_needs_less():
    def forward():
        _mib(9)
        return _mib(1)

    assert peak_bytes(forward, lambda result: _mib(2), _CPU) == {"fwd": 9 * MIB, "bwd": 2 * MIB, "fwd+bwd": 9 * MIB}


def test_memory_held_before_does_not_count():
    held = _mib(50)
    assert peak_bytes(lambda: held[:MIB], lambda result: None, _CPU)["fwd+bwd"] == 0


def test_saved_tensors_of_a_known_graph():
    """``(x * x).exp()`` of 4 MiB each: forward holds product and exponential at once, and keeps the exponential."""
    x = torch.ones(MIB, requires_grad=True)
    peaks = peak_bytes(lambda: (x * x).exp().sum(), lambda loss: torch.autograd.grad(loss, x), _CPU)
    assert 8 * MIB <= peaks["fwd"] < 8.1 * MIB


def test_a_failed_step_leaves_no_meter_running():

    def fail():
        raise RuntimeError("the step failed")

    with pytest.raises(RuntimeError, match="the step failed"):
        peak_bytes(fail, lambda result: None, _CPU)
    assert peak_bytes(lambda: _mib(1), lambda result: None, _CPU)["fwd"] == MIB
