"""In-order replay of a loop on one SM sub-partition, from the control codes that the assembler wrote.

One issue a cycle; a warp issues when its stall count has passed, the scoreboards it waits for are clear and its pipe
is free; the scheduler stays with a warp until it stalls.  Warp-group and tcgen05 products queue behind each other and
do not hold the issue port.  All resident blocks run the loop, each warp with its own start skew.  Memory has arrived:
prefetch is perfect.  Nothing here is measured on a GPU: rates are of ``architectures.py``, latencies of the literature.
Warps that no barrier ties together may run one after the other and look faster than their shared pipe allows, so a
figure made of the result is cut at the busiest pipe's bound (``nvidia.py``).

How far the result can be trusted.  Against some 15 published H100 and A100 figures of public kernels it was 0.95 to
1.51 times the published fraction of peak (mean 1.23 for matmul, 1.44 for attention): optimistic, with big steps in the
right order (rank correlation 0.97 on 12 points; few points, and the L2 rate was set after seeing the matmul ones, so
that part is a fit).

* Good for: spills, a wrong kind of MMA, tiles that are too small, lost blocks per SM, masks or conversions that become
  the bound, lost overlap, regressions of one configuration.
* Not for: differences under 15 %, the choice of tile sizes, hidden latency, L2 hit rate, bank conflicts, scheduling,
  tails, power.
* A change counts when the ranges do not overlap and the medians differ by 15 % or more, or the bounding pipe changes.
* A range wider than 0.1 counts as not measured: the replay locks into one phase or another.
* Rates of sm_100 and sm_120 are guesses.

The result is cycles of the model, to be divided by other cycles of the model, and never a time.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from lisa_kernels.testing.static.architectures import Architecture
from lisa_kernels.testing.static.pipes import PARTITIONS, Shape
from lisa_kernels.testing.static.replay_steps import LATENCY, SCOREBOARDS, Step, make_step
from lisa_kernels.testing.static.sass import NO_BARRIER, Instruction

TRUST = (
    "sim is a model: 0.95 to 1.51 times the published fraction of peak on some 15 public kernels (optimistic); it "
    "counts where ranges do not overlap and medians differ by 15 %; blind to caches, bank conflicts, hidden latency, "
    "tails and power; sm_100 and sm_120 rates are guesses."
)
# (factor on every latency, cycles between the starts of two warps) of the replays behind one range.
VARIATIONS = ((1.0, 7), (0.75, 7), (1.25, 7), (1.0, 131), (0.85, 61), (1.15, 211), (1.0, 400))
_ITERATIONS = 15
_MOST_STEPS = 5_000_000
_OPERANDS_READ, _BARRIER_COST, _ASYNC_START = 10.0, 20.0, 4.0


@dataclasses.dataclass(frozen=True)
class Role:
    """A loop and the warps of a block that run it; a kernel that is not warp-specialised has one role."""

    instructions: tuple[Instruction, ...]
    warps: int


@dataclasses.dataclass(frozen=True)
class CycleRange:
    """Cycles of one iteration of all resident blocks over the replays."""

    least: float
    median: float
    most: float


def replay_range(
    roles: Sequence[Role], arch: Architecture, *, blocks: int, sm_shape: Shape | None = None
) -> CycleRange | None:
    """Return the range over seven replays with other latencies and start skews, or None where none ends.

    Args:
        blocks: Resident blocks of one SM.
    """
    cycles = []
    for factor, skew in VARIATIONS:
        latency = {kind: value * factor for kind, value in LATENCY.items()}
        found = replay(roles, arch, blocks=blocks, sm_shape=sm_shape, latency=latency, skew=skew)
        if found is not None:
            cycles.append(found)
    cycles.sort()
    return CycleRange(cycles[0], cycles[len(cycles) // 2], cycles[-1]) if cycles else None


def replay(
    roles: Sequence[Role],
    arch: Architecture,
    *,
    blocks: int,
    sm_shape: Shape | None = None,
    latency: Mapping[str, float] = LATENCY,
    skew: int = 7,
    iterations: int = _ITERATIONS,
) -> float | None:
    """Return the cycles in which every resident block finishes one more iteration, or None where the loop never ends.

    Args:
        latency: Cycles until a result arrives, by the kinds of ``LATENCY``.
        skew: Cycles between the starts of two warps.
        iterations: Of each warp; the first third and the last three are not counted.
    """
    return _SubPartition(roles, arch, blocks, sm_shape, latency, skew).run(iterations)


@dataclasses.dataclass(slots=True)
class _Warp:
    steps: list[Step]
    block: int
    place: int
    siblings: int
    ready: float
    position: int = 0
    iteration: int = 0
    arrived: bool = False
    group_end: float = 0.0
    scoreboards: list[float] = dataclasses.field(default_factory=lambda: [0.0] * SCOREBOARDS)
    groups: list[float] = dataclasses.field(default_factory=list)
    ends: list[float] = dataclasses.field(default_factory=list)


class _SubPartition:
    def __init__(
        self,
        roles: Sequence[Role],
        arch: Architecture,
        blocks: int,
        sm_shape: Shape | None,
        latency: Mapping[str, float],
        skew: int,
    ) -> None:
        self.arch = arch
        self.latency = latency
        programs = []
        for role in roles:
            steps = [make_step(instruction, arch, sm_shape, latency) for instruction in role.instructions]
            programs += [steps] * max(1, role.warps // PARTITIONS)
        self.warps = [
            _Warp(steps, block, place, len(programs), float((block * len(programs) + place) * skew))
            for block in range(blocks)
            for place, steps in enumerate(programs)
        ]
        self.free: defaultdict[str, float] = defaultdict(float)
        self.barriers: dict[tuple[int, ...], list[_Warp]] = {}

    def run(self, iterations: int) -> float | None:
        warps, time, last = self.warps, 0.0, 0
        running = len(warps)
        for _ in range(_MOST_STEPS):
            if not running:
                break
            soonest, chosen = math.inf, None
            for offset in range(len(warps)):
                number = (last + offset) % len(warps)
                warp = warps[number]
                if warp.iteration >= iterations or warp.arrived:
                    continue
                ready = self._ready_at(warp)
                if ready <= time:
                    chosen = number
                    break
                soonest = min(soonest, ready)
            if chosen is None:
                if soonest == math.inf:
                    break
                time = max(time + 1, float(math.ceil(soonest)))
                continue
            last = chosen
            running -= self._issue(warps[chosen], time, iterations)
            time += 1
        return _mean_iteration(warps, iterations)

    def _ready_at(self, warp: _Warp) -> float:
        step = warp.steps[warp.position]
        ready = warp.ready
        for scoreboard in step.waits:
            ready = max(ready, warp.scoreboards[scoreboard])
        if step.groups_left is not None and len(warp.groups) > step.groups_left:
            ready = max(ready, warp.groups[len(warp.groups) - step.groups_left - 1])
        if step.pipe != "issue" and not step.queues:
            ready = max(ready, self.free[step.pipe])
        return ready

    def _issue(self, warp: _Warp, time: float, iterations: int) -> bool:
        """Issue the warp's next instruction; return whether the warp has ended."""
        step = warp.steps[warp.position]
        arrives = self._occupy(warp, step, time)
        if step.write_barrier != NO_BARRIER:
            warp.scoreboards[step.write_barrier] = max(warp.scoreboards[step.write_barrier], arrives)
        if step.read_barrier != NO_BARRIER:
            read = time + _OPERANDS_READ
            warp.scoreboards[step.read_barrier] = max(warp.scoreboards[step.read_barrier], read)
        warp.ready = time + step.stall
        if step.barrier_threads is not None:
            self._meet(warp, step.barrier_threads, time)
        warp.position += 1
        if warp.position < len(warp.steps):
            return False
        warp.position = 0
        warp.iteration += 1
        warp.ends.append(time)
        return warp.iteration >= iterations

    def _occupy(self, warp: _Warp, step: Step, time: float) -> float:
        """Book the pipe and return when the result arrives."""
        free, pipe = self.free, step.pipe
        if pipe == "issue":
            return time + step.latency
        if step.queues:
            free["tensor"] = max(time + _ASYNC_START, free["tensor"]) + max(step.cycles, step.shared_cycles)
            warp.group_end = free["tensor"] + step.latency
            if step.commits_group:
                warp.groups.append(warp.group_end)
            return warp.group_end
        if pipe == "tensor":
            free["tensor"] = max(free["tensor"], time) + step.cycles
        elif pipe == "fp32" and step.cycles <= 1:
            # Two halves of 16 lanes; integer multiplies occupy one of them for two cycles.
            free["fp32"] = time if free["integer"] <= time else time + 2
            return time + step.latency
        else:
            free[pipe] = time + step.cycles
            if step.kind == "LDGSTS":
                free["shared"] = max(free["shared"], time) + step.shared_cycles * PARTITIONS
        if pipe in ("fp32", "integer", "alu", "uniform"):
            return time + step.latency
        return time + step.cycles + step.latency

    def _meet(self, warp: _Warp, threads: int, time: float) -> None:
        """Hold a warp at a barrier until all that it waits for are there."""
        wanted = warp.siblings if threads == 0 else max(1, min(warp.siblings, threads // (32 * PARTITIONS)))
        if wanted == 1:
            warp.ready = max(warp.ready, time + _BARRIER_COST)
            return
        key = (warp.block, warp.position, warp.iteration, warp.place // wanted)
        waiting = self.barriers.setdefault(key, [])
        waiting.append(warp)
        warp.arrived = len(waiting) < wanted
        if not warp.arrived:
            for other in self.barriers.pop(key):
                other.arrived = False
                other.ready = max(other.ready, time + _BARRIER_COST)


def _mean_iteration(warps: Sequence[_Warp], iterations: int) -> float | None:
    if not all(warp.ends for warp in warps):
        return None
    first, last = iterations // 3, iterations - 3
    means = [(warp.ends[last] - warp.ends[first]) / (last - first) for warp in warps if len(warp.ends) > last + 1]
    return sum(means) / len(means) if means else None
