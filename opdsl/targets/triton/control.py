"""Loops, branches, print and assert."""

from __future__ import annotations

from collections.abc import Sequence

from opdsl.ir.core import Op, Point, Region, Slice, Value, walk
from opdsl.ir.ops import print_parts
from opdsl.ir.types import DType, bool_, i32, i64, shape_of
from opdsl.targets.triton.accesses import fill_lanes
from opdsl.targets.triton.elementwise import widened
from opdsl.targets.triton.expression import F8, UNARY, Expression, broadcast_shapes
from opdsl.targets.triton.intervals import is_narrow
from opdsl.targets.triton.slots import initial_place
from opdsl.targets.triton.walk import lower_ops
from opdsl.targets.triton.writer import Writer


def loop_dtype(bounds: Sequence[Expression]) -> DType:
    """The type of a loop's variable."""
    wide = any(not is_narrow((int(b.number or 0),) * 2) if b.is_literal else b.dtype is i64 for b in bounds)
    return i64 if wide else i32


def _accesses(op: Op) -> tuple[set[Value], set[Value]]:
    """The tensors that are read and written inside an op."""
    read: set[Value] = set()
    written: set[Value] = set()
    for region in op.regions:
        for inner in walk(region):
            if inner.name == "copy_in":
                read.add(inner.operands[0])
            elif inner.name == "copy_out":
                written.add(inner.operands[1])
    return read, written


def _hazard(w: Writer, op: Op) -> bool:
    """Whether an iteration may read what an earlier one wrote: then reads may not be moved ahead."""
    read, written = _accesses(op)
    return any(w.facts.shared(a, b) for a in read for b in written)


def _repeated(w: Writer, op: Op) -> None:
    """At the start of an iteration, all that the body does may just have been done."""
    for inner in walk(op.regions[-1]):
        if inner.name == "copy_in":
            w.reads.append((inner.operands[0], inner))
        elif inner.name == "copy_out":
            if not _moves_on(w, op, inner):
                w.disjoint.discard(inner)
            w.writes.append((inner.operands[1], inner))


def _moves_on(w: Writer, loop: Op, write: Op) -> bool:
    """Whether every iteration of a loop writes other elements: a slice that begins at the loop's variable."""
    if loop.name != "for":
        return False
    variable = loop.regions[0].arguments[0]
    low, high = w.interval(loop.operands[2])
    if low != high:
        return False
    return any(
        start is variable
        and (isinstance(spec, Point) or (isinstance(spec, Slice) and spec.length * spec.step <= abs(low)))
        for spec, start in zip(write.attributes["index"], write.operands[2:], strict=True)
    )


def _stages(w: Writer, op: Op) -> int:
    if op.attributes["kind"] != "pipelined" or _hazard(w, op):
        return 1
    return w.options.num_stages or int(op.attributes["depth"])


def _enter(w: Writer, op: Op, region: Region, skip: int) -> None:
    for argument in region.arguments[skip:]:
        w.table[argument] = w.slot_expression(w.slots[argument], argument)


def _begin(w: Writer, op: Op) -> None:
    """The loop's variables get their first values."""
    first = initial_place(op)
    targets = []
    for number, result in enumerate(op.results):
        initial = op.operands[first + number]
        targets.append((w.slots[result], w.full(initial)))
    w.assign_all(targets)
    w.flush({w.slots[result].name for result in op.results})


def _finish(w: Writer, op: Op) -> None:
    for result in op.results:
        w.table[result] = w.slot_expression(w.slots[result], result)


def _yields(w: Writer, region: Region, results: Sequence[Value]) -> None:
    operands = region.terminator.operands
    w.assign_all([(w.slots[result], w.full(value)) for result, value in zip(results, operands, strict=True)])


def for_loop(w: Writer, op: Op) -> None:
    (body,) = op.regions
    _begin(w, op)
    bounds = [w.value(operand) for operand in op.operands[:3]]
    variable = body.arguments[0]
    low, high = w.interval(op.operands[2])
    w.comment()
    stages = _stages(w, op)
    with w.code.scope() as inner:
        name = w.code.fresh(variable.name or "i")
        if low > 0 or (bounds[2].is_literal and high < 0):
            header = f"for {name} in {range_text(bounds, stages)}:"
            w.table[variable] = Expression(name, (), loop_dtype(bounds), level=w.code.level)
        else:
            header = _counted(w, op, bounds, name, variable)
        _enter(w, op, body, 1)
        _repeated(w, op)
        lower_ops(w, body.ops[:-1])
        _yields(w, body, op.results)
    w.code.block(header, inner)
    _finish(w, op)


def range_text(bounds: Sequence[Expression], stages: int) -> str:
    start, stop, step = (b.text for b in bounds)
    texts = [stop] if (start, step) == ("0", "1") else [start, stop] if step == "1" else [start, stop, step]
    if stages > 1:
        return f"tl.range({', '.join(['0', stop] if len(texts) == 1 else texts)}, num_stages={stages})"
    return f"range({', '.join(texts)})"


def _counted(w: Writer, op: Op, bounds: list[Expression], name: str, variable: Value) -> str:
    """A loop whose step has an unknown sign: count the iterations first."""
    start, stop, step = (w.typed(w.to(b, i64), i64) for b in bounds)
    count = w.make(f"{w.helper('_iterations')}({start.text}, {stop.text}, {step.text})", [start, stop, step], i64)
    count = w.name(count, "iterations", w.code.level - 1)
    number = w.code.fresh("iteration")
    step_text = step.inside(7)
    w.code.line(f"{name} = {start.inside(6)} + {number} * {step_text}")
    w.table[variable] = Expression(name, (), i64, level=w.code.level)
    return f"for {number} in range({count.text}):"


def while_loop(w: Writer, op: Op) -> None:
    condition, body = op.regions
    _begin(w, op)
    w.comment()
    with w.code.scope() as trial:
        _enter(w, op, condition, 0)
        reads, writes = list(w.reads), list(w.writes)
        lower_ops(w, condition.ops[:-1])
        simple = w.value(condition.terminator.operands[0])
        lines = [line for line in trial.lines if not line.lstrip().startswith("#")]
    w.reads, w.writes = reads, writes
    if not lines:
        with w.code.scope() as inner:
            _enter(w, op, body, 0)
            _repeated(w, op)
            lower_ops(w, body.ops[:-1])
            _yields(w, body, op.results)
        w.code.block(f"while {w.typed(simple).text}:", inner)
        _finish(w, op)
        return
    again = w.code.fresh("again")

    def test() -> None:
        _enter(w, op, condition, 0)
        lower_ops(w, condition.ops[:-1])
        found = w.materialize(w.value(condition.terminator.operands[0]), (), bool_)
        w.code.line(f"{again} = {found.text}")

    test()
    with w.code.scope() as inner:
        _enter(w, op, body, 0)
        _repeated(w, op)
        lower_ops(w, body.ops[:-1])
        _yields(w, body, op.results)
        test()
    w.code.block(f"while {again}:", inner)
    _finish(w, op)


def branch(w: Writer, op: Op) -> None:
    condition = w.typed(w.value(op.operands[0]))
    if any(result not in w.slots for result in op.results):
        _choose(w, op, condition)
        return
    w.flush({w.slots[result].name for result in op.results})
    w.comment()
    before = list(w.reads), list(w.writes)
    after: list[tuple[list[tuple[Value, Op]], list[tuple[Value, Op]]]] = []
    scopes = []
    for region in op.regions:
        w.reads, w.writes = list(before[0]), list(before[1])
        with w.code.scope() as inner:
            lower_ops(w, region.ops[:-1])
            _yields(w, region, op.results)
        scopes.append(inner)
        after.append((w.reads, w.writes))
    w.reads = [*after[0][0], *after[1][0]]
    w.writes = [*after[0][1], *after[1][1]]
    empty = [not any(not line.lstrip().startswith("#") for line in scope.lines) for scope in scopes]
    if empty[0] and not empty[1]:
        w.code.block(f"if not {condition.inside(UNARY)}:", scopes[1])
    elif not empty[0]:
        w.code.block(f"if {condition.text}:", scopes[0])
        if not empty[1]:
            w.code.block("else:", scopes[1])
    _finish(w, op)


def _choose(w: Writer, op: Op, condition: Expression) -> None:
    """A branch in a combine function that runs on whole blocks: both sides are pure."""
    for region in op.regions:
        if any(inner.name in ("for", "while", "copy_out", "print", "assert") for inner in walk(region)):
            raise w.refuse("does not run loops or stores in a combine function", "compute it outside of the function")
        lower_ops(w, region.ops[:-1])
    for result, a, b in zip(op.results, *(region.terminator.operands for region in op.regions), strict=True):
        chosen, other = w.value(a), w.value(b)
        if chosen.is_literal and other.is_literal:
            chosen = w.typed(chosen)
        w.bind(result, w.call("tl.where", condition, chosen, other, dtype=result.type.dtype))


def parallel(w: Writer, op: Op) -> None:
    """Iterations that are not the grid: a loop for each range, one inside the other."""
    (body,) = op.regions

    def nest(axis: int) -> None:
        if axis == len(body.arguments):
            lower_ops(w, body.ops[:-1])
            return
        bounds = [w.value(operand) for operand in op.operands[3 * axis : 3 * axis + 3]]
        variable = body.arguments[axis]
        low, high = w.interval(op.operands[3 * axis + 2])
        w.comment()
        with w.code.scope() as inner:
            name = w.code.fresh(variable.name or "i")
            if low > 0 or (bounds[2].is_literal and high < 0):
                header = f"for {name} in {range_text(bounds, 1)}:"
                w.table[variable] = Expression(name, (), loop_dtype(bounds), level=w.code.level)
            else:
                header = _counted(w, op, bounds, name, variable)
            nest(axis + 1)
        w.code.block(header, inner)

    nest(0)


def print_values(w: Writer, op: Op) -> None:
    parts = print_parts(op.attributes["text"])
    w.comment()
    if not op.operands:
        w.code.line(f"tl.device_print({_quoted(parts[0])})")
    for text, operand in zip(parts, op.operands, strict=False):
        shown = w.value(operand)
        dtype = operand.type.dtype
        if dtype in F8:
            shown = widened(w, shown, dtype)
        shown = w.typed(shown)
        w.code.line(f"tl.device_print({_quoted(text.strip() or operand.name)}, {shown.text})")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def check(w: Writer, op: Op) -> None:
    """An assertion leaves a mark in memory, which the host looks at: a trap would cost the process its GPU context."""
    (condition,) = op.operands
    number = len(w.facts.asserts)
    w.facts.asserts.append((op.attributes["message"], op))
    w.asserts = True
    w.comment()
    good = w.value(condition)
    if good.shape:
        good = fill_lanes(w, good, shape_of(condition.type), broadcast_shapes(w.lanes(condition)), True)
        good = w.make(f"tl.min({w.to(good, i32).text}) != 0", [good], bool_, shape=(), binding=1)
    elif good.is_literal:
        good = w.typed(good)
    failures = w.facts.names.failures
    place = failures if number == 0 else f"{failures} + {number}"
    w.code.line(f"tl.store({place}, 1, mask=~{good.inside(UNARY)})")
