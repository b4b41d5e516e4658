"""A planted fault for each check of the device: else a green report proves nothing.

Those that need no device run everywhere, on the CPU.
"""

import types

import pytest
import torch

from lisa_kernels.core.spec import Case
from tests.gpu.checks import compiles, never_waits, repeats, replays_from_a_graph, stays_on_its_stream


def _inputs(case, dtype, device, generator):
    return {"x": torch.randn(case["N"], generator=generator).to(device, dtype)}


PLANTED = types.SimpleNamespace(differentiable=("x",), cases=(Case("tiny", {"N": 1000}),), inputs=_inputs)
FP32 = torch.float32


def right(x):
    return torch.tanh(x) * x


def noisy(x):
    return right(x) * torch.empty_like(x).uniform_(0.9, 1.1)


def wrong_when_compiled(x):
    return right(x) * (1.25 if torch.compiler.is_compiling() else 1.0)


def compiled_for_each_value(x):
    return right(x) if x.detach().sum() > 1e9 else right(x) + 0.0


def waiting(x):
    return right(x) * (1.0 if float(x.detach().sum()) < 1e9 else 2.0)


class Remembering:
    """Looks at its numbers in every call but a captured one, where it uses those of the call before."""

    def __init__(self):
        self.scale = None

    def __call__(self, x):
        if not torch.cuda.is_current_stream_capturing():
            self.scale = x.detach().clone()
        return right(x) * self.scale


def on_the_default_stream(x):
    with torch.cuda.stream(torch.cuda.default_stream()):
        return right(x)


@pytest.mark.parametrize("check", [repeats, compiles])
def test_a_right_function_passes_on_the_cpu(check):
    check(PLANTED, right, FP32, "cpu")


def test_bits_that_change_from_run_to_run_are_caught():
    with pytest.raises(AssertionError, match="another run gave other bits"):
        repeats(PLANTED, noisy, FP32, "cpu")


def test_a_compiled_function_with_other_bits_is_caught():
    with pytest.raises(AssertionError, match="compiled function gave other bits"):
        compiles(PLANTED, wrong_when_compiled, FP32, "cpu")


def test_a_function_that_branches_on_values_is_caught_by_compilation():
    with pytest.raises(torch._dynamo.exc.Unsupported):
        compiles(PLANTED, compiled_for_each_value, FP32, "cpu")


def _needs_gpu():
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU: torch sees none")


@pytest.mark.gpu
@pytest.mark.parametrize("check", [never_waits, repeats, replays_from_a_graph, stays_on_its_stream, compiles])
def test_a_right_function_passes_on_the_gpu(check):
    _needs_gpu()
    check(PLANTED, right, FP32)


@pytest.mark.gpu
def test_a_host_that_waits_is_caught():
    _needs_gpu()
    with pytest.raises(RuntimeError, match="synchroniz"):
        never_waits(PLANTED, waiting, FP32)


@pytest.mark.gpu
def test_numbers_remembered_from_the_capture_are_caught():
    _needs_gpu()
    with pytest.raises(AssertionError, match="replayed graph gave other bits"):
        replays_from_a_graph(PLANTED, Remembering(), FP32)


@pytest.mark.gpu
def test_work_on_another_stream_is_caught():
    _needs_gpu()
    with pytest.raises(AssertionError, match="a side stream gave other bits"):
        stays_on_its_stream(PLANTED, on_the_default_stream, FP32)
