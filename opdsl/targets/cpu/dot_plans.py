"""Which kernel of csrc/simd/dot.h computes each od.dot, from which copies of its operands.

The choice is static, by tile shapes and strides that are known to be one:

    few rows (<= 16), B's rows contiguous        dot_rows    B straight from memory (bf16 with AMX: tiles_few_rows)
    few rows, both contiguous along k            dot_inner   (bf16 with AMX: tiles_few_inner)
    B in local memory, rows contiguous           dot_direct
    B contiguous along k, A unchanged in the     the transposed product: B's rows are broadcast, A is packed once
      loop and the result not accumulated        before the loop, and the result is kept transposed
    otherwise                                    dot_packed  B copied into panels
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace

from opdsl.analysis.facts import Facts
from opdsl.ir.core import Op, Value, walk
from opdsl.ir.types import DType, bf16, f16, f32, i8, i32, shape_of, u8
from opdsl.targets.cpu.dot_formats import FEW_ROWS, Format, choose_format
from opdsl.targets.cpu.dot_operands import View, widened_view
from opdsl.targets.cpu.isa import Isa

FEWEST_ON_TILES = 5  # with fewer rows of A, multiply-adds in registers keep up with memory
WHOLE_ROWS = 256  # a tile of B that is whole rows of its tensor, no longer than this, is read in place


@dataclass(frozen=True, eq=False)
class Copy:
    """A copy of a part of a tensor for a product: `panels` (a right operand) or `rows` (a left one)."""

    kind: str
    view: View
    format: Format
    stride: int  # between panels, or rows
    elements: int


@dataclass(frozen=True, eq=False)
class Plan:
    """How one dot is computed. `add` is the op that the product is added to something by, where it is part of that."""

    dot: Op
    add: Op | None
    method: str  # "rows", "inner", "direct", "packed", "plain"
    left: Copy | View | None = None  # None: a tile in local memory
    right: Copy | View | None = None
    format: Format | None = None
    swapped: bool = False

    @property
    def on_tiles(self) -> bool:
        return self.format is not None and self.format.name == "tiles"


class Plans:
    """The plans of a kernel's products."""

    def __init__(self, facts: Facts, isa: Isa, unit_axes: Mapping[Value, int | None], stored: Set[Value]) -> None:
        self.facts = facts
        self.isa = isa
        self.unit_axes = unit_axes
        self.stored = stored
        self.of_dots: dict[Op, Plan] = {}
        self.of_adds: dict[Op, Plan] = {}
        self.copies: dict[Op, list[Copy]] = {}  # copy_in -> what is copied there
        for op in walk(facts.kernel.body):
            if op.name == "dot":
                plan = self.of_dots[op] = self._plan(op, self._find_add(op))
                if plan.add is not None:
                    self.of_adds[plan.add] = plan

    def is_fused_add(self, op: Op) -> bool:
        return op in self.of_adds

    def _find_add(self, dot: Op) -> Op | None:
        users = self.facts.users[dot.result]
        if len(users) == 1 and users[0][0].name == "add" and users[0][1] is self.facts.block_of[dot.result]:
            add = users[0][0]
            if add.operands[0] is not add.operands[1] and add not in self.of_adds:
                return add
        return None

    def _plan(self, dot: Op, add: Op | None) -> Plan:
        a, b = dot.operands
        dtype = dot.result.type.dtype
        plain = Plan(dot, add, "plain")
        if len(shape_of(dot.result.type)) != 2:
            return plain
        m, n = shape_of(dot.result.type)
        left, right = self._in_place(a, dtype), self._in_place(b, dtype)
        k = shape_of(a.type)[1]
        same_k = left is not None and right is not None and left.places(1) == right.places(0)
        a_source = left.dtype if same_k and left is not None else None
        b_source = right.dtype if same_k and right is not None else None
        format = choose_format(self.isa, a_source, b_source, dtype, m)
        if format is not None and format.name == "tiles" and not self._in_grid(dot):
            format = choose_format(replace(self.isa, has_tiles=False), a_source, b_source, dtype, m)
        if format is None:
            return plain
        if format.name != "float":
            assert left is not None and right is not None
            # What stays the same in a loop is copied once; otherwise tiles_dot copies a few rows at a time itself.
            once = format.name != "tiles" or self._invariant(left, dot)
            rows = self._copy("rows", left, (m, k), format) if once else left
            return Plan(dot, add, "packed", rows, self._copy("panels", right, (k, n), format), format)
        if right is None:
            return Plan(dot, add, "direct", self._left(left, (m, k), format), None, format)
        n_unit, k_unit = self._is_contiguous(right, 1), self._is_contiguous(right, 0)
        few_on_tiles = self.isa.has_tiles and FEWEST_ON_TILES <= m <= FEW_ROWS and self._in_grid(dot)
        if few_on_tiles and a_source == b_source == bf16 and (n_unit or k_unit):
            method, tiles = "rows" if n_unit else "inner", Format("tiles", bf16, dtype, self.isa)
            return Plan(dot, add, method, left, right, tiles)
        if m <= FEW_ROWS and n_unit:
            return Plan(dot, add, "rows", self._left(left, (m, k), format), right, format)
        if m <= FEW_ROWS and k_unit:
            return Plan(dot, add, "inner", self._left_unit_k(left, (m, k), format), right, format)
        if k_unit and add is None and left is not None and self._invariant(left, dot):
            packed = self._copy("panels", left.transposed(), (k, m), format)
            rows_ = self._left(right.transposed(), (n, k), format)
            return Plan(dot, add, "packed", rows_, packed, format, swapped=True)
        whole_rows = right.size(1) == right.slice(1)[0].length
        if n_unit and right.dtype == dtype and whole_rows and n <= WHOLE_ROWS:
            return Plan(dot, add, "direct", self._left(left, (m, k), format), right, format)
        panels = self._copy("panels", right, (k, n), format)
        return Plan(dot, add, "packed", self._left(left, (m, k), format), panels, format)

    def _in_grid(self, dot: Op) -> bool:
        return any(op.name == "parallel" for op, _ in self.facts.chain(self.facts.block_of[dot.result]))

    def _in_place(self, value: Value, dtype: DType) -> View | None:
        """The part of a tensor that a product may read the operand from."""
        view = widened_view(self.facts, value)
        if view is None or view.op.result in self.stored:
            return None
        good = (
            view.dtype == dtype
            or (dtype == f32 and view.dtype in (f16, bf16))
            or (dtype == i32 and view.dtype in (i8, u8))
        )
        return view if good else None

    def _is_contiguous(self, view: View, side: int) -> bool:
        """Whether neighbours along one side of a view are neighbours in memory."""
        return self.unit_axes[view.tensor] == view.dims[side] and view.slice(side)[0].step == 1

    def _left(self, view: View | None, extents: tuple[int, int], format: Format) -> Copy | View | None:
        """The left operand: in place where the elements are of the right type."""
        if view is None or view.dtype == format.result:
            return view
        return self._copy("rows", view, extents, format)

    def _left_unit_k(self, view: View | None, extents: tuple[int, int], format: Format) -> Copy | View | None:
        if view is None or self._is_contiguous(view, 1):
            return self._left(view, extents, format)
        return self._copy("rows", view, extents, format)

    def _copy(self, kind: str, view: View, extents: tuple[int, int], format: Format) -> Copy:
        rows, columns = extents
        if kind == "panels":
            stride, elements = format.panel_stride(rows), format.panel_elements(rows, columns)
        else:
            stride, elements = format.row_stride(columns), format.row_elements(rows, columns)
        if format.has_special_values:
            elements += 16  # the last ones say whether there are infinities or NaNs
        copy = Copy(kind, view, format, stride, elements)
        self.copies.setdefault(view.op, []).append(copy)
        return copy

    def _invariant(self, view: View, dot: Op) -> bool:
        """Whether a part of a tensor is copied in outside of the innermost loop around a dot."""
        home = self.facts.block_of[view.op.result]
        return self.facts.block_of[dot.result] is not home and any(
            op.name == "for" for op, _ in self.facts.chain(self.facts.block_of[dot.result])
        )
