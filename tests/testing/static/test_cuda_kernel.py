"""CUDA C++ through nvcc: every kernel of a file, with the threads that its launch bounds name."""

import pytest

from lisa_kernels.testing.cuda.toolchain import why_no_nvcc
from lisa_kernels.testing.static import analyze_cuda, disassemble
from lisa_kernels.testing.static.cuda_kernel import nvcc_name, readable_name
from lisa_kernels.testing.static.gates import judge

needs_nvcc = pytest.mark.skipif(why_no_nvcc() is not None, reason=f"needs nvcc: {why_no_nvcc()}")

SOURCE = """
extern "C" __global__ void __launch_bounds__(256) twice_kernel(const float4* x, float4* out, int n) {
  for (int i = threadIdx.x; i < n; i += 256) {
    float4 v = x[i];
    out[i] = make_float4(2 * v.x, 2 * v.y, 2 * v.z, 2 * v.w);
  }
}

namespace lisa {
template <typename T>
__global__ void __launch_bounds__(128) sum_kernel(const T* x, T* out, int n) {
  __shared__ T part[128];
  T sum = 0;
  for (int i = threadIdx.x; i < n; i += 128) sum += exp2f(x[i]);
  part[threadIdx.x] = sum;
  __syncthreads();
  out[threadIdx.x] = part[127 - threadIdx.x];
}
template __global__ void sum_kernel<float>(const float*, float*, int);
}  // namespace lisa
"""
# Indexed by a value that is only known at run time: the array cannot live in registers.
SPILLING = """
extern "C" __global__ void __launch_bounds__(64) pick_kernel(float* x, const int* at) {
  float kept[64] = {};
  for (int i = 0; i < 256; ++i) kept[at[i] & 63] += x[i * 64 + threadIdx.x];
  for (int i = 0; i < 64; ++i) x[i * 64 + threadIdx.x] = kept[i];
}
"""


@pytest.fixture(scope="module")
def kernels():
    return {readable_name(figures.kernel): figures for figures in analyze_cuda(SOURCE, "sm_80")}


@needs_nvcc
def test_every_kernel_of_a_file_is_analysed_with_its_launch_bounds(kernels):
    assert {name: figures.threads for name, figures in kernels.items()} == {"twice_kernel": 256, "sum_kernel": 128}
    assert {figures.toolchain for figures in kernels.values()} == {nvcc_name()}
    assert {figures.target for figures in kernels.values()} == {"sm_80"}


@needs_nvcc
def test_static_shared_memory_and_barriers_are_counted(kernels):
    assert kernels["sum_kernel"].shared_bytes == 128 * 4
    assert kernels["twice_kernel"].shared_bytes == 0
    assert kernels["sum_kernel"].hot.special >= 1


@needs_nvcc
def test_wide_accesses_pass_and_narrow_ones_fail(kernels):
    verdicts = {
        name: next(v.status for v in judge(figures, name=name) if v.gate == "width")
        for name, figures in kernels.items()
    }
    assert verdicts == {"twice_kernel": "passed", "sum_kernel": "failed"}


@needs_nvcc
def test_a_local_array_fails_the_spill_gate():
    (figures,) = analyze_cuda(SPILLING, "sm_80")
    assert next(v.status for v in judge(figures, name="pick") if v.gate == "spills") == "failed"


@needs_nvcc
def test_a_kernel_without_launch_bounds_is_refused_until_somebody_names_its_threads():
    source = 'extern "C" __global__ void free_kernel(float* x) { x[threadIdx.x] = 1; }\n'
    with pytest.raises(ValueError, match="kernel free_kernel has no __launch_bounds__"):
        analyze_cuda(source, "sm_80")
    (figures,) = analyze_cuda(source, "sm_80", threads={"free_kernel": 64})
    assert figures.threads == 64


@needs_nvcc
@pytest.mark.prove
@pytest.mark.parametrize("target", ["sm_90", "sm_100", "sm_120"])
def test_every_target_is_read(target):
    assert {readable_name(figures.kernel) for figures in analyze_cuda(SOURCE, target)} == {"twice_kernel", "sum_kernel"}


def test_a_tool_that_is_nowhere_is_a_reason():
    with pytest.raises(
        RuntimeError, match=r"nvdisasm_of_nobody is neither in the triton wheel nor on PATH; .* pip install"
    ):
        disassemble.find_tool("nvdisasm_of_nobody")


@pytest.mark.parametrize(
    ("mangled", "name"),
    [
        ("twice_kernel", "twice_kernel"), ("_Z10sum_kernelIfEvPKT_PS0_i", "sum_kernel"),
        ("_ZN4lisa10sum_kernelIfEEvPKT_PS1_i", "sum_kernel"),
    ],
)  # fmt: skip
def test_a_mangled_name_is_shown_as_its_last_identifier(mangled, name):
    assert readable_name(mangled) == name
