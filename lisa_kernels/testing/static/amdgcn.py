"""Figures of an AMD kernel from the assembly text that LLVM prints: registers, waves, matrix instructions, widths.

There is no cycle model for AMD: no ``ceiling`` and no ``sim``.  The resource figures are the code object's metadata
(LLVM, "User Guide for AMDGPU Backend", code object V5 metadata) and LLVM's own occupancy remark.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from lisa_kernels.testing.static.control_flow import natural_loops
from lisa_kernels.testing.static.figures import KernelFigures, LoopFigures

_LABEL = re.compile(r"^(\.?LBB\d+_\d+):")
_BRANCH = re.compile(r"\s+s_(?:c)?branch\w*\s+(\.?LBB\d+_\d+)")
_OPCODE = re.compile(r"\s+((?:v|s|ds|global|flat|buffer|scratch)_\w+)")
_SPECIAL = re.compile(r"v_(exp|log|rcp|rsq|sqrt|sin|cos)_")
_MATRIX = re.compile(r"mfma|wmma")
_GLOBAL = re.compile(r"(buffer|global|flat)_(load|store|atomic)")
_SHARED = re.compile(r"ds_(read|write|load|store)")
_WAVES_PER_SIMD, _SIMDS, _LDS_BYTES, _LANES = 8, 4, 64 * 1024, 64
_MIX = 14


def read_amdgcn(
    text: str, *, kernel: str, target: str, warps: int, dynamic_shared_bytes: int, toolchain: str, dots: int | None
) -> KernelFigures:
    """Return the figures of one kernel.

    Args:
        text: Assembly with metadata, Triton's ``asm["amdgcn"]``.
        warps: Waves of one block.
        dynamic_shared_bytes: LDS given at launch.
        dots: ``tl.dot`` in the source.

    Raises:
        ValueError: The text holds no kernel metadata.
    """
    vector, spilled = _metadata(text, "vgpr_count"), _metadata(text, "vgpr_spill_count")
    if vector is None:
        raise ValueError("read_amdgcn: text has no .vgpr_count; it takes the assembly of one kernel with metadata.")
    lds = (_metadata(text, "group_segment_fixed_size") or 0) + dynamic_shared_bytes
    resident, limited_by = _resident_waves(text, lds, warps)
    lines = text.splitlines()
    everything = _opcodes(lines)
    return KernelFigures(
        kernel=kernel,
        target=target,
        toolchain=toolchain,
        threads=warps * _LANES,
        registers=vector,
        spills=(spilled or 0) + (_metadata(text, "sgpr_spill_count") or 0),
        stack_bytes=_metadata(text, "private_segment_fixed_size") or 0,
        shared_bytes=lds,
        blocks_per_sm=None,
        waves_per_simd=resident,
        limited_by=limited_by,
        occupancy=resident / _WAVES_PER_SIMD,
        instructions=sum(everything.values()),
        dots=dots,
        mma={name: count for name, count in everything.items() if _MATRIX.search(name)},
        bulk_copies=0,
        loops=(_hot_loop(lines),),
    )


def _metadata(text: str, key: str) -> int | None:
    match = re.search(rf"\.{key}:\s+(\d+)", text)
    return int(match[1]) if match else None


def _resident_waves(text: str, lds: int, warps: int) -> tuple[int, str]:
    """Waves of one SIMD and what limits them: LLVM's remark counts registers but not the LDS given at launch."""
    remark = re.search(r"; Occupancy:\s*(\d+)", text)
    limits = {"waves": _WAVES_PER_SIMD, "registers": int(remark[1]) if remark else 0}
    if lds:
        limits["shared memory"] = math.ceil(_LDS_BYTES // lds * warps / _SIMDS)
    limited_by = min(limits, key=limits.__getitem__)
    return limits[limited_by], limited_by


def _hot_loop(lines: Sequence[str]) -> LoopFigures:
    """The innermost loop with the fewest matrix instructions, the innermost longest loop without any, or all.

    A loop is all blocks that can come back to its head: LLVM often puts masked loads and stores behind the branch back.
    """
    blocks, successors = _blocks(lines)
    bodies = [body for body, _ in natural_loops(len(blocks), successors).values()]
    loops = [[line for b in sorted(body) for line in blocks[b]] for body in bodies if not any(o < body for o in bodies)]
    matrix = [loop for loop in loops if _count_matrix(loop)]
    if matrix:
        hot = min(matrix, key=_count_matrix)
    elif loops and not _count_matrix(lines):
        hot = max(loops, key=len)
    else:
        return _figures(lines, "straight code", is_loop=False)
    label = _LABEL.match(hot[0])
    return _figures(hot, label[1] if label else "start", is_loop=True)


def _blocks(lines: Sequence[str]) -> tuple[list[list[str]], dict[int, set[int]]]:
    """Basic blocks as lines, and where each goes."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        if _LABEL.match(line):
            blocks.append([])
        blocks[-1].append(line)
        if _BRANCH.match(line) or "s_endpgm" in line:
            blocks.append([])
    at = {match[1]: b for b, block in enumerate(blocks) if block and (match := _LABEL.match(block[0]))}
    successors: dict[int, set[int]] = {b: set() for b in range(len(blocks))}
    for b, block in enumerate(blocks):
        last = block[-1] if block else ""
        branch = _BRANCH.match(last)
        if branch and branch[1] in at:
            successors[b].add(at[branch[1]])
        ends = "s_endpgm" in last or (branch and "s_branch" in last)
        if not ends and b + 1 < len(blocks):
            successors[b].add(b + 1)
    return blocks, successors


def _count_matrix(lines: Sequence[str]) -> int:
    return sum(bool(_MATRIX.search(line)) for line in lines)


def _figures(lines: Sequence[str], head: str, *, is_loop: bool) -> LoopFigures:
    counts = _opcodes(lines)
    return LoopFigures(
        head=head,
        is_loop=is_loop,
        instructions=sum(counts.values()),
        mix=dict(counts.most_common(_MIX)),
        mma={name: count for name, count in counts.items() if _MATRIX.search(name)},
        special=sum(count for name, count in counts.items() if _SPECIAL.match(name)),
        barriers=counts["s_barrier"],
        spills=sum(count for name, count in counts.items() if name.startswith("scratch_")),
        global_access=_accesses(counts, _GLOBAL),
        shared_access=_accesses(counts, _SHARED),
    )


def _opcodes(lines: Sequence[str]) -> Counter[str]:
    return Counter(match[1] for line in lines if (match := _OPCODE.match(line)))


def _accesses(counts: Counter[str], kind: re.Pattern[str]) -> dict[str, int]:
    found = {f"{name}.{_bits(name)}": count for name, count in counts.items() if kind.match(name)}
    return dict(sorted(found.items()))


def _bits(opcode: str) -> int:
    """Bits of one lane: ``dwordx4``, ``b128``, ``ushort``, ``read2_b32`` ..."""
    pair = 2 if re.search(r"(read|write|load|store)2", opcode) else 1
    if match := re.search(r"dwordx(\d)", opcode):
        return 32 * int(match[1])
    if match := re.search(r"_[biuf](\d+)", opcode):
        return pair * int(match[1])
    if "short" in opcode:
        return 16
    return 8 if "byte" in opcode else 32
