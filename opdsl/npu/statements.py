"""What NPU programs consist of: registers, addresses, instructions, loops and branches (docs/npu.md).

One `Code` for each kind of core. A code is a tree: the scalar unit computes registers, loops and branches, and issues
instructions to the pipes. Nothing is unrolled; the emulator encodes the tree once and every core runs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from opdsl.support.location import UNKNOWN, Location

if TYPE_CHECKING:
    from opdsl.npu.scalars import Scalar

CoreKind = Literal["aic", "aiv", "core"]
"""The cube and the vector cores of a split chip, and the one kind of a coupled chip."""

Pipe = Literal["S", "V", "M", "MTE1", "MTE2", "MTE3", "FIX"]
PIPES: tuple[Pipe, ...] = ("S", "V", "M", "MTE1", "MTE2", "MTE3", "FIX")

BufferName = Literal["L1", "L0A", "L0B", "L0C", "UB", "BT", "FB"]
BUFFERS: tuple[BufferName, ...] = ("L1", "L0A", "L0B", "L0C", "UB", "BT", "FB")


@dataclass(eq=False)
class Register:
    """A scalar register. `dtype` is `i64` or `f64`; a float of any width is held as f64. There is no limit on them."""

    dtype: Literal["i64", "f64"]
    name: str


Operand = Register | int | float


@dataclass(frozen=True, eq=False)
class Tensor:
    """Memory that all cores share: an argument, or a workspace of `bytes` that is not initialised."""

    index: int
    name: str
    dtype: str
    kind: Literal["argument", "workspace"]
    rank: int = 0
    bytes: Operand = 0
    """Of a workspace: its size, a number or one of the program's parameters."""


@dataclass(frozen=True, eq=False)
class GlobalAddress:
    """The element `offset` of a tensor, seen as `dtype`: byte `offset * size of dtype`."""

    tensor: Tensor
    offset: Operand
    dtype: str


@dataclass(frozen=True, eq=False)
class LocalAddress:
    """The byte `address` of a buffer, seen as `dtype`. `name` is what reports call it."""

    buffer: BufferName
    address: Operand
    dtype: str
    name: str = ""


Address = GlobalAddress | LocalAddress


@dataclass(eq=False)
class Compute:
    """`result = name(operands)` on the scalar unit, in `dtype` (opdsl/npu/scalars.py has the table)."""

    name: str
    dtype: str
    result: Register
    operands: tuple[Operand, ...]
    location: Location = UNKNOWN


@dataclass(eq=False)
class Issue:
    """An instruction handed to `pipe`. `operands` has a value for every field of the instruction's entry in the
    table."""

    name: str
    pipe: Pipe
    operands: dict[str, Any]
    location: Location = UNKNOWN
    result: Register | None = None
    """Of `load_scalar` and the few others that write a register."""


@dataclass(eq=False)
class Loop:
    """`for variable in range(start, stop, step)`; the bounds are read once; `step` is not 0."""

    variable: Register
    start: Operand
    stop: Operand
    step: Operand
    body: list[Statement]
    location: Location = UNKNOWN


@dataclass(eq=False)
class While:
    """Runs `header`, then `body` if `condition` is not 0, and again."""

    header: list[Statement]
    condition: Operand
    body: list[Statement]
    location: Location = UNKNOWN


@dataclass(eq=False)
class If:
    condition: Operand
    then: list[Statement]
    otherwise: list[Statement]
    location: Location = UNKNOWN


Statement = Compute | Issue | Loop | While | If


@dataclass(frozen=True, eq=False)
class Parameter:
    """A register that has its value when a core starts.

    kind: `dim` and `stride` (in elements) of axis `axis` of the argument `tensor`; `offset`, the elements before its
    first one; `scalar`, the scalar argument `name`; `block_idx`, `block_num`, `sub_block_idx`, `sub_block_num`.
    """

    register: Register
    kind: Literal["dim", "stride", "scalar", "block_idx", "block_num", "sub_block_idx", "sub_block_num"]
    tensor: Tensor | None = None
    axis: int = 0
    name: str = ""


@dataclass(frozen=True)
class Allocation:
    """A named range of a buffer, for reports: its bytes and the line that asked for it."""

    core: CoreKind
    buffer: BufferName
    address: int
    bytes: int
    name: str
    location: Location = UNKNOWN


@dataclass(eq=False)
class Code:
    kind: CoreKind
    body: list[Statement] = field(default_factory=list)


def walk(body: list[Statement]) -> Iterator[Statement]:
    """Every statement of a tree, outermost first, in order."""
    for statement in body:
        yield statement
        if isinstance(statement, Loop):
            yield from walk(statement.body)
        elif isinstance(statement, While):
            yield from walk(statement.header)
            yield from walk(statement.body)
        elif isinstance(statement, If):
            yield from walk(statement.then)
            yield from walk(statement.otherwise)


def register_of(value: Scalar | Operand) -> Operand:
    """The operand behind a `Scalar` handle, or the number itself."""
    return value if isinstance(value, (Register, int, float)) else value.operand
