"""The operator library: NumPy arrays (or DLPack tensors) in, the same kind out. `docs/operators.md` lists the operators.

import opdsl.ops as ops

y = ops.layer_norm(x, (1024,), weight, bias)
ops.matmul(a, b.T, bias=bias, activation="gelu", out=c, target="cpu:avx2")
"""

from opdsl.ops.activations import (
    elu,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    logsigmoid,
    mish,
    relu,
    relu6,
    selu,
    silu,
    softplus,
    softsign,
)
from opdsl.ops.arg_reductions import argmax, argmin
from opdsl.ops.binary import (
    add,
    atan2,
    clamp,
    div,
    eq,
    floor_divide,
    ge,
    gt,
    le,
    logical_and,
    logical_or,
    lt,
    maximum,
    minimum,
    mul,
    ne,
    pow,
    remainder,
    sub,
    where,
)
from opdsl.ops.copying import cast, contiguous, copy, permute, transpose
from opdsl.ops.embedding import embedding, embedding_backward
from opdsl.ops.gelu import gelu
from opdsl.ops.matmul import matmul
from opdsl.ops.normalisation import layer_norm, rms_norm
from opdsl.ops.reductions import all, any, max, mean, min, prod, sum
from opdsl.ops.softmax import log_softmax, softmax
from opdsl.ops.statistics import logsumexp, std, var
from opdsl.ops.unary import (
    abs,
    ceil,
    cos,
    erf,
    exp,
    exp2,
    expm1,
    floor,
    isfinite,
    isinf,
    isnan,
    log,
    log1p,
    log2,
    log10,
    logical_not,
    neg,
    reciprocal,
    round,
    rsqrt,
    sigmoid,
    sign,
    sin,
    sqrt,
    square,
    tan,
    tanh,
    trunc,
)

__all__ = [
    "abs",
    "add",
    "all",
    "any",
    "argmax",
    "argmin",
    "atan2",
    "cast",
    "ceil",
    "clamp",
    "contiguous",
    "copy",
    "cos",
    "div",
    "elu",
    "embedding",
    "embedding_backward",
    "eq",
    "erf",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "floor_divide",
    "ge",
    "gelu",
    "gt",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "isfinite",
    "isinf",
    "isnan",
    "layer_norm",
    "le",
    "leaky_relu",
    "log",
    "log1p",
    "log2",
    "log10",
    "log_softmax",
    "logical_and",
    "logical_not",
    "logical_or",
    "logsigmoid",
    "logsumexp",
    "lt",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mish",
    "mul",
    "ne",
    "neg",
    "permute",
    "pow",
    "prod",
    "reciprocal",
    "relu",
    "relu6",
    "remainder",
    "rms_norm",
    "round",
    "rsqrt",
    "selu",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "softmax",
    "softplus",
    "softsign",
    "sqrt",
    "square",
    "std",
    "sub",
    "sum",
    "tan",
    "tanh",
    "transpose",
    "trunc",
    "var",
    "where",
]


def __getattr__(name: str) -> object:
    message = f"there is no operator {name!r} in opdsl.ops"
    if name.startswith("_"):
        raise AttributeError(message)
    from opdsl.support.errors import suggestion

    help = suggestion(name, __all__)
    raise AttributeError(f"{message}; {help}" if help else f"{message}; docs/operators.md lists them")
