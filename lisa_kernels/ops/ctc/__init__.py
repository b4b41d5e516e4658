"""CTC: the loss.  Read README.md, reference.py, spec.py, op.py, native_impl.py, in this order."""

from lisa_kernels.ops.ctc.op import ctc_loss, ctc_terms

__all__ = ["ctc_loss", "ctc_terms"]
