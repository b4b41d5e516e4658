"""The hot loop: innermost, with matrix instructions where there are any, straight code where there is no loop."""

from lisa_kernels.testing.static.architectures import ARCHITECTURES
from lisa_kernels.testing.static.control_flow import build_graph, find_loops, hot_loops, role_loops
from lisa_kernels.testing.static.pipes import cost
from tests.testing.static.assembly import function

WORK = ["FADD R0, R0, R1"] * 9
MMA = "HMMA.16816.F32.BF16 R4, R8, R12, R4"


def loops_of(lines):
    kernel = function(lines)
    found = find_loops(build_graph(kernel), lambda i: cost(i, ARCHITECTURES[80]).pipe not in ("issue", "uniform"))
    return kernel, found


def hot(lines):
    kernel, found = loops_of(lines)
    return hot_loops(kernel, found)


def test_the_loop_is_what_lies_between_its_head_and_the_branch_back():
    (loop,) = hot(["MOV R0, RZ", ".L_x_0:", *WORK, "@P0 BRA `(.L_x_0)", "EXIT"])
    assert loop.is_loop
    assert len(loop.instructions) == len(WORK) + 1
    assert loop.head == 0x10


def test_of_nested_loops_the_inner_one_is_hot():
    lines = [".L_x_0:", *WORK, ".L_x_1:", *WORK, "@P0 BRA `(.L_x_1)", *WORK, "@P1 BRA `(.L_x_0)", "EXIT"]
    (loop,) = hot(lines)
    assert loop.head == 16 * len(WORK)


def test_a_loop_with_matrix_instructions_wins_over_one_without():
    lines = [".L_x_0:", *WORK, "@P0 BRA `(.L_x_0)", ".L_x_1:", *WORK, MMA, "@P0 BRA `(.L_x_1)", "EXIT"]
    (loop,) = hot(lines)
    assert loop.has_mma
    assert loop.head == 16 * (len(WORK) + 1)


def test_an_outer_loop_is_not_hot_for_the_matrix_instructions_of_its_inner_one():
    lines = [".L_x_0:", *WORK, ".L_x_1:", *WORK, MMA, "@P0 BRA `(.L_x_1)", "@P1 BRA `(.L_x_0)", "EXIT"]
    (loop,) = hot(lines)
    assert loop.head == 16 * len(WORK)


def test_an_unrolled_kernel_counts_from_its_first_to_its_last_matrix_instruction():
    (loop,) = hot([*WORK, MMA, "FADD R0, R0, R1", MMA, *WORK, "EXIT"])
    assert not loop.is_loop
    assert [i.base for i in loop.instructions] == ["HMMA", "FADD", "HMMA"]


def test_a_kernel_without_a_loop_is_taken_whole():
    (loop,) = hot([*WORK, "EXIT"])
    assert not loop.is_loop
    assert len(loop.instructions) == len(WORK) + 1


def test_a_wait_on_a_barrier_is_no_loop():
    spin = [".L_x_0:", *["SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR4], R3"] * 9, "@!P0 BRA `(.L_x_0)", "EXIT"]
    _, found = loops_of(spin)
    assert not found


def test_a_skipped_block_inside_a_loop_is_counted():
    lines = [".L_x_0:", *WORK, "@P1 BRA `(.L_x_1)", "FMUL R2, R2, R3", ".L_x_1:", "@P0 BRA `(.L_x_0)", "EXIT"]
    (loop,) = hot(lines)
    assert "FMUL" in {i.base for i in loop.instructions}


def test_a_branch_with_a_predicate_operand_falls_through():
    """``BRA P0, target`` without a guard: else the code behind it would be unreachable and its loops lost."""
    (loop,) = hot([".L_x_0:", *WORK, "BRA P0, `(.L_x_0)", ".L_x_1:", *WORK, MMA, "BRA.U UP0, `(.L_x_1)", "EXIT"])
    assert loop.has_mma


def test_a_branch_for_parted_lanes_falls_through_to_the_shuffle():
    """nvcc puts ``BRA.DIV`` before each shuffle of a loop: what it jumps to lies behind the kernel."""
    shuffle = "SHFL.UP PT, R4, R5, 0x1, RZ"
    lines = [".L_x_0:", *WORK, "BRA.DIV ~URZ, `(.L_x_1)", shuffle, "@P0 BRA `(.L_x_0)", "EXIT", ".L_x_1:", "EXIT"]
    (loop,) = hot(lines)
    assert [i.base for i in loop.instructions].count("SHFL") == 1


def test_code_that_nobody_reaches_is_no_way_into_a_loop():
    """Behind an unconditional branch stands padding that would fall into the loop's head."""
    lines = ["BRA `(.L_x_0)", "NOP", ".L_x_0:", *WORK, "@P0 BRA `(.L_x_0)", "EXIT"]
    (loop,) = hot(lines)
    assert loop.is_loop


def test_the_targets_of_a_jump_table_are_reached():
    lines = ['BRX R2 -0x1f80 (*"BRANCH_TARGETS .L_x_0,.L_x_1"*)', "NOP", ".L_x_0:", *WORK, "EXIT"]
    lines += [".L_x_1:", *WORK, MMA, "@P0 BRA `(.L_x_1)", "EXIT"]
    (loop,) = hot(lines)
    assert loop.is_loop
    assert loop.has_mma


def test_the_loop_in_which_warps_wait_for_their_role_is_none():
    consumer = [".L_x_1:", *WORK * 3, MMA, "@P0 BRA `(.L_x_1)"]
    lines = [".L_x_0:", *WORK, *consumer, "@P1 BRA `(.L_x_0)", ".L_x_2:", *WORK * 3, "@P0 BRA `(.L_x_2)", "EXIT"]
    _, found = loops_of(lines)
    assert [loop.has_mma for loop in role_loops(found)] == [True, False]


def test_roles_are_the_outermost_long_loops():
    inner = [".L_x_1:", *WORK * 3, "@P0 BRA `(.L_x_1)"]
    lines = [".L_x_0:", *WORK, *inner, "@P1 BRA `(.L_x_0)", ".L_x_2:", *WORK * 3, "@P0 BRA `(.L_x_2)", "EXIT"]
    _, found = loops_of(lines)
    assert len(found) == 3
    assert [loop.head for loop in role_loops(found)] == [0, 16 * (4 * len(WORK) + 2)]
