"""Batches of the spec's cases: which runs of tokens, which heads.  A case's ``edge`` names its kind.

Sizes of a case: N samples, L tokens of a sample, R tokens of a run, HQ and HK heads, D and DV widths; K, where keys are
other tokens, is tokens of keys of a sample.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from lisa_kernels.core.spec import Case, make_generator
from lisa_kernels.ops.attention.layout import ModalityLayout
from lisa_kernels.ops.attention.plan import AttentionPlan, attention_plan
from lisa_kernels.ops.attention.policy import AttentionPolicy

TEXT, IMAGE, SPEECH = 0, 1, 2
# (modality, length, sample) of each run.
Runs = list[tuple[int, int, int]]


def uneven(case: Case, generator: torch.Generator, length: int) -> Runs:
    """Samples of ``length`` tokens give or take a quarter, cut into runs of 1 to 2R - 1 tokens."""
    runs: Runs = []
    for sample in range(case["N"]):
        left = length + _random(-(length // 4), length // 4, generator)
        modality = _random(0, 2, generator)
        while left > 0:
            tokens = min(left, _random(1, 2 * case["R"] - 1, generator))
            runs.append((modality % 3, tokens, sample))
            left, modality = left - tokens, modality + 1
    return runs


def even(case: Case, generator: torch.Generator, length: int) -> Runs:
    """Runs of exactly R tokens, text, image, speech in turn; samples of ``length`` tokens."""
    starts = range(0, length, case["R"])
    return [(i % 3, min(case["R"], length - s), n) for n in range(case["N"]) for i, s in enumerate(starts)]


def blocks(case: Case, generator: torch.Generator, length: int) -> Runs:
    """64 tokens of text, 256 patches of an image and 250 frames of speech in each sample."""
    return [run for n in range(case["N"]) for run in ((TEXT, 64, n), (IMAGE, 256, n), (SPEECH, 250, n))]


def ragged(case: Case, generator: torch.Generator, length: int) -> Runs:
    """16 to 128 tokens of text, 256 patches and 50 to 500 frames of speech in each sample."""
    runs: Runs = []
    for n in range(case["N"]):
        text, speech = _random(16, 128, generator), _random(50, 500, generator)
        runs += [(TEXT, text, n), (IMAGE, 256, n), (SPEECH, speech, n)]
    return runs


def padded(case: Case, generator: torch.Generator, length: int) -> Runs:
    """As ``uneven``, with padding before, between and behind the samples."""
    runs: Runs = [(0, 3, -1)]
    for run in uneven(case, generator, length):
        if run[2] != runs[-1][2] and len(runs) > 1:
            runs.append((0, 7, -1))
        runs.append(run)
    return [*runs, (0, 40, -1)]


def all_padding(case: Case, generator: torch.Generator, length: int) -> Runs:
    """Nothing but padding."""
    return [(0, length, -1)]


def lonely(case: Case, generator: torch.Generator, length: int) -> Runs:
    """One modality in each sample: cross heads see nothing."""
    return [(sample % 3, length, sample) for sample in range(case["N"])]


def exactly(modality: int) -> Callable[[Case, torch.Generator, int], Runs]:
    """One modality everywhere, samples of ``length`` tokens."""
    return lambda case, generator, length: [(modality, length, sample) for sample in range(case["N"])]


def every_second(case: Case, generator: torch.Generator, length: int) -> Runs:
    """As ``uneven``, but only even samples have tokens."""
    return [run for run in uneven(case, generator, length) if run[2] % 2 == 0]


@dataclasses.dataclass(frozen=True)
class Kind:
    """Heads and runs of a kind of batch.

    Attributes:
        heads: Preset names, repeated until there are HQ.
        runs: Of the queries.
        keys: Of the keys; None for self-attention.
        n_modality: Of the policy; runs beyond three modalities are spread over them.
        bidirectional: As in ``ModalityLayout.from_runs``.
        order: As in ``attention_plan``.
        fused: q, k and v are slices of one projection (self-attention, HQ = HK, D = DV).
        loud: Factor of q, for large scores.
    """

    heads: tuple[str, ...] = ("full", "causal", "within", "cross", "prefix_lm", "cross-causal")
    runs: Callable[[Case, torch.Generator, int], Runs] = uneven
    keys: Callable[[Case, torch.Generator, int], Runs] | None = None
    n_modality: int = 3
    bidirectional: tuple[int, ...] = ()
    order: str = "packed"
    fused: bool = False
    loud: float = 1.0


_TYPED = ("within", "within", "within", "cross")
KINDS = {
    "": Kind(),
    "sorted": Kind(order="sorted"),
    "sorted within and cross": Kind(heads=("within", "cross"), order="sorted"),
    "sorted padding": Kind(runs=padded, order="sorted"),
    "other keys": Kind(keys=uneven),
    "other keys, sorted": Kind(keys=uneven, order="sorted"),
    "samples without keys": Kind(keys=every_second),
    "keys without queries": Kind(runs=every_second, keys=uneven),
    "one modality a sample": Kind(runs=lonely),
    "padding": Kind(runs=padded),
    "all padding": Kind(runs=all_padding),
    "bidirectional": Kind(heads=("causal", "prefix_lm"), bidirectional=(IMAGE,)),
    "five modalities": Kind(n_modality=5),
    "full": Kind(heads=("full",)),
    "causal": Kind(heads=("causal",), runs=exactly(TEXT)),
    "within and cross": Kind(heads=("within", "cross")),
    "fused": Kind(fused=True),
    "loud": Kind(loud=8.0),
    "blocks": Kind(heads=_TYPED, runs=blocks, order="auto"),
    "ragged": Kind(heads=_TYPED, runs=ragged, order="auto"),
    "even": Kind(heads=_TYPED, runs=even, order="auto"),
    "even, packed": Kind(heads=("within", "cross"), runs=even),
    "prefix": Kind(heads=("causal",), runs=blocks, bidirectional=(IMAGE,), order="auto"),
    "text over images": Kind(heads=("full",), runs=exactly(TEXT), keys=exactly(IMAGE), order="auto"),
    "images over text": Kind(heads=("full",), runs=exactly(IMAGE), keys=exactly(TEXT), order="auto"),
}


def make_layouts(case: Case) -> tuple[ModalityLayout, ModalityLayout | None]:
    """Return the layouts of queries and of other keys (None in self-attention) on the CPU.

    Always the same for a case: another seed of its inputs must not give other shapes.
    """
    kind, generator = KINDS[case.edge], make_generator(case)
    layout = _layout(kind.runs(case, generator, case["L"]), kind)
    return layout, _layout(kind.keys(case, generator, case["K"]), kind) if kind.keys else None


def make_policy(case: Case) -> AttentionPolicy:
    """Return the policy of a case: its kind's heads, repeated."""
    kind = KINDS[case.edge]
    heads = [kind.heads[i % len(kind.heads)] for i in range(case["HQ"])]
    prefix = (IMAGE, SPEECH) if "prefix_lm" in heads else ()
    return AttentionPolicy.of(heads, n_modality=kind.n_modality, prefix=prefix)


def make_plan(case: Case, device: torch.device) -> AttentionPlan:
    """Return the plan of a case."""
    layout, layout_k = make_layouts(case)
    layout_k = None if layout_k is None else layout_k.to(device)
    return attention_plan(layout.to(device), make_policy(case), layout_k, order=KINDS[case.edge].order)


def count_visible(case: Case) -> float:
    """Return how many (query, key, head) the heads see, by their samples, modalities and positions."""
    layout, layout_k = make_layouts(case)
    layout_k = layout if layout_k is None else layout_k
    policy = make_policy(case)
    samples = 1 + max(int(x.sample.max()) if len(x) else -1 for x in (layout, layout_k))
    total = 0.0
    for m in range(policy.n_modality):
        queries = _counts(layout, m, samples)
        for n in range(policy.n_modality):
            full = float((queries * _counts(layout_k, n, samples)).sum())
            entries = [policy.visibility[kind][m][n] for kind in policy.head_type]
            total += full * entries.count(1)
            if 2 in entries:
                total += _not_later(layout, layout_k, m, n) * entries.count(2)
    return total


def _counts(layout: ModalityLayout, modality: int, samples: int) -> torch.Tensor:
    """Return how many tokens of a modality each sample has."""
    chosen = layout.sample[(layout.modality == modality) & (layout.sample >= 0)]
    return torch.zeros(samples, dtype=torch.float64).index_add_(0, chosen, torch.ones_like(chosen, dtype=torch.float64))


def _not_later(layout: ModalityLayout, layout_k: ModalityLayout, m: int, n: int) -> float:
    """Return the pairs of one sample with a query of modality m, a key of modality n and position_q >= position_k."""

    def keys(which: ModalityLayout, modality: int) -> torch.Tensor:
        chosen = (which.modality == modality) & (which.sample >= 0)
        # Sample and position in one number: a sample's numbers lie apart from the others'.
        return (which.sample[chosen].long() << 32) + which.position[chosen]

    own, other = keys(layout, m), keys(layout_k, n).sort().values
    up_to = torch.searchsorted(other, own, right=True)
    before = torch.searchsorted(other, own >> 32 << 32)
    return float((up_to - before).sum())


def _layout(runs: Runs, kind: Kind) -> ModalityLayout:
    spread = [modality + 3 * (i % 2) if modality + 3 * (i % 2) < kind.n_modality else modality
              for i, (modality, _, _) in enumerate(runs)]  # fmt: skip
    lengths, samples = [length for _, length, _ in runs], [sample for _, _, sample in runs]
    return ModalityLayout.from_runs(spread, lengths, samples, bidirectional=kind.bidirectional)


def _random(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))
