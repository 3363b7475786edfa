"""One step of the heat equation, a five-point stencil. Slices may stick out of the array: they read `pad` there, which
makes the boundary without a special case. The five slices overlap; nothing is read from memory five times.

    python stencil.py
    opdsl inspect stencil.py --dtype f32 --stage c++
"""

import numpy as np

import opdsl as od


@od.kernel
def heat_step(u: od.Tensor["T", "H", "W"], v: od.Tensor["T", "H", "W"], alpha: od.f32 = 0.1, *,
              BH: od.constexpr = 8, BW: od.constexpr = 512):  # fmt: skip
    """v = u + alpha * (the sum of the four neighbours - 4 u), with zeros around."""
    H, W = u.shape
    for i, j in od.parallel(range(0, H, BH), range(0, W, BW)):
        centre = od.copy_in(u[i : i + BH, j : j + BW])
        up = od.copy_in(u[i - 1 : i - 1 + BH, j : j + BW])
        down = od.copy_in(u[i + 1 : i + 1 + BH, j : j + BW])
        left = od.copy_in(u[i : i + BH, j - 1 : j - 1 + BW])
        right = od.copy_in(u[i : i + BH, j + 1 : j + 1 + BW])
        around = (up + down) + (left + right)
        od.copy_out(centre + alpha * (around - 4.0 * centre), v[i : i + BH, j : j + BW])


def reference(u, alpha):
    p = np.pad(u, 1)
    around = (p[:-2, 1:-1] + p[2:, 1:-1]) + (p[1:-1, :-2] + p[1:-1, 2:])
    return u + alpha * (around - 4 * u)


def main() -> None:
    u = np.zeros((201, 301), np.float32)
    u[100, 150] = 1000
    v = np.empty_like(u)
    exact = u.astype(np.float64)
    for _ in range(50):
        heat_step(u, v)
        exact = reference(exact, float(np.float32(0.1)))
        u, v = v, u
    np.testing.assert_allclose(u, exact, rtol=1e-4, atol=1e-4)
    print(f"heat_step: 50 steps, largest error {np.abs(u - exact).max():.1e} of {exact.max():.1f}")


if __name__ == "__main__":
    main()
