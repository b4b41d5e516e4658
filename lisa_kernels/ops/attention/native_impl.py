"""Host code of the C++ kernels: hands the call to ``torch.ops.lisa_C``.

They read the plan's tables of tokens and visibility words, not its tile lists: they gather the tokens of a modality of
a sample, and cut panels from those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lisa_kernels.ops.attention.strides import laid_out_like


def refuse(named: Mapping[str, Any]) -> str | None:
    """Return why the kernels cannot run a call, or None."""
    if named["q"].dtype == torch.float64:
        return "q is float64; it takes float32, bfloat16 or float16"
    return None


def forward(
    q: Tensor, k: Tensor, v: Tensor, tokens_q: Tensor, tokens_k: Tensor, words: Tensor, head_type: Tensor,
    lists_q: Tensor, lists_k: Tensor, order_q: Tensor, order_k: Tensor, scale: float, causal: bool, exact: bool,
    reordered: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    q, k, v = (_dense_rows(x) for x in (q, k, v))
    return torch.ops.lisa_C.cross_modal_attention_fwd(
        q, k, v, tokens_q, tokens_k, words, head_type, scale, causal, reordered
    )


def backward(
    grad_out: Tensor, grad_lse2: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse2: Tensor, tokens_q: Tensor,
    tokens_k: Tensor, words: Tensor, head_type: Tensor, lists_q: Tensor, lists_k: Tensor, order_q: Tensor,
    order_k: Tensor, scale: float, causal: bool, exact: bool, reordered: bool, needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    inputs = (q, k, v)
    dense = [_dense_rows(x) for x in inputs]
    # Strided as the input, unless its rows are not dense.
    grads = [torch.empty_like(x) if need else x.new_empty(0) for x, need in zip(dense, needs, strict=True)]
    torch.ops.lisa_C.cross_modal_attention_bwd(
        grad_out, grad_lse2, *dense, out, lse2, tokens_q, tokens_k, words, head_type, scale, causal, reordered, *grads
    )
    return tuple(laid_out_like(grad, x) if need else grad for grad, x, need in zip(grads, inputs, needs, strict=True))


def _dense_rows(x: Tensor) -> Tensor:
    """Return ``x`` where a row of a head is contiguous, else a contiguous copy."""
    return x if x.stride(2) == 1 else x.contiguous()
