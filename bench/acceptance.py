"""Problems of the suite `acceptance`: the kernels of ../shared/kernels as written, beside what PyTorch has for each.

What this suite shows is that the compiler is general: no operator's wrapper, no choice of tiles but the kernels' own.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .arrays import Array, Input
from .cases import Case
from .problems import Implementation, Missing, Problem, kernel, numpy_peer, size_of, torch_peer
from .products import product_in_order
from .rowwise import EPS, layer_norm_formula, numpy_softmax, softmax_formula, torch_layer_norm, torch_softmax

FOLDER = Path(__file__).resolve().parent.parent.parent / "shared" / "kernels"


class KernelsMissing(RuntimeError):
    """The acceptance kernels are not beside the checkout."""


@cache
def load(name: str, folder: Path | None = None) -> ModuleType:
    """The module of an acceptance kernel's file."""
    path = (folder or FOLDER) / f"{name}.py"
    if not path.is_file():
        raise KernelsMissing(
            "the acceptance kernels are not here: the suites `acceptance` and `compile` load them from "
            f"../shared/kernels beside the checkout, which has no {name}.py"
        )
    spec = importlib.util.spec_from_file_location(f"opdsl_acceptance_{name}", path)
    if spec is None or spec.loader is None:
        raise KernelsMissing(f"{path.name} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _tiles(case: Case) -> dict[str, Any]:
    """`block_m = 64` in the shapes file is the kernel's constexpr BM; of `block` alone it is BLOCK."""
    return {
        "BLOCK" if name == "block" else "B" + name.removeprefix("block_").upper(): value
        for name, value in case.parameters.items()
        if name.startswith("block")
    }


def _described(shape: str, tiles: dict[str, Any]) -> str:
    return " ".join([shape, *(f"{name}={value}" for name, value in tiles.items())])


def add(case: Case) -> Problem:
    import torch

    tiles, operand = _tiles(case), ((case.integer("n"),), case.dtype)
    launch = load("add").add
    peers: dict[str, Implementation | Missing] = {
        "opdsl": kernel(lambda x, y, out: launch(x, y, out, **tiles), *operand),
        "torch": torch_peer(torch.add),
        "numpy": numpy_peer(np.add),
    }
    return Problem(
        _described(str(case.integer("n")), tiles), [Input(*operand)] * 2, operand, np.add, peers,
        size_of(operand, operand), size_of(operand), by_rows=(True, True),
    )  # fmt: skip


def softmax(case: Case) -> Problem:
    tiles, operand = _tiles(case), ((case.integer("m"), case.integer("n")), case.dtype)
    module = load("softmax")
    launch = module.softmax_online if case.op.endswith("online") else module.softmax
    peers: dict[str, Implementation | Missing] = {
        "opdsl": kernel(lambda x, out: launch(x, out, **tiles), *operand),
        "torch": torch_softmax(),
        "numpy": numpy_peer(numpy_softmax),
    }
    return Problem(
        _described("{}x{}".format(*operand[0]), tiles), [Input(*operand)], operand, softmax_formula, peers,
        size_of(operand), size_of(operand), by_rows=(True,), check_cost=8,
    )  # fmt: skip


def layer_norm(case: Case) -> Problem:
    m, n, tiles = case.integer("m"), case.integer("n"), _tiles(case)
    operand, parameter = ((m, n), case.dtype), ((n,), case.dtype)
    launch = load("layer_norm").layer_norm
    peers: dict[str, Implementation | Missing] = {
        "opdsl": kernel(lambda x, weight, bias, out: launch(x, weight, bias, out, EPS, **tiles), *operand),
        "torch": torch_layer_norm(),
    }
    return Problem(
        _described(f"{m}x{n}", tiles), [Input(*operand), Input(*parameter), Input(*parameter)], operand,
        layer_norm_formula, peers, size_of(operand, parameter, parameter), size_of(operand),
        by_rows=(True, False, False), check_cost=8,
    )  # fmt: skip


def embedding(case: Case) -> Problem:
    import torch

    vocabulary, d, n, tiles = case.integer("vocabulary"), case.integer("d"), case.integer("n"), _tiles(case)
    out = ((n, d), case.dtype)
    launch = load("embedding").embedding

    def torch_select(table: Any, ids: Any, out: Any = None) -> Any:
        return torch.index_select(table, 0, ids, out=out)

    def torch_embedding(table: Any, ids: Any) -> Any:
        return torch.nn.functional.embedding(ids, table)

    peers: dict[str, Implementation | Missing] = {
        "opdsl": kernel(lambda table, ids, out: launch(table, ids, out, **tiles), *out),
        "torch": torch_peer(torch_select, fresh=torch_embedding),
    }
    return Problem(
        _described(f"{vocabulary}x{d}, {n} ids", tiles),
        [Input((vocabulary, d), case.dtype), Input((n,), "i64", below=vocabulary)], out,
        lambda table, ids: table[ids.astype(np.int64)], peers, size_of(out, ((n,), "i64")), size_of(out),
    )  # fmt: skip


def matmul(case: Case) -> Problem:
    import torch

    m, k, n, tiles = case.integer("m"), case.integer("k"), case.integer("n"), _tiles(case)
    out = ((m, n), case.dtype)
    launch = load("matmul").matmul

    def torch_addmm(a: Any, b: Any, bias: Any, out: Any = None) -> Any:
        return torch.addmm(bias, a, b, out=out)

    def numpy_addmm(a: Array, b: Array, bias: Array, out: Array | None = None) -> Array:
        product = np.matmul(a, b, out=out)
        return np.add(product, bias, out=product)

    peers: dict[str, Implementation | Missing] = {
        "opdsl": kernel(lambda a, b, bias, out: launch(a, b, bias, out, **tiles), *out),
        "torch": torch_peer(torch_addmm),
    }
    if case.dtype in ("f32", "f64"):
        peers["numpy"] = numpy_peer(numpy_addmm)
    inputs = [Input((m, k), case.dtype), Input((k, n), case.dtype), Input((n,), case.dtype)]
    return Problem(
        _described(f"{m}x{k}x{n}", tiles), inputs, out, lambda a, b, bias: a @ b + bias, peers,
        size_of(*((i.shape, i.dtype) for i in inputs)), size_of(out), flops=2.0 * m * k * n,
        by_rows=(True, False, False), check_cost=2.0 * k,
        in_order=lambda a, b, bias: product_in_order(a, b) + bias,
    )  # fmt: skip


def attention(case: Case) -> Problem:
    import torch

    batch, heads, m, d = (case.integer(name) for name in ("batch", "heads", "m", "d"))
    key_heads, keys = case.integer("key_heads", heads), case.integer("keys", m)
    causal, tiles, scale = bool(case.parameters.get("causal", False)), _tiles(case), 1 / math.sqrt(d)
    out = ((batch, heads, m, d), case.dtype)
    module = load("flash_attention")
    logarithms = np.empty((batch, heads, m), np.float32)

    def ours(q: Array, k: Array, v: Array, out: Array) -> None:
        module.flash_attention(q, k, v, out, logarithms, scale, causal=causal, **tiles)

    def torch_attention(q: Any, k: Any, v: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=causal, enable_gqa=key_heads != heads
        )

    peers: dict[str, Implementation | Missing] = {"opdsl": kernel(ours, *out), "torch": torch_peer(fresh=torch_attention)}
    inputs = [Input(*out), *[Input((batch, key_heads, keys, d), case.dtype)] * 2]
    # Of a causal row only the visible keys count: that is the work there is to do.
    pairs = m * (keys - m) + m * (m + 1) // 2 if causal else m * keys
    return Problem(
        _described(f"({batch},{heads},{m},{d}){' causal' if causal else ''}", tiles), inputs, out,
        lambda q, k, v: module.reference(q, k, v, q.dtype.type(scale), causal)[0], peers,
        size_of(*((i.shape, i.dtype) for i in inputs)), size_of(out), flops=4.0 * batch * heads * pairs * d,
        check_cost=4.0 * keys,
    )  # fmt: skip


def conv2d(case: Case) -> Problem:
    import torch

    channels, filters, size, window = (case.integer(name) for name in ("channels", "filters", "size", "kernel"))
    batch, stride, tiles = case.integer("batch", 1), case.integer("stride", 1), _tiles(case)
    padding = case.integer("padding", window // 2)
    edge = (size + 2 * padding - window) // stride + 1
    out = ((batch, edge, edge, filters), case.dtype)
    module = load("conv2d")

    def ours(x: Array, w: Array, _: Array, out: Array) -> None:
        module.conv2d(x, w, out, KH=window, KW=window, stride=stride, padding=padding, **tiles)

    def torch_convolution(x: Any, _: Any, w: Any) -> Any:
        # The same pixels and filters, both channels_last, which is what PyTorch is fastest with.
        y = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), w.permute(0, 3, 1, 2), None, stride, padding)
        return y.permute(0, 2, 3, 1)

    def formula(x: Array, w: Array, _: Array) -> Array:
        return np.asarray(module.reference(x, w, stride, padding))

    x, w = Input((batch, size, size, channels), case.dtype), Input((window, window, channels, filters), case.dtype)
    w_torch = Input((filters, window, window, channels), case.dtype, copy_of=1, copy_axes=(3, 0, 1, 2))
    peers: dict[str, Implementation | Missing] = {"opdsl": kernel(ours, *out), "torch": torch_peer(fresh=torch_convolution)}
    work = window * window * channels
    return Problem(
        _described(f"{channels}x{size}x{size} {window}x{window} {filters}" + (f" s{stride}" if stride > 1 else ""), tiles),
        [x, w, w_torch], out, formula, peers, size_of((x.shape, x.dtype), (w.shape, w.dtype)), size_of(out),
        flops=2.0 * batch * edge * edge * filters * work, check_cost=2.0 * work,
    )  # fmt: skip


PROBLEMS = {
    "kernel_add": add, "kernel_softmax": softmax, "kernel_softmax_online": softmax, "kernel_layer_norm": layer_norm,
    "kernel_embedding": embedding, "kernel_matmul": matmul, "kernel_attention": attention, "kernel_conv2d": conv2d,
}  # fmt: skip

__all__ = ["PROBLEMS", "KernelsMissing", "load"]
