"""What is known of values in the C++ so far: the registers of scalars, the texts of tensors, the memory of tiles."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

from opdsl.analysis.facts import Facts
from opdsl.analysis.ranges import constant
from opdsl.ir.core import Op, Value
from opdsl.ir.types import DType, bf16
from opdsl.targets.cpu import arithmetic
from opdsl.targets.cpu.code import REGISTER, Code, Register
from opdsl.targets.cpu.loop_ir import Buffer, Coordinates, Index, LoopVariable


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
    level: int


@dataclass
class Loops:
    """The loops of a run that are open: their scopes' levels, the lane loop, and what is known inside them."""

    level: dict[LoopVariable, int] = field(default_factory=dict)
    lane: LoopVariable | None = None
    lanes: int = 1
    limit: str | None = None  # in the checked part of a lane loop: how many lanes count; None: all of them
    inside: set[tuple[tuple[object, ...], LoopVariable]] = field(default_factory=set)  # clips that the loops ensure
    met: dict[tuple[object, ...], tuple[str, str]] = field(default_factory=dict)  # bounds of the fast part of the lanes
    passing: list[tuple[str, str]] = field(default_factory=list)  # stores past the caches: their flags, and rows
    nest_level: int = 0  # of the block that the nest being emitted is
    read_again: Set[Op] = frozenset()  # copy_ins that more than one of the run's loops reads
    holding: frozenset[Value] = frozenset()  # comparisons that hold everywhere in the nest at hand


class Tables:
    """The tables that all parts of the lowering read, and registers made in them."""

    def __init__(self, facts: Facts, code: Code) -> None:
        self.facts = facts
        self.code = code
        self.scalars: dict[Value, Register] = {}
        self.tensors: dict[Value, TensorText] = {}
        self.stored: dict[Value, Stored] = {}
        self.loops = Loops()

    def register_type(self, dtype: DType, vector: bool) -> str:
        if not vector:
            return REGISTER[dtype]
        return f"od::mask<{self.loops.lanes}>" if dtype.is_bool else f"od::vec<{REGISTER[dtype]}, {self.loops.lanes}>"

    def define(self, hint: str, dtype: DType, vector: bool, expression: str, level: int) -> Register:
        type = self.register_type(dtype, vector)
        unrounded = arithmetic.before_rounding(expression) if vector and dtype == bf16 else None
        if unrounded is not None and not unrounded.isidentifier():
            unrounded = self.code.define(hint, type, unrounded, level)
            expression = arithmetic.wrapped(unrounded, dtype)
        name = self.code.define(hint, type, expression, level)
        return Register(name, dtype, vector, level, unrounded=unrounded)

    def as_vector(self, register: Register) -> Register:
        """The register in all lanes."""
        if register.vector:
            return register
        key = ("vector", register.text, register.dtype, register.lane_step, self.loops.lanes)
        known = self.code.recall(key)
        if known is not None:
            return known
        if register.dtype.is_bool:
            text = self.all_lanes(register.text)
        else:
            text = f"od::splat<{REGISTER[register.dtype]}, {self.loops.lanes}>({register.text})"
        if register.lane_step:
            text = self.along_lanes(text, register.lane_step)
        return self.code.remember(key, self.define("all", register.dtype, True, text, register.level))

    def all_lanes(self, condition: str) -> str:
        """A mask that is a condition in every lane."""
        return f"od::splat<od::i32, {self.loops.lanes}>(-od::i32({condition}))"

    def along_lanes(self, start: str, step: str | int) -> str:
        """start + step * lane."""
        return f"{start} + od::iota<od::i64, {self.loops.lanes}>() * od::i64({step})"

    def level(self, at: Coordinates) -> int:
        """Of the innermost loop that coordinates depend on."""
        return max((self.loops.level[v] for c in at for v in c.variables), default=0)

    def index_text(self, index: Index) -> str:
        parts = [v.name if c == 1 else f"{c} * {v.name}" for v, c in index.terms]
        if index.constant or not parts:
            parts.append(str(index.constant))
        return " + ".join(parts)

    def scalar_text(self, value: Value) -> str:
        """An index's text, also where a constant has not been reached yet."""
        known = constant(self.facts, value)
        return f"od::i64({known})" if known is not None else self.scalars[value].text
