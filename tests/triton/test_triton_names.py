"""Names that mean something else in Triton, Python or C, or look like generated ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.names import ROLES, cases, check_names

pytest.importorskip("triton.language")  # this folder is called triton, too


@pytest.mark.parametrize("role", [*ROLES, "several"])
def test_names(role: str, tmp_path: Path) -> None:
    for case in cases():
        if (len(case) > 1) == (role == "several") and (role in case or role == "several"):
            check_names(case, "triton:interpreter", tmp_path)
