"""The calls of products: a dot, or the add that a dot is part of, by its plan."""

from __future__ import annotations

import math

from opdsl.analysis.facts import is_inline
from opdsl.ir.core import Op, Value
from opdsl.ir.types import TileType, f32, f64, shape_of
from opdsl.support.knobs import knobs
from opdsl.targets.cpu.code import REGISTER
from opdsl.targets.cpu.dot_copies import DotCopies
from opdsl.targets.cpu.dot_operands import Matrix, View, address, extent, local_matrix, view_matrix
from opdsl.targets.cpu.dot_outputs import DotOutputs, OutputTile
from opdsl.targets.cpu.dot_plans import Copy, Plan, Plans
from opdsl.targets.cpu.loop_ir import Buffer
from opdsl.targets.cpu.places import location_comment
from opdsl.targets.cpu.tables import Stored
from opdsl.targets.cpu.writer import Writer


class Dots:
    """Lowers the products of a kernel."""

    def __init__(self, writer: Writer, plans: Plans) -> None:
        self.writer = writer
        self.facts = writer.facts
        self.plans = plans
        self.copies = DotCopies(writer, plans)
        self.outputs = DotOutputs(writer.tables, plans)
        self.carried_targets: dict[Value, tuple[Value, Buffer]] = {}  # yielded value -> loop argument, its buffer

    def lower(self, op: Op) -> None:
        """A dot, or the add that a dot is part of."""
        writer = self.writer
        plan, init = self.plans.of_adds.get(op), None
        if plan is not None:
            init = op.operands[1] if op.operands[0] is plan.dot.result else op.operands[0]
        else:
            plan = self.plans.of_dots[op]
            if plan.add is not None:
                return  # comes with its add
        result = op.result
        if plan.method == "plain":
            self._plain(plan.dot, init, result)
            return
        a, b = reversed(plan.dot.operands) if plan.swapped else plan.dot.operands
        left = self._operand(plan.left, a, left=True)
        right = self._operand(plan.right, b, left=False)
        target = self._target(op, init, result, plan.swapped)
        writer.flush()
        overwrite = "true" if init is None else "false"
        if init in self.outputs.fresh:
            loop = self.outputs.fresh[init]
            variable = writer.tables.scalars[loop.regions[0].arguments[0]].text
            overwrite = f"{variable} == {writer.tables.scalar_text(loop.operands[0])}"
        self._call(plan, left, right, target, overwrite, result)
        writer.tables.stored[result] = Stored(target)

    def _operand(self, source: Copy | View | None, value: Value, left: bool) -> Matrix:
        writer, stored = self.writer, self.writer.tables.stored
        if isinstance(source, View):
            return view_matrix(writer.tables, source)
        if isinstance(source, Copy):
            return self.copies.matrix(source)
        writer.flush()
        known = stored.get(value)
        good = known is not None and not known.held
        if known is not None and not left:
            good = good and (known.buffer.strides[1] == 1 or known.buffer.shape[1] == 1)
        if not good:
            assert isinstance(value.type, TileType)
            buffer = writer.new_buffer(value.name or "operand", value.type)
            writer.put(value, buffer)
            writer.flush()
            stored[value] = Stored(buffer)
        return local_matrix(stored[value].buffer, shape_of(value.type))

    def _target(self, op: Op, init: Value | None, result: Value, swapped: bool) -> Buffer:
        """Where the result goes; with an initial value, after putting that there."""
        writer = self.writer
        type = result.type
        assert isinstance(type, TileType)
        if init is None:
            return writer.new_buffer(result.name or "product", type, (1, 0) if swapped else None)
        carried = self.carried_targets.get(result)
        if carried is not None:
            argument, buffer = carried
            if buffer.strides[1] == 1 and not self._read_later(argument, op):
                if init is not argument:
                    root = writer.put(init, buffer, op)
                    writer.run.overwritten.append((argument, root))
                return buffer
        buffer = writer.new_buffer(result.name or "product", type)
        writer.put(init, buffer, op)
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
                if user is not op and passes_on and user.result not in self.writer.stored_values:
                    at = max(at, last(user.result)) if self.facts.users[user.result] else at
                latest = max(latest, at)
            return latest

        return last(argument) > position[op]

    def _call(self, plan: Plan, left: Matrix, right: Matrix, target: Buffer, overwrite: str, result: Value) -> None:
        """The product into `target`, added to what is there unless the C++ condition `overwrite` holds."""
        code, format = self.writer.code, plan.format
        assert format is not None
        rows, columns = shape_of(result.type)
        output = target.matrix if isinstance(target, OutputTile) else None
        c_stride = str(target.strides[0]) if output is None else output.strides[0]
        if plan.swapped:
            rows, columns = columns, rows
            c_stride = str(target.strides[1])
        conditions = [c for c in (left.condition, right.condition) if c is not None]
        code.line(f"{{  {location_comment([plan.dot.location])}: dot")
        flag = {"true": "false", "false": "true"}.get(overwrite, f"!({overwrite})")
        sides = [(left.ranges[0], rows), (right.ranges[1], columns)]
        partial = conditions or any(side != ("0", str(size)) for side, size in sides)
        if overwrite != "false" and output is None and partial:
            # What lies outside is zero: needed only where something does.
            whole = " && ".join([*(f"{high} - {low} == {size}" for (low, high), size in sides), *conditions])
            flag = code.fresh("add")
            clear = f"!({whole})" if overwrite == "true" else f"({overwrite}) && !({whole})"
            code.line(f"  bool {flag} = {'false' if overwrite == 'true' else f'!({overwrite})'};")
            code.line(f"  if ({clear}) {{")
            code.line(f"    od::fill_rows({target.name}, {c_stride}, {rows}, {columns});")
            code.line(f"    {flag} = true;")
            code.line("  }")
        (m0, m1), (n0, n1) = left.ranges[0], right.ranges[1]
        low, high = self._common_steps(left, right)
        c = address(target.name, [(m0, c_stride), (n0, "1")])
        extents = extent(m0, m1), extent(n0, n1), extent(low, high)
        if isinstance(plan.left, Copy):
            # It begins with the first ones that exist.
            k0 = left.ranges[1][0]
            a = address(left.pointer, [(f"({low} - {k0})", "1")] if low != k0 else [])
        else:
            a = address(left.pointer, [(m0, left.strides[0]), (low, left.strides[1])])
        if isinstance(plan.right, Copy):
            r0 = right.ranges[0][0]
            b = right.pointer + ("" if low == r0 else f" + ({low} - {r0}) * {format.panel_columns}")
            special = self.copies.memory[plan.right].special
            if isinstance(plan.left, Copy) and format.has_special_values:
                special = f"{self.copies.memory[plan.left].special} || {special}"
            copied, stride = isinstance(plan.left, Copy), plan.right.stride
            call = format.dot(a, left.strides, copied, b, stride, c, c_stride, extents, flag, special) + ";"
        else:
            b = address(right.pointer, [(low, right.strides[0]), (n0, right.strides[1])])
            inner, tiles = plan.method == "inner", format.name == "tiles"
            method = "lanes" if inner and not knobs.batch_invariant else plan.method
            function = f"tiles_few_{plan.method}" if tiles else f"dot_{method}<{REGISTER[result.type.dtype]}>"
            a_strides = left.strides[:1] if inner and not tiles else left.strides
            arguments = (a, *a_strides, b, right.strides[1 if inner else 0], c, c_stride, *extents, flag)
            call = f"od::{function}({', '.join(arguments)});"
        if isinstance(target, OutputTile) and conditions and overwrite != "false":
            begins = "" if overwrite == "true" else f"({overwrite}) && "
            code.line(f"  if ({begins}!({' && '.join(conditions)})) {target.clear()}")
        conditions += [output.condition] if output is not None and output.condition is not None else []
        guard = f"if ({' && '.join(conditions)}) " if conditions else ""
        code.line(f"  {guard}{call}")
        code.line("}")

    def _common_steps(self, left: Matrix, right: Matrix) -> tuple[str, str]:
        """The range of k that exists of both operands."""
        (k0, k1), (r0, r1) = left.ranges[1], right.ranges[0]
        if (k0, k1) == (r0, r1):
            return k0, k1
        code, low = self.writer.code, "0"
        if k0 != "0" or r0 != "0":
            low = code.fresh("k")
            code.line(f"  const od::i64 {low} = od::larger({k0}, {r0});")
        high = code.fresh("k")
        code.line(f"  const od::i64 {high} = od::smaller({k1}, {r1});")
        return low, high

    def _plain(self, dot: Op, init: Value | None, result: Value) -> None:
        """Any product, batched and of integers too, from dense copies of both operands."""
        writer, code = self.writer, self.writer.code
        a, b = (writer.stored_row_major(o) for o in dot.operands)
        type = result.type
        assert isinstance(type, TileType)
        target = writer.dense_buffer(result.name or "product", type)
        if init is not None:
            writer.put(init, target, dot)
        writer.flush()
        batch = math.prod(type.shape[:-2])
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
        writer.tables.stored[result] = Stored(target)
