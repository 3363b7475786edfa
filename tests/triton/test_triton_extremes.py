"""Indices and loop bounds at the ends of i64."""

from __future__ import annotations

import pytest
from support.extremes import KERNELS, LONGEST, LOOPS, RANGES, check_range, check_start
from support.integer_ends import check_ends

pytest.importorskip("triton.language")  # this folder is called triton, too


@pytest.mark.parametrize("target", ["triton:interpreter"])
@pytest.mark.parametrize("name", KERNELS)
def test_starts(name: str, target: str) -> None:
    check_start(name, target)


@pytest.mark.parametrize("target", ["triton:interpreter"])
@pytest.mark.parametrize("name", LOOPS)
def test_ranges(name: str, target: str) -> None:
    check_range(name, target, RANGES[:-LONGEST])


@pytest.mark.parametrize("target", ["triton:interpreter"])
def test_integer_ends(target: str) -> None:
    check_ends(target)
