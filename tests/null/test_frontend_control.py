"""Loops, branches, functions and carried variables of the language, run by the interpreter."""

from typing import Any

import numpy as np
import pytest

import opdsl as od
from opdsl.ir.core import Kernel, walk
from opdsl.ir.types import ScalarType, TileType
from opdsl.ir.verifier import verify


def ops(kernel: Kernel, name: str) -> list[Any]:
    verify(kernel)
    return [op for op in walk(kernel.body) if op.name == name]


def run(kernel: Any, *arguments: Any, size: int = 4, **constexprs: Any) -> np.ndarray:
    """Runs a kernel whose last argument is its result of f32."""
    out = np.full(size, -1, np.float32)
    verify(kernel.lower(*arguments, out, **constexprs))
    kernel(*arguments, out, target="interp", **constexprs)
    return out


Out = od.Tensor[od.f32, 4]


def test_a_number_before_a_loop_takes_the_type_of_the_body() -> None:
    @od.kernel
    def k(x: od.Tensor[od.f16, "N"], out: Out):
        total = 0
        for i in range(0, x.shape[0], 4):
            total += od.copy_in(x[i : i + 4])
        od.copy_out(total, out)

    x = np.arange(10, dtype=np.float16)
    assert run(k, x).tolist() == [0 + 4 + 8, 1 + 5 + 9, 2 + 6, 3 + 7]
    (loop,) = ops(k.lower(), "for")
    assert [r.type for r in loop.results] == [TileType(od.f16, (4,))]


def test_a_counter_is_i64_and_an_average_f32() -> None:
    @od.kernel
    def k(n: od.i64, out: Out):
        count = 0
        mean = 0
        while count < n:
            count += 1
            mean = mean + 0.5
        od.copy_out(count, out[0])
        od.copy_out(mean, out[1])

    assert run(k, 5)[:2].tolist() == [5, 2.5]
    (loop,) = ops(k.lower(), "while")
    assert {r.type for r in loop.results} == {ScalarType(od.i64), ScalarType(od.f32)}


def test_values_that_nothing_reads_are_not_carried() -> None:
    @od.kernel
    def k(x: od.Tensor[od.f32, "N"], out: Out):
        t = od.zeros(4, od.f32)
        unused = od.zeros(4, od.f32)
        acc = od.zeros(4, od.f32)
        for i in range(0, x.shape[0], 4):
            t = od.copy_in(x[i : i + 4])
            unused += t
            acc += t
        od.copy_out(acc, out)

    (loop,) = ops(k.lower(), "for")
    assert [r.name for r in loop.results] == ["acc"]
    assert run(k, np.ones(8, np.float32)).tolist() == [2] * 4


def test_another_type_inside_is_fine_where_it_is_not_read_before() -> None:
    @od.kernel
    def k(x: od.Tensor[od.f32, "N"], out: Out):
        t = od.zeros(8, od.f32)
        for i in range(0, x.shape[0], 4):
            t = od.copy_in(x[i : i + 4])
            od.copy_out(t, out, mode="add")

    assert run(k, np.ones(8, np.float32)).tolist() == [1] * 4


def test_a_constant_set_again_stays_a_constexpr() -> None:
    @od.kernel
    def k(x: od.Tensor[od.f32, "N"], out: Out):
        block = 4
        for i in range(0, x.shape[0], block):
            block = 4
            od.copy_out(od.copy_in(x[i : i + block]), out)
        od.copy_out(od.ones(block, od.f32), out, mode="add")

    assert run(k, np.arange(4, dtype=np.float32)).tolist() == [1, 2, 3, 4]


def test_nested_loops_and_tuples_are_carried() -> None:
    @od.kernel
    def k(n: od.i64, out: Out):
        pair = (0, 1)
        for _ in range(n):
            for _ in range(2):
                pair = (pair[1], pair[0] + pair[1])
        od.copy_out(pair[0], out[0])

    assert run(k, 5)[0] == 55


def test_pipelined_over_two_ranges() -> None:
    @od.kernel
    def k(x: od.Tensor[od.f32, "M", "N"], out: Out):
        total = od.zeros(4, od.f32)
        for m, n in od.pipelined(range(x.shape[0]), range(0, x.shape[1], 4), depth=3):
            total += od.copy_in(x[m, n : n + 4])
        od.copy_out(total, out)

    x = np.arange(24, dtype=np.float32).reshape(3, 8)
    assert run(k, x).tolist() == x.reshape(3, 2, 4).sum((0, 1)).tolist()
    assert [op.attributes["depth"] for op in ops(k.lower(), "for")] == [3, 3]


def test_parallel_ranges_make_one_op() -> None:
    @od.kernel
    def k(x: od.Tensor["T", "M", "N"]):
        for m, n in od.parallel(range(x.shape[0]), range(0, x.shape[1], 8)):
            od.copy_out(m * 100 + n, x[m, n : n + 8])

    x = np.zeros((3, 20), np.int32)
    k(x, target="interp:strict")
    assert x.tolist() == [[m * 100 + n // 8 * 8 for n in range(20)] for m in range(3)]
    (grid,) = ops(k.lower(T=od.i32), "parallel")
    assert len(grid.regions[0].arguments) == 2


def test_unrolled_break_and_continue() -> None:
    @od.kernel
    def k(out: Out, *, SKIP: od.constexpr = 1):
        for i, factor in od.unrolled(range(4), (1.0, 10.0)):
            if i == SKIP:
                continue
            if i == 3:
                break
            od.copy_out(factor, out[i], mode="add")

    assert run(k).tolist() == [10, -1, 10, -1]
    assert not ops(k.lower(), "for")


def test_unrolled_lists_enumerate_zip_and_comprehensions() -> None:
    @od.kernel
    def k(x: od.Tensor[od.f32, 8], out: Out):
        halves = [od.copy_in(x[4 * i : 4 * i + 4]) for i in range(2)]
        parts = []
        for i, (half, weight) in enumerate(zip(halves, (1, 10), strict=True)):
            parts.append(half * weight + i)
        head, *rest = parts
        od.copy_out(head + sum_of(rest), out)

    assert run(k, np.ones(8, np.float32)).tolist() == [12] * 4


@od.function
def sum_of(parts):
    total = 0
    for part in parts:
        total = total + part
    return total


@pytest.mark.parametrize("n", [-3, 0, 5])
def test_run_time_if(n: int) -> None:
    @od.kernel
    def k(n: od.i64, out: Out):
        sign = 0
        if n > 0:
            sign = 1
            t = od.ones(4, od.f32)
        elif n < 0:
            sign = -1
            t = od.zeros(4, od.f32)
        else:
            t = od.full(4, 0.5, od.f32)
        od.copy_out(t, out)
        od.copy_out(sign, out[0])

    expected = {-3: [-1, 0, 0, 0], 0: [0, 0.5, 0.5, 0.5], 5: [1, 1, 1, 1]}[n]
    assert run(k, n).tolist() == expected


def test_run_time_if_in_a_loop() -> None:
    @od.kernel
    def k(n: od.i64, out: Out):
        odd = 0
        even = 0
        for i in range(n):
            if i % 2:
                odd += i
            else:
                even += i
        od.copy_out(odd, out[0])
        od.copy_out(even, out[1])

    assert run(k, 7)[:2].tolist() == [9, 12]


def test_constexpr_if_does_not_look_at_the_other_branch() -> None:
    @od.kernel
    def k(out: Out, *, FAST: od.constexpr = True):
        if FAST:
            od.copy_out(1, out)
        else:
            od.there_is_no_such_thing()

    assert run(k).tolist() == [1] * 4


def test_conditional_expressions() -> None:
    @od.kernel
    def k(n: od.i64, x: od.Tensor[od.f32, 4], out: Out):
        small = n if n < 10 else 10
        t = od.copy_in(x) if n > 3 else od.zeros(4, od.f32)
        od.copy_out(t + small + (0.5 if n > 100 else 0.25), out)

    x = np.arange(4, dtype=np.float32)
    assert run(k, 2, x).tolist() == [2.25] * 4
    assert run(k, 200, x).tolist() == [10.5, 11.5, 12.5, 13.5]
    assert len(ops(k.lower(), "if")) == 1  # the scalars are selected


def test_boolean_operators_and_chains() -> None:
    @od.kernel
    def k(n: od.i64, flag: od.bool, out: Out):
        od.copy_out(0 < n < 10 and not flag, out[0])
        od.copy_out(n == 3 or flag, out[1])
        od.copy_out(True and n, out[2])
        od.copy_out(2 if False or n > 5 else 7, out[3])

    assert run(k, 3, False).tolist() == [1, 1, 1, 7]
    assert run(k, 12, True).tolist() == [0, 1, 1, 2]


def test_functions_lambdas_and_closures() -> None:
    offset = 100

    @od.function
    def shifted(t, by=1, *, times=2):
        def twice(u):
            return u * times

        return twice(t) + by + offset

    @od.kernel
    def k(x: od.Tensor[od.f32, 4], out: Out, *, f: od.constexpr = shifted):
        negative = lambda t: -t  # noqa: E731
        od.copy_out(negative(f(od.copy_in(x), times=3)), out)

    x = np.arange(4, dtype=np.float32)
    assert run(k, x).tolist() == (-(x * 3 + 101)).tolist()
    assert run(k, x, f=od.function(less)).tolist() == (3 - x).tolist()


def less(t: Any, times: Any) -> Any:
    return t - times


def test_functions_recur_on_constexprs() -> None:
    @od.function
    def power(t, n):
        return t if n == 1 else t * power(t, n - 1)

    @od.kernel
    def k(x: od.Tensor[od.f32, 4], out: Out, *, N: od.constexpr = 3):
        od.copy_out(power(od.copy_in(x), N), out)

    assert run(k, np.arange(4, dtype=np.float32)).tolist() == [0, 1, 8, 27]


def test_constexpr_values_of_any_kind() -> None:
    @od.kernel
    def good(out: Out, *, table: od.constexpr = (1, 2, 3, 4), kind: od.constexpr = od.f32):
        for i, value in enumerate(table):
            od.copy_out(od.cast(value, kind), out[i])

    assert run(good).tolist() == [1, 2, 3, 4]
    assert run(good, table=(5, 6, 7, 300), kind=od.i32).tolist() == [5, 6, 7, 300]


def test_print_assert_and_breakpoint(capsys: pytest.CaptureFixture[str]) -> None:
    @od.kernel
    def k(n: od.i64, out: Out, *, B: od.constexpr = 3):
        od.print("n is", n, f"and twice {n * 2}, B={B:02d} {{}}")
        od.assert_(n < 5, "n is small")

    run(k, 4)
    assert capsys.readouterr().out == "n is 4 and twice 8, B=03 {}\n"
    with pytest.raises(od.OpdslError, match="n is small"):
        run(k, 6)

    @od.kernel
    def stops(n: od.i64, out: Out):
        doubled = n * 2
        breakpoint()
        od.copy_out(doubled, out)

    (op,) = ops(stops.lower(), "breakpoint")
    assert set(op.attributes["variables"]) == {"n", "doubled"}


def test_static_print_and_assert(capsys: pytest.CaptureFixture[str]) -> None:
    @od.kernel
    def k(x: od.Tensor[od.f32, 4], *, B: od.constexpr = 3):
        od.static_assert(B == 3)
        od.static_print("B is", B, od.copy_in(x))

    k.lower()
    assert capsys.readouterr().out == "B is 3 an f32 tile of shape (4,)\n"


def test_early_return_by_constexpr() -> None:
    @od.kernel
    def k(out: Out, *, STOP: od.constexpr = True):
        od.copy_out(1, out)
        if STOP:
            return
        od.copy_out(2, out)

    assert run(k).tolist() == [1] * 4
    assert run(k, STOP=False).tolist() == [2] * 4


def test_python_functions_of_constexprs() -> None:
    def block_of(n: int) -> int:
        return max(1, n // 2)

    @od.kernel
    def good(out: Out, *, N: od.constexpr = 8, choose: od.constexpr = block_of):
        od.copy_out(od.full(choose(N), len(str(N)), od.f32), out)

    assert run(good).tolist() == [1] * 4


def test_locations_and_names() -> None:
    @od.kernel
    def k(x: od.Tensor["T", 8]):
        doubled = od.copy_in(x) * 2
        od.copy_out(doubled, x)

    first = k.source.first_line
    kernel = k.lower(T=od.f32)
    (mul,) = ops(kernel, "mul")
    assert mul.result.name == "doubled"
    assert (mul.location.line - first, mul.location.column) == (2, 19)
