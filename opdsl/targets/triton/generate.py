"""From a request to Triton source: passes, sections, functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from opdsl.ir.core import Kernel, Op, Value, walk
from opdsl.ir.types import DType, TensorType, f32, f64, i64
from opdsl.passes.lengthen import shorten_products
from opdsl.passes.pipeline import STANDARD, NamedPass, run_passes
from opdsl.targets.base import Request
from opdsl.targets.triton import lowering as _handlers  # noqa: F401 - fills the table of handlers
from opdsl.targets.triton.arch import Arch
from opdsl.targets.triton.code import INDENT, WIDTH
from opdsl.targets.triton.control import loop_dtype
from opdsl.targets.triton.elementwise import LIBRARY
from opdsl.targets.triton.expression import F8, SIGNATURE_NAMES, Expression
from opdsl.targets.triton.helpers_text import helpers_text
from opdsl.targets.triton.intervals import Intervals, is_narrow
from opdsl.targets.triton.padding import Padding
from opdsl.targets.triton.sections import Section, split
from opdsl.targets.triton.slots import plan_slots
from opdsl.targets.triton.source import AssertSite, Generated, Launch, LaunchArgument
from opdsl.targets.triton.walk import lower_ops
from opdsl.targets.triton.writer import Facts, Options, Writer, gather_users

LONGEST_STEP = 32
GROUP = 8  # rows of tiles that run side by side, so that they share tiles of the other operand in the L2 cache


def read_options(given: Mapping[str, Any]) -> Options:
    """The options of a request; names that are not of this target are an error."""
    known = {f.name for f in fields(Options)}
    unknown = sorted(set(given) - known - {"aliases"})
    if unknown:
        raise ValueError(f"the target triton has no option {unknown[0]!r}; its options are {', '.join(sorted(known))}")
    return Options(**{name: value for name, value in given.items() if name in known})


def longest_step(dtype: DType, options: Options) -> int | None:
    """How much of a product's sum a step takes where Triton writes out every multiplication: in full precision."""
    written_out = dtype is f64 or (dtype is f32 and options.precision == "ieee")
    return LONGEST_STEP if written_out else None


def generate(request: Request, arch: Arch, record: dict[str, str] | None = None) -> Generated:
    """The Triton source of a kernel. Raises CompileError for what this target cannot do."""
    options = read_options(request.options)
    shorten = NamedPass("shorten", lambda kernel: shorten_products(kernel, lambda dtype: longest_step(dtype, options)))
    kernel = run_passes(request.kernel, (*STANDARD, shorten), compositions=LIBRARY, record=record)
    aliases = request.options.get("aliases")
    users, region_of = gather_users(kernel)

    def shared(a: Value, b: Value) -> bool:
        if a is b:
            return True
        if not request.may_alias:
            return False
        if aliases is None:
            return True
        places = frozenset(kernel.parameters.index(v) for v in (a, b))
        return places in aliases

    facts = Facts(
        kernel,
        arch,
        options,
        Intervals(kernel, options.index_bits),
        Padding(kernel),
        users,
        region_of,
        dict(zip(kernel.parameters, request.unit_axes, strict=True)),
        shared,
    )
    sections = split(kernel, shared)
    functions, launches = [], []
    for number, section in enumerate(sections):
        name = facts.names.function if len(sections) == 1 else f"{facts.names.function}_{number + 1}"
        text, launch = _Function(facts, section, name).write()
        functions.append(text)
        launches.append(launch)
    text = "\n\n\n".join([_header(kernel, arch, facts), *helpers_text(facts.helpers), *functions]) + "\n"
    asserts = tuple(AssertSite(message, op.location) for message, op in facts.asserts)
    return Generated(text, tuple(launches), asserts)


def _header(kernel: Kernel, arch: Arch, facts: Facts) -> str:
    imports = ["import triton", "import triton.language as tl"]
    helpers = "\n".join(helpers_text(facts.helpers))
    if facts.uses_libdevice or "libdevice." in helpers:
        imports.append("from triton.language.extra import libdevice")
    where = Path(kernel.source.file).name
    return f'"""The kernel {kernel.name} of {where}, written by OpDSL for {arch.name}."""\n\n' + "\n".join(imports)


class _Function:
    """One generated function."""

    def __init__(self, facts: Facts, section: Section, name: str) -> None:
        self.facts = facts
        self.section = section
        self.name = name
        self.w = Writer(facts, frozenset({name, *facts.names.taken}))
        self.persistent = False
        self.programs = "1"

    def write(self) -> tuple[str, Launch]:
        w, section = self.w, self.section
        ops = [*section.setup, *section.serial]
        plan_slots(w, ops)
        lower_ops(w, ops)
        if section.grid is not None:
            plan_slots(w, section.grid.regions[0].ops)
            self._grid(section.grid)
        arguments = self._arguments()
        body = w.code.scopes[0].lines
        signature = f"def {self.name}({', '.join(a.name for a in arguments)}):"
        if len(signature) > WIDTH:
            signature = f"def {self.name}(\n{self._long_signature(arguments)}\n):"
        self.facts.uses_libdevice |= any("libdevice." in line for line in body)
        warps = self.facts.options.num_warps or self._warps()
        stages = max(self._depths(), default=1)
        options: dict[str, Any] = {"enable_fp_fusion": self.facts.options.fp_fusion}
        if self.facts.options.maxnreg is not None and self.facts.arch.vendor == "cuda":
            options["maxnreg"] = self.facts.options.maxnreg
        launch = Launch(self.name, tuple(arguments), self.programs, self.persistent, warps, stages, options)
        return "\n".join(["@triton.jit", signature, *body]), launch

    @staticmethod
    def _long_signature(arguments: Sequence[LaunchArgument]) -> str:
        """A line for the tensors and scalars, one for dims, one for strides."""
        lines = []
        for kinds in (("pointer", "scalar"), ("dim",), ("stride",), ("report",)):
            row = ""
            for argument in arguments:
                if argument.kind in kinds:
                    if len(row) + len(argument.name) > WIDTH - 8:
                        lines.append(f"{INDENT}{row.rstrip()}")
                        row = ""
                    row += f"{argument.name}, "
            if row:
                lines.append(f"{INDENT}{row.rstrip()}")
        return "\n".join(lines)

    # --- launching ---------------------------------------------------------------------------------------------------

    def _arguments(self) -> list[LaunchArgument]:
        w, kernel = self.w, self.facts.kernel
        found: list[LaunchArgument] = []
        index = "i32" if self.facts.options.index_bits == 32 else "i64"
        names = self.facts.names
        for place, value in enumerate(kernel.parameters):
            if value not in w.used:
                continue
            dtype, name = value.type.dtype, names.parameters[value]
            if isinstance(value.type, TensorType):
                aligned = self._aligned(kernel.parameter_names[place], -1)
                found.append(LaunchArgument(name, "pointer", f"*{SIGNATURE_NAMES[dtype]}", place, aligned=aligned))
            else:
                type = "i32" if dtype.is_bool else "fp32" if dtype in F8 else SIGNATURE_NAMES[dtype]
                found.append(LaunchArgument(name, "scalar", type, place))
        for symbol in w.dims:
            place, axis = self._first_use(symbol)
            aligned = self._aligned(kernel.parameter_names[place], axis, "dim")
            found.append(LaunchArgument(names.dims[symbol], "dim", index, place, axis, aligned))
        strides = sorted(w.strides, key=lambda pair: (kernel.parameters.index(pair[0]), pair[1]))
        for tensor, axis in strides:
            place = kernel.parameters.index(tensor)
            aligned = self._aligned(kernel.parameter_names[place], axis, "stride")
            found.append(LaunchArgument(names.strides[(tensor, axis)], "stride", index, place, axis, aligned))
        if w.asserts:
            found.append(LaunchArgument(names.failures, "report", "*i32", aligned=True))
        return found

    def _aligned(self, parameter: str, axis: int, kind: str = "pointer") -> bool:
        aligned = self.facts.options.aligned
        return aligned is None or (parameter, kind, axis) in aligned

    def _first_use(self, symbol: str) -> tuple[int, int]:
        for place, value in enumerate(self.facts.kernel.parameters):
            if isinstance(value.type, TensorType) and symbol in value.type.dims:
                return place, value.type.dims.index(symbol)
        raise KeyError(symbol)

    def _depths(self) -> list[int]:
        roots = [*self.section.setup, *self.section.serial, *([self.section.grid] if self.section.grid else [])]
        ops = [*roots, *(inner for op in roots for region in op.regions for inner in walk(region))]
        depths = [op.attributes["depth"] for op in ops if op.name == "for" and op.attributes["kind"] == "pipelined"]
        return [self.facts.options.num_stages or depth for depth in depths]

    def _warps(self) -> int:
        """Warps by the size of the largest tile: some 8 to 32 elements a thread, and four at least for products."""
        elements = self.w.largest_tile
        if self.w.has_dot:
            return 8 if self.w.largest_dot >= 128 * 128 or (self.w.written_out and self.w.largest_dot >= 64 * 64) else 4
        wanted = elements // 512
        for warps in (8, 4, 2):
            if wanted >= warps:
                return warps
        return 1

    # --- the grid ----------------------------------------------------------------------------------------------------

    def _grid(self, op: Op) -> None:
        w = self.w
        w.current = op
        (body,) = op.regions
        rank = len(body.arguments)
        steps = [w.interval(op.operands[3 * axis + 2]) for axis in range(rank)]
        simple = all(low == high > 0 for low, high in steps)
        host = [self._host_count(op, axis) for axis in range(rank)] if simple else [None]
        tiled = rank >= 2 and all(low > 1 for low, _ in steps[-2:]) and self._has_dot(op)
        self.persistent = tiled or any(text is None for text in host)
        self.programs = "" if None in host else " * ".join(str(text) for text in host)
        w.comment()
        if self.persistent:
            counts = [self._count(op, axis, simple) for axis in range(rank)]
            total = w.name(self._product(counts), "tiles")
            with w.code.scope() as inner:
                tile = w.code.fresh("tile")
                number = Expression(tile, (), total.dtype, level=w.code.level)
                self._decode(op, number, counts, simple, tiled)
                lower_ops(w, body.ops[:-1])
            w.code.block(f"for {tile} in range(tl.program_id(0), {total.text}, tl.num_programs(0)):", inner)
            return
        counts = [None, *(self._count(op, axis, simple) for axis in range(1, rank))]  # type: ignore[list-item]
        if rank == 1:
            number = Expression("tl.program_id(0)", (), loop_dtype([]), level=1)
        else:
            name = w.code.fresh("program")
            w.code.line(f"{name} = tl.program_id(0)")
            number = Expression(name, (), loop_dtype([]), level=1)
        self._decode(op, number, counts, simple, False)
        w.code.scopes[-1].comment = ""
        lower_ops(w, body.ops[:-1])

    @staticmethod
    def _has_dot(op: Op) -> bool:
        return any(inner.name == "dot" for region in op.regions for inner in walk(region))

    def _product(self, counts: Sequence[Expression]) -> Expression:
        total = counts[0]
        for count in counts[1:]:
            total = self.w.binary("*", total, count, i64 if i64 in (total.dtype, count.dtype) else total.dtype)
        return total

    def _count(self, op: Op, axis: int, simple: bool) -> Expression:
        """The number of iterations of a range, on the device."""
        w = self.w
        start, stop, step = (w.value(v) for v in op.operands[3 * axis : 3 * axis + 3])
        variable = op.regions[0].arguments[axis]
        hint = f"tiles_{variable.name or axis}"
        dtype = loop_dtype([start, stop])
        if not simple:
            parts = [w.typed(w.to(e, i64), i64) for e in (start, stop, step)]
            text = f"{w.helper('_iterations')}({', '.join(p.text for p in parts)})"
            return w.name(w.make(text, parts, i64), hint)
        extent = stop
        if not (start.is_literal and start.number == 0):
            extent = w.binary("-", stop, start, dtype)
        if step.number == 1:
            return w.name(extent, hint)
        return w.name(w.make(f"tl.cdiv({extent.text}, {step.text})", [extent], dtype), hint)

    def _decode(
        self, op: Op, number: Expression, counts: Sequence[Expression | None], simple: bool, swizzled: bool
    ) -> None:
        """The grid's variables from the number of a tile: the last one changes first."""
        w = self.w
        arguments = op.regions[0].arguments
        rank = len(arguments)
        places: list[Expression] = []
        rest = number
        for axis in reversed(range(rank)):
            count = counts[axis]
            if axis == 0 or count is None:
                places.append(rest)
                break
            places.append(w.binary("%", rest, count, rest.dtype))
            rest = w.binary("//", rest, count, rest.dtype)
        places.reverse()
        if swizzled:
            names = [w.code.fresh(f"tile_{v.name or axis}") for axis, v in enumerate(arguments) if axis >= rank - 2]
            tiles = [c for c in counts[-2:] if c is not None]
            inner = ", ".join([*(p.text for p in places[-2:]), *(c.text for c in tiles), str(GROUP)])
            w.code.line(f"{', '.join(names)} = tl.swizzle2d({inner})")
            places[-2:] = [Expression(name, (), number.dtype, level=w.code.level) for name in names]
        for axis, (variable, place) in enumerate(zip(arguments, places, strict=True)):
            start, _, step = (w.value(v) for v in op.operands[3 * axis : 3 * axis + 3])
            narrow = is_narrow(w.interval(variable))
            value = place if narrow or place.dtype is i64 else w.to(place, i64)
            if not (step.is_literal and step.number == 1):
                value = w.binary("*", value, step, value.dtype)
            if not (start.is_literal and start.number == 0):
                value = w.binary("+", start, value, value.dtype)
            name = w.code.fresh(variable.name or "i")
            w.code.line(f"{name} = {value.text}")
            dtype = value.dtype if narrow else i64
            w.table[variable] = Expression(name, (), dtype, level=w.code.level)

    # --- sizes on the host -------------------------------------------------------------------------------------------

    def _host_count(self, op: Op, axis: int) -> str | None:
        start, stop, step = op.operands[3 * axis : 3 * axis + 3]
        low = self._host_text(start)
        high = self._host_text(stop)
        by = self._host_text(step)
        if low is None or high is None or by is None:
            return None
        extent = high if low == "0" else f"{high} - ({low})"
        count = f"cdiv({extent}, {by})"
        if by == "1":
            count = extent if extent.isidentifier() else f"({extent})"
        least = self.w.interval(stop)[0] - self.w.interval(start)[1]
        return count if least >= 0 else f"max(0, {count})"

    def _host_text(self, value: Value) -> str | None:
        """A run-time scalar as the host can compute it, or None."""
        op = self.w.intervals.definition.get(value)
        kernel = self.facts.kernel
        if op is None:
            if value in kernel.parameters and value.type.dtype.is_integer:
                self.w.used[value] = None
                return self.facts.names.parameters[value]
            return None
        if op.name == "constant":
            return str(int(op.attributes["value"]))
        if op.name == "dim":
            return self.w.dim(op.attributes["symbol"]).text
        operands = [self._host_text(operand) for operand in op.operands]
        if any(text is None for text in operands) or value.type.dtype is not i64:
            return None
        if op.name in ("add", "sub", "mul"):
            sign = {"add": "+", "sub": "-", "mul": "*"}[op.name]
            return f"({operands[0]} {sign} {operands[1]})"
        if op.name in ("min", "max", "floordiv", "mod"):
            return f"{op.name}({operands[0]}, {operands[1]})"
        if op.name == "neg":
            return f"(-{operands[0]})"
        if op.name == "cast":
            source = op.operands[0].type.dtype
            return operands[0] if source.is_integer else None
        return None
