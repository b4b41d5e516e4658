"""``tl_math``, ``launch``, ``record`` and ``tiling``: in Triton's interpreter, and compiled for GPUs that are not here.

One process is either interpreter or compiler: ``@triton.jit`` decides when it decorates.  So each has its own.
"""

import dataclasses
import importlib.util
import json
import re
import subprocess
import sys

import pytest
import torch

from lisa_kernels.core.launch import launch, record, specialise
from lisa_kernels.core.targets import TARGETS, current_target
from lisa_kernels.core.tiling import Tile, force_tile, pick
from tests.architecture.sources import ROOT

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs triton: pip install 'triton>=3.6,<3.10'"
)
INTERPRETED = (
    "rounding_equals_torch",
    "nan_stays_nan",
    "half_inputs_are_computed_in_fp32",
    "dot_equals_the_exact_product",
    "exp2_is_exp2",
    "record_runs_nothing",
)
# The matrix instruction each target has; another one means slower code.
MATRIX = {"sm_80": "mma.sync", "sm_90": "wgmma", "sm_100": "tcgen05", "gfx942": "mfma"}


def run(module, argument, interpret):
    command = ["env", f"TRITON_INTERPRET={interpret}", sys.executable, "-m", f"tests.core.{module}", argument]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_triton
@pytest.mark.parametrize("check", INTERPRETED)
def test_in_the_interpreter(check):
    run("interpreted", check, interpret=1)


@needs_triton
@pytest.mark.parametrize("target", MATRIX)
def test_compiled_code_has_wide_loads_where_aligned_and_the_target_s_matrix_instruction(target):
    """The record's alignment is that of the tensors: without it the compiled code is not the code that would run."""
    told = json.loads(run("compiled", target, interpret=0))
    assert told["wide loads, aligned"] > 0
    assert told["wide loads, unaligned"] == 0
    assert MATRIX[target] in told["matrix"]


@dataclasses.dataclass(frozen=True)
class RowTile(Tile):
    BLOCK: int = 64


class Kernel:
    """As much of a compiled kernel as ``record`` looks at."""

    arg_names = ("x_ptr", "n", "one", "large", "none", "factor", "BLOCK", "FLAG")


def test_record_specialises_as_a_launch_would():
    x = torch.empty(100, dtype=torch.float16, device="meta")
    with record() as launches:
        launch(Kernel, (3,), x[1:], 32, 1, 2**40 + 1, None, 0.5, tile=RowTile(num_warps=8), FLAG=True)
        launch(Kernel, (3,), x[8:], 33, 1, 2**31, None, 0.5, tile=RowTile(), FLAG=True)
    first, second = launches
    assert first.signature == {
        "x_ptr": "*fp16", "n": "i32", "one": "constexpr", "large": "i64", "none": "constexpr", "factor": "fp32",
        "BLOCK": "constexpr", "FLAG": "constexpr",
    }  # fmt: skip
    assert first.constexprs == {"BLOCK": 64, "FLAG": True, "one": 1, "none": None}
    assert set(first.attrs) == {(1,)}, "x[1:] is not aligned to 16 bytes, 32 is a multiple of 16"
    assert set(second.attrs) == {(0,), (3,)}, "x[8:] is aligned, 2**31 is a multiple of 16, 33 is not"
    assert first.options == {"num_warps": 8, "num_stages": 2, "enable_fp_fusion": True}
    assert first.grid == (3,)


def fp8_kernel(x_ptr, BLOCK, y_ptr, n, scale=2.0):
    """Stands for a kernel: its constexpr is not last, and its last argument has a default."""


def as_kernel(function):
    """Return as much of a jitted function as ``specialise`` looks at, without decorating it."""
    triton = pytest.importorskip("triton", reason="needs triton: pip install 'triton>=3.6,<3.10'")
    return triton.runtime.jit.JITFunction(function)


def test_a_constexpr_may_stand_anywhere_and_defaults_are_compiled_in():
    x = torch.empty(16, dtype=torch.float8_e4m3fn, device="meta")
    args = (x, x, 2**63 + 5)
    record = specialise(as_kernel(fp8_kernel), (1,), args, constexprs={"BLOCK": 16}, options={})
    assert record.signature == {
        "x_ptr": "*fp8e4nv", "BLOCK": "constexpr", "y_ptr": "*fp8e4nv", "n": "u64", "scale": "constexpr"
    }  # fmt: skip
    assert record.constexprs == {"BLOCK": 16, "scale": 2.0}
    assert set(record.attrs) == {(0,), (2,)}
    assert record.passed(args) == args


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"grid": 1}, TypeError, "launch: grid is 1; it takes a tuple of one to three integers"),
        ({"args": ()}, ValueError, "misses x_ptr, y_ptr, n"),
        ({"args": (1, 2, 3, 4, 5)}, ValueError, "takes 4 run-time arguments; it was given 5"),
        (
            {"args": (1, 2, [3])},
            TypeError,
            "launch: n is a list; it takes tensors, descriptors, numbers, bool",
        ),
        ({"args": (1, 2, 2**64)}, ValueError, "it takes 64-bit integers"),
        ({"constexprs": {"BLOCKS": 1}}, ValueError, "launch: BLOCKS is no parameter of fp8_kernel; it takes x_ptr"),
        ({"constexprs": {}}, ValueError, "fp8_kernel misses n: an argument, or a constexpr by name"),
        ({"args": (torch.empty(1, dtype=torch.complex64), 1, 1)}, TypeError, "launch: x_ptr has dtype torch.complex64"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_no_launch_takes_is_named(change, error, told):
    call = {"grid": (1,), "args": (1, 2, 3), "constexprs": {"BLOCK": 16}, **change}
    with pytest.raises(error, match=re.escape(told)):
        specialise(as_kernel(fp8_kernel), call["grid"], call["args"], constexprs=call["constexprs"], options={})


@pytest.mark.parametrize(
    ("dtype", "named"), [(torch.bfloat16, "bf16"), (torch.float8_e4m3fn, "fp8e4nv"), (torch.float8_e5m2, "fp8e5")]
)
def test_descriptors_are_specialised_by_element_type_and_block(dtype, named):
    kernel = as_kernel(fp8_kernel)
    from triton.tools.tensor_descriptor import TensorDescriptor

    x = torch.zeros(64, 48).to(dtype)
    args = (TensorDescriptor.from_tensor(x, [32, 16]), x, 5)
    made = specialise(kernel, (1,), args, constexprs={"BLOCK": 16}, options={})
    assert made.signature["x_ptr"] == f"tensordesc<{named}[32, 16]>"
    assert made.signature["y_ptr"] == f"*{named}"
    assert 0 not in {place for (place,) in made.attrs}
    assert made.passed(args) == args


def test_a_plain_function_is_no_kernel():
    with pytest.raises(TypeError, match=r"launch: kernel is a function; it takes a @triton\.jit function"):
        specialise(fp8_kernel, (1,), (), constexprs={}, options={})


def test_records_do_not_leak_out_of_their_block():
    with record() as outer:
        with record() as inner:
            launch(Kernel, (1,), 1, 1, 1, 1, None, 1.0, tile=RowTile(), FLAG=False)
        assert len(inner) == 1
    assert not outer


TABLE = {"sm_80": ((128, RowTile(BLOCK=32)), (None, RowTile(BLOCK=256))), "sm_90": ((64, RowTile(BLOCK=16)),)}


@pytest.mark.parametrize(("size", "block"), [(1, 32), (128, 32), (129, 256), (10**9, 256)])
def test_pick_takes_the_first_row_that_is_large_enough(size, block):
    assert block == pick(TABLE, TARGETS["sm_80"], size).BLOCK


@pytest.mark.parametrize(("target", "size"), [("sm_90", 65), ("gfx942", 1)])
def test_pick_says_what_the_table_lacks(target, size):
    with pytest.raises(LookupError, match=f"no tile for target {target} and size {size}; the table has sm_80, sm_90"):
        pick(TABLE, TARGETS[target], size)


def test_a_forced_tile_wins_until_its_block_ends():
    tile = RowTile(BLOCK=8)
    with force_tile(tile):
        assert pick(TABLE, TARGETS["gfx942"], 1) is tile
    assert pick(TABLE, TARGETS["sm_80"], 1).BLOCK == 32


def test_the_cpu_is_the_interpreter():
    assert current_target(torch.device("cpu")) is TARGETS["interp"]


def test_an_empty_grid_is_not_launched():
    """A GPU driver refuses a grid with a 0: empty batches must not reach it."""
    launch(Kernel, (4, 0), torch.zeros(1), tile=RowTile())
    with pytest.raises(TypeError, match="not subscriptable"):
        launch(Kernel, (4, 1), torch.zeros(1), tile=RowTile())
