"""The machine that measures: threads and cores for everyone alike, and what it is, for the header of the results."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import opdsl as od
from opdsl import _runtime
from opdsl.targets.cpu.isa import chosen

from . import roofs

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
INSTRUCTION_VARIABLES = ("OPDSL_ISA", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "OPENBLAS_CORETYPE")


def has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def use_threads(count: int, pin: bool = True) -> list[int]:
    """Gives every library `count` threads, and the process that many cores (the quietest). Returns the cores."""
    for variable in THREAD_VARIABLES:  # for libraries that are loaded from now on
        os.environ[variable] = str(count)
    od.set_num_threads(count)
    _limit_openblas(count)
    if has_torch():
        import torch

        torch.set_num_threads(count)
    cores = sorted(os.sched_getaffinity(0))
    if not pin or count >= len(cores):
        return cores
    chosen = sorted(_quietest(cores)[:count])
    os.sched_setaffinity(0, chosen)
    return chosen


def _quietest(cores: list[int]) -> list[int]:
    """Cores by how fast arithmetic is on each of them now."""
    probe = roofs.compute_probe("f32_fma", 1)
    if probe is None or len(cores) > 64:
        return cores
    od.set_num_threads(1)
    best = dict.fromkeys(cores, float("inf"))
    for _ in range(5):
        for core in cores:
            os.sched_setaffinity(0, {core})
            start = time.perf_counter()
            for _ in range(20):
                probe.call()
            best[core] = min(best[core], time.perf_counter() - start)
    os.sched_setaffinity(0, cores)
    return sorted(cores, key=lambda core: best[core])


def _openblas() -> Any:
    """The BLAS inside NumPy's wheel, or None: it reads its environment only when it is loaded, which was earlier."""
    np.dot(np.ones(1), np.ones(1))
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        return None
    found = re.search(r"\S*/lib\S*openblas\S*\.so\S*", maps.read_text())
    return ctypes.CDLL(found.group()) if found else None


def _limit_openblas(count: int) -> None:
    library = _openblas()
    for name in ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads", "openblas_set_num_threads"):
        setter = getattr(library, name, None)
        if setter is not None:
            setter(ctypes.c_int(count))
            return


@cache
def processor() -> str:
    """The model's name, as the system has it."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        found = re.search(r"model name\s*:\s*(.+)", path.read_text())
        if found:
            return found.group(1)
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("opdsl", "numpy", "torch", "ml_dtypes"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def header(threads: int, cores: list[int], **options: Any) -> dict[str, Any]:
    """The first line of the results."""
    from opdsl.support import toolchain

    try:
        found = toolchain.find_compiler()
        compiler = f"{found.family} {found.version_text}"
    except toolchain.ToolchainError:
        compiler = "none"
    set_variables = [f"{name}={os.environ[name]}" for name in INSTRUCTION_VARIABLES if name in os.environ]
    return {
        "kind": "header",
        "schema": 1,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "device": processor(),
        "cores": len(cores),
        "threads": threads,
        "isa": chosen().name,
        "features": _runtime.cpu_features(),
        "cache_bytes": [_runtime.cache_bytes(level) for level in (1, 2, 3)],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 2),
        "compiler": compiler,
        "versions": versions(),
        "command": " ".join([*set_variables, "opdsl", *sys.argv[1:]]),
        **options,
    }


def settle_torch() -> None:
    """Inference only, and no gradient bookkeeping in what is timed."""
    if has_torch():
        import torch

        torch.set_grad_enabled(False)


def peak_memory(call: Any) -> float | None:
    """Megabytes that a call makes resident beyond what was before; None where the system does not say."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        reset.write_text("5")
        before = _status(status, "VmRSS")
        call()
        return max(0.0, (_status(status, "VmHWM") - before) / 1024)
    except (OSError, ValueError):
        call()
        return None


def _status(path: Path, name: str) -> int:
    found = re.search(rf"{name}:\s*(\d+) kB", path.read_text())
    if found is None:
        raise ValueError(name)
    return int(found.group(1))
