"""How much a kernel computes and moves for given arguments: its IR run with sizes instead of tiles.

Counted are the elements inside the tensors, not the overhang of tiles. A multiply-add is two operations, every other
arithmetic operation or function on floats one; casts, comparisons and selections none.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from opdsl.ir.core import Gather, Kernel, Op, Point, Region, Slice, Value, walk
from opdsl.ir.functions import ELEMENTARY
from opdsl.ir.ops import OPS
from opdsl.ir.types import ScalarType, TensorType, TileType, shape_of

FREE = frozenset(
    "neg abs not and or xor eq ne lt le gt ge isnan isinf isfinite select cast min max".split()  # noqa: SIM905
)
MAXIMUM_STEPS = 200  # of a loop; of a longer one, as many are taken evenly and stand for all

Extent = tuple[int, ...]

_SCALAR: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "shl": operator.lshift,
    "neg": operator.neg,
    "abs": abs,
    "min": min,
    "max": max,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "and": operator.and_,
    "or": operator.or_,
    "floordiv": lambda a, b: a // b if b else 0,
    "mod": lambda a, b: a % b if b else 0,
    "div": lambda a, b: a / b if b else math.nan,
    "not": lambda a: not a if isinstance(a, bool) else ~a,
    "select": lambda condition, a, b: a if condition else b,
}


class Unknown(Exception):
    """The work depends on values that are not computed here."""


@dataclass
class Work:
    """`read_bytes` and `written_bytes` are the least that any execution moves: each touched byte once."""

    operations: float = 0.0
    products: float = 0.0  # of them, in od.dot
    functions: float = 0.0  # of them, exp and the like
    accessed: dict[str, list[float]] = field(default_factory=dict)  # bytes read and written of each tensor
    tensor_bytes: dict[str, int] = field(default_factory=dict)
    exact: bool = True

    @property
    def read_bytes(self) -> float:
        return sum(min(read, self.tensor_bytes[name]) for name, (read, _) in self.accessed.items())

    @property
    def written_bytes(self) -> float:
        return sum(min(written, self.tensor_bytes[name]) for name, (_, written) in self.accessed.items())

    @property
    def bytes(self) -> float:
        return self.read_bytes + self.written_bytes


def count_work(kernel: Kernel, arguments: Sequence[Any]) -> Work:
    """The work of one call. Raises Unknown for a `while` whose end depends on computed values."""
    counter = _Counter(kernel, arguments)
    counter.run(kernel.body)
    return counter.work


class _Counter:
    def __init__(self, kernel: Kernel, arguments: Sequence[Any]) -> None:
        self.work = Work()
        self.weight = 1.0  # how many iterations the current one stands for
        self.scalars: dict[Value, Any] = {}  # None: not known
        self.extents: dict[Value, Extent] = {}  # of a tile, how much of each dim holds data
        self.names = dict(zip(kernel.parameters, kernel.parameter_names, strict=True))
        self.tensors: dict[Value, np.ndarray[Any, Any]] = {}
        self.sizes: dict[str, int] = {}
        for value, argument in zip(kernel.parameters, arguments, strict=True):
            if isinstance(value.type, TensorType):
                self.tensors[value] = argument
                self.work.tensor_bytes[self.names[value]] = argument.size * value.type.dtype.bytes
                self.sizes |= {d: n for d, n in zip(value.type.dims, argument.shape, strict=True) if isinstance(d, str)}
            else:
                self.scalars[value] = argument

    def run(self, region: Region) -> tuple[Value, ...]:
        """All ops of a region; what it yields."""
        for op in region.ops[:-1]:
            method: Callable[[Op], None] | None = getattr(self, f"_op_{op.name}", None)
            if method is not None:
                method(op)
            elif op.results and isinstance(op.results[0].type, ScalarType):
                self._scalar(op)
            elif op.results:
                self._tile(op)
        return region.terminator.operands

    def _add(self, operations: float, name: str = "") -> None:
        self.work.operations += operations * self.weight
        if name in ELEMENTARY:
            self.work.functions += operations * self.weight

    # --- values ----------------------------------------------------------------------------------------------------------

    def _extent(self, value: Value) -> Extent:
        return self.extents.get(value, shape_of(value.type))

    def _bind(self, targets: Sequence[Value], sources: Sequence[Value]) -> None:
        scalars = [self.scalars.get(source) for source in sources]
        extents = [self._extent(source) for source in sources]
        for target, scalar, extent in zip(targets, scalars, extents, strict=True):
            if isinstance(target.type, TileType):
                self.extents[target] = extent
            else:
                self.scalars[target] = scalar

    def _op_constant(self, op: Op) -> None:
        self.scalars[op.result] = op.attributes["value"]

    def _op_dim(self, op: Op) -> None:
        self.scalars[op.result] = self.sizes[op.attributes["symbol"]]

    def _scalar(self, op: Op) -> None:
        operands = [self.scalars.get(operand) for operand in op.operands]
        function = _SCALAR.get(op.name)
        if op.name == "cast":
            function = int if op.attributes["dtype"].is_integer else float
        known = function is not None and all(operand is not None for operand in operands)
        self.scalars[op.result] = function(*operands) if known and function is not None else None
        if OPS[op.name].category == "reduce":
            self._add(math.prod(self._extent(op.operands[0])))

    def _tile(self, op: Op) -> None:
        """Elementwise ops: as much as the operand with the least data."""
        tiles = [self._extent(operand) for operand in op.operands if isinstance(operand.type, TileType)]
        shape = shape_of(op.result.type)
        fitting = [extent for extent in tiles if len(extent) == len(shape)]
        extent = tuple(min(sizes) for sizes in zip(*fitting, strict=True)) if fitting else shape
        self.extents[op.result] = extent
        is_float = op.result.type.dtype.is_float
        if OPS[op.name].category == "elementwise" and is_float and op.name not in FREE:
            self._add(math.prod(extent) * (2 if op.name == "fma" else 1), op.name)

    def _op_compose(self, op: Op) -> None:
        (body,) = op.regions
        self._bind(body.arguments, op.operands)
        self._bind(op.results, self.run(body))

    def _op_broadcast(self, op: Op) -> None:
        shape = op.attributes["shape"]
        source, full = self._extent(op.operands[0]), shape_of(op.operands[0].type)
        tail = len(shape) - len(full)
        self.extents[op.result] = (
            *shape[:tail],
            *(n if m == 1 else e for n, m, e in zip(shape[tail:], full, source, strict=True)),
        )

    def _op_transpose(self, op: Op) -> None:
        source = self._extent(op.operands[0])
        self.extents[op.result] = tuple(source[dim] for dim in op.attributes["permutation"])

    def _op_reshape(self, op: Op) -> None:
        if not isinstance(op.result.type, TileType):
            self.scalars[op.result] = None
            return
        source = self._extent(op.operands[0])
        data = iter([e for e, n in zip(source, shape_of(op.operands[0].type), strict=True) if n != 1])
        shape = op.result.type.shape
        same = [n for n in shape if n != 1] == [n for n in shape_of(op.operands[0].type) if n != 1]
        self.extents[op.result] = tuple(next(data) if n != 1 else 1 for n in shape) if same else shape

    def _op_extract(self, op: Op) -> None:
        source = self._extent(op.operands[0])
        places = zip(source, op.attributes["starts"], op.attributes["sizes"], op.attributes["steps"], strict=True)
        self.extents[op.result] = tuple(
            len([k for k in range(size) if start + k * step < extent]) for extent, start, size, step in places
        )

    def _op_dot(self, op: Op) -> None:
        left, right = self._extent(op.operands[0]), self._extent(op.operands[1])
        result = (*left[:-1], right[-1])
        operations = 2 * math.prod(result) * min(left[-1], right[-2])
        self.extents[op.result] = result
        self._add(operations)
        self.work.products += operations * self.weight

    def _reduced(self, op: Op) -> None:
        source = self._extent(op.operands[0])
        elements = math.prod(source)
        if op.name.endswith("_custom"):
            (body,) = op.regions
            for inner in walk(body):
                if inner.results and inner.name not in FREE and inner.results[0].type.dtype.is_float:
                    self._add(elements, inner.name)
        elif op.results[0].type.dtype.is_float:
            self._add(elements)
        axes = op.attributes["axes"] if op.name == "reduce" else (op.attributes["axis"],)
        kept = tuple(n for d, n in enumerate(source) if d not in axes)
        for result in op.results:
            if isinstance(result.type, TileType):
                self.extents[result] = source if op.name.startswith("scan") else kept
            else:
                self.scalars[result] = None

    _op_reduce = _op_reduce_custom = _op_arg_reduce = _op_scan = _op_scan_custom = _reduced

    def _op_sort(self, op: Op) -> None:
        """Comparisons count as nothing; values and places have the extent of the tile."""
        for result in op.results:
            self.extents[result] = self._extent(op.operands[0])

    # --- memory ----------------------------------------------------------------------------------------------------------

    def _touched(self, tensor: Value, specs: Sequence[Any], operands: Sequence[Value]) -> Extent | None:
        """How many elements of each kept dim lie inside; None where a point lies outside."""
        kept: list[int] = []
        gathered = False
        for size, spec, operand in zip(self.tensors[tensor].shape, specs, operands, strict=True):
            start = self.scalars.get(operand)
            if isinstance(spec, Point):
                if start is not None and not 0 <= start < size:
                    return None
            elif isinstance(spec, Slice):
                if start is None:
                    kept.append(min(spec.length, size))
                else:
                    first = max(0, -(start // spec.step))
                    last = min(spec.length, -(-(size - start) // spec.step))
                    kept.append(max(0, last - first))
            elif isinstance(spec, Gather) and not gathered:
                gathered = True
                kept.extend(self._extent(operand))
        return tuple(kept)

    def _access(self, tensor: Value, extent: Extent | None, written: bool) -> None:
        assert isinstance(tensor.type, TensorType)
        elements = 0 if extent is None else math.prod(extent)
        counts = self.work.accessed.setdefault(self.names[tensor], [0.0, 0.0])
        counts[written] += elements * tensor.type.dtype.bytes * self.weight

    def _op_copy_in(self, op: Op) -> None:
        tensor, *places, _ = op.operands
        extent = self._touched(tensor, op.attributes["index"], places)
        self._access(tensor, extent, written=False)
        if isinstance(op.result.type, TileType):
            self.extents[op.result] = extent if extent is not None else (0,) * len(op.result.type.shape)
        else:
            self.scalars[op.result] = self._element(tensor, places, op.operands[-1])

    def _element(self, tensor: Value, places: Sequence[Value], pad: Value) -> Any:
        index: list[Any] = [self.scalars.get(place) for place in places]
        if None in index:
            return None
        array = self.tensors[tensor]
        if all(0 <= i < size for i, size in zip(index, array.shape, strict=True)):
            return array[tuple(index)].item()
        return self.scalars.get(pad)

    def _op_copy_out(self, op: Op) -> None:
        _, tensor, *places = op.operands
        extent = self._touched(tensor, op.attributes["index"], places)
        self._access(tensor, extent, written=True)
        if op.attributes["mode"] != "set":
            self._access(tensor, extent, written=False)

    # --- control flow --------------------------------------------------------------------------------------------------

    def _steps(self, bounds: Sequence[Value]) -> range:
        start, stop, step = (self.scalars.get(bound) for bound in bounds)
        if start is None or stop is None or step is None:
            raise Unknown("a loop's length depends on computed values")
        return range(start, stop, step) if step else range(0)

    def _sampled(self, steps: range, most: int = MAXIMUM_STEPS) -> Iterator[int]:
        """All steps, or some of them with the weight of all: the first, the last, and even ones between."""
        count = len(steps)
        if count <= most:
            yield from steps
            return
        self.work.exact = False
        outer = self.weight
        self.weight *= count / most
        for place in range(most):
            yield steps[place * (count - 1) // (most - 1)]
        self.weight = outer

    def _op_parallel(self, op: Op) -> None:
        (body,) = op.regions
        ranges = [self._steps(op.operands[i : i + 3]) for i in range(0, len(op.operands), 3)]
        # Of a large grid, each axis gets its share of the steps.
        few = max(4, int(MAXIMUM_STEPS ** (1 / len(ranges))))
        most = MAXIMUM_STEPS if math.prod(map(len, ranges)) <= MAXIMUM_STEPS else few

        def visit(axis: int) -> None:
            if axis == len(ranges):
                self.run(body)
                return
            for value in self._sampled(ranges[axis], most):
                self.scalars[body.arguments[axis]] = value
                visit(axis + 1)

        visit(0)

    def _op_for(self, op: Op) -> None:
        (body,) = op.regions
        self._bind(body.arguments[1:], op.operands[3:])
        for value in self._sampled(self._steps(op.operands[:3])):
            self.scalars[body.arguments[0]] = value
            self._bind(body.arguments[1:], self.run(body))
        self._bind(op.results, body.arguments[1:])

    def _op_while(self, op: Op) -> None:
        condition, body = op.regions
        self._bind(condition.arguments, op.operands)
        for _ in itertools.count():
            (holds,) = self.run(condition)
            if self.scalars.get(holds) is None:
                raise Unknown("the end of a `while` depends on computed values")
            if not self.scalars[holds]:
                break
            self._bind(body.arguments, condition.arguments)
            self._bind(condition.arguments, self.run(body))
        self._bind(op.results, condition.arguments)

    def _op_if(self, op: Op) -> None:
        condition = self.scalars.get(op.operands[0])
        if condition is None:
            self.work.exact = False
        self._bind(op.results, self.run(op.regions[0 if condition is None or condition else 1]))


def intensity(work: Work) -> float:
    """Operations for each byte."""
    return work.operations / work.bytes if work.bytes else math.inf


__all__ = ["Unknown", "Work", "count_work", "intensity"]
