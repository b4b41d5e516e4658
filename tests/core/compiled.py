"""Run by test_triton.py in a process of its own: ``python -m tests.core.compiled TARGET`` prints what it made."""

import dataclasses
import json
import re
import sys

import torch

from lisa_kernels.core.launch import launch, record
from lisa_kernels.core.targets import TARGETS
from lisa_kernels.core.tiling import Tile
from lisa_kernels.testing.compiled import compile_launch
from tests.core import probe_kernels

WIDE_LOAD = r"ld\.global\S*\.v4\.b32|load_dwordx4"
MATRIX = r"mma\.sync|wgmma|tcgen05|mfma"


@dataclasses.dataclass(frozen=True)
class CastTile(Tile):
    BLOCK: int = 2048


def records():
    """Host code on meta tensors: an aligned cast, one that starts at the third element, a product."""
    x = torch.empty(4096, dtype=torch.bfloat16, device="meta")
    with record() as launches:
        launch(probe_kernels.cast_kernel, (2,), x, torch.empty_like(x), 4096, 1.5, tile=CastTile())
        launch(probe_kernels.cast_kernel, (2,), x[3:], torch.empty_like(x), 4093, 1.5, tile=CastTile())
        square = torch.empty(64, 64, dtype=torch.bfloat16, device="meta")
        blocks = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 64}
        launch(probe_kernels.matmul_kernel, (1,), square, square, square, 64, tile=Tile(), **blocks)
    return launches


def build(entry, target):
    """Return the assembly of one recorded launch."""
    kernel = compile_launch(entry, target)
    assert kernel.metadata.shared <= target.shared_bytes
    return kernel.asm.get("ptx") or kernel.asm["amdgcn"]


if __name__ == "__main__":
    aligned, unaligned, product = (build(entry, TARGETS[sys.argv[1]]) for entry in records())
    told = {
        "wide loads, aligned": len(re.findall(WIDE_LOAD, aligned)),
        "wide loads, unaligned": len(re.findall(WIDE_LOAD, unaligned)),
        "matrix": sorted(set(re.findall(MATRIX, product))),
    }
    print(json.dumps(told))
