"""Peers of ``ctc_loss``: torch, compiled torch, and other packages where they are installed."""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import Any

import torch
import torch.nn.functional as F

from bench.peers import Candidate, Peer, UnavailableError
from lisa_kernels.core.spec import Case
from lisa_kernels.ops.ctc import reference


def cut_down(case: Case) -> Case:
    """Return the case with at most 2 utterances and an eighth of the frames, but enough for its labels.

    Classes and labels stay: they choose the kernel's path (tails of vectors, occupancies by class or by label).
    """
    sizes = dict(case.sizes)
    sizes["N"] = min(sizes["N"], 2)
    sizes["T"] = min(sizes["T"], max(sizes["T"] // 8, 2 * sizes["S"] + 1))
    return dataclasses.replace(case, name=f"{case.name}, cut down", sizes=sizes)


def _torch_loss(log_probs: torch.Tensor, kwargs: dict[str, Any]) -> torch.Tensor:
    return F.ctc_loss(log_probs, kwargs["targets"], kwargs["logit_lengths"], kwargs["target_lengths"])


def _from_logits(kwargs: dict[str, Any]) -> Candidate:
    logits = kwargs["logits"]
    return Candidate(lambda: _torch_loss(logits.log_softmax(-1), kwargs), (logits,))


def _from_log_probs(kwargs: dict[str, Any]) -> Candidate:
    log_probs = kwargs["logits"].detach().log_softmax(-1).requires_grad_()
    return Candidate(lambda: _torch_loss(log_probs, kwargs), (log_probs,))


def _native(kwargs: dict[str, Any]) -> Candidate:
    """Torch's own kernels, whatever cuDNN would take."""
    logits = kwargs["logits"]
    _require_gpu(logits)

    def loss() -> torch.Tensor:
        with torch.backends.cudnn.flags(enabled=False):
            return _torch_loss(logits.log_softmax(-1), kwargs)

    return Candidate(loss, (logits,))


def _cudnn(kwargs: dict[str, Any]) -> Candidate:
    """The arguments for which torch takes cuDNN: concatenated int32 labels on the host, lengths on the host."""
    logits, targets = kwargs["logits"], kwargs["targets"]
    _require_gpu(logits)
    lengths = {name: tuple(kwargs[name].tolist()) for name in ("logit_lengths", "target_lengths")}
    if logits.dtype != torch.float32:
        raise UnavailableError("torch takes cuDNN for float32 alone")
    if set(lengths["logit_lengths"]) != {logits.shape[0]} or max(lengths["target_lengths"]) > 255:
        raise UnavailableError("torch takes cuDNN for utterances of T frames with up to 255 labels alone")
    rows = [row[:length] for row, length in zip(targets, lengths["target_lengths"], strict=True)]
    flat = torch.cat(rows).int().cpu()
    return Candidate(lambda: F.ctc_loss(logits.log_softmax(-1), flat, *lengths.values()), (logits,))


def _require_gpu(logits: torch.Tensor) -> None:
    if not logits.is_cuda:
        raise UnavailableError("it needs an NVIDIA GPU")


def _compiled(kwargs: dict[str, Any]) -> Candidate:
    logits = kwargs["logits"]
    # A fresh function each time: one that was compiled for other sizes would be recompiled for dynamic ones.
    compiled = torch.compile(lambda values: _torch_loss(values.log_softmax(-1), kwargs), dynamic=False)
    return Candidate(lambda: compiled(logits), (logits,))


def _compiled_reference(kwargs: dict[str, Any]) -> Candidate:
    if kwargs["logits"].shape[0] > 32:
        raise UnavailableError("its loop over frames is unrolled: compiling takes 17 s for T = 16 (2 cores)")
    compiled = torch.compile(reference.ctc_loss, dynamic=False)
    return Candidate(lambda: compiled(**kwargs), (kwargs["logits"],))


def _warpctc(kwargs: dict[str, Any]) -> Candidate:
    _require("warpctc_pytorch", "warpctc-pytorch")
    from warpctc_pytorch import CTCLoss

    labels = [row[:length] for row, length in zip(kwargs["targets"], kwargs["target_lengths"].tolist(), strict=True)]
    flat = torch.cat(labels).int().cpu()
    lengths = [kwargs[name].int().cpu() for name in ("logit_lengths", "target_lengths")]
    loss, logits = CTCLoss(), kwargs["logits"]
    # Its mean is over utterances alone: each loss is summed, then divided by labels and utterances.
    scale = 1.0 / (kwargs["targets"].shape[0] * kwargs["targets"].shape[1])
    return Candidate(lambda: loss(logits, flat, *lengths).sum() * scale, (logits,))


def _k2(kwargs: dict[str, Any]) -> Candidate:
    _require("k2", "k2")
    import k2

    logits = kwargs["logits"]
    lengths = kwargs["logit_lengths"].cpu()
    rows = torch.stack([torch.arange(len(lengths)), torch.zeros_like(lengths), lengths], 1).int()
    graph = k2.ctc_graph([row.tolist() for row in kwargs["targets"]], device=logits.device)
    scale = 1.0 / (kwargs["targets"].shape[0] * kwargs["targets"].shape[1])

    def loss() -> torch.Tensor:
        dense = k2.DenseFsaVec(logits.log_softmax(-1).transpose(0, 1).contiguous(), rows)
        return k2.ctc_loss(graph, dense, reduction="sum") * scale

    return Candidate(loss, (logits,))


def _torchaudio(kwargs: dict[str, Any]) -> Candidate:
    raise UnavailableError("it has no CTC loss of its own: it uses torch's")


def _require(module: str, package: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise UnavailableError(f"not installed (package {package})")


PEERS = {
    "ctc_loss": {
        "torch log_softmax + ctc_loss": Peer(_from_logits),
        "torch ctc_loss alone": Peer(_from_log_probs),
        "torch native kernels, log_softmax in front": Peer(_native),
        "torch cuDNN, log_softmax in front": Peer(_cudnn),
        "torch.compile of log_softmax + ctc_loss": Peer(_compiled, slow_start=True),
        "torch.compile of the reference": Peer(_compiled_reference, slow_start=True),
        "warp-ctc": Peer(_warpctc),
        "k2": Peer(_k2),
        "torchaudio": Peer(_torchaudio),
    }
}

# A large vocabulary: where a [T, N, C] tensor more or less decides the batch size.
MEMORY = {"ctc_loss": (Case("large vocabulary", {"T": 1500, "N": 32, "C": 5000, "S": 200}, {}, "full_lengths"),)}
