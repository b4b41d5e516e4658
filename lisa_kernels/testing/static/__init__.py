"""Static figures of compiled kernels: registers, spills, occupancy, matrix instructions, access widths, a cycle model.

One kernel of your own, on a machine without a GPU::

    from lisa_kernels.testing.static import analyze_kernel
    print(analyze_kernel(my_kernel, (4,), x, out, 4096, target="sm_90", constexprs={"BLOCK": 1024}, num_warps=4))

``python -m bench static`` does it for every shipped configuration of every op.  The figures are unitless; what they can
and cannot tell stands in ``replay.py``.
"""

from lisa_kernels.testing.static.figures import KernelFigures, LoopFigures
from lisa_kernels.testing.static.replay import TRUST
from lisa_kernels.testing.static.triton_kernel import analyze_kernel, analyze_launch, read_compiled

__all__ = ["TRUST", "KernelFigures", "LoopFigures", "analyze_kernel", "analyze_launch", "read_compiled"]
