"""Values, ops, regions and kernels: the nodes of the tile IR. All are immutable; a pass builds new ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from opdsl.ir.types import Type
from opdsl.support.location import UNKNOWN, Location, Source


@dataclass(frozen=True, eq=False)
class Value:
    """An SSA value, compared by identity. `name` is a hint for printing (the user's variable name, or empty)."""

    type: Type
    name: str = ""


@dataclass(frozen=True)
class Slice:
    """Elements start, start + step, ... of a dim; `length` of them. The start is an operand. Keeps the dim."""

    length: int
    step: int = 1


@dataclass(frozen=True)
class Point:
    """One index, a scalar operand. Drops the dim."""


@dataclass(frozen=True)
class Gather:
    """Indices from an integer tile operand; its shape replaces the dim. All Gathers of one access have equal shapes,
    index together, and are adjacent; their one shape stands at the place of the first."""


IndexSpec = Slice | Point | Gather

NO_ATTRIBUTES: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Region:
    """A list of ops that ends with a `yield`, with block arguments (loop variables, then carried values)."""

    arguments: tuple[Value, ...]
    ops: tuple[Op, ...]

    @property
    def terminator(self) -> Op:
        return self.ops[-1]


@dataclass(frozen=True, eq=False)
class Op:
    name: str
    operands: tuple[Value, ...] = ()
    results: tuple[Value, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=lambda: NO_ATTRIBUTES)
    regions: tuple[Region, ...] = ()
    location: Location = UNKNOWN

    @property
    def result(self) -> Value:
        (value,) = self.results
        return value


@dataclass(frozen=True, eq=False)
class Kernel:
    """A specialised kernel: dtypes known, constexprs gone. `body.arguments` are the parameters, in call order."""

    name: str
    parameter_names: tuple[str, ...]
    body: Region
    source: Source

    @property
    def parameters(self) -> tuple[Value, ...]:
        return self.body.arguments


def walk(region: Region) -> Iterator[Op]:
    """Every op of a region and of the regions inside, outermost first, in order."""
    for op in region.ops:
        yield op
        for inner in op.regions:
            yield from walk(inner)
