"""Names that mean something else in C++, or look like generated ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.names import ALIKE, cases, check_names


def _is_worth_compiling(case: dict[str, str]) -> bool:
    """Kernels' names become symbols, dims' names constants; all others go through one function."""
    dim = case.get("dim", "")
    return "kernel" in case or bool(dim and not (dim.isalpha() and dim.isascii()))


@pytest.mark.parametrize("case", [*filter(_is_worth_compiling, cases()), *ALIKE], ids=str)
def test_names(case: dict[str, str], tmp_path: Path) -> None:
    check_names(case, "cpu", tmp_path)
