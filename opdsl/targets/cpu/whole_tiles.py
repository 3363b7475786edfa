"""Tiles that are moved whole, from memory to memory: reshapes that move elements between dims, concat, sort."""

from __future__ import annotations

from opdsl.ir.core import Op
from opdsl.ir.types import ScalarType, TileType, i64, shape_of
from opdsl.targets.cpu.code import loaded, local_element
from opdsl.targets.cpu.loop_ir import Buffer, make_buffer, row_major_strides
from opdsl.targets.cpu.tables import Stored
from opdsl.targets.cpu.writer import Writer


def reshape(writer: Writer, op: Op) -> None:
    """A reshape that moves elements between dims: the same dense memory under another shape."""
    result = op.result
    buffer = writer.stored_row_major(op.operands[0])
    if isinstance(result.type, ScalarType):
        dtype, level = result.type.dtype, writer.code.level
        text = loaded(dtype, buffer.name)
        writer.tables.scalars[result] = writer.tables.define(result.name or "element", dtype, False, text, level)
        return
    assert isinstance(result.type, TileType)
    shape = result.type.shape
    order, strides = tuple(range(len(shape))), row_major_strides(shape)
    alias = Buffer(buffer.name, buffer.dtype, shape, order, strides, buffer.elements)
    writer.tables.stored[result] = Stored(alias)


def concat(writer: Writer, op: Op) -> None:
    result, axis = op.result, op.attributes["axis"]
    assert isinstance(result.type, TileType)
    whole = writer.new_buffer(result.name or "concat", result.type)
    start = 0
    for operand in op.operands:
        shape = shape_of(operand.type)
        name = writer.code.fresh("part")
        part = Buffer(name, whole.dtype, shape, whole.order, whole.strides, whole.elements)
        writer.arena.place_part(name, whole, start * whole.strides[axis])
        # Rows of a part end inside the whole: nothing may be stored beyond them.
        writer.put(operand, part, op)
        start += shape[axis]
    writer.flush()
    writer.tables.stored[result] = Stored(whole)


def sort(writer: Writer, op: Op) -> None:
    source, axis = op.operands[0], op.attributes["axis"]
    type = source.type
    assert isinstance(type, TileType)
    order = (*(d for d in range(len(type.shape)) if d != axis), axis)
    values = make_buffer(writer.code.fresh("sorted"), type.dtype, local_element(type.dtype)[1], type.shape, order)
    places = make_buffer(writer.code.fresh("places"), i64, 8, type.shape, order)
    size = type.shape[axis]
    spare = make_buffer(writer.code.fresh("spare"), i64, 8, (3 * size + 64,))
    for buffer in (values, places, spare):
        writer.place(buffer)
    writer.put(source, values, op)
    writer.flush()
    loops = [d for d in range(len(type.shape)) if d != axis]
    names = {d: writer.code.fresh("r") for d in loops}
    for depth, dim in enumerate(loops):
        r = names[dim]
        writer.code.line("  " * depth + f"for (od::i64 {r} = 0; {r} < {type.shape[dim]}; ++{r})")
    at = " + ".join([f"{names[d]} * {values.strides[d]}" for d in loops]) or "0"
    at_places = " + ".join([f"{names[d]} * {places.strides[d]}" for d in loops]) or "0"
    descending = "true" if op.attributes["descending"] else "false"
    writer.code.line(
        "  " * len(loops)
        + f"od::sort_row<{descending}>({values.name} + {at}, {places.name} + {at_places}, {size}, {spare.name});"
    )
    writer.tables.stored[op.results[0]] = Stored(values)
    writer.tables.stored[op.results[1]] = Stored(places)
