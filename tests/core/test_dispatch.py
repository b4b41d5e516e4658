"""Which backend runs, and what a user is told: forcing, explaining, warning, wiring of ``define_op``."""

import sys
import types
import warnings

import pytest
import torch

import lisa_kernels
from lisa_kernels.core import dispatch, native
from lisa_kernels.core.config import BACKENDS
from lisa_kernels.core.library import define_op
from lisa_kernels.core.registry import select
from lisa_kernels.testing import make_inputs

FORWARD = "(Tensor x, Tensor y, float factor) -> (Tensor out, Tensor kept)"
BACKWARD = "(Tensor grad_out, Tensor x, Tensor kept, float factor, bool[] needs) -> (Tensor grad_x, Tensor grad_y)"
PACKAGE = "lisa_planted_ops"
calls = []


def _forward(x, y, factor):
    calls.append(("forward", torch.is_autocast_enabled("cpu")))
    return x * y * factor, y.clone()


def _backward(grad_out, x, kept, factor, needs):
    calls.append(("backward", list(needs)))
    return grad_out * kept * factor, grad_out * x * factor


def _module(name, **functions):
    module = types.ModuleType(f"{PACKAGE}.{name}")
    vars(module).update(functions)
    sys.modules[module.__name__] = module
    return module


sys.modules[PACKAGE] = types.ModuleType(PACKAGE)
sys.modules[f"{PACKAGE}.several"] = types.ModuleType(f"{PACKAGE}.several")
_module("reference", forward=_forward, backward=_backward)
# Refuses by its own limit: the factor.
_module(
    "native_impl",
    forward=_forward,
    backward=_backward,
    refuse=lambda named: "factor is 0; it takes others" if named.get("factor") == 0 else None,
)
FAKES = (lambda x, y, factor: (x.new_empty(x.shape), y.new_empty(y.shape)), lambda g, x, *rest: (g.clone(), g.clone()))
PLANTED = define_op(
    "planted", package=PACKAGE, forward=FORWARD, backward=BACKWARD, fakes=FAKES, backends=("cpu", "reference"),
    autocast=("x",),
)  # fmt: skip


def _backward_of_several(grad_a, grad_b, x, needs):
    calls.append(("grads", grad_a.shape, grad_b.shape))
    return grad_a + 2 * x * grad_b


def _overwriting_of_several(grad_a, grad_b, x, needs):
    x.copy_(_backward_of_several(grad_a, grad_b, x, needs))


# Two outputs with a gradient beside a large saved one; `y` may be None; the gradient may be written over x.
_module(
    "several.reference",
    forward=lambda x, y, overwrite_x: (x.sum(0), x.square().sum(0), x.clone()),
    backward=_backward_of_several,
    backward_overwriting=_overwriting_of_several,
    refuse=lambda named: calls.append(("asked", named.get("overwrite_x"))),
)
SEVERAL = define_op(
    "planted_several", package=f"{PACKAGE}.several",
    forward="(Tensor x, Tensor? y, bool overwrite_x) -> (Tensor a, Tensor b, Tensor kept)",
    backward="(Tensor grad_a, Tensor grad_b, Tensor x, bool[] needs) -> (Tensor grad_x)",
    fakes=(lambda x, y, o: (x.new_empty(x.shape[1:]), x.new_empty(x.shape[1:]), x.new_empty(x.shape)),
           lambda a, b, x, needs: torch.empty_like(x)),
    backends=("reference",), overwritten="x",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    """A built extension as far as dispatch can tell, no backend forced, no warning given before."""
    monkeypatch.setattr(native, "why_not", lambda: None)
    dispatch._say_slow.cache_clear()
    calls.clear()


def tensors():
    return [torch.randn(3, 4, generator=torch.Generator().manual_seed(i)).requires_grad_() for i in (0, 1)]


def test_the_first_backend_that_does_not_refuse_runs():
    rows = dict(PLANTED.explain(*tensors(), 2.0).rows)
    assert list(rows) == list(BACKENDS)
    assert rows["cpu"] == "runs"
    assert rows["reference"] == "not reached"
    assert rows["cuda"] == "refuses: planted has no cuda kernels"


def test_an_own_limit_is_a_reason_and_the_next_backend_runs():
    explained = PLANTED.explain(*tensors(), 0.0)
    assert dict(explained.rows)["cpu"] == "refuses: factor is 0; it takes others"
    assert explained.chosen == "reference"
    assert "refuses: factor is 0" in str(explained)


def test_forcing_wins_and_comes_back_after_an_error():
    with lisa_kernels.use_backend("reference"):
        assert PLANTED.explain(*tensors(), 2.0).chosen == "reference"
        with lisa_kernels.use_backend(None):
            assert PLANTED.explain(*tensors(), 2.0).chosen == "cpu"
    with pytest.raises(RuntimeError), lisa_kernels.use_backend("triton"):
        PLANTED(*tensors(), 2.0)
    assert PLANTED.explain(*tensors(), 2.0).chosen == "cpu"


def test_a_forced_backend_that_refuses_raises_with_its_reason():
    with lisa_kernels.use_backend("cpu"), pytest.raises(RuntimeError, match=r"forced: cpu.*cpu: factor is 0"):
        PLANTED(*tensors(), 0.0)
    with lisa_kernels.use_backend("triton"), pytest.raises(RuntimeError, match="triton: planted has no triton kernels"):
        PLANTED(*tensors(), 1.0)


def test_an_unknown_backend_cannot_be_forced():
    with pytest.raises(ValueError, match="name is 'cpp'; it takes 'cuda'"), lisa_kernels.use_backend("cpp"):
        pass


def test_falling_to_the_reference_warns_once_per_cause_and_forcing_it_never():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with lisa_kernels.use_backend("reference"):
            PLANTED(*tensors(), 1.0)
        assert not seen
        PLANTED(*tensors(), 0.0)
        PLANTED(*tensors(), 0.0)
    assert len(seen) == 1
    assert "slow reference backend. " in str(seen[0].message)
    assert "factor is 0" in str(seen[0].message)


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_input_gets_no_gradient_and_backward_is_told(frozen):
    values = tensors()
    values[frozen].requires_grad_(False)
    PLANTED(*values, 2.0)[0].sum().backward()
    assert ("backward", [frozen != 0, frozen != 1]) in calls
    assert values[frozen].grad is None
    assert torch.equal(values[1 - frozen].grad, 2 * values[frozen])


def test_outputs_without_gradient_in_the_schema_are_not_differentiable():
    out, kept = PLANTED(*tensors(), 2.0)
    assert out.requires_grad
    assert not kept.requires_grad


@pytest.mark.parametrize("used", [(0,), (1,), (0, 1)])
def test_an_output_that_nobody_uses_has_an_upstream_gradient_of_zeros(used):
    """Of its own shape: never one as large as what is saved."""
    x = tensors()[0]
    outputs = SEVERAL(x, None, False)
    sum(outputs[i].sum() for i in used).backward()
    assert torch.equal(x.grad, (0 in used) * torch.ones_like(x) + (1 in used) * 2 * x)
    assert ("grads", (4,), (4,)) in calls


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_gradient_is_written_over_its_input_only_where_asked(overwrite):
    leaf = tensors()[0]
    x = leaf * 1.0
    before = x.detach().clone()
    SEVERAL(x, None, overwrite)[1].sum().backward(retain_graph=True)
    assert torch.equal(leaf.grad, 2 * before)
    assert torch.equal(x.detach(), 2 * before if overwrite else before)
    assert (("asked", True) in calls) == overwrite


def test_a_second_backward_sees_that_its_input_was_overwritten():
    x = tensors()[0] * 1.0
    out = SEVERAL(x, None, True)[1].sum()
    out.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


def test_autocast_casts_the_named_inputs_and_is_off_inside():
    x, y = tensors()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        PLANTED(x, y.detach(), 2.0)[0].sum().backward()
    assert ("forward", False) in calls
    assert x.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "backward", "told"),
    [
        ("unknown_argument", BACKWARD.replace("Tensor kept", "Tensor keep"), "backward takes ['keep']"),
        ("unknown_gradient", BACKWARD.replace("grad_y)", "grad_z)"), "backward returns ['grad_z']"),
    ],
)
def test_a_name_that_nothing_has_raises_at_definition(name, backward, told):
    with pytest.raises(ValueError) as caught:
        define_op(name, package=PACKAGE, forward=FORWARD, backward=backward, fakes=FAKES, backends=("reference",))
    assert told in str(caught.value)


def test_explain_takes_the_arguments_of_the_public_function():
    spec = select(["ctc_loss"])[0]
    explained = lisa_kernels.explain("ctc_loss", **make_inputs(spec, spec.cases[0], torch.float32))
    assert explained.chosen in ("cpu", "reference")
    with pytest.raises(ValueError, match="explain: op is 'ctc'; it takes"):
        lisa_kernels.explain("ctc")


def test_a_missing_extension_is_a_reason_and_no_error(monkeypatch):
    native._load.cache_clear()
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "lisa_kernels._C", None)
    assert "the native extension is not built" in native.why_not()
    assert native.build_info() == {}
    native._load.cache_clear()
