"""The one place that launches Triton kernels; ``record()`` turns launches into compile jobs.

Because every launch goes through ``launch``, calling an op's host code on ``device="meta"`` tensors inside ``record()``
yields all that an offline compile needs: no signature is ever written by hand.  ``run_through`` hands launches to
another executor, such as the PTX emulator, and the op's host code does not notice.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core.tiling import Tile

# What runs a launch instead of Triton: gets the record and the run-time arguments in the kernel's order.
Executor = Callable[["LaunchRecord", tuple[Any, ...]], None]

_executor: contextvars.ContextVar[Executor | None] = contextvars.ContextVar("launch_executor", default=None)
_POINTERS = {
    torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32", torch.float64: "*fp64",
    torch.float8_e4m3fn: "*fp8e4nv", torch.float8_e5m2: "*fp8e5", torch.bool: "*i1",
    torch.int8: "*i8", torch.int16: "*i16", torch.int32: "*i32", torch.int64: "*i64",
    torch.uint8: "*u8", torch.uint16: "*u16", torch.uint32: "*u32", torch.uint64: "*u64",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class LaunchRecord:
    """What an offline compile of one launch needs (the arguments of ``triton.compile``), and its grid.

    Attributes:
        given: Names of the constexprs that the launch gave; ``constexprs`` holds ones and None as well.
    """

    kernel: Any
    grid: tuple[int, ...]
    signature: dict[str, str]
    constexprs: dict[str, Any]
    attrs: dict[tuple[int], list[list[Any]]]
    options: dict[str, Any]
    given: frozenset[str] = frozenset()

    def passed(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return those of the launch's arguments that the compiled kernel takes: ones and None are compiled in."""
        named = _bind(self.kernel, args, self.given)
        return tuple(arg for name, arg in named.items() if self.signature[name] != "constexpr")


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, tile: Tile, **constexprs: Any) -> None:
    """Run ``kernel`` on ``grid``; inside ``record()`` or ``run_through()`` hand the launch over instead.

    Args:
        args: Tensors, descriptors, numbers or None in the kernel's order, without its constexprs.
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
    tensors = (a.base if is_descriptor(a) else a for a in args)
    device = next(a.device for a in tensors if isinstance(a, Tensor))
    # Triton launches on the current device, not on the tensors' device.
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        kernel[grid](**_bind(kernel, args, constants), **constants, **tile.options())


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
        options: ``num_warps``, ``num_stages``, ``enable_fp_fusion``; ``debug`` keeps ``tl.device_assert``.

    Without the alignment attribute the compiler may not assume 128-bit accesses: the compiled code is not the code
    that would run (16 loads of 16 bits instead of 2 of 128, measured for sm_80).

    Raises:
        TypeError: ``kernel`` is no ``@triton.jit`` function, or an argument is of a kind that kernels do not take.
        ValueError: The arguments are not those of the kernel.
    """
    grid = _checked_grid(grid)
    bound = _bind(kernel, args, constexprs)
    parameters = {parameter.name: parameter for parameter in getattr(kernel, "params", ())}
    signature: dict[str, str] = {}
    attrs: dict[tuple[int], list[list[Any]]] = {}
    constants = dict(constexprs)
    for place, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
            continue
        if name not in bound:
            signature[name], constants[name] = "constexpr", parameters[name].default
            continue
        parameter = parameters.get(name)
        kind, aligned = _kind(name, bound[name], fixed=bool(parameter and parameter.do_not_specialize))
        signature[name] = kind if parameter is None or kind == "constexpr" else parameter.annotation_type or kind
        if kind == "constexpr":
            constants[name] = bound[name]
        elif aligned and not (parameter and parameter.do_not_specialize_on_alignment):
            attrs[(place,)] = [["tt.divisibility", 16]]
    options = {"debug": True, **options} if getattr(kernel, "debug", None) else dict(options)
    return LaunchRecord(kernel, grid, signature, constants, attrs, options, frozenset(constexprs))


def _kind(name: str, arg: Any, *, fixed: bool) -> tuple[str, bool]:
    """Return the type of an argument in a signature, and whether it is a multiple of 16.

    Args:
        fixed: The kernel asks not to be specialised for the argument's value.
    """
    if isinstance(arg, Tensor):
        if arg.dtype not in _POINTERS:
            known = ", ".join(str(dtype).removeprefix("torch.") for dtype in _POINTERS)
            raise TypeError(f"launch: {name} has dtype {arg.dtype}; Triton takes {known}.")
        # A meta tensor has no address; an allocation starts aligned.
        start = arg.storage_offset() * arg.element_size() if arg.is_meta else arg.data_ptr()
        return _POINTERS[arg.dtype], start % 16 == 0
    if is_descriptor(arg):
        kind, _ = _kind(f"the tensor of {name}", arg.base, fixed=fixed)
        return f"tensordesc<{kind[1:]}{list(map(int, arg.block_shape))}>", False
    if isinstance(arg, bool):
        return "u1", False
    if arg is None or (isinstance(arg, int) and arg == 1 and not fixed):
        return "constexpr", False
    if isinstance(arg, int):
        if not -(2**63) <= arg < 2**64:
            raise ValueError(f"launch: {name} is {arg}; it takes 64-bit integers.")
        return "i32" if -(2**31) <= arg < 2**31 else "i64" if arg < 2**63 else "u64", arg % 16 == 0 and not fixed
    if isinstance(arg, float):
        return "fp32", False
    raise TypeError(f"launch: {name} is a {type(arg).__name__}; it takes tensors, descriptors, numbers, bool and None.")


def is_descriptor(arg: Any) -> bool:
    """Whether an argument is one of Triton's ``TensorDescriptor``; Gluon's have a layout as well."""
    return hasattr(arg, "block_shape") and hasattr(arg, "base") and not hasattr(arg, "layout")


def _bind(kernel: Any, args: tuple[Any, ...], constexprs: Collection[str]) -> dict[str, Any]:
    """Return the run-time arguments by name; they come in the kernel's order, without its constexprs."""
    names = getattr(kernel, "arg_names", None)
    if names is None:
        raise TypeError(f"launch: kernel is a {type(kernel).__name__}; it takes a @triton.jit function.")
    title = getattr(kernel, "__name__", "the kernel")
    if hasattr(kernel, "configs") or hasattr(kernel, "values"):
        raise TypeError(f"launch: {title} is decorated by @triton.autotune or heuristics; pass kernel.fn and a choice.")
    if unknown := [name for name in constexprs if name not in names]:
        raise ValueError(f"launch: {unknown[0]} is no parameter of {title}; it takes {', '.join(names)}.")
    runtime = [name for name in names if name not in constexprs]
    if len(args) > len(runtime):
        raise ValueError(f"launch: {title} takes {len(runtime)} run-time arguments; it was given {len(args)}.")
    defaults = {parameter.name for parameter in getattr(kernel, "params", ()) if parameter.has_default}
    if missing := [name for name in runtime[len(args) :] if name not in defaults]:
        raise ValueError(f"launch: {title} misses {', '.join(missing)}: an argument, or a constexpr by name.")
    return dict(zip(runtime, args, strict=False))


def _checked_grid(grid: Any) -> tuple[int, ...]:
    if not isinstance(grid, (tuple, list)) or not 1 <= len(grid) <= 3 or not all(isinstance(n, int) for n in grid):
        raise TypeError(f"launch: grid is {grid!r}; it takes a tuple of one to three integers.")
    return tuple(grid)
