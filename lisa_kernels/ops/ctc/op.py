"""``ctc_loss`` and ``ctc_terms``: schemas, shape functions and the public functions."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core import checks
from lisa_kernels.core.library import define_op
from lisa_kernels.ops.ctc.arguments import (
    FLOATS,
    CtcArguments,
    bring,
    check_overwritable,
    check_values,
)
from lisa_kernels.ops.ctc.packing import stored_by_class
from lisa_kernels.ops.ctc.terms import CtcTerms, counted_lengths, reduce_terms


def _fake_forward(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    log_priors: Tensor | None,
    blank: int,
    star: int | None,
    star_penalty: float,
    zero_infinity: bool,
    with_entropy: bool,
    with_consistency: bool,
    overwrite_logits: bool,
    save: bool,
) -> tuple[Tensor, ...]:
    frames, batch, classes = logits.shape
    real = functools.partial(logits.new_empty, dtype=torch.float64 if logits.dtype == torch.float64 else torch.float32)
    per_frame = batch * classes if stored_by_class(targets, batch, classes) else targets.numel() + batch
    return (
        real(batch),
        real(batch if with_entropy else 0),
        real(batch if with_consistency else 0),
        real((frames, batch)),
        real((frames, batch)),
        real((frames, batch) if with_entropy else 0),
        real(0 if star is None else (2, frames, batch)),
        real(frames * per_frame if save else 0),
    )


def _fake_backward(
    grad_loss: Tensor,
    grad_entropy: Tensor,
    grad_consistency: Tensor,
    logits: Tensor,
    *rest: Any,
) -> Tensor:
    return torch.empty_like(logits)


_OP = define_op(
    "ctc_loss",
    package=__package__,
    forward="(Tensor logits, Tensor targets, Tensor logit_lengths, Tensor target_lengths, Tensor? log_priors,"
    " int blank, int? star, float star_penalty, bool zero_infinity, bool with_entropy, bool with_consistency,"
    " bool overwrite_logits, bool save) -> (Tensor loss, Tensor entropy, Tensor consistency, Tensor row_max,"
    " Tensor log_sum, Tensor row_entropy, Tensor star_rows, Tensor occupancy)",
    backward="(Tensor grad_loss, Tensor grad_entropy, Tensor grad_consistency, Tensor logits, Tensor targets,"
    " Tensor target_lengths, Tensor row_max, Tensor log_sum, Tensor row_entropy, Tensor star_rows, Tensor occupancy,"
    " int blank, int? star, bool with_entropy, bool with_consistency, bool[] needs) -> (Tensor grad_logits)",
    fakes=(_fake_forward, _fake_backward),
    backends=("cuda", "triton", "cpu", "reference"),
    check_values=functools.partial(check_values, "ctc_loss"),
    overwritten="logits",
)


def ctc_loss(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    *,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
    layout: str = "TNC",
    log_priors: Tensor | None = None,
    star: int | None = None,
    star_penalty: float = 0.0,
    weights: Tensor | None = None,
    entropy_weight: float = 0.0,
    consistency_weight: float = 0.0,
    overwrite_logits: bool = False,
) -> Tensor:
    """Return the connectionist temporal classification loss of Graves et al. (2006), from logits.

    The softmax over classes is part of the op.  Log-probabilities may be passed as they are: they give the same loss,
    and the gradient that ``torch.nn.functional.ctc_loss`` returns.  They must be *normalised*; scores shifted by priors
    or with a column appended would be normalised again: use ``log_priors`` and ``star``.

    Args:
        logits: Scores before softmax, ``[T, N, C]``, ``[N, T, C]`` with ``layout="NTC"``, or ``[T, C]`` for one
            utterance; float32, bfloat16, float16 or float64.  Computed in fp64 for float64, else in fp32.  Frames
            beyond a length are never read and may hold NaN.
        targets: Class numbers of any integer dtype: padded ``[N, S]`` (entries beyond a length are never looked at,
            -100 is fine), or concatenated ``[sum(target_lengths)]``; on the device of ``logits``.
        logit_lengths: Frames of each utterance, ``[N]``, 0 to T: a tensor on any device, a list or a tuple; an
            integer or 0-d tensor for one utterance.  Lengths on a GPU are not copied to the host.
        target_lengths: Labels of each target, ``[N]``, 0 to S; as ``logit_lengths``.
        blank: Class number of the blank.
        reduction: ``"mean"`` (each loss over its target length, at least 1, then the mean over the batch, as torch
            does), ``"sum"`` or ``"none"``.
        zero_infinity: Turn the loss of utterances without any alignment (too few frames) from ``inf`` to 0.  Their
            gradient is 0 either way.
        layout: Order of the dimensions of three-dimensional logits, ``"TNC"`` or ``"NTC"``.
        log_priors: Natural logarithms of class priors, ``[C]``, finite and without gradient: an alignment scores
            log p − log_priors instead of log p.  Scale them yourself: ``0.3 * log_priors``.
        star: A number outside 0..C-1 (C or -1 is usual) that stands in ``targets`` for any class but blank; it scores
            log(1 − p_blank) − ``star_penalty``, whatever the priors (Pratap et al. 2022, "Star Temporal
            Classification").  Between two stars in a row stands a blank.
        star_penalty: Nats that a frame in a star costs.
        weights: Weight of each utterance, ``[N]``.  One of weight exactly 0 counts 0 even if its loss is inf or NaN,
            and has gradient 0: without ``consistency_weight`` its frames are not read.
        entropy_weight: Factor of the entropy of the frames' distributions, summed over an utterance's frames; negative
            values reward uncertainty.
        consistency_weight: Factor of the consistency of two views (Yao et al. 2024, CR-CTC): utterances n and
            n + N/2 are views of one.  Each is charged Σ KL(p' ‖ p) over the frames within both lengths, p' of the
            other view taken as constant.
        overwrite_logits: Let backward write the gradient over ``logits``: saves a tensor of their size.  Nobody may
            read them afterwards, and backward runs once.

    Returns:
        Loss in nats, fp32 (fp64 for float64 logits): a scalar, or ``[N]`` for ``reduction="none"`` (a scalar for one
        unbatched utterance): ``weights * (loss + entropy_weight * entropy + consistency_weight * consistency)``.  The
        gradient has the dtype and strides of ``logits`` and is exactly 0 in frames beyond a length.  An empty batch
        gives 0 (``[0]`` for ``"none"``).  NaN or +inf in a frame within a length gives a NaN loss and gradient of that
        utterance alone (of both views where consistency is asked for).  Losses above 1.8e8 nats lose accuracy in fp32.

    Raises:
        TypeError: A dtype or kind of argument that is not listed above.
        ValueError: A shape, device, ``blank`` or option that is not listed above; ``overwrite_logits`` with a leaf that
            requires grad or with elements that share memory; on the CPU also lengths or labels out of range and priors
            that are not finite.  On a GPU bad lengths and labels give a NaN loss and gradient of that utterance
            instead: raising would have to wait for the device.
        RuntimeError: ``overwrite_logits`` under ``torch.compile``.

    Example:
        >>> logits = torch.randn(50, 2, 20, requires_grad=True)
        >>> loss = ctc_loss(logits, torch.tensor([[1, 2, 2], [5, 0, 0]]), [50, 40], [3, 1])
        >>> loss.backward()
    """
    brought, args = _arguments(
        "ctc_loss", logits, targets, logit_lengths, target_lengths, blank=blank, reduction=reduction,
        zero_infinity=zero_infinity, layout=layout, log_priors=log_priors, star=star, star_penalty=star_penalty,
        weights=weights, entropy_weight=entropy_weight, consistency_weight=consistency_weight,
        overwrite_logits=overwrite_logits,
    )  # fmt: skip
    return reduce_terms(
        CtcTerms(*_OP(*args)[:3]), brought.target_lengths, reduction, weights=weights, entropy_weight=entropy_weight,
        consistency_weight=consistency_weight, unbatched=brought.unbatched,
    )  # fmt: skip


def ctc_terms(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    *,
    blank: int = 0,
    zero_infinity: bool = False,
    layout: str = "TNC",
    log_priors: Tensor | None = None,
    star: int | None = None,
    star_penalty: float = 0.0,
    entropy: bool = False,
    consistency: bool = False,
    overwrite_logits: bool = False,
) -> CtcTerms:
    """Return loss, entropy and consistency of each utterance, for objectives that ``ctc_loss`` does not spell.

    All other arguments are those of ``ctc_loss``.

    Args:
        entropy: Whether the entropy is wanted.
        consistency: Whether the consistency is wanted; N must be even.

    Returns:
        ``CtcTerms(loss, entropy, consistency)``, each ``[N]`` and differentiable, also for one unbatched utterance;
        ``[0]`` where not asked for.  An utterance without an alignment has entropy and consistency 0.

    Raises:
        TypeError, ValueError, RuntimeError: As ``ctc_loss``.
    """
    checks.check_flag("ctc_terms", "entropy", entropy)
    checks.check_flag("ctc_terms", "consistency", consistency)
    _, args = _arguments(
        "ctc_terms", logits, targets, logit_lengths, target_lengths, blank=blank, zero_infinity=zero_infinity,
        layout=layout, log_priors=log_priors, star=star, star_penalty=star_penalty, entropy_weight=float(entropy),
        consistency_weight=float(consistency), overwrite_logits=overwrite_logits,
    )  # fmt: skip
    return CtcTerms(*_OP(*args)[:3])


def explain(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    *,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
    layout: str = "TNC",
    log_priors: Tensor | None = None,
    star: int | None = None,
    star_penalty: float = 0.0,
    weights: Tensor | None = None,
    entropy_weight: float = 0.0,
    consistency_weight: float = 0.0,
    overwrite_logits: bool = False,
) -> Any:
    """Return which backend runs this call of ``ctc_loss``, and why not the others."""
    _, args = _arguments(
        "ctc_loss", logits, targets, logit_lengths, target_lengths, blank=blank, reduction=reduction,
        zero_infinity=zero_infinity, layout=layout, log_priors=log_priors, star=star, star_penalty=star_penalty,
        weights=weights, entropy_weight=entropy_weight, consistency_weight=consistency_weight,
        overwrite_logits=overwrite_logits,
    )  # fmt: skip
    return _OP.explain(*args)


def _arguments(
    name: str,
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    *,
    blank: int,
    zero_infinity: bool,
    layout: str,
    log_priors: Tensor | None,
    star: int | None,
    star_penalty: float,
    entropy_weight: float,
    consistency_weight: float,
    overwrite_logits: bool,
    reduction: str = "none",
    weights: Tensor | None = None,
) -> tuple[CtcArguments, tuple[Any, ...]]:
    """Check the public arguments; return them brought into form, and the op's."""
    checks.check_choice(name, "reduction", reduction, ("mean", "sum", "none"))
    checks.check_flag(name, "zero_infinity", zero_infinity)
    checks.check_flag(name, "overwrite_logits", overwrite_logits)
    brought = bring(
        name, logits, targets, logit_lengths, target_lengths, blank=blank, layout=layout, log_priors=log_priors,
        star=star, star_penalty=star_penalty,
    )  # fmt: skip
    checks.check_number(name, "entropy_weight", entropy_weight)
    checks.check_number(name, "consistency_weight", consistency_weight)
    batch = brought.logits.shape[1]
    if consistency_weight and batch % 2:
        raise ValueError(
            f"{name}: logits has N = {batch} utterances; with consistency it takes an even number, the second half "
            "being other views of the first."
        )
    if weights is not None:
        _check_weights(name, weights, brought.logits)
    save = torch.is_grad_enabled() and logits.requires_grad
    if overwrite_logits and save:
        check_overwritable(name, logits)
    lengths = counted_lengths(brought.logit_lengths, weights, consistency_weight)
    return brought, (
        brought.logits, brought.targets, lengths, brought.target_lengths, brought.log_priors, blank, star,
        float(star_penalty), zero_infinity, entropy_weight != 0, consistency_weight != 0, overwrite_logits, save,
    )  # fmt: skip


def _check_weights(name: str, weights: Tensor, logits: Tensor) -> None:
    checks.check_tensor(name, "weights", weights)
    checks.check_rank(name, "weights", weights, (0, 1), "[N], or a single number for one utterance")
    checks.check_dtype(name, "weights", weights, FLOATS)
    checks.check_size(name, "weights", weights.reshape(-1), 0, logits.shape[1], "the batch size N of logits")
    checks.check_device(name, "weights", weights, "logits", logits)
