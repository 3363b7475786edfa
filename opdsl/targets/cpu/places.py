"""Comments in generated code that say which lines of the kernel it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from opdsl.analysis.facts import Facts, is_inline
from opdsl.ir.core import Value
from opdsl.support.location import Location
from opdsl.targets.cpu.fusion import read_values
from opdsl.targets.cpu.loop_ir import Root


def location_comment(locations: Iterable[Location]) -> str:
    """`// add.py:8,10-12`; several files one after another."""
    lines: dict[str, set[int]] = {}
    for location in locations:
        if location.line:
            lines.setdefault(location.file, set()).add(location.line)
    parts = (f"{Path(file).name}:{_ranges(sorted(numbers))}" for file, numbers in lines.items())
    return "// " + " ".join(parts)


def _ranges(numbers: list[int]) -> str:
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)


def roots_comment(facts: Facts, stored: Callable[[Value], bool], roots: Iterable[Root]) -> str:
    """The lines of the roots and of all that is evaluated inside their loops."""
    locations: list[Location] = []
    seen: set[Value] = set()

    def visit(value: Value) -> None:
        op = facts.op(value)
        if op is None or value in seen:
            return
        seen.add(value)
        locations.append(op.location)
        if is_inline(op):
            for operand in op.operands:
                if operand in facts.definition and is_inline(facts.definition[operand]) and not stored(operand):
                    visit(operand)

    for root in roots:
        if root.kind != "tile":
            locations.append(root.op.location)
        for value, _ in read_values(root):
            if value in root.values or not stored(value):
                visit(value)
    return location_comment(locations)
