"""Reads and writes of tiles in local memory."""

from __future__ import annotations

from opdsl.ir.core import Value
from opdsl.targets.cpu.code import Register, loaded
from opdsl.targets.cpu.loop_ir import Coordinates
from opdsl.targets.cpu.stores import store
from opdsl.targets.cpu.tables import Stored, Tables


def load_local(tables: Tables, value: Value, at: Coordinates) -> Register:
    address, lane_stride = _address(tables, tables.stored[value], at)
    # Not further out than the nest: the memory is written by the nests before it.
    level = max(tables.level(at), tables.loops.nest_level)
    dtype, hint = value.type.dtype, value.name or "t"
    lanes, limit = tables.loops.lanes, tables.loops.limit
    if lane_stride == 0:
        text = loaded(dtype, address) if dtype.is_bool else f"*({address})"
        return tables.define(hint, dtype, False, text, level)
    if lane_stride == 1:
        text = f"od::load<{lanes}>({address})"
    elif limit is None:
        text = f"od::load_strided<{lanes}>({address}, {lane_stride})"
    else:
        text = f"od::load_strided_range<{lanes}>({address}, {lane_stride}, 0, {limit}, 0)"
    return tables.define(hint, dtype, True, text, level)


def store_local(tables: Tables, stored: Stored, at: Coordinates, register: Register) -> None:
    address, lane_stride = _address(tables, stored, at)
    store(tables, address, str(lane_stride), register, None, "0", tables.loops.limit)


def _address(tables: Tables, stored: Stored, at: Coordinates) -> tuple[str, int]:
    """Text of the element's address, and its stride along the lanes."""
    buffer, parts = stored.buffer, [stored.buffer.name]
    lane_stride = 0
    for dim, index in enumerate(at):
        stride = buffer.strides[dim]
        lane_stride += index.coefficient(tables.loops.lane) * stride
        if dim in stored.held or (buffer.shape[dim] == 1 and not index.terms):
            continue
        text = tables.index_text(index)
        if text != "0":
            parts.append(text if stride == 1 else f"({text}) * {stride}")
    return " + ".join(parts), lane_stride
