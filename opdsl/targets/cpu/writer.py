"""The kernel that is being written: its C++ so far, its memory, and the run of roots that waits."""

from __future__ import annotations

import math

from opdsl.analysis.facts import gather_facts
from opdsl.ir.core import Op, Value
from opdsl.ir.types import TileType, shape_of
from opdsl.targets.base import Request
from opdsl.targets.cpu.arena import Arena
from opdsl.targets.cpu.code import Code, local_element
from opdsl.targets.cpu.expressions import Expressions
from opdsl.targets.cpu.isa import Isa
from opdsl.targets.cpu.loop_ir import Buffer, Root, make_buffer, row_major_strides
from opdsl.targets.cpu.nests import Nests
from opdsl.targets.cpu.runs import Run
from opdsl.targets.cpu.storage import choose_stored
from opdsl.targets.cpu.tables import Tables


class Writer:
    """What all parts of the lowering share."""

    def __init__(self, request: Request, isa: Isa) -> None:
        self.request = request
        self.isa = isa
        self.kernel = request.kernel
        self.unit_axes = dict(zip(self.kernel.parameters, request.unit_axes, strict=True))
        self.facts = gather_facts(self.kernel, request.may_alias)
        self.stored_values = choose_stored(self.facts)
        self.code = Code()
        self.tables = Tables(self.facts, self.code)
        self.expressions = Expressions(self.tables)
        self.report: list[str] = []
        self.nests = Nests(self.expressions, isa, self.place, self.report)
        self.arena = Arena("workspace")
        self.run = Run()

    # --- memory ---

    def place(self, buffer: Buffer) -> None:
        self.arena.place(buffer)

    def new_buffer(self, hint: str, type: TileType, order: tuple[int, ...] | None = None) -> Buffer:
        """Local memory for a whole tile."""
        buffer = make_buffer(self.code.fresh(hint), type.dtype, local_element(type.dtype)[1], type.shape, order)
        self.place(buffer)
        return buffer

    def dense_buffer(self, hint: str, type: TileType) -> Buffer:
        """Local memory for a whole tile, row-major without padding between rows."""
        # Room for a whole vector's store at the end of the last row.
        name, order = self.code.fresh(hint), tuple(range(len(type.shape)))
        buffer = Buffer(name, type.dtype, type.shape, order, row_major_strides(type.shape), math.prod(type.shape) + 64)
        self.place(buffer)
        return buffer

    def stored_row_major(self, value: Value) -> Buffer:
        """The value in local memory, row-major without padding between rows. Emits the roots that wait."""
        type = value.type
        assert isinstance(type, TileType)
        known = self.tables.stored.get(value)
        if known is not None and _is_dense(known.buffer, type.shape):
            return known.buffer
        buffer = self.dense_buffer(value.name or "dense", type)
        self.put(value, buffer)
        self.flush()
        return buffer

    # --- roots ---

    def put(self, value: Value, target: Buffer, op: Op | None = None) -> Root:
        """A root that evaluates a value into memory that is there already; by `op`, where it is not the value's own."""
        op = op or self.definition(value)
        root = Root("tile", op, (), shape_of(value.type), source=value, target=target)
        self.run.roots.append(root)
        return root

    def keep(self, value: Value, target: Buffer | None = None, external: bool = False) -> Root:
        """A root that evaluates a value for all who read it, into memory unless they are in the same loops."""
        op, shape = self.definition(value), shape_of(value.type)
        root = Root("tile", op, (value,), shape, source=value, target=target, external=external)
        self.run.roots.append(root)
        return root

    def flush(self) -> None:
        """Emits the roots that wait."""
        run, self.run = self.run, Run()
        self.nests.emit(run.roots, run.overwritten)

    def definition(self, value: Value) -> Op:
        """The op that a value comes from; for block arguments, one that stands for them all."""
        return self.facts.op(value) or self.kernel.body.terminator

    def scalar(self, value: Value) -> str:
        return self.tables.scalars[value].text


def _is_dense(buffer: Buffer, shape: tuple[int, ...]) -> bool:
    if buffer.shape != shape:
        return False
    dense = row_major_strides(shape)
    return all(n == 1 or stride == step for n, stride, step in zip(shape, buffer.strides, dense, strict=True))
