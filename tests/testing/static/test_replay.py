"""The replay against loops whose cycles can be worked out by hand."""

from lisa_kernels.testing.static.architectures import ARCHITECTURES
from lisa_kernels.testing.static.control_flow import Loop
from lisa_kernels.testing.static.nvidia import Known, _loop_figures
from lisa_kernels.testing.static.occupancy import Occupancy
from lisa_kernels.testing.static.replay import LATENCY, Role, replay, replay_range
from tests.testing.static.assembly import body, instruction

A100, H100 = ARCHITECTURES[80], ARCHITECTURES[90]
HMMA = "HMMA.16816.F32.BF16 R0, R4, R8, R0"
FADD = "FADD R0, R0, R1"


def cycles(instructions, *, warps=4, blocks=1, arch=A100, **options):
    return replay([Role(tuple(instructions), warps)], arch, blocks=blocks, **options)


def test_a_warp_waits_out_its_stall_counts():
    assert cycles(body(FADD, FADD, FADD, stall=5)) == 15


def test_two_warps_hide_each_other_s_stalls():
    """One issue a cycle is left as the limit: 2 blocks of 3 instructions with a stall of 2 need 6 cycles."""
    assert cycles(body("MOV R0, R1", "LOP3.LUT R0, R0", "SEL R0, R1", stall=2), arch=ARCHITECTURES[120], blocks=2) == 6


def test_a_busy_pipe_holds_the_next_instruction():
    """8 cycles each at a stall count of 1."""
    assert cycles(body(HMMA, HMMA, HMMA, HMMA)) == 32


def test_warps_that_meet_at_a_barrier_share_a_busy_pipe():
    """Eight warps are two on a sub-partition: four products of 8 cycles between two barriers."""
    tied = cycles(body(HMMA, HMMA, "BAR.SYNC.DEFER_BLOCKING 0x0"), warps=8)
    assert tied >= 4 * 8


def test_a_scoreboard_holds_the_reader_until_the_value_is_there():
    loop = [instruction("MUFU.EX2 R0, R1", write=2), instruction(FADD, 16, waits=(2,))]
    assert cycles(loop) == 8 + LATENCY["special"] + 1


def test_a_reader_that_waits_for_another_scoreboard_is_not_held():
    loop = [instruction("MUFU.EX2 R0, R1", write=2), instruction(FADD, 16, waits=(3,))]
    assert cycles(loop) == 8


def test_latencies_are_those_that_are_given():
    loop = [instruction("MUFU.EX2 R0, R1", write=2), instruction(FADD, 16, waits=(2,))]
    assert cycles(loop, latency={**LATENCY, "special": 100.0}) == 109


def test_warp_group_products_queue_without_holding_the_warp():
    """Four products of 64 cycles, and 64 additions beside them."""
    product = "HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24"
    loop = body(*[product] * 3, f"{product}, gsb0", *["LOP3.LUT R0, R1, R2, RZ, 0xc0, !PT"] * 64)
    assert cycles(loop, arch=H100) < 2 * 64 + 2 * 64


def test_waiting_for_a_warp_group_takes_as_long_as_its_products():
    product = "HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24"
    loop = body(*[product] * 3, f"{product}, gsb0", "WARPGROUP.DEPBAR.LE gsb0, 0x0")
    assert cycles(loop, arch=H100) > 4 * 64


def test_waiting_for_all_groups_but_one_is_cheaper_than_waiting_for_all():
    product = "HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24, gsb0"
    addition = ["FADD R0, R0, R1"] * 40

    def loop(left):
        return body(product, f"WARPGROUP.DEPBAR.LE gsb0, 0x{left}", *addition, stall=2)

    assert cycles(loop(1), arch=H100) < cycles(loop(0), arch=H100)


def test_a_barrier_brings_the_warps_of_a_block_together():
    """Eight warps are two a sub-partition; with a start skew of 400 the second would else run behind the first."""
    loop = body("BAR.SYNC.DEFER_BLOCKING 0x0", *[FADD] * 10)
    alone = replay([Role(loop, 4)], A100, blocks=1, skew=400)
    assert replay([Role(loop, 8)], A100, blocks=1, skew=400) > alone


def test_a_barrier_of_a_few_warps_lets_the_others_pass():
    """0x80 threads are one warp of each sub-partition: nobody to wait for."""
    few = body("BAR.SYNC R2, 0x80", *[FADD] * 10)
    every = body("BAR.SYNC.DEFER_BLOCKING 0x0", *[FADD] * 10)
    assert cycles(few, warps=8) <= cycles(every, warps=8)


def test_roles_run_at_once():
    role = Role(body(HMMA, HMMA), 4)
    other = Role(body("MUFU.EX2 R0, R1", "MUFU.EX2 R0, R1"), 4)
    together = replay([role, other], A100, blocks=1)
    assert together < replay([role], A100, blocks=1) + replay([other], A100, blocks=1)


def test_a_range_holds_its_median():
    found = replay_range([Role(body(HMMA, FADD, "MUFU.EX2 R0, R1"), 8)], A100, blocks=2)
    assert found.least <= found.median <= found.most


def test_a_loop_that_never_moves_gives_no_range():
    """A barrier for more warps than the role has is clipped; one that a role never reaches blocks for good."""
    waits = Role(body("BAR.SYNC.DEFER_BLOCKING 0x0", FADD), 4)
    never = Role(body(FADD), 4)
    assert replay_range([waits, never], A100, blocks=1) is None


def test_a_figure_is_cut_at_the_busiest_pipe():
    """Without a barrier three blocks run one after the other, each as if alone: 16 cycles where 48 are needed."""
    loop = Loop(body(HMMA, HMMA), has_mma=True)
    roles = [Role(loop.instructions, 4)]
    assert replay(roles, A100, blocks=3) < 48
    figures, _ = _loop_figures(roles, loop, A100, Occupancy(3, "registers", 0.2), Known(threads=128))
    assert figures.ceiling == 1.0
    assert figures.sim_range == (1.0, 1.0)
