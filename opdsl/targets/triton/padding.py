"""How many lanes each dim of a tile gets: a power of two, and along the sum of a product as many as tensor cores take.

Dims that must agree, because values meet lane by lane, are found by following elementwise ops, loops and the like; the
largest need among them is everyone's.
"""

from __future__ import annotations

from opdsl.ir.core import Gather, Kernel, Op, Region, Slice, Value
from opdsl.ir.ops import OPS
from opdsl.ir.types import DType, TileType, f16, i8, shape_of

Node = tuple[Value, int]

# The least length of a product's sum, by the bits of its operands (min_dot_size in Triton's backends). f8 goes as f16.
SHORTEST_SUM = {8: 32, 16: 16, 32: 16, 64: 16}


def next_power(size: int) -> int:
    return 1 << (size - 1).bit_length()


def native_dot(dtype: DType) -> bool:
    """Whether Triton multiplies tiles of this dtype (8-bit floats as f16)."""
    return dtype.is_float or dtype is i8


class Padding:
    def __init__(self, kernel: Kernel) -> None:
        self._parent: dict[Node, Node] = {}
        self._least: dict[Node, int] = {}
        self._region(kernel.body)

    def shape(self, value: Value) -> tuple[int, ...]:
        """The lanes of each dim of a value."""
        if not isinstance(value.type, TileType):
            return ()
        return tuple(
            max(next_power(size), self._least.get(self._find((value, dim)), 1)) for dim, size in enumerate(value.type.shape)
        )

    def _find(self, node: Node) -> Node:
        root = node
        while (above := self._parent.get(root, root)) != root:
            root = above
        while node != root:
            self._parent[node], node = root, self._parent.get(node, root)
        return root

    def _join(self, a: Node, b: Node) -> None:
        a, b = self._find(a), self._find(b)
        if a != b:
            self._parent[a] = b
            self._least[b] = max(self._least.get(a, 1), self._least.get(b, 1))

    def _need(self, node: Node, least: int) -> None:
        root = self._find(node)
        self._least[root] = max(self._least.get(root, 1), least)

    def _same(self, a: Value, b: Value) -> None:
        if isinstance(a.type, TileType) and isinstance(b.type, TileType):
            for dim in range(len(a.type.shape)):
                self._join((a, dim), (b, dim))

    def _region(self, region: Region) -> None:
        for op in region.ops:
            self._op(op)
            for inner in op.regions:
                self._region(inner)

    def _op(self, op: Op) -> None:
        name, operands, results = op.name, op.operands, op.results
        if OPS[name].category == "elementwise":
            for operand in operands:
                self._same(operand, results[0])
        elif name == "broadcast" and isinstance(operands[0].type, TileType):
            shift = len(shape_of(results[0].type)) - len(shape_of(operands[0].type))
            for dim, size in enumerate(shape_of(operands[0].type)):
                if size == shape_of(results[0].type)[dim + shift]:
                    self._join((operands[0], dim), (results[0], dim + shift))
        elif name == "transpose":
            for dim, source in enumerate(op.attributes["permutation"]):
                self._join((results[0], dim), (operands[0], source))
        elif name == "reshape":
            self._reshape(op)
        elif name in ("reduce", "arg_reduce", "reduce_custom"):
            axes = op.attributes["axes"] if name == "reduce" else (op.attributes["axis"],)
            kept = [dim for dim in range(len(shape_of(operands[0].type))) if dim not in axes]
            for operand in operands:
                self._same(operands[0], operand)
            for result in results:
                for dim, source in enumerate(kept):
                    self._join((result, dim), (operands[0], source))
        elif name in ("scan", "scan_custom", "sort"):
            for operand in operands:
                for result in results:
                    self._same(operand, result)
        elif name == "dot":
            self._dot(op)
        elif name in ("concat", "extract"):
            self._partly(op)
        elif name in ("copy_in", "copy_out"):
            self._access(op)
        elif name in ("for", "while", "if"):
            self._control(op)

    def _reshape(self, op: Op) -> None:
        """A reshape that only adds or drops dims of 1."""
        before, after = shape_of(op.operands[0].type), shape_of(op.results[0].type)
        kept = [dim for dim, size in enumerate(before) if size != 1]
        placed = [dim for dim, size in enumerate(after) if size != 1]
        if [before[dim] for dim in kept] == [after[dim] for dim in placed]:
            for a, b in zip(kept, placed, strict=True):
                self._join((op.operands[0], a), (op.results[0], b))

    def _dot(self, op: Op) -> None:
        a, b = op.operands
        (result,) = op.results
        rank = len(shape_of(a.type))
        for dim in range(rank - 2):
            self._join((a, dim), (b, dim))
            self._join((a, dim), (result, dim))
        self._join((a, rank - 1), (b, rank - 2))
        self._join((a, rank - 2), (result, rank - 2))
        self._join((b, rank - 1), (result, rank - 1))
        dtype = a.type.dtype
        if native_dot(dtype):
            self._need((a, rank - 1), SHORTEST_SUM[f16.bits if dtype.is_float and dtype.bits < 16 else dtype.bits])

    def _partly(self, op: Op) -> None:
        """Dims that a concat or extract leaves as they are."""
        (result,) = op.results
        for operand in op.operands:
            for dim, size in enumerate(shape_of(operand.type)):
                if size == shape_of(result.type)[dim] and not (op.name == "concat" and dim == op.attributes["axis"]):
                    self._join((operand, dim), (result, dim))

    def _access(self, op: Op) -> None:
        """A gather's index tile lies along dims of the tile."""
        tile = op.results[0] if op.name == "copy_in" else op.operands[0]
        first = 1 if op.name == "copy_in" else 2
        axis, gathered = 0, False
        for spec, operand in zip(op.attributes["index"], op.operands[first:], strict=False):
            if isinstance(spec, Slice):
                axis += 1
            elif isinstance(spec, Gather):
                rank = len(shape_of(operand.type))
                start = axis - rank if gathered else axis
                for dim in range(rank):
                    self._join((operand, dim), (tile, start + dim))
                axis += 0 if gathered else rank
                gathered = True

    def _control(self, op: Op) -> None:
        first = 3 if op.name == "for" else 1 if op.name == "if" else 0
        for number, region in enumerate(op.regions):
            skip = 1 if op.name == "for" else 0
            for argument, initial in zip(region.arguments[skip:], op.operands[first:], strict=False):
                self._same(argument, initial)
            if op.name == "while" and number == 0:
                continue
            for yielded, result in zip(region.terminator.operands, op.results, strict=True):
                self._same(yielded, result)
            for argument, result in zip(region.arguments[skip:], op.results, strict=False):
                self._same(argument, result)
