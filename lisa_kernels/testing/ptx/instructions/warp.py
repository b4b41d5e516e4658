"""Exchange within a warp (PTX ISA, section "Parallel Synchronization and Communication Instructions: shfl.sync,
vote.sync, match.sync, redux.sync, activemask, elect.sync")."""

from __future__ import annotations

import numpy as np

from lisa_kernels.testing.ptx.block import Block
from lisa_kernels.testing.ptx.module import Instruction
from lisa_kernels.testing.ptx.operands import Operand, Pair
from lisa_kernels.testing.ptx.syntax import instruction

_REDUCTIONS = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}


def assemble(
    block: Block, needed: np.ndarray, kind: str, detail: str, *, group: int = 32, ended_may_miss: bool = True
) -> bool:
    """Hold back the warps whose needed lanes are not all here; return whether any warp is complete.

    Args:
        needed: ``[threads]`` lanes that must take part.
        kind: Of the fault if they never come; ``detail`` says what happened.
        group: Threads that belong together: a warp, or a warpgroup.
        ended_may_miss: Nobody waits for threads that have ended or end later, as on sm_70 and up.
    """
    missing = needed & ~block.active
    if ended_may_miss:
        missing &= ~block.threads.exited
    if not missing.any():
        return True
    groups = block.all_lanes // group
    block.threads.absorb_parked(np.isin(groups, np.unique(groups[block.lanes])))
    missing &= ~block.active
    if not missing.any():
        return True
    incomplete = np.isin(groups, np.unique(groups[missing]))
    held = block.active & incomplete
    fault = block.fail(kind, f"{detail}; {np.count_nonzero(missing)} of them never come", np.nonzero(held)[0])
    block.threads.park(held, fault)
    rest = block.active & ~held
    block.set_active(rest)
    return bool(rest.any())


def assemble_members(block: Block, masks: Operand) -> bool:
    """Hold back warps until the lanes that their member mask names are here; see ``assemble``."""
    members = block.read(masks, "u32")
    if block.full and (members == 0xFFFFFFFF).all():
        return True
    own = (members >> block.lane_in_warp.astype(np.uint32)) & 1
    outside = block.active & (own == 0)
    if outside.any():
        raise block.fail("bad sync mask", "a thread executes it and is not in its member mask", np.nonzero(outside)[0])
    first_active = np.zeros(len(block.launch.all_warps), np.uint32)
    first_active[block.warps[block.lanes[::-1]]] = members[block.lanes[::-1]]
    if (members != first_active[block.warps])[block.lanes].any():
        raise block.fail("bad sync mask", "threads of one warp name different member masks", block.lanes)
    needed = ((first_active[block.warps] >> block.lane_in_warp.astype(np.uint32)) & 1).astype(bool)
    return assemble(block, needed, "bad sync mask", "its member mask names threads that do not execute it")


def assemble_warps(block: Block) -> bool:
    """Hold back warps until all their lanes are here, for matrix instructions: they need the registers of all."""
    if block.full:
        return True
    needed = np.isin(block.warps, block.active_warps())
    detail = "all threads of the warp must execute it"
    return assemble(block, needed, "bad sync mask", detail, ended_may_miss=False)


@instruction("shfl.sync.(up|down|bfly|idx).b32")
def shuffle(block: Block, inst: Instruction) -> None:
    target, source, offset, clamp, masks = inst.operands
    if not assemble_members(block, masks):
        return
    mode, lane = inst.modifiers[1], block.lane_in_warp
    by = block.read(offset, "u32").astype(np.int64) & 31
    limits = block.read(clamp, "u32").astype(np.int64)
    segment = limits >> 8 & 31
    bound = (lane & segment) | (limits & 31 & ~segment)
    other = {
        "up": lane - by,
        "down": lane + by,
        "bfly": lane ^ by,
        "idx": (lane & segment) | (by & ~segment),
    }[mode]
    inside = other >= bound if mode == "up" else other <= bound
    other = block.warps * 32 + np.where(inside, other, lane)
    beyond = other >= block.count
    other = np.where(beyond, block.all_lanes, other)
    # The ISA leaves the value undefined, not the act: NVIDIA's own reductions over part of a warp read such registers
    # and use the result in no lane that counts.  All ones are NaN in every float type, and a wild index.
    values = np.where(block.active[other] & ~beyond, block.read(source, "b32")[other], np.uint32(0xFFFFFFFF))
    if isinstance(target, Pair):
        block.write(target.first, values)
        block.write(target.second, inside)
    else:
        block.write(target, values)


@instruction("vote.sync.(any|all|uni).pred", "vote.sync.ballot.b32")
def vote(block: Block, inst: Instruction) -> None:
    target, source, masks = inst.operands
    if not assemble_members(block, masks):
        return
    predicate = block.read(source, "pred")
    functions = {
        "any": lambda chosen: chosen.any(),
        "all": lambda chosen: chosen.all(),
        "uni": lambda chosen: chosen.all() or not chosen.any(),
    }
    if inst.modifiers[1] == "ballot":
        block.write(target, _per_warp(block, lambda lanes: _mask_of(block, lanes[predicate[lanes]])))
    else:
        block.write(target, _per_warp(block, lambda lanes: functions[inst.modifiers[1]](predicate[lanes])).astype(bool))


@instruction(
    "redux.sync.(add|min|max).(u32|s32)", "redux.sync.(and|or|xor).b32", "redux.sync.(min|max)[.abs][.NaN].f32"
)
def reduce(block: Block, inst: Instruction) -> None:
    target, source, masks = inst.operands
    if not assemble_members(block, masks):
        return
    values = block.read(source, inst.type)
    operation = inst.modifiers[1]
    if inst.type != "f32":
        function = _REDUCTIONS[operation]
        block.write(target, _per_warp(block, lambda lanes: int(function.reduce(values[lanes])) & 0xFFFFFFFF))
        return
    values = np.abs(values) if "abs" in inst.modifiers else values
    plain = {"min": np.fmin, "max": np.fmax}[operation]
    function = _REDUCTIONS[operation] if "NaN" in inst.modifiers else plain
    result = np.zeros(block.count, np.float32)
    for warp in block.active_warps():
        lanes = block.lanes[block.warps[block.lanes] == warp]
        result[lanes] = function.reduce(values[lanes])
    block.write(target, result)


@instruction("activemask.b32")
def active_mask(block: Block, inst: Instruction) -> None:
    block.write(inst.operands[0], _per_warp(block, lambda lanes: _mask_of(block, lanes)))


@instruction("match.any.sync.(b32|b64)", "match.all.sync.(b32|b64)")
def match(block: Block, inst: Instruction) -> None:
    target, source, masks = inst.operands
    if not assemble_members(block, masks):
        return
    values = block.read(source, inst.type)
    result = np.zeros(block.count, np.uint32)
    same = np.zeros(block.count, bool)
    for warp in block.active_warps():
        lanes = block.lanes[block.warps[block.lanes] == warp]
        equal = values[lanes][:, None] == values[lanes]
        same[lanes] = equal.all()
        if inst.modifiers[0] == "all":
            result[lanes] = _mask_of(block, lanes) if equal.all() else 0
        else:
            result[lanes] = [_mask_of(block, lanes[row]) for row in equal]
    block.write(target.first if isinstance(target, Pair) else target, result)
    if isinstance(target, Pair):
        block.write(target.second, same)


@instruction("elect.sync")
def elect(block: Block, inst: Instruction) -> None:
    target, masks = inst.operands
    if not assemble_members(block, masks):
        return
    leaders = _per_warp(block, lambda lanes: int(block.lane_in_warp[lanes[0]]))
    if isinstance(target, Pair):
        block.write(target.first, leaders)
        block.write(target.second, block.lane_in_warp == leaders)
    else:
        block.write(target, leaders)


def _per_warp(block: Block, function) -> np.ndarray:
    """One number for each warp, from its active lanes, spread over its lanes."""
    result = np.zeros(block.count, np.uint32)
    for warp in block.active_warps():
        lanes = block.lanes[block.warps[block.lanes] == warp]
        result[lanes] = function(lanes)
    return result


def _mask_of(block: Block, lanes: np.ndarray) -> int:
    return int((1 << block.lane_in_warp[lanes]).sum())
