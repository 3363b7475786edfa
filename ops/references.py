"""The operators in NumPy: in float64 for the exact value, in the dtype itself for the plain one that bounds the error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from opdsl.ops.arguments import Array


def split(size: int) -> tuple[int, int]:
    """Rows and columns of about `size` elements, neither a round number."""
    if size <= 1:
        return size, size
    rows = max(2, math.isqrt(size // 3))
    return rows, size // rows + 1


def near_one(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return 1 + generator.standard_normal(shape) / 64


def identity(x: Array) -> Array:
    return x


def rsqrt(x: Array) -> Array:
    return 1 / np.sqrt(x)


def reciprocal(x: Array) -> Array:
    return 1 / x


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


_erf = np.vectorize(math.erf, otypes=[np.float64])


def erf(x: Array) -> Array:
    return np.asarray(_erf(x)).astype(x.dtype)


def where(condition: Array, x: Array, y: Array) -> Array:
    return np.where(condition != 0, x, y)


def clamp(x: Array, low: Any, high: Any) -> Array:
    return np.minimum(np.maximum(x, low), high)


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def relu6(x: Array) -> Array:
    return clamp(x, 0, 6)


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def softsign(x: Array) -> Array:
    return x / (1 + np.abs(x))


def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    return np.where(x * beta > threshold, x, np.logaddexp(0, x * beta) / beta)


def mish(x: Array) -> Array:
    return x * np.tanh(np.logaddexp(0, x))


def hardsigmoid(x: Array) -> Array:
    return clamp(x + 3, 0, 6) / 6


def hardswish(x: Array) -> Array:
    return x * hardsigmoid(x)


def logsigmoid(x: Array) -> Array:
    return -np.logaddexp(0, -x)


def elu(x: Array, alpha: float = 1.0) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def selu(x: Array) -> Array:
    return 1.0507009873554805 * elu(x, 1.6732632423543772)


def leaky_relu(x: Array, slope: float = 0.01) -> Array:
    return np.where(x > 0, x, x * slope)


def hardtanh(x: Array, low: float = -1.0, high: float = 1.0) -> Array:
    return clamp(x, low, high)


def gelu(x: Array, approximate: str = "none") -> Array:
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))


def cast(x: Array, dtype: Any) -> Array:
    return x.astype(np.float64).astype(dtype)


def transpose(x: Array) -> Array:
    return np.swapaxes(x, -2, -1)


def permute(x: Array, axes: tuple[int, ...]) -> Array:
    return np.transpose(x, axes)


def sum(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    return np.asarray(np.sum(x, axis=axis, keepdims=keepdims))


def logsumexp(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    if x.size == 0:
        return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))
    top = np.max(x, axis=axis, keepdims=True)
    centre = np.where(np.isinf(top), np.zeros_like(top), top)
    total = np.log(np.sum(np.exp(x - centre), axis=axis, keepdims=True)) + centre
    return total if keepdims else total.reshape(np.sum(x, axis=axis).shape)


def argmax(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    return np.asarray(np.argmax(x, axis=axis, keepdims=keepdims))


def argmin(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    return np.asarray(np.argmin(x, axis=axis, keepdims=keepdims))


def softmax(x: Array, axis: int = -1) -> Array:
    if x.size == 0:
        return x
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


def log_softmax(x: Array, axis: int = -1) -> Array:
    if x.size == 0:
        return x
    t = x - np.max(x, axis=axis, keepdims=True)
    return t - np.log(np.sum(np.exp(t), axis=axis, keepdims=True))


def layer_norm(x: Array, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Array:
    centred = x - np.mean(x, axis=-1, keepdims=True)
    y = centred / np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def rms_norm(x: Array, shape: Any, weight: Any = None, eps: float = 1e-5) -> Array:
    y = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)
    return y if weight is None else y * weight


def matmul(a: Array, b: Array, bias: Any = None, activation: str | None = None) -> Array:
    c = a @ b
    c = c if bias is None else c + bias
    functions = {None: identity, "relu": relu, "silu": silu, "gelu": gelu, "sigmoid": sigmoid, "tanh": np.tanh}
    return np.asarray(functions[activation](c))


def embedding(ids: Array, weight: Array) -> Array:
    return weight[ids]


def embedding_backward(grad: Array, ids: Array, rows: int) -> Array:
    table = np.zeros((rows, grad.shape[-1]), grad.dtype)
    np.add.at(table, ids, grad)
    return table
