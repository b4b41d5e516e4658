"""``CrossModalAttention``: projections around ``cross_modal_attention``, with gated cross heads."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from lisa_kernels.ops.attention import AttentionPlan, AttentionPolicy, cross_modal_attention
from lisa_kernels.ops.attention.policy import NONE

_NAME = "CrossModalAttention"


class CrossModalAttention(nn.Module):
    """Multi-head attention over packed samples of several modalities, each head of its policy's type.

    Args:
        dim: Width of the tokens.
        heads: Query heads; those of the policy.
        policy: Which modality sees which, for each head.  Heads whose type never sees the own modality are cross heads.
        kv_heads: Key and value heads, a divisor of ``heads``; None for ``heads``.
        head_dim: Width of a head; None for ``dim / heads``.
        context_dim: Width of the tokens of keys and values, where they are others; None for ``dim``.
        bias: Of all projections.
        gate: Give each cross head a learnable gate tanh(g) with g = 0 at the start: the module then is the one without
            cross heads, and learns from there.  The gate multiplies the head's columns of the output weight, so that
            it costs no pass over activations.
        qk_norm: Normalise queries and keys by their root mean square, with a weight, before positions are applied.

    Attributes:
        gate: Parameter ``[cross heads]``, or None.

    Raises:
        ValueError: Sizes that do not fit each other, or ``dropout``-like wishes: attention has no dropout, its backward
            is deterministic and keeps no random state.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        policy: AttentionPolicy,
        *,
        kv_heads: int | None = None,
        head_dim: int | None = None,
        context_dim: int | None = None,
        bias: bool = False,
        gate: bool = True,
        qk_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        kv_heads = heads if kv_heads is None else kv_heads
        _check(dim, heads, policy, kv_heads, head_dim, dropout)
        head_dim = dim // heads if head_dim is None else head_dim
        self.dim, self.heads, self.kv_heads, self.head_dim, self.policy = dim, heads, kv_heads, head_dim, policy
        self.query = nn.Linear(dim, heads * head_dim, bias=bias)
        self.key_value = nn.Linear(dim if context_dim is None else context_dim, 2 * kv_heads * head_dim, bias=bias)
        self.out = nn.Linear(heads * head_dim, dim, bias=bias)
        self.query_norm = nn.RMSNorm(head_dim) if qk_norm else None
        self.key_norm = nn.RMSNorm(head_dim) if qk_norm else None
        cross = _cross_heads(policy) if gate else []
        self.gate = nn.Parameter(torch.zeros(len(cross))) if cross else None
        self.register_buffer("cross_heads", torch.tensor(cross, dtype=torch.int64), persistent=False)

    def forward(
        self,
        x: Tensor,
        plan: AttentionPlan,
        *,
        context: Tensor | None = None,
        encode: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
    ) -> Tensor:
        """Return the attended tokens, in the shape of ``x``.

        Args:
            x: Tokens ``[T, dim]``, or ``[B, L, dim]`` for the plan of a padded batch, whose rows follow each other.
            plan: Of the batch, with this module's policy.
            context: Tokens of keys and values, ``[TK, context_dim]``, where the plan has a ``layout_k``.
            encode: Called with q ``[T, heads, head_dim]`` and k ``[TK, kv_heads, head_dim]``, returns them with
                positions applied, such as ``RotaryPositions.at``.

        Raises:
            ValueError: A plan of another policy.
        """
        if plan.policy is not self.policy and plan.policy != self.policy:
            raise ValueError(f"{_NAME}: plan has the policy {plan.policy}; it takes a plan of the module's policy.")
        tokens = x.flatten(0, -2)
        source = tokens if context is None else context.flatten(0, -2)
        q = self.query(tokens).unflatten(-1, (self.heads, self.head_dim))
        k, v = self.key_value(source).unflatten(-1, (2, self.kv_heads, self.head_dim)).unbind(-3)
        if self.query_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        if encode is not None:
            q, k = encode(q, k)
        out = cross_modal_attention(q, k, v, plan)
        return linear(out.flatten(1), self._gated_weight(), self.out.bias).view(x.shape)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, heads={self.heads}, kv_heads={self.kv_heads}, head_dim={self.head_dim}"

    def _gated_weight(self) -> Tensor:
        """Return the output weight with each cross head's columns multiplied by its gate."""
        if self.gate is None:
            return self.out.weight
        gains = self.gate.new_ones(self.heads).index_copy(0, self.cross_heads, self.gate.tanh())
        return self.out.weight * gains.repeat_interleave(self.head_dim)


def _cross_heads(policy: AttentionPolicy) -> list[int]:
    crosses = [all(row[own] == NONE for own, row in enumerate(table)) for table in policy.visibility]
    return [head for head, kind in enumerate(policy.head_type) if crosses[kind]]


def _check(dim: int, heads: int, policy: AttentionPolicy, kv_heads: int, head_dim: int | None, dropout: float) -> None:
    if not isinstance(policy, AttentionPolicy):
        raise TypeError(f"{_NAME}: policy is {type(policy).__name__}; it takes an AttentionPolicy.")
    if heads != policy.heads:
        raise ValueError(f"{_NAME}: heads is {heads}; the policy has {policy.heads}.")
    if kv_heads < 1 or heads % kv_heads:
        raise ValueError(f"{_NAME}: kv_heads is {kv_heads}; it takes a divisor of heads, {heads}.")
    if head_dim is None and dim % heads:
        raise ValueError(f"{_NAME}: dim is {dim}; it takes a multiple of heads, {heads}. Or give head_dim.")
    if dropout:
        raise ValueError(
            f"{_NAME}: dropout is {dropout}; it takes 0: the backward pass is deterministic and keeps no random state. "
            "Drop tokens or the module's output instead."
        )
