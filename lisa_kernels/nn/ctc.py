"""``CTCLoss``, a drop-in for ``torch.nn.CTCLoss``."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lisa_kernels.ops.ctc import ctc_loss


class CTCLoss(nn.Module):
    """Connectionist temporal classification loss; constructor and call of ``torch.nn.CTCLoss``, and more options.

    Args:
        blank: Class number of the blank.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        zero_infinity: Turn infinite losses (too few frames for the target) into 0.
        layout: Order of the dimensions of the scores, ``"TNC"`` or ``"NTC"``.
        log_priors: Natural logarithms of class priors, ``[C]``: a buffer of the module, so it moves with it.
        star: A number outside the classes that stands for any class but blank in targets.
        star_penalty: Nats that a frame in a star costs.
        entropy_weight: Factor of the frames' entropy.
        consistency_weight: Factor of the consistency of two views, the halves of the batch.
        overwrite_logits: Let backward write the gradient over the scores.

    Takes log-probabilities, as torch's module does, or logits: then the ``log_softmax`` in front can go, with its two
    ``[T, N, C]`` tensors.  See ``lisa_kernels.ctc_loss`` for dtypes, semantics and errors.
    """

    log_priors: Tensor | None

    def __init__(
        self,
        blank: int = 0,
        reduction: str = "mean",
        zero_infinity: bool = False,
        *,
        layout: str = "TNC",
        log_priors: Tensor | None = None,
        star: int | None = None,
        star_penalty: float = 0.0,
        entropy_weight: float = 0.0,
        consistency_weight: float = 0.0,
        overwrite_logits: bool = False,
    ) -> None:
        super().__init__()
        self.blank = blank
        self.reduction = reduction
        self.zero_infinity = zero_infinity
        self.layout = layout
        # Constants of the objective, not weights of the model: not in its state dict.
        self.register_buffer("log_priors", log_priors, persistent=False)
        self.star = star
        self.star_penalty = star_penalty
        self.entropy_weight = entropy_weight
        self.consistency_weight = consistency_weight
        self.overwrite_logits = overwrite_logits

    def forward(
        self,
        log_probs: Tensor,
        targets: Tensor,
        input_lengths: Tensor | Sequence[int],
        target_lengths: Tensor | Sequence[int],
        *,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of ``log_probs`` (or logits), ``[T, N, C]`` or ``[T, C]``; ``weights`` are ``[N]``."""
        return ctc_loss(
            log_probs,
            targets,
            input_lengths,
            target_lengths,
            blank=self.blank,
            reduction=self.reduction,
            zero_infinity=self.zero_infinity,
            layout=self.layout,
            log_priors=self.log_priors,
            star=self.star,
            star_penalty=self.star_penalty,
            weights=weights,
            entropy_weight=self.entropy_weight,
            consistency_weight=self.consistency_weight,
            overwrite_logits=self.overwrite_logits,
        )

    def extra_repr(self) -> str:
        told = [f"blank={self.blank}", f"reduction={self.reduction!r}", f"zero_infinity={self.zero_infinity}"]
        told += [
            f"{name}={getattr(self, name)!r}" for name, default in _OPTIONS.items() if getattr(self, name) != default
        ]
        if self.log_priors is not None:
            told.append(f"log_priors=[{self.log_priors.numel()}]")
        return ", ".join(told)


# Shown where they differ from these.
_OPTIONS = {
    "layout": "TNC",
    "star": None,
    "star_penalty": 0.0,
    "entropy_weight": 0.0,
    "consistency_weight": 0.0,
    "overwrite_logits": False,
}
