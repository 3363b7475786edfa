"""Fused multiply-add by error-free transformations, since NumPy has none."""

from __future__ import annotations

import numpy as np

from opdsl.ir.semantics.values import Array

_SPLIT = float(2**27 + 1)
_SAFE = 2.0**900  # above this, splitting a factor could overflow


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _two_product(a: Array, b: Array) -> tuple[Array, Array]:
    product = a * b
    high_a = _SPLIT * a - (_SPLIT * a - a)
    high_b = _SPLIT * b - (_SPLIT * b - b)
    low_a, low_b = a - high_a, b - high_b
    return product, ((high_a * high_b - product) + high_a * low_b + low_a * high_b) + low_a * low_b


def _round_to_odd(total: Array, error: Array) -> Array:
    """`total + error` rounded to odd: where inexact, the neighbour with an odd last bit. Rounding that once more to a
    narrower type gives what a single rounding would."""
    total = np.ascontiguousarray(total)
    even = (total.view(np.int64) & 1) == 0
    toward = np.copysign(np.inf, error)
    return np.where((error != 0) & even & np.isfinite(total), np.nextafter(total, toward), total)


def fused_multiply_add_f32(a: Array, b: Array, c: Array) -> Array:
    a, b, c = (np.asarray(x, np.float64) for x in np.broadcast_arrays(a, b, c))
    total, error = _two_sum(a * b, c)
    error = np.where(np.isfinite(error), error, 0.0)
    return _round_to_odd(total, error).reshape(total.shape).astype(np.float32)


def fused_multiply_add_f64(a: Array, b: Array, c: Array) -> Array:
    """Boldo and Melquiond's algorithm; a product that overflows, or is subnormal, is rounded twice. It loses the sign of
    a zero, which the plain sum has: only where nothing is rounded, or all underflows, is the result zero."""
    a, b, c = (np.asarray(x, np.float64) for x in np.broadcast_arrays(a, b, c))
    high, low = _two_product(a, b)
    carried, rest = _two_sum(c, low)
    top, middle = _two_sum(high, carried)
    tail, error = _two_sum(rest, middle)
    fused = top + _round_to_odd(tail, error).reshape(top.shape)
    safe = (np.abs(a) < _SAFE) & (np.abs(b) < _SAFE) & (np.abs(c) < _SAFE) & np.isfinite(fused) & (fused != 0)
    return np.asarray(np.where(safe, fused, a * b + c))
