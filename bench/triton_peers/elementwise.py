"""Sum of two arrays, GELU, copy: each element read once and written once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import triton
import triton.language as tl

from .peer import POINTERS, Config, Peer, compiler_options, values


@triton.jit
def add_kernel(x, y, out, size, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    tl.store(out + at, tl.load(x + at, mask=inside) + tl.load(y + at, mask=inside), mask=inside)


@triton.jit
def gelu_kernel(x, out, size, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    t = tl.load(x + at, mask=inside).to(tl.float32)
    tl.store(out + at, (0.5 * t * (1 + tl.erf(t * 0.7071067811865476))).to(out.dtype.element_ty), mask=inside)


@triton.jit
def copy_kernel(x, out, size, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    tl.store(out + at, tl.load(x + at, mask=inside), mask=inside)


def _launch(kernel: Any) -> Callable[..., Any]:
    def launch(config: Config, *tensors: Any) -> Any:
        out = tensors[-1]
        size, block = out.numel(), config["BLOCK"]
        kernel[(triton.cdiv(size, block),)](*tensors, size, BLOCK=block, **compiler_options(config))
        return out

    return launch


def _signature(*arrays: str) -> Any:
    def signature(dtype: str, config: Config) -> Mapping[str, Any]:
        return {**dict.fromkeys(arrays, POINTERS[dtype]), "size": "i32", **values(config, "BLOCK")}

    return signature


CONFIGS: tuple[Config, ...] = (
    {"BLOCK": 1024, "num_warps": 4},
    {"BLOCK": 2048, "num_warps": 8},
    {"BLOCK": 4096, "num_warps": 8},
)
ADD = Peer("add", add_kernel, CONFIGS, _launch(add_kernel), _signature("x", "y", "out"))
GELU = Peer("gelu", gelu_kernel, CONFIGS, _launch(gelu_kernel), _signature("x", "out"))
COPY = Peer("copy", copy_kernel, CONFIGS, _launch(copy_kernel), _signature("x", "out"))
