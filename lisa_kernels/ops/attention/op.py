"""``cross_modal_attention``: schemas, shape functions, checks and the public function."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core import checks
from lisa_kernels.core.dispatch import Explanation
from lisa_kernels.core.library import define_op
from lisa_kernels.ops.attention.plan import AttentionPlan

_NAME = "cross_modal_attention"
_FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_LEAST_WIDTH, _MOST_WIDTH, _WIDTH_STEP = 32, 256, 8


def _fake_forward(
    q: Tensor, k: Tensor, v: Tensor, tokens_q: Tensor, tokens_k: Tensor, words: Tensor, head_type: Tensor,
    lists_q: Tensor, lists_k: Tensor, order_q: Tensor, order_k: Tensor, scale: float, causal: bool, exact: bool,
    reordered: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    tokens, heads, _ = q.shape
    real = torch.float64 if q.dtype == torch.float64 else torch.float32
    return q.new_empty(tokens, heads, v.shape[2]), q.new_empty((heads, tokens), dtype=real)


def _fake_backward(
    grad_out: Tensor, grad_lse2: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse2: Tensor, tokens_q: Tensor,
    tokens_k: Tensor, words: Tensor, head_type: Tensor, lists_q: Tensor, lists_k: Tensor, order_q: Tensor,
    order_k: Tensor, scale: float, causal: bool, exact: bool, reordered: bool, needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return tuple(torch.empty_like(x) if need else x.new_empty(0) for x, need in zip((q, k, v), needs, strict=True))


_PLAN = (
    "Tensor tokens_q, Tensor tokens_k, Tensor words, Tensor head_type, Tensor lists_q, Tensor lists_k, Tensor order_q,"
    " Tensor order_k, float scale, bool causal, bool exact, bool reordered"
)
_OP = define_op(
    "cross_modal_attention",
    package=__package__,
    forward=f"(Tensor q, Tensor k, Tensor v, {_PLAN}) -> (Tensor out, Tensor lse2)",
    backward=f"(Tensor grad_out, Tensor grad_lse2, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse2, {_PLAN},"
    " bool[] needs) -> (Tensor grad_q, Tensor grad_k, Tensor grad_v)",
    fakes=(_fake_forward, _fake_backward),
    backends=("triton", "cpu", "reference"),
)


def cross_modal_attention(
    q: Tensor, k: Tensor, v: Tensor, plan: AttentionPlan, *, scale: float | None = None, return_lse: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """Return softmax attention over packed samples, each head seeing what its type may see.

    Args:
        q: Queries ``[T, HQ, D]``; float32, bfloat16 or float16, and float64 on the reference backend.  Any strides; a
            slice of a fused projection is not copied.  Under autocast q, k and v are cast to its dtype.
        k: Keys ``[TK, HK, D]``, of the dtype of q; query head h reads key head ``h // (HQ / HK)``.
        v: Values ``[TK, HK, DV]``, likewise.  D and DV are multiples of 8 from 32 to 256.
        plan: Of ``attention_plan``, on the device of q, for T queries, TK keys and HQ heads.
        scale: Of the scores, above 0; None for ``1 / sqrt(D)``.
        return_lse: Also return the log-sum-exp.

    Returns:
        ``[T, HQ, DV]`` in the dtype of q; with ``return_lse`` also ``[HQ, T]``, the natural logarithm of the summed
        exponentials of a row's scaled scores, fp32 (fp64 for float64), differentiable as well: two calls over disjoint
        keys can be merged.  A query that sees no key gets 0, gradients of 0 and an lse of -inf.

    Raises:
        TypeError: An argument of another kind or dtype.
        ValueError: Shapes, devices or head counts that do not fit each other or the plan, a width or scale out of
            range.

    Gradients are deterministic.  There is no second derivative, except through
    ``lisa_kernels.ops.attention.reference``, and no dropout: it would need random state in the backward pass.

    Example:
        >>> layout = ModalityLayout.from_runs([0, 1, 0], [40, 60, 20], [0, 0, 1])
        >>> plan = attention_plan(layout, AttentionPolicy.of(["within", "cross"], n_modality=2))
        >>> q, k, v = torch.randn(3, 120, 2, 64).unbind(0)
        >>> out = cross_modal_attention(q, k, v, plan)
    """
    out, lse2 = _OP(*_arguments(q, k, v, plan, scale, return_lse))
    if not return_lse:
        return out
    return out, torch.where(lse2 == torch.inf, -torch.inf, lse2 * math.log(2))


def explain(
    q: Tensor, k: Tensor, v: Tensor, plan: AttentionPlan, *, scale: float | None = None, return_lse: bool = False
) -> Explanation:
    """Return which backend runs this call of ``cross_modal_attention``, and why not the others."""
    return _OP.explain(*_arguments(q, k, v, plan, scale, return_lse))


def _arguments(
    q: Tensor, k: Tensor, v: Tensor, plan: AttentionPlan, scale: float | None, return_lse: bool
) -> tuple[Any, ...]:
    """Check the public arguments and return the op's."""
    for name, value, shape in (("q", q, "[T, HQ, D]"), ("k", k, "[TK, HK, D]"), ("v", v, "[TK, HK, DV]")):
        checks.check_tensor(_NAME, name, value)
        checks.check_rank(_NAME, name, value, (3,), shape)
        checks.check_dtype(_NAME, name, value, _FLOATS)
        _check_width(name, value)
    q, k, v = _follow_autocast(q, k, v)
    if not isinstance(plan, AttentionPlan):
        raise TypeError(f"{_NAME}: plan is {type(plan).__name__}; it takes an AttentionPlan, from attention_plan.")
    checks.check_flag(_NAME, "return_lse", return_lse)
    for name, value in (("k", k), ("v", v)):
        checks.check_dtype(_NAME, name, value, (q.dtype,), "q, k and v have one dtype.")
        checks.check_device(_NAME, name, value, "q", q)
    checks.check_device(_NAME, "q", q, "plan", plan.tokens_q)
    _check_sizes(q, k, v, plan)
    return q, k, v, *plan.tensors, _checked_scale(scale, q.shape[2]), plan.causal, plan.exact, plan.reordered


def _follow_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors in autocast's dtype where it is on; there is none for meta tensors, and asking raises."""
    device = tensors[0].device.type
    if device == "meta" or not torch.is_autocast_enabled(device):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)


def _check_width(name: str, value: Tensor) -> None:
    width = value.shape[2]
    if width % _WIDTH_STEP or not _LEAST_WIDTH <= width <= _MOST_WIDTH:
        raise ValueError(
            f"{_NAME}: {name} has shape {tuple(value.shape)}; its last size must be a multiple of {_WIDTH_STEP} from "
            f"{_LEAST_WIDTH} to {_MOST_WIDTH}. Pad smaller heads with zeros."
        )


def _check_sizes(q: Tensor, k: Tensor, v: Tensor, plan: AttentionPlan) -> None:
    # Not len(): that would bind a compiled program to one number of tokens.
    queries, keys = plan.layout.sample.shape[0], plan.layout_k.sample.shape[0]
    checks.check_size(_NAME, "q", q, 0, queries, "the number of queries of the plan")
    checks.check_size(_NAME, "k", k, 0, keys, "the number of keys of the plan")
    checks.check_size(_NAME, "v", v, 0, k.shape[0], "the number of keys")
    checks.check_size(_NAME, "q", q, 1, plan.policy.heads, "the number of heads of the plan's policy")
    checks.check_size(_NAME, "k", k, 2, q.shape[2], "the width D of q")
    if k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        raise ValueError(
            f"{_NAME}: k has shape {tuple(k.shape)}; its number of heads must divide that of q, {q.shape[1]}."
        )
    checks.check_size(_NAME, "v", v, 1, k.shape[1], "the number of heads of k")


def _checked_scale(scale: float | None, width: int) -> float:
    if scale is None:
        return width**-0.5
    if isinstance(scale, bool) or not isinstance(scale, (int, float)):
        raise TypeError(f"{_NAME}: scale is {type(scale).__name__}; it takes a Python number or None.")
    # Scores that are masked by -inf would become NaN.
    if not 0 < scale < math.inf:
        raise ValueError(f"{_NAME}: scale is {scale}; it takes a number above 0. For a negative one negate q.")
    return float(scale)
