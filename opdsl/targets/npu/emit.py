"""Writes a tree as a program of `opdsl.npu`: one code for each kind of core, with addresses, flags and slots filled in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opdsl.ir.types import DTYPES
from opdsl.npu.chip import Chip
from opdsl.npu.instructions import INSTRUCTIONS
from opdsl.npu.program import Program
from opdsl.npu.statements import (
    Allocation,
    Code,
    Compute,
    CoreKind,
    GlobalAddress,
    If,
    Issue,
    LocalAddress,
    Operand,
    Register,
    Statement,
    Tensor,
    walk,
)
from opdsl.npu.statements import Loop as ProgramLoop
from opdsl.npu.statements import While as ProgramWhile
from opdsl.support.location import Location
from opdsl.targets.npu.dependences import Dependence
from opdsl.targets.npu.emitter import GlobalPlace, Place
from opdsl.targets.npu.parameters import Parameters
from opdsl.targets.npu.placement import Lifetime
from opdsl.targets.npu.repeats import without_repeats
from opdsl.targets.npu.tree import (
    Barrier,
    Block,
    Branch,
    Buffer,
    Flag,
    Instruction,
    Loop,
    Node,
    Scalar,
    While,
    nodes_of,
)


@dataclass(frozen=True)
class Mutation:
    """What fault injection changes: the id of a dependence, a flag or a barrier that is left out; the id of a buffer
    that does not rotate. 0: none."""

    omitted: int = 0
    stuck: int = 0


UNCHANGED = Mutation()


class OnlyOnVectorCore(Exception):
    """Raised where the cube core would need a number that the vector core computes."""

    def __init__(self, location: Location) -> None:
        super().__init__()
        self.location = location


def kind_of(core: str, chip: Chip) -> CoreKind:
    if not chip.split:
        return "core"
    return "aic" if core == "cube" else "aiv"


def emit(
    name: str,
    chip: Chip,
    tree: Block,
    parameters: Parameters,
    cores: Sequence[str],
    lifetimes: Sequence[Lifetime],
    single_block: bool,
    mutation: Mutation,
) -> Program:
    """The program."""
    program = Program(name, chip.name, list(parameters.tensors))
    workspace = _workspace(program, lifetimes)
    for core in cores:
        kind = kind_of(core, chip)
        body = _Writer(core, chip, parameters, workspace, mutation).code(tree)
        unknown = _first_unknown(body, parameters) if core == "cube" else None
        if unknown is not None:
            raise OnlyOnVectorCore(unknown.location)
        if chip.split and len(cores) > 1 and core == "vector":
            body = _one_of_two(
                body, _Writer(core, chip, parameters, workspace, mutation, idle=True).code(tree), parameters
            )
        program.codes[kind] = Code(kind, body)
        if not chip.split:
            break
    program.parameters = list(parameters.list)
    program.block_num = 1 if single_block else 0
    for life in sorted(lifetimes, key=lambda e: (e.buffer.space, e.buffer.address)):
        buffer = life.buffer
        if buffer.space == "WS":
            continue
        core = "vector" if buffer.space == "UB" else "cube"
        program.allocations.append(
            Allocation(kind_of(core, chip), buffer.space, buffer.address, buffer.size, buffer.name, buffer.location)  # type: ignore[arg-type]
        )
    return program


def _one_of_two(body: list[Statement], idle: list[Statement], parameters: Parameters) -> list[Statement]:
    """One of a block's two vector cores works; the other one only sets and waits for the flags of the cube core, for
    which it must know how often. Where that depends on tiles, it computes along, but writes nothing."""
    if _first_unknown(idle, parameters) is not None:
        return body
    second = parameters.register("sub_block_idx")
    return [If(second, idle, body)]


def _first_unknown(body: list[Statement], parameters: Parameters) -> Statement | None:
    """The first statement that reads a register which nothing in the body writes."""
    known = {id(parameter.register) for parameter in parameters.list}
    for statement in walk(body):
        if isinstance(statement, Compute | Issue) and statement.result is not None:
            known.add(id(statement.result))
        elif isinstance(statement, ProgramLoop):
            known.add(id(statement.variable))
    for statement in walk(body):
        if any(isinstance(value, Register) and id(value) not in known for value in _reads(statement)):
            return statement
    return None


def _workspace(program: Program, lifetimes: Sequence[Lifetime]) -> tuple[Tensor, int] | None:
    """The tensor that blocks exchange tiles in, and the bytes of one block."""
    size = sum(life.buffer.size for life in lifetimes if life.buffer.space == "WS")
    if not size:
        return None
    tensor = Tensor(len(program.tensors), "workspace", "u8", "workspace", 1, size * WORKSPACE_BLOCKS)
    program.tensors.append(tensor)
    return tensor, size


WORKSPACE_BLOCKS = 64  # at least the blocks of every chip


class _Writer:
    def __init__(
        self,
        core: str,
        chip: Chip,
        parameters: Parameters,
        workspace: tuple[Tensor, int] | None,
        mutation: Mutation,
        idle: bool = False,
    ) -> None:
        self.core = core
        self.chip = chip
        self.parameters = parameters
        self.workspace = workspace
        self.mutation = mutation
        self.idle = idle  # only flags between cores, and what the scalar unit needs for them
        self.names = 0
        self.now: dict[Loop, Register] = {}

    def code(self, tree: Block) -> list[Statement]:
        body: list[Statement] = []
        self.slots: dict[Register, None] = {}
        self.shared = _shared_counters(tree)
        inner = self.block(tree)
        for slot in self.slots:
            body.append(Compute("move", "i64", slot, (0,)))
        statements = without_repeats(body + inner)
        while True:  # a branch that is left empty needs no condition
            count = sum(1 for _ in walk(statements))
            statements = _without_dead(statements)
            if sum(1 for _ in walk(statements)) == count:
                return statements

    def register(self, name: str) -> Register:
        self.names += 1
        return Register("i64", f"{name}.{self.names}")

    def mine(self, core: str) -> bool:
        return not self.chip.split or core in (self.core, "both")

    def block(self, block: Block) -> list[Statement]:
        body: list[Statement] = []
        for node in block.nodes:
            self.node(node, body)
        return body

    def node(self, node: Node, body: list[Statement]) -> None:
        if isinstance(node, Flag | Barrier) and self.mutation.omitted in (id(node.dependence), id(node)):
            return
        if self.idle and self._is_work(node):
            return
        if isinstance(node, Scalar):
            body.append(node.compute)
        elif isinstance(node, Instruction):
            if self.mine(node.core):
                self.instruction(node, body)
        elif isinstance(node, Flag):
            self.flag(node, body)
        elif isinstance(node, Barrier):
            if self.mine(node.core):
                pipe: Any = "S" if node.pipe == "ALL" else node.pipe
                body.append(Issue("pipe_barrier", pipe, {"pipe": node.pipe}, node.location))
        elif isinstance(node, Loop):
            self.loop(node, body)
        elif isinstance(node, Branch) and isinstance(node.condition, int):
            body += self.block(node.then if node.condition else node.otherwise)
        elif isinstance(node, Branch):
            then, otherwise = self.block(node.then), self.block(node.otherwise)
            if then or otherwise:
                body.append(If(node.condition, then, otherwise, node.location))
        elif isinstance(node, While):
            body.append(ProgramWhile([], node.condition, self.block(node.body), node.location))

    @staticmethod
    def _is_work(node: Node) -> bool:
        if isinstance(node, Instruction):
            if node.name == "sync_all":
                return False
            return not (node.name == "load_scalar" and isinstance(node.operands["src"], GlobalPlace))
        return isinstance(node, Barrier) or (isinstance(node, Flag) and not node.dependence.crosses)

    def loop(self, node: Loop, body: list[Statement]) -> None:
        statements: list[Statement] = []
        if node.slot is not None:
            self.slots[node.slot] = None
            now = self.register("slot")
            self.now[node] = now  # does not change within an iteration, so that what is computed from it is shared
            statements = self.block(node.body)
            if statements or node.slot in self.shared:
                copy = Compute("add", "i64", now, (node.slot, 0), node.location)
                statements = [copy, *statements, *self.next_slot(node)]
        else:
            statements = self.block(node.body)
        if statements:
            body.append(ProgramLoop(node.register, node.start, node.stop, node.step, statements, node.location))

    def next_slot(self, node: Loop) -> list[Statement]:
        if node.slots == 2:
            return [Compute("xor", "i64", node.slot, (node.slot, 1), node.location)]
        following = self.register("next")
        wraps = self.register("wraps")
        return [
            Compute("add", "i64", following, (node.slot, 1), node.location),
            Compute("eq", "i64", wraps, (following, node.slots), node.location),
            Compute("select", "i64", node.slot, (wraps, 0, following), node.location),
        ]

    # --- addresses

    def slot_address(self, buffer: Buffer, offset: int, body: list[Statement], location: Location) -> Operand:
        """Where the current slot of a buffer is, plus a known offset."""
        base = buffer.address + offset
        if buffer.rotates is None or buffer.slots == 1 or id(buffer) == self.mutation.stuck:
            return base
        result = self.register(buffer.name)
        scaled = self.register("slot")
        body.append(Compute("mul", "i64", scaled, (self.now[buffer.rotates], buffer.bytes), location))
        body.append(Compute("add", "i64", result, (scaled, base), location))
        return result

    def address(self, place: Place, body: list[Statement], location: Location) -> LocalAddress:
        buffer = place.buffer
        if isinstance(place.offset, int):
            where = self.slot_address(buffer, place.offset, body, location)
        else:
            assert isinstance(place.offset, Register)
            base = self.slot_address(buffer, 0, body, location)
            where = place.offset
            if base != 0 or isinstance(base, Register):
                where = self.register(buffer.name)
                body.append(Compute("add", "i64", where, (place.offset, base), location))
        return LocalAddress(buffer.space, where, place.dtype, buffer.name)  # type: ignore[arg-type]

    def global_address(self, place: GlobalPlace, body: list[Statement], location: Location) -> GlobalAddress:
        if place.tensor is not None:
            return GlobalAddress(place.tensor, place.offset, place.dtype)
        assert isinstance(place.memory, Buffer) and self.workspace is not None
        tensor, size = self.workspace
        unit = DTYPES[place.dtype].bytes
        bytes = self.slot_address(place.memory, 0, body, location)
        mine, where = self.register("workspace"), self.register("workspace")
        index = self.parameters.register("block_idx")
        body.append(Compute("mul", "i64", mine, (index, size), location))
        body.append(Compute("add", "i64", where, (mine, bytes), location))
        elements = self.register("workspace")
        body.append(Compute("floordiv", "i64", elements, (where, unit), location))
        if not (isinstance(place.offset, int) and place.offset == 0):
            total = self.register("workspace")
            body.append(Compute("add", "i64", total, (elements, place.offset), location))
            elements = total
        return GlobalAddress(tensor, elements, place.dtype)

    # --- instructions

    def instruction(self, node: Instruction, body: list[Statement]) -> None:
        values: dict[str, Any] = {}
        for field in INSTRUCTIONS[node.name].fields:
            value = node.operands[field.name]
            if field.kind == "memory":
                if isinstance(value, Place):
                    value = self.address(value, body, node.location)
                elif isinstance(value, GlobalPlace):
                    value = self.global_address(value, body, node.location)
                else:
                    assert value == 0, f"{node.name}: {field.name} is missing"
                    value = None
            values[field.name] = value
        body.append(Issue(node.name, node.pipe, values, node.location, node.result))  # type: ignore[arg-type]

    def flag(self, node: Flag, body: list[Statement]) -> None:
        dependence: Dependence = node.dependence
        if dependence.crosses and self.chip.split:
            core, pipe = node.source if node.set else node.target
            if core != self.core:
                return
            if node.set:
                operands = {"pipe": pipe, "mode": 2, "flag_id": dependence.event}
                body.append(Issue("cross_core_set_flag", pipe, operands, node.location))  # type: ignore[arg-type]
            else:
                body.append(Issue("cross_core_wait_flag", "S", {"flag_id": dependence.event}, node.location))
            return
        if self.chip.split and node.source[0] != self.core:
            return
        source, target = node.source[1], node.target[1]
        event: Operand = dependence.event
        if dependence.events > 1:
            if node.slot is not None:
                event = dependence.event + node.slot
            else:
                assert dependence.loop is not None
                event = self.now[dependence.loop]
                if dependence.event:
                    event = self.register("event")
                    terms = (self.now[dependence.loop], dependence.event)
                    body.append(Compute("add", "i64", event, terms, node.location))
        pipe = source if node.set else target
        name = "set_flag" if node.set else "wait_flag"
        body.append(Issue(name, pipe, {"event": f"{source}_{target}", "event_id": event}, node.location))  # type: ignore[arg-type]


def _shared_counters(tree: Block) -> set[Register]:
    """The registers that several loops count slots with: each of the loops must go on with it on every core."""
    times = Counter(node.slot for node in nodes_of(tree) if isinstance(node, Loop) and node.slot is not None)
    return {register for register, count in times.items() if count > 1}


def _reads(statement: Statement) -> list[Operand]:
    if isinstance(statement, Compute):
        return list(statement.operands)
    if isinstance(statement, Issue):
        found: list[Operand] = []
        for value in statement.operands.values():
            if isinstance(value, GlobalAddress):
                found.append(value.offset)
            elif isinstance(value, LocalAddress):
                found.append(value.address)
            elif isinstance(value, Register):
                found.append(value)
        return found
    if isinstance(statement, ProgramLoop):
        return [statement.start, statement.stop, statement.step]
    return [statement.condition]


def _without_dead(body: list[Statement]) -> list[Statement]:
    """Without scalar computations and loads whose results nothing needs, and without loops and branches left empty."""
    makers: dict[int, list[Statement]] = {}
    needed: set[int] = set()
    work: list[Register] = []

    def demand(statement: Statement) -> None:
        for value in _reads(statement):
            if isinstance(value, Register) and id(value) not in needed:
                needed.add(id(value))
                work.append(value)

    def removable(statement: Statement) -> bool:
        return isinstance(statement, Compute) or (isinstance(statement, Issue) and statement.name == "load_scalar")

    def useful(statements: list[Statement]) -> bool:
        """Whether something in a tree has an effect."""
        found = False
        for statement in statements:
            if isinstance(statement, Issue | Compute):
                if removable(statement):
                    assert statement.result is not None
                    makers.setdefault(id(statement.result), []).append(statement)
                else:
                    demand(statement)
                    found = True
            else:
                inner = [useful(b) for b in _bodies(statement)]
                demand(statement)
                if any(inner):
                    found = True
        return found

    useful(body)
    while work:
        register = work.pop()
        for statement in makers.get(id(register), ()):
            demand(statement)

    def kept(statements: list[Statement]) -> list[Statement]:
        result: list[Statement] = []
        for statement in statements:
            if removable(statement):
                assert isinstance(statement, Compute | Issue)
                if id(statement.result) in needed:
                    result.append(statement)
            elif isinstance(statement, ProgramLoop):
                statement.body = kept(statement.body)
                if statement.body:
                    result.append(statement)
            elif isinstance(statement, If):
                statement.then, statement.otherwise = kept(statement.then), kept(statement.otherwise)
                if statement.then or statement.otherwise:
                    result.append(statement)
            elif isinstance(statement, ProgramWhile):
                statement.header, statement.body = kept(statement.header), kept(statement.body)
                result.append(statement)
            else:
                result.append(statement)
        return result

    return kept(body)


def _bodies(statement: Statement) -> tuple[list[Statement], ...]:
    if isinstance(statement, ProgramLoop):
        return (statement.body,)
    if isinstance(statement, If):
        return (statement.then, statement.otherwise)
    if isinstance(statement, ProgramWhile):
        return (statement.header, statement.body)
    return ()
