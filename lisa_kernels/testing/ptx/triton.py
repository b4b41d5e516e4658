"""Runs Triton kernels: compiled for a real target, executed here."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from lisa_kernels.core.launch import specialise
from lisa_kernels.core.targets import Target
from lisa_kernels.core.tiling import Tile
from lisa_kernels.testing.ptx.descriptors import expand_descriptors
from lisa_kernels.testing.ptx.launch import MAX_INSTRUCTIONS, Launch, Options, Report
from lisa_kernels.testing.ptx.module import ModuleText
from lisa_kernels.testing.ptx.program import Program


def emulate(
    kernel: Any,
    grid: Sequence[int],
    *args: Any,
    target: Target | str = "sm_80",
    tile: Tile | None = None,
    num_warps: int = 4,
    num_stages: int = 2,
    constexprs: Mapping[str, Any] | None = None,
    debug: bool | None = None,
    blocks: Collection[tuple[int, int, int]] | None = None,
    block_order: int | None = None,
    schedule: str | int = "lockstep",
    check_races: bool = True,
    buffers: Sequence[Any] = (),
    exempt: Collection[str | int] = (),
    outputs: Collection[str | int] = (),
    max_instructions: int = MAX_INSTRUCTIONS,
) -> Report:
    """Compile a Triton kernel for an NVIDIA target, run it on CPU tensors in place, and return what it did.

    Args:
        kernel: A ``@triton.jit`` function, in a process without ``TRITON_INTERPRET``.
        grid: Programs along one to three axes.
        args: The kernel's run-time arguments in order, without constexprs: CPU tensors, Triton's ``TensorDescriptor``
            of them, numbers, None.
        target: Such as ``"sm_80"``, ``"sm_89"``, ``"sm_90"``, ``"sm_120"``.
        tile: Block sizes and launch options in one; ``num_warps`` and ``num_stages`` are then taken from it.
        constexprs: Compile-time values by name, beside those of ``tile``.
        debug: Whether ``tl.device_assert`` is compiled in; None for what ``@triton.jit`` says.
        blocks: Indices ``(x, y, z)`` of the programs to run; None for all.
        block_order: None for ascending order, or the seed of a random one.
        schedule: ``"lockstep"``, or a seed: see ``Options``.
        check_races: Whether races and reads of unwritten shared memory are looked for.
        buffers: Tensors that are reached through pointers stored in memory only.
        exempt: Names or positions of arguments whose plain reads do not race with atomics: see ``Options``.
        outputs: Names or positions of arguments that hold nothing before they are written: reading them is a fault.
        max_instructions: A launch that runs more without any program ending is taken to hang.

    Raises:
        PtxError: At the first fault, naming instruction, threads, source line and argument.
        TypeError: ``kernel`` is no ``@triton.jit`` function, or an argument is of a kind that kernels do not take.
        ValueError: The arguments are not those of the kernel, or ``target`` is none of NVIDIA's.

    Example::

        x, out = torch.randn(1000), torch.empty(1000)
        emulate(my_kernel, (4,), x, out, 1000, constexprs={"BLOCK": 256}, target="sm_90")
        assert torch.equal(out, x.exp())
    """
    # PTX of nvcc runs without Triton installed.
    from lisa_kernels.testing.compiled import compile_launch

    constants = dict(constexprs or {})
    # As core.launch launches: with fused multiply-add, whatever Triton's default.
    launch_options = {"num_warps": num_warps, "num_stages": num_stages, "enable_fp_fusion": True}
    if tile is not None:
        constants, launch_options = tile.constexprs() | constants, tile.options()
    if debug is not None:
        launch_options["debug"] = debug
    record = specialise(kernel, tuple(grid), args, constexprs=constants, options=launch_options)
    return run_compiled(
        compile_launch(record, target),
        record.grid,
        record.passed(args),
        names=[name for name in kernel.arg_names if record.signature[name] != "constexpr"],
        blocks=blocks,
        block_order=block_order,
        schedule=schedule,
        check_races=check_races,
        buffers=buffers,
        exempt=exempt,
        outputs=outputs,
        max_instructions=max_instructions,
    )


def run_compiled(
    compiled: Any,
    grid: Sequence[int],
    args: Sequence[Any],
    *,
    ptx: str | None = None,
    names: Sequence[str] = (),
    blocks: Collection[tuple[int, int, int]] | None = None,
    block_order: int | None = None,
    schedule: str | int = "lockstep",
    check_races: bool = True,
    buffers: Sequence[Any] = (),
    exempt: Collection[str | int] = (),
    outputs: Collection[str | int] = (),
    max_instructions: int = MAX_INSTRUCTIONS,
) -> Report:
    """Run a compiled Triton kernel in place on its arguments and return what it did.

    Args:
        compiled: Of ``triton.compile`` or ``testing.compiled.compile_launch`` for an NVIDIA target.
        args: CPU tensors, descriptors and numbers for the compiled signature: ``LaunchRecord.passed`` leaves out the
            rest.
        ptx: A changed text to run instead of ``compiled.asm["ptx"]``.
        names: Of the arguments, for faults.
        blocks: As in ``emulate``; so are the arguments that follow.

    Raises:
        PtxError: At the first fault.
    """
    metadata = compiled.metadata
    if "ptx" not in compiled.asm:
        raise ValueError(f"emulate: target is {metadata.target.arch}; it takes NVIDIA's, such as 'sm_80' or 'sm_90'.")
    program = Program(ModuleText(compiled.asm["ptx"] if ptx is None else ptx), metadata.name)
    expanded, expanded_names = expand_descriptors(args, names, metadata)
    # Triton appends up to two pointers to scratch memory, of which kernels that make descriptors use the first.
    scratch: list[Any] = [None] * min(len(program.function.parameters) - len(expanded), 2)
    if scratch and getattr(metadata, "global_scratch_size", 0):
        scratch[0] = _scratch(metadata.global_scratch_size * math.prod(grid), metadata.global_scratch_align)
    options = Options(blocks, block_order, schedule, check_races, tuple(buffers), exempt, outputs, max_instructions)
    launch = Launch(
        program, grid, (32 * metadata.num_warps,), (*expanded, *scratch), shared_bytes=metadata.shared,
        options=options, names=(*expanded_names, *["scratch memory"] * len(scratch)),
    )  # fmt: skip
    return launch.run()


def _scratch(size: int, alignment: int) -> np.ndarray:
    """Memory that the launcher allocates for a kernel; its contents are arbitrary."""
    room = np.full(size + alignment, 0xFF, np.uint8)
    start = -room.ctypes.data % alignment
    return room[start : start + size]
