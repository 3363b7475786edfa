"""How far the emulated NPU is from silicon: published times of real chips beside what the emulator predicts.

python -m bench.npu_validation --csv FILE [--json OUT] [--doc docs/npu-validation.md] [--only WORD]

Columns of the CSV: kernel, shape, dtype, chip, cores, metric (time, throughput, l2_hit, <pipe>_ratio, ...), value, unit,
source, note. Every row is printed: with measured value, prediction and error, or with the reason why there is none.
Only the time is computed, so that memory and values do not limit the sizes.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.npu_kernels.compiled import predict_compiled
from bench.npu_kernels.problems import Inexpressible, Row, predict
from bench.npu_report import document, error_of, line_of, summary
from opdsl.support.errors import OpdslError

FIELDS = ("kernel", "shape", "dtype", "chip", "cores", "metric", "value", "unit", "source", "note")


def read_rows(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = [field for field in FIELDS[:8] if field not in (reader.fieldnames or [])]
        if missing:
            raise OpdslError(f"{path}: no column {missing[0]!r}; the columns are {', '.join(FIELDS)}")
        rows = []
        for entry in reader:
            kernel, shape, dtype, chip, cores, metric, value, unit, source, note = (entry.get(f) or "" for f in FIELDS)
            rows.append(Row(kernel, shape, dtype, chip, cores, metric, value, unit, source, note))
        return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.npu_validation", description=__doc__)
    parser.add_argument("--csv", type=Path, required=True, help="published measurements")
    parser.add_argument("--json", type=Path, help="write the rows there, too")
    parser.add_argument("--doc", type=Path, help="write the table as Markdown there, too")
    parser.add_argument("--only", default="", help="only rows whose kernel contains this")
    given = parser.parse_args(arguments)
    results = []
    for row in read_rows(given.csv):
        if given.only not in row.kernel:
            continue
        begun = time.perf_counter()
        try:
            row.predicted = predict(row)
        except (Inexpressible, OpdslError) as reason:
            row.reason = str(reason).splitlines()[0]
        with contextlib.suppress(Inexpressible, OpdslError):
            row.compiled = predict_compiled(row)
        row.seconds = time.perf_counter() - begun
        print(line_of(row), flush=True)
        results.append(row)
    print(summary(results))
    if given.json:
        given.json.write_text(json.dumps([{**vars(row), "error": error_of(row)} for row in results], indent=1) + "\n")
    if given.doc:
        given.doc.write_text(document(results))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OpdslError as error:
        sys.exit(str(error))
