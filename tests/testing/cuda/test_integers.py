"""Integer functions, and words taken as small integers, give what the PTX that nvcc makes of them gives."""

import numpy as np
import pytest
import torch

from lisa_kernels.testing.cuda import compile_ptx
from lisa_kernels.testing.ptx import Module
from tests.testing.cuda.conftest import CACHE, KERNELS

COUNT = 256
FUNCTIONS = 79
# Ends of the ranges of 8, 16, 24 and 32 bits, and words that mix them.
EDGES = (
    0, 1, -1, 0x7FFFFFFF, -0x80000000, 0x7F7F7F7F, -0x7F7F7F80, 0x00800080, 0x7FFF8000, 0x01FF00FE,
    0x00FFFFFF, 0x00800000,
)  # fmt: skip


@pytest.fixture
def integers(build):
    return build(KERNELS / "integers.cu")


def words(seed):
    return torch.randint(-(1 << 31), 1 << 31, (COUNT,), generator=torch.Generator().manual_seed(seed)).int()


def test_integer_functions_agree_with_those_of_nvcc(integers, nvcc):
    left, right = words(0), words(1)
    pairs = torch.cartesian_prod(torch.tensor(EDGES), torch.tensor(EDGES)).int()
    left[: len(pairs)], right[: len(pairs)] = pairs.unbind(1)
    left[-10:] = right[-10:]
    got, expected = torch.zeros(2, FUNCTIONS, COUNT, dtype=torch.int32)
    integers.launch("integers_kernel", 2, 128, [left, right, got, COUNT])
    ptx = Module(compile_ptx(KERNELS / "integers.cu", "sm_80", cache=CACHE))
    ptx.launch("integers_kernel", (2,), (128,), [left, right, expected, COUNT])
    assert (expected != 0).any(1).all()
    assert (got != expected).any(1).nonzero().flatten().tolist() == []


def parts(word, kind):
    return np.array([word], np.int32).view(kind).astype(np.int64)


def wrapped(numbers, kind):
    return numbers.astype(kind).view(np.int32).item()


def clamped(numbers, kind):
    return numbers.clip(np.iinfo(kind).min, np.iinfo(kind).max)


@pytest.mark.parametrize("pair", [(-0x7F7F7F80, 0x7F7F7F7F), (0x01FF00FE, -0x80000000), (-0x80000000, -0x7F800180)])
def test_functions_that_the_emulator_has_not_give_what_their_names_say(integers, pair):
    got = torch.zeros(20, dtype=torch.int32)
    left, right = (torch.tensor([word], dtype=torch.int32) for word in pair)
    integers.launch("differences_kernel", 1, 1, [left, right, got])
    expected = []
    for function in (lambda x, _: -x, lambda x, kind: clamped(-x, kind), lambda x, _: abs(x)):
        expected += [wrapped(function(parts(pair[0], kind), kind), kind) for kind in (np.int16, np.int8)]
    expected += [wrapped(clamped(abs(parts(pair[0], kind)), kind), kind) for kind in (np.int16, np.int8)]
    for kinds in ((np.uint16, np.uint8), (np.int16, np.int8)):
        expected += [wrapped(abs(parts(pair[0], kind) - parts(pair[1], kind)), kind) for kind in kinds]
    for kinds in ((np.int16, np.int8), (np.uint16, np.uint8)):
        expected += [abs(parts(pair[0], kind) - parts(pair[1], kind)).sum().item() for kind in kinds]
    for wide, narrow, start in ((np.uint16, np.uint8, 7), (np.int16, np.int8, -7)):
        halves, quarters = parts(pair[0], wide), parts(pair[1], narrow)
        sums = np.array([start + halves @ quarters[:2], start + halves @ quarters[2:]])
        expected += sums.astype(np.uint32).view(np.int32).tolist()
    assert got.tolist() == expected
