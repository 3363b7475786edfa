"""docs/language.md on the CPU."""

from __future__ import annotations

from pathlib import Path

from support.pages import run_page


def test_examples(tmp_path: Path) -> None:
    run_page("language.md", "cpu", tmp_path)
