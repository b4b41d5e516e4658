"""Rules that a machine holds: environment, launches, host waits, public signatures, tolerances."""

import ast
import inspect

import pytest
import torch

import lisa_kernels
import lisa_kernels.testing
from tests.architecture.sources import names_used, python_files, tree

SOURCES = ("lisa_kernels", "lisa", "bench", "setup.py")
WAITS = ("item", "tolist", "cpu", "nonzero", "masked_select", "bincount")
# explain takes the arguments of another function, whatever they are.
FORWARDS_ALL = ("explain",)
# They make inputs and judge, on the CPU.
TESTS_ONLY = ("reference.py", "spec.py", "problems.py", "option_cases.py")


def environment_reads(module):
    return [line for line, name in names_used(module) if name in ("environ", "getenv", "environb", "putenv")]


def launches(module):
    """``kernel[grid](...)``: a call of a subscript."""
    calls = (node for node in ast.walk(module) if isinstance(node, ast.Call))
    return [call.lineno for call in calls if isinstance(call.func, ast.Subscript)]


def host_waits(module):
    """Calls that make the host wait for the device; ``tensor.cpu()`` is a call, ``cpu`` in a name is not."""
    calls = (node for node in ast.walk(module) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    return [(call.lineno, call.func.attr) for call in calls if call.func.attr in WAITS]


def tolerance_literals(module):
    calls = (node for node in ast.walk(module) if isinstance(node, ast.Call))
    return [call.lineno for call in calls for keyword in call.keywords if keyword.arg in ("atol", "rtol")]


def tile_literals(module):
    """``num_warps=4`` outside ``tiles.py``; ``num_warps=num_warps`` hands on what a caller chose."""
    calls = (node for node in ast.walk(module) if isinstance(node, ast.Call))
    chosen = ((call, keyword) for call in calls for keyword in call.keywords)
    return [
        call.lineno
        for call, keyword in chosen
        if keyword.arg in ("num_warps", "num_stages") and ast.unparse(keyword.value) != keyword.arg
    ]


def found(check, files):
    wrong = {str(path): check(tree(path)) for path in files}
    return {path: lines for path, lines in wrong.items() if lines}


def test_only_the_settings_read_the_environment():
    files = [path for path in python_files(*SOURCES) if str(path) != "lisa_kernels/core/config.py"]
    assert not found(environment_reads, files)


def test_only_launch_launches_kernels():
    named = ("triton_impl.py", "tl_math.py")
    files = [path for path in python_files("lisa_kernels") if path.name in named or path.name.startswith("kernels")]
    assert not found(launches, files)


def test_nothing_searches_tiles_at_run_time_and_tiles_hold_the_launch_choices():
    searches = {"autotune", "heuristics", "make_block_ptr"}
    files = python_files(*SOURCES)
    assert not found(lambda module: [line for line, name in names_used(module) if name in searches], files)
    assert not found(tile_literals, [path for path in files if path.name not in ("tiles.py", "tiling.py")])


def test_only_tl_math_multiplies_tiles():
    files = [path for path in python_files("lisa_kernels/ops") if path.name.startswith("kernels")]
    assert not found(lambda module: [line for line, name in names_used(module) if name == "bfloat16"], files)
    calls = [(path, node) for path in files for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)]
    assert not [
        (str(path), node.lineno) for path, node in calls if ast.unparse(node) in ("tl.dot", "triton.language.dot")
    ]


def test_host_code_never_waits_for_the_device():
    """What tests alone use is exempt: slow by design.

    Checks of CPU values wait for nothing; they live in ``core/checks.py``, which looks at CPU tensors only.
    """
    files = [path for path in python_files("lisa_kernels/ops") if path.name not in TESTS_ONLY]
    assert files
    assert not found(host_waits, files)


def test_tests_hold_no_tolerance_of_their_own():
    """``lisa_kernels.testing`` derives them; a number chosen by hand hides what got worse."""
    assert not found(tolerance_literals, python_files("tests"))


@pytest.mark.parametrize(
    ("check", "code"),
    [
        (environment_reads, "import os; os.environ['X']"),
        (environment_reads, "from os import getenv"),
        (launches, "kernel[(1,)](x, y)"),
        (host_waits, "n = lengths.max().item()"),
        (host_waits, "x.cpu()"),
        (tolerance_literals, "torch.allclose(a, b, rtol=1e-3)"),
        (tile_literals, "launch(kernel, num_warps=8)"),
    ],
)
def test_a_planted_offence_is_caught(check, code):
    assert check(ast.parse(code))


def public_functions():
    """Yield (name, function) of what users call: functions, and constructor and forward of modules."""
    for module in (lisa_kernels, lisa_kernels.testing):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value):
                yield name, value
    for name in lisa_kernels.nn.__all__:
        value = getattr(lisa_kernels.nn, name)
        assert issubclass(value, torch.nn.Module)
        yield f"{name}.__init__", value.__init__
        yield f"{name}.forward", value.forward


def signature_faults(name, function):
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    kinds = inspect.Parameter
    faults = [f"{p.name} has no annotation" for p in parameters if p.annotation is kinds.empty]
    if sum(p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD) for p in parameters) > 4:
        faults.append("more than 4 positional parameters")
    if any(p.kind is kinds.VAR_KEYWORD for p in parameters) and name not in FORWARDS_ALL:
        faults.append("takes any keyword")
    if inspect.signature(function).return_annotation is inspect.Signature.empty:
        faults.append("has no return annotation")
    if not function.__doc__ and not name.endswith("__init__"):
        faults.append("has no docstring")
    return faults


def test_public_functions_are_annotated_short_and_documented():
    faults = {name: signature_faults(name, function) for name, function in public_functions()}
    assert "ctc_loss" in faults
    assert not {name: wrong for name, wrong in faults.items() if wrong}


def test_a_planted_signature_is_caught():
    def planted(a, b: int, c: int, d: int, e: int, **options: int):
        pass

    assert len(signature_faults("planted", planted)) == 5


@pytest.mark.parametrize("name", ["lisa_kernels", "lisa_kernels.nn"])
def test_public_docstrings_of_modules_and_classes_exist(name):
    module = lisa_kernels if name == "lisa_kernels" else lisa_kernels.nn
    assert module.__doc__
    assert not [n for n in module.__all__ if n != "__version__" and not getattr(module, n).__doc__]
