"""Peers of ``ctc_align``: torchaudio's forced_align, and the search written in plain PyTorch."""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import Any

import torch

from bench.peers import Candidate, Peer, UnavailableError
from lisa_kernels.core.spec import Case
from lisa_kernels.ops.ctc_align import reference


def cut_down(case: Case) -> Case:
    """Return the case with at most 2 utterances and an eighth of the frames, but enough for its labels.

    Of a case with a band labels are cut too: their number has no say in which path the kernels take.
    """
    sizes = {**case.sizes, "N": min(case["N"], 2)}
    if case.options.get("band") is None:
        sizes["T"] = min(sizes["T"], max(sizes["T"] // 8, 2 * sizes["S"] + 1))
    else:
        sizes |= {"T": max(sizes["T"] // 8, 2), "S": sizes["S"] // 8}
    return dataclasses.replace(case, name=f"{case.name}, cut down", sizes=sizes)


def _torchaudio(kwargs: dict[str, Any]) -> Candidate:
    """It takes log-probabilities of one utterance at a time on a GPU, and no band."""
    if importlib.util.find_spec("torchaudio") is None:
        raise UnavailableError("not installed (package torchaudio)")
    from torchaudio.functional import forced_align

    logits, targets = kwargs["logits"], kwargs["targets"]
    lengths = list(zip(kwargs["logit_lengths"].tolist(), kwargs["target_lengths"].tolist(), strict=True))

    def align() -> torch.Tensor:
        log_probs = logits.detach().float().log_softmax(-1).transpose(0, 1)
        scores = [
            forced_align(log_probs[n : n + 1, :frames], targets[n : n + 1, :labels])[1].sum()
            for n, (frames, labels) in enumerate(lengths)
        ]
        return torch.stack(scores)

    return Candidate(align, ())


def _plain(kwargs: dict[str, Any]) -> Candidate:
    return Candidate(lambda: reference.ctc_align(**kwargs).total, ())


PEERS = {
    "ctc_align": {
        "torchaudio forced_align": Peer(_torchaudio),
        "plain PyTorch": Peer(_plain),
    }
}
