"""y = gelu(x + bias): two operations in one pass over the memory. `gelu` is a helper that other kernels can call too.

    python bias_gelu.py
    opdsl profile bias_gelu.py --dtype f32 --dim M=4096 --dim N=1024
"""

import math

import numpy as np

import opdsl as od


@od.function
def gelu(t):
    """The exact one: t times the probability that a standard normal number is below t."""
    return 0.5 * t * (1.0 + od.erf(t * (1.0 / math.sqrt(2.0))))


@od.kernel
def bias_gelu(x: od.Tensor["T", "M", "N"], bias: od.Tensor["T", "N"], y: od.Tensor["T", "M", "N"], *,
              BM: od.constexpr = 4, BN: od.constexpr = 512):  # fmt: skip
    """y = gelu(x + bias), computed in f32 whatever the arrays hold."""
    M, N = x.shape
    for m, n in od.parallel(range(0, M, BM), range(0, N, BN)):
        t = od.cast(od.copy_in(x[m : m + BM, n : n + BN]), od.f32)
        b = od.cast(od.copy_in(bias[n : n + BN]), od.f32)
        od.copy_out(gelu(t + b), y[m : m + BM, n : n + BN])


def reference(x, bias):
    t = x + bias
    return 0.5 * t * (1 + np.vectorize(math.erf)(t / math.sqrt(2)))


def main() -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((100, 333)).astype(np.float32)
    bias = random.standard_normal(333).astype(np.float32)
    y = np.empty_like(x)
    bias_gelu(x, bias, y)
    exact = reference(x.astype(np.float64), bias.astype(np.float64))
    np.testing.assert_allclose(y, exact, rtol=2e-6, atol=2e-7)
    print(f"bias_gelu: largest error {np.abs(y - exact).max():.1e}")


if __name__ == "__main__":
    main()
