"""z = x + y: the smallest kernel. Blocks of the vectors are copied in, added, and copied out, in parallel.

    python vector_add.py
    opdsl run vector_add.py --dtype f32 --dim N=1000000
"""

import numpy as np

import opdsl as od


@od.kernel
def vector_add(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], z: od.Tensor["T", "N"], *, BLOCK: od.constexpr = 2048):
    """z = x + y, element by element."""
    (N,) = x.shape
    for start in od.parallel(range(0, N, BLOCK)):
        left = od.copy_in(x[start : start + BLOCK])
        right = od.copy_in(y[start : start + BLOCK])
        od.copy_out(left + right, z[start : start + BLOCK])  # what sticks out beyond N is dropped


def reference(x, y):
    return x + y


def main() -> None:
    random = np.random.default_rng(0)
    for dtype in (np.float32, np.float64, np.int32):
        x, y = ((100 * random.standard_normal(100_003)).astype(dtype) for _ in range(2))
        z = np.empty_like(x)
        vector_add(x, y, z)
        np.testing.assert_array_equal(z, reference(x, y))
        vector_add(x[::-1], y, z)  # any strides
        np.testing.assert_array_equal(z, reference(x[::-1], y))
    print("vector_add: equal to NumPy")


if __name__ == "__main__":
    main()
