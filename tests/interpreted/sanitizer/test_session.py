"""Each kind of fault planted, and the right kernel beside it without a fault."""

import re
from pathlib import Path

import pytest
import torch
from triton.tools.tensor_descriptor import TensorDescriptor

from lisa_kernels.testing.interpreter import NotInterpretedError, honest_interpreter
from lisa_kernels.testing.sanitizer import SanitizerError, faults, sanitize
from tests.interpreted.sanitizer import kernels
from tests.interpreted.stock import needs_poll
from tests.specimens.specimens import SPECIMENS

N, BLOCK = 100, 32
GRID = (4,)


def kinds(report):
    return {fault.kind for fault in report.faults}


def only(report):
    (fault,) = report.faults
    return fault


def alone(count):
    """Ones with nothing of the launch beside them: what lies next to another tensor is told as that one's."""
    return torch.ones(count + 2048)[1024 : 1024 + count]


def source_line(kernel, text):
    lines = Path(kernels.__file__).read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if f"def {kernel}(" in line)
    return next(i for i in range(start, len(lines)) if text in lines[i]) + 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int8, torch.int64], ids=str)
def test_a_right_kernel_has_no_fault(dtype):
    x, out = torch.arange(N).to(dtype), torch.empty(N, dtype=dtype)
    with sanitize(outputs=["out_ptr"], poison=True) as report:
        kernels.copy_kernel[GRID](x, out, N, BLOCK)
    assert report.faults == ()
    assert torch.equal(out, x)


@pytest.mark.parametrize("name", SPECIMENS)
def test_the_specimens_have_no_fault(name):
    """Their tensors are views with padding, and core's ``launch`` runs them."""
    specimen = SPECIMENS[name]
    args = specimen.make_args(0)
    with sanitize(specimen_tensors(specimen, args), outputs=specimen.outputs, poison=True) as report:
        specimen.launch(args)
    assert report.faults == ()
    assert set(report.traffic.tensors) <= set(specimen.named(args))


def specimen_tensors(specimen, args):
    return {name: value for name, value in specimen.named(args).items() if isinstance(value, torch.Tensor)}


def test_a_load_past_the_end_names_tensor_program_lanes_and_line():
    with sanitize(raise_on_fault=False) as report:
        kernels.unmasked_load_kernel[GRID](alone(N), alone(N), N, BLOCK)
    fault = only(report)
    assert (fault.kind, fault.tensor, fault.program) == (faults.OUT_OF_BOUNDS, "x_ptr", (3, 0, 0))
    assert fault.where == "load 1 element past the end of x_ptr, float32 (100)"
    assert fault.lanes == "28 of 32 lanes, first [4]"
    line = source_line("unmasked_load_kernel", "tl.load(")
    assert fault.line == f"tests/interpreted/sanitizer/kernels.py:{line}"
    assert (fault.elements, fault.programs) == (28, 1)


def test_a_load_before_the_start_is_out_of_bounds():
    with sanitize(raise_on_fault=False) as report:
        kernels.below_kernel[GRID](alone(N), alone(N), N, BLOCK)
    assert only(report).where == "load 2 elements before the start of x_ptr, float32 (100)"
    assert only(report).program == (0, 0, 0)


def test_a_store_past_the_end_is_out_of_bounds_and_does_not_happen():
    storage = torch.zeros(128)
    with sanitize(raise_on_fault=False) as report:
        kernels.unmasked_store_kernel[GRID](torch.ones(N), storage[:N], N, BLOCK)
    assert only(report).where == "store 1 element past the end of out_ptr, float32 (100)"
    assert storage[:N].eq(1).all()
    assert storage[N:].eq(0).all()


def test_a_widened_store_leaves_the_tensor_halfway():
    with sanitize(raise_on_fault=False) as report:
        kernels.widened_store_kernel[(1,)](alone(32), alone(32), 32)
    assert only(report).where == "store 1 element past the end of out_ptr, float32 (32)"
    assert only(report).lanes == "16 of 32 lanes, first [16]"


def test_bytes_of_an_element_are_told_apart():
    """Two programs write the halves of one fp32: no byte twice, so no race."""
    x, out = torch.randn(24), torch.zeros(24)
    with sanitize(outputs=["out_ptr"]) as report:
        kernels.bytes_kernel[(48,)](x, out, 2)
    assert torch.equal(x, out)
    assert report.traffic["x_ptr"].loaded == 96
    with sanitize(raise_on_fault=False) as report:
        kernels.bytes_kernel[(49,)](x, out, 2)
    assert [(fault.kind, fault.elements) for fault in report.faults] == [(faults.OUT_OF_BOUNDS, 2)] * 2


def test_a_load_past_the_end_gives_nan():
    x, out = torch.ones(128), torch.zeros(128)
    with sanitize(raise_on_fault=False):
        kernels.copy_kernel[GRID](x[:N], out, 128, BLOCK)
    assert out[:N].eq(1).all()
    assert out[N:].isnan().all()


def test_a_failed_assertion_is_a_fault_and_the_kernel_goes_on():
    x, out = torch.ones(N), torch.zeros(N)
    with sanitize() as report:
        kernels.asserting_kernel[GRID](x, out, N, BLOCK)
    assert report.faults == ()
    x[40:44] = x[70] = -1
    with sanitize(raise_on_fault=False) as report:
        kernels.asserting_kernel[GRID](x, out, N, BLOCK)
    fault = only(report)
    assert (fault.kind, fault.where, fault.program) == (faults.ASSERTION, "'x must be positive' fails", (1, 0, 0))
    assert (fault.lanes, fault.elements, fault.programs) == ("4 of 32 lanes, first [8]", 5, 2)
    line = source_line("asserting_kernel", "tl.device_assert(")
    assert fault.line == f"tests/interpreted/sanitizer/kernels.py:{line}"
    assert torch.equal(out, x)


def test_a_sum_over_lanes_that_are_masked_off_is_nan():
    out = torch.zeros(1)
    with sanitize():
        kernels.careless_sum_kernel[GRID](torch.ones(N), out, N, BLOCK)
    assert out.isnan()


def test_a_wild_pointer_does_no_harm():
    with sanitize(raise_on_fault=False) as report:
        kernels.scatter_kernel[(1,)](torch.full((4,), 2**40), torch.ones(4), torch.ones(4), 4, 4)
    assert faults.OUT_OF_BOUNDS in kinds(report)


@pytest.mark.parametrize("columns", [8, 16])
def test_the_gaps_of_a_strided_view_are_out_of_bounds(columns):
    """Eight columns of a matrix of sixteen: a row of sixteen lanes touches what the launch was not given."""
    wide, out = torch.ones(4, 16), torch.zeros(4, 16)
    with sanitize(raise_on_fault=False) as report:
        kernels.rows_kernel[GRID](wide[:, :8], out, 16, columns)
    assert len(report.faults) == (columns == 16)
    if columns == 16:
        assert (
            only(report).where
            == "load between the elements of x_ptr, float32 (4, 8) with strides (16, 1), 8 elements behind the first"
        )


def test_two_views_of_one_storage_share_it():
    """Interleaved columns: each view alone has gaps, which the other fills."""
    both = torch.ones(4, 16)
    with sanitize() as report:
        kernels.rows_kernel[GRID](both[:, :8], both[:, 8:], 16, 8)
    assert report.traffic["x_ptr"].loaded == report.traffic["out_ptr"].stored == 4 * 8 * 4


def test_descriptors_are_watched_too():
    x, out = torch.ones(40, 48), torch.zeros(40, 48)
    wrong = TensorDescriptor(out, [48, 48], [48, 1], [16, 16])
    with sanitize() as report:
        kernels.descriptor_kernel[(3, 3)](
            TensorDescriptor.from_tensor(x, [16, 16]), TensorDescriptor.from_tensor(out, [16, 16]), 16
        )
    assert report.traffic["source"].loaded == report.traffic["target"].stored == 40 * 48 * 4
    with sanitize(raise_on_fault=False) as report:
        kernels.descriptor_kernel[(3, 3)](TensorDescriptor.from_tensor(x, [16, 16]), wrong, 16)
    assert (only(report).kind, only(report).tensor) == (faults.OUT_OF_BOUNDS, "target")


def test_a_hole_in_an_output_is_named():
    with sanitize(outputs=["out_ptr"], raise_on_fault=False) as report:
        kernels.hole_kernel[GRID](torch.ones(N), torch.ones(N), N, BLOCK)
    assert (only(report).kind, only(report).where) == (
        faults.UNWRITTEN,
        "out_ptr[99] is never written, 1 of 100 elements are like it",
    )


def test_each_tensor_of_an_output_parameter_is_checked():
    x = torch.ones(N)
    with sanitize(outputs=["out_ptr"], raise_on_fault=False) as report:
        kernels.copy_kernel[GRID](x, torch.ones(N), N, BLOCK)
        kernels.hole_kernel[GRID](x, torch.ones(N), N, BLOCK)
    assert only(report).where.startswith("hole_kernel.out_ptr[99] is never written")


def test_an_output_that_an_earlier_launch_filled_keeps_its_content():
    x, total = torch.ones(N), torch.ones(1)
    with sanitize(outputs=["out_ptr"]):
        kernels.partial_kernel[(1,)](x, total, N, 128)
        kernels.atomic_sum_kernel[GRID](x, total, N, BLOCK)
    assert total.item() == 2 * N


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.bool, torch.uint8], ids=str)
def test_every_dtype_can_be_poisoned(dtype):
    x, out = torch.ones(N).to(dtype), torch.ones(N).to(dtype)
    with sanitize(outputs=["out_ptr"], poison=True) as report:
        kernels.copy_kernel[GRID](x, out, N, BLOCK)
    assert torch.equal(out.view(torch.uint8), x.view(torch.uint8))
    assert report.traffic["out_ptr"].stored == N


def test_poison_that_reaches_an_output_is_named():
    x = torch.ones(N)
    x[7] = float("nan")
    with sanitize(outputs=["out_ptr"], poison=True, raise_on_fault=False) as report:
        kernels.copy_kernel[GRID](x, torch.ones(N), N, BLOCK)
    assert only(report).kind == faults.POISON_LEFT
    assert only(report).where.startswith("out_ptr[7] is NaN at the end")


def test_reading_an_output_before_it_is_written_is_a_fault():
    out = torch.zeros(1)
    with sanitize({"total": out}, outputs=["total"], raise_on_fault=False) as report:
        kernels.atomic_sum_kernel[GRID](torch.ones(N), out, N, BLOCK)
    assert only(report).kind == faults.UNINITIALISED
    assert only(report).where == "atomic of total[0]"


def two_stages(parts_read, fill=None):
    """A workspace that host code allocates in the block."""
    x, out = torch.ones(N), torch.zeros(1)
    with sanitize(raise_on_fault=False) as report:
        work = torch.empty(8)
        if fill is not None:
            work.fill_(fill)
        kernels.partial_kernel[GRID](x, work, N, BLOCK)
        kernels.combine_kernel[(1,)](work, out, parts_read, 8)
    return report, out


def test_a_workspace_read_where_nothing_wrote_is_a_fault_without_being_named():
    report, out = two_stages(4)
    assert report.faults == ()
    assert out.item() == N
    report, _ = two_stages(5)
    assert only(report).kind == faults.UNINITIALISED
    assert only(report).where == "load of work_ptr[4]"
    assert only(report).kernel == "combine_kernel"


def test_a_workspace_that_torch_fills_holds_something():
    assert two_stages(8, fill=0.0)[0].faults == ()


def test_memory_that_an_operator_of_another_library_allocates_is_known():
    """``torch.library`` operators run below the modes of PyTorch: workspaces of ops would go unseen."""
    library = torch.library.Library("lisa_sanitizer_test", "DEF")
    library.define("total(Tensor x, int parts) -> Tensor")

    def total(x, parts):
        work, out = torch.empty(8), torch.empty(1)
        kernels.partial_kernel[GRID](x, work, N, BLOCK)
        kernels.combine_kernel[(1,)](work, out, parts, 8)
        return out

    library.impl("total", total, "CompositeExplicitAutograd")
    for parts, found in ((4, set()), (5, {faults.UNINITIALISED})):
        with sanitize(raise_on_fault=False) as report:
            torch.ops.lisa_sanitizer_test.total(torch.ones(N), parts)
        assert kinds(report) == found


def test_a_hole_in_what_an_operator_returns_is_a_fault_without_being_named():
    library = torch.library.Library("lisa_sanitizer_hole", "DEF")
    library.define("copy(Tensor x, bool hole) -> Tensor")

    def copy(x, hole):
        out = torch.empty_like(x)
        (kernels.hole_kernel if hole else kernels.copy_kernel)[GRID](x, out, N, BLOCK)
        return out

    library.impl("copy", copy, "CPU")
    for hole in (False, True):
        with sanitize(raise_on_fault=False) as report:
            torch.ops.lisa_sanitizer_hole.copy(torch.ones(N), hole)
        assert kinds(report) == ({faults.UNWRITTEN} if hole else set())
    assert only(report).where.startswith(
        "out_ptr[99] is never written, and lisa_sanitizer_hole.copy.default returns it"
    )


def test_what_native_code_fills_holds_something():
    """An operator that launches no Triton kernel writes past PyTorch."""
    library = torch.library.Library("lisa_sanitizer_native", "DEF")
    library.define("ones(Tensor like) -> Tensor")

    def ones(like):
        out = torch.empty(like.shape)
        out.numpy()[:] = 1.0
        return out

    library.impl("ones", ones, "CPU")
    with sanitize():
        work = torch.ops.lisa_sanitizer_native.ones(torch.zeros(4))
        kernels.combine_kernel[(1,)](work, torch.zeros(1), 4, 4)


def test_a_racy_sum_is_a_race_even_in_the_plain_order():
    with sanitize(raise_on_fault=False) as report:
        kernels.racy_sum_kernel[GRID](torch.ones(N), torch.zeros(1), N, BLOCK)
    assert kinds(report) == {faults.READ_OF_WRITE, faults.TWO_WRITERS, faults.WRITE_OF_READ}
    race = next(fault for fault in report.faults if fault.kind == faults.TWO_WRITERS)
    assert (race.program, race.other, race.programs) == ((1, 0, 0), (0, 0, 0), 3)


def test_atomics_do_not_race():
    out = torch.zeros(1)
    with sanitize():
        kernels.atomic_sum_kernel[GRID](torch.ones(N), out, N, BLOCK)
    assert out.item() == N


def test_a_plain_load_of_what_others_count_atomically_is_exempt():
    out = torch.zeros(4, dtype=torch.int32)
    with sanitize():
        kernels.look_kernel[GRID](torch.zeros(1, dtype=torch.int32), out)
    assert out.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("programs", [2, 3, 4])
def test_a_program_that_changes_what_it_and_others_read_is_a_race(programs):
    with sanitize(raise_on_fault=False) as report:
        kernels.last_overwrites_kernel[(programs,)](torch.ones(1), torch.zeros(4))
    assert kinds(report) == {faults.WRITE_OF_READ}


def test_an_atomic_on_what_another_program_stored_is_a_race():
    with sanitize(raise_on_fault=False) as report:
        kernels.late_init_kernel[GRID](torch.ones(N), torch.zeros(1), N, BLOCK)
    assert kinds(report) == {faults.TWO_WRITERS}


def test_programs_that_overlap_race_though_they_write_the_same_values():
    with sanitize(raise_on_fault=False) as report:
        kernels.overlap_kernel[GRID](torch.ones(N), torch.zeros(N), N, BLOCK)
    assert only(report).kind == faults.TWO_WRITERS
    assert only(report).where == "store of out_ptr[31]"
    assert only(report).lanes == "1 of 32 lanes, first [0]"


def test_launches_one_after_another_do_not_race():
    x, out = torch.ones(N), torch.zeros(N)
    with sanitize():
        kernels.copy_kernel[GRID](x, out, N, BLOCK)
        kernels.copy_kernel[(2,)](out, x, N, 64)


def test_a_scatter_with_one_target_twice_is_found_within_a_program_and_between_programs():
    index, x = torch.arange(N), torch.ones(N)
    with sanitize():
        kernels.scatter_kernel[GRID](index, x, torch.zeros(N), N, BLOCK)
    index[5] = 6
    with sanitize(raise_on_fault=False) as report:
        kernels.scatter_kernel[GRID](index, x, torch.zeros(N), N, BLOCK)
    assert only(report).kind == faults.DUPLICATE_LANES
    assert only(report).where == "store of out_ptr[6]"
    assert only(report).lanes == "2 of 32 lanes, first [5]"
    index[5] = 70
    with sanitize(raise_on_fault=False) as report:
        kernels.scatter_kernel[GRID](index, x, torch.zeros(N), N, BLOCK)
    assert kinds(report) == {faults.TWO_WRITERS}


def test_data_handed_over_behind_a_flag_is_exempt_by_name():
    def hand_over(**options):
        data, flags, out = (torch.zeros(4, dtype=torch.int32) for _ in range(3))
        with sanitize(raise_on_fault=False, **options) as report:
            kernels.hand_over_kernel[GRID](data, flags, out)
        return report

    assert kinds(hand_over()) == {faults.READ_OF_WRITE}
    assert hand_over(exempt=["data_ptr"]).faults == ()


def chain(backward, **options):
    sums, flags = torch.zeros(4, dtype=torch.int32), torch.zeros(4, dtype=torch.int32)
    with sanitize(raise_on_fault=False, **options) as report:
        kernels.chain_kernel[GRID](sums, flags, backward)
    return report, sums


@needs_poll
def test_atomic_loads_and_stores_of_flags_need_no_exemption():
    report, sums = chain(False, exempt=["sum_ptr"])
    assert report.faults == ()
    assert sums.tolist() == [1, 2, 3, 4]
    assert {(fault.kind, fault.tensor) for fault in chain(False)[0].faults} == {(faults.READ_OF_WRITE, "sum_ptr")}


@needs_poll
def test_waiting_for_a_later_program_is_refused_and_works_in_the_other_order():
    with pytest.raises(NotInterpretedError, match="waiting for a flag that a later program sets"):
        chain(True)
    assert chain(True, exempt=["sum_ptr"], program_order=-1)[1].tolist() == [4, 3, 2, 1]


def test_an_exempt_parameter_may_have_had_another_name_before():
    data, flags, out = (torch.zeros(4, dtype=torch.int32) for _ in range(3))
    with sanitize(exempt=["data_ptr"]):
        kernels.copy_kernel[(1,)](data, out, 4, 4)
        kernels.hand_over_kernel[GRID](data, flags, out)


def test_a_tensor_reached_by_its_address_is_allowed_when_named():
    x, out = torch.ones(BLOCK), torch.zeros(BLOCK)
    address = torch.tensor([x.data_ptr()])
    with sanitize({"x": x}) as report:
        kernels.through_address_kernel[(1,)](address, out, BLOCK)
    assert report.traffic["x"].loaded == BLOCK * 4
    with sanitize(raise_on_fault=False) as report:
        kernels.through_address_kernel[(1,)](address, out, BLOCK)
    assert only(report).kind == faults.OUT_OF_BOUNDS


def two_faulty_launches():
    kernels.unmasked_load_kernel[GRID](alone(N), alone(N), N, BLOCK)
    kernels.overlap_kernel[GRID](torch.ones(N), torch.zeros(N), N, BLOCK)


def test_the_error_lists_every_fault():
    with pytest.raises(SanitizerError) as caught, sanitize():
        two_faulty_launches()
    assert len(caught.value.faults) == 2
    expected = r"sanitize: 2 faults\n  tests/.*: out of bounds: load 1 .*\n  tests/.*: two programs write: store of"
    assert re.match(expected, str(caught.value))


def test_an_error_inside_the_block_stays_and_tells_what_was_seen():
    def fail():
        two_faulty_launches()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught, sanitize():
        fail()
    assert "out of bounds" in caught.value.__notes__[0]


def test_the_same_name_in_two_kernels_is_told_apart():
    a, b, c = torch.ones(N), torch.zeros(N), torch.zeros(N)
    with sanitize() as report:
        kernels.copy_kernel[GRID](a, b, N, BLOCK)
        kernels.hole_kernel[GRID](b, c, N, BLOCK)
    assert list(report.traffic.tensors) == ["x_ptr", "out_ptr", "hole_kernel.out_ptr"]


@pytest.mark.parametrize("argument", ["outputs", "exempt"])
def test_a_name_that_no_launch_had_is_refused(argument):
    expected = rf"{argument} holds \['y'\]; it takes names of tensors, here out_ptr, x_ptr\."
    with pytest.raises(ValueError, match=expected), sanitize(**{argument: ["y"]}):
        kernels.copy_kernel[GRID](torch.ones(N), torch.ones(N), N, BLOCK)


def test_blocks_do_not_nest():
    with sanitize(), pytest.raises(RuntimeError, match="sanitize: it is active already"), sanitize():
        pass


def test_honest_blocks_inside_keep_watching():
    with sanitize(raise_on_fault=False) as report, honest_interpreter():
        kernels.unmasked_load_kernel[GRID](alone(N), alone(N), N, BLOCK)
    assert kinds(report) == {faults.OUT_OF_BOUNDS}


@pytest.mark.parametrize("order", [-1, 0, 1])
def test_faults_do_not_depend_on_the_order_of_programs(order):
    with sanitize(program_order=order, raise_on_fault=False) as report:
        kernels.racy_sum_kernel[GRID](torch.ones(N), torch.zeros(1), N, BLOCK)
        kernels.unmasked_load_kernel[GRID](alone(N), alone(N), N, BLOCK)
    assert kinds(report) == {faults.READ_OF_WRITE, faults.TWO_WRITERS, faults.WRITE_OF_READ, faults.OUT_OF_BOUNDS}
    outside = next(fault for fault in report.faults if fault.kind == faults.OUT_OF_BOUNDS)
    assert outside.program == (3, 0, 0)


def test_empty_tensors_and_missing_ones_are_fine():
    with sanitize():
        kernels.copy_kernel[(1,)](torch.ones(0), torch.ones(0), 0, BLOCK)
