"""Watches Triton kernels under the interpreter: every access judged, every byte counted.

Three lines, for any kernel, in a process with ``TRITON_INTERPRET=1``::

    from lisa_kernels.testing.sanitizer import sanitize
    with sanitize(outputs=("out_ptr",)) as report:
        kernel[grid](x, out, n, BLOCK=128)

At the end of the block ``SanitizerError`` lists what was wrong, with tensor, element, program, lanes and the kernel's
line: accesses out of bounds, reads of memory that nothing wrote, outputs with holes, two programs that write one
element or read what the other writes, lanes of one store that collide, a ``tl.device_assert`` that fails.
``print(report.traffic)`` shows the bytes of each tensor against what a perfect cache would move.
``same_bits_in_any_order`` runs programs in other orders.
"""

from lisa_kernels.testing.sanitizer.bands import Banded, banded
from lisa_kernels.testing.sanitizer.faults import Fault, SanitizerError
from lisa_kernels.testing.sanitizer.order import OrderReport, same_bits_in_any_order
from lisa_kernels.testing.sanitizer.session import Report, sanitize
from lisa_kernels.testing.sanitizer.traffic import TensorTraffic, Traffic

__all__ = [
    "Banded",
    "Fault",
    "OrderReport",
    "Report",
    "SanitizerError",
    "TensorTraffic",
    "Traffic",
    "banded",
    "same_bits_in_any_order",
    "sanitize",
]
