"""A row's bits do not depend on how many rows, columns or matrices are computed with it, nor on the threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import opdsl as od
from opdsl import ops
from opdsl.support.knobs import knobs

Array = np.ndarray[Any, Any]
ROWS = (1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 33, 64, 65, 127, 130)
COLUMNS = (1, 3, 8, 31, 64, 130, 257)


def _random(*shape: int, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def _check_products(a: Array, b: Array, target: str) -> None:
    whole = ops.matmul(a, b, target=target)
    for m in ROWS:
        found = ops.matmul(a[:m], b, target=target)
        np.testing.assert_array_equal(found.view(np.uint8), whole[:m].view(np.uint8), err_msg=f"{m} rows")
    for n in COLUMNS:
        for m in (1, 5, 40):
            found = np.ascontiguousarray(ops.matmul(a[:m], b[:, :n], target=target))
            wanted = np.ascontiguousarray(whole[:m, :n])
            np.testing.assert_array_equal(found.view(np.uint8), wanted.view(np.uint8), err_msg=f"{m} x {n}")
    for m in (1, 7, 20, 60):
        stack = ops.matmul(np.stack([a[:m], a[m : 2 * m]]), np.stack([b, b]), target=target)
        np.testing.assert_array_equal(stack[0].view(np.uint8), whole[:m].view(np.uint8), err_msg=f"a stack of {m} rows")


@pytest.mark.parametrize("k", [1, 7, 64, 300, 513, 1100])
@pytest.mark.parametrize("by_columns", [False, True])
@pytest.mark.parametrize("target", ["cpu:avx2", "cpu:baseline"])
def test_products(target: str, by_columns: bool, k: int) -> None:
    """`by_columns`: b's columns are contiguous, as those of a transposed weight."""
    a, b = _random(130, k), _random(k, 300)
    _check_products(a, np.asfortranarray(b) if by_columns else b, target)


@pytest.mark.parametrize("by_columns", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_products_of_other_dtypes(dtype: Any, by_columns: bool) -> None:
    a, b = _random(130, 700, dtype=dtype), _random(700, 300, dtype=dtype)
    _check_products(a, np.asfortranarray(b) if by_columns else b, "cpu:avx2")


def test_accumulated_by_a_kernel() -> None:
    """Few rows, several steps of k that add to the same tile: the chain of each step begins at zero."""

    @od.kernel
    def product(
        a: od.Tensor["f32", "M", "K"],
        b: od.Tensor["f32", "K", "N"],
        c: od.Tensor["f32", "M", "N"],
        *,
        BM: od.constexpr,
        BK: od.constexpr = 100,
        BN: od.constexpr = 64,
    ):
        for m, n in od.parallel(range(0, a.shape[0], BM), range(0, b.shape[1], BN)):
            acc = od.zeros((BM, BN), od.f32)
            for k in range(0, a.shape[1], BK):
                acc += od.dot(od.copy_in(a[m : m + BM, k : k + BK]), od.copy_in(b[k : k + BK, n : n + BN]))
            od.copy_out(acc, c[m : m + BM, n : n + BN])

    for order in ("C", "F"):
        a, b = _random(40, 730), np.asarray(_random(730, 90), order=order)
        results = []
        for rows in (1, 3, 8, 16, 40):
            c = np.full((40, 90), np.nan, np.float32)
            product(a, b, c, BM=rows)
            results.append(c)
        for c in results[1:]:
            np.testing.assert_array_equal(c, results[0])


ROW_OPERATORS: dict[str, Callable[[Array], Array]] = {
    "softmax": lambda x: ops.softmax(x),
    "log_softmax": lambda x: ops.log_softmax(x),
    "logsumexp": lambda x: ops.logsumexp(x, -1),
    "layer_norm": lambda x: ops.layer_norm(x, x.shape[-1:]),
    "rms_norm": lambda x: ops.rms_norm(x, x.shape[-1:]),
    "sum": lambda x: ops.sum(x, -1),
    "mean": lambda x: ops.mean(x, -1),
    "var": lambda x: ops.var(x, -1),
}


@pytest.mark.parametrize("n", [1, 33, 1000, 5003])
@pytest.mark.parametrize("name", ROW_OPERATORS)
def test_rows(name: str, n: int) -> None:
    operator = ROW_OPERATORS[name]
    x = _random(70, n)
    whole = operator(x)
    for m in (1, 2, 3, 7, 16, 33):
        np.testing.assert_array_equal(operator(x[:m]), whole[:m], err_msg=f"{m} rows")
        np.testing.assert_array_equal(operator(x[m : 2 * m]), whole[m : 2 * m], err_msg=f"rows from {m}")


def test_threads() -> None:
    a, b = _random(40, 700), _random(700, 2100)
    before = od.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            od.set_num_threads(threads)
            results.append([ops.matmul(a[:m], b) for m in (1, 6, 40)])
    finally:
        od.set_num_threads(before)
    for others in results[1:]:
        for found, wanted in zip(others, results[0], strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_the_knob_allows_another_order() -> None:
    """With few rows and b by columns, vectors lie along k: other bits, the same accuracy."""
    a, b = _random(1, 1000), np.asfortranarray(_random(1000, 300))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    ordered = ops.matmul(a, b, target="cpu:avx2")
    with knobs.scope(batch_invariant=False):
        fast = ops.matmul(a, b, target="cpu:avx2")
    assert not np.array_equal(ordered, fast)
    for found in (ordered, fast):
        assert np.abs(found - exact).max() < 1e-4
