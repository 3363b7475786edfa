"""Sums of products that begin as zeros: the first product overwrites them, and where they are stored as they are, they
are summed up in the output itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opdsl.analysis.facts import tensor_index, tensor_of
from opdsl.analysis.ranges import constant
from opdsl.ir.core import Op, Point, Slice, Value
from opdsl.ir.types import shape_of
from opdsl.targets.cpu.dot_operands import Matrix, View, address, extent, view_matrix
from opdsl.targets.cpu.dot_plans import Copy, Plan, Plans
from opdsl.targets.cpu.loop_ir import Buffer
from opdsl.targets.cpu.tables import Tables


@dataclass(eq=False)
class OutputTile(Buffer):
    """The part of an output tensor that a product is summed up in. Only products know its stride."""

    matrix: Matrix

    def clear(self) -> str:
        """A statement that writes zeros to what exists of it."""
        tile = self.matrix
        (row0, row1), (column0, column1) = tile.ranges
        at = address(tile.pointer, [(row0, tile.strides[0]), (column0, "1")])
        rows, columns = extent(row0, row1), extent(column0, column1)
        clear = f"od::fill_rows({at}, {tile.strides[0]}, {rows}, {columns});"
        return clear if tile.condition is None else f"if ({tile.condition}) {clear}"


class DotOutputs:
    """Loops' accumulators of products."""

    def __init__(self, tables: Tables, plans: Plans) -> None:
        self.tables = tables
        self.facts = tables.facts
        self.plans = plans
        self.stored: set[Op] = set()  # copies out of what products have summed up in place
        self.fresh: dict[Value, Op] = {}  # loop arguments that hold nothing yet when their loop begins

    def output_tile(self, argument: Value, init: Value) -> OutputTile | None:
        """The place in an output for a loop's accumulator that is stored there afterwards, as it is, and read by nobody:
        sums of products then need no local memory and no copy."""
        parent = self.facts.parents[self.facts.block_of[argument]]
        if parent is None or parent[0].name != "for":
            return None
        loop, home = parent
        result = loop.results[loop.regions[0].arguments.index(argument) - 1]
        users = self.facts.users[result]
        if len(users) != 1 or users[0][0].name != "copy_out" or users[0][1] is not home:
            return None
        store = users[0][0]
        view = self._output_view(store, result)
        if view is None:
            return None
        if any(o not in self.tables.scalars for _, o in tensor_index(store)):
            return None  # where it goes is computed after the loop
        readers = self.facts.users[argument]
        plan = self.plans.of_adds.get(readers[0][0]) if len(readers) == 1 else None
        if plan is None or plan.swapped or not _same_places(plan, view):
            return None
        matrix = view_matrix(self.tables, view)
        tile = OutputTile(matrix.pointer, view.dtype, shape_of(result.type), (0, 1), (0, 1), 0, matrix)
        if not self.overwrites_first(argument, init, tile):
            return None
        self.stored.add(store)
        return tile

    def _output_view(self, store: Op, value: Value) -> View | None:
        """Where a tile of two dims is stored to, if that is rows of neighbours in a tensor that is only written."""
        tensor = tensor_of(store)
        specs = tensor_index(store)
        dims = [dim for dim, (spec, _) in enumerate(specs) if isinstance(spec, Slice) and spec.step == 1]
        plain = all(isinstance(spec, Point) or dim in dims for dim, (spec, _) in enumerate(specs))
        if store.operands[0] is not value or store.attributes["mode"] != "set" or not plain or len(dims) != 2:
            return None
        if tensor.type.dtype != value.type.dtype or not self.facts.is_written_only(tensor):
            return None
        if len(shape_of(value.type)) != 2 or self.plans.unit_axes[tensor] != dims[1]:
            return None
        return View(store, (dims[0], dims[1]), tensor.type.dtype)

    def overwrites_first(self, argument: Value, init: Value, buffer: Buffer) -> bool:
        """Whether a loop's accumulator may begin without zeros in it, since the first product overwrites it."""
        body = self.facts.block_of[argument]
        parent = self.facts.parents[body]
        users = self.facts.users[argument]
        if parent is None or parent[0].name != "for" or len(users) != 1 or buffer.strides[-1] != 1:
            return False
        loop, (add, region) = parent[0], users[0]
        plan, step = self.plans.of_adds.get(add), constant(self.facts, loop.operands[2])
        if plan is None or region is not body or step is None or step <= 0 or not self._is_zero(init):
            return False
        place = body.arguments.index(argument) - 1
        if body.terminator.operands[place] is not add.result or plan.method == "plain":
            return False
        self.fresh[argument] = loop
        return True

    def _is_zero(self, value: Value) -> bool:
        op = self.facts.op(value)
        while op is not None and op.name == "broadcast":
            op = self.facts.op(op.operands[0])
        return op is not None and op.name == "constant" and op.attributes["value"] == 0

    def never_written(self, arguments: Sequence[Value], places: Sequence[Buffer | str], never: str) -> list[str]:
        """What clears the accumulators of a loop that does not run."""
        lines = []
        for argument, place in zip(arguments, places, strict=True):
            if argument not in self.fresh or not isinstance(place, Buffer):
                continue
            if isinstance(place, OutputTile):
                clear = place.clear()
            else:
                rows, columns = shape_of(argument.type)
                clear = f"od::fill_rows({place.name}, {place.strides[0]}, {rows}, {columns});"
            lines.append(f"if ({never}) {clear}")
        return lines


def _same_places(plan: Plan, view: View) -> bool:
    """Whether the rows and columns that exist of a product's operands are those that exist of the output's part."""
    left, right = (o.view if isinstance(o, Copy) else o for o in (plan.left, plan.right))
    if left is None or right is None:
        return False
    return left.places(0) == view.places(0) and right.places(1) == view.places(1)
