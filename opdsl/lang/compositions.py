"""Functions that are no op of the IR: written in the language, and inlined where a target does not have them by name.

Their rows are in `opdsl.ir.functions`. A body sees f32 or f64 of one shape; narrower floats are rounded once, at the end.
"""

# The bodies are read by the front end, whose values have operators that their Python classes do not.
# mypy: disable-error-code="operator, arg-type, no-untyped-def"

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

from opdsl.ir.core import Value
from opdsl.ir.functions import COMPOSITIONS, Function
from opdsl.ir.types import f32, f64
from opdsl.lang import builtins_math as od
from opdsl.lang import context
from opdsl.lang.function import function
from opdsl.lang.operators import broadcast_shapes, cast_operand, check_operand, to_value
from opdsl.lang.promotion import common
from opdsl.lang.values import Tile, is_number, wrap

# (1 + 2x) exp(x^2) erfc(x) in Chebyshev polynomials of (x - 3.75) / (x + 3.75), for 0 <= x: the form of Shepherd and
# Laframboise, Mathematics of Computation 36 (1981). These were computed in 40 digits.
_ERFC = (
    1.1775789345674017,
    -0.004590054580646478,
    -0.08424913336651792,
    0.05920993999819189,
    -0.026658668435305753,
    0.009074997670705265,
    -0.002413163540417608,
    0.0004907758365258086,
    -6.916973302501207e-05,
    4.13902798607301e-06,
    7.74038306619849e-07,
    -2.1886401049234397e-07,
    1.076499946567091e-08,
    4.521959811218287e-09,
    -7.754400208831351e-10,
    -6.318088340886684e-11,
    2.86879501093067e-11,
    1.9455868545777347e-13,
    -9.65469674843344e-13,
    3.25254814814874e-14,
    3.3478119482868056e-14,
    -1.864562880419313e-15,
    -1.2507950530688648e-15,
)
_ERFC_F32 = _ERFC[:13]


@function
def _erfc(x):
    y = abs(x)
    t = (y - 3.75) / (y + 3.75)
    a, b = 0 * t, 0 * t
    for c in reversed((_ERFC if x.dtype == f64 else _ERFC_F32)[1:]):  # Clenshaw's recurrence
        a, b = od.fma(2 * t, a, c - b), a
    series = od.fma(t, a, _ERFC[0] - b)
    # What is lost in rounding y * y would be y * y times as large in its exponential.
    square = y * y
    lost = od.fma(y, y, -square)
    tail = od.exp(-square) * (1 - lost) * series / (1 + 2 * y)
    tail = od.where(y > 30, 0, tail)  # and not infinity times 0
    return od.where(od.isnan(x), x, od.where(x < 0, 2 - tail, tail))


@function
def _lerp(a, b, weight):
    span = b - a
    return od.where(abs(weight) < 0.5, a + span * weight, b - span * (1 - weight))


@function
def _logaddexp(x, y):
    above = od.maximum(x, y)
    apart = od.where(x == y, 0, x - y)  # of equal infinities, too
    return above + od.log1p(od.exp(-abs(apart)))


@function
def _sinc(x):
    near = od.round(x)
    sine = od.sin(math.pi * (x - near))
    odd = near - 2 * od.floor(near * 0.5)
    sine = od.where(odd != 0, -sine, sine)
    return od.where(x == 0, 1, sine / (math.pi * x))


_BODIES = {"erfc": _erfc, "lerp": _lerp, "logaddexp": _logaddexp, "sinc": _sinc}


def _composition(row: Function) -> Callable[..., Any]:
    def composed(*operands: Any) -> Any:
        if all(map(is_number, operands)):
            return row.number(*operands)
        checked = [
            check_operand(operand, f"the argument {name!r} of od.{row.name}")
            for name, operand in zip(row.operands, operands, strict=True)
        ]
        dtype = common(*checked)
        dtype = dtype if dtype.is_float else f32
        shape = broadcast_shapes(
            [x.shape if isinstance(x, Tile) else () for x in checked], f"the arguments of od.{row.name}"
        )
        values = [to_value(x, dtype, shape or None) for x in checked]
        inliner = context.inliner()
        arguments = [Value(v.type, name) for v, name in zip(values, row.operands, strict=True)]
        with inliner.builder.region(arguments) as region:
            wide = [cast_operand(wrap(a), dtype if dtype.bits >= 32 else f32) for a in arguments]
            result: Any = inliner.call(_BODIES[row.name], wide)
            region.close([cast_operand(result, dtype).value])
        return wrap(inliner.builder.op("compose", *values, regions=[region.region], function=row.name)[0])

    @functools.wraps(composed)
    def bound(*positional: Any, **keywords: Any) -> Any:
        return composed(*signature.bind(*positional, **keywords).args)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature([inspect.Parameter(name, kind) for name in row.operands])
    bound.__doc__ = f"{row.text} The operands broadcast; integers are converted to f32."
    result = context.builtin(row.name)(bound)
    result.__signature__ = signature  # type: ignore[attr-defined]
    return result


COMPOSED = {row.name: _composition(row) for row in COMPOSITIONS.values()}
globals().update(COMPOSED)
