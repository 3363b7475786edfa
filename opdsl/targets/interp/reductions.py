"""dot, reductions, scans, sort. Floats are accumulated in f64 and rounded once (by f32 for the narrower types)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from opdsl.ir.core import Op
from opdsl.ir.semantics.identities import identity
from opdsl.ir.semantics.values import HALF_FLOATS, NUMPY_DTYPES, Array, convert, widen
from opdsl.ir.types import DType

Combine = Callable[[list[Array]], list[Array]]


def _round(array: Any, dtype: DType) -> Array:
    array = np.asarray(array)
    return convert(array.astype(np.float32) if dtype in HALF_FLOATS else array, dtype)


def dot(op: Op, operands: list[Array]) -> Array:
    a, b = operands
    dtype = op.operands[0].type.dtype
    if dtype.is_float:
        exact = np.asarray(np.matmul(a.astype(np.float64), b.astype(np.float64)))
        return exact.astype(NUMPY_DTYPES[op.result.type.dtype])
    # Products of 16-bit integers add up exactly in f64, which is far faster; the sum modulo 2^32 is the result.
    wide = np.float64 if dtype.bits <= 16 and a.shape[-1] < 1 << 20 else np.int64
    return np.asarray(np.matmul(a.astype(wide), b.astype(wide))).astype(np.int64).astype(np.int32)


def _accumulator(dtype: DType) -> np.dtype[Any]:
    return np.dtype(np.float64) if dtype.is_float else NUMPY_DTYPES[dtype]


def reduce(op: Op, operands: list[Array]) -> Array:
    (array,) = operands
    kind, axes, dtype = op.attributes["kind"], tuple(op.attributes["axes"]), op.result.type.dtype
    if kind in ("sum", "prod"):
        function = np.sum if kind == "sum" else np.prod
        wide = array.astype(_accumulator(dtype))
        return _round(function(wide, axis=axes, dtype=wide.dtype), dtype)
    if kind in ("any", "all"):
        return np.asarray((np.any if kind == "any" else np.all)(array, axis=axes))
    wide = widen(array, dtype)
    return convert(np.asarray((np.max if kind == "max" else np.min)(wide, axis=axes)), dtype)


def arg_reduce(op: Op, operands: list[Array]) -> Array:
    array = widen(operands[0], op.operands[0].type.dtype)
    function = np.argmax if op.attributes["kind"] == "max" else np.argmin
    return np.asarray(function(array, axis=op.attributes["axis"]), np.int64)


def scan(op: Op, operands: list[Array]) -> Array:
    kind, axis, dtype = op.attributes["kind"], op.attributes["axis"], op.result.type.dtype
    wide = operands[0].astype(_accumulator(dtype))
    if op.attributes["reverse"]:
        wide = np.flip(wide, axis)
    if op.attributes["exclusive"]:
        wide = np.roll(wide, 1, axis)
        first = (slice(None),) * axis + (0,)
        wide[first] = identity(kind, dtype)
    accumulate = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}[kind].accumulate
    scanned = accumulate(wide, axis=axis, dtype=wide.dtype)
    if op.attributes["reverse"]:
        scanned = np.flip(scanned, axis)
    return _round(scanned, dtype)


def _slices(operands: list[Array], axis: int, reverse: bool) -> list[list[Array]]:
    steps = [list(np.moveaxis(a, axis, 0)) for a in operands]
    slices = [[np.asarray(part) for part in parts] for parts in zip(*steps, strict=True)]
    return slices[::-1] if reverse else slices


def reduce_custom(op: Op, operands: list[Array], combine: Combine) -> tuple[Array, ...]:
    """Left to right along the axis, over all other axes at once."""
    first, *rest = _slices(operands, op.attributes["axis"], False)
    accumulated = first
    for part in rest:
        accumulated = combine(accumulated + part)
    return tuple(accumulated)


def scan_custom(op: Op, operands: list[Array], combine: Combine) -> tuple[Array, ...]:
    """Left to right; from the right end leftwards, with the accumulated value as the left operand, if reversed."""
    axis, reverse = op.attributes["axis"], op.attributes["reverse"]
    first, *rest = _slices(operands, axis, reverse)
    prefixes = [first]
    for part in rest:
        prefixes.append(combine(prefixes[-1] + part))
    if reverse:
        prefixes.reverse()
    return tuple(np.stack(column, axis) for column in zip(*prefixes, strict=True))


def sort(op: Op, operands: list[Array]) -> tuple[Array, ...]:
    (array,) = operands
    axis = op.attributes["axis"]
    keys = widen(array, op.operands[0].type.dtype)
    if op.attributes["descending"]:
        # Sorting the mirrored array keeps equal elements, NaNs too, in their order after mirroring back.
        order = array.shape[axis] - 1 - np.flip(np.argsort(np.flip(keys, axis), axis=axis, kind="stable"), axis)
    else:
        order = np.argsort(keys, axis=axis, kind="stable")
    return np.take_along_axis(array, order, axis), order.astype(np.int64)
