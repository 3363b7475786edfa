"""Programs that are kept in the compile cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import opdsl as od
from opdsl.npu.chip import find_chip
from opdsl.runtime.launch import contiguous_request
from opdsl.support.cache import Cache
from opdsl.targets.base import Request
from opdsl.targets.npu import compile as compiling
from opdsl.targets.npu import kept
from opdsl.targets.npu.target import NpuExecutable


@od.kernel
def checked_scale(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], factor: od.f32, *, BLOCK: od.constexpr = 64):
    for n in od.parallel(range(0, x.shape[0], BLOCK)):
        t = od.copy_in(x[n : n + BLOCK])
        od.assert_(t < 100.0, "too large")
        od.copy_out(t * factor, y[n : n + BLOCK])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, which a call finds anew each time as another process would."""
    monkeypatch.setattr(kept, "default_cache", lambda: Cache(tmp_path))
    return tmp_path


def request(**constexprs: int) -> Request:
    values = checked_scale.check_constexprs(constexprs, {})
    return contiguous_request(checked_scale.specialise({"T": od.f32}, values))


def load(chip: str, **constexprs: int) -> NpuExecutable:
    return NpuExecutable(kept.load_or_compile(request(**constexprs), find_chip(chip)), find_chip(chip))


def forbid_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(compiling, "compile_kernel", refuse)


def test_a_program_is_compiled_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load("910b2")
    forbid_compiling(monkeypatch)
    second = load("910b2")
    assert str(second.runnable.program) == str(first.runnable.program)
    x, y = np.arange(70, dtype=np.float32), np.full(70, np.nan, np.float32)
    second([x, y, 3.0])
    np.testing.assert_array_equal(y, x * 3)
    for other in (lambda: load("910b1"), lambda: load("910b2", BLOCK=128)):
        with pytest.raises(AssertionError, match="compiled again"):
            other()


def test_a_failed_assertion_is_told_with_its_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load("910a")
    forbid_compiling(monkeypatch)
    with pytest.raises(od.OpdslError, match="too large") as caught:
        load("910a")([np.full(8, 1000, np.float32), np.zeros(8, np.float32), 1.0])
    assert 'od.assert_(t < 100.0, "too large")' in str(caught.value)


def test_lines_that_moved_are_another_program(cache: Path, tmp_path: Path) -> None:
    """Reports and profiles name lines, so a program from before an edit above the kernel will not do."""
    text = (
        "import opdsl as od\n\n@od.kernel\ndef double(x: od.Tensor[od.f32, 'N']):\n"
        "    od.copy_out(od.copy_in(x[0:8]) * 2.0, x[0:8])\n"
    )
    lines = []
    for number, above in enumerate(("", "# a comment\n")):
        file = tmp_path / f"module{number}.py"
        file.write_text(above + text)
        space: dict[str, object] = {}
        exec(compile(file.read_text(), str(file), "exec"), space)  # noqa: S102
        kernel = space["double"]
        assert isinstance(kernel, od.lang.kernel.Kernel)
        runnable = kept.load_or_compile(contiguous_request(kernel.specialise({}, {})), find_chip("910b2"))
        lines.append({s.location.line for code in runnable.program.codes.values() for s in code.body})
    assert {line + 1 for line in lines[0] if line} == {line for line in lines[1] if line}


def test_a_damaged_program_is_compiled_again(cache: Path) -> None:
    load("910b2")
    (file,) = cache.glob(f"entries/*/*/{kept.FILE}")
    file.write_bytes(file.read_bytes()[:-1])
    x, y = np.ones(8, np.float32), np.zeros(8, np.float32)
    with pytest.warns(UserWarning, match="damaged|bytes"):
        executable = load("910b2")
    executable([x, y, 2.0])
    assert (y == 2).all()
