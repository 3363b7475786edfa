"""Processes of modules."""

from __future__ import annotations

from pathlib import Path

import pytest

import opdsl
from opdsl.support.child import start_module


def test_modules_come_from_where_ours_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not from the current directory, where a checkout that is not built may lie beside an installed package."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "more"))
    output, _ = start_module("site", environment={"PYTHONNOUSERSITE": "1"}).communicate(timeout=60)
    paths = [line.strip(" ',") for line in output.decode().splitlines()]
    assert paths[1:3] == [str(Path(opdsl.__file__).resolve().parent.parent), str(tmp_path / "more")]
    assert str(tmp_path) not in paths
    assert "ENABLE_USER_SITE: False" in output.decode()
