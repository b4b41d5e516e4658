"""Attention with typed heads.  Read README.md, reference.py, policy.py, layout.py, plan.py, spec.py, op.py."""

from lisa_kernels.ops.attention.layout import ModalityLayout
from lisa_kernels.ops.attention.op import cross_modal_attention
from lisa_kernels.ops.attention.plan import AttentionPlan, attention_plan
from lisa_kernels.ops.attention.policy import AttentionPolicy

__all__ = ["AttentionPlan", "AttentionPolicy", "ModalityLayout", "attention_plan", "cross_modal_attention"]
