"""``ctc_loss``: schemas, shape functions, checks and the public function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core import checks
from lisa_kernels.core.library import define_op
from lisa_kernels.ops.ctc.reference import stored_by_class

_FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_INTEGERS = (torch.int64, torch.int32)
_SMALL_INTEGERS = (torch.int16, torch.int8, torch.uint8)


def _fake_forward(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    zero_infinity: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    frames, batch, classes = logits.shape
    real = torch.float64 if logits.dtype == torch.float64 else torch.float32
    per_frame = batch * classes if stored_by_class(targets, batch, classes) else targets.numel() + batch
    return (
        logits.new_empty(batch, dtype=real),
        logits.new_empty((frames, batch), dtype=real),
        logits.new_empty((frames, batch), dtype=real),
        logits.new_empty(frames * per_frame if save else 0, dtype=real),
    )


def _fake_backward(
    grad_loss: Tensor,
    logits: Tensor,
    targets: Tensor,
    target_lengths: Tensor,
    row_max: Tensor,
    log_sum: Tensor,
    occupancy: Tensor,
    blank: int,
    needs: list[bool],
) -> Tensor:
    return torch.empty_like(logits)


def _check_values(named: Mapping[str, Any]) -> None:
    """Values of CPU tensors: lengths within their sizes, labels within the classes."""
    logits, targets = named["logits"], named["targets"]
    logit_lengths, target_lengths = named["logit_lengths"], named["target_lengths"]
    frames, _, classes = logits.shape
    _check_logit_lengths(logit_lengths, frames)
    _check_target_lengths(target_lengths, targets)
    # The cheap look first: padding beyond a length may hold anything (-100 is usual).
    if targets.numel() == 0 or (int(targets.min()) >= 0 and int(targets.max()) < classes):
        return
    if targets.dim() == 2:
        used = torch.arange(targets.shape[1]) < target_lengths[:, None]
        targets = torch.where(used, targets, 0)
    meaning = f"class numbers below C = {classes}, the last size of logits"
    checks.check_range("ctc_loss", "targets", targets, 0, classes - 1, meaning)


def _check_logit_lengths(logit_lengths: Tensor, frames: int) -> None:
    checks.check_range(
        "ctc_loss", "logit_lengths", logit_lengths, 0, frames, f"frames of an utterance (logits have T = {frames})",
        "Count frames after the encoder's subsampling.",
    )  # fmt: skip


def _check_target_lengths(target_lengths: Tensor, targets: Tensor) -> None:
    if targets.dim() == 2:
        meaning = f"labels of a target (targets have S = {targets.shape[1]})"
        checks.check_range("ctc_loss", "target_lengths", target_lengths, 0, targets.shape[1], meaning)
        return
    meaning = f"labels of a target (targets have {targets.numel()} in all)"
    checks.check_range("ctc_loss", "target_lengths", target_lengths, 0, targets.numel(), meaning)
    if (total := int(target_lengths.sum())) != targets.numel():
        raise ValueError(
            f"ctc_loss: targets has shape {tuple(targets.shape)}; concatenated targets must have sum(target_lengths) = "
            f"{total} labels. Pass padded targets as [N, S]."
        )


_OP = define_op(
    "ctc_loss",
    package=__package__,
    forward="(Tensor logits, Tensor targets, Tensor logit_lengths, Tensor target_lengths, int blank,"
    " bool zero_infinity, bool save) -> (Tensor loss, Tensor row_max, Tensor log_sum, Tensor occupancy)",
    backward="(Tensor grad_loss, Tensor logits, Tensor targets, Tensor target_lengths, Tensor row_max, Tensor log_sum,"
    " Tensor occupancy, int blank, bool[] needs) -> (Tensor grad_logits)",
    fakes=(_fake_forward, _fake_backward),
    backends=("cuda", "triton", "cpu", "reference"),
    check_values=_check_values,
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
) -> Tensor:
    """Return the connectionist temporal classification loss of Graves et al. (2006), from logits.

    The softmax over classes is part of the op.  Log-probabilities may be passed as they are: they give the same loss,
    and the gradient that ``torch.nn.functional.ctc_loss`` returns.  They must be *normalised*; scores shifted by priors
    or with a column appended would be normalised again.

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

    Returns:
        Loss in nats, fp32 (fp64 for float64 logits): a scalar, or ``[N]`` for ``reduction="none"`` (a scalar for one
        unbatched utterance).  The gradient has the dtype and strides of ``logits`` and is exactly 0 in frames beyond a
        length.  An empty batch gives 0 (``[0]`` for ``"none"``).  NaN or +inf in a frame within a length gives a NaN
        loss and gradient of that utterance alone.  Losses above 1.8e8 nats lose accuracy in fp32.

    Raises:
        TypeError: A dtype or kind of argument that is not listed above.
        ValueError: A shape, device, ``blank`` or option that is not listed above; on the CPU also lengths or labels out
            of range.  On a GPU such values give a NaN loss and gradient of that utterance instead: raising would have
            to wait for the device.

    Example:
        >>> logits = torch.randn(50, 2, 20, requires_grad=True)
        >>> loss = ctc_loss(logits, torch.tensor([[1, 2, 2], [5, 0, 0]]), [50, 40], [3, 1])
        >>> loss.backward()
    """
    args, unbatched = _arguments(
        logits, targets, logit_lengths, target_lengths, blank, reduction, zero_infinity, layout
    )
    loss = _OP(*args)[0]
    if reduction == "none":
        return loss[0] if unbatched else loss
    if reduction == "sum" or loss.shape[0] == 0:
        return loss.sum()
    return (loss / args[3].clamp(min=1)).mean()


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
) -> Any:
    """Return which backend runs this call of ``ctc_loss``, and why not the others."""
    args, _ = _arguments(logits, targets, logit_lengths, target_lengths, blank, reduction, zero_infinity, layout)
    return _OP.explain(*args)


def _arguments(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    blank: int,
    reduction: str,
    zero_infinity: bool,
    layout: str,
) -> tuple[tuple[Any, ...], bool]:
    """Check the public arguments and bring them to the op's: ``[T, N, C]`` and int64 lengths on its device."""
    name = "ctc_loss"
    checks.check_choice(name, "layout", layout, ("TNC", "NTC"))
    checks.check_choice(name, "reduction", reduction, ("mean", "sum", "none"))
    checks.check_flag(name, "zero_infinity", zero_infinity)
    checks.check_tensor(name, "logits", logits)
    checks.check_rank(name, "logits", logits, (2, 3), "[T, N, C], [N, T, C] with layout='NTC', or [T, C]")
    checks.check_dtype(name, "logits", logits, _FLOATS)
    unbatched = logits.dim() == 2
    if unbatched:
        logits = logits.unsqueeze(1)
    elif layout == "NTC":
        logits = logits.transpose(0, 1)
    frames, batch, classes = logits.shape
    if classes == 0:
        raise ValueError(f"{name}: logits has shape {tuple(logits.shape)}; it takes at least one class, the blank.")
    checks.check_integer(name, "blank", blank)
    checks.check_value(name, "blank", blank, 0, classes, "a class number below the last size of logits")

    checks.check_tensor(name, "targets", targets)
    checks.check_rank(name, "targets", targets, (1, 2), "[N, S] padded or [sum(target_lengths)] concatenated")
    checks.check_dtype(name, "targets", targets, (*_INTEGERS, *_SMALL_INTEGERS), "Use .long().")
    if targets.dtype not in _INTEGERS:
        targets = targets.long()
    checks.check_device(name, "targets", targets, "logits", logits)
    if targets.dim() == 2:
        checks.check_size(name, "targets", targets, 0, batch, "the batch size N of logits")
    lengths = [
        _lengths(name, argument, value, batch, logits.device)
        for argument, value in (("logit_lengths", logit_lengths), ("target_lengths", target_lengths))
    ]
    if logits.device.type != "cpu" and not torch.compiler.is_compiling():
        _check_host_lengths(logit_lengths, target_lengths, frames, targets)
    save = torch.is_grad_enabled() and logits.requires_grad
    return (logits, targets.contiguous(), *lengths, blank, zero_infinity, save), unbatched


def _lengths(function: str, argument: str, value: Tensor | Sequence[int], batch: int, device: torch.device) -> Tensor:
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


def _check_host_lengths(logit_lengths: Any, target_lengths: Any, frames: int, targets: Tensor) -> None:
    """Lengths that are on the host although the logits are on a GPU can be looked at without waiting."""
    for check, lengths, size in (
        (_check_logit_lengths, torch.as_tensor(logit_lengths), frames),
        (_check_target_lengths, torch.as_tensor(target_lengths), targets),
    ):
        if lengths.device.type == "cpu":
            check(lengths.reshape(-1), size)
