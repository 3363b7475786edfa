"""Elementwise ops on arrays. They broadcast, so that a combine function of a reduction runs on whole arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from opdsl.ir.core import Op
from opdsl.ir.functions import FUNCTIONS
from opdsl.ir.semantics.fused_multiply_add import fused_multiply_add_f32, fused_multiply_add_f64
from opdsl.ir.semantics.values import NUMPY_DTYPES, Array, convert, scalar, widen

Function = Callable[..., Array]

# Computed in f32 for types narrower than that, in the type itself otherwise: NumPy rounds these correctly.
ROUNDED: dict[str, Function] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "neg": np.negative,
    "abs": np.absolute,
    "shl": np.left_shift,
    "shr": np.right_shift,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
    **{row.name: row.exact for row in FUNCTIONS.values() if row.is_instruction},
}

# Computed in f64, then rounded: to f32, and from there to a narrower type.
TRANSCENDENTAL: dict[str, Function] = {row.name: row.exact for row in FUNCTIONS.values() if not row.is_instruction}


def rounded(op: Op, operands: list[Array]) -> Array:
    wide = [widen(a, v.type.dtype) for a, v in zip(operands, op.operands, strict=True)]
    return convert(np.asarray(ROUNDED[op.name](*wide)), op.result.type.dtype)


def transcendental(op: Op, operands: list[Array]) -> Array:
    dtype = op.result.type.dtype
    exact = np.asarray(TRANSCENDENTAL[op.name](*(a.astype(np.float64) for a in operands)))
    return exact if dtype.bits == 64 else convert(exact.astype(np.float32), dtype)


def integer_power(op: Op, operands: list[Array]) -> Array:
    base, exponent = operands
    negative = np.asarray(exponent < 0)
    power = np.power(base, np.where(negative, np.zeros((), exponent.dtype), exponent))
    return np.asarray(np.where(negative, np.zeros((), base.dtype), power))


def fused_multiply_add(op: Op, operands: list[Array]) -> Array:
    """Rounded once in f32 or f64; for a narrower type the f32 result is rounded again."""
    dtype = op.result.type.dtype
    if dtype.bits == 64:
        return fused_multiply_add_f64(*operands)
    return convert(fused_multiply_add_f32(*(widen(a, dtype) for a in operands)), dtype)


def select(op: Op, operands: list[Array]) -> Array:
    condition, chosen, other = operands
    return np.asarray(np.where(condition, chosen, other))


def cast(op: Op, operands: list[Array]) -> Array:
    return convert(operands[0], op.attributes["dtype"])


def constant(op: Op, operands: list[Array]) -> Array:
    return scalar(op.attributes["value"], op.attributes["dtype"])


def arange(op: Op, operands: list[Array]) -> Array:
    return np.arange(op.attributes["length"], dtype=NUMPY_DTYPES[op.result.type.dtype])
