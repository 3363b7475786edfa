"""Tiles whose elements depend on their position - ranges, masks, comparisons with run-time scalars - at many widths.

Instructions do so many elements at once and a tile takes several, so what depends on the position must not begin anew
with each of them: widths are all up to two vectors, some around what one instruction does, and some beyond.
"""

from __future__ import annotations

import numpy as np

import opdsl as od

WIDTHS = (*range(1, 131), 191, 193, 255, 256, 257, 500)
WIDE = (16319, 16320, 16321, 17000, 20000)


@od.kernel
def compare(n: od.i64, y: od.Tensor[od.f32, 8, "V"], *, V: od.constexpr):
    i = od.arange(V)
    od.copy_out(od.where(i < n, 1.0, 0.0), y[0])
    od.copy_out(od.where(n <= i, 1.0, 0.0), y[1])
    od.copy_out(od.where(i == n, 1.0, 0.0), y[2])
    od.copy_out(od.where(3 * i + 5 > 2 * n, 1.0, 0.0), y[3])
    od.copy_out(od.where(n - i >= 4, 1.0, 0.0), y[4])
    od.copy_out(od.where((i >= n - 2) & (i != n), 1.0, 0.0), y[5])
    od.copy_out(od.cast(i, od.f32), y[6])
    od.copy_out(od.cast(i * 2 - n, od.f32), y[7])


@od.kernel
def below(n: od.i64, y: od.Tensor[od.f32, "V"], *, V: od.constexpr):
    od.copy_out(od.where(od.arange(V) < n, 1.0, 0.0), y)


@od.kernel
def triangle(
    n: od.i64, x: od.Tensor[od.f32, "M", "V"], y: od.Tensor[od.f32, "M", "V"], *, M: od.constexpr, V: od.constexpr
):
    """The mask of causal attention: whole rows and columns compared with each other."""
    row, column = od.arange(M)[:, None], od.arange(V)[None, :]
    od.copy_out(od.where(column <= row + n, od.copy_in(x), -1.0), y)


@od.kernel
def masked_mean(n: od.i64, x: od.Tensor[od.f32, "V"], y: od.Tensor[od.f32, 1], *, V: od.constexpr):
    total = od.sum(od.where(od.arange(V) < n, od.copy_in(x), 0.0))
    od.copy_out(total, y[0])


@od.kernel
def one_hot(label: od.Tensor[od.i64, "M"], y: od.Tensor[od.f32, "M", "V"], *, M: od.constexpr, V: od.constexpr):
    """The gradient of cross entropy, less the probabilities."""
    od.copy_out(od.where(od.arange(V)[None, :] == od.copy_in(label)[:, None], 1.0, 0.0), y)


def check_comparisons(target: str, width: int) -> None:
    i = np.arange(width)
    for n in {0, 1, width // 2, width - 1, width, width + 7, -3}:
        y = np.full((8, width), np.nan, np.float32)
        compare(n, y, target=target)
        wanted = [i < n, n <= i, i == n, 3 * i + 5 > 2 * n, n - i >= 4, (i >= n - 2) & (i != n), i, i * 2 - n]
        np.testing.assert_array_equal(y, np.array([np.asarray(row, np.float32) for row in wanted]), f"{width=} {n=}")


def check_wide(target: str, width: int) -> None:
    """One row that takes more than one instruction, whatever its repeats."""
    for n in (10, 64, width // 2, width - 1, width):
        y = np.full(width, np.nan, np.float32)
        below(n, y, target=target)
        np.testing.assert_array_equal(y, np.arange(width) < n, f"{width=} {n=}")


def check_triangle(target: str, rows: int, width: int) -> None:
    x = np.arange(rows * width, dtype=np.float32).reshape(rows, width)
    for n in (0, -2, 3):
        y = np.full_like(x, np.nan)
        triangle(n, x, y, target=target)
        mask = np.arange(width)[None, :] <= np.arange(rows)[:, None] + n
        np.testing.assert_array_equal(y, np.where(mask, x, -1), f"{rows=} {width=} {n=}")


def check_width(target: str, width: int) -> None:
    check_comparisons(target, width)
    check_triangle(target, 3 + width % 4, width)
    check_sums(target, width)


def check_sums(target: str, width: int) -> None:
    x = (np.arange(width) % 5).astype(np.float32)
    for n in (0, width // 3, width):
        y = np.full(1, np.nan, np.float32)
        masked_mean(n, x, y, target=target)
        assert y[0] == x[:n].sum(), f"{width=} {n=}"
    label = np.array([0, width - 1, width // 2, width + 3])
    y = np.full((4, width), np.nan, np.float32)
    one_hot(label, y, target=target)
    np.testing.assert_array_equal(y, label[:, None] == np.arange(width)[None, :], f"{width=}")
