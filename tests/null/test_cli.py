"""The command line's frame, `cache` and `doctor`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from opdsl.cli import doctor
from opdsl.cli.main import COMMANDS, main
from opdsl.runtime.cache import Cache
from opdsl.runtime.knobs import knobs


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


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "cache"
    for name in ("add", "mul"):
        Cache(root).get_or_build({"kernel": name}, lambda directory: (directory / "kernel.so").write_text("x") and None)
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
    assert found["triton"].remedy == 'pip install "opdsl[triton]"'


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
