"""softmax(scale * q @ k.T) @ v without the matrix of scores, one pass over k and v with a running maximum and sum
(Dao, "FlashAttention-2", arXiv:2307.08691, algorithm 1). Powers of two instead of e; blocks left of the
diagonal need no mask."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import triton
import triton.language as tl

from .peer import Config, Peer, Value, compiler_options, values

NAMES = {"f16": "fp16", "bf16": "bf16"}


@triton.jit
def attend(
    total, largest, weight, q, k, v, head, start, stop, m, N, scale,
    MASKED: tl.constexpr, CAUSAL: tl.constexpr, BN: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Adds the keys from start to stop to running results; scale is in powers of two."""
    for n in tl.range(start, stop, BN):
        keys = k.load([head, n, 0]).reshape(BN, D)
        scores = tl.dot(q, keys.T) * scale
        if MASKED:
            at = n + tl.arange(0, BN)
            seen = at[None, :] < N
            if CAUSAL:
                seen = seen & (at[None, :] <= m[:, None])
            scores = tl.where(seen, scores, float("-inf"))
        larger = tl.maximum(largest, tl.max(scores, 1))
        powers = tl.exp2(scores - larger[:, None])
        shrink = tl.exp2(largest - larger)
        weight = weight * shrink + tl.sum(powers, 1)
        rows = v.load([head, n, 0]).reshape(BN, D)
        total = tl.dot(powers.to(rows.dtype), rows, total * shrink[:, None])
        largest = larger
    return total, largest, weight


@triton.jit
def attention_kernel(
    q, k, v, out, M, N, scale,
    CAUSAL: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    # Blocks with many keys first: what is left at the end is short.
    block = tl.num_programs(0) - 1 - tl.program_id(0) if CAUSAL else tl.program_id(0)
    head = tl.program_id(1)
    begin = block * BM
    m = begin + tl.arange(0, BM)
    queries = q.load([head, begin, 0]).reshape(BM, D)
    total = tl.zeros((BM, D), tl.float32)
    largest = tl.full((BM,), float("-inf"), tl.float32)
    weight = tl.zeros((BM,), tl.float32)
    # Every query sees key 0, so that no running maximum stays infinite after the first block.
    whole = begin // BN * BN if CAUSAL else N // BN * BN
    whole = tl.minimum(whole, N // BN * BN)
    last = tl.minimum(begin + BM, N) if CAUSAL else N
    total, largest, weight = attend(
        total, largest, weight, queries, k, v, head, 0, whole, m, N, scale, False, CAUSAL, BN, D
    )
    total, largest, weight = attend(
        total, largest, weight, queries, k, v, head, whole, last, m, N, scale, True, CAUSAL, BN, D
    )
    out.store([head, begin, 0], (total / weight[:, None]).to(out.dtype).reshape(1, BM, D))


def launch(config: Config, q: Any, k: Any, v: Any, out: Any, *, causal: bool, scale: float) -> Any:
    """(B, H, M, D), (B, H, N, D), (B, H, N, D), all contiguous, into out. Causal: query m sees keys up to m."""
    from triton.tools.tensor_descriptor import TensorDescriptor

    b, h, m, d = q.shape
    n = k.shape[2]
    bm, bn = config["BM"], config["BN"]
    flat = [x.view(b * h, x.shape[2], d) for x in (q, k, v, out)]
    described = [
        TensorDescriptor.from_tensor(x, [1, rows, d]) for x, rows in zip(flat, (bm, bn, bn, bm), strict=True)
    ]
    attention_kernel[(triton.cdiv(m, bm), b * h)](
        *described, m, n, scale / math.log(2), CAUSAL=causal, BM=bm, BN=bn, D=d,
        **compiler_options(config),
    )  # fmt: skip
    return out


def signature(dtype: str, config: Config) -> Mapping[str, Any]:
    kind, bm, bn = NAMES[dtype], config["BM"], config["BN"]
    d = config.get("D", 64)
    query, key = f"tensordesc<{kind}[1, {bm}, {d}]>", f"tensordesc<{kind}[1, {bn}, {d}]>"
    return {
        "q": query, "k": key, "v": key, "out": query, "M": "i32", "N": "i32", "scale": "fp32",
        "CAUSAL": Value(True), **values(config, "BM", "BN"), "D": Value(d),
    }  # fmt: skip


ATTENTION = Peer(
    "attention",
    attention_kernel,
    (
        {"BM": 128, "BN": 128, "num_warps": 8, "num_stages": 2},
        {"BM": 128, "BN": 64, "num_warps": 8, "num_stages": 3},
        {"BM": 128, "BN": 64, "num_warps": 4, "num_stages": 3},
        {"BM": 64, "BN": 64, "num_warps": 4, "num_stages": 3},
    ),
    launch,
    signature,
    dtypes=("f16", "bf16"),
)
