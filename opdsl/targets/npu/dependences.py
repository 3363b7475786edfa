"""Which instructions of different pipes must wait for each other.

A pipe runs its instructions in order, and different pipes do not wait for each other by themselves. Two accesses of one
place of memory, one of them a write, must happen in program order; where they are on different pipes, a *dependence* is
noted: a flag that the first pipe sets and the second one waits for. Set and wait of a dependence always stand in one
block, so that they run equally often whatever loops and branches do: a dependence between instructions that lie deeper
is lifted to the statements of the block that both are in.

A dependence from one iteration to a later one (`distance` above 0) is set at the end of its statement and waited for
`distance` iterations later. It begins set: the whole program begins with `distance` sets and ends with as many waits.

What is noted here is too much, since one flag often makes another superfluous; `prune.py` finds out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from opdsl.npu.statements import Register
from opdsl.targets.npu.tree import Access, Barrier, Block, Buffer, Flag, Instruction, Loop, Node, While, blocks_of

AHEAD = 4  # sets of a flag between cores that may be ahead of its waits
Agent = tuple[str, str]  # a core and one of its pipes


@dataclass(eq=False)
class Dependence:
    """`target` waits before statement `before` of `block` for what `source` did up to statement `after`."""

    source: Agent
    target: Agent
    block: Block
    after: Node
    before: Node
    distance: int = 0
    loop: Loop | None = None  # whose slot numbers the events, where it has several
    event: int = -1
    # One of a loop that is neither in this one's nor around it: its flag goes on as this one's. See `chain`.
    chained: Dependence | None = None

    @property
    def flag(self) -> Dependence:
        """The dependence whose flag this one's is."""
        return self if self.chained is None else self.chained

    @property
    def counter(self) -> Register | None:
        """What counts the slots that the events are numbered by."""
        return self.loop.slot if self.loop is not None else None

    @property
    def events(self) -> int:
        return self.loop.slots if self.loop is not None else 1

    @property
    def crosses(self) -> bool:
        return self.source[0] != self.target[0]

    @property
    def barrier(self) -> bool:
        """Between instructions of one pipe: not a flag, but a barrier of the pipe."""
        return self.source == self.target


def agents_of(instruction: Instruction) -> tuple[Agent, ...]:
    cores = ("cube", "vector") if instruction.core == "both" else (instruction.core,)
    return tuple((core, instruction.pipe) for core in cores)


class Overlaps:
    """Which memories share bytes with which."""

    def __init__(self, buffers: Iterable[Buffer], tensors_alias: bool) -> None:
        self.tensors_alias = tensors_alias
        self._near: dict[Buffer, list[Buffer]] = {}
        chosen = list(dict.fromkeys(buffers))
        for buffer in chosen:
            self._near[buffer] = [
                other
                for other in chosen
                if other.space == buffer.space
                and _core_of(other) == _core_of(buffer)
                and other.address < buffer.address + buffer.size
                and buffer.address < other.address + other.size
            ]

    def near(self, memory: Buffer | str) -> Sequence[Buffer | str]:
        """Everything that may share bytes with a memory, itself included."""
        if isinstance(memory, Buffer):
            return self._near[memory]
        return ("*",) if self.tensors_alias else (memory,)

    def key(self, memory: Buffer | str) -> Buffer | str:
        return "*" if self.tensors_alias and isinstance(memory, str) else memory


def _core_of(buffer: Buffer) -> str:
    return buffer.space


def ordered(first: Agent, a: Access, second: Agent, b: Access, again: bool) -> bool:
    """Whether accesses come in order by themselves: those of a scalar unit, and pieces of one transfer. `again`: the
    second belongs to the next time that the transfer is made."""
    return first == second and (first[1] == "S" or (a.group != 0 and a.group == b.group and (a.sums or not again)))


def touches(a: Access, b: Access) -> bool:
    """Whether accesses of the same slot of the same iteration touch a common byte, and one writes."""
    if not (a.write or b.write):
        return False
    if isinstance(a.memory, str) or isinstance(b.memory, str):
        return True
    if a.memory is b.memory and a.memory.slots > 1:
        return a.first < b.last and b.first < a.last
    if a.memory.slots > 1 or b.memory.slots > 1:
        return True  # different buffers, one of them rotating: some slot overlaps
    first, other = a.memory.address, b.memory.address
    return first + a.first < other + min(b.last, b.memory.bytes) and other + b.first < first + min(
        a.last, a.memory.bytes
    )


@dataclass(eq=False)
class _Leaf:
    agent: Agent
    access: Access
    place: int  # the statement of the block it is in


class Finder:
    """Walks a tree and notes dependences."""

    def __init__(self, overlaps: Overlaps) -> None:
        self.overlaps = overlaps
        self.found: list[Dependence] = []

    def visit(self, block: Block, loop: Loop | While | None) -> list[tuple[Agent, Access]]:
        """Notes the dependences of a block; gives all accesses in it. `loop` is the one whose body it is."""
        leaves: list[_Leaf] = []
        for place, node in enumerate(block.nodes):
            if isinstance(node, Instruction):
                for agent in agents_of(node):
                    leaves += [_Leaf(agent, access, place) for access in node.accesses]
            for inner in blocks_of(node):
                deeper = self.visit(inner, node if isinstance(node, Loop | While) else None)
                leaves += [_Leaf(agent, access, place) for agent, access in deeper]
        self._between(block, leaves, loop)
        return list(dict.fromkeys((leaf.agent, leaf.access) for leaf in leaves))

    def _between(self, block: Block, leaves: Sequence[_Leaf], loop: Loop | While | None) -> None:
        by_memory: dict[Buffer | str, list[_Leaf]] = {}
        for leaf in leaves:
            by_memory.setdefault(self.overlaps.key(leaf.access.memory), []).append(leaf)
        # (statement, waiting agent) -> waited-for agent -> (-distance, statement, rotates)
        needs: dict[tuple[int, Agent], dict[Agent, tuple[int, int, bool]]] = {}
        for later in leaves:
            for memory in self.overlaps.near(later.access.memory):
                for earlier in by_memory.get(memory, ()):
                    again = earlier.place >= later.place and loop is not None and not loop.internal
                    if ordered(earlier.agent, earlier.access, later.agent, later.access, again):
                        continue
                    if not touches(earlier.access, later.access):
                        continue
                    distance, rotates = self._distance(earlier, later, loop)
                    if distance is None:
                        continue
                    needed = needs.setdefault((later.place, later.agent), {})
                    time = (-distance, earlier.place, rotates)
                    if earlier.agent not in needed or needed[earlier.agent][:2] < time[:2]:
                        needed[earlier.agent] = time
        self._note(block, needs, loop)

    def _distance(self, earlier: _Leaf, later: _Leaf, loop: Loop | While | None) -> tuple[int | None, bool]:
        """How many iterations lie between, and whether their events are numbered by the loop's slot."""
        first, second = earlier.access.memory, later.access.memory
        rotates = isinstance(first, Buffer) and first is second and loop is not None and first.rotates is loop
        if earlier.place < later.place:
            return 0, rotates
        if earlier.place == later.place and loop is None:
            return None, False
        if loop is None:
            return None, False
        if isinstance(first, str) and loop.independent:
            return None, False
        if rotates:
            assert isinstance(first, Buffer)
            return first.slots, True
        return 1, False

    def _note(
        self,
        block: Block,
        needs: dict[tuple[int, Agent], dict[Agent, tuple[int, int, bool]]],
        loop: Loop | While | None,
    ) -> None:
        known: dict[tuple[Agent, Agent], tuple[int, int]] = {}
        for final in (False, True) if loop is not None else (True,):
            if final and loop is not None:
                known = {pair: (time[0] - 1, time[1]) for pair, time in known.items()}
            for (place, agent), needed in sorted(needs.items(), key=lambda e: e[0]):
                for source, (distance, after, rotates) in needed.items():
                    if known.get((agent, source), (-99, 0)) >= (distance, after):
                        continue
                    known[(agent, source)] = (0, place - 1) if source == agent else (distance, after)
                    if final:
                        self.found.append(
                            Dependence(
                                source,
                                agent,
                                block,
                                block.nodes[after],
                                block.nodes[place],
                                -distance,
                                loop if rotates and isinstance(loop, Loop) else None,
                            )
                        )


def find_dependences(program: Block, buffers: Iterable[Buffer], tensors_alias: bool) -> list[Dependence]:
    finder = Finder(Overlaps(buffers, tensors_alias))
    finder.visit(program, None)
    return finder.found


def insert_flags(program: Block, dependences: Sequence[Dependence]) -> None:
    """Puts sets, waits and barriers into the tree."""
    sets: dict[int, list[Dependence]] = {}
    waits: dict[int, list[Dependence]] = {}
    for dependence in dependences:
        sets.setdefault(id(dependence.after), []).append(dependence)
        waits.setdefault(id(dependence.before), []).append(dependence)

    def visit(block: Block) -> None:
        nodes: list[Node] = []
        for node in block.nodes:
            for dependence in waits.get(id(node), ()):
                if dependence.barrier:
                    nodes.append(Barrier(*dependence.source, dependence, location=node.location))
                else:
                    nodes.append(_flag(False, dependence, node))
            for inner in blocks_of(node):
                visit(inner)
            nodes.append(node)
            for dependence in sets.get(id(node), ()):
                if not dependence.barrier:
                    nodes.append(_flag(True, dependence, node))
        block.nodes[:] = nodes

    visit(program)
    carried = [d for d in dependences if d.distance and not d.barrier]
    begin = [_flag(True, d, d.before, slot) for d in carried for slot in range(d.distance)]
    end = [_flag(False, d, d.after, slot) for d in carried for slot in range(d.distance)]
    program.nodes[:] = [*begin, *program.nodes, *end]


def _flag(is_set: bool, dependence: Dependence, node: Node, slot: int | None = None) -> Flag:
    return Flag(is_set, dependence.source, dependence.target, dependence, slot, location=node.location)


def confine(program: Block, dependences: Sequence[Dependence]) -> None:
    """Lets dependences between iterations begin and end with their loop, rather than with the program: their first
    sets come before the loop, their last waits after it."""
    chosen: dict[int, list[Dependence]] = {}
    for dependence in dependences:
        chosen.setdefault(id(dependence.block), []).append(dependence)
    moved = {id(d) for d in dependences}

    def visit(block: Block) -> None:
        nodes: list[Node] = []
        for node in block.nodes:
            inside: list[Dependence] = []
            for inner in blocks_of(node):
                visit(inner)
                inside += chosen.get(id(inner), ())
            # Slot by slot, as the iterations go on, so that flags that count can be shared.
            turns = range(max((d.distance for d in inside), default=0))
            nodes += [_flag(True, d, d.before, slot) for slot in turns for d in inside if slot < d.distance]
            nodes.append(node)
            nodes += [_flag(False, d, d.after, slot) for slot in turns for d in inside if slot < d.distance]
        block.nodes[:] = nodes

    program.nodes[:] = [
        node
        for node in program.nodes
        if not (isinstance(node, Flag) and node.slot is not None and id(node.dependence) in moved)
    ]
    visit(program)


def chain(program: Block, dependences: Sequence[Dependence]) -> None:
    """Gives loops that are not in one another the same flags between their iterations, so that they need fewer events:
    what the last iteration of one loop set, the first one of the next loop waits for. Each of them begins set and leaves
    it set, so that one is all they need before the program and after it."""
    around = blocks_around(program)
    groups: dict[tuple[object, ...], list[list[Dependence]]] = {}
    for d in dependences:
        if d.distance and not d.barrier and not d.crosses:
            found = groups.setdefault((d.source, d.target, d.distance, d.counter), [])
            for group in found:
                if not any(id(d.block) in around[id(o.block)] or id(o.block) in around[id(d.block)] for o in group):
                    d.chained = group[0]
                    group.append(d)
                    break
            else:
                found.append([d])
    chained = {id(d) for d in dependences if d.chained is not None}
    program.nodes[:] = [
        node for node in program.nodes if not (isinstance(node, Flag) and id(node.dependence) in chained)
    ]


def blocks_around(program: Block) -> dict[int, set[int]]:
    """Of each block itself and those that it is in."""
    found: dict[int, set[int]] = {}

    def visit(block: Block, around: frozenset[int]) -> None:
        inside = around | {id(block)}
        found[id(block)] = set(inside)
        for node in block.nodes:
            for inner in blocks_of(node):
                visit(inner, inside)

    visit(program, frozenset())
    return found


def answer(program: Block, dependences: Sequence[Dependence]) -> list[Dependence]:
    """Adds a flag back for each of the dependences: their source pipe sets its event only after the wait before."""
    answers: dict[int, Dependence] = {}
    for d in dependences:
        # Of an event with several slots each has its own; a flag between cores may be a few sets ahead.
        distance = 0 if d.distance else AHEAD - 1 if d.crosses else d.events
        answers[id(d)] = Dependence(
            d.target, d.source, d.block, d.before, d.after, distance, None if d.crosses else d.loop
        )

    def visit(block: Block) -> None:
        nodes: list[Node] = []
        for node in block.nodes:
            for inner in blocks_of(node):
                visit(inner)
            back = answers.get(id(node.dependence)) if isinstance(node, Flag) and node.slot is None else None
            if back is not None and isinstance(node, Flag) and node.set:
                nodes.append(_flag(False, back, node))
            nodes.append(node)
            if back is not None and isinstance(node, Flag) and not node.set:
                nodes.append(_flag(True, back, node))
        block.nodes[:] = nodes

    visit(program)
    carried = [d for d in answers.values() if d.distance]
    program.nodes[:] = [
        *(_flag(True, d, d.before, slot) for d in carried for slot in range(d.distance)),
        *program.nodes,
        *(_flag(False, d, d.after, slot) for d in carried for slot in range(d.distance)),
    ]
    return list(answers.values())
