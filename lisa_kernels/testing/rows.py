"""One judgement as data."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclasses.dataclass(frozen=True)
class Row:
    """One check of one case.

    Attributes:
        op: The public function.
        case: The case's name, or that of a bad input; empty where a whole backend is skipped.
        backend: The backend that ran.
        dtype: ``"float32"``; empty where it does not matter.
        check: What was checked: the name of an output or gradient, or of a behaviour.
        error: Relative error, None for checks that measure none.
        bound: What the error may be, None likewise.
        source: Where the bound comes from.
        status: ``"passed"``, ``"failed"`` or ``"skipped"``.
        message: What is wrong, or why it was skipped.
    """

    op: str
    case: str
    backend: str
    dtype: str
    check: str
    status: str
    error: float | None = None
    bound: float | None = None
    source: str = ""
    message: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON takes it: no inf, no NaN."""
        fields = dataclasses.asdict(self)
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in fields.items()}
