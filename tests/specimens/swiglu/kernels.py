"""Device code: forward and backward, one element a lane and step."""

import triton
import triton.language as tl

from lisa_kernels.core.tl_math import block_offsets, to_dtype


@triton.jit
def swiglu_fwd_kernel(gate_ptr, up_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offs = block_offsets(0, BLOCK)
    mask = offs < n
    gate = tl.load(gate_ptr + offs, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(up_ptr + offs, mask=mask, other=0.0).to(tl.float32)

    out = gate * tl.sigmoid(gate) * up

    tl.store(out_ptr + offs, to_dtype(out, out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def swiglu_bwd_kernel(
    grad_out_ptr, gate_ptr, up_ptr, grad_gate_ptr, grad_up_ptr, n,
    NEED_GATE: tl.constexpr, NEED_UP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    offs = block_offsets(0, BLOCK)
    mask = offs < n
    grad_out = tl.load(grad_out_ptr + offs, mask=mask, other=0.0).to(tl.float32)
    gate = tl.load(gate_ptr + offs, mask=mask, other=0.0).to(tl.float32)
    sigmoid = tl.sigmoid(gate)

    if NEED_GATE:
        up = tl.load(up_ptr + offs, mask=mask, other=0.0).to(tl.float32)
        grad_gate = grad_out * up * sigmoid * (1.0 + gate * (1.0 - sigmoid))
        tl.store(grad_gate_ptr + offs, to_dtype(grad_gate, grad_gate_ptr.dtype.element_ty), mask=mask)
    if NEED_UP:
        grad_up = grad_out * gate * sigmoid
        tl.store(grad_up_ptr + offs, to_dtype(grad_up, grad_up_ptr.dtype.element_ty), mask=mask)
