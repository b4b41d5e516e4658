"""Problems that the CTC ops share: random ones, edges of their semantics, logits and lengths that they refuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core.spec import BadInput, Case

SMALL = {"T": 24, "N": 4, "C": 9, "S": 6}
WIDE = {"T": 24, "N": 4, "C": 40, "S": 6}
# Changes arguments into an edge: fp32 logits, whole lengths, padded targets where the op has any, on the CPU.
Edge = Callable[[dict[str, Any]], None]
Change = Callable[[dict[str, Any]], dict[str, Any]]


def random_problem(case: Case, generator: torch.Generator) -> dict[str, Any]:
    """Return random logits, labels other than blank, and lengths; the first utterance is always full."""
    frames, batch, classes, labels = (case[size] for size in "TNCS")
    blank = case.options.get("blank", 0)
    logits = torch.randn(frames, batch, classes, generator=generator)
    targets = torch.randint(0, max(classes - 1, 1), (batch, labels), generator=generator)
    targets = (targets + (targets >= blank)).clamp(max=classes - 1)
    logit_lengths = torch.randint(frames - frames // 3, frames + 1, (batch,), generator=generator)
    target_lengths = torch.randint(labels // 2, labels + 1, (batch,), generator=generator)
    if batch:
        logit_lengths[0], target_lengths[0] = frames, labels
    return {
        "logits": logits,
        "targets": targets,
        "logit_lengths": logit_lengths,
        "target_lengths": target_lengths,
        **case.options,
    }


def finish(kwargs: dict[str, Any], edge: Edge | None, *, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Return arguments with an edge, logits in their dtype, on the device."""
    if edge:
        edge(kwargs)
    kwargs["logits"] = kwargs["logits"].to(device=device, dtype=dtype)
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in kwargs.items()}


def edges_of(module: Mapping[str, Any]) -> dict[str, Edge]:
    """Return the edges among a module's ``globals()``, functions ``_<name>(kwargs)``, by name."""
    return {
        name.removeprefix("_"): function
        for name, function in module.items()
        if name.startswith("_") and getattr(function, "__annotations__", {}).get("kwargs") == "dict[str, Any]"
    }


def edge_case(edge: str, sizes: Mapping[str, int], **options: Any) -> Case:
    """Return the case of an edge, named after it, its options and its classes."""
    told = "".join(f", {name}={value}" for name, value in options.items())
    return Case(f"{edge.replace('_', ' ')}{told}, C={sizes['C']}", sizes, options, edge)


def given(**changes: Any) -> Change:
    """Return the change of a call that puts these arguments in."""
    return lambda good: {**good, **changes}


def with_item(argument: str, index: Any, value: int) -> Change:
    """Return the change of a call that puts a value into one of its tensors."""

    def change(good: dict[str, Any]) -> dict[str, Any]:
        changed = good[argument].clone()
        changed[index] = value
        return {**good, argument: changed}

    return change


def _full_lengths(kwargs: dict[str, Any]) -> None:
    kwargs["logit_lengths"][:] = kwargs["logits"].shape[0]
    if "targets" in kwargs:
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
    for name in kwargs.keys() & {"targets", "logit_lengths", "target_lengths"}:
        kwargs[name] = kwargs[name][0]


def _lists(kwargs: dict[str, Any]) -> None:
    kwargs["logit_lengths"] = kwargs["logit_lengths"].tolist()
    if "targets" in kwargs:
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
    for n, length in enumerate(kwargs["logit_lengths"].tolist()):
        kwargs["logits"][length:, n] = (float("nan"), float("inf"))[n % 2]
    if "targets" in kwargs:
        for n, length in enumerate(kwargs["target_lengths"].tolist()):
            kwargs["targets"][n, length:] = (-100, 10**9)[n % 2]


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


EDGES = edges_of(globals())

# Changes of a call with T = 7, N = 3, C = 11.
BAD_LOGITS = (
    BadInput("logits are a list", given(logits=[1.0]), TypeError, "logits is list"),
    BadInput(
        "logits have 4 dimensions", given(logits=torch.zeros(2, 2, 2, 2)), ValueError, "logits has shape (2, 2, 2, 2)"
    ),
    BadInput(
        "logits are integers", given(logits=torch.zeros(7, 3, 11, dtype=torch.int64)), TypeError, "logits is int64"
    ),
    BadInput("no class", given(logits=torch.zeros(7, 3, 0)), ValueError, "logits has shape (7, 3, 0)"),
    BadInput("blank beyond the classes", given(blank=11), ValueError, "blank is 11"),
    BadInput("blank is negative", given(blank=-1), ValueError, "blank is -1"),
    BadInput("blank is no integer", given(blank=1.5), TypeError, "blank is 1.5 (float)"),
    BadInput("unknown layout", given(layout="NCT"), ValueError, "layout is 'NCT'"),
    BadInput("lengths are floats", given(logit_lengths=[7.0, 7.0, 7.0]), TypeError, "logit_lengths is float32"),
    BadInput("lengths of another batch", given(logit_lengths=[7, 7]), ValueError, "logit_lengths has shape (2,)"),
    BadInput("more frames than T", with_item("logit_lengths", 1, 8), ValueError, "logit_lengths[1] is 8"),
    BadInput("negative frames", with_item("logit_lengths", 2, -1), ValueError, "logit_lengths[2] is -1"),
)
