"""mbarrier: phases, who is ordered after whom, and what is misuse."""

import numpy as np
import pytest

from lisa_kernels.testing.ptx import PtxError
from tests.testing.ptx.snippets import run_block

SCHEDULES = ("lockstep", 1, 2, 3)
SETUP = """.shared .align 8 .b8 bar[32]; .shared .align 4 .b8 s[512]; mov.u32 %r0, %tid.x; mov.u32 %r1, s;
mad.lo.u32 %r2, %r0, 4, %r1; xor.b32 %r3, %r0, 32; mad.lo.u32 %r3, %r3, 4, %r1; mul.wide.u32 %rd8, %r0, 4;
add.s64 %rd9, %rd0, %rd8; setp.eq.u32 %p0, %r0, 0; setp.lt.u32 %p1, %r0, 32; mov.u32 %r9, 1; mov.u32 %r10, %r0;"""
OUT = "st.global.b32 [%rd9], %r10;"
INIT = "@%p0 mbarrier.init.shared::cta.b64 [bar], {count}; bar.sync 0;"
ARRIVE = "mbarrier.arrive.shared::cta.b64 _, [bar];"


def wait(parity=0, label="w", address="bar", modifiers="", kind="try_wait"):
    return f"{label}: mbarrier.{kind}.parity{modifiers}.shared::cta.b64 %p5, [{address}], {parity}; @!%p5 bra {label};"


def run(code, threads=64, count=64, **options):
    out = np.zeros(threads, "u4")
    run_block(SETUP + INIT.format(count=count) + code + OUT, out, threads=threads, **options)
    return out


def fault(code, threads=64, count=64, **options):
    with pytest.raises(PtxError) as caught:
        run(code, threads, count, **options)
    return caught.value


EXCHANGE = "st.shared.b32 [%r2], %r0;{arrive}{wait} ld.shared.b32 %r10, [%r3];"


@pytest.mark.parametrize("kind", ["try_wait", "test_wait"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_waiting_orders_after_all_arrivals(schedule, kind):
    out = run(EXCHANGE.format(arrive=ARRIVE, wait=wait(kind=kind)), schedule=schedule)
    assert np.array_equal(out, np.arange(64) ^ 32)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_without_the_wait_it_is_a_race(schedule):
    assert fault(EXCHANGE.format(arrive=ARRIVE, wait=""), schedule=schedule).kind in ("shared race", "uninitialised")


def test_relaxed_arrivals_and_waits_order_nothing():
    relaxed = ARRIVE.replace("arrive.", "arrive.relaxed.cta.")
    assert fault(EXCHANGE.format(arrive=relaxed, wait=wait())).kind == "shared race"
    assert fault(EXCHANGE.format(arrive=ARRIVE, wait=wait(modifiers=".relaxed.cta"))).kind == "shared race"


def test_what_follows_an_arrival_is_not_covered_by_it():
    code = ARRIVE + "st.shared.b32 [%r2], %r0;" + wait() + "ld.shared.b32 %r10, [%r3];"
    assert fault(code).kind == "shared race"


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_token_of_an_arrival_names_its_phase(schedule):
    arrive = "mbarrier.arrive.shared.b64 %rd5, [bar];"
    token = "w: mbarrier.try_wait.shared.b64 %p5, [bar], %rd5, 1000; @!%p5 bra w;"
    out = run(EXCHANGE.format(arrive=arrive, wait=token), schedule=schedule)
    assert np.array_equal(out, np.arange(64) ^ 32)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_phases_alternate(schedule):
    # Three rounds of an exchange; a second barrier says that all have read.
    code = "@%p0 mbarrier.init.shared.b64 [bar+8], 64; bar.sync 0;"
    for i in range(3):
        code += f"add.u32 %r4, %r10, 1; st.shared.b32 [%r2], %r4; {ARRIVE}" + wait(i & 1, f"a{i}")
        code += "ld.shared.b32 %r10, [%r3];" + ARRIVE.replace("[bar]", "[bar+8]") + wait(i & 1, f"b{i}", "bar+8")
    expected = np.arange(64)
    for _ in range(3):
        expected = (expected + 1)[np.arange(64) ^ 32]
    assert np.array_equal(run(code, schedule=schedule), expected)


def test_a_parity_of_the_phase_before_is_complete_at_once():
    run(wait(1))
    # Of the wrong phase it is never complete.
    assert fault(EXCHANGE.format(arrive=ARRIVE, wait=wait(1))).kind == "deadlock"


def test_all_ones_are_an_odd_parity():
    run(wait(0xFFFFFFFF))


def test_a_phase_that_cannot_complete_is_a_deadlock_that_names_the_mbarrier():
    caught = fault("@%p1 " + ARRIVE + wait(), count=33)
    assert caught.kind == "deadlock"
    assert "mbarrier at shared byte 0 has 32 of 33 arrivals in its phase 0" in caught.detail
    caught = fault("@%p0 mbarrier.arrive.expect_tx.shared.b64 _, [bar], 64;" + wait(), count=1)
    assert "expects 64 more bytes, and copies of 0 bytes are under way" in caught.detail


def test_a_wait_of_threads_that_are_not_needed_does_not_hold_up_the_others():
    # The second warp waits before the first arrives, and the first spins for nobody.
    code = "@%p1 bra go;" + wait(0) + "bra end; go: st.shared.b32 [s], 7;" + ARRIVE + "end: "
    run(code, count=32)


def test_try_wait_gives_up_when_only_its_own_thread_could_go_on():
    # A peek that fails, and then the thread itself completes the phase.
    code = "mbarrier.try_wait.parity.shared.b64 %p5, [bar], 0; selp.u32 %r10, 1, 0, %p5;" + ARRIVE + wait()
    assert not run(code).any()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_counted_arrivals_and_pending_counts(schedule):
    code = "mbarrier.arrive.shared.b64 %rd5, [bar], 3; mbarrier.pending_count.b64 %r10, %rd5;" + wait()
    out = run(code, count=192, schedule=schedule)
    assert sorted(out) == [3 * i for i in range(1, 65)]


def test_threads_that_drop_out_are_not_waited_for():
    drop = "@%p1 mbarrier.arrive_drop.shared.b64 _, [bar];"
    code = drop + "@!%p1 " + ARRIVE + wait() + "@%p1 exit;" + ARRIVE
    run(code + wait(1, "v"))
    assert fault(code.replace("arrive_drop", "arrive") + wait(1, "v")).kind == "deadlock"


def test_no_complete_may_not_complete_a_phase():
    code = "@%p0 mbarrier.arrive.noComplete.shared.b64 %rd5, [bar], {};"
    run(code.format(63))
    assert fault(code.format(64)).kind == "mbarrier misuse"


def test_generic_addresses_are_understood():
    code = "mov.u64 %rd6, bar; cvta.shared.u64 %rd6, %rd6; mbarrier.arrive.b64 %rd5, [%rd6];"
    run(code + "w: mbarrier.try_wait.b64 %p5, [%rd6], %rd5; @!%p5 bra w;")


def test_expected_bytes_hold_a_phase_until_they_are_completed():
    code = "@%p0 mbarrier.arrive.expect_tx.shared.b64 _, [bar], 48; {} bar.sync 0;" + wait()
    run(code.format("@%p0 mbarrier.complete_tx.shared.b64 [bar], 48;"), count=1)
    assert fault(code.format("@%p0 mbarrier.complete_tx.shared.b64 [bar], 32;"), count=1).kind == "deadlock"
    more = "@%p0 mbarrier.expect_tx.relaxed.cta.shared.b64 [bar], 16;@%p0 mbarrier.complete_tx.shared.b64 [bar], 64;"
    run(code.format(more), count=1)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("mbarrier.arrive.shared.b64 _, [bar+8];", "no mbarrier is initialised at shared byte 8"),
        ("@%p0 mbarrier.inval.shared.b64 [bar]; bar.sync 0;" + ARRIVE, "no mbarrier is initialised at shared byte 0"),
        ("@%p0 mbarrier.init.shared.b64 [bar], 1;", "initialised again before mbarrier.inval"),
        ("@%p0 mbarrier.init.shared.b64 [bar+8], 0;", "expects 0 arrivals"),
        (wait(2), "parity 2"),
        ("@%p0 mbarrier.arrive.shared.b64 _, [bar], 65;", "65 arrivals come too many"),
        ("@%p0 mbarrier.arrive.expect_tx.shared.b64 _, [bar], 1048576;", "leaves its range"),
        ("@%p0 st.shared.b32 [bar+4], 1;", "only mbarrier instructions may access"),
        ("@%p0 ld.shared.b32 %r10, [bar];", "only mbarrier instructions may access"),
    ],
)
def test_misuse_is_named(code, told):
    caught = fault(code)
    assert caught.kind == "mbarrier misuse"
    assert told in caught.detail


def test_a_stale_token_is_misuse():
    arrive = "mbarrier.arrive.shared.b64 %rd{}, [bar];"
    code = arrive.format(5) + wait(0) + arrive.format(6) + wait(1, "v")
    assert fault(code + "mbarrier.test_wait.shared.b64 %p5, [bar], %rd5;").kind == "mbarrier misuse"


def test_an_mbarrier_in_the_wrong_place_is_reported():
    assert fault("mbarrier.arrive.shared.b64 _, [bar+4];").kind == "misaligned"
    assert fault("mbarrier.arrive.shared.b64 _, [bar+4096];").kind == "out of bounds"


def test_the_init_must_be_ordered_before_the_first_use():
    code = "@%p0 mbarrier.init.shared.b64 [bar+8], 64;{} mbarrier.arrive.shared.b64 _, [bar+8];"
    run(code.format("bar.sync 0;"))
    assert fault(code.format("")).kind == "shared race"


def test_invalidating_must_be_ordered_after_the_last_use():
    code = ARRIVE + wait() + "{} @%p0 mbarrier.inval.shared.b64 [bar];"
    run(code.format("bar.sync 0;"))
    assert fault(code.format("")).kind == "shared race"
    # Afterwards the bytes are memory as any other.
    run(code.format("bar.sync 0;") + "@%p0 st.shared.b64 [bar], 1; @%p0 ld.shared.b32 %r10, [bar];")


COPY = """.shared .align 16 .b8 d[1024]; mov.u32 %r11, d; mad.lo.u32 %r12, %r0, 16, %r11; xor.b32 %r13, %r0, 32;
mad.lo.u32 %r13, %r13, 16, %r11; mul.wide.u32 %rd8, %r0, 16; add.s64 %rd10, %rd1, %rd8;
cp.async.cg.shared.global [%r12], [%rd10], 16;"""


def copied(code, count=64, **options):
    x, out = np.arange(256, dtype="u4"), np.zeros(64, "u4")
    body = SETUP + INIT.format(count=count) + COPY + code + "ld.shared.b32 %r10, [%r13];" + OUT
    run_block(body, out, x, threads=64, **options)
    assert np.array_equal(out, x[::4][np.arange(64) ^ 32])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_copies_of_threads_arrive_when_they_are_complete(schedule):
    copied("cp.async.mbarrier.arrive.noinc.shared.b64 [bar];" + wait(), schedule=schedule)
    copied("cp.async.mbarrier.arrive.shared.b64 [bar];" + ARRIVE + wait(), schedule=schedule)


@pytest.mark.parametrize(
    "code", ["cp.async.mbarrier.arrive.noinc.shared.b64 [bar];", ARRIVE + wait(), "bar.sync 0;"],
    ids=["no wait", "an arrival that is not the copy's", "a barrier"],
)  # fmt: skip
def test_copies_of_threads_that_were_not_waited_for_are_seen(code):
    with pytest.raises(PtxError, match=r"unfinished cp\.async"):
        copied(code)


def test_arrivals_of_copies_that_nobody_counted_are_a_deadlock_or_misuse():
    with pytest.raises(PtxError, match="deadlock"):
        copied("cp.async.mbarrier.arrive.shared.b64 [bar];" + wait())
    with pytest.raises(PtxError, match="mbarrier misuse"):
        copied("cp.async.mbarrier.arrive.noinc.shared.b64 [bar];" + wait(), count=16)
