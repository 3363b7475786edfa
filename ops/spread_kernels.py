"""Kernels of variances: sums of the distances from a mean that was rounded, and of their squares.

The corrected two-pass formula (Chan, Golub, LeVeque, "Algorithms for computing the sample variance", The American
Statistician 37, 1983): with d the distance from the rounded mean, the sum of squares about the true one is
sum(d * d) - sum(d) ** 2 / n. Without the second term, a mean of 1e6 costs a variance of 1 two digits in f32.
"""

from __future__ import annotations

import opdsl as od


@od.kernel
def spread_rows(
    x: od.Tensor["X", "A", "M", "N"],
    centre: od.Tensor["S", "A", "M"],
    sums: od.Tensor["S", "A", "M", "C"],
    squares: od.Tensor["S", "A", "M", "C"],
    *,
    dtype: od.constexpr,
    BM: od.constexpr,
    BN: od.constexpr,
    CHUNK: od.constexpr,
):
    """Column c of the results has the sums of the c-th chunk of each row."""
    A, M, N = x.shape
    C = sums.shape[2]
    for a, m, c in od.parallel(range(A), range(0, M, BM), range(C)):
        s = od.copy_in(centre[a, m : m + BM])[:, None]
        first, second = od.zeros((BM,), dtype), od.zeros((BM,), dtype)
        for n in od.pipelined(range(c * CHUNK, od.minimum(N, c * CHUNK + CHUNK), BN), depth=2):
            t = od.cast(od.copy_in(x[a, m : m + BM, n : n + BN]), dtype)
            d = od.where((n + od.arange(BN) < N)[None, :], t - s, 0.0)
            first += od.sum(d, axis=1)
            second += od.sum(d * d, axis=1)
        od.copy_out(first, sums[a, m : m + BM, c])
        od.copy_out(second, squares[a, m : m + BM, c])


@od.kernel
def spread_columns(
    x: od.Tensor["X", "A", "K", "N"],
    centre: od.Tensor["S", "A", "N"],
    sums: od.Tensor["S", "A", "C", "N"],
    squares: od.Tensor["S", "A", "C", "N"],
    *,
    dtype: od.constexpr,
    BK: od.constexpr,
    BN: od.constexpr,
    CHUNK: od.constexpr,
):
    """Row c of the results has the sums of the c-th chunk of each column."""
    A, K, N = x.shape
    C = sums.shape[1]
    for a, c, n in od.parallel(range(A), range(C), range(0, N, BN)):
        s = od.copy_in(centre[a, n : n + BN])[None, :]
        first, second = od.zeros((BN,), dtype), od.zeros((BN,), dtype)
        for k in od.pipelined(range(c * CHUNK, od.minimum(K, c * CHUNK + CHUNK), BK), depth=2):
            t = od.cast(od.copy_in(x[a, k : k + BK, n : n + BN]), dtype)
            d = od.where((k + od.arange(BK) < K)[:, None], t - s, 0.0)
            first += od.sum(d, axis=0)
            second += od.sum(d * d, axis=0)
        od.copy_out(first, sums[a, c, n : n + BN])
        od.copy_out(second, squares[a, c, n : n + BN])


@od.kernel
def variance(
    sums: od.Tensor["S", "N"],
    squares: od.Tensor["S", "N"],
    out: od.Tensor["Z", "N"],
    count: od.f64,
    divisor: od.f64,
    *,
    root: od.constexpr,
    BLOCK: od.constexpr = 256,
):
    """The variance, or with `root` its square root, of `count` elements each."""
    for i in od.parallel(range(0, sums.shape[0], BLOCK)):
        first, second = od.copy_in(sums[i : i + BLOCK]), od.copy_in(squares[i : i + BLOCK])
        total = second - first * (first / od.cast(count, first.dtype))
        result = od.maximum(total, 0.0) / od.cast(divisor, first.dtype)
        od.copy_out(od.sqrt(result) if root else result, out[i : i + BLOCK])
