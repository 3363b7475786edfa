"""Variances and norms of data far from 0: the rounding of the mean costs nothing."""

from __future__ import annotations

import numpy as np
import pytest

from opdsl import ops


@pytest.mark.parametrize("target", ["cpu", "interp", "npu:910b2"])
@pytest.mark.parametrize("mean", [0.0, 1e3, 1e6, -3e6])
def test_var_and_std(mean: float, target: str) -> None:
    shapes = [(6, 1000), (6, 5003), (3, 70001)] if target == "cpu" else [(3, 300)]
    for shape in shapes:
        x = (np.random.default_rng(0).standard_normal(shape) + mean).astype(np.float32)
        exact = x.astype(np.float64)
        for axis in (1, 0, None):
            np.testing.assert_allclose(ops.var(x, axis, target=target), exact.var(axis), rtol=1e-5)
            found = ops.std(x, axis, correction=1, keepdims=True, target=target)
            np.testing.assert_allclose(found, exact.std(axis, ddof=1, keepdims=True), rtol=1e-5)


def test_nothing_and_all_alike() -> None:
    x = np.full((4, 100), 123456.78, np.float32)
    assert (ops.var(x, 1) == 0).all()
    x[1, 5], x[2, 5] = np.nan, np.inf
    assert np.isnan(ops.var(x, 1)).tolist() == [False, True, True, False]
    assert np.isnan(ops.var(np.ones((3, 1), np.float32), 1, correction=1)).all()


@pytest.mark.parametrize("n", [300, 5003, 200_000])
@pytest.mark.parametrize("mean", [0.0, 1e6])
def test_layer_norm(mean: float, n: int) -> None:
    """In one tile, and in pieces."""
    x = (np.random.default_rng(1).standard_normal((3, n)) + mean).astype(np.float32)
    exact = x.astype(np.float64)
    wanted = (exact - exact.mean(1, keepdims=True)) / np.sqrt(exact.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(ops.layer_norm(x, (n,)), wanted, atol=3e-5)
