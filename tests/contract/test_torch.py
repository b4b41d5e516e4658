"""Every op inside PyTorch: opcheck, compile, export, autocast, checkpointing, gradcheck, double backward."""

import dataclasses
import functools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from lisa_kernels.core.dispatch import use_backend
from lisa_kernels.testing import make_inputs, require_grad, same_bits
from lisa_kernels.testing.engines import find_engines
from lisa_kernels.testing.subject import Subject, name_outputs
from tests.contract.layouts import float_inputs, reversed_order


class Calls(TorchDispatchMode):
    """Notes every call of a ``lisa::`` operator with its arguments."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "lisa":
            # Without the graph: the operators below the autograd Function have no gradient of their own.
            self.seen.append((func, tuple(a.detach() if isinstance(a, torch.Tensor) else a for a in args)))
        return func(*args, **(kwargs or {}))


def total(spec, kwargs):
    """One number that depends on every floating-point output."""
    outputs = name_outputs(spec.function(**kwargs)).values()
    return sum(output.double().square().sum() for output in outputs if output.dtype.is_floating_point)


def gradients(spec, kwargs, function=total):
    """Return the gradients of the inputs; of an op without a gradient the total itself, which must require none."""
    leaves = require_grad(kwargs, spec.differentiable or float_inputs(kwargs))
    result = function(spec, leaves)
    if not spec.differentiable:
        assert not result.requires_grad
        return [result]
    # Not autograd.grad: reentrant checkpointing does not allow it.
    result.backward()
    return [leaves[name].grad for name in spec.differentiable]


def assert_same_gradients(got, expected):
    assert all(same_bits(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("strided", [False, True], ids=["contiguous", "strided"])
def test_opcheck_passes_for_forward_and_backward(spec, backend, strided):
    """Schema, fake and real outputs agree in shape, dtype and stride; nothing is mutated or aliased."""
    kwargs = make_inputs(spec, spec.cases[0], spec.dtypes[0])
    if strided:
        kwargs |= {name: reversed_order(value) for name, value in float_inputs(kwargs).items()}
    with use_backend(backend):
        with Calls() as calls:
            spec.function(**kwargs)
            gradients(spec, kwargs)
        assert len(calls.seen) >= 2 + bool(spec.differentiable), "without gradient, with gradient, backward"
        for operator, args in calls.seen:
            assert set(torch.library.opcheck(operator, args).values()) == {"SUCCESS"}


def test_compile_gives_one_graph_with_the_same_bits(spec, backend):
    with use_backend(backend):
        for case in spec.cases[:3]:
            torch._dynamo.reset()
            kwargs = make_inputs(spec, case, spec.dtypes[0])
            compiled = torch.compile(functools.partial(total, spec), fullgraph=True, backend="aot_eager")
            got = gradients(spec, kwargs, lambda _, leaves, run=compiled: run(leaves))
            assert_same_gradients(got, gradients(spec, kwargs))


@pytest.mark.slow
def test_inductor_gives_the_same_gradients(spec, backend):
    with use_backend(backend):
        torch._dynamo.reset()
        kwargs = make_inputs(spec, spec.cases[0], spec.dtypes[0])
        compiled = torch.compile(functools.partial(total, spec), fullgraph=True)
        got = gradients(spec, kwargs, lambda _, leaves: compiled(leaves))
        for a, b in zip(got, gradients(spec, kwargs), strict=True):
            # Inductor may sum the outputs in another order: the upstream gradient moves by an ulp.
            assert float((a - b).abs().max()) <= 8 * torch.finfo(a.dtype).eps * float(b.abs().max())


class Module(torch.nn.Module):
    """The public function as a module, which export takes."""

    def __init__(self, spec, options):
        super().__init__()
        self.function = functools.partial(spec.function, **options)

    def forward(self, tensors):
        return name_outputs(self.function(**tensors))


def test_export_with_dynamic_sizes_runs_other_sizes(spec, backend):
    """Exported at one size, every size of every tensor left open, and run at another."""
    first, other = spec.cases[0], dataclasses.replace(spec.cases[3], options=spec.cases[0].options)
    kwargs, later = (make_inputs(spec, case, spec.dtypes[0]) for case in (first, other))
    # A plan of tensors is an input like them; numbers and flags are constants of the program.
    options = {name: value for name, value in kwargs.items() if not _leaves(value)}
    tensors, later_tensors = ({k: v for k, v in d.items() if k not in options} for d in (kwargs, later))
    dynamic = {name: _every_size(value) for name, value in tensors.items()}
    program = torch.export.export(Module(spec, options), (tensors,), dynamic_shapes=(dynamic,))
    assert any("lisa" in str(node.target) for node in program.graph.nodes)
    with use_backend(backend):
        expected = name_outputs(spec.function(**later))
        got = program.module()(later_tensors)
    assert all(same_bits(got[name], expected[name]) for name in expected)


def _every_size(value):
    """Every size of a tensor, or of the tensors of a plan, left open."""
    if isinstance(value, torch.Tensor):
        return dict.fromkeys(range(value.dim()), torch.export.Dim.AUTO)
    return [_every_size(leaf) for leaf in _leaves(value)]


def _leaves(value):
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def test_autocast_changes_no_bit_and_no_dtype(spec, backend):
    """Ops without autocast inputs take what they get; inside the op autocast is off."""
    kwargs = make_inputs(spec, spec.cases[0], torch.bfloat16)
    with use_backend(backend):
        expected = gradients(spec, kwargs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = gradients(spec, kwargs)
    assert_same_gradients(got, expected)


@pytest.mark.gradient
@pytest.mark.parametrize("reentrant", [False, True], ids=["non-reentrant", "reentrant"])
def test_activation_checkpointing_gives_the_same_gradients(spec, backend, reentrant):
    kwargs = make_inputs(spec, spec.cases[0], spec.dtypes[0])

    def through_checkpoint(spec, leaves):
        def run(*values):
            return total(spec, leaves | dict(zip(spec.differentiable, values, strict=True)))

        return checkpoint(run, *[leaves[name] for name in spec.differentiable], use_reentrant=reentrant)

    with use_backend(backend):
        assert_same_gradients(gradients(spec, kwargs, through_checkpoint), gradients(spec, kwargs))


@pytest.mark.gradient
@pytest.mark.parametrize(("save_op", "forwards"), [(True, 1), (False, 2)], ids=["op saved", "recomputed"])
def test_selective_checkpointing_sees_the_op(spec, backend, save_op, forwards):
    """A policy that saves the op's outputs spares the second forward."""
    forward = getattr(torch.ops.lisa, f"{spec.name}_fwd").default
    policy = functools.partial(create_selective_checkpoint_contexts, [forward] if save_op else [])
    kwargs = make_inputs(spec, spec.cases[0], spec.dtypes[0])

    def through_checkpoint(spec, leaves):
        def run(values):
            return total(spec, leaves | values)

        return checkpoint(run, {n: leaves[n] for n in spec.differentiable}, use_reentrant=False, context_fn=policy)

    with use_backend(backend):
        with Counting(forward) as count:
            got = gradients(spec, kwargs, through_checkpoint)
        assert count.runs == forwards
        assert_same_gradients(got, gradients(spec, kwargs))


class Counting(TorchDispatchMode):
    """Counts how often an operator really runs: below the cache of selective checkpointing."""

    def __init__(self, operator):
        super().__init__()
        self.operator, self.runs = operator, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.runs += func is self.operator
        return func(*args, **(kwargs or {}))


@pytest.mark.gradient
def test_gradcheck_passes_in_fp64(spec, backend):
    if torch.float64 not in spec.dtypes:
        pytest.skip(f"{spec.name} does not take float64")
    kwargs = make_inputs(spec, spec.cases[0], torch.float64)

    def function(*values):
        outputs = name_outputs(spec.function(**kwargs | dict(zip(spec.differentiable, values, strict=True))))
        return tuple(output for output in outputs.values() if output.dtype.is_floating_point)

    leaves = [kwargs[name].detach().requires_grad_() for name in spec.differentiable]
    with use_backend(backend):
        assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.gradient
def test_double_backward_says_that_there_is_none(spec, backend):
    kwargs = require_grad(make_inputs(spec, spec.cases[0], spec.dtypes[0]), spec.differentiable)
    leaves = [kwargs[name] for name in spec.differentiable]
    with use_backend(backend):
        first = torch.autograd.grad(total(spec, kwargs), leaves, create_graph=True)
        with pytest.raises(RuntimeError, match=r"differentiate twice.*once_differentiable"):
            first[0].sum().backward()


@pytest.mark.gradient
def test_gradients_accumulate_over_two_calls(spec, backend):
    """Two uses of one leaf add up: nothing saved by the first call is overwritten by the second."""
    subject = Subject(spec, spec.cases[0], torch.float32, torch.device("cpu"), find_engines(backend)[0])
    kwargs = require_grad(subject.inputs, spec.differentiable)
    leaf = kwargs[spec.differentiable[0]]
    with use_backend(backend):
        (single,) = torch.autograd.grad(total(spec, kwargs), leaf)
        (total(spec, kwargs) + total(spec, kwargs)).backward()
    assert torch.equal(leaf.grad, single + single)
