"""Peers of ``cross_modal_attention``: SDPA with dense masks and by runs, FlexAttention, FlashAttention.

What a peer needs beside q, k and v (mask, block mask, indices of runs) is made beforehand, as our plan is.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
from typing import Any

import torch
import torch.nn.functional as F

from bench.peers import Candidate, Peer, UnavailableError
from lisa_kernels.core.spec import Case
from lisa_kernels.ops.attention import ModalityLayout, reference


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


def _per_run(kwargs: dict[str, Any]) -> Candidate:
    """A loop over head types and runs of queries: one SDPA each, over the keys that the run sees, gathered."""
    q, k, v, plan = (kwargs[name] for name in ("q", "k", "v", "plan"))
    head_type, group = torch.tensor(plan.policy.head_type, device=q.device), q.shape[1] // k.shape[1]
    calls = [
        (heads := (head_type == kind).nonzero()[:, 0], heads // group, _calls(plan.layout, mask))
        for kind, mask in enumerate(reference.visible(plan))
    ]
    back = torch.cat([heads for heads, _, _ in calls]).argsort()

    def attend() -> torch.Tensor:
        by_type = []
        for heads, key_heads, runs in calls:
            queries, keys, values = q[:, heads], k[:, key_heads], v[:, key_heads]
            rows = [_one_run(queries[start:end], keys, values, seen, mask) for start, end, seen, mask in runs]
            by_type.append(torch.cat(rows))
        return torch.cat(by_type, 1)[:, back]

    return Candidate(attend, (q, k, v))


def _calls(layout: ModalityLayout, mask: torch.Tensor) -> list[tuple[int, int, torch.Tensor, torch.Tensor | None]]:
    """Return start and end of each run of queries, the keys it sees, and a mask where it does not see all of them."""
    changes = (layout.sample[1:] != layout.sample[:-1]) | (layout.modality[1:] != layout.modality[:-1])
    borders = [0, *(changes.nonzero()[:, 0] + 1).tolist(), len(layout)]
    calls = []
    for start, end in itertools.pairwise(borders):
        seen = mask[start:end].any(0).nonzero()[:, 0]
        part = mask[start:end][:, seen]
        calls.append((start, end, seen, None if part.all() else part))
    return calls


def _one_run(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, seen: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    if seen.numel() == 0:
        return q.new_zeros(*q.shape[:2], v.shape[2])
    heads_first = [x.transpose(0, 1)[None] for x in (q, k[seen], v[seen])]
    return F.scaled_dot_product_attention(*heads_first, attn_mask=mask)[0].transpose(0, 1)


def _flex(kwargs: dict[str, Any]) -> Candidate:
    """Compiled FlexAttention with a block mask for each head."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    q, k, v, plan = (kwargs[name] for name in ("q", "k", "v", "plan"))
    if q.device.type == "cpu":
        raise UnavailableError("compiled FlexAttention has no backward on a CPU, and refuses inputs that need one")
    table = torch.tensor(plan.policy.visibility, device=q.device)
    head_type = torch.tensor(plan.policy.head_type, device=q.device)
    queries, keys = plan.layout, plan.layout_k

    def seen(batch: Any, head: Any, row: Any, column: Any) -> Any:
        entry = table[head_type[head], queries.modality[row], keys.modality[column]]
        same = (queries.sample[row] == keys.sample[column]) & (queries.sample[row] >= 0)
        return same & ((entry == 1) | ((entry == 2) & (queries.position[row] >= keys.position[column])))

    sizes = (1, q.shape[1], q.shape[0], k.shape[0])
    blocks = torch.compile(create_block_mask)(seen, *sizes, device=q.device)
    compiled = torch.compile(flex_attention, dynamic=False)

    def attend() -> torch.Tensor:
        heads_first = [x.transpose(0, 1)[None] for x in (q, k, v)]
        return compiled(*heads_first, block_mask=blocks, enable_gqa=q.shape[1] != k.shape[1])

    return Candidate(attend, (q, k, v))


def _flash(kwargs: dict[str, Any]) -> Candidate:
    """FlashAttention over samples of varying length: all heads full, or all causal, over everything."""
    q, k, v, plan = (kwargs[name] for name in ("q", "k", "v", "plan"))
    entries = {entry for table in plan.policy.visibility for row in table for entry in row}
    if entries not in ({1}, {2}):
        raise UnavailableError("it has no heads that look at modalities")
    if importlib.util.find_spec("flash_attn") is None:
        raise UnavailableError("not installed (package flash-attn)")
    from flash_attn import flash_attn_varlen_func

    offsets_q, offsets_k = (_offsets(layout.sample) for layout in (plan.layout, plan.layout_k))
    longest_q, longest_k = (int((offsets[1:] - offsets[:-1]).max()) for offsets in (offsets_q, offsets_k))
    causal = entries == {2}
    return Candidate(
        lambda: flash_attn_varlen_func(q, k, v, offsets_q, offsets_k, longest_q, longest_k, causal=causal), (q, k, v)
    )


def _offsets(sample: torch.Tensor) -> torch.Tensor:
    ids = torch.arange(int(sample.max()) + 2, device=sample.device, dtype=sample.dtype)
    return torch.searchsorted(sample, ids, out_int32=True)


PEERS = {
    "cross_modal_attention": {
        "SDPA, padded batch, dense mask": Peer(_padded),
        "SDPA, packed, dense mask": Peer(_packed),
        "SDPA for each run of queries": Peer(_per_run),
        "FlexAttention, compiled": Peer(_flex, slow_start=True),
        "FlashAttention, varlen": Peer(_flash),
    }
}
