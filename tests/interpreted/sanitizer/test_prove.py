"""The specimens under other seeds, tiles and orders of programs."""

import pytest
import torch

from lisa_kernels.core.launch import launch
from lisa_kernels.testing import assert_matches
from lisa_kernels.testing.sanitizer import same_bits_in_any_order, sanitize
from tests.specimens.specimens import SPECIMENS

pytestmark = pytest.mark.prove


def outputs_of(specimen, args):
    return {name: specimen.named(args)[name] for name in specimen.outputs}


@pytest.mark.parametrize("order", [None, -1, 0, 1])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", SPECIMENS)
def test_specimens_are_right_and_without_fault_in_any_order(name, seed, order):
    specimen = SPECIMENS[name]
    args = specimen.make_args(seed)
    expected = specimen.expected(args)
    with sanitize(outputs=specimen.outputs, poison=True, program_order=order) as report:
        specimen.launch(args)
    assert report.faults == ()
    for output, got in outputs_of(specimen, args).items():
        assert_matches(got, expected[output], depth=specimen.depth, name=output)


@pytest.mark.parametrize("name", SPECIMENS)
def test_specimens_have_the_same_bits_in_any_order(name):
    specimen = SPECIMENS[name]
    args = specimen.make_args(0)
    assert same_bits_in_any_order(lambda: specimen.launch(args), outputs_of(specimen, args), seeds=range(5))


@pytest.mark.parametrize("name", SPECIMENS)
def test_a_tensor_one_row_short_is_seen_for_every_argument(name):
    """Each tensor in turn loses its last row: nothing in the kernel changes, so it must leave the tensor."""
    specimen = SPECIMENS[name]
    args = specimen.make_args(0)
    grid = specimen.grid(args, specimen.tile)
    for place, (parameter, tensor) in enumerate(specimen.named(args).items()):
        if not isinstance(tensor, torch.Tensor):
            continue
        short = (*args[:place], tensor[:-1], *args[place + 1 :])
        with sanitize(raise_on_fault=False) as report:
            launch(specimen.kernel, grid, *short, tile=specimen.tile, **specimen.constexprs)
        assert parameter in {fault.tensor for fault in report.faults}, parameter
