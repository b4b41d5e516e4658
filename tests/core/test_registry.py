"""Specs: found by folder, selected by name, complete, and reproducible."""

import pytest
import torch

from lisa_kernels.core import registry
from lisa_kernels.core.spec import make_generator
from lisa_kernels.testing import clone_inputs, make_inputs, same_bits, to_fp64


def test_ops_are_found_and_selected_by_folder_or_function():
    assert "ctc" in registry.folders()
    assert registry.select(["ctc"]) == registry.select(["ctc_loss"]) == registry.specs("ctc")
    assert {spec.name for spec in registry.select(["ctc"])} <= {spec.name for spec in registry.select()}
    with pytest.raises(ValueError, match="select: op is 'nothing'; it takes"):
        registry.select(["ctc", "nothing"])


def test_a_spec_is_complete(spec):
    assert 1 <= len(spec.cases) <= 10, "small cases are run by every test: few"
    assert spec.edges
    assert spec.bad_inputs
    assert spec.bench
    names = [case.name for case in (*spec.cases, *spec.edges, *spec.full, *spec.bench)]
    assert len(names) == len(set(names)), "names seed the inputs and head the rows"
    assert all(spec.depth(case) >= 0 for case in (*spec.cases, *spec.edges, *spec.full))
    for case in spec.cases:
        read, written = spec.traffic(make_inputs(spec, case, spec.dtypes[0]))
        assert read.numel()
        # Without a backward there is nothing to copy: what is written has a size of its own.
        assert read.numel() == written.numel() or not spec.differentiable
        assert spec.flops(case) > 0
        forward, backward = spec.bytes(case, spec.dtypes[0])
        assert forward > 0
        assert (backward > 0) == bool(spec.differentiable)


def test_inputs_repeat_and_depend_on_the_seed(spec):
    case = spec.cases[-1]
    one, two, other = (make_inputs(spec, case, spec.dtypes[0], seed=seed) for seed in (0, 0, 1))
    tensors = [name for name, value in one.items() if isinstance(value, torch.Tensor)]
    assert all(same_bits(one[name], two[name]) for name in tensors)
    assert not any(same_bits(one[name], other[name]) for name in tensors if one[name].dtype.is_floating_point)


def test_generators_differ_by_case(spec):
    seeds = {make_generator(case).initial_seed() for case in (*spec.cases, *spec.edges)}
    assert len(seeds) == len(spec.cases) + len(spec.edges)


def test_fp64_inputs_use_the_bits_that_fp32_lacks(spec):
    """Else a step through fp32 would change nothing."""
    kwargs = make_inputs(spec, spec.cases[0], torch.float64)
    for name in spec.differentiable:
        assert not torch.equal(kwargs[name], kwargs[name].float().double())


def test_copies_keep_strides_and_values_and_share_nothing():
    kwargs = {"x": torch.arange(12.0).reshape(3, 4).t(), "y": torch.ones(3, 1).expand(3, 5), "lengths": [1, 2], "n": 4}
    copies = clone_inputs(kwargs)
    for name in ("x", "y"):
        assert copies[name].stride() == kwargs[name].stride()
        assert torch.equal(copies[name], kwargs[name])
        assert copies[name].data_ptr() != kwargs[name].data_ptr()
    wide = to_fp64(kwargs)
    assert wide["x"].dtype == torch.float64
    assert wide["lengths"].tolist() == [1, 2]
    assert wide["n"] == 4
