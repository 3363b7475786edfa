"""What depends on the position, in the interpreter, at every width up to two vectors."""

from __future__ import annotations

from support.range_checks import WIDE, WIDTHS, check_wide, check_width


def test_widths() -> None:
    for width in WIDTHS:
        check_width("interp", width)


def test_wide_rows() -> None:
    for width in WIDE:
        check_wide("interp", width)
