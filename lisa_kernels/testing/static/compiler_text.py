"""What the SASS does not tell and the compiler's earlier texts do: tcgen05 shapes, bulk copies, roles, dots."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

_ELEMENT_BYTES = {"bf16": 2, "f16": 2, "f32": 4, "f8E4M3FN": 1, "f8E5M2": 1, "i8": 1}
_DOT = re.compile(r"warp_group_dot |tc_gen5_mma |tt\.dot ")
_MMA_CALL = re.compile(r"tcgen05\.mma\.cta_group::\d\.kind::(\w+)\s+\[[^\]]*\],\s*[^,]+,\s*[^,]+,\s*(%?\w+)")


def count_dots(ttir: str) -> int:
    """Return the ``tl.dot`` of a kernel, inlined functions included, from Triton's first intermediate text."""
    return len(re.findall(r"\btt\.dot(?:_scaled)? ", ttir))


def is_warp_specialised(ttgir: str) -> bool:
    """Return whether the warps of a block run different loops at once."""
    return "ttg.warp_specialize" in ttgir


def total_warps(ttgir: str, warps: int) -> int:
    """Return the warps of one block with those of all roles; ``warps`` where the kernel is not specialised."""
    total = re.search(r'"ttg\.total-num-warps" = (\d+)', ttgir)
    return int(total[1]) if total else warps


def tcgen05_shape(ptx: str) -> tuple[int, float, int] | None:
    """Return (M, mean N, K) of the tcgen05 products of a kernel, or None where it has none.

    The shape is in the instruction descriptor, an immediate: PTX ISA 9.0, "Instruction descriptor" of ``tcgen05.mma``:
    N/8 in bits 17..22, M/16 in bits 24..28; K is 32 bytes of the operands' type.
    """
    shapes = []
    for kind, descriptor in _MMA_CALL.findall(ptx):
        value = descriptor
        if descriptor.startswith("%"):
            assigned = re.search(rf"mov\.b32\s+{re.escape(descriptor)},\s*(-?\d+);", ptx)
            if not assigned:
                continue
            value = assigned[1]
        bits = int(value, 0) & 0xFFFFFFFF
        depth = {"tf32": 8, "f16": 16}.get(kind, 32)
        shapes.append(((bits >> 24 & 0x1F) * 16, (bits >> 17 & 0x3F) * 8, depth))
    if not shapes:
        return None
    return shapes[0][0], sum(columns for _, columns, _ in shapes) / len(shapes), shapes[0][2]


def bulk_bytes_per_product(ttgir: str) -> float:
    """Return the bytes that TMA brings to shared memory for one tensor multiply-add, 0 without TMA.

    Read off the innermost loops with a dot: in the SASS the copy's size is hidden in a descriptor.  In a specialised
    kernel other warps copy, in loops of their own that run as often.
    """
    loops = _innermost_loops(ttgir.splitlines())
    with_dot = [loop for loop in loops if any(map(_DOT.search, loop))]
    if not with_dot:
        return 0.0
    smallest = min(with_dot, key=len)
    if copied := _copied_bytes(smallest):
        return copied / _dot_products(smallest) if _dot_products(smallest) else 0.0
    products = sum(map(_dot_products, with_dot))
    if not products or not is_warp_specialised(ttgir):
        return 0.0
    return sum(_copied_bytes(loop) for loop in loops if loop not in with_dot) / products


def _innermost_loops(lines: Sequence[str]) -> list[Sequence[str]]:
    """Bodies of the ``scf.for`` that hold no other; in this text a loop ends where its indent comes back."""
    found = []
    for start, line in enumerate(lines):
        if not re.search(r"\bscf\.for\b", line):
            continue
        closing = line[: len(line) - len(line.lstrip())] + "}"
        end = next((n for n in range(start + 1, len(lines)) if lines[n].startswith(closing)), len(lines))
        body = lines[start + 1 : end]
        if not any(re.search(r"\bscf\.for\b", inner) for inner in body):
            found.append(body)
    return found


def _copied_bytes(lines: Sequence[str]) -> int:
    return sum(_tile_bytes(line) for line in lines if "async_tma_copy_global_to_local" in line)


def _dot_products(lines: Sequence[str]) -> int:
    return sum(_tile_products(line) for line in lines if _DOT.search(line))


def _tile_bytes(line: str) -> int:
    buffers = re.findall(r"!ttg\.memdesc<([0-9x]+)x(\w+),", line)
    if not buffers:
        return 0
    shape, element = buffers[-1]
    return math.prod(map(int, shape.split("x"))) * _ELEMENT_BYTES.get(element, 2)


def _tile_products(line: str) -> int:
    operands = re.findall(r"(?:memdesc|tensor)<([0-9x]+)x(?:b?f\d+\w*|i8)", line)
    if len(operands) < 2:
        return 0
    left, right = ([int(size) for size in shape.split("x")][-2:] for shape in operands[:2])
    return left[0] * left[1] * right[1]
