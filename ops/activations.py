"""Activations: elementwise, of any shape and strides, `relu(x, *, out=None, target=None)`.

Floats keep their dtype (narrow ones are computed in f32 and rounded once); integers are converted to f32, but by `relu`,
`hardtanh` and `relu6`, which keep them. Defaults and formulas are those of torch.nn.functional. Errors: ShapeError and
DTypeError for an `out` that does not fit, ArgumentError for a parameter that is not a number.
"""

from __future__ import annotations

from typing import Any

from opdsl.ops.binary import clamp_
from opdsl.ops.pointwise import Pointwise, check_number, unary

import opdsl as od


@od.function
def relu_(x):
    return od.maximum(x, 0)


@od.function
def silu_(x):
    return x / (1.0 + od.exp(-x))


@od.function
def softsign_(x):
    return x / (1.0 + od.abs(x))


@od.function
def mish_(x):
    # tanh(log(1 + e)) with e = exp(x) is (e e + 2 e) / (e e + 2 e + 2); from 20 on it is 1.
    e = od.exp(od.minimum(x, 20.0))
    n = e * (e + 2.0)
    return x * (n / (n + 2.0))


@od.function
def hardswish_(x):
    return x * od.clamp(x + 3.0, 0.0, 6.0) * (1.0 / 6.0)


@od.function
def hardsigmoid_(x):
    return od.clamp(x + 3.0, 0.0, 6.0) * (1.0 / 6.0)


@od.function
def logsigmoid_(x):
    return od.minimum(x, 0.0) - od.log1p(od.exp(-od.abs(x)))


@od.function
def selu_(x):
    scale = 1.0507009873554805
    return scale * od.where(x > 0.0, x, 1.6732632423543772 * od.expm1(od.minimum(x, 0.0)))


@od.function
def leaky_relu_(x, slope):
    return od.where(x > 0.0, x, x * slope)


@od.function
def elu_(x, alpha):
    return od.where(x > 0.0, x, alpha * od.expm1(od.minimum(x, 0.0)))


@od.function
def softplus_(x, beta, threshold):
    t = x * beta
    return od.where(t > threshold, x, (od.maximum(t, 0.0) + od.log1p(od.exp(-od.abs(t)))) / beta)


relu = unary(Pointwise("relu", relu_), "max(x, 0).")
silu = unary(Pointwise("silu", silu_, result="float"), "x * sigmoid(x), also known as swish.")
softsign = unary(Pointwise("softsign", softsign_, result="float"), "x / (1 + |x|).")
mish = unary(Pointwise("mish", mish_, result="float"), "x * tanh(softplus(x)).")
hardswish = unary(Pointwise("hardswish", hardswish_, result="float"), "x * relu6(x + 3) / 6.")
hardsigmoid = unary(Pointwise("hardsigmoid", hardsigmoid_, result="float"), "relu6(x + 3) / 6.")
logsigmoid = unary(Pointwise("logsigmoid", logsigmoid_, result="float"), "log(sigmoid(x)).")
selu = unary(Pointwise("selu", selu_, result="float"), "scale * elu(x, alpha), with the constants of the paper.")

_leaky_relu = Pointwise("leaky_relu", leaky_relu_, ("x", "negative_slope"), result="float")
_elu = Pointwise("elu", elu_, ("x", "alpha"), result="float")
_softplus = Pointwise("softplus", softplus_, ("x", "beta", "threshold"), result="float")
_hardtanh = Pointwise("hardtanh", clamp_, ("x", "min_val", "max_val"))


def leaky_relu(x: Any, negative_slope: float = 0.01, *, out: Any = None, target: str | None = None) -> Any:
    """x above 0, negative_slope * x below."""
    return _leaky_relu((x, check_number("leaky_relu", "negative_slope", negative_slope)), out, target)


def elu(x: Any, alpha: float = 1.0, *, out: Any = None, target: str | None = None) -> Any:
    """x above 0, alpha * (exp(x) - 1) below."""
    return _elu((x, check_number("elu", "alpha", alpha)), out, target)


def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0, *, out: Any = None, target: str | None = None) -> Any:
    """log(1 + exp(beta * x)) / beta; x itself where beta * x is above the threshold."""
    numbers = check_number("softplus", "beta", beta), check_number("softplus", "threshold", threshold)
    return _softplus((x, *numbers), out, target)


def hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0, *, out: Any = None, target: str | None = None) -> Any:
    """x limited to min_val..max_val."""
    numbers = _bound(x, "min_val", min_val), _bound(x, "max_val", max_val)
    return _hardtanh((x, *numbers), out, target)


def relu6(x: Any, *, out: Any = None, target: str | None = None) -> Any:
    """x limited to 0..6."""
    return _hardtanh((x, _bound(x, "min_val", 0), _bound(x, "max_val", 6)), out, target)


def _bound(x: Any, name: str, value: Any) -> float:
    """A limit; whole ones as integers, so that arrays of integers stay so."""
    number = check_number("hardtanh", name, value)
    return int(number) if number.is_integer() else number
