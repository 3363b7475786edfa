"""Products: which kernel of csrc/simd/dot.h computes each od.dot, from which copies of its operands.

The choice is static, by tile shapes and strides that are known to be one:

    few rows (<= 16), B's rows contiguous        dot_rows    B straight from memory (bf16 with AMX: tiles_few_rows)
    few rows, both contiguous along k            dot_inner   (bf16 with AMX: tiles_few_inner)
    B in local memory, rows contiguous           dot_direct
    B contiguous along k, A unchanged in the     the transposed product: B's rows are broadcast, A is packed once
      loop and the result not accumulated        before the loop, and the result is kept transposed
    otherwise                                    dot_packed  B copied into panels

A copy of a part of a tensor is made where its copy_in stands. In a grid it is remembered as long as the grid's
coordinates that it depends on stay the same, and the grid is walked so that they change last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from opdsl.ir.core import Op, Point, Region, Slice, Value, walk
from opdsl.ir.ops import OPS
from opdsl.ir.types import DType, TensorType, TileType, bf16, f16, f32, f64, i8, i32, shape_of, u8
from opdsl.targets.cpu.code import REGISTER, STORAGE, local_element
from opdsl.targets.cpu.dot_formats import FEW_ROWS, Format, choose_format, round_up
from opdsl.targets.cpu.dot_operands import View, widened_view
from opdsl.targets.cpu.expressions import Stored
from opdsl.targets.cpu.facts import is_inline, tensor_index, tensor_of
from opdsl.targets.cpu.loop_ir import Buffer, Root
from opdsl.targets.cpu.places import location_comment
from opdsl.targets.cpu.ranges import constant

if TYPE_CHECKING:
    from opdsl.targets.cpu.lowering import Lowering

FEWEST_ON_TILES = 5  # with fewer rows of A, multiply-adds in registers keep up with memory
WHOLE_ROWS = 256  # a tile of B that is whole rows of its tensor, no longer than this, is read in place
MEMORY_CAP = 1 << 28  # bytes of remembered panels a thread may hold


@dataclass(frozen=True)
class Matrix:
    """An operand in memory: address of element (0, 0), strides, which rows and columns exist, and whether any do."""

    pointer: str
    strides: tuple[str, str]
    element: str
    ranges: tuple[tuple[str, str], tuple[str, str]]
    condition: str | None = None


@dataclass(eq=False)
class Copy:
    """A copy of a part of a tensor for a product: `panels` (a right operand) or `rows` (a left one)."""

    kind: str
    view: View
    dims: tuple[int, int]  # the tensor's dims that are the copy's rows and columns
    extents: tuple[int, int]
    format: Format
    buffer: str = ""
    stride: int = 0  # between panels, or rows
    loop: Op | None = None  # remembered for each iteration of this loop
    remembered: bool = False
    slot_elements: int = 0
    filled: str = ""
    slots: str = "1"
    too_many: str = "false"
    current: str = ""  # the address of the copy in this iteration
    special: str = "false"  # whether there are infinities or NaNs in it


@dataclass(eq=False)
class OutputTile(Buffer):
    """The part of an output tensor that a product is summed up in. Only products know its stride."""

    matrix: Matrix


@dataclass(eq=False)
class Plan:
    """How one dot is computed."""

    dot: Op
    method: str  # "rows", "inner", "direct", "packed", "plain"
    swapped: bool = False
    left: Copy | View | None = None  # None: a tile in local memory
    right: Copy | View | None = None
    format: Format | None = None


@dataclass
class Grid:
    """The parallel loop that is being lowered."""

    op: Op
    setup: list[str] = field(default_factory=list)


class Dots:
    def __init__(self, lowering: Lowering) -> None:
        self.lowering = lowering
        self.facts = lowering.facts
        self.plans: dict[Op, Plan] = {}
        self.fused: dict[Op, Op] = {}  # add -> its dot
        self.copies: dict[Op, list[Copy]] = {}  # copy_in -> what is copied there
        self.grid: Grid | None = None
        self.stored_by_products: set[Op] = set()  # copies out of what products have summed up in place
        self.fresh_accumulators: dict[Value, Op] = {}  # loop arguments that hold nothing yet when their loop begins
        units = zip(lowering.kernel.parameters, lowering.request.unit_axes, strict=True)
        self.unit_axis = dict(units)
        for op in walk(lowering.kernel.body):
            if op.name == "dot":
                self._find_add(op)
                self.plans[op] = self._plan(op)

    # --- planning ---

    def _find_add(self, dot: Op) -> None:
        users = self.facts.users[dot.result]
        if len(users) == 1 and users[0][0].name == "add" and users[0][1] is self.facts.block_of[dot.result]:
            add = users[0][0]
            if add.operands[0] is not add.operands[1] and add not in self.fused:
                self.fused[add] = dot

    def is_fused_add(self, op: Op) -> bool:
        return op in self.fused

    def _plan(self, dot: Op) -> Plan:
        a, b = dot.operands
        dtype = dot.result.type.dtype
        if len(shape_of(dot.result.type)) != 2:
            return Plan(dot, "plain")
        m, n = shape_of(dot.result.type)
        left, right = self._in_place(a, dtype), self._in_place(b, dtype)
        k = shape_of(a.type)[1]
        same_k = left is not None and right is not None and self._slice_key(left, 1) == self._slice_key(right, 0)
        a_source = left.dtype if same_k and left is not None else None
        b_source = right.dtype if same_k and right is not None else None
        format = choose_format(self.lowering.isa, a_source, b_source, dtype, m)
        if format is None:
            return Plan(dot, "plain")
        if format.name == "tiles" and not self._in_grid(dot):
            format = choose_format(replace(self.lowering.isa, has_tiles=False), a_source, b_source, dtype, m)
            if format is None:
                return Plan(dot, "plain")
        if format.name != "float":
            assert left is not None and right is not None
            # What stays the same in a loop is copied once; otherwise tiles_dot copies a few rows at a time itself.
            once = format.name != "tiles" or self._invariant(left, dot)
            rows = self._copy("rows", left, (m, k), format) if once else left
            return Plan(dot, "packed", left=rows, right=self._copy("panels", right, (k, n), format), format=format)
        if right is None:
            return Plan(dot, "direct", left=self._left(left, (m, k), format), format=format)
        unit = self.unit_axis[tensor_of(right.op)]
        n_unit, k_unit = (
            unit == right.dims[1] and self._step(right, 1) == 1,
            unit == right.dims[0] and self._step(right, 0) == 1,
        )
        few_on_tiles = self.lowering.isa.has_tiles and FEWEST_ON_TILES <= m <= FEW_ROWS and self._in_grid(dot)
        if few_on_tiles and a_source == b_source == bf16 and (n_unit or k_unit):
            method, tiles = "rows" if n_unit else "inner", Format("tiles", bf16, dtype, self.lowering.isa)
            return Plan(dot, method, left=left, right=right, format=tiles)
        if m <= FEW_ROWS and n_unit:
            return Plan(dot, "rows", left=self._left(left, (m, k), format), right=right, format=format)
        if m <= FEW_ROWS and k_unit:
            return Plan(dot, "inner", left=self._left_unit_k(left, (m, k), format), right=right, format=format)
        fused = any(d is dot for d in self.fused.values())
        if k_unit and not fused and left is not None and self._invariant(left, dot):
            transposed = View(right.op, (right.dims[1], right.dims[0]), right.dtype)
            flipped = View(left.op, (left.dims[1], left.dims[0]), left.dtype)
            packed = self._copy("panels", flipped, (k, m), format)
            rows_ = self._left(transposed, (n, k), format)
            return Plan(dot, "packed", swapped=True, left=rows_, right=packed, format=format)
        if n_unit and right.dtype == dtype and self._covers_rows(right) and n <= WHOLE_ROWS:
            return Plan(dot, "direct", left=self._left(left, (m, k), format), right=right, format=format)
        panels = self._copy("panels", right, (k, n), format)
        return Plan(dot, "packed", left=self._left(left, (m, k), format), right=panels, format=format)

    def _slice_key(self, view: View, side: int) -> tuple[object, ...]:
        """What decides which places of one side of a view exist."""
        spec, start = tensor_index(view.op)[view.dims[side]]
        type = tensor_of(view.op).type
        assert isinstance(spec, Slice) and isinstance(type, TensorType)
        return (start, spec.length, spec.step, type.dims[view.dims[side]])

    def _in_grid(self, dot: Op) -> bool:
        return any(op.name == "parallel" for op, _ in self.facts.chain(self.facts.block_of[dot.result]))

    def _in_place(self, value: Value, dtype: DType) -> View | None:
        """The part of a tensor that a product may read the operand from."""
        view = widened_view(self.facts, value)
        if view is None or view.op.result in self.lowering.stored_values:
            return None
        good = (
            view.dtype == dtype or (dtype == f32 and view.dtype in (f16, bf16)) or (dtype == i32 and view.dtype in (i8, u8))
        )
        return view if good else None

    def _step(self, view: View, side: int) -> int:
        spec, _ = tensor_index(view.op)[view.dims[side]]
        assert isinstance(spec, Slice)
        return spec.step

    def _covers_rows(self, view: View) -> bool:
        type = tensor_of(view.op).type
        assert isinstance(type, TensorType)
        spec, _ = tensor_index(view.op)[view.dims[1]]
        return isinstance(spec, Slice) and type.dims[view.dims[1]] == spec.length

    def _left(self, view: View | None, extents: tuple[int, int], format: Format) -> Copy | View | None:
        """The left operand: in place where the elements are of the right type."""
        if view is None or view.dtype == format.result:
            return view
        return self._copy("rows", view, extents, format)

    def _left_unit_k(self, view: View | None, extents: tuple[int, int], format: Format) -> Copy | View | None:
        if view is None:
            return None
        unit = self.unit_axis[tensor_of(view.op)] == view.dims[1] and self._step(view, 1) == 1
        return view if unit and view.dtype == format.result else self._copy("rows", view, extents, format)

    def _copy(self, kind: str, view: View, extents: tuple[int, int], format: Format) -> Copy:
        copy = Copy(kind, view, view.dims, extents, format)
        rows, columns = extents
        if kind == "panels":
            copy.stride = format.panel_stride(rows)
            copy.slot_elements = format.panel_elements(rows, columns)
        else:
            copy.stride = format.row_stride(columns)
            copy.slot_elements = format.row_elements(rows, columns)
        if format.has_special_values:
            copy.slot_elements += 16  # the last ones say whether there are infinities or NaNs
        self.copies.setdefault(view.op, []).append(copy)
        return copy

    def _invariant(self, view: View, dot: Op) -> bool:
        """Whether a part of a tensor is copied in outside of the innermost loop around a dot."""
        home = self.facts.block_of[view.op.result]
        return self.facts.block_of[dot.result] is not home and any(
            op.name == "for" for op, _ in self.facts.chain(self.facts.block_of[dot.result])
        )

    # --- the grid ---

    def _dependences(self, view: View) -> set[Value] | None:
        """The loop variables that a part of a tensor depends on; None where that is not known."""
        found: set[Value] = set()
        for _, operand in tensor_index(view.op):
            if not self._collect(operand, found):
                return None
        return found

    def _collect(self, value: Value, found: set[Value]) -> bool:
        op = self.facts.op(value)
        if op is None:
            found.add(value)
            return True
        if op.name in ("constant", "dim"):
            return True
        if OPS[op.name].category != "elementwise":
            return False
        return all(self._collect(o, found) for o in op.operands)

    def _copies_inside(self, body: Region) -> list[Copy]:
        return [copy for op in walk(body) if op.name == "copy_in" for copy in self.copies.get(op, ())]

    def grid_order(self, op: Op) -> list[int]:
        """The axes from slowest to fastest: those that packed panels do not depend on go last."""
        (body,) = op.regions
        axes = list(range(len(body.arguments)))
        for copy in self._copies_inside(body):
            found = self._dependences(copy.view)
            if copy.kind != "panels" or found is None:
                continue
            free = [axis for axis in axes if body.arguments[axis] not in found]
            if free and len(free) < len(axes):
                return [axis for axis in axes if axis not in free] + free
        return axes

    def enter_grid(
        self, op: Op, order: Sequence[int], counts: Sequence[str], ranges: Sequence[Sequence[Value]]
    ) -> None:
        """Prepares the copies of a grid: fixed memory, or memory for all that is remembered."""
        self.grid = grid = Grid(op)
        (body,) = op.regions
        lowering, code = self.lowering, self.lowering.code
        self._outer_level = code.level - 1
        for copy in self._copies_inside(body):
            free = self._free_axes(copy, op, order)
            element = local_element(copy.format.element)[0]
            bytes_ = copy.slot_elements * copy.format.element.bytes
            copy.buffer = code.fresh(copy.kind)
            loop = self._memo_loop(copy, body) if free else None
            if not free or loop == "no":
                self._place(copy)
                continue
            copy.remembered = True
            if isinstance(loop, Op):
                copy.loop = loop
                start, stop, step = (self._scalar_text(o) for o in loop.operands[:3])
                trips = code.define("trips", "od::i64", f"od::trips({start}, {stop}, {step})", self._outer_level)
                # Too much to remember, or nobody to remember it for: one slot, filled anew each time.
                again = " * ".join(counts[axis] for axis in free)
                copy.too_many = code.define(
                    "too_many", "bool", f"{trips} * {bytes_} > {MEMORY_CAP}ll || {again} == 1", self._outer_level
                )
                text = f"{copy.too_many} ? 1 : od::larger({trips}, 1)"
                copy.slots = code.define("slots", "od::i64", text, self._outer_level)
            size = code.define("bytes", "od::i64", f"{copy.slots} * {-(-bytes_ // 64) * 64}", self._outer_level)
            lowering.arena.place_extra(copy.buffer, element, size)
            copy.filled = code.fresh("filled")
            grid.setup.append(f"  od::i64 {copy.filled} = 0;")
            key = code.fresh("key")
            grid.setup.append(f"  od::i64 {key} = -1;")
            stride = " * ".join(counts[axis] for axis in free)
            now = code.define("same", "od::i64", f"{lowering.task} / ({stride})", code.level)
            code.line(f"if ({now} != {key}) {{ {key} = {now}; {copy.filled} = 0; }}")

    def _scalar_text(self, value: Value) -> str:
        """A scalar's C++ text; constants may not have been reached yet."""
        known = constant(self.lowering.facts, value)
        return f"od::i64({known})" if known is not None else self.lowering.expressions.scalars[value].text

    def _free_axes(self, copy: Copy, op: Op, order: Sequence[int]) -> list[int]:
        """The fastest axes of a grid, as far as a copy does not depend on them."""
        found = self._dependences(copy.view)
        (body,) = op.regions
        free: list[int] = []
        if found is None:
            return free
        for axis in reversed(order):
            if body.arguments[axis] in found:
                break
            free.append(axis)
        return free

    def _memo_loop(self, copy: Copy, body: Region) -> Op | str | None:
        """The loop whose iterations each have a slot; None: one slot will do; "no": it cannot be remembered."""
        found = self._dependences(copy.view)
        assert found is not None
        loop: Op | None = None
        known = set(body.arguments)
        region = self.facts.block_of[copy.view.op.result]
        while region is not body:
            parent = self.facts.parents[region]
            assert parent is not None
            op, around = parent
            if op.name != "for":
                return "no"
            known |= set(region.arguments)
            if any(a in found for a in region.arguments[1:]):
                return "no"
            if region.arguments[0] in found:
                if loop is not None or any(self._is_inside(o, body) for o in op.operands[:3]):
                    return "no"
                loop = op
            region = around
        return loop

    def _is_inside(self, value: Value, body: Region) -> bool:
        """Whether a value is defined in a region or deeper; constants are everywhere."""
        op = self.facts.op(value)
        if op is not None and op.name in ("constant", "dim"):
            return False
        region: Region | None = self.facts.block_of[value]
        while region is not None:
            if region is body:
                return True
            parent = self.facts.parents[region]
            region = parent[1] if parent is not None else None
        return False

    def leave_grid(self) -> list[str]:
        """Declarations that stand before the loop over a piece of the grid."""
        assert self.grid is not None
        setup = self.grid.setup
        if any(self._on_tiles(op) for op in walk(self.grid.op.regions[0])):
            setup = ["  const od::tiles_scope tiles;", *setup]
        self.grid = None
        return setup

    def _on_tiles(self, op: Op) -> bool:
        format = self.plans[op].format if op in self.plans else None
        return format is not None and format.name == "tiles"

    def chunk(self, op: Op, order: Sequence[int], counts: Sequence[str]) -> str:
        """How many neighbouring iterations belong together: those that share remembered panels."""
        (body,) = op.regions
        for copy in self._copies_inside(body):
            if copy.remembered and copy.kind == "panels":
                free = " * ".join(counts[axis] for axis in self._free_axes(copy, op, order))
                return f"od::memo_chunk({free}, {' * '.join(counts)})"
        return "1"

    # --- accumulators that begin as zeros ---

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
        if any(o not in self.lowering.expressions.scalars for _, o in tensor_index(store)):
            return None  # where it goes is computed after the loop
        add = self.facts.users[argument][0][0] if len(self.facts.users[argument]) == 1 else None
        plan = self.plans[self.fused[add]] if add in self.fused else None
        if plan is None or plan.swapped or not self._same_places(plan, view):
            return None
        matrix = self._view_matrix(view, view.dims)
        tile = OutputTile(matrix.pointer, view.dtype, shape_of(result.type), (0, 1), (0, 1), 0, matrix)
        if not self.overwrites_first(argument, init, tile):
            return None
        self.stored_by_products.add(store)
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
        if len(shape_of(value.type)) != 2 or self.unit_axis[tensor] != dims[1]:
            return None
        return View(store, (dims[0], dims[1]), tensor.type.dtype)

    def _same_places(self, plan: Plan, view: View) -> bool:
        """Whether the rows and columns that exist of a product's operands are those that exist of the output's part."""
        left, right = (o.view if isinstance(o, Copy) else o for o in (plan.left, plan.right))
        if left is None or right is None:
            return False
        rows, columns = self._slice_key(left, 0), self._slice_key(right, 1)
        return rows == self._slice_key(view, 0) and columns == self._slice_key(view, 1)

    def overwrites_first(self, argument: Value, init: Value, buffer: Buffer) -> bool:
        """Whether a loop's accumulator may begin without zeros in it, since the first product overwrites it."""
        body = self.facts.block_of[argument]
        parent = self.facts.parents[body]
        users = self.facts.users[argument]
        if parent is None or parent[0].name != "for" or len(users) != 1 or buffer.strides[-1] != 1:
            return False
        loop, (add, region) = parent[0], users[0]
        step = constant(self.lowering.facts, loop.operands[2])
        if add not in self.fused or region is not body or step is None or step <= 0 or not self._is_zero(init):
            return False
        place = body.arguments.index(argument) - 1
        if body.terminator.operands[place] is not add.result or self.plans[self.fused[add]].method == "plain":
            return False
        self.fresh_accumulators[argument] = loop
        return True

    def _is_zero(self, value: Value) -> bool:
        op = self.facts.op(value)
        while op is not None and op.name == "broadcast":
            value = op.operands[0]
            op = self.facts.op(value)
        return op is not None and op.name == "constant" and op.attributes["value"] == 0

    def never_written(self, arguments: Sequence[Value], places: Sequence[Buffer | str], never: str) -> list[str]:
        """What clears the accumulators of a loop that does not run."""
        lines = []
        for argument, place in zip(arguments, places, strict=True):
            if argument in self.fresh_accumulators and isinstance(place, Buffer):
                if isinstance(place, OutputTile):
                    lines.append(f"if ({never}) {self._clear_output(place.matrix)}")
                    continue
                rows, columns = shape_of(argument.type)
                lines.append(f"if ({never}) od::fill_rows({place.name}, {place.strides[0]}, {rows}, {columns});")
        return lines

    def _clear_output(self, tile: Matrix) -> str:
        (row0, row1), (column0, column1) = tile.ranges
        at = self._offset(tile.pointer, [(row0, tile.strides[0]), (column0, "1")])
        rows, columns = self._extent(row0, row1), self._extent(column0, column1)
        clear = f"od::fill_rows({at}, {tile.strides[0]}, {rows}, {columns});"
        return clear if tile.condition is None else f"if ({tile.condition}) {clear}"

    # --- copies ---

    def defined(self, op: Op) -> None:
        """Makes the copies that a copy_in is wanted for."""
        for copy in self.copies.get(op, ()):
            self._emit_copy(copy)

    def _place(self, copy: Copy) -> None:
        size = copy.slot_elements
        self.lowering.arena.place(Buffer(copy.buffer, copy.format.element, (size,), (0,), (1,), size))

    def _emit_copy(self, copy: Copy) -> None:
        lowering, code = self.lowering, self.lowering.code
        if not copy.buffer:
            copy.buffer = code.fresh(copy.kind)
            self._place(copy)
        lowering.flush()
        source = self._view_matrix(copy.view, copy.dims)
        (row0, row1), (column0, column1) = source.ranges
        pointer = copy.buffer
        guard = ""
        if copy.remembered:
            slot = "0"
            if copy.loop is not None:
                start, _, step = (self._scalar_text(o) for o in copy.loop.operands[:3])
                variable = lowering.expressions.scalars[copy.loop.regions[0].arguments[0]].text
                slot = code.define("slot", "od::i64", f"({variable} - {start}) / {step}", code.level)
                size = copy.format.element.bytes
                type = f"{local_element(copy.format.element)[0]}*"
                offset = f"({copy.too_many} ? 0 : {slot} * {round_up(copy.slot_elements * size, 64) // size})"
                pointer = code.define(copy.buffer, type, f"{copy.buffer} + {offset}", code.level)
                guard = f"if ({copy.too_many} || {slot} >= {copy.filled})"
            else:
                guard = f"if ({copy.filled} == 0)"
            done = f"{copy.filled} = {slot} + 1;"
        else:
            done = ""
        copy.current = pointer
        address = self._offset(source.pointer, [(row0, source.strides[0]), (column0, source.strides[1])])
        make = copy.format.pack if copy.kind == "panels" else copy.format.copy
        rows, columns = self._extent(row0, row1), self._extent(column0, column1)
        call = make(address, source.strides, rows, columns, pointer, copy.stride) + ";"
        if copy.format.has_special_values:
            copy.special = f"{pointer}[{copy.slot_elements - 16}]"
            call = f"{copy.special} = {call}"
        if source.condition is not None:
            call = f"if ({source.condition}) {call}"
        if guard:
            code.line(f"{guard} {{ {call} {done} }}")
        else:
            code.line(call)

    @staticmethod
    def _offset(pointer: str, terms: Sequence[tuple[str, str]]) -> str:
        parts = [pointer] + [f"{start} * {stride}" for start, stride in terms if start != "0"]
        return " + ".join(parts)

    @staticmethod
    def _extent(low: str, high: str) -> str:
        return high if low == "0" else f"od::larger({high} - {low}, 0)"

    # --- operands in memory ---

    def _view_matrix(self, view: View, dims: tuple[int, int]) -> Matrix:
        expressions, code = self.lowering.expressions, self.lowering.code
        op = view.op
        tensor = expressions.tensors[tensor_of(op)]
        parts, conditions = [tensor.pointer], []
        level = 0
        for dim, (spec, operand) in enumerate(tensor_index(op)):
            register = expressions.scalars[operand]
            if constant(expressions.facts, operand) != 0:
                parts.append(f"{register.text} * {tensor.strides[dim]}")
                level = max(level, register.level)
            if isinstance(spec, Point):
                conditions.append(f"od::inside({register.text}, {tensor.sizes[dim]})")
        pointer = code.define("p", f"{STORAGE[tensor.dtype]}*", " + ".join(parts), code.level)
        ranges, strides = [], []
        for dim in dims:
            spec, _ = tensor_index(op)[dim]
            assert isinstance(spec, Slice)
            clip = expressions.clip(op, dim)
            ranges.append(("0", str(spec.length)) if clip is None else (clip.low, clip.high))
            stride = tensor.strides[dim]
            strides.append(stride if spec.step == 1 else f"({spec.step} * {stride})")
        condition = code.define("ok", "bool", " && ".join(conditions), code.level) if conditions else None
        return Matrix(pointer, (strides[0], strides[1]), tensor.dtype.name, (ranges[0], ranges[1]), condition)

    def _local_matrix(self, value: Value, transposed: bool) -> Matrix:
        """A tile in local memory as an operand."""
        stored = self.lowering.expressions.stored[value]
        buffer = stored.buffer
        rows, columns = shape_of(value.type)
        strides = (str(buffer.strides[0]), str(buffer.strides[1]))
        ranges = (("0", str(rows)), ("0", str(columns)))
        if transposed:
            strides, ranges = (strides[1], strides[0]), (ranges[1], ranges[0])
        return Matrix(buffer.name, strides, buffer.dtype.name, ranges)

    # --- products ---

    def lower(self, op: Op) -> None:
        """A dot, or the add that a dot is part of."""
        lowering = self.lowering
        if op.name == "dot":
            if any(d is op for d in self.fused.values()):
                return  # comes with its add
            dot, init = op, None
        else:
            dot = self.fused[op]
            init = op.operands[1] if op.operands[0] is dot.result else op.operands[0]
        plan = self.plans[dot]
        result = op.result
        assert isinstance(result.type, TileType)
        if plan.method == "plain":
            self._plain(dot, init, result)
            return
        left = self._operand(plan.left, dot.operands[1 if plan.swapped else 0], plan.swapped, left=True)
        right = self._operand(plan.right, dot.operands[0 if plan.swapped else 1], plan.swapped, left=False)
        target = self._target(op, init, result, plan.swapped)
        lowering.flush()
        overwrite = "true" if init is None else "false"
        if init in self.fresh_accumulators:
            loop = self.fresh_accumulators[init]
            variable = lowering.expressions.scalars[loop.regions[0].arguments[0]].text
            overwrite = f"{variable} == {self._scalar_text(loop.operands[0])}"
        self._call(plan, left, right, target, overwrite, result)
        lowering.expressions.stored[result] = Stored(target)

    def _operand(self, source: Copy | View | None, value: Value, swapped: bool, left: bool) -> Matrix:
        lowering = self.lowering
        if isinstance(source, View):
            return self._view_matrix(source, source.dims)
        if isinstance(source, Copy):
            matrix = self._view_ranges(source)
            return Matrix(
                source.current, (str(source.stride), "1"), source.format.element.name, matrix.ranges, matrix.condition
            )
        stored = lowering.expressions.stored.get(value)
        waiting = any(value in root.values for root in lowering.run.roots)
        lowering.flush()
        stored = lowering.expressions.stored.get(value)
        good = stored is not None and not stored.held
        if good and not left:
            assert stored is not None
            good = stored.buffer.strides[1] == 1 or stored.buffer.shape[1] == 1
        if not good:
            assert not waiting or stored is not None
            self._store_row_major(value)
        return self._local_matrix(value, False)

    def _store_row_major(self, value: Value) -> None:
        lowering = self.lowering
        type = value.type
        assert isinstance(type, TileType)
        buffer = lowering.new_buffer(value.name or "operand", type)
        lowering.run.roots.append(Root("tile", lowering._any_op(value), (), type.shape, source=value, target=buffer))
        lowering.flush()
        lowering.expressions.stored[value] = Stored(buffer)

    def _view_ranges(self, copy: Copy) -> Matrix:
        return self._view_matrix(copy.view, copy.dims)

    def _target(self, op: Op, init: Value | None, result: Value, swapped: bool) -> Buffer:
        """Where the result goes; with an initial value, after putting that there."""
        lowering = self.lowering
        type = result.type
        assert isinstance(type, TileType)
        if init is None:
            return lowering.new_buffer(result.name or "product", type, (1, 0) if swapped else None)
        carried = lowering.carried_targets.get(result)
        if carried is not None:
            argument, buffer = carried
            if buffer.strides[1] == 1 and not self._read_later(argument, op):
                if init is not argument:
                    root = Root("tile", op, (), type.shape, source=init, target=buffer)
                    lowering.run.roots.append(root)
                    lowering.run.overwritten.append((argument, root))
                return buffer
        buffer = lowering.new_buffer(result.name or "product", type)
        lowering.run.roots.append(Root("tile", op, (), type.shape, source=init, target=buffer))
        return buffer

    def _read_later(self, argument: Value, op: Op) -> bool:
        """Whether a loop's argument is read after `op` in the loop's body."""
        body = self.facts.block_of[argument]
        position = {o: i for i, o in enumerate(body.ops)}
        if op not in position:
            return True

        def last(value: Value) -> int:
            latest = -1
            for user, region in self.facts.users[value]:
                while region is not body:
                    parent = self.facts.parents[region]
                    assert parent is not None
                    user, region = parent
                at = position[user]
                passes_on = is_inline(user) or user.name == "reshape"
                if user is not op and passes_on and user.result not in self.lowering.stored_values:
                    at = max(at, last(user.result)) if self.facts.users[user.result] else at
                latest = max(latest, at)
            return latest

        return last(argument) > position[op]

    def _call(self, plan: Plan, left: Matrix, right: Matrix, target: Buffer, overwrite: str, result: Value) -> None:
        """The product into `target`, added to what is there unless the C++ condition `overwrite` holds."""
        code = self.lowering.code
        type = REGISTER[result.type.dtype]
        rows, columns = shape_of(result.type)
        output = target.matrix if isinstance(target, OutputTile) else None
        c_stride = str(target.strides[0]) if output is None else output.strides[0]
        if plan.swapped:
            rows, columns = columns, rows
            c_stride = str(target.strides[1])
        (m0, m1), (k0, k1) = left.ranges
        (r0, r1), (n0, n1) = right.ranges
        clipped = [r for r in (left.ranges[0], right.ranges[1]) if r not in (("0", str(rows)), ("0", str(columns)))]
        conditions = [c for c in (left.condition, right.condition) if c is not None]
        code.line(f"{{  {location_comment([plan.dot.location])}: dot")
        flag = {"true": "false", "false": "true"}.get(overwrite, f"!({overwrite})")
        if overwrite != "false" and (clipped or conditions) and output is None:
            # What lies outside is zero: needed only where something does.
            whole = [
                f"{high} - {low} == {size}"
                for (low, high), size in ((left.ranges[0], rows), (right.ranges[1], columns))
            ]
            partial = " && ".join([*whole, *conditions])
            flag = code.fresh("add")
            clear = f"!({partial})" if overwrite == "true" else f"({overwrite}) && !({partial})"
            code.line(f"  bool {flag} = {'false' if overwrite == 'true' else f'!({overwrite})'};")
            code.line(f"  if ({clear}) {{")
            code.line(f"    od::fill_rows({target.name}, {c_stride}, {rows}, {columns});")
            code.line(f"    {flag} = true;")
            code.line("  }")
        if (k0, k1) == (r0, r1):
            low, high = k0, k1
        else:
            low, high = f"od::larger({k0}, {r0})", f"od::smaller({k1}, {r1})"
            low = "0" if k0 == r0 == "0" else code.fresh("k")
            if low != "0":
                code.line(f"  const od::i64 {low} = od::larger({k0}, {r0});")
            name = code.fresh("k")
            code.line(f"  const od::i64 {name} = {high};")
            high = name
        a = self._offset(left.pointer, [(m0, left.strides[0]), (low, left.strides[1])])
        c = self._offset(target.name, [(m0, c_stride), (n0, "1")])
        m, n, k = self._extent(m0, m1), self._extent(n0, n1), self._extent(low, high)
        format = plan.format
        assert format is not None
        if isinstance(plan.left, Copy):
            a = self._copy_offset(plan.left, left, m0, low)
        if plan.method == "packed":
            copy = plan.right
            assert isinstance(copy, Copy)
            shift = "" if low == r0 else f" + ({low} - {r0}) * {format.panel_columns}"
            special = copy.special
            if isinstance(plan.left, Copy) and format.has_special_values:
                special = f"{plan.left.special} || {copy.special}"
            copied, b = isinstance(plan.left, Copy), right.pointer + shift
            call = format.dot(a, left.strides, copied, b, copy.stride, c, c_stride, (m, n, k), flag, special) + ";"
        else:
            tail = f"{c}, {c_stride}, {m}, {n}, {k}, {flag});"
            b = self._offset(right.pointer, [(low, right.strides[0]), (n0, right.strides[1])])
            if format.name == "tiles":
                b_stride = right.strides[0 if plan.method == "rows" else 1]
                call = f"od::tiles_few_{plan.method}({a}, {left.strides[0]}, {left.strides[1]}, {b}, {b_stride}, {tail}"
            elif plan.method == "inner":
                call = f"od::dot_inner<{type}>({a}, {left.strides[0]}, {b}, {right.strides[1]}, {tail}"
            else:
                method = "dot_rows" if plan.method == "rows" else "dot_direct"
                call = (
                    f"od::{method}<{type}>({a}, {left.strides[0]}, {left.strides[1]}, {b}, {right.strides[0]}, {tail}"
                )
        if output is not None and conditions and overwrite != "false":
            begins = "" if overwrite == "true" else f"({overwrite}) && "
            code.line(f"  if ({begins}!({' && '.join(conditions)})) {self._clear_output(output)}")
        conditions += [output.condition] if output is not None and output.condition is not None else []
        guard = f"if ({' && '.join(conditions)}) " if conditions else ""
        code.line(f"  {guard}{call}")
        code.line("}")

    def _copy_offset(self, copy: Copy, matrix: Matrix, row: str, column: str) -> str:
        """The address of a row and column of the tile in a copy that begins with the first ones that exist."""
        (m0, _), (k0, _) = matrix.ranges
        terms = [(f"({row} - {m0})", str(copy.stride))] if row != m0 else []
        terms += [(f"({column} - {k0})", "1")] if column != k0 else []
        return self._offset(matrix.pointer, terms)

    def _plain(self, dot: Op, init: Value | None, result: Value) -> None:
        """Any product, batched and of integers too, from dense copies of both operands."""
        lowering, code = self.lowering, self.lowering.code
        a, b = (lowering.stored_row_major(o) for o in dot.operands)
        type = result.type
        assert isinstance(type, TileType)
        target = lowering._dense_buffer(result.name or "product", type)
        if init is not None:
            lowering.run.roots.append(Root("tile", dot, (), type.shape, source=init, target=target))
        lowering.flush()
        batch = 1
        for extent in type.shape[:-2]:
            batch *= extent
        m, n = type.shape[-2:]
        k = shape_of(dot.operands[0].type)[-1]
        accumulate = "true" if init is not None else "false"
        function = "dot_direct" if type.dtype in (f32, f64) else "dot_plain"
        element = f"<{REGISTER[type.dtype]}>" if function == "dot_direct" else ""
        i = code.fresh("b")
        code.line(f"for (od::i64 {i} = 0; {i} < {batch}; ++{i})  {location_comment([dot.location])}: dot")
        code.line(
            f"  od::{function}{element}({a.name} + {i} * {m * k}, {k}, 1, {b.name} + {i} * {k * n}, {n}, "
            f"{target.name} + {i} * {m * n}, {n}, {m}, {n}, {k}, {accumulate});"
        )
        lowering.expressions.stored[result] = Stored(target)
