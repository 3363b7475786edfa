"""A program run in the mind: what happens, in order, and what must be done before.

Every loop runs a few times, every branch goes one way or the other, as a scenario wants and as fits together
(`assumptions.py`). Of each instruction it is noted which earlier ones on which pipes it has to come after.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from opdsl.npu.program import Operand, Register
from opdsl.targets.npu.assumptions import Assumptions, Sum
from opdsl.targets.npu.dependences import Agent, Dependence, agents_of, ordered
from opdsl.targets.npu.tree import (
    Access,
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
    blocks_of,
    instructions,
    nodes_of,
)

LONG = 6  # trips of a loop that is run often

Interval = tuple[str, int, int]
Region = tuple[str, tuple[tuple[Sum, int], ...]]  # of a tensor: for every axis its first place and how many
# The number of an instruction, its access, the iterations of parallel loops and of all loops of the kernel around it.
Touch = tuple[int, Access, tuple[tuple[int, int], ...], tuple[int, ...]]


@dataclass(frozen=True)
class Scenario:
    """How often loops run (those in `none` not at all), and which way branches go.

    `branches` says it for branches in no other branch, in one, and so on. With a `seed`, both go by chance, each time
    anew. Loops in `long` run LONG times, but for those in one another. A run goes into the blocks in `toward` wherever it
    can.
    """

    trips: int
    branches: tuple[bool, ...]
    none: frozenset[int] = frozenset()
    seed: int = 0
    long: frozenset[int] = frozenset()
    toward: frozenset[int] = frozenset()


@dataclass
class Step:
    """One thing that happens: an instruction on an agent, a flag set or waited for, a barrier."""

    agent: int
    kind: str
    needs: dict[int, int] = field(default_factory=dict)  # agent -> the number of its steps that must be done
    dependence: Dependence | None = None
    slot: int = 0
    outside: bool = False  # a flag between iterations that is set before them all, or waited for after them all
    alone: dict[Buffer, dict[int, int]] = field(default_factory=dict)  # needs if a rotating buffer had one slot


class Relevant:
    """Of a program: the registers that bounds of loops, branches and places in tensors come from, and what they
    are at least; the registers that each loop assigns. And how often runs came to each way of a branch."""

    def __init__(self, program: Block, least: Mapping[Register, int]) -> None:
        self.least = least
        self.visits: dict[int, int] = {}
        self.registers: set[Register] = set()
        self._assigned: dict[int, list[Register]] = {}
        self._nodes: dict[int, list[Node]] = {}
        self._quiet: dict[int, bool] = {}
        self._depths: dict[int, int] = {}
        self._entries: dict[int, int] = {}  # how often runs came to loops over elements
        self._sources: dict[Register, list[Operand]] = {}
        wanted: list[Operand] = []
        self._visit(program, wanted)
        while wanted:
            value = wanted.pop()
            if isinstance(value, Register) and value not in self.registers:
                self.registers.add(value)
                wanted += self._sources.get(value, ())

    def _visit(self, block: Block, wanted: list[Operand]) -> None:
        for node in block.nodes:
            if isinstance(node, Scalar):
                self._sources.setdefault(node.compute.result, []).extend(node.compute.operands)
            elif isinstance(node, Instruction):
                for access in node.accesses:
                    wanted += [first for first, _ in access.region]
            elif isinstance(node, Loop):
                wanted += [node.start, node.stop, node.step]
            elif isinstance(node, Branch | While):
                wanted.append(node.condition)
                if isinstance(node, Branch) and not node.certain and not isinstance(node.condition, int):
                    self.visits.update((id(way), 0) for way in (node.then, node.otherwise))
            for inner in blocks_of(node):
                self._visit(inner, wanted)

    @property
    def ways_gone(self) -> int:
        """How many ways of branches runs have come to."""
        return sum(1 for count in self.visits.values() if count)

    def nodes(self, block: Block) -> list[Node]:
        """What of a block a run has to look at."""
        found = self._nodes.get(id(block))
        if found is None:
            found = [n for n in block.nodes if not isinstance(n, Scalar) or n.compute.result in self.registers]
            self._nodes[id(block)] = found
        return found

    def once_will_do(self, node: Loop) -> bool:
        """Whether nothing in a loop concerns two pipes: once is as good as often."""
        if id(node) not in self._quiet:
            self._quiet[id(node)] = _uneventful(node.body)
        return self._quiet[id(node)]

    def repeated_level(self, node: Loop) -> int:
        """Of loops over elements, one in the other, which one runs twice: another one each time that a run comes there.
        All of them twice would be too much, and the outermost alone does not show what the others need."""
        count = self._entries[id(node)] = self._entries.get(id(node), -1) + 1
        return count % max(1, self._depth(node))

    def _depth(self, node: Loop) -> int:
        """How many loops are in each other in which something concerns two pipes."""
        if self.once_will_do(node):
            return 0
        if id(node) not in self._depths:
            deeper = (self._depth(n) for n in nodes_of(node.body) if isinstance(n, Loop))
            self._depths[id(node)] = 1 + max(deeper, default=0)
        return self._depths[id(node)]

    def assigned(self, node: Loop | While) -> list[Register]:
        """The relevant registers that a loop gives new values."""
        if id(node) not in self._assigned:
            found: dict[Register, None] = {}
            for block in blocks_of(node):
                for inner in nodes_of(block):
                    if isinstance(inner, Scalar):
                        found[inner.compute.result] = None
                    elif isinstance(inner, Instruction) and inner.result is not None:
                        found[inner.result] = None
                    elif isinstance(inner, Loop):
                        found[inner.register] = None
            self._assigned[id(node)] = [r for r in found if r in self.registers]
        return self._assigned[id(node)]


class Trace:
    """The steps of one scenario."""

    def __init__(
        self,
        program: Block,
        scenario: Scenario,
        agents: Mapping[Agent, int],
        tensors_alias: bool,
        relevant: Relevant,
    ) -> None:
        self.steps: list[Step] = []
        self.visited: set[Instruction] = set()
        self._relevant = relevant
        self._chance = random.Random(scenario.seed)
        self._assumed = Assumptions(relevant.least, self._chance)
        self.agents = agents
        self._scenario = scenario
        self._alias = tensors_alias
        self._counts = [0] * len(agents)
        self._iterations: dict[Loop | While, int] = {}
        self._slots: dict[Register, int] = {}
        self._parallel: list[tuple[int, int]] = []
        self._inside = 0  # loops over elements
        self._repeated = 0  # which of them runs twice
        self._long = 0  # loops that run often
        self._turns: list[int] = []  # iterations of the kernel's own loops
        self._depth = 0  # of branches
        # Of each piece of memory: who touched it last, and which region of a tensor
        self._last: dict[Interval, dict[tuple[int, bool, int, Region | None], Touch]] = {}
        self._near: dict[Interval, list[Interval]] = {}
        # Of buffers that rotate: who touched any slot last -> (number, iterations of the kernel's loops)
        self._alone: dict[Buffer, dict[tuple[int, Access], tuple[int, tuple[int, ...]]]] = {}
        self.names: list[Agent] = list(agents)
        self._block(program)

    def waiting(self, dependence: Dependence) -> int:
        """The agent that waits: across cores, the scalar unit does."""
        name = dependence.target
        return self.agents[(name[0], "S") if dependence.crosses else name]

    def _block(self, block: Block) -> None:
        for node in self._relevant.nodes(block):
            self._node(node)

    def _node(self, node: Node) -> None:
        if isinstance(node, Scalar):
            self._assumed.compute(node.compute)
        elif isinstance(node, Instruction):
            if node.result in self._relevant.registers:
                self._assumed.forget(node.result)
            for agent in agents_of(node):
                if agent in self.agents:
                    self._instruction(self.agents[agent], node)
        elif isinstance(node, Flag):
            agent = node.source if node.set else node.target
            slot = node.slot
            if slot is None:
                loop = node.dependence.loop
                slot = self._turn(loop) if loop is not None else 0
            elif node.dependence.loop is None:
                slot = 0
            kind = "set" if node.set else "wait"
            self.steps.append(Step(self.agents[agent], kind, {}, node.dependence, slot, node.slot is not None))
        elif isinstance(node, Barrier) and node.pipe == "ALL":
            self._wait_for_all(node.core)
        elif isinstance(node, Barrier):
            if (node.core, node.pipe) in self.agents:
                self.steps.append(Step(self.agents[(node.core, node.pipe)], "barrier", {}, node.dependence))
        elif isinstance(node, Loop):
            self._loop(node)
        elif isinstance(node, Branch):
            if node.certain or isinstance(node.condition, int):
                self._block(node.then if node.certain or node.condition else node.otherwise)
                return
            first = self._assumed.holds(node.condition, self._wanted_way(node))
            visits = self._relevant.visits
            chosen = id(node.then if first else node.otherwise)
            visits[chosen] = visits.get(chosen, 0) + 1
            self._depth += 1
            self._block(node.then if first else node.otherwise)
            self._depth -= 1
        elif isinstance(node, While):
            for _ in range(self._wanted(node)):
                self._turns.append(self._iterations.setdefault(node, 0))
                self._forget(node)  # it stands for any iteration
                self._block(node.body)
                self._turns.pop()
                self._iterations[node] += 1
            self._forget(node)

    def _wait_for_all(self, core: str) -> None:
        """A barrier of all pipes: each tells the scalar unit, which tells them all."""
        scalar = self.agents[(core, "S")]
        pipes = [agent for name, agent in self.agents.items() if name[0] == core and agent != scalar]
        for source, target in (*((pipe, scalar) for pipe in pipes), *((scalar, pipe) for pipe in pipes)):
            self.steps.append(Step(source, "set"))
            self.steps.append(Step(target, "wait"))

    def _wanted_way(self, node: Branch) -> bool:
        """The way to go at a branch; by chance, rather where no run went yet."""
        if self._scenario.toward & {id(node.then), id(node.otherwise)}:
            return id(node.then) in self._scenario.toward
        if not self._scenario.seed:
            ways = self._scenario.branches
            return ways[self._depth % len(ways)]
        then, otherwise = (self._relevant.visits.get(id(way), 0) for way in (node.then, node.otherwise))
        share = 0.5 if min(then, otherwise) else 0.85 if then < otherwise else 0.15 if otherwise < then else 0.5
        return self._chance.random() < share

    def _wanted(self, node: Loop | While) -> int:
        if id(node.body) in self._scenario.toward:
            return 1 + self._scenario.seed % 3
        if self._scenario.seed:
            outermost = isinstance(node, Loop) and node.independent
            return self._chance.choice((0, 1, 2, 2, 3, 3, 4) if outermost else (0, 1, 1, 1, 2, 2, 2, 3))
        if id(node) in self._scenario.long:
            return 2 if self._long else LONG
        return 0 if id(node) in self._scenario.none else self._scenario.trips

    def _loop(self, node: Loop) -> None:
        wanted = self._wanted(node)
        if wanted > 1 and node.slots > 1 and not self._scenario.seed:
            wanted = max(wanted, node.slots + 1)
        trips, exactly = self._assumed.trips(node.start, node.stop, node.step, wanted)
        if node.internal and not self._inside:
            self._repeated = self._relevant.repeated_level(node)
        if trips > 1 and (self._relevant.once_will_do(node) or (node.internal and self._inside != self._repeated)):
            trips, exactly = 1, False
        elif trips > 2 and node.internal:
            trips, exactly = 2, False
        start, step = self._assumed.value(node.start), self._assumed.value(node.step)
        for turn in range(trips):
            self._iterations.setdefault(node, 0)
            if not exactly:
                self._forget(node)
            elif node.register in self._relevant.registers:
                if step.terms and not self._assumed.goes_on(start.plus(step, turn), node.stop):
                    break
                self._assumed.assign(node.register, start.plus(step, turn))
            if node.independent:
                self._parallel.append((id(node), self._iterations[node]))
            if not node.internal:
                self._turns.append(self._iterations[node])
            self._inside += node.internal
            self._long += id(node) in self._scenario.long
            self._block(node.body)
            self._long -= id(node) in self._scenario.long
            self._inside -= node.internal
            if not node.internal:
                self._turns.pop()
            if node.independent:
                self._parallel.pop()
            self._iterations[node] += 1
            if node.slot is not None:
                self._slots[node.slot] = self._turn(node) + 1
        if not exactly:
            self._forget(node)

    def _turn(self, node: Loop) -> int:
        """The slot that a loop is at."""
        return self._slots.get(node.slot, 0) % node.slots

    def _forget(self, node: Loop | While) -> None:
        """What a loop that stands for one of more iterations may have done to registers."""
        if isinstance(node, Loop):
            self._assumed.forget(node.register)
        for register in self._relevant.assigned(node):
            self._assumed.forget(register)

    def _region(self, access: Access) -> Region | None:
        """What of a tensor is touched, as far as that is known."""
        if not access.region or not isinstance(access.memory, str):
            return None
        return access.memory, tuple((self._assumed.value(first), count) for first, count in access.region)

    def _interval(self, access: Access) -> Interval:
        memory = access.memory
        if not isinstance(memory, Buffer):
            return ("*" if self._alias else f"tensor {memory}", 0, 1)
        slot = 0
        if memory.rotates is not None and memory.slots > 1:
            slot = self._turn(memory.rotates)
        base = memory.address + slot * memory.bytes
        return (memory.space, base + access.first, base + min(access.last, memory.bytes))

    def _neighbours(self, interval: Interval) -> list[Interval]:
        if interval not in self._near:
            found = [interval]
            for other, near in self._near.items():
                if other[0] == interval[0] and other[1] < interval[2] and interval[1] < other[2]:
                    near.append(interval)
                    found.append(other)
            self._near[interval] = found
            self._last[interval] = {}
        return self._near[interval]

    def _instruction(self, agent: int, node: Instruction) -> None:
        self.visited.add(node)
        self._counts[agent] += 1
        number = self._counts[agent]
        step = Step(agent, "run")
        name = self.names[agent]
        parallel, turns = tuple(self._parallel), tuple(self._turns)
        for access in node.accesses:
            interval = self._interval(access)
            is_tensor = not isinstance(access.memory, Buffer)
            region = self._region(access)
            for near in self._neighbours(interval):
                for (other, write, _, there), (when, earlier, around, before) in self._last[near].items():
                    if not (write or access.write) or (other == agent and when == number):
                        continue
                    if is_tensor and (around != parallel or _apart(there, region)):
                        continue
                    if ordered(self.names[other], earlier, name, access, before != turns):
                        continue
                    if step.needs.get(other, 0) < when:
                        step.needs[other] = when
            if isinstance(access.memory, Buffer) and access.memory.slots > 1:
                self._needs_alone(step, name, access, turns)
        for access in node.accesses:
            interval = self._interval(access)
            touch = number, access, parallel, turns
            self._last[interval][(agent, access.write, access.group, self._region(access))] = touch
            if isinstance(access.memory, Buffer) and access.memory.slots > 1:
                self._alone.setdefault(access.memory, {})[(agent, access)] = number, turns
        self.steps.append(step)

    def _needs_alone(self, step: Step, name: Agent, access: Access, turns: tuple[int, ...]) -> None:
        assert isinstance(access.memory, Buffer)
        needs = step.alone.setdefault(access.memory, {})
        for (other, earlier), (when, before) in self._alone.get(access.memory, {}).items():
            if not (earlier.write or access.write) or access.first >= earlier.last or earlier.first >= access.last:
                continue
            if not ordered(self.names[other], earlier, name, access, before != turns) and needs.get(other, 0) < when:
                needs[other] = when


def _apart(one: Region | None, other: Region | None) -> bool:
    """Whether two regions are of the same tensor and certainly have no element in common."""
    if one is None or other is None or one[0] != other[0]:
        return False
    for (first, count), (second, number) in zip(one[1], other[1], strict=True):
        distance = second.plus(first, -1)
        if not distance.terms and (distance.constant >= count or -distance.constant >= number):
            return True
    return False


def _uneventful(block: Block) -> bool:
    pipes: set[tuple[str, str]] = set()

    def visit(inner: Block) -> bool:
        for node in inner.nodes:
            if isinstance(node, Flag | Barrier):
                return False
            if isinstance(node, Instruction):
                pipes.update(agents_of(node))
            if not all(visit(b) for b in blocks_of(node)):
                return False
        return True

    return visit(block) and len({pipe for _, pipe in pipes}) <= 1


def scenarios(program: Block) -> list[Scenario]:
    """Few loops many ways. Loops with work on both cores also run so often that one could run ahead of the other."""
    loops = [node for node in _controls(program) if isinstance(node, Loop | While) and not _quiet(node)]
    found = [Scenario(3, (True,))]
    if any(isinstance(node, Branch) for node in _controls(program)):
        found += [Scenario(3, ways) for ways in ((False, True), (False,), (True, False))]
        found.append(Scenario(1, (False,)))  # a loop's first tile sticks out only where it is the last one, too
    found += [Scenario(2, (True,), frozenset({id(loop)})) for loop in loops[:3]]
    inner = frozenset(id(loop) for loop in loops if not (isinstance(loop, Loop) and loop.independent))
    if inner:
        found.append(Scenario(3, (True,), inner))
    shared = frozenset(id(loop) for loop in loops if len({i.core for b in blocks_of(loop) for i in instructions(b)}) > 1)
    if shared:
        found += [Scenario(1, ways, long=shared) for ways in ((True,), (False,), (True, False))]
    return found


def _quiet(node: Loop | While) -> bool:
    return all(_uneventful(b) for b in blocks_of(node))


def _controls(block: Block) -> list[Node]:
    found: list[Node] = []
    for node in block.nodes:
        inner = blocks_of(node)
        if inner:
            found.append(node)
        for b in inner:
            found += _controls(b)
    return found
