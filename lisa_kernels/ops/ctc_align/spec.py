"""What tests, verification and benchmarks need to know about ``ctc_align``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core.spec import BadInput, Case, OpSpec
from lisa_kernels.ops.ctc.problems import (
    BAD_LOGITS,
    EDGES,
    SMALL,
    WIDE,
    edge_case,
    edges_of,
    finish,
    given,
    random_problem,
    with_item,
)
from lisa_kernels.ops.ctc_align import reference
from lisa_kernels.ops.ctc_align.op import ctc_align, explain


def _inputs(case: Case, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> dict[str, Any]:
    """Those of ``ctc_loss``, and edges of an alignment."""
    own = _EDGES.get(case.edge)
    shared = None if own or not case.edge else EDGES[case.edge]
    kwargs = finish(random_problem(case, generator), shared, dtype=dtype, device=device)
    if dtype == torch.float64:
        # Random numbers made in fp32 would hide a step that goes through fp32.
        kwargs["logits"].mul_(1 + 1e-9)
    if own:
        own(kwargs)
    return kwargs


def _ties(kwargs: dict[str, Any]) -> None:
    """Logits of three whole numbers: most steps of the search have equally good ways."""
    kwargs["logits"] = kwargs["logits"].clamp(-1, 1).round()


def _all_tied(kwargs: dict[str, Any]) -> None:
    kwargs["logits"] = torch.zeros_like(kwargs["logits"])


def _priors(kwargs: dict[str, Any]) -> None:
    """Multiples of 1/8, so that half precision searches the sums that fp64 does."""
    classes = kwargs["logits"].shape[-1]
    kwargs["log_priors"] = -((torch.arange(classes, device=kwargs["logits"].device) * 37) % 64) / 8


def _stars(kwargs: dict[str, Any]) -> None:
    """Every third label and the last two, side by side."""
    kwargs["targets"][:, ::3] = kwargs["star"]
    kwargs["targets"][:, -2:] = kwargs["star"]


def _stars_on_a_confident_model(kwargs: dict[str, Any]) -> None:
    """1 - p(blank) is 1e-12, which cancels in fp32 if taken as it is written."""
    _stars(kwargs)
    kwargs["logits"][..., kwargs.get("blank", 0)] += 30


def _stars_and_priors(kwargs: dict[str, Any]) -> None:
    _stars(kwargs)
    _priors(kwargs)


def _crowded(kwargs: dict[str, Any]) -> None:
    """Repeats at the start alone, which a band of 1 leaves no room for; the second utterance has none."""
    kwargs["targets"][::2] = kwargs["targets"][0, 0]


_EDGES = edges_of(globals())
_LONG = {"T": 90, "N": 3, "C": 20, "S": 40}


_CASES = (
    Case("odd", {"T": 7, "N": 3, "C": 11, "S": 2}),
    Case("one frame, one label", {"T": 1, "N": 1, "C": 2, "S": 1}),
    # 17 and 33 cross the vectors of 4, 8 and 16 lanes; 32 labels are 33 positions.
    Case("more labels than classes", {"T": 67, "N": 3, "C": 17, "S": 33}),
    Case("more classes than labels", {"T": 50, "N": 3, "C": 131, "S": 15}),
    Case("a warp of labels", {"T": 80, "N": 1, "C": 64, "S": 32}),
    Case("blank is last", {"T": 40, "N": 5, "C": 33, "S": 8}, {"blank": 32}),
    Case("narrow band", _LONG, {"band": 2}),
)

_EDGE_CASES = (
    *(edge_case("padding", sizes) for sizes in (SMALL, WIDE)),
    *(edge_case("concatenated", sizes) for sizes in (SMALL, WIDE)),
    *(edge_case("repeats", sizes) for sizes in (SMALL, WIDE)),
    *(edge_case("label_is_blank", sizes) for sizes in (SMALL, WIDE)),
    *(edge_case("short", sizes) for sizes in (SMALL, WIDE)),
    edge_case("all_equal", SMALL),
    edge_case("empty_targets", WIDE),
    *(edge_case("ties", sizes) for sizes in (SMALL, _LONG)),
    edge_case("ties", _LONG, band=3),
    edge_case("all_tied", SMALL),
    edge_case("all_tied", _LONG, band=1),
    edge_case("log_probs", SMALL),
    edge_case("ntc", WIDE),
    edge_case("transposed", SMALL),
    edge_case("sliced", WIDE),
    edge_case("class_first", SMALL),
    edge_case("unbatched", SMALL),
    edge_case("lists", WIDE),
    edge_case("scaled", SMALL),
    edge_case("shifted", WIDE),
    edge_case("huge", SMALL),
    edge_case("tiny", SMALL),
    edge_case("peaked", SMALL),
    edge_case("unused_class_impossible", SMALL),
    edge_case("target_class_impossible", SMALL),
    edge_case("nan", SMALL),
    edge_case("nan", SMALL, band=1),
    edge_case("infinite", WIDE),
    edge_case("all_impossible", SMALL),
    edge_case("priors", WIDE),
    edge_case("stars", SMALL, star=9, star_penalty=0.5),
    edge_case("stars", WIDE, star=-1, blank=3),
    edge_case("stars_on_a_confident_model", SMALL, star=-1),
    edge_case("stars_and_priors", WIDE, star=40, star_penalty=-0.25, band=4),
    edge_case("crowded", SMALL, band=1),
    edge_case("concatenated", _LONG, band=4),
    edge_case("padding", _LONG, band=4),
    Case("one class", {"T": 5, "N": 2, "C": 1, "S": 0}),
    Case("one class and a star", {"T": 5, "N": 2, "C": 1, "S": 2}, {"star": -1}, "stars"),
    Case("no labels", {"T": 9, "N": 3, "C": 4, "S": 0}),
    Case("no labels, band", {"T": 9, "N": 3, "C": 4, "S": 0}, {"band": 2}),
    Case("no utterances", {"T": 5, "N": 0, "C": 7, "S": 3}),
    Case("no frames", {"T": 0, "N": 3, "C": 7, "S": 3}),
    Case("no frames, no labels", {"T": 0, "N": 3, "C": 7, "S": 0}),
)

_FULL_CASES = (
    *(Case(f"{t} frames", {"T": t, "N": 2, "C": 30, "S": 5}) for t in (8, 15, 16, 17, 33, 2049)),
    *(Case(f"{s} labels", {"T": 150, "N": 2, "C": 21, "S": s}) for s in (7, 8, 15, 16, 31, 32, 33, 63, 64)),
    *(Case(f"{s} labels", {"T": 1400, "N": 1, "C": 60, "S": s}) for s in (511, 512, 513, 1100)),
    *(Case(f"{c} classes", {"T": 20, "N": 2, "C": c, "S": 4}) for c in (2, 15, 16, 17, 63, 64, 65, 1003)),
    Case("long target", {"T": 1500, "N": 2, "C": 100, "S": 700}),
    Case("long target, band", {"T": 2500, "N": 2, "C": 100, "S": 1300}, {"band": 40}),
    Case("16000 frames", {"T": 16000, "N": 2, "C": 50, "S": 100}),
    Case("16000 frames, peaked", {"T": 16000, "N": 1, "C": 50, "S": 400}, {}, "peaked"),
    Case("16000 frames, scaled", {"T": 16000, "N": 2, "C": 50, "S": 100}, {}, "scaled"),
)


_BAD_INPUTS = (
    BadInput("targets are floats", lambda g: {**g, "targets": g["targets"].float()}, TypeError, "targets is float32"),
    BadInput("label beyond the classes", with_item("targets", (0, 1), 11), ValueError, "targets[0, 1] is 11"),
    BadInput(
        "label beyond the classes beside a star",
        lambda g: {**with_item("targets", (0, 1), 12)(g), "star": 11},
        ValueError,
        "targets[0, 1] is 12",
    ),
    BadInput("more labels than S", with_item("target_lengths", 1, 3), ValueError, "target_lengths[1] is 3"),
    BadInput("the star is a class", given(star=10), ValueError, "star is 10"),
    BadInput("the star is no integer", given(star=1.5), TypeError, "star is 1.5 (float)"),
    BadInput("an infinite penalty", given(star=11, star_penalty=float("inf")), ValueError, "star_penalty is inf"),
    BadInput("priors of another size", given(log_priors=torch.zeros(10)), ValueError, "log_priors has shape (10,)"),
    BadInput("a band of 0", given(band=0), ValueError, "band is 0"),
    BadInput("a band of a fraction", given(band=0.5), TypeError, "band is 0.5 (float)"),
)


def _depth(case: Case) -> int:
    """A score rounds as a log-softmax does; a total sums them in fp64."""
    return max(case["T"], 1)


def _flops(case: Case) -> float:
    """Per logit 12 for an exponential; per position and frame 3 comparisons and 2 additions."""
    frames, batch, classes, labels = (case[size] for size in "TNCS")
    width = labels if case.options.get("band") is None else min(labels, 2 * case.options["band"] + 1)
    return frames * batch * (12 * classes + 5 * (width + 1))


def _bytes(case: Case, dtype: torch.dtype) -> tuple[int, int]:
    """The logits are read; path, position and score of each frame are written."""
    real = 8 if dtype == torch.float64 else 4
    return case["T"] * case["N"] * (case["C"] * dtype.itemsize + 12 + real), 0


def _traffic(kwargs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    logits = kwargs["logits"]
    return logits, logits.new_empty((*logits.shape[:-1], 4), dtype=torch.float32)


SPECS = (
    OpSpec(
        "ctc_align",
        function=ctc_align,
        explain=explain,
        reference=reference.ctc_align,
        inputs=_inputs,
        differentiable=(),
        dtypes=(torch.float32, torch.bfloat16, torch.float16, torch.float64),
        cases=_CASES,
        full=_FULL_CASES,
        edges=_EDGE_CASES,
        bad_inputs=BAD_LOGITS + _BAD_INPUTS,
        bench=(
            Case("sentences", {"T": 1500, "N": 8, "C": 128, "S": 200}, {}, "full_lengths"),
            Case("many pieces", {"T": 1500, "N": 8, "C": 5000, "S": 200}, {}, "full_lengths"),
            Case("short characters", {"T": 200, "N": 32, "C": 32, "S": 40}, {}, "full_lengths"),
            # Four minutes; hours, where plain PyTorch needs 5 GB, are in tests/ops/test_ctc_align.py.
            Case("long audio", {"T": 6000, "N": 1, "C": 128, "S": 500}, {"band": 100}, "full_lengths"),
        ),
        depth=_depth,
        limit=lambda output, dtype: None,
        flops=_flops,
        bytes=_bytes,
        traffic=_traffic,
    ),
)
