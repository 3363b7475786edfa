"""Where accesses go: address, stride along the lanes, and what of it lies inside the tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from opdsl.analysis.facts import tensor_index, tensor_of
from opdsl.analysis.ranges import constant, ends_below, is_nonnegative
from opdsl.ir.core import Gather, Op, Point, Slice, Value
from opdsl.ir.types import bool_, i64
from opdsl.targets.cpu.code import STORAGE, Register
from opdsl.targets.cpu.coordinates import access_coordinates
from opdsl.targets.cpu.loop_ir import Coordinates, Index
from opdsl.targets.cpu.tables import Clip, Tables, TensorText

Evaluate = Callable[[Value, Coordinates], Register]


@dataclass(frozen=True)
class Access:
    """One access at given coordinates: address, stride along the lanes, and the conditions on being inside. `row` is the
    address without the lane loop's part, where that is all that moves it inside the loop."""

    tensor: TensorText
    pointer: str
    stride: str
    condition: str | None
    ranges: list[tuple[str, str]]
    vector_offset: Register | None
    vector_inside: Register | None
    level: int
    row: str | None

    def lane_range(self, tables: Tables) -> tuple[str, str]:
        """First and one past the last lane that it touches, in the checked part of a lane loop."""
        lane, limit = tables.loops.lane, tables.loops.limit
        assert lane is not None and limit is not None
        low, high = "0", limit
        for start, stop in self.ranges:
            if start != "0":
                low = f"od::larger({low}, {start} - {lane.name})" if low != "0" else f"{start} - {lane.name}"
            high = f"od::smaller({high}, {stop} - {lane.name})"
        if self.condition is not None:
            high = f"({self.condition} ? {high} : 0)"
        return low, high

    def lane_offsets(self, tables: Tables) -> str:
        """The lanes' distances from the address."""
        lanes = tables.loops.lanes
        offset = self.vector_offset.text if self.vector_offset is not None else f"od::splat<od::i64, {lanes}>(0)"
        return tables.along_lanes(offset, self.stride) if self.stride != "0" else offset

    def lane_mask(self, tables: Tables) -> str:
        """The lanes that it touches."""
        lanes = tables.loops.lanes
        mask = self.vector_inside.text if self.vector_inside is not None else f"od::splat<od::i32, {lanes}>(-1)"
        if tables.loops.limit is not None:
            low, high = self.lane_range(tables)
            return f"{mask} & od::range_mask<{lanes}>({low}, {high})"
        return f"{mask} & {tables.all_lanes(self.condition)}" if self.condition is not None else mask


def clip_of(tables: Tables, op: Op, dim: int) -> Clip | None:
    """The bounds of a slice of one dim; None where it lies inside for certain."""
    tensor = tables.tensors[tensor_of(op)]
    spec, start = tensor_index(op)[dim]
    assert isinstance(spec, Slice)
    size = tensor.keys[dim]
    last = (spec.length - 1) * spec.step
    if last >= 0 and is_nonnegative(tables.facts, start) and ends_below(tables.facts, start, last + 1, size):
        return None
    code, register = tables.code, tables.scalars[start]
    key = (register.text, spec.length, spec.step, size)
    known = code.recall(("clip", key))
    if known is None:
        size_text = tensor.sizes[dim]
        low = f"od::slice_low({register.text}, {spec.step}, {spec.length})"
        high = f"od::slice_high({register.text}, {spec.step}, {spec.length}, {size_text})"
        inside = spec.step > 0 and is_nonnegative(tables.facts, start)
        low = "0" if inside else code.define("low", "od::i64", low, register.level)
        high = code.define("high", "od::i64", high, register.level)
        known = code.remember(("clip", key), Register(f"{low},{high}", i64, False, register.level))
    low, high = known.text.split(",")
    return Clip(key, low, high, known.level)


def access(tables: Tables, evaluate: Evaluate, op: Op, at: Coordinates) -> Access:
    """Where an access goes at `at`, and what of it lies inside the tensor."""
    parts = _Parts(tables, op)
    for dim, ((spec, operand), (place, inside)) in enumerate(
        zip(tensor_index(op), access_coordinates(op, at), strict=True)
    ):
        if isinstance(spec, Slice):
            assert place is not None
            parts.add_slice(dim, spec, operand, place)
        elif isinstance(spec, Point):
            parts.add_point(dim, operand)
        else:
            assert isinstance(spec, Gather)
            parts.add_gather(dim, evaluate(operand, inside))
    return parts.access(at)


class _Parts:
    """An access, dim by dim."""

    def __init__(self, tables: Tables, op: Op) -> None:
        self.tables = tables
        self.op = op
        self.tensor = tables.tensors[tensor_of(op)]
        self.by_level: dict[int, list[str]] = {}  # terms of the address
        self.conditions: list[tuple[str, int]] = []  # with their levels
        self.ranges: list[tuple[str, str]] = []  # lane bounds
        self.stride_terms: list[str] = []
        self.vector_offset: Register | None = None
        self.vector_inside: Register | None = None

    def add_slice(self, dim: int, spec: Slice, operand: Value, place: Index) -> None:
        tables, stride = self.tables, self.tensor.strides[dim]
        start = tables.scalars[operand]
        if constant(tables.facts, operand) != 0:
            self._add(start.level, f"{start.text} * {stride}")
        step = f"{spec.step} * {stride}" if spec.step != 1 else stride
        for variable, factor in place.terms:
            text = f"{variable.name} * ({step})" if factor == 1 else f"{variable.name} * ({factor} * {step})"
            self._add(tables.loops.level[variable], text)
            if variable is tables.loops.lane:
                self.stride_terms.append(step if factor == 1 else f"{factor} * {step}")
        if place.constant:
            self._add(0, f"{place.constant} * ({step})")
        clip = clip_of(tables, self.op, dim)
        if clip is not None:
            self._bound(clip, place)

    def add_point(self, dim: int, operand: Value) -> None:
        tables, index = self.tables, self.tables.scalars[operand]
        self._add(index.level, f"{index.text} * {self.tensor.strides[dim]}")
        key = self.tensor.keys[dim]
        if not (is_nonnegative(tables.facts, operand) and ends_below(tables.facts, operand, 1, key)):
            self._check(index, dim)

    def add_gather(self, dim: int, index: Register) -> None:
        tables, stride = self.tables, self.tensor.strides[dim]
        if not index.vector and not index.lane_step:
            self._add(index.level, f"{index.text} * {stride}")
            self._check(index, dim)
            return
        index = tables.as_vector(index)
        all_stride = tables.as_vector(Register(stride, i64, False, 0))
        offset, level = f"{index.text} * {all_stride.text}", index.level
        if self.vector_offset is not None:
            offset, level = f"{self.vector_offset.text} + {offset}", max(level, self.vector_offset.level)
        self.vector_offset = tables.define("offset", i64, True, offset, level)
        inside, level = f"od::inside_lanes({index.text}, od::i64({self.tensor.sizes[dim]}))", index.level
        if self.vector_inside is not None:
            inside, level = f"{self.vector_inside.text} & {inside}", max(level, self.vector_inside.level)
        self.vector_inside = tables.define("ok", bool_, True, inside, level)

    def access(self, at: Coordinates) -> Access:
        code = self.tables.code
        pointer, row = Register(self.tensor.pointer, i64, False, 0), None
        lane = self.tables.loops.lane
        for level in sorted(self.by_level):
            if lane is not None and level == self.tables.loops.level[lane] and len(self.by_level[level]) == 1:
                row = pointer.text
            text = " + ".join([pointer.text, *self.by_level[level]])
            known = code.recall(("pointer", text))
            if known is None:
                name = code.define("p", f"{STORAGE[self.tensor.dtype]}*", text, level)
                known = code.remember(("pointer", text), Register(name, i64, False, level))
            pointer = known
        level = max([pointer.level, self.tables.level(at), *(c[1] for c in self.conditions)])
        if self.vector_offset is not None:
            level = max(level, self.vector_offset.level)
        stride, condition = " + ".join(self.stride_terms) or "0", self._all_conditions()
        offset, inside = self.vector_offset, self.vector_inside
        return Access(self.tensor, pointer.text, stride, condition, self.ranges, offset, inside, level, row)

    def _add(self, level: int, term: str) -> None:
        self.by_level.setdefault(level, []).append(term)

    def _check(self, index: Register, dim: int) -> None:
        self.conditions.append((f"od::inside({index.text}, {self.tensor.sizes[dim]})", index.level))

    def _all_conditions(self) -> str | None:
        if not self.conditions:
            return None
        code = self.tables.code
        key = ("all", tuple(sorted({text for text, _ in self.conditions})))
        known = code.recall(key)
        if known is None:
            level = max(level for _, level in self.conditions)
            name = code.define("ok", "bool", " && ".join(key[1]), level)
            known = code.remember(key, Register(name, bool_, False, level))
        return known.text

    def _bound(self, clip: Clip, place: Index) -> None:
        """What a clip says of a place in its slice: a condition, or bounds of the lanes."""
        tables, loops = self.tables, self.tables.loops
        lane = loops.lane
        factor = place.coefficient(lane)
        if any(place.is_variable(variable) for key, variable in loops.inside if key == clip.key):
            return
        if factor == 0:
            text = tables.index_text(place)
            level = max(tables.level((place,)), clip.level)
            self.conditions.append((f"({text}) >= {clip.low} && ({text}) < {clip.high}", level))
            return
        low, high = clip.low, clip.high
        rest = Index(tuple((v, c) for v, c in place.terms if v is not lane), place.constant)
        if factor != 1 or rest != Index():
            low, high = _lane_bounds(factor, tables.index_text(rest), low, high)
            level = max(tables.level((rest,)), clip.level)
            low = tables.code.define("low", "od::i64", low, level)
            high = tables.code.define("high", "od::i64", high, level)
        if loops.limit is None:
            loops.met[(*clip.key, factor, str(rest))] = (low, high)
        else:
            self.ranges.append((low, high))


def _lane_bounds(factor: int, rest: str, low: str, high: str) -> tuple[str, str]:
    """The lanes with factor * lane + rest in [low, high)."""
    if factor > 0:
        return f"od::ceil_div({low} - ({rest}), {factor})", f"od::ceil_div({high} - ({rest}), {factor})"
    return f"od::ceil_div({rest} - {high} + 1, {-factor})", f"od::ceil_div({rest} - {low} + 1, {-factor})"
