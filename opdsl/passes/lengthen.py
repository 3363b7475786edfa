"""Longer steps of product loops: `for k in range(0, K, 128): acc += dot(a[:, k:k+128], b[k:k+128, :])` with steps of 512.

A target's product kernel reads and writes the accumulator once a call, so fewer, longer calls are faster. The loop must
do nothing but one product into one accumulator, over slices as long as its step that end where their tensors end: what
the last, longer step reaches beyond is outside and counts as nothing.

`shorten_products` is the opposite, for targets whose products are written out for the length of a step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType

from opdsl.ir.core import Gather, Kernel, Op, Region, Slice, Value
from opdsl.ir.ops import OPS, infer
from opdsl.ir.types import DType, ScalarType, TensorType, i64
from opdsl.passes.rewrite import definitions, uses, with_body, with_parts

VIEWS = ("cast", "transpose")


def lengthen_products(kernel: Kernel, longest: int) -> Kernel:
    """The kernel with product loops of steps up to `longest`."""
    return with_body(kernel, _Lengthener(kernel, longest).region(kernel.body))


def shorten_products(kernel: Kernel, longest: Callable[[DType], int | None]) -> Kernel:
    """The kernel with product loops of steps that are at most `longest` of the operands' dtype; None: any length."""
    return with_body(kernel, _Shortener(kernel, longest).region(kernel.body))


class _Lengthener:
    def __init__(self, kernel: Kernel, longest: int) -> None:
        self.longest = longest
        self.definition = definitions(kernel.body)
        self.uses = uses(kernel.body)

    def region(self, region: Region) -> Region:
        ops: list[Op] = []
        for op in region.ops:
            if op.regions:
                op = with_parts(op, op.operands, [self.region(r) for r in op.regions])
            ops += self._longer(op) if op.name == "for" else [op]
        return replace(region, ops=tuple(ops))

    def _number(self, value: Value) -> int | None:
        op = self.definition.get(value)
        return int(op.attributes["value"]) if op is not None and op.name == "constant" else None

    def _longer(self, op: Op) -> list[Op]:
        """The loop with longer steps, after the constant that they are; the loop itself where that may not be."""
        step = self._number(op.operands[2])
        if step is None or step <= 0 or self._number(op.operands[0]) != 0:
            return [op]
        (body,) = op.regions
        factor = self.longest // step
        size = self._number(op.operands[1])
        if size is not None:
            factor = min(factor, -(-size // step))
        if factor < 2 or not self._is_product(op, body, step):
            return [op]
        return _with_step(op, step * factor, step)

    def _is_product(self, loop: Op, body: Region, step: int) -> bool:
        if len(body.arguments) != 2:
            return False
        variable, carried = body.arguments
        add = self.definition.get(body.terminator.operands[0])
        if add is None or add.name != "add" or add not in body.ops or carried not in add.operands:
            return False
        other = add.operands[1] if add.operands[0] is carried else add.operands[0]
        dot = self.definition.get(other)
        if dot is None or dot.name != "dot" or dot not in body.ops or self.uses.get(other) != 1:
            return False
        tiles = {dot, add}
        for side, operand in enumerate(dot.operands):
            copy = self._view(operand, tiles)
            if copy is None or not self._ends_with_tensor(copy, loop, variable, step, dot, side):
                return False
        scalars = [op for op in body.ops[:-1] if op not in tiles]
        return self.uses.get(carried) == 1 and all(
            OPS[op.name].pure and not op.regions and all(isinstance(r.type, ScalarType) for r in op.results)
            for op in scalars
        )

    def _view(self, value: Value, tiles: set[Op]) -> Op | None:
        """The copy_in that a dot's operand is a view of, each op on the way used only for that."""
        op = self.definition.get(value)
        while op is not None and self.uses.get(op.result) == 1:
            tiles.add(op)
            if op.name == "copy_in":
                return op
            if op.name not in VIEWS:
                return None
            op = self.definition.get(op.operands[0])
        return None

    def _ends_with_tensor(self, copy: Op, loop: Op, variable: Value, step: int, dot: Op, side: int) -> bool:
        """Whether exactly one slice of a copy_in starts at the loop variable, is a step long, and its dim of the tensor
        is as long as the loop; and whether that slice is the product's inner dim."""
        type = copy.operands[0].type
        assert isinstance(type, TensorType)
        specs = copy.attributes["index"]
        if any(isinstance(spec, Gather) for spec in specs):
            return False
        starts = copy.operands[1:-1]
        moving = [dim for dim, start in enumerate(starts) if self._depends(start, variable)]
        if len(moving) != 1:
            return False
        (dim,) = moving
        spec = specs[dim]
        if starts[dim] is not variable or not isinstance(spec, Slice) or spec.step != 1 or spec.length != step:
            return False
        stop = self.definition.get(loop.operands[1])
        if stop is None:
            return False
        ends = (
            stop.attributes["symbol"]
            if stop.name == "dim"
            else self._number(stop.result)
            if stop.name == "constant"
            else None
        )
        if ends is None or type.dims[dim] != ends:
            return False
        # The place of the slice among the kept dims, seen through transpositions, must be the product's inner dim.
        place = len([s for s in specs[:dim] if isinstance(s, Slice)])
        return self._summed(dot.operands[side], 1 - side, copy) == place

    def _summed(self, value: Value, axis: int, copy: Op) -> int:
        """The dim of a copied tile that axis `axis` of a view of it is."""
        op = self.definition[value]
        while op is not copy:
            if op.name == "transpose":
                axis = op.attributes["permutation"][axis]
            op = self.definition[op.operands[0]]
        return axis

    def _depends(self, value: Value, variable: Value) -> bool:
        if value is variable:
            return True
        op = self.definition.get(value)
        return op is not None and any(self._depends(o, variable) for o in op.operands if isinstance(o.type, ScalarType))


class _Shortener(_Lengthener):
    def __init__(self, kernel: Kernel, limit: Callable[[DType], int | None]) -> None:
        super().__init__(kernel, 0)
        self.limit = limit

    def _longer(self, op: Op) -> list[Op]:
        step = self._number(op.operands[2])
        (body,) = op.regions
        if step is None or step <= 0 or self._number(op.operands[0]) != 0 or not self._is_product(op, body, step):
            return [op]
        dot = next(inner for inner in body.ops if inner.name == "dot")
        limit = self.limit(dot.operands[0].type.dtype)
        if limit is None or step <= limit or step % limit or not self._reads_zeros(body):
            return [op]
        return _with_step(op, limit, step)

    def _reads_zeros(self, body: Region) -> bool:
        """Whether what lies beyond the tensors' ends is zero: with shorter steps, less of it is read."""
        return all(self._number(op.operands[-1]) == 0 for op in body.ops if op.name == "copy_in")


def _with_step(op: Op, new: int, old: int) -> list[Op]:
    """A product loop with another step, after the constant that it is."""
    attributes = MappingProxyType({"value": new, "dtype": i64})
    length = Op("constant", (), (Value(ScalarType(i64)),), attributes, (), op.location)
    operands = (*op.operands[:2], length.result, *op.operands[3:])
    return [length, with_parts(op, operands, [_scaled(op.regions[0], new, old)])]


def _scaled(body: Region, new: int, old: int) -> Region:
    """The body with the slices that start at the loop variable made longer or shorter."""
    variable = body.arguments[0]
    renamed: dict[Value, Value] = {}
    ops: list[Op] = []
    for op in body.ops:
        operands = tuple(renamed.get(o, o) for o in op.operands)
        attributes = op.attributes
        if op.name == "copy_in":
            specs = tuple(
                replace(spec, length=spec.length * new // old)
                if start is variable and isinstance(spec, Slice)
                else spec
                for spec, start in zip(attributes["index"], op.operands[1:-1], strict=True)
            )
            attributes = MappingProxyType({**attributes, "index": specs})
        types = infer(op.name, [o.type for o in operands], attributes, op.regions)
        results = tuple(r if r.type == type else Value(type, r.name) for r, type in zip(op.results, types, strict=True))
        renamed.update((old, new) for old, new in zip(op.results, results, strict=True) if old is not new)
        ops.append(replace(op, operands=operands, results=results, attributes=attributes))
    return replace(body, ops=tuple(ops))
