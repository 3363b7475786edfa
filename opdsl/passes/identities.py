"""Algebraic rules that hold exactly, to the bit, for every value (a NaN stays some NaN).

A rule takes the rewriter and an op, whose operands are simplified already, and gives the value that replaces the
op's result, or None. Rules look through splats: a tile that broadcasts a scalar constant counts as that constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

from opdsl.ir.core import Op, Value
from opdsl.ir.ops import OPS
from opdsl.ir.types import DType, bf16, f8e4m3, f8e5m2, f16, f32, f64, shape_of

Number = bool | int | float


class Rewriter(Protocol):
    def definition(self, value: Value) -> Op | None: ...

    def number(self, value: Value) -> Number | None:
        """The constant that a scalar, or every element of a tile, is known to be."""

    def emit(self, name: str, *operands: Value, **attributes: Any) -> Value: ...


Rule = Callable[[Rewriter, Op], Value | None]
RULES: dict[str, list[Rule]] = {}


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        for name in names:
            RULES.setdefault(name, []).append(rule)
        return rule

    return register


def _constant(rewriter: Rewriter, value: Number, like: Value) -> Value:
    scalar = rewriter.emit("constant", value=value, dtype=like.type.dtype)
    shape = shape_of(like.type)
    return rewriter.emit("broadcast", scalar, shape=shape) if shape else scalar


def _is_negative_zero(number: Number) -> bool:
    return number == 0 and math.copysign(1.0, number) < 0


@_rule("add")
def add(rewriter: Rewriter, op: Op) -> Value | None:
    dtype = op.result.type.dtype
    for value, other in (op.operands, op.operands[::-1]):
        number = rewriter.number(other)
        if number is None:
            continue
        # -0.0 + 0.0 is 0.0, so adding 0.0 changes something, and adding -0.0 does not.
        if number == 0 and (not dtype.is_float or _is_negative_zero(number)):
            return value
        inner = rewriter.definition(value)
        if dtype.is_integer and inner is not None and inner.name == "add":
            inner_number = rewriter.number(inner.operands[1])
            if inner_number is not None:
                total = _constant(rewriter, _wrap(int(number) + int(inner_number), dtype), value)
                return rewriter.emit("add", inner.operands[0], total)
    left, right = map(rewriter.number, op.operands)
    if dtype.is_integer and left is not None and right is None:
        return rewriter.emit("add", op.operands[1], op.operands[0])  # constants to the right
    return None


def _wrap(number: int, dtype: DType) -> int:
    number &= (1 << dtype.bits) - 1
    return number - (1 << dtype.bits) if dtype.kind == "int" and number >> (dtype.bits - 1) else number


@_rule("sub")
def subtract(rewriter: Rewriter, op: Op) -> Value | None:
    left, right = op.operands
    dtype = op.result.type.dtype
    number = rewriter.number(right)
    if number is not None and number == 0 and not (dtype.is_float and _is_negative_zero(number)):
        return left
    if dtype.is_integer:
        if left is right:
            return _constant(rewriter, 0, left)
        if number is not None:
            return rewriter.emit("add", left, _constant(rewriter, _wrap(-int(number), dtype), right))
    return None


@_rule("mul")
def multiply(rewriter: Rewriter, op: Op) -> Value | None:
    for value, other in (op.operands, op.operands[::-1]):
        number = rewriter.number(other)
        if number is not None and number == 1:
            return value
        if number is not None and number == 0 and not op.result.type.dtype.is_float:
            return other
    return None


@_rule("div")
def divide(rewriter: Rewriter, op: Op) -> Value | None:
    value, divisor = op.operands
    dtype = op.result.type.dtype
    number = rewriter.number(divisor)
    if number is None:
        return None
    if number == 1:
        return value
    mantissa, exponent = math.frexp(number)
    # A quotient by a power of two is the product with its reciprocal, where both are normal numbers.
    if dtype in _SMALLEST_EXPONENT and abs(mantissa) == 0.5 and _SMALLEST_EXPONENT[dtype] < 2 - exponent < 15:
        return rewriter.emit("mul", value, _constant(rewriter, 1.0 / number, divisor))
    return None


_SMALLEST_EXPONENT = {f64: -1021, f32: -125, f16: -13, bf16: -125}


@_rule("floordiv")
def floor_divide(rewriter: Rewriter, op: Op) -> Value | None:
    value, divisor = op.operands
    return value if value.type.dtype.is_integer and rewriter.number(divisor) == 1 else None


@_rule("mod")
def modulo(rewriter: Rewriter, op: Op) -> Value | None:
    value, divisor = op.operands
    if value.type.dtype.is_integer and rewriter.number(divisor) == 1:
        return _constant(rewriter, 0, value)
    return None


@_rule("shl", "shr")
def shift(rewriter: Rewriter, op: Op) -> Value | None:
    return op.operands[0] if rewriter.number(op.operands[1]) == 0 else None


@_rule("and", "or", "xor")
def bitwise(rewriter: Rewriter, op: Op) -> Value | None:
    dtype = op.result.type.dtype
    ones = True if dtype.is_bool else _wrap(-1, dtype)
    if op.name != "xor" and op.operands[0] is op.operands[1]:
        return op.operands[0]
    for value, other in (op.operands, op.operands[::-1]):
        number = rewriter.number(other)
        if number is None:
            continue
        if number == 0:
            return other if op.name == "and" else value
        if number == ones and op.name != "xor":
            return value if op.name == "and" else other
    return None


@_rule("min", "max")
def extreme(rewriter: Rewriter, op: Op) -> Value | None:
    return op.operands[0] if op.operands[0] is op.operands[1] else None


@_rule("neg", "not")
def involution(rewriter: Rewriter, op: Op) -> Value | None:
    inner = rewriter.definition(op.operands[0])
    return inner.operands[0] if inner is not None and inner.name == op.name else None


@_rule("abs", *("floor", "ceil", "trunc", "round"))
def idempotent(rewriter: Rewriter, op: Op) -> Value | None:
    inner = rewriter.definition(op.operands[0])
    return op.operands[0] if inner is not None and inner.name == op.name else None


@_rule("select")
def select(rewriter: Rewriter, op: Op) -> Value | None:
    condition, chosen, other = op.operands
    if chosen is other:
        return chosen
    number = rewriter.number(condition)
    return None if number is None else (chosen if number else other)


# The types that hold every value of a type.
_HOLDS: dict[DType, frozenset[DType]] = {
    f8e4m3: frozenset((f16, bf16, f32, f64)),
    f8e5m2: frozenset((f16, bf16, f32, f64)),
    f16: frozenset((f32, f64)),
    bf16: frozenset((f32, f64)),
    f32: frozenset((f64,)),
}


def _holds(wide: DType, narrow: DType) -> bool:
    if narrow.is_bool:
        return True  # zero and one are in every type
    if narrow.is_integer and wide.is_integer:
        return wide.bits >= narrow.bits  # wrapping there and back gives the same bits
    if narrow.is_integer and wide.is_float:
        return {f64: 53, f32: 24, f16: 11, bf16: 8}.get(wide, 0) >= narrow.bits
    return wide in _HOLDS.get(narrow, ())


@_rule("cast")
def cast(rewriter: Rewriter, op: Op) -> Value | None:
    (value,) = op.operands
    target = op.result.type.dtype
    if value.type.dtype == target:
        return value
    inner = rewriter.definition(value)
    if inner is not None and inner.name == "cast":
        source = inner.operands[0]
        if source.type.dtype == target and _holds(value.type.dtype, target):
            return source
    return None


@_rule("broadcast")
def broadcast(rewriter: Rewriter, op: Op) -> Value | None:
    (value,) = op.operands
    if shape_of(value.type) == op.attributes["shape"]:
        return value
    inner = rewriter.definition(value)
    if inner is not None and inner.name == "broadcast":
        return rewriter.emit("broadcast", inner.operands[0], shape=op.attributes["shape"])
    return None


def _splat(rewriter: Rewriter, value: Value) -> Value | None:
    """The scalar that a tile repeats."""
    inner = rewriter.definition(value)
    if inner is not None and inner.name == "broadcast" and not shape_of(inner.operands[0].type):
        return inner.operands[0]
    return None


@_rule("reshape", "transpose", "extract")
def move_splat(rewriter: Rewriter, op: Op) -> Value | None:
    """A tile with all elements equal only changes its shape."""
    scalar = _splat(rewriter, op.operands[0])
    if scalar is None:
        return None
    shape = shape_of(op.result.type)
    return rewriter.emit("broadcast", scalar, shape=shape) if shape else scalar


@_rule("reshape")
def reshape(rewriter: Rewriter, op: Op) -> Value | None:
    (value,) = op.operands
    shape = op.attributes["shape"]
    if shape_of(value.type) == shape:
        return value
    inner = rewriter.definition(value)
    if inner is not None and inner.name == "reshape":
        return rewriter.emit("reshape", inner.operands[0], shape=shape)
    return None


@_rule("transpose")
def transpose(rewriter: Rewriter, op: Op) -> Value | None:
    (value,) = op.operands
    permutation = tuple(op.attributes["permutation"])
    if permutation == tuple(range(len(permutation))):
        return value
    inner = rewriter.definition(value)
    if inner is not None and inner.name == "transpose":
        first = inner.attributes["permutation"]
        return rewriter.emit("transpose", inner.operands[0], permutation=tuple(first[p] for p in permutation))
    return None


@_rule("extract")
def extract(rewriter: Rewriter, op: Op) -> Value | None:
    (value,) = op.operands
    return value if op.result.type == value.type and all(s == 1 for s in op.attributes["steps"]) else None


@_rule("concat")
def concat(rewriter: Rewriter, op: Op) -> Value | None:
    return op.operands[0] if len(op.operands) == 1 else None


def sink_broadcast(rewriter: Rewriter, op: Op) -> Value | None:
    """f(broadcast(a), broadcast(b)) = broadcast(f(a, b)), where the sources have one shape, or are scalars."""
    shape = shape_of(op.result.type)
    if not shape or OPS[op.name].category != "elementwise" or not op.operands:
        return None
    sources: list[Value] = []
    for operand in op.operands:
        inner = rewriter.definition(operand)
        if inner is None or inner.name != "broadcast":
            return None
        sources.append(inner.operands[0])
    if op.name == "random_bits":  # the seed is a scalar
        return None
    shapes = {shape_of(s.type) for s in sources} - {()}
    if len(shapes) > 1:
        return None
    common = shapes.pop() if shapes else ()
    if common:
        sources = [s if shape_of(s.type) else rewriter.emit("broadcast", s, shape=common) for s in sources]
    return rewriter.emit("broadcast", rewriter.emit(op.name, *sources, **op.attributes), shape=shape)
