"""Settings: every variable, its default and its refusal of other values."""

import pytest

from lisa_kernels.core import config
from lisa_kernels.core.config import Settings, read_settings

VARIABLES = ("LISA_BACKEND", "LISA_CPU_CAPABILITY", "LISA_BUILD", "LISA_CUDA_ARCHS", "CXX", "TRITON_INTERPRET")


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    read_settings.cache_clear()
    yield
    monkeypatch.undo()
    read_settings.cache_clear()


def test_defaults_without_any_variable():
    assert read_settings() == Settings(None, None, "auto", ("80", "90a", "100a"), None, False)


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("LISA_BACKEND", "reference", "backend", "reference"),
        ("LISA_CPU_CAPABILITY", "avx2", "cpu_capability", "avx2"),
        ("LISA_BUILD", "none", "build", "none"),
        ("LISA_CUDA_ARCHS", "90a; 120", "cuda_archs", ("90a", "120")),
        ("CXX", "ccache g++", "compiler", "ccache g++"),
        ("TRITON_INTERPRET", "1", "interpret", True),
        ("TRITON_INTERPRET", "0", "interpret", False),
        ("LISA_BACKEND", "", "backend", None),
    ],
)
def test_a_variable_sets_its_field(monkeypatch, variable, value, field, expected):
    monkeypatch.setenv(variable, value)
    assert getattr(read_settings(), field) == expected


@pytest.mark.parametrize(
    ("variable", "allowed"),
    [
        ("LISA_BACKEND", config.BACKENDS),
        ("LISA_CPU_CAPABILITY", config.CAPABILITIES),
        ("LISA_BUILD", config.BUILDS),
    ],
)
def test_another_value_raises_with_the_allowed_ones(monkeypatch, variable, allowed):
    monkeypatch.setenv(variable, "planted")
    with pytest.raises(ValueError, match=f"{variable} is 'planted'; it takes one of {', '.join(allowed)}"):
        read_settings()


def test_settings_are_read_once_per_process(monkeypatch):
    before = read_settings()
    monkeypatch.setenv("LISA_BACKEND", "reference")
    assert read_settings() is before
