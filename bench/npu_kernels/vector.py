"""Vector instructions over a whole tile: each waits for the one before, as those of a formula depend on each other."""

from __future__ import annotations

from typing import Any

from opdsl import npu
from opdsl.npu.addresses import Local
from opdsl.npu.scalars import ScalarLike


class Vector:
    """`v.exp(out, x)` is the builder's `exp` on `count` elements, and a barrier behind it."""

    def __init__(self, k: npu.Builder, count: ScalarLike) -> None:
        self.k = k
        self.count = count

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.k, name)

        def call(dst: Local, *operands: Any, **how: Any) -> None:
            method(dst, *operands, count=self.count, **how)
            self.k.pipe_barrier("V")

        return call
