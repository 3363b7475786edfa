"""Tile IR -> C++: regions in order, runs of tile ops through `Nests`, products through `Dots`, control flow as it is."""

from __future__ import annotations

from opdsl.analysis.facts import CONTROL_OPS, is_inline, is_tile
from opdsl.ir.core import Op, Region, Value
from opdsl.ir.types import i64, shape_of
from opdsl.targets.base import Request
from opdsl.targets.cpu import arithmetic, transposition, whole_tiles
from opdsl.targets.cpu.code import Register, dim_name
from opdsl.targets.cpu.control import ControlFlow
from opdsl.targets.cpu.dot_plans import Plans
from opdsl.targets.cpu.dots import Dots
from opdsl.targets.cpu.elementwise import apply
from opdsl.targets.cpu.isa import Isa
from opdsl.targets.cpu.kernel_text import declare_parameters, kernel_text
from opdsl.targets.cpu.loop_ir import Root
from opdsl.targets.cpu.report_calls import ReportCalls
from opdsl.targets.cpu.runs import used_beyond_run
from opdsl.targets.cpu.writer import Writer


class Lowering:
    """Lowers one kernel."""

    def __init__(self, request: Request, isa: Isa) -> None:
        self.writer = writer = Writer(request, isa)
        self.facts = writer.facts
        self.transposed = transposition.transposed_loads(self.facts, writer.unit_axes, writer.stored_values)
        writer.stored_values |= self.transposed.keys()
        self.plans = Plans(self.facts, isa, writer.unit_axes, writer.stored_values)
        self.dots = Dots(writer, self.plans)
        self.control = ControlFlow(writer, self.dots, self._region)
        self.report_calls = ReportCalls(writer)
        self.sites = self.report_calls.sites
        self.report = writer.report  # the loops as text

    def text(self) -> str:
        """The C++ source."""
        prologue = declare_parameters(self.writer)
        with self.writer.code.scope() as scope:
            self._region(self.writer.kernel.body)
            self.writer.flush()
        return kernel_text(self.writer, prologue, scope.lines, bool(self.sites))

    def _region(self, region: Region) -> None:
        """All ops of a region but its terminator."""
        for op in region.ops[:-1]:
            self._op(op)

    def _op(self, op: Op) -> None:
        if op.name == "breakpoint" or op in self.dots.outputs.stored:
            return  # only the interpreter stops; products have stored it
        if op.name in CONTROL_OPS:
            self.control.lower(op)
        elif op.name == "dot" or self.plans.is_fused_add(op):
            self.dots.lower(op)
        elif op.name == "copy_out":
            self.writer.run.roots.append(Root("copy_out", op, (), shape_of(op.operands[0].type)))
        elif op.name in ("reduce", "reduce_custom", "arg_reduce", "scan", "scan_custom"):
            self._reduction(op)
        elif op.name in ("print", "assert"):
            self.report_calls.lower(op)
        elif op.name == "sort":
            whole_tiles.sort(self.writer, op)
        elif op.name == "concat":
            whole_tiles.concat(self.writer, op)
        elif op.name == "reshape" and not is_inline(op):
            whole_tiles.reshape(self.writer, op)
        elif op.results and is_tile(op.result):
            self._inline_tile(op)
        elif op.results:
            self._scalar(op)

    # --- tiles ---

    def _inline_tile(self, op: Op) -> None:
        """An op that is evaluated inside the loops of its users, unless it is stored."""
        value = op.result
        if value in self.transposed:
            transposition.emit(self.writer, op, self.transposed[value])
        elif value in self.writer.stored_values:
            self.writer.keep(value, external=self._used_beyond_run(value))
        self.dots.copies.make(op)

    def _reduction(self, op: Op) -> None:
        axes = op.attributes["axes"] if op.name == "reduce" else (op.attributes["axis"],)
        external = any(self._used_beyond_run(v) for v in op.results if is_tile(v))
        root = Root(op.name, op, op.results, shape_of(op.operands[0].type), tuple(axes), external=external)
        self.writer.run.roots.append(root)

    def _used_beyond_run(self, value: Value) -> bool:
        return used_beyond_run(self.facts, self.plans, self.writer.stored_values, value)

    # --- scalars ---

    def _scalar(self, op: Op) -> None:
        scalars, result = self.writer.tables.scalars, op.result
        if op.name == "constant":
            dtype = result.type.dtype
            scalars[result] = Register(arithmetic.literal(op.attributes["value"], dtype), dtype, False, 0)
        elif op.name == "dim":
            scalars[result] = Register(dim_name(op.attributes["symbol"]), i64, False, 0)
        elif op.name == "copy_in":
            self.writer.flush()
            scalars[result] = self.writer.expressions.load_scalar(op)
        else:
            if any(o not in scalars or self.writer.run.defines(o) for o in op.operands):
                self.writer.flush()
            scalars[result] = apply(self.writer.tables, op, [scalars[o] for o in op.operands], result.name)
