"""The tools that find stray reads and unwritten outputs, and every op under them with strided inputs."""

import pytest
import torch

from lisa_kernels.core.dispatch import use_backend
from lisa_kernels.testing import guard_inputs, make_inputs, poisoned_allocations, same_bits
from lisa_kernels.testing.subject import name_outputs
from tests.contract.layouts import float_inputs, inside_larger, reversed_order


def test_guarded_inputs_are_equal_and_lie_between_margins():
    strided = torch.arange(24.0).reshape(4, 6).t()[::2]
    kwargs, (guard,) = guard_inputs({"x": strided, "n": 3}, poison=True)
    assert torch.equal(kwargs["x"], strided)
    assert kwargs["x"].stride() == strided.stride()
    assert kwargs["n"] == 3
    assert guard.storage[:64].isnan().all()
    assert guard.storage[-64:].isnan().all()


def test_a_write_beside_an_input_is_seen():
    kwargs, (guard,) = guard_inputs({"x": torch.ones(5)}, poison=True)
    assert guard.untouched()
    kwargs["x"].as_strided((6,), (1,))[5] = 0.0
    assert not guard.untouched()


def test_new_tensors_hold_nan_under_poison_and_settings_come_back():
    with poisoned_allocations():
        assert torch.empty(7).isnan().all()
        assert torch.ones(3).new_empty(2).isnan().all()
    assert not torch.are_deterministic_algorithms_enabled()


def test_settings_come_back_after_an_error():
    with pytest.raises(RuntimeError, match="inside"), poisoned_allocations():
        raise RuntimeError("inside")
    assert not torch.are_deterministic_algorithms_enabled()


def test_transposed_and_sliced_inputs_give_the_values_of_contiguous_ones(spec, backend):
    """Every floating-point input in reversed memory order, and inside a larger tensor of NaN."""
    for case in spec.cases:
        kwargs = make_inputs(spec, case, spec.dtypes[0])
        assert float_inputs(kwargs)
        with use_backend(backend):
            expected = name_outputs(spec.function(**kwargs))
            for lay_out in (reversed_order, inside_larger):
                changed = kwargs | {name: lay_out(value) for name, value in float_inputs(kwargs).items()}
                got = name_outputs(spec.function(**changed))
                assert all(same_bits(got[name], expected[name]) for name in expected), (
                    f"{case.name}: {lay_out.__name__}"
                )
