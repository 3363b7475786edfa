"""Takes out flags and barriers that others make superfluous, and numbers the events of those that stay.

The tree is run in the mind: every loop a few times, every branch one way or the other, noting of each instruction which
earlier ones on which pipes it has to come after. What a pipe knows to be done is a clock for each pipe, as in the
emulator's hazard checker: a wait brings what the setting pipe knew, a barrier what came before on the pipe, and whatever
the scalar unit waited for holds for all that it hands out later. A flag is superfluous if all needs are met without it
in every scenario.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
    While,
    blocks_of,
)

EVENTS = 8  # of each pair of pipes
CROSS_EVENTS = 11
# Scenarios that go by chance: at least, at most, and how many steps of all scenarios are enough. So many that any two or
# three branches are seen each way together.
CHANCES, MOST_CHANCES, ENOUGH = 5, 24, 5000


@dataclass(frozen=True)
class Scenario:
    """How often loops run (those in `none` not at all), and which way branches go.

    `branches` says it for branches in no other branch, in one, and so on. With a `seed`, both go by chance, each time
    anew.
    """

    trips: int
    branches: tuple[bool, ...]
    none: frozenset[int] = frozenset()
    seed: int = 0


@dataclass
class Step:
    """One thing that happens: an instruction on an agent, a flag set or waited for, a barrier."""

    agent: int
    kind: str
    needs: dict[int, int] = field(default_factory=dict)  # agent -> the number of its steps that must be done
    dependence: Dependence | None = None
    slot: int = 0


Interval = tuple[str, int, int]
RUN, SET, WAIT, BARRIER = range(4)
# The number of an instruction, its access, the iterations of parallel loops and of all loops of the kernel around it.
Touch = tuple[int, Access, tuple[tuple[int, int], ...], tuple[int, ...]]


class Trace:
    """The steps of one scenario."""

    def __init__(self, program: Block, scenario: Scenario, agents: Mapping[Agent, int], tensors_alias: bool) -> None:
        self.steps: list[Step] = []
        self.agents = agents
        self._scenario = scenario
        self._alias = tensors_alias
        self._counts = [0] * len(agents)
        self._iterations: dict[Loop, int] = {}
        self._parallel: list[tuple[int, int]] = []
        self._inside = 0  # loops over elements
        self._turns: list[int] = []  # iterations of the kernel's own loops
        self._chance = random.Random(scenario.seed)
        self._depth = 0  # of branches
        # Of each piece of memory: who touched it last -> (number, access, parallel iterations around)
        self._last: dict[Interval, dict[tuple[int, bool, int], Touch]] = {}
        self._near: dict[Interval, list[Interval]] = {}
        self._names: list[Agent] = list(agents)
        self._block(program)

    def _block(self, block: Block) -> None:
        for node in block.nodes:
            self._node(node)

    def _node(self, node: Node) -> None:
        if isinstance(node, Instruction):
            for agent in agents_of(node):
                if agent in self.agents:
                    self._instruction(self.agents[agent], node)
        elif isinstance(node, Flag):
            agent = node.source if node.set else node.target
            slot = node.slot
            if slot is None:
                loop = node.dependence.loop
                slot = self._iterations.get(loop, 0) % loop.slots if loop is not None else 0
            elif node.dependence.loop is None:
                slot = 0
            kind = "set" if node.set else "wait"
            self.steps.append(Step(self.agents[agent], kind, {}, node.dependence, slot))
        elif isinstance(node, Barrier):
            if (node.core, node.pipe) in self.agents:
                self.steps.append(Step(self.agents[(node.core, node.pipe)], "barrier", {}, node.dependence))
        elif isinstance(node, Loop):
            self._loop(node)
        elif isinstance(node, Branch):
            if node.certain or isinstance(node.condition, int):
                self._block(node.then if node.certain or node.condition else node.otherwise)
                return
            ways = self._scenario.branches
            first = self._chance.random() < 0.5 if self._scenario.seed else ways[self._depth % len(ways)]
            self._depth += 1
            self._block(node.then if first else node.otherwise)
            self._depth -= 1
        elif isinstance(node, While):
            for _ in range(self._trips(node)):
                self._block(node.before)
                self._block(node.body)
            self._block(node.before)

    def _trips(self, node: Loop | While) -> int:
        if self._scenario.seed:
            outermost = isinstance(node, Loop) and node.independent
            return self._chance.choice((2, 3, 4) if outermost else (0, 1, 1, 1, 2, 2, 2, 3))
        return 0 if id(node) in self._scenario.none else self._scenario.trips

    def _loop(self, node: Loop) -> None:
        trips = self._trips(node)
        if trips > 1 and _uneventful(node.body):
            trips = 1
        if trips > 1 and node.internal:
            # Loops over elements, one in the other: that the outer one repeats the inner one is as good.
            trips = 1 if self._inside else 2
        if trips > 1 and node.slots > 1 and not self._scenario.seed:
            trips = max(trips, node.slots + 1)
        for _ in range(trips):
            self._iterations.setdefault(node, 0)
            if node.independent:
                self._parallel.append((id(node), self._iterations[node]))
            if not node.internal:
                self._turns.append(self._iterations[node])
            self._inside += node.internal
            self._block(node.body)
            self._inside -= node.internal
            if not node.internal:
                self._turns.pop()
            if node.independent:
                self._parallel.pop()
            self._iterations[node] += 1

    def _interval(self, access: Access) -> Interval:
        memory = access.memory
        if not isinstance(memory, Buffer):
            return ("*" if self._alias else f"tensor {memory}", 0, 1)
        slot = 0
        if memory.rotates is not None and memory.slots > 1:
            slot = self._iterations.get(memory.rotates, 0) % memory.slots
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
        self._counts[agent] += 1
        number = self._counts[agent]
        step = Step(agent, "run")
        name = self._names[agent]
        parallel, turns = tuple(self._parallel), tuple(self._turns)
        for access in node.accesses:
            interval = self._interval(access)
            is_tensor = not isinstance(access.memory, Buffer)
            for near in self._neighbours(interval):
                for (other, write, _group), (when, earlier, around, before) in self._last[near].items():
                    if not (write or access.write) or (other == agent and when == number):
                        continue
                    if is_tensor and around != parallel:
                        continue
                    if ordered(self._names[other], earlier, name, access, before != turns):
                        continue
                    if step.needs.get(other, 0) < when:
                        step.needs[other] = when
        for access in node.accesses:
            interval = self._interval(access)
            self._last[interval][(agent, access.write, access.group)] = (number, access, parallel, turns)
        self.steps.append(step)


def _uneventful(block: Block) -> bool:
    """Whether nothing in a block concerns two pipes: once is as good as often."""
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


@dataclass
class Event:
    """A flag's set or wait, for numbering: where in the trace, and what the setting pipe knew of the waiting one."""

    place: int
    number: int
    known: int
    slot: int = 0


class Run:
    """Clocks along a trace, with some flags missing."""

    def __init__(self, trace: Trace, names: Sequence[Agent]) -> None:
        self.trace = trace
        self.names = names
        self.scalar = {
            place: next((i for i, n in enumerate(names) if n == (name[0], "S")), place) for place, name in enumerate(names)
        }
        kinds = {"run": RUN, "set": SET, "wait": WAIT, "barrier": BARRIER}
        # (kind, agent, needs, dependence, slot, who waits)
        self.plan: list[tuple[int, int, tuple[tuple[int, int], ...], int, int, int]] = []
        for step in trace.steps:
            needs = tuple((o, n) for o, n in step.needs.items() if o != step.agent or names[o][1] != "S")
            key = id(step.dependence) if step.dependence is not None else 0
            waiting = self._target(step.dependence) if step.dependence is not None and step.kind == "wait" else -1
            self.plan.append((kinds[step.kind], step.agent, needs, key, step.slot, waiting))

    def holds(self, missing: frozenset[int], events: dict[int, tuple[list[Event], list[Event]]] | None = None) -> bool:
        """Whether every need is met. `events` collects the sets and waits of each dependence."""
        if events is None:
            return self._holds(missing)
        return self._collect(missing, events)

    def _holds(self, missing: frozenset[int]) -> bool:
        size = len(self.names)
        clocks = [[0] * size for _ in range(size)]
        done = [0] * size  # instructions
        learned = [0] * size  # how often a scalar unit's clock changed
        joined = [0] * size  # up to which of these changes a pipe knows
        posted: dict[tuple[int, int], list[list[int]]] = {}
        scalars, everyone = self.scalar, range(size)
        for kind, agent, needs, key, slot, waiting in self.plan:
            if key in missing:
                continue
            scalar = scalars[agent]
            clock = clocks[agent]
            if joined[agent] != learned[scalar] and scalar != agent:
                joined[agent] = learned[scalar]
                above = clocks[scalar]
                own = clock[scalar]
                clock = clocks[agent] = [x if x > y else y for x, y in zip(clock, above, strict=True)]
                clock[scalar] = own
            if kind == RUN:
                for other, number in needs:
                    if clock[other] < number:
                        return False
                done[agent] += 1
            elif kind == SET:
                message = clock.copy()
                message[agent] = done[agent]
                posted.setdefault((key, slot), []).append(message)
            elif kind == BARRIER:
                clock[agent] = done[agent]
            else:
                queue = posted.get((key, slot))
                if not queue:
                    return False
                message = queue.pop(0)
                target = clocks[waiting]
                for other in everyone:
                    if message[other] > target[other]:
                        target[other] = message[other]
                if scalars[waiting] == waiting:
                    learned[waiting] += 1
        return True

    def _collect(self, missing: frozenset[int], events: dict[int, tuple[list[Event], list[Event]]]) -> bool:
        """When flags are set and waited for, and what a setting pipe knows of the waits before."""
        size = len(self.names)
        marks = [0] * size
        seen = [[0] * size for _ in range(size)]
        posted: dict[tuple[int, int], list[list[int]]] = {}
        for place, step in enumerate(self.trace.steps):
            dependence = step.dependence
            if dependence is None or id(dependence) in missing or step.kind == "barrier":
                continue
            agent, key = step.agent, (id(dependence), step.slot)
            scalar = self.scalar[agent]
            if scalar != agent:
                seen[agent] = [max(x, y) for x, y in zip(seen[agent], seen[scalar], strict=True)]
            waiting = self._target(dependence)
            sets, waits = events.setdefault(id(dependence), ([], []))
            if step.kind == "set":
                marks[agent] += 1
                told = list(seen[agent])
                told[agent] = marks[agent]
                posted.setdefault(key, []).append(told)
                sets.append(Event(place, marks[agent], seen[agent][waiting], step.slot))
            else:
                marks[waiting] += 1
                told = posted[key].pop(0)
                seen[waiting] = [max(x, y) for x, y in zip(seen[waiting], told, strict=True)]
                seen[waiting][waiting] = marks[waiting]
                waits.append(Event(place, marks[waiting], 0, step.slot))
        return True

    def _target(self, dependence: Dependence) -> int:
        """Who waits: across cores, the scalar unit does."""
        name = dependence.target
        if dependence.crosses:
            name = (name[0], "S")
        return self.trace.agents[name]


def scenarios(program: Block) -> list[Scenario]:
    loops = [node for node in _controls(program) if isinstance(node, Loop | While) and not _quiet(node)]
    found = [Scenario(3, (True,))]
    if any(isinstance(node, Branch) for node in _controls(program)):
        found += [Scenario(3, ways) for ways in ((False, True), (False,), (True, False))]
    found += [Scenario(2, (True,), frozenset({id(loop)})) for loop in loops[:3]]
    inner = frozenset(id(loop) for loop in loops if not (isinstance(loop, Loop) and loop.independent))
    if inner:
        found.append(Scenario(3, (True,), inner))
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


def prune(
    program: Block, dependences: Sequence[Dependence], tensors_alias: bool
) -> tuple[list[Dependence], list[Run]]:
    """Those of the dependences whose flags are in the tree that are needed, and the runs that show it."""
    runs = runs_of(program, dependences, tensors_alias)
    if not all(run.holds(frozenset()) for run in runs):
        # A scenario asks for more than the dependences say: it cannot tell which of them are needed.
        return list(dependences), [run for run in runs if run.holds(frozenset())]
    missing: frozenset[int] = frozenset()
    order = list(runs)
    repeated = _repeated(program)
    for dependence in reversed(dependences):
        # What runs once costs little, and whether it is needed hangs on which branches were taken together: it stays.
        conditional = isinstance(dependence.after, Branch) or isinstance(dependence.before, Branch)
        if conditional and id(dependence.block) not in repeated:
            continue
        fewer = missing | {id(dependence)}
        for place, run in enumerate(order):
            if not run.holds(fewer):
                order.insert(0, order.pop(place))  # what shows that one is needed may show it of the next one, too
                break
        else:
            missing = fewer
    return [d for d in dependences if id(d) not in missing], runs


def _repeated(program: Block) -> set[int]:
    """The blocks that are in loops."""
    found: set[int] = set()

    def visit(block: Block, inside: bool) -> None:
        if inside:
            found.add(id(block))
        for node in block.nodes:
            for inner in blocks_of(node):
                visit(inner, inside or isinstance(node, Loop | While))

    visit(program, False)
    return found


def runs_of(program: Block, dependences: Sequence[Dependence], tensors_alias: bool) -> list[Run]:
    """A run of every scenario."""
    agents: dict[Agent, int] = {}
    for dependence in dependences:
        for name in (dependence.source, dependence.target):
            agents.setdefault(name, len(agents))
            agents.setdefault((name[0], "S"), len(agents))
    _add_agents(program, agents)
    names = list(agents)
    traces = [Trace(program, scenario, agents, tensors_alias) for scenario in scenarios(program)]
    seed = 0
    while len(traces) > 1 and seed < MOST_CHANCES:
        seed += 1
        traces.append(Trace(program, Scenario(0, (), seed=seed), agents, tensors_alias))
        if seed >= CHANCES and sum(len(trace.steps) for trace in traces) > ENOUGH:
            break
    return [Run(trace, names) for trace in traces]


def unanswered(dependences: Sequence[Dependence], missing: frozenset[int], runs: Sequence[Run]) -> list[Dependence]:
    """Those whose event may be set again before it was waited for, in some scenario: a loop between that does not run
    leaves the setting pipe free to run ahead."""
    found: dict[int, Dependence] = {}
    for run in runs:
        events: dict[int, tuple[list[Event], list[Event]]] = {}
        run.holds(missing, events)
        for dependence in dependences:
            if dependence.barrier or dependence.crosses:
                continue
            sets, waits = events.get(id(dependence), ([], []))
            for slot in {event.slot for event in sets}:
                mine = [e for e in sets if e.slot == slot]
                theirs = [e for e in waits if e.slot == slot]
                if any(following.known < wait.number for wait, following in zip(theirs, mine[1:], strict=False)):
                    found[id(dependence)] = dependence
    return list(found.values())


def _add_agents(block: Block, agents: dict[Agent, int]) -> None:
    for node in block.nodes:
        if isinstance(node, Instruction):
            for name in agents_of(node):
                agents.setdefault(name, len(agents))
                agents.setdefault((name[0], "S"), len(agents))
        for inner in blocks_of(node):
            _add_agents(inner, agents)


def number_events(dependences: Sequence[Dependence], missing: frozenset[int], runs: Sequence[Run]) -> list[Dependence]:
    """Gives the flags their events; those for which there are none left are returned. Two flags share an event where
    each set is known to come after the wait before it."""
    histories: list[dict[int, tuple[list[Event], list[Event]]]] = []
    for run in runs:
        events: dict[int, tuple[list[Event], list[Event]]] = {}
        run.holds(missing, events)
        histories.append(events)
    left: list[Dependence] = []
    used: dict[tuple[object, ...], dict[int, list[Dependence]]] = {}
    for dependence in dependences:
        if dependence.barrier:
            continue
        if dependence.crosses:
            key: tuple[object, ...] = ("cross",)
            limit, wanted = CROSS_EVENTS, 1
        else:
            key = (dependence.source, dependence.target)
            limit, wanted = EVENTS, dependence.events
        taken = used.setdefault(key, {})
        for event in range(limit - wanted + 1):
            others = {id(d): d for n in range(event, event + wanted) for d in taken.get(n, ())}.values()
            if all(_may_share(dependence, other, histories) for other in others):
                dependence.event = event
                for n in range(event, event + wanted):
                    taken.setdefault(n, []).append(dependence)
                break
        else:
            left.append(dependence)
    return left


def _may_share(
    a: Dependence, b: Dependence, histories: Sequence[dict[int, tuple[list[Event], list[Event]]]]
) -> bool:
    if a.distance or b.distance or a.events != b.events or a.block is not b.block:
        return False
    if (a.source, a.target) != (b.source, b.target):
        return False
    for events in histories:
        spans: list[tuple[Event, Event]] = []
        for dependence in (a, b):
            sets, waits = events.get(id(dependence), ([], []))
            if len(sets) != len(waits):
                return False
            spans += zip(sets, waits, strict=True)
        spans.sort(key=lambda e: e[0].place)
        for (_, wait), (following, _) in itertools.pairwise(spans):
            if following.place < wait.place or following.known < wait.number:
                return False
    return True
