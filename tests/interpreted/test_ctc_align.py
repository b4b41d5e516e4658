"""``ctc_align`` on Triton, interpreted under the sanitizer: sizes at the blocks' ends, bands, faults, traffic."""

import pytest
import torch

import lisa_kernels
from lisa_kernels.ops.ctc_align import kernels_trace, reference, tiles, triton_impl
from lisa_kernels.testing import assert_matches, same_bits
from lisa_kernels.testing.sanitizer import SanitizerError, sanitize
from tests.ops.ctc_faults import FAULTS, check_alignment
from tests.ops.ctc_problems import concatenate, random_logits, random_targets

LARGE = pytest.mark.prove


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """16 positions in registers, chunks of 16 frames, 8 states: small problems cross the ends."""
    monkeypatch.setitem(tiles.SEARCH, "interp", ((None, tiles.SearchTile(BLOCK=16)),))
    monkeypatch.setitem(tiles.TRACE, "interp", ((None, tiles.TraceTile(FRAMES=16, BLOCK=8)),))


def problem(frames, labels, *, batch=2, classes=6):
    """Whole numbers tie often; the last utterance is short."""
    logits = random_logits(frames, batch, classes, seed=frames + labels, dtype=torch.float32).round()
    lengths = torch.full((batch,), frames), torch.full((batch,), labels)
    if batch > 1:
        lengths[0][-1] -= frames // 4
        lengths[1][-1] -= labels // 2
    return logits, random_targets(classes, batch, labels), *lengths


def on_triton(*args, log_priors=None, blank=0, star=None, star_penalty=0.0, band=None):
    with sanitize():
        return triton_impl.forward(*args, log_priors, blank, star, star_penalty, band)


def judge(args, **options):
    got = on_triton(*args, **options)
    given = {"log_priors": None, "blank": 0, "star": None, "star_penalty": 0.0, "band": None, **options}
    paths, states, scores, total = reference.forward(*args, *given.values())
    assert torch.equal(got[0], paths), "paths"
    assert torch.equal(got[1], states), "states"
    assert_matches(got[2], scores.double(), depth=len(args[0]) + 1, name="scores")
    assert_matches(got[3], total.double(), depth=len(args[0]) + 1, name="total")


# A program of 16 positions holds 15 labels.
@pytest.mark.parametrize(
    ("frames", "labels"),
    [
        (1, 0), (1, 1), (2, 1), (2, 2), (15, 3), (16, 7), (17, 8), (33, 15), (40, 16),
        *(pytest.param(frames, labels, marks=LARGE) for frames, labels in
          [(32, 14), (49, 17), (90, 31), (91, 32), (92, 33), (160, 64)]),
    ],
)  # fmt: skip
def test_sizes_at_the_ends_of_blocks_and_chunks_agree_with_the_definition(frames, labels):
    judge(problem(frames, labels))


# 2 * 4 + 7 positions are held in registers, more in memory.
@pytest.mark.parametrize(
    ("labels", "band"),
    [
        (7, 1), (24, 1), (24, 4), (24, 5),
        *(pytest.param(labels, band, marks=LARGE) for labels, band in [(15, 4), (24, 3), (30, 9), (30, 40)]),
    ],
)  # fmt: skip
def test_bands_in_registers_and_in_memory_agree_with_the_definition(labels, band):
    judge(problem(40, labels, batch=1), band=band)


@pytest.mark.parametrize("band", [None, 2])
def test_star_and_priors_agree_with_the_definition(band):
    logits, targets, *lengths = problem(34, 12, classes=5)
    targets[:, ::3] = -1
    priors = -torch.arange(5).float() / 8
    judge((logits, targets, *lengths), star=-1, star_penalty=0.5, log_priors=priors, band=band)


@pytest.mark.parametrize("band", [None, 3])
def test_concatenated_targets_agree_with_the_definition(band):
    logits, targets, frames, lengths = problem(40, 17, batch=3)
    lengths[1] = 2
    judge((logits, concatenate(targets, lengths), frames, lengths), band=band)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_device_values_gives_nan_for_its_utterance_only(fault):
    with sanitize():
        check_alignment(triton_impl, fault)


@pytest.mark.parametrize("lengths", [[3, 4], [9, 9], [-1, 5], [0, 3]], ids=str)
@pytest.mark.parametrize("band", [None, 1])
def test_concatenated_targets_of_another_total_stay_within_bounds(lengths, band):
    logits = random_logits(9, 2, 5, dtype=torch.float32)
    targets = torch.tensor([1, 2, 3, 1, 2, 4])
    paths, *_ = on_triton(logits, targets, torch.tensor([9, 9]), torch.tensor(lengths), band=band)
    assert ((paths >= -1) & (paths < 5)).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_frame_spoils_its_own_utterance_only(value):
    logits, *rest = problem(20, 4)
    clean = on_triton(logits, *rest)
    logits[3, 1, 2] = value
    paths, _, _, total = on_triton(logits, *rest)
    assert total.isnan().tolist() == [False, True]
    assert (paths[1] == -1).all()
    assert torch.equal(paths[0], clean[0][0])


def test_logits_are_read_once_and_padding_is_not_read():
    logits, targets, frames, labels = problem(8, 2, classes=600)
    with lisa_kernels.use_backend("triton"), sanitize() as report:
        lisa_kernels.ctc_align(logits, targets, frames, labels)
    used = int(frames.sum()) * 600 * 4
    gathered = int((frames * (labels + 2)).sum()) * 4
    assert report.traffic["logits"].read == used
    assert report.traffic["logits"].loaded <= used + gathered


@pytest.mark.parametrize("frames", [1, 4])
def test_the_length_of_chunks_changes_nothing(frames, monkeypatch):
    args = problem(33, 9, batch=1)
    expected = on_triton(*args)
    monkeypatch.setitem(tiles.TRACE, "interp", ((None, tiles.TraceTile(FRAMES=frames, BLOCK=4)),))
    got = on_triton(*args)
    assert all(same_bits(mine, wanted) for mine, wanted in zip(got, expected, strict=True))


def test_float64_is_refused_with_the_reason():
    with lisa_kernels.use_backend("triton"), pytest.raises(RuntimeError, match="float64 logits; its search scores"):
        lisa_kernels.ctc_align(random_logits(4, 1, 3), torch.ones(1, 1, dtype=torch.long), [4], [1])


def planted(monkeypatch, change):
    right = triton_impl.launch

    def wrong(kernel, grid, *args, **options):
        changed = change(kernel, grid, list(args))
        if changed is not None:
            right(kernel, *changed, **options)

    monkeypatch.setattr(triton_impl, "launch", wrong)


def test_a_state_that_no_map_leads_to_is_seen(monkeypatch):
    """Planted: the maps of half the chunks are left out."""
    planted(
        monkeypatch,
        lambda kernel, grid, args: ((grid[0] // 2,) if kernel is kernels_trace.ctc_maps_kernel else grid, *args),
    )
    with pytest.raises(SanitizerError, match="uninitialised read"):
        on_triton(*problem(49, 5))


def test_a_path_from_another_end_is_seen(monkeypatch):
    """Planted: the search ends on the last blank whatever is better."""

    def change(kernel, grid, args):
        if kernel is kernels_trace.ctc_chain_kernel:
            args[2] = (args[2] + 1) // 2 * 2
        return grid, *args

    planted(monkeypatch, change)
    logits, targets, *lengths = problem(20, 5, batch=1)
    logits[-1, 0, targets[0, -1]] += 50
    with pytest.raises(AssertionError, match="paths"):
        judge((logits, targets, *lengths))


@pytest.mark.prove
def test_hours_keep_the_digits_of_the_best_path(monkeypatch):
    """The path's own score, summed in fp64, is that of the CPU kernel's path."""
    monkeypatch.setitem(tiles.ROWS, "interp", ((None, tiles.TargetRowTile(ROWS=512, BLOCK=32, POSITIONS=16)),))
    monkeypatch.setitem(tiles.TRACE, "interp", ((None, tiles.TraceTile(FRAMES=128, BLOCK=32)),))
    logits = random_logits(8000, 1, 20, dtype=torch.float32) * 30
    args = logits, random_targets(20, 1, 15), torch.tensor([8000]), torch.tensor([15])
    with lisa_kernels.use_backend("cpu"):
        expected = lisa_kernels.ctc_align(*args)
    with lisa_kernels.testing.interpreter.honest_interpreter():
        paths, _, scores, total = triton_impl.forward(*args, None, 0, None, 0.0, None)
    assert torch.equal(paths, expected.paths)
    assert_matches(total, scores.double().sum(1), depth=8000, name="total")
