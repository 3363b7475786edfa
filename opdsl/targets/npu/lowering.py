"""The walk over a kernel's regions: every op becomes nodes of the tree (`tree.py`).

Scalars live in registers of the scalar units of all cores; tiles in buffers. A value that loops carry has a home, a
register or a buffer, which the end of the body writes. The outermost `parallel` is the grid: each block of cores takes
every n-th of its iterations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from opdsl.analysis.facts import gather_facts
from opdsl.analysis.ranges import ends_below, is_nonnegative
from opdsl.ir import types as t
from opdsl.ir.core import Gather, Kernel, Op, Region, Slice, Value, walk
from opdsl.ir.ops import OPS, print_parts
from opdsl.ir.types import DType, ScalarType, TensorType, TileType, shape_of
from opdsl.npu.chip import Chip
from opdsl.npu.statements import Operand, Register
from opdsl.passes.rewrite import definitions, has_effect, uses
from opdsl.support.errors import CompileError
from opdsl.support.location import source_line
from opdsl.targets.base import Request
from opdsl.targets.npu.chains import Chain, Finder
from opdsl.targets.npu.dots import CubeTile, Dots, Sum, on_cube
from opdsl.targets.npu.elementwise import HALVES, Elementwise
from opdsl.targets.npu.emitter import Emitter
from opdsl.targets.npu.parameters import Parameters, TensorParameter
from opdsl.targets.npu.reductions import Reductions
from opdsl.targets.npu.scalar_unit import constant
from opdsl.targets.npu.shapes import Shapes
from opdsl.targets.npu.tiles import Tiles
from opdsl.targets.npu.transfers import Cut, Known, Transfers, region_of
from opdsl.targets.npu.tree import Block, Buffer
from opdsl.targets.npu.values import Affine, BitTile, Spread, Test, Tile, UbTile, Uniform


@dataclass(frozen=True)
class Rounded:
    """A sum of products that leaves L0C as another dtype."""

    total: Sum
    dtype: DType


Home = Register | UbTile | BitTile | Sum


@dataclass(frozen=True)
class Choices:
    """What is tried in turn until the buffers fit."""

    grid_slots: int = 2  # of buffers that rotate with the grid
    loop_slots: bool = True  # whether those of pipelined loops rotate
    distribute: bool = True  # over all cores


@dataclass
class Lowered:
    program: Block
    parameters: Parameters
    single_block: bool
    cores: tuple[str, ...]
    in_place: list[tuple[Buffer, Buffer, int]] = field(default_factory=list)
    texts: dict[str, Op] = field(default_factory=dict)  # of assertions


class NeedsSingleCore(Exception):
    """Raised where a kernel changes elements of a tensor in a way that only one core at a time can."""


class Lowering:
    def __init__(self, request: Request, kernel: Kernel, chip: Chip, choices: Choices) -> None:
        self.kernel = kernel
        self.chip = chip
        self.choices = choices
        self.request = request
        self.e = Emitter(chip)
        self.s = self.e.s
        self.t = Tiles(self.e)
        self.w = Elementwise(self.t)
        self.r = Reductions(self.w)
        self.shapes = Shapes(self.w)
        self.parameters = Parameters(kernel, request.unit_axes)
        self.values: dict[Value, Operand | Tile | TensorParameter | CubeTile | Sum | Rounded] = {}
        for value, parameter in zip(kernel.parameters, self.parameters.by_place, strict=True):
            self.values[value] = parameter
        self.facts = gather_facts(kernel)
        self.uses = uses(kernel.body)
        self.definitions = definitions(kernel.body)
        self.written = {op.operands[1] for op in walk(kernel.body) if op.name == "copy_out"}
        eligible = {op for op in walk(kernel.body) if op.name == "dot" and on_cube(op, chip)}
        self.mixed = chip.split and bool(eligible)
        if self.mixed:
            self.e.both = "both"
        self.memory = Transfers(self.t, self._write)
        self.dots = Dots(self.w, self.memory, self._write)
        self.eligible = eligible
        finder = Finder(kernel, eligible)
        self.users = finder.users
        chains = finder.find()
        self.chain_of = {dot: chain for chain in chains for dot in chain.dots}
        self.chain_adds = {add: chain for chain in chains for add in chain.adds}
        self.chain_starts: dict[Op, list[Chain]] = {}
        for chain in chains:
            self.chain_starts.setdefault(chain.start, []).append(chain)
        self.chain_values = {value: chain for chain in chains for value in chain.values}
        self.finals = {chain.final: chain for chain in chains}
        self.sums: dict[Chain, Sum] = {}
        self.texts: dict[str, Op] = {}
        self.grids = [op for op in kernel.body.ops if op.name == "parallel"]
        effects = [op for op in kernel.body.ops if has_effect(op)]
        self.distributed = choices.distribute and bool(self.grids) and all(op.name == "parallel" for op in effects)
        self.depth = 0  # of parallel loops around

    # --- the whole

    def lower(self) -> Lowered:
        if self.distributed or self.mixed or not self.chip.split:
            self._top()
        else:  # one vector core of the one block that runs
            with self.e.if_(self.s.test("eq", self.parameters.register("sub_block_idx"), 0)) as branch:
                branch.certain = True
                self._top()
        self.e.program.nodes[:0] = self.e.prologue.nodes
        if self.memory.single_core and self.distributed:
            raise NeedsSingleCore
        cores = ("cube", "vector") if self.mixed else ("vector",)
        return Lowered(self.e.program, self.parameters, not self.distributed, cores, self.e.in_place, self.texts)

    def _top(self) -> None:
        for op in self.kernel.body.ops[:-1]:
            if op.name == "parallel" and self.distributed and op is not self.grids[0]:
                self.e.issue("sync_all", "S", [], core=self.e.both, all_kinds=int(self.mixed))
            self.op(op)

    def _write(self, body: Callable[[], None]) -> None:
        if not self.mixed:
            body()
            return
        first = self.parameters.register("sub_block_idx")
        with self.e.if_(self.s.test("eq", first, 0)) as branch:
            branch.certain = True
            body()

    def region(self, region: Region) -> Sequence[Operand | Tile | TensorParameter | CubeTile | Sum | Rounded]:
        for op in region.ops:
            if op.name == "yield":
                return [self.values[o] for o in op.operands]
            self.op(op)
        raise AssertionError("a region does not end with a yield")

    def refuse(self, op: Op, message: str, help: str) -> CompileError:
        return CompileError(message, op.location, source_line(op.location, self.kernel.source), help)

    # --- one op

    def op(self, op: Op) -> None:
        before = self.e.location
        self.e.location = self.s.location = op.location
        self.t.hint = next((r.name for r in op.results if r.name), op.name)
        for chain in self.chain_starts.get(op, ()):
            shape = shape_of(chain.zeros.type)
            dtype = t.i32 if chain.zeros.type.dtype == t.i32 else t.f32
            name = chain.final.name if chain.final is not None and chain.final.name else "sum"
            self.sums[chain] = self.dots.accumulator(shape[0], shape[1], dtype, name, bool(chain.loops))
        handler = getattr(self, f"_op_{op.name.replace('-', '_')}", None)
        if handler is not None:
            handler(op)
        elif OPS[op.name].category == "elementwise":
            self._elementwise(op)
        else:
            raise self.refuse(op, f"the NPU target does not know the op '{op.name}'", "use another target")
        for result in op.results:
            if result in self.finals and not self._goes_to_tensor(result):
                total = self.values[result]
                assert isinstance(total, Sum)
                self.values[result] = self.dots.drain(total, result.name or "sum")
        self.e.location = self.s.location = before

    def _goes_to_tensor(self, value: Value) -> bool:
        """Whether all that is done with a sum of products is to write it, maybe as 16-bit floats, to a tensor."""
        if not self.chip.split or len(self.users.get(value, ())) != 1:
            return False
        (user, place), *_ = self.users[value]
        if user.name == "cast" and user.attributes["dtype"] in HALVES and len(self.users.get(user.result, ())) == 1:
            (user, place), *_ = self.users[user.result]
        if user.name != "copy_out" or place != 0:
            return False
        index = user.attributes["index"]
        tensor = self.values[user.operands[1]]
        assert isinstance(tensor, TensorParameter)
        slices = [axis for axis, spec in enumerate(index) if isinstance(spec, Slice)]
        if len(slices) != 2 or any(isinstance(spec, Gather) for spec in index):
            return False
        mode = user.attributes["mode"]
        return (
            slices[1] == tensor.unit_axis
            and index[slices[1]].step == 1
            and all(is_nonnegative(self.facts, user.operands[2 + axis]) for axis in slices)
            and (mode == "set" or tensor.type.dtype in (t.f32, t.i32))
        )

    def scalar(self, value: Value) -> Operand:
        found = self.values[value]
        assert isinstance(found, Register | int | float)
        return found

    def tile(self, value: Value) -> Tile:
        found = self.values[value]
        assert isinstance(found, Tile), f"{value} is no tile"
        return found

    def tensor(self, value: Value) -> TensorParameter:
        found = self.values[value]
        assert isinstance(found, TensorParameter)
        return found

    def _elementwise(self, op: Op) -> None:
        if isinstance(op.result.type, ScalarType):
            operands = [self.scalar(o) for o in op.operands]
            dtype = op.operands[-1].type.dtype
            found = self.s.op(op.name, dtype, operands, op.result.type.dtype, op.attributes.get("word", 0))
            self.values[op.result] = found
            return
        if op in self.chain_adds:
            self.values[op.result] = self.sums[self.chain_adds[op]]
            return
        first = self.values[op.operands[0]]
        if isinstance(first, Sum):
            assert op.name == "cast"
            self.values[op.result] = Rounded(first, op.attributes["dtype"])
            return
        assert isinstance(op.result.type, TileType)
        shape = op.result.type.shape
        tiles: list[Tile] = []
        for operand in op.operands:  # the seed of random_bits is a scalar
            value = self.values[operand]
            tiles.append(value if isinstance(value, Tile) else Uniform(self.scalar(operand), operand.type.dtype, shape))
        self.values[op.result] = self.w.lower(op, tiles)

    def _op_constant(self, op: Op) -> None:
        self.values[op.result] = constant(op.attributes["value"], op.attributes["dtype"])

    def _op_dim(self, op: Op) -> None:
        self.values[op.result] = self.parameters.size(op.attributes["symbol"])

    def _op_arange(self, op: Op) -> None:
        self.values[op.result] = Affine(0, (1,), (op.attributes["length"],))

    def _op_broadcast(self, op: Op) -> None:
        operand = self.values[op.operands[0]]
        assert isinstance(operand, Tile | Register | int | float)
        self.values[op.result] = self.shapes.broadcast(op, operand)

    def _op_reshape(self, op: Op) -> None:
        operand = self.values[op.operands[0]]
        assert isinstance(operand, Tile | Register | int | float)
        self.values[op.result] = self.shapes.reshape(op, operand)

    def _op_transpose(self, op: Op) -> None:
        operand = self.values[op.operands[0]]
        if isinstance(operand, CubeTile):
            self.values[op.result] = replace(operand, swapped=not operand.swapped)
            return
        self.values[op.result] = self.shapes.transpose(op, self.tile(op.operands[0]))

    def _op_extract(self, op: Op) -> None:
        self.values[op.result] = self.shapes.extract(op, self.tile(op.operands[0]))

    def _op_concat(self, op: Op) -> None:
        self.values[op.result] = self.shapes.concat(op, [self.tile(o) for o in op.operands])

    def _op_dot(self, op: Op) -> None:
        dtype: DType = op.operands[0].type.dtype
        shape = shape_of(op.result.type)
        if op not in self.eligible:
            a, b = (self.tile(o) for o in op.operands)
            single = dtype == t.f32 and len(shape) == 2
            self.values[op.result] = (self.dots.by_vector if single else self.dots.one_by_one)(a, b, dtype, shape)
            return
        operands: list[CubeTile] = []
        for value in op.operands:
            found = self.values[value]
            operands.append(found if isinstance(found, CubeTile) else self.dots.bring(self.tile(value), dtype))
        if op in self.chain_of:
            total = self.sums[self.chain_of[op]]
            self.dots.multiply(total, *operands)
            self.values[op.result] = total
            return
        result: DType = op.result.type.dtype
        total = self.dots.accumulator(shape[0], shape[1], result, op.result.name or "product", False)
        self.dots.multiply(total, *operands)
        self.values[op.result] = total if self._goes_to_tensor(op.result) else self.dots.drain(total, "product")

    def _direct(self, op: Op, tensor: TensorParameter, pad: Operand, known: Sequence[Known]) -> str | None:
        """How a copy_in comes straight to the cube, if products are all that it is for."""
        swapped = as_left = False

        def only_products(value: Value, turned: bool) -> bool:
            nonlocal swapped, as_left
            users = self.users.get(value, ())
            for user, place in users:
                if user.name == "transpose" and tuple(user.attributes["permutation"]) == (1, 0):
                    if not only_products(user.result, not turned):
                        return False
                elif user not in self.eligible:
                    return False
                else:
                    swapped |= turned
                    as_left |= place == 0
            return bool(users)

        if op.operands[0] in self.written or not only_products(op.result, False):
            return None
        return self.dots.loads_directly(op, tensor, pad, known, not as_left, swapped)

    def _op_reduce(self, op: Op) -> None:
        self.values[op.result] = self.r.reduce(op, self.tile(op.operands[0]))

    def _op_arg_reduce(self, op: Op) -> None:
        self.values[op.result] = self.r.arg_reduce(op, self.tile(op.operands[0]))

    def _op_scan(self, op: Op) -> None:
        self.values[op.result] = self.r.scan(op, self.tile(op.operands[0]))

    def _op_sort(self, op: Op) -> None:
        values, order = self.r.sort(op, self.tile(op.operands[0]))
        self.values[op.results[0]], self.values[op.results[1]] = values, order

    def _custom(self, op: Op, keep_all: bool) -> None:
        (combine,) = op.regions

        def call(left: list[Operand], right: list[Operand]) -> list[Operand]:
            for argument, value in zip(combine.arguments, [*left, *right], strict=True):
                self.values[argument] = value
            return [v for v in self.region(combine) if isinstance(v, Register | int | float)]

        found = self.r.custom(op, [self.tile(o) for o in op.operands], call, keep_all)
        for result, value in zip(op.results, found, strict=True):
            self.values[result] = value

    def _op_reduce_custom(self, op: Op) -> None:
        self._custom(op, False)

    def _op_scan_custom(self, op: Op) -> None:
        self._custom(op, True)

    # --- memory

    def _known(self, op: Op, tensor: TensorParameter, places: Sequence[Value]) -> list[Known]:
        """What is certain of where an access lies."""
        found: list[Known] = []
        for axis, (spec, place) in enumerate(zip(op.attributes["index"], places, strict=True)):
            size = tensor.type.dims[axis]
            length = (spec.length - 1) * spec.step + 1 if isinstance(spec, Slice) else 1
            begins, ends = (ends_below(self.facts, place, count, size) for count in (1, length))
            found.append(Known(is_nonnegative(self.facts, place), begins, ends))
        return found

    def _op_copy_in(self, op: Op) -> None:
        tensor, *places = (self.values[o] for o in op.operands[:-1])
        assert isinstance(tensor, TensorParameter)
        pad = self.scalar(op.operands[-1])
        dtype = tensor.type.dtype
        known = self._known(op, tensor, op.operands[1:-1])
        if isinstance(op.result.type, ScalarType):
            scalars = [p for p in places if isinstance(p, Register | int | float)]
            written = op.operands[0] in self.written
            self.values[op.result] = self.memory.load_scalar(tensor, scalars, pad, dtype, written)
            return
        way = self._direct(op, tensor, pad, known)
        if way is not None:
            scalars = [p for p in places if isinstance(p, Register | int | float)]
            self.values[op.result] = self.dots.load(op, tensor, scalars, way, known)
            return
        found = self.memory.load(
            tensor,
            op.attributes["index"],
            places,  # type: ignore[arg-type]
            pad,
            shape_of(op.result.type),
            known,
            op.result.name or tensor.name,
        )
        self.values[op.result] = found

    def _op_copy_out(self, op: Op) -> None:
        value, tensor, *places = (self.values[o] for o in op.operands)
        assert isinstance(tensor, TensorParameter)
        mode = op.attributes["mode"]
        known = self._known(op, tensor, op.operands[2:])
        if isinstance(value, Sum | Rounded):
            self._store_sum(op, value, tensor, places, known)  # type: ignore[arg-type]
            return
        if not isinstance(value, Tile):
            assert isinstance(value, Register | int | float)
            scalars = [p for p in places if isinstance(p, Register | int | float)]
            self.memory.store_scalar(tensor, scalars, value, tensor.type.dtype, mode)
            return
        self.memory.store(value, tensor, op.attributes["index"], places, mode, known)  # type: ignore[arg-type]

    def _store_sum(
        self,
        op: Op,
        value: Sum | Rounded,
        tensor: TensorParameter,
        places: Sequence[Operand],
        known: Sequence[Known],
    ) -> None:
        total, target = (value.total, value.dtype) if isinstance(value, Rounded) else (value, value.dtype)
        index = op.attributes["index"]
        base: Operand = 0
        cuts: list[tuple[Cut, Operand]] = []
        inside: Operand = 1
        s = self.s
        for axis, (spec, place) in enumerate(zip(index, places, strict=True)):
            stride = tensor.stride(axis)
            base = s.add(base, s.mul(place, stride))
            if isinstance(spec, Slice):
                cut = self.memory.cut(tensor, axis, spec, place, known[axis])
                cuts.append((cut, s.mul(stride, spec.step)))
            else:
                inside = s.both(inside, self.memory.inside(tensor, axis, place, known[axis]))
        mode = op.attributes["mode"]
        region = region_of(index, places)

        def by_vector() -> None:
            tile: Tile = self.dots.drain(total, "sum")
            if target != total.dtype:
                cast = self.w.cast(tile, total.dtype, target, tile.shape)
                assert cast is not None
                tile = cast
            self.memory.store(tile, tensor, index, places, mode, known)

        if inside == 1 and isinstance(inside, int):
            self.dots.store(total, target, tensor, cuts, base, mode, region, by_vector)
        else:
            with self.e.if_(inside):
                self.dots.store(total, target, tensor, cuts, base, mode, region, by_vector)

    # --- control

    def _count(self, start: Operand, stop: Operand, step: Operand) -> Operand:
        """The iterations of a range."""
        s = self.s
        if isinstance(step, int) and step > 0:
            return s.max(s.div(s.add(s.sub(stop, start), step - 1), step), 0)
        if isinstance(step, int):
            return s.max(s.div(s.add(s.sub(start, stop), -step - 1), -step), 0)
        up = s.div(s.add(s.sub(stop, start), s.sub(step, 1)), step)
        down = s.div(s.sub(s.sub(start, stop), s.add(step, 1)), s.sub(0, step))
        return s.max(s.compute("select", "i64", s.test("gt", step, 0), up, down), 0)

    def _op_parallel(self, op: Op) -> None:
        (body,) = op.regions
        ranges = [tuple(self.scalar(o) for o in op.operands[i : i + 3]) for i in range(0, len(op.operands), 3)]
        counts = [self._count(*r) for r in ranges]
        outermost = self.depth == 0 and self.distributed
        self.depth += 1
        slots = self.choices.grid_slots if not self.e.loops else 1
        if outermost:
            total: Operand = 1
            for count in counts:
                total = self.s.mul(total, count)
            first: Operand = self.parameters.register("block_idx")
            step: Operand = self.parameters.register("block_num")
            if not self.mixed and self.chip.split:  # the vector cores of a block work by themselves
                several = self.parameters.register("sub_block_num")
                first = self.s.add(self.s.mul(first, several), self.parameters.register("sub_block_idx"))
                step = self.s.mul(step, several)
            with self.e.loop(first, total, step, name="tile", slots=slots, independent=True) as number:
                for argument, index, (start, _, stride) in zip(
                    body.arguments, self._indices(number, counts), ranges, strict=True
                ):
                    self.values[argument] = self.s.add(start, self.s.mul(index, stride))
                self.region(body)
        else:
            self._nest(list(zip(ranges, counts, strict=True)), body, [], slots)
        self.depth -= 1

    def _indices(self, number: Operand, counts: Sequence[Operand]) -> list[Operand]:
        """The place in each dim of a grid that an iteration's number stands for: row-major, the last dim fastest.

        Where there are products, the last two dims go in bands of as many columns as make the tiles that the cores work
        on at once about a square: those read the fewest rows and columns, and find them in L2.
        """
        s = self.s
        indices: list[Operand] = []
        rest = number
        if self.eligible and len(counts) > 1:
            rows, columns = counts[-2:]
            if len(counts) > 2:
                area = s.mul(rows, columns)
                number, rest = s.mod(rest, area), s.div(rest, area)
            wide = round(math.sqrt(self.chip.cores[self.chip.kinds[0]]))
            band = s.div(number, s.mul(rows, wide))
            inside = s.sub(number, s.mul(band, s.mul(rows, wide)))
            first = s.mul(band, wide)
            width = s.min(s.sub(columns, first), wide)
            indices = [s.div(inside, width), s.add(first, s.mod(inside, width))]
            counts = counts[:-2]
        for place, count in enumerate(reversed(counts)):
            outermost = place == len(counts) - 1
            indices.insert(0, rest if outermost else s.mod(rest, count))
            rest = rest if outermost else s.div(rest, count)
        return indices

    def _nest(
        self,
        ranges: list[tuple[tuple[Operand, ...], Operand]],
        body: Region,
        places: list[Operand],
        slots: int,
    ) -> None:
        if not ranges:
            for argument, place in zip(body.arguments, places, strict=True):
                self.values[argument] = place
            self.region(body)
            return
        (start, _, step), count = ranges[0]
        innermost = len(ranges) == 1
        with self.e.loop(0, count, slots=slots if innermost else 1, independent=True) as number:
            place = self.s.add(start, self.s.mul(number, step))
            self._nest(ranges[1:], body, [*places, place], slots)

    def _op_for(self, op: Op) -> None:
        (body,) = op.regions
        start, stop, step = (self.scalar(o) for o in op.operands[:3])
        homes: list[Home] = []
        for initial, argument, result in zip(op.operands[3:], body.arguments[1:], op.results, strict=True):
            chain = self.chain_values.get(argument)
            homes.append(self._home(initial, result) if chain is None else self.sums[chain])
        pipelined = op.attributes["kind"] == "pipelined" and self.choices.loop_slots
        slots = max(1, int(op.attributes["depth"])) if pipelined else 1
        count = self._count(start, stop, step)
        with self.e.loop(0, count, name=body.arguments[0].name or "i", slots=slots) as number:
            self.values[body.arguments[0]] = self.s.add(start, self.s.mul(number, step))
            for argument, home in zip(body.arguments[1:], homes, strict=True):
                self.values[argument] = home
            self._carry(homes, self.region(body))
        for result, home in zip(op.results, homes, strict=True):
            self.values[result] = home

    def _home(self, initial: Value | None, result: Value) -> Register | UbTile | BitTile:
        """A place that outlives an iteration, with the initial value in it."""
        value = self.values[initial] if initial is not None else None
        if isinstance(result.type, ScalarType):
            register = self.t.register(result.type.dtype, result.name or "carried")
            if initial is not None:
                self.s.move(register, self.scalar(initial))
            return register
        assert isinstance(result.type, TileType)
        hint, self.t.hint = self.t.hint, result.name or "carried"
        if result.type.dtype.is_bool:
            bits = self.t.new_bits(result.type.shape)
            if initial is not None:
                self.t.copy_bits(bits, self.t.bits(self.tile(initial)))
            self.t.hint = hint
            return bits
        home = self.t.new(result.type.dtype, result.type.shape, result.name or "carried")
        if value is not None and initial is not None:
            self.t.tile(self.tile(initial), home)
        self.t.hint = hint
        return home

    def _carry(
        self, homes: Sequence[Home], values: Sequence[Operand | Tile | TensorParameter | CubeTile | Sum | Rounded]
    ) -> None:
        """Writes the homes at once: what is in one may be what another gets."""
        scalars: list[tuple[Register, Operand]] = []
        for home, value in zip(homes, values, strict=True):
            if isinstance(home, Register) and isinstance(value, Register | int | float) and value is not home:
                scalars.append((home, self._kept(value, homes)))
        own = {id(h.place.buffer) for h in homes if isinstance(h, UbTile | BitTile)}
        moved: list[tuple[UbTile | BitTile, Tile]] = []
        for home, value in zip(homes, values, strict=True):
            if not isinstance(home, UbTile | BitTile) or not isinstance(value, Tile):
                continue
            source = value.source if isinstance(value, Spread) else value
            held = source.place.buffer if isinstance(source, UbTile | BitTile) else None
            if held is home.place.buffer and not isinstance(value, Spread):
                continue
            if held is not None and id(held) in own:  # what another home holds: save it first
                if isinstance(value, BitTile):
                    copy = self.t.new_bits(value.shape)
                    self.t.copy_bits(copy, value)
                    value = copy
                else:
                    value = self.t.tile(value, self.t.new(home.dtype, value.shape))  # type: ignore[union-attr]
            moved.append((home, value))
        for register, scalar in scalars:
            self.s.move(register, scalar)
        for place, tile in moved:
            if isinstance(place, BitTile):
                self.t.copy_bits(place, self.t.bits(tile))
            else:
                self.t.tile(tile, place)

    def _kept(self, value: Operand, homes: Sequence[object]) -> Operand:
        if isinstance(value, Register) and any(value is h for h in homes):
            copy = self.s.register(value.dtype, "kept")
            self.s.move(copy, value)
            return copy
        return value

    def _op_while(self, op: Op) -> None:
        condition, body = op.regions
        homes = [self._home(o, v) for o, v in zip(op.operands, op.results, strict=True)]
        for region in (condition, body):
            for argument, home in zip(region.arguments, homes, strict=True):
                self.values[argument] = home
        goes_on = self.s.register("i64", "goes_on")

        def test() -> None:
            (found,) = self.region(condition)
            assert isinstance(found, Register | int)
            self.s.move(goes_on, found)

        test()  # once before the loop and once at the end of its body, so that one block holds all of an iteration
        with self.e.while_(goes_on):
            self._carry(homes, self.region(body))
            test()
        for result, home in zip(op.results, homes, strict=True):
            self.values[result] = home

    def _op_if(self, op: Op) -> None:
        homes = [self._home(None, v) for v in op.results]
        with self.e.if_(self.scalar(op.operands[0])) as node:
            self._carry(homes, self.region(op.regions[0]))
        with self.e.otherwise(node):
            self._carry(homes, self.region(op.regions[1]))
        for result, home in zip(op.results, homes, strict=True):
            self.values[result] = home

    # --- what the user sees

    def _op_print(self, op: Op) -> None:
        parts = print_parts(op.attributes["text"])

        def write() -> None:
            for number, operand in enumerate(op.operands):
                value = self.values[operand]
                text = parts[number]
                dtype: DType = operand.type.dtype
                if isinstance(value, Tile):
                    self._print_tile(text, value, dtype)
                else:
                    assert isinstance(value, Register | int | float)
                    self._say(text, value, dtype)
            self._say(parts[len(op.operands)] if len(parts) > len(op.operands) else "", None, t.i64, ends=True)

        self._write(write)

    def _say(self, text: str, value: Operand | None, dtype: DType, ends: bool = False) -> None:
        kind = 0 if value is None else 2 if dtype.is_float else 1
        self.e.issue("print_", "S", [], text=text, value=0 if value is None else value, has_value=kind, ends=int(ends))

    def _print_tile(self, text: str, tile: Tile, dtype: DType) -> None:
        self._say(f"{text}[", None, dtype)
        readable = self.t.readable(tile)
        self.t.each(
            tile.shape,
            lambda i: self._say(" ", self.w.truth(self.t.element(readable, i), tile), dtype),
        )
        self._say(" ]", None, dtype)

    def _op_assert(self, op: Op) -> None:
        value = self.values[op.operands[0]]
        key = f"{op.attributes['message']} @{len(self.texts)}"
        self.texts[key] = op
        if isinstance(value, Tile):
            readable = self.t.readable(value)
            held = self.s.register("i64", "held")
            self.s.move(held, 1)

            def one(indices: list[Operand]) -> None:
                self.s.move(held, self.s.both(held, self.w.truth(self.t.element(readable, indices), value)))

            self.t.each(value.shape, one)
            condition: Operand = held
        else:
            condition = self.scalar(op.operands[0])
        self.e.issue("assert_", "S", [], condition=condition, text=key)

    def _op_breakpoint(self, op: Op) -> None:
        """Only the interpreter stops."""


__all__ = ["Choices", "Lowered", "Lowering", "TensorType", "Test"]
