"""Reductions and scans. Lanes beyond the tile hold the operation's identity while it runs."""

from __future__ import annotations

from dataclasses import replace

from opdsl.ir.core import Op, Region, Value, walk
from opdsl.ir.ops import OPS
from opdsl.ir.semantics.identities import identity
from opdsl.ir.types import DType, bool_, i32, i64, shape_of
from opdsl.targets.triton.accesses import fill_lanes, lane_numbers, placed, scalar_of
from opdsl.targets.triton.elementwise import narrowed, widened
from opdsl.targets.triton.expression import F8, HALF, Expression, Number, Shape, literal
from opdsl.targets.triton.shapes import take
from opdsl.targets.triton.walk import lower_ops
from opdsl.targets.triton.writer import Slot, Writer

COMBINE = {"sum": "_add", "prod": "_multiply", "max": "_maximum", "min": "_minimum"}
UNROLLED = 8  # steps of a custom reduction that are written out


def _whole(w: Writer, expression: Expression, value: Value) -> Expression:
    """A value with all its lanes, in the type that it has."""
    held = i32 if expression.dtype is i32 else value.type.dtype
    return w.materialize(expression, w.lanes(value), held)


def _identity(kind: str, dtype: DType) -> Number:
    number = identity(kind, dtype)
    if kind in ("sum", "prod"):
        return float(number) if dtype.is_float else int(number)
    return number


def _combine_name(w: Writer, kind: str, dtype: DType) -> str:
    name = COMBINE[kind]
    return w.helper(f"_integer{name}" if kind in ("max", "min") and not dtype.is_float else name)


def _wide(dtype: DType) -> DType:
    """What a reduction of `dtype` is computed in."""
    from opdsl.ir.types import f32

    if dtype in F8 or dtype in HALF:
        return f32
    if dtype.is_bool or (dtype.is_integer and dtype.bits < 32):
        return i32
    return dtype


def _widened(w: Writer, expression: Expression, dtype: DType) -> Expression:
    return widened(w, expression, dtype) if dtype.is_float else w.to(expression, _wide(dtype))


def reduce(w: Writer, op: Op) -> None:
    (source,) = op.operands
    (result,) = op.results
    kind, axes = op.attributes["kind"], tuple(op.attributes["axes"])
    dtype, target = source.type.dtype, result.type.dtype
    logical, lanes = shape_of(source.type), w.lanes(source)
    expression = w.value(source)
    if kind in ("any", "all"):
        kind, compute = ("max" if kind == "any" else "min"), i32
        number: Number = 0 if kind == "max" else 1
        expression = w.to(w.materialize(expression, lanes, bool_), i32)
    else:
        compute = target if target.is_integer and target.bits == 32 and kind in ("sum", "prod") else _wide(dtype)
        narrow = kind in ("min", "max") and expression.dtype is i32 and dtype is i64
        compute = i32 if narrow else compute
        number = _identity(kind, compute if kind in ("sum", "prod") else dtype if not narrow else i32)
        expression = _whole(w, expression, source)
        if dtype.is_float:
            expression = widened(w, expression, dtype)
        expression = w.to(expression, compute)
    expression = fill_lanes(w, expression, logical, lanes, number, axes)
    reduced = _reduced(w, expression, kind, axes, compute)
    if op.attributes["kind"] in ("any", "all") or target.is_bool:
        reduced = w.binary("!=", reduced, literal(0, i32), bool_)
    elif target in F8:
        reduced = narrowed(w, reduced, target)
    elif not (target is i64 and reduced.dtype is i32):
        reduced = w.to(reduced, target)
    w.bind(result, reduced)


def _reduced(w: Writer, expression: Expression, kind: str, axes: tuple[int, ...], dtype: DType) -> Expression:
    """One reduction for each axis, the last first; all of them at once where nothing is left."""
    shape: Shape = expression.shape
    order: list[int | None] = [*sorted(axes, reverse=True)]
    if len(axes) == len(shape):
        order = [None]
    for axis in order:
        shape = () if axis is None else (*shape[:axis], *shape[axis + 1 :])
        where = "" if axis is None else f", axis={axis}"
        if kind == "sum":
            text = f"tl.sum({expression.text}{where})"
        elif kind in ("max", "min") and not dtype.is_float:
            text = f"tl.{kind}({expression.text}{where})"
        else:
            text = f"tl.reduce({expression.text}, {axis}, {_combine_name(w, kind, dtype)})"
        expression = w.make(text, [expression], dtype, shape=shape)
    return expression


def arg_reduce(w: Writer, op: Op) -> None:
    (source,) = op.operands
    (result,) = op.results
    kind, axis = op.attributes["kind"], op.attributes["axis"]
    dtype = source.type.dtype
    logical, lanes = shape_of(source.type), w.lanes(source)
    held = w.materialize(w.value(source), lanes, dtype)
    expression = _widened(w, held, dtype)
    compute = expression.dtype
    expression = fill_lanes(w, expression, logical, lanes, _extreme(kind, compute), (axis,))
    places = w.materialize(placed(w, lane_numbers(w, lanes[axis]), len(lanes), axis), lanes, i32)
    name = w.helper(f"_{'' if dtype.is_float else 'integer_'}arg{kind}")
    shape = (*lanes[:axis], *lanes[axis + 1 :])
    text = f"tl.reduce(({expression.text}, {places.text}), {axis}, {name})[1]"
    w.bind(result, w.make(text, [expression, places], i32, shape=shape))


def _extreme(kind: str, dtype: DType) -> Number:
    """What every element beats, or is equal to at an earlier place."""
    return identity(kind, dtype)


# --- scans -----------------------------------------------------------------------------------------------------------


def scan(w: Writer, op: Op) -> None:
    (source,) = op.operands
    (result,) = op.results
    kind, axis, reverse = op.attributes["kind"], op.attributes["axis"], op.attributes["reverse"]
    dtype, target = source.type.dtype, result.type.dtype
    logical, lanes = shape_of(source.type), w.lanes(source)
    compute = target if target.is_integer and target.bits == 32 and kind in ("sum", "prod") else _wide(dtype)
    number = _identity(kind, compute if kind in ("sum", "prod") else dtype)
    expression = w.materialize(w.value(source), lanes, dtype)
    if dtype.is_float:
        expression = widened(w, expression, dtype)
    expression = w.to(expression, compute)
    if op.attributes["exclusive"]:
        expression = _shifted(w, expression, logical[axis], axis, reverse, number)
    if reverse or op.attributes["exclusive"]:
        expression = fill_lanes(w, expression, logical, lanes, number, (axis,))
    if lanes[axis] > 1:
        backwards = ", reverse=True" if reverse else ""
        if kind == "sum":
            text = f"tl.cumsum({expression.text}, axis={axis}{backwards})"
        else:
            text = f"tl.associative_scan({expression.text}, {axis}, {_combine_name(w, kind, compute)}{backwards})"
        expression = w.make(text, [expression], compute, shape=lanes)
    if target.is_bool:
        expression = w.binary("!=", expression, literal(0, i32), bool_)
    elif target in F8:
        expression = narrowed(w, expression, target)
    else:
        expression = w.to(expression, target)
    w.bind(result, expression.with_fill(None))


def _shifted(w: Writer, expression: Expression, size: int, axis: int, reverse: bool, number: Number) -> Expression:
    """Every element one place on along an axis, and the identity in the first place."""
    shape = expression.shape
    rank = len(shape)
    lane = lane_numbers(w, shape[axis])
    first = literal(size - 1 if reverse else 0, i32)
    at_first = placed(w, w.binary("==", lane, first, bool_), rank, axis)
    if shape[axis] == 1:
        moved = expression
    else:
        text = f"tl.minimum({lane.text} + 1, {shape[axis] - 1})" if reverse else f"tl.maximum({lane.text} - 1, 0)"
        places = w.materialize(placed(w, Expression(text, (shape[axis],), i32), rank, axis), shape, i32)
        moved = w.make(
            f"tl.gather({expression.text}, {places.text}, {axis})", [expression], expression.dtype, shape=shape
        )
    return w.call("tl.where", at_first, literal(number, expression.dtype), moved, dtype=expression.dtype)


# --- custom combine functions ------------------------------------------------------------------------------------------


def _inline(w: Writer, op: Op, region: Region, arguments: list[Expression]) -> list[Expression]:
    """The combine function on whole blocks, in the place of its one call."""
    for inner in walk(region):
        category = OPS[inner.name].category
        if category != "elementwise" and inner.name not in ("constant", "dim", "if", "yield"):
            w.current = inner
            raise w.refuse(
                f"does not run '{inner.name}' inside a combine function",
                "compute it outside of the function, or with elementwise operations",
            )
    for value, expression in zip(region.arguments, arguments, strict=True):
        w.table[value] = expression
    lower_ops(w, region.ops[:-1])
    found = []
    for value in region.terminator.operands:
        expression = w.value(value)
        found.append(expression)
    w.current = op
    return found


def _sources(w: Writer, op: Op) -> list[Expression]:
    return [w.name(w.materialize(w.value(v), w.lanes(v), v.type.dtype), v.name or "source") for v in op.operands]


def reduce_custom(w: Writer, op: Op) -> None:
    """Left to right along the axis, over all other axes at once. A function may be anything, so no order but the
    written one will do."""
    axis = op.attributes["axis"]
    size = shape_of(op.operands[0].type)[axis]
    sources = _sources(w, op)
    slots = [w.code.fresh(r.name or "reduced") for r in op.results]
    w.comment()
    lanes = w.lanes(op.operands[0])
    kept = (*lanes[:axis], 1, *lanes[axis + 1 :])

    def item(source: Expression, place: str) -> Expression:
        return w.materialize(take(w, source, axis, place, True), kept, source.dtype)

    accumulated = []
    for slot, source in zip(slots, sources, strict=True):
        w.code.line(f"{slot} = {item(source, '0').text}")
        accumulated.append(Expression(slot, kept, source.dtype, reads=frozenset({slot}), level=w.code.level))
    if size > 1:
        with w.code.scope() as inner:
            place = w.code.fresh("place")
            items = [w.name(item(source, place), "element") for source in sources]
            combined = _inline(w, op, op.regions[0], [*accumulated, *items])
            made = [w.materialize(c, kept, s.dtype) for c, s in zip(combined, sources, strict=True)]
            w.assign_all([(Slot(slot), e) for slot, e in zip(slots, made, strict=True)])
        w.code.block(f"for {place} in range(1, {size}):", inner)
    for result, expression in zip(op.results, accumulated, strict=True):
        left = w.lanes(result)
        if left:
            done = w.make(f"tl.reshape({expression.text}, {list(left)})", [expression], expression.dtype, shape=left)
        else:
            done = scalar_of(w, expression)
        w.bind(result, done, keep=True)


def scan_custom(w: Writer, op: Op) -> None:
    """Left to right, or from the right with the accumulated value as the left operand."""
    axis, reverse = op.attributes["axis"], op.attributes["reverse"]
    size = shape_of(op.operands[0].type)[axis]
    sources = _sources(w, op)
    lanes = w.lanes(op.operands[0])
    kept = (*lanes[:axis], 1, *lanes[axis + 1 :])
    slots = [w.code.fresh("running") for _ in op.results]
    outputs = [w.code.fresh(r.name or "scanned") for r in op.results]
    w.comment()
    first = size - 1 if reverse else 0

    def item(source: Expression, place: str) -> Expression:
        return w.materialize(take(w, source, axis, place, True), kept, source.dtype)

    accumulated = []
    for slot, output, source in zip(slots, outputs, sources, strict=True):
        w.code.line(f"{slot} = {item(source, str(first)).text}")
        w.code.line(f"{output} = {source.text}")
        accumulated.append(Expression(slot, kept, source.dtype, reads=frozenset({slot}), level=w.code.level))
    if size > 1:
        with w.code.scope() as inner:
            step = w.code.fresh("place")
            place = f"{size - 1} - {step}" if reverse else step
            items = [w.name(item(source, place), "element") for source in sources]
            combined = _inline(w, op, op.regions[0], [*accumulated, *items])
            made = [w.materialize(c, kept, s.dtype) for c, s in zip(combined, sources, strict=True)]
            w.assign_all([(Slot(slot), e) for slot, e in zip(slots, made, strict=True)])
            lane = placed(w, lane_numbers(w, lanes[axis]), len(lanes), axis)
            for slot, output in zip(slots, outputs, strict=True):
                w.code.line(f"{output} = tl.where({lane.text} == {place}, {slot}, {output})")
        w.code.block(f"for {step} in range(1, {size}):", inner)
    for result, output, source in zip(op.results, outputs, sources, strict=True):
        w.bind(result, replace(source, text=output, reads=frozenset(), level=w.code.level), keep=True)
