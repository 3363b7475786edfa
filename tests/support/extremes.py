"""Kernels that use a run-time scalar as an index, a slice's start or a loop's bound, and the scalars at the ends of i64."""

from __future__ import annotations

from typing import Any

import numpy as np

import opdsl as od

M = 2**63
STARTS = (
    *(0, 1, -1, -5, 20, 31, 32, M - 1, M - 2, M - 4, M - 12, -M, -M + 1, -M + 3, 2**62, -(2**62), 2**61, 2**60, 2**32),
    *(-(2**32), 2**31, -(2**31), 2**60 + 1, 2**61 - 1),
)
# The last two span more than an i64 holds: only interp and cpu take them.
RANGES = (
    *((0, 5, 0), (5, 0, 0), (0, 5, 2), (5, 0, -2), (0, 5, -1), (M - 10, M - 1, 4), (-M + 10, -M, -4), (-M, -M + 7, 3)),
    *((-M, M - 1, 2**62), (M - 1, -M, -(2**62))),
)
LONGEST = 2


@od.kernel
def points(x: od.Tensor["f32", "N"], y: od.Tensor["f32", "N"], a: od.i64):
    od.copy_out(od.copy_in(x[a], pad=-1.0), y[0])
    od.copy_out(5.0, y[a])


@od.kernel
def strided(x: od.Tensor["f32", "N"], y: od.Tensor["f32", "N"], a: od.i64):
    t = od.copy_in(x[a : a + 12 : 3], pad=-1.0)
    od.copy_out(t, y[0:4])
    od.copy_out(t, y[a : a + 12 : 3])


@od.kernel
def gathered(x: od.Tensor["f32", "N"], y: od.Tensor["f32", "N"], a: od.i64):
    i = od.arange(4) * 2 + a
    t = od.copy_in(x[i], pad=-1.0)
    od.copy_out(t, y[0:4])
    od.copy_out(t, y[i])


@od.kernel
def scaled(x: od.Tensor["f32", "N"], y: od.Tensor["f32", "N"], a: od.i64):
    """The product may wrap, as the language says; what comes out is an index like any other."""
    b = a * 8
    t = od.copy_in(x[b : b + 4], pad=-1.0)
    od.copy_out(t, y[0:4])
    od.copy_out(t, y[b + 1 : b + 5])


@od.kernel
def of_sizes(x: od.Tensor["f32", "N"], y: od.Tensor["f32", "N"], a: od.i64):
    """A start that is never negative as far as its factors go, but wraps."""
    b = x.shape[0] * 2**57 + x.shape[0] * 2**57
    od.copy_out(od.copy_in(x[b : b + 4], pad=-1.0), y[0:4])
    od.copy_out(7.0, y[b])
    od.copy_out(od.full(4, 3.0, od.f32), y[b + a : b + a + 4])


@od.kernel
def looped(x: od.Tensor["f32", "N"], y: od.Tensor["f32", "N"], a: od.i64):
    for i in range(a, a + 3):
        od.copy_out(od.copy_in(x[i : i + 2], pad=-1.0), y[i : i + 2])


KERNELS = {k.__name__: k for k in (points, strided, gathered, scaled, of_sizes, looped)}


def check_start(name: str, target: str, starts: tuple[int, ...] = STARTS) -> None:
    """Every start gives what `interp` gives, and touches nothing beside the arrays."""
    for start in starts:
        results = []
        for each in ("interp", target):
            x, guarded = np.arange(32, dtype=np.float32) + 10, np.zeros(64, np.float32)
            KERNELS[name](x, guarded[16:48], start, target=each)
            results.append(guarded)
        np.testing.assert_array_equal(results[1], results[0], err_msg=f"start {start}")


@od.kernel
def counted(y: od.Tensor["i64", 2], a: od.i64, b: od.i64, s: od.i64):
    n, last = 0, 0
    for i in range(a, b, s):
        n += 1
        last = i
    od.copy_out(n, y[0])
    od.copy_out(last, y[1])


@od.kernel
def counted_in_parallel(y: od.Tensor["i64", 2], a: od.i64, b: od.i64, s: od.i64):
    for i in od.parallel(range(a, b, s)):
        od.copy_out(1, y[0], mode="add")
        od.copy_out(i, y[1], mode="max")


@od.kernel
def counted_inside(y: od.Tensor["i64", 2], a: od.i64, b: od.i64, s: od.i64):
    for j in od.parallel(range(1)):
        for i in od.parallel(range(a, b, s)):
            od.copy_out(1 + j, y[0], mode="add")
            od.copy_out(i, y[1], mode="max")


LOOPS: dict[str, Any] = {k.__name__: k for k in (counted, counted_in_parallel, counted_inside)}


def check_range(name: str, target: str, ranges: tuple[tuple[int, int, int], ...] = RANGES) -> None:
    """As many iterations as Python's range has, the last of them right; none for a step of 0."""
    for start, stop, step in ranges:
        wanted = range(start, stop, step) if step else range(0)
        y = np.array([0, -M if name != "counted" else 0])
        LOOPS[name](y, start, stop, step, target=target)
        last = 0 if name == "counted" else -M
        if len(wanted):
            last = wanted[-1] if name == "counted" else max(wanted[0], wanted[-1])
        assert y.tolist() == [len(wanted), last], (start, stop, step)
