"""Problems of the suite `elementwise`: what moves memory."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import Array, Input
from .cases import Case
from .problems import Implementation, Missing, Problem, numpy_peer, operator, size_of, torch_peer

_erf_of_one = np.vectorize(math.erf, otypes=[np.float64])


def _erf(x: Array) -> Array:
    return np.asarray(_erf_of_one(x)).astype(x.dtype)


def _gelu(x: Array) -> Array:
    return np.asarray(x * (1 + _erf(x / np.sqrt(x.dtype.type(2)))) / 2)


def _gelu_tanh(x: Array) -> Array:
    inner = x.dtype.type(math.sqrt(2 / math.pi)) * (x + x.dtype.type(0.044715) * x**3)
    return np.asarray(x * (1 + np.tanh(inner)) / 2)


def _silu(x: Array) -> Array:
    return np.asarray(x / (1 + np.exp(-x)))


def _map(
    case: Case, count: int, formula: Callable[..., Array], ours: Implementation | Missing, torch: Implementation,
    numpy: Implementation | None = None, check_cost: float = 1.0,
) -> Problem:
    size = case.integer("n")
    peers = {"opdsl": ours, "torch": torch}
    if numpy is not None and case.dtype in ("f32", "f64"):
        peers["numpy"] = numpy
    operands = [((size,), case.dtype)] * count
    return Problem(
        str(size), [Input((size,), case.dtype)] * count, operands[0], formula, peers, size_of(*operands),
        size_of(operands[0]), by_rows=(True,) * count, check_cost=check_cost,
    )


def add(case: Case) -> Problem:
    import torch

    return _map(case, 2, np.add, operator("add"), torch_peer(torch.add), numpy_peer(np.add))


def mul(case: Case) -> Problem:
    import torch

    return _map(case, 2, np.multiply, operator("mul"), torch_peer(torch.mul), numpy_peer(np.multiply))


def exp(case: Case) -> Problem:
    import torch

    return _map(case, 1, np.exp, operator("exp"), torch_peer(torch.exp), numpy_peer(np.exp))


def tanh(case: Case) -> Problem:
    import torch

    return _map(case, 1, np.tanh, operator("tanh"), torch_peer(torch.tanh), numpy_peer(np.tanh))


def relu(case: Case) -> Problem:
    import torch

    def clamp(x: Any, out: Any = None) -> Any:
        return torch.clamp_min(x, 0, out=out)

    def maximum(x: Array, out: Array | None = None) -> Array:
        return np.asarray(np.maximum(x, 0, out=out))

    zero = functools.partial(np.maximum, 0)
    return _map(case, 1, zero, operator("relu"), torch_peer(clamp, fresh=torch.relu), numpy_peer(maximum))


def silu(case: Case) -> Problem:
    import torch

    return _map(case, 1, _silu, operator("silu"), torch_peer(torch.ops.aten.silu.out, fresh=torch.nn.functional.silu))


def gelu(case: Case) -> Problem:
    import torch

    peer = torch_peer(torch.ops.aten.gelu.out)
    if case.op == "gelu":
        return _map(case, 1, _gelu, operator("gelu"), peer, check_cost=200)
    peer = torch_peer(functools.partial(torch.ops.aten.gelu.out, approximate="tanh"))
    return _map(case, 1, _gelu_tanh, operator("gelu", approximate="tanh"), peer, check_cost=20)


def copy(case: Case) -> Problem:
    def torch_copy(x: Any, out: Any) -> Any:
        return out.copy_(x)

    def torch_clone(x: Any) -> Any:
        return x.clone()

    def numpy_copy(x: Array, out: Array | None = None) -> Array:
        if out is None:
            return x.copy()
        np.copyto(out, x)
        return out

    return _map(case, 1, np.array, operator("copy"), torch_peer(torch_copy, fresh=torch_clone), numpy_peer(numpy_copy))


def sum_(case: Case) -> Problem:
    import torch

    size = case.integer("n")
    operand = ((size,), case.dtype)

    def torch_sum(x: Any, out: Any = None) -> Any:
        return torch.sum(x, 0, out=out)

    def numpy_sum(x: Array, out: Array | None = None) -> Any:
        return np.add.reduce(x, out=out)

    peers = {"opdsl": operator("sum"), "torch": torch_peer(torch_sum), "numpy": numpy_peer(numpy_sum)}
    return Problem(str(size), [Input(*operand)], ((), case.dtype), np.sum, peers, size_of(operand), 0)


def transpose(case: Case) -> Problem:
    m, n = case.integer("m"), case.integer("n")
    operand = ((m, n), case.dtype)

    def torch_copy(x: Any, out: Any) -> Any:
        return out.copy_(x.t())

    def torch_fresh(x: Any) -> Any:
        return x.t().contiguous()

    def numpy_copy(x: Array, out: Array | None = None) -> Array:
        if out is None:
            return np.ascontiguousarray(x.T)
        np.copyto(out, x.T)
        return out

    peers = {
        "opdsl": operator("transpose"),
        "torch": torch_peer(torch_copy, fresh=torch_fresh),
        "numpy": numpy_peer(numpy_copy),
    }
    size = size_of(operand)
    return Problem(f"{m}x{n}", [Input(*operand)], ((n, m), case.dtype), np.transpose, peers, size, size)


def embedding(case: Case) -> Problem:
    import torch

    vocabulary, d, n = case.integer("vocabulary"), case.integer("d"), case.integer("n")
    table, ids, out = ((vocabulary, d), case.dtype), ((n,), "i64"), ((n, d), case.dtype)

    def torch_select(table: Any, ids: Any, out: Any = None) -> Any:
        return torch.index_select(table, 0, ids, out=out)

    def torch_embedding(table: Any, ids: Any) -> Any:
        return torch.nn.functional.embedding(ids, table)

    def numpy_take(table: Array, ids: Array, out: Array | None = None) -> Array:
        return np.take(table, ids, axis=0, out=out, mode="clip")  # "raise" copies through a buffer

    peers = {
        "opdsl": operator("embedding", arrange=lambda table, ids: (ids, table)),
        "torch": torch_peer(torch_select, fresh=torch_embedding),
        "numpy": numpy_peer(numpy_take),
    }
    inputs = [Input(*table), Input(*ids, below=vocabulary)]
    return Problem(
        f"{vocabulary}x{d}, {n} ids", inputs, out, lambda table, ids: table[ids.astype(np.int64)], peers,
        size_of(out, ids), size_of(out),
    )


PROBLEMS: dict[str, Callable[[Case], Problem]] = {
    "add": add, "mul": mul, "exp": exp, "tanh": tanh, "relu": relu, "silu": silu, "gelu": gelu, "gelu_tanh": gelu,
    "copy": copy, "sum": sum_, "transpose": transpose, "embedding": embedding,
}  # fmt: skip
