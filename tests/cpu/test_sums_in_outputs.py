"""Products that a kernel stores as they are may be summed up in the output itself: when, and with what in the corners."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.checks import check_bits
from support.targets import CPU, CPU_PRODUCTS

import opdsl as od
from opdsl import _runtime

TARGETS = [target for target in (*CPU, *CPU_PRODUCTS) if _runtime.supports_isa(target.removeprefix("cpu:"))]
pytestmark = pytest.mark.parametrize("target", TARGETS)


def agree(target: str, kernel: Any, inputs: list[Any], output: np.ndarray[Any, Any]) -> None:
    """The same bits as the interpreter's in an output that is a part of a larger array, and nothing changed around it."""
    found = []
    for name in (target, "interp"):
        space = np.full((output.shape[0], output.shape[1] + 5), 77, output.dtype)
        kernel(*inputs, space[:, 2:-3], target=name)
        assert (space[:, :2] == 77).all() and (space[:, -3:] == 77).all()
        found.append(space[:, 2:-3].copy())
    check_bits(*found)


def matrix(rows: int, columns: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return (np.arange(rows * columns) % 11 - 5).reshape(rows, columns).astype(dtype)


@od.kernel
def product(a: od.Tensor["T", "M", "K"], b: od.Tensor["T", "K", "N"], c: od.Tensor["S", "M", "N"]):
    M, K = a.shape
    N = b.shape[1]
    for m, n in od.parallel(range(0, M, 32), range(0, N, 48)):
        sums = od.zeros((32, 48), c.dtype)
        for k in range(0, K, 16):
            sums += od.dot(od.copy_in(a[m : m + 32, k : k + 16]), od.copy_in(b[k : k + 16, n : n + 48]))
        od.copy_out(sums, c[m : m + 32, n : n + 48])


DTYPES = [(np.float32, np.float32), (np.float64, np.float64), (np.float16, np.float32), (np.int8, np.int32)]


@pytest.mark.parametrize("dtypes", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (37, 53, 71), (64, 32, 96), (40, 0, 50), (0, 5, 5), (33, 17, 200)])
def test_product(target: str, shape: tuple[int, int, int], dtypes: tuple[Any, Any]) -> None:
    m, k, n = shape
    agree(target, product, [matrix(m, k, dtypes[0]), matrix(k, n, dtypes[0])], np.empty((m, n), dtypes[1]))


@od.kernel
def few_rows(a: od.Tensor["T", "M", "K"], b: od.Tensor["T", "K", "N"], c: od.Tensor[od.f32, "M", "N"]):
    K = a.shape[1]
    for n in od.parallel(range(0, b.shape[1], 64)):
        sums = od.zeros((8, 64), od.f32)
        for k in range(0, K, 64):
            sums += od.dot(od.copy_in(a[0:8, k : k + 64]), od.copy_in(b[k : k + 64, n : n + 64]))
        od.copy_out(sums, c[0:8, n : n + 64])


@pytest.mark.parametrize("dtype", [np.float32, np.float16, "bfloat16"])
@pytest.mark.parametrize("shape", [(8, 100, 130), (5, 64, 64), (1, 1, 1), (12, 70, 90)])
@pytest.mark.parametrize("flip", [False, True])
def test_few_rows(target: str, shape: tuple[int, int, int], dtype: Any, flip: bool) -> None:
    import ml_dtypes

    m, k, n = shape
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    b = np.asfortranarray(matrix(k, n, kind)) if flip else matrix(k, n, kind)
    agree(target, few_rows, [matrix(m, k, kind), b], np.empty((m, n), np.float32))


@od.kernel
def smaller_output(a: od.Tensor[od.f32, "M", "K"], b: od.Tensor[od.f32, "K", "N"], c: od.Tensor[od.f32, "P", "Q"]):
    for m, n in od.parallel(range(0, a.shape[0], 16), range(0, b.shape[1], 32)):
        sums = od.zeros((16, 32), od.f32)
        for k in range(0, a.shape[1], 16):
            sums += od.dot(od.copy_in(a[m : m + 16, k : k + 16]), od.copy_in(b[k : k + 16, n : n + 32]))
        od.copy_out(sums, c[m : m + 16, n : n + 32])


@pytest.mark.parametrize("shape", [(40, 60), (33, 47), (10, 90)])
def test_an_output_of_another_size(target: str, shape: tuple[int, int]) -> None:
    agree(target, smaller_output, [matrix(40, 20), matrix(20, 60)], np.empty(shape, np.float32))


@od.kernel
def used_twice(a: od.Tensor[od.f32, "M", "K"], b: od.Tensor[od.f32, "K", "N"], c: od.Tensor[od.f32, "M", "N"]):
    for m, n in od.parallel(range(0, a.shape[0], 16), range(0, b.shape[1], 32)):
        sums = od.zeros((16, 32), od.f32)
        for k in range(0, a.shape[1], 16):
            sums += od.dot(od.copy_in(a[m : m + 16, k : k + 16]), od.copy_in(b[k : k + 16, n : n + 32]))
        od.copy_out(sums, c[m : m + 16, n : n + 32])
        if n == 0:
            od.copy_out(sums * 2, c[m : m + 16, n : n + 32])


def test_a_result_that_is_used_twice(target: str) -> None:
    agree(target, used_twice, [matrix(40, 20), matrix(20, 60)], np.empty((40, 60), np.float32))


@od.kernel
def stacks(a: od.Tensor[od.f32, "B", "M", "K"], b: od.Tensor[od.f32, "K", "N"], c: od.Tensor[od.f32, "M", "N"]):
    """One of the stack, which need not exist: what is added is nothing then, and the output is all zeros."""
    for m, n in od.parallel(range(0, c.shape[0], 16), range(0, c.shape[1], 32)):
        sums = od.zeros((16, 32), od.f32)
        for k in range(0, b.shape[0], 16):
            sums += od.dot(od.copy_in(a[2, m : m + 16, k : k + 16]), od.copy_in(b[k : k + 16, n : n + 32]))
        od.copy_out(sums, c[m : m + 16, n : n + 32])


@pytest.mark.parametrize("depth", [1, 3])
def test_an_operand_that_does_not_exist(target: str, depth: int) -> None:
    a = np.stack([matrix(20, 30) + d for d in range(depth)])
    agree(target, stacks, [a, matrix(30, 40)], np.empty((20, 40), np.float32))
