"""A place in the generated kernel: where lines go, and which values may be used there."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from opdsl.ir.types import DType, bool_, f32, i64

from .program import Program
from .values import HALVES, Shape, Val, broadcast, od, whole_in

LITERALS = (0.0, 1.0, -1.0, 0.5, 2.0, -3.0, 0.1, 7.0)
WHOLES = (0, 1, 2, 3, 5, 7)


class Scope:
    """`pool` are the values in sight; `indices` the i64 scalars made of loop variables."""

    def __init__(self, program: Program, indent: int = 1) -> None:
        self.program = program
        self.rng: random.Random = program.rng
        self.indent = indent
        self.pool: list[Val] = []
        self.indices: list[str] = []
        self.grid: tuple[list[Any], tuple[Any, ...]] | None = None  # of the parallel loop around: indices, dims

    # --- lines ---------------------------------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        self.program.lines.append("    " * self.indent + text)

    def let(self, value: Val, stem: str = "t") -> Val:
        """A line that names the value."""
        name = self.program.fresh(stem)
        self.line(f"{name} = {value.text}  # {value.type_text}")
        named = value.named(name)
        self.pool.append(named)
        return named

    def inner(self) -> Scope:
        """The scope of a block that begins here."""
        scope = Scope(self.program, self.indent + 1)
        scope.pool, scope.indices, scope.grid = list(self.pool), list(self.indices), self.grid
        return scope

    # --- choices -------------------------------------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def tiles(self, condition: Callable[[Val], bool] = lambda v: True) -> list[Val]:
        return [v for v in self.pool if v.shape and v.exact and condition(v)]

    def any_tile(self, condition: Callable[[Val], bool] = lambda v: True) -> Val | None:
        found = self.tiles(condition)
        if not found:
            return None
        # Later values more often, so that chains grow.
        return found[max(self.rng.randrange(len(found)), self.rng.randrange(len(found)))]

    def partner(self, shape: Shape, limit: int = 4096) -> Val | None:
        """A tile or scalar that broadcasts with the shape."""

        def fits(value: Val) -> bool:
            together = broadcast(shape, value.shape)
            return together is not None and _size(together) <= limit

        found = [v for v in self.pool if v.exact and fits(v)]
        return self.rng.choice(found) if found else None

    def literal(self, dtype: DType) -> Val:
        if dtype.is_float:
            number: float | int = self.rng.choice(LITERALS)
            whole = whole_in(dtype, abs(number)) if number == int(number) else None
            return Val(repr(number), dtype, (), whole)
        number = self.rng.choice(WHOLES)
        if dtype.kind == "int" and self.chance(0.3):
            number = -number
        return Val(repr(number), dtype, (), float(abs(number)))

    # --- types ---------------------------------------------------------------------------------------------------------

    def cast(self, value: Val, dtype: DType) -> Val:
        """The value in a dtype, without a cast whose result is open."""
        if value.dtype == dtype:
            return value
        zero_open = value.zero_open and dtype.is_float
        whole = whole_in(dtype, value.whole)
        text = value.text
        if value.dtype.is_float and dtype.is_integer and whole is None:
            low, high = (0, 100) if dtype.kind == "uint" else (-100, 100)
            if value.dtype.name == "f8e4m3":
                low, high = max(low, -96), 96
            text = f"od.where(od.isnan({text}), 0.0, od.clamp({text}, {low}, {high}))"
            whole = 100.0
        if dtype == bool_:
            whole = 1.0
        if value.whole is not None and dtype.kind == "uint" and value.dtype.kind != "uint":
            whole = None  # negative numbers wrap
            if value.dtype.is_float:
                return Val(f"od.cast(od.abs({text}), {od(dtype)})", dtype, value.shape, whole_in(dtype, value.whole))
        return Val(f"od.cast({text}, {od(dtype)})", dtype, value.shape, whole, zero_open)

    def signed_zeros(self, value: Val) -> Val:
        """The value with all zeros positive, for operations that tell them apart."""
        if not value.zero_open:
            return value
        return replace(value, text=f"od.where({value.text} == 0, 1, {value.text})", zero_open=False)

    def bounded(self, value: Val, low: float, high: float) -> Val:
        """A float in low..high, NaN gone."""
        text = f"od.where(od.isnan({value.text}), 1.0, od.clamp({value.text}, {low}, {high}))"
        return replace(value, text=text, whole=None, zero_open=value.zero_open or low <= 0 <= high)

    def wide_float(self, value: Val) -> Val:
        """The value as f32 or f64."""
        return self.cast(value, f32) if value.dtype in HALVES or not value.dtype.is_float else value

    def scalar_of(self, dtype: DType) -> Val:
        """A scalar that is known at run time only: an argument, or something of a loop variable."""
        if self.indices and dtype.is_integer and self.chance(0.5):
            return self.cast(Val(self.rng.choice(self.indices), i64, ()), dtype)
        if dtype.is_float:
            number = self.rng.choice([1.5, -2.0, 3.25, 0.1])
            if dtype in HALVES:
                number = 1.5
        elif dtype.is_bool:
            return Val(self.program.scalar(dtype, self.chance(0.5)), dtype, (), 1.0)
        else:
            number = self.rng.choice([1, 2, 3, 5, 11])
        known = [n for n, (d, _) in self.program.scalars.items() if d == dtype]
        name = self.rng.choice(known) if known and self.chance(0.7) else self.program.scalar(dtype, number)
        return Val(name, dtype, ())


def _size(shape: Shape) -> int:
    count = 1
    for n in shape:
        count *= n
    return count
