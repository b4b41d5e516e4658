"""Cubin to figures: disassembly, hot loop, pipes, replay."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from lisa_kernels.testing.static import control_flow, opcodes
from lisa_kernels.testing.static.architectures import Architecture, find_architecture
from lisa_kernels.testing.static.control_flow import Loop
from lisa_kernels.testing.static.disassemble import ResourceUsage, disassemble, resource_usage
from lisa_kernels.testing.static.figures import KernelFigures, LoopFigures
from lisa_kernels.testing.static.occupancy import Occupancy, find_occupancy
from lisa_kernels.testing.static.pipes import Shape, cost, pipe_cycles
from lisa_kernels.testing.static.replay import Role, replay, replay_range
from lisa_kernels.testing.static.sass import Function, Instruction, parse_sass

# sm_90 and later count 1 KiB of every block that the system keeps (CUDA occupancy calculator).
_SYSTEM_SHARED = 1024
_MIX = 14
# Iterations of the latency figure: one block has no neighbours to wait for, so it settles slowly.
_LATENCY_ITERATIONS = 24
# A role of four warps computes; one of a single warp moves data.
_COMPUTES = frozenset({"HGMMA", "HMMA", "MUFU", "LDTM"})


@dataclasses.dataclass(frozen=True)
class Known:
    """What is known of a kernel beside its cubin.

    Attributes:
        threads: Of one block.
        dynamic_shared_bytes: Given at launch.
        toolchain: What compiled it.
        dots: ``tl.dot`` in its source, or None.
        sm_shape: (M, N, K) of its tcgen05 products.
        tensor_memory_columns: That a block allocates.
        bulk_bytes_per_product: TMA bytes for one tensor multiply-add.
        warp_specialised: Whether its warps run different loops.
    """

    threads: int
    dynamic_shared_bytes: int = 0
    toolchain: str = ""
    dots: int | None = None
    sm_shape: Shape | None = None
    tensor_memory_columns: int = 0
    bulk_bytes_per_product: float = 0.0
    warp_specialised: bool = False


def read_cubin(cubin: bytes, known: dict[str, Known]) -> list[KernelFigures]:
    """Return the figures of the named kernels of a cubin.

    Raises:
        ValueError: No such kernel in it, or a compute capability without rates.
        RuntimeError: A missing disassembler.
    """
    program = parse_sass(disassemble(cubin))
    usage = resource_usage(cubin)
    arch = find_architecture(program.capability)
    found = []
    for name, about in known.items():
        if name not in program.functions:
            kernels = ", ".join(program.functions)
            raise ValueError(f"read_cubin: kernel is {name!r}; the cubin holds {kernels}.")
        found.append(_kernel_figures(program.functions[name], usage[name], arch, program.capability, about))
    return found


def _kernel_figures(
    function: Function, usage: ResourceUsage, arch: Architecture, capability: int, known: Known
) -> KernelFigures:
    instructions = function.instructions
    system = _SYSTEM_SHARED if capability >= 90 else 0
    shared_bytes = max(0, usage.shared_bytes - system) + known.dynamic_shared_bytes
    occupancy = find_occupancy(
        arch,
        registers=usage.registers,
        shared_bytes=shared_bytes,
        warps=max(1, known.threads // 32),
        tensor_memory_columns=known.tensor_memory_columns,
    )
    bases = Counter(instruction.base for instruction in instructions)
    return KernelFigures(
        kernel=function.name,
        target=f"sm_{capability}",
        toolchain=known.toolchain,
        threads=known.threads,
        registers=usage.registers,
        spills=sum(bases[base] for base in opcodes.SPILL),
        stack_bytes=usage.stack_bytes + usage.local_bytes,
        shared_bytes=shared_bytes,
        blocks_per_sm=occupancy.blocks,
        waves_per_simd=None,
        limited_by=occupancy.limited_by,
        occupancy=occupancy.share,
        instructions=len(instructions),
        dots=known.dots,
        mma={base: count for base, count in bases.items() if base in opcodes.MMA},
        bulk_copies=sum(bases[base] for base in opcodes.TMA),
        loops=tuple(_loops(function, arch, occupancy, known)),
    )


def _loops(function: Function, arch: Architecture, occupancy: Occupancy, known: Known) -> list[LoopFigures]:
    """Return the loops, most multiply-adds per instruction first; the roles of a specialised kernel lead together."""
    loops = control_flow.find_loops(
        control_flow.build_graph(function), lambda i: cost(i, arch).pipe not in ("issue", "uniform")
    )
    warps = max(1, known.threads // 32)
    ranked = []
    for loop in control_flow.hot_loops(function, loops):
        figures, products = _loop_figures([Role(loop.instructions, warps)], loop, arch, occupancy, known)
        ranked.append((-products / figures.instructions, -figures.instructions, figures))
    ranked.sort(key=lambda entry: entry[:2])
    found = [figures for _, _, figures in ranked]
    if known.warp_specialised:
        roles = [_role(loop) for loop in control_flow.role_loops(loops)]
        together = tuple(i for role in roles for i in role.instructions)
        if any(map(opcodes.is_mma, together)):
            found.insert(0, _loop_figures(roles, Loop(together, has_mma=True), arch, occupancy, known)[0])
    return found


def _role(loop: Loop) -> Role:
    computes = any(instruction.base in _COMPUTES for instruction in loop.instructions)
    return Role(loop.instructions, 4 if computes else 1)


def _loop_figures(
    roles: Sequence[Role], loop: Loop, arch: Architecture, occupancy: Occupancy, known: Known
) -> tuple[LoopFigures, float]:
    pipes, products = _busy(roles, arch, known)
    bound_pipe = max(pipes, key=pipes.__getitem__)
    counted = _count(loop.instructions)
    counted |= {"head": hex(loop.head), "is_loop": loop.is_loop, "pipes": pipes, "bound_pipe": bound_pipe}
    if "tensor" not in pipes:
        latency = replay(roles, arch, blocks=1, sm_shape=known.sm_shape, iterations=_LATENCY_ITERATIONS)
        return LoopFigures(**counted, latency_1block=latency and round(latency, 1)), products
    tensor, bound = pipes["tensor"], pipes[bound_pipe]
    ceiling = round(tensor / bound, 3)
    cycles = replay_range(roles, arch, blocks=occupancy.blocks, sm_shape=known.sm_shape) if occupancy.blocks else None
    if cycles is None:
        return LoopFigures(**counted, ceiling=ceiling), products

    def share(replayed: float) -> float:
        # The replay leaves out bulk copies and operand traffic: never faster than the bound.
        return round(min(ceiling, tensor * occupancy.blocks / replayed), 3)

    sim_range = (share(cycles.most), share(cycles.least))
    return LoopFigures(**counted, ceiling=ceiling, sim=share(cycles.median), sim_range=sim_range), products


def _busy(roles: Sequence[Role], arch: Architecture, known: Known) -> tuple[dict[str, float], float]:
    """Busy cycles of all roles together, bulk copies included."""
    total: Counter[str] = Counter()
    products = 0.0
    for role in roles:
        pipes, made = pipe_cycles(role.instructions, arch, warps=role.warps, sm_shape=known.sm_shape)
        total.update(pipes)
        products += made
    copied = known.bulk_bytes_per_product * products
    if copied:
        total["shared"] += copied / arch.shared_bytes
        total["l2"] += copied / arch.l2_bytes
    return {pipe: round(busy, 1) for pipe, busy in total.items()} or {"issue": 0.0}, products


def _count(instructions: Sequence[Instruction]) -> dict:
    bases = Counter(instruction.base for instruction in instructions)
    return {
        "instructions": len(instructions),
        "mix": dict(bases.most_common(_MIX)),
        "mma": dict(Counter(i.opcode for i in instructions if opcodes.is_mma(i))),
        "special": bases["MUFU"],
        "copy_groups": bases["LDGDEPBAR"],
        "barriers": bases["BAR"],
        "spills": sum(bases[base] for base in opcodes.SPILL),
        "global_access": _accesses(instructions, opcodes.GLOBAL_ACCESS - opcodes.SPILL),
        "shared_access": _accesses(instructions, opcodes.SHARED_ACCESS - {"MOVM"}),
    }


def _accesses(instructions: Sequence[Instruction], kinds: frozenset[str]) -> dict[str, int]:
    widths = Counter(f"{i.base}.{opcodes.access_bytes(i) * 8}" for i in instructions if i.base in kinds)
    return dict(sorted(widths.items()))
