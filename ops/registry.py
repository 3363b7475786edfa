"""One record for each operator: what tests, benchmarks and the page `docs/operators.md` know of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from opdsl.ops import (
    arg_reductions,
    forms,
    reduction_kernels,
    references,
    spread_kernels,
)
from opdsl.ops.arguments import Array

from opdsl import ops
from opdsl.lang.kernel import Kernel

Generator = np.random.Generator


@dataclass(frozen=True)
class Call:
    """The arguments of a call. Arrays of floats are drawn in the dtype that is tested; others keep theirs."""

    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any] = field(default_factory=dict)

    def arrays(self) -> list[Array]:
        return [a for a in (*self.arguments, *self.keywords.values()) if isinstance(a, np.ndarray)]


@dataclass(frozen=True)
class Operator:
    """`reference` is the operator in NumPy, for arrays of float64; `calls` draws arguments of a size. The error of a
    float result is at most twice that of the reference evaluated in the result's dtype, or `ulps` units in the last place.
    `flops` and `bytes` are what a call computes and must move at least."""

    name: str
    family: str
    function: Callable[..., Any]
    kernels: tuple[Kernel, ...]
    reference: Callable[..., Any]
    calls: Callable[[Generator, np.dtype[Any], int], Iterator[Call]]
    flops: Callable[[Call], int]
    dtypes: tuple[str, ...] = ("float32", "float64", "float16", "bfloat16")
    ulps: float = 4.0
    exact: bool = False  # of integers: equal to the bit

    def bytes(self, call: Call, result: Array) -> int:
        """What is read once and written once."""
        return sum(a.nbytes for a in call.arrays()) + result.nbytes


Draw = Callable[[Generator, tuple[int, ...]], Array]


def normal(generator: Generator, shape: tuple[int, ...]) -> Array:
    return generator.standard_normal(shape)


def wide(generator: Generator, shape: tuple[int, ...]) -> Array:
    return generator.standard_normal(shape) * 4


def positive(generator: Generator, shape: tuple[int, ...]) -> Array:
    return np.exp(generator.standard_normal(shape))


def above_minus_one(generator: Generator, shape: tuple[int, ...]) -> Array:
    return np.exp(generator.standard_normal(shape)) - 0.99


def not_small(generator: Generator, shape: tuple[int, ...]) -> Array:
    return np.copysign(generator.uniform(0.5, 3.0, shape), generator.standard_normal(shape))


OPERATORS: dict[str, Operator] = {}


def _register(operator: Operator) -> None:
    OPERATORS[operator.name] = operator


def _elements(call: Call) -> int:
    return int(np.prod(np.broadcast_shapes(*(a.shape for a in call.arrays())), dtype=np.int64))


# --- elementwise -----------------------------------------------------------------------------------------------------


def _pointwise(
    name: str,
    family: str,
    reference: Callable[..., Any],
    *draws: Draw,
    extra: tuple[Any, ...] = (),
    flops: int = 1,
    **more: Any,
) -> None:
    def calls(generator: Generator, dtype: np.dtype[Any], size: int) -> Iterator[Call]:
        yield Call((*(draw(generator, (size,)).astype(dtype) for draw in draws), *extra))

    kernels = (
        forms.FLAT[len(draws) + len(extra)],
        forms.GRID[len(draws) + len(extra)],
        forms.BLOCKS[len(draws) + len(extra)],
    )
    _register(
        Operator(name, family, getattr(ops, name), kernels, reference, calls, lambda c: flops * _elements(c), **more)
    )


for _name, _reference, _draw, _flops in (
    ("abs", np.abs, normal, 1),
    ("neg", np.negative, normal, 1),
    ("square", np.square, normal, 1),
    ("sign", np.sign, normal, 1),
    ("exp", np.exp, wide, 15),
    ("exp2", np.exp2, wide, 15),
    ("expm1", np.expm1, normal, 15),
    ("log", np.log, positive, 15),
    ("log2", np.log2, positive, 15),
    ("log10", np.log10, positive, 15),
    ("log1p", np.log1p, above_minus_one, 15),
    ("sqrt", np.sqrt, positive, 1),
    ("rsqrt", references.rsqrt, positive, 2),
    ("reciprocal", references.reciprocal, not_small, 1),
    ("sin", np.sin, wide, 20),
    ("cos", np.cos, wide, 20),
    ("tan", np.tan, normal, 20),
    ("tanh", np.tanh, normal, 20),
    ("sigmoid", references.sigmoid, wide, 17),
    ("erf", references.erf, normal, 20),
    ("floor", np.floor, wide, 1),
    ("ceil", np.ceil, wide, 1),
    ("trunc", np.trunc, wide, 1),
    ("round", np.round, wide, 1),
    ("isnan", np.isnan, normal, 1),
    ("isfinite", np.isfinite, normal, 1),
    ("isinf", np.isinf, normal, 1),
    ("logical_not", np.logical_not, normal, 1),
):
    _pointwise(_name, "unary", _reference, _draw, flops=_flops)

for _name, _reference, _first, _second in (
    ("add", np.add, normal, normal),
    ("sub", np.subtract, normal, normal),
    ("mul", np.multiply, normal, normal),
    ("div", np.divide, normal, not_small),
    ("floor_divide", np.floor_divide, wide, not_small),
    ("remainder", np.remainder, wide, not_small),
    ("pow", np.power, positive, normal),
    ("maximum", np.maximum, normal, normal),
    ("minimum", np.minimum, normal, normal),
    ("atan2", np.arctan2, normal, normal),
    ("eq", np.equal, normal, normal),
    ("ne", np.not_equal, normal, normal),
    ("lt", np.less, normal, normal),
    ("le", np.less_equal, normal, normal),
    ("gt", np.greater, normal, normal),
    ("ge", np.greater_equal, normal, normal),
    ("logical_and", np.logical_and, normal, normal),
    ("logical_or", np.logical_or, normal, normal),
):
    _pointwise(_name, "binary", _reference, _first, _second)

_pointwise("where", "binary", references.where, normal, normal, normal)
_pointwise("clamp", "binary", references.clamp, normal, extra=(-0.5, 0.75))

for _name, _reference, _extra in (
    ("relu", references.relu, ()),
    ("relu6", references.relu6, ()),
    ("silu", references.silu, ()),
    ("softsign", references.softsign, ()),
    ("mish", references.mish, ()),
    ("hardswish", references.hardswish, ()),
    ("hardsigmoid", references.hardsigmoid, ()),
    ("logsigmoid", references.logsigmoid, ()),
    ("selu", references.selu, ()),
    ("leaky_relu", references.leaky_relu, (0.1,)),
    ("elu", references.elu, (0.75,)),
    ("softplus", references.softplus, (1.5, 20.0)),
    ("hardtanh", references.hardtanh, (-0.75, 1.5)),
):
    _inputs: tuple[Any, ...] = _extra
    _pointwise(_name, "activation", _reference, wide, extra=_inputs if _name != "relu6" else (), flops=10)


def _gelu_calls(generator: Generator, dtype: np.dtype[Any], size: int) -> Iterator[Call]:
    for approximate in ("none", "tanh"):
        yield Call((wide(generator, (size,)).astype(dtype),), {"approximate": approximate})


_register(
    Operator(
        "gelu",
        "activation",
        ops.gelu,
        (forms.flat1, forms.grid1, forms.blocks1),
        references.gelu,
        _gelu_calls,
        lambda c: 25 * _elements(c),
    )
)

# --- copies ----------------------------------------------------------------------------------------------------------


def _copy_calls(generator: Generator, dtype: np.dtype[Any], size: int) -> Iterator[Call]:
    yield Call((normal(generator, (size,)).astype(dtype),))


def _matrix_calls(generator: Generator, dtype: np.dtype[Any], size: int) -> Iterator[Call]:
    rows, columns = references.split(size)
    yield Call((normal(generator, (rows, columns)).astype(dtype),))


def _permute_calls(generator: Generator, dtype: np.dtype[Any], size: int) -> Iterator[Call]:
    rows, columns = references.split(size)
    yield Call((normal(generator, (2, rows, columns, 3)).astype(dtype), (0, 3, 1, 2)))


def _cast_calls(generator: Generator, dtype: np.dtype[Any], size: int) -> Iterator[Call]:
    yield Call((wide(generator, (size,)).astype(dtype), np.float32))


_COPY = (forms.flat1, forms.grid1, forms.blocks1)
for _name, _reference, _calls in (
    ("copy", references.identity, _copy_calls),
    ("contiguous", references.identity, _copy_calls),
    ("cast", references.cast, _cast_calls),
    ("transpose", references.transpose, _matrix_calls),
    ("permute", references.permute, _permute_calls),
):
    _register(Operator(_name, "copy", getattr(ops, _name), _COPY, _reference, _calls, lambda c: 0))

# --- reductions ------------------------------------------------------------------------------------------------------


def _reduction_calls(*axes: Any, draw: Draw = normal) -> Callable[[Generator, np.dtype[Any], int], Iterator[Call]]:
    def calls(generator: Generator, dtype: np.dtype[Any], size: int) -> Iterator[Call]:
        rows, columns = references.split(size)
        x = draw(generator, (rows, columns)).astype(dtype)
        for axis in axes:
            yield Call((x, axis))
        yield Call((x, -1), {"keepdims": True})

    return calls


_ROWS = (reduction_kernels.reduce_rows, reduction_kernels.reduce_columns)
_ABOUT = (*_ROWS, reduction_kernels.sum_rows_about, reduction_kernels.sum_columns_about)
_SPREAD = (*_ROWS, spread_kernels.spread_rows, spread_kernels.spread_columns, spread_kernels.variance)
for _name, _reference in (
    ("sum", references.sum),
    ("mean", np.mean),
    ("prod", np.prod),
    ("max", np.max),
    ("min", np.min),
    ("any", np.any),
    ("all", np.all),
):
    _ones = _name == "prod"
    _register(
        Operator(
            _name,
            "reduction",
            getattr(ops, _name),
            _ROWS,
            _reference,
            _reduction_calls(None, 0, 1, draw=references.near_one if _ones else normal),
            lambda c: c.arrays()[0].size,
        )
    )
for _name, _reference in (("var", np.var), ("std", np.std), ("logsumexp", references.logsumexp)):
    _register(
        Operator(
            _name,
            "reduction",
            getattr(ops, _name),
            _ABOUT if _name == "logsumexp" else _SPREAD,
            _reference,
            _reduction_calls(None, 0, 1),
            lambda c: 4 * c.arrays()[0].size,
        )
    )
for _name, _reference in (("argmax", references.argmax), ("argmin", references.argmin)):
    _register(
        Operator(
            _name,
            "reduction",
            getattr(arg_reductions, _name),
            (reduction_kernels.arg_rows, reduction_kernels.arg_columns),
            _reference,
            _reduction_calls(None, 0, 1),
            lambda c: c.arrays()[0].size,
        )
    )

# --- rows ------------------------------------------------------------------------------------------------------------


def _softmax_calls(generator: Generator, dtype: np.dtype[Any], size: int) -> Iterator[Call]:
    rows, columns = references.split(size)
    x = wide(generator, (rows, columns)).astype(dtype)
    yield Call((x,))
    yield Call((x, 0))
    yield Call((wide(generator, (rows, 64)).astype(dtype),))


def _norm_calls(parameters: int) -> Callable[[Generator, np.dtype[Any], int], Iterator[Call]]:
    def calls(generator: Generator, dtype: np.dtype[Any], size: int) -> Iterator[Call]:
        rows, columns = references.split(size)
        for width in (max(columns, 1), 64):
            given = (normal(generator, (width,)).astype(dtype) for _ in range(parameters))
            yield Call((normal(generator, (rows, width)).astype(dtype), (width,), *given), {"eps": 1e-5})
        yield Call((normal(generator, (rows, 64)).astype(dtype), 64), {"eps": 1e-5})

    return calls


def _family(name: str) -> Any:
    """The module of an operator, which the function of the same name hides in the package."""
    import importlib

    return importlib.import_module(f"opdsl.ops.{name}")


_softmax, _norms = _family("softmax"), _family("normalisation")
for _name, _reference in (("softmax", references.softmax), ("log_softmax", references.log_softmax)):
    _register(
        Operator(
            _name,
            "rows",
            getattr(ops, _name),
            (_softmax.softmax_rows, _softmax.softmax_whole, _softmax.softmax_pieces, _softmax.softmax_columns),
            _reference,
            _softmax_calls,
            lambda c: 20 * c.arrays()[0].size,
        )
    )
_register(
    Operator(
        "layer_norm",
        "rows",
        ops.layer_norm,
        (_norms.norm_whole, _norms.norm_pieces),
        references.layer_norm,
        _norm_calls(2),
        lambda c: 8 * c.arrays()[0].size,
    )
)
_register(
    Operator(
        "rms_norm",
        "rows",
        ops.rms_norm,
        (_norms.norm_whole, _norms.norm_pieces),
        references.rms_norm,
        _norm_calls(1),
        lambda c: 5 * c.arrays()[0].size,
    )
)

# --- products and tables ---------------------------------------------------------------------------------------------


def _matmul_calls(generator: Generator, dtype: np.dtype[Any], size: int) -> Iterator[Call]:
    m, n = references.split(size)
    k = 41 if size > 1 else size
    a, b = normal(generator, (m, k)).astype(dtype), normal(generator, (k, n)).astype(dtype)
    yield Call((a, b))
    yield Call((a, b), {"bias": normal(generator, (n,)).astype(dtype), "activation": "gelu"})
    yield Call((a[:3], b.T.copy().T))
    yield Call((normal(generator, (2, 1, 5, 7)).astype(dtype), normal(generator, (3, 7, 6)).astype(dtype)))


def _product_flops(call: Call) -> int:
    a, b = call.arguments[:2]
    batch = int(np.prod(np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), dtype=np.int64))
    return 2 * batch * int(a.shape[-2] * a.shape[-1] * b.shape[-1])


_matmul = _family("matmul")
_register(
    Operator(
        "matmul",
        "product",
        ops.matmul,
        (_matmul.multiply_matrices, _matmul.multiply),
        references.matmul,
        _matmul_calls,
        _product_flops,
    )
)


def _embedding_calls(generator: Generator, dtype: np.dtype[Any], size: int) -> Iterator[Call]:
    rows, columns = references.split(size)
    yield Call((generator.integers(0, 31, (rows, 2)), normal(generator, (31, columns)).astype(dtype)))


def _embedding_backward_calls(generator: Generator, dtype: np.dtype[Any], size: int) -> Iterator[Call]:
    rows, columns = references.split(size)
    yield Call((normal(generator, (rows, 2, columns)).astype(dtype), generator.integers(0, 31, (rows, 2)), 31))


_embedding = _family("embedding")
_register(
    Operator(
        "embedding", "table", ops.embedding, (_embedding.look_up,), references.embedding, _embedding_calls, lambda c: 0
    )
)
_register(
    Operator(
        "embedding_backward",
        "table",
        ops.embedding_backward,
        (_embedding.add_rows,),
        references.embedding_backward,
        _embedding_backward_calls,
        lambda c: c.arrays()[0].size,
    )
)
