"""Evaluates a tile value at given coordinates: C++ text for one vector (or scalar) of it.

Every intermediate result goes to the outermost scope that knows what it needs, so loop-invariant work leaves the loop,
and is remembered there, so nothing is computed twice.
"""

from __future__ import annotations

from opdsl.ir.core import Op, Value
from opdsl.ir.ops import OPS
from opdsl.ir.types import ScalarType, bool_, i64
from opdsl.targets.cpu.accesses import Access, access
from opdsl.targets.cpu.code import Register
from opdsl.targets.cpu.coordinates import operand_coordinates
from opdsl.targets.cpu.elementwise import apply
from opdsl.targets.cpu.loads import Loads
from opdsl.targets.cpu.local_memory import load_local
from opdsl.targets.cpu.loop_ir import Coordinates, Index
from opdsl.targets.cpu.stores import store_tensor
from opdsl.targets.cpu.tables import Tables


class Expressions:
    """Evaluation of values, and the accesses that it needs."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.loads = Loads(tables)

    def evaluate(self, value: Value, at: Coordinates) -> Register:
        """The value's element (or vector of elements along the lane loop) at `at`."""
        tables = self.tables
        if isinstance(value.type, ScalarType):
            return tables.scalars[value]
        if value in tables.loops.holding:
            return Register("true", bool_, False, tables.code.level)
        key = (value, at)
        known = tables.code.recall(key)
        if known is not None:
            return known
        if value in tables.stored:
            result = load_local(tables, value, at)
        else:
            op = tables.facts.op(value)
            assert op is not None, f"{value} has no place"
            result = self._compute(op, value, at)
        return tables.code.remember(key, result)

    def _compute(self, op: Op, value: Value, at: Coordinates) -> Register:
        if op.name == "copy_in":
            return self.loads.load(op, value, at, self.access(op, at))
        if op.name == "arange":
            return self._arange(at[0])
        inside = operand_coordinates(op, at)
        operands = [self.evaluate(o, c) for o, c in zip(op.operands, inside, strict=True)]
        if OPS[op.name].category == "shape":
            return operands[0]
        return apply(self.tables, op, operands, value.name)

    def _arange(self, index: Index) -> Register:
        level = self.tables.level((index,))
        step = index.coefficient(self.tables.loops.lane)
        text = self.tables.index_text(index)
        if index.terms and (len(index.terms) > 1 or index.constant or index.terms[0][1] != 1):
            text = self.tables.code.define("at", "od::i64", text, level)
        return Register(text if index.terms else f"od::i64({text})", i64, False, level, step)

    def access(self, op: Op, at: Coordinates) -> Access:
        return access(self.tables, self.evaluate, op, at)

    def load_scalar(self, op: Op) -> Register:
        return self.loads.load_scalar(op, self.access(op, ()))

    def store(self, op: Op, at: Coordinates, register: Register, ordered: bool) -> None:
        """One element or vector of a copy_out."""
        store_tensor(self.tables, self.access(op, at), op, at, register, ordered)
