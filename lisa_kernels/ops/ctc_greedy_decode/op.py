"""``ctc_greedy_decode``: schema, shape function, checks and the public function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core.library import define_op
from lisa_kernels.ops.ctc.arguments import bring_lengths, bring_logits, check_logit_lengths, on_host
from lisa_kernels.ops.ctc_greedy_decode.reference import CtcDecoded

_NAME = "ctc_greedy_decode"


def _fake_forward(logits: Tensor, logit_lengths: Tensor, blank: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    frames, batch, _ = logits.shape
    real = torch.float64 if logits.dtype == torch.float64 else torch.float32
    ids, starts, ends = (logits.new_empty((batch, frames), dtype=torch.int64) for _ in range(3))
    return ids, logits.new_empty(batch, dtype=torch.int64), starts, ends, logits.new_empty(batch, dtype=real)


def _check_values(named: Mapping[str, Any]) -> None:
    """Values of CPU tensors: lengths within the frames."""
    check_logit_lengths(_NAME, named["logit_lengths"], named["logits"].shape[0])


_OP = define_op(
    _NAME,
    package=__package__,
    forward="(Tensor logits, Tensor logit_lengths, int blank)"
    " -> (Tensor ids, Tensor lengths, Tensor starts, Tensor ends, Tensor scores)",
    backward=None,
    fakes=(_fake_forward,),
    backends=("cuda", "triton", "cpu", "reference"),
    check_values=_check_values,
)


def ctc_greedy_decode(
    logits: Tensor,
    logit_lengths: Tensor | Sequence[int] | None = None,
    *,
    blank: int = 0,
    layout: str = "TNC",
) -> CtcDecoded:
    """Return what the best path through CTC logits says: the likeliest class of each frame, collapsed.

    Equal classes of neighbouring frames are one label, and blanks are dropped (Graves et al. 2006, section 3.2: best
    path decoding).  Of equally likely classes the lowest is taken.  It all stays on the device: nothing waits for it.

    Args:
        logits: Scores before softmax, or log-probabilities: ``[T, N, C]``, ``[N, T, C]`` with ``layout="NTC"``, or
            ``[T, C]`` for one utterance; float32, bfloat16, float16 or float64.  Frames beyond a length are never read.
        logit_lengths: Frames of each utterance, ``[N]``, 0 to T: a tensor on any device, a list or a tuple; an integer
            or 0-d tensor for one utterance.  None: all have T.  Lengths on a GPU are not copied to the host.
        blank: Class number of the blank.
        layout: Order of the dimensions of three-dimensional logits, ``"TNC"`` or ``"NTC"``.

    Returns:
        ``CtcDecoded(ids, lengths, starts, ends, scores)``; no gradient flows through it.  NaN, +inf, or nothing but
        -inf in a frame within a length gives that utterance a NaN score; NaN is never the best class there, and class
        0 is where there is no other.

    Raises:
        TypeError: A dtype or kind of argument that is not listed above.
        ValueError: A shape, ``blank`` or layout that is not listed above; on the CPU also lengths out of range.  On a
            GPU such a length gives a NaN score instead, and counts as the nearest that is allowed.

    Example:
        >>> decoded = ctc_greedy_decode(torch.randn(50, 2, 20), [50, 40])
        >>> [ids[:length].tolist() for ids, length in zip(decoded.ids, decoded.lengths)]
    """
    args, unbatched = _arguments(logits, logit_lengths, blank, layout)
    fields = _OP(*args)
    return CtcDecoded(*(field[0] for field in fields)) if unbatched else CtcDecoded(*fields)


def explain(
    logits: Tensor,
    logit_lengths: Tensor | Sequence[int] | None = None,
    *,
    blank: int = 0,
    layout: str = "TNC",
) -> Any:
    """Return which backend runs this call of ``ctc_greedy_decode``, and why not the others."""
    args, _ = _arguments(logits, logit_lengths, blank, layout)
    return _OP.explain(*args)


def _arguments(
    logits: Tensor, logit_lengths: Tensor | Sequence[int] | None, blank: int, layout: str
) -> tuple[tuple[Any, ...], bool]:
    """Check the public arguments and bring them to the op's: ``[T, N, C]`` and int64 lengths on its device."""
    logits, unbatched = bring_logits(_NAME, logits, blank=blank, layout=layout)
    logits = logits.detach()
    frames, batch, _ = logits.shape
    if logit_lengths is None:
        return (logits, torch.full((batch,), frames, dtype=torch.int64, device=logits.device), blank), unbatched
    lengths = bring_lengths(_NAME, "logit_lengths", logit_lengths, batch, logits.device)
    if (given := on_host(logit_lengths, logits)) is not None:
        check_logit_lengths(_NAME, given, frames)
    return (logits, lengths, blank), unbatched
