"""Element by element: casts, choices, and the functions of mathematics.

Every function here takes tiles, run-time scalars and Python numbers, broadcasts them as NumPy does, and on Python
numbers alone gives a Python number. Types of results: docs/language.md, "Types of results".
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from opdsl.ir.functions import FUNCTIONS, Function
from opdsl.ir.numpy_types import dtype_name
from opdsl.ir.types import DTYPES, DType, f32
from opdsl.lang import context
from opdsl.lang.context import builtin
from opdsl.lang.operators import (
    binary,
    broadcast_shapes,
    cast_operand,
    check_operand,
    compare,
    elementwise,
    to_value,
    unary_float,
)
from opdsl.lang.promotion import common
from opdsl.lang.values import Number, Operand, Scalar, Tile, describe, is_number, wrap
from opdsl.support.errors import Misuse

inf = math.inf
nan = math.nan
pi = math.pi

RuntimeOperand = Scalar | Tile
AnyDType = DType | np.dtype[Any] | type[np.generic]  # ours, or NumPy's name of it


def check_dtype(dtype: object, what: str) -> DType:
    if isinstance(dtype, DType):
        return dtype
    if isinstance(dtype, np.dtype) or (isinstance(dtype, type) and issubclass(dtype, np.generic)):
        name = dtype_name(np.dtype(dtype))  # NumPy's and ml_dtypes' own names, as np.float16
        if name is not None:
            return DTYPES[name]
    simple = {builtins.bool: "od.bool", builtins.int: "od.i32 or od.i64", builtins.float: "od.f32 or od.f64"}
    hint = f"write {simple[dtype]}" if isinstance(dtype, type) and dtype in simple else "write a dtype such as od.f32"
    raise Misuse(f"{what} is {describe(dtype)}, where a dtype is needed", hint, dtype)


def _all_numbers(*operands: object) -> bool:
    return all(map(is_number, operands))


@builtin("cast")
def cast(x: Operand, dtype: AnyDType) -> RuntimeOperand:
    """`x` converted to `dtype`, of the same shape.

    To a narrower float: rounds to nearest even. Float to integer: rounds toward zero. To bool: whether it is not 0.
    """
    return cast_operand(check_operand(x, "the argument of od.cast"), check_dtype(dtype, "the dtype of od.cast"))


@builtin("where")
def where(condition: Operand, a: Operand, b: Operand) -> RuntimeOperand:
    """`a` where `condition` is true and `b` elsewhere; the three broadcast. The condition is bool."""
    choice = check_operand(condition, "the condition of od.where")
    left, right = check_operand(a, "the first choice of od.where"), check_operand(b, "the second choice of od.where")
    if isinstance(choice, bool):
        # Known while compiling, but the type of the result is that of both choices.
        shape = broadcast_shapes([_shape(left), _shape(right)], "the choices of od.where")
        return wrap(to_value(left if choice else right, common(left, right), shape or None))
    if not isinstance(choice, Scalar | Tile) or not choice.dtype.is_bool:
        raise Misuse(
            f"the condition of od.where is {describe(choice)}, where bools are needed", "compare it: x != 0", condition
        )
    dtype = common(left, right)
    shape = broadcast_shapes([_shape(choice), _shape(left), _shape(right)], "the arguments of od.where")
    builder = context.builder()
    values = [choice.value, to_value(left, dtype), to_value(right, dtype)]
    if shape:
        values = [builder.broadcast(v, shape) for v in values]
    return wrap(builder.value("select", *values))


def _shape(operand: Operand) -> tuple[int, ...]:
    return operand.shape if isinstance(operand, Scalar | Tile) else ()


def _pair(op: str, name: str, a: Operand, b: Operand, on_numbers: Callable[[Any, Any], Number]) -> Any:
    left, right = (
        check_operand(a, f"the first argument of od.{name}"),
        check_operand(b, f"the second argument of od.{name}"),
    )
    if _all_numbers(left, right):
        return on_numbers(left, right)
    return elementwise(op, (left, right), common(left, right), f"the arguments of od.{name}")


@builtin("minimum")
def minimum(a: Operand, b: Operand) -> Any:
    """The smaller of `a` and `b`, element by element; NaN if either is NaN."""
    return _pair("min", "minimum", a, b, lambda x, y: y if y < x or y != y else x)


@builtin("maximum")
def maximum(a: Operand, b: Operand) -> Any:
    """The greater of `a` and `b`, element by element; NaN if either is NaN."""
    return _pair("max", "maximum", a, b, lambda x, y: y if y > x or y != y else x)


@builtin("clamp")
def clamp(x: Operand, low: Operand, high: Operand) -> Any:
    """`x` limited to `low`..`high`: minimum(maximum(x, low), high)."""
    return minimum(maximum(x, low), high)


@builtin("pow")
def pow_(base: Operand, exponent: Operand) -> Any:
    """`base ** exponent`. Integers to integers stay integers (a negative run-time exponent gives 0)."""
    if _all_numbers(base, exponent):
        return base**exponent  # type: ignore[operator]
    from opdsl.lang.operators import power

    left, right = check_operand(base, "the base of od.pow"), check_operand(exponent, "the exponent of od.pow")
    return power(left, right, common(left, right))


@builtin("atan2")
def atan2(y: Operand, x: Operand) -> Any:
    """The angle of the point (x, y), in -pi..pi. Integers are converted to f32."""
    if _all_numbers(y, x):
        return math.atan2(y, x)  # type: ignore[arg-type]
    left, right = (
        check_operand(y, "the first argument of od.atan2"),
        check_operand(x, "the second argument of od.atan2"),
    )
    dtype = common(left, right)
    return elementwise("atan2", (left, right), dtype if dtype.is_float else f32, "the arguments of od.atan2")


@builtin("fma")
def fma(a: Operand, b: Operand, c: Operand) -> RuntimeOperand:
    """`a * b + c` rounded once. Floats only."""
    operands = [check_operand(x, "an argument of od.fma") for x in (a, b, c)]
    dtype = common(*operands)
    if not dtype.is_float:
        raise Misuse(f"od.fma takes floats, not {dtype}", "write a * b + c for integers: it is exact")
    return elementwise("fma", operands, dtype, "the arguments of od.fma")


@builtin("abs")
def abs_(x: Operand) -> Any:
    """The absolute value, of the same dtype."""
    operand = check_operand(x, "the argument of od.abs")
    if not isinstance(operand, Scalar | Tile):
        return builtins.abs(operand)
    if operand.dtype.is_bool:
        raise Misuse("od.abs does not take bools", "bools have no sign: leave it out")
    if operand.dtype.kind == "uint":
        return operand
    return wrap(context.builder().value("abs", operand.value))


def cdiv(a: Any, b: Any) -> Any:
    """`a / b` rounded up, for integers; usable outside of kernels too."""
    if _all_numbers(a, b):
        return -(-a // b)
    if not context.is_compiling():
        raise TypeError("cdiv takes integers")
    quotient = binary("floordiv", a, b)
    assert isinstance(quotient, Scalar | Tile)
    if quotient.dtype.is_float:
        return binary("mul", binary("floordiv", binary("mul", a, -1.0), b), -1.0)
    # One more where something is left, so that nothing wraps; 0 where b is 0, as for all integer divisions.
    left = compare("ne", binary("mul", quotient, b), a)
    if not is_number(b):
        left = binary("and", left, compare("ne", b, 0))
    return binary("add", quotient, cast_operand(left, quotient.dtype))


cdiv.opdsl_builtin = "cdiv"  # type: ignore[attr-defined]


def _float_function(row: Function) -> Callable[[Operand], Any]:
    def function(x: Operand) -> Any:
        if is_number(x):
            return row.number(x)
        return unary_float(row.name, x, row.name)

    kept = "Integers are given back as they are." if row.is_rounding else "The dtype stays; integers are converted to f32."
    function.__doc__ = f"{row.text} {kept}"
    return builtin(row.name)(function)


FLOAT_BUILTINS = {row.name: _float_function(row) for row in FUNCTIONS.values() if len(row.operands) == 1}
globals().update(FLOAT_BUILTINS)  # od.exp and its kind: one for each row of one operand
if TYPE_CHECKING:

    def __getattr__(name: str) -> Callable[..., Any]: ...


def _float_test(name: str, on_number: Callable[[Any], bool], text: str) -> Callable[[Operand], Any]:
    def function(x: Operand) -> Any:
        if is_number(x):
            return on_number(x)
        operand = check_operand(x, f"the argument of od.{name}")
        assert isinstance(operand, Scalar | Tile)
        if not operand.dtype.is_float:
            raise Misuse(f"od.{name} takes floats, not {describe(operand)}", "integers are always finite")
        return wrap(context.builder().value(name, operand.value))

    function.__doc__ = text + " Gives bools."
    return builtin(name)(function)


isnan = _float_test("isnan", math.isnan, "Whether x is NaN.")
isinf = _float_test("isinf", math.isinf, "Whether x is infinite.")
isfinite = _float_test("isfinite", math.isfinite, "Whether x is neither infinite nor NaN.")


@builtin("logical_not")
def logical_not(x: Operand) -> Any:
    """True where `x` is false or 0."""
    return (not x) if is_number(x) else compare("eq", x, 0)
