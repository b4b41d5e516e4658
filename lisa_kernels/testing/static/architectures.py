"""Rates and limits of the NVIDIA architectures, as data, each with its source.

Rates are results per clock and SM: NVIDIA, "CUDA C++ Programming Guide", table of arithmetic throughput (fp32, integer,
special functions: sm_80 to sm_120) and the architecture white papers (tensor cores: dense fp16/bf16 FMA; A100 2020,
H100 2022, Ada 2022, Blackwell RTX 2025).  Limits: the guide's table of technical specifications per compute capability.

Not from a data sheet:

* L2 bytes per clock and SM: A100's white paper gives 5120 bytes a clock for 108 SMs, 47.4; H100 is taken to have the
  same total over 132 SMs, 38.8, and was lowered to that after published matmul figures were seen, so it is a fit; 64
  elsewhere is a guess.
* ``warp_mma_share``: the rate of ``mma.sync`` (HMMA) as a share of the full one.  0.63 on H100 is published (Luo et
  al., "Benchmarking and Dissecting the Nvidia Hopper GPU Architecture via Microbenchmarking", 2024); 0.25 on B200 is a
  guess.
* All rates of sm_100 and sm_120 count as guesses: nothing that was published was compared with them.
"""

from __future__ import annotations

import dataclasses

# Registers of one SM; every architecture below.
REGISTERS = 64 * 1024


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One compute capability.

    Attributes:
        device: A device that has it.
        tensor: Dense bf16 tensor-core FMA a clock and SM.
        fp32: FMA a clock and SM.
        alu: Integer additions, comparisons, logic.
        integer_multiply: Integer multiply-adds.
        special: exp2, log2, rcp, rsqrt, sqrt, sin, cos, and type conversions.
        shared_kib: Shared memory of one SM.
        block_shared_kib: Shared memory that one block can use.
        warps: Warps resident on one SM.
        blocks: Blocks resident on one SM.
        warp_mma_share: Rate of ``mma.sync`` as a share of ``tensor``.
        shared_bytes: Bytes of shared memory a clock and SM.
        l2_bytes: Bytes from the L2 cache a clock and SM.
    """

    device: str
    tensor: int
    fp32: int
    alu: int
    integer_multiply: int
    special: int
    shared_kib: int
    block_shared_kib: int
    warps: int
    blocks: int
    warp_mma_share: float = 1.0
    shared_bytes: int = 128
    l2_bytes: float = 64


ARCHITECTURES = {
    80: Architecture("A100", 1024, 64, 64, 64, 16, 164, 163, 64, 32, l2_bytes=47.4),
    86: Architecture("A10", 512, 128, 64, 64, 16, 100, 99, 48, 16),
    89: Architecture("L40S", 512, 128, 64, 64, 16, 100, 99, 48, 24),
    90: Architecture("H100 SXM", 2048, 128, 64, 64, 16, 228, 227, 64, 32, warp_mma_share=0.63, l2_bytes=38.8),
    100: Architecture("B200", 4096, 128, 64, 64, 16, 228, 227, 64, 32, warp_mma_share=0.25),
    120: Architecture("RTX PRO 6000", 512, 128, 128, 64, 16, 100, 99, 48, 24),
}


def find_architecture(capability: int) -> Architecture:
    """Return the rates of a compute capability times ten, ``90`` for H100.

    Raises:
        ValueError: The model has no rates for it.
    """
    if capability not in ARCHITECTURES:
        known = ", ".join(f"sm_{known}" for known in ARCHITECTURES)
        raise ValueError(f"find_architecture: capability is sm_{capability}; it takes {known}.")
    return ARCHITECTURES[capability]
