"""The CUDA kernels of ``ctc_loss`` on the CPU: each internal boundary, orders of threads, both halves with others."""

from types import SimpleNamespace

import pytest
import torch

import lisa_kernels
from bench.memory import peak_bytes
from lisa_kernels.core.registry import select
from lisa_kernels.ops.ctc import native_impl, reference
from lisa_kernels.testing import assert_matches, same_bits
from lisa_kernels.testing.cuda.ops import (
    emulated_kernels,
    host_kernels,
    why_no_emulated_ops,
    why_no_host_ops,
)
from tests.ops.ctc_faults import FAULTS, check_loss
from tests.ops.ctc_problems import concatenate, gradient, random_logits, random_targets
from tests.ops.cuda_changes import run_changed

SPEC = select(["ctc_loss"])[0]
pytestmark = pytest.mark.skipif(why_no_host_ops() is not None, reason=f"needs {why_no_host_ops()}")
needs_nvcc = pytest.mark.skipif(why_no_emulated_ops() is not None, reason=f"needs nvcc: {why_no_emulated_ops()}")

# A warp takes 32, 64, ... 256 labels (fp64: 32 and 64); a strip of a block takes 1024 (fp64: 256).
LABELS = [(0, 5), (1, 1), (1, 2), (1, 7), (31, 64), (32, 65), (33, 67), (65, 140), (129, 263), (257, 520)]
LONG_LABELS = [(512, 1030), (513, 1031), (1024, 2060), (1025, 2063), (1100, 2200)]


def problem(labels, frames, *, batch=2, classes=60, dtype=torch.float32):
    """The last target is one label shorter, so that lengths differ."""
    logits = random_logits(frames, batch, classes, seed=frames + labels, dtype=dtype)
    lengths = torch.full((batch,), labels)
    lengths[-1] = max(0, labels - 1)
    return logits, random_targets(classes, batch, labels), torch.full((batch,), frames), lengths


def on_host(logits, *rest, thread_order=None, **options):
    with host_kernels(thread_order=thread_order), lisa_kernels.use_backend("cuda"):
        return gradient(logits, lambda x: lisa_kernels.ctc_loss(x, *rest, reduction="sum", **options))


def expected(logits, *rest, **options):
    """Of the CPU kernels in fp64, which are proved against the definition in ``test_ctc_kernels``."""
    with lisa_kernels.use_backend("cpu"):
        return gradient(logits.double(), lambda x: lisa_kernels.ctc_loss(x, *rest, reduction="sum", **options))


def check(got, wanted, frames):
    assert_matches(got[0], wanted[0], depth=4 * frames, name="loss")
    limit = SPEC.limit("grad_logits", torch.float32) if got[1].dtype == torch.float32 else None
    assert_matches(got[1], wanted[1], depth=4 * frames, limit=limit, name="gradient")


@pytest.mark.parametrize(("labels", "frames"), LABELS)
def test_targets_on_both_sides_of_each_plan(labels, frames):
    """Occupancies by class: few classes."""
    inputs = problem(labels, 2 * frames, classes=7)
    check(on_host(*inputs), expected(*inputs), 2 * frames)


@pytest.mark.parametrize(("labels", "frames"), LABELS[:8])
def test_targets_of_few_labels_beside_many_classes(labels, frames):
    """Occupancies by position, and a block for each row of logits."""
    inputs = problem(labels, frames, classes=4000)
    check(on_host(*inputs), expected(*inputs), frames)


@pytest.mark.prove
@pytest.mark.parametrize(("labels", "frames"), LONG_LABELS)
def test_long_targets_go_from_warps_to_blocks_and_strips(labels, frames):
    inputs = problem(labels, frames, batch=1)
    check(on_host(*inputs), expected(*inputs), frames)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("classes", [2, 3, 7, 8, 9, 15, 17, 1021, 1027])
def test_rows_begin_and_end_anywhere_between_boundaries(classes, dtype):
    """Of 128 bits, as the first row of a larger tensor and one element later; of a warp and of a block."""
    logits, *rest = problem(1, 3, classes=classes)
    for before in (0, 1):
        room = torch.full((*logits.shape[:2], classes + before + 2), float("nan"), dtype=dtype)
        view = room[:, :, before : before + classes]
        view.copy_(logits)
        check(on_host(view, *rest), expected(view, *rest), 3)


@pytest.mark.parametrize(("labels", "frames"), [(3, 9), (33, 90), (520, 1100)])
def test_checkpoints_give_what_kept_states_give(labels, frames, monkeypatch):
    inputs = problem(labels, frames, batch=1)
    monkeypatch.setattr(native_impl, "KEPT_BYTES", 0)
    check(on_host(*inputs), expected(*inputs), frames)


def test_checkpoints_need_memory_by_the_root_of_the_frames(monkeypatch):
    """At 1600 frames and 33 labels the states of all frames take 860 KB, checkpoints and a segment 68 KB."""
    logits, *rest = problem(33, 1600, batch=1)
    leaf, peaks = logits.requires_grad_(), {}
    for kept in (1 << 30, 0):
        monkeypatch.setattr(native_impl, "KEPT_BYTES", kept)
        with host_kernels(), lisa_kernels.use_backend("cuda"):
            peaks[kept] = peak_bytes(
                lambda: lisa_kernels.ctc_loss(leaf, *rest),
                lambda loss: torch.autograd.grad(loss, leaf),
                torch.device("cpu"),
            )["fwd"]
    assert peaks[1 << 30] - peaks[0] > 700_000


@pytest.mark.parametrize(("labels", "frames"), [(20, 50), (33, 90), (40, 90), (140, 300)])
def test_fp64_keeps_its_accuracy(labels, frames):
    inputs = problem(labels, frames, dtype=torch.float64)
    check(on_host(*inputs), expected(*inputs), frames)


@pytest.mark.parametrize("labels", [20, 100, 300])
def test_concatenated_targets_find_their_plan(labels):
    logits, targets, frames, lengths = problem(labels, 2 * labels + 40, batch=3)
    lengths[0] = 3
    inputs = logits, concatenate(targets, lengths), frames, lengths
    check(on_host(*inputs), expected(*inputs), len(logits))


@pytest.mark.parametrize(("labels", "frames"), [(33, 70), (40, 21), (520, 600)])
def test_no_order_of_threads_changes_a_bit(labels, frames):
    inputs = problem(labels, frames)
    loss, grad = on_host(*inputs)
    for seed in (1, 2, 3):
        other_loss, other_grad = on_host(*inputs, thread_order=seed)
        assert same_bits(loss, other_loss)
        assert same_bits(grad, other_grad)


@pytest.mark.parametrize("other", ["cpu", "reference"])
@pytest.mark.parametrize("cuda_first", [True, False])
@pytest.mark.parametrize("case", SPEC.cases, ids=lambda case: case.name)
def test_saved_tensors_mean_the_same_as_in_other_backends(case, cuda_first, other):
    """Forward on one backend, backward on another; repeated labels have their sum at any of their positions."""
    from lisa_kernels.testing import make_inputs

    kwargs = make_inputs(SPEC, case, torch.float32) | {"reduction": "sum"}
    leaf = kwargs["logits"].requires_grad_()

    def run(on_cuda, call):
        if not on_cuda:
            with lisa_kernels.use_backend(other):
                return call()
        with host_kernels(), lisa_kernels.use_backend("cuda"):
            return call()

    loss = run(cuda_first, lambda: lisa_kernels.ctc_loss(**kwargs))
    (got,) = run(not cuda_first, lambda: torch.autograd.grad(loss, leaf))
    wide = {**kwargs, "logits": leaf.detach().double().requires_grad_()}
    with lisa_kernels.use_backend("reference"):
        (wanted,) = torch.autograd.grad(lisa_kernels.ctc_loss(**wide), wide["logits"])
    assert_matches(got, wanted, depth=4 * case["T"])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_device_values_gives_nan_for_its_utterance_only(fault):
    with host_kernels():
        check_loss(native_impl, fault)


# Star, priors, entropy, consistency, over the logits.
OPTIONS = {
    "priors": (None, True, False, False, False),
    "star": (-1, False, False, False, False),
    "entropy": (None, False, True, False, False),
    "consistency": (None, False, False, True, False),
    "over the logits": (None, False, False, False, True),
    "all": (10_000, True, True, True, True),
}


def terms_and_gradient(module, logits, options, *, fault=False):
    """Forward and backward of a backend's module, of utterances that just fit, do not fit, and have room."""
    star, with_priors, entropy, consistency, overwrites = options
    frames, batch, classes = logits.shape
    targets = random_targets(classes, batch, 6)
    targets[:, 1::2] = targets[:, 1::2] if star is None else star
    frame_counts, labels = torch.tensor([frames, frames - 1, frames, 5]), torch.tensor([6, 5, 0, 6])
    if fault:
        frame_counts[1] = frames + 1
    priors = (
        random_logits(classes, seed=2).to(torch.promote_types(logits.dtype, torch.float32)) if with_priors else None
    )
    values = (priors, 0, star, 0.25, False, entropy, consistency, overwrites, True)
    *terms, row_max, log_sum, row_entropy, star_rows, occupancy = module.forward(
        logits, targets, frame_counts, labels, *values
    )
    grads = [torch.linspace(-1, 2, len(term), dtype=term.dtype) for term in terms]
    saved = (row_max, log_sum, row_entropy, star_rows, occupancy)
    args = (*grads, logits, targets, labels, *saved, 0, star, entropy, consistency, [True])
    if not overwrites:
        return terms, module.backward(*args)
    module.backward_overwriting(*args)
    return terms, logits


def check_options(logits, options, **faults):
    with host_kernels():
        terms, grad = terms_and_gradient(native_impl, logits.clone(), options, **faults)
    wanted_terms, wanted = terms_and_gradient(reference, logits.double(), options, **faults)
    for name, term, expected_term in zip(("loss", "entropy", "consistency"), terms, wanted_terms, strict=True):
        assert_matches(term, expected_term, depth=4 * len(logits), name=name)
    assert_matches(grad, wanted, depth=4 * len(logits), name="gradient")


@pytest.mark.parametrize("classes", [2, 9, 40, 1030])
@pytest.mark.parametrize("options", OPTIONS)
def test_options_agree_with_the_definition(options, classes):
    check_options(random_logits(14, 4, classes, dtype=torch.float32) * 2, OPTIONS[options])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_all_options_together_in_other_dtypes(dtype):
    check_options(random_logits(14, 4, 41, dtype=dtype), OPTIONS["all"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_fault_in_one_view_makes_both_consistencies_nan(value):
    logits = random_logits(14, 4, 9, dtype=torch.float32)
    logits[3, 2, 1] = value
    check_options(logits, OPTIONS["all"])
    check_options(random_logits(14, 4, 9, dtype=torch.float32), OPTIONS["all"], fault=True)


def test_the_star_of_a_confident_model_keeps_its_digits():
    """1 - p_blank is 1e-20 in half of the frames."""
    logits = random_logits(14, 4, 9, dtype=torch.float32)
    logits[::2, :, 0] += 46
    check_options(logits, OPTIONS["star"])


@needs_nvcc
@pytest.mark.prove
@pytest.mark.parametrize("classes", [9, 1030])
def test_compiled_options_in_the_emulator_agree(classes):
    with emulated_kernels("sm_90", block_order=2):
        logits = random_logits(14, 4, classes, dtype=torch.float32)
        terms, grad = terms_and_gradient(native_impl, logits, OPTIONS["all"])
    wanted_terms, wanted = terms_and_gradient(
        reference, random_logits(14, 4, classes, dtype=torch.float32).double(), OPTIONS["all"]
    )
    for term, expected_term in zip(terms, wanted_terms, strict=True):
        assert_matches(term, expected_term, depth=4 * len(logits))
    assert_matches(grad, wanted, depth=4 * len(logits), name="gradient")


@needs_nvcc
@pytest.mark.prove
@pytest.mark.parametrize(("labels", "frames"), [(0, 3), (1, 1), (31, 64), (33, 70), (513, 540)])
def test_the_compiled_kernels_in_the_emulator_agree(labels, frames):
    with emulated_kernels("sm_80", block_order=1), lisa_kernels.use_backend("cuda"):
        # Within: the emulator knows of no tensor that was there before.
        logits, *rest = problem(labels, frames, batch=1)
        got = gradient(logits, lambda x: lisa_kernels.ctc_loss(x, *rest, reduction="sum"))
    check(got, expected(logits, *rest), frames)


@pytest.mark.prove
def test_a_batch_may_be_larger_than_the_second_axis_of_a_grid():
    logits = random_logits(1, 65537, 2, dtype=torch.float32)
    targets, ones = torch.ones(65537, 1, dtype=torch.int64), torch.ones(65537, dtype=torch.int64)
    check(on_host(logits, targets, ones, ones), expected(logits, targets, ones, ones), 1)


@needs_nvcc
@pytest.mark.prove
@pytest.mark.parametrize(("classes", "labels"), [(1001, 8), (4003, 30)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_logit_is_read_once_a_direction_and_each_gradient_written_once(classes, labels, dtype):
    """In the compiled kernels; neither size is a multiple of 128 bits.  Emissions look at the row once more, cached."""
    with emulated_kernels("sm_80") as reports, lisa_kernels.use_backend("cuda"):
        logits, *rest = problem(labels, 2 * labels, classes=classes, dtype=dtype)
        leaf = logits.requires_grad_()
        loss = lisa_kernels.ctc_loss(leaf, *rest, reduction="sum")
        forward = len(reports)
        (grad,) = torch.autograd.grad(loss, leaf)
    compulsory = logits.numel() * logits.element_size()
    looked_at = logits.shape[0] * logits.shape[1] * (labels + 1) * logits.element_size()
    assert compulsory <= asked(reports[:forward], logits).loaded <= compulsory + looked_at <= 1.05 * compulsory
    assert asked(reports[forward:], logits).loaded == compulsory
    assert asked(reports[forward:], grad).stored == compulsory


def asked(reports, tensor):
    """What launches asked of a tensor that lies alone."""
    found = [a for r in reports for a in r.traffic if a.start <= tensor.data_ptr() < a.start + a.size]
    assert all(a.size == tensor.numel() * tensor.element_size() for a in found)
    return SimpleNamespace(loaded=sum(a.loaded for a in found), stored=sum(a.stored for a in found))


_MUTANT = """
import pathlib, sys, torch
import lisa_kernels
from lisa_kernels.testing.cuda.ops import host_kernels
from tests.ops.test_ctc_cuda import problem
logits, *rest = problem(5, 20)
with host_kernels([pathlib.Path(sys.argv[1])]), lisa_kernels.use_backend("cuda"):
    print(float(lisa_kernels.ctc_loss(logits, *rest, reduction="sum")))
"""


@pytest.mark.prove
@pytest.mark.parametrize(
    "change",
    [
        ("ctc_walk.cuh", "skips_ |= 1u << k;", "skips_ |= 0u;"),
        ("ctc_walk.cuh", "== 0 ? states_.lead : enters", "== 0 ? scaled_zero<Real>() : enters"),
        ("ctc_rows.cuh", "out[slot] =", "out[slot == 1 ? 2 : slot] ="),
        ("ctc_rows.cuh", "if (vector < span.vectors)", "if (vector + 1 < span.vectors)"),
    ],
    ids=lambda change: change[2],
)
def test_a_wrong_line_is_caught(change, tmp_path):
    done = run_changed("ctc", change, _MUTANT, tmp_path)
    assert done.returncode == 0, done.stderr
    logits, *rest = problem(5, 20)
    with pytest.raises(AssertionError, match="loss"):
        assert_matches(torch.tensor(float(done.stdout)), expected(logits, *rest)[0].float().double(), name="loss")
