"""``MultiheadAttention``, a drop-in for ``torch.nn.MultiheadAttention`` without dropout and weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from lisa_kernels.ops.attention import (
    AttentionPlan,
    AttentionPolicy,
    ModalityLayout,
    attention_plan,
    cross_modal_attention,
)

_NAME = "MultiheadAttention"


class MultiheadAttention(nn.Module):
    """Constructor, call and parameter names of ``torch.nn.MultiheadAttention``: its state dict loads as it is.

    Args:
        embed_dim: Width of queries, keys and values.
        num_heads: Heads; ``embed_dim / num_heads`` is a multiple of 8 from 32 to 256.
        dropout: 0 alone.
        bias: Of the projections.
        batch_first: Tensors are ``[N, L, E]``, else ``[L, N, E]``.

    Differences: the call returns ``(output, None)``, never weights; a mask is causal or a padding of keys, for any
    other there is ``CrossModalAttention``; a query that sees no key gives the output's bias, not NaN.

    Raises:
        ValueError: ``embed_dim`` is no multiple of ``num_heads``, or dropout.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        *,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"{_NAME}: embed_dim is {embed_dim}; it takes a multiple of num_heads, {num_heads}.")
        if dropout:
            raise ValueError(
                f"{_NAME}: dropout is {dropout}; it takes 0: the backward pass is deterministic and keeps no random "
                "state."
            )
        self.embed_dim, self.num_heads, self.batch_first = embed_dim, num_heads, batch_first
        self._full, self._causal = (AttentionPolicy.of([name] * num_heads, n_modality=1) for name in ("full", "causal"))
        made = {"device": device, "dtype": dtype}
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dim, embed_dim, **made))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dim, **made)) if bias else None
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=bias, **made)
        nn.init.xavier_uniform_(self.in_proj_weight)
        if bias:
            nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        *,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        """Return the output, in the shape of ``query``, and None.

        Args:
            query: ``[L, N, E]``, ``[N, L, E]`` with ``batch_first``, or ``[L, E]``.
            key: Likewise, of S tokens.
            value: Likewise, of S tokens.
            key_padding_mask: Bool ``[N, S]`` (``[S]`` without a batch), true for keys that nobody sees.
            need_weights: False alone: weights are never in memory.
            attn_mask: Taken as a statement of ``is_causal``, as torch's layers pass both; not looked at.
            is_causal: Query i sees keys 0 to i.

        Raises:
            ValueError: ``need_weights``, an ``attn_mask`` that is not causal, a float ``key_padding_mask``, shapes.
        """
        _check(query, key, key_padding_mask, need_weights, attn_mask, is_causal)
        rank = query.dim()
        batched = [x[None] if rank == 2 else x if self.batch_first else x.transpose(0, 1) for x in (query, key, value)]
        plan = self._plan(batched[0], batched[1], key_padding_mask, is_causal)
        weights = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        projected = [
            linear(x.flatten(0, 1), weight, bias).unflatten(-1, (self.num_heads, -1))
            for x, weight, bias in zip(batched, weights, biases, strict=True)
        ]
        out = self.out_proj(cross_modal_attention(*projected, plan).flatten(1)).view(batched[0].shape)
        return (out[0] if rank == 2 else out if self.batch_first else out.transpose(0, 1)), None

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, {self.num_heads}, batch_first={self.batch_first}"

    def _plan(self, query: Tensor, key: Tensor, padding: Tensor | None, is_causal: bool) -> AttentionPlan:
        policy = self._causal if is_causal else self._full
        return attention_plan(_layout(query, None), policy, _layout(key, padding), order="packed")


def _layout(x: Tensor, padding: Tensor | None) -> ModalityLayout:
    shape, device = x.shape[:2], x.device
    mask = torch.ones(shape, dtype=torch.bool, device=device) if padding is None else ~padding.view(shape)
    return ModalityLayout.from_padded(torch.zeros(shape, dtype=torch.int32, device=device), mask)


def _check(
    query: Tensor, key: Tensor, padding: Tensor | None, need_weights: bool, attn_mask: Tensor | None, is_causal: bool
) -> None:
    if need_weights:
        raise ValueError(f"{_NAME}: need_weights is True; it takes False: attention weights are never in memory.")
    if attn_mask is not None and not is_causal:
        raise ValueError(
            f"{_NAME}: attn_mask is a Tensor; it takes None, or a causal mask with is_causal=True. For masks by "
            "modality use CrossModalAttention."
        )
    if padding is not None and padding.dtype != torch.bool:
        raise ValueError(f"{_NAME}: key_padding_mask is {padding.dtype}; it takes bool, true for keys to leave out.")
    if query.dim() not in (2, 3) or key.dim() != query.dim():
        raise ValueError(f"{_NAME}: query has shape {tuple(query.shape)}; it takes [L, N, E], [N, L, E] or [L, E].")
