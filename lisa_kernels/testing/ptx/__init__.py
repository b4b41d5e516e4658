"""Executes the PTX that Triton or nvcc made, on the CPU, and stops at the first fault.

Three lines run a kernel of your own as compiled for a real device::

    x, out = torch.randn(1000), torch.empty(1000)
    emulate(my_kernel, (4,), x, out, 1000, constexprs={"BLOCK": 256}, target="sm_90")
    assert_matches(out, x.double().exp())

Faults are ``PtxError``: accesses out of bounds or misaligned, races in shared and global memory, data of asynchronous
copies and products used before they were waited for, mbarriers and tensor maps misused, wrong member masks, deadlocks,
failed asserts.  It names the instruction, the threads, the line of the kernel's source and the argument.  What is not
modelled, an instruction or a modifier, is refused before anything runs; ``python -m lisa_kernels.testing.ptx --list``
prints what is.
"""

from lisa_kernels.testing.ptx.faults import KINDS, PtxError
from lisa_kernels.testing.ptx.launch import Module, Options, Report
from lisa_kernels.testing.ptx.syntax import supported
from lisa_kernels.testing.ptx.triton import emulate, run_compiled

__all__ = ["KINDS", "Module", "Options", "PtxError", "Report", "emulate", "run_compiled", "supported"]
