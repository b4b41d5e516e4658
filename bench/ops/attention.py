"""Peers of ``cross_modal_attention``: SDPA with dense masks and by runs, FlexAttention, FlashAttention.

What a peer needs beside q, k and v (mask, block mask, indices of runs) is made once for all layers, as our plan is, and
timed apart.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.peers import Candidate, Peer, UnavailableError
from lisa_kernels.core.spec import Case
from lisa_kernels.ops.attention import AttentionPlan, ModalityLayout, attention_plan
from lisa_kernels.ops.attention.policy import CAUSAL, FULL, NONE


def cut_down(case: Case) -> Case:
    """Return the case with at most 2 samples and 2 heads, and with ``lse``.

    Lengths and widths stay: they choose the kernel's path.  Without ``lse`` a query that sees one key has a gradient of
    0 but for rounding, which the judge takes for that of a query that nobody reads.
    """
    heads = min(case["HQ"], 2)
    sizes = {**case.sizes, "N": min(case["N"], 2), "HQ": heads, "HK": min(case["HK"], heads)}
    options = {**case.options, "return_lse": True}
    return dataclasses.replace(case, name=f"{case.name}, cut down", sizes=sizes, options=options)


def _visible(plan: AttentionPlan, place_q: Tensor, place_k: Tensor) -> Tensor:
    """Return what each head sees, bool ``[B, HQ, L, S]``, as a user without a plan makes it: from ids, by broadcasting.

    Args:
        place_q: Tokens ``[B, L]``, -1 for none; place_k likewise ``[B, S]``.
    """
    table = torch.tensor(plan.policy.visibility, dtype=torch.uint8, device=place_q.device)
    head_type = torch.tensor(plan.policy.head_type, device=place_q.device)
    row, column = place_q.clamp(min=0)[:, :, None], place_k.clamp(min=0)[:, None, :]
    queries, keys = plan.layout, plan.layout_k
    entry = table[:, queries.modality[row].long(), keys.modality[column].long()]
    seen = entry == FULL
    if plan.causal:
        seen |= (entry == CAUSAL) & (queries.position[row] >= keys.position[column])
    same = (queries.sample[row] == keys.sample[column]) & (queries.sample[row] >= 0)
    same &= (place_q >= 0)[:, :, None] & (place_k >= 0)[:, None, :]
    return (seen & same)[head_type].transpose(0, 1)


def _heads_first(*tensors: Tensor) -> list[Tensor]:
    return [x.transpose(0, 1)[None] for x in tensors]


def _packed(kwargs: dict[str, Any]) -> Candidate:
    """The whole packing as one sequence, with a mask ``[1, HQ, T, TK]``."""
    q, k, v, plan = (kwargs[name] for name in ("q", "k", "v", "plan"))
    grouped = q.shape[1] != k.shape[1]
    places = [torch.arange(len(x), device=x.device)[None] for x in (q, k)]

    def prepare() -> Tensor:
        return _visible(plan, *places)

    mask = prepare()

    def attend() -> Tensor:
        return F.scaled_dot_product_attention(*_heads_first(q, k, v), attn_mask=mask, enable_gqa=grouped)

    return Candidate(attend, (q, k, v), prepare)


def _padded(kwargs: dict[str, Any]) -> Candidate:
    """A batch of samples, each padded to the longest, with a mask; moving tokens to and fro is a part of each layer."""
    q, k, v, plan = (kwargs[name] for name in ("q", "k", "v", "plan"))
    grouped = q.shape[1] != k.shape[1]

    def prepare() -> tuple[Tensor, ...]:
        place_q, place_k = _places(plan.layout.sample), _places(plan.layout_k.sample)
        samples = max(place_q.shape[0], place_k.shape[0])
        place_q, place_k = (F.pad(x, (0, 0, 0, samples - x.shape[0]), value=-1) for x in (place_q, place_k))
        return place_q.clamp(min=0), place_k.clamp(min=0), place_q >= 0, _visible(plan, place_q, place_k)

    rows, columns, inside, mask = prepare()

    def attend() -> Tensor:
        batch = (q[rows].transpose(1, 2), k[columns].transpose(1, 2), v[columns].transpose(1, 2))
        out = F.scaled_dot_product_attention(*batch, attn_mask=mask, enable_gqa=grouped)
        return out.transpose(1, 2)[inside]

    return Candidate(attend, (q, k, v), prepare)


def _places(sample: Tensor) -> Tensor:
    """Return the tokens of each sample, ``[samples, longest]``, -1 behind the last."""
    tokens = [(sample == n).nonzero()[:, 0] for n in range(int(sample.max()) + 1)]
    return torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=-1)


def _per_run(kwargs: dict[str, Any]) -> Candidate:
    """A loop over head types and runs of queries: one SDPA each, over the keys that the run sees, gathered."""
    q, k, v, plan = (kwargs[name] for name in ("q", "k", "v", "plan"))
    head_type, group = torch.tensor(plan.policy.head_type, device=q.device), q.shape[1] // k.shape[1]

    def prepare() -> list[tuple[Tensor, Tensor, list[Any]]]:
        return [
            (heads := (head_type == kind).nonzero()[:, 0], heads // group, _calls(plan, kind))
            for kind in range(len(plan.policy.visibility))
        ]

    calls = prepare()
    back = torch.cat([heads for heads, _, _ in calls]).argsort()

    def attend() -> Tensor:
        by_type = []
        for heads, key_heads, runs in calls:
            queries, keys, values = q[:, heads], k[:, key_heads], v[:, key_heads]
            rows = [_one_run(queries[start:end], keys, values, seen, mask) for start, end, seen, mask in runs]
            by_type.append(torch.cat(rows))
        return torch.cat(by_type, 1)[:, back]

    return Candidate(attend, (q, k, v), prepare)


def _calls(plan: AttentionPlan, kind: int) -> list[tuple[int, int, Tensor, Tensor | None]]:
    """Return start and end of each run of queries, the keys it sees, and a mask where it does not see all of them."""
    queries, keys = plan.layout, plan.layout_k
    changes = (queries.sample[1:] != queries.sample[:-1]) | (queries.modality[1:] != queries.modality[:-1])
    borders = [0, *(changes.nonzero()[:, 0] + 1).tolist(), len(queries)]
    table = torch.tensor(plan.policy.visibility[kind], dtype=torch.uint8, device=queries.device)
    calls = []
    for start, end in itertools.pairwise(borders):
        entry = table[int(queries.modality[start])][keys.modality.long()]
        seen = ((keys.sample == queries.sample[start]) & (keys.sample >= 0) & (entry != NONE)).nonzero()[:, 0]
        mask = None
        if (entry[seen] == CAUSAL).any():
            later = queries.position[start:end, None] < keys.position[None, seen]
            mask = (entry[seen] == FULL) | ~later
            some = mask.any(0)
            seen, mask = seen[some], mask[:, some]
        calls.append((start, end, seen, None if mask is None or mask.all() else mask))
    return calls


def _one_run(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, mask: Tensor | None) -> Tensor:
    if seen.numel() == 0:
        return q.new_zeros(*q.shape[:2], v.shape[2])
    out = F.scaled_dot_product_attention(*_heads_first(q, k[seen], v[seen]), attn_mask=mask)
    return out[0].transpose(0, 1)


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
        return same & ((entry == FULL) | ((entry == CAUSAL) & (queries.position[row] >= keys.position[column])))

    sizes = (1, q.shape[1], q.shape[0], k.shape[0])
    make_blocks = torch.compile(create_block_mask)

    def prepare() -> Any:
        return make_blocks(seen, *sizes, device=q.device)

    blocks = prepare()
    compiled = torch.compile(flex_attention, dynamic=False)

    def attend() -> Tensor:
        return compiled(*_heads_first(q, k, v), block_mask=blocks, enable_gqa=q.shape[1] != k.shape[1])

    return Candidate(attend, (q, k, v), prepare)


def _flash(kwargs: dict[str, Any]) -> Candidate:
    """FlashAttention over samples of varying length: all heads full, or all causal, over everything."""
    q, k, v, plan = (kwargs[name] for name in ("q", "k", "v", "plan"))
    entries = {entry for table in plan.policy.visibility for row in table for entry in row}
    if entries not in ({FULL}, {CAUSAL}):
        raise UnavailableError("it has no heads that look at modalities")
    if importlib.util.find_spec("flash_attn") is None:
        raise UnavailableError("not installed (package flash-attn)")
    from flash_attn import flash_attn_varlen_func

    offsets_q, offsets_k = (_offsets(layout.sample) for layout in (plan.layout, plan.layout_k))
    longest_q, longest_k = (int((offsets[1:] - offsets[:-1]).max()) for offsets in (offsets_q, offsets_k))
    causal = entries == {CAUSAL}
    return Candidate(
        lambda: flash_attn_varlen_func(q, k, v, offsets_q, offsets_k, longest_q, longest_k, causal=causal), (q, k, v)
    )


def _offsets(sample: Tensor) -> Tensor:
    ids = torch.arange(int(sample.max()) + 2, device=sample.device, dtype=sample.dtype)
    return torch.searchsorted(sample, ids, out_int32=True)


def _prepare(kwargs: dict[str, Any]) -> AttentionPlan:
    """Layout and plan from ids, as for each new batch."""
    plan = kwargs["plan"]
    layouts = [plan.layout] if plan.layout_k is plan.layout else [plan.layout, plan.layout_k]
    queries, *keys = (ModalityLayout(x.modality, x.sample, x.position) for x in layouts)
    return attention_plan(queries, plan.policy, *keys, order="auto")


PRODUCTS = ("cross_modal_attention",)
PREPARE = {"cross_modal_attention": _prepare}
PEERS = {
    "cross_modal_attention": {
        "SDPA, padded batch, dense mask": Peer(_padded),
        "SDPA, packed, dense mask": Peer(_packed),
        "SDPA for each run of queries": Peer(_per_run),
        "FlexAttention, compiled": Peer(_flex, slow_start=True),
        "FlashAttention, varlen": Peer(_flash),
    }
}
