"""A histogram by scatter-add: every value goes to its bin at once, atomically, so blocks may run in parallel.

    python histogram.py
"""

import numpy as np

import opdsl as od


@od.kernel
def histogram(x: od.Tensor[od.f32, "N"], counts: od.Tensor[od.i32, "BINS"], low: od.f32 = 0.0, high: od.f32 = 1.0, *,
              BLOCK: od.constexpr = 1024):  # fmt: skip
    """counts[b] += the number of values in bin b of low..high; other values, NaN too, are not counted."""
    (N,) = x.shape
    (BINS,) = counts.shape
    for start in od.parallel(range(0, N, BLOCK)):
        t = od.copy_in(x[start : start + BLOCK], pad=od.nan)
        place = od.floor((t - low) * (od.cast(BINS, od.f32) / (high - low)))
        inside = (t >= low) & (t < high)  # false for NaN, so for the padding as well
        bin = od.where(inside, od.cast(od.where(inside, place, 0.0), od.i64), -1)
        od.copy_out(od.full((BLOCK,), 1, od.i32), counts[bin], mode="add")  # an index of -1 is out of range: dropped


def main() -> None:
    x = np.random.default_rng(0).random(200_000, np.float32)
    x[:1000] += 2
    x[1000] = np.nan
    counts = np.zeros(64, np.int32)
    histogram(x, counts)
    expected, _ = np.histogram(x[np.isfinite(x)], 64, (0, 1))
    np.testing.assert_array_equal(counts, expected)
    print(f"histogram: {counts.sum()} values in {len(counts)} bins, as NumPy counts them")


if __name__ == "__main__":
    main()
