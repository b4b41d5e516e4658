"""Peers of ``cross_modal_attention``: torch's SDPA with a dense mask, over the packing and over a padded batch."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F

from bench.peers import Candidate, Peer
from lisa_kernels.core.spec import Case
from lisa_kernels.ops.attention import reference


def cut_down(case: Case) -> Case:
    """Return the case with at most 2 samples and 2 heads; lengths and widths stay: they choose the kernel's path."""
    heads = min(case["HQ"], 2)
    sizes = {**case.sizes, "N": min(case["N"], 2), "HQ": heads, "HK": min(case["HK"], heads)}
    return dataclasses.replace(case, name=f"{case.name}, cut down", sizes=sizes)


def _packed(kwargs: dict[str, Any]) -> Candidate:
    """The whole packing as one sequence; the mask, ``[1, HQ, T, TK]``, is made beforehand."""
    q, k, v, plan = (kwargs[name] for name in ("q", "k", "v", "plan"))
    mask = reference.visible(plan)[list(plan.policy.head_type)][None]
    group = q.shape[1] // k.shape[1]

    def attend() -> torch.Tensor:
        heads_first = [x.transpose(0, 1)[None] for x in (q, k, v)]
        return F.scaled_dot_product_attention(*heads_first, attn_mask=mask, enable_gqa=group > 1)

    return Candidate(attend, (q, k, v))


def _padded(kwargs: dict[str, Any]) -> Candidate:
    """A batch of samples, each padded to the longest; moving tokens is part of it, making the mask is not."""
    q, k, v, plan = (kwargs[name] for name in ("q", "k", "v", "plan"))
    place_q, place_k = _places(plan.layout.sample), _places(plan.layout_k.sample)
    samples = max(place_q.shape[0], place_k.shape[0])
    place_q, place_k = (F.pad(place, (0, 0, 0, samples - place.shape[0]), value=-1) for place in (place_q, place_k))
    dense = reference.visible(plan)[list(plan.policy.head_type)]
    mask = dense[:, place_q.clamp(min=0)[:, :, None], place_k.clamp(min=0)[:, None, :]].transpose(0, 1)
    mask &= (place_q >= 0)[:, None, :, None] & (place_k >= 0)[:, None, None, :]
    rows, inside = place_q.clamp(min=0), place_q >= 0
    columns = place_k.clamp(min=0)
    group = q.shape[1] // k.shape[1]

    def attend() -> torch.Tensor:
        heads_first = (q[rows].transpose(1, 2), k[columns].transpose(1, 2), v[columns].transpose(1, 2))
        out = F.scaled_dot_product_attention(*heads_first, attn_mask=mask, enable_gqa=group > 1)
        return out.transpose(1, 2)[inside]

    return Candidate(attend, (q, k, v))


def _places(sample: torch.Tensor) -> torch.Tensor:
    """Return the tokens of each sample, ``[samples, longest]``, -1 behind the last."""
    tokens = [(sample == n).nonzero()[:, 0] for n in range(int(sample.max()) + 1)]
    return torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=-1)


PEERS = {
    "cross_modal_attention": {
        "SDPA, padded batch, dense mask": Peer(_padded),
        "SDPA, packed, dense mask": Peer(_packed),
    }
}
