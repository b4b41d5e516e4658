"""The static figures of one compiled kernel: unitless, read from code, never measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

# A range of seven replays that is wider than this does not measure anything.
WIDEST_RANGE = 0.1


def replays_agree(sim_range: tuple[float, float] | None) -> bool:
    """Whether there were replays and their spread is small enough for ``sim`` to count."""
    return sim_range is not None and sim_range[1] - sim_range[0] <= WIDEST_RANGE


@dataclasses.dataclass(frozen=True)
class LoopFigures:
    """One loop of a kernel, or its straight code where it has none.

    Attributes:
        head: Address or label of its first instruction.
        is_loop: False for straight code.
        instructions: Of one iteration; conditional parts are all counted.
        mix: Instructions by opcode without modifiers, the most frequent first.
        mma: Matrix instructions by full opcode.
        special: exp2, log2, rcp, rsqrt and the like (MUFU; ``v_exp`` ... on AMD).
        barriers: Barriers of a block.
        spills: Loads and stores of spilled registers.
        global_access: Accesses to global memory as ``opcode.bits`` of one lane.
        shared_access: The same for shared memory.
        pipes: Busy cycles of each pipe in one iteration of one block; empty on AMD, for which there is no model.
        bound_pipe: The busiest of them.
        ceiling: Tensor cycles over the busiest pipe's: the most that perfect overlap allows; None without MMA.
        sim: Tensor cycles over the replay's, median of seven; None without MMA or model.
        sim_range: Least and largest of the seven.
        latency_1block: Replayed cycles of one iteration with one resident block, of a loop without MMA.
        copy_groups: Groups of asynchronous copies (``cp.async.commit_group``) of one iteration: as many stages of a
            pipeline as the compiler unrolled.
    """

    head: str
    is_loop: bool
    instructions: int
    mix: dict[str, int]
    mma: dict[str, int]
    special: int
    barriers: int
    spills: int
    global_access: dict[str, int]
    shared_access: dict[str, int]
    pipes: dict[str, float] = dataclasses.field(default_factory=dict)
    bound_pipe: str = ""
    ceiling: float | None = None
    sim: float | None = None
    sim_range: tuple[float, float] | None = None
    latency_1block: float | None = None
    copy_groups: int = 0

    @property
    def is_measured(self) -> bool:
        """Whether the replays agree well enough for ``sim`` to count."""
        return replays_agree(self.sim_range)


@dataclasses.dataclass(frozen=True)
class KernelFigures:
    """All that the compiled code of one kernel tells.

    Attributes:
        kernel: Its name.
        target: ``"sm_90"``, ``"gfx942"``.
        toolchain: What compiled it, ``"triton 3.9.0"``.
        threads: Of one block.
        registers: Of one thread (VGPR on AMD).
        spills: Spill instructions on NVIDIA, spilled registers on AMD.
        stack_bytes: Of one thread.
        shared_bytes: Of one block, static and dynamic.
        blocks_per_sm: Blocks one SM holds; None on AMD.
        waves_per_simd: Waves one SIMD holds; None on NVIDIA.
        limited_by: The resource that keeps more from being resident.
        occupancy: Resident warps over the most.
        instructions: Of the whole kernel.
        dots: ``tl.dot`` in the source, inlined functions included; None for code that is not Triton's.
        mma: Matrix instructions of the whole kernel by opcode without modifiers.
        bulk_copies: TMA instructions.
        loops: The hottest first.
    """

    kernel: str
    target: str
    toolchain: str
    threads: int
    registers: int
    spills: int
    stack_bytes: int
    shared_bytes: int
    blocks_per_sm: int | None
    waves_per_simd: int | None
    limited_by: str
    occupancy: float
    instructions: int
    dots: int | None
    mma: dict[str, int]
    bulk_copies: int
    loops: tuple[LoopFigures, ...]

    @property
    def hot(self) -> LoopFigures:
        """The loop that the gates look at."""
        return self.loops[0]

    @property
    def warps(self) -> int:
        """Warps of one block; waves of 64 on AMD."""
        return self.threads // (64 if self.target.startswith("gfx") else 32)

    def __str__(self) -> str:
        return "\n".join(_describe(self))


def access_bits(name: str) -> int:
    """Return the bits of ``"LDG.128"``."""
    return int(name.rpartition(".")[2])


def from_json(data: Mapping[str, Any]) -> KernelFigures:
    """Return the figures that ``dataclasses.asdict`` turned into JSON."""
    loops = tuple(
        LoopFigures(**{**loop, "sim_range": tuple(loop["sim_range"]) if loop["sim_range"] else None})
        for loop in data["loops"]
    )
    return KernelFigures(**{**data, "loops": loops})


def _describe(figures: KernelFigures) -> Iterable[str]:
    hot = figures.hot
    resident = (
        f"{figures.blocks_per_sm} blocks per SM"
        if figures.blocks_per_sm is not None
        else f"{figures.waves_per_simd} waves per SIMD"
    )
    yield f"{figures.kernel}, {figures.target}, {figures.toolchain}: static figures of compiled code, nothing was run"
    yield (
        f"  registers {figures.registers}, spills {figures.spills}, stack {figures.stack_bytes} B, shared memory "
        f"{figures.shared_bytes / 1024:.1f} KiB, {figures.threads} threads"
    )
    yield f"  {resident}, limited by {figures.limited_by}; occupancy {figures.occupancy:.0%}"
    yield f"  matrix instructions: {_counts(figures.mma) or 'none'}; bulk copies: {figures.bulk_copies}"
    where = f"hot loop at {hot.head}" if hot.is_loop else "no loop, the straight code"
    yield f"  {where}: {hot.instructions} instructions: {_counts(hot.mix)}"
    yield f"    global {_counts(hot.global_access) or 'none'}; shared {_counts(hot.shared_access) or 'none'}"
    yield f"    special functions {hot.special}, barriers {hot.barriers}, spills {hot.spills}"
    if hot.pipes:
        cycles = ", ".join(f"{pipe} {busy:g}" for pipe, busy in sorted(hot.pipes.items(), key=lambda i: -i[1]))
        yield f"    pipe cycles: {cycles}"
    if hot.ceiling is not None:
        yield f"    ceiling {hot.ceiling:.2f}, sim {describe_sim(hot)}"
    if hot.latency_1block is not None:
        yield f"    one iteration with one block resident: {hot.latency_1block:g} model cycles"


def describe_sim(loop: LoopFigures) -> str:
    """Return ``"0.56 (0.54-0.58)"``, or that the replays disagree."""
    if loop.sim is None or loop.sim_range is None:
        return ""
    low, high = loop.sim_range
    text = f"{loop.sim:.2f} ({low:.2f}-{high:.2f})"
    return text if loop.is_measured else f"not measured ({low:.2f}-{high:.2f})"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
