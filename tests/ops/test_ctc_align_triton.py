"""``ctc_align`` on Triton as compiled: launches, access widths, and the emulator on the search's barriers."""

import re

import pytest
import torch

from lisa_kernels.core.launch import record, run_through
from lisa_kernels.core.targets import TARGETS, force_target
from lisa_kernels.testing import assert_matches, same_bits
from tests.ops.ctc_problems import random_logits, random_targets

pytest.importorskip("triton", reason="needs triton: pip install 'triton>=3.6,<3.10'")

from lisa_kernels.core.config import read_settings
from lisa_kernels.ops.ctc_align import reference, tiles, triton_impl
from lisa_kernels.testing.compiled import compile_launch
from lisa_kernels.testing.ptx import PtxError, run_compiled

pytestmark = pytest.mark.skipif(read_settings().interpret, reason="compiles kernels: unset TRITON_INTERPRET")
GPUS = [name for name, target in TARGETS.items() if target.backend]
SEARCH = "ctc_search_kernel"


def launches(target, frames=500, classes=1000, dtype=torch.float32, *, concatenated=False):
    """What one call would launch."""
    logits = torch.empty(frames, 16, classes, dtype=dtype, device="meta")
    targets = torch.empty(*((16 * 80,) if concatenated else (16, 80)), dtype=torch.int64, device="meta")
    lengths = torch.empty(16, dtype=torch.int64, device="meta")
    with force_target(target), record() as log:
        triton_impl.forward(logits, targets, lengths, lengths, None, 0, None, 0.0, None)
    return log


@pytest.mark.parametrize("target", GPUS)
@pytest.mark.parametrize(
    ("frames", "concatenated", "names"),
    [
        (500, False, ["scores", "search", "maps", "chain", "path"]),
        (40, False, ["scores", "search", "chain", "path"]),
        (500, True, ["offsets", "scores", "search", "maps", "chain", "path"]),
    ],
)
def test_a_call_is_four_to_six_launches(target, frames, concatenated, names):
    found = [launch.kernel.__name__ for launch in launches(target, frames, concatenated=concatenated)]
    assert found == [f"ctc_{name}_kernel" for name in names]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_pass_over_rows_loads_128_bits_a_thread(dtype):
    rows = launches("sm_90", dtype=dtype)[0]
    assert re.search(r"ld\.global\.v4\.b32", compile_launch(rows, "sm_90").asm["ptx"])


def problem(frames, labels):
    logits = random_logits(frames, 1, 5, dtype=torch.float32).round()
    return logits, random_targets(5, 1, labels), torch.tensor([frames]), torch.tensor([labels])


def emulated(args, band=None, *, without_barriers=False):
    """Run as compiled for sm_80; the search without its barriers."""

    def execute(launch, values):
        compiled = compile_launch(launch, "sm_80")
        ptx = compiled.asm["ptx"]
        if without_barriers and launch.kernel.__name__ == SEARCH:
            ptx = re.sub(r"bar\.sync\s+0;", "", ptx)
        run_compiled(compiled, launch.grid, launch.passed(values), ptx=ptx)

    with force_target("sm_80"), run_through(execute):
        return triton_impl.forward(*args, None, 0, None, 0.0, band)


# One warp with all positions, several warps, several positions a thread, a wheel of a band; positions in memory, of
# one warp and of several, with a band.
TILES = [
    (20, None, None), (40, None, None), (35, None, tiles.SearchTile(BLOCK=64, num_warps=1)),
    (60, 5, tiles.SearchTile(BLOCK=32, num_warps=2)), (40, 3, tiles.SearchTile(BLOCK=16, num_warps=1)),
    (40, None, tiles.SearchTile(BLOCK=32, num_warps=1)), (70, None, tiles.SearchTile(BLOCK=64, num_warps=2)),
    (70, 20, tiles.SearchTile(BLOCK=32, num_warps=2)),
]  # fmt: skip


@pytest.mark.parametrize(("labels", "band", "tile"), TILES)
def test_the_compiled_search_agrees_with_the_definition(labels, band, tile, monkeypatch):
    if tile is not None:
        monkeypatch.setitem(tiles.SEARCH, "sm_80", ((None, tile),))
    args = problem(2 * labels, labels)
    got, expected = emulated(args, band), reference.forward(*args, None, 0, None, 0.0, band)
    assert torch.equal(got[0], expected[0])
    assert torch.equal(got[1], expected[1])
    assert_matches(got[2], expected[2].double(), depth=2 * labels, name="scores")
    assert same_bits(got[3].isfinite(), expected[3].isfinite())


@pytest.mark.parametrize("labels", [pytest.param(35, id="registers"), pytest.param(70, id="memory")])
def test_a_missing_barrier_in_the_search_is_a_race(labels, monkeypatch):
    """Planted: warps that do not wait for each other."""
    monkeypatch.setitem(tiles.SEARCH, "sm_80", ((None, tiles.SearchTile(BLOCK=64, num_warps=2)),))
    with pytest.raises(PtxError, match="race"):
        emulated(problem(labels + 4, labels), without_barriers=True)
