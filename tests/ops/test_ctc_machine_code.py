"""What nvcc makes of the recursion of ``ctc_loss``: instructions of a frame, and no barrier between frames."""

import functools

import pytest

from lisa_kernels.testing.cuda.compiler import compile_cubin
from lisa_kernels.testing.cuda.ops import op_sources, why_no_emulated_ops
from lisa_kernels.testing.static.control_flow import build_graph, find_loops
from lisa_kernels.testing.static.disassemble import disassemble
from lisa_kernels.testing.static.sass import parse_sass

pytestmark = [
    pytest.mark.prove,
    pytest.mark.skipif(why_no_emulated_ops() is not None, reason=f"needs nvcc: {why_no_emulated_ops()}"),
]
# What a frame hands to the lane above: mantissa and exponent.
SHUFFLES_OF_A_FRAME = {"If": 2, "Id": 4}


@functools.cache
def functions_of(target):
    (source,) = [path for path in op_sources() if path.stem == "ctc"]
    return parse_sass(disassemble(compile_cubin(source, target).code)).functions


def loops_over_frames(target, kernel):
    """Return, for each innermost loop over frames of the walks in a kernel, its opcodes and its frames."""
    ((name, function),) = [(name, function) for name, function in functions_of(target).items() if kernel in name]
    loops = find_loops(build_graph(function), lambda _: True)
    found = []
    for loop in loops:
        opcodes = [instruction.opcode for instruction in loop.instructions]
        if any(loop.holds(other) for other in loops) or not any(o.startswith("LDGSTS") for o in opcodes):
            continue
        (shuffles,) = [count for real, count in SHUFFLES_OF_A_FRAME.items() if f"kernel{real}" in name]
        found.append((opcodes, sum(o.startswith("SHFL.UP") for o in opcodes) // shuffles))
    return found


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100"])
def test_a_frame_of_up_to_32_labels_takes_at_most_120_instructions(target):
    found = loops_over_frames(target, "ctc_warp_walk_kernelIfLi1E")
    # Nothing kept, states kept by either direction, and posteriors; each by 8 frames, and the rest frame by frame.
    assert sorted(frames for _, frames in found) == [1] * 4 + [8] * 4
    for opcodes, frames in found:
        assert len(opcodes) / frames <= 120


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("real", ["fLi1", "fLi2", "fLi4", "fLi8", "dLi1", "dLi2"])
def test_no_barrier_stands_between_the_frames_of_a_warp(target, real):
    found = loops_over_frames(target, f"ctc_warp_walk_kernelI{real}E")
    assert found
    for opcodes, frames in found:
        assert frames >= 1
        assert not any(opcode.startswith(("BAR", "WARPSYNC", "LDL", "STL")) for opcode in opcodes)


def test_a_block_that_walks_has_barriers():
    """Planted: what the test above looks for is seen where it stands."""
    found = loops_over_frames("sm_90", "ctc_block_walk_kernelIfLi4ELi8ELb1E")
    assert all(any(opcode.startswith("BAR") for opcode in opcodes) for opcodes, _ in found)
