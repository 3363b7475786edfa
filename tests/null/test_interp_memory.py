"""The interpreter: copy_in, copy_out, control flow, what a kernel says to its user."""

from __future__ import annotations

import itertools
import sys

import ml_dtypes
import numpy as np
import pytest
from support.kernels import HandKernel, run_kernel
from support.ops import IR_DTYPES

from opdsl.ir.builder import argument
from opdsl.ir.core import Gather, Point, Slice
from opdsl.ir.types import ScalarType, TensorType, bool_, f32, i32, i64
from opdsl.support.run_errors import KernelAssertionError


def tensor(dtype, *dims) -> TensorType:
    return TensorType(dtype, dims)


@pytest.mark.parametrize("step", [1, 2, 5])
@pytest.mark.parametrize("start", [-20, -3, -1, 0, 1, 6, 7, 30])
def test_slices_out_of_bounds(start: int, step: int) -> None:
    length, size = 4, 7
    hand = HandKernel(x=tensor(f32, "N"), y=tensor(f32, "N"), out=tensor(f32, length))
    b = hand.builder
    tile = b.copy_in(hand.x, (Slice(length, step),), [hand.index(start)], b.constant(9.0, f32))
    b.copy_out(tile, hand.out, (Slice(length),), [hand.index(0)])
    b.copy_out(b.value("neg", tile), hand.y, (Slice(length, step),), [hand.index(start)])
    x, y, out = np.arange(1, 8, dtype=np.float32), np.zeros(size, np.float32), np.zeros(length, np.float32)
    hand.run("interp", x, y, out)
    wanted = np.zeros(size, np.float32)
    for n in range(length):
        place = start + n * step
        inside = 0 <= place < size
        assert out[n] == (x[place] if inside else 9)
        if inside:
            wanted[place] = -x[place]
    np.testing.assert_array_equal(y, wanted)


def test_points_out_of_bounds_and_mixed_ranks() -> None:
    for row, column in itertools.product((-1, 0, 2, 3), (-2, 1, 3)):
        hand = HandKernel(x=tensor(f32, "M", 4, "K"), out=tensor(f32, 2, 3))
        b = hand.builder
        index = (Slice(2), Point(), Slice(3))
        places = [hand.index(row), hand.index(column), hand.index(1)]
        tile = b.copy_in(hand.x, index, places, b.constant(-1.0, f32))
        b.copy_out(tile, hand.out, (Slice(2), Slice(3)), [hand.index(0)] * 2)
        x = np.random.default_rng(0).standard_normal((3, 4, 3)).astype(np.float32)
        out = np.zeros((2, 3), np.float32)
        hand.run("interp", x, out)
        for i, k in np.ndindex(2, 3):
            inside = 0 <= row + i < 3 and 0 <= column < 4 and k + 1 < 3
            assert out[i, k] == (x[row + i, column, k + 1] if inside else -1)


def test_scalar_access() -> None:
    hand = HandKernel(x=tensor(f32, "N"), zero_d=tensor(f32))
    b = hand.builder
    inside = b.copy_in(hand.x, (Point(),), [hand.index(1)], b.constant(5.0, f32))
    outside = b.copy_in(hand.x, (Point(),), [hand.index(-1)], b.constant(5.0, f32))
    b.copy_out(b.value("add", inside, outside), hand.zero_d, (), [])
    b.copy_out(outside, hand.x, (Point(),), [hand.index(3)])
    x, zero_d = np.array([1, 2, 3], np.float32), np.zeros((), np.float32)
    hand.run("interp", x, zero_d)
    assert zero_d == 7
    assert x.tolist() == [1, 2, 3]


def test_gather() -> None:
    hand = HandKernel(x=tensor(f32, "M", "N", 3), rows=tensor(i64, 2, 3), out=tensor(f32, 2, 3, 4))
    b = hand.builder
    rows = b.copy_in(hand.rows, (Slice(2), Slice(3)), [hand.index(0)] * 2, b.constant(-1, i64))
    index = (Gather(), Gather(), Slice(4))
    tile = b.copy_in(hand.x, index, [rows, rows, hand.index(0)], b.constant(0.5, f32))
    b.copy_out(tile, hand.out, (Slice(2), Slice(3), Slice(4)), [hand.index(0)] * 3)
    x = np.random.default_rng(0).standard_normal((4, 5, 3)).astype(np.float32)
    rows_array, out = np.array([[0, 3, -1], [4, 2, 2]]), np.zeros((2, 3, 4), np.float32)
    hand.run("interp", x, rows_array, out)
    for i, j, k in np.ndindex(2, 3, 4):
        row = rows_array[i, j]
        assert out[i, j, k] == (x[row, row, k] if 0 <= row < 4 and k < 3 else 0.5)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.int8])
@pytest.mark.parametrize("mode", ["set", "add", "max", "min"])
def test_scatter_with_repeated_indices(mode: str, dtype) -> None:
    ir = IR_DTYPES[np.dtype(dtype)]
    hand = HandKernel(ids=tensor(i64, 6), values=tensor(ir, 6, 2), out=tensor(ir, "V", 2))
    b = hand.builder
    zero = hand.index(0)
    ids = b.copy_in(hand.ids, (Slice(6),), [zero], zero)
    values = b.copy_in(hand.values, (Slice(6), Slice(2)), [zero, zero], b.constant(0, ir))
    b.copy_out(values, hand.out, (Gather(), Slice(2)), [ids, zero], mode)
    ids_array = np.array([0, 2, 0, -1, 2, 3])
    values_array = np.random.default_rng(0).integers(-9, 9, (6, 2)).astype(dtype)
    out = np.full((3, 2), 2).astype(dtype)
    wanted = out.copy()
    hand.run("interp", ids_array, values_array, out)
    combine = {"set": lambda a, b: b, "add": np.add, "max": np.maximum, "min": np.minimum}[mode]
    for n, place in enumerate(ids_array):
        if 0 <= place < 3:
            wanted[place] = combine(wanted[place], values_array[n]).astype(dtype)
    np.testing.assert_array_equal(out.astype(np.float64), wanted.astype(np.float64))


@pytest.mark.parametrize("mode", ["add", "max", "min"])
def test_modes_without_gather(mode: str) -> None:
    hand = HandKernel(x=tensor(f32, "N"))
    b = hand.builder
    b.copy_out(b.broadcast(b.constant(2.0, f32), (4,)), hand.x, (Slice(4),), [hand.index(-1)], mode)
    x = np.array([1, 5, 2, 7], np.float32)
    hand.run("interp", x)
    assert x.tolist() == {"add": [3, 7, 4, 7], "max": [2, 5, 2, 7], "min": [1, 2, 2, 7]}[mode]


def test_strided_and_empty_tensors() -> None:
    hand = HandKernel(x=tensor(f32, "M", "N"), y=tensor(f32, "M", "N"))
    b = hand.builder
    tile = b.copy_in(hand.x, (Slice(3), Slice(2)), [hand.index(0)] * 2, b.constant(0.0, f32))
    b.copy_out(tile, hand.y, (Slice(3), Slice(2)), [hand.index(0)] * 2)
    kernel = hand.kernel()
    x = np.arange(24, dtype=np.float32).reshape(4, 6).T[::2, ::-1]
    y = np.zeros((12, 6), np.float32)[::4, 1:5]
    run_kernel("interp", kernel, x, y)
    np.testing.assert_array_equal(y[:, :2], x[:, :2])
    assert not y[:, 2:].any()
    run_kernel("interp", kernel, np.zeros((0, 5), np.float32), np.zeros((0, 5), np.float32))


# --- control flow ----------------------------------------------------------------------------------------------------


def test_loops_carry_values() -> None:
    hand = HandKernel(n=ScalarType(i64), out=tensor(i64, 2))
    b = hand.builder
    first, second = hand.loop(
        hand.n, [hand.index(0), hand.index(1)], lambda k, x, y: (y, b.value("add", b.value("add", x, y), k))
    )
    for place, value in enumerate((first, second)):
        b.copy_out(value, hand.out, (Point(),), [hand.index(place)])
    kernel = hand.kernel()
    for count in (0, 1, 7):
        out = np.zeros(2, np.int64)
        run_kernel("interp", kernel, count, out)
        x, y = 0, 1
        for k in range(count):
            x, y = y, x + y + k
        assert out.tolist() == [x, y]


def test_while_and_if() -> None:
    """Steps of the Collatz sequence."""
    hand = HandKernel(n=ScalarType(i64), out=tensor(i64, 1))
    b = hand.builder
    before = [argument(ScalarType(i64)), argument(ScalarType(i64))]
    within = [argument(ScalarType(i64)), argument(ScalarType(i64))]
    with b.region(before) as condition:
        condition.close([b.value("ne", before[0], hand.index(1))])
    with b.region(within) as body:
        odd = b.cast(b.value("mod", within[0], hand.index(2)), bool_)
        with b.region() as then:
            then.close([b.value("add", b.value("mul", within[0], hand.index(3)), hand.index(1))])
        with b.region() as otherwise:
            otherwise.close([b.value("floordiv", within[0], hand.index(2))])
        (following,) = b.op("if", odd, regions=[then.region, otherwise.region])
        body.close([following, b.value("add", within[1], hand.index(1))])
    _, steps = b.op("while", hand.n, hand.index(0), regions=[condition.region, body.region])
    b.copy_out(steps, hand.out, (Point(),), [hand.index(0)])
    out = np.zeros(1, np.int64)
    hand.run("interp", 27, out)
    assert out[0] == 111


def test_parallel_is_a_grid() -> None:
    hand = HandKernel(out=tensor(i64, "M", "N"))
    b = hand.builder
    with hand.parallel(b.value("dim", symbol="M"), b.value("dim", symbol="N")) as (m, n):
        value = b.value("add", b.value("mul", m, hand.index(10)), n)
        b.copy_out(value, hand.out, (Point(), Point()), [m, n])
    out = np.zeros((3, 4), np.int64)
    hand.run("interp", out)
    np.testing.assert_array_equal(out, np.arange(3)[:, None] * 10 + np.arange(4))


# --- the user --------------------------------------------------------------------------------------------------------


def test_print(capsys) -> None:
    hand = HandKernel(x=ScalarType(f32))
    b = hand.builder
    tile = b.cast(b.value("arange", length=3), i32)
    b.op("print", hand.x, tile, hand.index(4), text="x = {}, tile = {}; {} {{braces}}")
    hand.run("interp", 0.1)
    assert capsys.readouterr().out == "x = 0.1, tile = [0 1 2]; 4 {braces}\n"


def test_assert_names_the_place() -> None:
    hand = HandKernel(x=tensor(f32, 3))
    b = hand.at(7)
    tile = b.copy_in(hand.x, (Slice(3),), [hand.index(0)], b.constant(0.0, f32))
    b.op("assert", b.value("isfinite", tile), message="x is finite")
    kernel = hand.kernel()
    run_kernel("interp", kernel, np.ones(3, np.float32))
    with pytest.raises(KernelAssertionError) as caught:
        run_kernel("interp", kernel, np.array([1, np.nan, 1], np.float32))
    assert isinstance(caught.value, AssertionError)
    text = str(caught.value)
    for part in ("example.py:7:1", "x is finite", "element [1]", "line 7"):
        assert part in text


def test_breakpoint_shows_tiles(monkeypatch) -> None:
    seen = {}

    def stop() -> None:
        seen.update(sys._getframe(1).f_locals)

    monkeypatch.setattr(sys, "breakpointhook", stop)
    hand = HandKernel()
    tile = hand.builder.value("arange", length=3)
    hand.builder.op("breakpoint", tile, variables=("columns",))
    hand.run("interp")
    assert seen["columns"].tolist() == [0, 1, 2]


def test_no_numpy_warning_leaks(recwarn) -> None:
    hand = HandKernel(out=tensor(f32, 1))
    b = hand.builder
    zero = b.constant(0.0, f32)
    nan = b.value("div", zero, zero)
    b.value("cast", nan, dtype=i32)
    b.value("floordiv", hand.index(1), hand.index(0))
    b.value("mul", hand.index(2**62), hand.index(4))
    b.copy_out(b.value("exp", b.constant(1e30, f32)), hand.out, (Point(),), [hand.index(0)])
    hand.run("interp", np.zeros(1, np.float32))
    assert not recwarn.list


def test_unknown_option() -> None:
    from opdsl.targets.base import find_target

    with pytest.raises(ValueError, match="strict"):
        find_target("interp:fast")
