"""Operators made of one elementwise function: the description of one, and the Python function that a user calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from opdsl.ops.arguments import (
    Array,
    Number,
    argument_error,
    as_array,
    check_out,
    checked_dtype,
    dtype_error,
    empty,
    is_foreign,
    is_number,
    like,
    native,
    number_array,
    numpy_dtype,
    promoted,
    to_float,
)
from opdsl.ops.elementwise import Plan, apply, broadcast_shape, fast_call, merged, output_like, plan_of
from opdsl.ops.launching import FastCall

from opdsl.ir.types import DType, bool_, f32
from opdsl.lang.function import Function
from opdsl.support.knobs import knobs

# What the result's dtype is, from that of the promoted operands.
RESULTS: dict[str, Callable[[DType], DType]] = {"same": lambda d: d, "float": to_float, "bool": lambda _: bool_}


@dataclass(eq=False)
class Pointwise:
    """One elementwise operator. `result` is a key of RESULTS; `types`, if given, the kinds of dtype that it takes."""

    name: str
    function: Function
    operands: tuple[str, ...] = ("x",)
    result: str = "same"
    types: tuple[str, ...] = ()
    selects: bool = False  # the first operand is a condition and has no part in promotion
    call: FastCall = field(init=False)
    prepared: dict[tuple[Any, ...], Prepared] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.operands)
        self.call = fast_call(self.function, Plan((0,), (0,), (), ((True,),) * count, False, False))

    def result_dtype(self, operands: Sequence[DType | Number]) -> DType:
        if self.selects:
            operands = operands[1:]
        common = promoted(self.name, operands)
        kind = "bool" if common.is_bool else "float" if common.is_float else "integer"
        if self.types and kind not in self.types:
            raise dtype_error(
                self.name,
                f"the operands are {common}, but it is for {' and '.join(self.types)} arrays",
                "convert them by .astype(...)",
            )
        return RESULTS[self.result](common)

    def __call__(self, given: Sequence[Any], out: Any, target: str | None) -> Any:
        """Any call: one like a call before is prepared already."""
        if any(is_foreign(v) for v in (*given, out)):
            arrays = [native(self.name, n, v) for n, v in zip(self.operands, given, strict=True)]
            result = self(arrays, native(self.name, "out", out), target)
            return out if out is not None else like(result, *given)
        if target is not None:
            return self._long_way(given, out, target, None)
        key = (knobs.generation, *[_signature(value) for value in given], _signature(out))
        prepared = self.prepared.get(key)
        if prepared is None:
            return self._long_way(given, out, target, key)
        views = [
            view(value if dtype is None else np.array(value, dtype))
            for value, dtype, view in zip(given, prepared.numbers, prepared.views, strict=True)
        ]
        result = out if out is not None else prepared.allocate()
        if prepared.call.fast(*views, prepared.target(result)) is None:
            return result
        return self._long_way(given, result, target, None)

    def _long_way(self, given: Sequence[Any], out: Any, target: str | None, key: tuple[Any, ...] | None) -> Any:
        """With all checks. `key`, if given, is what the call is remembered by."""
        arrays = [
            as_array(self.name, n, v) if not is_number(v) else v for n, v in zip(self.operands, given, strict=True)
        ]
        if all(is_number(a) for a in arrays):
            arrays = [as_array(self.name, n, v) for n, v in zip(self.operands, given, strict=True)]
        kinds = [
            checked_dtype(self.name, n, a) if isinstance(a, np.ndarray) else a
            for n, a in zip(self.operands, arrays, strict=True)
        ]
        dtype = self.result_dtype(kinds)
        meet = promoted(self.name, kinds[1:] if self.selects else kinds)
        meet = to_float(meet) if self.result == "float" else meet
        operands = [
            a if isinstance(a, np.ndarray) else number_array(a, meet, self.name, n)
            for n, a in zip(self.operands, arrays, strict=True)
        ]
        shape = broadcast_shape(self.name, self.operands, operands)
        if out is None:
            result = output_like(shape, numpy_dtype(dtype), operands)
        else:
            result = as_array(self.name, "out", out)
            check_out(self.name, result, shape, dtype)
        if result.size:
            plan = plan_of(operands, result)
            apply(self.function, plan, operands, result, target)
            plain = all(type(v) is np.ndarray or is_number(v) for v in given) and not plan.loops
            if key is not None and plain and (out is None or out is result):
                self._remember(key, plan, given, operands, result)
        return out if out is not None else result

    def _remember(
        self, key: tuple[Any, ...], plan: Plan, given: Sequence[Any], operands: Sequence[Array], result: Array
    ) -> None:
        if len(self.prepared) >= MAXIMUM_PREPARED:
            self.prepared.clear()
        numbers = tuple(None if type(g) is np.ndarray else o.dtype for g, o in zip(given, operands, strict=True))
        views = tuple(view_of(operand, result.shape, plan) for operand in operands)
        self.prepared[key] = Prepared(
            fast_call(self.function, plan), numbers, views, view_of(result, result.shape, plan), allocator(result)
        )


MAXIMUM_PREPARED = 4096


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a call like one before needs: the kernel, how each operand becomes what it takes, and the output's making."""

    call: FastCall
    numbers: tuple[np.dtype[Any] | None, ...]  # of the operands that are Python numbers, the dtype that they become
    views: tuple[Callable[[Any], Array], ...]
    target: Callable[[Array], Array]
    allocate: Callable[[], Array]


def _signature(value: Any) -> Any:
    """What the preparation of a call depends on."""
    if type(value) is np.ndarray:
        return value.dtype, value.shape, value.strides
    return type(value), value if type(value) is int and not 0 <= value < 128 else None


def view_of(array: Array, shape: tuple[int, ...], plan: Plan) -> Callable[[Any], Array]:
    """The quickest way to see an array like `array` as a plan does."""
    dims = plan.dims
    if array.shape == dims:
        return _itself
    if array.shape == shape and (not plan.reorders or array.ndim < 2):
        return lambda a: a.reshape(dims)
    if array.shape != shape and array.flags.c_contiguous and array.dtype.isbuiltin == 1:
        strides = merged(array, shape, plan).strides
        return lambda a: np.ndarray(dims, a.dtype, a, 0, strides)
    return lambda a: merged(a, shape, plan)


def _itself(array: Any) -> Array:
    result: Array = array
    return result


def allocator(result: Array) -> Callable[[], Array]:
    """Makes outputs like `result`."""
    shape, dtype = result.shape, result.dtype
    if result.flags.c_contiguous:
        return lambda: empty(shape, dtype)
    order = sorted(range(len(shape)), key=lambda axis: -abs(result.strides[axis]))
    inside, back = tuple(shape[axis] for axis in order), tuple(int(i) for i in np.argsort(order))
    return lambda: empty(inside, dtype).transpose(back)


def _finished(operator: Callable[..., Any], name: str, text: str) -> Callable[..., Any]:
    operator.__name__ = operator.__qualname__ = name
    operator.__doc__ = text
    operator.__module__ = "opdsl.ops"
    return operator


def unary(pointwise: Pointwise, text: str) -> Callable[..., Any]:
    """The function of one array."""
    call = pointwise.call

    def operator(x: Any, *, out: Any = None, target: str | None = None) -> Any:
        # One call of C++ does a call like one before on arrays of one dim.
        if target is None and call.generation == knobs.generation and call.fast(x, out) is None:
            return out
        return pointwise((x,), out, target)

    return _finished(operator, pointwise.name, text)


def binary(pointwise: Pointwise, text: str) -> Callable[..., Any]:
    """The function of two arrays, or of an array and a number."""
    call = pointwise.call

    def operator(x: Any, y: Any, *, out: Any = None, target: str | None = None) -> Any:
        if target is None and call.generation == knobs.generation and call.fast(x, y, out) is None:
            return out
        return pointwise((x, y), out, target)

    return _finished(operator, pointwise.name, text)


def check_number(operator: str, name: str, value: Any) -> float:
    """A parameter of an operator that is one number."""
    if not isinstance(value, int | float | np.integer | np.floating):
        raise argument_error(operator, f"{name} is {value!r}, where a number is needed", f"pass {name}=1.0, say")
    return float(value)


__all__ = ["Array", "DType", "Pointwise", "binary", "check_number", "f32", "unary"]
