"""Greedy CTC decoding.  Read README.md, reference.py, spec.py, op.py, native_impl.py, triton_impl.py, in this order."""

from lisa_kernels.ops.ctc_greedy_decode.op import ctc_greedy_decode
from lisa_kernels.ops.ctc_greedy_decode.reference import CtcDecoded

__all__ = ["CtcDecoded", "ctc_greedy_decode"]
