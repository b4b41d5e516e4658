"""cp.async.bulk: data are there after the wait and not before, in both directions."""

import numpy as np
import pytest

from lisa_kernels.testing.ptx import PtxError
from tests.testing.ptx.snippets import run_block

SCHEDULES = ("lockstep", 1, 2)
# 64 threads; each has 16 bytes of d, x and out.
SETUP = """.shared .align 128 .b8 d[1024]; .shared .align 8 .b8 bar[16]; mov.u32 %r0, %tid.x; mov.u32 %r1, d;
mad.lo.u32 %r2, %r0, 16, %r1; mul.wide.u32 %rd8, %r0, 16; add.s64 %rd9, %rd0, %rd8; add.s64 %rd10, %rd1, %rd8;
setp.eq.u32 %p0, %r0, 0; setp.lt.u32 %p1, %r0, 32;"""
INIT = "@%p0 mbarrier.init.shared::cta.b64 [bar], 1; bar.sync 0;"
EXPECT = "@%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 1024;"
LOAD = "@%p0 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [d], [%rd0], 1024, [bar];"
WAIT = "w: mbarrier.try_wait.parity.shared::cta.b64 %p5, [bar], 0; @!%p5 bra w;"
READ = "ld.shared.v4.b32 {%r4, %r5, %r6, %r7}, [%r2];"
OUT = "st.global.v4.b32 [%rd10], {%r4, %r5, %r6, %r7};"


def run(code, **options):
    x, out = np.arange(256, dtype="u4") + 1, np.zeros(256, "u4")
    run_block(SETUP + code, x, out, threads=64, **options)
    return x, out


def fault(code, **options):
    with pytest.raises(PtxError) as caught:
        run(code, **options)
    return caught.value


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("space", ["shared::cluster", "shared::cta"])
def test_loaded_bytes_are_there_after_the_wait(space, schedule):
    x, out = run(INIT + EXPECT + LOAD.replace("shared::cluster", space) + WAIT + READ + OUT, schedule=schedule)
    assert np.array_equal(x, out)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    "code",
    [
        EXPECT + LOAD,
        EXPECT + LOAD + "bar.sync 0;",
        EXPECT + LOAD + WAIT.replace("[bar], 0", "[bar], 1"),
        "@%p0 mbarrier.arrive.shared::cta.b64 _, [bar];" + LOAD + WAIT,
    ],
    ids=["no wait", "a barrier instead", "wrong parity", "no expected bytes"],
)
def test_bytes_read_before_they_are_waited_for_are_reported(code, schedule):
    caught = fault(INIT + code + READ + OUT, schedule=schedule)
    # A warp may come before the copy is issued.
    assert (
        caught.kind in ("unfinished bulk copy",)
        if schedule == "lockstep"
        else ("unfinished bulk copy", "uninitialised")
    )
    assert caught.instruction.startswith("ld.shared")


def test_a_warp_that_did_not_wait_races():
    code = INIT + EXPECT + LOAD + "@!%p1 bra read;" + WAIT + "read: bar.warp.sync -1;" + READ + OUT
    assert fault(code).kind in ("shared race", "unfinished bulk copy")
    # A barrier after the wait of one warp is enough.
    x, out = run(code.replace("read: ", "read: bar.sync 0;"))
    assert np.array_equal(x, out)


def test_writing_to_the_destination_before_the_wait_is_reported():
    code = INIT + EXPECT + LOAD + "st.shared.b32 [%r2], 1;" + WAIT
    assert fault(code).kind == "unfinished bulk copy"


def test_bytes_written_before_need_a_proxy_fence():
    code = INIT + EXPECT + LOAD + WAIT + READ + OUT
    run("st.shared.b32 [%r2], 1; fence.proxy.async;" + code)
    assert fault("st.shared.b32 [%r2], 1;" + code).kind == "missing proxy fence"


def test_overwriting_what_another_warp_still_reads_is_a_race():
    first = INIT + EXPECT + LOAD + WAIT + READ
    again = LOAD + EXPECT + WAIT.replace("w:", "v:").replace("bra w", "bra v").replace("[bar], 0", "[bar], 1") + OUT
    run(first + "bar.sync 0;" + again)
    assert fault(first + again).kind == "shared race"


@pytest.mark.parametrize("expected", [512, 1008, 1040, 2048])
def test_a_wrong_number_of_expected_bytes_is_reported(expected):
    caught = fault(INIT + EXPECT.replace("1024", str(expected)) + LOAD + WAIT)
    assert caught.kind == ("deadlock" if expected > 1024 else "mbarrier misuse")
    assert f"expects {expected} more bytes, and copies of 1024 bytes are under way" in caught.detail


def test_a_copy_by_every_thread_brings_too_much():
    assert fault(INIT + EXPECT + LOAD.replace("@%p0 ", "@%p1 ") + WAIT).kind == "unfinished bulk copy"


def test_copies_left_at_the_end_are_reported_with_their_instruction():
    caught = fault(INIT + EXPECT + LOAD)
    assert caught.kind == "unfinished bulk copy"
    assert caught.instruction.startswith("@%p0 cp.async.bulk")
    assert fault(INIT + EXPECT + LOAD + "@%p0 mbarrier.inval.shared.b64 [bar];").kind == "mbarrier misuse"


def test_a_copy_reads_its_source_late():
    code = INIT + EXPECT + LOAD + "st.global.b32 [%rd9], 77; bar.sync 0;" + WAIT + READ + OUT
    # A plain write of what an unfinished copy of another warp reads is a race; of the own warp it is just late.
    with pytest.raises(PtxError, match="global race"):
        run(code)
    _, out = run(code.replace("st.global", "@%p1 st.global"))
    assert (out[:128:4] == 77).all()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (("[d]", "[d+8]"), "misaligned"),
        (("[%rd0]", "[%rd0+8]"), "misaligned"),
        ((", 1024,", ", 1000,"), "misaligned"),
        (("[%rd0]", "[%rd0+16]"), "out of bounds"),
        (("[d]", "[d+1024]"), "out of bounds"),
        (("[bar];", "[bar+8];"), "mbarrier misuse"),
    ],
)
def test_operands_are_checked(change, kind):
    assert fault(INIT + EXPECT + LOAD.replace(*change) + WAIT).kind == kind


FILL = "mad.lo.u32 %r3, %r0, 4, 1; st.shared.v4.b32 [%r2], {%r3, %r3, %r3, %r3};"
FENCE = "fence.proxy.async.shared::cta; bar.sync 0;"
STORE = "@%p0 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [d], 1024;"
COMMIT, WAIT_ALL = "cp.async.bulk.commit_group;", "cp.async.bulk.wait_group 0;"
WAIT_READ = "cp.async.bulk.wait_group.read 0;"
REUSE = "bar.sync 0; st.shared.b32 [%r2], 9;"


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("wait", [WAIT_ALL, WAIT_READ])
def test_stored_bytes_arrive(wait, schedule):
    _, out = run(FILL + FENCE + STORE + COMMIT + wait + REUSE, schedule=schedule)
    assert np.array_equal(out, np.repeat(4 * np.arange(64) + 1, 4))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (FILL + "bar.sync 0;" + STORE + COMMIT + WAIT_ALL, "missing proxy fence"),
        (FILL + "fence.proxy.async.global; bar.sync 0;" + STORE + COMMIT + WAIT_ALL, "missing proxy fence"),
        (FILL + "fence.proxy.async;" + STORE + COMMIT + WAIT_ALL, "shared race"),
        (FILL + FENCE + STORE + COMMIT + REUSE + WAIT_READ, "unfinished bulk copy"),
        (FILL + FENCE + STORE + WAIT_READ + REUSE + COMMIT, "unfinished bulk copy"),
        (FILL + FENCE + STORE + COMMIT + WAIT_READ.replace("0", "1") + REUSE, "unfinished bulk copy"),
        (FILL + FENCE + STORE + COMMIT, "unfinished bulk copy"),
        (FILL + FENCE + STORE + COMMIT + "@!%p0 " + WAIT_ALL, "unfinished bulk copy"),
        (FILL + FENCE + STORE + COMMIT + WAIT_READ + REUSE.replace("bar.sync 0;", ""), "shared race"),
    ],
    ids=["no proxy fence", "a proxy fence of global memory", "no barrier", "no wait before reuse", "commit too late",
         "wait loosened", "no wait before the end", "wait by others", "no barrier before reuse"],
)  # fmt: skip
def test_what_a_store_needs_is_missed(code, kind):
    assert fault(code).kind == kind


def test_what_was_stored_may_be_read_after_waiting_for_it_only():
    read = "@%p0 ld.global.b32 %r4, [%rd1];"
    run(FILL + FENCE + STORE + COMMIT + WAIT_ALL + read)
    assert fault(FILL + FENCE + STORE + COMMIT + WAIT_READ + read).kind == "global race"
    others = "bar.sync 0; bar.sync 0; ld.global.b32 %r4, [%rd10];"
    run(FILL + FENCE + STORE + COMMIT + WAIT_ALL + others)
    assert fault(FILL + FENCE + STORE + COMMIT + WAIT_READ + others).kind == "global race"


def test_blocks_that_store_the_same_bytes_race_and_reductions_do_not():
    code = FILL + FENCE + STORE + COMMIT + WAIT_ALL
    # Of the same values it is none.
    run(code, grid=(2,))
    other = FILL.replace("4, 1;", "4, 1; mov.u32 %r5, %ctaid.x; add.u32 %r3, %r3, %r5;")
    assert fault(other + FENCE + STORE + COMMIT + WAIT_ALL, grid=(2,)).kind == "global race"
    reduce = "@%p0 cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%rd1], [d], 1024;"
    _, out = run(FILL + FENCE + reduce + COMMIT + WAIT_ALL, grid=(3,), block_order=1)
    assert np.array_equal(out, 3 * np.repeat(4 * np.arange(64) + 1, 4))


@pytest.mark.parametrize(
    ("form", "dtype", "function"),
    [
        ("add.f32", "f4", np.add),
        ("add.noftz.f16", "f2", np.add),
        ("add.u64", "u8", np.add),
        ("min.s32", "i4", np.minimum),
        ("max.u32", "u4", np.maximum),
        ("xor.b32", "u4", np.bitwise_xor),
        ("and.b64", "u8", np.bitwise_and),
    ],
)
def test_reductions(form, dtype, function):
    rng = np.random.default_rng(0)
    x, out = (rng.integers(-50, 50, 1024 // np.dtype(dtype).itemsize).astype(dtype) for _ in "xo")
    expected = function(x, out)
    fill = "ld.global.v4.b32 {%r4, %r5, %r6, %r7}, [%rd9]; st.shared.v4.b32 [%r2], {%r4, %r5, %r6, %r7};"
    store = f"@%p0 cp.reduce.async.bulk.global.shared::cta.bulk_group.{form} [%rd1], [d], 1024;"
    run_block(SETUP + fill + FENCE + store + COMMIT + WAIT_ALL, x, out, threads=64)
    assert np.array_equal(out, expected)


def test_a_store_into_a_read_only_array_is_reported():
    out = np.zeros(256, "u4")
    out.flags.writeable = False
    with pytest.raises(PtxError, match="read only"):
        run_block(SETUP + FILL + FENCE + STORE + COMMIT + WAIT_ALL, out, out, threads=64)


def test_prefetches_are_checked():
    run("cp.async.bulk.prefetch.L2.global [%rd0], 1024;")
    assert fault("cp.async.bulk.prefetch.L2.global [%rd0], 1040;").kind == "out of bounds"
    assert fault("cp.async.bulk.prefetch.L2.global [%rd0+4], 16;").kind == "misaligned"
