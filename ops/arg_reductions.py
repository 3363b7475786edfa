"""The place of the greatest or smallest element: `argmax(x, axis=None, *, keepdims=False, out=None, target=None)`.

i64, the first of equals, NaN wins; axis is None (of the array flattened in row-major order) or one number. ShapeError
where there is no element. Source: NumPy, torch.
"""

from __future__ import annotations

from typing import Any

from opdsl.ops.arguments import argument_error, either, shape_error
from opdsl.ops.launching import run
from opdsl.ops.reduction_kernels import arg_columns, arg_rows
from opdsl.ops.reduction_plan import checked, extreme, view_of

from opdsl.ir.types import i64


def _place(name: str, kind: str, x: Any, axis: Any, keepdims: bool, out: Any, target: str | None) -> Any:
    if isinstance(axis, tuple | list):
        raise argument_error(name, f"axis is {axis!r}, where one number or None is needed", "reshape the array first")
    call = checked(name, x, axis, keepdims, out, lambda _: i64)
    if call.count == 0:
        message = f"x has shape {call.array.shape}: there is no element to choose"
        raise shape_error(name, message, "reduce over an axis that is not empty")
    if call.out.size == 0:
        return call.result
    view = view_of(call.array, call.axes, keep_order=True)
    written = call.target(view)
    kernel = arg_rows if view.along_rows else arg_columns
    run(
        kernel,
        (view.array, written),
        target,
        kind=kind,
        identity=extreme(kind, call.dtype),
        dtype=call.dtype,
        **view.tile,
    )
    return call.finish(written)


def argmax(
    x: Any, axis: Any = None, *, dim: Any = None, keepdims: bool = False, out: Any = None, target: str | None = None
) -> Any:
    """The index of the greatest element."""
    if dim is not None:
        axis = either("argmax", axis, None, dim)
    return _place("argmax", "max", x, axis, keepdims, out, target)


def argmin(
    x: Any, axis: Any = None, *, dim: Any = None, keepdims: bool = False, out: Any = None, target: str | None = None
) -> Any:
    """The index of the smallest element."""
    if dim is not None:
        axis = either("argmin", axis, None, dim)
    return _place("argmin", "min", x, axis, keepdims, out, target)
