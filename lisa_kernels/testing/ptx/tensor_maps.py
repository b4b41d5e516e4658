"""Tensor maps: what a tensor copy knows of a tensor in global memory (PTX ISA, section "Tensor"; CUDA driver API,
``cuTensorMapEncodeTiled``).

How the 128 bytes of a tensor map are laid out is not public.  Here they have a layout of their own, which
``tensormap.replace`` writes, a launch gives to descriptors made on the host, and ``TensorMap.of`` reads.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from lisa_kernels.testing.ptx.bulk_copies import GRAIN, Box
from lisa_kernels.testing.ptx.faults import PtxError

SIZE = 128
LAYOUT = np.dtype(
    [
        ("global_address", "<u8"), ("global_stride", "<u8", 4), ("global_dim", "<u4", 5), ("box_dim", "<u4", 5),
        ("element_stride", "<u4", 5), ("rank", "<u4"), ("elemtype", "<u4"), ("interleave_layout", "<u4"),
        ("swizzle_mode", "<u4"), ("fill_mode", "<u4"), ("swizzle_atomicity", "<u4"), ("reserved", "V4"),
    ]
)  # fmt: skip
assert LAYOUT.itemsize == SIZE

# Values of .elemtype of tensormap.replace: type, and NaN that takes the place of elements outside the tensor.
_ELEMENTS = {
    0: ("u8", None), 1: ("u16", None), 2: ("u32", None), 3: ("s32", None), 4: ("u64", None), 5: ("s64", None),
    6: ("f16", 0x7FFF), 7: ("f32", 0x7FFFFFFF), 9: ("f64", 0x7FFFFFFFFFFFFFFF), 10: ("bf16", 0x7FFF),
}  # fmt: skip
_BYTES = {"u8": 1, "u16": 2, "f16": 2, "bf16": 2, "u32": 4, "s32": 4, "f32": 4, "u64": 8, "s64": 8, "f64": 8}
# Bytes of a swizzled row, and the bits of the row that are exchanged, by .swizzle_mode.
_SWIZZLES = {0: (0, 0), 1: (32, 1), 2: (64, 3), 3: (128, 7)}


@dataclasses.dataclass(frozen=True)
class TensorMap:
    """A tensor in global memory, and the box of it that one copy moves; dimension 0 is the innermost.

    Attributes:
        strides: Bytes from one element to the next along dimensions 1 and up.
        type: Element type, as in ``values.STORAGE``.
        swizzle: Bytes of the row within which 16-byte pieces are exchanged; 0 for none.
        fill: Element for what lies outside the tensor, as bytes; empty for zeros.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]
    type: str
    swizzle: int
    exchanged: int
    fill: np.ndarray

    @classmethod
    def of(cls, raw: np.ndarray, rank: int) -> TensorMap:
        """Read a tensor map for a copy with ``rank`` coordinates.

        Raises:
            PtxError: Of kind ``bad tensor map`` for fields out of their range, ``unsupported`` for what is not
                modelled.
        """
        fields = np.ascontiguousarray(raw).view(LAYOUT)[0]
        if fields["rank"] + 1 != rank:
            raise _bad(f"it has {int(fields['rank']) + 1} dimensions, and the copy gives {rank} coordinates")
        if int(fields["elemtype"]) not in _ELEMENTS:
            raise PtxError("unsupported", f"tensor maps with element type {fields['elemtype']} are not modelled")
        if fields["interleave_layout"] or int(fields["swizzle_mode"]) not in _SWIZZLES or fields["swizzle_atomicity"]:
            raise PtxError("unsupported", "tensor maps with interleaving or this swizzle mode are not modelled")
        type_name, nan = _ELEMENTS[int(fields["elemtype"])]
        size = _BYTES[type_name]
        if int(fields["fill_mode"]) > 1 or (fields["fill_mode"] and nan is None):
            raise _bad(f"its fill mode is {fields['fill_mode']} and its elements are {type_name}")
        swizzle, exchanged = _SWIZZLES[int(fields["swizzle_mode"])]
        made = cls(
            int(fields["global_address"]),
            tuple(fields["global_dim"][:rank].tolist()),
            tuple(fields["global_stride"][: rank - 1].tolist()),
            tuple(fields["box_dim"][:rank].tolist()),
            type_name,
            swizzle,
            exchanged,
            np.frombuffer(nan.to_bytes(size, "little"), np.uint8) if fields["fill_mode"] else np.zeros(0, np.uint8),
        )
        made._check(fields["element_stride"][:rank].tolist())
        return made

    def _check(self, element_strides: list[int]) -> None:
        line = self.box[0] * _BYTES[self.type]
        if self.address % GRAIN:
            raise _bad(f"its tensor begins at {self.address:#x}, no multiple of {GRAIN}")
        if 0 in self.shape:
            raise _bad(f"its shape is {self.shape}, innermost first; no dimension may be 0")
        if odd := [stride for stride in self.strides if stride % GRAIN or not 0 < stride < 1 << 40]:
            raise _bad(f"a stride is {odd[0]} bytes; it takes multiples of {GRAIN} below 2**40")
        if odd := [size for size in self.box if not 1 <= size <= 256]:
            raise _bad(f"its box is {self.box}, innermost first; a dimension takes 1 to 256 elements")
        if line % GRAIN:
            raise _bad(f"a line of its box has {line} bytes; it takes multiples of {GRAIN}")
        if self.swizzle and line > self.swizzle:
            raise _bad(f"a line of its box has {line} bytes, more than the {self.swizzle} of its swizzle mode")
        if self.swizzle and line < self.swizzle:
            raise PtxError("unsupported", f"boxes with lines of {line} bytes and swizzling over {self.swizzle} bytes")
        if element_strides != [1] * len(element_strides):
            raise PtxError("unsupported", f"tensor maps with element strides {element_strides} are not modelled")

    def box_at(self, coordinates: Sequence[int], offset: int) -> Box:
        """Return the copy of the box whose first element is at ``coordinates``, at an offset in shared memory."""
        size = _BYTES[self.type]
        line_bytes = self.box[0] * size
        places = offset + np.arange(0, math.prod(self.box) * size, GRAIN)
        places ^= (places >> 7 & self.exchanged) << 4
        before = min(max(-coordinates[0], 0), self.box[0])
        after = max(min(self.shape[0] - coordinates[0], self.box[0]), before)
        inside, starts = np.ones(1, bool), np.zeros(1, np.int64)
        # The outermost dimension varies slowest.
        for axis in range(len(self.box) - 1, 0, -1):
            index = coordinates[axis] + np.arange(self.box[axis])
            inside = (inside[:, None] & (index >= 0) & (index < self.shape[axis])).reshape(-1)
            starts = (starts[:, None] + index * self.strides[axis - 1]).reshape(-1)
        lines = np.nonzero(inside)[0] if after > before else np.zeros(0, np.int64)
        first = self.address + (coordinates[0] + before) * size
        return Box(places, line_bytes, first + starts[lines], lines, before * size, (after - before) * size, self.fill)


def encode_tensor_map(
    address: int,
    shape: Sequence[int],
    strides: Sequence[int],
    *,
    box: Sequence[int],
    element_bytes: int,
    element_type: int,
    swizzle_mode: int,
    fill_nan: bool,
) -> bytes:
    """Return the 128 bytes of a tensor map.

    Args:
        shape: Of the tensor, outermost dimension first.
        strides: In elements, outermost first; the last is 1.
        box: Outermost first.
        element_type: Value of ``.elemtype`` of tensormap.replace.
        swizzle_mode: Value of ``.swizzle_mode``.
    """
    fields = np.zeros(1, LAYOUT)
    rank = len(shape)
    fields["global_address"] = address
    fields["global_stride"][0, : rank - 1] = [stride * element_bytes for stride in strides[:-1]][::-1]
    fields["global_dim"][0, :rank] = shape[::-1]
    fields["box_dim"][0, :rank] = box[::-1]
    fields["element_stride"][0, :rank] = 1
    fields["rank"], fields["elemtype"] = rank - 1, element_type
    fields["swizzle_mode"], fields["fill_mode"] = swizzle_mode, int(fill_nan)
    return fields.tobytes()


def _bad(detail: str) -> PtxError:
    return PtxError("bad tensor map", detail)
