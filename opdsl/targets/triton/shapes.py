"""Ops that move elements of tiles."""

from __future__ import annotations

from collections.abc import Sequence

from opdsl.ir.core import Op
from opdsl.ir.types import DType, bool_, i8, i32, i64, shape_of
from opdsl.targets.triton.accesses import lane_numbers, placed, scalar_of
from opdsl.targets.triton.expression import SUM, Expression, Shape, literal
from opdsl.targets.triton.writer import Writer


def broadcast(w: Writer, op: Op) -> None:
    """Triton broadcasts by itself where blocks of one rank meet: nothing happens but a change of rank."""
    (source,) = op.operands
    (result,) = op.results
    expression = w.value(source)
    rank = len(shape_of(result.type))
    logical = shape_of(source.type)
    shift = rank - len(logical)
    for dim, size in enumerate(logical):
        if size == 1 and shape_of(result.type)[dim + shift] != 1 and expression.shape and expression.shape[dim] > 1:
            expression = _first_lane(w, expression, dim)
    if expression.shape and shift:
        expression = placed(w, expression, rank, shift)
    w.alias(result, expression)


def _first_lane(w: Writer, expression: Expression, dim: int) -> Expression:
    """A dim of one element that has more lanes, without the others."""
    return take(w, expression, dim, "0", True)


def gatherable(w: Writer, expression: Expression) -> tuple[Expression, DType]:
    """Booleans are gathered as bytes."""
    if expression.dtype.is_bool:
        return w.to(expression, i8), bool_
    return expression, expression.dtype


def ungathered(w: Writer, expression: Expression, dtype: DType) -> Expression:
    if dtype.is_bool:
        return w.binary("!=", expression, literal(0, i8), bool_)
    return expression


def take(w: Writer, expression: Expression, axis: int, place: str, keep: bool) -> Expression:
    """The elements at one place of an axis; the axis stays with one lane, or goes."""
    source, dtype = gatherable(w, expression)
    if source.shape[axis] == 1:
        taken = source
    else:
        shape = (*source.shape[:axis], 1, *source.shape[axis + 1 :])
        text = f"tl.gather({source.text}, tl.full({list(shape)}, {place}, tl.int32), {axis})"
        taken = w.make(text, [source], source.dtype, shape=shape)
    taken = ungathered(w, taken, dtype)
    if keep:
        return taken
    left = (*taken.shape[:axis], *taken.shape[axis + 1 :])
    if not left:
        return scalar_of(w, taken)
    return w.make(f"tl.reshape({taken.text}, {list(left)})", [taken], taken.dtype, shape=left)


def reshape(w: Writer, op: Op) -> None:
    (source,) = op.operands
    (result,) = op.results
    before, after = shape_of(source.type), shape_of(result.type)
    expression = w.value(source)
    lanes, wanted = w.lanes(source), w.lanes(result)
    if not expression.shape:  # a scalar, or a tile whose elements are all the same
        w.alias(result, expression)
        return
    if not after:
        w.bind(result, scalar_of(w, take_all_first(w, expression)))
        return
    kept = [dim for dim, size in enumerate(before) if size != 1]
    moved = [dim for dim, size in enumerate(after) if size != 1]
    if [before[d] for d in kept] == [after[d] for d in moved]:
        _reshape_ones(w, op, expression, kept, moved)
        return
    if lanes == before and wanted == after:
        expression = w.materialize(expression, lanes, expression.dtype)
        w.bind(result, w.make(f"tl.reshape({expression.text}, {list(after)})", [expression], expression.dtype, shape=after))
        return
    expression = w.materialize(expression, lanes, expression.dtype)
    w.bind(result, regathered(w, expression, _reshaped_places(w, before, lanes, after, wanted), wanted))


def take_all_first(w: Writer, expression: Expression) -> Expression:
    """The first element along every axis, all axes of one lane."""
    for axis in range(len(expression.shape)):
        expression = take(w, expression, axis, "0", True)
    return expression


def _reshape_ones(w: Writer, op: Op, expression: Expression, kept: Sequence[int], moved: Sequence[int]) -> None:
    """Dims of 1 come or go."""
    (result,) = op.results
    before, after = shape_of(op.operands[0].type), shape_of(result.type)
    for dim, size in enumerate(expression.shape):
        if before[dim] == 1 and size > 1:
            expression = _first_lane(w, expression, dim)
    target = [1] * len(after)
    for a, b in zip(kept, moved, strict=True):
        target[b] = expression.shape[a]
    if len(kept) == len(before):  # dims are added only
        places = ["None"] * len(after)
        for dim in moved:
            places[dim] = ":"
        text = f"{expression.inside(9)}[{', '.join(places)}]"
        w.alias(result, w.make(text, [expression], expression.dtype, shape=tuple(target)).with_fill(expression.fill))
        return
    shaped = w.make(f"tl.reshape({expression.text}, {target})", [expression], expression.dtype, shape=tuple(target))
    w.bind(result, shaped.with_fill(expression.fill))


def _strides(shape: Shape) -> list[int]:
    strides, stride = [], 1
    for size in reversed(shape):
        strides.append(stride)
        stride *= size
    return strides[::-1]


def _reshaped_places(w: Writer, before: Shape, lanes: Shape, after: Shape, wanted: Shape) -> Expression:
    """For every lane of the result, the place of its element among all lanes of the source."""
    element = literal(0, i32)
    for axis, (stride, size) in enumerate(zip(_strides(after), wanted, strict=True)):
        if size > 1:
            lane = placed(w, lane_numbers(w, size), len(wanted), axis)
            term = lane if stride == 1 else w.binary("*", lane, literal(stride, i32), i32)
            element = term if element.is_literal else w.binary("+", element, term, i32)
    element = w.name(element, "element")
    place = literal(0, i32)
    for size, stride, own in zip(before, _strides(before), _strides(lanes), strict=True):
        if size == 1:
            continue
        coordinate = f"{element.text} // {stride} % {size}" if stride > 1 else f"{element.text} % {size}"
        term = w.make(f"({coordinate}) * {own}" if own > 1 else coordinate, [element], i32, binding=7)
        place = term if place.is_literal else w.make(f"{place.text} + {term.text}", [place, term], i32, binding=SUM)
    return place


def regathered(w: Writer, expression: Expression, places: Expression, shape: Shape) -> Expression:
    """A block whose lanes are the source's lanes at `places`, counted row by row."""
    source, dtype = gatherable(w, expression)
    count = size_of(source.shape)
    total = size_of(shape)
    flat = source.text if len(source.shape) == 1 else f"tl.reshape({source.text}, [{count}])"
    index = w.materialize(places, shape, i32)
    flat_index = index.text if len(shape) == 1 else f"tl.reshape({index.text}, [{total}])"
    text = f"tl.gather({flat}, {flat_index}, 0)"
    if len(shape) > 1:
        text = f"tl.reshape({text}, {list(shape)})"
    return ungathered(w, w.make(text, [source, places], source.dtype, shape=shape), dtype)


def size_of(shape: Shape) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def transpose(w: Writer, op: Op) -> None:
    (result,) = op.results
    expression = w.value(op.operands[0])
    permutation = tuple(op.attributes["permutation"])
    if not expression.shape or permutation == tuple(range(len(permutation))):
        w.alias(result, expression)
        return
    shape = tuple(expression.shape[p] for p in permutation)
    if permutation == (1, 0):
        text = f"{expression.inside(9)}.T" if expression.is_name else f"tl.trans({expression.text})"
    else:
        text = f"tl.permute({expression.text}, {list(permutation)})"
    transposed = w.make(text, [expression], expression.dtype, shape=shape).with_fill(expression.fill)
    if expression.is_name and not result.name and not expression.reads:
        w.alias(result, transposed)
    else:
        w.bind(result, transposed)


def _gather_axis(w: Writer, expression: Expression, axis: int, places: Expression, lanes: int) -> Expression:
    """The block with its lanes along one axis taken from `places` (one-dimensional)."""
    source, dtype = gatherable(w, expression)
    rank = len(source.shape)
    shape = (*source.shape[:axis], lanes, *source.shape[axis + 1 :])
    index = w.materialize(placed(w, places, rank, axis), shape, i32)
    text = f"tl.gather({source.text}, {index.text}, {axis})"
    return ungathered(w, w.make(text, [source, index], source.dtype, shape=shape), dtype)


def extract(w: Writer, op: Op) -> None:
    (source,) = op.operands
    (result,) = op.results
    expression = w.value(source)
    before, wanted = shape_of(source.type), w.lanes(result)
    if expression.shape:
        expression = w.materialize(expression, w.lanes(source), expression.dtype)
    axes = zip(op.attributes["starts"], op.attributes["sizes"], op.attributes["steps"], strict=True)
    for axis, (start, size, step) in enumerate(axes):
        if not expression.shape or (start, size, step) == (0, before[axis], 1) or expression.shape[axis] == 1:
            continue
        if not expression.is_name:
            expression = w.name(expression, source.name or "source")
        if size == 1 and wanted[axis] == 1:
            expression = take(w, expression, axis, str(start), True)
            continue
        lanes = wanted[axis]
        text = f"{start} + {step} * tl.arange(0, {lanes})" if step != 1 else f"{start} + tl.arange(0, {lanes})"
        if lanes > size:  # lanes beyond the tile must read from somewhere
            text = f"tl.minimum(tl.maximum({text}, 0), {before[axis] - 1})"
        places = Expression(text, (lanes,), i32, SUM if lanes == size else 9)
        expression = _gather_axis(w, expression, axis, places, lanes)
    w.bind(result, expression.with_fill(None))


def concat(w: Writer, op: Op) -> None:
    (result,) = op.results
    axis = op.attributes["axis"]
    wanted = w.lanes(result)
    rank = len(wanted)
    dtype = result.type.dtype
    lane = lane_numbers(w, wanted[axis])
    total: Expression | None = None
    begin = 0
    for operand in op.operands:
        size = shape_of(operand.type)[axis]
        expression = w.value(operand)
        own = w.lanes(operand)
        if expression.shape and own[axis] > 1:
            expression = w.materialize(expression, own, expression.dtype)
            text = f"tl.minimum(tl.maximum({lane.text} - {begin}, 0), {own[axis] - 1})"
            expression = _gather_axis(w, expression, axis, Expression(text, (wanted[axis],), i32), wanted[axis])
        if total is None:
            total = w.typed(expression)
        else:
            after = placed(w, w.binary(">=", lane, literal(begin, i32), bool_), rank, axis)
            total = w.call("tl.where", after, w.typed(expression), w.name(total, "joined"), dtype=dtype)
        begin += size
    assert total is not None
    w.bind(result, w.materialize(total, wanted, i64 if total.dtype is i64 else total.dtype))
