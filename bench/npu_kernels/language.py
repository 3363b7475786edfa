"""Operators of published measurements as kernels of the language."""

import opdsl as od


@od.kernel
def add(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], z: od.Tensor["T", "N"], *, B: od.constexpr):
    for i in od.parallel(range(0, x.shape[0], B)):
        od.copy_out(od.copy_in(x[i : i + B]) + od.copy_in(y[i : i + B]), z[i : i + B])


@od.kernel
def maximum(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], z: od.Tensor["T", "N"], *, B: od.constexpr):
    for i in od.parallel(range(0, x.shape[0], B)):
        od.copy_out(od.maximum(od.copy_in(x[i : i + B]), od.copy_in(y[i : i + B])), z[i : i + B])


@od.kernel
def sigmoid(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], *, B: od.constexpr):
    for i in od.parallel(range(0, x.shape[0], B)):
        od.copy_out(1.0 / (1.0 + od.exp(-od.cast(od.copy_in(x[i : i + B]), od.f32))), y[i : i + B])


@od.kernel
def gelu(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], *, B: od.constexpr):
    for i in od.parallel(range(0, x.shape[0], B)):
        t = od.cast(od.copy_in(x[i : i + B]), od.f32)
        od.copy_out(t / (1.0 + od.exp(-1.5957691 * (t + 0.044715 * t * t * t))), y[i : i + B])


@od.kernel
def softmax(x: od.Tensor["T", "M", "N"], y: od.Tensor["T", "M", "N"], *, N: od.constexpr, B: od.constexpr):
    for m in od.parallel(range(0, x.shape[0], B)):
        t = od.cast(od.copy_in(x[m : m + B, :]), od.f32)
        t = od.exp(t - od.max(t, axis=1, keepdims=True))
        od.copy_out(t / od.sum(t, axis=1, keepdims=True), y[m : m + B, :])


@od.kernel
def product(
    a: od.Tensor[od.f16, "M", "K"],
    b: od.Tensor[od.f16, "K", "N"],
    c: od.Tensor[od.f16, "M", "N"],
    *,
    BM: od.constexpr,
    BN: od.constexpr,
    BK: od.constexpr,
):
    for m, n in od.parallel(range(0, a.shape[0], BM), range(0, b.shape[1], BN)):
        acc = od.zeros((BM, BN), od.f32)
        for k in od.pipelined(range(0, a.shape[1], BK), depth=2):
            acc += od.dot(od.copy_in(a[m : m + BM, k : k + BK]), od.copy_in(b[k : k + BK, n : n + BN]))
        od.copy_out(acc, c[m : m + BM, n : n + BN])
