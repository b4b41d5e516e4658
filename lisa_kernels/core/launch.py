"""The one place that launches Triton kernels; ``record()`` turns launches into compile jobs.

Because every launch goes through ``launch``, calling an op's host code on ``device="meta"`` tensors inside ``record()``
yields all that an offline compile needs: no signature is ever written by hand.  ``run_through`` hands launches to
another executor, such as the PTX emulator, and the op's host code does not notice.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core.tiling import Tile

# What runs a launch instead of Triton: gets the record and the run-time arguments in the kernel's order.
Executor = Callable[["LaunchRecord", tuple[Any, ...]], None]

_executor: contextvars.ContextVar[Executor | None] = contextvars.ContextVar("launch_executor", default=None)
_POINTERS = {
    torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32", torch.float64: "*fp64",
    torch.int8: "*i8", torch.uint8: "*u8", torch.int16: "*i16", torch.int32: "*i32", torch.int64: "*i64",
    torch.bool: "*i1",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class LaunchRecord:
    """What an offline compile of one launch needs (the arguments of ``triton.compile``), and its grid."""

    kernel: Any
    grid: tuple[int, ...]
    signature: dict[str, str]
    constexprs: dict[str, Any]
    attrs: dict[tuple[int], list[list[Any]]]
    options: dict[str, Any]

    def passed(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return those of the launch's arguments that the compiled kernel takes: ones and None are compiled in."""
        named = zip(self.kernel.arg_names, args, strict=False)
        return tuple(arg for name, arg in named if self.signature[name] != "constexpr")


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, tile: Tile, **constexprs: Any) -> None:
    """Run ``kernel`` on ``grid``; inside ``record()`` or ``run_through()`` hand the launch over instead.

    Args:
        args: Tensors, numbers or None in the kernel's order, without its constexprs.
        tile: Block sizes and launch options, from the op's ``tiles.py``.
        constexprs: Further compile-time values (flags, head size).
    """
    if 0 in grid:
        return
    constants = tile.constexprs() | constexprs
    executor = _executor.get()
    if executor is not None:
        executor(specialise(kernel, grid, args, constexprs=constants, options=tile.options()), args)
        return
    device = next(a.device for a in args if isinstance(a, Tensor))
    # Triton launches on the current device, not on the tensors' device.
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        kernel[grid](*args, **constants, **tile.options())


@contextlib.contextmanager
def run_through(executor: Executor) -> Iterator[None]:
    """Hand every launch of the block to ``executor(record, args)`` instead of Triton.

    Args:
        executor: Gets a ``LaunchRecord`` and the tensors, numbers and None of the launch, without constexprs.
    """
    token = _executor.set(executor)
    try:
        yield
    finally:
        _executor.reset(token)


def is_redirected() -> bool:
    """Whether launches go to an executor of ``run_through`` or ``record``."""
    return _executor.get() is not None


@contextlib.contextmanager
def record() -> Iterator[list[LaunchRecord]]:
    """Collect launches instead of running them."""
    log: list[LaunchRecord] = []
    with run_through(lambda noted, args: log.append(noted)):
        yield log


def specialise(
    kernel: Any,
    grid: tuple[int, ...],
    args: tuple[Any, ...],
    *,
    constexprs: Mapping[str, Any],
    options: Mapping[str, Any],
) -> LaunchRecord:
    """Return the compile job of a launch, specialised as a real launch would: integer widths, alignment, ones and None.

    Args:
        kernel: A ``@triton.jit`` function.
        args: Its run-time arguments in order, without constexprs; tensors may be on any device, also ``meta``.
        constexprs: Its compile-time values by name.
        options: ``num_warps``, ``num_stages``, ``enable_fp_fusion``.

    Without the alignment attribute the compiler may not assume 128-bit accesses: the compiled code is not the code
    that would run (16 loads of 16 bits instead of 2 of 128, measured for sm_80).
    """
    signature: dict[str, str] = {}
    attrs: dict[tuple[int], list[list[Any]]] = {}
    constants = dict(constexprs)
    for i, (name, arg) in enumerate(zip(kernel.arg_names, args, strict=False)):
        aligned = False
        if isinstance(arg, Tensor):
            signature[name] = _POINTERS[arg.dtype]
            # A meta tensor has no address; an allocation starts aligned.
            start = arg.storage_offset() * arg.element_size() if arg.is_meta else arg.data_ptr()
            aligned = start % 16 == 0
        elif isinstance(arg, bool):
            signature[name] = "i1"
        elif arg is None or (isinstance(arg, int) and arg == 1):
            signature[name], constants[name] = "constexpr", arg
        elif isinstance(arg, int):
            signature[name] = "i32" if -(2**31) <= arg < 2**31 else "i64"
            aligned = arg % 16 == 0
        else:
            signature[name] = "fp32"
        if aligned:
            attrs[(i,)] = [["tt.divisibility", 16]]
    signature |= dict.fromkeys(constants, "constexpr")
    # The compiler wants the kernel's own order.
    signature = {name: signature[name] for name in kernel.arg_names}
    return LaunchRecord(kernel, tuple(grid), signature, constants, attrs, dict(options))
