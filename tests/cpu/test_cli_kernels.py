"""`opdsl run`, `inspect`, `profile` and `demo` with compiled kernels, and the examples."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import opdsl as od
from opdsl.analysis.cost import Unknown, count_work
from opdsl.cli import demo
from opdsl.cli.main import main
from opdsl.runtime.threads import get_num_threads, set_num_threads

EXAMPLES = Path(__file__).parents[2] / "examples"
LINEAR = str(EXAMPLES / "linear.py")
SIZES = ("--dtype", "f32", "--dim", "M=70", "--dim", "K=60", "--dim", "N=50")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 0
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def threads() -> Any:
    before = get_num_threads()
    yield
    set_num_threads(before)


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_examples(name: str) -> None:
    result = subprocess.run([sys.executable, str(EXAMPLES / name)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert ": " in result.stdout


def test_run(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "run", LINEAR, *SIZES, "--set", "activation=relu", "--threads", "2")
    assert "ok: largest error" in text
    assert "at best" in text
    record = json.loads(run(capsys, "run", LINEAR, *SIZES, "--json"))
    assert record["ms_min"] > 0
    assert record["sizes"] == {"M": 70, "K": 60, "N": 50}


def test_inspect_names_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Path(LINEAR).read_text().splitlines()
    dot = next(number for number, line in enumerate(lines, 1) if "od.dot" in line)
    words = ["inspect", LINEAR, "--dtype", "f32", "--target", "cpu:baseline"]
    stages = json.loads(run(capsys, *words, "--json"))["stages"]
    assert stages[0] == "ir"
    assert stages[-3:] == ["loops", "c++", "assembly"]
    texts = json.loads(run(capsys, *words, "--stage", "all", "--json"))["text"]
    assert f"// linear.py:{dot}: dot" in texts["c++"]
    assembly = texts["assembly"]
    assert f"# linear.py:{dot}" in assembly
    assert re.match(r"opdsl_kernel_linear\b.*:\n", assembly)
    assert not re.search(r"^\s*\.(loc|file|cfi|section|size)", assembly, re.MULTILINE)
    for label in re.findall(r"^(\.L\w+):", assembly, re.MULTILINE):
        assert len(re.findall(rf"{re.escape(label)}\b", assembly)) > 1


def test_profile(capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads(run(capsys, "profile", LINEAR, *SIZES, "--threads", "1,2", "--seconds", "0.05", "--json"))
    assert record["operations_in_products"] == 2 * 70 * 60 * 50
    assert record["written_bytes"] == 4 * 70 * 50
    assert record["read_bytes"] == 4 * (70 * 60 + 60 * 50 + 50)
    assert [row["threads"] for row in record["runs"]] == [1, 2]
    for row in record["runs"]:
        assert row["gflops"] == pytest.approx(record["operations"] / row["ms_min"] / 1e6)
        assert row["roof_gflops"] > 1
        assert row["roof_gbps"] > 0.1
    text = run(capsys, "profile", LINEAR, *SIZES, "--threads", "1", "--seconds", "0.05")
    assert "bound by" in text
    assert main(["profile", LINEAR, *SIZES, "--target", "interp"]) == 2
    assert main(["profile", LINEAR, *SIZES, "--threads", "0"]) == 2


def test_demo_of_the_examples(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cases = (demo.Case("vector_add", "N=1000"), demo.Case("histogram", "N=1000 BINS=8", arg="low=-1.0 high=1.0"))
    monkeypatch.setattr(demo, "find_cases", lambda: (EXAMPLES, cases))
    records = [json.loads(line) for line in run(capsys, "demo", "--json").splitlines()]
    assert [record["kernel"] for record in records] == ["vector_add", "histogram"]
    assert [record["checked_with"] for record in records] == ["reference", "interpreter"]
    text = run(capsys, "demo")
    assert "All 2 kernels agree with their references." in text
    assert "times as fast" in text


def test_demo_finds_its_files() -> None:
    folder, cases = demo.find_cases()
    assert all((folder / case.path).is_file() for case in cases)
    assert all((EXAMPLES / case.path).is_file() for case in demo.EXAMPLES)


# --- counting --------------------------------------------------------------------------------------------------------


@od.kernel
def triangle(x: od.Tensor[od.f32, "N", "N"], y: od.Tensor[od.f32, "N"], *, B: od.constexpr = 8):
    """Sums of exp over the lower triangle's blocks."""
    N = x.shape[0]
    for n in od.parallel(range(0, N, B)):
        total = od.zeros((B,), od.f32)
        for k in range(0, n + 1, B):
            total += od.sum(od.exp(od.copy_in(x[n : n + B, k : k + B])), axis=1)
        od.copy_out(total, y[n : n + B])


@od.kernel
def until(x: od.Tensor[od.f32, "N"], y: od.Tensor[od.f32, "N"]):
    value = od.copy_in(x[0])
    while value > 1.0:
        value = value * 0.5
    od.copy_out(value, y[0])


@od.kernel
def forever(x: od.Tensor[od.f32, "N"], y: od.Tensor[od.f32, "N"]):
    value = od.exp(od.copy_in(x[0]))
    while value > 1.0:
        value = value * 0.5
    od.copy_out(value, y[0])


def test_work_follows_scalars() -> None:
    x, y = np.full((20, 20), 8, np.float32), np.zeros(20, np.float32)
    work = count_work(triangle.lower(x, y), (x, y))
    elements = 8 * 8 + 8 * 16 + 4 * 20
    assert work.functions == elements
    assert work.operations == 2 * elements + (8 + 16 + 12)
    assert work.exact
    assert work.read_bytes == 4 * elements
    assert work.written_bytes == 80
    row = x[0]
    assert count_work(until.lower(row, y), (row, y)).read_bytes == 4
    with pytest.raises(Unknown):
        count_work(forever.lower(row, y), (row, y))


def test_work_of_long_loops_is_sampled() -> None:
    x, y = np.zeros((4000, 4000), np.float32), np.zeros(4000, np.float32)
    work = count_work(triangle.lower(x, y, B=4), (x, y))
    assert not work.exact
    assert work.functions == pytest.approx(4000 * 4004 / 2, rel=0.02)
