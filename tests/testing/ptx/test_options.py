"""Options of a launch: exempt arguments, arguments that start unwritten, and the end of launches that hang."""

import numpy as np
import pytest

from lisa_kernels.testing.ptx import PtxError
from tests.testing.ptx.snippets import kernel, run_block


def fault(*args, **options):
    with pytest.raises(PtxError) as caught:
        run_block(*args, **options)
    return caught.value


# The loop of the CUDA C++ Programming Guide, section "Atomic Functions", for an operation that has no instruction.
COMPARE_AND_SWAP = """ld.global.b32 %r1, [%rd0]; again: add.u32 %r2, %r1, 1; atom.global.cas.b32 %r3, [%rd0], %r1, %r2;
setp.ne.u32 %p0, %r3, %r1; mov.u32 %r1, %r3; @%p0 bra again;"""


@pytest.mark.parametrize("exempt", [[0], ["counter"], ["argument 0 (counter)"]])
def test_plain_reads_of_exempt_arguments_may_meet_atomics(exempt):
    counter = np.zeros(1, "u4")
    run_block(COMPARE_AND_SWAP, counter, threads=64, grid=(3,), names=["counter"], exempt=exempt, block_order=1)
    assert counter[0] == 192
    caught = fault(COMPARE_AND_SWAP, np.zeros(1, "u4"), threads=64, grid=(3,))
    assert caught.kind == "global race"
    assert "exempt=" in caught.detail


def test_an_atomic_may_follow_a_plain_read_of_an_exempt_argument():
    code = "mov.u32 %r0, %ctaid.x; setp.eq.u32 %p0, %r0, 0; @%p0 ld.global.b32 %r1, [%rd0];"
    code += "@!%p0 red.global.add.u32 [%rd0], 1;"
    assert fault(code, np.zeros(1, "u4"), grid=(2,)).kind == "global race"
    run_block(code, np.zeros(1, "u4"), grid=(2,), exempt=[0])


def test_exempt_arguments_still_race_without_atomics():
    code = "mov.u32 %r0, %ctaid.x; ld.global.b32 %r1, [%rd0]; add.u32 %r1, %r1, 1; st.global.b32 [%rd0], %r1;"
    assert fault(code, np.zeros(1, "u4"), grid=(2,), exempt=[0]).kind == "global race"


def test_only_the_exempt_argument_is_exempt():
    # Two arguments within one grain of memory share a history.
    both = np.zeros(2, "u4")
    code = COMPARE_AND_SWAP + COMPARE_AND_SWAP.replace("again", "more").replace("%rd0", "%rd1")
    assert fault(code, both[:1], both[1:], grid=(2,), exempt=[0], names=["a", "b"]).buffer == "argument 1 (b)"
    run_block(code, both[:1], both[1:], grid=(2,), exempt=[0, 1])


COPY = """mov.u32 %r0, %tid.x; mul.wide.u32 %rd4, %r0, 4; add.s64 %rd5, %rd0, %rd4; add.s64 %rd6, %rd1, %rd4;
ld.global.b32 %r1, [%rd5]; st.global.b32 [%rd6], %r1;"""


def test_reading_an_output_before_it_is_written_is_a_fault():
    x, out = np.zeros(32, "u4"), np.zeros(32, "u4")
    run_block(COPY + "ld.global.b32 %r2, [%rd6];", x, out, outputs=["out"], names=["x", "out"])
    caught = fault("ld.global.b32 %r2, [%rd1+12];" + COPY, x, out, outputs=["out"], names=["x", "out"])
    assert (caught.kind, caught.buffer, caught.offset) == ("uninitialised", "argument 1 (out)", 12)
    assert fault(COPY, x, out, outputs=[0]).kind == "uninitialised"
    assert fault("red.global.add.u32 [%rd0], 1;", out, outputs=[0]).kind == "uninitialised"


def test_a_second_launch_of_an_output_starts_anew():
    out = np.zeros(32, "u4")
    run_block("st.global.b32 [%rd0], 1; ld.global.b32 %r1, [%rd0];", out, outputs=[0])
    assert fault("ld.global.b32 %r1, [%rd0];", out, outputs=[0]).kind == "uninitialised"


@pytest.mark.parametrize("option", ["exempt", "outputs"])
def test_names_that_no_tensor_has_are_refused(option):
    with pytest.raises(ValueError, match=f"{option} names 'y', no tensor of the launch; it takes .*'x'"):
        run_block("", np.zeros(1), names=["x"], **{option: ["y"]})
    with pytest.raises(TypeError, match=f"{option} is 'x'; it takes a list"):
        run_block("", np.zeros(1), names=["x"], **{option: "x"})


@pytest.mark.parametrize(
    "loop",
    [
        "again: bra again;",
        "again: ld.volatile.global.b32 %r1, [%rd0]; setp.eq.u32 %p0, %r1, 0; @%p0 bra again;",
        "again: atom.global.cas.b32 %r1, [%rd0], 7, 1; setp.ne.u32 %p0, %r1, 7; @%p0 bra again;",
        "again: bar.sync 0; ld.volatile.global.b32 %r1, [%rd0]; setp.eq.u32 %p0, %r1, 0; @%p0 bra again;",
    ],
    ids=["empty", "poll", "lock", "poll with barrier"],
)
def test_a_loop_in_which_nothing_changes_is_seen_at_once(loop):
    caught = fault(loop, np.zeros(1, "u4"), threads=64, grid=(2,), max_instructions=300_000)
    assert caught.kind == "deadlock"
    assert "nothing changes any more" in caught.detail


@pytest.mark.parametrize("change", ["add.u32 %r2, %r2, 1;", "atom.global.add.u32 %r2, [%rd0], 1; mov.u32 %r2, 0;"])
def test_a_loop_that_changes_something_ends_at_the_limit(change):
    code = f"mov.u32 %r2, 0; again: {change} bra again;"
    caught = fault(code, np.zeros(1, "u4"), threads=1, max_instructions=30_000)
    assert caught.kind == "deadlock"
    assert "max_instructions=" in caught.detail


def test_the_limit_counts_from_the_last_block_that_ended():
    code = "mov.u32 %r1, 0; again: add.u32 %r1, %r1, 1; setp.lt.u32 %p0, %r1, 21000; @%p0 bra again;"
    run_block(code, np.zeros(1), grid=(3,), threads=1, max_instructions=70_000)
    assert fault(code, np.zeros(1), threads=1, max_instructions=30_000).kind == "deadlock"


def test_a_long_loop_that_comes_back_to_its_registers_is_no_hang():
    # Memory counts; all registers are the same in every round.
    code = """again: ld.global.b32 %r1, [%rd0]; add.u32 %r1, %r1, 1; st.global.b32 [%rd0], %r1;
    setp.lt.u32 %p0, %r1, 3000; mov.u32 %r1, 0; @%p0 bra again;"""
    x = np.zeros(1, "u4")
    run_block(code, x, threads=1)
    assert x[0] == 3000
    local = ".local .align 4 .b8 depot[4]; st.local.b32 [depot], 0;" + code.replace("global", "local")
    run_block(local.replace("[%rd0]", "[depot]"), x, threads=1)


def test_blocks_that_pass_a_turn_on_are_no_hang():
    # Each block waits for its turn in memory, most of them in circles for many rounds; the last one goes first.
    code = """mov.u32 %r0, %ctaid.x; again: ld.acquire.gpu.global.b32 %r1, [%rd0]; setp.ne.u32 %p0, %r1, %r0;
    @%p0 bra again; add.s32 %r1, %r1, -1; st.release.gpu.global.b32 [%rd0], %r1;"""
    turn = np.full(1, 5, "i4")
    run_block(code, turn, threads=1, grid=(6,))
    assert turn[0] == -1


def test_a_tensor_for_a_number_is_refused():
    module = kernel("", ".param .u64 x, .param .u32 n, .param .f32 scale")
    array = np.zeros(1)
    module.launch("k", (1,), (1,), [array, 3, 1.0])
    with pytest.raises(TypeError, match=r"argument 1 \(n\) is a ndarray; the kernel takes a .u32 number"):
        module.launch("k", (1,), (1,), [array, array, 1.0], names=["x", "n", "scale"])
    with pytest.raises(TypeError, match="argument 2 is a ndarray"):
        module.launch("k", (1,), (1,), [array, 3, array])
