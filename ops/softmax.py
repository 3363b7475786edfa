"""Softmax and its logarithm along one axis: `softmax(x, axis=-1, *, out=None, target=None)`, `log_softmax(...)`.

x has any shape and strides. Floats keep their dtype (narrow ones are computed in f32 and rounded once), integers give
f32. The maximum is taken off first, so nothing overflows; a row of -inf alone gives NaN, as does one with NaN or +inf.
Errors: ShapeError for a wrong axis or `out`, DTypeError for an `out` of a narrower kind. Source: torch.nn.functional.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from opdsl.ops import tiling
from opdsl.ops.arguments import (
    NARROW,
    Array,
    as_array,
    check_axis,
    check_out,
    checked_dtype,
    either,
    empty,
    is_foreign,
    numpy_dtype,
    through_arrays,
    to_float,
)
from opdsl.ops.launching import FastCall, Known, KnownCalls, kind_of, run
from opdsl.ops.reduction_plan import merged_axes

import opdsl as od


@od.function
def wide(t):
    return t if t.dtype == od.f64 else od.cast(t, od.f32)


@od.kernel
def softmax_whole(
    x: od.Tensor["X", "A", "M", "N"],
    y: od.Tensor["Y", "A", "M", "N"],
    *,
    log: od.constexpr,
    N: od.constexpr,
    BM: od.constexpr,
):
    """A few whole rows are a tile, for targets that work on all of a tile at once."""
    A, M, _ = x.shape
    for a, m in od.parallel(range(A), range(0, M, BM)):
        t = wide(od.copy_in(x[a, m : m + BM, :]))
        t = t - od.max(t, axis=1, keepdims=True)
        e = od.exp(t)
        total = od.sum(e, axis=1, keepdims=True)
        od.copy_out(t - od.log(total) if log else e * (1.0 / total), y[a, m : m + BM, :])


@od.kernel
def softmax_rows(
    x: od.Tensor["X", "A", "M", "N"],
    y: od.Tensor["Y", "A", "M", "N"],
    *,
    log: od.constexpr,
    N: od.constexpr,
    BM: od.constexpr,
):
    """Whole rows one after another, each step of three: one loop stores a row, takes the exponentials of the next, and
    finds the maximum of the one after that, so that memory and arithmetic are busy at the same time."""
    A, M, _ = x.shape
    for a, m in od.parallel(range(A), range(0, M, BM)):
        last = min(m + BM, M) - 1
        t = wide(od.copy_in(x[a, m, :]))
        t = t - od.max(t, axis=0, keepdims=True)
        e = od.exp(t)
        total = od.sum(e, axis=0, keepdims=True)
        kept = t if log else e
        top = od.max(wide(od.copy_in(x[a, min(m + 1, last), :])), axis=0, keepdims=True)
        for r in range(m + 1, last + 1):
            od.copy_out(kept - od.log(total) if log else kept * (1.0 / total), y[a, r - 1, :])
            t = wide(od.copy_in(x[a, r, :])) - top
            e = od.exp(t)
            total = od.sum(e, axis=0, keepdims=True)
            kept = t if log else e
            top = od.max(wide(od.copy_in(x[a, min(r + 1, last), :])), axis=0, keepdims=True)
        od.copy_out(kept - od.log(total) if log else kept * (1.0 / total), y[a, last, :])


@od.kernel
def softmax_pieces(
    x: od.Tensor["X", "A", "M", "N"],
    y: od.Tensor["Y", "A", "M", "N"],
    *,
    log: od.constexpr,
    keep: od.constexpr,
    dtype: od.constexpr,
    BN: od.constexpr,
):
    """Rows of any length, in pieces. With `keep`, the exponentials wait in y, which holds them without rounding."""
    A, M, N = x.shape
    for a, m in od.parallel(range(A), range(M)):
        top = od.full((1,), -od.inf, dtype)
        for n in od.pipelined(range(0, N, BN), depth=2):
            t = od.cast(od.copy_in(x[a, m, n : n + BN], pad=-od.inf), dtype)
            top = od.maximum(top, od.max(t, axis=0, keepdims=True))
        total = od.zeros((1,), dtype)
        for n in od.pipelined(range(0, N, BN), depth=2):
            e = od.exp(od.cast(od.copy_in(x[a, m, n : n + BN], pad=-od.inf), dtype) - top)
            if keep:
                od.copy_out(e, y[a, m, n : n + BN])
            total += od.sum(e, axis=0, keepdims=True)
        scale = od.log(total) if log else 1.0 / total
        for n in od.pipelined(range(0, N, BN), depth=2):
            if keep:
                od.copy_out(od.copy_in(y[a, m, n : n + BN]) * scale, y[a, m, n : n + BN])
            else:
                t = od.cast(od.copy_in(x[a, m, n : n + BN]), dtype) - top
                od.copy_out(t - scale if log else od.exp(t) * scale, y[a, m, n : n + BN])


@od.kernel
def softmax_columns(
    x: od.Tensor["X", "A", "K", "N"],
    y: od.Tensor["Y", "A", "K", "N"],
    *,
    log: od.constexpr,
    dtype: od.constexpr,
    BK: od.constexpr,
    BN: od.constexpr,
):
    """Down the columns, neighbouring columns side by side."""
    A, K, N = x.shape
    for a, n in od.parallel(range(A), range(0, N, BN)):
        top = od.full((1, BN), -od.inf, dtype)
        for k in od.pipelined(range(0, K, BK), depth=2):
            t = od.cast(od.copy_in(x[a, k : k + BK, n : n + BN], pad=-od.inf), dtype)
            top = od.maximum(top, od.max(t, axis=0, keepdims=True))
        total = od.zeros((1, BN), dtype)
        for k in od.pipelined(range(0, K, BK), depth=2):
            t = od.cast(od.copy_in(x[a, k : k + BK, n : n + BN], pad=-od.inf), dtype)
            total += od.sum(od.exp(t - top), axis=0, keepdims=True)
        scale = od.log(total) if log else 1.0 / total
        for k in od.pipelined(range(0, K, BK), depth=2):
            t = od.cast(od.copy_in(x[a, k : k + BK, n : n + BN]), dtype) - top
            od.copy_out(t - scale if log else od.exp(t) * scale, y[a, k : k + BK, n : n + BN])


def _rows(array: Array, axis: int) -> Array | None:
    """The array as (outer, kept, axis); None where that needs a copy."""
    kept = merged_axes(array, [a for a in range(array.ndim) if a != axis], 2)
    if kept is None:
        return None
    shape = (kept[0][0], kept[1][0], array.shape[axis])
    strides = (kept[0][1], kept[1][1], array.strides[axis])
    return np.lib.stride_tricks.as_strided(array, shape, strides)


_known = KnownCalls()


def _softmax(name: str, x: Any, axis: Any, out: Any, target: str | None, log: bool) -> Any:
    known = _known.find(x, target, axis, log)
    if known is not None and (again := known.repeat(x, out)) is not None:
        return again
    if is_foreign(x):
        return through_arrays(name, lambda x, out: _softmax(name, x, axis, out, target, log), out, x=x)
    array = as_array(name, "x", x)
    dtype = checked_dtype(name, "x", array)
    result_dtype = to_float(dtype)
    place = check_axis(name, axis, array.ndim)
    if out is None:
        result: Array = empty(array.shape, numpy_dtype(result_dtype))
    else:
        result = as_array(name, "out", out)
        check_out(name, result, array.shape, result_dtype)
    if result.size:
        if not dtype.is_float:
            from opdsl.ops.copying import cast

            array = cast(array, np.float32, target=target)
        source, destination = _rows(array, place), _rows(result, place)
        if source is None or destination is None or source.shape != destination.shape:
            from opdsl.ops.copying import contiguous, copy

            moved = np.moveaxis(array, place, -1)
            rows = _softmax(name, contiguous(moved, target=target), -1, None, target, log)
            copy(rows, out=np.moveaxis(result, place, -1), target=target)
        else:
            call, views = _chosen(source, destination, log, dtype.name in NARROW, target)
            run(call.kernel, views, target, **call.constexprs)
            if target is None and x is array and result.dtype == numpy_dtype(result_dtype) and views[0] is source:
                dims = source.shape
                _known.remember(Known(call, array.shape, result.dtype, dims, dims), array, axis, log)
    return out if out is not None else result


def _chosen(x: Array, y: Array, log: bool, narrow: bool, target: str | None) -> tuple[FastCall, tuple[Array, Array]]:
    """The kernel for (outer, kept, axis), and its arguments."""
    columns = x.shape[2]
    dtype = od.f64 if x.dtype == np.float64 else od.f32
    if abs(y.strides[2]) > abs(y.strides[1]) and y.shape[1] > 1:
        call = FastCall(softmax_columns, log=log, dtype=dtype, **tiling.columns(columns, x.shape[1]))
        return call, (x.transpose(0, 2, 1), y.transpose(0, 2, 1))
    if tiling.is_whole(columns, kind_of(target)):
        if kind_of(target) == "cpu":
            return FastCall(softmax_rows, log=log, N=columns, **tiling.successive_rows(columns)), (x, y)
        return FastCall(softmax_whole, log=log, **tiling.whole_rows(columns)), (x, y)
    keep = not log and not narrow and y.dtype.itemsize >= x.dtype.itemsize
    return FastCall(softmax_pieces, log=log, keep=keep, dtype=dtype, **tiling.row_pieces(columns)), (x, y)


def softmax(x: Any, axis: int = -1, *, dim: Any = None, out: Any = None, target: str | None = None) -> Any:
    """exp(x) / sum(exp(x)) along the axis."""
    if dim is not None:
        axis = either("softmax", axis, -1, dim)
    return _softmax("softmax", x, axis, out, target, False)


def log_softmax(x: Any, axis: int = -1, *, dim: Any = None, out: Any = None, target: str | None = None) -> Any:
    """x - log(sum(exp(x))) along the axis."""
    if dim is not None:
        axis = either("log_softmax", axis, -1, dim)
    return _softmax("log_softmax", x, axis, out, target, True)
