"""``ctc_loss`` below its public function: faults in values, saved tensors, accuracy on long audio."""

import pytest
import torch
import torch.nn.functional as F

import lisa_kernels
from bench.memory import peak_bytes
from lisa_kernels.core.registry import select
from lisa_kernels.ops.ctc import reference
from lisa_kernels.testing import assert_matches, make_inputs, same_bits
from lisa_kernels.testing.subject import cpu_threads
from tests.ops.backends import BACKENDS, needs_cpu
from tests.ops.ctc_faults import FAULTS, check_loss
from tests.ops.ctc_problems import gradient, random_logits, random_targets, small_problem

SPEC = select(["ctc_loss"])[0]


def kernel(name):
    """The backend below the check of values: what a GPU, which cannot raise, would do."""
    if name == "reference":
        return reference
    from lisa_kernels.ops.ctc import native_impl

    return native_impl


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", BACKENDS)
def test_a_fault_in_the_values_gives_nan_for_its_utterance_only(name, fault):
    check_loss(kernel(name), fault)


@needs_cpu
@pytest.mark.parametrize("case", SPEC.cases, ids=lambda case: case.name)
@pytest.mark.parametrize(("before", "after"), [("reference", "cpu"), ("cpu", "reference")])
def test_saved_tensors_mean_the_same_in_every_backend(case, before, after):
    """Forward on one backend, backward on the other."""
    kwargs = make_inputs(SPEC, case, torch.float32)
    leaf = kwargs["logits"].requires_grad_()
    with lisa_kernels.use_backend(before):
        loss = lisa_kernels.ctc_loss(**kwargs).sum()
    with lisa_kernels.use_backend(after):
        (got,) = torch.autograd.grad(loss, leaf)
    wide = {**kwargs, "logits": leaf.detach().double().requires_grad_()}
    (expected,) = torch.autograd.grad(reference.ctc_loss(**wide).sum(), wide["logits"])
    assert_matches(got, expected, depth=case["T"])


def accuracy_problem(kind, frames):
    """Two long utterances of 50 classes: random, ×1000, or peaked on one path as from a converged model."""
    labels = frames // 10 if kind == "peaked" else 100
    logits, targets = random_logits(frames, 2, 50, dtype=torch.float32), random_targets(50, 2, labels)
    if kind == "scaled":
        logits *= 1000
    if kind == "peaked":
        logits[:, :, 0] += 9
        for n in range(2):
            order = torch.randperm(frames // 2, generator=torch.Generator().manual_seed(n))
            steps = torch.sort(order[:labels] * 2)[0]
            logits[steps, n, 0] -= 9
            logits[steps, n, targets[n]] += 9
    return logits, targets, torch.full((2,), frames), torch.full((2,), labels)


@needs_cpu
@pytest.mark.parametrize("kind", ["random", "scaled", "peaked"])
@pytest.mark.parametrize("frames", [500, 2000, 8000, pytest.param(16_000, marks=pytest.mark.slow)])
def test_gradient_keeps_the_promise_on_long_audio(kind, frames):
    """torch's own fp32 error grows with the loss, to tens of percent; ours must not.  Judge: torch in fp64."""
    logits, *rest = accuracy_problem(kind, frames)
    expected = gradient(logits.double(), lambda x: F.ctc_loss(x.log_softmax(-1), *rest, reduction="sum"))
    with lisa_kernels.use_backend("cpu"):
        got = gradient(logits, lambda x: lisa_kernels.ctc_loss(x, *rest, reduction="sum"))
    promise = SPEC.limit("grad_logits", torch.float32)
    error = float((got[1].double() - expected[1]).abs().max() / expected[1].abs().max())
    assert error <= promise, f"{error:.2e} of the largest gradient; the promise is {promise:.0e}"
    assert_matches(got[0], expected[0], depth=frames, name="loss")


@needs_cpu
@pytest.mark.parametrize("shape", [(2000, 1, 12, 900), (2000, 3, 2000, 900)], ids=["by class", "by position"])
def test_recomputed_states_give_the_same_bits_on_any_number_of_threads(shape):
    """Beyond 512 KiB a direction recomputes its states from checkpoints, and few utterances split by direction."""
    frames, batch, classes, labels = shape
    logits, targets = random_logits(frames, batch, classes, dtype=torch.float32), random_targets(classes, batch, labels)
    results = []
    for count in (1, 2, 4):
        with cpu_threads(count), lisa_kernels.use_backend("cpu"):
            run = lambda x: lisa_kernels.ctc_loss(x, targets, [frames] * batch, [labels] * batch)  # noqa: E731
            results.append(gradient(logits, run))
    for loss, grad in results[1:]:
        assert same_bits(loss, results[0][0])
        assert same_bits(grad, results[0][1])
    expected = gradient(
        logits.double(),
        lambda x: F.ctc_loss(x.log_softmax(-1), targets, [frames] * batch, [labels] * batch),
    )
    assert_matches(results[0][1], expected[1], depth=4 * frames)


@needs_cpu
def test_no_tensor_as_large_as_the_logits_beyond_logits_and_gradient():
    """At C = 2000 and S = 30 forward holds a tenth of the logits at the most, and backward the gradient."""
    logits, targets = random_logits(200, 8, 2000, dtype=torch.float32).requires_grad_(), random_targets(2000, 8, 30)
    dense = logits.numel() * 4
    with lisa_kernels.use_backend("cpu"):
        peak = peak_bytes(
            lambda: lisa_kernels.ctc_loss(logits, targets, [200] * 8, [30] * 8),
            lambda loss: torch.autograd.grad(loss, logits),
            torch.device("cpu"),
        )
    assert peak["fwd"] < dense / 10
    assert dense <= peak["bwd"] < 1.1 * dense


@needs_cpu
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("frames", [1, 2, 3, 4])
@pytest.mark.parametrize("labels", [1, 40_000])
def test_a_faulty_frame_of_a_short_utterance_stays_within_the_scratch(value, frames, labels):
    """It is laid out again without frames, which once took more rows than 1 to 3 frames had been given."""
    logits = random_logits(frames, 1, 8, dtype=torch.float32)
    logits[0, 0] = value
    with lisa_kernels.use_backend("cpu"):
        run = lambda x: lisa_kernels.ctc_loss(x, torch.ones(1, labels, dtype=torch.long), [frames], [labels])  # noqa: E731
        for _ in range(5):
            loss, grad = gradient(logits, run)
            assert loss.isnan()
            assert grad.isnan().all()


def test_hugely_unlikely_targets_keep_a_finite_gradient(backend):
    """States held at the lowest exponent, times others that go on growing, once overflowed to NaN."""
    logits = random_logits(100, 1, 50, dtype=torch.float32)
    logits[:, :, 10:] = -1e9
    targets = torch.arange(10, 26)[None]
    loss, grad = gradient(logits, lambda x: lisa_kernels.ctc_loss(x, targets, [100], [16]))
    assert loss.isfinite()
    assert grad.isfinite().all()


def test_finite_logits_of_any_size_give_a_finite_loss(backend):
    """A state of value 0 once hid one of 2^-590000000 behind its exponent."""
    logits, targets = random_logits(200, 2, 9, dtype=torch.float32) * 1e9, random_targets(9, 2, 6)
    loss, grad = gradient(logits, lambda x: lisa_kernels.ctc_loss(x, targets, [200] * 2, [6] * 2))
    assert loss.isfinite()
    assert grad.isfinite().all()
    assert grad.abs().max() > 0


@needs_cpu
def test_labels_changed_behind_torch_after_forward_stay_within_bounds():
    """A numpy buffer that is filled again does not move the version counter that autograd looks at."""
    logits, targets, frames, labels = small_problem()
    loss = lisa_kernels.ctc_loss(logits.requires_grad_(), targets, frames, labels)
    targets.data.fill_(10**7)
    targets.data[0, 0] = -(10**12)
    with lisa_kernels.use_backend("cpu"):
        (grad,) = torch.autograd.grad(loss, logits)
    assert grad.isfinite().all()


@needs_cpu
def test_targets_of_another_batch_are_refused_below_the_public_check():
    logits, _, frames, labels = small_problem()
    rest = torch.ones(1, 3, dtype=torch.long), torch.tensor(frames), torch.tensor(labels)
    with pytest.raises(ValueError, match="targets has 1 rows; it takes N = 2"):
        torch.ops.lisa_C.ctc_loss_fwd(logits, *rest, None, 0, None, 0.0, False, False, False, True)


def test_a_gradient_penalty_on_a_plain_loss_raises(backend):
    """The upstream gradient of a plain loss requires none: the second derivative must be refused all the same."""
    logits, targets, frames, labels = small_problem()
    loss = lisa_kernels.ctc_loss(logits.requires_grad_(), targets, frames, labels)
    (grad,) = torch.autograd.grad(loss, logits, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        (loss + grad.square().sum()).backward()
