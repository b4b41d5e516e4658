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
from lisa_kernels.ops.ctc import ctc_loss

__all__ = [
    "AttentionPlan",
    "AttentionPolicy",
    "Explanation",
    "ModalityLayout",
    "__version__",
    "attention_plan",
    "cross_modal_attention",
    "ctc_loss",
    "explain",
    "nn",
    "use_backend",
]
