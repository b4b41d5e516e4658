"""Device code that sums the terms of rows over the frames of an utterance, once it is known which ones count."""

import triton
import triton.language as tl


@triton.jit
def _sum_rows(row_terms, log_sum, others_log_sum, n, frames_room, batch, BLOCK: tl.constexpr):
    """Sum over the frames at which neither log-sum is +inf; NaN where one of them is."""
    total = tl.zeros([BLOCK], tl.float32)
    for first in range(0, frames_room, BLOCK):
        frame = first + tl.arange(0, BLOCK).to(tl.int64)
        exists = frame < frames_room
        own = tl.load(log_sum + frame * batch, mask=exists, other=float("inf"))
        other = tl.load(others_log_sum + frame * batch, mask=exists, other=float("inf"))
        counts = (own != float("inf")) & (other != float("inf"))
        value = tl.load(row_terms + frame * batch + n, mask=counts, other=0.0)
        total += tl.where(counts & ((own != own) | (other != other)), float("nan"), value)
    return tl.sum(total, 0)


@triton.jit
def ctc_terms_kernel(
    entropy_out, consistency_out, row_entropy, row_divergence, log_sum, frames_room, batch,
    ENTROPY: tl.constexpr, CONSISTENCY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Entropy and consistency of each utterance; frames without a gradient, +inf in ``log_sum``, are left out."""
    n = tl.program_id(0).to(tl.int64)
    own = log_sum + n
    if ENTROPY:
        tl.store(entropy_out + n, _sum_rows(row_entropy, own, own, n, frames_room, batch, BLOCK))
    if CONSISTENCY:
        other = log_sum + (n + batch // 2) % batch
        tl.store(consistency_out + n, _sum_rows(row_divergence, own, other, n, frames_room, batch, BLOCK))
