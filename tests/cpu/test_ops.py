"""The operator library, driven by its records: values, dtypes, shapes, strides, special values, threads, errors.

Few sizes, so that few kernels are compiled: every operator on every target in f32, other dtypes and layouts on one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opdsl.ops.registry import OPERATORS
from support.checks import BF16, LAYOUTS, Guarded, check_bits, exact_integers, lay_out
from support.operators import calls_of, check, expected

import opdsl as od
from opdsl import _runtime, ops
from opdsl.support.knobs import knobs

NAMES = sorted(OPERATORS)
TARGETS = [f"cpu:{isa}" for isa in ("avx512", "avx2", "baseline") if _runtime.supports_isa(isa)]
SIZES = (20011, 1)  # more than one task, and the least
F32 = np.dtype(np.float32)


@pytest.fixture(autouse=True, scope="module")
def one_instruction_set() -> Iterator[None]:
    """That of TARGETS[0] for calls without a target, so that few kernels are compiled."""
    with knobs.scope(isa=TARGETS[0].partition(":")[2]):
        yield


# One for each way of computing: what is tested for every target, dtype and layout.
SOME = (
    *("add", "gelu", "where", "sum", "var", "argmax", "logsumexp", "softmax", "layer_norm", "matmul", "transpose"),
    *("embedding", "embedding_backward"),
)


@pytest.mark.parametrize("target", [*TARGETS, "interp"])
@pytest.mark.parametrize("name", NAMES)
def test_values(name: str, target: str) -> None:
    if target in TARGETS[1:] and name not in SOME:
        pytest.skip("its functions are tested for every instruction set in test_simd")
    operator = OPERATORS[name]
    for size in SIZES if target != "interp" else (301, 1):
        for call in calls_of(operator, F32, size):
            # Of one element the plain result may be right by chance.
            check(operator, call, F32, target, ulps=64 if size == 1 else 0)


@pytest.mark.parametrize("name", NAMES)
def test_empty(name: str) -> None:
    operator = OPERATORS[name]
    for call in calls_of(operator, F32, 0):
        arguments, keywords = list(call.arguments), dict(call.keywords)
        if name in ("max", "min", "argmax", "argmin") and arguments[0].size == 0:
            with pytest.raises(od.ShapeError):
                operator.function(*arguments, **keywords)
            continue
        with np.errstate(all="ignore"), pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *_, **__: None)
            wide, _ = expected(operator, call, F32)
        result = operator.function(*arguments, **keywords)
        assert result.shape == wide.shape
        np.testing.assert_allclose(result.astype(np.float64), wide.astype(np.float64), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, BF16])
@pytest.mark.parametrize("name", ["add", "gelu", "sum", "var", "softmax", "layer_norm", "matmul", "transpose"])
def test_dtypes(name: str, dtype: Any) -> None:
    for call in calls_of(OPERATORS[name], dtype, 2003):
        check(OPERATORS[name], call, dtype, None)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "contiguous"])
@pytest.mark.parametrize("name", SOME)
def test_layouts(name: str, layout: str) -> None:
    for call in calls_of(OPERATORS[name], F32, 2003):
        check(OPERATORS[name], call, F32, None, layout)


@pytest.mark.parametrize("name", NAMES)
def test_threads_and_repetition_do_not_change_bits(name: str) -> None:
    operator = OPERATORS[name]
    count = od.get_num_threads()
    try:
        for call in calls_of(operator, F32, 20011):
            results = []
            for threads in (1, 2, 2):
                od.set_num_threads(threads)
                results.append(operator.function(*call.arguments, **call.keywords))
            for other in results[1:]:
                assert results[0].tobytes() == other.tobytes()
    finally:
        od.set_num_threads(count)


@pytest.mark.parametrize("columns", [64, 320, 1000, 4096])
def test_a_row_does_not_depend_on_the_rows_around_it(columns: int) -> None:
    x = (np.random.default_rng(3).standard_normal((37, columns)) * 4).astype(np.float32)
    for function in (ops.softmax, ops.log_softmax):
        all_rows = function(x)
        for row in (0, 1, 7, 16, 36):
            check_bits(function(x[row : row + 1])[0], all_rows[row])


# --- exact data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64])
def test_integers(dtype: Any) -> None:
    x, y = (exact_integers((37, 53), dtype, seed, 5) for seed in range(2))
    z = y[0]
    check_bits(ops.add(x, z), x + z)
    check_bits(ops.mul(x, y), x * y)
    check_bits(ops.maximum(x, y), np.maximum(x, y))
    check_bits(ops.sum(x, 0), x.sum(0, dtype=np.int64))
    check_bits(ops.sum(x.T), x.sum(dtype=np.int64))
    check_bits(ops.max(x, 1), x.max(1))
    check_bits(ops.argmin(x, 0), x.argmin(0))
    check_bits(ops.transpose(x), x.T.copy())
    if dtype != np.int64:
        check_bits(ops.matmul(x, y.T), x.astype(np.int32) @ y.T.astype(np.int32))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, BF16])
@pytest.mark.parametrize(
    "shape",
    [(70, 41, 53), (3, 300, 130), (1, 64, 40), (20, 1, 16), (20, 0, 24), (70, 0, 130), (40, 8, 0), (0, 5, 20)],
)
def test_matmul_exactly(shape: tuple[int, int, int], dtype: Any) -> None:
    m, k, n = shape
    a, b = exact_integers((m, k), dtype, 1, density=0.5), exact_integers((k, n), dtype, 2, density=0.5)
    bias = exact_integers((n,), dtype, 3)
    product = a.astype(np.float64) @ b.astype(np.float64) + bias.astype(np.float64)
    for left, right in ((a, b), (lay_out(a, "transposed"), lay_out(b, "transposed")), (a, lay_out(b, "strided"))):
        out = Guarded((m, n), dtype)
        ops.matmul(left, right, bias=bias, out=out.view)
        check_bits(out.check() + np.zeros((), dtype), product.astype(dtype) + np.zeros((), dtype))


def test_matmul_into_an_operand() -> None:
    a, b = exact_integers((70, 70), np.float32, 1), exact_integers((70, 70), np.float32, 2)
    for _ in range(2):  # the second time after the short way of repeated calls has been learnt
        for place in (0, 1):
            operands = [a.copy(), b.copy()]
            assert ops.matmul(*operands, out=operands[place]) is operands[place]
            check_bits(operands[place], a @ b)
            ops.matmul(a, b, out=np.empty_like(a))


def test_stacks_of_matrices_repeat() -> None:
    stacks = (((3, 5, 7), (3, 7, 9)), ((3, 5, 7), (1, 7, 9)), ((1, 5, 7), (1, 7, 9)), ((2, 3, 5, 7), (3, 7, 9)))
    for first, second in stacks:
        for seed in range(3):
            a, b = exact_integers(first, np.float32, seed), exact_integers(second, np.float32, seed + 1)
            check_bits(ops.matmul(a, b), np.matmul(a, b))
            check_bits(ops.matmul(a, b, out=np.full_like(np.matmul(a, b), np.nan)), np.matmul(a, b))


def test_sums_are_exact_where_nothing_rounds() -> None:
    x = exact_integers((200_003,), np.float32, 7, 3)
    assert ops.sum(x) == x.astype(np.float64).sum()
    tall = x[:200_000].reshape(100_000, 2)
    np.testing.assert_array_equal(ops.sum(tall, 0), tall.astype(np.float64).sum(0))
    np.testing.assert_array_equal(ops.mean(tall.T, 1), tall.astype(np.float64).mean(0).astype(np.float32))
    assert ops.argmax(x) == x.argmax()


def test_embedding_backward_adds_equal_ids() -> None:
    ids = np.array([[3, 1, 3], [3, 0, 1]])
    grad = exact_integers((2, 3, 70), np.float32)
    check_bits(ops.embedding_backward(grad, ids, 5), OPERATORS["embedding_backward"].reference(grad, ids, 5))
    dropped = ops.embedding_backward(grad, ids, 5, padding_idx=3)
    assert not dropped[3].any() and dropped[1].any()


# --- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((), ()),
        ((5,), ()),
        ((1,), (7,)),
        ((4, 1), (1, 9)),
        ((2, 3, 4), (3, 1)),
        ((2, 1, 3, 1, 2, 3), (4, 1, 5, 1, 3)),
        ((0, 3), (1, 3)),
    ],
)
def test_broadcasting(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    x, y = exact_integers(first, np.float32, 1), exact_integers(second, np.float32, 2)
    for a, b in ((x, y), (x.T, y.T)):
        try:
            wanted = a + b
        except ValueError:
            continue
        check_bits(ops.add(a, b), wanted)
        check_bits(ops.where(a, b, 7.0), np.where(a != 0, b, np.float32(7)).astype(np.float32))


def test_outputs_keep_the_order_of_axes() -> None:
    x = exact_integers((30, 40), np.float32).T
    assert ops.add(x, x).strides == x.strides
    assert ops.add(x, x[0]).flags.f_contiguous


def test_in_place() -> None:
    x = exact_integers((33, 70), np.float32)
    y = x.copy()
    assert ops.add(y, 1.0, out=y) is y
    check_bits(y, x + 1)
    z = np.random.default_rng(0).standard_normal((5, 100)).astype(np.float32)
    wanted = ops.softmax(z)
    check_bits(ops.softmax(z, out=z), wanted)


@pytest.mark.parametrize("axes", [(0, 2, 1), (2, 0, 1), (1, 0, 2), (2, 1, 0)])
@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.int64, np.bool_])
def test_permutations(axes: tuple[int, ...], dtype: Any) -> None:
    x = exact_integers((19, 35, 21), np.int64, limit=100).astype(dtype)
    for view in (x, x[::-1, ::2]):
        check_bits(ops.permute(view, axes), np.ascontiguousarray(view.transpose(axes)))


def test_large_outputs_go_past_the_caches() -> None:
    x = exact_integers((2049, 2111), np.float32)  # 16 MiB and a little; rows end in the middle of a line
    check_bits(ops.add(x, x), x + x)
    check_bits(ops.transpose(x), np.ascontiguousarray(x.T))


# --- dtypes of results -----------------------------------------------------------------------------------------------


def test_promotion() -> None:
    i8, i32, u8, f16, f32 = (np.ones(3, d) for d in (np.int8, np.int32, np.uint8, np.float16, np.float32))
    bf16 = np.ones(3, BF16)
    assert ops.add(i32, f32).dtype == np.float32
    assert ops.add(i8, u8).dtype == np.int16
    assert ops.add(f16, bf16).dtype == np.float32
    assert ops.add(f16, 2.5).dtype == np.float16
    assert ops.add(i32, 2).dtype == np.int32
    assert ops.mul(i32, 0.5).dtype == np.float32
    assert ops.div(i32, i32).dtype == np.float32
    assert ops.exp(i8).dtype == np.float32
    assert ops.lt(f16, i32).dtype == np.bool_
    assert ops.sum(i8).dtype == np.int64
    assert ops.mean(u8).dtype == np.float32
    assert ops.relu(i8).dtype == np.int8
    assert ops.matmul(i8, i8).dtype == np.int32
    assert ops.add(f32, f32, out=np.empty(3)).dtype == np.float64


# --- special values --------------------------------------------------------------------------------------------------

SPECIAL = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-42, -1e-42, 1e30, -1e30, 1.0, -1.0, 88.0, -104.0], np.float32
)


@pytest.mark.parametrize("name", [n for n in NAMES if OPERATORS[n].family in ("unary", "activation")])
def test_special_values(name: str) -> None:
    operator = OPERATORS[name]
    call = next(calls_of(operator, F32, 1))
    x = np.tile(SPECIAL, 7)
    result = operator.function(x, *call.arguments[1:], **call.keywords)
    with np.errstate(all="ignore"):
        wanted = operator.reference(x, *call.arguments[1:], **call.keywords).astype(result.dtype)
    undecided = np.isnan(wanted) & np.isinf(x)  # such as -inf * 0, which depends on how the formula is written
    np.testing.assert_array_equal(np.isnan(result)[~undecided], np.isnan(wanted)[~undecided])
    np.testing.assert_array_equal(np.isinf(result)[~undecided], np.isinf(wanted)[~undecided])


def test_rows_that_overflow_or_are_masked() -> None:
    x = np.array([[1e4, 1e4 - 1, -1e4], [-np.inf, 0, -np.inf], [3e38, -3e38, 0]], np.float32)
    np.testing.assert_allclose(ops.softmax(x).sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(ops.logsumexp(x, 1), [1e4 + np.log1p(np.exp(-1)), 0, 3e38], rtol=1e-6)
    np.testing.assert_array_equal(ops.log_softmax(x)[1], [-np.inf, 0, -np.inf])
    masked = np.full((2, 70), -np.inf, np.float32)
    assert np.isnan(ops.softmax(masked)).all()
    np.testing.assert_array_equal(ops.logsumexp(masked, 1), [-np.inf, -np.inf])
    masked[0, 3] = np.inf
    assert ops.logsumexp(masked, 1)[0] == np.inf


def test_nan_wins() -> None:
    x = exact_integers((9, 40), np.float32)
    x[4, 17] = x[4, 30] = np.nan
    for axis in (0, 1, None):
        np.testing.assert_array_equal(ops.max(x, axis), x.max(axis))
        np.testing.assert_array_equal(ops.min(x, axis), x.min(axis))
        np.testing.assert_array_equal(ops.argmax(x, axis), x.argmax(axis))
        np.testing.assert_array_equal(ops.argmin(x, axis), x.argmin(axis))
    np.testing.assert_array_equal(ops.maximum(x, 0.0), np.maximum(x, 0))


# --- other kinds of array --------------------------------------------------------------------------------------------


def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    x = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    total = ops.add(x, x.T.contiguous().T)
    assert isinstance(total, torch.Tensor) and torch.equal(total, x + x)
    out = torch.empty(3)
    assert ops.sum(x, 1, out=out) is out and torch.equal(out, x.sum(1))
    half = ops.relu(x.to(torch.bfloat16))
    assert half.dtype == torch.bfloat16 and torch.equal(half, x.to(torch.bfloat16))
    assert torch.equal(ops.matmul(x, x.T), x @ x.T)


def as_torch(value: Any) -> Any:
    """The array as a tensor of the same strides."""
    torch = pytest.importorskip("torch")
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype == BF16:
        return torch.from_numpy(value.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(value)


@pytest.mark.parametrize("dtype", [F32, BF16])
@pytest.mark.parametrize("name", SOME)
def test_torch_tensors_as_arrays(name: str, dtype: Any) -> None:
    """The first call and the next, which go different ways, give what arrays give, to the bit, as tensors."""
    function = OPERATORS[name].function
    for call in calls_of(OPERATORS[name], dtype, 301):
        expected_bits = np.asarray(function(*call.arguments, **call.keywords))
        arguments = [as_torch(a) for a in call.arguments]
        keywords = {key: as_torch(a) for key, a in call.keywords.items()}
        for _ in range(2):
            result = function(*arguments, **keywords)
            assert type(result).__module__ == "torch"
            assert result.shape == expected_bits.shape
            np.testing.assert_array_equal(as_bytes(result), expected_bits.reshape(-1).view(np.uint8))


def as_bytes(tensor: Any) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = tensor.reshape(-1).view(pytest.importorskip("torch").uint8).numpy()
    return found


def test_torch_tensors_that_kernels_cannot_take() -> None:
    torch = pytest.importorskip("torch")
    for wrong, says in (
        (torch.ones(3, requires_grad=True), "requires a gradient"),
        (torch.ones(3, dtype=torch.bfloat16, requires_grad=True), "requires a gradient"),
        (torch.complex(torch.ones(3), torch.ones(3)).conj().imag, "resolve_neg"),
        (torch.ones(3).to_sparse(), "x"),
        (torch.ones(3, dtype=torch.complex64), "not one that kernels have"),
    ):
        for operator in (ops.softmax, ops.relu, ops.sum, lambda x: ops.layer_norm(x, 3), lambda x: ops.matmul(x, x)):
            with pytest.raises(od.OpdslError, match=says):
                operator(wrong)


# --- errors ----------------------------------------------------------------------------------------------------------

X = np.ones((3, 4), np.float32)


@pytest.mark.parametrize(
    ("call", "kind", "says"),
    [
        (lambda: ops.add(X, np.ones(3, np.float32)), od.ShapeError, "do not broadcast: x (3, 4), y (3,)"),
        (lambda: ops.add(X, X, out=np.ones((4, 3), np.float32)), od.ShapeError, "out has shape (4, 3)"),
        (lambda: ops.exp(X, out=np.ones((3, 4), np.int32)), od.DTypeError, "the result is f32, which out, of i32"),
        (lambda: ops.add(X, X.astype(complex)), od.DTypeError, "y has dtype complex128"),
        (lambda: ops.add(X.astype(np.uint8), 300), od.ArgumentError, "cannot hold"),
        (lambda: ops.add(X.astype(np.uint64), X.astype(np.int64)), od.DTypeError, "no common integer type"),
        (lambda: ops.neg(X > 0), od.DTypeError, "float and integer"),
        (lambda: ops.add(X, "a"), od.ArgumentError, "y must be a NumPy array"),
        (lambda: ops.clamp(X), od.ArgumentError, "neither min nor max"),
        (lambda: ops.elu(X, "a"), od.ArgumentError, "alpha is 'a'"),
        (lambda: ops.gelu(X, approximate="erf"), od.ArgumentError, 'it is "none" or "tanh"'),
        (lambda: ops.sum(X, 2), od.ShapeError, "axis is 2, but the array has 2 axes"),
        (lambda: ops.sum(X, (0, 0)), od.ArgumentError, "names an axis twice"),
        (lambda: ops.sum(X, 1.5), od.ArgumentError, "axis is 1.5"),
        (lambda: ops.max(X[:0]), od.ShapeError, "no element to choose"),
        (lambda: ops.argmax(X, (0, 1)), od.ArgumentError, "one number or None"),
        (lambda: ops.permute(X, (0, 0)), od.ShapeError, "name each of 0 to 1 once"),
        (lambda: ops.transpose(X[0]), od.ShapeError, "two axes or more"),
        (lambda: ops.copy(X, out=np.ones((3, 4))), od.DTypeError, "out has dtype float64"),
        (lambda: ops.cast(X, "float33"), od.ArgumentError, "which is no dtype"),
        (lambda: ops.layer_norm(X, 3), od.ShapeError, "normalized_shape is (3,), but x has shape (3, 4)"),
        (lambda: ops.layer_norm(X, 4, X[0, :3]), od.ShapeError, "weight has shape (3,)"),
        (lambda: ops.layer_norm(X.astype(int), 4), od.DTypeError, "floats are needed"),
        (lambda: ops.matmul(X, X), od.ShapeError, "a has 4 columns and b 3 rows"),
        (lambda: ops.matmul(X, X.T, bias=X), od.ShapeError, "bias has shape (3, 4)"),
        (lambda: ops.matmul(X, X.T, activation="gulp"), od.ArgumentError, "no activation 'gulp'"),
        (lambda: ops.matmul(X.astype(int), X.T.astype(int)), od.DTypeError, "no product of i64"),
        (lambda: ops.embedding(np.array([3]), X), od.ArgumentError, "ids holds 3, but the rows of weight are 0 to 2"),
        (lambda: ops.embedding(X, X), od.DTypeError, "where integers are needed"),
        (lambda: ops.add(X, X, target="gpu"), od.ArgumentError, "there is no target 'gpu'"),
    ],
)
def test_errors(call: Any, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert says in message
    assert "test_ops.py:" in message  # the place of the call


def test_errors_leave_outputs_alone() -> None:
    out = np.full((3, 4), 7, np.float32)
    for call in (
        lambda: ops.add(X, np.ones(3, np.float32), out=out),
        lambda: ops.softmax(X, 5, out=out),
        lambda: ops.matmul(X, X, out=out),
        lambda: ops.embedding(np.array([0, 1, 9]), X, out=out),
        lambda: ops.layer_norm(X, 4, X[0, :3], out=out),
    ):
        with pytest.raises(od.OpdslError):
            call()
    assert (out == 7).all()
    read_only = out.copy()
    read_only.flags.writeable = False
    with pytest.raises(od.ArgumentError, match="read-only"):
        ops.add(X, X, out=read_only)


def test_operators_not_covered() -> None:
    assert set(ops.__all__) == set(OPERATORS), "every operator has a record"


def test_page(update_golden: bool) -> None:
    """The tables of docs/operators.md are those of the records."""
    from opdsl.ops.page import renewed

    path = Path(__file__).parents[2] / "docs" / "operators.md"
    if update_golden:
        path.write_text(renewed(path.read_text()))
    assert path.read_text() == renewed(path.read_text()), "renew it with --update-golden"
