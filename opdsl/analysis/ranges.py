"""What is known of a value before the kernel runs: of indices, that they are never negative or stay below a size; of a
float, that it is never positive."""

from __future__ import annotations

import math
from collections.abc import Callable

from opdsl.analysis.facts import Facts
from opdsl.ir.core import Value
from opdsl.ir.types import TileType

LARGEST_DIM = (1 << 46) - 1  # elements: more than a memory of 64 TiB holds
LARGEST = (1 << 63) - 1


def is_nonnegative(facts: Facts, value: Value) -> bool:
    """Whether an index is at least 0 for certain: slices that begin there need no check of their low end."""
    return largest(facts, value) is not None


def largest(facts: Facts, value: Value) -> int | None:
    """An upper bound of an index that is never negative; None for one that may be, as where it may wrap."""
    op = facts.op(value)
    if op is None:
        return _largest_of_loop(facts, value)
    if op.name == "constant":
        return int(op.attributes["value"]) if op.attributes["value"] >= 0 else None
    if op.name == "dim":
        return LARGEST_DIM
    if op.name not in _BOUNDS:
        return None
    operands = [largest(facts, operand) for operand in op.operands]
    if None in operands:
        return None
    bound = _BOUNDS[op.name](*operands)
    return bound if bound <= LARGEST else None


_BOUNDS: dict[str, Callable[..., int]] = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "min": min,
    "max": max,
    "floordiv": lambda a, b: a,
    "mod": lambda a, b: b,
}


def _largest_of_loop(facts: Facts, value: Value) -> int | None:
    bounds = loop_bounds(facts, value)
    if bounds is None or (constant(facts, bounds[2]) or 0) <= 0 or largest(facts, bounds[0]) is None:
        return None
    return LARGEST if (stop := largest(facts, bounds[1])) is None else stop


def constant(facts: Facts, value: Value) -> int | None:
    op = facts.op(value)
    return int(op.attributes["value"]) if op is not None and op.name == "constant" else None


def loop_bounds(facts: Facts, value: Value) -> tuple[Value, Value, Value] | None:
    """Start, stop and step of the loop whose variable the value is; None for other values."""
    if facts.op(value) is not None:
        return None
    parent = facts.parents[facts.block_of[value]]
    if parent is None or parent[0].name not in ("parallel", "for"):
        return None
    loop = parent[0]
    place = loop.regions[0].arguments.index(value)
    if loop.name == "for" and place > 0:
        return None  # a carried value
    start, stop, step = loop.operands[3 * place : 3 * place + 3]
    return start, stop, step


def ends_below(facts: Facts, value: Value, length: int, size: int | str) -> bool:
    """Whether the `length` places from an index on are below the size of a dim (a number or a symbol) for certain."""
    known = constant(facts, value)
    if known is not None:
        return isinstance(size, int) and known + length <= size
    bounds = loop_bounds(facts, value)
    if bounds is None:
        return False
    start, stop, step = (constant(facts, bound) for bound in bounds)
    if step is None or step <= 0:
        return False
    if length == 1:
        end = facts.op(bounds[1])
        if end is not None and end.name == "dim" and end.attributes["symbol"] == size:
            return True
    if start is None or stop is None or not isinstance(size, int):
        return False
    last = start + max(stop - start - 1, 0) // step * step
    return last + length <= size


def never_positive(facts: Facts, value: Value) -> bool:
    """Whether a tile is a - b with b no less than a in any element, as in softmax: at most 0, or NaN."""
    op = facts.op(value)
    if op is None or op.name != "sub":
        return False
    a, b = op.operands
    if not isinstance(a.type, TileType):
        return False
    return _covers(facts, b, a, a.type.shape)


def _covers(facts: Facts, value: Value, a: Value, dims: tuple[int, ...]) -> bool:
    """Whether `value`, seen with these dims (as many as `a` has), is at least the maximum of `a` along the dims of 1."""
    assert isinstance(a.type, TileType)
    if value == a:
        return dims == a.type.shape
    op = facts.op(value)
    if op is None:
        return False
    if op.name == "max":
        return any(_covers(facts, operand, a, dims) for operand in op.operands)
    if op.name == "reshape":
        return _covers(facts, op.operands[0], a, dims)
    if op.name == "broadcast":
        (inner,) = op.operands
        shape = inner.type.shape if isinstance(inner.type, TileType) else ()
        if len(shape) > len(dims):
            return False
        return _covers(facts, inner, a, (1,) * (len(dims) - len(shape)) + shape)
    if op.name == "select":
        # Whatever stands for a maximum of -inf: all that it covers is -inf.
        condition, _, otherwise = op.operands
        return _is_lowest(facts, condition, otherwise) and _covers(facts, otherwise, a, dims)
    if op.name != "reduce" or op.attributes["kind"] != "max" or op.operands[0] != a:
        return False
    axes = op.attributes["axes"]
    return dims == tuple(1 if axis in axes else n for axis, n in enumerate(a.type.shape))


def _is_lowest(facts: Facts, condition: Value, value: Value) -> bool:
    """Whether the condition is value == -inf."""
    op = facts.op(condition)
    if op is None or op.name != "eq" or op.operands[0] != value:
        return False
    limit = facts.op(op.operands[1])
    if limit is not None and limit.name == "broadcast":
        limit = facts.op(limit.operands[0])
    return limit is not None and limit.name == "constant" and limit.attributes["value"] == -math.inf
