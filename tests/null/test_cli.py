"""The command line's frame, `cache` and `doctor`."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opdsl.cli import doctor
from opdsl.cli.main import COMMANDS, available_commands, load, main
from opdsl.support.cache import Cache
from opdsl.support.knobs import knobs


def test_help_lists_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    assert "doctor" in text
    assert "cache" in text
    with pytest.raises(SystemExit) as end:
        main(["cache", "--help"])
    assert end.value.code == 0
    assert "verify" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("opdsl 0.")


def test_unknown_command_suggests(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["docter"]) == 2
    assert "did you mean 'doctor'?" in capsys.readouterr().err
    assert main(["zzz"]) == 2
    assert "there are" in capsys.readouterr().err
    assert "zzz" not in COMMANDS


def _write_kernel(directory: Path) -> None:
    (directory / "kernel.so").write_text("x")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "cache"
    for name in ("add", "mul"):
        Cache(root).get_or_build({"kernel": name}, _write_kernel)
    return root


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code = main([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_cache_command(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with knobs.scope(cache_dir=str(root)):
        code, listing = run_json(capsys, "cache", "ls")
        assert code == 0
        assert {entry["label"] for entry in listing["entries"]} == {"add", "mul"}
        assert main(["cache", "ls"]) == 0
        assert "2 compiled kernels" in capsys.readouterr().out
        assert run_json(capsys, "cache", "verify")[0] == 0
        Path(listing["entries"][0]["directory"], "kernel.so").write_text("y")
        code, report = run_json(capsys, "cache", "verify")
        assert code == 1
        assert report["checked"] == 2
        assert report["damaged"][0]["reason"] == "kernel.so has been changed"
        assert main(["cache", "verify"]) == 1
        assert "1 compiled kernels are sound, 1 damaged" in capsys.readouterr().out
        assert run_json(capsys, "cache", "clear") == (0, {"root": str(root), "removed": 2, "left": 0})
        assert run_json(capsys, "cache", "ls")[1]["entries"] == []


def test_cache_command_on_no_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for action in ("ls", "verify", "clear"):
        assert main(["cache", action, "--dir", str(tmp_path / "none")]) == 0
    assert not (tmp_path / "none").exists()
    capsys.readouterr()


def test_cache_command_reports_a_directory_that_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root.chmod(0o777)
    assert main(["cache", "verify", "--dir", str(root)]) == 1
    assert "chmod 700" in capsys.readouterr().out
    assert main(["cache", "clear", "--dir", str(root)]) == 1
    assert "not cleared" in capsys.readouterr().err


def findings(**scope: Any) -> dict[str, doctor.Finding]:
    with knobs.scope(**scope):
        return {finding.name: finding for finding in doctor.examine()}


def test_doctor_on_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    code, report = run_json(capsys, "doctor")
    names = {finding["name"] for finding in report["findings"]}
    assert {"python", "runtime", "instruction set", "compiler", "cache", "threads", "numpy", "torch", "triton"} <= names
    assert code == (0 if report["cpu_target_works"] else 1)
    assert main(["doctor"]) == code
    assert "The CPU target" in capsys.readouterr().out


def test_a_folder_is_no_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As tests/triton is where Triton is not installed."""
    (tmp_path / "a_folder").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert doctor._installed("a_folder", "a_folder") is None
    assert doctor._installed("numpy", "numpy") == np.__version__


def test_doctor_without_a_compiler() -> None:
    finding = findings(cxx="no-such-compiler")["compiler"]
    assert finding.status == "problem"
    assert "apt-get install g++" in finding.remedy


def test_doctor_with_an_old_or_broken_compiler(tmp_path: Path) -> None:
    fake = tmp_path / "c++"
    fake.write_text("#!/bin/sh\necho 9.4.0\n")
    fake.chmod(0o755)
    finding = findings(cxx=str(fake), cache_dir=str(tmp_path / "cache"))["compiler"]
    assert finding.status == "problem"
    assert "gcc 9.4.0" in finding.detail
    assert "10.0 or newer" in finding.remedy
    fake.write_text(
        '#!/bin/sh\ncase "$*" in *-dump*) echo 13.1.0;; --version) echo g++;; *) echo boom >&2; exit 1;; esac\n'
    )
    finding = findings(cxx=str(fake), cache_dir=str(tmp_path / "cache"))["compiler"]
    assert finding.status == "problem"
    assert "a trial kernel fails" in finding.detail


def test_doctor_with_a_wrong_isa() -> None:
    finding = findings(isa="sse9")["instruction set"]
    assert finding.status == "problem"
    assert finding.remedy == "unset OPDSL_ISA"
    assert findings(isa="baseline")["instruction set"].status == "ok"


def test_doctor_on_bad_caches(root: Path) -> None:
    assert findings(cache_dir=str(root))["cache"].status == "ok"
    next(root.glob("entries/*/*/kernel.so")).write_text("y")
    assert "1 of them damaged" in findings(cache_dir=str(root))["cache"].detail
    root.chmod(0o777)
    assert "chmod 700" in findings(cache_dir=str(root))["cache"].detail
    assert "switched off" in findings(cache=False)["cache"].detail


def test_doctor_without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    found = findings()
    assert found["ml_dtypes"].status == "problem"
    assert found["triton"].status == "missing"
    assert found["triton"].remedy.startswith('pip install "triton')


def test_a_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def _broken() -> Any:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(doctor, "CHECKS", (_broken,))
    assert doctor.examine() == [doctor.Finding("broken", "problem", "ZeroDivisionError: oh")]


def test_a_closed_pipe_is_no_error(root: Path) -> None:
    command = f"{sys.executable} -m opdsl.cli.main cache ls | true"
    environment = {**os.environ, "OPDSL_CACHE_DIR": str(root)}
    result = subprocess.run(command, shell=True, capture_output=True, text=True, env=environment)
    assert "Traceback" not in result.stderr


PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"


@pytest.mark.parametrize("name", available_commands())
def test_the_page_has_every_option(name: str) -> None:
    """docs/command-line.md names the options that the command has, and no others."""
    sections = re.split(r"^## opdsl ", PAGE.read_text(), flags=re.MULTILINE)
    section = next((text for text in sections if text.split()[0] == name), None)
    assert section is not None, f"docs/command-line.md has no section `## opdsl {name}`"
    table = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `-")]
    written = set(re.findall(r"`(--?[a-z-]+)`", " ".join(table)))
    module = load(name)
    assert module is not None
    parser = argparse.ArgumentParser(add_help=False)
    module.add_arguments(parser)
    assert written == {option for action in parser._actions for option in action.option_strings}


KERNELS = """
import numpy as np
import opdsl as od

@od.function
def double(t):
    return t + t

@od.function
def same(t):
    return t

@od.kernel
def first(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], a: od.f32 = 1.5, *, change: od.constexpr = same,
          BLOCK: od.constexpr = 16):
    (N,) = x.shape
    for n in od.parallel(range(0, N, BLOCK)):
        od.copy_out(change(od.copy_in(x[n:n + BLOCK])) * a, y[n:n + BLOCK])

@od.kernel
def second(x: od.Tensor["T", "M", "N"], y: od.Tensor["T", "M"], *, N: od.constexpr):
    for m in od.parallel(range(x.shape[0])):
        od.copy_out(od.sum(od.copy_in(x[m, :])), y[m])

def reference(x, a, change):
    return (2 * x if change == "double" else x) * a

def reference_second(x):
    return x.sum(axis=1) + WRONG

WRONG = 0
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "kernels_of_a_test.py"
    path.write_text(KERNELS)
    return path


INTERP = ("--target", "interp")


def test_run(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(file), "--dtype", "f32", "--dim", "N=100", *INTERP, "--json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["kernel"] for record in records] == ["first", "second"]
    assert [record["sizes"] for record in records] == [{"N": 100}, {"M": 256, "N": 100}]
    assert all(record["error"] <= record["allowed"] for record in records)
    words = [f"{file}:first", "--dtype", "T=f16,f64", "--set", "change=double", "--arg", "a=-2.0", "--seed", "3"]
    assert main(["run", *words, *INTERP]) == 0
    text = capsys.readouterr().out
    assert text.count("ok: largest error") == 2
    assert "T=f16" in text
    assert "a: -2.0" in text


def test_run_finds_wrong_results(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(KERNELS.replace("WRONG = 0", "WRONG = 0.01"))
    assert main(["run", f"{file}:second", "--dtype", "f32", *INTERP]) == 1
    assert "WRONG: largest error" in capsys.readouterr().out
    file.write_text(KERNELS.replace("def reference(x, a, change)", "def reference(x, other)"))
    assert main(["run", f"{file}:first", "--dtype", "f32", *INTERP]) == 0
    assert "not compared: other of reference is no input of the kernel" in capsys.readouterr().out


def test_inspect(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", f"{file}:first", "--dtype", "f32", *INTERP]) == 0
    assert "ir " in capsys.readouterr().out
    assert main(["inspect", f"{file}:first", "--dtype", "f32", "--stage", "ir", *INTERP]) == 0
    assert capsys.readouterr().out.startswith("kernel first(%x: tensor<N x f32>")
    code, shown = run_json(
        capsys, "inspect", f"{file}:second", "--dtype", "f32", "--dim", "N=7", "--stage", "ir", *INTERP
    )
    assert code == 0
    assert "tensor<M x 7 x f32>" in shown["text"]["ir"]


WRONG_WORDS = [
    (["{}"], "has 2 kernels: first and second", "say which: {}:first"),
    (["{}:frist"], "has no kernel 'frist'", "did you mean 'first'?"),
    (["{}:first"], "first is compiled for the dtype of 'T', which is not given", "add --dtype T=f32"),
    (["{}:second"], "for the dtype of 'T' and the size of 'N', which are not", "add --dtype T=f32 --dim N=1000"),
    (["{}:first", "--dtype", "f31"], "there is no dtype 'f31'", "did you mean"),
    (["{}:first", "--dtype", "U=f32"], "first has no dtype variable 'U'", "there are T"),
    (["{}:first", "--dtype", "f32", "--set", "BLOK=3"], "first has no constexpr 'BLOK'", "did you mean 'BLOCK'?"),
    (["{}:first", "--dtype", "f32", "--set", "BLOCK"], "expected NAME=VALUE", ""),
    (["{}:first", "--dtype", "f32", "--set", "change=doubel"], "'doubel' is neither", "did you mean 'double'?"),
    (["{}:first", "--dtype", "f32", "--dim", "N=3"], "'N' is no constexpr of first", "leave --dim N out"),
    (["{}:second", "--dtype", "f32", "--dim", "N=x"], "the size of a dim is a whole number", ""),
    (
        ["{}:first", "--dtype", "f32", "--dim", "BLOCK=3"],
        "first has no dim 'BLOCK'",
        "it is a constexpr: --set BLOCK=3",
    ),
    (["{}:first", "--dtype", "f32", "--stage", "irr"], "has no stage 'irr'", "did you mean 'ir'?"),
    (["nowhere.py:first"], "there is no file 'nowhere.py'", ""),
    (["{}:first", "--dtype", "f32", "--target", "gpu"], "there is no target 'gpu'", ""),
]


@pytest.mark.parametrize(("words", "message", "help"), WRONG_WORDS)
def test_wrong_words(file: Path, words: list[str], message: str, help: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [word.format(file) for word in words]
    target = [] if "--target" in words else INTERP
    assert main(["inspect", *words, *target]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert help.format(file) in error
    assert "Traceback" not in error


def test_errors_of_kernels_show_their_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(KERNELS.replace("* a, y[n:n + BLOCK]", "* b, y[n:n + BLOCK]"))
    assert main(["inspect", f"{file}:first", "--dtype", "f32", *INTERP]) == 1
    error = capsys.readouterr().err
    assert re.search(r"kernels_of_a_test.py:\d+:\d+: error: ", error)
    assert "^" in error
    assert "Traceback" not in error


def test_defects_are_one_line(file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("opdsl.targets.base.find_target", broken)
    words = ["inspect", f"{file}:first", "--dtype", "f32"]
    assert main(words) == 1
    assert "opdsl: ZeroDivisionError: oh\nhelp: this is a defect of OpDSL" in capsys.readouterr().err
    with knobs.scope(traceback=True), pytest.raises(ZeroDivisionError):
        main(words)
