"""c = a @ b: programs that stay on their multiprocessor and take tile after tile, in an order that keeps what they share
in the second-level cache; operands by tensor descriptors (bulk copies where the GPU has them)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import triton
import triton.language as tl

from .peer import Config, Peer, Value, compiler_options, values

NAMES = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}


@triton.jit
def matmul_kernel(
    a, b, c, M, N, K,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, PROGRAMS: tl.constexpr,
):  # fmt: skip
    across = tl.cdiv(N, BN)
    down = tl.cdiv(M, BM)
    for tile in tl.range(tl.program_id(0), across * down, PROGRAMS, flatten=True):
        # Tiles are numbered down GROUP rows of tiles, then the next column: neighbours in time share columns of b, and
        # their rows of a stay in the cache.
        band = tile // (GROUP * across)
        first = band * GROUP
        rows = tl.minimum(down - first, GROUP)
        within = tile - first * across
        m = (first + within % rows) * BM
        n = (within // rows) * BN
        total = tl.zeros((BM, BN), tl.float32)
        for k in range(0, K, BK):
            total = tl.dot(a.load([m, k]), b.load([k, n]), total, input_precision="ieee")
        c.store([m, n], total.to(c.dtype))


def launch(config: Config, a: Any, b: Any, out: Any, *, programs: int | None = None) -> Any:
    """(M, K) by (K, N), row-major, into out."""
    from triton.tools.tensor_descriptor import TensorDescriptor

    (m, k), n = a.shape, b.shape[1]
    bm, bn, bk = config["BM"], config["BN"], config["BK"]
    if programs is None:
        import torch

        programs = torch.cuda.get_device_properties(a.device).multi_processor_count
    tiles = triton.cdiv(m, bm) * triton.cdiv(n, bn)
    operands = [TensorDescriptor.from_tensor(x, shape) for x, shape in ((a, [bm, bk]), (b, [bk, bn]), (out, [bm, bn]))]
    matmul_kernel[(min(programs, tiles),)](
        *operands, m, n, k, BM=bm, BN=bn, BK=bk, GROUP=config["GROUP"], PROGRAMS=min(programs, tiles),
        **compiler_options(config),
    )  # fmt: skip
    return out


def signature(dtype: str, config: Config) -> Mapping[str, Any]:
    kind, bm, bn, bk = NAMES[dtype], config["BM"], config["BN"], config["BK"]
    return {
        "a": f"tensordesc<{kind}[{bm}, {bk}]>", "b": f"tensordesc<{kind}[{bk}, {bn}]>",
        "c": f"tensordesc<{kind}[{bm}, {bn}]>", "M": "i32", "N": "i32", "K": "i32",
        **values(config, "BM", "BN", "BK", "GROUP"), "PROGRAMS": Value(132),
    }  # fmt: skip


MATMUL = Peer(
    "matmul",
    matmul_kernel,
    (
        {"BM": 128, "BN": 256, "BK": 64, "GROUP": 8, "num_warps": 8, "num_stages": 3},
        {"BM": 128, "BN": 128, "BK": 64, "GROUP": 8, "num_warps": 4, "num_stages": 4},
        {"BM": 64, "BN": 128, "BK": 64, "GROUP": 8, "num_warps": 4, "num_stages": 4},
        {"BM": 16, "BN": 64, "BK": 128, "GROUP": 1, "num_warps": 4, "num_stages": 4},
    ),
    launch,
    signature,
    dtypes=("f16", "bf16"),
)
