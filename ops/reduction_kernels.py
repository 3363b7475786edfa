"""The kernels of the reductions. Tensors are (outer, rows, columns), reduced along the rows or down the columns.

Each chunk of a long row or column is reduced by itself, so a second launch is needed for the chunks' results; what is in a
chunk depends on the shape alone, and so do the bits of the result.
"""

from __future__ import annotations

import opdsl as od


@od.function
def reduced(t, kind, axis):
    if kind == "sum":
        return od.sum(t, axis=axis)
    if kind == "prod":
        return od.prod(t, axis=axis)
    if kind == "max":
        return od.max(t, axis=axis)
    if kind == "min":
        return od.min(t, axis=axis)
    return od.any(t, axis=axis) if kind == "any" else od.all(t, axis=axis)


@od.function
def combined(a, b, kind):
    if kind == "sum":
        return a + b
    if kind == "prod":
        return a * b
    return od.maximum(a, b) if kind in ("max", "any") else od.minimum(a, b)


@od.function
def term(t, kind, dtype):
    if kind in ("any", "all"):
        return t if t.dtype == od.bool else t != 0
    return od.cast(t, dtype)


@od.kernel
def reduce_rows(
    x: od.Tensor["X", "A", "M", "N"],
    out: od.Tensor["Z", "A", "M", "C"],
    count: od.f64,
    *,
    kind: od.constexpr,
    identity: od.constexpr,
    dtype: od.constexpr,
    after: od.constexpr,
    BM: od.constexpr,
    BN: od.constexpr,
    CHUNK: od.constexpr,
):
    """Column c of the result is the reduction of the c-th chunk of each row."""
    A, M, N = x.shape
    C = out.shape[2]
    for a, m, c in od.parallel(range(A), range(0, M, BM), range(C)):
        total = od.full((BM,), identity, dtype)
        for n in od.pipelined(range(c * CHUNK, od.minimum(N, c * CHUNK + CHUNK), BN), depth=2):
            t = term(od.copy_in(x[a, m : m + BM, n : n + BN], pad=identity), kind, dtype)
            total = combined(total, reduced(t, kind, 1), kind)
        od.copy_out(after(total, count), out[a, m : m + BM, c])


@od.kernel
def reduce_columns(
    x: od.Tensor["X", "A", "K", "N"],
    out: od.Tensor["Z", "A", "C", "N"],
    count: od.f64,
    *,
    kind: od.constexpr,
    identity: od.constexpr,
    dtype: od.constexpr,
    after: od.constexpr,
    BK: od.constexpr,
    BN: od.constexpr,
    CHUNK: od.constexpr,
):
    """Row c of the result is the reduction of the c-th chunk of each column."""
    A, K, N = x.shape
    C = out.shape[1]
    for a, c, n in od.parallel(range(A), range(C), range(0, N, BN)):
        total = od.full((BN,), identity, dtype)
        for k in od.pipelined(range(c * CHUNK, od.minimum(K, c * CHUNK + CHUNK), BK), depth=2):
            t = term(od.copy_in(x[a, k : k + BK, n : n + BN], pad=identity), kind, dtype)
            total = combined(total, reduced(t, kind, 0), kind)
        od.copy_out(after(total, count), out[a, c, n : n + BN])


@od.kernel
def sum_rows_about(
    x: od.Tensor["X", "A", "M", "N"],
    centre: od.Tensor["S", "A", "M"],
    out: od.Tensor["Z", "A", "M", "C"],
    count: od.f64,
    *,
    dtype: od.constexpr,
    before: od.constexpr,
    pad: od.constexpr,
    after: od.constexpr,
    BM: od.constexpr,
    BN: od.constexpr,
    CHUNK: od.constexpr,
):
    """Sums a function of the elements and of one number for each row."""
    A, M, N = x.shape
    C = out.shape[2]
    for a, m, c in od.parallel(range(A), range(0, M, BM), range(C)):
        s = od.cast(od.copy_in(centre[a, m : m + BM]), dtype)
        total = od.zeros((BM,), dtype)
        for n in od.pipelined(range(c * CHUNK, od.minimum(N, c * CHUNK + CHUNK), BN), depth=2):
            t = od.cast(od.copy_in(x[a, m : m + BM, n : n + BN], pad=pad), dtype)
            total += od.sum(before(t, s[:, None], (n + od.arange(BN) < N)[None, :]), axis=1)
        od.copy_out(after(total, s, count), out[a, m : m + BM, c])


@od.kernel
def sum_columns_about(
    x: od.Tensor["X", "A", "K", "N"],
    centre: od.Tensor["S", "A", "N"],
    out: od.Tensor["Z", "A", "C", "N"],
    count: od.f64,
    *,
    dtype: od.constexpr,
    before: od.constexpr,
    pad: od.constexpr,
    after: od.constexpr,
    BK: od.constexpr,
    BN: od.constexpr,
    CHUNK: od.constexpr,
):
    """Sums a function of the elements and of one number for each column."""
    A, K, N = x.shape
    C = out.shape[1]
    for a, c, n in od.parallel(range(A), range(C), range(0, N, BN)):
        s = od.cast(od.copy_in(centre[a, n : n + BN]), dtype)
        total = od.zeros((BN,), dtype)
        for k in od.pipelined(range(c * CHUNK, od.minimum(K, c * CHUNK + CHUNK), BK), depth=2):
            t = od.cast(od.copy_in(x[a, k : k + BK, n : n + BN], pad=pad), dtype)
            total += od.sum(before(t, s[None, :], (k + od.arange(BK) < K)[:, None]), axis=0)
        od.copy_out(after(total, s, count), out[a, c, n : n + BN])


@od.function
def better(top, best, kind):
    """Whether what was found later is chosen: strictly better, or the first NaN."""
    ahead = top > best if kind == "max" else top < best
    return ahead | ((top != top) & (best == best))


@od.function
def first_place(t, top, place, axis):
    """The first place of `top`, or of a NaN, in each row (column)."""
    return od.min(od.where((t == top) | (t != t), place, 2147483647), axis=axis)


@od.kernel
def arg_rows(
    x: od.Tensor["X", "A", "M", "N"],
    out: od.Tensor["Z", "A", "M"],
    *,
    kind: od.constexpr,
    identity: od.constexpr,
    dtype: od.constexpr,
    BM: od.constexpr,
    BN: od.constexpr,
):
    A, M, N = x.shape
    for a, m in od.parallel(range(A), range(0, M, BM)):
        best = od.full((BM,), identity, dtype)
        place = od.zeros((BM,), od.i64)
        for n in od.pipelined(range(0, N, BN), depth=2):
            t = od.cast(od.copy_in(x[a, m : m + BM, n : n + BN], pad=identity), dtype)
            top = od.max(t, axis=1) if kind == "max" else od.min(t, axis=1)
            at = first_place(t, top[:, None], od.arange(BN, dtype=od.i32)[None, :], 1)
            ahead = better(top, best, kind)
            best = od.where(ahead, top, best)
            place = od.where(ahead, n + od.cast(at, od.i64), place)
        od.copy_out(place, out[a, m : m + BM])


@od.kernel
def arg_columns(
    x: od.Tensor["X", "A", "K", "N"],
    out: od.Tensor["Z", "A", "N"],
    *,
    kind: od.constexpr,
    identity: od.constexpr,
    dtype: od.constexpr,
    BK: od.constexpr,
    BN: od.constexpr,
):
    A, K, N = x.shape
    for a, n in od.parallel(range(A), range(0, N, BN)):
        best = od.full((BN,), identity, dtype)
        place = od.zeros((BN,), od.i64)
        for k in od.pipelined(range(0, K, BK), depth=2):
            t = od.cast(od.copy_in(x[a, k : k + BK, n : n + BN], pad=identity), dtype)
            top = od.max(t, axis=0) if kind == "max" else od.min(t, axis=0)
            at = first_place(t, top[None, :], od.arange(BK, dtype=od.i32)[:, None], 0)
            ahead = better(top, best, kind)
            best = od.where(ahead, top, best)
            place = od.where(ahead, k + od.cast(at, od.i64), place)
        od.copy_out(place, out[a, n : n + BN])


# --- what becomes of a total ---


@od.function
def total_of(total, count):
    return total


@od.function
def mean_of(total, count):
    return total / od.cast(count, total.dtype)


@od.function
def deviation_of(total, count):
    return od.sqrt(total / od.cast(count, total.dtype))


# --- functions of elements and a number for each row, and what becomes of their total ---


@od.function
def finite(s):
    """Beside an infinite maximum the others do not count: what is taken off them is 0."""
    return od.where(od.abs(s) == od.inf, 0.0, s)


@od.function
def exp_of_distance(t, s, inside):
    return od.exp(t - finite(s))


@od.function
def total_about(total, s, count):
    return total


@od.function
def log_about(total, s, count):
    return od.log(total) + finite(s)


@od.function
def itself(t, s, inside):
    return t
