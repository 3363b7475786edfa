"""Carried values: where the values that loops and branches hand on live, and how what a body yields gets there."""

from __future__ import annotations

from collections.abc import Sequence

from opdsl.analysis.facts import CONTROL_OPS, is_inline
from opdsl.ir.core import Region, Value
from opdsl.ir.types import TileType, shape_of
from opdsl.targets.cpu.code import REGISTER, Register
from opdsl.targets.cpu.coordinates import leaves
from opdsl.targets.cpu.dot_outputs import DotOutputs
from opdsl.targets.cpu.fusion import read_values
from opdsl.targets.cpu.loop_ir import ZERO, Buffer, Index, LoopVariable, Root
from opdsl.targets.cpu.tables import Stored
from opdsl.targets.cpu.writer import Writer

Place = Buffer | str  # of a tile, or the name of a scalar's variable


class Carried:
    """The places of carried values."""

    def __init__(self, writer: Writer, outputs: DotOutputs) -> None:
        self.writer = writer
        self.facts = writer.facts
        self.tables = writer.tables
        self.outputs = outputs

    def declare(self, values: Sequence[Value], arguments: Sequence[Value]) -> list[Place]:
        """Variables and buffers for carried values, holding `values`."""
        places: list[Place] = []
        for value, argument in zip(values, arguments, strict=True):
            if isinstance(argument.type, TileType):
                buffer = self._outgoing_buffer(value) or self.outputs.output_tile(argument, value)
                if buffer is None:
                    buffer = self.writer.new_buffer(argument.name or "carried", argument.type)
                    if not self.outputs.overwrites_first(argument, value, buffer):
                        self.writer.put(value, buffer)
                places.append(buffer)
            else:
                places.append(self.writer.code.fresh(argument.name or "carried"))
        self.writer.flush()
        for value, argument, place in zip(values, arguments, places, strict=True):
            if isinstance(place, str):
                dtype = argument.type.dtype
                self.writer.code.line(f"{REGISTER[dtype]} {place} = {self.writer.scalar(value)};")
        return places

    def _outgoing_buffer(self, value: Value) -> Buffer | None:
        """The memory of a loop's or product's result that nobody but the next loop reads: that loop may go on in it."""
        stored, op = self.tables.stored.get(value), self.facts.op(value)
        users = self.facts.users[value]
        if (
            stored is None
            or stored.held
            or op is None
            or len(users) != 1
            or users[0][1] is not self.facts.block_of[value]
        ):
            return None
        owned = op.name in CONTROL_OPS or op.name == "dot" or self.outputs.plans.is_fused_add(op)
        return stored.buffer if owned else None

    def bind(self, values: Sequence[Value], places: Sequence[Place]) -> None:
        """Says that `values` now live in `places`."""
        for value, place in zip(values, places, strict=True):
            if isinstance(place, Buffer):
                self.tables.stored[value] = Stored(place)
            else:
                self.tables.scalars[value] = Register(place, value.type.dtype, False, self.writer.code.level)

    def bind_snapshot(self, values: Sequence[Value], places: Sequence[Place]) -> None:
        """As `bind`, for the arguments of a body that will assign to the variables: scalars are read at its start."""
        for value, place in zip(values, places, strict=True):
            if isinstance(place, str):
                dtype = value.type.dtype
                self.tables.scalars[value] = self.tables.define(
                    value.name or "now", dtype, False, place, self.writer.code.level
                )
            else:
                self.tables.stored[value] = Stored(place)

    def yield_into(self, region: Region, places: Sequence[Place]) -> None:
        """The end of a body: what it yields goes to `places`; the arguments there are dead afterwards."""
        yielded = region.terminator.operands
        arguments = region.arguments[len(region.arguments) - len(yielded) :] if region.arguments else ()
        tiles = [
            (v, p, a) for v, p, a in zip(yielded, places, arguments or yielded, strict=True) if isinstance(p, Buffer)
        ]
        # In the order of their definitions, as one may be computed from another.
        position = {result: i for i, op in enumerate(region.ops) for result in op.results}
        tiles.sort(key=lambda tile: position.get(tile[0], -1))
        assigned: set[Value] = set()  # arguments whose places have new values by then
        for value, place, argument in tiles:
            known = self.tables.stored.get(value)
            if known is None or known.buffer is not place:
                inline = value not in self.tables.stored
                before = assigned - {argument}
                if value in before or (inline and (self._reads(value, before) or self._moves(value, argument))):
                    # Reads what another assignment, or its own, is about to overwrite: take it aside first.
                    aside = self.writer.new_buffer("aside", value.type)  # type: ignore[arg-type]
                    self.writer.put(value, aside)
                    self.writer.flush()
                    self.tables.stored[value] = Stored(aside)
            if arguments:
                assigned.add(argument)
        for value, place, argument in tiles:
            known = self.tables.stored.get(value)
            if known is not None and known.buffer is place:
                continue
            inline = value not in self.tables.stored and self.facts.op(value) is not None
            waiting = self.writer.run.defines(value)
            early = any(self._evaluates(root, value) for root in self.writer.run.roots)
            if waiting and arguments and (owner := self._may_own(value, argument)) is not None:
                owner.target = place
                self.writer.run.overwritten.append((argument, owner))
                continue
            if inline and not waiting and not early and self.facts.block_of.get(value) is region:
                root = self.writer.keep(value, place)
            else:
                root = self.writer.put(value, place)
            if arguments:
                self.writer.run.overwritten.append((argument, root))
        self.writer.flush()
        scalars = [(v, p) for v, p in zip(yielded, places, strict=True) if isinstance(p, str)]
        for value, variable in scalars:
            text = self.tables.scalars[value].text
            if text != variable:
                self.writer.code.line(f"{variable} = {text};")

    def _may_own(self, value: Value, argument: Value) -> Root | None:
        """The root that waits to keep a value in memory of its own, if it may keep it in the argument's place instead:
        nothing reads the argument after it."""
        roots = self.writer.run.roots
        owner = next((r for r in roots if r.kind == "tile" and r.values == (value,) and r.target is None), None)
        if owner is None or owner.source is not value:
            return None
        after = roots[roots.index(owner) + 1 :]
        return None if any(self._evaluates(root, argument) for root in after) else owner

    def _evaluates(self, root: Root, value: Value) -> bool:
        """Whether a root that waits computes an inline value for itself: it comes before the value has a place."""
        return any(self._reads(read, {value}) for read, _ in read_values(root))

    def _moves(self, value: Value, argument: Value) -> bool:
        """Whether an inline value's elements are computed from other elements of a loop's argument."""
        if argument not in self.facts.block_of or not isinstance(value.type, TileType):
            return False
        at = tuple(Index.of(LoopVariable("", n)) if n > 1 else ZERO for n in shape_of(value.type))

        def ends(v: Value) -> bool:
            op = self.facts.op(v)
            return v in self.tables.stored or (op is not None and not is_inline(op))

        found = leaves(self.facts, ends, value, at)
        return any(leaf is argument and inside != at for leaf, inside in found)

    def _reads(self, value: Value, targets: set[Value]) -> bool:
        """Whether the evaluation of an inline value reads one of `targets`, also under another shape."""
        if value in targets:
            return True
        op, stored = self.facts.op(value), self.tables.stored
        if value in stored:
            return any(t in stored and stored[t].buffer.name == stored[value].buffer.name for t in targets)
        if op is None or not is_inline(op):
            return False
        return any(self._reads(o, targets) for o in op.operands)
