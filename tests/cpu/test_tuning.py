"""`opdsl tune` and the use of its records by launches."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import opdsl as od
from opdsl.cli.main import main
from opdsl.lang.kernel import Kernel
from opdsl.runtime import tuning_records as records
from opdsl.runtime.devices import Processor

if shutil.which("c++") is None and shutil.which("g++") is None:
    pytest.skip("needs a C++ compiler", allow_module_level=True)

SOURCE = '''
import numpy as np
import opdsl as od


@od.function
def twice(t):
    return t + t


@od.kernel(configs=[od.Config(BLOCK=64), {"BLOCK": 256}, od.Config(BLOCK=512, num_warps=8)])
def which(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], *, f: od.constexpr = None, BLOCK: od.constexpr = 16):
    """Adds BLOCK, so that a result shows what it was compiled for."""
    for i in od.parallel(range(0, x.shape[0], BLOCK)):
        t = od.copy_in(x[i:i + BLOCK])
        if f is not None:
            t = f(t)
        od.copy_out(t + BLOCK, y[i:i + BLOCK])


@od.kernel(configs=[od.Config(BLOCK=8), od.Config(BLOCK=32)])
def double(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], *, BLOCK: od.constexpr):
    for i in od.parallel(range(0, x.shape[0], BLOCK)):
        od.copy_out(od.copy_in(x[i:i + BLOCK]) * 2, y[i:i + BLOCK])


@od.kernel(configs=[od.Config(WRONG=0.5), od.Config(WRONG=7.0)])
def half(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], *, WRONG: od.constexpr = 0.5):
    od.static_assert(WRONG != 7.0, "no seven")
    for i in od.parallel(range(0, x.shape[0], 16)):
        od.copy_out(od.copy_in(x[i:i + 16]) * WRONG, y[i:i + 16])


def reference_double(x):
    return 2 * x


def reference_half(x):
    return 0.5 * x
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "kernels.py"
    path.write_text(SOURCE)
    records.forget()
    return path


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("tuned_kernels", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record(kernel: Kernel, **changes: Any) -> records.Record:
    """As `opdsl tune` would write it here."""
    from opdsl.targets.base import find_target

    known: dict[str, Any] = {
        "kernel": kernel.name, "target": find_target("cpu").name, "device": Processor().model(), "dtypes": {"T": "f32"},
        "sizes": {"N": 100}, "given": {}, "constexprs": {"BLOCK": 64}, "options": {}, "ms_min": 1.0,
        "default_ms_min": 2.0, "noise": 0.0, "threads": 1, "date": "2026-01-01", "versions": {}, "source": "",
    }  # fmt: skip
    return records.Record(**{**known, **changes})


def block(kernel: Kernel, size: int, dtype: type = np.float32, **options: object) -> int:
    """What a launch took for BLOCK."""
    x, y = np.zeros(size, dtype), np.empty(size, dtype)
    kernel(x, y, **options)
    kernel(x, y, **options)  # once more by the Launcher
    assert (y == y[0]).all()
    return int(y[0])


def write(path: Path, *found: records.Record) -> None:
    records.write(records.records_file(load(path).which), found)
    records.forget()


def test_tune_records_and_launches_use_it(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tune", f"{file}:which", "--dtype", "f32", "--sizes", "N=4000", "--seconds", "0.01"]
    assert main([*words, "--try", "BLOCK=128"]) == 0
    text = capsys.readouterr().out
    assert "BLOCK=128" in text and "recorded in" in text
    (found,) = records.read(file.with_name("kernels.tuning.json"))
    assert found.sizes == {"N": 4000} and found.dtypes == {"T": "f32"} and found.versions["compiler"]
    assert {trial.values["BLOCK"] for trial in found.trials} == {"16", "128"}
    # The two blocks' results differ, as `which` is made: one of them is refused.
    assert sum(bool(trial.problem) for trial in found.trials) == 1
    assert found.constexprs == {"BLOCK": 16}


def test_wrong_and_failing_configurations_cannot_win(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tune", f"{file}:half", "--dtype", "f32", "--dim", "N=64", "--seconds", "0.01"]
    assert main(words) == 0
    (found,) = records.read(file.with_name("kernels.tuning.json"))
    assert found.constexprs == {"WRONG": 0.5}
    problems = {trial.values["WRONG"]: trial.problem for trial in found.trials}
    assert "no seven" in problems["7.0"] and not problems["0.5"]
    assert main([*words, "--try", "WRONG=0.25"]) == 0
    (found,) = records.read(file.with_name("kernels.tuning.json"))
    assert "wrong" in {trial.values["WRONG"]: trial.problem for trial in found.trials}["0.25"]
    assert main([*words, "--try", "WRONG=7.0", "--set", "WRONG=0.5"]) == 2
    capsys.readouterr()


def test_nothing_works(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(SOURCE.replace("WRONG: od.constexpr = 0.5", "WRONG: od.constexpr"))
    words = ["tune", f"{file}:half", "--dtype", "f32", "--dim", "N=64", "--seconds", "0.01"]
    assert main([*words, "--try", "WRONG=0.75,0.25"]) == 1
    text = capsys.readouterr().err
    assert "no configuration of half can be measured" in text and "WRONG=0.75: wrong" in text
    assert main([*words, "--try", "WRONG=7.0"]) == 1
    assert "no seven" in capsys.readouterr().err
    assert main([*words, "--try", "WRONG=7.0,0.5"]) == 0


def test_kernel_without_defaults(file: Path) -> None:
    assert main(["tune", f"{file}:double", "--dtype", "f32,f64", "--dim", "N=500", "--seconds", "0.01"]) == 0
    found = records.read(file.with_name("kernels.tuning.json"))
    assert [dict(r.dtypes) for r in found] == [{"T": "f32"}, {"T": "f64"}]
    assert all(r.default_ms_min is None and r.constexprs["BLOCK"] in (8, 32) for r in found)
    kernel = load(file).double
    x, y = np.ones(500, np.float32), np.empty(500, np.float32)
    kernel(x, y)  # without BLOCK: the record has it
    assert (y == 2).all()
    with pytest.raises(od.ArgumentError, match="BLOCK has no default"):
        kernel(x, y, target="interp")


def test_configs_are_those_of_the_target(file: Path) -> None:
    assert main(["tune", f"{file}:which", "--dtype", "f32", "--dim", "N=64", "--seconds", "0.01"]) == 0
    (found,) = records.read(file.with_name("kernels.tuning.json"))
    assert {trial.values["BLOCK"] for trial in found.trials} == {"16", "64", "256"}  # 512 is a GPU's


def test_launches_take_the_best_record(file: Path) -> None:
    kernel = load(file).which
    write(
        file,
        record(kernel),
        record(kernel, sizes={"N": 1000}, constexprs={"BLOCK": 256}),
        record(kernel, sizes={"N": 1000}, dtypes={"T": "f64"}, constexprs={"BLOCK": 32}),
        record(kernel, sizes={"N": 110}, device="another", constexprs={"BLOCK": 128}),
        record(kernel, sizes={"N": 110}, target="cpu:none", constexprs={"BLOCK": 2}),
    )
    assert block(kernel, 100) == 64
    assert block(kernel, 120) == 64  # another machine's record does not come first
    assert block(kernel, 999) == 256
    assert block(kernel, 100) == 64  # by the Launcher, whose key has the sizes
    assert block(kernel, 999, np.float64) == 32
    assert block(kernel, 100, np.float64) == 16  # too far from 1000: the default
    assert block(kernel, 100_000) == 16
    assert block(kernel, 1) == 16
    assert block(kernel, 100, np.int32) == 16
    assert block(kernel, 100, BLOCK=8) == 8
    assert block(kernel, 100, target="interp") == 16
    assert block(kernel, 100, target="cpu") == 64
    assert block(kernel, 100, target="cpu:baseline") == 16


def test_records_are_looked_up_on_the_long_way_only(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = load(file).which
    write(file, record(kernel))
    asked: list[int] = []
    choose = records.Book.choose

    def counted(book: records.Book, dtypes: Any, sizes: Any, given: Any) -> Any:
        asked.append(sizes["N"])
        return choose(book, dtypes, sizes, given)

    monkeypatch.setattr(records.Book, "choose", counted)
    for size in (100, 90, 100, 90, 100):
        assert block(kernel, size) == 64
    assert asked == [100, 90]


def test_given_constexprs(file: Path) -> None:
    kernel, module = (module := load(file)).which, module
    write(
        file,
        record(kernel, given={"f": "twice"}, constexprs={"BLOCK": 8}),
        record(kernel, sizes={"N": 120}),
    )
    assert block(kernel, 100) == 64
    assert block(kernel, 100, f=module.twice) == 8


def test_knob(file: Path, tmp_path: Path) -> None:
    module = load(file)
    write(file, record(module.which))
    with od.knobs.scope(tuning="0"):
        assert block(module.which, 100) == 16
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    records.write(records.records_file(module.which, folder), [record(module.which, constexprs={"BLOCK": 4})])
    with od.knobs.scope(tuning=str(folder)):
        assert block(module.which, 100) == 4
    assert block(module.which, 100) == 64


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": 99, "records": []}', '{"format": 1, "records": [{"kernel": 1}]}']
)
def test_a_bad_file_is_left_out_with_one_warning(file: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    kernel = load(file).which
    path = records.records_file(kernel)
    path.write_text(text)
    with pytest.warns(records.TuningWarning, match="left out"):
        assert block(kernel, 100) == 16
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert block(kernel, 101) == 16
    assert main(["tune", f"{file}:which", "--dtype", "f32", "--seconds", "0.01"]) == 1
    assert "kernels.tuning.json" in capsys.readouterr().err


def test_a_record_of_what_is_gone(file: Path) -> None:
    kernel = load(file).which
    write(file, record(kernel, constexprs={"GONE": 1}))
    with pytest.warns(records.TuningWarning, match="GONE"):
        assert block(kernel, 100) == 16


def test_merging_and_round_trip(file: Path) -> None:
    kernel = load(file).which
    trials = (records.Trial({"BLOCK": "8"}, 1.0, 2.0), records.Trial({"BLOCK": "9"}, None, None, 'no "nine"'))
    old = [record(kernel), record(kernel, sizes={"N": 7}, constexprs={"BLOCK": (1, "x")}, trials=trials)]
    new = [record(kernel, constexprs={"BLOCK": 8})]
    path = records.records_file(kernel)
    records.write(path, records.merged(old, new))
    found = records.read(path)
    assert found == records.merged(found, []) and len(found) == 2
    assert {r.constexprs["BLOCK"] for r in found} == {8, (1, "x")}
    assert next(r for r in found if r.trials).trials == trials
    json.loads(path.read_text())


def test_show(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", f"{file}:which", "--show"]) == 1
    assert "nothing is recorded" in capsys.readouterr().err
    kernel = load(file).which
    write(file, record(kernel, source=records.source_digest(kernel)), record(kernel, sizes={"N": 3}, source="old"))
    assert main(["tune", f"{file}:which", "--show"]) == 0
    assert capsys.readouterr().out.count("has changed since") == 1
    assert main(["tune", f"{file}:which", "--show", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "interp"], "is not measured"),
        (["--try", "BLOCK"], "expected NAME=VALUE"),
        (["--try", "BLOK=1"], "expected NAME=VALUE"),
        (["--try", "N=1"], "expected NAME=VALUE"),
        (["--try", "f=twice"], "cannot be written into a record"),
        (["--set", "BLOCK=1"], "the configurations set BLOCK, too"),
        (["--records", "missing"], "there is no folder"),
        (["--seconds", "0"], "expected a positive number"),
        (["--sizes", "M=3"], "has no dim 'M'"),
    ],
)
def test_asked_wrongly(file: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", f"{file}:which", "--dtype", "f32", *words]) in (1, 2)
    assert message in capsys.readouterr().err
    assert not file.with_name("kernels.tuning.json").exists()


def test_triton_without_a_gpu(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("triton")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    from opdsl.targets.base import target_names

    if "triton" not in target_names():
        pytest.skip("this version has no target triton")
    assert main(["tune", f"{file}:which", "--dtype", "f32", "--target", "triton:sm_90"]) == 1
    assert "there is no GPU" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        ("[od.Config(BLOK=1)]", "did you mean 'BLOCK'?"),
        ("[{'N': 3}]", "shapes decide it"),
        ("[3]", "is no configuration"),
        ("[od.Config(BLOCK=1, num_warps=3)]", "num_warps of a configuration is 3"),
        ("[od.Config(BLOCK=1, target='cpu:avx2')]", "give a base name"),
    ],
)
def test_wrong_configs(tmp_path: Path, configs: str, message: str) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(
        f"import opdsl as od\n\n\n@od.kernel(configs={configs})\n"
        'def f(x: od.Tensor["T", "N"], *, N: od.constexpr, BLOCK: od.constexpr = 1):\n    pass\n'
    )
    with pytest.raises(od.OpdslError) as error:
        load(path)
    assert message in str(error.value)
    assert "wrong.py:4" in str(error.value)
    sys.modules.pop("wrong", None)
