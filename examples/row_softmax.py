"""Softmax of every row. A whole row is one tile, so the kernel is compiled for the length of the rows: the constexpr N
has the name of a dim, and is bound from the shape.

    python row_softmax.py
    opdsl inspect row_softmax.py --dtype f32 --dim N=1000 --stage loops
"""

import numpy as np

import opdsl as od


@od.kernel
def row_softmax(x: od.Tensor["T", "M", "N"], y: od.Tensor["T", "M", "N"], *, N: od.constexpr):
    """y = exp(x) / sum(exp(x)) along the last axis."""
    for m in od.parallel(range(x.shape[0])):
        row = od.cast(od.copy_in(x[m, :]), od.f32)
        e = od.exp(row - od.max(row))  # no overflow: the largest exponent is 0
        od.copy_out(e / od.sum(e), y[m, :])


def reference(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def main() -> None:
    random = np.random.default_rng(0)
    for n in (1, 37, 1000):  # three compilations
        x = (5 * random.standard_normal((64, n))).astype(np.float32)
        y = np.empty_like(x)
        row_softmax(x, y)
        exact = reference(x.astype(np.float64))
        np.testing.assert_allclose(y, exact, rtol=1e-5, atol=1e-9)
    print(f"row_softmax: rows add up to 1 within {np.abs(y.sum(axis=1) - 1).max():.1e}")


if __name__ == "__main__":
    main()
