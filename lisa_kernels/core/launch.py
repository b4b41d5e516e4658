"""The one place that launches Triton kernels; ``record()`` turns launches into compile jobs.

Because every launch goes through ``launch``, calling an op's host code on ``device="meta"`` tensors inside ``record()``
yields all that an offline compile needs: no signature is ever written by hand.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core.tiling import Tile

_log: contextvars.ContextVar[list[LaunchRecord] | None] = contextvars.ContextVar("launch_log", default=None)
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


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, tile: Tile, **constexprs: Any) -> None:
    """Run ``kernel`` on ``grid``, or note the launch when inside ``record()``.

    Args:
        args: Tensors, numbers or None in the kernel's order, without its constexprs.
        tile: Block sizes and launch options, from the op's ``tiles.py``.
        constexprs: Further compile-time values (flags, head size).
    """
    if 0 in grid:
        return
    constants = tile.constexprs() | constexprs
    log = _log.get()
    if log is not None:
        log.append(_record(kernel, grid, args, constants, tile.options()))
        return
    device = next(a.device for a in args if isinstance(a, Tensor))
    # Triton launches on the current device, not on the tensors' device.
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        kernel[grid](*args, **constants, **tile.options())


@contextlib.contextmanager
def record() -> Iterator[list[LaunchRecord]]:
    """Collect launches instead of running them."""
    log: list[LaunchRecord] = []
    token = _log.set(log)
    try:
        yield log
    finally:
        _log.reset(token)


def _record(
    kernel: Any, grid: tuple[int, ...], args: tuple[Any, ...], constants: dict[str, Any], options: dict[str, Any]
) -> LaunchRecord:
    """Specialise arguments as a real launch would: width of integers, 16-byte alignment, ones and None.

    Without the alignment attribute the compiler may not assume 128-bit accesses: the compiled code is not the code
    that would run (16 loads of 16 bits instead of 2 of 128, measured for sm_80).
    """
    signature: dict[str, str] = {}
    attrs: dict[tuple[int], list[list[Any]]] = {}
    constants = dict(constants)
    for i, (name, arg) in enumerate(zip(kernel.arg_names, args, strict=False)):
        aligned = False
        if isinstance(arg, Tensor):
            signature[name] = _POINTERS[arg.dtype]
            aligned = arg.storage_offset() * arg.element_size() % 16 == 0
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
    return LaunchRecord(kernel, grid, signature, constants, attrs, options)
