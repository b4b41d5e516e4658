"""``ctc_align`` and ``ctc_spans``: what is special to them.  Values, edges and threads are in tests/contract."""

import itertools

import pytest
import torch

import lisa_kernels
from bench.memory import peak_bytes
from lisa_kernels.ops.ctc_align import reference
from lisa_kernels.testing import assert_matches, same_bits
from lisa_kernels.testing.subject import cpu_threads
from tests.ops.backends import BACKENDS, needs_cpu
from tests.ops.ctc_faults import FAULTS, check_alignment
from tests.ops.ctc_problems import random_logits, random_targets, small_problem

INF = float("inf")


def ways(target, frames):
    """Every path through a target as positions: 2 j + 1 is label j, 2 j the blank before it."""
    last = 2 * len(target)
    if frames == 0:
        return [()] if last == 0 else []

    def onward(state):
        yield state
        if state < last:
            yield state + 1
        if state % 2 and state + 2 < last and target[state // 2] != target[state // 2 + 1]:
            yield state + 2

    found = [(state,) for state in range(min(last, 1) + 1)]
    for _ in range(frames - 1):
        found = [(*way, state) for way in found for state in onward(way[-1])]
    return [way for way in found if way[-1] >= last - 1]


def preference(way):
    """Smaller is better among equally good ways: at the end the label, then, going back, stay, advance, skip."""
    return way[-1] % 2 == 0, [after - before for before, after in itertools.pairwise(way)][::-1]


def best_way(scores, target, blank, *, stars=None, allowed=None):
    """The best way and its score by trying all of them; scores [T][C], whole numbers or fp64."""
    best = None
    for way in ways(target, len(scores)):
        if allowed is not None and not all(allowed(t, state // 2) for t, state in enumerate(way)):
            continue
        score = 0.0
        for t, state in enumerate(way):
            label = target[state // 2] if state % 2 else blank
            score += stars[t] if state % 2 and label not in range(len(scores[0])) else scores[t][label]
        if score > -INF and (best is None or (-score, preference(way)) < (-best[1], preference(best[0]))):
            best = way, score
    return best


def check_way(alignment, n, frames, target, blank, best):
    """Whether an alignment holds this way; None: nothing."""
    total = len(alignment.paths[n])
    if best is None:
        assert alignment.paths[n].tolist() == alignment.states[n].tolist() == [-1] * total
        assert (alignment.scores[n] == 0).all()
        assert alignment.total[n] == -INF
        return
    padding = [-1] * (total - frames)
    labels = [target[state // 2] if state % 2 else blank for state in best[0]]
    assert alignment.states[n].tolist() == [state // 2 if state % 2 else -1 for state in best[0]] + padding
    assert alignment.paths[n].tolist() == labels + padding
    assert_matches(alignment.total[n], torch.tensor(best[1], dtype=torch.float64), depth=7, name="total")


TARGETS = [(), (1,), (1, 2), (1, 1), (2, 1, 2), (1, 1, 1), (1, 0, 2), (0,)]


@pytest.mark.parametrize("frames", range(7))
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_the_path_is_the_best_of_all(backend, frames, target):
    """Repeats, labels equal to the blank, targets too long for the frames."""
    for blank in (0, 2):
        logits = random_logits(frames + 2, 1, 3, seed=frames)
        logits[frames:] = float("nan")
        labels = torch.tensor([target], dtype=torch.int64).reshape(1, -1)
        alignment = lisa_kernels.ctc_align(logits, labels, [frames], [len(target)], blank=blank)
        scores = logits[:frames, 0].log_softmax(-1).tolist()
        check_way(alignment, 0, frames, target, blank, best_way(scores, target, blank))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("seed", range(8))
def test_of_equal_paths_the_documented_one_is_taken(backend, dtype, seed):
    """Logits 0 and 1: sums of whole numbers, so that ties are exact.  Tried against all paths, with their order."""
    for target in ((1,), (1, 2), (1, 1), (2, 1, 2), (1, 2, 2)):
        logits = (random_logits(6, 1, 3, seed=100 * seed + len(target)) > 0).to(dtype)
        alignment = lisa_kernels.ctc_align(logits, torch.tensor([target]), [6], [len(target)])
        best = best_way(logits[:, 0].double().tolist(), target, 0)
        expected = [state // 2 if state % 2 else -1 for state in best[0]]
        assert alignment.states[0].tolist() == expected


def test_ties_stay_rather_than_advance_and_advance_rather_than_skip(backend):
    """All paths are equally good: seen from the end the last label is held as long as the others leave room."""
    logits = torch.zeros(9, 1, 4)
    alignment = lisa_kernels.ctc_align(logits, torch.tensor([[1, 2, 3]]), [9], [3])
    # Back from the last label: it is held down to frame 2, and the others are skipped onto.
    assert alignment.states[0].tolist() == [0, 1, 2, 2, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("star_penalty", [0.0, 0.7, -0.3])
def test_a_star_takes_any_class_but_the_blank(backend, star_penalty):
    for seed, target in enumerate([(7,), (7, 7), (1, 7), (7, 1, 7), (7, 7, 2)]):
        logits = random_logits(6, 1, 4, seed=seed)
        priors = random_logits(4, seed=seed + 50)
        log_probs = logits[:, 0].log_softmax(-1)
        stars = ((1 - log_probs[:, 0].exp()).log() - star_penalty).tolist()
        alignment = lisa_kernels.ctc_align(
            logits, torch.tensor([target]), [6], [len(target)], star=7, star_penalty=star_penalty, log_priors=priors
        )
        best = best_way((log_probs - priors).tolist(), target, 0, stars=stars)
        check_way(alignment, 0, 6, target, 0, best)


def test_a_star_keeps_its_digits_on_a_confident_model(backend):
    """1 - p(blank) is 1e-13: taken as it is written it is 0 in fp32."""
    logits = torch.zeros(3, 1, 4)
    logits[:, 0, 0] = 30
    alignment = lisa_kernels.ctc_align(logits, torch.tensor([[-1]]), [3], [1], star=-1)
    expected = (logits[0, 0, 1:].double().logsumexp(-1) - logits[0, 0].double().logsumexp(-1)).float()
    assert_matches(alignment.scores[0, 2], expected.double(), depth=2)


@pytest.mark.parametrize("band", [1, 2])
@pytest.mark.parametrize("target", [(1, 2, 1), (1, 1, 2), (2, 1, 2, 1), (1,), (1, 1, 1)], ids=str)
def test_a_band_leaves_the_best_of_the_paths_within_it(backend, band, target):
    for frames in (4, 5, 6, 7):
        logits = random_logits(frames, 1, 3, seed=frames)

        def allowed(t, j, frames=frames):
            return abs(j * frames - t * len(target)) <= band * frames

        alignment = lisa_kernels.ctc_align(logits, torch.tensor([target]), [frames], [len(target)], band=band)
        best = best_way(logits[:, 0].log_softmax(-1).tolist(), target, 0, allowed=allowed)
        check_way(alignment, 0, frames, target, 0, best)


@pytest.mark.parametrize("labels", [1, 5, 8, 9, 30, 63, 64, 65])
def test_a_band_of_1_always_holds_a_path_without_repeats(backend, labels):
    targets = 1 + torch.arange(labels)[None] % 2
    for frames in (labels, labels + 1, 2 * labels + 3, 7 * labels):
        logits = random_logits(frames, 1, 3, seed=frames, dtype=torch.float32)
        alignment = lisa_kernels.ctc_align(logits, targets, [frames], [labels], band=1)
        assert alignment.total.isfinite()
        assert sorted(set(alignment.states[0].tolist()) - {-1}) == list(range(labels))


@pytest.mark.parametrize("value", [float("nan"), INF])
def test_nan_in_a_valid_frame_spoils_its_own_utterance_only(backend, value):
    """Even where the path does not need the class, or no path exists."""
    logits, targets, _, labels = small_problem()
    clean = lisa_kernels.ctc_align(logits, targets, [8, 8], labels)
    logits[2, 1, 4] = value
    for frames in (8, 3):
        alignment = lisa_kernels.ctc_align(logits, targets, [8, frames], labels)
        assert alignment.total[1].isnan()
        assert (alignment.paths[1] == -1).all()
        assert (alignment.scores[1] == 0).all()
        assert same_bits(alignment.total[0], clean.total[0])
        assert torch.equal(alignment.paths[0], clean.paths[0])


def test_no_gradient_flows(backend):
    logits, targets, frames, labels = small_problem()
    alignment = lisa_kernels.ctc_align(logits.requires_grad_(), targets, frames, labels)
    assert not alignment.total.requires_grad
    assert not alignment.scores.requires_grad


def test_the_path_s_own_score_is_the_optimum_of_long_audio(backend):
    """fp32 sums of 60,000 nats would have steps of 1/256: equally good paths would be told apart by rounding."""
    frames, labels = (20_000, 300) if backend == "cpu" else (2000, 40)
    logits = 4 * random_logits(frames, 1, 30, dtype=torch.float32)
    targets = random_targets(30, 1, labels)
    args = targets, torch.tensor([frames]), torch.tensor([labels])
    alignment = lisa_kernels.ctc_align(logits, *args)
    log_probs = logits[:, 0].double().log_softmax(-1)
    own = log_probs.gather(1, alignment.paths[0][:, None]).sum()
    best = lisa_kernels.ctc_align(logits.double(), *args)
    assert torch.equal(alignment.states, best.states)
    assert_matches(own, best.total[0], name="the path's own score")
    assert_matches(alignment.total[0], own)


@needs_cpu
def test_the_cpu_kernel_and_the_definition_choose_the_same_path_among_ties():
    """Logits of three whole numbers leave thousands of equally good paths, also at the edges of vectors and bytes."""
    for labels in (7, 8, 9, 15, 16, 17, 40, 64):
        for options in ({}, {"band": 3}):
            frames = 3 * labels + 5
            logits = random_logits(frames, 2, 5, seed=labels, dtype=torch.float32).clamp(-1, 1).round()
            args = random_targets(5, 2, labels), torch.tensor([frames, frames - 4]), torch.tensor([labels, labels - 1])
            with lisa_kernels.use_backend("cpu"):
                got = lisa_kernels.ctc_align(logits, *args, **options)
            expected = reference.ctc_align(logits.double(), *args, **options)
            assert torch.equal(got.states, expected.states)
            assert torch.equal(got.paths, expected.paths)


@needs_cpu
def test_a_wide_band_gives_the_bits_of_none():
    logits, targets = random_logits(90, 2, 9, dtype=torch.float32), random_targets(9, 2, 20)
    with lisa_kernels.use_backend("cpu"):
        plain, wide = (lisa_kernels.ctc_align(logits, targets, [90, 70], [20, 9], band=b) for b in (None, 20))
    assert torch.equal(plain.states, wide.states)
    assert same_bits(plain.total, wide.total)


def long_audio(frames, labels, band):
    """Frames of a model that knows the text: each label leads in one frame, the blank in all others."""
    logits = random_logits(frames, 1, 40, dtype=torch.float32)
    targets = random_targets(40, 1, labels)
    steps = (torch.arange(labels) * frames + frames // 2) // labels
    logits[:, 0, 0] += 15
    logits[steps, 0, targets[0]] += 30
    run = lambda: lisa_kernels.ctc_align(logits, targets, [frames], [labels], band=band)  # noqa: E731
    return run, steps


@needs_cpu
@pytest.mark.parametrize(
    ("frames", "labels", "limit"), [(20_000, 1600, 12e6), pytest.param(180_000, 15_000, 100e6, marks=pytest.mark.prove)]
)
def test_hours_of_audio_take_memory_by_the_band(frames, labels, limit):
    """At 180,000 frames (two hours of 40 ms), 15,000 labels and a band of 500: 72 MB; without one 1 GB."""
    run, steps = long_audio(frames, labels, 500)
    with lisa_kernels.use_backend("cpu"):
        peak = peak_bytes(run, lambda alignment: None, torch.device("cpu"))["fwd"]
        spans = lisa_kernels.ctc_spans(run())
    assert peak < limit
    assert torch.equal(spans.starts[0], steps)
    assert torch.equal(spans.ends[0], steps + 1)


@needs_cpu
@pytest.mark.parametrize("shape", [(1, 700, 60), (3, 300, 40), (5, 90, 3)])
def test_any_number_of_threads_gives_the_same_bits(shape):
    """Fewer utterances than threads share the rows of all before the search."""
    batch, frames, labels = shape
    logits, targets = random_logits(frames, batch, 33, dtype=torch.float32), random_targets(33, batch, labels)
    results = []
    for count in (1, 2, 4):
        with cpu_threads(count), lisa_kernels.use_backend("cpu"):
            results.append(lisa_kernels.ctc_align(logits, targets, [frames] * batch, [labels] * batch, star=-1))
    for result in results[1:]:
        assert torch.equal(result.states, results[0].states)
        assert same_bits(result.scores, results[0].scores)
        assert same_bits(result.total, results[0].total)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", BACKENDS)
def test_a_fault_in_device_values_gives_nan_for_its_utterance_only(name, fault):
    from lisa_kernels.ops.ctc_align import native_impl

    check_alignment(native_impl if name == "cpu" else reference, fault)


@needs_cpu
def test_concatenated_targets_of_another_total_stay_within_bounds():
    from lisa_kernels.ops.ctc_align import native_impl

    logits, targets, frames, _ = small_problem()
    lengths = torch.tensor([3, 10**12])
    total = native_impl.forward(logits, targets.flatten(), torch.tensor(frames), lengths, None, 0, None, 0.0, 1)[3]
    assert total[0].isfinite()
    assert total[1].isnan()


def test_spans_hold_the_runs_of_each_label(backend):
    logits = 20 * torch.nn.functional.one_hot(torch.tensor([0, 1, 1, 0, 1, 2, 2, 0]), 4).float()
    spans = lisa_kernels.ctc_spans(lisa_kernels.ctc_align(logits[:, None], torch.tensor([[1, 1, 2, 3]]), [8], [3]))
    assert spans.starts.tolist() == [[1, 4, 5, -1]]
    assert spans.ends.tolist() == [[3, 5, 7, -1]]
    assert spans.scores[0, 3] == -INF
    assert (spans.scores[0, :3] > -1e-6).all()


def test_spans_of_one_utterance_have_no_batch_dimension(backend):
    logits, targets, _, _ = small_problem()
    batched = lisa_kernels.ctc_spans(lisa_kernels.ctc_align(logits[:, :1], targets[:1], [8], [3]))
    single = lisa_kernels.ctc_spans(lisa_kernels.ctc_align(logits[:, 0], targets[0], 8, 3))
    assert single.starts.shape == (3,)
    assert torch.equal(single.starts, batched.starts[0])
    assert same_bits(single.scores, batched.scores[0])


@pytest.mark.parametrize("options", [{}, {"star": -1}], ids=str)
def test_spans_agree_with_a_loop_over_labels(backend, options):
    logits, targets = random_logits(90, 3, 9), random_targets(9, 3, 20)
    if options:
        targets[:, ::4] = -1
    lengths = torch.tensor([20, 7, 20])
    alignment = lisa_kernels.ctc_align(logits, targets, [90, 60, 10], lengths, **options)
    spans = lisa_kernels.ctc_spans(alignment)
    assert spans.starts.shape == (3, 20)
    for n, label in itertools.product(range(3), range(20)):
        frames = (alignment.states[n] == label).nonzero()[:, 0].tolist()
        if n == 2 or label >= lengths[n]:
            assert (spans.starts[n, label], spans.ends[n, label], spans.scores[n, label]) == (-1, -1, -INF)
            continue
        assert (spans.starts[n, label], spans.ends[n, label]) == (frames[0], frames[-1] + 1)
        assert_matches(spans.scores[n, label], alignment.scores[n, frames].mean())


def test_spans_of_nothing_are_empty(backend):
    none = torch.zeros(0, dtype=torch.int64)
    empty = lisa_kernels.ctc_align(torch.zeros(5, 0, 7), torch.zeros(0, 3, dtype=torch.int64), none, none)
    assert lisa_kernels.ctc_spans(empty).starts.shape == (0, 3)
    silent = lisa_kernels.ctc_align(torch.zeros(0, 2, 7), torch.ones(2, 3, dtype=torch.int64), [0, 0], [0, 3])
    assert (lisa_kernels.ctc_spans(silent).starts == -1).all()
    assert silent.total.tolist() == [0, -INF]


def test_spans_take_an_alignment_alone():
    with pytest.raises(TypeError, match="ctc_spans: alignment is Tensor"):
        lisa_kernels.ctc_spans(torch.zeros(3))


def test_spans_compile_into_one_graph(backend):
    logits, targets, frames, labels = small_problem()

    def spans(logits):
        return lisa_kernels.ctc_spans(lisa_kernels.ctc_align(logits, targets, frames, labels)).scores

    torch._dynamo.reset()
    assert same_bits(torch.compile(spans, fullgraph=True, backend="aot_eager")(logits), spans(logits))
