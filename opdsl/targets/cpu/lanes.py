"""Lanes: along which dim of its space a root wants them, and how many a loop has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from opdsl.analysis.facts import tensor_index, tensor_of
from opdsl.ir.core import Op, Value
from opdsl.ir.types import DType, f64, i64, u64
from opdsl.targets.cpu.coordinates import access_coordinates
from opdsl.targets.cpu.fusion import read_values, root_leaves
from opdsl.targets.cpu.isa import Isa
from opdsl.targets.cpu.loop_ir import Coordinates, Index, Nest, Root
from opdsl.targets.cpu.tables import Tables


def vector_lanes(isa: Isa, dtypes: Iterable[DType]) -> int:
    """Lanes of full registers of the widest of some types."""
    return isa.vector_bytes // (8 if any(dtype in (f64, i64, u64) for dtype in dtypes) else 4)


def lane_count(isa: Isa, nest: Nest) -> int:
    """Lanes of a lane loop: full registers of the widest type that matters, no more than the loop has."""
    values = [v for root in nest.roots for v in (*root.values, *(v for v, _ in read_values(root)))]
    lanes = vector_lanes(isa, (value.type.dtype for value in values))
    while lanes > 1 and lanes // 2 >= nest.variable.extent:
        lanes //= 2
    return lanes


def wanted_lane(
    tables: Tables, is_stored: Callable[[Value], bool], defined: Mapping[Value, Root], root: Root
) -> int | None:
    """The dim of a root along which most of the memory it touches is contiguous. `defined` has the roots of its run."""
    votes: Counter[int] = Counter()

    def vote(index: Index) -> None:
        votes.update(dim for dim, variable in root.variables.items() if index.coefficient(variable) == 1)

    def vote_tensor(op: Op, at: Coordinates) -> None:
        strides = tables.tensors[tensor_of(op)].strides
        for stride, (spec, _), (place, _) in zip(strides, tensor_index(op), access_coordinates(op, at), strict=True):
            if place is not None and stride == "1" and getattr(spec, "step", 1) == 1:
                vote(place)

    for leaf, inside in root_leaves(tables.facts, is_stored, root):
        if not inside:
            continue
        producer = defined.get(leaf)
        if producer is not None:
            kept = producer.kept()
            inner = kept.index(producer.lane) if producer.lane in kept else None
        elif leaf in tables.stored:
            inner = tables.stored[leaf].buffer.innermost
        else:
            vote_tensor(tables.facts.definition[leaf], inside)
            continue
        if inner is not None:
            vote(inside[inner])
    if root.kind == "copy_out":
        vote_tensor(root.op, root.coordinates())
    elif root.target is not None and root.kind == "tile" and root.target.innermost in root.variables:
        votes[root.target.innermost] += 1
    return max(votes, key=lambda dim: (votes[dim], dim), default=None)
