"""`opdsl run`: a kernel on random arguments, checked against the `reference` of its file, and timed."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from opdsl.cli.timing import shown_time, time_calls
from opdsl.harness import arguments as made_up
from opdsl.harness import specialising
from opdsl.harness.arguments import Prepared, compare, find_reference, prepare
from opdsl.harness.errors import CommandError
from opdsl.harness.loading import KernelFile, choose_kernels, split_target
from opdsl.harness.specialising import Options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kernel", metavar="FILE[:KERNEL]", help="a Python file; without a kernel, all that it defines")
    parser.add_argument("--target", default="cpu", help="cpu, cpu:avx2, ..., interp, interp:strict (default: cpu)")
    specialising.add_arguments(parser)
    made_up.add_arguments(parser)
    parser.add_argument("--threads", type=int, help="threads of the launch")
    parser.add_argument("--json", action="store_true", help="print JSON, one line for each run")


def run(arguments: argparse.Namespace) -> int:
    from opdsl.runtime.threads import set_num_threads
    from opdsl.targets.base import find_target

    try:
        find_target(arguments.target)
    except ValueError as error:
        raise CommandError(f"--target {arguments.target}: {error}") from None
    if arguments.threads is not None:
        if arguments.threads < 1:
            raise CommandError(f"--threads {arguments.threads}: expected a whole number from 1 up")
        set_num_threads(arguments.threads)
    file, kernels = choose_kernels(arguments.kernel, several=True)
    options = Options(arguments, kernels, file.module, all_dims=True)
    good = True
    for kernel in kernels:
        for one in options.specialise(kernel):
            record = _run(file, prepare(one, arguments), arguments.target)
            good &= record["error"] is None or record["error"] <= record["allowed"]
            print(json.dumps(record) if arguments.json else _shown(record))
    return 0 if good else 1


def _run(file: KernelFile, prepared: Prepared, target: str) -> dict[str, Any]:
    start = time.perf_counter()
    prepared.call(target)
    first = time.perf_counter() - start
    note, comparison = "", None
    one = prepared.specialisation
    reference = find_reference(file, one.kernel.name)
    if reference is None:
        note = "the file has no `reference` to compare with"
    else:
        try:
            comparison = compare(reference, prepared)
        except CommandError as error:
            note = f"not compared: {error.message}"
        except Exception as error:  # noqa: BLE001 - the user's own function
            note = f"not compared: {reference.__name__} raises {type(error).__name__}: {error}"
    timing = time_calls(lambda: prepared.call(target), least=1) if target.startswith("cpu") else None
    return {
        "kernel": one.kernel.name,
        "target": target,
        "dtypes": {name: dtype.name for name, dtype in one.dtypes.items()},
        "sizes": prepared.sizes,
        "arguments": prepared.shapes_text(),
        "first_ms": first * 1e3,
        "ms_min": timing.fastest * 1e3 if timing else None,
        "ms_median": timing.median * 1e3 if timing else None,
        "error": comparison.error if comparison else None,
        "allowed": comparison.allowed if comparison else None,
        "note": note,
    }


def _shown(record: dict[str, Any]) -> str:
    dtypes = " ".join(f"{name}={dtype}" for name, dtype in record["dtypes"].items())
    lines = [f"{record['kernel']} on {record['target']}  {dtypes}  {record['arguments']}"]
    if record["error"] is not None:
        verdict = "ok" if record["error"] <= record["allowed"] else "WRONG"
        lines.append(
            f"  {verdict}: largest error {record['error']:.2g} of the largest element, allowed {record['allowed']:.2g}"
        )
    else:
        lines.append(f"  {record['note']}")
    times = [f"first call (with compiling) {shown_time(record['first_ms'] / 1e3)}"]
    if record["ms_min"] is not None:
        fastest, median = shown_time(record["ms_min"] / 1e3), shown_time(record["ms_median"] / 1e3)
        times.insert(0, f"{fastest} at best, {median} median")
    return "\n".join([*lines, "  " + "; ".join(times)])


__all__ = ["add_arguments", "run", "split_target"]
