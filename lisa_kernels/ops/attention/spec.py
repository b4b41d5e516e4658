"""What tests, verification, benchmarks and offline compilation know of ``cross_modal_attention``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core.spec import BadInput, Case, OpSpec
from lisa_kernels.ops.attention import reference
from lisa_kernels.ops.attention.op import cross_modal_attention, explain
from lisa_kernels.ops.attention.problems import KINDS, count_visible, make_layouts, make_plan


def _inputs(case: Case, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> dict[str, Any]:
    plan = make_plan(case, device)
    kind = KINDS[case.edge]
    tokens, keys = len(plan.layout), len(plan.layout_k)
    if kind.fused:
        fused = torch.randn(tokens, 3, case["HQ"], case["D"], generator=generator)
        q, k, v = fused.to(device, dtype).unbind(1)
    else:
        shapes = ((tokens, case["HQ"], case["D"]), (keys, case["HK"], case["D"]), (keys, case["HK"], case["DV"]))
        q, k, v = (torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes)
    return {"q": q * kind.loud if kind.loud != 1 else q, "k": k, "v": v, "plan": plan, **case.options}


def _sizes(N: int, L: int, R: int, *, H: tuple[int, int], D: tuple[int, int], K: int = 0) -> dict[str, int]:
    return {"N": N, "L": L, "R": R, "HQ": H[0], "HK": H[1], "D": D[0], "DV": D[1], "K": K}


# Without lse a query that sees one key has a gradient of 0 but for rounding, and the judge takes it for unread.
_LSE = {"return_lse": True}
# Six types in groups of three: types are mixed inside each group of a key head.
_SIX = {"H": (6, 2), "D": (32, 32)}
_ONE = {"H": (2, 1), "D": (32, 32)}
# Few pairs of tiles and heads: each costs the emulator a second.
_CASES = (
    Case("within and cross", _sizes(2, 128, 9, **_ONE), _LSE, "even, packed"),
    Case("other keys", _sizes(2, 30, 7, **_ONE, K=40), _LSE, "other keys"),
    Case("sorted", _sizes(1, 60, 4, H=(2, 1), D=(64, 64)), _LSE, "sorted within and cross"),
    Case("three samples", _sizes(3, 128, 30, **_ONE), _LSE, "even, packed"),
)
# Every eighth, which quick looks take, is small as well.
_EDGES = (
    Case("no tokens", _sizes(0, 0, 1, **_SIX), _LSE),
    Case("one token", _sizes(1, 1, 1, **_SIX), _LSE),
    Case("six types", _sizes(3, 65, 9, **_SIX), _LSE),
    Case("six types, three tiles", _sizes(3, 95, 30, **_SIX), _LSE),
    Case("six types, sorted", _sizes(3, 60, 4, H=(6, 3), D=(64, 64)), _LSE, "sorted"),
    Case("six types, other keys", _sizes(3, 40, 7, **_SIX, K=55), _LSE, "other keys"),
    Case("wide values, one key head", _sizes(2, 70, 20, H=(3, 1), D=(72, 104)), {"scale": 0.2}, "within and cross"),
    Case("127 tokens", _sizes(1, 127, 1, **_ONE), _LSE, "causal"),
    Case("128 tokens", _sizes(1, 128, 1, **_ONE), _LSE, "causal"),
    Case("129 tokens", _sizes(1, 129, 1, **_ONE), _LSE, "causal"),
    Case("full tiles", _sizes(1, 260, 1, **_ONE), _LSE, "full"),
    Case("runs of one token", _sizes(2, 66, 1, **_SIX), _LSE),
    Case("many samples in a tile", _sizes(30, 5, 2, **_SIX), _LSE),
    Case("samples of 43 tokens", _sizes(6, 43, 43, **_SIX), _LSE, "one modality a sample"),
    Case("one modality a sample", _sizes(3, 60, 1, **_SIX), _LSE, "one modality a sample"),
    Case("padding", _sizes(3, 50, 8, **_SIX), _LSE, "padding"),
    Case("all padding", _sizes(1, 40, 8, **_SIX), _LSE, "all padding"),
    Case("sorted padding", _sizes(3, 50, 8, **_SIX), _LSE, "sorted padding"),
    Case("other keys, sorted", _sizes(3, 40, 7, **_SIX, K=55), _LSE, "other keys, sorted"),
    Case("samples without keys", _sizes(4, 40, 7, **_SIX, K=30), _LSE, "samples without keys"),
    Case("keys without queries", _sizes(4, 40, 7, **_SIX, K=30), _LSE, "keys without queries"),
    Case("one query for 60 keys", _sizes(5, 1, 20, **_ONE, K=60), _LSE, "text over images"),
    Case("five modalities", _sizes(2, 80, 6, **_SIX), _LSE, "five modalities"),
    Case("bidirectional", _sizes(2, 80, 12, **_ONE), _LSE, "bidirectional"),
    Case("no keys", _sizes(1, 20, 7, **_SIX, K=0), _LSE, "other keys"),
    Case("slices of a fused projection", _sizes(2, 70, 9, H=(6, 6), D=(32, 32)), _LSE, "fused"),
    Case("large scores", _sizes(2, 70, 9, **_SIX), _LSE, "loud"),
    Case("small scale", _sizes(2, 70, 9, **_SIX), {**_LSE, "scale": 1e-3}),
    *(
        Case(f"D = {d}, DV = {dv}", _sizes(1, 70, 9, H=(2, 1), D=(d, dv)), {}, "within and cross")
        for d, dv in ((80, 80), (96, 64), (104, 128), (128, 128), (40, 32), (192, 128), (256, 256))
    ),
)
_FULL_CASES = (
    Case("1000 tokens, six types", _sizes(3, 333, 40, H=(6, 2), D=(64, 64)), _LSE),
    Case("2000 tokens, causal", _sizes(2, 1000, 1, H=(2, 2), D=(128, 128)), _LSE, "causal"),
    Case("finely interleaved", _sizes(2, 700, 16, H=(8, 8), D=(64, 64)), _LSE, "even"),
    Case("80 wide", _sizes(2, 300, 20, H=(4, 2), D=(80, 80)), _LSE, "within and cross"),
)
# 6 heads within, 2 across.
_EIGHT = {"H": (8, 8), "D": (64, 64)}
_BENCH = (
    Case("text, image and speech", _sizes(7, 570, 190, **_EIGHT), {}, "blocks"),
    Case("ragged", _sizes(8, 570, 190, **_EIGHT), {}, "ragged"),
    Case("prefix LM", _sizes(7, 570, 190, **_EIGHT), {}, "prefix"),
    *(
        Case(f"runs of {run}", _sizes(samples, length, run, **_EIGHT), {}, "even")
        for run, samples, length in ((16, 4, 1024), (64, 4, 1024), (256, 5, 768), (576, 2, 1728), (1024, 1, 3072))
    ),
    Case("text over images", _sizes(8, 128, 128, **_EIGHT, K=576), {}, "text over images"),
    Case("images over 77 tokens of text", _sizes(4, 1024, 1024, **_EIGHT, K=77), {}, "images over text"),
    Case("dense causal", _sizes(2, 2048, 2048, **_EIGHT), {}, "causal"),
    Case("one query a sample", _sizes(16, 1, 1, **_EIGHT, K=1024), {}, "text over images"),
)


def _with(**changes: Any) -> Any:
    return lambda good: {**good, **changes}


def _changed(name: str, change: Any) -> Any:
    return lambda good: {**good, name: change(good[name])}


_BAD_INPUTS = (
    BadInput("q is a list", _with(q=[1.0]), TypeError, "q is list"),
    BadInput("q has 4 dimensions", _changed("q", lambda x: x[None]), ValueError, "q has shape (1, "),
    BadInput("q holds integers", _changed("q", lambda x: x.long()), TypeError, "q is int64"),
    BadInput("k of another dtype", _changed("k", lambda x: x.bfloat16()), TypeError, "k is bfloat16"),
    BadInput("v of another dtype", _changed("v", lambda x: x.bfloat16()), TypeError, "v is bfloat16"),
    BadInput("k on another device", _changed("k", lambda x: x.to("meta")), ValueError, "k is on meta"),
    BadInput(
        "plan on another device",
        lambda good: {**good, **{name: good[name].to("meta") for name in "qkv"}},
        ValueError,
        "q is on meta and plan on",
    ),
    BadInput("width of 20", _changed("q", lambda x: x[..., :20]), ValueError, "multiple of 8 from 32 to 256"),
    BadInput("width of 264", _changed("v", lambda x: x.repeat(1, 1, 9)[..., :264]), ValueError, "from 32 to 256"),
    BadInput("other widths of q and k", _changed("k", lambda x: x.repeat(1, 1, 2)), ValueError, "the width D of q"),
    BadInput("a query too few", _changed("q", lambda x: x[1:]), ValueError, "the number of queries of the plan"),
    BadInput("a key too few", _changed("k", lambda x: x[1:]), ValueError, "the number of keys of the plan"),
    BadInput("a value too few", _changed("v", lambda x: x[1:]), ValueError, "the number of keys"),
    BadInput("heads of another policy", _changed("q", lambda x: x[:, :1]), ValueError, "the plan's policy"),
    BadInput("heads that do not divide", _changed("k", lambda x: x.repeat(1, 3, 1)), ValueError, "must divide"),
    BadInput("no key heads", _changed("k", lambda x: x[:, :0]), ValueError, "must divide"),
    BadInput(
        "heads of v and k differ", _changed("v", lambda x: x.repeat(1, 2, 1)), ValueError, "the number of heads of k"
    ),
    BadInput("plan is a tensor", _changed("plan", lambda plan: plan.words), TypeError, "plan is Tensor"),
    BadInput("scale is negative", _with(scale=-1.0), ValueError, "scale is -1.0"),
    BadInput("scale is 0", _with(scale=0.0), ValueError, "scale is 0.0"),
    BadInput("scale is infinite", _with(scale=float("inf")), ValueError, "scale is inf"),
    BadInput("scale is a tensor", _with(scale=torch.ones(())), TypeError, "scale is Tensor"),
    BadInput("return_lse is no bool", _with(return_lse=1), TypeError, "return_lse is 1 (int)"),
)


def _depth(case: Case) -> int:
    """A product over D or DV, and a sum over the keys of a sample; gradients of keys sum over queries and heads."""
    kind = KINDS[case.edge]
    keys = max(case["L"], case["K"])
    # An error of a score is one of its exponential: it grows with the score.
    return int(kind.loud**2) * (case["D"] + case["DV"] + 2 * keys * max(1, case["HQ"] // case["HK"]))


def _flops(case: Case) -> float:
    """Two matrix products forward and five backward over the pairs that are seen: 14 * D each for D = DV."""
    return 2 * (4 * case["D"] + 3 * case["DV"]) * count_visible(case)


def _bytes(case: Case, dtype: torch.dtype) -> tuple[int, int]:
    """Forward reads q, k, v and writes out; backward reads these and grad_out and writes three gradients; lse twice."""
    layout, layout_k = make_layouts(case)
    tokens, keys = len(layout), len(layout if layout_k is None else layout_k)
    rows = tokens * case["HQ"]
    q, out = rows * case["D"] * dtype.itemsize, rows * case["DV"] * dtype.itemsize
    key_value = keys * case["HK"] * (case["D"] + case["DV"]) * dtype.itemsize
    return q + key_value + out + 4 * rows, 2 * q + 2 * key_value + 2 * out + 4 * rows


def _traffic(kwargs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    read = torch.cat([kwargs[name].detach().flatten() for name in "qkv"])
    return read, torch.empty_like(read)


SPECS = (
    OpSpec(
        "cross_modal_attention",
        function=cross_modal_attention,
        explain=explain,
        reference=reference.cross_modal_attention,
        inputs=_inputs,
        differentiable=("q", "k", "v"),
        dtypes=(torch.float32, torch.bfloat16, torch.float16),
        cases=_CASES,
        full=_FULL_CASES,
        edges=_EDGES,
        bad_inputs=_BAD_INPUTS,
        bench=_BENCH,
        depth=_depth,
        limit=lambda output, dtype: None,
        flops=_flops,
        bytes=_bytes,
        traffic=_traffic,
        # In sequence behind grad_q: weights, out (inside of delta), ds, the result.
        half_roundings=4,
    ),
)
