"""Matrix instructions of a warp against torch's products; the layouts are written down here from the ISA's tables."""

import numpy as np
import pytest
import torch

from lisa_kernels.testing.ptx import PtxError
from tests.testing.ptx.snippets import run_block

DTYPES = {
    "f16": torch.float16, "bf16": torch.bfloat16, "tf32": torch.float32, "s8": torch.int8, "u8": torch.uint8,
    "e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2,
}  # fmt: skip
LANES = np.arange(32)
GROUP, PLACE = LANES // 4, LANES % 4


def a_fragment(matrix, per_register):
    """``[16, K]`` as registers ``[count, 32 lanes]`` of ``per_register`` elements."""
    registers = []
    for half_k in range(matrix.shape[1] // (4 * per_register)):
        for half_m in (0, 1):
            columns = half_k * 4 * per_register + PLACE[:, None] * per_register + np.arange(per_register)
            registers.append(matrix[GROUP[:, None] + 8 * half_m, columns])
    return registers


def b_fragment(matrix, per_register):
    """``[K, 8]`` likewise."""
    registers = []
    for half_k in range(matrix.shape[0] // (4 * per_register)):
        rows = half_k * 4 * per_register + PLACE[:, None] * per_register + np.arange(per_register)
        registers.append(matrix[rows, GROUP[:, None]])
    return registers


def words(registers):
    """Registers as one array ``[count, 32]`` of 32-bit words."""
    size = registers[0].element_size()
    raw = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[size]
    return np.stack([r.contiguous().view(raw).numpy().view("u4").reshape(32) for r in registers])


def multiply(form, a, b, c, out_dtype):
    """Run one mma on integers-valued matrices and return ``[16, 8]``."""
    _, _, k = a.shape[0], 8, a.shape[1]
    del k
    per_register = 4 // a.element_size()
    a_words, b_words = words(a_fragment(a, per_register)), words(b_fragment(b, per_register))
    halves = c.element_size() == 2
    c_columns = [c[GROUP + 8 * (i >> 1), 2 * PLACE + (i & 1)] for i in range(4)]
    if halves:
        c_columns = [torch.stack(c_columns[i : i + 2], 1) for i in (0, 2)]
    c_words = words(c_columns)
    d_words = np.zeros_like(c_words)
    body, names = "mov.u32 %r0, %tid.x; mul.wide.u32 %rd8, %r0, 4;", []
    register = 1
    for argument, array in enumerate((a_words, b_words, c_words)):
        body += f"add.s64 %rd9, %rd{argument}, %rd8;"
        mine = []
        for i in range(len(array)):
            body += f"ld.global.b32 %r{register}, [%rd9+{128 * i}];"
            mine.append(f"%r{register}")
            register += 1
        names.append("{" + ", ".join(mine) + "}")
    targets = [f"%r{register + i}" for i in range(len(d_words))]
    body += f"{form} {{{', '.join(targets)}}}, {', '.join(names)}; add.s64 %rd9, %rd3, %rd8;"
    body += "".join(f"st.global.b32 [%rd9+{128 * i}], {name};" for i, name in enumerate(targets))
    run_block(body, a_words, b_words, c_words, d_words)
    raw = torch.from_numpy(d_words.view("i4")).view(out_dtype).reshape(len(d_words), 32, -1)
    result = torch.zeros(16, 8, dtype=out_dtype)
    for i in range(4):
        column = raw[i // 2, :, i % 2] if halves else raw[i, :, 0]
        result[GROUP + 8 * (i >> 1), 2 * PLACE + (i & 1)] = column
    return result


def integers(shape, dtype, low=-4, high=5):
    low = 0 if dtype == torch.uint8 else low
    return torch.randint(low, high, shape).to(dtype)


CASES = [
    *(("m16n8k16", f"f32.{t}.{t}.f32", t, 16, torch.float32) for t in ("f16", "bf16")),
    *(("m16n8k8", f"f32.{t}.{t}.f32", t, 8, torch.float32) for t in ("f16", "bf16", "tf32")),
    ("m16n8k4", "f32.tf32.tf32.f32", "tf32", 4, torch.float32),
    ("m16n8k16", "f16.f16.f16.f16", "f16", 16, torch.float16),
    ("m16n8k8", "f16.f16.f16.f16", "f16", 8, torch.float16),
    *(("m16n8k32", f"f32.{t}.{t}.f32", t, 32, torch.float32) for t in ("e4m3", "e5m2")),
    *(("m16n8k16", f"s32.{t}.{t}.s32", t, 16, torch.int32) for t in ("s8", "u8")),
    *(("m16n8k32", f"s32.{t}.{t}.s32", t, 32, torch.int32) for t in ("s8", "u8")),
]


@pytest.mark.parametrize(("shape", "types", "element", "k", "out"), CASES, ids=[f"{c[0]}.{c[1]}" for c in CASES])
def test_products_of_small_integers_are_exact(shape, types, element, k, out):
    torch.manual_seed(0)
    a, b = integers((16, k), DTYPES[element]), integers((k, 8), DTYPES[element])
    c = integers((16, 8), out, -100, 100)
    got = multiply(f"mma.sync.aligned.{shape}.row.col.{types}", a, b, c, out)
    assert torch.equal(got.double(), a.double() @ b.double() + c.double())


def test_mixed_operand_types():
    a, b = integers((16, 32), torch.float8_e4m3fn), integers((32, 8), torch.float8_e5m2)
    c = torch.zeros(16, 8)
    form = "mma.sync.aligned.m16n8k32.row.col.kind::f8f6f4.f32.e4m3.e5m2.f32"
    assert torch.equal(multiply(form, a, b, c, torch.float32).double(), a.double() @ b.double())


def test_integer_sums_wrap_unless_they_saturate():
    a, b = torch.full((16, 32), 127, dtype=torch.int8), torch.full((32, 8), 127, dtype=torch.int8)
    c = torch.full((16, 8), 2**31 - 10, dtype=torch.int32)
    form = "mma.sync.aligned.m16n8k32.row.col{}.s32.s8.s8.s32"
    assert (multiply(form.format(".satfinite"), a, b, c, torch.int32) == 2**31 - 1).all()
    wrapped = (2**31 - 10 + 32 * 127 * 127) - 2**32
    assert (multiply(form.format(""), a, b, c, torch.int32) == wrapped).all()


def test_tf32_operands_lose_their_low_bits():
    a, b = torch.zeros(16, 8), torch.zeros(8, 8)
    a[0, 0], b[0, 0] = 1 + 2.0**-10 + 2.0**-20, 1.0
    got = multiply("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", a, b, torch.zeros(16, 8), torch.float32)
    assert got[0, 0] == 1 + 2.0**-10


def test_half_of_a_warp_cannot_multiply():
    with pytest.raises(PtxError) as caught:
        run_block(
            "mov.u32 %r9, %tid.x; setp.lt.u32 %p0, %r9, 16; @%p0 mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32"
            " {%f0, %f1, %f2, %f3}, {%r0, %r1}, {%r2}, {%f0, %f1, %f2, %f3};",
            np.zeros(1),
        )
    assert caught.value.kind == "bad sync mask"


SHARED = """.shared .align 16 .b8 s[512]; mov.u32 %r0, %tid.x; mul.wide.u32 %rd8, %r0, 16; add.s64 %rd9, %rd0, %rd8;
ld.global.v4.b32 {%r1, %r2, %r3, %r4}, [%rd9]; mov.u32 %r5, s; mad.lo.u32 %r5, %r0, 16, %r5;
st.shared.v4.b32 [%r5], {%r1, %r2, %r3, %r4}; bar.warp.sync -1;"""
OUT = "mul.wide.u32 %rd8, %r0, 16; add.s64 %rd9, %rd1, %rd8; st.global.v4.b32 [%rd9], {%r6, %r7, %r8, %r9};"


@pytest.mark.parametrize("transposed", [False, True])
def test_ldmatrix_gives_each_lane_two_elements_of_each_matrix(transposed):
    x = np.arange(256, dtype="u2").reshape(4, 8, 8)
    out = np.zeros((32, 4, 2), "u2")
    form = "ldmatrix.sync.aligned.m8n8.x4" + (".trans" if transposed else "") + ".shared.b16"
    run_block(SHARED + f"{form} {{%r6, %r7, %r8, %r9}}, [%r5];" + OUT, x, out)
    matrices = x.transpose(0, 2, 1) if transposed else x
    expected = np.stack([m.reshape(32, 2) for m in matrices], axis=1)
    assert np.array_equal(out, expected)


@pytest.mark.parametrize("transposed", [".trans", ""])
def test_stmatrix_undoes_ldmatrix(transposed):
    x = np.random.default_rng(0).integers(0, 2**16, (4, 8, 8)).astype("u2")
    out = np.zeros_like(x)
    form = f"matrix.sync.aligned.m8n8.x4{transposed}.shared.b16"
    code = f"ld{form} {{%r6, %r7, %r8, %r9}}, [%r5]; bar.warp.sync -1; st.shared.v4.b32 [%r5], {{0, 0, 0, 0}};".replace(
        "{0, 0, 0, 0}", "{%r0, %r0, %r0, %r0}"
    )
    code += f"bar.warp.sync -1; st{form} [%r5], {{%r6, %r7, %r8, %r9}}; bar.warp.sync -1;"
    code += "ld.shared.v4.b32 {%r6, %r7, %r8, %r9}, [%r5];"
    run_block(SHARED + code + OUT, x, out)
    assert np.array_equal(out, x)


def test_movmatrix_transposes():
    x = np.arange(64, dtype="u2").reshape(8, 8)
    out = np.zeros_like(x)
    run_block(
        "mov.u32 %r0, %tid.x; mul.wide.u32 %rd8, %r0, 4; add.s64 %rd9, %rd0, %rd8; ld.global.b32 %r1, [%rd9];"
        "movmatrix.sync.aligned.m8n8.trans.b16 %r2, %r1; add.s64 %rd9, %rd1, %rd8; st.global.b32 [%rd9], %r2;",
        x,
        out,
    )
    assert np.array_equal(out, x.T)


def test_double_products_of_a_warp():
    rng = np.random.default_rng(0)
    a, b, c = rng.integers(-9, 9, (8, 4)).astype("f8"), rng.integers(-9, 9, (4, 8)).astype("f8"), np.ones((8, 8))
    run_block(
        """mov.u32 %r0, %tid.x; mul.wide.u32 %rd4, %r0, 8; add.s64 %rd5, %rd0, %rd4; ld.global.f64 %d0, [%rd5];
        shr.u32 %r1, %r0, 2; and.b32 %r2, %r0, 3; mad.lo.u32 %r3, %r2, 8, %r1; mul.wide.u32 %rd4, %r3, 8;
        add.s64 %rd5, %rd1, %rd4; ld.global.f64 %d1, [%rd5]; mul.wide.u32 %rd4, %r0, 16; add.s64 %rd6, %rd2, %rd4;
        ld.global.v2.f64 {%d2, %d3}, [%rd6];
        mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%d2, %d3}, {%d0}, {%d1}, {%d2, %d3};
        st.global.v2.f64 [%rd6], {%d2, %d3};""",
        a, b, c,
    )  # fmt: skip
    assert np.array_equal(c, a @ b + 1)
