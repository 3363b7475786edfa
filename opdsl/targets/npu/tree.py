"""What lowering makes of a kernel: a tree of instructions on pipes, which buffers they touch, and loops around them.

One tree holds the work of all cores of a block: each instruction says on which core it runs ("cube", "vector", or
"both" for what the scalar units of both do alike). `placement.py` gives the buffers addresses, `synchronise.py` adds
flags and barriers, `emit.py` writes the tree as a program of `opdsl.npu`, one for each kind of core.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from opdsl.npu.statements import Operand
from opdsl.support.location import UNKNOWN, Location


@dataclass(eq=False)
class Buffer:
    """A piece of local memory, or of the workspace in global memory (`space` "WS").

    `slots` above 1 make it rotate: an iteration of the loop `rotates` uses slot `iteration % slots`, so that a copy
    into one slot may overlap the use of another. `bytes` are those of one slot.
    """

    name: str
    space: str
    bytes: int
    location: Location = UNKNOWN
    shape: tuple[int, ...] = ()
    dtype: str = ""
    slots: int = 1
    rotates: Loop | None = None
    address: int = -1
    made_in: tuple[Loop | While, ...] = ()  # the loops around the place where it was made, outermost first

    @property
    def size(self) -> int:
        return self.bytes * self.slots

    def __str__(self) -> str:
        return f"{self.name}"


@dataclass(frozen=True)
class Access:
    """Bytes [first, last) of one slot of a buffer, or a whole tensor (`memory` is its name).

    Accesses of one pipe with the same `group` are pieces of one transfer: they touch different bytes, whatever their
    intervals say, or come in order by themselves. `region`: of a tensor, for each axis the first place and how many
    from there on; empty where that is not known.
    """

    memory: Buffer | str
    write: bool
    first: int = 0
    last: int = 1 << 60
    group: int = 0
    sums: bool = False  # of the cube, which adds to one place of L0C in order: next time, too
    region: tuple[tuple[Operand, int], ...] = ()


@dataclass(eq=False)
class Node:
    location: Location = field(default=UNKNOWN, kw_only=True)


@dataclass(eq=False)
class Instruction(Node):
    """An instruction of the table opdsl/npu/instructions.py; its addresses are places in buffers that have none yet."""

    core: str
    pipe: str
    name: str
    operands: dict[str, Any]
    result: Any = None
    accesses: tuple[Access, ...] = ()


@dataclass(eq=False)
class Block:
    nodes: list[Node] = field(default_factory=list)


@dataclass(eq=False)
class Loop(Node):
    """`for register in range(start, stop, step)`. `slot` counts iterations modulo `slots` where buffers rotate; loops that
    are not in one another may share it, so that the slots of the next one go on where those of the one before ended."""

    register: Any
    start: Any
    stop: Any
    step: Any
    body: Block = field(default_factory=Block)
    slots: int = 1
    slot: Any = None
    independent: bool = False  # iterations of `parallel`: what they do to tensors does not concern each other
    cores: str = "both"
    internal: bool = False  # the pieces of one transfer or operation


@dataclass(eq=False)
class Branch(Node):
    condition: Any
    then: Block = field(default_factory=Block)
    otherwise: Block = field(default_factory=Block)
    certain: bool = False  # which core of a block this is decides: for all that is inside, it was taken


@dataclass(eq=False)
class While(Node):
    """Runs `body` as long as a register, which the body sets anew at its end, is not 0."""

    condition: Any
    body: Block = field(default_factory=Block)
    slots: ClassVar[int] = 1
    slot: ClassVar[None] = None
    independent: ClassVar[bool] = False
    internal: ClassVar[bool] = False


@dataclass(eq=False)
class Flag(Node):
    """A set or a wait of an event between two pipes; across cores, of a semaphore."""

    set: bool
    source: tuple[str, str]  # (core, pipe)
    target: tuple[str, str]
    dependence: Any  # the synchronise.Dependence it belongs to
    slot: int | None = None  # which of a rotating dependence's events: None takes that of the loop's slot


@dataclass(eq=False)
class Barrier(Node):
    """What follows on the pipe waits for all that came before; pipe "ALL": all pipes, and the scalar unit waits."""

    core: str
    pipe: str
    dependence: Any = None


def blocks_of(node: Node) -> tuple[Block, ...]:
    if isinstance(node, Loop):
        return (node.body,)
    if isinstance(node, Branch):
        return (node.then, node.otherwise)
    if isinstance(node, While):
        return (node.body,)
    return ()


def instructions(block: Block) -> Iterator[Instruction]:
    for node in block.nodes:
        if isinstance(node, Instruction):
            yield node
        for inner in blocks_of(node):
            yield from instructions(inner)


def nodes_of(block: Block) -> Iterator[Node]:
    """All nodes, those within others, too."""
    for node in block.nodes:
        yield node
        for inner in blocks_of(node):
            yield from nodes_of(inner)


def blocks_in(block: Block) -> Iterator[Block]:
    """The block itself and all within it."""
    yield block
    for node in block.nodes:
        for inner in blocks_of(node):
            yield from blocks_in(inner)


def empty_dead_ways(block: Block) -> None:
    """Empties the ways of branches that are never gone, so that nothing has to wait for what is in them."""
    for node in block.nodes:
        if isinstance(node, Branch) and isinstance(node.condition, int):
            (node.otherwise if node.condition else node.then).nodes.clear()
        for inner in blocks_of(node):
            empty_dead_ways(inner)


@dataclass(eq=False)
class Scalar(Node):
    """A computation of the scalar units; each core keeps those whose results it needs."""

    compute: Any  # opdsl.npu.program.Compute
