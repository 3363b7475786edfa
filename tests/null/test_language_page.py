"""docs/language.md: every example runs, and every built-in is on the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.pages import DOCS, run_page

import opdsl as od


@pytest.mark.parametrize("target", ["interp", "interp:strict"])
def test_examples(target: str, tmp_path: Path) -> None:
    run_page("language.md", target, tmp_path)


def test_every_built_in_is_on_the_page() -> None:
    words = set(re.findall(r"\w+", (DOCS / "language.md").read_text()))
    missing = {name for name in od.__all__ if name not in words} - {"LaunchError"}
    assert not missing
