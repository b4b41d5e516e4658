"""``ctc_greedy_decode`` on Triton, interpreted under the sanitizer: sizes at the blocks' ends, faults, traffic."""

import pytest
import torch

import lisa_kernels
from lisa_kernels.ops.ctc_greedy_decode import kernels, reference, triton_impl
from lisa_kernels.testing.sanitizer import sanitize
from tests.ops.ctc_problems import check_decoding, random_logits


def on_triton(logits, lengths, blank=0):
    with sanitize():
        return triton_impl.forward(logits, lengths, blank)


@pytest.mark.parametrize("frames", [1, 2, 15, 16, 17, 31, 32, 33, 50])
def test_frames_at_the_ends_of_chunks_agree_with_the_definition(frames):
    """Few classes: runs of equal ones reach across the ends."""
    logits = random_logits(frames, 2, 3, seed=frames, dtype=torch.float32).round()
    lengths = torch.tensor([frames, frames - frames // 3])
    check_decoding(on_triton(logits, lengths), logits, lengths)


@pytest.mark.parametrize("classes", [1, 2, 7, 8, 9, 31, 32, 33, 64, 65, 100])
def test_classes_at_the_ends_of_blocks_agree_with_the_definition(classes):
    logits = random_logits(9, 2, classes, dtype=torch.float32).round()
    lengths = torch.tensor([9, 6])
    check_decoding(on_triton(logits, lengths), logits, lengths)


@pytest.mark.parametrize("length", [-3, 21])
def test_a_device_length_out_of_range_gives_a_nan_score_and_stays_within_bounds(length):
    logits = random_logits(20, 2, 6, dtype=torch.float32)
    ids, _, _, _, scores = on_triton(logits, torch.tensor([20, length]))
    assert scores.isnan().tolist() == [False, True]
    assert torch.equal(ids, reference.forward(logits, torch.tensor([20, min(max(length, 0), 20)]), 0)[0])


def test_logits_are_read_once_and_padding_is_not_read():
    logits, lengths = random_logits(20, 2, 100, dtype=torch.float32), torch.tensor([20, 7])
    with lisa_kernels.use_backend("triton"), sanitize() as report:
        lisa_kernels.ctc_greedy_decode(logits, lengths)
    assert report.traffic["logits"].read == report.traffic["logits"].loaded == 27 * 100 * 4


def test_float64_is_refused_with_the_reason():
    with lisa_kernels.use_backend("triton"), pytest.raises(RuntimeError, match="float64 logits; its softmax"):
        lisa_kernels.ctc_greedy_decode(random_logits(4, 1, 3))


def test_a_count_that_is_not_carried_is_seen(monkeypatch):
    """Planted: each chunk of frames writes its labels from the first place on."""
    right = triton_impl.launch

    def first_chunk_only(kernel, grid, *args, **options):
        if kernel is kernels.ctc_collapse_kernel:
            best, log_prob, lengths, *outputs, frames, blank = args
            args = best, log_prob, lengths.clamp(max=16), *outputs, frames, blank
        right(kernel, grid, *args, **options)

    monkeypatch.setattr(triton_impl, "launch", first_chunk_only)
    logits, lengths = random_logits(40, 1, 3, dtype=torch.float32), torch.tensor([40])
    with pytest.raises(AssertionError, match="ids"):
        check_decoding(on_triton(logits, lengths), logits, lengths)
