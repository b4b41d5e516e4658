"""What compiled code must keep: rules with a verdict each, and the exceptions that somebody gave a reason for."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence

from lisa_kernels.core.targets import TARGETS
from lisa_kernels.testing.static.figures import KernelFigures, access_bits, describe_sim
from lisa_kernels.testing.static.record import Recorded

# Matrix instructions each target should use; another kind runs at a fraction of the rate, if on a matrix unit at all.
MATRIX = {
    "sm_80": ("HMMA", "IMMA", "DMMA", "BMMA"),
    "sm_86": ("HMMA", "IMMA", "DMMA", "BMMA"),
    "sm_89": ("HMMA", "IMMA", "QMMA"),
    "sm_90": ("HGMMA", "QGMMA", "IGMMA", "BGMMA", "DMMA"),
    "sm_100": ("UTCHMMA", "UTCQMMA", "UTCIMMA", "UTCOMMA", "DMMA"),
    "sm_120": ("HMMA", "IMMA", "QMMA", "OMMA"),
    "gfx942": ("v_mfma_*", "v_smfmac_*"),
}
WANTED_BITS, LEAST_BITS = 128, 64
# Shares of the recorded figure that may be lost.
CEILING_LOSS, SIM_LOSS = 0.03, 0.10
GATES = ("fits", "spills", "mma", "width", "ceiling", "sim")
# A vector atomic exists on few targets and for few types: their width is the data type's.
_ATOMIC = re.compile(r"RED|ATOM|\w*atomic")


@dataclasses.dataclass(frozen=True)
class Allowance:
    """An exception with its reason; a row of ``allowed.json`` beside the recorded figures.

    Attributes:
        kernel: Name of the job or of its kernel, ``*`` and ``?`` allowed.
        target: Target, ``*`` and ``?`` allowed.
        gate: ``"spills"``, ``"mma"`` or ``"width"``.
        reason: Why it is right, or why it cannot be mended.
        limit: Most spills and stack bytes, or least bits; beyond it the gate fails all the same.  ``mma`` has none.
    """

    kernel: str
    target: str
    gate: str
    reason: str
    limit: int | None = None

    def covers(self, names: Iterable[str], target: str, gate: str) -> bool:
        """Return whether this exception is about one of the names on that target."""
        if gate != self.gate or not fnmatch.fnmatchcase(target, self.target):
            return False
        return any(fnmatch.fnmatchcase(name, self.kernel) for name in names)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One gate on one kernel.

    Attributes:
        status: ``"passed"``, ``"failed"``, ``"allowed"``, or ``"not judged"`` where there is nothing to compare with.
        text: What was found against what is wanted.
        reason: Of the exception that was used.
    """

    gate: str
    status: str
    text: str
    reason: str = ""


def read_allowances(path: pathlib.Path) -> tuple[Allowance, ...]:
    """Return the exceptions of a file, none where there is no file.

    Raises:
        ValueError: An exception without a reason, or of a gate that has none.
    """
    if not path.is_file():
        return ()
    found = tuple(Allowance(**row) for row in json.loads(path.read_text()))
    for allowance in found:
        if allowance.gate not in ("spills", "mma", "width"):
            raise ValueError(f"read_allowances: gate is {allowance.gate!r}; it takes spills, mma, width.")
        if not allowance.reason.strip():
            raise ValueError(f"read_allowances: {allowance.kernel!r} has no reason; write why it must stay.")
        if allowance.limit is None and allowance.gate != "mma":
            raise ValueError(f"read_allowances: {allowance.kernel!r} has no limit: the most spills, or the least bits.")
    return found


def judge(
    figures: KernelFigures,
    *,
    name: str,
    recorded: Recorded | None = None,
    allowances: Sequence[Allowance] = (),
    real_size: bool = True,
) -> list[Verdict]:
    """Return the verdict of every gate on one kernel.

    Args:
        name: Of the job; exceptions may name it or the kernel.
        recorded: Figures that must not get worse; None where none are recorded.
        real_size: Whether to hold access widths to their limit: test cases have odd strides on purpose.
    """

    def allowed(gate: str) -> Allowance | None:
        names = (name, figures.kernel)
        return next((a for a in allowances if a.covers(names, figures.target, gate)), None)

    verdicts = [_fits(figures), _spills(figures, allowed("spills")), _mma(figures, allowed("mma"))]
    if real_size:
        verdicts.append(_width(figures, allowed("width")))
    else:
        verdicts.append(Verdict("width", "not judged", "reached by test cases alone, whose strides are odd on purpose"))
    return [*verdicts, _ceiling(figures, recorded), _sim(figures, recorded)]


def _fits(figures: KernelFigures) -> Verdict:
    resident = figures.blocks_per_sm if figures.blocks_per_sm is not None else figures.waves_per_simd
    target = TARGETS.get(figures.target)
    if target is not None and figures.shared_bytes > target.shared_bytes:
        text = f"{figures.shared_bytes} bytes of shared memory; a block on {figures.target} has {target.shared_bytes}"
        return Verdict("fits", "failed", text)
    if not resident:
        return Verdict("fits", "failed", f"no block fits: limited by {figures.limited_by}")
    return Verdict("fits", "passed", f"limited by {figures.limited_by}")


def _spills(figures: KernelFigures, allowance: Allowance | None) -> Verdict:
    text = f"{figures.spills} spills, {figures.stack_bytes} bytes of stack"
    if not figures.spills and not figures.stack_bytes:
        return Verdict("spills", "passed", text)
    worst = max(figures.spills, figures.stack_bytes)
    return _with_allowance("spills", text, allowance, within=lambda limit: worst <= limit)


def _mma(figures: KernelFigures, allowance: Allowance | None) -> Verdict:
    wanted = MATRIX.get(figures.target)
    used = {**figures.mma}
    if not figures.dots and not used:
        return Verdict("mma", "passed", "no dot")
    if wanted is None:
        return Verdict("mma", "not judged", f"no rule for {figures.target}")
    wrong = [kind for kind in used if not any(fnmatch.fnmatchcase(kind, name) for name in wanted)]
    if used and not wrong:
        return Verdict("mma", "passed", ", ".join(used))
    found = ", ".join(used) or "no matrix instruction"
    text = f"{found} for {figures.dots or 'its'} dots; {figures.target} should have {', '.join(wanted)}"
    return _with_allowance("mma", text, allowance, within=lambda limit: True)


def _width(figures: KernelFigures, allowance: Allowance | None) -> Verdict:
    accesses = {name: n for name, n in figures.hot.global_access.items() if not _ATOMIC.match(name)}
    if not accesses:
        return Verdict("width", "passed", "no plain global access in the hot loop")
    least = min(map(access_bits, accesses))
    narrow = ", ".join(f"{name} {count}" for name, count in accesses.items() if access_bits(name) < WANTED_BITS)
    if least >= LEAST_BITS:
        text = f"{narrow} below the wanted {WANTED_BITS} bits" if narrow else f"{least} bits or more"
        return Verdict("width", "passed", text)
    text = f"{narrow} in the hot loop; at least {LEAST_BITS} bits, {WANTED_BITS} wanted"
    return _with_allowance("width", text, allowance, within=lambda limit: least >= limit)


def _ceiling(figures: KernelFigures, recorded: Recorded | None) -> Verdict:
    now = figures.hot.ceiling
    if recorded is None:
        return Verdict("ceiling", "not judged", "not recorded")
    if recorded.ceiling is None:
        return Verdict("ceiling", "passed", "no tensor-core loop recorded")
    if now is None:
        return Verdict("ceiling", "failed", f"no tensor-core loop; recorded {recorded.ceiling:.3f}")
    status = "passed" if now >= recorded.ceiling * (1 - CEILING_LOSS) else "failed"
    return Verdict("ceiling", status, f"{now:.3f}, recorded {recorded.ceiling:.3f}, at most {CEILING_LOSS:.0%} less")


def _sim(figures: KernelFigures, recorded: Recorded | None) -> Verdict:
    """``sim``, or the latency of one block for loops without matrix instructions, which lower is better."""
    hot = figures.hot
    if recorded is None:
        return Verdict("sim", "not judged", "not recorded")
    if recorded.latency_1block and hot.latency_1block:
        status = "passed" if hot.latency_1block * (1 - SIM_LOSS) <= recorded.latency_1block else "failed"
        text = f"{hot.latency_1block:g} model cycles an iteration, recorded {recorded.latency_1block:g}"
        return Verdict("sim", status, f"{text}, at most {SIM_LOSS:.0%} worse")
    if hot.sim is None or recorded.sim is None:
        return Verdict("sim", "not judged", "no cycle model")
    if not hot.is_measured or not recorded.is_measured:
        return Verdict("sim", "not judged", f"{describe_sim(hot)}: replays disagree by more than 0.1")
    status = "passed" if hot.sim >= recorded.sim * (1 - SIM_LOSS) else "failed"
    return Verdict("sim", status, f"{hot.sim:.3f}, recorded {recorded.sim:.3f}, at most {SIM_LOSS:.0%} less")


def _with_allowance(
    gate: str, text: str, allowance: Allowance | None, *, within: Callable[[int | None], bool]
) -> Verdict:
    if allowance is None:
        return Verdict(gate, "failed", text)
    if not within(allowance.limit):
        return Verdict(gate, "failed", f"{text}; the exception stops at {allowance.limit}")
    return Verdict(gate, "allowed", text, allowance.reason)
