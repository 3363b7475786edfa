"""What is known of integers before a kernel runs: bounds of every scalar and of every element of a tile.

Two things hang on it: which offsets fit into 32 bits, and which accesses need no mask.
"""

from __future__ import annotations

from opdsl.ir.core import Kernel, Op, Region, Value
from opdsl.ir.types import DType, TensorType, shape_of

Interval = tuple[int, int]

# Sizes of tensors that the 32-bit variant of a kernel takes: so small that sums of a few of them stay in 32 bits.
LARGEST_NARROW_DIM = (1 << 28) - 1
LARGEST_DIM = (1 << 48) - 1

NARROW: Interval = (-(1 << 31), (1 << 31) - 1)
WIDE: Interval = (-(1 << 63), (1 << 63) - 1)


def dtype_interval(dtype: DType) -> Interval:
    """All values of an integer type."""
    if dtype.is_bool:
        return (0, 1)
    if dtype.kind == "uint":
        return (0, (1 << dtype.bits) - 1)
    return (-(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1)


def within(inner: Interval, outer: Interval) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def is_narrow(interval: Interval) -> bool:
    """Whether every value fits into 32 bits."""
    return within(interval, NARROW)


def _join(a: Interval, b: Interval) -> Interval:
    return min(a[0], b[0]), max(a[1], b[1])


def _products(a: Interval, b: Interval) -> Interval:
    corners = [x * y for x in a for y in b]
    return min(corners), max(corners)


class Intervals:
    """Bounds of the integers of one kernel; `index_bits` 32 means that its dims are at most LARGEST_NARROW_DIM."""

    def __init__(self, kernel: Kernel, index_bits: int) -> None:
        self.largest_dim = LARGEST_NARROW_DIM if index_bits == 32 else LARGEST_DIM
        self.definition: dict[Value, Op] = {}
        self.owner: dict[Value, tuple[Op, int, int]] = {}  # block argument -> its op, region number, place
        self._known: dict[Value, Interval] = {}
        self._visit(kernel.body)

    def _visit(self, region: Region) -> None:
        for op in region.ops:
            for result in op.results:
                self.definition[result] = op
            for number, inner in enumerate(op.regions):
                for place, argument in enumerate(inner.arguments):
                    self.owner[argument] = (op, number, place)
                self._visit(inner)

    def of(self, value: Value) -> Interval:
        """The bounds of an integer value. Every bound holds: what cannot be known is the whole range of the dtype."""
        known = self._known.get(value)
        if known is None:
            assert not isinstance(value.type, TensorType)
            limits = dtype_interval(value.type.dtype)
            found = self._compute(value, limits)
            known = found if within(found, limits) else limits  # what may wrap may be anything
            self._known[value] = known
        return known

    def _compute(self, value: Value, limits: Interval) -> Interval:
        op = self.definition.get(value)
        if op is None:
            return self._argument(value, limits)
        name, attributes = op.name, op.attributes
        if name == "constant":
            number = int(attributes["value"])
            return number, number
        if name == "dim":
            return 0, self.largest_dim
        if name == "arange":
            return 0, attributes["length"] - 1
        if name in ("broadcast", "reshape", "transpose", "extract") or (
            name == "reduce" and attributes["kind"] in ("min", "max")
        ):
            return self.of(op.operands[0])
        if name in ("select", "concat"):
            choices = [self.of(operand) for operand in op.operands[1 if name == "select" else 0 :]]
            result = choices[0]
            for other in choices[1:]:
                result = _join(result, other)
            return result
        if name == "cast":
            source = op.operands[0].type
            assert not isinstance(source, TensorType)
            return limits if source.dtype.is_float else self.of(op.operands[0])
        if name == "arg_reduce":
            return 0, shape_of(op.operands[0].type)[attributes["axis"]] - 1
        if name == "sort" and value is op.results[1]:
            return 0, shape_of(op.operands[0].type)[attributes["axis"]] - 1
        if name in _ARITHMETIC:
            return self._arithmetic(name, [self.of(operand) for operand in op.operands], limits)
        return limits

    @staticmethod
    def _arithmetic(name: str, operands: list[Interval], limits: Interval) -> Interval:
        a = operands[0]
        if name == "neg":
            return -a[1], -a[0]
        if name == "abs":
            low = 0 if a[0] <= 0 <= a[1] else min(abs(a[0]), abs(a[1]))
            return low, max(abs(a[0]), abs(a[1]))
        b = operands[1]
        if name == "add":
            return a[0] + b[0], a[1] + b[1]
        if name == "sub":
            return a[0] - b[1], a[1] - b[0]
        if name == "mul":
            return _products(a, b)
        if name == "min":
            return min(a[0], b[0]), min(a[1], b[1])
        if name == "max":
            return max(a[0], b[0]), max(a[1], b[1])
        if name == "floordiv":
            if b[0] > 0:
                corners = [x // y for x in a for y in b]
                return min(corners), max(corners)
            return (0, a[1]) if a[0] >= 0 and b[0] >= 0 else limits
        if name == "mod":
            if b[0] >= 0:
                return 0, max(0, b[1] - 1)
            return limits
        return limits

    def _argument(self, value: Value, limits: Interval) -> Interval:
        owner = self.owner.get(value)
        if owner is None or owner[0].name not in ("parallel", "for") or (owner[0].name == "for" and owner[2] > 0):
            return limits
        op, _, place = owner
        start, stop, step = (self.of(operand) for operand in op.operands[3 * place : 3 * place + 3])
        if step[0] > 0:
            last = stop[1] - 1
            if start[0] == start[1] and step[0] == step[1] and stop[0] == stop[1]:
                last = start[0] + max(0, (last - start[0]) // step[0]) * step[0]
            return start[0], max(start[0], last)
        if step[1] < 0:
            return min(stop[0] + 1, start[1]), start[1]
        return _join(start, stop)


_ARITHMETIC = frozenset({"add", "sub", "mul", "min", "max", "floordiv", "mod", "neg", "abs"})
