"""How the interpreter holds values: NumPy arrays of the value's shape, 0-d for scalars."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from opdsl.ir import types as t
from opdsl.ir.types import DType

Array = np.ndarray[Any, np.dtype[Any]]
Number = bool | int | float

NUMPY_DTYPES: dict[DType, np.dtype[Any]] = {
    t.f64: np.dtype(np.float64),
    t.f32: np.dtype(np.float32),
    t.f16: np.dtype(np.float16),
    t.bf16: np.dtype(ml_dtypes.bfloat16),
    t.f8e4m3: np.dtype(ml_dtypes.float8_e4m3fn),
    t.f8e5m2: np.dtype(ml_dtypes.float8_e5m2),
    t.i64: np.dtype(np.int64),
    t.i32: np.dtype(np.int32),
    t.i16: np.dtype(np.int16),
    t.i8: np.dtype(np.int8),
    t.u64: np.dtype(np.uint64),
    t.u32: np.dtype(np.uint32),
    t.u16: np.dtype(np.uint16),
    t.u8: np.dtype(np.uint8),
    t.bool_: np.dtype(np.bool_),
}

HALF_FLOATS = frozenset((t.f16, t.bf16, t.f8e4m3, t.f8e5m2))

_ML_DTYPES = frozenset(NUMPY_DTYPES[d] for d in HALF_FLOATS) - {np.dtype(np.float16)}


def widen(array: Array, dtype: DType) -> Array:
    """16- and 8-bit floats as f32, exactly; everything else as it is.

    An f32 result of +, -, *, / or sqrt of such operands, rounded again to their type, is the correctly rounded one:
    f32 has more than twice their precision and two bits. So this is also how to compute in those types.
    """
    return array.astype(np.float32) if dtype in HALF_FLOATS else array


def convert(array: Array, dtype: DType) -> Array:
    """The value cast to `dtype`: floats round to nearest even, floats to integers truncate, integers wrap.

    A cast from f64 or an integer to bf16 or f8 goes by f32. A float out of an integer type's range gives any value.
    """
    target = NUMPY_DTYPES[dtype]
    if array.dtype == target:
        return array
    if dtype.is_bool:
        return np.asarray(array != np.zeros((), array.dtype))
    if array.dtype in _ML_DTYPES or target in _ML_DTYPES:
        array = array.astype(np.float32)
    return np.asarray(array).astype(target)


def scalar(value: bool | int | float, dtype: DType) -> Array:
    """A 0-d array of a Python number. An integer out of range wraps."""
    if dtype.is_integer:
        wrapped = int(value) & ((1 << dtype.bits) - 1)
        if dtype.kind == "int" and wrapped >> (dtype.bits - 1):
            wrapped -= 1 << dtype.bits
        return np.array(wrapped, NUMPY_DTYPES[dtype])
    if dtype.is_bool:
        return np.array(bool(value))
    return convert(np.array(float(value), np.float64), dtype)


def as_number(value: Array, dtype: DType) -> Number:
    """A 0-d array as a Python number, exactly."""
    if dtype.is_float:
        return float(value.astype(np.float64))
    return bool(value) if dtype.is_bool else int(value)


def rounded_number(value: Number, dtype: DType) -> Number:
    """A scalar argument as the Python number that it is in `dtype`: rounded, or wrapped."""
    with np.errstate(all="ignore"):  # one that is too large becomes infinite
        return as_number(scalar(value, dtype), dtype)
