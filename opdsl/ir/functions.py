"""One row for each function of mathematics: its names, semantics, cost, sampling domain and derivatives.

The op table, the built-ins of the language, the interpreter, constant folding, the cost model, the targets and the tests
all read these rows, so that a new function is a row here, and an implementation where no library has one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Function:
    """A function that is an op of the IR, or a composition of such ops.

    `number` computes it on Python numbers, `exact` on f64 arrays. `derivatives` has an expression of the language for
    each operand, over the operands' names. `domain` is where tests sample the operands.
    """

    name: str
    text: str
    number: Callable[..., Any]
    exact: Callable[..., Array]
    triton: str  # what it is called in Triton: `tl.` or `libdevice.` and a name; empty where it has none
    derivatives: tuple[str, ...]
    domain: tuple[float, float] = (-30, 30)
    cycles: int = 12  # for each vector on a CPU, roughly
    operands: tuple[str, ...] = ("x",)
    is_instruction: bool = False  # processors have it; `exact` in the type itself is rounded correctly
    is_rounding: bool = False  # integers pass unchanged
    cpp: str = ""  # its name in csrc/simd, where that is another

    @property
    def libdevice(self) -> str:
        """Its name in libdevice, or nothing where Triton itself has it."""
        return self.triton.partition("libdevice.")[2]


_erf = np.frompyfunc(math.erf, 1, 1)


def _erf64(x: Array) -> Array:
    return np.asarray(_erf(x), np.float64)


def _sigmoid64(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, small) / (1.0 + small))


def _rsqrt64(x: Array) -> Array:
    return np.asarray(1.0 / np.sqrt(x))


def _sigmoid(x: float) -> float:
    """Of a Python number, with no overflow on either side."""
    small = math.exp(-abs(x))
    return (1.0 if x >= 0 else small) / (1.0 + small)


_PAIR = ("y", "x")
_POWER = ("base", "exponent")
_HALF_PI = ", in -pi/2..pi/2."

_ROWS = (
    Function("exp", "e to the power x.", math.exp, np.exp, "tl.exp", ("od.exp(x)",), (-20, 20)),
    Function(
        "exp2", "2 to the power x.", lambda x: 2.0**x, np.exp2, "tl.exp2", (f"od.exp2(x) * {math.log(2)!r}",), (-20, 20)
    ),
    Function("expm1", "exp(x) - 1, accurate near 0.", math.expm1, np.expm1, "libdevice.expm1", ("od.exp(x)",), (-5, 5)),
    Function(
        "log", "The natural logarithm: NaN below 0, -inf at 0.", math.log, np.log, "tl.log", ("1 / x",), (0.01, 1000)
    ),
    Function(
        *("log2", "The logarithm to base 2.", math.log2, np.log2, "tl.log2"),
        (f"{1 / math.log(2)!r} / x",),
        (0.01, 1000),
    ),
    Function(
        *("log10", "The logarithm to base 10.", math.log10, np.log10, "libdevice.log10"),
        (f"{1 / math.log(10)!r} / x",),
        (0.01, 1000),
    ),
    Function(
        *("log1p", "log(1 + x), accurate near 0.", math.log1p, np.log1p, "libdevice.log1p"),
        ("1 / (1 + x)",),
        (-0.5, 100),
    ),
    Function(
        *("sqrt", "The square root: NaN below 0.", math.sqrt, np.sqrt, "tl.sqrt_rn"),
        ("0.5 * od.rsqrt(x)",),
        (0.01, 1000),
        cycles=8,
        is_instruction=True,
    ),
    Function(
        *("rsqrt", "1 / sqrt(x).", lambda x: 1.0 / math.sqrt(x), _rsqrt64, "tl.rsqrt"),
        ("-0.5 * od.rsqrt(x) / x",),
        (0.01, 1000),
        cycles=8,
    ),
    Function("sin", "The sine of x in radians.", math.sin, np.sin, "tl.sin", ("od.cos(x)",), cycles=20),
    Function("cos", "The cosine of x in radians.", math.cos, np.cos, "tl.cos", ("-od.sin(x)",), cycles=20),
    Function(
        *("tan", "The tangent of x in radians.", math.tan, np.tan, "libdevice.tan"),
        ("1 + od.tan(x) * od.tan(x)",),
        (-1.5, 1.5),
        cycles=20,
    ),
    Function(
        *("asin", "The inverse sine" + _HALF_PI, math.asin, np.arcsin, "libdevice.asin"),
        ("od.rsqrt(1 - x * x)",),
        (-1, 1),
        cycles=20,
    ),
    Function(
        *("acos", "The inverse cosine, in 0..pi.", math.acos, np.arccos, "libdevice.acos"),
        ("-od.rsqrt(1 - x * x)",),
        (-1, 1),
        cycles=20,
    ),
    Function(
        *("atan", "The inverse tangent" + _HALF_PI, math.atan, np.arctan, "libdevice.atan"),
        ("1 / (1 + x * x)",),
        (-50, 50),
        cycles=20,
    ),
    Function(
        *("sinh", "The hyperbolic sine.", math.sinh, np.sinh, "libdevice.sinh", ("od.cosh(x)",), (-10, 10)),
        cycles=20,
    ),
    Function(
        *("cosh", "The hyperbolic cosine.", math.cosh, np.cosh, "libdevice.cosh", ("od.sinh(x)",), (-10, 10)),
        cycles=20,
    ),
    Function(
        *("tanh", "The hyperbolic tangent.", math.tanh, np.tanh, "libdevice.tanh"),
        ("1 - od.tanh(x) * od.tanh(x)",),
        (-10, 10),
    ),
    Function(
        *("sigmoid", "1 / (1 + exp(-x)).", _sigmoid, _sigmoid64, "tl.sigmoid"),
        ("od.sigmoid(x) * od.sigmoid(-x)",),
    ),
    Function(
        *("erf", "The error function.", math.erf, _erf64, "tl.erf"),
        (f"{2 / math.sqrt(math.pi)!r} * od.exp(-x * x)",),
        (-4, 4),
    ),
    Function(
        *("floor", "Rounds down, to a float.", lambda x: float(math.floor(x)), np.floor, "tl.floor", ("0 * x",)),
        cycles=1,
        is_instruction=True,
        is_rounding=True,
    ),
    Function(
        *("ceil", "Rounds up, to a float.", lambda x: float(math.ceil(x)), np.ceil, "tl.ceil", ("0 * x",)),
        cycles=1,
        is_instruction=True,
        is_rounding=True,
    ),
    Function(
        *("trunc", "Rounds toward zero, to a float.", lambda x: float(math.trunc(x)), np.trunc, "libdevice.trunc"),
        ("0 * x",),
        cycles=1,
        is_instruction=True,
        is_rounding=True,
    ),
    Function(
        *("round", "Rounds to nearest, halves to even.", lambda x: float(round(x)), np.rint, "libdevice.nearbyint"),
        ("0 * x",),
        cycles=1,
        is_instruction=True,
        is_rounding=True,
        cpp="rint",
    ),
    Function(
        *("atan2", "The angle of the point (x, y), in -pi..pi.", math.atan2, np.arctan2, "libdevice.atan2"),
        ("x / (x * x + y * y)", "-y / (x * x + y * y)"),
        cycles=20,
        operands=_PAIR,
    ),
    Function(
        *("pow", "`base` to the power `exponent`.", lambda x, y: x**y, np.power, "libdevice.pow"),
        ("exponent * od.pow(base, exponent - 1)", "od.pow(base, exponent) * od.log(base)"),
        (0.1, 5),
        cycles=20,
        operands=_POWER,
    ),
)

_erfc = np.frompyfunc(math.erfc, 1, 1)


def _erfc64(x: Array) -> Array:
    return np.asarray(_erfc(x), np.float64)


def _lerp(a: Any, b: Any, weight: Any) -> Any:
    return a + (b - a) * weight if abs(weight) < 0.5 else b - (b - a) * (1 - weight)


def _lerp64(a: Array, b: Array, weight: Array) -> Array:
    return np.asarray(np.where(np.abs(weight) < 0.5, a + (b - a) * weight, b - (b - a) * (1 - weight)))


def _sinc64(x: Array) -> Array:
    """By the distance to the nearest integer, so that it is accurate beside the zeros, where np.sinc is not."""
    near = np.rint(x)
    sine = np.sin(math.pi * (x - near)) * np.where(np.remainder(near, 2) == 0, 1.0, -1.0)
    return np.asarray(np.where(x == 0, 1.0, np.divide(sine, math.pi * x, where=x != 0, out=np.ones_like(sine))))


def _number(exact: Callable[..., Array]) -> Callable[..., float]:
    return lambda *operands: float(exact(*map(np.float64, operands)))


_COMPOSITIONS = (
    Function(
        *("erfc", "1 - erf(x), accurate where that is small.", math.erfc, _erfc64, "libdevice.erfc"),
        (f"{-2 / math.sqrt(math.pi)!r} * od.exp(-x * x)",),
        (-4, 9),
    ),
    Function(
        *("lerp", "From `a` at weight 0 to `b` at weight 1, exact at both.", _lerp, _lerp64, ""),
        ("1 - weight", "weight", "b - a"),
        (-10, 10),
        operands=("a", "b", "weight"),
    ),
    Function(
        *("logaddexp", "log(exp(x) + exp(y)), with no overflow.", _number(np.logaddexp), np.logaddexp, ""),
        ("od.sigmoid(x - y)", "od.sigmoid(y - x)"),
        operands=("x", "y"),
    ),
    Function(
        *("sinc", "sin(pi x) / (pi x), and 1 at 0.", _number(_sinc64), _sinc64, ""),
        (f"od.where(x == 0, 0, (od.cos({math.pi!r} * x) - od.sinc(x)) / x)",),
        (-10, 10),
    ),
)

FUNCTIONS = {row.name: row for row in _ROWS}  # ops of the IR
COMPOSITIONS = {row.name: row for row in _COMPOSITIONS}  # written in the language, opdsl/lang/compositions.py
FLOAT_FUNCTIONS = tuple(row.name for row in _ROWS if len(row.operands) == 1 and not row.is_rounding)
ROUNDINGS = tuple(row.name for row in _ROWS if row.is_rounding)
ELEMENTARY = tuple(row.name for row in _ROWS if row.cycles >= 12)  # computed by a library, by many instructions
