"""The benchmark suite without measuring anything: statistics, shapes, records, targets, reports."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from opdsl.bench import bars, cases, comparing, rows, suites, summary, table, timer
from opdsl.bench.arrays import DTYPES, Input, Inputs, as_numpy, poison
from opdsl.bench.rows import BarResult, Roof, Row

from opdsl.cli.bench_command import GPU_SUITES, SUITES
from opdsl.cli.main import main

# --- statistics ------------------------------------------------------------------------------------------------------


def test_summary() -> None:
    found = summary.summarise([3.0, 1.0, 2.0, 4.0])
    assert (found.minimum, found.median, found.runs) == (1.0, 2.5, 4)
    assert found.spread == 1.5
    assert summary.median([5.0, 1.0, 3.0]) == 3.0
    with pytest.raises(ValueError, match="no times"):
        summary.summarise([])


def test_geometric_mean() -> None:
    assert summary.geometric_mean([2.0, 0.5]) == pytest.approx(1.0)
    assert summary.geometric_mean([4.0]) == pytest.approx(4.0)
    for bad in ([], [1.0, 0.0]):
        with pytest.raises(ValueError, match="positive"):
            summary.geometric_mean(bad)


def test_same_twice() -> None:
    assert summary.same_twice([1.0, 2.0], [1.1, 5.0]) == pytest.approx(0.1)
    assert summary.same_twice([1.1], [1.0]) == pytest.approx(0.1)


def noisy(level: float, seed: int, count: int = 40) -> list[float]:
    """Times as a shared machine gives them: a floor, and rare large delays."""
    generator = np.random.default_rng(seed)
    return list(level * (1 + 0.01 * generator.random(count) + np.where(generator.random(count) < 0.2, 1.0, 0.0)))


def test_is_slower_needs_size_and_significance() -> None:
    assert summary.is_slower(noisy(1.0, 1), noisy(1.1, 2), control=0.005)
    assert not summary.is_slower(noisy(1.0, 1), noisy(1.0, 2), control=0.005)
    assert not summary.is_slower(noisy(1.0, 1), noisy(1.02, 2), control=0.005)  # less than 3 %
    assert not summary.is_slower(noisy(1.0, 1), noisy(1.1, 2), control=0.06)  # less than twice the control
    assert not summary.is_slower(noisy(1.1, 1), noisy(1.0, 2), control=0.005)  # faster
    wild = [1.0, 3.0, 9.0, 1.2, 5.0]
    assert not summary.is_slower(wild, [x * 1.05 for x in wild], control=0.0)  # the interval holds 1


def test_ratio_interval_is_repeatable_and_holds_the_ratio() -> None:
    first, second = noisy(1.0, 3), noisy(1.2, 4)
    low, high = summary.ratio_interval(first, second)
    assert (low, high) == summary.ratio_interval(first, second)
    assert 1.15 < low <= high < 1.25


def test_interleaving_takes_turns() -> None:
    order: list[str] = []
    competitors = {
        name: timer.Timed(lambda: None, lambda name=name: order.append(name)) for name in ("a", "b", "c")
    }  # fmt: skip
    times = timer.interleave(competitors, seconds=0.01, batch_seconds=1e-5)
    assert {len(t) for t in times.values()} == {len(times["a"])}
    assert len(times["a"]) >= timer.LEAST_ROUNDS
    tail = order[-3 * timer.LEAST_ROUNDS :]
    for start in range(0, len(tail), 3):  # one of each in every round, not always in the same order
        assert set(tail[start : start + 3]) == {"a", "b", "c"}
    assert len({tuple(tail[start : start + 3]) for start in range(0, len(tail), 3)}) > 1


# --- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", suites.NAMES)
@pytest.mark.parametrize("shapes", cases.SETS)
def test_shape_files_parse(suite: str, shapes: str) -> None:
    found = cases.load(suite, shapes)
    assert found
    assert all(case.suite == suite for case in found)
    assert len({repr(case) for case in found}) == len(found), "a case stands there twice"


def test_core_shapes_of_matmul() -> None:
    core = [case for case in cases.load("matmul", "core") if case.dtype == "f32"]
    shapes = {(c.integer("batch", 0), c.integer("m"), c.integer("k"), c.integer("n"), c.text("layout", "kn")) for c in core}
    assert len(core) == len(shapes) == 13
    assert {(0, 8, 4096, 11008, "kn"), (0, 8, 4096, 11008, "nk"), (16, 512, 512, 64, "kn")} <= shapes
    assert {case.dtype for case in cases.load("matmul", "core")} == {"f32", "bf16", "f16", "i8", "f64"}


def test_shapes_of_a_user(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('suite = "matmul"\n[[case]]\nop = "matmul"\nm = [1, 2]\nk = 3\nn = [4, 5]\n')
    assert [dict(c.parameters) for c in cases.load("matmul", str(path))] == [
        {"m": 1, "k": 3, "n": 4},
        {"m": 2, "k": 3, "n": 5},
    ]
    assert cases.load("elementwise", str(path)) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[case]]\nm = 1", "it has no op"),
        ('[[case]]\nop = "x"\ndtypes = ["f7"]', "no dtype 'f7'"),
        ('[[case]]\nop = "x"\nsets = ["big"]', "no set 'big'"),
        ('[[case]]\nop = "x"\nm = [1, 2]\nn = [1]', "of one length"),
        ("[[case", "mine.toml"),
    ],
)
def test_wrong_shapes(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'suite = "matmul"\n{text}\n')
    with pytest.raises(cases.ShapesError, match=message):
        cases.load("matmul", str(path))


def test_missing_parameter_and_file() -> None:
    with pytest.raises(cases.ShapesError, match="needs the whole number 'm'"):
        cases.Case("matmul", "matmul", "f32", {}).integer("m")
    with pytest.raises(cases.ShapesError, match="no file"):
        cases.load("matmul", "huge")


def test_filter() -> None:
    assert cases.matches(None, "matmul", "2x3x4", "f32")
    assert cases.matches("matmul f32", "matmul", "2x3x4", "f32")
    assert cases.matches("2x*4", "matmul", "2x3x4", "f32")
    assert not cases.matches("matmul bf16", "matmul", "2x3x4", "f32")


# --- arguments -------------------------------------------------------------------------------------------------------


def test_inputs_are_shared_refilled_and_watched() -> None:
    repeated = Input((6, 4), "f32", copy_of=0, copy_axes=(0, 1))
    inputs = Inputs([Input((4, 6), "f32", axes=(1, 0)), Input((3,), "i64", below=5), repeated])
    inputs.fill(1)
    first, digest = inputs.arrays[0].copy(), inputs.digest()
    assert inputs.arrays[0].shape == (6, 4)
    assert np.array_equal(inputs.arrays[2], inputs.arrays[0])
    assert inputs.arrays[1].max() < 5
    inputs.fill(2)
    assert not np.array_equal(first, inputs.arrays[0])
    inputs.fill(1)
    assert np.array_equal(first, inputs.arrays[0])
    assert inputs.digest() == digest
    inputs.arrays[0][0, 0] += 1
    assert inputs.digest() != digest


def test_poison() -> None:
    for name, dtype in DTYPES.items():
        array = np.zeros((), dtype) if name == "f32" else np.zeros((2, 3), dtype)
        poison(array)
        wide = array.astype(np.float64)
        assert np.isnan(wide).all() or (wide == -1).all()
    assert as_numpy(2.5).shape == ()


# --- records ---------------------------------------------------------------------------------------------------------

REQUIRED = {
    "suite", "op", "shape", "dtype", "threads", "impl", "ms_min", "ms_median", "gflops", "gbps", "roof_pct", "max_err",
}  # fmt: skip


def row(shape: str = "2x2", impl: str = "opdsl", **more: object) -> Row:
    values = {"ms_min": 1.0, "ms_median": 1.25, "spread": 0.25, "runs": 9, "gflops": 10.0, "intensity": 4.0}
    values |= {"roof_pct": 50.0, "correct": True, **more}  # type: ignore[arg-type]
    return Row("matmul", "matmul", shape, "f32", 1, impl, **values)  # type: ignore[arg-type]


def records() -> list[rows.Record]:
    return [
        Roof("f32_fma", 1, gflops=20.0),
        Roof("L3 copy", 1, gbps=30.0, bytes=1 << 20),
        row(ratio=0.9, ratios={"torch": 0.9, "numpy": 1.5}, aa=0.01),
        row(impl="torch"),
        row("3x3", ratio=1.2, ratios={"torch": 1.2}, aa=0.01),
        row("4x4", ms_min=None, correct=False, note="the <result> is wrong"),
        BarResult("matmul", "a target", None, ">= 1", None),
    ]


def test_lines_have_the_fields_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows.write(path, {"kind": "header", "device": "here"}, records())
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["header", "roof", "roof", "row", "row", "row", "row", "bar"]
    for line in lines:
        if line["kind"] == "row":
            assert line.keys() >= REQUIRED
    header, found = rows.read(path)
    assert header["device"] == "here"
    assert found == records()


def test_files_that_are_no_results(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for text in ("nothing", '{"kind": "row"}', '{"kind": "mystery"}', "[1]"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"rows.jsonl:1"):
            rows.read(path)


def test_comparing_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    rows.write(first, {"kind": "header"}, [row(ratio=1.0)])
    rows.write(second, {"kind": "header"}, [row(ratio=1.1)])
    assert comparing.show_files(first, second) == 0
    assert "+10.0 %" in capsys.readouterr().out
    assert main(["bench", "--compare", str(first), str(second)]) == 0
    rows.write(second, {"kind": "header"}, [row("9x9", ratio=1.1)])
    with pytest.raises(ValueError, match="no rows in common"):
        comparing.show_files(first, second)


# --- targets ---------------------------------------------------------------------------------------------------------


def test_targets_are_well_formed() -> None:
    found = bars.load()
    on_gpus = {f"gpu_{suite}" for suite in GPU_SUITES}
    assert {bar["suite"] for bar in found} == {*SUITES, *on_gpus}
    assert set(SUITES) == set(suites.NAMES)
    for bar in found:
        assert bar["figure"] in (*bars.FIELDS, "torch", "numpy")
        gpu = cases.SHAPES / "gpu.toml" if bar["suite"] in on_gpus else None
        known = {case.op for case in cases.load(bar["suite"].removeprefix("gpu_"), "core", gpu)} | {"warm_load"}
        assert bar.get("op", "*") in known | {"*"}, bar["text"]


def bar(**more: object) -> dict[str, object]:
    return {"suite": "matmul", "text": "t", "figure": "ratio", "reduce": "geomean", "at_least": 1.0, **more}


def test_judging() -> None:
    fast = [row(ratio=1.21, ratios={"torch": 1.21}), row("3x3", ratio=1.0, ratios={"torch": 1.0})]
    (result,) = bars.judge(fast, [bar()])
    assert result.passed
    assert result.value == pytest.approx(1.1)
    assert bars.judge(fast, [bar(reduce="min", at_least=1.1)])[0].passed is False
    assert bars.judge(fast, [bar(shape="2x*", figure="torch", reduce="min", at_least=1.2)])[0].passed
    assert bars.judge(fast, [bar(dtype="f16")])[0].passed is None
    assert bars.judge(fast, [bar(threads=2)]) == []
    assert bars.judge(fast, [bar(suite="compile")]) == []
    assert bars.judge([row()], [{**bar(figure="ms_min", reduce="max", at_most=2.0, at_least=0), "at_most": 2.0}])[0].passed


def test_a_wrong_result_fails_its_targets() -> None:
    wrong = [row(ratio=9.0, ratios={"torch": 9.0}), row("3x3", correct=False, ms_min=None, note="far off")]
    (result,) = bars.judge(wrong, [bar()])
    assert result.passed is False
    assert "far off" in result.detail


def test_means() -> None:
    found = bars.geometric_means([r for r in records() if isinstance(r, Row)])
    mean, worst, where, count = found["matmul", "f32", 1]
    assert (round(mean, 3), worst, where, count) == (round((0.9 * 1.2) ** 0.5, 3), 0.9, "matmul 2x2", 2)


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    found = [r for r in records() if isinstance(r, Row)]
    table.show(found, [BarResult("matmul", "a target", 0.5, ">= 1", False, "why")], "a machine")
    text = capsys.readouterr().out
    for part in ("a machine", "0.90x", "WRONG", "the <result> is wrong", "geometric mean of 2 ratios", "FAIL", ">= 1"):
        assert part in text
    assert table.time_text(0.0123) == "12.3 us"
    assert table.time_text(None) == "-"


def test_report(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from opdsl.bench import report

    text = report.page({"device": "a <machine>", "versions": {"numpy": "2"}}, records())
    assert text.count("<svg") == text.count("</svg>") == 3
    assert "a &lt;machine&gt;" in text
    assert "&lt;result&gt;" in text
    for outside in ("<script", "<link", "url(http", 'src="', "@import"):
        assert outside not in text
    path = tmp_path / "report.html"
    report.write(path, {}, [row(ms_min=None, gflops=None, roof_pct=None)])
    assert "<table>" in path.read_text()


def test_rendering_an_earlier_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    rows.write(path, {"kind": "header", "device": "here", "shapes": "core"}, records()[:5])
    assert main(["bench", "--render", str(path)]) == 0
    assert "geometric mean" in capsys.readouterr().out
    path.write_text("{}")
    assert main(["bench", "--render", str(path)]) == 2
    assert "not a line of benchmark results" in capsys.readouterr().err


def test_wrong_calls(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench"]) == 2
    assert "the suites are elementwise" in capsys.readouterr().err
    assert main(["bench", "matmull"]) == 2
    assert "no suite 'matmull'" in capsys.readouterr().err
    assert main(["bench", "matmul", "--threads", "0"]) == 2


# --- the regression check --------------------------------------------------------------------------------------------


def outcome(change: float, control: float = 0.0) -> object:
    from opdsl.bench.regression import Outcome

    times = {"A": noisy(1.0, 1), "B": noisy(change, 2), "control": noisy(1.0 + control, 3)}
    return Outcome(cases.Case("matmul", "matmul", "f32", {}), "2x2", times)


def test_regression_report(capsys: pytest.CaptureFixture[str]) -> None:
    from opdsl.bench.regression import Outcome, report

    missing = Outcome(cases.Case("matmul", "matmul", "i8", {}), "2x2", {}, "A: opdsl.ops has no matmul")
    assert report([outcome(1.0), missing], ("old", "new")) == 0  # type: ignore[list-item]
    assert "opdsl.ops has no matmul" in capsys.readouterr().out
    assert report([outcome(1.2)], ("old", "new")) == 1  # type: ignore[list-item]
    assert "SLOWER" in capsys.readouterr().out
    assert report([outcome(1.2, control=0.15)], ("old", "new")) == 0  # type: ignore[list-item]


def test_server_answers_errors() -> None:
    from opdsl.bench.server import Server, serve

    answers = io.StringIO()
    import os
    import sys

    before, stdout = dict(os.environ), sys.stdout
    try:
        serve(1, io.StringIO('{"do": "time"}\n{"do": "dance"}\n'), answers)
    finally:
        sys.stdout = stdout
        os.environ.clear()
        os.environ.update(before)
    found = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert [list(answer) for answer in found] == [["error"], ["error"]]
    assert Server(1).time() == {"error": "nothing is prepared"}
