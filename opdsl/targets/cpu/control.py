"""Control flow as it is: grids, loops and branches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opdsl.analysis.ranges import LARGEST, constant, largest
from opdsl.ir.core import Op, Region, Value, walk
from opdsl.ir.types import TileType, i64
from opdsl.targets.cpu.arena import Arena
from opdsl.targets.cpu.carried import Carried, Place
from opdsl.targets.cpu.code import REGISTER, Register
from opdsl.targets.cpu.dots import Dots
from opdsl.targets.cpu.loop_ir import Buffer
from opdsl.targets.cpu.places import location_comment
from opdsl.targets.cpu.writer import Writer


class ControlFlow:
    """Lowers control ops. `lower_region` lowers the ops of a region but its terminator."""

    def __init__(self, writer: Writer, dots: Dots, lower_region: Callable[[Region], None]) -> None:
        self.writer = writer
        self.code = writer.code
        self.tables = writer.tables
        self.dots = dots
        self.carried = Carried(writer, dots.outputs)
        self.lower_region = lower_region
        self.in_parallel = False

    def lower(self, op: Op) -> None:
        lower = {"parallel": self.parallel, "for": self.for_loop, "while": self.while_loop, "if": self.branch}
        lower[op.name](op)

    def parallel(self, op: Op) -> None:
        self.writer.flush()
        if self.in_parallel:
            self._inner_parallel(op)
            return
        code, (body,) = self.code, op.regions
        ranges = [op.operands[i : i + 3] for i in range(0, len(op.operands), 3)]
        order = self.dots.copies.grid_order(op)
        counts = []
        for bounds in ranges:
            upwards = (constant(self.writer.facts, bounds[2]) or 0) > 0
            function = "od::trips" if upwards else "od::trips_either_way"
            trips = f"{function}({', '.join(map(self.writer.scalar, bounds))})"
            counts.append(code.define("count", "od::i64", trips, code.level))
        total = code.define("total", "od::i64", " * ".join(counts), code.level)
        ordered = _must_run_in_order(body)
        run = code.fresh("grid")
        outer_arena, self.writer.arena = self.writer.arena, Arena("scratch")
        outer_ordered, self.writer.nests.ordered = self.writer.nests.ordered, ordered
        self.in_parallel = True
        task = code.fresh("task")
        with code.scope() as scope:
            remaining = task
            for place, axis in reversed(list(enumerate(order))):
                start, _, step = ranges[axis]
                argument = body.arguments[axis]
                index = f"{remaining} % {counts[axis]}" if place else remaining
                text = f"{self.writer.scalar(start)} + ({index}) * {self.writer.scalar(step)}"
                name = code.define(argument.name or "i", "od::i64", text, code.level)
                self.tables.scalars[argument] = Register(name, i64, False, code.level)
                if place:
                    remaining = code.define("rest", "od::i64", f"{remaining} / {counts[axis]}", code.level)
            setup = self.dots.copies.enter_grid(op, task, order, counts)
            self.lower_region(body)
            self.writer.flush()
        self.in_parallel = False
        arena, self.writer.arena = self.writer.arena, outer_arena
        self.writer.nests.ordered = outer_ordered
        code.line(location_comment([op.location]))
        code.line(
            f"auto {run} = [=, &failed](od::i64 begin, od::i64 end, char* scratch) __attribute__((always_inline)) {{"
        )
        code.lines(arena.declared(), 1)
        code.lines(setup, 1)
        code.line(f"  for (od::i64 {task} = begin; {task} < end; ++{task}) {{")
        code.lines(scope.lines, 2)
        code.line("  }")
        if any("od::store_past" in line for line in scope.lines):
            code.line("  od::stream_fence();")
        code.line("};")
        chunk = total if ordered else self.dots.copies.chunk(op, order, counts)
        grid = f"od::run_grid(runtime, {total}, {chunk}, {arena.total()}, {run})"
        code.line(f"if ({grid}) {{ failed = OPDSL_OUT_OF_MEMORY; return; }}" if arena.total() != "0" else f"{grid};")

    def _inner_parallel(self, op: Op) -> None:
        """A parallel loop inside another runs in its thread."""
        (body,) = op.regions
        with self.code.scope() as scope:
            for i, argument in enumerate(body.arguments):
                name = self.code.fresh(argument.name or "i")
                self._write_loop(name, op.operands[3 * i : 3 * i + 3])
                self.tables.scalars[argument] = Register(name, i64, False, self.code.level)
            with self.code.scope() as inner:
                for argument in body.arguments:
                    known = self.tables.scalars[argument]
                    self.tables.scalars[argument] = Register(known.text, i64, False, self.code.level)
                self.lower_region(body)
                self.writer.flush()
            self.code.lines(inner.lines, 1)
            self.code.line("}" * len(body.arguments))
        self.code.lines(scope.lines)

    def for_loop(self, op: Op) -> None:
        (body,) = op.regions
        places = self.carried.declare(op.operands[3:], body.arguments[1:])
        variable = self.code.fresh(body.arguments[0].name or "i")
        bounds = op.operands[:3]
        self.writer.report.append(f"for {variable}:  # line {op.location.line}")
        mark = len(self.writer.report)
        with self.code.scope() as scope:
            self.tables.scalars[body.arguments[0]] = Register(variable, i64, False, self.code.level)
            self.carried.bind_snapshot(body.arguments[1:], places)
            self._note_targets(body, places)
            self.lower_region(body)
            self.carried.yield_into(body, places)
        self.writer.report[mark:] = ["  " + line for line in self.writer.report[mark:]]
        start, stop, step = map(self.writer.scalar, bounds)
        never = f"od::trips_either_way({start}, {stop}, {step}) == 0" if self._may_wrap(bounds) else f"{start} >= {stop}"
        for line in self.dots.outputs.never_written(body.arguments[1:], places, never):
            self.code.line(line)
        self.code.line(location_comment([op.location]))
        self._write_loop(variable, bounds)
        self.code.lines(scope.lines, 1)
        self.code.line("}")
        self.carried.bind(op.results, places)

    def _write_loop(self, variable: str, bounds: Sequence[Value]) -> None:
        """The head of a loop over a range, with the brace that opens its body."""
        start, stop, step = map(self.writer.scalar, bounds)
        if not self._may_wrap(bounds):
            self.code.line(f"for (od::i64 {variable} = {start}; {variable} < {stop}; {variable} += {step}) {{")
            return
        left = self.code.fresh("left")
        self.code.line(f"od::i64 {variable} = {start};")
        count = f"od::trips_either_way({start}, {stop}, {step})"
        self.code.line(f"for (od::u64 {left} = {count}; {left}; --{left}, {variable} += {step}) {{")

    def _may_wrap(self, bounds: Sequence[Value]) -> bool:
        """Whether the variable may step over the end of i64, or goes down: where it does not go up to a size."""
        bound, step = largest(self.writer.facts, bounds[1]), constant(self.writer.facts, bounds[2])
        return step is None or bound is None or not 0 < step <= LARGEST - bound

    def _note_targets(self, body: Region, places: Sequence[Place]) -> None:
        """Lets a product that is yielded accumulate where the carried value lives."""
        for value, argument, place in zip(body.terminator.operands, body.arguments[1:], places, strict=True):
            home = self.writer.facts.block_of.get(value)
            if isinstance(place, Buffer) and home is body and value not in body.arguments:
                self.dots.carried_targets[value] = (argument, place)

    def while_loop(self, op: Op) -> None:
        condition, body = op.regions
        places = self.carried.declare(op.operands, body.arguments)
        with self.code.scope() as scope:
            with self.code.scope() as test:
                self.carried.bind(condition.arguments, places)
                self.lower_region(condition)
                self.writer.flush()
                holds = self.writer.scalar(condition.terminator.operands[0])
                self.code.line(f"if (!({holds})) break;")
            with self.code.scope() as inner:
                self.carried.bind_snapshot(body.arguments, places)
                self.lower_region(body)
                self.carried.yield_into(body, places)
            self.code.lines(test.lines)
            self.code.lines(inner.lines)
        self.code.line(location_comment([op.location]))
        self.code.line("for (;;) {")
        self.code.lines(scope.lines, 1)
        self.code.line("}")
        self.carried.bind(op.results, places)

    def branch(self, op: Op) -> None:
        self.writer.flush()
        condition = self.writer.scalar(op.operands[0])
        places: list[Place] = []
        for result in op.results:
            if isinstance(result.type, TileType):
                places.append(self.writer.new_buffer(result.name or "chosen", result.type))
            else:
                name = self.code.fresh(result.name or "chosen")
                self.code.line(f"{REGISTER[result.type.dtype]} {name};")
                places.append(name)
        bodies = []
        for region in op.regions:
            with self.code.scope() as scope:
                self.lower_region(region)
                self.carried.yield_into(region, places)
            bodies.append(scope.lines)
        # What both branches share has been defined before the text of the first one.
        self.code.line(location_comment([op.location]))
        for keyword, body in zip((f"if ({condition})", "else"), bodies, strict=True):
            self.code.line(f"{keyword} {{")
            self.code.lines(body, 1)
            self.code.line("}")
        self.carried.bind(op.results, places)


def _must_run_in_order(body: Region) -> bool:
    """Whether iterations add floats to shared elements: any other order would give other bits."""
    return any(
        op.name == "copy_out" and op.attributes["mode"] == "add" and op.operands[1].type.dtype.is_float
        for op in walk(body)
    )
