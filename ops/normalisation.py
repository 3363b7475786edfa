"""Layer norm and RMS norm over the trailing dims: `layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5, ...)`.

x has any shape and strides; weight and bias have the normalised shape. Floats keep their dtype, narrow ones are computed
in f32 and rounded once. Errors: ShapeError where the trailing dims, weight or bias disagree with `normalized_shape`,
DTypeError for dtypes that are not floats. Source: torch.nn.functional; Ba et al., arXiv:1607.06450; Zhang & Sennrich,
arXiv:1910.07467.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from opdsl.ops import tiling
from opdsl.ops.arguments import (
    Array,
    as_array,
    check_out,
    checked_dtype,
    dtype_error,
    empty,
    is_foreign,
    numpy_dtype,
    shape_error,
    through_arrays,
)
from opdsl.ops.launching import FastCall, Known, KnownCalls, kind_of, run
from opdsl.ops.pointwise import check_number
from opdsl.ops.reduction_plan import merged_axes

import opdsl as od
from opdsl.ir.types import DType


@od.function
def scaled(t, weight, bias, n, width, has_weight, has_bias, dtype):
    if has_weight:
        t = t * od.cast(od.copy_in(weight[n : n + width]), dtype)
    if has_bias:
        t = t + od.cast(od.copy_in(bias[n : n + width]), dtype)
    return t


@od.kernel
def norm_whole(
    x: od.Tensor["X", "M", "N"],
    weight: od.Tensor["W", "NW"],
    bias: od.Tensor["B", "NB"],
    y: od.Tensor["Y", "M", "N"],
    eps: od.f64,
    *,
    centre: od.constexpr,
    has_weight: od.constexpr,
    has_bias: od.constexpr,
    dtype: od.constexpr,
    N: od.constexpr,
    BM: od.constexpr,
):
    """A row is a tile: the kernel is specialised on its length."""
    M = x.shape[0]
    for m in od.parallel(range(0, M, BM)):
        t = od.cast(od.copy_in(x[m : m + BM, :]), dtype)
        if centre:
            t = t - od.sum(t, axis=1, keepdims=True) * (1.0 / N)
        square = od.sum(t * t, axis=1, keepdims=True) * (1.0 / N)
        if centre:  # the mean was rounded: what is left of it is taken off, too (see spread_kernels)
            left = od.sum(t, axis=1, keepdims=True) * (1.0 / N)
            t, square = t - left, od.maximum(square - left * left, 0.0)
        scale = od.rsqrt(square + od.cast(eps, dtype))
        od.copy_out(scaled(t * scale, weight, bias, 0, N, has_weight, has_bias, dtype), y[m : m + BM, :])


@od.kernel
def norm_pieces(
    x: od.Tensor["X", "M", "N"],
    weight: od.Tensor["W", "NW"],
    bias: od.Tensor["B", "NB"],
    y: od.Tensor["Y", "M", "N"],
    eps: od.f64,
    *,
    centre: od.constexpr,
    has_weight: od.constexpr,
    has_bias: od.constexpr,
    dtype: od.constexpr,
    BN: od.constexpr,
):
    """Rows of any length, in pieces."""
    M, N = x.shape
    for m in od.parallel(range(M)):
        mean = od.zeros((1,), dtype)
        if centre:
            for n in od.pipelined(range(0, N, BN), depth=2):
                mean += od.sum(od.cast(od.copy_in(x[m, n : n + BN]), dtype), axis=0, keepdims=True)
            mean = mean / od.cast(N, dtype)
        sums, squares = od.zeros((1,), dtype), od.zeros((1,), dtype)
        for n in od.pipelined(range(0, N, BN), depth=2):
            t = od.where(n + od.arange(BN) < N, od.cast(od.copy_in(x[m, n : n + BN]), dtype) - mean, 0.0)
            squares += od.sum(t * t, axis=0, keepdims=True)
            if centre:
                sums += od.sum(t, axis=0, keepdims=True)
        left = sums / od.cast(N, dtype)
        scale = od.rsqrt(od.maximum(squares / od.cast(N, dtype) - left * left, 0.0) + od.cast(eps, dtype))
        for n in od.pipelined(range(0, N, BN), depth=2):
            t = (od.cast(od.copy_in(x[m, n : n + BN]), dtype) - mean - left) * scale
            od.copy_out(scaled(t, weight, bias, n, BN, has_weight, has_bias, dtype), y[m, n : n + BN])


def _rows(array: Array, kept: int) -> Array | None:
    """The array as (rows, columns), columns being the axes from `kept` on; None where that needs a copy."""
    rows, columns = merged_axes(array, range(kept), 1), merged_axes(array, range(kept, array.ndim), 1)
    if rows is None or columns is None:
        return None
    (m, m_step), (n, n_step) = rows[0], columns[0]
    return np.lib.stride_tricks.as_strided(array, (m, n), (m_step, n_step))


def _parameter(name: str, which: str, value: Any, shape: tuple[int, ...], dtype: DType) -> Array:
    """A weight or bias in one dim; what stands for one that is not there."""
    if value is None:
        return np.zeros(1, numpy_dtype(dtype))
    array = as_array(name, which, value)
    if not checked_dtype(name, which, array).is_float:
        raise dtype_error(
            name, f"{which} has dtype {array.dtype}, where floats are needed", f"convert it: {which}.astype(...)"
        )
    if array.shape != shape:
        message = f"{which} has shape {array.shape}, but the normalised dims are {shape}"
        raise shape_error(name, message, f"pass a {which} of shape {shape}")
    return array.reshape(-1)


_known = KnownCalls()


def _norm(
    name: str, x: Any, normalized_shape: Any, weight: Any, bias: Any, eps: float, out: Any, target: str | None
) -> Any:
    given = tuple(
        (p.dtype, p.shape) if type(p) is np.ndarray and p.ndim == 1 else p if p is None else () for p in (weight, bias)
    )
    known = _known.find(x, target, name, normalized_shape, *given, eps) if () not in given else None
    if known is not None:
        parameters = tuple(known.between[i] if p is None else p for i, p in enumerate((weight, bias)))
        if (again := known.repeat(x, out, parameters)) is not None:
            return again
    if is_foreign(x):

        def on_arrays(x: Any, weight: Any, bias: Any, out: Any) -> Any:
            return _norm(name, x, normalized_shape, weight, bias, eps, out, target)

        return through_arrays(name, on_arrays, out, x=x, weight=weight, bias=bias)
    array = as_array(name, "x", x)
    dtype = checked_dtype(name, "x", array)
    if not dtype.is_float:
        raise dtype_error(
            name, f"x has dtype {array.dtype}, where floats are needed", 'convert it: x.astype("float32")'
        )
    trailing = (normalized_shape,) if isinstance(normalized_shape, int | np.integer) else tuple(normalized_shape)
    shape = tuple(int(n) for n in trailing)
    kept = array.ndim - len(shape)
    if not shape or kept < 0 or array.shape[kept:] != shape:
        message = f"normalized_shape is {shape}, but x has shape {array.shape}"
        raise shape_error(name, message, f"it is the end of x's shape, as {array.shape[-1:] or (1,)}")
    parameters = [_parameter(name, which, value, shape, dtype) for which, value in (("weight", weight), ("bias", bias))]
    if out is None:
        result: Array = empty(array.shape, numpy_dtype(dtype))
    else:
        result = as_array(name, "out", out)
        check_out(name, result, array.shape, dtype)
    if result.size:
        source, destination = _rows(array, kept), _rows(result, kept)
        written = (
            destination
            if destination is not None
            else empty((int(np.prod(array.shape[:kept])), int(np.prod(shape))), result.dtype)
        )
        if source is None:
            from opdsl.ops.copying import contiguous

            source = contiguous(array, target=target).reshape(written.shape)
        shared = {"centre": name == "layer_norm", "has_weight": weight is not None, "has_bias": bias is not None}
        call = _chosen(source, shared, target)
        run(call.kernel, (source, *parameters, written, eps), target, **call.constexprs)
        plain = x is array and result.dtype == array.dtype and destination is not None and () not in given
        if target is None and plain:
            dims = source.shape
            _known.remember(
                Known(call, array.shape, numpy_dtype(dtype), dims, dims, (eps,), tuple(parameters)),
                *(array, name, normalized_shape, *given, eps),
            )
        if destination is None:
            result[...] = written.reshape(result.shape)
    return out if out is not None else result


def _chosen(x: Array, shared: dict[str, Any], target: str | None) -> FastCall:
    """The kernel for (rows, columns)."""
    shared = {**shared, "dtype": od.f64 if x.dtype == np.float64 else od.f32}
    if tiling.is_whole(x.shape[1], kind_of(target)):
        return FastCall(norm_whole, **shared, **tiling.whole_rows(x.shape[1]))
    return FastCall(norm_pieces, **shared, **tiling.row_pieces(x.shape[1]))


def layer_norm(
    x: Any,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *,
    out: Any = None,
    target: str | None = None,
) -> Any:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the trailing dims."""
    number = check_number("layer_norm", "eps", eps)
    return _norm("layer_norm", x, normalized_shape, weight, bias, number, out, target)


def rms_norm(
    x: Any,
    normalized_shape: Any,
    weight: Any = None,
    eps: float | None = None,
    *,
    out: Any = None,
    target: str | None = None,
) -> Any:
    """x / sqrt(mean(x * x) + eps) * weight over the trailing dims; eps is the dtype's epsilon if not given."""
    if eps is None:
        dtype = as_array("rms_norm", "x", x).dtype
        import ml_dtypes  # takes a second to load on some machines

        eps = float(ml_dtypes.finfo(dtype).eps) if dtype.kind in "fV" else 0.0
    return _norm("rms_norm", x, normalized_shape, weight, None, check_number("rms_norm", "eps", eps), out, target)
