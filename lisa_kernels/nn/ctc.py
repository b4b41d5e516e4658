"""``CTCLoss``, a drop-in for ``torch.nn.CTCLoss``."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lisa_kernels.ops.ctc import ctc_loss


class CTCLoss(nn.Module):
    """Connectionist temporal classification loss; constructor and call of ``torch.nn.CTCLoss``.

    Args:
        blank: Class number of the blank.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        zero_infinity: Turn infinite losses (too few frames for the target) into 0.

    Takes log-probabilities, as torch's module does, or logits: then the ``log_softmax`` in front can go, with its two
    ``[T, N, C]`` tensors.  See ``lisa_kernels.ctc_loss`` for dtypes, semantics and errors.
    """

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> None:
        super().__init__()
        self.blank = blank
        self.reduction = reduction
        self.zero_infinity = zero_infinity

    def forward(
        self,
        log_probs: Tensor,
        targets: Tensor,
        input_lengths: Tensor | Sequence[int],
        target_lengths: Tensor | Sequence[int],
    ) -> Tensor:
        """Return the loss of ``log_probs`` (or logits), ``[T, N, C]`` or ``[T, C]``."""
        return ctc_loss(
            log_probs,
            targets,
            input_lengths,
            target_lengths,
            blank=self.blank,
            reduction=self.reduction,
            zero_infinity=self.zero_infinity,
        )

    def extra_repr(self) -> str:
        return f"blank={self.blank}, reduction={self.reduction!r}, zero_infinity={self.zero_infinity}"
