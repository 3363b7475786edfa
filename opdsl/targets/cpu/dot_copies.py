"""Copies of operands of products, and which of them a grid remembers.

A copy of a part of a tensor is made where its copy_in stands. In a grid it is remembered as long as the grid's
coordinates that it depends on stay the same, and the grid is walked so that they change last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opdsl.analysis.facts import Facts, tensor_index
from opdsl.ir.core import Op, Region, Value, walk
from opdsl.ir.ops import OPS
from opdsl.targets.cpu.arena import ALIGNMENT
from opdsl.targets.cpu.code import local_element
from opdsl.targets.cpu.dot_operands import Matrix, View, address, extent, view_matrix
from opdsl.targets.cpu.dot_plans import Copy, Plans
from opdsl.targets.cpu.loop_ir import Buffer, round_up
from opdsl.targets.cpu.writer import Writer

MEMORY_CAP = 1 << 28  # bytes of remembered panels a thread may hold


@dataclass(eq=False)
class Memory:
    """Where a copy lives. One that is remembered has a slot, or one for each iteration of `loop`."""

    buffer: str
    loop: Op | None = None
    filled: str = ""  # the variable that counts the slots that are filled; "": it is not remembered
    too_many: str = "false"  # whether there is one slot after all, filled anew for each iteration of `loop`
    current: str = ""  # the address of the copy in this iteration
    special: str = "false"  # whether there are infinities or NaNs in it


class DotCopies:
    """The copies that a kernel's plans want."""

    def __init__(self, writer: Writer, plans: Plans) -> None:
        self.writer = writer
        self.facts = writer.facts
        self.plans = plans
        self.memory: dict[Copy, Memory] = {}

    # --- grids ---

    def grid_order(self, grid: Op) -> list[int]:
        """The axes from slowest to fastest: those that packed panels do not depend on go last."""
        (body,) = grid.regions
        axes = list(range(len(body.arguments)))
        for copy in self._copies_inside(body):
            found = dependences(self.facts, copy.view)
            if copy.kind != "panels" or found is None:
                continue
            free = [axis for axis in axes if body.arguments[axis] not in found]
            if free and len(free) < len(axes):
                return [axis for axis in axes if axis not in free] + free
        return axes

    def enter_grid(self, grid: Op, task: str, order: Sequence[int], counts: Sequence[str]) -> list[str]:
        """Prepares the copies of a grid whose tasks `task` counts: fixed memory, or memory for all that is remembered.

        Returns the declarations that stand before the loop over a piece of the grid.
        """
        (body,) = grid.regions
        writer, code = self.writer, self.writer.code
        outside = code.level - 1
        setup = ["  const od::tiles_scope tiles;"] if self._has_tiles(body) else []
        for copy in self._copies_inside(body):
            free = self._free_axes(copy, body, order)
            memory = self.memory[copy] = Memory(code.fresh(copy.kind))
            loops = slot_loops(self.facts, copy.view, body) if free else None
            if loops is None:
                self._place(copy)
                continue
            element = local_element(copy.format.element)[0]
            bytes_ = copy.elements * copy.format.element.bytes
            again = " * ".join(counts[axis] for axis in free)
            slots = "1"
            for loop in loops:
                memory.loop = loop
                start, stop, step = (writer.tables.scalar_text(o) for o in loop.operands[:3])
                trips = code.define("trips", "od::i64", f"od::trips({start}, {stop}, {step})", outside)
                # Too much to remember, or nobody to remember it for: one slot, filled anew each time.
                text = f"{trips} * {bytes_} > {MEMORY_CAP}ll || {again} == 1"
                memory.too_many = code.define("too_many", "bool", text, outside)
                text = f"{memory.too_many} ? 1 : od::larger({trips}, 1)"
                slots = code.define("slots", "od::i64", text, outside)
            size = code.define("bytes", "od::i64", f"{slots} * {round_up(bytes_, ALIGNMENT)}", outside)
            writer.arena.place_extra(memory.buffer, element, size)
            memory.filled = code.fresh("filled")
            key = code.fresh("key")
            setup += [f"  od::i64 {memory.filled} = 0;", f"  od::i64 {key} = -1;"]
            now = code.define("same", "od::i64", f"{task} / ({again})", code.level)
            code.line(f"if ({now} != {key}) {{ {key} = {now}; {memory.filled} = 0; }}")
        return setup

    def chunk(self, grid: Op, order: Sequence[int], counts: Sequence[str]) -> str:
        """How many neighbouring iterations belong together: those that share remembered panels."""
        (body,) = grid.regions
        for copy in self._copies_inside(body):
            if self.memory[copy].filled and copy.kind == "panels":
                free = " * ".join(counts[axis] for axis in self._free_axes(copy, body, order))
                return f"od::memo_chunk({free}, {' * '.join(counts)})"
        return "1"

    def _copies_inside(self, body: Region) -> list[Copy]:
        return [copy for op in walk(body) if op.name == "copy_in" for copy in self.plans.copies.get(op, ())]

    def _has_tiles(self, body: Region) -> bool:
        return any(op.name == "dot" and self.plans.of_dots[op].on_tiles for op in walk(body))

    def _free_axes(self, copy: Copy, body: Region, order: Sequence[int]) -> list[int]:
        """The fastest axes of a grid, as far as a copy does not depend on them."""
        found = dependences(self.facts, copy.view)
        free: list[int] = []
        if found is None:
            return free
        for axis in reversed(order):
            if body.arguments[axis] in found:
                break
            free.append(axis)
        return free

    # --- copies ---

    def make(self, op: Op) -> None:
        """Makes the copies that a copy_in is wanted for."""
        for copy in self.plans.copies.get(op, ()):
            self._make(copy)

    def matrix(self, copy: Copy) -> Matrix:
        """A copy as an operand."""
        source = view_matrix(self.writer.tables, copy.view)
        return Matrix(self.memory[copy].current, (str(copy.stride), "1"), source.ranges, source.condition)

    def _place(self, copy: Copy) -> None:
        buffer = Buffer(self.memory[copy].buffer, copy.format.element, (copy.elements,), (0,), (1,), copy.elements)
        self.writer.place(buffer)

    def _make(self, copy: Copy) -> None:
        writer, code = self.writer, self.writer.code
        if copy not in self.memory:
            self.memory[copy] = Memory(code.fresh(copy.kind))
            self._place(copy)
        memory = self.memory[copy]
        writer.flush()
        source = view_matrix(writer.tables, copy.view)
        (row0, row1), (column0, column1) = source.ranges
        memory.current, slot = self._slot(copy, memory)
        start = address(source.pointer, [(row0, source.strides[0]), (column0, source.strides[1])])
        make = copy.format.pack if copy.kind == "panels" else copy.format.copy
        rows, columns = extent(row0, row1), extent(column0, column1)
        call = make(start, source.strides, rows, columns, memory.current, copy.stride) + ";"
        if copy.format.has_special_values:
            memory.special = f"{memory.current}[{copy.elements - 16}]"
            call = f"{memory.special} = {call}"
        if source.condition is not None:
            call = f"if ({source.condition}) {call}"
        if memory.loop is not None:
            code.line(f"if ({memory.too_many} || {slot} >= {memory.filled}) {{ {call} {memory.filled} = {slot} + 1; }}")
        elif memory.filled:
            code.line(f"if ({memory.filled} == 0) {{ {call} {memory.filled} = {slot} + 1; }}")
        else:
            code.line(call)

    def _slot(self, copy: Copy, memory: Memory) -> tuple[str, str]:
        """The address of the copy in this iteration, and the number of its slot."""
        if memory.loop is None:
            return memory.buffer, "0"
        tables, code = self.writer.tables, self.writer.code
        start, _, step = (tables.scalar_text(o) for o in memory.loop.operands[:3])
        variable = tables.scalars[memory.loop.regions[0].arguments[0]].text
        slot = code.define("slot", "od::i64", f"({variable} - {start}) / {step}", code.level)
        size = copy.format.element.bytes
        offset = f"({memory.too_many} ? 0 : {slot} * {round_up(copy.elements * size, ALIGNMENT) // size})"
        type = f"{local_element(copy.format.element)[0]}*"
        return code.define(memory.buffer, type, f"{memory.buffer} + {offset}", code.level), slot


def dependences(facts: Facts, view: View) -> set[Value] | None:
    """The loop variables that a part of a tensor depends on; None where that is not known."""
    found: set[Value] = set()

    def collect(value: Value) -> bool:
        op = facts.op(value)
        if op is None:
            found.add(value)
            return True
        if op.name in ("constant", "dim"):
            return True
        return OPS[op.name].category == "elementwise" and all(collect(operand) for operand in op.operands)

    return found if all(collect(operand) for _, operand in tensor_index(view.op)) else None


def slot_loops(facts: Facts, view: View, body: Region) -> list[Op] | None:
    """The loop in a grid's body whose iterations each have a slot, if there is one: a single slot will do otherwise.
    None where a copy cannot be remembered."""
    found = dependences(facts, view)
    assert found is not None
    loops: list[Op] = []
    region = facts.block_of[view.op.result]
    while region is not body:
        parent = facts.parents[region]
        assert parent is not None
        op, around = parent
        if op.name != "for" or any(argument in found for argument in region.arguments[1:]):
            return None
        if region.arguments[0] in found:
            if loops or any(_is_inside(facts, operand, body) for operand in op.operands[:3]):
                return None
            loops.append(op)
        region = around
    return loops


def _is_inside(facts: Facts, value: Value, body: Region) -> bool:
    """Whether a value is defined in a region or deeper; constants are everywhere."""
    op = facts.op(value)
    if op is not None and op.name in ("constant", "dim"):
        return False
    region: Region | None = facts.block_of[value]
    while region is not None:
        if region is body:
            return True
        parent = facts.parents[region]
        region = parent[1] if parent is not None else None
    return False
