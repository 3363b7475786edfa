"""Loads and stores that disagree: a copy_out whose neighbours in memory are one dim's, of a copy_in where they are
another's.

Whichever dim is given to the lanes, one side would go element by element. Instead the copy_in's tile is put into local
memory where it is defined, transposed block by block in registers; from there on it is contiguous along the store's dim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from opdsl.analysis.facts import Facts, tensor_index, tensor_of
from opdsl.ir.core import Gather, Op, Slice, Value, walk
from opdsl.ir.types import shape_of
from opdsl.targets.cpu.code import local_element
from opdsl.targets.cpu.coordinates import access_coordinates, leaves
from opdsl.targets.cpu.dot_operands import View, view_matrix
from opdsl.targets.cpu.lanes import vector_lanes
from opdsl.targets.cpu.loop_ir import Coordinates, Index, LoopVariable, make_buffer
from opdsl.targets.cpu.tables import Stored
from opdsl.targets.cpu.writer import Writer

SMALLEST = 8  # a dim shorter than this is not worth a transposition


@dataclass(frozen=True)
class Transposed:
    """How a copy_in is brought into local memory: the tile's dims along which the tensor and the copy are contiguous."""

    source_dim: int
    copy_dim: int


def transposed_loads(
    facts: Facts, unit_axes: Mapping[Value, int | None], stored: set[Value]
) -> dict[Value, Transposed]:
    """The results of copy_in that are to be stored transposed."""
    found: dict[Value, Transposed] = {}
    for op in walk(facts.kernel.body):
        if op.name != "copy_out":
            continue
        value = op.operands[0]
        variables = [LoopVariable(f"d{d}", n) for d, n in enumerate(shape_of(value.type))]
        at: Coordinates = tuple(map(Index.of, variables))
        lane = _contiguous(op, unit_axes, at)
        if lane is None or lane.extent < SMALLEST:
            continue
        for leaf, inside in leaves(facts, lambda v: v in stored, value, at):
            source = facts.op(leaf)
            if source is None or source.name != "copy_in" or leaf in stored:
                continue
            along = _contiguous(source, unit_axes, inside)
            if along is None or along is lane or along.extent < SMALLEST:
                continue
            plan = _plan(source, inside, along, lane)
            if plan is not None:
                found[leaf] = plan
    return found


def _contiguous(op: Op, unit_axes: Mapping[Value, int | None], at: Coordinates) -> LoopVariable | None:
    """The variable along which an access at `at` goes from neighbour to neighbour."""
    unit = unit_axes[tensor_of(op)]
    if unit is None or any(isinstance(spec, Gather) for spec, _ in tensor_index(op)):
        return None
    spec, _ = tensor_index(op)[unit]
    place, _ = access_coordinates(op, at)[unit]
    if not isinstance(spec, Slice) or spec.step != 1 or place is None or len(place.terms) != 1 or place.constant:
        return None
    variable, factor = place.terms[0]
    return variable if factor == 1 else None


def _plan(op: Op, at: Coordinates, along: LoopVariable, lane: LoopVariable) -> Transposed | None:
    """For a tile of two dims (and points of the tensor's others), one along each variable."""
    dtype = op.result.type.dtype
    if len(at) != 2 or dtype.is_bool:
        return None
    for source_dim, copy_dim in ((0, 1), (1, 0)):
        if at[source_dim].is_variable(along) and at[copy_dim].is_variable(lane):
            return Transposed(source_dim, copy_dim)
    return None


def emit(writer: Writer, op: Op, plan: Transposed) -> None:
    """The copy, where the copy_in stands."""
    writer.flush()
    value = op.result
    shape, dtype = shape_of(value.type), value.type.dtype
    dims = [dim for dim, (spec, _) in enumerate(tensor_index(op)) if isinstance(spec, Slice)]
    rows, columns = dims[plan.copy_dim], dims[plan.source_dim]
    matrix = view_matrix(writer.tables, View(op, (rows, columns), dtype))
    order = (plan.source_dim, plan.copy_dim)
    name = writer.code.fresh(value.name or "transposed")
    buffer = make_buffer(name, dtype, local_element(dtype)[1], shape, order)
    writer.place(buffer)
    (row_low, row_high), (column_low, column_high) = matrix.ranges
    if matrix.condition is not None:
        row_high = f"({matrix.condition} ? {row_high} : 0)"
    lanes = vector_lanes(writer.isa, [dtype])
    pad = writer.tables.scalars[op.operands[-1]].text
    writer.code.line(
        f"od::load_transposed<{lanes}>({matrix.pointer}, {matrix.strides[0]}, {shape[plan.copy_dim]}, "
        f"{shape[plan.source_dim]}, {row_low}, {row_high}, {column_low}, {column_high}, {pad}, {buffer.name}, "
        f"{buffer.strides[plan.source_dim]});"
    )
    writer.tables.stored[value] = Stored(buffer)
