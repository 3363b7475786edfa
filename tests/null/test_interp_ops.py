"""The interpreter, op by op, against plain NumPy written here a second time."""

from __future__ import annotations

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from support.ops import IR_DTYPES, run_op

from opdsl.ir.semantics.values import convert

BF16, E4M3, E5M2 = ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2
FLOATS = [np.float64, np.float32, np.float16, BF16, E4M3, E5M2]
INTEGERS = [np.int64, np.int32, np.int16, np.int8, np.uint64, np.uint32, np.uint16, np.uint8]
SPECIALS = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 3.0, -2.5, 1.5, 100.0, 1e-3, np.inf, -np.inf, np.nan]


def one(name: str, *inputs, **attributes) -> np.ndarray:
    (result,) = run_op("interp", name, *inputs, **attributes)
    return result


def same(result, expected) -> None:
    """Equal to the bit, but for the sign and payload of NaNs."""
    expected = np.asarray(expected)
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    if result.dtype.kind in "biu":
        np.testing.assert_array_equal(result, expected)
        return
    wide, wanted = result.astype(np.float64), expected.astype(np.float64)
    np.testing.assert_array_equal(wide, wanted)
    numbers = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(wide)[numbers], np.signbit(wanted)[numbers])


def floats(dtype, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed).standard_normal(50) * 4
    return np.concatenate([random, np.array(SPECIALS)]).astype(dtype)


def integers(dtype, seed: int = 0) -> np.ndarray:
    limits = np.iinfo(dtype)
    drawn = np.random.default_rng(seed).integers(limits.min, limits.max, 40, dtype, endpoint=True)
    small = np.array([0, 1, 2, 3, 7], dtype)
    return np.concatenate([drawn, small, np.array([limits.min, limits.max], dtype)])


def pairs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every value with every other."""
    return np.repeat(values, len(values)), np.tile(values, len(values))


def quiet(function, *arrays):
    with np.errstate(all="ignore"):
        return function(*arrays)


# --- elementwise -----------------------------------------------------------------------------------------------------

FLOAT_BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "min": np.minimum,
    "max": np.maximum,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", FLOAT_BINARY)
def test_float_arithmetic(name: str, dtype) -> None:
    a, b = pairs(floats(dtype))
    narrow = np.dtype(dtype).itemsize < 4
    wide = (x.astype(np.float32) if narrow else x for x in (a, b))
    result = one(name, a, b)
    expected = quiet(lambda x, y: FLOAT_BINARY[name](x, y).astype(dtype), *wide)
    if name in ("min", "max"):  # which zero comes out is not said
        same(result + np.zeros((), dtype), expected + np.zeros((), dtype))
    else:
        same(result, expected)


@pytest.mark.parametrize("dtype", [np.float16, BF16])
def test_arithmetic_rounds_each_op_once(dtype) -> None:
    """Against exact rational arithmetic: the nearest, ties to even."""
    a, b = (floats(dtype, seed)[:50] for seed in (1, 2))
    for name, exact in (("add", Fraction.__add__), ("mul", Fraction.__mul__)):
        result = one(name, a, b)
        for x, y, z in zip(a, b, result, strict=True):
            wanted = exact(Fraction(float(x)), Fraction(float(y)))
            error = abs(Fraction(float(z)) - wanted)
            for neighbour in np.nextafter(z, np.array([-np.inf, np.inf], dtype)):
                assert error <= abs(Fraction(float(neighbour)) - wanted)


INTEGER_BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
}


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", INTEGER_BINARY)
def test_integer_arithmetic(name: str, dtype) -> None:
    a, b = pairs(integers(dtype))
    same(one(name, a, b), quiet(INTEGER_BINARY[name], a, b))


def test_integer_division_by_zero_is_zero() -> None:
    zero = np.zeros(3, np.int32)
    a = np.array([5, -5, 0], np.int32)
    same(one("floordiv", a, zero), zero)
    same(one("mod", a, zero), zero)
    same(one("floordiv", a, zero + 3), np.array([1, -2, 0], np.int32))
    same(one("mod", a, zero + 3), np.array([2, 1, 0], np.int32))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64])
def test_shifts(dtype) -> None:
    bits = np.dtype(dtype).itemsize * 8
    values = integers(dtype)
    for count in (0, 1, bits - 1, bits, bits + 1, 100):
        left = [_wrap(int(v) << count, dtype) for v in values]
        same(one("shl", values, np.full_like(values, count)), np.array(left, dtype))
        same(one("shr", values, np.full_like(values, count)), np.array([int(v) >> count for v in values], dtype))


def _wrap(value: int, dtype) -> int:
    bits = np.dtype(dtype).itemsize * 8
    value &= (1 << bits) - 1
    return value - (1 << bits) if np.dtype(dtype).kind == "i" and value >> (bits - 1) else value


@pytest.mark.parametrize("dtype", [np.int32, np.uint8])
def test_integer_power(dtype) -> None:
    base, exponent = pairs(np.array([0, 1, 2, 3, 7, 250], np.int64).astype(dtype))
    wanted = [_wrap(int(x) ** int(y), dtype) for x, y in zip(base, exponent, strict=True)]
    same(one("ipow", base, exponent), np.array(wanted, dtype))
    if np.dtype(dtype).kind == "i":
        same(one("ipow", base, np.full_like(base, -1)), np.zeros_like(base))


def test_unary_integers_and_bools() -> None:
    for dtype in INTEGERS:
        values = integers(dtype)
        same(one("neg", values), quiet(np.negative, values))
        same(one("abs", values), quiet(np.absolute, values))
        same(one("not", values), np.invert(values))
    flags = np.array([True, False])
    same(one("not", flags), ~flags)
    a, b = pairs(flags)
    for name, function in (("and", np.logical_and), ("or", np.logical_or), ("xor", np.logical_xor)):
        same(one(name, a, b), function(a, b))
    same(one("max", a, b), a | b)
    same(one("min", a, b), a & b)


COMPARISONS = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}


@pytest.mark.parametrize("dtype", [*FLOATS, np.int8, np.uint64, np.bool_])
@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons(name: str, dtype) -> None:
    values = np.array([True, False]) if dtype is np.bool_ else (integers if dtype in INTEGERS else floats)(dtype)
    a, b = pairs(values)
    wide = (x.astype(np.float64) if dtype in FLOATS else x for x in (a, b))
    same(one(name, a, b), getattr(np, COMPARISONS[name])(*wide))


PYTHON_FUNCTIONS = {
    "exp": math.exp,
    "exp2": lambda x: 2.0**x,
    "expm1": math.expm1,
    "log": math.log,
    "log2": math.log2,
    "log10": math.log10,
    "log1p": math.log1p,
    "sqrt": math.sqrt,
    "rsqrt": lambda x: 1 / math.sqrt(x),
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "asin": math.asin,
    "acos": math.acos,
    "atan": math.atan,
    "sinh": math.sinh,
    "cosh": math.cosh,
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "erf": math.erf,
    "floor": math.floor,
    "ceil": math.ceil,
    "trunc": math.trunc,
    "round": round,
    "neg": lambda x: -x,
    "abs": abs,
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", PYTHON_FUNCTIONS)
def test_float_functions(name: str, dtype) -> None:
    values = floats(dtype)[:-3]
    result = one(name, values).astype(np.float64)
    for value, found in zip(values.astype(np.float64), result, strict=True):
        try:
            wanted = float(PYTHON_FUNCTIONS[name](float(value)))
        except (ValueError, ZeroDivisionError, OverflowError):
            assert not np.isfinite(found)  # outside of the domain, or at a pole
            continue
        with np.errstate(all="ignore"):
            rounded = np.float64(wanted).astype(np.float32).astype(dtype) if dtype != np.float64 else np.float64(wanted)
        assert found == pytest.approx(float(rounded), rel=4e-15 if dtype == np.float64 else 0, abs=0, nan_ok=True)


def test_special_values_of_functions() -> None:
    x = np.array([np.inf, -np.inf, np.nan, -0.0], np.float32)
    nan = np.nan
    expected = {
        "exp": [np.inf, 0, nan, 1],
        "expm1": [np.inf, -1, nan, -0.0],
        "log": [np.inf, nan, nan, -np.inf],
        "log1p": [np.inf, nan, nan, -0.0],
        "sqrt": [np.inf, nan, nan, -0.0],
        "rsqrt": [0, nan, nan, -np.inf],
        "tanh": [1, -1, nan, -0.0],
        "sigmoid": [1, 0, nan, 0.5],
        "erf": [1, -1, nan, -0.0],
        "sin": [nan, nan, nan, -0.0],
        "floor": [np.inf, -np.inf, nan, -0.0],
        "round": [np.inf, -np.inf, nan, -0.0],
    }
    for name, wanted in expected.items():
        same(one(name, x), np.array(wanted, np.float32))


def test_round_takes_halves_to_even() -> None:
    same(one("round", np.array([0.5, 1.5, 2.5, -0.5, -1.5])), np.array([0.0, 2.0, 2.0, -0.0, -2.0]))


def test_two_argument_functions() -> None:
    a, b = pairs(floats(np.float32))
    wide = a.astype(np.float64), b.astype(np.float64)
    same(one("atan2", a, b), np.arctan2(*wide).astype(np.float32))
    same(one("pow", a, b), quiet(lambda x, y: np.power(x, y).astype(np.float32), *wide))


def test_float_tests() -> None:
    for dtype in FLOATS:
        x = floats(dtype)
        wide = x.astype(np.float64)
        for name in ("isnan", "isinf", "isfinite"):
            same(one(name, x), getattr(np, name)(wide))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fma_rounds_once(dtype) -> None:
    generator = np.random.default_rng(3)
    a, b = (generator.standard_normal(300).astype(dtype) for _ in range(2))
    c = (-(a.astype(np.float64) * b) * (1 + generator.choice([0, 1e-7, -1e-12, 0.5, 1e9], 300))).astype(dtype)
    result = one("fma", a, b, c)
    for x, y, z, found in zip(a, b, c, result, strict=True):
        wanted = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        error = abs(Fraction(float(found)) - wanted)
        for neighbour in np.nextafter(found, np.array([-np.inf, np.inf], dtype)):
            assert error <= abs(Fraction(float(neighbour)) - wanted)
    infinite = np.array([np.inf, 1, 1e30], dtype)
    same(
        one("fma", infinite, infinite, np.array([1, np.nan, -np.inf], dtype)),
        np.array([np.inf, np.nan, -np.inf], dtype),
    )


def test_select() -> None:
    for dtype in (BF16, np.int8, np.bool_):
        a, b = np.array([1, 0, 1], dtype), np.array([0, 1, 1], dtype)
        condition = np.array([True, False, False])
        same(one("select", condition, a, b), np.array([1, 1, 1], dtype))


@pytest.mark.parametrize("target", [*FLOATS, *INTEGERS, np.bool_])
@pytest.mark.parametrize("source", [*FLOATS, *INTEGERS, np.bool_])
def test_casts_between_all_dtypes(source, target) -> None:
    values = np.array([0, 1, 3, 100, 0.5, 7.75]).astype(source)
    ir_dtype = IR_DTYPES[np.dtype(target)]
    result = one("cast", values, dtype=ir_dtype)
    wide = values.astype(np.float64)
    if target is np.bool_:
        same(result, wide != 0)
    elif target in INTEGERS:
        same(result, np.trunc(wide).astype(target))
    else:
        same(result, wide.astype(np.float32).astype(target))
    same(result, convert(values, ir_dtype))


def test_casts_of_special_values() -> None:
    from opdsl.ir import types as t

    x = np.array([np.nan, np.inf, -np.inf, -0.0, 1e30], np.float32)
    same(one("cast", x, dtype=t.bool_), np.array([True, True, True, False, True]))
    same(one("cast", x, dtype=t.f16), np.array([np.nan, np.inf, -np.inf, -0.0, np.inf], np.float16))
    assert one("cast", x, dtype=t.i32).shape == (5,)  # any value, but no warning and no crash
    same(one("cast", np.array([300, -1]), dtype=t.u8), np.array([44, 255], np.uint8))
    same(one("cast", np.array([300, -129]), dtype=t.i8), np.array([44, 127], np.int8))
    # From f64 to f16 in one rounding; 1 + 2^-11 + 2^-40 is just above half way.
    same(one("cast", np.array([1 + 2.0**-11 + 2.0**-40]), dtype=t.f16), np.array([1 + 2.0**-10], np.float16))


# --- random numbers --------------------------------------------------------------------------------------------------


def test_philox_known_answers() -> None:
    from opdsl.targets.interp.random import philox

    ones = 0xFFFFFFFF
    pi_counter, pi_key = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)
    for counter, key, wanted in (
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ones,) * 4, (ones,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (pi_counter, pi_key, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ):
        a, b, c, d = (np.array([word], np.uint64) for word in counter)
        assert tuple(int(w[0]) for w in philox((a, b, c, d), key)) == wanted


def test_random_bits() -> None:
    seed = np.array(0, np.int64)
    for word, wanted in enumerate((0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)):
        assert int(one("random_bits", seed, np.zeros(1, np.int64), word=word)[0]) == wanted
    counters = np.array([[5, -1], [1 << 40, 6]])
    drawn = one("random_bits", np.array(-7), counters, word=0)
    assert drawn.dtype == np.uint32
    assert len(set(drawn.ravel().tolist())) == 4
    assert int(drawn[0, 1]) == int(one("random_bits", np.array(-7), np.array(-1), word=0))


# --- shapes ----------------------------------------------------------------------------------------------------------


def test_shape_ops() -> None:
    x = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    same(one("transpose", x, permutation=(2, 0, 1)), x.transpose(2, 0, 1))
    same(one("reshape", x, shape=(6, 4)), x.reshape(6, 4))
    same(one("reshape", np.array([[7.0]]), shape=()), np.array(7.0))
    same(one("reshape", np.array(7.0), shape=(1, 1)), np.array([[7.0]]))
    same(one("broadcast", np.array(3, np.int8), shape=(2, 2)), np.full((2, 2), 3, np.int8))
    same(one("broadcast", x[:, :1], shape=(5, 2, 3, 4)), np.broadcast_to(x[:, :1], (5, 2, 3, 4)))
    same(one("concat", x, x[:, :1], x, axis=1), np.concatenate([x, x[:, :1], x], 1))
    same(one("extract", x, starts=(1, 2, 3), sizes=(1, 3, 2), steps=(1, -1, -3)), x[1:2, ::-1, ::-3])
    same(one("extract", x, starts=(0, 0, 1), sizes=(2, 2, 2), steps=(1, 2, 2)), x[:, ::2, 1::2])


# --- dot, reductions, scans, sort ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_dot_of_floats(dtype) -> None:
    generator = np.random.default_rng(0)
    a, b = generator.standard_normal((2, 5, 7)).astype(dtype), generator.standard_normal((2, 7, 3)).astype(dtype)
    exact = np.einsum("bij,bjk->bik", a.astype(np.float64), b.astype(np.float64))
    result = one("dot", a, b)
    assert result.dtype == (np.float64 if dtype is np.float64 else np.float32)
    np.testing.assert_allclose(result, exact, rtol=1e-6 if result.itemsize == 4 else 1e-13, atol=1e-7)


@pytest.mark.parametrize("dtype", [d for d in INTEGERS if np.dtype(d).itemsize <= 4])
def test_dot_of_integers_wraps(dtype) -> None:
    limits = np.iinfo(dtype)
    a = np.random.default_rng(0).integers(limits.min, limits.max, (5, 9), dtype, endpoint=True)
    b = np.random.default_rng(1).integers(limits.min, limits.max, (9, 4), dtype, endpoint=True)
    exact = [
        [_wrap(sum(int(x) * int(y) for x, y in zip(row, column, strict=True)), np.int32) for column in b.T] for row in a
    ]
    same(one("dot", a, b), np.array(exact, np.int32))


@pytest.mark.parametrize("dtype", FLOATS)
def test_reductions_of_floats(dtype) -> None:
    x = (np.random.default_rng(0).standard_normal((3, 4, 5)) + 1).astype(dtype)
    wide = x.astype(np.float64)
    for axes in ((0,), (1,), (0, 2), (0, 1, 2)):
        for kind, function in (("sum", np.sum), ("prod", np.prod)):
            rounded = function(wide, axis=axes)
            rounded = rounded if dtype is np.float64 else rounded.astype(np.float32)
            same(one("reduce", x, kind=kind, axes=axes), np.asarray(rounded).astype(dtype))
        same(one("reduce", x, kind="max", axes=axes), np.asarray(np.max(wide, axis=axes)).astype(dtype))
        same(one("reduce", x, kind="min", axes=axes), np.asarray(np.min(wide, axis=axes)).astype(dtype))
    x[1, 2, 3] = np.nan
    assert np.isnan(one("reduce", x, kind="max", axes=(0, 1, 2)).astype(np.float64))
    assert np.isnan(one("reduce", x, kind="min", axes=(2,))[1, 2].astype(np.float64))


@pytest.mark.parametrize("dtype", [*INTEGERS, np.bool_])
def test_reductions_of_integers(dtype) -> None:
    x = np.array([[True, False], [True, True]]) if dtype is np.bool_ else integers(dtype)[:40].reshape(5, 8)
    unsigned = np.dtype(dtype).kind == "u"
    wide = np.dtype(dtype) if np.dtype(dtype).itemsize >= 4 else np.dtype(np.uint32 if unsigned else np.int32)
    for kind, function in (("sum", np.sum), ("prod", np.prod)):
        same(one("reduce", x, kind=kind, axes=(1,)), quiet(lambda: function(x.astype(wide), axis=1, dtype=wide)))  # noqa: B023
    same(one("reduce", x, kind="max", axes=(0,)), x.max(axis=0))
    same(one("reduce", x, kind="min", axes=(0,)), x.min(axis=0))


def test_any_and_all() -> None:
    x = np.array([[True, False], [True, True]])
    same(one("reduce", x, kind="any", axes=(0, 1)), np.array(True))
    same(one("reduce", x, kind="all", axes=(1,)), np.array([False, True]))


def test_arg_reduce() -> None:
    x = np.array([[1, 3, 3, 0], [5, np.nan, 9, np.nan]], np.float32)
    for dtype in (np.float32, np.float16, BF16):
        same(one("arg_reduce", x.astype(dtype), kind="max", axis=1), np.array([1, 1]))
        same(one("arg_reduce", x.astype(dtype), kind="min", axis=1), np.array([3, 1]))
    same(one("arg_reduce", np.array([2, 2, 1], np.uint8), kind="max", axis=0), np.array(0))


@pytest.mark.parametrize("dtype", [np.float32, BF16, np.int8, np.uint16, np.int64])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("kind", ["sum", "prod", "max", "min"])
def test_scans(kind: str, exclusive: bool, reverse: bool, dtype) -> None:
    x = np.random.default_rng(0).integers(0, 3, (4, 6)).astype(dtype)
    result = one("scan", x, kind=kind, axis=1, reverse=reverse, exclusive=exclusive)
    wide = x.astype(np.float64)[:, ::-1] if reverse else x.astype(np.float64)
    combine = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}[kind]
    wanted = combine.accumulate(wide, axis=1)
    if exclusive:
        low, high = (
            (-np.inf, np.inf) if np.dtype(dtype).kind not in "iu" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        )
        start = {"sum": 0, "prod": 1, "max": low, "min": high}[kind]
        wanted = np.concatenate([np.full((4, 1), start), wanted[:, :-1]], 1)
    wanted = wanted[:, ::-1] if reverse else wanted
    if dtype is np.int64 and exclusive and kind == "min":
        wanted = np.where(wanted > 2**62, 0, wanted)  # 2^63 - 1 is no f64
        result = np.where(result == np.iinfo(np.int64).max, 0, result)
    same(result, wanted.astype(result.dtype))


def test_custom_reduction_is_left_to_right() -> None:
    x = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    (result,) = run_op("interp", "reduce_custom", x, axis=1, combine=lambda b, p, q: b.value("sub", p, q))
    wanted = x[:, 0]
    for column in range(1, 5):
        wanted = wanted - x[:, column]
    same(result, wanted)


def test_custom_scan_with_two_values() -> None:
    """h = a * h + b, the recurrence of a linear state space."""
    a, b = np.random.default_rng(0).standard_normal((2, 6, 3)).astype(np.float32)

    def combine(builder, a0, b0, a1, b1):
        return builder.value("mul", a0, a1), builder.value("add", builder.value("mul", b0, a1), b1)

    for reverse in (False, True):
        products, states = run_op("interp", "scan_custom", a, b, axis=0, reverse=reverse, combine=combine)
        order = range(6)[::-1] if reverse else range(6)
        product, state = np.ones(3, np.float32), np.zeros(3, np.float32)
        for row in order:
            product, state = product * a[row], state * a[row] + b[row]
            same(states[row], state)
            same(products[row], product)


def test_custom_reduction_with_branches() -> None:
    x = np.array([[3, 1, 2], [1, 5, 0]], np.int32)

    def combine(builder, p, q):
        with builder.region() as then:
            then.close([p])
        with builder.region() as otherwise:
            otherwise.close([builder.value("neg", q)])
        return builder.op("if", builder.value("lt", p, q), regions=[then.region, otherwise.region])[0]

    (result,) = run_op("interp", "reduce_custom", x, axis=1, combine=combine)
    wanted = []
    for row in x.tolist():
        value = row[0]
        for element in row[1:]:
            value = value if value < element else -element
        wanted.append(value)
    same(result, np.array(wanted, np.int32))


@pytest.mark.parametrize("dtype", [np.float32, BF16, np.int16, np.bool_])
@pytest.mark.parametrize("descending", [False, True])
def test_sort_is_stable_with_nan_largest(descending: bool, dtype) -> None:
    x = np.random.default_rng(0).integers(0, 4, (3, 9)).astype(dtype)
    if np.dtype(dtype).kind not in "iub":
        x[0, [1, 5]] = np.nan
    values, order = run_op("interp", "sort", x, axis=1, descending=descending)
    for row in range(3):
        keys = [math.inf if np.isnan(v) else v for v in x[row].astype(np.float64)]
        wanted = sorted(range(9), key=lambda n: -keys[n] if descending else keys[n])
        assert order[row].tolist() == wanted
        same(values[row], x[row][wanted])
