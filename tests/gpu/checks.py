"""What must hold on a real device beside the values; each check raises AssertionError or the device's own error."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core.spec import OpSpec
from lisa_kernels.testing import make_inputs, require_grad, same_bits
from lisa_kernels.testing.subject import name_outputs

# The public function of an op, or a planted one.
Function = Callable[..., Any]
# About 50 ms: whoever does not wait for the stream reads its inputs before they are there.
_LONG_SLEEP_CYCLES = 100_000_000


class Step:
    """Forward and backward of one case; inputs and upstream gradients are made once and may be overwritten."""

    def __init__(self, spec: OpSpec, function: Function, dtype: torch.dtype, device: str, seed: int = 0) -> None:
        self.function = function
        self._names = spec.differentiable
        self.kwargs = require_grad(make_inputs(spec, spec.cases[0], dtype, device, seed=seed), spec.differentiable)
        self._upstream: list[Tensor] = []
        self.run()

    def run(self) -> list[Tensor]:
        """Return outputs and gradients on the current stream, without a graph."""
        outputs = list(name_outputs(self.function(**self.kwargs)).values())
        graded = [output for output in outputs if output.requires_grad]
        if not self._upstream:
            self._upstream = [torch.full_like(output, 0.3) for output in graded]
        leaves = [self.kwargs[name] for name in self._names]
        grads = torch.autograd.grad(graded, leaves, self._upstream) if graded else ()
        return [tensor.detach() for tensor in (*outputs, *grads)]

    def copy_from(self, other: Step) -> None:
        """Overwrite the inputs in place with those of another step."""
        for name, value in self.kwargs.items():
            if isinstance(value, Tensor):
                value.data.copy_(other.kwargs[name].data)

    def spoil(self) -> None:
        """Overwrite differentiable inputs with NaN."""
        for name in self._names:
            self.kwargs[name].data.fill_(float("nan"))


def assert_same(got: list[Tensor], expected: list[Tensor], what: str) -> None:
    assert len(got) == len(expected)
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert same_bits(a, b), f"tensor {i} of outputs and gradients: {what}"


@contextlib.contextmanager
def waiting_is_an_error() -> Iterator[None]:
    """Let torch raise where the host waits for the device."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def never_waits(spec: OpSpec, function: Function, dtype: torch.dtype, device: str = "cuda") -> None:
    """Forward and backward queue their work and return."""
    step = Step(spec, function, dtype, device)
    with waiting_is_an_error():
        step.run()


def repeats(spec: OpSpec, function: Function, dtype: torch.dtype, device: str = "cuda") -> None:
    """Ten runs give the same bits."""
    step = Step(spec, function, dtype, device)
    first = step.run()
    for _ in range(9):
        assert_same(step.run(), first, "another run gave other bits")


def replays_from_a_graph(spec: OpSpec, function: Function, dtype: torch.dtype, device: str = "cuda") -> None:
    """A captured forward and backward, replayed on other inputs, gives the bits of an eager call on them."""
    step, other = Step(spec, function, dtype, device), Step(spec, function, dtype, device, seed=1)
    expected = other.run()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        # Before a capture: kernels are compiled and loaded, gradients' streams are known.
        for _ in range(3):
            step.run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step.run()
    step.copy_from(other)
    for tensor in captured:
        if tensor.dtype.is_floating_point:
            tensor.fill_(float("nan"))
    graph.replay()
    torch.cuda.synchronize()
    assert_same(captured, expected, "the replayed graph gave other bits than an eager call")


def stays_on_its_stream(spec: OpSpec, function: Function, dtype: torch.dtype, device: str = "cuda") -> None:
    """Two streams at once, each with inputs that arrive late, give the bits of the default stream.

    The inputs hold NaN until the stream wakes up: work on any other stream has read them before.
    """
    sources = [Step(spec, function, dtype, device, seed=seed) for seed in (0, 1)]
    expected = [source.run() for source in sources]
    late = [Step(spec, function, dtype, device, seed=seed) for seed in (0, 1)]
    for step in late:
        step.spoil()
    streams = [torch.cuda.Stream() for _ in late]
    torch.cuda.synchronize()
    results = []
    for step, source, stream in zip(late, sources, streams, strict=True):
        with torch.cuda.stream(stream):
            torch.cuda._sleep(_LONG_SLEEP_CYCLES)
            step.copy_from(source)
            results.append(step.run())
    torch.cuda.synchronize()
    for got, wanted in zip(results, expected, strict=True):
        assert_same(got, wanted, "a side stream gave other bits than the default stream")


def compiles(spec: OpSpec, function: Function, dtype: torch.dtype, device: str = "cuda") -> None:
    """``torch.compile(fullgraph=True)`` compiles once, gives the same bits, and not again for other numbers."""
    torch._dynamo.reset()
    step = Step(spec, function, dtype, device)
    other = Step(spec, function, dtype, device, seed=1)
    counted = CountingBackend()
    compiled = torch.compile(function, fullgraph=True, backend=counted)
    expected = [step.run(), other.run()]
    for eager, wanted in zip((step, other), expected, strict=True):
        eager.function = compiled
        assert_same(eager.run(), wanted, "the compiled function gave other bits")
    assert counted.graphs == 1, f"compiled {counted.graphs} times for inputs of one size"


class CountingBackend:
    """torch's ``aot_eager`` backend, and how often it was asked: what is judged is the op inside the graph."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, module: torch.fx.GraphModule, example_inputs: list[Any]) -> Any:
        self.graphs += 1
        return torch._dynamo.lookup_backend("aot_eager")(module, example_inputs)


CHECKS = (never_waits, repeats, replays_from_a_graph, stays_on_its_stream, compiles)
# The definition in plain torch waits for the device where that makes it simpler: slow by design.
EXEMPT = {"reference": (never_waits, replays_from_a_graph)}
