"""The kernels of all elementwise operators: one function of one, two or three operands, on arrays of 1, 2 or 4 dims.

`full` says for each operand which of its last dims vary; along the others it has one value (its stride there is 0).
Narrow floats are computed in f32 and rounded once. `turned` goes down the columns first: along the rows of an operand
that is stored the other way round.
"""

from __future__ import annotations

import opdsl as od

NARROW = (od.f16, od.bf16, od.f8e4m3, od.f8e5m2)


@od.function
def widened(t):
    return od.cast(t, od.f32) if t.dtype in NARROW else t


@od.function
def run_of(x, i, full, BLOCK):
    return widened(od.copy_in(x[i : i + BLOCK] if full[0] else x[0]))


@od.function
def part_of(x, m, n, full, BM, BN):
    if full[0]:
        return widened(od.copy_in(x[m : m + BM, n : n + BN] if full[1] else x[m : m + BM, 0:1]))
    return widened(od.copy_in(x[0:1, n : n + BN] if full[1] else x[0, 0]))


@od.function
def block_of(x, a, b, m, n, full, BM, BN):
    if full[0]:
        return widened(od.copy_in(x[a, b, m : m + BM, n : n + BN] if full[1] else x[a, b, m : m + BM, 0:1]))
    return widened(od.copy_in(x[a, b, 0:1, n : n + BN] if full[1] else x[a, b, 0, 0]))


@od.kernel
def flat1(
    x: od.Tensor["X", "N"], out: od.Tensor["Z", "N"], *, function: od.constexpr, full: od.constexpr, BLOCK: od.constexpr
):
    (N,) = out.shape
    for i in od.parallel(range(0, N, BLOCK)):
        od.copy_out(function(run_of(x, i, full[0], BLOCK)), out[i : i + BLOCK])


@od.kernel
def flat2(
    x: od.Tensor["X", "N"],
    y: od.Tensor["Y", "N"],
    out: od.Tensor["Z", "N"],
    *,
    function: od.constexpr,
    full: od.constexpr,
    BLOCK: od.constexpr,
):
    (N,) = out.shape
    for i in od.parallel(range(0, N, BLOCK)):
        a = run_of(x, i, full[0], BLOCK)
        b = run_of(y, i, full[1], BLOCK)
        od.copy_out(function(a, b), out[i : i + BLOCK])


@od.kernel
def flat3(
    w: od.Tensor["W", "N"],
    x: od.Tensor["X", "N"],
    y: od.Tensor["Y", "N"],
    out: od.Tensor["Z", "N"],
    *,
    function: od.constexpr,
    full: od.constexpr,
    BLOCK: od.constexpr,
):
    (N,) = out.shape
    for i in od.parallel(range(0, N, BLOCK)):
        a = run_of(w, i, full[0], BLOCK)
        b = run_of(x, i, full[1], BLOCK)
        c = run_of(y, i, full[2], BLOCK)
        od.copy_out(function(a, b, c), out[i : i + BLOCK])


@od.kernel
def grid1(
    x: od.Tensor["X", "M", "N"],
    out: od.Tensor["Z", "M", "N"],
    *,
    function: od.constexpr,
    full: od.constexpr,
    turned: od.constexpr,
    BM: od.constexpr,
    BN: od.constexpr,
):
    M, N = out.shape
    for i, j in od.parallel(
        range(0, N if turned else M, BN if turned else BM), range(0, M if turned else N, BM if turned else BN)
    ):
        m, n = (j, i) if turned else (i, j)
        od.copy_out(function(part_of(x, m, n, full[0], BM, BN)), out[m : m + BM, n : n + BN])


@od.kernel
def grid2(
    x: od.Tensor["X", "M", "N"],
    y: od.Tensor["Y", "M", "N"],
    out: od.Tensor["Z", "M", "N"],
    *,
    function: od.constexpr,
    full: od.constexpr,
    turned: od.constexpr,
    BM: od.constexpr,
    BN: od.constexpr,
):
    M, N = out.shape
    for i, j in od.parallel(
        range(0, N if turned else M, BN if turned else BM), range(0, M if turned else N, BM if turned else BN)
    ):
        m, n = (j, i) if turned else (i, j)
        a = part_of(x, m, n, full[0], BM, BN)
        b = part_of(y, m, n, full[1], BM, BN)
        od.copy_out(function(a, b), out[m : m + BM, n : n + BN])


@od.kernel
def grid3(
    w: od.Tensor["W", "M", "N"],
    x: od.Tensor["X", "M", "N"],
    y: od.Tensor["Y", "M", "N"],
    out: od.Tensor["Z", "M", "N"],
    *,
    function: od.constexpr,
    full: od.constexpr,
    turned: od.constexpr,
    BM: od.constexpr,
    BN: od.constexpr,
):
    M, N = out.shape
    for i, j in od.parallel(
        range(0, N if turned else M, BN if turned else BM), range(0, M if turned else N, BM if turned else BN)
    ):
        m, n = (j, i) if turned else (i, j)
        a = part_of(w, m, n, full[0], BM, BN)
        b = part_of(x, m, n, full[1], BM, BN)
        c = part_of(y, m, n, full[2], BM, BN)
        od.copy_out(function(a, b, c), out[m : m + BM, n : n + BN])


@od.kernel
def blocks1(
    x: od.Tensor["X", "A", "B", "M", "N"],
    out: od.Tensor["Z", "A", "B", "M", "N"],
    *,
    function: od.constexpr,
    full: od.constexpr,
    BM: od.constexpr,
    BN: od.constexpr,
):
    A, B, M, N = out.shape
    for a, b, m, n in od.parallel(range(A), range(B), range(0, M, BM), range(0, N, BN)):
        od.copy_out(function(block_of(x, a, b, m, n, full[0], BM, BN)), out[a, b, m : m + BM, n : n + BN])


@od.kernel
def blocks2(
    x: od.Tensor["X", "A", "B", "M", "N"],
    y: od.Tensor["Y", "A", "B", "M", "N"],
    out: od.Tensor["Z", "A", "B", "M", "N"],
    *,
    function: od.constexpr,
    full: od.constexpr,
    BM: od.constexpr,
    BN: od.constexpr,
):
    A, B, M, N = out.shape
    for a, b, m, n in od.parallel(range(A), range(B), range(0, M, BM), range(0, N, BN)):
        p = block_of(x, a, b, m, n, full[0], BM, BN)
        q = block_of(y, a, b, m, n, full[1], BM, BN)
        od.copy_out(function(p, q), out[a, b, m : m + BM, n : n + BN])


@od.kernel
def blocks3(
    w: od.Tensor["W", "A", "B", "M", "N"],
    x: od.Tensor["X", "A", "B", "M", "N"],
    y: od.Tensor["Y", "A", "B", "M", "N"],
    out: od.Tensor["Z", "A", "B", "M", "N"],
    *,
    function: od.constexpr,
    full: od.constexpr,
    BM: od.constexpr,
    BN: od.constexpr,
):
    A, B, M, N = out.shape
    for a, b, m, n in od.parallel(range(A), range(B), range(0, M, BM), range(0, N, BN)):
        p = block_of(w, a, b, m, n, full[0], BM, BN)
        q = block_of(x, a, b, m, n, full[1], BM, BN)
        r = block_of(y, a, b, m, n, full[2], BM, BN)
        od.copy_out(function(p, q, r), out[a, b, m : m + BM, n : n + BN])


FLAT = {1: flat1, 2: flat2, 3: flat3}
GRID = {1: grid1, 2: grid2, 3: grid3}
BLOCKS = {1: blocks1, 2: blocks2, 3: blocks3}
