"""``kernel[grid](...)`` as anybody launches it, collected without a GPU; the records are those of ``specialise``."""

import dataclasses

import pytest
import torch

pytest.importorskip("triton", reason="needs triton: pip install 'triton>=3.6,<3.10'")

import triton
import triton.language as tl

from bench.__main__ import main
from lisa_kernels.core.config import read_settings
from lisa_kernels.core.launch import launch, specialise
from lisa_kernels.testing.static.collect import collect_from
from lisa_kernels.testing.static.driverless import record_driverless
from tests.testing.static.launches import CopyTile, copy_kernel

pytestmark = pytest.mark.skipif(read_settings().interpret, reason="TRITON_INTERPRET=1: nothing is compiled; unset it")

HERE = "tests.testing.static.test_driverless"


@triton.jit
def scale_kernel(x_ptr, out_ptr, BLOCK: tl.constexpr, n, factor=2.0):
    offs = tl.arange(0, BLOCK)
    tl.store(out_ptr + offs, tl.load(x_ptr + offs, mask=offs < n) * factor, mask=offs < n)


@triton.jit
def pair_kernel(pair, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    tl.store(pair[1] + offs, tl.load(pair[0] + offs))


tuned_kernel = triton.autotune(configs=[triton.Config({"BLOCK": 1024}), triton.Config({"BLOCK": 2048})], key=["n"])(
    copy_kernel
)


def plain(n=4096, **options):
    x = torch.empty(4096, dtype=torch.bfloat16, device="meta")
    copy_kernel[(1,)](x, x, n, BLOCK=1024, **options)


def misspelt():
    x = torch.empty(4096, device="meta")
    launch(copy_kernel, (1,), x, x, 4096, tile=OtherTile())


def tuned():
    x = torch.empty(4096, device="meta")
    tuned_kernel[lambda meta: (triton.cdiv(4096, meta["BLOCK"]),)](x, x, 4096)


def tuple_argument():
    x = torch.empty(128, device="meta")
    pair_kernel[(1,)]((x, x), BLOCK=128)


@dataclasses.dataclass(frozen=True)
class OtherTile(CopyTile):
    def constexprs(self):
        return {}


def only(function, target="sm_90"):
    (job,) = collect_from(function, (target,), name="mine").jobs
    return job.record


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("n", [1, 16, 4095, 2**40])
def test_a_plain_launch_has_the_record_of_specialise(device, n):
    """Alignment, divisibility, ones and wide integers."""
    x = torch.empty(4097, device=device)
    found = only(lambda: copy_kernel[(3,)](x, x[1:], n, BLOCK=1024, num_warps=8))
    options = {"num_warps": 8, "num_stages": 3, "enable_fp_fusion": True}
    expected = specialise(copy_kernel, (3,), (x, x[1:], n), constexprs={"BLOCK": 1024}, options=options)
    assert found.signature == expected.signature
    assert {name: found.constexprs[name] for name in expected.constexprs} == expected.constexprs
    assert (found.attrs, found.options) == (expected.attrs, expected.options)


def test_options_beside_the_usual_ones_are_kept():
    assert only(lambda: plain(maxnreg=64)).options["maxnreg"] == 64
    assert "maxnreg" not in only(plain).options


def test_each_target_gets_its_own_record_of_one_launch():
    jobs = collect_from(plain, ("sm_80", "sm_90", "gfx942"), name="mine").jobs
    assert [(job.target, job.record.kernel) for job in jobs] == [
        (target, copy_kernel) for target in ("sm_80", "sm_90", "gfx942")
    ]


def test_a_launch_is_collected_every_time_it_is_made():
    """Nothing is compiled, so nothing may be kept as if it were."""
    for _ in range(2):
        assert only(plain).kernel is copy_kernel
    assert len(collect_from(lambda: (plain(16), plain(4095)), ("sm_90",), name="mine").jobs) == 2


def test_plain_launches_and_those_of_core_are_collected_side_by_side():
    def both():
        x = torch.empty(4096, dtype=torch.bfloat16, device="meta")
        launch(copy_kernel, (1,), x, x, 4096, tile=CopyTile(BLOCK=512))
        plain()

    jobs = collect_from(both, ("sm_90",), name="mine").jobs
    assert sorted(job.record.constexprs["BLOCK"] for job in jobs) == [512, 1024]


def test_defaults_and_constexprs_amid_the_arguments_are_bound():
    found = only(lambda: scale_kernel[(1,)](torch.empty(100), torch.empty(100), 128, 100))
    assert list(found.signature) == ["x_ptr", "out_ptr", "BLOCK", "n", "factor"]
    assert (found.constexprs["BLOCK"], found.signature["factor"]) == (128, "fp32")


def test_driver_and_hook_are_put_back_also_after_an_error():
    driver, hook = object(), triton.knobs.runtime.jit_cache_hook
    triton.runtime.driver.set_active(driver)
    try:
        with record_driverless("sm_90"):
            assert triton.runtime.driver.active is not driver
        assert triton.runtime.driver.active is driver
        with pytest.raises(ZeroDivisionError):
            collect_from(lambda: 1 / 0, ("sm_90",), name="mine")
        assert triton.runtime.driver.active is driver
    finally:
        triton.runtime.driver.set_active(None)
    assert triton.knobs.runtime.jit_cache_hook is hook


def test_the_command_compiles_plain_launches(capsys):
    assert main(["static", "--from", f"{HERE}:plain", "--target", "sm_90"]) == 0, capsys.readouterr().out
    assert "copy_kernel bf16/bf16 BLOCK=1024" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("misspelt", "launch: copy_kernel misses BLOCK: an argument, or a constexpr by name."),
        ("tuned", "collect_from: a launch asks the driver for get_benchmarker, and there is no GPU"),
        ("tuple_argument", "collect_from: pair_kernel is given a tuple for pair; it takes tensors, numbers"),
    ],
)
def test_what_cannot_be_collected_is_one_line(function, message, capsys):
    assert main(["static", "--from", f"{HERE}:{function}", "--target", "sm_90"]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert told[0].startswith(message)
