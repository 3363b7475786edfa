"""copy_in and copy_out: offsets, masks, loads, stores and atomics.

Each dim of an access has one variable of indices and, where a bound cannot be proved, one of booleans; both are made
once for each start and are shared by all accesses that use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from opdsl.ir.core import Gather, IndexSpec, Op, Point, Slice, Value
from opdsl.ir.types import DType, TensorType, bf16, bool_, f16, f32, f64, i32, i64, shape_of, u32, u64
from opdsl.targets.triton.descriptors import load_by_descriptor
from opdsl.targets.triton.expression import (
    AND,
    F8,
    PRODUCT,
    SUM,
    Expression,
    Shape,
    literal,
    type_name,
)
from opdsl.targets.triton.intervals import is_narrow
from opdsl.targets.triton.writer import Writer

ATOMIC_ADD = (f16, f32, f64, i32, i64, u32, u64)
ATOMIC_EXTREME = (i32, i64, u32, u64)


@dataclass
class Access:
    """Where an access goes: an offset in elements, and a condition on it, both blocks that broadcast to the tile."""

    offset: Expression
    mask: Expression | None
    shape: Shape  # of the tile's lanes
    distinct: bool = True  # no element is touched twice
    gather_masks: list[Expression | None] = field(default_factory=list)  # of the index tiles alone


def lane_numbers(w: Writer, count: int) -> Expression:
    """0, 1, ... count - 1."""
    return Expression(f"tl.arange(0, {count})", (count,), i32)


def placed(w: Writer, block: Expression, rank: int, axis: int) -> Expression:
    """A block of rank r as the dims axis .. axis + r - 1 of a tile, the others being 1."""
    own = len(block.shape)
    if own == 0 or own == rank:
        return block
    places = ["None"] * axis + [":"] * own + ["None"] * (rank - axis - own)
    shape = (1,) * axis + block.shape + (1,) * (rank - axis - own)
    return w.make(f"{block.inside(9)}[{', '.join(places)}]", [block], block.dtype, shape=shape).with_fill(None)


def both(w: Writer, *conditions: Expression | None) -> Expression | None:
    """All of the conditions, or None if there is none."""
    found = [c for c in conditions if c is not None]
    if not found:
        return None
    result = found[0]
    for condition in found[1:]:
        result = w.make(f"{result.inside(AND)} & {condition.inside(AND + 1)}", (result, condition), bool_, binding=AND)
    return result


def lane_mask(w: Writer, lanes: int, length: int) -> Expression:
    """Which lanes of a dim belong to the tile, as a one-dimensional variable."""
    return w.remembered(
        ("lanes", lanes, length), f"below_{length}", w.binary("<", lane_numbers(w, lanes), literal(length, i32), bool_)
    )


def tile_mask(w: Writer, logical: Shape, lanes: Shape, axes: Sequence[int] | None = None) -> Expression | None:
    """Which lanes of a block belong to the tile, looking along `axes` only."""
    found: list[Expression | None] = []
    for axis in range(len(logical)) if axes is None else axes:
        if lanes[axis] > logical[axis]:
            found.append(placed(w, lane_mask(w, lanes[axis], logical[axis]), len(lanes), axis))
    return both(w, *found)


def filled(
    w: Writer, value: Value, number: bool | int | float, axes: Sequence[int] | None = None, dtype: DType | None = None
) -> Expression:
    """A value whose lanes beyond the tile, along `axes`, hold `number`."""
    return fill_lanes(w, w.value(value), shape_of(value.type), w.lanes(value), number, axes)


def fill_lanes(
    w: Writer,
    expression: Expression,
    logical: Shape,
    lanes: Shape,
    number: bool | int | float,
    axes: Sequence[int] | None = None,
) -> Expression:
    if expression.fill is not None and _equal(expression.fill, number):
        return expression
    mask = tile_mask(w, logical, lanes, axes)
    if mask is None:
        return expression
    if expression.is_literal:
        expression = w.typed(expression)
    return w.call("tl.where", mask, expression, literal(number, expression.dtype), dtype=expression.dtype).with_fill(number)


def _equal(a: bool | int | float, b: bool | int | float) -> bool:
    return repr(a) == repr(b) or (a == b and a != 0)


def access(w: Writer, op: Op) -> Access:
    """Offsets and mask of a copy_in or copy_out."""
    first = 1 if op.name == "copy_in" else 2
    tensor = op.operands[first - 1]
    tile = op.results[0] if op.name == "copy_in" else op.operands[0]
    specs: Sequence[IndexSpec] = op.attributes["index"]
    lanes, logical = w.lanes(tile), shape_of(tile.type)
    offsets: list[Expression] = []
    masks: list[Expression | None] = []
    axis, gathered = 0, -1
    distinct = True
    gather_masks: list[Expression | None] = []
    assert isinstance(tensor.type, TensorType)
    for dim, (spec, start) in enumerate(zip(specs, op.operands[first:], strict=False)):
        extent = tensor.type.dims[dim]
        if isinstance(spec, Slice):
            index, mask = _slice(w, start, spec, extent, lanes[axis])
            index, mask = (placed(w, x, len(lanes), axis) if x is not None else None for x in (index, mask))  # type: ignore[assignment]
            axis += 1
        elif isinstance(spec, Point):
            index, mask = _point(w, start, extent)
        else:
            rank = len(shape_of(start.type))
            at = gathered if gathered >= 0 else axis
            index, mask = _gather(w, start, extent, logical[at : at + rank], lanes[at : at + rank])
            gather_masks.append(mask)
            index, mask = (placed(w, x, len(lanes), at) if x is not None else None for x in (index, mask))  # type: ignore[assignment]
            distinct = distinct and _injective(w, start)
            if gathered < 0:
                gathered, axis = axis, axis + rank
        masks.append(mask)
        offsets.append(_scaled(w, op, tensor, dim, index))
    offset = offsets[0] if offsets else literal(0, i32)
    for other in offsets[1:]:
        offset = _sum(w, offset, other)
    return Access(offset, both(w, *masks), lanes, distinct, gather_masks)


def _sum(w: Writer, a: Expression, b: Expression) -> Expression:
    if a.is_literal and a.number == 0:
        return b
    if b.is_literal and b.number == 0:
        return a
    dtype = i64 if i64 in (a.dtype, b.dtype) else i32
    return w.make(f"{a.inside(SUM)} + {b.inside(SUM + 1)}", (a, b), dtype, binding=SUM)


def _scaled(w: Writer, op: Op, tensor: Value, dim: int, index: Expression) -> Expression:
    """An index times its stride."""
    if index.is_literal and index.number == 0:
        return index
    if w.unit_axis(tensor) == dim:
        return index
    if index.is_literal:
        index = literal(int(index.number or 0), i32)
    stride = Expression(w.stride_name(tensor, dim), (), w.index_dtype)
    dtype = i64 if i64 in (index.dtype, stride.dtype) else i32
    if index.dtype is i64 and stride.dtype is i32:
        dtype = i64
    return w.make(f"{index.inside(PRODUCT)} * {stride.text}", (index, stride), dtype, binding=PRODUCT)


def _slice(
    w: Writer, start: Value, spec: Slice, extent: int | str, lanes: int
) -> tuple[Expression, Expression | None]:
    """Indices of a slice's lanes, and which of them are inside."""
    at = w.value(start)
    low, high = w.interval(start)
    reach = (low, high + (lanes - 1) * spec.step)
    if lanes == 1:
        return _point(w, start, extent)
    if at.dtype is i32 and not is_narrow(reach):
        at = w.to(at, i64)
    dtype = i64 if at.dtype is i64 and not (at.is_literal and is_narrow(reach)) else i32
    lane = lane_numbers(w, lanes)
    if spec.step != 1:
        lane = w.binary("*", lane, literal(spec.step, i32), i32)
    zero = at.is_literal and at.number == 0
    index = lane if zero else w.binary("+", at, lane, dtype)
    if zero and spec.step == 1:
        hint = f"offsets_{lanes}"
        key: tuple[object, ...] = ("offsets", 0, 1, lanes)
    else:
        hint = f"{start.name or 'start'}_offsets"
        key = ("offsets", at.text, spec.step, lanes)
    index = replace(w.remembered(key, hint, index), dtype=dtype)
    size = w.dim(extent)
    conditions: list[Expression | None] = []
    known = extent if isinstance(extent, int) else None
    exact = zero and spec.step == 1 and known == spec.length
    if low < 0:
        conditions.append(w.binary(">=", index, literal(0, i32), bool_))
    if known is None or high + (spec.length - 1) * spec.step >= known:
        conditions.append(w.binary("<", index, size, bool_))
    if lanes > spec.length:
        if exact:
            conditions.append(lane_mask(w, lanes, spec.length))
        else:
            conditions.append(w.binary("<", lane_numbers(w, lanes), literal(spec.length, i32), bool_))
    mask = both(w, *conditions)
    if mask is None or mask.is_name:
        return index, mask
    stem = hint.removesuffix("_offsets").removeprefix("offsets_")
    stem = f"{stem}_inside" if not stem.isdigit() else f"inside_{stem}"
    return index, w.remembered(("inside", index.text, spec.length, str(extent)), stem, mask)


def _in_range(w: Writer, value: Value, extent: int | str) -> tuple[bool, bool]:
    """Whether an index is at least 0 for certain, and whether it is below the extent."""
    low, high = w.interval(value)
    below = isinstance(extent, int) and high < extent
    owner = w.intervals.owner.get(value)
    if not below and isinstance(extent, str) and owner is not None and owner[0].name in ("parallel", "for"):
        op, _, place = owner
        if op.name == "parallel" or place == 0:
            stop = w.intervals.definition.get(op.operands[3 * place + 1])
            step = w.interval(op.operands[3 * place + 2])
            below = stop is not None and stop.name == "dim" and stop.attributes["symbol"] == extent and step[0] > 0
    return low >= 0, below


def _point(w: Writer, start: Value, extent: int | str) -> tuple[Expression, Expression | None]:
    at = w.value(start)
    above, below = _in_range(w, start, extent)
    conditions: list[Expression | None] = []
    if not (above and below):
        if not at.is_name and not at.is_literal:
            at = w.remembered(("index", at.text), start.name or "index", at)
        if not above:
            probe = w.typed(at, i32) if at.is_literal else at
            conditions.append(w.binary(">=", probe, literal(0, i32), bool_))
        if not below and at.is_literal:
            size = w.dim(extent)
            conditions.append(w.binary(">", w.typed(size, i32) if size.is_literal else size, at, bool_))
        elif not below:
            conditions.append(w.binary("<", at, w.dim(extent), bool_))
    mask = both(w, *conditions)
    return at, mask


def _gather(
    w: Writer, tile: Value, extent: int | str, logical: Shape, lanes: Shape
) -> tuple[Expression, Expression | None]:
    index = w.materialize(w.value(tile), w.lanes(tile), w.value(tile).dtype)
    if not index.is_name:
        index = w.name(index, tile.name or "indices")
    key = ("gathered", index.text, str(extent))
    found = w.code.recall(key)
    if found is not None:
        return index, found[0]
    low, high = w.interval(tile)
    conditions: list[Expression | None] = []
    if low < 0:
        conditions.append(w.binary(">=", index, literal(0, i32), bool_))
    if not (isinstance(extent, int) and high < extent):
        conditions.append(w.binary("<", index, w.dim(extent), bool_))
    conditions.append(tile_mask(w, logical, lanes))
    mask = both(w, *conditions)
    if mask is not None and not index.reads:
        mask = w.name(mask, f"{tile.name or 'index'}_inside")
        w.code.remember(key, (mask,))
    return index, mask


def _injective(w: Writer, tile: Value) -> bool:
    """Whether all elements of an index tile differ: an arange, shifted or scaled."""
    op = w.intervals.definition.get(tile)
    if op is None:
        return False
    if op.name == "arange":
        return True
    if op.name in ("reshape", "transpose", "extract"):
        return _injective(w, op.operands[0])
    if op.name in ("add", "sub"):
        first, second = op.operands
        return (_uniform(w, first) and _injective(w, second)) or (_uniform(w, second) and _injective(w, first))
    return False


def _uniform(w: Writer, tile: Value) -> bool:
    """Whether all elements of a tile are one number."""
    op = w.intervals.definition.get(tile)
    return op is not None and op.name == "broadcast" and not shape_of(op.operands[0].type)


def _pointer(w: Writer, tensor: Value, place: Access) -> Expression:
    base = w.tensor(tensor)
    dtype = tensor.type.dtype
    if place.offset.is_literal and place.offset.number == 0:
        return Expression(base, (), dtype)
    offset = place.offset
    terms = offset.text
    return w.make(f"{base} + {terms}" if offset.binding >= SUM else f"{base} + ({terms})", [offset], dtype, binding=SUM)


# --- copy_in ---------------------------------------------------------------------------------------------------------


def copy_in(w: Writer, op: Op) -> None:
    tensor, pad = op.operands[0], w.value(op.operands[-1])
    (result,) = op.results
    w.before_read(tensor, op)
    logical = shape_of(result.type)
    loaded = load_by_descriptor(w, op)
    if loaded is None:
        place = access(w, op)
        loaded = _load(w, _pointer(w, tensor, place), place.mask, pad, result.type.dtype)
        if place.shape == logical:
            loaded = loaded.with_fill(None)
    w.bind(result, loaded, keep=True, hint=f"{w.facts.parameter(tensor)}_{'tile' if logical else 'element'}")


def _pointer_block(pointer: Expression, shape: Shape) -> str:
    """A scalar pointer as a block."""
    return f"{pointer.text} + tl.zeros({list(shape)}, tl.int32)"


def _load(w: Writer, pointer: Expression, mask: Expression | None, pad: Expression, dtype: DType) -> Expression:
    if mask is None:
        return w.make(f"tl.load({pointer.text})", [pointer], dtype)
    text = f"tl.load({pointer.text}, mask={mask.text}, other={w.exact(pad).text})"
    return w.make(text, [pointer, mask, pad], dtype).with_fill(pad.number)


# --- copy_out --------------------------------------------------------------------------------------------------------


def copy_out(w: Writer, op: Op) -> None:
    value, tensor = op.operands[:2]
    mode = op.attributes["mode"]
    dtype = tensor.type.dtype
    expression = w.value(value)
    w.before_write(tensor, op)
    place = access(w, op)
    if mode == "set" and not place.distinct:
        place.mask = both(w, place.mask, _last_of_equals(w, op, place))
    pointer = _pointer(w, tensor, place)
    w.comment()
    mask = "" if place.mask is None else f", mask={place.mask.text}"
    if mode == "set":
        if expression.shape and not pointer.shape:  # a tile of one element
            expression = scalar_of(w, expression)
        if expression.is_literal and dtype in (i64, u64, f64):
            expression = w.typed(expression, dtype)
        w.code.line(f"tl.store({pointer.text}, {expression.text}{mask})")
        return
    if expression.shape and not pointer.shape:
        expression = scalar_of(w, expression)
    expression = w.materialize(expression, pointer.shape, dtype)
    _combine(w, mode, pointer, expression, place, dtype)


def scalar_of(w: Writer, expression: Expression) -> Expression:
    """The one element of a block whose dims are all 1."""
    narrow = expression.dtype.is_integer and expression.dtype.bits < 32
    if expression.dtype.is_bool or narrow:
        return w.to(w.make(f"tl.sum({w.to(expression, i32).text})", [expression], i32, shape=()), expression.dtype)
    return w.make(f"tl.sum({expression.text})", [expression], expression.dtype, shape=())


def _combine(w: Writer, mode: str, pointer: Expression, value: Expression, place: Access, dtype: DType) -> None:
    """An atomic update."""
    native = (mode == "add" and dtype in ATOMIC_ADD) or (mode != "add" and dtype in ATOMIC_EXTREME)
    mask = "" if place.mask is None else f", mask={place.mask.text}"
    if native:
        w.code.line(f'tl.atomic_{mode}({pointer.text}, {value.text}{mask}, sem="relaxed")')
        return
    if not pointer.shape:  # the loop below is about blocks
        pointer = replace(pointer, text=_pointer_block(pointer, (1,)), shape=(1,))
        value = w.materialize(value, (1,), value.dtype)
    # What the hardware cannot do, or does without a care for NaN: compare and swap until nobody was faster.
    combine = w.helper({"add": "_add", "max": "_maximum", "min": "_minimum"}[mode])
    if dtype.is_integer or dtype.is_bool:
        combine = w.helper({"add": "_add", "max": "_integer_maximum", "min": "_integer_minimum"}[mode])
    if place.mask is not None:
        condition = w.materialize(place.mask, pointer.shape, bool_).text
    else:
        condition = f"tl.full({list(pointer.shape)}, True, tl.int1)"
    if dtype in (f32, f64, f16, bf16) or (dtype.is_integer and dtype.bits == 16):
        bits = {16: "tl.int16", 32: "tl.int32", 64: "tl.int64"}[dtype.bits]
        w.code.line(
            f"{w.helper('_atomic_update')}({pointer.text}, {value.text}, {condition}, {combine}, {bits}, "
            f"{'tl.float32' if dtype in (f16, bf16) else type_name(dtype)})"
        )
        return
    if dtype in F8:
        decode = w.helper("_from_f8e4m3" if dtype.name == "f8e4m3" else "_from_f8e5m2")
        encode = w.helper("_to_f8e4m3" if dtype.name == "f8e4m3" else "_to_f8e5m2")
    elif dtype.is_bool:
        decode, encode = w.helper("_as_int"), w.helper("_as_truth")
    else:
        decode = w.helper("_same" if dtype.kind == "uint" else "_as_signed_byte")
        encode = w.helper("_as_byte")
    value = w.to(value, dtype)
    w.code.line(
        f"{w.helper('_atomic_update_byte')}({pointer.text}, {value.text}, {condition}, {combine}, {decode}, {encode})"
    )


def _last_of_equals(w: Writer, op: Op, place: Access) -> Expression | None:
    """Of elements that one scatter writes twice, the last stays: which elements nothing later overwrites."""
    specs = op.attributes["index"]
    gathers = [n for n, spec in enumerate(specs) if isinstance(spec, Gather)]
    start = op.operands[2 + gathers[0]]
    axis = sum(isinstance(spec, Slice) for spec in specs[: gathers[0]])
    block = w.lanes(start)
    count = 1
    for size in block:
        count *= size
    own = _gathered_offset(w, op, gathers)
    inside = both(w, *place.gather_masks)
    if inside is not None:  # what is not written overwrites nothing
        own = w.call("tl.where", inside, own, literal(-1, i64), dtype=i64)
    flat = f"tl.reshape({own.text}, [{count}])" if len(block) > 1 else own.text
    name = w.helper("_last_of_equals")
    if len(block) > 1:
        text = f"tl.reshape({name}({flat}, {count}), {list(block)})"
    else:
        text = f"{name}({flat}, {count})"
    last = w.name(Expression(text, block, bool_, level=w.code.level), "last")
    return placed(w, last, len(place.shape), axis)


def _gathered_offset(w: Writer, op: Op, gathers: Sequence[int]) -> Expression:
    """A number for each element of the index tiles, the same where all indices are."""
    tensor = op.operands[1]
    block = w.lanes(op.operands[2 + gathers[0]])
    total: Expression | None = None
    for n in gathers:
        index = w.to(w.value(op.operands[2 + n]), i64)
        if total is None:
            total = index
        else:
            assert isinstance(tensor.type, TensorType)
            extent = w.dim(tensor.type.dims[n])
            # Indices that are out of range are masked anyway, so that mixing them up does no harm.
            total = w.make(f"({total.text}) * {extent.text} + {index.text}", [total, index, extent], i64, binding=SUM)
    assert total is not None
    return w.materialize(total, block, i64)
