"""Ops that only move elements of tiles: by formula where the tile is one, by vector copies where rows allow it, else one by
one on the scalar unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from opdsl.ir import types as t
from opdsl.ir.core import Op
from opdsl.ir.types import DType, shape_of
from opdsl.npu.statements import Operand
from opdsl.targets.npu.elementwise import Elementwise
from opdsl.targets.npu.layouts import BLOCK, layout
from opdsl.targets.npu.values import Affine, BitTile, Spread, Test, Tile, UbTile, Uniform

Shape = tuple[int, ...]


class Shapes:
    def __init__(self, elementwise: Elementwise) -> None:
        self.w = elementwise
        self.t = elementwise.t
        self.s = elementwise.s

    def broadcast(self, op: Op, operand: Tile | Operand) -> Tile:
        shape: Shape = op.attributes["shape"]
        dtype: DType = op.result.type.dtype
        if not isinstance(operand, Tile):
            return Uniform(operand, dtype, shape)
        if isinstance(operand, Uniform):
            return Uniform(operand.value, dtype, shape)
        if isinstance(operand, Affine | Test):
            added = len(shape) - len(operand.shape)
            pairs = zip(operand.coefficients, operand.shape, strict=True)
            coefficients = (0,) * added + tuple(c if n > 1 else 0 for c, n in pairs)
            if isinstance(operand, Affine):
                return Affine(operand.base, coefficients, shape)
            return Test(operand.name, coefficients, operand.limit, shape)
        if isinstance(operand, BitTile):
            numbers = self.t.numbers(operand)
            return self.t.bits_of(self.t.tile(Spread(numbers, shape)))
        if isinstance(operand, Spread):
            return Spread(operand.source, shape)
        assert isinstance(operand, UbTile)
        if layout(shape).columns == operand.layout.columns and math.prod(shape) == math.prod(operand.shape):
            return UbTile(operand.place, dtype, layout(shape))
        return Spread(operand, shape)

    def reshape(self, op: Op, operand: Tile | Operand) -> Tile | Operand:
        shape: Shape = op.attributes["shape"]
        dtype: DType = op.result.type.dtype
        if not isinstance(operand, Tile):
            return Uniform(operand, dtype, shape) if shape else operand
        if isinstance(operand, Uniform):
            return Uniform(operand.value, dtype, shape) if shape else operand.value
        if not shape:
            readable = self.t.readable(operand)
            return self.w.truth(self.t.element(readable, [0] * len(operand.shape)), operand)
        if isinstance(operand, Affine | Test):
            kept = [c for c, n in zip(operand.coefficients, operand.shape, strict=True) if n > 1]
            if [n for n in operand.shape if n > 1] == [n for n in shape if n > 1]:
                remaining = iter(kept)
                coefficients = tuple(next(remaining) if n > 1 else 0 for n in shape)
                if isinstance(operand, Affine):
                    return Affine(operand.base, coefficients, shape)
                return Test(operand.name, coefficients, operand.limit, shape)
        same = self._relabelled(operand, shape)
        if same is not None:
            return same
        steps = _row_major(shape)

        def source(indices: Sequence[Operand]) -> list[Operand]:
            linear = self.s.add(*(self.s.mul(i, n) for i, n in zip(indices, steps, strict=True)))
            return self._split(linear, operand.shape)

        return self.moved(operand, dtype, shape, source)

    def _split(self, linear: Operand, shape: Shape) -> list[Operand]:
        found: list[Operand] = []
        for step, extent in zip(_row_major(shape), shape, strict=True):
            found.append(0 if extent == 1 else self.s.mod(self.s.div(linear, step), extent))
        return found

    def _relabelled(self, operand: Tile, shape: Shape) -> Tile | None:
        """The same memory under another shape, where rows and columns stay."""
        if isinstance(operand, Test):
            operand = self.t.bits(operand)
        if not isinstance(operand, UbTile | BitTile):
            return None
        before, after = operand.layout, layout(shape)
        same = (before.rows, before.columns) == (after.rows, after.columns)
        if not same and not (before.flat and after.flat):
            return None
        if isinstance(operand, BitTile):
            return BitTile(operand.place, after)
        return UbTile(operand.place, operand.dtype, after)

    def transpose(self, op: Op, operand: Tile) -> Tile:
        permutation = op.attributes["permutation"]
        shape = shape_of(op.result.type)
        dtype: DType = op.result.type.dtype
        if isinstance(operand, Uniform):
            return Uniform(operand.value, dtype, shape)
        if isinstance(operand, Affine):
            return Affine(operand.base, tuple(operand.coefficients[p] for p in permutation), shape)
        if isinstance(operand, Test):
            return Test(operand.name, tuple(operand.coefficients[p] for p in permutation), operand.limit, shape)
        wide = [p for p in permutation if operand.shape[p] > 1]
        if wide == sorted(wide):
            same = self._relabelled(operand, shape)
            if same is not None:
                return same

        def source(indices: Sequence[Operand]) -> list[Operand]:
            places: list[Operand] = [0] * len(permutation)
            for axis, p in enumerate(permutation):
                places[p] = indices[axis]
            return places

        return self.moved(operand, dtype, shape, source)

    def extract(self, op: Op, operand: Tile) -> Tile:
        starts, sizes, steps = (op.attributes[k] for k in ("starts", "sizes", "steps"))
        shape = shape_of(op.result.type)
        dtype: DType = op.result.type.dtype
        if isinstance(operand, Uniform):
            return Uniform(operand.value, dtype, shape)
        if isinstance(operand, Affine):
            base = self.s.add(operand.base, sum(c * b for c, b in zip(operand.coefficients, starts, strict=True)))
            return Affine(base, tuple(c * k for c, k in zip(operand.coefficients, steps, strict=True)), shape)
        if isinstance(operand, UbTile) and dtype.bytes in (2, 4, 8) and len(shape) <= 2:
            found = self._rows_of(operand, starts, steps, shape)
            if found is not None:
                return found
        del sizes

        def source(indices: Sequence[Operand]) -> list[Operand]:
            return [self.s.add(b, self.s.mul(i, k)) for i, b, k in zip(indices, starts, steps, strict=True)]

        return self.moved(operand, dtype, shape, source)

    def _rows_of(self, operand: UbTile, starts: Sequence[int], steps: Sequence[int], shape: Shape) -> Tile | None:
        """A piece whose rows begin at blocks."""
        size = operand.dtype.bytes
        if steps[-1] != 1 or (len(steps) == 2 and steps[0] != 1):
            return None
        pitches = operand.layout.strides()
        offset = sum(b * p for b, p in zip(starts, pitches, strict=True)) * size
        target = layout(shape)
        source_pitch = pitches[0] if len(shape) == 2 and shape[1] > 1 and shape[0] > 1 else target.pitch
        if offset % BLOCK or (len(shape) == 2 and shape[1] == 1 and shape[0] > 1 and operand.shape[1] > 1):
            return None
        from opdsl.targets.npu.vector_unit import Lines

        result = self.t.new(operand.dtype, shape)
        factor = 2 if size == 8 else 1
        moved = "i16" if size == 2 else "i32"
        self.t.v.run(
            "copy",
            target.rows,
            target.columns * factor,
            Lines(result.place.view(moved), target.pitch * factor),
            [Lines(operand.place.at(offset).view(moved), source_pitch * factor)],
        )
        return result

    def concat(self, op: Op, operands: Sequence[Tile]) -> Tile:
        axis = op.attributes["axis"]
        shape = shape_of(op.result.type)
        dtype: DType = op.result.type.dtype
        if all(isinstance(o, Uniform) and o.value is operands[0].value for o in operands):  # type: ignore[union-attr]
            return Uniform(operands[0].value, dtype, shape)  # type: ignore[union-attr]
        held = t.f32 if dtype.is_bool else dtype
        result = self.t.new(held, shape)
        begin = 0
        for operand in operands:
            readable = self.t.readable(operand)
            start = begin

            def move(indices: list[Operand], readable: Tile = readable, start: int = start) -> None:
                target = [self.s.add(i, start) if a == axis else i for a, i in enumerate(indices)]
                self.t.store(result, target, self.t.element(readable, indices))

            self.t.each(operand.shape, move)
            begin += operand.shape[axis]
        return self.t.bits_of(result) if dtype.is_bool else result

    def moved(
        self, operand: Tile, dtype: DType, shape: Shape, source: Callable[[Sequence[Operand]], list[Operand]]
    ) -> Tile:
        """Element by element, from where `source` says."""
        readable = self.t.readable(operand)
        result = self.t.new(t.f32 if dtype.is_bool else dtype, shape)

        def move(indices: list[Operand]) -> None:
            self.t.store(result, indices, self.t.element(readable, source(indices)))

        self.t.each(shape, move)
        return self.t.bits_of(result) if dtype.is_bool else result


def _row_major(shape: Shape) -> list[int]:
    steps, step = [], 1
    for extent in reversed(shape):
        steps.append(step)
        step *= extent
    return steps[::-1]
