"""Wrong attention kernels, each the reference backend with one fault: the judge must say no, and say where."""

import pytest
import torch

from lisa_kernels.core.registry import select
from lisa_kernels.core.spec import Case
from lisa_kernels.ops.attention import reference
from lisa_kernels.testing import judge_case
from lisa_kernels.testing.rows import FAILED

SPEC = select(["cross_modal_attention"])[0]


def without_mask(right):
    def forward(q, k, v, tokens_q, tokens_k, words, *rest):
        return right(q, k, v, tokens_q, tokens_k, torch.full_like(words, -1), *rest)

    return forward


def with_strict_causal(right):
    def forward(q, k, v, tokens_q, tokens_k, *rest):
        later = tokens_k.clone()
        later[1] += 1
        return right(q, k, v, tokens_q, later, *rest)

    return forward


def with_live_dead_rows(right):
    """A running maximum that starts at the lowest number and a sum that is not looked at: rows average all values."""

    def forward(q, k, v, *rest):
        out, lse2 = right(q, k, v, *rest)
        dead = (lse2 == torch.inf).t()[:, :, None]
        return torch.where(dead, v.mean(), out), lse2

    return forward


def with_natural_lse(right):
    def forward(*args):
        out, lse2 = right(*args)
        return out, lse2 * 0.6931471805599453

    return forward


def without_scale(right):
    def forward(*args):
        *head, _, causal, exact, reordered = args
        return right(*head, 1.0, causal, exact, reordered)

    return forward


def with_first_key_head(right):
    def forward(q, k, v, *rest):
        return right(q, k[:, :1].expand_as(k), v, *rest)

    return forward


def with_stale_types(right):
    def forward(q, k, v, tokens_q, tokens_k, words, head_type, *rest):
        return right(q, k, v, tokens_q, tokens_k, words, torch.zeros_like(head_type), *rest)

    return forward


def with_ids_ignored(right):
    """The exact form without its comparison of sample ids."""

    def forward(q, k, v, tokens_q, tokens_k, *rest):
        merged = [tokens.clone() for tokens in (tokens_q, tokens_k)]
        for tokens in merged:
            tokens[2].clamp_(max=0)
        return right(q, k, v, *merged, *rest)

    return forward


def with_slots_as_tokens(right):
    def forward(*args):
        return right(*args[:-1], False)

    return forward


SIX = {"HQ": 6, "HK": 2, "D": 32, "DV": 32, "K": 0, "N": 3, "L": 50, "R": 9}
PLAIN, LONELY = (
    Case("planted", SIX, {"return_lse": True}),
    Case("planted", SIX, {"return_lse": True}, "one modality a sample"),
)
SORTED, SHORT = Case("planted", SIX, {}, "sorted"), Case("planted", {**SIX, "N": 20, "L": 6, "R": 2})
FORWARDS = [
    (without_mask, PLAIN, "output 0"),
    (with_strict_causal, PLAIN, "output 0"),
    (with_live_dead_rows, LONELY, "output 0"),
    (with_natural_lse, PLAIN, "output 1"),
    (without_scale, PLAIN, "output 0"),
    (with_first_key_head, PLAIN, "output 0"),
    (with_stale_types, PLAIN, "output 0"),
    (with_ids_ignored, SHORT, "output"),
    (with_slots_as_tokens, SORTED, "output"),
]


def gradients_changed(change):
    """A backward whose three gradients are changed."""
    return lambda right: lambda *args: change(args, *right(*args))


def without_lse_gradient(right):
    def backward(grad_out, grad_lse2, *rest):
        return right(grad_out, torch.zeros_like(grad_lse2), *rest)

    return backward


def with_lse_gradient_in_nats(right):
    def backward(grad_out, grad_lse2, *rest):
        return right(grad_out, grad_lse2 * 0.6931471805599453, *rest)

    return backward


def keys_without_mask(right):
    def backward(*args):
        grad_q, *_ = right(*args)
        unmasked = list(args)
        unmasked[9] = torch.full_like(args[9], -1)
        _, grad_k, grad_v = right(*unmasked)
        return grad_q, grad_k, grad_v

    return backward


def noise_for_dead_rows(args, grad_q, grad_k, grad_v):
    dead = (args[6] == torch.inf).t()[:, :, None]
    return torch.where(dead, 1e-12, grad_q), grad_k, grad_v


def all_gradients(right):
    """Gradients that are not wanted are made all the same, with the wanted ones changed by them."""

    def backward(*args):
        *head, needs = args
        grads = right(*head, [True] * 3)
        return tuple(grad * (1 if all(needs) else 1 + 2**-20) for grad in grads)

    return backward


BACKWARDS = [
    (without_lse_gradient, PLAIN, "grad_q"),
    (with_lse_gradient_in_nats, PLAIN, "grad_k"),
    (keys_without_mask, PLAIN, "grad_v"),
    (gradients_changed(noise_for_dead_rows), LONELY, "gradient of unread elements"),
    (gradients_changed(lambda args, q, k, v: (q * 32**0.5, k, v)), PLAIN, "grad_q"),
    (gradients_changed(lambda args, q, k, v: (q, k / 3, v)), PLAIN, "grad_k"),
    (gradients_changed(lambda args, q, k, v: (q, k, v.flip(1))), PLAIN, "grad_v"),
    (all_gradients, PLAIN, "frozen inputs"),
]


def failed_checks(case):
    return {row.check for row in judge_case(SPEC, case, torch.float32, backend="reference") if row.status == FAILED}


@pytest.mark.parametrize("case", [PLAIN, LONELY, SORTED, SHORT], ids=lambda case: case.edge or "plain")
def test_the_judge_passes_right_kernels(case, single_thread):
    assert not failed_checks(case)


@pytest.mark.parametrize(("wrong", "case", "check"), FORWARDS)
def test_a_wrong_forward_is_caught(monkeypatch, single_thread, wrong, case, check):
    monkeypatch.setattr(reference, "forward", wrong(reference.forward))
    assert check in failed_checks(case)


@pytest.mark.parametrize(("wrong", "case", "check"), BACKWARDS)
def test_a_wrong_backward_is_caught(monkeypatch, single_thread, wrong, case, check):
    monkeypatch.setattr(reference, "backward", wrong(reference.backward))
    assert check in failed_checks(case)
