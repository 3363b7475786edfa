"""Types of results, literals, indexing and every built-in of the language, against NumPy on the interpreter."""

import math
from typing import Any

import numpy as np
import pytest

import opdsl as od
from opdsl.ir.core import walk
from opdsl.ir.numpy_types import numpy_dtype
from opdsl.ir.types import DTYPES, DType
from opdsl.ir.verifier import verify
from opdsl.lang.promotion import join
from opdsl.support.errors import Misuse


@od.kernel
def unary(
    x: od.Tensor["T", "M", "N"],
    y: od.Tensor["U", "R", "S"],
    *,
    f: od.constexpr,
    M: od.constexpr,
    N: od.constexpr,
    R: od.constexpr,
    S: od.constexpr,
):
    od.copy_out(f(od.copy_in(x)), y)


def apply(f: Any, x: np.ndarray, shape: tuple[int, int] | None = None, dtype: Any = None) -> np.ndarray:
    """A function of one 2-d tile, run by the interpreter."""
    y = np.zeros(shape or x.shape, dtype or x.dtype)
    function = f if hasattr(f, "opdsl_builtin") else od.function(f)
    verify(unary.lower(x, y, f=function))
    unary(x, y, f=function, target="interp")
    return y


def result_dtype(f: Any, *dtypes: DType) -> DType:
    """The dtype of f of tiles of some dtypes."""
    found: list[DType] = []

    @od.kernel
    def k(a: od.Tensor["A", 4], b: od.Tensor["B", 4], *, f: od.constexpr, note: od.constexpr):
        note(f(od.copy_in(a), od.copy_in(b)).dtype)

    k.lower(A=dtypes[0], B=dtypes[-1], f=od.function(f), note=found.append)
    return found[0]


# --- types of results -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("f32", "f64", "f64"), ("f16", "f32", "f32"), ("f16", "bf16", "f32"), ("f8e4m3", "f8e5m2", "f32"),
        ("f8e4m3", "bf16", "bf16"), ("i32", "f16", "f16"), ("u8", "i8", "i16"), ("u16", "i32", "i32"),
        ("u32", "i32", "i64"), ("u32", "i64", "i64"), ("u8", "u32", "u32"), ("bool", "i8", "i8"), ("bool", "f16", "f16"),
    ],
)  # fmt: skip
def test_mixed_dtypes(left: str, right: str, expected: str) -> None:
    a, b = DTYPES[left], DTYPES[right]
    assert result_dtype(lambda x, y: x + y, a, b) == DTYPES[expected]
    assert result_dtype(lambda x, y: od.where(x == x, x, y), b, a) == DTYPES[expected]


def test_join_is_commutative_and_idempotent() -> None:
    for a in DTYPES.values():
        assert join(a, a) is a
        for b in DTYPES.values():
            try:
                assert join(a, b) == join(b, a)
            except Misuse:
                assert {a.kind, b.kind} == {"int", "uint"}


@pytest.mark.parametrize("dtype", ["f64", "f32", "f16", "bf16", "f8e4m3", "f8e5m2"])
def test_numbers_take_the_type_of_floats(dtype: str) -> None:
    d = DTYPES[dtype]
    assert result_dtype(lambda x, y: x * 2.0 + 1, d) == d
    assert result_dtype(lambda x, y: 1 / x, d) == d
    assert result_dtype(lambda x, y: od.maximum(x, 0), d) == d
    assert result_dtype(lambda x, y: x > 0, d) == od.bool


@pytest.mark.parametrize("dtype", ["i64", "i32", "i16", "i8", "u64", "u32", "u16", "u8"])
def test_numbers_and_integers(dtype: str) -> None:
    d = DTYPES[dtype]
    assert result_dtype(lambda x, y: x * 2 + 1, d) == d
    assert result_dtype(lambda x, y: x * 2.0, d) == od.f32
    assert result_dtype(lambda x, y: x / 2, d) == od.f32
    assert result_dtype(lambda x, y: x // 2 % 3, d) == d
    assert result_dtype(lambda x, y: x > 300, d) == od.bool
    assert result_dtype(lambda x, y: od.exp(x), d) == od.f32
    assert result_dtype(lambda x, y: x << 1, d) == d


def test_bools_count_in_i32() -> None:
    assert result_dtype(lambda x, y: x + x, od.bool) == od.i32
    assert result_dtype(lambda x, y: x + 1, od.bool) == od.i32
    assert result_dtype(lambda x, y: od.sum(x), od.bool) == od.i32
    assert result_dtype(lambda x, y: x & ~y, od.bool) == od.bool
    assert result_dtype(lambda x, y: x * 0.5, od.bool) == od.f32


def test_numbers_alone() -> None:
    assert result_dtype(lambda x, y: od.where(x > 0, 1, 0), od.f16) == od.i64
    assert result_dtype(lambda x, y: od.where(x > 0, 1.0, 0), od.f16) == od.f32
    assert result_dtype(lambda x, y: od.full(4, 1), od.f16) == od.i64


# --- indexing ---------------------------------------------------------------------------------------------------------


SLICES = {
    "block": (od.function(lambda x, i, n: od.copy_in(x[i : i + 8])), (8,)),
    "twice": (od.function(lambda x, i, n: od.copy_in(x[2 * i : 2 * i + 4])), (4,)),
    "strided": (od.function(lambda x, i, n: od.copy_in(x[i : i + 4 * 3 : 3])), (4,)),
    "uneven": (od.function(lambda x, i, n: od.copy_in(x[i : i + 10 : 3])), (4,)),
    "scaled": (od.function(lambda x, i, n: od.copy_in(x[i * 4 - 1 : 4 * (i + 1) + 1])), (6,)),
    "nonlinear": (od.function(lambda x, i, n: od.copy_in(x[n // 3 * i : i * (n // 3) + 5])), (5,)),
    "minimum": (od.function(lambda x, i, n: od.copy_in(x[od.minimum(i, n) : od.minimum(i, n) + 2])), (2,)),
    "other": (od.function(lambda x, i, n: od.copy_in(x[i + n : n + 3 + i])), (3,)),
    "before": (od.function(lambda x, i, n: od.copy_in(x[-2:4])), (6,)),
    "from_start": (od.function(lambda x, i, n: od.copy_in(x[:5])), (5,)),
    "narrow": (od.function(lambda x, i, n: od.copy_in(x[od.cast(i, od.i32) + 1 : od.cast(i, od.i32) + 4])), (3,)),
    "gather": (od.function(lambda x, i, n: od.copy_in(x[i + 2 * od.arange(6, dtype=od.i32)])), (6,)),
}


@pytest.mark.parametrize("name", SLICES)
def test_static_length(name: str) -> None:
    f, shape = SLICES[name]

    @od.kernel
    def k(x: od.Tensor["T", "N"], i: od.i64, *, f: od.constexpr, shape: od.constexpr):
        od.static_assert(f(x, i, x.shape[0]).shape == shape)

    k.lower(T=od.f32, f=f, shape=shape)


def test_reads_and_writes_out_of_bounds() -> None:
    @od.kernel
    def k(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], *, SHIFT: od.constexpr):
        for i in od.parallel(range(0, x.shape[0], 4)):
            od.copy_out(od.copy_in(x[i + SHIFT : i + SHIFT + 4], pad=-7), y[i : i + 4])

    x, y = np.arange(10, dtype=np.int32), np.zeros(10, np.int32)
    k(x, y, SHIFT=3, target="interp")
    assert y.tolist() == [3, 4, 5, 6, 7, 8, 9, -7, -7, -7]
    k(x, y, SHIFT=-2, target="interp")
    assert y.tolist() == [-7, -7, 0, 1, 2, 3, 4, 5, 6, 7]


def test_places_of_many_kinds() -> None:
    @od.kernel
    def k(x: od.Tensor["T", "A", "B", 6], y: od.Tensor["T", 4, 3, 6], *, A: od.constexpr, B: od.constexpr):
        rows = od.arange(4)[:, None]
        columns = 2 - od.arange(3)
        od.copy_out(od.copy_in(x[rows, columns, ...]), y)
        od.copy_out(od.copy_in(x[0, 0, 0]) + 100, y[0, 0, 0])
        od.copy_out(od.copy_in(x[1]), y[1])
        od.copy_out(5, y[3, 0:2, ::2])

    x, y = np.arange(72, dtype=np.float64).reshape(4, 3, 6), np.zeros((4, 3, 6))
    k(x, y, target="interp")
    expected = x[:, ::-1].copy()
    expected[0, 0, 0] = 100
    expected[1] = x[1]
    expected[3, 0:2, ::2] = 5
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    ("f", "reference"),
    [
        (lambda t: t[1:3, ::2], lambda x: x[1:3, ::2]),
        (lambda t: t[::-1, -1:], lambda x: x[::-1, -1:]),
        (lambda t: t[2][None, 1:3], lambda x: x[2][None, 1:3]),
        (lambda t: t[..., 0][:, None], lambda x: x[..., 0][:, None]),
        (lambda t: t[0, 1] + t * 0, lambda x: x[0, 1] + x * 0),
        (lambda t: t.T, lambda x: x.T),
        (lambda t: t.reshape(2, -1), lambda x: x.reshape(2, -1)),
        (lambda t: od.flip(t, 0), lambda x: x[::-1]),
        (lambda t: od.concat((t, t[0:1] * 2), 0), lambda x: np.concatenate((x, x[0:1] * 2))),
        (lambda t: od.stack((t[0], t[1], t[2]), 1), lambda x: x.T[:, :3]),
        (lambda t: od.split(t, 2, 1)[1], lambda x: x[:, 2:]),
        (lambda t: od.transpose(od.expand_dims(t, 1), (1, 2, 0))[0], lambda x: x.T),
        (lambda t: od.broadcast_to(t[0], (3, 4)), lambda x: np.broadcast_to(x[0], (3, 4))),
        (lambda t: od.squeeze(t[None, 0:1])[None], lambda x: x[0:1]),
    ],
)
def test_shapes_of_tiles(f: Any, reference: Any) -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    expected = reference(x)
    np.testing.assert_array_equal(apply(f, x, expected.shape), expected)


# --- built-ins --------------------------------------------------------------------------------------------------------

FLOAT_FUNCTIONS: dict[str, Any] = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2, "log10": np.log10,
    "log1p": np.log1p, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "erf": np.vectorize(math.erf), "floor": np.floor, "ceil": np.ceil,
    "trunc": np.trunc, "round": np.round, "abs": np.abs,
}  # fmt: skip


@pytest.mark.parametrize("name", FLOAT_FUNCTIONS)
def test_functions_of_floats(name: str) -> None:
    x = np.linspace(0.05, 0.95, 12).reshape(3, 4)
    f = getattr(od, name)
    expected = FLOAT_FUNCTIONS[name](x)
    np.testing.assert_allclose(apply(f, x), expected, rtol=1e-12)

    @od.kernel
    def on_a_number(y: od.Tensor[od.f64, 1], *, f: od.constexpr):
        od.copy_out(f(0.05), y[0])

    y = np.zeros(1)
    on_a_number(y, f=f, target="interp")
    np.testing.assert_allclose(y[0], expected[0, 0], rtol=1e-12)


REDUCTIONS: list[tuple[str, Any, Any]] = [
    ("sum", lambda t: od.sum(t, axis=1, keepdims=True), lambda x: x.sum(1, keepdims=True)),
    ("sum of all", lambda t: od.sum(t) + t, lambda x: x.sum() + x),
    ("axes", lambda t: od.max(t, axis=(0, -1), keepdims=True), lambda x: x.max(keepdims=True)),
    ("method", lambda t: t.min(axis=0)[None], lambda x: x.min(0)[None]),
    ("prod", lambda t: od.prod(t, 0, True), lambda x: x.prod(0, keepdims=True)),
    ("mean", lambda t: od.mean(t, 0, True), lambda x: x.mean(0, keepdims=True)),
    ("any", lambda t: od.any(t > 5, 1, True), lambda x: (x > 5).any(1, keepdims=True)),
    ("all", lambda t: od.all(t, 1, True), lambda x: x.all(1, keepdims=True)),
    ("argmax", lambda t: od.argmax(t, 1, True), lambda x: x.argmax(1)[:, None]),
    ("argmin", lambda t: od.argmin(t) + od.cast(t, od.i64), lambda x: x.argmin() + x),
    ("cumsum", lambda t: od.cumsum(t, axis=1), lambda x: x.cumsum(1)),
    ("reverse", lambda t: od.cumsum(t, 0, reverse=True), lambda x: x[::-1].cumsum(0)[::-1]),
    ("exclusive", lambda t: od.cumsum(t, 0, exclusive=True), lambda x: x.cumsum(0) - x),
    ("cumprod", lambda t: od.cumprod(t, 1), lambda x: x.cumprod(1)),
    ("cummax", lambda t: od.cummax(t, 1), lambda x: np.maximum.accumulate(x, 1)),
    ("cummin", lambda t: od.cummin(t, 1), lambda x: np.minimum.accumulate(x, 1)),
    ("sort", lambda t: od.sort(t), lambda x: np.sort(x)),
    ("argsort", lambda t: od.argsort(t, 0), lambda x: np.argsort(x, 0, kind="stable")),
    ("topk values", lambda t: od.topk(t, 2)[0], lambda x: -np.sort(-x)[:, :2]),
    ("topk indices", lambda t: od.topk(t, 2, axis=0, largest=False)[1], lambda x: np.argsort(x, 0, kind="stable")[:2]),
    ("dot", lambda t: od.dot(t, t.T), lambda x: x @ x.T),
    ("matmul", lambda t: t.T @ t, lambda x: x.T @ x),
    ("reduce", lambda t: od.reduce(t, 1, lambda a, b: a * 2 + b, keepdims=True),
     lambda x: (((x[:, 0] * 2 + x[:, 1]) * 2 + x[:, 2]) * 2 + x[:, 3])[:, None]),
    ("scan", lambda t: od.scan(t, 1, od.maximum), lambda x: np.maximum.accumulate(x, 1)),
    ("where", lambda t: od.where(t > 3, t, -1), lambda x: np.where(x > 3, x, -1)),
    ("clamp", lambda t: od.clamp(t, 2, 5), lambda x: x.clip(2, 5)),
    ("fma", lambda t: od.fma(t, 2.0, 1.0), lambda x: x * 2 + 1),
    ("pow", lambda t: t ** 3 + od.pow(t, 2), lambda x: x ** 3 + x ** 2),
    ("atan2", lambda t: od.atan2(t, 2.0), lambda x: np.arctan2(x, 2)),
    ("isnan", lambda t: od.isnan(t / (t - t)), lambda x: x == 0),
    ("floor division", lambda t: -t // 3 + -t % 3, lambda x: -x // 3 + -x % 3),
    ("cdiv", lambda t: od.cdiv(od.cast(t, od.i64), 4), lambda x: -(-x // 4)),
    ("min and max of scalars", lambda t: max(t[0, 0], t[1, 1], 2) + min(t[0, 1], 3) + t * 0,
     lambda x: max(x[0, 0], x[1, 1], 2) + min(x[0, 1], 3) + x * 0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "f", "reference"), REDUCTIONS, ids=[name for name, _, _ in REDUCTIONS])
def test_builtins(name: str, f: Any, reference: Any) -> None:
    x = np.random.default_rng(3).permutation(12).astype(np.float64).reshape(3, 4)
    with np.errstate(all="ignore"):
        expected = np.asarray(reference(x))
        np.testing.assert_allclose(apply(f, x, expected.shape, np.float64), expected, rtol=1e-12)


def test_reduce_of_tuples() -> None:
    @od.function
    def later(value_a, index_a, value_b, index_b):
        takes = value_b >= value_a
        return od.where(takes, value_b, value_a), index_b if takes else index_a

    @od.kernel
    def k(x: od.Tensor["T", 8], y: od.Tensor["T", 2]):
        value, index = od.reduce((od.copy_in(x), od.arange(8)), 0, later)
        od.copy_out(value, y[0])
        od.copy_out(index, y[1])

    x, y = np.array([1, 5, 2, 5, 3, 0, 5, 1], np.float32), np.zeros(2, np.float32)
    k(x, y, target="interp")
    assert y.tolist() == [5, 6]


def test_random_numbers() -> None:
    @od.kernel
    def k(y: od.Tensor[od.f32, 3, 4096], z: od.Tensor[od.i64, 4096], seed: od.i64):
        counter = od.arange(4096)
        od.copy_out(od.rand(seed, counter), y[0])
        od.copy_out(od.randn(seed, counter), y[1])
        od.copy_out(od.randint(seed, counter, -3, 4), z)

    y, z = np.zeros((3, 4096), np.float32), np.zeros(4096, np.int64)
    k(y, z, 7, target="interp")
    assert y[0].min() >= 0 and y[0].max() < 1 and abs(y[0].mean() - 0.5) < 0.02
    assert abs(y[1].mean()) < 0.05 and abs(y[1].std() - 1) < 0.05 and np.isfinite(y[1]).all()
    assert set(z.tolist()) == set(range(-3, 4))


def test_mean_of_f16_does_not_overflow() -> None:
    x = np.full((2, 8), 30000, np.float16)
    assert apply(lambda t: od.mean(t, 1, True) + t * 0, x).tolist() == x.tolist()


def test_integer_identities_leave_no_ops() -> None:
    @od.kernel
    def k(x: od.Tensor[od.i32, "N"], *, stride: od.constexpr = 1):
        for i in od.parallel(range(x.shape[0])):
            od.copy_out(1, x[i * stride + 0])

    assert not [op for op in walk(k.lower().body) if op.name in ("add", "mul")]


def test_every_dtype_has_a_numpy_dtype_and_casts() -> None:
    for name, dtype in DTYPES.items():
        x = np.array([[0, 1, 1, 0]]).astype(numpy_dtype(name))
        for wide in (od.f32, od.i32):
            found = apply(CASTS[wide], x, dtype=numpy_dtype(wide.name))
            assert found.tolist() == [[0, 1, 1, 0]], dtype


CASTS = {od.f32: od.function(lambda t: t.astype(od.f32)), od.i32: od.function(lambda t: od.i32(t))}
