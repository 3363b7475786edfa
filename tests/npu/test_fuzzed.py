"""Programs that the fuzzer found to go wrong on an emulated chip, made smaller."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import opdsl as od


@od.kernel
def many_branches(
    numbers: od.Tensor[od.u16, "U"],
    counts: od.Tensor[od.i64, "C"],
    x: od.Tensor[od.i16, "N5", "N6", "N7", "N8"],
    y: od.Tensor[od.f32, "N9", "N10", 3, "N11"],
    z: od.Tensor[od.bf16, "N12", "N13", "N14", 57],
    places: od.Tensor[od.i64, "N3", "N4", "N15", 16],
    z_out: od.Tensor[od.bf16, "N3", "N4", "N16", "N17"],
    y_out: od.Tensor[od.f32, "N3", "N4", "N18", "N19"],
    start: od.i64,
    first: od.i64,
):
    for i in od.parallel(range(0, counts.shape[0], 2)):
        some = od.copy_in(numbers[(i + 1) : (i + 1) + 2], pad=3)
        od.copy_out(od.cast(some, od.i64) - 1, counts[i : i + 2])
    for i, j in od.parallel(range(0, places.shape[0], 2), range(0, places.shape[1], 17)):
        xt = od.copy_in(x[i : i + 2, (j + 1) : (j + 1) + 17, 0:3, 5:21])
        yt = od.copy_in(y[5:7, i : i + 17, :, start : start + 48 : 3])
        zt = od.copy_in(z[(j + 5) : (j + 5) + 6 : 3, 5:22, first : first + 3, j : j + 48 : 3])
        od.copy_out(od.argmax(xt, axis=2, keepdims=True), places[i : i + 2, j : j + 17, 0:1, 0:16])
        od.copy_out(zt, z_out[i : i + 2, j : j + 17, 0:3, 0:16])
        od.copy_out(yt, y_out[i : i + 2, j : j + 17, 0:3, 0:16])


def test_a_flag_is_needed_where_many_branches_go_one_way() -> None:
    """A flag was taken out because none of the runs in the mind went that way (fuzz program 300009)."""
    import ml_dtypes

    random = np.random.default_rng(0)
    numbers = random.integers(0, 99, 18).astype(np.uint16)
    x = random.integers(-99, 99, (13, 41, 10, 11)).astype(np.int16)
    y = random.standard_normal((5, 26, 3, 50)).astype(np.float32)
    z = random.standard_normal((15, 17, 10, 57)).astype(ml_dtypes.bfloat16)
    found = {}
    for target in ("interp", "npu:910b2"):
        counts = np.zeros(3, np.int64)
        outs = [np.zeros((2, 34, 1, 16), np.int64), np.zeros((2, 34, 3, 24), z.dtype), np.zeros((2, 34, 2, 17), y.dtype)]
        many_branches(numbers, counts, x, y, z, *outs, 1, 2, target=target)
        found[target] = [counts, *outs]
    for one, other in zip(found["interp"], found["npu:910b2"], strict=True):
        np.testing.assert_array_equal(one, other)


@od.kernel
def bytes_in_narrow_tiles(
    a: od.Tensor[od.i8, "K", "M"], b: od.Tensor[od.i8, "K", "N"], c: od.Tensor[od.i32, "M", "N"]
):
    K, M = a.shape
    N = b.shape[1]
    for i, j in od.parallel(range(0, M, 16), range(0, N, 48)):
        acc = od.zeros((16, 48), od.i32)
        for k in od.pipelined(range(0, K, 32), depth=2):
            acc += od.dot(od.copy_in(a[k : k + 32, i : i + 16]).T, od.copy_in(b[k : k + 32, j : j + 48]))
        od.copy_out(acc, c[i : i + 16, j : j + 48])


@pytest.mark.parametrize("target", ["npu:910b2", "npu:910a"])
def test_bytes_that_are_turned_while_loaded_take_whole_squares(target: str) -> None:
    """The second slot of a tile of 48 columns was written by the load of the first (fuzz program 310034)."""
    random = np.random.default_rng(1)
    a, b = (random.integers(-9, 9, (200, n)).astype(np.int8) for n in (40, 100))
    found = np.zeros((40, 100), np.int32)
    bytes_in_narrow_tiles(a, b, found, target=target)
    np.testing.assert_array_equal(found, a.astype(np.int32).T @ b.astype(np.int32))


@od.kernel
def carried_by_a_while(x: od.Tensor[od.f32, 3, 7], y: od.Tensor[od.f32, 3, 7], last: od.Tensor[od.f32, 2], times: od.i32):
    t = od.copy_in(x[0:3, 0:7])
    total = od.zeros((3, 7), od.f32)
    n = od.i32(0)
    while (n < times) & (od.max(total) < 100.0):
        total = (t + total) - total * 0.5
        od.copy_out(od.cast(n, od.f32), last[1])
        n = n + 1
    od.copy_out(total, y[0:3, 0:7])


@pytest.mark.parametrize("times", [0, 1, 2, 5])
@pytest.mark.parametrize("target", ["npu:910b2", "npu:910a"])
def test_iterations_of_a_while_come_in_order(target: str, times: int) -> None:
    """Nothing made one iteration wait for the one before (fuzz programs 310050, 310054)."""
    x = np.random.default_rng(2).standard_normal((3, 7)).astype(np.float32)
    found = {}
    for name in ("interp", target):
        outs = [np.zeros((3, 7), np.float32), np.full(2, -1, np.float32)]
        carried_by_a_while(x, *outs, times, target=name)
        found[name] = outs
    for one, other in zip(found["interp"], found[target], strict=True):
        np.testing.assert_array_equal(one, other)


@od.kernel
def gathered_and_cut(x: od.Tensor[od.f16, "A", "B"], places: od.Tensor[od.i32, 16], y: od.Tensor[od.f16, 16, 9]):
    rows = od.copy_in(places[0:16])
    t = od.copy_in(x[rows, 1:10], pad=7)
    od.copy_out(od.clamp(t, -4, 8), y[0:16, 0:9])


@pytest.mark.parametrize("target", ["npu:910b2", "npu:910a"])
def test_gathered_rows_that_stick_out_end_in_the_pad(target: str) -> None:
    """The last block of a gathered row that is cut off held nothing behind its end (fuzz program 310047)."""
    x = np.random.default_rng(3).standard_normal((20, 9)).astype(np.float16)
    places = np.arange(16, dtype=np.int32) * 2 - 3
    found, wanted = np.zeros((2, 16, 9), np.float16)
    gathered_and_cut(x, places, found, target=target)
    gathered_and_cut(x, places, wanted, target="interp")
    np.testing.assert_array_equal(found, wanted)


@od.kernel
def bools_one_by_one(x: od.Tensor[od.bool, "A", "B", 4, "C"], y: od.Tensor[od.f32, "M", "N", 4], least: od.f32):
    M, N, _ = y.shape
    for i, j in od.parallel(range(0, M, 8), range(0, N, 17)):
        t = od.copy_in(x[j : j + 8, (i - 1) : (i - 1) + 17, :, 0])
        od.copy_out(od.where(t > least, t, least), y[i : i + 8, j : j + 17, :])


def test_each_way_of_a_copy_keeps_its_flags() -> None:
    """A flag was taken out of a way that no sample run came to (fuzz programs 320027, 500131, 700064, 700205)."""
    x = np.random.default_rng(4).random((40, 30, 4, 5)) > 0.5
    found, wanted = np.zeros((2, 17, 30, 4), np.float32)
    bools_one_by_one(x, found, 0.3, target="npu:910b2")
    bools_one_by_one(x, wanted, 0.3, target="interp")
    np.testing.assert_array_equal(found, wanted)


@od.kernel
def joined_scalars(flag: od.bool, level: od.f32, y: od.Tensor[od.bool, 2]):
    one = od.full((1,), flag)
    same = one == level
    od.copy_out(od.concat((one, same), 0), y)  # type: ignore[arg-type]


@pytest.mark.parametrize(("flag", "level"), [(True, -2.0), (False, 0.0), (True, 1.0)])
def test_bools_that_are_arguments_are_numbers_in_a_tile(flag: bool, level: float) -> None:
    """The bits of an integer were stored where a number was wanted (fuzz program 700082)."""
    y = np.zeros(2, np.bool_)
    joined_scalars(flag, level, y, target="npu:910b2")
    assert y.tolist() == [flag, float(flag) == level]


@od.kernel
def tiles_of_four_dims(x: od.Tensor[od.bf16, 21, 4, "H", "W"], y: od.Tensor[od.f32, "A", "B", "C"]):
    A, B, C = y.shape
    for i, j, k in od.parallel(range(0, A, 3), range(0, B, 2), range(0, C, 8)):
        t = od.copy_in(x[i : i + 9 : 3, 0:2, (k - 1) : (k - 1) + 8, -1:1], pad=0.3)
        od.copy_out(od.cast(od.reshape(t[:, :, :, 1], (3, 2, 8)), od.f32), y[i : i + 3, j : j + 2, k : k + 8])


def test_each_of_loops_over_elements_keeps_its_flags() -> None:
    """Only the outermost of loops over elements ran twice in the mind: an inner one lost its flag where the outer one
    kept its own (fuzz programs 500097, 500160)."""
    import ml_dtypes

    x = np.random.default_rng(5).standard_normal((21, 4, 22, 1)).astype(ml_dtypes.bfloat16)
    found, wanted = np.zeros((2, 6, 1, 15), np.float32)
    tiles_of_four_dims(x, found, target="npu:910b2")
    tiles_of_four_dims(x, wanted, target="interp")
    np.testing.assert_array_equal(found, wanted)


@od.kernel
def one_list_after_the_other(
    x: od.Tensor[od.bool, "N"],
    y: od.Tensor[od.bool, "N"],
    numbers: od.Tensor[od.i32, "M"],
    z: od.Tensor[od.f64, "A", "B"],
    w: od.Tensor[od.f64, "A", "B"],
):
    N = x.shape[0]
    A, B = z.shape
    for i in od.parallel(range(0, N, 33)):
        t = od.copy_in(x[i : i + 33], pad=True)
        od.copy_out(od.where(t, t, t), y[i : i + 33])
    for i, j in od.parallel(range(0, A, 5), range(0, B, 2)):
        n = od.copy_in(numbers[j])
        v = od.copy_in(z[i : i + 5, j : j + 2])
        od.copy_out(od.cast(n, od.f64) - v, z[i : i + 5, j : j + 2])
        od.copy_out(v, w[i : i + 5, j : j + 2], mode="add")


@pytest.mark.parametrize("shape", [(8, 1), (1, 3), (10, 4)])
def test_the_first_tile_of_a_loop_may_stick_out(shape: tuple[int, int]) -> None:
    """Grids had at least two tiles each way in the mind, so that no first one stuck out (fuzz program 500123)."""
    random = np.random.default_rng(6)
    x = random.random(66) > 0.5
    z = random.integers(-4, 4, shape).astype(np.float64)
    found = {}
    for target in ("interp", "npu:910b2"):
        outs = [np.zeros(66, np.bool_), z.copy(), np.zeros(shape)]
        one_list_after_the_other(x, outs[0], np.arange(14, dtype=np.int32), outs[1], outs[2], target=target)
        found[target] = outs
    for one, other in zip(found["interp"], found["npu:910b2"], strict=True):
        np.testing.assert_array_equal(one, other)


@od.kernel
def whole_quotients(a: od.Tensor["T", 81], b: od.Tensor["T", 81], q: od.Tensor["T", 81], r: od.Tensor["T", 81]):
    x = od.copy_in(a[0:81])
    y = od.copy_in(b[0:81])
    od.copy_out(x // y, q[0:81])
    od.copy_out(x % y, r[0:81])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_whole_quotients_of_infinities_and_zeros(dtype: type[np.floating[Any]]) -> None:
    """They were rounded-down quotients, which is another number for infinities (fuzz program 500120)."""
    numbers = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1.5, -7.5, 1e30, 0.1], dtype)
    a, b = (grid.ravel().copy() for grid in np.meshgrid(numbers, numbers))
    found, wanted = np.zeros((2, 2, 81), dtype)
    whole_quotients(a, b, found[0], found[1], target="npu:910b2")
    whole_quotients(a, b, wanted[0], wanted[1], target="interp")
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(wanted))


@od.kernel
def products_without_a_loop(a: od.Tensor[od.f16, 32, 16], b: od.Tensor[od.f16, 16, 32], c: od.Tensor[od.f32, 2, 16, 16]):
    once = od.zeros((16, 16), od.f32)
    once += od.dot(od.copy_in(a[0:16, :]), od.copy_in(b[:, 0:16]))
    od.copy_out(once, c[0])
    early = od.dot(od.copy_in(a[16:32, :]), od.copy_in(b[:, 16:32]))
    total = od.zeros((16, 16), od.f32)
    for k in range(0, 32, 16):
        total += od.dot(od.copy_in(a[k : k + 16, :]), od.copy_in(b[:, k : k + 16]))
    od.copy_out(total + early, c[1])


@pytest.mark.parametrize("target", ["npu:910b2", "npu:910a"])
def test_a_product_comes_before_the_op_that_adds_it(target: str) -> None:
    """A sum of products that did not begin with a loop had no accumulator yet (fuzz program 500371)."""
    random = np.random.default_rng(7)
    a, b = (random.integers(-4, 4, shape).astype(np.float16) for shape in ((32, 16), (16, 32)))
    found, wanted = np.zeros((2, 2, 16, 16), np.float32)
    products_without_a_loop(a, b, found, target=target)
    products_without_a_loop(a, b, wanted, target="interp")
    np.testing.assert_array_equal(found, wanted)


@od.kernel
def answers_without_events(
    x: od.Tensor[od.i16, "N4", "N5", "N6", "N7"],
    w: od.Tensor[od.f64, 14, "N8", 27, "N9"],
    v: od.Tensor[od.f32, "N15", 17],
    u: od.Tensor[od.f16, 38, "N18"],
    z: od.Tensor[od.f32, "N0", "N1", "N2", "N3"],
    y0: od.Tensor[od.f32, "N0", "N1", "N2", "N3"],
    y1: od.Tensor[od.f32, "N0", "N1", "N2", "N3"],
    y2: od.Tensor[od.i16, "N24", "N25"],
    s: od.i64,
):
    N0, N1, N2, N3 = z.shape
    for a, b, c, d in od.parallel(range(0, N0, 3), range(0, N1, 2), range(0, N2, 8), range(0, N3, 17)):
        t = od.copy_in(x[c + 5 : c + 8, b : b + 6 : 3, 0:8, 1:18])
        p = od.copy_in(w[b - 2 : b + 1, a * 2 : a * 2 + 4 : 2, 5:29:3, b - 1 : b + 16], pad=-2)
        q = od.copy_in(z[a : a + 3, b : b + 2, c : c + 8, d : d + 17])
        od.copy_out(od.cast(p, od.f32), z[a : a + 3, b : b + 2, c : c + 8, d : d + 17])
        od.copy_out(q, y0[a : a + 3, b : b + 2, c : c + 8, d : d + 17])
        od.copy_out(od.rand(d, t), y1[a : a + 3, b : b + 2, c : c + 8, d : d + 17])
    m = od.copy_in(v[s : s + 17, :])
    product = od.dot(od.round(od.clamp(m, -4, 4)), od.round(od.clamp(m, -4, 4)))
    for k in od.pipelined(range(2), depth=2):
        od.copy_in(u[k - 1 : k + 23 : 3, k : k + 1])
    od.copy_out(od.cast(product, od.i16), y2[0:17, 0:17])


def test_barriers_in_place_of_answers_end_the_search_for_events() -> None:
    """Answers for which there were no events became barriers, of which pipes were not said to learn anything, so that new
    answers took their place, for ever (fuzz program 800136)."""
    random = np.random.default_rng(0)
    found = []
    x = random.integers(-99, 99, (12, 11, 11, 17)).astype(np.int16)
    w, v = random.standard_normal((14, 16, 27, 29)), random.standard_normal((22, 17)).astype(np.float32)
    u = np.ones((38, 2), np.float16)
    z = random.standard_normal((4, 4, 16, 33)).astype(np.float32)
    for target in ("interp", "npu:910b2"):
        outs = [z.copy(), np.zeros_like(z), np.zeros_like(z), np.zeros((17, 18), np.int16)]
        answers_without_events(x, w, v, u, *outs, 5, target=target)
        found.append(outs)
    for expected, got in zip(*found, strict=True):
        np.testing.assert_array_equal(got, expected)
