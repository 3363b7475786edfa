"""What kernels on vector cores have in common: instructions over a whole tile, and how a generated kernel begins."""

from __future__ import annotations

from typing import Any

from opdsl import npu
from opdsl.npu.addresses import Local
from opdsl.npu.scalars import ScalarLike


class Vector:
    """Each instruction waits for the one before, as those of a formula depend on each other: `v.exp(out, x)` is the
    builder's `exp` on `count` elements, and a barrier behind it."""

    def __init__(self, k: npu.Builder, count: ScalarLike) -> None:
        self.k = k
        self.count = count

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.k, name)

        def call(dst: Local, *operands: Any, **how: Any) -> None:
            method(dst, *operands, count=self.count, **how)
            self.k.pipe_barrier("V")

        return call


TILING = 64
"""Bytes of tile shapes that a generated kernel is given."""


def read_tiling(k: npu.Builder) -> None:
    """Kernels that CANN generates (TBE) for all shapes find their tile shapes in global memory, and wait for them: they
    copy them to UB and load them into registers (canndev, impl/trans_data_common_func.py, get_tiling_params)."""
    shapes = k.workspace("tiling", "i32", TILING)
    place = k.allocate("UB", TILING, "i32", "tiling")
    k.data_copy_pad(place, shapes, block_len=TILING)
    k.set_flag("MTE2_S", 0)
    k.wait_flag("MTE2_S", 0)
