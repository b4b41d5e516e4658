# Every verb does its own set-up; what is done already is skipped.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
NATIVE := $(shell find csrc -type f 2>/dev/null) setup.py pyproject.toml
CXX_FILES := $(shell find csrc tests -name '*.h' -o -name '*.cuh' -o -name '*.cpp' -o -name '*.cu')

.PHONY: help setup data demo test test-fast lint fmt bench verify prove static gpu clean
.DEFAULT_GOAL := help

help:       ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 20

setup: $(VENV)/.built  ## .venv with pinned requirements and the native extension

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "LISA needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Name another: make PYTHON=python3.12 setup"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "python3 -m venv failed: install your system's venv package (Debian: python3-venv)"; exit 1; }
	@touch $@

$(VENV)/.required: requirements.txt $(VENV)/.created
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.built: $(VENV)/.required $(NATIVE)
	$(PY) -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

# Tests that need the recordings skip, with the reason, where they cannot be had.
data: setup  ## the Asterisk prompts (12 MB), for demo and tests
	@test -f data/asterisk/manifest.json || $(PY) -m lisa data get

demo: setup  ## train a speech recogniser with our CTC on real speech; writes runs/demo/report.html (8 minutes)
	$(PY) -m lisa demo

test: setup  ## all tests that need no GPU
	@$(MAKE) --no-print-directory data || echo "going on without recordings"
	$(PY) -m pytest tests --ignore=tests/interpreted -m "not gpu and not prove"
	TRITON_INTERPRET=1 $(PY) -m pytest tests/interpreted -m "not prove"

test-fast: setup  ## the tests that take seconds
	$(PY) -m pytest tests --ignore=tests/interpreted -m "not gpu and not prove and not slow" -x -q

lint: setup  ## formatting and static checks
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/clang-format --dry-run --Werror $(CXX_FILES)

fmt: setup  ## format everything
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/clang-format -i $(CXX_FILES)

bench: setup  ## time every provider; writes runs/bench/report.html
	@mkdir -p runs/bench
	$(PY) -m bench run --json runs/bench/rows.json
	$(PY) -m bench report --json runs/bench/rows.json --out runs/bench/report.html

verify: setup  ## numerics of every op on this machine against fp64
	$(PY) -m lisa_kernels.verify --full

# One process either interprets Triton kernels or compiles them.
prove: setup  ## prove the GPU code without a GPU, thoroughly; writes runs/prove
	@mkdir -p runs/prove
	$(PY) -m pytest tests --ignore=tests/interpreted -m "prove and not gpu"
	TRITON_INTERPRET=1 $(PY) -m pytest tests/interpreted
	for means in interpreted emulated host; do \
	  $(PY) -m lisa_kernels.verify --backend $$means --json runs/prove/$$means.json || exit 1; done
	$(PY) -m bench static --json runs/prove/static.json
	$(PY) -m tests.mutation --out runs/prove/mutations.md

static: setup  ## compile every GPU kernel for every target and print registers, spills, instructions
	$(PY) -m bench static

gpu: setup  ## judge and time everything on a GPU; resumable; writes runs/gpu/<device>-<date>/report.md (15 minutes)
	@$(PY) -m bench gpu

clean:      ## build outputs and caches; data, runs and .venv stay
	rm -rf build dist *.egg-info lisa_kernels/_C*.so .pytest_cache .ruff_cache .benchmarks $(VENV)/.built
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
