"""Puts the region of a composition in the place of its op, where a target does not have the function by name."""

from __future__ import annotations

from dataclasses import replace

from opdsl.ir.core import Kernel, Op, Region, Value, walk
from opdsl.passes.rewrite import clone_region, with_body, with_parts


def inline(kernel: Kernel, kept: frozenset[str] = frozenset()) -> Kernel:
    """The kernel without the compositions that are not `kept`. Their ops get the place of the call in the source."""
    if all(op.name != "compose" or op.attributes["function"] in kept for op in walk(kernel.body)):
        return kernel
    return with_body(kernel, _Inliner(kept).region(kernel.body))


class _Inliner:
    def __init__(self, kept: frozenset[str]) -> None:
        self._kept = kept
        self._replaced: dict[Value, Value] = {}

    def region(self, region: Region) -> Region:
        ops: list[Op] = []
        for op in region.ops:
            operands = [self._replaced.get(operand, operand) for operand in op.operands]
            if op.name != "compose" or op.attributes["function"] in self._kept:
                ops.append(with_parts(op, operands, [self.region(r) for r in op.regions]))
                continue
            body = clone_region(op.regions[0], dict[Value, Value]())
            self._replaced.update(zip(body.arguments, operands, strict=True))
            body = self.region(body)  # compositions of compositions, too
            ops += [replace(inner, location=op.location) for inner in body.ops[:-1]]
            self._replaced[op.result] = body.terminator.operands[0]
        return Region(region.arguments, tuple(ops))
