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


def compiled_table(rows: list[Row]) -> list[str]:
    """The rows whose operator was compiled, too."""
    lines = ["| kernel | shape | dtype | measured (us) | compiled (us) | error | by hand (us) |"]
    lines += ["|---|---|---|---:|---:|---:|---:|"]
    errors = []
    for row in rows:
        if row.compiled is None:
            continue
        error = 100 * (row.compiled / float(row.value) - 1)
        if family_of(row.kernel) == "elementwise":
            errors.append(abs(error))
        by_hand = "" if row.predicted is None else f"{row.predicted:.2f}"
        lines.append(
            f"| {row.kernel} | {row.shape} | {row.dtype} | {float(row.value):.2f} | {row.compiled:.2f} | {error:+.1f} % | "
            f"{by_hand} |"
        )
    if errors:
        mean = sum(errors) / len(errors)
        lines += ["", f"Elementwise operators: {len(errors)} rows, mean |error| {mean:.1f} %."]
    return lines


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
    lines += ["", "## Compiled by OpDSL", "", COMPILED, "", *compiled_table(rows)]
    reasons: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        if row.predicted is None:
            reasons[(row.kernel, row.reason)] += 1
    lines += ["", "## Not predicted", "", "| kernel | rows | why |", "|---|---:|---|"]
    lines += [f"| {kernel} | {count} | {reason} |" for (kernel, reason), count in reasons.items()]
    return "\n".join(lines) + "\n"


COMPILED = """Operators as kernels of the language (`bench/npu_kernels/language.py`), compiled for `910b2`, beside the same
times of CANN's. Where its operator uses the same instructions, the compiled program takes its time. A softmax of rows that
fit UB takes several at a time here, CANN's operator takes longer."""

HEAD = """# How far the emulated NPU is from silicon

Published times of real chips beside predictions of the emulator. Written by

    python -m bench.npu_validation --csv FILE --doc docs/npu-validation.md

where FILE has a row for each measurement (columns: `bench/npu_validation.py`).

- The programs are in `bench/npu_kernels`: written by hand in `opdsl.npu`, with the tile shapes and schedules that are
  published with the measurement. Those of `mish`, `swi_glu`, `rms_norm` and of the layouts around `conv_2d` take their
  instructions and their tiling from the published sources of CANN's operators, which each file names. The others are as
  a well-tuned kernel of that kind is written. Only their time is computed here; tests run them with values on small
  arrays.
- All kernels of a chip share one set of constants, `opdsl/npu/chips/910b2.toml` (and what `910b1.toml` has of its own);
  there is no factor of a kernel. Fitted on these rows are: the L2's rate for reading, the rate of HBM, the rate at which
  one core gets what misses the L2, the rate of rows of `nd2nz` that begin between two granules, the launch (its start, and
  what each core is later), the head of library operators, and the startup of L1 to L0. Everything else comes from the
  sources named there.
- 910B1's rate of what misses the L2 is fitted on the times of PTO-ISA's products of 3072 and 6144 cubed (with 910B2's 9
  and 5 % too long). Not fitted, and better for it: the shares of the cube in its convolutions, 2.3-2.8 points off before,
  0.4-0.9 since. Its README has a product of 7680 cubed, which FILE has not: predicted 2885 us (measured 3168), cube 87.1 %
  (80.6), MTE1 66.1 (63.0), MTE2 98.5 (98.4), FIX 1.9 (2.4).
- The head of library operators (3.5 us) is added to operators of CANN's Ascend C library: SwiGlu, RmsNorm, GroupNorm,
  QuantBatchMatmul and its attention. They read their tiling from global memory and set up queues; published for GEMM
  are 2.2 to 3.5 us. Fitted on either half of their rows, it brings the other half from 24.9 to 20.2 % and from 23.5 to
  18.5 %. Kernels that CANN generates (TBE) read a few numbers, as their programs here do. MatMul has no head: the
  benchmark runs it right before each repetition, and its smallest row takes 1.9 us in all. PTO-ISA's products and
  convolutions have it: their published host programs launch them once, so that no cache has their instructions.
- The L2 is empty at the start: cann-bench reads 200 MB before each repetition (src/kernel_eval/eval/perf_eval.py),
  PTO-DSL's products take other arrays each time. Where an operator is several kernels, the later ones find what the
  first ones wrote; cann-bench adds up their times. PTO-DSL's additions overwrite the L2 before each repetition and take
  the time of that off, so that what an addition leaves to be written back is counted.
- An error is that of the time: +10 % is 10 % longer than measured. That of shares is in points.
- "A3" and "910B1" rows are predicted with `910b1` (24 cube cores at 1850 MHz), rows of 20 cores at 1500 MHz with
  `910b4`'s cores and the memory of `910b2`.

What the predictions miss, where it is known:

- `exp` is cann-bench's exp((scale x + shift) ln base). Its source has it compiled into one kernel; predicted here as a
  kernel for each step: five of its eight times agree within 11 %, two are 39-46 % too short, and that of 8192 x 8192, which
  is that of one kernel, three times too long.
- `swi_glu` of a few MB takes 5 us longer than its source explains with the head above; the copy without the last
  column, where it is odd, is a plain copy here.
- RMS norm of rows that are no multiple of 32 bytes: measured up to twice as long.
- Filters of one place (1 x 1): measured 37 % longer. TransData's path for them is not published; here it copies blocks.
- Rows of M = 128 of PTO-DSL were timed with events around many launches: the host is part of them.
- N = K = 16384: measured 20 % slower than predicted. Nothing here models the translation of addresses.
- Several cores that read one line of memory at a time are not held up by it (the case "K-stagger").
- Unit flags, other chips at the other end of a link, and quantisation on vector cores are not modelled.
"""
