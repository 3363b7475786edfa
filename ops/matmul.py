"""Matrix products: `matmul(a, b, *, bias=None, activation=None, out=None, target=None)`.

a is (..., M, K), b (..., K, N), any strides and so any transposes; the leading dims broadcast; a vector is a row (a) or a
column (b) and its dim is dropped from the result. f32, f64; f16, bf16 and f8 accumulate in f32; i8, u8, i16 and i32 give
i32. Mixed dtypes are converted to their common one. Then bias, which broadcasts to (N,), is added and the activation
applied, all before rounding to the result's dtype. `out` may be an operand: the result is then made aside. Errors:
ShapeError where inner or leading dims disagree, DTypeError for dtypes without a product (i64, bool), ArgumentError for an
unknown activation. Source: numpy.matmul, torch.matmul.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from opdsl.ops import matmul_tiling
from opdsl.ops.activations import relu_, silu_
from opdsl.ops.arguments import (
    Array,
    argument_error,
    as_array,
    check_out,
    checked_dtype,
    dtype_error,
    empty,
    is_foreign,
    numpy_dtype,
    promoted,
    shape_error,
    through_arrays,
)
from opdsl.ops.gelu import gelu_erf_, gelu_tanh_
from opdsl.ops.launching import FastCall, kind_of, multiplies_tiles, run
from opdsl.ops.unary import sigmoid_, tanh_

import opdsl as od
from opdsl._runtime import layout
from opdsl.ir.ops import dot_result_dtype
from opdsl.ir.types import DType
from opdsl.lang.function import Function
from opdsl.lang.kernel import Kernel
from opdsl.runtime.arrays import may_share_memory
from opdsl.support.knobs import knobs

ACTIVATIONS = {
    "relu": relu_,
    "silu": silu_,
    "gelu": gelu_erf_,
    "gelu_tanh": gelu_tanh_,
    "sigmoid": sigmoid_,
    "tanh": tanh_,
}


@od.function
def identity(t):
    return t


@od.kernel
def multiply(
    a: od.Tensor["A", "B", "M", "K"],
    b: od.Tensor["A", "B", "K", "N"],
    bias: od.Tensor["S", "NS"],
    c: od.Tensor["C", "B", "M", "N"],
    *,
    has_bias: od.constexpr,
    activation: od.constexpr,
    dtype: od.constexpr,
    BM: od.constexpr,
    BN: od.constexpr,
    BK: od.constexpr,
):
    B, M, K = a.shape
    N = b.shape[2]
    for i, m, n in od.parallel(range(B), range(0, M, BM), range(0, N, BN)):
        acc = od.zeros((BM, BN), dtype)
        for k in od.pipelined(range(0, K, BK), depth=2):
            at = od.copy_in(a[i, m : m + BM, k : k + BK])
            bt = od.copy_in(b[i, k : k + BK, n : n + BN])
            acc += od.dot(at, bt)
        if has_bias:
            acc += od.cast(od.copy_in(bias[n : n + BN]), dtype)
        od.copy_out(activation(acc), c[i, m : m + BM, n : n + BN])


@od.kernel
def multiply_matrices(
    a: od.Tensor["A", "M", "K"],
    b: od.Tensor["A", "K", "N"],
    bias: od.Tensor["S", "NS"],
    c: od.Tensor["C", "M", "N"],
    *,
    has_bias: od.constexpr,
    activation: od.constexpr,
    dtype: od.constexpr,
    BM: od.constexpr,
    BN: od.constexpr,
    BK: od.constexpr,
):
    M, K = a.shape
    N = b.shape[1]
    for m, n in od.parallel(range(0, M, BM), range(0, N, BN)):
        acc = od.zeros((BM, BN), dtype)
        for k in od.pipelined(range(0, K, BK), depth=2):
            at = od.copy_in(a[m : m + BM, k : k + BK])
            bt = od.copy_in(b[k : k + BK, n : n + BN])
            acc += od.dot(at, bt)
        if has_bias:
            acc += od.cast(od.copy_in(bias[n : n + BN]), dtype)
        od.copy_out(activation(acc), c[m : m + BM, n : n + BN])


def result_dtype(dtype: DType) -> DType:
    """Of a product of arrays of `dtype`."""
    return dtype if dtype.is_float else dot_result_dtype(dtype)


def _common(a: Array, b: Array, target: str | None) -> tuple[Array, Array, DType]:
    """Both operands in one dtype."""
    kinds = checked_dtype("matmul", "a", a), checked_dtype("matmul", "b", b)
    dtype = promoted("matmul", kinds)
    if dtype.is_bool or (dtype.is_integer and dtype.bits > 32):
        raise dtype_error(
            "matmul", f"there is no product of {kinds[0]} and {kinds[1]} arrays", "convert them to i32 or f64"
        )
    if kinds[0] == kinds[1]:
        return a, b, dtype
    from opdsl.ops.copying import cast

    wanted = numpy_dtype(dtype)
    a, b = (x if kind == dtype else cast(x, wanted, target=target) for x, kind in zip((a, b), kinds, strict=True))
    return a, b, dtype


def _shapes(a: Array, b: Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The leading dims of the result, after checking that the operands fit."""
    if a.shape[-1] != b.shape[-2]:
        raise shape_error(
            "matmul",
            f"a has {a.shape[-1]} columns and b {b.shape[-2]} rows (shapes {a.shape} and {b.shape})",
            "the shapes are (..., M, K) and (..., K, N); .T transposes a matrix",
        )
    try:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        message = f"the leading dims {a.shape[:-2]} and {b.shape[:-2]} do not broadcast"
        raise shape_error("matmul", message, "sizes must be equal or 1, compared from the last") from None
    return batch, (*batch, a.shape[-2], b.shape[-1])


def matmul(
    a: Any,
    b: Any,
    *,
    bias: Any = None,
    activation: str | Function | None = None,
    out: Any = None,
    target: str | None = None,
) -> Any:
    """activation(a @ b + bias). The activation is a name (relu, silu, gelu, gelu_tanh, sigmoid, tanh) or an od.function."""
    plain = bias is None and activation is None and target is None
    if plain and (again := _repeat(a, b, out)) is not None:
        return again
    if is_foreign(a) or is_foreign(b):

        def on_arrays(a: Any, b: Any, bias: Any, out: Any) -> Any:
            return matmul(a, b, bias=bias, activation=activation, out=out, target=target)

        return through_arrays("matmul", on_arrays, out, a=a, b=b, bias=bias)
    left, right = as_array("matmul", "a", a), as_array("matmul", "b", b)
    if left.ndim == 0 or right.ndim == 0:
        raise shape_error("matmul", f"the shapes are {left.shape} and {right.shape}", "multiply by a number with mul")
    drops = left.ndim == 1, right.ndim == 1
    left = left[None, :] if drops[0] else left
    right = right[:, None] if drops[1] else right
    left, right, dtype = _common(left, right, target)
    batch, shape = _shapes(left, right)
    function = _activation(activation)
    given_shape = tuple(n for n, drop in zip(shape, (*(False for _ in batch), *drops), strict=True) if not drop)
    result_type = result_dtype(dtype)
    if out is None:
        result: Array = empty(shape, numpy_dtype(result_type))
    else:
        array = as_array("matmul", "out", out)
        check_out("matmul", array, given_shape, result_type)
        result = (
            array[..., None, :]
            if drops[0] and not drops[1]
            else array[..., None]
            if drops[1] and not drops[0]
            else array
        )
        result = array[..., None, None] if drops == (True, True) else result
        if may_share_memory(result, left) or may_share_memory(result, right):
            # Rows of the operands are needed after rows of the result are written.
            result[...] = matmul(left, right, bias=bias, activation=activation, target=target)
            return out
    offset = _bias(bias, shape[-1], result_type)
    if result.size:
        launched = _multiply(left, right, offset, result, bias is not None, function, target)
        if plain and launched is not None and left is a and right is b:
            _remember(a, b, out, result, offset, *launched)
    if out is not None:
        return out
    return result.reshape(given_shape)


@dataclass(frozen=True, slots=True)
class _Product:
    """A product of two matrices, or of two stacks of them, that has been made: the one launch that does it."""

    call: FastCall
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    no_bias: Array


# By the layouts of both operands and of `out`.
_products: dict[bytes | None, _Product] = {}
MOST_PRODUCTS = 4096


def _repeat(a: Any, b: Any, out: Any) -> Any:
    """The product of arrays like ones before; None where it must be had the long way."""
    known = _products.get(layout(a, b, out))
    if known is None or known.call.generation != knobs.generation:
        return None
    if out is None:
        out = empty(known.shape, known.dtype)
    return out if known.call.fast(a, b, known.no_bias, out) is None else None


def _remember(a: Any, b: Any, out: Any, c: Array, no_bias: Array, kernel: Kernel, constexprs: dict[str, Any]) -> None:
    """Remembers a product that was made of `a`, `b` and `c` as they are."""
    key = layout(a, b, out)
    dims = 2 if kernel is multiply_matrices else 3
    if key is None or not a.ndim == b.ndim == c.ndim == dims or (out is not None and out is not c):
        return
    call = FastCall(kernel, **constexprs)
    call.learn()
    if len(_products) >= MOST_PRODUCTS:
        _products.clear()
    _products[key] = _Product(call, c.shape, c.dtype, no_bias)


def _activation(activation: str | Function | None) -> Function:
    if activation is None:
        return identity
    if isinstance(activation, Function):
        return activation
    if activation not in ACTIVATIONS:
        names = ", ".join(ACTIVATIONS)
        raise argument_error(
            "matmul", f"there is no activation {activation!r}", f"it is one of {names}, or an od.function"
        )
    return ACTIVATIONS[activation]


def _bias(bias: Any, columns: int, dtype: DType) -> Array:
    if bias is None:
        return np.zeros(1, numpy_dtype(dtype))
    array = as_array("matmul", "bias", bias)
    checked_dtype("matmul", "bias", array)
    if array.shape != (columns,):
        raise shape_error(
            "matmul", f"bias has shape {array.shape}, but b has {columns} columns", f"pass a bias of shape ({columns},)"
        )
    return array


def _merge(array: Array) -> Array | None:
    """(..., M, N) as (batch, M, N)."""
    from opdsl.ops.reduction_plan import merged_axes

    merged = merged_axes(array, range(array.ndim - 2), 1)
    if merged is None:
        return None
    shape, strides = (merged[0][0], *array.shape[-2:]), (merged[0][1], *array.strides[-2:])
    return np.lib.stride_tricks.as_strided(array, shape, strides)


def _multiply(
    a: Array, b: Array, bias: Array, c: Array, has_bias: bool, activation: Function, target: str | None
) -> tuple[Kernel, dict[str, Any]] | None:
    """c = a @ b for operands of two dims or more. Gives the kernel and its constexprs where it took them as they are."""
    dtype = od.f64 if c.dtype == np.float64 else od.f32 if c.dtype.kind not in "iu" else od.i32
    if b.ndim == 2 or b.shape[:-2] == (1,) * (b.ndim - 2):
        # One b for all of a: the leading dims of a are rows too.
        rows = [_flat_rows(x) for x in (a, c)]
        if rows[0] is not None and rows[1] is not None:
            a, b, c = rows[0], b.reshape(b.shape[-2:]), rows[1]
    sizes = c.shape[-2], c.shape[-1], a.shape[-1]
    kind = kind_of(target)
    if kind in ("cpu", "interp"):
        tile = matmul_tiling.tile(*sizes, a.dtype, _unit(b), multiplies_tiles(target))
    else:
        small = kind == "npu" and activation is not identity
        tile = matmul_tiling.accelerator_tile(*sizes, matmul_tiling.ACTIVATED if small else matmul_tiling.SQUARES[-1])
    constexprs = {"has_bias": has_bias, "activation": activation, "dtype": dtype, **tile}
    if c.ndim == 2:
        run(multiply_matrices, (a, b, bias, c), target, **constexprs)
        return multiply_matrices, constexprs
    if a.ndim == b.ndim == c.ndim == 3 and a.shape[0] == b.shape[0]:
        run(multiply, (a, b, bias, c), target, **constexprs)
        return multiply, constexprs
    left, right = (np.broadcast_to(x, (*c.shape[:-2], *x.shape[-2:])) for x in (a, b))
    views = [_merge(x) for x in (left, right, c)]
    if all(v is not None for v in views):
        run(multiply, (views[0], views[1], bias, views[2]), target, **constexprs)
        return None
    for place in itertools.product(*map(range, c.shape[:-3])):
        run(multiply, (left[place], right[place], bias, c[place]), target, **constexprs)
    return None


def _flat_rows(x: Array) -> Array | None:
    from opdsl.ops.reduction_plan import merged_axes

    merged = merged_axes(x, range(x.ndim - 1), 1)
    if merged is None:
        return None
    return np.lib.stride_tricks.as_strided(x, (merged[0][0], x.shape[-1]), (merged[0][1], x.strides[-1]))


def _unit(b: Array) -> str:
    """Whether b's neighbours in memory are in a row ("n"), in a column ("k"), or nowhere ("")."""
    return "n" if b.strides[-1] == b.itemsize else "k" if b.strides[-2] == b.itemsize else ""
