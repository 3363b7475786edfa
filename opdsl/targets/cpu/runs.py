"""Runs of roots: what waits to be emitted together, and where a run ends."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

from opdsl.analysis.facts import CONTROL_OPS, Facts, is_inline, is_tile
from opdsl.ir.core import Op, Region, Value
from opdsl.ir.ops import OPS
from opdsl.ir.types import ScalarType
from opdsl.targets.cpu.dot_plans import Plans
from opdsl.targets.cpu.loop_ir import Root

BREAKS = frozenset({"dot", "sort", "concat", "print", "assert", *CONTROL_OPS})  # a run ends before these


@dataclass
class Run:
    """A run of roots that has not been emitted yet."""

    roots: list[Root] = field(default_factory=list)
    overwritten: list[tuple[Value, Root]] = field(default_factory=list)

    def defines(self, value: Value) -> bool:
        return any(value in root.values for root in self.roots)


def used_beyond_run(facts: Facts, plans: Plans, stored: Set[Value], value: Value) -> bool:
    """Whether anything but roots that follow in the same block, without a break, reads the value."""
    seen: set[Value] = set()
    home = facts.block_of[value]

    def beyond(v: Value) -> bool:
        if v in seen:
            return False
        seen.add(v)
        for user, region in facts.users[v]:
            if region is not home or user.name in BREAKS or user.name == "yield":
                return True
            if plans.is_fused_add(user) or (user.name == "reshape" and not is_inline(user)):
                return True
            if _breaks_between(facts, plans, v, user, region):
                return True
            if is_inline(user) and user.result not in stored and beyond(user.result):
                return True
            if user.results and isinstance(user.results[0].type, ScalarType) and not is_tile(v):
                return True
        return False

    return beyond(value)


def _breaks_between(facts: Facts, plans: Plans, value: Value, user: Op, region: Region) -> bool:
    """Whether the run of roots ends between a value's definition and a user in the same region."""
    definition = facts.op(value)
    inside = False
    for op in region.ops:
        if op is user:
            return False
        if inside and (op.name in BREAKS or _ends_run(facts, plans, op)):
            return True
        if op is definition:
            inside = True
    return True


def _ends_run(facts: Facts, plans: Plans, op: Op) -> bool:
    """Whether lowering an op emits the roots that wait."""
    if plans.is_fused_add(op) or (op.name == "reshape" and (not op.results or not is_inline(op))):
        return True
    scalar = bool(op.results) and isinstance(op.results[0].type, ScalarType)
    if scalar and op.name == "copy_in":
        return True
    # A scalar computed from a tile's reduction needs it done.
    return scalar and OPS[op.name].category == "elementwise" and any(_from_tile(facts, o) for o in op.operands)


def _from_tile(facts: Facts, value: Value) -> bool:
    op = facts.op(value)
    return op is not None and OPS[op.name].category == "reduce"
