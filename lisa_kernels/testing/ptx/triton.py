"""Runs Triton kernels: compiled for a real target, executed here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lisa_kernels.core.launch import specialise
from lisa_kernels.core.targets import Target
from lisa_kernels.core.tiling import Tile
from lisa_kernels.testing.ptx.launch import Launch, Options, Report
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
    blocks: Collection[tuple[int, int, int]] | None = None,
    block_order: int | None = None,
    schedule: str | int = "lockstep",
    check_races: bool = True,
    buffers: Sequence[Any] = (),
) -> Report:
    """Compile a Triton kernel for an NVIDIA target, run it on CPU tensors in place, and return what it did.

    Args:
        kernel: A ``@triton.jit`` function, in a process without ``TRITON_INTERPRET``.
        grid: Programs along one to three axes.
        args: The kernel's run-time arguments in order, without constexprs: CPU tensors, numbers, None.
        target: Such as ``"sm_80"``, ``"sm_89"``, ``"sm_90"``, ``"sm_120"``.
        tile: Block sizes and launch options in one; ``num_warps`` and ``num_stages`` are then taken from it.
        constexprs: Compile-time values by name, beside those of ``tile``.
        blocks: Indices ``(x, y, z)`` of the programs to run; None for all.
        block_order: None for ascending order, or the seed of a random one.
        schedule: ``"lockstep"``, or a seed: see ``Options``.
        check_races: Whether races and reads of unwritten shared memory are looked for.
        buffers: Tensors that are reached through pointers stored in memory only.

    Raises:
        PtxError: At the first fault, naming instruction, threads, source line and argument.

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
) -> Report:
    """Run a compiled Triton kernel in place on its arguments and return what it did.

    Args:
        compiled: Of ``triton.compile`` or ``testing.compiled.compile_launch`` for an NVIDIA target.
        args: CPU tensors and numbers for the compiled signature: ``LaunchRecord.passed`` leaves out the rest.
        ptx: A changed text to run instead of ``compiled.asm["ptx"]``.
        names: Of the arguments, for faults.
        blocks: As in ``emulate``; so are the arguments that follow.

    Raises:
        PtxError: At the first fault.
    """
    program = Program(ModuleText(compiled.asm["ptx"] if ptx is None else ptx), compiled.metadata.name)
    # Triton appends pointers to scratch memory; the kernels run here use none.
    scratch = (None,) * (len(program.function.parameters) - len(args))
    options = Options(blocks, block_order, schedule, check_races, tuple(buffers))
    launch = Launch(
        program, grid, (32 * compiled.metadata.num_warps,), (*args, *scratch),
        shared_bytes=compiled.metadata.shared, options=options, names=names,
    )  # fmt: skip
    return launch.run()
