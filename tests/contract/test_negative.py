"""Deliberately wrong kernels: the judge must say no, and say where.

Each wrong kernel is the reference backend with one fault planted; the definition the judge compares with stays right.
A bug that is fixed gets its mutation here.
"""

import pytest
import torch

from lisa_kernels.core.registry import select
from lisa_kernels.core.spec import BadInput, Case
from lisa_kernels.ops.ctc import reference
from lisa_kernels.testing import judge_bad_input, judge_case
from lisa_kernels.testing.rows import FAILED

SPEC = select(["ctc_loss"])[0]
SIZES = {"T": 24, "N": 4, "C": 9, "S": 6}
PLAIN = Case("planted", SIZES, {"reduction": "none"})
NAN = Case("planted, NaN", SIZES, {"reduction": "none"}, "nan")
SHORT = Case("planted, short", SIZES, {"reduction": "none"}, "short")
TRANSPOSED = Case("planted, transposed", SIZES, {"reduction": "none"}, "transposed")
# Where these stand among the arguments of backward.
LOGITS, ROW_MAX, LOG_SUM, STAR_ROWS = 3, 6, 7, 9
# And these among those of forward.
LENGTHS, LOG_PRIORS, STAR_PENALTY = 2, 4, 7
right_forward, right_backward = reference.forward, reference.backward


def forward_without_length_mask(logits, targets, logit_lengths, *rest):
    return right_forward(logits, targets, torch.full_like(logit_lengths, logits.shape[0]), *rest)


def forward_without_last_label(logits, targets, logit_lengths, target_lengths, *rest):
    return right_forward(logits, targets, logit_lengths, (target_lengths - 1).clamp(min=0), *rest)


def forward_in_bf16(logits, *rest):
    return right_forward(logits.bfloat16().to(logits.dtype), *rest)


def forward_with_nan_as_inf(*args):
    loss, *saved = right_forward(*args)
    return loss.nan_to_num(float("inf"), float("inf")), *saved


def forward_with_inf_as_large(*args):
    loss, *saved = right_forward(*args)
    return loss.clamp(max=1e30), *saved


def forward_that_writes_its_input(logits, *rest):
    results = right_forward(logits, *rest)
    logits.data[0] += 1
    return results


def forward_that_reads_past_the_end(logits, *rest):
    loss, *saved = right_forward(logits, *rest)
    end = logits.storage_offset() + 1 + sum((n - 1) * s for n, s in zip(logits.shape, logits.stride(), strict=True))
    if end < logits.untyped_storage().nbytes() // logits.itemsize:
        loss = loss + logits.as_strided((1,), (1,), end)
    return loss, *saved


def forward_that_depends_on_threads(*args):
    loss, *saved = right_forward(*args)
    return loss * (1 + 2e-7 * (torch.get_num_threads() - 1)), *saved


def forward_that_differs_without_gradient(*args):
    loss, *saved = right_forward(*args)
    return (loss if args[-1] else loss * (1 + 2e-7)), *saved


def backward_without_upstream(grad_loss, *rest):
    return right_backward(torch.ones_like(grad_loss), *rest)


def backward_without_last_class(*args):
    grad = right_backward(*args)
    grad[..., -1] = 0
    return grad


def backward_without_last_frame(*args):
    grad = right_backward(*args)
    grad[-1] = 0
    return grad


def backward_that_varies(*args):
    # One ulp in some elements: far below any tolerance.
    grad = right_backward(*args)
    return torch.where(torch.rand(grad.shape) < 0.5, grad, grad * (1 + torch.finfo(torch.float32).eps))


def backward_with_noise_in_padding(*args):
    grad, log_sum = right_backward(*args), args[LOG_SUM]
    return torch.where((log_sum == float("inf"))[:, :, None], 1e-12, grad)


def backward_with_nan_in_padding(*args):
    grad, log_sum = right_backward(*args), args[LOG_SUM]
    return torch.where((log_sum == float("inf"))[:, :, None], float("nan"), grad)


def backward_that_leaves_an_element(*args):
    grad = torch.empty_like(args[LOGITS])
    grad.flatten()[:0].zero_()
    grad[:, :, 1:] = right_backward(*args)[:, :, 1:]
    return grad


def backward_that_is_always_contiguous(*args):
    return right_backward(*args).contiguous()


class StaleForward:
    """Keeps what the last forward saved, as a kernel with one scratch buffer for all calls would."""

    def forward(self, *args):
        results = right_forward(*args)
        # A call without gradient saves nothing.
        if args[-1]:
            self.saved = results[3:]
        return results

    def backward(self, *args):
        return right_backward(*args[:ROW_MAX], *self.saved, *args[ROW_MAX + len(self.saved) :])


def forward_without_penalty(*args):
    return right_forward(*args[:STAR_PENALTY], 0.0, *args[STAR_PENALTY + 1 :])


def forward_without_priors(*args):
    return right_forward(*args[:LOG_PRIORS], None, *args[LOG_PRIORS + 1 :])


def forward_with_priors_on_blank_alone(*args):
    priors = args[LOG_PRIORS].clone()
    priors[1:] = 0
    return right_forward(*args[:LOG_PRIORS], priors, *args[LOG_PRIORS + 1 :])


def forward_with_entropy_of_padding(*args):
    loss, entropy, *rest = right_forward(*args)
    return loss, entropy + (args[0].shape[0] - args[LENGTHS]) * 1e-3, *rest


def forward_with_the_divergence_the_other_way(*args):
    loss, entropy, consistency, *rest = right_forward(*args)
    return loss, entropy, consistency.roll(len(consistency) // 2), *rest


def forward_with_terms_of_an_infeasible_view(*args):
    loss, entropy, consistency, row_max, log_sum, *rest = right_forward(*args)
    without_alignment = (log_sum == float("inf")).all(0)
    return loss, torch.where(without_alignment, 1.0, entropy), consistency, row_max, log_sum, *rest


def backward_without_the_star_s_share(*args):
    args = list(args)
    args[STAR_ROWS] = args[STAR_ROWS].clone()
    args[STAR_ROWS][1] = -float("inf")
    return right_backward(*args)


def backward_without_entropy(grad_loss, grad_entropy, *rest):
    return right_backward(grad_loss, torch.zeros_like(grad_entropy), *rest)


def backward_with_the_other_view_s_upstream(grad_loss, grad_entropy, grad_consistency, *rest):
    return right_backward(grad_loss, grad_entropy, grad_consistency.roll(len(grad_consistency) // 2), *rest)


STALE = StaleForward()
FORWARDS = [
    (forward_without_length_mask, PLAIN, "output"),
    (forward_without_length_mask, PLAIN, "grad_logits"),
    (forward_without_last_label, PLAIN, "output"),
    (forward_in_bf16, PLAIN, "output"),
    (forward_with_nan_as_inf, NAN, "output"),
    (forward_with_inf_as_large, SHORT, "output"),
    (forward_that_writes_its_input, PLAIN, "memory around inputs"),
    (forward_that_reads_past_the_end, PLAIN, "memory around inputs"),
    (forward_that_depends_on_threads, PLAIN, "same bits for any threads"),
    (forward_that_differs_without_gradient, PLAIN, "same bits without gradient"),
]
BACKWARDS = [
    (backward_without_upstream, PLAIN, "grad_logits"),
    (backward_without_last_class, PLAIN, "grad_logits"),
    (backward_without_last_frame, PLAIN, "grad_logits"),
    (backward_that_varies, PLAIN, "same bits again"),
    (backward_with_noise_in_padding, PLAIN, "gradient of unread elements"),
    (backward_with_noise_in_padding, SHORT, "gradient of unread elements"),
    (backward_with_nan_in_padding, PLAIN, "grad_logits"),
    (backward_that_leaves_an_element, PLAIN, "outputs fully written"),
    (backward_that_is_always_contiguous, TRANSPOSED, "strides of gradients"),
]

# Each option: the spec's own case that must see the fault.
OF_OPTIONS = [
    (forward_without_penalty, "star between, star=-1, star_penalty=0.7, C=9", "output"),
    (forward_without_priors, "priors, C=40", "output"),
    (forward_with_priors_on_blank_alone, "priors, C=9", "output"),
    (forward_with_entropy_of_padding, "entropy, C=9", "output"),
    (forward_with_the_divergence_the_other_way, "lengths of views differ", "output"),
    (forward_with_terms_of_an_infeasible_view, "one view is short", "output"),
    (backward_without_the_star_s_share, "star at both ends", "grad_logits"),
    (backward_without_entropy, "entropy, C=9", "grad_logits"),
    (backward_with_the_other_view_s_upstream, "lengths of views differ", "grad_logits"),
]


def failed_checks(case, dtype=torch.float32):
    return {
        row.check: row.message for row in judge_case(SPEC, case, dtype, backend="reference") if row.status == FAILED
    }


@pytest.mark.parametrize("case", [PLAIN, NAN, SHORT, TRANSPOSED], ids=lambda case: case.name)
def test_the_right_kernel_passes(case):
    """Else the tests below prove nothing."""
    assert not failed_checks(case)


@pytest.mark.parametrize(("wrong", "case", "check"), FORWARDS, ids=lambda value: getattr(value, "__name__", None))
def test_a_wrong_forward_is_caught(monkeypatch, wrong, case, check):
    monkeypatch.setattr(reference, "forward", wrong)
    assert check in failed_checks(case)


@pytest.mark.parametrize(("wrong", "case", "check"), BACKWARDS, ids=lambda value: getattr(value, "__name__", None))
def test_a_wrong_backward_is_caught(monkeypatch, wrong, case, check):
    monkeypatch.setattr(reference, "backward", wrong)
    assert check in failed_checks(case)


def case_of(start):
    (case,) = [case for case in SPEC.edges if case.name.startswith(start)]
    return case


@pytest.mark.parametrize(("wrong", "start", "check"), OF_OPTIONS, ids=lambda value: getattr(value, "__name__", None))
def test_a_wrong_option_is_caught(monkeypatch, wrong, start, check):
    case = case_of(start)
    assert not failed_checks(case)
    monkeypatch.setattr(reference, "forward" if wrong.__name__.startswith("forward") else "backward", wrong)
    assert check in failed_checks(case)


def test_a_star_that_may_follow_a_star_at_once_is_caught(monkeypatch):
    """Planted in the trellis: neighbouring stars as two labels that differ."""
    right = reference.build_trellis

    def with_skips(*args, **options):
        trellis = right(*args, **options)
        trellis.can_skip[:, 3::2] = True
        return trellis

    def planted(*args):
        with pytest.MonkeyPatch.context() as inside:
            inside.setattr(reference, "build_trellis", with_skips)
            return right_forward(*args)

    monkeypatch.setattr(reference, "forward", planted)
    assert "output" in failed_checks(case_of("stars alone"))


def test_a_stale_saved_tensor_is_caught(monkeypatch):
    """One buffer for all calls is right as long as calls do not overlap: two losses in one graph do."""
    monkeypatch.setattr(reference, "forward", STALE.forward)
    monkeypatch.setattr(reference, "backward", STALE.backward)
    assert "calls kept apart" in failed_checks(PLAIN)


def test_an_fp64_path_that_computes_in_fp32_is_caught(monkeypatch):
    monkeypatch.setattr(reference, "forward", lambda x, *rest: right_forward(x.float().double(), *rest))
    assert "output" in failed_checks(PLAIN, torch.float64)


def test_an_exception_in_a_kernel_is_a_failure_with_its_text(monkeypatch):
    def broken(*args):
        raise IndexError("row 7")

    monkeypatch.setattr(reference, "forward", broken)
    assert "row 7" in failed_checks(PLAIN)["run"]


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (BadInput("nothing is wrong", lambda good: good, ValueError, "blank"), "no error came"),
        (BadInput("other class", lambda g: {**g, "blank": 99}, TypeError, "blank is 99"), "ValueError"),
        (BadInput("other text", lambda g: {**g, "blank": 99}, ValueError, "logits is"), "blank is 99"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_bad_input_without_its_error_is_caught(bad, told):
    row = judge_bad_input(SPEC, bad, backend="reference")
    assert row.status == FAILED
    assert told in row.message
