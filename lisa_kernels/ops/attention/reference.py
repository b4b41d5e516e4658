"""Attention with typed heads in plain PyTorch, dense: the definition the kernels are judged by.

``cross_modal_attention`` takes the mask from the layout and the policy alone, token by token; autograd differentiates
it, twice if asked.  ``forward`` and ``backward`` are the ``reference`` backend: the same mathematics in fp64, rounded
once, with the mask from the plan's tables.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lisa_kernels.ops.attention.plan import AttentionPlan
from lisa_kernels.ops.attention.policy import CAUSAL, FULL

_LOG2E = math.log2(math.e)


def cross_modal_attention(
    q: Tensor, k: Tensor, v: Tensor, plan: AttentionPlan, *, scale: float | None = None, return_lse: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """Return the attention output by plain differentiable operations, in the dtype of ``q`` (half precision in fp32).

    Same arguments as ``lisa_kernels.cross_modal_attention``; O(HQ · T · TK) memory.
    """
    half = q.dtype in (torch.float16, torch.bfloat16)
    wide = [x.float() if half else x for x in (q, k, v)]
    mask = visible(plan)[torch.tensor(plan.policy.head_type, device=q.device)]
    out, lse = _attend(*wide, mask, q.shape[-1] ** -0.5 if scale is None else scale)
    return (out.to(q.dtype), lse) if return_lse else out.to(q.dtype)


def visible(plan: AttentionPlan) -> Tensor:
    """Return who sees whom, ``[types, T, TK]`` bool, by the definition: two samples, a table, two positions."""
    queries, keys, policy = plan.layout, plan.layout_k, plan.policy
    sample_q, sample_k = (_real_samples(x.sample, x.modality, policy.n_modality) for x in (queries, keys))
    modality_q, modality_k = (x.modality.clamp(0, policy.n_modality - 1).long() for x in (queries, keys))
    table = torch.tensor(policy.visibility, device=plan.device)
    entry = table[:, modality_q[:, None], modality_k[None, :]]
    not_later = queries.position[:, None] >= keys.position[None, :]
    same_sample = (sample_q[:, None] == sample_k[None, :]) & (sample_q >= 0)[:, None]
    return same_sample & ((entry == FULL) | ((entry == CAUSAL) & not_later))


def _real_samples(sample: Tensor, modality: Tensor, n_modality: int) -> Tensor:
    """Sample ids, -1 for padding and for tokens whose modality the policy does not have."""
    return torch.where((modality >= 0) & (modality < n_modality), sample.clamp(min=-1), -1)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return out ``[T, HQ, DV]`` and the natural lse ``[HQ, T]`` for a mask ``[HQ, T, TK]``."""
    group = q.shape[1] // k.shape[1]
    weights, lse = _weigh(q, k.repeat_interleave(group, 1), mask, scale)
    return torch.einsum("hqk,khd->qhd", weights, v.repeat_interleave(group, 1)), lse


def _weigh(q: Tensor, k: Tensor, mask: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return softmax weights ``[HQ, T, TK]``, rows of a dead query 0, and the natural lse ``[HQ, T]``."""
    scores = torch.einsum("qhd,khd->hqk", q, k) * scale
    if scores.shape[2] == 0:
        return scores, scores.sum(2) - torch.inf
    # Finite, because a row of -inf alone has a NaN gradient; what it weighs is cut off.
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return torch.where(mask, scores.softmax(2), 0), torch.where(mask.any(2), scores.logsumexp(2), -torch.inf)


def forward(
    q: Tensor, k: Tensor, v: Tensor, tokens_q: Tensor, tokens_k: Tensor, words: Tensor, head_type: Tensor,
    lists_q: Tensor, lists_k: Tensor, order_q: Tensor, order_k: Tensor, scale: float, causal: bool, exact: bool,
    reordered: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return out and lse2 as the op's README defines them."""
    mask = _mask(q, k, tokens_q, tokens_k, words, head_type, causal, reordered)
    out, lse = _attend(q.double(), k.double(), v.double(), mask, scale)
    lse2 = torch.where(lse == -torch.inf, torch.inf, lse * _LOG2E)
    real = torch.float64 if q.dtype == torch.float64 else torch.float32
    return out.to(q.dtype).contiguous(), lse2.to(real).contiguous()


def backward(
    grad_out: Tensor, grad_lse2: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse2: Tensor, tokens_q: Tensor,
    tokens_k: Tensor, words: Tensor, head_type: Tensor, lists_q: Tensor, lists_k: Tensor, order_q: Tensor,
    order_k: Tensor, scale: float, causal: bool, exact: bool, reordered: bool, needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of q, k and v as the op's README defines them; ``out`` and ``lse2`` are made anew."""
    mask = _mask(q, k, tokens_q, tokens_k, words, head_type, causal, reordered)
    group = q.shape[1] // k.shape[1]
    wide_q, grad = q.double(), grad_out.double()
    wide_k, wide_v = (x.double().repeat_interleave(group, 1) for x in (k, v))
    weights, _ = _weigh(wide_q, wide_k, mask, scale)
    grad_weights = torch.einsum("qhd,khd->hqk", grad, wide_v)
    delta = (weights * grad_weights).sum(2) - _LOG2E * grad_lse2.double()
    grad_scores = scale * weights * (grad_weights - delta[:, :, None])
    grads = (
        torch.einsum("hqk,khd->qhd", grad_scores, wide_k),
        torch.einsum("hqk,qhd->khd", grad_scores, wide_q).unflatten(1, (-1, group)).sum(2),
        torch.einsum("hqk,qhd->khd", weights, grad).unflatten(1, (-1, group)).sum(2),
    )
    return tuple(
        torch.empty_like(x).copy_(grad) if need else x.new_empty(0)
        for x, grad, need in zip((q, k, v), grads, needs, strict=True)
    )


def _mask(
    q: Tensor, k: Tensor, tokens_q: Tensor, tokens_k: Tensor, words: Tensor, head_type: Tensor, causal: bool,
    reordered: bool,
) -> Tensor:  # fmt: skip
    """Return who sees whom, ``[HQ, T, TK]`` bool, from the plan's tables."""
    queries, keys = _by_token(tokens_q, q.shape[0], reordered), _by_token(tokens_k, k.shape[0], reordered)
    bit, position_k, sample_k, _ = keys
    _, position_q, sample_q, kind = queries
    not_later = words[head_type][:, 0].index_select(1, kind)[:, :, None]
    later = words[head_type][:, 1].index_select(1, kind)[:, :, None] if causal else not_later
    word = torch.where(position_q[:, None] >= position_k[None, :], not_later, later)
    return ((word & bit) != 0) & (sample_q[:, None] == sample_k[None, :])


def _by_token(tokens: Tensor, count: int, reordered: bool) -> Tensor:
    """Return the first four rows of a token table by token, ``[4, count]``."""
    slots = tokens[:4, :count]
    if not reordered:
        return slots
    return torch.empty_like(slots).index_copy_(1, tokens[4, :count].long(), slots)
