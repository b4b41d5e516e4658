"""What tests, verification and benchmarks need to know about ``ctc_greedy_decode``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core.spec import BadInput, Case, OpSpec
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
    if case.edge:
        _EDGES[case.edge](kwargs)
    kwargs["logits"] = kwargs["logits"].to(device=device, dtype=dtype)
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in kwargs.items()}


def _full_lengths(kwargs: dict[str, Any]) -> None:
    kwargs["logit_lengths"][:] = kwargs["logits"].shape[0]


def _no_lengths(kwargs: dict[str, Any]) -> None:
    del kwargs["logit_lengths"]


def _zero_lengths(kwargs: dict[str, Any]) -> None:
    kwargs["logit_lengths"][::2] = 0


def _padding(kwargs: dict[str, Any]) -> None:
    """Frames beyond the lengths must never be looked at."""
    for n, length in enumerate(kwargs["logit_lengths"].tolist()):
        kwargs["logits"][length:, n] = (float("nan"), float("inf"))[n % 2]


def _ntc(kwargs: dict[str, Any]) -> None:
    kwargs["logits"] = kwargs["logits"].transpose(0, 1).contiguous()
    kwargs["layout"] = "NTC"


def _transposed(kwargs: dict[str, Any]) -> None:
    """[N, T, C] in memory, handed over as a [T, N, C] view."""
    kwargs["logits"] = kwargs["logits"].transpose(0, 1).contiguous().transpose(0, 1)


def _sliced(kwargs: dict[str, Any]) -> None:
    """Every second frame and the inner classes of a larger tensor."""
    frames, batch, classes = kwargs["logits"].shape
    large = torch.full((2 * frames, batch, classes + 5), float("nan"))
    large[::2, :, 3 : classes + 3] = kwargs["logits"]
    kwargs["logits"] = large[::2, :, 3 : classes + 3]


def _class_first(kwargs: dict[str, Any]) -> None:
    """Classes are not the dense axis, as after a Conv1d."""
    kwargs["logits"] = kwargs["logits"].permute(1, 2, 0).contiguous().permute(2, 0, 1)


def _unbatched(kwargs: dict[str, Any]) -> None:
    kwargs["logits"], kwargs["logit_lengths"] = kwargs["logits"][:, 0], kwargs["logit_lengths"][0]


def _lists(kwargs: dict[str, Any]) -> None:
    kwargs["logit_lengths"] = kwargs["logit_lengths"].tolist()


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


def _scaled(kwargs: dict[str, Any]) -> None:
    kwargs["logits"] *= 1000


def _shifted(kwargs: dict[str, Any]) -> None:
    kwargs["logits"] += 3000


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


_EDGES = {
    name.removeprefix("_"): function
    for name, function in list(globals().items())
    if name.startswith("_") and getattr(function, "__annotations__", {}).get("kwargs") == "dict[str, Any]"
}
_SMALL = {"T": 24, "N": 4, "C": 9}
_WIDE = {"T": 24, "N": 4, "C": 40}


def _edge(edge: str, sizes: dict[str, int], **options: Any) -> Case:
    suffix = "".join(f", {key}={value}" for key, value in options.items())
    return Case(edge.replace("_", " ") + suffix + f", C={sizes['C']}", sizes, options, edge)


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
    *(_edge("padding", sizes) for sizes in (_SMALL, _WIDE)),
    *(_edge("ties", sizes) for sizes in (_SMALL, _WIDE)),
    _edge("all_equal", _WIDE),
    _edge("all_equal", _SMALL, blank=3),
    _edge("nan", _SMALL),
    _edge("nan", _WIDE),
    _edge("infinite", _SMALL),
    _edge("minus_infinite", _WIDE),
    _edge("no_lengths", _SMALL),
    _edge("zero_lengths", _SMALL),
    _edge("ntc", _WIDE),
    _edge("transposed", _SMALL),
    _edge("sliced", _WIDE),
    _edge("class_first", _SMALL),
    _edge("unbatched", _SMALL),
    _edge("lists", _WIDE),
    _edge("all_blank", _SMALL),
    _edge("one_label", _WIDE),
    _edge("changing", _SMALL),
    _edge("confident", _SMALL),
    _edge("confident", _WIDE),
    _edge("scaled", _SMALL),
    _edge("shifted", _WIDE),
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


def _with(**changes: Any) -> Any:
    return lambda good: {**good, **changes}


def _length(index: int, value: int) -> Any:
    def change(good: dict[str, Any]) -> dict[str, Any]:
        changed = good["logit_lengths"].clone()
        changed[index] = value
        return {**good, "logit_lengths": changed}

    return change


_BAD_INPUTS = (
    BadInput("logits are a list", _with(logits=[1.0]), TypeError, "logits is list"),
    BadInput("logits have 4 dimensions", _with(logits=torch.zeros(2, 2, 2, 2)), ValueError, "logits has shape (2, 2"),
    BadInput("logits are integers", _with(logits=torch.zeros(7, 3, 11).long()), TypeError, "logits is int64"),
    BadInput("no class", _with(logits=torch.zeros(7, 3, 0)), ValueError, "logits has shape (7, 3, 0)"),
    BadInput("blank beyond the classes", _with(blank=11), ValueError, "blank is 11"),
    BadInput("blank is negative", _with(blank=-1), ValueError, "blank is -1"),
    BadInput("blank is no integer", _with(blank=1.5), TypeError, "blank is 1.5 (float)"),
    BadInput("unknown layout", _with(layout="NCT"), ValueError, "layout is 'NCT'"),
    BadInput("lengths are floats", _with(logit_lengths=[7.0, 7.0, 7.0]), TypeError, "logit_lengths is float32"),
    BadInput("lengths of another batch", _with(logit_lengths=[7, 7]), ValueError, "logit_lengths has shape (2,)"),
    BadInput("more frames than T", _length(1, 8), ValueError, "logit_lengths[1] is 8"),
    BadInput("negative frames", _length(2, -1), ValueError, "logit_lengths[2] is -1"),
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
        bad_inputs=_BAD_INPUTS,
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
