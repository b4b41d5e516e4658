"""Triton's interpreter made honest: what it computes wrong without a word is put right, the rest is refused.

Triton runs kernels on CPU tensors when ``TRITON_INTERPRET=1`` is set before they are decorated.  As it comes (3.9) it
adds and multiplies the raw bits of bf16, truncates where a GPU rounds, returns None from libdevice, cannot autotune,
ignores ``tf32`` and ``tl.device_assert``, and loads 0 into lanes that are masked off without an ``other``, which a GPU
leaves undefined.  Three lines make it a judge::

    from lisa_kernels.testing.interpreter import honest_interpreter
    with honest_interpreter():
        kernel[grid](x, out, n, BLOCK=128)

In it such lanes hold NaN, or the largest integer, so that their use shows; what a kernel needs there it states as
``other``.  ``tl.device_assert`` raises ``DeviceAssertError``; a plain ``assert`` on a block always passes, as in the
stock interpreter.

``NotInterpretedError`` names what stays without a right answer: inline assembly, ``tl.map_elementwise``, atomics on
tensor descriptors, Gluon, waiting for a program that runs later.  It says nothing about warps, shared memory or the
compiled code, and its times mean nothing.
"""

from lisa_kernels.testing.interpreter.builder import HonestBuilder
from lisa_kernels.testing.interpreter.errors import DeviceAssertError, NotInterpretedError
from lisa_kernels.testing.interpreter.scope import honest_interpreter, installed

__all__ = ["DeviceAssertError", "HonestBuilder", "NotInterpretedError", "honest_interpreter", "installed"]
