"""What tests, verification and benchmarks need to know about ``ctc_loss``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core.spec import BadInput, Case, OpSpec
from lisa_kernels.ops.ctc import option_cases, reference
from lisa_kernels.ops.ctc.op import ctc_loss, explain
from lisa_kernels.ops.ctc.problems import (
    BAD_LOGITS,
    EDGES,
    SMALL,
    WIDE,
    edge_case,
    finish,
    given,
    random_problem,
    with_item,
)


def _inputs(case: Case, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> dict[str, Any]:
    edge = _EDGES[case.edge] if case.edge else None
    return finish(random_problem(case, generator), edge, dtype=dtype, device=device)


_EDGES = EDGES | option_cases.EDGES

_CASES = (
    Case("odd", {"T": 7, "N": 3, "C": 11, "S": 2}),
    Case("one frame, one label", {"T": 1, "N": 1, "C": 2, "S": 1}),
    # 17 and 33 cross the vectors of 4, 8 and 16 lanes; S + 1 > C stores occupancies by class.
    Case("more labels than classes", {"T": 67, "N": 3, "C": 17, "S": 33}),
    Case("more classes than labels", {"T": 50, "N": 3, "C": 131, "S": 15}, {"reduction": "sum"}),
    Case("one utterance", {"T": 96, "N": 1, "C": 64, "S": 16}, {"reduction": "none"}),
    Case("blank is last", {"T": 40, "N": 5, "C": 33, "S": 8}, {"blank": 32}),
    *(
        Case(f"all options, C={classes}", {"T": 9, "N": 4, "C": classes, "S": labels}, option_cases.ALL)
        for classes, labels in ((11, 16), (30, 5), (300, 8), (1203, 4))
    ),
)

_EDGE_CASES = (
    *(edge_case("padding", sizes) for sizes in (SMALL, WIDE)),
    *(edge_case("concatenated", sizes) for sizes in (SMALL, WIDE)),
    *(edge_case("repeats", sizes) for sizes in (SMALL, WIDE)),
    *(edge_case("label_is_blank", sizes) for sizes in (SMALL, WIDE)),
    *(edge_case("short", sizes, zero_infinity=z, reduction="none") for sizes in (SMALL, WIDE) for z in (False, True)),
    edge_case("short", WIDE, reduction="mean"),
    edge_case("all_equal", SMALL),
    edge_case("empty_targets", WIDE, reduction="none"),
    edge_case("log_probs", SMALL),
    edge_case("ntc", WIDE),
    edge_case("transposed", SMALL),
    edge_case("sliced", WIDE),
    edge_case("class_first", SMALL),
    edge_case("unbatched", SMALL, reduction="none"),
    edge_case("lists", WIDE),
    edge_case("scaled", SMALL),
    edge_case("shifted", WIDE),
    edge_case("huge", SMALL),
    edge_case("tiny", SMALL),
    edge_case("peaked", SMALL),
    edge_case("unused_class_impossible", SMALL),
    edge_case("target_class_impossible", SMALL, reduction="none"),
    *(edge_case("nan", SMALL, zero_infinity=z, reduction="none") for z in (False, True)),
    edge_case("infinite", WIDE, reduction="none"),
    edge_case("all_impossible", SMALL, reduction="none"),
    Case("one class", {"T": 5, "N": 2, "C": 1, "S": 0}),
    Case("no labels", {"T": 9, "N": 3, "C": 4, "S": 0}),
    *(Case(f"no utterances, {r}", {"T": 5, "N": 0, "C": 7, "S": 3}, {"reduction": r}) for r in ("none", "sum", "mean")),
    Case("no frames", {"T": 0, "N": 3, "C": 7, "S": 3}, {"reduction": "none"}),
    Case("no frames, no labels", {"T": 0, "N": 3, "C": 7, "S": 0}, {"reduction": "none"}),
    # Targets of one warp, of several pairs a lane, of blocks and of strips.
    *(Case(f"{s} labels", {"T": s + 40, "N": 1, "C": 21, "S": s}) for s in (0, 1, 31, 32, 33, 512, 513, 1100)),
    *(Case(f"{t} frames, {s} labels", {"T": t, "N": 3, "C": 40, "S": s}) for t, s in ((1, 0), (1, 1), (2, 1), (2, 3))),
)

_FULL_CASES = (
    # The 8-frame blocks of the recursion and its chunks of stored states.
    *(Case(f"{t} frames", {"T": t, "N": 2, "C": 30, "S": 5}) for t in (8, 9, 16, 17, 2049)),
    *(Case(f"{s} labels", {"T": 150, "N": 2, "C": 21, "S": s}) for s in (14, 15, 16, 17, 63, 64)),
    *(Case(f"{c} classes", {"T": 20, "N": 2, "C": c, "S": 4}) for c in (2, 15, 16, 17, 63, 64, 65, 1003)),
    Case("long target", {"T": 1500, "N": 2, "C": 100, "S": 700}),
    Case("2000 frames", {"T": 2000, "N": 2, "C": 50, "S": 100}),
    Case("16000 frames", {"T": 16000, "N": 2, "C": 50, "S": 100}),
    Case("16000 frames, peaked", {"T": 16000, "N": 1, "C": 50, "S": 400}, {}, "peaked"),
    Case("16000 frames, scaled", {"T": 16000, "N": 2, "C": 50, "S": 100}, {}, "scaled"),
)


_BAD_INPUTS = (
    BadInput("unknown reduction", given(reduction="avg"), ValueError, "reduction is 'avg'"),
    BadInput("zero_infinity is no bool", given(zero_infinity="yes"), TypeError, "zero_infinity is 'yes' (str)"),
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
    BadInput("label beyond the classes", with_item("targets", (0, 1), 11), ValueError, "targets[0, 1] is 11"),
    BadInput("label is negative", with_item("targets", (0, 0), -1), ValueError, "targets[0, 0] is -1"),
    BadInput(
        "concatenated targets of another total",
        lambda g: {**g, "targets": torch.ones(50, dtype=torch.int64, device=g["targets"].device)},
        ValueError,
        "targets has shape (50,)",
    ),
    BadInput("lengths are strings", given(target_lengths=["a", "b", "c"]), TypeError, "target_lengths is list"),
    BadInput(
        "lengths have 2 dimensions",
        lambda g: {**g, "target_lengths": g["target_lengths"][None]},
        ValueError,
        "target_lengths has shape (1, 3)",
    ),
    BadInput("more labels than S", with_item("target_lengths", 1, 3), ValueError, "target_lengths[1] is 3"),
    BadInput("negative labels", with_item("target_lengths", 0, -2), ValueError, "target_lengths[0] is -2"),
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
        bad_inputs=BAD_LOGITS + _BAD_INPUTS + option_cases.BAD_INPUTS,
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
