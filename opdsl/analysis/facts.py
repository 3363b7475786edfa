"""What the planner needs to know of a whole kernel: definitions, users, depths, what is written, what is costly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from opdsl.ir.core import Gather, Kernel, Op, Point, Region, Slice, Value
from opdsl.ir.functions import FUNCTIONS
from opdsl.ir.types import TensorType, TileType, shape_of

# Tile ops that are evaluated inside the loops of their users.
INLINE_SHAPE_OPS = frozenset({"broadcast", "transpose", "extract", "arange"})
ROOT_OPS = frozenset({"reduce", "reduce_custom", "arg_reduce", "scan", "scan_custom", "dot", "sort", "concat"})
CONTROL_OPS = frozenset({"parallel", "for", "while", "if"})

# Cycles for each vector, roughly; what is above CHEAP is not computed twice.
COSTS = {
    **{row.name: row.cycles for row in FUNCTIONS.values()},
    "ipow": 20,
    **dict.fromkeys(("div", "floordiv", "mod"), 8),
    "random_bits": 40,
    "cast": 1,
}
CHEAP = 7
MASK_OPS = frozenset({"lt", "le", "gt", "ge", "eq", "ne", "and", "or"})


@dataclass
class Facts:
    """Facts of one kernel."""

    kernel: Kernel
    may_alias: bool = False  # tensors may share memory: what is written to one is read from another
    definition: dict[Value, Op] = field(default_factory=dict)
    block_of: dict[Value, Region] = field(default_factory=dict)
    users: dict[Value, list[tuple[Op, Region]]] = field(default_factory=dict)
    parents: dict[Region, tuple[Op, Region] | None] = field(default_factory=dict)
    written: set[Value] = field(default_factory=set)  # tensors

    def op(self, value: Value) -> Op | None:
        """The op that defines a value, None for block arguments."""
        return self.definition.get(value)

    def may_change(self, tensor: Value) -> bool:
        """Whether the kernel may write to a tensor's memory."""
        return tensor in self.written or (self.may_alias and bool(self.written))

    def is_written_only(self, tensor: Value) -> bool:
        """Whether a kernel stores to a tensor's memory and never reads it."""
        reads = any(op.name == "copy_in" or op.attributes.get("mode") != "set" for op, _ in self.users[tensor])
        return tensor in self.written and not reads and not self.may_alias

    def has_known_place(self, access: Op) -> bool:
        """Whether where an access lies depends on sizes and loops alone, not on what was read from memory."""
        reached = [operand for _, operand in tensor_index(access)]
        seen = set(reached)
        while reached:
            op = self.definition.get(reached.pop())
            if op is None:
                continue
            if op.name == "copy_in" or op.regions:
                return False
            new = [operand for operand in op.operands if operand not in seen]
            seen.update(new)
            reached += new
        return True

    def memory(self, tensor: Value) -> Value | None:
        """What stands for the memory of a tensor: the same for tensors that may share theirs."""
        return None if self.may_alias else tensor

    def chain(self, region: Region) -> Iterator[tuple[Op, Region]]:
        """The control ops around a region, innermost first, each with the region that it stands in."""
        entry = self.parents[region]
        while entry is not None:
            yield entry
            entry = self.parents[entry[1]]


def gather_facts(kernel: Kernel, may_alias: bool = False) -> Facts:
    facts = Facts(kernel, may_alias)
    facts.parents[kernel.body] = None

    def visit(region: Region) -> None:
        for argument in region.arguments:
            facts.block_of[argument] = region
            facts.users.setdefault(argument, [])
        for op in region.ops:
            for operand in op.operands:
                facts.users.setdefault(operand, []).append((op, region))
            for result in op.results:
                facts.definition[result] = op
                facts.block_of[result] = region
                facts.users.setdefault(result, [])
            if op.name == "copy_out":
                facts.written.add(op.operands[1])
            for inner in op.regions:
                facts.parents[inner] = (op, region)
                visit(inner)

    visit(kernel.body)
    return facts


def is_tile(value: Value) -> bool:
    return isinstance(value.type, TileType)


def trivial_reshape(op: Op) -> bool:
    """A reshape that only adds or drops dims of 1."""
    before = [n for n in shape_of(op.operands[0].type) if n != 1]
    return before == [n for n in shape_of(op.result.type) if n != 1]


def is_inline(op: Op) -> bool:
    """Whether a tile op can be evaluated inside the loops of its users."""
    from opdsl.ir.ops import OPS

    if not op.results or not is_tile(op.results[0]):
        return False
    if op.name == "reshape":
        return trivial_reshape(op)  # of a scalar too
    return OPS[op.name].category == "elementwise" or op.name in INLINE_SHAPE_OPS or op.name == "copy_in"


def own_cost(op: Op) -> int:
    """Cycles for each vector of an inline op itself, without its operands."""
    if op.name in COSTS:
        return COSTS[op.name]
    if op.name == "copy_in":
        gathered = any(isinstance(spec, Gather) for spec in op.attributes["index"])
        return 4 if gathered else 1
    if op.name in INLINE_SHAPE_OPS or op.name == "reshape":
        return 0
    return 1


def tensor_index(op: Op) -> list[tuple[Slice | Point | Gather, Value]]:
    """Pairs of an access's index spec and its operand, a pair for each dim of the tensor."""
    first = 1 if op.name == "copy_in" else 2
    specs = op.attributes["index"]
    return list(zip(specs, op.operands[first : first + len(specs)], strict=True))


def tensor_of(op: Op) -> Value:
    tensor = op.operands[0] if op.name == "copy_in" else op.operands[1]
    assert isinstance(tensor.type, TensorType)
    return tensor
