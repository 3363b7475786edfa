"""Kernels that tests/cpu/test_build.py builds into libraries."""

import opdsl as od


@od.kernel
def scale(x: od.Tensor["T", "M", "N"], y: od.Tensor["T", "M", "N"], factor: od.f32 = 2.0, *, BN: od.constexpr = 32):
    """y = factor * x."""
    M, N = x.shape
    for m, n in od.parallel(range(M), range(0, N, BN)):
        od.copy_out(od.copy_in(x[m, n : n + BN]) * factor, y[m, n : n + BN])


@od.kernel
def row_sum(x: od.Tensor["T", "M", "N"], total: od.Tensor["T", "M"], *, N: od.constexpr):
    for m in od.parallel(range(x.shape[0])):
        od.copy_out(od.sum(od.copy_in(x[m, :])), total[m])


@od.kernel
def count(ids: od.Tensor[od.i32, "N"], counts: od.Tensor[od.i64, "V"], int: od.i64, flag: od.bool = True):
    """Adds `int` to the count of every id; the parameter has the name of a C type."""
    (N,) = ids.shape
    for n in od.parallel(range(0, N, 64)):
        at = od.copy_in(ids[n : n + 64], pad=-1)
        step = od.where(flag, int, 0)
        od.copy_out(od.full((64,), 0, od.i64) + step, counts[at], mode="add")


@od.kernel
def checked(x: od.Tensor[od.f32, "N"], y: od.Tensor[od.f32, "N"]):
    (N,) = x.shape
    od.print("{N} is", N)
    for n in range(0, N, 4):
        t = od.copy_in(x[n : n + 4])
        od.assert_(t >= 0.0, "no element is below zero")
        od.print("from", n, "on:", t)
        od.copy_out(od.sqrt(t), y[n : n + 4])


@od.kernel
def constant(y: od.Tensor[od.f32, 3, 2]):
    """Fixed dims, no sizes."""
    od.copy_out(od.full((3, 2), 7.0, od.f32), y[0:3, 0:2])
