"""What depends on the position, on the CPU, at widths around those of its vectors."""

from __future__ import annotations

import pytest
from support.range_checks import check_wide, check_width
from support.targets import CPU, runs_here

TARGETS = [target for target in CPU if runs_here(target)]


@pytest.mark.parametrize("target", TARGETS)
def test_widths(target: str) -> None:
    for width in (1, 17, 65, 130):
        check_width(target, width)


@pytest.mark.parametrize("target", TARGETS)
def test_wide_rows(target: str) -> None:
    check_wide(target, 16321)
