"""The checks that the CTC functions share, and their public arguments in the form the ops take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lisa_kernels.core import checks

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_INTEGERS = (torch.int64, torch.int32)
_SMALL_INTEGERS = (torch.int16, torch.int8, torch.uint8)


class CtcArguments(NamedTuple):
    """Checked arguments: logits ``[T, N, C]``, int64 lengths on their device, log-priors in the computation's dtype."""

    logits: Tensor
    targets: Tensor
    logit_lengths: Tensor
    target_lengths: Tensor
    log_priors: Tensor | None
    unbatched: bool


def bring(
    function: str,
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    *,
    blank: int,
    layout: str,
    log_priors: Tensor | None,
    star: int | None,
    star_penalty: float,
) -> CtcArguments:
    """Return the arguments as the ops take them; raise for those that shapes, dtypes and numbers show to be wrong."""
    logits, unbatched = bring_logits(function, logits, blank=blank, layout=layout)
    frames, batch, classes = logits.shape
    checks.check_tensor(function, "targets", targets)
    checks.check_rank(function, "targets", targets, (1, 2), "[N, S] padded or [sum(target_lengths)] concatenated")
    checks.check_dtype(function, "targets", targets, (*_INTEGERS, *_SMALL_INTEGERS), "Use .long().")
    if targets.dtype not in _INTEGERS:
        targets = targets.long()
    checks.check_device(function, "targets", targets, "logits", logits)
    if targets.dim() == 2:
        checks.check_size(function, "targets", targets, 0, batch, "the batch size N of logits")
    lengths = [
        bring_lengths(function, argument, value, batch, logits.device)
        for argument, value in (("logit_lengths", logit_lengths), ("target_lengths", target_lengths))
    ]
    if (given := on_host(logit_lengths, logits)) is not None:
        check_logit_lengths(function, given, frames)
    if (given := on_host(target_lengths, logits)) is not None:
        _check_target_lengths(function, given, targets)
    if log_priors is not None:
        log_priors = _bring_priors(function, log_priors, logits)
    if star is not None:
        checks.check_integer(function, "star", star)
        if 0 <= star < classes:
            raise ValueError(
                f"{function}: star is {star}; it takes a number that is no class, such as {classes} or -1 (logits have "
                f"C = {classes})."
            )
    checks.check_number(function, "star_penalty", star_penalty)
    return CtcArguments(logits, targets.contiguous(), *lengths, log_priors, unbatched)


def bring_logits(function: str, logits: Tensor, *, blank: int, layout: str) -> tuple[Tensor, bool]:
    """Return logits as ``[T, N, C]``, and whether they came as one utterance ``[T, C]``."""
    checks.check_choice(function, "layout", layout, ("TNC", "NTC"))
    checks.check_tensor(function, "logits", logits)
    checks.check_rank(function, "logits", logits, (2, 3), "[T, N, C], [N, T, C] with layout='NTC', or [T, C]")
    checks.check_dtype(function, "logits", logits, FLOATS)
    unbatched = logits.dim() == 2
    if unbatched:
        logits = logits.unsqueeze(1)
    elif layout == "NTC":
        logits = logits.transpose(0, 1)
    classes = logits.shape[-1]
    if classes == 0:
        raise ValueError(f"{function}: logits has shape {tuple(logits.shape)}; it takes at least one class, the blank.")
    checks.check_integer(function, "blank", blank)
    checks.check_value(function, "blank", blank, 0, classes, "a class number below the last size of logits")
    return logits, unbatched


def bring_lengths(
    function: str, argument: str, value: Tensor | Sequence[int], batch: int, device: torch.device
) -> Tensor:
    """Return lengths as an int64 tensor ``[N]`` on the device of logits."""
    if not isinstance(value, Tensor):
        try:
            value = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"{function}: {argument} is {type(value).__name__}; it takes a tensor, list or tuple of integers."
            ) from error
        if value.numel() == 0:
            value = value.long()
    checks.check_dtype(function, argument, value, (*_INTEGERS, *_SMALL_INTEGERS), "Use .long().")
    checks.check_rank(function, argument, value, (0, 1), "[N], or a single integer for one utterance")
    value = value.reshape(1) if value.dim() == 0 else value
    checks.check_size(function, argument, value, 0, batch, "the batch size N of logits")
    # Not waiting is only right towards a GPU, whose stream orders the copy before its use.
    return value.to(device, torch.int64, non_blocking=device.type != "cpu").contiguous()


def _bring_priors(function: str, log_priors: Tensor, logits: Tensor) -> Tensor:
    checks.check_tensor(function, "log_priors", log_priors)
    checks.check_rank(function, "log_priors", log_priors, (1,), "[C], a natural logarithm for each class")
    checks.check_dtype(function, "log_priors", log_priors, FLOATS)
    checks.check_size(function, "log_priors", log_priors, 0, logits.shape[-1], "the number of classes C of logits")
    checks.check_device(function, "log_priors", log_priors, "logits", logits)
    if log_priors.requires_grad:
        raise ValueError(f"{function}: log_priors requires grad; it takes constants. Pass log_priors.detach().")
    return log_priors.to(torch.float64 if logits.dtype == torch.float64 else torch.float32).contiguous()


def check_overwritable(function: str, logits: Tensor) -> None:
    """Raise unless backward may write over these logits."""
    if torch.compiler.is_compiling():
        raise RuntimeError(f"{function}: overwrite_logits is True under torch.compile; it takes False there.")
    if logits.is_leaf and logits.requires_grad:
        raise ValueError(
            f"{function}: overwrite_logits is True and logits is a leaf that requires grad; it takes the output of a "
            "model, whose memory nobody reads again."
        )
    if any(size > 1 and stride == 0 for size, stride in zip(logits.shape, logits.stride(), strict=True)):
        raise ValueError(
            f"{function}: overwrite_logits is True and logits has strides {logits.stride()}, so that elements share "
            "memory; it takes elements of their own. Pass logits.contiguous()."
        )


def check_values(function: str, named: Mapping[str, Any]) -> None:
    """Values of CPU tensors: lengths within their sizes, labels within the classes, priors finite."""
    logits, targets = named["logits"], named["targets"]
    logit_lengths, target_lengths = named["logit_lengths"], named["target_lengths"]
    frames, _, classes = logits.shape
    check_logit_lengths(function, logit_lengths, frames)
    _check_target_lengths(function, target_lengths, targets)
    if named["log_priors"] is not None:
        checks.check_finite(function, "log_priors", named["log_priors"], "Give classes that were never seen a floor.")
    # The cheap look first: padding beyond a length may hold anything (-100 is usual).
    if targets.numel() == 0 or (int(targets.min()) >= 0 and int(targets.max()) < classes):
        return
    if targets.dim() == 2:
        used = torch.arange(targets.shape[1]) < target_lengths[:, None]
        targets = torch.where(used, targets, 0)
    meaning = f"class numbers below C = {classes}, the last size of logits"
    if (star := named["star"]) is not None:
        targets = torch.where(targets == star, 0, targets)
        meaning += f", or star = {star}"
    checks.check_range(function, "targets", targets, 0, classes - 1, meaning)


def check_logit_lengths(function: str, logit_lengths: Tensor, frames: int) -> None:
    """Raise ValueError for lengths on the CPU that are negative or beyond the frames."""
    checks.check_range(
        function, "logit_lengths", logit_lengths, 0, frames, f"frames of an utterance (logits have T = {frames})",
        "Count frames after the encoder's subsampling.",
    )  # fmt: skip


def _check_target_lengths(function: str, target_lengths: Tensor, targets: Tensor) -> None:
    if targets.dim() == 2:
        meaning = f"labels of a target (targets have S = {targets.shape[1]})"
        checks.check_range(function, "target_lengths", target_lengths, 0, targets.shape[1], meaning)
        return
    meaning = f"labels of a target (targets have {targets.numel()} in all)"
    checks.check_range(function, "target_lengths", target_lengths, 0, targets.numel(), meaning)
    if (total := int(target_lengths.sum())) != targets.numel():
        raise ValueError(
            f"{function}: targets has shape {tuple(targets.shape)}; concatenated targets must have sum(target_lengths) "
            f"= {total} labels. Pass padded targets as [N, S]."
        )


def on_host(lengths: Tensor | Sequence[int], logits: Tensor) -> Tensor | None:
    """Return lengths ``[N]`` that can be looked at without waiting for the GPU that ``logits`` are on; None without."""
    if logits.device.type == "cpu" or torch.compiler.is_compiling():
        return None
    given = torch.as_tensor(lengths).reshape(-1)
    return given if given.device.type == "cpu" else None
