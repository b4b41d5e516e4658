"""``attention_plan``: a layout and a policy become the tables and tile lists that the kernels read.

No operation waits for a device, and no Python number depends on device data: a plan can be built for every batch while
the GPU works, and one compiled model takes them all.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor
from torch.nn.functional import pad
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from lisa_kernels.core import checks
from lisa_kernels.ops.attention import tile_lists
from lisa_kernels.ops.attention.describe import PlanDescription, describe
from lisa_kernels.ops.attention.layout import ModalityLayout, Packing
from lisa_kernels.ops.attention.policy import CAUSAL, FULL, NONE, AttentionPolicy
from lisa_kernels.ops.attention.tile_lists import TILE

_NAME = "attention_plan"
# Bit form: 8 sample slots of 4 modalities in a word of 32 bits.
_SLOTS, _SLOT_WIDTH = 8, 4
# Two tiles of 128 tokens that share a sample then span at most 7 sample ids.
_LEAST_SAMPLE = 43
_PADDING_CLASS = 32
# Up to here lists that name any tile are built in less time and take 68 KiB at 4 types.
_FEW_TILES = 64


@dataclasses.dataclass(frozen=True, eq=False)
class AttentionPlan:
    """What ``cross_modal_attention`` needs to know of a batch; the op's README defines the tensors.

    Attributes:
        tokens_q: Class bit, position, sample and class of each query.
        tokens_k: The same of each key; the same memory in self-attention.
        words: Class bits that each class sees, and by which it is seen, for each head type.
        head_type: Type of each query head.
        lists_q: Key tiles of each query tile.
        lists_k: Query tiles of each key tile.
        order_q: Query tiles and heads, longest list first.
        order_k: Key tiles, longest lists first.
        causal: Whether positions matter.
        exact: Whether sample ids are compared, besides class bits.
        reordered: Whether tiles are cut from tokens sorted by sample and modality.
        layout: Of the queries.
        layout_k: Of the keys; the same object in self-attention.
        policy: Visibility and head types.
    """

    tokens_q: Tensor
    tokens_k: Tensor
    words: Tensor
    head_type: Tensor
    lists_q: Tensor
    lists_k: Tensor
    order_q: Tensor
    order_k: Tensor
    causal: bool
    exact: bool
    reordered: bool
    layout: ModalityLayout
    layout_k: ModalityLayout
    policy: AttentionPolicy

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors in the op's order."""
        return (
            self.tokens_q, self.tokens_k, self.words, self.head_type,
            self.lists_q, self.lists_k, self.order_q, self.order_k,
        )  # fmt: skip

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors, one that serves queries and keys counted once."""
        return sum({tensor.data_ptr() or id(tensor): tensor.nbytes for tensor in self.tensors}.values())

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.tokens_q.device

    def describe(self) -> PlanDescription:
        """Return the map of tiles: ``print`` it, or ``draw()`` it with matplotlib.  Waits for the device."""
        return describe(self)


def attention_plan(
    layout: ModalityLayout,
    policy: AttentionPolicy,
    layout_k: ModalityLayout | None = None,
    *,
    order: str = "auto",
) -> AttentionPlan:
    """Return the plan of a batch, for all layers and for forward and backward.

    Args:
        layout: Of the queries, and of the keys where ``layout_k`` is None.
        policy: Which modality sees which, for each head.
        layout_k: Of keys and values that are other tokens than the queries; sample ids and modalities mean the same.
        order: ``"packed"`` cuts tiles of 128 tokens from the packing as it is.  ``"sorted"`` cuts them from the tokens
            sorted by sample and modality, which pays where modalities alternate every few tokens; results are the same
            but for rounding.  ``"auto"`` sorts where the host knows the layout, runs are shorter than a tile on the
            average, and heads that look at the modality are the majority.

    Raises:
        TypeError: An argument of another kind.
        ValueError: Layouts on two devices, an unknown ``order``; for layouts on the CPU also a modality that the policy
            does not have, or, for causal policies, positions that decrease within a modality of a sample.
    """
    _check(layout, policy, layout_k, order)
    same = layout_k is None
    layout_k = layout if same else layout_k
    reordered = order == "sorted" or (order == "auto" and _sorting_pays(layout, layout_k, policy))
    exact = not _bits_suffice(layout, layout_k, policy, reordered)
    tables, words, head_type = _policy_tensors(policy, exact, layout.device)

    tokens_q, summary_q = _tokens(layout, policy, exact, reordered)
    # A view: torch.compile does not take one tensor as two inputs of an autograd Function.
    tokens_k, summary_k = (
        (tokens_q.view_as(tokens_q), summary_q) if same else _tokens(layout_k, policy, exact, reordered)
    )
    band = _band(layout) if same else None
    states = tile_lists.judge(summary_q, summary_k, tables, band)
    turned = tile_lists.transpose(states, band)
    if same:
        # Both directions at once: operations on a few tiles take their time to start.
        lists = tile_lists.make_lists(torch.cat([states, turned]), band).chunk(2)
    else:
        lists = [tile_lists.make_lists(each, band) for each in (states, turned)]
    # Memory of their own: Triton compiles again for addresses that are no multiple of 16.
    lists_q, lists_k = (each.contiguous() for each in lists)

    work_q = lists_q[..., 1].index_select(0, head_type).t().flatten()
    work_k = lists_k[..., 1].index_select(0, head_type).sum(0)
    return AttentionPlan(
        tokens_q, tokens_k, words, head_type, lists_q, lists_k, _longest_first(work_q), _longest_first(work_k),
        policy.causal, exact, reordered, layout, layout_k, policy,
    )  # fmt: skip


def _check(layout: ModalityLayout, policy: AttentionPolicy, layout_k: ModalityLayout | None, order: str) -> None:
    for name, value in (("layout", layout), *((("layout_k", layout_k),) if layout_k is not None else ())):
        if not isinstance(value, ModalityLayout):
            raise TypeError(f"{_NAME}: {name} is {type(value).__name__}; it takes a ModalityLayout.")
        if not isinstance(policy, AttentionPolicy):
            raise TypeError(f"{_NAME}: policy is {type(policy).__name__}; it takes an AttentionPolicy.")
        checks.check_device(_NAME, name, value.sample, "layout", layout.sample)
        known = value.packing.modalities
        if known is not None and known > policy.n_modality:
            raise ValueError(
                f"{_NAME}: {name} has modality {known - 1}; it takes 0 to {policy.n_modality - 1}, those of the policy."
            )
        if policy.causal and value.packing.causal_order is False:
            raise ValueError(
                f"{_NAME}: {name}.position decreases within a modality of a sample; causal heads take positions "
                "that do not. Count positions through the whole sample, not from 0 in each run."
            )
    checks.check_choice(_NAME, "order", order, ("auto", "packed", "sorted"))


def _sorting_pays(layout: ModalityLayout, layout_k: ModalityLayout, policy: AttentionPolicy) -> bool:
    runs = (layout.packing.runs, layout_k.packing.runs)
    if None in runs or min(len(layout), len(layout_k)) == 0:
        return False
    tokens_a_run = min(len(layout) / max(runs[0], 1), len(layout_k) / max(runs[1], 1))
    # A table without NONE visits every tile of a sample in any order; a causal one visits fewer in the packed order.
    selective = [any(NONE in row for row in table) for table in policy.visibility]
    heads = sum(selective[kind] for kind in policy.head_type)
    return tokens_a_run < TILE and 2 * heads > policy.heads


def _bits_suffice(layout: ModalityLayout, layout_k: ModalityLayout, policy: AttentionPolicy, reordered: bool) -> bool:
    facts = (layout.packing, layout_k.packing)
    # Sorting moves padding away from between the samples.
    least = min(fact.min_tokens if reordered else fact.min_sample for fact in facts)
    return policy.n_modality <= _SLOT_WIDTH and least >= _LEAST_SAMPLE


def _band(layout: ModalityLayout) -> tile_lists.Band | None:
    """Return the tiles around each tile that may hold tokens of its samples; None where all tiles cost no more."""
    longest, count = layout.packing.max_sample, -(-layout.sample.shape[0] // TILE)
    if longest is None or count <= _FEW_TILES:
        return None
    reach = -(-max(longest - 1, 0) // TILE)
    return tile_lists.Band.of(count, reach, layout.device) if 2 * reach + 1 < count else None


def _tokens(
    layout: ModalityLayout, policy: AttentionPolicy, exact: bool, reordered: bool
) -> tuple[Tensor, tile_lists.Summary]:
    """Return the table of one token set by slot, and the summary of its tiles."""
    modality, sample, position = layout.modality, layout.sample, layout.position
    if layout.device.type != "cpu":
        # A CPU layout was checked instead.
        sample = torch.where((modality >= 0) & (modality < policy.n_modality), sample.clamp(min=-1), -1)
    index = None
    if reordered:
        # Unsigned by intent: -1, padding, is the largest key.
        key = (sample.long() & 0xFFFFFFFF) * _PADDING_CLASS + modality
        index = torch.argsort(key, stable=True).to(torch.int32)
        modality, sample, position = (x.index_select(0, index) for x in (modality, sample, position))
    if tail := -layout.sample.shape[0] % TILE:
        sample = pad(sample, (0, tail), value=-1)
        position, modality = pad(position, (0, tail)), pad(modality, (0, tail))
    padding = sample < 0
    kind = modality if exact else (sample & (_SLOTS - 1)) * _SLOT_WIDTH + modality
    kind = kind.masked_fill(padding, _PADDING_CLASS)
    bit = (1 << (kind & 31)).masked_fill_(padding, 0)
    rows = [bit, position, sample, kind, *([pad(index, (0, tail))] if reordered else [])]
    return torch.stack(rows), tile_lists.summarise(sample, position, modality, policy.n_modality)


def _longest_first(work: Tensor) -> Tensor:
    return torch.argsort(work, descending=True, stable=True).to(torch.int32)


def _policy_tensors(policy: AttentionPolicy, exact: bool, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return the tile tables, words and head types; kept, because a copy from the host waits for the device."""
    # What a tracer makes is no tensor to keep, and what was kept is none for a tracer.
    traced = torch.compiler.is_compiling() or is_in_torch_dispatch_mode()
    return (_make_policy_tensors if traced else _kept_policy_tensors)(policy, exact, device)


def _make_policy_tensors(policy: AttentionPolicy, exact: bool, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    # Kept tensors that were made in inference mode could not be saved for a later backward.
    with torch.inference_mode(False):
        return (
            torch.tensor(tile_lists.visibility_tables(policy), dtype=torch.float32, device=device),
            torch.tensor([_words(table, exact) for table in policy.visibility], dtype=torch.int32, device=device),
            torch.tensor(policy.head_type, dtype=torch.int32, device=device),
        )


_kept_policy_tensors = functools.lru_cache(maxsize=256)(_make_policy_tensors)


def _words(table: tuple[tuple[int, ...], ...], exact: bool) -> list[list[int]]:
    """Return ``[4, 33]``: for queries what they see of keys not later, and of later ones; for keys by whom likewise."""
    turned = tuple(zip(*table, strict=True))
    wanted = ((table, (FULL, CAUSAL)), (table, (FULL,)), (turned, (FULL, CAUSAL)), (turned, (FULL,)))
    return [_row(entries, allowed, exact) for entries, allowed in wanted]


def _row(entries: tuple[tuple[int, ...], ...], allowed: tuple[int, ...], exact: bool) -> list[int]:
    row = [0] * (_PADDING_CLASS + 1)
    for owner, others in enumerate(entries):
        word = sum(1 << other for other, entry in enumerate(others) if entry in allowed)
        for slot in range(1 if exact else _SLOTS):
            shift = slot * _SLOT_WIDTH
            shifted = word << shift
            row[shift + owner] = shifted - (1 << 32) if shifted >= 1 << 31 else shifted
    return row


def _flatten(plan: AttentionPlan) -> tuple[list[Tensor], tuple[Any, ...]]:
    """Tensors, and what a compiled or exported program takes as constant: flags, policy, whether keys are the queries.

    What the host knows of the layouts is left out: a program must not be bound to one batch.
    """
    layouts = [plan.layout] if plan.layout_k is plan.layout else [plan.layout, plan.layout_k]
    tensors = [*plan.tensors, *(x for layout in layouts for x in (layout.modality, layout.sample, layout.position))]
    return tensors, (plan.causal, plan.exact, plan.reordered, plan.policy, len(layouts) == 1)


def _unflatten(tensors: Iterable[Tensor], context: tuple[Any, ...]) -> AttentionPlan:
    *flags, policy, same = context
    tensors = list(tensors)
    layout = ModalityLayout._of(*tensors[8:11], Packing())
    layout_k = layout if same else ModalityLayout._of(*tensors[11:14], Packing())
    return AttentionPlan(*tensors[:8], *flags, layout, layout_k, policy)


def _flatten_with_keys(plan: AttentionPlan) -> tuple[list[tuple[pytree.SequenceKey, Tensor]], tuple[Any, ...]]:
    tensors, context = _flatten(plan)
    return [(pytree.SequenceKey(i), tensor) for i, tensor in enumerate(tensors)], context


def _dump(context: tuple[Any, ...]) -> list[Any]:
    *flags, policy, same = context
    return [*flags, policy.visibility, policy.head_type, same]


def _load(dumped: list[Any]) -> tuple[Any, ...]:
    *flags, visibility, head_type, same = dumped
    return (*flags, AttentionPolicy(visibility, head_type), same)


# Plans can be inputs of exported and checkpointed functions.
pytree.register_pytree_node(
    AttentionPlan,
    _flatten,
    _unflatten,
    serialized_type_name="lisa_kernels.AttentionPlan",
    flatten_with_keys_fn=_flatten_with_keys,
    to_dumpable_context=_dump,
    from_dumpable_context=_load,
)
# Else an exported program that holds a plan among its example inputs loads with a warning only.
torch.serialization.add_safe_globals([AttentionPlan, AttentionPolicy, ModalityLayout, Packing])
