"""Stable sorts. Triton sorts numbers without places, so keys carry theirs: 32 bits of key above, the place below.

The keys are integers that order as the values do, with both zeros equal and every NaN the greatest. Keys of 64 bits are
sorted twice, by their lower half and then, stably, by their upper half.
"""

from __future__ import annotations

from opdsl.ir.core import Op
from opdsl.ir.types import DType, f64, i32, i64, shape_of
from opdsl.targets.triton.accesses import lane_numbers, placed, tile_mask
from opdsl.targets.triton.elementwise import widened
from opdsl.targets.triton.expression import F8, HALF, XOR, Expression, literal
from opdsl.targets.triton.shapes import gatherable, ungathered
from opdsl.targets.triton.writer import Writer


def sort(w: Writer, op: Op) -> None:
    (source,) = op.operands
    values, indices = op.results
    axis, descending = op.attributes["axis"], op.attributes["descending"]
    dtype = source.type.dtype
    lanes = w.lanes(source)
    rank = len(lanes)
    tile = w.name(w.materialize(w.value(source), lanes, dtype), source.name or "unsorted")
    if lanes[axis] == 1:
        w.bind(values, tile)
        w.bind(indices, w.materialize(literal(0, i32), lanes, i32))
        return
    w.comment()
    keys = _keys(w, tile, dtype)
    if descending:
        keys = w.make(f"~{keys.inside(8)}", [keys], keys.dtype, binding=8)
    # The axis is sorted as the last one.
    order = [dim for dim in range(rank) if dim != axis] + [axis]
    back = [order.index(dim) for dim in range(rank)]
    moved = rank > 1 and axis != rank - 1
    place = w.materialize(placed(w, lane_numbers(w, lanes[axis]), rank, axis), lanes, i32)
    mask = tile_mask(w, shape_of(source.type), lanes, (axis,))
    if keys.dtype is i32:
        places = _sorted_places(w, keys, place, mask, order, back, moved, rank)
    else:
        keys = w.name(keys, "keys")
        lower_half = f"({keys.text} & 0xFFFFFFFF).to(tl.uint32).to(tl.int32, bitcast=True)"
        low = w.make(f"{lower_half} ^ -2147483648", [keys], i32, binding=XOR)
        first = w.name(_sorted_places(w, low, place, mask, order, back, moved, rank), "order")
        high = w.make(f"tl.gather(({keys.text} >> 32).to(tl.int32), {first.text}, {axis})", [keys, first], i32)
        # Lanes beyond the tile have been sorted to the end and stay there.
        second = w.name(_sorted_places(w, high, place, mask, order, back, moved, rank), "order")
        places = w.make(f"tl.gather({first.text}, {second.text}, {axis})", [first, second], i32)
    places = w.name(places, "order")
    w.bind(indices, places, keep=bool(w.facts.users[indices]))
    gathered, original = gatherable(w, tile)
    result = w.make(f"tl.gather({gathered.text}, {places.text}, {axis})", [gathered, places], gathered.dtype, shape=lanes)
    w.bind(values, ungathered(w, result, original), keep=True)


def _sorted_places(
    w: Writer,
    keys: Expression,
    place: Expression,
    mask: Expression | None,
    order: list[int],
    back: list[int],
    moved: bool,
    rank: int,
) -> Expression:
    """Where the elements are from, in order of their 32-bit keys and, of equals, of their places."""
    if mask is not None:
        keys = w.call("tl.where", mask, keys, literal(2147483647, i32), dtype=i32)
    packed = f"({keys.inside(9)}.to(tl.int64) << 32) | {place.text}"
    if moved:
        ordered = f"tl.permute(tl.sort(tl.permute({packed}, {order})), {back})"
    else:
        ordered = f"tl.sort({packed})"
    return w.make(f"({ordered} & 0x7FFFFFFF).to(tl.int32)", [keys, place], i32)


def _keys(w: Writer, tile: Expression, dtype: DType) -> Expression:
    if dtype.is_float:
        if dtype in F8 or dtype in HALF:
            tile = widened(w, tile, dtype)
        bits = "tl.int64" if dtype is f64 else "tl.int32"
        return w.call(w.helper("_float_keys"), tile, dtype=i64 if dtype is f64 else i32, extra=bits)
    if dtype.bits < 32 or dtype.is_bool:
        return w.to(tile, i32)
    if dtype.kind == "uint":
        signed = i32 if dtype.bits == 32 else i64
        lowest = -(1 << (dtype.bits - 1))
        name = "tl.int32" if dtype.bits == 32 else "tl.int64"
        return w.make(f"{tile.inside(9)}.to({name}, bitcast=True) ^ {lowest}", [tile], signed, binding=XOR)
    return tile
