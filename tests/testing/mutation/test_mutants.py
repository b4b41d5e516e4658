"""Mutants: one change each, of the place and kind they say."""

import ast
import difflib

import pytest

from lisa_kernels.testing.mutation import KINDS, cuda_mutants, ptx_mutants, triton_mutants

PTX = """\
	ld.param.b64 	%rd1, [kernel_param_0];
	@%p1 ld.global.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd1 + 0 ];
	cp.async.cg.shared.global [ %r5 + 0 ], [ %rd2 + 0 ], 0x10, %r6;
	cp.async.commit_group;
	cp.async.wait_group 	1;
	bar.sync 	0;
	// bar.sync 0;
	st.shared.b16 	[%r7+64], %rs1;
	@!%p2 st.global.b32 [ %rd3 + 0 ], { %r8 };
	ret;
"""
TRITON = """\
import triton
import triton.language as tl


@triton.jit
def other_kernel(x_ptr):
    tl.store(x_ptr + tl.arange(0, 4), 1.0)


@triton.jit
def kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offs, mask=(offs < n) & (offs >= 0), other=0.0)
    tl.store(out_ptr + offs, tl.where(x > 0, x, 0.0))
"""
CUDA = """\
__global__ void kernel(const float* x, float* out, int n) {
  __shared__ float tile[64];
  __pipeline_wait_prior(0);
  tile[threadIdx.x] = x[0];
  __syncthreads();
  if (blockIdx.x < n) out[0] = tile[1];
}
"""


def changes(mutants):
    return {(mutant.kind, mutant.line, mutant.after) for mutant in mutants}


def test_ptx_mutants_are_these():
    assert changes(ptx_mutants(PTX)) == {
        ("mask", 2, "ld.global.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd1 + 0 ];"),
        ("index", 2, "@%p1 ld.global.v4.b32 { %r1, %r2, %r3, %r4 }, [%rd1+16];"),
        ("mask", 3, "cp.async.cg.shared.global [ %r5 + 0 ], [ %rd2 + 0 ], 0x10;"),
        ("index", 3, "cp.async.cg.shared.global [%r5+16], [ %rd2 + 0 ], 0x10, %r6;"),
        ("index", 3, "cp.async.cg.shared.global [ %r5 + 0 ], [%rd2+16], 0x10, %r6;"),
        ("wait", 5, "cp.async.wait_group 2;"),
        ("barrier", 6, ""),
        ("index", 8, "st.shared.b16 [%r7+66], %rs1;"),
        ("store", 8, "st.shared.b16 [%r7+64], %rs1; st.shared.b16 [%r7+66], %rs1;"),
        ("mask", 9, "st.global.b32 [ %rd3 + 0 ], { %r8 };"),
        ("index", 9, "@!%p2 st.global.b32 [%rd3+4], { %r8 };"),
        ("store", 9, "@!%p2 st.global.b32 [ %rd3 + 0 ], { %r8 }; @!%p2 st.global.b32 [%rd3+4], { %r8 };"),
    }


def test_ptx_mutants_of_mbarriers_are_these():
    text = """\
	@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], 64;
	mbarrier.try_wait.parity.shared::cta.b64 complete, [%r1], %r2;
	fence.proxy.tensormap::generic.acquire.gpu [ %rd1 + 0 ], 0x80;
	cp.async.bulk.wait_group.read 0 ;
"""
    assert changes(ptx_mutants(text)) == {
        ("barrier", 1, ""),
        ("wait", 2, "setp.eq.u32 complete, 0, 0;"),
        ("barrier", 3, ""),
        ("wait", 4, "cp.async.bulk.wait_group.read 1;"),
    }


def test_triton_mutants_are_these():
    assert changes(triton_mutants(TRITON, "kernel")) == {
        ("index", 12, "tl.program_id(1)"),
        ("index", 12, "tl.arange(0, BLOCK) + 1"),
        ("mask", 13, "tl.load(x_ptr + offs)"),
        ("mask", 13, "offs < n"),
        ("mask", 13, "offs >= 0"),
        ("mask", 13, "offs <= n"),
        ("mask", 14, "x"),
        (
            "store",
            14,
            "tl.store(out_ptr + offs, tl.where(x > 0, x, 0.0)); tl.store(out_ptr + offs + 1, tl.where(x > 0, x, 0.0))",
        ),
    }


def test_cuda_mutants_are_these():
    assert changes(cuda_mutants(CUDA)) == {
        ("wait", 3, "__pipeline_wait_prior(1)"),
        ("index", 4, "(threadIdx.x + 1)"),
        ("store", 4, "{ tile[threadIdx.x] = x[0]; (&tile[threadIdx.x])[1] = x[0]; }"),
        ("barrier", 5, ""),
        ("mask", 6, "<="),
        ("store", 6, "{ out[0] = tile[1]; (&out[0])[1] = tile[1]; }"),
    }


@pytest.mark.parametrize(
    ("source", "mutants"),
    [(PTX, ptx_mutants(PTX)), (TRITON, triton_mutants(TRITON, "kernel")), (CUDA, cuda_mutants(CUDA))],
    ids=["ptx", "triton", "cuda"],
)
def test_each_mutant_changes_its_own_place_alone(source, mutants):
    if source is TRITON:
        source = ast.unparse(ast.parse(source)) + "\n"
    assert len({mutant.text for mutant in mutants}) == len(mutants)
    for mutant in mutants:
        assert mutant.kind in KINDS
        removed = [line for line in difflib.ndiff(source.splitlines(), mutant.text.splitlines()) if line[0] == "-"]
        assert len(removed) <= 1, mutant


def test_other_functions_of_the_module_stay():
    assert all("tl.store(x_ptr + tl.arange(0, 4), 1.0)" in mutant.text for mutant in triton_mutants(TRITON, "kernel"))


def test_an_unknown_function_is_named():
    with pytest.raises(ValueError, match="triton_mutants: function is 'nothing'; the source has no function"):
        triton_mutants(TRITON, "nothing")
