"""What is not modelled does not compile, and the message names it."""

import pytest
import torch

from lisa_kernels.testing.cuda import HostModule
from tests.testing.cuda.conftest import CACHE, KERNELS

HEADERS = {
    "mma.h": "tensor-core", "cooperative_groups.h": "cooperative groups", "cub/cub.cuh": "CUB",
    "thrust/sort.h": "Thrust", "cuda/pipeline": "libcu++",
    "cuda_awbarrier_primitives.h": "asynchronous barriers", "cute/tensor.hpp": "CUTLASS", "cuda.h": "TMA",
}  # fmt: skip
# What stands in the message, and the kernel or line of refused.cu that it must be found for.
CONSTRUCTS = {
    "inline PTX (asm)": 2, "tex1Dfetch": 1, "__barrier_sync)": 1, "__barrier_sync_count": 1, "__activemask": 1,
    "clock64": 1, "__cluster_dims__": 1, "a __shared__ that is no plain variable": 1, "__cvta_generic_to_shared": 1,
    "cudaLaunchCooperativeKernel": 1, "cudaEventElapsedTime": 1, "__CUDA_ARCH__": 1,
    "libcu++ (cuda::pipeline, cuda::barrier and": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def messages():
    with pytest.raises(RuntimeError, match=r"does not take refused\.cu") as caught:
        HostModule.build(KERNELS / "refused.cu", cache=CACHE)
    return str(caught.value)


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_that_is_not_modelled_is_refused(messages, header):
    (line,) = [line for line in messages.splitlines() if f"<{header}>" in line]
    assert HEADERS[header] in line
    assert "not modelled on the host" in line
    assert "refused.cu:" in line


@pytest.mark.parametrize("construct", CONSTRUCTS)
def test_a_construct_that_is_not_modelled_is_refused(messages, construct):
    lines = {line for line in messages.splitlines() if construct in line and "refused.cu:" in line}
    assert len(lines) >= CONSTRUCTS[construct]


def test_code_by_architecture_is_taken_if_it_thinks_of_the_host(build):
    source = "#if __CUDA_ARCH__ >= 800 || defined(LISA_ON_HOST)\n__global__ void k() {}\n#endif\n"
    assert "k" in build(source).kernels


def test_refused_code_that_is_switched_off_is_no_error(build):
    refused = '#include <mma.h>\n__device__ void f() { asm("trap;"); }'
    source = f"#ifndef LISA_ON_HOST\n{refused}\n#endif\n__global__ void k() {{}}\n"
    assert "k" in build(source).kernels


def test_the_header_of_pipelines_is_taken_for_its_primitives(build):
    source = """
#include <cuda_pipeline.h>
namespace at::cuda { inline int device() { return 0; } }
extern "C" __global__ void copy_kernel(const float* input, float* output) {
  __shared__ float staged[32];
  __pipeline_memcpy_async(staged + threadIdx.x, input + threadIdx.x, 4);
  __pipeline_commit();
  __pipeline_wait_prior(at::cuda::device());
  output[threadIdx.x] = staged[threadIdx.x];
}
"""
    out = torch.zeros(32)
    build(source).launch("copy_kernel", 1, 32, [torch.arange(32.0), out])
    assert torch.equal(out, torch.arange(32.0))


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ("#include <cub/cub.cuh>", "<cub/cub.cuh>: CUB is not modelled on the host"),
        ('static_assert(sizeof(int) == 8, "ints of 8 bytes");', "static assertion failed: ints of 8 bytes"),
    ],
)
def test_what_follows_from_a_refusal_is_not_shown(build, cause, words):
    source = f"{cause}\n__global__ void k() {{ unknown_type_of_it<float, 32> x; }}\n"
    with pytest.raises(RuntimeError) as caught:
        build(source)
    first, *lines = str(caught.value).splitlines()
    assert "does not take source.cu" in first
    assert len(lines) == 1
    assert words in lines[0]


def test_a_name_that_the_compiler_does_not_know_is_shown(build):
    with pytest.raises(RuntimeError, match="unknown_type"):
        build("__global__ void k() { unknown_type x; }\n")


def test_a_launch_from_a_kernel_is_refused(build):
    source = "__global__ void child() {}\n__global__ void parent() { child<<<1, 1>>>(); }\n"
    with pytest.raises(RuntimeError, match="a kernel launches another one"):
        build(source).launch("parent", 1, 1, [])


def test_an_unknown_function_of_the_runtime_is_named(build):
    source = "#include <cuda_runtime.h>\nvoid f() { cudaDeviceReset(); }\n"
    with pytest.raises(RuntimeError, match="cudaDeviceReset"):
        build(source)
