"""copy_in and copy_out: between tensors of any strides and tiles in the unified buffer.

The last dim of a tile whose elements are neighbours in memory moves by bursts, the dim before it as the rows of one
instruction; dims further out, and gathered ones, are loops. Where neighbours in the tile are not neighbours in memory
every element is a burst of its own, into a block of 32 bytes, from where the scalar unit takes it.

What lies out of bounds is cut off before a transfer (`Cut`). A tile that sticks out is filled with the pad first; that
happens in a branch, so that whole tiles need not wait for the vector unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from opdsl.ir import types as t
from opdsl.ir.core import Gather, IndexSpec, Point, Slice
from opdsl.ir.types import DType
from opdsl.npu.statements import Operand
from opdsl.targets.npu.emitter import GlobalPlace, Place
from opdsl.targets.npu.layouts import BLOCK, layout
from opdsl.targets.npu.parameters import TensorParameter
from opdsl.targets.npu.tiles import Tiles
from opdsl.targets.npu.tree import Access
from opdsl.targets.npu.values import BitTile, Tile, UbTile

STAGED = 128  # elements that are moved one by one at a time
ATOMIC = frozenset({"f32", "f16", "bf16", "i32", "i16", "i8"})
Shape = tuple[int, ...]
Region = tuple[tuple[Operand, int], ...]
ANYWHERE = 1 << 60


def region_of(index: Sequence[IndexSpec], places: Sequence[Operand | Tile]) -> Region:
    """For each axis of a tensor, the first place that an access may touch and how many from there on."""
    found: list[tuple[Operand, int]] = []
    for spec, place in zip(index, places, strict=True):
        if isinstance(place, Tile):
            found.append((0, ANYWHERE))
        else:
            found.append((place, (spec.length - 1) * spec.step + 1 if isinstance(spec, Slice) else 1))
    return tuple(found)


@dataclass(frozen=True)
class Known:
    """What is certain of the first place of an access along an axis: that it is not negative, that it lies below the
    axis's size, and that the last one does."""

    nonnegative: bool = False
    begins_inside: bool = False
    ends_inside: bool = False


@dataclass(frozen=True)
class Cut:
    """Of a slice: its first place inside the tensor, and how many; the element of the tensor that the first one is.
    `some`: certainly not empty."""

    first: Operand
    count: Operand
    begin: Operand
    some: bool = False


@dataclass(frozen=True)
class Dim:
    """A dim of a tile: `extent` elements, `step` elements of the tensor apart, `pitch` bytes in the buffer."""

    cut: Cut
    extent: int
    step: Operand
    pitch: int
    unit: bool  # neighbours in memory


@dataclass(frozen=True)
class Side:
    """Where a transfer is: bytes in the buffer, elements in the tensor."""

    local: Operand
    distance: Operand
    aligned: bool = True  # whether the place in the buffer is at a block


class Transfers:
    def __init__(self, tiles: Tiles, writer: Callable[[Callable[[], None]], None]) -> None:
        """`writer` runs what writes to tensors on the one of two vector cores that does."""
        self.t = tiles
        self.e = tiles.e
        self.s = tiles.s
        self.writer = writer
        self.groups = 0
        self.group = 0  # of writes to tensors
        self.region: Region = ()  # of the tensor, that the transfer being made touches
        self.aligned = True
        self.pad: Operand | None = None  # of a tile that is not whole: a burst fills its last block with it
        self.single_core = False  # whether something here needs that only one core runs the kernel

    # --- bounds

    def cut(self, tensor: TensorParameter, axis: int, spec: Slice, start: Operand, known: Known) -> Cut:
        s, size = self.s, tensor.dim(axis)
        nonnegative = known.nonnegative or (isinstance(start, int) and start >= 0)
        if known.ends_inside and nonnegative:
            return Cut(0, spec.length, start, True)
        room = s.sub(size, start)
        inside = room if spec.step == 1 else s.ceil_div(room, spec.step)
        last = s.min(inside, spec.length)
        if known.begins_inside and nonnegative:
            return Cut(0, last, start, True)
        last = s.max(last, 0)
        first: Operand = 0
        if not nonnegative:
            below = s.sub(0, start)
            first = s.max(below if spec.step == 1 else s.ceil_div(below, spec.step), 0)
            first = s.min(first, spec.length)
            return Cut(first, s.max(s.sub(last, first), 0), s.add(start, s.mul(first, spec.step)))
        return Cut(0, last, start)

    def inside(self, tensor: TensorParameter, axis: int, place: Operand, known: Known | None = None) -> Operand:
        if known is not None and known.nonnegative and known.begins_inside:
            return 1
        return self.s.both(self.s.test("ge", place, 0), self.s.test("lt", place, tensor.dim(axis)))

    # --- scalars

    def load_scalar(
        self, tensor: TensorParameter, places: Sequence[Operand], pad: Operand, dtype: DType, written: bool
    ) -> Operand:
        """One element on every core, or the pad."""
        s = self.s
        inside: Operand = 1
        for axis, place in enumerate(places):
            inside = s.both(inside, self.inside(tensor, axis, place))
        result = s.register("f64" if dtype.is_float else "i64", "element")
        s.move(result, pad)
        with self.e.if_(inside):
            offset = s.add(*(s.mul(p, tensor.stride(a)) for a, p in enumerate(places)))
            there = GlobalPlace(tensor.tensor, dtype.name, offset, tensor.name)
            if written:
                self.e.issue("data_cache_clean_and_invalid", "S", [], core=self.e.both, dst=there)
            access = Access(tensor.name, False, region=tuple((place, 1) for place in places))
            self.e.issue("load_scalar", "S", [access], result, core=self.e.both, src=there)
        return result

    def store_scalar(
        self, tensor: TensorParameter, places: Sequence[Operand], value: Operand, dtype: DType, mode: str
    ) -> None:
        self.region = tuple((place, 1) for place in places)
        tile = self.t.new(t.u8 if dtype.is_bool else dtype, (1,), "element")
        self.t.store(tile, (0,), value)
        inside: Operand = 1
        for axis, place in enumerate(places):
            inside = self.s.both(inside, self.inside(tensor, axis, place))
        with self.e.if_(inside):
            offset = self.s.add(*(self.s.mul(p, tensor.stride(a)) for a, p in enumerate(places)))
            self._out(tensor, tile, [], Side(0, offset), mode)

    # --- tiles in

    def load(
        self,
        tensor: TensorParameter,
        index: Sequence[IndexSpec],
        places: Sequence[Operand | Tile],
        pad: Operand,
        shape: Shape,
        known: Sequence[Known],
        name: str,
    ) -> Tile:
        dtype = tensor.type.dtype
        stored = t.u8 if dtype.is_bool else dtype
        rotates = self.e.turning_loop() is not None
        result = self.t.new(stored, shape, name, 2 if rotates else 1)
        access = self._resolve(tensor, index, places, result, known)
        self.groups = self.e.new_group()

        def copy() -> None:
            self._walk(access, access.base, lambda dims, side: self._in(tensor, result, dims, side))

        if access.whole == 1 and isinstance(access.whole, int) and not access.gathers:
            copy()
        elif access.gathers:
            self.t.fill(result, pad)
            self.pad = pad
            with self.e.if_(access.some):
                copy()
            self.pad = None
        else:
            with self.e.if_(access.whole) as branch:
                copy()
            with self.e.otherwise(branch):
                self.t.fill(result, pad)
                self.pad = pad
                with self.e.if_(access.some):
                    copy()
                self.pad = None
        return self._bools(result) if dtype.is_bool else result

    def _bools(self, bytes: UbTile) -> BitTile:
        numbers = self._convert(bytes, (t.f16, t.f32))
        return self.t.bits_of(numbers)

    def _convert(self, tile: UbTile, chain: Sequence[DType], modes: Sequence[str] = ("none", "none", "none")) -> UbTile:
        from opdsl.targets.npu.vector_unit import lines

        for dtype, mode in zip(chain, modes, strict=False):
            result = self.t.new(dtype, tile.shape, "bools")
            made = tile.layout
            self.t.v.run(
                "cast", made.rows, made.columns, lines(result.place, made), [lines(tile.place, made)], option=mode
            )
            tile = result
        return tile

    # --- tiles out

    def store(
        self,
        value: Tile,
        tensor: TensorParameter,
        index: Sequence[IndexSpec],
        places: Sequence[Operand | Tile],
        mode: str,
        known: Sequence[Known],
    ) -> None:
        dtype = tensor.type.dtype
        if dtype.is_bool:
            numbers = self.t.numbers(self.t.bits(value))
            made = self._convert(numbers, (t.f16, t.u8), ("rint", "rint"))
        else:
            made = self.t.tile(value)
        self.rotate(made)
        access = self._resolve(tensor, index, places, made, known)
        self.groups = self.e.new_group()
        # Scattered elements may hit one place twice: the order of their writes matters.
        self.group = self.groups if mode != "set" or not access.gathers else 0
        with self.e.if_(access.some):
            self._walk(access, access.base, lambda dims, side: self._out(tensor, made, dims, side, mode))

    def rotate(self, tile: UbTile) -> None:
        """Lets a copy out overlap the next iteration, which then computes into another slot."""
        buffer = tile.place.buffer
        inner = self.e.turning_loop()
        if inner is not None and buffer.rotates is None and inner in buffer.made_in:
            buffer.rotates, buffer.slots = inner, inner.slots

    # --- what an access touches

    def _resolve(
        self,
        tensor: TensorParameter,
        index: Sequence[IndexSpec],
        places: Sequence[Operand | Tile],
        tile: UbTile,
        known: Sequence[Known],
    ) -> _Access:
        s = self.s
        self.region = region_of(index, places)
        size = tile.dtype.bytes
        pitches = [p * size for p in layout(tile.shape).strides()]
        dims: list[Dim | _Gathered] = []
        base: Operand = 0
        whole: Operand = 1
        some: Operand = 1
        axis_of_tile = 0
        gathers: list[tuple[int, Tile]] = []
        unit = tensor.unit_axis
        for axis, (spec, place) in enumerate(zip(index, places, strict=True)):
            stride = tensor.stride(axis)
            if isinstance(spec, Slice):
                assert not isinstance(place, Tile)
                cut = self.cut(tensor, axis, spec, place, known[axis])
                base = s.add(base, s.mul(cut.begin, stride))
                whole = s.both(whole, s.test("eq", cut.count, spec.length))
                if not cut.some:
                    some = s.both(some, s.test("gt", cut.count, 0))
                step = s.mul(stride, spec.step)
                is_unit = axis == unit and spec.step == 1
                dims.append(Dim(cut, spec.length, step, pitches[axis_of_tile], is_unit))
                axis_of_tile += 1
            elif isinstance(spec, Point):
                assert not isinstance(place, Tile)
                found = self.inside(tensor, axis, place, known[axis])
                whole, some = s.both(whole, found), s.both(some, found)
                base = s.add(base, s.mul(place, stride))
            else:
                assert isinstance(place, Tile) and isinstance(spec, Gather)
                if not gathers:
                    rank = len(place.shape)
                    dims.append(_Gathered(place.shape, tuple(pitches[axis_of_tile : axis_of_tile + rank])))
                    axis_of_tile += rank
                gathers.append((axis, self.t.readable(place)))
        return _Access(tensor, tuple(dims), base, whole, some, tuple(gathers), size)

    def _walk(self, access: _Access, base: Operand, move: Callable[[list[Dim], Side], None]) -> None:
        """Loops over outer dims; `move` gets the one or two dims that instructions deal with."""
        s, e = self.s, self.e
        # An outer dim of one element needs no loop: its place is in the base, and nothing is done for an empty access.
        dims = [dim for dim in access.dims if isinstance(dim, _Gathered) or dim.extent > 1]
        tail: list[Dim] = []
        last = dims[-1] if dims else None
        if isinstance(last, Dim):
            tail = [last]
            dims.pop()
            outer = dims[-1] if dims else None
            if last.unit and last.pitch == access.size and isinstance(outer, Dim):
                tail.insert(0, outer)
                dims.pop()

        def nest(level: int, side: Side) -> None:
            if level == len(dims):
                move(tail, replace(side, aligned=self.aligned))
                return
            dim = dims[level]
            if isinstance(dim, _Gathered):
                self._gather(access, dim, side, lambda inner: nest(level + 1, inner))
            elif dim.extent == 1:
                nest(level + 1, side)
            else:
                local = s.add(side.local, s.mul(dim.cut.first, dim.pitch))
                with e.loop(0, dim.cut.count, cores=e.core) as i:
                    distance = s.add(side.distance, s.mul(i, dim.step))
                    nest(level + 1, Side(s.add(local, s.mul(i, dim.pitch)), distance))

        pitches = [p for dim in dims for p in (dim.pitches if isinstance(dim, _Gathered) else (dim.pitch,))]
        self.aligned = all(pitch % BLOCK == 0 for pitch in pitches)
        nest(0, Side(0, base))

    def _gather(self, access: _Access, dim: _Gathered, side: Side, then: Callable[[Side], None]) -> None:
        s = self.s

        def one(indices: list[Operand]) -> None:
            inside: Operand = 1
            distance = side.distance
            for axis, tile in access.gathers:
                place = self.t.element(tile, indices)
                inside = s.both(inside, self.inside(access.tensor, axis, place))
                distance = s.add(distance, s.mul(place, access.tensor.stride(axis)))
            local = s.add(side.local, *(s.mul(i, p) for i, p in zip(indices, dim.pitches, strict=True)))
            with self.e.if_(inside):
                then(Side(local, distance))

        self.t.each(dim.shape, one)

    # --- instructions

    def _shape(self, dims: list[Dim], size: int) -> tuple[Dim | None, Dim]:
        """(rows, the dim that moves by bursts)."""
        single = Dim(Cut(0, 1, 0), 1, 1, size, True)
        if not dims:
            return None, single
        return (dims[0] if len(dims) == 2 else None), dims[-1]

    def _in(self, tensor: TensorParameter, tile: UbTile, dims: list[Dim], side: Side) -> None:
        self._bursts(tensor, tile, dims, side, True, "set")

    def _out(self, tensor: TensorParameter, tile: UbTile, dims: list[Dim], side: Side, mode: str) -> None:
        def write() -> None:
            if mode != "set" and tile.dtype.name in ATOMIC and not tensor.type.dtype.is_bool:
                self.e.issue("set_atomic", "S", [], mode=mode)
                self._bursts(tensor, tile, dims, side, False, "set")
                self.e.issue("set_atomic", "S", [], mode="none")
            else:
                self.single_core |= mode != "set"
                self._bursts(tensor, tile, dims, side, False, mode)

        self.writer(write)

    def _bursts(
        self, tensor: TensorParameter, tile: UbTile, dims: list[Dim], side: Side, load: bool, mode: str
    ) -> None:
        s, e = self.s, self.e
        size = tile.dtype.bytes
        rows, inner = self._shape(dims, size)
        direct = (inner.unit and inner.pitch == size) or inner.extent == 1
        direct = direct and side.aligned and (rows is None or rows.pitch % BLOCK == 0)
        if not direct or mode != "set":
            if rows is None:
                self._singles(tensor, tile, inner, side, load, mode)
            else:
                with e.loop(0, rows.cut.count, cores=e.core) as i:
                    local = s.add(side.local, s.mul(s.add(rows.cut.first, i), rows.pitch))
                    self._singles(
                        tensor, tile, inner, Side(local, s.add(side.distance, s.mul(i, rows.step))), load, mode
                    )
            return
        first = s.mul(inner.cut.first, size)
        if isinstance(first, int) and first % BLOCK == 0:
            self._rows(tensor, tile, rows, inner, side, load)
            return
        with e.if_(s.test("eq", s.mod(first, BLOCK), 0)) as branch:
            self._rows(tensor, tile, rows, inner, side, load)
        with e.otherwise(branch):
            if rows is None:
                self._singles(tensor, tile, inner, side, load, mode)
            else:
                with e.loop(0, rows.cut.count, cores=e.core) as i:
                    local = s.add(side.local, s.mul(s.add(rows.cut.first, i), rows.pitch))
                    self._singles(
                        tensor, tile, inner, Side(local, s.add(side.distance, s.mul(i, rows.step))), load, mode
                    )

    def _rows(
        self, tensor: TensorParameter, tile: UbTile, rows: Dim | None, inner: Dim, side: Side, load: bool
    ) -> None:
        """Bursts of `inner` elements that are neighbours on both sides."""
        s, e = self.s, self.e
        size = tile.dtype.bytes
        length = s.mul(inner.cut.count, size)
        local = s.add(side.local, s.mul(inner.cut.first, size))
        if rows is None:
            self._burst(tensor, tile, local, side.distance, length, load)
            return
        local = s.add(local, s.mul(rows.cut.first, rows.pitch))
        blocks = s.ceil_div(length, BLOCK)
        gap = s.sub(s.mul(rows.step, size), length)
        room = s.sub(rows.pitch // BLOCK, blocks)
        with e.if_(s.test("ge", gap, 0)) as branch:
            self._burst(tensor, tile, local, side.distance, length, load, rows.cut.count, gap, room)
        with e.otherwise(branch), e.loop(0, rows.cut.count, cores=e.core) as i:
            distance = s.add(side.distance, s.mul(i, rows.step))
            self._burst(tensor, tile, s.add(local, s.mul(i, rows.pitch)), distance, length, load)

    def _burst(
        self,
        tensor: TensorParameter,
        tile: UbTile,
        local: Operand,
        distance: Operand,
        length: Operand,
        load: bool,
        count: Operand = 1,
        gap: Operand = 0,
        room: Operand = 0,
    ) -> None:
        buffer = tile.place.buffer
        s, size = self.s, tile.dtype.bytes
        bytes = t.u8 if tile.dtype.is_bool else tile.dtype
        fills: dict[str, Any] = {}
        if load and self.pad is not None and size != BLOCK:
            rest = s.sub(s.mul(s.ceil_div(length, BLOCK), BLOCK), length)
            fills = {"right_padding": s.div(rest, size), "padding_value": self.pad}
        there = GlobalPlace(tensor.tensor, bytes.name, distance, tensor.name)
        here = Place(buffer, bytes.name, local)
        group = self.groups if load else self.group
        if load:
            self.e.issue(
                "data_copy_pad",
                "MTE2",
                [Access(buffer, True, group=group), Access(tensor.name, False, region=self.region)],
                dst=here,
                src=there,
                block_count=count,
                block_len=length,
                src_stride=gap,
                dst_stride=room,
                **fills,
            )
        else:
            self.e.issue(
                "data_copy_pad",
                "MTE3",
                [Access(buffer, False), Access(tensor.name, True, group=group, region=self.region)],
                dst=there,
                src=here,
                block_count=count,
                block_len=length,
                src_stride=room,
                dst_stride=gap,
            )

    def _singles(self, tensor: TensorParameter, tile: UbTile, inner: Dim, side: Side, load: bool, mode: str) -> None:
        """Element by element, through blocks of 32 bytes."""
        s, e = self.s, self.e
        size = tile.dtype.bytes
        count = min(inner.extent, STAGED)
        stage = self.t.new(tile.dtype, (count * BLOCK // size,), "staged")
        self.groups = self.e.new_group()
        local = s.add(side.local, s.mul(inner.cut.first, inner.pitch))
        several = inner.extent > count
        pieces: AbstractContextManager[Operand] = nullcontext(0)
        if several:
            pieces = e.loop(0, inner.cut.count, count, cores=e.core)
        with pieces as begin:
            many = s.min(s.sub(inner.cut.count, begin), count) if several else inner.cut.count
            start = s.add(side.distance, s.mul(begin, inner.step))
            place = s.add(local, s.mul(begin, inner.pitch))
            dtype = tile.dtype

            def fetch() -> None:
                pad, self.pad = self.pad, None
                with e.loop(0, many, cores=e.core) as i:
                    distance = s.add(start, s.mul(i, inner.step))
                    self._burst(tensor, stage, s.mul(i, BLOCK), distance, size, True)
                self.pad = pad

            def element(i: Operand) -> Place:
                return Place(stage.place.buffer, dtype.name, s.mul(i, BLOCK))

            def own(i: Operand) -> Place:
                return Place(tile.place.buffer, dtype.name, s.add(place, s.mul(i, inner.pitch)))

            if load:
                fetch()
                with e.loop(0, many, cores=e.core) as i:
                    e.store(own(i), e.load(element(i)))
            else:
                if mode != "set":
                    fetch()
                with e.loop(0, many, cores=e.core) as i:
                    value: Operand = e.load(own(i))
                    if mode != "set":
                        value = s.op(mode, tensor.type.dtype, [e.load(element(i)), value], tensor.type.dtype)
                    e.store(element(i), value)
                with e.loop(0, many, cores=e.core) as i:
                    distance = s.add(start, s.mul(i, inner.step))
                    self._burst(tensor, stage, s.mul(i, BLOCK), distance, size, False)


@dataclass(frozen=True)
class _Gathered:
    shape: Shape
    pitches: tuple[int, ...]


@dataclass(frozen=True)
class _Access:
    tensor: TensorParameter
    dims: tuple[Dim | _Gathered, ...]
    base: Operand
    whole: Operand
    some: Operand
    gathers: tuple[tuple[int, Tile], ...]
    size: int  # bytes of an element
