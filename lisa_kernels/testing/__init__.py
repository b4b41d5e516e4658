"""The judge of this package, usable on any op: it compares with fp64 and says what missed which bound, and where.

Three lines check an op of your own against its definition in plain PyTorch::

    x = torch.randn(8, 128)
    got = my_fused_softmax(x)
    assert_matches(got, x.double().softmax(-1), depth=128, name="my_fused_softmax")

``depth`` is the number of roundings in sequence behind an output, here the additions of one row.  For an op described
by an ``OpSpec``, ``judge_case`` adds gradients, determinism, strides and memory; ``python -m lisa_kernels.verify``
prints what it finds.
"""

from lisa_kernels.testing.compare import Comparison, Tolerance, assert_matches, compare, same_bits, tolerance
from lisa_kernels.testing.guarded import Guarded, guard_inputs, poisoned_allocations
from lisa_kernels.testing.inputs import clone_inputs, make_inputs, require_grad, to_fp64
from lisa_kernels.testing.judge import Row, judge_bad_input, judge_case, refusal

__all__ = [
    "Comparison",
    "Guarded",
    "Row",
    "Tolerance",
    "assert_matches",
    "clone_inputs",
    "compare",
    "guard_inputs",
    "judge_bad_input",
    "judge_case",
    "make_inputs",
    "poisoned_allocations",
    "refusal",
    "require_grad",
    "same_bits",
    "to_fp64",
    "tolerance",
]
