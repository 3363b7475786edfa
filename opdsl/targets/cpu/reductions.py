"""Reductions and scans: their accumulators, the step of each iteration, and what becomes of them after the loops."""

from __future__ import annotations

from dataclasses import dataclass

from opdsl.ir.core import Op, Region, Value
from opdsl.ir.types import DType, bool_, i64
from opdsl.targets.cpu import arithmetic
from opdsl.targets.cpu.code import HALF, Register
from opdsl.targets.cpu.elementwise import apply
from opdsl.targets.cpu.expressions import Expressions
from opdsl.targets.cpu.fusion import read_values
from opdsl.targets.cpu.isa import Isa
from opdsl.targets.cpu.lanes import lane_count
from opdsl.targets.cpu.local_memory import store_local
from opdsl.targets.cpu.loop_ir import Nest, Root

COPIES = 4  # accumulators of a reduction along the lanes: unrolled copies of the loop's body have one each
COPY = "§"  # in the text of a loop body: the number of the unrolled copy


@dataclass
class Accumulator:
    """The running values of a reduction, one for each operand; vectors when the lanes are open."""

    names: list[str]
    vector: bool
    dtypes: list[DType]
    type: str = ""  # of a built-in reduction's variables, and where they begin
    identity: str = ""


class Reductions:
    """Emits reductions and scans inside the loops of their roots."""

    def __init__(self, expressions: Expressions, isa: Isa) -> None:
        self.expressions = expressions
        self.tables = expressions.tables
        self.code = self.tables.code
        self.isa = isa
        self.accumulators: dict[Root, Accumulator] = {}

    def open_in(self, nest: Nest) -> list[tuple[Root, Accumulator]]:
        """The accumulators at work in a nest."""
        return [(root, self.accumulators[root]) for root in nest.roots if root in self.accumulators]

    def open(self, root: Root, nest: Nest) -> None:
        """Before the outermost loop that the root reduces: its accumulators."""
        loops = self.tables.loops
        kind, dtypes = root.op.attributes.get("kind", ""), [v.type.dtype for v in root.values]
        lane_nest = _lane_nest(nest, root)
        vector = loops.lane is not None or lane_nest is not None
        saved = loops.lanes
        lane_reduced = loops.lane is None and lane_nest is not None
        if lane_reduced:
            assert lane_nest is not None
            loops.lanes = lane_count(self.isa, lane_nest)
        type = identity = ""
        if root.kind in ("reduce", "scan"):
            name, dtype = self.code.fresh(kind), dtypes[0]
            type = self.tables.register_type(dtype, vector)
            identity = self._everywhere(arithmetic.reduction_identity(kind, dtype), dtype, vector)
            copies = range(COPIES) if lane_reduced and root.kind == "reduce" else range(1)
            self.code.line(f"{type} {', '.join(f'{name}_{copy} = {identity}' for copy in copies)};")
            names = [name]
        elif root.kind == "arg_reduce":
            operand = root.op.operands[0].type.dtype
            names, dtypes = [self.code.fresh("best"), self.code.fresh("place")], [operand, i64]
            identity = self._everywhere(arithmetic.reduction_identity(kind, operand), operand, vector)
            zero = self._everywhere("od::i64(0)", i64, True) if vector else "0"
            for name, dtype, start in zip(names, dtypes, (identity, zero), strict=True):
                self.code.line(f"{self.tables.register_type(dtype, vector)} {name} = {start};")
        else:
            names = []
            for dtype in dtypes:
                names.append(self.code.fresh("carry"))
                self.code.line(f"{self.tables.register_type(dtype, vector)} {names[-1]}{{}};")
        loops.lanes = saved
        self.accumulators[root] = Accumulator(names, vector, dtypes, type, identity)

    def accumulate(self, root: Root) -> None:
        """One iteration of a root."""
        accumulator = self.accumulators[root]
        at = root.coordinates()
        operands = [self.expressions.evaluate(v, at) for v, _ in read_values(root)]
        kind = root.op.attributes.get("kind", "")
        if root.kind == "reduce":
            dtype = accumulator.dtypes[0]
            identity = arithmetic.reduction_identity(kind, dtype)
            term = self._masked(root, self._to_result(root, operands[0]), identity, dtype)
            name = accumulator.names[0] + COPY
            # The term first: `max` looks for NaN in its first operand, which should not wait for the sum so far.
            self.code.line(f"{name} = {arithmetic.combine(kind, term, name, dtype)};")
        elif root.kind == "scan":
            self._scan_step(root, accumulator, operands[0], kind)
        elif root.kind == "arg_reduce":
            self._arg_step(root, accumulator, operands[0], kind)
        else:
            self._custom_step(root, accumulator, operands)

    def close(self, root: Root) -> None:
        """After the outermost loop that the root reduces: its results."""
        accumulator = self.accumulators.pop(root)
        names, dtypes, vector = accumulator.names, accumulator.dtypes, accumulator.vector
        level = self.code.level
        if root.kind in ("scan", "scan_custom"):
            return
        if root.kind == "arg_reduce":
            self._finish(root, [self.tables.define("index", i64, vector, names[1], level)])
            return
        if root.kind == "reduce_custom":
            totals = zip(names, dtypes, strict=True)
            self._finish(root, [self.tables.define("total", d, vector, n, level) for n, d in totals])
            return
        text, dtype, kind = f"{names[0]}_0", dtypes[0], root.op.attributes["kind"]
        if vector and self.tables.loops.lane is None:
            pairs = [arithmetic.combine(kind, f"{names[0]}_{a}", f"{names[0]}_{a + 1}", dtype) for a in (0, 2)]
            total = arithmetic.combine(kind, pairs[0], pairs[1], dtype)
            if dtype.is_bool:
                text = f"od::{'any' if kind in ('any', 'max') else 'all'}({total})"
            else:
                function = {"sum": "add", "prod": "mul"}.get(kind, kind)
                text = f"od::reduce_{function}({total})"
            vector = False
        if dtype in HALF and kind in ("sum", "prod"):
            text = arithmetic.wrapped(text, dtype)
        self._finish(root, [self.tables.define(root.values[0].name or kind, dtype, vector, text, level)])

    def trivial(self, root: Root) -> None:
        """A reduction over dims of one element."""
        at = root.coordinates()
        operands = [self.expressions.evaluate(v, at) for v, _ in read_values(root)]
        if root.kind == "arg_reduce":
            results = [Register("od::i64(0)", i64, False, 0)]
        elif root.kind in ("reduce", "scan"):
            exclusive = root.kind == "scan" and root.op.attributes["exclusive"]
            dtype = root.values[0].type.dtype
            identity = arithmetic.reduction_identity(root.op.attributes["kind"], dtype)
            results = [Register(identity, dtype, False, 0) if exclusive else self._to_result(root, operands[0])]
        else:
            results = operands
        self._finish(root, results)

    # --- one iteration ---

    def _masked(self, root: Root, register: Register, identity: str, dtype: DType) -> str:
        """The register as a term: lanes that do not count hold the identity."""
        loops = self.tables.loops
        register = self.tables.as_vector(register) if self.accumulators[root].vector else register
        if loops.limit is None or not register.vector or not self._lane_is_reduced(root):
            return register.text
        neutral = self._everywhere(identity, dtype, True)
        counts = f"od::first_lanes<{loops.lanes}>({loops.limit})"
        if dtype.is_bool:
            return f"(({counts} & {register.text}) | (~{counts} & {neutral}))"
        return f"od::select({counts}, {register.text}, {neutral})"

    def _lane_is_reduced(self, root: Root) -> bool:
        lane = self.tables.loops.lane
        return any(root.variables.get(d) is lane for d in root.reduced)

    def _scan_step(self, root: Root, accumulator: Accumulator, operand: Register, kind: str) -> None:
        dtype = accumulator.dtypes[0]
        name = accumulator.names[0] + "_0"
        register = self._to_result(root, operand)
        if accumulator.vector:
            register = self.tables.as_vector(register)
        before = None
        if root.op.attributes["exclusive"]:
            before = self.tables.define("before", dtype, accumulator.vector, name, self.code.level)
        self.code.line(f"{name} = {arithmetic.combine(kind, name, register.text, dtype)};")
        result = before or self.tables.define("running", dtype, accumulator.vector, name, self.code.level)
        if dtype in HALF:
            rounded = arithmetic.wrapped(result.text, dtype)
            result = self.tables.define("rounded", dtype, accumulator.vector, rounded, self.code.level)
        self._finish(root, [result])

    def _arg_step(self, root: Root, accumulator: Accumulator, operand: Register, kind: str) -> None:
        best, place = accumulator.names
        dtype, vector = accumulator.dtypes[0], accumulator.vector
        if vector:
            operand = self.tables.as_vector(operand)
        axis = root.variables[root.op.attributes["axis"]].name
        relation = "gt" if kind == "max" else "lt"
        if dtype.is_bool:
            better = f"({operand.text} & ~{best})" if kind == "max" else f"(~{operand.text} & {best})"
            better = better if vector else better.replace("~", "!")
        else:
            better = arithmetic.elementwise(relation, [operand.text, best], dtype, vector)
            if dtype.is_float:
                nan = arithmetic.elementwise("ne", [operand.text] * 2, dtype, vector)
                number = arithmetic.elementwise("eq", [best] * 2, dtype, vector)
                better = f"({better} | ({nan} & {number}))"
        condition = self.tables.define("better", bool_, vector, better, self.code.level).text
        here = f"od::splat<od::i64, {self.tables.loops.lanes}>({axis})" if vector else axis
        self.code.line(f"{best} = {arithmetic.elementwise('select', [condition, operand.text, best], dtype, vector)};")
        self.code.line(f"{place} = {arithmetic.elementwise('select', [condition, here, place], i64, vector)};")

    def _custom_step(self, root: Root, accumulator: Accumulator, operands: list[Register]) -> None:
        vector = accumulator.vector
        if vector:
            operands = [self.tables.as_vector(o) for o in operands]
        axis = root.variables[root.op.attributes["axis"]]
        (combine,) = root.op.regions
        first = axis.extent - 1 if root.op.attributes.get("reverse") else 0
        with self.code.scope() as scope:
            level = self.code.level
            carried = [
                Register(n, d, vector, level) for n, d in zip(accumulator.names, accumulator.dtypes, strict=True)
            ]
            results = self._inline(combine, [*carried, *operands])
            temporary = [self.tables.define("next", r.dtype, vector, r.text, level) for r in results]
            for name, register in zip(accumulator.names, temporary, strict=True):
                self.code.line(f"{name} = {register.text};")
        self.code.line(f"if ({axis.name} == {first}) {{")
        for name, register in zip(accumulator.names, operands, strict=True):
            self.code.line(f"  {name} = {register.text};")
        self.code.line("} else {")
        self.code.lines(scope.lines, 1)
        self.code.line("}")
        if root.kind == "scan_custom":
            registers = [
                self.tables.define("running", d, vector, n, self.code.level)
                for n, d in zip(accumulator.names, accumulator.dtypes, strict=True)
            ]
            self._finish(root, registers)

    def _inline(
        self, region: Region, arguments: list[Register], around: dict[Value, Register] | None = None
    ) -> list[Register]:
        """A combine function's body on registers, at the current level."""
        known: dict[Value, Register] = {**(around or {}), **dict(zip(region.arguments, arguments, strict=True))}
        vector = any(a.vector for a in arguments)
        for op in region.ops[:-1]:
            if op.name == "constant":
                text = arithmetic.literal(op.attributes["value"], op.attributes["dtype"])
                known[op.result] = Register(text, op.attributes["dtype"], False, 0)
                continue
            operands = [known[o] if o in known else self.tables.scalars[o] for o in op.operands]
            if op.name == "if":
                # Both sides are pure: compute both and choose.
                sides = [self._inline(side, [], known) for side in op.regions]
                for result, then, otherwise in zip(op.results, *sides, strict=True):
                    select = Op("select", (), (result,), {}, (), op.location)
                    known[result] = apply(self.tables, select, [operands[0], then, otherwise])
                continue
            known[op.result] = apply(self.tables, op, operands)
        results = [known.get(o) or self.tables.scalars[o] for o in region.terminator.operands]
        return [self.tables.as_vector(r) for r in results] if vector else results

    # --- results ---

    def _to_result(self, root: Root, register: Register) -> Register:
        """An operand in the type that a reduction or scan counts in."""
        dtype = root.values[0].type.dtype
        if register.dtype == dtype:
            return register
        if register.lane_step:
            register = self.tables.as_vector(register)
        text = arithmetic.cast(register.text, register.dtype, dtype, register.vector)
        return self.tables.define("term", dtype, register.vector, text, register.level)

    def _everywhere(self, text: str, dtype: DType, vector: bool) -> str:
        """A constant, in all lanes of a vector."""
        return self.tables.as_vector(Register(text, dtype, False, 0)).text if vector else text

    def _finish(self, root: Root, results: list[Register]) -> None:
        """Makes the results known to what follows in the loops around, and stores them where that is asked for."""
        at = root.result_coordinates()
        for value, register in zip(root.values, results, strict=True):
            if value in self.tables.stored:
                store_local(self.tables, self.tables.stored[value], at, register)
            if at:
                register = Register(register.text, register.dtype, register.vector, self.code.level, register.lane_step)
                self.code.remember((value, at), register)
            elif value not in self.tables.stored:
                # A scalar result, declared before the loops.
                self.code.line(f"{self.tables.scalars[value].text} = {register.text};")


def _lane_nest(nest: Nest, root: Root) -> Nest | None:
    """The lane loop around a root, from a nest inwards."""
    if nest.is_lane:
        return nest
    for child in nest.children:
        if isinstance(child, Nest) and root in child.roots:
            return _lane_nest(child, root)
    return None
