"""Instructions as the replay sees them: what each waits for, occupies and releases."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from lisa_kernels.testing.static import opcodes
from lisa_kernels.testing.static.architectures import Architecture
from lisa_kernels.testing.static.pipes import Shape, cost
from lisa_kernels.testing.static.sass import NO_BARRIER, Instruction

SCOREBOARDS = 6
# Cycles until a result arrives: rounded values of the literature for Volta to Hopper (Jia et al. 2018, Luo et al.
# 2024); "tensor" and "other" are guesses.
LATENCY = {"special": 22.0, "shared": 29.0, "l2": 300.0, "shuffle": 24.0, "syncs": 20.0, "tensor": 18.0, "other": 14.0}
_FP32_LATENCY, _ALU_LATENCY = 5.0, 6.0


@dataclasses.dataclass(slots=True)
class Step:
    """An instruction with all that does not change from one issue to the next."""

    pipe: str
    queues: bool
    cycles: float
    shared_cycles: float
    stall: int
    waits: tuple[int, ...]
    write_barrier: int
    read_barrier: int
    latency: float
    kind: str
    # Committed groups that may stay unfinished behind WARPGROUP.DEPBAR, and threads of a BAR; None for others.
    groups_left: int | None
    commits_group: bool
    barrier_threads: int | None


def make_step(
    instruction: Instruction, arch: Architecture, sm_shape: Shape | None, latency: Mapping[str, float]
) -> Step:
    spent = cost(instruction, arch, sm_shape)
    base = instruction.base
    return Step(
        pipe=spent.pipe,
        queues=base in opcodes.GROUP_MMA or base in opcodes.SM_MMA,
        cycles=spent.cycles,
        shared_cycles=spent.shared_bytes / arch.shared_bytes,
        stall=max(instruction.stall, 1),
        waits=tuple(s for s in range(SCOREBOARDS) if instruction.wait_mask >> s & 1),
        write_barrier=instruction.write_barrier if instruction.write_barrier < SCOREBOARDS else NO_BARRIER,
        read_barrier=instruction.read_barrier if instruction.read_barrier < SCOREBOARDS else NO_BARRIER,
        latency=_latency_of(base, spent.pipe, latency),
        kind=base,
        groups_left=_groups_left(instruction),
        commits_group="gsb0" in instruction.operands,
        barrier_threads=_barrier_threads(instruction),
    )


def _latency_of(base: str, pipe: str, latency: Mapping[str, float]) -> float:
    if pipe in ("fp32", "integer"):
        return _FP32_LATENCY
    if pipe in ("alu", "uniform"):
        return _ALU_LATENCY
    if base == "SHFL":
        return latency["shuffle"]
    if base == "SYNCS":
        return latency["syncs"]
    return latency.get(pipe, latency["other"])


def _groups_left(instruction: Instruction) -> int | None:
    if not instruction.opcode.startswith("WARPGROUP.DEPBAR"):
        return None
    count = re.search(r"0x([0-9a-f]+)\s*$", instruction.operands)
    return int(count[1], 16) if count else 0


def _barrier_threads(instruction: Instruction) -> int | None:
    """Threads that a barrier waits for, 0 for the whole block; None for other instructions."""
    if instruction.base != "BAR" or not {"SYNC", "RED"} & set(instruction.opcode.split(".")):
        return None
    numbers = re.findall(r"0x([0-9a-f]+)", instruction.operands)
    return int(numbers[1], 16) if len(numbers) >= 2 else 0
