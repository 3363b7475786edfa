"""Helpers to build a changed copy of a kernel. Ops and regions that do not change are shared with the original."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import replace

from opdsl.ir.core import Kernel, Op, Region, Value, walk
from opdsl.ir.ops import OPS

Substitution = Mapping[Value, Value]


def with_body(kernel: Kernel, body: Region) -> Kernel:
    return kernel if body is kernel.body else replace(kernel, body=body)


def with_parts(op: Op, operands: Sequence[Value], regions: Sequence[Region]) -> Op:
    """The op with other operands and regions; its results stay the same values."""
    operands, regions = tuple(operands), tuple(regions)
    same_operands = all(a is b for a, b in zip(operands, op.operands, strict=True))
    if same_operands and all(a is b for a, b in zip(regions, op.regions, strict=True)):
        return op
    return Op(op.name, operands, op.results, op.attributes, regions, op.location)


def clone_region(region: Region, substitution: MutableMapping[Value, Value]) -> Region:
    """A copy with fresh values throughout, so that both may stand in one kernel. Values from outside are looked up in
    `substitution`, which is extended by old -> new of every value that the region defines."""
    for argument in region.arguments:
        substitution[argument] = Value(argument.type, argument.name)
    ops = tuple(clone_op(op, substitution) for op in region.ops)
    return Region(tuple(substitution[a] for a in region.arguments), ops)


def clone_op(op: Op, substitution: MutableMapping[Value, Value]) -> Op:
    """A copy with fresh results; see `clone_region`."""
    operands = tuple(substitution.get(o, o) for o in op.operands)
    regions = tuple(clone_region(r, substitution) for r in op.regions)
    results = tuple(Value(r.type, r.name) for r in op.results)
    substitution.update(zip(op.results, results, strict=True))
    return Op(op.name, operands, results, op.attributes, regions, op.location)


def substitute(region: Region, substitution: Substitution) -> Region:
    """The region with uses of values replaced; what it defines stays."""
    if not substitution:
        return region
    ops = tuple(
        with_parts(op, [substitution.get(o, o) for o in op.operands], [substitute(r, substitution) for r in op.regions])
        for op in region.ops
    )
    same = all(a is b for a, b in zip(ops, region.ops, strict=True))
    return region if same else Region(region.arguments, ops)


def definitions(region: Region) -> dict[Value, Op]:
    """The op that defines each value, in the region and inside; block arguments have none."""
    return {result: op for op in walk(region) for result in op.results}


def uses(region: Region) -> dict[Value, int]:
    """How often each value is an operand, in the region and inside."""
    counts: dict[Value, int] = {}
    for op in walk(region):
        for operand in op.operands:
            counts[operand] = counts.get(operand, 0) + 1
    return counts


def has_effect(op: Op) -> bool:
    """Whether running the op can be observed: it, or an op in its regions, writes, prints or may fail."""
    if op.regions and OPS[op.name].category == "control":
        return any(has_effect(inner) for region in op.regions for inner in region.ops)
    return not OPS[op.name].pure and not OPS[op.name].terminator


def writes_memory(op: Op) -> bool:
    return op.name == "copy_out" or any(inner.name == "copy_out" for region in op.regions for inner in walk(region))
