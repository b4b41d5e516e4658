"""``ctc_align``: schema, shape function and the public function."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core import checks
from lisa_kernels.core.library import define_op
from lisa_kernels.ops.ctc.arguments import bring, check_values
from lisa_kernels.ops.ctc_align.alignment import CtcAlignment


def _fake_forward(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    log_priors: Tensor | None,
    blank: int,
    star: int | None,
    star_penalty: float,
    band: int | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    frames, batch, _ = logits.shape
    real = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return (
        logits.new_empty((batch, frames), dtype=torch.int64),
        logits.new_empty((batch, frames), dtype=torch.int32),
        logits.new_empty((batch, frames), dtype=real),
        logits.new_empty(batch, dtype=real),
    )


_OP = define_op(
    "ctc_align",
    package=__package__,
    forward="(Tensor logits, Tensor targets, Tensor logit_lengths, Tensor target_lengths, Tensor? log_priors,"
    " int blank, int? star, float star_penalty, int? band)"
    " -> (Tensor paths, Tensor states, Tensor scores, Tensor total)",
    backward=None,
    fakes=(_fake_forward,),
    backends=("cuda", "triton", "cpu", "reference"),
    check_values=functools.partial(check_values, "ctc_align"),
)


def ctc_align(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    *,
    blank: int = 0,
    layout: str = "TNC",
    log_priors: Tensor | None = None,
    star: int | None = None,
    star_penalty: float = 0.0,
    band: int | None = None,
) -> CtcAlignment:
    """Return the likeliest CTC path through each target: which label is said in which frame (Viterbi search).

    No gradient flows through it.  Of equally likely paths the one is taken that, seen from the end, stays in its state
    rather than comes from the state before, and comes from there rather than skips a blank; at the end the last label
    goes before the last blank.  Log-probabilities may be passed as logits if they are normalised.

    Args:
        logits: Scores before softmax, ``[T, N, C]``, ``[N, T, C]`` with ``layout="NTC"``, or ``[T, C]`` for one
            utterance; float32, bfloat16, float16 or float64.  Frames beyond a length are never read.
        targets: Class numbers of any integer dtype: padded ``[N, S]`` (entries beyond a length are never looked at),
            or concatenated ``[sum(target_lengths)]``; on the device of ``logits``.
        logit_lengths: Frames of each utterance, ``[N]``, 0 to T: a tensor on any device, a list or a tuple; an
            integer or 0-d tensor for one utterance.  Lengths on a GPU are not copied to the host.
        target_lengths: Labels of each target, ``[N]``, 0 to S; as ``logit_lengths``.
        blank: Class number of the blank.
        layout: Order of the dimensions of three-dimensional logits, ``"TNC"`` or ``"NTC"``.
        log_priors: Natural logarithms ``[C]``, finite, taken off the log-probabilities of their classes; scale them
            yourself.
        star: The value in ``targets`` that stands for any class but blank; no class number.  Neighbouring stars need a
            blank between them, as equal labels do.
        star_penalty: Nats taken off a star's log-probability log(1 - p(blank)) in each frame.
        band: Label j, and the blank before it, may be held at frame t only if ``abs(j - t * S_n / T_n) <= band``, with
            the utterance's own numbers of labels and frames; at least 1.  Work and memory are then ``T * band`` instead
            of ``T * S``: for hours of audio.  None: everywhere.

    Returns:
        ``CtcAlignment(paths, states, scores, total, label_count)``; see there for utterances without an alignment.

    Raises:
        TypeError: A dtype or kind of argument that is not listed above.
        ValueError: A shape, device, number or option that is not listed above; on the CPU also lengths, labels or
            priors out of range.  On a GPU lengths and labels out of range give a NaN total of that utterance instead.

    Example:
        >>> alignment = ctc_align(torch.randn(50, 2, 20), torch.tensor([[1, 2, 2], [5, 0, 0]]), [50, 40], [3, 1])
        >>> alignment.states[0].tolist()
    """
    args, unbatched = _arguments(
        logits, targets, logit_lengths, target_lengths, blank, layout, log_priors, star, star_penalty, band
    )
    fields = _OP(*args)
    if unbatched:
        fields = tuple(field[0] for field in fields)
    return CtcAlignment(*fields, args[1].shape[-1])


def explain(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    *,
    blank: int = 0,
    layout: str = "TNC",
    log_priors: Tensor | None = None,
    star: int | None = None,
    star_penalty: float = 0.0,
    band: int | None = None,
) -> Any:
    """Return which backend runs this call of ``ctc_align``, and why not the others."""
    args, _ = _arguments(
        logits, targets, logit_lengths, target_lengths, blank, layout, log_priors, star, star_penalty, band
    )
    return _OP.explain(*args)


def _arguments(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    blank: int,
    layout: str,
    log_priors: Tensor | None,
    star: int | None,
    star_penalty: float,
    band: int | None,
) -> tuple[tuple[Any, ...], bool]:
    """Return the op's arguments, and whether they were one utterance without the dimension N."""
    given = bring(
        "ctc_align",
        logits,
        targets,
        logit_lengths,
        target_lengths,
        blank=blank,
        layout=layout,
        log_priors=log_priors,
        star=star,
        star_penalty=star_penalty,
    )
    if band is not None:
        checks.check_integer("ctc_align", "band", band)
        if band < 1:
            raise ValueError(f"ctc_align: band is {band}; it takes 1 or more labels, or None for no band.")
    tensors = given.logits.detach(), given.targets, given.logit_lengths, given.target_lengths, given.log_priors
    return (*tensors, blank, star, float(star_penalty), band), given.unbatched
