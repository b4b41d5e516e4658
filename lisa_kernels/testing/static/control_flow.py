"""Basic blocks, loops and the hot loop of a kernel (dominators and natural loops: Aho et al., 2006, section 9.6)."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Callable, Mapping

from lisa_kernels.testing.static import opcodes
from lisa_kernels.testing.static.sass import Function, Instruction

_BRANCHES = ("BRA", "BRX", "JMP", "EXIT", "RET", "BREAK", "CALL")
_LEAVES = ("EXIT", "RET", "BRX", "JMP")
# Shorter loops are waits on a barrier or copies of a few words.
_SHORTEST_LOOP = 8
# Roles of a warp-specialised kernel are at least this long.
_SHORTEST_ROLE = 20


@dataclasses.dataclass(frozen=True)
class Graph:
    """Control-flow graph: block ``i`` holds ``instructions[blocks[i][0]:blocks[i][1]]``."""

    instructions: tuple[Instruction, ...]
    blocks: tuple[tuple[int, int], ...]
    successors: dict[int, set[int]]


@dataclasses.dataclass(frozen=True)
class Loop:
    """Instructions of one iteration, in address order; conditional blocks are all counted.

    Attributes:
        instructions: The body; of a kernel without the loop it should have, the straight code instead.
        is_loop: False where the body is straight code.
        has_mma: Whether it holds a tensor-core instruction.
        wraps_mma_loop: Whether a loop inside it does.
    """

    instructions: tuple[Instruction, ...]
    is_loop: bool = True
    has_mma: bool = False
    wraps_mma_loop: bool = False

    @property
    def head(self) -> int:
        """Address of the first instruction."""
        return self.instructions[0].address

    def holds(self, other: Loop) -> bool:
        """Return whether the other loop starts inside this one."""
        return other is not self and self.head <= other.head <= self.instructions[-1].address


def build_graph(function: Function) -> Graph:
    """Return the control-flow graph of one kernel."""
    instructions, labels = function.instructions, function.labels
    position = {instruction.address: i for i, instruction in enumerate(instructions)}
    leaders = {instructions[0].address, *labels.values()}
    targets: dict[int, list[int]] = {}
    for i, instruction in enumerate(instructions):
        if instruction.base not in _BRANCHES:
            continue
        if i + 1 < len(instructions):
            leaders.add(instructions[i + 1].address)
        targets[i] = [labels[label] for label in _branch_labels(instruction) if label in labels]
    starts = sorted(position[address] for address in leaders if address in position)
    blocks = tuple(zip(starts, [*starts[1:], len(instructions)], strict=True))
    block_at = {instructions[start].address: b for b, (start, _) in enumerate(blocks)}
    successors: dict[int, set[int]] = defaultdict(set)
    for b, (_, end) in enumerate(blocks):
        last = instructions[end - 1]
        successors[b].update(block_at[address] for address in targets.get(end - 1, ()))
        leaves = last.base == "BRA" or last.base in _LEAVES
        if b + 1 < len(blocks) and (not leaves or _falls_through(last)):
            successors[b].add(b + 1)
    return Graph(instructions, blocks, successors)


def _branch_labels(branch: Instruction) -> list[str]:
    """Where a branch may go; of a jump table (``BRX``) nvdisasm lists the targets in a comment."""
    if branch.base == "BRA":
        return re.findall(r"`\((\.[\w.$]+)\)", branch.operands)
    if branch.base == "BRX" and (table := re.search(r'BRANCH_TARGETS ([^"]+)"', branch.operands)):
        return table[1].split(",")
    return []


def _falls_through(branch: Instruction) -> bool:
    """A branch is conditional by its predicate, by a predicate operand (``BRA P0, ...``, ``BRA.U UP0, ...``), or by
    what it asks of the warp: ``BRA.DIV`` is taken where lanes have parted, before a shuffle.
    """
    if branch.is_conditional:
        return True
    asks_warp = branch.opcode.startswith(("BRA.DIV", "BRA.CONV"))
    return asks_warp or (branch.base == "BRA" and bool(re.match(r"!?U?P\d", branch.operands)))


def find_loops(graph: Graph, is_work: Callable[[Instruction], bool]) -> list[Loop]:
    """Return the loops that do work, spins and tiny copies left out.

    Args:
        is_work: Whether an instruction occupies a pipe; a loop without one is a wait.
    """
    bodies = natural_loops(len(graph.blocks), graph.successors)
    found = []
    for head, (body, latches) in bodies.items():
        # Blocks that the compiler moved behind the latch are the rare way.
        inside = sorted(b for b in body if head <= b <= max(latches))
        instructions = tuple(i for b in inside for i in graph.instructions[slice(*graph.blocks[b])])
        if len(instructions) < _SHORTEST_LOOP or not any(map(is_work, instructions)):
            continue
        wraps = any(
            other != head and other in body and _has_mma(graph, other_body) for other, (other_body, _) in bodies.items()
        )
        has_mma = any(map(opcodes.is_mma, instructions))
        found.append(Loop(instructions, has_mma=has_mma, wraps_mma_loop=wraps))
    return found


def hot_loops(function: Function, loops: list[Loop]) -> list[Loop]:
    """Return the candidates for the hot loop: innermost loops with MMA, else innermost loops, else straight code."""
    if with_mma := [loop for loop in loops if loop.has_mma and not loop.wraps_mma_loop]:
        return with_mma
    mma = [i for i, instruction in enumerate(function.instructions) if opcodes.is_mma(instruction)]
    if mma:
        return [Loop(function.instructions[mma[0] : mma[-1] + 1], is_loop=False, has_mma=True)]
    innermost = [loop for loop in loops if not any(loop.holds(other) for other in loops)]
    return innermost or [Loop(function.instructions, is_loop=False)]


def role_loops(loops: list[Loop]) -> list[Loop]:
    """Return the loops of a warp-specialised kernel that run at once: its innermost ones with MMA, others outermost.

    A loop around one with MMA is a walk over tiles, or the loop in which idle warps wait for their role.  Two loops of
    one role that follow each other are counted as if they ran at once.
    """
    long = [loop for loop in loops if len(loop.instructions) >= _SHORTEST_ROLE and not loop.wraps_mma_loop]
    return [loop for loop in long if not any(other.holds(loop) for other in long)]


def _has_mma(graph: Graph, body: set[int]) -> bool:
    return any(opcodes.is_mma(i) for b in body for i in graph.instructions[slice(*graph.blocks[b])])


def natural_loops(count: int, successors: Mapping[int, set[int]]) -> dict[int, tuple[set[int], set[int]]]:
    """Return head block -> (blocks of the loop, blocks that branch back) of ``count`` blocks, entered at block 0."""
    predecessors: dict[int, set[int]] = defaultdict(set)
    # Padding behind a jump is reached by nobody: it must not count as a way into the block that follows it.
    for block in _reachable(successors):
        for successor in successors.get(block, ()):
            predecessors[successor].add(block)
    dominators = _dominators(count, predecessors)
    loops: dict[int, tuple[set[int], set[int]]] = {}
    for latch in sorted(_reachable(successors)):
        for head in successors.get(latch, set()) & dominators[latch]:
            body, pending = {head}, [latch]
            while pending:
                block = pending.pop()
                if block not in body:
                    body.add(block)
                    pending.extend(predecessors[block])
            blocks, latches = loops.setdefault(head, (set(), set()))
            blocks |= body
            latches.add(latch)
    return dict(sorted(loops.items()))


def _reachable(successors: Mapping[int, set[int]]) -> set[int]:
    reached, pending = set(), [0]
    while pending:
        block = pending.pop()
        if block not in reached:
            reached.add(block)
            pending.extend(successors.get(block, ()))
    return reached


def _dominators(count: int, predecessors: dict[int, set[int]]) -> list[set[int]]:
    dominators = [set(range(count)) for _ in range(count)]
    dominators[0] = {0}
    changed = True
    while changed:
        changed = False
        for block in range(1, count):
            before = [dominators[p] for p in predecessors[block]]
            now = (set.intersection(*before) if before else set()) | {block}
            if now != dominators[block]:
                dominators[block], changed = now, True
    return dominators
