"""Atomic operations: results, what they return, and what they order."""

import numpy as np
import pytest
import torch

from tests.testing.ptx.snippets import run_block

LANE = "mov.u32 %r0, %tid.x; "
RETURN = "mul.wide.u32 %rd4, %r0, 4; add.s64 %rd5, %rd1, %rd4; st.global.b32 [%rd5], %r9;"


def run(code, start, threads=32):
    memory, returned = np.array([start], "u4"), np.zeros(threads, "u4")
    run_block(LANE + code + RETURN, memory, returned, threads=threads)
    return memory[0], returned


@pytest.mark.parametrize(
    ("op", "start", "end"),
    [
        ("add.u32", 5, 5 + 31 * 16),
        ("max.u32", 5, 31),
        ("min.s32", 5, 0),
        ("or.b32", 64, 64 | 31),
        ("and.b32", 0xFF, 0),
        ("xor.b32", 1, 1 ^ int(np.bitwise_xor.reduce(np.arange(32)))),
        ("exch.b32", 7, 31),
    ],
)
def test_operations_on_one_address(op, start, end):
    memory, returned = run(f"atom.global.{op} %r9, [%rd0], %r0;", start)
    assert memory == end
    assert returned[0] == start


def test_increments_wrap_at_their_limit():
    memory, returned = run("atom.global.inc.u32 %r9, [%rd0], 4;", 0)
    assert returned.tolist() == [i % 5 for i in range(32)]
    memory, returned = run("atom.global.dec.u32 %r9, [%rd0], 4;", 2)
    assert returned.tolist()[:5] == [2, 1, 0, 4, 3]
    assert memory == (2 - 32) % 5


def test_compare_and_swap_writes_where_it_matches():
    memory, returned = run("add.u32 %r1, %r0, 1; atom.global.cas.b32 %r9, [%rd0], %r0, %r1;", 0)
    assert memory == 32
    assert returned.tolist() == list(range(32))


def test_float_sums_round_at_every_step():
    memory = np.array([2.0**24], "f4")
    run_block("red.global.add.f32 [%rd0], 0f3F800000;", memory)
    assert memory[0] == 2.0**24
    half = torch.zeros(2, dtype=torch.bfloat16)
    run_block("mov.u32 %r1, 0x3f803f80; red.global.add.noftz.bf16x2 [%rd0], %r1;", half, threads=300)
    # bf16 counts to 256 and stays there.
    assert half.tolist() == [256, 256]


def test_shared_atomics_and_64_bits():
    out = np.zeros(1, "u8")
    run_block(
        ".shared .align 8 .b8 s[8];"
        + LANE
        + "setp.eq.u32 %p0, %r0, 0; @%p0 st.shared.b64 [s], 0; bar.sync 0; cvt.u64.u32 %rd3, %r0;"
        "red.shared.add.u64 [s], %rd3; bar.sync 0; ld.shared.b64 %rd4, [s]; @%p0 st.global.b64 [%rd0], %rd4;",
        out,
        threads=64,
    )
    assert out[0] == 63 * 32


def test_vectors_are_added_element_by_element():
    memory = np.zeros(4, "f4")
    run_block("mov.b32 %f0, 0f3F800000; red.global.add.v4.f32 [%rd0], {%f0, %f0, %f0, %f0};", memory)
    assert memory.tolist() == [32.0] * 4


def test_every_order_of_qualifiers_is_understood():
    for qualifiers in ("global.gpu.acq_rel", "global.acq_rel.gpu", "acq_rel.gpu.global", "relaxed.sys.global"):
        memory, _ = run(f"atom.{qualifiers}.add.u32 %r9, [%rd0], 1;", 0)
        assert memory == 32, qualifiers
