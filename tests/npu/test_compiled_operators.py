"""Operators of the library on emulated chips: one for each way of computing."""

from __future__ import annotations

import numpy as np
import pytest
from opdsl.ops.registry import OPERATORS
from support.operators import calls_of, check

F32 = np.dtype(np.float32)
SOME = ("gelu", "where", "sum", "argmax", "softmax", "layer_norm", "matmul", "transpose", "embedding_backward")


@pytest.mark.parametrize("target", ["npu:910b2", "npu:910a"])
@pytest.mark.parametrize("name", SOME)
def test_values(name: str, target: str) -> None:
    """Strict runs: a hazard would fail."""
    for call in calls_of(OPERATORS[name], F32, 301):
        check(OPERATORS[name], call, F32, target)
