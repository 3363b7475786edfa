"""Built-ins that are composed of ops, at the ends of every integer type's range, against Python's integers."""

from __future__ import annotations

import itertools

import numpy as np

import opdsl as od

DTYPES = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)
CONSTANTS = (1, 2, 7, 64, 127)


@od.kernel
def pairs(
    a: od.Tensor["T", "N"],
    b: od.Tensor["T", "N"],
    ceilings: od.Tensor["T", "N"],
    clamped: od.Tensor["T", "N"],
    none: od.Tensor[od.bool, "N"],
    *,
    BLOCK: od.constexpr = 64,
):
    for i in od.parallel(range(0, a.shape[0], BLOCK)):
        x, y = od.copy_in(a[i : i + BLOCK]), od.copy_in(b[i : i + BLOCK])
        od.copy_out(od.cdiv(x, y), ceilings[i : i + BLOCK])
        od.copy_out(od.clamp(x, y, 100), clamped[i : i + BLOCK])
        od.copy_out(od.logical_not(x), none[i : i + BLOCK])


@od.kernel
def by_constant(a: od.Tensor["T", "N"], ceilings: od.Tensor["T", "N"], *, D: od.constexpr, BLOCK: od.constexpr = 64):
    for i in od.parallel(range(0, a.shape[0], BLOCK)):
        od.copy_out(od.cdiv(od.copy_in(a[i : i + BLOCK]), D), ceilings[i : i + BLOCK])


@od.kernel
def of_scalars(y: od.Tensor["i64", 2], a: od.i64, b: od.i64):
    od.copy_out(od.cdiv(a, b), y[0])
    od.copy_out(od.cdiv(a, 7), y[1])


def ends(dtype: type) -> list[int]:
    limits = np.iinfo(dtype)
    near = {
        limits.min,
        limits.min + 1,
        limits.max,
        limits.max - 1,
        limits.max // 2,
        limits.max // 2 + 1,
        0,
        1,
        2,
        7,
        100,
    }
    return sorted(near | ({-1, -2, -7, -100} if limits.min < 0 else set()))


def wrapped(number: int, dtype: type) -> int:
    bits = np.iinfo(dtype).bits
    number %= 1 << bits
    return number - (1 << bits) if np.iinfo(dtype).min < 0 and number >> (bits - 1) else number


def _ceiling(a: int, b: int) -> int:
    return -(-a // b) if b else 0


def check_ends(target: str) -> None:
    for dtype in DTYPES:
        columns = list(itertools.product(ends(dtype), repeat=2))
        a, b = (np.array(column, dtype) for column in zip(*columns, strict=True))
        ceilings, clamped, none = np.empty_like(a), np.empty_like(a), np.empty(a.shape, bool)
        pairs(a, b, ceilings, clamped, none, target=target)
        assert ceilings.tolist() == [wrapped(_ceiling(x, y), dtype) for x, y in columns], dtype
        assert clamped.tolist() == [min(max(x, y), 100) for x, y in columns], dtype
        assert none.tolist() == [x == 0 for x, _ in columns], dtype
        numbers = np.array(ends(dtype), dtype)
        for constant in CONSTANTS:
            found = np.empty_like(numbers)
            by_constant(numbers, found, D=constant, target=target)
            assert found.tolist() == [_ceiling(x, constant) for x in numbers.tolist()], (dtype, constant)
    for x, y in itertools.product(ends(np.int64), repeat=2):
        found = np.empty(2, np.int64)
        of_scalars(found, x, y, target=target)
        assert found.tolist() == [wrapped(_ceiling(x, y), np.int64), _ceiling(x, 7)], (x, y)
