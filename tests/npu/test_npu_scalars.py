"""Scalar arguments and loop variables of every type."""

from __future__ import annotations

import pytest
from support.scalar_kinds import check_scalars, check_variables

from opdsl.ir.types import DTYPES, DType


@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d.name != "f64"], ids=str)
def test_scalars(dtype: DType) -> None:
    check_scalars(dtype, "npu:910b2")


def test_loop_variables() -> None:
    check_variables("npu:910b2")
