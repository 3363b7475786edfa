# Two commands on a fresh machine do everything: `make demo` and `make test`. They need Python 3.11 or newer and g++.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.opdsl-installed
BUILD_INPUTS := pyproject.toml CMakeLists.txt $(wildcard csrc/runtime/*.cpp csrc/runtime/*.h) csrc/simd/abi.h

.PHONY: demo test setup lint types check clean

demo: setup
	$(BIN)/python -m opdsl.cli.main demo

test: setup
	$(BIN)/python -m pytest -n auto tests

setup: $(STAMP)

# The build tools go into the environment itself, so that a rebuild after a change in csrc/ takes seconds.
$(STAMP): $(BUILD_INPUTS)
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "opdsl needs Python 3.11 or newer; set PYTHON=/path/to/it")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "scikit-build-core>=0.10" "pybind11>=2.13" "numpy>=2.0" cmake ninja
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable ".[test]"
	@$(BIN)/python -m compileall -q opdsl ops
	@touch $@

lint: setup
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

check: test lint types

clean:
	rm -rf build $(STAMP)
