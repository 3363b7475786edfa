"""Making tiles, and having them in another form: in memory, as f32, as bits, as operands of vector instructions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from opdsl.ir import types as t
from opdsl.ir.types import DType
from opdsl.npu.statements import Operand, Register
from opdsl.targets.npu.emitter import Emitter, Place
from opdsl.targets.npu.layouts import Layout, bit_bytes, layout, whole_blocks
from opdsl.targets.npu.scalar_unit import ScalarUnit
from opdsl.targets.npu.values import Affine, BitTile, Spread, Test, Tile, UbTile, Uniform
from opdsl.targets.npu.vector_unit import Lines, VectorUnit, lines

# How the vector unit sees elements that it only moves.
MOVED = {2: "i16", 4: "i32"}
DUPLICATED = {"f16", "bf16", "f32", "i16", "u16", "i32", "u32"}
LIMIT = 1 << 24  # integers up to here are exact in f32

Indices = Sequence[Operand]


class Tiles:
    """Everything that turns one form of a tile into another. Knows nothing of the IR's ops."""

    def __init__(self, emitter: Emitter) -> None:
        self.e = emitter
        self.s: ScalarUnit = emitter.s
        self.v = VectorUnit(emitter)
        self.patterns: dict[tuple[tuple[int, ...], tuple[int, ...]], UbTile] = {}
        self.hint = ""

    # --- making

    def new(self, dtype: DType, shape: tuple[int, ...], name: str = "", slots: int = 1) -> UbTile:
        tile = layout(shape)
        label = name or self.hint or "tile"
        buffer = self.e.buffer("UB", tile.bytes(dtype), label, shape, dtype.name, slots)
        return UbTile(Place(buffer, dtype.name), dtype, tile)

    def new_bits(self, shape: tuple[int, ...]) -> BitTile:
        tile = layout(shape)
        buffer = self.e.buffer("UB", bit_bytes(tile), self.hint or "mask", shape, "bool")
        if not whole_blocks(tile):  # bitwise instructions take all of the buffer, so all of it holds something
            self.v.duplicate(Place(buffer, "i16"), buffer.bytes // 2, 0)
        return BitTile(Place(buffer, "u8"), tile)

    def scratch(self, bytes: int, dtype: str, name: str, shape: tuple[int, ...] = ()) -> Place:
        return Place(self.e.buffer("UB", max(32, bytes), name, shape, dtype), dtype)

    def block(self, value: Operand, dtype: DType) -> Lines:
        """A block full of a scalar, as the operand of a vector instruction."""
        place = self.scratch(32, dtype.name, "constant")
        self.v.duplicate(place, 32 // dtype.bytes, value)
        return Lines(place, 0, spread=True)

    # --- element by element, on the scalar unit

    def each(self, shape: Sequence[int], body: Callable[[list[Operand]], None]) -> None:
        """Runs `body` with the indices of every element, in row-major order."""

        def nest(axis: int, indices: list[Operand]) -> None:
            if axis == len(shape):
                body(indices)
            elif shape[axis] == 1:
                nest(axis + 1, [*indices, 0])
            else:
                with self.e.loop(0, shape[axis], cores=self.e.core) as index:
                    nest(axis + 1, [*indices, index])

        nest(0, [])

    def element(self, tile: Tile, indices: Indices) -> Operand:
        """One element, as a scalar. Bits must have been made f32 before (`readable`)."""
        if isinstance(tile, Uniform):
            return tile.value
        if isinstance(tile, Affine):
            terms = [self.s.mul(i, c) for i, c in zip(indices, tile.coefficients, strict=True) if c]
            return self.s.add(tile.base, *terms)
        if isinstance(tile, Spread):
            inner = tile.source.shape
            own = indices[len(indices) - len(inner) :]
            return self.element(tile.source, [0 if n == 1 else i for i, n in zip(own, inner, strict=True)])
        assert isinstance(tile, UbTile)
        return self.e.load(self.at(tile, indices))

    def at(self, tile: UbTile, indices: Indices) -> Place:
        size = tile.dtype.bytes
        steps = tile.layout.strides()
        terms = [self.s.mul(i, s * size) for i, s in zip(indices, steps, strict=True)]
        offset = self.s.add(tile.place.offset, *terms)
        return Place(tile.place.buffer, tile.dtype.name, offset)

    def readable(self, tile: Tile) -> Tile:
        """The tile in a form that `element` reads: bits become f32."""
        if isinstance(tile, Test):
            tile = self.bits(tile)
        return self.numbers(tile) if isinstance(tile, BitTile) else tile

    def store(self, tile: UbTile, indices: Indices, value: Operand) -> None:
        self.e.store(self.at(tile, indices), value)

    # --- bools

    def numbers(self, bits: BitTile) -> UbTile:
        """1.0 and 0.0 for the bits."""
        result = self.new(t.f32, bits.shape, "numbers")
        one = self.block(1.0, t.f32)
        self.v.select(bits.layout, lines(result.place, result.layout), bits.place, one, None, 0.0)
        return result

    def bits_of(self, numbers: UbTile) -> BitTile:
        """Whether the f32 numbers differ from 0."""
        result = self.new_bits(numbers.shape)
        self.v.compare(numbers.layout, result.place, lines(numbers.place, numbers.layout), None, "ne", 0.0)
        return result

    def bits(self, tile: Tile) -> BitTile:
        """Any tile of bools as bits."""
        if isinstance(tile, BitTile):
            return tile
        if isinstance(tile, Uniform):
            result = self.new_bits(tile.shape)
            word = self.s.mul(tile.value, -1)
            self.v.duplicate(result.place.view("i16"), result.place.buffer.bytes // 2, word)
            return result
        assert isinstance(tile, Test)
        pattern = self.pattern(tile.coefficients, tile.shape)
        result = self.new_bits(tile.shape)
        limit = self.s.max(self.s.min(tile.limit, 2 * LIMIT), -2 * LIMIT)
        number = float(limit) if isinstance(limit, int) else self.s.compute("to_float", "f32", limit, result="f64")
        self.v.compare(pattern.layout, result.place, lines(pattern.place, pattern.layout), None, tile.name, number)
        return result

    def pattern(self, coefficients: tuple[int, ...], shape: tuple[int, ...]) -> UbTile:
        """f32 elements sum of coefficient * index: made once, at the start of the program."""
        key = (coefficients, shape)
        if key not in self.patterns:
            e, loops = self.e, self.e.loops
            location = e.location
            e.loops = []
            with e.block(e.prologue):
                self.patterns[key] = self._make_pattern(coefficients, shape)
            e.loops, e.location = loops, location
        return self.patterns[key]

    def _make_pattern(self, coefficients: tuple[int, ...], shape: tuple[int, ...]) -> UbTile:
        result = self.new(t.f32, shape, "pattern")
        tile = result.layout
        rest = [(n, c) for n, c in zip(shape, coefficients, strict=True) if n > 1]
        if len(rest) > 2:
            pattern = Affine(0, coefficients, shape)
            self.each(
                shape,
                lambda i: self.store(result, i, self.element(pattern, i)),
            )
            return result
        inner = rest[-1][1] if rest else 0
        outer = rest[0][1] if len(rest) == 2 else 0
        ramp = self.scratch(tile.columns * 4, "f32", "ramp")
        self.v.count_up(ramp, tile.columns)
        if inner != 1:
            self.v.run("muls", 1, tile.columns, Lines(ramp, 0), [Lines(ramp, 0)], scalar=float(inner))
        for row in range(tile.rows):
            target = Lines(result.place.at(row * tile.pitch * 4), 0)
            self.v.run("adds", 1, tile.columns, target, [Lines(ramp, 0)], scalar=float(outer * row))
        return result

    # --- in memory

    def duplicable(self, value: Operand, dtype: DType) -> tuple[str, Operand] | None:
        """The dtype and scalar of a `duplicate` that fills memory with a value, if there is one."""
        if dtype.name in DUPLICATED:
            return dtype.name, value
        if dtype.bits == 64 and isinstance(value, int | float):
            import struct

            raw = struct.pack("<d" if dtype.is_float else "<q", value)
            low, high = raw[:4], raw[4:]
            return ("i32", int.from_bytes(low, "little", signed=True)) if low == high else None
        if dtype.bits == 8:
            if dtype.is_float:
                number = float(value) if isinstance(value, int) else value
                value = self.s.compute("to_bits", dtype.name, number, result="i64")
            byte = self.s.compute("and", "i64", value, 255)
            word = self.s.mul(byte, 257)
            if isinstance(word, int):
                word = word - 65536 if word >= 32768 else word
            else:
                word = self.s.compute("wrap_to", "i16", word, result="i64")
            return "i16", word
        return None

    def fill(self, tile: UbTile, value: Operand) -> None:
        """Every element of a tile in memory, what lies between rows included."""
        found = self.duplicable(value, tile.dtype)
        if found is None:
            self.each(tile.shape, lambda i: self.store(tile, i, value))
            return
        dtype, scalar = found
        bytes = tile.layout.bytes(tile.dtype)
        self.v.duplicate(tile.place.view(dtype), bytes // t.DTYPES[dtype].bytes, scalar)

    def tile(self, value: Tile, into: UbTile | None = None) -> UbTile:
        """Any tile of numbers in memory; in `into`, if given."""
        if isinstance(value, UbTile):
            if into is not None:
                self.copy(into, value)
            return into or value
        if isinstance(value, Uniform):
            result = into or self.new(value.dtype, value.shape)
            self.fill(result, value.value)
            return result
        if isinstance(value, Spread):
            result = into or self.new(value.source.dtype, value.shape)
            operand = self.spread_lines(value, result.layout)
            moved = MOVED.get(result.dtype.bytes)
            if operand is not None and moved is not None:
                target = lines(result.place.view(moved), result.layout)
                source = Lines(operand.place.view(moved), operand.pitch, operand.spread)
                self.v.run("copy", result.layout.rows, result.layout.columns, target, [source])
                return result
        else:
            assert isinstance(value, Affine)
            result = into or self.new(t.i64, value.shape)
        final, source_tile = result, value
        self.each(value.shape, lambda i: self.store(final, i, self.element(source_tile, i)))
        return result

    def copy(self, target: UbTile, source: UbTile) -> None:
        """Between tiles of one layout."""
        self.copy_lines(target.place, source.place, target.dtype.bytes, target.layout)

    def copy_lines(self, target: Place, source: Place, size: int, tile: Layout) -> None:
        factor = {8: 2, 4: 1, 2: 1}.get(size)
        if factor is None:  # bytes, as pairs; the last one of an odd row goes with what lies behind it
            if (tile.columns % 2 and tile.rows > 1) or tile.columns % 2:
                self._copy_bytes(target, source, tile)
                return
            moved, columns, pitch = "i16", tile.columns // 2, tile.pitch // 2
        else:
            moved = "i16" if size == 2 else "i32"
            columns, pitch = tile.columns * factor, tile.pitch * factor
        self.v.run("copy", tile.rows, columns, Lines(target.view(moved), pitch), [Lines(source.view(moved), pitch)])

    def _copy_bytes(self, target: Place, source: Place, tile: Layout) -> None:
        def move(indices: list[Operand]) -> None:
            offset = self.s.add(self.s.mul(indices[0], tile.pitch), indices[1])
            value = self.e.load(Place(source.buffer, "u8", self.s.add(offset, source.offset)))
            self.e.store(Place(target.buffer, "u8", self.s.add(offset, target.offset)), value)

        self.each((tile.rows, tile.columns), move)

    def copy_bits(self, target: BitTile, source: BitTile) -> None:
        count = source.place.buffer.bytes // 2
        self.v.run("copy", 1, count, Lines(target.place.view("i16"), 0), [Lines(source.place.view("i16"), 0)])

    # --- operands of vector instructions

    def spread_lines(self, value: Spread, tile: Layout) -> Lines | None:
        """A broadcast tile as an operand, if the strides of an instruction can do it."""
        source = value.source
        if source.dtype.bytes not in (2, 4):
            return None
        shape = (1,) * (len(value.shape) - len(source.shape)) + source.shape
        if math.prod(shape) == 1:
            place = self._spread_out(source, 1)
            return Lines(place, 0, spread=True)
        axis = len(shape)
        while axis > 0 and shape[axis - 1] == value.shape[axis - 1]:
            axis -= 1
        # Dims that agree come last: the source is a row, or rows, of which each is used again and again.
        if all(n == 1 for n in shape[:axis]):
            inner = math.prod(shape[axis:])
            if inner == tile.columns and source.layout.flat:
                return Lines(source.place, 0)
            return None
        axis = 0
        while axis < len(shape) and shape[axis] == value.shape[axis]:
            axis += 1
        if all(n == 1 for n in shape[axis:]):
            rows, columns = math.prod(shape[:axis]), math.prod(value.shape[axis:])
            if rows == tile.rows and columns == tile.columns and source.layout.flat:
                return Lines(self._spread_out(source, rows), 32 // source.dtype.bytes, spread=True)
        return None

    def _spread_out(self, source: UbTile, count: int) -> Place:
        """Each element over a block of its own."""
        name = MOVED[source.dtype.bytes]
        place = source.place.view(name)
        if count % 8:
            padded = self.scratch(-(-count // 8) * 8 * source.dtype.bytes, name, "padded")
            self.v.duplicate(padded, -(-count // 8) * 8, 0)
            self.v.run("copy", 1, count, Lines(padded, 0), [Lines(place, 0)])
            place = padded
        result = self.scratch(-(-count // 8) * 8 * 32, name, "spread", (count, 32))
        self.v.spread(result, place, count)
        return result.view(source.dtype.name)

    def operand(self, value: Tile, tile: Layout) -> Lines:
        """A tile of numbers as an operand of an instruction over `tile`."""
        if isinstance(value, Uniform):
            return self.block(value.value, value.dtype)
        if isinstance(value, Spread):
            found = self.spread_lines(value, tile)
            if found is not None:
                return found
        made = self.tile(value)
        return lines(made.place, made.layout)

    def register(self, dtype: DType, name: str = "") -> Register:
        return self.s.register("f64" if dtype.is_float else "i64", name)
