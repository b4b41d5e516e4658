"""CTC: forced alignment.  Read README.md, reference.py, spec.py, op.py, native_impl.py, in this order."""

from lisa_kernels.ops.ctc_align.alignment import CtcAlignment, CtcSpans, ctc_spans
from lisa_kernels.ops.ctc_align.op import ctc_align

__all__ = ["CtcAlignment", "CtcSpans", "ctc_align", "ctc_spans"]
