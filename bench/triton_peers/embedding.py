"""Rows of a table by their numbers: a program copies a part of one row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import triton
import triton.language as tl

from .peer import POINTERS, Config, Peer, compiler_options, values


@triton.jit
def embedding_kernel(indices, table, out, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < columns
    source = tl.load(indices + row) * columns
    tl.store(out + row * columns + at, tl.load(table + source + at, mask=inside), mask=inside)


def launch(config: Config, indices: Any, table: Any, out: Any) -> Any:
    """Indices (i64) into the rows of a table, all in bounds."""
    columns = table.shape[1]
    block = min(config["BLOCK"], int(triton.next_power_of_2(columns)))
    grid = (indices.numel(), triton.cdiv(columns, block))
    embedding_kernel[grid](indices, table, out, columns, BLOCK=block, **compiler_options(config))
    return out


def signature(dtype: str, config: Config) -> Mapping[str, Any]:
    kind = POINTERS[dtype]
    return {"indices": "*i64", "table": kind, "out": kind, "columns": "i32", **values(config, "BLOCK")}


EMBEDDING = Peer(
    "embedding",
    embedding_kernel,
    ({"BLOCK": 1024, "num_warps": 4}, {"BLOCK": 512, "num_warps": 2}, {"BLOCK": 2048, "num_warps": 8}),
    launch,
    signature,
)
