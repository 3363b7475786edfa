# Two commands on a fresh machine do everything: `make demo` and `make test`. They need Python 3.11 or newer and g++.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.opdsl-installed
BUILD_INPUTS := pyproject.toml CMakeLists.txt $(wildcard csrc/runtime/*.cpp csrc/runtime/*.h csrc/npu*/*.cpp csrc/npu/*.h) csrc/simd/abi.h

.PHONY: demo test setup lint types check fuzz replay sanitize sanitized clean

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
	$(BIN)/mypy --config-file tests/mypy.ini

check: test lint types

FUZZ ?= --count 2000 --seed 0
fuzz: setup
	$(BIN)/python -m tests.fuzz $(FUZZ)

# Which texts of kernels (IR, C++, Triton, NPU programs) differ from those of another revision: docs/golden-texts.md.
replay: setup
	PYTHONPATH=tests $(BIN)/python -m golden.replay $(BASE) $(REVISION)

# AddressSanitizer and UBSan in csrc/ and in generated code. Python itself leaks by design, and the fuzzer's arrays end
# at pages that may not be touched. (test_stress has sanitizers of its own.)
SANITIZERS := address,undefined
SANITIZE_BUILD := build/sanitize
SANITIZE_TESTS ?= tests/npu/test_vector.py tests/npu/test_cube.py tests/npu/test_hazards.py tests/npu/test_prune.py \
	tests/npu/test_events.py tests/npu/test_fuzzed.py \
	tests/cpu/test_pool.py tests/cpu/test_large_outputs.py tests/cpu/test_arrays.py tests/cpu/test_entry.py tests/null/test_launcher.py \
	tests/cpu/test_regressions.py tests/null/test_interp_acceptance.py
SANITIZE_TARGETS ?= cpu
SANITIZE_FUZZ ?= --count 60 --seed 500000 --level Og
SANITIZED = OPDSL_SANITIZE=$(SANITIZERS) OPDSL_CACHE=0 OPDSL_CXXFLAGS="-Og -fno-sanitize-recover=all" PYTHONPATH=tests \
	OPDSL_SANITIZED=$(CURDIR)/$(SANITIZE_BUILD) \
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0:handle_segv=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1

sanitize: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B $(SANITIZE_BUILD) -G Ninja -DOPDSL_SANITIZE=$(SANITIZERS) -DCMAKE_BUILD_TYPE=RelWithDebInfo \
		-DPython_EXECUTABLE="$(CURDIR)/$(BIN)/python" -Dpybind11_DIR="$$($(BIN)/python -m pybind11 --cmakedir)" >/dev/null
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build $(SANITIZE_BUILD)
	$(MAKE) --no-print-directory sanitized

sanitized:
	$(SANITIZED) $(BIN)/python -m pytest -p support.sanitized -p no:cacheprovider --targets $(SANITIZE_TARGETS) \
		-k "not test_stress" $(SANITIZE_TESTS)
	$(SANITIZED) $(BIN)/python -c "import support.sanitized, sys; from tests.fuzz.__main__ import main; sys.exit(main('$(SANITIZE_FUZZ)'.split()))"

clean:
	rm -rf build $(STAMP)
