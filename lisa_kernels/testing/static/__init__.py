"""Static figures of compiled kernels: registers, spills, occupancy, matrix instructions, access widths, a cycle model.

One kernel of your own, on a machine without a GPU::

    from lisa_kernels.testing.static import analyze_kernel
    print(analyze_kernel(my_kernel, (4,), x, out, 4096, target="sm_90", constexprs={"BLOCK": 1024}, num_warps=4))

The kernels of a CUDA file; ``threads`` says how many a block has, of those without ``__launch_bounds__``::

    from lisa_kernels.testing.static import analyze_cuda
    for figures in analyze_cuda("softmax.cu", "sm_90a", threads={"softmax_kernel": 128}):
        print(figures)

``python -m bench static`` does it for every shipped configuration of every op.  The figures are unitless; what they can
and cannot tell stands in ``replay.py``.
"""

from lisa_kernels.testing.static.cuda_kernel import analyze_cuda
from lisa_kernels.testing.static.figures import KernelFigures, LoopFigures
from lisa_kernels.testing.static.replay import TRUST
from lisa_kernels.testing.static.triton_kernel import analyze_kernel, analyze_launch, read_compiled

__all__ = ["TRUST", "KernelFigures", "LoopFigures", "analyze_cuda", "analyze_kernel", "analyze_launch", "read_compiled"]
