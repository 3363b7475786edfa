"""Reads from tensors, and what is asked for ahead."""

from __future__ import annotations

from opdsl.analysis.facts import tensor_index, tensor_of
from opdsl.analysis.ranges import constant, loop_bounds
from opdsl.ir.core import Op, Point, Slice, Value
from opdsl.targets.cpu.accesses import Access
from opdsl.targets.cpu.code import Register, loaded
from opdsl.targets.cpu.coordinates import access_coordinates
from opdsl.targets.cpu.loop_ir import Coordinates, Index, LoopVariable
from opdsl.targets.cpu.tables import Tables


class Loads:
    """The reads of a kernel."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.first_readings: dict[tuple[Op, int], LoopVariable | None] = {}
        self.second_readings: dict[tuple[Op, int], LoopVariable | None] = {}

    def load_scalar(self, op: Op, access: Access) -> Register:
        """An element that a scalar is, where it stands: stores may come before."""
        tables, dtype = self.tables, op.result.type.dtype
        return tables.define(op.result.name or "element", dtype, False, self._element(op, access), tables.code.level)

    def load(self, op: Op, value: Value, at: Coordinates, access: Access) -> Register:
        """An element or vector of a tile."""
        tables, dtype, loops = self.tables, access.tensor.dtype, self.tables.loops
        # Not further out than the nest, if the nests before may write there.
        level = max(access.level, loops.nest_level) if tables.facts.may_change(tensor_of(op)) else access.level
        pad = tables.scalars[op.operands[-1]].text
        lanes, hint = loops.lanes, value.name or "t"
        if access.vector_offset is not None:
            mask, offsets = access.lane_mask(tables), access.lane_offsets(tables)
            text = f"od::gather<{lanes}>({access.pointer}, {offsets}, {mask}, {pad})"
            return tables.define(hint, dtype, True, text, level)
        if access.stride == "0":
            return tables.define(hint, dtype, False, self._element(op, access), level)
        unit = access.stride == "1"
        if unit:
            self._fetch_next_row(op, at, access, level)
            if loops.limit is None and op not in loops.read_again and tables.facts.has_known_place(op):
                tables.code.line(f"od::prefetch_ahead({access.pointer});", level)
        function, address = ("load", access.pointer) if unit else ("load_strided", f"{access.pointer}, {access.stride}")
        if loops.limit is None:
            text = f"od::{function}<{lanes}>({address})"
            if access.condition is not None:
                text = f"{access.condition} ? {text} : {tables.as_vector(Register(pad, dtype, False, 0)).text}"
        else:
            low, high = access.lane_range(tables)
            text = f"od::{function}_range<{lanes}>({address}, {low}, {high}, {pad})"
        return tables.define(hint, dtype, True, text, level)

    def _element(self, op: Op, access: Access) -> str:
        text = loaded(access.tensor.dtype, access.pointer)
        if access.condition is None:
            return text
        return f"{access.condition} ? {text} : {self.tables.scalars[op.operands[-1]].text}"

    def _fetch_next_row(self, op: Op, at: Coordinates, access: Access, level: int) -> None:
        """Rows that are read several times are computed on from cache while memory is idle: the second reading of a row
        asks for the next one."""
        loops = self.tables.loops
        lane = loops.lane
        rows = [
            (loops.level[variable], dim)
            for dim, (place, _) in enumerate(access_coordinates(op, at))
            for variable in (place.variables if place is not None else ())
            if variable is not lane and loops.level[variable] < level and place == Index.of(variable)
        ]
        # A row alone in its tile: the next one is that of the next task.
        tasks = [
            (-1, dim)
            for dim, (spec, start) in enumerate(tensor_index(op))
            if (isinstance(spec, Point) or (isinstance(spec, Slice) and spec.length == 1))
            and (bounds := loop_bounds(self.tables.facts, start)) is not None
            and constant(self.tables.facts, bounds[2]) == 1
        ]
        if not (rows or tasks) or loops.limit is not None:
            return
        place = rows[-1][0] if rows else -1
        first = self.first_readings.setdefault((op, place), lane)
        if first is lane or self.second_readings.setdefault((op, place), lane) is not lane:
            return
        _, dim = max(rows or tasks)
        spec, _ = tensor_index(op)[dim]
        step = spec.step if isinstance(spec, Slice) else 1
        self.tables.code.line(f"od::prefetch_far({access.pointer} + {step} * {access.tensor.strides[dim]});", level)
