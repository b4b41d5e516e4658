"""cp.async: copies take effect when their thread waits, and not before."""

import numpy as np
import pytest

from lisa_kernels.testing.ptx import PtxError
from tests.testing.ptx.snippets import run_block

SETUP = """.shared .align 16 .b8 s[2048]; mov.u32 %r0, %tid.x; mov.u32 %r1, s; mad.lo.u32 %r1, %r0, 16, %r1;
mul.wide.u32 %rd8, %r0, 16; add.s64 %rd9, %rd0, %rd8; add.s64 %rd10, %rd1, %rd8;"""
COPY = "cp.async.cg.shared.global [%r1], [%rd9], 16;"
READ = "ld.shared.v4.b32 {%r4, %r5, %r6, %r7}, [%r1];"
OUT = "st.global.v4.b32 [%rd10], {%r4, %r5, %r6, %r7};"
COMMIT, WAIT = "cp.async.commit_group;", "cp.async.wait_group 0;"


def copied(code, threads=32, **options):
    x = np.arange(threads * 4, dtype="u4") + 1
    out = np.zeros_like(x)
    run_block(SETUP + code + OUT, x, out, threads=threads, **options)
    return x, out


def fault(code, threads=32, **options):
    with pytest.raises(PtxError) as caught:
        copied(code, threads, **options)
    return caught.value


@pytest.mark.parametrize("wait", [COMMIT + WAIT, "cp.async.wait_all;", COMMIT + "cp.async.wait_all;"])
def test_data_are_there_after_waiting(wait):
    x, out = copied(COPY + wait + READ)
    assert np.array_equal(x, out)


@pytest.mark.parametrize("wait", ["", COMMIT, WAIT, COMMIT + "cp.async.wait_group 1;"])
def test_data_are_not_there_without_it(wait):
    assert fault(COPY + wait + READ).kind == "unfinished cp.async"


def test_writing_the_destination_before_waiting_is_reported():
    assert fault(COPY + COMMIT + "st.shared.b32 [%r1], 1;" + WAIT + READ).kind == "unfinished cp.async"


def test_waiting_for_older_groups_leaves_the_newest_pending():
    second = "cp.async.cg.shared.global [%r1+512], [%rd9], 16;"
    code = COPY + COMMIT + second + COMMIT + "cp.async.wait_group 1;"
    copied(code + READ)
    assert fault(code + READ.replace("[%r1]", "[%r1+512]")).kind == "unfinished cp.async"


def test_an_empty_group_counts():
    copied(COPY + COMMIT + COMMIT + "cp.async.wait_group 1;" + READ)


def test_other_warps_need_a_barrier_after_the_wait():
    other = "xor.b32 %r2, %r0, 32; mov.u32 %r3, s; mad.lo.u32 %r2, %r2, 16, %r3;"
    read = READ.replace("%r1]", "%r2]")
    x, out = copied(COPY + COMMIT + WAIT + "bar.sync 0;" + other + read, 64)
    assert np.array_equal(out.reshape(2, -1), x.reshape(2, -1)[::-1])
    assert fault(COPY + COMMIT + WAIT + other + read, 64).kind == "shared race"
    # A barrier does not wait for the copies of another warp.
    assert fault(COPY + COMMIT + "bar.sync 0;" + other + read, 64).kind == "unfinished cp.async"


def test_overwriting_what_another_warp_still_reads_is_a_race():
    other = "xor.b32 %r2, %r0, 32; mov.u32 %r3, s; mad.lo.u32 %r2, %r2, 16, %r3;"
    code = COPY + COMMIT + WAIT + "bar.sync 0;" + other + READ.replace("%r1]", "%r2]")
    again = COPY + COMMIT + WAIT
    assert fault(code + again, 64).kind == "shared race"
    copied(code + "bar.sync 0;" + again, 64)


def test_the_rest_of_a_shorter_copy_is_zero():
    code = "min.u32 %r2, %r0, 16; cp.async.ca.shared.global [%r1], [%rd9], 16, %r2;" + COMMIT + WAIT + READ
    x, out = copied(code)
    expected = x.view("u1").reshape(32, 16).copy()
    for lane in range(32):
        expected[lane, min(lane, 16) :] = 0
    assert np.array_equal(out.view("u1").reshape(32, 16), expected)


def test_a_copy_of_no_bytes_may_point_anywhere():
    _, out = copied("mov.u64 %rd9, 16; cp.async.cg.shared.global [%r1], [%rd9], 16, 0;" + COMMIT + WAIT + READ)
    assert not out.any()


def test_a_source_out_of_bounds_is_reported_when_the_copy_is_issued():
    caught = fault("add.s64 %rd9, %rd9, 512;" + COPY)
    assert (caught.kind, caught.threads[0]) == ("out of bounds", 0)
    assert caught.instruction.startswith("cp.async")


def test_misaligned_copies_are_reported():
    assert fault("add.u32 %r1, %r1, 8;" + COPY).kind == "misaligned"
    assert fault("add.s64 %rd9, %rd9, 8; setp.lt.u32 %p0, %r0, 31; @%p0 " + COPY).kind == "misaligned"


def test_a_copy_reads_its_source_late():
    # The source is overwritten between issue and wait: the copy may see either, here the new value.
    code = COPY + COMMIT + "st.global.b32 [%rd9], 77;" + WAIT + READ
    _, out = copied(code)
    assert (out[::4] == 77).all()


@pytest.mark.parametrize("schedule", ["lockstep", 1, 2])
def test_groups_belong_to_their_thread(schedule):
    # The second warp commits one group more, so waiting for all but one finishes its copy and not the first warp's.
    code = COPY + COMMIT + "setp.ge.u32 %p0, %r0, 32; @%p0 cp.async.commit_group; cp.async.wait_group 1;"
    copied(code + "@%p0 " + READ, 64, schedule=schedule)
    assert fault(code + "@!%p0 " + READ, 64, schedule=schedule).kind == "unfinished cp.async"
