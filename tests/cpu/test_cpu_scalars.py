"""Scalar arguments and loop variables of every type."""

from __future__ import annotations

import pytest
from support.scalar_kinds import check_scalars, check_variables

from opdsl.ir.types import DTYPES, DType


@pytest.mark.parametrize("dtype", list(DTYPES.values()), ids=str)
def test_scalars(dtype: DType) -> None:
    check_scalars(dtype, "cpu")


def test_loop_variables() -> None:
    check_variables("cpu")
