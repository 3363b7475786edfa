"""Elementwise ops: on index tiles by formula, on floats by the vector unit, on everything else element by element.

16-bit floats are computed in f32 and rounded after every op, as the IR says. What the vector unit has no instruction
for (f64, 64-bit and unsigned integers, 8-bit types, division of integers, ...) the scalar unit computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opdsl.ir import types as t
from opdsl.ir.core import Op
from opdsl.ir.ops import COMPARISONS
from opdsl.ir.types import DType, TileType
from opdsl.npu.statements import Operand, Register
from opdsl.targets.npu.functions import FUNCTIONS, Functions
from opdsl.targets.npu.tiles import Tiles
from opdsl.targets.npu.values import Affine, BitTile, Spread, Test, Tile, UbTile, Uniform
from opdsl.targets.npu.vector_unit import Lines, lines

HALVES = (t.f16, t.bf16)
BINARY = {"add": "add", "sub": "sub", "mul": "mul", "div": "div", "max": "max", "min": "min"}
SCALAR_FORMS = {"add": "adds", "mul": "muls", "max": "maxs", "min": "mins"}
ROUND_MODES = {"floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "rint"}
_SWAPPED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "eq": "eq", "ne": "ne"}


class Elementwise:
    def __init__(self, tiles: Tiles) -> None:
        self.t = tiles
        self.e = tiles.e
        self.s = tiles.s
        self.v = tiles.v
        self.functions = Functions(self)

    def lower(self, op: Op, operands: Sequence[Tile]) -> Tile:
        """The result of an elementwise op on tiles."""
        assert isinstance(op.result.type, TileType)
        shape, result = op.result.type.shape, op.result.type.dtype
        source = op.operands[-1].type.dtype
        word = op.attributes.get("word", 0)
        if all(isinstance(o, Uniform) for o in operands):
            values = [o.value for o in operands if isinstance(o, Uniform)]
            return Uniform(self.s.op(op.name, source, values, result, word), result, shape)
        if op.name == "random_bits":
            return self._random(op, operands, word)
        found = self._index_formula(op.name, operands, shape)
        if found is None and result.is_bool:
            found = self._bools(op.name, source, operands, shape)
        if found is None and op.name == "cast":
            found = self.cast(operands[0], source, result, shape)
        if found is None and op.name == "select":
            found = self._select(operands, result, shape)
        if found is None and source == result:
            found = self._numbers(op.name, result, operands, shape)
        return found or self._one_by_one(op, operands, shape)

    # --- i64 tiles that are formulas of the index

    def _index_formula(self, name: str, operands: Sequence[Tile], shape: tuple[int, ...]) -> Tile | None:
        forms = [self._affine(o) for o in operands]
        if not all(forms) or not any(isinstance(o, Affine) for o in operands):
            return None
        if name == "neg":
            (a,) = forms
            return Affine(self.s.sub(0, a.base), tuple(-c for c in a.coefficients), shape)  # type: ignore[union-attr]
        if len(forms) != 2:
            return None
        a, b = forms
        assert a is not None and b is not None
        if name == "add":
            coefficients = tuple(x + y for x, y in zip(a.coefficients, b.coefficients, strict=True))
            return Affine(self.s.add(a.base, b.base), coefficients, shape)
        if name == "sub":
            coefficients = tuple(x - y for x, y in zip(a.coefficients, b.coefficients, strict=True))
            return Affine(self.s.sub(a.base, b.base), coefficients, shape)
        if name == "mul":
            for x, y in ((a, b), (b, a)):
                if isinstance(y.base, int) and not any(y.coefficients) and abs(y.base) < 1 << 31:
                    factor = y.base
                    return Affine(self.s.mul(x.base, factor), tuple(c * factor for c in x.coefficients), shape)
            return None
        if name in COMPARISONS:
            coefficients = tuple(x - y for x, y in zip(a.coefficients, b.coefficients, strict=True))
            reach = sum(abs(c) * (n - 1) for c, n in zip(coefficients, shape, strict=True))
            if reach < 1 << 24:  # exact in f32
                return Test(name, coefficients, self.s.sub(b.base, a.base), shape)
        return None

    @staticmethod
    def _affine(tile: Tile) -> Affine | None:
        if isinstance(tile, Affine):
            return tile
        if isinstance(tile, Uniform) and tile.dtype == t.i64:
            return Affine(tile.value, (0,) * len(tile.shape), tile.shape)
        return None

    # --- bools

    def _bools(self, name: str, source: DType, operands: Sequence[Tile], shape: tuple[int, ...]) -> Tile | None:
        if source.is_bool and name in ("and", "or", "xor", "not", "min", "max", "eq", "ne", "select"):
            return self._logic(name, operands, shape)
        if name == "cast":
            return self._compare("ne", source, [operands[0], Uniform(0, source, shape)], shape)
        if name in COMPARISONS:
            return self._compare(name, source, operands, shape)
        if name in ("isnan", "isinf", "isfinite") and source in (t.f32, *HALVES):
            (x,) = operands
            if name == "isnan":
                return self._compare("ne", source, [x, x], shape)
            size = self._f32("abs", [self.single(x, source)], shape)
            limit = Uniform(float("inf"), t.f32, shape)
            return self._compare("eq" if name == "isinf" else "lt", t.f32, [size, limit], shape)
        return None

    def _logic(self, name: str, operands: Sequence[Tile], shape: tuple[int, ...]) -> BitTile:
        bits = [self.t.bits(self._shaped_bits(o, shape)) for o in operands]
        result = self.t.new_bits(shape)
        count = result.place.buffer.bytes // 2

        def run(instruction: str, target: BitTile, *sources: BitTile) -> BitTile:
            views = [Lines(b.place.view("u16"), 0) for b in (target, *sources)]
            self.v.run(instruction, 1, count, views[0], views[1:])
            return target

        if name == "not":
            return run("not_", result, bits[0])
        if name in ("and", "min"):
            return run("and_", result, *bits)
        if name in ("or", "max"):
            return run("or_", result, *bits)
        if name == "select":
            chosen = run("and_", self.t.new_bits(shape), bits[0], bits[1])
            inverse = run("not_", self.t.new_bits(shape), bits[0])
            other = run("and_", self.t.new_bits(shape), inverse, bits[2])
            return run("or_", result, chosen, other)
        either = run("or_", self.t.new_bits(shape), *bits)  # xor: or, without and
        common = run("and_", self.t.new_bits(shape), *bits)
        differs = run("and_", self.t.new_bits(shape), either, run("not_", self.t.new_bits(shape), common))
        return run("not_", result, differs) if name == "eq" else differs

    def _shaped_bits(self, tile: Tile, shape: tuple[int, ...]) -> Tile:
        return tile if not isinstance(tile, Uniform) else Uniform(tile.value, tile.dtype, shape)

    def _compare(self, name: str, source: DType, operands: Sequence[Tile], shape: tuple[int, ...]) -> Tile | None:
        if source in (t.f32, *HALVES) or (source in (t.i8, t.u8, t.i16) and self._castable(source, t.f32)):
            a, b = (self.single(o, source) for o in operands)
        elif source == t.i32 and name in ("eq", "ne"):
            a, b = operands
        else:
            return None
        if isinstance(a, Uniform):
            a, b, name = b, a, _SWAPPED[name]
        inverse = source == t.i32 and name == "ne"
        if inverse:
            name = "eq"
        left = self.t.tile(a)
        result = self.t.new_bits(shape)
        tile = left.layout
        source_lines = lines(left.place, tile)
        if isinstance(b, Uniform):
            self.v.compare(tile, result.place, source_lines, None, name, b.value)
        else:
            right = self.t.tile(b)
            self.v.compare(tile, result.place, source_lines, lines(right.place, tile), name)
        return self._logic("not", [result], shape) if inverse else result

    # --- casts

    def single(self, tile: Tile, dtype: DType) -> Tile:
        """The numbers as f32, exactly."""
        if dtype == t.f32:
            return tile
        shape = tile.shape
        if isinstance(tile, Spread):
            inner = self.cast(tile.source, dtype, t.f32, tile.source.shape)
            assert isinstance(inner, UbTile)
            return Spread(inner, shape)
        found = self.cast(tile, dtype, t.f32, shape)
        assert found is not None
        return found

    @staticmethod
    def _castable(source: DType, target: DType) -> bool:
        return _route(source, target) is not None

    def cast(self, tile: Tile, source: DType, target: DType, shape: tuple[int, ...]) -> Tile | None:
        if source == target:
            return tile
        if isinstance(tile, Uniform):
            return Uniform(self.s.cast(tile.value, source, target), target, shape)
        if source.is_bool:
            numbers = self.t.numbers(self.t.bits(tile))
            return self.cast(numbers, t.f32, target, shape)
        route = _route(source, target)
        if route is None or not self._has_casts(route):
            return None
        if isinstance(tile, Spread):
            inner = self.cast(tile.source, source, target, tile.source.shape)
            return Spread(inner, shape) if isinstance(inner, UbTile) else None
        made = self.t.tile(tile)
        for dtype, mode in route:
            result = self.t.new(dtype, shape)
            self.v.run(
                "cast",
                made.layout.rows,
                made.layout.columns,
                lines(result.place, result.layout),
                [lines(made.place, made.layout)],
                option=mode,
            )
            made = result
        return made

    def _has_casts(self, route: Sequence[tuple[DType, str]]) -> bool:
        return self.e.chip.split or all(dtype not in (t.bf16, t.i64) for dtype, _ in route)

    # --- numbers

    def _select(self, operands: Sequence[Tile], dtype: DType, shape: tuple[int, ...]) -> Tile | None:
        condition, a, b = operands
        if dtype.is_bool:
            return None
        if dtype in HALVES or dtype in (t.i16, t.i8, t.u8):
            if not (self._castable(dtype, t.f32) and self._castable(t.f32, dtype)):
                return None
            chosen = self._select([condition, self.single(a, dtype), self.single(b, dtype)], t.f32, shape)
            assert chosen is not None
            return self.cast(chosen, t.f32, dtype, shape)
        if dtype.bits != 32:
            return None
        bits = self.t.bits(self._shaped_bits(condition, shape))
        tile = bits.layout
        result = self.t.new(dtype, shape)

        def view(operand: Lines) -> Lines:
            return Lines(operand.place.view("f32"), operand.pitch, operand.spread)

        first = self.t.operand(a, tile) if isinstance(a, Uniform) else lines(self.t.tile(a).place, tile)
        target = view(lines(result.place, tile))
        if isinstance(b, Uniform) and dtype == t.f32:
            self.v.select(tile, target, bits.place, view(first), None, b.value)
        else:
            second = self.t.operand(b, tile) if isinstance(b, Uniform) else lines(self.t.tile(b).place, tile)
            self.v.select(tile, target, bits.place, view(first), view(second))
        return result

    def _numbers(self, name: str, dtype: DType, operands: Sequence[Tile], shape: tuple[int, ...]) -> Tile | None:
        if dtype == t.f32:
            return self._f32(name, operands, shape) if self.knows(name) else None
        if dtype in HALVES:
            if not self.knows(name) or not self._has_casts(((dtype, ""),)):
                return None
            wide = self._f32(name, [self.single(o, dtype) for o in operands], shape)
            return self.cast(wide, t.f32, dtype, shape)
        if dtype in (t.i32, t.u32):
            return self._integers(name, dtype, operands, shape)
        return None

    def knows(self, name: str) -> bool:
        """Whether f32 tiles are computed by the vector unit."""
        return name in BINARY or name in ROUND_MODES or name in FUNCTIONS or name in ("neg", "abs", "fma")

    def _f32(self, name: str, operands: Sequence[Tile], shape: tuple[int, ...]) -> Tile:
        if name in BINARY:
            return self.binary(name, operands[0], operands[1], shape)
        if name in ROUND_MODES:
            return self.unary("cast", operands[0], shape, option=ROUND_MODES[name])
        if name == "neg":
            return self.unary("muls", operands[0], shape, scalar=-1.0)
        if name == "abs":
            return self.unary("abs", operands[0], shape)
        if name == "fma":
            a, b, c = operands
            result = self.t.new(t.f32, shape)
            self.t.tile(c, result)
            tile = result.layout
            sources = [self.t.operand(o, tile) for o in (a, b)]
            self.v.run("mul_add_dst", tile.rows, tile.columns, lines(result.place, tile), sources, reads_dst=True)
            return result
        return FUNCTIONS[name](self.functions, operands, shape)

    def unary(
        self,
        instruction: str,
        operand: Tile,
        shape: tuple[int, ...],
        scalar: Operand = 0,
        option: str | None = None,
        dtype: DType = t.f32,
    ) -> UbTile:
        result = self.t.new(dtype, shape)
        tile = result.layout
        source = self.t.operand(operand, tile)
        self.v.run(
            instruction, tile.rows, tile.columns, lines(result.place, tile), [source], scalar=scalar, option=option
        )
        return result

    def binary(self, name: str, a: Tile, b: Tile, shape: tuple[int, ...], dtype: DType = t.f32) -> Tile:
        if isinstance(a, Uniform) and isinstance(b, Uniform):
            return Uniform(self.s.op(name, dtype, [a.value, b.value], dtype), dtype, shape)
        if isinstance(a, Uniform) and name in SCALAR_FORMS:
            a, b = b, a
        if isinstance(b, Uniform) and name == "sub":
            negative = self.s.op("neg", dtype, [b.value], dtype)
            return self.unary("adds", a, shape, negative, dtype=dtype)
        if isinstance(b, Uniform) and name in SCALAR_FORMS:
            return self.unary(SCALAR_FORMS[name], a, shape, b.value, dtype=dtype)
        result = self.t.new(dtype, shape)
        tile = result.layout
        sources = [self.t.operand(a, tile), self.t.operand(b, tile)]
        self.v.run(BINARY[name], tile.rows, tile.columns, lines(result.place, tile), sources)
        return result

    def _integers(self, name: str, dtype: DType, operands: Sequence[Tile], shape: tuple[int, ...]) -> Tile | None:
        signed = dtype == t.i32
        if name in ("add", "sub", "mul") or (signed and name in ("max", "min")):
            if dtype == t.u32:
                made = [self._as(o, t.u32, t.i32) for o in operands]
                result = self.binary(name, made[0], made[1], shape, t.i32)
                return self._as(result, t.i32, t.u32)
            return self.binary(name, operands[0], operands[1], shape, t.i32)
        if name == "neg" and signed:
            return self.unary("muls", operands[0], shape, -1, dtype=t.i32)
        if name in ("and", "or", "not"):
            sources = [self.t.tile(o) for o in operands]
            result_tile = self.t.new(dtype, shape)
            tile = result_tile.layout
            views = [Lines(m.place.view("u16"), 2 * tile.pitch) for m in (result_tile, *sources)]
            self.v.run(f"{name}_", tile.rows, 2 * tile.columns, views[0], views[1:])
            return result_tile
        if name in ("shl", "shr") and isinstance(operands[1], Uniform):
            count = operands[1].value
            if isinstance(count, int) and 0 <= count < 32:
                instruction = "shift_left" if name == "shl" else "shift_right"
                return self.unary(instruction, operands[0], shape, count, dtype=dtype)
        return None

    def _as(self, tile: Tile, source: DType, target: DType) -> Tile:
        """The same bits as another type of integer."""
        if isinstance(tile, Uniform):
            return Uniform(self.s.wrap(tile.value, target), target, tile.shape)
        if isinstance(tile, Spread):
            inner = self._as(tile.source, source, target)
            assert isinstance(inner, UbTile)
            return Spread(inner, tile.shape)
        made = self.t.tile(tile)
        return UbTile(made.place.view(target.name), target, made.layout)

    def _random(self, op: Op, operands: Sequence[Tile], word: int) -> Tile:
        return self._one_by_one(op, operands, op.result.type.shape)  # type: ignore[union-attr]

    # --- the scalar unit

    def _one_by_one(self, op: Op, operands: Sequence[Tile], shape: tuple[int, ...]) -> Tile:
        source = op.operands[-1].type.dtype
        result = op.result.type.dtype
        word = op.attributes.get("word", 0)

        def compute(values: list[Operand]) -> Operand:
            return self.s.op(op.name, source, values, result, word)

        return self.one_by_one(compute, operands, result, shape)

    def one_by_one(
        self,
        compute: Callable[[list[Operand]], Operand],
        operands: Sequence[Tile],
        dtype: DType,
        shape: tuple[int, ...],
    ) -> Tile:
        """Each element by `compute` from the operands' elements."""
        sources = [self.t.readable(o) for o in operands]
        result = self.t.new(t.f32 if dtype.is_bool else dtype, shape)

        def body(indices: list[Operand]) -> None:
            values = [self.truth(self.t.element(s, indices), o) for s, o in zip(sources, operands, strict=True)]
            value = compute(values)
            self.t.store(result, indices, value)

        self.t.each(shape, body)
        return self.t.bits_of(result) if dtype.is_bool else result

    def truth(self, value: Operand, tile: Tile) -> Operand:
        """A bool that was read as f32, as an integer."""
        if isinstance(tile, BitTile | Test) and isinstance(value, Register):
            return self.s.compute("ne", "f32", value, 0.0, result="i64")
        return value


def _route(source: DType, target: DType) -> tuple[tuple[DType, str], ...] | None:
    """The vector unit's casts, one after the other, that make one of the IR. Each but the last is exact."""
    routes: dict[tuple[str, str], tuple[tuple[DType, str], ...]] = {
        ("f16", "f32"): ((t.f32, "none"),),
        ("bf16", "f32"): ((t.f32, "none"),),
        ("f32", "f16"): ((t.f16, "rint"),),
        ("f32", "bf16"): ((t.bf16, "rint"),),
        ("f16", "bf16"): ((t.f32, "none"), (t.bf16, "rint")),
        ("bf16", "f16"): ((t.f32, "none"), (t.f16, "rint")),
        ("i32", "f32"): ((t.f32, "rint"),),
        ("i32", "bf16"): ((t.f32, "rint"), (t.bf16, "rint")),
        ("f32", "i32"): ((t.i32, "trunc"),),
        ("f16", "i32"): ((t.f32, "none"), (t.i32, "trunc")),
        ("bf16", "i32"): ((t.f32, "none"), (t.i32, "trunc")),
        ("i16", "f32"): ((t.f32, "none"),),
        ("i8", "f16"): ((t.f16, "none"),),
        ("u8", "f16"): ((t.f16, "none"),),
        ("i8", "f32"): ((t.f16, "none"), (t.f32, "none")),
        ("u8", "f32"): ((t.f16, "none"), (t.f32, "none")),
        ("i8", "i32"): ((t.f16, "none"), (t.i32, "rint")),
        ("u8", "i32"): ((t.f16, "none"), (t.i32, "rint")),
        ("f32", "i8"): ((t.i16, "trunc"), (t.f16, "rint"), (t.i8, "rint")),
        ("f32", "u8"): ((t.i16, "trunc"), (t.f16, "rint"), (t.u8, "rint")),
        ("f32", "i16"): ((t.i16, "trunc"),),
        ("f32", "i64"): ((t.i64, "trunc"),),
        ("i32", "i64"): ((t.i64, "none"),),
    }
    return routes.get((source.name, target.name))
