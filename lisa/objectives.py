"""Training objectives: name to function(outputs, batch) to one loss term, or None where its modality is absent."""

from collections.abc import Callable

import torch
from torch import Tensor

import lisa_kernels
from lisa.data import Batch, Sequence
from lisa.errors import InputError

CtcLoss = Callable[..., Tensor]
Objective = Callable[[dict[str, Sequence], Batch], Tensor | None]


def ctc(outputs: dict[str, Sequence], batch: Batch, *, loss: CtcLoss = lisa_kernels.ctc_loss) -> Tensor | None:
    """Return the CTC loss of the batch's texts, nats per label, mean over clips (Graves et al. 2006).

    ``loss`` takes ``(logits [T, N, C], targets, logit_lengths, target_lengths)``; it is an argument so that losses can
    be compared on the same steps.
    """
    if "ctc" not in outputs or batch.targets is None:
        return None
    scores, targets = outputs["ctc"], batch.targets
    return loss(
        scores.values.transpose(0, 1),
        targets.values,
        scores.lengths,
        targets.lengths,
        # A clip spoken faster than the frame rate can spell has no alignment: it must not stop the run.
        zero_infinity=True,
    )


OBJECTIVES: dict[str, Objective] = {"ctc": ctc}


def total(
    outputs: dict[str, Sequence],
    batch: Batch,
    weights: dict[str, float],
    *,
    objectives: dict[str, Objective] = OBJECTIVES,
) -> tuple[Tensor | None, dict[str, Tensor]]:
    """Return the weighted sum and every term present; absent terms are left out, not zero.

    Raises:
        InputError: a weight for an objective that does not exist.
    """
    terms = {}
    for name in weights:
        if name not in objectives:
            raise InputError(f"total: objectives.{name} is unknown; it takes {', '.join(objectives)}.")
        term = objectives[name](outputs, batch)
        if term is not None:
            terms[name] = term
    if not terms:
        return None, terms
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum(), terms
