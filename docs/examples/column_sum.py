"""Three lines that judge a Triton kernel of your own, on one with two faults.

    TRITON_INTERPRET=1 python docs/examples/column_sum.py     # its source, in Triton's interpreter
    python docs/examples/column_sum.py                        # its machine code for an H100, in the emulator

The kernel adds up the columns of a matrix, one program a row.  It has no mask on its load, so the last row is read past
its end; and all programs read, add and write the same sums, so some additions are lost.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def column_sum_kernel(x_ptr, out_ptr, n_cols, BLOCK: tl.constexpr):
    cols = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + tl.program_id(0) * n_cols + cols)
    total = tl.load(out_ptr + cols, mask=cols < n_cols) + x
    tl.store(out_ptr + cols, total, mask=cols < n_cols)


def sanitized(x: torch.Tensor, out: torch.Tensor) -> None:
    """Every access of the source, in the interpreter."""
    from lisa_kernels.testing.sanitizer import sanitize

    with sanitize():
        column_sum_kernel[(x.shape[0],)](x, out, x.shape[1], BLOCK=128)


def emulated(x: torch.Tensor, out: torch.Tensor) -> None:
    """Every access of the compiled code."""
    from lisa_kernels.testing.ptx import emulate

    emulate(column_sum_kernel, (x.shape[0],), x, out, x.shape[1], constexprs={"BLOCK": 128}, target="sm_90")


if __name__ == "__main__":
    judge = sanitized if triton.knobs.runtime.interpret else emulated
    judge(torch.randn(3, 100), torch.zeros(100))
    print("no fault found")
