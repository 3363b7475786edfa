"""How long the emulator itself takes, for products of f16 matrices on all cores of a chip.

python -m bench.npu_speed [--chip 910b2] [--json FILE]

Three runs: a 2048 cube with values, cycles and hazards; the same without values; an 8192 cube without values. The program
is the one that the compiler makes of a tiled product in the language; compiling it is timed apart. Values are compared
with float64 on integers whose sums are exact.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.npu_kernels.language import product
from opdsl.npu.chip import find_chip
from opdsl.npu.emulator import ShapeOnly
from opdsl.runtime.launch import contiguous_request
from opdsl.targets.npu.compile import compile_kernel
from opdsl.targets.npu.running import Runnable, run_compiled

BARS = {"2048, all": 20.0, "2048, cycles only": 2.0, "8192, cycles only": 60.0}  # seconds on two cores


def measure(chip: str) -> list[dict[str, Any]]:
    """Seconds of each run, and the microseconds that the chip would take."""
    tiles = {"BM": 128, "BN": 256 if find_chip(chip).buffers["L0C"] >= 128 * 256 * 4 else 128, "BK": 64}
    request = contiguous_request(product.specialise({}, product.check_constexprs(tiles, {})))
    begun = time.perf_counter()
    runnable = Runnable.of(compile_kernel(request, find_chip(chip)))
    rows: list[dict[str, Any]] = [{"run": "compiling", "seconds": time.perf_counter() - begun}]
    for run in BARS:
        size = int(run.split(",")[0])
        values = "all" in run
        arrays: list[Any] = exact_operands(size) if values else [ShapeOnly((size, size), "f16")] * 3
        begun = time.perf_counter()
        result = run_compiled(runnable, arrays, values=values)
        row = {"run": run, "seconds": time.perf_counter() - begun, "bar": BARS[run], "chip_us": result.microseconds}
        if values:
            a, b, c = (array.astype(np.float64) for array in arrays)
            row["right"] = bool((c == a @ b).all()) and not result.hazards
        rows.append(row)
    return rows


def exact_operands(size: int) -> list[Any]:
    """Integers of which all sums of products are exact in f16, and a result that is all NaN."""
    rng = np.random.default_rng(0)
    a = (rng.integers(-1, 2, (size, size)) * (rng.random((size, size)) < 0.5)).astype(np.float16)
    b = rng.integers(-1, 2, (size, size)).astype(np.float16)
    return [a, b, np.full((size, size), np.nan, np.float16)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.npu_speed", description=__doc__)
    parser.add_argument("--chip", default="910b2", help="default: 910b2")
    parser.add_argument("--json", type=Path, help="write the rows there, too")
    given = parser.parse_args(arguments)
    rows = measure(given.chip)
    for row in rows:
        more = f"  bar {row['bar']:.0f} s, {row['chip_us']:.1f} us on the chip" if "bar" in row else ""
        checked = f", values and order {'right' if row['right'] else 'WRONG'}" if "right" in row else ""
        print(f"{row['run']:18} {row['seconds']:6.2f} s{more}{checked}")
    if given.json:
        given.json.write_text("".join(json.dumps({"chip": given.chip, **row}) + "\n" for row in rows))
    return int(any(row["seconds"] > row.get("bar", np.inf) or not row.get("right", True) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
