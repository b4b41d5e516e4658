"""What tests, verification and benchmarks need to know about ``ctc_loss``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core.spec import BadInput, Case, OpSpec
from lisa_kernels.ops.ctc import option_cases, reference
from lisa_kernels.ops.ctc.op import ctc_loss, explain


def _inputs(case: Case, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> dict[str, Any]:
    """Random logits, labels other than blank, and lengths; the first utterance is always full."""
    frames, batch, classes, labels = (case[size] for size in "TNCS")
    blank = case.options.get("blank", 0)
    logits = torch.randn(frames, batch, classes, generator=generator)
    targets = torch.randint(0, max(classes - 1, 1), (batch, labels), generator=generator)
    targets = (targets + (targets >= blank)).clamp(max=classes - 1)
    logit_lengths = torch.randint(frames - frames // 3, frames + 1, (batch,), generator=generator)
    target_lengths = torch.randint(labels // 2, labels + 1, (batch,), generator=generator)
    if batch:
        logit_lengths[0], target_lengths[0] = frames, labels
    kwargs = {
        "logits": logits,
        "targets": targets,
        "logit_lengths": logit_lengths,
        "target_lengths": target_lengths,
        **case.options,
    }
    if case.edge:
        _EDGES[case.edge](kwargs)
    kwargs["logits"] = kwargs["logits"].to(device=device, dtype=dtype)
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in kwargs.items()}


def _full_lengths(kwargs: dict[str, Any]) -> None:
    kwargs["logit_lengths"][:] = kwargs["logits"].shape[0]
    kwargs["target_lengths"][:] = kwargs["targets"].shape[1]


def _peaked(kwargs: dict[str, Any]) -> None:
    """Logits of a converged model: one path through blank and labels leads by 9 nats."""
    logits, targets = kwargs["logits"], kwargs["targets"]
    _full_lengths(kwargs)
    frames, batch, _ = logits.shape
    logits[:, :, 0] += 9
    steps = torch.linspace(0, frames - 1, targets.shape[1]).long()
    for n in range(batch):
        logits[steps, n, 0] -= 9
        logits[steps, n, targets[n]] += 9


def _scaled(kwargs: dict[str, Any]) -> None:
    kwargs["logits"] *= 1000


def _shifted(kwargs: dict[str, Any]) -> None:
    kwargs["logits"] += 3000


def _huge(kwargs: dict[str, Any]) -> None:
    kwargs["logits"] *= 1e5


def _tiny(kwargs: dict[str, Any]) -> None:
    kwargs["logits"] *= 1e-30


def _log_probs(kwargs: dict[str, Any]) -> None:
    kwargs["logits"] = kwargs["logits"].log_softmax(-1)


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


def _concatenated(kwargs: dict[str, Any]) -> None:
    lengths = kwargs["target_lengths"].tolist()
    kwargs["targets"] = torch.cat([row[:length] for row, length in zip(kwargs["targets"], lengths, strict=True)])


def _unbatched(kwargs: dict[str, Any]) -> None:
    kwargs["logits"] = kwargs["logits"][:, 0]
    kwargs["targets"] = kwargs["targets"][0]
    kwargs["logit_lengths"], kwargs["target_lengths"] = kwargs["logit_lengths"][0], kwargs["target_lengths"][0]


def _lists(kwargs: dict[str, Any]) -> None:
    kwargs["logit_lengths"] = kwargs["logit_lengths"].tolist()
    kwargs["target_lengths"] = tuple(kwargs["target_lengths"].tolist())
    kwargs["targets"] = kwargs["targets"].int()


def _repeats(kwargs: dict[str, Any]) -> None:
    kwargs["targets"][:] = 1 + kwargs["targets"] % 2


def _all_equal(kwargs: dict[str, Any]) -> None:
    kwargs["targets"][:] = kwargs["targets"].shape[1] and kwargs["targets"][0, 0]


def _label_is_blank(kwargs: dict[str, Any]) -> None:
    kwargs["targets"][:, ::3] = kwargs.get("blank", 0)


def _padding(kwargs: dict[str, Any]) -> None:
    """Padding that must never be looked at: NaN frames, labels of -100 and beyond C."""
    logits, targets = kwargs["logits"], kwargs["targets"]
    for n in range(targets.shape[0]):
        logits[kwargs["logit_lengths"][n] :, n] = (float("nan"), float("inf"))[n % 2]
        targets[n, kwargs["target_lengths"][n] :] = (-100, 10**9)[n % 2]


def _short(kwargs: dict[str, Any]) -> None:
    """Some utterances have too few frames for their target, by one frame or by all; some just enough."""
    targets, labels = kwargs["targets"], kwargs["targets"].shape[1]
    kwargs["target_lengths"][:] = labels
    for n, row in enumerate(targets):
        need = labels + int((row[1:] == row[:-1]).sum())
        kwargs["logit_lengths"][n] = (need - 1, 0, need, need + 1)[n % 4]


def _empty_targets(kwargs: dict[str, Any]) -> None:
    kwargs["target_lengths"][::2] = 0
    kwargs["logit_lengths"][2:] = 0


def _unused_class_impossible(kwargs: dict[str, Any]) -> None:
    targets = kwargs["targets"]
    targets[targets == 5] = 6
    kwargs["logits"][:, :, 5] = -float("inf")


def _target_class_impossible(kwargs: dict[str, Any]) -> None:
    """A class of the target at -inf: for the first utterance in some frames, for the second in all."""
    targets = kwargs["targets"]
    kwargs["logits"][::3, 0, targets[0, 0]] = -float("inf")
    kwargs["logits"][:, 1, targets[1, 0]] = -float("inf")


def _nan(kwargs: dict[str, Any]) -> None:
    kwargs["logits"][2, 1, 3] = float("nan")


def _infinite(kwargs: dict[str, Any]) -> None:
    kwargs["logits"][2, 1, 3] = float("inf")


def _all_impossible(kwargs: dict[str, Any]) -> None:
    kwargs["logits"][2, 1] = -float("inf")


_EDGES = {
    name.removeprefix("_"): function
    for name, function in list(globals().items())
    if name.startswith("_") and getattr(function, "__annotations__", {}).get("kwargs") == "dict[str, Any]"
} | option_cases.EDGES
_SMALL = {"T": 24, "N": 4, "C": 9, "S": 6}
_WIDE = {"T": 24, "N": 4, "C": 40, "S": 6}


def _edge(edge: str, sizes: dict[str, int], **options: Any) -> Case:
    suffix = "".join(f", {key}={value}" for key, value in options.items())
    return Case(edge.replace("_", " ") + suffix + f", C={sizes['C']}", sizes, options, edge)


_CASES = (
    Case("odd", {"T": 7, "N": 3, "C": 11, "S": 2}),
    Case("one frame, one label", {"T": 1, "N": 1, "C": 2, "S": 1}),
    # 17 and 33 cross the vectors of 4, 8 and 16 lanes; S + 1 > C stores occupancies by class.
    Case("more labels than classes", {"T": 67, "N": 3, "C": 17, "S": 33}),
    Case("more classes than labels", {"T": 50, "N": 3, "C": 131, "S": 15}, {"reduction": "sum"}),
    Case("one utterance", {"T": 96, "N": 1, "C": 64, "S": 16}, {"reduction": "none"}),
    Case("blank is last", {"T": 40, "N": 5, "C": 33, "S": 8}, {"blank": 32}),
)

_EDGE_CASES = (
    *(_edge("padding", sizes) for sizes in (_SMALL, _WIDE)),
    *(_edge("concatenated", sizes) for sizes in (_SMALL, _WIDE)),
    *(_edge("repeats", sizes) for sizes in (_SMALL, _WIDE)),
    *(_edge("label_is_blank", sizes) for sizes in (_SMALL, _WIDE)),
    *(_edge("short", sizes, zero_infinity=z, reduction="none") for sizes in (_SMALL, _WIDE) for z in (False, True)),
    _edge("short", _WIDE, reduction="mean"),
    _edge("all_equal", _SMALL),
    _edge("empty_targets", _WIDE, reduction="none"),
    _edge("log_probs", _SMALL),
    _edge("ntc", _WIDE),
    _edge("transposed", _SMALL),
    _edge("sliced", _WIDE),
    _edge("class_first", _SMALL),
    _edge("unbatched", _SMALL, reduction="none"),
    _edge("lists", _WIDE),
    _edge("scaled", _SMALL),
    _edge("shifted", _WIDE),
    _edge("huge", _SMALL),
    _edge("tiny", _SMALL),
    _edge("peaked", _SMALL),
    _edge("unused_class_impossible", _SMALL),
    _edge("target_class_impossible", _SMALL, reduction="none"),
    *(_edge("nan", _SMALL, zero_infinity=z, reduction="none") for z in (False, True)),
    _edge("infinite", _WIDE, reduction="none"),
    _edge("all_impossible", _SMALL, reduction="none"),
    Case("one class", {"T": 5, "N": 2, "C": 1, "S": 0}),
    Case("no labels", {"T": 9, "N": 3, "C": 4, "S": 0}),
    *(Case(f"no utterances, {r}", {"T": 5, "N": 0, "C": 7, "S": 3}, {"reduction": r}) for r in ("none", "sum", "mean")),
    Case("no frames", {"T": 0, "N": 3, "C": 7, "S": 3}, {"reduction": "none"}),
    Case("no frames, no labels", {"T": 0, "N": 3, "C": 7, "S": 0}, {"reduction": "none"}),
)

_FULL_CASES = (
    # The 8-frame blocks of the recursion and its chunks of stored states.
    *(Case(f"{t} frames", {"T": t, "N": 2, "C": 30, "S": 5}) for t in (8, 9, 16, 17, 2049)),
    *(Case(f"{s} labels", {"T": 150, "N": 2, "C": 21, "S": s}) for s in (14, 15, 16, 17, 31, 32, 33, 63, 64)),
    *(Case(f"{s} labels", {"T": s + 41, "N": 1, "C": 21, "S": s}) for s in (512, 513, 1100)),
    *(Case(f"{t} frames, {s} labels", {"T": t, "N": 3, "C": 40, "S": s}) for t, s in ((1, 0), (1, 1), (2, 1), (2, 3))),
    *(Case(f"{c} classes", {"T": 20, "N": 2, "C": c, "S": 4}) for c in (2, 15, 16, 17, 63, 64, 65, 1003)),
    Case("long target", {"T": 1500, "N": 2, "C": 100, "S": 700}),
    Case("2000 frames", {"T": 2000, "N": 2, "C": 50, "S": 100}),
    Case("16000 frames", {"T": 16000, "N": 2, "C": 50, "S": 100}),
    Case("16000 frames, peaked", {"T": 16000, "N": 1, "C": 50, "S": 400}, {}, "peaked"),
    Case("16000 frames, scaled", {"T": 16000, "N": 2, "C": 50, "S": 100}, {}, "scaled"),
)


def _with(**changes: Any) -> Any:
    return lambda good: {**good, **changes}


def _replace_item(argument: str, index: Any, value: int) -> Any:
    def change(good: dict[str, Any]) -> dict[str, Any]:
        changed = good[argument].clone()
        changed[index] = value
        return {**good, argument: changed}

    return change


_BAD_INPUTS = (
    BadInput("logits are a list", _with(logits=[1.0]), TypeError, "logits is list"),
    BadInput(
        "logits have 4 dimensions", _with(logits=torch.zeros(2, 2, 2, 2)), ValueError, "logits has shape (2, 2, 2, 2)"
    ),
    BadInput(
        "logits are integers", _with(logits=torch.zeros(7, 3, 11, dtype=torch.int64)), TypeError, "logits is int64"
    ),
    BadInput("no class", _with(logits=torch.zeros(7, 3, 0)), ValueError, "logits has shape (7, 3, 0)"),
    BadInput("blank beyond the classes", _with(blank=11), ValueError, "blank is 11"),
    BadInput("blank is negative", _with(blank=-1), ValueError, "blank is -1"),
    BadInput("blank is no integer", _with(blank=1.5), TypeError, "blank is 1.5 (float)"),
    BadInput("unknown reduction", _with(reduction="avg"), ValueError, "reduction is 'avg'"),
    BadInput("unknown layout", _with(layout="NCT"), ValueError, "layout is 'NCT'"),
    BadInput("zero_infinity is no bool", _with(zero_infinity="yes"), TypeError, "zero_infinity is 'yes' (str)"),
    BadInput("targets are floats", lambda g: {**g, "targets": g["targets"].float()}, TypeError, "targets is float32"),
    BadInput(
        "targets have 3 dimensions",
        lambda g: {**g, "targets": g["targets"][None]},
        ValueError,
        "targets has shape (1, 3, 2)",
    ),
    BadInput(
        "targets of another batch", lambda g: {**g, "targets": g["targets"][:2]}, ValueError, "targets has shape (2, 2)"
    ),
    BadInput(
        "targets on another device",
        lambda g: {**g, "targets": g["targets"].to("meta")},
        ValueError,
        "targets is on meta",
    ),
    BadInput("label beyond the classes", _replace_item("targets", (0, 1), 11), ValueError, "targets[0, 1] is 11"),
    BadInput("label is negative", _replace_item("targets", (0, 0), -1), ValueError, "targets[0, 0] is -1"),
    BadInput(
        "concatenated targets of another total",
        lambda g: {**g, "targets": torch.ones(50, dtype=torch.int64, device=g["targets"].device)},
        ValueError,
        "targets has shape (50,)",
    ),
    BadInput(
        "lengths are floats",
        lambda g: {**g, "logit_lengths": g["logit_lengths"].float()},
        TypeError,
        "logit_lengths is float32",
    ),
    BadInput("lengths are strings", _with(target_lengths=["a", "b", "c"]), TypeError, "target_lengths is list"),
    BadInput("lengths of another batch", _with(logit_lengths=[7, 7]), ValueError, "logit_lengths has shape (2,)"),
    BadInput(
        "lengths have 2 dimensions",
        lambda g: {**g, "target_lengths": g["target_lengths"][None]},
        ValueError,
        "target_lengths has shape (1, 3)",
    ),
    BadInput("more frames than T", _replace_item("logit_lengths", 1, 8), ValueError, "logit_lengths[1] is 8"),
    BadInput("negative frames", _replace_item("logit_lengths", 2, -1), ValueError, "logit_lengths[2] is -1"),
    BadInput("more labels than S", _replace_item("target_lengths", 1, 3), ValueError, "target_lengths[1] is 3"),
    BadInput("negative labels", _replace_item("target_lengths", 0, -2), ValueError, "target_lengths[0] is -2"),
)


def _depth(case: Case) -> int:
    """A frame of the recursion rounds about four times: two additions, the emission, its product.

    The definition rounds relative to log-probabilities.  Of logits ×1000 those are 500 times as large (loss 3.3e7
    instead of 6.7e4 nats at T = 16,000), and its own fp64 error is 8e-10 of the gradient: counted as ten times the
    roundings.
    """
    return (40 if case.edge in ("scaled", "scaled_star") else 4) * case["T"]


def _limit(output: str, dtype: torch.dtype) -> float | None:
    """The promise: gradient error at most 5e-6 of the largest gradient, for T up to 16,000."""
    return 5e-6 if output == "grad_logits" and dtype == torch.float32 else None


def _flops(case: Case) -> float:
    """Per logit and pass 12 for an exponential; per state and frame 9 each for alpha, beta and the posterior."""
    frames, batch, classes, labels = (case[size] for size in "TNCS")
    return frames * batch * (2 * 12 * classes + 27 * (2 * labels + 1))


def _bytes(case: Case, dtype: torch.dtype) -> tuple[int, int]:
    """Forward reads the logits, backward reads them and writes the gradient; occupancies are written and read."""
    dense = case["T"] * case["N"] * case["C"] * dtype.itemsize
    real = 8 if dtype == torch.float64 else 4
    occupancy = real * case["T"] * case["N"] * min(case["S"] + 1, case["C"])
    return dense + occupancy, 2 * dense + occupancy


def _traffic(kwargs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    return kwargs["logits"], torch.empty_like(kwargs["logits"])


SPECS = (
    OpSpec(
        "ctc_loss",
        function=ctc_loss,
        explain=explain,
        reference=reference.ctc_loss,
        inputs=_inputs,
        differentiable=("logits",),
        dtypes=(torch.float32, torch.bfloat16, torch.float16, torch.float64),
        cases=_CASES,
        full=_FULL_CASES,
        edges=_EDGE_CASES + option_cases.CASES,
        bad_inputs=_BAD_INPUTS + option_cases.BAD_INPUTS,
        bench=(
            Case("words", {"T": 500, "N": 16, "C": 1000, "S": 80}, {}, "full_lengths"),
            Case("many pieces", {"T": 1500, "N": 8, "C": 5000, "S": 200}, {}, "full_lengths"),
            Case("short characters", {"T": 200, "N": 32, "C": 32, "S": 40}, {}, "full_lengths"),
            Case("long characters", {"T": 2000, "N": 4, "C": 128, "S": 400}, {}, "full_lengths"),
        ),
        depth=_depth,
        limit=_limit,
        flops=_flops,
        bytes=_bytes,
        traffic=_traffic,
    ),
)
