"""Figures of an AMD kernel from the assembly text that LLVM prints: registers, waves, matrix instructions, widths.

There is no cycle model for AMD: no ``ceiling`` and no ``sim``.  The resource figures are the code object's metadata
(LLVM, "User Guide for AMDGPU Backend", code object V5 metadata) and LLVM's own occupancy remark.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

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
        limits["shared memory"] = _LDS_BYTES // lds * warps // _SIMDS
    limited_by = min(limits, key=limits.__getitem__)
    return limits[limited_by], limited_by


def _hot_loop(lines: Sequence[str]) -> LoopFigures:
    """The innermost loop with the fewest matrix instructions, the innermost longest loop without any, or all."""
    labels = {match[1]: number for number, line in enumerate(lines) if (match := _LABEL.match(line))}
    spans = []
    for number, line in enumerate(lines):
        if (match := _BRANCH.match(line)) and labels.get(match[1], number) < number:
            spans.append((labels[match[1]], number))
    innermost = [a for a in spans if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in spans)]
    matrix = [span for span in innermost if any(map(_MATRIX.search, lines[slice(*span)]))]
    if matrix:
        start, end = min(matrix, key=lambda span: sum(bool(_MATRIX.search(x)) for x in lines[slice(*span)]))
    elif innermost and not any(map(_MATRIX.search, lines)):
        start, end = max(innermost, key=lambda span: span[1] - span[0])
    else:
        return _figures(lines, "straight code", is_loop=False)
    return _figures(lines[start : end + 1], lines[start].partition(":")[0], is_loop=True)


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
