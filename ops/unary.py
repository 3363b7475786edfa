"""Elementwise functions of one array, of any shape and strides: `exp(x, *, out=None, target=None)`.

Integers are converted to f32 by the functions that give fractions; `abs`, `neg`, `square`, `sign`, `floor`, `ceil`,
`trunc` and `round` keep every dtype. Narrow floats are computed in f32 and rounded once. NaN gives NaN. Errors:
DTypeError for bools where a number is needed and for an `out` of a narrower kind, ShapeError for an `out` of another shape.
Source: NumPy's ufuncs and torch's functions of the same names.
"""

from __future__ import annotations

from opdsl.ops.pointwise import Pointwise, unary

import opdsl as od

NUMBERS = ("float", "integer")


@od.function
def abs_(x):
    return od.abs(x)


@od.function
def neg_(x):
    return -x


@od.function
def square_(x):
    return x * x


@od.function
def sign_(x):
    return od.where(x > 0, 1, od.where(x < 0, -1, x))


@od.function
def exp_(x):
    return od.exp(x)


@od.function
def exp2_(x):
    return od.exp2(x)


@od.function
def expm1_(x):
    return od.expm1(x)


@od.function
def log_(x):
    return od.log(x)


@od.function
def log2_(x):
    return od.log2(x)


@od.function
def log10_(x):
    return od.log10(x)


@od.function
def log1p_(x):
    return od.log1p(x)


@od.function
def sqrt_(x):
    return od.sqrt(x)


@od.function
def rsqrt_(x):
    return od.rsqrt(x)


@od.function
def reciprocal_(x):
    return 1.0 / x


@od.function
def sin_(x):
    return od.sin(x)


@od.function
def cos_(x):
    return od.cos(x)


@od.function
def tan_(x):
    return od.tan(x)


@od.function
def tanh_(x):
    return od.tanh(x)


@od.function
def sigmoid_(x):
    return od.sigmoid(x)


@od.function
def erf_(x):
    return od.erf(x)


@od.function
def floor_(x):
    return od.floor(x)


@od.function
def ceil_(x):
    return od.ceil(x)


@od.function
def trunc_(x):
    return od.trunc(x)


@od.function
def round_(x):
    return od.round(x)


@od.function
def isnan_(x):
    return x != x


@od.function
def isfinite_(x):
    return (x - x) == 0


@od.function
def isinf_(x):
    return (x == x) & ((x - x) != 0)


@od.function
def logical_not_(x):
    return x == 0


abs = unary(Pointwise("abs", abs_, types=NUMBERS), "The absolute value.")
neg = unary(Pointwise("neg", neg_, types=NUMBERS), "-x; integers wrap.")
square = unary(Pointwise("square", square_, types=NUMBERS), "x * x.")
sign = unary(Pointwise("sign", sign_, types=NUMBERS), "-1, 0 or 1; NaN and the zeros stay.")
exp = unary(Pointwise("exp", exp_, result="float"), "e to the power x.")
exp2 = unary(Pointwise("exp2", exp2_, result="float"), "2 to the power x.")
expm1 = unary(Pointwise("expm1", expm1_, result="float"), "exp(x) - 1, accurate near 0.")
log = unary(Pointwise("log", log_, result="float"), "The natural logarithm: -inf at 0, NaN below.")
log2 = unary(Pointwise("log2", log2_, result="float"), "The logarithm to base 2.")
log10 = unary(Pointwise("log10", log10_, result="float"), "The logarithm to base 10.")
log1p = unary(Pointwise("log1p", log1p_, result="float"), "log(1 + x), accurate near 0.")
sqrt = unary(Pointwise("sqrt", sqrt_, result="float"), "The square root: NaN below 0.")
rsqrt = unary(Pointwise("rsqrt", rsqrt_, result="float"), "1 / sqrt(x).")
reciprocal = unary(Pointwise("reciprocal", reciprocal_, result="float"), "1 / x.")
sin = unary(Pointwise("sin", sin_, result="float"), "The sine of x in radians.")
cos = unary(Pointwise("cos", cos_, result="float"), "The cosine of x in radians.")
tan = unary(Pointwise("tan", tan_, result="float"), "The tangent of x in radians.")
tanh = unary(Pointwise("tanh", tanh_, result="float"), "The hyperbolic tangent.")
sigmoid = unary(Pointwise("sigmoid", sigmoid_, result="float"), "1 / (1 + exp(-x)).")
erf = unary(Pointwise("erf", erf_, result="float"), "The error function.")
floor = unary(Pointwise("floor", floor_, types=NUMBERS), "Rounds down.")
ceil = unary(Pointwise("ceil", ceil_, types=NUMBERS), "Rounds up.")
trunc = unary(Pointwise("trunc", trunc_, types=NUMBERS), "Rounds toward zero.")
round = unary(Pointwise("round", round_, types=NUMBERS), "Rounds to nearest, halves to even.")
isnan = unary(Pointwise("isnan", isnan_, result="bool"), "Whether x is NaN.")
isfinite = unary(Pointwise("isfinite", isfinite_, result="bool"), "Whether x is neither infinite nor NaN.")
isinf = unary(Pointwise("isinf", isinf_, result="bool"), "Whether x is infinite.")
logical_not = unary(Pointwise("logical_not", logical_not_, result="bool"), "Whether x is 0 or false.")
