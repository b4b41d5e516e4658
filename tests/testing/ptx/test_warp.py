"""Exchange within a warp, member masks and divergence."""

import numpy as np
import pytest

from lisa_kernels.testing.ptx import PtxError
from tests.testing.ptx.snippets import run_block

LANE = "mov.u32 %r0, %tid.x; mul.wide.u32 %rd4, %r0, 4; add.s64 %rd5, %rd0, %rd4;"
STORE = "st.global.b32 [%rd5], %r9;"


def lanes(body, threads=32, dtype="u4", **options):
    """What each thread leaves in %r9."""
    out = np.zeros(threads, dtype)
    run_block(LANE + body + STORE, out, threads=threads, **options)
    return out


def fault(body, threads=32):
    with pytest.raises(PtxError) as caught:
        lanes(body, threads)
    return caught.value


def shuffled(mode, offset, clamp):
    """The definition of shfl in the ISA, lane by lane; values are 100 + lane."""
    result, inside = [], []
    segment = clamp >> 8 & 31
    for lane in range(32):
        bound = (lane & segment) | (clamp & 31 & ~segment)
        least = lane & segment
        other = {"up": lane - offset, "down": lane + offset, "bfly": lane ^ offset, "idx": least | (offset & ~segment)}
        other = other[mode]
        ok = other >= bound if mode == "up" else other <= bound
        result.append(100 + (other if ok else lane))
        inside.append(ok)
    return result, inside


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
@pytest.mark.parametrize("width", [32, 16, 8])
@pytest.mark.parametrize("offset", [0, 1, 5, 16, 31])
def test_shuffles_stay_within_their_segments(mode, width, offset):
    clamp = (32 - width) << 8 | (0 if mode == "up" else 31)
    expected, inside = shuffled(mode, offset, clamp)
    code = f"add.u32 %r1, %r0, 100; shfl.sync.{mode}.b32 %r9|%p0, %r1, {offset}, {clamp}, -1;"
    assert lanes(code).tolist() == expected
    assert lanes(code + "selp.u32 %r9, 1, 0, %p0;").astype(bool).tolist() == inside


def test_each_warp_shuffles_among_itself():
    code = "shfl.sync.idx.b32 %r9, %r0, 3, 31, -1;"
    assert lanes(code, 96).tolist() == [3] * 32 + [35] * 32 + [67] * 32
    assert lanes(code, 96, schedule=1).tolist() == [3] * 32 + [35] * 32 + [67] * 32


def test_votes():
    odd = "and.b32 %r1, %r0, 1; setp.eq.u32 %p0, %r1, 1;"
    assert (lanes(odd + "vote.sync.ballot.b32 %r9, %p0, -1;", 64) == 0xAAAAAAAA).all()
    for how, expected in (("any", 1), ("all", 0), ("uni", 0)):
        code = f"vote.sync.{how}.pred %p1, %p0, -1; selp.u32 %r9, 1, 0, %p1;"
        assert (lanes(odd + code) == expected).all(), how
    assert (lanes("setp.lt.u32 %p0, %r0, 99; vote.sync.uni.pred %p1, %p0, -1; selp.u32 %r9, 1, 0, %p1;") == 1).all()


@pytest.mark.parametrize("name", ["u32", "s32"])
def test_reductions_over_a_warp(name):
    values = np.arange(32) * 7 - 100
    code = "mul.lo.s32 %r1, %r0, 7; add.s32 %r1, %r1, -100;"
    dtype = "u4" if name == "u32" else "i4"
    expected = {"add": values.sum(), "min": values.min(), "max": values.max()}
    if name == "u32":
        unsigned = values.astype("u4")
        expected |= {"min": int(unsigned.min()), "max": int(unsigned.max())}
    for op, value in expected.items():
        got = lanes(code + f"redux.sync.{op}.{name} %r9, %r1, -1;", dtype=dtype)
        assert (got == np.array(int(value) & 0xFFFFFFFF, "u4").view(dtype)).all(), op
    bits = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
    for op, function in bits.items():
        assert (lanes(code + f"redux.sync.{op}.b32 %r9, %r1, -1;") == function.reduce(values.astype("u4"))).all(), op


def test_matching_lanes_and_the_elected_one():
    assert lanes("and.b32 %r1, %r0, 3; match.any.sync.b32 %r9, %r1, -1;").tolist() == [
        sum(1 << k for k in range(lane % 4, 32, 4)) for lane in range(32)
    ]
    assert (lanes("match.all.sync.b32 %r9|%p0, %r0, -1;") == 0).all()
    assert lanes("elect.sync %r1|%p0, -1; selp.u32 %r9, 1, 0, %p0;", 64).nonzero()[0].tolist() == [0, 32]


def test_member_masks_may_name_half_a_warp():
    code = """mov.u32 %r9, 0; setp.ge.u32 %p0, %r0, 16; @%p0 bra done;
    shfl.sync.bfly.b32 %r9, %r0, 1, 31, 0xffff; done:"""
    assert lanes(code).tolist() == [lane ^ 1 for lane in range(16)] + [0] * 16


def test_a_mask_naming_threads_that_never_come_is_reported():
    code = "setp.ge.u32 %p0, %r0, 16; @%p0 bra done; shfl.sync.bfly.b32 %r9, %r0, 1, 31, -1; done: bar.sync 0;"
    caught = fault(code)
    assert caught.kind == "bad sync mask"
    assert caught.threads == tuple(range(16))


def test_a_thread_outside_its_own_mask_is_reported():
    assert fault("vote.sync.ballot.b32 %r9, %p0, 0xfffe;", 32).kind == "bad sync mask"


def test_the_register_of_a_thread_that_does_not_take_part_is_all_ones():
    code = "mov.u32 %r9, 0; setp.ge.u32 %p0, %r0, 16; @%p0 bra done; shfl.sync.down.b32 %r9, %r0, 1, 31, 0xffff; done:"
    assert lanes(code).tolist() == [*range(1, 16), 0xFFFFFFFF] + [0] * 16
    # Beyond the last thread of the block as well.
    assert lanes("shfl.sync.down.b32 %r9, %r0, 1, 31, -1;", 20).tolist() == [*range(1, 20), 0xFFFFFFFF]


@pytest.mark.parametrize("schedule", ["lockstep", 1, 2])
def test_threads_wait_no_longer_for_those_that_end_later(schedule):
    # The others are still on their way when the first twenty come to the vote.
    code = """mov.u32 %r9, 7; st.global.b32 [%rd5], %r9; setp.lt.u32 %p0, %r0, 20; @%p0 bra vote;
    mov.u32 %r1, 0; again: add.u32 %r1, %r1, 1; setp.lt.u32 %p1, %r1, 9; @%p1 bra again; exit;
    vote: vote.sync.ballot.b32 %r9, %p0, -1;"""
    back = code.replace(
        "@%p0 bra vote;", "@%p0 bra first; bra rest; first:" + code.split("vote:")[1] + "bra out; rest:"
    )
    back = back.split("vote: ")[0] + "out: "
    for text in (code, back):
        assert lanes(text, schedule=schedule).tolist() == [0xFFFFF] * 20 + [7] * 12


def test_threads_that_have_ended_need_not_come():
    code = "mov.u32 %r9, 7; st.global.b32 [%rd5], %r9; setp.ge.u32 %p0, %r0, 16; @%p0 exit;"
    assert lanes(code + "shfl.sync.bfly.b32 %r9, %r0, 1, 31, -1;").tolist() == [i ^ 1 for i in range(16)] + [7] * 16


def test_threads_that_parted_meet_again_at_a_synchronising_instruction():
    # Both sides of the branch come to the one shuffle after it, on ways of different length.
    code = """setp.lt.u32 %p0, %r0, 16; @%p0 bra low; add.u32 %r1, %r0, 1000; bra join;
    low: add.u32 %r1, %r0, 1; add.u32 %r1, %r1, 1; join: shfl.sync.bfly.b32 %r9, %r1, 16, 31, -1;"""
    expected = [(lane ^ 16) + (2 if (lane ^ 16) < 16 else 1000) for lane in range(32)]
    assert lanes(code).tolist() == expected
    assert lanes(code, schedule=3).tolist() == expected


def test_loops_with_different_trip_counts():
    code = "mov.u32 %r9, 0; mov.u32 %r1, %r0; loop: add.u32 %r9, %r9, %r1; setp.ne.u32 %p0, %r1, 0;"
    code += "@%p0 add.s32 %r1, %r1, -1; @%p0 bra loop;"
    assert lanes(code).tolist() == [n * (n + 1) // 2 for n in range(32)]


def test_active_mask_and_lane_masks():
    code = "mov.u32 %r9, 0; setp.lt.u32 %p0, %r0, 4; @%p0 activemask.b32 %r9;"
    assert lanes(code).tolist() == [15] * 4 + [0] * 28
    assert lanes("mov.u32 %r9, %lanemask_lt;").tolist() == [(1 << lane) - 1 for lane in range(32)]
    assert lanes("mov.u32 %r9, %lanemask_ge;").tolist() == [0xFFFFFFFF & ~((1 << lane) - 1) for lane in range(32)]
