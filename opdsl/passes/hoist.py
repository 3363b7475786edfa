"""Moves pure ops that compute the same in every iteration out of loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from opdsl.ir.core import Kernel, Op, Region, Value
from opdsl.ir.ops import OPS
from opdsl.ir.types import TileType
from opdsl.passes.rewrite import with_body, with_parts

_LOOPS = ("for", "parallel", "while")


@dataclass(frozen=True)
class HoistPolicy:
    """What is worth keeping alive across a loop: scalars always, tiles of up to `tile_bytes`. Tiles that cost nothing
    to compute again (constants, index tiles, shape changes) stay where they are used."""

    tile_bytes: int = 4096


def hoist(kernel: Kernel, policy: HoistPolicy | None = None) -> Kernel:
    return with_body(kernel, _Hoister(policy or HoistPolicy()).region(kernel.body))


def _worth(policy: HoistPolicy) -> Callable[[Op], bool]:
    def worth(op: Op) -> bool:
        tiles = [r.type for r in op.results if isinstance(r.type, TileType)]
        if not tiles:
            return True
        if OPS[op.name].category == "shape" or op.name == "arange":
            return False
        elements = sum(_elements(t) * t.dtype.bytes for t in tiles)
        return elements <= policy.tile_bytes

    return worth


def _elements(type: TileType) -> int:
    count = 1
    for size in type.shape:
        count *= size
    return count


class _Hoister:
    def __init__(self, policy: HoistPolicy) -> None:
        self._worth = _worth(policy)

    def region(self, region: Region) -> Region:
        ops: list[Op] = []
        for op in region.ops:
            if op.regions:
                op = with_parts(op, op.operands, [self.region(r) for r in op.regions])
            if op.name in _LOOPS:
                moved, op = self._split(op)
                ops += moved
            ops.append(op)
        same = len(ops) == len(region.ops) and all(a is b for a, b in zip(ops, region.ops, strict=True))
        return region if same else Region(region.arguments, tuple(ops))

    def _split(self, op: Op) -> tuple[list[Op], Op]:
        """The ops to put before a loop, and what remains of it."""
        moved: list[Op] = []
        regions = []
        for region in op.regions:
            varying: set[Value] = set(region.arguments)
            kept = []
            for inner in region.ops:
                if self._invariant(inner, varying):
                    moved.append(inner)
                else:
                    varying.update(inner.results)
                    kept.append(inner)
            regions.append(Region(region.arguments, tuple(kept)) if len(kept) < len(region.ops) else region)
        return moved, with_parts(op, op.operands, regions)

    def _invariant(self, op: Op, varying: set[Value]) -> bool:
        if op.regions or not OPS[op.name].pure or OPS[op.name].category == "memory":
            return False
        return not any(o in varying for o in op.operands) and self._worth(op)
