"""What can run an op under judgement: its backends as they are, and the means that need no GPU.

==================  ==========  =====================================================================================
name                backend     what runs
==================  ==========  =====================================================================================
``cuda``, ...       the same    what users run
``interpreted``     ``triton``  Triton's interpreter, made honest, under the sanitizer; programs in any order
``emulated``        ``triton``  the PTX that Triton compiles, in the emulator, once for each target; blocks in any order
``emulated``        ``cuda``    likewise the PTX that nvcc compiles
``host``            ``cuda``    the CUDA C++ kernels through g++; threads in any order
==================  ==========  =====================================================================================

Times of the last three say nothing about a GPU and are never reported.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

from lisa_kernels.core.config import BACKENDS, read_settings
from lisa_kernels.core.dispatch import use_backend
from lisa_kernels.core.launch import LaunchRecord, run_through
from lisa_kernels.core.targets import force_target

MEANS = ("interpreted", "emulated", "host")
# What is made for these runs in the emulator, with the tiles of the target beside it: mma.sync, but wgmma for sm_90.
EMULATED_TARGETS = {"sm_80": "sm_80", "sm_89": "sm_80", "sm_90": "sm_90", "sm_120": "sm_120"}
DEFAULT_TARGETS = ("sm_80", "sm_90")
# 1 to 150 ms a program, measured on two cores: a launch beyond this is a benchmark's size, not a test's.
_MOST_PROGRAMS = 256
_ORDER_SEEDS = (1, 2)


class CaseTooLargeError(RuntimeError):
    """A launch has more programs than can be emulated in reasonable time."""


@dataclasses.dataclass(frozen=True)
class Engine:
    """One way to run an op.

    Attributes:
        name: In the rows of a judgement.
        backend: What dispatch is forced to.
        within: ``(order seed or None) -> context`` in which calls run so.
        behaviours: Names of the behaviours to judge; None for all that concern backends.
        order_seeds: Seeds of the orders that must not change a bit; empty where the order cannot be chosen.
        missing: Returns what this machine lacks for it, or None.
    """

    name: str
    backend: str
    within: Callable[[int | None], contextlib.AbstractContextManager[Any]]
    behaviours: tuple[str, ...] | None = None
    order_seeds: tuple[int, ...] = ()
    missing: Callable[[], str | None] = lambda: None


def find_engines(name: str, targets: tuple[str, ...] = DEFAULT_TARGETS) -> tuple[Engine, ...]:
    """Return the engines of one name: a backend, or one of the means.

    Args:
        name: One of ``config.BACKENDS`` or ``MEANS``.
        targets: Of ``emulated``: two engines for each, Triton's code and nvcc's.

    Raises:
        ValueError: An unknown name or target.
    """
    if name in BACKENDS:
        return (Engine(name, name, lambda seed: use_backend(name)),)
    if name == "interpreted":
        return (_interpreted(),)
    if name == "emulated":
        if unknown := [target for target in targets if target not in EMULATED_TARGETS]:
            raise ValueError(f"target is {unknown[0]!r}; it takes {', '.join(EMULATED_TARGETS)}.")
        return tuple(make(target) for target in targets for make in (_emulated, _emulated_cuda))
    if name == "host":
        return (_host(),)
    raise ValueError(f"backend is {name!r}; it takes {', '.join(BACKENDS + MEANS)}.")


def _interpreted() -> Engine:
    @contextlib.contextmanager
    def within(seed: int | None) -> Iterator[None]:
        from lisa_kernels.testing.sanitizer import sanitize

        with use_backend("triton"), sanitize(program_order=seed):
            yield

    def missing() -> str | None:
        return None if read_settings().interpret else "this process compiles Triton kernels: set TRITON_INTERPRET=1"

    return Engine(
        "interpreted",
        "triton",
        within,
        ("strides of gradients", "memory around inputs", "outputs fully written", "same bits in any order"),
        _ORDER_SEEDS,
        missing,
    )


def _emulated(target: str) -> Engine:
    @contextlib.contextmanager
    def within(seed: int | None) -> Iterator[None]:
        from lisa_kernels.testing.compiled import compile_launch
        from lisa_kernels.testing.ptx import run_compiled

        def execute(record: LaunchRecord, args: tuple[Any, ...]) -> None:
            if (programs := math.prod(record.grid)) > _MOST_PROGRAMS:
                raise CaseTooLargeError(f"a launch of {programs} programs; at most {_MOST_PROGRAMS} are emulated")
            compiled = compile_launch(record, target)
            run_compiled(compiled, record.grid, record.passed(args), block_order=seed)

        with use_backend("triton"), force_target(EMULATED_TARGETS[target]), run_through(execute):
            yield

    def missing() -> str | None:
        return "TRITON_INTERPRET=1 is set; the emulator needs compiled kernels" if read_settings().interpret else None

    return Engine(f"emulated {target}", "triton", within, ("same bits in any order",), _ORDER_SEEDS[:1], missing)


def _emulated_cuda(target: str) -> Engine:
    @contextlib.contextmanager
    def within(seed: int | None) -> Iterator[None]:
        from lisa_kernels.testing.cuda.ops import emulated_kernels

        with use_backend("cuda"), emulated_kernels(target, block_order=seed):
            yield

    def missing() -> str | None:
        from lisa_kernels.testing.cuda.ops import why_no_emulated_ops

        return why_no_emulated_ops()

    return Engine(f"emulated {target}, nvcc", "cuda", within, ("same bits in any order",), _ORDER_SEEDS[:1], missing)


def _host() -> Engine:
    @contextlib.contextmanager
    def within(seed: int | None) -> Iterator[None]:
        from lisa_kernels.testing.cuda.ops import host_kernels

        with use_backend("cuda"), host_kernels(thread_order=seed):
            yield

    def missing() -> str | None:
        from lisa_kernels.testing.cuda.ops import why_no_host_ops

        return why_no_host_ops()

    return Engine(
        "host",
        "cuda",
        within,
        ("strides of gradients", "memory around inputs", "outputs fully written", "same bits in any order"),
        _ORDER_SEEDS,
        missing,
    )
