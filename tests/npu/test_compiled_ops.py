"""Every op of the tile IR, compiled for an emulated chip, against the interpreter. Runs are strict: a hazard fails."""

from __future__ import annotations

import ast
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from support.ops import run_op

from opdsl.ir.functions import FLOAT_FUNCTIONS, ROUNDINGS
from opdsl.ir.ops import COMPARISONS, OPS

BF16, E4M3, E5M2 = ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2
FLOATS = [np.float64, np.float32, np.float16, BF16, E4M3]
INTEGERS = [np.int64, np.int32, np.int16, np.int8, np.uint64, np.uint32, np.uint8]
SHAPES = [(3, 37), (4, 64), (130,), (2, 3, 5)]
SPLIT, COUPLED = "npu:910b2", "npu:910a"


@pytest.fixture(params=[SPLIT, COUPLED])
def target(request: pytest.FixtureRequest) -> str:
    return request.param


def data(shape, dtype, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype == np.bool_:
        return random.random(shape) < 0.5
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        small = random.integers(-9 if dtype.kind == "i" else 0, 10, shape)
        large = random.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        return np.where(random.random(shape) < 0.5, small.astype(dtype), large)
    return np.asarray(random.standard_normal(shape) * 2).astype(dtype)


def check(target: str, name: str, *inputs, ulps: float = 0, **attributes) -> None:
    for found, wanted in zip(
        run_op(target, name, *inputs, **attributes), run_op("interp", name, *inputs, **attributes), strict=True
    ):
        assert found.dtype == wanted.dtype and found.shape == wanted.shape
        if found.dtype.kind in "biu":
            np.testing.assert_array_equal(found, wanted)
            continue
        wide, exact = found.astype(np.float64), wanted.astype(np.float64)
        with np.errstate(all="ignore"):
            spacing = np.maximum(np.abs(exact), float(ml_dtypes.finfo(found.dtype).tiny)) * float(
                ml_dtypes.finfo(found.dtype).eps
            )
            good = (wide == exact) | (np.isnan(wide) & np.isnan(exact)) | (np.abs(wide - exact) <= ulps * spacing)
        assert good.all(), (name, found[~good][:5], wanted[~good][:5])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "min", "max", "floordiv", "mod"])
def test_float_arithmetic(target: str, name: str, dtype) -> None:
    for shape in SHAPES:
        check(target, name, data(shape, dtype), data(shape, dtype, 1))


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", ["add", "sub", "mul", "floordiv", "mod", "min", "max", "and", "or", "xor"])
def test_integer_arithmetic(target: str, name: str, dtype) -> None:
    for shape in SHAPES[:2]:
        check(target, name, data(shape, dtype), data(shape, dtype, 1))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_shifts_and_powers(target: str, dtype) -> None:
    a, b = data((3, 40), dtype), data((3, 40), dtype, 1)
    for name in ("shl", "shr", "ipow"):
        check(target, name, a, b % np.asarray(70 if name != "ipow" else 5, dtype))


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_one_operand(target: str, dtype) -> None:
    names = ["neg", "abs"] + (["not"] if np.dtype(dtype).kind in "iu" else [*ROUNDINGS, "isnan", "isinf", "isfinite"])
    for name in names:
        check(target, name, data((3, 40), dtype))


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons(target: str, name: str, dtype) -> None:
    for shape in SHAPES:
        check(
            target,
            name,
            data(shape, dtype),
            np.where(data(shape, np.bool_, 3), data(shape, dtype), data(shape, dtype, 1)),
        )


@pytest.mark.parametrize("dtype", [np.float32, BF16, np.float64])
@pytest.mark.parametrize("name", [*FLOAT_FUNCTIONS, "atan2", "pow"])
def test_functions(target: str, name: str, dtype) -> None:
    x = data((3, 50), dtype)
    if name in ("log", "log2", "log10", "sqrt", "rsqrt", "pow"):
        x = np.abs(x)
    if name in ("asin", "acos"):
        x = np.clip(x, -1, 1)
    if name == "log1p":
        x = np.maximum(x, np.asarray(-0.9, dtype))
    others = (data((3, 50), dtype, 1),) if name in ("atan2", "pow") else ()
    check(target, name, x.astype(dtype), *others, ulps=4)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_fma(target: str, dtype) -> None:
    check(target, "fma", *(data((3, 50), dtype, n) for n in range(3)))


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, np.bool_])
def test_select(target: str, dtype) -> None:
    for shape in SHAPES:
        check(target, "select", data(shape, np.bool_, 2), data(shape, dtype), data(shape, dtype, 1))


@pytest.mark.parametrize("name", ["and", "or", "xor", "not", "eq", "min", "max"])
def test_bools(target: str, name: str) -> None:
    for shape in SHAPES:
        check(target, name, *(data(shape, np.bool_, n) for n in range(1 if name == "not" else 2)))


CASTS = [np.float32, np.float16, BF16, np.int32, np.int8, np.int64, np.uint8, np.bool_, np.float64, E4M3]


@pytest.mark.parametrize("source", CASTS)
def test_casts(target: str, source) -> None:
    from support.ops import IR_DTYPES

    for wanted in CASTS:
        x = data((3, 40), source)
        if np.dtype(source).kind not in "iub":
            x = np.clip(np.abs(x.astype(np.float32)), 0, 100).astype(source)  # what every type holds
        check(target, "cast", x, dtype=IR_DTYPES[np.dtype(wanted)])


def test_random_bits(target: str) -> None:
    check(target, "random_bits", np.asarray(-5), np.arange(100) * 3, word=2)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, BF16, np.uint8, np.bool_])
def test_shapes(target: str, dtype) -> None:
    check(target, "broadcast", data((3, 1), dtype), shape=(3, 70))
    check(target, "broadcast", data((70,), dtype), shape=(3, 70))
    check(target, "broadcast", data((1,), dtype), shape=(5, 33))
    check(target, "broadcast", data((2, 1, 40), dtype), shape=(2, 3, 40))
    check(target, "reshape", data((3, 40), dtype), shape=(120,))
    check(target, "reshape", data((6, 10), dtype), shape=(4, 15))
    check(target, "reshape", data((3, 1), dtype), shape=(3,))
    check(target, "reshape", data((1, 1), dtype), shape=())
    check(target, "transpose", data((3, 40), dtype), permutation=(1, 0))
    check(target, "transpose", data((2, 3, 5), dtype), permutation=(2, 0, 1))
    check(target, "concat", data((3, 7), dtype), data((3, 40), dtype), axis=1)
    check(target, "concat", data((3, 40), dtype), data((1, 40), dtype), axis=0)
    check(target, "extract", data((9, 40), dtype), starts=(1, 16), sizes=(4, 20), steps=(2, 1))
    check(target, "extract", data((9, 40), dtype), starts=(8, 39), sizes=(9, 3), steps=(-1, -4))
    check(target, "extract", data((9, 64), dtype), starts=(2, 32), sizes=(4, 30), steps=(1, 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, np.int32, np.uint8])
@pytest.mark.parametrize("kind", ["sum", "prod", "max", "min"])
def test_reductions(target: str, kind: str, dtype) -> None:
    for shape, axes in (
        ((3, 37), (1,)),
        ((5, 200), (1,)),
        ((5, 70), (0,)),
        ((300,), (0,)),
        ((3, 70), (0, 1)),
        ((2, 3, 5), (1,)),
        ((2, 3, 1), (2,)),
    ):
        check(target, "reduce", data(shape, dtype), kind=kind, axes=axes, ulps=20)


@pytest.mark.parametrize("kind", ["any", "all"])
def test_reductions_of_bools(target: str, kind: str) -> None:
    for shape, axes in (((3, 37), (1,)), ((5, 3), (0,)), ((4, 20), (0, 1))):
        check(target, "reduce", data(shape, np.bool_), kind=kind, axes=axes)


@pytest.mark.parametrize("columns", [4096, 4100, 8192])
@pytest.mark.parametrize("kind", ["sum", "max"])
def test_rows_too_long_for_one_instruction_to_step_over(target: str, kind: str, columns: int) -> None:
    whole_numbers = np.round(4 * data((3, columns), np.float32))
    check(target, "reduce", whole_numbers, kind=kind, axes=(1,))
    check(target, "reduce", whole_numbers, kind=kind, axes=(0,))



@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.float16])
def test_arg_reduce_scan_sort(target: str, dtype) -> None:
    x = data((3, 20), dtype)
    for axis in (0, 1):
        check(target, "arg_reduce", x, kind="max", axis=axis)
        check(target, "arg_reduce", x, kind="min", axis=axis)
        check(target, "scan", x, kind="sum", axis=axis, reverse=False, exclusive=False, ulps=8)
        check(target, "scan", x, kind="max", axis=axis, reverse=True, exclusive=True)
        check(target, "sort", x, axis=axis, descending=axis == 1)
    check(target, "arg_reduce", data((9,), dtype), kind="max", axis=0)


def test_custom(target: str) -> None:
    def combine(builder, a, b):
        return builder.value("add", builder.value("mul", a, builder.constant(0.5, a.type.dtype)), b)

    x = data((3, 20), np.float32)
    for axis in (0, 1):
        check(target, "reduce_custom", x, combine=combine, axis=axis)
        check(target, "scan_custom", x, combine=combine, axis=axis, reverse=axis == 1)


DOTS = [np.float16, BF16, np.float32, np.float64, np.int8, np.uint8, np.int32, E4M3]


@pytest.mark.parametrize("dtype", DOTS)
def test_dot(target: str, dtype) -> None:
    for m, k, n in ((32, 32, 32), (5, 7, 9), (1, 40, 3), (33, 1, 17), (20, 50, 1), (64, 96, 48)):
        a, b = (
            np.random.default_rng(n).integers(0 if dtype == np.uint8 else -3, 4, s).astype(dtype)
            for n, s in enumerate(((m, k), (k, n)))
        )
        check(target, "dot", a, b)
    a, b = (np.random.default_rng(n).integers(0, 4, s).astype(dtype) for n, s in enumerate(((2, 3, 4), (2, 4, 5))))
    check(target, "dot", a, b)


def test_every_op_has_a_test() -> None:
    """Names of ops in this file, however its tests are spread over processes; those tested elsewhere are listed."""
    elsewhere = {"constant", "dim", "arange", "copy_in", "copy_out", "parallel", "for", "while", "if", "yield"}
    elsewhere |= {"print", "assert", "breakpoint", "compose"}
    *others, _ = ast.parse(Path(__file__).read_text()).body  # all but this function, the last
    named = {node.value for part in others for node in ast.walk(part) if isinstance(node, ast.Constant)}
    assert set(OPS) - named - {*COMPARISONS, *FLOAT_FUNCTIONS, *ROUNDINGS} == elsewhere
