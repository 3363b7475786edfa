"""`opdsl doctor`: what works on this machine, what is missing, what it is for, and the command that gets it."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import platform
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from opdsl.support.extras import install_help

Status = Literal["ok", "missing", "problem"]

MARKS = {"ok": "ok     ", "missing": "missing", "problem": "PROBLEM"}


@dataclass(frozen=True)
class Finding:
    """One line of the report. A "problem" stops the CPU target; what is "missing" is optional."""

    name: str
    status: Status
    detail: str
    remedy: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    findings = examine()
    works = all(finding.status != "problem" for finding in findings)
    if arguments.json:
        print(json.dumps({"cpu_target_works": works, "findings": [asdict(finding) for finding in findings]}))
        return 0 if works else 1
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"{MARKS[finding.status]}  {finding.name:<{width}}  {finding.detail}")
        if finding.remedy:
            print(f"{'':9}{'':{width}}  -> {finding.remedy}")
    print()
    print("The CPU target works." if works else "The CPU target does not work: see PROBLEM above.")
    return 0 if works else 1


def examine() -> list[Finding]:
    """Every check, in the order of the report. A check that breaks is a finding, not an error."""
    findings: list[Finding] = []
    for check in CHECKS:
        try:
            findings += check()
        except Exception as error:  # noqa: BLE001 - a doctor reports whatever it meets
            findings.append(Finding(check.__name__.strip("_"), "problem", f"{type(error).__name__}: {error}"))
    return findings


def _python() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")


def _runtime_module() -> Iterator[Finding]:
    try:
        from opdsl import _runtime
    except ImportError as error:
        remedy = "pip install --force-reinstall opdsl (in a checkout: pip install -e .)"
        yield Finding("runtime", "problem", f"the compiled part of OpDSL cannot be loaded: {error}", remedy)
        return
    yield Finding("runtime", "ok", f"ABI {_runtime.ABI_VERSION}, {Path(_runtime.__file__ or '?').name}")
    features = _runtime.cpu_features()
    caches = ", ".join(f"L{level} {_bytes(_runtime.cache_bytes(level))}" for level in (1, 2, 3))
    yield Finding("processor", "ok", f"{_processor_name()}; {caches}")
    yield from _isa(_runtime.best_isa(), features)
    threads, usable = _runtime.get_num_threads(), _runtime.usable_cores()
    detail = f"{threads} of {usable} usable cores ({_runtime.online_cores()} in the machine)"
    if threads > usable:
        remedy = "more threads than cores slow each other down: lower OPDSL_NUM_THREADS or OMP_NUM_THREADS"
        yield Finding("threads", "missing", detail, remedy)
    else:
        yield Finding("threads", "ok", detail)


def _isa(best: str, features: list[str]) -> Iterator[Finding]:
    from opdsl.support.knobs import knobs

    shown = f"{best} (features: {', '.join(features) or 'none beyond the baseline'})"
    if knobs.isa is None:
        yield Finding("instruction set", "ok", shown)
        return
    from opdsl import _runtime

    if _runtime.supports_isa(knobs.isa):
        yield Finding("instruction set", "ok", f"{knobs.isa}, forced by OPDSL_ISA; the best here is {shown}")
    else:
        detail = f"OPDSL_ISA is {knobs.isa!r}, which this machine does not run; the best here is {shown}"
        yield Finding("instruction set", "problem", detail, "unset OPDSL_ISA")


def _compiler() -> Iterator[Finding]:
    from opdsl.support import toolchain

    try:
        compiler = toolchain.find_compiler()
    except toolchain.ToolchainError as error:
        yield Finding("compiler", "problem", str(error), toolchain.INSTALL_HINT)
        return
    text = f"{compiler.family} {compiler.version_text} for {compiler.machine}, {compiler.path}"
    if not compiler.is_recent_enough:
        needed = ".".join(map(str, toolchain.MINIMUM_VERSION[compiler.family]))
        remedy = f"install {compiler.family} {needed} or newer and name it by OPDSL_CXX"
        yield Finding("compiler", "problem", f"{text} is too old", remedy)
        return
    yield _trial(text)


TRIAL = """#include "simd/abi.h"
extern "C" opdsl_i32 entry(const opdsl_runtime*, const opdsl_array*, const opdsl_scalar* s) { return s[0].i + 1; }
"""


def _trial(compiler: str) -> Finding:
    """Compiles, loads and calls a kernel: the whole chain."""
    import tempfile
    import time

    from opdsl import _runtime
    from opdsl.support import toolchain

    with tempfile.TemporaryDirectory(prefix="opdsl-doctor-") as folder:
        source = Path(folder, "trial.cpp")
        source.write_text(TRIAL)
        start = time.perf_counter()
        try:
            toolchain.compile_shared_object(source, Path(folder, "trial.so"))
            seconds = time.perf_counter() - start
            result = _runtime.load(str(Path(folder, "trial.so")), "entry")([], [41])
        except (toolchain.ToolchainError, OSError) as error:
            remedy = "install the compiler again, or name another by OPDSL_CXX"
            return Finding("compiler", "problem", f"{compiler}: a trial kernel fails: {error}", remedy)
    if result is None or result[0] != 42:
        return Finding("compiler", "problem", f"{compiler}: a trial kernel gives a wrong result", "report this")
    return Finding("compiler", "ok", f"{compiler}; a trial kernel took {seconds:.2f} s")


def _cache() -> Iterator[Finding]:
    from opdsl.support.cache import Cache, default_root
    from opdsl.support.knobs import knobs

    if not knobs.cache:
        detail = "switched off by OPDSL_CACHE: every process compiles anew"
        yield Finding("cache", "missing", detail, "unset OPDSL_CACHE")
        return
    cache = Cache(default_root())
    problem = cache.problem()
    if problem is None and (write_error := _write_error(cache.root)):
        problem = f"{cache.root} cannot be written: {write_error}; free some space, or set OPDSL_CACHE_DIR"
    if problem is not None:
        remedy = "until then every process compiles its kernels anew"
        yield Finding("cache", "missing", problem, remedy)
        return
    damaged = cache.verify()
    detail = f"{len(cache.entry_directories())} compiled kernels in {cache.root}"
    if damaged:
        yield Finding("cache", "missing", f"{detail}, {len(damaged)} of them damaged", "opdsl cache verify")
    else:
        yield Finding("cache", "ok", detail)


def _write_error(root: Path) -> str | None:
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=root) as file:
            file.write(bytes(1 << 16))
    except OSError as error:
        return error.strerror or str(error)
    return None


def _huge_pages() -> Iterator[Finding]:
    path = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    try:
        text = path.read_text()
    except OSError:
        yield Finding("huge pages", "missing", "this system does not say; large arrays may be slower")
        return
    chosen = re.search(r"\[(\w+)\]", text)
    mode = chosen.group(1) if chosen else text.strip()
    if mode == "never":
        remedy = f"as root: echo madvise > {path}"
        yield Finding("huge pages", "missing", "switched off: large arrays cost more address translation", remedy)
    else:
        yield Finding("huge pages", "ok", mode)


def _packages() -> Iterator[Finding]:
    for name, module in (("numpy", "numpy"), ("ml_dtypes", "ml_dtypes"), ("cffi", "cffi")):
        version = _installed(name, module)
        if version is None:
            yield Finding(name, "problem", "not installed", f"pip install {name}")
        else:
            yield Finding(name, "ok", version)


# What each optional package is for, and the extra that brings it.
OPTIONAL = {
    "torch": ("torch", "tensors as arguments, comparisons in `opdsl bench`", "torch"),
    "triton": ("triton", "the target triton: kernels on GPUs", "triton"),
    "onnx": ("onnx", "importing ONNX models, which is planned and not in this version", "onnx"),
    "mpi4py": ("mpi4py", "training across machines, which is planned and not in this version", "mpi"),
    "matplotlib": ("matplotlib", "plots in the reports of `opdsl bench`", "bench"),
    "pybind11": ("pybind11", "the Python extensions that `opdsl build` makes", "build"),
    "rich": ("rich", "tables and progress in the terminal", "bench"),
    "pytest": ("pytest", "running the tests", "test"),
}


def _optional_packages() -> Iterator[Finding]:
    for name, (module, purpose, extra) in OPTIONAL.items():
        version = _installed(name, module)
        if version is None:
            yield Finding(name, "missing", f"not installed; it is for {purpose}", install_help(extra))
        elif name == "triton":
            yield _triton(version)
        else:
            yield Finding(name, "ok", version)


def _triton(version: str) -> Finding:
    """Triton is here: is it a version that the target triton knows, and is there a GPU?"""
    from opdsl.targets.triton.device import has_device_file
    from opdsl.targets.triton.toolchain import OLDEST, version_of

    if version_of(version) < OLDEST:
        needed = ".".join(map(str, OLDEST))
        return Finding("triton", "missing", f"{version} is too old: {needed} is needed", install_help("triton"))
    where = "the system shows a GPU" if has_device_file() else "no GPU here: kernels are compiled, but do not run"
    return Finding("triton", "ok", f"{version}; {where}")


def _installed(name: str, module: str) -> str | None:
    """The version of a package, without importing it; None where it is not there. A folder of its name that Python could
    import, but that is no package, has no origin."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return None
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown version"


def _processor_name() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else platform.processor() or platform.machine()


def _bytes(count: int) -> str:
    if count <= 0:
        return "unknown"
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count >> 10} KiB"


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python,
    _runtime_module,
    _compiler,
    _cache,
    _huge_pages,
    _packages,
    _optional_packages,
)
