"""What the context manager changes, puts back, and refuses."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.experimental import gluon
from triton.runtime import interpreter as stock
from triton.tools.tensor_descriptor import TensorDescriptor

from lisa_kernels.testing.interpreter import HonestBuilder, NotInterpretedError, honest_interpreter


@triton.jit
def copy_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + offs, tl.load(x_ptr + offs, mask=offs < n), mask=offs < n)


@triton.jit
def increment(x):
    return x + 1


@triton.jit
def mapped_kernel(x_ptr, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    tl.store(x_ptr + offs, tl.map_elementwise(increment, tl.load(x_ptr + offs)))


@triton.jit
def inline(x):
    return tl.inline_asm_elementwise("add.f32 $0,$1,1.0;", "=r,r", [x], tl.float32, True, 1)


@triton.jit
def inline_kernel(x_ptr, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    tl.store(x_ptr + offs, inline(tl.load(x_ptr + offs)))


@triton.jit
def descriptor_atomic_kernel(target, BLOCK: tl.constexpr):
    target.atomic_add([0, 0], tl.zeros((BLOCK, BLOCK), tl.float32))


@gluon.jit
def gluon_kernel(x_ptr, BLOCK: tl.constexpr):
    pass


@triton.jit
def failing_kernel(x_ptr, BLOCK: tl.constexpr):
    tl.store(x_ptr + tl.arange(0, BLOCK), tl.zeros((2 * BLOCK,), tl.float32))


@triton.jit
def order_kernel(log_ptr, count_ptr):
    turn = tl.atomic_add(count_ptr, 1)
    tl.store(log_ptr + turn, tl.program_id(0) * 10 + tl.program_id(1))


@triton.autotune(configs=[triton.Config({"BLOCK": 64}), triton.Config({"BLOCK": 128})], key=["n"])
@triton.jit
def tuned_kernel(x_ptr, runs_ptr, n, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x_ptr + offs, BLOCK, mask=offs < n)
    tl.atomic_add(runs_ptr, 1)


def state():
    return (
        stock.interpreter_builder,
        stock.interpreter_semantic,
        stock.interpreter_semantic.builder,
        stock.GridExecutor,
        stock.ReduceOps,
        stock.ScanOps,
        triton.runtime.driver._active,
    )


def program_log(order):
    log, count = torch.full((6,), -1, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    with honest_interpreter(program_order=order):
        order_kernel[(3, 2)](log, count)
    return log.tolist()


REFUSED = {
    "tl.map_elementwise": lambda: mapped_kernel[(1,)](torch.zeros(8), 8),
    "tl.inline_asm_elementwise": lambda: inline_kernel[(1,)](torch.zeros(8), 8),
    "an atomic on a tensor descriptor": lambda: descriptor_atomic_kernel[(1,)](
        TensorDescriptor.from_tensor(torch.zeros(16, 16), [16, 16]), 16
    ),
    "Gluon kernels": lambda: gluon_kernel[(1,)](torch.zeros(8), 8),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_right_answer_is_refused_by_name(what):
    with honest_interpreter(), pytest.raises(NotInterpretedError, match=what):
        REFUSED[what]()


def test_everything_is_put_back():
    before = state()
    with honest_interpreter():
        assert isinstance(stock.interpreter_builder, HonestBuilder)
        assert all(new is not old for new, old in zip(state(), before, strict=True) if old is not before[1])
    assert state() == before


def test_everything_is_put_back_after_an_error():
    before = state()
    with pytest.raises(NotInterpretedError), honest_interpreter():
        inline_kernel[(1,)](torch.zeros(8), 8)
    with pytest.raises(ZeroDivisionError), honest_interpreter():
        raise ZeroDivisionError
    assert state() == before


def test_the_errors_of_kernels_stay_those_of_triton():
    with honest_interpreter(), pytest.raises(stock.InterpreterError):
        failing_kernel[(1,)](torch.zeros(8), 8)


def test_blocks_nest_and_the_outer_builder_stays():
    with honest_interpreter() as outer:
        with honest_interpreter(program_order=4) as inner:
            assert inner is outer
            assert outer.program_order == 4
        assert outer.program_order is None


def test_programs_run_in_the_order_asked_for():
    plain = [0, 1, 10, 11, 20, 21]
    assert program_log(None) == plain
    assert program_log(-1) == plain[::-1]
    assert sorted(program_log(7)) == plain
    assert program_log(7) == program_log(7)
    assert program_log(7) not in (plain, program_log(8))


def test_autotune_takes_the_first_configuration_and_runs_it_once():
    x, runs = torch.zeros(128), torch.zeros(1, dtype=torch.int32)
    with honest_interpreter():
        tuned_kernel[lambda meta: (triton.cdiv(128, meta["BLOCK"]),)](x, runs, 128)
    assert x.unique().tolist() == [64]
    assert runs.item() == 2


def test_a_kernel_first_run_inside_works_outside():
    """Rewritten kernels keep references to the interpreter: they must be those that stay."""
    x, out = torch.randn(100), torch.zeros(100)
    with honest_interpreter():
        copy_kernel[(2,)](x, torch.zeros(100), 100, 64)
    copy_kernel[(2,)](x, out, 100, 64)
    assert torch.equal(out, x)


def test_an_interpreter_of_another_shape_is_named(monkeypatch):
    monkeypatch.setattr(stock.InterpreterBuilder, "create_dot", lambda self, a, b: None)
    with (
        pytest.raises(RuntimeError, match=r"has InterpreterBuilder.create_dot\('a', 'b'\); it takes"),
        honest_interpreter(),
    ):
        pass


def test_triton_3_6_beside_a_numpy_that_breaks_its_loops_is_named(monkeypatch):
    monkeypatch.setattr(triton, "__version__", "3.6.0")
    monkeypatch.setattr(np, "__version__", "2.4.0")
    with pytest.raises(RuntimeError, match=r"beside Triton 3\.6 it takes numpy<2\.4"), honest_interpreter():
        pass


def test_a_process_that_compiles_is_told_what_to_set():
    code = "from lisa_kernels.testing.interpreter import honest_interpreter\nwith honest_interpreter(): pass"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}, check=False)
    assert "this process compiles kernels" in run.stderr
    assert "Set TRITON_INTERPRET=1" in run.stderr
