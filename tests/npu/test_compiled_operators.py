"""Operators of the library on emulated chips: one for each way of computing."""

from __future__ import annotations

import numpy as np
import pytest
from faults.mutants import examine
from faults.operators import operator_cases
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


@pytest.mark.parametrize("name", ["gelu", "sum", "rms_norm"])
def test_whatever_is_left_out_is_noticed(name: str) -> None:
    """Each dependence, and each second slot of a buffer. All operators, and each flag by itself: `python -m tests.faults
    --operators all`."""
    for case in operator_cases([name], "npu:910b2"):
        found = examine(case, "npu:910b2", (0, 1), ("dependence", "slot"))
        assert found.counts["dependence"] >= 5
        assert not found.false_alarms
        assert not [mutant.text for mutant in (*found.missed, *found.elsewhere)]
