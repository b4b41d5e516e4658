"""Wrong versions of a right kernel: whether a check that passed could have failed.

Each function takes source text and returns mutants of it, one change each: a barrier deleted, a wait loosened, a mask
dropped, an index shifted, a store widened.  Run the check on every mutant; one that passes shows a hole in the check or
a line that the kernel does not need::

    for mutant in ptx_mutants(compiled.asm["ptx"]):
        assert not passes(Module(mutant.text)), mutant
"""

from lisa_kernels.testing.mutation.cuda import cuda_mutants
from lisa_kernels.testing.mutation.mutant import KINDS, Mutant
from lisa_kernels.testing.mutation.ptx import ptx_mutants
from lisa_kernels.testing.mutation.triton import triton_mutants

__all__ = ["KINDS", "Mutant", "cuda_mutants", "ptx_mutants", "triton_mutants"]
