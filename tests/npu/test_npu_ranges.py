"""What depends on the position, on emulated chips, at every width up to two vectors and beyond one instruction."""

from __future__ import annotations

import pytest
from support.range_checks import WIDE, WIDTHS, check_wide, check_width

TARGETS = ["npu:910b2", "npu:910a"]
GROUPS = [WIDTHS[first : first + 17] for first in range(0, len(WIDTHS), 17)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("widths", GROUPS, ids=lambda widths: f"{widths[0]}-{widths[-1]}")
def test_widths(target: str, widths: tuple[int, ...]) -> None:
    for width in widths:
        check_width(target, width)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("width", WIDE)
def test_wide_rows(target: str, width: int) -> None:
    check_wide(target, width)
