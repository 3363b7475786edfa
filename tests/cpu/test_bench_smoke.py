"""One tiny row of each suite, measured for real in a process of its own: the whole chain works. No time is judged."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from opdsl.bench import acceptance, checks, compiling, rows
from opdsl.bench.cases import Case
from opdsl.bench.problems import Implementation, Missing, Problem
from opdsl.bench.runner import Options, run_case

SHAPES = """
[[case]]
suite = "elementwise"
op = "add"
n = 1000

[[case]]
suite = "softmax_norm"
op = "softmax"
m = 16
n = 64

[[case]]
suite = "matmul"
op = "matmul"
dtypes = ["f32", "i8"]
m = 37
k = 53
n = 71

[[case]]
suite = "acceptance"
op = "kernel_softmax"
m = 16
n = 64

[[case]]
suite = "compile"
op = "launch"
n = 1024
"""


def test_a_row_of_each_suite(tmp_path: Path) -> None:
    if not acceptance.FOLDER.is_dir():
        pytest.skip("the acceptance kernels are not here")
    path, shapes, page = tmp_path / "rows.jsonl", tmp_path / "tiny.toml", tmp_path / "report.html"
    shapes.write_text(SHAPES)
    command = [sys.executable, "-m", "opdsl.cli.main", "bench", "all", "--shapes", str(shapes), "--seconds", "0.05"]
    command += ["--json", str(path), "--no-pin"]
    if importlib.util.find_spec("matplotlib"):
        command += ["--html", str(page)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr + result.stdout
    header, found = rows.read(path)
    assert header["threads"] == 1
    measured = [record for record in found if isinstance(record, rows.Row)]
    assert {row.suite for row in measured} == {"elementwise", "softmax_norm", "matmul", "acceptance", "compile"}
    peers = [row for row in measured if row.impl != "opdsl"]
    assert peers
    assert all(row.correct and row.ms_min and row.ms_min > 0 for row in peers)
    for row in measured:
        if row.impl == "opdsl":
            assert row.correct or "opdsl.ops has no" in row.note, row
            assert not row.correct or (row.aa is not None and row.ratios and row.roof_pct)


def test_cold_and_warm(tmp_path: Path) -> None:
    if not acceptance.FOLDER.is_dir():
        pytest.skip("the acceptance kernels are not here")
    (group,) = compiling.run(
        [Case("compile", "cold_compile", "f32", {"kernel": "add"})], Options(seconds=0.01), lambda _: None
    )
    assert [row.op for row in group] == ["cold_compile", "warm_load"]
    assert all(row.ms_min for row in group)


# --- the gate --------------------------------------------------------------------------------------------------------


def problem_with(ours: object) -> tuple[Case, Problem]:
    from opdsl.bench.elementwise import add

    case = Case("elementwise", "add", "f32", {"n": 300})
    built = add(case)
    return case, Problem(
        built.shape, built.inputs, built.output, built.formula, {**built.implementations, "opdsl": ours},  # type: ignore[dict-item]
        built.read, built.written, by_rows=built.by_rows,
    )  # fmt: skip


QUICK = Options(peers=(), seconds=0.01, measure_roofs=False)


def kept(x, y, out):  # the result of the first values, for ever
    if not hasattr(kept, "memory"):
        kept.memory = x + y
    out[:] = kept.memory
    return out


def meddling(x, y, out):
    out[:] = x + y
    x[0] = 7
    return out


def partial(x, y, out):
    out[:-1] = (x + y)[:-1]
    return out


def halves(x, y, out):
    out[:] = (x + y).astype("float16")
    return out


def failing(x, y, out):
    raise OSError("no luck")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (kept, "after timing, with other values"),
        (meddling, "changed its arguments"),
        (partial, "was not written"),
        (halves, "error is"),
        (failing, "no luck"),
    ],
)
def test_what_is_wrong_is_not_timed(function, message: str) -> None:
    def prepare(arguments, out):
        return lambda: function(*arguments, out)

    (row,) = run_case(*problem_with(Implementation(prepare)), QUICK)
    assert row.correct is False
    assert row.ms_min is None
    assert message in row.note


def test_missing_operators_are_named() -> None:
    (row,) = run_case(*problem_with(Missing("opdsl.ops has no add")), QUICK)
    assert row.correct is None
    assert row.note == "opdsl.ops has no add"


def test_a_part_of_the_rows_is_checked_where_all_are_too_many() -> None:
    import numpy as np

    _, problem = problem_with(Missing(""))
    large = Problem(
        problem.shape, problem.inputs, problem.output, problem.formula, problem.implementations, 0, 0,
        by_rows=(True, True), check_cost=1e7,
    )  # fmt: skip
    x, y = (np.random.default_rng(n).standard_normal(300).astype(np.float32) for n in range(2))
    truth = checks.truth(large, [x, y], 0)
    assert truth.rows is not None
    assert {0, 1, 298, 299} <= set(truth.rows)
    assert len(truth.exact) == len(truth.rows) < 300
    assert checks.judge(x + y, large, truth).problem == ""
    assert checks.judge(x + y + 1, large, truth).problem
