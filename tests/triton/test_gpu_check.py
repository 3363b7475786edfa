"""`gpu_check`: what of it needs no GPU."""

from __future__ import annotations

import json
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("triton.language")  # this folder is called triton, too
pytest.importorskip("torch")

from opdsl.bench import gpu_check
from opdsl.bench.cases import SHAPES, load
from opdsl.bench.gpu import kernels
from opdsl.bench.gpu.jobs import Job, config_jobs, judge, run, small, value_jobs
from opdsl.bench.gpu.worker import Worker, run_all

ADD = Job("operator", "add", "f32")


def test_dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One check of values, in a worker process; everything is written."""
    words = ["--dry-run", "--stages", "values", "--filter", "operator add f32", "--out", str(tmp_path)]
    assert gpu_check.main(words) == 0
    (line,) = (tmp_path / "gpu_values.jsonl").read_text().splitlines()
    assert json.loads(line)["status"] == "compiled"
    assert "1 compiled" in (tmp_path / "gpu_summary.txt").read_text()
    assert "a dry run" in capsys.readouterr().out


def test_asked_wrongly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["--dry-run", "--arch", "sm_1", "--out", str(tmp_path)]) == 1
    assert "there is no architecture" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        gpu_check.main(["--stages", "nothing"])


@pytest.mark.parametrize(
    "job", [ADD, Job("operator", "relu", "f16"), Job("operator", "eq", "f32")], ids=lambda job: job.title
)
def test_values(job: Job) -> None:
    """As on a GPU, in Triton's interpreter."""
    pytest.importorskip("triton", minversion="3.9")  # the interpreter of earlier ones is refused
    outcome = run(job, "triton:interpreter", True)
    assert outcome.status == "ok", outcome
    assert outcome.error is not None


def test_failures_are_outcomes() -> None:
    assert run(Job("operator", "nonsense", "f32"), "triton:sm_90", False).status == "failed"
    assert run(Job("kernel", "add", "f32", "nowhere.py"), "triton:sm_90", False).status == "failed"
    assert run(Job("nonsense", "add", "f32"), "triton:sm_90", False).status == "failed"


def test_workers() -> None:
    jobs = [Job("operator", "nonsense", "f32"), ADD]
    outcomes = run_all(jobs, "triton:sm_90", False, 2, time.monotonic() + 100)
    assert [outcome and outcome.status for outcome in outcomes] == ["failed", "compiled"]
    assert run_all(jobs, "triton:sm_90", False, 2, time.monotonic() - 1) == [None, None]
    worker = Worker("triton:sm_90", False)
    worker.process.kill()
    worker.process.wait()
    outcome, usable = worker.do(ADD, 10)
    assert outcome is not None and outcome.status == "failed" and not usable
    worker.stop()


def test_judging() -> None:
    generator = np.random.default_rng(0)
    exact = generator.standard_normal((50, 60))
    plain = exact.astype(np.float32)
    assert judge(plain, exact, plain).status == "ok"
    for wrong in (np.zeros_like(plain), plain.astype(np.float16).astype(np.float32), plain * 1.001, plain[:-1]):
        assert judge(wrong, exact, plain).status == "wrong"
    assert judge(exact.astype(ml_dtypes.bfloat16), exact, plain).status == "ok"
    broken = plain.copy()
    broken[3, 4] = np.nan
    assert judge(broken, exact, plain).status == "wrong"
    assert judge(broken, np.where(np.isnan(broken), np.nan, exact), plain).status == "ok"
    large = np.array([1.0, 1e6, -1e6])
    assert judge(np.array([1, np.inf, -np.inf], np.float16), large, large.astype(np.float32)).status == "ok"
    assert judge(np.array([1, np.inf, np.inf], np.float16), large, large.astype(np.float32)).status == "wrong"
    assert judge(np.array([1, 65504, -np.inf], np.float16), large, large.astype(np.float32)).status == "wrong"
    numbers = np.arange(5)
    assert judge(numbers, numbers, numbers).status == "ok"
    assert judge(numbers, numbers + 1, numbers).status == "wrong"


def test_everything_is_checked(tmp_path: Path) -> None:
    from opdsl.ops.registry import OPERATORS

    examples = Path(__file__).resolve().parents[2] / "examples"
    jobs = value_jobs(None, examples)
    assert {job.name for job in jobs if job.kind == "operator"} == set(OPERATORS)
    for operator in OPERATORS.values():
        assert len([j for j in jobs if j.kind == "operator" and j.name == operator.name]) == len(operator.dtypes)
    files = {Path(job.file).name for job in jobs if job.kind == "kernel"}
    assert files == {path.name for path in examples.glob("*.py")}


def test_what_is_tuned_is_what_is_measured() -> None:
    """Every core row of the benchmarks finds a record near it, and what is compiled before is what is then called."""
    tuned = {(name, dtype) for name, dtype, *_ in gpu_check.TUNED}
    for suite in ("matmul", "attention", "softmax_norm", "elementwise"):
        for case in load(suite, "core", SHAPES / "gpu.toml"):
            assert (case.op, case.dtype) in tuned, case
    for name, dtype, sizes, given, _ in gpu_check.TUNED:
        jobs = config_jobs(name, dtype, sizes, given)
        assert len(jobs) == len(getattr(kernels, name).configs) + 1
        constexprs = getattr(kernels, name).signature.constexprs
        for symbol, size in small(sizes, constexprs).items():
            assert size % 16 == 0 or sizes[symbol] % 16 != 0
            assert size == sizes[symbol] or symbol not in constexprs


@pytest.mark.parametrize("row", [gpu_check.TUNED[1], gpu_check.TUNED[7], gpu_check.TUNED[-1]], ids=lambda row: row[0])
def test_tuning_without_a_gpu(row: object, tmp_path: Path) -> None:
    check = gpu_check.Check(True, "triton:sm_90", tmp_path, 100.0, 1)
    record = gpu_check._tune_one(check, *row)  # type: ignore[misc]
    assert record.kernel == row[0] and record.ms_min > 0  # type: ignore[index]
    assert not any(trial.problem for trial in record.trials)
