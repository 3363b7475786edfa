"""How an array is reduced: seen as (outer, rows, columns), by one launch or two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from opdsl.ops import reduction_kernels as kernels
from opdsl.ops import tiling
from opdsl.ops.arguments import Array, as_array, check_axes, check_out, checked_dtype, empty, like, numpy_dtype
from opdsl.ops.launching import FastCall, Parts, run

from opdsl.ir.types import DType, f32, f64, i64, integer_range
from opdsl.lang.function import Function


@dataclass(frozen=True)
class View:
    """An array as (outer, rows, columns), reduced along the rows or down the columns."""

    array: Array
    along_rows: bool

    @property
    def kept(self) -> tuple[int, int]:
        return self.array.shape[0], self.array.shape[1 if self.along_rows else 2]

    @property
    def length(self) -> int:
        return int(self.array.shape[2 if self.along_rows else 1])

    @property
    def tile(self) -> dict[str, int]:
        _, rows, columns = self.array.shape
        return tiling.rows(columns) if self.along_rows else tiling.columns(rows, columns)

    @property
    def chunk(self) -> int:
        return tiling.ROW_CHUNK if self.along_rows else tiling.COLUMN_CHUNK

    def with_parts(self, parts: Array) -> Array:
        """An array of results as what a kernel writes: one chunk for each row or column."""
        return parts[:, :, None] if self.along_rows else parts[:, None, :]


def merged_axes(array: Array, axes: Sequence[int], limit: int) -> list[tuple[int, int]] | None:
    """(size, stride) of the axes, merged in their order into `limit` ones; None where they lie apart."""
    groups: list[tuple[int, int]] = []
    for axis in axes:
        size, stride = array.shape[axis], array.strides[axis]
        if size == 1:
            continue
        if groups and groups[-1][1] == stride * size:
            groups[-1] = (groups[-1][0] * size, stride)
        else:
            groups.append((size, stride))
    return None if len(groups) > limit else [(1, 0)] * (limit - len(groups)) + groups


def view_of(x: Array, axes: tuple[int, ...], keep_order: bool = False) -> View:
    """The array with the reduced axes merged into one and the others into two; a copy where that cannot be.

    With `keep_order`, the reduced elements keep their row-major order.
    """
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    if x.size == 0:
        outer, inner = (int(np.prod([x.shape[a] for a in some], dtype=np.int64)) for some in (kept, axes))
        return View(np.empty((1, outer, inner), x.dtype), True)
    order = list(axes) if keep_order else sorted(axes, key=lambda axis: -abs(x.strides[axis]))
    inner_axis, outer_axes = merged_axes(x, order, 1), merged_axes(x, kept, 2)
    if inner_axis is None or outer_axes is None:
        from opdsl.ops.copying import contiguous

        x = contiguous(x.transpose([*kept, *axes]))
        count = int(np.prod(x.shape[: len(kept)], dtype=np.int64))
        return View(x.reshape(1, count, -1), True)
    (n, step), (a, a_step), (m, m_step) = *inner_axis, *outer_axes
    along_rows = m == 1 or n == 1 or abs(step) <= abs(m_step)
    shape, strides = ((a, m, n), (a_step, m_step, step)) if along_rows else ((a, n, m), (a_step, step, m_step))
    return View(as_strided(x, shape, strides, writeable=False), along_rows)


def reduce(
    view: View,
    out: Array,
    count: float,
    target: str | None,
    *,
    kind: str,
    identity: Any,
    dtype: DType,
    after: Function = kernels.total_of,
) -> tuple[FastCall, Parts | None] | None:
    """out (outer, kept) = after(the reduction of the view, count). Gives the launch, with the one before that left it
    parts; None if there were more."""
    kernel = kernels.reduce_rows if view.along_rows else kernels.reduce_columns
    constexprs = {"kind": kind, "identity": identity, "dtype": dtype, **view.tile, "CHUNK": view.chunk}
    if view.length <= view.chunk:
        call = FastCall(kernel, **constexprs, after=after)
        run(kernel, (view.array, view.with_parts(out), count), target, **call.constexprs)
        return call, None
    parts = parts_of(view, dtype)
    first = FastCall(kernel, **constexprs, after=kernels.total_of)
    run(kernel, (view.array, parts, count), target, **first.constexprs)
    rest = View(parts, view.along_rows)
    done = reduce(rest, out, count, target, kind=kind, identity=identity, dtype=dtype, after=after)
    return (done[0], Parts(first, parts.shape, parts.dtype)) if done is not None and done[1] is None else None


def sum_about(
    view: View,
    centre: Array,
    out: Array,
    count: float,
    target: str | None,
    *,
    before: Function,
    pad: Any,
    dtype: DType,
    after: Function,
) -> None:
    """out = after(the sum of before(elements, centre), centre, count)."""
    kernel = kernels.sum_rows_about if view.along_rows else kernels.sum_columns_about
    constexprs = {"dtype": dtype, "before": before, "pad": pad, **view.tile, "CHUNK": view.chunk}
    if view.length <= view.chunk:
        run(kernel, (view.array, centre, view.with_parts(out), count), target, after=after, **constexprs)
        return
    parts, zero = parts_of(view, dtype), empty(view.kept, numpy_dtype(dtype))
    run(kernel, (view.array, centre, parts, count), target, after=kernels.total_about, **constexprs)
    reduce(View(parts, view.along_rows), zero, count, target, kind="sum", identity=0, dtype=dtype)
    finish = View(zero[:, :, None], True)
    tile = {"BM": 64, "BN": 16, "CHUNK": finish.chunk}
    run(
        kernels.sum_rows_about,
        (finish.array, centre, finish.with_parts(out), count),
        target,
        dtype=dtype,
        before=kernels.itself,
        pad=0,
        after=after,
        **tile,
    )


def parts_of(view: View, dtype: DType) -> Array:
    """Memory for the result of each chunk."""
    pieces, (outer, kept) = -(-view.length // view.chunk), view.kept
    return empty((outer, kept, pieces) if view.along_rows else (outer, pieces, kept), numpy_dtype(dtype))


def extreme(kind: str, dtype: DType) -> bool | int | float:
    """The identity of max or min."""
    if dtype.is_bool:
        return kind == "min"
    if dtype.is_float:
        greatest = 448.0 if dtype.name == "f8e4m3" else float("inf")  # f8e4m3 has no infinity
        return -greatest if kind == "max" else greatest
    low, high = integer_range(dtype)
    return low if kind == "max" else high


def accumulator(dtype: DType) -> DType:
    """The dtype in which elements are added up."""
    return f64 if dtype == f64 else f32 if dtype.is_float else i64


@dataclass(frozen=True)
class Call:
    """The arguments of a reduction, checked."""

    array: Array
    dtype: DType
    axes: tuple[int, ...]
    out: Array
    given: tuple[Any, Any]  # the user's x and out

    @property
    def count(self) -> int:
        return int(np.prod([self.array.shape[a] for a in self.axes], dtype=np.int64))

    @property
    def result(self) -> Any:
        x, out = self.given
        return out if out is not None else like(self.out, x)

    def target(self, view: View) -> Array:
        """Where the kernel writes: the output as (outer, kept), or memory of its own; see `finish`."""
        if self.out.flags.c_contiguous:
            return self.out.reshape(view.kept)
        return empty(view.kept, self.out.dtype)

    def finish(self, written: Array) -> Any:
        """Moves to the output what was written elsewhere."""
        if not self.out.flags.c_contiguous:
            self.out[...] = written.reshape(self.out.shape)
        return self.result


def checked(name: str, x: Any, axis: Any, keepdims: bool, out: Any, result: Any) -> Call:
    """The arguments of a reduction. `result` gives the result's dtype for that of x."""
    array = as_array(name, "x", x)
    dtype = checked_dtype(name, "x", array)
    axes = check_axes(name, axis, array.ndim)
    shape = tuple(1 if a in axes else n for a, n in enumerate(array.shape) if keepdims or a not in axes)
    if out is None:
        return Call(array, dtype, axes, empty(shape, numpy_dtype(result(dtype))), (x, None))
    given = as_array(name, "out", out)
    check_out(name, given, shape, result(dtype))
    return Call(array, dtype, axes, given, (x, out))
