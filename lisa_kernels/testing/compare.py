"""The only place of the repository that holds a tolerance.

An error is relative to the size of its tensor: the largest error to the largest value, the RMS error to the RMS value.
Both must stay within one bound, which follows from how often the op rounds, never from what a kernel happens to reach.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """An allowed relative error, and in words where it comes from."""

    value: float
    source: str


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What ``compare`` found.

    Attributes:
        name: The tensor's name.
        passed: Whether the tensor is within its bound.
        error: Relative error, largest or RMS, whichever is closer to its bound; inf where inf or NaN stand elsewhere.
        bound: What that error may be.
        source: Where the bound comes from.
        message: What is wrong and where; empty when passed.
    """

    name: str
    passed: bool
    error: float
    bound: float
    source: str
    message: str = ""


def tolerance(dtype: torch.dtype, depth: int = 1, half_roundings: int = 1) -> Tolerance:
    """Return the relative error allowed for a result of ``dtype`` behind ``depth`` roundings in sequence.

    Independent roundings add up as their square root: half an ulp each.  Four more ulps stand for what does not grow
    with the size: exponentials, divisions, the conversion of constants.  fp32 and half precision are computed in fp32;
    half results are rounded once more, or as often as the operands of a second matrix product make it.  An fp64 result
    has no judge finer than itself: both round alike, and by as much as their algorithms differ.  So it is asked only
    that no step was left to fp32: the step is the geometric mean of both precisions.  Integers and bools must be equal.

    Args:
        dtype: The result's dtype.
        depth: Roundings in sequence, at least 1: terms of the longest sum or steps of the longest recursion.
        half_roundings: Roundings to half precision in sequence, for half results: 1 where only the result is rounded.

    Raises:
        ValueError: ``depth`` is below 1.
    """
    if depth < 1:
        raise ValueError(f"tolerance: depth is {depth}; it takes 1 or more roundings in sequence.")
    if not dtype.is_floating_point:
        return Tolerance(0.0, f"{_short(dtype)} is exact")
    eps, step = torch.finfo(torch.float32).eps, "fp32 ulps"
    if dtype == torch.float64:
        eps, step = math.sqrt(eps * torch.finfo(dtype).eps), "ulps midway fp32-fp64"
    value = eps * (4 + math.sqrt(depth) / 2)
    source = f"4 + sqrt({depth})/2 {step}"
    if dtype.itemsize < 4:
        value += math.sqrt(half_roundings) * torch.finfo(dtype).eps / 2 * (1 + value)
        source += f" + {'' if half_roundings == 1 else f'sqrt({half_roundings}) x '}1/2 {_short(dtype)} ulp"
    return Tolerance(value, source)


def compare(
    got: Tensor,
    reference: Tensor,
    *,
    depth: int = 1,
    half_roundings: int = 1,
    baseline: Tensor | None = None,
    limit: float | None = None,
    name: str = "output",
) -> Comparison:
    """Return how far ``got`` is from ``reference``.  Arguments as ``assert_matches``."""
    got, reference = got.detach().cpu(), reference.detach().cpu()
    allowed = tolerance(got.dtype, depth, half_roundings)
    if got.shape != reference.shape:
        message = f"{name}: shape is {tuple(got.shape)}; expected {tuple(reference.shape)}."
        return Comparison(name, False, math.inf, allowed.value, allowed.source, message)
    if not got.dtype.is_floating_point:
        return _compare_exact(got, reference, allowed, name)
    wide = reference.double()
    strange = _same_kind(got.double(), wide).logical_not()
    if strange.any():
        message = _describe(
            name, got, wide, _first(strange), "inf and NaN must stand where they stand in the reference"
        )
        return Comparison(name, False, math.inf, allowed.value, allowed.source, message)
    finite = wide.isfinite()
    bounds, sources = [allowed.value, allowed.value], [allowed.source, allowed.source]
    if baseline is not None:
        own = _errors(baseline.detach().cpu(), wide, finite, _floor(got.dtype))
        for i in (0, 1):
            if 2 * own[i] > bounds[i]:
                bounds[i], sources[i] = 2 * own[i], "2 x the baseline's error"
    # A promise is about the largest error: the RMS of few large values among small ones says nothing about it.
    if limit is not None and limit < bounds[0]:
        bounds[0], sources[0] = limit, "promise of the op"
    errors = _errors(got, wide, finite, _floor(got.dtype))
    return _judge(name, got, wide, errors, bounds, sources)


def assert_matches(
    got: Tensor,
    reference: Tensor,
    *,
    depth: int = 1,
    half_roundings: int = 1,
    baseline: Tensor | None = None,
    limit: float | None = None,
    name: str = "output",
) -> None:
    """Raise AssertionError unless ``got`` equals ``reference`` but for the roundings it may have.

    Args:
        got: The result under test; its dtype sets the tolerance.
        reference: The same in fp64, from the same (rounded) inputs; any shape, equal to that of ``got``.
        depth: Roundings in sequence behind an element, see ``tolerance``.
        half_roundings: Of half results, see ``tolerance``.
        baseline: The same result from another trusted implementation: twice its error is allowed too.
        limit: Largest relative error that the op promises; caps the bound.
        name: What to call the tensor in the message.

    Raises:
        AssertionError: With the name, the first bad coordinates, both values, the bound and where it comes from.
    """
    result = compare(
        got, reference, depth=depth, half_roundings=half_roundings, baseline=baseline, limit=limit, name=name
    )
    if not result.passed:
        raise AssertionError(result.message)


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors hold the same bits; all NaN count as equal."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not a.dtype.is_floating_point:
        return torch.equal(a, b)
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.dtype.itemsize]
    equal = a.detach().view(bits) == b.detach().view(bits)
    return bool((equal | (a.isnan() & b.isnan())).all())


def _judge(
    name: str, got: Tensor, wide: Tensor, errors: tuple[float, float], bounds: list[float], sources: list[str]
) -> Comparison:
    # Largest and RMS error; the one closer to its bound is reported.
    worst = max((0, 1), key=lambda i: _ratio(errors[i], bounds[i]))
    error, bound, source = errors[worst], bounds[worst], sources[worst]
    if error <= bound:
        return Comparison(name, True, error, bound, source)
    distance = (got.double() - wide).abs().nan_to_num(0.0)
    scale = wide[wide.isfinite()].abs().max()
    beyond = distance > (bound * scale + _floor(got.dtype))
    where = _first(beyond) if beyond.any() else _first(distance == distance.max())
    kind = ("largest error over largest value", "RMS error over RMS value")[worst]
    count = f", {int(beyond.sum())} of {beyond.numel()} elements beyond it" if beyond.any() else ""
    message = _describe(name, got, wide, where, f"{kind} {error:.2e}; bound {bound:.2e} ({source}){count}")
    return Comparison(name, False, error, bound, source, message)


def _ratio(error: float, bound: float) -> float:
    return error / bound if bound else math.inf * error if error else 0.0


def _errors(got: Tensor, wide: Tensor, finite: Tensor, floor: float) -> tuple[float, float]:
    """Largest error over largest value, and RMS error over RMS value, of the finite elements."""
    if not finite.any():
        return 0.0, 0.0
    distance = ((got.double() - wide)[finite].abs() - floor).clamp(min=0)
    values = wide[finite].abs()
    scale = float(values.max())
    if scale == 0:
        worst = 0.0 if float(distance.max()) == 0 else math.inf
        return worst, worst
    # Scaled first: squares of large values overflow.
    rms = (distance / scale).square().mean().sqrt() / (values / scale).square().mean().sqrt()
    return float(distance.max()) / scale, float(rms)


def _floor(dtype: torch.dtype) -> float:
    """Absolute error of rounding near 0: half the smallest step in fp16; elsewhere what hardware may flush to 0."""
    info = torch.finfo(dtype)
    return info.smallest_normal * info.eps / 2 if dtype == torch.float16 else info.smallest_normal


def _same_kind(got: Tensor, wide: Tensor) -> Tensor:
    """Where both are finite, both NaN, or the same infinity."""
    return (got.isfinite() & wide.isfinite()) | (got.isnan() & wide.isnan()) | (got == wide)


def _compare_exact(got: Tensor, reference: Tensor, allowed: Tolerance, name: str) -> Comparison:
    wrong = got != reference
    if not wrong.any():
        return Comparison(name, True, 0.0, 0.0, allowed.source)
    message = _describe(name, got, reference, _first(wrong), f"{allowed.source}; {int(wrong.sum())} elements differ")
    return Comparison(name, False, math.inf, 0.0, allowed.source, message)


def _first(mask: Tensor) -> tuple[int, ...]:
    return tuple(mask.nonzero()[0].tolist())


def _describe(name: str, got: Tensor, expected: Tensor, where: tuple[int, ...], why: str) -> str:
    place = f"[{', '.join(map(str, where))}]" if where else ""
    return f"{name}{place}: got {got[where].item():.9g}, expected {expected[where].item():.9g}. {why}."


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.").replace("float", "f" if dtype == torch.bfloat16 else "fp")
