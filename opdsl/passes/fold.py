"""Evaluates ops on constants, by the reference semantics, so that folding never changes a result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from opdsl.ir.core import Op
from opdsl.ir.ops import OPS
from opdsl.ir.semantics import elementwise
from opdsl.ir.semantics.values import Array, Number, as_number, convert, scalar
from opdsl.ir.types import DType, ScalarType

_EXTRA = {
    "ipow": elementwise.integer_power,
    "fma": elementwise.fused_multiply_add,
    "select": elementwise.select,
    "cast": elementwise.cast,
}



def evaluate(op: Op, values: Sequence[Number]) -> Number | None:
    """The result of a scalar elementwise op on constants; None where it is not to be folded."""
    if OPS[op.name].category != "elementwise" or not isinstance(op.result.type, ScalarType):
        return None
    operands: list[Array] = [scalar(v, o.type.dtype) for v, o in zip(values, op.operands, strict=True)]
    with np.errstate(all="ignore"):
        if op.name in elementwise.ROUNDED:
            result = elementwise.rounded(op, operands)
        elif op.name in elementwise.TRANSCENDENTAL:
            result = elementwise.transcendental(op, operands)
        elif op.name in _EXTRA:
            result = _EXTRA[op.name](op, operands)
        else:
            return None
    number = as_number(result, op.result.type.dtype)
    # A NaN's sign and payload are left to the machine; a cast out of range has any value.
    if number != number or (op.name == "cast" and _out_of_range(values[0], op.result.type.dtype)):
        return None
    return number


def _out_of_range(value: Number, dtype: DType) -> bool:
    if not dtype.is_integer or not isinstance(value, float):
        return False
    if value != value or value in (float("inf"), float("-inf")):
        return True
    limits = np.iinfo(convert(np.zeros(()), dtype).dtype)
    return not limits.min <= int(value) <= limits.max
