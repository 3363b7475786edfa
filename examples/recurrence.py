"""A linear recurrence, h[t] = a[t] * h[t - 1] + b[t], as a scan with an operator of one's own: the heart of state-space
models. Rows run in parallel, blocks of a row one after another with the last state carried.

    python recurrence.py
"""

import numpy as np

import opdsl as od


@od.function
def then(a1, b1, a2, b2):
    """First h -> a1 h + b1, then h -> a2 h + b2: that is h -> (a1 a2) h + (a2 b1 + b2)."""
    return a1 * a2, a2 * b1 + b2


@od.kernel
def recurrence(a: od.Tensor["T", "M", "N"], b: od.Tensor["T", "M", "N"], h: od.Tensor["T", "M", "N"], *,
               BLOCK: od.constexpr = 256):  # fmt: skip
    """h[:, t] = a[:, t] * h[:, t - 1] + b[:, t], from zero."""
    M, N = a.shape
    for m in od.parallel(range(M)):
        last = od.zeros((1,), od.f32)
        for n in range(0, N, BLOCK):
            at = od.cast(od.copy_in(a[m, n : n + BLOCK], pad=1), od.f32)  # beyond the end: h stays as it is
            bt = od.cast(od.copy_in(b[m, n : n + BLOCK]), od.f32)
            product, state = od.scan((at, bt), axis=0, combine=then)
            state = state + product * last
            last = state[BLOCK - 1 : BLOCK]
            od.copy_out(state, h[m, n : n + BLOCK])


def reference(a, b):
    h = np.zeros_like(b)
    state = np.zeros(len(a), b.dtype)
    for t in range(a.shape[1]):
        state = a[:, t] * state + b[:, t]
        h[:, t] = state
    return h


def main() -> None:
    random = np.random.default_rng(0)
    a = random.uniform(0.8, 1.0, (7, 1000)).astype(np.float32)
    b = random.standard_normal((7, 1000)).astype(np.float32)
    h = np.empty_like(a)
    recurrence(a, b, h)
    exact = reference(a.astype(np.float64), b.astype(np.float64))
    np.testing.assert_allclose(h, exact, rtol=1e-4, atol=1e-4)
    print(f"recurrence: largest error {np.abs(h - exact).max():.1e}")


if __name__ == "__main__":
    main()
