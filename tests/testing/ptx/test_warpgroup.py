"""wgmma: its asynchrony.  Values are in test_triton; here each fence and wait is removed and missed."""

import re

import pytest
import torch

from lisa_kernels.core.config import read_settings

if read_settings().interpret:
    pytest.skip("needs the compiler: unset TRITON_INTERPRET", allow_module_level=True)
pytest.importorskip("triton", reason="needs triton")

import numpy as np

from lisa_kernels.core.launch import specialise
from lisa_kernels.testing.compiled import compile_launch
from lisa_kernels.testing.ptx import PtxError, run_compiled
from tests.testing.ptx import triton_kernels as kernels
from tests.testing.ptx.snippets import run_block


@pytest.fixture(scope="module")
def pipelined():
    """A pipelined product of two warpgroups, and a function that runs a changed text of it."""
    a, b, c = torch.ones(128, 256).bfloat16(), torch.ones(256, 128).bfloat16(), torch.zeros(128, 128)
    options = {"num_warps": 8, "num_stages": 3, "enable_fp_fusion": True}
    constexprs = {"K": 256, "SIZE": 128, "BLOCK_K": 64}
    launch = specialise(kernels.pipelined_kernel, (1,), (a, b, c), constexprs=constexprs, options=options)
    compiled = compile_launch(launch, "sm_90")

    def run(text, **further):
        c.zero_()
        run_compiled(compiled, (1,), (a, b, c), ptx=text, **further)
        return c

    return compiled.asm["ptx"], run


def without(text, pattern, which=0):
    found = list(re.finditer(pattern + r"[^;]*;", text))
    return text[: found[which].start()] + text[found[which].end() :]


@pytest.mark.parametrize("schedule", ["lockstep", 1])
def test_the_kernel_as_compiled_has_no_fault(pipelined, schedule):
    text, run = pipelined
    assert (run(text, schedule=schedule) == 256).all()


@pytest.mark.parametrize(
    ("pattern", "kind"),
    [
        (r"wgmma\.fence", "missing wgmma.fence"),
        (r"wgmma\.commit_group", "unfinished wgmma"),
        (r"wgmma\.wait_group\.sync\.aligned\s+1", "unfinished wgmma"),
        (r"wgmma\.wait_group\.sync\.aligned\s+0", "unfinished wgmma"),
        (r"fence\.proxy\.async", "missing proxy fence"),
    ],
)
def test_each_removed_fence_or_wait_is_reported(pipelined, pattern, kind):
    text, run = pipelined
    with pytest.raises(PtxError) as caught:
        run(without(text, pattern))
    assert caught.value.kind == kind


def test_every_removed_barrier_is_reported(pipelined):
    text, run = pipelined
    count = len(re.findall(r"bar\.sync", text))
    assert count >= 3
    for which in range(count):
        with pytest.raises(PtxError, match="shared race"):
            run(without(text, r"bar\.sync", which))


@pytest.mark.parametrize("wait", ["0", "1"])
def test_every_loosened_wait_is_reported(pipelined, wait):
    text, run = pipelined
    loosened = re.sub(rf"(wgmma\.wait_group\.sync\.aligned\s+){wait};", rf"\g<1>{int(wait) + 1};", text)
    assert loosened != text
    with pytest.raises(PtxError, match="unfinished wgmma"):
        run(loosened)


# One m64n8k16 product of zeros: A at 0, B at 2048, no swizzle; core matrices of 128 bytes.
DESCRIPTOR = "mov.u64 %rd{0}, {1};"
A_DESCRIPTOR = (0 >> 4) | (128 >> 4) << 16 | (256 >> 4) << 32
B_DESCRIPTOR = (2048 >> 4) | (128 >> 4) << 16 | (256 >> 4) << 32
FILL = (
    """.shared .align 128 .b8 s[2304]; mov.u32 %r0, %tid.x; mov.u32 %r1, s; mad.lo.u32 %r2, %r0, 16, %r1;
mov.u32 %r3, 0x3f803f80; st.shared.v4.b32 [%r2], {{%r3, %r3, %r3, %r3}}; setp.lt.u32 %p1, %r0, 16;
@%p1 st.shared.v4.b32 [%r2+2048], {{%r3, %r3, %r3, %r3}}; setp.eq.u32 %p0, 0, 0;
mov.b32 %f0, 0f40000000; mov.b32 %f1, %f0; mov.b32 %f2, %f0; mov.b32 %f3, %f0;
{proxy} bar.sync 0; mov.u64 %rd4, """
    + f"{A_DESCRIPTOR}; mov.u64 %rd5, {B_DESCRIPTOR};"
)
PROXY, FENCE = "fence.proxy.async;", "wgmma.fence.sync.aligned;"
PRODUCT = "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0, %f1, %f2, %f3}, %rd4, %rd5, %p0, 1, 1, 0, 0;"
COMMIT, WAIT = "wgmma.commit_group.sync.aligned;", "wgmma.wait_group.sync.aligned 0;"
OUT = "mul.wide.u32 %rd8, %r0, 16; add.s64 %rd9, %rd0, %rd8; st.global.v4.b32 [%rd9], {%f0, %f1, %f2, %f3};"


def product(code, proxy=PROXY):
    out = np.zeros((128, 4), "f4")
    run_block(FILL.format(proxy=proxy) + code, out, threads=128)
    return out


def fault(code, **options):
    with pytest.raises(PtxError) as caught:
        product(code, **options)
    return caught.value.kind


def test_a_product_by_hand():
    assert (product(FENCE + PRODUCT + COMMIT + WAIT + OUT) == 2 + 16).all()
    # Without adding to the accumulators, with negated A, and twice.
    fresh = "setp.ne.u32 %p0, 0, 0;" + FENCE + PRODUCT.replace("%p0, 1, 1", "%p0, -1, 1") + COMMIT + WAIT + OUT
    assert (product(fresh) == -16).all()
    assert (product(FENCE + PRODUCT + PRODUCT + COMMIT + WAIT + OUT) == 2 + 32).all()


def test_accumulators_are_closed_until_the_wait():
    assert fault(FENCE + PRODUCT + COMMIT + OUT) == "unfinished wgmma"
    assert fault(FENCE + PRODUCT + WAIT + OUT) == "unfinished wgmma"
    assert fault(FENCE + PRODUCT + COMMIT + "mov.b32 %f1, 0;" + WAIT + OUT) == "unfinished wgmma"


def test_operands_in_shared_memory_stay_as_they_are_until_the_wait():
    store = "st.shared.b32 [%r2], %r3;"
    assert fault(FENCE + PRODUCT + COMMIT + store + WAIT + OUT) == "unfinished wgmma"
    # Reading is allowed; writing what another warp's product reads needs a barrier after the wait.
    product(FENCE + PRODUCT + COMMIT + "ld.shared.b32 %r4, [%r2];" + WAIT + OUT)
    other = "setp.eq.u32 %p2, %r0, 0; @%p2 st.shared.b32 [s+2048], 0;"
    assert fault(FENCE + PRODUCT + COMMIT + WAIT + other + OUT) == "shared race"
    product(FENCE + PRODUCT + COMMIT + WAIT + "bar.sync 0;" + other + OUT)


def test_a_fence_must_follow_the_last_access_of_the_accumulators():
    assert fault(PRODUCT + COMMIT + WAIT + OUT) == "missing wgmma.fence"
    assert fault(FENCE + "mov.b32 %f2, 0;" + PRODUCT + COMMIT + WAIT + OUT) == "missing wgmma.fence"
    product(FENCE + PRODUCT + COMMIT + WAIT + FENCE + PRODUCT + COMMIT + WAIT + OUT)
    again = FENCE + PRODUCT + COMMIT + WAIT + "add.f32 %f0, %f0, %f0;"
    assert fault(again + PRODUCT + COMMIT + WAIT + OUT) == "missing wgmma.fence"


def test_a_product_of_another_shape_needs_a_wait_or_a_fence():
    other = PRODUCT.replace("bf16.bf16", "f16.f16")
    assert fault(FENCE + PRODUCT + other + COMMIT + WAIT + OUT) == "missing wgmma.fence"


def test_a_proxy_fence_must_stand_between_write_and_product():
    assert fault(FENCE + PRODUCT + COMMIT + WAIT + OUT, proxy="") == "missing proxy fence"
    # After the barrier, by the reader, it covers all it has seen.
    product(PROXY + FENCE + PRODUCT + COMMIT + WAIT + OUT, proxy="")
    # A fence does not cover what is written after it.
    late = "st.shared.b32 [%r2], %r3; bar.sync 0;"
    assert fault(late + FENCE + PRODUCT + COMMIT + WAIT + OUT) == "missing proxy fence"


def test_a_warpgroup_must_be_complete():
    assert fault("setp.lt.u32 %p2, %r0, 96; @%p2 " + FENCE) == "bad sync mask"


def test_descriptors_are_bounded_by_shared_memory():
    assert fault("mov.u64 %rd4, " + str((2304 >> 4) | 8 << 16 | 16 << 32) + ";" + FENCE + PRODUCT) == "out of bounds"


def test_copies_of_accumulators_are_closed_like_these():
    # As Triton unpacks f16 accumulators.
    early = FENCE + PRODUCT + COMMIT + "mov.b32 {%h1, %h2}, %f1;"
    product(early + WAIT + "mov.b32 %f1, {%h1, %h2};" + OUT)
    assert fault(early + "mov.b32 %f5, {%h1, %h2}; add.f32 %f5, %f5, %f5;" + WAIT + OUT) == "unfinished wgmma"
