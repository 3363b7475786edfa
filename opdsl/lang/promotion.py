"""Which dtype an operation of mixed dtypes has. `docs/language.md`, "Types of results", is the same in prose."""

from __future__ import annotations

import math

from opdsl.ir.types import DTYPES, DType, bool_, f32, i32, i64, integer_range
from opdsl.lang.values import NUMBERS, Number, Scalar, Tile
from opdsl.support.errors import Misuse


def number_dtype(value: Number) -> DType:
    """What a Python number becomes where nothing gives it a type."""
    if isinstance(value, bool):
        return bool_
    return i64 if isinstance(value, int) else f32


def fits(value: int, dtype: DType) -> bool:
    low, high = integer_range(dtype)
    return low <= value <= high


def join(left: DType, right: DType) -> DType:
    """The dtype of an operation of two typed operands."""
    if left == right:
        return left
    if left.is_float and right.is_float:
        if left.bits == right.bits:
            return f32  # f16 with bf16, or the two 8-bit floats: neither holds the other
        return left if left.bits > right.bits else right
    if left.is_float or right.is_bool:
        return left
    if right.is_float or left.is_bool:
        return right
    if left.kind == right.kind:
        return left if left.bits > right.bits else right
    signed, unsigned = (left, right) if left.kind == "int" else (right, left)
    if signed.bits > unsigned.bits:
        return signed
    if unsigned.bits == 64:
        raise Misuse(
            f"{left} and {right} have no common integer type",
            "od.cast one of them to the other's type, or both to f64",
        )
    return DTYPES[f"i{2 * unsigned.bits}"]


def with_number(dtype: DType, value: Number) -> DType:
    """The dtype of an operation of a typed operand and a Python number, which takes the operand's type if it can."""
    if isinstance(value, bool) or dtype.is_float:
        return dtype
    if isinstance(value, float):
        return f32
    return i32 if dtype.is_bool else dtype


def check_fits(value: Number, dtype: DType) -> None:
    """Refuses a Python number that `dtype` cannot hold."""
    if dtype.is_integer:
        if isinstance(value, float) and not (math.isfinite(value) and value.is_integer()):
            raise Misuse(
                f"{value} is not a value of {dtype}",
                "write a whole number, or od.cast the other operand to a float type",
            )
        if not fits(int(value), dtype):
            low, high = integer_range(dtype)
            raise Misuse(
                f"{value} does not fit into {dtype} ({low} to {high})",
                "od.cast the other operand to a wider type first",
            )
    elif dtype.is_bool and value not in (0, 1):
        raise Misuse(f"{value} is not a value of bool", "use True or False")


def _weak_number(operand: Scalar) -> Number:
    """A number of the kind that a weak scalar stands for."""
    return False if operand.dtype.is_bool else 0.0 if operand.dtype.is_float else 0


def common(*operands: object) -> DType:
    """The dtype of an operation of scalars, tiles and Python numbers."""
    strong: DType | None = None
    numbers: list[Number] = []
    for operand in operands:
        if isinstance(operand, Scalar) and operand.weak:
            numbers.append(_weak_number(operand))
        elif isinstance(operand, Scalar | Tile):
            strong = operand.dtype if strong is None else join(strong, operand.dtype)
        else:
            assert isinstance(operand, NUMBERS)
            numbers.append(operand)
    if strong is None:
        kinds = [number_dtype(number) for number in numbers]
        return next((k for k in (f32, i64, bool_) if k in kinds), f32)
    # The widest kind of number decides, so that the order of the operands does not.
    for kind in (float, int):
        for number in numbers:
            if type(number) is kind:
                return with_number(strong, number)
    return strong
