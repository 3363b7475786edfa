"""Operators of the library on emulated chips: one for each way of computing."""

from __future__ import annotations

import numpy as np
import pytest
from faults.mutants import examine
from faults.operators import operator_cases
from opdsl.ops.registry import OPERATORS
from support.checks import F16, F32, exact_integers, real
from support.operators import calls_of, check

from opdsl import ops

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


@pytest.mark.parametrize("target", ["npu:910b2", "npu:910a"])
@pytest.mark.parametrize("sizes", [(150, 70, 300), (1, 300, 600)])
@pytest.mark.parametrize("activation", [None, "gelu"])
def test_products_larger_than_a_tile(target: str, sizes: tuple[int, int, int], activation: str | None) -> None:
    """In tiles that an NPU's buffers hold, whatever those of a CPU are."""
    m, n, k = sizes
    a, b = exact_integers((m, k), F16), exact_integers((k, n), F16, 1)
    bias = exact_integers((n,), F16, 2)
    found = ops.matmul(a, b, bias=bias, activation=activation, target=target)
    wanted = ops.matmul(a, b, bias=bias, activation=activation, target="interp")
    np.testing.assert_allclose(found, wanted, rtol=2e-3)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "layer_norm", "rms_norm"])
def test_rows_longer_than_a_core_holds(name: str) -> None:
    x = real((2, 32000), F32)
    arguments = (x, 32000) if name.endswith("norm") else (x,)
    found, wanted = (getattr(ops, name)(*arguments, target=target) for target in ("npu:910b2", "interp"))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
