"""Elementwise ops on registers: one C++ expression each, with shortcuts where more is known."""

from __future__ import annotations

from dataclasses import replace

from opdsl.analysis.ranges import never_positive
from opdsl.ir.core import Op
from opdsl.ir.types import DType, bool_, i64
from opdsl.targets.cpu import arithmetic
from opdsl.targets.cpu.code import REGISTER, Register
from opdsl.targets.cpu.tables import Tables


def apply(tables: Tables, op: Op, operands: list[Register], hint: str = "") -> Register:
    """An elementwise op on registers."""
    name, dtype = op.name, op.result.type.dtype
    affine = _affine(tables, op, operands)
    if affine is not None:
        return affine
    if tables.loops.holding:
        known = _with_what_holds(tables, name, operands)
        if known is not None:
            return known
    vector = any(o.vector or o.lane_step for o in operands)
    level = max((o.level for o in operands), default=0)
    if vector:
        operands = [tables.as_vector(o) for o in operands]
    texts = [o.text for o in operands]
    hint = hint or name
    if name == "cast":
        source = operands[0].dtype
        if REGISTER[source] == REGISTER[dtype] and arithmetic.cast(texts[0], source, dtype, vector) == texts[0]:
            return Register(texts[0], dtype, vector, level)
        return tables.define(hint, dtype, vector, arithmetic.cast(texts[0], source, dtype, vector), level)
    if name == "random_bits":
        return _random(tables, op, operands, level, vector)
    if name == "div" and vector and operands[1].level < level:
        return _divide(tables, dtype, operands, level, hint)
    if name == "exp" and vector and never_positive(tables.facts, op.operands[0]):
        name = "exp_nonpositive"
    kind = operands[-1].dtype
    return tables.define(hint, dtype, vector, arithmetic.elementwise(name, texts, kind, vector), level)


def _with_what_holds(tables: Tables, name: str, operands: list[Register]) -> Register | None:
    """The result where an operand is known to be true. It stays inside the nest where that is so."""
    truths = [o.text == "true" for o in operands]
    chosen = None
    if name == "and" and any(truths):
        chosen = operands[1 if truths[0] else 0]
    elif name == "or" and any(truths):
        chosen = operands[0 if truths[0] else 1]
    elif name == "select" and truths[0]:
        chosen = operands[1]
    return None if chosen is None else replace(chosen, level=tables.code.level)


def _divide(tables: Tables, dtype: DType, operands: list[Register], level: int, hint: str) -> Register:
    """Division by what does not change in the loop: a multiplication and a correction; see invariant_divide."""
    key = ("reciprocal", operands[1].text)
    reciprocal = tables.code.recall(key)
    if reciprocal is None:
        text = f"od::invariant_inverse({operands[1].text})"
        reciprocal = tables.code.remember(key, tables.define("inverse", dtype, True, text, operands[1].level))
    text = f"od::invariant_divide({operands[0].text}, {operands[1].text}, {reciprocal.text})"
    return tables.define(hint, dtype, True, arithmetic.wrapped(text, dtype), level)


def _random(tables: Tables, op: Op, operands: list[Register], level: int, vector: bool) -> Register:
    seed = operands[0].text if not vector else tables.scalars[op.operands[0]].text
    lanes = tables.loops.lanes if vector else 0
    text = f"od::random_word<{lanes}>({seed}, {operands[1].text}, {op.attributes['word']})"
    return tables.define("random", op.result.type.dtype, vector, text, level)


def _affine(tables: Tables, op: Op, operands: list[Register]) -> Register | None:
    """i64 sums and comparisons of base + step * lane without making vectors of them; None where that fails."""
    if not any(o.lane_step for o in operands) or any(o.vector or o.dtype != i64 for o in operands):
        return None
    level = max(o.level for o in operands)
    if op.name in ("add", "sub"):
        sign = 1 if op.name == "add" else -1
        a, b = operands
        text = tables.code.define(op.name, "od::i64", f"{a.text} {'+' if sign > 0 else '-'} {b.text}", level)
        return Register(text, i64, False, level, a.lane_step + sign * b.lane_step)
    if op.name in ("lt", "le", "gt", "ge"):
        a, b = operands
        step = a.lane_step - b.lane_step
        if step not in (1, -1):
            return None
        # base + step * lane < 0, or its negation, or the same with <= (one more to compare with).
        negated = op.name in ("gt", "ge")
        bound = f"{b.text} - {a.text}" if step == 1 else f"{a.text} - {b.text}"
        # step 1: lane < b - a, or lane < b - a + 1; step -1: a - b < lane, that is not lane < a - b + 1.
        inclusive = op.name in ("le", "gt")
        if step == 1:
            text = f"od::first_lanes<{tables.loops.lanes}>({bound}{' + 1' if inclusive else ''})"
        else:
            text = f"od::first_lanes<{tables.loops.lanes}>({bound}{'' if inclusive else ' + 1'})"
            negated = not negated
        return tables.define(op.name, bool_, True, f"~{text}" if negated else text, level)
    return None
