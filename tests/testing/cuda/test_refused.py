"""What is not modelled does not compile, and the message names it."""

import pytest

from lisa_kernels.testing.cuda import HostModule
from tests.testing.cuda.conftest import CACHE, KERNELS

HEADERS = {
    "mma.h": "tensor-core", "cooperative_groups.h": "cooperative groups", "cub/cub.cuh": "CUB",
    "thrust/sort.h": "Thrust", "cuda/pipeline": "libcu++", "cuda_pipeline.h": "libcu++",
    "cuda_awbarrier_primitives.h": "asynchronous barriers", "cute/tensor.hpp": "CUTLASS", "cuda.h": "TMA",
}  # fmt: skip
# What stands in the message, and the kernel or line of refused.cu that it must be found for.
CONSTRUCTS = {
    "inline PTX (asm)": 2, "tex1Dfetch": 1, "__barrier_sync)": 1, "__barrier_sync_count": 1, "__activemask": 1,
    "clock64": 1, "__cluster_dims__": 1, "a __shared__ that is no plain variable": 1, "__cvta_generic_to_shared": 1,
    "cudaLaunchCooperativeKernel": 1, "cudaEventElapsedTime": 1, "__CUDA_ARCH__": 1,
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


def test_a_launch_from_a_kernel_is_refused(build):
    source = "__global__ void child() {}\n__global__ void parent() { child<<<1, 1>>>(); }\n"
    with pytest.raises(RuntimeError, match="a kernel launches another one"):
        build(source).launch("parent", 1, 1, [])


def test_an_unknown_function_of_the_runtime_is_named(build):
    source = "#include <cuda_runtime.h>\nvoid f() { cudaDeviceReset(); }\n"
    with pytest.raises(RuntimeError, match="cudaDeviceReset"):
        build(source)
