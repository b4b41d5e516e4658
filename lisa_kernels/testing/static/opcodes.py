"""What a SASS opcode is: its pipe, its access width, the shape of its product.

Names: NVIDIA, "CUDA Binary Utilities", instruction set reference.  An opcode in none of the sets runs on the ALU.
"""

from __future__ import annotations

import re

from lisa_kernels.testing.static.sass import Instruction

# Issued by one warp for itself.
WARP_MMA = frozenset({"HMMA", "IMMA", "DMMA", "QMMA", "OMMA", "BMMA"})
# Issued by the four warps of a group (PTX wgmma), asynchronous.
GROUP_MMA = frozenset({"HGMMA", "QGMMA", "IGMMA", "BGMMA"})
# Issued by one thread for the whole SM (PTX tcgen05.mma), asynchronous.
SM_MMA = frozenset({"UTCHMMA", "UTCQMMA", "UTCIMMA", "UTCOMMA"})
MMA = WARP_MMA | GROUP_MMA | SM_MMA

FP32 = frozenset(
    {"FFMA", "FMUL", "FADD", "FFMA32I", "FMUL32I", "FADD32I", "HFMA2", "HADD2", "HMUL2", "FSWZADD"}
)  # fmt: skip
# Two fp32 operations in one instruction (sm_100).
FP32_PAIR = frozenset({"FFMA2", "FMUL2", "FADD2"})
CONVERSION = frozenset({"F2F", "F2I", "I2F", "FRND", "POPC", "FLO", "BREV"})
SHARED_ACCESS = frozenset({"LDS", "STS", "LDSM", "STSM", "ATOMS", "MOVM"})
GLOBAL_ACCESS = frozenset(
    {"LDG", "STG", "LDGSTS", "LD", "ST", "RED", "REDG", "ATOM", "ATOMG", "LDL", "STL"}
)  # fmt: skip
SPILL = frozenset({"LDL", "STL"})
TMA = frozenset({"UTMALDG", "UTMASTG"})
# Take an issue slot and no arithmetic pipe that the model knows.
ISSUE_ONLY = frozenset(
    {
        "NOP", "BRA", "EXIT", "BAR", "WARPSYNC", "BSSY", "BSYNC", "DEPBAR", "LDGDEPBAR", "WARPGROUP", "WARPGROUPSET",
        "MEMBAR", "FENCE", "SYNCS", "ELECT", "RET", "CALL", "YIELD", "ERRBAR", "CCTL", "UTMALDG", "UTMASTG",
        "UTMACMDFLUSH", "UTCBAR", "UTCATOMSWS", "USETMAXREG", "ACQBULK", "NANOSLEEP", "VOTE", "S2R", "S2UR", "CS2R",
        "R2UR", "UCGABAR_ARV", "UCGABAR_WAIT", "BREAK", "BMOV", "UTMACCTL", "ARRIVES", "LDTM", "STTM", "BPT",
        "PREEXIT", "REDUX", "LDC",
    }
)  # fmt: skip

_SHAPES = {
    "884": (8, 8, 4), "1684": (16, 8, 4), "1688": (16, 8, 8), "16816": (16, 8, 16), "16832": (16, 8, 32),
    "16864": (16, 8, 64),
}  # fmt: skip


def is_mma(instruction: Instruction) -> bool:
    """Return whether it runs on the tensor cores."""
    return instruction.base in MMA


def access_bytes(instruction: Instruction) -> int:
    """Return the bytes that one lane moves; 4 where the opcode names no width."""
    opcode = instruction.opcode
    # ldmatrix: each 8x8 matrix of 16-bit elements is 4 bytes a lane.
    if matrices := re.search(r"\.MT?88(?:\.(\d))?", opcode):
        return 4 * int(matrices[1] or 1)
    modifiers = opcode.split(".")[1:]
    for bits in (256, 128, 64):
        if str(bits) in modifiers:
            return bits // 8
    if {"U8", "S8"} & set(modifiers):
        return 1
    if {"U16", "S16", "16"} & set(modifiers):
        return 2
    return 4


def mma_shape(instruction: Instruction) -> tuple[int, int, int] | None:
    """Return (M, N, K) of a product from the opcode, or None where it does not tell (``UTC*``)."""
    if match := re.search(r"\.(\d+)x(\d+)x(\d+)", instruction.opcode):
        return tuple(map(int, match.groups()))
    return next((_SHAPES[part] for part in instruction.opcode.split(".") if part in _SHAPES), None)


def mma_rate(instruction: Instruction) -> float:
    """Return the rate of a product as a multiple of bf16's: 2 for fp8 and int8, 1/2 for tf32, 1/16 for fp64.

    Data sheets of A100 and H100.  ``UTC*`` opcodes name no type.
    """
    if instruction.base == "DMMA":
        return 1 / 16
    if "TF32" in instruction.opcode:
        return 1 / 2
    eight_bit = re.search(r"E4M3|E5M2|S8|U8", instruction.opcode) or instruction.base in ("QGMMA", "IGMMA")
    return 2 if eight_bit else 1
