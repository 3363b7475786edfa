"""Products on the cube.

Operands lie in L1 as NZ fractals: a tile of (rows, columns) as columns of 32 bytes, each with all rows one below the
other. What comes straight from a tensor is brought there by one copy that rearranges it; what the vector core computed
goes by way of the workspace in global memory on split chips, and directly on coupled ones. A product is made in pieces
along k that fill half of L0A and L0B, so that loading and multiplying overlap. Sums stay in L0C along a chain
(`chains.py`) and leave it once: rounded, straight to their tensor if nothing else is done with them, or to the vector core.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from opdsl.ir import types as t
from opdsl.ir.core import Op, Point, Slice
from opdsl.ir.types import DType, TileType
from opdsl.npu.chip import Chip
from opdsl.npu.statements import Operand, Register
from opdsl.targets.npu.elementwise import Elementwise
from opdsl.targets.npu.emitter import Emitter, GlobalPlace, Place
from opdsl.targets.npu.layouts import BLOCK, layout
from opdsl.targets.npu.parameters import TensorParameter
from opdsl.targets.npu.transfers import Cut, Known, Region, Transfers, region_of
from opdsl.targets.npu.tree import Access, Buffer
from opdsl.targets.npu.values import Tile, UbTile
from opdsl.targets.npu.vector_unit import Lines, access

FRACTAL = 16
ORDERED = 10  # fractals of an accumulator from which on the cube adds up in order by itself
NARROW = (t.f8e4m3, t.f8e5m2)


@dataclass(frozen=True, eq=False)
class CubeTile:
    """An operand in L1: `rows` x `columns` as they lie there; `swapped`: the tile of the IR is the transposed one."""

    buffer: Buffer
    dtype: DType
    rows: int
    columns: int
    height: int  # rows of a fractal column, those that are filled up included
    swapped: bool = False


@dataclass(frozen=True)
class Part:
    """A piece of an accumulator with a buffer of its own."""

    buffer: Buffer
    row: int
    rows: int
    column: int
    columns: int


@dataclass(eq=False)
class Sum:
    """An accumulator. `fresh` is a register that is 1 until the first product was added, or a number."""

    parts: tuple[Part, ...]
    rows: int
    columns: int
    dtype: DType
    fresh: Operand = 1
    group: int = 0  # of the products that are added to it


def cube_dtype(dtype: DType, chip: Chip) -> DType | None:
    """What the cube multiplies tiles of a dtype as, if it can."""
    if dtype in NARROW or dtype == t.f16:
        return t.f16
    if dtype == t.i8 or (chip.split and dtype in (t.bf16, t.f32)):
        return dtype
    return None


def on_cube(op: Op, chip: Chip) -> bool:
    """Whether a `dot` is computed by the cube."""
    type = op.operands[0].type
    assert isinstance(type, TileType) and isinstance(op.result.type, TileType)
    if len(type.shape) != 2 or cube_dtype(type.dtype, chip) is None:
        return False
    # Without a way through global memory nothing fills the columns of bytes up to 32.
    return chip.split or type.dtype.bytes > 1 or op.result.type.shape[1] % BLOCK == 0 or type.dtype.is_float


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


class Dots:
    def __init__(
        self, elementwise: Elementwise, transfers: Transfers, write: Callable[[Callable[[], None]], None]
    ) -> None:
        self.w = elementwise
        self.t = elementwise.t
        self.e: Emitter = elementwise.e
        self.s = elementwise.s
        self.chip = elementwise.e.chip
        self.memory = transfers
        self.write = write
        self.core = "cube" if self.chip.split else "vector"
        self.fetched = 0  # pieces loaded into L0, to take its halves in turn

    # --- operands

    def loads_directly(
        self, op: Op, tensor: TensorParameter, pad: Operand, known: Sequence[Known], as_right: bool, swapped: bool
    ) -> str | None:
        """How a copy_in comes into L1: "rows" or "columns" (its dims swapped), or None."""
        index = op.attributes["index"]
        type = op.result.type
        if not isinstance(type, TileType) or len(type.shape) != 2 or type.dtype in NARROW:
            return None
        if cube_dtype(type.dtype, self.chip) is None or isinstance(pad, Register) or pad != 0:
            return None
        slices = [(axis, spec) for axis, spec in enumerate(index) if isinstance(spec, Slice)]
        if len(slices) != 2 or any(not isinstance(spec, Slice | Point) for spec in index):
            return None
        for (axis, spec), way in ((slices[1], "rows"), (slices[0], "columns")):
            if axis == tensor.unit_axis and spec.step == 1 and known[axis].nonnegative:
                turned = swapped != (way == "columns")
                if turned and not as_right and type.dtype.bytes != 2:
                    return None
                return way
        return None

    def _l1(self, rows: int, columns: int, dtype: DType, name: str, slots: int) -> CubeTile:
        height = _up(rows, FRACTAL)
        size = height * _up(columns, BLOCK // dtype.bytes) * dtype.bytes
        buffer = self.e.buffer("L1", size, name, (rows, columns), dtype.name, slots)
        return CubeTile(buffer, dtype, rows, columns, height)

    def load(
        self, op: Op, tensor: TensorParameter, places: Sequence[Operand], way: str, known: Sequence[Known]
    ) -> CubeTile:
        """A copy_in into L1."""
        e, s = self.e, self.s
        assert isinstance(op.result.type, TileType)
        dtype = op.result.type.dtype
        rotates = e.turning_loop() is not None
        index = op.attributes["index"]
        base: Operand = 0
        whole: Operand = 1
        some: Operand = 1
        cuts: list[tuple[Cut, Operand, int]] = []
        for axis, (spec, place) in enumerate(zip(index, places, strict=True)):
            stride = tensor.stride(axis)
            if isinstance(spec, Slice):
                cut = self.memory.cut(tensor, axis, spec, place, known[axis])
                base = s.add(base, s.mul(cut.begin, stride))
                whole = s.both(whole, s.test("eq", cut.count, spec.length))
                if not cut.some:
                    some = s.both(some, s.test("gt", cut.count, 0))
                cuts.append((cut, s.mul(stride, spec.step), spec.length))
            else:
                found = self.memory.inside(tensor, axis, place, known[axis])
                whole, some = s.both(whole, found), s.both(some, found)
                base = s.add(base, s.mul(place, stride))
        if way == "columns":
            cuts.reverse()
        (row_cut, row_step, rows), (column_cut, _, columns) = cuts
        result = self._l1(rows, columns, dtype, op.result.name or tensor.name, 2 if rotates else 1)
        group = e.new_group()
        region = region_of(index, places)

        def copy(count: Operand, width: Operand) -> None:
            local = s.mul(row_cut.first, BLOCK)
            ok = s.both(s.test("ge", row_step, columns), s.test("lt", row_step, 65536))

            def rows_at(place: Operand, distance: Operand, number: Operand, step: Operand) -> None:
                e.issue(
                    "data_copy_nd2nz",
                    "MTE2",
                    [Access(result.buffer, True, group=group), Access(tensor.name, False, region=region)],
                    core=self.core,
                    dst=Place(result.buffer, dtype.name, place),
                    src=GlobalPlace(tensor.tensor, dtype.name, distance, tensor.name),
                    n_value=number,
                    d_value=width,
                    src_d_value=step,
                    dst_nz_c0_stride=result.height,
                )

            with e.if_(ok) as branch:
                rows_at(local, base, count, row_step)
            with e.otherwise(branch), e.loop(0, count, cores=self.core) as i:
                rows_at(s.add(local, s.mul(i, BLOCK)), s.add(base, s.mul(i, row_step)), 1, columns)

        if whole == 1 and isinstance(whole, int):
            copy(rows, columns)
        else:
            with e.if_(whole) as branch:
                copy(rows, columns)
            with e.otherwise(branch):
                self._clear(result)
                with e.if_(some):
                    copy(row_cut.count, column_cut.count)
        if way == "columns":
            return CubeTile(result.buffer, dtype, rows, columns, result.height, True)
        return result

    def _clear(self, tile: CubeTile) -> None:
        self.e.issue(
            "init_const_value",
            "MTE2",
            [Access(tile.buffer, True)],
            core=self.core,
            dst=Place(tile.buffer, tile.dtype.name),
            block_num=tile.buffer.bytes // BLOCK,
            value=0.0 if tile.dtype.is_float else 0,
        )

    def bring(self, value: Tile, dtype: DType) -> CubeTile:
        """A tile of the vector core in L1."""
        wanted = cube_dtype(dtype, self.chip)
        assert wanted is not None
        if dtype in NARROW:
            source_dtype = dtype
            value = self.w.one_by_one(lambda v: self.s.cast(v[0], source_dtype, t.f16), [value], t.f16, value.shape)
            dtype = t.f16
        tile = self.t.tile(value)
        rows, columns = tile.shape
        made = layout(tile.shape)
        # A row or a column is dense: seen as rows of the pitch that it has.
        pitch = made.pitch if rows > 1 and columns > 1 else 1 if columns == 1 else columns
        slots = 2 if self.e.turning_loop() is not None else 1
        result = self._l1(rows, columns, dtype, tile.place.buffer.name, slots)
        size = dtype.bytes
        if self.chip.split:
            name = f"{tile.place.buffer.name} to the cube"
            space = self.e.buffer("WS", rows * columns * size, name, (rows, columns), dtype.name, slots)
            self.write(lambda: self._out(tile, space, rows, columns, pitch))
            self.e.issue(
                "data_copy_nd2nz",
                "MTE2",
                [Access(result.buffer, True), Access(space, False)],
                core=self.core,
                dst=Place(result.buffer, dtype.name),
                src=GlobalPlace(None, dtype.name, 0, space),
                n_value=rows,
                d_value=columns,
                src_d_value=columns,
                dst_nz_c0_stride=result.height,
            )
            return result
        self._to_l1(tile, result, rows, columns, pitch)
        return result

    def _out(self, tile: UbTile, space: Buffer, rows: int, columns: int, pitch: int) -> None:
        """To the workspace, row by row without gaps."""
        size = tile.dtype.bytes
        dense = pitch == columns or rows == 1
        length = (rows * columns if dense else columns) * size
        room = 0 if dense else pitch * size // BLOCK - _up(columns * size, BLOCK) // BLOCK
        self.e.issue(
            "data_copy_pad",
            "MTE3",
            [access(tile.place, False, tile.layout.bytes(tile.dtype)), Access(space, True)],
            dst=GlobalPlace(None, tile.dtype.name, 0, space),
            src=tile.place,
            block_count=1 if dense else rows,
            block_len=length,
            src_stride=room,
        )

    def _to_l1(self, tile: UbTile, result: CubeTile, rows: int, columns: int, pitch: int) -> None:
        """Coupled chips: a block of 32 bytes of every row makes a fractal column."""
        size = tile.dtype.bytes
        per_block = BLOCK // size
        if pitch * size % BLOCK and rows > 1:  # a dense column: give each element a row of its own
            wide = self.t.new(tile.dtype, (rows, 32), "rows")
            self.t.each(
                (rows,), lambda i: self.e.store(self.t.at(wide, [*i, 0]), self.e.load(self.t.at(tile, [*i, 0])))
            )
            tile, pitch = wide, 32
        group = self.e.new_group()
        for column in range(0, columns, per_block):
            self.e.issue(
                "data_copy",
                "MTE3",
                [Access(tile.place.buffer, False), Access(result.buffer, True, group=group)],
                dst=Place(result.buffer, tile.dtype.name, column // per_block * result.height * BLOCK),
                src=tile.place.at(column * size),
                block_count=rows,
                block_len=1,
                src_stride=max(0, pitch * size // BLOCK - 1),
            )

    # --- products

    def accumulator(self, rows: int, columns: int, dtype: DType, name: str, loops: bool) -> Sum:
        """Room for a sum. `dtype` is f32 or i32; `loops`: products are added to it in loops."""
        most = self.chip.buffers["L0A"] // 2 // (FRACTAL * 4)
        parts: list[Part] = []
        slots = 2 if self.e.turning_loop() is not None else 1
        for row in range(0, rows, most):
            for column in range(0, columns, most):
                height, width = min(most, rows - row), min(most, columns - column)
                size = _up(height, FRACTAL) * _up(width, FRACTAL if dtype.is_float else BLOCK) * 4
                buffer = self.e.buffer("L0C", size, name, (height, width), dtype.name, slots)
                parts.append(Part(buffer, row, height, column, width))
        fresh: Operand = 1
        if loops:
            register = self.s.register("i64", "fresh")
            self.s.move(register, 1)
            fresh = register
        return Sum(tuple(parts), rows, columns, dtype, fresh, self.e.new_group())

    def multiply(self, total: Sum, a: CubeTile, b: CubeTile) -> None:
        """total += a @ b, in pieces of k."""
        depth = a.rows if a.swapped else a.columns
        size = a.dtype.bytes
        with self.e.on(self.core):
            for part in total.parts:
                half = self.chip.buffers["L0A"] // 2
                unit = max(FRACTAL, BLOCK // size)
                # What is turned while it is loaded comes in squares: bytes in 32 rows or columns at least.
                height = _up(part.rows, unit if a.swapped else FRACTAL)
                width = _up(part.columns, FRACTAL if b.swapped else unit)
                most = max(unit, half // (max(height, width) * size) // unit * unit)
                deep = _up(depth, unit)
                pieces = -(-depth // most)
                rotates = pieces % 2 == 1 and self.e.turning_loop() is not None
                left = [self._l0("L0A", height * min(most, deep) * size, a, rotates and pieces == 1)]
                right = [self._l0("L0B", width * min(most, deep) * size, b, rotates and pieces == 1)]
                if pieces > 1:
                    left.append(self._l0("L0A", height * most * size, a, False))
                    right.append(self._l0("L0B", width * most * size, b, False))
                for piece in range(pieces):
                    first = piece * most
                    count = min(most, depth - first)
                    at, bt = left[piece % len(left)], right[piece % len(right)]
                    self._load_left(at, a, part, first, count)
                    self._load_right(bt, b, part, first, count)
                    # Bytes come as 32 columns at least: those beyond the last are zeros.
                    across = part.columns if b.swapped else _up(part.columns, BLOCK) if size == 1 else part.columns
                    self._mmad(total, part, at, bt, a.dtype, count, across, total.fresh if piece == 0 else 0)
        if isinstance(total.fresh, int):
            total.fresh = 0
        else:
            self.s.move(total.fresh, 0)  # type: ignore[arg-type]

    def _l0(self, space: str, size: int, source: CubeTile, rotates: bool) -> Buffer:
        return self.e.buffer(
            space, size, f"{source.buffer.name} in {space}", (), source.dtype.name, 2 if rotates else 1
        )

    def _load_left(self, target: Buffer, a: CubeTile, part: Part, first: int, count: int) -> None:
        block = BLOCK // a.dtype.bytes
        if a.swapped:  # k x m in L1
            self._load_3d(target, a, first, count, part.row, _up(part.rows, block), True)
        else:
            self._load_3d(target, a, part.row, part.rows, first, _up(count, block), False)

    def _load_right(self, target: Buffer, b: CubeTile, part: Part, first: int, count: int) -> None:
        block = BLOCK // b.dtype.bytes
        if not b.swapped:  # k x n in L1
            self._load_3d(target, b, first, count, part.column, _up(part.columns, block), False)
            return
        # n x k in L1: its fractals are those of L0B, in the same order.
        fractals = _up(part.columns, FRACTAL) // FRACTAL
        whole = b.height // FRACTAL
        for place in range(_up(count, block) // block):
            start = (first // block + place) * whole + part.column // FRACTAL
            if fractals == whole:
                repeat = _up(count, block) // block * fractals
                for done in range(0, repeat, 255):
                    self._load_2d(target, b, start + done, min(255, repeat - done), done)
                return
            self._load_2d(target, b, start, fractals, place * fractals)

    def _load_2d(self, target: Buffer, source: CubeTile, start: int, repeat: int, place: int) -> None:
        self.e.issue(
            "load_data",
            "MTE1",
            [
                Access(target, True, place * 512, (place + repeat) * 512),
                Access(source.buffer, False, start * 512, (start + repeat) * 512),
            ],
            dst=Place(target, source.dtype.name, place * 512),
            src=Place(source.buffer, source.dtype.name),
            start_index=start,
            repeat_times=repeat,
        )

    def _load_3d(
        self, target: Buffer, source: CubeTile, row: int, rows: int, column: int, columns: int, turned: bool
    ) -> None:
        """Rows and columns of a tile in L1, as an image of one line whose channels are the columns."""
        block = BLOCK // source.dtype.bytes
        self.e.issue(
            "load_data_3d",
            "MTE1",
            [Access(target, True), Access(source.buffer, False)],
            dst=Place(target, source.dtype.name),
            src=Place(source.buffer, source.dtype.name),
            l1_h=1,
            l1_w=source.height,
            channel_size=_up(source.columns, block),
            k_extension=columns,
            m_extension=rows,
            k_start_pt=column,
            m_start_pt=row,
            en_transpose=int(turned),
        )

    def _mmad(
        self, total: Sum, part: Part, a: Buffer, b: Buffer, dtype: DType, depth: int, across: int, init: Operand
    ) -> None:
        fractals = _up(part.rows, FRACTAL) // FRACTAL * (_up(part.columns, FRACTAL) // FRACTAL)
        group = total.group if fractals >= ORDERED else 0
        self.e.issue(
            "mmad",
            "M",
            [Access(part.buffer, True, group=group, sums=True), Access(a, False), Access(b, False)],
            dst=Place(part.buffer, total.dtype.name),
            a=Place(a, dtype.name),
            b=Place(b, dtype.name),
            m=part.rows,
            n=across,
            k=depth,
            init=init,
        )

    # --- results

    def drain(self, total: Sum, name: str) -> UbTile:
        """The sum as a tile of the vector core."""
        # On coupled chips the vector unit itself fetches the sum: a second slot would let nothing overlap.
        slots = 2 if self.chip.split and self.e.turning_loop() is not None else 1
        result = self.t.new(total.dtype, (total.rows, total.columns), name, slots)
        if isinstance(total.fresh, int) and total.fresh == 0:
            self._drain(total, result, slots)
            return result
        with self.e.if_(total.fresh) as branch:
            self.t.fill(result, 0.0 if total.dtype.is_float else 0)
        with self.e.otherwise(branch):
            self._drain(total, result, slots)
        return result

    def _drain(self, total: Sum, result: UbTile, slots: int) -> None:
        if not self.chip.split:
            for part in total.parts:
                self._from_l0c(total, part, result)
            return
        made = result.layout
        pitch = made.columns if made.rows == 1 else made.pitch
        if total.columns == 1:
            pitch = 8  # rows of L0C go to places of 32 bytes
        name = f"{result.place.buffer.name} from the cube"
        space = self.e.buffer("WS", total.rows * pitch * 4, name, result.shape, total.dtype.name, slots)
        group = self.e.new_group()
        for part in total.parts:
            self.e.issue(
                "fixpipe",
                "FIX",
                [Access(part.buffer, False), Access(space, True, group=group)],
                core=self.core,
                dst=GlobalPlace(None, total.dtype.name, part.row * pitch + part.column, space),
                src=Place(part.buffer, total.dtype.name),
                n_size=part.columns,
                m_size=part.rows,
                src_stride=_up(part.rows, FRACTAL),
                dst_stride=pitch,
            )
        there = GlobalPlace(None, total.dtype.name, 0, space)
        if total.columns == 1 and total.rows > 1:
            wide = self.t.new(total.dtype, (total.rows * 8,), "column")
            self._fetch(wide, there, space, 1, total.rows * 32, 0, 0)
            self.t.each(
                (total.rows,),
                lambda i: self.t.store(result, [*i, 0], self.e.load(self.t.at(wide, [self.s.mul(i[0], 8)]))),
            )
            return
        if pitch == total.columns or total.rows == 1:
            self._fetch(result, there, space, 1, total.rows * total.columns * 4, 0, 0)
            return
        length = total.columns * 4
        room = pitch * 4 // BLOCK - _up(length, BLOCK) // BLOCK
        self._fetch(result, there, space, total.rows, length, pitch * 4 - length, room)

    def _fetch(
        self, tile: UbTile, there: GlobalPlace, space: Buffer, count: int, length: int, gap: int, room: int
    ) -> None:
        self.e.issue(
            "data_copy_pad",
            "MTE2",
            [Access(tile.place.buffer, True), Access(space, False)],
            dst=tile.place,
            src=there,
            block_count=count,
            block_len=length,
            src_stride=gap,
            dst_stride=room,
        )

    def _from_l0c(self, total: Sum, part: Part, result: UbTile) -> None:
        """Coupled chips: fractals to the unified buffer, and from there as rows."""
        rows, columns = _up(part.rows, FRACTAL), _up(part.columns, FRACTAL)
        place = self.t.scratch(rows * columns * 4, total.dtype.name, "fractals")
        self.e.issue(
            "data_copy_l0c",
            "V",
            [Access(part.buffer, False), access(place, True, rows * columns * 4)],
            dst=place,
            src=Place(part.buffer, total.dtype.name),
            block_len=rows * columns // 256,
        )
        made = result.layout
        moved = "i32"
        if total.columns == 1 or (made.rows == 1 and total.rows > 1):
            self.t.each(
                (part.rows,),
                lambda i: self.t.store(
                    result,
                    [self.s.add(i[0], part.row), part.column],
                    self.e.load(Place(place.buffer, total.dtype.name, self.s.mul(i[0], 64))),
                ),
            )
            return
        pitch = made.pitch if made.rows > 1 else made.columns
        group = self.e.new_group()
        for column in range(0, part.columns, FRACTAL):
            width = min(FRACTAL, part.columns - column)
            target = result.place.at((part.row * pitch + part.column + column) * 4)
            source = place.at(column // FRACTAL * rows * 64)
            lines = Lines(target.view(moved), pitch)
            self.t.v.run("copy", part.rows, width, lines, [Lines(source.view(moved), FRACTAL)], group=group)

    # --- straight to a tensor

    def store(
        self,
        total: Sum,
        target: DType,
        tensor: TensorParameter,
        cuts: Sequence[tuple[Cut, Operand]],
        base: Operand,
        mode: str,
        region: Region,
        otherwise: Callable[[], None],
    ) -> None:
        """Rows of a tensor whose elements are neighbours; `otherwise` writes where it is not aligned or still zero."""
        e, s = self.e, self.s
        (rows, step), (columns, _) = cuts
        size = target.bytes
        ready = s.test("eq", s.mod(s.mul(base, size), BLOCK), 0)
        ready = s.both(ready, s.test("ge", step, total.columns))
        if not (isinstance(total.fresh, int) and total.fresh == 0):
            ready = s.both(ready, s.compute("xor", "i64", total.fresh, 1))
        mode_name = {"f16": "f32_to_f16", "bf16": "f32_to_bf16"}.get(target.name, "none")
        group = self.e.new_group()
        some = s.both(*(1 if cut.some else s.test("gt", cut.count, 0) for cut in (rows, columns)))
        with e.if_(ready) as branch, e.if_(some), e.on(self.core):
            if mode != "set":
                e.issue("set_atomic", "S", [], mode=mode)
            for part in total.parts:
                height = s.min(s.sub(rows.count, part.row), part.rows)
                width = s.min(s.sub(columns.count, part.column), part.columns)
                inside = s.both(s.test("gt", height, 0), s.test("gt", width, 0))
                single = len(total.parts) == 1

                def write(part: Part = part, height: Operand = height, width: Operand = width) -> None:
                    distance = s.add(base, s.mul(step, part.row), part.column)
                    e.issue(
                        "fixpipe",
                        "FIX",
                        [Access(part.buffer, False), Access(tensor.name, True, group=group, region=region)],
                        dst=GlobalPlace(tensor.tensor, target.name, distance, tensor.name),
                        src=Place(part.buffer, total.dtype.name),
                        n_size=width,
                        m_size=height,
                        src_stride=_up(part.rows, FRACTAL),
                        dst_stride=step,
                        quant_mode=mode_name,
                    )

                if single:
                    write()
                else:
                    with e.if_(inside):
                        write()
            if mode != "set":
                e.issue("set_atomic", "S", [], mode="none")
        with e.otherwise(branch):
            otherwise()

    # --- what the cube does not do

    def by_vector(self, a: Tile, b: Tile, dtype: DType, shape: tuple[int, ...]) -> UbTile:
        """f32 on the vector unit: each row of the result is a sum of rows of b, times an element of a."""
        rows, columns = shape
        depth = b.shape[0]
        left, right = self.t.tile(a), self.t.tile(b)
        result = self.t.new(t.f32, shape)
        self.t.fill(result, 0.0)
        made, source = result.layout, right.layout
        if columns == 1 or (depth > 1 and source.rows == 1):
            return self.one_by_one(a, b, dtype, shape)
        pitch = made.pitch if made.rows > 1 else columns
        step = source.pitch if source.rows > 1 else columns
        with self.e.loop(0, rows, cores=self.e.core) as i:
            target = self.s.mul(i, pitch * 4)
            with self.e.loop(0, depth, cores=self.e.core) as k:
                factor = self.e.load(self.t.at(left, [i, k]))
                row = self.s.mul(k, step * 4)
                for first in range(0, columns, 64 * 255):
                    whole = min(255, (columns - first) // 64)
                    rest = columns - first - whole * 64 if whole < 255 else 0
                    for repeat, mask, begin in ((whole, 64, first), (1, rest, first + whole * 64)):
                        if repeat and mask:
                            places = self.s.add(target, begin * 4), self.s.add(row, begin * 4)
                            self._axpy(result, right, *places, factor, repeat, mask)
        return result

    def _axpy(
        self, result: UbTile, right: UbTile, target: Operand, row: Operand, factor: Operand, repeat: int, mask: int
    ) -> None:
        self.e.issue(
            "axpy",
            "V",
            [Access(result.place.buffer, True), Access(right.place.buffer, False)],
            dst=Place(result.place.buffer, "f32", target),
            src0=Place(right.place.buffer, "f32", self.s.add(row, right.place.offset)),
            scalar=factor,
            repeat=repeat,
            mask0=mask,
        )

    def one_by_one(self, a: Tile, b: Tile, dtype: DType, shape: tuple[int, ...]) -> UbTile:
        """Any dtype and any leading dims, on the scalar unit."""
        from opdsl.ir.ops import dot_result_dtype

        result_dtype = dot_result_dtype(dtype)
        depth = a.shape[-1]
        left, right = self.t.tile(a) if isinstance(a, UbTile) else self.t.readable(a), self.t.readable(b)
        result = self.t.new(result_dtype, shape)
        wide = t.f64 if dtype.is_float else t.i64

        def one(indices: list[Operand]) -> None:
            total = self.t.register(wide, "sum")
            self.s.move(total, 0.0 if dtype.is_float else 0)
            *outer, m, n = indices
            with self.e.loop(0, depth, cores=self.e.core) as k:
                x = self.s.cast(self.t.element(left, [*outer, m, k]), dtype, wide)
                y = self.s.cast(self.t.element(right, [*outer, k, n]), dtype, wide)
                product = self.s.op("mul", wide, [x, y], wide)
                self.s.move(total, self.s.op("add", wide, [total, product], wide))
            self.t.store(result, indices, self.s.cast(total, wide, result_dtype))

        self.t.each(shape, one)
        return result
