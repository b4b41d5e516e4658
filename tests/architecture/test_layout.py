"""One name per op in all trees, the same files in every op folder, and arrows that point one way."""

import ast

import pytest

from lisa_kernels.core import registry
from tests.architecture.sources import PACKAGE, ROOT, imports, python_files, tree, within

ALWAYS = ("README.md", "reference.py", "spec.py", "op.py", "__init__.py")
BY_BACKEND = {
    "cpu": ("native_impl.py",),
    "cuda": ("native_impl.py",),
    "triton": ("tiles.py", "kernels*.py", "triton_impl.py"),
}
# Heavy libraries have a door of their own; the kernels' package needs torch alone.
HEAVY = ("transformers", "diffusers", "open_clip")


def backends(folder):
    """Return the backends that the op's ``define_op`` calls name."""
    calls = [node for node in ast.walk(tree(f"lisa_kernels/ops/{folder}/op.py")) if isinstance(node, ast.Call)]
    return {
        element.value
        for call in calls
        for keyword in call.keywords
        if keyword.arg == "backends"
        for element in keyword.value.elts
    }


def forbidden_imports(path, module):
    """Return what a file imports against the arrows of the architecture."""
    parts = path.parts
    names = list(imports(module))
    if parts[0] == "lisa":
        return [name for name in names if within(name, "lisa_kernels") and not public(name)]
    banned = ["lisa", "bench", "tests"]
    if parts[:2] == ("lisa_kernels", "core"):
        banned += ["lisa_kernels.ops", "lisa_kernels.nn", "lisa_kernels.testing", "lisa_kernels.integrations"]
    if parts[:2] == ("lisa_kernels", "nn"):
        banned += ["lisa_kernels.testing", "lisa_kernels.integrations"]
    if "integrations" not in parts:
        banned += HEAVY
    if path.name in ("reference.py", "spec.py", "tiles.py"):
        banned += ["triton"]
    if path.name.startswith("kernels"):
        banned += ["torch"]
    found = [name for name in names if within(name, *banned)]
    if parts[:2] == ("lisa_kernels", "ops") and len(parts) > 3:
        # ctc_align may use what ctc has, not the other way round.
        family = [parts[2][:end] for end in range(len(parts[2])) if parts[2][end] == "_"]
        own = ("lisa_kernels.core", *(f"lisa_kernels.ops.{name}" for name in (parts[2], *family)))
        found += [name for name in names if within(name, "lisa_kernels") and not within(name, *own)]
    return found


def public(name):
    """Names a user may import: those of the package itself, of ``nn`` and of ``testing``."""
    below = name.removeprefix("lisa_kernels").strip(".").split(".")
    return len(below) == 1 or (len(below) == 2 and below[0] in ("nn", "testing"))


@pytest.mark.parametrize("folder", registry.folders())
def test_an_op_folder_is_complete(folder):
    named = backends(folder)
    assert "reference" in named
    wanted = [*ALWAYS, *(file for backend in sorted(named) for file in BY_BACKEND.get(backend, ()))]
    assert not [file for file in wanted if not list((PACKAGE / "ops" / folder).glob(file))]
    if named & {"cpu", "cuda"}:
        assert list((ROOT / "csrc" / "ops" / folder).glob(f"{folder}*")), f"csrc/ops/{folder} holds no {folder}*"


@pytest.mark.parametrize("folder", registry.folders())
def test_tests_and_benchmark_carry_the_op_s_name(folder):
    assert (ROOT / "tests" / "ops" / f"test_{folder}.py").is_file()
    assert (ROOT / "bench" / "ops" / f"{folder}.py").is_file()


def test_every_folder_below_ops_is_an_op():
    folders = {path.name for path in (PACKAGE / "ops").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(registry.folders())


def test_no_import_goes_against_the_arrows():
    wrong = {str(path): forbidden_imports(path, tree(path)) for path in python_files("lisa_kernels", "lisa")}
    assert not {path: names for path, names in wrong.items() if names}


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("lisa_kernels/core/x.py", "from lisa_kernels.ops.ctc import ctc_loss"),
        ("lisa_kernels/core/x.py", "from lisa_kernels import nn"),
        ("lisa_kernels/ops/ctc/x.py", "from lisa_kernels.ops.attention import op"),
        ("lisa_kernels/ops/ctc/x.py", "from lisa_kernels.ops.ctc_align import op"),
        ("lisa_kernels/ops/ctc/x.py", "import lisa_kernels.testing"),
        ("lisa_kernels/ops/ctc/reference.py", "import triton"),
        ("lisa_kernels/ops/ctc/kernels_bwd.py", "import torch"),
        ("lisa_kernels/nn/x.py", "import transformers"),
        ("lisa_kernels/nn/x.py", "from tests import conftest"),
        ("lisa_kernels/testing/x.py", "from lisa.data import load"),
        ("lisa/x.py", "from lisa_kernels.core import dispatch"),
        ("lisa/x.py", "import lisa_kernels.ops.ctc"),
    ],
)
def test_a_planted_import_is_caught(file, line):
    """Else the test above proves nothing."""
    assert forbidden_imports(type(ROOT)(file), ast.parse(line))


def test_an_op_may_use_the_one_whose_name_it_extends():
    path = type(ROOT)("lisa_kernels/ops/ctc_align/x.py")
    assert not forbidden_imports(path, ast.parse("from lisa_kernels.ops.ctc import kernels_target"))


@pytest.mark.parametrize(
    "line", ["import lisa_kernels", "from lisa_kernels.nn import CTCLoss", "from lisa import data"]
)
def test_a_public_import_is_allowed_in_lisa(line):
    assert not forbidden_imports(type(ROOT)("lisa/x.py"), ast.parse(line))
