"""What tests, verification and benchmarks need to know about ``ctc_greedy_decode``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core.spec import Case, OpSpec
from lisa_kernels.ops.ctc.problems import BAD_LOGITS, EDGES, edge_case, edges_of, finish
from lisa_kernels.ops.ctc_greedy_decode import reference
from lisa_kernels.ops.ctc_greedy_decode.op import ctc_greedy_decode, explain


def _inputs(case: Case, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> dict[str, Any]:
    """Logits in which one class leads by 4 nats, often the one of the frame before or the blank; the first is full."""
    frames, batch, classes = (case[size] for size in "TNC")
    blank = case.options.get("blank", 0)
    logits = torch.randn(frames, batch, classes, generator=generator)
    leading = torch.randint(0, classes, (frames, batch), generator=generator)
    kind = torch.randint(0, 3, (frames, batch), generator=generator)
    leading = torch.where(kind == 0, blank, leading)
    for t in range(1, frames):
        leading[t] = torch.where(kind[t] == 1, leading[t - 1], leading[t])
    logits.scatter_add_(2, leading[:, :, None], torch.full((frames, batch, 1), 4.0))
    logit_lengths = torch.randint(frames - frames // 3, frames + 1, (batch,), generator=generator)
    logit_lengths[:1] = frames
    kwargs = {"logits": logits, "logit_lengths": logit_lengths, **case.options}
    return finish(kwargs, _EDGES[case.edge] if case.edge else None, dtype=dtype, device=device)


def _no_lengths(kwargs: dict[str, Any]) -> None:
    del kwargs["logit_lengths"]


def _zero_lengths(kwargs: dict[str, Any]) -> None:
    kwargs["logit_lengths"][::2] = 0


def _ties(kwargs: dict[str, Any]) -> None:
    """Few values: the best of most frames stands at several classes, often on both sides of a block's end."""
    kwargs["logits"] = kwargs["logits"].clamp(-1, 1).round()


def _all_equal(kwargs: dict[str, Any]) -> None:
    kwargs["logits"] = torch.zeros_like(kwargs["logits"])


def _all_blank(kwargs: dict[str, Any]) -> None:
    kwargs["logits"][:, :, 0] += 100


def _one_label(kwargs: dict[str, Any]) -> None:
    """One class in all frames: one label as long as the utterance."""
    kwargs["logits"][:, :, -1] += 100


def _changing(kwargs: dict[str, Any]) -> None:
    """Another label in every frame: no room is left behind the last."""
    logits = kwargs["logits"]
    for t in range(logits.shape[0]):
        logits[t, :, 1 + t % 2] += 100


def _confident(kwargs: dict[str, Any]) -> None:
    """The best class has all but e^-9 of the probability."""
    kwargs["logits"] *= 4


def _nan(kwargs: dict[str, Any]) -> None:
    """One NaN, a frame of nothing else, and frames that only NaN keeps from another best class."""
    kwargs["logits"][2, 1, 3] = float("nan")
    kwargs["logits"][3, 2] = float("nan")
    kwargs["logits"][::2, 3, :4] = float("nan")
    kwargs["logits"][5, 3] = -float("inf")
    kwargs["logits"][5, 3, 0] = float("nan")


def _infinite(kwargs: dict[str, Any]) -> None:
    kwargs["logits"][2, 1, 3] = float("inf")
    kwargs["logits"][4, 1, 2:5] = float("inf")


def _minus_infinite(kwargs: dict[str, Any]) -> None:
    """Classes without a chance, and a frame in which none has one."""
    kwargs["logits"][:, 2, ::2] = -float("inf")
    kwargs["logits"][2, 1] = -float("inf")


_EDGES = EDGES | edges_of(globals())
_SMALL = {"T": 24, "N": 4, "C": 9}
_WIDE = {"T": 24, "N": 4, "C": 40}


_CASES = (
    Case("odd", {"T": 7, "N": 3, "C": 11}),
    Case("one frame", {"T": 1, "N": 1, "C": 2}),
    Case("two frames", {"T": 2, "N": 2, "C": 3}),
    # Ends of vectors, of a program's rows, of the chunks that are collapsed.
    Case("chunks of frames", {"T": 67, "N": 3, "C": 17}),
    Case("blocks of classes", {"T": 20, "N": 2, "C": 131}),
    Case("blank is last", {"T": 40, "N": 5, "C": 33}, {"blank": 32}),
)

_EDGE_CASES = (
    *(edge_case("padding", sizes) for sizes in (_SMALL, _WIDE)),
    *(edge_case("ties", sizes) for sizes in (_SMALL, _WIDE)),
    edge_case("all_equal", _WIDE),
    edge_case("all_equal", _SMALL, blank=3),
    edge_case("nan", _SMALL),
    edge_case("nan", _WIDE),
    edge_case("infinite", _SMALL),
    edge_case("minus_infinite", _WIDE),
    edge_case("no_lengths", _SMALL),
    edge_case("zero_lengths", _SMALL),
    edge_case("ntc", _WIDE),
    edge_case("transposed", _SMALL),
    edge_case("sliced", _WIDE),
    edge_case("class_first", _SMALL),
    edge_case("unbatched", _SMALL),
    edge_case("lists", _WIDE),
    edge_case("all_blank", _SMALL),
    edge_case("one_label", _WIDE),
    edge_case("changing", _SMALL),
    edge_case("confident", _SMALL),
    edge_case("confident", _WIDE),
    edge_case("scaled", _SMALL),
    edge_case("shifted", _WIDE),
    Case("one class", {"T": 5, "N": 2, "C": 1}),
    Case("no utterances", {"T": 5, "N": 0, "C": 7}),
    Case("no frames", {"T": 0, "N": 3, "C": 7}),
    Case("nothing", {"T": 0, "N": 0, "C": 7}),
)

_FULL_CASES = (
    *(Case(f"{t} frames", {"T": t, "N": 2, "C": 30}) for t in (31, 32, 33, 511, 512, 513, 1025, 2049)),
    *(Case(f"{c} classes", {"T": 20, "N": 2, "C": c}) for c in (2, 15, 16, 17, 63, 64, 65, 1003, 4099, 8200)),
    Case("hours", {"T": 180_000, "N": 1, "C": 32}),
)


def _flops(case: Case) -> float:
    """12 for an exponential, 2 comparisons."""
    return 14.0 * case["T"] * case["N"] * case["C"]


def _bytes(case: Case, dtype: torch.dtype) -> tuple[int, int]:
    """Logits are read; ids, starts and ends written.  There is no backward."""
    frames = case["T"] * case["N"]
    return frames * (case["C"] * dtype.itemsize + 24), 0


def _traffic(kwargs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    logits = kwargs["logits"]
    return logits, logits.new_empty((*logits.shape[:-1], 3), dtype=torch.int64)


SPECS = (
    OpSpec(
        "ctc_greedy_decode",
        function=ctc_greedy_decode,
        explain=explain,
        reference=reference.ctc_greedy_decode,
        inputs=_inputs,
        differentiable=(),
        dtypes=(torch.float32, torch.bfloat16, torch.float16, torch.float64),
        cases=_CASES,
        full=_FULL_CASES,
        edges=_EDGE_CASES,
        bad_inputs=BAD_LOGITS,
        bench=(
            Case("words", {"T": 500, "N": 16, "C": 1000}, {}, "full_lengths"),
            Case("many pieces", {"T": 1500, "N": 8, "C": 5000}, {}, "full_lengths"),
            Case("short characters", {"T": 200, "N": 32, "C": 32}, {}, "full_lengths"),
            Case("long characters", {"T": 2000, "N": 4, "C": 128}, {}, "full_lengths"),
        ),
        # A sum over classes, then one over frames.
        depth=lambda case: max(case["T"], 1) + case["C"],
        limit=lambda output, dtype: None,
        flops=_flops,
        bytes=_bytes,
        traffic=_traffic,
    ),
)
