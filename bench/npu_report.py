"""The text of a validation: a line for each row, means for each family of kernels, and the page of the documentation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from bench.npu_kernels.problems import Row, chip_of, family_of

BARS = {"gemm": 10.0, "elementwise": 12.0, "softmax/norm": 20.0, "attention": 25.0, "conv": 15.0}
"""The mean absolute error that a family may have, in percent."""


def error_of(row: Row) -> float | None:
    """Of times and throughputs: how much longer the predicted time is, in percent. Of shares: the difference in points."""
    if row.predicted is None:
        return None
    measured = float(row.value)
    if row.unit == "%":
        return row.predicted - measured
    if row.metric == "throughput":
        return 100 * (measured / row.predicted - 1)
    return 100 * (row.predicted / measured - 1)


def line_of(row: Row) -> str:
    name = f"{row.kernel:28.28} {row.shape:58.58} {row.dtype:9.9} {row.metric:12.12}"
    if row.predicted is None:
        return f"{name} {float(row.value):10.2f} {row.unit:6}  not predicted: {row.reason}"
    unit = " points" if row.unit == "%" else "%"
    return f"{name} {float(row.value):10.2f} {row.predicted:10.2f} {row.unit:6} {error_of(row):+7.1f}{unit}"


def families(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows of times on 910B2 by their family, of all other chips by theirs and the chip."""
    result: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.unit == "%":
            continue
        own = "910B2" in row.chip
        result[family_of(row.kernel) if own else f"{family_of(row.kernel)}, other chips"].append(row)
    return dict(sorted(result.items()))


def summary(rows: list[Row]) -> str:
    lines = ["", f"{'family':28} {'rows':>5} {'predicted':>9} {'mean |error|':>12} {'bar':>6}"]
    for family, members in families(rows).items():
        errors = [error for row in members if (error := error_of(row)) is not None]
        mean = f"{sum(map(abs, errors)) / len(errors):11.1f}%" if errors else "           -"
        bar = f"{BARS[family]:5.0f}%" if family in BARS else "     -"
        lines.append(f"{family:28} {len(members):5} {len(errors):9} {mean} {bar}")
    shares = [(row, error) for row in rows if row.unit == "%" and (error := error_of(row)) is not None]
    for name, wanted in (("pipe shares", "ratio"), ("L2 hit rates", "l2_hit")):
        errors = [error for row, error in shares if wanted in row.metric]
        if errors:
            within = max(map(abs, errors))
            average = sum(map(abs, errors)) / len(errors)
            lines.append(f"{name:28} {len(errors):5} {len(errors):9} {average:8.1f} pt, at most {within:.1f}")
    return "\n".join(lines)


def document(rows: list[Row]) -> str:
    """docs/npu-validation.md"""
    lines = [HEAD, "## Means", "", "```", summary(rows).strip(), "```", "", "## Rows", ""]
    lines += ["| kernel | shape | dtype | chip | metric | measured | predicted | error |"]
    lines += ["|---|---|---|---|---|---:|---:|---:|"]
    for row in rows:
        if row.predicted is None:
            continue
        unit = "" if row.unit == "%" else " %"
        lines.append(
            f"| {row.kernel} | {row.shape} | {row.dtype} | {chip_of(row)} | {row.metric} ({row.unit}) | "
            f"{float(row.value):.2f} | {row.predicted:.2f} | {error_of(row):+.1f}{unit} |"
        )
    reasons: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        if row.predicted is None:
            reasons[(row.kernel, row.reason)] += 1
    lines += ["", "## Not predicted", "", "| kernel | rows | why |", "|---|---:|---|"]
    lines += [f"| {kernel} | {count} | {reason} |" for (kernel, reason), count in reasons.items()]
    return "\n".join(lines) + "\n"


HEAD = """# How far the emulated NPU is from silicon

Published times of real chips beside predictions of the emulator. Written by

    python -m bench.npu_validation --csv FILE --doc docs/npu-validation.md

where FILE has a row for each measurement (columns: `bench/npu_validation.py`).

- The programs are in `bench/npu_kernels`: written by hand in `opdsl.npu`, with the tile shapes and schedules that are
  published with the measurement, else as a well-tuned kernel of that kind is written. Only their time is computed here;
  tests run them with values on small arrays.
- All kernels of a chip share one set of constants, `opdsl/npu/chips/910b2.toml`. Fitted on these rows are: the L2's rate
  for reading, the rate of HBM, the rate at which one core gets what misses the L2, the launch, and the startup of L1 to L0.
  Everything else comes from the sources named there.
- The L2 is empty at the start: the published benchmarks take other arrays for every repetition, and the times of all
  kernels that only read say so, too (1.2 TB/s, where an L2 with the arrays in it would give three times as much).
- An error is that of the time: +10 % is 10 % longer than measured. That of shares is in points.
- "A3" and "910B1" rows are predicted with `910b1` (24 cube cores at 1850 MHz), rows of 20 cores at 1500 MHz with
  `910b4`'s cores and the memory of `910b2`.

What the predictions miss, where it is known:

- `exp`, small `swi_glu`, small `conv_2d` and small attention take several times as long in torch_npu as one kernel of this
  kind: presumably more kernels follow each other, or their preparation counts. `mish` is predicted as three operators.
- Rows of M = 128 of PTO-DSL were timed with events around many launches: the host is part of them.
- N = K = 16384: measured 20 % slower than predicted. Nothing here models the translation of addresses.
- Gaps of rows in global memory cost nothing but their lines: rows of 8190 bytes (N = 4095) are measured three times slower.
- Several cores that read one line of memory at a time are not held up by it (the case "K-stagger").
- Unit flags, other chips at the other end of a link, and quantisation on vector cores are not modelled.
"""
