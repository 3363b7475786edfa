"""What operators do with their arguments before and after a kernel runs: arrays, dtypes, outputs, errors.

Types of results are those of the language, which are PyTorch's: a float wins over an integer, the wider of two of a
kind wins, f16 with bf16 gives f32, and a Python number takes the type of the array that it meets (a float with integers
gives f32). Zero-dimensional arrays count as arrays.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opdsl.ir import numpy_types
from opdsl.ir.numpy_types import dtype_name, numpy_dtypes
from opdsl.ir.types import DTYPES, DType, f32, integer_range
from opdsl.lang import promotion
from opdsl.runtime import arrays
from opdsl.runtime.memory import empty
from opdsl.support.errors import ArgumentError, DTypeError, LaunchError, Misuse, ShapeError

Array = NDArray[Any]
Number = bool | int | float

NARROW = frozenset({"f16", "bf16", "f8e4m3", "f8e5m2"})


def located(error: LaunchError) -> LaunchError:
    """The error with the place of the user's call."""
    error.locate()
    return error


def shape_error(operator: str, message: str, help: str) -> LaunchError:
    return located(ShapeError(f"{operator}: {message}", help))


def dtype_error(operator: str, message: str, help: str) -> LaunchError:
    return located(DTypeError(f"{operator}: {message}", help))


def argument_error(operator: str, message: str, help: str) -> LaunchError:
    return located(ArgumentError(f"{operator}: {message}", help))


def is_number(value: object) -> bool:
    return isinstance(value, bool | int | float) and not isinstance(value, np.generic)


def as_array(operator: str, name: str, value: Any) -> Array:
    """An argument as a NumPy array that shares its memory; lists and scalars of NumPy become arrays."""
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.generic | list | tuple) or is_number(value):
        value = np.asarray(value)
        return value.astype(np.float32) if value.dtype == np.float64 and not isinstance(value, np.float64) else value
    try:
        return arrays.as_array(value, name)
    except arrays.ArgumentError as error:
        message, _, help = str(error).rpartition("; ")
        raise argument_error(operator, message or help, help if message else "") from None


@cache
def dtype_of(dtype: np.dtype[Any]) -> DType | None:
    name = dtype_name(dtype)
    return DTYPES[name] if name is not None and dtype.isnative else None


def checked_dtype(operator: str, name: str, array: Array) -> DType:
    dtype = dtype_of(array.dtype)
    if dtype is None:
        known = ", ".join(str(d) for d in numpy_dtypes())
        raise dtype_error(
            operator,
            f"{name} has dtype {array.dtype.str if array.dtype.isbuiltin else array.dtype}; operators know {known}",
            f"convert it: {name}.astype(...)",
        )
    return dtype


def numpy_dtype(dtype: DType) -> np.dtype[Any]:
    return numpy_types.numpy_dtype(dtype.name)


def promoted(operator: str, operands: Sequence[DType | Number]) -> DType:
    """The dtype of an operation on arrays (given by their dtypes) and Python numbers."""
    typed = [operand for operand in operands if isinstance(operand, DType)]
    numbers = [operand for operand in operands if not isinstance(operand, DType)]
    try:
        result = typed[0] if typed else promotion.number_dtype(numbers[0])
        for dtype in typed[1:]:
            result = promotion.join(result, dtype)
        for number in numbers:
            result = promotion.with_number(result, number)
    except Misuse as misuse:
        raise dtype_error(operator, misuse.message, "convert one of them by .astype(...)") from None
    return result


def to_float(dtype: DType) -> DType:
    """The dtype of a function that gives fractions."""
    return dtype if dtype.is_float else f32


def number_array(value: Number, dtype: DType, operator: str = "", name: str = "") -> Array:
    """A Python number as an array that meets arrays of `dtype`: narrow floats meet it in f32, unrounded."""
    wide = f32 if dtype.name in NARROW else dtype
    if wide.is_integer and not promotion.fits(int(value), wide):
        low, high = integer_range(wide)
        raise argument_error(
            operator, f"{name} is {value}, which {wide} ({low} to {high}) cannot hold", "convert the array first"
        )
    return np.array(value, numpy_dtype(wide))


def check_out(operator: str, out: Array, shape: tuple[int, ...], dtype: DType) -> None:
    """Refuses an output of another shape, or of a dtype that cannot hold the result's kind of number."""
    if out.shape != shape:
        raise shape_error(
            operator, f"out has shape {out.shape}, but the result has {shape}", f"pass an array of shape {shape}"
        )
    have = checked_dtype(operator, "out", out)
    if have != dtype:
        kinds = {"bool": 0, "uint": 1, "int": 2, "float": 3}
        if kinds[_kind(dtype)] > kinds[_kind(have)]:
            raise dtype_error(
                operator,
                f"the result is {dtype}, which out, of {have}, cannot hold",
                f'pass an array of dtype "{numpy_dtype(dtype).name}"',
            )
    if not out.flags.writeable:
        raise argument_error(operator, "out is read-only", "pass a writeable array, as out.copy()")


def _kind(dtype: DType) -> str:
    return "bool" if dtype.is_bool else "float" if dtype.is_float else dtype.kind


def check_axis(operator: str, axis: Any, rank: int, name: str = "axis") -> int:
    """An axis counted from the front."""
    if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
        raise argument_error(
            operator, f"{name} is {axis!r}, where a whole number is needed", "count axes from 0, or back from -1"
        )
    if not -rank <= axis < rank:
        allowed = f"it is from {-rank} to {rank - 1}" if rank else "an array without axes has none"
        raise shape_error(operator, f"{name} is {axis}, but the array has {rank} axes", allowed)
    return int(axis) % rank


def check_axes(operator: str, axis: Any, rank: int) -> tuple[int, ...]:
    """The axes that None, a number or a tuple of numbers names, ascending."""
    if axis is None:
        return tuple(range(rank))
    given = tuple(axis) if isinstance(axis, tuple | list) else (axis,)
    axes = tuple(sorted(check_axis(operator, a, rank) for a in given))
    if len(set(axes)) != len(axes):
        raise argument_error(operator, f"axis is {axis}, which names an axis twice", "name each axis once")
    return axes


def is_foreign(value: Any) -> bool:
    """Whether it is another library's array, such as a torch tensor."""
    return (
        type(value) is not np.ndarray
        and hasattr(value, "__dlpack__")
        and not isinstance(value, (np.ndarray, np.generic))
    )


def native(operator: str, name: str, value: Any) -> Any:
    """Another library's array as NumPy's, which shares its memory; anything else as it is."""
    return as_array(operator, name, value) if is_foreign(value) else value


def through_arrays(operator: str, call: Callable[..., Any], out: Any, **given: Any) -> Any:
    """The operator on other libraries' arrays: `call(*arrays, out)` on NumPy's, its result as what was given."""
    result = call(*(native(operator, name, value) for name, value in given.items()), native(operator, "out", out))
    return out if out is not None else like(result, *given.values())


def like(result: Array, *inputs: Any) -> Any:
    """The result as what the inputs are: a torch tensor that shares its memory, if one of them is one, and so on."""
    for value in inputs:
        if not is_foreign(value):
            continue
        module = sys.modules.get(type(value).__module__.partition(".")[0])
        if module is not None and module.__name__ == "torch":
            return arrays.to_torch(result)
        exchange = getattr(module, "from_dlpack", None)
        return exchange(result) if exchange is not None else result
    return result


__all__ = [
    "NARROW",
    "Array",
    "Number",
    "argument_error",
    "as_array",
    "check_axes",
    "check_axis",
    "check_out",
    "checked_dtype",
    "dtype_error",
    "dtype_of",
    "empty",
    "is_foreign",
    "is_number",
    "like",
    "located",
    "native",
    "number_array",
    "numpy_dtype",
    "promoted",
    "shape_error",
    "through_arrays",
    "to_float",
]


def either(name: str, axis: Any, default: Any, dim: Any) -> Any:
    """`axis`, or what was given for it under PyTorch's name."""
    if axis is not default and axis != default:
        raise argument_error(name, f"both axis ({axis!r}) and dim ({dim!r}) are given", "they are the same: give one")
    return dim
