"""Which elements of its operands an inline tile op needs for one element of its result."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from opdsl.analysis.facts import Facts, is_inline, tensor_index
from opdsl.ir.core import Gather, Op, Slice, Value
from opdsl.ir.types import TileType, shape_of
from opdsl.targets.cpu.loop_ir import ZERO, Coordinates, Index


def operand_coordinates(op: Op, at: Coordinates) -> list[Coordinates]:
    """The coordinates in each operand (scalars: none) of an elementwise or shape op's element `at`."""
    if op.name == "broadcast":
        source = shape_of(op.operands[0].type)
        tail = at[len(at) - len(source) :]
        return [tuple(ZERO if n == 1 else c for n, c in zip(source, tail, strict=True))]
    if op.name == "transpose":
        inside = [ZERO] * len(at)
        for place, dim in enumerate(op.attributes["permutation"]):
            inside[dim] = at[place]
        return [tuple(inside)]
    if op.name == "extract":
        starts, steps = op.attributes["starts"], op.attributes["steps"]
        return [tuple(c.scaled(step).shifted(start) for c, start, step in zip(at, starts, steps, strict=True))]
    if op.name == "reshape":
        moving = iter([c for c, n in zip(at, shape_of(op.result.type), strict=True) if n != 1])
        return [tuple(ZERO if n == 1 else next(moving) for n in shape_of(op.operands[0].type))]
    return [at if isinstance(operand.type, TileType) else () for operand in op.operands]


def access_coordinates(op: Op, at: Coordinates) -> list[tuple[Index | None, Coordinates]]:
    """For each dim of the tensor of a copy_in or copy_out: the place in its slice (None for a point or a gather), and
    the coordinates in a gather's index tile."""
    result: list[tuple[Index | None, Coordinates]] = []
    place = 0
    gathered: Coordinates | None = None
    for spec, operand in tensor_index(op):
        if isinstance(spec, Slice):
            result.append((at[place], ()))
            place += 1
        elif isinstance(spec, Gather):
            if gathered is None:
                rank = len(shape_of(operand.type))
                gathered = at[place : place + rank]
                place += rank
            result.append((None, gathered))
        else:
            result.append((None, ()))
    return result


def leaves(
    facts: Facts, stored: Callable[[Value], bool], value: Value, at: Coordinates
) -> Iterator[tuple[Value, Coordinates]]:
    """What the evaluation of `value` at `at` reads: stored values and results of copy_in, with their coordinates."""
    op = facts.op(value)
    if not isinstance(value.type, TileType):
        yield value, ()
        return
    if stored(value) or op is None or not is_inline(op):
        yield value, at
        return
    if op.name == "copy_in":
        yield value, at
        for operand, (_, inside) in zip(op.operands[1:-1], access_coordinates(op, at), strict=True):
            if inside:
                yield from leaves(facts, stored, operand, inside)
        return
    for operand, inside in zip(op.operands, operand_coordinates(op, at), strict=True) if op.name != "arange" else ():
        yield from leaves(facts, stored, operand, inside)
