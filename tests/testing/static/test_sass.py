"""Instructions, control codes and labels out of nvdisasm's text."""

import pytest

from lisa_kernels.testing.static.disassemble import ResourceUsage, parse_resource_usage
from lisa_kernels.testing.static.sass import NO_BARRIER, parse_sass
from tests.testing.static.assembly import control, function, listing

# A line with its encoding: stall 5, write barrier 2, read barrier 4, waits for scoreboards 0 and 3.
SNIPPET = """
	.headerflags	@"EF_CUDA_TEXMODE_UNIFIED EF_CUDA_64BIT_ADDRESS EF_CUDA_SM90 EF_CUDA_VIRTUAL_SM(EF_CUDA_SM90)"
	.section	.text.first,"ax",@progbits
first:
.text.first:
        /*0000*/                   LDC R1, c[0x0][0x28] ;                          /* 0x00000a00ff017b82 */
                                                                                   /* 0x000fe20000000800 */
.L_x_0:
        /*0010*/              @!P2 LDG.E.128.CONSTANT R4, desc[UR4][R2.64+0x10] ;  /* 0x0000100402042981 */
                                                                                   /* 0x0098aa0000000f00 */
        /*0020*/               @P0 BRA `(.L_x_0) ;                                 /* 0xfffffffc00f00947 */
                                                                                   /* 0x000fea000383ffff */
	.section	.text.second,"ax",@progbits
second:
        /*0000*/              { UIADD3 UR4, UR4, 0x1, URZ ;                        /* 0x0000000104047890 */
                                                                                   /* 0x000fe2000fffe03f */
        /*0010*/                   EXIT  }                                         /* 0x000000000000794d */
        /*0020*/                   EXIT ;                                          /* 0x000000000000794d */
                                                                                   /* 0x000fea0003800000 */
"""


def test_every_kernel_of_a_cubin_is_found_with_its_target():
    program = parse_sass(SNIPPET)
    assert program.capability == 90
    assert [len(program.functions[name].instructions) for name in ("first", "second")] == [3, 2]


def test_an_instruction_has_predicate_opcode_operands_and_control_codes():
    load = parse_sass(SNIPPET).functions["first"].instructions[1]
    assert (load.predicate, load.opcode, load.base, load.operands) == (
        "@!P2", "LDG.E.128.CONSTANT", "LDG", "R4, desc[UR4][R2.64+0x10]",
    )  # fmt: skip
    assert (load.stall, load.write_barrier, load.read_barrier, load.wait_mask) == (5, 2, 4, 0b1001)
    assert load.is_conditional


def test_no_barrier_is_seven_and_a_true_predicate_is_no_condition():
    first = parse_sass(SNIPPET).functions["first"].instructions[0]
    assert (first.write_barrier, first.read_barrier, first.wait_mask) == (NO_BARRIER, NO_BARRIER, 0)
    always = function(["@PT IADD3 R0, R0, 0x1, RZ", "EXIT"]).instructions[0]
    assert not always.is_conditional


def test_a_label_stands_for_the_instruction_behind_it():
    assert parse_sass(SNIPPET).functions["first"].labels[".L_x_0"] == 0x10


def test_codes_written_by_the_test_s_own_assembler_come_back():
    read = function([("FADD R0, R0, R1", control(stall=13, write=1, read=0, waits=(5,)))]).instructions[0]
    assert (read.stall, read.write_barrier, read.read_barrier, read.wait_mask) == (13, 1, 0, 0b100000)


@pytest.mark.parametrize("text", ["", "no assembly at all", listing([])])
def test_text_without_instructions_is_refused(text):
    with pytest.raises(ValueError, match="it takes `nvdisasm -c -hex`"):
        parse_sass(text)


def test_resource_usage_is_by_kernel():
    text = """
Resource usage:
 Common:
  GLOBAL:0
 Function _Z10sum_kernelIfEvPKT_PS0_i:
  REG:38 STACK:16 SHARED:1536 LOCAL:8 CONSTANT[0]:916 TEXTURE:0 SURFACE:0 SAMPLER:0
 Function twice_kernel:
  REG:14 STACK:0 SHARED:0 LOCAL:0 CONSTANT[0]:916 TEXTURE:0 SURFACE:0 SAMPLER:0
"""
    assert parse_resource_usage(text) == {
        "_Z10sum_kernelIfEvPKT_PS0_i": ResourceUsage(38, 16, 1536, 8),
        "twice_kernel": ResourceUsage(14, 0, 0, 0),
    }
