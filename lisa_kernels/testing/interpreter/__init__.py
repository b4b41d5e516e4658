"""Triton's interpreter made honest: what it computes wrong without a word is put right, the rest is refused.

Triton runs kernels on CPU tensors when ``TRITON_INTERPRET=1`` is set before they are decorated.  As it comes (3.9) it
adds and multiplies the raw bits of bf16, truncates where a GPU rounds, returns None from libdevice, cannot autotune,
and ignores ``tf32``.  Three lines make it a judge::

    from lisa_kernels.testing.interpreter import honest_interpreter
    with honest_interpreter():
        kernel[grid](x, out, n, BLOCK=128)

``NotInterpretedError`` names what stays without a right answer: inline assembly, ``tl.map_elementwise``, atomics on
tensor descriptors, Gluon, waiting for a program that runs later.  It says nothing about warps, shared memory or the
compiled code, and its times mean nothing.
"""

from lisa_kernels.testing.interpreter.builder import HonestBuilder
from lisa_kernels.testing.interpreter.errors import NotInterpretedError
from lisa_kernels.testing.interpreter.scope import honest_interpreter, installed

__all__ = ["HonestBuilder", "NotInterpretedError", "honest_interpreter", "installed"]
