"""Races: in shared memory, in global memory between warps and between blocks; and what is not one."""

import numpy as np
import pytest

from lisa_kernels.testing.ptx import PtxError
from tests.testing.ptx.snippets import run_block

LANE = "mov.u32 %r0, %tid.x; "
SHARED = ".shared .align 4 .b8 s[512]; mov.u32 %r1, s; mad.lo.u32 %r2, %r0, 4, %r1; "


def fault(*args, **options):
    with pytest.raises(PtxError) as caught:
        run_block(*args, **options)
    return caught.value


X = np.zeros(256, "u4")
SCHEDULES = ("lockstep", 1, 2)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("st.shared.b32 [%r2], %r0;", "ld.shared.b32 %r4, [%r3];"),
        ("st.shared.b32 [%r2], %r0; bar.sync 0; ld.shared.b32 %r4, [%r3];", "st.shared.b32 [%r2], 9;"),
        ("st.shared.b32 [%r2], %r0;", "st.shared.b32 [%r3], 9;"),
    ],
    ids=["read after write", "write after read", "write after write"],
)
def test_shared_accesses_of_two_warps_need_a_barrier(first, second, schedule):
    across = "xor.b32 %r3, %r0, 32; mad.lo.u32 %r3, %r3, 4, %r1;"
    code = LANE + SHARED + across + first
    assert fault(code + second, X, threads=64, schedule=schedule).kind in ("shared race", "uninitialised")
    run_block(code + "bar.sync 0;" + second, X, threads=64, schedule=schedule)


def test_a_shared_race_names_threads_and_byte():
    code = LANE + SHARED + "st.shared.b32 [%r2], %r0; xor.b32 %r3, %r0, 32; mad.lo.u32 %r3, %r3, 4, %r1;"
    caught = fault(code + "ld.shared.b32 %r4, [%r3];", X, threads=64)
    assert (caught.kind, caught.offset) == ("shared race", 128)
    assert caught.threads == tuple(range(64))
    assert caught.instruction == "ld.shared.b32 %r4, [%r3]"


def test_threads_of_one_warp_are_ordered():
    code = LANE + SHARED + "st.shared.b32 [%r2], %r0; xor.b32 %r3, %r0, 1; mad.lo.u32 %r3, %r3, 4, %r1;"
    run_block(code + "ld.shared.b32 %r4, [%r3];", X, threads=64)


def test_bytes_next_to_each_other_do_not_race():
    code = LANE + ".shared .align 4 .b8 s[64]; mov.u32 %r1, s; add.u32 %r2, %r0, %r1; st.shared.b8 [%r2], %r0;"
    run_block(code + "ld.shared.b8 %r3, [%r2];", X, threads=64)


def test_storing_one_value_twice_is_no_race_and_two_values_are():
    code = LANE + ".shared .align 4 .b8 s[4]; st.shared.b32 [s], {};"
    run_block(code.format("5"), X, threads=64)
    run_block(code.format("5"), X, threads=64, schedule=1)
    assert "different values" in fault(code.format("%r0"), X, threads=32).detail
    assert fault(code.format("%r0"), X, threads=64).kind == "shared race"


LARGE = """setp.ne.u32 %p0, %r0, 0; @!%p0 mov.f32 %f1, 0f3F800000; mul.lo.u32 %r3, %r0, 0; mov.u32 %r4, s;
@!%p0 mov.u32 %r3, 4; add.u32 %r4, %r4, %r3; st.shared.f32 [%r4], %f1;"""
WORD = LANE + ".shared .align 8 .b8 s[8]; cvt.rn.f32.u32 %f0, %r0; fma.rn.f32 %f1, %f0, {step}, {start};"


@pytest.mark.parametrize(
    ("start", "step", "store", "fine"),
    [
        ("0f3F800000", "0f33800000", "st.shared.f32 [s], %f1;", True),
        ("0f3F800000", "0f3C000000", "st.shared.f32 [s], %f1;", False),
        # A sum that cancelled has no more right bits than its terms; other sums of the store tell their size.
        ("0f80000000", "0f33800000", LARGE, True),
        ("0f3F800000", "0f33800000", "st.shared.f32 [s], %f1; st.shared.b32 [s+4], %r0;", False),
        ("0f3F800000", "0f39000000", "cvt.rn.f16.f32 %h1, %f1; st.shared.b16 [s], %h1;", True),
        ("0f3F800000", "0f3D000000", "cvt.rn.f16.f32 %h1, %f1; st.shared.b16 [s], %h1;", False),
        ("0f3F800000", "0f39000000", "cvt.rn.f16.f32 %h1, %f1; mov.b32 %r7, {%h1, %h1}; st.shared.b32 [s], %r7;", True),
        ("0f3F800000", "0f33800000", "cvt.f64.f32 %d1, %f1; st.shared.f64 [s], %d1;", False),
    ],
    ids=["last bits", "other numbers", "cancelled", "integers", "half", "other halves", "packed halves", "double"],
)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_lanes_of_one_warp_may_store_copies_that_differ_in_the_last_bits(start, step, store, fine, schedule):
    code = WORD.replace("{start}", start).replace("{step}", step) + store
    if fine:
        run_block(code, X, schedule=schedule)
        # Of several warps the copies that win are the same.
        run_block(code.replace("%tid.x; ", "%laneid; "), X, threads=96, schedule=schedule)
    else:
        assert "different values" in fault(code, X, schedule=schedule).detail


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warps_may_not_store_copies_that_differ_in_the_last_bits(schedule):
    code = WORD.replace("{start}", "0f3F800000").replace("{step}", "0f33800000") + "st.shared.f32 [s], %f1;"
    assert fault(code, X, threads=64, schedule=schedule).kind == "shared race"


def test_shared_atomics_do_not_race_with_each_other_but_with_plain_reads():
    code = LANE + SHARED + "setp.eq.u32 %p0, %r0, 0; @%p0 st.shared.b32 [s], 0; bar.sync 0; red.shared.add.u32 [s], 1;"
    run_block(code, X, threads=64)
    assert fault(code + "ld.shared.b32 %r4, [s];", X, threads=64).kind == "shared race"
    run_block(code + "bar.sync 0; ld.shared.b32 %r4, [s];", X, threads=64)


BLOCK = LANE + "mov.u32 %r5, %ctaid.x; mul.wide.u32 %rd4, %r0, 4; add.s64 %rd5, %rd0, %rd4; "


@pytest.mark.parametrize("order", [None, 1, 2])
def test_two_blocks_writing_one_byte_race(order):
    caught = fault(BLOCK + "st.global.b32 [%rd5], %r5;", X.copy(), grid=(2,), block_order=order)
    assert (caught.kind, caught.buffer, caught.offset) == ("global race", "argument 0", 0)


@pytest.mark.parametrize("order", [None, 1, 2])
def test_one_block_reading_what_another_writes_races(order):
    code = BLOCK + "setp.eq.u32 %p0, %r5, 0; @%p0 st.global.b32 [%rd5], 1; @!%p0 ld.global.b32 %r6, [%rd5];"
    assert fault(code, X.copy(), grid=(2,), block_order=order).kind == "global race"


def test_a_block_reading_before_another_writes_races_though_a_third_read_too():
    code = BLOCK + "setp.eq.u32 %p0, %r5, 2; ld.global.b32 %r6, [%rd5]; @%p0 st.global.b32 [%rd5], 1;"
    assert fault(code, X.copy(), grid=(3,)).kind == "global race"


def test_blocks_that_touch_bytes_of_their_own_do_not_race():
    code = BLOCK + "mad.wide.u32 %rd5, %r5, 128, %rd5; ld.global.b32 %r6, [%rd5]; st.global.b32 [%rd5], 1;"
    x = X.copy()
    run_block(code, x, grid=(4,))
    assert x.sum() == 128


def test_reading_the_same_bytes_is_no_race():
    run_block(BLOCK + "ld.global.b32 %r6, [%rd5];", X, grid=(3,), threads=64)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warps_of_one_block_need_a_barrier_in_global_memory(schedule):
    across = "xor.b32 %r3, %r0, 32; mul.wide.u32 %rd6, %r3, 4; add.s64 %rd6, %rd0, %rd6;"
    code = BLOCK + across + "st.global.b32 [%rd5], %r0;"
    read = "ld.global.b32 %r4, [%rd6];"
    assert fault(code + read, X.copy(), threads=64, schedule=schedule).kind == "global race"
    run_block(code + "bar.sync 0;" + read, X.copy(), threads=64, schedule=schedule)
    shift = BLOCK + across + "ld.global.b32 %r4, [%rd6]; ld.global.b32 %r7, [%rd5]; {} st.global.b32 [%rd5], 1;"
    assert fault(shift.format(""), X.copy(), threads=64, schedule=schedule).kind == "global race"
    run_block(shift.format("bar.sync 0;"), X.copy(), threads=64, schedule=schedule)


def test_one_warp_may_write_what_all_warps_read_by_one_instruction():
    code = BLOCK + "ld.global.b32 %r4, [%rd0]; setp.eq.u32 %p0, %r0, 0; add.u32 %r4, %r4, 1;"
    x = X.copy()
    run_block(code + "@%p0 st.global.b32 [%rd0], %r4;", x, threads=128)
    assert x[0] == 1


LOCK = """{wait} ld.global.b32 %r6, [%rd0+4]; add.u32 %r6, %r6, 1; st.global.b32 [%rd0+4], %r6;
atom.global.{release}.gpu.exch.b32 %r7, [%rd0], 0;"""
WAIT = "again: atom.global.{acquire}.gpu.cas.b32 %r7, [%rd0], 0, 1; setp.ne.u32 %p0, %r7, 0; @%p0 bra again;"


@pytest.mark.parametrize("order", [None, 5])
def test_a_lock_orders_what_it_guards(order):
    x = np.zeros(2, "u4")
    code = LOCK.replace("{wait}", WAIT).format(acquire="acquire", release="release")
    run_block(code, x, threads=1, grid=(5,), block_order=order)
    assert x[1] == 5


def test_without_the_lock_or_with_one_that_orders_too_little_it_races():
    x = np.zeros(2, "u4")
    relaxed = LOCK.replace("{wait}", WAIT).format(acquire="acquire", release="relaxed")
    assert fault(relaxed, x.copy(), threads=1, grid=(3,)).kind == "global race"
    near = LOCK.replace("{wait}", WAIT).format(acquire="acquire", release="release").replace(".gpu.", ".cta.")
    assert fault(near, x.copy(), threads=1, grid=(3,)).kind == "global race"
    unguarded = LOCK.replace("{wait}", "").format(release="release")
    assert fault(unguarded, x.copy(), threads=1, grid=(3,)).kind == "global race"


LAST_BLOCK = """mad.lo.u32 %r1, %r5, 32, %r0; mul.wide.u32 %rd6, %r1, 4; add.s64 %rd6, %rd0, %rd6;
st.global.b32 [%rd6], %r5; {fence} bar.sync 0; setp.eq.u32 %p0, %r0, 0; mov.u32 %r7, 0;
@%p0 atom.global.add.u32 %r7, [%rd1], 1; setp.eq.and.u32 %p1, %r7, 2, %p0; @%p1 ld.global.b32 %r8, [%rd0+128];"""


@pytest.mark.parametrize("order", [None, 3])
def test_the_last_block_may_read_what_others_fenced(order):
    counter = np.zeros(1, "u4")
    run_block(BLOCK + LAST_BLOCK.format(fence="membar.gl;"), X.copy(), counter, grid=(3,), block_order=order)
    assert fault(BLOCK + LAST_BLOCK.format(fence=""), X.copy(), np.zeros(1, "u4"), grid=(3,)).kind == "global race"


def test_a_release_covers_only_what_its_warp_has_seen():
    # Warp 1 writes; warp 0 counts.  Without the barrier between them the count says nothing about the write.
    code = (
        BLOCK
        + """mad.lo.u32 %r1, %r5, 64, %r0; mul.wide.u32 %rd6, %r1, 4; add.s64 %rd6, %rd0, %rd6;
    setp.ge.u32 %p0, %r0, 32; @%p0 st.global.b32 [%rd6], 1; {barrier} setp.eq.u32 %p0, %r0, 0; mov.u32 %r7, 0;
    @%p0 atom.global.acq_rel.gpu.add.u32 %r7, [%rd1], 1; setp.eq.u32 %p1, %r7, 1; @%p1 ld.global.b32 %r8, [%rd0+128];"""
    )
    run_block(code.format(barrier="bar.sync 0;"), X.copy(), np.zeros(1, "u4"), grid=(2,), threads=64)
    caught = fault(code.format(barrier=""), X.copy(), np.zeros(1, "u4"), grid=(2,), threads=64)
    assert caught.kind == "global race"


def test_a_block_may_wait_for_one_that_runs_later():
    # Block 0 spins until block 1 has written.
    code = """mov.u32 %r5, %ctaid.x; setp.eq.u32 %p0, %r5, 1; @%p0 bra write;
    again: ld.acquire.gpu.global.b32 %r6, [%rd0]; setp.eq.u32 %p1, %r6, 0; @%p1 bra again;
    ld.global.b32 %r7, [%rd0+4]; st.global.b32 [%rd0+8], %r7; ret;
    write: st.global.b32 [%rd0+4], 42; st.release.gpu.global.b32 [%rd0], 1;"""
    x = np.zeros(3, "u4")
    run_block(code, x, threads=1, grid=(2,))
    assert x[2] == 42


def test_races_are_not_looked_for_when_switched_off():
    run_block(BLOCK + "st.global.b32 [%rd5], %r5;", X.copy(), grid=(2,), check_races=False)


def test_chosen_blocks_run_in_a_seeded_order():
    code = "mov.u32 %r5, %ctaid.x; atom.global.add.u32 %r6, [%rd1], 1; mul.wide.u32 %rd4, %r6, 4;"
    code += "add.s64 %rd5, %rd0, %rd4; st.global.b32 [%rd5], %r5;"

    def order(**options):
        seen, counter = np.full(16, 99, "u4"), np.zeros(1, "u4")
        report = run_block(code, seen, counter, threads=1, grid=(16,), **options)
        assert report.blocks == counter[0]
        return seen.tolist()

    assert order() == list(range(16))
    assert order(block_order=1) == order(block_order=1) != order(block_order=2)
    assert sorted(order(block_order=1)) == list(range(16))
    assert order(blocks=[(3, 0, 0), (1,)]) == [1, 3] + [99] * 14
