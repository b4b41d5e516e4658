"""Puts the honest interpreter in place of the stock one for the duration of a block.

Triton keeps its interpreter in module globals and offers no way to choose another, so this swaps them and puts them
back, also when the block raises: with ``launcher``, the one place of this package that changes somebody else's module.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
import triton
from triton.runtime import interpreter as stock

from lisa_kernels.core.config import read_settings
from lisa_kernels.testing.interpreter.builder import HonestBuilder
from lisa_kernels.testing.interpreter.errors import refuse
from lisa_kernels.testing.interpreter.launcher import HonestGridExecutor
from lisa_kernels.testing.interpreter.libdevice import interpretations, stubs
from lisa_kernels.testing.interpreter.reductions import HonestReduce, HonestScan

# What is overridden or swapped, with the parameters it must start with; the same in Triton 3.6 to 3.9.
_NEEDED = {
    "InterpreterBuilder.set_grid_dim": ("nx", "ny", "nz"),
    "InterpreterBuilder.set_grid_idx": ("x", "y", "z"),
    "InterpreterBuilder.create_masked_load": ("ptrs", "mask", "other"),
    "InterpreterBuilder.create_assert": ("condition", "message"),
    "InterpreterBuilder.create_masked_store": ("ptrs", "value", "mask"),
    "InterpreterBuilder.create_atomic_rmw": ("rmwOp", "ptr", "val", "mask"),
    "InterpreterBuilder.create_atomic_cas": ("ptr", "cmp", "val"),
    "InterpreterBuilder.create_dot": ("a", "b", "d", "input_precision"),
    "InterpreterBuilder.create_descriptor_load": ("desc", "indices"),
    "InterpreterBuilder.create_fp_to_fp": ("src", "dst_type", "rounding_mode"),
    "InterpreterBuilder.cast_impl": ("src", "dst_type"),
    "InterpreterBuilder.binary_op": ("lhs", "rhs", "op"),
    "InterpreterBuilder.unary_op": ("arg", "op"),
    "ReduceOps.min_max": ("input", "val_reduce_op", "idx_reduce_op"),
    "ReduceOps.generic_reduce": ("input",),
    "ReduceOps.sum": ("input",),
    "ScanOps.cumsum": ("input",),
    "ScanOps.generic_scan": ("input",),
    "GridExecutor.__call__": ("args_dev", "kwargs"),
}


class _NoDriver:
    """Stands for the GPU that ``@triton.autotune`` asks for: it times nothing, so the first configuration is taken."""

    def get_benchmarker(self) -> Callable[..., list[float]]:
        return _time_nothing

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        refuse(
            f"a kernel that asks the GPU driver for {name}",
            "Gluon kernels and kernels decorated without TRITON_INTERPRET=1 are compiled and need a GPU.",
        )


@contextlib.contextmanager
def honest_interpreter(*, program_order: int | None = None) -> Iterator[HonestBuilder]:
    """Interpret Triton kernels as a GPU would compute them while the block runs; yields the builder in charge.

    Inside another such block, or inside ``sanitize``, the builder in charge stays and takes ``program_order``.  One
    thread at a time: Triton's interpreter is global.

    Args:
        program_order: None runs programs in the order of their ids, -1 in reverse, any other number in the permutation
            with this seed.

    Raises:
        RuntimeError: The process does not interpret, or this Triton's interpreter is not one that is known.
        NotInterpretedError: A kernel in the block uses what has no right answer here.
        DeviceAssertError: A ``tl.device_assert`` failed.

    Example::

        with honest_interpreter():
            kernel[grid](x, out, n, BLOCK=128)
    """
    current = stock.interpreter_builder
    if isinstance(current, HonestBuilder):
        previous = current.program_order
        current.program_order = previous if program_order is None else program_order
        try:
            yield current
        finally:
            current.program_order = previous
        return
    builder = HonestBuilder(program_order=program_order)
    with installed(builder):
        yield builder


@contextlib.contextmanager
def installed(builder: HonestBuilder) -> Iterator[None]:
    """Make ``builder`` the one that interprets kernels while the block runs."""
    if not read_settings().interpret:
        raise RuntimeError(
            "honest_interpreter: this process compiles kernels; it takes one that interprets. "
            "Set TRITON_INTERPRET=1 before Triton kernels are imported."
        )
    _check_interface()
    driver = triton.runtime.driver
    with contextlib.ExitStack() as undo:
        for owner, name, value in (
            (stock, "interpreter_builder", builder),
            # The semantic object itself stays: kernels' modules hold references to it.
            (stock.interpreter_semantic, "builder", builder),
            (stock, "GridExecutor", HonestGridExecutor),
            (stock, "ReduceOps", HonestReduce),
            (stock, "ScanOps", HonestScan),
            (driver, "_active", _NoDriver()),
            *((module, name, interpretations()[name]) for module, name in stubs()),
        ):
            undo.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        yield


def _time_nothing(call: Callable[[], None], quantiles: Sequence[float] | None = None, **options: Any) -> list[float]:
    return [0.0] * len(quantiles or (0.5,))


def _check_interface() -> None:
    old, numpy = triton.__version__.startswith("3.6."), tuple(map(int, np.__version__.split(".")[:2]))
    if old and numpy >= (2, 4):
        # Its loops over run-time bounds convert arrays of one element to int, which numpy 2.4 refuses.
        raise RuntimeError(
            f"honest_interpreter: numpy is {np.__version__}; beside Triton 3.6 it takes numpy<2.4. "
            "Install triton>=3.7, or numpy<2.4."
        )
    for path, expected in _NEEDED.items():
        owner, method = path.split(".")
        found = getattr(getattr(stock, owner, None), method, None)
        parameters = tuple(inspect.signature(found).parameters)[1:] if found else ()
        if parameters[: len(expected)] != expected:
            raise RuntimeError(
                f"honest_interpreter: Triton {triton.__version__} has {path}{parameters}; it takes one with "
                f"{expected}. Install triton>=3.6,<3.10."
            )
