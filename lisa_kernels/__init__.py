"""LISA kernels: fused operators with autograd for training on language, images and speech."""

from lisa_kernels import nn
from lisa_kernels._version import __version__
from lisa_kernels.core.dispatch import Explanation, use_backend
from lisa_kernels.core.registry import explain
from lisa_kernels.ops.attention import (
    AttentionPlan,
    AttentionPolicy,
    ModalityLayout,
    attention_plan,
    cross_modal_attention,
)
from lisa_kernels.ops.ctc import ctc_loss, ctc_terms
from lisa_kernels.ops.ctc_align import CtcAlignment, CtcSpans, ctc_align, ctc_spans
from lisa_kernels.ops.ctc_greedy_decode import CtcDecoded, ctc_greedy_decode

__all__ = [
    "AttentionPlan",
    "AttentionPolicy",
    "CtcAlignment",
    "CtcDecoded",
    "CtcSpans",
    "Explanation",
    "ModalityLayout",
    "__version__",
    "attention_plan",
    "cross_modal_attention",
    "ctc_align",
    "ctc_greedy_decode",
    "ctc_loss",
    "ctc_spans",
    "ctc_terms",
    "explain",
    "nn",
    "use_backend",
]
