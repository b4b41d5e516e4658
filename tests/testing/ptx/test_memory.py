"""Loads, stores and address spaces; faults name the thread, the instruction, the argument and the offset."""

import numpy as np
import pytest
import torch

from lisa_kernels.testing.ptx import Module, PtxError
from tests.testing.ptx.snippets import HEADER, kernel, run_block

LANE = "mov.u32 %r0, %tid.x; "


def fault(*args, **options):
    with pytest.raises(PtxError) as caught:
        run_block(*args, **options)
    return caught.value


@pytest.mark.parametrize(("vector", "count"), [("", 1), (".v2", 2), (".v4", 4)])
def test_vectors_move_whole(vector, count):
    x = np.arange(32 * count, dtype="u4")
    out = np.zeros_like(x)
    registers = ", ".join(f"%r{i + 4}" for i in range(count))
    registers = registers if count == 1 else f"{{{registers}}}"
    run_block(
        LANE + f"mul.wide.u32 %rd4, %r0, {4 * count}; add.s64 %rd5, %rd0, %rd4; add.s64 %rd6, %rd1, %rd4;"
        f"ld.global{vector}.b32 {registers}, [%rd5]; st.global{vector}.b32 [%rd6], {registers};",
        x,
        out,
    )
    assert np.array_equal(out, x)


def test_narrow_signed_loads_extend_by_their_sign():
    x = np.arange(-16, 16, dtype="i1")
    out = np.zeros(32, "i4")
    run_block(
        LANE + "cvt.u64.u32 %rd4, %r0; add.s64 %rd5, %rd0, %rd4; ld.global.s8 %r1, [%rd5];"
        "mul.wide.u32 %rd4, %r0, 4; add.s64 %rd6, %rd1, %rd4; st.global.b32 [%rd6], %r1;",
        x,
        out,
    )
    assert np.array_equal(out, x.astype("i4"))


def test_each_thread_has_its_own_local_memory():
    out = np.zeros(32, "u4")
    run_block(
        ".local .align 8 .b8 depot[16]; mov.u64 %rd2, depot; cvta.local.u64 %rd3, %rd2;"
        + LANE
        + "st.local.b32 [%rd2+4], %r0; ld.b32 %r1, [%rd3+4];"
        "mul.wide.u32 %rd4, %r0, 4; add.s64 %rd6, %rd0, %rd4; st.global.b32 [%rd6], %r1;",
        out,
    )
    assert np.array_equal(out, np.arange(32))


def test_generic_addresses_reach_shared_and_global_memory_in_one_instruction():
    x, out = np.full(1, 7, "u4"), np.zeros(32, "u4")
    run_block(
        ".shared .align 4 .b8 s[4]; mov.u64 %rd2, s; cvta.shared.u64 %rd3, %rd2; st.shared.b32 [s], 9;"
        + LANE
        + "setp.lt.u32 %p0, %r0, 16; selp.b64 %rd4, %rd3, %rd0, %p0; ld.b32 %r1, [%rd4];"
        "isspacep.shared %p1, %rd4; @!%p1 add.s32 %r1, %r1, 100;"
        "mul.wide.u32 %rd4, %r0, 4; add.s64 %rd6, %rd1, %rd4; st.global.b32 [%rd6], %r1;",
        x,
        out,
    )
    assert out.tolist() == [9] * 16 + [107] * 16


def test_module_variables_hold_their_initial_values_and_addresses():
    module = """.global .align 8 .u64 table[2] = {generic(text)+1, 5};
    .const .align 4 .f32 numbers[3] = {0f3F800000, 0f40000000, 2.5};
    .global .align 1 .b8 text[3] = {65, 66, 0};"""
    out, floats = np.zeros(2, "u4"), np.zeros(3, "f4")
    loads = """ld.param.u64 %rd0, [p0]; ld.param.u64 %rd1, [p1]; ld.global.u64 %rd2, [table]; ld.u8 %r0, [%rd2];
    st.global.b32 [%rd0], %r0; ld.global.u64 %rd3, [table+8]; cvt.u32.u64 %r1, %rd3; st.global.b32 [%rd0+4], %r1;
    ld.const.f32 %f0, [numbers]; st.global.f32 [%rd1], %f0;
    ld.const.f32 %f0, [numbers+8]; st.global.f32 [%rd1+8], %f0;"""
    kernel(loads, ".param .u64 p0, .param .u64 p1", module=module).launch("k", (1,), (1,), [out, floats])
    assert out.tolist() == [66, 5]
    assert floats.tolist() == [1.0, 0.0, 2.5]


def test_module_variables_start_anew_at_every_launch():
    out = np.zeros(1, "u4")
    body = "ld.param.u64 %rd0, [out]; ld.global.b32 %r0, [g]; add.s32 %r0, %r0, 1; st.global.b32 [g], %r0;"
    module = kernel(body + "st.global.b32 [%rd0], %r0;", module=".global .align 4 .u32 g = 4;")
    for _ in range(2):
        module.launch("k", (1,), (1,), [out])
        assert out[0] == 5


def test_struct_parameters_are_read_at_offsets():
    text = "ld.param.u64 %rd0, [out]; ld.param.u32 %r0, [s+8]; st.global.b32 [%rd0], %r0;"
    out = np.zeros(1, "u4")
    parameters = ".param .u64 out, .param .align 8 .b8 s[16]"
    packed = (1).to_bytes(8, "little") + (77).to_bytes(4, "little") + bytes(4)
    kernel(text, parameters).launch("k", (1,), (1,), [out, packed])
    assert out[0] == 77


def test_a_read_past_the_end_names_argument_offset_and_thread():
    x, out = np.zeros(31, "f4"), np.zeros(32, "f4")
    body = LANE + "mul.wide.u32 %rd4, %r0, 4; add.s64 %rd5, %rd0, %rd4; ld.global.b32 %r1, [%rd5];"
    caught = fault(body, x, out)
    assert (caught.kind, caught.buffer, caught.offset, caught.threads) == ("out of bounds", "argument 0", 124, (31,))
    assert caught.instruction == "ld.global.b32 %r1, [%rd5]"
    assert caught.block == (0, 0, 0)
    assert "argument 0 of 124 bytes, at byte offset 124" in str(caught)


def test_a_view_narrows_what_may_be_accessed():
    storage = torch.zeros(64)
    body = "ld.global.b32 %r1, [%rd0+-4];"
    assert fault(body, storage[8:16]).offset == -4
    run_block(body, storage[8:16], buffers=[storage])


def test_a_null_pointer_is_out_of_bounds():
    module = kernel("ld.param.u64 %rd0, [out]; ld.b32 %r0, [%rd0];", ".param .u64 out, .param .u64 x")
    with pytest.raises(PtxError, match="out of bounds"):
        module.launch("k", (1,), (1,), [None, np.zeros(4)])


@pytest.mark.parametrize("space", ["global", "shared"])
def test_misaligned_accesses_are_reported(space):
    x = np.zeros(16, "f4")
    body = (
        ".shared .align 16 .b8 s[64]; "
        + {
            "global": "ld.global.v2.b32 {%r0, %r1}, [%rd0+4];",
            "shared": "mov.u32 %r3, s; st.shared.b32 [%r3+2], 0;",
        }[space]
    )
    assert fault(body, x).kind == "misaligned"


def test_vectors_must_be_aligned_to_their_whole_size():
    x = np.zeros(64, "f4")
    start = -x.ctypes.data % 16
    assert fault(f"st.global.v4.b32 [%rd0+{start + 8}], {{%r0, %r1, %r2, %r3}};", x).kind == "misaligned"


def test_shared_memory_has_a_size():
    caught = fault(".shared .align 4 .b8 s[64]; ld.shared.b32 %r0, [s+64];", np.zeros(1), threads=1)
    assert (caught.kind, caught.buffer, caught.offset) == ("out of bounds", "shared memory", 64)


def test_dynamic_shared_memory_lies_behind_static_arrays():
    module = """.extern .shared .align 16 .b8 dynamic[];"""
    body = """.shared .align 4 .b8 s[20]; ld.param.u64 %rd0, [out]; mov.u32 %r0, dynamic; st.global.b32 [%rd0], %r0;
    st.shared.b32 [dynamic+12], 1;"""
    out = np.zeros(1, "u4")
    kernel(body, module=module).launch("k", (1,), (1,), [out], shared_bytes=16)
    assert out[0] == 32
    with pytest.raises(PtxError, match="out of bounds"):
        kernel(body, module=module).launch("k", (1,), (1,), [out], shared_bytes=12)


def test_reading_unwritten_shared_memory_is_reported():
    caught = fault(".shared .align 4 .b8 s[64]; st.shared.b16 [s], 1; ld.shared.b32 %r0, [s];", np.zeros(1), threads=1)
    assert (caught.kind, caught.offset) == ("uninitialised", 2)


def test_unwritten_shared_memory_is_nan_when_checks_are_off():
    out = np.zeros(1, "f4")
    body = ".shared .align 4 .b8 s[64]; ld.shared.b32 %r0, [s]; st.global.b32 [%rd0], %r0;"
    run_block(body, out, threads=1, check_races=False)
    assert np.isnan(out[0])


def test_constants_and_read_only_arrays_cannot_be_written():
    x = np.zeros(4, "f4")
    x.flags.writeable = False
    assert fault("st.global.b32 [%rd0], 0;", x, threads=1).kind == "read only"


def test_bf16_tensors_and_numpy_arrays_are_written_in_place():
    x = torch.zeros(4, dtype=torch.bfloat16)
    run_block("st.global.b16 [%rd0+2], 0x3f80;", x, threads=1)
    assert x.tolist() == [0, 1, 0, 0]


def test_arguments_are_checked_before_anything_runs():
    module = Module(HEADER + ".visible .entry k(.param .u64 a, .param .u32 n) .reqntid 64 { ret; }")
    with pytest.raises(ValueError, match="has 2 parameters; it was given 1"):
        module.launch("k", (1,), (64,), [np.zeros(1)])
    with pytest.raises(TypeError, match="argument 1 is float"):
        module.launch("k", (1,), (64,), [np.zeros(1), 1.5])
    with pytest.raises(ValueError, match="the kernel requires 64"):
        module.launch("k", (1,), (32,), [np.zeros(1), 1])
    with pytest.raises(ValueError, match="the module has k"):
        module.launch("other", (1,), (64,), [np.zeros(1), 1])
    with pytest.raises(ValueError, match="the grid is"):
        module.launch("k", (1,), (64,), [np.zeros(1), 1], blocks=[(1, 0, 0)])
    module.launch("k", (1,), (64,), [np.zeros(1), 1])


def test_the_gaps_of_a_view_may_be_read_but_not_written():
    rows = torch.zeros(4, 8)[:, :6]
    run_block("ld.global.b32 %r0, [%rd0+24]; st.global.b32 [%rd0+32], %r0;", rows, threads=1)
    caught = fault("st.global.b32 [%rd0+24], 0;", rows, threads=1)
    assert (caught.kind, caught.offset) == ("out of bounds", 24)
    assert "between the elements of a view" in caught.detail


def test_the_report_counts_each_byte_of_each_access():
    """Two loads of a word that one cache line would serve are two; lanes that are switched off ask for nothing."""
    # Pieces of memory closer together than 128 bytes are counted as one.
    memory = np.arange(192, dtype="u4")
    x, out = memory[:32], memory[160:]
    report = run_block(
        LANE + "mul.wide.u32 %rd4, %r0, 4; add.s64 %rd5, %rd0, %rd4; add.s64 %rd6, %rd1, %rd4; setp.lt.u32 %p0, %r0, 8;"
        "ld.global.b32 %r1, [%rd5]; ld.global.b32 %r2, [%rd5]; @%p0 st.global.b32 [%rd6], %r1;",
        x,
        out,
    )
    asked = {name: [(a.loaded, a.stored) for a in report.traffic if a.start <= array.ctypes.data < a.start + a.size]
             for name, array in (("x", x), ("out", out))}  # fmt: skip
    assert asked == {"x": [(2 * 32 * 4, 0)], "out": [(0, 8 * 4)]}
