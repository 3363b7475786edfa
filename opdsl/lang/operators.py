"""Operators on run-time values: promotion, broadcasting, and the ops they become."""

from __future__ import annotations

from collections.abc import Sequence

from opdsl.ir.core import Value
from opdsl.ir.functions import FLOAT_FUNCTIONS, ROUNDINGS
from opdsl.ir.types import DType, ScalarType, bool_, f32, i32, i64
from opdsl.lang import context
from opdsl.lang.affine import Affine, atom, combine
from opdsl.lang.promotion import check_fits, common, fits, number_dtype
from opdsl.lang.values import (
    Number,
    Operand,
    Place,
    Scalar,
    TensorView,
    Text,
    Tile,
    describe,
    is_number,
    show_shape,
    wrap,
)
from opdsl.support.errors import Misuse


def check_operand(value: object, what: str) -> Operand:
    """Refuses what cannot be computed with, saying why."""
    if isinstance(value, Scalar | Tile | bool | int | float):
        return value
    if isinstance(value, TensorView):
        raise Misuse(
            f"{what} is {describe(value)}; tensors are in global memory and are not computed with directly",
            f"copy a part of it into a tile first: od.copy_in({value.name}[start:start + BLOCK])",
            value,
        )
    if isinstance(value, Place):
        raise Misuse(
            f"{what} is {describe(value)}, which is in global memory",
            f"read it into a tile first: od.copy_in({value.tensor.name}[...])",
            value,
        )
    if isinstance(value, Text):
        raise Misuse(f"{what} is {describe(value)}", "only od.print takes one", value)
    if hasattr(value, "dtype") and hasattr(value, "item") and getattr(value, "shape", None) == ():
        item = value.item()  # a NumPy scalar counts as the Python number it holds
        if isinstance(item, bool | int | float):
            return item
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        raise Misuse(
            f"{what} is an array that the kernel captured from outside",
            "pass it to the kernel as a tensor, make a tile with od.zeros or od.full, or make it a tuple of numbers",
            value,
        )
    raise Misuse(
        f"{what} is {describe(value)}, where a number, a scalar or a tile is needed",
        "read tensors with od.copy_in; make tiles with od.full and od.arange",
        value,
    )


def broadcast_shapes(shapes: Sequence[tuple[int, ...]], what: str) -> tuple[int, ...]:
    """NumPy's rule. Refuses shapes that do not agree."""
    result: list[int] = []
    for shape in shapes:
        for place in range(1, len(shape) + 1):
            size = shape[-place]
            if place > len(result):
                result.insert(0, size)
            elif result[-place] == 1:
                result[-place] = size
            elif size not in (1, result[-place]):
                listed = " and ".join(show_shape(s) for s in dict.fromkeys(shapes) if s)
                raise Misuse(
                    f"the shapes of {what} do not broadcast: {listed}",
                    "sizes must be equal or 1, compared from the last dim; t[:, None] or od.reshape adds a dim of 1",
                )
    return tuple(result)


def constant(value: Number, dtype: DType) -> Value:
    check_fits(value, dtype)
    if dtype.is_bool:
        return context.builder().constant(bool(value), dtype)
    return context.builder().constant(float(value) if dtype.is_float else int(value), dtype)


def to_value(operand: Operand, dtype: DType, shape: tuple[int, ...] | None = None) -> Value:
    """The SSA value of an operand in a dtype, broadcast to a shape."""
    value = operand.value if isinstance(operand, Scalar | Tile) else constant(operand, dtype)
    builder = context.builder()
    value = builder.cast(value, dtype)
    return value if shape is None else builder.broadcast(value, shape)


def strong(operand: Operand) -> Scalar | Tile:
    """The operand as a run-time value: a Python number gets the type it has on its own."""
    if isinstance(operand, Scalar | Tile):
        return operand
    return Scalar(constant(operand, number_dtype(operand)), Affine(operand) if type(operand) is int else None)


def cast_operand(operand: Operand, dtype: DType) -> Scalar | Tile:
    """`od.cast`. An integer scalar keeps its linear form where it is widened."""
    if is_number(operand):
        assert isinstance(operand, bool | int | float)
        if isinstance(operand, float) and dtype.is_integer:
            operand = int(operand) if operand == operand and abs(operand) != float("inf") else operand
        return Scalar(constant(operand, dtype), Affine(int(operand)) if dtype.is_integer else None)
    assert isinstance(operand, Scalar | Tile)
    if operand.dtype == dtype:
        return operand if not (isinstance(operand, Scalar) and operand.weak) else Scalar(operand.value, operand.form)
    value = context.builder().cast(operand.value, dtype)
    if isinstance(operand, Scalar) and operand.dtype.is_integer and dtype.is_integer:
        widened = dtype.kind == "int" and dtype.bits >= operand.dtype.bits
        return Scalar(value, operand.form if widened else atom(("cast", operand.form.key, dtype)))
    return wrap(value)


def index_scalar(operand: object, what: str) -> Scalar:
    """An integer as the i64 scalar that indices and bounds are."""
    operand = check_operand(operand, what)
    if isinstance(operand, Tile):
        raise Misuse(
            f"{what} is {describe(operand)}, where a scalar is needed", "od.sum, od.max and so on give scalars", operand
        )
    if isinstance(operand, bool | float) or (isinstance(operand, Scalar) and not operand.dtype.is_integer):
        raise Misuse(
            f"{what} is {describe(operand)}, where an integer is needed",
            "give a whole number" if type(operand) is float else "od.cast it to od.i64, or use // for /",
        )
    scalar = cast_operand(operand, i64)
    assert isinstance(scalar, Scalar)
    return scalar


def form_of(operand: Scalar | int) -> Affine:
    return operand.form if isinstance(operand, Scalar) else Affine(operand)


def elementwise(op: str, operands: Sequence[Operand], dtype: DType, what: str) -> Scalar | Tile:
    """Broadcasts and casts the operands, and appends the op."""
    shape = broadcast_shapes([o.shape if isinstance(o, Scalar | Tile) else () for o in operands], what)
    values = [to_value(o, dtype) for o in operands]
    builder = context.builder()
    if shape:
        values = [builder.broadcast(v, shape) for v in values]
    result = wrap(builder.value(op, *values))
    if isinstance(result, Scalar):
        result.weak = all(o.weak if isinstance(o, Scalar) else True for o in operands)
        if result.dtype.is_integer:
            forms = [o.form if isinstance(o, Scalar) else Affine(int(o)) for o in operands if not isinstance(o, Tile)]
            return Scalar(result.value, atom((op, *(form.key for form in forms))), result.weak)
    return result


_NAMES = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "floordiv": "//",
    "mod": "%",
    "pow": "**",
    "and": "&",
    "or": "|",
    "xor": "^",
    "shl": "<<",
    "shr": ">>",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
}
_NEUTRAL_RIGHT = {"add": 0, "sub": 0, "mul": 1, "floordiv": 1, "shl": 0, "shr": 0}
_NEUTRAL_LEFT = {"add": 0, "mul": 1}


def _is_integer(operand: Operand) -> bool:
    return isinstance(operand, Scalar | Tile) and operand.dtype.is_integer


def binary(op: str, left: object, right: object) -> Scalar | Tile:
    """`left op right` for an arithmetic or bitwise operator; at least one of them is of run time."""
    symbol = _NAMES[op]
    a = check_operand(left, f"the left side of {symbol}")
    b = check_operand(right, f"the right side of {symbol}")
    # Index arithmetic is full of `* stride` and `+ 0`; dropping them here keeps the IR readable.
    if _is_integer(a) and type(b) is int and _NEUTRAL_RIGHT.get(op) == b:
        assert isinstance(a, Scalar | Tile)
        return a
    if _is_integer(b) and type(a) is int and _NEUTRAL_LEFT.get(op) == a:
        assert isinstance(b, Scalar | Tile)
        return b
    dtype = common(a, b)
    if op in ("and", "or", "xor"):
        if dtype.is_float:
            raise Misuse(
                f"{symbol} takes integers or bools, not {describe(a)} and {describe(b)}",
                "compare first to get bools (x > 0), or od.cast to an integer type",
            )
    elif op in ("shl", "shr"):
        dtype = a.dtype if isinstance(a, Scalar | Tile) else dtype
        if not dtype.is_integer or not common(b).is_integer:
            raise Misuse(
                f"{symbol} takes integers, not {describe(a)} and {describe(b)}", "multiply or divide by a power of 2"
            )
    elif op == "div":
        dtype = dtype if dtype.is_float else f32
    elif op == "pow":
        return power(a, b, dtype)
    elif dtype.is_bool:
        dtype = i32
    result = elementwise(op, (a, b), dtype, f"the sides of {symbol}")
    if isinstance(result, Scalar) and dtype.is_integer:
        assert isinstance(a, Scalar | int) and isinstance(b, Scalar | int)
        return Scalar(result.value, combine(op, form_of(a), form_of(b)), result.weak)
    return result


def power(base: Operand, exponent: Operand, dtype: DType) -> Scalar | Tile:
    if type(exponent) is int and exponent == 2 and isinstance(base, Scalar | Tile) and not base.dtype.is_bool:
        return binary("mul", base, base)
    if dtype.is_integer and type(exponent) is int and exponent < 0:
        raise Misuse(
            f"an integer to the power {exponent} is not an integer", "od.cast the base to a float type, or write 1 / x"
        )
    dtype = i32 if dtype.is_bool else dtype
    return elementwise("ipow" if dtype.is_integer else "pow", (base, exponent), dtype, "the sides of **")


def compare(op: str, left: object, right: object) -> Scalar | Tile:
    symbol = _NAMES[op]
    a = check_operand(left, f"the left side of {symbol}")
    b = check_operand(right, f"the right side of {symbol}")
    dtype = common(a, b)
    if dtype.is_integer and any(type(x) is int and not fits(x, dtype) for x in (a, b)):
        dtype = i64  # `u8 tile < 300` is a fair question
    return elementwise(op, (a, b), dtype, f"the sides of {symbol}")


def negate(operand: object) -> Scalar | Tile:
    x = check_operand(operand, "the operand of -")
    assert isinstance(x, Scalar | Tile)
    if x.dtype.is_bool:
        raise Misuse("- does not take bools", "use ~ for the logical opposite")
    value = context.builder().value("neg", x.value)
    if isinstance(x, Scalar):
        return Scalar(value, x.form.times(-1) if x.dtype.is_integer else None, x.weak)
    return Tile(value)


def invert(operand: object) -> Scalar | Tile:
    x = check_operand(operand, "the operand of ~")
    assert isinstance(x, Scalar | Tile)
    if x.dtype.is_float:
        raise Misuse(f"~ takes integers or bools, not {describe(x)}", "compare first to get bools: ~(x > 0)")
    return wrap(context.builder().value("not", x.value))


def truth(condition: object, what: str) -> Scalar:
    """A run-time condition as a bool scalar; numbers are true where they are not 0."""
    if isinstance(condition, Tile):
        raise Misuse(
            f"{what} is {describe(condition)}, which has a truth value for each element",
            "choose for each element with od.where(condition, a, b), or reduce it with od.any or od.all; "
            "combine tiles with & | ~ and not with and, or, not",
        )
    x = check_operand(condition, what)
    assert isinstance(x, Scalar)
    if x.dtype.is_bool:
        return x
    result = compare("ne", x, 0)
    assert isinstance(result, Scalar)
    return result


def unary_float(op: str, operand: object, name: str) -> Scalar | Tile:
    """A function of floats; integers and bools are converted to f32 first, as there is no wider rule that is cheap."""
    x = check_operand(operand, f"the argument of od.{name}")
    assert isinstance(x, Scalar | Tile)
    if op in ROUNDINGS and not x.dtype.is_float:
        return x
    if op in FLOAT_FUNCTIONS and not x.dtype.is_float:
        x = cast_operand(x, f32)
    result = wrap(context.builder().value(op, x.value))
    if isinstance(result, Scalar) and isinstance(x, Scalar):
        result.weak = x.weak
    return result


def is_bool_scalar(value: object) -> bool:
    return isinstance(value, Scalar) and value.value.type == ScalarType(bool_)
