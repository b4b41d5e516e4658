"""Launches that tests compile: every specimen at the sizes that ship, and kernels with one planted fault each."""

import dataclasses

import torch
import triton
import triton.language as tl

from lisa_kernels.core.launch import launch, specialise
from lisa_kernels.core.tiling import Tile
from tests.specimens.specimens import SPECIMENS

OPTIONS = {"num_warps": 4, "num_stages": 2, "enable_fp_fusion": True}


def specimens():
    """Launch every specimen with the block sizes a product would ship."""
    for specimen in SPECIMENS.values():
        specimen.launch(specimen.make_args(0), specimen.large_tile)


def small_specimens():
    """Launch every specimen with the block sizes that tests run."""
    for specimen in SPECIMENS.values():
        specimen.launch(specimen.make_args(0))


def spilling():
    """One warp for a tile of 128 x 64: 256 accumulators a thread, one more than there are registers."""
    matmul = SPECIMENS["matmul"]
    matmul.launch(matmul.make_args(0), dataclasses.replace(matmul.large_tile, BLOCK_N=64, BLOCK_K=32, num_warps=1))


def too_much_shared_memory():
    """Six stages of 32 KiB each."""
    matmul = SPECIMENS["matmul"]
    matmul.launch(matmul.make_args(0), dataclasses.replace(matmul.large_tile, num_stages=7))


@triton.jit
def ieee_dot_kernel(x_ptr, out_ptr, BLOCK: tl.constexpr):
    """An fp32 product without tf32: no matrix instruction exists for it."""
    offs = tl.arange(0, BLOCK)[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    x = tl.load(x_ptr + offs)
    tl.store(out_ptr + offs, tl.dot(x, x, input_precision="ieee"))


def ieee_dot():
    x = torch.empty(64, 64, device="meta")
    return [specialise(ieee_dot_kernel, (1,), (x, x), constexprs={"BLOCK": 64}, options=OPTIONS)]


@triton.jit
def copy_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    for start in range(0, n, BLOCK):
        offs = start + tl.arange(0, BLOCK)
        tl.store(out_ptr + offs, tl.load(x_ptr + offs, mask=offs < n), mask=offs < n)


@dataclasses.dataclass(frozen=True)
class CopyTile(Tile):
    BLOCK: int = 1024


def aligned_copy():
    x = torch.empty(4096, dtype=torch.bfloat16, device="meta")
    launch(copy_kernel, (1,), x, torch.empty_like(x), 4096, tile=CopyTile())


def misaligned_copy():
    """The same on a tensor that starts at its second element."""
    x = torch.empty(4097, dtype=torch.bfloat16, device="meta")
    launch(copy_kernel, (1,), x[1:], x[1:], 4096, tile=CopyTile())


@triton.jit
def descriptor_matmul_kernel(
    a_ptr, b_ptr, out_ptr, M, N, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, SPECIALISED: tl.constexpr,
):  # fmt: skip
    """A product through TMA; specialised, some warps copy and others multiply."""
    a = tl.make_tensor_descriptor(a_ptr, [M, K], [K, 1], [BLOCK_M, BLOCK_K])
    b = tl.make_tensor_descriptor(b_ptr, [K, N], [N, 1], [BLOCK_K, BLOCK_N])
    out = tl.make_tensor_descriptor(out_ptr, [M, N], [N, 1], [BLOCK_M, BLOCK_N])
    row, col = tl.program_id(0) * BLOCK_M, tl.program_id(1) * BLOCK_N
    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for k in tl.range(0, K, BLOCK_K, warp_specialize=SPECIALISED):
        acc = tl.dot(a.load([row, k]), b.load([k, col]), acc)
    out.store([row, col], acc.to(tl.bfloat16))


def broken():
    """A block size that is no power of two does not compile."""
    x = torch.empty(96, dtype=torch.bfloat16, device="meta")
    launch(copy_kernel, (1,), x, x, 96, tile=CopyTile(BLOCK=96))
