"""``import lisa_kernels`` is light, works without everything optional, and says when it will be slow."""

import subprocess
import sys

from tests.architecture.sources import ROOT

OPTIONAL = ("triton", "numpy", "transformers", "diffusers", "lisa_kernels._C")


def run(code, **environment):
    settings = [f"{name}={value}" for name, value in environment.items()]
    command = ["env", "-u", "LISA_BACKEND", *settings, sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_importing_loads_nothing_heavy():
    code = (
        "import sys, torch; before = set(sys.modules); import lisa_kernels;"
        " print(sorted({n.split('.')[0] for n in set(sys.modules) - before if 'lisa' not in n} & set(sys.argv[1:])),"
        " 'lisa_kernels._C' in sys.modules, 'lisa_kernels.testing' in sys.modules)"
    )
    command = [sys.executable, "-c", code, "triton", "transformers", "diffusers", "numpy", "pytest"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.strip() == "[] False False", done.stderr


def test_without_anything_optional_it_runs_and_warns_once():
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL}));"
        " import torch, warnings, lisa_kernels; warnings.simplefilter('always');"
        " call = lambda: lisa_kernels.ctc_loss(torch.zeros(3, 1, 4), torch.tensor([[1]]), [3], [1]);"
        " call(); print(float(call()) > 0)"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "True"
    assert done.stderr.count("RuntimeWarning") == 1
    assert "slow reference backend" in done.stderr
    assert "the native extension is not built: reinstall where a C++ compiler is in PATH" in done.stderr


def test_a_wrong_setting_is_one_clear_error():
    done = run("import lisa_kernels", LISA_BACKEND="gpu")
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1].startswith("ValueError: LISA_BACKEND is 'gpu'; it takes one of cuda")


def test_a_setting_forces_its_backend():
    code = (
        "import torch, lisa_kernels;"
        "print(lisa_kernels.explain('ctc_loss', torch.zeros(3, 1, 4), torch.tensor([[1]]), [3], [1]).chosen)"
    )
    assert run(code, LISA_BACKEND="reference").stdout.strip() == "reference"
