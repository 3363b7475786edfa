"""Evaluates a tile value at given coordinates: C++ text for one vector (or scalar) of it.

Every intermediate result goes to the outermost scope that knows what it needs, so loop-invariant work leaves the loop,
and is remembered there, so nothing is computed twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from opdsl.ir.core import Gather, Op, Point, Slice, Value
from opdsl.ir.ops import OPS
from opdsl.ir.types import DType, ScalarType, TensorType, TileType, bool_, i64
from opdsl.targets.cpu import arithmetic
from opdsl.targets.cpu.code import REGISTER, STORAGE, Code, Register
from opdsl.targets.cpu.coordinates import access_coordinates, operand_coordinates
from opdsl.targets.cpu.facts import Facts, tensor_index, tensor_of
from opdsl.targets.cpu.loop_ir import Buffer, Coordinates, Index, LoopVariable
from opdsl.targets.cpu.ranges import constant, ends_below, is_nonnegative, loop_bounds, never_positive


@dataclass(frozen=True)
class TensorText:
    """A tensor parameter in C++: its pointer's name, and the texts of its sizes and strides."""

    pointer: str
    sizes: tuple[str, ...]
    strides: tuple[str, ...]
    dtype: DType
    keys: tuple[int | str, ...]  # what makes two sizes the same
    streams: str | None = None  # the flag that says whether stores go past the caches; None: they never do


@dataclass(frozen=True)
class Stored:
    """A tile value in local memory. Dims in `held` have one element a loop iteration: their coordinate counts only
    for the lanes."""

    buffer: Buffer
    held: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Clip:
    """Which places of a slice lie inside a tensor: the same for all accesses with equal `key`."""

    key: tuple[object, ...]
    low: str
    high: str


@dataclass
class Loops:
    """The loops that are open: their scopes' levels, the lane loop, and what is known about bounds."""

    level: dict[LoopVariable, int] = field(default_factory=dict)
    lane: LoopVariable | None = None
    lanes: int = 1
    limit: str | None = None  # in the checked part of a lane loop: how many lanes count; None: all of them
    inside: set[tuple[tuple[object, ...], LoopVariable]] = field(default_factory=set)  # clips that the loops ensure
    met: list[Clip] = field(default_factory=list)  # lane clips that the fast part of the loop must ensure


class Expressions:
    """Evaluation, with the tables that it reads: scalars' names, tensors' texts, stored tiles."""

    def __init__(self, facts: Facts, code: Code) -> None:
        self.facts = facts
        self.code = code
        self.scalars: dict[Value, Register] = {}
        self.tensors: dict[Value, TensorText] = {}
        self.stored: dict[Value, Stored] = {}
        self.loops = Loops()
        self.nest_level = 0  # of the block that the nest being emitted is
        self.read_again: set[Op] = set()  # copy_ins of the current nests that more than one of their loops reads
        self.first_readings: dict[tuple[Op, int], LoopVariable | None] = {}
        self.second_readings: dict[tuple[Op, int], LoopVariable | None] = {}
        self.holding: frozenset[Value] = frozenset()  # comparisons that hold everywhere in the nest at hand

    # --- registers ---

    def register_type(self, dtype: DType, vector: bool) -> str:
        if not vector:
            return REGISTER[dtype]
        return f"od::mask<{self.loops.lanes}>" if dtype.is_bool else f"od::vec<{REGISTER[dtype]}, {self.loops.lanes}>"

    def define(self, hint: str, dtype: DType, vector: bool, expression: str, level: int) -> Register:
        return Register(self.code.define(hint, self.register_type(dtype, vector), expression, level), dtype, vector, level)

    def as_vector(self, register: Register) -> Register:
        """The register in all lanes."""
        if register.vector:
            return register
        key = ("vector", register.text, register.dtype, register.lane_step, self.loops.lanes)
        known = self.code.recall(key)
        if known is not None:
            return known
        if register.dtype.is_bool:
            text = f"od::splat<od::i32, {self.loops.lanes}>(-od::i32({register.text}))"
        else:
            text = f"od::splat<{REGISTER[register.dtype]}, {self.loops.lanes}>({register.text})"
        if register.lane_step:
            text = f"{text} + od::iota<od::i64, {self.loops.lanes}>() * od::i64({register.lane_step})"
        return self.code.remember(key, self.define("all", register.dtype, True, text, register.level))

    def _level(self, at: Coordinates) -> int:
        return max((self.loops.level[v] for c in at for v in c.variables), default=0)

    def index_text(self, index: Index, without: frozenset[LoopVariable] = frozenset()) -> str:
        parts = [v.name if c == 1 else f"{c} * {v.name}" for v, c in index.terms if v not in without]
        if index.constant or not parts:
            parts.append(str(index.constant))
        return " + ".join(parts)

    # --- values ---

    def scalar_text(self, value: Value) -> str:
        """An index's text, also where a constant has not been reached yet."""
        known = constant(self.facts, value)
        return f"od::i64({known})" if known is not None else self.scalars[value].text

    def evaluate(self, value: Value, at: Coordinates) -> Register:
        """The value's element (or vector of elements along the lane loop) at `at`."""
        if isinstance(value.type, ScalarType):
            return self.scalars[value]
        if value in self.holding:
            return Register("true", bool_, False, self.code.level)
        key = (value, at)
        known = self.code.recall(key)
        if known is not None:
            return known
        if value in self.stored:
            result = self.load_local(value, at)
        else:
            op = self.facts.op(value)
            assert op is not None, f"{value} has no place"
            result = self._compute(op, value, at)
        return self.code.remember(key, result)

    def _compute(self, op: Op, value: Value, at: Coordinates) -> Register:
        if op.name == "copy_in":
            return self._load(op, value, at)
        if op.name == "arange":
            return self._arange(at[0])
        inside = operand_coordinates(op, at)
        operands = [self.evaluate(o, c) for o, c in zip(op.operands, inside, strict=True)]
        if OPS[op.name].category == "shape":
            return operands[0]
        return self.apply(op, operands, value.name)

    def apply(self, op: Op, operands: list[Register], hint: str = "") -> Register:
        """An elementwise op on registers."""
        name, dtype = op.name, op.result.type.dtype
        affine = self._affine(op, operands)
        if affine is not None:
            return affine
        if self.holding:
            known = self._with_what_holds(name, operands)
            if known is not None:
                return known
        vector = any(o.vector or o.lane_step for o in operands)
        level = max((o.level for o in operands), default=0)
        if vector:
            operands = [self.as_vector(o) for o in operands]
        texts = [o.text for o in operands]
        hint = hint or name
        if name == "cast":
            source = operands[0].dtype
            if REGISTER[source] == REGISTER[dtype] and arithmetic.cast(texts[0], source, dtype, vector) == texts[0]:
                return Register(texts[0], dtype, vector, level)
            return self.define(hint, dtype, vector, arithmetic.cast(texts[0], source, dtype, vector), level)
        if name == "random_bits":
            return self._random(op, operands, level, vector)
        if name == "div" and vector and operands[1].level < level:
            return self._divide(dtype, operands, level, hint)
        if name == "exp" and vector and never_positive(self.facts, op.operands[0]):
            name = "exp_nonpositive"
        kind = operands[-1].dtype
        return self.define(hint, dtype, vector, arithmetic.elementwise(name, texts, kind, vector), level)

    def _with_what_holds(self, name: str, operands: list[Register]) -> Register | None:
        """The result where an operand is known to be true. It stays inside the nest where that is so."""
        truths = [o.text == "true" for o in operands]
        chosen = None
        if name == "and" and any(truths):
            chosen = operands[1 if truths[0] else 0]
        elif name == "or" and any(truths):
            chosen = operands[0 if truths[0] else 1]
        elif name == "select" and truths[0]:
            chosen = operands[1]
        return None if chosen is None else replace(chosen, level=self.code.level)

    def _divide(self, dtype: DType, operands: list[Register], level: int, hint: str) -> Register:
        """Division by what does not change in the loop: a multiplication and a correction; see invariant_divide."""
        key = ("reciprocal", operands[1].text)
        reciprocal = self.code.recall(key)
        if reciprocal is None:
            text = f"od::invariant_inverse({operands[1].text})"
            reciprocal = self.code.remember(key, self.define("inverse", dtype, True, text, operands[1].level))
        text = f"od::invariant_divide({operands[0].text}, {operands[1].text}, {reciprocal.text})"
        return self.define(hint, dtype, True, arithmetic.wrapped(text, dtype), level)

    def _random(self, op: Op, operands: list[Register], level: int, vector: bool) -> Register:
        seed = operands[0].text if not vector else self.scalars[op.operands[0]].text
        lanes = self.loops.lanes if vector else 0
        text = f"od::random_word<{lanes}>({seed}, {operands[1].text}, {op.attributes['word']})"
        return self.define("random", op.result.type.dtype, vector, text, level)

    # --- index arithmetic along the lanes ---

    def _arange(self, index: Index) -> Register:
        level = self._level((index,))
        step = index.coefficient(self.loops.lane)
        text = self.index_text(index)
        if index.terms and (len(index.terms) > 1 or index.constant or index.terms[0][1] != 1):
            text = self.code.define("at", "od::i64", text, level)
        return Register(text if index.terms else f"od::i64({text})", i64, False, level, step)

    def _affine(self, op: Op, operands: list[Register]) -> Register | None:
        """i64 sums and comparisons of base + step * lane without making vectors of them; None where that fails."""
        if not any(o.lane_step for o in operands) or any(o.vector or o.dtype != i64 for o in operands):
            return None
        level = max(o.level for o in operands)
        if op.name in ("add", "sub"):
            sign = 1 if op.name == "add" else -1
            a, b = operands
            text = self.code.define(op.name, "od::i64", f"{a.text} {'+' if sign > 0 else '-'} {b.text}", level)
            return Register(text, i64, False, level, a.lane_step + sign * b.lane_step)
        if op.name in ("lt", "le", "gt", "ge"):
            a, b = operands
            step = a.lane_step - b.lane_step
            if step not in (1, -1):
                return None
            # base + step * lane < 0, or its negation, or the same with <= (one more to compare with).
            negated = op.name in ("gt", "ge")
            bound = f"{b.text} - {a.text}" if step == 1 else f"{a.text} - {b.text}"
            # step 1: lane < b - a, or lane < b - a + 1; step -1: a - b < lane, that is not lane < a - b + 1.
            inclusive = op.name in ("le", "gt")
            if step == 1:
                text = f"od::first_lanes<{self.loops.lanes}>({bound}{' + 1' if inclusive else ''})"
            else:
                text = f"od::first_lanes<{self.loops.lanes}>({bound}{'' if inclusive else ' + 1'})"
                negated = not negated
            return self.define(op.name, bool_, True, f"~{text}" if negated else text, level)
        return None

    # --- local memory ---

    def local_address(self, stored: Stored, at: Coordinates) -> tuple[str, int]:
        """Text of the element's address, and its stride along the lanes."""
        buffer, lane = stored.buffer, self.loops.lane
        parts: list[str] = []
        lane_stride = 0
        for dim, index in enumerate(at):
            stride = buffer.strides[dim]
            lane_stride += index.coefficient(lane) * stride
            if dim in stored.held or (buffer.shape[dim] == 1 and not index.terms):
                continue
            text = self.index_text(index)
            if text != "0":
                parts.append(text if stride == 1 else f"({text}) * {stride}")
        return " + ".join([buffer.name, *parts]), lane_stride

    def load_local(self, value: Value, at: Coordinates) -> Register:
        stored = self.stored[value]
        address, lane_stride = self.local_address(stored, at)
        # Not further out than the nest: the memory is written by the nests before it.
        level = max(self._level(at), self.nest_level)
        dtype = value.type.dtype
        if lane_stride == 0:
            text = f"od::load1({address})" if dtype.is_bool else f"*({address})"
            return self.define(value.name or "t", dtype, False, f"bool({text})" if dtype.is_bool else text, level)
        lanes = self.loops.lanes
        if lane_stride == 1:
            text = f"od::load<{lanes}>({address})"
        elif self.loops.limit is None:
            text = f"od::load_strided<{lanes}>({address}, {lane_stride})"
        else:
            pad = "0"
            text = f"od::load_strided_range<{lanes}>({address}, {lane_stride}, 0, {self.loops.limit}, {pad})"
        return self.define(value.name or "t", dtype, True, text, level)

    def store_local(self, stored: Stored, at: Coordinates, register: Register) -> None:
        address, lane_stride = self.local_address(stored, at)
        self._store(address, str(lane_stride), register, None, "0", self.loops.limit)

    # --- tensors ---

    def clip(self, op: Op, dim: int) -> Clip | None:
        """The bounds of a slice of one dim; None where it lies inside for certain."""
        tensor = self.tensors[tensor_of(op)]
        spec, start = tensor_index(op)[dim]
        assert isinstance(spec, Slice)
        size = tensor.keys[dim]
        last = (spec.length - 1) * spec.step
        if last >= 0 and is_nonnegative(self.facts, start) and ends_below(self.facts, start, last + 1, size):
            return None
        register = self.scalars[start]
        key = (register.text, spec.length, spec.step, size)
        known = self.code.recall(("clip", key))
        if known is None:
            size_text = tensor.sizes[dim]
            low = f"od::slice_low({register.text}, {spec.step}, {spec.length})"
            high = f"od::slice_high({register.text}, {spec.step}, {spec.length}, {size_text})"
            inside = spec.step > 0 and is_nonnegative(self.facts, start)
            low = "0" if inside else self.code.define("low", "od::i64", low, register.level)
            high = self.code.define("high", "od::i64", high, register.level)
            known = self.code.remember(("clip", key), Register(f"{low},{high}", i64, False, register.level))
        low, high = known.text.split(",")
        return Clip(key, low, high)

    def access(self, op: Op, at: Coordinates) -> Access:
        """Where an access goes at `at`, and what of it lies inside the tensor."""
        tensor = self.tensors[tensor_of(op)]
        lane = self.loops.lane
        element = STORAGE[tensor.dtype]
        pointer = Register(tensor.pointer, i64, False, 0)
        parts_by_level: dict[int, list[str]] = {}
        conditions: list[tuple[str, int]] = []
        ranges: list[tuple[str, str]] = []  # lane bounds
        stride_terms: list[str] = []
        vector_offset: Register | None = None
        vector_inside: Register | None = None
        places = access_coordinates(op, at)
        for dim, ((spec, operand), (place, inside)) in enumerate(zip(tensor_index(op), places, strict=True)):
            size, stride = tensor.sizes[dim], tensor.strides[dim]
            if isinstance(spec, Slice):
                assert place is not None
                start = self.scalars[operand]
                if constant(self.facts, operand) != 0:
                    parts_by_level.setdefault(start.level, []).append(f"{start.text} * {stride}")
                step = f"{spec.step} * {stride}" if spec.step != 1 else stride
                for variable, factor in place.terms:
                    text = f"{variable.name} * ({step})" if factor == 1 else f"{variable.name} * ({factor} * {step})"
                    parts_by_level.setdefault(self.loops.level[variable], []).append(text)
                    if variable is lane:
                        stride_terms.append(step if factor == 1 else f"{factor} * {step}")
                if place.constant:
                    parts_by_level.setdefault(0, []).append(f"{place.constant} * ({step})")
                clip = self.clip(op, dim)
                if clip is not None:
                    self._bound(clip, place, ranges, conditions)
            elif isinstance(spec, Point):
                index = self.scalars[operand]
                parts_by_level.setdefault(index.level, []).append(f"{index.text} * {stride}")
                if not (is_nonnegative(self.facts, operand) and ends_below(self.facts, operand, 1, tensor.keys[dim])):
                    conditions.append((f"od::inside({index.text}, {size})", index.level))
            else:
                assert isinstance(spec, Gather)
                index = self.evaluate(operand, inside)
                if index.vector or index.lane_step:
                    index = self.as_vector(index)
                    all_stride = self.as_vector(Register(stride, i64, False, 0))
                    offset = f"{index.text} * {all_stride.text}"
                    if vector_offset is not None:
                        offset = f"{vector_offset.text} + {offset}"
                    level = max(index.level, vector_offset.level if vector_offset else 0)
                    vector_offset = self.define("offset", i64, True, offset, level)
                    ok, level = f"od::inside_lanes({index.text}, od::i64({size}))", index.level
                    if vector_inside is not None:
                        ok, level = f"{vector_inside.text} & {ok}", max(level, vector_inside.level)
                    vector_inside = self.define("ok", bool_, True, ok, level)
                else:
                    parts_by_level.setdefault(index.level, []).append(f"{index.text} * {stride}")
                    conditions.append((f"od::inside({index.text}, {size})", index.level))
        for level in sorted(parts_by_level):
            text = " + ".join([pointer.text, *parts_by_level[level]])
            key = ("pointer", text)
            known = self.code.recall(key)
            if known is None:
                name = self.code.define("p", f"{element}*", text, level)
                known = self.code.remember(key, Register(name, i64, False, level))
            pointer = known
        level = max([pointer.level, self._level(at), *(c[1] for c in conditions)])
        if vector_offset is not None:
            level = max(level, vector_offset.level)
        condition = self._all_of(conditions)
        stride_text = " + ".join(stride_terms) if stride_terms else "0"
        return Access(tensor, pointer.text, stride_text, condition, ranges, vector_offset, vector_inside, level)

    def _all_of(self, conditions: list[tuple[str, int]]) -> str | None:
        if not conditions:
            return None
        key = ("all", tuple(sorted({text for text, _ in conditions})))
        known = self.code.recall(key)
        if known is None:
            level = max(level for _, level in conditions)
            name = self.code.define("ok", "bool", " && ".join(key[1]), level)
            known = self.code.remember(key, Register(name, bool_, False, level))
        return known.text

    def _bound(
        self, clip: Clip, place: Index, ranges: list[tuple[str, str]], conditions: list[tuple[str, int]]
    ) -> None:
        lane = self.loops.lane
        factor = place.coefficient(lane)
        if factor == 0:
            inside = {variable for key, variable in self.loops.inside if key == clip.key}
            if any(place.is_variable(variable) for variable in inside):
                return
            text = self.index_text(place)
            clip_level = self.code.recall(("clip", clip.key))
            level = max(self._level((place,)), clip_level.level if clip_level else 0)
            conditions.append((f"({text}) >= {clip.low} && ({text}) < {clip.high}", level))
            return
        assert lane is not None
        if place.is_variable(lane) and (clip.key, lane) in self.loops.inside:
            return
        low, high = clip.low, clip.high
        rest = Index(tuple((v, c) for v, c in place.terms if v is not lane), place.constant)
        if factor != 1 or rest != Index():
            text = self.index_text(rest)
            low, high = self._lane_bounds(factor, text, low, high)
            level = self._level((rest,))
            clip_register = self.code.recall(("clip", clip.key))
            level = max(level, clip_register.level if clip_register else 0)
            low = self.code.define("low", "od::i64", low, level)
            high = self.code.define("high", "od::i64", high, level)
        if self.loops.limit is None:
            self.loops.met.append(Clip((*clip.key, factor, str(rest)), low, high))
        else:
            ranges.append((low, high))

    @staticmethod
    def _lane_bounds(factor: int, rest: str, low: str, high: str) -> tuple[str, str]:
        """The lanes with factor * lane + rest in [low, high)."""
        if factor > 0:
            return f"od::ceil_div({low} - ({rest}), {factor})", f"od::ceil_div({high} - ({rest}), {factor})"
        return f"od::ceil_div({rest} - {high} + 1, {-factor})", f"od::ceil_div({rest} - {low} + 1, {-factor})"

    def lane_range(self, access: Access) -> tuple[str, str]:
        """First and one past the last lane that an access touches, in the checked part of a lane loop."""
        lane, limit = self.loops.lane, self.loops.limit
        assert lane is not None and limit is not None
        low, high = "0", limit
        for start, stop in access.ranges:
            if start != "0":
                low = f"od::larger({low}, {start} - {lane.name})" if low != "0" else f"{start} - {lane.name}"
            high = f"od::smaller({high}, {stop} - {lane.name})"
        if access.condition is not None:
            high = f"({access.condition} ? {high} : 0)"
        return low, high

    def _load(self, op: Op, value: Value, at: Coordinates) -> Register:
        access = self.access(op, at)
        dtype = access.tensor.dtype
        # Not further out than the nest, if the nests before may write there.
        level = max(access.level, self.nest_level) if self.facts.may_change(tensor_of(op)) else access.level
        pad = self.scalars[op.operands[-1]].text
        lanes = self.loops.lanes
        hint = value.name or "t"
        if access.vector_offset is not None:
            assert access.vector_inside is not None
            ok = access.vector_inside.text
            if self.loops.limit is not None:
                low, high = self.lane_range(access)
                ok = f"{ok} & od::range_mask<{lanes}>({low}, {high})"
            elif access.condition is not None:
                ok = f"{ok} & od::splat<od::i32, {lanes}>(-od::i32({access.condition}))"
            offset = access.vector_offset.text
            if access.stride != "0":
                offset = f"{offset} + od::iota<od::i64, {lanes}>() * od::i64({access.stride})"
            text = f"od::gather<{lanes}>({access.pointer}, {offset}, {ok}, {pad})"
            return self.define(hint, dtype, True, text, level)
        if access.stride == "0":
            text = f"od::load1({access.pointer})"
            if dtype.is_bool:
                text = f"bool({text})"
            if access.condition is not None:
                text = f"{access.condition} ? {text} : {pad}"
            return self.define(hint, dtype, False, text, level)
        unit = access.stride == "1"
        if unit:
            self._fetch_next_row(op, at, access, level)
            if self.loops.limit is None and op not in self.read_again and self.facts.has_known_place(op):
                self.code.line(f"od::prefetch_ahead({access.pointer});", level)
        if self.loops.limit is None:
            text = (
                f"od::load<{lanes}>({access.pointer})"
                if unit
                else f"od::load_strided<{lanes}>({access.pointer}, {access.stride})"
            )
            if access.condition is not None:
                otherwise = self.as_vector(Register(pad, dtype, False, 0)).text
                text = f"{access.condition} ? {text} : {otherwise}"
            return self.define(hint, dtype, True, text, level)
        low, high = self.lane_range(access)
        if unit:
            text = f"od::load_range<{lanes}>({access.pointer}, {low}, {high}, {pad})"
        else:
            text = f"od::load_strided_range<{lanes}>({access.pointer}, {access.stride}, {low}, {high}, {pad})"
        return self.define(hint, dtype, True, text, level)

    def _fetch_next_row(self, op: Op, at: Coordinates, access: Access, level: int) -> None:
        """Rows that are read several times are computed on from cache while memory is idle: the second reading of a row
        asks for the next one."""
        lane = self.loops.lane
        rows = [
            (self.loops.level[variable], dim)
            for dim, (place, _) in enumerate(access_coordinates(op, at))
            for variable in (place.variables if place is not None else ())
            if variable is not lane and self.loops.level[variable] < level and place == Index.of(variable)
        ]
        # A row alone in its tile: the next one is that of the next task.
        tasks = [
            (-1, dim)
            for dim, (spec, start) in enumerate(tensor_index(op))
            if (isinstance(spec, Point) or (isinstance(spec, Slice) and spec.length == 1))
            and (bounds := loop_bounds(self.facts, start)) is not None
            and constant(self.facts, bounds[2]) == 1
        ]
        if not (rows or tasks) or self.loops.limit is not None:
            return
        place = rows[-1][0] if rows else -1
        first = self.first_readings.setdefault((op, place), lane)
        if first is lane or self.second_readings.setdefault((op, place), lane) is not lane:
            return
        _, dim = max(rows or tasks)
        spec, _ = tensor_index(op)[dim]
        step = spec.step if isinstance(spec, Slice) else 1
        self.code.line(f"od::prefetch_far({access.pointer} + {step} * {access.tensor.strides[dim]});", level)

    def store_tensor(self, op: Op, at: Coordinates, register: Register, ordered: bool) -> None:
        """One element or vector of a copy_out. `ordered`: nobody else writes at the same time, no atomics needed."""
        access = self.access(op, at)
        mode = op.attributes["mode"]
        if access.stride == "0" and any(place.coefficient(self.loops.lane) for place in at):
            self._scatter(access, mode, self.as_vector(register), ordered)  # all lanes, to one place
        elif access.vector_offset is None and mode == "set":
            low, high = (
                self.lane_range(access) if self.loops.limit is not None and access.stride != "0" else ("0", None)
            )
            condition = access.condition if high is None else None
            self._store(access.pointer, access.stride, register, condition, low, high, access.tensor.streams)
        else:
            self._scatter(access, mode, register, ordered)

    def _scatter(self, access: Access, mode: str, register: Register, ordered: bool) -> None:
        lanes = self.loops.lanes
        code = self.code
        if register.dtype.is_bool:
            mode = {"max": "min", "min": "max"}.get(mode, mode)  # true is -1 in a register
        if access.vector_offset is None and not register.vector and access.stride == "0":
            value = f"-od::i32({register.text})" if register.dtype.is_bool else register.text
            update = f"od::{'plain' if ordered else 'atomic'}_{mode}({access.pointer}, {value});"
            code.line(f"if ({access.condition}) {update}" if access.condition else update)
            return
        register = self.as_vector(register)
        ok = access.vector_inside.text if access.vector_inside is not None else f"od::splat<od::i32, {lanes}>(-1)"
        if self.loops.limit is not None:
            low, high = self.lane_range(access)
            ok = f"{ok} & od::range_mask<{lanes}>({low}, {high})"
        elif access.condition is not None:
            ok = f"{ok} & od::splat<od::i32, {lanes}>(-od::i32({access.condition}))"
        if access.vector_offset is None and access.stride == "1" and ordered and mode != "set":
            # Neighbours in memory, nobody else writing: read, combine, write back.
            element = STORAGE[access.tensor.dtype]
            code.line(f"od::update_{mode}<{lanes}, {element}>({access.pointer}, {register.text}, {ok});")
            return
        offset = access.vector_offset.text if access.vector_offset is not None else f"od::splat<od::i64, {lanes}>(0)"
        if access.stride != "0":
            offset = f"{offset} + od::iota<od::i64, {lanes}>() * od::i64({access.stride})"
        name = "scatter" if mode == "set" else f"scatter_{mode}"
        code.line(f"od::{name}<{lanes}>({access.pointer}, {offset}, {register.text}, {ok});")

    def _store(
        self,
        address: str,
        stride: str,
        register: Register,
        condition: str | None,
        low: str,
        high: str | None,
        streams: str | None = None,
    ) -> None:
        if stride == "0":
            value = f"-od::i32({register.text})" if register.dtype.is_bool else register.text
            text = f"od::store1({address}, {value});"
        else:
            value, lanes = self.as_vector(register).text, self.loops.lanes
            unit = stride == "1"
            if high is None and unit and streams is not None:
                call = f"store_past<{lanes}>({address}, {value}, {streams})"
            elif high is None:
                call = (
                    f"store<{lanes}>({address}, {value})"
                    if unit
                    else f"store_strided<{lanes}>({address}, {value}, {stride})"
                )
            elif unit:
                call = f"store_range<{lanes}>({address}, {value}, {low}, {high})"
            else:
                call = f"store_strided_range<{lanes}>({address}, {value}, {stride}, {low}, {high})"
            text = f"od::{call};"
        self.code.line(f"if ({condition}) {text}" if condition else text)


@dataclass(frozen=True)
class Access:
    """One access at given coordinates: address, stride along the lanes, and the conditions on being inside."""

    tensor: TensorText
    pointer: str
    stride: str
    condition: str | None
    ranges: list[tuple[str, str]]
    vector_offset: Register | None
    vector_inside: Register | None
    level: int


def tensor_text(
    name: str, type: TensorType, unit_axis: int | None, array: str, streams: bool = False
) -> tuple[TensorText, list[str]]:
    """The texts of a tensor parameter, and the lines that define them from the argument array. With `streams`, stores to
    it may go past the caches, and do where it is large."""
    element = STORAGE[type.dtype]
    lines = [f"{element}* const {name} = static_cast<{element}*>({array}.data);"]
    sizes, strides = [], []
    for axis, dim in enumerate(type.dims):
        if isinstance(dim, int):
            sizes.append(str(dim))
        else:
            lines.append(f"const od::i64 {name}_n{axis} = {array}.shape[{axis}];")
            sizes.append(f"{name}_n{axis}")
        if axis == unit_axis:
            strides.append("1")
        else:
            lines.append(f"const od::i64 {name}_s{axis} = {array}.strides[{axis}];")
            strides.append(f"{name}_s{axis}")
    flag = f"{name}_streams" if streams and sizes else None
    if flag is not None:
        lines.append(f"const bool {flag} = od::is_huge({type.dtype.bytes} * {' * '.join(sizes)});")
    return TensorText(name, tuple(sizes), tuple(strides), type.dtype, type.dims, flag), lines


__all__ = ["Access", "Clip", "Expressions", "Loops", "Stored", "TensorText", "TileType", "tensor_text"]
