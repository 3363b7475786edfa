"""Problems of the suite `softmax_norm`: a reduction along each row and something done with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import Array, Input
from .cases import Case
from .problems import Implementation, Problem, numpy_peer, operator, size_of, torch_peer

EPS = 1e-5


def softmax_formula(x: Array) -> Array:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def layer_norm_formula(x: Array, weight: Array, bias: Array) -> Array:
    centred = x - x.mean(axis=1, keepdims=True)
    variance = (centred**2).mean(axis=1, keepdims=True)
    return np.asarray(centred / np.sqrt(variance + x.dtype.type(EPS)) * weight + bias)


def rms_norm_formula(x: Array, weight: Array) -> Array:
    return np.asarray(x / np.sqrt((x**2).mean(axis=1, keepdims=True) + x.dtype.type(EPS)) * weight)


def torch_softmax() -> Implementation:
    import torch

    def softmax(x: Any, out: Any = None) -> Any:
        return torch.softmax(x, 1) if out is None else torch.softmax(x, 1, out=out)

    return torch_peer(softmax)


def torch_layer_norm() -> Implementation:
    import torch

    def with_out(x: Any, weight: Any, bias: Any, out: Any) -> Any:
        if not scratch:
            scratch.extend(torch.empty(x.shape[0], 1, dtype=x.dtype) for _ in range(2))
        torch.ops.aten.native_layer_norm.out(
            x, [x.shape[1]], weight, bias, EPS, out0=out, out1=scratch[0], out2=scratch[1]
        )
        return out

    def fresh(x: Any, weight: Any, bias: Any) -> Any:
        return torch.nn.functional.layer_norm(x, (x.shape[1],), weight, bias, EPS)

    scratch: list[Any] = []
    return torch_peer(with_out, fresh=fresh)


def torch_rms_norm() -> Implementation:
    import torch

    def in_steps(x: Any, weight: Any, out: Any) -> Any:
        torch.mul(x, x, out=out)
        torch.mul(x, out.mean(1, keepdim=True).add_(EPS).rsqrt_(), out=out)
        return out.mul_(weight)

    def fresh(x: Any, weight: Any) -> Any:
        return torch.nn.functional.rms_norm(x, (x.shape[1],), weight, EPS)

    return torch_peer(in_steps, fresh=fresh)


def numpy_softmax(x: Array, out: Array | None = None) -> Array:
    e = np.subtract(x, x.max(axis=1, keepdims=True), out=out)
    np.exp(e, out=e)
    return np.asarray(np.divide(e, e.sum(axis=1, keepdims=True), out=e))


def softmax(case: Case) -> Problem:
    peers = {"opdsl": operator("softmax"), "torch": torch_softmax(), "numpy": numpy_peer(numpy_softmax)}
    return _rows(case, 0, softmax_formula, peers)


def layer_norm(case: Case) -> Problem:
    n = case.integer("n")
    ours = operator("layer_norm", arrange=lambda x, weight, bias: (x, (n,), weight, bias, EPS))
    return _rows(case, 2, layer_norm_formula, {"opdsl": ours, "torch": torch_layer_norm()})


def rms_norm(case: Case) -> Problem:
    n = case.integer("n")
    ours = operator("rms_norm", arrange=lambda x, weight: (x, (n,), weight, EPS))
    return _rows(case, 1, rms_norm_formula, {"opdsl": ours, "torch": torch_rms_norm()})


def _rows(case: Case, parameters: int, formula: Callable[..., Array], peers: dict[str, Any]) -> Problem:
    m, n = case.integer("m"), case.integer("n")
    if case.dtype != "f32":
        peers.pop("numpy", None)
    x, parameter = ((m, n), case.dtype), ((n,), case.dtype)
    inputs = [Input(*x), *[Input(*parameter)] * parameters]
    return Problem(
        f"{m}x{n}", inputs, x, formula, peers, size_of(x, *[parameter] * parameters), size_of(x),
        by_rows=(True, *[False] * parameters), check_cost=8,
    )


PROBLEMS = {"softmax": softmax, "layer_norm": layer_norm, "rms_norm": rms_norm}
