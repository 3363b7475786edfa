"""Writes: vectors and single elements, to tensors with the conditions of an access, scattered, or combined with what is
there."""

from __future__ import annotations

from dataclasses import replace

from opdsl.ir.core import Op
from opdsl.targets.cpu.accesses import Access
from opdsl.targets.cpu.code import STORAGE, Register
from opdsl.targets.cpu.loop_ir import Coordinates
from opdsl.targets.cpu.tables import Tables


def store_tensor(tables: Tables, access: Access, op: Op, at: Coordinates, register: Register, ordered: bool) -> None:
    """One element or vector of a copy_out. `ordered`: nobody else writes at the same time, no atomics needed."""
    mode, loops = op.attributes["mode"], tables.loops
    if access.stride == "0" and any(place.coefficient(loops.lane) for place in at):
        _scatter(tables, access, mode, tables.as_vector(register), ordered)  # all lanes, to one place
    elif access.vector_offset is None and mode == "set":
        checked = loops.limit is not None and access.stride != "0"
        low, high = access.lane_range(tables) if checked else ("0", None)
        condition = None if checked else access.condition
        pointer = access.pointer
        if access.stride == "1" and access.row is not None and access.tensor.streams is not None:
            loops.passing.append((access.tensor.streams, access.row))
        if access.stride == "1" and register.unrounded is not None:
            pointer, register = f"od::rounding({pointer})", replace(register, text=register.unrounded)
        store(tables, pointer, access.stride, register, condition, low, high, access.tensor.streams)
    else:
        _scatter(tables, access, mode, register, ordered)


def _scatter(tables: Tables, access: Access, mode: str, register: Register, ordered: bool) -> None:
    lanes, code = tables.loops.lanes, tables.code
    if register.dtype.is_bool:
        mode = {"max": "min", "min": "max"}.get(mode, mode)  # true is -1 in a register
    if access.vector_offset is None and not register.vector and access.stride == "0":
        update = f"od::{'plain' if ordered else 'atomic'}_{mode}({access.pointer}, {_element(register)});"
        code.line(f"if ({access.condition}) {update}" if access.condition else update)
        return
    register = tables.as_vector(register)
    mask = access.lane_mask(tables)
    if access.vector_offset is None and access.stride == "1" and ordered and mode != "set":
        # Neighbours in memory, nobody else writing: read, combine, write back.
        element = STORAGE[access.tensor.dtype]
        code.line(f"od::update_{mode}<{lanes}, {element}>({access.pointer}, {register.text}, {mask});")
        return
    name = "scatter" if mode == "set" else f"scatter_{mode}"
    offsets = access.lane_offsets(tables)
    code.line(f"od::{name}<{lanes}>({access.pointer}, {offsets}, {register.text}, {mask});")


def store(
    tables: Tables,
    address: str,
    stride: str,
    register: Register,
    condition: str | None,
    low: str,
    high: str | None,
    streams: str | None = None,
) -> None:
    """An element (stride 0), or the lanes from `low` to `high`; all of them where that is None."""
    if stride == "0":
        call = f"store1({address}, {_element(register)})"
    else:
        value, lanes, unit = tables.as_vector(register).text, tables.loops.lanes, stride == "1"
        function = "store" if unit else "store_strided"
        operands = f"{address}, {value}" if unit else f"{address}, {value}, {stride}"
        if high is not None:
            call = f"{function}_range<{lanes}>({operands}, {low}, {high})"
        elif unit and streams is not None:
            call = f"store_past<{lanes}>({operands}, {streams})"
        else:
            call = f"{function}<{lanes}>({operands})"
    tables.code.line(f"if ({condition}) od::{call};" if condition else f"od::{call};")


def _element(register: Register) -> str:
    """A single element as it is in memory."""
    return f"-od::i32({register.text})" if register.dtype.is_bool else register.text
