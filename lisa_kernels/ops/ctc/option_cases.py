"""Cases of ``ctc_loss``'s options: stars, priors, weights, entropy and consistency, each where it hurts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from lisa_kernels.core.spec import BadInput, Case
from lisa_kernels.ops.ctc import problems
from lisa_kernels.ops.ctc.problems import SMALL, WIDE, Change, edge_case, edges_of, given

# More classes than one row of threads takes at once, and no multiple of a vector.
_BROAD = {"T": 11, "N": 2, "C": 1203, "S": 5}
_BOTH = {"entropy_weight": -0.3, "consistency_weight": 0.7}
ALL = {"star": -1, "star_penalty": 0.4, **_BOTH}


def _star_between(kwargs: dict[str, Any]) -> None:
    kwargs["targets"][:, 1::2] = kwargs["star"]


def _star_at_both_ends(kwargs: dict[str, Any]) -> None:
    kwargs["targets"][:, 0] = kwargs["star"]
    for row, length in zip(kwargs["targets"], kwargs["target_lengths"].tolist(), strict=True):
        row[length - 1] = kwargs["star"]


def _stars_alone(kwargs: dict[str, Any]) -> None:
    kwargs["targets"][:] = kwargs["star"]


def _star_and_padding(kwargs: dict[str, Any]) -> None:
    _star_between(kwargs)
    for n in range(kwargs["targets"].shape[0]):
        kwargs["logits"][kwargs["logit_lengths"][n] :, n] = float("nan")
        kwargs["targets"][n, kwargs["target_lengths"][n] :] = (kwargs["star"], -100)[n % 2]


def _star_concatenated(kwargs: dict[str, Any]) -> None:
    _star_between(kwargs)
    problems.EDGES["concatenated"](kwargs)


def _star_beside_a_sure_blank(kwargs: dict[str, Any]) -> None:
    """1 - p(blank) is 1e-12: a difference from 1 would leave nothing of it."""
    _star_between(kwargs)
    kwargs["logits"][:, :, kwargs.get("blank", 0)] += 30


def _star_without_blank(kwargs: dict[str, Any]) -> None:
    _star_between(kwargs)
    kwargs["logits"][::3, :, 0] = -float("inf")


def _star_and_blank_alone(kwargs: dict[str, Any]) -> None:
    """In one frame of one utterance no class but blank is possible."""
    _star_between(kwargs)
    kwargs["logits"][3, 1, 1:] = -float("inf")


def _scaled_star(kwargs: dict[str, Any]) -> None:
    _star_between(kwargs)
    kwargs["logits"] *= 1000


def _star_nan(kwargs: dict[str, Any]) -> None:
    _star_between(kwargs)
    kwargs["logits"][2, 1, 3] = float("nan")


def _priors(kwargs: dict[str, Any]) -> None:
    classes = kwargs["logits"].shape[-1]
    kwargs["log_priors"] = 0.5 * torch.linspace(-4, 3, classes).log_softmax(0)


def _priors_of_rare_classes(kwargs: dict[str, Any]) -> None:
    """Emissions far above 1."""
    kwargs["log_priors"] = torch.full(kwargs["logits"].shape[-1:], -30.0)


def _priors_and_star(kwargs: dict[str, Any]) -> None:
    _priors(kwargs)
    _star_between(kwargs)


def _weights(kwargs: dict[str, Any]) -> None:
    kwargs["weights"] = torch.linspace(0.5, 2, kwargs["logits"].shape[1])


def _weight_of_zero(kwargs: dict[str, Any]) -> None:
    """The utterance that is left out holds NaN."""
    _weights(kwargs)
    kwargs["weights"][1] = 0
    kwargs["logits"][:, 1] = float("nan")


def _classes_impossible(kwargs: dict[str, Any]) -> None:
    kwargs["targets"][kwargs["targets"] == 5] = 6
    kwargs["logits"][:, :, 5] = -float("inf")


def _lengths_of_views_differ(kwargs: dict[str, Any]) -> None:
    frames, batch, _ = kwargs["logits"].shape
    kwargs["logit_lengths"][:] = torch.tensor([frames, frames - 9, frames - 5, frames])[:batch]
    kwargs["target_lengths"][:] = torch.tensor([3, 6, 3, 6])[:batch]


def _one_view_is_short(kwargs: dict[str, Any]) -> None:
    """It has no alignment: nothing of it counts, nor is the other view held to it."""
    kwargs["logit_lengths"][0] = 2
    kwargs["target_lengths"][0] = kwargs["targets"].shape[1]


def _equal_views(kwargs: dict[str, Any]) -> None:
    half = kwargs["logits"].shape[1] // 2
    kwargs["logits"][:, half:] = kwargs["logits"][:, :half]


def _shifted_views(kwargs: dict[str, Any]) -> None:
    kwargs["logits"] += 3000
    kwargs["logits"][:, : kwargs["logits"].shape[1] // 2] -= 6000


EDGES = edges_of(globals())

CASES = (
    *(edge_case("star_between", sizes, star=-1, star_penalty=0.7) for sizes in (SMALL, WIDE, _BROAD)),
    edge_case("star_at_both_ends", WIDE, star=40),
    edge_case("stars_alone", SMALL, star=9, reduction="none"),
    *(edge_case("star_and_padding", sizes, star=-1, reduction="sum") for sizes in (SMALL, WIDE)),
    edge_case("star_concatenated", WIDE, star=77),
    edge_case("star_beside_a_sure_blank", SMALL, star=-1),
    edge_case("star_beside_a_sure_blank", WIDE, star=-1, blank=39),
    edge_case("star_without_blank", WIDE, star=-1),
    edge_case("star_and_blank_alone", SMALL, star=-1, reduction="none"),
    edge_case("scaled_star", WIDE, star=-1),
    edge_case("star_nan", SMALL, star=-1, reduction="none"),
    Case("star, one class", {"T": 5, "N": 2, "C": 1, "S": 0}, {"star": -1}),
    *(edge_case("priors", sizes) for sizes in (SMALL, WIDE)),
    edge_case("priors_of_rare_classes", SMALL),
    edge_case("priors_and_star", WIDE, star=-1),
    edge_case("weights", WIDE),
    edge_case("weight_of_zero", SMALL, reduction="none"),
    *(Case(f"entropy, C={sizes['C']}", sizes, {"entropy_weight": 0.4}) for sizes in (SMALL, _BROAD)),
    edge_case("classes_impossible", WIDE, **_BOTH),
    *(Case(f"consistency, C={sizes['C']}", sizes, {"consistency_weight": 0.2}) for sizes in (SMALL, WIDE, _BROAD)),
    edge_case("lengths_of_views_differ", WIDE, reduction="none", **_BOTH),
    edge_case("one_view_is_short", SMALL, reduction="none", zero_infinity=True, **_BOTH),
    edge_case("equal_views", WIDE, consistency_weight=1.0),
    edge_case("shifted_views", SMALL, consistency_weight=1.0),
    edge_case("star_between", WIDE, star=-1, reduction="none", **_BOTH),
    Case("all terms, no utterances", {"T": 5, "N": 0, "C": 7, "S": 3}, {"star": -1, **_BOTH}),
    Case("all terms, no frames", {"T": 0, "N": 4, "C": 7, "S": 3}, {"reduction": "none", **_BOTH}),
)


def _priors_of(make: Callable[[int], torch.Tensor]) -> Change:
    return lambda good: {**good, "log_priors": make(good["logits"].shape[-1]).to(good["logits"].device)}


BAD_INPUTS = (
    BadInput("star is a class", given(star=3), ValueError, "star is 3"),
    BadInput("star is no integer", given(star=1.5), TypeError, "star is 1.5 (float)"),
    BadInput("star_penalty is a string", given(star_penalty="1"), TypeError, "star_penalty is '1' (str)"),
    BadInput("log_priors are a list", given(log_priors=[0.0]), TypeError, "log_priors is list"),
    BadInput(
        "log_priors of other classes", _priors_of(lambda c: torch.zeros(c + 1)), ValueError, "log_priors has shape"
    ),
    BadInput(
        "log_priors require grad", _priors_of(lambda c: torch.zeros(c).requires_grad_()), ValueError,
        "log_priors requires grad",
    ),
    BadInput(
        "log_priors hold -inf", _priors_of(lambda c: torch.full((c,), -float("inf"))), ValueError,
        "log_priors[0] is -inf",
    ),
    BadInput("weights are a list", given(weights=[1.0, 1.0, 1.0]), TypeError, "weights is list"),
    BadInput("entropy_weight is a string", given(entropy_weight="a"), TypeError, "entropy_weight is 'a' (str)"),
    BadInput("views of an odd batch", given(consistency_weight=1.0), ValueError, "logits has N = 3 utterances"),
    BadInput("overwrite_logits is no bool", given(overwrite_logits=1), TypeError, "overwrite_logits is 1 (int)"),
)  # fmt: skip
