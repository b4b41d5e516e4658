"""CUDA C++ without a GPU: compile it with nvcc, or run it on the CPU and see what it does wrong.

Four lines run a kernel of your own, threads in an order drawn from a seed::

    module = HostModule.build("softmax.cu")
    out = torch.empty_like(x)
    module.launch("softmax_kernel", 8, 128, [x, out, 100], seed=1)
    assert_matches(out, x.double().softmax(-1), depth=100)

A store beyond a tensor is a ``HostFault`` that names thread and tensor; a load is one too, or gives NaN.
``HostModule.build(..., sanitize=True)`` adds AddressSanitizer and UndefinedBehaviorSanitizer.  A missing
``__syncthreads`` shows as wrong values under some seed, not under every: run three, and the PTX through the emulator
for the sure check.  Times on the host say nothing about a GPU.
"""

from lisa_kernels.testing.cuda.arguments import StructArgument, struct_argument
from lisa_kernels.testing.cuda.compiler import Cubin, compile_cubin, compile_ptx
from lisa_kernels.testing.cuda.faults import KINDS, HostFault
from lisa_kernels.testing.cuda.host import HostLaunch, HostModule
from lisa_kernels.testing.cuda.toolchain import find_nvcc, why_no_host, why_no_nvcc

__all__ = [
    "KINDS",
    "Cubin",
    "HostFault",
    "HostLaunch",
    "HostModule",
    "StructArgument",
    "compile_cubin",
    "compile_ptx",
    "find_nvcc",
    "struct_argument",
    "why_no_host",
    "why_no_nvcc",
]
