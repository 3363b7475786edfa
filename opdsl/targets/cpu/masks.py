"""Masks that hold for a whole nest.

Masks mostly compare places: `columns < N`, `columns <= rows + shift`. Both sides are sums of loop variables and run-time
scalars, so whether such a comparison holds everywhere in a nest is one comparison of scalars. Where masks do hold (all
blocks but those at the edge or on the diagonal), a version of the nest without them runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from opdsl.analysis.facts import is_inline
from opdsl.analysis.ranges import constant
from opdsl.ir.core import Value
from opdsl.ir.types import ScalarType, i64
from opdsl.targets.cpu.coordinates import operand_coordinates
from opdsl.targets.cpu.fusion import read_values
from opdsl.targets.cpu.loop_ir import Coordinates, LoopVariable, Nest
from opdsl.targets.cpu.tables import Tables

COMPARISONS = ("lt", "le", "gt", "ge")
MOST = 4  # comparisons in one nest: beyond, the test costs more than it saves


@dataclass
class Place:
    """A sum of loop variables, scalars and a number."""

    variables: dict[LoopVariable, int] = field(default_factory=dict)
    scalars: dict[str, int] = field(default_factory=dict)
    number: int = 0

    def plus(self, other: Place, sign: int) -> Place:
        result = Place(dict(self.variables), dict(self.scalars), self.number + sign * other.number)
        for variable, factor in other.variables.items():
            result.variables[variable] = result.variables.get(variable, 0) + sign * factor
        for text, factor in other.scalars.items():
            result.scalars[text] = result.scalars.get(text, 0) + sign * factor
        return result


def holding_conditions(tables: Tables, nest: Nest) -> dict[Value, str]:
    """The comparisons in a nest that may hold throughout, each with the C++ condition on which it does."""
    found: dict[Value, str] = {}
    seen: set[tuple[Value, Coordinates]] = set()

    def visit(value: Value, at: Coordinates) -> None:
        op = tables.facts.op(value)
        if op is None or isinstance(value.type, ScalarType) or (value, at) in seen:
            return
        seen.add((value, at))
        if value in tables.stored or not is_inline(op) or op.name in ("copy_in", "arange"):
            return
        if op.name in COMPARISONS and op.operands[0].type.dtype == i64:
            condition = _condition(tables, op.name, op.operands, operand_coordinates(op, at))
            if condition is not None:
                # The same mask at other coordinates must hold as well.
                found[value] = f"{found[value]} && {condition}" if value in found else condition
            return
        for operand, inside in zip(op.operands, operand_coordinates(op, at), strict=True):
            visit(operand, inside)

    for root in nest.roots:
        for value, at in read_values(root):
            own = value in root.values
            place = tables.stored.pop(value, None) if own else None
            visit(value, at)
            if place is not None:
                tables.stored[value] = place
    return found if len(found) <= MOST else {}


def _condition(tables: Tables, name: str, operands: tuple[Value, ...], coordinates: list[Coordinates]) -> str | None:
    sides = [_place(tables, o, c) for o, c in zip(operands, coordinates, strict=True)]
    left, right = sides
    if left is None or right is None:
        return None
    # right - left, smallest over the nest, must be > 0 (or >= 0); the other way round for > and >=.
    difference = right.plus(left, -1) if name in ("lt", "le") else left.plus(right, -1)
    if not any(difference.variables.values()):
        return None
    smallest = difference.number
    for variable, factor in difference.variables.items():
        smallest += min(0, factor * (variable.extent - 1))
    parts = [f"{factor} * {text}" if factor != 1 else text for text, factor in difference.scalars.items() if factor]
    total = " + ".join([*parts, str(smallest)])
    return f"{total} {'>' if name in ('lt', 'gt') else '>='} 0"


def _place(tables: Tables, value: Value, at: Coordinates) -> Place | None:
    """A tile of i64 as a sum, or None."""
    if isinstance(value.type, ScalarType):
        number = constant(tables.facts, value)
        if number is not None:
            return Place(number=number)
        register = tables.scalars.get(value)
        return Place(scalars={register.text: 1}) if register is not None else None
    op = tables.facts.op(value)
    if op is None or value in tables.stored:
        return None
    if op.name == "arange":
        place = Place(number=at[0].constant)
        for variable, factor in at[0].terms:
            place.variables[variable] = place.variables.get(variable, 0) + factor
        return place
    if op.name in ("add", "sub", "broadcast", "reshape", "transpose", "extract") and is_inline(op):
        inside = operand_coordinates(op, at)
        sides = [_place(tables, o, c) for o, c in zip(op.operands, inside, strict=True)]
        known = [s for s in sides if s is not None]
        if len(known) < len(sides):
            return None
        return known[0] if len(known) == 1 else known[0].plus(known[1], 1 if op.name == "add" else -1)
    return None
