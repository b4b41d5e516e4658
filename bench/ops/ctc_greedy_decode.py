"""Peers of ``ctc_greedy_decode``: what one writes with torch alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from bench.peers import Candidate, Peer
from lisa_kernels.core.spec import Case


def cut_down(case: Case) -> Case:
    """Return the case with at most 2 utterances and an eighth of the frames."""
    sizes = {**case.sizes, "N": min(case["N"], 2), "T": max(case["T"] // 8, 1)}
    return dataclasses.replace(case, name=f"{case.name}, cut down", sizes=sizes)


def _argmax(kwargs: dict[str, Any]) -> Candidate:
    """Argmax on the device, then a loop over utterances on the host: the usual recipe, without starts and ends."""
    logits, lengths = kwargs["logits"], kwargs["logit_lengths"]

    def decode() -> tuple[torch.Tensor, list[list[int]]]:
        log_probs, best = logits.log_softmax(-1).max(-1)
        valid = torch.arange(logits.shape[0], device=logits.device)[:, None] < lengths
        rows = zip(best.t().cpu(), lengths.tolist(), strict=True)
        ids = [row[:length].unique_consecutive() for row, length in rows]
        return torch.where(valid, log_probs, 0).sum(0), [row[row != 0].tolist() for row in ids]

    return Candidate(lambda: decode()[0], ())


PEERS = {"ctc_greedy_decode": {"torch max + unique_consecutive": Peer(_argmax)}}
