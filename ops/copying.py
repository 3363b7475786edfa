"""Copies: `copy(x)`, `contiguous(x)`, `transpose(x)`, `permute(x, axes)`, `cast(x, dtype)`.

Each gives a new array (or fills `out`); `transpose` and `permute` store the elements in the order of the new axes. Any
shape, strides and dtype. Errors: ShapeError for axes that are not a permutation and for an `out` of another shape,
DTypeError for an `out` of another dtype (but for `cast`). Source: numpy.transpose, torch.permute.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from opdsl.ops.arguments import (
    Array,
    argument_error,
    as_array,
    check_axis,
    checked_dtype,
    dtype_error,
    empty,
    like,
    shape_error,
)
from opdsl.ops.elementwise import apply, fast_call, plan_of
from opdsl.ops.launching import FastCall

import opdsl as od
from opdsl.support.knobs import knobs


@od.function
def itself(x):
    return x


_flat: FastCall | None = None


def _moved(name: str, source: Array, out: Any, target: str | None, given: Any, dtype: Any = None) -> Any:
    """A row-major copy of a view, or the view's elements put into `out`."""
    checked_dtype(name, "x", source)
    wanted = source.dtype if dtype is None else dtype
    if out is None:
        result: Array = empty(source.shape, wanted)
    else:
        result = as_array(name, "out", out)
        if result.shape != source.shape:
            raise shape_error(
                name, f"out has shape {result.shape}, but the result has {source.shape}", "pass an array of that shape"
            )
        if result.dtype != wanted:
            raise dtype_error(
                name, f"out has dtype {result.dtype}, but the result has {wanted}", "pass an array of that dtype"
            )
    if result.size:
        plan = plan_of((source,), result)
        apply(itself, plan, (source,), result, target)
        global _flat
        if target is None and len(plan.dims) == 1:
            _flat = fast_call(itself, plan)
    return out if out is not None else like(result, given)


def copy(x: Any, *, out: Any = None, target: str | None = None) -> Any:
    """The elements of x in a new row-major array, or in `out` whatever its strides."""
    if _flat is not None and target is None and _flat.generation == knobs.generation and _flat.fast(x, out) is None:
        return out
    return _moved("copy", as_array("copy", "x", x), out, target, x)


def contiguous(x: Any, *, target: str | None = None) -> Any:
    """x itself if its elements lie in row-major order, else a copy of which that is true."""
    array = as_array("contiguous", "x", x)
    return x if array.flags.c_contiguous else _moved("contiguous", array, None, target, x)


def cast(x: Any, dtype: Any, *, out: Any = None, target: str | None = None) -> Any:
    """x converted to a NumPy dtype, rounded to nearest; floats to integers toward zero."""
    array = as_array("cast", "x", x)
    try:
        wanted = np.dtype(dtype)
    except TypeError:
        raise argument_error(
            "cast", f"dtype is {dtype!r}, which is no dtype", 'give one as NumPy does: "float32"'
        ) from None
    return _moved("cast", array, out, target, x, wanted)


def transpose(x: Any, axis0: int = -2, axis1: int = -1, *, out: Any = None, target: str | None = None) -> Any:
    """x with two axes exchanged (the last two by default), the elements moved."""
    array = as_array("transpose", "x", x)
    if array.ndim < 2:
        raise shape_error("transpose", f"x has shape {array.shape}", "pass an array with two axes or more")
    first = check_axis("transpose", axis0, array.ndim, "axis0")
    second = check_axis("transpose", axis1, array.ndim, "axis1")
    return _moved("transpose", array.swapaxes(first, second), out, target, x)


def permute(x: Any, axes: Any, *, out: Any = None, target: str | None = None) -> Any:
    """x with its axes in the order `axes`, the elements moved."""
    array = as_array("permute", "x", x)
    order = [check_axis("permute", axis, array.ndim, "an axis") for axis in tuple(axes)]
    if sorted(order) != list(range(array.ndim)):
        message = f"axes are {tuple(axes)}, but x has {array.ndim} axes"
        raise shape_error("permute", message, f"name each of 0 to {array.ndim - 1} once")
    return _moved("permute", array.transpose(order), out, target, x)
