"""The suite `compile`: what a user waits for. Cold compile, warm load and import in fresh processes, and the cost of a
launch that computes next to nothing.

Rows: `import` (NumPy's own import apart, in the note), `cold_compile` (the first call of a kernel with an empty cache,
the C++ compiler included), `warm_load` (the same in a second process on that cache), `launch`.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import acceptance
from .arrays import Input
from .cases import Case, matches
from .problems import Implementation, Missing, Problem, kernel, numpy_peer, operator, size_of, torch_peer
from .rows import Row
from .runner import Options, figures, run_case
from .summary import summarise

CHILD = Path(__file__).parent / "compile_child.py"
LEAST_REPETITIONS, MOST_REPETITIONS = 3, 15


def run(cases: Sequence[Case], options: Options, progress: Callable[[str], None]) -> Iterator[Sequence[Row]]:
    """The rows of the suite."""
    for case in cases:
        shape = case.text("kernel", str(case.parameters.get("n", "opdsl")))
        if not matches(options.pattern, case.op, shape, case.dtype):
            continue
        progress(f"{case.op} {shape}")
        if case.op == "launch":
            yield from _launches(case, options)
        elif case.op == "import":
            yield _imports(case, options)
        elif case.op == "cold_compile":
            yield _compiles(case, case.text("kernel", "add"), options)
        else:
            raise ValueError(f"the suite compile has no operator {case.op!r}; it has import, cold_compile, launch")


def _child(cache: Path, options: Options, *words: str) -> dict[str, float]:
    environment = {**os.environ, "OPDSL_CACHE_DIR": str(cache), "OPDSL_NUM_THREADS": str(options.threads)}
    environment.pop("OPDSL_CACHE", None)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # after the first repetition all modules are there as bytecode
    result = subprocess.run(
        [sys.executable, str(CHILD), *words], capture_output=True, text=True, env=environment, check=False
    )
    if result.returncode != 0:
        raise RuntimeError(f"the measuring process failed: {result.stderr.strip().splitlines()[-1:]}")
    measured: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return measured


def _repetitions(options: Options, each: float) -> int:
    return max(LEAST_REPETITIONS, min(MOST_REPETITIONS, int(options.seconds / each)))


def _row(case: Case, op: str, shape: str, options: Options, seconds: Sequence[float], **more: Any) -> Row:
    return Row(case.suite, op, shape, case.dtype, options.threads, "opdsl", **figures(summarise(seconds)), **more)


def _imports(case: Case, options: Options) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="opdsl-bench-") as folder:
        found = [_child(Path(folder), options) for _ in range(_repetitions(options, 0.25))]
    note = f"of which NumPy {1e3 * min(f['import_numpy'] for f in found):.0f} ms"
    return [_row(case, "import", "opdsl", options, [f["import"] for f in found], note=note)]


def _compiles(case: Case, name: str, options: Options) -> list[Row]:
    """Cold and warm alternate: each pair of processes has a cache of its own."""
    try:
        file = str(Path(str(acceptance.load(name).__file__)))
    except acceptance.KernelsMissing as missing:
        return [Row(case.suite, "cold_compile", name, case.dtype, options.threads, "opdsl", note=str(missing))]
    cold, warm = [], []
    for _ in range(_repetitions(options, 1.0)):
        with tempfile.TemporaryDirectory(prefix="opdsl-bench-") as folder:
            cache = Path(folder, "cache")
            cold.append(_child(cache, options, file, name))
            warm.append(_child(cache, options, file, name))
    declaring, again = (1e3 * min(found[step] for found in cold) for step in ("declare", "second"))
    note = f"declaring it {declaring:.1f} ms, the second call {again:.3f} ms"
    return [
        _row(case, "cold_compile", name, options, [f["first"] for f in cold], note=note),
        _row(case, "warm_load", name, options, [f["first"] for f in warm]),
    ]


def _launches(case: Case, options: Options) -> Iterator[Sequence[Row]]:
    """A kernel called directly, and the operator."""
    import torch

    size = case.integer("n")
    operand = ((size,), case.dtype)
    peers: dict[str, Implementation | Missing] = {"torch": torch_peer(torch.add), "numpy": numpy_peer(np.add)}
    contenders: dict[str, Any] = {"operator": operator("add")}
    with contextlib.suppress(acceptance.KernelsMissing):
        contenders = {"kernel": kernel(acceptance.load("add").add, *operand), **contenders}
    for name, ours in contenders.items():
        problem = Problem(
            f"{size} {name}", [Input(*operand)] * 2, operand, np.add, {"opdsl": ours, **peers},
            size_of(operand, operand), size_of(operand), by_rows=(True, True),
        )  # fmt: skip
        yield run_case(case, problem, options)
