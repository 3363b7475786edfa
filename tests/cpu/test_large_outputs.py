"""Outputs so large that stores to them pass the caches, wherever they begin: all elements are written, nothing beside."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from support.targets import CPU

import opdsl as od
from opdsl import _runtime

TARGETS = [target for target in CPU if _runtime.supports_isa(target.removeprefix("cpu:"))]
LINE, GUARD = 64, 128


@od.kernel
def shifted(x: od.Tensor["T", "M", "N"], y: od.Tensor["T", "M", "N"], *, ROWS: od.constexpr, COLUMNS: od.constexpr):
    M, N = x.shape
    for m, n in od.parallel(range(0, M, ROWS), range(0, N, COLUMNS)):
        t = od.copy_in(x[m : m + ROWS, n : n + COLUMNS])
        od.copy_out(t + t, y[m : m + ROWS, n : n + COLUMNS])


@od.kernel
def both(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], z: od.Tensor["T", "N"], *, BLOCK: od.constexpr):
    N = x.shape[0]
    for n in od.parallel(range(0, N, BLOCK)):
        t = od.copy_in(x[n : n + BLOCK])
        od.copy_out(t + t, y[n : n + BLOCK])
        od.copy_out(t - t, z[n : n + BLOCK])


def placed(shape: tuple[int, ...], dtype: Any, offset: int) -> tuple[Any, Any]:
    """An array that begins `offset` bytes after a line of the cache, full of ones, and all the bytes around it."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.full(size + 2 * GUARD + LINE, 1, np.uint8)
    start = -memory.ctypes.data % LINE + GUARD + offset
    return memory[start : start + size].view(dtype).reshape(shape), (memory, start, start + size)


def untouched(around: tuple[Any, int, int]) -> bool:
    memory, start, stop = around
    return bool((memory[:start] == 1).all() and (memory[stop:] == 1).all())


def values(shape: tuple[int, ...], dtype: Any) -> Any:
    return (np.arange(int(np.prod(shape))) % 61 - 30).reshape(shape).astype(dtype)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("dtype", "offset"),
    [(np.float32, 0), (np.float32, 16), (np.float32, 60), (np.float64, 8), (ml_dtypes.bfloat16, 16),
     (ml_dtypes.bfloat16, 34), (np.int8, 63)],
)  # fmt: skip
def test_rows_of_any_length(target: str, dtype: Any, offset: int) -> None:
    for columns, tile in ((1 << 13, 512), (2111, 256), (7, 5)):
        shape = ((9 << 20) // columns // np.dtype(dtype).itemsize, columns)
        x, (y, around) = values(shape, dtype), placed(shape, dtype, offset)
        shifted(x, y, ROWS=64, COLUMNS=tile, target=target)
        np.testing.assert_array_equal(y, x + x)
        assert untouched(around)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("offsets", [(16, 16), (16, 4), (0, 20)])
def test_two_outputs_that_begin_elsewhere(target: str, offsets: tuple[int, int]) -> None:
    n = (9 << 20) // 4 + 13
    x = values((n,), np.float32)
    (y, around_y), (z, around_z) = (placed((n,), np.float32, offset) for offset in offsets)
    both(x, y, z, BLOCK=4096, target=target)
    np.testing.assert_array_equal(y, x + x)
    np.testing.assert_array_equal(z, 0 * x)
    assert untouched(around_y) and untouched(around_z)
