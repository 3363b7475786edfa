"""Reductions over any axes: `sum(x, axis=None, *, keepdims=False, out=None, target=None)`, prod, mean, max, min, any, all.

x has any shape, strides and dtype; axis is None (all), a number or a tuple. `sum` and `prod` of integers and bools are
i64, of floats their own dtype (narrow ones are added up in f32 and rounded once); `mean` of integers is f32; `any` and
`all` are bool. NaN wins in `max` and `min`. Without elements: sum 0, prod 1, any False, all True, mean NaN; max and min
raise ShapeError, as a wrong axis does. Source: NumPy, the array API standard; torch for the dtypes.
"""

from __future__ import annotations

from typing import Any

from opdsl.ops.arguments import either, is_foreign, numpy_dtype, shape_error, through_arrays, to_float
from opdsl.ops.launching import Known, KnownCalls
from opdsl.ops.reduction_kernels import mean_of, total_of
from opdsl.ops.reduction_plan import accumulator, checked, extreme, reduce, view_of

from opdsl.ir.types import DType, bool_, i64
from opdsl.lang.function import Function


def _total(dtype: DType) -> DType:
    return dtype if dtype.is_float else i64


def _same(dtype: DType) -> DType:
    return dtype


def _bool(dtype: DType) -> DType:
    return bool_


_RESULTS = {"sum": _total, "prod": _total, "mean": to_float, "max": _same, "min": _same, "any": _bool, "all": _bool}


_known = KnownCalls()


def _reduction(
    name: str, kind: str, x: Any, axis: Any, keepdims: bool, out: Any, target: str | None, after: Function = total_of
) -> Any:
    known = _known.find(x, target, name, axis, keepdims)
    if known is not None and (again := known.repeat(x, out)) is not None:
        return again
    if is_foreign(x):

        def on_array(x: Any, out: Any) -> Any:
            return _reduction(name, kind, x, axis, keepdims, out, target, after)

        return through_arrays(name, on_array, out, x=x)
    call = checked(name, x, axis, keepdims, out, _RESULTS[name])
    if kind in ("max", "min") and call.count == 0:
        message = f"x has shape {call.array.shape}: there is no element to choose from"
        raise shape_error(name, message, "reduce over axes that are not empty")
    if call.out.size == 0:
        return call.result
    view = view_of(call.array, call.axes)
    identity: Any = {"sum": 0, "prod": 1, "any": False, "all": True}.get(kind)
    if identity is None:
        identity = extreme(kind, call.dtype)
    dtype = call.dtype if kind in ("max", "min") else bool_ if kind in ("any", "all") else accumulator(call.dtype)
    if name == "mean":
        dtype = accumulator(to_float(call.dtype))
    written = call.target(view)
    count = float(call.count)
    launches = reduce(view, written, count, target, kind=kind, identity=identity, dtype=dtype, after=after)
    result_dtype = numpy_dtype(_RESULTS[name](call.dtype))
    if launches is not None and target is None and x is call.array and call.out.dtype == result_dtype:
        last, first = launches
        dims = view.with_parts(written).shape
        known = Known(last, call.out.shape, result_dtype, view.array.shape, dims, (count,), first=first)
        _known.remember(known, x, name, axis, keepdims)
    return call.finish(written)


def sum(
    x: Any, axis: Any = None, *, dim: Any = None, keepdims: bool = False, out: Any = None, target: str | None = None
) -> Any:
    """The sum over the axes."""
    if dim is not None:
        axis = either("sum", axis, None, dim)
    return _reduction("sum", "sum", x, axis, keepdims, out, target)


def prod(
    x: Any, axis: Any = None, *, dim: Any = None, keepdims: bool = False, out: Any = None, target: str | None = None
) -> Any:
    """The product over the axes."""
    if dim is not None:
        axis = either("prod", axis, None, dim)
    return _reduction("prod", "prod", x, axis, keepdims, out, target)


def mean(
    x: Any, axis: Any = None, *, dim: Any = None, keepdims: bool = False, out: Any = None, target: str | None = None
) -> Any:
    """The mean over the axes."""
    if dim is not None:
        axis = either("mean", axis, None, dim)
    return _reduction("mean", "sum", x, axis, keepdims, out, target, mean_of)


def max(
    x: Any, axis: Any = None, *, dim: Any = None, keepdims: bool = False, out: Any = None, target: str | None = None
) -> Any:
    """The greatest element over the axes; NaN if there is one."""
    if dim is not None:
        axis = either("max", axis, None, dim)
    return _reduction("max", "max", x, axis, keepdims, out, target)


def min(
    x: Any, axis: Any = None, *, dim: Any = None, keepdims: bool = False, out: Any = None, target: str | None = None
) -> Any:
    """The smallest element over the axes; NaN if there is one."""
    if dim is not None:
        axis = either("min", axis, None, dim)
    return _reduction("min", "min", x, axis, keepdims, out, target)


def any(
    x: Any, axis: Any = None, *, dim: Any = None, keepdims: bool = False, out: Any = None, target: str | None = None
) -> Any:
    """Whether an element over the axes is not 0."""
    if dim is not None:
        axis = either("any", axis, None, dim)
    return _reduction("any", "any", x, axis, keepdims, out, target)


def all(
    x: Any, axis: Any = None, *, dim: Any = None, keepdims: bool = False, out: Any = None, target: str | None = None
) -> Any:
    """Whether all elements over the axes are not 0."""
    if dim is not None:
        axis = either("all", axis, None, dim)
    return _reduction("all", "all", x, axis, keepdims, out, target)
