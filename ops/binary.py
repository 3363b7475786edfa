"""Elementwise functions of two arrays, or of an array and a number, with NumPy's broadcasting: `add(x, y, *, out=None,
target=None)`; and `where`, `clamp` of three.

dtypes mix as `docs/operators.md` says. Integers wrap; `div` gives fractions, `floor_divide` and `remainder` have Python's
signs and give 0 for integers divided by 0. Errors: ShapeError where shapes do not broadcast or `out` has another shape,
DTypeError where dtypes have no common type or `out` has a narrower kind. Source: NumPy's ufuncs, torch's functions.
"""

from __future__ import annotations

from typing import Any

from opdsl.ops.arguments import argument_error
from opdsl.ops.pointwise import Pointwise, binary

import opdsl as od

NUMBERS = ("float", "integer")


@od.function
def add_(x, y):
    return x + y


@od.function
def sub_(x, y):
    return x - y


@od.function
def mul_(x, y):
    return x * y


@od.function
def div_(x, y):
    return x / y


@od.function
def floor_divide_(x, y):
    return x // y


@od.function
def remainder_(x, y):
    return x % y


@od.function
def pow_(x, y):
    return od.pow(x, y)


@od.function
def maximum_(x, y):
    return od.maximum(x, y)


@od.function
def minimum_(x, y):
    return od.minimum(x, y)


@od.function
def atan2_(x, y):
    return od.atan2(x, y)


@od.function
def eq_(x, y):
    return x == y


@od.function
def ne_(x, y):
    return x != y


@od.function
def lt_(x, y):
    return x < y


@od.function
def le_(x, y):
    return x <= y


@od.function
def gt_(x, y):
    return x > y


@od.function
def ge_(x, y):
    return x >= y


@od.function
def logical_and_(x, y):
    return (x != 0) & (y != 0)


@od.function
def logical_or_(x, y):
    return (x != 0) | (y != 0)


@od.function
def where_(condition, x, y):
    return od.where(condition != 0, x, y)


@od.function
def clamp_(x, low, high):
    return od.minimum(od.maximum(x, low), high)


XY = ("x", "y")

add = binary(Pointwise("add", add_, XY, types=NUMBERS), "x + y.")
sub = binary(Pointwise("sub", sub_, XY, types=NUMBERS), "x - y.")
mul = binary(Pointwise("mul", mul_, XY, types=NUMBERS), "x * y.")
div = binary(Pointwise("div", div_, XY, result="float"), "x / y; of integers in f32.")
floor_divide = binary(Pointwise("floor_divide", floor_divide_, XY, types=NUMBERS), "x / y rounded down.")
remainder = binary(Pointwise("remainder", remainder_, XY, types=NUMBERS), "x - y * floor(x / y): the sign of y.")
pow = binary(Pointwise("pow", pow_, XY, types=NUMBERS), "x to the power y; integers stay integers.")
maximum = binary(Pointwise("maximum", maximum_, XY), "The greater of x and y; NaN if either is.")
minimum = binary(Pointwise("minimum", minimum_, XY), "The smaller of x and y; NaN if either is.")
atan2 = binary(Pointwise("atan2", atan2_, XY, result="float"), "The angle of the point (y, x).")
eq = binary(Pointwise("eq", eq_, XY, result="bool"), "x == y.")
ne = binary(Pointwise("ne", ne_, XY, result="bool"), "x != y.")
lt = binary(Pointwise("lt", lt_, XY, result="bool"), "x < y.")
le = binary(Pointwise("le", le_, XY, result="bool"), "x <= y.")
gt = binary(Pointwise("gt", gt_, XY, result="bool"), "x > y.")
ge = binary(Pointwise("ge", ge_, XY, result="bool"), "x >= y.")
logical_and = binary(Pointwise("logical_and", logical_and_, XY, result="bool"), "Whether both are not 0.")
logical_or = binary(Pointwise("logical_or", logical_or_, XY, result="bool"), "Whether one is not 0.")

_where = Pointwise("where", where_, ("condition", "x", "y"), selects=True)
_clamp = Pointwise("clamp", clamp_, ("x", "min", "max"))
_at_least = Pointwise("clamp", maximum_, ("x", "min"))
_at_most = Pointwise("clamp", minimum_, ("x", "max"))


def where(condition: Any, x: Any, y: Any, *, out: Any = None, target: str | None = None) -> Any:
    """x where the condition is true (not 0), else y; the three broadcast."""
    return _where((condition, x, y), out, target)


def clamp(x: Any, min: Any = None, max: Any = None, *, out: Any = None, target: str | None = None) -> Any:
    """x limited to min..max (numbers or arrays; None: no limit). NaN stays NaN; where min > max the result is max."""
    if min is None and max is None:
        raise argument_error("clamp", "neither min nor max is given", "give one of them, or both")
    if max is None:
        return _at_least((x, min), out, target)
    if min is None:
        return _at_most((x, max), out, target)
    return _clamp((x, min, max), out, target)
