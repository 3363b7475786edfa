"""Reductions, scans and sorting.

Sums, maxima and minima of floats over the columns of a tile, over its rows or over everything are folded by the vector
unit: halves of a row are combined until a repeat's 64 elements are left, which one instruction reduces. All others are
loops of the scalar unit, in the order that the IR defines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from opdsl.ir import types as t
from opdsl.ir.core import Op
from opdsl.ir.semantics.identities import identity
from opdsl.ir.types import DType, TileType, shape_of
from opdsl.npu.statements import Operand, Register
from opdsl.targets.npu.elementwise import HALVES, Elementwise
from opdsl.targets.npu.emitter import Place
from opdsl.targets.npu.layouts import BLOCK, layout
from opdsl.targets.npu.values import Tile, UbTile
from opdsl.targets.npu.vector_unit import MOST_REPEATS, Lines, lines

Shape = tuple[int, ...]
Combine = Callable[[list[Operand], list[Operand]], list[Operand]]
FOLDS = {"sum": "add", "max": "max", "min": "min"}
REPEAT = 64  # f32 elements


class Reductions:
    def __init__(self, elementwise: Elementwise) -> None:
        self.w = elementwise
        self.t = elementwise.t
        self.e = elementwise.e
        self.s = elementwise.s

    # --- by the vector unit

    def reduce(self, op: Op, operand: Tile) -> Tile | Operand:
        kind, axes = op.attributes["kind"], tuple(op.attributes["axes"])
        source: DType = op.operands[0].type.dtype
        result: DType = op.result.type.dtype
        shape = shape_of(op.result.type)
        if source.is_bool:
            numbers = self.t.numbers(self.t.bits(operand))
            fold = {"any": "max", "all": "min"}.get(kind, kind)
            found = self._fold(fold, numbers, axes, shape) if fold in FOLDS else None
            if found is None:
                return self._fallback(op, operand, shape)
            if isinstance(found, UbTile):
                return self.t.bits_of(found) if result.is_bool else self.w.cast(found, t.f32, result, shape) or found
            return self.s.cast(found, t.f32, result)
        if kind in FOLDS and source in (t.f32, *HALVES) and (source != t.bf16 or self.e.chip.split):
            found = self._fold(kind, self.t.tile(self.w.single(operand, source)), axes, shape)
            if isinstance(found, UbTile):
                return self.w.cast(found, t.f32, result, shape) or found
            if found is not None:
                return self.s.cast(found, t.f32, result)
        return self._fallback(op, operand, shape)

    def _fold(self, kind: str, tile: UbTile, axes: Sequence[int], shape: Shape) -> UbTile | Operand | None:
        """None where the axes are neither the columns, nor the rows, nor everything."""
        wide = [axis for axis, n in enumerate(tile.shape) if n > 1]
        reduced = [axis for axis in wide if axis in axes]
        made = tile.layout
        if not reduced:
            found: UbTile | None = UbTile(tile.place, t.f32, layout(shape)) if shape else None
            return found if found is not None else self.e.load(Place(tile.place.buffer, "f32", tile.place.offset))
        if reduced == wide:
            dense = self._columns(kind, tile) if made.rows > 1 else tile.place
            total = self._row(kind, dense, made.rows if made.rows > 1 else made.columns)
            if not shape:
                return self.e.load(total)
            return UbTile(total, t.f32, layout(shape))
        if reduced == wide[-1:]:
            if layout(shape).flat:
                return UbTile(self._columns(kind, tile), t.f32, layout(shape))
            return None
        if reduced == wide[: len(reduced)] and len(reduced) == len(wide) - 1:
            return UbTile(self._rows(kind, tile), t.f32, layout(shape))
        return None

    def _row(self, kind: str, place: Place, count: int) -> Place:
        """One dense row to one element."""
        row = UbTile(place, t.f32, layout((count,)))
        return self._columns(kind, row)

    def _columns(self, kind: str, tile: UbTile) -> Place:
        """Each row to one element, dense."""
        rows, width = tile.layout.rows, tile.layout.columns
        source = lines(tile.place, tile.layout)
        v, name = self.t.v, FOLDS[kind]
        own = False
        while width > REPEAT:
            half = -(-width // (2 * REPEAT)) * REPEAT
            rest = width - half
            upper = Lines(source.place.at(half * 4), source.pitch)
            if own and source.pitch * 4 <= MOST_REPEATS * BLOCK:
                v.run(name, rows, rest, source, [source, upper])
            else:  # the tile itself stays as it is; and rows must not be too far apart for one instruction to step over
                work = Lines(self.t.scratch(rows * half * 4, "f32", "partial", (rows, half)), half)
                self._combine(name, rows, half, rest, work, source, upper)
                source, own = work, True
            width = half
        result = self.t.scratch(-(-rows // 8) * 32, "f32", "reduced", (rows,))
        v.reduce_rows(kind, result, source, rows, width)
        return result

    def _combine(self, name: str, rows: int, half: int, rest: int, work: Lines, source: Lines, upper: Lines) -> None:
        """work = `half` columns of source, the first `rest` of them combined with upper."""
        v = self.t.v
        if rest % 8 == 0:
            v.run(name, rows, rest, work, [source, upper])
            if rest < half:
                tail = Lines(work.place.at(rest * 4), work.pitch)
                v.run("copy", rows, half - rest, tail, [Lines(source.place.at(rest * 4), source.pitch)])
        else:  # the whole row first, then the sums over it: places that are no multiple of a block cannot be written to
            v.run("copy", rows, half, work, [source])
            v.run(name, rows, rest, work, [work, upper])

    def _rows(self, kind: str, tile: UbTile) -> Place:
        """All rows to one."""
        rows, columns, pitch = tile.layout.rows, tile.layout.columns, tile.layout.pitch
        v, name = self.t.v, FOLDS[kind]
        half = -(-rows // 2)
        place = self.t.scratch(half * pitch * 4, "f32", "partial")
        work, source = Lines(place, pitch), lines(tile.place, tile.layout)
        v.run(name, rows - half, columns, work, [source, Lines(source.place.at(half * pitch * 4), pitch)])
        if rows - half < half:
            last = (half - 1) * pitch * 4
            v.run("copy", 1, columns, Lines(place.at(last), pitch), [Lines(source.place.at(last), pitch)])
        while half > 1:
            rows, half = half, -(-half // 2)
            v.run(name, rows - half, columns, work, [work, Lines(place.at(half * pitch * 4), pitch)])
        return place

    # --- by the scalar unit

    def _fallback(self, op: Op, operand: Tile, shape: Shape) -> Tile | Operand:
        kind, axes = op.attributes["kind"], tuple(op.attributes["axes"])
        source: DType = op.operands[0].type.dtype
        result: DType = op.result.type.dtype
        name = {"sum": "add", "prod": "mul", "any": "or", "all": "and"}.get(kind, kind)
        wide = t.f64 if result.is_float and kind in ("sum", "prod") else result
        start: Operand = {"any": 0, "all": 1}.get(kind, 0) if kind in ("any", "all") else identity(kind, result)
        if wide.is_float:
            start = float(start)  # type: ignore[arg-type]

        def combine(left: list[Operand], right: list[Operand]) -> list[Operand]:
            return [self.s.op(name, wide, [left[0], right[0]], wide)]

        def finish(values: list[Operand]) -> list[Operand]:
            if wide == result:
                return values
            middle = self.s.cast(values[0], t.f64, t.f32) if result in HALVES or result.bits == 8 else values[0]
            return [self.s.cast(middle, t.f32 if middle is not values[0] else t.f64, result)]

        def element(readable: Sequence[Tile], indices: list[Operand]) -> list[Operand]:
            value = self.w.truth(self.t.element(readable[0], indices), operand)
            return [self.s.cast(value, source, wide)]

        extent = operand.shape
        (found,) = self._reduce_loop([operand], extent, axes, [start], combine, element, finish, [result], shape)
        return found

    def _reduce_loop(
        self,
        operands: Sequence[Tile],
        extent: Shape,
        axes: Sequence[int],
        start: list[Operand],
        combine: Combine,
        element: Callable[[Sequence[Tile], list[Operand]], list[Operand]],
        finish: Callable[[list[Operand]], list[Operand]],
        dtypes: Sequence[DType],
        shape: Shape,
    ) -> list[Tile | Operand]:
        readable = [self.t.readable(o) for o in operands]
        kept = [n for axis, n in enumerate(extent) if axis not in axes]
        inner = [extent[axis] for axis in axes]
        results = [self.t.new(t.f32 if d.is_bool else d, shape) for d in dtypes] if shape else []
        scalars: list[Operand] = []

        def outer(place: list[Operand]) -> None:
            sums = [self.t.register(t.f64 if isinstance(v, float) else t.i64, "sum") for v in start]
            for register, value in zip(sums, start, strict=True):
                self.s.move(register, value)

            def one(indices: list[Operand]) -> None:
                full = self._merge(len(extent), axes, place, indices)
                values = combine(list(sums), element(readable, full))
                for register, value in zip(sums, values, strict=True):
                    self.s.move(register, value)

            self.t.each(inner, one)
            final = finish(list(sums))
            if not shape:
                scalars.extend(final)
                return
            for tile, value in zip(results, final, strict=True):
                self.t.store(tile, place, value)

        self.t.each(kept, outer)
        if not shape:
            return list(scalars)
        return [self.t.bits_of(r) if d.is_bool else r for r, d in zip(results, dtypes, strict=True)]

    @staticmethod
    def _merge(rank: int, axes: Sequence[int], kept: Sequence[Operand], inner: Sequence[Operand]) -> list[Operand]:
        places, others = iter(inner), iter(kept)
        along = dict(zip(axes, places, strict=True))
        return [along[axis] if axis in along else next(others) for axis in range(rank)]

    def _elements(self, operands: Sequence[Tile], readable: Sequence[Tile], indices: list[Operand]) -> list[Operand]:
        return [self.w.truth(self.t.element(r, indices), o) for r, o in zip(readable, operands, strict=True)]

    def custom(self, op: Op, operands: Sequence[Tile], call: Combine, keep_all: bool) -> list[Tile | Operand]:
        """reduce_custom, or scan_custom with `keep_all`: left to right along one axis."""
        axis = op.attributes["axis"]
        reverse = bool(op.attributes.get("reverse", False))
        extent = operands[0].shape
        length = extent[axis]
        shape = shape_of(op.results[0].type)
        dtypes: list[DType] = [r.type.dtype for r in op.results]
        readable = [self.t.readable(o) for o in operands]
        results = [self.t.new(t.f32 if d.is_bool else d, shape) for d in dtypes] if shape else []
        kept = [n for a, n in enumerate(extent) if a != axis]
        scalars: list[Operand] = []

        def place_of(step: Operand) -> Operand:
            return self.s.sub(length - 1, step) if reverse else step

        def put(indices: list[Operand], values: Sequence[Operand]) -> None:
            for tile, value in zip(results, values, strict=True):
                self.t.store(tile, indices, value)

        def outer(place: list[Operand]) -> None:
            def full(step: Operand) -> list[Operand]:
                return [*place[:axis], place_of(step), *place[axis:]]

            running = [self.t.register(d, "running") for d in dtypes]
            for register, value in zip(running, self._elements(operands, readable, full(0)), strict=True):
                self.s.move(register, value)
            if keep_all:
                put(full(0), running)
            with self.e.loop(1, length, cores=self.e.core) as step:
                values = call(list(running), self._elements(operands, readable, full(step)))
                copies = [self._copied(v) for v in values]
                for register, value in zip(running, copies, strict=True):
                    self.s.move(register, value)
                if keep_all:
                    put(full(step), running)
            if keep_all:
                return
            if shape:
                put(place, running)
            else:
                scalars.extend(running)

        self.t.each(kept, outer)
        if not shape:
            return list(scalars)
        return [self.t.bits_of(r) if d.is_bool else r for r, d in zip(results, dtypes, strict=True)]

    def _copied(self, value: Operand) -> Operand:
        if not isinstance(value, Register):
            return value
        copy = self.s.register(value.dtype, "copy")
        self.s.move(copy, value)
        return copy

    def scan(self, op: Op, operand: Tile) -> Tile:
        kind, axis = op.attributes["kind"], op.attributes["axis"]
        reverse, exclusive = op.attributes["reverse"], op.attributes["exclusive"]
        source: DType = op.operands[0].type.dtype
        result: DType = op.result.type.dtype
        extent = operand.shape
        name = {"sum": "add", "prod": "mul"}.get(kind, kind)
        wide = t.f64 if result.is_float and kind in ("sum", "prod") else result
        start: Operand = identity(kind, result)
        start = float(start) if wide.is_float else int(start)  # type: ignore[arg-type]
        readable = self.t.readable(operand)
        made = self.t.new(t.f32 if result.is_bool else result, extent)
        kept = [n for a, n in enumerate(extent) if a != axis]

        def rounded(value: Operand) -> Operand:
            if wide == result:
                return value
            if result.bits < 32:
                value = self.s.cast(value, t.f64, t.f32)
                return self.s.cast(value, t.f32, result)
            return self.s.cast(value, t.f64, result)

        def outer(place: list[Operand]) -> None:
            running = self.t.register(wide, "running")
            self.s.move(running, start)
            with self.e.loop(0, extent[axis], cores=self.e.core) as step:
                where = self.s.sub(extent[axis] - 1, step) if reverse else step
                full = [*place[:axis], where, *place[axis:]]
                value = self.w.truth(self.t.element(readable, full), operand)
                value = self.s.cast(value, source, wide)
                if exclusive:
                    self._put(made, full, rounded(running), result)
                self.s.move(running, self.s.op(name, wide, [running, value], wide))
                if not exclusive:
                    self._put(made, full, rounded(running), result)

        self.t.each(kept, outer)
        return self.t.bits_of(made) if result.is_bool else made

    def _put(self, tile: UbTile, indices: list[Operand], value: Operand, dtype: DType) -> None:
        self.t.store(tile, indices, value)

    def arg_reduce(self, op: Op, operand: Tile) -> Tile | Operand:
        axis = op.attributes["axis"]
        name = "gt" if op.attributes["kind"] == "max" else "lt"
        dtype: DType = op.operands[0].type.dtype
        extent = operand.shape
        shape = shape_of(op.result.type)
        readable = self.t.readable(operand)
        made = self.t.new(t.i64, shape) if shape else None
        kept = [n for a, n in enumerate(extent) if a != axis]
        scalars: list[Operand] = []

        def read(full: list[Operand]) -> Operand:
            return self.w.truth(self.t.element(readable, full), operand)

        def outer(place: list[Operand]) -> None:
            best, where = self.t.register(dtype, "best"), self.t.register(t.i64, "where")
            self.s.move(best, read([*place[:axis], 0, *place[axis:]]))
            self.s.move(where, 0)
            with self.e.loop(1, extent[axis], cores=self.e.core) as step:
                value = read([*place[:axis], step, *place[axis:]])
                better = self._before(name, dtype, value, best)
                kind = "f64" if dtype.is_float else "i64"
                self.s.move(best, self.s.compute("select", kind, better, value, best, result=kind))
                self.s.move(where, self.s.compute("select", "i64", better, step, where))
            if made is not None:
                self.t.store(made, place, where)
            else:
                scalars.append(where)

        self.t.each(kept, outer)
        return made if made is not None else scalars[0]

    def _before(self, name: str, dtype: DType, a: Operand, b: Operand) -> Operand:
        """Whether a goes before b; NaN before everything."""
        better = self.s.op(name, dtype, [a, b], t.bool_)
        if dtype.is_float:
            odd = self.s.both(
                self.s.compute("isnan", "f64", a, result="i64"),
                self.s.compute("xor", "i64", self.s.compute("isnan", "f64", b, result="i64"), 1),
            )
            better = self.s.either(better, odd)
        return better

    def sort(self, op: Op, operand: Tile) -> list[Tile]:
        """Merge sort from the bottom, with the two copies of a row that it needs: stable."""
        axis, descending = op.attributes["axis"], op.attributes["descending"]
        assert isinstance(op.results[0].type, TileType)
        dtype, extent = op.results[0].type.dtype, op.results[0].type.shape
        length = extent[axis]
        readable = self.t.readable(operand)
        held = t.f32 if dtype.is_bool else dtype
        values, order = self.t.new(held, extent), self.t.new(t.i64, extent)
        rows = [(self.t.new(held, (length,), "sorted"), self.t.new(t.i64, (length,), "order")) for _ in range(2)]
        kept = [n for a, n in enumerate(extent) if a != axis]
        levels = max(0, math.ceil(math.log2(length))) if length > 1 else 0

        def outer(place: list[Operand]) -> None:
            def full(step: Operand) -> list[Operand]:
                return [*place[:axis], step, *place[axis:]]

            with self.e.loop(0, length, cores=self.e.core) as step:
                self.t.store(rows[0][0], [step], self.t.element(readable, full(step)))
                self.t.store(rows[0][1], [step], step)
            for level in range(levels):
                self._merge_level(rows[level % 2], rows[1 - level % 2], 1 << level, length, held, descending)
            final = rows[levels % 2]
            with self.e.loop(0, length, cores=self.e.core) as step:
                self.t.store(values, full(step), self.t.element(final[0], [step]))
                self.t.store(order, full(step), self.t.element(final[1], [step]))

        self.t.each(kept, outer)
        return [self.t.bits_of(values) if dtype.is_bool else values, order]

    def _merge_level(
        self,
        source: tuple[UbTile, UbTile],
        target: tuple[UbTile, UbTile],
        width: int,
        length: int,
        dtype: DType,
        descending: bool,
    ) -> None:
        s = self.s
        with self.e.loop(0, length, 2 * width, cores=self.e.core) as low:
            middle = s.min(s.add(low, width), length)
            high = s.min(s.add(low, 2 * width), length)
            left, right = s.register("i64", "left"), s.register("i64", "right")
            s.move(left, low)
            s.move(right, middle)
            with self.e.loop(low, high, cores=self.e.core) as place:
                a = self.t.element(source[0], [s.min(left, length - 1)])
                b = self.t.element(source[0], [s.min(right, length - 1)])
                # NaN counts as the largest: it goes last, or first if descending.
                right_first = self._before("gt", dtype, b, a) if descending else self._before_ascending(dtype, b, a)
                take_left = s.both(
                    s.test("lt", left, middle),
                    s.either(s.test("ge", right, high), s.compute("xor", "i64", right_first, 1)),
                )
                kind = "f64" if dtype.is_float else "i64"
                self.t.store(target[0], [place], s.compute("select", kind, take_left, a, b, result=kind))
                chosen = s.compute("select", "i64", take_left, left, right)
                self.t.store(target[1], [place], self.t.element(source[1], [chosen]))
                s.move(left, s.add(left, take_left))
                s.move(right, s.add(right, s.compute("xor", "i64", take_left, 1)))

    def _before_ascending(self, dtype: DType, a: Operand, b: Operand) -> Operand:
        """Whether a is smaller than b; NaN is larger than everything."""
        smaller = self.s.op("lt", dtype, [a, b], t.bool_)
        if dtype.is_float:
            nan_last = self.s.both(
                self.s.compute("isnan", "f64", b, result="i64"),
                self.s.compute("xor", "i64", self.s.compute("isnan", "f64", a, result="i64"), 1),
            )
            smaller = self.s.either(smaller, nan_last)
        return smaller
