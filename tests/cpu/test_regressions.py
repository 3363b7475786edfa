"""Kernels that the fuzzer found the CPU target to get wrong, made small. Each must agree with the interpreter."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from fuzz.pages import Pages
from support.checks import check_bits
from support.targets import CPU

import opdsl as od
from opdsl import _runtime

TARGETS = [target for target in CPU if _runtime.supports_isa(target.removeprefix("cpu:"))]
pytestmark = pytest.mark.parametrize("target", TARGETS)


def agree(target: str, kernel: Any, *arguments: Any) -> None:
    """The kernel leaves the same in all its arguments on the target and on the interpreter."""

    def run(name: str) -> list[Any]:
        copies = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
        kernel(*copies, target=name)
        return copies

    for found, expected in zip(run(target), run("interp"), strict=True):
        if isinstance(found, np.ndarray):
            check_bits(found, expected)


def numbers(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return (np.arange(int(np.prod(shape))) % 23 - 7).reshape(shape).astype(dtype)


@od.kernel
def counts_down(x: od.Tensor[od.f32, "N"], y: od.Tensor[od.f32, "N"], step: od.i64):
    t = od.copy_in(x[0:8])
    for k in range(4, 0, -1):
        t = t * 2 + od.copy_in(x[k : k + 8])
    for k in range(6, 0, step):
        t = t - od.copy_in(x[k : k + 8])
    od.copy_out(t, y[0:8])


@pytest.mark.parametrize("step", [-2, 3])
def test_ranges_that_count_down(target: str, step: int) -> None:
    agree(target, counts_down, numbers(11), np.zeros(11, np.float32), step)


@od.kernel
def reversed_parts(x: od.Tensor[od.f32, "M", "N"], y: od.Tensor[od.f32, 5, 40]):
    t = od.copy_in(x[-1:4, 3:43], pad=9)
    od.copy_out(t[::-1, ::-1] + t[:, 38::-2][:, :1], y[:, :])


@pytest.mark.parametrize("shape", [(5, 43), (3, 20), (2, 1), (0, 7)])
def test_reversed_tiles_of_clipped_slices(target: str, shape: tuple[int, int]) -> None:
    agree(target, reversed_parts, numbers(*shape), np.zeros((5, 40), np.float32))


@od.kernel
def bool_extremes(x: od.Tensor[od.bool, "N"], y: od.Tensor[od.bool, "N"], z: od.Tensor[od.bool, "N"]):
    for i in od.parallel(range(0, x.shape[0], 20)):
        t = od.copy_in(x[i : i + 20])
        od.copy_out(t, y[i : i + 20], mode="max")
        od.copy_out(t, z[i + od.arange(20)], mode="min")
        od.copy_out(od.any(t), z[i], mode="max")


def test_extremes_of_bools_in_memory(target: str) -> None:
    x, y, z = (numbers(33) % n == 0 for n in (2, 3, 5))
    agree(target, bool_extremes, x, y, z)


@od.kernel
def reads_what_it_wrote(x: od.Tensor[od.f32, "N"], z: od.Tensor[od.f32, "N"]):
    od.copy_out(od.ones((1,), od.f32), z[0:1])
    od.copy_out(od.maximum(od.copy_in(z[0:1]), 0.5), z[1:2])
    first = od.copy_in(x[0:40])
    od.copy_out(first + 1, z[5:45])
    second = od.copy_in(x[5:45])
    od.copy_out(first * second, z[0:40])


@pytest.mark.parametrize("in_place", [False, True])
def test_reads_after_writes_of_the_same_memory(target: str, in_place: bool) -> None:
    def run(name: str) -> np.ndarray[Any, Any]:
        z = numbers(50)
        reads_what_it_wrote(z if in_place else numbers(50), z, target=name)
        return z

    check_bits(run(target), run("interp"))


@od.kernel
def carried_in_other_places(x: od.Tensor[od.f32, "N"], y: od.Tensor[od.f32, "N"]):
    c = od.copy_in(x[0:40])
    square = od.reshape(od.copy_in(x[0:36]), (6, 6))
    for _ in range(3):
        c = c[::-1] + c[0:1] * 2
        square = square.T - 1
    od.copy_out(c, y[0:40])
    od.copy_out(od.reshape(square, (36,)), y[40:76])


def test_carried_tiles_computed_from_their_other_elements(target: str) -> None:
    agree(target, carried_in_other_places, numbers(80), np.zeros(80, np.float32))


@od.kernel
def used_before_yielded(x: od.Tensor[od.f32, "N"], y: od.Tensor[od.f32, "N"], z: od.Tensor[od.f64, "N"], n: od.i64):
    c = od.copy_in(x[0:40])
    for k in range(3):
        t = c * 2 + 1
        od.copy_out(t + c, x[k * 40 + 40:k * 40 + 80])
        od.copy_out(t[::-1], y[k * 40:k * 40 + 40])
        c = t
    wide = od.zeros((40,), od.f64)
    if n > 2:
        c = od.floor(c / 3)
        wide = od.cast(c, od.f64)
    od.copy_out(wide, z[0:40])


@pytest.mark.parametrize("n", [0, 3])
def test_values_read_before_they_are_yielded(target: str, n: int) -> None:
    agree(target, used_before_yielded, numbers(170), numbers(170), numbers(170, dtype=np.float64), n)


@od.kernel
def padded_product(a: od.Tensor[od.f16, "M", "K"], b: od.Tensor[od.f16, "K", "N"], c: od.Tensor[od.f32, 9, 20]):
    left = od.copy_in(a[-2:7, 0:33], pad=1)
    right = od.copy_in(b[0:33, 3:23], pad=-2)
    od.copy_out(od.dot(left, right), c[:, :])


def test_products_of_padded_tiles(target: str) -> None:
    a, b = numbers(5, 17, dtype=np.float16), numbers(17, 21, dtype=np.float16)
    agree(target, padded_product, a, b, np.zeros((9, 20), np.float32))


@od.kernel
def gathered_to_the_end(x: od.Tensor[od.u32, "N"], ids: od.Tensor[od.i64, "M"], y: od.Tensor[od.u32, "M"]):
    t = od.copy_in(x[od.copy_in(ids[0:8])])
    od.copy_out(t, y[1:9])


def test_stores_of_parts_of_gathers_stay_in_bounds(target: str) -> None:
    """Half of a register was stored by an instruction whose mask does not keep it from faulting."""
    pages = Pages()
    try:
        y = pages.flat(4, np.dtype(np.uint32), at_end=True)
        x, ids = np.arange(9, dtype=np.uint32), np.array([5, -1, 8, 0])
        gathered_to_the_end(x, ids, y, target=target)
        assert y.tolist() == [0, 5, 0, 8]
        del y
    finally:
        pages.free()


@od.kernel
def rounded_remainders(x: od.Tensor["T", "N"], y: od.Tensor["T", "M"]):
    for i in range(0, 65536, 4096):
        t = od.copy_in(x[i:i + 4096])
        od.copy_out(od.round(t % 1) + od.floor(t % -3), y[i:i + 4096])


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.bfloat16, np.float16])
def test_remainders_of_narrow_floats_are_rounded(target: str, dtype: Any) -> None:
    """Of opposite signs, they are no numbers of the type."""
    bits = np.uint8 if np.dtype(dtype).itemsize == 1 else np.uint16
    x = np.arange(1 << 8 * np.dtype(bits).itemsize).astype(bits).view(dtype)
    agree(target, rounded_remainders, x[np.isfinite(x)], np.zeros_like(x))


@od.kernel
def all_to_one_place(x: od.Tensor["T", "N"], y: od.Tensor["T", 4, 3], z: od.Tensor[od.i32, 6], place: od.i64):
    t = od.copy_in(x[0:37])
    there = od.full((37,), place, od.i64)
    steps, ones = od.arange(0, 37), od.full((37,), 1, od.i32)
    od.copy_out(t, y[there, there])
    od.copy_out(t, y[1, there], mode="add")
    od.copy_out(t, y[0, there], mode="max")
    od.copy_out(t, y[there, 2], mode="min")
    od.copy_out(steps, z[there], mode="set")
    od.copy_out(steps, z[there + 1], mode="add")
    od.copy_out(ones, z[there + 2], mode="add")
    od.copy_out(steps, z[there + 3], mode="max")


@pytest.mark.parametrize("place", [2, 1, 3])
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32, np.int16])
def test_scatters_to_a_single_place(target: str, dtype: Any, place: int) -> None:
    """The same index in all lanes; the last element stays, or all of them are combined."""
    agree(target, all_to_one_place, numbers(37, dtype=dtype), np.zeros((4, 3), dtype), np.zeros(6, np.int32), place)


@od.kernel
def divided_by_constants(x: od.Tensor["T", "N"], y: od.Tensor["T", "M"], tiny: od.f32):
    for i in range(0, 40, 5):
        t = od.copy_in(x[i:i + 5])
        od.copy_out(t / -3.0, y[i:i + 5])
        od.copy_out(t / 7.0, y[i + 40:i + 45])
        od.copy_out(t / tiny, y[i + 80:i + 85])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_division_by_what_a_loop_does_not_change(target: str, dtype: Any) -> None:
    """It is done by multiply-adds, which the baseline takes apart for doubles: zeros keep their sign, and 0 / 1e-39,
    whose divisor has no finite reciprocal, is 0."""
    x = numbers(40, dtype=dtype)
    x[::3] = 0.0
    x[1::4] = -0.0
    x[5::7] = 1e-38
    agree(target, divided_by_constants, x, np.ones(120, dtype), 1e-39)


@od.kernel
def best_of_gathered(x: od.Tensor[od.f32, "M", "N"], ids: od.Tensor[od.i64, 6, 8], y: od.Tensor[od.i64, 8]):
    t = od.copy_in(x[od.copy_in(ids[0:6, 0:8]), od.arange(8)[None, :]])
    od.copy_out(od.argmax(t, axis=0), y[0:8])


def test_a_gather_whose_second_index_belongs_to_an_outer_loop(target: str) -> None:
    ids = numbers(6, 8, dtype=np.int64) + 3
    agree(target, best_of_gathered, numbers(9, 7), ids, np.zeros(8, np.int64))


@od.kernel
def added_to_products(x: od.Tensor["T", "N"], y: od.Tensor["T", "M"]):
    t = od.copy_in(x[0:20])
    od.copy_out(od.fma(od.cast(od.full((20,), 1, od.u32), x.dtype), t, t), y[0:20])
    od.copy_out(od.fma(t, -t, t), y[20:40])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fused_multiply_adds_keep_the_sign_of_zero(target: str, dtype: Any) -> None:
    """The interpreter lost it for f64."""
    x = numbers(20, dtype=dtype)
    x[::4] = -0.0
    agree(target, added_to_products, x, np.ones(40, dtype))


@od.kernel
def carried_under_another_shape(x: od.Tensor[od.f32, 5, 16], y: od.Tensor[od.f32, 5, 16], z: od.Tensor[od.f32, 80]):
    t = od.full((5, 16), 1.0, od.f32)
    for n in range(3):
        flat = od.reshape(t, (80,))
        od.copy_out(od.copy_in(x[0:5, 0:16]) + n, y[0:5, 0:16])
        od.copy_out(flat[::-1], z[0:80])
        t = od.copy_in(x[0:5, 0:16]) * n


def test_a_carried_tile_read_under_another_shape(target: str) -> None:
    agree(target, carried_under_another_shape, numbers(5, 16), np.zeros((5, 16), np.float32), np.zeros(80, np.float32))


@od.kernel
def one_constant_of_two_dtypes(x: od.Tensor["T", "N"], y: od.Tensor[od.f32, "N"], z: od.Tensor[od.f32, "N"]):
    for i in od.parallel(range(0, x.shape[0], 64)):
        t = od.copy_in(x[i:i + 64])
        od.copy_out(od.maximum(od.cast(t, od.f32), -3.0), y[i:i + 64])
        od.copy_out(od.cast(t * -3.0, od.f32), z[i:i + 64])


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_a_constant_of_two_dtypes_is_of_each_by_itself(target: str, dtype: Any) -> None:
    """The lanes of an f32 constant stood for those of an f16 one, and the product was not rounded (fuzz 201332)."""
    x = (3 * np.random.default_rng(5).standard_normal(200)).astype(dtype)
    agree(target, one_constant_of_two_dtypes, x, np.zeros(200, np.float32), np.zeros(200, np.float32))
