"""Variance, standard deviation and log-sum-exp over any axes: `var(x, axis=None, *, correction=0, keepdims=False, ...)`.

Two passes: the mean (or the maximum) first, then sums of what the elements are beside it; a variance is corrected for
the rounding of its mean (`spread_kernels`). Floats keep their dtype
(narrow ones are computed in f32), integers give f32. Without elements var and std are NaN and logsumexp is -inf. Source:
the array API standard; torch.logsumexp.
"""

from __future__ import annotations

from typing import Any

from opdsl.ops import reduction_kernels as kernels
from opdsl.ops.arguments import either, empty, numpy_dtype, to_float
from opdsl.ops.launching import run
from opdsl.ops.pointwise import check_number
from opdsl.ops.reduction_plan import View, accumulator, checked, parts_of, reduce, sum_about, view_of
from opdsl.ops.spread_kernels import spread_columns, spread_rows, variance


def _spread(
    name: str, x: Any, axis: Any, correction: Any, keepdims: bool, out: Any, target: str | None, root: bool
) -> Any:
    lost = check_number(name, "correction", correction)
    call = checked(name, x, axis, keepdims, out, to_float)
    if call.out.size == 0:
        return call.result
    dtype = accumulator(to_float(call.dtype))
    view, count = view_of(call.array, call.axes), float(call.count)
    centre, written = empty(view.kept, numpy_dtype(dtype)), call.target(view)
    reduce(view, centre, count, target, kind="sum", identity=0, dtype=dtype, after=kernels.mean_of)
    sums, squares = parts_of(view, dtype), parts_of(view, dtype)
    kernel = spread_rows if view.along_rows else spread_columns
    run(kernel, (view.array, centre, sums, squares), target, dtype=dtype, **view.tile, CHUNK=view.chunk)
    if sums.size != centre.size:
        whole = empty(view.kept, centre.dtype), empty(view.kept, centre.dtype)
        for parts, total in zip((sums, squares), whole, strict=True):
            reduce(View(parts, view.along_rows), total, count, target, kind="sum", identity=0, dtype=dtype)
        sums, squares = whole
    flat = (sums.reshape(-1), squares.reshape(-1), written.reshape(-1))
    run(variance, (*flat, count, max(count - lost, 0.0)), target, root=root)
    return call.finish(written)


def var(
    x: Any,
    axis: Any = None,
    *,
    dim: Any = None,
    correction: float = 0,
    keepdims: bool = False,
    out: Any = None,
    target: str | None = None,
) -> Any:
    """The mean squared distance from the mean; divided by the number of elements less the correction."""
    if dim is not None:
        axis = either("var", axis, None, dim)
    return _spread("var", x, axis, correction, keepdims, out, target, False)


def std(
    x: Any,
    axis: Any = None,
    *,
    dim: Any = None,
    correction: float = 0,
    keepdims: bool = False,
    out: Any = None,
    target: str | None = None,
) -> Any:
    """The square root of the variance."""
    if dim is not None:
        axis = either("std", axis, None, dim)
    return _spread("std", x, axis, correction, keepdims, out, target, True)


def logsumexp(
    x: Any, axis: Any = None, *, dim: Any = None, keepdims: bool = False, out: Any = None, target: str | None = None
) -> Any:
    """log(sum(exp(x))) over the axes; nothing overflows on the way."""
    if dim is not None:
        axis = either("logsumexp", axis, None, dim)
    call = checked("logsumexp", x, axis, keepdims, out, to_float)
    if call.out.size == 0:
        return call.result
    dtype = accumulator(to_float(call.dtype))
    view = view_of(call.array, call.axes)
    centre, written = empty(view.kept, numpy_dtype(dtype)), call.target(view)
    lowest = -float("inf")
    source = view.array
    if not call.dtype.is_float:
        # Integers have no -inf to fill a tile's end with.
        from opdsl.ops.copying import cast

        source = cast(source, numpy_dtype(dtype), target=target)
        view = type(view)(source, view.along_rows)
    reduce(view, centre, 0.0, target, kind="max", identity=lowest, dtype=dtype)
    sum_about(
        view,
        centre,
        written,
        0.0,
        target,
        before=kernels.exp_of_distance,
        pad=lowest,
        dtype=dtype,
        after=kernels.log_about,
    )
    return call.finish(written)
