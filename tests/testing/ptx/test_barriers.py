"""Barriers: who waits for whom, reductions, named barriers, deadlocks."""

import numpy as np
import pytest

from lisa_kernels.testing.ptx import PtxError
from tests.testing.ptx.snippets import run_block

LANE = "mov.u32 %r0, %tid.x; mul.wide.u32 %rd4, %r0, 4; add.s64 %rd5, %rd0, %rd4; "
SCHEDULES = ("lockstep", 1, 2)


def lanes(body, threads=64, **options):
    out = np.zeros(threads, "u4")
    run_block(LANE + body + "st.global.b32 [%rd5], %r9;", out, threads=threads, **options)
    return out.tolist()


def fault(body, threads=64, **options):
    with pytest.raises(PtxError) as caught:
        lanes(body, threads, **options)
    return caught.value


SWAP = """.shared .align 4 .b8 s[256]; mov.u32 %r1, s; mad.lo.u32 %r2, %r0, 4, %r1; xor.b32 %r3, %r0, 32;
mad.lo.u32 %r3, %r3, 4, %r1; st.shared.b32 [%r2], %r0; {barrier} ld.shared.b32 %r9, [%r3];"""


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    "barrier", ["bar.sync 0;", "barrier.sync 3;", "barrier.cta.sync.aligned 1, 64;", "bar.sync 15, 64;"]
)
def test_what_one_warp_wrote_is_there_after_the_barrier(barrier, schedule):
    assert lanes(SWAP.replace("{barrier}", barrier), schedule=schedule) == [i ^ 32 for i in range(64)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_barriers_reduce_predicates(schedule):
    odd = "and.b32 %r1, %r0, 1; setp.eq.u32 %p0, %r1, 1;"
    assert set(lanes(odd + "bar.red.popc.u32 %r9, 0, %p0;", schedule=schedule)) == {32}
    for how, value in (("and", 0), ("or", 1)):
        code = odd + f"bar.red.{how}.pred %p1, 0, %p0; selp.u32 %r9, 1, 0, %p1;"
        assert set(lanes(code, schedule=schedule)) == {value}, how


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_named_barrier_joins_some_warps_only(schedule):
    # Warps 0 and 1 exchange through barrier 1; warp 2 never comes to it.
    code = SWAP.replace("{barrier}", "bar.sync 1, 64;").replace("s[256]", "s[512]")
    code = f"mov.u32 %r9, 7; setp.ge.u32 %p0, %r0, 64; @%p0 bra done; {code} done:"
    assert lanes(code, 96, schedule=schedule) == [i ^ 32 for i in range(64)] + [7] * 32


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_producer_arrives_and_does_not_wait(schedule):
    code = """.shared .align 4 .b8 s[128]; mov.u32 %r1, s; and.b32 %r2, %r0, 31; mad.lo.u32 %r2, %r2, 4, %r1;
    mov.u32 %r9, 1; setp.ge.u32 %p0, %r0, 32; @%p0 bra consumer; st.shared.b32 [%r2], %r0; bar.arrive 1, 64; bra done;
    consumer: bar.sync 1, 64; ld.shared.b32 %r9, [%r2]; done:"""
    assert lanes(code, schedule=schedule) == [1] * 32 + list(range(32))


def test_what_comes_after_an_arrival_is_not_ordered():
    code = """.shared .align 4 .b8 s[128]; mov.u32 %r1, s; and.b32 %r2, %r0, 31; mad.lo.u32 %r2, %r2, 4, %r1;
    mov.u32 %r9, 1; setp.ge.u32 %p0, %r0, 32; @%p0 bra consumer; bar.arrive 1, 64; st.shared.b32 [%r2], %r0; bra done;
    consumer: bar.sync 1, 64; ld.shared.b32 %r9, [%r2]; done:"""
    assert fault(code).kind in ("shared race", "uninitialised")


def test_a_barrier_does_not_wait_for_threads_that_have_ended():
    code = "mov.u32 %r9, 5; st.global.b32 [%rd5], %r9; setp.ge.u32 %p0, %r0, 32; @%p0 exit; bar.sync 0; mov.u32 %r9, 6;"
    assert lanes(code) == [6] * 32 + [5] * 32


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_barrier_does_not_wait_for_part_of_a_warp_that_ends(schedule):
    # Fifty of 64 threads go on; the others are still on their way when these come to the barrier.
    code = """mov.u32 %r9, 5; st.global.b32 [%rd5], %r9; setp.ge.u32 %p0, %r0, 50; @%p0 bra last;
    bar.sync 0; mov.u32 %r9, 6; bra out; last: add.u32 %r9, %r9, 1; exit; out:"""
    assert lanes(code, schedule=schedule) == [6] * 50 + [5] * 14


def test_a_barrier_that_some_threads_never_reach_is_a_deadlock():
    caught = fault("setp.ge.u32 %p0, %r0, 32; @%p0 bra other; bar.sync 1, 64; bra done; other: bar.sync 2, 64; done:")
    assert caught.kind == "deadlock"
    assert "barrier 1 has 32 of 64" in caught.detail


def test_a_barrier_inside_a_branch_of_one_warp_is_reported():
    caught = fault("setp.ge.u32 %p0, %r0, 16; @%p0 bra done; bar.sync 0; done: bar.sync 1;")
    assert caught.kind == "divergent barrier"


def test_threads_must_agree_on_the_count():
    caught = fault("setp.ge.u32 %p0, %r0, 32; @%p0 bar.sync 1, 64; @!%p0 bar.sync 1;")
    assert caught.kind == "divergent barrier"


def test_counts_are_whole_warps():
    assert fault("bar.sync 1, 40;").kind == "divergent barrier"


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_many_rounds_stay_in_step(schedule):
    # A ring of four warps: each round passes a value on through shared memory.
    code = """.shared .align 4 .b8 s[512]; mov.u32 %r1, s; mad.lo.u32 %r2, %r0, 4, %r1; add.u32 %r3, %r0, 32;
    and.b32 %r3, %r3, 127; mad.lo.u32 %r3, %r3, 4, %r1; mov.u32 %r9, %r0; mov.u32 %r4, 0;
    loop: st.shared.b32 [%r2], %r9; bar.sync 0; ld.shared.b32 %r9, [%r3]; bar.sync 0; add.u32 %r4, %r4, 1;
    setp.lt.u32 %p0, %r4, 7; @%p0 bra loop;"""
    assert lanes(code, 128, schedule=schedule) == [(i + 7 * 32) % 128 for i in range(128)]
    assert fault(code.replace("bar.sync 0; add.u32", "add.u32"), 128, schedule=schedule).kind == "shared race"


def test_a_loop_without_end_is_reported():
    from lisa_kernels.testing.ptx.launch import Launch, Options
    from tests.testing.ptx.snippets import kernel

    program = kernel("loop: bra loop;", "").program("k")
    launch = Launch(program, (1,), (32,), [], shared_bytes=0, options=Options(max_instructions=1000))
    with pytest.raises(PtxError, match="deadlock"):
        launch.run()
