"""Tile IR -> C++: regions in order, runs of tile ops through `Nests`, products through `Dots`, control flow as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from opdsl.ir.core import Op, Region, Value
from opdsl.ir.ops import OPS
from opdsl.ir.types import ScalarType, TensorType, TileType, i64, shape_of
from opdsl.targets.base import Request
from opdsl.targets.cpu import arithmetic
from opdsl.targets.cpu.code import REGISTER, Code, Register, local_element
from opdsl.targets.cpu.coordinates import leaves
from opdsl.targets.cpu.dot_plans import Plans
from opdsl.targets.cpu.dots import Dots
from opdsl.targets.cpu.expressions import Expressions, Stored, tensor_text
from opdsl.targets.cpu.facts import CONTROL_OPS, gather_facts, is_inline, is_tile
from opdsl.targets.cpu.fusion import read_values
from opdsl.targets.cpu.isa import Isa, entry_name
from opdsl.targets.cpu.loop_ir import ZERO, Buffer, Index, LoopVariable, Root, make_buffer
from opdsl.targets.cpu.nests import Nests
from opdsl.targets.cpu.places import location_comment
from opdsl.targets.cpu.ranges import constant
from opdsl.targets.cpu.storage import choose_stored
from opdsl.targets.cpu.transposition import emit as emit_transposed
from opdsl.targets.cpu.transposition import transposed_loads

ALIGNMENT = 64


@dataclass
class Arena:
    """Memory of one scope of execution: fixed places for the buffers, and a part whose size is known at run time."""

    base: str
    bytes: int = 0
    declarations: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)  # texts of run-time sizes in bytes, after the fixed part

    def place(self, buffer: Buffer) -> None:
        element, size = local_element(buffer.dtype)
        self.declarations.append(
            f"{element}* const {buffer.name} = reinterpret_cast<{element}*>({self.base} + {self.bytes});"
        )
        self.bytes += -(-buffer.elements * size // ALIGNMENT) * ALIGNMENT

    def place_extra(self, name: str, element: str, size_text: str) -> None:
        """Memory of a run-time size in bytes, a multiple of the alignment."""
        offset = " + ".join([str(self.bytes_marker), *self.extra])
        self.declarations.append(f"{element}* const {name} = reinterpret_cast<{element}*>({self.base} + {offset});")
        self.extra.append(size_text)

    bytes_marker = "@FIXED@"

    def declared(self) -> list[str]:
        return [line.replace(self.bytes_marker, str(self.bytes)) for line in self.declarations]

    def total(self) -> str:
        return " + ".join([str(self.bytes), *self.extra])


@dataclass
class Run:
    """A run of roots that has not been emitted yet."""

    roots: list[Root] = field(default_factory=list)
    overwritten: list[tuple[Value, Root]] = field(default_factory=list)


@dataclass(frozen=True)
class Site:
    """An od.print or od.assert_ in the kernel, for messages."""

    kind: str
    text: str
    op: Op


class Lowering:
    """Lowers one kernel."""

    def __init__(self, request: Request, isa: Isa) -> None:
        self.request = request
        self.isa = isa
        self.kernel = request.kernel
        self.facts = gather_facts(self.kernel, request.may_alias)
        self.code = Code()
        self.expressions = Expressions(self.facts, self.code)
        self.report: list[str] = []
        self.sites: list[Site] = []
        self.nests = Nests(self.expressions, isa, self._place, self.report)
        self.stored_values = choose_stored(self.facts)
        unit_axes = dict(zip(self.kernel.parameters, request.unit_axes, strict=True))
        self.transposed = transposed_loads(self.facts, unit_axes, self.stored_values)
        self.stored_values |= self.transposed.keys()
        self.plans = Plans(self.facts, isa, unit_axes, self.stored_values)
        self.arena = Arena("workspace")
        self.run = Run()
        self.dots = Dots(self, self.plans)
        self.carried_targets: dict[Value, tuple[Value, Buffer]] = {}  # yielded value -> loop argument, its buffer
        self.in_parallel = False
        self.task = ""

    # --- the whole kernel ---

    def text(self) -> str:
        """The C++ source."""
        prologue = self._parameters()
        with self.code.scope() as scope:
            self.lower_region(self.kernel.body)
            self.flush()
        body = [*self.arena.declared(), *scope.lines]
        outer = self.code.scopes[0].lines
        allocated = bool(self.arena.bytes or self.arena.extra)
        uses_elementary = any("od::" + name + "(" in line for name in ELEMENTARY for line in (*body, *outer))
        uses_dot = any("od::dot_" in line or "od::pack_b" in line or "od::tiles_" in line for line in body)
        includes = ['#include "simd/kernel.h"']
        includes += ['#include "simd/elementary.h"'] if uses_elementary else []
        includes += ['#include "simd/dot.h"'] if uses_dot else []
        includes += ['#include "simd/transpose.h"'] if any("od::load_transposed" in line for line in body) else []
        includes += ['#include "simd/sort.h"'] if any("od::sort_" in line for line in body) else []
        includes += ['#include "simd/report.h"'] if self.sites else []
        lines = [
            f"// {self.kernel.name}, generated by OpDSL for {self.isa.name}.",
            *includes,
            "",
            (f'extern "C" opdsl_i32 {entry_name(self.kernel.name)}(const opdsl_runtime* runtime, '
            "const opdsl_array* arrays, const opdsl_scalar* scalars) {"),
            *("  " + line for line in [*prologue, *outer]),
            "  od::i32 failed = 0;",
        ]
        if allocated:
            lines += [
                f"  char* const workspace = static_cast<char*>(runtime->allocate(runtime, {self.arena.total()}));",
                "  if (!workspace) return OPDSL_OUT_OF_MEMORY;",
            ]
        lines += [
            "  auto kernel = [&]() __attribute__((always_inline)) {",
            *("    " + line for line in body),
            "  };",
            "  kernel();",
        ]
        if allocated:
            lines.append("  runtime->release(runtime, workspace);")
        lines += ["  return failed;", "}", ""]
        return "\n".join(lines)

    def _parameters(self) -> list[str]:
        lines: list[str] = []
        arrays = scalars = 0
        named: set[str] = set()
        for name, value, unit in zip(
            self.kernel.parameter_names, self.kernel.parameters, self.request.unit_axes, strict=True
        ):
            if isinstance(value.type, TensorType):
                streams = self.facts.is_written_only(value)
                text, defined = tensor_text(self.code.fresh(name), value.type, unit, f"arrays[{arrays}]", streams)
                self.expressions.tensors[value] = text
                lines += defined
                arrays += 1
                for size, dim in zip(text.sizes, value.type.dims, strict=True):
                    if isinstance(dim, str) and dim not in named:
                        named.add(dim)
                        lines.append(f"const od::i64 dim_{dim} = {size};")
            else:
                assert isinstance(value.type, ScalarType)
                dtype = value.type.dtype
                variable = self.code.fresh(name)
                field_name = "f" if dtype.is_float else "i"
                text_ = f"{REGISTER[dtype]}(scalars[{scalars}].{field_name})"
                if dtype.is_float:
                    text_ = arithmetic.wrapped(text_, dtype)
                lines.append(f"const {REGISTER[dtype]} {variable} = {text_};")
                self.expressions.scalars[value] = Register(variable, dtype, False, 0)
                scalars += 1
        return lines

    def _place(self, buffer: Buffer) -> None:
        self.arena.place(buffer)

    def new_buffer(self, hint: str, type: TileType, order: tuple[int, ...] | None = None) -> Buffer:
        """Local memory for a whole tile."""
        buffer = make_buffer(self.code.fresh(hint), type.dtype, local_element(type.dtype)[1], type.shape, order)
        self.arena.place(buffer)
        return buffer

    # --- regions ---

    def flush(self) -> None:
        """Emits the roots that wait."""
        run, self.run = self.run, Run()
        self.nests.emit(run.roots, run.overwritten)

    def lower_region(self, region: Region) -> None:
        """All ops of a region but its terminator."""
        for op in region.ops[:-1]:
            self.lower_op(op)

    def lower_op(self, op: Op) -> None:
        if op.name == "breakpoint":
            return  # only the interpreter stops
        if op.name in CONTROL_OPS:
            getattr(self, f"_lower_{op.name}")(op)
        elif op.name == "dot" or self.plans.is_fused_add(op):
            self.dots.lower(op)
        elif op in self.dots.outputs.stored:
            pass
        elif op.name == "copy_out":
            space = shape_of(op.operands[0].type)
            self.run.roots.append(Root("copy_out", op, (), space))
        elif op.name in ("reduce", "reduce_custom", "arg_reduce", "scan", "scan_custom"):
            self._lower_reduction(op)
        elif op.name in ("print", "assert"):
            self._lower_report(op)
        elif op.name == "sort":
            self._lower_sort(op)
        elif op.name == "concat":
            self._lower_concat(op)
        elif op.results and is_tile(op.results[0]):
            self._lower_tile(op)
        elif op.name == "reshape":
            self._lower_reshape(op)
        elif op.results:
            self._lower_scalar(op)

    def _lower_tile(self, op: Op) -> None:
        value = op.result
        if not is_inline(op):
            assert op.name == "reshape"
            self._lower_reshape(op)
        elif value in self.transposed:
            emit_transposed(self, op, self.transposed[value])
        elif value in self.stored_values:
            self.store(value)
        self.dots.copies.make(op)

    def store(self, value: Value, target: Buffer | None = None, external: bool | None = None) -> Root:
        """A root that keeps a value in local memory."""
        op = self.facts.definition[value]
        if external is None:
            external = self._used_beyond_run(value)
        root = Root("tile", op, (value,), shape_of(value.type), source=value, target=target, external=external)
        self.run.roots.append(root)
        return root

    def _used_beyond_run(self, value: Value) -> bool:
        """Whether anything but roots that follow in the same block, without a break, reads the value."""
        seen: set[Value] = set()
        home = self.facts.block_of[value]

        def beyond(v: Value) -> bool:
            if v in seen:
                return False
            seen.add(v)
            for user, region in self.facts.users[v]:
                if region is not home or user.name in (
                    "dot",
                    "sort",
                    "concat",
                    "print",
                    "assert",
                    "yield",
                    *CONTROL_OPS,
                ):
                    return True
                if self.plans.is_fused_add(user) or (user.name == "reshape" and not is_inline(user)):
                    return True
                if self._breaks_between(v, user, region):
                    return True
                if is_inline(user) and user.result not in self.stored_values and beyond(user.result):
                    return True
                if user.results and isinstance(user.results[0].type, ScalarType) and not is_tile(v):
                    return True
            return False

        return beyond(value)

    def _breaks_between(self, value: Value, user: Op, region: Region) -> bool:
        """Whether the run of roots ends between a value's definition and a user in the same region."""
        definition = self.facts.op(value)
        inside = False
        for op in region.ops:
            if op is user:
                return False
            if inside and (op.name in ("dot", "sort", "concat", "print", "assert", *CONTROL_OPS) or self._ends_run(op)):
                return True
            if op is definition:
                inside = True
        return True

    def _ends_run(self, op: Op) -> bool:
        """Whether lowering an op emits the roots that wait."""
        if self.plans.is_fused_add(op) or (op.name == "reshape" and (not op.results or not is_inline(op))):
            return True
        scalar = bool(op.results) and isinstance(op.results[0].type, ScalarType)
        if scalar and op.name == "copy_in":
            return True
        # A scalar computed from a tile's reduction needs it done.
        return scalar and OPS[op.name].category == "elementwise" and any(self._from_tile(o) for o in op.operands)

    def _from_tile(self, value: Value) -> bool:
        op = self.facts.op(value)
        return op is not None and OPS[op.name].category == "reduce"

    def _lower_scalar(self, op: Op) -> None:
        expressions, result = self.expressions, op.result
        dtype = result.type.dtype
        if op.name == "constant":
            expressions.scalars[result] = Register(arithmetic.literal(op.attributes["value"], dtype), dtype, False, 0)
        elif op.name == "dim":
            expressions.scalars[result] = Register(f"dim_{op.attributes['symbol']}", i64, False, 0)
        elif op.name == "copy_in":
            self.flush()
            expressions.scalars[result] = self._scalar_load(op)
        else:
            if any(o not in expressions.scalars or self._pending(o) for o in op.operands):
                self.flush()
            register = expressions.apply(op, [expressions.scalars[o] for o in op.operands], result.name)
            # A value defined inside this scope stays in it.
            expressions.scalars[result] = register

    def _pending(self, value: Value) -> bool:
        return any(value in root.values for root in self.run.roots)

    def _scalar_load(self, op: Op) -> Register:
        access = self.expressions.access(op, ())
        dtype = op.result.type.dtype
        pad = self.expressions.scalars[op.operands[-1]].text
        text = f"od::load1({access.pointer})"
        text = f"bool({text})" if dtype.is_bool else text
        if access.condition is not None:
            text = f"{access.condition} ? {text} : {pad}"
        # At the current level, not further out: stores may come before.
        return self.expressions.define(op.result.name or "element", dtype, False, text, self.code.level)

    def _lower_reduction(self, op: Op) -> None:
        space = shape_of(op.operands[0].type)
        axes = op.attributes["axes"] if op.name == "reduce" else (op.attributes["axis"],)
        external = any(self._used_beyond_run(v) for v in op.results if is_tile(v))
        self.run.roots.append(Root(op.name, op, op.results, space, tuple(axes), external=external))

    # --- tiles that are moved whole ---

    def stored_row_major(self, value: Value) -> Buffer:
        """The value in local memory, row-major without padding between rows. Emits the roots that wait."""
        type = value.type
        assert isinstance(type, TileType)
        known = self.expressions.stored.get(value)
        if known is not None and self._is_dense(known.buffer, type.shape):
            return known.buffer
        buffer = self.dense_buffer(value.name or "dense", type)
        self.put(value, buffer)
        self.flush()
        return buffer

    def put(self, value: Value, target: Buffer, op: Op | None = None) -> Root:
        """A root that evaluates a value into memory that is there already; by `op`, where it is not the value's own."""
        op = op or self._any_op(value)
        root = Root("tile", op, (), shape_of(value.type), source=value, target=target)
        self.run.roots.append(root)
        return root

    def _any_op(self, value: Value) -> Op:
        return self.facts.op(value) or self.kernel.body.terminator

    def dense_buffer(self, hint: str, type: TileType) -> Buffer:
        strides, step = [0] * len(type.shape), 1
        for dim in reversed(range(len(type.shape))):
            strides[dim] = step
            step *= type.shape[dim]
        # Room for a whole vector's store at the end of the last row.
        buffer = Buffer(
            self.code.fresh(hint), type.dtype, type.shape, tuple(range(len(type.shape))), tuple(strides), step + 64
        )
        self.arena.place(buffer)
        return buffer

    @staticmethod
    def _is_dense(buffer: Buffer, shape: tuple[int, ...]) -> bool:
        step = 1
        for dim in reversed(range(len(shape))):
            if buffer.shape[dim] != shape[dim] or (shape[dim] > 1 and buffer.strides[dim] != step):
                return False
            step *= shape[dim]
        return True

    def _lower_reshape(self, op: Op) -> None:
        """A reshape that moves elements between dims: the same dense memory under another shape."""
        source, result = op.operands[0], op.result
        if isinstance(result.type, ScalarType):
            buffer = self.stored_row_major(source)
            text = f"od::load1({buffer.name})"
            dtype = result.type.dtype
            text = f"bool({text})" if dtype.is_bool else text
            name = self.expressions.define(result.name or "element", dtype, False, text, self.code.level)
            self.expressions.scalars[result] = name
            return
        buffer = self.stored_row_major(source)
        assert isinstance(result.type, TileType)
        strides, step = [0] * len(result.type.shape), 1
        for dim in reversed(range(len(result.type.shape))):
            strides[dim] = step
            step *= result.type.shape[dim]
        order = tuple(range(len(strides)))
        alias = Buffer(buffer.name, buffer.dtype, result.type.shape, order, tuple(strides), buffer.elements)
        self.expressions.stored[result] = Stored(alias)

    def _lower_concat(self, op: Op) -> None:
        result, axis = op.result, op.attributes["axis"]
        assert isinstance(result.type, TileType)
        whole = self.new_buffer(result.name or "concat", result.type)
        start = 0
        for operand in op.operands:
            shape = shape_of(operand.type)
            name = self.code.fresh("part")
            element = local_element(whole.dtype)[0]
            part = Buffer(name, whole.dtype, shape, whole.order, whole.strides, whole.elements)
            self.arena.declarations.append(f"{element}* const {name} = {whole.name} + {start * whole.strides[axis]};")
            # Rows of a part end inside the whole: nothing may be stored beyond them.
            self.put(operand, part, op)
            start += shape[axis]
        self.flush()
        self.expressions.stored[result] = Stored(whole)

    def _lower_sort(self, op: Op) -> None:
        source, axis = op.operands[0], op.attributes["axis"]
        type = source.type
        assert isinstance(type, TileType)
        order = (*(d for d in range(len(type.shape)) if d != axis), axis)
        values = make_buffer(self.code.fresh("sorted"), type.dtype, local_element(type.dtype)[1], type.shape, order)
        places = make_buffer(self.code.fresh("places"), i64, 8, type.shape, order)
        size = type.shape[axis]
        spare = make_buffer(self.code.fresh("spare"), i64, 8, (3 * size + 64,))
        for buffer in (values, places, spare):
            self.arena.place(buffer)
        self.put(source, values, op)
        self.flush()
        loops = [d for d in range(len(type.shape)) if d != axis]
        names = {d: self.code.fresh("r") for d in loops}
        for depth, dim in enumerate(loops):
            self.code.line(
                "  " * depth + f"for (od::i64 {names[dim]} = 0; {names[dim]} < {type.shape[dim]}; ++{names[dim]})"
            )
        at = " + ".join([f"{names[d]} * {values.strides[d]}" for d in loops]) or "0"
        at_places = " + ".join([f"{names[d]} * {places.strides[d]}" for d in loops]) or "0"
        descending = "true" if op.attributes["descending"] else "false"
        self.code.line(
            "  " * len(loops)
            + f"od::sort_row<{descending}>({values.name} + {at}, {places.name} + {at_places}, {size}, {spare.name});"
        )
        self.expressions.stored[op.results[0]] = Stored(values)
        self.expressions.stored[op.results[1]] = Stored(places)

    # --- control flow ---

    def _scalar(self, value: Value) -> str:
        return self.expressions.scalars[value].text

    def _need_scalars(self, values: Sequence[Value]) -> None:
        """Emits the roots that wait: control flow begins."""
        self.flush()

    def _lower_parallel(self, op: Op) -> None:
        self.flush()
        if self.in_parallel:
            self._lower_inner_parallel(op)
            return
        code, (body,) = self.code, op.regions
        ranges = [op.operands[i : i + 3] for i in range(0, len(op.operands), 3)]
        order = self.dots.copies.grid_order(op)
        counts = []
        for start, stop, step in ranges:
            counts.append(
                code.define(
                    "count",
                    "od::i64",
                    f"od::trips({self._scalar(start)}, {self._scalar(stop)}, {self._scalar(step)})",
                    code.level,
                )
            )
        total = code.define("total", "od::i64", " * ".join(counts), code.level)
        ordered = self._must_run_in_order(body)
        run = code.fresh("grid")
        outer_arena, self.arena = self.arena, Arena("scratch")
        outer_ordered, self.nests.ordered = self.nests.ordered, ordered
        self.in_parallel = True
        task = self.task = code.fresh("task")
        with code.scope() as scope:
            remaining = task
            for place, axis in reversed(list(enumerate(order))):
                start, _, step = ranges[axis]
                argument = body.arguments[axis]
                index = f"{remaining} % {counts[axis]}" if place else remaining
                text = f"{self._scalar(start)} + ({index}) * {self._scalar(step)}"
                name = code.define(argument.name or "i", "od::i64", text, code.level)
                self.expressions.scalars[argument] = Register(name, i64, False, code.level)
                if place:
                    remaining = code.define("rest", "od::i64", f"{remaining} / {counts[axis]}", code.level)
            setup = self.dots.copies.enter_grid(op, order, counts)
            self.lower_region(body)
            self.flush()
        self.in_parallel = False
        arena, self.arena = self.arena, outer_arena
        self.nests.ordered = outer_ordered
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
        code.line(f"od::run_grid(runtime, {total}, {chunk}, {arena.total()}, {run});")

    def _lower_inner_parallel(self, op: Op) -> None:
        """A parallel loop inside another runs in its thread."""
        (body,) = op.regions
        with self.code.scope() as scope:
            for i, argument in enumerate(body.arguments):
                start, stop, step = (self._scalar(o) for o in op.operands[3 * i : 3 * i + 3])
                name = self.code.fresh(argument.name or "i")
                self.code.line(f"for (od::i64 {name} = {start}; {name} < {stop}; {name} += {step}) {{")
                self.expressions.scalars[argument] = Register(name, i64, False, self.code.level)
            with self.code.scope() as inner:
                for argument in body.arguments:
                    known = self.expressions.scalars[argument]
                    self.expressions.scalars[argument] = Register(known.text, i64, False, self.code.level)
                self.lower_region(body)
                self.flush()
            self.code.lines(inner.lines, 1)
            self.code.line("}" * len(body.arguments))
        self.code.lines(scope.lines)

    def _must_run_in_order(self, body: Region) -> bool:
        """Whether iterations add floats to shared elements: any other order would give other bits."""
        from opdsl.ir.core import walk

        for op in walk(body):
            if op.name == "copy_out" and op.attributes["mode"] == "add" and op.operands[1].type.dtype.is_float:
                return True
        return False

    def _declare_carried(self, values: Sequence[Value], arguments: Sequence[Value]) -> list[Buffer | str]:
        """Variables and buffers for carried values, holding `values`."""
        places: list[Buffer | str] = []
        for value, argument in zip(values, arguments, strict=True):
            if isinstance(argument.type, TileType):
                buffer = self._outgoing_buffer(value) or self.dots.outputs.output_tile(argument, value)
                if buffer is None:
                    buffer = self.new_buffer(argument.name or "carried", argument.type)
                    if not self.dots.outputs.overwrites_first(argument, value, buffer):
                        self.put(value, buffer)
                places.append(buffer)
            else:
                places.append(self.code.fresh(argument.name or "carried"))
        self.flush()
        for value, argument, place in zip(values, arguments, places, strict=True):
            if isinstance(place, str):
                dtype = argument.type.dtype
                self.code.line(f"{REGISTER[dtype]} {place} = {self._scalar(value)};")
        return places

    def _outgoing_buffer(self, value: Value) -> Buffer | None:
        """The memory of a loop's or product's result that nobody but the next loop reads: that loop may go on in it."""
        stored, op = self.expressions.stored.get(value), self.facts.op(value)
        users = self.facts.users[value]
        if (
            stored is None
            or stored.held
            or op is None
            or len(users) != 1
            or users[0][1] is not self.facts.block_of[value]
        ):
            return None
        owned = op.name in CONTROL_OPS or op.name == "dot" or self.plans.is_fused_add(op)
        return stored.buffer if owned else None

    def _bind(self, values: Sequence[Value], places: Sequence[Buffer | str]) -> None:
        """Says that `values` now live in `places`."""
        for value, place in zip(values, places, strict=True):
            if isinstance(place, Buffer):
                self.expressions.stored[value] = Stored(place)
            else:
                self.expressions.scalars[value] = Register(place, value.type.dtype, False, self.code.level)

    def _bind_snapshot(self, values: Sequence[Value], places: Sequence[Buffer | str]) -> None:
        """As `_bind`, for the arguments of a body that will assign to the variables: scalars are read at its start."""
        for value, place in zip(values, places, strict=True):
            if isinstance(place, str):
                dtype = value.type.dtype
                self.expressions.scalars[value] = self.expressions.define(
                    value.name or "now", dtype, False, place, self.code.level
                )
            else:
                self.expressions.stored[value] = Stored(place)

    def _yield_into(self, region: Region, places: Sequence[Buffer | str]) -> None:
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
            known = self.expressions.stored.get(value)
            if known is None or known.buffer is not place:
                inline = value not in self.expressions.stored
                before = assigned - {argument}
                if value in before or (inline and (self._reads(value, before) or self._moves(value, argument))):
                    # Reads what another assignment, or its own, is about to overwrite: take it aside first.
                    aside = self.new_buffer("aside", value.type)  # type: ignore[arg-type]
                    self.put(value, aside)
                    self.flush()
                    self.expressions.stored[value] = Stored(aside)
            if arguments:
                assigned.add(argument)
        for value, place, argument in tiles:
            known = self.expressions.stored.get(value)
            if known is not None and known.buffer is place:
                continue
            inline = value not in self.expressions.stored and self.facts.op(value) is not None
            waiting = any(value in root.values for root in self.run.roots)
            op = self._any_op(value)
            early = any(self._evaluates(root, value) for root in self.run.roots)
            if waiting and arguments and (owner := self._may_own(value, argument)) is not None:
                owner.target = place
                self.run.overwritten.append((argument, owner))
                continue
            if inline and not waiting and not early and self.facts.block_of.get(value) is region:
                root = Root("tile", op, (value,), shape_of(value.type), source=value, target=place)
            else:
                root = Root("tile", op, (), shape_of(value.type), source=value, target=place)
            self.run.roots.append(root)
            if arguments:
                self.run.overwritten.append((argument, root))
        self.flush()
        scalars = [(v, p) for v, p in zip(yielded, places, strict=True) if isinstance(p, str)]
        for value, variable in scalars:
            text = self.expressions.scalars[value].text
            if text != variable:
                self.code.line(f"{variable} = {text};")

    def _may_own(self, value: Value, argument: Value) -> Root | None:
        """The root that waits to keep a value in memory of its own, if it may keep it in the argument's place instead:
        nothing reads the argument after it."""
        roots = self.run.roots
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
            return v in self.expressions.stored or (op is not None and not is_inline(op))

        found = leaves(self.facts, ends, value, at)
        return any(leaf is argument and inside != at for leaf, inside in found)

    def _reads(self, value: Value, targets: set[Value]) -> bool:
        """Whether the evaluation of an inline value reads one of `targets`, also under another shape."""
        if value in targets:
            return True
        op, stored = self.facts.op(value), self.expressions.stored
        if value in stored:
            return any(t in stored and stored[t].buffer.name == stored[value].buffer.name for t in targets)
        if op is None or not is_inline(op):
            return False
        return any(self._reads(o, targets) for o in op.operands)

    def _lower_for(self, op: Op) -> None:
        (body,) = op.regions
        start, stop, step = op.operands[:3]
        places = self._declare_carried(op.operands[3:], body.arguments[1:])
        variable = self.code.fresh(body.arguments[0].name or "i")
        start_text, stop_text, step_text = (self._scalar(o) for o in (start, stop, step))
        self.report.append(f"for {variable}:  # line {op.location.line}")
        mark = len(self.report)
        with self.code.scope() as scope:
            self.expressions.scalars[body.arguments[0]] = Register(variable, i64, False, self.code.level)
            self._bind_snapshot(body.arguments[1:], places)
            self._note_targets(op, body, places)
            self.lower_region(body)
            self._yield_into(body, places)
        self.report[mark:] = ["  " + line for line in self.report[mark:]]
        for line in self.dots.outputs.never_written(body.arguments[1:], places, f"{start_text} >= {stop_text}"):
            self.code.line(line)
        self.code.line(location_comment([op.location]))
        step_constant = constant(self.facts, step)
        directions = {">": "<", "<": ">"} if step_constant is None else {"": "<" if step_constant >= 0 else ">"}
        for sign, before in directions.items():
            if sign:
                self.code.line(f"if ({step_text} {sign} 0)")
            self.code.line(
                f"for (od::i64 {variable} = {start_text}; {variable} {before} {stop_text}; {variable} += {step_text}) {{"
            )
            self.code.lines(scope.lines, 1)
            self.code.line("}")
        self._bind(op.results, places)

    def _note_targets(self, op: Op, body: Region, places: Sequence[Buffer | str]) -> None:
        """Lets a product that is yielded accumulate where the carried value lives."""
        for value, argument, place in zip(body.terminator.operands, body.arguments[1:], places, strict=True):
            if isinstance(place, Buffer) and self.facts.block_of.get(value) is body and value not in body.arguments:
                self.carried_targets[value] = (argument, place)

    def _lower_while(self, op: Op) -> None:
        condition, body = op.regions
        places = self._declare_carried(op.operands, body.arguments)
        with self.code.scope() as scope:
            with self.code.scope() as test:
                self._bind(condition.arguments, places)
                self.lower_region(condition)
                self.flush()
                holds = self._scalar(condition.terminator.operands[0])
                self.code.line(f"if (!({holds})) break;")
            with self.code.scope() as inner:
                self._bind_snapshot(body.arguments, places)
                self.lower_region(body)
                self._yield_into(body, places)
            self.code.lines(test.lines)
            self.code.lines(inner.lines)
        self.code.line(location_comment([op.location]))
        self.code.line("for (;;) {")
        self.code.lines(scope.lines, 1)
        self.code.line("}")
        self._bind(op.results, places)

    def _lower_if(self, op: Op) -> None:
        self.flush()
        condition = self._scalar(op.operands[0])
        places: list[Buffer | str] = []
        for result in op.results:
            if isinstance(result.type, TileType):
                places.append(self.new_buffer(result.name or "chosen", result.type))
            else:
                name = self.code.fresh(result.name or "chosen")
                self.code.line(f"{REGISTER[result.type.dtype]} {name};")
                places.append(name)
        bodies = []
        for region in op.regions:
            with self.code.scope() as scope:
                self.lower_region(region)
                self._yield_into(region, places)
            bodies.append(scope.lines)
        # What both branches share has been defined before the text of the first one.
        self.code.line(location_comment([op.location]))
        for keyword, body in zip((f"if ({condition})", "else"), bodies, strict=True):
            self.code.line(f"{keyword} {{")
            self.code.lines(body, 1)
            self.code.line("}")
        self._bind(op.results, places)

    # --- reports ---

    def _lower_report(self, op: Op) -> None:
        site = len(self.sites)
        kind = op.name
        self.sites.append(Site(kind, op.attributes["text" if kind == "print" else "message"], op))
        if kind == "assert" and not is_tile(op.operands[0]):
            self.flush()
            holds = self._scalar(op.operands[0])
            self.code.line(f"if (!({holds})) {{ od::record_failure(&failed, {site}); return; }}")
            return
        buffers = [self.stored_row_major(o) if is_tile(o) else None for o in op.operands]
        self.flush()
        if kind == "assert":
            size = 1
            for n in shape_of(op.operands[0].type):
                size *= n
            assert buffers[0] is not None
            self.code.line(
                f"if (!od::all_true({buffers[0].name}, {size})) {{ od::record_failure(&failed, {site}); return; }}"
            )
            return
        values = []
        for operand, buffer in zip(op.operands, buffers, strict=True):
            if buffer is None:
                values.append(f"od::reported({self._scalar(operand)})")
            else:
                dims = ", ".join(str(n) for n in shape_of(operand.type))
                values.append(f"od::reported_tile({buffer.name}, {{{dims}}})")
        self.code.line(f"od::report(runtime, {site}{''.join(', ' + v for v in values)});")


ELEMENTARY = (
    *("exp", "exp_nonpositive", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin"),
    *("acos", "atan", "sinh", "cosh", "tanh", "sigmoid", "erf", "atan2", "pow"),
)
