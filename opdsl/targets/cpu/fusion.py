"""Which roots share loops.

Roots are taken in order. A root joins the first group that comes after (or holds) everything it depends on, where
the loop has the same extent and it needs from each member only the element of the current iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from opdsl.analysis.facts import Facts, tensor_index, tensor_of
from opdsl.ir.core import Value
from opdsl.ir.types import ScalarType
from opdsl.targets.cpu.coordinates import access_coordinates, leaves
from opdsl.targets.cpu.loop_ir import Coordinates, Group, LoopVariable, Nest, Root, walk_nests


@dataclass(eq=False)
class Dependence:
    """`consumer` reads what `producer` defines, at these coordinates of the producer's result.

    With `overwrites`, it is the other way round: `producer` reads at these coordinates (of its own loops) what
    `consumer` then overwrites in place.
    """

    producer: Root
    consumer: Root
    at: Coordinates
    memory: bool = False  # through a tensor: never in one loop
    overwrites: bool = False


SEQUENTIAL = ("scan", "scan_custom", "arg_reduce", "reduce_custom")


def read_values(root: Root) -> list[tuple[Value, Coordinates]]:
    """The values that a root's body evaluates, with their coordinates."""
    at = root.coordinates()
    if root.kind == "tile":
        assert root.source is not None
        return [(root.source, at)]
    if root.kind == "copy_out":
        inside = _gather_coordinates(root, at)
        return [(root.op.operands[0], at), *inside]
    return [(operand, at) for operand in root.op.operands]


def root_leaves(facts: Facts, stored: Callable[[Value], bool], root: Root) -> Iterator[tuple[Value, Coordinates]]:
    """What a root reads: stored values and results of copy_in, with their coordinates."""
    for value, at in read_values(root):
        # A value that the root itself stores is computed by it, not read.
        yield from leaves(facts, lambda v: v not in root.values and stored(v), value, at)


def _gather_coordinates(root: Root, at: Coordinates) -> list[tuple[Value, Coordinates]]:
    pairs = zip(tensor_index(root.op), access_coordinates(root.op, at), strict=True)
    return [(operand, inside) for (_, operand), (_, inside) in pairs if inside]


def dependences(facts: Facts, stored: Callable[[Value], bool], roots: Sequence[Root]) -> list[Dependence]:
    """All dependences between roots. Each root's variables must be set (any distinct ones)."""
    producer_of: dict[Value, Root] = {}
    writers: dict[Value | None, list[Root]] = {}
    readers: dict[Value | None, list[Root]] = {}
    result: list[Dependence] = []
    for root in roots:
        for leaf, inside in root_leaves(facts, stored, root):
            if leaf in producer_of and producer_of[leaf] is not root:
                result.append(Dependence(producer_of[leaf], root, inside))
            op = facts.op(leaf)
            if op is not None and op.name == "copy_in" and (leaf in root.values or not stored(leaf)):
                tensor = facts.memory(tensor_of(op))
                readers.setdefault(tensor, []).append(root)
                result.extend(Dependence(w, root, (), memory=True) for w in writers.get(tensor, []))
        if root.kind == "copy_out":
            tensor = facts.memory(tensor_of(root.op))
            earlier = writers.get(tensor, []) + [r for r in readers.get(tensor, []) if r is not root]
            result.extend(Dependence(other, root, (), memory=True) for other in earlier)
            writers.setdefault(tensor, []).append(root)
        for defined in root.values:
            producer_of[defined] = root
    return result


def partition(roots: Sequence[Root], depth: int, edges: Sequence[Dependence]) -> list[Group]:
    """The groups of roots that share the loop at `depth`, in an order that respects the dependences.

    A root without a loop at `depth` stands alone in its group.
    """
    groups: list[Group] = []
    place: dict[Root, int] = {}
    for root in roots:
        incoming = [e for e in edges if e.consumer is root and e.producer in place]
        earliest = 0
        for edge in incoming:
            at = place[edge.producer]
            earliest = max(earliest, at if _together(edge, depth) else at + 1)
        chosen = None
        if len(root.loops) > depth:
            for index in range(earliest, len(groups)):
                if _same_loop(groups[index], root, depth):
                    chosen = index
                    break
        if chosen is None:
            # After everything that came before, so that the order of the text is kept where there is no gain.
            groups.append(Group(depth, [root]))
            chosen = len(groups) - 1
        else:
            groups[chosen].roots.append(root)
        place[root] = chosen
    return groups


def _same_loop(group: Group, root: Root, depth: int) -> bool:
    first = group.roots[0]
    if len(first.loops) <= depth or first.extents()[depth] != root.extents()[depth]:
        return False
    # What runs its last loop in order cannot share it with roots that use its lanes.
    if any(r.kind in SEQUENTIAL and depth == len(r.loops) - 1 for r in (first, root)):
        return False
    wishes = {prefers_lane(r, depth) for r in (*group.roots, root)} - {None}
    return len(wishes) <= 1


def prefers_lane(root: Root, depth: int) -> bool | None:
    """Whether a root's lanes belong to its loop at `depth`; None where it has no wish left."""
    if root.lane is None or root.lane not in root.loops[depth:]:
        return None
    return root.loops[depth] == root.lane


def _together(edge: Dependence, depth: int) -> bool:
    """Whether the consumer may run in the producer's loop at `depth`: it reads the current iteration's element."""
    producer, consumer = edge.producer, edge.consumer
    if edge.memory or len(producer.loops) <= depth or len(consumer.loops) <= depth:
        return False
    if edge.overwrites:
        written = consumer.loops[depth]
        return written < len(edge.at) and edge.at[written].is_variable(producer.variables[producer.loops[depth]])
    dim = producer.loops[depth]
    if producer.kind in SEQUENTIAL and depth == len(producer.loops) - 1:
        return False
    if dim in producer.reduced:
        return False
    coordinate = edge.at[producer.kept().index(dim)]
    return coordinate.is_variable(consumer.variables[consumer.loops[depth]])


def build_nests(
    roots: Sequence[Root], edges: Sequence[Dependence], depth: int = 0, lane_above: bool = False
) -> list[Nest | Root]:
    """The loops of a run of roots. Roots that come to share a loop get one variable for it."""
    result: list[Nest | Root] = []
    for group in partition(roots, depth, edges):
        first = group.roots[0]
        if len(first.loops) <= depth:
            result.append(first)
            continue
        variable = first.variables[first.loops[depth]]
        for root in group.roots[1:]:
            root.variables[root.loops[depth]] = variable
        is_lane = not lane_above and _lane_here(group)
        children = build_nests(group.roots, edges, depth + 1, lane_above or is_lane)
        result.append(Nest(variable, depth, list(group.roots), is_lane, children))
    return result


def _lane_here(group: Group) -> bool:
    ends = [len(root.loops) - 1 == group.depth for root in group.roots]
    if any(root.kind in SEQUENTIAL and end for root, end in zip(group.roots, ends, strict=True)):
        return False
    wishes = {prefers_lane(root, group.depth) for root in group.roots} - {None}
    return wishes == {True} or (not wishes and all(ends))


def results_in_memory(tree: list[Nest | Root], edges: Sequence[Dependence]) -> list[tuple[Root, tuple[Nest, ...]]]:
    """The roots whose results do not live in registers between producer and consumers; for each the loops around it of
    one iteration of which memory will do, because nothing outside reads it."""
    found = []
    around = dict(walk_nests(tree))
    for root, nests in around.items():
        if not root.values or isinstance(root.values[0].type, ScalarType):
            continue
        consumers = [e.consumer for e in edges if e.producer is root and not e.overwrites and not e.memory]
        shared = [_shared(nests, around[c]) for c in consumers]
        parallel = len([d for d in root.loops if d not in root.reduced])
        # Names end with the outermost loop: what another nest reads, even a single value, goes through memory.
        in_registers = root.kind in ("tile", "reduce", "reduce_custom", "arg_reduce")
        in_registers = in_registers and all(s >= max(parallel, 1) for s in shared)
        if root.kind == "tile":
            in_registers = in_registers and all(s == len(nests) for s in shared)
        lasts = root.external or root.target is not None
        if lasts or not in_registers:
            found.append((root, () if lasts else nests[: min(shared, default=0)]))
    return found


def _shared(a: tuple[Nest, ...], b: tuple[Nest, ...]) -> int:
    """How many loops are around both."""
    count = 0
    for x, y in zip(a, b, strict=False):
        if x is not y:
            break
        count += 1
    return count


def name_loops(roots: Sequence[Root], fresh: Callable[[str], str]) -> None:
    """Gives every root variables of its own; fusing makes them one afterwards."""
    for root in roots:
        root.variables = {dim: LoopVariable(fresh("i"), root.space[dim]) for dim in root.loops}
