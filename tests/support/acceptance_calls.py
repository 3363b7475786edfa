"""One call of every acceptance kernel: arguments that fill several tiles each way, for tests that compare runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from support.acceptance import load
from support.checks import BF16, F16, F32, Array, real


@dataclass(frozen=True)
class Call:
    """Arguments in order; those at `outputs` are written."""

    module: str
    kernel: str
    arguments: tuple[Any, ...]
    outputs: tuple[int, ...]
    constexprs: Mapping[str, Any]

    def run(self, target: str) -> list[Array]:
        """The outputs of a run on copies."""
        copies = [a.copy() if isinstance(a, np.ndarray) else a for a in self.arguments]
        self.function()(*copies, target=target, **self.constexprs)
        return [copies[place] for place in self.outputs]

    def function(self) -> Any:
        module: ModuleType = load(self.module)
        return getattr(module, self.kernel)


def _attention(dtype: np.dtype[Any], **constexprs: Any) -> Call:
    q, k, v = real((2, 4, 150, 32), dtype), real((2, 2, 170, 32), dtype, 1), real((2, 2, 170, 32), dtype, 2)
    arguments = (q, k, v, np.zeros_like(q), np.zeros(q.shape[:3], F32), 0.2)
    return Call("flash_attention", "flash_attention", arguments, (3, 4), constexprs)


def _matmul(dtype: np.dtype[Any], activation: str = "identity") -> Call:
    a, b, bias = real((300, 200), dtype), real((200, 170), dtype, 1), real((170,), dtype, 2)
    constexprs = {"activation": getattr(load("matmul"), activation), "BM": 64, "BN": 64}
    return Call("matmul", "matmul", (a, b, bias, np.zeros((300, 170), dtype)), (3,), constexprs)


def _convolution(dtype: np.dtype[Any]) -> Call:
    x, w, y = real((2, 12, 40, 20), dtype), real((3, 3, 20, 70), dtype, 1), np.zeros((2, 12, 40, 70), dtype)
    return Call("conv2d", "conv2d", (x, w, y), (2,), {"padding": 1, "BC": 16})


def _rows(kernel: str, **constexprs: Any) -> Call:
    x = real((101, 700), F32)
    return Call("softmax", kernel, (x, np.zeros_like(x)), (1,), constexprs)


def _make(name: str) -> Call:
    if name.startswith(("matmul", "conv2d", "flash_attention")):
        kernel, _, dtype_name = name.partition(" ")
        dtype = {"f32": F32, "f16": F16, "bf16": BF16}[dtype_name]
        if kernel == "matmul":
            return _matmul(dtype, "silu" if dtype == F32 else "identity")
        return _convolution(dtype) if kernel == "conv2d" else _attention(dtype, causal=dtype == F32)
    n = 100_003
    if name == "add":
        return Call("add", "add", (real((n,), F32), real((n,), F32, 1), np.zeros(n, F32)), (2,), {})
    if name == "dropout":
        return Call("dropout", "dropout", (real((n,), F32), np.zeros(n, F32), 0.3, 7), (1,), {})
    if name == "softmax":
        return _rows("softmax")
    if name == "softmax_online":
        return _rows("softmax_online", BN=128)
    if name == "layer_norm":
        x = real((101, 700), F32)
        arguments = (x, real((700,), F32, 1), real((700,), F32, 2), np.zeros_like(x), 1e-5)
        return Call("layer_norm", "layer_norm", arguments, (3,), {})
    ids = np.random.default_rng(3).integers(-1, 50, 2000)
    if name == "embedding":
        table = real((50, 60), F32)
        return Call("embedding", "embedding", (table, ids, np.zeros((2000, 60), F32)), (2,), {})
    assert name == "embedding_backward"
    arguments = (real((2000, 60), F32), ids, np.zeros((50, 60), F32))
    return Call("embedding", "embedding_backward", arguments, (2,), {})


NAMES = (
    *("add", "dropout", "softmax", "softmax_online", "layer_norm", "embedding", "embedding_backward"),
    *(f"{kernel} {dtype}" for kernel in ("matmul", "conv2d", "flash_attention") for dtype in ("f32", "f16", "bf16")),
)


def call_of(name: str) -> Call:
    """The call named in NAMES. Skips the test where the acceptance kernels are not here."""
    return _make(name)
