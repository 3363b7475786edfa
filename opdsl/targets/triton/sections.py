"""Which parts of a kernel become launches.

Every `parallel` at the top of a kernel is a launch of its own; what else has effects there runs in a launch of one
program. Values from before are computed again in each launch that needs them. Where that could give something else,
because memory has changed in between, the whole kernel runs in one program, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from opdsl.ir.core import Kernel, Op, Value, walk


@dataclass(frozen=True)
class Section:
    """`setup` are pure ops, in order; then either `grid`, or `serial` ops."""

    setup: tuple[Op, ...]
    serial: tuple[Op, ...]
    grid: Op | None


def has_effect(op: Op) -> bool:
    """Whether an op does more than compute its results."""
    if op.name in ("copy_out", "print", "assert"):
        return True
    return any(has_effect(inner) for region in op.regions for inner in region.ops)


def _written(op: Op) -> set[Value]:
    found = {op.operands[1]} if op.name == "copy_out" else set()
    for region in op.regions:
        found |= {inner.operands[1] for inner in walk(region) if inner.name == "copy_out"}
    return found


def _read(op: Op) -> set[Value]:
    found = {op.operands[0]} if op.name == "copy_in" else set()
    for region in op.regions:
        found |= {inner.operands[0] for inner in walk(region) if inner.name == "copy_in"}
    return found


def _operands(op: Op) -> set[Value]:
    found = set(op.operands)
    for region in op.regions:
        for inner in walk(region):
            found |= set(inner.operands)
    return found


def split(kernel: Kernel, shared: Callable[[Value, Value], bool]) -> list[Section]:
    """The launches of a kernel, in order."""
    ops = [op for op in kernel.body.ops if op.name not in ("yield", "breakpoint")]
    maker = {result: number for number, op in enumerate(ops) for result in op.results}
    groups: list[list[int]] = []
    for number, op in enumerate(ops):
        if not has_effect(op):
            continue
        if op.name != "parallel" and groups and ops[groups[-1][0]].name != "parallel":
            groups[-1].append(number)
        else:
            groups.append([number])
    sections = []
    for group in groups:
        needed = _needed(ops, maker, group)
        if needed is None or _changes(ops, group, needed, shared):
            return [Section((), tuple(op for op in ops if op.name != "parallel" or has_effect(op)), None)]
        first = ops[group[0]]
        if first.name == "parallel":
            sections.append(Section(tuple(ops[n] for n in sorted(needed)), (), first))
        else:
            serial = tuple(ops[n] for n in sorted({*needed, *group}))
            sections.append(Section((), serial, None))
    return sections


def _needed(ops: list[Op], maker: dict[Value, int], group: list[int]) -> set[int] | None:
    """The pure ops that a group needs; None where it needs what an op with an effect gives."""
    waiting = [value for number in group for value in _operands(ops[number])]
    needed: set[int] = set()
    while waiting:
        number = maker.get(waiting.pop(), -1)
        if number < 0 or number in needed or number in group:
            continue
        if has_effect(ops[number]):
            return None
        needed.add(number)
        waiting += _operands(ops[number])
    return needed


def _changes(ops: list[Op], group: list[int], needed: set[int], shared: Callable[[Value, Value], bool]) -> bool:
    """Whether something that is computed before a group reads what is written between there and the group's end."""
    is_grid = ops[group[0]].name == "parallel"
    for number in needed:
        read = _read(ops[number])
        for later in range(number + 1, group[-1] + 1):
            if later in group and not is_grid:
                continue  # the same program does both, in order
            if any(shared(a, b) for a in read for b in _written(ops[later])):
                return True
    return False
