"""Softmax, layer norm and RMS norm of rows that fit into the registers of a program: one read, one write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import triton
import triton.language as tl

from .peer import POINTERS, Config, Peer, Value, compiler_options, values

WIDEST = 65536  # columns


@triton.jit
def softmax_kernel(x, out, rows, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    t = tl.load(x + row * columns + at, mask=inside, other=float("-inf")).to(tl.float32)
    powers = tl.exp(t - tl.max(t, 0))
    tl.store(out + row * columns + at, (powers / tl.sum(powers, 0)).to(out.dtype.element_ty), mask=inside)


@triton.jit
def layer_norm_kernel(x, weight, bias, out, rows, columns, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    t = tl.load(x + row * columns + at, mask=inside, other=0.0).to(tl.float32)
    away = tl.where(inside, t - tl.sum(t, 0) / columns, 0.0)
    scale = tl.rsqrt(tl.sum(away * away, 0) / columns + eps)
    w = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(bias + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * columns + at, (away * scale * w + b).to(out.dtype.element_ty), mask=inside)


@triton.jit
def rms_norm_kernel(x, weight, out, rows, columns, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    t = tl.load(x + row * columns + at, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(t * t, 0) / columns + eps)
    w = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * columns + at, (t * scale * w).to(out.dtype.element_ty), mask=inside)


def _block(columns: int) -> int:
    if columns > WIDEST:
        raise ValueError(f"the peer takes rows of up to {WIDEST} elements, not {columns}")
    return int(triton.next_power_of_2(columns))


def softmax(config: Config, x: Any, out: Any) -> Any:
    rows, columns = x.shape
    softmax_kernel[(rows,)](x, out, rows, columns, BLOCK=_block(columns), **compiler_options(config))
    return out


def layer_norm(config: Config, x: Any, weight: Any, bias: Any, out: Any, *, eps: float) -> Any:
    rows, columns = x.shape
    layer_norm_kernel[(rows,)](
        x, weight, bias, out, rows, columns, eps, BLOCK=_block(columns), **compiler_options(config)
    )
    return out


def rms_norm(config: Config, x: Any, weight: Any, out: Any, *, eps: float) -> Any:
    rows, columns = x.shape
    rms_norm_kernel[(rows,)](x, weight, out, rows, columns, eps, BLOCK=_block(columns), **compiler_options(config))
    return out


def _signature(arrays: tuple[str, ...], eps: bool) -> Any:
    def signature(dtype: str, config: Config) -> Mapping[str, Any]:
        types: dict[str, Any] = dict.fromkeys(arrays, POINTERS[dtype])
        types |= {"rows": "i32", "columns": "i32"} | ({"eps": "fp32"} if eps else {})
        return types | (values(config, "BLOCK") if "BLOCK" in config else {"BLOCK": Value(1024)})

    return signature


CONFIGS: tuple[Config, ...] = ({"num_warps": 4}, {"num_warps": 8}, {"num_warps": 16})
SOFTMAX = Peer("softmax", softmax_kernel, CONFIGS, softmax, _signature(("x", "out"), False))
LAYER_NORM = Peer(
    "layer_norm", layer_norm_kernel, CONFIGS, layer_norm, _signature(("x", "weight", "bias", "out"), True)
)
RMS_NORM = Peer("rms_norm", rms_norm_kernel, CONFIGS, rms_norm, _signature(("x", "weight", "out"), True))
