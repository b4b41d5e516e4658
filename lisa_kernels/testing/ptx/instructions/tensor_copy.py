"""Copies of boxes of tensors, and tensor maps made by the kernel (PTX ISA, section "Data Movement and Conversion
Instructions: cp.async.bulk.tensor, cp.reduce.async.bulk.tensor, tensormap.replace, tensormap.cp_fenceproxy").

Tiled mode only, in one block: im2col, gather and scatter, multicast and pairs of blocks are refused.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lisa_kernels.testing.ptx.block import Block
from lisa_kernels.testing.ptx.bulk_copies import Box
from lisa_kernels.testing.ptx.instructions.bulk_copy import HINT, check_multiple
from lisa_kernels.testing.ptx.instructions.mbarrier import mbarrier_addresses
from lisa_kernels.testing.ptx.instructions.warp import assemble_warps
from lisa_kernels.testing.ptx.memory import WINDOWS
from lisa_kernels.testing.ptx.module import Instruction
from lisa_kernels.testing.ptx.operands import Address, Immediate
from lisa_kernels.testing.ptx.syntax import instruction
from lisa_kernels.testing.ptx.tensor_maps import LAYOUT, SIZE, TensorMap

_RANK = "(1d|2d|3d|4d|5d)"
# Of the box in shared memory, and of a tensor map.
_ALIGNMENT = 128
_MAP_ALIGNMENT = 64


@instruction(
    f"cp.async.bulk.tensor.{_RANK}.(shared::cluster|shared::cta).global[.tile].mbarrier::complete_tx::bytes{HINT}"
)
def load(block: Block, inst: Instruction) -> None:
    target, source, barrier, *_ = inst.operands
    barriers, offsets = mbarrier_addresses(block, inst, barrier), block.addresses(target)
    check_multiple(block, offsets, _ALIGNMENT, "an address in shared memory")
    for i, (lane, tensor_map, coordinates) in enumerate(_tensor_maps(block, source)):
        box = tensor_map.box_at(coordinates, int(offsets[i]))
        block.bulk_copies.load(box, block.mbarriers.find(int(barriers[i]), lane), lane, inst)


@instruction(f"cp.async.bulk.tensor.{_RANK}.global.shared::cta[.tile].bulk_group{HINT}")
def store(block: Block, inst: Instruction) -> None:
    target, source, *_ = inst.operands
    for lane, _, box in _stored_boxes(block, target, source):
        block.bulk_copies.store(box, lane, inst)


@instruction(f"cp.reduce.async.bulk.tensor.{_RANK}.global.shared::cta.(add|min|max|and|or|xor)[.tile].bulk_group{HINT}")
def reduce(block: Block, inst: Instruction) -> None:
    target, source, *_ = inst.operands
    operation = next(m for m in inst.modifiers if m in ("add", "min", "max", "and", "or", "xor"))
    for lane, tensor_map, box in _stored_boxes(block, target, source):
        if operation in ("and", "or", "xor") and tensor_map.type[0] not in "us":
            raise block.fail("bad tensor map", f".{operation} of elements of type {tensor_map.type}", block.lanes)
        block.bulk_copies.store(box, lane, inst, reduction=(operation, tensor_map.type))


@instruction(f"cp.async.bulk.prefetch.tensor.{_RANK}.L2.global[.tile]{HINT}")
def prefetch(block: Block, inst: Instruction) -> None:
    """Checked as a read would be; caches are not modelled."""
    for lane, tensor_map, coordinates in _tensor_maps(block, inst.operands[0]):
        rows, width = tensor_map.box_at(coordinates, 0).global_rows()
        if len(rows):
            block.launch.global_memory.find(rows, width, np.full(len(rows), lane))


@instruction("prefetch[.param|.const].tensormap")
def prefetch_map(block: Block, inst: Instruction) -> None:
    """Caches are not modelled."""


def _stored_boxes(block: Block, target: Address, source: Address) -> Iterator[tuple[int, TensorMap, Box]]:
    offsets = block.addresses(source)
    check_multiple(block, offsets, _ALIGNMENT, "an address in shared memory")
    for i, (lane, tensor_map, coordinates) in enumerate(_tensor_maps(block, target)):
        yield lane, tensor_map, tensor_map.box_at(coordinates, int(offsets[i]))


def _tensor_maps(block: Block, operand: Address) -> Iterator[tuple[int, TensorMap, list[int]]]:
    """Yield (thread, tensor map, coordinates with the innermost first) of each active thread."""
    addresses, lanes = block.addresses(operand), block.lanes
    check_multiple(block, addresses, _MAP_ALIGNMENT, "the address of the tensor map")
    items = block.items(operand.coordinates[0])
    coordinates = np.stack([block.read(item, "s32")[lanes] for item in items], axis=1)
    for address, lane, place in zip(addresses.tolist(), lanes.tolist(), coordinates.tolist(), strict=True):
        halves = np.array([address, address + _MAP_ALIGNMENT])
        raw = block.memory.load("generic", halves, _MAP_ALIGNMENT, np.array([lane, lane]))
        if address < min(WINDOWS.values()):
            block.tensor_map_fences.check(address, lane)
        yield lane, TensorMap.of(raw.reshape(-1), len(items)), place


@instruction(
    "tensormap.replace.tile.global_address[.global|.shared::cta].b1024.b64",
    "tensormap.replace.tile.(rank|elemtype|interleave_layout|swizzle_mode|swizzle_atomicity|fill_mode)"
    "[.global|.shared::cta].b1024.b32",
)
def replace(block: Block, inst: Instruction) -> None:
    address, value = inst.operands
    _replace(block, inst, address, 0, value)


@instruction(
    "tensormap.replace.tile.(box_dim|global_dim|element_stride)[.global|.shared::cta].b1024.b32",
    "tensormap.replace.tile.global_stride[.global|.shared::cta].b1024.b64",
)
def replace_one_of(block: Block, inst: Instruction) -> None:
    address, index, value = inst.operands
    count = 4 if inst.modifiers[2] == "global_stride" else 5
    if not isinstance(index, Immediate) or not 0 <= index.value < count:
        raise block.fail("bad tensor map", f"index {index}; .{inst.modifiers[2]} takes 0 to {count - 1}", block.lanes)
    _replace(block, inst, address, index.value, value)


def _replace(block: Block, inst: Instruction, address: Address, index: int, value) -> None:
    space = next((m.split("::")[0] for m in inst.modifiers if m in ("global", "shared::cta")), "generic")
    addresses = block.addresses(address)
    check_multiple(block, addresses, SIZE, "the address of the tensor map")
    values = np.ascontiguousarray(block.read(value, inst.type)[block.lanes])
    places = addresses + LAYOUT.fields[inst.modifiers[2]][1] + index * values.dtype.itemsize
    block.memory.store(space, places, values.view(np.uint8).reshape(len(values), -1), block.lanes)


@instruction("tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.(cta|gpu|sys).sync.aligned")
def copy_and_release(block: Block, inst: Instruction) -> None:
    if not assemble_warps(block):
        return
    target, source, size = inst.operands
    if size.value != SIZE:
        raise block.fail("bad tensor map", f"{size.value} bytes are copied; a tensor map has {SIZE}", block.lanes)
    targets, sources = block.addresses(target), block.addresses(source)
    check_multiple(block, np.concatenate([targets, sources]), SIZE, "the address of the tensor map")
    # A warp copies once; its threads give the same addresses.
    _, first = np.unique(block.warps[block.lanes], return_index=True)
    data = block.memory.load("shared", sources[first], SIZE, block.lanes[first])
    block.memory.store("global", targets[first], data, block.lanes[first])
    block.clocks.fence_memory(block.active_warps())


@instruction("fence.proxy.tensormap::generic.acquire.(cta|cluster|gpu|sys)")
def acquire(block: Block, inst: Instruction) -> None:
    address, size = inst.operands
    if size.value != SIZE:
        raise block.fail("bad tensor map", f"{size.value} bytes are acquired; a tensor map has {SIZE}", block.lanes)
    addresses = block.addresses(address)
    for warp in block.active_warps():
        for place in np.unique(addresses[block.warps[block.lanes] == warp]).tolist():
            block.tensor_map_fences.acquire(place, int(warp) * 32)


@instruction("fence.proxy.tensormap::generic.release.(cta|cluster|gpu|sys)")
def release(block: Block, inst: Instruction) -> None:
    block.clocks.fence_memory(block.active_warps())
