"""Scalar computations that were made already are not made again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from opdsl.npu.statements import (
    Compute,
    GlobalAddress,
    If,
    Issue,
    LocalAddress,
    Loop,
    Operand,
    Register,
    Statement,
    While,
)

Known = dict[tuple[Any, ...], Register]


def without_repeats(body: list[Statement]) -> list[Statement]:
    """The same statements, without `Compute`s of what a register holds already where they stand."""
    changing = _assigned_often(body)
    return _Repeats(changing).block(body, {}, {})


def _assigned_often(body: Sequence[Statement]) -> set[int]:
    """Registers that more than one statement assigns, or a move: their value depends on where one looks."""
    counts: dict[int, int] = {}

    def visit(statements: Sequence[Statement]) -> None:
        for statement in statements:
            if isinstance(statement, Compute | Issue) and statement.result is not None:
                weight = 2 if isinstance(statement, Compute) and statement.name == "move" else 1
                counts[id(statement.result)] = counts.get(id(statement.result), 0) + weight
            elif isinstance(statement, Loop):
                visit(statement.body)
            elif isinstance(statement, If):
                visit(statement.then)
                visit(statement.otherwise)
            elif isinstance(statement, While):
                visit(statement.header)
                visit(statement.body)

    visit(body)
    return {register for register, count in counts.items() if count > 1}


class _Repeats:
    def __init__(self, changing: set[int]) -> None:
        self.changing = changing

    def block(self, body: Sequence[Statement], known: Known, same: dict[int, Register]) -> list[Statement]:
        known, same = dict(known), dict(same)
        result: list[Statement] = []

        def use(value: Any) -> Any:
            return same.get(id(value), value) if isinstance(value, Register) else value

        for statement in body:
            if isinstance(statement, Compute):
                operands: tuple[Operand, ...] = tuple(use(v) for v in statement.operands)
                key = self._key(statement, operands)
                if key is not None and key in known:
                    same[id(statement.result)] = known[key]
                    continue
                if key is not None:
                    known[key] = statement.result
                result.append(Compute(statement.name, statement.dtype, statement.result, operands, statement.location))
            elif isinstance(statement, Issue):
                values = {name: self._replaced(value, use) for name, value in statement.operands.items()}
                result.append(Issue(statement.name, statement.pipe, values, statement.location, statement.result))
            elif isinstance(statement, Loop):
                inner = self.block(statement.body, known, same)
                bounds = (use(statement.start), use(statement.stop), use(statement.step))
                result.append(Loop(statement.variable, *bounds, inner, statement.location))
            elif isinstance(statement, If):
                then, otherwise = (self.block(b, known, same) for b in (statement.then, statement.otherwise))
                result.append(If(use(statement.condition), then, otherwise, statement.location))
            else:
                # The condition is computed in the header, whose registers keep their names for it.
                header = self.block(statement.header, {}, same)
                inner = self.block(statement.body, known, same)
                result.append(While(header, use(statement.condition), inner, statement.location))
        return result

    def _key(self, statement: Compute, operands: Sequence[Operand]) -> tuple[Any, ...] | None:
        if id(statement.result) in self.changing or statement.name == "move":
            return None
        parts: list[Any] = [statement.name, statement.dtype]
        for value in operands:
            if isinstance(value, Register):
                if id(value) in self.changing:
                    return None
                parts.append(("register", id(value)))
            else:
                parts.append((type(value).__name__, repr(value)))
        return tuple(parts)

    @staticmethod
    def _replaced(value: Any, use: Any) -> Any:
        if isinstance(value, GlobalAddress):
            return replace(value, offset=use(value.offset))
        if isinstance(value, LocalAddress):
            return replace(value, address=use(value.address))
        return use(value)
