"""A layer of a neural network, y = activation(x @ w + bias), as one kernel: the product's tiles get their bias and
activation before they leave the core. The activation is a constexpr: any @od.function.

    python linear.py
    opdsl run linear.py --dtype f32 --dim M=512 --dim K=512 --dim N=512 --set activation=relu
    opdsl build linear.py --dtype f32 --set activation=relu -o build        # a library for C and Python
"""

import numpy as np

import opdsl as od


@od.function
def identity(t):
    return t


@od.function
def relu(t):
    return od.maximum(t, 0.0)


@od.kernel
def linear(x: od.Tensor["T", "M", "K"], w: od.Tensor["T", "K", "N"], bias: od.Tensor["T", "N"],
           y: od.Tensor["T", "M", "N"], *, activation: od.constexpr = identity,
           BM: od.constexpr = 96, BN: od.constexpr = 96, BK: od.constexpr = 192):  # fmt: skip
    """y = activation(x @ w + bias): any shape and strides."""
    M, K = x.shape
    N = w.shape[1]
    for m, n in od.parallel(range(0, M, BM), range(0, N, BN)):
        total = od.zeros((BM, BN), od.f32)
        for k in od.pipelined(range(0, K, BK), depth=2):
            total += od.dot(od.copy_in(x[m : m + BM, k : k + BK]), od.copy_in(w[k : k + BK, n : n + BN]))
        total += od.cast(od.copy_in(bias[n : n + BN]), od.f32)
        od.copy_out(activation(total), y[m : m + BM, n : n + BN])


def reference(x, w, bias, activation="identity"):
    y = x @ w + bias
    return np.maximum(y, 0) if activation == "relu" else y


def main() -> None:
    random = np.random.default_rng(0)
    # Small whole numbers: every sum is exact, so the result must be equal to the bit.
    x, w, bias = (random.integers(-4, 5, s).astype(np.float32) for s in ((130, 211), (211, 97), (97,)))
    y = np.empty((130, 97), np.float32)
    for activation in (identity, relu):
        linear(x, w, bias, y, activation=activation)
        np.testing.assert_array_equal(y, reference(x, w, bias, activation.__name__))
    linear(x, np.asfortranarray(w), bias, y)  # a transposed matrix
    np.testing.assert_array_equal(y, reference(x, w, bias))
    print("linear: equal to the bit")


if __name__ == "__main__":
    main()
