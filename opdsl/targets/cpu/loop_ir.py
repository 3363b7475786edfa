"""The loop IR: what a straight run of tile ops becomes - roots, the loops that they share, and local buffers.

A *root* is a tile op that needs loops of its own: it stores to a tensor, reduces, or its value is kept in memory. All
other tile ops are evaluated inside the loops of the roots that use them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from opdsl.ir.core import Op, Value
from opdsl.ir.types import DType


@dataclass(frozen=True, eq=False)
class LoopVariable:
    """One loop of a nest. `name` is its C++ variable."""

    name: str
    extent: int


@dataclass(frozen=True)
class Index:
    """An affine function of loop variables: a coordinate in a tile."""

    terms: tuple[tuple[LoopVariable, int], ...] = ()
    constant: int = 0

    def scaled(self, factor: int) -> Index:
        return Index(tuple((v, c * factor) for v, c in self.terms), self.constant * factor)

    def shifted(self, amount: int) -> Index:
        return Index(self.terms, self.constant + amount)

    @property
    def variables(self) -> tuple[LoopVariable, ...]:
        return tuple(v for v, _ in self.terms)

    def coefficient(self, variable: LoopVariable | None) -> int:
        return sum(c for v, c in self.terms if v is variable)

    def is_variable(self, variable: LoopVariable) -> bool:
        return self.constant == 0 and self.terms == ((variable, 1),)

    @staticmethod
    def of(variable: LoopVariable) -> Index:
        return Index(((variable, 1),))


ZERO = Index()
Coordinates = tuple[Index, ...]


@dataclass(eq=False)
class Buffer:
    """Local memory of one tile. `shape` may be smaller than the tile's: a dim that the loops around make constant has 1.

    `order` lists the dims from outermost to innermost in memory; `strides` are in elements, for each dim.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    order: tuple[int, ...]
    strides: tuple[int, ...]
    elements: int

    @property
    def innermost(self) -> int | None:
        return self.order[-1] if self.order else None


def round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def row_major_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a tile without padding between its rows."""
    strides, step = [0] * len(shape), 1
    for dim in reversed(range(len(shape))):
        strides[dim] = step
        step *= shape[dim]
    return tuple(strides)


PADDING = 64  # bytes: rows end on a vector's boundary, so that whole vectors may be stored


def make_buffer(
    name: str, dtype: DType, element_bytes: int, shape: tuple[int, ...], order: tuple[int, ...] | None = None
) -> Buffer:
    """A buffer whose innermost rows are padded to whole vectors."""
    order = tuple(range(len(shape))) if order is None else order
    # Dims of one element go outside: the innermost dim is one that has neighbours.
    order = tuple(sorted(order, key=lambda dim: shape[dim] > 1))
    strides = [0] * len(shape)
    step = 1
    lanes = max(1, PADDING // element_bytes)
    for place, dim in enumerate(reversed(order)):
        strides[dim] = step
        extent = shape[dim]
        step *= round_up(extent, lanes) if place == 0 else extent
        # Rows a multiple of 4 KiB apart fall into one set of the first-level cache: move them by one vector.
        if place == 0 and len(order) > 1 and step * element_bytes % 2048 == 0:
            step += lanes
    return Buffer(name, dtype, shape, order, tuple(strides), max(step, lanes))


@dataclass(eq=False)
class Root:
    """One root. `space` is its iteration space; `loops` the dims of it that loop, parallel ones first."""

    kind: str  # "tile", "copy_out", "reduce", "arg_reduce", "scan", "reduce_custom", "scan_custom"
    op: Op
    values: tuple[Value, ...]  # what it defines: none for copy_out
    space: tuple[int, ...]
    reduced: tuple[int, ...] = ()
    source: Value | None = None  # "tile": the value to evaluate; may be a yielded value of another name
    loops: list[int] = field(default_factory=list)
    variables: dict[int, LoopVariable] = field(default_factory=dict)
    lane: int | None = None  # the dim along which memory is contiguous, where that is known
    target: Buffer | None = None  # where the value must go, chosen already
    external: bool = False  # its value is needed beyond the run of ops: it must be stored

    def __post_init__(self) -> None:
        parallel = [d for d, n in enumerate(self.space) if n > 1 and d not in self.reduced]
        self.loops = parallel + [d for d in self.reduced if self.space[d] > 1]

    def extents(self) -> list[int]:
        return [self.space[d] for d in self.loops]

    def coordinates(self) -> Coordinates:
        return tuple(Index.of(self.variables[d]) if d in self.variables else ZERO for d in range(len(self.space)))

    def kept(self) -> list[int]:
        """The dims of the space that are dims of what it defines, in order."""
        return [d for d in range(len(self.space)) if d not in self.reduced or self.kind in ("scan", "scan_custom")]

    def result_coordinates(self) -> Coordinates:
        """The coordinates of what it defines: the iteration's, without the reduced dims."""
        at = self.coordinates()
        return tuple(at[d] for d in self.kept())


@dataclass(eq=False)
class Group:
    """Roots that share the loop at `depth`, in order."""

    depth: int
    roots: list[Root]


@dataclass(eq=False)
class Nest:
    """A loop with what it holds, in order: inner loops, and roots all of whose loops are open."""

    variable: LoopVariable
    depth: int
    roots: list[Root]  # all roots inside
    is_lane: bool
    children: list[Nest | Root]


def walk_nests(children: list[Nest | Root], around: tuple[Nest, ...] = ()) -> Iterator[tuple[Root, tuple[Nest, ...]]]:
    """Every root with the nests around it, outermost first."""
    for child in children:
        if isinstance(child, Nest):
            yield from walk_nests(child.children, (*around, child))
        else:
            yield child, around


def describe(children: list[Nest | Root], indent: str = "") -> Iterator[str]:
    """The nests as readable text."""
    for child in children:
        if isinstance(child, Nest):
            lanes = " lanes" if child.is_lane else ""
            yield f"{indent}for {child.variable.name} in 0..{child.variable.extent}{lanes}:"
            yield from describe(child.children, indent + "  ")
        else:
            names = ", ".join(v.name or "_" for v in child.values)
            where = f" # line {child.op.location.line}" if child.op.location.line else ""
            keep = f" -> {child.target.name}" if child.target is not None else ""
            yield f"{indent}{child.kind} {names}{keep}{where}"
