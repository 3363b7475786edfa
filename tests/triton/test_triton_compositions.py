"""Functions that are written in the language, on this target."""

from __future__ import annotations

import pytest
from support.function_checks import check_composition

pytest.importorskip("triton.language")  # this folder is called triton, too

from opdsl.ir.functions import COMPOSITIONS


@pytest.mark.parametrize("target", ["triton:interpreter"])
@pytest.mark.parametrize("name", COMPOSITIONS)
def test_compositions(name: str, target: str) -> None:
    check_composition(name, target)
