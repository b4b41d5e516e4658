"""Access widths, matrix shapes and pipe cycles against numbers worked out by hand."""

import pytest

from lisa_kernels.testing.static import opcodes
from lisa_kernels.testing.static.architectures import ARCHITECTURES, find_architecture
from lisa_kernels.testing.static.occupancy import Occupancy, find_occupancy
from lisa_kernels.testing.static.pipes import cost, pipe_cycles
from tests.testing.static.assembly import body, instruction

A100, H100, B200 = (ARCHITECTURES[capability] for capability in (80, 90, 100))


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("LDG.E R0, [R2.64]", 4), ("LDG.E.64 R0, [R2.64]", 8), ("LDG.E.128.CONSTANT R0, [R2.64]", 16),
        ("LDG.E.U8 R0, [R2.64]", 1), ("LDG.E.U16 R0, [R2.64]", 2), ("LDGSTS.E.BYPASS.128 [R0], [R2.64]", 16),
        ("LDG.E.ENL2.256 R0, [R2.64]", 32), ("LDSM.16.M88.4 R0, [R2]", 16), ("LDSM.16.MT88.2 R0, [R2]", 8),
        ("STSM.16.M88 [R2], R0", 4), ("LDS.128 R0, [R2]", 16), ("STG.E.U16 [R2.64], R0", 2),
    ],
)  # fmt: skip
def test_an_access_has_the_bytes_its_opcode_names(text, width):
    assert opcodes.access_bytes(instruction(text)) == width


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("HMMA.16816.F32.BF16 R0, R4, R8, R0", (16, 8, 16)), ("IMMA.16832.S8.S8 R0, R4.ROW, R8.COL, R0", (16, 8, 32)),
        ("HMMA.1688.F32.TF32 R0, R4, R8, R0", (16, 8, 8)),
        ("HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24", (64, 128, 16)),
        ("UTCHMMA gdesc[UR4], gdesc[UR6], tmem[UR8], tmem[UR10], idesc[UR11], UP0", None),
    ],
)  # fmt: skip
def test_a_product_has_the_shape_its_opcode_names(text, shape):
    assert opcodes.mma_shape(instruction(text)) == shape


def test_hmma_takes_its_products_over_the_rate_of_a_sub_partition():
    """16·8·16 = 2048 multiply-adds; A100 does 1024 a clock on the SM, 256 on a quarter of it."""
    spent = cost(instruction("HMMA.16816.F32.BF16 R0, R4, R8, R0"), A100)
    assert (spent.pipe, spent.cycles, spent.products) == ("tensor", 8.0, 2048)


def test_hmma_on_hopper_runs_at_its_published_share():
    spent = cost(instruction("HMMA.16816.F32.BF16 R0, R4, R8, R0"), H100)
    assert spent.cycles == 2048 / (2048 * 0.63 / 4)


@pytest.mark.parametrize(("operands", "from_shared"), [("gdesc[UR4], R24", 64 + 128), ("R4, gdesc[UR4], R24", 128)])
def test_wgmma_reads_its_left_operand_from_shared_memory_unless_it_is_in_registers(operands, from_shared):
    spent = cost(instruction(f"HGMMA.64x128x16.F32.BF16 R24, {operands}"), H100)
    assert spent.cycles == 64.0
    assert spent.shared_bytes == from_shared * 16 * 2


def test_eight_bit_products_run_at_twice_the_rate():
    bf16 = cost(instruction("HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24"), H100)
    fp8 = cost(instruction("QGMMA.64x128x32.F32.E4M3.E4M3 R24, gdesc[UR4], R24"), H100)
    assert fp8.cycles == bf16.cycles
    assert fp8.products == 2 * bf16.products


def test_tf32_products_run_at_half_the_rate_and_fp64_at_a_sixteenth():
    tf32 = cost(instruction("HMMA.1688.F32.TF32 R0, R4, R8, R0"), A100)
    fp64 = cost(instruction("DMMA.884 R0, R4, R8, R0"), A100)
    assert tf32.cycles == 16 * 8 * 8 / (256 / 2)
    assert fp64.cycles == 8 * 8 * 4 / (256 / 16)


def test_tcgen05_takes_the_shape_that_the_ptx_gave():
    spent = cost(instruction("UTCHMMA gdesc[UR4], gdesc[UR6], tmem[UR8], tmem[UR10], idesc[UR11], UP0"), B200,
                 (128, 64, 16))  # fmt: skip
    assert spent.products == 128 * 64 * 16
    assert spent.cycles == 32.0


def test_the_depth_of_a_tcgen05_product_tells_its_rate():
    text = "UTCQMMA gdesc[UR4], gdesc[UR6], tmem[UR8], tmem[UR10], idesc[UR11], UP0"
    assert cost(instruction(text), B200, (128, 64, 32)).cycles == 32.0


@pytest.mark.parametrize(
    ("text", "pipe", "cycles"),
    [
        ("MUFU.EX2 R0, R1", "special", 8.0), ("F2I.TRUNC R0, R1", "special", 8.0), ("FFMA R0, R1, R2, R0", "fp32", 2.0),
        ("IMAD.WIDE R0, R1, R2, R4", "integer", 2.0), ("LOP3.LUT R0, R1, R2, RZ, 0xc0, !PT", "alu", 2.0),
        ("UIADD3 UR4, UR4, 0x1, URZ", "uniform", 2.0), ("BAR.SYNC.DEFER_BLOCKING 0x0", "issue", 0.0),
        ("SHFL.BFLY PT, R0, R1, 0x1, 0x1f", "shared", 4.0), ("LDS.128 R0, [R2]", "shared", 16.0),
        ("LDG.E.128 R0, [R2.64]", "l2", 4 * 512 / 47.4),
    ],
)  # fmt: skip
def test_an_instruction_occupies_its_pipe(text, pipe, cycles):
    spent = cost(instruction(text), A100)
    assert (spent.pipe, spent.cycles) == (pipe, cycles)


def test_a_product_of_unknown_shape_is_an_error_and_not_free():
    with pytest.raises(ValueError, match=r"HMMA.9x9 at 0x0 names no shape"):
        cost(instruction("HMMA.9x9 R0, R4, R8, R0"), A100)


def test_pipes_add_up_over_the_warps_of_a_block():
    loop = body("HMMA.16816.F32.BF16 R0, R4, R8, R0", "MUFU.EX2 R0, R1", "NOP")
    busy, products = pipe_cycles(loop, A100, warps=8)
    assert busy == {"issue": 4.0, "tensor": 16.0, "special": 16.0}
    assert products == 8 * 2048


def test_integer_multiplies_take_room_from_fp32_on_their_half_of_the_pipe():
    busy, _ = pipe_cycles(body("IMAD R0, R1, R2, R0", "FFMA R0, R1, R2, R0"), H100, warps=4)
    assert busy["fp32"] == 2.0
    assert "integer" not in busy


def test_bulk_copies_load_shared_memory_and_l2():
    busy, _ = pipe_cycles(body("NOP"), H100, warps=4, tma_bytes=12800)
    assert busy == {"shared": 100.0, "l2": round(12800 / 38.8, 1)}


@pytest.mark.parametrize(
    ("registers", "shared", "warps", "expected"),
    [
        (32, 0, 4, Occupancy(16, "registers", 1.0)),
        (255, 0, 8, Occupancy(1, "registers", 0.125)),
        (32, 60 * 1024, 4, Occupancy(2, "shared memory", 0.125)),
        (16, 0, 1, Occupancy(32, "blocks", 0.5)),
        (24, 0, 8, Occupancy(8, "warps", 1.0)),
        (32, 164 * 1024, 4, Occupancy(0, "shared memory", 0.0)),
        (136, 0, 32, Occupancy(0, "registers", 0.0)),
    ],
)
def test_occupancy_of_an_a100_names_what_ends_first(registers, shared, warps, expected):
    assert find_occupancy(A100, registers=registers, shared_bytes=shared, warps=warps) == expected


def test_tensor_memory_limits_blocks():
    found = find_occupancy(B200, registers=32, shared_bytes=0, warps=4, tensor_memory_columns=256)
    assert (found.blocks, found.limited_by) == (2, "tensor memory")


def test_an_unknown_architecture_is_named_with_those_that_exist():
    with pytest.raises(ValueError, match="capability is sm_70; it takes sm_80, sm_86"):
        find_architecture(70)
